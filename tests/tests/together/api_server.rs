//! An API server that does not answer, refuses connections, and comes back.

use std::time::Duration;

use konductor::Boottime;
use konductor_api::ClaimPhase;
use konductor_tests::{ControlPlane, Signal};
use kube::ResourceExt;

use crate::scene::{LIMIT, SHORT, SHORT_TTL, STALL, Scene, all_succeed, exclusive, seconds};

/// How an API server is away.
#[derive(Debug, Clone, Copy)]
enum Outage {
    /// Connections stay, new ones are made, nothing is answered.
    Frozen,
    /// Connections are cut, new ones refused.
    Killed,
}

impl Outage {
    fn begin(self, control_plane: &mut ControlPlane) {
        match self {
            Self::Frozen => control_plane.api_server.freeze(),
            Self::Killed => control_plane.api_server.stop(),
        }
    }

    async fn end(self, control_plane: &mut ControlPlane) {
        match self {
            Self::Frozen => control_plane.api_server.thaw(),
            Self::Killed => control_plane.api_server.start().await,
        }
    }
}

/// A command that does not end when it is asked to must still be dead before anybody else can have its permit.
async fn longer_than_the_ttl(outage: Outage) {
    let (mut control_plane, installed) = exclusive().await;
    let _operator = installed.operator("only", &[]);
    let scene = Scene::new(&control_plane, "longer").await;
    scene.semaphore(1).await;
    let mut stubborn = vec!["sh", "-c", "trap '' TERM; exec \"$@\"", "sh"];
    let command = scene.until_let_go();
    stubborn.extend(command.iter().map(String::as_str));
    let mut holder = scene.run("holder", &SHORT, &stubborn);
    let held = scene.record.started(LIMIT, 1).await[0];
    let mut waiter = scene.witness("waiter", &SHORT, Duration::ZERO);
    scene.claim_is("waiter", |claim| claim.status.as_ref().is_some_and(|status| status.ahead == Some(0))).await;
    // Some renewals later.
    let first = scene.claim("holder").await.spec.claim.renew_time;
    scene.claim_is("holder", |claim| claim.spec.claim.renew_time != first).await;

    outage.begin(&mut control_plane);
    let away = Boottime::now();
    holder.expect_exit(LIMIT, 79).await;
    assert_eq!(holder.tree(), [], "{outage:?}");
    assert!(holder.stderr().contains("lost semaphore s: it was not renewed in time"), "{}", holder.stderr());
    let alone = scene.record.runs();
    let [last] = alone.as_slice() else { panic!("{alone:?}") };
    assert!(
        last.last < away + SHORT_TTL + STALL,
        "no renewal after {away:?}, and {last:?} with a TTL of {SHORT_TTL:?}"
    );
    outage.end(&mut control_plane).await;

    waiter.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    let runs = scene.record.runs();
    assert_eq!((runs.len(), runs[0].token), (2, held.token), "{runs:?}");
    assert!(!runs[0].ended && runs[1].ended, "{runs:?}");
    let claim = scene.claim("holder").await;
    assert_eq!(claim.status.and_then(|status| status.phase), Some(ClaimPhase::Expired));
}

#[tokio::test]
async fn an_api_server_that_is_silent_for_longer_than_the_ttl_ends_the_command_before() {
    longer_than_the_ttl(Outage::Frozen).await;
}

#[tokio::test]
async fn an_api_server_that_refuses_for_longer_than_the_ttl_ends_the_command_before() {
    longer_than_the_ttl(Outage::Killed).await;
}

/// Many renewals meet an API server that is on its way down or up, and whatever it says then.
async fn shorter_than_the_ttl(outage: Outage, ttl: Duration) {
    const HOLDERS: usize = 8;
    let (mut control_plane, installed) = exclusive().await;
    let _operator = installed.operator("only", &[]);
    let scene = Scene::new(&control_plane, "shorter").await;
    scene.semaphore(HOLDERS as u32).await;
    let names: Vec<_> = (0..HOLDERS).map(|number| format!("holder-{number}")).collect();
    let flags = ["--ttl", &seconds(ttl), "--grace", "1s"];
    let mut holders: Vec<_> = names.iter().map(|name| scene.holder(name, &flags)).collect();
    scene.record.started(LIMIT, HOLDERS).await;
    let mut before = Vec::new();
    for name in &names {
        before.push(scene.claim(name).await);
    }
    outage.begin(&mut control_plane);
    for holder in &holders {
        holder.wait_stderr(LIMIT, "cannot renew").await;
    }
    outage.end(&mut control_plane).await;
    for (name, before) in names.iter().zip(&before) {
        let after = scene.claim_is(name, |claim| claim.spec.claim.renew_time != before.spec.claim.renew_time).await;
        assert_eq!(after.uid(), before.uid(), "{name}");
    }
    for holder in &mut holders {
        assert_eq!(holder.status(), None, "{}", holder.output());
    }
    scene.let_go();
    all_succeed(&mut holders).await;
    scene.record.assert_complete(HOLDERS, HOLDERS);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn an_api_server_that_is_silent_for_less_than_the_ttl_does_not_matter() {
    shorter_than_the_ttl(Outage::Frozen, Duration::from_secs(45)).await;
}

#[tokio::test]
async fn an_api_server_that_refuses_for_less_than_the_ttl_does_not_matter() {
    // Time enough to start one on a busy machine.
    shorter_than_the_ttl(Outage::Killed, Duration::from_mins(2)).await;
}

#[tokio::test]
async fn a_crowd_outlives_the_restart_of_its_api_server() {
    let (mut control_plane, installed) = exclusive().await;
    let _operator = installed.operator("only", &[]);
    let scene = Scene::new(&control_plane, "contention").await;
    scene.semaphore(0).await;
    // What nobody could release within its limit while the API server was away comes back with this TTL.
    let mut crowd = scene.crowd(40, &["--ttl", "20s"], Duration::from_millis(50));
    scene.waiting(40).await;
    scene.resize(3).await;
    for done in [8, 16] {
        scene.record.ended(LIMIT, done).await;
        control_plane.api_server.stop();
        control_plane.api_server.start().await;
    }
    all_succeed(&mut crowd).await;
    scene.record.assert_complete(40, 3);
}

#[tokio::test]
async fn a_waiter_that_cannot_withdraw_ends_all_the_same_and_blocks_nobody_for_long() {
    let (mut control_plane, installed) = exclusive().await;
    let _operator = installed.operator("only", &[]);
    let scene = Scene::new(&control_plane, "withdrawn").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &["--ttl", "2m"]);
    scene.record.started(LIMIT, 1).await;
    let mut gone = scene.witness("gone", &SHORT, Duration::ZERO);
    gone.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    let mut next = scene.witness("next", &[], Duration::ZERO);
    scene.waiting(2).await;
    control_plane.api_server.freeze();
    gone.signal(Signal::SIGTERM);
    gone.expect_exit(LIMIT, 143).await;
    control_plane.api_server.thaw();
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    next.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(2, 1);
}
