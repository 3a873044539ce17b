//! The witness: a process in the job's group that hears what is sent to the whole group, and nothing else.
//!
//! A command that shares this process's group ([`super::terminal::is_member_of_a_job`]) gets what the terminal or the
//! shell sends to the group by itself, and must get from us what was sent to us alone. No signal says which of the two
//! it is: `kill -TERM PID` and `kill -TERM -GROUP` look alike to whoever receives them. So there is a third member of
//! the group, which nobody knows by its number: what it has got as well was for all.
//!
//! *When.* It is asked for each batch of signals, and takes its own only then, so that the same ones merge for it as
//! for us. The kernel sends to the newest member of a group first, and the witness is newer than we are: what we have
//! got by a signal to the group, it has got before. Nobody waits for its answer but the signals in question.
//!
//! *What it is.* A copy of this process with all signals blocked and no descriptor but its end of a pair of sockets,
//! which ends with the other one; what is said of the watchdog ([`super::watchdog`]) about memory, locks and waiting
//! holds for it, too.
#![expect(unsafe_code, reason = "clone(2) and exit(2)")]

use std::{
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    libc::{self, c_int, pid_t},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, chdir, read, write},
};

use super::{
    signals::{self, SIGNALS},
    tree, watchdog,
};

/// The witness's name, of 15 letters at most.
const NAME: &std::ffi::CStr = c"konductor-group";

/// How many signals of each number have come.
pub(super) type Counts = [u16; SIGNALS];

/// An answer's length.
const LENGTH: usize = SIGNALS * size_of::<u16>();

/// A witness that runs, as `konductor-run` sees it. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Witness {
    pid: Pid,
    socket: UnixStream,
    counts: bool,
}

impl Witness {
    /// Starts a witness in this process's group.
    pub(super) fn start() -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // SAFETY: with no flag but the signal of its end the child is a copy that shares no memory. It makes system
        // calls only, with memory that was there before or is on its stack, and never returns.
        let clone = |end: c_int| Errno::result(unsafe { libc::syscall(libc::SYS_clone, end, 0, 0, 0, 0) });
        // Emulators know no children whose end is no signal.
        let (cloned, counts) = match clone(0) {
            Err(Errno::EINVAL) => (clone(libc::SIGCHLD), true),
            cloned => (cloned, false),
        };
        let pid = cloned? as pid_t;
        if pid == 0 {
            drop(ours);
            let code = i32::from(testify(&theirs).is_err());
            // SAFETY: ends this process at once, without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        Ok(Self { pid: Pid::from_raw(pid), socket: ours, counts })
    }

    /// The id of the witness's process.
    pub(super) fn pid(&self) -> pid_t {
        self.pid.as_raw()
    }

    /// Whether waiting for all children waits for it, too.
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// Whether it gets to run some time. Nobody knows that without /proc.
    pub(super) fn may_answer(&self) -> bool {
        tree::any_thread_stands(self.pid.as_raw()).is_ok_and(|stands| !stands)
    }

    /// Asks what has come since it was asked last. Each question has one answer.
    pub(super) fn ask(&mut self) -> std::io::Result<()> {
        self.socket.write_all(&[0])
    }

    /// The answer, as soon as it is there; an error when there will not be one.
    pub(super) fn answer(&mut self) -> std::io::Result<Option<Counts>> {
        let mut bytes = [0; LENGTH];
        match self.socket.read_exact(&mut bytes) {
            Ok(()) => {}
            // So few bytes come as a whole or not at all.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut counts = [0; SIGNALS];
        for (count, bytes) in counts.iter_mut().zip(bytes.chunks_exact(2)) {
            *count = u16::from_ne_bytes([bytes[0], bytes[1]]);
        }
        Ok(Some(counts))
    }
}

impl AsFd for Witness {
    /// Readable when there is an answer, or the witness is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Both fail only if it is gone and was waited for, which nobody else does.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
    }
}

/// What the witness does from its start to its end.
fn testify(socket: &UnixStream) -> nix::Result<()> {
    prctl::set_name(NAME)?;
    chdir(c"/")?;
    watchdog::close_all_but(&[socket.as_raw_fd()]);
    let signals = signals::all()?;
    loop {
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let mut question = [0];
        if read(socket, &mut question)? == 0 {
            return Ok(());
        }
        let mut counts: Counts = [0; SIGNALS];
        // So many of one number fit; what is left over comes with the next answer.
        for _ in 0..u16::MAX {
            let Some(info) = signals.read_signal()? else { break };
            let count = &mut counts[info.ssi_signo as c_int as usize % SIGNALS];
            *count += 1;
        }
        let mut bytes = [0; LENGTH];
        for (bytes, count) in bytes.chunks_exact_mut(2).zip(counts) {
            bytes.copy_from_slice(&count.to_ne_bytes());
        }
        write(socket, &bytes)?;
    }
}
