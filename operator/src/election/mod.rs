//! Who leads: a coordination.k8s.io Lease, for liveness only.
//!
//! Two operators that both believe they lead would be slow, not wrong: grants are kept apart by terms
//! ([`konductor_api::arbiter`]). So this needs no more than to have, nearly always, exactly one leader.
//!
//! [`Candidate`] is the rule, without I/O or clock; [`driver`] reads and writes the lease, of which [`record`] is what
//! counts. No two machines' clocks are compared: a candidate waits until the lease has not changed for the lease's
//! whole duration by its own monotonic clock, and the leader steps down a third of the duration before anybody could
//! get there.
//!
//! A holder whose name says which pod it is ([`Pod`]) is not waited for when that pod does not exist any more, which is
//! looked at when the holder is first seen, and when it has missed a renewal. So who was killed with its pod, or could
//! not give the lease back because an uninstall had taken its rights away first, keeps nobody waiting for long.
//!
//! Between two writes there is a pause, whatever became of the first, so no state of the API server makes a candidate
//! spin.
//!
//! The lease's versions order what is seen of it, so that a watch that is late takes nothing back. They go back only
//! when the API server's store was restored from a backup. A watch cannot tell that from being late; a read that
//! follows upon a write can, and is believed. Whoever led by the lost version stands again.

pub mod driver;
pub mod record;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use konductor_cluster::backoff::jittered;
use serde_json::Value;

use self::record::Record;

/// The lease's name.
pub const NAME: &str = "konductor-operator";

/// Longest lease: a dead leader keeps everybody waiting for that long. A lease that says more is not waited for longer.
pub const LONGEST: Duration = Duration::from_mins(10);

/// The longest pause between two writes; a short lease makes it shorter, so that the leader has time for several.
const PAUSE: Duration = Duration::from_secs(2);

/// A holder's pod is looked at when it was silent for this part of the lease's duration, as (numerator, denominator):
/// it renews after each third.
const MISSED: (u32, u32) = (5, 12);

/// What the candidate should do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before this time, unless something is observed.
    Wait(Duration),
    /// Look whether the holder's pod exists.
    Look(Pod),
    /// Write the lease.
    Write(Write),
}

/// The pod that a candidate is, as its name in the election says: the pod's name, `_`, and its UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The pod's name.
    pub name: String,
    /// Its UID: another pod may get the same name.
    pub uid: String,
}

impl Pod {
    /// No name of a pod has the separator in it, nor has one that this program makes up.
    fn of(holder: &str) -> Option<Self> {
        let (name, uid) = holder.split_once('_')?;
        (!name.is_empty() && !uid.is_empty()).then(|| Self { name: name.into(), uid: uid.into() })
    }
}

/// A write that makes the lease the candidate's.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Creates this lease.
    Create(Value),
    /// Changes the lease by this merge patch, which names the version that it changes.
    Patch(Value),
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It took effect, and this is the lease now.
    Written(Record),
    /// It did not, as the lease is not what it was taken for. This is what a consistent read shows that was sent
    /// afterwards.
    Overtaken(Option<Record>),
    /// It failed, or it is not known what became of it.
    Failed,
}

/// The lease's version went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// The version that was known.
    pub from: u64,
    /// The version that it has.
    pub to: u64,
}

impl fmt::Display for WentBack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(
            formatter,
            "its version went back from {from} to {to}: the API server's store was restored from a backup"
        )
    }
}

#[derive(Clone, Debug)]
struct Sighting {
    /// `None`: there is no lease.
    lease: Option<Record>,
    since: Duration,
}

impl Sighting {
    fn version(&self) -> Option<u64> {
        self.lease.as_ref()?.version()
    }

    fn is_held(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.holder().is_some())
    }
}

/// One contender for the lease. Times are on its own monotonic clock.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    duration: Duration,
    seen: Option<Sighting>,
    /// When the last successful write was sent, while leading.
    renewed: Option<Duration>,
    /// Nothing is written before this time.
    rests_until: Duration,
    /// When this holder's pod was last looked at, and whether it was gone.
    looked: Option<(String, Duration, bool)>,
}

impl Candidate {
    /// A contender with this name; its leases last so long, in whole seconds.
    pub fn new(identity: String, duration: Duration) -> Self {
        Self { identity, duration, seen: None, renewed: None, rests_until: Duration::ZERO, looked: None }
    }

    /// A watch or list shows the lease; `None` when there is none.
    pub fn observe(&mut self, lease: Option<Record>, now: Duration) {
        let known = self.seen.as_ref().and_then(Sighting::version);
        if let (Some(known), Some(seen)) = (known, lease.as_ref().and_then(Record::version))
            && seen <= known
        {
            return;
        }
        self.believe(lease, now);
    }

    /// A watch shows that the lease with this UID was deleted.
    pub fn observe_deletion(&mut self, uid: &str, now: Duration) {
        let lease = self.seen.as_ref().and_then(|sighting| sighting.lease.as_ref());
        if lease.is_some_and(|lease| lease.uid() == Some(uid)) {
            self.believe(None, now);
        }
    }

    /// A write that was sent at `sent` has come to this, at `now`; `random` spreads the pause before the next one.
    /// Tells if the lease's version went back.
    pub fn answered(&mut self, outcome: Outcome, sent: Duration, now: Duration, random: u32) -> Option<WentBack> {
        let pause = jittered(PAUSE.min(self.duration / 10), random);
        match outcome {
            Outcome::Written(lease) => {
                self.rests_until = sent + pause;
                self.observe(Some(lease), now);
                // Unless the watch was first, and has shown what came after it.
                if self.holds() {
                    self.renewed = Some(sent);
                }
                None
            }
            Outcome::Overtaken(lease) => {
                self.rests_until = now + pause;
                let versions =
                    self.seen.as_ref().and_then(Sighting::version).zip(lease.as_ref().and_then(Record::version));
                let back = versions.and_then(|(from, to)| (to < from).then_some(WentBack { from, to }));
                if back.is_some() {
                    self.renewed = None;
                }
                // The same again is no sign of life.
                if self.seen.as_ref().is_none_or(|sighting| sighting.lease != lease) {
                    self.believe(lease, now);
                }
                back
            }
            Outcome::Failed => {
                self.rests_until = now + pause;
                // Who is not answered cannot see another one renew, nor can that one: it is waited for anew. So who led
                // before an outage leads after it.
                if !self.holds()
                    && let Some(sighting) = self.seen.as_mut().filter(|sighting| sighting.is_held())
                {
                    sighting.since = now;
                }
                None
            }
        }
    }

    fn believe(&mut self, lease: Option<Record>, now: Duration) {
        self.seen = Some(Sighting { lease, since: now });
        if !self.holds() {
            self.renewed = None;
        }
    }

    /// The holder's pod was looked at, as [`Step::Look`] says, and was `gone` or not, as far as is known.
    pub fn looked(&mut self, gone: bool, now: Duration) {
        self.looked = self.holder().map(|holder| (holder.to_owned(), now, gone));
    }

    /// Whether the lease is its own, by what was seen last.
    fn holds(&self) -> bool {
        self.holder() == Some(&self.identity)
    }

    fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.lease.as_ref()?.holder()
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
        let due = match (lease.as_ref().and_then(Record::holder), self.renewed) {
            (None, _) => now,
            (Some(holder), Some(renewed)) if *holder == self.identity => renewed + self.duration / 3,
            // Its own, of an earlier life.
            (Some(holder), None) if *holder == self.identity => now,
            (Some(holder), _) => {
                let duration = lease.as_ref().and_then(Record::duration).unwrap_or(self.duration).min(LONGEST);
                match self.look(holder, *since, duration) {
                    Look::Gone => now,
                    Look::At(at, pod) if at <= now => return Step::Look(pod),
                    Look::At(at, _) => at.min(*since + duration),
                    Look::Never => *since + duration,
                }
            }
        };
        let due = due.max(self.rests_until);
        match lease {
            _ if due > now => Step::Wait(due),
            None => Step::Write(Write::Create(record::created(&self.identity, self.duration, wall))),
            Some(lease) => Step::Write(Write::Patch(lease.claimed(&self.identity, self.duration, wall))),
        }
    }

    /// When to look at the pod of this holder, another one, who was last heard of at `since`.
    fn look(&self, holder: &str, since: Duration, duration: Duration) -> Look {
        let Some(pod) = Pod::of(holder) else { return Look::Never };
        match &self.looked {
            Some((looked, _, true)) if looked == holder => Look::Gone,
            Some((looked, at, false)) if looked == holder => {
                let (part, whole) = MISSED;
                Look::At((since + duration * part / whole).max(*at + PAUSE.min(self.duration / 10)), pod)
            }
            _ => Look::At(since, pod),
        }
    }

    /// What gives this lease up, as a merge patch, if it is this candidate's.
    pub fn release(&self, lease: &Record) -> Option<Value> {
        (lease.holder() == Some(&self.identity)).then(|| lease.released())
    }
}

/// Whether a holder's pod is to be looked at.
enum Look {
    /// It is known to be gone.
    Gone,
    /// At this time.
    At(Duration, Pod),
    /// It is not known to be a pod.
    Never,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn candidate() -> Candidate {
        Candidate::new("me".into(), 15 * SECOND)
    }

    fn read(text: &Value) -> Record {
        record::LeaseObject::read(&text.to_string()).expect("an object").expect("a lease").into()
    }

    fn lease(version: u64, holder: Option<&str>) -> Record {
        let text = json!({
            "metadata": { "name": NAME, "uid": "u", "resourceVersion": version.to_string() },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 10, "leaseTransitions": 3 },
        });
        read(&text)
    }

    /// One that has seen this lease at this time.
    fn having_seen(lease: Option<Record>, at: Duration) -> Candidate {
        let mut candidate = candidate();
        candidate.observe(lease, at);
        candidate
    }

    /// The leader by version `version`, written at this time.
    fn leader(version: u64, at: Duration) -> Candidate {
        let mut candidate = having_seen(None, at);
        assert_eq!(candidate.answered(Outcome::Written(lease(version, Some("me"))), at, at, 0), None);
        assert!(candidate.leads_until().is_some());
        candidate
    }

    fn step(candidate: &Candidate, now: Duration) -> Step {
        candidate.step(now, Timestamp::UNIX_EPOCH)
    }

    /// The holder by what it writes now, and the version that it changes; `None` if it writes nothing.
    fn written(step: &Step) -> Option<(&str, Option<&str>)> {
        let Step::Write(Write::Create(body) | Write::Patch(body)) = step else { return None };
        Some((body["spec"]["holderIdentity"].as_str()?, body["metadata"]["resourceVersion"].as_str()))
    }

    #[test]
    fn waits_until_it_has_looked() {
        assert_eq!(step(&candidate(), SECOND), Step::Wait(16 * SECOND));
    }

    #[test]
    fn takes_what_nobody_holds_at_once() {
        for (free, version) in [
            (None, None),
            (Some(lease(1, None)), Some("1")),
            (Some(lease(1, Some(""))), Some("1")),
            (Some(lease(1, Some("me"))), Some("1")),
        ] {
            let candidate = having_seen(free.clone(), SECOND);
            assert_eq!(written(&step(&candidate, SECOND)), Some(("me", version)), "{free:?}");
        }
    }

    #[test]
    fn waits_for_the_holders_whole_duration_by_its_own_clock() {
        let mut candidate = having_seen(Some(lease(1, Some("other"))), SECOND);
        assert_eq!(step(&candidate, 2 * SECOND), Step::Wait(11 * SECOND));
        // The same version again is no sign of life, a renewal is.
        candidate.observe(Some(lease(1, Some("other"))), 5 * SECOND);
        assert_eq!(step(&candidate, 6 * SECOND), Step::Wait(11 * SECOND));
        candidate.observe(Some(lease(2, Some("other"))), 7 * SECOND);
        assert_eq!(step(&candidate, 11 * SECOND), Step::Wait(17 * SECOND));
        let Step::Write(Write::Patch(taken)) = step(&candidate, 17 * SECOND) else { panic!("not taken") };
        assert_eq!(taken["metadata"]["resourceVersion"], "2");
        assert_eq!(taken["spec"]["leaseTransitions"], 4);
    }

    #[test]
    fn a_holder_whose_pod_is_gone_is_not_waited_for() {
        let pod = || Step::Look(Pod { name: "operator-a".into(), uid: "u-1".into() });
        let mut candidate = having_seen(Some(lease(1, Some("operator-a_u-1"))), SECOND);
        assert_eq!(step(&candidate, SECOND), pod());
        candidate.looked(false, SECOND);
        // While it renews, nobody looks again.
        assert_eq!(step(&candidate, SECOND), Step::Wait(SECOND + 10 * SECOND * 5 / 12));
        candidate.observe(Some(lease(2, Some("operator-a_u-1"))), 4 * SECOND);
        let missed = 4 * SECOND + 10 * SECOND * 5 / 12;
        assert_eq!(step(&candidate, 5 * SECOND), Step::Wait(missed));
        assert_eq!(step(&candidate, missed), pod());
        candidate.looked(false, missed);
        // Not again and again without a pause, and not for longer than it is waited for.
        let next = missed + Duration::from_millis(1500);
        assert_eq!(step(&candidate, missed), Step::Wait(next));
        assert_eq!(step(&candidate, next), pod());
        candidate.looked(true, next);
        assert_eq!(written(&step(&candidate, next)), Some(("me", Some("2"))));
        // What was found of one says nothing of the next.
        candidate.observe(Some(lease(3, Some("operator-b_u-2"))), next);
        assert_eq!(step(&candidate, next), Step::Look(Pod { name: "operator-b".into(), uid: "u-2".into() }));
    }

    #[test]
    fn only_who_says_that_it_is_a_pod_is_looked_at() {
        for holder in ["host-1a2b3c4d", "other", "_", "a_", "_a"] {
            let candidate = having_seen(Some(lease(1, Some(holder))), SECOND);
            assert_eq!(step(&candidate, SECOND), Step::Wait(11 * SECOND), "{holder}");
        }
    }

    #[test]
    fn who_is_not_answered_waits_for_the_holder_anew() {
        let mut candidate = having_seen(Some(lease(1, Some("other"))), SECOND);
        candidate.answered(Outcome::Failed, 11 * SECOND, 16 * SECOND, 0);
        assert_eq!(step(&candidate, 18 * SECOND), Step::Wait(26 * SECOND));
        // The holder that was not answered either takes up what it had at once.
        let mut holder = leader(1, SECOND);
        holder.expire(60 * SECOND);
        holder.answered(Outcome::Failed, 60 * SECOND, 61 * SECOND, 0);
        assert_eq!(written(&step(&holder, 63 * SECOND)), Some(("me", Some("1"))));
        // Nor is what nobody holds waited for.
        let mut free = having_seen(Some(lease(1, None)), SECOND);
        free.answered(Outcome::Failed, SECOND, 2 * SECOND, 0);
        assert_eq!(written(&step(&free, 4 * SECOND)), Some(("me", Some("1"))));
    }

    #[test]
    fn waits_no_longer_than_any_lease_lasts() {
        let text = json!({
            "metadata": { "name": NAME, "resourceVersion": "1" },
            "spec": { "holderIdentity": "other", "leaseDurationSeconds": i32::MAX },
        });
        let candidate = having_seen(Some(read(&text)), SECOND);
        assert_eq!(step(&candidate, SECOND), Step::Wait(SECOND + LONGEST));
    }

    #[test]
    fn leads_for_two_thirds_from_the_sending_of_its_last_write_and_renews_after_one() {
        let mut candidate = having_seen(None, SECOND);
        candidate.answered(Outcome::Written(lease(1, Some("me"))), 2 * SECOND, 4 * SECOND, 0);
        assert_eq!(candidate.leads_until(), Some(12 * SECOND));
        assert_eq!(step(&candidate, 4 * SECOND), Step::Wait(7 * SECOND));
        assert_eq!(written(&step(&candidate, 7 * SECOND)), Some(("me", Some("1"))));
        candidate.expire(11 * SECOND);
        assert!(candidate.leads_until().is_some());
        candidate.expire(12 * SECOND);
        assert_eq!(candidate.leads_until(), None);
    }

    #[test]
    fn stops_leading_when_the_lease_is_anothers_or_gone() {
        for lost in [None, Some(lease(2, Some("other"))), Some(lease(2, None))] {
            let mut candidate = leader(1, SECOND);
            candidate.observe(lost.clone(), 2 * SECOND);
            assert_eq!(candidate.leads_until(), None, "{lost:?}");
        }
    }

    #[test]
    fn stops_leading_when_its_lease_is_deleted_but_not_when_an_earlier_one_was() {
        let mut candidate = leader(1, SECOND);
        candidate.observe_deletion("of-an-earlier-one", 2 * SECOND);
        assert!(candidate.leads_until().is_some());
        candidate.observe_deletion("u", 2 * SECOND);
        assert_eq!(candidate.leads_until(), None);
        assert_eq!(written(&step(&candidate, 3 * SECOND)), Some(("me", None)));
    }

    #[test]
    fn an_older_sighting_changes_nothing() {
        let mut candidate = leader(5, SECOND);
        candidate.observe(Some(lease(4, Some("other"))), 2 * SECOND);
        assert_eq!(candidate.leads_until(), Some(11 * SECOND));
    }

    #[test]
    fn a_write_that_another_ones_is_seen_to_have_followed_makes_no_leader() {
        let mut candidate = having_seen(Some(lease(1, None)), SECOND);
        // The watch was faster than the answer.
        candidate.observe(Some(lease(3, Some("other"))), 2 * SECOND);
        candidate.answered(Outcome::Written(lease(2, Some("me"))), SECOND, 2 * SECOND, 0);
        assert_eq!(candidate.leads_until(), None);
        assert_eq!(step(&candidate, 3 * SECOND), Step::Wait(12 * SECOND));
    }

    #[test]
    fn between_two_writes_there_is_a_pause_whatever_became_of_the_first() {
        let outcomes = [
            Outcome::Failed,
            Outcome::Overtaken(None),
            Outcome::Overtaken(Some(lease(1, None))),
            Outcome::Overtaken(Some(lease(7, None))),
            Outcome::Overtaken(Some(lease(7, Some("me")))),
            Outcome::Written(lease(7, Some("me"))),
        ];
        for outcome in outcomes {
            // Chance makes it shorter by half at most.
            for (random, pause) in [(0, 750), (u32::MAX, 1500)] {
                let mut candidate = having_seen(Some(lease(5, None)), SECOND);
                let own = matches!(outcome, Outcome::Written(_));
                candidate.answered(outcome.clone(), SECOND, SECOND, random);
                if own {
                    // Somebody takes it away at once: writing at the rate of others' writes would be spinning, too.
                    candidate.observe(Some(lease(8, None)), SECOND);
                }
                let end = SECOND + Duration::from_millis(pause);
                assert_eq!(step(&candidate, SECOND), Step::Wait(end), "{outcome:?}");
                assert!(written(&step(&candidate, end)).is_some(), "{outcome:?}");
            }
        }
    }

    #[test]
    fn a_leader_whose_lease_went_back_steps_down_says_so_once_and_stands_again() {
        let mut candidate = leader(1000, SECOND);
        // Its own, of before the backup: it leads by what is lost.
        let back = candidate.answered(Outcome::Overtaken(Some(lease(500, Some("me")))), 6 * SECOND, 6 * SECOND, 0);
        assert_eq!(back, Some(WentBack { from: 1000, to: 500 }));
        assert_eq!(candidate.leads_until(), None);
        assert_eq!(written(&step(&candidate, 8 * SECOND)), Some(("me", Some("500"))));
        assert_eq!(candidate.answered(Outcome::Written(lease(501, Some("me"))), 8 * SECOND, 8 * SECOND, 0), None);
        assert_eq!(candidate.leads_until(), Some(18 * SECOND));
    }

    #[test]
    fn a_standby_believes_the_lease_that_went_back_and_waits_for_its_holder_anew() {
        let mut candidate = having_seen(Some(lease(1000, Some("other"))), SECOND);
        candidate.observe(Some(lease(500, Some("other"))), 2 * SECOND);
        // It could be a list that is late, so it counts for nothing, until a write shows that it is not.
        assert_eq!(written(&step(&candidate, 11 * SECOND)), Some(("me", Some("1000"))));
        let found = || Outcome::Overtaken(Some(lease(500, Some("other"))));
        assert!(candidate.answered(found(), 11 * SECOND, 11 * SECOND, 0).is_some());
        assert_eq!(step(&candidate, 13 * SECOND), Step::Wait(21 * SECOND));
        assert_eq!(written(&step(&candidate, 21 * SECOND)), Some(("me", Some("500"))));
        assert_eq!(candidate.answered(found(), 21 * SECOND, 21 * SECOND, 0), None);
    }

    #[test]
    fn gives_up_only_its_own() {
        let candidate = candidate();
        assert_eq!(candidate.release(&lease(1, Some("other"))), None);
        assert_eq!(candidate.release(&lease(1, None)), None);
        let released = candidate.release(&lease(1, Some("me"))).expect("it is its own");
        assert_eq!(released, json!({ "metadata": { "resourceVersion": "1" }, "spec": { "holderIdentity": null } }));
    }
}
