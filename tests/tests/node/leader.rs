//! Leader election: of a Deployment's replicas one runs its command, as long as it has the lease. The others wait for
//! it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use konductor_api::Lease;
use konductor_tests::{eventually, wait_for};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{LIMIT, Scene, delete, object};
use crate::processes;
use crate::records::{NOTE, Run, assert_in_order};
use crate::workload::uid;

/// The lease's TTL, which is waited for only when nothing else tells that the leader is dead.
const TTL: Duration = Duration::from_secs(15);

/// What kubelet, operator and a busy machine may take on top.
const OVERHEAD: Duration = Duration::from_mins(1);

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn of_a_deployments_replicas_one_leads() {
    let scene = Scene::new("leader").await;
    let lease: Lease = object(json!({ "metadata": { "name": "leader" }, "spec": { "ttl": "15s" } }));
    scene.api().create(&PostParams::default(), &lease).await.expect("make a lease");
    let script = format!("{NOTE} note start; while true; do note alive; sleep 0.1; done");
    scene.deployment("service", 3, &script, &[("KONDUCTOR_LEASE", "leader")]).await;
    let mut leader = leads(&scene, 1).await;
    waiting(&scene, 2).await;

    // Its container is restarted, and takes its own claim for what it is: that of a dead predecessor.
    processes::kill_in_pod(&uid(&pod(&scene, &leader).await), "konductor-run").await;
    leader = failover(&scene, "killed", leader, 2, OVERHEAD).await;
    waiting(&scene, 2).await;

    // It releases when it is told to end; its successor in the Deployment waits in line.
    delete(&scene.api::<Pod>(), &leader.pod).await;
    leader = failover(&scene, "deleted", leader, 3, OVERHEAD).await;
    waiting(&scene, 2).await;

    // Nobody hears of it any more, as of a node that is lost: not before its TTL has passed is another one let in.
    let frozen = processes::freeze_pod(&uid(&pod(&scene, &leader).await)).await;
    let next = failover(&scene, "lost", leader.clone(), 4, TTL + OVERHEAD).await;
    // The TTL counts from the last renewal, which was up to a third of it before.
    let silent = Duration::from_millis(10 * (next.from - scene.run_of(&leader).until));
    assert!(silent >= TTL / 2, "another one led {silent:?} after the first was heard of");
    processes::kill_all(&frozen);

    let runs = scene.runs();
    assert_in_order(&runs, 1);
}

/// Waits until so many have led, and returns the last of them.
async fn leads(scene: &Scene, number: usize) -> Run {
    eventually(LIMIT, &format!("{number} have led"), || async {
        let mut runs = scene.runs();
        if runs.len() == number { Ok(runs.remove(number - 1)) } else { Err(format!("{runs:#?}")) }
    })
    .await
}

/// Waits until another one leads, within so long after the leader was last heard of; says how long it took.
async fn failover(scene: &Scene, what: &str, before: Run, number: usize, limit: Duration) -> Run {
    let next = leads(scene, number).await;
    let last = scene.run_of(&before).until;
    let took = Duration::from_millis(10 * next.from.saturating_sub(last));
    eprintln!("leader {what}: another command led {took:?} after its last word");
    assert!(took <= limit, "{took:?}");
    assert!(next.token > before.token, "{next:?} after {before:?}");
    next
}

/// Waits until so many wait for the lease.
async fn waiting(scene: &Scene, number: u64) {
    let leases: Api<Lease> = scene.api();
    wait_for(&leases, "leader", LIMIT, |lease| {
        lease.status.as_ref().is_some_and(|status| status.holder.is_some() && status.waiting == Some(number))
    })
    .await;
}

async fn pod(scene: &Scene, run: &Run) -> Pod {
    scene.api::<Pod>().get(&run.pod).await.expect("the leader's pod")
}
