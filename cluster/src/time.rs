//! Times as API servers write them, of which not all are times to others.

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Digits of a year: an API server writes four, or five of what is at the end of the year 9999 somewhere else.
const YEAR: usize = 9;

/// The seconds since 1970 of a time like `2026-01-31T23:59:60.123+01:00`, without its fraction. Leap seconds are the
/// next minute's first. `None` of any other text.
pub(crate) fn unix_seconds(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once(['T', 't'])?;
    let (before_common_era, date) = date.strip_prefix('-').map_or((false, date), |date| (true, date));
    let [year, month, day] = numbers(date, '-', [YEAR, 2, 2])?;
    let year = if before_common_era { -year } else { year };
    let zone = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(zone);
    let clock = clock.split_once(['.', ',']).map_or(clock, |(seconds, _)| seconds);
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let east = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let [hours, minutes] = numbers(offset, ':', [2, 2])?;
            (hours * 3600 + minutes * 60) * if sign == "-" { -1 } else { 1 }
        }
    };
    let possible = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    possible.then(|| days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - east)
}

/// As many numbers as there are limits to their digits.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut numbers = [0; N];
    for (number, limit) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.is_empty() || part.len() > limit || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day at its end.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_whatever_their_year_fraction_and_offset() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-01-01T00:00:00Z", Some(1_767_225_600)),
            ("2024-02-29T12:34:56.7890123456789Z", Some(1_709_210_096)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            ("0000-12-31T00:00:01Z", Some(-62_135_683_199)),
            ("-0001-12-31T00:00:00Z", Some(-62_167_305_600)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("10000-01-01T23:58:59Z", Some(253_402_387_139)),
            ("9999-12-31t23:59:59-23:59", Some(253_402_387_139)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("", None),
            ("today", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00Zulu", None),
            ("2026-01-01T-1:00:00Z", None),
            ("99999999999999999999-01-01T00:00:00Z", None),
            ("2026-01-01T00:00:00+é", None),
        ] {
            assert_eq!(unix_seconds(text), expected, "{text}");
        }
    }
}
