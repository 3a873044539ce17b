//! Whether somebody answers an operator, as far as its own requests tell.
//!
//! Nobody does while a request fails without an answer, or is long in getting one ([`SLOW_ANSWER`]), and none that was
//! sent before or after it is answered meanwhile. With the next answer that has been an outage, and the waits that
//! have run out in it are not over at once ([`since`](super::since)).
//!
//! An API server that fails now and then, or one object for which every request fails, must not put them off for ever.
//! So an outage counts only if none has within [`OUTAGES_APART`]: then waits end for at least half of that time.

use std::{mem, time::Duration};

use crate::limits::{OUTAGES_APART, SLOW_ANSWER};

/// See the [module](self). Times are by the operator's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// When the last answer came.
    last: Duration,
    /// Something has failed without an answer, and nothing was answered since it was sent.
    silent: bool,
    /// When the last outage that counts has ended.
    ended: Option<Duration>,
}

impl Answers {
    /// Whether nobody answers: then it is not known what has come meanwhile.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// A request that was sent at `sent` has failed without an answer.
    pub fn failed(&mut self, sent: Duration) {
        self.silent |= self.last <= sent;
    }

    /// A request that was sent at `sent` was answered, be it refused. Returns whether an outage has ended.
    pub fn answered(&mut self, sent: Duration, now: Duration) -> bool {
        let was_silent = mem::take(&mut self.silent) || now.saturating_sub(sent.max(self.last)) >= SLOW_ANSWER;
        self.last = now;
        let counts = was_silent && self.ended.is_none_or(|ended| now.saturating_sub(ended) >= OUTAGES_APART);
        if counts {
            self.ended = Some(now);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_outage_ends_with_an_answer_after_a_failure_or_after_a_long_time() {
        let mut answers = Answers::default();
        assert!(!answers.answered(at(100), at(100)), "answered at once, after nothing was asked for long");
        answers.failed(at(101));
        assert!(answers.is_silent());
        assert!(answers.answered(at(102), at(102)));
        assert!(!answers.is_silent());
        let mut answers = Answers::default();
        assert!(answers.answered(at(100), at(100) + SLOW_ANSWER));
    }

    #[test]
    fn while_others_are_answered_one_that_is_not_is_no_outage() {
        let mut answers = Answers::default();
        assert!(!answers.answered(at(105), at(105)));
        answers.failed(at(100));
        assert!(!answers.is_silent());
        assert!(!answers.answered(at(100), at(105)), "it was slow, and another one was answered right before it");
    }

    #[test]
    fn of_outages_that_follow_each_other_soon_the_first_counts() {
        let mut answers = Answers::default();
        let mut ends = |second: u64| {
            answers.failed(at(second));
            answers.answered(at(second), at(second))
        };
        let counted: Vec<_> = (100..300).step_by(3).filter(|second| ends(*second)).collect();
        assert_eq!(counted, [100, 160, 220, 280]);
    }
}
