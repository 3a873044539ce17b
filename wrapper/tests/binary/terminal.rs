//! In a terminal: job control, under real interactive shells, and without a shell as in `docker run -it`.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
    process::{Child, Command},
};

use nix::{
    fcntl::{OFlag, open},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::stat::Mode,
};

use crate::{
    actors::{LAST, MARK, act},
    harness::{KONDUCTOR_RUN, PATIENCE, children, eventually, is_alive, sh, signal_process},
    signals::STORM,
};

pub(crate) const INTERRUPT: &str = "\x03";
const END_OF_FILE: &str = "\x04";
pub(crate) const SUSPEND: &str = "\x1a";

/// The prompt of every shell here.
pub(crate) const PROMPT: &str = "@@ ";

/// Shells that know job control.
pub(crate) const SHELLS: [&str; 2] = ["bash --norc --noprofile -i", "dash -i"];

/// A terminal with one program in it; hung up when forgotten.
pub(crate) struct Terminal {
    pub(crate) near: File,
    /// Kept open, so that the terminal is there as long as this.
    _far: OwnedFd,
    pub(crate) program: Child,
    pub(crate) shown: String,
    /// How much of it has been expected.
    expected: usize,
}

/// The two ends of a terminal. The near one never waits.
pub(crate) fn pair() -> (File, OwnedFd) {
    // What any test starts must not inherit the near end, or the terminal could not be hung up.
    let near = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
    let near = near.expect("the machine has pseudo-terminals");
    grantpt(&near).and_then(|()| unlockpt(&near)).expect("it is ours");
    let path = ptsname_r(&near).expect("it has a name");
    let far = open(path.as_str(), OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty());
    let copy = near.as_fd().try_clone_to_owned().expect("a descriptor can be copied");
    (copy.into(), far.expect("it can be opened"))
}

impl Terminal {
    /// A terminal that is the controlling one of this program.
    pub(crate) fn with(program: &str) -> Self {
        let (near, far) = pair();
        let stream = || far.try_clone().expect("a descriptor can be copied");
        // Whoever runs the tests in the background may have had the terminal's signals ignored.
        let mut command = Command::new("env");
        command
            .arg("--default-signal")
            .args(program.split_whitespace())
            .env("PS1", PROMPT)
            .env("TERM", "dumb")
            // Some programs run what they are given with it.
            .env("SHELL", "/bin/sh")
            .env_remove("ENV");
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let program = command.spawn().expect("the program can be started");
        Self { near, _far: far, program, shown: String::new(), expected: 0 }
    }

    /// A shell that waits at its prompt.
    pub(crate) fn with_shell(shell: &str) -> Self {
        let mut terminal = Self::with(&format!("setsid --ctty {shell}"));
        terminal.expect(PROMPT);
        terminal
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.near.write_all(text.as_bytes()).expect("the terminal takes a few words");
    }

    /// Writes a line when the shell is at its prompt.
    pub(crate) fn line(&mut self, text: &str) {
        self.write(text);
        self.write("\n");
    }

    /// Waits until this is shown, after all that was expected before.
    pub(crate) fn expect(&mut self, text: &str) {
        loop {
            if let Some(at) = self.shown[self.expected..].find(text) {
                self.expected += at + text.len();
                return;
            }
            let patience = PollTimeout::try_from(PATIENCE).expect("a few seconds");
            let ready = poll(&mut [PollFd::new(self.near.as_fd(), PollFlags::POLLIN)], patience);
            assert_eq!(ready, Ok(1), "not in time: {text:?} after {:?} in {:?}", self.expected, self.shown);
            let mut some = [0; 1024];
            let count = self.near.read(&mut some).expect("the terminal is there");
            self.shown += &String::from_utf8_lossy(&some[..count]);
        }
    }

    /// Waits until all of these are shown after all that was expected before, in any order.
    pub(crate) fn expect_all(&mut self, texts: &[&str]) {
        let start = self.expected;
        let ends = texts.iter().map(|text| {
            self.expected = start;
            self.expect(text);
            self.expected
        });
        self.expected = ends.max().unwrap_or(start);
    }

    /// Where what is not expected yet begins in what was shown.
    pub(crate) fn expected(&self) -> usize {
        self.expected
    }

    /// What the shell says about the last job's exit code.
    pub(crate) fn expect_code(&mut self, code: i32) {
        self.expect(PROMPT);
        self.ask_code(code);
    }

    /// The same, when it is at its prompt.
    fn ask_code(&mut self, code: i32) {
        self.line("echo code=$?");
        self.expect(&format!("code={code}\r\n"));
        self.expect(PROMPT);
    }

    /// A line goes to the program in the foreground, which is `cat`, and comes back.
    pub(crate) fn expect_echo(&mut self, text: &str) {
        self.line(text);
        self.expect(&format!("{text}\r\n{text}\r\n"));
    }

    /// Changes the size of the window, at once.
    #[expect(unsafe_code, reason = "ioctl(2)")]
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call reads the structure.
        let done = unsafe { libc::ioctl(self.near.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// `konductor-run` with a script, which says `started` when it runs. The word is not in the line that the shell echoes.
fn job(script: &str) -> String {
    format!("{KONDUCTOR_RUN} -- sh -c 'echo star\"\"ted; {script}'")
}

/// The state of a process, as `ps` shows it.
pub(crate) fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
}

#[test]
fn control_z_stops_the_job_and_fg_brings_it_back() {
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&job("exec cat"));
        terminal.expect("started\r\n");
        terminal.expect_echo("one");
        for word in ["two", "three"] {
            terminal.write(SUSPEND);
            terminal.expect("Stopped");
            terminal.expect(PROMPT);
            terminal.line("fg");
            terminal.expect("exec cat");
            terminal.expect_echo(word);
        }
        terminal.write(END_OF_FILE);
        terminal.expect_code(0);
    }
}

#[test]
fn control_c_ends_the_command() {
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&job("exec sleep 1000"));
        terminal.expect("started\r\n");
        terminal.write(INTERRUPT);
        terminal.expect_code(130);
        // Without the foreground it is forwarded.
        terminal.line(&format!("{} </dev/null", job("exec sleep 1000")));
        terminal.expect("started\r\n");
        terminal.write(INTERRUPT);
        terminal.expect_code(130);
    }
}

#[test]
fn a_job_in_the_background_stops_when_it_wants_the_terminal() {
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&format!("{} & echo pid=\"$!\".", job("exec cat")));
        terminal.expect("pid=");
        terminal.expect("started\r\n");
        let shell = terminal.program.id() as i32;
        let job = eventually("the shell has a job", || children(shell).first().copied());
        eventually("the job is stopped", || (state(job) == 'T').then_some(()));
        terminal.line("");
        terminal.expect("Stopped");
        terminal.expect(PROMPT);
        terminal.line("fg");
        terminal.expect("exec cat");
        terminal.expect_echo("one");
        terminal.write(END_OF_FILE);
        terminal.expect_code(0);
    }
}

#[test]
fn a_command_whose_input_is_not_the_terminal_gets_it_when_it_asks() {
    // As a pager does.
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&format!("{} </dev/null", job("read -r line </dev/tty; echo \"got $line\"")));
        terminal.expect("started\r\n");
        terminal.line("typed");
        terminal.expect("got typed\r\n");
        terminal.expect_code(0);
    }
}

#[test]
fn bg_lets_a_stopped_job_go_on() {
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&job("exec sleep 1000"));
        terminal.expect("started\r\n");
        let job = children(terminal.program.id() as i32)[0];
        let command = children(job)[0];
        terminal.write(SUSPEND);
        terminal.expect("Stopped");
        eventually("both are stopped", || ([state(job), state(command)] == ['T', 'T']).then_some(()));
        terminal.expect(PROMPT);
        terminal.line("bg");
        eventually("both go on", || (![state(job), state(command)].contains(&'T')).then_some(()));
        terminal.expect(PROMPT);
        terminal.line("kill %1; wait %1");
        terminal.expect_code(143);
    }
}

#[test]
fn the_window_size_reaches_the_command() {
    let mut terminal = Terminal::with_shell(SHELLS[0]);
    let script = "trap \"stty size\" WINCH; echo ready; while :; do sleep 0.01; done";
    terminal.line(&job(script));
    terminal.expect("ready\r\n");
    terminal.resize(33, 44);
    terminal.expect("33 44\r\n");
    terminal.write(INTERRUPT);
    terminal.expect_code(130);
}

#[test]
fn an_interactive_shell_works_inside() {
    for (outer, inner) in [(SHELLS[0], SHELLS[1]), (SHELLS[1], SHELLS[0])] {
        let mut terminal = Terminal::with_shell(outer);
        terminal.line(&format!("{KONDUCTOR_RUN} -- {inner}"));
        terminal.expect(PROMPT);
        terminal.line("sh -c 'echo star\"\"ted; exec cat'");
        terminal.expect("started\r\n");
        terminal.expect_echo("one");
        terminal.write(SUSPEND);
        terminal.expect("Stopped");
        terminal.expect(PROMPT);
        terminal.line("fg");
        terminal.expect("exec cat");
        terminal.expect_echo("two");
        terminal.write(INTERRUPT);
        terminal.expect_code(130);
        terminal.line("exit 7");
        terminal.expect_code(7);
        terminal.line("echo again");
        terminal.expect("again\r\n");
    }
}

#[test]
fn a_terminal_without_a_shell_works_as_pid_1() {
    let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    let words = ["echo started; exec cat"];
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), words.join("\n")).unwrap();
    let init = format!("{KONDUCTOR_RUN} -v -- sh {}", script.path().display());
    let mut terminal =
        Terminal::with(&format!("unshare {rootless} --fork --pid --mount-proc --kill-child setsid --ctty {init}"));
    terminal.expect("started\r\n");
    terminal.expect_echo("one");
    // Nobody could continue PID 1 and its command.
    terminal.write(SUSPEND);
    terminal.expect("continuing the command");
    terminal.expect_echo("two");
    terminal.write(INTERRUPT);
    terminal.expect("the command has ended: 130");
    let ended = eventually("it ends", || terminal.program.try_wait().unwrap());
    assert_eq!(ended.code(), Some(130));
}

#[test]
fn what_nobody_could_continue_is_not_stopped() {
    let mut run = act("continued", "").under("setsid").start();
    assert_eq!(run.line(), "ready");
    run.signal(20);
    assert_eq!(run.line(), "continued");
    assert_ne!(state(run.pid()), 'T');
    run.signal(15);
    assert_eq!(run.end().code(), 143);
}

#[test]
fn a_command_that_sigstop_stops_stops_nothing_else() {
    let mut run = sh("echo; exec sleep 1000").start();
    run.line();
    let command = children(run.pid())[0];
    signal_process(command, 19);
    eventually("it is stopped", || (state(command) == 'T').then_some(()));
    // It listens: CONT passes through it.
    run.signal(18);
    eventually("it goes on", || (state(command) != 'T').then_some(()));
    assert_ne!(state(run.pid()), 'T');
    run.signal(15);
    assert_eq!(run.end().code(), 143);
}

#[test]
fn a_program_that_uses_the_terminal_works_beside() {
    // As `konductor-run -- command | less` does, and the other way round.
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        for line in [
            "{} -- sleep 1000 | sh -c 'read -r line </dev/tty; echo \"got $line\"; cat'",
            "sleep 1000 | {} -- sh -c 'read -r line </dev/tty; echo \"got $line\"; cat'",
            "sleep 1000 | sh -c 'read -r line </dev/tty; echo \"got $line\"; cat' | {} -- cat",
            "sleep 1000 | {} -- cat | sh -c 'read -r line </dev/tty; echo \"got $line\"; cat'",
        ] {
            terminal.line(&line.replace("{}", KONDUCTOR_RUN));
            terminal.line("typed");
            terminal.expect("got typed\r\n");
            terminal.write(INTERRUPT);
            terminal.expect_code(130);
        }
    }
}

#[test]
fn a_timeout_in_a_script_is_over_in_time_although_the_command_waits_for_the_terminal() {
    for flags in ["", "--kill-after=1000", "--foreground"] {
        let mut terminal = Terminal::with_shell(SHELLS[0]);
        terminal.line(&format!("sh -c 'timeout {flags} 0.5 {KONDUCTOR_RUN} -- cat; echo \"en\"ded=$?'"));
        terminal.expect("ended=124\r\n");
        terminal.expect(PROMPT);
    }
}

#[test]
fn control_c_ends_the_script_and_the_loop_around_it() {
    for shell in ["sh", "bash"] {
        for script in ["{}; echo STEP2", "for i in 1 2; do {}; echo STEP2; done", "while :; do {}; done"] {
            let script = script.replace("{}", &format!("{KONDUCTOR_RUN} -- sleep 1000"));
            let mut terminal = Terminal::with_shell(SHELLS[0]);
            terminal.line(&format!("{shell} -c 'echo star\"\"ted; {script}'"));
            terminal.expect("started\r\n");
            let script = children(terminal.program.id() as i32)[0];
            let run = eventually("it is started", || children(script).first().copied());
            eventually("the command is started", || children(run).first().copied());
            terminal.write(INTERRUPT);
            terminal.expect_code(130);
            assert!(!terminal.shown.contains("STEP2\r\n"), "{}", terminal.shown);
        }
    }
}

#[test]
fn a_program_that_cleans_up_and_stops_itself_gives_the_terminal_back() {
    let own = std::env::current_exe().unwrap();
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&format!("{KONDUCTOR_RUN} -- {} actor:screen", own.display()));
        terminal.expect("ready\r\n");
        for _ in 0..2 {
            terminal.write(SUSPEND);
            terminal.expect("cleaned\r\n");
            terminal.expect("Stopped");
            terminal.expect(PROMPT);
            terminal.line("fg");
            terminal.expect("back\r\n");
            // A stop that comes before all has gone on gives the terminal back a little early: see docs/terminal.md.
            let job = children(terminal.program.id() as i32)[0];
            let rests = || children(job).into_iter().chain([job]).all(|pid| state(pid) == 'S');
            eventually("all has been looked at", || (rests() && rests()).then_some(()));
        }
        terminal.write(INTERRUPT);
        terminal.expect_code(130);
    }
}

#[test]
fn a_stop_right_after_a_continuation_is_never_lost() {
    let own = std::env::current_exe().unwrap();
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&format!("{KONDUCTOR_RUN} -- {} actor:screen", own.display()));
        terminal.expect("ready\r\n");
        let job = children(terminal.program.id() as i32)[0];
        let command = children(job)[0];
        for _ in 0..10 {
            terminal.write(SUSPEND);
            terminal.expect_all(&["cleaned\r\n", "Stopped", PROMPT]);
            // It says that it has cleaned up before it stops itself.
            eventually("the command stands", || (state(command) == 'T').then_some(()));
            terminal.line("fg");
            // Neither the shell nor konductor-run need have gone on by now.
            terminal.expect("back\r\n");
        }
        terminal.write(INTERRUPT);
        terminal.expect_code(130);
    }
}

/// Starts a receiver as a job, with what it receives in a file; the job and all its children but the command.
fn receiver(terminal: &mut Terminal, log: &Path) -> (i32, Vec<i32>) {
    let own = std::env::current_exe().unwrap();
    terminal.line(&format!("{KONDUCTOR_RUN} -- {} actor:receiver >{}", own.display(), log.display()));
    let ready = || fs::read_to_string(log).ok().filter(|text| text.contains("ready"));
    eventually("the command listens", ready);
    let job = children(terminal.program.id() as i32)[0];
    (job, children(job)[1..].to_vec())
}

fn received(log: &Path) -> Vec<String> {
    fs::read_to_string(log).unwrap().lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn what_is_sent_to_the_job_arrives_once_and_so_does_what_is_sent_to_konductor_run_alone() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut terminal = Terminal::with_shell(SHELLS[0]);
    let (job, _) = receiver(&mut terminal, log.path());
    let mut expected = Vec::new();
    for signal in (1..LAST).filter(|signal| ![9, 17, 19].contains(signal)) {
        for to in [job, -job, -job, job] {
            signal_process(to, signal);
            // Two of a kind merge as long as one of them waits. The mark comes after it.
            expected.push(signal.to_string());
            eventually("it arrives", || (received(log.path()).len() >= expected.len()).then_some(()));
            signal_process(job, MARK);
            expected.push(MARK.to_string());
            eventually("the mark arrives", || (received(log.path()).len() >= expected.len()).then_some(()));
        }
    }
    signal_process(job, LAST);
    expected.push(LAST.to_string());
    eventually("it ends", || (!is_alive(job)).then_some(()));
    assert_eq!(received(log.path()), expected);
}

#[test]
fn many_at_once_arrive_as_often_as_they_were_sent() {
    let _alone = STORM.lock();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut terminal = Terminal::with_shell(SHELLS[0]);
    let (job, _) = receiver(&mut terminal, log.path());
    // Only those that do not merge can be counted.
    let mut sent = 0;
    for turn in 0..3_000 {
        signal_process(if turn % 3 == 0 { job } else { -job }, 34 + turn % 7);
        sent += 1;
    }
    signal_process(job, LAST);
    eventually("it ends", || (!is_alive(job)).then_some(()));
    let received = received(log.path());
    assert_eq!(received.len(), sent + 1);
    for signal in 34..41 {
        let count = received.iter().filter(|line| **line == signal.to_string()).count();
        assert_eq!(count, (0..3_000).filter(|turn| 34 + turn % 7 == signal).count(), "{signal}");
    }
}

#[test]
fn without_its_witness_the_terminals_signals_arrive_once_and_none_is_lost() {
    for signal in [9, 19] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut terminal = Terminal::with_shell(SHELLS[0]);
        let (job, witness) = receiver(&mut terminal, log.path());
        assert_eq!(witness.len(), 1);
        signal_process(witness[0], signal);
        terminal.write(INTERRUPT);
        terminal.expect("^C");
        signal_process(job, 10);
        eventually("both arrive", || (received(log.path()).len() >= 2).then_some(()));
        terminal.write("\x1c");
        terminal.expect("^\\");
        signal_process(job, LAST);
        eventually("it ends", || (!is_alive(job)).then_some(()));
        let mut received = received(log.path());
        received[..2].sort();
        assert_eq!(received, ["10", "2", "3", "64"]);
    }
}

#[test]
fn a_signal_that_the_terminal_sends_at_the_start_arrives_once_or_prevents_it() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let (log, script) = (folder.path().join("log"), folder.path().join("script"));
    // Blocked for the command, too: before its first instruction it has the default actions.
    let line = format!("env --block-signal {KONDUCTOR_RUN} -- {} actor:receiver >{}\n", own.display(), log.display());
    fs::write(&script, line + "exit 1\n").unwrap();
    let (mut prevented, mut arrived) = (0, 0);
    for trial in 0_u64..300 {
        let mut terminal = Terminal::with(&format!("setsid --ctty sh {}", script.display()));
        let shell = terminal.program.id() as i32;
        let run = eventually("it has blocked its signals", || {
            let run = children(shell).first().copied()?;
            let name = fs::read_to_string(format!("/proc/{run}/comm")).ok()?;
            let status = fs::read_to_string(format!("/proc/{run}/status")).ok()?;
            (name.starts_with("konductor-run") && status.contains("SigBlk:\tffff")).then_some(run)
        });
        let is_ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"));
        for _ in 0..trial * 7_919 % 400_000 {
            std::hint::spin_loop();
        }
        if trial % 16 == 8 {
            eventually("it listens", || is_ready().then_some(()));
        }
        terminal.write(INTERRUPT);
        terminal.expect("^C");
        let started = eventually("it listens, or is not started", || {
            if is_ready() { Some(true) } else { (!is_alive(run)).then_some(false) }
        });
        if started {
            signal_process(run, LAST);
            eventually("it ends", || (!is_alive(run)).then_some(()));
            assert_eq!(received(&log), ["2", "64"], "trial {trial}");
            arrived += 1;
        } else {
            prevented += 1;
        }
    }
    assert!(arrived > 0 && prevented > 0, "the trials missed the race: {arrived}, {prevented}");
}

#[test]
fn who_waits_is_stopped_continued_and_ended_by_the_terminal_as_a_command_is() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: it}\n";
    fs::write(folder.path().join("it.yaml"), manifest).unwrap();
    let wants = format!("--lease it --local {}", folder.path().display());
    let mut holder = sh("echo; exec sleep 1000").flags(&wants).start();
    holder.line();
    for shell in SHELLS {
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&format!("sh -c '{KONDUCTOR_RUN} {wants} -- echo STEP1; echo STEP2'"));
        terminal.expect("waiting for lease it: next in line\r\n");
        let script = children(terminal.program.id() as i32)[0];
        let waiter = children(script)[0];
        terminal.write(SUSPEND);
        terminal.expect("Stopped");
        terminal.expect(PROMPT);
        // The shell has told of the script around it.
        eventually("it stops, too", || (state(waiter) == 'T').then_some(()));
        terminal.line("fg");
        eventually("it goes on", || (state(waiter) != 'T').then_some(()));
        terminal.write(INTERRUPT);
        // The shell sees the end of the script, which is ended as well, and maybe first.
        terminal.expect_all(&["SIGINT: ending before the command was started", PROMPT]);
        terminal.ask_code(130);
        assert!(!terminal.shown.contains("STEP1\r\n") && !terminal.shown.contains("STEP2\r\n"));
    }
}
