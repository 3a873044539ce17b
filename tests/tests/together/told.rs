//! What `konductor-run` tells people: the place in the queue, and why it has failed.

use std::process::Command;
use std::time::Duration;

use konductor_tests::{Process, Signal};
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::scene::{LIMIT, SHORT_TTL, Scene, seconds, shared};

#[tokio::test]
async fn a_waiter_says_its_place_in_the_queue_once_each_time_it_changes() {
    let scene = shared("queue").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    let mut waiters = Vec::new();
    for (number, place) in ["next in line", "1 ahead", "2 ahead"].into_iter().enumerate() {
        let flags = ["--log-format", "json"];
        let waiter = scene.witness(&format!("waiter-{number}"), &flags, Duration::ZERO);
        waiter.wait_stderr(LIMIT, &format!("waiting for semaphore s: {place}")).await;
        waiters.push(waiter);
    }
    let mut last = waiters.pop().expect("there are three");
    for (waiter, place) in waiters.iter_mut().zip(["1 ahead", "next in line"]) {
        waiter.signal(Signal::SIGTERM);
        waiter.expect_exit(LIMIT, 143).await;
        last.wait_stderr(LIMIT, &format!("waiting for semaphore s: {place}")).await;
    }
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    last.expect_exit(LIMIT, 0).await;
    let lines = last.stderr();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON"));
    let messages: Vec<_> = lines.map(|line| line["message"].as_str().expect("a message").to_owned()).collect();
    let (held, waited) = messages.split_last().expect("there are lines");
    let places = ["2 ahead", "1 ahead", "next in line"].map(|place| format!("waiting for semaphore s: {place}"));
    assert_eq!(waited, places);
    assert!(held.starts_with("holding semaphore s, fencing token "), "{held}");
}

/// `run` with a /dev of its own, as a container has one; afterwards its output ends with its termination message.
fn with_termination_log(run: &Command) -> Command {
    let script = "mount -t tmpfs none /dev && echo before >/dev/termination-log && { \"$@\"; code=$?; }; \
                  cat /dev/termination-log; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(run.get_program()).args(run.get_args());
    command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Starts the command `sleep` for somebody who fails.
fn failing(scene: &Scene, holder: &str, flags: &[&str]) -> Process {
    Process::spawn(holder, with_termination_log(&scene.command(holder, flags, &["sleep", "600"])))
}

async fn fails(mut process: Process, code: i32, message: &str) {
    process.expect_exit(LIMIT, code).await;
    let said = process.stdout();
    assert!(said.starts_with(&format!("before\nkonductor-run: {message}")), "{code}: {}", process.output());
    assert_eq!(said.lines().count(), 2, "{code}: {}", process.output());
}

#[tokio::test]
async fn every_failure_in_a_cluster_is_the_termination_message() {
    let scene = shared("failures").await;
    scene.semaphore(1).await;
    let lost = failing(&scene, "lost", &["--ttl", &seconds(SHORT_TTL)]);
    lost.wait_stderr(LIMIT, "holding semaphore s").await;
    fails(failing(&scene, "late", &["--wait-timeout", "1s"]), 75, "timed out waiting for semaphore s").await;
    fails(failing(&scene, "once", &["--wait-timeout", "0"]), 75, "semaphore s is not free").await;
    let missing = failing(&scene, "missing", &["--semaphore", "nothing", "--wait-timeout", "0"]);
    fails(missing, 78, "there is no semaphore nothing in this namespace").await;
    scene.namespace.service_account("stranger").await;
    let mut command = scene.command("stranger", &[], &["sleep", "600"]);
    command.env("KUBECONFIG", scene.namespace.service_account_kubeconfig("stranger").await);
    let stranger = Process::spawn("stranger", with_termination_log(&command));
    fails(stranger, 77, "cannot acquire semaphore s: ").await;
    let claim = scene.claim("lost").await;
    scene.permits().delete(&claim.name_any(), &DeleteParams::default()).await.expect("delete a Permit");
    fails(lost, 79, "lost semaphore s: ").await;
}
