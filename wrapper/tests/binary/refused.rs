//! Where the system says no: calls that an emulator, a sandbox or a limit refuses, each with nothing to hold, with
//! something to hold that is free, and with something that has to be waited for.
//!
//! A launcher, which is this binary as well, has the kernel refuse a call to all that it then executes: always, or as
//! long as a file exists. Instead of refusing it, it can have the call wait until the file is gone.
#![expect(unsafe_code, reason = "prctl(2), seccomp(2) and what answers for it")]

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    ptr,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc::{self, c_long},
};

use crate::{
    harness::{
        Ended, KONDUCTOR_RUN, Run, Running, children, eventually, executable, is_alive, run, sh, signal_process, timed,
        within,
    },
    terminal::{INTERRUPT, PROMPT, SHELLS, SUSPEND, Terminal},
};

const TERM: i32 = 15;

/// Less than what is refused for a moment is tried again for. Whoever is only then done with what it does meanwhile (the
/// machine stood still) has come too late, and tries anew.
const MEANWHILE: Duration = Duration::from_secs(4);

/// A call, and its first argument if only that one is refused.
#[derive(Clone, Copy)]
pub(crate) struct Call(c_long, Option<c_long>);

const SUBREAPER: Call = Call(libc::SYS_prctl, Some(libc::PR_SET_CHILD_SUBREAPER as c_long));
const PARENT_DEATH: Call = Call(libc::SYS_prctl, Some(libc::PR_SET_PDEATHSIG as c_long));
const NAME: Call = Call(libc::SYS_prctl, Some(libc::PR_SET_NAME as c_long));
/// In the place of an error: the call is made when the file is gone.
const WAITS: &str = "0";

/// What fork(3) is made of, and what starts a thread.
const FORK: Call = Call(libc::SYS_clone, None);
const THREAD: Call = Call(libc::SYS_clone3, None);

pub(crate) const fn any(call: c_long) -> Call {
    Call(call, None)
}

impl Run {
    /// Below a launcher that has this call refused for as long as the file exists, or always.
    pub(crate) fn refused(self, call: Call, errno: Errno, while_there: Option<&Path>) -> Self {
        self.under(&launcher(call, &(errno as i32).to_string(), while_there))
    }
}

/// The words before a command that has this call refused.
fn launcher(Call(number, argument): Call, errno: &str, while_there: Option<&Path>) -> String {
    let own = env::current_exe().expect("a process has an executable");
    let argument = argument.map_or("any".to_owned(), |argument| argument.to_string());
    let file = while_there.map_or("-".to_owned(), |file| file.display().to_string());
    format!("{} actor:refuse {number} {argument} {errno} {file}", own.display())
}

/// The launcher: `CALL ARGUMENT ERRNO FILE COMMAND...`.
pub(crate) fn launch() {
    let arguments: Vec<String> = env::args().skip(2).collect();
    let [call, argument, errno, file, command @ ..] = &arguments[..] else { panic!("not a launch: {arguments:?}") };
    let number = |text: &String| text.parse::<u32>().expect("a number");
    let (call, errno) = (number(call), number(errno));
    let argument = (argument != "any").then(|| number(argument));
    let answer = match file.as_str() {
        "-" => libc::SECCOMP_RET_ERRNO | errno,
        file => {
            answer_while_there(Path::new(file), errno as i32, || {
                filter(call, argument, libc::SECCOMP_RET_USER_NOTIF, true)
            });
            panic!("{}", Command::new(&command[0]).args(&command[1..]).exec())
        }
    };
    filter(call, argument, answer, false);
    panic!("{}", Command::new(&command[0]).args(&command[1..]).exec())
}

/// Has the kernel answer a call of this process, and of all that it starts, with `answer`. The descriptor of who is
/// asked, if somebody is to be.
fn filter(call: u32, argument: Option<u32>, answer: u32, asks: bool) -> i32 {
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let unless = |value, skip| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, value);
    let done = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    // Number and arguments as `seccomp_data` has them; of the first argument the lower half.
    let mut program = vec![load(0), unless(call, if argument.is_some() { 3 } else { 1 })];
    program.extend(argument.into_iter().flat_map(|argument| [load(16), unless(argument, 1)]));
    program.extend([done(answer), done(libc::SECCOMP_RET_ALLOW)]);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = if asks { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    // SAFETY: the program is there for the call, which copies it.
    let listener = unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    Errno::result(listener).expect("the kernel filters calls") as i32
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Starts a process, nobody's child, that refuses the calls it is asked about for as long as the file exists, and ends
/// with the last process that can ask.
fn answer_while_there(file: &Path, errno: i32, filter: impl FnOnce() -> i32) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    // The descriptor that comes later is in the table that both have; so is all that is closed before the execution.
    // SAFETY: this process has one thread, and both children end without running anything of their parent's.
    let clone = || unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    let child = clone();
    if child == 0 {
        if clone() == 0 {
            // What a terminal sends to the job is not for it.
            nix::unistd::setsid().unwrap();
            let mut listener = [0; 4];
            nix::unistd::read(&reader, &mut listener).unwrap();
            answer(i32::from_ne_bytes(listener), file, errno);
        }
        // SAFETY: as above.
        unsafe { libc::_exit(0) }
    }
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(child as i32, ptr::null_mut(), 0) }, child as i32);
    let listener = filter();
    nix::unistd::write(&writer, &listener.to_ne_bytes()).unwrap();
    std::mem::forget((reader, writer));
}

fn answer(listener: i32, file: &Path, errno: i32) {
    // `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
    const RECEIVE: u32 = 0xc050_2100;
    const SEND: u32 = 0xc018_2101;
    loop {
        let mut source = libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 };
        // SAFETY: all structures are as the calls expect them, and there for each call.
        unsafe {
            libc::poll(&raw mut source, 1, -1);
            if source.revents & libc::POLLHUP != 0 {
                return;
            }
            let mut asked: libc::seccomp_notif = std::mem::zeroed();
            // Who has asked may have been killed.
            if libc::ioctl(listener, libc::c_ulong::from(RECEIVE), &raw mut asked) != 0 {
                continue;
            }
            if errno == 0 {
                // Nobody waits for longer than that, so that this process ends in any case.
                eventually("the call may be made", || (!file.exists()).then_some(()));
            }
            let refuses = errno != 0 && file.exists();
            let mut answer: libc::seccomp_notif_resp = std::mem::zeroed();
            answer.id = asked.id;
            if refuses {
                // Who waits for that hears of it.
                let _ = fs::write(file.with_extension("asked"), "asked");
                answer.error = -errno;
            } else {
                answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
            }
            libc::ioctl(listener, libc::c_ulong::from(SEND), &raw mut answer);
        }
    }
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// An init with nothing to hold.
    Plain,
    /// A semaphore of a folder, which is free.
    Holding,
    /// The same, when it is not free for a while.
    Waiting,
}

/// A folder with a semaphore of one permit.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {name: turn}\nspec: {permits: 1}\n";
    fs::write(folder.path().join("turn.yaml"), manifest).unwrap();
    folder
}

pub(crate) fn with_turn(run: Run, folder: &Path) -> Run {
    run.flags(&format!("--local {} --semaphore turn", folder.display()))
}

/// How a command that ends with 3 does.
fn outcome(case: Case, prepare: impl FnOnce(Run) -> Run) -> Ended {
    let command = prepare(sh("exit 3"));
    if case == Case::Plain {
        return command.end();
    }
    let folder = folder();
    if case == Case::Holding {
        return with_turn(command, folder.path()).end();
    }
    let mut holder = with_turn(sh("echo; exec sleep 1000"), folder.path()).start();
    holder.line();
    let mut waiter = with_turn(command, folder.path()).start();
    let log = waiter.read_log(["waiting for semaphore turn", "trying again"]);
    holder.signal(TERM);
    holder.end();
    let ended = waiter.end();
    Ended { stderr: log + &ended.stderr, ..ended }
}

/// Nothing comes of a call that is refused: it is not needed, or there is another way.
const WORKS: &str = "";

#[test]
fn what_is_refused_is_not_needed_or_is_named() {
    use Errno::{EINVAL, ENOSYS, EPERM};
    let subreaper = "prctl(2) PR_SET_CHILD_SUBREAPER";
    let (parent_death, thread) = ("prctl(2) PR_SET_PDEATHSIG", "clone3(2)");
    for (what, call, errno, [plain, holding, waiting]) in [
        ("qemu-user", SUBREAPER, EINVAL, [WORKS, subreaper, subreaper]),
        ("a filter", SUBREAPER, EPERM, [WORKS, subreaper, subreaper]),
        ("pdeathsig", PARENT_DEATH, EPERM, [WORKS, parent_death, parent_death]),
        ("a name", NAME, EPERM, [WORKS; 3]),
        ("a child whose end is no signal", Call(libc::SYS_clone, Some(0)), EINVAL, [WORKS; 3]),
        ("clone3", THREAD, ENOSYS, [WORKS; 3]),
        // The C library falls back only on ENOSYS; in the static binary there is no such call.
        ("clone3 of an old filter", THREAD, EPERM, [WORKS, thread, thread]),
        ("pidfd_open", any(libc::SYS_pidfd_open), ENOSYS, [WORKS; 3]),
        ("close_range", any(libc::SYS_close_range), ENOSYS, [WORKS; 3]),
        ("close_range", any(libc::SYS_close_range), EPERM, [WORKS; 3]),
        ("memfd_create", any(libc::SYS_memfd_create), ENOSYS, [WORKS; 3]),
        ("statx", any(libc::SYS_statx), ENOSYS, [WORKS; 3]),
        ("statx", any(libc::SYS_statx), EPERM, [WORKS; 3]),
        ("faccessat2", any(libc::SYS_faccessat2), ENOSYS, [WORKS; 3]),
        ("getrandom", any(libc::SYS_getrandom), ENOSYS, [WORKS; 3]),
        ("timerfd_create", any(libc::SYS_timerfd_create), ENOSYS, [WORKS; 3]),
        ("timerfd_create", any(libc::SYS_timerfd_create), EINVAL, [WORKS; 3]),
        ("waitid", any(libc::SYS_waitid), ENOSYS, [WORKS; 3]),
        ("chdir", any(libc::SYS_chdir), EPERM, [WORKS; 3]),
        ("inotify_init1", any(libc::SYS_inotify_init1), ENOSYS, [WORKS; 3]),
        ("signalfd4", any(libc::SYS_signalfd4), ENOSYS, ["signalfd4(2)"; 3]),
        ("eventfd2", any(libc::SYS_eventfd2), ENOSYS, [WORKS, "eventfd(2)", "eventfd(2)"]),
        ("epoll_create1", any(libc::SYS_epoll_create1), ENOSYS, [WORKS, "epoll_create1(2)", "epoll_create1(2)"]),
        ("pipe2", any(libc::SYS_pipe2), ENOSYS, ["pipe2(2)"; 3]),
        ("setpgid", any(libc::SYS_setpgid), EPERM, ["setpgid(2)"; 3]),
        // With anything to hold the watchdog comes first.
        ("fork", FORK, EPERM, ["fork(2)", "clone(2)", "clone(2)"]),
    ] {
        for (case, expected) in [(Case::Plain, plain), (Case::Holding, holding), (Case::Waiting, waiting)] {
            let ended = outcome(case, |run| run.refused(call, errno, None));
            let code = if expected == WORKS { 3 } else { 70 };
            assert_eq!(ended.code(), code, "{what}, {errno}, {case:?}: {}", ended.stderr);
            assert!(ended.stderr.contains(expected), "{what}, {errno}, {case:?}: {}", ended.stderr);
            let named = expected == WORKS || ended.stderr.contains(&errno.to_string());
            assert!(named && !ended.stderr.contains("defect"), "{what}, {errno}, {case:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn pid_1_needs_no_subreaper() {
    for case in [Case::Plain, Case::Holding] {
        let ended = outcome(case, |run| run.in_pid_1().refused(SUBREAPER, Errno::EINVAL, None));
        assert_eq!(ended.code(), 3, "{case:?}: {}", ended.stderr);
    }
}

#[test]
fn without_a_timer_of_the_kernels_the_grace_is_kept() {
    let run = sh("trap '' TERM; (setsid sleep 1000 &); exit 0").flags("--grace 300ms");
    let ended = run.refused(any(libc::SYS_timerfd_create), Errno::ENOSYS, None).end();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("killed what had not ended in time"), "{}", ended.stderr);
}

/// Starts a run while something is refused, and lets it go on when that is in its log.
fn refused_for_a_moment(case: Case, call: Call, errno: Errno) -> Ended {
    within(MEANWHILE, || {
        let (folder, there) = (folder(), tempfile::NamedTempFile::new().unwrap());
        let run = sh("exit 3").flags("-v").refused(call, errno, Some(there.path()));
        let run = if case == Case::Plain { run } else { with_turn(run, folder.path()) };
        let ((run, log), took) = timed(|| {
            let mut run = run.start();
            let log = run.read_log(["trying again"]);
            drop(there);
            (run, log)
        });
        let ended = run.end();
        (Ended { stderr: log + &ended.stderr, ..ended }, took)
    })
}

#[test]
fn what_is_refused_for_a_moment_is_tried_again() {
    use Errno::{EAGAIN, EMFILE, ENFILE, ENOMEM};
    for (what, case, call, errno) in [
        ("a process", Case::Plain, FORK, EAGAIN),
        ("a process", Case::Holding, FORK, EAGAIN),
        ("a process", Case::Plain, FORK, ENOMEM),
        ("a descriptor before the command", Case::Plain, any(libc::SYS_pipe2), EMFILE),
        ("a descriptor for signals", Case::Plain, any(libc::SYS_signalfd4), ENFILE),
        ("a descriptor for signals", Case::Holding, any(libc::SYS_signalfd4), EMFILE),
        ("a thread", Case::Holding, THREAD, EAGAIN),
        ("a descriptor to wait with", Case::Holding, any(libc::SYS_epoll_create1), ENFILE),
    ] {
        let ended = refused_for_a_moment(case, call, errno);
        assert_eq!(ended.code(), 3, "{what}, {errno}, {case:?}: {}", ended.stderr);
    }
}

#[test]
fn a_waiter_that_gets_no_thread_for_a_moment_goes_on_waiting() {
    let (folder, there) = (folder(), tempfile::tempdir().unwrap());
    let mut holder = with_turn(sh("echo; exec sleep 1000"), folder.path()).start();
    holder.line();
    let refusing = there.path().join("refusing");
    let mut waiter = with_turn(sh("exit 3"), folder.path()).refused(THREAD, Errno::EAGAIN, Some(&refusing)).start();
    let log = waiter.read_log(["next in line\n"]);
    fs::write(&refusing, "").unwrap();
    holder.signal(TERM);
    holder.end();
    let log = log + &waiter.read_log(["cannot start a thread"]);
    fs::remove_file(&refusing).unwrap();
    let ended = waiter.end();
    assert_eq!(ended.code(), 3, "{log}{}", ended.stderr);
}

#[test]
fn a_signal_ends_the_trying() {
    for (call, errno) in [(FORK, Errno::EAGAIN), (any(libc::SYS_signalfd4), Errno::ENFILE)] {
        let there = tempfile::NamedTempFile::new().unwrap();
        let run = sh("exit 3").flags("-v").refused(call, errno, Some(there.path()));
        let (ended, log) = within(MEANWHILE, || {
            let ((run, log), took) = timed(|| {
                let mut run = run.start();
                let log = run.read_log(["trying again"]);
                run.signal(TERM);
                (run, log)
            });
            ((run.end(), log), took)
        });
        assert_eq!(ended.code(), 128 + TERM, "{log}{}", ended.stderr);
    }
}

#[test]
fn what_stays_refused_is_named_and_not_the_commands_fault() {
    for (call, errno, expected) in [
        (FORK, Errno::EAGAIN, "fork(2): EAGAIN"),
        (any(libc::SYS_pipe2), Errno::EMFILE, "pipe2(2): EMFILE"),
        (any(libc::SYS_signalfd4), Errno::ENOMEM, "signalfd4(2): ENOMEM"),
    ] {
        let ended = sh("exit 3").refused(call, errno, None).end();
        assert_eq!(ended.code(), 70, "{errno}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected) && ended.stderr.contains("limit"), "{}", ended.stderr);
    }
}

#[test]
fn standard_streams_that_are_closed_stay_closed_also_without_dev() {
    let script = "for n in 0 1 2; do [ -e /proc/self/fd/$n ] || printf $n >&9; done";
    for (streams, expected) in [("<&-", "0"), (">&-", "1"), ("<&- >&-", "01"), ("<&- >&- 2>&-", "012")] {
        for dev in ["", "mount -t tmpfs none /dev &&"] {
            let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
            let run = sh(script).under(&format!("unshare {rootless} --mount"));
            let ended = run.after(&format!("{dev} exec \"$@\" 9>&1 {streams}")).end();
            assert_eq!((ended.code(), ended.stdout.as_str()), (0, expected), "{streams} {dev}: {}", ended.stderr);
        }
    }
}

#[test]
fn leftovers_in_the_commands_group_are_ended_without_proc() {
    let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    // The one that does not mind TERM has said so before the command ends.
    let deaf = "{ (trap '' TERM; echo deaf; exec sleep 1000 >/dev/null) & } | read -r _";
    let run = sh(&format!("{deaf}; sleep 1000 & exit 3")).flags("--grace 200ms");
    let ended =
        run.under(&format!("unshare {rootless} --mount")).after("mount -t tmpfs none /proc && exec \"$@\"").end();
    assert_eq!(ended.code(), 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("no proc filesystem is mounted on /proc"), "{}", ended.stderr);
    assert!(ended.stderr.contains("killed what had not ended in time"), "{}", ended.stderr);
}

#[test]
fn a_file_that_is_open_for_writing_is_waited_for() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let (ended, log) = within(MEANWHILE, || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 3\n").unwrap();
        let ((run, log), took) = timed(|| {
            let mut run = run([path.to_str().unwrap()]).start();
            let log = run.read_log(["open for writing; trying again"]);
            drop(file);
            (run, log)
        });
        ((run.end(), log), took)
    });
    assert_eq!(ended.code(), 3, "{log}{}", ended.stderr);
}

#[test]
fn too_large_an_environment_is_named_with_its_size() {
    let folder = folder();
    let mut holder = with_turn(sh("echo; exec sleep 1000"), folder.path()).start();
    holder.line();
    let large = "x".repeat(100_000);
    let run = sh("exit 3").env("SOME_SERVICE", &large).env("ANOTHER_SERVICE", &large);
    let mut waiter = with_turn(run, folder.path()).start();
    let log = waiter.read_log(["next in line"]);
    // The kernel takes a quarter of the stack for them, and 128 KiB in any case.
    let limit = format!("--pid {} --stack=65536", waiter.pid());
    let limited = Command::new("prlimit").args(limit.split(' ')).status().expect("prlimit, of util-linux");
    assert!(limited.success());
    holder.signal(TERM);
    holder.end();
    let ended = waiter.end();
    assert_eq!(ended.code(), 126, "{log}{}", ended.stderr);
    assert!(ended.stderr.contains("3 arguments (") && ended.stderr.contains("enableServiceLinks"), "{}", ended.stderr);
}

/// A script that runs `konductor-run` with a lease to hold, and a file as long as which exists what becomes the command
/// waits before it has the command's signal mask.
fn held_at_the_start(folder: &Path) -> (String, std::path::PathBuf) {
    let (hold, command, script) = (folder.join("hold"), folder.join("command"), folder.join("script"));
    let manifest = "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: it}\n";
    fs::write(folder.join("it.yaml"), manifest).unwrap();
    fs::write(&command, "echo started\nexec cat\n").unwrap();
    let flags = format!("--local {} --lease it", folder.display());
    let hold_it = format!("echo >{}\n", hold.display());
    fs::write(&script, hold_it + &format!("exec {KONDUCTOR_RUN} {flags} -- sh {}\n", command.display())).unwrap();
    (script.display().to_string(), hold)
}

#[test]
fn a_job_that_is_suspended_before_its_command_is_executed_stops_and_comes_back() {
    for shell in SHELLS {
        let folder = tempfile::tempdir().unwrap();
        let (script, hold) = held_at_the_start(folder.path());
        let mut terminal = Terminal::with_shell(shell);
        terminal.line(&format!("{} sh {script}", launcher(PARENT_DEATH, WAITS, Some(&hold))));
        let job = eventually("the shell has a job", || children(terminal.program.id() as i32).first().copied());
        // The watchdog, what becomes the command, and the witness, which is started when that has joined the job.
        eventually("the command is on its way", || (children(job).len() == 3).then_some(()));
        terminal.write(SUSPEND);
        terminal.expect("^Z");
        fs::remove_file(&hold).unwrap();
        terminal.expect("Stopped");
        terminal.expect(PROMPT);
        assert!(!terminal.shown.contains("started\r\n"), "{}", terminal.shown);
        terminal.line("fg");
        terminal.expect("started\r\n");
        terminal.expect_echo("one");
        terminal.write(INTERRUPT);
        terminal.expect_code(130);
    }
}

/// A run whose command is being executed, for as long as the second file exists: `PROGRAM`, the first.
fn slow_to_be_executed(folder: &Path) -> (Running, PathBuf, PathBuf) {
    let (program, hold) = (folder.join("program"), folder.join("hold"));
    fs::write(folder.join("it.yaml"), "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: it}\n").unwrap();
    executable(&program, "#!/bin/sh\necho started\n");
    let flags = format!("--local {} --lease it", folder.display());
    let mut before = run(["cat"]).flags(&flags).with_stdin();
    before.says("holding lease it");
    // konductor-run itself has to be executed first, and its command only when the lease is free.
    let slow = run([program.to_str().unwrap()]).flags(&flags);
    let mut slow = slow.under(&launcher(any(libc::SYS_execve), WAITS, Some(&hold))).start();
    slow.says("waiting for lease it");
    fs::write(&hold, "").unwrap();
    before.signal(TERM);
    before.end();
    (slow, program, hold)
}

/// Returns when the loop has seen to something else although the command is still on its way.
fn sees_to_its_watchdog(run: &Running) {
    let watchdog = || {
        let is_it =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "konductor-wdog\n");
        children(run.pid()).into_iter().find(is_it)
    };
    eventually("the command is on its way", || (children(run.pid()).len() == 2).then_some(()));
    let first = eventually("it has a watchdog", watchdog);
    signal_process(first, 9);
    eventually("another watchdog takes its place", || watchdog().filter(|next| *next != first));
}

#[test]
fn while_a_file_is_slow_to_be_executed_all_else_is_seen_to() {
    let folder = tempfile::tempdir().unwrap();
    let (run, _, hold) = slow_to_be_executed(folder.path());
    sees_to_its_watchdog(&run);
    fs::remove_file(&hold).unwrap();
    let ended = run.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "started\n"), "{}", ended.stderr);
}

#[test]
fn a_file_that_is_gone_when_it_is_executed_at_last_is_the_error_that_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (run, program, hold) = slow_to_be_executed(folder.path());
    sees_to_its_watchdog(&run);
    fs::remove_file(&program).unwrap();
    fs::remove_file(&hold).unwrap();
    let ended = run.end();
    assert_eq!(ended.code(), 127, "{}", ended.stderr);
    let error = format!("cannot execute {}: No such file or directory", program.display());
    assert!(ended.stderr.contains(&error), "{}", ended.stderr);
}

#[test]
fn a_signal_to_a_command_that_is_slow_to_be_executed_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, _, hold) = slow_to_be_executed(folder.path());
    sees_to_its_watchdog(&run);
    run.signal(TERM);
    eventually("it ends", || run.0.try_wait().unwrap());
    // Who has the call wait ends, and has what it says open until then.
    fs::remove_file(&hold).unwrap();
    let ended = run.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (128 + TERM, ""), "{}", ended.stderr);
}

/// The command's process has not made its group when the signal comes.
#[test]
fn a_signal_that_comes_before_the_commands_group_reaches_it() {
    let folder = folder();
    let hold = folder.path().join("hold");
    fs::write(&hold, "").unwrap();
    let own_group = Call(libc::SYS_setpgid, Some(0));
    let run = with_turn(sh("echo ran; exec sleep 1000"), folder.path());
    let run = run.under(&launcher(own_group, WAITS, Some(&hold))).start();
    sees_to_its_watchdog(&run);
    run.signal(TERM);
    eventually("it is forwarded", || {
        let command = children(run.pid()).into_iter().find(|pid| is_pending(*pid, TERM))?;
        Some(command)
    });
    fs::remove_file(&hold).unwrap();
    let ended = run.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (128 + TERM, ""), "{}", ended.stderr);
}

/// Whether this signal waits for the process.
fn is_pending(pid: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    pending & 1 << (signal - 1) != 0
}

#[test]
fn pid_1_in_a_terminal_continues_a_command_that_is_stopped_before_it_is_executed() {
    let folder = tempfile::tempdir().unwrap();
    let (script, hold) = held_at_the_start(folder.path());
    let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    let unshare = format!("unshare {rootless} --fork --pid --mount-proc --kill-child setsid --ctty");
    let launcher = launcher(PARENT_DEATH, WAITS, Some(&hold));
    let mut terminal = Terminal::with(&format!("{launcher} {unshare} sh {script}"));
    eventually("the command has the terminal", || {
        let init = children(terminal.program.id() as i32).first().copied()?;
        let foreground = nix::unistd::tcgetpgrp(&terminal.near).ok()?;
        children(init).contains(&foreground.as_raw()).then_some(())
    });
    terminal.write(SUSPEND);
    terminal.expect("^Z");
    fs::remove_file(&hold).unwrap();
    // Nobody else could continue it.
    terminal.expect("started\r\n");
    terminal.expect_echo("one");
    terminal.write(INTERRUPT);
    let ended = eventually("it ends", || terminal.program.try_wait().unwrap());
    assert_eq!(ended.code(), Some(130), "{}", terminal.shown);
}

#[test]
fn a_command_joins_the_job_also_where_nobody_says_which_signals_wait() {
    let mut terminal = Terminal::with_shell(SHELLS[0]);
    let launcher = launcher(any(libc::SYS_rt_sigpending), "38", None);
    terminal.line(&format!("{launcher} {KONDUCTOR_RUN} -- sh -c 'echo star\"\"ted; exec cat'"));
    terminal.expect("started\r\n");
    terminal.expect_echo("one");
    terminal.write(INTERRUPT);
    terminal.expect_code(130);
}

#[test]
fn a_job_has_a_witness_also_where_the_end_of_each_child_is_a_signal() {
    let mut terminal = Terminal::with_shell(SHELLS[0]);
    let launcher = launcher(Call(libc::SYS_clone, Some(0)), &(Errno::EINVAL as i32).to_string(), None);
    terminal.line(&format!("{launcher} {KONDUCTOR_RUN} -- sh -c 'echo star\"\"ted; read line; exit 3'"));
    terminal.expect("started\r\n");
    let job = children(terminal.program.id() as i32)[0];
    let named =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "konductor-group\n");
    eventually("it has a witness", || children(job).iter().any(named).then_some(()));
    // It is not waited for as if it were the command's.
    terminal.line("");
    terminal.expect_code(3);
}

#[test]
fn a_witness_that_is_late_is_waited_for() {
    // One that is ten seconds late is given up.
    let lines = within(Duration::from_secs(8), || {
        let folder = tempfile::tempdir().unwrap();
        let (log, hold) = (folder.path().join("log"), folder.path().join("hold"));
        fs::write(&hold, "").unwrap();
        let own = env::current_exe().unwrap();
        let mut terminal = Terminal::with_shell(SHELLS[0]);
        // With nothing to hold it is the witness alone that has a name to give itself.
        let launcher = launcher(NAME, WAITS, Some(&hold));
        let command = format!("{} actor:receiver >{}", own.display(), log.display());
        terminal.line(&format!("{launcher} {KONDUCTOR_RUN} -- {command}"));
        let lines = || fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        eventually("the command listens", || (lines().len() == 1).then_some(()));
        let job = children(terminal.program.id() as i32)[0];
        let ((), took) = timed(|| {
            signal_process(-job, 10);
            eventually("the signal arrives", || (lines().len() == 2).then_some(()));
            // Longer than any witness takes that gets to run.
            assert_eq!(run(["sleep", "3"]).code(), 0);
            fs::remove_file(&hold).unwrap();
        });
        signal_process(job, 64);
        eventually("it ends", || (!is_alive(job)).then_some(()));
        (lines(), took)
    });
    assert_eq!(lines[1..], ["10", "64"]);
}

#[test]
fn a_witness_that_does_not_answer_is_given_up_whatever_else_happens() {
    let folder = tempfile::tempdir().unwrap();
    let (log, refuse) = (folder.path().join("log"), folder.path().join("refuse"));
    fs::write(folder.path().join("it.yaml"), "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: it}\n")
        .unwrap();
    let own = env::current_exe().unwrap();
    let mut terminal = Terminal::with_shell(SHELLS[0]);
    // Without a timer of the kernel's it looks every moment, and a watchdog that cannot be had is tried every second.
    terminal.line(&format!(
        "{} {} {KONDUCTOR_RUN} --local {} --lease it -- {} actor:receiver >{}",
        launcher(any(libc::SYS_timerfd_create), "38", None),
        launcher(FORK, "1", Some(&refuse)),
        folder.path().display(),
        own.display(),
        log.display()
    ));
    let lines = || fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    eventually("the command listens", || (lines().len() == 1).then_some(()));
    let job = children(terminal.program.id() as i32)[0];
    let named = |name: &str| {
        let is_it = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
        children(job).into_iter().find(is_it)
    };
    fs::write(&refuse, "").unwrap();
    let watchdog = eventually("it has a watchdog", || named("konductor-wdog"));
    signal_process(watchdog, 9);
    eventually("there is no watchdog", || (!children(job).contains(&watchdog)).then_some(()));
    signal_process(eventually("it has a witness", || named("konductor-group")), 19);
    signal_process(job, 10);
    eventually("the signal arrives", || (lines().len() == 2).then_some(()));
    signal_process(job, 64);
    eventually("it ends", || (!is_alive(job)).then_some(()));
    assert_eq!(lines()[1..], ["10", "64"]);
}
