//! Attempts in a row at the API server: when the next one may be made, and which refusal is to be believed.
//!
//! A refusal that is the first answer there is ends an attempt at once. After an acceptance, or a server that did not
//! answer, it must have lasted for [`limits::REFUSED_FOR`]: rules flap while API servers start.

use std::time::Duration;

use super::{Draw, Failure, limits};
use crate::{AcquireError, Boottime};

/// The attempts of one protocol.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// Failures in a row, and when to go on after the last.
    failures: u32,
    retry_at: Option<Boottime>,
    /// Whether any request was ever accepted.
    accepted: bool,
    /// Whether any request was not answered, as happens when an API server starts.
    shaken: bool,
    /// The operation that is being refused, and since when.
    refused: Option<(&'static str, Boottime)>,
}

/// How long to pause between attempts.
#[derive(Clone, Copy)]
pub(crate) struct Pauses {
    /// The most of our own accord.
    pub(crate) longest: Duration,
    /// The most that a server may ask for.
    pub(crate) obeyed: Duration,
}

impl Pauses {
    /// While nothing is at stake but time.
    pub(crate) const PATIENT: Self = Self { longest: limits::PAUSE, obeyed: limits::RETRY_AFTER };
    /// While a claim is being deleted.
    pub(crate) const RELEASING: Self = Self { longest: limits::RELEASE_PAUSE, obeyed: limits::RELEASE_PAUSE };
}

impl Tries {
    /// When the next request can be made, if not now.
    pub(crate) fn retry_at(&self) -> Option<Boottime> {
        self.retry_at
    }

    /// Nothing has failed: the next request can be made at once.
    pub(crate) fn at_once(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// The next request can be made at once; what has failed still counts for those after it.
    pub(crate) fn go_on(&mut self) {
        self.retry_at = None;
    }

    /// Nothing has failed, and the next request is for later.
    pub(crate) fn not_before(&mut self, at: Boottime) {
        self.failures = 0;
        self.retry_at = Some(at);
    }

    /// Pauses before the next request, for `longest` at most.
    pub(crate) fn pause(&mut self, longest: Duration, now: Boottime, draw: Draw) -> Boottime {
        self.failures = self.failures.saturating_add(1);
        let at = now + draw.pause(self.failures, longest);
        self.retry_at = Some(at);
        at
    }

    /// Pauses as long as `pauses` and the server want. Returns what went wrong, for people.
    pub(crate) fn failed(&mut self, failure: Failure, pauses: Pauses, now: Boottime, draw: Draw) -> String {
        let (message, after) = failure.into_parts();
        let at = self.pause(pauses.longest, now, draw);
        self.retry_at = Some(at.max(now + after.unwrap_or_default().min(pauses.obeyed)));
        message
    }

    /// Notes a success of `operation`.
    pub(crate) fn succeeded(&mut self, operation: &'static str) {
        self.accepted = true;
        if self.refused.is_some_and(|(refused, _)| refused == operation) {
            self.refused = None;
        }
    }

    /// What was refused no longer counts.
    pub(crate) fn forgive(&mut self) {
        self.refused = None;
    }

    /// The refusal to believe, if it is to be believed.
    pub(crate) fn believed(
        &mut self,
        operation: &'static str,
        failure: &Failure,
        now: Boottime,
    ) -> Option<AcquireError> {
        let error = match failure {
            Failure::Refused(message) => AcquireError::Refused { operation, message: message.clone() },
            Failure::NotServed(message) => AcquireError::NotInstalled { operation, message: message.clone() },
            Failure::NoNamespace(message) => AcquireError::NoNamespace { operation, message: message.clone() },
            Failure::Taken | Failure::Missing(_) | Failure::Conflict(_) => return None,
            Failure::Transient { .. } => {
                self.shaken = true;
                return None;
            }
        };
        let (_, since) = *self.refused.get_or_insert((operation, now));
        let at_once = !self.accepted && !self.shaken;
        (at_once || now.since(since) >= limits::REFUSED_FOR).then_some(error)
    }
}

impl Failure {
    /// What went wrong, and when the server said to come back.
    pub(crate) fn into_parts(self) -> (String, Option<Duration>) {
        match self {
            Self::Taken => ("the name is taken".into(), None),
            Self::Missing(message)
            | Self::NotServed(message)
            | Self::NoNamespace(message)
            | Self::Conflict(message)
            | Self::Refused(message) => (message, None),
            Self::Transient { message, retry_after } => (message, retry_after),
        }
    }
}
