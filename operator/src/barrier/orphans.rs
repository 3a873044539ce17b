//! Arrivals that nobody owns, on their way to be adopted by their barrier. No I/O, no clock.
//!
//! Only the leader keeps any, and only so many at once, of each namespace and in all: which arrivals have no owner can
//! be found again among all of them, which is what a new leader does, and what is done again, from the first that had
//! no room, when there is some. Namespaces take turns at that. Each attempt is one request; after it the arrival waits
//! here, not in a place where requests are made.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use konductor_api::duration::doubling_pause;

use super::arrivals::At;
use crate::key::Key;

/// Orphans kept at once.
const ROOM: usize = 1024;

/// Orphans of one namespace kept at once, so that one whose arrivals cannot be adopted leaves the others room: more
/// than are adopted in a second.
const SHARE: usize = 128;

/// Attempts to adopt an arrival, spread over half a minute. After them it is left until the barrier or the arrival is
/// seen anew, or another operator leads: it counts all the same.
const ATTEMPTS: u32 = 10;

/// The first pause after a failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An orphan that is kept: ready, resting or being adopted.
#[derive(Debug)]
struct Kept {
    namespace: String,
    /// Attempts made.
    attempts: u32,
}

/// Orphans that had no room.
#[derive(Debug)]
struct Missed {
    /// None of their namespace is before this.
    from: At,
    /// The namespace waits for its turn to be looked through.
    queued: bool,
}

/// Orphans, by UID.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    leading: bool,
    ready: VecDeque<Arc<str>>,
    /// Those whose last attempt failed, with the time of the next one.
    resting: BTreeSet<(Duration, Arc<str>)>,
    kept: HashMap<Arc<str>, Kept>,
    /// How many are kept of each namespace.
    shares: HashMap<String, usize>,
    /// By namespace.
    missed: HashMap<String, Missed>,
    /// Namespaces to be looked through, in order.
    queue: VecDeque<String>,
}

impl Orphans {
    /// How much is kept of what.
    pub(super) fn sizes(&self) -> [(&'static str, usize); 3] {
        [
            ("orphans", self.kept.len()),
            ("orphans that are ready or rest", self.ready.len() + self.resting.len()),
            ("namespaces with orphans", self.shares.len() + self.missed.len() + self.queue.len()),
        ]
    }

    /// This process leads, or does not any more.
    pub(super) fn lead(&mut self, leading: bool) {
        *self = Self { leading, ..Self::default() };
    }

    /// This one, of a barrier that exists, has no owner. Returns whether it needs no other offer.
    pub(super) fn offer(&mut self, uid: &Arc<str>, barrier: &Key) -> bool {
        let namespace = &barrier.namespace;
        if !self.leading || self.kept.contains_key(uid) {
            return true;
        }
        if self.kept.len() >= ROOM || self.share(namespace) >= SHARE {
            return false;
        }
        self.kept.insert(uid.clone(), Kept { namespace: namespace.clone(), attempts: 0 });
        *self.shares.entry(namespace.clone()).or_default() += 1;
        self.ready.push_back(uid.clone());
        true
    }

    fn share(&self, namespace: &str) -> usize {
        self.shares.get(namespace).copied().unwrap_or(0)
    }

    /// Of this namespace there may be orphans that had no room, none of them before `from`.
    pub(super) fn miss(&mut self, from: At) {
        if !self.leading {
            return;
        }
        let namespace = from.0.namespace.clone();
        if let Some(missed) = self.missed.get_mut(&namespace) {
            if from < missed.from {
                missed.from = from;
            }
        } else {
            self.missed.insert(namespace.clone(), Missed { from, queued: false });
            self.queue(&namespace);
        }
    }

    /// Gives a namespace of which some were missed its turn, once it has room for a good part of them.
    fn queue(&mut self, namespace: &str) {
        let has_room = self.share(namespace) <= SHARE / 2;
        if let Some(missed) = self.missed.get_mut(namespace).filter(|missed| has_room && !missed.queued) {
            missed.queued = true;
            self.queue.push_back(namespace.to_owned());
        }
    }

    /// From where a namespace is to be looked through for orphans. Says so once.
    pub(super) fn wants_scan(&mut self) -> Option<At> {
        let namespace = if self.kept.len() <= ROOM / 2 { self.queue.pop_front()? } else { return None };
        self.missed.remove(&namespace).map(|missed| missed.from)
    }

    /// One to be adopted now.
    pub(super) fn next(&mut self, now: Duration) -> Option<Arc<str>> {
        if self.resting.first().is_some_and(|(at, _)| *at <= now) {
            return self.resting.pop_first().map(|(_, uid)| uid);
        }
        self.ready.pop_front()
    }

    /// This one needs nothing more.
    pub(super) fn settled(&mut self, uid: &Arc<str>) {
        let Some(Kept { namespace, .. }) = self.kept.remove(uid) else { return };
        if let Some(share) = self.shares.get_mut(&namespace) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&namespace);
            }
        }
        self.queue(&namespace);
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, uid: &Arc<str>, now: Duration) {
        let Some(Kept { attempts, .. }) = self.kept.get_mut(uid) else { return };
        *attempts += 1;
        if *attempts == ATTEMPTS {
            self.settled(uid);
        } else {
            let pause = doubling_pause(FIRST_PAUSE, *attempts - 1, LONGEST_PAUSE);
            self.resting.insert((now + pause, uid.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ParentKey;

    fn uid(number: usize) -> Arc<str> {
        number.to_string().into()
    }

    fn barrier(namespace: &str) -> Key {
        ParentKey::new(namespace, "b").into()
    }

    #[test]
    fn a_standby_keeps_none_and_a_leader_only_so_many() {
        let mut orphans = Orphans::default();
        let start = |namespace: &str| (barrier(namespace), None);
        assert!(orphans.offer(&uid(0), &barrier("n")));
        orphans.miss(start("n"));
        assert!(orphans.kept.is_empty() && orphans.wants_scan().is_none());
        orphans.lead(true);
        for number in 0..10 * ROOM {
            let namespace = (number % 10).to_string();
            if !orphans.offer(&uid(number), &barrier(&namespace)) {
                orphans.miss(start(&namespace));
            }
        }
        assert_eq!((orphans.kept.len(), orphans.ready.len()), (ROOM, ROOM));
        assert!(orphans.wants_scan().is_none());
        for _ in 0..=ROOM / 2 {
            let next = orphans.next(Duration::ZERO).expect("one is ready");
            orphans.settled(&next);
        }
        // Each namespace once.
        let scans: BTreeSet<_> = std::iter::from_fn(|| orphans.wants_scan()).map(|(key, _)| key).collect();
        assert_eq!(scans.len(), 10);
        orphans.lead(false);
        assert!(orphans.kept.is_empty() && orphans.ready.is_empty() && orphans.next(Duration::MAX).is_none());
    }

    #[test]
    fn a_namespace_is_looked_through_from_the_first_that_had_no_room_when_it_has_room_again() {
        let mut orphans = Orphans::default();
        orphans.lead(true);
        (0..SHARE).for_each(|number| assert!(orphans.offer(&uid(number), &barrier("n"))));
        assert!(!orphans.offer(&uid(SHARE), &barrier("n")));
        assert!(orphans.offer(&uid(SHARE + 1), &barrier("other")));
        let at = |number: usize| (barrier("n"), Some(uid(number)));
        for number in [5, 3, 4] {
            orphans.miss(at(number));
        }
        for number in 0..SHARE / 2 {
            assert_eq!(orphans.wants_scan(), None);
            orphans.settled(&uid(number));
        }
        assert_eq!(orphans.wants_scan(), Some(at(3)));
        assert_eq!(orphans.wants_scan(), None);
    }

    #[test]
    fn one_that_cannot_be_adopted_rests_longer_each_time_and_is_left_in_the_end() {
        let mut orphans = Orphans::default();
        orphans.lead(true);
        orphans.offer(&uid(1), &barrier("n"));
        let (mut now, mut attempts) = (Duration::ZERO, 0);
        while let Some(next) = orphans.next(now) {
            attempts += 1;
            orphans.failed(&next, now);
            let Some((at, _)) = orphans.resting.first().cloned() else { break };
            // That it is seen in between does not shorten its rest.
            orphans.offer(&next, &barrier("n"));
            assert_eq!(orphans.next(now), None);
            now = at;
        }
        assert!(orphans.kept.is_empty() && orphans.shares.is_empty());
        assert_eq!(attempts, ATTEMPTS);
        assert!((20..40).contains(&now.as_secs()), "{now:?}");
    }
}
