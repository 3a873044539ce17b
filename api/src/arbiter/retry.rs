//! When to try again what has failed: ever more rarely, as what is refused time and again (by an old resource
//! definition, by somebody's webhook) would otherwise cost a request a second for each object, for ever.

use std::time::Duration;

use super::Now;
use crate::{
    duration::doubling_pause,
    limits::{LONGEST_RETRY_AFTER, RETRY_AFTER},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Retry {
    at: Duration,
    /// Failures in a row.
    failures: u32,
}

impl Retry {
    /// Not to be tried before this time.
    pub(super) fn at(self) -> Duration {
        self.at
    }

    /// It has failed once more.
    pub(super) fn failed(&mut self, now: Now) {
        self.at = now.monotonic + doubling_pause(RETRY_AFTER, self.failures, LONGEST_RETRY_AFTER);
        self.failures = self.failures.saturating_add(1);
    }

    /// It is tried again after this pause, however often it has failed.
    pub(super) fn pause(&mut self, pause: Duration, now: Now) {
        self.at = now.monotonic + pause;
    }
}
