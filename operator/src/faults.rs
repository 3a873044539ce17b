//! Objects that cannot be read: reported once each time what there is to say changes, counted, and left alone.

use std::{collections::HashMap, sync::Arc};

use kube::Resource;
use tracing::warn;

use crate::{
    events::{News, Recorder, Severity, reference},
    key::ParentKey,
    metrics::{Metrics, ResourceLabels},
};

/// Objects of one kind whose faults are remembered. Those beyond are counted and logged, but told of to nobody else: who writes
/// thousands of them knows, and they must not cost the operator its memory.
const REMEMBERED: usize = 1000;

/// The objects that cannot be read at the moment, by UID, with what there is to say of them.
#[derive(Debug)]
pub struct Faults {
    known: HashMap<String, News>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
}

impl Faults {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>, recorder: Recorder) -> Self {
        Self { known: HashMap::new(), metrics, recorder }
    }

    /// This object cannot be read. One of the replicas is enough to tell people.
    pub fn report<O: Resource<DynamicType = ()>>(&mut self, key: &ParentKey, uid: &str, error: &str, leading: bool) {
        let ParentKey { namespace, name } = key;
        let news = News {
            regarding: reference::<O>(namespace, name, uid),
            severity: Severity::Warning,
            reason: "Unreadable",
            action: "Read",
            note: format!("left alone, as it cannot be read: {error}"),
        };
        if self.known.len() >= REMEMBERED && !self.known.contains_key(uid) {
            self.metrics
                .unreadable_untold
                .get_or_create(&ResourceLabels { resource: O::plural(&()).into_owned() })
                .inc();
            return;
        }
        let before = self.known.insert(uid.to_owned(), news.clone());
        if before.as_ref() == Some(&news) {
            return;
        }
        let resource = O::plural(&()).into_owned();
        warn!(resource, namespace, name, "{}", news.note);
        if before.is_none() {
            self.metrics.unreadable.get_or_create(&ResourceLabels { resource }).inc();
        }
        if leading {
            self.recorder.tell(news);
        }
    }

    /// This object can be read, or is gone.
    pub fn clear<O: Resource<DynamicType = ()>>(&mut self, uid: &str) {
        if self.known.remove(uid).is_some() {
            self.metrics.unreadable.get_or_create(&ResourceLabels { resource: O::plural(&()).into_owned() }).dec();
        }
    }

    /// Tells people of all of them, as a new leader does.
    pub fn tell_all(&self) {
        for news in self.known.values() {
            self.recorder.tell(news.clone());
        }
    }
}
