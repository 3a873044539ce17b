//! Claims whose holder is gone: silent for a TTL, or proven dead by its pod.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use konductor_api::{ClaimPhase, claim::renewal_patch};
use konductor_tests::ContainerState;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Scene, namespace};

/// A claim of this pod's container `main`.
async fn claim_of_pod(scene: &Scene, semaphore: &str, pod: &str) {
    let uid = scene.namespace.pod(pod, "default", &["main"]).await.uid().expect("a uid");
    scene.claim_with(semaphore, pod, &of_pod(pod, &uid)).await;
}

fn of_pod(name: &str, uid: &str) -> Value {
    json!({ "pod": { "name": name, "uid": uid, "container": "main", "start": "1" } })
}

#[tokio::test]
async fn a_silent_holder_expires_after_its_ttl_and_one_that_renews_does_not() {
    let scene = namespace("ttl").await;
    // One that renews each second outlives a machine that stands still for ten.
    scene.create("s", &json!({ "permits": 2, "ttl": "15s" })).await;
    for name in ["silent", "alive"] {
        scene.claim("s", name).await;
        scene.granted(name).await;
    }
    let uid = scene.claims().get("alive").await.expect("read").uid().expect("a uid");
    let (permits, renewing) = (scene.claims(), tokio::sync::Notify::new());
    let renew = async {
        let mut time = jiff::Timestamp::UNIX_EPOCH;
        loop {
            // By a clock that is far off: only that it changes counts.
            time += jiff::SignedDuration::from_secs(1);
            let patch = Patch::Merge(renewal_patch(&uid, time));
            permits.patch("alive", &PatchParams::default(), &patch).await.expect("renew");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = renewing.notified() => return,
            }
        }
    };
    let watch = async {
        let status = scene.phase("silent", ClaimPhase::Expired).await;
        assert_eq!(status.message.as_deref(), Some("it was not renewed for 15s"));
        let (acquired, expired) = (status.acquired_at.expect("a time"), status.expires_at.expect("a time"));
        let MicroTime(early) = acquired;
        assert!(expired.0.duration_since(early) >= jiff::SignedDuration::from_secs(15), "{early} {}", expired.0);
        let note = scene.event("Semaphore", "s", "Expired").await;
        assert_eq!(note, "silent of silent is over: it was not renewed for 15s");
        scene.claim("s", "next").await;
        scene.granted("next").await;
        assert_eq!(scene.now("alive").await.phase, Some(ClaimPhase::Granted));
        renewing.notify_one();
    };
    tokio::join!(renew, watch);
}

#[tokio::test]
async fn the_end_of_its_container_in_an_ended_pod_frees_a_claim_at_once() {
    let scene = namespace("proof").await;
    scene.semaphore("s", 1).await;
    claim_of_pod(&scene, "s", "holder").await;
    scene.granted("holder").await;
    claim_of_pod(&scene, "s", "waiter").await;
    scene.ahead("waiter", 0).await;
    claim_of_pod(&scene, "s", "dead-waiter").await;
    scene.ahead("dead-waiter", 1).await;
    scene.namespace.pod_terminated("dead-waiter", &[("main", 137)]).await;
    let status = scene.phase("dead-waiter", ClaimPhase::Expired).await;
    assert_eq!(status.message.as_deref(), Some("its pod ended while it waited"));
    scene.namespace.pod_terminated("holder", &[("main", 1)]).await;
    let status = scene.phase("holder", ClaimPhase::Expired).await;
    assert_eq!(status.message.as_deref(), Some("its pod has ended"));
    scene.granted("waiter").await;
}

#[tokio::test]
async fn a_pod_that_failed_with_its_container_not_seen_to_end_proves_nothing() {
    let scene = namespace("noproof").await;
    scene.semaphore("s", 2).await;
    claim_of_pod(&scene, "s", "lost").await;
    scene.granted("lost").await;
    claim_of_pod(&scene, "s", "ended").await;
    scene.granted("ended").await;
    scene.namespace.pod_status("lost", "Failed", &[("main", ContainerState::Running)]).await;
    scene.namespace.pod_terminated("ended", &[("main", 0)]).await;
    scene.phase("ended", ClaimPhase::Expired).await;
    // The pods' ends come in the order of their watches, so look again after the one that proves something was heard.
    scene.claim("s", "next").await;
    scene.granted("next").await;
    assert_eq!(scene.now("lost").await.phase, Some(ClaimPhase::Granted));
    // The node is back and says what became of it.
    scene.namespace.pod_terminated("lost", &[("main", 137)]).await;
    scene.phase("lost", ClaimPhase::Expired).await;
}

#[tokio::test]
async fn a_claim_of_a_pod_that_has_ended_before_is_dropped() {
    let scene = namespace("late").await;
    let uid = scene.namespace.pod("gone", "default", &["main"]).await.uid().expect("a uid");
    scene.namespace.pod_terminated("gone", &[("main", 0)]).await;
    scene.semaphore("s", 0).await;
    scene.claim_with("s", "gone", &of_pod("gone", &uid)).await;
    scene.phase("gone", ClaimPhase::Expired).await;
}
