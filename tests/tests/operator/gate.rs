//! Gates: what they depend on, and when they are open.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use konductor_api::RendezvousPhase::{Failed, Open, Waiting};
use konductor_api::{Barrier, Gate, Lease, LeaseRequest, Permit, Rendezvous, Semaphore};
use konductor_tests::{ControlPlane, Installed, Signal, eventually};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::LIMIT;
use crate::rendezvous::{Place, conditions, place};

impl Place {
    /// Creates a Job. Nothing runs it: its status is the test's.
    async fn job(&self, name: &str, labels: Value) {
        let template =
            json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "none" }] } });
        self.create::<Job>(name, json!({ "metadata": { "labels": labels }, "spec": { "template": template } })).await;
    }

    /// Writes what the Job controller would of a Job that has succeeded.
    async fn job_complete(&self, name: &str) {
        self.patch_status::<Job>(name, ended("Complete", "SuccessCriteriaMet", true)).await;
    }

    /// Writes what the Job controller would of a Job that has failed for good.
    async fn job_failed(&self, name: &str) {
        self.patch_status::<Job>(name, ended("Failed", "FailureTarget", false)).await;
    }

    /// Waits until the gate says so.
    async fn says(&self, gate: &str, message: &str) -> Gate {
        self.until(gate, |gate: &Gate| gate.message() == Some(message)).await
    }
}

/// The status of a Job that has ended.
fn ended(condition: &str, before: &str, completed: bool) -> Value {
    let now = "2030-01-01T00:00:00Z";
    let one = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "Test", "message": "" });
    let mut status = json!({ "startTime": now, "active": 0, "conditions": [one(before), one(condition)] });
    if completed {
        status["completionTime"] = now.into();
    }
    status
}

fn job(name: &str, state: &str) -> Value {
    json!({ "type": "Job", "name": name, "state": state })
}

#[tokio::test]
async fn a_gate_is_open_while_a_job_is_as_wanted() {
    let place = place("job").await;
    place.gate("done", json!({ "conditions": [job("j", "Complete")] })).await;
    place.gate("failed", json!({ "conditions": [job("j", "Failed")] })).await;
    place.gate("runs", json!({ "conditions": [job("j", "Active")] })).await;
    let missing = "0 of 1 conditions met: Job j does not exist";
    let gate = place.says("done", missing).await;
    assert_eq!(conditions(&gate), ["Ready True Accepted", "Open False Waiting", "Failed False Waiting"]);
    place.says("runs", missing).await;

    place.job("j", json!({})).await;
    place.gate_in("runs", Open).await;
    // A pod of it failed, and the Job tries again: nothing is decided.
    place.patch_status::<Job>("j", json!({ "active": 1, "failed": 1 })).await;
    place.patch::<Job>("j", json!({ "spec": { "suspend": true } })).await;
    place.says("runs", "0 of 1 conditions met: Job j is suspended, wanted Active").await;
    place.says("failed", "0 of 1 conditions met: Job j is suspended, wanted Failed").await;
    place.patch::<Job>("j", json!({ "spec": { "suspend": false } })).await;
    place.gate_in("runs", Open).await;
    place.job_failed("j").await;
    let gate = place.gate_in("failed", Open).await;
    assert_eq!(conditions(&gate), ["Ready True Accepted", "Open True Met", "Failed False Met"]);
    place.says("done", "0 of 1 conditions met: Job j has failed, wanted Complete").await;
    place.gate_in("runs", Waiting).await;

    place.delete::<Job>("j").await;
    place.says("failed", missing).await;
    // Made again, and done before anybody could look twice.
    place.job("j", json!({})).await;
    place.job_complete("j").await;
    let gate = place.gate_in("done", Open).await;
    let status = gate.status.expect("a status");
    assert_eq!((status.met, status.total, status.waiting_since), (Some(1), Some(1), None));
    assert_eq!(status.condition_statuses[0].message, "Job j is complete");
}

#[tokio::test]
async fn jobs_are_selected_by_their_labels() {
    let place = place("labels").await;
    let selector = json!({ "matchLabels": { "stage": "extract" } });
    let condition = json!({ "type": "Job", "selector": selector, "state": "Complete" });
    let with = |field: &str, value: Value| {
        let mut condition = condition.clone();
        condition[field] = value;
        json!({ "conditions": [condition] })
    };
    place.gate("all", json!({ "conditions": [condition] })).await;
    place.gate("two", with("value", json!(2))).await;
    place.gate("newest", with("pick", json!("Newest"))).await;
    place.says("all", "0 of 1 conditions met: no Job has stage=extract").await;
    for name in ["a", "b", "c"] {
        place.job(name, json!({ "stage": "extract" })).await;
    }
    place.job("other", json!({ "stage": "load" })).await;
    place.says("all", "0 of 1 conditions met: 0 of 3 Jobs with stage=extract are Complete; a is active").await;
    place.job_complete("c").await;
    place.says("all", "0 of 1 conditions met: 1 of 3 Jobs with stage=extract are Complete; a is active").await;
    place.job_complete("a").await;
    place.gate_in("two", Open).await;
    place.says("all", "0 of 1 conditions met: 2 of 3 Jobs with stage=extract are Complete; b is active").await;
    // One that changes its labels is another matter.
    place.patch::<Job>("b", json!({ "metadata": { "labels": { "stage": "none" } } })).await;
    place.gate_in("all", Open).await;
    place.gate_in("newest", Open).await;
    // As a CronJob's next one: at least a second later, as times of creation are whole seconds.
    let last = place.api::<Job>().get("c").await.expect("read").creation_timestamp().expect("a time").0;
    eventually(LIMIT, "a Job that is newer", || async {
        place.job("next", json!({ "stage": "extract" })).await;
        let created = place.api::<Job>().get("next").await.expect("read").creation_timestamp().expect("a time").0;
        if created > last {
            return Ok(());
        }
        place.delete::<Job>("next").await;
        Err("created in the same second")
    })
    .await;
    place
        .says("newest", "0 of 1 conditions met: Job next, the newest with stage=extract, is active, wanted Complete")
        .await;
    place.job_complete("next").await;
    place.gate_in("newest", Open).await;
}

#[tokio::test]
async fn a_gate_looks_at_locks_barriers_and_other_gates() {
    let place = place("kinds").await;
    let one = |kind: &str, name: &str, state: &str| json!({ "type": kind, "name": name, "state": state });
    let all = json!([
        { "type": "Semaphore", "name": "s", "state": "Available", "value": 2 },
        one("Lease", "l", "Available"),
        one("Barrier", "b", "Open"),
        one("Gate", "inner", "Open"),
    ]);
    place.gate("all", json!({ "conditions": all })).await;
    place
        .gate(
            "any",
            json!({ "match": "Any", "conditions": [
                one("Semaphore", "s", "Full"), one("Lease", "l", "Acquired"),
            ]}),
        )
        .await;
    place.gate("not-yet", json!({ "conditions": [one("Barrier", "b", "Closed")] })).await;
    place.gate("inner", json!({ "conditions": [one("Barrier", "b", "Open")] })).await;
    place.says("all", "0 of 4 conditions met: Semaphore s does not exist").await;
    place.create::<Semaphore>("s", json!({ "spec": { "permits": 2 } })).await;
    place.create::<Lease>("l", json!({ "spec": {} })).await;
    place.barrier("b", json!({ "expected": 1 })).await;
    place.gate_in("not-yet", Open).await;
    place.says("all", "2 of 4 conditions met: Barrier b is waiting, wanted Open").await;
    place.says("any", "0 of 2 conditions met, one is enough: Semaphore s has 2 permits free, wanted Full").await;
    place.arrive("b", "1").await;
    // Through the barrier and the gate between.
    place.gate_in("all", Open).await;
    place.gate_in("not-yet", Waiting).await;

    let claim =
        |lock: &str, name: &str| json!({ "spec": { lock: name, "holder": "h", "instance": "i", "ttl": "24h" } });
    place.create::<Permit>("p", claim("semaphore", "s")).await;
    place.says("all", "3 of 4 conditions met: Semaphore s has 1 permits free, wanted 2").await;
    place.create::<Permit>("q", claim("semaphore", "s")).await;
    place.gate_in("any", Open).await;
    place.delete::<Permit>("p").await;
    place.delete::<Permit>("q").await;
    place.gate_in("all", Open).await;
    place.gate_in("any", Waiting).await;
    place.create::<LeaseRequest>("r", claim("lease", "l")).await;
    place.gate_in("any", Open).await;
    place.says("all", "3 of 4 conditions met: Lease l is held, wanted Available").await;
}

#[tokio::test]
async fn a_gate_that_waited_too_long_fails_and_a_person_decides_over_it() {
    let place = place("person").await;
    place.gate("g", json!({ "conditions": [job("j", "Complete")], "timeout": "1s" })).await;
    let gate = place.gate_in("g", Failed).await;
    assert_eq!(conditions(&gate), ["Ready True Accepted", "Open False TimedOut", "Failed True TimedOut"]);
    assert_eq!(gate.message(), Some("not open within 1s; 0 of 1 conditions met: Job j does not exist"));
    place.patch::<Gate>("g", json!({ "spec": { "override": "Open" } })).await;
    let gate = place.gate_in("g", Open).await;
    assert_eq!(conditions(&gate), ["Ready True Accepted", "Open True Overridden", "Failed False Overridden"]);
    place.patch::<Gate>("g", json!({ "spec": { "override": "Closed" } })).await;
    assert_eq!(place.gate_in("g", Waiting).await.message(), Some("closed by override; 0 of 1 conditions met"));
    place.job("j", json!({})).await;
    place.job_complete("j").await;
    place.says("g", "closed by override; 1 of 1 conditions met").await;
    place.patch::<Gate>("g", json!({ "spec": { "override": null } })).await;
    place.gate_in("g", Open).await;
    place.delete::<Job>("j").await;
    place.gate_in("g", Failed).await;
    // What comes after all is welcome.
    place.job("j", json!({})).await;
    place.job_complete("j").await;
    place.gate_in("g", Open).await;
}

#[tokio::test]
async fn gates_that_wait_for_themselves_are_told_so() {
    let place = place("cycle").await;
    let of = |name: &str, state: &str| json!({ "conditions": [{ "type": "Gate", "name": name, "state": state }] });
    place.gate("a", of("b", "Open")).await;
    place.gate("b", of("c", "Closed")).await;
    place.gate("beside", of("a", "Closed")).await;
    place.says("a", "0 of 1 conditions met: Gate b is waiting, wanted Open").await;
    place.gate("c", of("a", "Open")).await;
    for (gate, way) in [("a", "a → b → c → a"), ("b", "b → c → a → b"), ("c", "c → a → b → c")] {
        place.says(gate, &format!("0 of 1 conditions met: the gate waits for itself: {way}")).await;
    }
    // It only looks at one.
    place.gate_in("beside", Open).await;
    // By labels: itself among others.
    let own = json!({ "metadata": { "labels": { "team": "etl" } }, "spec": { "conditions": [
        { "type": "Gate", "selector": { "matchLabels": { "team": "etl" } }, "state": "Open" },
    ]}});
    place.create::<Gate>("own", own).await;
    place.says("own", "0 of 1 conditions met: the gate waits for itself: own → own").await;
    place.patch::<Gate>("own", json!({ "metadata": { "labels": { "team": null } } })).await;
    place.says("own", "0 of 1 conditions met: no Gate has team=etl").await;
    // Overridden, a gate waits for nothing: the others are judged again.
    place.patch::<Gate>("c", json!({ "spec": { "override": "Closed" } })).await;
    place.gate_in("b", Open).await;
    place.gate_in("a", Open).await;
    place.gate_in("beside", Waiting).await;
}

#[tokio::test]
async fn another_namespace_has_to_allow_it() {
    let place = place("guest").await;
    let host = crate::rendezvous::place("host").await;
    host.job("j", json!({})).await;
    host.job_complete("j").await;
    let condition = json!({ "type": "Job", "name": "j", "namespace": host.0.name, "state": "Complete" });
    place.gate("g", json!({ "conditions": [condition] })).await;
    let forbidden = format!(
        "0 of 1 conditions met: namespace {} does not let gates of namespace {} look: its annotation konductor.io/gates-from has to name that one",
        host.0.name, place.0.name
    );
    place.says("g", &forbidden).await;
    let namespaces: Api<Namespace> = Api::all(place.0.client.clone());
    let annotate = async |value: Value| {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "konductor.io/gates-from": value } } }));
        namespaces.patch(&host.0.name, &PatchParams::default(), &patch).await.expect("annotate");
    };
    annotate(json!("some,others")).await;
    annotate(json!(format!("some, {}", place.0.name))).await;
    place.gate_in("g", Open).await;
    annotate(json!(null)).await;
    place.says("g", &forbidden).await;
    annotate(json!("*")).await;
    place.gate_in("g", Open).await;
    host.delete::<Job>("j").await;
    place.says("g", &format!("0 of 1 conditions met: Job j in namespace {} does not exist", host.0.name)).await;
}

#[tokio::test]
async fn a_new_leader_leaves_open_what_is_open_and_decides_what_is_not() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let mut leader = installed.operator("first", &["--lease-duration", "2s"]);
    let place = Place(control_plane.namespace("takeover").await);
    place.job("done", json!({})).await;
    place.job_complete("done").await;
    place.job("later", json!({})).await;
    place.gate("open", json!({ "conditions": [job("done", "Complete")] })).await;
    place.gate("through", json!({ "conditions": [{ "type": "Gate", "name": "open", "state": "Open" }] })).await;
    place.gate("later", json!({ "conditions": [job("later", "Complete")] })).await;
    place.gate_in("through", Open).await;
    place.gate_in("later", Waiting).await;
    let before: Vec<_> = {
        leader.signal(Signal::SIGKILL);
        leader.expect_exit(LIMIT, 137).await;
        let gates = place.api::<Gate>().list(&ListParams::default()).await.expect("list");
        gates.iter().filter(|gate| gate.name_any() != "later").map(ResourceExt::resource_version).collect()
    };
    place.job_complete("later").await;
    let _next = installed.operator("second", &["--lease-duration", "2s"]);
    place.gate_in("later", Open).await;
    // No write was made to those that were right.
    let gates = place.api::<Gate>().list(&ListParams::default()).await.expect("list");
    let after: Vec<_> =
        gates.iter().filter(|gate| gate.name_any() != "later").map(ResourceExt::resource_version).collect();
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_thousand_gates_follow_a_thousand_jobs() {
    const ALL: usize = 1000;
    let place = place("thousand").await;
    let names: Vec<_> = (0..ALL).map(|number| format!("n{number}")).collect();
    let work = stream::iter(&names).for_each_concurrent(32, |name| {
        let place = &place;
        async move {
            place.job(name, json!({ "all": "yes" })).await;
            place.gate(name, json!({ "conditions": [job(name, "Complete")] })).await;
        }
    });
    work.await;
    let every = json!({ "type": "Job", "selector": { "matchLabels": { "all": "yes" } }, "state": "Complete" });
    place.gate("every", json!({ "conditions": [every] })).await;
    // Long enough for thousands of writes on a machine that does other things.
    let limit = Duration::from_mins(5);
    let open = async |wanted: usize| {
        let begun = tokio::time::Instant::now();
        eventually(limit, &format!("{wanted} gates open"), || async {
            let gates = place.api::<Gate>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let decided = gates.iter().filter(|gate| gate.phase().is_some()).count();
            let open = gates.iter().filter(|gate| gate.phase() == Some(Open)).count();
            if (decided, open) == (ALL + 1, wanted) { Ok(()) } else { Err(format!("{open} of {decided}")) }
        })
        .await;
        begun.elapsed()
    };
    open(0).await;
    // One at a time: from the sending of a Job's end to the sight of its gate open.
    let mut delays = Vec::new();
    for name in &names[..50] {
        let begun = tokio::time::Instant::now();
        place.job_complete(name).await;
        place.gate_in(name, Open).await;
        delays.push(begun.elapsed());
    }
    delays.sort();
    println!(
        "1,000 gates, one Job ends: its gate is seen open after {:?} (median), {:?} (slowest of 50)",
        delays[25], delays[49]
    );
    stream::iter(&names[50..]).for_each_concurrent(32, |name| place.job_complete(name)).await;
    println!("1,000 gates, all Jobs have ended: the last gate is open {:?} later", open(ALL + 1).await);
    // And what a barrier's opening means to a gate.
    place.barrier("b", json!({ "expected": 1 })).await;
    place.gate("of-barrier", json!({ "conditions": [{ "type": "Barrier", "name": "b", "state": "Open" }] })).await;
    place.until::<Barrier>("b", |barrier| barrier.phase().is_some()).await;
    let begun = tokio::time::Instant::now();
    place.arrive("b", "1").await;
    place.gate_in("of-barrier", Open).await;
    println!("1,000 gates: an arrival opens a barrier and a gate behind it after {:?}", begun.elapsed());
}
