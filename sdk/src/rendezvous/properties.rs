//! An arrival against a world that does what it likes: answers are lost before or after the request was carried out,
//! barriers are deleted and created again, operators give owners to arrivals and collect them late, and others take
//! names that are not theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use konductor_api::RendezvousPhase;
use proptest::prelude::*;

use super::{Arrived, Arriving, Call, Effect, Goal, Input, Machine, Progress, RendezvousSeen};
use crate::{
    Boottime,
    protocol::{Draw, Failure},
    rendezvous::Answer,
};

const KEY: &str = "k";

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct World {
    machine: Machine,
    now: Boottime,
    steps: u32,
    call: Option<Call>,
    over: bool,
    /// Barriers that ever were, and whether the last of them is there and stands where.
    barriers: u32,
    barrier: Option<RendezvousPhase>,
    /// Its round.
    round: u64,
    arrivals: BTreeMap<String, Arrived>,
    /// The arrivals that were made here, and the rounds in which they have counted, with the barrier's UID.
    made: BTreeSet<String>,
    counted: BTreeSet<(String, u64)>,
    /// Whether the answer to a creation was lost.
    unsure: bool,
    /// Whether it was told that the round in which it may have arrived is over.
    passed: bool,
    /// Whether a look was heard since the last attempt to create that failed, and the UID that it has shown.
    looked: bool,
    shown: Option<String>,
    /// The arrival that was last heard of.
    heard: Option<Arrived>,
    late: bool,
}

impl World {
    fn new() -> Self {
        let arriving = Arriving { barrier: "b".into(), key: KEY.into(), holder: "me".into(), pod: None };
        let mut world = Self {
            machine: Machine::new(Goal::Arrive(arriving)),
            now: Boottime(Duration::from_secs(1000)),
            steps: 0,
            call: None,
            over: false,
            barriers: 0,
            barrier: None,
            round: 1,
            arrivals: BTreeMap::new(),
            made: BTreeSet::new(),
            counted: BTreeSet::new(),
            unsure: false,
            passed: false,
            looked: false,
            shown: None,
            heard: None,
            late: false,
        };
        world.step(Input::Time);
        world
    }

    fn uid(&self) -> Option<String> {
        self.barrier.map(|_| format!("u{}", self.barriers))
    }

    fn step(&mut self, input: Input) {
        if self.over {
            return;
        }
        self.steps += 1;
        let draw = Draw { id: u128::from(self.steps), jitter: self.steps.wrapping_mul(0x9e37_79b9) };
        for effect in self.machine.step(input, self.now, draw) {
            match effect {
                Effect::Call { call, .. } => {
                    assert!(self.call.is_none(), "two calls at once: {call:?}");
                    if let Call::Create { owner, .. } = &call {
                        assert!(self.looked, "created without a look at the barrier");
                        assert_eq!(*owner, self.shown, "created for another barrier than was seen");
                    }
                    self.call = Some(call);
                }
                Effect::Watch { .. } => panic!("an arrival watches nothing"),
                Effect::Tell(Progress::Done) => self.arrived(),
                Effect::Tell(Progress::Failed { error }) => panic!("given up: {error}"),
                Effect::Tell(Progress::RoundOver { .. }) => self.late = true,
                Effect::Tell(Progress::RoundPassed { round }) => {
                    assert!(self.unsure && round > 1, "nothing was made that could count twice");
                    self.passed = true;
                }
                Effect::Tell(_) => {}
            }
        }
        assert_eq!(self.over, self.machine.is_over(), "the last word and the end go together");
    }

    /// Has it? What it heard of last must be an arrival of this key that counts for the barrier that it looked at.
    fn arrived(&mut self) {
        self.over = true;
        let rounds = |uid: &str| self.counted.iter().filter(|(counted, _)| counted == uid).count();
        assert!(self.counted.iter().all(|(uid, _)| rounds(uid) == 1), "counted twice: {:?}", self.counted);
        if self.passed {
            return;
        }
        let heard = self.heard.as_ref().expect("an arrival that was heard of");
        assert_eq!((heard.key.as_str(), heard.barrier.as_str(), heard.ending), (KEY, "b", false), "not this arrival");
        assert!(
            heard.owner.is_none() || heard.owner == self.shown,
            "arrived at {:?}, not {:?}",
            heard.owner,
            self.shown
        );
    }

    fn carry_out(&mut self, call: &Call) -> Result<Answer, Failure> {
        match call {
            Call::Look => {
                let found = self.barrier.map(|phase| RendezvousSeen {
                    uid: self.uid().expect("the barrier is there"),
                    round: self.round,
                    phase: Some(phase),
                    message: String::new(),
                });
                Ok(Answer::Looked { version: "7".into(), found })
            }
            Call::Create { name, owner, spec } => {
                if self.arrivals.contains_key(name) {
                    return Err(Failure::Taken);
                }
                let (barrier, key, owner) = (spec.barrier.clone(), spec.key.clone(), owner.clone());
                self.made.insert(name.clone());
                if owner.is_some() && owner == self.uid() {
                    self.counted.extend(owner.clone().map(|uid| (uid, self.round)));
                }
                self.arrivals.insert(name.clone(), Arrived { barrier, key, owner, ending: false });
                Ok(Answer::Created)
            }
            Call::Inspect { name, .. } => {
                let arrived = self.arrivals.get(name).cloned();
                arrived.map(Answer::Inspected).ok_or_else(|| Failure::Missing("not found".into()))
            }
        }
    }

    fn answer(&mut self, done: bool, heard: bool) {
        let Some(call) = self.call.take() else { return };
        let lost = || Failure::Transient { message: "no answer".into(), retry_after: None };
        let answer = if done { self.carry_out(&call) } else { Err(lost()) };
        let answer = if heard { answer } else { Err(lost()) };
        match (&call, &answer) {
            (_, Ok(Answer::Looked { found, .. })) => {
                self.looked = true;
                self.shown = found.as_ref().map(|barrier| barrier.uid.clone());
            }
            (Call::Create { name, .. }, Ok(Answer::Created)) => self.heard = self.arrivals.get(name).cloned(),
            (_, Ok(Answer::Inspected(arrived))) => self.heard = Some(arrived.clone()),
            (Call::Create { .. }, Err(Failure::Transient { .. })) => (self.looked, self.unsure) = (false, true),
            _ => {}
        }
        self.step(Input::Answered(answer));
    }

    fn meddle(&mut self, what: u8, how: u8) {
        let uid = self.uid();
        let one = usize::from(how) % self.arrivals.len().max(1);
        match what {
            // The barrier comes, opens, fails, and goes; the next one of its name is another.
            0 => {
                (self.barriers, self.barrier) = (self.barriers + 1, Some(RendezvousPhase::Waiting));
                self.round = 1;
            }
            1 => self.barrier = None,
            2 => {
                let phase = if how.is_multiple_of(2) { RendezvousPhase::Open } else { RendezvousPhase::Failed };
                self.barrier = self.barrier.map(|_| phase);
            }
            // An operator gives an owner to who has none; the garbage collector collects who has lost it.
            3 => {
                for (name, arrived) in &mut self.arrivals {
                    if arrived.owner.is_none() && self.made.contains(name) {
                        self.counted.extend(uid.clone().map(|uid| (uid, self.round)));
                    }
                    arrived.owner = arrived.owner.take().or(uid.clone());
                }
            }
            4 => {
                self.arrivals.retain(|_, arrived| arrived.owner.is_none() || arrived.owner == uid);
                self.made.retain(|name| self.arrivals.contains_key(name));
            }
            // A round ends, in two steps.
            5 => {
                if let Some(arrived) = self.arrivals.values_mut().nth(one) {
                    arrived.ending = true;
                }
            }
            6 if how.is_multiple_of(2) => {
                self.arrivals.retain(|_, arrived| !arrived.ending);
                self.made.retain(|name| self.arrivals.contains_key(name));
            }
            // It opens, and the next one begins when all who have arrived in it are gone: not between a look and the
            // creation that follows it, as rounds last longer than that and nothing in an arrival could tell.
            6 => {
                if self.barrier.is_some() && !matches!(self.call, Some(Call::Create { .. })) {
                    self.arrivals.retain(|_, arrived| arrived.owner != uid);
                    self.made.retain(|name| self.arrivals.contains_key(name));
                    (self.barrier, self.round) = (Some(RendezvousPhase::Waiting), self.round + 1);
                }
            }
            // Somebody takes the name that is about to be used.
            _ => {
                let Some(Call::Create { name, .. }) = &self.call else { return };
                let (key, barrier, owner) = match how % 3 {
                    0 => ("another", "b", uid.filter(|_| how > 99)),
                    1 => (KEY, "another", uid.filter(|_| how > 99)),
                    _ => (KEY, "b", Some("u0".into())),
                };
                let squatter = Arrived { barrier: barrier.into(), key: key.into(), owner, ending: false };
                self.arrivals.entry(name.clone()).or_insert(squatter);
            }
        }
    }

    fn pass(&mut self) {
        self.now = self.machine.alarm().unwrap_or(self.now).max(self.now);
        self.step(Input::Time);
    }

    /// In a world that behaves from now on it has arrived soon.
    fn finish(&mut self) {
        for _ in 0..200 {
            if self.over {
                return;
            }
            self.meddle(4, 0);
            self.meddle(6, 0);
            self.answer(true, true);
            self.pass();
        }
        panic!("not over: {:?}", self.machine);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn who_is_told_that_it_has_arrived_has_arrived(
        acts in prop::collection::vec(
            (0..14_u8, any::<u8>(), prop::bool::weighted(0.9), prop::bool::weighted(0.8)), 0..60,
        ),
    ) {
        let mut world = World::new();
        for (what, how, done, heard) in acts {
            match what {
                0..8 => world.meddle(what, how),
                8..12 => world.answer(done, heard),
                _ => world.pass(),
            }
        }
        world.finish();
    }
}

/// The search above would be worth nothing if its worlds never got that far.
#[test]
fn a_world_that_meddles_is_got_through() {
    let mut world = World::new();
    world.meddle(0, 0);
    world.answer(true, true);
    world.meddle(7, 0);
    // Taken by another's; the next name; and its answer is lost, while another barrier comes.
    for _ in 0..3 {
        world.answer(true, true);
    }
    assert!(matches!(&world.call, Some(Call::Create { name, .. }) if name.ends_with("-2")), "{:?}", world.call);
    world.answer(true, false);
    world.meddle(1, 0);
    world.meddle(0, 0);
    world.meddle(2, 0);
    world.finish();
    assert!(world.late);
    assert_eq!(world.shown.as_deref(), Some("u2"));
}
