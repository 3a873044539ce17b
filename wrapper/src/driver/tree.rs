//! The command's whole process tree: found, signalled, reaped, known to be dead.
//!
//! This process is PID 1 or a child subreaper, so a process whose parent has died becomes its child, whatever sessions
//! or groups it has made for itself. Hence the tree is dead exactly when there is no child left, which waitpid(2) says
//! without looking at /proc and without a race.
//!
//! Killing it: PID 1 kills everything in its namespace in one call. Elsewhere all descendants in /proc are killed,
//! again and again until a look finds none that has not been killed: a process with SIGKILL pending can no longer fork.
//! One that a look misses, because its parent died during that look, sends SIGCHLD when it changes parents or ends, and
//! the core then asks to kill once more; and once in a second in any case, as a look may be refused (no descriptor is
//! free). Where /proc hides other processes from this user (hidepid), it does so also with a child that is not to be
//! dumped; the kernel's own list of children has that, too.
//!
//! One look reaps a bounded number, so that ten thousand that die at once keep no signal and no deadline waiting.
//!
//! A control group would know the tree as well, but `cgroup.kill` also kills who is in it beside the tree, this process
//! among them, and a container's group is seldom delegated; pidfds would have to be had before the process can fork
//! again.
//!
//! Where this process is neither PID 1 nor allowed to be a subreaper, orphans go elsewhere and are not known any more:
//! enough for an init, and not for one that holds something.
//!
//! Children that were there before the command (of a script that has since become `konductor-run`, like a `tee` for the
//! log) are not the command's: they are reaped, and otherwise left alone.
#![expect(unsafe_code, reason = "real-time signals, which nix's kill and waitpid do not know")]

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    mem::{MaybeUninit, size_of},
    path::Path,
};

use konductor::Exit;
use nix::{
    errno::Errno,
    libc::{self, c_int, pid_t},
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::{Pid, getpid},
};

use super::witness::Witness;
use crate::{
    config::Scope,
    supervisor::{Queued, Received},
};

/// Enough for the first 22 fields of /proc/PID/stat: a name has at most 64 bytes, a number at most 20 digits.
pub(super) const MAX_STAT: usize = 512;

/// How many children one look reaps: a few milliseconds' work.
const MOST: usize = 256;

/// A look takes what has died or stopped, and does not wait. Orphans come to a process's first thread, which this is;
/// what another thread has started (a program that gets credentials) is that thread's to wait for.
const LOOK: c_int = libc::WNOHANG | libc::WUNTRACED | libc::__WNOTHREAD;

/// What one look for dead children found.
#[derive(Debug, Default)]
pub(super) struct Reaped {
    /// How the command itself has ended.
    pub(super) command: Option<Exit>,
    /// The signal that has stopped the command.
    pub(super) stopped: Option<c_int>,
    /// Some have ended by being killed with the tree: they were alive then.
    pub(super) killed: bool,
    /// Any process at all, and no other waits to be reaped.
    pub(super) some: bool,
    /// Nothing of the tree is left.
    pub(super) empty: bool,
}

/// The tree of one command.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent: any combination can occur")]
pub(super) struct Tree {
    command: Option<Pid>,
    /// The command has been seen to be stopped. It may have been continued since.
    stopped: bool,
    /// The process group that the command has of its own.
    group: Option<Pid>,
    /// Children that were there before the command.
    others: BTreeSet<pid_t>,
    /// Children that no wait for all children sees, and that are not the command's either.
    watchdog: Option<pid_t>,
    witness: Option<pid_t>,
    /// The command shares this process's group, which others may be in, too.
    shares_group: bool,
    is_init: bool,
    /// Who gets what is forwarded.
    scope: Scope,
    /// The last look has left some for the next one.
    more: bool,
    /// The tree was killed.
    killing: bool,
    /// It was said that a look was refused.
    complained: Cell<bool>,
}

impl Tree {
    /// A tree without any process yet.
    pub(super) fn new(scope: Scope) -> Self {
        let mut tree = Self {
            command: None,
            stopped: false,
            group: None,
            others: BTreeSet::new(),
            watchdog: None,
            witness: None,
            shares_group: false,
            is_init: is_init(),
            scope,
            more: false,
            killing: false,
            complained: Cell::new(false),
        };
        tree.set_apart();
        tree
    }

    /// What is there now is not the command's, which has not been started: a login program may have left something
    /// running, too.
    pub(super) fn set_apart(&mut self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if waitid(Id::All, look) != Err(Errno::ECHILD) {
            // Who is not told may have some.
            let there = children().unwrap_or_default();
            self.others =
                there.into_iter().filter(|child| self.others.contains(child) || self.is_in_tree(*child)).collect();
        }
    }

    /// Takes in the command, which has been started.
    pub(super) fn adopt(&mut self, command: Pid) {
        (self.command, self.group) = (Some(command), Some(command).filter(|_| !self.shares_group));
    }

    /// The command will share this process's group.
    pub(super) fn share_group(&mut self) {
        self.shares_group = true;
    }

    /// Whether the command shares this process's group.
    pub(super) fn shares_group(&self) -> bool {
        self.shares_group
    }

    /// This child is the witness, if there is one.
    pub(super) fn witnessed_by(&mut self, witness: Option<&Witness>) {
        if let Some(before) = std::mem::replace(&mut self.witness, witness.map(Witness::pid)) {
            self.others.remove(&before);
        }
        self.others.extend(witness.filter(|witness| witness.counts()).map(Witness::pid));
    }

    /// This child is the watchdog, or there is none. `counts`: waiting for all children waits for it as well.
    pub(super) fn watched_by(&mut self, watchdog: Option<pid_t>, counts: bool) {
        if let Some(before) = std::mem::replace(&mut self.watchdog, watchdog) {
            self.others.remove(&before);
        }
        self.others.extend(watchdog.filter(|_| counts));
    }

    /// Children that are not the command's, but for the watchdog and the witness.
    pub(super) fn others(&self) -> &BTreeSet<pid_t> {
        &self.others
    }

    /// Not whether it is another thread's: that is for [`is_of_this_thread`] to say, as long as it is not reaped.
    fn is_ours(&self, child: pid_t) -> bool {
        !self.others.contains(&child) && ![self.watchdog, self.witness].contains(&Some(child))
    }

    fn is_in_tree(&self, child: pid_t) -> bool {
        self.is_ours(child) && is_of_this_thread(child)
    }

    /// The command, which is its group's leader unless it shares ours, as long as it is not reaped.
    pub(super) fn command(&self) -> Option<Pid> {
        self.command
    }

    /// Whether the command stands still now. A stop is reported once, and [`Tree::reap`] may have heard of it; a
    /// continuation is to be seen until the next stop, or until a signal begins to end the command: then only /proc
    /// tells, until it has ended.
    pub(super) fn command_stands(&self) -> bool {
        let looks = [WaitPidFlag::WEXITED, WaitPidFlag::WSTOPPED, WaitPidFlag::WCONTINUED];
        let look = looks.into_iter().fold(WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT, |look, one| look | one);
        match self.command.map(|command| waitid(Id::Pid(command), look)) {
            Some(Ok(WaitStatus::Stopped(..))) => true,
            Some(Ok(WaitStatus::StillAlive)) if self.stopped => self.command.is_some_and(|command| {
                // Without /proc what was seen last counts.
                any_thread_stands(command.as_raw()).unwrap_or(true)
            }),
            _ => false,
        }
    }

    /// Whether the last look has left some for the next one, which nothing else announces.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Has the next look tell whether anything is left, also if nothing announces it.
    pub(super) fn look_again(&mut self) {
        self.more = true;
    }

    /// Reaps what has died, and looks whether the command has been stopped.
    pub(super) fn reap(&mut self) -> nix::Result<Reaped> {
        let mut reaped = Reaped::default();
        let mut childless = false;
        let mut some = std::mem::replace(&mut self.more, true);
        for _ in 0..MOST {
            let mut status = 0;
            // SAFETY: writes the status to the variable that it is given.
            match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, LOOK) }) {
                Ok(0) => self.more = false,
                Ok(pid) if libc::WIFSTOPPED(status) => {
                    if self.command == Some(Pid::from_raw(pid)) {
                        self.stopped = true;
                        reaped.stopped = Some(libc::WSTOPSIG(status));
                    }
                }
                Ok(pid) => {
                    some = true;
                    reaped.killed |= self.killing
                        && self.is_ours(pid)
                        && libc::WIFSIGNALED(status)
                        && libc::WTERMSIG(status) == libc::SIGKILL;
                    self.others.remove(&pid);
                    if self.command == Some(Pid::from_raw(pid)) {
                        self.command = None;
                        reaped.command = Some(exit(status));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => (childless, self.more) = (true, false),
                Err(error) => return Err(error),
            }
            if !self.more {
                break;
            }
        }
        reaped.some = some && !self.more;
        let only_others = || {
            !self.others.is_empty() && children().is_ok_and(|now| !now.into_iter().any(|child| self.is_in_tree(child)))
        };
        reaped.empty = reaped.some && self.command.is_none() && (childless || only_others());
        Ok(reaped)
    }

    /// Sends a signal to the command, and to its process group if that is wanted. The kernel has no call that sends a
    /// value to a group, so a value that came along goes to a command alone.
    pub(super) fn forward(&self, received: Received) {
        let Some(command) = self.command else { return };
        match (self.scope, received.queued) {
            (Scope::Group, _) if !self.shares_group => self.signal_group(received.signal),
            (_, None) => send(command.as_raw(), received.signal),
            (_, Some(queued)) => send_queued(command.as_raw(), received.signal, queued),
        }
    }

    /// Sends a signal to the command's process group, or to the command alone when the group is not its own.
    pub(super) fn signal_group(&self, signal: c_int) {
        match self.command.map(Pid::as_raw) {
            Some(command) if self.shares_group => send(command, signal),
            // The group exists as long as its leader has not been reaped.
            Some(command) => send(-command, signal),
            None => {}
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
                self.without_proc(&error);
                self.signal_those_left(libc::SIGTERM);
                self.signal_those_left(libc::SIGCONT);
            }
        }
    }

    /// Kills every process of the tree.
    pub(super) fn kill(&mut self) {
        self.killing = true;
        if self.is_init {
            return send(-1, libc::SIGKILL);
        }
        self.signal_group(libc::SIGKILL);
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
                Err(error) => {
                    self.without_proc(&error);
                    return self.signal_those_left(libc::SIGKILL);
                }
            }
        }
    }

    fn without_proc(&self, error: &io::Error) {
        if self.complained.replace(true) {
            return;
        }
        tracing::warn!("cannot look for processes that left the command's group: {error}; waiting for their end");
    }

    /// Sends a signal to what is left of the command's process group, also when the command itself is reaped.
    fn signal_those_left(&self, signal: c_int) {
        if self.group.is_none() {
            self.signal_group(signal);
        } else if let Some(group) = self.known_command() {
            send(-group.as_raw(), signal);
        }
    }

    /// The command's process id, as long as no other process or group can have that number: until the command is reaped,
    /// and while a child of ours is left in the group that it leads.
    pub(super) fn known_command(&self) -> Option<Pid> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.command.or_else(|| self.group.filter(|group| waitid(Id::PGid(*group), look).is_ok()))
    }

    /// Every process of the tree.
    fn descendants(&self) -> io::Result<Vec<pid_t>> {
        let own = getpid().as_raw();
        let mut by_parent: BTreeMap<pid_t, BTreeSet<pid_t>> = BTreeMap::new();
        for process in processes()? {
            by_parent.entry(process.parent).or_default().insert(process.pid);
        }
        by_parent.entry(own).or_default().extend(listed_children()?);
        let mut found = Vec::new();
        let mut parents = vec![own];
        while let Some(parent) = parents.pop() {
            let children = by_parent.remove(&parent).unwrap_or_default();
            let wanted = children.into_iter().filter(|pid| parent != own || self.is_in_tree(*pid));
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
    told(target, signal, Errno::result(unsafe { libc::kill(target, signal) }).map(drop));
}

/// The beginning of what the kernel calls `siginfo_t`, as sigqueue(3) fills it.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    from: Sender,
}

#[repr(C)]
struct Sender {
    pid: pid_t,
    uid: libc::uid_t,
    value: usize,
}

/// Sends a signal with its value, in the name of who has sent it first.
fn send_queued(target: pid_t, signal: c_int, queued: Queued) {
    const { assert!(size_of::<Info>() <= size_of::<libc::siginfo_t>()) };
    let from = Sender { pid: queued.pid, uid: queued.uid, value: queued.value as usize };
    let info = Info { signal, errno: 0, code: libc::SI_QUEUE, from };
    let mut whole = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the structure is as large as the kernel reads, and at least as large and as aligned as what is written to
    // it.
    let sent = unsafe {
        whole.as_mut_ptr().cast::<Info>().write(info);
        libc::syscall(libc::SYS_rt_sigqueueinfo, target, signal, whole.as_ptr())
    };
    told(target, signal, Errno::result(sent).map(drop));
}

fn told(target: pid_t, signal: c_int, sent: nix::Result<()>) {
    match sent {
        // It may have ended a moment ago.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::error!("cannot send signal {signal} to process {target}: {error}"),
    }
}

/// What a line of /proc/PID/stat says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: pid_t,
    pub(super) parent: pid_t,
    /// Its process group.
    pub(super) group: pid_t,
    /// Its first thread has ended; the others may run on.
    pub(super) zombie: bool,
    /// It is stopped, by a signal or, where a debugger sees its signals, for that.
    pub(super) stands: bool,
    /// When it began, in ticks since boot: with the number it is one process and no other.
    pub(super) started: u64,
}

/// Whether this process is the init of its PID namespace.
pub(super) fn is_init() -> bool {
    getpid().as_raw() == 1
}

/// Whether this thread could wait for this child, or nothing tells: /proc does not say which thread's a child is. A login
/// program is that of the thread that talks to the API server, and no part of the tree. (What one leaves running that is run
/// while the command runs becomes this process's, and cannot be told from what the command leaves.)
fn is_of_this_thread(child: pid_t) -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WNOTHREAD;
    waitid(Id::Pid(Pid::from_raw(child)), look) != Err(Errno::ECHILD)
}

fn children() -> io::Result<BTreeSet<pid_t>> {
    let own = getpid().as_raw();
    let all = processes()?.into_iter();
    let mut children: BTreeSet<_> = all.filter(|process| process.parent == own).map(|process| process.pid).collect();
    children.extend(listed_children()?);
    Ok(children)
}

/// The children of this process's first thread by the kernel's own list, also those that /proc hides; none if it keeps
/// no such list. A list that changes while it is read may lack some. For whoever knows that /proc is of this process's own
/// PID namespace, as [`processes`] tells.
fn listed_children() -> io::Result<BTreeSet<pid_t>> {
    let list = match fs::read_to_string(format!("/proc/self/task/{}/children", getpid())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        list => list?,
    };
    Ok(list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Whether a thread of this process stands. The first thread alone would not tell: it may have ended while others go on.
pub(super) fn any_thread_stands(pid: pid_t) -> io::Result<bool> {
    expect_own_proc()?;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // It may have ended since the folder was read.
        let Ok(stat) = read_stat(&entry?.path()) else { continue };
        if process(&stat).is_some_and(|thread| thread.stands) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An error unless /proc shows this process's own PID namespace.
fn expect_own_proc() -> io::Result<()> {
    let own = fs::read_link("/proc/self").map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("no proc filesystem is mounted on /proc"),
        _ => error,
    })?;
    if own.as_os_str() != getpid().to_string().as_str() {
        return Err(io::Error::other("/proc is that of another PID namespace"));
    }
    Ok(())
}

/// The beginning of `stat` in this folder of /proc.
fn read_stat(folder: &Path) -> io::Result<Vec<u8>> {
    let mut stat = Vec::new();
    fs::File::open(folder.join("stat"))?.take(MAX_STAT as u64).read_to_end(&mut stat)?;
    Ok(stat)
}

/// All processes, if /proc shows this process's own PID namespace.
fn processes() -> io::Result<Vec<Process>> {
    expect_own_proc()?;
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        match read_stat(&Path::new("/proc").join(name)) {
            Ok(stat) => all.extend(process(&stat)),
            // It may have been reaped since the folder was read, or is hidden from this user.
            Err(error) if error.raw_os_error().map(Errno::from_raw).is_some_and(is_of_one) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Whether what is refused is refused of this one process: it is gone, or hidden from this user. Anything else says
/// nothing of it.
pub(super) fn is_of_one(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESRCH | Errno::EACCES | Errno::EPERM)
}

/// `pid (name) state parent ...`, where the name may have anything in it.
pub(super) fn process(stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(stat.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // The 22nd field.
    let started = fields.nth(16)?.parse().ok()?;
    let (zombie, stands) = (matches!(state, "Z" | "X"), matches!(state, "T" | "t"));
    Some(Process { pid, parent, group, zombie, stands, started })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_proc_are_read_whatever_the_name() {
        const REST: &str = "7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 5";
        for (stat, expected) in [
            ("7 (sh) S 1 7", Some((7, 1, 7, 5))),
            ("7 (a) Z 9 (b) R 4 6", Some((7, 4, 6, 5))),
            ("7 () R 0 7", Some((7, 0, 7, 5))),
            ("7 (sh) Z 1 7", Some((7, 1, 7, 5))),
            ("7 (sh) S 1", None),
            ("7 (sh) S", None),
            ("x (sh) S 1 7", None),
            ("", None),
        ] {
            let found = process(format!("{stat} {REST}").as_bytes())
                .map(|process| (process.pid, process.parent, process.group, process.started));
            assert_eq!(found, expected, "{stat}");
            assert_eq!(process(stat.as_bytes()), None, "{stat}: cut");
        }
    }

    /// `fg` and Ctrl-C at once: nothing is left of the continuation while the command dies.
    #[test]
    fn a_command_that_was_stopped_and_is_dying_does_not_stand() {
        for signal in [libc::SIGINT, libc::SIGKILL] {
            for _ in 0..100 {
                let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
                let pid = pid_t::try_from(child.id()).unwrap();
                let mut tree = Tree::new(Scope::Child);
                tree.adopt(Pid::from_raw(pid));
                send(pid, libc::SIGSTOP);
                waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WSTOPPED).unwrap();
                tree.stopped = true;
                assert!(tree.command_stands(), "stopped, and that was reported");
                send(pid, libc::SIGCONT);
                assert!(!tree.command_stands(), "continued");
                send(pid, signal);
                let mut looks = 0;
                while waitid(
                    Id::Pid(Pid::from_raw(pid)),
                    WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
                ) == Ok(WaitStatus::StillAlive)
                {
                    looks += 1;
                    assert!(!tree.command_stands(), "signal {signal}: dying, look {looks}");
                }
                child.wait().unwrap();
            }
        }
    }

    #[test]
    fn what_was_there_before_the_command_is_set_apart() {
        let sleep = || std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = |child: &std::process::Child| pid_t::try_from(child.id()).unwrap();
        let mut tree = Tree::new(Scope::Child);
        let mut left = sleep();
        assert!(tree.descendants().unwrap().contains(&pid(&left)));
        tree.set_apart();
        let mut command = sleep();
        tree.adopt(Pid::from_raw(pid(&command)));
        let descendants = tree.descendants().unwrap();
        assert!(!descendants.contains(&pid(&left)) && descendants.contains(&pid(&command)), "{descendants:?}");
        for child in [&mut left, &mut command] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_child_of_another_thread_is_not_of_the_tree() {
        let sleep = || std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let mut child = sleep();
            tell.send(child.id()).unwrap();
            // What a thread leaves behind becomes another thread's.
            let _ = ends.recv();
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let (mut own, others) = (sleep(), told.recv().unwrap());
        let pid = |id: u32| pid_t::try_from(id).unwrap();
        let both = children().unwrap();
        assert!(both.contains(&pid(own.id())) && both.contains(&pid(others)), "{both:?}");
        assert!(is_of_this_thread(pid(own.id())));
        assert!(!is_of_this_thread(pid(others)));
        drop(end);
        other.join().unwrap();
        own.kill().unwrap();
        own.wait().unwrap();
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(stat in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = process(&stat);
        }
    }
}
