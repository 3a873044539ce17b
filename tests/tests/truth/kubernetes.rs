//! Kubernetes' own resources, as operators, clients, and in the simulation kubelets and people ask for them.

use http::Method;
use serde_json::{Value, json};

use super::{
    Ask, ELECTIONS, NAMESPACES, PODS, Until, ask, compare, create, create_namespace, delete, get, list, patch, permit,
    watch,
};

const JOBS: &str = "/apis/batch/v1/namespaces/NS/jobs";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/NS/events";

fn pod(name: &str, node: Option<&str>) -> Ask {
    let containers = json!([{ "name": "main", "image": "i" }]);
    let mut spec = json!({ "restartPolicy": "OnFailure", "containers": containers });
    if let Some(node) = node {
        spec["nodeName"] = node.into();
    }
    create(PODS, "Pod", name, &spec)
}

/// What a kubelet says of a pod with one container.
fn told(name: &str, phase: &str, state: &Value) -> Ask {
    let container = json!({
        "name": "main", "image": "i", "imageID": "", "state": state, "lastState": {}, "ready": phase == "Running",
        "restartCount": 0,
    });
    let status = json!({ "phase": phase, "containerStatuses": [container] });
    patch(PODS, &format!("{name}/status"), json!({ "status": status }))
}

fn runs(name: &str) -> Ask {
    told(name, "Running", &json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } }))
}

fn ends(name: &str, phase: &str, code: i32) -> Ask {
    let times = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
    let state = json!({ "exitCode": code, "reason": "r", "startedAt": times.0, "finishedAt": times.1 });
    told(name, phase, &json!({ "terminated": state }))
}

#[tokio::test]
async fn pods_run_and_end_and_are_deleted() {
    let ended = |phase: &str| list(PODS, &format!("fieldSelector=status.phase%3D{phase}&limit=50"));
    let ends_of = |name: &'static str, phase: &str, until: Until| {
        let query = format!("resourceVersion={{first version:{name}}}&fieldSelector=status.phase%3D{phase}");
        watch(PODS, &query, until)
    };
    let reason = json!({ "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC" });
    let script = [
        get(PODS, "a"),
        pod("a", Some("node")),
        pod("a", Some("node")),
        runs("a"),
        get(PODS, "a"),
        get(PODS, "a?resourceVersion=0"),
        get(PODS, "nobody"),
        runs("nobody"),
        ended("Succeeded"),
        ends("a", "Succeeded", 0),
        ended("Succeeded"),
        ended("Failed"),
        ends_of("a", "Succeeded", Until::Told("a")),
        delete(PODS, "a", json!({ "preconditions": { "uid": "00000000-0000-4000-8000-000000000000" } })),
        // What has ended nobody has to end.
        delete(PODS, "a", json!({ "preconditions": { "uid": "{uid:a}" } })),
        get(PODS, "a"),
        delete(PODS, "a", Value::Null),
        ends_of("a", "Succeeded", Until::Gone("a")),
        // One that runs is kept until its kubelet has ended it.
        pod("b", Some("node")),
        runs("b"),
        delete(PODS, "b", Value::Null),
        delete(PODS, "b", Value::Null),
        get(PODS, "b"),
        pod("b", Some("node")),
        delete(PODS, "b", json!({ "gracePeriodSeconds": 5 })),
        delete(PODS, "b", json!({ "gracePeriodSeconds": 20 })),
        ends("b", "Failed", 137),
        ended("Failed"),
        delete(PODS, "b", json!({ "gracePeriodSeconds": 0 })),
        get(PODS, "b"),
        ends_of("b", "Failed", Until::Gone("b")),
        // That of a lost node.
        pod("c", Some("node")),
        runs("c"),
        delete(PODS, "c", Value::Null),
        patch(PODS, "c/status", json!({ "status": { "phase": "Failed", "conditions": [reason] } })),
        delete(PODS, "c", json!({ "gracePeriodSeconds": 0 })),
        ends_of("c", "Failed", Until::Gone("c")),
        // One that is deleted by force, and one that no node has.
        pod("d", Some("node")),
        runs("d"),
        delete(PODS, "d", json!({ "gracePeriodSeconds": 0 })),
        get(PODS, "d"),
        pod("e", None),
        get(PODS, "e"),
        delete(PODS, "e", Value::Null),
        get(PODS, "e"),
        // One of the same name is another.
        pod("a", Some("node")),
        delete(PODS, "a", json!({ "preconditions": { "uid": "{former uid:a}" } })),
        runs("a"),
        ends("a", "Failed", 1),
        delete(PODS, "a", Value::Null),
        watch(PODS, "resourceVersion={version:e}", Until::Gone("a")),
    ];
    compare("pods", &script).await;
}

#[tokio::test]
async fn jobs_end() {
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "none" }] } });
    let job = |name: &str| create(JOBS, "Job", name, &json!({ "template": template }));
    let ended = |conditions: [&str; 2]| {
        let now = "2030-01-01T00:00:00Z";
        let one = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "r", "message": "m" });
        let mut status = json!({ "startTime": now, "active": null, "conditions": conditions.map(one) });
        if conditions[1] == "Complete" {
            status["completionTime"] = now.into();
            status["succeeded"] = 1.into();
        }
        json!({ "status": status })
    };
    let mut labelled = job("labelled");
    labelled.body["metadata"]["labels"] = json!({ "x": "y" });
    let script = [
        list(JOBS, "limit=100"),
        job("a"),
        job("a"),
        labelled,
        job("b"),
        patch(JOBS, "a/status", json!({ "status": { "active": 1, "failed": 1 } })),
        patch(JOBS, "a", json!({ "spec": { "suspend": true } })),
        patch(JOBS, "a", json!({ "spec": { "suspend": false } })),
        patch(JOBS, "a/status", ended(["SuccessCriteriaMet", "Complete"])),
        patch(JOBS, "b/status", ended(["FailureTarget", "Failed"])),
        patch(JOBS, "nobody/status", ended(["FailureTarget", "Failed"])),
        get(JOBS, "a"),
        list(JOBS, "limit=2"),
        list(JOBS, "limit=2&continue={token}"),
        list(JOBS, "labelSelector=x%3Dy"),
        list(JOBS, "fieldSelector=metadata.name%3Da"),
        delete(JOBS, "b", json!({ "propagationPolicy": "Background" })),
        get(JOBS, "b"),
        watch(JOBS, "resourceVersion={first version:a}", Until::Gone("b")),
    ];
    compare("Jobs", &script).await;
}

#[tokio::test]
async fn events_are_told() {
    let event = |name: &str, namespace: &str| {
        let regarding = json!({ "apiVersion": "konductor.io/v1", "kind": "Semaphore", "namespace": namespace, "name": "s", "uid": "u" });
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name },
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "konductor.io/operator",
            "reportingInstance": "i", "action": "Write", "reason": "Full", "regarding": regarding, "note": "n",
            "type": "Normal",
        });
        ask(Method::POST, EVENTS, event)
    };
    compare("events", &[event("s.1", "NS"), event("s.1", "NS"), event("s.2", "NS")]).await;
}

#[tokio::test]
async fn namespaces_that_are_about_to_go_take_nothing_new() {
    let within = |ask: Ask| Ask { path: ask.path.replace("/NS/", "/NS-2/"), ..ask };
    let namespace = |annotation: &str| {
        let mut namespace = create_namespace("NS-2");
        namespace.body["metadata"]["annotations"] = json!({ "konductor.io/gates-from": annotation });
        namespace.body["metadata"]["labels"] = json!({ "x": "y" });
        namespace
    };
    let named = "fieldSelector=metadata.name%3DNS-2";
    let script = [
        get(NAMESPACES, "NS-2"),
        within(create("permits", "Permit", "a", &permit("i"))),
        namespace("NS"),
        namespace("NS"),
        get(NAMESPACES, "NS-2"),
        within(create("permits", "Permit", "a", &permit("i"))),
        patch(NAMESPACES, "NS-2", json!({ "metadata": { "annotations": { "konductor.io/gates-from": "other" } } })),
        patch(NAMESPACES, "NS-2", json!({ "metadata": { "annotations": { "konductor.io/gates-from": null } } })),
        list(NAMESPACES, &format!("{named}&limit=500")),
        delete(NAMESPACES, "NS-2", json!({ "preconditions": { "uid": "00000000-0000-4000-8000-000000000000" } })),
        delete(NAMESPACES, "NS-2", Value::Null),
        delete(NAMESPACES, "NS-2", Value::Null),
        get(NAMESPACES, "NS-2"),
        namespace("NS"),
        // What is there can be changed and deleted.
        within(create("permits", "Permit", "a", &permit("i"))),
        within(create("permits", "Permit", "b", &permit("i"))),
        within(create("barriers", "Barrier", "b", &json!({ "expected": 1 }))),
        within(create("permits", "Permit", "Not_A_Name", &json!({}))),
        within(pod("p", Some("node"))),
        within(create(ELECTIONS, "Lease", "l", &json!({}))),
        within(patch("permits", "a", json!({ "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } }))),
        within(patch("permits", "a/status", json!({ "status": super::status(1) }))),
        within(get("permits", "a")),
        within(delete("permits", "a", Value::Null)),
        within(list("permits", "limit=500")),
        watch(NAMESPACES, &format!("{named}&resourceVersion={{first version:NS-2}}"), Until::Told("NS-2")),
        patch(NAMESPACES, "NS-2", json!({ "metadata": { "annotations": { "konductor.io/gates-from": "late" } } })),
        get(NAMESPACES, "nobody-has-this"),
        delete(NAMESPACES, "nobody-has-this", Value::Null),
    ];
    compare("namespaces", &script).await;
}
