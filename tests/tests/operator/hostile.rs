//! What others may store, and what they may make others wait for. Whatever one of them does, everybody else gets an
//! answer.

use http::{Method, Request};
use konductor_api::{Barrier, ClaimPhase, Gate, PodReference, RendezvousPhase, limits::MAX_GATE_CONDITIONS};
use konductor_tests::{ControlPlane, Fate, Gateway, Installed, Rule, eventually, get, wait_for};
use kube::{
    Client, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::cluster::{LIMIT, Scene, namespace, shared};

/// A time that Kubernetes stores and Rust's types refuse.
const END_OF_TIME: &str = "9999-12-31T23:59:59Z";

/// Sends a request as it is: what is tried here, types refuse.
async fn raw(client: &Client, method: Method, path: &str, body: &Value) -> Value {
    let content_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    let request = request.body(body.to_string().into_bytes()).expect("a request");
    client.request(request).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn permit(scene: &Scene, name: &str) -> String {
    format!("/apis/konductor.io/v1/namespaces/{}/permits/{name}", scene.namespace.name)
}

async fn patch_permit(scene: &Scene, name: &str, patch: &Value) {
    raw(&scene.client(), Method::PATCH, &permit(scene, name), patch).await;
}

/// Entries of `metadata.managedFields` with this time.
fn managed(time: &str) -> Value {
    json!({ "metadata": { "managedFields": [{
        "manager": "somebody", "operation": "Update", "apiVersion": "konductor.io/v1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:holder": {} } },
    }]}})
}

/// Others are served, in a namespace of their own.
async fn others_are_served() {
    let scene = namespace("others").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
    scene.claim("s", "b").await;
    scene.release("a").await;
    scene.granted("b").await;
}

#[tokio::test]
async fn times_that_no_type_holds_stop_nobody_not_even_their_own_claim() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let scene = Scene::<konductor_api::Semaphore>::of(control_plane.namespace("times").await);
    let operator = installed.operator("first", &[]);
    scene.semaphore("s", 1).await;
    // Long enough to be seen granted, on a machine that stands still for ten seconds.
    scene.claim_with("s", "a", &json!({ "ttl": "15s" })).await;
    for name in ["b", "c"] {
        scene.claim("s", name).await;
    }
    scene.granted("a").await;
    patch_permit(&scene, "b", &managed(END_OF_TIME)).await;
    for odd in [END_OF_TIME, "2026-01-01t00:00:00.1234567890123z", "0001-01-01T00:00:00Z"] {
        patch_permit(&scene, "a", &json!({ "spec": { "renewTime": odd } })).await;
    }
    // The claim that was renewed so expires, and the one with the odd metadata is next: both are read.
    let phase = |name: &'static str, wanted: &'static str| {
        let (client, path) = (scene.client(), permit(&scene, name));
        async move {
            eventually(LIMIT, &format!("{name} to be {wanted}"), || async {
                let found = raw(&client, Method::GET, &path, &json!({})).await;
                if found["status"]["phase"] == wanted { Ok(()) } else { Err(found["status"].to_string()) }
            })
            .await;
        }
    };
    phase("a", "Expired").await;
    phase("b", "Granted").await;
    // Also for an operator that meets all of it in its first list.
    drop(operator);
    let _second = installed.operator("second", &[]);
    scene.claim("s", "d").await;
    raw(&scene.client(), Method::DELETE, &permit(&scene, "b"), &json!({})).await;
    phase("c", "Granted").await;
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_stops_nobody() {
    let scene = namespace("unreadable").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "odd").await;
    scene.granted("odd").await;
    // The schema lets it through: it is a duration, but longer than anything can count.
    let status = json!({ "status": { "phase": "Granted", "ttl": "99999999999999999h" } });
    let path = format!("{}/status", permit(&scene, "odd"));
    raw(&scene.client(), Method::PATCH, &path, &status).await;
    let note = scene.event("Permit", "odd", "Unreadable").await;
    assert!(note.starts_with("left alone, as it cannot be read: "), "{note}");
    others_are_served().await;
    let operator = shared().await;
    eventually(LIMIT, "the metric", || async {
        let (_, metrics) = get(operator, "/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with(r#"konductor_unreadable{resource="permits"}"#));
        if line.is_some_and(|line| !line.ends_with(" 0")) { Ok(()) } else { Err(metrics) }
    })
    .await;
    // It counts as held until it is deleted, or its longest time to live has passed.
    scene.claim("s", "next").await;
    scene.ahead("next", 0).await;
    raw(&scene.client(), Method::DELETE, &permit(&scene, "odd"), &json!({})).await;
    scene.granted("next").await;
}

#[tokio::test]
async fn claims_with_a_quarter_of_a_megabyte_each_cost_little_memory() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let scene = Scene::<konductor_api::Semaphore>::of(control_plane.namespace("bytes").await);
    let text = "x".repeat(250_000);
    for number in 0..200 {
        scene.claim("s", &number.to_string()).await;
        let annotations = json!({ "metadata": { "annotations": { "somebody/text": text } } });
        patch_permit(&scene, &number.to_string(), &annotations).await;
    }
    let operator = installed.operator("operator", &[]);
    scene.semaphore("s", 200).await;
    scene.status("s", |status| status.in_use == Some(200)).await;
    // The goal, and some room for what a debug build has more.
    let peak = operator.peak_memory() >> 20;
    assert!(peak <= 64, "{peak} MiB at the peak");
}

#[tokio::test]
async fn arrivals_that_do_not_go_stop_no_other_barrier() {
    let scene = namespace("stuck").await;
    let barriers = scene.namespace.api::<Barrier>();
    let create = async |name: String, spec: Value| {
        let barrier = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a barrier");
        barriers.create(&PostParams::default(), &barrier).await.expect("create a barrier");
    };
    let arrive = async |name: &str, finalizers: &[&str]| {
        let arrival = json!({
            "apiVersion": "konductor.io/v1", "kind": "Arrival",
            "metadata": { "name": format!("{name}-a"), "finalizers": finalizers },
            "spec": { "barrier": name, "holder": "h", "key": "k" },
        });
        let path = format!("/apis/konductor.io/v1/namespaces/{}/arrivals", scene.namespace.name);
        raw(&scene.client(), Method::POST, &path, &arrival).await;
    };
    let opened = async |name: &str| {
        wait_for(&barriers, name, LIMIT, |barrier| {
            barrier.status.as_ref().and_then(|status| status.phase) == Some(RendezvousPhase::Open)
        })
        .await;
    };
    for number in 0..40 {
        let name = format!("stuck{number}");
        create(name.clone(), json!({ "expected": 1, "resetAfter": "1s" })).await;
        arrive(&name, &["somebody.else/holds-on"]).await;
    }
    for number in 0..40 {
        opened(&format!("stuck{number}")).await;
    }
    // Their next rounds cannot begin: the arrivals stay until somebody takes the finalizers away. Others open all the
    // same.
    for number in 0..40 {
        let path = format!("/apis/konductor.io/v1/namespaces/{}/arrivals/stuck{number}-a", scene.namespace.name);
        eventually(LIMIT, "the arrival to be on its way out", || async {
            let found = raw(&scene.client(), Method::GET, &path, &json!({})).await;
            let leaving = found["metadata"]["deletionTimestamp"].is_string();
            if leaving { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
    }
    create("free".into(), json!({ "expected": 1 })).await;
    arrive("free", &[]).await;
    opened("free").await;
}

#[tokio::test]
async fn gates_that_select_each_other_stop_nobody() {
    let scene = namespace("tangle").await;
    let gates = scene.namespace.api::<Gate>();
    let select = json!({ "type": "Gate", "selector": { "matchLabels": { "a": "b" } }, "state": "Open" });
    let conditions: Vec<_> = (0..MAX_GATE_CONDITIONS).map(|_| select.clone()).collect();
    for number in 0..200 {
        let gate = json!({
            "metadata": { "name": format!("g{number}"), "labels": { "a": "b" } }, "spec": { "conditions": conditions },
        });
        let gate = serde_json::from_value(gate).expect("a gate");
        gates.create(&PostParams::default(), &gate).await.expect("create a gate");
        if number % 50 == 0 {
            others_are_served().await;
        }
    }
    wait_for(&gates, "g0", LIMIT, |gate| {
        let status = gate.status.as_ref();
        status.is_some_and(|status| {
            status.condition_statuses.iter().all(|one| one.message.starts_with("the gate waits for itself"))
        })
    })
    .await;
    others_are_served().await;
}

#[tokio::test]
async fn a_namespace_whose_writes_are_not_answered_keeps_no_other_from_its_grants() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let (gateway, kubeconfig) = Gateway::start(installed.kubeconfig()).await;
    let slow = Scene::<konductor_api::Semaphore>::of(control_plane.namespace("slow").await);
    let _operator = installed.operator_by("operator", &kubeconfig, &[]);
    slow.semaphore("s", 1000).await;
    slow.claim("s", "first").await;
    slow.granted("first").await;
    let path: &'static str = format!("/namespaces/{}/", slow.namespace.name).leak();
    gateway.rule(Some(Rule(Method::PATCH, path, Fate::Held)));
    for lock in 0..20 {
        slow.semaphore(&format!("s{lock}"), 100).await;
        for claim in 0..5 {
            slow.claim(&format!("s{lock}"), &format!("c{lock}-{claim}")).await;
        }
    }
    gateway.wait_met(LIMIT, 20).await;
    let other = Scene::<konductor_api::Semaphore>::of(control_plane.namespace("other").await);
    other.semaphore("s", 1).await;
    other.claim("s", "a").await;
    other.granted("a").await;
    gateway.rule(None);
    slow.granted("c19-4").await;
}

fn of_pod(name: &str, uid: &str) -> Value {
    let pod = PodReference { container: "main".into(), start: "1".into(), ..PodReference::whole(name, uid) };
    json!({ "pod": pod })
}

#[tokio::test]
async fn a_hundred_waiters_whose_pods_are_gone_do_not_keep_a_living_one_waiting() {
    let scene = namespace("dead").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "holder").await;
    scene.granted("holder").await;
    for number in 0..100 {
        let name = format!("dead{number}");
        scene.claim_with("s", &name, &of_pod(&name, &format!("uid-{number}"))).await;
    }
    let uid = scene.namespace.pod("live", "default", &["main"]).await.uid().expect("a uid");
    scene.claim_with("s", "live", &of_pod("live", &uid)).await;
    scene.phase("live", ClaimPhase::Pending).await;
    // Those whose turn is near are looked at when they have waited for a while, and others come nearer when they are
    // gone. One that was granted something sooner would count: its client might have begun without a renewal.
    for dead in ["dead0", "dead99"] {
        scene.phase(dead, ClaimPhase::Expired).await;
    }
    scene.release("holder").await;
    scene.granted("live").await;
}

#[tokio::test]
async fn a_waiter_that_is_revoked_is_never_granted() {
    let scene = namespace("revoked").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "holder").await;
    scene.granted("holder").await;
    scene.claim("s", "waiter").await;
    scene.ahead("waiter", 0).await;
    scene.claim("s", "next").await;
    let patch = json!({ "metadata": { "annotations": { "konductor.io/revoke": "maintenance" } } });
    patch_permit(&scene, "waiter", &patch).await;
    let status = scene.phase("waiter", ClaimPhase::Expired).await;
    assert_eq!(status.message.as_deref(), Some("revoked: maintenance"));
    scene.release("holder").await;
    scene.granted("next").await;
}

#[tokio::test]
async fn a_container_that_ended_for_good_beside_one_that_runs_frees_its_claim_before_its_ttl() {
    let scene = namespace("sidecar").await;
    scene.create("s", &json!({ "permits": 1, "ttl": "30s" })).await;
    let pod = scene.namespace.pod("worker", "default", &["main", "proxy"]).await;
    let uid = pod.uid().expect("a uid");
    scene.claim_with("s", "worker", &of_pod("worker", &uid)).await;
    scene.granted("worker").await;
    scene
        .namespace
        .pod_status(
            "worker",
            "Running",
            &[
                ("main", konductor_tests::ContainerState::Terminated(0)),
                ("proxy", konductor_tests::ContainerState::Running),
            ],
        )
        .await;
    let status = scene.phase("worker", ClaimPhase::Expired).await;
    assert!(status.message.as_deref().is_some_and(|message| message.contains("has ended")), "{:?}", status.message);
}

#[tokio::test]
async fn a_parent_that_is_recreated_counts_the_holders_of_the_old_one_until_they_end() {
    let scene = namespace("recreated").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "old").await;
    let before = scene.granted("old").await;
    scene.locks().delete("s", &DeleteParams::default()).await.expect("delete");
    scene.semaphore("s", 1).await;
    scene.claim("s", "new").await;
    scene.ahead("new", 0).await;
    let now = scene.now("old").await;
    assert_eq!((now.phase, &now.parent_uid), (Some(ClaimPhase::Granted), &before.parent_uid));
    scene.release("old").await;
    let after = scene.granted("new").await;
    let uid = scene.locks().get("s").await.expect("read").uid();
    assert_eq!(after.parent_uid.as_deref(), uid.as_deref());
    assert!(after.fencing_token > before.fencing_token);
}
