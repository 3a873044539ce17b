//! Kubernetes events, for people who ask `kubectl describe`.
//!
//! They are a courtesy: when there are too many, or the API server is slow, they are left out and counted. Nothing waits
//! for them.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, Resource, api::PostParams};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{clock::wall, metrics::Metrics};
use konductor_cluster::backoff::random;

/// Events that wait to be written. More are left out.
const QUEUE: usize = 64;

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
pub struct Publisher {
    queue: mpsc::Sender<News>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// Starts the task that writes. `instance` names this process.
    pub fn start(client: Client, instance: String, metrics: Arc<Metrics>) -> Self {
        let (queue, news) = mpsc::channel(QUEUE);
        tokio::spawn(publish(client, instance, news, Arc::clone(&metrics)));
        Self { queue, metrics }
    }

    /// Tells this, if there is room.
    pub fn tell(&self, news: News) {
        if self.queue.try_send(news).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

/// A reference to an object of kind `K`.
pub fn reference<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        uid: Some(uid.into()),
        ..ObjectReference::default()
    }
}

async fn publish(client: Client, instance: String, mut queue: mpsc::Receiver<News>, metrics: Arc<Metrics>) {
    while let Some(news) = queue.recv().await {
        let next = Instant::now() + PACE;
        let namespace = news.regarding.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let event = event(news, &instance);
        match timeout(WRITE_TIMEOUT, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            // For example the namespace is being deleted.
            Ok(Err(error)) => {
                debug!("an event was not written: {}", konductor_cluster::explain(&error));
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
    // Unique as kubectl's own are: the object's name and the time in hexadecimal, and chance against a second in the same instant.
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
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(shortened("käse", 2), "k");
        assert_eq!(shortened("käse", 3), "kä");
        assert_eq!(shortened("käse", 100), "käse");
    }
}
