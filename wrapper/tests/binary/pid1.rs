//! As PID 1 of a PID namespace, which a container's entrypoint is.

use crate::{
    actors::{LAST, act},
    harness::{children, eventually, run, sh},
};

#[test]
fn exit_codes_are_passed_through() {
    for code in [0, 1, 7, 255] {
        assert_eq!(sh(&format!("exit {code}")).in_pid_1().code(), code);
    }
    assert_eq!(sh("kill -9 $$").in_pid_1().code(), 137);
    assert_eq!(run(["konductor-no-such-command"]).in_pid_1().code(), 127);
}

#[test]
fn each_signal_arrives_once_with_its_own_number() {
    let mut run = act("receiver", "").in_pid_1().start();
    assert!(run.line().starts_with("ready"));
    let init = run.init();
    for signal in (1..=LAST).filter(|signal| ![9, 17, 19].contains(signal)) {
        crate::harness::signal_process(init, signal);
        assert_eq!(run.line(), signal.to_string());
    }
    assert_eq!(run.end().code(), 0);
}

#[test]
fn death_by_a_signal_is_a_code() {
    // By default PID 1 is not killed by any, so it has no other way to tell.
    assert_eq!(sh("kill $$; sleep 1000").in_pid_1().end().status.code(), Some(143));
}

#[test]
fn it_is_pid_1_and_the_command_is_not() {
    let ended = sh("echo $PPID $$").in_pid_1().end();
    assert_eq!(ended.stdout, "1 2\n", "{}", ended.stderr);
}

#[test]
fn term_ends_the_command_although_pid_1_has_no_default_action() {
    let mut run = sh("trap 'exit 9' TERM; echo; while :; do sleep 0.01; done").in_pid_1().start();
    run.line();
    let init = eventually("unshare has forked", || children(run.pid()).first().copied());
    crate::harness::signal_process(init, 15);
    assert_eq!(run.end().code(), 9);
}

#[test]
fn orphans_are_reaped_and_leftovers_are_ended() {
    let script = "i=0; while [ $i -lt 100 ]; do (true &); i=$((i+1)); done; (trap '' TERM; setsid sleep 1000 &); \
                  setsid sleep 1000 & exit 3";
    assert_eq!(sh(script).flags("--grace 200ms").in_pid_1().code(), 3);
}

#[test]
fn it_needs_neither_root_nor_a_file_system_that_can_be_written() {
    // Two user namespaces, as each has one user: the outer one may mount, the inner one has nothing left to be root of.
    let prepare = "mount -o remount,bind,ro / && mount -t proc none /proc && \
                   exec unshare --user --map-user=65532 --map-group=65532 \"$@\"";
    let script = "id -u; [ $$ = 2 ]; LC_ALL=C touch /probe 2>&1 | grep -o 'Read-only file system'; \
                  grep CapEff /proc/self/status; (trap '' TERM; setsid sleep 1000 &); kill -TERM 1; sleep 1000";
    let run = sh(script).flags("--grace 100ms").under("unshare --user --map-root-user --mount --pid --fork");
    let ended = run.after(prepare).end();
    let expected = "65532\nRead-only file system\nCapEff:\t0000000000000000\n";
    assert_eq!((ended.code(), ended.stdout.as_str()), (143, expected), "{}", ended.stderr);
}

#[test]
fn leftovers_are_ended_without_proc() {
    let run = sh("(trap '' TERM; setsid sleep 1000 &); setsid sleep 1000 & exit 3").flags("--grace 200ms");
    let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    assert_eq!(run.under(&format!("unshare {rootless} --fork --pid --kill-child")).code(), 3);
}
