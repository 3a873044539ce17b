//! The API server's wall clock, as its answers tell it: people compare the times that clients and operators write with
//! those that it writes itself.
//!
//! No decision between two holders rests on it. Where answers disagree, as API servers' clocks do, the latest counts.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{process, time::unix_seconds};

/// An answer that took longer says little of the time when it comes.
pub(crate) const PROMPT: Duration = Duration::from_secs(1);

/// Clocks that differ by less are taken for the same: answers tell whole seconds, and take some time.
const SAME: i64 = 2;

/// By how many seconds the API server's clock is ahead of this machine's.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// The time by the API server's clock, or by this machine's as long as no answer has told another one.
pub fn wall() -> Timestamp {
    let now = process::wall();
    now.checked_add(SignedDuration::from_secs(AHEAD.load(Relaxed))).unwrap_or(now)
}

/// A prompt answer has come now, with this `Date`.
pub(crate) fn note(date: &str) {
    if let Some(ahead) = ahead(date, process::wall()) {
        AHEAD.store(ahead, Relaxed);
    }
}

/// By how many seconds a `Date` like `Thu, 26 Nov 2026 01:35:00 GMT` (RFC 9110, 5.6.7) is ahead. `None` of any other
/// text.
fn ahead(date: &str, now: Timestamp) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_once(", ")?.1.split(' ');
    let (day, month, year, clock) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let seconds = unix_seconds(&format!("{year}-{month:02}-{day}T{clock}Z")).filter(|_| words.next() == Some("GMT"))?;
    let ahead = seconds - now.as_second();
    Some(if ahead.abs() <= SAME { 0 } else { ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_by_more_than_answers_do_is_believed() {
        let now = "2026-11-26T01:35:00.9Z".parse().expect("a time");
        for (date, expected) in [
            ("Thu, 26 Nov 2026 01:35:00 GMT", Some(0)),
            ("Thu, 26 Nov 2026 01:34:58 GMT", Some(0)),
            ("Thu, 26 Nov 2026 01:34:50 GMT", Some(-10)),
            ("Fri, 27 Nov 2026 01:35:00 GMT", Some(86_400)),
            ("Thu, 26 Nov 2026 01:35:00", None),
            ("Thu, 26 Nix 2026 01:35:00 GMT", None),
            ("2026-11-26T01:35:00Z", None),
            ("", None),
        ] {
            assert_eq!(ahead(date, now), expected, "{date}");
        }
    }
}
