//! Operators that are frozen and thawed while many wait. (That they are killed, and that two of them lead, is part of what
//! a simulation makes of every seed, and of [`crate::everything`], [`crate::contention`] and [`crate::stress`].)

use std::time::Duration;

use konductor_tests::{ControlPlane, Installed, Process, install_crds};

use crate::scene::{IN_VAIN, LIMIT, Scene, all_succeed, exclusive};

const CLIENTS: usize = 60;
const PERMITS: usize = 3;
const HOLD: Duration = Duration::from_millis(100);

/// Leaders that are gone are replaced fast.
const ELECTED: &[&str] = &["--lease-duration", "2s"];

/// As many as [`CLIENTS`] that wait until the semaphore gets its permits.
async fn waiting_crowd(control_plane: &ControlPlane) -> (Scene, Vec<Process>) {
    let scene = Scene::new(control_plane, "operators").await;
    scene.semaphore(0).await;
    let crowd = scene.crowd(CLIENTS, &[], HOLD);
    scene.waiting(CLIENTS as u64).await;
    (scene, crowd)
}

async fn leader_and_standby(installed: &Installed, arguments: &[&str]) -> (Process, Process) {
    let leader = installed.operator("first", arguments);
    leader.wait_stderr(LIMIT, "this process leads").await;
    let standby = installed.operator("second", arguments);
    standby.wait_stderr(LIMIT, "konductor-operator starts").await;
    (leader, standby)
}

#[tokio::test]
async fn a_leader_that_freezes_and_thaws_after_its_successor_began_lets_nobody_in() {
    let (control_plane, installed) = exclusive().await;
    let (mut first, mut second) = leader_and_standby(&installed, ELECTED).await;
    let (scene, mut crowd) = waiting_crowd(&control_plane).await;
    let term = scene.term().await;
    scene.resize(PERMITS as u32).await;
    let (mut done, mut all) = (0, crowd.len());
    for round in 0..4 {
        let (leader, next) = if round % 2 == 0 { (&mut first, "second") } else { (&mut second, "first") };
        // On a machine that looks late, all of them may have been served.
        scene.record.ended(LIMIT, all.min(done + 5)).await;
        leader.freeze();
        installed.wait_leader(next, LIMIT).await;
        // Those who were granted something before may end by themselves; more need the new leader, whoever has come so far.
        done = scene.record.runs().len();
        let late = (0..=PERMITS).map(|late| scene.witness(&format!("late-{round}-{late}"), &[], HOLD));
        crowd.extend(late);
        all = crowd.len();
        done = scene.record.started(LIMIT, done + PERMITS + 1).await.len();
        leader.thaw();
    }
    // Not in each round: on a busy machine the leaders change by themselves, too.
    assert!(scene.term().await > term, "the terms of {term}");
    all_succeed(&mut crowd).await;
    scene.record.assert_complete(crowd.len(), PERMITS);
    scene.assert_no_claims().await;
}

/// Else its successor would be deposed by one that does not lead, and for a while nobody would decide.
#[tokio::test]
async fn a_leader_that_thaws_takes_nothing_over() {
    let (control_plane, installed) = exclusive().await;
    // Not so short that a machine that stands still makes the leaders change.
    let (mut leader, _standby) = leader_and_standby(&installed, &["--lease-duration", "20s"]).await;
    leader.freeze();
    installed.wait_leader("second", LIMIT).await;
    let mut scenes = Vec::new();
    for number in 0..5 {
        let scene = Scene::new(&control_plane, &format!("new-{number}")).await;
        scene.semaphore(1).await;
        scene.witness("before", &[], HOLD).expect_exit(LIMIT, 0).await;
        scenes.push(scene);
    }
    leader.thaw();
    leader.wait_stderr(LIMIT, "this process does not lead any more").await;
    for scene in &scenes {
        scene.witness("after", &[], HOLD).expect_exit(LIMIT, 0).await;
    }
    assert!(!leader.stderr().contains(" writing "), "{}", leader.output());
}

#[tokio::test]
async fn without_resources_and_without_an_operator_it_says_so() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, false).await;
    let scene = Scene::new(&control_plane, "bare").await;
    let mut early = scene.witness("early", &[], HOLD);
    early.expect_exit(LIMIT, 78).await;
    assert!(early.stderr().contains("cannot acquire semaphore s: "), "{}", early.stderr());

    install_crds(&installed.system.client).await;
    scene.semaphore(1).await;
    let mut briefly = scene.witness("briefly", &["--wait-timeout", IN_VAIN, "--on-timeout", "skip"], HOLD);
    briefly.expect_exit(LIMIT, 75).await;
    let message = "no answer about semaphore s: does Konductor's operator run? kubectl get pods";
    assert!(briefly.stderr().contains(message), "{}", briefly.stderr());
    scene.assert_withdrawn(&[briefly]).await;

    let mut patient = scene.witness("patient", &[], HOLD);
    scene.claim("patient").await;
    let _operator = installed.operator("late", ELECTED);
    patient.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(1, 1);
    scene.assert_no_claims().await;
}
