//! The objects of one kind in one namespace, and what gates ask about many of them at once. No I/O, no clock.
//!
//! # Why counts are kept
//! A gate over ten thousand Jobs cannot look at all of them each time one changes, nor can it look at them only now and
//! then, as nothing would be right in between. So each different question is counted once and kept right by what
//! changes ([`Tally`]): a change costs a look at one object for all that each different question asks where it is,
//! however many objects there are and however many gates ask. Gates that ask the same share the answer. How many
//! questions the gates of one namespace may ask is bounded ([`MAX_SELECTIONS`](konductor_api::limits::MAX_SELECTIONS)),
//! and what a namespace does not allow to be looked at is not counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use konductor_api::{
    GateCondition, Selector,
    limits::SELECTION,
    rendezvous::{
        fact::Dependency,
        tally::{Asked, Member, Summary, Tally},
    },
};

use super::{
    needs::{after, place},
    sources::Outline,
};
use crate::{
    key::{Key, ParentKey},
    tasks::room,
};

/// What is asked about the objects of a selector.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) kind: Dependency,
    pub(super) place: String,
    selector: Selector,
    asked: Asked,
}

impl Question {
    /// By this condition of a gate of this namespace, if it has a selector.
    pub(super) fn of(condition: &GateCondition, own: &str) -> Option<Self> {
        let selector = condition.selector.clone().filter(|_| condition.name.is_none())?;
        let place = place(condition, own).to_owned();
        Some(Self { kind: condition.kind, place, selector, asked: Asked::by(condition) })
    }

    /// As how many it counts among those that the gates of a namespace may ask.
    pub(super) fn weight(&self) -> usize {
        self.selector.looks().div_ceil(SELECTION)
    }

    fn member(&self, outline: &Outline) -> Option<Member> {
        outline.is_selected_by(&self.selector).then(|| member(outline))
    }
}

/// What is known is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newer;

/// What an object takes in memory, about.
fn bytes(name: &str, outline: &Outline) -> usize {
    let labels = outline.labels.iter().map(|(key, value)| key.len() + value.len() + size_of::<(Box<str>, Box<str>)>());
    OBJECT + name.len() + labels.sum::<usize>()
}

fn member(&Outline { created, fact, labels: _ }: &Outline) -> Member {
    Member { created, fact }
}

/// How far those who ask were told.
#[derive(Debug)]
enum Telling {
    Not,
    After(Option<Key>),
}

/// A question, its answer, and the gates that ask it.
#[derive(Debug)]
struct Selection {
    tally: Tally,
    askers: BTreeSet<Key>,
    /// It waits for its turn to be worked on.
    queued: bool,
    /// The answer has changed since the askers began to be told.
    changed: bool,
    telling: Telling,
}

/// An object as it was seen last.
pub(super) struct Seen {
    /// The list that it was last in.
    pub(super) epoch: u32,
    pub(super) version: u64,
    pub(super) outline: Outline,
}

/// Objects by name.
pub(super) type Objects = BTreeMap<Box<str>, Seen>;

/// What an object takes beside its texts: places in trees, and what is counted.
const OBJECT: usize = 128;

/// The objects of one namespace, and what is asked about them.
#[derive(Default)]
pub(super) struct Partition {
    objects: Objects,
    /// What they take in memory, about.
    bytes: usize,
    /// In an order that is the same in each process, as it is the one in which they are worked on.
    selections: BTreeMap<Arc<Question>, Selection>,
}

/// What asking has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asking {
    /// The question as all who ask it share it.
    pub(super) question: Arc<Question>,
    /// It has to be worked on.
    pub(super) queue: bool,
}

impl Partition {
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.selections.is_empty()
    }

    /// How many questions are asked, each by each gate.
    pub(super) fn questions(&self) -> usize {
        self.selections.values().map(|selection| selection.askers.len()).sum()
    }

    /// The objects.
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What they take in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An object was seen. Returns what it was before, if that was anything; it stays so if that was newer.
    pub(super) fn put(&mut self, name: &str, seen: Seen) -> Result<Option<Outline>, Newer> {
        let bytes = bytes(name, &seen.outline);
        if let Some(known) = self.objects.get_mut(name) {
            known.epoch = known.epoch.max(seen.epoch);
            if known.version > seen.version {
                return Err(Newer);
            }
            self.bytes = self.bytes + bytes - self::bytes(name, &known.outline);
            return Ok(Some(std::mem::replace(known, seen).outline));
        }
        self.bytes += bytes;
        self.objects.insert(name.into(), seen);
        Ok(None)
    }

    /// An object is gone: seen deleted at this version, or a list did not show it. Returns what it was, if it was known
    /// and is not newer.
    pub(super) fn remove(&mut self, name: &str, version: Option<u64>) -> Option<Outline> {
        if version.is_some_and(|version| self.objects.get(name).is_some_and(|seen| seen.version > version)) {
            return None;
        }
        let outline = self.objects.remove(name)?.outline;
        self.bytes -= bytes(name, &outline);
        Some(outline)
    }

    /// Frees an object.
    pub(super) fn pop(&mut self) -> Option<()> {
        self.objects.pop_first().map(drop)
    }

    /// Of these objects, about which nothing is asked.
    pub(super) fn of(objects: Objects) -> Self {
        Self { objects, ..Self::default() }
    }

    /// Takes all objects out. Returns the questions, which have to be answered anew, too.
    pub(super) fn clear(&mut self) -> (Objects, Vec<Arc<Question>>) {
        self.bytes = 0;
        let mut queue = Vec::new();
        for (question, selection) in &mut self.selections {
            selection.tally = Tally::new(question.asked);
            if !std::mem::replace(&mut selection.queued, true) {
                queue.push(question.clone());
            }
        }
        (std::mem::take(&mut self.objects), queue)
    }

    /// Whether a gate of this namespace asks this.
    pub(super) fn is_asked_by(&self, question: &Question, namespace: &str) -> bool {
        let first = Key::from(ParentKey { namespace: namespace.to_owned(), name: String::new() });
        let askers = self.selections.get(question).map(|selection| &selection.askers);
        askers.and_then(|askers| askers.range(first..).next()).is_some_and(|asker| asker.namespace == namespace)
    }

    /// A gate asks this.
    pub(super) fn ask(&mut self, question: Question, gate: &Key) -> Asking {
        if let Some((shared, selection)) = self.selections.get_key_value(&question) {
            let question = shared.clone();
            if !selection.askers.contains(gate)
                && let Some(selection) = self.selections.get_mut(&question)
            {
                selection.askers.insert(gate.clone());
            }
            return Asking { question, queue: false };
        }
        let question = Arc::new(question);
        let tally = Tally::new(question.asked);
        let askers = BTreeSet::from([gate.clone()]);
        let selection = Selection { tally, askers, queued: true, changed: false, telling: Telling::Not };
        self.selections.insert(question.clone(), selection);
        Asking { question, queue: true }
    }

    /// A gate does not ask this any more.
    pub(super) fn unask(&mut self, question: &Question, gate: &Key) {
        if let Some(selection) = self.selections.get_mut(question) {
            selection.askers.remove(gate);
            if selection.askers.is_empty() {
                self.selections.remove(question);
            }
        }
    }

    /// The answer; `None` while it is not known.
    pub(super) fn answer(&self, question: &Question) -> Option<Summary<'_>> {
        self.selections.get(question)?.tally.summary()
    }

    /// An object was this and is that. Returns the questions to work on, and how many looks that took.
    pub(super) fn change(
        &mut self,
        name: &str,
        before: Option<&Outline>,
        now: Option<&Outline>,
    ) -> (Vec<Arc<Question>>, usize) {
        let (mut queue, mut looks) = (Vec::new(), 0);
        // Most changes leave the labels as they are, and with them who is selected.
        let same = before.zip(now).is_some_and(|(before, now)| before.labels == now.labels);
        for (question, selection) in &mut self.selections {
            let mut selects = |outline: &Outline| {
                looks += question.selector.looks();
                outline.is_selected_by(&question.selector)
            };
            let was = before.is_some_and(&mut selects);
            let is = if same { was } else { now.is_some_and(&mut selects) };
            let [was, is] = [before.filter(|_| was), now.filter(|_| is)].map(|outline| outline.map(member));
            if selection.tally.change(name, was, is) {
                selection.changed = true;
                if !std::mem::replace(&mut selection.queued, true) {
                    queue.push(question.clone());
                }
            }
        }
        (queue, looks)
    }

    /// Counts what is to be counted, and tells those who ask, until `budget` is used up. Returns whether nothing is
    /// left to do.
    pub(super) fn work(&mut self, question: &Question, budget: &mut isize, mut tell: impl FnMut(&Key)) -> bool {
        let Some(selection) = self.selections.get_mut(question) else { return true };
        let Selection { tally, askers, queued, changed, telling } = selection;
        let member = |seen: &Seen| question.member(&seen.outline);
        let count = |tally: &mut Tally, budget: &mut isize| {
            let looks = question.selector.looks() as isize;
            let objects = (*budget + looks - 1) / looks;
            let mut left = objects;
            let complete = tally.count(&self.objects, member, &mut left);
            *budget -= (objects - left) * looks;
            complete
        };
        while *budget > 0 {
            // An answer that is known is told before anybody looks for the name in its message, which others may put
            // off.
            if tally.summary().is_none() {
                count(tally, budget);
                *changed |= tally.summary().is_some();
            } else if let Telling::After(last) = telling {
                let mut told = None;
                for asker in after(askers, last.as_ref()).take(room(*budget)) {
                    tell(asker);
                    *budget -= 1;
                    told = Some(asker.clone());
                }
                *telling = told.filter(|_| *budget <= 0).map_or(Telling::Not, |told| Telling::After(Some(told)));
            } else if std::mem::take(changed) {
                *telling = Telling::After(None);
            } else if tally.is_complete() {
                *queued = false;
                return true;
            } else {
                *changed = count(tally, budget);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use konductor_api::rendezvous::fact::{Fact, JobState};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_change_bears_on_is_worked_on_in_an_order_that_nothing_else_decides() {
        let question = |number: usize| {
            let condition = json!({
                "type": "Job", "state": "Complete", "selector": { "matchLabels": { "a": "b", format!("n{number:02}"): "x" } },
            });
            let condition: GateCondition = serde_json::from_value(condition).expect("a condition");
            Question::of(&condition, "n").expect("a question")
        };
        let others = (0..40).map(|number| (format!("n{number:02}").into(), "x".into()));
        let labels = [("a".into(), "b".into())].into_iter().chain(others);
        let outline = Outline { created: 1, fact: Fact::Job(JobState::Active), labels: labels.collect() };
        let mut partition = Partition::default();
        let gate = Key::from(ParentKey::new("n", "g"));
        for number in (0..40).map(|number| number * 7 % 40) {
            let asked = partition.ask(question(number), &gate).question;
            assert!(partition.work(&asked, &mut 1000, |_| ()));
        }
        let (queue, _) = partition.change("job", None, Some(&outline));
        let expected: Vec<_> = (0..40).map(|number| Arc::new(question(number))).collect();
        assert_eq!(queue, expected);
    }
}
