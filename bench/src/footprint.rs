//! What it takes: bytes on the disk and in memory, and time of the processor.

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, stream};
use konductor::Boottime;
use konductor_api::{Permit, Semaphore};
use konductor_tests::{Pid, wait_for};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::Effort;
use crate::sample::Figure;
use crate::scene::{LIMIT, Scene};
use crate::table::{Row, Table};

const MEGABYTE: f64 = 1e6;

/// Creations under way at once.
const AT_ONCE: usize = 32;

/// The operator with nothing to do.
pub(crate) async fn idle(scene: &Scene, effort: Effort, table: &mut Table) {
    let row = Row::new("`konductor-operator`, size, static", format!("{} MB", size(&scene.programs.operator)));
    table.push(row.beside(format!("`etcdctl`: {} MB", size(&scene.programs.etcdctl))));
    let pid = scene.operator.pid();
    let (start, before) = (Boottime::now(), processor(pid));
    tokio::time::sleep(effort.window).await;
    let busy = processor(pid).saturating_sub(before).as_secs_f64() / Boottime::now().since(start).as_secs_f64();
    let found = format!("{} MB, {} % of a core", Figure(peak(pid)), Figure(busy * 100.0));
    table.push(Row::new("operator, idle: peak RSS, CPU", found));
}

/// A new operator's memory with many claims, most of which wait.
pub(crate) async fn with_claims(scene: &mut Scene, effort: Effort, table: &mut Table) {
    scene.restart_operator().await;
    let (name, holders) = ("memory", effort.claims / 10);
    scene.semaphore(name, holders).await;
    let start = Boottime::now();
    create_claims(scene, name, effort.claims).await;
    scene.wait_pending(name, effort.claims - holders).await;
    let semaphores: Api<Semaphore> = scene.namespace.api();
    wait_for(&semaphores, name, LIMIT, |semaphore| {
        semaphore.status.as_ref().is_some_and(|status| status.in_use == Some(holders as u64))
    })
    .await;
    let pid = scene.operator.pid();
    let spent = processor(pid).as_secs_f64();
    let took = Boottime::now().since(start).as_secs_f64();
    let found = format!("{} MB, {} s in {} s", Figure(peak(pid)), Figure(spent), Figure(took));
    let what = format!("operator, {} claims of which {holders} hold: peak RSS, CPU from its start", effort.claims);
    table.push(Row::new(what, found).goal("<= 64 MB with 10,000"));
}

/// Creates claims as fast as the API server takes them.
pub(crate) async fn create_claims(scene: &Scene, semaphore: &str, number: usize) {
    let permits: Api<Permit> = scene.namespace.api();
    let create = async |number: usize| {
        let name = format!("{semaphore}-{number}");
        let spec = json!({
            "semaphore": semaphore, "holder": name, "instance": name,
            "pod": { "name": name, "uid": format!("00000000-0000-0000-0000-{number:012}"), "container": "main", "start": "0a1b2c3d" },
        });
        let permit = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a Permit");
        permits.create(&PostParams::default(), &permit).await.expect("create a Permit");
    };
    stream::iter(0..number).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
}

pub(crate) fn size(program: &Path) -> Figure {
    let data = std::fs::metadata(program).unwrap_or_else(|error| panic!("look at {}: {error}", program.display()));
    Figure(data.len() as f64 / MEGABYTE)
}

/// The most memory that a process has had so far, in megabytes.
pub(crate) fn peak(pid: Pid) -> f64 {
    memory(pid, "status", "VmHWM:")
}

/// The memory that a process has now, in megabytes.
pub(crate) fn resident(pid: Pid) -> f64 {
    memory(pid, "status", "VmRSS:")
}

/// The memory that a process shares with nobody, in megabytes.
pub(crate) fn private(pid: Pid) -> f64 {
    memory(pid, "smaps_rollup", "Private_Clean:") + memory(pid, "smaps_rollup", "Private_Dirty:")
}

/// One line of what the kernel says about a process.
fn memory(pid: Pid, file: &str, field: &str) -> f64 {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a live process has memory");
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kibibytes");
    kibibytes * 1024.0 / MEGABYTE
}

/// The time that a process's threads have been running.
pub(crate) fn processor(pid: Pid) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("list a process's threads");
    let times = threads.flatten().filter_map(|thread| {
        // No text: the thread has ended meanwhile.
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}
