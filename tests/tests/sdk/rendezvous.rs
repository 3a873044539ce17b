//! Waiting for barriers and gates, and arriving at barriers. The operator is played by hand.

use konductor::rendezvous::{Awaited, Progress, wait};
use konductor::{AcquireError, RendezvousError};
use konductor_api::{Arrival, Barrier, Gate};
use konductor_tests::ControlPlane;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::hand::{Hand, LIMIT};

/// Creates the gate `g`.
async fn gate(hand: &Hand) -> Api<Gate> {
    let gates = hand.namespace.api::<Gate>();
    let conditions = json!([{ "type": "Job", "name": "j", "state": "Complete" }]);
    let gate = json!({ "metadata": { "name": "g" }, "spec": { "conditions": conditions } });
    let gate = serde_json::from_value(gate).expect("a Gate");
    gates.create(&PostParams::default(), &gate).await.expect("create a Gate");
    gates
}

/// Writes the gate's status as the operator would in answer to the spec of this generation.
async fn decide(gates: &Api<Gate>, generation: u32, phase: &str, message: &str) {
    let condition = |kind: &str| {
        let status = if kind == phase { "True" } else { "False" };
        json!({
            "type": kind, "status": status, "reason": "Test", "message": message,
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        })
    };
    let conditions = [condition("Open"), condition("Failed")];
    let status = json!({ "phase": phase, "observedGeneration": generation, "conditions": conditions });
    patch_status(gates, status).await;
}

async fn patch_status(gates: &Api<Gate>, status: Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    gates.patch_status("g", &PatchParams::default(), &patch).await.expect("write a status");
}

/// Starts to wait for the gate `g`, and returns what is told.
fn waiting(hand: &Hand) -> UnboundedReceiver<Progress> {
    let (tell, told) = unbounded_channel();
    tokio::spawn(wait(hand.client.clone(), Awaited::gate("g"), move |progress| {
        // A test that has ended hears no more.
        let _ = tell.send(progress);
    }));
    told
}

/// What is told next, but for trouble: an API server that has just learnt of a resource may ask for patience.
async fn next(told: &mut UnboundedReceiver<Progress>) -> Progress {
    loop {
        let next = tokio::time::timeout(LIMIT, told.recv()).await;
        match next.expect("something is told in time").expect("something is told") {
            Progress::Retrying { .. } => {}
            progress => return progress,
        }
    }
}

#[tokio::test]
async fn a_gate_is_waited_for_from_before_it_exists() {
    let hand = Hand::new(ControlPlane::shared().await, "gate").await;
    let mut told = waiting(&hand);
    assert_eq!(next(&mut told).await, Progress::Waiting { message: String::new(), missing: true });
    let gates = gate(&hand).await;
    assert_eq!(next(&mut told).await, Progress::Seen);
    decide(&gates, 1, "Waiting", "not yet").await;
    assert_eq!(next(&mut told).await, Progress::Waiting { message: "not yet".into(), missing: false });
    decide(&gates, 1, "Open", "all are met").await;
    assert_eq!(next(&mut told).await, Progress::Done);
    assert_eq!(told.recv().await, None);
    // What is open is open for whoever comes later.
    hand.client.gate("g").wait().await.expect("it is open");
}

#[tokio::test]
async fn what_answers_an_older_spec_is_not_believed() {
    let hand = Hand::new(ControlPlane::shared().await, "edited").await;
    let gates = gate(&hand).await;
    decide(&gates, 1, "Open", "all are met").await;
    let patch = Patch::Merge(json!({ "spec": { "timeout": "1h" } }));
    gates.patch("g", &PatchParams::default(), &patch).await.expect("edit a Gate");
    let mut told = waiting(&hand);
    assert_eq!(next(&mut told).await, Progress::Seen);
    decide(&gates, 2, "Failed", "the timeout has passed").await;
    let error = RendezvousError::Failed("the timeout has passed".into());
    assert_eq!(next(&mut told).await, Progress::Failed { error: error.clone() });
    assert_eq!(hand.client.gate("g").wait().await, Err(error));
}

#[tokio::test]
async fn who_arrives_twice_has_arrived_once() {
    let hand = Hand::new(ControlPlane::shared().await, "arrive").await;
    let barriers = hand.namespace.api::<Barrier>();
    let barrier = json!({ "metadata": { "name": "b" }, "spec": { "expected": 2 } });
    let barrier = serde_json::from_value(barrier).expect("a Barrier");
    let barrier = barriers.create(&PostParams::default(), &barrier).await.expect("create a Barrier");
    for holder in ["first", "second"] {
        hand.client.barrier("b").key("orders").holder(holder).arrive().await.expect("arrive");
    }
    let arrivals = hand.namespace.api::<Arrival>().list(&ListParams::default()).await.expect("list").items;
    let [arrival] = arrivals.as_slice() else { panic!("{arrivals:#?}") };
    assert_eq!([&arrival.spec.barrier, &arrival.spec.key, &arrival.spec.holder], ["b", "orders", "first"]);
    let owners: Vec<_> = arrival.metadata.owner_references.iter().flatten().collect();
    assert_eq!(owners.iter().map(|owner| Some(&owner.uid)).collect::<Vec<_>>(), [barrier.metadata.uid.as_ref()]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_once() {
    let hand = Hand::new(ControlPlane::shared().await, "names").await;
    let wrong = RendezvousError::Request(AcquireError::Name("../b".into()));
    assert_eq!(hand.client.barrier("../b").wait().await, Err(wrong));
    let local = konductor::Client::local(".");
    assert_eq!(local.gate("g").wait().await, Err(RendezvousError::NeedsCluster));
    let too_long = hand.client.barrier("b").key("k".repeat(254)).arrive().await;
    let refused = |error: &RendezvousError| matches!(error, RendezvousError::Request(AcquireError::Refused { .. }));
    assert!(too_long.as_ref().is_err_and(refused), "{too_long:?}");
}
