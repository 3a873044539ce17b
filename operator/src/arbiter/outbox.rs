//! Writes that wait for their turn.
//!
//! Two lanes, each with places of its own, so that telling people things never holds up a grant, and is never starved by
//! grants either. Within a lane parents take turns, and none has more than its share under way: a parent whose writes are
//! slow holds up no other.

use std::collections::{HashMap, VecDeque};

use konductor_api::arbiter::{ClaimChange, ParentChange, Write};

use super::Key;

/// Urgent writes under way at once: about twice what it takes to keep an API server of a few cores busy.
const URGENT: usize = 56;

/// Urgent writes under way at once for one parent, so that another one always finds a place.
const URGENT_EACH: usize = 32;

/// Other writes under way at once.
const CALM: usize = 8;

/// Other writes under way at once for one parent.
const CALM_EACH: usize = 4;

/// Which lane a write takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody waits for it.
    Urgent,
    /// For people, or to tidy up.
    Calm,
}

impl From<&Write> for Urgency {
    fn from(write: &Write) -> Self {
        match write {
            Write::Parent(write) => match write.change {
                ParentChange::Raise(_) | ParentChange::Settle(_) => Self::Urgent,
                ParentChange::Summarize(_) => Self::Calm,
            },
            Write::Claim(write) => match write.change {
                ClaimChange::Grant(_)
                | ClaimChange::Restamp(_)
                | ClaimChange::SendBack(_)
                | ClaimChange::Revoke(_)
                | ClaimChange::Expire(_) => Self::Urgent,
                ClaimChange::Tell(_) | ClaimChange::Delete => Self::Calm,
            },
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Write>,
    under_way: usize,
    /// In the lane's `turns`.
    queued: bool,
}

struct Lane {
    places: usize,
    share: usize,
    under_way: usize,
    queues: HashMap<Key, Queue>,
    turns: VecDeque<Key>,
}

impl Lane {
    fn new(places: usize, share: usize) -> Self {
        Self { places, share, under_way: 0, queues: HashMap::new(), turns: VecDeque::new() }
    }

    /// Puts the parent in line if it has something to send and is allowed to.
    fn line_up(&mut self, key: &Key) {
        if let Some(queue) = self.queues.get_mut(key)
            && !queue.queued
            && !queue.waiting.is_empty()
            && queue.under_way < self.share
        {
            queue.queued = true;
            self.turns.push_back(key.clone());
        }
    }

    fn push(&mut self, key: &Key, write: Write) {
        self.queues.entry(key.clone()).or_default().waiting.push_back(write);
        self.line_up(key);
    }

    fn next(&mut self) -> Option<(Key, Write)> {
        if self.under_way == self.places {
            return None;
        }
        let key = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        queue.queued = false;
        let write = queue.waiting.pop_front()?;
        queue.under_way += 1;
        self.under_way += 1;
        self.line_up(&key);
        Some((key, write))
    }

    fn done(&mut self, key: &Key) {
        self.under_way -= 1;
        if let Some(queue) = self.queues.get_mut(key) {
            queue.under_way -= 1;
            if queue.under_way == 0 && queue.waiting.is_empty() {
                self.queues.remove(key);
                return;
            }
        }
        self.line_up(key);
    }

    fn clear(&mut self) -> Vec<(Key, Write)> {
        self.turns.clear();
        let mut dropped = Vec::new();
        self.queues.retain(|key, queue| {
            queue.queued = false;
            dropped.extend(queue.waiting.drain(..).map(|write| (key.clone(), write)));
            queue.under_way > 0
        });
        dropped
    }
}

/// All writes that wait, and a count of those under way.
pub(super) struct Outbox {
    urgent: Lane,
    calm: Lane,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { urgent: Lane::new(URGENT, URGENT_EACH), calm: Lane::new(CALM, CALM_EACH) }
    }

    fn lane(&mut self, urgency: Urgency) -> &mut Lane {
        match urgency {
            Urgency::Urgent => &mut self.urgent,
            Urgency::Calm => &mut self.calm,
        }
    }

    /// Queues a write.
    pub(super) fn push(&mut self, key: &Key, write: Write) {
        self.lane(Urgency::from(&write)).push(key, write);
    }

    /// The next write to send now, if there is a place for it. [`Outbox::done`] has to follow.
    pub(super) fn next(&mut self) -> Option<(Key, Write)> {
        self.urgent.next().or_else(|| self.calm.next())
    }

    /// A write of this parent is not under way any more.
    pub(super) fn done(&mut self, key: &Key, urgency: Urgency) {
        self.lane(urgency).done(key);
    }

    /// Takes out everything that was not sent.
    pub(super) fn clear(&mut self) -> Vec<(Key, Write)> {
        let mut dropped = self.urgent.clear();
        dropped.extend(self.calm.clear());
        dropped
    }

    /// Whether writes of this parent wait or are under way.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.urgent.queues.contains_key(key) || self.calm.queues.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use konductor_api::arbiter::{ClaimState, ClaimWrite};

    use super::*;
    use crate::arbiter::ParentKey;

    fn key(name: &str) -> Key {
        ParentKey { namespace: "n".into(), name: name.into() }.into()
    }

    fn write(change: ClaimChange) -> Write {
        Write::Claim(ClaimWrite { uid: "u".into(), name: "n".into(), version: 1, change, happening: None })
    }

    fn grant() -> Write {
        write(ClaimChange::Grant(ClaimState::default()))
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.next()).map(|(key, write)| format!("{} {}", write.name(), key.name)).collect()
    }

    #[test]
    fn grants_go_before_what_is_for_people() {
        let mut outbox = Outbox::new();
        outbox.push(&key("a"), write(ClaimChange::Tell(ClaimState::default())));
        outbox.push(&key("a"), grant());
        assert_eq!(drain(&mut outbox), ["grant a", "tell a"]);
    }

    #[test]
    fn parents_take_turns_and_none_takes_all_places() {
        let mut outbox = Outbox::new();
        for _ in 0..100 {
            outbox.push(&key("big"), grant());
        }
        outbox.push(&key("small"), grant());
        let sent = drain(&mut outbox);
        assert_eq!(sent[..3], ["grant big", "grant small", "grant big"]);
        assert_eq!(sent.len(), URGENT_EACH + 1);
        outbox.done(&key("big"), Urgency::Urgent);
        assert_eq!(drain(&mut outbox), ["grant big"]);
    }

    #[test]
    fn the_places_of_a_lane_are_all_there_are() {
        let mut outbox = Outbox::new();
        for parent in 0..100 {
            outbox.push(&key(&parent.to_string()), grant());
            outbox.push(&key(&parent.to_string()), write(ClaimChange::Delete));
        }
        assert_eq!(drain(&mut outbox).len(), URGENT + CALM);
    }

    #[test]
    fn what_was_not_sent_can_be_taken_back() {
        let mut outbox = Outbox::new();
        for _ in 0..40 {
            outbox.push(&key("a"), grant());
        }
        assert_eq!(drain(&mut outbox).len(), URGENT_EACH);
        assert_eq!(outbox.clear().len(), 40 - URGENT_EACH);
        for _ in 0..URGENT_EACH {
            assert!(outbox.has(&key("a")));
            outbox.done(&key("a"), Urgency::Urgent);
        }
        assert!(!outbox.has(&key("a")));
        assert_eq!(drain(&mut outbox), [""; 0]);
    }
}
