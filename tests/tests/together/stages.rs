//! A signal to end at every stage of a life, with the stage held open: no claim is left that nobody ends, nothing is
//! started late, the code is the right one, and it does not take long.

use std::time::Duration;

use http::Method;
use konductor::Boottime;
use konductor_tests::{Fate, Gateway, Network, Process, Proxy, Rule, Signal, eventually};

use crate::scene::{LIMIT, SHORT, SHORT_TTL, STALL, Scene, shared};

/// What is promised.
const PROMPTLY: Duration = Duration::from_secs(1);

/// A scene with one permit, and a gateway to it.
async fn staged(prefix: &str) -> (Scene, Gateway, std::path::PathBuf) {
    let scene = shared(prefix).await;
    scene.semaphore(1).await;
    let (gateway, kubeconfig) = Gateway::start(&scene.kubeconfig).await;
    (scene, gateway, kubeconfig)
}

fn start(scene: &Scene, kubeconfig: &std::path::Path, flags: &[&str]) -> Process {
    let mut run = scene.command("stopped", flags, &scene.until_let_go().each_ref().map(String::as_str));
    run.env("KUBECONFIG", kubeconfig);
    Process::spawn("stopped", run)
}

/// It is told to end, and does.
async fn ends(process: &mut Process, code: i32) {
    let told = Boottime::now();
    process.signal(Signal::SIGTERM);
    process.expect_exit(LIMIT, code).await;
    let took = Boottime::now() - told;
    assert!(took < PROMPTLY + STALL, "took {took:?}\n{}", process.output());
    assert_eq!(process.tree(), []);
}

#[tokio::test]
async fn before_the_first_answer() {
    let scene = shared("first").await;
    scene.semaphore(1).await;
    let (proxy, kubeconfig) = Proxy::start(&scene.kubeconfig).await;
    proxy.set(Network::Silent);
    let mut process = start(&scene, &kubeconfig, &["-v"]);
    eventually(LIMIT, "a connection", || async {
        // One end is the proxy's.
        let sockets = std::fs::read_to_string("/proc/net/tcp").map_err(|error| error.to_string())?;
        let to_proxy = format!(":{:04X} 01 ", proxy.address().port());
        if sockets.contains(&to_proxy) { Ok(()) } else { Err(process.output()) }
    })
    .await;
    ends(&mut process, 143).await;
    assert_eq!(scene.record.runs(), []);
    proxy.set(Network::Fine);
    scene.assert_withdrawn(&[process]).await;
}

#[tokio::test]
async fn while_the_claim_is_being_made() {
    let (scene, gateway, kubeconfig) = staged("making").await;
    gateway.rule(Some(Rule(Method::POST, "/permits", Fate::Held)));
    let mut process = start(&scene, &kubeconfig, &[]);
    gateway.wait_met(LIMIT, 1).await;
    ends(&mut process, 143).await;
    gateway.rule(None);
    assert_eq!(scene.record.runs(), []);
    scene.assert_withdrawn(&[process]).await;
}

async fn while_the_claim_is_made_and_nobody_says_so() {
    let (scene, gateway, kubeconfig) = staged("made").await;
    gateway.rule(Some(Rule(Method::POST, "/permits", Fate::AnswerHeld)));
    let mut process = start(&scene, &kubeconfig, &SHORT);
    gateway.wait_met(LIMIT, 1).await;
    scene.claim("stopped").await;
    ends(&mut process, 143).await;
    // Whether it could be withdrawn or not, nobody waits for long.
    scene.witness("next", &[], Duration::ZERO).expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(1, 1);
}

#[tokio::test]
async fn while_waiting() {
    let (scene, _gateway, kubeconfig) = staged("waiting").await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    let mut process = start(&scene, &kubeconfig, &[]);
    process.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    ends(&mut process, 143).await;
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(1, 1);
    scene.assert_withdrawn(&[process]).await;
}

#[tokio::test]
async fn while_the_grant_is_being_confirmed() {
    let (scene, gateway, kubeconfig) = staged("confirming").await;
    gateway.rule(Some(Rule(Method::GET, "/semaphores/s", Fate::Held)));
    let mut process = start(&scene, &kubeconfig, &[]);
    scene.claim_is("stopped", |claim| claim.status.as_ref().is_some_and(|status| status.fencing_token.is_some())).await;
    gateway.wait_met(LIMIT, 1).await;
    ends(&mut process, 143).await;
    assert_eq!(scene.record.runs(), []);
    scene.assert_withdrawn(&[process]).await;
}

/// A grant that has been waited for is renewed before anything is started.
async fn while_a_late_grant_is_being_renewed() {
    let (scene, gateway, kubeconfig) = staged("late").await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    let asked = Boottime::now();
    let mut process = start(&scene, &kubeconfig, &SHORT);
    process.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    eventually(LIMIT, "more than a third of the TTL", || async {
        if Boottime::now() > asked + SHORT_TTL / 2 { Ok(()) } else { Err("not yet") }
    })
    .await;
    gateway.rule(Some(Rule(Method::PATCH, "/permits/", Fate::Held)));
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    gateway.wait_met(LIMIT, 1).await;
    ends(&mut process, 143).await;
    scene.record.assert_complete(1, 1);
    scene.assert_withdrawn(&[process]).await;
}

async fn while_the_command_runs_and_a_renewal_hangs() {
    let (scene, gateway, kubeconfig) = staged("renewing").await;
    let mut process = start(&scene, &kubeconfig, &["--ttl", "30s", "--grace", "1s"]);
    scene.record.started(LIMIT, 1).await;
    gateway.rule(Some(Rule(Method::PATCH, "/permits/", Fate::Held)));
    gateway.wait_met(LIMIT, 1).await;
    ends(&mut process, 143).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn while_the_command_takes_its_time_to_end() {
    let (scene, gateway, kubeconfig) = staged("stopping").await;
    let script = "trap 'echo asked; exec sleep 1000' TERM; echo ready; while :; do sleep 0.01; done";
    let mut run = scene.command("stopped", &["--ttl", "1m"], &["sh", "-c", script]);
    run.env("KUBECONFIG", kubeconfig);
    let mut process = Process::spawn("stopped", run);
    process.wait_stdout(LIMIT, "ready").await;
    process.signal(Signal::SIGTERM);
    process.wait_stdout(LIMIT, "asked").await;
    gateway.rule(Some(Rule(Method::PATCH, "/permits/", Fate::Held)));
    // The first has made it end in order; the second one ends what that has become.
    eventually(LIMIT, "another program", || async {
        let runs = process.tree().iter().any(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x001000"))
        });
        if runs { Ok(()) } else { Err(process.output()) }
    })
    .await;
    ends(&mut process, 143).await;
    scene.assert_no_claims().await;
}

async fn while_the_claim_is_being_released() {
    let (scene, gateway, kubeconfig) = staged("releasing").await;
    let mut process = start(&scene, &kubeconfig, &SHORT);
    scene.record.started(LIMIT, 1).await;
    gateway.rule(Some(Rule(Method::DELETE, "/permits/", Fate::Held)));
    scene.let_go();
    gateway.wait_met(LIMIT, 1).await;
    assert_eq!(process.status(), None, "{}", process.output());
    // The command has ended well.
    ends(&mut process, 0).await;
    assert!(process.stderr().contains("could not release semaphore s"), "{}", process.stderr());
    // What could not be released ends with its TTL.
    scene.witness("next", &[], Duration::ZERO).expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(2, 1);
}

/// Each takes its time and little else, so they wait together.
#[tokio::test]
async fn while_answers_are_held_up() {
    tokio::join!(
        while_the_claim_is_made_and_nobody_says_so(),
        while_a_late_grant_is_being_renewed(),
        while_the_command_runs_and_a_renewal_hangs(),
        while_the_claim_is_being_released(),
    );
}
