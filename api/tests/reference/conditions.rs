//! Conditions, as the rules answer them.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use konductor_api::{
    BarrierSpec, ClaimPhase, GateSpec, GateStatus, Lease, Lock, RendezvousStatus, Semaphore,
    arbiter::{ClaimState, Now, ParentState, ParentSummary, Tenure, claim_status},
    rendezvous::{
        Plan, Since, barrier,
        fact::{Fact, JobState},
        gate::{self, Finding},
    },
};
use schemars::schema_for;
use serde_json::json;

use super::{code, plain};

/// A condition that a rule gave to an object of this kind.
pub(super) struct Case {
    pub(super) kind: &'static str,
    condition: Condition,
}

/// When the operator has run for so long.
fn after(seconds: u64) -> Now {
    let wall = Timestamp::from_second(1_800_000_000 + seconds as i64).expect("a time");
    Now { monotonic: Duration::from_secs(seconds), wall }
}

/// Every condition in each of its states.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind, conditions: Vec<Condition>| {
        cases.extend(conditions.into_iter().map(|condition| Case { kind, condition }));
    };
    for (capacity, in_use, waiting) in [(3, 1, 0), (3, 3, 2), (0, 1, 2)] {
        let available = u64::saturating_sub(capacity, in_use);
        add(
            "Semaphore",
            Semaphore::status_of(&parent(in_use, available, waiting, None), capacity, now(), &[]).conditions,
        );
    }
    let held = Tenure { token: 1, since: now() };
    for (in_use, tenure) in [(0, None), (1, Some(held))] {
        add("Lease", Lease::status_of(&parent(in_use, 1 - in_use, in_use * 2, tenure), 1, now(), &[]).conditions);
    }
    for kind in ["Permit", "LeaseRequest"] {
        for (phase, revoked) in [
            (ClaimPhase::Pending, false),
            (ClaimPhase::Granted, false),
            (ClaimPhase::Revoking, false),
            (ClaimPhase::Expired, false),
            (ClaimPhase::Expired, true),
        ] {
            // Its message is what the operator tells of this one claim, and no rule's.
            let state = ClaimState { phase: Some(phase), revoked, ..ClaimState::default() };
            add(kind, claim_status(&state, 1, now(), &[]).conditions);
        }
    }
    for (arrived, quorum, waited) in [(1, None, 0), (3, None, 0), (2, Some(2), 3600), (1, Some(2), 3600)] {
        add("Barrier", barrier(arrived, quorum, waited));
    }
    for (fact, r#override, waited) in [
        (JobState::Active, None, 0),
        (JobState::Complete, None, 0),
        (JobState::Active, None, 3600),
        (JobState::Active, Some("Open"), 0),
        (JobState::Complete, Some("Closed"), 0),
    ] {
        add("Gate", gate(fact, r#override, waited));
    }
    cases
}

fn now() -> Timestamp {
    after(0).wall
}

fn parent(in_use: u64, available: u64, waiting: u64, tenure: Option<Tenure>) -> ParentState {
    let holders = if in_use > 0 { vec!["import-7xk2p".to_owned()] } else { Vec::new() };
    let summary = ParentSummary { generation: Some(1), in_use, available, waiting, holders, tenure };
    ParentState { term: 1, settled_term: 1, summary }
}

/// A barrier that expects three, so long after the first has arrived.
fn barrier(arrived: u64, quorum: Option<u32>, waited: u64) -> Vec<Condition> {
    let spec = json!({ "expected": 3, "quorum": quorum, "timeout": "30m" });
    let spec: BarrierSpec = serde_json::from_value(spec).expect("a spec");
    let view = barrier::View {
        spec: &spec,
        generation: Some(1),
        created: now(),
        status: None,
        arrived,
        first: Some(now()),
        first_seen: Some(Since::begun(after(0))),
        end_seen: None,
    };
    written(barrier::decide(&view, after(waited)))
}

/// A gate that waits for a Job, and has done so for this long.
fn gate(job: JobState, r#override: Option<&str>, waited: u64) -> Vec<Condition> {
    let condition = json!({ "type": "Job", "name": "migrate", "state": "Complete" });
    let spec = json!({ "conditions": [condition], "timeout": "30m", "override": r#override });
    let spec: GateSpec = serde_json::from_value(spec).expect("a spec");
    let since = MicroTime(now());
    let before = GateStatus { waiting_since: Some(since), observed_generation: Some(1), ..GateStatus::default() };
    let view = gate::View {
        namespace: "etl",
        spec: &spec,
        generation: Some(1),
        status: Some(&before),
        findings: vec![Finding::Named(Some(Fact::Job(job)))],
        waiting: Some(Since::begun(after(0))),
    };
    written(gate::decide(&view, after(waited)))
}

fn written<S: RendezvousStatus>(plan: Plan<S>) -> Vec<Condition> {
    plan.write.expect("a status").status.conditions().to_vec()
}

/// Condition, status, reason, when that is, and an example of a message. What is said alike in several cases is a row.
pub(super) fn rows(cases: &[&Case]) -> Vec<[String; 5]> {
    let meanings = meanings();
    let mut rows: BTreeMap<_, [String; 5]> = BTreeMap::new();
    for Case { kind, condition } in cases {
        let Condition { type_, status, reason, message, .. } = condition;
        let when = meanings.get(reason).unwrap_or_else(|| panic!("{kind} {type_}: {reason} is not explained"));
        let order = (cases.iter().position(|case| case.condition.type_ == *type_), status.clone(), reason.clone());
        let example = if message.is_empty() { String::new() } else { code(message) };
        rows.entry(order).or_insert([code(type_), status.clone(), code(reason), when.clone(), example]);
    }
    rows.into_values().collect()
}

/// What each reason means: by the comment of its constant, or of the claim's phase that it is named after.
fn meanings() -> BTreeMap<String, String> {
    let phases = serde_json::to_value(schema_for!(ClaimPhase)).expect("JSON");
    let phases = phases["oneOf"].as_array().expect("phases").iter().map(|phase| {
        let text = |name: &str| phase[name].as_str().expect("a text").to_owned();
        (text("const"), plain(&text("description")))
    });
    let reasons = reasons().into_iter().map(|(reason, _, meaning)| (reason, meaning));
    // A constant that is also a reason of events says so of these.
    reasons.chain(phases).collect()
}

/// The reasons of conditions: each with the conditions' constants, and when it is given.
fn reasons() -> Vec<(String, String, String)> {
    let (mut found, mut comment) = (Vec::new(), String::new());
    for line in include_str!("../../src/conditions.rs").lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            comment += " ";
            comment += text;
            continue;
        }
        let value = line.strip_prefix("pub const ").and_then(|line| line.split('"').nth(1));
        if let (Some(value), Some((of, when))) =
            (value, comment.trim().strip_prefix("Reason of [").and_then(|c| c.split_once(": ")))
        {
            found.push((value.to_owned(), of.to_owned(), plain(when)));
        }
        comment.clear();
    }
    found
}

/// None is left out.
#[test]
fn every_reason_of_a_condition_is_on_a_page() {
    let cases = cases();
    let reasons = reasons();
    assert!(reasons.len() >= 10, "{reasons:?}");
    for (reason, of, _) in reasons {
        assert!(cases.iter().any(|case| case.condition.reason == reason), "no case of {reason} ({of})");
    }
}
