//! Looks for gates that wait for themselves, in pieces. No I/O, no clock.
//!
//! A cycle stays within namespaces that let each other look, all the way round. So what is searched is one namespace,
//! and those that it depends on and that depend on it ([`Hunt::unit`]): no namespace can make the search of another one
//! longer unless both have agreed to look at each other.
//!
//! A gate may change while it is looked at. What is found is about the spec that was looked at, and counts for that one
//! only; the change asks for another hunt.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use konductor_api::{
    GateSpec, Selector,
    limits::MAX_WAYS,
    rendezvous::{
        cycles::{Search, WALK, Way},
        fact::Dependency,
        gate::Cycle,
    },
};

use super::{
    cache::Stock,
    needs::{Needs, place},
    partition::Seen,
};
use crate::{
    key::{Key, ParentKey},
    tasks::room,
};

/// What is known of a gate's ways to itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Ways {
    /// Nothing, as it is new or edited.
    #[default]
    Unknown,
    /// Which of its conditions make it wait for itself, and how.
    Known(BTreeMap<usize, Cycle>),
    /// There are too many to look at.
    Tangled,
}

/// What was found about one gate.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) gate: Key,
    /// The spec that this is about.
    pub(super) spec: Arc<GateSpec>,
    pub(super) ways: Ways,
}

#[derive(Debug)]
enum Stage {
    /// Gates are gathered: those of the namespaces before this one, and up to the last of those gathered.
    Gather(usize),
    /// This gate's conditions become edges.
    Connect(usize),
    /// This selector's objects become edges: those up to this name are.
    Expand(usize, Option<Box<str>>),
    Search(Box<Search>),
    /// What was found about this gate is next.
    Report(usize, Option<Box<Search>>),
}

/// How far a hunt has come.
#[derive(Debug)]
pub(super) enum Progress {
    /// There is more to do.
    More,
    /// This was found, and there is more to do.
    Found(Found),
    /// All is found.
    Done,
}

/// One search, of namespaces that depend on each other.
#[derive(Debug)]
pub(super) struct Hunt {
    unit: Arc<[String]>,
    stage: Stage,
    gates: Vec<(Key, Arc<GateSpec>)>,
    numbers: HashMap<Key, u32>,
    /// Selectors, where they select. Their nodes come after those of the gates.
    groups: Vec<(String, Selector)>,
    group_numbers: HashMap<(String, Selector), u32>,
    edges: Vec<Vec<u32>>,
    /// Of each edge of a gate the condition that it comes from.
    origins: Vec<Vec<usize>>,
    ways: usize,
}

impl Hunt {
    /// The namespaces from which this one can be reached and that can be reached from it, itself among them.
    pub(super) fn unit(
        namespace: &str,
        needs: &Needs,
        allows: impl Fn(&str, &str) -> bool,
        budget: &mut isize,
    ) -> Arc<[String]> {
        let mut reach = |forward: bool| {
            let mut reached = BTreeSet::from([namespace.to_owned()]);
            let mut next = vec![namespace.to_owned()];
            while let Some(from) = next.pop() {
                let mut visit = |to: &str, allowed: bool| {
                    *budget -= 1;
                    if allowed && reached.insert(to.to_owned()) {
                        next.push(to.to_owned());
                    }
                };
                if forward {
                    needs.depends_on(&from).for_each(|to| visit(to, allows(&from, to)));
                } else {
                    needs.dependents_of(&from).for_each(|to| visit(to, allows(to, &from)));
                }
            }
            reached
        };
        let (forward, backward) = (reach(true), reach(false));
        forward.into_iter().filter(|one| backward.contains(one)).collect()
    }

    /// A search of these namespaces.
    pub(super) fn new(unit: Arc<[String]>) -> Self {
        Self {
            unit,
            stage: Stage::Gather(0),
            gates: Vec::new(),
            numbers: HashMap::new(),
            groups: Vec::new(),
            group_numbers: HashMap::new(),
            edges: Vec::new(),
            origins: Vec::new(),
            ways: 0,
        }
    }

    /// The namespaces that it searches.
    pub(super) fn namespaces(&self) -> &Arc<[String]> {
        &self.unit
    }

    /// How many gates it has gathered.
    pub(super) fn gates(&self) -> usize {
        self.gates.len()
    }

    /// Whether it has told what it found about this gate.
    pub(super) fn has_told(&self, gate: &Key) -> bool {
        let number = self.numbers.get(gate).map(|number| *number as usize);
        matches!(self.stage, Stage::Report(next, _) if number.is_some_and(|number| number < next))
    }

    /// Goes on until `budget` is used up, one for each object or edge looked at, or there is something to tell or
    /// nothing is left. `stock` are the gates as objects.
    pub(super) fn work(
        &mut self,
        needs: &Needs,
        stock: &Stock,
        allows: impl Fn(&str, &str) -> bool,
        budget: &mut isize,
    ) -> Progress {
        while *budget > 0 {
            match &mut self.stage {
                Stage::Gather(place) => {
                    let Some(namespace) = self.unit.get(*place) else {
                        self.edges = vec![Vec::new(); self.gates.len()];
                        self.origins = vec![Vec::new(); self.gates.len()];
                        self.stage = Stage::Connect(0);
                        continue;
                    };
                    let last = self.gates.last().map(|(key, _)| key).filter(|key| key.namespace == *namespace);
                    let gates = needs.of(namespace, last).take(room(*budget));
                    let gates: Vec<_> = gates.map(|(key, spec)| (key.clone(), spec.clone())).collect();
                    *budget -= gates.len() as isize;
                    *place += usize::from(*budget > 0);
                    let numbers = gates.iter().map(|(key, _)| key.clone()).zip(self.gates.len() as u32..);
                    self.numbers.extend(numbers);
                    self.gates.extend(gates);
                }
                Stage::Connect(gate) if *gate == self.gates.len() => {
                    self.edges.resize(self.gates.len() + self.groups.len(), Vec::new());
                    self.stage = Stage::Expand(0, None);
                }
                Stage::Connect(gate) => {
                    let number = *gate;
                    *gate += 1;
                    *budget -= (1 + self.connect(number, &allows)) as isize;
                }
                Stage::Expand(group, _) if *group == self.groups.len() => {
                    let search = Search::new(std::mem::take(&mut self.edges));
                    self.stage = Stage::Search(Box::new(search));
                }
                Stage::Expand(..) => self.expand(stock, budget),
                Stage::Search(search) => {
                    if search.work(budget)
                        && let Stage::Search(search) = std::mem::replace(&mut self.stage, Stage::Report(0, None))
                    {
                        self.stage = Stage::Report(0, Some(search));
                    }
                }
                Stage::Report(gate, _) => {
                    let number = *gate;
                    *gate += 1;
                    let Stage::Report(_, search) = &self.stage else { continue };
                    let Some((key, spec)) = self.gates.get(number) else { return Progress::Done };
                    let ways = match search {
                        Some(search) => Ways::Known(self.cycles(number, search)),
                        None if spec.conditions.iter().any(|one| one.kind == Dependency::Gate) => Ways::Tangled,
                        None => Ways::Known(BTreeMap::new()),
                    };
                    let found = if let Ways::Known(found) = &ways { found.len() } else { 0 };
                    *budget -= (1 + self.origins[number].len() + found * WALK) as isize;
                    return Progress::Found(Found { gate: key.clone(), spec: spec.clone(), ways });
                }
            }
        }
        Progress::More
    }
}

impl Hunt {
    /// Makes edges of a gate's conditions. Returns how many conditions it has.
    fn connect(&mut self, number: usize, allows: impl Fn(&str, &str) -> bool) -> usize {
        let (key, spec) = &self.gates[number];
        // What is overridden waits for nothing.
        let conditions = spec.conditions.iter().enumerate().filter(|_| spec.r#override.is_none());
        for (origin, condition) in conditions.filter(|(_, condition)| condition.kind == Dependency::Gate) {
            let namespace = place(condition, &key.namespace);
            if !allows(&key.namespace, namespace) {
                continue;
            }
            let to = match (&condition.name, &condition.selector) {
                (Some(name), _) => {
                    let target = ParentKey { namespace: namespace.to_owned(), name: name.clone() };
                    self.numbers.get(&target).copied()
                }
                (None, Some(selector)) => {
                    let group = (namespace.to_owned(), selector.clone());
                    let next = (self.gates.len() + self.groups.len()) as u32;
                    Some(*self.group_numbers.entry(group).or_insert_with_key(|group| {
                        self.groups.push(group.clone());
                        next
                    }))
                }
                (None, None) => None,
            };
            if let Some(to) = to {
                self.edges[number].push(to);
                self.origins[number].push(origin);
                self.ways += 1;
            }
        }
        spec.conditions.len()
    }

    /// Makes edges of what a selector selects.
    fn expand(&mut self, stock: &Stock, budget: &mut isize) {
        let Stage::Expand(group, last) = &mut self.stage else { return };
        let (namespace, selector) = &self.groups[*group];
        let begin = last.as_deref().map_or(Unbounded, Excluded);
        let objects = stock.part(namespace).map(|part| part.objects().range::<str, _>((begin, Unbounded)));
        let (mut passed, looks) = (None, selector.looks() as isize);
        for (name, Seen { outline, .. }) in objects.into_iter().flatten() {
            if *budget <= 0 {
                break;
            }
            *budget -= looks;
            passed = Some(name.clone());
            if outline.is_selected_by(selector) {
                let target = ParentKey { namespace: namespace.clone(), name: name.to_string() };
                if let Some(to) = self.numbers.get(&target) {
                    self.edges[self.gates.len() + *group].push(*to);
                    self.ways += 1;
                }
            }
        }
        if *budget <= 0 {
            *last = passed.or(last.take());
        } else {
            *budget -= 1;
            (*group, *last) = (*group + 1, None);
        }
        if self.ways > MAX_WAYS {
            self.edges = Vec::new();
            self.stage = Stage::Report(0, None);
        }
    }

    /// A cycle for each condition of a gate that closes one.
    fn cycles(&self, number: usize, search: &Search) -> BTreeMap<usize, Cycle> {
        let mut found = BTreeMap::new();
        let own = &self.gates[number].0.namespace;
        let from = number as u32;
        for (to, origin) in search.targets(from).iter().zip(&self.origins[number]) {
            if found.contains_key(origin) {
                continue;
            }
            let (nodes, whole) = match search.way(from, *to) {
                Some(Way::Whole(nodes)) => (nodes, true),
                Some(Way::Partial(nodes)) => (nodes, false),
                None => continue,
            };
            // Selectors are passed over.
            let gates = nodes.iter().filter_map(|node| self.gates.get(*node as usize));
            let gates = gates.map(|(key, _)| {
                if key.namespace == *own { key.name.clone() } else { format!("{}/{}", key.namespace, key.name) }
            });
            found.insert(*origin, Cycle { gates: gates.collect(), whole });
        }
        found
    }
}
