//! The operator dies while Jobs contend. Nothing is granted that should not be, and everything completes.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use konductor_tests::{eventually, wait_for};
use kube::Api;
use serde_json::json;

use crate::cluster::{LIMIT, SYSTEM, Scene};
use crate::processes;
use crate::records::assert_in_order;
use crate::workload::{Shape, uid, work};

/// What the operator's replicas elect their leader by.
const ELECTION: &str = "konductor-operator";

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn jobs_complete_when_the_leading_operator_is_killed_in_the_middle() {
    let scene = Scene::alone("failover").await;
    scene.semaphore("warehouse", json!({ "permits": 2 })).await;
    let names: Vec<_> = (1..=10).map(|number| format!("load-{number}")).collect();
    for name in &names {
        scene.job(name, &work(2), Shape::once(&[("KONDUCTOR_SEMAPHORE", "warehouse")])).await;
    }

    // One dies without a word, and its container is restarted; with the next one, its pod disappears, too.
    started(&scene, 2).await;
    let first = leader(&scene).await;
    processes::kill_in_pod(&uid(&first), "konductor-operator").await;
    started(&scene, 5).await;
    let second = leader(&scene).await;
    let name = second.metadata.name.as_deref().expect("a pod has a name");
    scene.kubectl(&["delete", "pod", name, "--namespace", SYSTEM, "--grace-period=0", "--force"]).await;

    for name in &names {
        scene.completed(name).await;
    }
    let runs = scene.runs();
    assert_eq!(runs.len(), 10, "{runs:#?}");
    assert!(runs.iter().all(|run| run.ended), "{runs:#?}");
    assert_in_order(&runs, 2);
    scene.at_rest("warehouse").await;
    assert_eq!(scene.permits().await.len(), 0, "permits are left");
    scene.kubectl(&["rollout", "status", "deployment/konductor-operator", "--namespace", SYSTEM, "--timeout=3m"]).await;
}

/// Waits until so many commands have started.
async fn started(scene: &Scene, commands: usize) {
    eventually(LIMIT, &format!("{commands} commands have started"), || async {
        let started = scene.runs().len();
        if started >= commands { Ok(()) } else { Err(format!("{started} have")) }
    })
    .await;
}

/// The pod of the replica that leads.
async fn leader(scene: &Scene) -> Pod {
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), SYSTEM);
    let lease = wait_for(&leases, ELECTION, LIMIT, |lease| holder(lease).is_some()).await;
    let name = holder(&lease).expect("it was waited for");
    Api::namespaced(scene.client.clone(), SYSTEM).get(&name).await.expect("the leader is a pod of this name")
}

/// The pod's name, of a holder that is called by that and its UID.
fn holder(lease: &Lease) -> Option<String> {
    let (pod, _) = lease.spec.as_ref()?.holder_identity.as_ref()?.split_once('_')?;
    Some(pod.to_owned())
}
