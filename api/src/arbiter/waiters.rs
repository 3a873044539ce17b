//! Waiting claims in the order in which they may go: priority first, then ticket.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, btree_set},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::Uid;

/// A claim's place in the queue. The UID only makes it unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) priority: Reverse<i32>,
    pub(super) ticket: u64,
    pub(super) uid: Uid,
    /// When the claim was created, in unix seconds: never decides, as no two have one UID.
    pub(super) created: u64,
}

/// What a walk through the queue has to know of each waiter, so that it need not look up ten thousand claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiter {
    pub(super) weight: u64,
    /// Being written, or about to be dropped: in nobody's way.
    pub(super) aside: bool,
    /// A telling is under way.
    pub(super) telling: bool,
    /// Not to be told anything before this time, after a failed telling.
    pub(super) tell_at: Duration,
    /// It has been answered that it waits.
    pub(super) pending: bool,
    /// The position that it was last told.
    pub(super) ahead: Option<u64>,
    /// [`digest`] of the message that it was last told, but for what asks its client.
    pub(super) message: u64,
}

/// Stands for a message where only equality matters and nothing worse than an old message can follow from a mistake.
pub(super) fn digest(message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

/// All waiting claims of one parent, as one queue and as one queue per weight. The second lets a decision skip what
/// cannot go without looking at each of it. Nothing is decided by their age: that is for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Waiters {
    in_order: BTreeMap<Place, Waiter>,
    by_weight: BTreeMap<u64, BTreeSet<Place>>,
    by_age: BTreeSet<(u64, Uid)>,
}

impl Waiters {
    pub(super) fn insert(&mut self, place: Place, waiter: Waiter) {
        self.by_weight.entry(waiter.weight).or_default().insert(place.clone());
        self.by_age.insert((place.created, place.uid.clone()));
        self.in_order.insert(place, waiter);
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let Some(Waiter { weight, .. }) = self.in_order.remove(place) else { return };
        self.by_age.remove(&(place.created, place.uid.clone()));
        if let Some(queue) = self.by_weight.get_mut(&weight) {
            queue.remove(place);
            if queue.is_empty() {
                self.by_weight.remove(&weight);
            }
        }
    }

    /// What is known of a waiter that keeps its place and its weight.
    pub(super) fn update(&mut self, place: &Place, waiter: Waiter) {
        if let Some(known) = self.in_order.get_mut(place) {
            *known = waiter;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// When the one was created that has waited for longest, in unix seconds.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.by_age.first().map(|(created, _)| *created)
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = (&Place, &Waiter)> {
        self.in_order.iter()
    }

    /// Those of at most this weight, to be taken one after the other.
    pub(super) fn turns(&self, limit: u64) -> Turns<'_> {
        let heads = self.by_weight.range(..=limit).filter_map(|(weight, queue)| {
            let mut rest = queue.iter();
            Some(Head { first: Reverse(rest.next()?), weight: *weight, rest })
        });
        Turns { heads: heads.collect() }
    }
}

/// The first of the waiters of one weight that were not taken yet.
struct Head<'a> {
    first: Reverse<&'a Place>,
    weight: u64,
    rest: btree_set::Iter<'a, Place>,
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.first.cmp(&other.first)
    }
}

/// A walk over the queues of all weights that keeps the common order.
pub(super) struct Turns<'a> {
    heads: BinaryHeap<Head<'a>>,
}

impl<'a> Turns<'a> {
    /// The first in line among those of at most this weight, with its weight. The limit never rises during a walk.
    pub(super) fn next_within(&mut self, limit: u64) -> Option<(u64, &'a Place)> {
        loop {
            let Head { first: Reverse(place), weight, mut rest } = self.heads.pop()?;
            if weight > limit {
                continue;
            }
            if let Some(next) = rest.next() {
                self.heads.push(Head { first: Reverse(next), weight, rest });
            }
            return Some((weight, place));
        }
    }
}
