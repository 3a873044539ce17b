//! The log, on stderr only: stdout is the command's.
//!
//! - A line must never delay a deadline. A kernel of today can be asked to have a pipe take it at once or not at all. Of
//!   files, terminals and older kernels nobody can tell: what stderr was asked a moment ago the command may have filled
//!   since, and to make it refuse instead of wait would show in the command, too. What is not taken at once is written by
//!   a thread, which is started with the first such line. Whoever has a line to say sees it out for the
//!   moment that this usually takes, so that it comes before what the command says next; and no longer. As many as are
//!   worth keeping wait their turn. What is lost is counted, and the number is said when there is room again.
//! - A warning that repeats is said ever more seldom, with a count ([`Repeats`]), unless more is asked for.
//! - Whatever a message quotes (a path, an argument, an answer of the API server), it is one line, and no longer than
//!   what a pipe takes whole: control characters are shown rather than sent, and what is too long is cut. As JSON it
//!   stays JSON.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    io::{self, IoSlice},
    os::fd::AsFd as _,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use konductor::{Boottime, Repeats};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};
use rustix::io::{ReadWriteFlags, pwritev2};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    filter::LevelFilter,
    fmt::{
        format::Writer as Text,
        time::{FormatTime as _, SystemTime},
    },
};

use crate::{config::Log, driver::found, trace::TraceId};

/// A pipe with room for anything has room for this much (`PIPE_BUF`), and no other process writes in between.
const MAX_LINE: usize = 4096;
/// What stands in for the rest of a message that is too long.
const CUT: &str = "...";
/// How many lines wait their turn: what a busy minute says, in a quarter of a megabyte at most.
const KEPT: usize = 64;
/// How long a line is seen out: a hundred times what it takes on a machine that has enough to do, and a small part of
/// what lies between any timer and its deadline.
const AT_ONCE: Duration = Duration::from_millis(20);
/// How often the last lines are seen out for so long before the process ends: for a second together, in which a reader
/// that is only slow takes them. (Whatever stands still with the whole machine has lost only one of these.)
const LAST_LOOKS: u32 = 10;
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How the names of our own crates begin.
const OURS: &str = "konductor";
/// Enough for a thread that only writes.
const STACK: usize = 64 << 10;

/// Sets up the log for the whole process, whose run is part of this trace.
pub(crate) fn init(log: Log, trace: Option<TraceId>) {
    // What the libraries below say is either said again by our own messages, or wanted only when looking for a defect.
    let others = if log.level == LevelFilter::TRACE { LevelFilter::DEBUG } else { LevelFilter::OFF };
    let shape = if log.json { Shape::Json { trace } } else { Shape::Text };
    {
        // Room for all that it keeps: no other thread is to be refused memory while it has the queue.
        let mut queue = WRITER.queue();
        queue.shape = shape;
        queue.lines.reserve_exact(KEPT + 2);
    }
    let repeats = (log.level <= LevelFilter::INFO).then(Mutex::default);
    // Nobody has set another one before.
    let _ =
        tracing::subscriber::set_global_default(Lines { level: log.level, others, format: Format { shape, repeats } });
}

/// What is said, as lines on stderr. A line says nothing of the spans that it is within, so they are not kept: what
/// keeps them takes more time and memory than all else at the start of a mere init.
struct Lines {
    level: LevelFilter,
    /// The level of what is not ours.
    others: LevelFilter,
    format: Format,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = if metadata.target().starts_with(OURS) { self.level } else { self.others };
        *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        // None may have the number zero.
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        if let Some(line) = self.format.line(event) {
            WRITER.say((line + "\n").into_bytes());
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The format of a line of the log.
struct Format {
    shape: Shape,
    /// Made with the first warning.
    repeats: Option<Mutex<Option<Repeats>>>,
}

/// What a line looks like.
#[derive(Clone, Copy)]
enum Shape {
    /// `konductor-run: [warning: ]message`; container runtimes add the time.
    Text,
    /// One object: `timestamp`, `level`, `target`, `message`, and `trace_id` if the run is part of a trace.
    Json {
        /// That trace.
        trace: Option<TraceId>,
    },
}

impl Format {
    /// A message with how often it was left out; none if it is left out now.
    fn counted(&self, level: Level, message: String) -> Option<String> {
        // No line waits for another: a thread may have ended while it wrote one.
        let repeats =
            self.repeats.as_ref().filter(|_| level == Level::WARN).and_then(|repeats| repeats.try_lock().ok());
        let Some(mut repeats) = repeats else { return Some(message) };
        let again = repeats.get_or_insert_default().take(&message, Boottime::now().0)?;
        Some(format!("{message}{again}"))
    }

    /// A line without its end; none if it is left out now.
    fn line(&self, event: &Event<'_>) -> Option<String> {
        let mut message = Message::default();
        event.record(&mut message);
        let metadata = event.metadata();
        let message = self.counted(*metadata.level(), message.0)?;
        Some(self.shape.line(*metadata.level(), metadata.target(), &message))
    }
}

impl Shape {
    /// A line without its end.
    fn line(self, level: Level, target: &str, message: &str) -> String {
        match self {
            Self::Text => text(level, message),
            Self::Json { trace } => {
                let mut time = String::new();
                // Writing to a string cannot fail.
                let _ = SystemTime.format_time(&mut Text::new(&mut time));
                json(&time, level, target, trace, message)
            }
        }
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

fn json(time: &str, level: Level, target: &str, trace: Option<TraceId>, message: &str) -> String {
    let object = |message: &str| {
        let mut object =
            serde_json::json!({ "timestamp": time, "level": level.as_str(), "target": target, "message": message });
        if let Some(trace) = trace {
            object["trace_id"] = trace.as_str().into();
        }
        object.to_string()
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

/// Sees out what has been said, for as long as it may take at the end of a process.
pub(crate) fn flush() {
    let _ = (0..LAST_LOOKS).any(|_| WRITER.see_out(WRITER.queue(), LAST_WORDS));
}

static WRITER: Writer = Writer { queue: Mutex::new(Queue::new()), changed: Condvar::new() };

/// What is to be written, and the thread that does it.
struct Writer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// How many lines have been lost since the last one that was kept.
    lost: u64,
    /// The thread has a line in hand.
    writing: bool,
    started: bool,
    shape: Shape,
}

impl Queue {
    const fn new() -> Self {
        Self { lines: VecDeque::new(), lost: 0, writing: false, started: false, shape: Shape::Text }
    }

    fn is_busy(&self) -> bool {
        self.writing || !self.lines.is_empty()
    }

    /// Says how many were lost, if any were.
    fn confess(&mut self) {
        if self.lost > 0 {
            let message = format!("{} lines of this log are lost: nobody took them", self.lost);
            let line = self.shape.line(Level::WARN, env!("CARGO_CRATE_NAME"), &message) + "\n";
            self.lines.push_back(line.into_bytes());
            self.lost = 0;
        }
    }
}

impl Writer {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here leaves it half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&'static self, mut line: Vec<u8>) {
        let mut queue = self.queue();
        if queue.lost == 0 && !queue.is_busy() {
            line.drain(..taken_at_once(&line));
            if line.is_empty() {
                return;
            }
        }
        if queue.lines.len() >= KEPT {
            queue.lost += 1;
            return;
        }
        if !queue.started {
            let write = || {
                // The C library has unblocked two of its own, here and there.
                let _ = found::block();
                self.write();
            };
            let started = thread::Builder::new().name("log".to_owned()).stack_size(STACK).spawn(write);
            let _ = found::block();
            queue.started = started.is_ok();
        }
        if !queue.started {
            // Without a thread the risk is taken, for a line that may say why there is none.
            if poll(&mut [PollFd::new(io::stderr().as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO) == Ok(1) {
                let _ = write(io::stderr(), &line);
            }
            return;
        }
        let waits = queue.is_busy();
        queue.confess();
        queue.lines.push_back(line);
        self.changed.notify_all();
        if !waits {
            self.see_out(queue, AT_ONCE);
        }
    }

    /// Waits until all is written, or for so long. Whether all is.
    fn see_out(&self, queue: MutexGuard<Queue>, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(queue, patience, |queue| queue.is_busy());
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_busy()
    }

    /// What the thread does.
    fn write(&self) {
        let mut queue = self.queue();
        loop {
            let Some(line) = queue.lines.pop_front() else {
                self.changed.notify_all();
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.writing = true;
            drop(queue);
            let written = write_all(&line);
            queue = self.queue();
            queue.writing = false;
            match written {
                Ok(()) if queue.lines.is_empty() => queue.confess(),
                Ok(()) => {}
                // What has no end to be read from any more has none later. Others may take the next line.
                Err(_) => queue.lost += 1,
            }
        }
    }
}

/// How much of a line stderr has taken without anybody waiting.
fn taken_at_once(line: &[u8]) -> usize {
    // At the end of a file, and wherever a pipe is.
    let position = u64::MAX;
    pwritev2(io::stderr(), &[IoSlice::new(line)], position, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// Writes a line to stderr, however long that takes: also where somebody has made it refuse instead of wait.
fn write_all(mut line: &[u8]) -> nix::Result<()> {
    let stderr = io::stderr();
    while !line.is_empty() {
        match write(&stderr, line) {
            Ok(count) => line = &line[count..],
            Err(Errno::EAGAIN) => {
                poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
        let line = json("2026-01-01T00:00:00Z", Level::WARN, "konductor_run", None, "say \"hm\"\n");
        let expected =
            r#"{"level":"WARN","message":"say \"hm\"\n","target":"konductor_run","timestamp":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(parsed(&line), parsed(expected));
    }

    #[test]
    fn a_warning_that_repeats_is_said_once_unless_more_is_asked_for() {
        let format = |repeats| Format { shape: Shape::Text, repeats };
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
        let message = parsed(&json("t", Level::INFO, "konductor_run", None, &"\u{1}".repeat(MAX_LINE)));
        let message = message["message"].as_str().unwrap();
        assert!(message.starts_with("\u{1}\u{1}") && message.ends_with("\u{1}..."), "{}", message.len());
    }

    proptest! {
        #[test]
        fn any_message_is_one_line_that_a_pipe_takes(
            piece in r"[\x00-\x7f]{0,9}|\PC{0,9}|.{0,9}", times in 0_usize..3000, level in prop::sample::select(&LEVELS[..]),
            traced in any::<bool>(),
        ) {
            let trace = TraceId::of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").filter(|_| traced);
            let message = piece.repeat(times);
            let line = text(level, &message);
            prop_assert!(line.len() < MAX_LINE && !line.contains(char::is_control));
            let line = json("2026-01-01T00:00:00.000000Z", level, "konductor_run::driver", trace, &message);
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
