//! What holding costs while nothing happens: the time of the processor in a minute, and the watchdog's memory.

use std::fs;
use std::time::Duration;

use konductor_tests::{Pid, Process};
use tokio::time::sleep;

use crate::Effort;
use crate::footprint::{private, processor};
use crate::line::Line;
use crate::sample::Figure;
use crate::scene::{LIMIT, Scene};
use crate::table::{Row, Table};

/// As for the election of a leader: three renewals in this time.
const SHORT: &str = "15s";

/// The name that the watchdog gives itself.
const WATCHDOG: &str = "konductor-wdog";

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    scene.semaphore("holding", 2).await;
    let line = Line::new(&scene.programs);
    let commands = [
        ("its own TTL, 5m", scene.konductor_run(&["--semaphore", "holding"], &line.command())),
        ("a TTL of 15s", scene.konductor_run(&["--semaphore", "holding", "--ttl", SHORT], &line.command())),
        ("`etcdctl lock`", scene.etcdctl_lock("holding", &line.command())),
    ];
    let mut held = Vec::new();
    for (name, command) in commands {
        let process = Process::spawn(name, command);
        held.push((name, process, line.next().await));
    }
    let watchdog = private(watchdog(&held[0].1));
    // All of them in the same time.
    let before: Vec<_> = held.iter().map(|(_, process, _)| spent(process)).collect();
    sleep(effort.hold).await;
    let after: Vec<_> = held.iter().map(|(_, process, _)| spent(process)).collect();
    let spent = |place: usize| Figure((after[place].saturating_sub(before[place])).as_secs_f64() * 1000.0);
    let found = format!("{} ms with {}; {} ms with {}", spent(0), held[0].0, spent(1), held[1].0);
    let what = format!("`konductor-run`, CPU in {} s of holding", effort.hold.as_secs());
    table.push(Row::new(what, found).beside(format!("{}: {} ms", held[2].0, spent(2))));
    table.push(Row::new("its watchdog, private memory", format!("{} MB", Figure(watchdog))).goal("< 0.5 MB"));
    for (_, mut process, sleeper) in held {
        sleeper.end().await;
        process.expect_exit(LIMIT, 0).await;
    }
    scene.clear("holding").await;
}

/// What the holder and its watchdog have spent; not the command, which only waits.
fn spent(holder: &Process) -> Duration {
    holder.tree().into_iter().map(processor).sum()
}

fn watchdog(holder: &Process) -> Pid {
    let is_watchdog = |pid: &Pid| {
        // Gone meanwhile: not the watchdog.
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == WATCHDOG)
    };
    holder.tree().into_iter().find(is_watchdog).expect("a holder has a watchdog")
}
