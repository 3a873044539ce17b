//! Installing, upgrading and removing Konductor with helm, and clusters whose API server has a host name.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use konductor_api::{ClaimPhase, Permit, Semaphore};
use konductor_tests::{wait_for, wait_gone};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::cluster::{LIMIT, SYSTEM, Scene, helm, install, object};

/// A name for the API server that is in its certificate, and that only a pod's /etc/hosts knows: the node has no DNS.
const HOST: &str = "kubernetes.default.svc";

/// The API server's address for pods.
const ADDRESS: &str = "10.0.0.1";

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn the_chart_is_accepted_by_helm_and_by_a_restricted_namespace() {
    let scene = Scene::new("chart").await;
    let linted = helm(&["lint", "--strict", "charts/konductor"]).await;
    assert!(linted.contains("1 chart(s) linted, 0 chart(s) failed"), "{linted}");
    assert!(!linted.contains("[WARNING]") && !linted.contains("[ERROR]"), "{linted}");

    let system = Api::<Namespace>::all(scene.client.clone()).get(SYSTEM).await.expect("the operator's namespace");
    let labels = system.metadata.labels.unwrap_or_default();
    assert_eq!(labels.get("pod-security.kubernetes.io/enforce").map(String::as_str), Some("restricted"));
    ready(&scene, 2).await;
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn upgrading_and_removing_the_chart_leaves_semaphores_and_permits_alone() {
    let scene = Scene::alone("chart").await;
    scene.semaphore("one", json!({ "permits": 1, "ttl": "30m" })).await;
    for name in ["first", "second"] {
        let permit = json!({ "semaphore": "one", "holder": name, "instance": name });
        let permit = object(json!({ "metadata": { "name": name }, "spec": permit }));
        scene.api::<Permit>().create(&PostParams::default(), &permit).await.expect("make a permit");
    }
    let before = in_phase(&scene, "first", ClaimPhase::Granted).await;

    install(&["--set", "replicas=1"]).await;
    ready(&scene, 1).await;

    helm(&["uninstall", "konductor", "--namespace", SYSTEM, "--wait"]).await;
    let crds: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    crds.get("semaphores.konductor.io").await.expect("the definition of semaphores is kept");
    let roles: Api<ClusterRole> = Api::all(scene.client.clone());
    roles.get("konductor-workload").await.expect("the role of workloads is kept");
    assert!(scene.api::<Semaphore>().get_opt("one").await.expect("ask for the semaphore").is_some());
    assert_eq!(scene.permits().await.len(), 2, "permits are kept");

    // The next operator goes on where the last one stopped.
    install(&[]).await;
    ready(&scene, 2).await;
    let restamped = wait_for(&scene.api::<Permit>(), "first", LIMIT, |permit| term(permit) > term(&before)).await;
    assert_eq!(token(&restamped), token(&before), "a takeover does not change a token");
    crate::cluster::delete(&scene.api::<Permit>(), "first").await;
    let second = in_phase(&scene, "second", ClaimPhase::Granted).await;
    assert!(token(&second) > token(&before));

    // Who says so gets rid of everything.
    install(&["--set", "crds.keep=false", "--set", "rbac.keep=false"]).await;
    helm(&["uninstall", "konductor", "--namespace", SYSTEM, "--wait"]).await;
    for resource in ["permits", "semaphores", "leases", "leaserequests"] {
        wait_gone(&crds, &format!("{resource}.konductor.io"), LIMIT).await;
    }
    wait_gone(&roles, "konductor-workload", LIMIT).await;
    install(&[]).await;
    ready(&scene, 2).await;
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn the_api_server_may_have_a_host_name() {
    let scene = Scene::alone("host-name").await;
    let hosts = json!([{ "ip": ADDRESS, "hostnames": [HOST] }]);
    let env = json!([{ "name": "KUBERNETES_SERVICE_HOST", "value": HOST }]);

    // The operator first: what follows is decided by one that found the API server by its name.
    let patch = json!({ "spec": { "template": { "spec": {
        "hostAliases": hosts,
        "containers": [{ "name": "operator", "env": env }],
    }}}});
    let deployment = "deployment/konductor-operator";
    scene.kubectl(&["--namespace", SYSTEM, "patch", deployment, "--patch", &patch.to_string()]).await;
    scene.kubectl(&["--namespace", SYSTEM, "rollout", "status", deployment, "--timeout=3m"]).await;

    // An image from scratch, with konductor-run and nothing else: it is also the command that it runs.
    scene.semaphore("one", json!({ "permits": 1 })).await;
    let mut env = env;
    env.as_array_mut().expect("a list").push(json!({ "name": "KONDUCTOR_SEMAPHORE", "value": "one" }));
    let pod = json!({
        "metadata": { "name": "first", "labels": { crate::cluster::LABEL: "pod" } },
        "spec": {
            "restartPolicy": "Never",
            "hostAliases": hosts,
            "containers": [{
                "name": "work",
                "image": concat!("konductor/run:", env!("CARGO_PKG_VERSION")),
                "args": ["/konductor-run", "--version"],
                "env": env,
            }],
        },
    });
    let pod: k8s_openapi::api::core::v1::Pod = object(pod);
    scene.api().create(&PostParams::default(), &pod).await.expect("make a pod");
    let end = scene.ended("first").await;
    let log = scene.kubectl(&["logs", "first"]).await;
    assert_eq!(end.exit_code, 0, "{log}");
    assert!(log.contains(concat!("konductor-run ", env!("CARGO_PKG_VERSION"))), "{log}");
    scene.at_rest("one").await;

    // As it was: helm leaves alone what it did not put there.
    let undo = json!({ "spec": { "template": { "spec": {
        "hostAliases": null,
        "containers": [{ "name": "operator", "env": [{ "name": "KUBERNETES_SERVICE_HOST", "$patch": "delete" }] }],
    }}}});
    scene.kubectl(&["--namespace", SYSTEM, "patch", deployment, "--patch", &undo.to_string()]).await;
    scene.kubectl(&["--namespace", SYSTEM, "rollout", "status", deployment, "--timeout=3m"]).await;
}

/// Waits until so many replicas of the operator, and no more, are there and ready.
async fn ready(scene: &Scene, replicas: i32) {
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), SYSTEM);
    wait_for(&deployments, "konductor-operator", LIMIT, |deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        (status.replicas, status.ready_replicas) == (Some(replicas), Some(replicas))
    })
    .await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(scene.client.clone(), SYSTEM);
    let operators = ListParams::default().labels("app.kubernetes.io/component=operator");
    let pods = pods.list(&operators).await.expect("list the operator's pods").items;
    let running = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
    assert_eq!(running, replicas as usize, "{pods:#?}");
}

async fn in_phase(scene: &Scene, name: &str, phase: ClaimPhase) -> Permit {
    wait_for(&scene.api::<Permit>(), name, LIMIT, |permit| {
        permit.status.as_ref().is_some_and(|status| status.phase == Some(phase))
    })
    .await
}

fn term(permit: &Permit) -> Option<u64> {
    permit.status.as_ref().and_then(|status| status.term)
}

fn token(permit: &Permit) -> Option<u64> {
    permit.status.as_ref().and_then(|status| status.fencing_token)
}
