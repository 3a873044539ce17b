//! Waiting with a limit and a message, instead of sleeping and hoping.
//!
//! What the API server knows is watched ([`wait_for`], [`wait_gone`]); the rest (files, processes, caches that other
//! programs keep) is looked at again and again ([`eventually`]).

use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How often [`eventually`] looks: seldom enough to leave the machine to the programs under test.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// How long [`wait_for`] rests before it asks again an API server that does not answer.
const RETRY: Duration = Duration::from_millis(100);

/// Calls `look` until it returns `Ok`, and returns what is in it. Fails after `limit` with `what` was wanted and the
/// last error.
pub async fn eventually<T, E, F, Fut>(limit: Duration, what: &str, mut look: F) -> T
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut last = None;
    let found = tokio::time::timeout(limit, async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
    .await;
    match (found, last) {
        (Ok(found), _) => found,
        (Err(_), Some(last)) => panic!("not within {limit:?}: {what}; last seen: {last}"),
        (Err(_), None) => panic!("not within {limit:?}: {what}; the first look has not ended"),
    }
}

/// Watches the object `name` until `wanted` holds for it, and returns it. Fails after `limit` with the object as last
/// seen. An API server that is away meanwhile is waited for, too.
pub async fn wait_for<K, F>(api: &Api<K>, name: &str, limit: Duration, mut wanted: F) -> K
where
    K: Resource + Clone + DeserializeOwned + Debug,
    F: FnMut(&K) -> bool,
{
    watch(api, name, limit, |object| object.filter(|object| wanted(object)).cloned()).await
}

/// Watches until the object `name` does not exist. Fails after `limit` with the object as last seen.
pub async fn wait_gone<K>(api: &Api<K>, name: &str, limit: Duration)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    watch(api, name, limit, |object| object.is_none().then_some(())).await;
}

/// Shows `look` every state of the object `name` until it answers.
async fn watch<K, T, F>(api: &Api<K>, name: &str, limit: Duration, mut look: F) -> T
where
    K: Resource + Clone + DeserializeOwned + Debug,
    F: FnMut(Option<&K>) -> Option<T>,
{
    let last = RefCell::new("nothing: the API server has not answered".to_owned());
    let mut see = |object: Option<&K>| {
        last.replace(object.map_or("it does not exist".to_owned(), |object| format!("{object:#?}")));
        look(object)
    };
    let found = tokio::time::timeout(limit, async {
        loop {
            match watch_once(api, name, &mut see).await {
                Ok(Some(found)) => return found,
                // The server ends every watch some time, and a watch from too old a version at once.
                Ok(None) => {}
                Err(error) => {
                    last.replace(format!("error {error:?}"));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    })
    .await;
    found.unwrap_or_else(|_| {
        panic!("not within {limit:?}: the wanted state of {} {name}; last seen: {}", api.resource_url(), last.borrow())
    })
}

/// One list and the watch after it; `None` when the watch ends before an answer.
async fn watch_once<K, T>(
    api: &Api<K>,
    name: &str,
    see: &mut impl FnMut(Option<&K>) -> Option<T>,
) -> Result<Option<T>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let only = format!("metadata.name={name}");
    let list = api.list(&ListParams::default().fields(&only)).await?;
    if let Some(found) = see(list.items.first()) {
        return Ok(Some(found));
    }
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut events = pin!(api.watch(&WatchParams::default().fields(&only), &version).await?);
    while let Some(event) = events.try_next().await? {
        let found = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => see(Some(&object)),
            WatchEvent::Deleted(_) => see(None),
            WatchEvent::Bookmark(_) => None,
            WatchEvent::Error(_) => return Ok(None),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
