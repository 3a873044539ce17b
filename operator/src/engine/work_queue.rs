//! Which parents to decide on, and when. No I/O, no clock.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::Sizes;
use crate::key::Key;

/// Parents that something was heard of, and those that only time changes. Whoever was marked first comes first, so that
/// one that is marked again and again takes turns with the others.
#[derive(Debug, Default)]
pub struct WorkQueue {
    dirty: HashSet<Key>,
    turns: VecDeque<Key>,
    alarms: BTreeSet<(Duration, Key)>,
    times: HashMap<Key, Duration>,
}

impl WorkQueue {
    /// Asks for a decision on this parent.
    pub fn mark(&mut self, key: &Key) {
        if !self.dirty.contains(key) {
            self.dirty.insert(key.clone());
            self.turns.push_back(key.clone());
        }
    }

    /// Asks for a decision on this parent at this time, on the monotonic clock, or at none; replaces the time asked for
    /// before.
    pub fn set_alarm(&mut self, key: &Key, at: Option<Duration>) {
        if let Some(before) = self.times.remove(key) {
            self.alarms.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.times.insert(key.clone(), at);
            self.alarms.insert((at, key.clone()));
        }
    }

    /// Marks the parents whose time has come.
    pub fn ring(&mut self, now: Duration) {
        while self.alarms.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, key)) = self.alarms.pop_first()
        {
            self.times.remove(&key);
            self.mark(&key);
        }
    }

    /// The next parent to decide on; it may not exist any more.
    pub fn pop(&mut self) -> Option<Key> {
        let key = self.turns.pop_front()?;
        self.dirty.remove(&key);
        Some(key)
    }

    /// How many parents wait for a decision.
    pub fn waiting(&self) -> usize {
        self.turns.len()
    }

    /// How much is kept of what.
    pub(super) fn sizes(&self) -> Sizes {
        vec![
            ("parents to decide on", self.turns.len().max(self.dirty.len())),
            ("alarms", self.alarms.len().max(self.times.len())),
        ]
    }

    /// When the next decision is due; at once if one waits.
    pub fn next(&self) -> Option<Duration> {
        if self.turns.is_empty() { self.alarms.first().map(|(at, _)| *at) } else { Some(Duration::ZERO) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ParentKey;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> Key {
        ParentKey::new("n", name).into()
    }

    fn take(work_queue: &mut WorkQueue, now: Duration) -> Vec<String> {
        work_queue.ring(now);
        std::iter::from_fn(|| work_queue.pop()).map(|key| key.name.clone()).collect()
    }

    #[test]
    fn what_was_marked_is_decided_on_once_and_in_turn() {
        let mut work_queue = WorkQueue::default();
        for name in ["b", "a", "b"] {
            work_queue.mark(&key(name));
        }
        assert_eq!(work_queue.next(), Some(Duration::ZERO));
        assert_eq!(work_queue.pop(), Some(key("b")));
        work_queue.mark(&key("b"));
        assert_eq!(take(&mut work_queue, SECOND), ["a", "b"]);
        assert_eq!((take(&mut work_queue, SECOND), work_queue.next()), (vec![], None));
    }

    #[test]
    fn an_alarm_rings_once_at_the_last_time_it_was_set_to() {
        let mut work_queue = WorkQueue::default();
        work_queue.set_alarm(&key("a"), Some(SECOND));
        work_queue.set_alarm(&key("a"), Some(3 * SECOND));
        work_queue.set_alarm(&key("b"), Some(SECOND));
        work_queue.set_alarm(&key("b"), None);
        assert_eq!((take(&mut work_queue, 2 * SECOND), work_queue.next()), (vec![], Some(3 * SECOND)));
        assert_eq!((take(&mut work_queue, 3 * SECOND), work_queue.next()), (vec!["a".to_owned()], None));
    }
}
