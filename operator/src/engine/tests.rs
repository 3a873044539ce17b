//! The engine with a plugin that is told what to do, and no network.

use std::{cell::RefCell, rc::Rc, time::Duration};

use jiff::Timestamp;
use konductor_api::arbiter::Now;
use kube::Client;

use super::{Engine, Lane, Plugin, Sizes, Turn};
use crate::key::{Key, ParentKey};

fn at(milliseconds: u64) -> Now {
    Now { monotonic: Duration::from_millis(milliseconds), wall: Timestamp::UNIX_EPOCH }
}

/// Each parent that is decided on wants one request. One that fails is tried again after a pause, for ever.
#[derive(Default)]
struct Toy {
    decided: Rc<RefCell<Vec<String>>>,
    /// Steps of preparation that are left.
    preparation: u32,
}

const PAUSE: Duration = Duration::from_secs(1);

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    ParentKey::new(namespace, name).into()
}

impl Plugin for Toy {
    type Seen = String;
    type Job = ();
    type Request = String;
    type Answer = bool;

    fn name(&self) -> &'static str {
        "toy"
    }

    fn sizes(&self) -> Sizes {
        vec![("decided", self.decided.borrow().len())]
    }

    fn lead(&mut self, turn: &mut Turn<'_, ()>) {
        if !turn.leading {
            turn.lanes.clear();
        }
    }

    fn observe(&mut self, seen: String, turn: &mut Turn<'_, ()>) {
        turn.work_queue.mark(&key(&seen));
    }

    fn prepare(&mut self, _: &mut Turn<'_, ()>) -> bool {
        self.preparation = self.preparation.saturating_sub(1);
        self.preparation > 0
    }

    fn decide(&mut self, key: &Key, turn: &mut Turn<'_, ()>) {
        self.decided.borrow_mut().push(format!("{}/{}", key.namespace, key.name));
        turn.lanes.push(Lane::Urgent, key, ());
    }

    fn dispatch(&mut self, key: &Key, (): (), turn: &mut Turn<'_, ()>) -> Option<String> {
        turn.leading.then(|| format!("{}/{}", key.namespace, key.name))
    }

    fn answered(&mut self, lane: Lane, key: &Key, done: bool, turn: &mut Turn<'_, ()>) {
        if !done {
            turn.lanes.push_at(lane, key, (), turn.now.monotonic + PAUSE);
        }
    }

    async fn perform(_: Client, _: String) -> bool {
        true
    }
}

fn leading(toy: Toy) -> Engine<Toy> {
    let mut engine = Engine::new(toy);
    engine.lead(true, at(0));
    engine
}

#[test]
fn what_was_seen_is_decided_on_once_and_sent() {
    let mut engine = leading(Toy::default());
    for _ in 0..3 {
        engine.observe("n/a".into(), at(0));
    }
    let sent = engine.turn(at(0), || false);
    assert_eq!(sent.iter().map(|(_, request)| request.as_str()).collect::<Vec<_>>(), ["n/a"]);
    assert_eq!(engine.next(), None);
}

#[test]
fn what_is_kept_goes_with_what_it_was_kept_for() {
    let mut engine = leading(Toy::default());
    let kept = |engine: &Engine<Toy>| -> Vec<_> {
        engine.sizes().into_iter().filter(|(what, count)| *count > 0 && *what != "decided").collect()
    };
    for parent in 0..100 {
        engine.observe(format!("{parent}/a"), at(0));
    }
    assert_eq!(kept(&engine), [("parents to decide on", 100)]);
    let mut sent = engine.turn(at(0), || false);
    let (waiting, under_way) = (("jobs that wait", 100 - sent.len()), ("jobs under way", sent.len()));
    assert_eq!(kept(&engine), [waiting, under_way, ("parents with jobs", 100), ("namespaces with jobs", 100)]);
    // Each is tried again once, later.
    for (time, done) in [(0, false), (1000, true)] {
        while !sent.is_empty() {
            for (ticket, _) in std::mem::take(&mut sent) {
                engine.answered(&ticket, done, at(time));
            }
            sent = engine.turn(at(time), || false);
        }
        let later = if done { 0 } else { 100 };
        assert_eq!(kept(&engine).iter().map(|(_, count)| count).sum::<usize>(), 3 * later);
        sent = engine.turn(at(1000), || false);
    }
    assert_eq!(kept(&engine), []);
}

#[test]
fn a_namespace_whose_requests_all_fail_leaves_the_others_their_places() {
    let mut engine = leading(Toy::default());
    for parent in 0..1000 {
        engine.observe(format!("bad/{parent}"), at(0));
    }
    let mut now = 0;
    for round in 0..100 {
        // Nothing of it is ever answered well, and what is tried again waits without a place.
        for (ticket, request) in engine.turn(at(now), || false) {
            assert!(request.starts_with("bad/"));
            engine.answered(&ticket, false, at(now));
        }
        engine.observe(format!("good/{round}"), at(now));
        let sent = engine.turn(at(now), || false);
        assert!(sent.iter().any(|(_, request)| *request == format!("good/{round}")), "not sent in round {round}");
        for (ticket, request) in sent {
            engine.answered(&ticket, request.starts_with("good/"), at(now));
        }
        now += 10;
    }
}

#[test]
fn a_turn_ends_when_it_has_taken_long_enough_and_the_rest_is_due_at_once() {
    let decided = Rc::new(RefCell::new(Vec::new()));
    let mut engine = leading(Toy { decided: decided.clone(), preparation: 0 });
    for parent in 0..100 {
        engine.observe(format!("n/{parent}"), at(0));
    }
    let mut turns = 0;
    while decided.borrow().len() < 100 {
        assert!(turns == 0 || engine.next() == Some(Duration::ZERO));
        let (before, mut steps) = (decided.borrow().len(), 0);
        engine.turn(at(0), || {
            steps += 1;
            steps > 10
        });
        turns += 1;
        assert!(decided.borrow().len() - before <= 10);
        // Another one is not kept waiting until all of these are through.
        if turns == 1 {
            engine.observe("other/a".into(), at(0));
        }
    }
    assert!(turns > 5);
}

#[test]
fn what_takes_long_to_prepare_keeps_no_decision_waiting() {
    let decided = Rc::new(RefCell::new(Vec::new()));
    // One party sees to it that there is always something left to prepare.
    let mut engine = leading(Toy { decided: decided.clone(), preparation: u32::MAX });
    for parent in 0..3 {
        engine.observe(format!("n/{parent}"), at(0));
    }
    for turn in 1..=3 {
        engine.turn(at(0), || true);
        assert_eq!((decided.borrow().len(), engine.next()), (turn, Some(Duration::ZERO)));
    }
}

#[test]
fn a_turn_looks_at_so_many_jobs_and_leaves_the_others_to_the_next() {
    let mut engine = leading(Toy::default());
    for parent in 0..1000 {
        engine.observe(format!("{parent}/a"), at(0));
    }
    engine.lead(false, at(0));
    let mut turns = 0;
    // Who does not lead finds them all needless.
    while engine.next().is_some() {
        assert!(engine.turn(at(0), || false).is_empty());
        turns += 1;
    }
    assert!(turns >= 3, "{turns} turns");
}

#[test]
fn whoever_does_not_lead_any_more_sends_nothing() {
    let mut engine = leading(Toy::default());
    engine.observe("n/a".into(), at(0));
    engine.lead(false, at(0));
    assert!(engine.turn(at(0), || false).is_empty());
    let mut engine = leading(Toy::default());
    engine.observe("n/a".into(), at(0));
    for (ticket, _) in engine.turn(at(0), || false) {
        engine.answered(&ticket, false, at(0));
    }
    engine.lead(false, at(0));
    assert!(engine.turn(at(5000), || false).is_empty());
}
