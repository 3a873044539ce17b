//! The command's process tree: orphans reaped, leftovers ended or left alone, whatever sessions they have made.

use std::{fs, sync::Mutex, time::Duration};

use crate::{
    actors::{act, is_gone},
    harness::{KONDUCTOR_RUN, Run, children, eventually, is_alive, kill, sh, signal_process, timed, within},
};

const STOP: i32 = 19;
const CONT: i32 = 18;

/// Ten thousand at a time are enough for one machine.
static CROWD: Mutex<()> = Mutex::new(());

/// The processor time that a process has used.
fn processor(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is alive");
    let (_, fields) = stat.rsplit_once(") ").expect("its name ends");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    // Linux counts them in hundredths of a second, whatever its own clock is.
    Duration::from_millis(ticks * 10)
}

/// Ten thousand orphans that end at once, and how long it takes until the last of them is reaped.
fn reap_ten_thousand(prepared: &Run, in_pid_1: bool) -> Duration {
    let orphans = 10_000;
    let mut run = prepared.with_stdin();
    assert_eq!(run.line(), "ready");
    let konductor_run = if in_pid_1 { run.init() } else { run.pid() };
    eventually("they are ours", || (children(konductor_run).len() == orphans + 1).then_some(()));
    // It stands still until all are dead: the most work at once.
    signal_process(konductor_run, STOP);
    run.write_line();
    assert_eq!(run.line(), "released");
    for orphan in &children(konductor_run)[1..] {
        eventually("the orphan is dead", || (!is_alive(*orphan)).then_some(()));
    }
    let before = processor(konductor_run);
    signal_process(konductor_run, CONT);
    eventually("all are reaped", || (children(konductor_run).len() == 1).then_some(()));
    // Of its own time: how much of it a busy machine gives in a second is not its doing.
    let took = processor(konductor_run).saturating_sub(before);
    assert_eq!(run.end().code(), 6);
    took
}

#[test]
fn ten_thousand_orphans_are_reaped_within_a_second() {
    let _alone = CROWD.lock();
    let run = act("orphans", "10000");
    within(Duration::from_secs(1), || ((), reap_ten_thousand(&run, false)));
}

#[test]
fn ten_thousand_orphans_are_reaped_within_a_second_by_pid_1() {
    let _alone = CROWD.lock();
    let run = act("orphans", "10000").in_pid_1();
    within(Duration::from_secs(1), || ((), reap_ten_thousand(&run, true)));
}

#[test]
fn signals_are_forwarded_while_orphans_end_without_end() {
    // A tree that never stops making orphans starves nothing.
    let script = "trap 'exit 5' USR1; echo; while :; do (true &); done";
    let mut run = sh(script).start();
    run.line();
    run.signal(10);
    assert_eq!(run.end().code(), 5);
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    let mut run =
        sh("i=0; while [ $i -lt 500 ]; do (true &); i=$((i+1)); done; echo done; read -r _; exit 6").with_stdin();
    assert_eq!(run.line(), "done");
    eventually("only the command is left", || (children(run.pid()).len() == 1).then_some(()));
    assert_eq!(run.end().code(), 6);
}

#[test]
fn daemons_are_found_and_ended() {
    let mut run = act("daemon", "").flags("--grace 100ms").with_stdin();
    let daemon = run.line().parse().expect("a process id");
    assert!(!is_gone(daemon));
    let ended = run.end();
    assert_eq!(ended.code(), 4);
    assert!(is_gone(daemon));
    assert!(ended.stderr.contains("killed what had not ended in time"), "{}", ended.stderr);
}

#[test]
fn daemons_are_found_and_ended_by_pid_1() {
    let mut run = act("daemon", "").flags("--grace 100ms").in_pid_1().with_stdin();
    let daemon: i32 = run.line().parse().expect("a process id");
    assert!(daemon > 1);
    let ended = run.end();
    assert_eq!(ended.code(), 4);
    assert!(ended.stderr.contains("killed what had not ended in time"), "{}", ended.stderr);
}

#[test]
fn leftovers_are_left_alone_when_wanted() {
    let mut run = sh("setsid sleep 1000 >/dev/null 2>&1 & echo $!; sleep 1001 >/dev/null 2>&1 & echo $!; exit 4")
        .flags("--leftovers leave --grace 100ms")
        .start();
    let left: Vec<i32> = (0..2).map(|_| run.line().parse().expect("a process id")).collect();
    let ended = run.end();
    assert_eq!((ended.code(), ended.stderr.as_str()), (4, ""));
    for pid in left {
        assert!(is_alive(pid));
        kill(pid);
    }
}

#[test]
fn what_the_command_leaves_behind_is_ended() {
    for (how, script) in [
        ("in its group", "sleep 1000 & echo $!; read -r _; exit 4"),
        ("in a session of its own", "setsid sleep 1000 & echo $!; read -r _; exit 4"),
        ("two sessions down", "setsid sh -c 'setsid sleep 1000 & echo $!; exec sleep 1000' & read -r _; exit 4"),
        ("stopped", "sleep 1000 & kill -STOP $!; echo $!; read -r _; exit 4"),
    ] {
        let mut run = sh(script).with_stdin();
        let left = run.line().parse().expect("a process id");
        assert!(is_alive(left), "{how}");
        assert_eq!(run.end().code(), 4, "{how}");
        assert!(!is_alive(left), "{how}");
    }
}

#[test]
fn leftovers_that_ignore_term_are_killed_after_the_grace() {
    let script = "trap '' TERM; setsid sleep 1000 & echo $!; exit 0";
    let (ended, took) = timed(|| sh(script).flags("--grace 300ms").end());
    assert_eq!(ended.code(), 0);
    assert!(!is_alive(ended.stdout.trim().parse().unwrap()));
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(ended.stderr.contains("killed what had not ended in time"), "{}", ended.stderr);
}

#[test]
fn a_tree_that_forks_while_it_is_killed_is_dead_in_the_end() {
    // Each one ignores TERM, has a session of its own, and keeps starting more like itself: three thousand in the end,
    // should nobody kill them for a while.
    let script = "export depth=0 fork='trap \"\" TERM; depth=$((depth+1)); i=0; \
                  while [ $depth -lt 8 ] && [ $i -lt 3 ]; do setsid sh -c \"sleep 0.02; \\$fork\" & \
                  i=$((i+1)); sleep 0.02; done; exec sleep 1000'; setsid sh -c \"$fork\" & sleep 0.3; exit 0";
    let mark = format!("konductor-test-{}", std::process::id());
    let ended = sh(script).env("MARK", &mark).flags("--grace 10ms").end();
    assert_eq!(ended.code(), 0);
    let left: Vec<_> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("environ")).ok())
        .filter(|environ| environ.windows(mark.len()).any(|part| part == mark.as_bytes()))
        .collect();
    assert_eq!(left.len(), 0);
}

#[test]
fn children_from_before_are_not_the_commands() {
    // As an entrypoint script does that pipes its log through something and then becomes konductor-run.
    let script = format!(
        "sleep 1000 >/dev/null 2>&1 & echo $!; exec {KONDUCTOR_RUN} -- sh -c 'setsid sleep 1000 & echo $!; exit 3'"
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let pids = String::from_utf8(output.stdout).unwrap();
    let pids: Vec<i32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!([is_alive(pids[0]), is_alive(pids[1])], [true, false]);
    kill(pids[0]);
}

#[test]
fn killing_konductor_run_with_nothing_held_leaves_the_command_alone() {
    let mut run = sh("echo $$; exec sleep 1000 >/dev/null 2>&1").start();
    let command = run.line().parse().unwrap();
    signal_process(run.pid(), 9);
    assert!(run.end().status.code().is_none());
    assert!(is_alive(command));
    kill(command);
}
