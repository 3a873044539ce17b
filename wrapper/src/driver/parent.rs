//! The parent's death, as the kernel tells it, and whether it is that of the whole process.
//!
//! `PR_SET_PDEATHSIG` speaks of the *thread* that has started this process: a server whose threads come and go would end
//! what it runs with each of them. So the kernel is asked for a signal of its own, which nobody else uses, and when it
//! comes there is a look: while the process lives, its other threads are the parent. Only when the parent is another
//! one is the signal that was wished for sent.
#![expect(unsafe_code, reason = "prctl(2) with, and kill(2) of, signals that nix does not know")]

use nix::{
    errno::Errno,
    libc::{self, c_int},
    sys::signalfd::siginfo,
    unistd::{Pid, getpid, getppid},
};

/// One of the C library's two, which no program sends to another.
pub(super) const NEWS: c_int = 33;

/// A parent that is looked after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    pid: Pid,
    signal: c_int,
}

impl Parent {
    /// From now on this process gets `signal` when the parent dies, or when it has died meanwhile.
    pub(super) fn watch(pid: Pid, signal: c_int) -> nix::Result<Self> {
        let parent = Self { pid, signal };
        ask_for(NEWS)?;
        if getppid() != pid {
            parent.gone()?;
        }
        Ok(parent)
    }

    /// Whether this is the kernel's news that a thread of the parent has ended. If that was the last one, the signal
    /// that was wished for follows.
    pub(super) fn is_news(self, info: &siginfo) -> bool {
        let news = info.ssi_signo as c_int == NEWS
            && info.ssi_code == libc::SI_USER
            && info.ssi_pid as libc::pid_t == self.pid.as_raw();
        // A parent in another PID namespace has no number here, before and after: its first news are believed.
        if news
            && (getppid() != self.pid || self.pid.as_raw() == 0)
            && let Err(error) = self.gone()
        {
            tracing::error!("the parent is gone, and signal {} cannot be sent: {error}", self.signal);
        }
        news
    }

    fn gone(self) -> nix::Result<()> {
        // Who is the parent now is nobody's concern.
        ask_for(0)?;
        // SAFETY: the call takes no pointers.
        Errno::result(unsafe { libc::kill(getpid().as_raw(), self.signal) }).map(drop)
    }
}

fn ask_for(signal: c_int) -> nix::Result<()> {
    // SAFETY: the call takes no pointers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }).map(drop)
}
