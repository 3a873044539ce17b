//! How `konductor-run` ends, and that it leaves no claim behind.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use konductor::Boottime;
use konductor_api::REVOKE_ANNOTATION;
use konductor_tests::{Process, Signal};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::{IN_VAIN, LIMIT, STALL, Scene, shared};

/// A semaphore whose only permit is held.
async fn full(prefix: &str) -> (Scene, Process) {
    let scene = shared(prefix).await;
    scene.semaphore(1).await;
    let holder = scene.holder("holder", &["--ttl", "1m"]);
    scene.record.started(LIMIT, 1).await;
    (scene, holder)
}

/// Lets the holder of [`full`] end, after which nobody else may have run.
async fn let_end(scene: &Scene, mut holder: Process) {
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(1, 1);
}

/// As [`let_end`], after which no claim may be left.
async fn empty(scene: &Scene, holder: Process) {
    let_end(scene, holder).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_wait_that_is_over_says_so() {
    let (scene, holder) = full("timeout").await;
    let all = [
        (["--wait-timeout", IN_VAIN, "--on-timeout", "fail"], 75, "timed out waiting for semaphore s"),
        (["--wait-timeout", IN_VAIN, "--on-timeout", "skip"], 0, "semaphore s is not free: skipping the command"),
        (["--wait-timeout", "0", "--on-timeout", "fail"], 75, "semaphore s is not free"),
        (["--wait-timeout", "0", "--on-timeout", "skip"], 0, "semaphore s is not free: skipping the command"),
    ];
    // They wait together.
    let mut waiters = all.map(|(flags, ..)| scene.witness("waiter", &flags, Duration::ZERO));
    for ((flags, code, message), waiter) in all.into_iter().zip(&mut waiters) {
        waiter.expect_exit(LIMIT, code).await;
        assert!(waiter.stderr().contains(message), "{flags:?}: {}", waiter.stderr());
    }
    let_end(&scene, holder).await;
    scene.assert_withdrawn(&waiters).await;
}

#[tokio::test]
async fn trying_once_gets_what_is_free() {
    let scene = shared("once").await;
    scene.semaphore(1).await;
    scene.witness("once", &["--wait-timeout", "0"], Duration::ZERO).expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(1, 1);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_semaphore_that_is_missing_is_waited_for_or_said_to_be() {
    let scene = shared("missing").await;
    let mut once = scene.witness("once", &["--wait-timeout", "0"], Duration::ZERO);
    once.expect_exit(LIMIT, 78).await;
    assert!(once.stderr().contains("there is no semaphore s in this namespace"), "{}", once.stderr());
    let mut briefly = scene.witness("briefly", &["--wait-timeout", IN_VAIN], Duration::ZERO);
    briefly.expect_exit(LIMIT, 75).await;
    assert!(briefly.stderr().contains("timed out waiting for semaphore s"), "{}", briefly.stderr());
    let mut waiter = scene.witness("waiter", &[], Duration::ZERO);
    waiter.wait_stderr(LIMIT, "waiting for semaphore s, which does not exist yet").await;
    scene.semaphore(1).await;
    waiter.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(1, 1);
    scene.assert_withdrawn(&[once, briefly]).await;
}

#[tokio::test]
async fn who_may_not_claim_is_refused() {
    let scene = shared("refused").await;
    scene.semaphore(1).await;
    scene.namespace.service_account("stranger").await;
    let mut command = scene.command("stranger", &[], &["echo", "started"]);
    command.env("KUBECONFIG", scene.namespace.service_account_kubeconfig("stranger").await);
    let mut stranger = Process::spawn("stranger", command);
    stranger.expect_exit(LIMIT, 77).await;
    assert_eq!(stranger.stdout(), "");
    assert!(stranger.stderr().contains("cannot create resource"), "{}", stranger.stderr());
    let namespace = &scene.namespace.name;
    let cure = format!(
        "kubectl create rolebinding konductor --namespace {namespace} --clusterrole konductor-workload --serviceaccount \
         {namespace}:stranger"
    );
    assert!(stranger.stderr().contains(&cure), "{}", stranger.stderr());
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_signal_ends_the_waiting_and_withdraws_the_claim() {
    let (scene, holder) = full("withdrawn").await;
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        // There is less than a second for it, which is enough at least now and then.
        let mut withdrawn = false;
        for _ in 0..5 {
            let mut waiter = scene.witness("waiter", &[], Duration::ZERO);
            waiter.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
            let claim = scene.claim("waiter").await;
            waiter.signal(signal);
            waiter.expect_exit(LIMIT, code).await;
            withdrawn = scene.has_withdrawn(&waiter, &claim).await;
            if withdrawn {
                break;
            }
        }
        assert!(withdrawn, "{signal}: five could not withdraw their claims");
    }
    empty(&scene, holder).await;
}

#[tokio::test]
async fn a_signal_to_the_command_ends_it_and_releases_the_claim() {
    let (scene, mut holder) = full("ended").await;
    holder.signal(Signal::SIGTERM);
    holder.expect_exit(LIMIT, 143).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn the_commands_own_end_is_passed_through() {
    let scene = shared("codes").await;
    scene.semaphore(1).await;
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("exit 255", 255), ("kill -KILL $$", 137)] {
        scene.run("client", &[], &["sh", "-c", script]).expect_exit(LIMIT, code).await;
    }
    scene.run("client", &[], &["/konductor/no/such/program"]).expect_exit(LIMIT, 127).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn the_command_is_told_what_it_holds() {
    let scene = shared("told").await;
    scene.semaphore(1).await;
    let script = "echo $KONDUCTOR_HELD $KONDUCTOR_HOLDER; \
                  test \"$KONDUCTOR_FENCING_TOKEN\" = \"$KONDUCTOR_TOKEN_SEMAPHORE_S\" && test -n \"$KONDUCTOR_FENCING_TOKEN\"";
    let mut client = scene.run("client", &[], &["sh", "-c", script]);
    client.expect_exit(LIMIT, 0).await;
    assert_eq!(client.stdout(), "semaphore/s client\n");
}

#[tokio::test]
async fn a_revoked_claim_ends_the_command() {
    let (scene, mut holder) = full("revoked").await;
    let claim = scene.claim("holder").await;
    let mut next = scene.witness("next", &[], Duration::ZERO);
    scene.waiting(1).await;
    let patch = json!({ "metadata": { "annotations": { REVOKE_ANNOTATION: "the database moves" } } });
    let patched = scene.permits().patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.expect("annotate a Permit");
    holder.expect_exit(LIMIT, 79).await;
    assert!(holder.stderr().contains("the database moves"), "{}", holder.stderr());
    next.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_revocation_reaches_a_holder_whose_next_renewal_is_far_away() {
    let scene = shared("revoked-soon").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &["--ttl", "1h"]);
    scene.record.started(LIMIT, 1).await;
    let claim = scene.claim("holder").await;
    let patch = json!({ "metadata": { "annotations": { REVOKE_ANNOTATION: "the database moves" } } });
    let revoked = Boottime::now();
    let patched = scene.permits().patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.expect("annotate a Permit");
    holder.wait_stderr(LIMIT, "the database moves").await;
    let took = Boottime::now().since(revoked);
    assert!(took <= Duration::from_secs(2) + STALL, "{took:?}");
    holder.expect_exit(LIMIT, 79).await;
    scene.assert_no_claims().await;
}

/// Nothing ends a namespace here but a controller, which there is none of: it stays as it is while it goes.
#[tokio::test]
async fn in_a_namespace_that_goes_all_is_over_at_once() {
    let scene = shared("going").await;
    scene.semaphore(1).await;
    let holder = scene.holder("holder", &["--ttl", "1h", "--barrier", "b", "--arrive", "always"]);
    scene.record.started(LIMIT, 1).await;
    let namespaces = Api::<Namespace>::all(scene.namespace.client.clone());
    namespaces.delete(&scene.namespace.name, &DeleteParams::default()).await.expect("delete a namespace");
    let begun = Boottime::now();
    let mut late = scene.run("late", &[], &["true"]);
    late.expect_exit(LIMIT, 77).await;
    assert!(late.stderr().contains("is being terminated"), "{}", late.stderr());
    // What has ended cannot arrive any more; what was held is given back.
    scene.let_go();
    let mut holder = holder;
    holder.expect_exit(LIMIT, 77).await;
    assert!(holder.stderr().contains("could not arrive at barrier b: "), "{}", holder.stderr());
    let took = Boottime::now().since(begun);
    assert!(took <= Duration::from_secs(8) + STALL, "{took:?}");
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_claim_that_is_deleted_ends_the_command() {
    let (scene, mut holder) = full("deleted").await;
    let claim = scene.claim("holder").await;
    scene.permits().delete(&claim.name_any(), &DeleteParams::default()).await.expect("delete a Permit");
    holder.expect_exit(LIMIT, 79).await;
    assert!(holder.stderr().contains("lost semaphore s: "), "{}", holder.stderr());
    assert!(!scene.record.runs()[0].ended, "the command ended by itself");
    scene.assert_no_claims().await;
}
