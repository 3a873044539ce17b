//! What this process found when it was started, for the command to find: signal mask, dispositions, closed descriptors,
//! and what is in its environment without being a variable; and who its parent is, to know when that is gone.
//!
//! All else passes from process to process by itself. The first three do not: signals are blocked from the first line of
//! `main`, and std's start-up code, which `koncli run` has, ignores SIGPIPE and opens /dev/null in the place of a closed
//! standard stream, without saying so (and aborts where there is no /dev). Hence a look before it, and something in
//! their place, so that nothing that this process opens is ever taken for a standard stream.
//!
//! Signals 32 and 33 are the C library's: its functions leave them out of every mask and disposition, and its first
//! thread unblocks them, as each further one does with the first of them. It would lose its own (to cancel a thread, or
//! to change its user; nothing here does either). From anybody else they are signals like all others, so masks and
//! dispositions are read and set by the kernel's own calls.
#![expect(unsafe_code, reason = "masks, dispositions and descriptors as the kernel has them, before std changes them")]

use std::{
    ffi::{CStr, CString, c_char},
    mem::size_of,
    os::unix::process::CommandExt as _,
    process::Command,
    ptr,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc::{self, c_int},
    sys::{prctl, signal::Signal, time::TimeSpec},
    unistd::{Pid, getpid, getppid},
};

/// The last signal's number on Linux.
pub(super) const LAST: c_int = 64;

/// The signals that the C library uses between threads.
const LIBRARYS: [c_int; 2] = [32, 33];

/// Signals that end the waiting for a claim.
pub(super) const ENDING: [c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

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
        PIPE_IGNORED.store(disposition(libc::SIGPIPE) == Ok(libc::SIG_IGN), Ordering::Relaxed);
        for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
            // SAFETY: asks about a number; it need not be a descriptor.
            if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
                CLOSED.fetch_or(1 << stream, Ordering::Relaxed);
                fill();
            }
        }
    }
    look
};

/// Opens something of no use under the lowest number that is free: what reads as empty and takes all, or at least a
/// folder, of which nobody can read or write anything.
fn fill() {
    for (path, flags) in [(c"/dev/null", libc::O_RDWR), (c"/", libc::O_RDONLY | libc::O_DIRECTORY)] {
        // SAFETY: the path ends with a zero. Restored for the command by `Found::restore`.
        if unsafe { libc::open(path.as_ptr(), flags) } >= 0 {
            return;
        }
    }
}

/// Mask and dispositions as they were, and the parent; the descriptors are remembered from before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    mask: Mask,
    /// Of those that are asked for.
    ignored: Mask,
    parent: Pid,
}

impl Found {
    /// Blocks all signals and remembers how things were. To be called first of all, with only one thread running.
    pub(crate) fn block_all() -> nix::Result<Self> {
        let mask = set_mask(Mask::MAX)?;
        let mut ignored = if PIPE_IGNORED.load(Ordering::Relaxed) { bit(libc::SIGPIPE) } else { 0 };
        let mut note = |signal, before| ignored |= if before == libc::SIG_IGN { bit(signal) } else { 0 };
        for signal in ENDING {
            note(signal, disposition(signal).unwrap_or(libc::SIG_DFL));
        }
        // With SIGCHLD ignored the kernel would reap, and the command's exit code would be gone.
        note(libc::SIGCHLD, set(libc::SIGCHLD, libc::SIG_DFL)?);
        // A new thread does not block them until it has called `block`; till then one of these must not end us all.
        // Emulators keep them for themselves, and then no such signal comes.
        for signal in LIBRARYS {
            note(signal, set(signal, libc::SIG_IGN).unwrap_or(libc::SIG_DFL));
        }
        Ok(Self { mask, ignored, parent: getppid() })
    }

    /// Those signals that end the waiting: all that would have ended this process.
    pub(super) fn ending(&self) -> impl Iterator<Item = c_int> {
        ENDING.into_iter().filter(|signal| !self.ignored(*signal))
    }

    /// Whether this signal was ignored: one that ends the waiting, or whose disposition this process changes.
    fn ignored(&self, signal: c_int) -> bool {
        self.ignored & bit(signal) != 0
    }

    /// Who the parent was.
    pub(super) fn parent(&self) -> Pid {
        self.parent
    }

    /// Waits for so long, or until a signal arrives that ends the waiting: which one.
    pub(super) fn wait(&self, pause: Duration) -> Option<c_int> {
        let mask = self.ending().fold(0, |mask: Mask, signal| mask | bit(signal));
        let pause = TimeSpec::from_duration(pause);
        let (mask, nobody): (_, *mut libc::siginfo_t) = (&raw const mask, ptr::null_mut());
        // SAFETY: set and time are there for the call, and the set is as large as it is told.
        let signal =
            unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, mask, nobody, pause.as_ref(), size_of::<Mask>()) };
        c_int::try_from(signal).ok().filter(|signal| *signal > 0)
    }

    /// Puts everything back. For the child, before it becomes the command: calls only what is safe after a fork.
    pub(super) fn restore(&self) -> nix::Result<()> {
        for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
            if CLOSED.load(Ordering::Relaxed) & (1 << stream) != 0 {
                // SAFETY: it is what `fill` has opened, and nothing of this process's code runs after this.
                unsafe { libc::close(stream) };
            }
        }
        self.restore_signals()
    }

    fn restore_signals(&self) -> nix::Result<()> {
        let disposition = |signal| if self.ignored(signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        for signal in [libc::SIGPIPE, libc::SIGCHLD] {
            set(signal, disposition(signal))?;
        }
        for signal in LIBRARYS {
            // Where this is refused, it was before.
            let _ = set(signal, disposition(signal));
        }
        set_mask(self.mask).map(drop)
    }

    /// Has a program that is no part of the command's tree begin with the signals as they were, so that it can be
    /// interrupted, and end with the thread that starts it, and so with this process.
    pub(super) fn hand_on(self, program: &mut Command) {
        let parent = getpid();
        let begin = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                // It has ended before it could be known.
                return Err(Errno::ESRCH.into());
            }
            Ok(self.restore_signals()?)
        };
        // SAFETY: between fork and exec it makes only system calls, and allocates nothing.
        unsafe { program.pre_exec(begin) };
    }
}

/// What is in the environment without being a variable, as it has no name or no value: nothing can be asked of it, but a
/// program may look for it.
pub(super) fn odd_entries() -> Vec<CString> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let mut odd = Vec::new();
    // SAFETY: a list of texts that ends with a null pointer, or none at all; nothing has changed it since the start.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry);
            // A name has one character at least, which may be an equals sign.
            if !text.to_bytes().iter().skip(1).any(|byte| *byte == b'=') {
                odd.push(text.to_owned());
            }
            entry = entry.add(1);
        }
    }
    odd
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
    let _ = set_mask(Mask::MAX & !bit(signal));
}

/// Gives a signal its default action.
pub(super) fn set_default(signal: c_int) -> nix::Result<()> {
    set(signal, libc::SIG_DFL).map(drop)
}

/// What the kernel calls `sigaction`, without handlers and masks: the first field is the disposition, all others are
/// zero.
type Action = [libc::sighandler_t; 4];

/// The set of one signal; zero is none.
pub(super) fn bit(signal: c_int) -> Mask {
    if signal == 0 { 0 } else { 1 << (signal - 1) }
}

fn disposition(signal: c_int) -> nix::Result<libc::sighandler_t> {
    action(signal, None).map(|[disposition, ..]| disposition)
}

/// Sets a disposition; the one before.
fn set(signal: c_int, disposition: libc::sighandler_t) -> nix::Result<libc::sighandler_t> {
    action(signal, Some([disposition, 0, 0, 0])).map(|[disposition, ..]| disposition)
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
