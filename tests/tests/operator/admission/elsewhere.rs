//! Pods that claim in another namespace than their own.

use k8s_openapi::api::core::v1::Pod;
use konductor_api::{ClaimPhase, Permit, Semaphore};
use konductor_tests::client;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::clients::{ended, koncli, run, semaphore};
use super::{Scene, everything, object, refusal, resource, rule};
use crate::cluster;

/// What is said of a pod in this namespace.
fn there(pod: &Value, namespace: &str) -> Value {
    let mut pod = pod.clone();
    pod["namespace"] = json!(namespace);
    pod
}

#[tokio::test]
async fn only_a_pod_itself_says_that_it_is_in_another_namespace() {
    let (scene, other) = (Scene::new("pods").await, Scene::new("locks").await);
    let here = &other.namespace.name;
    scene.allow_in(&other, &everything()).await;
    let first = client(&scene.namespace.pod_kubeconfig("first").await).await;
    let boss = other.with_verb("boss", "administer").await;
    let elsewhere = &scene.namespace.name;
    for kind in ["Permit", "LeaseRequest", "Arrival"] {
        let create = async |client: &Client, name: &str, pod: &Value| {
            let object = object(kind, name, pod, &json!({}), &json!({}));
            let all = Api::namespaced_with(client.clone(), here, &resource(kind));
            all.create(&PostParams::default(), &object).await
        };
        create(&first, "itself", &there(&scene.first, elsewhere)).await.expect("it says where it is");
        create(&first, "earlier", &scene.first).await.expect("as programs do from before it could be said");
        create(&boss, "here", &there(&other.second, here)).await.expect("that it is here tells nobody anything");
        for (who, client, name, pod) in [
            ("the pod, of a namespace that is not its own", &first, "lie", there(&scene.first, "kube-system")),
            ("the pod, that it is in a namespace like its own", &first, "like", there(&scene.first, &elsewhere[..5])),
            ("who may administer claims", &boss, "stranger", there(&scene.first, elsewhere)),
            ("who may administer claims, of a pod here", &boss, "moved", there(&other.first, elsewhere)),
        ] {
            let said = refusal(create(client, name, &pod).await);
            let namespace = pod["namespace"].as_str().expect("a namespace");
            let words =
                format!("names a pod in the namespace {namespace}, which only that pod itself may do, and you are ");
            assert!(said.contains(&words), "{who}: {said}");
        }
    }
}

#[tokio::test]
async fn the_operator_looks_for_a_pod_where_it_is() {
    let (scene, other) = (Scene::new("team").await, Scene::new("locks").await);
    scene.allow_in(&other, &everything()).await;
    let locks = cluster::Scene::<Semaphore>::of(other.namespace.clone());
    locks.semaphore("s", 1).await;
    locks.claim("s", "holder").await;
    locks.granted("holder").await;
    // Its namesake beside the claim has ended, and is none of its business.
    other.namespace.pod_terminated("first", &[("main", 0)]).await;
    let gone = scene.namespace.pod("gone", "worker", &["main"]).await;
    let gone = json!({ "name": "gone", "uid": gone.uid() });
    let in_container = json!({ "container": "main", "start": "1" });
    let claim = async |name: &str, of: &str, pod: &Value, more: &Value| {
        let mut pod = there(pod, &scene.namespace.name);
        pod.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let claim = object("Permit", name, &pod, &json!({}), &json!({ "semaphore": "s" }));
        let all = Api::namespaced_with(scene.pod(of).await, &other.namespace.name, &resource("Permit"));
        all.create(&PostParams::default(), &claim).await.expect("claim");
    };
    claim("waiter", "first", &scene.first, &in_container).await;
    claim("gone", "gone", &gone, &in_container).await;
    let at_once = DeleteParams::default().grace_period(0);
    scene.namespace.api::<Pod>().delete("gone", &at_once).await.expect("delete a pod");
    // Both are looked at in one round.
    let status = locks.phase("gone", ClaimPhase::Expired).await;
    assert_eq!(status.message.as_deref(), Some("its pod is gone"));
    locks.release("holder").await;
    locks.granted("waiter").await;
    claim("whole", "first", &scene.first, &json!({})).await;
    locks.ahead("whole", 0).await;
    scene.namespace.pod_terminated("first", &[("main", 1)]).await;
    for claim in ["waiter", "whole"] {
        locks.phase(claim, ClaimPhase::Expired).await;
    }
}

#[tokio::test]
async fn who_claims_in_another_namespace_says_where_its_pod_is() {
    let (scene, other) = (Scene::new("team").await, Scene::new("locks").await);
    semaphore(&other.namespace).await;
    let [claims] = everything();
    scene.allow_in(&other, &[claims, rule(&["semaphores"], &["get", "list", "watch"])]).await;
    let kubeconfig = scene.namespace.pod_kubeconfig("first").await;
    let uid = scene.first["uid"].as_str().expect("a UID");
    let pod = [("KONDUCTOR_POD_NAME", "first"), ("KONDUCTOR_POD_UID", uid)];
    let pod = [&pod[..], &[("KONDUCTOR_POD_NAMESPACE", &*scene.namespace.name)]].concat();
    let (code, said) = ended(run(&kubeconfig, &["--namespace", &other.namespace.name, "--barrier", "b"], &pod)).await;
    assert_eq!(code, 0, "{said}");
    let line = format!("semaphore acquire s --holder etl --timeout 60s --namespace {}", other.namespace.name);
    let (code, said) = ended(koncli(&kubeconfig, &pod, &line)).await;
    assert_eq!(code, 0, "{said}");
    let arrivals: Api<konductor_api::Arrival> = other.namespace.api();
    let arrivals = arrivals.list(&ListParams::default()).await.expect("list the arrivals").items;
    let permits = other.namespace.api::<Permit>().list(&ListParams::default()).await.expect("list the permits").items;
    let arrived = arrivals.into_iter().map(|arrival| arrival.spec.pod);
    let named: Vec<_> = arrived.chain(permits.into_iter().map(|permit| permit.spec.claim.pod)).flatten().collect();
    assert_eq!(named.len(), 2, "{named:?}");
    for pod in named {
        assert_eq!((&*pod.uid, &pod.namespace), (uid, &scene.namespace.name), "{pod:?}");
    }
}
