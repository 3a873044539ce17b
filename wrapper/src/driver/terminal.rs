//! The terminal, and whose signals are whose.
//!
//! *As a member of a job.* A terminal's shell counts on it that all processes of a job are in one group: the script or
//! the loop that runs us, other parts of a pipeline, `make`, `timeout`. The group has the foreground, gets Ctrl-C and
//! Ctrl-Z, stops and goes on as a whole. So there the command stays in our group, as it would without us: whatever is
//! sent to the group reaches it by itself, and only what is sent to us alone is forwarded ([`super::witness`]).
//!
//! *Otherwise* (no terminal, the first process of its session, as in `docker run -it` and `ssh -t`, or PID 1) there is
//! no job to belong to, and the command gets a group of its own, which signals can be forwarded to as a whole. If the
//! foreground is ours, it then belongs to the command while that runs: a command in a background group could neither
//! read nor be reached by Ctrl-C. It is given at the start when standard input is the terminal, and otherwise to a
//! command that asks for it (by trying to read or to change it, which stops it).
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
    unistd::{Pid, getpgrp, getpid, getsid, tcgetpgrp, tcsetpgrp},
};

const TERMINAL: &str = "/dev/tty";

/// Whether this process is a member of a terminal's job, beside others that count on its group.
pub(super) fn is_member_of_a_job() -> bool {
    let own = getpid();
    own.as_raw() != 1 && getsid(None) != Ok(own) && open().is_some()
}

/// Who has the foreground, when the command has a group of its own.
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
