//! The claim protocol against a world that does what it likes: answers are lost before or after the request was carried
//! out, watches show old news, operators grant in terms that are over, take back, expire, and people delete, and create
//! again under the same name: claims and the semaphore itself. Time jumps.
//!
//! The operator of this world breaks no promise: it expires a claim only after it saw no renewal for the full TTL, and
//! it grants in a term below the semaphore's, or for a semaphore that was deleted, only as a late write. Everything
//! else is up to chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use konductor::{
    Boottime, Event, LossReason,
    protocol::{Answer, Call, ClaimSeen, Draw, Effect, FRESH, Failure, Input, Machine, ParentSeen, WatchEnd, limits},
};
use konductor_api::{ClaimPhase, Lock, PodReference, Semaphore, limits::ASKED_AHEAD};
use proptest::prelude::*;

const TTL: Duration = Duration::from_secs(30);

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct World {
    machine: Machine,
    now: Boottime,
    steps: u128,
    over: bool,
    abandoned: bool,
    released: bool,
    /// When it began to delete its claim by itself, as it had to end.
    withdrew_at: Option<Boottime>,

    /// The object with the claim's name, when it was last renewed as the operator sees it, and all that it ever was.
    claim: Option<ClaimSeen>,
    renewed_at: Boottime,
    history: Vec<ClaimSeen>,
    version: u64,
    uids: u64,
    /// How often the semaphore was created, and its term, which the next one may come to as well.
    parents: u64,
    term: u64,
    token: u64,

    /// What the machine has under way: a call and when it was sent, a question, whether it is for
    /// the latest state, and what was seen of the claim when it was sent.
    call: Option<(Call, Boottime)>,
    question: Option<(bool, Option<ClaimSeen>)>,
    watching: bool,

    /// What the machine can know: the sending of the last renewal it was told to have succeeded, and the newest state
    /// of its claim; and the state that the parent has confirmed, asked after it.
    told_renewed_at: Option<Boottime>,
    seen: Option<ClaimSeen>,
    confirmed: Option<ClaimSeen>,
    held: Option<(u64, Boottime)>,

    /// Whether it is in a pod; and when it was told that its turn is near without having shown itself since.
    in_pod: bool,
    asked: bool,
}

impl World {
    fn new(in_pod: bool) -> Self {
        let pod = PodReference { container: "c".into(), start: "s".into(), ..PodReference::whole("p", "u") };
        let mut world = Self {
            machine: Machine::new(Semaphore::KIND, "warehouse".into(), in_pod.then_some(pod)),
            now: Boottime(Duration::from_secs(1000)),
            steps: 0,
            over: false,
            abandoned: false,
            released: false,
            withdrew_at: None,
            claim: None,
            renewed_at: Boottime(Duration::ZERO),
            history: Vec::new(),
            version: 100,
            uids: 0,
            parents: 1,
            term: 7,
            token: 70,
            call: None,
            question: None,
            watching: false,
            told_renewed_at: None,
            seen: None,
            confirmed: None,
            held: None,
            in_pod,
            asked: false,
        };
        world.step(Input::Time);
        world
    }

    fn step(&mut self, input: Input) {
        if self.over {
            return;
        }
        self.steps += 1;
        let draw = Draw { id: self.steps, jitter: (self.steps as u32).wrapping_mul(0x9e37_79b9) };
        for effect in self.machine.step(input, self.now, draw) {
            self.take(effect);
        }
        assert_eq!(self.over, self.machine.is_over(), "the last event and the end go together");
        assert_eq!(self.held.is_some(), self.machine.is_held());
        if let Some(alarm) = self.machine.alarm() {
            assert!(alarm > self.now, "an alarm for what should have been done now");
        }
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Call { call, within } => {
                assert!(self.call.is_none(), "two calls at once: {call:?}");
                assert!(!within.is_zero(), "a call without time to answer: {call:?}");
                if let (Call::Renew { .. }, Some((_, deadline))) = (&call, self.held) {
                    assert!(self.now < deadline, "a renewal after the deadline");
                }
                if let (Call::Renew { .. }, None) = (&call, self.held) {
                    let seen = self.seen.as_ref().expect("a claim that was seen");
                    assert!(seen.phase != Some(ClaimPhase::Pending) || self.asked, "renewed without being asked");
                }
                if let Call::Create { .. } = call {
                    self.told_renewed_at.get_or_insert(self.now);
                }
                if let Call::Delete { version, .. } = &call {
                    assert_eq!(*version, None, "an instance of its own is nobody else's");
                }
                if let (Call::Delete { .. }, false) = (&call, self.released) {
                    self.withdrew_at.get_or_insert(self.now);
                }
                self.call = Some((call, self.now));
            }
            Effect::CancelCall => {
                let (call, _) = self.call.take().expect("a call to cancel");
                assert!(!matches!(call, Call::Create { .. }) || self.released, "a create is never dropped: {call:?}");
            }
            Effect::AskParent { latest, .. } => {
                self.question = Some((latest, self.seen.clone()));
                self.confirmed = None;
            }
            Effect::Watch { .. } => self.watching = true,
            Effect::Unwatch => self.watching = false,
            Effect::Tell(event) => self.hear(event),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Held { fencing_token, ttl, deadline, lock } => {
                assert!(!self.released, "held after the release");
                let seen = self.seen.as_ref().expect("a claim that was seen");
                assert_eq!((seen.phase, seen.fencing_token), (Some(ClaimPhase::Granted), Some(fencing_token)));
                let grant = |claim: &ClaimSeen| {
                    (claim.uid.clone(), claim.phase, claim.term, claim.fencing_token, claim.parent_uid.clone())
                };
                assert_eq!(self.confirmed.as_ref().map(grant), Some(grant(seen)), "held without a confirmed grant");
                assert_eq!(seen.parent_uid.as_ref(), Some(&lock));
                let renewed_at = self.told_renewed_at.expect("a renewal");
                assert!(self.now - renewed_at <= FRESH, "held late");
                assert_eq!(deadline, renewed_at + ttl.mul_f64(0.999));
                self.held = Some((fencing_token, deadline));
            }
            Event::Extended { deadline } => {
                let (token, old) = self.held.expect("held");
                assert!(self.now < old, "extended after the deadline");
                self.held = Some((token, deadline));
            }
            Event::Lost { reason } => {
                let (_, deadline) = self.held.take().expect("held");
                assert!(reason != LossReason::DeadlinePassed || self.now >= deadline, "lost before the deadline");
            }
            Event::Released | Event::Failed { .. } => self.over = true,
            Event::Abandoned { .. } => (self.over, self.abandoned) = (true, true),
            Event::Asked
            | Event::Created { .. }
            | Event::Granted
            | Event::Hindered { .. }
            | Event::Waiting { .. }
            | Event::Retrying { .. } => {}
            other => panic!("unknown event: {other:?}"),
        }
    }

    /// Takes note of what the machine is shown.
    fn show(&mut self, claim: &ClaimSeen) {
        let newer = self.seen.as_ref().is_none_or(|seen| claim.version > seen.version);
        if newer {
            let word = |claim: &ClaimSeen| (claim.phase, claim.term, claim.ahead, claim.message.clone());
            let told = self.seen.as_ref().map(word) != Some(word(claim)) && claim.phase == Some(ClaimPhase::Pending);
            let silent = self.told_renewed_at.is_none_or(|at| self.now - at > FRESH);
            let near = claim.ahead.is_some_and(|ahead| ahead < ASKED_AHEAD);
            self.asked |= told && silent && near && !self.in_pod;
            self.seen = Some(claim.clone());
        }
    }

    fn write(&mut self, change: impl FnOnce(&mut ClaimSeen)) {
        self.version += 1;
        if let Some(claim) = &mut self.claim {
            change(claim);
            claim.version = self.version;
            self.history.push(claim.clone());
        }
    }

    /// What the API server does with a request.
    fn carry_out(&mut self, call: &Call) -> Result<Answer, Failure> {
        let is = |claim: &Option<ClaimSeen>, uid: &str| match claim {
            None => Err(Failure::Missing("not found".into())),
            Some(claim) if claim.uid != uid => Err(Failure::Conflict("another uid".into())),
            Some(_) => Ok(()),
        };
        match call {
            Call::Create { instance, .. } => {
                if self.claim.is_some() {
                    return Err(Failure::Taken);
                }
                self.uids += 1;
                let uid = format!("uid-{}", self.uids);
                self.claim = Some(ClaimSeen { uid, instance: instance.clone(), ..ClaimSeen::default() });
                self.renewed_at = self.now;
                self.write(|_| {});
            }
            Call::Read { .. } => {}
            Call::Renew { uid, .. } => {
                is(&self.claim, uid)?;
                self.renewed_at = self.now;
                self.write(|_| {});
            }
            Call::Delete { uid, .. } => {
                is(&self.claim, uid)?;
                self.claim = None;
                return Ok(Answer::Deleted);
            }
        }
        self.claim.clone().map(Answer::Claim).ok_or(Failure::Missing("not found".into()))
    }

    fn answer(&mut self, done: bool, heard: bool) {
        let Some((call, sent_at)) = self.call.clone() else { return };
        let answer = if done { self.carry_out(&call) } else { Err(Failure::Refused("forbidden".into())) };
        let lost = Failure::Transient { message: "no answer".into(), retry_after: None };
        let answer = if heard { answer } else { Err(lost) };
        self.call = None;
        if let Ok(Answer::Claim(claim)) = &answer {
            let claim = claim.clone();
            if let Call::Renew { .. } = call {
                // Past its deadline the machine takes no more answers.
                if self.held.is_none_or(|(_, deadline)| self.now < deadline) {
                    self.told_renewed_at = Some(sent_at);
                }
                self.asked = false;
            }
            self.show(&claim);
        }
        self.step(Input::Answered(answer));
        self.forget_if_asked_again();
    }

    /// A claim that was given up is asked for as another instance, with a create of its own.
    fn forget_if_asked_again(&mut self) {
        if let Some((Call::Create { instance, .. }, at)) = &self.call
            && self.seen.as_ref().is_some_and(|seen| seen.instance != *instance)
        {
            self.told_renewed_at = Some(*at);
            self.seen = None;
            self.confirmed = None;
            self.asked = false;
        }
    }

    fn answer_question(&mut self, heard: bool) {
        let Some((latest, seen)) = self.question.take() else { return };
        if !heard {
            let lost = Failure::Transient { message: "no answer".into(), retry_after: None };
            return self.step(Input::ParentAnswered(Err(lost)));
        }
        // A cached answer may be old.
        let (term, parent) = if latest { (self.term, self.parents) } else { (self.term - 1, self.parents - 1) };
        let uid = parent_uid(parent);
        let grants = |seen: &ClaimSeen| seen.term == Some(term) && seen.parent_uid.as_ref() == Some(&uid);
        if latest && seen.as_ref().is_some_and(grants) {
            self.confirmed = seen;
        }
        self.step(Input::ParentAnswered(Ok(ParentSeen::Found { uid, term: Some(term), permits: Some(1) })));
        self.forget_if_asked_again();
    }

    fn operate(&mut self, what: u8, how_much: u8) {
        let (term, expirable) = (self.term, self.now.since(self.renewed_at) >= TTL);
        let uid = parent_uid(self.parents);
        match what {
            0 => {
                self.token += 1;
                // Sometimes a late write of a leader before, or for a semaphore before.
                let term = term - u64::from(how_much.is_multiple_of(4));
                let uid = parent_uid(self.parents - u64::from(how_much.is_multiple_of(5)));
                let token = self.token;
                self.write(|claim| {
                    if claim.phase.is_none() || claim.phase == Some(ClaimPhase::Pending) {
                        claim.phase = Some(ClaimPhase::Granted);
                        (claim.term, claim.fencing_token, claim.ttl) = (Some(term), Some(token), Some(TTL));
                        claim.parent_uid = Some(uid);
                    }
                });
            }
            1 => self.write(|claim| {
                if claim.phase.is_none() || claim.phase == Some(ClaimPhase::Granted) && how_much.is_multiple_of(8) {
                    let (uid, instance) = (claim.uid.clone(), claim.instance.clone());
                    let phase = Some(ClaimPhase::Pending);
                    *claim = ClaimSeen { uid, instance, phase, message: "waits".into(), ..ClaimSeen::default() };
                }
            }),
            // A takeover: the term rises, and what was granted in the term before is stamped anew.
            2 => {
                self.term += 1;
                self.write(|claim| {
                    let granted = claim.phase == Some(ClaimPhase::Granted) && claim.parent_uid == Some(uid);
                    if granted && claim.term == Some(term) {
                        claim.term = Some(term + 1);
                    }
                });
            }
            3 if expirable => {
                self.write(|claim| claim.phase = Some(ClaimPhase::Expired));
                if let Some((_, deadline)) = self.held {
                    assert!(self.now >= deadline, "expired by rights while still relied upon");
                }
            }
            4 if how_much.is_multiple_of(4) => self.write(|claim| claim.phase = Some(ClaimPhase::Revoking)),
            5 if how_much.is_multiple_of(16) => self.claim = None,
            6 if how_much.is_multiple_of(16) => {
                self.uids += 1;
                self.claim = Some(ClaimSeen { uid: format!("uid-{}", self.uids), ..ClaimSeen::default() });
                self.write(|claim| claim.instance = "another's".into());
            }
            7 if how_much.is_multiple_of(4) => self.parents += 1,
            8 => self.write(|claim| {
                if claim.phase.is_none() || claim.phase == Some(ClaimPhase::Pending) {
                    claim.phase = Some(ClaimPhase::Pending);
                    claim.ahead = Some(u64::from(how_much % 64));
                }
            }),
            9 if how_much.is_multiple_of(16) => self.write(|claim| {
                if claim.phase.is_none() || claim.phase == Some(ClaimPhase::Pending) {
                    (claim.phase, claim.revoked) = (Some(ClaimPhase::Expired), true);
                }
            }),
            _ => {}
        }
    }

    fn watch(&mut self, what: u8, which: u8) {
        if !self.watching {
            return;
        }
        let input = match what {
            // Mostly the newest, sometimes old news.
            0..=5 => {
                let all = self.history.len();
                let back = if which.is_multiple_of(3) { usize::from(which) % all.max(1) } else { 0 };
                let Some(claim) = all.checked_sub(1 + back).and_then(|at| self.history.get(at)).cloned() else {
                    return;
                };
                // A watch shows nothing from before the version that it starts from: claims of earlier instances.
                if self
                    .seen
                    .as_ref()
                    .is_some_and(|seen| seen.instance != claim.instance && claim.version < seen.version)
                {
                    return;
                }
                if self.seen.as_ref().is_some_and(|seen| seen.instance == claim.instance) {
                    self.show(&claim);
                }
                Input::Watched(claim)
            }
            6 => Input::WatchedDeletion(if self.claim.is_some() { return } else { format!("uid-{}", self.uids) }),
            7 => Input::WatchEnded(WatchEnd::Closed),
            8 => Input::WatchEnded(WatchEnd::Outdated),
            _ => Input::WatchEnded(WatchEnd::Failed("reset".into())),
        };
        self.watching &= !matches!(input, Input::WatchEnded(_));
        self.step(input);
        self.forget_if_asked_again();
    }

    /// Lets time pass: to the alarm, or as told.
    fn pass(&mut self, millis: Option<u64>) {
        let alarm = self.machine.alarm();
        self.now = match millis {
            Some(millis) => self.now + Duration::from_millis(millis),
            None => alarm.map_or(self.now, |alarm| alarm.max(self.now)),
        };
        self.step(Input::Time);
        self.forget_if_asked_again();
    }

    /// Releases in a world that behaves from now on: all is over soon, and nothing of ours is left.
    fn finish(&mut self) {
        let had = self.held.take();
        self.released = true;
        self.step(Input::Release);
        if had.is_some() {
            let call = self.call.as_ref().map(|(call, _)| call);
            assert!(matches!(call, Some(Call::Delete { .. })), "not deleted at once: {call:?}");
        }
        for _ in 0..10 {
            if self.call.is_none() {
                self.pass(None);
            }
            self.answer(true, true);
        }
        assert!(self.over, "not over");
        assert!(!self.abandoned, "abandoned although all was answered");
        let left = self.claim.as_ref().filter(|claim| claim.instance != "another's");
        // Deleting a claim that it gave up by itself is tried for so long, from before the world behaved.
        let tried = self.withdrew_at.is_some_and(|at| self.now - at >= limits::WITHDRAW_WITHIN);
        assert!(tried || left.is_none(), "left behind: {left:?}");
    }
}

fn parent_uid(parent: u64) -> String {
    format!("semaphore-{parent}")
}

#[derive(Clone, Debug)]
enum Act {
    Answer { done: bool, heard: bool },
    AnswerQuestion { heard: bool },
    Operate(u8, u8),
    Watch(u8, u8),
    Pass(Option<u64>),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (prop::bool::weighted(0.9), prop::bool::weighted(0.8)).prop_map(|(done, heard)| Act::Answer { done, heard }),
        5 => prop::bool::weighted(0.9).prop_map(|heard| Act::AnswerQuestion { heard }),
        5 => (0..10_u8, any::<u8>()).prop_map(|(what, how)| Act::Operate(what, how)),
        6 => (0..10_u8, any::<u8>()).prop_map(|(what, which)| Act::Watch(what, which)),
        3 => Just(Act::Pass(None)),
        3 => (0..3000_u64).prop_map(|millis| Act::Pass(Some(millis))),
        1 => (0..60_000_u64).prop_map(|millis| Act::Pass(Some(millis))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn no_world_makes_it_break_a_promise(in_pod: bool, acts in prop::collection::vec(act(), 0..80)) {
        let mut world = World::new(in_pod);
        for act in acts {
            match act {
                Act::Answer { done, heard } => world.answer(done, heard),
                Act::AnswerQuestion { heard } => world.answer_question(heard),
                Act::Operate(what, how) => world.operate(what, how),
                Act::Watch(what, which) => world.watch(what, which),
                Act::Pass(millis) => world.pass(millis),
            }
            if world.over {
                return Ok(());
            }
        }
        world.finish();
    }
}

/// The claim of a holder by its name, in a world in which another process asks in that name, too: it deletes what has
/// expired, makes the claim anew, and works under it. Watches are honest: what happens after the version that one starts
/// from is shown in order. Anything else is up to chance.
struct Shared {
    machine: Machine,
    now: Boottime,
    steps: u128,
    over: bool,
    instance: String,
    claim: Option<ClaimSeen>,
    uids: u64,
    /// All that happened: at which version, and the claim, or the UID of the one that was deleted.
    log: Vec<(u64, Result<ClaimSeen, String>)>,
    call: Option<Call>,
    asks: bool,
    /// The version after which the watch goes on, while there is one.
    watching: Option<u64>,
    /// The claims that were created here, and the newest that was shown of each.
    created: BTreeSet<String>,
    shown: BTreeMap<String, ClaimSeen>,
    /// How often another's claim was shown while it was held.
    met: u32,
}

impl Shared {
    fn new() -> Self {
        let mut world = Self {
            machine: Machine::of_holder(Semaphore::KIND, "warehouse".into(), "nightly".into(), None),
            now: Boottime(Duration::from_secs(1000)),
            steps: 0,
            over: false,
            instance: String::new(),
            claim: None,
            uids: 0,
            log: Vec::new(),
            call: None,
            asks: false,
            watching: None,
            created: BTreeSet::new(),
            shown: BTreeMap::new(),
            met: 0,
        };
        world.step(Input::Time);
        world
    }

    fn step(&mut self, input: Input) {
        if self.over {
            return;
        }
        self.steps += 1;
        let draw = Draw { id: self.steps, jitter: (self.steps as u32).wrapping_mul(0x9e37_79b9) };
        for effect in self.machine.step(input, self.now, draw) {
            match effect {
                Effect::Call { call, .. } => {
                    if let Call::Create { instance, .. } = &call {
                        self.instance.clone_from(instance);
                    }
                    if let Call::Delete { uid, .. } = &call {
                        let held = self.shown.get(uid).is_some_and(is_held);
                        assert!(!held || self.created.contains(uid), "deletes {uid}, under which another works");
                    }
                    self.call = Some(call);
                }
                Effect::CancelCall => self.call = None,
                Effect::AskParent { .. } => self.asks = true,
                Effect::Watch { version, .. } => self.watching = Some(version),
                Effect::Unwatch => self.watching = None,
                Effect::Tell(Event::Created { uid, .. }) => _ = self.created.insert(uid),
                Effect::Tell(Event::Released | Event::Failed { .. } | Event::Abandoned { .. }) => self.over = true,
                Effect::Tell(_) => {}
            }
        }
    }

    fn show(&mut self, claim: &ClaimSeen) {
        let newest = self.shown.entry(claim.uid.clone()).or_default();
        if claim.version > newest.version {
            *newest = claim.clone();
            self.met += u32::from(is_held(claim) && !self.created.contains(&claim.uid));
        }
    }

    fn write(&mut self, change: impl FnOnce(&mut ClaimSeen)) {
        let version = self.version() + 1;
        if let Some(claim) = &mut self.claim {
            change(claim);
            claim.version = version;
            self.log.push((version, Ok(claim.clone())));
        }
    }

    fn version(&self) -> u64 {
        self.log.last().map_or(100, |(version, _)| *version)
    }

    fn create(&mut self) -> Result<(), Failure> {
        if self.claim.is_some() {
            return Err(Failure::Taken);
        }
        self.uids += 1;
        let uid = format!("uid-{}", self.uids);
        self.claim = Some(ClaimSeen { uid, instance: self.instance.clone(), ..ClaimSeen::default() });
        self.write(|_| {});
        Ok(())
    }

    fn delete(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.log.push((self.version() + 1, Err(claim.uid)));
        }
    }

    fn carry_out(&mut self, call: &Call) -> Result<Answer, Failure> {
        if let Call::Create { .. } = call {
            self.create()?;
        }
        let claim = self.claim.clone().ok_or(Failure::Missing("not found".into()))?;
        match call {
            Call::Renew { uid, .. } | Call::Delete { uid, .. } if *uid != claim.uid => {
                return Err(Failure::Conflict("another uid".into()));
            }
            Call::Delete { version: Some(version), .. } if *version != claim.version => {
                return Err(Failure::Conflict("another version".into()));
            }
            Call::Delete { uid, .. } => {
                let relied_on = is_held(&claim) && !self.created.contains(uid);
                assert!(!relied_on, "deletes {uid}, which was granted to another meanwhile");
                self.delete();
                return Ok(Answer::Deleted);
            }
            Call::Renew { .. } => self.write(|_| {}),
            Call::Create { .. } | Call::Read { .. } => {}
        }
        self.claim.clone().map(Answer::Claim).ok_or(Failure::Missing("not found".into()))
    }

    fn answer(&mut self, done: bool, heard: bool) {
        let Some(call) = self.call.take() else { return };
        let lost = || Failure::Transient { message: "no answer".into(), retry_after: None };
        let answer = if done { self.carry_out(&call) } else { Err(lost()) };
        let answer = if heard { answer } else { Err(lost()) };
        if let Ok(Answer::Claim(claim)) = &answer {
            if let Call::Create { .. } = call {
                self.created.insert(claim.uid.clone());
            }
            self.show(&claim.clone());
        }
        self.step(Input::Answered(answer));
    }

    fn answer_question(&mut self) {
        if std::mem::take(&mut self.asks) {
            let found = ParentSeen::Found { uid: parent_uid(1), term: Some(7), permits: Some(1) };
            self.step(Input::ParentAnswered(Ok(found)));
        }
    }

    fn watch(&mut self, ends: bool) {
        let Some(after) = self.watching else { return };
        if ends {
            self.watching = None;
            return self.step(Input::WatchEnded(WatchEnd::Closed));
        }
        let Some((version, event)) = self.log.iter().find(|(version, _)| *version > after).cloned() else { return };
        self.watching = Some(version);
        match event {
            Ok(claim) => {
                self.show(&claim);
                self.step(Input::Watched(claim));
            }
            Err(uid) => self.step(Input::WatchedDeletion(uid)),
        }
    }

    /// What the operator and the other process do.
    fn meddle(&mut self, what: u8) {
        let phase = self.claim.as_ref().map(|claim| claim.phase);
        let token = self.uids;
        match (what, phase) {
            (0, Some(None)) => self.write(|claim| claim.phase = Some(ClaimPhase::Pending)),
            (1, Some(None | Some(ClaimPhase::Pending))) => self.write(|claim| {
                (claim.phase, claim.parent_uid) = (Some(ClaimPhase::Granted), Some(parent_uid(1)));
                (claim.term, claim.fencing_token, claim.ttl) = (Some(7), Some(token), Some(TTL));
            }),
            (2, Some(_)) => self.write(|claim| claim.phase = Some(ClaimPhase::Expired)),
            // It makes room, or its work is done.
            (3, Some(Some(ClaimPhase::Expired | ClaimPhase::Granted))) => self.delete(),
            // Its create.
            (4, None) => _ = self.create(),
            _ => {}
        }
    }

    fn pass(&mut self, millis: Option<u64>) {
        self.now = match millis {
            Some(millis) => self.now + Duration::from_millis(millis),
            None => self.machine.alarm().map_or(self.now, |alarm| alarm.max(self.now)),
        };
        self.step(Input::Time);
    }

    /// Gives up in a world that answers, in which this happens before each of the first requests is carried out.
    fn finish(&mut self, meddling: &[u8]) {
        self.step(Input::Release);
        for step in 0..10 {
            if self.call.is_none() {
                self.pass(None);
            }
            if let Some(what) = meddling.get(step) {
                self.meddle(*what);
            }
            self.answer(true, true);
        }
        assert!(self.over, "not over");
    }
}

fn is_held(claim: &ClaimSeen) -> bool {
    matches!(claim.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn what_another_works_under_in_the_same_name_is_never_deleted(
        acts in prop::collection::vec(
            (0..12_u8, 0..5_u8, prop::bool::weighted(0.9), prop::bool::weighted(0.8), 0..3000_u64), 0..60,
        ),
        meddling in prop::collection::vec(0..6_u8, 0..4),
    ) {
        let mut world = Shared::new();
        for (act, what, done, heard, millis) in acts {
            match act {
                0..4 => world.answer(done, heard),
                4 => world.answer_question(),
                5..9 => world.meddle(what),
                9 => world.watch(what == 0),
                10 => world.watch(what < 3),
                _ => world.pass((what < 3).then_some(millis)),
            }
        }
        world.finish(&meddling);
    }
}

/// The search above would be worth nothing if its worlds never got that far.
#[test]
fn a_world_that_is_shared_has_another_work_under_the_claim() {
    let mut world = Shared::new();
    world.answer(true, true);
    world.watch(true);
    for what in [1, 2, 3, 4, 1] {
        world.meddle(what);
    }
    while world.met == 0 {
        world.pass(None);
        world.answer(true, true);
        assert!(world.steps < 100, "never met: {:?}", world.machine);
    }
    world.finish(&[]);
    assert_eq!(world.claim.as_ref().map(|claim| claim.uid.as_str()), Some("uid-2"), "left alone");
}

/// The search above would be worth nothing if its worlds never got that far.
#[test]
fn a_world_that_behaves_lets_it_hold() {
    let mut world = World::new(false);
    world.answer(true, true);
    // Asked to show itself after it was silent.
    world.pass(Some(11_000));
    world.operate(8, 3);
    world.watch(0, 1);
    assert!(world.asked && world.call.is_some());
    world.answer(true, true);
    world.answer_question(true);
    assert!(!world.asked && world.call.is_none());
    world.operate(0, 1);
    world.watch(0, 1);
    world.answer_question(true);
    assert!(world.held.is_some());
    for _ in 0..5 {
        world.pass(None);
        world.answer(true, true);
    }
    assert!(world.held.is_some());
    world.finish();
}
