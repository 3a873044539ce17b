//! What this process found when it was started, for the command to find: signal mask, dispositions, closed descriptors;
//! and who its parent is, to know when that is gone.
//!
//! All else passes from process to process by itself. These three do not: signals are blocked from the first line of
//! `main`, and std's start-up code ignores SIGPIPE and opens /dev/null in the place of a closed standard stream,
//! without saying so. Hence a look before it.
//!
//! Signals 32 and 33 are the C library's: its functions leave them out of every mask and disposition, and its first
//! thread unblocks them, as each further one does with the first of them. It would lose its own (to cancel a thread, or
//! to change its user; nothing here does either). From anybody else they are signals like all others, so masks and
//! dispositions are read and set by the kernel's own calls.
#![expect(unsafe_code, reason = "masks, dispositions and descriptors as the kernel has them, before std changes them")]

use std::{
    mem::size_of,
    ptr,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use nix::{
    errno::Errno,
    libc::{self, c_int},
    sys::prctl,
    unistd::{Pid, getpid, getppid},
};

/// The last signal's number on Linux.
pub(super) const LAST: c_int = 64;

/// The signals that the C library uses between threads.
const LIBRARYS: [c_int; 2] = [32, 33];

/// A set of signals as the kernel has it: the first is the lowest bit.
pub(super) type Mask = u64;

/// Whether SIGPIPE was ignored.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// The standard streams that were closed: the first is the lowest bit.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before std's start-up code.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = {
    extern "C" fn look() {
        PIPE_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
        for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
            // SAFETY: asks about a number; it need not be a descriptor.
            if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
                CLOSED.fetch_or(1 << stream, Ordering::Relaxed);
            }
        }
    }
    look
};

/// Mask and dispositions as they were, and the parent; the descriptors are remembered from before.
#[derive(Debug)]
pub(crate) struct Found {
    mask: Mask,
    ignored: Vec<c_int>,
    parent: Pid,
}

impl Found {
    /// Blocks all signals and remembers how things were. To be called first of all, with only one thread running.
    pub(crate) fn block_all() -> nix::Result<Self> {
        let mask = set_mask(Mask::MAX)?;
        let ignored = (1..=LAST).filter(|signal| match *signal {
            libc::SIGPIPE => PIPE_IGNORED.load(Ordering::Relaxed),
            signal => is_ignored(signal),
        });
        let found = Self { mask, ignored: ignored.collect(), parent: getppid() };
        // With SIGCHLD ignored the kernel would reap, and the command's exit code would be gone.
        set(libc::SIGCHLD, libc::SIG_DFL)?;
        // A new thread does not block them until it has called `block`; till then one of these must not end us all.
        for signal in LIBRARYS {
            set(signal, libc::SIG_IGN)?;
        }
        Ok(found)
    }

    /// Whether this signal was ignored.
    pub(crate) fn ignored(&self, signal: c_int) -> bool {
        self.ignored.contains(&signal)
    }

    /// Asks for a signal when the parent dies, or when it has died meanwhile.
    pub(super) fn when_parent_dies(&self, signal: c_int) -> nix::Result<()> {
        // SAFETY: neither call takes a pointer.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })?;
        if getppid() != self.parent {
            // SAFETY: as above.
            Errno::result(unsafe { libc::kill(getpid().as_raw(), signal) })?;
        }
        Ok(())
    }

    /// Puts everything back. For the child, before it becomes the command: calls only what is safe after a fork.
    pub(super) fn restore(&self) -> nix::Result<()> {
        for signal in [libc::SIGPIPE, libc::SIGCHLD, LIBRARYS[0], LIBRARYS[1]] {
            set(signal, if self.ignored(signal) { libc::SIG_IGN } else { libc::SIG_DFL })?;
        }
        for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
            if CLOSED.load(Ordering::Relaxed) & (1 << stream) != 0 {
                // SAFETY: it is std's /dev/null, and nothing of this process's code runs after this.
                unsafe { libc::close(stream) };
            }
        }
        set_mask(self.mask).map(drop)
    }
}

/// Blocks all signals for this thread. To be called again by the first thread when it has started another one, and by
/// each other thread.
pub(crate) fn block() -> nix::Result<()> {
    set_mask(Mask::MAX).map(drop)
}

/// Sets this thread's mask; the one before.
fn set_mask(mask: Mask) -> nix::Result<Mask> {
    let mut before: Mask = 0;
    let (new, old, size) = (&raw const mask, &raw mut before, size_of::<Mask>());
    // SAFETY: both sets are as large as the call is told.
    Errno::result(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, size) })?;
    Ok(before)
}

/// What waits for this process, or for this thread.
pub(super) fn pending() -> nix::Result<Mask> {
    let mut pending: Mask = 0;
    // SAFETY: the set is as large as the call is told.
    Errno::result(unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size_of::<Mask>()) })?;
    Ok(pending)
}

/// Ends this process by a signal, so that its parent sees what has ended the command. It leaves no core: that of the
/// command tells what there is to tell. Returns if the kernel does not end it, like PID 1.
pub(crate) fn die_by(signal: c_int) {
    if getpid().as_raw() == 1 {
        return;
    }
    // KILL has no other.
    let _ = (prctl::set_dumpable(false), set_default(signal));
    // SAFETY: the call takes no pointers.
    unsafe { libc::kill(getpid().as_raw(), signal) };
    // The others stay blocked: none of them is to come first.
    let _ = set_mask(Mask::MAX & !(1 << (signal - 1)));
}

/// Gives a signal its default action.
pub(super) fn set_default(signal: c_int) -> nix::Result<()> {
    set(signal, libc::SIG_DFL)
}

/// What the kernel calls `sigaction`, without handlers and masks: the first field is the disposition, all others are
/// zero.
type Action = [libc::sighandler_t; 4];

fn is_ignored(signal: c_int) -> bool {
    action(signal, None).is_ok_and(|[disposition, ..]| disposition == libc::SIG_IGN)
}

fn set(signal: c_int, disposition: libc::sighandler_t) -> nix::Result<()> {
    action(signal, Some([disposition, 0, 0, 0])).map(drop)
}

/// Sets what a signal does, if it is to be set; what it did before.
fn action(signal: c_int, new: Option<Action>) -> nix::Result<Action> {
    let mut before: Action = [0; 4];
    let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both are as large as the kernel's structure or larger, whose set of signals is as large as the call is
    // told; the disposition is one of the two that are no handlers.
    let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, &raw mut before, size_of::<Mask>()) };
    Errno::result(done).map(|_| before)
}
