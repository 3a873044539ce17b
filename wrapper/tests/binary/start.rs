//! The race between the command's start and a signal that asks to end.

use std::{fs, os::unix::process::ExitStatusExt as _};

use crate::harness::{children, eventually, run};

const TERM: i32 = 15;

/// TERM at any moment from before the first instruction to well after the command's start. Whatever the moment: what
/// was read before the start prevents it, everything later reaches the command, and the end is TERM's.
fn race(trials: u32) {
    let (mut prevented, mut forwarded) = (0, 0);
    for trial in 0..trials {
        let mut command = run(["sh", "-c", "echo started; exec sleep 1000"]).flags("-v").start();
        // A different moment each time: up to a few milliseconds, in steps that are no multiple of each other.
        for _ in 0..u64::from(trial) * 7_919 % 400_000 {
            std::hint::spin_loop();
        }
        if trial % 16 == 0 {
            let line = command.line();
            assert_eq!(line, "started", "trial {trial}, and then {:?}", command.end());
        } else if trial % 16 == 4 {
            eventually("its signals are blocked", || {
                let status = fs::read_to_string(format!("/proc/{}/status", command.pid())).ok()?;
                status.contains("SigBlk:\tffff").then_some(())
            });
        } else if trial % 16 == 8 {
            eventually("the command has been forked", || (!children(command.pid()).is_empty()).then_some(()));
        }
        command.signal(TERM);
        let ended = command.end();
        assert_eq!(ended.status.signal(), Some(TERM), "trial {trial}: {ended:?}");
        if ended.stderr.is_empty() {
            // Before its first instruction the process has the default action.
            assert_eq!(ended.stdout, "", "trial {trial}");
            continue;
        }
        if ended.stderr.contains("SIGTERM: ending before the command was started") {
            assert_eq!(ended.stdout, "", "trial {trial}: started after a signal to end");
            prevented += 1;
        } else {
            assert!(ended.stderr.contains("SIGTERM: forwarding"), "trial {trial}: lost: {ended:?}");
            forwarded += 1;
        }
    }
    assert!(prevented > 0 && forwarded > 0, "the trials missed the race: {prevented}, {forwarded}");
}

#[test]
fn no_command_is_started_after_a_shutdown_signal() {
    race(1_500);
}

#[test]
#[ignore = "takes minutes: cargo test -p konductor-run --test binary ten_thousand_trials -- --ignored"]
fn no_command_is_started_after_a_shutdown_signal_in_ten_thousand_trials() {
    race(10_000);
}
