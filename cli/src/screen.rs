//! Where words go: results to stdout, everything else to stderr.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal as _, Write},
    sync::{Arc, OnceLock},
};

use crate::{error::Error, globals::Globals, output::table::plain};

/// Both outputs.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what each output can, and what is wanted, are independent")]
pub(crate) struct Screen {
    /// Only what goes wrong is said.
    quiet: bool,
    /// Whether stdout shows colors.
    pub(crate) color: bool,
    /// Whether stderr does.
    color_errors: bool,
    /// Whether stderr is a terminal on which a line can be written over.
    pub(crate) live: bool,
    /// What has become of results.
    results: Results,
}

/// Writes to stderr. That nobody hears it (the terminal is closed, `2>&1 | head -1`) is no reason to end: what was begun
/// is to be done, and what is held is to be given back.
fn say(text: fmt::Arguments<'_>) {
    // In one piece, so that what others write does not come in between.
    let _ = io::stderr().lock().write_all(text.to_string().as_bytes());
}

/// What becomes of what is written to stdout: all is well up to the first failure, and nothing is written after it.
#[derive(Clone, Debug, Default)]
struct Results(Arc<OnceLock<io::Error>>);

impl Results {
    fn write(&self, out: &mut impl Write, text: &str) {
        if self.0.get().is_some() {
            return;
        }
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // It is the first one.
            let _ = self.0.set(error);
        }
    }

    fn are_over(&self) -> bool {
        self.0.get().is_some()
    }

    /// What is wrong with them. Who closes the pipe early, as `head` does, has seen enough.
    fn lost(&self) -> Option<&io::Error> {
        self.0.get().filter(|error| error.kind() != ErrorKind::BrokenPipe)
    }
}

impl Screen {
    /// As the flags and the environment want it.
    pub(crate) fn new(globals: &Globals) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let color = globals.color.decide(io::stdout().is_terminal(), variable);
        let color_errors = globals.color.decide(io::stderr().is_terminal(), variable);
        let live = io::stderr().is_terminal() && variable("TERM").is_none_or(|term| term != "dumb");
        Self { quiet: globals.quiet, color, color_errors, live, results: Results::default() }
    }

    /// A result.
    pub(crate) fn line(&self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// A result of several lines. When it cannot be written, the work goes on without a word: that a result is not read
    /// does not say that it is not wanted.
    pub(crate) fn text(&self, text: &str) {
        self.results.write(&mut io::stdout().lock(), text);
    }

    /// Whether no result can be shown any more, which is the end of what only shows.
    pub(crate) fn is_over(&self) -> bool {
        self.results.are_over()
    }

    /// That results could not be written, unless whoever read them has seen enough.
    pub(crate) fn unwritten(&self) -> Option<Error> {
        self.results.lost().map(|error| Error::internal(format!("the result cannot be written to stdout: {error}")))
    }

    /// What was done, unless nobody wants to know.
    pub(crate) fn confirm(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// What people should know meanwhile, on stderr.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            say(format_args!("{}\n", plain(text)));
        }
    }

    /// What has gone wrong, and is tried again.
    pub(crate) fn looks_again(&self, why: &str) {
        self.note(&format!("{why} (trying again)"));
    }

    /// What people must know, also those who want to hear little, on stderr.
    #[expect(clippy::unused_self, reason = "there is one way to stderr")]
    pub(crate) fn warn(&self, text: &str) {
        say(format_args!("warning: {}\n", plain(text)));
    }

    /// A line of progress on stderr.
    pub(crate) fn progress(&self) -> Progress {
        Progress { quiet: self.quiet, live: self.live && !self.quiet, shown: String::new(), said: String::new() }
    }

    /// Asks a person on the terminal; `None` where there is none.
    #[expect(clippy::unused_self, reason = "there is one terminal")]
    pub(crate) fn asks(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        say(format_args!("{question} [y/N] "));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// What went wrong, and what to do.
    pub(crate) fn error(&self, error: &Error) {
        let word = if self.color_errors { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        say(format_args!("{word} {}\n", plain(&error.message)));
        for line in &error.advice {
            say(format_args!("  {}\n", plain(line)));
        }
    }
}

/// How something stands that takes its time: one line that is written over on a terminal, and elsewhere a line for each
/// change.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    live: bool,
    shown: String,
    said: String,
}

impl Progress {
    /// Whether the line is written over.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// How it stands, if that is news, on a line of its own.
    pub(crate) fn says(&mut self, text: &str) {
        let text = plain(text);
        if self.quiet || self.said == text {
            return;
        }
        say(format_args!("{text}\n"));
        self.said = text;
    }

    /// How it stands, on a line that is written over.
    pub(crate) fn shows(&mut self, text: &str) {
        let width = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let text: String = plain(text).chars().take(width.saturating_sub(1)).collect();
        say(format_args!("\r\x1b[K{text}"));
        self.shown = text;
    }

    /// Something else that people should know: a line of its own.
    pub(crate) fn notes(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        self.clear();
        say(format_args!("{}\n", plain(text)));
    }

    fn clear(&mut self) {
        if !self.shown.is_empty() {
            say(format_args!("\r\x1b[K"));
            self.shown.clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and then fails like this.
    struct Full(usize, ErrorKind);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(self.1.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn results_that_cannot_be_written_end_nothing_and_are_told_unless_nobody_wants_them() {
        for (kind, is_told) in [(ErrorKind::BrokenPipe, false), (ErrorKind::StorageFull, true)] {
            let results = Results::default();
            results.write(&mut Full(1, kind), "a");
            assert!(!results.are_over() && results.lost().is_none(), "{kind}");
            results.write(&mut Full(1, kind), "ab");
            assert!(results.are_over(), "{kind}");
            let mut later = Vec::new();
            results.write(&mut later, "c");
            assert!(later.is_empty(), "{kind}: a result with a gap is worse than one that ends");
            assert_eq!(results.lost().map(io::Error::kind), is_told.then_some(kind));
        }
    }
}
