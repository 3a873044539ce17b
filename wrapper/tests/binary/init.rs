//! What an init owes its command: signals, a clean context, reaping, and nothing left behind.

use std::{fs, io::Write as _, process::Stdio, time::Duration};

use crate::harness::{KONDUCTOR_RUN, children, eventually, is_alive, kill, run, sh, signal_process, timed};

const TERM: i32 = 15;

#[test]
fn every_signal_reaches_the_command_as_often_as_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // The inner one says what it receives; its own command ignores everything.
    let mut outer = run([KONDUCTOR_RUN, "-v", "--", "env", "--ignore-signal", "sh", "-c", "echo; exec sleep 1000"])
        .command()
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .map(crate::harness::Running)
        .unwrap();
    outer.line();
    // All but KILL and STOP, CHLD which is ours, and 32 and 33 which are the C library's.
    let all = (1..=64).filter(|signal| ![9, 17, 19, 32, 33].contains(signal));
    let sent: Vec<i32> = all.chain([34; 200]).collect();
    let received = || fs::read_to_string(&log).unwrap().matches(": forwarding").count();
    for (before, signal) in sent.iter().enumerate() {
        outer.signal(*signal);
        if *signal < 34 {
            // The kernel merges a standard signal with one of its kind that waits; real-time ones queue.
            eventually("the signal is received", || (received() == before + 1).then_some(()));
        }
    }
    eventually("all are received", || (received() == sent.len()).then_some(()));
    let inner = children(outer.pid())[0];
    kill(children(inner)[0]);
    assert_eq!(outer.end().code(), 137);
    assert_eq!(fs::read_to_string(&log).unwrap().matches("signal 34: forwarding").count(), 201);
}

#[test]
fn the_whole_group_gets_the_signal() {
    let mut run = sh("trap 'echo parent; wait; exit 5' USR1; sh -c 'trap \"echo child; exit 0\" USR1; echo ready; \
                      while :; do sleep 0.01; done' & echo ready; while :; do sleep 0.01; done")
    .start();
    assert_eq!([run.line(), run.line()], ["ready", "ready"]);
    run.signal(10);
    let mut lines = [run.line(), run.line()];
    lines.sort();
    assert_eq!(lines, ["child", "parent"]);
    assert_eq!(run.end().code(), 5);
}

#[test]
fn a_signal_at_any_moment_is_never_lost() {
    let trials = 300;
    for trial in 0..trials {
        let run = run(["sleep", "1000"]).start();
        // From before the first instruction to well after the command's start.
        for _ in 0..trial * 40 {
            std::hint::spin_loop();
        }
        if trial % 3 == 0 {
            eventually("the command has been started", || (!children(run.pid()).is_empty()).then_some(()));
        }
        run.signal(TERM);
        let status = run.end().status;
        // Before its first instruction the process has the default action.
        let ended = status.code() == Some(143) || std::os::unix::process::ExitStatusExt::signal(&status) == Some(TERM);
        assert!(ended, "trial {trial}: {status:?}");
    }
}

#[test]
fn the_command_finds_what_it_would_find_without_us() {
    let script = "grep -E '^(Sig(Blk|Ign)|Groups|Umask|NoNewPrivs|Seccomp:)' /proc/self/status; pwd; umask; env | \
                  grep -v '^_=' | sort; ls /proc/$$/fd; cat /proc/self/oom_score_adj";
    for before in [
        "env",
        "env --ignore-signal=PIPE --ignore-signal=HUP",
        "env --ignore-signal=CHLD --block-signal=USR1",
        "env --default-signal --block-signal",
        "env --ignore-signal --block-signal=TERM",
    ] {
        let run = sh(script).under(before).env("KONDUCTOR_HELD", "outer");
        assert_eq!(run.end().stdout, run.bare().stdout, "{before}");
    }
}

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
fn orphans_are_reaped() {
    let mut run =
        sh("i=0; while [ $i -lt 500 ]; do (true &); i=$((i+1)); done; echo done; read -r _; exit 6").with_stdin();
    assert_eq!(run.line(), "done");
    eventually("only the command is left", || (children(run.pid()).len() == 1).then_some(()));
    assert_eq!(run.end().code(), 6);
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
    // Each one ignores TERM, has a session of its own, and keeps starting more like itself.
    let script = "export fork='trap \"\" TERM; i=0; while [ $i -lt 3 ]; do setsid sh -c \"sleep 0.02; \\$fork\" & \
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

#[test]
fn a_terminals_foreground_is_lent_and_taken_back() {
    let look = "read -r pid _ _ _ group _ _ front _ </proc/self/stat; [ $group = $front ] && echo $pid is in front";
    let script = format!("{look}; {KONDUCTOR_RUN} -- sh -c '{look}; read -r line; echo got $line'; {look}");
    let ended = std::process::Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut terminal| {
            terminal.stdin.as_mut().unwrap().write_all(b"typed\n")?;
            terminal.wait_with_output()
        })
        .expect("script is there (package bsdutils)");
    let shown = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(shown.matches("is in front").count(), 3, "{shown}");
    assert!(shown.contains("got typed"), "{shown}");
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
