//! How long a lock that somebody waits for stays unused: from the end of the holder's command to the start of the next.
//!
//! Both moments are told by the commands themselves, on one clock. The end of the holder's command is the last thing it
//! does, so its own end and what its supervisor makes of it are in the time; so is the start of the next command.

use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use konductor_tests::Process;

use crate::Effort;
use crate::floor::{self, Floor};
use crate::footprint::{peak, processor, resident};
use crate::line::{Holder, Line};
use crate::sample::{Figure, Sample};
use crate::scene::{LIMIT, Scene};
use crate::table::{Row, Table};

/// Streams that one connection to the API server carries, with much to spare: each waiter has a watch.
const WAITERS_PER_CLIENT: usize = 50;

/// Whoever has just come to the queue still has things to do, like opening a watch, and then gives back what it needed for
/// that; then it is quiet.
pub(crate) const REST: Duration = Duration::from_millis(300);

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let mut theirs = Handoffs::default();
    for waiters in [1, effort.queue] {
        let ours = konductor(scene, &format!("handoff-{waiters}"), waiters, effort.runs).await;
        theirs = etcdctl(scene, &format!("handoff-{waiters}"), waiters, effort.runs).await;
        push(table, &format!("handoff, {waiters} waiting"), &ours, &theirs);
        if waiters == 1 {
            push_floor(table, &ours, &floor::measure(scene, effort.runs).await);
            push_memory(table, &ours, &theirs);
        }
    }
    let ours = crowded(scene, effort).await;
    push(table, &format!("handoff, 1 waiting with {} behind it", effort.crowd), &ours, &theirs);
}

fn push(table: &mut Table, what: &str, ours: &Handoffs, theirs: &Handoffs) {
    let found = format!("{}; operator's CPU {} ms", ours.times.show(" ms"), Figure(ours.operator.median()));
    let beside = format!("`etcdctl lock`, {} waiting: {}", theirs.waiters, theirs.times.show(" ms"));
    let ratio = ours.times.median() / theirs.times.median();
    table.push(Row::new(what, found).beside(beside).ratio(ratio).goal("<= 1.5"));
}

fn push_floor(table: &mut Table, ours: &Handoffs, floor: &Floor) {
    let row = Row::new("the same, over its requests alone", ours.times.show(" ms"));
    let (rested, at_once) = (floor.rested.show(" ms"), floor.at_once.show(" ms"));
    let beside = format!("delete, status patch, read: {rested}; right after other requests: {at_once}");
    table.push(row.beside(beside).ratio(ours.times.median() / floor.rested.median()));
}

fn push_memory(table: &mut Table, ours: &Handoffs, theirs: &Handoffs) {
    for (what, ours, theirs, goal) in [
        ("RSS while waiting", &ours.waiting, &theirs.waiting, "<= 4 MB"),
        ("RSS while holding", &ours.holding, &theirs.holding, "<= 4 MB"),
        ("peak RSS", &ours.peak, &theirs.peak, ""),
    ] {
        let row = Row::new(format!("`konductor-run`, {what}"), ours.show(" MB"));
        let row = row.beside(format!("`etcdctl lock`: {}", theirs.show(" MB"))).ratio(ours.median() / theirs.median());
        table.push(row.goal(goal));
    }
}

/// What was measured in one queue.
#[derive(Default)]
struct Handoffs {
    waiters: usize,
    times: Sample,
    /// What one handoff takes of the operator's processor, in milliseconds.
    operator: Sample,
    /// RSS, in megabytes, of those who wait.
    waiting: Sample,
    /// The same of those who hold.
    holding: Sample,
    /// The most that each of them has had.
    peak: Sample,
}

/// A queue of `konductor-run`s.
async fn konductor(scene: &Scene, semaphore: &str, waiters: usize, runs: usize) -> Handoffs {
    scene.semaphore(semaphore, 1).await;
    let line = Line::new(&scene.programs);
    let start = || scene.konductor_run(&["--semaphore", semaphore], &line.command());
    let handoffs =
        measure_line(scene, &line, waiters, runs, start, async || scene.wait_pending(semaphore, waiters).await).await;
    scene.clear(semaphore).await;
    handoffs
}

/// A queue of `etcdctl lock`s.
async fn etcdctl(scene: &Scene, name: &str, waiters: usize, runs: usize) -> Handoffs {
    let line = Line::new(&scene.programs);
    let start = || scene.etcdctl_lock(name, &line.command());
    measure_line(scene, &line, waiters, runs, start, async || scene.wait_etcd_claims(name, waiters + 1).await).await
}

/// A queue of one, of a higher priority than a crowd of clients of the library that waits, too.
async fn crowded(scene: &Scene, effort: Effort) -> Handoffs {
    let semaphore = "handoff-crowd";
    scene.semaphore(semaphore, 1).await;
    let line = Line::new(&scene.programs);
    let start = || scene.konductor_run(&["--semaphore", semaphore, "--priority", "1"], &line.command());
    // Before the crowd: whoever comes to a free semaphore gets it.
    let first = Process::spawn("waiter", start());
    let holder = line.next().await;
    let clients = join_all((0..effort.crowd.div_ceil(WAITERS_PER_CLIENT)).map(|_| scene.client())).await;
    let waiting: Vec<_> = (0..effort.crowd)
        .map(|number| {
            let request = clients[number / WAITERS_PER_CLIENT].semaphore(semaphore);
            tokio::spawn(async move { request.acquire().await.map(drop) })
        })
        .collect();
    scene.wait_pending(semaphore, effort.crowd).await;
    let queued = async || scene.wait_pending(semaphore, effort.crowd + 1).await;
    let handoffs = measure_from(scene, &line, (first, holder), 1, effort.runs, start, queued).await;
    for waiter in waiting {
        waiter.abort();
    }
    scene.clear(semaphore).await;
    handoffs
}

async fn measure_line(
    scene: &Scene,
    line: &Line,
    waiters: usize,
    runs: usize,
    start: impl Fn() -> Command,
    queued: impl AsyncFn(),
) -> Handoffs {
    let first = Process::spawn("waiter", start());
    let holder = line.next().await;
    measure_from(scene, line, (first, holder), waiters, runs, start, queued).await
}

/// Hands a lock that is held down a line, which is always filled up again to `waiters`.
async fn measure_from(
    scene: &Scene,
    line: &Line,
    (first, mut holder): (Process, Holder),
    waiters: usize,
    runs: usize,
    start: impl Fn() -> Command,
    queued: impl AsyncFn(),
) -> Handoffs {
    let mut handoffs = Handoffs { waiters, ..Handoffs::default() };
    // Not in the order in which they will be let in: they start all at once.
    let mut queue = vec![first];
    while queue.len() < waiters {
        queue.push(Process::spawn("waiter", start()));
    }
    for _ in 0..runs {
        queue.push(Process::spawn("waiter", start()));
        queued().await;
        tokio::time::sleep(REST).await;
        for process in &queue {
            let role = if process.pid() == holder.pid { &mut handoffs.holding } else { &mut handoffs.waiting };
            role.push(resident(process.pid()));
            handoffs.peak.push(peak(process.pid()));
        }
        let over = queue.iter().position(|process| process.pid() == holder.pid);
        let mut over = queue.swap_remove(over.expect("the command was started by one of these"));
        let before = processor(scene.operator.pid());
        let ended = holder.end().await;
        holder = line.next().await;
        handoffs.operator.push_time(processor(scene.operator.pid()).saturating_sub(before));
        handoffs.times.push_time(holder.started.since(ended));
        over.expect_exit(LIMIT, 0).await;
    }
    handoffs
}
