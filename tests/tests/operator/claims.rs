//! Who gets permits, who waits, and what they are told.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{ClaimPhase, SemaphorePhase};
use konductor_tests::wait_gone;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::{LIMIT, condition, namespace};

#[tokio::test]
async fn what_fits_is_granted_and_the_rest_is_told_its_place() {
    let scene = namespace("fits").await;
    scene.semaphore("s", 2).await;
    let mut tokens = Vec::new();
    for name in ["a", "b"] {
        scene.claim("s", name).await;
        let status = scene.granted(name).await;
        assert_eq!(condition(&status.conditions, "Granted"), Some(("True", "Granted")));
        tokens.push(status.fencing_token.expect("a token"));
    }
    for (name, ahead) in [("c", 0), ("d", 1)] {
        scene.claim("s", name).await;
        let status = scene.ahead(name, ahead).await;
        assert_eq!(status.message.as_deref(), Some("waits for semaphore s"));
        assert_eq!(condition(&status.conditions, "Granted"), Some(("False", "Pending")));
    }
    let status = scene.status("s", |status| status.waiting == Some(2) && status.in_use == Some(2)).await;
    assert_eq!((status.phase, status.available), (Some(SemaphorePhase::Full), Some(0)));
    assert_eq!(status.holders, ["a", "b"]);
    assert_eq!(condition(&status.conditions, "Ready"), Some(("True", "Accepted")));
    assert_eq!(condition(&status.conditions, "Saturated"), Some(("True", "Full")));
    assert_eq!((status.term, status.settled_term), (scene.now("a").await.term, status.term));

    scene.release("a").await;
    let next = scene.granted("c").await;
    tokens.push(next.fencing_token.expect("a token"));
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
    assert_eq!(scene.now("d").await.phase, Some(ClaimPhase::Pending));
    scene.release("b").await;
    scene.granted("d").await;
    scene.release("c").await;
    scene.release("d").await;
    let status = scene.status("s", |status| status.in_use == Some(0) && status.waiting == Some(0)).await;
    assert_eq!((status.phase, status.available), (Some(SemaphorePhase::Available), Some(2)));
    assert_eq!(condition(&status.conditions, "Saturated"), Some(("False", "Available")));
}

#[tokio::test]
async fn a_claim_waits_for_its_semaphore_to_be_created() {
    let scene = namespace("missing").await;
    scene.claim("later", "a").await;
    let status = scene.phase("a", ClaimPhase::Pending).await;
    assert_eq!(status.message.as_deref(), Some("waits for semaphore later, which does not exist yet"));
    scene.semaphore("later", 1).await;
    scene.granted("a").await;
}

#[tokio::test]
async fn higher_priorities_go_first_and_a_large_claim_is_not_passed() {
    let scene = namespace("order").await;
    scene.semaphore("s", 3).await;
    scene.claim_with("s", "all", &json!({ "permits": 3 })).await;
    scene.granted("all").await;
    scene.claim_with("s", "small", &json!({ "permits": 1 })).await;
    scene.ahead("small", 0).await;
    scene.claim_with("s", "large", &json!({ "permits": 3, "priority": 5 })).await;
    scene.ahead("large", 0).await;
    scene.release("all").await;
    scene.granted("large").await;
    assert_eq!(scene.now("small").await.phase, Some(ClaimPhase::Pending));
    scene.release("large").await;
    scene.granted("small").await;
    // Two are free, three are asked for: under StrictFIFO nobody passes.
    scene.claim_with("s", "first", &json!({ "permits": 3 })).await;
    scene.ahead("first", 0).await;
    scene.claim("s", "second").await;
    scene.ahead("second", 1).await;
    scene.change("s", &json!({ "queueing": "BestEffortFIFO" })).await;
    scene.granted("second").await;
    assert_eq!(scene.now("first").await.phase, Some(ClaimPhase::Pending));
}

#[tokio::test]
async fn what_can_never_fit_says_so_and_holds_up_nobody() {
    let scene = namespace("toolarge").await;
    scene.semaphore("s", 2).await;
    scene.claim_with("s", "huge", &json!({ "permits": 3 })).await;
    // The claim may be seen before its semaphore.
    let message = "waits for semaphore s, which has 2 permits, fewer than the 3 that are asked for";
    scene.claim_status("huge", |status| status.message.as_deref() == Some(message)).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
}

#[tokio::test]
async fn lowering_permits_takes_nothing_away_and_zero_pauses() {
    let scene = namespace("resize").await;
    scene.semaphore("s", 2).await;
    for name in ["a", "b"] {
        scene.claim("s", name).await;
        scene.granted(name).await;
    }
    scene.change("s", &json!({ "permits": 1 })).await;
    scene.claim("s", "c").await;
    scene.ahead("c", 0).await;
    let status = scene.status("s", |status| status.in_use == Some(2) && status.available == Some(0)).await;
    assert_eq!(status.phase, Some(SemaphorePhase::Full));
    scene.release("a").await;
    scene.status("s", |status| status.in_use == Some(1)).await;
    assert_eq!(scene.now("c").await.phase, Some(ClaimPhase::Pending));
    scene.change("s", &json!({ "permits": 0 })).await;
    let status = scene.status("s", |status| status.phase == Some(SemaphorePhase::Paused)).await;
    assert_eq!(condition(&status.conditions, "Saturated"), Some(("True", "Paused")));
    scene.release("b").await;
    scene.status("s", |status| status.in_use == Some(0)).await;
    scene
        .claim_status("c", |status| {
            status.message.as_deref() == Some("waits for semaphore s, which is paused: it has 0 permits")
        })
        .await;
    scene.change("s", &json!({ "permits": 1 })).await;
    scene.granted("c").await;
}

#[tokio::test]
async fn a_revoked_claim_counts_until_it_is_released() {
    let scene = namespace("revoke").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    scene.granted("a").await;
    scene.claim("s", "b").await;
    scene.ahead("b", 0).await;
    let annotation = Patch::Merge(json!({ "metadata": { "annotations": { "konductor.io/revoke": "maintenance" } } }));
    scene.claims().patch("a", &PatchParams::default(), &annotation).await.expect("annotate");
    let status = scene.phase("a", ClaimPhase::Revoking).await;
    assert_eq!(status.message.as_deref(), Some("revoked: maintenance"));
    assert_eq!(condition(&status.conditions, "Granted"), Some(("False", "Revoking")));
    let note = scene.event("Semaphore", "s", "Revoking").await;
    assert_eq!(note, "a of a is being revoked: maintenance");
    assert_eq!(scene.now("b").await.phase, Some(ClaimPhase::Pending));
    scene.release("a").await;
    scene.granted("b").await;
}

#[tokio::test]
async fn a_recreated_semaphore_counts_its_holders_and_its_tokens_go_on() {
    let scene = namespace("recreate").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    let before = scene.granted("a").await;
    scene.locks().delete("s", &DeleteParams::default()).await.expect("delete");
    wait_gone(&scene.locks(), "s", LIMIT).await;
    scene.claim("s", "b").await;
    scene
        .claim_status("b", |status| {
            status.message.as_deref() == Some("waits for semaphore s, which does not exist yet")
        })
        .await;
    assert_eq!(scene.now("a").await.phase, Some(ClaimPhase::Granted));
    scene.semaphore("s", 1).await;
    scene.status("s", |status| status.in_use == Some(1) && status.waiting == Some(1)).await;
    // It counts as the old semaphore granted it: the new one confirms only what it has granted itself.
    let now = scene.now("a").await;
    assert_eq!((now.term, now.fencing_token, now.parent_uid), (before.term, before.fencing_token, before.parent_uid));
    scene.release("a").await;
    let after = scene.granted("b").await;
    assert!(after.fencing_token > before.fencing_token, "{after:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_reported_and_keeps_what_it_held() {
    let scene = namespace("unreadable").await;
    scene.semaphore("s", 2).await;
    scene.claim("s", "bad").await;
    scene.granted("bad").await;
    // The schema lets it through: it is a duration, but longer than anything can count.
    let status = Patch::Merge(json!({ "status": { "ttl": "99999999999999999h" } }));
    let patched = kube::Api::<kube::api::DynamicObject>::namespaced_with(
        scene.client(),
        &scene.namespace.name,
        &kube::api::ApiResource::erase::<konductor_api::Permit>(&()),
    );
    patched.patch_status("bad", &PatchParams::default(), &status).await.expect("spoil a status");
    let note = scene.event("Permit", "bad", "Unreadable").await;
    assert!(note.contains("the duration is too long"), "{note}");
    scene.claim("s", "good").await;
    scene.granted("good").await;
    scene.claim("s", "waits").await;
    scene.ahead("waits", 0).await;
    scene.release("good").await;
    scene.granted("waits").await;
    scene.claim("s", "another").await;
    scene.ahead("another", 0).await;
    scene.status("s", |status| status.in_use == Some(2)).await;
    patched.delete("bad", &DeleteParams::default()).await.expect("delete");
    scene.granted("another").await;
}

#[tokio::test]
async fn a_condition_keeps_its_time_while_its_status_stays() {
    let scene = namespace("conditions").await;
    scene.semaphore("s", 1).await;
    scene.claim("s", "a").await;
    let saturated = |conditions: &[Condition]| {
        conditions
            .iter()
            .find(|condition| condition.type_ == "Saturated")
            .map(|found| found.last_transition_time.clone())
    };
    let before = scene.status("s", |status| status.in_use == Some(1)).await;
    scene.claim("s", "b").await;
    let after = scene.status("s", |status| status.waiting == Some(1)).await;
    assert_eq!(saturated(&before.conditions), saturated(&after.conditions));
}
