//! The watchdog: a process beside `konductor-run` that holds nothing but the deadline.
//!
//! Whoever stops `konductor-run` alone (SIGSTOP, a debugger) stops the one that would have ended the command in time;
//! whoever kills it leaves processes behind that have left the command. So while something is held, a second process
//! keeps the same time, and kills the command's tree
//! - when the latest deadline that it was told has come: by then `konductor-run` has killed the tree, or does not get
//!   to run;
//! - at once, when `konductor-run` is gone: nobody would be left to renew or to end the command in order.
//!
//! Without a cluster there is no deadline, and what is held is held by open descriptors. The watchdog has them open, too,
//! so the next one waits until the tree is dead also where the command's processes have closed theirs, as most
//! programs do for their children.
//!
//! *What it is.* A copy of this process (no new program: 0.3 ms, 0.2 MB, and no file that could be missing), started
//! before the command and ended when the tree is dead. It has descriptors of its own only, and those that hold; a
//! session of its own, and all signals blocked. Deadlines come by a pipe; its end says that `konductor-run` is gone. As
//! it was copied from a process with threads, it takes no lock and no memory: nothing but system calls, with what is on
//! its stack or was there before.
//!
//! *What waits for it.* Nobody by mistake: it is a child without a signal for its end, which waitpid(2) does not count
//! unless asked to. That it is gone is seen by the pipe. (Emulators know no such children; there it is one that counts,
//! and that [`Tree`](super::tree::Tree) knows.)
//!
//! *Whom it kills.* As PID 1's watchdog: all in the namespace. Else first whom the kernel lists as children, and
//! theirs, which takes no time also where there are thousands of other processes and little time for each; then all
//! below `konductor-run`, by the parents in /proc, again and again until a look finds none alive. When `konductor-run`
//! is gone, parents no longer tell all, but the environment does: all that the command starts has `KONDUCTOR_TREE` in
//! it, with an id that is this tree's only. So does the command's process group, but in a terminal's job, whose group is
//! not the command's own. The command and whoever has either is of the tree, and so is who descends from one of these.
//! What has dropped its environment, left the group and lost its parents is not found then. (As PID 1, `konductor-run` takes everything with it.)
//!
//! What may not be killed, as it runs as another user (sudo), is not waited for when there is a deadline: what is held is
//! somebody else's then. Without one, its end is.
#![expect(
    unsafe_code,
    reason = "clone(2), getdents64(2), close_range(2), kill(2) of all, and the place of the arguments"
)]

use std::{
    collections::BTreeSet,
    ffi::CStr,
    fmt,
    io::Write as _,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use konductor::Boottime;
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc::{self, pid_t},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{Signal, kill},
        stat::Mode,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, chdir, getpid, pipe2, read, setsid, write},
};

use super::{
    refusal::{Refusal, refused},
    timer::Timer,
    tree,
};

/// The watchdog's name, of 15 letters at most.
const NAME: &CStr = c"konductor-wdog";

/// The first pause between two looks, and the longest: what was killed is gone within microseconds, unless the kernel
/// keeps it for a disk or a frozen cgroup.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(64)];

/// The longest pause while there are only processes left that may not be killed.
const PATIENT: Duration = Duration::from_secs(1);

/// How many processes one look takes in before they are killed.
const LOOK: usize = 4096;

/// How far down the lists of children are followed at once; further down there is a look at all processes.
const LEVELS: u32 = 32;

/// How many looks in a row must find nobody alive: a process that is becoming another program has no environment for
/// some microseconds.
const QUIET: u32 = 3;

/// How far up the parents are followed. There are no more processes than this.
const DEPTH: u32 = 1 << 22;

/// How often a process is looked at anew because its parents changed meanwhile.
const TRIES: u32 = 10;

/// A watchdog that runs, as `konductor-run` sees it. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watchdog {
    pid: Pid,
    pipe: OwnedFd,
    counts: bool,
    told: Told,
}

/// What the watchdog is told, again and again.
#[derive(Clone, Copy, Debug)]
struct Told {
    deadline: Boottime,
    /// The command, as long as its process id is its own.
    command: Option<pid_t>,
}

/// The command, as it was found when the wrapper was gone.
#[derive(Clone, Copy, Debug)]
struct Known {
    pid: pid_t,
    /// When it began, if it was still there: another process may get its number later.
    started: Option<u64>,
}

impl Known {
    /// What is known of it now.
    fn of(pid: pid_t) -> nix::Result<Self> {
        Ok(Self { pid, started: stat(pid)?.map(|process| process.started) })
    }

    /// Whether this process is the command, or in the group that the command leads.
    fn has(self, process: &tree::Process) -> bool {
        process.group == self.pid || process.pid == self.pid && Some(process.started) == self.started
    }
}

/// How many bytes tell it.
const WORDS: usize = 16;

impl Told {
    fn write(self) -> [u8; WORDS] {
        let mut bytes = [0; WORDS];
        bytes[..8].copy_from_slice(&nanoseconds(self.deadline).to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.command.unwrap_or(0).to_ne_bytes());
        bytes
    }

    fn read(bytes: [u8; WORDS]) -> Self {
        let [d0, d1, d2, d3, d4, d5, d6, d7, c0, c1, c2, c3, ..] = bytes;
        let deadline = match u64::from_ne_bytes([d0, d1, d2, d3, d4, d5, d6, d7]) {
            u64::MAX => Boottime::NEVER,
            nanoseconds => Boottime(Duration::from_nanos(nanoseconds)),
        };
        Self { deadline, command: Some(pid_t::from_ne_bytes([c0, c1, c2, c3])).filter(|pid| *pid > 1) }
    }
}

/// What this process's tree is known by, in the environment of each of its processes: no other one on this machine has
/// the same PID at the same time.
pub(super) fn mark() -> String {
    format!("{:08x}-{:016x}", getpid().as_raw(), nanoseconds(Boottime::now()))
}

/// What the watchdog has to know.
struct Charge<'a> {
    wrapper: Pid,
    /// Children of the wrapper that are not the command's.
    spared: &'a BTreeSet<pid_t>,
    /// In the environment of everything that the command starts.
    mark: &'a [u8],
    /// What stays open, sorted: the pipe, and what holds.
    kept: &'a [RawFd],
}

/// One look at all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// How many of the tree were alive, and were killed.
    killed: usize,
    /// How many of the tree may not be killed.
    spared: usize,
}

impl Watchdog {
    /// Starts a watchdog of the tree below this process, but for the children that are to be spared. It keeps these
    /// descriptors open until the tree is dead.
    pub(super) fn start(
        deadline: Boottime,
        spared: &BTreeSet<pid_t>,
        mark: &str,
        holding: &[RawFd],
    ) -> Result<Self, Refusal> {
        let start = "start the watchdog";
        let pipe = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
        let (theirs, ours) = pipe.map_err(refused(start, "pipe2(2)"))?;
        let mut kept = holding.to_vec();
        kept.push(theirs.as_raw_fd());
        kept.sort_unstable();
        let charge = Charge { wrapper: getpid(), spared, mark: mark.as_bytes(), kept: &kept };
        let told = Told { deadline, command: None };
        // SAFETY: with no flag but the signal of its end the child is a copy that shares no memory. It makes system
        // calls only, with memory that was there before or is on its stack, and never returns.
        let clone = |end: libc::c_int| Errno::result(unsafe { libc::syscall(libc::SYS_clone, end, 0, 0, 0, 0) });
        let (cloned, counts) = match clone(0) {
            Err(Errno::EINVAL) => (clone(libc::SIGCHLD), true),
            cloned => (cloned, false),
        };
        let pid = cloned.map_err(refused(start, "clone(2)"))? as pid_t;
        if pid == 0 {
            drop(ours);
            let code = i32::from(charge.watch(&theirs, told).is_err());
            // SAFETY: ends this process at once, without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        Ok(Self { pid: Pid::from_raw(pid), pipe: ours, counts, told })
    }

    /// Tells the watchdog a later deadline.
    pub(super) fn extend(&mut self, deadline: Boottime) -> nix::Result<()> {
        self.told.deadline = deadline;
        self.tell()
    }

    /// Tells the watchdog which process is the command; none once the number may be another's.
    pub(super) fn tell_command(&mut self, command: Option<Pid>) -> nix::Result<()> {
        let command = command.map(Pid::as_raw);
        if self.told.command == command {
            return Ok(());
        }
        self.told.command = command;
        self.tell()
    }

    fn tell(&self) -> nix::Result<()> {
        // So few bytes are written as a whole or not at all.
        write(&self.pipe, &self.told.write()).map(drop)
    }

    /// Leaves the tree to the watchdog, for a process that is about to end.
    pub(super) fn leave(self) {
        std::mem::forget(self);
    }

    /// Ends it without waiting for that, which dropping it does.
    pub(super) fn kill(&self) {
        // It fails only if it is gone and was waited for, which nobody else does.
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Whether the watchdog is gone.
    pub(super) fn has_ended(&self) -> nix::Result<bool> {
        poll(&mut [PollFd::new(self.as_fd(), PollFlags::empty())], PollTimeout::ZERO).map(|number| number > 0)
    }

    /// The id of the watchdog's process.
    pub(super) fn pid(&self) -> pid_t {
        self.pid.as_raw()
    }
}

impl Watchdog {
    /// Whether waiting for all children waits for it as well.
    pub(super) fn counts(&self) -> bool {
        self.counts
    }
}

impl AsFd for Watchdog {
    /// In error as soon as the watchdog is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Watchdog {
    /// Ends it, if it is still there. After a panic it is the one that is left to end the command: the pipe's end tells
    /// it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.kill();
        // The same.
        let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
    }
}

/// Enough for 584 years since boot.
fn nanoseconds(at: Boottime) -> u64 {
    u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX)
}

impl Charge<'_> {
    /// What the watchdog does from its start to its end.
    fn watch(&self, pipe: &OwnedFd, mut told: Told) -> nix::Result<()> {
        settle_in(self.kept);
        let pipe = pipe.as_fd();
        let mut timer = Timer::default();
        loop {
            timer.set(Some(told.deadline).filter(|deadline| *deadline != Boottime::NEVER));
            // Without a timer the pipe twice, which does no harm.
            let sources = [pipe, timer.source().unwrap_or(pipe)];
            let mut sources = sources.map(|source| PollFd::new(source, PollFlags::POLLIN));
            match poll(&mut sources, timer.patience(Boottime::now())) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
            // What has been said in time counts, also when it was not heard in time.
            if is_closed(pipe, &mut told)? || told.deadline <= Boottime::now() {
                self.kill_tree(pipe, told);
                return Ok(());
            }
        }
    }

    /// Whether something is held by what this process has open.
    fn holds(&self) -> bool {
        self.kept.len() > 1
    }

    /// Until nothing of the tree is alive.
    fn kill_tree(&self, pipe: BorrowedFd, mut told: Told) {
        if self.wrapper.as_raw() == 1 {
            // This one and PID 1 are not among them.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            return;
        }
        let [mut pause, longest] = PAUSES;
        let (mut quiet, mut command, mut has_struck) = (0, None, false);
        while quiet < QUIET {
            // Asked at each look: it may be killed meanwhile.
            let orphaned = is_closed(pipe, &mut told).unwrap_or(true);
            if !orphaned {
                // Also those that /proc hides: they are not found by a look.
                self.kill_children(self.wrapper.as_raw(), LEVELS);
            } else if command.is_none() {
                command = told.command.and_then(|command| Known::of(command).ok());
            }
            if orphaned && !std::mem::replace(&mut has_struck, true) {
                // To read an environment may take as long as a file system that does not answer. So first whoever is
                // known without that.
                kill_group(told.command);
                let _ = self.kill_once(true, command, false);
            }
            match self.kill_once(orphaned, command, true) {
                Ok(Look { killed: 0, spared }) if spared == 0 || !self.holds() => quiet += 1,
                Ok(Look { killed: 0, .. }) => pause = pause.saturating_mul(2).clamp(longest, PATIENT),
                Ok(_) => (quiet, pause) = (0, pause.min(longest)),
                // Without /proc nobody can be found but the command's group.
                Err(Errno::ENOENT) if orphaned => match kill_group(told.command) {
                    Some(Ok(()) | Err(Errno::EPERM)) if self.holds() => {}
                    _ => return,
                },
                // The command itself ends with its parent, if that is still there.
                Err(Errno::ENOENT) => {
                    let _ = kill(self.wrapper, Signal::SIGKILL);
                    if !self.holds() {
                        return;
                    }
                }
                // It is refused for now: no file can be opened, or there is no memory.
                Err(_) => {
                    if orphaned {
                        kill_group(told.command);
                    } else {
                        let _ = kill(self.wrapper, Signal::SIGKILL);
                    }
                    (quiet, pause) = (0, pause.saturating_mul(2).clamp(longest, PATIENT));
                }
            }
            std::thread::sleep(pause);
            pause = longest.max(pause).min(pause * 2);
        }
    }

    /// All that the kernel lists below this process, the last ones first. A list changes while it is read, so this is
    /// only the quickest blow.
    fn kill_children(&self, parent: pid_t, levels: u32) {
        let Some(levels) = levels.checked_sub(1) else { return };
        let Ok(list) = open_in_proc(format_args!("{parent}/task/{parent}"), "children") else { return };
        let (own, mut buffer, mut child) = (getpid().as_raw(), [0; 1024], 0);
        while let Ok(number @ 1..) = read(&list, &mut buffer) {
            for byte in &buffer[..number] {
                // Numbers, each with a blank behind it.
                if byte.is_ascii_digit() {
                    child = pid_t::saturating_add(pid_t::saturating_mul(child, 10), pid_t::from(byte - b'0'));
                    continue;
                }
                let is_spared = parent == self.wrapper.as_raw() && self.spared.contains(&child);
                if child != own && child > 1 && !is_spared {
                    self.kill_children(child, levels);
                    // It may have ended a moment ago.
                    let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
                }
                child = 0;
            }
        }
    }

    /// One look at all processes. All are found before any is killed, as what descends from one that is dead is not
    /// found by its parents any more. Environments are read only if that is said.
    fn kill_once(&self, orphaned: bool, command: Option<Known>, reads: bool) -> nix::Result<Look> {
        let own = getpid();
        let (mut found, mut number, mut strangers) = ([0; LOOK], 0, Strangers::default());
        each_process(|pid| {
            // Those for which there is no room are found the next time.
            if pid == own.as_raw() || pid == self.wrapper.as_raw() || number == LOOK {
                return Ok(());
            }
            let strangers = Some(&mut strangers).filter(|_| reads);
            if if orphaned { self.is_left(pid, command, strangers)? } else { self.is_below(pid)? } {
                found[number] = pid;
                number += 1;
            }
            Ok(())
        })?;
        let mut look = Look::default();
        for pid in found.into_iter().take(number) {
            let killed = kill(Pid::from_raw(pid), Signal::SIGKILL);
            // Of which nothing can be said is there.
            if stat(pid).map_or(true, |process| process.is_some_and(|process| !process.zombie)) {
                match killed {
                    Ok(()) => look.killed += 1,
                    Err(Errno::EPERM) => look.spared += 1,
                    Err(_) => {}
                }
            }
        }
        Ok(look)
    }

    /// Whether this process descends from the wrapper, and not by a child that is to be spared.
    fn is_below(&self, pid: pid_t) -> nix::Result<bool> {
        let is_child = |process: &tree::Process| process.parent == self.wrapper.as_raw();
        ancestry(pid, |process| Ok(is_child(process).then(|| !self.spared.contains(&process.pid))))
    }

    /// Whether this process was the wrapper's that is gone: it is the command, or by its environment or its group, or by
    /// that of one from whom it descends. Without strangers no environment is read.
    fn is_left(&self, pid: pid_t, command: Option<Known>, mut strangers: Option<&mut Strangers>) -> nix::Result<bool> {
        let mut parent = 0;
        let is_left = ancestry(pid, |process| {
            if process.pid == pid {
                parent = process.parent;
            }
            if command.is_some_and(|command| command.has(process)) {
                return Ok(Some(true));
            }
            match &strangers {
                None => Ok(None),
                Some(strangers) if strangers.has(process.pid) => Ok(Some(false)),
                Some(_) => Ok(self.carries_mark(process.pid)?.then_some(true)),
            }
        })?;
        if let (false, Some(strangers)) = (is_left, &mut strangers) {
            // Nor is its parent.
            strangers.add(parent);
        }
        Ok(is_left)
    }

    fn carries_mark(&self, pid: pid_t) -> nix::Result<bool> {
        let file = match open_in_proc(pid, "environ") {
            Err(errno) if tree::is_of_one(errno) => return Ok(false),
            file => file?,
        };
        let mut buffer = [0; 4096];
        // The end of what was read is kept, for a mark that lies across two pieces.
        let mut kept = 0;
        while let Ok(number @ 1..) = read(&file, &mut buffer[kept..]) {
            let end = kept + number;
            if buffer[..end].windows(self.mark.len()).any(|window| window == self.mark) {
                return Ok(true);
            }
            kept = end.min(self.mark.len() - 1);
            buffer.copy_within(end - kept..end, 0);
        }
        Ok(false)
    }
}

/// Kills the group of the command, if its number is known.
fn kill_group(command: Option<pid_t>) -> Option<nix::Result<()>> {
    command.map(|group| kill(Pid::from_raw(-group), Signal::SIGKILL))
}

/// What is first said of a process, of its parent, and so on; that it is none of ours, if nothing is.
fn ancestry(pid: pid_t, mut say: impl FnMut(&tree::Process) -> nix::Result<Option<bool>>) -> nix::Result<bool> {
    'anew: for _ in 0..TRIES {
        let mut at = pid;
        for _ in 0..DEPTH {
            match stat(at)? {
                Some(process) => match (say(&process)?, process.parent) {
                    (Some(said), _) => return Ok(said),
                    (None, 0 | 1) => return Ok(false),
                    (None, parent) => at = parent,
                },
                None if at == pid => return Ok(false),
                // A parent is gone: its children have another one now.
                None => continue 'anew,
            }
        }
    }
    Ok(false)
}

/// Parents that were seen to be none of ours, the latest ones: most processes of a machine have few different ones.
struct Strangers {
    pids: [pid_t; 64],
    next: usize,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { pids: [0; 64], next: 0 }
    }
}

impl Strangers {
    fn has(&self, pid: pid_t) -> bool {
        self.pids.contains(&pid)
    }

    fn add(&mut self, pid: pid_t) {
        if !self.has(pid) {
            self.pids[self.next % self.pids.len()] = pid;
            self.next += 1;
        }
    }
}

/// Leaves the parent's surroundings, with nothing open but what is kept. What is refused of this is no reason not to
/// watch: it is then found, or keeps something busy, a little more easily.
fn settle_in(kept: &[RawFd]) {
    let _ = prctl::set_name(NAME);
    show_name();
    let _ = setsid();
    let _ = chdir(c"/");
    close_all_but(kept);
}

/// Closes all descriptors but these, which are sorted, in a copy of this process that uses no others.
pub(super) fn close_all_but(kept: &[RawFd]) {
    let mut from = 0;
    for next in kept.iter().copied().chain([libc::c_int::MAX]) {
        if from < next {
            // Before Linux 5.9 the others stay open for as long as this process is there, which harms nobody.
            // SAFETY: nothing else runs in this process, and it uses nothing of what is closed.
            unsafe { libc::syscall(libc::SYS_close_range, from, next - 1, 0) };
        }
        from = next.saturating_add(1);
    }
}

/// Puts the watchdog's name in the place of the arguments, which are those of `konductor-run` otherwise: who ends that by
/// its command line (`pkill -f`) is not to end both.
fn show_name() {
    let mut buffer = [0; 1024];
    let file = open_in_proc("self", "stat");
    let Ok(Some([start, end])) = file.and_then(|file| {
        let length = read(&file, &mut buffer)?;
        Ok(arguments(&buffer[..length]))
    }) else {
        return;
    };
    let name = NAME.to_bytes_with_nul();
    if start == 0 || end.saturating_sub(start) < name.len() {
        return;
    }
    let place = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: there are the arguments, as the kernel says, in this process's own copy of its memory, and nothing in this
    // process reads them any more.
    unsafe {
        place.write_bytes(0, end - start);
        place.copy_from_nonoverlapping(name.as_ptr(), name.len());
    }
}

/// Where a process has its arguments, from a line of /proc/PID/stat: its 48th and 49th field.
fn arguments(stat: &[u8]) -> Option<[usize; 2]> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().skip(45);
    Some([fields.next()?.parse().ok()?, fields.next()?.parse().ok()?])
}

/// Reads what was told last. True when nothing more will be, because the wrapper is gone.
fn is_closed(pipe: BorrowedFd, told: &mut Told) -> nix::Result<bool> {
    let mut words = [0; WORDS];
    loop {
        match read(pipe, &mut words) {
            Ok(0) => return Ok(true),
            Ok(_) => *told = Told::read(words),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What /proc says of one process; nothing if it is gone or hidden.
fn stat(process: impl fmt::Display) -> nix::Result<Option<tree::Process>> {
    let mut buffer = [0; tree::MAX_STAT];
    let length = open_in_proc(process, "stat").and_then(|file| read(&file, &mut buffer));
    match length {
        Err(errno) if tree::is_of_one(errno) => Ok(None),
        length => Ok(tree::process(&buffer[..length?])),
    }
}

fn open_in_proc(process: impl fmt::Display, file: &str) -> nix::Result<OwnedFd> {
    // A PID has ten digits at most.
    let mut path = [0; 32];
    write!(&mut path[..], "/proc/{process}/{file}\0").map_err(|_| Errno::ENAMETOOLONG)?;
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?;
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// All processes, if /proc shows this process's own PID namespace.
fn each_process(mut tell: impl FnMut(pid_t) -> nix::Result<()>) -> nix::Result<()> {
    let proc = open(c"/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    if stat("self")?.is_none_or(|own| own.pid != getpid().as_raw()) {
        return Err(Errno::ENOENT);
    }
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the kernel writes entries to the buffer, which is as large as it is told.
        let filled =
            unsafe { libc::syscall(libc::SYS_getdents64, proc.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
        let filled = Errno::result(filled)? as usize;
        if filled == 0 {
            return Ok(());
        }
        entries(&buffer[..filled]).filter_map(|name| name.to_str().ok()?.parse().ok()).try_for_each(&mut tell)?;
    }
}

/// The names in the records of getdents64(2): inode and offset of 8 bytes each, the record's length of 2, a type of 1,
/// and the name with a zero at its end.
fn entries(mut records: &[u8]) -> impl Iterator<Item = &CStr> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes([*records.get(16)?, *records.get(17)?]);
        let (record, rest) = records.split_at_checked(usize::from(length))?;
        records = rest;
        CStr::from_bytes_until_nul(record.get(19..)?).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Child, Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;

    /// A process that waits, with a variable of this size before the one that matters.
    fn process(padding: usize, tree: &str) -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").env_clear().env("A", "x".repeat(padding)).env("KONDUCTOR_TREE", tree);
        let process = command.spawn().expect("sleep, of coreutils");
        // The call returns a moment before the new program has its environment.
        while std::fs::read(format!("/proc/{}/environ", process.id())).expect("it is our child").is_empty() {
            std::thread::yield_now();
        }
        process
    }

    #[test]
    fn a_mark_is_found_wherever_it_lies_in_an_environment_and_no_other_is() {
        let (own, other) = (mark(), mark());
        assert_ne!(own, other);
        let spared = BTreeSet::new();
        let charge =
            |mark: &'static str| Charge { wrapper: getpid(), spared: &spared, mark: mark.as_bytes(), kept: &[] };
        // The environment is read in pieces of 4096 bytes.
        for padding in (4030..4100).step_by(3).chain([0, 8_150, 50_000]) {
            let tree = format!("{other},{own}");
            let mut process = process(padding, &tree);
            let pid = process.id() as pid_t;
            let found = [own.clone(), other.clone(), mark()]
                .map(|mark| charge(mark.leak()).carries_mark(pid).expect("it may be read"));
            process.kill().expect("it is our child");
            process.wait().expect("it is our child");
            assert_eq!(found, [true, true, false], "{padding}");
            assert_eq!(charge(own.clone().leak()).carries_mark(pid), Ok(false), "it is gone");
        }
    }

    #[test]
    fn all_processes_are_told_and_descendants_known() {
        let (mut child, mark) = (process(0, ""), mark());
        let pid = child.id() as pid_t;
        let mut all = BTreeSet::new();
        each_process(|pid| {
            all.extend([pid]);
            Ok(())
        })
        .expect("/proc is there");
        assert!(all.contains(&pid) && all.contains(&getpid().as_raw()), "{all:?}");
        let (nobody, it) = (BTreeSet::new(), BTreeSet::from([pid]));
        let charge = |wrapper, spared| Charge { wrapper, spared, mark: mark.as_bytes(), kept: &[] };
        assert_eq!(charge(getpid(), &nobody).is_below(pid), Ok(true));
        assert_eq!(charge(Pid::parent(), &nobody).is_below(pid), Ok(true), "a grandchild");
        assert_eq!(charge(getpid(), &it).is_below(pid), Ok(false), "spared");
        assert_eq!(charge(Pid::from_raw(pid), &nobody).is_below(getpid().as_raw()), Ok(false));
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        assert_eq!(charge(getpid(), &nobody).is_below(pid), Ok(false), "gone");
    }

    #[test]
    fn what_is_left_is_known_by_its_group_and_its_parents_too() {
        use std::os::unix::process::CommandExt as _;

        let (own, nobody) = (mark(), BTreeSet::new());
        let charge = Charge { wrapper: getpid(), spared: &nobody, mark: own.as_bytes(), kept: &[] };
        // A shell in a group of its own, without environment, with a child in a session of its own.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "setsid sh -c 'echo $$; exec sleep 1000' & wait"]).env_clear().process_group(0);
        let mut shell = shell.stdout(Stdio::piped()).spawn().expect("a shell");
        let (pid, mut line) = (shell.id() as pid_t, String::new());
        BufReader::new(shell.stdout.take().expect("stdout is a pipe")).read_line(&mut line).expect("a line");
        let child: pid_t = line.trim().parse().expect("a process id");
        for (it, command, expected) in [
            (pid, Some(pid), true),
            (child, Some(pid), true),
            (pid, None, false),
            (child, None, false),
            (child, Some(child), true),
            (pid, Some(child), false),
            (getpid().as_raw(), Some(pid), false),
        ] {
            let command = command.map(|pid| Known::of(pid).expect("/proc is there"));
            for strangers in [Some(&mut Strangers::default()), None] {
                assert_eq!(charge.is_left(it, command, strangers), Ok(expected), "{it} {command:?}");
            }
        }
        let command = Known::of(pid).expect("/proc is there");
        let look = charge.kill_once(true, Some(command), true).expect("/proc is there");
        assert!(look.killed <= 2 && look.spared == 0, "{look:?}");
        assert!(!shell.wait().expect("it is our child").success());
        while stat(child).expect("/proc is there").is_some_and(|process| !process.zombie) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_told_is_read_as_it_was_meant() {
        for told in [
            Told { deadline: Boottime::NEVER, command: None },
            Told { deadline: Boottime(Duration::from_millis(7)), command: Some(pid_t::MAX) },
        ] {
            let read = Told::read(told.write());
            assert_eq!((nanoseconds(read.deadline), read.command), (nanoseconds(told.deadline), told.command));
        }
    }

    #[test]
    fn listed_children_are_killed_at_once_and_the_last_ones_first() {
        let mut shell = Command::new("/bin/sh");
        let script = "sleep 1000 & setsid sleep 1000 & sh -c 'sleep 1000 & echo ready; wait' & wait";
        let mut shell = shell.args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        let output = shell.stdout.take().expect("stdout is a pipe");
        let mut output = BufReader::new(output);
        output.read_line(&mut line).expect("a line");
        let (wrapper, nobody) = (Pid::from_raw(shell.id() as pid_t), BTreeSet::new());
        let charge = Charge { wrapper, spared: &nobody, mark: b"-", kept: &[] };
        charge.kill_children(wrapper.as_raw(), LEVELS);
        // Its children are gone, so it ends; and so is whoever else had the pipe.
        assert!(shell.wait().expect("it is our child").success());
        assert_eq!(output.read_line(&mut line).expect("the end"), 0);
    }

    proptest! {
        #[test]
        fn any_line_of_a_process_is_read_or_refused(stat in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = arguments(&stat);
        }

        #[test]
        fn any_records_are_read_or_refused(records in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(entries(&records).count() <= records.len());
        }
    }
}
