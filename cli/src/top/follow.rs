//! Follows a kind: listed once, then watched, for as long as somebody listens. What does not work is told and tried
//! again after a pause.

use std::time::Duration;

use futures::StreamExt as _;
use konductor::Local;
use konductor_cluster::backoff::Backoff;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    limits::{DENIED, HASTY, LONGEST_PAUSE, WATCH_SECONDS, WATCH_SLACK},
    state::{Event, FOLLOWED},
};
use crate::{
    args::SelectionArgs,
    cluster::{ApiError, Call, Cluster},
    kind::PARENTS,
    local,
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

/// Tells everything about those objects of a kind that are selected. Claims are selected by nothing: they belong to what
/// they are on.
pub(super) async fn follow(cluster: Cluster, kind: Kind, selection: SelectionArgs, events: mpsc::Sender<Event>) {
    let of_claims = SelectionArgs { all_namespaces: selection.all_namespaces, ..SelectionArgs::default() };
    let selection = if PARENTS.contains(&kind.resource()) { selection } else { of_claims };
    let call = selection.call(&cluster, kind.resource());
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

/// Tells everything that a folder shows.
pub(super) async fn follow_folder(folder: Local, events: mpsc::Sender<Event>) {
    let mut changes = local::Changes::of(&folder);
    loop {
        let told = match changes.look().await {
            Ok(view) => FOLLOWED
                .into_iter()
                .flat_map(|kind| {
                    let all = local::objects(&view, kind.resource());
                    let all = all.iter().filter_map(|object| read(kind, &object.to_string())).collect();
                    [Event::Listed(kind, all), Event::Trouble(kind, None)]
                })
                .collect(),
            Err(error) => vec![Event::Trouble(Kind::Semaphore, Some(error.message))],
        };
        for event in told {
            if events.send(event).await.is_err() {
                return;
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
