//! The process's clocks. Everything else takes the time as an argument.

use std::time::Duration;

use jiff::Timestamp;
use konductor_api::arbiter::Now;
use konductor_cluster::{process, server_time};
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Counts from the start of the process. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start. It does not count a machine's suspension, so whatever waits for it waits longer, never
    /// shorter.
    pub fn monotonic(self) -> Duration {
        process::elapsed(self.start)
    }

    /// How long this thread has had a processor. What it does while it waits for one is nothing. A simulated process takes
    /// no time.
    pub fn processor(self) -> Duration {
        if process::is_simulated() {
            return Duration::ZERO;
        }
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
    }

    /// Both times.
    pub fn now(self) -> Now {
        Now { monotonic: self.monotonic(), wall: wall() }
    }

    /// The moment that is `monotonic` after the start, for timers.
    pub fn instant(self, monotonic: Duration) -> Instant {
        process::after(self.start, monotonic)
    }
}

/// The wall clock, for people to read: the API server's, as far as it is known.
pub fn wall() -> Timestamp {
    server_time::wall()
}
