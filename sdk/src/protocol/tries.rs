//! Attempts in a row at the API server: when the next one may be made, and which refusal is to be believed.
//!
//! A refusal that is the first answer there is, by a server that says that it is ready, ends an attempt at once. After
//! an acceptance, or a server that did not answer or does not say that it is ready, it must have lasted for
//! [`limits::REFUSED_FOR`] without interruption: rules flap while API servers start. An
//! acceptance of the same request interrupts it, and so does any request that is not answered, whatever it asked for:
//! what is refused after that is refused by a server that may have started meanwhile. What lies between two refusals
//! counts for no more than [`limits::REFUSED_APART`], as nobody knows what was between them; so several in a row are
//! needed, and the pauses between them are no longer than that.

use std::{collections::BTreeMap, time::Duration};

use super::{Draw, Failure, WatchEnd, limits};
use crate::{AcquireError, Boottime};

/// The attempts of one protocol.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// Failures in a row, and when to go on after the last.
    failures: u32,
    retry_at: Option<Boottime>,
    /// When to go on at the earliest, as something else wants.
    wait_until: Option<Boottime>,
    /// Whether any request was ever accepted.
    accepted: bool,
    /// Whether any request was not answered, or not by a server that is ready, as happens when an API server starts.
    shaken: bool,
    /// The operations that are being refused.
    refused: BTreeMap<&'static str, Refused>,
}

/// A refusal that has not been interrupted.
#[derive(Debug)]
struct Refused {
    /// For how long it is known to have lasted, ...
    lasted: Duration,
    /// ... up to when it was heard last.
    heard: Boottime,
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
        self.retry_at.max(self.wait_until)
    }

    /// Nothing has failed: the next request can be made at once.
    pub(crate) fn at_once(&mut self) {
        self.failures = 0;
        self.go_on();
    }

    /// The next request can be made at once; what has failed still counts for those after it.
    pub(crate) fn go_on(&mut self) {
        (self.retry_at, self.wait_until) = (None, None);
    }

    /// Nothing has failed, and the next request is for later.
    pub(crate) fn not_before(&mut self, at: Boottime) {
        self.failures = 0;
        (self.retry_at, self.wait_until) = (Some(at), None);
    }

    /// The next request is not for before this time, however soon what has failed is tried again.
    pub(crate) fn wait_until(&mut self, at: Boottime) {
        self.wait_until = Some(at);
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
        let at = self.pause(self.longest(pauses.longest), now, draw);
        self.retry_at = Some(at.max(now + after.unwrap_or_default().min(pauses.obeyed)));
        message
    }

    /// Notes that the server has carried out `operation`.
    pub(crate) fn accepted(&mut self, operation: &'static str) {
        self.accepted = true;
        self.refused.remove(operation);
    }

    /// Notes that something was not answered: nothing that was refused before counts any more.
    pub(crate) fn unanswered(&mut self) {
        self.shaken = true;
        self.refused.clear();
    }

    /// What was refused no longer counts.
    pub(crate) fn forgive(&mut self) {
        self.refused.clear();
    }

    /// The longest pause before the next request, where `longest` would do otherwise: a refusal that is still doubted
    /// is asked after sooner.
    pub(crate) fn longest(&self, longest: Duration) -> Duration {
        if self.refused.is_empty() { longest } else { longest.min(limits::REFUSED_APART) }
    }

    /// Notes that `operation` has failed. Returns the refusal to believe, if it is to be believed.
    pub(crate) fn believed(
        &mut self,
        operation: &'static str,
        failure: &Failure,
        now: Boottime,
    ) -> Option<AcquireError> {
        let error = match failure {
            Failure::Unready(refusal) => {
                self.shaken = true;
                return self.believed(operation, refusal, now);
            }
            Failure::Refused(message) => AcquireError::Refused { operation, message: message.clone() },
            Failure::NotServed(message) => AcquireError::NotInstalled { operation, message: message.clone() },
            Failure::NoNamespace(message) => AcquireError::NoNamespace { operation, message: message.clone() },
            Failure::Terminating(message) => {
                return Some(AcquireError::Refused { operation, message: message.clone() });
            }
            // What has come as far as the quota is allowed.
            Failure::QuotaUsedUp(_) => {
                self.accepted(operation);
                return None;
            }
            Failure::Taken | Failure::Missing(_) | Failure::Conflict(_) => {
                self.refused.remove(operation);
                return None;
            }
            Failure::Transient { .. } => {
                self.unanswered();
                return None;
            }
        };
        let at_once = !self.accepted && !self.shaken;
        let refused = self.refused.entry(operation).or_insert(Refused { lasted: Duration::ZERO, heard: now });
        refused.lasted += now.since(refused.heard).min(limits::REFUSED_APART);
        refused.heard = now;
        (at_once || refused.lasted >= limits::REFUSED_FOR).then_some(error)
    }
}

impl Tries {
    /// Notes that a watch has ended, the operation `watch`, which `has_worked` or has ended soon. Returns the refusal to
    /// believe, if it is to be believed.
    pub(crate) fn watch_ended(
        &mut self,
        watch: &'static str,
        end: &WatchEnd,
        has_worked: bool,
        now: Boottime,
    ) -> Option<AcquireError> {
        if has_worked {
            self.accepted(watch);
        }
        match end {
            // Only what is open can be closed, and what is outdated was not refused.
            WatchEnd::Closed | WatchEnd::Outdated => self.accepted(watch),
            WatchEnd::Failed(_) => self.unanswered(),
            WatchEnd::Refused(message) => return self.believed(watch, &Failure::Refused(message.clone()), now),
        }
        None
    }
}

impl Failure {
    /// What went wrong, and when the server said to come back.
    pub(crate) fn into_parts(self) -> (String, Option<Duration>) {
        match self {
            Self::Unready(refusal) => refusal.into_parts(),
            Self::Taken => ("the name is taken".into(), None),
            Self::Missing(message)
            | Self::NotServed(message)
            | Self::NoNamespace(message)
            | Self::Terminating(message)
            | Self::Conflict(message)
            | Self::QuotaUsedUp(message)
            | Self::Refused(message) => (message, None),
            Self::Transient { message, retry_after } => (message, retry_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPERATIONS: [&str; 3] = ["read", "watch", "ask"];

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Heard {
        Accepted(usize),
        Refused(usize),
        Unanswered,
        WatchEnded(bool),
    }

    fn heard() -> impl Strategy<Value = Heard> {
        prop_oneof![
            1 => (0..3_usize).prop_map(Heard::Accepted),
            8 => (0..3_usize).prop_map(Heard::Refused),
            1 => Just(Heard::Unanswered),
            1 => any::<bool>().prop_map(Heard::WatchEnded),
        ]
    }

    fn refusal() -> Failure {
        Failure::Refused("forbidden".into())
    }

    fn no_answer() -> Failure {
        Failure::Transient { message: "no answer".into(), retry_after: None }
    }

    /// What `heard` is to this operation: a refusal, an interruption, or nothing.
    fn counts(heard: Heard, operation: usize) -> Option<bool> {
        match heard {
            Heard::Refused(one) if one == operation => Some(true),
            Heard::Accepted(one) if one == operation => Some(false),
            Heard::WatchEnded(true) | Heard::Unanswered => Some(false),
            Heard::WatchEnded(false) if OPERATIONS[operation] == "watch" => Some(false),
            _ => None,
        }
    }

    proptest! {
        /// However outages, acceptances and refusals of several requests follow upon each other: what is believed was
        /// refused at least four times in a row over at least ten seconds, with no outage and no acceptance between; and
        /// what is refused again and again, without those, is believed.
        #[test]
        fn what_is_believed_has_lasted_without_interruption(
            acts in prop::collection::vec((heard(), prop_oneof![0..3_000_u64, 0..60_000_u64]), 0..60),
        ) {
            let mut tries = Tries::default();
            tries.accepted("create");
            let (mut now, mut past) = (Boottime(Duration::from_secs(100)), Vec::new());
            for (what, pause) in acts {
                now = now + Duration::from_millis(pause);
                past.push((what, now));
                let believed = match what {
                    Heard::Accepted(one) => {
                        tries.accepted(OPERATIONS[one]);
                        None
                    }
                    Heard::Refused(one) => tries.believed(OPERATIONS[one], &refusal(), now),
                    Heard::Unanswered => tries.believed("renew", &no_answer(), now),
                    Heard::WatchEnded(failed) => {
                        let end = if failed { WatchEnd::Failed("reset".into()) } else { WatchEnd::Closed };
                        tries.watch_ended("watch", &end, false, now)
                    }
                };
                let Heard::Refused(one) = what else {
                    prop_assert!(believed.is_none());
                    continue;
                };
                let ours = past.iter().rev().filter_map(|(heard, at)| Some((counts(*heard, one)?, *at)));
                let row: Vec<_> = ours.take_while(|(refused, _)| *refused).map(|(_, at)| at).collect();
                let lasted = now.since(*row.last().expect("this one"));
                if believed.is_some() {
                    prop_assert!(row.len() >= 4 && lasted >= limits::REFUSED_FOR, "{row:?}");
                }
                let dense = row.windows(2).all(|pair| pair[0].since(pair[1]) <= limits::REFUSED_APART);
                if dense && lasted >= limits::REFUSED_FOR {
                    prop_assert!(believed.is_some(), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_that_is_doubted_is_asked_after_soon() {
        let (mut tries, now) = (Tries::default(), Boottime(Duration::from_secs(100)));
        let draw = Draw { id: 0, jitter: u32::MAX };
        for _ in 0..20 {
            assert!(tries.believed("read", &no_answer(), now).is_none());
            tries.failed(no_answer(), Pauses::PATIENT, now, draw);
        }
        let pause = |tries: &Tries| tries.retry_at().expect("a pause").since(now).as_secs_f64().round() as u64;
        assert_eq!(pause(&tries), limits::PAUSE.as_secs());
        assert!(tries.believed("read", &refusal(), now).is_none());
        tries.failed(refusal(), Pauses::PATIENT, now, draw);
        assert_eq!(pause(&tries), limits::REFUSED_APART.as_secs());
    }
}
