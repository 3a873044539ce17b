//! What an init does goes on while something is held, and renewals go on while it does it.

use konductor_tests::{Process, Signal, eventually};
use nix::sys::signal::kill;

use crate::holders::child;
use crate::scene::{LIMIT, SHORT, Scene, shared};

/// More than the time to live, of which each third brings one: what is not renewed is lost by then.
const RENEWALS: usize = 4;

/// Waits until the claim has been renewed so often.
async fn renewals(scene: &Scene, holder: &str, number: usize) {
    let mut last = scene.claim(holder).await.spec.claim.renew_time;
    for _ in 0..number {
        last = scene.claim_is(holder, |claim| claim.spec.claim.renew_time != last).await.spec.claim.renew_time;
    }
}

fn state(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
}

/// Holds with a shell that runs this script.
fn hold(scene: &Scene, script: &str) -> Process {
    scene.run("holder", &SHORT, &["sh", "-c", script])
}

async fn renewals_go_on_while_the_command_is_stopped() {
    let scene = shared("stopped").await;
    scene.semaphore(1).await;
    let mut holder = hold(&scene, "trap 'exit 3' USR1; echo ready; while :; do sleep 0.01; done");
    holder.wait_stdout(LIMIT, "ready").await;
    let command = child(&holder, &std::fs::canonicalize("/bin/sh").expect("there is a shell")).await;
    kill(command, Signal::SIGSTOP).expect("stop the command");
    eventually(LIMIT, "the command is stopped", || async {
        Some(()).filter(|()| state(command.as_raw()) == 'T').ok_or("not yet")
    })
    .await;
    renewals(&scene, "holder", RENEWALS).await;
    assert_eq!(state(command.as_raw()), 'T');
    holder.signal(Signal::SIGUSR1);
    holder.signal(Signal::SIGCONT);
    holder.expect_exit(LIMIT, 3).await;
    scene.assert_no_claims().await;
}

async fn renewals_go_on_while_orphans_end_without_end() {
    let scene = shared("orphans").await;
    scene.semaphore(1).await;
    let mut holder =
        hold(&scene, "trap 'exit 3' USR1; while :; do for _ in 1 2 3 4 5 6 7 8; do (true &); done; sleep 0.1; done");
    renewals(&scene, "holder", RENEWALS).await;
    holder.signal(Signal::SIGUSR1);
    holder.expect_exit(LIMIT, 3).await;
    scene.assert_no_claims().await;
}

/// Each takes its time and little else, so they wait together.
#[tokio::test]
async fn renewals_go_on() {
    tokio::join!(renewals_go_on_while_the_command_is_stopped(), renewals_go_on_while_orphans_end_without_end());
}
