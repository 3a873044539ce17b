//! Gates and what they depend on, without a cluster: what is decided, and what each turn costs.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use konductor_api::{
    RendezvousPhase,
    RendezvousPhase::{Open, Waiting},
    arbiter::Now,
    limits::MAX_SELECTIONS,
    rendezvous::fact::{Dependency, Fact, JobState},
};
use konductor_cluster::{
    RequestError,
    follow::{Deleted, Event},
    object::{Metadata, NO_VERSION},
};
use serde_json::{Value, json};

use super::{
    Gates,
    cache::DependencyCache,
    lister::Lister,
    sources::{Content, GateObject, Listed, Outline, Shown, Sighted, Sources, Subject, Watched, Wish},
};
use crate::{
    clock::Clock,
    engine::{Engine, Ticket},
    events::Recorder,
    key::{Key, ParentKey},
    metrics::Metrics,
    tasks::{SLICE, Turn},
    waitable::{Answer, Request, Seen, Verdict, Waitables},
};

const BUDGET: usize = 4096;

fn now() -> Now {
    Now { monotonic: Duration::from_secs(1), wall: Timestamp::from_second(1_800_000_000).expect("a time") }
}

fn key(namespace: &str, name: &str) -> Key {
    ParentKey { namespace: namespace.into(), name: name.into() }.into()
}

fn selector(label: &str) -> Value {
    json!({ "matchExpressions": [{ "key": label, "operator": "Exists" }] })
}

fn on_gate(name: &str) -> Value {
    json!({ "conditions": [{ "type": "Gate", "name": name, "state": "Open" }] })
}

fn on_gates(label: &str) -> Value {
    json!({ "conditions": [{ "type": "Gate", "selector": selector(label), "state": "Open" }] })
}

fn on_jobs(label: &str) -> Value {
    json!({ "conditions": [{ "type": "Job", "selector": selector(label), "state": "Complete" }] })
}

fn sighted(namespace: &str, name: &str, content: Content) -> Sighted {
    Sighted { namespace: namespace.into(), name: name.into(), version: 0, content }
}

/// Gates whose statuses are written as they are decided.
#[derive(Default)]
struct Scene {
    cache: DependencyCache,
    gates: BTreeMap<Key, GateObject>,
    /// Those that were seen since the last turn: they are decided on, as far as that is possible.
    seen: Vec<Key>,
    /// The Jobs that there are, for lists.
    jobs: BTreeMap<Key, Outline>,
    /// The most looks in one turn.
    most: usize,
    /// Looks in all.
    looks: usize,
}

impl Scene {
    /// With all gates and Jobs listed, and the namespaces.
    fn new() -> Self {
        let mut scene = Self::default();
        scene.cache.gates_listed();
        scene.see(Subject::Objects(Dependency::Job), Event::InitDone { version: 1 });
        scene.see(Subject::Namespaces, Event::InitDone { version: 1 });
        scene
    }

    fn see(&mut self, subject: Subject, event: Event<Sighted>) -> usize {
        if let (Subject::Objects(_), Event::Delete(gone)) = (subject, &event) {
            self.jobs.remove(&key(&gone.namespace, &gone.name));
        }
        self.cache.take(Watched { subject, number: 0, event })
    }

    fn gate(&mut self, namespace: &str, name: &str, labels: &[&str], spec: &Value) {
        let labels: BTreeMap<_, _> = labels.iter().map(|label| (*label, "")).collect();
        let generation = self.gates.get(&key(namespace, name)).and_then(|gate| gate.metadata.generation);
        let gate = json!({
            "metadata": { "namespace": namespace, "name": name, "labels": labels, "generation": generation.unwrap_or(0) + 1 },
            "spec": spec,
        });
        let gate = GateObject::read(&gate.to_string()).expect("an object").expect("a gate");
        let key = key(namespace, name);
        self.cache.gate(&key, Some(&gate), now());
        self.seen.push(key.clone());
        self.gates.insert(key, gate);
        self.list();
    }

    fn delete_gate(&mut self, namespace: &str, name: &str) {
        self.gates.remove(&key(namespace, name));
        self.cache.gate(&key(namespace, name), None, now());
    }

    fn job(&mut self, namespace: &str, name: &str, labels: &[&str], state: JobState) -> usize {
        let labels = labels.iter().map(|label| ((*label).to_owned(), String::new())).collect();
        let metadata = Metadata { labels, ..Metadata::default() };
        let outline = Outline::new(&metadata, Fact::Job(state));
        self.jobs.insert(key(namespace, name), outline.clone());
        let sighted = sighted(namespace, name, Content::Object(outline));
        self.see(Subject::Objects(Dependency::Job), Event::Apply(sighted))
    }

    fn allow(&mut self, namespace: &str, annotation: Option<&str>) {
        let content = Content::Namespace(annotation.map(str::to_owned));
        let sighted = sighted("", namespace, content);
        self.see(Subject::Namespaces, Event::Apply(sighted));
    }

    /// Lists what is wanted. Returns whether anything was.
    fn list(&mut self) -> bool {
        let wishes = self.cache.take_wishes();
        for wish in &wishes {
            for (key, outline) in self.jobs.clone().into_iter().filter(|(key, _)| key.namespace == wish.place) {
                self.listed(wish, Some((&key.name, outline)));
            }
            self.listed(wish, None);
        }
        !wishes.is_empty()
    }

    fn listed(&mut self, wish: &Wish, object: Option<(&str, Outline)>) {
        let sighted = object.map(|(name, outline)| sighted(&wish.place, name, Content::Object(outline)));
        let shown = sighted.map_or(Shown::All(NO_VERSION), Shown::One);
        self.cache.take_listed(Listed { wish: wish.clone(), shown });
    }

    /// One turn of the loop.
    fn turn(&mut self) -> Turn {
        let mut turn = self.cache.work(BUDGET);
        self.most = self.most.max(turn.looks);
        self.looks += turn.looks;
        let seen = std::mem::take(&mut self.seen);
        for key in self.cache.take_marked().into_iter().chain(seen) {
            // What is written is seen.
            turn.more |= self.decide(&key);
        }
        turn.more |= self.list();
        turn
    }

    /// Returns whether there was something to write.
    fn decide(&mut self, key: &Key) -> bool {
        let Some(gate) = self.gates.get_mut(key) else { return false };
        let plan = self.cache.decide(key, gate, now());
        let Some(write) = plan.and_then(|plan| plan.write) else { return false };
        gate.status = Some(write.status);
        self.cache.gate(key, Some(gate), now());
        true
    }

    /// Turns until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.turn().more {
                return;
            }
        }
        panic!("no end");
    }

    fn phase(&self, namespace: &str, name: &str) -> Option<RendezvousPhase> {
        self.gates[&key(namespace, name)].status.as_ref()?.phase
    }

    fn message(&self, namespace: &str, name: &str) -> String {
        let status = self.gates[&key(namespace, name)].status.as_ref().expect("a status");
        status.condition_statuses[0].message.clone()
    }
}

#[test]
fn two_thousand_gates_that_select_each_other_and_ten_thousand_jobs_cost_each_turn_little() {
    let mut scene = Scene::new();
    for number in 0..2000 {
        scene.gate("n", &format!("g{number:04}"), &["g"], &on_gates("g"));
    }
    for number in 0..1000 {
        let spec = json!({ "conditions": [{ "type": "Job", "selector": selector("j"), "state": "Complete" }] });
        scene.gate("n", &format!("j{number:04}"), &[], &spec);
    }
    for number in 0..10_000 {
        let looks = scene.job("n", &format!("job{number:05}"), &["j"], JobState::Active);
        // The Job, and the one question that all ask.
        assert_eq!(looks, 2);
    }
    scene.settle();
    assert_eq!(scene.message("n", "g0000"), "the gate waits for itself: g0000 → g0000");
    assert_eq!(scene.message("n", "g1999"), "the gate waits for itself: g1999 → g1999");
    assert_eq!(scene.message("n", "j0999"), "0 of 10000 Jobs with j are Complete; job00000 is active");
    // One step over, as long as a selector has edges.
    assert!(scene.most <= BUDGET + 3000, "{}", scene.most);
    let objects = 2000 + 1000 + 10_000;
    assert!(scene.looks <= 30 * objects, "{}", scene.looks);

    // One Job ends: those who ask are told, and nothing is counted anew.
    let (before, looks) = (scene.looks, scene.job("n", "job05000", &["j"], JobState::Complete));
    assert_eq!(looks, 2);
    scene.settle();
    assert!(scene.looks - before <= 1000 + 16, "{}", scene.looks - before);
    assert_eq!(scene.message("n", "j0000"), "1 of 10000 Jobs with j are Complete; job00000 is active");
}

#[test]
fn a_gate_is_decided_on_when_all_it_selects_is_counted() {
    let mut scene = Scene::new();
    for number in 0..10_000 {
        scene.job("n", &format!("{number:05}"), &["j"], JobState::Complete);
    }
    scene.job("n", "zzz", &["j"], JobState::Active);
    scene.settle();
    scene.gate("n", "g", &[], &on_jobs("j"));
    assert!(scene.turn().more);
    assert!(!scene.decide(&key("n", "g")));
    assert_eq!(scene.phase("n", "g"), None);
    scene.settle();
    assert_eq!(scene.message("n", "g"), "10000 of 10001 Jobs with j are Complete; zzz is active");
    scene.job("n", "zzz", &[], JobState::Active);
    scene.settle();
    assert_eq!(
        (scene.phase("n", "g"), scene.message("n", "g")),
        (Some(Open), "10000 of 10000 Jobs with j are Complete".into())
    );
}

#[test]
fn what_a_list_does_not_show_any_more_is_gone() {
    let mut scene = Scene::new();
    scene.gate("n", "named", &[], &json!({ "conditions": [{ "type": "Job", "name": "a", "state": "Complete" }] }));
    scene.gate("n", "selecting", &[], &on_jobs("j"));
    scene.job("n", "a", &["j"], JobState::Complete);
    scene.job("n", "b", &["j"], JobState::Complete);
    scene.settle();
    assert_eq!((scene.phase("n", "named"), scene.phase("n", "selecting")), (Some(Open), Some(Open)));
    for (version, named) in [(NO_VERSION, "Job a is complete"), (1, "Job a does not exist")] {
        scene.see(Subject::Objects(Dependency::Job), Event::Init);
        scene.job("n", "b", &["j"], JobState::Active);
        scene.see(Subject::Objects(Dependency::Job), Event::InitDone { version });
        scene.settle();
        assert_eq!(scene.message("n", "named"), named);
    }
    scene.settle();
    assert_eq!(scene.message("n", "named"), "Job a does not exist");
    assert_eq!(scene.message("n", "selecting"), "0 of 1 Jobs with j are Complete; b is active");
    scene.see(
        Subject::Objects(Dependency::Job),
        Event::Delete(Deleted { namespace: "n".into(), name: "b".into(), uid: String::new(), version: 1 }),
    );
    scene.settle();
    assert_eq!(scene.message("n", "selecting"), "no Job has j");
}

#[test]
fn a_new_gate_is_not_decided_on_before_it_is_known_whether_it_waits_for_itself() {
    let mut scene = Scene::new();
    let closed = json!({ "conditions": [{ "type": "Gate", "name": "a", "state": "Closed" }] });
    scene.gate("n", "a", &[], &closed);
    assert!(!scene.decide(&key("n", "a")));
    assert_eq!(scene.phase("n", "a"), None);
    scene.settle();
    assert_eq!(
        (scene.phase("n", "a"), scene.message("n", "a")),
        (Some(Waiting), "the gate waits for itself: a → a".into())
    );
}

#[test]
fn cycles_come_and_go_with_edits_labels_and_overrides() {
    let mut scene = Scene::new();
    scene.gate("n", "a", &[], &on_gate("b"));
    scene.gate("n", "b", &[], &on_gates("stage"));
    scene.gate("n", "c", &["stage"], &on_jobs("j"));
    scene.job("n", "job", &["j"], JobState::Complete);
    scene.settle();
    assert_eq!(["a", "b", "c"].map(|name| scene.phase("n", name)), [Some(Open); 3]);
    // By an edit of the last of them.
    scene.gate("n", "c", &["stage"], &on_gate("a"));
    scene.settle();
    assert_eq!(scene.message("n", "a"), "the gate waits for itself: a → b → c → a");
    assert_eq!(scene.message("n", "b"), "the gate waits for itself: b → c → a → b");
    // What is overridden waits for nothing.
    scene.gate(
        "n",
        "b",
        &[],
        &json!({
            "conditions": [{ "type": "Gate", "selector": selector("stage"), "state": "Open" }], "override": "Open",
        }),
    );
    scene.settle();
    assert_eq!(["a", "b", "c"].map(|name| scene.phase("n", name)), [Some(Open); 3]);
    scene.gate("n", "b", &[], &on_gates("stage"));
    scene.settle();
    assert_eq!(scene.message("n", "c"), "the gate waits for itself: c → a → b → c");
    // A label less.
    scene.gate("n", "c", &[], &on_gate("a"));
    scene.settle();
    assert_eq!(scene.message("n", "b"), "no Gate has stage");
    assert_eq!(scene.message("n", "a"), "Gate b is waiting, wanted Open");
    scene.delete_gate("n", "b");
    scene.settle();
    assert_eq!(scene.message("n", "a"), "Gate b does not exist");
}

#[test]
fn a_cycle_through_another_namespace_lasts_as_long_as_both_allow_it() {
    let mut scene = Scene::new();
    let there = |namespace: &str, name: &str| json!({ "conditions": [{ "type": "Gate", "namespace": namespace, "name": name, "state": "Open" }] });
    scene.gate("x", "a", &[], &there("y", "b"));
    scene.gate("y", "b", &[], &there("x", "a"));
    scene.allow("x", Some("y"));
    scene.settle();
    assert!(scene.message("x", "a").starts_with("namespace y does not let"));
    assert_eq!(scene.message("y", "b"), "Gate a in namespace x is waiting, wanted Open");
    scene.allow("y", Some("*"));
    scene.settle();
    assert_eq!(scene.message("x", "a"), "the gate waits for itself: a → y/b → a");
    assert_eq!(scene.message("y", "b"), "the gate waits for itself: b → x/a → b");
    scene.allow("x", None);
    scene.settle();
    assert_eq!(scene.message("x", "a"), "Gate b in namespace y is waiting, wanted Open");
    assert!(scene.message("y", "b").starts_with("namespace x does not let"));
    // Without the way back, too.
    scene.allow("x", Some("y"));
    scene.settle();
    assert_eq!(scene.message("y", "b"), "the gate waits for itself: b → x/a → b");
    scene.gate("x", "a", &[], &on_jobs("j"));
    scene.settle();
    assert_eq!(scene.message("y", "b"), "Gate a in namespace x is waiting, wanted Open");
}

#[test]
fn jobs_of_another_namespace_are_counted_when_it_allows_that() {
    let mut scene = Scene::new();
    let spec = json!({ "conditions": [
        { "type": "Job", "namespace": "y", "selector": selector("j"), "state": "Complete" },
    ] });
    scene.gate("x", "g", &[], &spec);
    assert_eq!(scene.job("y", "a", &["j"], JobState::Complete), 1, "nobody asks");
    scene.settle();
    assert!(scene.message("x", "g").starts_with("namespace y does not let"));
    scene.allow("y", Some("x"));
    scene.settle();
    assert_eq!(scene.phase("x", "g"), Some(Open));
    scene.allow("y", None);
    scene.settle();
    assert!(scene.message("x", "g").starts_with("namespace y does not let"));
    assert_eq!(scene.job("y", "a", &["j"], JobState::Active), 1, "nobody asks any more");
}

#[test]
fn a_namespace_asks_so_many_different_questions_and_no_more() {
    let mut scene = Scene::new();
    for number in 0..MAX_SELECTIONS {
        scene.gate("n", &format!("g{number:04}"), &[], &on_jobs(&format!("j{number}")));
    }
    scene.gate("n", "late", &[], &on_jobs("late"));
    scene.gate("n", "same", &[], &on_jobs("j0"));
    scene.gate("other", "g", &[], &on_jobs("late"));
    assert_eq!(scene.job("n", "a", &["late"], JobState::Complete), 1 + MAX_SELECTIONS);
    scene.settle();
    assert_eq!(
        scene.message("n", "late"),
        "the gates of namespace n have more than 1024 different selectors, counting one for each 8 labels and values in \
         one: this one waits until there are fewer"
    );
    assert_eq!(scene.message("n", "same"), "no Job has j0");
    assert_eq!(scene.message("other", "g"), "no Job has late");
    // The first of two that ask the same goes: nothing is free. Then the other one.
    scene.delete_gate("n", "g0000");
    scene.settle();
    assert_eq!(scene.phase("n", "late"), Some(Waiting));
    scene.delete_gate("n", "same");
    scene.settle();
    assert_eq!(scene.phase("n", "late"), Some(Open));
}

#[test]
fn what_two_conditions_of_a_gate_ask_alike_counts_once_also_when_it_goes() {
    let mut scene = Scene::new();
    // What is asked about stays, whoever asks.
    scene.job("n", "a", &["j"], JobState::Complete);
    let at_least =
        |number: u32| json!({ "type": "Job", "selector": selector("j"), "state": "Complete", "value": number });
    for number in 0..MAX_SELECTIONS - 1 {
        scene.gate("n", &format!("g{number:04}"), &[], &on_jobs(&format!("j{number}")));
    }
    scene.gate("n", "alike", &[], &json!({ "conditions": [at_least(1), at_least(2), at_least(3)] }));
    scene.gate("n", "late", &[], &on_jobs("late"));
    scene.gate("n", "later", &[], &on_jobs("later"));
    scene.settle();
    let waits = |scene: &Scene, name| scene.message("n", name).contains("more than 1024 different selectors");
    assert!(waits(&scene, "late") && waits(&scene, "later"));
    // One is free, and no more.
    scene.delete_gate("n", "alike");
    scene.settle();
    assert!(!waits(&scene, "late") && waits(&scene, "later"));
}

#[test]
fn a_namespace_that_is_busy_does_not_hold_up_another_one() {
    let mut scene = Scene::new();
    for number in 0..10_000 {
        scene.job("busy", &format!("{number:05}"), &["j"], JobState::Active);
    }
    for number in 0..500 {
        let conditions = [json!({ "type": "Job", "selector": { "matchExpressions": [
            { "key": format!("not{number}"), "operator": "DoesNotExist" },
        ] }, "state": "Complete" })];
        scene.gate("busy", &format!("{number}"), &[], &json!({ "conditions": conditions }));
    }
    scene.job("quiet", "job", &["j"], JobState::Complete);
    scene.gate("quiet", "g", &[], &on_jobs("j"));
    assert!(scene.turn().more);
    assert_eq!((scene.phase("quiet", "g"), scene.phase("busy", "499")), (Some(Open), None));
    scene.settle();
    assert_eq!(scene.phase("busy", "499"), Some(Waiting));
    assert!(scene.most <= BUDGET + SLICE as usize, "{}", scene.most);
}

#[test]
fn where_there_are_too_many_ways_between_gates_those_that_depend_on_gates_are_not_met() {
    let mut scene = Scene::new();
    scene.gate("n", "jobs", &[], &on_jobs("j"));
    for number in 0..1030 {
        let expression = json!({ "key": format!("not{number}"), "operator": "DoesNotExist" });
        let selector = json!({ "matchExpressions": [expression] });
        let spec = json!({ "conditions": [{ "type": "Gate", "selector": selector, "state": "Open" }] });
        scene.gate("n", &format!("g{number:04}"), &[], &spec);
    }
    scene.settle();
    let message =
        "gates select each other in too many ways to tell whether this one waits for itself: more than 1048576";
    assert_eq!((scene.message("n", "g0000"), scene.message("n", "g0999")), (message.into(), message.into()));
    assert_eq!(scene.message("n", "jobs"), "no Job has j");
    // Few enough again.
    for number in 0..30 {
        scene.delete_gate("n", &format!("g{number:04}"));
    }
    scene.settle();
    assert_eq!(scene.message("n", "g0999"), "the gate waits for itself: g0999 → g0030 → g0999");
    assert!(scene.most <= BUDGET + 3000, "{}", scene.most);
}

/// A selector of as much as there can be in one, and the labels of an object of which all of it holds.
fn widest() -> (Vec<String>, Value) {
    let labels: Vec<_> = (0..16).map(|number| format!("l{number:02}")).collect();
    let terms: BTreeMap<_, _> = labels.iter().map(|label| (label, "")).collect();
    let values: Vec<_> = (0..32).map(|number| format!("v{number}")).collect();
    let expressions: Vec<_> =
        labels.iter().map(|key| json!({ "key": key, "operator": "NotIn", "values": values })).collect();
    let selector = json!({ "matchLabels": terms, "matchExpressions": expressions });
    (labels, selector)
}

#[test]
fn a_selector_costs_as_much_as_it_asks() {
    let (labels, selector) = widest();
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    let cost = 16 + 16 * (1 + 32);
    let mut scene = Scene::new();
    let spec = json!({ "conditions": [{ "type": "Job", "selector": selector, "state": "Complete" }] });
    for number in 0..1000 {
        scene.job("n", &format!("{number:03}"), &labels, JobState::Active);
    }
    scene.gate("n", "g", &[], &spec);
    scene.settle();
    assert_eq!(scene.message("n", "g").split(" with").next(), Some("0 of 1000 Jobs"));
    assert!(scene.looks >= 1000 * cost, "{}", scene.looks);
    assert!(scene.most <= BUDGET + cost, "{}", scene.most);
    // The labels are looked at once where they stay as they are.
    assert_eq!(scene.job("n", "000", &labels, JobState::Complete), 1 + cost);
    assert_eq!(scene.job("n", "000", &labels[1..], JobState::Complete), 1 + 2 * cost);
    // Gates are selected at the same cost.
    let mut scene = Scene::new();
    let spec = json!({ "conditions": [{ "type": "Gate", "selector": selector, "state": "Open" }] });
    scene.gate("n", "g", &[], &spec);
    for number in 0..1000 {
        scene.gate("n", &format!("g{number:03}"), &labels, &json!({ "conditions": [], "override": "Open" }));
    }
    scene.settle();
    assert!(scene.looks >= 2 * 1000 * cost, "{}", scene.looks);
    assert!(scene.most <= BUDGET + cost, "{}", scene.most);
}

#[test]
fn whatever_a_namespace_asks_a_change_of_an_object_costs_little() {
    let (labels, selector) = widest();
    let mut scene = Scene::new();
    for number in 0..100 {
        let mut selector = selector.clone();
        selector["matchExpressions"][15]["values"][31] = format!("w{number}").into();
        let spec = json!({ "conditions": [{ "type": "Job", "selector": selector, "state": "Complete" }] });
        scene.gate("n", &format!("g{number:02}"), &[], &spec);
    }
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    let looks = scene.job("n", "job", &labels, JobState::Active);
    // Each counts as 68.
    assert_eq!(looks, 1 + 15 * 544);
    scene.settle();
    assert!(scene.message("n", "g14").starts_with("0 of 1 Jobs"));
    assert!(scene.message("n", "g15").starts_with("the gates of namespace n have more than"));
    // All that it asked is free again.
    for number in 0..15 {
        scene.delete_gate("n", &format!("g{number:02}"));
    }
    scene.settle();
    assert!(scene.message("n", "g29").starts_with("0 of 1 Jobs"));
    assert!(scene.message("n", "g30").starts_with("the gates of namespace n have more than"));
}

#[test]
fn of_an_object_so_many_labels_are_kept_and_each_is_found() {
    let labels: BTreeMap<_, _> = (0..1000).map(|number| (format!("l{number:03}"), String::new())).collect();
    let outline = Outline::new(&Metadata { labels, ..Metadata::default() }, Fact::Unreadable);
    let selects = |label: &str| {
        let selector = serde_json::from_value(selector(label)).expect("a selector");
        outline.is_selected_by(&selector)
    };
    let found: Vec<_> = (0..1000).filter(|number| selects(&format!("l{number:03}"))).collect();
    assert_eq!(found, (0..256).collect::<Vec<_>>());
    assert!(!selects("a") && !selects("l0000") && !selects("z"));
}

#[test]
fn while_cycles_are_looked_for_in_its_namespace_no_gate_is_decided_on_by_those_found_before() {
    let mut scene = Scene::new();
    scene.gate("n", "a", &[], &on_gate("b"));
    scene.gate("n", "b", &[], &on_jobs("j"));
    scene.gate("n", "jobs", &[], &on_jobs("j"));
    scene.gate("quiet", "a", &[], &on_gate("b"));
    scene.gate("quiet", "b", &[], &on_jobs("j"));
    scene.settle();
    assert_eq!(scene.message("n", "a"), "Gate b is waiting, wanted Open");
    let is_decided = |scene: &Scene, namespace: &str, name: &str| {
        let key = key(namespace, name);
        scene.cache.decide(&key, &scene.gates[&key], now()).is_some()
    };
    // One that has another label: the hunt is due, and then under way.
    for number in 0..3000 {
        scene.gate("n", &format!("more{number:04}"), &[], &on_jobs("j"));
    }
    scene.gate("n", "b", &["stage"], &on_jobs("j"));
    let mut hunting = 0;
    for _ in 0..10_000 {
        if !is_decided(&scene, "n", "a") {
            hunting += 1;
            assert!(is_decided(&scene, "n", "jobs") && is_decided(&scene, "quiet", "a"));
        }
        if !scene.cache.work(100).more {
            break;
        }
    }
    assert!(hunting > 30, "{hunting}");
    // What changes meanwhile is decided on when they are found, also if they are as before.
    scene.gate("n", "b", &[], &on_jobs("j"));
    scene.job("n", "job", &["j"], JobState::Complete);
    scene.settle();
    assert_eq!((scene.phase("n", "b"), scene.phase("n", "a")), (Some(Open), Some(Open)));
}

#[test]
fn a_namespace_that_looks_for_cycles_all_the_time_does_not_hold_up_another_one() {
    let mut scene = Scene::new();
    for number in 0..1000 {
        scene.gate("busy", &format!("g{number:03}"), &["g"], &on_gates("g"));
    }
    scene.gate("quiet", "a", &[], &on_gate("b"));
    scene.gate("quiet", "b", &[], &on_jobs("j"));
    scene.settle();
    scene.job("quiet", "job", &["j"], JobState::Complete);
    for turn in 0..10 {
        scene.gate("busy", "g000", if turn % 2 == 0 { &[] } else { &["g"] }, &on_gates("g"));
        assert!(scene.turn().more);
    }
    assert_eq!((scene.phase("quiet", "b"), scene.phase("quiet", "a")), (Some(Open), Some(Open)));
}

/// Numbers that look random and are the same each time (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const PLACES: [&str; 2] = ["x", "y"];
const LABELS: [&str; 3] = ["l", "m", "n"];

/// What there is, looked at all at once.
#[derive(Default)]
struct Model {
    jobs: BTreeMap<Key, (Vec<&'static str>, JobState)>,
    /// With their labels.
    gates: BTreeMap<Key, (Vec<&'static str>, Value)>,
    allowed: [bool; 2],
}

impl Model {
    fn allows(&self, from: &str, place: &str) -> bool {
        from == place || PLACES.iter().position(|one| *one == place).is_some_and(|one| self.allowed[one])
    }

    /// The objects of a condition of a gate of this namespace; `None` where it may not look.
    fn objects<'a, T>(
        &self,
        condition: &Value,
        own: &str,
        all: &'a BTreeMap<Key, (Vec<&'static str>, T)>,
    ) -> Option<Vec<&'a Key>> {
        let place = condition["namespace"].as_str().unwrap_or(own);
        let label = condition["selector"]["matchExpressions"][0]["key"].as_str();
        let chosen = all.iter().filter(|(key, (labels, _))| {
            key.namespace == place
                && match label {
                    Some(label) => labels.contains(&label),
                    None => condition["name"].as_str() == Some(&key.name),
                }
        });
        self.allows(own, place).then(|| chosen.map(|(key, _)| key).collect())
    }

    fn leads_to(&self, from: &Key, to: &Key) -> bool {
        let (mut seen, mut next) = (vec![from], vec![from]);
        while let Some(at) = next.pop() {
            if at == to {
                return true;
            }
            for condition in self.gates[at].1["conditions"].as_array().into_iter().flatten() {
                let gates = self.objects(condition, &at.namespace, &self.gates).filter(|_| condition["type"] == "Gate");
                for gate in gates.into_iter().flatten() {
                    if !seen.contains(&gate) {
                        seen.push(gate);
                        next.push(gate);
                    }
                }
            }
        }
        false
    }

    fn is_met(&self, gate: &Key, condition: &Value, phase: impl Fn(&Key) -> Option<RendezvousPhase>) -> bool {
        if condition["type"] == "Job" {
            let jobs = self.objects(condition, &gate.namespace, &self.jobs).unwrap_or_default();
            return !jobs.is_empty() && jobs.iter().all(|job| self.jobs[*job].1 == JobState::Complete);
        }
        let gates = self.objects(condition, &gate.namespace, &self.gates).unwrap_or_default();
        !gates.is_empty()
            && !gates.iter().any(|one| self.leads_to(one, gate))
            && gates.iter().all(|one| phase(one) == Some(Open))
    }
}

#[test]
fn whatever_changes_in_whatever_pieces_the_answer_is_that_of_one_look_at_all() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut scene, mut model) = (Scene::new(), Model::default());
    let (mut met, mut cycles) = (0, 0);
    for step in 0..4000 {
        let (place, name) = (dice.one(&PLACES), dice.one(&["a", "b", "c", "d"]));
        let labels: Vec<_> = LABELS.into_iter().filter(|_| dice.below(2) == 0).collect();
        match dice.below(8) {
            0..=2 => {
                let state = if dice.below(3) == 0 { JobState::Active } else { JobState::Complete };
                scene.job(place, name, &labels, state);
                model.jobs.insert(key(place, name), (labels, state));
            }
            3 => {
                let (namespace, name) = (place.to_owned(), name.to_owned());
                model.jobs.remove(&key(&namespace, &name));
                let gone = Deleted { namespace, name, uid: String::new(), version: 1 };
                scene.see(Subject::Objects(Dependency::Job), Event::Delete(gone));
            }
            4 | 5 => {
                let conditions: Vec<_> = (0..=dice.below(2))
                    .map(|_| {
                        let kind = dice.one(&["Job", "Gate"]);
                        let state = if kind == "Job" { "Complete" } else { "Open" };
                        let mut condition = json!({ "type": kind, "state": state });
                        if dice.below(2) == 0 {
                            condition["name"] = dice.one(&["a", "b", "c", "d"]).into();
                        } else {
                            condition["selector"] = selector(dice.one(&LABELS));
                        }
                        if dice.below(3) == 0 {
                            condition["namespace"] = dice.one(&PLACES).into();
                        }
                        condition
                    })
                    .collect();
                let spec = json!({ "conditions": conditions });
                scene.gate(place, name, &labels, &spec);
                model.gates.insert(key(place, name), (labels, spec));
            }
            6 => {
                model.gates.remove(&key(place, name));
                scene.delete_gate(place, name);
            }
            _ => {
                let number = dice.below(2);
                model.allowed[number] = dice.below(2) == 0;
                scene.allow(PLACES[number], model.allowed[number].then_some("*"));
            }
        }
        scene.cache.work(dice.below(8));
        if step % 10 != 9 {
            continue;
        }
        scene.settle();
        for (gate, (_, spec)) in &model.gates {
            let phase = |one: &Key| scene.gates[one].status.as_ref()?.phase;
            let conditions = spec["conditions"].as_array().expect("conditions");
            let expected: Vec<_> = conditions.iter().map(|condition| model.is_met(gate, condition, phase)).collect();
            let status = scene.gates[gate].status.as_ref().expect("a status");
            let found: Vec<_> = status.condition_statuses.iter().map(|condition| condition.met).collect();
            assert_eq!(found, expected, "step {step}, {gate:?}: {status:?}");
            met += found.iter().filter(|met| **met).count();
            cycles += status.condition_statuses.iter().filter(|one| one.message.contains("waits for itself")).count();
        }
    }
    assert!(met > 500 && cycles > 500, "{met} met, {cycles} cycles");
    // Nothing is left of what is gone.
    for key in model.gates.into_keys() {
        scene.delete_gate(&key.namespace, &key.name);
    }
    scene.settle();
    assert!(scene.cache.remembers_no_gate());
}

fn at(second: u64) -> Now {
    let wall = Timestamp::from_second(1_800_000_000 + second.cast_signed()).expect("a time");
    Now { monotonic: Duration::from_secs(second), wall }
}

/// An engine that leads since the start, and has seen this gate then.
fn leading(gate: &GateObject) -> Engine<Waitables<Gates>> {
    let metrics = Metrics::new(Clock::start());
    let (recorder, _news) = Recorder::new(metrics.clone());
    let sources = Sources::new(Box::new(|_, _| unreachable!("nothing else is followed")));
    let gates = Gates { sources, lister: Lister::idle(), cache: DependencyCache::default() };
    let mut engine = Engine::new(Waitables::new(gates, &metrics, &recorder));
    engine.observe(Seen::Parent(Event::Init), at(0));
    see(&mut engine, gate, at(0));
    engine.observe(Seen::Parent(Event::InitDone { version: 1 }), at(0));
    engine.lead(true, at(0));
    engine
}

fn see(engine: &mut Engine<Waitables<Gates>>, gate: &GateObject, now: Now) {
    engine.observe(Seen::Parent(Event::Apply(Box::new(Ok(gate.clone())))), now);
}

fn gate(name: &str, version: u64, status: &Value, spec: &Value) -> GateObject {
    let metadata = json!({ "namespace": "n", "name": name, "uid": name, "generation": 1,
        "resourceVersion": version.to_string() });
    let gate = json!({ "metadata": metadata, "spec": spec, "status": status });
    GateObject::read(&gate.to_string()).expect("an object").expect("a gate")
}

fn request(engine: &mut Engine<Waitables<Gates>>, now: Now) -> Option<(Ticket, Request<Gates>)> {
    let mut all: Vec<_> = (0..10).flat_map(|_| engine.turn(now, || false)).collect();
    assert!(all.len() < 2, "more than one request");
    all.pop()
}

/// Nobody answers a write of the status, or a look in its place. Returns the phase that was to be written.
fn unanswered(engine: &mut Engine<Waitables<Gates>>, now: Now) -> Option<Value> {
    let silence = || RequestError::Unanswered("nothing".into());
    let (ticket, request) = request(engine, now).expect("a request");
    let (answer, phase) = match request {
        Request::Patch { purpose, status, .. } => {
            (Answer::Patched(purpose, Verdict::Failed(silence())), Some(status["phase"].clone()))
        }
        Request::Probe(_, purpose) => (Answer::Probed(purpose, Err(silence())), None),
        Request::Look(..) | Request::Step(..) => panic!("another request"),
    };
    engine.answered(&ticket, answer, now);
    phase
}

/// The phase that is written next.
fn written(engine: &mut Engine<Waitables<Gates>>, now: Now) -> Value {
    let Some((_, Request::Patch { status, .. })) = request(engine, now) else { panic!("nothing is written") };
    status["phase"].clone()
}

/// Waits for another gate that is not there, a minute at most; and the status that says so.
fn waiting() -> (Engine<Waitables<Gates>>, GateObject) {
    let spec = json!({ "conditions": [{ "type": "Gate", "name": "b", "state": "Open" }], "timeout": "1m" });
    let mut engine = leading(&gate("a", 1, &Value::Null, &spec));
    let Some((ticket, Request::Patch { purpose, status, .. })) = request(&mut engine, at(0)) else {
        panic!("another request")
    };
    let known = gate("a", 2, &status, &spec);
    let answer = Answer::Patched(purpose, Verdict::Written(Box::new(Ok(known.clone()))));
    engine.answered(&ticket, answer, at(0));
    (engine, known)
}

#[test]
fn a_timeout_that_has_run_out_while_nobody_answered_waits_until_somebody_has_for_a_while() {
    let (mut engine, known) = waiting();
    assert!(request(&mut engine, at(59)).is_none());
    assert_eq!(unanswered(&mut engine, at(60)), Some(json!("Failed")));
    // From then on it is not written before somebody is known to answer.
    assert_eq!(unanswered(&mut engine, at(61)), None);
    let Some((ticket, Request::Probe(_, purpose))) = request(&mut engine, at(63)) else { panic!("another request") };
    engine.answered(&ticket, Answer::Probed(purpose, Ok(Box::new(Ok(known)))), at(63));
    for second in 63..93 {
        assert!(request(&mut engine, at(second)).is_none(), "{second}");
    }
    assert_eq!(written(&mut engine, at(93)), "Failed");
}

#[test]
fn what_opens_a_gate_while_nobody_answers_is_written_as_soon_as_somebody_does() {
    let (mut engine, known) = waiting();
    let opened = json!({ "phase": "Open", "observedGeneration": 1 });
    assert_eq!(unanswered(&mut engine, at(60)), Some(json!("Failed")));
    let other = gate("b", 3, &opened, &json!({ "conditions": [] }));
    let Some((ticket, Request::Probe(_, purpose))) = request(&mut engine, at(61)) else { panic!("another request") };
    see(&mut engine, &other, at(61));
    engine.answered(&ticket, Answer::Probed(purpose, Ok(Box::new(Ok(known)))), at(61));
    let all: Vec<_> = (0..10).flat_map(|_| engine.turn(at(61), || false)).collect();
    let opens = |request: &Request<Gates>| matches!(request, Request::Patch { key, status, .. } if key.name == "a" && status["phase"] == "Open");
    assert!(all.iter().any(|(_, request)| opens(request)), "it is not opened");
}
