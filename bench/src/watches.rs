//! What many clients' watches cost one API server: each waiter and each holder has one, of its own claim, by name, on a
//! connection of its own.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use konductor::Boottime;
use konductor_api::Permit;
use konductor_tests::client;
use kube::Api;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::time::timeout;

use crate::Effort;
use crate::footprint::{create_claims, processor, resident};
use crate::sample::Figure;
use crate::scene::{LIMIT, Scene};
use crate::table::{Row, Table};

/// Watches opened at once, and claims written to at once.
const AT_ONCE: usize = 32;

/// Claims that nobody but the operator watches.
const OTHERS: usize = 100;

type Watch = BoxStream<'static, kube::Result<WatchEvent<Permit>>>;

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let number = effort.watches;
    for (semaphore, claims) in [("watched", number), ("unwatched", OTHERS)] {
        scene.semaphore(semaphore, 0).await;
        create_claims(scene, semaphore, claims).await;
        scene.wait_pending(semaphore, claims).await;
    }
    let server = scene.control_plane.api_server.pid();
    let without = patches(scene, "unwatched", OTHERS, effort.windows).await;
    let quiet = idle(scene, effort.window).await;
    let (memory, spent) = (resident(server), processor(server));
    let open = async |number: usize| open(scene, &format!("watched-{number}")).await;
    let mut watches: Vec<Watch> = stream::iter(0..number).map(open).buffer_unordered(AT_ONCE).collect().await;
    let spent = processor(server).saturating_sub(spent).as_secs_f64() * 1000.0 / number as f64;
    let each = (resident(server) - memory) * 1000.0 / number as f64;
    let with_all = idle(scene, effort.window).await;
    let found =
        format!("{} kB of the API server's RSS each, {} ms of its processor to open one", Figure(each), Figure(spent));
    let what = format!("{number} watches of one claim each, by its name, each on a connection of its own");
    let beside = format!("RSS before: {} MB", Figure(memory));
    table.push(Row::new(what, found).beside(beside));
    let what = format!("API server, CPU while nothing happens, with {number} watches");
    let row = Row::new(what, format!("{} % of a core", Figure(with_all * 100.0)));
    table.push(row.beside(format!("without: {} %", Figure(quiet * 100.0))));
    let with = patches(scene, "unwatched", OTHERS, effort.windows).await;
    let what = format!("API server, CPU of a write to a claim that none of {number} watches is of");
    let row = Row::new(what, format!("{} ms", Figure(with)));
    table.push(row.beside(format!("without any: {} ms", Figure(without))).ratio(with / without));

    let start = Boottime::now();
    let told = async {
        let see = async |watch: &mut Watch| {
            while !matches!(watch.try_next().await.expect("watch a claim"), Some(WatchEvent::Modified(_))) {}
        };
        stream::iter(&mut watches).map(see).buffer_unordered(number).collect::<()>().await;
    };
    let all = async { tokio::join!(patches(scene, "watched", number, 1), told).0 };
    let spent = timeout(LIMIT, all).await.expect("all are told");
    let took = Boottime::now().since(start).as_secs_f64();
    let found = format!("{} s, {} ms of the API server's processor each", Figure(took), Figure(spent));
    table.push(Row::new(format!("a write to each of {number} watched claims, until each client has been told"), found));
    drop(watches);
    for semaphore in ["watched", "unwatched"] {
        scene.clear(semaphore).await;
    }
}

/// A watch of this claim, which is under way.
async fn open(scene: &Scene, name: &str) -> Watch {
    let client = client(scene.control_plane.admin_kubeconfig()).await;
    let permits: Api<Permit> = Api::namespaced(client, &scene.namespace.name);
    let of = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut watch = permits.watch(&of, "0").await.expect("watch a claim").boxed();
    // What is there comes first.
    let first = timeout(LIMIT, watch.try_next()).await.expect("a watch shows what is there");
    assert!(first.expect("watch a claim").is_some(), "the watch of {name} has ended");
    watch
}

/// Writes to each of the claims on this semaphore, so many times; the API server's processor time of each in
/// milliseconds.
async fn patches(scene: &Scene, semaphore: &str, claims: usize, times: usize) -> f64 {
    let permits: Api<Permit> = scene.namespace.api();
    let server = scene.control_plane.api_server.pid();
    let before = processor(server);
    for _ in 0..times {
        let write = async |number: usize| {
            let text = format!("{:?}", Boottime::now());
            let patch = Patch::Merge(json!({ "metadata": { "annotations": { "somebody/text": text } } }));
            let name = format!("{semaphore}-{number}");
            permits.patch(&name, &PatchParams::default(), &patch).await.expect("patch a Permit");
        };
        stream::iter(0..claims).map(write).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
    processor(server).saturating_sub(before).as_secs_f64() * 1000.0 / (claims * times) as f64
}

/// How much of a processor the API server takes while nothing happens.
async fn idle(scene: &Scene, window: Duration) -> f64 {
    let server = scene.control_plane.api_server.pid();
    let (start, before) = (Boottime::now(), processor(server));
    tokio::time::sleep(window).await;
    processor(server).saturating_sub(before).as_secs_f64() / Boottime::now().since(start).as_secs_f64()
}
