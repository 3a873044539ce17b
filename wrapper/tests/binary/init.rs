//! What an init owes its command: signals, a clean context, reaping, and nothing left behind.

use std::process::{Command, Stdio};

use crate::harness::{KONDUCTOR_RUN, Running, children, eventually, is_alive, run, sh};

#[test]
fn the_exit_code_survives_an_ignored_sigchld() {
    assert_eq!(sh("exit 7").under("env --ignore-signal=CHLD").code(), 7);
}

#[test]
fn the_command_has_a_group_of_its_own_and_its_own_name() {
    let ended = sh("read -r pid _ _ _ group _ </proc/self/stat; [ $pid = $group ] && echo own").end();
    assert_eq!(ended.stdout.trim(), "own");
    assert_eq!(run(["sh", "-c", "echo $0", "zero"]).end().stdout, "zero\n");
}

#[test]
fn the_parents_death_is_a_signal_when_wanted() {
    // The parent runs nothing else, so that it is the one that is asked for.
    let script = format!(
        "{KONDUCTOR_RUN} --parent-death-signal USR1 -- sh -c 'trap \"exit 3\" USR1; echo $$; \
                          while :; do sleep 0.01; done' & read -r _"
    );
    let mut parent = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let command: i32 = parent.line().parse().expect("a process id");
    let konductor_run = children(parent.pid())[0];
    assert!(is_alive(command));
    parent.signal(9);
    eventually("both have ended", || (!is_alive(command) && !is_alive(konductor_run)).then_some(()));
}

#[test]
fn a_thread_of_the_parent_that_ends_is_not_the_parents_death() {
    let script = "trap 'exit 3' USR1; echo; read -r _; exit 4";
    let spawn = || (sh(script).flags("--parent-death-signal USR1").with_stdin(), nix::unistd::gettid());
    // The kernel's signal comes with the end of the thread that has started it.
    let (mut run, thread) = std::thread::spawn(spawn).join().unwrap();
    let task = format!("/proc/self/task/{thread}");
    eventually("the thread is gone", || (!std::path::Path::new(&task).exists()).then_some(()));
    run.line();
    assert_eq!(run.end().code(), 4);
}

#[test]
fn a_signal_of_the_parents_own_is_forwarded() {
    let mut run =
        sh("trap 'exit 3' USR1; echo; while :; do sleep 0.01; done").flags("--parent-death-signal USR1").start();
    run.line();
    run.signal(10);
    assert_eq!(run.end().code(), 3);
}

#[test]
fn what_was_needed_only_to_start_is_given_back_while_the_command_runs() {
    let mut run = sh("echo; read -r _; exit 3").with_stdin();
    run.line();
    let resident = |field: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    eventually("half of it is given back", || (2 * resident("VmRSS:") < resident("VmHWM:")).then_some(()));
    run.write_line();
    assert_eq!(run.end().code(), 3);
}

#[test]
fn a_log_that_nobody_reads_stalls_nothing() {
    let fill = "dd if=/dev/zero of=/dev/stderr oflag=nonblock bs=4096 count=1000 2>/dev/null; exit 3";
    let mut run = sh(fill).flags("-vv").start();
    let stderr = run.0.stderr.take();
    assert_eq!(run.end().code(), 3);
    drop(stderr);
}

#[test]
fn a_closed_log_is_not_the_commands_business() {
    let mut run =
        sh("echo; read -r _; exit 3").flags("-v").command().stdin(Stdio::piped()).spawn().map(Running).unwrap();
    drop(run.0.stderr.take());
    run.line();
    run.signal(28);
    assert_eq!(run.end().code(), 3);
}
