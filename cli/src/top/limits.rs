//! Every limit of the view has a name and a reason here.

use std::time::Duration;

/// Samples of a parent's use that are kept: as many as a sparkline in 80 columns shows twice over.
pub(crate) const SAMPLES: usize = 60;

/// A sample is taken this often: sixty of them are the last five minutes.
pub(crate) const SAMPLE: Duration = Duration::from_secs(5);

/// Ages on the screen are written anew this often.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// The screen is drawn at most this often, however much changes: as fast as people read.
pub(crate) const FRAME: Duration = Duration::from_millis(100);

/// Length of a filter: nobody types more.
pub(crate) const FILTER: usize = 60;

/// What has been done is told for this long.
pub(crate) const NOTICE: Duration = Duration::from_secs(10);

/// How long one watch lasts; the next one goes on where it ended. A connection that is silently dead looks like quiet,
/// and costs that long at most.
pub(crate) const WATCH_SECONDS: u32 = 60;

/// How much later than that the API server may end it.
pub(crate) const WATCH_SLACK: Duration = Duration::from_secs(10);

/// A watch that ends sooner was cut off: the next one waits a little.
pub(crate) const HASTY: Duration = Duration::from_secs(1);

/// The longest pause between two tries while the API server is away: who looks on sees it back soon.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pause after an answer that there is no right or no such resource: that changes when people change it, and an API
/// server that is asked all the same by everybody who looks on has other things to do.
pub(crate) const DENIED: Duration = Duration::from_mins(1);
