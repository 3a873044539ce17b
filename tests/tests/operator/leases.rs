//! Leases: decided as semaphores are, and shown with their holder.

use konductor_api::{ClaimPhase, Lease, LeasePhase};
use konductor_tests::Process;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{LIMIT, condition, namespace, scene};

#[tokio::test]
async fn a_lease_has_one_holder_and_shows_it() {
    let scene = scene::<Lease>("lease").await;
    scene.create("s", &json!({})).await;
    let free = scene.status("s", |status| status.observed_generation == Some(1)).await;
    assert_eq!((free.phase, free.holder, free.waiting), (Some(LeasePhase::Available), None, Some(0)));
    assert_eq!(condition(&free.conditions, "Ready"), Some(("True", "Accepted")));
    assert_eq!(condition(&free.conditions, "Saturated"), Some(("False", "Available")));

    scene.claim("s", "a").await;
    let grant = scene.granted("a").await;
    assert_eq!(condition(&grant.conditions, "Granted"), Some(("True", "Granted")));
    scene.claim("s", "b").await;
    let waits = scene.ahead("b", 0).await;
    assert_eq!(waits.message.as_deref(), Some("waits for lease s"));
    // Whose grant is under way is a holder, too, and its token comes with the answer.
    let held = scene.status("s", |status| status.waiting == Some(1) && status.fencing_token.is_some()).await;
    assert_eq!((held.phase, held.holder.as_deref()), (Some(LeasePhase::Held), Some("a")));
    assert_eq!((held.fencing_token, held.acquired_at), (grant.fencing_token, grant.acquired_at));
    assert_eq!((held.term, held.settled_term), (grant.term, grant.term));
    assert_eq!(condition(&held.conditions, "Saturated"), Some(("True", "Held")));

    scene.release("a").await;
    let next = scene.granted("b").await;
    assert!(next.fencing_token > grant.fencing_token, "{next:?}");
    let held =
        scene.status("s", |status| status.holder.as_deref() == Some("b") && status.fencing_token.is_some()).await;
    assert_eq!((held.fencing_token, held.acquired_at), (next.fencing_token, next.acquired_at));
    scene.release("b").await;
    let free = scene.status("s", |status| status.phase == Some(LeasePhase::Available)).await;
    assert_eq!((free.holder, free.fencing_token, free.acquired_at), (None, None, None));
}

#[tokio::test]
async fn higher_priorities_are_let_in_first_and_the_rest_in_order() {
    let scene = scene::<Lease>("priority").await;
    scene.create("s", &json!({})).await;
    scene.claim("s", "holder").await;
    scene.granted("holder").await;
    for (name, priority, ahead) in [("first", 0, 0), ("second", 0, 1), ("urgent", 7, 0), ("minor", -1, 3)] {
        scene.claim_with("s", name, &json!({ "priority": priority })).await;
        scene.ahead(name, ahead).await;
    }
    let mut holder = "holder";
    for next in ["urgent", "first", "second", "minor"] {
        scene.release(holder).await;
        scene.granted(next).await;
        holder = next;
    }
}

#[tokio::test]
async fn a_silent_holder_of_a_lease_expires_after_the_leases_ttl() {
    let scene = scene::<Lease>("silent").await;
    scene.claim("s", "a").await;
    let status = scene.phase("a", ClaimPhase::Pending).await;
    assert_eq!(status.message.as_deref(), Some("waits for lease s, which does not exist yet"));
    // Long enough to be seen granted, on a machine that stands still for ten seconds.
    scene.create("s", &json!({ "ttl": "15s" })).await;
    scene.granted("a").await;
    scene.claim_with("s", "b", &json!({ "ttl": "1h" })).await;
    let status = scene.phase("a", ClaimPhase::Expired).await;
    assert_eq!(status.message.as_deref(), Some("it was not renewed for 15s"));
    assert_eq!(scene.event("Lease", "s", "Expired").await, "a of a is over: it was not renewed for 15s");
    scene.granted("b").await;
}

#[tokio::test]
async fn the_end_of_its_pod_frees_a_lease_and_a_semaphore_at_once() {
    let semaphores = namespace("podlocks").await;
    let leases = crate::cluster::Scene::<Lease>::of(semaphores.namespace.clone());
    semaphores.semaphore("s", 1).await;
    leases.create("s", &json!({})).await;
    let pod = semaphores.namespace.pod("holder", "default", &["main"]).await;
    let pod = json!({ "pod": { "name": "holder", "uid": pod.metadata.uid, "container": "main", "start": "1" } });
    semaphores.claim_with("s", "permit", &pod).await;
    leases.claim_with("s", "request", &pod).await;
    semaphores.granted("permit").await;
    leases.granted("request").await;
    semaphores.namespace.pod_terminated("holder", &[("main", 0)]).await;
    for status in
        [semaphores.phase("permit", ClaimPhase::Expired).await, leases.phase("request", ClaimPhase::Expired).await]
    {
        assert_eq!(status.message.as_deref(), Some("its pod has ended"));
    }
}

#[tokio::test]
async fn a_revoked_lease_is_free_when_it_is_released() {
    let scene = scene::<Lease>("revoke").await;
    scene.create("s", &json!({})).await;
    for name in ["a", "b"] {
        scene.claim("s", name).await;
    }
    scene.granted("a").await;
    let annotation = Patch::Merge(json!({ "metadata": { "annotations": { "konductor.io/revoke": "maintenance" } } }));
    scene.claims().patch("a", &PatchParams::default(), &annotation).await.expect("annotate");
    scene.phase("a", ClaimPhase::Revoking).await;
    assert_eq!(scene.event("Lease", "s", "Revoking").await, "a of a is being revoked: maintenance");
    scene.release("a").await;
    scene.granted("b").await;
}

#[tokio::test]
async fn people_can_wait_for_the_conditions() {
    let scene = scene::<Lease>("people").await;
    let kubeconfig = scene.namespace.user_kubeconfig("person", Some("system:masters"));
    let kubectl = |words: &[&str]| {
        let mut command = std::process::Command::new("kubectl");
        command.arg("--cache-dir").arg(kubeconfig.with_file_name("cache")).arg("--kubeconfig").arg(&kubeconfig);
        command.args(words);
        Process::spawn("kubectl", command)
    };
    scene.claim("s", "x").await;
    let mut granted = kubectl(&["wait", "--for=condition=Granted", "leaserequest/x", "--timeout=3m"]);
    scene.create("s", &json!({})).await;
    granted.expect_exit(LIMIT, 0).await;
    assert_eq!(granted.stdout(), "leaserequest.konductor.io/x condition met\n");
    let mut ready = kubectl(&["wait", "--for=condition=Ready", "leases.konductor.io/s", "--timeout=3m"]);
    ready.expect_exit(LIMIT, 0).await;
    // Since when it is held comes with the answer to its grant.
    scene.status("s", |status| status.holder.as_deref() == Some("x") && status.acquired_at.is_some()).await;
    let mut shown = kubectl(&["get", "leases.konductor.io"]);
    shown.expect_exit(LIMIT, 0).await;
    let table = shown.stdout();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "PHASE", "HOLDER", "SINCE", "WAITING", "AGE"]);
    assert_eq!((&lines[1][..3], lines[1][4], lines.len()), (&["s", "Held", "x"][..], "0", 2));
}
