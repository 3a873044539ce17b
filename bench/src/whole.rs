//! What a whole process costs: from before it is started until it has ended and was waited for.

use std::process::Command;
use std::time::Duration;

use konductor::Boottime;

use crate::Effort;
use crate::sample::Sample;
use crate::scene::Scene;
use crate::table::{Row, Table};

/// The command that all of them run.
pub(crate) const TRUE: &str = "true";

/// With one uncontended lock.
pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    scene.semaphore("uncontended", 1).await;
    let mut commands = [
        ("konductor-run", scene.konductor_run(&["--semaphore", "uncontended"], &[TRUE])),
        ("etcdctl", scene.etcdctl_lock("uncontended", &[TRUE])),
    ];
    let samples = in_turns(&mut commands, effort.runs);
    let (ours, theirs) = (&samples[0].1, &samples[1].1);
    let row = Row::new("`konductor-run --semaphore s -- true`, uncontended", ours.show(" ms"));
    table.push(
        row.beside(format!("`etcdctl lock s true`: {}", theirs.show(" ms")))
            .ratio(ours.median() / theirs.median())
            .goal("<= 1.0"),
    );
    scene.clear("uncontended").await;
}

/// Runs the commands in turns, so that whatever else the machine does meets all of them.
pub(crate) fn in_turns<'a>(commands: &mut [(&'a str, Command)], runs: usize) -> Vec<(&'a str, Sample)> {
    let mut samples: Vec<_> = commands.iter().map(|(name, _)| (*name, Sample::default())).collect();
    for (_, command) in &mut *commands {
        // Once for the caches.
        run(command);
    }
    for _ in 0..runs {
        for ((_, command), (_, sample)) in commands.iter_mut().zip(&mut samples) {
            sample.push_time(run(command));
        }
    }
    samples
}

fn run(command: &mut Command) -> Duration {
    let start = Boottime::now();
    let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    let time = Boottime::now().since(start);
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    time
}
