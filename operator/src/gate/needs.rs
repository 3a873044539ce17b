//! Which gates need what: an index of the gates' specs. No I/O, no clock.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use konductor_api::{GateCondition, GateSpec, rendezvous::fact::Dependency};

use super::sources::Subject;
use crate::arbiter::{Key, ParentKey};

/// The gates by what they name and where they look.
#[derive(Default)]
pub(super) struct Needs {
    specs: HashMap<Key, Arc<GateSpec>>,
    named: HashMap<(Dependency, Key), HashSet<Key>>,
    selecting: HashMap<(Dependency, String), HashSet<Key>>,
    looking: HashMap<String, HashSet<Key>>,
    /// Conditions on each kind.
    counts: [usize; Dependency::ALL.len()],
}

/// The namespace that a condition of a gate of this namespace looks at.
pub(super) fn place<'a>(condition: &'a GateCondition, own: &'a str) -> &'a str {
    condition.namespace.as_deref().unwrap_or(own)
}

impl Needs {
    /// Notes what a gate needs now; `None` when it is gone. Returns whether that has changed.
    pub(super) fn set(&mut self, key: &Key, spec: Option<&GateSpec>) -> bool {
        if self.specs.get(key).map(|spec| &**spec) == spec {
            return false;
        }
        if let Some(before) = self.specs.remove(key) {
            for condition in &before.conditions {
                self.unlink(key, condition);
            }
        }
        if let Some(spec) = spec {
            for condition in &spec.conditions {
                self.link(key, condition);
            }
            self.specs.insert(key.clone(), Arc::new(spec.clone()));
        }
        true
    }

    fn link(&mut self, key: &Key, condition: &GateCondition) {
        self.counts[condition.kind as usize] += 1;
        let place = place(condition, &key.namespace).to_owned();
        if place != key.namespace {
            self.looking.entry(place.clone()).or_default().insert(key.clone());
        }
        match &condition.name {
            Some(name) => {
                let object = ParentKey { namespace: place, name: name.clone() };
                self.named.entry((condition.kind, object.into())).or_default().insert(key.clone());
            }
            None => {
                self.selecting.entry((condition.kind, place)).or_default().insert(key.clone());
            }
        }
    }

    fn unlink(&mut self, key: &Key, condition: &GateCondition) {
        self.counts[condition.kind as usize] -= 1;
        let place = place(condition, &key.namespace).to_owned();
        remove(&mut self.looking, &place, key);
        match &condition.name {
            Some(name) => {
                let object = ParentKey { namespace: place, name: name.clone() };
                remove(&mut self.named, &(condition.kind, object.into()), key);
            }
            None => remove(&mut self.selecting, &(condition.kind, place), key),
        }
    }

    /// Whether any gate depends on objects of this kind.
    pub(super) fn any(&self, kind: Dependency) -> bool {
        self.counts[kind as usize] > 0
    }

    /// What has to be followed.
    pub(super) fn sources(&self) -> HashSet<Subject> {
        let kinds = Dependency::ALL.into_iter().filter(|kind| *kind != Dependency::Gate && self.any(*kind));
        kinds.map(Subject::Objects).chain((!self.looking.is_empty()).then_some(Subject::Namespaces)).collect()
    }

    /// All gates.
    pub(super) fn gates(&self) -> impl Iterator<Item = (&Key, &GateSpec)> {
        self.specs.iter().map(|(key, spec)| (key, &**spec))
    }

    /// The gates that name this object.
    pub(super) fn naming(&self, kind: Dependency, object: &Key) -> impl Iterator<Item = &Key> {
        self.named.get(&(kind, object.clone())).into_iter().flatten()
    }

    /// The gates that select objects of this kind in this namespace.
    pub(super) fn selecting(&self, kind: Dependency, namespace: &str) -> impl Iterator<Item = (&Key, &GateSpec)> {
        let keys = self.selecting.get(&(kind, namespace.to_owned())).into_iter().flatten();
        keys.filter_map(|key| Some((key, &**self.specs.get(key)?)))
    }

    /// The gates of other namespaces that look into this one.
    pub(super) fn looking_into(&self, namespace: &str) -> impl Iterator<Item = &Key> {
        self.looking.get(namespace).into_iter().flatten()
    }
}

fn remove<T: std::hash::Hash + Eq>(map: &mut HashMap<T, HashSet<Key>>, at: &T, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        ParentKey { namespace: "n".into(), name: name.into() }.into()
    }

    #[test]
    fn what_a_gate_does_not_need_any_more_leaves_nothing_behind() {
        let spec: GateSpec = serde_json::from_value(json!({ "conditions": [
            { "type": "Job", "name": "j", "state": "Complete" },
            { "type": "Job", "selector": { "matchLabels": { "a": "b" } }, "state": "Complete" },
            { "type": "Gate", "name": "g", "state": "Open", "namespace": "other" },
        ]}))
        .expect("a spec");
        let mut needs = Needs::default();
        assert!(needs.set(&key("a"), Some(&spec)) && needs.set(&key("b"), Some(&spec)));
        assert!(!needs.set(&key("a"), Some(&spec)));
        assert_eq!(needs.sources(), HashSet::from([Subject::Objects(Dependency::Job), Subject::Namespaces]));
        assert_eq!(needs.naming(Dependency::Job, &key("j")).count(), 2);
        assert_eq!((needs.selecting(Dependency::Job, "n").count(), needs.looking_into("other").count()), (2, 2));
        assert!(needs.set(&key("a"), None) && needs.set(&key("b"), None));
        assert!(needs.sources().is_empty() && needs.specs.is_empty());
        assert!(needs.named.is_empty() && needs.selecting.is_empty() && needs.looking.is_empty());
    }
}
