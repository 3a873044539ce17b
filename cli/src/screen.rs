//! Where words go: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use crate::{error::Error, globals::Globals};

/// Both outputs.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    /// Only what goes wrong is said.
    quiet: bool,
    /// Whether stdout shows colors.
    pub(crate) color: bool,
    /// Whether stderr is a terminal on which a line can be written over.
    pub(crate) live: bool,
}

impl Screen {
    /// As the flags and the environment want it.
    pub(crate) fn new(globals: &Globals) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let color = globals.color.decide(io::stdout().is_terminal(), variable);
        let live = io::stderr().is_terminal() && variable("TERM").is_none_or(|term| term != "dumb");
        Self { quiet: globals.quiet, color, live }
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

    /// What went wrong, and what to do.
    #[expect(clippy::unused_self, reason = "there is one way to stderr")]
    pub(crate) fn error(&self, error: &Error) {
        eprintln!("error: {error}");
        for line in &error.advice {
            eprintln!("  {line}");
        }
    }
}
