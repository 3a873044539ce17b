//! `koncli wait` before the operator has spoken, and before a grant that its lock does not confirm.

use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use super::{Answer, BASE, StandIn, permit, semaphore, status};
use crate::scene::ended;

/// An API server that has this one object, and what becomes of it; and the semaphore whose term is 7.
fn having(object: Value) -> (StandIn, Sender<Value>) {
    let (tell, events) = channel();
    (StandIn::new(answers(object, events, semaphore)), tell)
}

fn answers(
    object: Value,
    events: Receiver<Value>,
    mut parent: impl FnMut() -> Answer + Send + 'static,
) -> impl FnMut(&super::Asked) -> Answer + Send + 'static {
    let mut events = Some(events);
    move |asked| match events.take() {
        Some(events) if asked.is_watch => Answer::Events(events),
        kept => {
            events = kept;
            match (asked.is_watch, asked.path.ends_with("/semaphores/s")) {
                (true, _) => Answer::Watch,
                (false, true) => parent(),
                (false, false) => {
                    Answer::Json(200, json!({ "metadata": { "resourceVersion": "20" }, "items": [object] }))
                }
            }
        }
    }
}

fn modified(object: &Value) -> Value {
    json!({ "type": "MODIFIED", "object": object })
}

/// A semaphore of generation 2 with this status.
fn lock(status: &Value) -> Value {
    let metadata = json!({ "name": "s", "namespace": "etl", "uid": "U", "generation": 2, "resourceVersion": "20" });
    json!({ "apiVersion": "konductor.io/v1", "kind": "Semaphore", "metadata": metadata, "status": status })
}

fn ready(status: &str, generation: u32) -> Value {
    let ready = json!({ "type": "Ready", "status": status, "reason": "R", "message": "m" });
    json!({ "observedGeneration": generation, "conditions": [ready] })
}

/// A permit that the operator has not seen.
fn unseen() -> Value {
    let mut permit = permit("p", "P", "by-hand", "Pending");
    permit.as_object_mut().expect("an object").remove("status");
    permit
}

#[tokio::test]
async fn once_is_until_the_operators_word_of_what_it_has_not_spoken_of() {
    let line = "wait semaphore/s --for condition=Ready --timeout 0";
    for (what, line, before, after, code) in [
        ("it has no status", line, lock(&Value::Null), lock(&ready("True", 2)), 0),
        ("its status has a term alone", line, lock(&json!({ "term": 7 })), lock(&ready("True", 2)), 0),
        ("its status is of an older spec", line, lock(&ready("True", 1)), lock(&ready("True", 2)), 0),
        ("the word is no", line, lock(&Value::Null), lock(&ready("False", 2)), 75),
        ("a claim has no phase", "wait permit/p --timeout 0", unseen(), permit("p", "P", "i", "Granted"), 0),
        ("a claim has to wait", "wait permit/p --timeout 0", unseen(), permit("p", "P", "i", "Pending"), 75),
    ] {
        let (cluster, tell) = having(before);
        tell.send(modified(&after)).expect("a watch");
        let ran = cluster.run(line).await;
        assert_eq!(ran.code, code, "{what}: {ran:?}");
    }
}

#[tokio::test]
async fn a_grant_that_its_lock_does_not_confirm_is_waited_for() {
    let mut claim = permit("p", "P", "by-hand", "Granted");
    claim["status"]["term"] = json!(6);
    for goal in ["", " --for condition=Granted"] {
        claim["status"]["conditions"] = json!([{ "type": "Granted", "status": "True", "reason": "R", "message": "m" }]);
        let (cluster, tell) = having(claim.clone());
        let waiting = cluster.start(&format!("wait permit/p{goal}"));
        let looks = format!("GET {BASE}/semaphores/s");
        cluster.wait_asked(&looks, 2).await;
        claim["status"]["term"] = json!(7);
        tell.send(modified(&claim)).expect("a watch");
        let ran = ended(waiting).await;
        assert_eq!(ran.code, 0, "{goal}: {ran:?}");
        assert!(
            ran.stderr.contains("waiting for permit/p: semaphore/s has not confirmed the grant"),
            "{goal}: {ran:?}"
        );
        claim["status"]["term"] = json!(6);
    }
}

#[tokio::test]
async fn a_grant_of_a_lock_that_is_no_more_is_none() {
    for (what, parent) in [("another has its name", Some("V")), ("it is gone", None)] {
        let (_tell, events) = channel();
        let cluster = StandIn::new(answers(permit("p", "P", "by-hand", "Granted"), events, move || match parent {
            Some(uid) => {
                let metadata = json!({ "name": "s", "uid": uid });
                Answer::Json(200, json!({ "metadata": metadata, "status": { "term": 7, "settledTerm": 7 } }))
            }
            None => status(404, "NotFound", "s"),
        }));
        let ran = cluster.run("wait permit/p").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (76, ""), "{what}: {ran:?}");
        assert!(ran.stderr.contains("semaphore/s, which granted it, has been deleted"), "{what}: {ran:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_claim_that_nobody_renews_is_told_how_to() {
    let renewed = json!("2026-01-01T12:00:00.000000Z");
    let pod = json!({ "name": "p", "uid": "u" });
    for (what, instance, spec, note) in [
        ("nobody ever has", "by-hand", json!({}), Some("permit/p ends within 1m unless")),
        ("it was acquired", "holder-1", json!({ "renewTime": renewed }), Some("permit/p ends within 5m unless")),
        ("a process renews it", "0123", json!({ "renewTime": renewed }), None),
        ("a pod speaks for it", "0123", json!({ "pod": pod }), None),
    ] {
        let mut claim = permit("p", "P", instance, "Granted");
        let fields = spec.as_object().expect("fields").clone();
        claim["spec"].as_object_mut().expect("a spec").extend(fields);
        let (cluster, _tell) = having(claim);
        let ran = cluster.run("wait permit/p").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "permit.konductor.io/p granted\n"), "{what}: {ran:?}");
        let told = format!("{} it is renewed: koncli semaphore renew s --holder nightly\n", note.unwrap_or_default());
        assert_eq!(ran.stderr, if note.is_some() { told } else { String::new() }, "{what}");
    }
}
