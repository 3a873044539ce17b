//! Waiting claims in the order in which they may go: priority first, then ticket.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, btree_set},
    iter::Peekable,
};

/// A claim's place in the queue. The UID only makes it unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) priority: Reverse<i32>,
    pub(super) ticket: u64,
    pub(super) uid: String,
}

/// All waiting claims of one parent, as one queue and as one queue per weight. The second lets a decision skip what
/// cannot go without looking at each of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Waiters {
    in_order: BTreeSet<Place>,
    by_weight: BTreeMap<u64, BTreeSet<Place>>,
}

impl Waiters {
    pub(super) fn insert(&mut self, weight: u64, place: Place) {
        self.by_weight.entry(weight).or_default().insert(place.clone());
        self.in_order.insert(place);
    }

    pub(super) fn remove(&mut self, weight: u64, place: &Place) {
        self.in_order.remove(place);
        if let Some(queue) = self.by_weight.get_mut(&weight) {
            queue.remove(place);
            if queue.is_empty() {
                self.by_weight.remove(&weight);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = &Place> {
        self.in_order.iter()
    }

    /// Those that could ever go with this capacity, to be taken one after the other.
    pub(super) fn turns(&self, capacity: u64) -> Turns<'_> {
        Turns {
            queues: self
                .by_weight
                .range(..=capacity)
                .map(|(weight, queue)| (*weight, queue.iter().peekable()))
                .collect(),
        }
    }
}

/// A walk over the queues of all weights that keeps the common order.
pub(super) struct Turns<'a> {
    queues: Vec<(u64, Peekable<btree_set::Iter<'a, Place>>)>,
}

impl<'a> Turns<'a> {
    /// The first in line among those of at most this weight, with its weight.
    pub(super) fn next_within(&mut self, limit: u64) -> Option<(u64, &'a Place)> {
        let heads = self.queues.iter_mut().filter(|(weight, _)| *weight <= limit);
        let (_, weight, queue) = heads
            .filter_map(|(weight, queue)| Some((*queue.peek()?, *weight, queue)))
            .min_by_key(|(place, ..)| *place)?;
        queue.next().map(|place| (weight, place))
    }
}
