//! What is around the decisions: usage, health, metrics, a cluster where Konductor is not installed yet.

use std::collections::HashMap;
use std::process::Command;

use k8s_openapi::api::rbac::v1::ClusterRole;
use konductor_tests::{Binaries, ControlPlane, Installed, Process, eventually, get, install_crds, tool, workspace};

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{LIMIT, Scene, namespace, shared};

#[tokio::test]
async fn bad_usage_is_refused_with_64() {
    for (arguments, complaint) in [
        (vec!["--election=maybe"], "invalid value 'maybe'"),
        (vec!["--lease-duration=1s"], "from 2s to 10m"),
        (vec!["--no-such-flag"], "unexpected argument '--no-such-flag'"),
        (vec!["--log=loud"], "wanted error, warn, info, debug or trace, found \"loud\""),
    ] {
        let mut command = Command::new(Binaries::built().operator());
        command.args(arguments);
        let mut operator = Process::spawn("usage", command);
        operator.expect_exit(LIMIT, 64).await;
        assert!(operator.stderr().contains(complaint), "{}", operator.stderr());
    }
}

#[tokio::test]
async fn the_chart_takes_the_levels_that_the_operator_takes() {
    for (level, is_one) in [
        ("error", true),
        ("warn", true),
        ("info", true),
        ("debug", true),
        ("trace", true),
        ("info,kube=debug,h2::proto=off", true),
        ("loud", false),
        ("Debug", false),
        ("", false),
        ("info,debug", false),
        ("info,kube=loud", false),
    ] {
        let mut helm = Command::new(tool("helm"));
        helm.args(["template", "konductor", "charts/konductor", "--set-json"])
            .arg(format!("log.level={}", json!(level)));
        let output = helm.current_dir(workspace()).output().expect("run helm");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_one, "{level}: {complaint}");
        assert!(is_one || complaint.contains("level"), "{level}: {complaint}");
        let mut command = Command::new(Binaries::built().operator());
        command.env("KONDUCTOR_LOG", level);
        let mut operator = Process::spawn("level", command);
        // Without a cluster it comes no further than that.
        operator.expect_exit(LIMIT, if is_one { 1 } else { 64 }).await;
    }
}

/// The lines of a log, without one that is being written.
fn whole_lines(logs: &str) -> impl Iterator<Item = &str> {
    logs.split_inclusive('\n').filter(|line| line.ends_with('\n'))
}

#[tokio::test]
async fn what_is_logged_in_detail_is_its_own() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let operator = installed.operator("detailed", &["--log", "debug", "--log-format", "json"]);
    operator.wait_stderr(LIMIT, "this process leads").await;
    let scene = Scene::<konductor_api::Semaphore>::of(control_plane.namespace("detailed").await);
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
    let logs = operator.stderr();
    for line in whole_lines(&logs) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let (target, level) = (line["target"].as_str().unwrap_or_default(), line["level"].as_str());
        assert!(target.starts_with("konductor") || level == Some("WARN"), "{line}");
    }
}

#[tokio::test]
async fn that_it_follows_again_is_told_to_who_has_read_of_trouble() {
    let mut control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let operator = installed.operator("follower", &["--log-format", "json"]);
    operator.wait_stderr(LIMIT, "this process leads").await;
    let said = |what: &str| operator.stderr().lines().filter(|line| line.contains(what)).count();
    assert_eq!(said("following"), 0, "there was no trouble: {}", operator.stderr());
    control_plane.api_server.stop();
    control_plane.api_server.start().await;
    operator.wait_stderr(LIMIT, "following again").await;
    let scene = Scene::<konductor_api::Semaphore>::of(control_plane.namespace("follower").await);
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
    let logs = operator.stderr();
    let read = |line| serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
    // Pods are followed by two watches, of which each may have stopped; and any may stop more than once.
    let mut stopped = HashMap::new();
    for line in whole_lines(&logs).map(read) {
        let Some(resource) = line["resource"].as_str().map(str::to_owned) else { continue };
        let watches = if resource == "pods" || resource == "leases" { 2 } else { 1 };
        let stopped: &mut u32 = stopped.entry(resource.clone()).or_insert(0);
        if line["level"] == "WARN" {
            *stopped = watches.min(*stopped + 1);
        } else if line["message"].as_str().is_some_and(|message| message.starts_with("following")) {
            let known = stopped.checked_sub(1);
            *stopped = known.unwrap_or_else(|| panic!("{resource} was not said to have stopped: {logs}"));
        }
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
    // Of a deleted semaphore it is shown who waits, as long as somebody does: series must not pile up.
    scene.locks().delete("s", &kube::api::DeleteParams::default()).await.expect("delete");
    let shown = async |wanted: &[&str]| {
        eventually(LIMIT, &format!("of the deleted semaphore {wanted:?}"), || async {
            let (_, metrics) = get(operator, "/metrics").await;
            let of_it = |line: &&str| line.contains(&format!("namespace=\"{}\"", scene.namespace.name));
            let names: Vec<_> = metrics.lines().filter(of_it).filter_map(|line| line.split('{').next()).collect();
            if names == wanted { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    };
    shown(&["konductor_waiting", "konductor_oldest_waiter_seconds"]).await;
    scene.claims().delete("b", &kube::api::DeleteParams::default()).await.expect("delete");
    shown(&[]).await;
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
    // Whichever was the first to fail; all watches end within half a minute.
    eventually(3 * LIMIT, "the watch of semaphores to fail", || async {
        let (_, metrics) = get(&operator, "/metrics").await;
        let fails = metrics.contains(r#"konductor_watch_failing{resource="semaphores"} 1"#);
        if fails { Ok(()) } else { Err(metrics) }
    })
    .await;
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
