//! What this process found when it was started, for the command to find: signal mask, dispositions, closed descriptors.
//!
//! All else passes from process to process by itself. These three do not: signals are blocked from the first line of
//! `main`, and std's start-up code ignores SIGPIPE and opens /dev/null in the place of a closed standard stream, without
//! saying so. Hence a look before it.
//!
//! Signals 32 and 33 are the C library's, whose functions leave them out of every mask: it would lose its own (to cancel a
//! thread, or to change its user; nothing here does either). From anybody else they are signals like all others, so the mask
//! is read and set by the kernel's own call, which has all 64.
#![expect(unsafe_code, reason = "masks, dispositions and descriptors as the kernel has them, before std changes them")]

use std::{
    mem::{MaybeUninit, size_of},
    ptr,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use nix::{
    errno::Errno,
    libc::{self, c_int},
};

/// The last signal's number on Linux.
const LAST: c_int = 64;

/// A set of signals as the kernel has it: the first is the lowest bit.
type Mask = u64;

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

/// Mask and dispositions as they were; the descriptors are remembered from before.
#[derive(Debug)]
pub(crate) struct Found {
    mask: Mask,
    ignored: Vec<c_int>,
}

impl Found {
    /// Blocks all signals and remembers how things were. To be called first of all, with only one thread running.
    pub(crate) fn block_all() -> nix::Result<Self> {
        let mask = set_mask(Mask::MAX)?;
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
        for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
            if CLOSED.load(Ordering::Relaxed) & (1 << stream) != 0 {
                // SAFETY: it is std's /dev/null, and nothing of this process's code runs after this.
                unsafe { libc::close(stream) };
            }
        }
        set_mask(self.mask).map(drop)
    }
}

/// Sets this thread's mask; the one before.
fn set_mask(mask: Mask) -> nix::Result<Mask> {
    let mut before: Mask = 0;
    let (new, old, size) = (&raw const mask, &raw mut before, size_of::<Mask>());
    // SAFETY: both sets are as large as the call is told.
    Errno::result(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, size) })?;
    Ok(before)
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
