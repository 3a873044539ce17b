//! What is around the decisions: usage, health, metrics, a cluster where Konductor is not installed yet.

use std::process::Command;

use k8s_openapi::api::rbac::v1::ClusterRole;
use konductor_tests::{Binaries, ControlPlane, Installed, Process, eventually, get, install_crds};

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{LIMIT, Scene, namespace, shared};

#[tokio::test]
async fn bad_usage_is_refused_with_64() {
    for (arguments, complaint) in [
        (vec!["--election=maybe"], "invalid value 'maybe'"),
        (vec!["--lease-duration=1s"], "from 2s to 10m"),
        (vec!["--no-such-flag"], "unexpected argument '--no-such-flag'"),
    ] {
        let mut command = Command::new(Binaries::built().operator());
        command.args(arguments);
        let mut operator = Process::spawn("usage", command);
        operator.expect_exit(LIMIT, 64).await;
        assert!(operator.stderr().contains(complaint), "{}", operator.stderr());
    }
}

#[tokio::test]
async fn without_a_cluster_it_says_so_and_fails() {
    let mut operator = Process::spawn("alone", Command::new(Binaries::built().operator()));
    operator.expect_exit(LIMIT, 1).await;
    let logs = operator.stderr();
    assert!(logs.contains("cannot find out how to reach the API server"), "{logs}");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let scene = namespace("metrics").await;
    let operator = shared().await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
    scene.claim("s", "b").await;
    scene.ahead("b", 0).await;
    let (status, _) = get(operator, "/healthz").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    eventually(LIMIT, "readiness", || async {
        let (status, answer) = get(operator, "/readyz").await;
        if status == "HTTP/1.1 200 OK" { Ok(()) } else { Err(answer) }
    })
    .await;
    let of_semaphore = format!(r#"{{namespace="{}",kind="semaphore",name="s"}} 1"#, scene.namespace.name);
    eventually(LIMIT, "the figures of the semaphore", || async {
        let (_, metrics) = get(operator, "/metrics").await;
        let has = |line: &str| metrics.lines().any(|found| found == line);
        let all = has(&format!("konductor_waiting{of_semaphore}"))
            && has(&format!("konductor_in_use{of_semaphore}"))
            && has("konductor_leader 1")
            && metrics.contains(r#"konductor_writes_total{kind="semaphore",change="grant",outcome="applied"} "#);
        if all { Ok(()) } else { Err(metrics) }
    })
    .await;
    let (_, metrics) = get(operator, "/metrics").await;
    assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    // Gone with the semaphore: series must not pile up.
    scene.locks().delete("s", &kube::api::DeleteParams::default()).await.expect("delete");
    eventually(LIMIT, "no figures of the deleted semaphore", || async {
        let (_, metrics) = get(operator, "/metrics").await;
        if metrics.contains(&scene.namespace.name) { Err(metrics) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_replica_whose_rights_are_taken_away_says_so_and_is_not_ready() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let operator = installed.operator("deprived", &[]);
    let readiness = async |wanted: &str| {
        // A watch that is open goes on for half a minute, and half a minute of failures is forgiven.
        eventually(3 * LIMIT, &format!("/readyz to say {wanted}"), || async {
            let (status, answer) = get(&operator, "/readyz").await;
            if status.contains(wanted) { Ok(answer) } else { Err(answer) }
        })
        .await
    };
    readiness("200").await;
    let roles: kube::Api<ClusterRole> = kube::Api::all(installed.system.client.clone());
    let before = roles.get("konductor-operator").await.expect("read");
    roles
        .patch("konductor-operator", &PatchParams::default(), &Patch::Merge(json!({ "rules": [] })))
        .await
        .expect("patch");
    let answer = readiness("503").await;
    assert!(answer.contains("forbidden"), "{answer}");
    let (_, metrics) = get(&operator, "/metrics").await;
    assert!(metrics.contains(r#"konductor_watch_failing{resource="semaphores"} 1"#), "{metrics}");
    let restored = Patch::Merge(json!({ "rules": before.rules }));
    roles.patch("konductor-operator", &PatchParams::default(), &restored).await.expect("patch");
    readiness("200").await;
}

#[tokio::test]
async fn it_waits_for_its_custom_resources_to_be_installed() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, false).await;
    let operator = installed.operator("early", &[]);
    operator.wait_stderr(LIMIT, "are Konductor's custom resources installed?").await;
    let (status, answer) = get(&operator, "/readyz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{answer}");
    install_crds(&installed.system.client).await;
    let scene = Scene::<konductor_api::Semaphore>::of(control_plane.namespace("early").await);
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
}
