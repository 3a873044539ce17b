//! What the requests of a handoff take by themselves: by one program that does nothing else, on objects of the same schema
//! that nobody decides on.
//!
//! One client deletes an object; another one, which watches all of them, sees that and writes the status of a second object;
//! a third one, which watches that one, sees it and reads a third. Each has a connection of its own, as in a handoff.

use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use konductor::Boottime;
use konductor_cluster::{Program, link::Link};
use konductor_tests::config;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use serde_json::json;
use tokio::time::timeout;

use crate::handoff::REST;
use crate::sample::Sample;
use crate::scene::{LIMIT, Scene};
use crate::throughput::{granted, install_raw, raw_permit, raw_resource};

/// What is read in the end.
const LOCK: &str = "floor-lock";

/// The times of one round trip after the other.
#[derive(Default)]
pub(crate) struct Floor {
    /// When nobody has asked the API server for anything for a while, as before a handoff that is measured.
    pub(crate) rested: Sample,
    /// Right after other requests.
    pub(crate) at_once: Sample,
}

pub(crate) async fn measure(scene: &Scene, runs: usize) -> Floor {
    install_raw(scene).await;
    let (holder, decider, next) = (objects(scene).await, objects(scene).await, objects(scene).await);
    create(&holder, LOCK).await;
    let mut floor = Floor::default();
    for run in 0..runs {
        for rest in [REST, Duration::ZERO] {
            let (held, waits) = (format!("floor-held-{run}"), format!("floor-waits-{run}"));
            let uid = create(&holder, &held).await.metadata.uid;
            let waiting = create(&next, &waits).await;
            let mut all = watch(&decider, &waiting, WatchParams::default()).await;
            let own = WatchParams::default().fields(&format!("metadata.name={waits}"));
            let mut own = watch(&next, &waiting, own).await;
            tokio::time::sleep(rest).await;

            let start = Boottime::now();
            let preconditions = Some(Preconditions { uid, resource_version: None });
            let deletion = DeleteParams { preconditions, ..DeleteParams::default() };
            let delete = async { drop(holder.delete(&held, &deletion).await.expect("delete")) };
            let decide = async {
                see(&mut all, |event| matches!(event, WatchEvent::Deleted(_))).await;
                let status = Patch::Merge(json!({ "status": granted() }));
                decider.patch_status(&waits, &PatchParams::default(), &status).await.expect("patch the status");
            };
            let confirm = async {
                see(&mut own, |event| matches!(event, WatchEvent::Modified(_))).await;
                next.get(LOCK).await.expect("read");
                Boottime::now()
            };
            let ((), (), end) = timeout(LIMIT, async { tokio::join!(delete, decide, confirm) }).await.expect("in time");
            let sample = if rest.is_zero() { &mut floor.at_once } else { &mut floor.rested };
            sample.push_time(end.since(start));
            next.delete(&waits, &DeleteParams::default()).await.expect("delete");
        }
    }
    holder.delete(LOCK, &DeleteParams::default()).await.expect("delete");
    floor
}

/// The objects, on a connection of its own, made as Konductor makes them.
async fn objects(scene: &Scene) -> Api<DynamicObject> {
    let config = config(scene.control_plane.admin_kubeconfig()).await;
    let link = Link::new(config, Program::new("konductor-bench"));
    let client = link.and_then(|link| link.line()).expect("set up a client").client;
    Api::namespaced_with(client, &scene.namespace.name, &raw_resource())
}

async fn create(api: &Api<DynamicObject>, name: &str) -> DynamicObject {
    api.create(&PostParams::default(), &raw_permit(name)).await.expect("create")
}

type Events = std::pin::Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Send>>;

/// What happens after this object was written.
async fn watch(api: &Api<DynamicObject>, since: &DynamicObject, what: WatchParams) -> Events {
    let version = since.metadata.resource_version.as_deref().expect("it is stored");
    api.watch(&what, version).await.expect("watch").boxed()
}

async fn see(events: &mut Events, wanted: impl Fn(&WatchEvent<DynamicObject>) -> bool) {
    while !wanted(&events.try_next().await.expect("watch").expect("a watch outlasts this")) {}
}
