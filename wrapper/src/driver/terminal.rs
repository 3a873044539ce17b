//! The terminal's foreground belongs to the command while it runs, if it was ours: a command in a background group
//! could neither read nor be reached by Ctrl-C.
//!
//! It is given at the start when standard input is the terminal, and otherwise to a command that asks for it (by trying
//! to read or to change it, which stops it): several commands that one person has started at once do not fight over it,
//! and Ctrl-C then reaches us and is forwarded.
//!
//! The terminal is opened anew each time: a descriptor that stays open would keep the file system of /dev busy.

use std::{
    fs::{File, OpenOptions},
    io::{IsTerminal as _, stdin},
    os::unix::fs::OpenOptionsExt as _,
};

use nix::{
    errno::Errno,
    libc,
    sys::signal::killpg,
    unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp},
};

const TERMINAL: &str = "/dev/tty";

/// Who has the foreground.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    /// Whether the command uses the terminal.
    used: bool,
    /// Whether the command was given the foreground.
    lent: bool,
}

impl Terminal {
    /// Offers the foreground to a command that is about to be started and takes it itself: the terminal, if the
    /// foreground is ours.
    pub(super) fn offer(&mut self) -> Option<File> {
        self.used = stdin().is_terminal();
        self.lend()
    }

    /// The command has been stopped because it wants the terminal. Whether it can have it: the foreground is ours.
    pub(super) fn is_asked_for(&mut self) -> bool {
        self.used = true;
        open().is_some_and(|terminal| is_ours(&terminal))
    }

    /// Gives the foreground to a command that uses the terminal, if it is ours.
    pub(super) fn give(&mut self, group: Pid) {
        if let Some(terminal) = self.lend() {
            told(tcsetpgrp(&terminal, group));
        }
    }

    fn lend(&mut self) -> Option<File> {
        let terminal = self.used.then(open).flatten().filter(is_ours);
        self.lent |= terminal.is_some();
        terminal
    }

    /// Takes the foreground back from this group, or from one that is gone; not from anybody else, like a shell that
    /// has moved us to the background. (All signals are blocked, so SIGTTOU does not stop this.)
    pub(super) fn take_back(&mut self, group: Pid) {
        let Some(terminal) = self.lent.then(open).flatten() else { return };
        let Ok(front) = tcgetpgrp(&terminal) else { return };
        if front == group || killpg(front, None) == Err(Errno::ESRCH) {
            self.lent = false;
            told(tcsetpgrp(&terminal, getpgrp()));
        }
    }
}

/// The controlling terminal, if there is one.
fn open() -> Option<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(TERMINAL).ok()
}

fn is_ours(terminal: &File) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}

fn told(outcome: nix::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!("cannot change the terminal's foreground: {error}");
    }
}
