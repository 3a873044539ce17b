//! Which namespaces have more objects than is kept of one of them, and when what was left out is taken in. No I/O, no
//! clock.
//!
//! Memory is all parties'. So of each namespace no more than a limit is kept; what is beyond is left out, and not
//! remembered: it costs nothing but the look at it. That something was left out is remembered by namespace, and once
//! there is room, the namespace is listed again, page by page, until there is none or nothing is left out. Whoever sees
//! to it that there is always a little room has one namespace listed once in `LISTED_EVERY`, and each such list ends
//! where the room does.

use std::{collections::HashMap, time::Duration};

use konductor_api::limits::{MAX_KEPT_CLAIMS, MAX_KEPT_LOCKS};

use crate::key::{Key, ParentKey};

/// Least time between two lists of a namespace for what was left out. A queue so long moves for hours, so that nobody
/// waits for this; and a list of twice the limit is some dozens of pages, which is nothing in this time.
const LISTED_EVERY: Duration = Duration::from_secs(30);

/// Least time before people are told again of the same namespace.
const TOLD_EVERY: Duration = Duration::from_mins(10);

/// How many objects of one namespace are kept, of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Claims.
    pub claims: usize,
    /// Locks.
    pub locks: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { claims: MAX_KEPT_CLAIMS, locks: MAX_KEPT_LOCKS }
    }
}

/// Stands for a namespace among parents, whose names are never empty: for what is to be done about all of it.
pub(crate) fn whole(namespace: &str) -> Key {
    ParentKey::new(namespace, "").into()
}

/// Whether this stands for a namespace.
pub(crate) fn is_whole(key: &ParentKey) -> bool {
    key.name.is_empty()
}

/// When a namespace is to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Not before something changes.
    Never,
    /// At this time, on the monotonic clock.
    At(Duration),
}

/// What is kept of each namespace, and what is not.
#[derive(Debug)]
pub(crate) struct Crowds {
    limit: usize,
    /// Only those of which something is kept or left out.
    namespaces: HashMap<String, Crowd>,
    /// Of the last list of all namespaces.
    epoch: u32,
    /// Namespaces with something left out.
    crowded: usize,
}

#[derive(Debug, Default)]
struct Crowd {
    kept: usize,
    /// The list of all namespaces under which something was left out last, if anything is.
    left_out: Option<u32>,
    /// It is being listed; something that was left out since this began, if anything was, will not be found.
    listing: Option<bool>,
    /// When the last list of it began.
    listed: Option<Duration>,
    told: Option<Duration>,
}

impl Crowds {
    /// Keeps so many objects of each namespace.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, namespaces: HashMap::new(), epoch: 0, crowded: 0 }
    }

    /// How many objects of a namespace are kept.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether another object of this namespace is kept.
    pub(crate) fn has_room(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_none_or(|crowd| crowd.kept < self.limit)
    }

    /// Whether something of this namespace is left out.
    pub(crate) fn is_crowded(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|crowd| crowd.left_out.is_some())
    }

    /// Namespaces of which something is left out.
    pub(crate) fn crowded(&self) -> usize {
        self.crowded
    }

    /// Their names.
    pub(crate) fn all_crowded(&self) -> impl Iterator<Item = &str> {
        let crowded = self.namespaces.iter().filter(|(_, crowd)| crowd.left_out.is_some());
        crowded.map(|(namespace, _)| namespace.as_str())
    }

    fn of(&mut self, namespace: &str) -> &mut Crowd {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), Crowd::default());
        }
        self.namespaces.get_mut(namespace).expect("it was just put there")
    }

    /// Another object of this namespace is kept.
    pub(crate) fn came(&mut self, namespace: &str) {
        self.of(namespace).kept += 1;
    }

    /// An object of this namespace that was kept is not any more.
    pub(crate) fn went(&mut self, namespace: &str) {
        if let Some(crowd) = self.namespaces.get_mut(namespace) {
            crowd.kept -= 1;
        }
        self.sweep(namespace);
    }

    /// An object of this namespace was seen, and is not kept. Returns whether to tell people.
    pub(crate) fn left_out(&mut self, namespace: &str, now: Duration) -> bool {
        let epoch = self.epoch;
        let crowd = self.of(namespace);
        let is_new = crowd.left_out.replace(epoch).is_none();
        if let Some(missed) = &mut crowd.listing {
            *missed = true;
        }
        let tell = crowd.told.is_none_or(|told| now >= told + TOLD_EVERY);
        if tell {
            crowd.told = Some(now);
        }
        self.crowded += usize::from(is_new);
        tell
    }

    /// Whoever was told before was told by another process.
    pub(crate) fn tell_anew(&mut self) {
        for crowd in self.namespaces.values_mut() {
            crowd.told = None;
        }
    }

    /// A list of all namespaces begins.
    pub(crate) fn all_listing(&mut self) {
        self.epoch += 1;
    }

    /// The list of all namespaces has ended: where it has left nothing out, nothing is.
    pub(crate) fn all_listed(&mut self) {
        let epoch = self.epoch;
        let mut cleared: Vec<String> = Vec::new();
        for (namespace, crowd) in &mut self.namespaces {
            if crowd.left_out.is_some_and(|seen| seen != epoch) && crowd.listing.is_none() {
                crowd.left_out = None;
                cleared.push(namespace.clone());
            }
        }
        self.crowded -= cleared.len();
        for namespace in cleared {
            self.sweep(&namespace);
        }
    }

    /// When this namespace is to be listed for what was left out.
    pub(crate) fn due(&self, namespace: &str, now: Duration) -> Due {
        let limit = self.limit;
        let is_wanted = |crowd: &&Crowd| crowd.left_out.is_some() && crowd.listing.is_none() && crowd.kept < limit;
        let Some(crowd) = self.namespaces.get(namespace).filter(is_wanted) else { return Due::Never };
        Due::At(crowd.listed.map_or(now, |listed| listed + LISTED_EVERY))
    }

    /// A list of this namespace begins.
    pub(crate) fn listing(&mut self, namespace: &str, now: Duration) {
        let crowd = self.of(namespace);
        (crowd.listing, crowd.listed) = (Some(false), Some(now));
    }

    /// The list of this namespace has ended; whether it has shown all there is.
    pub(crate) fn listed(&mut self, namespace: &str, is_complete: bool) {
        let Some(crowd) = self.namespaces.get_mut(namespace) else { return };
        let has_all = crowd.listing.take() == Some(false) && is_complete;
        if has_all && crowd.left_out.take().is_some() {
            self.crowded -= 1;
        }
        self.sweep(namespace);
    }

    /// Forgets a namespace of which nothing is kept, nor left out.
    fn sweep(&mut self, namespace: &str) {
        let unused = |crowd: &Crowd| crowd.kept == 0 && crowd.left_out.is_none() && crowd.listing.is_none();
        if self.namespaces.get(namespace).is_some_and(unused) {
            self.namespaces.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn full(limit: usize) -> Crowds {
        let mut crowds = Crowds::new(limit);
        for _ in 0..limit {
            assert!(crowds.has_room("n"));
            crowds.came("n");
        }
        crowds
    }

    #[test]
    fn a_namespace_at_its_limit_has_no_room_and_all_others_have() {
        let crowds = full(3);
        assert!(!crowds.has_room("n") && crowds.has_room("other"));
    }

    #[test]
    fn what_was_left_out_is_listed_when_there_is_room_and_not_more_often_than_that() {
        let mut crowds = full(3);
        crowds.left_out("n", at(0));
        assert_eq!((crowds.due("n", at(0)), crowds.crowded()), (Due::Never, 1), "there is no room");
        crowds.went("n");
        assert_eq!(crowds.due("n", at(1)), Due::At(at(1)));
        crowds.listing("n", at(1));
        assert_eq!(crowds.due("n", at(1)), Due::Never, "it is being listed");
        // Full again before the end.
        crowds.came("n");
        crowds.listed("n", false);
        crowds.went("n");
        assert_eq!(crowds.due("n", at(2)), Due::At(at(1) + LISTED_EVERY));
        crowds.listing("n", at(31));
        crowds.listed("n", true);
        assert_eq!((crowds.due("n", at(99)), crowds.crowded()), (Due::Never, 0), "nothing is left out");
    }

    #[test]
    fn what_is_left_out_while_the_namespace_is_listed_has_it_listed_again() {
        let mut crowds = full(3);
        crowds.left_out("n", at(0));
        crowds.went("n");
        crowds.listing("n", at(1));
        crowds.left_out("n", at(2));
        crowds.listed("n", true);
        assert_eq!((crowds.due("n", at(3)), crowds.crowded()), (Due::At(at(1) + LISTED_EVERY), 1));
    }

    #[test]
    fn a_list_of_all_shows_where_nothing_is_left_out_any_more() {
        let mut crowds = full(3);
        for namespace in ["n", "other"] {
            crowds.left_out(namespace, at(0));
        }
        crowds.all_listing();
        crowds.left_out("other", at(1));
        crowds.all_listed();
        assert_eq!((crowds.is_crowded("n"), crowds.is_crowded("other"), crowds.crowded()), (false, true, 1));
        assert_eq!(crowds.all_crowded().collect::<Vec<_>>(), ["other"]);
    }

    #[test]
    fn people_are_told_once_in_a_while_however_much_is_left_out() {
        let mut crowds = full(3);
        let told = (0..2000).filter(|second| crowds.left_out("n", at(*second))).count();
        assert_eq!(told, 4);
        crowds.tell_anew();
        assert!(crowds.left_out("n", at(2000)), "a new leader tells, too");
    }

    #[test]
    fn nothing_is_left_behind_of_a_namespace_that_is_empty() {
        let mut crowds = full(3);
        crowds.left_out("n", at(0));
        for _ in 0..3 {
            crowds.went("n");
        }
        crowds.listing("n", at(1));
        crowds.listed("n", true);
        assert!(crowds.namespaces.is_empty());
    }
}
