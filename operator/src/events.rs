//! Kubernetes events, for people who ask `kubectl describe`.
//!
//! They are a courtesy: when there are too many, or the API server is slow, they are left out and counted. Nothing
//! waits for them. Those about parents, and about what cannot be read, are written here; `claimants`
//! writes those about the pods and Jobs of claims.

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

use crate::{
    claimants::{self, ClaimantNews},
    clock::wall,
    metrics::Metrics,
};

/// Events that wait to be written, of each of the two sorts. More are left out.
const QUEUE: usize = 64;

/// Events of one namespace that wait to be written, so that one whose objects make many leaves the others room.
const SHARE: usize = 16;

/// Least time between two events on average; the queue is the allowance for bursts. A mass expiry is the case to bound:
/// ten a second is what a person could ever follow, and small beside the grants.
const PACE: Duration = Duration::from_millis(100);

/// How long writing one may take, or reading what it is about.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

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
    objects: Queue<News>,
    claimants: Queue<ClaimantNews>,
    metrics: Arc<Metrics>,
}

/// News that wait to be told, of any namespace no more than its share.
#[derive(Clone, Debug)]
struct Queue<N> {
    sender: mpsc::Sender<N>,
    waiting: Waiting,
}

impl<N> Queue<N> {
    fn new() -> (Self, mpsc::Receiver<N>) {
        let (sender, news) = mpsc::channel(QUEUE);
        (Self { sender, waiting: Waiting::default() }, news)
    }

    /// Whether there was room.
    fn push(&self, namespace: &str, news: N) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.get(namespace).copied().unwrap_or(0);
        let has_room = count < SHARE && self.sender.try_send(news).is_ok();
        if has_room {
            waiting.insert(namespace.to_owned(), count + 1);
        }
        has_room
    }
}

/// How many events of each namespace wait.
pub(crate) type Waiting = Arc<Mutex<HashMap<String, usize>>>;

/// What is told, for somebody to write.
pub(crate) struct Told {
    /// About parents, and about what cannot be read.
    pub(crate) objects: mpsc::Receiver<News>,
    /// About the pods and Jobs of claims.
    pub(crate) claimants: mpsc::Receiver<ClaimantNews>,
}

impl Recorder {
    /// Starts the tasks that write. `instance` names this process.
    pub fn start(client: Client, instance: String, metrics: Arc<Metrics>) -> Self {
        let (recorder, Told { objects, claimants }) = Self::new(metrics.clone());
        let writer = Writer { client: client.clone(), instance, metrics: metrics.clone() };
        let waiting = recorder.claimants.waiting.clone();
        process::spawn(claimants::publish(client, writer.clone(), claimants, waiting, metrics));
        process::spawn(publish(writer, objects, recorder.objects.waiting.clone()));
        recorder
    }

    /// And what is told, for somebody else to write.
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Self, Told) {
        let ((objects, of_objects), (claimants, of_claimants)) = (Queue::new(), Queue::new());
        (Self { objects, claimants, metrics }, Told { objects: of_objects, claimants: of_claimants })
    }

    /// Tells this, if there is room.
    pub fn tell(&self, news: News) {
        let namespace = news.regarding.namespace.clone().unwrap_or_default();
        self.count(self.objects.push(&namespace, news));
    }

    /// Tells this of a claim's pod, if there is room.
    pub(crate) fn tell_claimant(&self, news: ClaimantNews) {
        let namespace = news.namespace.clone();
        self.count(self.claimants.push(&namespace, news));
    }

    fn count(&self, had_room: bool) {
        if !had_room {
            self.metrics.events_dropped.inc();
        }
    }
}

/// One event of this namespace waits no more.
pub(crate) fn taken(waiting: &Waiting, namespace: &str) {
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

/// Writes events.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    instance: String,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Writes an event, or counts that it was left out.
    pub(crate) async fn write(&self, news: News) {
        let namespace = news.regarding.namespace.clone().unwrap_or_else(|| "default".into());
        let events: Events = Endpoint::namespaced(self.client.clone(), Program::OPERATOR, &namespace);
        let event = json!(event(news, &self.instance));
        match timeout(WRITE_TIMEOUT, events.create(&event)).await {
            Ok(Ok(_)) => {}
            // For example the namespace is being deleted.
            Ok(Err(error)) => {
                debug!("an event was not written: {error}");
                self.metrics.events_dropped.inc();
            }
            Err(_) => {
                self.metrics.events_dropped.inc();
            }
        }
    }
}

async fn publish(writer: Writer, mut queue: mpsc::Receiver<News>, waiting: Waiting) {
    while let Some(news) = queue.recv().await {
        taken(&waiting, news.regarding.namespace.as_deref().unwrap_or_default());
        let next = Instant::now() + PACE;
        writer.write(news).await;
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
        let (recorder, Told { objects: mut queue, .. }) = Recorder::new(Metrics::new(crate::clock::Clock::start()));
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
            taken(&recorder.objects.waiting, &namespace);
            namespaces.push(namespace);
        }
        assert_eq!((namespaces.len(), namespaces.last().map(String::as_str)), (SHARE + 1, Some("one")));
        recorder.tell(news("many"));
        assert!(queue.try_recv().is_ok(), "what was written makes room");
        assert!(recorder.objects.waiting.lock().expect("no panic").len() <= 1);
    }

    #[test]
    fn news_of_claims_take_no_room_from_those_of_locks() {
        let metrics = Metrics::new(crate::clock::Clock::start());
        let (recorder, mut told) = Recorder::new(metrics.clone());
        let claimant = ClaimantNews {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            severity: Severity::Normal,
            reason: "Waiting",
            action: "Write",
            note: String::new(),
        };
        for _ in 0..10 * QUEUE {
            recorder.tell_claimant(claimant.clone());
        }
        assert_eq!(metrics.events_dropped.get(), (10 * QUEUE - SHARE) as u64);
        recorder.tell(News {
            regarding: ObjectReference { namespace: Some("n".into()), ..ObjectReference::default() },
            severity: Severity::Warning,
            reason: "Expired",
            action: "Expire",
            note: String::new(),
        });
        assert!(told.objects.try_recv().is_ok() && told.claimants.try_recv().is_ok());
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(shortened("käse", 2), "k");
        assert_eq!(shortened("käse", 3), "kä");
        assert_eq!(shortened("käse", 100), "käse");
    }
}
