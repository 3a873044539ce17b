//! Follows a kind: listed once, then watched, for as long as somebody listens. What does not work is told and tried
//! again after a pause.

use std::time::Duration;

use futures::StreamExt as _;
use konductor_cluster::backoff::Backoff;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    limits::{DENIED, HASTY, LONGEST_PAUSE, WATCH_SECONDS, WATCH_SLACK},
    state::Event,
};
use crate::{
    cluster::{ApiError, Call, Cluster},
    why::{Kind, read},
};

/// Why a watch has ended.
enum End {
    /// Nobody listens any more.
    Closed,
    /// In its time.
    Over,
    /// It has failed.
    Failed(ApiError),
}

/// Tells everything about the objects of a kind, in a namespace or in all.
pub(super) async fn follow(cluster: Cluster, kind: Kind, namespace: Option<String>, events: mpsc::Sender<Event>) {
    let call = Call::get(kind.resource().path(namespace.as_deref()));
    let mut backoff = Backoff::up_to(LONGEST_PAUSE);
    let mut version = None;
    loop {
        let began = Instant::now();
        let result = match &mut version {
            None => match list(&cluster, kind, &call, &events).await {
                Ok(listed) => {
                    version = Some(listed);
                    continue;
                }
                Err(end) => Err(end),
            },
            Some(version) => watch(&cluster, kind, &call, &events, version, &mut backoff).await,
        };
        match result {
            Err(End::Closed) => return,
            Ok(()) | Err(End::Over) => {
                if began.elapsed() < HASTY {
                    backoff.pause().await;
                }
            }
            Err(End::Failed(error)) => {
                let is_denied = matches!(error.code(), Some(403 | 404));
                // A version that is too old, and anything else that is said no to: what is there is read anew.
                if error.code().is_some() {
                    version = None;
                }
                if events.send(Event::Trouble(kind, Some(error.to_string()))).await.is_err() {
                    return;
                }
                if is_denied {
                    // It ends sooner when nobody listens any more.
                    let _ = timeout(DENIED, events.closed()).await;
                } else {
                    backoff.pause().await;
                }
            }
        }
    }
}

async fn list(cluster: &Cluster, kind: Kind, call: &Call, events: &mpsc::Sender<Event>) -> Result<String, End> {
    let list = cluster.list(call.clone()).await.map_err(End::Failed)?;
    let items = list["items"].as_array().into_iter().flatten();
    let all = items.filter_map(|item| read(kind, &item.to_string())).collect();
    events.send(Event::Listed(kind, all)).await.map_err(|_| End::Closed)?;
    events.send(Event::Trouble(kind, None)).await.map_err(|_| End::Closed)?;
    Ok(list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
}

async fn watch(
    cluster: &Cluster,
    kind: Kind,
    call: &Call,
    events: &mpsc::Sender<Event>,
    version: &mut String,
    backoff: &mut Backoff,
) -> Result<(), End> {
    let call = call.clone().with("timeoutSeconds", WATCH_SECONDS.to_string());
    let watch = cluster.watch(call, version).await.map_err(End::Failed)?;
    events.send(Event::Trouble(kind, None)).await.map_err(|_| End::Closed)?;
    let mut watch = std::pin::pin!(watch);
    let longest = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_SLACK;
    let late = || ApiError::Unanswered("the connection is silent".into());
    loop {
        let next = timeout(longest, watch.next()).await.map_err(|_| End::Failed(late()))?;
        let Some(next) = next else { break };
        let (word, object) = next.map_err(End::Failed)?;
        backoff.reset();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        *version = text(&metadata["resourceVersion"]);
        let event = match word.as_str() {
            "ADDED" | "MODIFIED" => read(kind, &object.to_string()).map(|seen| Event::Changed(kind, Box::new(seen))),
            "DELETED" => Some(Event::Deleted(kind, text(&metadata["namespace"]), text(&metadata["name"]))),
            _ => None,
        };
        if let Some(event) = event {
            events.send(event).await.map_err(|_| End::Closed)?;
        }
    }
    Err(End::Over)
}
