//! A watch that is opened again whenever it ends: how it has gone, and when it may be opened again.

use std::time::Duration;

use super::{Draw, WatchEnd, limits};
use crate::Boottime;

/// One watch after the other, of the same thing.
#[derive(Debug)]
pub(crate) struct Watching {
    /// Since when there is one, if there is one.
    since: Option<Boottime>,
    /// Watches in a row that ended soon and have shown nothing.
    failures: u32,
}

impl Watching {
    /// None is open.
    pub(crate) fn closed() -> Self {
        Self { since: None, failures: 0 }
    }

    /// One is being opened.
    pub(crate) fn opened(&mut self, now: Boottime) {
        self.since = Some(now);
    }

    /// Whether one is open, or being opened.
    pub(crate) fn is_open(&self) -> bool {
        self.since.is_some()
    }

    /// It has shown something.
    pub(crate) fn shows(&mut self) {
        self.failures = 0;
    }

    /// Whether it has lasted so long that the server had accepted it.
    pub(crate) fn has_worked(&self, now: Boottime) -> bool {
        self.since.is_some_and(|since| now.since(since) >= limits::WATCH_WORKED)
    }

    /// It has ended. Returns when the next one may be opened: at once if none.
    pub(crate) fn ended(&mut self, end: &WatchEnd, longest: Duration, now: Boottime, draw: Draw) -> Option<Boottime> {
        if self.has_worked(now) {
            self.failures = 0;
        }
        let hasty = self.failures > 0 || end.trouble().is_some();
        self.failures = self.failures.saturating_add(1);
        self.since = None;
        hasty.then(|| now + draw.pause(self.failures, longest))
    }

    /// What was to come before the next one has failed. Returns when to try again.
    pub(crate) fn delayed(&mut self, longest: Duration, now: Boottime, draw: Draw) -> Boottime {
        self.failures = self.failures.saturating_add(1);
        now + draw.pause(self.failures, longest)
    }
}

impl WatchEnd {
    /// What went wrong, if something did.
    pub(crate) fn trouble(&self) -> Option<&str> {
        match self {
            Self::Closed | Self::Outdated => None,
            Self::Refused(message) | Self::Failed(message) => Some(message),
        }
    }
}
