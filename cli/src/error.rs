//! What went wrong, for people: what it was, what to do next, and the exit code.

use std::fmt;

use konductor::Exit;

/// Why a command has not done what it should.
#[derive(Debug)]
pub(crate) struct Error {
    /// How the program ends.
    pub(crate) exit: Exit,
    /// What was wanted and what was found.
    pub(crate) message: String,
    /// What to do next, a line each.
    pub(crate) advice: Vec<String>,
}

impl Error {
    /// An error with this exit code and this to say.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), advice: Vec::new() }
    }

    /// What was typed is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The system refuses something.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }

    /// The same, with one more thing to do.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// What a command comes to: how the program ends.
pub(crate) type Outcome = Result<Exit, Error>;

/// All went well.
pub(crate) const DONE: Exit = Exit::Code(0);
