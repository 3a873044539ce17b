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
                // What is there is read anew: a version may be too old, and while nobody answered a backup may have been
                // restored, from which a watch tells of nothing that is gone.
                version = None;
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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
    };

    use konductor_cluster::Login;
    use serde_json::json;

    use super::*;
    use crate::{globals::Globals, trouble::Role};

    /// How long anything may take.
    const LIMIT: Duration = Duration::from_mins(1);

    /// An API server that answers lists and no watch. Returns the kubeconfig for it.
    fn stand_in() -> Value {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let head: Vec<_> = head.collect();
                if head.first().is_some_and(|request| !request.contains("watch=true")) {
                    let body = json!({ "metadata": { "resourceVersion": "10" }, "items": [] }).to_string();
                    let length = body.len();
                    // Who has gone needs no answer.
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                }
            }
        });
        json!({
            "current-context": "c", "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u", "namespace": "team" } }],
            "clusters": [{ "name": "c", "cluster": { "server": server } }],
        })
    }

    #[tokio::test]
    async fn after_a_watch_that_is_not_answered_all_is_listed_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        std::fs::write(&path, stand_in().to_string()).expect("a kubeconfig");
        let globals = Globals { kubeconfig: Some(path), ..Globals::default() };
        let cluster = Cluster::connect(&globals, Login::default(), Role::View).await.expect("a cluster");
        let (tell, mut events) = mpsc::channel(16);
        let following = tokio::spawn(follow(cluster, Kind::Semaphore, SelectionArgs::default(), tell));
        let mut told = Vec::new();
        for _ in 0..5 {
            let event = timeout(LIMIT, events.recv()).await.expect("it goes on").expect("it goes on");
            told.push(match event {
                Event::Listed(..) => "listed",
                Event::Trouble(_, None) => "well",
                Event::Trouble(_, Some(_)) => "trouble",
                _ => "news",
            });
        }
        assert_eq!(told, ["listed", "well", "trouble", "listed", "well"]);
        following.abort();
    }
}
