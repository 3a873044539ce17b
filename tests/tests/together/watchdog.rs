//! Whatever happens to `konductor-run`, nothing that it has started runs past the deadline.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use konductor::Boottime;
use konductor_tests::{Binaries, Pid, Process, Signal, eventually};
use nix::sys::signal::kill;

use crate::holders::{child, contained};
use crate::scene::{LIMIT, SHORT, SHORT_TTL, STALL, Scene, shared};

/// Far less than a TTL of a minute, and far more than a watchdog needs.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A command that ignores TERM, with a witness in a session of its own.
fn stubborn(scene: &Scene) -> Vec<String> {
    let script = "trap '' TERM; setsid \"$@\" & sleep 1000";
    ["sh", "-c", script, "sh"].into_iter().map(str::to_owned).chain(scene.until_let_go()).collect()
}

/// `konductor-run` with a command of that kind, which has started.
async fn holding(scene: &Scene, flags: &[&str]) -> Process {
    let command = stubborn(scene);
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let holder = scene.run("holder", flags, &command);
    scene.record.started(LIMIT, 1).await;
    holder
}

/// Processes of this name in this tree.
fn named(process: &Process, name: &str) -> Vec<Pid> {
    let has_name =
        |pid: &Pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    process.tree().into_iter().filter(has_name).collect()
}

/// The one watchdog, when it has given itself its name.
async fn watchdog(process: &Process) -> Pid {
    eventually(LIMIT, "a watchdog", || async {
        match named(process, "konductor-wdog").as_slice() {
            [one] => Ok(*one),
            found => Err(format!("{found:?}\n{}", process.output())),
        }
    })
    .await
}

/// Waits until nothing of this tree is alive but these.
async fn only(process: &Process, left: &[Pid]) {
    eventually(AT_ONCE, "the tree is dead", || async {
        let tree = process.tree();
        if tree == left { Ok(()) } else { Err(format!("{tree:?}")) }
    })
    .await;
}

/// Waits until the claim has been renewed so often.
async fn renewals(scene: &Scene, number: usize) {
    let mut last = scene.claim("holder").await.spec.claim.renew_time;
    for _ in 0..number {
        last = scene.claim_is("holder", |claim| claim.spec.claim.renew_time != last).await.spec.claim.renew_time;
    }
}

/// Stops one process, and returns when it stands still.
async fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).expect("stop a process");
    eventually(LIMIT, "it stands still", || async {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        let states =
            threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
        let running: Vec<_> = states.filter(|stat| !stat.contains(") T ")).collect();
        if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
}

/// The permit of a holder that was stopped goes to the next one, when all that the first had started is dead.
async fn handed_over(scene: &Scene, stopped: Boottime) {
    let mut next = scene.witness("next", &[], Duration::ZERO);
    next.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    let runs = scene.record.runs();
    assert_eq!((runs.len(), runs[0].ended, runs[1].ended), (2, false, true), "{runs:?}");
    assert!(runs[0].last < stopped + SHORT_TTL + STALL, "stopped at {stopped}, and {:?}", runs[0]);
}

async fn a_wrapper_that_is_stopped_alone_does_not_leave_its_command_running() {
    let scene = shared("stopped").await;
    scene.semaphore(1).await;
    let mut holder = holding(&scene, &SHORT).await;
    let watching = watchdog(&holder).await;
    // For longer than the TTL, so that a watchdog that is not told of renewals would have ended the command.
    renewals(&scene, 4).await;
    assert_eq!(watchdog(&holder).await, watching, "{}", holder.output());
    let before = Boottime::now();
    stop(holder.pid()).await;
    handed_over(&scene, before).await;
    only(&holder, &[holder.pid()]).await;
    holder.thaw();
    holder.expect_exit(LIMIT, 79).await;
    assert!(holder.stderr().contains("lost semaphore s"), "{}", holder.stderr());
    scene.assert_no_claims().await;
}

async fn pid_1_that_is_stopped_alone_does_not_leave_its_command_running() {
    let scene = shared("stopped-init").await;
    scene.semaphore(1).await;
    let command = stubborn(&scene);
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let run = scene.command("holder", &SHORT, &command);
    let mut holder = Process::spawn("holder", contained(&run, None));
    scene.record.started(LIMIT, 1).await;
    renewals(&scene, 2).await;
    let init = child(&holder, Binaries::built().run()).await;
    let before = Boottime::now();
    stop(init).await;
    handed_over(&scene, before).await;
    only(&holder, &[holder.pid(), init]).await;
    kill(init, Signal::SIGCONT).expect("continue konductor-run");
    holder.expect_exit(LIMIT, 79).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_wrapper_that_is_killed_alone_takes_its_whole_tree_with_it() {
    let scene = shared("killed").await;
    scene.semaphore(1).await;
    let mut holder = holding(&scene, &["--ttl", "1m"]).await;
    holder.signal(Signal::SIGKILL);
    holder.wait_exit(LIMIT).await;
    only(&holder, &[]).await;
    assert!(!scene.record.runs()[0].ended);
}

async fn a_watchdog_that_is_killed_is_replaced() {
    let scene = shared("replaced").await;
    scene.semaphore(1).await;
    let mut holder = holding(&scene, &SHORT).await;
    // What ends a watchdog as soon as it has started would end the next as well: that one has to wait for a renewal.
    // The first one has been there for longer than that.
    renewals(&scene, 2).await;
    kill(watchdog(&holder).await, Signal::SIGKILL).expect("kill the watchdog");
    holder.wait_stderr(LIMIT, "the watchdog has ended; another one takes its place").await;
    eventually(LIMIT, "a watchdog that ends too soon", || async {
        for pid in named(&holder, "konductor-wdog") {
            // It may have been waited for since it was found.
            let _ = kill(pid, Signal::SIGKILL);
        }
        let told = holder.stderr();
        if told.contains("the next renewal starts another one") { Ok(()) } else { Err(told) }
    })
    .await;
    let third = watchdog(&holder).await;
    renewals(&scene, 1).await;
    assert_eq!(watchdog(&holder).await, third, "{}", holder.output());
    let before = Boottime::now();
    stop(holder.pid()).await;
    handed_over(&scene, before).await;
    holder.thaw();
    holder.expect_exit(LIMIT, 79).await;
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn a_watchdog_is_there_while_something_is_held_and_runs_and_no_longer() {
    let scene = shared("watched").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    let watching = watchdog(&holder).await;
    let mut waiter = scene.witness("waiter", &[], Duration::ZERO);
    waiter.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;
    assert_eq!(named(&waiter, "konductor-wdog"), []);
    // Nothing is open in it but its pipe and its clock, and it is in nobody's way.
    let open =
        |what: &str| std::fs::read_link(format!("/proc/{watching}/{what}")).expect("a link of a process of ours");
    let [clock, pipe] = eventually(LIMIT, "it has settled in", || async {
        let files = std::fs::read_dir(format!("/proc/{watching}/fd")).expect("a process of ours");
        let mut files: Vec<_> = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
        files.sort();
        <[PathBuf; 2]>::try_from(files).map_err(|files| format!("{files:?}"))
    })
    .await;
    assert_eq!(open("cwd"), Path::new("/"));
    assert_eq!(clock, Path::new("anon_inode:[timerfd]"));
    assert!(pipe.to_string_lossy().starts_with("pipe:"), "{pipe:?}");
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    only(&holder, &[]).await;
    waiter.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(2, 1);
}

async fn what_ran_before_and_beside_the_command_is_not_the_watchdogs_business() {
    let scene = shared("spared").await;
    scene.semaphore(1).await;
    // A shell that starts something, and then becomes konductor-run.
    let command = stubborn(&scene);
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let run = scene.command("holder", &SHORT, &command);
    let mut shell = Command::new("sh");
    shell.args(["-c", "sleep 2000 & exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    shell.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut holder = Process::spawn("holder", shell);
    scene.record.started(LIMIT, 1).await;
    let beside = child(&holder, &std::fs::canonicalize("/usr/bin/sleep").expect("sleep, of coreutils")).await;
    let before = Boottime::now();
    stop(holder.pid()).await;
    handed_over(&scene, before).await;
    let mut left = [holder.pid(), beside];
    left.sort();
    only(&holder, &left).await;
    holder.thaw();
    holder.expect_exit(LIMIT, 79).await;
    scene.assert_no_claims().await;
}

/// Each takes its time and little else, so they wait together.
#[tokio::test]
async fn the_deadline_is_kept_whoever_is_stopped_and_by_nobody_for_others() {
    tokio::join!(
        a_wrapper_that_is_stopped_alone_does_not_leave_its_command_running(),
        pid_1_that_is_stopped_alone_does_not_leave_its_command_running(),
        a_watchdog_that_is_killed_is_replaced(),
        what_ran_before_and_beside_the_command_is_not_the_watchdogs_business(),
    );
}
