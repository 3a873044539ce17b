//! A network, an API server and credentials that fail while something is held: renewals are tried again, the command
//! goes on while that may help, and is dead before anybody else can have its permit.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::ServiceAccount;
use konductor::Boottime;
use konductor_tests::{Fate, Gateway, Installed, Network, Process, Proxy, Rule};
use kube::api::DeleteParams;

use crate::scene::{LIMIT, SHORT, SHORT_TTL, STALL, Scene, shared};

/// Starts a witness that holds until let go, by way of another kubeconfig.
async fn holding(scene: &Scene, flags: &[&str], kubeconfig: &std::path::Path) -> Process {
    let mut run = scene.command("holder", flags, &scene.until_let_go().each_ref().map(String::as_str));
    run.env("KUBECONFIG", kubeconfig);
    let holder = Process::spawn("holder", run);
    scene.record.started(LIMIT, 1).await;
    holder
}

/// The claim has been renewed so often again.
async fn renewals(scene: &Scene, number: usize) {
    let mut last = scene.claim("holder").await.spec.claim.renew_time;
    for _ in 0..number {
        last = scene.claim_is("holder", |claim| claim.spec.claim.renew_time != last).await.spec.claim.renew_time;
    }
}

/// The holder, which has been in trouble since then, ends in time, and the next one gets its permit.
async fn lost(scene: &Scene, mut holder: Process, since: Boottime) {
    let mut next = scene.witness("next", &[], Duration::ZERO);
    holder.expect_exit(LIMIT, 79).await;
    assert_eq!(holder.tree(), []);
    assert!(holder.stderr().contains("cannot renew the claim yet, trying again"), "{}", holder.stderr());
    assert!(holder.stderr().contains("lost semaphore s: it was not renewed in time"), "{}", holder.stderr());
    next.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    let runs = scene.record.runs();
    assert_eq!((runs.len(), runs[0].ended, runs[1].ended), (2, false, true), "{runs:?}");
    assert!(runs[0].last < since + SHORT_TTL + STALL, "no renewal after {since}, and {:?}", runs[0]);
}

/// The holder is as well as ever.
async fn unharmed(scene: &Scene, mut holder: Process) {
    assert_eq!(holder.status(), None, "{}", holder.output());
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(1, 1);
    scene.assert_no_claims().await;
}

async fn a_network_that_carries_nothing_any_more_ends_the_command_in_time() {
    let scene = shared("silent").await;
    scene.semaphore(1).await;
    let (proxy, kubeconfig) = Proxy::start(&scene.kubeconfig).await;
    let holder = holding(&scene, &SHORT, &kubeconfig).await;
    renewals(&scene, 2).await;
    proxy.set(Network::Silent);
    let since = Boottime::now();
    lost(&scene, holder, since).await;
}

async fn a_network_that_carries_nothing_for_a_while_does_not_matter() {
    let scene = shared("hiccup").await;
    scene.semaphore(1).await;
    let (proxy, kubeconfig) = Proxy::start(&scene.kubeconfig).await;
    let holder = holding(&scene, &["--ttl", "40s", "--grace", "1s"], &kubeconfig).await;
    proxy.set(Network::Silent);
    holder.wait_stderr(LIMIT, "cannot renew the claim yet, trying again: no answer within").await;
    proxy.set(Network::Fine);
    renewals(&scene, 1).await;
    unharmed(&scene, holder).await;
}

async fn a_server_whose_answers_take_three_seconds_is_good_enough() {
    // A busy machine may take longer on top of that than a renewal waits: then once more from the beginning.
    for _ in 0..5 {
        let scene = shared("slow").await;
        scene.semaphore(1).await;
        let (proxy, kubeconfig) = Proxy::start(&scene.kubeconfig).await;
        proxy.set(Network::Slow(Duration::from_secs(3)));
        let holder = holding(&scene, &["--ttl", "60s"], &kubeconfig).await;
        renewals(&scene, 1).await;
        let was_in_time = !holder.stderr().contains("cannot renew");
        proxy.set(Network::Fine);
        unharmed(&scene, holder).await;
        if was_in_time {
            return;
        }
    }
    panic!("no renewal is answered in time");
}

async fn connections_that_break_again_and_again_do_not_matter() {
    let scene = shared("flapping").await;
    scene.semaphore(1).await;
    let (proxy, kubeconfig) = Proxy::start(&scene.kubeconfig).await;
    let holder = holding(&scene, &["--ttl", "30s", "--grace", "1s"], &kubeconfig).await;
    for _ in 0..3 {
        let before = holder.stderr().matches("cannot renew").count();
        proxy.set(Network::Cut);
        konductor_tests::eventually(LIMIT, "a renewal that fails", || async {
            let found = holder.stderr().matches("cannot renew").count();
            if found > before { Ok(()) } else { Err(holder.output()) }
        })
        .await;
        proxy.set(Network::Fine);
        renewals(&scene, 1).await;
    }
    unharmed(&scene, holder).await;
}

/// Renewals that are answered like that.
const fn renewals_are(fate: Fate) -> Rule {
    Rule(Method::PATCH, "/permits/", fate)
}

async fn answered_until_lost(status: u16, retry_after: Option<u32>) {
    let scene = shared(&format!("s{status}")).await;
    scene.semaphore(1).await;
    let (gateway, kubeconfig) = Gateway::start(&scene.kubeconfig).await;
    let holder = holding(&scene, &SHORT, &kubeconfig).await;
    renewals(&scene, 1).await;
    gateway.rule(Some(renewals_are(Fate::Answered(status, retry_after))));
    let since = Boottime::now();
    lost(&scene, holder, since).await;
    assert!(gateway.met() >= 2, "{status} was met {} times", gateway.met());
}

/// Each takes its time and little else, so they wait together.
#[tokio::test]
async fn trouble_until_the_deadline_ends_the_command_in_time() {
    tokio::join!(
        a_network_that_carries_nothing_any_more_ends_the_command_in_time(),
        // Far beyond the deadline: it is not taken at its word.
        answered_until_lost(429, Some(600)),
        answered_until_lost(500, None),
        answered_until_lost(503, None),
        answered_until_lost(403, None),
        credentials_that_end_while_something_is_held_end_the_command_in_time(),
    );
}

/// Each takes its time and little else, so they wait together. Their TTLs leave room for a machine that stands still for
/// seconds.
#[tokio::test]
async fn trouble_that_passes_or_that_can_be_lived_with_does_not_matter() {
    tokio::join!(
        a_network_that_carries_nothing_for_a_while_does_not_matter(),
        a_server_whose_answers_take_three_seconds_is_good_enough(),
        connections_that_break_again_and_again_do_not_matter(),
    );
}

#[tokio::test]
async fn answers_of_every_kind_of_trouble_do_not_matter_when_they_end() {
    let scene = shared("troubled").await;
    scene.semaphore(1).await;
    let (gateway, kubeconfig) = Gateway::start(&scene.kubeconfig).await;
    let holder = holding(&scene, &["--ttl", "24s", "--grace", "1s"], &kubeconfig).await;
    for (status, retry_after) in [(429, Some(1)), (500, None), (503, Some(0)), (401, None), (403, None)] {
        let before = gateway.met();
        gateway.rule(Some(renewals_are(Fate::Answered(status, retry_after))));
        gateway.wait_met(LIMIT, before + 1).await;
        gateway.rule(None);
        renewals(&scene, 1).await;
    }
    unharmed(&scene, holder).await;
}

/// As a starting API server answers, to which rules do not apply yet.
#[tokio::test]
async fn a_server_that_refuses_everybody_while_it_starts_is_waited_for_and_one_that_is_ready_is_believed() {
    let scene = shared("starting").await;
    scene.semaphore(1).await;
    let (gateway, kubeconfig) = Gateway::start(&scene.kubeconfig).await;
    let refused = |method, path| Rule(method, path, Fate::Answered(403, None));
    let run = |holder: &str| {
        let mut run = scene.command(holder, &[], &["true"]);
        run.env("KUBECONFIG", &kubeconfig);
        Process::spawn(holder, run)
    };
    gateway.rules(vec![refused(Method::POST, "/permits"), refused(Method::GET, "/readyz")]);
    let mut early = run("early");
    early.wait_stderr(LIMIT, "cannot create the claim yet, trying again: the gateway says 403").await;
    gateway.rule(None);
    early.expect_exit(LIMIT, 0).await;
    gateway.rules(vec![refused(Method::POST, "/permits")]);
    let mut refused = run("refused");
    refused.expect_exit(LIMIT, 77).await;
    assert!(!refused.stderr().contains("trying again"), "{}", refused.stderr());
}

async fn credentials_that_end_while_something_is_held_end_the_command_in_time() {
    let scene = shared("expired").await;
    scene.semaphore(1).await;
    scene.namespace.service_account("short-lived").await;
    scene.namespace.bind_cluster_role("short-lived", Installed::WORKLOAD).await;
    let kubeconfig = scene.namespace.service_account_kubeconfig("short-lived").await;
    let holder = holding(&scene, &SHORT, &kubeconfig).await;
    let accounts = scene.namespace.api::<ServiceAccount>();
    accounts.delete("short-lived", &DeleteParams::default()).await.expect("delete a ServiceAccount");
    // The server remembers for some seconds whom it has let in, so the last renewal is not known.
    holder.wait_stderr(LIMIT, "Unauthorized").await;
    lost(&scene, holder, Boottime::now()).await;
}
