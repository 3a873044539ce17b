//! What an init owes its command: signals, a clean context, reaping, and nothing left behind.

use std::process::Stdio;

use crate::harness::{run, sh};

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
fn a_log_that_nobody_reads_stalls_nothing() {
    let fill = "dd if=/dev/zero of=/dev/stderr oflag=nonblock bs=4096 count=1000 2>/dev/null; exit 3";
    let mut run = sh(fill).flags("-vv").start();
    let stderr = run.0.stderr.take();
    assert_eq!(run.end().code(), 3);
    drop(stderr);
}

#[test]
fn a_closed_log_is_not_the_commands_business() {
    let mut run = sh("echo; read -r _; exit 3")
        .flags("-v")
        .command()
        .stdin(Stdio::piped())
        .spawn()
        .map(crate::harness::Running)
        .unwrap();
    drop(run.0.stderr.take());
    run.line();
    run.signal(28);
    assert_eq!(run.end().code(), 3);
}
