//! When the steps of an acquisition were taken, for whoever looks where its time goes (`bench/trace`).
//!
//! Moments are kept in memory, and said together when nothing is waited for any more: a line of the log for each would
//! take longer than some of the steps. While nobody asks for them, which is without the level DEBUG, a step costs one
//! comparison. All processes of a machine have the same clock, so their moments can be put together.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::clock::Boottime;

/// Moments that are kept: a few times as many as one acquisition has. Of more, these are the latest.
const KEPT: usize = 64;

/// What a line begins with.
const BEGIN: &str = "moments, in ns since boot:";

/// A step, and when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The step.
    pub step: String,
    /// When it was taken.
    pub at: Boottime,
}

type Kept = VecDeque<(&'static str, Boottime)>;

static NOTED: Mutex<Kept> = Mutex::new(VecDeque::new());

fn noted() -> MutexGuard<'static, Kept> {
    // Nothing in here leaves it half changed.
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that this step is taken now.
pub fn note(step: &'static str) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        keep(&mut noted(), step, Boottime::now());
    }
}

/// Says what was noted since the last time.
pub fn tell() {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let kept = std::mem::take(&mut *noted());
        if !kept.is_empty() {
            tracing::debug!("{}", Line(&kept));
        }
    }
}

#[cold]
fn keep(kept: &mut Kept, step: &'static str, at: Boottime) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back((step, at));
}

struct Line<'a>(&'a Kept);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BEGIN)?;
        for (number, (step, at)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char(',')?;
            }
            write!(f, " {step} {}", at.0.as_nanos())?;
        }
        Ok(())
    }
}

/// The moments that a log tells of, in the order in which it does.
pub fn read(log: &str) -> Vec<Moment> {
    let moment = |text: &str| {
        let (step, at) = text.trim().rsplit_once(' ')?;
        let at = std::time::Duration::from_nanos(at.parse().ok()?);
        Some(Moment { step: step.to_owned(), at: Boottime(at) })
    };
    let told = log.lines().filter_map(|line| line.split_once(BEGIN));
    told.flat_map(|(_, moments)| moments.split(',')).filter_map(moment).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_told_can_be_read_and_is_the_latest() {
        let mut kept = Kept::new();
        for at in 0..=KEPT as u64 {
            keep(&mut kept, if at == 0 { "too early" } else { "create sent" }, Boottime(Duration::from_nanos(at)));
        }
        let log = format!("konductor-run: holding\nkonductor-run: debug: {}\nkonductor-run: done\n", Line(&kept));
        let moments = read(&log);
        let at = |number| Boottime(Duration::from_nanos(number));
        let expected = |number| Moment { step: "create sent".to_owned(), at: at(number) };
        assert_eq!((moments.len(), moments.first(), moments.last()), (KEPT, Some(&expected(1)), Some(&expected(64))));
    }

    #[test]
    fn nothing_is_kept_while_nobody_asks() {
        // No other test of this program has a log.
        note("a step");
        assert_eq!(noted().len(), 0);
    }
}
