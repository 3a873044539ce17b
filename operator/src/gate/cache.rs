//! What is known of everything that gates depend on, and which gates are to be decided on. No I/O, no clock.
//!
//! # What a turn costs
//! Taking in what was seen costs a look at the object and at each different question asked where it is
//! ([`partition`](super::partition)). Everything that can be more than that is put off, and done in pieces by
//! [`DependencyCache::work`]: counting what a selector selects, telling the gates that depend on one thing, looking for
//! cycles ([`hunt`](super::hunt)), clearing away what a list does not show any more. Namespaces take turns at it. A gate
//! whose answer is not there yet is not decided on, and stays as it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    mem,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use konductor_api::{
    GateCondition, GateSpec, GateStatus,
    arbiter::Now,
    limits::{MAX_LOOKED_AT, MAX_SELECTIONS},
    rendezvous::{
        Plan, Since,
        fact::Dependency,
        gate::{Finding, View, allows, decide},
    },
};
use konductor_cluster::{
    follow::{Deleted, Event},
    object::NO_VERSION,
};

use super::{
    hunt::{Found, Hunt, Progress, Ways},
    needs::{Needs, after, place},
    partition::{Partition, Question, Seen},
    places::{Place, Standing},
    sources::{Content, GateObject, Listed, Outline, Shown, Sighted, Subject, Watched, Wish, own},
};
use crate::{
    engine::Sizes,
    key::{Key, ParentKey},
    tasks::{SLICE, Tasks, Turn, room},
};

/// The objects of one kind.
#[derive(Default)]
pub(super) struct Stock {
    pub(super) parts: BTreeMap<String, Partition>,
    /// Of the last list.
    pub(super) epoch: u32,
    pub(super) listed: bool,
    /// A list is under way.
    pub(super) listing: bool,
    /// The namespaces of which objects are kept; of gates those of all are.
    pub(super) places: BTreeMap<String, Place>,
}

impl Stock {
    /// Those of one namespace.
    pub(super) fn part(&self, namespace: &str) -> Option<&Partition> {
        self.parts.get(namespace)
    }
}

/// The namespaces that let others look, with their annotations.
#[derive(Default)]
pub(super) struct Hospitable {
    namespaces: HashMap<String, (u32, String)>,
    epoch: u32,
    listed: bool,
}

impl Hospitable {
    pub(super) fn allows(&self, gates_of: &str, namespace: &str) -> bool {
        let annotation = self.namespaces.get(namespace).map(|(_, annotation)| annotation.as_str());
        gates_of == namespace || allows(annotation, gates_of)
    }
}

/// What has changed for all gates that depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// An object that they name.
    Object(Dependency, Key),
    /// What a namespace lets others see.
    Namespace(String),
    /// What there is of a kind in a namespace: it has come to be known, or is too much.
    Place(Dependency, String),
}

/// What is done in pieces.
pub(super) enum Task {
    /// Counting, and telling those who ask.
    Answer(Arc<Question>),
    /// Asking for decisions on all gates that this concerns; those up to this one are done.
    Tell(Cause, Option<Key>),
    /// A kind, or the namespaces, have been seen for the first time: the gates that depend on it; those up to this one
    /// are done.
    Begin(Subject, Option<Key>),
    /// Taking away what was last seen before this list and is not newer than its version; what comes up to this object
    /// is done.
    Sweep(Dependency, u32, u64, Option<Key>),
    /// Letting gates ask what they could not, as their namespace asked too much.
    Admit,
    /// Keeping no more of this kind in the namespace, if no gate may look at it.
    Leave(Dependency),
    /// Freeing the memory of what is not followed any more.
    Free(Stock),
}

/// How a condition looks at what it selects.
#[derive(Clone)]
enum Ask {
    /// It names something, or may not look.
    Nothing,
    Question(Arc<Question>),
    /// Its namespace asks too much.
    Crowded,
}

/// What is known of a gate beside its spec.
#[derive(Default)]
struct Note {
    /// For each condition.
    asks: Vec<Ask>,
    ways: Ways,
    /// Since when it waits, by its status, and by our own clock.
    waiting: Option<(MicroTime, Since)>,
}

/// Gates, what they depend on, and what is still to be done about it.
#[derive(Default)]
pub(super) struct DependencyCache {
    pub(super) needs: Needs,
    notes: HashMap<Key, Note>,
    pub(super) stocks: [Stock; Dependency::ALL.len()],
    pub(super) hospitable: Hospitable,
    pub(super) tasks: Tasks<Task>,
    /// What is to be listed.
    pub(super) wishes: Vec<Wish>,
    pub(super) wish: u32,
    /// Namespaces that may be looked at no more, and those that have too much, with the times to see about them.
    pub(super) leaving: VecDeque<(Duration, Dependency, String)>,
    pub(super) full: VecDeque<(Duration, Dependency, String)>,
    /// By our own clock.
    pub(super) now: Duration,
    /// Causes whose gates are being told, and whether they have to be told again.
    telling: HashMap<Cause, bool>,
    /// Different questions that the gates of each namespace ask, by what they count as.
    asked: HashMap<String, usize>,
    /// Gates that have questions left to ask, by namespace.
    crowded: HashMap<String, BTreeSet<Key>>,
    /// Namespaces in which cycles are to be looked for, in order.
    stale: VecDeque<String>,
    stale_ones: HashSet<String>,
    hunt: Option<Box<Hunt>>,
    /// The namespaces with which each was last searched, where it was not alone.
    units: HashMap<String, Arc<[String]>>,
    /// Gates to be decided on.
    marked: Vec<Key>,
    /// Since when this process leads and is answered, if it ever has led.
    answered_since: Option<Duration>,
}

impl DependencyCache {
    /// What has to be followed.
    pub(super) fn sources(&self) -> BTreeSet<Subject> {
        self.needs.sources()
    }

    /// The gates to be decided on since this was asked last.
    pub(super) fn take_marked(&mut self) -> Vec<Key> {
        mem::take(&mut self.marked)
    }

    /// How much is kept of what.
    pub(super) fn sizes(&self) -> Sizes {
        let parts = || self.stocks.iter().flat_map(|stock| stock.parts.values());
        let hunted = self.hunt.as_ref().map_or(0, |hunt| hunt.gates());
        let mut sizes = vec![
            ("notes on gates", self.notes.len()),
            ("what conditions ask", self.notes.values().map(|note| note.asks.len()).sum()),
            ("objects", parts().map(|part| part.objects().len()).sum()),
            ("namespaces with objects", parts().count()),
            ("questions", parts().map(Partition::questions).sum()),
            ("namespaces that let others look", self.hospitable.namespaces.len()),
            ("namespaces to be looked at", self.stocks.iter().map(|stock| stock.places.len()).sum()),
            ("namespaces to be left", self.leaving.len()),
            ("namespaces with too much", self.full.len()),
            ("tasks", self.tasks.len()),
            ("causes that are told", self.telling.len()),
            ("namespaces that ask", self.asked.len()),
            ("gates that ask too much", self.crowded.values().map(BTreeSet::len).sum()),
            ("namespaces to be searched", self.stale.len().max(self.stale_ones.len())),
            ("namespaces searched together", self.units.len()),
            ("gates that are searched", hunted),
            ("marked gates", self.marked.len()),
        ];
        sizes.extend(self.needs.sizes());
        sizes
    }

    /// This process leads from now on, or does not any more.
    pub(super) fn lead(&mut self, leading: bool, now: Now) {
        if leading {
            self.answered_again(now);
        }
    }

    /// This process is answered again.
    pub(super) fn answered_again(&mut self, now: Now) {
        self.answered_since = Some(now.monotonic);
    }

    /// All gates have been seen.
    pub(super) fn gates_listed(&mut self) {
        self.stocks[Dependency::Gate as usize].listed = true;
    }

    /// A gate is there, new or changed, or is gone.
    pub(super) fn gate(&mut self, key: &Key, gate: Option<&GateObject>, now: Now) {
        self.now = now.monotonic;
        if let Some([before, spec]) = self.needs.set(key, gate.map(|gate| &gate.spec)) {
            let on_gates = |spec: &Option<Arc<GateSpec>>| {
                spec.iter().flat_map(|spec| &spec.conditions).any(|condition| condition.kind == Dependency::Gate)
            };
            self.relink(key, spec.as_ref());
            for condition in before.iter().flat_map(|spec| &spec.conditions) {
                self.leave(condition.kind, place(condition, &key.namespace));
            }
            let note = self.notes.entry(key.clone()).or_default();
            note.ways = if on_gates(&spec) { Ways::Unknown } else { Ways::Known(BTreeMap::new()) };
            if on_gates(&before) || on_gates(&spec) {
                self.look_for_cycles(&key.namespace);
            }
        }
        let Some(gate) = gate else {
            self.notes.remove(key);
            self.gone(Dependency::Gate, key, None);
            return;
        };
        let listed = self.stocks[Dependency::Gate as usize].listed;
        let note = self.notes.entry(key.clone()).or_default();
        let since = gate.status.as_ref().and_then(|status| status.waiting_since.clone());
        if note.waiting.as_ref().map(|(time, _)| time) != since.as_ref() {
            let seen = |time: MicroTime| {
                let since = if listed { Since::begun(now) } else { Since::found(time.0, now) };
                (time, since)
            };
            note.waiting = since.map(seen);
        }
        self.present(Dependency::Gate, key, gate.metadata.version, &own(gate));
    }

    /// Nothing is heard of this any more.
    pub(super) fn forget(&mut self, subject: Subject) {
        match subject {
            Subject::Objects(kind) => {
                // What is left to be swept of earlier lists is not of those that come.
                let stock = &mut self.stocks[kind as usize];
                let new = Stock { epoch: stock.epoch, ..Stock::default() };
                let old = mem::replace(stock, new);
                self.tasks.push("", Task::Free(old));
            }
            Subject::Namespaces => self.hospitable = Hospitable::default(),
        }
    }

    /// Takes in what was seen. Returns how many looks that took: at objects, and at what questions ask of them.
    pub(super) fn take(&mut self, seen: Watched) -> usize {
        let Watched { subject, event, .. } = seen;
        match (subject, event) {
            (Subject::Objects(kind), Event::Init) => self.listing(kind),
            (Subject::Objects(kind), Event::InitDone { version }) => {
                let stock = &mut self.stocks[kind as usize];
                let (is_first, epoch) = (!mem::replace(&mut stock.listed, true), stock.epoch);
                if is_first {
                    self.tasks.push("", Task::Begin(subject, None));
                } else if version != NO_VERSION {
                    // By a list in which something could not be read, nothing is gone.
                    self.tasks.push("", Task::Sweep(kind, epoch, version, None));
                }
                self.listed(kind);
            }
            (_, Event::Apply(Sighted { namespace, name, version, content })) => match (subject, content) {
                (Subject::Objects(kind), Content::Object(outline)) => {
                    self.hear(kind, &namespace, &name, version, false);
                    return self.present(kind, &ParentKey { namespace, name }.into(), version, &outline);
                }
                (_, Content::Namespace(annotation)) => self.namespace(&name, annotation.as_deref()),
                (Subject::Namespaces, Content::Object(_)) => {}
            },
            (Subject::Objects(kind), Event::Delete(Deleted { namespace, name, version, .. })) => {
                return self.gone(kind, &ParentKey { namespace, name }.into(), Some(version));
            }
            (Subject::Namespaces, Event::Init) => self.hospitable.epoch += 1,
            (Subject::Namespaces, Event::InitDone { version }) => {
                let epoch = self.hospitable.epoch;
                let is_old = |seen: u32| seen != epoch && version != NO_VERSION;
                let old = self.hospitable.namespaces.iter().filter(|(_, (seen, _))| is_old(*seen));
                let mut old: Vec<_> = old.map(|(name, _)| name.clone()).collect();
                old.sort_unstable();
                for name in old {
                    self.namespace(&name, None);
                }
                if !mem::replace(&mut self.hospitable.listed, true) {
                    self.tasks.push("", Task::Begin(subject, None));
                }
            }
            (Subject::Namespaces, Event::Delete(gone)) => self.namespace(&gone.name, None),
        }
        1
    }

    /// Takes in what the list of a namespace has shown. Returns the looks, too.
    pub(super) fn take_listed(&mut self, Listed { wish, shown }: Listed) -> usize {
        if !self.is_listing(&wish) {
            return 1;
        }
        match shown {
            Shown::One(Sighted { namespace, name, version, content: Content::Object(outline) }) => {
                self.hear(wish.kind, &namespace, &name, version, true);
                self.present(wish.kind, &ParentKey { namespace, name }.into(), version, &outline)
            }
            Shown::One(_) => 1,
            Shown::All(version) => self.known(wish.kind, &wish.place, version),
        }
    }

    /// A list shows this object, or the watch tells of it.
    fn hear(&mut self, kind: Dependency, namespace: &str, name: &str, version: u64, from_list: bool) {
        if let Some(place) = self.stocks[kind as usize].places.get_mut(namespace) {
            place.hear(name, version, from_list);
        }
    }

    fn present(&mut self, kind: Dependency, key: &Key, version: u64, outline: &Outline) -> usize {
        let stock = &mut self.stocks[kind as usize];
        let is_known = stock.part(&key.namespace).is_some_and(|part| part.objects().contains_key(key.name.as_str()));
        if kind != Dependency::Gate
            && stock.places.get(&key.namespace).is_none_or(|place| !place.keeps(&key.name, version, is_known))
        {
            return 1;
        }
        let epoch = stock.epoch;
        if !stock.parts.contains_key(&key.namespace) {
            stock.parts.insert(key.namespace.clone(), Partition::default());
        }
        let Some(part) = stock.parts.get_mut(&key.namespace) else { return 1 };
        let Ok(before) = part.put(&key.name, Seen { epoch, version, outline: outline.clone() }) else { return 1 };
        if kind != Dependency::Gate && part.bytes() > MAX_LOOKED_AT {
            self.overflow(kind, &key.namespace);
            return 1;
        }
        if before.as_ref() == Some(outline) { 1 } else { self.changed(kind, key, before.as_ref(), Some(outline)) }
    }

    /// An object is gone: deleted at this version, or a list did not show it.
    pub(super) fn gone(&mut self, kind: Dependency, key: &Key, version: Option<u64>) -> usize {
        if let Some(version) = version {
            self.note_gone(kind, key, version);
        }
        let Some(part) = self.stocks[kind as usize].parts.get_mut(&key.namespace) else { return 1 };
        let before = part.remove(&key.name, version);
        let looks = before.map_or(1, |before| self.changed(kind, key, Some(&before), None));
        self.drop_if_empty(kind, &key.namespace);
        looks
    }

    pub(super) fn drop_if_empty(&mut self, kind: Dependency, namespace: &str) {
        let parts = &mut self.stocks[kind as usize].parts;
        if parts.get(namespace).is_some_and(Partition::is_empty) {
            parts.remove(namespace);
        }
    }

    /// An object was this and is that, in its part already.
    fn changed(&mut self, kind: Dependency, key: &Key, before: Option<&Outline>, now: Option<&Outline>) -> usize {
        let labels_differ = before.map(|outline| &outline.labels) != now.map(|outline| &outline.labels);
        if kind == Dependency::Gate && self.needs.any_on_gates(&key.namespace) && labels_differ {
            self.look_for_cycles(&key.namespace);
        }
        if self.needs.naming(kind, key).is_some() {
            self.tell(Cause::Object(kind, key.clone()));
        }
        let Some(part) = self.stocks[kind as usize].parts.get_mut(&key.namespace) else { return 1 };
        let (questions, looks) = part.change(&key.name, before, now);
        for question in questions {
            self.tasks.push(&key.namespace, Task::Answer(question));
        }
        1 + looks
    }

    fn namespace(&mut self, name: &str, annotation: Option<&str>) {
        let epoch = self.hospitable.epoch;
        let before = match annotation {
            Some(annotation) => self.hospitable.namespaces.insert(name.to_owned(), (epoch, annotation.to_owned())),
            None => self.hospitable.namespaces.remove(name),
        };
        if before.as_ref().map(|(_, annotation)| annotation.as_str()) != annotation {
            self.tell(Cause::Namespace(name.to_owned()));
        }
    }

    /// Has the gates told that this concerns.
    pub(super) fn tell(&mut self, cause: Cause) {
        if let Some(again) = self.telling.get_mut(&cause) {
            *again = true;
            return;
        }
        self.telling.insert(cause.clone(), false);
        let namespace = match &cause {
            Cause::Object(_, key) => key.namespace.clone(),
            Cause::Namespace(name) | Cause::Place(_, name) => name.clone(),
        };
        self.tasks.push(&namespace, Task::Tell(cause, None));
    }

    /// Has cycles looked for in a namespace.
    fn look_for_cycles(&mut self, namespace: &str) {
        if self.stale_ones.insert(namespace.to_owned()) {
            self.stale.push_back(namespace.to_owned());
        }
    }

    /// Does what was put off, up to about so many looks at objects. The last step may go over by the edges of a gate or
    /// selector, or by the pairs of namespaces that look at each other.
    pub(super) fn work(&mut self, budget: usize) -> Turn {
        let budget = budget as isize;
        let hunting = self.is_hunting();
        // Half of it for cycles, if there is both to do.
        let spare = if hunting && !self.tasks.is_empty() { budget / 2 } else { 0 };
        let mut left = budget - spare;
        while left > 0
            && let Some((namespace, task)) = self.tasks.pop()
        {
            let slice = left.min(SLICE);
            let mut rest = slice;
            if let Some(task) = self.carry_on(&namespace, task, &mut rest) {
                self.tasks.push(&namespace, task);
            }
            // What costs nothing costs one, so that there is an end.
            left -= (slice - rest).max(1);
        }
        left += spare;
        if hunting {
            self.hunt(&mut left);
        }
        Turn { looks: (budget - left) as usize, more: !self.tasks.is_empty() || self.is_hunting() }
    }

    fn is_hunting(&self) -> bool {
        self.stocks[Dependency::Gate as usize].listed && (self.hunt.is_some() || !self.stale.is_empty())
    }

    /// Returns what is left of the task.
    fn carry_on(&mut self, namespace: &str, task: Task, budget: &mut isize) -> Option<Task> {
        match task {
            Task::Answer(question) => {
                let part = self.stocks[question.kind as usize].parts.get_mut(&question.place)?;
                let marked = &mut self.marked;
                let done = part.work(&question, budget, |gate| marked.push(gate.clone()));
                (!done).then_some(Task::Answer(question))
            }
            Task::Tell(cause, last) => self.carry_on_telling(cause, last, budget),
            Task::Begin(subject, last) => {
                let mut at = None;
                let gates: Vec<_> =
                    self.needs.after(last.as_ref()).take(room(*budget)).map(|(key, _)| key.clone()).collect();
                for key in gates {
                    *budget -= 1;
                    self.begin(subject, &key);
                    at = Some(key);
                }
                (*budget <= 0).then(|| Task::Begin(subject, at.or(last)))
            }
            Task::Sweep(kind, epoch, version, last) => self.sweep((kind, epoch, version), last.as_ref(), budget),
            Task::Leave(kind) => {
                self.leave_now(kind, namespace, budget);
                None
            }
            Task::Admit => {
                while *budget > 0 {
                    let Some(gate) = self.crowded.get(namespace).and_then(|gates| gates.first()).cloned() else {
                        break;
                    };
                    *budget -= 1;
                    let spec = self.needs.spec(&gate).cloned();
                    self.relink(&gate, spec.as_ref());
                    self.marked.push(gate.clone());
                    if self.crowded.get(namespace).is_some_and(|gates| gates.contains(&gate)) {
                        return None;
                    }
                }
                (*budget <= 0).then_some(Task::Admit)
            }
            Task::Free(mut stock) => {
                while *budget > 0
                    && let Some(mut part) = stock.parts.first_entry()
                {
                    *budget -= 1;
                    if part.get_mut().pop().is_none() {
                        part.remove();
                    }
                }
                (!stock.parts.is_empty()).then_some(Task::Free(stock))
            }
        }
    }

    fn carry_on_telling(&mut self, cause: Cause, last: Option<Key>, budget: &mut isize) -> Option<Task> {
        let gates = match &cause {
            Cause::Object(kind, key) => self.needs.naming(*kind, key),
            Cause::Namespace(name) => self.needs.looking_into(name),
            Cause::Place(kind, name) => self.needs.looking_at(*kind, name),
        };
        let gates: Vec<_> =
            gates.into_iter().flat_map(|gates| after(gates, last.as_ref())).take(room(*budget)).cloned().collect();
        *budget -= gates.len() as isize;
        let at = gates.last().cloned().or(last);
        for gate in gates {
            if let Cause::Namespace(name) = &cause {
                let spec = self.needs.spec(&gate).cloned();
                self.relink(&gate, spec.as_ref());
                self.look_for_cycles(&gate.namespace);
                self.look_for_cycles(name);
            }
            self.marked.push(gate);
        }
        if *budget <= 0 {
            return Some(Task::Tell(cause, at));
        }
        if let Some(again) = self.telling.get_mut(&cause)
            && mem::take(again)
        {
            return Some(Task::Tell(cause, None));
        }
        if let Cause::Namespace(name) = &cause {
            for kind in Dependency::ALL {
                self.leave(kind, name);
            }
        }
        self.telling.remove(&cause);
        None
    }

    /// What a gate may depend on is known for the first time.
    fn begin(&mut self, subject: Subject, key: &Key) {
        let Some(spec) = self.needs.spec(key).cloned() else { return };
        let elsewhere = |condition: &GateCondition| place(condition, &key.namespace) != key.namespace;
        let concerns = |condition: &GateCondition| match subject {
            Subject::Objects(kind) => condition.kind == kind,
            Subject::Namespaces => elsewhere(condition),
        };
        if !spec.conditions.iter().any(concerns) {
            return;
        }
        if subject == Subject::Namespaces {
            self.relink(key, Some(&spec));
            if spec.conditions.iter().any(|condition| condition.kind == Dependency::Gate) {
                self.look_for_cycles(&key.namespace);
            }
        }
        self.marked.push(key.clone());
    }

    fn sweep(
        &mut self,
        (kind, epoch, version): (Dependency, u32, u64),
        last: Option<&Key>,
        budget: &mut isize,
    ) -> Option<Task> {
        let (mut at, mut old) = (last.cloned(), Vec::new());
        let from = last.map(|key| key.namespace.clone()).unwrap_or_default();
        'all: for (namespace, part) in self.stocks[kind as usize].parts.range(from..) {
            let begin = last.filter(|last| last.namespace == *namespace);
            let begin = begin.map_or(Unbounded, |last| Excluded(last.name.as_str()));
            for (name, seen) in part.objects().range::<str, _>((begin, Unbounded)) {
                if *budget <= 0 {
                    break 'all;
                }
                *budget -= 1;
                let key = Key::from(ParentKey { namespace: namespace.clone(), name: name.to_string() });
                if seen.epoch < epoch && seen.version <= version {
                    old.push(key.clone());
                }
                at = Some(key);
            }
        }
        for key in old {
            let looks = self.gone(kind, &key, None);
            *budget -= (looks) as isize;
        }
        (*budget <= 0).then_some(Task::Sweep(kind, epoch, version, at))
    }

    /// Goes on looking for cycles.
    fn hunt(&mut self, budget: &mut isize) {
        while *budget > 0 {
            let allows = |gates_of: &str, namespace: &str| self.hospitable.allows(gates_of, namespace);
            let Some(hunt) = &mut self.hunt else {
                let Some(namespace) = self.stale.pop_front() else { return };
                *budget -= 1;
                if !self.stale_ones.remove(&namespace) {
                    continue;
                }
                let unit = Hunt::unit(&namespace, &self.needs, allows, budget);
                // Those that belong to it no more are searched apart.
                let before = self.units.remove(&namespace);
                let parted: Vec<_> = before.iter().flat_map(|before| before.iter()).cloned().collect();
                for one in parted.into_iter().filter(|one| !unit.contains(one)) {
                    self.look_for_cycles(&one);
                }
                for one in unit.iter() {
                    self.stale_ones.remove(one);
                }
                self.hunt = Some(Box::new(Hunt::new(unit)));
                continue;
            };
            match hunt.work(&self.needs, &self.stocks[Dependency::Gate as usize], allows, budget) {
                Progress::More => {}
                Progress::Found(found) => self.found(found),
                Progress::Done => {
                    let unit = hunt.namespaces().clone();
                    self.hunt = None;
                    for one in unit.iter() {
                        if unit.len() > 1 {
                            self.units.insert(one.clone(), unit.clone());
                        } else {
                            self.units.remove(one);
                        }
                    }
                }
            }
        }
    }

    fn found(&mut self, Found { gate, spec, ways }: Found) {
        let current = self.needs.spec(&gate).is_some_and(|now| Arc::ptr_eq(now, &spec));
        let Some(note) = self.notes.get_mut(&gate).filter(|_| current) else { return };
        let news = note.ways != ways;
        note.ways = ways;
        // Whatever else has changed meanwhile was not decided on.
        if news || spec.conditions.iter().any(|condition| condition.kind == Dependency::Gate) {
            self.marked.push(gate);
        }
    }

    /// Whether it is known of what there is now, and not only of what was there before, if this gate waits for itself.
    fn is_searched(&self, gate: &Key) -> bool {
        let hunt = self.hunt.as_ref().filter(|hunt| hunt.namespaces().contains(&gate.namespace));
        !self.stale_ones.contains(&gate.namespace) && hunt.is_none_or(|hunt| hunt.has_told(gate))
    }

    /// Asks what a gate asks now, and no more what it asked before.
    fn relink(&mut self, key: &Key, spec: Option<&Arc<GateSpec>>) {
        let conditions = spec.into_iter().flat_map(|spec| &spec.conditions);
        let asks: Vec<_> = conditions.map(|condition| self.ask(key, condition)).collect();
        let crowded = asks.iter().any(|ask| matches!(ask, Ask::Crowded));
        if crowded {
            self.crowded.entry(key.namespace.clone()).or_default().insert(key.clone());
        } else if let Some(gates) = self.crowded.get_mut(&key.namespace) {
            gates.remove(key);
            if gates.is_empty() {
                self.crowded.remove(&key.namespace);
            }
        }
        let note = self.notes.entry(key.clone()).or_default();
        let before = mem::replace(&mut note.asks, asks.clone());
        let still = |question: &Arc<Question>| {
            asks.iter().any(|ask| matches!(ask, Ask::Question(other) if Arc::ptr_eq(other, question)))
        };
        // Two conditions may ask the same.
        let mut gone: Vec<Arc<Question>> = Vec::new();
        for ask in before {
            if let Ask::Question(question) = ask
                && !still(&question)
                && !gone.iter().any(|other| Arc::ptr_eq(other, &question))
            {
                gone.push(question);
            }
        }
        for question in gone {
            self.unask(key, &question);
        }
    }

    fn ask(&mut self, key: &Key, condition: &GateCondition) -> Ask {
        let place = place(condition, &key.namespace).to_owned();
        if !self.hospitable.allows(&key.namespace, &place) {
            return Ask::Nothing;
        }
        self.want(condition.kind, &place);
        let Some(question) = Question::of(condition, &key.namespace) else { return Ask::Nothing };
        let part = self.stocks[question.kind as usize].parts.entry(place.clone()).or_default();
        if !part.is_asked_by(&question, &key.namespace) {
            let asked = self.asked.entry(key.namespace.clone()).or_default();
            if *asked + question.weight() > MAX_SELECTIONS {
                self.drop_if_empty(question.kind, &place);
                return Ask::Crowded;
            }
            *asked += question.weight();
        }
        let asking = part.ask(question, key);
        if asking.queue {
            self.tasks.push(&place, Task::Answer(asking.question.clone()));
        }
        Ask::Question(asking.question)
    }

    fn unask(&mut self, key: &Key, question: &Arc<Question>) {
        let Some(part) = self.stocks[question.kind as usize].parts.get_mut(&question.place) else { return };
        part.unask(question, key);
        if !part.is_asked_by(question, &key.namespace)
            && let Some(asked) = self.asked.get_mut(&key.namespace)
        {
            *asked -= question.weight();
            if *asked == 0 {
                self.asked.remove(&key.namespace);
            }
            if self.crowded.contains_key(&key.namespace) {
                self.tasks.push(&key.namespace, Task::Admit);
            }
        }
        self.drop_if_empty(question.kind, &question.place);
    }

    /// Whether nothing is kept that was kept for a gate.
    #[cfg(test)]
    pub(super) fn remembers_no_gate(&self) -> bool {
        self.notes.is_empty()
            && self.telling.is_empty()
            && self.asked.is_empty()
            && self.crowded.is_empty()
            && self.stale_ones.is_empty()
            && self.hunt.is_none()
            && self.units.is_empty()
            && self.tasks.is_empty()
            && self.needs.sources().is_empty()
    }

    /// What to do about a gate; `None` while what it depends on is not known yet.
    pub(super) fn decide(&self, key: &Key, gate: &GateObject, now: Now) -> Option<Plan<GateStatus>> {
        let note = self.notes.get(key)?;
        let findings = gate.spec.conditions.iter().enumerate();
        let findings: Option<Vec<_>> = findings.map(|(number, one)| self.finding(key, note, number, one)).collect();
        let view = View {
            namespace: &key.namespace,
            spec: &gate.spec,
            generation: gate.metadata.generation,
            status: gate.status.as_ref(),
            findings: findings?,
            waiting: note
                .waiting
                .as_ref()
                .map(|(_, since)| self.answered_since.map_or(*since, |at| since.answered(at))),
        };
        Some(decide(&view, now))
    }

    fn finding<'a>(
        &'a self,
        gate: &Key,
        note: &'a Note,
        number: usize,
        condition: &'a GateCondition,
    ) -> Option<Finding<'a>> {
        let namespace = place(condition, &gate.namespace);
        if namespace != gate.namespace && !self.hospitable.listed {
            return None;
        }
        if !self.hospitable.allows(&gate.namespace, namespace) {
            return Some(Finding::Forbidden);
        }
        let stock = &self.stocks[condition.kind as usize];
        if !stock.listed {
            return None;
        }
        if condition.kind != Dependency::Gate {
            match stock.places.get(namespace)?.standing {
                Standing::Known(_) => {}
                Standing::Full => return Some(Finding::TooMany),
                Standing::Coming | Standing::Later | Standing::Listing(..) => return None,
            }
        }
        match &note.ways {
            _ if condition.kind != Dependency::Gate => {}
            _ if !self.is_searched(gate) => return None,
            Ways::Unknown => return None,
            Ways::Tangled => return Some(Finding::Tangled),
            Ways::Known(cycles) => {
                if let Some(cycle) = cycles.get(&number) {
                    return Some(Finding::Cycle(cycle));
                }
            }
        }
        let part = stock.part(namespace);
        if let Some(name) = &condition.name {
            let object = part.and_then(|part| part.objects().get(name.as_str()));
            return Some(Finding::Named(object.map(|seen| seen.outline.fact)));
        }
        match note.asks.get(number)? {
            Ask::Question(question) => part?.answer(question).map(Finding::Selected),
            Ask::Crowded => Some(Finding::Crowded),
            Ask::Nothing => None,
        }
    }
}
