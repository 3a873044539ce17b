//! What is known of everything that gates depend on. No I/O, no clock.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use konductor_api::{
    Gate, GateCondition, GateStatus, Rendezvous,
    rendezvous::{
        Plan,
        cycles::cycles,
        fact::{Dependency, Fact},
        gate::{Candidate, Finding, View, allows, decide},
    },
};

use super::{
    needs::{Needs, place},
    sources::{Content, GateSight, Outline, Sighted, Subject},
};
use crate::{
    arbiter::{Key, ParentKey},
    rendezvous::Agenda,
};
use konductor_cluster::watch::{Gone, Seen};

/// The objects of one kind.
#[derive(Default)]
struct Stock {
    objects: HashMap<String, BTreeMap<Box<str>, (u32, Outline)>>,
    /// Of the last list.
    epoch: u32,
    listed: bool,
}

/// The namespaces that let others look, with their annotations.
#[derive(Default)]
struct Hospitable {
    namespaces: HashMap<String, (u32, String)>,
    epoch: u32,
    listed: bool,
}

/// Everything.
#[derive(Default)]
pub(super) struct World {
    needs: Needs,
    stocks: [Stock; Dependency::ALL.len()],
    hospitable: Hospitable,
    /// For each gate that waits for itself: which of its conditions make it so, and the names of the gates on the way.
    cycles: HashMap<Key, BTreeMap<usize, Vec<String>>>,
    /// The gates' ways to each other have changed since cycles were looked for.
    stale: bool,
}

impl World {
    /// What has to be followed.
    pub(super) fn sources(&self) -> HashSet<Subject> {
        self.needs.sources()
    }

    /// All gates have been seen.
    pub(super) fn gates_listed(&mut self, agenda: &mut Agenda) {
        self.stocks[Dependency::Gate as usize].listed = true;
        agenda.mark_all();
    }

    /// A gate is there, new or changed, or is gone.
    pub(super) fn gate(&mut self, key: &Key, gate: Option<&Gate>, agenda: &mut Agenda) {
        self.stale |= self.needs.set(key, gate.map(|gate| &gate.spec));
        match gate {
            Some(gate) => {
                let outline = Outline::new(&gate.metadata, Fact::Rendezvous(gate.phase()));
                self.present(Dependency::Gate, key, &outline, agenda);
            }
            None => self.gone(Dependency::Gate, key, agenda),
        }
    }

    /// Nothing is heard of this any more.
    pub(super) fn forget(&mut self, subject: Subject) {
        match subject {
            Subject::Objects(kind) => self.stocks[kind as usize] = Stock::default(),
            Subject::Namespaces => self.hospitable = Hospitable::default(),
        }
    }

    pub(super) fn take(&mut self, sight: GateSight, agenda: &mut Agenda) {
        let GateSight { subject, seen, .. } = sight;
        match (subject, seen) {
            (Subject::Objects(kind), Seen::Listing) => self.stocks[kind as usize].epoch += 1,
            (Subject::Objects(kind), Seen::Listed) => self.listed(kind, agenda),
            (_, Seen::Present(Sighted { namespace, name, content })) => match (subject, content) {
                (Subject::Objects(kind), Content::Object(outline)) => {
                    self.present(kind, &ParentKey { namespace, name }.into(), &outline, agenda);
                }
                (_, Content::Namespace(annotation)) => self.namespace(&name, annotation.as_deref(), agenda),
                (Subject::Namespaces, Content::Object(_)) => {}
            },
            (Subject::Objects(kind), Seen::Gone(Gone { namespace, name, .. })) => {
                self.gone(kind, &ParentKey { namespace, name }.into(), agenda);
            }
            (Subject::Namespaces, Seen::Listing) => self.hospitable.epoch += 1,
            (Subject::Namespaces, Seen::Listed) => {
                let epoch = self.hospitable.epoch;
                let old = self.hospitable.namespaces.iter().filter(|(_, (seen, _))| *seen != epoch);
                let old: Vec<_> = old.map(|(name, _)| name.clone()).collect();
                for name in old {
                    self.namespace(&name, None, agenda);
                }
                self.hospitable.listed = true;
                self.stale = true;
                agenda.mark_all();
            }
            (Subject::Namespaces, Seen::Gone(gone)) => self.namespace(&gone.name, None, agenda),
        }
    }

    fn listed(&mut self, kind: Dependency, agenda: &mut Agenda) {
        let stock = &mut self.stocks[kind as usize];
        let epoch = stock.epoch;
        let mut old = Vec::new();
        for (namespace, objects) in &stock.objects {
            let names = objects.iter().filter(|(_, (seen, _))| *seen != epoch).map(|(name, _)| name.to_string());
            old.extend(names.map(|name| Key::from(ParentKey { namespace: namespace.clone(), name })));
        }
        if !std::mem::replace(&mut stock.listed, true) {
            agenda.mark_all();
        }
        for key in old {
            self.gone(kind, &key, agenda);
        }
    }

    fn present(&mut self, kind: Dependency, key: &Key, outline: &Outline, agenda: &mut Agenda) {
        let stock = &mut self.stocks[kind as usize];
        let epoch = stock.epoch;
        if !stock.objects.contains_key(&key.namespace) {
            stock.objects.insert(key.namespace.clone(), BTreeMap::new());
        }
        let Some(objects) = stock.objects.get_mut(&key.namespace) else { return };
        let before = objects.insert(key.name.as_str().into(), (epoch, outline.clone())).map(|(_, outline)| outline);
        if before.as_ref() != Some(outline) {
            self.touch(kind, key, before.as_ref(), Some(outline), agenda);
        }
    }

    fn gone(&mut self, kind: Dependency, key: &Key, agenda: &mut Agenda) {
        let Some(objects) = self.stocks[kind as usize].objects.get_mut(&key.namespace) else { return };
        let before = objects.remove(key.name.as_str());
        if objects.is_empty() {
            self.stocks[kind as usize].objects.remove(&key.namespace);
        }
        if let Some((_, before)) = before {
            self.touch(kind, key, Some(&before), None, agenda);
        }
    }

    /// Asks for a decision on the gates that depend on the object.
    fn touch(
        &mut self,
        kind: Dependency,
        key: &Key,
        before: Option<&Outline>,
        after: Option<&Outline>,
        agenda: &mut Agenda,
    ) {
        if kind == Dependency::Gate {
            let labels = |outline: Option<&Outline>| outline.map(|outline| outline.labels.clone());
            self.stale |= labels(before) != labels(after);
        }
        self.needs.naming(kind, key).for_each(|gate| agenda.mark(gate));
        for (gate, spec) in self.needs.selecting(kind, &key.namespace) {
            let selects = |condition: &GateCondition| {
                let selector = condition.selector.as_ref().filter(|_| condition.kind == kind);
                let outlines = before.into_iter().chain(after);
                selector.is_some_and(|selector| {
                    outlines.into_iter().any(|outline| selector.matches(|key| outline.label(key)))
                })
            };
            if spec.conditions.iter().any(selects) {
                agenda.mark(gate);
            }
        }
    }

    fn namespace(&mut self, name: &str, annotation: Option<&str>, agenda: &mut Agenda) {
        let epoch = self.hospitable.epoch;
        let before = match annotation {
            Some(annotation) => self.hospitable.namespaces.insert(name.to_owned(), (epoch, annotation.to_owned())),
            None => self.hospitable.namespaces.remove(name),
        };
        if before.as_ref().map(|(_, annotation)| annotation.as_str()) != annotation {
            self.stale = true;
            self.needs.looking_into(name).for_each(|gate| agenda.mark(gate));
        }
    }

    fn allows(&self, gates_of: &str, namespace: &str) -> bool {
        let annotation = self.hospitable.namespaces.get(namespace).map(|(_, annotation)| annotation.as_str());
        gates_of == namespace || allows(annotation, gates_of)
    }

    /// The objects that a condition of a gate of this namespace names or selects.
    fn objects<'a>(&'a self, condition: &'a GateCondition, own: &str) -> Vec<(&'a str, &'a Outline)> {
        let objects = self.stocks[condition.kind as usize].objects.get(place(condition, own));
        let all = objects.into_iter().flatten().map(|(name, (_, outline))| (&**name, outline));
        match (&condition.name, &condition.selector) {
            (Some(name), _) => {
                let found = objects.and_then(|objects| objects.get_key_value(name.as_str()));
                found.map(|(name, (_, outline))| (&**name, outline)).into_iter().collect()
            }
            (None, Some(selector)) => all.filter(|(_, outline)| selector.matches(|key| outline.label(key))).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Looks for gates that wait for themselves, if any way between gates has changed.
    pub(super) fn find_cycles(&mut self, agenda: &mut Agenda) {
        let some = self.needs.any(Dependency::Gate) || !self.cycles.is_empty();
        if !std::mem::take(&mut self.stale) || !some {
            return;
        }
        let gates: Vec<_> = self.needs.gates().collect();
        let numbers: HashMap<&Key, usize> = gates.iter().enumerate().map(|(number, (key, _))| (*key, number)).collect();
        let mut edges = vec![Vec::new(); gates.len()];
        // Of each edge the condition that it comes from.
        let mut origins = vec![Vec::new(); gates.len()];
        for (from, (key, spec)) in gates.iter().enumerate() {
            // What is overridden waits for nothing.
            let conditions = spec.conditions.iter().enumerate().filter(|_| spec.r#override.is_none());
            for (number, condition) in conditions.filter(|(_, condition)| condition.kind == Dependency::Gate) {
                let namespace = place(condition, &key.namespace);
                if !self.allows(&key.namespace, namespace) {
                    continue;
                }
                for (name, _) in self.objects(condition, &key.namespace) {
                    let target = Key::from(ParentKey { namespace: namespace.into(), name: name.into() });
                    if let Some(to) = numbers.get(&target) {
                        edges[from].push(*to);
                        origins[from].push(number);
                    }
                }
            }
        }
        let mut found: HashMap<Key, BTreeMap<usize, Vec<String>>> = HashMap::new();
        for ((from, ways), origins) in cycles(&edges).into_iter().enumerate().zip(origins) {
            let own = gates[from].0;
            for (way, condition) in ways.into_iter().zip(origins).filter(|(way, _)| !way.is_empty()) {
                let names = way.into_iter().map(|gate| {
                    let key = gates[gate].0;
                    let elsewhere = key.namespace != own.namespace;
                    if elsewhere { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() }
                });
                found.entry(own.clone()).or_default().entry(condition).or_insert_with(|| names.collect());
            }
        }
        for key in self.cycles.keys().chain(found.keys()) {
            if self.cycles.get(key) != found.get(key) {
                agenda.mark(key);
            }
        }
        self.cycles = found;
    }

    /// What to do about a gate; `None` while what it depends on is not known yet.
    pub(super) fn decide(&self, key: &Key, gate: &Gate, now: Timestamp) -> Option<Plan<GateStatus>> {
        let findings = gate.spec.conditions.iter().enumerate();
        let findings: Option<Vec<_>> = findings.map(|(number, one)| self.finding(key, number, one)).collect();
        let view = View {
            namespace: &key.namespace,
            spec: &gate.spec,
            generation: gate.metadata.generation,
            status: gate.status.as_ref(),
            findings: findings?,
        };
        Some(decide(&view, now))
    }

    fn finding<'a>(&'a self, gate: &Key, number: usize, condition: &'a GateCondition) -> Option<Finding<'a>> {
        let namespace = place(condition, &gate.namespace);
        if namespace != gate.namespace && !self.hospitable.listed {
            return None;
        }
        if !self.allows(&gate.namespace, namespace) {
            return Some(Finding::Forbidden);
        }
        if !self.stocks[condition.kind as usize].listed {
            return None;
        }
        if let Some(way) = self.cycles.get(gate).and_then(|conditions| conditions.get(&number)) {
            return Some(Finding::Cycle(way.clone()));
        }
        let objects = self.objects(condition, &gate.namespace).into_iter();
        let candidate =
            |(name, outline): (&'a str, &'a Outline)| Candidate { name, created: outline.created, fact: outline.fact };
        Some(Finding::Objects(objects.map(candidate).collect()))
    }
}
