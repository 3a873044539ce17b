//! The log, on stderr only: stdout is the command's.
//!
//! A log line must never delay a deadline. A line goes out in one write, only when stderr takes it at once; when nobody
//! reads the other end of a full pipe, lines are dropped.

use std::{fmt, io};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::config::Log;

/// A pipe with room for anything has room for this much (`PIPE_BUF`).
const MAX_LINE: usize = 4096;

/// Sets up the log for the whole process.
pub(crate) fn init(log: Log) {
    // What the libraries below say is either said again by our own messages, or wanted only when looking for a defect.
    let others = if log.level == LevelFilter::TRACE { LevelFilter::DEBUG } else { LevelFilter::OFF };
    let targets =
        Targets::new().with_default(others).with_target("konductor_run", log.level).with_target("konductor", log.level);
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(|| Stderr);
    if log.json {
        registry.with(layer.json().flatten_event(true)).init();
    } else {
        registry.with(layer.event_format(Text)).init();
    }
}

/// `konductor-run: [warning: ]message`; container runtimes add the time.
struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            Level::DEBUG => "debug: ",
            Level::TRACE => "trace: ",
        };
        write!(out, "konductor-run: {level}")?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Writes what fits without waiting.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&stderr), PollFlags::POLLOUT)];
        let takes = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if takes {
            let fits = line.len().min(MAX_LINE);
            // Nobody can be told that this failed.
            let _ = io::Write::write(&mut stderr.lock(), &line[..fits]);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
