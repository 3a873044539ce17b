//! Nothing that an API server could show, in any order and however absurd, makes a decision panic or never come to
//! rest.

use std::time::Duration;

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, Lock, PodReference, Queueing, Semaphore,
    arbiter::{
        Claim, ClaimState, Now, Outcome, Parent, ParentState, ParentSummary, Plan, PodSight, Unread, View, Write,
        decide,
    },
    limits::MAX_TERM,
};
use proptest::{prelude::*, test_runner::RngAlgorithm};

#[derive(Clone, Debug)]
enum Step {
    Parent(Parent),
    ParentGone(String),
    Claim(Claim),
    Unreadable(Unread),
    ClaimGone(String),
    Died(String),
    Looked(String, PodSight),
    Lead,
    StandDown,
    Page(u64, Vec<Claim>),
    Listed(u64),
    ListFailed,
    Decide,
    Acknowledge { write: usize, parent: Parent, claim: Claim },
    Fail { write: usize, unknown: bool },
    Pass(Duration),
    Wall(Timestamp),
}

fn uid() -> impl Strategy<Value = String> {
    (0..4_u8).prop_map(|number| format!("uid-{number}"))
}

fn term() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..6_u64, 990..1010_u64, Just(MAX_TERM)]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(Timestamp::MIN), Just(Timestamp::UNIX_EPOCH), Just(Timestamp::MAX)]
}

fn duration() -> impl Strategy<Value = Duration> {
    let seconds = (0..40_u64).prop_map(Duration::from_secs);
    prop_oneof![2 => seconds, 1 => Just(Duration::from_nanos(u64::MAX)), 1 => Just(Duration::MAX)]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..20_u64, Just(u64::MAX)]
}

fn parent() -> impl Strategy<Value = Parent> {
    let spec = (prop_oneof![0..4_u64, Just(u64::from(u32::MAX))], duration(), any::<bool>());
    let state = (term(), term(), number(), number());
    let created = prop_oneof![0..3_u64, Just(1000), Just(u64::MAX)];
    (uid(), 0..60_u64, any::<i64>(), created, spec, state).prop_map(
        |(uid, version, generation, created, (capacity, ttl, strict), (term, settled_term, in_use, waiting))| Parent {
            uid: uid.into(),
            version,
            generation,
            created,
            capacity,
            ttl,
            queueing: if strict { Queueing::StrictFIFO } else { Queueing::BestEffortFIFO },
            state: ParentState {
                term,
                settled_term,
                summary: ParentSummary { in_use, waiting, ..ParentSummary::default() },
            },
        },
    )
}

fn state() -> impl Strategy<Value = ClaimState> {
    use ClaimPhase::{Expired, Granted, Pending, Revoking};
    let phase = prop::option::of(prop::sample::select(vec![Pending, Granted, Revoking, Expired]));
    let numbers = (prop::option::of(number()), prop::option::of(number()), prop::option::of(number()));
    let parent = prop::option::of(uid().prop_map(Into::into));
    (phase, prop::option::of(duration()), term(), numbers, prop::option::of(time()), parent).prop_map(
        |(phase, ttl, term, (token, ticket, ahead), time, parent)| ClaimState {
            phase,
            ttl,
            term,
            parent,
            token,
            ticket,
            ahead,
            acquired_at: time,
            expires_at: time,
            message: None,
            revoked: false,
        },
    )
}

fn claim() -> impl Strategy<Value = Claim> {
    let metadata = (uid(), 0..60_u64, any::<bool>(), any::<bool>());
    let weight = prop_oneof![0..4_u64, Just(u64::from(u32::MAX))];
    let spec = (weight, prop_oneof![Just(i32::MIN), 0..2, Just(i32::MAX)], prop::option::of(duration()));
    let pod = prop::option::of(uid().prop_map(|uid| PodReference {
        container: "main".into(),
        start: "1".into(),
        ..PodReference::whole(uid.clone(), uid)
    }));
    (metadata, spec, prop::option::of(time()), pod, state()).prop_map(
        |((uid, version, deleting, revoke), (weight, priority, ttl), renewed, pod, state)| Claim {
            name: uid.clone(),
            holder: uid.clone(),
            uid: uid.into(),
            version,
            generation: 1,
            created: 0,
            weight,
            priority,
            pod: pod.map(Box::new),
            ttl,
            renewed: renewed.map(Into::into),
            revoke: revoke.then(String::new),
            deleting,
            state,
        },
    )
}

fn unread() -> impl Strategy<Value = Unread> {
    (uid(), 0..60_u64, any::<bool>()).prop_map(|(uid, version, may_hold)| Unread {
        name: uid.clone(),
        uid: uid.into(),
        version,
        may_hold,
    })
}

fn sight() -> impl Strategy<Value = PodSight> {
    use PodSight::{Ended, Gone, Lives, Unknown};
    prop::sample::select(vec![Gone, Ended, Lives, Unknown])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => parent().prop_map(Step::Parent),
        1 => uid().prop_map(Step::ParentGone),
        8 => claim().prop_map(Step::Claim),
        2 => unread().prop_map(Step::Unreadable),
        1 => uid().prop_map(Step::ClaimGone),
        1 => uid().prop_map(Step::Died),
        2 => (uid(), sight()).prop_map(|(uid, sight)| Step::Looked(uid, sight)),
        2 => Just(Step::Lead),
        1 => Just(Step::StandDown),
        4 => (term(), prop::collection::vec(claim(), 0..4)).prop_map(|(term, claims)| Step::Page(term, claims)),
        4 => term().prop_map(Step::Listed),
        1 => Just(Step::ListFailed),
        12 => Just(Step::Decide),
        12 => (any::<usize>(), parent(), claim())
            .prop_map(|(write, parent, claim)| Step::Acknowledge { write, parent, claim }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(write, unknown)| Step::Fail { write, unknown }),
        3 => (0..40_000_u64).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
        1 => time().prop_map(Step::Wall),
    ]
}

struct World {
    view: View,
    now: Now,
    flights: Vec<Write>,
    listing: Option<u64>,
}

impl World {
    fn take(&mut self, which: usize) -> Option<Write> {
        (!self.flights.is_empty()).then(|| self.flights.remove(which % self.flights.len()))
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Parent(parent) => self.view.observe_parent(parent, now),
            Step::ParentGone(uid) => self.view.parent_gone(&uid, now),
            Step::Claim(claim) => self.view.observe_claim(claim, now),
            Step::Unreadable(claim) => self.view.observe_unreadable(claim, now),
            Step::Looked(uid, sight) => self.view.looked(&uid, sight, now),
            Step::ClaimGone(uid) => self.view.claim_gone(&uid, now),
            Step::Died(uid) => {
                self.view.holder_died(&uid, now);
            }
            Step::Lead => self.view.lead(now),
            Step::StandDown => self.view.stand_down(),
            Step::Page(term, claims) => self.view.page(self.listing.unwrap_or(term), claims, now),
            Step::Listed(term) => self.view.listed(self.listing.take().unwrap_or(term), now),
            Step::ListFailed => self.view.list_failed(),
            Step::Decide => {
                let plan = decide(&self.view, now);
                self.view.sent(&plan, now);
                self.listing = plan.list.or(self.listing);
                let idle = |plan: &Plan| plan.writes.is_empty() && plan.list.is_none() && plan.looks.is_empty();
                if idle(&plan) {
                    let again = decide(&self.view, now);
                    assert!(idle(&again), "something was left to do: {again:?}");
                    assert!(again.look_again.is_none_or(|at| at > now.monotonic), "would look again and again");
                }
                self.flights.extend(plan.writes);
            }
            Step::Acknowledge { write, parent, claim } => match self.take(write) {
                // Half of the results show what was written, with whatever else.
                Some(Write::Parent(write)) if write.version % 2 == 0 => {
                    self.view.acknowledged_parent(&write, parent, now);
                }
                Some(Write::Claim(write)) if write.version % 2 == 0 => self.view.acknowledged_claim(&write, claim, now),
                Some(write) => self.acknowledge(&write, &parent, &claim),
                None => {}
            },
            Step::Fail { write, unknown } => {
                if let Some(write) = self.take(write) {
                    let outcome = if unknown { Outcome::Unknown } else { Outcome::NotApplied };
                    self.view.failed(&write, outcome, now);
                }
            }
            Step::Pass(time) => self.now.monotonic += time,
            Step::Wall(wall) => self.now.wall = wall,
        }
    }

    fn acknowledge(&mut self, write: &Write, parent: &Parent, claim: &Claim) {
        match write {
            Write::Parent(write) => {
                let (uid, version, state) = (write.uid.clone(), write.version + 1, write.change.state().clone());
                self.view.acknowledged_parent(write, Parent { uid, version, state, ..parent.clone() }, self.now);
            }
            Write::Claim(write) => match write.change.state().cloned() {
                Some(state) => {
                    let (uid, version) = (write.uid.clone(), write.version + 1);
                    self.view.acknowledged_claim(write, Claim { uid, version, state, ..claim.clone() }, self.now);
                }
                None => self.view.claim_gone(&write.uid, self.now),
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, rng_algorithm: RngAlgorithm::XorShift, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_too_odd(steps in prop::collection::vec(step(), 1..120)) {
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
        let mut world = World { view: View::new(Semaphore::KIND, "s"), now, flights: vec![], listing: None };
        for step in steps {
            world.step(step);
        }
    }
}
