//! What is said again and again: once, and then ever more seldom, with a count.
//!
//! What fails for hours is tried for hours, and each attempt has the same to say. A log that says it each time hides
//! everything else; one that says it only once looks as if it were over. So a text is said when it is new, and again
//! after pauses that double, with how often it would have been said in between. When it has not come for a while, what
//! it was about is over, and the next time it is new.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use konductor_api::GoDuration;

/// How soon a text is said a second time, at the earliest.
const FIRST: Duration = Duration::from_secs(10);

/// The longest pause between two times: whoever looks at the last minutes of a log finds out what is wrong now.
const LONGEST: Duration = Duration::from_mins(10);

/// What has not come for this long is new when it comes. Longer than any pause between two attempts: an API server may
/// ask for a minute.
const OVER: Duration = Duration::from_mins(2);

/// How many texts are remembered, of which the oldest goes first. Each is a few dozen bytes, and what is forgotten is
/// said once more.
const REMEMBERED: usize = 1024;

/// The texts that were said lately.
#[derive(Debug, Default)]
pub struct Repeats(HashMap<u64, Said>);

/// What is known of a text that was said.
#[derive(Debug)]
struct Said {
    /// When it was last said.
    at: Duration,
    /// When it last came, said or not.
    came: Duration,
    /// How long it is not said after that.
    pause: Duration,
    /// How often it has come since it was last said.
    unsaid: u32,
}

/// How often a text has come since it was last said. Displayed as what follows the text: nothing, or a count in
/// brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// How often, this time not counted.
    pub times: u32,
    /// How long ago it was last said.
    pub within: Duration,
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.times == 0 {
            return Ok(());
        }
        let (times, within) = (self.times, GoDuration(Duration::from_secs(self.within.as_secs())));
        let noun = if times == 1 { "time" } else { "times" };
        write!(f, " ({times} more {noun} within {within})")
    }
}

impl Repeats {
    /// A text comes at `now`, a time that never goes back: none if it is not to be said.
    pub fn take(&mut self, text: &str, now: Duration) -> Option<Repeated> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let key = hasher.finish();
        if let Some(said) = self.0.get_mut(&key).filter(|said| now.saturating_sub(said.came) < OVER) {
            said.came = now;
            let within = now.saturating_sub(said.at);
            if within < said.pause {
                said.unsaid = said.unsaid.saturating_add(1);
                return None;
            }
            let times = std::mem::take(&mut said.unsaid);
            (said.at, said.pause) = (now, said.pause.saturating_mul(2).min(LONGEST));
            return Some(Repeated { times, within });
        }
        self.make_room(now);
        self.0.insert(key, Said { at: now, came: now, pause: FIRST, unsaid: 0 });
        Some(Repeated { times: 0, within: Duration::ZERO })
    }

    fn make_room(&mut self, now: Duration) {
        if self.0.len() < REMEMBERED {
            return;
        }
        self.0.retain(|_, said| now.saturating_sub(said.came) < OVER);
        if self.0.len() >= REMEMBERED
            && let Some(oldest) = self.0.iter().min_by_key(|(_, said)| said.came).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// When a text that comes every `every` seconds is said, and with what count.
    fn said(repeats: &mut Repeats, every: u64, until: u64) -> Vec<(u64, u32)> {
        let times = (0..=until / every).map(|n| n * every);
        times.filter_map(|at| Some((at, repeats.take("refused", seconds(at))?.times))).collect()
    }

    #[test]
    fn what_repeats_is_said_ever_more_seldom_with_a_count() {
        let mut repeats = Repeats::default();
        assert_eq!(said(&mut repeats, 5, 400), [(0, 0), (10, 1), (30, 3), (70, 7), (150, 15), (310, 31)]);
        let last: Vec<_> =
            said(&mut Repeats::default(), 10, 3600).into_iter().rev().take(3).map(|(at, _)| at).collect();
        assert_eq!(last, [3030, 2430, 1830], "never more seldom than every ten minutes");
    }

    #[test]
    fn what_repeats_seldom_is_said_each_time_at_first() {
        assert_eq!(said(&mut Repeats::default(), 15, 120), [(0, 0), (15, 0), (45, 1), (90, 2)]);
    }

    #[test]
    fn each_text_has_a_count_of_its_own() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.take("refused", seconds(0)).map(|again| again.times), Some(0));
        assert_eq!(repeats.take("timed out", seconds(1)).map(|again| again.times), Some(0));
        assert_eq!(repeats.take("refused", seconds(2)), None);
        assert_eq!(repeats.take("timed out", seconds(12)), Some(Repeated { times: 0, within: seconds(11) }));
        assert_eq!(repeats.take("refused", seconds(13)), Some(Repeated { times: 1, within: seconds(13) }));
    }

    #[test]
    fn what_has_not_come_for_long_is_new() {
        let mut repeats = Repeats::default();
        said(&mut repeats, 5, 400);
        assert_eq!(repeats.take("refused", seconds(519)), None, "its pause has grown");
        let new = Some(Repeated { times: 0, within: Duration::ZERO });
        assert_eq!(repeats.take("refused", seconds(519) + OVER), new);
        assert_eq!(repeats.take("refused", seconds(530) + OVER).map(|again| again.times), Some(0), "so is its pause");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repeats = Repeats::default();
        for text in 0..2 * REMEMBERED {
            assert!(repeats.take(&text.to_string(), seconds(1)).is_some());
            assert!(repeats.0.len() <= REMEMBERED);
        }
        assert_eq!(repeats.take(&(2 * REMEMBERED - 1).to_string(), seconds(2)), None, "the latest is remembered");
    }

    #[test]
    fn the_count_follows_the_text() {
        for (times, within, expected) in
            [(0, 25, ""), (1, 25, " (1 more time within 25s)"), (40, 90, " (40 more times within 1m30s)")]
        {
            assert_eq!(Repeated { times, within: seconds(within) }.to_string(), expected);
        }
    }
}
