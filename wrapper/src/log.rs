//! The log, on stderr only: stdout is the command's.
//!
//! - A line must never delay a deadline. It goes out in one write, only when stderr takes it at once; when nobody reads
//!   the other end of a full pipe, lines are dropped.
//! - A warning that repeats is said ever more seldom, with a count ([`Repeats`]), unless more is asked for.
//! - Whatever a message quotes (a path, an argument, an answer of the API server), it is one line, and no longer than
//!   what a pipe takes whole: control characters are shown rather than sent, and what is too long is cut. As JSON it
//!   stays JSON.

use std::{
    fmt::{self, Write as _},
    io,
    sync::Mutex,
};

use konductor::{Boottime, Repeats};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::config::Log;

/// A pipe with room for anything has room for this much (`PIPE_BUF`), and no other process writes in between.
const MAX_LINE: usize = 4096;
/// What stands in for the rest of a message that is too long.
const CUT: &str = "...";

/// Sets up the log for the whole process.
pub(crate) fn init(log: Log) {
    // What the libraries below say is either said again by our own messages, or wanted only when looking for a defect.
    let others = if log.level == LevelFilter::TRACE { LevelFilter::DEBUG } else { LevelFilter::OFF };
    let targets =
        Targets::new().with_default(others).with_target("konductor_run", log.level).with_target("konductor", log.level);
    let repeats = (log.level <= LevelFilter::INFO).then(Mutex::default);
    let format = Format { json: log.json, repeats };
    let layer = tracing_subscriber::fmt::layer().with_writer(|| Stderr).event_format(format);
    tracing_subscriber::registry().with(targets).with(layer).init();
}

/// The format of a line of the log.
struct Format {
    /// One object: `timestamp`, `level`, `target`, `message`. Otherwise `konductor-run: [warning: ]message`; container
    /// runtimes add the time.
    json: bool,
    repeats: Option<Mutex<Repeats>>,
}

impl Format {
    /// A message with how often it was left out; none if it is left out now.
    fn counted(&self, level: Level, message: String) -> Option<String> {
        // No line waits for another: a thread may have ended while it wrote one.
        let repeats =
            self.repeats.as_ref().filter(|_| level == Level::WARN).and_then(|repeats| repeats.try_lock().ok());
        let Some(mut repeats) = repeats else { return Some(message) };
        let again = repeats.take(&message, Boottime::now().0)?;
        Some(format!("{message}{again}"))
    }
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut message = Message::default();
        event.record(&mut message);
        let level = *event.metadata().level();
        let Some(message) = self.counted(level, message.0) else { return Ok(()) };
        let line = if self.json {
            let mut time = String::new();
            SystemTime.format_time(&mut Writer::new(&mut time))?;
            json(&time, level, event.metadata().target(), &message)
        } else {
            text(level, &message)
        };
        writeln!(out, "{line}")
    }
}

/// What an event says: its message as it is, and whatever else libraries add.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

fn text(level: Level, message: &str) -> String {
    let level = match level {
        Level::ERROR => "error: ",
        Level::WARN => "warning: ",
        Level::INFO => "",
        Level::DEBUG => "debug: ",
        Level::TRACE => "trace: ",
    };
    one_line(&format!("konductor-run: {level}{message}"))
}

fn json(time: &str, level: Level, target: &str, message: &str) -> String {
    let object = |message: &str| {
        serde_json::json!({ "timestamp": time, "level": level.as_str(), "target": target, "message": message })
            .to_string()
    };
    let room = (MAX_LINE - 1).saturating_sub(object("").len());
    // At most what JSON makes of a character: \", \\ and \n, \u0000, or as it is.
    let length = |c: char| match c {
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    };
    object(&cut(message, room, length))
}

/// A message as one line that a pipe takes whole, without its end.
pub(crate) fn one_line(message: &str) -> String {
    let shown: String = message
        .chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            escaped.into_iter().flatten().chain((!c.is_control()).then_some(c))
        })
        .collect();
    cut(&shown, MAX_LINE - 1, char::len_utf8)
}

/// As much of a text as there is room for.
fn cut(text: &str, room: usize, length: impl Fn(char) -> usize) -> String {
    let ends = text.char_indices().scan(0, |sum, (at, c)| {
        *sum += length(c);
        Some((at + c.len_utf8(), *sum))
    });
    let (mut whole, mut kept) = (0, 0);
    for (end, sum) in ends {
        if sum <= room {
            whole = end;
        }
        if sum + CUT.len() <= room {
            kept = end;
        }
    }
    if whole == text.len() { text.to_owned() } else { text[..kept].to_owned() + CUT }
}

/// Writes what is taken at once.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&stderr), PollFlags::POLLOUT)];
        let takes = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if takes {
            // Nobody can be told that this failed.
            let _ = io::Write::write(&mut stderr.lock(), line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

    fn parsed(line: &str) -> serde_json::Value {
        serde_json::from_str(line).expect("a line is JSON")
    }

    #[test]
    fn a_line_says_how_bad_it_is() {
        assert_eq!(text(Level::ERROR, "no"), "konductor-run: error: no");
        assert_eq!(text(Level::INFO, "waiting"), "konductor-run: waiting");
        let line = json("2026-01-01T00:00:00Z", Level::WARN, "konductor_run", "say \"hm\"\n");
        let expected =
            r#"{"level":"WARN","message":"say \"hm\"\n","target":"konductor_run","timestamp":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(parsed(&line), parsed(expected));
    }

    #[test]
    fn a_warning_that_repeats_is_said_once_unless_more_is_asked_for() {
        let format = |repeats| Format { json: false, repeats };
        let said = |format: &Format, level, text: &str| format.counted(level, text.to_owned());
        let usual = format(Some(Mutex::default()));
        for (level, text, expected) in [
            (Level::WARN, "refused", true),
            (Level::WARN, "refused", false),
            (Level::WARN, "no answer", true),
            (Level::WARN, "refused", false),
            (Level::ERROR, "lost", true),
            (Level::ERROR, "lost", true),
            (Level::INFO, "holding", true),
            (Level::INFO, "holding", true),
        ] {
            assert_eq!(said(&usual, level, text), expected.then(|| text.to_owned()), "{level} {text}");
        }
        let all = format(None);
        assert_eq!([(); 2].map(|()| said(&all, Level::WARN, "refused")), [(); 2].map(|()| Some("refused".to_owned())));
    }

    #[test]
    fn what_is_quoted_does_not_break_a_line() {
        assert_eq!(one_line("there is no a\nb\t\u{1b}[31m\u{7f}ü"), r"there is no a\nb\t\u{1b}[31m\u{7f}ü");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = "ü".repeat(MAX_LINE);
        let line = one_line(&long);
        assert_eq!(line, "ü".repeat((MAX_LINE - 1 - CUT.len()) / 2) + CUT);
        let fits = "a".repeat(MAX_LINE - 1);
        assert_eq!(one_line(&fits), fits);
        let message = parsed(&json("t", Level::INFO, "konductor_run", &"\u{1}".repeat(MAX_LINE)));
        let message = message["message"].as_str().unwrap();
        assert!(message.starts_with("\u{1}\u{1}") && message.ends_with("\u{1}..."), "{}", message.len());
    }

    proptest! {
        #[test]
        fn any_message_is_one_line_that_a_pipe_takes(
            piece in r"[\x00-\x7f]{0,9}|\PC{0,9}|.{0,9}", times in 0_usize..3000, level in prop::sample::select(&LEVELS[..]),
        ) {
            let message = piece.repeat(times);
            let line = text(level, &message);
            prop_assert!(line.len() < MAX_LINE && !line.contains(char::is_control));
            let line = json("2026-01-01T00:00:00.000000Z", level, "konductor_run::driver", &message);
            prop_assert!(line.len() < MAX_LINE && !line.contains('\n'));
            let value = parsed(&line);
            let found = value["message"].as_str().unwrap();
            let whole = found == message;
            prop_assert!(whole || found.strip_suffix(CUT).is_some_and(|start| message.starts_with(start)));
            // Nothing is cut without need: half the room is enough for what is not escaped.
            prop_assert!(whole || line.len() > MAX_LINE / 8);
        }
    }
}
