//! The terms of locks that were deleted lately. No I/O, no clock.
//!
//! A lock that is created anew goes on with higher terms, and so with higher fencing tokens, because a term is no less than
//! the second of its creation. That is not enough where it has been created, used, deleted and created again within one
//! second, or has had more terms than seconds. So what its last term was is remembered for a while, by name.

use std::{collections::VecDeque, time::Duration};

use crate::key::{Key, ParentKey};

/// How long a term is remembered: until the seconds of later creations are above it by far.
const REMEMBERED: Duration = Duration::from_mins(1);

/// So many terms at most, the latest: more locks than that are not created again within the second of their creation by
/// anybody who cares for their tokens.
const FORMER: usize = 1024;

/// In the order in which they went.
#[derive(Debug, Default)]
pub(super) struct Former(VecDeque<(Duration, Key, u64)>);

impl Former {
    /// A lock has gone whose last term was this.
    pub(super) fn went(&mut self, key: Key, term: u64, now: Duration) {
        while self.0.pop_front_if(|(went, ..)| *went + REMEMBERED <= now).is_some() {}
        if self.0.len() == FORMER {
            self.0.pop_front();
        }
        self.0.push_back((now, key, term));
    }

    /// The last term of the locks of this name that have gone lately; 0 if there were none.
    pub(super) fn term(&self, key: &ParentKey) -> u64 {
        let of_name = self.0.iter().filter(|(_, former, _)| **former == *key);
        of_name.map(|(.., term)| *term).max().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ParentKey::new("n", name).into()
    }

    #[test]
    fn the_highest_of_its_name_counts_for_a_while() {
        let mut former = Former::default();
        former.went(key("a"), 7, Duration::ZERO);
        former.went(key("a"), 9, Duration::from_secs(1));
        former.went(key("a"), 8, Duration::from_secs(2));
        assert_eq!((former.term(&key("a")), former.term(&key("b"))), (9, 0));
        former.went(key("b"), 1, REMEMBERED + Duration::from_secs(1));
        assert_eq!((former.term(&key("a")), former.term(&key("b")), former.len()), (8, 1, 2));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut former = Former::default();
        for term in 1..=FORMER as u64 + 1 {
            former.went(key(&term.to_string()), term, Duration::ZERO);
        }
        assert_eq!((former.len(), former.term(&key("1")), former.term(&key("2"))), (FORMER, 0, 2));
    }
}
