//! What is told where people look: in events about the pods of claims, and about their Jobs.

use std::process::Command;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use konductor_tests::{ControlPlane, eventually};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::cluster::{LIMIT, Scene, namespace};

/// A Job, and a pod of it that makes a claim of the same name. (No controller makes it: there is none here.)
async fn job_with_claim(scene: &Scene, name: &str, semaphore: &str) {
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "none" }] } });
    let job = json!({ "metadata": { "name": format!("{name}-job") }, "spec": { "template": template } });
    let job: Job = serde_json::from_value(job).expect("a job");
    let job = scene.namespace.api::<Job>().create(&PostParams::default(), &job).await.expect("create a job");
    let pod = scene.namespace.pod(name, "default", &["main"]).await;
    let owner = json!({
        "apiVersion": "batch/v1", "kind": "Job", "name": job.name_any(), "uid": job.uid(), "controller": true,
    });
    let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": [owner] } }));
    scene.namespace.api::<Pod>().patch(name, &PatchParams::default(), &patch).await.expect("own a pod");
    claim_of_pod(scene, name, semaphore, name, &pod.uid().expect("a uid")).await;
}

async fn claim_of_pod(scene: &Scene, claim: &str, semaphore: &str, pod: &str, uid: &str) {
    let pod = json!({ "pod": { "name": pod, "uid": uid, "container": "main", "start": "1" } });
    scene.claim_with(semaphore, claim, &pod).await;
}

/// What kubectl tells of an object, once it tells all of this.
async fn described(kind: &str, name: &str, scene: &Scene, wanted: &[&str]) -> String {
    let kubeconfig = ControlPlane::shared().await.access().admin_kubeconfig().to_owned();
    eventually(LIMIT, &format!("kubectl describe {kind} {name} to tell {wanted:?}"), || async {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["describe", kind, name, "--namespace", &scene.namespace.name]).env("KUBECONFIG", &kubeconfig);
        let output = kubectl.output().expect("kubectl can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if wanted.iter().all(|wanted| text.contains(wanted)) { Ok(text) } else { Err(text) }
    })
    .await
}

async fn events(scene: &Scene) -> Vec<(String, String, String)> {
    let list = scene.namespace.api::<Event>().list(&ListParams::default()).await.expect("list events");
    let told = list.items.into_iter().map(|event| {
        let about = event.regarding.unwrap_or_default();
        let about = format!("{}/{}", about.kind.unwrap_or_default(), about.name.unwrap_or_default());
        (about, event.reason.unwrap_or_default(), event.note.unwrap_or_default())
    });
    told.collect()
}

#[tokio::test]
async fn kubectl_describes_a_job_that_waits_and_when_it_was_granted() {
    let scene = namespace("described").await;
    scene.semaphore("warehouse", 1).await;
    scene.claim("warehouse", "holder").await;
    scene.granted("holder").await;
    for (position, name) in ["first", "second", "third"].into_iter().enumerate() {
        job_with_claim(&scene, name, "warehouse").await;
        scene.ahead(name, position as u64).await;
    }
    let waits = "waits for semaphore warehouse, position 3";
    described("pod", "third", &scene, &["Waiting", waits]).await;
    described("job", "third-job", &scene, &["Waiting", &format!("pod third: {waits}")]).await;
    // Nothing is told of what is no change of its state: that it is renewed, and moves up.
    let renewed = async |time: &str| {
        let patch = Patch::Merge(json!({ "spec": { "renewTime": time } }));
        scene.claims().patch("third", &PatchParams::default(), &patch).await.expect("renew");
    };
    renewed("2026-01-01T00:00:00.000000Z").await;
    for name in ["holder", "first", "second"] {
        scene.release(name).await;
    }
    scene.granted("third").await;
    described("pod", "third", &scene, &["Granted", "granted semaphore warehouse"]).await;
    described("job", "third-job", &scene, &["Granted", "pod third: granted semaphore warehouse"]).await;
    for second in 1..4 {
        renewed(&format!("2026-01-01T00:00:0{second}.000000Z")).await;
    }
    // News are told in their order, so all that was to be told of renewals has been by then.
    job_with_claim(&scene, "fourth", "warehouse").await;
    scene.event("Job", "fourth-job", "Waiting").await;
    let told = events(&scene).await;
    let reasons = |about: &str| -> Vec<_> {
        told.iter().filter(|(object, ..)| object == about).map(|(_, reason, _)| reason.as_str()).collect()
    };
    for about in ["Pod/third", "Job/third-job"] {
        let mut reasons = reasons(about);
        reasons.sort_unstable();
        assert_eq!(reasons, ["Granted", "Waiting"], "{about}: {told:?}");
    }
    assert!(reasons("Pod/holder").is_empty());
}

#[tokio::test]
async fn what_ends_a_claim_is_told_of_its_lock_its_pod_and_its_job() {
    let scene = namespace("ended").await;
    scene.semaphore("s", 1).await;
    job_with_claim(&scene, "holder", "s").await;
    scene.granted("holder").await;
    let revoke =
        |reason: &str| Patch::Merge(json!({ "metadata": { "annotations": { "konductor.io/revoke": reason } } }));
    scene.claims().patch("holder", &PatchParams::default(), &revoke("maintenance")).await.expect("annotate");
    assert_eq!(scene.event("Semaphore", "s", "Revoking").await, "holder of holder is being revoked: maintenance");
    let note = "semaphore s: holder of holder is being revoked: maintenance";
    assert_eq!(scene.event("Pod", "holder", "Revoking").await, note);
    assert_eq!(scene.event("Job", "holder-job", "Revoking").await, format!("pod holder: {note}"));
    scene.namespace.pod_terminated("holder", &[("main", 137)]).await;
    assert_eq!(scene.event("Semaphore", "s", "Expired").await, "holder of holder is over: its pod has ended");
    let note = "semaphore s: holder of holder is over: its pod has ended";
    assert_eq!(scene.event("Job", "holder-job", "Expired").await, format!("pod holder: {note}"));
}

#[tokio::test]
async fn a_claim_that_names_somebody_elses_pod_has_nobody_told() {
    let (scene, other) = (namespace("liar").await, namespace("victim").await);
    let elsewhere = other.namespace.pod("elsewhere", "default", &["main"]).await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "holder").await;
    scene.granted("holder").await;
    scene.namespace.pod("here", "default", &["main"]).await;
    // A pod of another namespace, another UID than that of the pod of this name, and none at all.
    claim_of_pod(&scene, "a", "s", "elsewhere", &elsewhere.uid().expect("a uid")).await;
    claim_of_pod(&scene, "b", "s", "here", "00000000-0000-4000-8000-000000000000").await;
    claim_of_pod(&scene, "c", "s", "nowhere", "00000000-0000-4000-8000-000000000001").await;
    job_with_claim(&scene, "honest", "s").await;
    // News are told in their order, so all that was to be told of the others has been by then.
    scene.event("Job", "honest-job", "Waiting").await;
    let told = events(&scene).await;
    assert!(told.iter().all(|(about, ..)| ["Pod/honest", "Job/honest-job"].contains(&about.as_str())), "{told:?}");
    assert!(events(&other).await.is_empty());
}
