//! An API server that is replaced by that of the next minor of Kubernetes, on the same etcd, while Konductor is at work.
//! Ignored, as it takes API servers of several minors: `tests/versions` runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use konductor_api::{Barrier, ClaimPhase};
use konductor_tests::{ControlPlane, Installed, Process, minors, wait_for};
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::scene::{LIMIT, Scene, all_succeed};

const HOLDERS: usize = 3;
const WAITERS: usize = 4;

/// Time enough to start an API server on a busy machine; and renewed often enough to wait for.
const FLAGS: [&str; 2] = ["--ttl", "2m"];

/// What must not change: by holder, who it is, what it is told, its place in the queue and its token.
type Claims = BTreeMap<String, (Option<String>, Option<ClaimPhase>, Option<u64>, Option<u64>)>;

impl Scene {
    async fn claims(&self) -> Claims {
        let list = self.permits().list(&ListParams::default()).await.expect("list Permits");
        let claims = list.items.into_iter().map(|permit| {
            let (uid, status) = (permit.uid(), permit.status.unwrap_or_default());
            (permit.spec.claim.holder, (uid, status.phase, status.ahead, status.fencing_token))
        });
        claims.collect()
    }

    /// Runs a command that arrives at the barrier `b`, and nothing else.
    async fn arrives(&self, key: &str) {
        let mut run = self.command(key, &["--barrier", "b", "--arrival-key", key], &["true"]);
        run.env_remove("KONDUCTOR_SEMAPHORE");
        Process::spawn(key, run).expect_exit(LIMIT, 0).await;
    }
}

/// From the first of these minors to the last, one after another.
async fn nothing_is_lost(minors: &[String]) {
    let (first, next) = minors.split_first().expect("a minor to begin with");
    let mut control_plane = ControlPlane::start_of(first).await;
    let installed = Installed::on(&control_plane, true).await;
    let _operator = installed.operator("only", &[]);
    let scene = Scene::new(&control_plane, "upgrade").await;
    scene.semaphore(HOLDERS as u32).await;
    let names: Vec<_> = (0..HOLDERS).map(|number| format!("holder-{number}")).collect();
    let mut holders: Vec<_> = names.iter().map(|name| scene.holder(name, &FLAGS)).collect();
    scene.record.started(LIMIT, HOLDERS).await;
    let mut waiters = Vec::new();
    for number in 0..WAITERS {
        waiters.push(scene.witness(&format!("waiter-{number}"), &FLAGS, Duration::ZERO));
        scene.waiting(number as u64 + 1).await;
        scene
            .claim_is(&format!("waiter-{number}"), |claim| {
                claim.status.as_ref().is_some_and(|status| status.ahead == Some(number as u64))
            })
            .await;
    }
    let barrier = json!({ "metadata": { "name": "b" }, "spec": { "expected": next.len() + 1 } });
    let barrier: Barrier = serde_json::from_value(barrier).expect("a Barrier");
    scene.namespace.api().create(&PostParams::default(), &barrier).await.expect("create a Barrier");
    let mut run = scene.command("stage", &["--wait-barrier", "b"], &["true"]);
    run.env_remove("KONDUCTOR_SEMAPHORE");
    let mut stage = Process::spawn("stage", run);
    stage.wait_stderr(LIMIT, "waiting for barrier b: ").await;
    scene.arrives(first).await;

    let before = scene.claims().await;
    assert_eq!(before.len(), HOLDERS + WAITERS, "{before:#?}");
    for minor in next {
        control_plane.api_server.replace(minor).await;
        let version = scene.namespace.client.apiserver_version().await.expect("ask for the version");
        assert_eq!(format!("{}.{}", version.major, version.minor), *minor);
        for name in &names {
            let renewed = scene.claim(name).await.spec.claim.renew_time;
            scene.claim_is(name, |claim| claim.spec.claim.renew_time != renewed).await;
        }
        assert_eq!(scene.claims().await, before, "on {minor}");
        for process in holders.iter_mut().chain(&mut waiters).chain([&mut stage]) {
            assert_eq!(process.status(), None, "on {minor}: {}", process.output());
        }
        // The operator is at work again, too.
        scene.arrives(minor).await;
    }
    stage.expect_exit(LIMIT, 0).await;
    let barrier = wait_for(&scene.namespace.api::<Barrier>(), "b", LIMIT, |_| true).await;
    assert_eq!(barrier.status.and_then(|status| status.arrived), Some(minors.len() as u64));
    scene.let_go();
    all_succeed(&mut holders).await;
    all_succeed(&mut waiters).await;
    scene.record.assert_complete(HOLDERS + WAITERS, HOLDERS);
    scene.assert_no_claims().await;
}

#[tokio::test]
#[ignore = "needs API servers of two minors"]
async fn the_newest_minor_takes_over_and_nothing_is_lost() {
    let minors = minors();
    nothing_is_lost(&minors[minors.len() - 2..]).await;
}

#[tokio::test]
#[ignore = "needs API servers of all minors"]
async fn minor_after_minor_takes_over_and_nothing_is_lost() {
    nothing_is_lost(&minors()).await;
}
