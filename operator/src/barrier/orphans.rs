//! Arrivals that nobody owns, on their way to be adopted by their barrier. No I/O, no clock.
//!
//! Only the leader keeps any, and only so many at once: which arrivals have no owner can be found again among all of
//! them, which is what a new leader does, and what is done again when some had no room. Each attempt is one request;
//! after it the arrival waits here, not in a place where requests are made.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Orphans kept at once: more than are adopted in a second.
const ROOM: usize = 1024;

/// Attempts to adopt an arrival, spread over half a minute. After them it is left until the barrier or the arrival is
/// seen anew, or another operator leads: it counts all the same.
const ATTEMPTS: u32 = 10;

/// The first pause after a failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Orphans, by UID.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    leading: bool,
    ready: VecDeque<Arc<str>>,
    /// Those whose last attempt failed, with the time of the next one.
    resting: BTreeSet<(Duration, Arc<str>)>,
    /// Attempts made, of all that are kept: ready, resting or being adopted.
    attempts: HashMap<Arc<str>, u32>,
    /// Not all that there are had room.
    missed: bool,
}

impl Orphans {
    /// This process leads, or does not any more.
    pub(super) fn lead(&mut self, leading: bool) {
        *self = Self { leading, missed: leading, ..Self::default() };
    }

    /// This one has no owner, and its barrier exists.
    pub(super) fn offer(&mut self, uid: &Arc<str>) {
        if !self.leading || self.attempts.contains_key(uid) {
        } else if self.has_room() {
            self.attempts.insert(uid.clone(), 0);
            self.ready.push_back(uid.clone());
        } else {
            self.missed = true;
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.attempts.len() < ROOM
    }

    /// Whether all arrivals should be looked at for orphans. Says so once.
    pub(super) fn wants_scan(&mut self) -> bool {
        self.attempts.len() <= ROOM / 2 && std::mem::take(&mut self.missed)
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
        self.attempts.remove(uid);
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, uid: &Arc<str>, now: Duration) {
        let Some(attempts) = self.attempts.get_mut(uid) else { return };
        *attempts += 1;
        if *attempts == ATTEMPTS {
            self.attempts.remove(uid);
        } else {
            let pause = FIRST_PAUSE * 2_u32.pow(*attempts - 1);
            self.resting.insert((now + pause.min(LONGEST_PAUSE), uid.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(number: usize) -> Arc<str> {
        number.to_string().into()
    }

    #[test]
    fn a_standby_keeps_none_and_a_leader_only_so_many() {
        let mut orphans = Orphans::default();
        orphans.offer(&uid(0));
        assert!(orphans.attempts.is_empty() && !orphans.wants_scan());
        orphans.lead(true);
        assert!(orphans.wants_scan() && !orphans.wants_scan());
        (0..10 * ROOM).for_each(|number| orphans.offer(&uid(number)));
        assert_eq!((orphans.attempts.len(), orphans.ready.len()), (ROOM, ROOM));
        assert!(!orphans.wants_scan());
        for _ in 0..=ROOM / 2 {
            let next = orphans.next(Duration::ZERO).expect("one is ready");
            orphans.settled(&next);
        }
        assert!(orphans.wants_scan());
        orphans.lead(false);
        assert!(orphans.attempts.is_empty() && orphans.ready.is_empty() && orphans.next(Duration::MAX).is_none());
    }

    #[test]
    fn one_that_cannot_be_adopted_rests_longer_each_time_and_is_left_in_the_end() {
        let mut orphans = Orphans::default();
        orphans.lead(true);
        orphans.offer(&uid(1));
        let (mut now, mut attempts) = (Duration::ZERO, 0);
        while let Some(next) = orphans.next(now) {
            attempts += 1;
            orphans.failed(&next, now);
            let Some((at, _)) = orphans.resting.first().cloned() else { break };
            // That it is seen in between does not shorten its rest.
            orphans.offer(&next);
            assert_eq!(orphans.next(now), None);
            now = at;
        }
        assert!(orphans.attempts.is_empty());
        assert_eq!(attempts, ATTEMPTS);
        assert!((20..40).contains(&now.as_secs()), "{now:?}");
    }
}
