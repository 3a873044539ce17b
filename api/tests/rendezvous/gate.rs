//! Gates.

use konductor_api::{
    GateSpec, GateStatus, LeasePhase,
    RendezvousPhase::{self, Failed, Open, Waiting},
    SemaphorePhase,
    limits::MAX_MESSAGE,
    rendezvous::{
        Plan,
        fact::{Fact, JobState},
        gate::{Candidate, Finding, View, allows, decide},
    },
};
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::{Subject, at, check};

/// A gate and what it depends on.
#[derive(Default)]
struct Scene {
    spec: Option<GateSpec>,
    generation: i64,
    status: Option<GateStatus>,
    /// Names and facts of what was found for each condition; in the order of creation.
    found: Vec<Found>,
}

#[derive(Clone, Debug)]
enum Found {
    Objects(Vec<(String, Fact)>),
    Forbidden,
    Cycle(Vec<String>),
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

impl Subject for Scene {
    type Status = GateStatus;

    fn take(&mut self, event: &str, argument: &str) {
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
                    ["cycle", ..] => Found::Cycle(words[1..].iter().map(|word| (*word).to_owned()).collect()),
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

    fn decide(&self, now: i64) -> Plan<GateStatus> {
        let findings = self.found.iter().map(|found| match found {
            Found::Forbidden => Finding::Forbidden,
            Found::Cycle(gates) => Finding::Cycle(gates.clone()),
            Found::Objects(objects) => {
                let candidates = objects.iter().zip(0..);
                Finding::Objects(
                    candidates.map(|((name, fact), created)| Candidate { name, created, fact: *fact }).collect(),
                )
            }
        });
        let view = View {
            namespace: "etl",
            spec: self.spec.as_ref().expect("a spec comes first"),
            generation: Some(self.generation),
            status: self.status.as_ref(),
            findings: findings.collect(),
        };
        decide(&view, at(now))
    }

    fn write(&mut self, status: GateStatus) {
        self.status = Some(status);
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
            scene.take("spec", &spec);
            scene.take("see", &format!("0 x={word}"));
            let status = scene.decide(0).write.expect("the first status").status;
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
        1 => vec("[a-z]{1,250}", 1..20).prop_map(Found::Cycle),
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
                scene.take("spec", &spec.to_string());
            }
            scene.found = conditions.iter().map(|(found, _)| found.clone()).collect();
            let met: Vec<_> = conditions.iter().map(|(found, least)| counts(found, *least)).collect();
            let open = if any { met.contains(&true) } else { !met.contains(&false) };
            if edited || before.is_none_or(|phase| phase == Open) {
                waiting_since = now;
            }
            let expected = if open { Open } else if now >= waiting_since + 10 { Failed } else { Waiting };
            if let Some(write) = scene.decide(now).write {
                prop_assert!(write.status.condition_statuses.iter().all(|one| one.message.len() <= MAX_MESSAGE as usize));
                prop_assert!(write.status.conditions.iter().all(|one| one.message.len() <= MAX_MESSAGE as usize));
                let found: Vec<_> = write.status.condition_statuses.iter().map(|one| one.met).collect();
                prop_assert_eq!(found, met);
                scene.write(write.status);
            }
            prop_assert_eq!(scene.status.as_ref().and_then(|status| status.phase), Some(expected));
            prop_assert_eq!(scene.decide(now).write, None);
            before = Some(expected);
        }
    }
}
