//! Signals as data: all of them blocked from the first line of `main`, read from a descriptor, none handled.
//!
//! A blocked signal waits until it is read, so none is lost between two looks, and real-time ones keep their number and
//! order. SIGCHLD is only a reason to reap.
//!
//! A look takes a bounded number, the standard ones first: that is the kernel's order. So signals in any number keep
//! nothing else waiting, and what is not read yet counts against the sender's limit, as it would without us.
#![expect(unsafe_code, reason = "sets with all 64 signals, and sigpending(2), which nix does not have")]

use std::{
    collections::VecDeque,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    libc::{self, c_int},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
        signalfd::{SfdFlags, SignalFd, siginfo},
    },
    unistd::Pid,
};

use super::parent::Parent;
use crate::supervisor::{Event, Queued, Received};

/// How many signals one look takes: more than there are standard ones, so that all of those are among them.
const MOST: usize = 64;

/// Stops this process's whole group, as a terminal would, until somebody continues it. Whether the kernel did so: not
/// PID 1, and not when nobody could continue it.
pub(super) fn stop_group() -> nix::Result<bool> {
    let mut only = SigSet::empty();
    only.add(Signal::SIGTSTP);
    // It waits until it is unblocked, together with another one that may be waiting, so that we stop once; and it takes
    // away a CONT that waits.
    kill(Pid::from_raw(0), Signal::SIGTSTP)?;
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None)?;
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&only), None)?;
    let mut waiting = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call writes the set, which is only read when it has.
    unsafe {
        Errno::result(libc::sigpending(waiting.as_mut_ptr()))?;
        Ok(libc::sigismember(waiting.as_ptr(), libc::SIGCONT) == 1)
    }
}

/// The signals that have arrived.
pub(super) struct Signals {
    fd: SignalFd,
    /// Whose death is news.
    parent: Option<Parent>,
}

impl Signals {
    pub(super) fn new(parent: Option<Parent>) -> nix::Result<Self> {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: every pattern of bits is a set; the library's way to make a full one leaves out two.
        let all = unsafe {
            all.as_mut_ptr().write_bytes(u8::MAX, 1);
            SigSet::from_sigset_t_unchecked(all.assume_init())
        };
        let fd = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, parent })
    }

    /// Tells signals that have arrived, in the kernel's order: all standard ones, and as many others as fit.
    pub(super) fn read(&self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        for _ in 0..MOST {
            let Some(info) = self.fd.read_signal()? else { break };
            let signal = info.ssi_signo as c_int;
            // A write of ours to a closed pipe raises one too; that is not the command's business.
            let own_pipe = signal == libc::SIGPIPE && info.ssi_pid == std::process::id();
            let of_parent = self.parent.is_some_and(|parent| parent.is_news(&info));
            if signal != libc::SIGCHLD && !own_pipe && !of_parent {
                events.push_back(Event::Signal(Received { signal, queued: queued(&info) }));
            }
        }
        Ok(())
    }
}

/// What sigqueue(3) has sent along.
fn queued(info: &siginfo) -> Option<Queued> {
    let sent = info.ssi_code == libc::SI_QUEUE;
    sent.then_some(Queued { pid: info.ssi_pid as i32, uid: info.ssi_uid, value: info.ssi_ptr })
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
