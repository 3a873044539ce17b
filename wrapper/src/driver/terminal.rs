//! The terminal's foreground belongs to the command while it runs, if it was ours: a command in a background group could
//! neither read nor be reached by Ctrl-C.

use std::io::{IsTerminal as _, stdin};

use nix::unistd::{getpgrp, tcgetpgrp, tcsetpgrp};

/// The child is to take the foreground.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lent;

/// Whether the command has the foreground.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    lent: bool,
}

impl Terminal {
    /// Offers the foreground to the command.
    pub(super) fn lend(&mut self) -> Option<Lent> {
        self.lent = stdin().is_terminal() && tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp());
        self.lent.then_some(Lent)
    }

    /// The command has ended. (All signals are blocked, so SIGTTOU does not stop this.)
    pub(super) fn take_back(&mut self) {
        if std::mem::take(&mut self.lent)
            && let Err(error) = tcsetpgrp(stdin(), getpgrp())
        {
            tracing::debug!("cannot take the terminal back: {error}");
        }
    }
}
