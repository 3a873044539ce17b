//! Signals as data: all of them blocked from the first line of `main`, read from a descriptor, none handled.
//!
//! A blocked signal waits until it is read, so none is lost between two looks, and real-time ones keep their number and
//! order. SIGCHLD is only a reason to reap. What was found at start is kept for the command.
#![expect(unsafe_code, reason = "dispositions are read and set with sigaction(2); std changes SIGPIPE's before main")]

use std::{
    collections::VecDeque,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    libc::{self, c_int},
    sys::{
        signal::{SigSet, SigmaskHow, pthread_sigmask},
        signalfd::{SfdFlags, SignalFd},
    },
};

use crate::supervisor::Event;

/// The last signal's number on Linux.
const LAST: c_int = 64;

/// Whether SIGPIPE was ignored when the process started: std ignores it before `main` and does not say.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before std's start-up code.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_SIGPIPE: extern "C" fn() = {
    extern "C" fn look() {
        PIPE_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
    }
    look
};

/// Mask and dispositions as they were when the process started.
#[derive(Debug)]
pub(crate) struct Found {
    mask: SigSet,
    ignored: Vec<c_int>,
}

impl Found {
    /// Blocks all signals and remembers how things were. To be called first of all, with only one thread running.
    pub(crate) fn block_all() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut mask))?;
        let ignored = (1..=LAST).filter(|signal| match *signal {
            libc::SIGPIPE => PIPE_IGNORED.load(Ordering::Relaxed),
            signal => is_ignored(signal),
        });
        let found = Self { mask, ignored: ignored.collect() };
        // With SIGCHLD ignored the kernel would reap, and the command's exit code would be gone.
        set(libc::SIGCHLD, libc::SIG_DFL)?;
        Ok(found)
    }

    /// Whether this signal was ignored.
    pub(crate) fn ignored(&self, signal: c_int) -> bool {
        self.ignored.contains(&signal)
    }

    /// Puts everything back. For the child, before it becomes the command: calls only what is safe after a fork.
    pub(super) fn restore(&self) -> nix::Result<()> {
        for signal in [libc::SIGPIPE, libc::SIGCHLD] {
            set(signal, if self.ignored(signal) { libc::SIG_IGN } else { libc::SIG_DFL })?;
        }
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None)
    }
}

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null new action the call only writes the old one, to memory that is large enough; all zeros is a
    // valid sigaction, so it can be read also when the call refuses the number.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

fn set(signal: c_int, handler: libc::sighandler_t) -> nix::Result<()> {
    // SAFETY: all zeros is a valid sigaction with an empty mask and no flags, and the handler is one of the two constants.
    let outcome = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handler;
        libc::sigaction(signal, &raw const action, ptr::null_mut())
    };
    Errno::result(outcome).map(drop)
}

/// The signals that have arrived.
pub(super) struct Signals(SignalFd);

impl Signals {
    pub(super) fn new() -> nix::Result<Self> {
        SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// Tells every signal that has arrived, in the kernel's order.
    pub(super) fn read(&self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        while let Some(info) = self.0.read_signal()? {
            let signal = info.ssi_signo as c_int;
            // A write of ours to a closed pipe raises one too; that is not the command's business.
            let own_pipe = signal == libc::SIGPIPE && info.ssi_pid == std::process::id();
            if signal != libc::SIGCHLD && !own_pipe {
                events.push_back(Event::Signal(signal));
            }
        }
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
