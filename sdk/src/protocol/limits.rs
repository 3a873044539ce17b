//! Every limit has a name and a reason here.

use std::time::Duration;

/// How long one request may take while nothing is held: longer than an API server under load needs, short enough that
/// a connection that went dead is noticed while a person looks on.
pub const REQUEST: Duration = Duration::from_secs(10);

/// Longest pause between two attempts while waiting: an API server that comes back is noticed within this, and ten
/// thousand waiters make less than a thousand requests a second meanwhile.
pub const PAUSE: Duration = Duration::from_secs(15);

/// Shortest pause, before its jitter.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between two attempts to renew, if a twelfth of the TTL is not shorter: several attempts must fit into
/// what is left of the TTL after the first has failed.
pub const RENEWAL_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause between two attempts to delete.
pub const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// How long to honour a server that says when to come back.
pub const RETRY_AFTER: Duration = Duration::from_mins(1);

/// How long deleting a claim that was held is tried. What it protected has ended by then, so giving up costs the
/// next holder a TTL at most, or nothing in a pod that ends; not giving up would keep that pod from ending.
pub const RELEASE_WITHIN: Duration = Duration::from_secs(10);

/// How long deleting a claim that was never held is tried: a pod that is told to end while it waits is gone within a
/// second, and a grant to a claim without a client is taken back soon.
pub const WITHDRAW_WITHIN: Duration = Duration::from_millis(800);

/// How long one attempt to delete may take, so that there are several within [`RELEASE_WITHIN`].
pub const RELEASE_REQUEST: Duration = Duration::from_secs(2);

/// A refusal (RBAC, admission) of a client that was accepted before, or by a server that was away before, is believed
/// once it has lasted this long: API servers refuse for a moment while they start and have not yet read their rules.
pub const REFUSED_FOR: Duration = Duration::from_secs(10);

/// The longest pause between two attempts while a refusal is doubted, and the most that the time between two refusals in
/// a row counts: at least four of them are needed, so one that was cut short by an outage is not taken for one that has
/// lasted. Ten thousand clients that doubt the same make five thousand requests a second, which are refused before they
/// cost much, for [`REFUSED_FOR`] and not for longer.
pub const REFUSED_APART: Duration = Duration::from_secs(3);

/// A watch that lasted this long has worked; one that ends sooner is tried again ever more slowly.
pub const WATCH_WORKED: Duration = Duration::from_secs(10);

/// Names tried for processes of one container that want the same lock, or for an arrival, before a random one is taken.
pub const SIBLINGS: u32 = 16;

/// What is kept of a lock's name in a claim's name, so that the rest fits into 253 characters.
pub const NAME_KEPT: usize = 200;

/// The part of a TTL that is given away for clocks that run at different speeds: a thousandth. `CLOCK_BOOTTIME` of this
/// node and the clock of the operator's are each within 500 parts per million of real time, the most by which the
/// kernel corrects a clock's rate.
pub const CLOCK_DIFFERENCE: u32 = 1000;
