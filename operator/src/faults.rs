//! Objects that cannot be read: told of once each time what there is to say changes, counted, and left alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use konductor_cluster::{
    follow::Event,
    object::{Described, Lenient, Metadata, NO_VERSION},
};
use kube::Resource;
use tracing::warn;

use crate::{
    events::{News, Recorder, Severity, reference},
    metrics::{Metrics, ResourceLabels},
};

/// Objects of one namespace whose faults are remembered, and so many in all. Those beyond are logged and counted each
/// time they are seen, and told of to nobody else: who writes hundreds of them knows, and they must cost neither memory
/// nor the others' news.
const SHARE: usize = 100;
const REMEMBERED: usize = 1000;

/// What is kept of an object: its UID, or why it cannot be read.
pub(crate) type Noted = Result<String, Box<Fault>>;

/// An object that cannot be read, and why.
pub(crate) struct Fault {
    namespace: String,
    name: String,
    uid: String,
    error: String,
}

/// What is kept of this object.
pub(crate) fn note<O: Described>(object: &Lenient<O>) -> Noted {
    let Metadata { namespace, name, uid, .. } = object.metadata();
    let Err(misfit) = object else { return Ok(uid.clone()) };
    let (namespace, name, uid, error) = (namespace.clone(), name.clone(), uid.clone(), misfit.error.clone());
    Err(Box::new(Fault { namespace, name, uid, error }))
}

struct Known {
    news: News,
    namespace: String,
    epoch: u32,
}

/// The objects of one resource that cannot be read at the moment.
pub(crate) struct Faults {
    resource: String,
    reference: fn(&str, &str, &str) -> k8s_openapi::api::core::v1::ObjectReference,
    /// By UID.
    known: BTreeMap<String, Known>,
    namespaces: HashMap<String, usize>,
    epoch: u32,
    metrics: Arc<Metrics>,
    recorder: Recorder,
}

impl Faults {
    /// None yet, of the resource `K`.
    pub(crate) fn of<K: Resource<DynamicType = ()>>(metrics: Arc<Metrics>, recorder: Recorder) -> Self {
        Self {
            resource: K::plural(&()).into_owned(),
            reference: reference::<K>,
            known: BTreeMap::new(),
            namespaces: HashMap::new(),
            epoch: 0,
            metrics,
            recorder,
        }
    }

    /// Takes in what was seen. One of the replicas is enough to tell people: the leader.
    pub(crate) fn observe<A>(&mut self, event: &Event<(Noted, A)>, leading: bool) {
        match event {
            Event::Init => self.epoch += 1,
            // Something could not be read at all: that may be any of them.
            Event::InitDone { version: NO_VERSION } => {}
            Event::InitDone { .. } => {
                let gone = self.known.iter().filter(|(_, known)| known.epoch != self.epoch);
                let gone: Vec<_> = gone.map(|(uid, _)| uid.clone()).collect();
                for uid in gone {
                    self.clear(&uid);
                }
            }
            Event::Apply((Ok(uid), _)) => self.clear(uid),
            Event::Apply((Err(fault), _)) => self.report(fault, leading),
            Event::Delete(deleted) => self.clear(&deleted.uid),
        }
    }

    fn report(&mut self, fault: &Fault, leading: bool) {
        let Fault { namespace, name, uid, error } = fault;
        let note = format!("left alone, as it cannot be read: {error}");
        let (epoch, resource) = (self.epoch, self.resource.as_str());
        if let Some(known) = self.known.get_mut(uid) {
            known.epoch = epoch;
            if known.news.note == note {
                return;
            }
        }
        warn!(resource, namespace, name, "{note}");
        let labels = ResourceLabels { resource: self.resource.clone() };
        let is_new = !self.known.contains_key(uid);
        let of_namespace = self.namespaces.get(namespace).copied().unwrap_or(0);
        if is_new && (of_namespace >= SHARE || self.known.len() >= REMEMBERED) {
            self.metrics.unreadable_untold.get_or_create(&labels).inc();
            return;
        }
        if is_new {
            self.namespaces.insert(namespace.clone(), of_namespace + 1);
            self.metrics.unreadable.get_or_create(&labels).inc();
        }
        let regarding = (self.reference)(namespace, name, uid);
        let news = News { regarding, severity: Severity::Warning, reason: "Unreadable", action: "Read", note };
        self.known.insert(uid.clone(), Known { news: news.clone(), namespace: namespace.clone(), epoch });
        if leading {
            self.recorder.tell(news);
        }
    }

    /// This object can be read, or is gone.
    fn clear(&mut self, uid: &str) {
        let Some(Known { namespace, .. }) = self.known.remove(uid) else { return };
        if let Some(count) = self.namespaces.get_mut(&namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&namespace);
            }
        }
        self.metrics.unreadable.get_or_create(&ResourceLabels { resource: self.resource.clone() }).dec();
    }

    /// Tells people of all of them, as a new leader does.
    pub(crate) fn tell_all(&self) {
        for known in self.known.values() {
            self.recorder.tell(known.news.clone());
        }
    }
}

impl Drop for Faults {
    /// What is not followed any more is nobody's concern.
    fn drop(&mut self) {
        let labels = ResourceLabels { resource: self.resource.clone() };
        self.metrics.unreadable.get_or_create(&labels).dec_by(self.known.len() as i64);
    }
}

#[cfg(test)]
mod tests {
    use konductor_api::Permit;
    use konductor_cluster::{follow::Deleted, object::Object};
    use serde::de::IgnoredAny;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::Clock;

    fn permit(namespace: &str, name: &str, readable: bool) -> Event<(Noted, ())> {
        let status = if readable { json!("fine") } else { json!({ "phase": 1 }) };
        let metadata = json!({ "namespace": namespace, "name": name, "uid": format!("{namespace}/{name}") });
        let object = json!({ "metadata": metadata, "spec": {}, "status": status });
        let object = Object::<Permit, IgnoredAny, Option<String>>::read(&object.to_string()).expect("an object");
        Event::Apply((note(&object), ()))
    }

    fn faults() -> (Faults, mpsc::Receiver<News>, Arc<Metrics>) {
        let metrics = Metrics::new(Clock::start());
        let (recorder, told) = Recorder::new(metrics.clone());
        let told = told.objects;
        (Faults::of::<Permit>(metrics.clone(), recorder), told, metrics)
    }

    fn count(metrics: &Metrics) -> i64 {
        metrics.unreadable.get_or_create(&ResourceLabels { resource: "permits".into() }).get()
    }

    #[test]
    fn each_is_told_of_once_and_counted_until_it_can_be_read_or_is_gone() {
        let (mut faults, mut told, metrics) = faults();
        for name in ["a", "a", "b", "c"] {
            faults.observe(&permit("n", name, false), true);
        }
        let mut notes = Vec::new();
        while let Ok(news) = told.try_recv() {
            notes.push(news.regarding.name.unwrap_or_default());
        }
        assert_eq!((notes, count(&metrics)), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], 3));
        faults.observe(&permit("n", "a", true), true);
        let (namespace, name, uid) = ("n".into(), "b".into(), "n/b".into());
        faults.observe::<()>(&Event::Delete(Deleted { namespace, name, uid, version: 1 }), true);
        assert_eq!(count(&metrics), 1);
        // Deleted while nobody watched.
        faults.observe::<()>(&Event::Init, true);
        faults.observe::<()>(&Event::InitDone { version: 1 }, true);
        assert_eq!((count(&metrics), faults.namespaces.len()), (0, 0));
    }

    #[test]
    fn one_namespace_leaves_the_others_room_and_a_standby_is_silent() {
        let (mut faults, mut told, metrics) = faults();
        for number in 0..10 * SHARE {
            faults.observe(&permit("many", &number.to_string(), false), false);
        }
        faults.observe(&permit("one", "a", false), false);
        assert_eq!(count(&metrics), SHARE as i64 + 1);
        assert!(told.try_recv().is_err());
        faults.tell_all();
        assert!(told.try_recv().is_ok());
        drop(faults);
        assert_eq!(count(&metrics), 0);
    }
}
