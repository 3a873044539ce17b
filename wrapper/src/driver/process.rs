//! From a command line to a running process, with nothing of ours in it.
//!
//! The child gets a process group of its own (or stays in this process's, as a member of its job), the signal mask and dispositions as found, and no descriptor of ours (all
//! of them close on exec). There is no shell in between: the file is found in `PATH` before anything is acquired, so
//! that a misspelt command costs no wait in a queue, and it is executed by its path, so that a text without `#!` is not
//! handed to `/bin/sh`. That the command runs is known when the child's end of a close-on-exec pipe has closed.
#![expect(unsafe_code, reason = "fork(2) and execve(2)")]

use std::{
    ffi::{CString, OsStr, OsString},
    fs::{self, File},
    io::Read as _,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use konductor::Exit;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    sys::{prctl, signal::Signal, wait::waitpid},
    unistd::{
        AccessFlags, ForkResult, Pid, access, execve, fork, getpid, getppid, pipe2, read, setpgid, tcsetpgrp, write,
    },
};

use super::found::{self, Found, Mask};
use crate::environment::Environment;

/// Where a command is looked for when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a command does not run.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) error: String,
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
}

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

    /// Starts it. `holds`: it is killed when this process is, because nobody would be left to end it before the
    /// deadline.
    pub(super) fn spawn(
        &self,
        environment: Vec<(OsString, OsString)>,
        found: &Found,
        place: Place,
        holds: bool,
    ) -> Result<Started, Failure> {
        let environment = environment.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            text(name)
        });
        let environment = environment.collect::<Result<Vec<_>, _>>()?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|error| self.failure(error))?;
        let gate = match place {
            Place::Own(_) => None,
            Place::Job(_) => Some(pipe2(OFlag::O_CLOEXEC).map_err(|error| self.failure(error))?),
        };
        let parent = getpid();
        // SAFETY: the child calls only functions that are safe after a fork, with memory prepared above (but for two
        // small lists of pointers inside `execve`: glibc's own fork leaves its allocator usable), and never returns.
        match unsafe { fork() }.map_err(|error| self.failure(error))? {
            ForkResult::Child => {
                let Err(error) = take_place(&place, gate, &writer)
                    .and_then(|()| self.become_command(&environment, found, holds.then_some(parent)));
                // If this fails, too, the parent sees an end of file and then this exit code.
                let _ = write(&writer, &(error as i32).to_ne_bytes());
                // SAFETY: ends this process at once, without running anything of the parent's.
                unsafe { libc::_exit(i32::from(Exit::NotExecutable.code())) }
            }
            ForkResult::Parent { child } => {
                drop(writer);
                let mut reader = File::from(reader);
                let mut pending = [0; size_of::<Mask>()];
                if let (Place::Job(joined), Some((_, gate))) = (place, gate) {
                    joined();
                    // Should one of these fail, the child is gone, and what follows finds that out.
                    let _ = write(&gate, &[0]).is_ok() && reader.read_exact(&mut pending).is_ok();
                }
                match refusal(reader) {
                    None => Ok(Started { pid: child, pending: Mask::from_ne_bytes(pending) }),
                    Some(error) => {
                        // Its code is known already; this only reaps it.
                        let _ = waitpid(child, None);
                        Err(self.failure(error))
                    }
                }
            }
        }
    }

    /// In the child, all signals blocked.
    fn become_command(
        &self,
        environment: &[CString],
        found: &Found,
        parent: Option<Pid>,
    ) -> Result<std::convert::Infallible, Errno> {
        if let Some(parent) = parent {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                return Err(Errno::ESRCH);
            }
        }
        found.restore()?;
        execve(&self.path, &self.arguments, environment)
    }

    fn failure(&self, error: Errno) -> Failure {
        let path = self.path.to_string_lossy();
        let (exit, error) = match error {
            Errno::ENOENT if Path::new(OsStr::from_bytes(self.path.to_bytes())).exists() => (
                Exit::NotExecutable,
                format!("cannot execute {path}: the interpreter that it names (after #!, or its loader) is not there"),
            ),
            Errno::ENOENT | Errno::ENOTDIR => (Exit::NotFound, format!("cannot execute {path}: it is gone")),
            Errno::ENOEXEC => (
                Exit::NotExecutable,
                format!("cannot execute {path}: not a program for this machine, and no script that begins with #!"),
            ),
            error => (Exit::NotExecutable, format!("cannot execute {path}: {}", error.desc())),
        };
        Failure { exit, error }
    }
}

/// In the child: where it belongs. As a member of the job it waits until it may begin, and tells what waits for it.
fn take_place(place: &Place, gate: Option<(OwnedFd, OwnedFd)>, told: &OwnedFd) -> Result<(), Errno> {
    if let Place::Own(terminal) = place {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        if let Some(terminal) = terminal {
            tcsetpgrp(terminal, getpid())?;
        }
    }
    if let Some((gate, parents)) = gate {
        drop(parents);
        if read(&gate, &mut [0])? == 0 {
            return Err(Errno::ESRCH);
        }
        write(told, &found::pending()?.to_ne_bytes())?;
    }
    Ok(())
}

/// What the child says before it gives up; nothing when it has become the command.
fn refusal(mut reader: File) -> Option<Errno> {
    let mut number = [0; 4];
    reader.read_exact(&mut number).ok().map(|()| Errno::from_raw(i32::from_ne_bytes(number)))
}

fn text(text: OsString) -> Result<CString, Failure> {
    CString::new(text.into_vec()).map_err(|_| Failure {
        exit: Exit::NotExecutable,
        error: "cannot execute the command: an argument or variable has a zero byte in it".to_owned(),
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
            Ok(_) => match access(&candidate, AccessFlags::X_OK) {
                Ok(()) => return Ok(candidate),
                Err(error) => error.desc(),
            },
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Errno::EACCES.desc(),
            Err(_) => continue,
        };
        refused.get_or_insert_with(|| format!("cannot execute {}: {why}", candidate.display()));
    }
    Err(match refused {
        Some(error) => Failure { exit: Exit::NotExecutable, error },
        None if direct => Failure { exit: Exit::NotFound, error: format!("there is no {shown}") },
        None => Failure {
            exit: Exit::NotFound,
            error: format!("there is no command {shown:?} in PATH ({})", path.to_string_lossy()),
        },
    })
}
