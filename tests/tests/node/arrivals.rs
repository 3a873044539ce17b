//! Who arrives at a barrier: a Job once, however often its pod is tried, and an Indexed Job once for each index.

use k8s_openapi::api::core::v1::Pod;
use konductor_api::{Arrival, Barrier, RendezvousPhase};
use konductor_tests::wait_for;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::cluster::{LIMIT, Scene, object};
use crate::workload::{CONTAINER, Shape};

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_job_whose_pod_fails_twice_arrives_once() {
    let scene = Scene::new("tries").await;
    barrier(&scene, 1).await;
    // Each attempt leaves a file; the third finds two.
    let script = "touch /records/try-$$-$HOSTNAME; [ $(ls /records/try-* | wc -l) -gt 2 ]";
    let env = [("KONDUCTOR_BARRIER", "b"), ("KONDUCTOR_ARRIVE", "always")];
    let job = scene.job_with("tried", script, Shape::once(&env), json!({ "backoffLimit": 4 })).await;
    scene.completed("tried").await;
    let pods = scene.api::<Pod>().list(&ListParams::default().labels("job-name=tried")).await.expect("list the pods");
    assert_eq!(pods.items.len(), 3, "two have failed, and one has not");
    opened(&scene).await;
    assert_eq!(keys(&scene).await, [format!("{}/{CONTAINER}", job.uid().expect("a UID"))]);
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn an_indexed_job_of_ten_arrives_ten_times() {
    let scene = Scene::new("indexes").await;
    barrier(&scene, 10).await;
    let spec = json!({ "completionMode": "Indexed", "completions": 10, "parallelism": 10 });
    let job = scene.job_with("indexed", "true", Shape::once(&[("KONDUCTOR_BARRIER", "b")]), spec).await;
    scene.completed("indexed").await;
    opened(&scene).await;
    let uid = job.uid().expect("a UID");
    let expected: Vec<_> = (0..10).map(|index| format!("{uid}/{index}/{CONTAINER}")).collect();
    assert_eq!(keys(&scene).await, expected);
}

async fn barrier(scene: &Scene, expected: u32) {
    let barrier = object(json!({ "metadata": { "name": "b" }, "spec": { "expected": expected } }));
    scene.api::<Barrier>().create(&PostParams::default(), &barrier).await.expect("make a Barrier");
}

async fn opened(scene: &Scene) {
    wait_for(&scene.api::<Barrier>(), "b", LIMIT, |barrier| {
        barrier.status.as_ref().and_then(|status| status.phase) == Some(RendezvousPhase::Open)
    })
    .await;
}

/// The keys of all arrivals, in order.
async fn keys(scene: &Scene) -> Vec<String> {
    let arrivals = scene.api::<Arrival>().list(&ListParams::default()).await.expect("list the arrivals").items;
    let mut keys: Vec<_> = arrivals.into_iter().map(|arrival| arrival.spec.key).collect();
    keys.sort();
    keys
}
