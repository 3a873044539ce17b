//! Objects that cannot be read: reported once each time what there is to say changes, counted, and left alone.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use konductor_cluster::follow::Event;
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
    /// Those that the list that is under way has not shown yet.
    unseen: HashSet<String>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
}

/// What is kept of an object that a watch has shown.
pub trait Sight {
    /// The object's UID.
    fn uid(&self) -> &str;

    /// The object's name and what is wrong with it, if it cannot be read.
    fn fault(&self) -> Option<(ParentKey, &str)>;
}

impl Faults {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>, recorder: Recorder) -> Self {
        Self { known: HashMap::new(), unseen: HashSet::new(), metrics, recorder }
    }

    /// A watch of all objects of a kind has shown this.
    pub fn watched<O: Resource<DynamicType = ()>>(&mut self, event: &Event<impl Sight>, leading: bool) {
        match event {
            Event::Init => self.unseen = self.known.keys().cloned().collect(),
            Event::InitDone { .. } => {
                for uid in mem::take(&mut self.unseen) {
                    self.clear::<O>(&uid);
                }
            }
            Event::Apply(sight) => {
                self.unseen.remove(sight.uid());
                match sight.fault() {
                    Some((key, error)) => self.report::<O>(&key, sight.uid(), error, leading),
                    None => self.clear::<O>(sight.uid()),
                }
            }
            Event::Delete(gone) => self.clear::<O>(&gone.uid),
        }
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
