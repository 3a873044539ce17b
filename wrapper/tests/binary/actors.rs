//! Programs for `konductor-run` to run, where a shell is not exact enough. They are this very binary: it becomes one of
//! them before the test harness starts, when its first argument says so, and so has one thread and nothing of the
//! harness in it.
#![expect(unsafe_code, reason = "signals as the kernel has them, and processes that are forked and not executed")]

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    process::exit,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{ForkResult, Pid, close, execve, fork, getpid, getsid, pause, pipe, setsid},
};

use crate::harness::{Run, leave_terminal, run};

/// What the first argument begins with.
const ACTOR: &str = "actor:";

/// The signal that ends the receiver: the last in the kernel's order.
pub(crate) const LAST: i32 = 64;

/// A run of an actor.
pub(crate) fn act(name: &str, arguments: &str) -> Run {
    let own = env::current_exe().expect("a process has an executable");
    run([own.to_str().expect("its path is text"), &format!("{ACTOR}{name}")]).arguments(arguments)
}

#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = {
    extern "C" fn enter() {
        let mut arguments = env::args().skip(1);
        let first = arguments.next().unwrap_or_default();
        let argument = arguments.next().unwrap_or_default();
        match first.strip_prefix(ACTOR) {
            Some("receiver") => receive(),
            Some("continued") => continued(),
            Some("screen") => screen(),
            Some("orphans") => orphans(argument.parse().expect("a number")),
            Some("listener") => listen(&argument),
            Some("daemon") => daemon(),
            Some("context") => context(),
            Some("odd") => odd(),
            Some("hidden") => hidden(),
            Some("refuse") => crate::refused::launch(),
            Some(other) => panic!("no such actor: {other}"),
            None => leave_terminal(),
        }
    }
    enter
};

/// Is not to be dumped, as who keeps secrets is: where /proc hides other processes, it hides this one also from its own
/// user. Says its process id.
fn hidden() -> ! {
    prctl::set_dumpable(false).unwrap();
    say(&getpid().to_string());
    loop {
        pause();
    }
}

/// Says each signal that it receives, all of them blocked, those of the C library too, until the last one: its number
/// and, when it was queued, its value and the sender.
fn receive() {
    let all = u64::MAX;
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the call reads as many bytes as it is told; every pattern of bits is a set.
    let set = unsafe {
        assert_eq!(libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, size_of_val(&all)), 0);
        set.as_mut_ptr().write_bytes(u8::MAX, 1);
        SigSet::from_sigset_t_unchecked(set.assume_init())
    };
    let signals = SignalFd::with_flags(&set, SfdFlags::empty()).unwrap();
    say(&format!("ready {}", getpid()));
    loop {
        let info = signals.read_signal().unwrap().expect("the read blocks");
        let signal = info.ssi_signo as i32;
        say(&match info.ssi_code {
            libc::SI_QUEUE => format!("{signal} {} {}", info.ssi_int, info.ssi_pid),
            _ => signal.to_string(),
        });
        if signal == LAST {
            exit(0)
        }
    }
}

/// What ends [`listen`], and what it is asked by.
pub(crate) const MARK: i32 = 40;
pub(crate) const READ: i32 = 41;
pub(crate) const CHANGE: i32 = 42;

/// Writes each signal that it receives to a file, and then does as a program that was written with care: it stops when
/// the terminal asks for it, and at the end dies by the last signal that asked for that. Asked to, it reads a line from
/// the terminal, or changes the terminal.
fn listen(path: &str) -> ! {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    let mut hear = |what: &str| file.write_all(format!("{what}\n").as_bytes()).unwrap();
    prctl::set_dumpable(false).unwrap();
    let all = SigSet::all();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&all), None).unwrap();
    let signals = SignalFd::with_flags(&all, SfdFlags::empty()).unwrap();
    let terminal = || fs::OpenOptions::new().read(true).write(true).open("/dev/tty").unwrap();
    let mut last = None;
    hear("ready");
    loop {
        let signal = signals.read_signal().unwrap().expect("the read blocks").ssi_signo as i32;
        let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.to_string());
        match signal {
            READ => {
                let mut line = String::new();
                let terminal = terminal();
                let read = by_default(&[Signal::SIGTTIN], || io::BufReader::new(terminal).read_line(&mut line));
                hear(&format!("read {:?} {line:?}", read.map_err(|error| error.raw_os_error())));
            }
            CHANGE => {
                let terminal = terminal();
                let settings = nix::sys::termios::tcgetattr(&terminal).unwrap();
                let now = nix::sys::termios::SetArg::TCSANOW;
                let changed =
                    by_default(&[Signal::SIGTTOU], || nix::sys::termios::tcsetattr(&terminal, now, &settings));
                hear(&format!("changed {changed:?}"));
            }
            LAST => match last {
                None => exit(0),
                Some(signal) => {
                    by_default(&[signal], || kill(getpid(), signal).unwrap());
                    // PID 1 is not ended by it.
                    exit(128 + signal as i32)
                }
            },
            _ => hear(&name),
        }
        match signal {
            libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM => last = Signal::try_from(signal).ok(),
            libc::SIGTSTP => by_default(&[Signal::SIGTSTP], || kill(getpid(), Signal::SIGTSTP).unwrap()),
            _ => {}
        }
    }
}

/// Does something while signals have their default actions.
fn by_default<T>(signals: &[Signal], act: impl FnOnce() -> T) -> T {
    let set: SigSet = signals.iter().copied().collect();
    for signal in signals {
        // SAFETY: the default is no handler.
        unsafe { nix::sys::signal::signal(*signal, nix::sys::signal::SigHandler::SigDfl) }.unwrap();
    }
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None).unwrap();
    let outcome = act();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None).unwrap();
    outcome
}

/// Executes its arguments with an environment that no shell could make.
fn odd() {
    let words: Vec<_> = env::args().skip(2).map(|word| CString::new(word).unwrap()).collect();
    let environment = [c"A=1", c"no equals sign", c"", c"=", c"=no name", c"==name", c"B="];
    let Err(error) = execve(&words[0], &words, &environment);
    panic!("{error}")
}

/// Says when it is continued. Everything else does what it does by default. (A shell may be stopped between the start
/// of a child and the child's program, and then neither can say so.)
fn continued() {
    let mut only = SigSet::empty();
    only.add(Signal::SIGCONT);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&only), None).unwrap();
    say("ready");
    loop {
        only.wait().unwrap();
        say("continued");
    }
}

/// Asked to stop by the terminal, it cleans up first and then stops itself, as programs of the whole screen do.
fn screen() {
    let mut only = SigSet::empty();
    only.add(Signal::SIGTSTP);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&only), None).unwrap();
    say("ready");
    loop {
        only.wait().unwrap();
        say("cleaned");
        kill(getpid(), Signal::SIGSTOP).unwrap();
        say("back");
    }
}

/// So many orphans, that all end when a line is written to it. It ends when its input does.
fn orphans(count: u32) {
    let (reader, writer) = pipe().unwrap();
    // SAFETY: this process has one thread.
    if let ForkResult::Child = unsafe { fork() }.unwrap() {
        close(writer).unwrap();
        for _ in 0..count {
            // SAFETY: as above; the child ends without running anything of its parent's.
            if let ForkResult::Child = unsafe { fork() }.expect("the machine takes that many processes") {
                let mut byte = 0_u8;
                unsafe {
                    libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                    libc::_exit(0)
                }
            }
        }
        exit(0);
    }
    drop(reader);
    nix::sys::wait::wait().unwrap();
    say("ready");
    read_line();
    drop(writer);
    say("released");
    read_line();
    exit(6)
}

/// A daemon of the old school: two forks, a session of its own, no descriptors, deaf to every signal that can be
/// ignored.
fn daemon() {
    for depth in 0..2 {
        // SAFETY: this process has one thread.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { .. } if depth == 0 => {
                // Until the daemon has said its number.
                read_line();
                exit(4)
            }
            ForkResult::Parent { .. } => exit(0),
            ForkResult::Child => drop(setsid()),
        }
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap();
    env::set_current_dir("/").unwrap();
    say(&getpid().to_string());
    for descriptor in 0..3 {
        // SAFETY: nothing uses them any more.
        unsafe { libc::close(descriptor) };
    }
    loop {
        pause();
    }
}

/// All that a process finds out about itself.
fn context() {
    let mut facts = BTreeMap::new();
    // What differs from process to process, and from moment to moment.
    let transient = ["Name", "Pid", "Tgid", "Ngid", "PPid", "NStgid", "NSpid", "NSpgid", "Vm", "Rss", "Hugetlb"];
    let transient = |line: &&str| {
        let counters = ["voluntary_ctxt", "nonvoluntary_ctxt", "Threads", "State", "SigQ"];
        !transient.iter().chain(&counters).any(|word| line.starts_with(word))
    };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for (name, value) in status.lines().filter(transient).filter_map(|line| line.split_once(':')) {
        facts.insert(format!("status {name}"), value.trim().to_owned());
    }
    for file in ["limits", "oom_score_adj", "timerslack_ns", "personality", "cgroup", "coredump_filter", "uid_map"] {
        facts.insert(file.to_owned(), fs::read_to_string(Path::new("/proc/self").join(file)).unwrap_or_default());
    }
    for link in ["cwd", "root"] {
        facts.insert(link.to_owned(), shown(&format!("/proc/self/{link}")));
    }
    for space in fs::read_dir("/proc/self/ns").unwrap() {
        let path = space.unwrap().path();
        facts.insert(path.display().to_string(), shown(path.to_str().unwrap()));
    }
    for number in 0..1024 {
        // SAFETY: asks about numbers; they need not be descriptors.
        let (flags, status) = unsafe { (libc::fcntl(number, libc::F_GETFD), libc::fcntl(number, libc::F_GETFL)) };
        if flags != -1 {
            let target = shown(&format!("/proc/self/fd/{number}"));
            // A pipe's number differs from run to run.
            let target = target.split('[').next().unwrap_or_default();
            facts.insert(format!("descriptor {number}"), format!("{target} {flags} {status:o}"));
        }
    }
    for (name, value) in env::vars_os() {
        facts.insert(format!("variable {}", name.display()), value.display().to_string());
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    for (name, at) in [("terminal", 4), ("exit signal", 35), ("real-time priority", 37), ("policy", 38), ("nice", 16)] {
        facts.insert(name.to_owned(), fields[at].to_owned());
    }
    facts.insert("session leader".to_owned(), (getsid(None).unwrap() == getpid()).to_string());
    facts.insert("group of its own".to_owned(), (nix::unistd::getpgrp() == getpid()).to_string());
    facts.insert("parent's death".to_owned(), format!("{:?}", prctl::get_pdeathsig().unwrap()));
    facts.insert("subreaper".to_owned(), prctl::get_child_subreaper().unwrap().to_string());
    facts.insert("dumpable".to_owned(), prctl::get_dumpable().unwrap().to_string());
    facts.insert("keeps capabilities".to_owned(), prctl::get_keepcaps().unwrap().to_string());
    let blocked = (1..=LAST).filter(|signal| is_pending(*signal));
    facts.insert("pending".to_owned(), format!("{:?}", blocked.collect::<Vec<_>>()));
    // SAFETY: the call takes no pointers.
    let io_priority = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) };
    facts.insert("I/O priority".to_owned(), io_priority.to_string());
    let told: Vec<_> = facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    say(&told.join("\n"));
    exit(0)
}

fn is_pending(signal: i32) -> bool {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the call writes the set.
    unsafe { libc::sigpending(set.as_mut_ptr()) == 0 && libc::sigismember(set.as_ptr(), signal) == 1 }
}

fn shown(link: &str) -> String {
    fs::read_link(link).map_or_else(|error| error.to_string(), |target| target.display().to_string())
}

/// A line on stdout.
fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    // A stream that is closed is one of the cases.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Waits for a line, or for the end of the input.
fn read_line() {
    let stdin = io::stdin();
    poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
    let mut byte = [0];
    while io::stdin().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {}
}

/// Waits until a process is gone, also one that is not a child.
pub(crate) fn is_gone(pid: i32) -> bool {
    nix::sys::signal::kill(Pid::from_raw(pid), None).is_err()
}
