//! Which gates need what: an index of the gates' specs. No I/O, no clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use konductor_api::{GateCondition, GateSpec, rendezvous::fact::Dependency};

use super::sources::Subject;
use crate::key::{Key, ParentKey};

/// The gates by what they name and where they look.
#[derive(Default)]
pub(super) struct Needs {
    specs: BTreeMap<Key, Arc<GateSpec>>,
    named: HashMap<(Dependency, Key), BTreeSet<Key>>,
    looking: HashMap<String, BTreeSet<Key>>,
    /// By kind and namespace, also their own.
    placed: HashMap<(Dependency, String), BTreeSet<Key>>,
    /// Conditions on each kind.
    counts: [usize; Dependency::ALL.len()],
    /// Conditions on gates, by the namespace that they are of.
    on_gates: HashMap<String, usize>,
    /// Conditions on gates of another namespace: from that of the gate to the other.
    across: BTreeMap<(String, String), usize>,
    /// The same the other way round.
    into: BTreeMap<(String, String), usize>,
}

/// The namespace that a condition of a gate of this namespace looks at.
pub(super) fn place<'a>(condition: &'a GateCondition, own: &'a str) -> &'a str {
    condition.namespace.as_deref().unwrap_or(own)
}

/// Of a set the keys after this one; all without one.
pub(super) fn after<'a>(keys: &'a BTreeSet<Key>, last: Option<&Key>) -> impl Iterator<Item = &'a Key> {
    keys.range((last.map_or(Unbounded, |last| Excluded(last.clone())), Unbounded))
}

impl Needs {
    /// Notes what a gate needs now; `None` when it is gone. Returns what it needed before and needs now, if that has
    /// changed.
    pub(super) fn set(&mut self, key: &Key, spec: Option<&GateSpec>) -> Option<[Option<Arc<GateSpec>>; 2]> {
        if self.specs.get(key).map(|spec| &**spec) == spec {
            return None;
        }
        let before = self.specs.remove(key);
        for condition in before.iter().flat_map(|spec| &spec.conditions) {
            self.unlink(key, condition);
        }
        let now = spec.cloned().map(Arc::new);
        if let Some(spec) = &now {
            for condition in &spec.conditions {
                self.link(key, condition);
            }
            self.specs.insert(key.clone(), spec.clone());
        }
        Some([before, now])
    }

    /// How much is kept of what.
    pub(super) fn sizes(&self) -> [(&'static str, usize); 4] {
        let all = |sets: &mut dyn Iterator<Item = &BTreeSet<Key>>| sets.map(BTreeSet::len).sum();
        [
            ("specs of gates", self.specs.len()),
            ("gates by what they name", all(&mut self.named.values())),
            ("gates by where they look", all(&mut self.looking.values())),
            ("pairs of namespaces", self.on_gates.len() + self.across.len() + self.into.len()),
        ]
    }

    fn link(&mut self, key: &Key, condition: &GateCondition) {
        self.counts[condition.kind as usize] += 1;
        let place = place(condition, &key.namespace).to_owned();
        self.placed.entry((condition.kind, place.clone())).or_default().insert(key.clone());
        let on_gate = condition.kind == Dependency::Gate;
        if on_gate {
            *self.on_gates.entry(key.namespace.clone()).or_default() += 1;
        }
        if place != key.namespace {
            self.looking.entry(place.clone()).or_default().insert(key.clone());
            if on_gate {
                *self.across.entry((key.namespace.clone(), place.clone())).or_default() += 1;
                *self.into.entry((place.clone(), key.namespace.clone())).or_default() += 1;
            }
        }
        if let Some(name) = &condition.name {
            let object = ParentKey { namespace: place, name: name.clone() };
            self.named.entry((condition.kind, object.into())).or_default().insert(key.clone());
        }
    }

    fn unlink(&mut self, key: &Key, condition: &GateCondition) {
        self.counts[condition.kind as usize] -= 1;
        let place = place(condition, &key.namespace).to_owned();
        remove(&mut self.placed, &(condition.kind, place.clone()), key);
        let on_gate = condition.kind == Dependency::Gate;
        if on_gate && let Some(count) = self.on_gates.get_mut(&key.namespace) {
            *count -= 1;
            if *count == 0 {
                self.on_gates.remove(&key.namespace);
            }
        }
        if place != key.namespace {
            remove(&mut self.looking, &place, key);
            if on_gate {
                less(&mut self.across, &(key.namespace.clone(), place.clone()));
                less(&mut self.into, &(place.clone(), key.namespace.clone()));
            }
        }
        if let Some(name) = &condition.name {
            let object = ParentKey { namespace: place, name: name.clone() };
            remove(&mut self.named, &(condition.kind, object.into()), key);
        }
    }

    /// Whether any gate depends on objects of this kind.
    pub(super) fn any(&self, kind: Dependency) -> bool {
        self.counts[kind as usize] > 0
    }

    /// Whether any gate of this namespace depends on a gate.
    pub(super) fn any_on_gates(&self, namespace: &str) -> bool {
        self.on_gates.contains_key(namespace)
    }

    /// What has to be followed.
    pub(super) fn sources(&self) -> BTreeSet<Subject> {
        let kinds = Dependency::ALL.into_iter().filter(|kind| *kind != Dependency::Gate && self.any(*kind));
        kinds.map(Subject::Objects).chain((!self.looking.is_empty()).then_some(Subject::Namespaces)).collect()
    }

    /// All gates after this one, in order.
    pub(super) fn after(&self, last: Option<&Key>) -> impl Iterator<Item = (&Key, &Arc<GateSpec>)> {
        self.specs.range((last.map_or(Unbounded, |last| Excluded(last.clone())), Unbounded))
    }

    /// The gates of a namespace after this one, in order.
    pub(super) fn of<'a>(
        &'a self,
        namespace: &'a str,
        last: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<GateSpec>)> {
        let first = || Key::from(ParentKey { namespace: namespace.to_owned(), name: String::new() });
        let begin = last.map_or_else(|| Included(first()), |last| Excluded(last.clone()));
        self.specs.range((begin, Unbounded)).take_while(move |(key, _)| key.namespace == namespace)
    }

    /// What a gate needs.
    pub(super) fn spec(&self, key: &Key) -> Option<&Arc<GateSpec>> {
        self.specs.get(key)
    }

    /// The gates that name this object.
    pub(super) fn naming(&self, kind: Dependency, object: &Key) -> Option<&BTreeSet<Key>> {
        self.named.get(&(kind, object.clone()))
    }

    /// The gates of other namespaces that look into this one.
    pub(super) fn looking_into(&self, namespace: &str) -> Option<&BTreeSet<Key>> {
        self.looking.get(namespace)
    }

    /// The gates that look at objects of this kind in this namespace, allowed or not.
    pub(super) fn looking_at(&self, kind: Dependency, namespace: &str) -> Option<&BTreeSet<Key>> {
        self.placed.get(&(kind, namespace.to_owned()))
    }

    /// The other namespaces on whose gates the gates of this one depend.
    pub(super) fn depends_on(&self, namespace: &str) -> impl Iterator<Item = &str> {
        pairs(&self.across, namespace)
    }

    /// The other namespaces whose gates depend on gates of this one.
    pub(super) fn dependents_of(&self, namespace: &str) -> impl Iterator<Item = &str> {
        pairs(&self.into, namespace)
    }
}

fn pairs<'a>(all: &'a BTreeMap<(String, String), usize>, first: &str) -> impl Iterator<Item = &'a str> {
    let from = (first.to_owned(), String::new());
    let first = first.to_owned();
    all.range(from..).map(|(pair, _)| pair).take_while(move |(one, _)| *one == first).map(|(_, other)| other.as_str())
}

fn less(pairs: &mut BTreeMap<(String, String), usize>, pair: &(String, String)) {
    if let Some(count) = pairs.get_mut(pair) {
        *count -= 1;
        if *count == 0 {
            pairs.remove(pair);
        }
    }
}

fn remove<T: std::hash::Hash + Eq>(map: &mut HashMap<T, BTreeSet<Key>>, at: &T, key: &Key) {
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
        assert!(needs.set(&key("a"), Some(&spec)).is_some() && needs.set(&key("b"), Some(&spec)).is_some());
        assert!(needs.set(&key("a"), Some(&spec)).is_none());
        assert_eq!(needs.sources(), BTreeSet::from([Subject::Objects(Dependency::Job), Subject::Namespaces]));
        assert_eq!(needs.naming(Dependency::Job, &key("j")).map(BTreeSet::len), Some(2));
        assert_eq!(needs.looking_into("other").map(BTreeSet::len), Some(2));
        assert_eq!(
            (needs.depends_on("n").collect(), needs.dependents_of("other").collect()),
            (vec!["other"], vec!["n"])
        );
        assert!(needs.any_on_gates("n"));
        assert!(needs.set(&key("a"), None).is_some() && needs.set(&key("b"), None).is_some());
        assert!(needs.sources().is_empty() && needs.specs.is_empty() && needs.on_gates.is_empty());
        assert!(needs.named.is_empty() && needs.looking.is_empty() && needs.placed.is_empty());
        assert!(needs.across.is_empty() && needs.into.is_empty());
    }
}
