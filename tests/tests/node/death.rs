//! Holders that end badly. Each time the permit comes back, and never before the command is dead.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use konductor_api::ClaimPhase;
use konductor_tests::{eventually, wait_gone};
use serde_json::json;

use crate::cluster::{LIMIT, Scene};
use crate::processes::{self, FrozenKubelet};
use crate::records::assert_in_order;
use crate::workload::{Shape, uid, work, work_until_told};

/// A TTL that nobody waits for here: what is free sooner was not freed by it.
const LONG: &str = "30m";

/// "At once", on a busy machine: the kubelet reports an end within a second or two.
const AT_ONCE: Duration = Duration::from_mins(1);

/// A TTL that is waited for.
const SHORT: (&str, Duration) = ("10s", Duration::from_secs(10));

/// What may come on top of a TTL on a busy machine.
const OPERATOR_TIME: Duration = Duration::from_mins(1);

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_command_that_fails_frees_its_permit_at_once() {
    let scene = Scene::new("fails").await;
    scene.one_of_two(&work_until_told(3), LONG).await;
    scene.tell();
    assert_eq!(scene.ended("first").await.exit_code, 3, "the command's own");
    scene.second_follows(AT_ONCE).await;
    assert_eq!(scene.permits().await.len(), 0, "both were released");
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_killed_wrapper_frees_its_permit_as_soon_as_the_kubelet_reports_it() {
    let scene = Scene::new("killed").await;
    let (first, _) = scene.one_of_two(&work_until_told(0), LONG).await;
    processes::kill_in_pod(&uid(&first), "konductor-run").await;
    assert_eq!(scene.ended("first").await.exit_code, 137, "128 + KILL");
    scene.second_follows(AT_ONCE).await;
    let message = scene.claim("first", ClaimPhase::Expired).await.status.and_then(|status| status.message);
    assert_eq!(message.as_deref(), Some("its pod has ended"));
    eventually(LIMIT, "an event tells of it", || async {
        let described = scene.kubectl(&["describe", "semaphore", "one"]).await;
        if described.contains("of first is over: its pod has ended") { Ok(()) } else { Err(described) }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_restarted_container_takes_the_place_of_the_one_before() {
    let scene = Scene::new("restarted").await;
    scene.semaphore("one", json!({ "permits": 1, "ttl": LONG })).await;
    let shape = Shape { env: &[("KONDUCTOR_SEMAPHORE", "one")], restart: "OnFailure" };
    let pod = scene.pod("first", &work_until_told(0), shape).await;
    scene.started("first").await;
    processes::kill_in_pod(&uid(&pod), "konductor-run").await;
    // The pod has not ended, so nothing but its own next start tells that the holder is dead.
    eventually(LIMIT, "the command runs again", || async {
        let runs = scene.runs();
        if runs.len() == 2 { Ok(()) } else { Err(format!("{runs:#?}")) }
    })
    .await;
    scene.tell();
    assert_eq!(scene.ended("first").await.exit_code, 0);
    let runs = scene.runs();
    assert_in_order(&runs, 1);
    assert_eq!(runs.iter().map(|run| run.ended).collect::<Vec<_>>(), [false, true], "{runs:#?}");
    scene.at_rest("one").await;
    assert_eq!(scene.permits().await.len(), 0, "permits are left");
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_pod_deleted_by_force_frees_its_permit_within_the_ttl() {
    let scene = Scene::new("forced").await;
    scene.one_of_two(&work_until_told(0), SHORT.0).await;
    scene.kubectl(&["delete", "pod", "first", "--grace-period=0", "--force"]).await;
    scene.second_follows(SHORT.1 + OPERATOR_TIME).await;
}

/// The reason why a missing pod is no proof of death: here its command runs on.
#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_pod_deleted_by_force_on_a_node_that_is_cut_off_keeps_its_permit_while_it_runs() {
    let scene = Scene::alone("cut-off").await;
    let (first, _) = scene.one_of_two(&work_until_told(0), SHORT.0).await;
    let frozen = FrozenKubelet::new();
    scene.kubectl(&["delete", "pod", "first", "--grace-period=0", "--force"]).await;
    wait_gone(&scene.api::<Pod>(), "first", LIMIT).await;
    assert_eq!(processes::commands_of_pod(&uid(&first)).len(), 1, "the deleted pod still runs");
    // Its token is void now, so it cannot renew: it ends its command by itself, before its TTL is over.
    scene.started("second").await;
    assert_eq!(processes::commands_of_pod(&uid(&first)).len(), 0, "the command of the deleted pod still runs");
    drop(frozen);
    scene.second_follows(SHORT.1 + OPERATOR_TIME).await;
    let message = scene.claim("first", ClaimPhase::Expired).await.status.and_then(|status| status.message);
    assert_eq!(message.as_deref(), Some("it was not renewed for 10s"));
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_pod_deleted_while_it_waits_or_runs_is_out_of_the_way_at_once() {
    let scene = Scene::new("deleted").await;
    scene.one_of_two(&work_until_told(0), LONG).await;
    scene.pod("third", &work(1), Shape::once(&[("KONDUCTOR_SEMAPHORE", "one")])).await;
    scene.claim("third", ClaimPhase::Pending).await;
    // TERM, to one that waits and to one whose command runs.
    scene.kubectl(&["delete", "pod", "second"]).await;
    scene.kubectl(&["delete", "pod", "first"]).await;
    scene.started("third").await;
    assert_eq!(scene.ended("third").await.exit_code, 0);
    let runs = scene.runs();
    assert_in_order(&runs, 1);
    let pods: Vec<_> = runs.iter().map(|run| run.pod.as_str()).collect();
    assert_eq!(pods, ["first", "third"], "the second never ran");
    scene.at_rest("one").await;
    assert_eq!(scene.permits().await.len(), 0, "permits are left");
}
