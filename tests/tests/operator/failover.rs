//! Operators that end, by force or by request, and those that take over.

use konductor_api::{ClaimPhase, ClaimStatus, Lease, LeasePhase, Semaphore};
use konductor_tests::{ControlPlane, Installed, Process, Signal, eventually};
use serde_json::{Value, json};

use crate::cluster::{Kind, LIMIT, Scene};

/// A leader and a standby whose caches are filled.
async fn two_operators(installed: &Installed, arguments: &[&str]) -> (Process, Process) {
    let leader = installed.operator("first", arguments);
    installed.wait_leader("first", LIMIT).await;
    let standby = installed.operator("second", arguments);
    standby.wait_stderr(LIMIT, "konductor-operator starts").await;
    (leader, standby)
}

#[tokio::test]
async fn a_standby_takes_over_from_a_killed_leader_and_keeps_its_grants() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    // Long enough that no busy machine keeps the leader from renewing: the one to be killed must be the one that leads.
    let (mut leader, _standby) = two_operators(&installed, &["--lease-duration", "30s"]).await;
    let namespace = control_plane.namespace("killed").await;
    let (semaphores, leases) = (Scene::<Semaphore>::of(namespace.clone()), Scene::<Lease>::of(namespace));
    let before_semaphore = holder_and_waiter(&semaphores, &json!({ "permits": 1 })).await;
    let before_lease = holder_and_waiter(&leases, &json!({})).await;
    leader.signal(Signal::SIGKILL);
    leader.expect_exit(LIMIT, 137).await;

    installed.wait_leader("second", LIMIT).await;
    is_taken_over(&semaphores, &before_semaphore).await;
    is_taken_over(&leases, &before_lease).await;
    let status = leases.status("s", |status| status.holder.as_deref() == Some("b")).await;
    let token = leases.now("b").await.fencing_token;
    assert_eq!((status.phase, status.fencing_token, status.waiting), (Some(LeasePhase::Held), token, Some(0)));
}

/// A lock of one, held by `a` and waited for by `b`. Returns the status of `a`.
async fn holder_and_waiter<L: Kind>(scene: &Scene<L>, spec: &Value) -> ClaimStatus {
    scene.create("s", spec).await;
    scene.claim("s", "a").await;
    let before = scene.granted("a").await;
    scene.claim("s", "b").await;
    scene.ahead("b", 0).await;
    before
}

/// A new leader keeps the holder, in a higher term; then lets the waiter in.
async fn is_taken_over<L: Kind>(scene: &Scene<L>, before: &ClaimStatus) {
    // Both are looked at again and again: a leader that has to begin once more raises the term once more.
    eventually(LIMIT, "the lock is settled in a higher term, and the claim has it", || async {
        let claim = scene.now("a").await;
        assert_eq!((claim.phase, claim.fencing_token), (Some(ClaimPhase::Granted), before.fencing_token));
        let lock = scene.locks().get("s").await.map_err(|error| error.to_string())?;
        let state = lock.status().map(L::state).unwrap_or_default();
        let is_settled =
            claim.term > before.term && (Some(state.term), Some(state.settled_term)) == (claim.term, claim.term);
        if is_settled { Ok(()) } else { Err(format!("{claim:?}, {} and {}", state.term, state.settled_term)) }
    })
    .await;
    assert_eq!(scene.now("b").await.phase, Some(ClaimPhase::Pending));
    scene.release("a").await;
    let after = scene.granted("b").await;
    assert!(after.fencing_token > before.fencing_token, "{after:?}");
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    // Nobody could wait for such a lease to end.
    let (mut leader, standby) = two_operators(&installed, &["--lease-duration", "10m"]).await;
    let scene = Scene::<Semaphore>::of(control_plane.namespace("handover").await);
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    let before = scene.granted("a").await;
    leader.signal(Signal::SIGTERM);
    leader.expect_exit(LIMIT, 0).await;
    standby.wait_stderr(LIMIT, "this process leads").await;
    scene.claim_status("a", |status| status.term > before.term).await;
}

/// As after an uninstall, which takes an operator's rights away before it could give its lease back.
#[tokio::test]
async fn a_leader_whose_pod_is_gone_is_not_waited_for() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    // Nobody could wait for such a lease to end.
    let arguments = ["--lease-duration", "10m"];
    let gone = "konductor-operator-a_9d6c3b1e-0000-4000-8000-000000000000";
    let mut leader = installed.operator(gone, &arguments);
    installed.wait_leader(gone, LIMIT).await;
    leader.signal(Signal::SIGKILL);
    leader.expect_exit(LIMIT, 137).await;

    // Long before the lease's end.
    let _next = installed.operator("next", &arguments);
    installed.wait_leader("next", LIMIT).await;
}

#[tokio::test]
async fn an_operator_outlives_its_api_server() {
    let mut control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let mut operator = installed.operator("only", &["--lease-duration", "2s"]);
    let scene = Scene::<Semaphore>::of(control_plane.namespace("restart").await);
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    let before = scene.granted("a").await;
    control_plane.api_server.stop();
    operator.wait_stderr(LIMIT, "this process does not lead any more").await;
    control_plane.api_server.start().await;
    scene.claim("s", "b").await;
    scene.release("a").await;
    let after = scene.granted("b").await;
    assert!(after.fencing_token > before.fencing_token, "{after:?}");
    assert_eq!(operator.status(), None);
    operator.signal(Signal::SIGINT);
    operator.expect_exit(LIMIT, 0).await;
}

#[tokio::test]
async fn an_operator_whose_api_server_went_back_in_time_starts_over() {
    let mut control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let mut operator = installed.operator("before", &["--election", "always"]);
    let scene = Scene::<Semaphore>::of(control_plane.namespace("restored").await);
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
    control_plane.back_up().await;
    // What comes now will never have been, and the operator has seen it. It is much: what is written after the restore must
    // not be as far before the operator has looked, on a machine where it stands still for a while.
    scene.release("a").await;
    for number in 0..20 {
        let name = format!("b{number}");
        scene.claim("s", &name).await;
        scene.granted(&name).await;
        scene.release(&name).await;
    }
    control_plane.restore().await;
    operator.expect_exit(LIMIT, 1).await;
    assert!(operator.stderr().contains("was restored from a backup"), "{}", operator.stderr());
    let _after = installed.operator("after", &["--election", "always"]);
    scene.claim("s", "e").await;
    scene.ahead("e", 0).await;
    scene.release("a").await;
    scene.granted("e").await;
}
