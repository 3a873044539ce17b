//! Who holds: the same holder twice is one claim, in a pod it is the pod's, and what others hold is theirs.

use konductor_api::Permit;
use konductor_tests::{Binaries, Process, eventually};
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::scene::{LIMIT, Scene, ended};

/// Runs `koncli` in a pod, as far as it can tell from variables.
fn in_pod(scene: &Scene, pod: &str, uid: &str, line: &str) -> Process {
    let kubeconfig = scene.namespace.user_kubeconfig("ann", Some("system:masters"));
    let mut command = std::process::Command::new(Binaries::built().koncli());
    command.args(line.split(' ')).env_clear().env("KUBECONFIG", kubeconfig).env("HOME", "/nowhere");
    command.env("KONDUCTOR_POD_NAME", pod).env("KONDUCTOR_POD_UID", uid);
    Process::spawn("koncli", command)
}

#[tokio::test]
async fn a_holder_that_asks_twice_has_one_claim_that_is_renewed() {
    let scene = Scene::new("koncli-twice").await;
    scene.semaphore("s", 2).await;
    let first: Value =
        serde_json::from_str(&scene.prints("semaphore acquire s --holder me -o json").await).expect("JSON");
    let second: Value =
        serde_json::from_str(&scene.prints("semaphore acquire s --holder me -o json").await).expect("JSON");
    assert_eq!(first["metadata"]["uid"], second["metadata"]["uid"]);
    assert_eq!(first["status"]["fencingToken"], second["status"]["fencingToken"]);
    assert_ne!(first["spec"]["renewTime"], second["spec"]["renewTime"], "it is renewed");
    let ran = scene.run("semaphore acquire s --holder me --permits 2").await;
    assert_eq!(ran.code, 64, "{}", ran.stderr);
    assert!(ran.stderr.contains("for 1 permits and not for 2"), "{}", ran.stderr);
}

#[tokio::test]
async fn who_asks_again_says_so_and_frees_nothing_under_the_first() {
    let scene = Scene::new("koncli-again").await;
    scene.semaphore("s", 1).await;
    let first = scene.run("semaphore acquire s --holder me").await;
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(!first.stderr.contains("already"), "{}", first.stderr);
    let again = scene.run("semaphore acquire s --holder me").await;
    assert_eq!((again.code, &again.stdout), (0, &first.stdout), "{}", again.stderr);
    assert!(again.stderr.contains("me held it already: the same claim, renewed"), "{}", again.stderr);
    // Whoever works under it is asked to end, and is given the time for it.
    scene.prints("revoke semaphore/s --holder me --reason maintenance").await;
    scene.comes_to_say("semaphore status s -o jsonpath={.claims[*].phase}", "Revoking\n").await;
    let refused = scene.run("semaphore acquire s --holder me --timeout 2m").await;
    assert_eq!(refused.code, 77, "{}", refused.stderr);
    assert!(refused.stderr.contains("maintenance"), "{}", refused.stderr);
    scene.says("semaphore status s -o jsonpath={.claims[*].holder}", "me\n").await;
}

#[tokio::test]
async fn acquiring_in_a_namespace_that_does_not_exist_is_an_error() {
    let scene = Scene::new("koncli-nowhere").await;
    let ran = scene.run("semaphore acquire s -n no-such-namespace --timeout 2m").await;
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(ran.stderr.contains("the namespace must exist first"), "{}", ran.stderr);
}

#[tokio::test]
async fn in_a_pod_a_claim_is_the_pods_and_ends_with_it() {
    let scene = Scene::new("koncli-pod").await;
    scene.semaphore("s", 1).await;
    let pod = scene.namespace.pod("load", "default", &["take", "main"]).await;
    let uid = pod.metadata.uid.expect("a UID");
    let ran = ended(in_pod(&scene, "load", &uid, "semaphore acquire s")).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let permits = scene.namespace.api::<Permit>().list(&ListParams::default()).await.expect("a list").items;
    let [permit] = permits.as_slice() else { panic!("{permits:?}") };
    assert_eq!(permit.spec.claim.holder, "load");
    let of = permit.spec.claim.pod.as_ref().expect("a pod");
    assert_eq!((of.uid.as_str(), of.container.as_str(), of.start.as_str()), (uid.as_str(), "", ""));
    // Another container of the pod renews and releases.
    assert_eq!(ended(in_pod(&scene, "load", &uid, "semaphore renew s")).await.code, 0);
    // Somebody else must mean it.
    let ran = scene.run("semaphore release s --holder load").await;
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains("in the pod load") && ran.stderr.contains("--force"), "{}", ran.stderr);
    assert_eq!(ended(in_pod(&scene, "load", &uid, "semaphore release s")).await.code, 0);
    // The pod's end frees what it has not released.
    assert_eq!(ended(in_pod(&scene, "load", &uid, "semaphore acquire s")).await.code, 0);
    let waiting = scene.start("semaphore acquire s --holder next --timeout 2m");
    waiting.wait_stderr(LIMIT, "next in line").await;
    scene.namespace.pod_terminated("load", &[("take", 0), ("main", 1)]).await;
    let ran = ended(waiting).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn what_a_process_renews_takes_force_to_release() {
    let scene = Scene::new("koncli-force").await;
    scene.semaphore("s", 1).await;
    let claim =
        json!({ "metadata": { "name": "c" }, "spec": { "semaphore": "s", "holder": "run", "instance": "0123" } });
    let claim: Permit = serde_json::from_value(claim).expect("a claim");
    scene.namespace.api::<Permit>().create(&PostParams::default(), &claim).await.expect("create a claim");
    scene.prints("wait permit/c --timeout 2m").await;
    let ran = scene.run("semaphore release s --holder run").await;
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains("by a process that renews it"), "{}", ran.stderr);
    scene.says("semaphore release s --holder run --force", "permit.konductor.io/c released\n").await;
}

#[tokio::test]
async fn two_who_release_at_once_both_succeed() {
    let scene = Scene::new("koncli-two").await;
    scene.semaphore("s", 1).await;
    for _ in 0..5 {
        scene.prints("semaphore acquire s --holder me --timeout 2m").await;
        let both = [(); 2].map(|()| scene.start("semaphore release s --holder me --ignore-not-found"));
        for one in both {
            let ran = ended(one).await;
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        }
        eventually(LIMIT, "it is free", || async {
            let available = scene.prints("semaphore status s -o jsonpath={.available}").await;
            if available == "1\n" { Ok(()) } else { Err(available) }
        })
        .await;
    }
}
