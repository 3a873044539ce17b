//! Kubernetes events, for people who ask `kubectl describe`.
//!
//! They are a courtesy: when there are too many, or the API server is slow, they are left out and counted. Nothing
//! waits for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use konductor_cluster::{Endpoint, Program, backoff::random, process};
use kube::{Client, Resource};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{clock::wall, metrics::Metrics};

/// Events that wait to be written. More are left out.
const QUEUE: usize = 64;

/// Events of one namespace that wait to be written, so that one whose objects make many leaves the others room.
const SHARE: usize = 16;

/// Least time between two events on average; the queue is the allowance for bursts. A mass expiry is the case to bound:
/// ten a second is what a person could ever follow, and small beside the grants.
const PACE: Duration = Duration::from_millis(100);

/// How long writing one may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The API server refuses longer notes.
const MAX_NOTE: usize = 1024;

/// Who reports.
const CONTROLLER: &str = "konductor.io/operator";

/// Whether people should look closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Part of normal operation.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// About which object.
    pub regarding: ObjectReference,
    /// Whether to look closer.
    pub severity: Severity,
    /// In one word.
    pub reason: &'static str,
    /// What the operator did: a verb.
    pub action: &'static str,
    /// In a sentence.
    pub note: String,
}

/// Where news is handed in.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<News>,
    waiting: Waiting,
    metrics: Arc<Metrics>,
}

/// How many events of each namespace wait.
type Waiting = Arc<Mutex<HashMap<String, usize>>>;

impl Recorder {
    /// Starts the task that writes. `instance` names this process.
    pub fn start(client: Client, instance: String, metrics: Arc<Metrics>) -> Self {
        let (recorder, news) = Self::new(metrics.clone());
        process::spawn(publish(client, instance, news, recorder.waiting.clone(), metrics));
        recorder
    }

    /// And what is told, for somebody else to write.
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<News>) {
        let (queue, news) = mpsc::channel(QUEUE);
        (Self { queue, waiting: Waiting::default(), metrics }, news)
    }

    /// Tells this, if there is room.
    pub fn tell(&self, news: News) {
        let namespace = news.regarding.namespace.clone().unwrap_or_default();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.get(&namespace).copied().unwrap_or(0);
        if count < SHARE && self.queue.try_send(news).is_ok() {
            waiting.insert(namespace, count + 1);
        } else {
            self.metrics.events_dropped.inc();
        }
    }
}

/// One event of this namespace waits no more.
fn taken(waiting: &Waiting, namespace: &str) {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(count) = waiting.get_mut(namespace) {
        *count -= 1;
        if *count == 0 {
            waiting.remove(namespace);
        }
    }
}

/// A reference to an object of kind `K`.
pub fn reference<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        // Of what has none it is absent, and not empty.
        namespace: (!namespace.is_empty()).then(|| namespace.into()),
        name: Some(name.into()),
        uid: Some(uid.into()),
        ..ObjectReference::default()
    }
}

/// Where events are, of which nothing is read.
type Events = Endpoint<Event, IgnoredAny, IgnoredAny>;

async fn publish(
    client: Client,
    instance: String,
    mut queue: mpsc::Receiver<News>,
    waiting: Waiting,
    metrics: Arc<Metrics>,
) {
    while let Some(news) = queue.recv().await {
        taken(&waiting, news.regarding.namespace.as_deref().unwrap_or_default());
        let next = Instant::now() + PACE;
        let namespace = news.regarding.namespace.clone().unwrap_or_else(|| "default".into());
        let events: Events = Endpoint::namespaced(client.clone(), Program::OPERATOR, &namespace);
        let event = json!(event(news, &instance));
        match timeout(WRITE_TIMEOUT, events.create(&event)).await {
            Ok(Ok(_)) => {}
            // For example the namespace is being deleted.
            Ok(Err(error)) => {
                debug!("an event was not written: {error}");
                metrics.events_dropped.inc();
            }
            Err(_) => {
                metrics.events_dropped.inc();
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

fn event(news: News, instance: &str) -> Event {
    let now = wall();
    let object = news.regarding.name.clone().unwrap_or_default();
    // Unique as kubectl's own are: the object's name and the time in hexadecimal, and chance against a second in the
    // same instant.
    let name = format!("{}.{:x}{:08x}", shortened(&object, 200), now.as_nanosecond(), random());
    Event {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(shortened(instance, 128)),
        action: Some(news.action.into()),
        reason: Some(news.reason.into()),
        regarding: Some(news.regarding),
        note: Some(shortened(&news.note, MAX_NOTE)),
        type_: Some(match news.severity {
            Severity::Normal => "Normal".into(),
            Severity::Warning => "Warning".into(),
        }),
        ..Event::default()
    }
}

/// The first `limit` bytes at most, whole characters only.
fn shortened(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_leaves_the_others_room() {
        let (recorder, mut queue) = Recorder::new(Metrics::new(crate::clock::Clock::start()));
        let news = |namespace: &str| News {
            regarding: ObjectReference { namespace: Some(namespace.into()), ..ObjectReference::default() },
            severity: Severity::Warning,
            reason: "Unreadable",
            action: "Read",
            note: String::new(),
        };
        for _ in 0..10 * QUEUE {
            recorder.tell(news("many"));
        }
        recorder.tell(news("one"));
        let mut namespaces = Vec::new();
        while let Ok(news) = queue.try_recv() {
            let namespace = news.regarding.namespace.unwrap_or_default();
            taken(&recorder.waiting, &namespace);
            namespaces.push(namespace);
        }
        assert_eq!((namespaces.len(), namespaces.last().map(String::as_str)), (SHARE + 1, Some("one")));
        recorder.tell(news("many"));
        assert!(queue.try_recv().is_ok(), "what was written makes room");
        assert!(recorder.waiting.lock().expect("no panic").len() <= 1);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(shortened("käse", 2), "k");
        assert_eq!(shortened("käse", 3), "kä");
        assert_eq!(shortened("käse", 100), "käse");
    }
}
