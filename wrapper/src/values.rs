//! Values as people write them, read into types that cannot be wrong. Each function is total: a value, or nothing when
//! the text does not fit; who asked knows what would have.

use std::{path::PathBuf, time::Duration};

use konductor::name::{is_label, is_name, is_uid};
use konductor_api::{
    GoDuration,
    limits::{MAX_HOLDER, MAX_PERMITS},
};
use nix::libc;

use crate::signal;

/// Of what an arrival can hold, with room for an index after it.
const MAX_KEY: usize = 200;
/// `PATH_MAX` of Linux, less the zero byte at the end.
const MAX_PATH: usize = 4095;

/// The value that this word stands for.
pub(crate) fn one_of<T>(text: &str, choices: impl IntoIterator<Item = (&'static str, T)>) -> Option<T> {
    choices.into_iter().find_map(|(name, value)| (name == text).then_some(value))
}

/// Reads a duration in Go's notation.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    text.parse::<GoDuration>().ok().map(|duration| duration.0)
}

/// Reads the name of an object.
pub(crate) fn name(text: &str) -> Option<String> {
    is_name(text).then(|| text.to_owned())
}

/// Reads the name of a namespace or of a container.
pub(crate) fn label(text: &str) -> Option<String> {
    is_label(text).then(|| text.to_owned())
}

/// Reads an object's UID.
pub(crate) fn uid(text: &str) -> Option<String> {
    is_uid(text).then(|| text.to_owned())
}

/// Reads a holder: who asks, as shown to people.
pub(crate) fn holder(text: &str) -> Option<String> {
    (1..=MAX_HOLDER as usize).contains(&text.chars().count()).then(|| text.to_owned())
}

/// Reads the key of an arrival.
pub(crate) fn key(text: &str) -> Option<String> {
    (1..=MAX_KEY).contains(&text.chars().count()).then(|| text.to_owned())
}

/// Reads `NAME` or `NAME:N`: a name, and how many permits.
pub(crate) fn weighted(text: &str) -> Option<(String, u32)> {
    let (parent, permits) = text.split_once(':').unwrap_or((text, "1"));
    let permits = number(permits).filter(|permits| (1..=MAX_PERMITS).contains(permits))?;
    Some((name(parent)?, permits.try_into().ok()?))
}

/// Reads `A=B`, two exit codes.
pub(crate) fn exit_codes(text: &str) -> Option<(u8, u8)> {
    let (from, to) = text.split_once('=')?;
    Some((number(from)?.try_into().ok()?, number(to)?.try_into().ok()?))
}

/// Reads `A=B`, two signals, or `A=0`: what arrives, and what the command gets instead, if anything. The first is one
/// that can arrive: not KILL or STOP, and not CHLD, which is about our own children.
pub(crate) fn signals(text: &str) -> Option<(i32, Option<i32>)> {
    let (from, to) = text.split_once('=')?;
    let from = signal::parse(from).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(signal))?;
    Some((from, if to == "0" { None } else { Some(signal::parse(to)?) }))
}

/// Reads the path of a file or folder.
pub(crate) fn path(text: &str) -> Option<PathBuf> {
    ((1..=MAX_PATH).contains(&text.len()) && !text.contains('\0')).then(|| text.into())
}

/// Reads a number of digits alone; `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use konductor::name::MAX_LABEL;
    use konductor_api::limits::{MAX_ID, MAX_NAME};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_are_whole_numbers_after_a_name() {
        for (text, expected) in [
            ("a", Some(("a", 1))),
            ("a-1.b:3", Some(("a-1.b", 3))),
            ("a:1000000", Some(("a", 1_000_000))),
            ("a:1000001", None),
            ("a:99999999999999999999", None),
            ("a:0", None),
            ("a:+1", None),
            ("a:-1", None),
            ("a:", None),
            (":1", None),
            ("a:1:1", None),
            ("A", None),
            ("a..b", None),
            ("-a", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, permits): (&str, u32)| (name.to_owned(), permits));
            assert_eq!(weighted(text), expected, "{text}");
        }
    }

    #[test]
    fn exit_codes_are_two_bytes() {
        for (text, expected) in [
            ("0=1", Some((0, 1))),
            ("143=0", Some((143, 0))),
            ("255=255", Some((255, 255))),
            ("256=0", None),
            ("1=256", None),
            ("1=-1", None),
            ("+1=1", None),
            ("1=1=1", None),
            ("1:1", None),
            ("=1", None),
            ("", None),
        ] {
            assert_eq!(exit_codes(text), expected, "{text}");
        }
    }

    #[test]
    fn signals_are_mapped_or_dropped() {
        for (text, expected) in [
            ("TERM=QUIT", Some((15, Some(3)))),
            ("SIGRTMIN+1=9", Some((35, Some(9)))),
            ("HUP=0", Some((1, None))),
            ("KILL=TERM", None),
            ("19=TERM", None),
            ("SIGCHLD=TERM", None),
            ("0=TERM", None),
            ("TERM=", None),
            ("TERM", None),
            ("", None),
        ] {
            assert_eq!(signals(text), expected, "{text}");
        }
    }

    proptest! {
        /// What is accepted is within its bounds, and reads the same when it is written again.
        #[test]
        fn any_text_is_read_or_refused(text in r"\PC{0,300}|[a-z0-9.:-]{0,300}|[0-9A-Z+=]{0,12}|[0-9.hmnsuµ]{0,30}") {
            if let Some((name, permits)) = weighted(&text) {
                prop_assert!(name.len() <= MAX_NAME as usize && (1..=MAX_PERMITS).contains(&u64::from(permits)));
                prop_assert_eq!(weighted(&format!("{name}:{permits}")), Some((name, permits)));
            }
            if let Some((from, to)) = exit_codes(&text) {
                prop_assert_eq!(exit_codes(&format!("{from}={to}")), Some((from, to)));
            }
            if let Some((from, to)) = signals(&text) {
                prop_assert_eq!(signals(&format!("{from}={}", to.unwrap_or(0))), Some((from, to)));
            }
            if let Some(duration) = duration(&text) {
                prop_assert_eq!(super::duration(&GoDuration(duration).to_string()), Some(duration));
            }
            for (read, most) in [
                (name(&text), MAX_NAME as usize),
                (label(&text), MAX_LABEL as usize),
                (uid(&text), MAX_ID as usize),
                (holder(&text), 4 * MAX_HOLDER as usize),
                (key(&text), 4 * MAX_KEY),
                (path(&text).map(|path| path.display().to_string()), MAX_PATH),
            ] {
                prop_assert!(read.is_none_or(|read| read == text && (1..=most).contains(&read.len())));
            }
        }

        #[test]
        fn pairs_of_numbers_are_read_as_such(from in 0_u16..400, to in 0_u16..400) {
            let text = format!("{from}={to}");
            let codes = u8::try_from(from).ok().zip(u8::try_from(to).ok());
            prop_assert_eq!(exit_codes(&text), codes);
            let arrives = (1..=64).contains(&from) && ![9, 17, 19].contains(&from);
            let signals = (arrives && to <= 64).then(|| (i32::from(from), (to > 0).then_some(i32::from(to))));
            prop_assert_eq!(super::signals(&text), signals);
        }
    }
}
