//! Barriers and arrivals, without a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use jiff::Timestamp;
use konductor_api::{RendezvousPhase, arbiter::Now, limits::RETRY_AFTER};
use konductor_cluster::{
    Refusal, RequestError,
    follow::{Deleted, Event},
    object::{Lenient, NO_VERSION},
};
use serde_json::{Value, json};

use super::{
    Barriers,
    arrivals::{Adoption, ArrivalObject, Arrivals, Arrived, BarrierObject},
    errand::{self, Errand},
    round::{self, Listed, Target},
};
use crate::{
    clock::Clock,
    engine::{Engine, Ticket},
    events::Recorder,
    key::{Key, ParentKey},
    metrics::Metrics,
    waitable::{self, Answer, Chore, Next, Purpose, Request, Seen, Verdict, Waitables},
};

const START: i64 = 1_800_000_000;

fn at(own: u64, wall: i64) -> Now {
    Now { monotonic: Duration::from_secs(own), wall: Timestamp::from_second(START + wall).expect("a time") }
}

fn key() -> Key {
    key_in("n")
}

fn key_in(namespace: &str) -> Key {
    ParentKey::new(namespace, "b").into()
}

fn barrier(uid: &str, spec: &Value) -> BarrierObject {
    barrier_at(uid, spec, &Value::Null)
}

fn barrier_at(uid: &str, spec: &Value, status: &Value) -> BarrierObject {
    let metadata = json!({ "namespace": "n", "name": "b", "uid": uid, "generation": 1, "resourceVersion": "1",
        "creationTimestamp": Timestamp::from_second(START).expect("a time").to_string() });
    let barrier = BarrierObject::read(&json!({ "metadata": metadata, "spec": spec, "status": status }).to_string());
    barrier.expect("an object").expect("a barrier")
}

/// An arrival of this key, created so many seconds after the start, owned by the barrier with this UID.
fn arrival(name: &str, owner: Option<&str>, second: i64) -> Lenient<Arrived> {
    arrival_in("n", name, owner, second)
}

fn arrival_in(namespace: &str, name: &str, owner: Option<&str>, second: i64) -> Lenient<Arrived> {
    let owners: Vec<_> = owner
        .iter()
        .map(|uid| json!({ "apiVersion": "konductor.io/v1", "kind": "Barrier", "name": "b", "uid": uid }))
        .collect();
    let metadata = json!({ "namespace": namespace, "name": name, "uid": name, "resourceVersion": "1", "ownerReferences": owners,
        "creationTimestamp": Timestamp::from_second(START + second).expect("a time").to_string() });
    let arrival = json!({ "metadata": metadata, "spec": { "barrier": "b", "holder": name, "key": name } });
    Arrived::of(ArrivalObject::read(&arrival.to_string()).expect("an object"))
}

fn arrive(arrivals: &mut Arrivals, name: &str, owner: Option<&str>, now: Now) {
    arrivals.take(Event::Apply(arrival(name, owner, 0)), now);
}

fn settle(arrivals: &mut Arrivals, budget: usize) -> usize {
    let mut most = 0;
    for _ in 0..100_000 {
        let turn = arrivals.work(budget);
        most = most.max(turn.looks);
        if !turn.more {
            return most;
        }
    }
    panic!("no end");
}

fn arrived(arrivals: &Arrivals, barrier: &BarrierObject) -> Option<u64> {
    let plan = arrivals.decide(&key(), barrier, at(1, 1))?;
    plan.write.and_then(|write| write.status.arrived)
}

/// With everything listed.
fn listed() -> Arrivals {
    let mut arrivals = Arrivals::default();
    arrivals.barriers_listed();
    arrivals.take(Event::Init, at(0, 0));
    arrivals.take(Event::InitDone { version: 1 }, at(0, 0));
    settle(&mut arrivals, 100);
    arrivals
}

#[test]
fn those_who_come_before_their_barrier_are_counted_in_pieces_and_changes_meanwhile_are_not_missed() {
    let mut arrivals = listed();
    for number in 0..1000 {
        arrive(&mut arrivals, &format!("{number:04}"), None, at(0, 0));
    }
    let barrier = barrier("one", &json!({ "expected": 2000 }));
    arrivals.barrier(&key(), Some(&barrier), at(0, 0));
    assert!(arrivals.work(100).more);
    assert_eq!(arrived(&arrivals, &barrier), None);
    // Behind the count and before it.
    for uid in ["0000", "0999"] {
        arrivals.take(
            Event::Delete(Deleted { namespace: "n".into(), name: uid.into(), uid: uid.into(), version: 1 }),
            at(0, 0),
        );
    }
    for name in ["0000a", "0999a"] {
        arrive(&mut arrivals, name, None, at(0, 0));
    }
    assert_eq!(settle(&mut arrivals, 100), 100);
    assert_eq!(arrived(&arrivals, &barrier), Some(1000));
    assert!(arrivals.take_marked().contains(&key()));
}

#[test]
fn a_barrier_of_the_same_name_has_its_own_arrivals() {
    let mut arrivals = listed();
    let (one, two) = (barrier("one", &json!({ "expected": 9 })), barrier("two", &json!({ "expected": 9 })));
    arrivals.barrier(&key(), Some(&one), at(0, 0));
    arrive(&mut arrivals, "a", Some("one"), at(0, 0));
    arrive(&mut arrivals, "b", Some("two"), at(0, 0));
    arrive(&mut arrivals, "c", None, at(0, 0));
    assert_eq!(arrived(&arrivals, &one), Some(2));
    arrivals.barrier(&key(), Some(&two), at(0, 0));
    settle(&mut arrivals, 100);
    assert_eq!(arrived(&arrivals, &two), Some(2));
    arrivals.barrier(&key(), None, at(0, 0));
    assert_eq!(arrived(&arrivals, &two), None);
}

#[test]
fn what_a_list_does_not_show_any_more_is_taken_away_in_pieces() {
    let mut arrivals = listed();
    let barrier = barrier("one", &json!({ "expected": 2000 }));
    arrivals.barrier(&key(), Some(&barrier), at(0, 0));
    for number in 0..1000 {
        arrive(&mut arrivals, &format!("{number:04}"), Some("one"), at(0, 0));
    }
    arrivals.take(Event::Init, at(0, 0));
    arrive(&mut arrivals, "0500", Some("one"), at(0, 0));
    arrivals.take(Event::InitDone { version: 1 }, at(0, 0));
    assert!(settle(&mut arrivals, 100) <= 101);
    assert_eq!(arrived(&arrivals, &barrier), Some(1));
}

#[test]
fn what_only_a_first_list_that_broke_off_has_shown_is_not_there() {
    let mut arrivals = Arrivals::default();
    arrivals.barriers_listed();
    let barrier = barrier("one", &json!({ "expected": 2 }));
    arrivals.barrier(&key(), Some(&barrier), at(0, 0));
    arrivals.take(Event::Init, at(0, 0));
    arrive(&mut arrivals, "gone", Some("one"), at(0, 0));
    arrivals.take(Event::Init, at(0, 0));
    arrive(&mut arrivals, "there", Some("one"), at(0, 0));
    arrivals.take(Event::InitDone { version: 1 }, at(0, 0));
    assert_eq!(arrived(&arrivals, &barrier), None, "nothing is said before the first is taken away");
    settle(&mut arrivals, 100);
    assert_eq!(arrived(&arrivals, &barrier), Some(1));
}

#[test]
fn by_a_list_in_which_something_could_not_be_read_nobody_is_gone() {
    let mut arrivals = listed();
    let barrier = barrier("one", &json!({ "expected": 2 }));
    arrivals.barrier(&key(), Some(&barrier), at(0, 0));
    arrive(&mut arrivals, "there", Some("one"), at(0, 0));
    arrivals.take(Event::Init, at(0, 0));
    arrivals.take(Event::InitDone { version: NO_VERSION }, at(0, 0));
    settle(&mut arrivals, 100);
    assert_eq!(arrived(&arrivals, &barrier), Some(1));
}

#[test]
fn a_standby_keeps_no_orphans_and_a_new_leader_finds_them_all() {
    let mut arrivals = listed();
    arrivals.barrier(&key(), Some(&barrier("one", &json!({ "expected": 9 }))), at(0, 0));
    for number in 0..5000 {
        arrive(&mut arrivals, &format!("{number:04}"), None, at(0, 0));
    }
    arrive(&mut arrivals, "owned", Some("one"), at(0, 0));
    settle(&mut arrivals, 100);
    assert_eq!(arrivals.next_adoption(at(0, 0)), None);
    arrivals.lead(true, at(0, 0));
    let mut adopted = std::collections::BTreeSet::new();
    loop {
        settle(&mut arrivals, 100);
        let Some(adoption) = arrivals.next_adoption(at(0, 0)) else { break };
        assert_eq!(adoption.barrier_uid, "one");
        // The watch shows it as it is now.
        arrive(&mut arrivals, &adoption.name, Some("one"), at(0, 0));
        arrivals.adopted(&adoption.uid, true, at(0, 0));
        assert!(adopted.insert(adoption.name));
    }
    assert_eq!(adopted.len(), 5000);
    arrive(&mut arrivals, "late", None, at(0, 0));
    let late = arrivals.next_adoption(at(0, 0)).expect("one that came later");
    arrivals.adopted(&late.uid, false, at(0, 0));
    assert_eq!(arrivals.next_adoption(at(0, 0)), None);
    assert_eq!(arrivals.next_adoption(at(1, 1)), Some(late));
}

#[test]
fn a_wall_clock_that_is_ahead_opens_no_quorum() {
    let mut arrivals = listed();
    let spec = json!({ "expected": 2, "quorum": 1, "timeout": "10m" });
    let barrier = barrier("one", &spec);
    arrivals.barrier(&key(), Some(&barrier), at(0, 0));
    arrive(&mut arrivals, "a", Some("one"), at(100, 0));
    let phase = |arrivals: &Arrivals, now| {
        let plan = arrivals.decide(&key(), &barrier, now).expect("a plan");
        plan.write.and_then(|write| write.status.phase)
    };
    assert_eq!(phase(&arrivals, at(110, 86400)), Some(RendezvousPhase::Waiting));
    // It is the same arrival when its owner was noted.
    arrive(&mut arrivals, "a", None, at(400, 86400));
    assert_eq!(phase(&arrivals, at(699, 86400)), Some(RendezvousPhase::Waiting));
    assert_eq!(phase(&arrivals, at(700, 86400)), Some(RendezvousPhase::Open));
    assert_eq!(phase(&arrivals, at(700, 0)), Some(RendezvousPhase::Waiting));
}

#[test]
fn a_quorum_does_not_open_because_its_time_has_run_out_in_an_outage() {
    let mut arrivals = listed();
    let barrier = barrier("one", &json!({ "expected": 2, "quorum": 1, "timeout": "10m" }));
    arrivals.barrier(&key(), Some(&barrier), at(0, 0));
    arrivals.lead(true, at(0, 0));
    arrive(&mut arrivals, "a", Some("one"), at(100, 100));
    let phase = |arrivals: &Arrivals, now| {
        let plan = arrivals.decide(&key(), &barrier, now).expect("a plan");
        plan.write.and_then(|write| write.status.phase)
    };
    // The leader got no answers, and those who were to arrive got none either.
    arrivals.lead(false, at(500, 500));
    arrivals.lead(true, at(1000, 1000));
    assert_eq!(phase(&arrivals, at(1000, 1000)), Some(RendezvousPhase::Waiting));
    assert_eq!(phase(&arrivals, at(1029, 1029)), Some(RendezvousPhase::Waiting));
    arrive(&mut arrivals, "b", Some("one"), at(1029, 1029));
    assert_eq!(phase(&arrivals, at(1029, 1029)), Some(RendezvousPhase::Open));
    arrivals.take(gone("b"), at(1029, 1029));
    assert_eq!(phase(&arrivals, at(1030, 1030)), Some(RendezvousPhase::Open), "by its quorum");
}

fn gone(name: &str) -> Event<Lenient<Arrived>> {
    Event::Delete(Deleted { namespace: "n".into(), name: name.into(), uid: name.into(), version: 2 })
}

#[test]
fn arrivals_that_cannot_be_adopted_leave_those_of_other_namespaces_room_and_have_their_turn_themselves() {
    let mut arrivals = listed();
    for namespace in ["a", "z"] {
        let one = barrier(namespace, &json!({ "expected": 9 }));
        arrivals.barrier(&key_in(namespace), Some(&one), at(0, 0));
    }
    for number in 0..2000 {
        arrivals.take(Event::Apply(arrival_in("a", &format!("a{number:04}"), None, 0)), at(0, 0));
    }
    for number in 0..300 {
        arrivals.take(Event::Apply(arrival_in("z", &format!("z{number:03}"), None, 0)), at(0, 0));
    }
    arrivals.lead(true, at(0, 0));
    let (mut adopted, mut attempts) = (BTreeSet::new(), BTreeMap::<_, u32>::new());
    let mut try_all = |second: u64| {
        let now = at(second, 0);
        loop {
            settle(&mut arrivals, 100);
            let Some(Adoption { barrier, name, uid, .. }) = arrivals.next_adoption(now) else { break };
            let fails = barrier.namespace == "a";
            if fails {
                *attempts.entry(name).or_default() += 1;
            } else {
                arrivals.take(Event::Apply(arrival_in("z", &name, Some("z"), 0)), now);
                adopted.insert(name);
            }
            arrivals.adopted(&uid, !fails, now);
        }
        adopted.len()
    };
    assert_eq!(try_all(0), 300);
    for second in 1..2000 {
        try_all(second);
    }
    assert_eq!((attempts.len(), attempts.values().min(), attempts.values().max()), (2000, Some(&10), Some(&10)));
}

#[test]
fn an_arrival_that_has_changed_is_adopted_as_it_is_now() {
    let (barrier, name, uid) = (key(), "a".to_owned(), "u".into());
    let adoption = Adoption { barrier, barrier_uid: "one".into(), name, uid, version: 1 };
    let refused = |code, name: &str| {
        let refusal = Refusal { code, name: name.into(), ..Refusal::default() };
        Err(RequestError::Refused(refusal.into()))
    };
    let barriers = Barriers::new(&Metrics::new(Clock::start()));
    let outcomes = [(Ok(()), true), (refused(409, "a"), false), (refused(404, "a"), true), (refused(404, ""), false)];
    for (result, expected) in outcomes {
        let answer = errand::Answer::Adopted(result);
        let end = waitable::Errand::answered(Errand::Adopt(adoption.clone()), answer, &barriers, at(0, 0));
        assert!(matches!(end, Next::Done(Chore { report: (_, done), .. }) if done == expected));
    }
}

#[test]
fn an_arrival_that_cannot_be_read_has_not_arrived() {
    let odd = json!({ "metadata": { "namespace": "n", "name": "a", "uid": "a" }, "spec": { "barrier": 5 } });
    let odd = Event::Apply(Arrived::of(ArrivalObject::read(&odd.to_string()).expect("an object")));
    let one = barrier("one", &json!({ "expected": 9 }));
    let mut arrivals = listed();
    arrivals.barrier(&key(), Some(&one), at(0, 0));
    arrive(&mut arrivals, "a", Some("one"), at(0, 0));
    arrivals.take(odd, at(0, 0));
    assert_eq!(arrived(&arrivals, &one), Some(0));
}

/// Until it rests: answers every page with an arrival that does not go. Returns whether a page was asked for.
fn stuck(engine: &mut Engine<Waitables<Barriers>>, now: Now) -> bool {
    let mut asked = false;
    loop {
        let requests = engine.turn(now, || false);
        if requests.is_empty() && engine.next().is_none_or(|next| next > now.monotonic) {
            return asked;
        }
        for (ticket, request) in requests {
            let Request::Step(errand, change, errand::Request::Step(_, round::Step::Page { .. })) = request else {
                panic!("another request")
            };
            asked = true;
            let target = Target { name: "stuck".into(), uid: "stuck".into() };
            let one = Listed { target, deleted: Some(vec!["x.io/keep".into()]), arrived: None };
            let page = round::Answer::Page { listed: vec![one], continue_token: None };
            engine.answered(&ticket, Answer::Stepped(errand, change, errand::Answer::Step(Ok(page))), now);
        }
    }
}

#[test]
fn the_next_round_waits_out_no_long_pause_once_what_kept_it_is_gone() {
    let metrics = Metrics::new(Clock::start());
    let (recorder, _news) = Recorder::new(metrics.clone());
    let mut engine = Engine::new(Waitables::new(Barriers::new(&metrics), &metrics, &recorder));
    let status = json!({ "phase": "Open", "round": 1, "arrived": 0, "observedGeneration": 1,
        "openedAt": Timestamp::from_second(START).expect("a time").to_string() });
    let one = barrier_at("one", &json!({ "expected": 1, "resetAfter": "1s" }), &status);
    let start = at(100, 100);
    engine.observe(Seen::Other(Event::Init), start);
    // Of a former barrier of this name: it does not count, and has to go all the same.
    engine.observe(Seen::Other(Event::Apply(arrival("stuck", Some("former"), 0))), start);
    engine.observe(Seen::Other(Event::InitDone { version: 1 }), start);
    engine.observe(Seen::Parent(Event::Apply(Box::new(Ok(one)))), start);
    engine.lead(true, start);
    let mut asked = Vec::new();
    for second in 100..400 {
        if stuck(&mut engine, at(second, second.cast_signed())) {
            asked.push(second);
        }
    }
    // A second after the operator has seen that it is open.
    assert_eq!(asked, [101, 102, 104, 108, 116, 132, 164, 224, 284, 344]);
    engine.observe(Seen::Other(gone("stuck")), at(400, 400));
    stuck(&mut engine, at(400, 400));
    assert!(stuck(&mut engine, at(400 + RETRY_AFTER.as_secs(), 401)));
}

/// An engine that leads, with one barrier of version 1, and its first request: its status.
fn overtaken(start: Now) -> (Engine<Waitables<Barriers>>, BarrierObject) {
    let known = barrier("one", &json!({ "expected": 1 }));
    (listed_engine(&known, &[], start), known)
}

/// An engine that leads and has seen this barrier, at which these have arrived.
fn listed_engine(barrier: &BarrierObject, names: &[&str], start: Now) -> Engine<Waitables<Barriers>> {
    let metrics = Metrics::new(Clock::start());
    let (recorder, _news) = Recorder::new(metrics.clone());
    let mut engine = Engine::new(Waitables::new(Barriers::new(&metrics), &metrics, &recorder));
    engine.observe(Seen::Other(Event::Init), start);
    for name in names {
        engine.observe(Seen::Other(Event::Apply(arrival(name, Some("one"), 0))), start);
    }
    engine.observe(Seen::Other(Event::InitDone { version: 1 }), start);
    engine.observe(Seen::Parent(Event::Apply(Box::new(Ok(barrier.clone())))), start);
    engine.lead(true, start);
    engine
}

fn requests(engine: &mut Engine<Waitables<Barriers>>, now: Now) -> Vec<(Ticket, Request<Barriers>)> {
    (0..10).flat_map(|_| engine.turn(now, || false)).collect()
}

fn conflict(purpose: Purpose) -> Answer<Barriers> {
    let refusal = Refusal { code: 409, ..Refusal::default() };
    Answer::Patched(purpose, Verdict::Failed(RequestError::Refused(refusal.into())))
}

#[test]
fn who_is_overtaken_looks_at_what_is_there_and_decides_at_once() {
    let start = at(100, 100);
    let newer = |known: &BarrierObject, version| {
        let mut newer = known.clone();
        newer.metadata.version = version;
        Some(Box::new(Ok(newer)))
    };
    let (mut engine, known) = overtaken(start);
    let [(ticket, Request::Patch { purpose, version: 1, .. })] = &mut requests(&mut engine, start)[..] else {
        panic!("another request")
    };
    engine.answered(ticket, conflict(purpose.clone()), start);
    let [(ticket, Request::Look(_, purpose))] = &mut requests(&mut engine, start)[..] else {
        panic!("another request")
    };
    engine.answered(ticket, Answer::Looked(purpose.clone(), newer(&known, 2)), start);
    let found = requests(&mut engine, start);
    assert!(matches!(found[..], [(_, Request::Patch { version: 2, .. })]), "another request");
}

#[test]
fn what_the_watch_has_shown_meanwhile_is_not_looked_at() {
    let start = at(100, 100);
    let (mut engine, mut known) = overtaken(start);
    let [(ticket, Request::Patch { purpose, .. })] = &mut requests(&mut engine, start)[..] else {
        panic!("another request")
    };
    known.metadata.version = 2;
    engine.observe(Seen::Parent(Event::Apply(Box::new(Ok(known)))), start);
    engine.answered(ticket, conflict(purpose.clone()), start);
    let found = requests(&mut engine, start);
    assert!(matches!(found[..], [(_, Request::Patch { version: 2, .. })]), "another request");
}

#[test]
fn a_look_that_tells_nothing_new_puts_nothing_off() {
    let start = at(100, 100);
    for same in [true, false] {
        let (mut engine, known) = overtaken(start);
        let [(ticket, Request::Patch { purpose, .. })] = &mut requests(&mut engine, start)[..] else {
            panic!("another request")
        };
        engine.answered(ticket, conflict(purpose.clone()), start);
        let [(ticket, Request::Look(_, purpose))] = &mut requests(&mut engine, start)[..] else {
            panic!("another request")
        };
        // As it was known, or nothing at all.
        let found = same.then(|| Box::new(Ok(known)));
        engine.answered(ticket, Answer::Looked(purpose.clone(), found), start);
        let again = at(100 + RETRY_AFTER.as_secs(), 101);
        let found = requests(&mut engine, again);
        assert!(matches!(found[..], [(_, Request::Patch { version: 1, .. })]), "another request");
    }
}

#[test]
fn a_look_brings_back_nothing_that_was_deleted_meanwhile() {
    let start = at(100, 100);
    let (mut engine, known) = overtaken(start);
    let [(ticket, Request::Patch { purpose, .. })] = &mut requests(&mut engine, start)[..] else {
        panic!("another request")
    };
    engine.answered(ticket, conflict(purpose.clone()), start);
    let [(ticket, Request::Look(_, purpose))] = &mut requests(&mut engine, start)[..] else {
        panic!("another request")
    };
    let gone = Deleted { namespace: "n".into(), name: "b".into(), uid: "one".into(), version: 3 };
    engine.observe(Seen::Parent(Event::Delete(gone)), start);
    engine.answered(ticket, Answer::Looked(purpose.clone(), Some(Box::new(Ok(known)))), start);
    assert!(requests(&mut engine, at(200, 200)).is_empty());
    assert!(engine.sizes().iter().all(|(what, count)| *what != "parents" || *count == 0), "{:?}", engine.sizes());
}

/// An engine that leads since `start` and has just written what there is to say of this barrier, at which these have
/// arrived; and the barrier as it is then.
fn leading(mut known: BarrierObject, names: &[&str], start: Now) -> (Engine<Waitables<Barriers>>, BarrierObject) {
    let mut engine = listed_engine(&known, names, start);
    let [(ticket, Request::Patch { purpose, status, .. })] = &mut requests(&mut engine, start)[..] else {
        panic!("another request")
    };
    known.metadata.version += 1;
    known.status = serde_json::from_value(status.clone()).expect("a status");
    let written = Verdict::Written(Box::new(Ok(known.clone())));
    engine.answered(ticket, Answer::Patched(purpose.clone(), written), start);
    (engine, known)
}

/// A request of an errand that is under way.
struct Asked {
    ticket: Ticket,
    errand: Errand,
    purpose: Option<Purpose>,
    request: errand::Request,
}

impl Asked {
    /// The only request that there is to send.
    fn of(engine: &mut Engine<Waitables<Barriers>>, now: Now) -> Self {
        let mut all = requests(engine, now);
        let (Some((ticket, Request::Step(errand, purpose, request))), true) = (all.pop(), all.is_empty()) else {
            panic!("not one request of an errand")
        };
        Self { ticket, errand, purpose, request }
    }

    /// It is for a page of arrivals.
    fn page(engine: &mut Engine<Waitables<Barriers>>, now: Now) -> Self {
        let asked = Self::of(engine, now);
        assert!(matches!(asked.request, errand::Request::Step(_, round::Step::Page { .. })), "no page");
        asked
    }

    fn answer(self, engine: &mut Engine<Waitables<Barriers>>, answer: Result<round::Answer, RequestError>, now: Now) {
        let answer = Answer::Stepped(self.errand, self.purpose, errand::Answer::Step(answer));
        engine.answered(&self.ticket, answer, now);
    }
}

fn page(names: &[&str]) -> round::Answer {
    let listed = names.iter().map(|name| Listed {
        target: Target { name: (*name).into(), uid: (*name).into() },
        deleted: None,
        arrived: arrival(name, Some("one"), 0).ok(),
    });
    round::Answer::Page { listed: listed.collect(), continue_token: None }
}

/// In none of these seconds.
fn asks_nothing(engine: &mut Engine<Waitables<Barriers>>, mut seconds: Range<u64>) {
    let asks = seconds.find(|second| !requests(engine, at(*second, second.cast_signed())).is_empty());
    assert_eq!(asks, None);
}

fn silence() -> Result<round::Answer, RequestError> {
    Err(RequestError::Unanswered("nothing".into()))
}

/// The phase that is written next, after these have been counted.
fn decided(engine: &mut Engine<Waitables<Barriers>>, names: &[&str], now: Now) -> Value {
    Asked::page(engine, now).answer(engine, Ok(page(names)), now);
    let errand::Request::Write { status, .. } = Asked::of(engine, now).request else { panic!("nothing is written") };
    status["phase"].clone()
}

/// Of two one has come, at the start: the time of the other has run out 61 seconds later, as times of creation are whole
/// seconds.
fn one_of_two() -> Engine<Waitables<Barriers>> {
    let one = barrier("one", &json!({ "expected": 2, "timeout": "1m" }));
    let (mut engine, _) = leading(one, &["a"], at(0, 0));
    assert!(requests(&mut engine, at(60, 60)).is_empty());
    engine
}

#[test]
fn a_timeout_that_has_run_out_while_nobody_answered_waits_until_somebody_has_for_a_while() {
    let mut engine = one_of_two();
    Asked::page(&mut engine, at(61, 61)).answer(&mut engine, silence(), at(61, 61));
    Asked::page(&mut engine, at(62, 62)).answer(&mut engine, Ok(page(&["a"])), at(62, 62));
    asks_nothing(&mut engine, 62..92);
    assert_eq!(decided(&mut engine, &["a"], at(92, 92)), "Failed");
}

#[test]
fn so_does_one_for_which_the_answer_was_long_in_coming() {
    let mut engine = one_of_two();
    Asked::page(&mut engine, at(61, 61)).answer(&mut engine, Ok(page(&["a"])), at(63, 63));
    asks_nothing(&mut engine, 63..93);
    assert_eq!(decided(&mut engine, &["a"], at(93, 93)), "Failed");
}

#[test]
fn who_has_come_meanwhile_is_counted_at_once() {
    let mut engine = one_of_two();
    Asked::page(&mut engine, at(61, 61)).answer(&mut engine, silence(), at(61, 61));
    assert_eq!(decided(&mut engine, &["a", "b"], at(62, 62)), "Open");
}

#[test]
fn requests_that_fail_now_and_then_put_no_timeout_off_for_ever() {
    let mut engine = one_of_two();
    let (mut fails, mut failed) = (true, None);
    for second in 61..200 {
        let now = at(second, second.cast_signed());
        for (ticket, request) in requests(&mut engine, now) {
            let Request::Step(errand, purpose, request) = request else { panic!("another request") };
            if let errand::Request::Write { status, .. } = &request {
                assert_eq!(status["phase"], "Failed");
                failed.get_or_insert(second);
                continue;
            }
            let answer = if fails { silence() } else { Ok(page(&["a"])) };
            fails = !fails;
            Asked { ticket, errand, purpose, request }.answer(&mut engine, answer, now);
        }
    }
    // It is put off once, to 92; then the first page fails, and the second one, after a pause, is answered.
    assert_eq!(failed, Some(97));
}

#[test]
fn what_was_asked_before_leadership_was_lost_is_decided_by_what_was_seen_since() {
    let mut engine = one_of_two();
    let asked = Asked::page(&mut engine, at(61, 61));
    engine.lead(false, at(71, 71));
    engine.lead(true, at(80, 80));
    asked.answer(&mut engine, Ok(page(&["a"])), at(80, 80));
    for second in 80..110 {
        assert!(requests(&mut engine, at(second, second.cast_signed())).is_empty(), "{second}");
    }
    assert_eq!(decided(&mut engine, &["a"], at(110, 110)), "Failed");
}

/// Open since the start, with a pause of ten seconds.
fn open(expected: u32, names: &[&str]) -> (Engine<Waitables<Barriers>>, BarrierObject) {
    let status = json!({ "phase": "Open", "round": 1, "observedGeneration": 1,
        "openedAt": Timestamp::from_second(START).expect("a time").to_string() });
    leading(barrier_at("one", &json!({ "expected": expected, "resetAfter": "10s" }), &status), names, at(0, 0))
}

#[test]
fn an_edit_while_a_round_is_cleared_decides_nothing_by_those_who_are_left() {
    let now = at(10, 10);
    let (mut engine, known) = open(5, &["a", "b", "c", "d", "e"]);
    let version = known.metadata.version;
    let barrier = |version| Ok(round::Answer::Barrier(Some(("one".to_owned(), version))));
    Asked::page(&mut engine, now).answer(&mut engine, Ok(page(&["a", "b"])), now);
    Asked::of(&mut engine, now).answer(&mut engine, barrier(version), now);
    Asked::of(&mut engine, now).answer(&mut engine, Ok(round::Answer::Deleted), now);
    for name in ["a", "b"] {
        engine.observe(Seen::Other(gone(name)), now);
    }
    Asked::page(&mut engine, now).answer(&mut engine, Ok(page(&["c", "d", "e"])), now);
    // Somebody edits it between two pages.
    Asked::of(&mut engine, now).answer(&mut engine, barrier(version + 1), now);
    let mut edited = known;
    (edited.metadata.version, edited.metadata.generation) = (version + 1, Some(2));
    edited.spec.timeout = Some(konductor_api::GoDuration(Duration::from_mins(1)));
    engine.observe(Seen::Parent(Event::Apply(Box::new(Ok(edited)))), now);
    let all = requests(&mut engine, now);
    let mut steps = all.into_iter().filter_map(|(ticket, request)| match request {
        Request::Step(errand, purpose, request) => Some(Asked { ticket, errand, purpose, request }),
        Request::Patch { .. } | Request::Look(..) | Request::Probe(..) => None,
    });
    steps.next().expect("a page").answer(&mut engine, Ok(page(&["c", "d", "e"])), now);
    let next = Asked::of(&mut engine, now).request;
    assert!(matches!(next, errand::Request::Step(_, round::Step::Look)), "those who are left are not deleted");
}

#[test]
fn a_pause_that_has_run_out_while_nobody_answered_waits_until_somebody_has_for_a_while() {
    let (mut engine, known) = open(1, &["a"]);
    Asked::page(&mut engine, at(10, 10)).answer(&mut engine, silence(), at(10, 10));
    Asked::page(&mut engine, at(11, 11)).answer(&mut engine, Ok(page(&["a"])), at(11, 11));
    // All of it, as it is shorter than what an operator waits that is answered again.
    for second in 11..21 {
        assert!(requests(&mut engine, at(second, second.cast_signed())).is_empty(), "{second}");
    }
    let now = at(21, 21);
    let barrier = || Ok(round::Answer::Barrier(Some(("one".to_owned(), known.metadata.version))));
    Asked::page(&mut engine, now).answer(&mut engine, Ok(page(&["a"])), now);
    Asked::of(&mut engine, now).answer(&mut engine, barrier(), now);
    // Once somebody is deleted, nothing but an edit keeps the others.
    Asked::of(&mut engine, now).answer(&mut engine, Ok(round::Answer::Deleted), at(31, 31));
    Asked::page(&mut engine, at(31, 31)).answer(&mut engine, Ok(page(&[])), at(41, 41));
    let next = Asked::of(&mut engine, at(41, 41)).request;
    assert!(matches!(next, errand::Request::Write { status, .. } if status["round"] == 2), "no next round");
}
