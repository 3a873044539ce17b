//! Leases under `konductor-run`: alone, together with a semaphore, and while operators end.

use std::time::Duration;

use konductor::{Client, Config, ConnectOptions};
use konductor_api::{Lease, LeaseRequest, REVOKE_ANNOTATION};
use konductor_tests::{Process, Signal, eventually, wait_for};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::{LIMIT, Scene, WITNESS, all_succeed, exclusive, shared};

/// The lease `l`.
async fn create_lease(scene: &Scene) {
    let lease = json!({ "metadata": { "name": "l" }, "spec": {} });
    let lease: Lease = serde_json::from_value(lease).expect("a Lease");
    scene.namespace.api().create(&PostParams::default(), &lease).await.expect("create a Lease");
}

/// `konductor-run` for `holder`, which wants the lease `l` and nothing else.
fn run(scene: &Scene, holder: &str, flags: &[&str], command: &[&str]) -> Process {
    let mut run = scene.command(holder, flags, command);
    run.env_remove("KONDUCTOR_SEMAPHORE").env("KONDUCTOR_LEASE", "l");
    Process::spawn(holder, run)
}

/// One whose command holds until [`Scene::let_go`].
fn run_holder(scene: &Scene, holder: &str, flags: &[&str]) -> Process {
    run(scene, holder, flags, &scene.until_let_go().each_ref().map(String::as_str))
}

/// One whose command holds for so long.
fn run_witness(scene: &Scene, holder: &str, flags: &[&str], hold: Duration) -> Process {
    let record = scene.record.path().to_str().expect("test folders have UTF-8 names");
    run(scene, holder, flags, &[WITNESS, record, &hold.as_millis().to_string()])
}

fn requests(scene: &Scene) -> Api<LeaseRequest> {
    scene.namespace.api()
}

async fn assert_no_requests(scene: &Scene) {
    let left = requests(scene).list(&ListParams::default()).await.expect("list LeaseRequests").items;
    assert!(left.is_empty(), "{left:#?}");
}

/// Waits until the lease shows this holder, and so many who wait.
async fn is_held(scene: &Scene, holder: &str, waiting: u64) {
    wait_for(&scene.namespace.api::<Lease>(), "l", LIMIT, |lease| {
        let status = lease.status.clone().unwrap_or_default();
        status.holder.as_deref() == Some(holder) && status.waiting == Some(waiting)
    })
    .await;
}

#[tokio::test]
async fn a_lease_and_a_semaphore_are_held_together() {
    let scene = shared("both").await;
    create_lease(&scene).await;
    scene.semaphore(2).await;
    let script = "echo $KONDUCTOR_HELD $KONDUCTOR_HOLDER; test -z \"$KONDUCTOR_FENCING_TOKEN\" \
                  && test $KONDUCTOR_TOKEN_LEASE_L -gt 0 && test $KONDUCTOR_TOKEN_SEMAPHORE_S -gt 0";
    let mut both = scene.run("both", &["--semaphore", "s:2", "--lease", "l"], &["sh", "-c", script]);
    both.expect_exit(LIMIT, 0).await;
    assert_eq!(both.stdout(), "lease/l,semaphore/s both\n");
    let script = "echo $KONDUCTOR_HELD; test \"$KONDUCTOR_FENCING_TOKEN\" = \"$KONDUCTOR_TOKEN_LEASE_L\"";
    let mut one = run(&scene, "one", &[], &["sh", "-c", script]);
    one.expect_exit(LIMIT, 0).await;
    assert_eq!(one.stdout(), "lease/l\n");
    assert_no_requests(&scene).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_lease_is_taken_before_a_semaphore_whatever_the_order_of_the_flags() {
    let scene = shared("order").await;
    create_lease(&scene).await;
    scene.semaphore(1).await;
    let witness = format!(
        "KONDUCTOR_FENCING_TOKEN=$KONDUCTOR_TOKEN_LEASE_L exec {WITNESS} {} 20",
        scene.record.path().to_str().expect("test folders have UTF-8 names")
    );
    let orders = [["--lease", "l", "--semaphore", "s"], ["--semaphore", "s", "--lease", "l"]];
    let start = |number: usize| scene.run(&format!("r{number}"), &orders[number % 2], &["sh", "-c", &witness]);
    let mut all: Vec<_> = (0..12).map(start).collect();
    all_succeed(&mut all).await;
    scene.record.assert_complete(12, 1);
    assert_no_requests(&scene).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_singleton_is_skipped_while_the_one_before_runs() {
    let scene = shared("singleton").await;
    let once = ["--wait-timeout", "0", "--on-timeout", "skip"];
    let mut missing = run_witness(&scene, "missing", &once, Duration::ZERO);
    missing.expect_exit(LIMIT, 78).await;
    assert!(missing.stderr().contains("there is no lease l in this namespace"), "{}", missing.stderr());

    create_lease(&scene).await;
    let mut first = run_holder(&scene, "first", &once);
    scene.record.started(LIMIT, 1).await;
    let mut second = run_witness(&scene, "second", &once, Duration::ZERO);
    second.expect_exit(LIMIT, 0).await;
    assert!(second.stderr().contains("lease l is not free: skipping the command"), "{}", second.stderr());
    scene.let_go();
    first.expect_exit(LIMIT, 0).await;
    run_witness(&scene, "third", &once, Duration::ZERO).expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(2, 1);
    assert_no_requests(&scene).await;
}

#[tokio::test]
async fn a_lease_goes_to_the_highest_priority() {
    let scene = shared("priorities").await;
    create_lease(&scene).await;
    let log = scene.folder.path().join("order");
    let note = format!("echo $KONDUCTOR_HOLDER >> {}", log.to_str().expect("test folders have UTF-8 names"));
    let mut holder = run_holder(&scene, "holder", &[]);
    is_held(&scene, "holder", 0).await;
    let mut waiters = Vec::new();
    for (waiter, priority) in [("minor", "-5"), ("first", "0"), ("second", "0"), ("urgent", "9")] {
        waiters.push(run(&scene, waiter, &["--priority", priority], &["sh", "-c", &note]));
        is_held(&scene, "holder", waiters.len() as u64).await;
    }
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    all_succeed(&mut waiters).await;
    let order = std::fs::read_to_string(log).expect("read the order");
    assert_eq!(order, "urgent\nfirst\nsecond\nminor\n");
}

#[tokio::test]
async fn the_loss_of_the_lease_ends_the_command_and_releases_the_semaphore() {
    let scene = shared("lost").await;
    create_lease(&scene).await;
    scene.semaphore(1).await;
    let flags = ["--lease", "l", "--ttl", "1m"];
    let mut holder = scene.run("holder", &flags, &["sleep", "600"]);
    is_held(&scene, "holder", 0).await;
    scene.claim_is("holder", |permit| permit.status.as_ref().is_some_and(|status| status.acquired_at.is_some())).await;
    let mut next = scene.run("next", &flags, &["true"]);
    is_held(&scene, "holder", 1).await;
    let list = requests(&scene).list(&ListParams::default().fields("spec.holder=holder")).await.expect("list");
    let patch = json!({ "metadata": { "annotations": { REVOKE_ANNOTATION: "the database moves" } } });
    let (name, patch) = (list.items[0].name_any(), Patch::Merge(patch));
    requests(&scene).patch(&name, &PatchParams::default(), &patch).await.expect("annotate a LeaseRequest");
    holder.expect_exit(LIMIT, 79).await;
    let logs = holder.stderr();
    assert!(logs.contains("lost lease l: ") && logs.contains("the database moves"), "{logs}");
    next.expect_exit(LIMIT, 0).await;
    assert_no_requests(&scene).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_lease_has_one_holder_while_operators_are_killed() {
    let (control_plane, installed) = exclusive().await;
    let mut leader = installed.operator("first", &["--lease-duration", "2s"]);
    installed.wait_leader("first", LIMIT).await;
    let standby = installed.operator("second", &["--lease-duration", "2s"]);
    standby.wait_stderr(LIMIT, "konductor-operator starts").await;
    let scene = Scene::new(&control_plane, "killed").await;
    create_lease(&scene).await;
    let hold = Duration::from_millis(30);
    let mut crowd: Vec<_> = (0..16).map(|client| run_witness(&scene, &format!("c{client}"), &[], hold)).collect();
    scene.record.started(LIMIT, 3).await;
    leader.signal(Signal::SIGKILL);
    leader.expect_exit(LIMIT, 137).await;
    // Beside the one that takes over.
    let _always = installed.operator("third", &["--election", "always"]);
    all_succeed(&mut crowd).await;
    scene.record.assert_complete(16, 1);
    assert_no_requests(&scene).await;
}

#[tokio::test]
async fn a_program_leads_while_it_has_the_lease() {
    let scene = shared("sdk").await;
    create_lease(&scene).await;
    let kubeconfig = Kubeconfig::read_from(&scene.kubeconfig).expect("read a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("use it");
    let client = Client::from_config(config, ConnectOptions::default()).expect("connect");
    let ttl = Duration::from_mins(1);
    let first = client.lease("l").ttl(ttl).holder("first").acquire().await.expect("acquire");
    is_held(&scene, "first", 0).await;
    let second = tokio::spawn(client.lease("l").ttl(ttl).holder("second").acquire());
    is_held(&scene, "first", 1).await;
    let token = first.fencing_token();
    first.release().await.expect("release");
    let second = second.await.expect("no panic").expect("acquire");
    assert!(second.fencing_token() > token);
    drop(second);
    eventually(LIMIT, "nothing is left", || async {
        let left = requests(&scene).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        if left.items.is_empty() { Ok(()) } else { Err(format!("{} are left", left.items.len())) }
    })
    .await;
}
