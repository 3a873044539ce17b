//! What it takes: bytes on the disk and in memory, and time of the processor.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, stream};
use konductor::Boottime;
use konductor_api::{Gate, Permit, Semaphore};
use konductor_tests::{Pid, get, wait_for};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
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
    scene.wait_in_use(name, holders).await;
    let pid = scene.operator.pid();
    let spent = processor(pid).as_secs_f64();
    let took = Boottime::now().since(start).as_secs_f64();
    let found = format!("{} MB, {} s in {} s", Figure(peak(pid)), Figure(spent), Figure(took));
    let what = format!("operator, {} claims of which {holders} hold: peak RSS, CPU from its start", effort.claims);
    table.push(Row::new(what, found).goal("<= 32 MB with 10,000"));
}

/// What others may store: few claims, with a quarter of a megabyte of annotations each, met in the first list.
pub(crate) async fn with_large_claims(scene: &mut Scene, effort: Effort, table: &mut Table) {
    let (name, number) = ("bytes", effort.large_claims);
    create_claims(scene, name, number).await;
    let permits: Api<Permit> = scene.namespace.api();
    let text = "x".repeat(250_000);
    for claim in 0..number {
        let annotated = Patch::Merge(json!({ "metadata": { "annotations": { "somebody/text": text } } }));
        permits.patch(&format!("{name}-{claim}"), &PatchParams::default(), &annotated).await.expect("patch a Permit");
    }
    scene.restart_operator().await;
    scene.semaphore(name, number).await;
    scene.wait_in_use(name, number).await;
    let found = format!("{} MB", Figure(peak(scene.operator.pid())));
    let what = format!("operator, {number} claims with annotations of 250 kB: peak RSS");
    table.push(Row::new(what, found).goal("<= 48 MB with 200"));
}

/// What a turn of the event loops takes where there is much: claims on one lock, and gates that select each other.
pub(crate) async fn turns(scene: &mut Scene, effort: Effort, table: &mut Table) {
    let (name, gates) = ("turns", effort.claims / 5);
    scene.semaphore(name, effort.claims / 10).await;
    create_claims(scene, name, effort.claims).await;
    let api: Api<Gate> = scene.namespace.api();
    let create = async |number: usize| {
        let selector = json!({ "matchLabels": { "tangled": "yes" } });
        let gate = json!({
            "metadata": { "name": format!("{name}-{number}"), "labels": { "tangled": "yes" } },
            "spec": { "conditions": [{ "type": "Gate", "selector": selector, "state": "Open" }] },
        });
        let gate = serde_json::from_value(gate).expect("a Gate");
        api.create(&PostParams::default(), &gate).await.expect("create a Gate");
    };
    stream::iter(0..gates).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
    scene.wait_in_use(name, effort.claims / 10).await;
    let semaphores: Api<Semaphore> = scene.namespace.api();
    let settled = |semaphore: &Semaphore| semaphore.status.as_ref().and_then(|status| status.settled_term);
    let before = semaphores.get(name).await.ok().as_ref().and_then(settled);
    // One that knows nothing lists, takes over and decides on all of it.
    scene.restart_operator().await;
    wait_for(&semaphores, name, LIMIT, |semaphore| settled(semaphore) > before).await;
    create(gates).await;
    let answered = |gate: &Gate| gate.status.as_ref().is_some_and(|status| status.met == Some(0));
    wait_for(&api, &format!("{name}-{gates}"), LIMIT, answered).await;
    let (_, metrics) = get(&scene.operator, "/metrics").await;
    let of = format!("operator, {} claims on one lock and {gates} gates: turns of its loops", effort.claims);
    for (what, metric) in
        [("processor time", "konductor_turn_processor_seconds"), ("as passed", "konductor_turn_seconds")]
    {
        let (within, all, longest) = turn_times(&metrics, metric);
        let found = format!("{} % of {all} within 5 ms; all within {longest} s", Figure(100.0 * within / all));
        table.push(Row::new(format!("{of}, {what}"), found).goal("all within 5 ms with 10,000 and 2,000"));
    }
}

/// Turns within 5 ms by this metric, all turns, and the least bound in seconds that all of them kept.
pub(crate) fn turn_times(metrics: &str, metric: &str) -> (f64, f64, String) {
    let (mut buckets, mut all) = (BTreeMap::<String, f64>::new(), 0.0);
    for line in metrics.lines() {
        let value = || line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
        let Some(line) = line.strip_prefix(metric) else { continue };
        if line.starts_with("_bucket") {
            let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            *buckets.entry(bound.to_owned()).or_default() += value();
        } else if line.starts_with("_count") {
            all += value();
        }
    }
    let number = |bound: &str| bound.parse().unwrap_or(f64::INFINITY);
    let within =
        buckets.iter().filter(|(bound, _)| number(bound) <= 0.005).map(|(_, count)| *count).fold(0.0, f64::max);
    let kept = buckets.iter().filter(|(_, count)| **count >= all).map(|(bound, _)| bound);
    let longest = kept.min_by(|one, other| number(one).total_cmp(&number(other))).cloned().unwrap_or_default();
    (within, all, longest)
}

/// Creates claims as fast as the API server takes them.
pub(crate) async fn create_claims(scene: &Scene, semaphore: &str, number: usize) {
    let permits: Api<Permit> = scene.namespace.api();
    let create = async |number: usize| {
        let name = format!("{semaphore}-{number}");
        // Of no pod: a pod that is not there is soon found out.
        let spec = json!({ "semaphore": semaphore, "holder": name, "instance": name });
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
