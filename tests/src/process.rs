//! A program under test, run as a process of its own.
//!
//! Each process gets a process group of its own, so that a person's Ctrl-C reaches the test process only, and a mark
//! that its whole tree inherits (see [`crate::reaper`]): [`Process::tree`] sees, and dropping kills, also those
//! descendants that made groups or sessions for themselves. Output goes to files, so a full pipe never blocks the
//! program.
//!
//! A program never sees the person's own cluster or settings: `KUBECONFIG`, the variables of a pod and all
//! `KONDUCTOR_*` variables come from the test or not at all.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::reaper;
use crate::wait::{INTERVAL, eventually};

/// How many lines of each stream a failure shows.
const SHOWN_LINES: usize = 60;

/// Writes a program, by another process: what another test starts meanwhile would inherit the open file, and as long
/// as that is open for writing, it cannot be executed.
///
/// # Panics
///
/// When it cannot be written.
pub fn executable(path: &Path, text: &str) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut install = install.spawn().expect("install can be started");
    install.stdin.take().expect("stdin is a pipe").write_all(text.as_bytes()).expect("it reads all");
    assert!(install.wait().expect("it is our child").success(), "{} is not written", path.display());
}

/// A started process. Dropping it kills its whole tree; while a test fails, that also prints its last output.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    directory: PathBuf,
    shown: bool,
}

impl Process {
    /// Starts `command` with its input empty and its output in files. `name` is for messages.
    pub fn spawn(name: &str, command: Command) -> Self {
        Self::start(name, command, true)
    }

    /// As [`Process::spawn`], for the cluster's own programs, whose output would bury that of the program under test.
    pub(crate) fn spawn_quiet(name: &str, command: Command) -> Self {
        Self::start(name, command, false)
    }

    fn start(name: &str, mut command: Command, shown: bool) -> Self {
        let directory = reaper::folder(name);
        let output = |stream| File::create(directory.join(stream)).expect("make an output file");
        let set: Vec<_> = command.get_envs().map(|(variable, _)| variable.to_owned()).collect();
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| !set.contains(variable)) {
            if variable.to_str().is_some_and(|variable| {
                variable.starts_with("KONDUCTOR_") || variable.starts_with("KUBERNETES_SERVICE_")
            }) {
                command.env_remove(variable);
            }
        }
        if !set.iter().any(|variable| variable == "KUBECONFIG") {
            // Unset would mean ~/.kube/config.
            command.env("KUBECONFIG", "/dev/null");
        }
        let child = command
            .env(reaper::MARK, &directory)
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({command:?}): {error}"));
        Self { name: name.to_owned(), child, status: None, directory, shown }
    }

    /// The process's id; also its process group's.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The most memory that it has had so far, in bytes, without the pages of files (its program's, mostly) that it has
    /// now: how many of those it has is up to the kernel.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"));
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("{path} has no {name} in kB"))
        };
        field("VmHWM:").saturating_sub(field("RssFile:")) << 10
    }

    /// The live processes of its tree, itself included: every descendant, also one that was orphaned or has left the
    /// process group.
    pub fn tree(&self) -> Vec<Pid> {
        reaper::marked(self.mark())
    }

    fn mark(&self) -> &str {
        self.directory.to_str().expect("the harness's folder has a UTF-8 name")
    }

    /// How it ended, or `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("wait for a child");
        }
        self.status
    }

    /// Sends a signal to the process alone. Fails when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        self.assert_running(signal);
        kill(self.pid(), signal).expect("signal a running child");
    }

    /// Sends a signal to its process group, as a terminal's Ctrl-C does. Fails when it has ended.
    pub fn signal_group(&mut self, signal: Signal) {
        self.assert_running(signal);
        killpg(self.pid(), signal).expect("signal a running child's group");
    }

    /// Freezes the process alone (SIGSTOP), and returns when all its threads stand still: the signal alone leaves them
    /// a moment in which they may answer one more request.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
        // Half a minute at least: a thread stops when it next enters or leaves the kernel.
        for _ in 0..6000 {
            if self.is_frozen() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} is not frozen after SIGSTOP\n{}", self.name, self.output());
    }

    /// Ends a [freeze](Process::freeze).
    pub fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    fn is_frozen(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("list a child's threads");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses and may hold some itself. No state: ended meanwhile.
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    }

    fn assert_running(&mut self, signal: Signal) {
        if let Some(status) = self.status() {
            panic!("{}: cannot send {signal}, as it ended with {status}\n{}", self.name, self.output());
        }
    }

    /// Waits until the process has ended. Fails with its output when it runs longer than `limit`.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let wait = async {
            loop {
                if let Some(status) = self.status() {
                    return status;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        if let Ok(status) = tokio::time::timeout(limit, wait).await {
            return status;
        }
        panic!("{} still runs after {limit:?}\n{}", self.name, self.output());
    }

    /// Waits until the process has ended and asserts its exit code; death by signal n counts as 128 + n, as in a shell.
    pub async fn expect_exit(&mut self, limit: Duration, code: i32) {
        let status = self.wait_exit(limit).await;
        assert_eq!(self::code(status), code, "exit code of {}\n{}", self.name, self.output());
    }

    /// Waits until `text` is in its standard error.
    pub async fn wait_stderr(&self, limit: Duration, text: &str) {
        self.wait_output("stderr", limit, text).await;
    }

    /// Waits until `text` is in its standard output.
    pub async fn wait_stdout(&self, limit: Duration, text: &str) {
        self.wait_output("stdout", limit, text).await;
    }

    async fn wait_output(&self, stream: &str, limit: Duration, text: &str) {
        eventually(limit, &format!("{text:?} in {} of {}", stream, self.name), || async {
            if self.read(stream).contains(text) { Ok(()) } else { Err(self.output()) }
        })
        .await;
    }

    /// All it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// All it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, stream: &str) -> String {
        read_lossy(&self.directory.join(stream))
    }

    /// The last lines of both streams, for a message.
    pub fn output(&self) -> String {
        let mut shown = String::new();
        for stream in ["stdout", "stderr"] {
            let text = self.read(stream);
            let lines: Vec<_> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                writeln!(shown, "{} {stream} | {line}", self.name).expect("write to a string");
            }
        }
        shown
    }

    /// Kills the whole tree at once, and returns when all of it is gone.
    pub fn kill(&mut self) {
        reaper::kill_marked(self.mark());
        if self.status.is_none() {
            self.status = Some(self.child.wait().expect("wait for a killed child"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.shown && std::thread::panicking() {
            eprint!("{}", self.output());
        }
    }
}

/// The exit code of what has ended; death by signal n counts as 128 + n, as in a shell.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).expect("what has ended did so in one of these ways")
}

/// A program may have written half a character so far.
fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).expect("read an output file")).into_owned()
}
