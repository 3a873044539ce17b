//! Turns that have come and are not taken: after some seconds the next one has them.
//!
//! Where the whole machine stands still, those who wait do so as well. So whoever comes much later than it meant to knows
//! only that nobody has run meanwhile, and gives the others the same time once more.

use std::collections::BTreeMap;

use tokio::time::sleep;

use super::limits;
use crate::Boottime;

/// Who was seen to have its turn without taking it, with the token.
#[derive(Default)]
pub(super) struct Turns(BTreeMap<(String, u64), Seen>);

#[derive(Clone, Copy)]
struct Seen {
    since: Boottime,
    /// It has been given more time already.
    excused: bool,
}

impl Turns {
    pub(super) fn see(&mut self, untaken: Vec<(String, u64)>, now: Boottime) {
        let seen = untaken.into_iter().map(|turn| {
            let seen = self.0.get(&turn).copied().unwrap_or(Seen { since: now, excused: false });
            (turn, seen)
        });
        self.0 = seen.collect();
    }

    /// Those that others have waited for long enough.
    pub(super) fn due(&mut self, now: Boottime) -> Vec<(String, u64)> {
        for seen in self.0.values_mut() {
            if !seen.excused && seen.since + limits::UNTAKEN + limits::LATE <= now {
                *seen = Seen { since: now, excused: true };
            }
        }
        let due = self.0.iter().filter(|(_, seen)| seen.since + limits::UNTAKEN <= now);
        due.map(|(turn, _)| turn.clone()).collect()
    }

    /// Returns when there is somebody who may be due.
    pub(super) async fn come(&self) {
        match self.0.values().map(|seen| seen.since).min() {
            Some(since) => sleep(since + limits::UNTAKEN - Boottime::now()).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(10);

    fn turn(name: &str) -> (String, u64) {
        (name.to_owned(), 7)
    }

    #[test]
    fn a_turn_is_due_when_it_was_left_for_long_enough_without_a_pause() {
        let (mut turns, start) = (Turns::default(), Boottime(Duration::from_secs(100)));
        turns.see(vec![turn("first")], start);
        let later = start + limits::UNTAKEN / 2;
        turns.see(vec![turn("first"), turn("second")], later);
        assert!(turns.due(start + limits::UNTAKEN - MOMENT).is_empty());
        assert_eq!(turns.due(start + limits::UNTAKEN), [turn("first")]);
        // It has been taken, and comes again.
        turns.see(vec![turn("second")], start + limits::UNTAKEN);
        turns.see(vec![turn("first"), turn("second")], later + limits::UNTAKEN);
        assert_eq!(turns.due(later + limits::UNTAKEN), [turn("second")]);
    }

    #[test]
    fn after_a_standstill_there_is_time_once_more_and_only_once() {
        let (mut turns, start) = (Turns::default(), Boottime(Duration::from_secs(100)));
        turns.see(vec![turn("first")], start);
        let late = start + limits::UNTAKEN + Duration::from_secs(8);
        assert!(turns.due(late).is_empty());
        turns.see(vec![turn("first")], late);
        assert!(turns.due(late + limits::UNTAKEN - MOMENT).is_empty());
        assert_eq!(turns.due(late + limits::UNTAKEN + Duration::from_secs(8)), [turn("first")]);
    }
}
