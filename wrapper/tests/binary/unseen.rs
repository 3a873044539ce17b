//! Looks at /proc that show less than there is, or are refused: nothing is given back before the tree is dead, and the
//! tree is dead in the end.

use std::{fs, process::Command};

use nix::{errno::Errno, libc, unistd::geteuid};

use crate::{
    harness::{Run, Running, children, eventually, is_alive, kill, sh, signal_process},
    refused::{any, folder, with_turn},
};

/// What is there before the command, as a script leaves it that becomes `konductor-run`: its process id is the first line.
const BEFORE: &str = "sleep 1000 >/dev/null 2>&1 & echo $!; exec \"$@\"";

/// Where processes of others are hidden, and not run by root, who sees all. (Only root can have it so.)
fn where_others_are_hidden(run: Run) -> Run {
    if !geteuid().is_root() {
        return run;
    }
    let hide = "mount -t proc -o hidepid=2 none /proc && exec \"$@\"";
    run.under("unshare --mount").after(hide).under("setpriv --reuid=65534 --regid=65534 --clear-groups")
}

fn pid(run: &mut Running) -> i32 {
    run.line().parse().expect("a process id")
}

/// Limits how many descriptors a process may have.
fn limit(pid: i32, descriptors: &str) {
    let words = ["--pid", &pid.to_string(), &format!("--nofile={descriptors}:")];
    assert!(Command::new("prlimit").args(words).status().expect("prlimit, of util-linux").success());
}

#[test]
fn what_is_left_is_ended_also_where_proc_hides_it() {
    let own = std::env::current_exe().expect("a process has an executable");
    let script = format!("{} actor:hidden & read -r _; exit 3", own.display());
    for others in [false, true] {
        let run = where_others_are_hidden(sh(&script));
        let mut run = if others { run.after(BEFORE) } else { run }.with_stdin();
        let before = others.then(|| pid(&mut run));
        let hidden = pid(&mut run);
        let ended = run.end();
        assert_eq!((ended.code(), is_alive(hidden)), (3, false), "{others}: {}", ended.stderr);
        if let Some(before) = before {
            assert!(is_alive(before), "it is not the command's");
            kill(before);
        }
    }
}

#[test]
fn what_is_left_is_ended_when_a_look_is_possible_again() {
    for others in [false, true] {
        // It has a session of its own when it says so.
        let run = sh("setsid sh -c 'echo $$; exec sleep 1000' & read -r _; exit 3").flags("--grace 100ms");
        let mut run = if others { run.after(BEFORE) } else { run }.with_stdin();
        let before = others.then(|| pid(&mut run));
        let left = pid(&mut run);
        limit(run.pid(), "3");
        run.write_line();
        run.says("cannot look for processes that left the command's group");
        assert!(is_alive(run.pid()) && is_alive(left), "{others}: nothing ends before it");
        limit(run.pid(), "1024");
        let ended = run.end();
        assert_eq!((ended.code(), is_alive(left)), (3, false), "{others}: {}", ended.stderr);
        before.into_iter().for_each(kill);
    }
}

#[test]
fn a_watchdog_that_may_not_look_for_a_moment_looks_again() {
    let folder = folder();
    let refuses = folder.path().join("refuses");
    // Both are there when it says so, and open nothing after that.
    let own = std::env::current_exe().expect("a process has an executable");
    let run = with_turn(sh(&format!("setsid {} actor:receiver & wait", own.display())), folder.path());
    let mut run = run.refused(any(libc::SYS_openat), Errno::ENFILE, Some(&refuses)).start();
    let left = run.line().strip_prefix("ready ").and_then(|pid| pid.parse().ok()).expect("a process id");
    let is_watchdog =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "konductor-wdog\n");
    let watchdog = eventually("something is held", || children(run.pid()).into_iter().find(is_watchdog));
    let command = children(run.pid()).into_iter().find(|pid| !is_watchdog(pid)).expect("the command");
    fs::write(&refuses, "").expect("a file");
    signal_process(run.pid(), 9);
    eventually("the command ends with its parent", || (!is_alive(command)).then_some(()));
    // What the watchdog asks for meanwhile is refused.
    eventually("it was refused", || folder.path().join("refuses.asked").exists().then_some(()));
    assert_eq!([is_alive(watchdog), is_alive(left)], [true, true], "it does not give up");
    fs::remove_file(&refuses).expect("it is there");
    eventually("nothing is left", || (!is_alive(left)).then_some(()));
    eventually("its work is done", || (!is_alive(watchdog)).then_some(()));
}
