//! Where words go: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

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
}

impl Screen {
    /// As the flags and the environment want it.
    pub(crate) fn new(globals: &Globals) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let color = globals.color.decide(io::stdout().is_terminal(), variable);
        let color_errors = globals.color.decide(io::stderr().is_terminal(), variable);
        let live = io::stderr().is_terminal() && variable("TERM").is_none_or(|term| term != "dumb");
        Self { quiet: globals.quiet, color, color_errors, live }
    }

    /// A result.
    pub(crate) fn line(&self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// A result of several lines. Who closes the pipe early, as `head` does, has seen enough.
    #[expect(clippy::unused_self, reason = "there is one way to stdout")]
    pub(crate) fn text(&self, text: &str) {
        let mut out = io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
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
            eprintln!("{text}");
        }
    }

    /// What people must know, also those who want to hear little, on stderr.
    #[expect(clippy::unused_self, reason = "there is one way to stderr")]
    pub(crate) fn warn(&self, text: &str) {
        eprintln!("warning: {}", plain(text));
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
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// What went wrong, and what to do.
    pub(crate) fn error(&self, error: &Error) {
        let word = if self.color_errors { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        eprintln!("{word} {}", plain(&error.message));
        for line in &error.advice {
            eprintln!("  {}", plain(line));
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

    /// How it stands, if that is news.
    pub(crate) fn says(&mut self, text: &str) {
        let text = plain(text);
        if self.quiet || self.said == text {
            return;
        }
        if self.live {
            self.shows(&text);
        } else {
            eprintln!("{text}");
        }
        self.said = text;
    }

    /// How it stands, on a line that is written over.
    pub(crate) fn shows(&mut self, text: &str) {
        let width = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let text: String = plain(text).chars().take(width.saturating_sub(1)).collect();
        eprint!("\r\x1b[K{text}");
        self.shown = text;
    }

    /// Something else that people should know: a line of its own.
    pub(crate) fn notes(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        self.clear();
        eprintln!("{}", plain(text));
    }

    fn clear(&mut self) {
        if !self.shown.is_empty() {
            eprint!("\r\x1b[K");
            self.shown.clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
