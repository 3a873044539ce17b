//! Scripts as people wrote them for the first konductor.

use std::{os::unix::fs::symlink, process::Command};

use konductor_tests::{Binaries, Process};

use crate::scene::{Scene, ended};

/// Runs a script of the shell, in which `koncli` is in the PATH.
async fn script(scene: &Scene, text: &str) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    symlink(Binaries::built().koncli(), folder.path().join("koncli")).expect("a link");
    let mut command = Command::new("sh");
    command.args(["-euc", text]).env("KUBECONFIG", &scene.kubeconfig);
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH")));
    command.env("OPERATOR_NAMESPACE", &scene.system);
    let ran = ended(Process::spawn("sh", command)).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    (ran.stdout, ran.stderr)
}

#[tokio::test]
async fn locks_are_used_as_they_were() {
    let scene = Scene::new("koncli-old").await;
    let (stdout, _) = script(
        &scene,
        r#"
        koncli semaphore create db --permits 2 --ttl 5m --operator-namespace "$OPERATOR_NAMESPACE"
        token=$(koncli semaphore acquire db --holder job-1 --wait --timeout 1m --wait-for-update --update-timeout 10s)
        echo "$token" | grep -Eqx '[0-9]+'
        until [ "$(koncli status semaphore db -o json | jq -r .available)" = 1 ]; do :; done
        koncli status semaphore db -o json | jq -r '.permits, .inUse, .holders[0]'
        koncli semaphore list -o json | jq -r '.items[].metadata.name'
        koncli semaphore release db --holder job-1 --wait-for-update --update-timeout 10s >/dev/null
        koncli lease create leader --ttl 30s
        koncli lease acquire leader --holder job-1 --timeout 1m >/dev/null
        until [ "$(koncli status lease leader -o json | jq -r .holder)" = job-1 ]; do :; done
        koncli lease release leader --holder job-1 >/dev/null
        koncli status all >/dev/null
        "#,
    )
    .await;
    let expected = "semaphore.konductor.io/db created\n2\n1\njob-1\ndb\nlease.konductor.io/leader created\n";
    assert_eq!(stdout, expected);
}

#[tokio::test]
async fn stages_are_gone_through_as_they_were() {
    let scene = Scene::new("koncli-stages").await;
    let (stdout, stderr) = script(
        &scene,
        r#"
        koncli barrier create stage-1 --expected 2
        koncli barrier arrive stage-1 worker-1
        koncli barrier arrive stage-1 --holder worker-2
        koncli barrier wait stage-1 --timeout 1m --wait-duration 5s
        until [ "$(koncli status barrier stage-1 -o json | jq -r .open)" = true ]; do :; done
        koncli gate create approved
        koncli gate open approved --wait-for-update --update-timeout 10s
        koncli gate wait approved --timeout 1m
        koncli gate close approved
        koncli --log-level error barrier list --no-headers | cut -d ' ' -f 1
        koncli --log-level debug status barrier stage-1 -o json | jq -r .arrived
        "#,
    )
    .await;
    let expected = "\
barrier.konductor.io/stage-1 created
barrier.konductor.io/stage-1 arrived (worker-1)
barrier.konductor.io/stage-1 arrived (worker-2)
barrier.konductor.io/stage-1 open
gate.konductor.io/approved created
gate.konductor.io/approved opened
gate.konductor.io/approved open
gate.konductor.io/approved closed
stage-1
2
";
    assert_eq!(stdout, expected);
    assert!(stderr.contains("DEBUG") && stderr.contains("/barriers/stage-1"), "what was asked for more: {stderr}");
}

#[tokio::test]
async fn what_is_said_of_logs_is_minded() {
    let scene = Scene::new("koncli-log-level").await;
    let ran = scene.run("--log-level trace semaphore list").await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("DEBUG GET"), "{}", ran.stderr);
    let ran = scene.run("--log-level error semaphore list").await;
    assert!(!ran.stderr.contains("DEBUG"), "{}", ran.stderr);
    let ran = scene.run("--log-level loud semaphore list").await;
    assert_eq!(ran.code, 64, "a level that is none is said: {}", ran.stderr);
}
