//! Signals as people write them: `TERM`, `SIGTERM`, `15`, `RTMIN+1`, `RTMAX-2`.

use nix::{libc, sys::signal::Signal};

/// The highest signal of the kernel.
const MAX: i32 = 64;

/// The number that a text names.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=MAX).contains(number));
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let real_time = match name.split_at_checked("RTMIN".len()) {
        Some(("RTMIN", rest)) => Some(first + offset(rest, '+')?),
        Some(("RTMAX", rest)) => Some(last - offset(rest, '-')?),
        _ => None,
    };
    match real_time {
        Some(number) => (first..=last).contains(&number).then_some(number),
        None => format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32),
    }
}

/// What follows `RTMIN` or `RTMAX`: nothing, or a sign and a small number.
fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    let fits = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The shortest name of a number.
    fn name(number: i32) -> String {
        match Signal::try_from(number) {
            Ok(signal) => signal.as_str().trim_start_matches("SIG").to_owned(),
            Err(_) if number >= libc::SIGRTMIN() => format!("RTMIN+{}", number - libc::SIGRTMIN()),
            Err(_) => number.to_string(),
        }
    }

    #[test]
    fn names_and_numbers_are_read() {
        for (text, expected) in [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("15", Some(15)),
            ("USR1", Some(10)),
            ("KILL", Some(9)),
            ("64", Some(64)),
            ("32", Some(32)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+1", Some(35)),
            ("RTMIN+30", Some(64)),
            ("RTMAX", Some(64)),
            ("RTMAX-1", Some(63)),
            ("RTMIN+31", None),
            ("RTMAX-31", None),
            ("RTMIN-1", None),
            ("RTMIN+", None),
            ("RTMIN++1", None),
            ("RTMINX", None),
            ("0", None),
            ("65", None),
            ("99999999999", None),
            ("+15", None),
            ("-15", None),
            ("15 ", None),
            ("term", None),
            ("SIGSIGTERM", None),
            ("SIG", None),
            ("", None),
            ("ÄÖÜ", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn each_number_has_a_name_that_is_read_as_it() {
        for number in 1..=MAX {
            for text in [name(number), number.to_string()] {
                assert_eq!(parse(&text), Some(number), "{text}");
            }
            if name(number) != number.to_string() {
                assert_eq!(parse(&format!("SIG{}", name(number))), Some(number));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_signal_of_the_kernel_or_refused(text in r"\PC{0,20}|(SIG)?RTM(IN|AX)[+-]?[0-9]{0,12}|[0-9]{1,20}") {
            prop_assert!(parse(&text).is_none_or(|number| (1..=MAX).contains(&number)));
        }
    }
}
