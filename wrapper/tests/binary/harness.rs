//! Runs the real binary: its exact output, exit code and process tree.

use std::{
    ffi::OsString,
    fs,
    io::{Read, Write as _},
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{libc, sys::signal::Signal, unistd::Pid};

/// Longer than anything here takes on a busy machine, also when that stands still for a while.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// How often something may be late before it counts as slow.
const TRIALS: usize = 5;

/// The binary under test.
pub(crate) const KONDUCTOR_RUN: &str = env!("CARGO_BIN_EXE_konductor-run");

/// One run to be.
pub(crate) struct Run {
    before: Vec<OsString>,
    flags: Vec<OsString>,
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit code as a shell tells it: a death by signal n is 128 + n.
    pub(crate) fn code(&self) -> i32 {
        let signal = self.status.signal().map(|signal| 128 + signal);
        self.status.code().or(signal).expect("it has ended")
    }
}

/// A run of a command.
pub(crate) fn run<const N: usize>(command: [&str; N]) -> Run {
    Run { before: vec![], flags: vec![], command: command.map(OsString::from).to_vec(), environment: vec![] }
}

/// A run of a shell script.
pub(crate) fn sh(script: &str) -> Run {
    run(["sh", "-c", script])
}

impl Run {
    /// Flags of `konductor-run`, separated by blanks.
    pub(crate) fn flags(mut self, flags: &str) -> Self {
        self.flags.extend(flags.split_whitespace().map(OsString::from));
        self
    }

    /// A variable for `konductor-run`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// More arguments of the command, separated by blanks.
    pub(crate) fn arguments(mut self, arguments: &str) -> Self {
        self.command.extend(arguments.split_whitespace().map(OsString::from));
        self
    }

    /// One more argument of the command.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.command.push(argument.into());
        self
    }

    /// A shell script that ends by executing its arguments, and runs `konductor-run`.
    pub(crate) fn after(mut self, script: &str) -> Self {
        self.before.extend(["sh", "-c", script, "sh"].map(OsString::from));
        self
    }

    /// A program, with its arguments, that runs `konductor-run`.
    pub(crate) fn under(mut self, before: &str) -> Self {
        self.before.extend(before.split_whitespace().map(OsString::from));
        self
    }

    /// As PID 1 of a PID namespace of its own, as root or not.
    pub(crate) fn in_pid_1(self) -> Self {
        let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
        self.under(&format!("unshare {rootless} --fork --pid --mount-proc --kill-child"))
    }

    /// The command without `konductor-run`, but with whatever it was to run under.
    pub(crate) fn bare(&self) -> Ended {
        let words: Vec<_> = self.before.iter().chain(&self.command).cloned().collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        let output = command.output().expect("the command can be started");
        Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What would be executed.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.before.clone();
        words.push(KONDUCTOR_RUN.into());
        words.extend(self.flags.iter().cloned());
        words.push("--".into());
        words.extend(self.command.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Running {
        Running(self.command().spawn().expect("the run can be started"))
    }

    /// Starts it with a pipe for stdin, which [`Running::end`] closes.
    pub(crate) fn with_stdin(&self) -> Running {
        Running(self.command().stdin(Stdio::piped()).spawn().expect("the run can be started"))
    }

    /// Runs it to its end.
    pub(crate) fn end(&self) -> Ended {
        self.start().end()
    }

    /// Runs it to its end, for the exit code.
    pub(crate) fn code(&self) -> i32 {
        self.end().code()
    }
}

/// A run that has been started; killed when forgotten.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// The process that was started.
    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Sends it a signal, by number.
    pub(crate) fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// The next line that the command writes.
    pub(crate) fn line(&mut self) -> String {
        read_line(self.0.stdout.as_mut().expect("stdout is a pipe"))
    }

    /// Reads what it says itself, to the first line with this in it. Returns all of that.
    pub(crate) fn says(&mut self, what: &str) -> String {
        let stderr = self.0.stderr.as_mut().expect("stderr is a pipe");
        let mut said = String::new();
        loop {
            let line = read_line(stderr);
            assert!(!line.is_empty(), "it ends without {what:?}: {said}");
            said += &(line.clone() + "\n");
            if line.contains(what) {
                return said;
            }
        }
    }

    /// Reads what it says itself until one of these is in it, or it ends: all of it, and not a byte of what comes after.
    pub(crate) fn read_log<const N: usize>(&mut self, texts: [&str; N]) -> String {
        let log = self.0.stderr.as_mut().expect("stderr is a pipe");
        let (mut read, mut byte) = (Vec::new(), [0]);
        let is_there = |read: &[u8]| texts.iter().any(|text| String::from_utf8_lossy(read).contains(text));
        while !is_there(&read) && log.read(&mut byte).expect("stderr can be read") == 1 {
            read.extend(byte);
        }
        String::from_utf8(read).expect("the log is text")
    }

    /// Writes a line to the command.
    pub(crate) fn write_line(&mut self) {
        self.0.stdin.as_mut().expect("stdin is a pipe").write_all(b"\n").expect("the command reads");
    }

    /// The process id of `konductor-run` itself, for what was started with [`Run::in_pid_1`].
    pub(crate) fn init(&self) -> i32 {
        eventually("unshare has forked", || children(self.pid()).first().copied())
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        drop(self.0.stdin.take());
        let status = eventually("the run ends", || self.0.try_wait().expect("it is our child"));
        let (mut stdout, mut stderr) = (String::new(), String::new());
        if let Some(mut pipe) = self.0.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("stdout is text");
        }
        if let Some(mut pipe) = self.0.stderr.take() {
            pipe.read_to_string(&mut stderr).expect("stderr is text");
        }
        Ended { status, stdout, stderr }
    }
}

impl Drop for Running {
    /// Kills all below it as well: with nothing held, a command outlives its supervisor.
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill_below(self.pid());
        }
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill_below(pid: i32) {
    for child in children(pid) {
        kill_below(child);
        kill(child);
    }
}

/// Writes a program.
pub(crate) fn executable(path: &Path, text: &str) {
    program(path, text, "755");
}

/// Writes a file that is to be executed, or just not, by another process: what another test starts meanwhile would
/// inherit the open file, and as long as that is open for writing, it cannot be executed.
pub(crate) fn program(path: &Path, text: &str, mode: &str) {
    let mut install = Command::new("install");
    install.args(["-m", mode, "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut install = install.spawn().expect("install can be started");
    install.stdin.take().expect("stdin is a pipe").write_all(text.as_bytes()).expect("it reads all");
    assert!(install.wait().expect("it is our child").success(), "{} is not written", path.display());
}

/// A line, and not a byte of what comes after it; empty at the end.
fn read_line(pipe: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while pipe.read(&mut byte).expect("the pipe can be read") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("the line is text")
}

/// Sends a signal by number; nix knows no real-time ones.
#[expect(unsafe_code, reason = "kill(2) by number")]
pub(crate) fn signal_process(pid: i32, signal: i32) {
    // SAFETY: the call takes no pointers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}

/// Looks until there is an answer; a deadline away from that.
#[expect(clippy::disallowed_methods, reason = "a deadline for tests")]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How long something took.
#[expect(clippy::disallowed_methods, reason = "measures a bound that is promised")]
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let outcome = act();
    (outcome, start.elapsed())
}

/// Tries something, which says how long it took, until that was less than this once: a machine that stands still for a
/// moment makes it late now and then, and what is slow is late each time.
pub(crate) fn within<T>(bound: Duration, mut act: impl FnMut() -> (T, Duration)) -> T {
    let mut late = Vec::new();
    for _ in 0..TRIALS {
        let (outcome, took) = act();
        if took < bound {
            return outcome;
        }
        late.push(took);
    }
    panic!("wanted less than {bound:?}, found {late:?}")
}

/// Leaves the terminal of whoever runs the tests, if there is one: in a terminal's job a command has its place in the
/// job, and only the tests about terminals mean that.
#[expect(unsafe_code, reason = "ioctl(2)")]
pub(crate) fn leave_terminal() {
    let is_leader = nix::unistd::getsid(None) == Ok(nix::unistd::getpid());
    if let Some(terminal) = fs::File::open("/dev/tty").ok().filter(|_| !is_leader) {
        // SAFETY: the call takes no pointers.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
    }
}

/// Whether the process runs (a zombie does not).
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// The children of a process, also dead ones that were not reaped.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let own = format!("/proc/{pid}/task/{pid}/children");
    let list = fs::read_to_string(own).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
}

/// Ends a process that a test has left on purpose.
pub(crate) fn kill(pid: i32) {
    // It may have ended already.
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
}
