//! Whether what was printed is what a page shows.
//!
//! Both are made [plain] first: what is another one each time becomes a word, and blanks become one. So a page shows what
//! somebody has really seen, with the ages and names that it had then.

/// Whether the lines that were printed are those that are shown, where `...` stands for any lines, or within a line for
/// any text.
///
/// What tells that something is waited for depends on how soon it comes, so those lines may be there that are not shown.
pub fn is_like(shown: &str, printed: &str) -> bool {
    let shown = lines(shown);
    let mut printed = lines(printed);
    printed.retain(|found| !tells_of_waiting(found) || shown.iter().any(|line| line_is_like(line, found)));
    // Which beginnings of what was printed the lines so far can stand for.
    let mut reached = vec![false; printed.len() + 1];
    reached[0] = true;
    for line in &shown {
        let mut next = vec![false; printed.len() + 1];
        if line == "..." {
            let first = reached.iter().position(|reached| *reached).unwrap_or(reached.len());
            next[first..].fill(true);
        } else {
            for (at, found) in printed.iter().enumerate() {
                next[at + 1] = reached[at] && line_is_like(line, found);
            }
        }
        reached = next;
    }
    reached[printed.len()]
}

/// As [`is_like`], in whatever order the lines come: each that is shown is one that was printed, and the others are what a
/// line `...` stands for.
pub fn is_like_in_any_order(shown: &str, printed: &str) -> bool {
    let (dots, mut shown): (Vec<_>, Vec<_>) = lines(shown).into_iter().partition(|line| line == "...");
    let mut printed = lines(printed);
    // Those that are said in full first, so that what has dots in it does not take them away.
    shown.sort_by_key(|line| line.contains("..."));
    for line in shown {
        let Some(at) = printed.iter().position(|found| line_is_like(&line, found)) else { return false };
        printed.remove(at);
    }
    printed.is_empty() || !dots.is_empty()
}

/// What `koncli` and `konductor-run` say until they get what they wait for.
fn tells_of_waiting(line: &str) -> bool {
    line.strip_prefix("konductor-run: ").unwrap_or(line).starts_with("waiting for ")
}

fn lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(plain).collect()
}

/// Whether a plain line is as shown: its pieces between `...` come one after the other.
fn line_is_like(shown: &str, found: &str) -> bool {
    let Some((first, pieces)) = shown.split_once("...") else { return shown == found };
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let mut pieces: Vec<_> = pieces.split("...").collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// A line without what is another one each time.
pub fn plain(line: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let (mut plain, mut word) = (String::new(), String::new());
    for c in line.chars().chain(['\n']) {
        if is_part(c) {
            word.push(c);
            continue;
        }
        plain += &steady(&word);
        word.clear();
        // Where columns begin depends on what is in them.
        if c != ' ' || !plain.ends_with(' ') {
            plain.push(c);
        }
    }
    // Also what columns are ruled with.
    let indent = line.len() - line.trim_start().len();
    format!("{:indent$}{}", "", plain.trim())
}

/// A word, or what stands for all words of its kind.
fn steady(word: &str) -> String {
    let end = word.trim_end_matches([':', '.', '-']).len();
    let (bare, after) = word.split_at(end);
    let kind = if is_time(bare) || is_uptime(bare) {
        "TIME".to_owned()
    } else if is_span(bare) {
        "SPAN".to_owned()
    } else if is_uid(bare) {
        "UID".to_owned()
    } else if bare.len() >= 7 && digits(bare) {
        // Tokens, terms and tickets.
        "NUMBER".to_owned()
    } else {
        name(bare)
    };
    kind + after
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `2026-01-02T03:04:05Z`, with or without a fraction, or `03:04:05`.
fn is_time(word: &str) -> bool {
    let is_clock = |text: &str| {
        let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let parts: Vec<_> = clock.split(':').collect();
        parts.len() == 3 && parts.iter().all(|part| part.len() == 2 && digits(part)) && digits(fraction)
    };
    let is_day = |text: &str| text.len() == 10 && text.split('-').count() == 3 && text.split('-').all(digits);
    match word.strip_suffix('Z').and_then(|word| word.split_once('T')) {
        Some((day, clock)) => is_day(day) && is_clock(clock),
        None => is_clock(word),
    }
}

/// `37302.28`: seconds since the machine was started, as in `/proc/uptime`. It has been up for some minutes at least.
fn is_uptime(word: &str) -> bool {
    word.split_once('.')
        .is_some_and(|(seconds, rest)| seconds.len() >= 3 && digits(seconds) && rest.len() == 2 && digits(rest))
}

/// `5m3s`, `0s`, `1.5s`, `200ms`, `3d4h`.
fn is_span(word: &str) -> bool {
    let (mut rest, mut units) = (word, 0);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (before, after) = rest.split_at(number);
        if before.parse::<f64>().is_err() {
            return false;
        }
        let Some(after) = ["ms", "s", "m", "h", "d", "y"].iter().find_map(|unit| after.strip_prefix(unit)) else {
            return false;
        };
        rest = after;
        units += 1;
    }
    units > 0
}

fn is_uid(word: &str) -> bool {
    let lengths: Vec<_> = word.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// What Kubernetes makes the ends of names of.
const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";

/// A name, with what was generated at its end replaced.
fn name(word: &str) -> String {
    let Some((first, end)) = word.rsplit_once('-') else { return word.to_owned() };
    let random = end.len() == 5 && end.chars().all(|c| LETTERS.contains(c));
    // Of a claim, or the minutes of a CronJob.
    let counted = end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit()) || end.len() >= 7 && digits(end);
    if counted {
        return format!("{first}-ID");
    }
    if !random {
        return word.to_owned();
    }
    // Of a Deployment's pods, or a CronJob's.
    match first.rsplit_once('-') {
        Some((first, set)) if set.len() >= 7 && (digits(set) || set.chars().all(|c| LETTERS.contains(c))) => {
            format!("{first}-ID-ID")
        }
        _ => format!("{first}-ID"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_another_one_each_time_becomes_a_word() {
        for (line, expected) in [
            ("warehouse   Full   2   5m3s", "warehouse Full 2 SPAN"),
            ("for 12s, expires in 4m48s.", "for SPAN, expires in SPAN."),
            ("it took 200ms or 1.5s", "it took SPAN or SPAN"),
            ("2026-01-01T12:00:00Z and 2026-01-01T12:00:00.123Z", "TIME and TIME"),
            ("12:34:56 said", "TIME said"),
            ("37302.28 said", "TIME said"),
            ("token 1872600000000000", "token NUMBER"),
            ("uid 0f8fad5b-d9cb-469f-a165-70867728950e", "uid UID"),
            ("permit/warehouse-84347e155ce198cf (holder a)", "permit/warehouse-ID (holder a)"),
            ("pod/report-daily-2hkxq", "pod/report-daily-ID"),
            // One in a thousand has no letter.
            ("pod/report-daily-24567", "pod/report-daily-ID"),
            ("pod/report-29384720-2hkxq", "pod/report-ID-ID"),
            ("pod/web-7d4b9c6f5d-x7k2p", "pod/web-ID-ID"),
            ("job/report-29384720", "job/report-ID"),
            ("  indented   by two", "  indented by two"),
            // And nothing else.
            ("konductor-run exit 75, 3 of 12", "konductor-run exit 75, 3 of 12"),
            ("stage-1 etl-users two-words 1.30 12.50", "stage-1 etl-users two-words 1.30 12.50"),
            ("version 0.1.0 s m h", "version 0.1.0 s m h"),
        ] {
            assert_eq!(plain(line), expected);
        }
    }

    #[test]
    fn dots_stand_for_what_is_left_out() {
        for (shown, printed, alike) in [
            ("a\nb\n", "a\nb\n", true),
            ("a\nb\n", "a\nc\n", false),
            ("a\n", "a\nb\n", false),
            ("a\nb\n", "a\n", false),
            ("", "", true),
            ("", "a\n", false),
            ("a\n", "", false),
            (
                "a\n",
                "konductor-run: waiting for lease b: next in line\na\nwaiting for barrier/b: 0 of 1 have arrived\n",
                true,
            ),
            ("waiting for lease b: ...\n", "waiting for lease b: next in line\n", true),
            ("waiting for lease b: ...\n", "waiting for lease c: next in line\n", false),
            ("waiting for lease b: ...\n", "", false),
            ("...\n", "", true),
            ("...\n", "a\nb\n", true),
            ("a\n...\n", "a\n", true),
            ("a\n...\nd\n", "a\nb\nc\nd\n", true),
            ("a\n...\nd\n", "a\nb\nc\n", false),
            ("...\nb\n...\n", "a\nb\nc\n", true),
            ("...\nb\n...\n", "a\nc\n", false),
            ("...\nb\nb\n", "a\nb\nb\nb\n", true),
            ("a ... c\n", "a b c\n", true),
            ("a ... c\n", "a b d\n", false),
            ("a...\n", "abc\n", true),
            ("...c\n", "abc\n", true),
            ("...b...\n", "abc\n", true),
            ("a...b...c\n", "a1b2c\n", true),
            ("a...b...c\n", "a1c2b\n", false),
            ("a...a\n", "a\n", false),
            ("x  5s\n", "x    3m20s\n", true),
            ("x  5s\n", "x    three\n", false),
        ] {
            assert_eq!(is_like(shown, printed), alike, "{shown:?} and {printed:?}");
        }
    }

    #[test]
    fn lines_can_come_in_any_order() {
        for (shown, printed, alike) in [
            ("a\nb\n", "b\na\n", true),
            ("a\nb\n", "b\n", false),
            ("a\n", "b\na\n", false),
            ("a\n...\n", "b\na\n", true),
            ("a...\nab\n", "ab\nac\n", true),
            ("a\na\n", "a\nb\n", false),
        ] {
            assert_eq!(is_like_in_any_order(shown, printed), alike, "{shown:?} and {printed:?}");
        }
    }
}
