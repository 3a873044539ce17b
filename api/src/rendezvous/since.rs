//! How long something has been so by the operator's own clock.
//!
//! # Why
//! What a wait begins with is in the API: when an arrival was created, when a round ended, since when a gate waits.
//! Those are times of other machines' clocks, and the operator's wall clock may be set. Were they all that is looked
//! at, a clock that is an hour fast would open a quorum of an hour at once. So a wait is over when both have gone by:
//! the wall clock is past the time, and the operator's own clock, which is never set, has counted that long since it
//! saw the wait begin.
//!
//! # What a restart costs
//! An operator that finds a wait that began before it did cannot have counted all of it, and if it had to, a wait of a
//! week would not end under an operator that is restarted every day. So it grants what the wall clock says has passed,
//! but has itself seen the wait for [`OWN_WAIT`], or for all of it if that is shorter. So:
//! - a wait that this process saw begin ends early under no clock at all. The standby sees what the leader sees, so a
//!   change of leader costs nothing but what an outage does;
//! - a wait up to [`OWN_WAIT`] never ends early, and a restart makes it late by its own length at most;
//! - a longer one ends late by at most [`OWN_WAIT`] a restart, and early only if the wall clock was wrong when
//!   this process found it: by as much as it was wrong, and not within [`OWN_WAIT`].
//!
//! # What an outage costs
//! A leader that gets no answers does not lead any more, and begins again when it does. A wait that has run out
//! meanwhile is not over at once: what was waited for may have come without being seen, or have been kept from coming.
//! So whoever begins to lead calls no wait over before it has led for [`ANSWERED_FOR`], or for all of the wait if that is
//! shorter. Nor does a leader that got no answers for a while and leads all the same ([`Answers`](super::Answers)): its
//! term of office outlasts a short outage, and the outage may be one of its connections only.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    GoDuration,
    arbiter::Now,
    limits::{ANSWERED_FOR, OWN_WAIT},
};

/// Since when something has been so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// When it was seen first, by the operator's own clock.
    seen: Duration,
    /// How long it had been so before, as far as is known.
    before: Duration,
    /// Since when this operator leads and is answered, by its own clock.
    answered: Option<Duration>,
}

impl Since {
    /// It began now.
    pub fn begun(now: Now) -> Self {
        Self { seen: now.monotonic, before: Duration::ZERO, answered: None }
    }

    /// It was found so now, and is said to have begun at `start`.
    pub fn found(start: Timestamp, now: Now) -> Self {
        let before = Duration::try_from(now.wall.duration_since(start)).unwrap_or_default();
        Self { seen: now.monotonic, before, answered: None }
    }

    /// The same to an operator that leads and is answered since `answered`, by its own clock.
    #[must_use]
    pub fn answered(self, answered: Duration) -> Self {
        Self { answered: Some(answered), ..self }
    }

    /// How much of a wait is left.
    pub fn left(self, GoDuration(wait): GoDuration, now: Now) -> Duration {
        let own = now.monotonic.saturating_sub(self.seen);
        let by_all = wait.saturating_sub(self.before.saturating_add(own));
        let answered = self.answered.map_or(Duration::MAX, |answered| now.monotonic.saturating_sub(answered));
        by_all.max(wait.min(OWN_WAIT).saturating_sub(own)).max(wait.min(ANSWERED_FOR).saturating_sub(answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn now(own: u64, wall: i64) -> Now {
        Now { monotonic: Duration::from_secs(own), wall: Timestamp::from_second(wall).expect("a time") }
    }

    #[test]
    fn the_wall_clock_shortens_only_what_began_before_and_never_below_an_hour() {
        let start = Timestamp::from_second(0).expect("a time");
        let far = (24 * HOUR) as i64;
        for (what, since, wait, at, left) in [
            ("seen to begin", Since::begun(now(5, 0)), MINUTE, now(35, far), 30),
            ("passed", Since::begun(now(5, 0)), MINUTE, now(65, 0), 0),
            ("found, short", Since::found(start, now(5, far)), MINUTE, now(35, far), 30),
            ("found, long", Since::found(start, now(5, far)), 48 * HOUR, now(5, far), 24 * HOUR),
            ("found, long gone", Since::found(start, now(5, far)), 2 * HOUR, now(5, far), HOUR),
            ("found, the clock set afterwards", Since::found(start, now(5, 0)), 2 * HOUR, now(5, far), 2 * HOUR),
            ("run out in an outage", Since::begun(now(5, 0)).answered(secs(200)), MINUTE, now(200, 0), 30),
            ("led for long", Since::begun(now(5, 0)).answered(secs(20)), MINUTE, now(65, 0), 0),
            ("short, run out in an outage", Since::begun(now(5, 0)).answered(secs(200)), 10, now(203, 0), 7),
            ("begun after the outage", Since::begun(now(300, 0)).answered(secs(200)), MINUTE, now(310, 0), 50),
            ("found, from the future", Since::found(now(0, far).wall, now(5, 0)), 2 * HOUR, now(5, 0), 2 * HOUR),
        ] {
            let wait = GoDuration(Duration::from_secs(wait));
            assert_eq!(since.left(wait, at), Duration::from_secs(left), "{what}");
        }
    }
}
