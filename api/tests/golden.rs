//! Scripts of what happens to a semaphore (in `lease.txt`: to a lease, in `rwlock.txt`: to a kind that is not
//! Konductor's) and what the operator does about it, in `tests/golden/*.txt`. They are meant to be read as a
//! specification: each section is headed by the sentence that it shows.
//!
//! A line `> ...` says what happens; several things on one line, separated by `;`, happen before the operator looks.
//! Below it stand the writes that the operator decides on, with the time at which it did. `UPDATE_GOLDEN=1 cargo test
//! -p konductor-api --test golden` writes the files anew from what the code does now; read the difference.
//!
//! Commands: `semaphore permits=2 ttl=1m queueing=BestEffortFIFO` creates or changes the semaphore (`lease ttl=1m` the
//! lease), `delete semaphore`, `clear status` (the semaphore's); `claim NAME permits=1 priority=0 ttl=30s` (`NAME*5`
//! makes five), `renew NAME`, `edit NAME` (changes something that does not matter), `revoke NAME REASON`, `delete
//! NAME`, `hold deletion of NAME` (a finalizer of somebody else's keeps it), `NAME died`; `grant NAME in term 5` (as a
//! deposed operator's late write would, for the first semaphore of the script; `... without ttl` as nobody does);
//! `expired NAME` (expired long ago); `wait 10s`; `used up` (all numbers of the term but one are used); `restart` (with
//! empty caches); `lead`, `follow`, `look away` (its watch is stalled), `look` and `look at NAME` (only), `relist` (it
//! looks at what there is, and not at what has happened since it looked away), `freeze` and `thaw` (it does nothing at
//! all meanwhile); and for the next write of a kind to an object `grant of NAME is CASE`, where CASE is
//! - `refused`: not done, and said so;
//! - `lost`: never arrives, and nobody answers;
//! - `unanswered`: done, but nobody answers;
//! - `late`: nobody answers, and it arrives at `arrive`;
//! - `slow`: arrives and is answered at `arrive` (or at `arrive one`, when it is the first);
//! - `unheard`: done, and answered at `arrive`;
//! - `misheard`: done, but at `arrive` there is no answer, and what is read is from before it was done.
//!
//! `list is slow`: the next list shows what there was when it was asked for, at `page`, and ends at `listed`.
//!
//! `pod of NAME is CASE` says what a look at the pod of that claim shows from then on: `gone`, `ended` or `unknown`;
//! otherwise it lives, which gets no line. A claim with `pod=none` names no pod, one with `pod=whole` a whole pod, and
//! one with `namespace=other` a pod that is there and is `pod of other/NAME`. `unreadable NAME` makes a claim
//! unreadable, `readable NAME` readable again.
//!
//! `state` shows the objects and `when` the time of the next look. `B: ...` is said of a second operator.

mod fake;
mod rwlock;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    time::Duration,
};

use fake::{Api, Event, Kept, Operator};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konductor_api::{
    ClaimPhase, ClaimSpec, ClaimStatus, GoDuration, Lease, LeaseRequestSpec, LeaseSpec, LockClaim, PermitSpec,
    PodReference, Queueing, REVOKE_ANNOTATION, Semaphore, SemaphoreSpec,
    arbiter::{
        Claim, ClaimChange, ClaimState, ClaimWrite, Look, Now, Outcome, ParentChange, ParentState, ParentWrite, Plan,
        PodSight, Write, decide,
    },
    limits::{DEFAULT_TTL, MAX_SEQUENCE, SEQUENCE_BITS},
};
use kube::{
    Resource,
    core::object::{HasSpec, HasStatus},
};
use rwlock::{RwLock, RwLockRequestSpec, RwLockSpec};

/// The wall clock at the start of each script, in unix seconds: the first term of a semaphore created then.
const START: i64 = 1000;

/// A kind of lock that scripts can be about.
trait Scripted: Kept {
    /// What is created unless said otherwise.
    fn default_spec() -> Self::Spec;

    /// Sets a field; whether there is one of this name.
    fn set(spec: &mut Self::Spec, field: &str, value: &str) -> bool;

    /// A claim on `s`; whether each field has been taken.
    fn claim_spec(claim: ClaimSpec, fields: &[(&str, &str)]) -> <Self::Claim as HasSpec>::Spec;

    /// What people see of it.
    fn show(&self) -> String;
}

impl Scripted for Semaphore {
    fn default_spec() -> SemaphoreSpec {
        SemaphoreSpec { permits: 1, ttl: GoDuration(DEFAULT_TTL), queueing: Queueing::StrictFIFO }
    }

    fn set(spec: &mut SemaphoreSpec, field: &str, value: &str) -> bool {
        match (field, value) {
            ("permits", _) => spec.permits = number(value) as u32,
            ("ttl", _) => spec.ttl = value.parse().unwrap(),
            ("queueing", "StrictFIFO") => spec.queueing = Queueing::StrictFIFO,
            ("queueing", "BestEffortFIFO") => spec.queueing = Queueing::BestEffortFIFO,
            _ => return false,
        }
        true
    }

    fn claim_spec(claim: ClaimSpec, fields: &[(&str, &str)]) -> PermitSpec {
        let mut permits = 1;
        for (field, value) in fields {
            assert_eq!(*field, "permits", "no such field of a permit");
            permits = number(value) as u32;
        }
        PermitSpec { semaphore: "s".into(), permits, claim }
    }

    fn show(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let [in_use, available, waiting, term, settled] =
            [status.in_use, status.available, status.waiting, status.term, status.settled_term]
                .map(Option::unwrap_or_default);
        let permits = self.spec.permits;
        format!(
            "of {permits}: {in_use} in use, {available} available, {waiting} waiting, term {term}, settled {settled}"
        )
    }
}

impl Scripted for Lease {
    fn default_spec() -> LeaseSpec {
        LeaseSpec { ttl: GoDuration(DEFAULT_TTL) }
    }

    fn set(spec: &mut LeaseSpec, field: &str, value: &str) -> bool {
        if field == "ttl" {
            spec.ttl = value.parse().unwrap();
        }
        field == "ttl"
    }

    fn claim_spec(claim: ClaimSpec, fields: &[(&str, &str)]) -> LeaseRequestSpec {
        assert!(fields.is_empty(), "no such fields of a lease request: {fields:?}");
        LeaseRequestSpec { lease: "s".into(), claim }
    }

    fn show(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let phase = status.phase.map_or("unseen".into(), |phase| format!("{phase:?}"));
        let holder = status.holder.map_or(String::new(), |holder| format!(" by {holder}"));
        let token = status.fencing_token.map(|token| format!(", {}", show_token(token))).unwrap_or_default();
        let since =
            status.acquired_at.map(|since| format!(" since {}s", since.0.as_second() - START)).unwrap_or_default();
        let [waiting, term, settled] =
            [status.waiting, status.term, status.settled_term].map(Option::unwrap_or_default);
        format!("{phase}{holder}{since}{token}, {waiting} waiting, term {term}, settled {settled}")
    }
}

impl Scripted for RwLock {
    fn default_spec() -> RwLockSpec {
        RwLockSpec {}
    }

    fn set(_spec: &mut RwLockSpec, _field: &str, _value: &str) -> bool {
        false
    }

    fn claim_spec(claim: ClaimSpec, fields: &[(&str, &str)]) -> RwLockRequestSpec {
        let write = match fields {
            [] => false,
            [("write", write)] => write.parse().unwrap(),
            _ => panic!("no such fields of a claim on a rwlock: {fields:?}"),
        };
        RwLockRequestSpec { rwlock: "s".into(), write, claim }
    }

    fn show(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let held = if status.written { "written".into() } else { format!("{} read", status.readers) };
        let holders = status.holders.join(" ");
        format!("{held} [{holders}], {} waiting, term {}, settled {}", status.waiting, status.term, status.settled_term)
    }
}

/// What is to become of a write.
struct Fault {
    operator: usize,
    /// `grant of a`.
    what: String,
    case: String,
}

/// A write that is on its way.
struct OnItsWay {
    operator: usize,
    write: Write,
    fate: Fate,
}

enum Fate {
    /// Arrives, and is answered.
    Answered,
    /// Arrives, and nobody hears of it.
    Unanswered,
    /// Has arrived, and is now answered.
    Done(Event),
    /// Has arrived; nobody answers, and this is what was read before.
    Misheard(Event),
}

struct Script<L: Kept> {
    at: Duration,
    api: Api<L>,
    operators: Vec<Operator>,
    looking: Vec<bool>,
    frozen: Vec<bool>,
    looks_again: Vec<Option<Duration>>,
    faults: Vec<Fault>,
    on_their_way: Vec<OnItsWay>,
    slow_list: Vec<bool>,
    /// Slow lists that have not ended: their terms, and the claims that they have yet to show.
    lists: Vec<Option<(u64, Vec<Event>)>>,
    /// The UID of the first parent of the script.
    first_parent: Option<String>,
    /// What a look at the pod of a claim of this name shows; unless said otherwise, that it lives.
    pods: BTreeMap<String, PodSight>,
    out: String,
}

impl<L: Scripted> Script<L> {
    fn new(two: bool) -> Self {
        let count = if two { 2 } else { 1 };
        Self {
            at: Duration::ZERO,
            api: Api::new(),
            operators: vec![Operator::new::<L>(); count],
            looking: vec![true; count],
            frozen: vec![false; count],
            looks_again: vec![None; count],
            faults: vec![],
            on_their_way: vec![],
            slow_list: vec![false; count],
            lists: vec![None; count],
            first_parent: None,
            pods: BTreeMap::new(),
            out: String::new(),
        }
    }

    fn now(&self) -> Now {
        let wall = Timestamp::new(START, 0).unwrap() + self.at;
        Now { monotonic: self.at, wall }
    }

    fn say(&mut self, operator: usize, what: &str) {
        let who = match (self.operators.len(), operator) {
            (1, _) => "",
            (_, 0) => "A ",
            _ => "B ",
        };
        writeln!(self.out, "{who}{} {what}", GoDuration(self.at)).unwrap();
    }

    /// One line of commands.
    fn line(&mut self, line: &str) {
        for command in line.split(';') {
            let command = command.trim();
            match command.strip_prefix("B: ") {
                Some(command) => self.command(1, command),
                None => self.command(0, command),
            }
        }
        self.work();
    }

    fn command(&mut self, operator: usize, command: &str) {
        let now = self.now();
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            [kind, ..] if kind == L::KIND.name => self.put_parent(|lock| set::<L>(lock.spec_mut(), &words[1..])),
            ["clear", "status"] => self.put_parent(|lock| *lock.status_mut() = None),
            ["list", "is", "slow"] => self.slow_list[operator] = true,
            ["page" | "listed"] => self.show_list(operator, words[0] == "listed"),
            ["delete", kind] if kind == L::KIND.name => self.api.delete_parent(),
            ["claim", name, ..] => {
                for name in names(name) {
                    self.api.create_claim(&name, &claim::<L>(&name, &words[2..]), now.wall);
                }
            }
            ["renew", name] => {
                // A client's clock may be anything; only that the value is another one counts.
                self.api
                    .edit_claim(name, |claim| L::Claim::claim_mut(claim.spec_mut()).renew_time = Some(now.wall.into()));
            }
            ["edit", name] => self.api.edit_claim(name, |_| ()),
            ["revoke", name, ref reason @ ..] => {
                let reason = reason.join(" ");
                self.api.edit_claim(name, |claim| {
                    claim.meta_mut().annotations = Some([(REVOKE_ANNOTATION.to_owned(), reason)].into());
                });
            }
            ["hold", "deletion", "of", name] => {
                self.api.edit_claim(name, |claim| claim.meta_mut().deletion_timestamp = Some(Time(now.wall)));
            }
            ["delete", name] => self.api.delete_claim(name),
            [name, "died"] => {
                let uid = self.api.claim(name).expect("a claim of this name").uid;
                self.operators[operator].view.holder_died(&uid, now);
            }
            ["grant", name, "in", "term", term, ref rest @ ..] => {
                let status = ClaimStatus {
                    phase: Some(ClaimPhase::Granted),
                    term: Some(number(term)),
                    parent_uid: self.first_parent.clone(),
                    fencing_token: Some(number(term) << SEQUENCE_BITS),
                    ttl: (rest != ["without", "ttl"]).then_some(GoDuration(DEFAULT_TTL)),
                    ..ClaimStatus::default()
                };
                self.api.edit_claim(name, |claim| *claim.status_mut() = Some(status));
            }
            ["pod", "of", name, "is", sight] => {
                let sight = match sight {
                    "gone" => PodSight::Gone,
                    "ended" => PodSight::Ended,
                    "unknown" => PodSight::Unknown,
                    _ => panic!("no such sight: {sight}"),
                };
                self.pods.extend(names(name).into_iter().map(|name| (name, sight)));
            }
            [change, "of", name, "is", case] => {
                self.faults.push(Fault { operator, what: format!("{change} of {name}"), case: case.into() });
            }
            ["expired", name] => {
                for name in names(name) {
                    self.api.create_claim(&name, &claim::<L>(&name, &[]), now.wall);
                    let status = ClaimStatus { phase: Some(ClaimPhase::Expired), ..ClaimStatus::default() };
                    self.api.edit_claim(&name, |claim| *claim.status_mut() = Some(status));
                }
            }
            ["unreadable", name] => self.api.make_unreadable(name, true),
            ["readable", name] => self.api.make_unreadable(name, false),
            ["arrive"] => self.arrive(usize::MAX),
            ["arrive", "one"] => self.arrive(1),
            ["wait", duration] => self.wait(duration.parse::<GoDuration>().unwrap().0),
            ["used", "up"] => self.use_up(operator),
            ["restart"] => {
                let mut operator_anew = Operator::new::<L>();
                operator_anew.relist(&self.api, now);
                self.operators[operator] = operator_anew;
            }
            ["lead"] => self.operators[operator].view.lead(now),
            ["follow"] => self.operators[operator].view.stand_down(),
            ["freeze"] => self.frozen[operator] = true,
            ["thaw"] => self.frozen[operator] = false,
            ["look", "away"] => self.looking[operator] = false,
            ["look"] => self.looking[operator] = true,
            ["relist"] => {
                self.operators[operator].relist(&self.api, now);
                self.looking[operator] = true;
            }
            ["look", "at", name] => {
                let claim = self.api.claim(name).expect("a claim of this name");
                self.operators[operator].view.observe_claim(claim, now);
            }
            ["state"] => self.state(),
            ["when"] => {
                let when = self.looks_again[operator].map(|at| format!("looks again at {}", GoDuration(at)));
                self.say(operator, when.as_deref().unwrap_or("waits for something to happen"));
            }
            _ => panic!("no such command: {command}"),
        }
    }

    /// Shows what a slow list shows, and its end.
    fn show_list(&mut self, operator: usize, ends: bool) {
        let now = self.now();
        let (term, claims) = self.lists[operator].take().expect("a slow list");
        if ends {
            self.operators[operator].listed(term, claims, now);
        } else {
            self.operators[operator].paged(term, claims, now);
            self.lists[operator] = Some((term, vec![]));
        }
    }

    fn put_parent(&mut self, edit: impl FnOnce(&mut L)) {
        self.api.put_parent(&L::default_spec(), self.now().wall, edit);
        self.first_parent = self.first_parent.take().or_else(|| self.api.parent().map(|parent| parent.uid.to_string()));
    }

    /// Lets the operators look and do, until nothing is left to do now.
    fn work(&mut self) {
        for _ in 0..1000 {
            let mut idle = true;
            for operator in 0..self.operators.len() {
                if self.frozen[operator] {
                    continue;
                }
                let seen = if self.looking[operator] { usize::MAX } else { 0 };
                let now = self.now();
                self.operators[operator].watch(&self.api, seen, now);
                idle &= self.act(operator);
            }
            if idle {
                return;
            }
        }
        panic!("the operators never come to rest");
    }

    /// One plan, carried out. Returns whether there was nothing to do.
    fn act(&mut self, operator: usize) -> bool {
        let now = self.now();
        let plan = decide(&self.operators[operator].view, now);
        self.operators[operator].view.sent(&plan, now);
        self.looks_again[operator] = plan.look_again;
        let idle = plan.writes.is_empty() && plan.list.is_none() && plan.looks.is_empty();
        assert!(!idle || plan.look_again.is_none_or(|at| at > now.monotonic), "looks again now, and would for ever");
        for write in plan.writes {
            self.carry_out(operator, write);
        }
        for look in plan.looks {
            self.look(operator, &look);
        }
        if let Some(term) = plan.list {
            if std::mem::take(&mut self.slow_list[operator]) {
                self.say(operator, "list (slow)");
                self.lists[operator] = Some((term, self.api.list()));
            } else {
                self.say(operator, "list");
                self.operators[operator].listed(term, self.api.list(), now);
            }
        }
        idle
    }

    /// Looks at the pod of a claim. That it lives is not worth a line.
    fn look(&mut self, operator: usize, look: &Look) {
        let now = self.now();
        let pod = match look.pod.namespace.as_str() {
            "" => look.pod.name.clone(),
            namespace => format!("{namespace}/{}", look.pod.name),
        };
        let sight = self.pods.get(&pod).copied().unwrap_or(PodSight::Lives);
        if sight != PodSight::Lives {
            self.say(operator, &format!("look at the pod of {pod}: {}", format!("{sight:?}").to_lowercase()));
        }
        self.operators[operator].view.looked(&look.claim, sight, now);
    }

    fn carry_out(&mut self, operator: usize, write: Write) {
        let now = self.now();
        let name = match &write {
            Write::Parent(_) => L::KIND.name,
            Write::Claim(write) => &write.name,
        };
        let (what, details) = (format!("{} of {name}", write.name()), describe(&write));
        let fault = self.faults.iter().position(|fault| fault.operator == operator && fault.what == what);
        let case = fault.map_or(String::new(), |index| self.faults.remove(index).case);
        let suffix = if case.is_empty() { String::new() } else { format!(" ({case})") };
        self.say(operator, &format!("{details}{suffix}"));
        match case.as_str() {
            "" => self.answer(operator, &write),
            "refused" => self.operators[operator].fail(&write, Outcome::NotApplied, self.api.read(&write), now),
            "lost" => self.operators[operator].fail(&write, Outcome::Unknown, self.api.read(&write), now),
            "unanswered" => {
                self.api.write(&write, now.wall);
                self.operators[operator].fail(&write, Outcome::Unknown, self.api.read(&write), now);
            }
            "late" => {
                self.operators[operator].fail(&write, Outcome::Unknown, self.api.read(&write), now);
                self.on_their_way.push(OnItsWay { operator, write, fate: Fate::Unanswered });
            }
            "slow" => self.on_their_way.push(OnItsWay { operator, write, fate: Fate::Answered }),
            "unheard" => {
                let applied = self.api.write(&write, now.wall).expect("a write that takes effect");
                self.on_their_way.push(OnItsWay { operator, write, fate: Fate::Done(applied) });
            }
            "misheard" => {
                let before = self.api.read(&write);
                self.api.write(&write, now.wall).expect("a write that takes effect");
                self.on_their_way.push(OnItsWay { operator, write, fate: Fate::Misheard(before) });
            }
            _ => panic!("no such case: {case}"),
        }
    }

    fn answer(&mut self, operator: usize, write: &Write) {
        if let Some(applied) = self.api.write(write, self.now().wall) {
            return self.acknowledge(operator, write, applied);
        }
        self.say(operator, &format!("conflict: {}", describe(write)));
        let (reading, now) = (self.api.read(write), self.now());
        self.operators[operator].fail(write, Outcome::NotApplied, reading, now);
    }

    fn acknowledge(&mut self, operator: usize, write: &Write, applied: Event) {
        let now = self.now();
        self.operators[operator].acknowledge(write, applied, now);
        if let Write::Claim(ClaimWrite { happening: Some(happening), .. }) = write {
            self.say(operator, &format!("event {}: {}", happening.reason, happening.message));
        }
    }

    fn arrive(&mut self, count: usize) {
        let count = count.min(self.on_their_way.len());
        let rest = self.on_their_way.split_off(count);
        for OnItsWay { operator, write, fate } in std::mem::replace(&mut self.on_their_way, rest) {
            self.say(operator, &format!("arrives: {}", describe(&write)));
            match fate {
                Fate::Answered => self.answer(operator, &write),
                Fate::Done(applied) => self.acknowledge(operator, &write, applied),
                Fate::Misheard(before) => {
                    let now = self.now();
                    self.operators[operator].fail(&write, Outcome::Unknown, before, now);
                }
                Fate::Unanswered if self.api.write(&write, self.now().wall).is_some() => {}
                Fate::Unanswered => self.say(operator, &format!("conflict: {}", describe(&write))),
            }
        }
    }

    /// Time passes; the operators look when they said they would.
    fn wait(&mut self, duration: Duration) {
        let end = self.at + duration;
        self.work();
        let next = |script: &Self| {
            let awake = script.looks_again.iter().zip(&script.frozen).filter(|(_, frozen)| !**frozen);
            awake.filter_map(|(at, _)| *at).filter(|at| *at <= end).min()
        };
        while let Some(at) = next(self) {
            self.at = self.at.max(at);
            self.work();
        }
        self.at = end;
    }

    /// All numbers of the term but the last are given away, as a million grants would.
    fn use_up(&mut self, operator: usize) {
        let now = self.now();
        let write = Write::Claim(ClaimWrite {
            uid: "elsewhere".into(),
            name: "elsewhere".into(),
            version: 0,
            change: ClaimChange::Grant(ClaimState::default()),
            happening: None,
        });
        let claim = self.api.claims().pop().expect("a claim to learn the shape from");
        let view = &mut self.operators[operator].view;
        view.observe_claim(Claim { uid: "elsewhere".into(), state: ClaimState::default(), ..claim }, now);
        let plan = Plan { writes: vec![write], ..Plan::default() };
        (0..MAX_SEQUENCE).for_each(|_| view.sent(&plan, now));
        view.claim_gone("elsewhere", now);
    }

    fn state(&mut self) {
        let mut lines = VecDeque::new();
        let parent = self.api.parent();
        match self.api.lock() {
            None => lines.push_back(format!("no {}", L::KIND)),
            Some(lock) => lines.push_back(format!("{} {}", L::KIND, lock.show())),
        }
        for claim in self.api.claims() {
            let phase = claim.state.phase.map_or("unseen".into(), |phase| format!("{phase:?}"));
            let granted = matches!(claim.state.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking));
            let term = parent.as_ref().map_or(0, |parent| parent.state.term);
            let same = parent.as_ref().is_some_and(|parent| claim.state.parent.as_ref() == Some(&parent.uid));
            let confirmed = match (granted, same && claim.state.term == term) {
                (false, _) => "",
                (true, true) => ", confirmed",
                (true, false) => ", not confirmed",
            };
            let message = claim.state.message.map_or(String::new(), |message| format!(": {message}"));
            lines.push_back(format!("{} {phase}{confirmed}{message}", claim.name));
        }
        for line in lines {
            writeln!(self.out, "  {line}").unwrap();
        }
    }
}

fn show_token(token: u64) -> String {
    format!("token {}/{}", token >> SEQUENCE_BITS, token & MAX_SEQUENCE)
}

/// A write in words.
fn describe(write: &Write) -> String {
    let what = write.name();
    match write {
        Write::Parent(ParentWrite { change: ParentChange::Raise(state), .. }) => {
            format!("{what} to term {}, settled {}", state.term, state.settled_term)
        }
        Write::Parent(ParentWrite { change: ParentChange::Settle(state), .. }) => {
            format!("{what} term {}", state.settled_term)
        }
        Write::Parent(ParentWrite { change: ParentChange::Summarize(ParentState { summary, .. }), .. }) => format!(
            "{what}: {} in use, {} available, {} waiting, held by [{}]",
            summary.in_use,
            summary.available,
            summary.waiting,
            summary.holders.join(" ")
        ),
        Write::Claim(ClaimWrite { name, change, .. }) => {
            let Some(state) = change.state() else { return format!("{what} {name}") };
            let token = state.token.map(show_token);
            let mut facts = vec![];
            match change {
                ClaimChange::Grant(_) => {
                    facts.extend([token, state.ttl.map(|ttl| format!("ttl {}", GoDuration(ttl)))]);
                }
                ClaimChange::Restamp(_) => facts.extend([Some(format!("term {}", state.term)), token]),
                ClaimChange::Tell(_) => {
                    facts.extend([state.ahead.map(|ahead| format!("{ahead} ahead")), state.message.clone()]);
                }
                _ => facts.push(state.message.clone()),
            }
            format!("{what} {name}: {}", facts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
    }
}

/// `a`, or `a1` to `a5` for `a*5`.
fn names(text: &str) -> Vec<String> {
    match text.split_once('*') {
        Some((name, count)) => (1..=number(count)).map(|number| format!("{name}{number}")).collect(),
        None => vec![text.into()],
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

fn set<L: Scripted>(spec: &mut L::Spec, words: &[&str]) {
    for word in words {
        let set = word.split_once('=').is_some_and(|(field, value)| L::set(spec, field, value));
        assert!(set, "no such field of a {}: {word}", L::KIND);
    }
}

fn claim<L: Scripted>(name: &str, words: &[&str]) -> <L::Claim as HasSpec>::Spec {
    let mut claim = ClaimSpec {
        priority: 0,
        holder: format!("{name}'s-job"),
        instance: name.into(),
        pod: Some(PodReference { container: "main".into(), start: "1".into(), ..PodReference::whole(name, name) }),
        ttl: None,
        renew_time: None,
    };
    let mut rest = vec![];
    for word in words {
        match word.split_once('=') {
            Some(("priority", value)) => claim.priority = value.parse().unwrap(),
            Some(("pod", "none")) => claim.pod = None,
            Some(("pod", "whole")) => claim.pod = Some(PodReference::whole(name, name)),
            Some(("namespace", other)) => claim.pod.as_mut().expect("a pod").namespace = other.into(),
            Some(("ttl", value)) => claim.ttl = Some(value.parse().unwrap()),
            Some(other) => rest.push(other),
            None => panic!("no such field of a claim: {word}"),
        }
    }
    L::claim_spec(claim, &rest)
}

/// Plays a file and returns it with the output as it is now.
fn play<L: Scripted>(text: &str) -> String {
    konductor_golden::replay_sections(text, |lines| {
        let mut script = Script::<L>::new(lines.iter().any(|line| line.contains("B: ")));
        move |line| {
            script.line(line);
            std::mem::take(&mut script.out)
        }
    })
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    konductor_golden::check_folder(folder, |name, text| match name {
        "lease" => play::<Lease>(text),
        "rwlock" => play::<RwLock>(text),
        _ => play::<Semaphore>(text),
    });
}
