//! Without a cluster, beside `flock`: the kernel's lock alone, which knows neither an order nor permits nor whom it locks out.
//!
//! Both lines wait at the same time, and hand over in turns.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use konductor_tests::{Process, eventually};

use crate::Effort;
use crate::line::{Holder, Line};
use crate::sample::Sample;
use crate::scene::{LIMIT, Scene, clean};
use crate::table::{Row, Table};
use crate::whole::{TRUE, in_turns};

/// Whoever has just begun to wait still has things to do; then it is quiet.
const REST: Duration = Duration::from_millis(100);

/// The semaphore of one permit in a folder.
const SEMAPHORE: &str = "local";

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let folder = tempfile::tempdir().expect("make a folder");
    let manifest = format!(
        "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {{ name: {SEMAPHORE} }}\nspec: {{ permits: 1 }}\n"
    );
    fs::write(folder.path().join("semaphore.yaml"), manifest).expect("write a manifest");
    let file = folder.path().join("file");
    let ours = |command: &[&str]| konductor_run(scene, folder.path(), command);
    let theirs = |command: &[&str]| flock(&file, command);

    let mut starts = [("konductor-run", ours(&[TRUE])), ("flock", theirs(&[TRUE]))];
    let samples = in_turns(&mut starts, effort.starts);
    push(table, "`konductor-run --local d --semaphore s -- true`, uncontended", &samples[0].1, &samples[1].1, "<= 1.5");

    let line = Line::new(&scene.programs);
    let mut ours = Queue::start(&line, Wait::Says("waiting for"), || ours(&line.command())).await;
    let mut theirs = Queue::start(&line, Wait::InLocks, || theirs(&line.command())).await;
    let (mut our_times, mut their_times) = (Sample::default(), Sample::default());
    for _ in 0..effort.runs {
        our_times.push_time(ours.hand_over().await);
        their_times.push_time(theirs.hand_over().await);
    }
    ours.end().await;
    theirs.end().await;
    push(table, "handoff without a cluster, 1 waiting", &our_times, &their_times, "<= 2");
}

fn push(table: &mut Table, what: &str, ours: &Sample, theirs: &Sample, goal: &str) {
    let row = Row::new(what, ours.show(" ms")).beside(format!("`flock`: {}", theirs.show(" ms")));
    table.push(row.ratio(ours.median() / theirs.median()).goal(goal));
}

fn konductor_run(scene: &Scene, folder: &Path, command: &[&str]) -> Command {
    let mut run = clean(&scene.programs.run);
    run.arg("--local").arg(folder).args(["--semaphore", SEMAPHORE, "--"]).args(command);
    run
}

fn flock(file: &Path, command: &[&str]) -> Command {
    let mut run = clean(Path::new("flock"));
    run.arg(file).args(command);
    run
}

/// How it is known that a process waits.
#[derive(Clone, Copy)]
enum Wait {
    /// It says so, with these words.
    Says(&'static str),
    /// The kernel lists it as waiting for a lock.
    InLocks,
}

impl Wait {
    async fn seen(self, process: &Process) {
        match self {
            Self::Says(words) => process.wait_stderr(LIMIT, words).await,
            Self::InLocks => {
                let pid = process.pid().to_string();
                eventually(LIMIT, "the process waits for a lock", || async {
                    let locks = fs::read_to_string("/proc/locks").map_err(|error| error.to_string())?;
                    if waits(&locks, &pid) { Ok(()) } else { Err(locks) }
                })
                .await;
            }
        }
    }
}

/// Whether this process is among those that wait, in the lines of /proc/locks: `1: -> FLOCK  ADVISORY  WRITE 7 ...`.
fn waits(locks: &str, pid: &str) -> bool {
    locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|fields| fields.get(1) == Some(&"->") && fields.get(5) == Some(&pid))
}

/// One that holds and one that waits.
struct Queue<'a, S> {
    line: &'a Line,
    wait: Wait,
    start: S,
    holds: Process,
    /// There is always one, but for the moment of handing over.
    holder: Option<Holder>,
}

impl<'a, S: Fn() -> Command> Queue<'a, S> {
    async fn start(line: &'a Line, wait: Wait, start: S) -> Self {
        let holds = Process::spawn("holds", start());
        let holder = Some(line.next().await);
        Self { line, wait, start, holds, holder }
    }

    /// How long the lock was unused.
    async fn hand_over(&mut self) -> Duration {
        let next = Process::spawn("waits", (self.start)());
        self.wait.seen(&next).await;
        tokio::time::sleep(REST).await;
        let mut before = std::mem::replace(&mut self.holds, next);
        let ended = self.holder.take().expect("somebody holds").end().await;
        let holder = self.line.next().await;
        let time = holder.started.since(ended);
        self.holder = Some(holder);
        before.expect_exit(LIMIT, 0).await;
        time
    }

    async fn end(mut self) {
        self.holder.expect("somebody holds").end().await;
        self.holds.expect_exit(LIMIT, 0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_lock_is_told_from_who_has_it() {
        let locks = "1: FLOCK  ADVISORY  WRITE 7 fe:00:12 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 8 fe:00:12 0 EOF\n";
        assert!(waits(locks, "8"));
        assert!(!waits(locks, "7"));
    }
}
