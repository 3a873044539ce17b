//! Gates.

use konductor_api::{
    GateSpec, GateStatus, LeasePhase,
    RendezvousPhase::{self, Failed, Open, Waiting},
    SemaphorePhase,
    arbiter::Now,
    limits::MAX_MESSAGE,
    rendezvous::{
        Plan, Since,
        fact::{Fact, JobState},
        gate::{Cycle, Finding, View, allows, decide},
        tally::{Asked, Member, Tally},
    },
};
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::{Subject, check, clocks};

/// A gate and what it depends on.
#[derive(Default)]
struct Scene {
    spec: Option<GateSpec>,
    generation: i64,
    status: Option<GateStatus>,
    /// Names and facts of what was found for each condition; in the order of creation.
    found: Vec<Found>,
    /// Since when it has been seen to wait as its status says.
    waiting: Option<Since>,
}

#[derive(Clone, Debug)]
enum Found {
    Objects(Vec<(String, Fact)>),
    Forbidden,
    Tangled,
    Crowded,
    Cycle(Cycle),
}

fn fact(word: &str) -> Fact {
    let rendezvous = |phase| Fact::Rendezvous(Some(phase));
    match word.split_once(':').unwrap_or((word, "0")) {
        ("active", _) => Fact::Job(JobState::Active),
        ("suspended", _) => Fact::Job(JobState::Suspended),
        ("complete", _) => Fact::Job(JobState::Complete),
        ("failed", _) => Fact::Job(JobState::Failed),
        ("free", permits) => Fact::Semaphore(Some((SemaphorePhase::Available, permits.parse().expect("permits")))),
        ("full", _) => Fact::Semaphore(Some((SemaphorePhase::Full, 0))),
        ("paused", _) => Fact::Semaphore(Some((SemaphorePhase::Paused, 0))),
        ("held", _) => Fact::Lease(Some(LeasePhase::Held)),
        ("available", _) => Fact::Lease(Some(LeasePhase::Available)),
        ("open", _) => rendezvous(Open),
        ("waiting", _) => rendezvous(Waiting),
        ("gave-up", _) => rendezvous(Failed),
        ("new", _) => Fact::Rendezvous(None),
        ("unreadable", _) => Fact::Unreadable,
        _ => panic!("no fact {word}"),
    }
}

fn cycle(gates: &[&str], whole: bool) -> Found {
    Found::Cycle(Cycle { gates: gates.iter().map(|gate| (*gate).to_owned()).collect(), whole })
}

impl Subject for Scene {
    type Status = GateStatus;

    fn take(&mut self, event: &str, argument: &str, _now: Now) {
        match event {
            "spec" => {
                let spec: GateSpec = serde_json::from_str(argument).expect("a spec");
                if self.spec.as_ref().is_none_or(|before| before.conditions != spec.conditions) {
                    self.found = vec![Found::Objects(Vec::new()); spec.conditions.len()];
                }
                self.spec = Some(spec);
                self.generation += 1;
            }
            "see" => {
                let mut words = argument.split(' ');
                let number: usize = words.next().and_then(|word| word.parse().ok()).expect("a number");
                let words: Vec<_> = words.collect();
                self.found[number] = match words[..] {
                    ["forbidden"] => Found::Forbidden,
                    ["tangled"] => Found::Tangled,
                    ["crowded"] => Found::Crowded,
                    ["cycle", .., "others"] => cycle(&words[1..words.len() - 1], false),
                    ["cycle", ..] => cycle(&words[1..], true),
                    _ => Found::Objects(
                        words
                            .iter()
                            .map(|word| word.split_once('=').expect("NAME=FACT"))
                            .map(|(name, word)| (name.to_owned(), fact(word)))
                            .collect(),
                    ),
                };
            }
            _ => panic!("no event {event}"),
        }
    }

    fn decide(&self, now: Now) -> Plan<GateStatus> {
        let spec = self.spec.as_ref().expect("a spec comes first");
        let tallies: Vec<_> = self
            .found
            .iter()
            .zip(&spec.conditions)
            .map(|(found, condition)| {
                let Found::Objects(objects) = found else { return Tally::new(Asked::by(condition)) };
                let members = objects.iter().zip(0..);
                let members =
                    members.map(|((name, fact), created)| (name.as_str().into(), Member { created, fact: *fact }));
                let mut tally = Tally::new(Asked::by(condition));
                assert!(tally.count(&members.collect(), |member| Some(*member), &mut 1000));
                tally
            })
            .collect();
        let findings =
            self.found.iter().zip(&spec.conditions).zip(&tallies).map(|((found, condition), tally)| match found {
                Found::Forbidden => Finding::Forbidden,
                Found::Tangled => Finding::Tangled,
                Found::Crowded => Finding::Crowded,
                Found::Cycle(cycle) => Finding::Cycle(cycle),
                Found::Objects(objects) if condition.name.is_some() => {
                    Finding::Named(objects.first().map(|(_, fact)| *fact))
                }
                Found::Objects(_) => Finding::Selected(tally.summary().expect("all are counted")),
            });
        let view = View {
            namespace: "etl",
            spec: self.spec.as_ref().expect("a spec comes first"),
            generation: Some(self.generation),
            status: self.status.as_ref(),
            findings: findings.collect(),
            waiting: self.waiting,
        };
        decide(&view, now)
    }

    fn write(&mut self, status: GateStatus, now: Now) {
        let since = |status: &GateStatus| status.waiting_since.clone();
        if self.status.as_ref().and_then(since) != since(&status) {
            self.waiting = since(&status).map(|_| Since::begun(now));
        }
        self.status = Some(status);
    }

    fn restart(&mut self, now: Now) {
        let since = self.status.as_ref().and_then(|status| status.waiting_since.as_ref());
        self.waiting = since.map(|since| Since::found(since.0, now));
    }

    fn figures(status: &GateStatus) -> String {
        let each = status.condition_statuses.iter().map(|one| format!("{} {}", one.met, one.message));
        format!("{}/{} [{}]", status.met.unwrap_or(0), status.total.unwrap_or(0), each.collect::<Vec<_>>().join(" | "))
    }
}

#[test]
fn a_gate_does_what_its_script_says() {
    check("gate.txt", Scene::default());
}

#[test]
fn a_namespace_says_whose_gates_may_look() {
    for (annotation, allowed) in [
        (None, false),
        (Some(""), false),
        (Some("etl"), true),
        (Some("other"), false),
        (Some("other, etl"), true),
        (Some("etl-2,xetl"), false),
        (Some("*"), true),
    ] {
        assert_eq!(allows(annotation, "etl"), allowed, "{annotation:?}");
    }
}

#[test]
fn each_state_is_met_by_what_is_in_it_and_nothing_else() {
    let words =
        "active suspended complete failed free:1 free:5 full paused held available open waiting gave-up new unreadable";
    for (kind, state, value, expected) in [
        ("Job", "Complete", None, "complete"),
        ("Job", "Failed", None, "failed"),
        ("Job", "Active", None, "active"),
        ("Semaphore", "Available", None, "free:1 free:5"),
        ("Semaphore", "Available", Some(2), "free:5"),
        ("Semaphore", "Full", None, "full"),
        ("Lease", "Acquired", None, "held"),
        ("Lease", "Available", None, "available"),
        ("Barrier", "Open", None, "open"),
        ("Barrier", "Closed", None, "waiting gave-up"),
        ("Gate", "Open", None, "open"),
        ("Gate", "Closed", None, "waiting gave-up"),
    ] {
        let condition = json!({ "type": kind, "name": "x", "state": state, "value": value });
        let spec = json!({ "conditions": [condition] }).to_string();
        let of_kind = |word: &&str| match fact(word) {
            Fact::Job(_) => kind == "Job",
            Fact::Semaphore(_) => kind == "Semaphore",
            Fact::Lease(_) => kind == "Lease",
            Fact::Rendezvous(_) => kind == "Barrier" || kind == "Gate",
            Fact::Unreadable => true,
        };
        let met = words.split(' ').filter(of_kind).filter(|word| {
            let mut scene = Scene::default();
            let now = clocks(0, 0);
            scene.take("spec", &spec, now);
            scene.take("see", &format!("0 x={word}"), now);
            let status = scene.decide(now).write.expect("the first status").status;
            status.phase == Some(Open)
        });
        assert_eq!(met.collect::<Vec<_>>().join(" "), expected, "{kind} {state} {value:?}");
    }
}

fn found() -> impl Strategy<Value = Found> {
    let word = prop::sample::select(vec!["active", "complete", "failed", "suspended", "unreadable"]);
    prop_oneof![
        8 => vec(("[a-z]{1,40}", word.prop_map(fact)), 0..6).prop_map(Found::Objects),
        1 => Just(Found::Forbidden),
        1 => Just(Found::Tangled),
        1 => Just(Found::Crowded),
        1 => (vec("[a-z]{1,250}", 1..20), prop::bool::ANY).prop_map(|(gates, whole)| Found::Cycle(Cycle { gates, whole })),
    ]
}

fn counts(found: &Found, least: Option<u32>) -> bool {
    let Found::Objects(objects) = found else { return false };
    let complete = objects.iter().filter(|(_, fact)| *fact == Fact::Job(JobState::Complete)).count();
    !objects.is_empty() && complete >= least.map_or(objects.len(), |least| least as usize)
}

proptest! {
    /// A gate is open exactly while enough of its conditions are met, and says so once.
    #[test]
    fn a_gate_is_open_while_its_conditions_are_met(
        steps in vec((vec((found(), prop::option::of(1_u32..4)), 1..5), prop::bool::ANY, 0_i64..20), 1..20)
    ) {
        let mut scene = Scene::default();
        let (mut now, mut waiting_since) = (0, 0);
        let mut before: Option<RendezvousPhase> = None;
        for (conditions, any, pass) in steps {
            now += pass;
            let specs: Vec<_> = conditions.iter().map(|(_, least)| json!({
                "type": "Job", "state": "Complete", "value": least, "selector": { "matchLabels": { "a": "b" } },
            })).collect();
            let spec = json!({ "conditions": specs, "match": if any { "Any" } else { "All" }, "timeout": "10s" });
            let edited = scene.spec != Some(serde_json::from_value(spec.clone()).expect("a spec"));
            if edited {
                scene.take("spec", &spec.to_string(), clocks(now, now));
            }
            scene.found = conditions.iter().map(|(found, _)| found.clone()).collect();
            let met: Vec<_> = conditions.iter().map(|(found, least)| counts(found, *least)).collect();
            let open = if any { met.contains(&true) } else { !met.contains(&false) };
            if edited || before.is_none_or(|phase| phase == Open) {
                waiting_since = now;
            }
            let expected = if open { Open } else if now >= waiting_since + 10 { Failed } else { Waiting };
            if let Some(write) = scene.decide(clocks(now, now)).write {
                prop_assert!(write.status.condition_statuses.iter().all(|one| one.message.len() <= MAX_MESSAGE as usize));
                prop_assert!(write.status.conditions.iter().all(|one| one.message.len() <= MAX_MESSAGE as usize));
                let found: Vec<_> = write.status.condition_statuses.iter().map(|one| one.met).collect();
                prop_assert_eq!(found, met);
                scene.write(write.status, clocks(now, now));
            }
            prop_assert_eq!(scene.status.as_ref().and_then(|status| status.phase), Some(expected));
            prop_assert_eq!(scene.decide(clocks(now, now)).write, None);
            before = Some(expected);
        }
    }
}
