//! What `konductor-run` tells people: the place in the queue, and why it has failed.

use std::process::Command;
use std::time::Duration;

use konductor_tests::{Binaries, Process, Signal, eventually, helm_template};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::scene::{IN_VAIN, LIMIT, Scene, exclusive, shared};

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
    for (number, place) in ["1 ahead", "next in line"].into_iter().enumerate() {
        let (waiter, claim) = (&mut waiters[number], scene.claim(&format!("waiter-{number}")).await);
        waiter.signal(Signal::SIGTERM);
        waiter.expect_exit(LIMIT, 143).await;
        scene.has_withdrawn(waiter, &claim).await;
        last.wait_stderr(LIMIT, &format!("waiting for semaphore s: {place}")).await;
    }
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    last.expect_exit(LIMIT, 0).await;
    let lines = last.stderr();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON"));
    let messages: Vec<_> = lines.map(|line| line["message"].as_str().expect("a message").to_owned()).collect();
    let (held, waited) = messages.split_last().expect("there are lines");
    // Whatever else a machine that stands still gives cause to say.
    let is_place = |message: &&str| message.starts_with("waiting for semaphore s: ");
    let waited: Vec<_> = waited.iter().map(String::as_str).filter(is_place).collect();
    let places = ["2 ahead", "1 ahead", "next in line"].map(|place| format!("waiting for semaphore s: {place}"));
    assert_eq!(waited, places);
    assert!(held.starts_with("holding semaphore s, fencing token "), "{held}");
}

#[tokio::test]
async fn a_waiter_says_what_else_is_in_the_way() {
    let scene = shared("reasons").await;
    scene.semaphore(3).await;
    let mut heavy = scene.run("heavy", &["--semaphore", "s:4"], &["true"]);
    heavy
        .wait_stderr(LIMIT, "waiting for semaphore s, which has 3 permits, fewer than the 4 that are asked for\n")
        .await;
    scene.resize(0).await;
    heavy.wait_stderr(LIMIT, "waiting for semaphore s, which is paused: it has 0 permits\n").await;
    let mut behind = scene.run("behind", &[], &["true"]);
    behind.wait_stderr(LIMIT, "waiting for semaphore s, which is paused: it has 0 permits; 1 ahead\n").await;
    let mut once = scene.run("once", &["--wait-timeout", "0"], &["true"]);
    once.expect_exit(LIMIT, 75).await;
    assert_eq!(once.stderr(), "konductor-run: error: semaphore s is not free: it is paused: it has 0 permits\n");
    for waiter in [&heavy, &behind] {
        assert!(!waiter.stderr().contains("next in line"), "{}", waiter.stderr());
    }
    scene.resize(4).await;
    heavy.expect_exit(LIMIT, 0).await;
    behind.expect_exit(LIMIT, 0).await;
}

#[tokio::test]
async fn a_waiter_that_nobody_answers_says_so_and_what_to_look_at() {
    let (control_plane, installed) = exclusive().await;
    let scene = Scene::new(&control_plane, "unanswered").await;
    scene.semaphore(1).await;
    let mut waiter = scene.run("waiter", &[], &["true"]);
    // After ten seconds, or as many as a machine has stood still.
    let nobody = async |waiter: &Process, about: &str| {
        let begins = format!("konductor-run: warning: nobody has answered about {about} for ");
        let ends = "s: does Konductor's operator run? kubectl get pods --all-namespaces --selector \
                    app.kubernetes.io/name=konductor";
        let seconds = |line: &str| line.strip_prefix(&begins)?.strip_suffix(ends)?.parse::<u32>().ok();
        eventually(LIMIT, &begins, || async {
            let told = waiter.stderr();
            if told.lines().any(|line| seconds(line) >= Some(10)) { Ok(()) } else { Err(told) }
        })
        .await;
    };
    nobody(&waiter, "semaphore s").await;
    let gate = json!({
        "metadata": { "name": "g" },
        "spec": { "conditions": [{ "type": "Semaphore", "name": "s", "state": "Available" }] },
    });
    let gates: kube::Api<konductor_api::Gate> = scene.namespace.api();
    gates.create(&PostParams::default(), &serde_json::from_value(gate).expect("a Gate")).await.expect("create a Gate");
    let mut behind = scene.run("behind", &["--gate", "g"], &["true"]);
    nobody(&behind, "gate g").await;
    // What the command shows: the chart's operator, if it runs.
    let pods = helm_template("another-name", "elsewhere", &[]);
    let operator = pods.iter().find(|object| object.types.as_ref().is_some_and(|types| types.kind == "Deployment"));
    let labels = &operator.expect("the chart has an operator").data["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "konductor");
    let _operator = installed.operator("late", &[]);
    waiter.expect_exit(LIMIT, 0).await;
    behind.expect_exit(LIMIT, 0).await;
}

#[tokio::test]
async fn what_the_outer_one_holds_is_refused_to_an_inner_one() {
    let scene = shared("nested").await;
    scene.semaphore(3).await;
    let run = Binaries::built().run().to_str().expect("a path is text");
    let inner = |flags: &'static str| [run, "-q", flags, "--", "echo", "started"];
    let mut refused = scene.run("outer", &["-q", "--semaphore", "s:2"], &inner("--semaphore=s:2"));
    refused.expect_exit(LIMIT, 64).await;
    assert_eq!(
        (refused.stdout().as_str(), refused.stderr().as_str()),
        (
            "",
            "konductor-run: error: cannot acquire semaphore s: the konductor-run that this one runs in holds 2 of 3 \
             until this one has ended, so 2 more will never be free; unset KONDUCTOR_SEMAPHORE and KONDUCTOR_LEASE for \
             what is not to take them again\n"
        )
    );
    let mut taken = scene.run("outer", &["-q", "--semaphore", "s:2"], &inner("--semaphore=s:1"));
    taken.expect_exit(LIMIT, 0).await;
    assert_eq!(taken.stdout(), "started\n");
    // Another namespace's semaphore of the same name is another, and is waited for.
    let other = shared("nested-elsewhere").await;
    other.semaphore(1).await;
    let mut holder = other.holder("holder", &[]);
    other.record.started(LIMIT, 1).await;
    let elsewhere = other.kubeconfig.to_str().expect("a path is text");
    let kubeconfig = format!("KUBECONFIG={elsewhere}");
    let command = ["env", &kubeconfig, run, "--semaphore=s", "--", "echo", "started"];
    let mut waits = scene.run("outer", &["-q", "--semaphore", "s:3"], &command);
    waits.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    other.let_go();
    holder.expect_exit(LIMIT, 0).await;
    waits.expect_exit(LIMIT, 0).await;
    assert_eq!(waits.stdout(), "started\n");
    scene.assert_no_claims().await;
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
    let lost = failing(&scene, "lost", &["--ttl", "2m"]);
    lost.wait_stderr(LIMIT, "holding semaphore s").await;
    fails(failing(&scene, "late", &["--wait-timeout", IN_VAIN]), 75, "timed out waiting for semaphore s").await;
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
