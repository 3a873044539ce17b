//! Who leads: a coordination.k8s.io Lease, for liveness only.
//!
//! Two operators that both believe they lead would be slow, not wrong: grants are kept apart by terms
//! ([`konductor_api::arbiter`]). So this needs no more than to have, nearly always, exactly one leader.
//!
//! [`Candidate`] is the rule, without I/O or clock; [`driver`] reads and writes the lease.
//! No two machines' clocks are compared: a candidate waits until the lease has not changed for the lease's whole duration
//! by its own monotonic clock, and the leader steps down a third of the duration before anybody could get there.

pub mod driver;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::api::ObjectMeta;

/// The lease's name.
pub const NAME: &str = "konductor-operator";

/// What the candidate should do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before this time, unless something is observed.
    Wait(Duration),
    /// Create the lease.
    Create(Box<Lease>),
    /// Write the lease; it carries the version that it replaces.
    Replace(Box<Lease>),
}

#[derive(Clone, Debug)]
struct Sighting {
    /// `None`: there is no lease.
    lease: Option<Lease>,
    since: Duration,
}

/// One contender for the lease. Times are on its own monotonic clock.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    duration: Duration,
    seen: Option<Sighting>,
    /// When the last successful write was sent, while leading.
    renewed: Option<Duration>,
}

impl Candidate {
    /// A contender with this name; its leases last so long, in whole seconds.
    pub fn new(identity: String, duration: Duration) -> Self {
        Self { identity, duration, seen: None, renewed: None }
    }

    /// The lease was seen; `None` when there is none.
    pub fn observe(&mut self, lease: Option<Lease>, now: Duration) {
        let known = self.seen.as_ref().and_then(|sighting| version(sighting.lease.as_ref()));
        if let (Some(known), Some(seen)) = (known, version(lease.as_ref()))
            && seen <= known
        {
            return;
        }
        if lease.as_ref().and_then(holder) != Some(&self.identity) {
            self.renewed = None;
        }
        self.seen = Some(Sighting { lease, since: now });
    }

    /// A write that was sent at `sent` succeeded with this result.
    pub fn wrote(&mut self, lease: Lease, sent: Duration, now: Duration) {
        self.renewed = Some(sent);
        self.observe(Some(lease), now);
    }

    /// Until when it leads, if it leads: two thirds of the duration after the last successful write was sent.
    pub fn leads_until(&self) -> Option<Duration> {
        self.renewed.map(|renewed| renewed + self.duration * 2 / 3)
    }

    /// Steps down if the last successful write is too long ago.
    pub fn expire(&mut self, now: Duration) {
        if self.leads_until().is_some_and(|end| end <= now) {
            self.renewed = None;
        }
    }

    /// What to do.
    pub fn step(&self, now: Duration, wall: Timestamp) -> Step {
        let Some(Sighting { lease, since }) = &self.seen else { return Step::Wait(now + self.duration) };
        let Some(lease) = lease else { return Step::Create(Box::new(self.claim(&Lease::default(), wall))) };
        let due = match (holder(lease), self.renewed) {
            (None, _) => now,
            (Some(holder), Some(renewed)) if *holder == self.identity => renewed + self.duration / 3,
            // Its own, of an earlier life.
            (Some(holder), None) if *holder == self.identity => now,
            (Some(_), _) => *since + duration(lease).unwrap_or(self.duration),
        };
        if due > now { Step::Wait(due) } else { Step::Replace(Box::new(self.claim(lease, wall))) }
    }

    /// This lease given up, if it is this candidate's.
    pub fn released(&self, mut lease: Lease) -> Option<Lease> {
        if holder(&lease) != Some(&self.identity) {
            return None;
        }
        lease.spec.get_or_insert_default().holder_identity = None;
        Some(lease)
    }

    /// The lease with this candidate as its holder.
    fn claim(&self, before: &Lease, wall: Timestamp) -> Lease {
        let spec = before.spec.clone().unwrap_or_default();
        let renewal = holder(before) == Some(&self.identity);
        let transitions = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                resource_version: before.metadata.resource_version.clone(),
                uid: before.metadata.uid.clone(),
                labels: before.metadata.labels.clone(),
                annotations: before.metadata.annotations.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(self.duration.as_secs() as i32),
                acquire_time: if renewal { spec.acquire_time } else { Some(MicroTime(wall)) },
                renew_time: Some(MicroTime(wall)),
                lease_transitions: Some(if renewal { transitions } else { transitions.saturating_add(1) }),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

fn duration(lease: &Lease) -> Option<Duration> {
    let seconds = lease.spec.as_ref()?.lease_duration_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn version(lease: Option<&Lease>) -> Option<u64> {
    lease?.metadata.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn candidate() -> Candidate {
        Candidate::new("me".into(), 15 * SECOND)
    }

    fn lease(version: u64, holder: Option<&str>) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(Into::into),
                lease_duration_seconds: Some(10),
                lease_transitions: Some(3),
                ..LeaseSpec::default()
            }),
        }
    }

    fn is_mine(step: &Step) -> bool {
        let (Step::Create(lease) | Step::Replace(lease)) = step else { return false };
        holder(lease).is_some_and(|holder| holder == "me")
    }

    #[test]
    fn waits_until_it_has_looked() {
        assert_eq!(candidate().step(SECOND, Timestamp::UNIX_EPOCH), Step::Wait(16 * SECOND));
    }

    #[test]
    fn takes_what_nobody_holds_at_once() {
        for free in [None, Some(lease(1, None)), Some(lease(1, Some(""))), Some(lease(1, Some("me")))] {
            let mut candidate = candidate();
            candidate.observe(free.clone(), SECOND);
            assert!(is_mine(&candidate.step(SECOND, Timestamp::UNIX_EPOCH)), "{free:?}");
        }
    }

    #[test]
    fn waits_for_the_holders_whole_duration_by_its_own_clock() {
        let mut candidate = candidate();
        candidate.observe(Some(lease(1, Some("other"))), SECOND);
        assert_eq!(candidate.step(2 * SECOND, Timestamp::UNIX_EPOCH), Step::Wait(11 * SECOND));
        // The same version again is no sign of life, a renewal is.
        candidate.observe(Some(lease(1, Some("other"))), 5 * SECOND);
        assert_eq!(candidate.step(6 * SECOND, Timestamp::UNIX_EPOCH), Step::Wait(11 * SECOND));
        candidate.observe(Some(lease(2, Some("other"))), 7 * SECOND);
        assert_eq!(candidate.step(11 * SECOND, Timestamp::UNIX_EPOCH), Step::Wait(17 * SECOND));
        let Step::Replace(taken) = candidate.step(17 * SECOND, Timestamp::UNIX_EPOCH) else { panic!("not taken") };
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("2"));
        assert_eq!(taken.spec.and_then(|spec| spec.lease_transitions), Some(4));
    }

    #[test]
    fn leads_for_two_thirds_from_the_sending_of_its_last_write_and_renews_after_one() {
        let mut candidate = candidate();
        candidate.observe(None, SECOND);
        candidate.wrote(lease(1, Some("me")), 2 * SECOND, 4 * SECOND);
        assert_eq!(candidate.leads_until(), Some(12 * SECOND));
        assert_eq!(candidate.step(4 * SECOND, Timestamp::UNIX_EPOCH), Step::Wait(7 * SECOND));
        assert!(is_mine(&candidate.step(7 * SECOND, Timestamp::UNIX_EPOCH)));
    }

    #[test]
    fn stops_leading_when_the_lease_is_anothers_or_gone() {
        for lost in [None, Some(lease(2, Some("other"))), Some(lease(2, None))] {
            let mut candidate = candidate();
            candidate.wrote(lease(1, Some("me")), SECOND, SECOND);
            candidate.observe(lost.clone(), 2 * SECOND);
            assert_eq!(candidate.leads_until(), None, "{lost:?}");
        }
    }

    #[test]
    fn an_older_sighting_changes_nothing() {
        let mut candidate = candidate();
        candidate.wrote(lease(5, Some("me")), SECOND, SECOND);
        candidate.observe(Some(lease(4, Some("other"))), 2 * SECOND);
        assert_eq!(candidate.leads_until(), Some(11 * SECOND));
    }

    #[test]
    fn gives_up_only_its_own() {
        let candidate = candidate();
        assert_eq!(candidate.released(lease(1, Some("other"))), None);
        assert_eq!(candidate.released(lease(1, None)), None);
        let released = candidate.released(lease(1, Some("me"))).expect("it is its own");
        assert_eq!((holder(&released), released.metadata.resource_version.as_deref()), (None, Some("1")));
    }
}
