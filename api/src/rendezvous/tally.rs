//! How many of the objects that a selector selects are in the wanted state.
//!
//! Ten thousand Jobs are counted once, name by name and as many at a time as the caller has time for; after that a
//! change of one object costs one look at it. What changes before the count has come to its name is found by the count;
//! what changes behind it corrects the count at once. So the figures are right whenever the count is complete.
//!
//! Beside the figures one object is known by name. Of those that are all to be in a state it is the first that is not,
//! which is for people: while that one is looked for, the figures stand, and nobody is named. Where only the newest
//! counts it is that one, and if it goes, all is counted again.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
};

use super::fact::{Dependency, Fact, Wanted};
use crate::{GateCondition, Pick};

/// What a condition asks of the objects that it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asked {
    /// The state that is wanted.
    pub state: Wanted,
    /// Of a semaphore: permits that have to be free.
    pub permits: u64,
    /// Only the newest object counts.
    pub newest: bool,
}

impl Asked {
    /// By this condition.
    pub fn by(condition: &GateCondition) -> Self {
        let permits = condition.value.filter(|_| condition.kind == Dependency::Semaphore).unwrap_or(1);
        Self { state: condition.state, permits: permits.into(), newest: condition.pick == Some(Pick::Newest) }
    }
}

/// What counts of a selected object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// When it was created, in seconds.
    pub created: i64,
    /// What is known of it.
    pub fact: Fact,
}

/// A selected object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is known of it.
    pub fact: Fact,
}

/// What is known of all selected objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary<'a> {
    /// How many there are.
    pub all: usize,
    /// How many of them are in the wanted state.
    pub met: usize,
    /// The newest, if only that one counts; else the first by name that is not in the wanted state, if it is known.
    pub shown: Option<Example<'a>>,
}

/// How far the objects are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Counted {
    Nothing,
    /// Those up to this name.
    To(Box<str>),
    All,
}

/// The object to be named.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    /// There is none among those that are counted.
    Nobody,
    This(Box<str>, Member),
    /// It is none of those before this name.
    From(Box<str>),
}

/// A count of selected objects.
#[derive(Clone, Debug)]
pub struct Tally {
    asked: Asked,
    all: usize,
    met: usize,
    counted: Counted,
    shown: Shown,
}

impl Tally {
    /// Nothing is counted yet.
    pub fn new(asked: Asked) -> Self {
        Self { asked, all: 0, met: 0, counted: Counted::Nothing, shown: Shown::Nobody }
    }

    /// What was counted; `None` while that is not complete.
    pub fn summary(&self) -> Option<Summary<'_>> {
        let shown = match &self.shown {
            Shown::This(name, member) => Some(Example { name, fact: member.fact }),
            Shown::Nobody | Shown::From(_) => None,
        };
        (self.counted == Counted::All).then_some(Summary { all: self.all, met: self.met, shown })
    }

    /// Whether there is nothing left to [count](Self::count).
    pub fn is_complete(&self) -> bool {
        self.counted == Counted::All && !matches!(self.shown, Shown::From(_))
    }

    /// Goes on counting until `budget` is used up, one for each object looked at, or it is complete. Returns whether it
    /// is. `member` says whether an object is selected, and what counts of it.
    pub fn count<T>(
        &mut self,
        objects: &BTreeMap<Box<str>, T>,
        member: impl Fn(&T) -> Option<Member>,
        budget: &mut isize,
    ) -> bool {
        if self.counted != Counted::All {
            let after = match &self.counted {
                Counted::To(name) => Excluded(&**name),
                Counted::Nothing | Counted::All => Unbounded,
            };
            let mut last = None;
            for (name, object) in objects.range::<str, _>((after, Unbounded)) {
                if *budget <= 0 {
                    break;
                }
                *budget -= 1;
                last = Some(name);
                if let Some(member) = member(object) {
                    self.add(name, member);
                }
            }
            // Counted to the end, or as far as the budget went.
            match last {
                _ if *budget > 0 => self.counted = Counted::All,
                Some(name) => self.counted = Counted::To(name.clone()),
                None => {}
            }
        }
        if self.counted == Counted::All
            && let Shown::From(from) = &self.shown
        {
            let mut found = Shown::Nobody;
            for (name, object) in objects.range::<str, _>((Included(&**from), Unbounded)) {
                if *budget <= 0 {
                    found = Shown::From(name.clone());
                    break;
                }
                *budget -= 1;
                if let Some(member) = member(object).filter(|member| !self.is_met(*member)) {
                    found = Shown::This(name.clone(), member);
                    break;
                }
            }
            self.shown = found;
        }
        self.is_complete()
    }

    /// An object has changed: what counted of it, and what counts now. Returns whether that changed the figures or who
    /// is shown.
    pub fn change(&mut self, name: &str, before: Option<Member>, after: Option<Member>) -> bool {
        let behind = match &self.counted {
            Counted::Nothing => false,
            Counted::To(last) => name <= &**last,
            Counted::All => true,
        };
        if !behind || before == after {
            return false;
        }
        let figures = (self.all, self.met);
        let shown = self.shown.clone();
        if let Some(before) = before {
            self.all -= 1;
            self.met -= usize::from(self.is_met(before));
            if matches!(&self.shown, Shown::This(shown, _) if **shown == *name) {
                self.lose(name, before, after);
            }
        }
        if self.counted != Counted::Nothing
            && let Some(after) = after
        {
            self.add(name, after);
        }
        (self.all, self.met) != figures || self.shown != shown
    }

    fn is_met(&self, member: Member) -> bool {
        member.fact.is(self.asked.state, self.asked.permits)
    }

    fn add(&mut self, name: &str, member: Member) {
        let met = self.is_met(member);
        self.all += 1;
        self.met += usize::from(met);
        let show = match &self.shown {
            Shown::Nobody => self.asked.newest || !met,
            Shown::This(shown, other) if self.asked.newest => (member.created, name) >= (other.created, &**shown),
            Shown::This(shown, _) => !met && name <= &**shown,
            Shown::From(from) => !met && name < &**from,
        };
        if show {
            self.shown = Shown::This(name.into(), member);
        }
    }

    /// The object that was shown is not what it was.
    fn lose(&mut self, name: &str, before: Member, after: Option<Member>) {
        if !self.asked.newest {
            self.shown = Shown::From(name.into());
        } else if self.all == 0 || after.is_some_and(|after| after.created >= before.created) {
            self.shown = Shown::Nobody;
        } else {
            *self = Self::new(self.asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::rendezvous::fact::JobState;

    fn asked(newest: bool) -> Asked {
        Asked { state: Wanted::Complete, permits: 1, newest }
    }

    fn member(created: i64, complete: bool) -> Member {
        let state = if complete { JobState::Complete } else { JobState::Active };
        Member { created, fact: Fact::Job(state) }
    }

    #[test]
    fn a_change_costs_a_look_at_one_object_and_the_next_example_is_found_from_there() {
        let jobs =
            |done: usize| (0..10_000).map(|number| (format!("{number:05}").into(), member(0, number < done))).collect();
        let mut objects: BTreeMap<Box<str>, Member> = jobs(0);
        let mut tally = Tally::new(asked(false));
        let (mut turns, mut spent) = (0, 0);
        while !{
            let mut budget = 1000;
            let complete = tally.count(&objects, |member| Some(*member), &mut budget);
            spent += 1000 - budget;
            complete
        } {
            turns += 1;
            assert_eq!(tally.summary(), None);
        }
        assert_eq!((turns, spent), (10, 10_000));
        for number in 0..10_000 {
            let name = format!("{number:05}");
            let before = objects.insert(name.as_str().into(), member(0, true));
            assert!(tally.change(&name, before, Some(member(0, true))));
            assert_eq!(tally.summary().map(|summary| summary.met), Some(number + 1));
            let mut budget = 1000;
            assert!(tally.count(&objects, |member| Some(*member), &mut budget));
            spent += 1000 - budget;
        }
        assert_eq!(tally.summary(), Some(Summary { all: 10_000, met: 10_000, shown: None }));
        assert!(spent <= 30_000, "{spent}");
    }

    proptest! {
        /// However changes and pieces of the count come in turns, a complete count is what one look at all would find.
        #[test]
        fn is_what_one_look_at_all_would_find(
            newest: bool,
            steps in vec((0_u8..8, prop::option::of((0_i64..3, any::<bool>())), 0_isize..4), 1..60),
        ) {
            let mut objects: BTreeMap<Box<str>, Member> = BTreeMap::new();
            let mut tally = Tally::new(asked(newest));
            for (name, after, mut budget) in steps {
                let name = name.to_string();
                let after = after.map(|(created, complete)| member(created, complete));
                let before = match after {
                    Some(after) => objects.insert(name.as_str().into(), after),
                    None => objects.remove(name.as_str()),
                };
                tally.change(&name, before, after);
                tally.count(&objects, |member| Some(*member), &mut budget);
                let complete = |member: &Member| member.fact == Fact::Job(JobState::Complete);
                if let Some(summary) = tally.summary() {
                    prop_assert_eq!(summary.all, objects.len());
                    prop_assert_eq!(summary.met, objects.values().filter(|member| complete(member)).count());
                }
                if tally.is_complete() {
                    let shown = tally.summary().and_then(|summary| summary.shown).map(|shown| shown.name.to_owned());
                    let expected = if newest {
                        objects.iter().max_by_key(|(name, member)| (member.created, *name))
                    } else {
                        objects.iter().find(|(_, member)| !complete(member))
                    };
                    prop_assert_eq!(shown, expected.map(|(name, _)| name.to_string()));
                }
            }
            prop_assert!(tally.count(&objects, |member| Some(*member), &mut 100));
        }
    }
}
