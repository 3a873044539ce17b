//! From a command line to a running process, with nothing of ours in it.
//!
//! The child gets a process group of its own (or stays in this process's, as a member of its job), the signal mask and
//! dispositions as found, and no descriptor of ours (all of them close on exec). There is no shell in between: the file is found in `PATH` before anything is acquired, so
//! that a misspelt command costs no wait in a queue, and it is executed by its path; a text without `#!` is then handed to
//! `/bin/sh`, as execvp would. That the command runs is known when the child's end of a close-on-exec pipe has closed. One that is
//! stopped before that is a stopped command: the only loop of this process must not wait for who continues it. Nor does it
//! wait for more than a second for a file that is slow to come (an image that is fetched as it is read, a server that does
//! not answer): that counts as a command that runs, and the loop listens to it beside all else.
//!
//! What the child cannot do before it becomes the command is the system's refusal and not the command's fault.
#![expect(unsafe_code, reason = "fork(2) and execve(2)")]

use std::{
    ffi::{CStr, CString, OsStr, OsString},
    fs::{self, File},
    io::Read as _,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::MetadataExt as _,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use konductor::Exit;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::Signal,
        statvfs::{FsFlags, statvfs},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{
        AccessFlags, ForkResult, Pid, access, execv, execve, fork, getpid, getppid, pipe2, read, setpgid, tcsetpgrp,
        write,
    },
};

use super::{
    format::{self, Format},
    found::{self, Found, Mask, odd_entries},
    refusal::{Refusal, is_momentary, refused},
};
use crate::environment::Environment;

/// Where a command is looked for when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What runs a text that does not say what it is for.
const SHELL: &CStr = c"/bin/sh";

/// What a new process does before it becomes the command, each with the call that may be refused.
const STEPS: [(&str, &str); 7] = [
    ("give the command a process group", "setpgid(2)"),
    ("give the command the terminal", "tcsetpgrp(3)"),
    ("have the command end with konductor-run", "prctl(2) PR_SET_PDEATHSIG"),
    ("restore the command's signals", "rt_sigaction(2) or rt_sigprocmask(2)"),
    EXECUTE,
    ("have the command join the job", "read(2)"),
    ("execute /bin/sh for the command", "execve(2)"),
];
const GROUP: u8 = 0;
const FOREGROUND: u8 = 1;
const PARENT: u8 = 2;
const RESTORE: u8 = 3;
const EXEC: u8 = 4;
const JOIN: u8 = 5;
/// What cannot be executed is a script, and there is something wrong with the shell.
const SCRIPT: u8 = 6;
/// What a new process says instead of a step when it has joined the job. The signals that wait for it follow.
const JOINED: u8 = u8::MAX;
const EXECUTE: (&str, &str) = ("execute the command", "execve(2)");

/// How many milliseconds a new process may say nothing before a look whether it has been stopped: seldom enough to cost
/// nothing while a file is slow to be executed, and no person notices that a stop is late by it.
const SILENCE: u16 = 20;

/// After so many silences a command counts as one that runs: a second, in which nobody minds that nothing else is seen to,
/// and in which a file that is there is executed on any machine. Times in which this process stands still do not count.
const SILENCES: u32 = 50;

/// Why a command does not run.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) error: String,
    /// It may run in a moment.
    pub(super) momentary: bool,
}

/// Where a command's process is among others.
pub(super) enum Place<'a> {
    /// In a process group of its own, with the foreground of this terminal.
    Own(Option<&'a File>),
    /// In this process's group. The command begins when this has been called.
    Job(&'a mut dyn FnMut()),
}

/// A command that has been started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: Pid,
    /// The signals that waited for it before its first instruction, in this process's group.
    pub(super) pending: Mask,
    /// What it says if it has not become the command yet, and cannot.
    pub(super) unheard: Option<Unheard>,
}

/// A process that was started, and has not been heard to have become the command.
#[derive(Debug)]
pub(super) struct Unheard {
    reader: File,
    /// It cannot become the command.
    stopped: Option<Stopped>,
}

impl Unheard {
    /// What tells that there is something to hear, if there may be.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.stopped.is_none().then(|| self.reader.as_fd())
    }

    /// Hears what has been said. Returns whether it has become the command, or has ended without a word.
    pub(super) fn listen(&mut self) -> bool {
        let speaks = |reader: &File| {
            poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|count| count > 0)
        };
        while self.stopped.is_none() && speaks(&self.reader) {
            match said(&mut self.reader) {
                Said::Joined(_) => {}
                Said::Stopped(stopped) => self.stopped = Some(stopped),
                Said::Nothing => return true,
            }
        }
        false
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { exit: Exit::Internal, error: refusal.to_string(), momentary: is_momentary(refusal.errno) }
    }
}

/// What stopped a new process on its way to the command: the step, and why.
type Stopped = (u8, Errno);

/// A command that has been found.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    arguments: Vec<CString>,
}

impl Program {
    /// Finds the command's file, as `execvp` would.
    pub(super) fn find(command: &[OsString], environment: &Environment) -> Result<Self, Failure> {
        let name = command.first().map(OsString::as_os_str).unwrap_or_default();
        let path = environment.raw("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
        let path = look_up(name, path)?;
        Ok(Self {
            path: text(path.into_os_string())?,
            arguments: command.iter().cloned().map(text).collect::<Result<_, _>>()?,
        })
    }

    /// Starts it, with these changes in the environment as it was found. `holds`: it is killed when this process is,
    /// because nobody would be left to end it before the deadline.
    pub(super) fn spawn(
        &self,
        environment: &Environment,
        changes: &[(String, Option<String>)],
        found: &Found,
        mut place: Place,
        holds: bool,
    ) -> Result<Started, Failure> {
        let entries = || {
            let variables = environment.with(changes).into_iter().map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                text(name)
            });
            variables.chain(odd_entries().into_iter().map(Ok)).collect::<Result<Vec<_>, _>>()
        };
        let altered = if changes.is_empty() { None } else { Some(entries()?) };
        match self.start(altered.as_deref(), found, &mut place, holds)? {
            Ok(started) => Ok(started),
            Err((EXEC, Errno::E2BIG)) => Err(self.too_long(&entries()?)),
            Err(stopped) => Err(self.failure(stopped)),
        }
    }

    /// Starts it as it is, with this environment, or the one that was found. The outer error is the system's, before
    /// there is a process.
    fn start(
        &self,
        environment: Option<&[CString]>,
        found: &Found,
        place: &mut Place,
        holds: bool,
    ) -> Result<Result<Started, Stopped>, Refusal> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(refused("start the command", "pipe2(2)"))?;
        let gate = match place {
            Place::Own(_) => None,
            Place::Job(_) => Some(pipe2(OFlag::O_CLOEXEC).map_err(refused("start the command", "pipe2(2)"))?),
        };
        let parent = getpid();
        // SAFETY: the child calls only functions that are safe after a fork, with memory prepared above (but for small
        // lists of pointers inside `execve`, and what it takes to run a script: glibc's own fork leaves its allocator
        // usable), and never returns.
        match unsafe { fork() }.map_err(refused("start the command", "fork(2)"))? {
            ForkResult::Child => {
                // What is executed may have to be opened before.
                drop(reader);
                let Err((step, error)) = take_place(place, gate, &writer)
                    .and_then(|()| self.become_command(environment, found, holds.then_some(parent)));
                let [a, b, c, d] = (error as i32).to_ne_bytes();
                // If this fails, too, the parent sees an end of file and then this exit code; so it does when it has
                // not listened to the end, as this process was stopped. The write must not end it in another way.
                let _ = found::block();
                let _ = write(&writer, &[step, a, b, c, d]);
                // SAFETY: ends this process at once, without running anything of the parent's.
                unsafe { libc::_exit(i32::from(Exit::Internal.code())) }
            }
            ForkResult::Parent { child } => {
                if matches!(place, Place::Own(_)) {
                    // It does so itself, too; but a signal for its group may come before it gets to run.
                    let _ = setpgid(child, child);
                }
                drop(writer);
                let is_member = matches!(place, Place::Job(_));
                if let (Place::Job(joined), Some((_, gate))) = (place, gate) {
                    joined();
                    // Should this fail, the child is gone, and what follows finds that out.
                    let _ = write(&gate, &[0]);
                }
                let mut reader = File::from(reader);
                match hear(&mut reader, child, is_member) {
                    (pending, Heard::Executed) => Ok(Ok(Started { pid: child, pending, unheard: None })),
                    (pending, Heard::Nothing) => {
                        let unheard = Some(Unheard { reader, stopped: None });
                        Ok(Ok(Started { pid: child, pending, unheard }))
                    }
                    (_, Heard::Stopped(stopped)) => {
                        // Its code is known already; this only reaps it.
                        let _ = waitpid(child, None);
                        Ok(Err(stopped))
                    }
                }
            }
        }
    }

    /// Why a process that has ended had not become the command, if so. The file is not looked at: whoever keeps it is slow
    /// to answer.
    pub(super) fn never_became(&self, mut unheard: Unheard) -> Option<Failure> {
        unheard.listen();
        let (step, error) = unheard.stopped?;
        Some(match (step, error) {
            (EXEC, Errno::ENOENT | Errno::ENOTDIR) => Failure { exit: Exit::NotFound, ..self.cannot(error.desc()) },
            (EXEC | SCRIPT, _) => self.cannot(error.desc()),
            _ => self.failure((step, error)),
        })
    }

    /// In the child, all signals blocked.
    fn become_command(
        &self,
        environment: Option<&[CString]>,
        found: &Found,
        parent: Option<Pid>,
    ) -> Result<std::convert::Infallible, Stopped> {
        let at = |step: u8| move |error: Errno| (step, error);
        if let Some(parent) = parent {
            prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(PARENT))?;
            if getppid() != parent {
                return Err((PARENT, Errno::ESRCH));
            }
        }
        found.restore().map_err(at(RESTORE))?;
        match self.execute(environment) {
            Errno::ENOEXEC if format::of(self.file()) == Format::Script => {
                Err((SCRIPT, self.as_script().execute(environment)))
            }
            error => Err((EXEC, error)),
        }
    }

    /// Returns only why not.
    fn execute(&self, environment: Option<&[CString]>) -> Errno {
        let Err(error) = match environment {
            Some(environment) => execve(&self.path, &self.arguments, environment),
            None => execv(&self.path, &self.arguments),
        };
        error
    }

    /// The same, for `/bin/sh` to run.
    fn as_script(&self) -> Self {
        let before = [SHELL.to_owned(), self.path.clone()];
        let arguments = before.into_iter().chain(self.arguments.iter().skip(1).cloned()).collect();
        Self { path: SHELL.to_owned(), arguments }
    }

    fn file(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    fn cannot(&self, why: &str) -> Failure {
        let error = format!("cannot execute {}: {why}", self.path.to_string_lossy());
        Failure { exit: Exit::NotExecutable, error, momentary: false }
    }

    /// In a namespace with thousands of Services their variables alone can be too much.
    fn too_long(&self, environment: &[CString]) -> Failure {
        let bytes = |texts: &[CString]| texts.iter().map(|text| text.as_bytes_with_nul().len()).sum::<usize>();
        self.cannot(&format!(
            "its {} arguments ({} bytes) and {} variables ({} bytes) are more than the system takes (a pod with \
             enableServiceLinks: false gets none for Services)",
            self.arguments.len(),
            bytes(&self.arguments),
            environment.len(),
            bytes(environment),
        ))
    }

    fn failure(&self, (step, error): Stopped) -> Failure {
        match error {
            Errno::ENOENT if step == SCRIPT => self.cannot("a script without #!, and there is no /bin/sh to run it"),
            error if step == SCRIPT && !is_momentary(error) => {
                let why = format!("a script without #!, and /bin/sh cannot be executed: {}", error.desc());
                Failure { momentary: error == Errno::ETXTBSY, ..self.cannot(&why) }
            }
            Errno::ENOEXEC if step == EXEC => match format::of(self.file()) {
                Format::Program(Some(machine)) => {
                    let here = std::env::consts::ARCH;
                    self.cannot(&format!("a program for {machine}, and this machine is {here}"))
                }
                Format::Unreadable(why) => {
                    self.cannot(&format!("not a program, and as a script not to be read: {why}"))
                }
                Format::Program(None) => self.cannot("neither a program for this machine nor a script"),
                // The child could not look at it.
                Format::Script => {
                    Failure { momentary: true, ..self.cannot("a script without #! that could not be read") }
                }
            },
            _ if step != EXEC || is_momentary(error) => {
                let (doing, call) = STEPS.get(usize::from(step)).copied().unwrap_or(EXECUTE);
                Refusal { doing, call, errno: error }.into()
            }
            Errno::ENOENT | Errno::EACCES if self.file().exists() => match format::missing_interpreter(self.file()) {
                Some(missing) => self.cannot(&missing),
                None => self.cannot(error.desc()),
            },
            Errno::ENOENT | Errno::ENOTDIR => Failure { exit: Exit::NotFound, ..self.cannot("it is gone") },
            // Whoever writes it will close it.
            Errno::ETXTBSY => Failure { momentary: true, ..self.cannot("it is open for writing") },
            error => self.cannot(error.desc()),
        }
    }
}

/// In the child: where it belongs. As a member of the job it waits until it may begin, and tells what waits for it.
fn take_place(place: &Place, gate: Option<(OwnedFd, OwnedFd)>, told: &OwnedFd) -> Result<(), Stopped> {
    let at = |step: u8| move |error: Errno| (step, error);
    if let Place::Own(terminal) = place {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(at(GROUP))?;
        if let Some(terminal) = terminal {
            tcsetpgrp(terminal, getpid()).map_err(at(FOREGROUND))?;
        }
    }
    if let Some((gate, parents)) = gate {
        drop(parents);
        if read(&gate, &mut [0]).map_err(at(JOIN))? == 0 {
            return Err((PARENT, Errno::ESRCH));
        }
        // Where the system does not tell, nothing is known to wait, as for the parent.
        let mut joined = [JOINED; 1 + size_of::<Mask>()];
        joined[1..].copy_from_slice(&found::pending().unwrap_or_default().to_ne_bytes());
        // Nobody listens to one that has been stopped on the way.
        let _ = write(told, &joined);
    }
    Ok(())
}

/// What has been heard of a new process.
enum Heard {
    /// It has become the command, or has ended.
    Executed,
    /// It cannot become the command.
    Stopped(Stopped),
    /// Nothing, so far.
    Nothing,
}

/// What a new process says.
enum Said {
    Joined(Mask),
    Stopped(Stopped),
    /// It will never say anything.
    Nothing,
}

/// Listens to a new process until it has become the command, has given up, has been stopped before either, or has been
/// silent for too long; with the signals that waited for it. A member of a job says first which these are, and touches no
/// file before: that is waited for without a limit.
fn hear(reader: &mut File, child: Pid, is_member: bool) -> (Mask, Heard) {
    let mut pending = None;
    let heard = loop {
        let patience = (!is_member || pending.is_some()).then_some(SILENCES);
        if !has_news(reader, child, patience) {
            break Heard::Nothing;
        }
        match said(reader) {
            Said::Joined(mask) => pending = Some(mask),
            Said::Stopped(stopped) => break Heard::Stopped(stopped),
            Said::Nothing => break Heard::Executed,
        }
    };
    (pending.unwrap_or_default(), heard)
}

/// What is said at once arrives as a whole: it is shorter than what a pipe takes in one piece.
fn said(reader: &mut File) -> Said {
    let mut first = [0];
    let (mut mask, mut number) = ([0; size_of::<Mask>()], [0; size_of::<i32>()]);
    match reader.read_exact(&mut first).map(|()| first) {
        Ok([JOINED]) if reader.read_exact(&mut mask).is_ok() => Said::Joined(Mask::from_ne_bytes(mask)),
        Ok([step]) if reader.read_exact(&mut number).is_ok() => {
            Said::Stopped((step, Errno::from_raw(i32::from_ne_bytes(number))))
        }
        Ok(_) | Err(_) => Said::Nothing,
    }
}

/// Waits for what a new process says, or the end of it, for so many silences at most. Not so when it has been stopped: a
/// terminal's stop waits until the command's mask is there, and stops it before it is executed. Then it is a command that
/// has been stopped, for who knows when to continue it.
fn has_news(reader: &File, child: Pid, patience: Option<u32>) -> bool {
    let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let mut silences = 0;
    while patience.is_none_or(|most| silences < most) {
        match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], SILENCE) {
            Ok(0) => {}
            Ok(_) => return true,
            // Signals are blocked, but this process may have been stopped and continued.
            Err(Errno::EINTR) => continue,
            Err(_) => std::thread::sleep(Duration::from_millis(SILENCE.into())),
        }
        if matches!(waitid(Id::Pid(child), look), Ok(WaitStatus::Stopped(..))) {
            return false;
        }
        silences += 1;
    }
    false
}

/// Whether nothing can be executed on this file's filesystem.
fn is_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|filesystem| filesystem.flags().contains(FsFlags::ST_NOEXEC))
}

fn text(text: OsString) -> Result<CString, Failure> {
    CString::new(text.into_vec()).map_err(|_| Failure {
        exit: Exit::NotExecutable,
        error: "cannot execute the command: an argument or variable has a zero byte in it".to_owned(),
        momentary: false,
    })
}

/// The first file of that name in `path` that can be executed; a name with a slash is its own path.
fn look_up(name: &OsStr, path: &OsStr) -> Result<PathBuf, Failure> {
    let shown = name.to_string_lossy();
    let direct = name.as_bytes().contains(&b'/');
    let candidates: Vec<PathBuf> = if direct {
        vec![PathBuf::from(name)]
    } else {
        // An empty part means the current folder.
        path.as_bytes().split(|byte| *byte == b':').map(|part| Path::new(OsStr::from_bytes(part)).join(name)).collect()
    };
    let mut refused = None;
    for candidate in candidates.into_iter().filter(|_| !name.is_empty()) {
        let why = match fs::metadata(&candidate) {
            Ok(file) if file.is_dir() => "it is a directory",
            Ok(file) if !file.is_file() => "it is not a plain file",
            Ok(file) => match access(&candidate, AccessFlags::X_OK) {
                Ok(()) => return Ok(candidate),
                Err(_) if file.mode() & 0o111 != 0 && is_noexec(&candidate) => "its filesystem is mounted noexec",
                Err(error) => error.desc(),
            },
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Errno::EACCES.desc(),
            Err(_) => continue,
        };
        refused.get_or_insert_with(|| format!("cannot execute {}: {why}", candidate.display()));
    }
    Err(match refused {
        Some(error) => Failure { exit: Exit::NotExecutable, error, momentary: false },
        None => Failure {
            exit: Exit::NotFound,
            error: if direct {
                format!("there is no {shown}")
            } else {
                format!("there is no command {shown:?} in PATH ({})", path.to_string_lossy())
            },
            momentary: false,
        },
    })
}
