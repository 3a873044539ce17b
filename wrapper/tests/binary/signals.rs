//! Signals on their way to the command: each arrives, as often as it was sent, in order, with what came with it.

use std::{collections::BTreeMap, sync::Mutex};

use nix::{errno::Errno, libc};

use crate::{
    actors::{LAST, act},
    harness::{Run, Running, children, eventually, sh},
};

/// The first and the last real-time signal that the storms use; the very last ends the receiver.
const REAL_TIME: std::ops::Range<i32> = 34..LAST;

/// One storm at a time: how many signals may wait for all processes of one user is bounded, and what is beyond that the
/// kernel merges.
pub(crate) static STORM: Mutex<()> = Mutex::new(());

/// A receiver, as soon as it listens.
fn receiver(run: &Run) -> Running {
    let mut run = run.start();
    assert!(run.line().starts_with("ready"));
    run
}

fn received(run: &mut Running) -> Vec<String> {
    let lines = std::iter::from_fn(|| Some(run.line()));
    lines.take_while(|line| *line != LAST.to_string()).collect()
}

/// A number below `limit`, different each time, the same in every run.
fn next(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % limit
}

#[expect(unsafe_code, reason = "sigqueue(3) by number")]
fn queue(pid: i32, signal: i32, value: i32) {
    let value = libc::sigval { sival_ptr: value as usize as *mut libc::c_void };
    // SAFETY: the value is not used as a pointer by anybody.
    Errno::result(unsafe { libc::sigqueue(pid, signal, value) }).expect("the signal can be queued");
}

#[test]
fn every_signal_that_can_be_forwarded_arrives_once() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: it}\n";
    std::fs::write(folder.path().join("it.yaml"), manifest).unwrap();
    // While something is held there are threads, too.
    let holding = format!("--lease it --local {}", folder.path().display());
    for scope in ["--signal-scope group", "--signal-scope child", &holding] {
        let mut run = receiver(&act("receiver", "").flags(scope));
        // KILL and STOP cannot be, and CHLD is about our own children. 32 and 33, which the C library uses, can.
        for signal in (1..=LAST).filter(|signal| ![9, 17, 19].contains(signal)) {
            run.signal(signal);
            assert_eq!(run.line(), signal.to_string(), "{scope}");
        }
        let ended = run.end();
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""), "{scope}");
    }
}

#[test]
fn in_a_storm_of_ten_thousand_no_real_time_signal_is_lost_or_doubled() {
    let _alone = STORM.lock();
    let mut run = receiver(&act("receiver", ""));
    // Those that stop and continue cancel each other, as everywhere.
    let standard = [1, 2, 3, 10, 12, 15, 28, 32, 33];
    let (mut sent, mut state) = (BTreeMap::<i32, usize>::new(), 7);
    for _ in 0..10_000 {
        let signal = match next(&mut state, 10) {
            0 => standard[next(&mut state, standard.len() as u64) as usize],
            _ => REAL_TIME.start + next(&mut state, REAL_TIME.len() as u64) as i32,
        };
        run.signal(signal);
        *sent.entry(signal).or_default() += 1;
    }
    run.signal(LAST);
    let mut arrived = BTreeMap::<i32, usize>::new();
    for line in received(&mut run) {
        *arrived.entry(line.parse().expect("a signal without a value")).or_default() += 1;
    }
    assert_eq!(sent.keys().collect::<Vec<_>>(), arrived.keys().collect::<Vec<_>>());
    for (signal, count) in sent {
        let arrived = arrived[&signal];
        // The kernel merges a standard signal with one of its kind that waits.
        let fits = if signal < REAL_TIME.start { (1..=count).contains(&arrived) } else { arrived == count };
        assert!(fits, "signal {signal}: {count} sent, {arrived} arrived");
    }
    assert_eq!(run.end().code(), 0);
}

#[test]
fn in_a_storm_of_ten_thousand_queued_signals_keep_their_order_and_their_values() {
    let _alone = STORM.lock();
    let mut run = receiver(&act("receiver", "").flags("--signal-scope child"));
    let (mut sent, mut state) = (BTreeMap::<i32, Vec<i32>>::new(), 11);
    for value in 0..10_000 {
        let signal = REAL_TIME.start + next(&mut state, REAL_TIME.len() as u64) as i32;
        queue(run.pid(), signal, value - 5_000);
        sent.entry(signal).or_default().push(value - 5_000);
    }
    run.signal(LAST);
    let mut arrived = BTreeMap::<i32, Vec<i32>>::new();
    for line in received(&mut run) {
        let numbers: Vec<i32> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [signal, value, sender] = numbers[..] else { panic!("without a value: {line}") };
        assert_eq!(sender, std::process::id() as i32);
        arrived.entry(signal).or_default().push(value);
    }
    assert_eq!(sent, arrived);
    assert_eq!(run.end().code(), 0);
}

#[test]
fn the_whole_group_gets_a_signal_or_the_command_alone() {
    let own = std::env::current_exe().unwrap();
    let both = format!("{own} actor:receiver & exec {own} actor:receiver", own = own.display());
    for (scope, receivers) in [("group", 2), ("child", 1)] {
        let flags = format!("--signal-scope {scope} --grace 100ms");
        let mut run = receiver(&sh(&both).flags(&flags));
        assert!(run.line().starts_with("ready"));
        run.signal(10);
        for _ in 0..receivers {
            assert_eq!(run.line(), "10", "{scope}");
        }
        run.signal(LAST);
        let ended = run.end();
        assert!(ended.code() == 0 && !ended.stdout.contains("10"), "{scope}: {ended:?}");
    }
}

#[test]
fn signals_are_mapped_and_dropped() {
    let flags = "--map-signal TERM=QUIT --map-signal RTMIN=RTMIN+1 --map-signal HUP=0 --signal-scope child";
    let mut run = receiver(&act("receiver", "").flags(flags));
    for signal in [15, 1, 2] {
        run.signal(signal);
    }
    queue(run.pid(), 34, 42);
    run.signal(LAST);
    let mut arrived = received(&mut run);
    arrived.sort();
    assert_eq!(arrived, ["2", "3", &format!("35 42 {}", std::process::id())]);
    assert_eq!(run.end().code(), 0);
}

#[test]
fn a_signal_that_arrives_before_the_command_is_kept_for_it() {
    for _ in 0..20 {
        // Blocked for the command, too: before its first instruction it has the default actions.
        let run = act("receiver", "").under("env --block-signal").start();
        eventually("signals are blocked", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).ok()?;
            status.contains("SigBlk:\tffff").then_some(())
        });
        for signal in [10, 34, 34, LAST] {
            run.signal(signal);
        }
        let ended = run.end();
        let lines: Vec<_> = ended.stdout.lines().skip(1).collect();
        assert_eq!((ended.code(), lines.as_slice()), (0, ["10", "34", "34", "64"].as_slice()));
    }
}

#[test]
fn a_signal_that_arrives_while_something_is_waited_for_is_kept_for_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: it}\n";
    std::fs::write(folder.path().join("it.yaml"), manifest).unwrap();
    let wants = format!("--lease it --local {}", folder.path().display());
    let mut holder = sh("echo; exec sleep 1000").flags(&wants).start();
    holder.line();
    let wants = format!("{wants} --map-signal USR2=WINCH --map-signal URG=0");
    // Blocked for the command, too: before its first instruction it has the default actions.
    let mut run = act("receiver", "").flags(&wants).under("env --block-signal").start();
    let state = folder.path().join(".konductor/leases/it/state.json");
    eventually("it is in the queue", || {
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).ok()?).ok()?;
        (state["claims"].as_array()?.len() == 2).then_some(())
    });
    assert!(children(run.pid()).is_empty());
    // Those that do not merge are not even counted by us; of the others one waits.
    for signal in [14, 34, 12, 14, 23, 36, 34, 10] {
        run.signal(signal);
    }
    holder.signal(15);
    assert!(run.line().starts_with("ready"));
    run.signal(LAST);
    let ended = run.end();
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!((ended.code(), lines.as_slice()), (0, ["10", "14", "28", "34", "34", "36", "64"].as_slice()));
}

#[test]
fn a_log_that_may_not_grow_is_not_the_commands_business() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let before = format!("ulimit -S -f 1; exec \"$@\" 2>{}", log.display());
    let mut run = receiver(&act("receiver", "").flags("-v").after(&before));
    for _ in 0..100 {
        run.signal(28);
        assert_eq!(run.line(), "28");
    }
    assert!(std::fs::metadata(&log).unwrap().len() >= 512, "the limit is not reached");
    run.signal(LAST);
    assert_eq!(received(&mut run), Vec::<String>::new());
    assert_eq!(run.end().code(), 0);
}
