//! Durations as Go and Kubernetes write them: `30s`, `1h30m`, `1.5s`.
//!
//! Integer arithmetic with checked sums, because the input is a person's: a value that does not fit is an error, never
//! a panic or a wrapped number. (The duration type of the `kube` crate computes in floating point and panics on
//! overflow.)

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A non-negative duration with Go's notation; the unit of the longest part is an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No text at all, or a number without its unit.
    #[error("a duration needs a number and a unit, like 30s or 1h30m")]
    Incomplete,
    /// Something other than digits and at most one point before the unit.
    #[error("a duration's number has digits and at most one point, like 30s or 1.5m")]
    Number,
    /// A unit that is not one of Go's.
    #[error("a duration's unit is one of h, m, s, ms, us, ns")]
    Unit,
    /// Too long to represent (584 years).
    #[error("the duration is too long")]
    TooLong,
}

/// The pause after so many failures in a row: `first`, then each time twice as long, and never longer than `longest`.
pub fn doubling_pause(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.pow(failures.min(16))).min(longest)
}

const UNITS: [(&str, u128); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if text.is_empty() {
            return Err(DurationError::Incomplete);
        }
        let (mut rest, mut total) = (text, 0_u128);
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError::Incomplete)?;
            let (number, tail) = rest.split_at(unit_at);
            let next_at = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, next) = tail.split_at(next_at);
            let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Unit)?;
            total = total.checked_add(part(number, *nanos)?).ok_or(DurationError::TooLong)?;
            rest = next;
        }
        let nanos = u64::try_from(total).map_err(|_| DurationError::TooLong)?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

/// Nanoseconds of one part, `number` of a unit of `nanos`; digits beyond a nanosecond are dropped.
fn part(number: &str, nanos: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError::Number);
    }
    let whole = whole.bytes().try_fold(0_u128, |sum, digit| {
        sum.checked_mul(10)?.checked_add(u128::from(digit - b'0')).filter(|sum| *sum <= u128::from(u64::MAX))
    });
    let (fraction, _) =
        fraction.bytes().fold((0, nanos), |(sum, unit), digit| (sum + unit * u128::from(digit - b'0') / 10, unit / 10));
    Ok(whole.ok_or(DurationError::TooLong)? * nanos + fraction)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (seconds, nanos) {
            (0, 0) if hours + minutes > 0 => Ok(()),
            (_, 0) => write!(f, "{seconds}s"),
            _ => write!(f, "{}s", format!("{seconds}.{nanos:09}").trim_end_matches('0')),
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The CEL rules beside each field compare the value; the pattern refuses what CEL's duration() would fail on.
        json_schema!({ "type": "string", "maxLength": 32, "pattern": "^([0-9]+(\\.[0-9]+)?(h|m|s|ms|us|ns))+$" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_go_durations() {
        for (text, expected) in [
            ("30s", Ok(Duration::from_secs(30))),
            ("1h30m", Ok(Duration::from_mins(90))),
            ("1.5s", Ok(Duration::from_millis(1500))),
            (".5s", Ok(Duration::from_millis(500))),
            ("100ms", Ok(Duration::from_millis(100))),
            ("0", Ok(Duration::ZERO)),
            ("0s", Ok(Duration::ZERO)),
            ("1µs", Ok(Duration::from_micros(1))),
            ("", Err(DurationError::Incomplete)),
            ("30", Err(DurationError::Incomplete)),
            ("s", Err(DurationError::Number)),
            ("-1s", Err(DurationError::Unit)),
            ("1.2.3s", Err(DurationError::Number)),
            ("1d", Err(DurationError::Unit)),
            ("1 s", Err(DurationError::Unit)),
            ("99999999999999999999999999999999999999999999h", Err(DurationError::TooLong)),
            ("9999999999h", Err(DurationError::TooLong)),
        ] {
            assert_eq!(text.parse::<GoDuration>().map(|d| d.0), expected, "{text:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_never_overflow() {
        let pause = |failures| doubling_pause(Duration::from_secs(1), failures, Duration::from_mins(1)).as_secs();
        assert_eq!([0, 1, 2, 5, 6, u32::MAX].map(pause), [1, 2, 4, 32, 60, 60]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in any::<u64>()) {
            let duration = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.hmsnuµ-]{0,60}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
