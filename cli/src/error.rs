//! What went wrong, for people: what it was, what to do next, and the exit code.

use std::fmt;

use konductor::Exit;

use crate::screen::Screen;

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

/// What has gone wrong with some of several things, which keeps nobody from the others.
#[derive(Debug, Default)]
pub(crate) struct Failures(Option<Error>);

impl Failures {
    /// One more; of two, the graver is kept and the other is told at once.
    pub(crate) fn add(&mut self, screen: &Screen, error: Error) {
        let lesser = match self.0.take() {
            Some(former) if gravity(former.exit) >= gravity(error.exit) => {
                self.0 = Some(former);
                Some(error)
            }
            former => {
                self.0 = Some(error);
                former
            }
        };
        if let Some(lesser) = lesser {
            screen.error(&lesser);
        }
    }

    /// How it ends: with the gravest.
    pub(crate) fn outcome(self) -> Outcome {
        self.0.map_or(Ok(DONE), Err)
    }
}

/// How much a failure of one of several matters: what is simply not there the least, and most what relies on something
/// that is lost.
fn gravity(exit: Exit) -> u8 {
    match exit {
        Exit::NoSuchPrimitive => 0,
        Exit::Refused => 2,
        Exit::Unreachable => 3,
        Exit::Internal => 4,
        Exit::Lost => 5,
        _ => 1,
    }
}

/// What a command comes to: how the program ends.
pub(crate) type Outcome = Result<Exit, Error>;

/// All went well.
pub(crate) const DONE: Exit = Exit::Code(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_failures_the_gravest_is_how_it_ends() {
        let screen = Screen::new(&crate::globals::Globals { quiet: true, ..Default::default() });
        for (exits, expected) in [
            (vec![], None),
            (vec![Exit::NoSuchPrimitive], Some(Exit::NoSuchPrimitive)),
            (vec![Exit::Lost, Exit::NoSuchPrimitive], Some(Exit::Lost)),
            (vec![Exit::NoSuchPrimitive, Exit::Refused, Exit::TimedOut], Some(Exit::Refused)),
        ] {
            let mut failures = Failures::default();
            for exit in &exits {
                failures.add(&screen, Error::new(*exit, ""));
            }
            assert_eq!(failures.outcome().err().map(|error| error.exit), expected, "{exits:?}");
        }
    }
}
