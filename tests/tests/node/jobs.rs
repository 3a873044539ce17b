//! The main promise: Jobs wait for their turn, and only so many run.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use konductor_api::{ClaimPhase, Permit};
use konductor_tests::eventually;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::cluster::{LIMIT, Scene};
use crate::records::assert_in_order;
use crate::workload::{Shape, work};

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn of_eight_jobs_two_run_at_a_time() {
    let scene = Scene::new("jobs").await;
    scene.semaphore("warehouse", json!({ "permits": 2 })).await;
    let history = History::of(scene.api()).await;
    let names: Vec<_> = (1..=8).map(|number| format!("load-{number}")).collect();
    for name in &names {
        scene.job(name, &work(1), Shape::once(&[("KONDUCTOR_SEMAPHORE", "warehouse")])).await;
    }
    for name in &names {
        scene.completed(name).await;
    }

    let runs = scene.runs();
    assert_eq!(runs.len(), 8, "{runs:#?}");
    assert!(runs.iter().all(|run| run.ended), "{runs:#?}");
    assert_in_order(&runs, 2);
    scene.at_rest("warehouse").await;
    assert_eq!(scene.permits().await.len(), 0, "permits are left");

    // What the API server saw, write by write, says the same.
    let seen = history.once_all_are_gone().await;
    assert_eq!(seen.most_at_once, 2, "permits granted at once; {seen:#?}");
    let tokens: Vec<_> = seen.grants.keys().copied().collect();
    let mut told: Vec<_> = runs.iter().map(|run| run.token).collect();
    told.sort_unstable();
    assert_eq!(tokens, told, "the fencing tokens, as granted and as the commands were told");
    let times: Vec<_> = seen.grants.values().collect();
    assert!(times.is_sorted(), "a later grant has a smaller fencing token: {seen:#?}");
}

/// What became of all permits of a namespace, one write after the other.
struct History {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// The weights of the granted claims that exist, by name.
    granted: BTreeMap<String, u32>,
    /// The claims that exist.
    claims: usize,
    /// The largest sum of weights that was granted at once.
    most_at_once: u32,
    /// By fencing token, when each grant was given.
    grants: BTreeMap<u64, MicroTime>,
    /// Why nothing more is seen.
    broken: Option<String>,
}

impl History {
    /// Begins with a namespace in which there is none yet.
    async fn of(permits: Api<Permit>) -> Self {
        let list = permits.list(&ListParams::default()).await.expect("list the permits");
        assert!(list.items.is_empty(), "there are permits already: {:#?}", list.items);
        let mut version = list.metadata.resource_version.expect("a list has a version");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let theirs = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            // The server ends a watch every few minutes.
            while let Ok(next) = follow(&permits, &version, &theirs).await.inspect_err(|error| {
                theirs.lock().expect("nobody panics in there").broken = Some(error.to_string());
            }) {
                version = next;
            }
        });
        Self { seen, task }
    }

    /// The history, when it has come to its end.
    async fn once_all_are_gone(self) -> Seen {
        let ended = eventually(LIMIT, "all permits are gone", || async {
            let seen = self.seen.lock().expect("nobody panics in there").clone();
            if seen.claims == 0 && seen.broken.is_none() { Ok(seen) } else { Err(format!("{seen:#?}")) }
        });
        let ended = ended.await;
        self.task.abort();
        ended
    }
}

/// Notes what one watch shows; returns the version that it came to.
async fn follow(permits: &Api<Permit>, version: &str, seen: &Mutex<Seen>) -> Result<String, kube::Error> {
    let mut version = version.to_owned();
    let mut events = pin!(permits.watch(&WatchParams::default(), &version).await?);
    while let Some(event) = events.try_next().await? {
        let mut seen = seen.lock().expect("nobody panics in there");
        match event {
            WatchEvent::Added(permit) => {
                seen.claims += 1;
                version = seen.note(&permit);
            }
            WatchEvent::Modified(permit) => version = seen.note(&permit),
            WatchEvent::Deleted(permit) => {
                seen.claims -= 1;
                seen.granted.remove(&permit.name_any());
                version = permit.resource_version().unwrap_or(version);
            }
            WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
            WatchEvent::Error(error) => return Err(kube::Error::Api(error)),
        }
    }
    Ok(version)
}

impl Seen {
    fn note(&mut self, permit: &Permit) -> String {
        let status = permit.status.clone().unwrap_or_default();
        if matches!(status.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking)) {
            self.granted.insert(permit.name_any(), permit.spec.permits);
            let token = status.fencing_token.expect("a granted claim has a fencing token");
            self.grants.insert(token, status.acquired_at.expect("a granted claim says since when"));
        } else {
            self.granted.remove(&permit.name_any());
        }
        self.most_at_once = self.most_at_once.max(self.granted.values().sum());
        permit.resource_version().expect("an object has a version")
    }
}
