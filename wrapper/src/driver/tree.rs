//! The command's whole process tree: found, signalled, reaped, known to be dead.
//!
//! This process is PID 1 or a child subreaper, so a process whose parent has died becomes its child, whatever sessions or
//! groups it has made for itself. Hence the tree is dead exactly when there is no child left, which waitpid(2) says
//! without looking at /proc and without a race.
//!
//! Killing it: PID 1 kills everything in its namespace in one call. Elsewhere all descendants in /proc are killed, again and
//! again until a look finds none that has not been killed: a process with SIGKILL pending can no longer fork. One that a
//! look misses, because its parent died during that look, sends SIGCHLD when it changes parents or ends, and the core then
//! asks to kill once more.
//!
//! Children that were there before the command (of a script that has since become `konductor-run`, like a `tee` for the
//! log) are not the command's: they are reaped, and otherwise left alone.
#![expect(unsafe_code, reason = "real-time signals, which nix's kill and waitpid do not know")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
};

use nix::{
    errno::Errno,
    libc::{self, c_int, pid_t},
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::{Pid, getpid},
};

use crate::exit::Exit;

/// Enough for the first four fields of /proc/PID/stat: a name has at most 64 bytes.
const MAX_STAT: u64 = 256;

/// What one look for dead children found.
#[derive(Debug, Default)]
pub(super) struct Reaped {
    /// The command's own end.
    pub(super) command: Option<Exit>,
    /// Any process at all.
    pub(super) some: bool,
    /// Nothing of the tree is left.
    pub(super) empty: bool,
}

/// The tree of one command.
#[derive(Debug)]
pub(super) struct Tree {
    command: Option<Pid>,
    /// Children that were there before the command.
    others: BTreeSet<pid_t>,
    is_init: bool,
}

impl Tree {
    /// No tree yet.
    pub(super) fn new() -> nix::Result<Self> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let others = match waitid(Id::All, look) {
            Err(Errno::ECHILD) => BTreeSet::new(),
            Err(error) => return Err(error),
            Ok(_) => children().unwrap_or_default(),
        };
        Ok(Self { command: None, others, is_init: getpid().as_raw() == 1 })
    }

    /// The command has been started.
    pub(super) fn adopt(&mut self, command: Pid) {
        self.command = Some(command);
    }

    /// Reaps all that have died.
    pub(super) fn reap(&mut self) -> nix::Result<Reaped> {
        let mut reaped = Reaped::default();
        let mut childless = false;
        loop {
            let mut status = 0;
            // SAFETY: writes the status to the variable that it is given.
            match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
                Ok(0) => break,
                Ok(pid) => {
                    reaped.some = true;
                    self.others.remove(&pid);
                    if self.command == Some(Pid::from_raw(pid)) {
                        self.command = None;
                        reaped.command = Some(exit(status));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => {
                    childless = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let only_others = || !self.others.is_empty() && children().is_ok_and(|now| now.is_subset(&self.others));
        reaped.empty = reaped.some && self.command.is_none() && (childless || only_others());
        Ok(reaped)
    }

    /// Sends a signal to the command's process group.
    pub(super) fn forward(&self, signal: c_int) {
        if let Some(command) = self.command {
            // The group exists as long as its leader has not been reaped.
            send(-command.as_raw(), signal);
        }
    }

    /// Asks all to end, also those that are stopped.
    pub(super) fn terminate(&self) {
        match self.descendants() {
            Ok(all) => {
                for pid in all {
                    send(pid, libc::SIGTERM);
                    send(pid, libc::SIGCONT);
                }
            }
            Err(_) if self.is_init => {
                send(-1, libc::SIGTERM);
                send(-1, libc::SIGCONT);
            }
            Err(error) => {
                Self::without_proc(&error);
                self.forward(libc::SIGTERM);
                self.forward(libc::SIGCONT);
            }
        }
    }

    /// Kills all.
    pub(super) fn kill(&self) {
        if self.is_init {
            return send(-1, libc::SIGKILL);
        }
        self.forward(libc::SIGKILL);
        let mut killed = BTreeSet::new();
        loop {
            match self.descendants() {
                Ok(all) => {
                    let before = killed.len();
                    for pid in all {
                        if killed.insert(pid) {
                            send(pid, libc::SIGKILL);
                        }
                    }
                    if killed.len() == before {
                        return;
                    }
                }
                Err(error) => return Self::without_proc(&error),
            }
        }
    }

    fn without_proc(error: &io::Error) {
        tracing::warn!("cannot look for processes that left the command's group: {error}");
    }

    /// Every process of the tree.
    fn descendants(&self) -> io::Result<Vec<pid_t>> {
        let own = getpid().as_raw();
        let mut by_parent: BTreeMap<pid_t, Vec<pid_t>> = BTreeMap::new();
        for process in processes()? {
            by_parent.entry(process.parent).or_default().push(process.pid);
        }
        let mut found = Vec::new();
        let mut parents = vec![own];
        while let Some(parent) = parents.pop() {
            let children = by_parent.remove(&parent).unwrap_or_default();
            let wanted = children.into_iter().filter(|pid| parent != own || !self.others.contains(pid));
            let from = found.len();
            found.extend(wanted);
            parents.extend(&found[from..]);
        }
        Ok(found)
    }
}

/// How a child has ended.
fn exit(status: c_int) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status) as u8)
    }
}

fn send(target: pid_t, signal: c_int) {
    // SAFETY: the call takes no pointers.
    match Errno::result(unsafe { libc::kill(target, signal) }) {
        // It may have ended a moment ago.
        Ok(_) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::error!("cannot send signal {signal} to process {target}: {error}"),
    }
}

/// A line of /proc.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: pid_t,
    parent: pid_t,
}

fn children() -> io::Result<BTreeSet<pid_t>> {
    let own = getpid().as_raw();
    Ok(processes()?.into_iter().filter(|process| process.parent == own).map(|process| process.pid).collect())
}

/// All processes, if /proc shows this process's own PID namespace.
fn processes() -> io::Result<Vec<Process>> {
    let own = fs::read_link("/proc/self")?;
    if own.as_os_str() != getpid().to_string().as_str() {
        return Err(io::Error::other("/proc is that of another PID namespace"));
    }
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let mut stat = Vec::new();
        // It may have been reaped since the folder was read.
        let read =
            fs::File::open(format!("/proc/{name}/stat")).and_then(|file| file.take(MAX_STAT).read_to_end(&mut stat));
        if read.is_ok() {
            all.extend(process(&stat));
        }
    }
    Ok(all)
}

/// `pid (name) state parent ...`, where the name may have anything in it. The state says too little: a process whose first
/// thread has ended shows as a zombie while the others run.
fn process(stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(stat.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    let parent = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Process { pid, parent })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_proc_are_read_whatever_the_name() {
        for (stat, expected) in [
            ("7 (sh) S 1 7 7 0", Some((7, 1))),
            ("7 (a) Z 9 (b) R 4 7 7", Some((7, 4))),
            ("7 () R 0 7", Some((7, 0))),
            ("7 (sh) Z 1 7", Some((7, 1))),
            ("7 (sh) S", None),
            ("x (sh) S 1", None),
            ("", None),
        ] {
            let found = process(stat.as_bytes()).map(|process| (process.pid, process.parent));
            assert_eq!(found, expected, "{stat}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(stat in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = process(&stat);
        }
    }
}
