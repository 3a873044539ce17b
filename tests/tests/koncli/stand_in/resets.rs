//! `koncli barrier reset`, while the barrier is there for nobody but this process: what it takes to lose one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use konductor_tests::Signal;
use serde_json::json;

use super::{Answer, BASE, StandIn, status};
use crate::scene::{LIMIT, ended};

/// How the API server takes the new barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Creation {
    /// It creates it.
    Done,
    /// It refuses it, and does not know so before.
    Refused,
    /// It does not answer.
    Silent,
}

/// A barrier that is kept by a finalizer, once it is deleted, until the flag falls.
fn barrier(creation: Creation) -> (StandIn, Arc<AtomicBool>) {
    let is_kept = Arc::new(AtomicBool::new(true));
    let (kept, mut is_deleted) = (is_kept.clone(), false);
    let cluster = StandIn::new(move |asked| match (asked.method.as_str(), asked.path.contains("/arrivals")) {
        ("GET", true) => Answer::Json(200, json!({ "metadata": { "resourceVersion": "9" }, "items": [] })),
        ("GET", false) if is_deleted && !kept.load(Ordering::SeqCst) => status(404, "NotFound", "b"),
        ("GET", false) => {
            let mut metadata = json!({
                "name": "b", "namespace": "etl", "uid": "OLD", "resourceVersion": "9", "labels": { "team": "load" },
            });
            if is_deleted {
                metadata["deletionTimestamp"] = json!("2026-01-01T12:00:00Z");
            }
            let spec = json!({ "expected": 2 });
            let kind = ("konductor.io/v1", "Barrier");
            Answer::Json(200, json!({ "apiVersion": kind.0, "kind": kind.1, "metadata": metadata, "spec": spec }))
        }
        ("DELETE", _) => {
            is_deleted = true;
            Answer::Json(200, json!({ "kind": "Status", "status": "Success" }))
        }
        _ if asked.is_dry_run || creation == Creation::Done => Answer::Json(201, asked.body.clone()),
        _ if creation == Creation::Refused => status(403, "Forbidden", "b"),
        _ => Answer::Silence,
    });
    (cluster, is_kept)
}

/// What creates the barrier when `koncli` does not.
const BY_HAND: &str = "| kubectl create -f -";

#[tokio::test]
async fn a_reset_that_is_interrupted_is_finished_and_then_ends_by_the_signal() {
    for (signal, code) in [(Signal::SIGINT, -2), (Signal::SIGTERM, -15)] {
        let (cluster, is_kept) = barrier(Creation::Done);
        let mut resetting = cluster.start("barrier reset b");
        cluster.wait_asked("DELETE", 1).await;
        resetting.signal(signal);
        resetting.wait_stderr(LIMIT, "a second signal ends it at once").await;
        is_kept.store(false, Ordering::SeqCst);
        let ran = ended(resetting).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, "barrier.konductor.io/b reset\n"), "{ran:?}");
        assert_eq!(cluster.asked("POST"), [format!("POST {BASE}/barriers")]);
    }
}

#[tokio::test]
async fn a_reset_that_a_second_signal_ends_says_how_to_create_the_barrier() {
    let (cluster, is_kept) = barrier(Creation::Silent);
    is_kept.store(false, Ordering::SeqCst);
    let mut resetting = cluster.start("barrier reset b");
    cluster.wait_asked("POST", 1).await;
    resetting.signal(Signal::SIGINT);
    resetting.wait_stderr(LIMIT, "a second signal ends it at once").await;
    resetting.signal(Signal::SIGTERM);
    let ran = ended(resetting).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (-15, ""), "{ran:?}");
    assert!(ran.stderr.contains(r#""expected":2"#) && ran.stderr.contains(r#""team":"load""#), "{ran:?}");
    assert!(ran.stderr.contains(BY_HAND), "{ran:?}");
}

#[tokio::test]
async fn a_reset_that_is_interrupted_and_then_fails_says_so() {
    let (cluster, is_kept) = barrier(Creation::Refused);
    let mut resetting = cluster.start("barrier reset b");
    cluster.wait_asked("DELETE", 1).await;
    resetting.signal(Signal::SIGINT);
    resetting.wait_stderr(LIMIT, "a second signal ends it at once").await;
    is_kept.store(false, Ordering::SeqCst);
    let ran = ended(resetting).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (-2, ""), "{ran:?}");
    assert!(ran.stderr.contains("cannot be created again") && ran.stderr.contains(BY_HAND), "{ran:?}");
}

#[tokio::test]
async fn a_barrier_that_could_not_be_created_again_is_not_deleted() {
    for line in ["barrier reset b", "barrier reset b --dry-run=server"] {
        for (code, reason, exit) in
            [(403, "Forbidden", 77), (422, "Invalid", 77), (400, "BadRequest", 77), (503, "ServiceUnavailable", 69)]
        {
            let cluster = StandIn::new(move |asked| match (asked.method.as_str(), asked.path.contains("/arrivals")) {
                ("GET", true) => Answer::Json(200, json!({ "metadata": { "resourceVersion": "9" }, "items": [] })),
                ("GET", false) => {
                    let metadata = json!({ "name": "b", "namespace": "etl", "uid": "OLD", "resourceVersion": "9" });
                    Answer::Json(200, json!({ "metadata": metadata, "spec": { "expected": 2 } }))
                }
                ("POST", _) => status(code, reason, ""),
                _ => Answer::Json(200, json!({ "kind": "Status", "status": "Success" })),
            });
            let ran = cluster.run(line).await;
            assert_eq!((ran.code, ran.stdout.as_str()), (exit, ""), "{line} {code}: {ran:?}");
            assert!(ran.stderr.contains("barrier/b is left as it is"), "{line} {code}: {ran:?}");
            assert_eq!(cluster.asked("DRY POST"), [format!("DRY POST {BASE}/barriers")], "{line} {code}");
            let written = [cluster.asked("DELETE"), cluster.asked("POST")].concat();
            assert_eq!(written, [""; 0], "{line} {code}");
        }
    }
}
