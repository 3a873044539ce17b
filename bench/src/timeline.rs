//! When each step of an acquisition and of a handoff is taken, by both sides, on the clock of the machine.
//!
//! The programs note the moments themselves ([`konductor_cluster::moments`]) and say them when it is over, so that to
//! measure takes hardly any of the time that is measured: a comparison and a look at the clock for each step, and the
//! writing is done when nobody waits any more. They are the programs that ship; all that asks them is their log's level.
//! From outside (strace, perf) each look would cost more than most steps, and would not see a handshake or a decision.
//!
//! A step is shown with the one that it waits for, which is not always the one above: several are under way at a time.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;

use konductor::{Boottime, moments};
use konductor_tests::Process;

use crate::line::Line;
use crate::sample::Sample;
use crate::scene::{LIMIT, Scene};

/// What makes the operator tell its moments.
pub(crate) const OPERATOR_LOG: &str = "info,konductor_cluster::moments=debug";

/// Whoever has just begun to wait still has things to do, like opening a watch; then it is quiet.
const REST: Duration = Duration::from_millis(100);

/// A step of a timeline.
struct Step {
    /// What it is called in the table.
    name: &'static str,
    who: Who,
    /// What the program calls it.
    noted: &'static str,
    /// What it waits for: a step above.
    after: &'static str,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The command, or who has started everything.
    Driver,
    /// The `konductor-run` that acquires.
    Client,
    /// The `konductor-run` that has held before.
    Before,
    Operator,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "command",
            Self::Client => "konductor-run",
            Self::Before => "konductor-run before",
            Self::Operator => "operator",
        })
    }
}

const fn step(name: &'static str, who: Who, noted: &'static str, after: &'static str) -> Step {
    Step { name, who, noted, after }
}

/// What everything counts from.
const START: &str = "";

use Who::{Before, Client, Driver, Operator};

/// From the start of a process that acquires, holds for a command that does nothing, and releases, to its end.
const ACQUIRE: &[Step] = &[
    step("process started, command line read", Client, "begun", START),
    step("cluster and credentials found", Client, "configured", "process started, command line read"),
    step("create handed over", Client, "create", "cluster and credentials found"),
    step("connecting", Client, "connecting", "create handed over"),
    step("connected", Client, "connected", "connecting"),
    step("TLS handshake done", Client, "TLS done", "connected"),
    step("create answered", Client, "create answered", "TLS handshake done"),
    step("watch asked for", Client, "watch", "create answered"),
    step("watch opened", Client, "watch opened", "watch asked for"),
    step("claim seen", Operator, "claim seen", "TLS handshake done"),
    step("grant decided", Operator, "decided", "claim seen"),
    step("grant sent", Operator, "patch", "grant decided"),
    step("grant answered", Operator, "patch answered", "grant sent"),
    step("grant seen", Client, "event", "grant sent"),
    step("lock read", Client, "read", "grant seen"),
    step("guard ready", Client, "guard", "grant seen"),
    step("grant confirmed", Client, "read answered", "lock read"),
    step("heard by the loop", Client, "held", "grant confirmed"),
    step("guard told the deadline", Client, "guarded", "heard by the loop"),
    step("command executed", Client, "executed", "guard told the deadline"),
    step("command runs", Driver, "runs", "guard told the deadline"),
    step("command ends", Driver, "ends", "command runs"),
    step("command reaped", Client, "reaped", "command ends"),
    step("tree proven dead", Client, "dead", "command reaped"),
    step("guard ended", Client, "guard ended", "tree proven dead"),
    step("delete sent", Client, "delete", "tree proven dead"),
    step("delete answered", Client, "delete answered", "delete sent"),
    step("all done", Client, "over", "delete answered"),
    step("process has ended", Driver, "exited", "all done"),
];

/// From the end of the holder's command to the start of the next one's.
const HANDOFF: &[Step] = &[
    step("command reaped", Before, "reaped", START),
    step("tree proven dead", Before, "dead", "command reaped"),
    step("guard ended", Before, "guard ended", "tree proven dead"),
    step("delete sent", Before, "delete", "tree proven dead"),
    step("delete answered", Before, "delete answered", "delete sent"),
    step("deletion seen", Operator, "claim seen", "delete sent"),
    step("grant decided", Operator, "decided", "deletion seen"),
    step("grant sent", Operator, "patch", "grant decided"),
    step("grant answered", Operator, "patch answered", "grant sent"),
    step("grant seen", Client, "event", "grant sent"),
    step("lock read", Client, "read", "grant seen"),
    step("guard ready", Client, "guard", "grant seen"),
    step("grant confirmed", Client, "read answered", "lock read"),
    step("heard by the loop", Client, "held", "grant confirmed"),
    step("guard told the deadline", Client, "guarded", "heard by the loop"),
    step("command executed", Client, "executed", "guard told the deadline"),
    step("command runs", Driver, "runs", "guard told the deadline"),
];

/// What all have told of one run.
#[derive(Default)]
struct Run(Vec<(Who, String, Boottime)>);

impl Run {
    fn add(&mut self, who: Who, step: &str, at: Boottime) {
        self.0.push((who, step.to_owned(), at));
    }

    fn told(&mut self, who: Who, log: &str) {
        self.0.extend(moments::read(log).into_iter().map(|moment| (who, moment.step, moment.at)));
    }

    /// When this step was first taken, not before `from`.
    fn first(&self, who: Who, step: &str, from: Boottime) -> Option<Boottime> {
        let of_step = self.0.iter().filter(|(whose, name, at)| *whose == who && name == step && *at >= from);
        of_step.map(|(.., at)| *at).min()
    }
}

/// All runs of one kind.
struct Timeline {
    steps: &'static [Step],
    /// Of each step: when it was taken since the start, and how long after what it waits for.
    samples: Vec<(Sample, Sample)>,
}

impl Timeline {
    fn of(steps: &'static [Step]) -> Self {
        Self { steps, samples: steps.iter().map(|_| (Sample::default(), Sample::default())).collect() }
    }

    /// Takes a run in; a step that was not taken is an error in what is told.
    fn add(&mut self, start: Boottime, run: &Run) {
        let mut taken = vec![(START, start)];
        for (step, (since, took)) in self.steps.iter().zip(&mut self.samples) {
            let after = taken.iter().find(|(name, _)| *name == step.after).expect("a step above").1;
            let at = run.first(step.who, step.noted, after).unwrap_or_else(|| {
                panic!("nobody told of {:?} ({}) after {after}: {:?}", step.name, step.noted, run.0)
            });
            since.push_time(at.since(start));
            took.push_time(at.since(after));
            taken.push((step.name, at));
        }
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| step | whose | at, ms: p50 | p90 | waits for | took, ms: p50 | p90 |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (Step { name, who, after, .. }, (since, took)) in self.steps.iter().zip(&self.samples) {
            let [at, at_most, took, took_most] =
                [since.quantile(0.5), since.quantile(0.9), took.quantile(0.5), took.quantile(0.9)]
                    .map(|time| format!("{time:.2}"));
            let after = if *after == START { "the start" } else { after };
            writeln!(f, "| {name} | {who} | {at} | {at_most} | {after} | {took} | {took_most} |")?;
        }
        Ok(())
    }
}

/// Takes both apart, so many runs of each, and prints them.
pub(crate) async fn print(scene: &Scene, runs: usize) {
    eprintln!("measuring: {runs} acquisitions");
    let (timeline, whole) = acquire(scene, runs).await;
    println!("One acquisition, from before its process is started, of {runs} runs ({whole}):\n\n{timeline}");
    eprintln!("measuring: {runs} handoffs");
    let timeline = handoff(scene, runs).await;
    println!("One handoff, from the end of the holder's command, of {runs} runs:\n\n{timeline}");
}

async fn acquire(scene: &Scene, runs: usize) -> (Timeline, String) {
    let semaphore = "timeline-acquire";
    scene.semaphore(semaphore, 1).await;
    let line = Line::new(&scene.programs);
    let mut timeline = Timeline::of(ACQUIRE);
    let (mut asked, mut unasked) = (Sample::default(), Sample::default());
    // In turns with and without what is measured, to see what it costs; the first two for the caches.
    for number in 0..2 * (runs + 1) {
        let asks = number % 2 == 0;
        let told = scene.operator.stderr().len();
        let mut command = client(scene, semaphore, &line, asks);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Boottime::now();
        let process = command.spawn().expect("start konductor-run");
        let holder = line.next().await;
        let runs_at = holder.started;
        let ends_at = holder.end().await;
        let output = process.wait_with_output().expect("wait for konductor-run");
        let exited = Boottime::now();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "konductor-run failed: {log}");
        tokio::time::sleep(REST).await;
        if number < 2 {
            continue;
        }
        if asks {
            asked.push_time(exited.since(start));
            let mut run = Run::default();
            run.add(Driver, "runs", runs_at);
            run.add(Driver, "ends", ends_at);
            run.add(Driver, "exited", exited);
            run.told(Client, &log);
            run.told(Operator, &scene.operator.stderr()[told..]);
            timeline.add(start, &run);
        } else {
            unasked.push_time(exited.since(start));
        }
    }
    scene.clear(semaphore).await;
    let whole = format!("{}; not asked for its moments: {}", asked.show(" ms"), unasked.show(" ms"));
    (timeline, whole)
}

async fn handoff(scene: &Scene, runs: usize) -> Timeline {
    let semaphore = "timeline-handoff";
    scene.semaphore(semaphore, 1).await;
    let line = Line::new(&scene.programs);
    let mut timeline = Timeline::of(HANDOFF);
    let start = || Process::spawn("waits", client(scene, semaphore, &line, true));
    let mut before = start();
    let mut holder = line.next().await;
    // A process tells all when it ends, which is after the next handoff.
    let mut last: Option<(Boottime, Run)> = None;
    for _ in 0..=runs {
        let told = scene.operator.stderr().len();
        let next = start();
        scene.wait_pending(semaphore, 1).await;
        tokio::time::sleep(REST).await;
        let ended = holder.end().await;
        holder = line.next().await;
        before.expect_exit(LIMIT, 0).await;
        tokio::time::sleep(REST).await;
        if let Some((start, mut run)) = last.take() {
            run.told(Client, &before.stderr());
            timeline.add(start, &run);
        }
        let mut run = Run::default();
        run.add(Driver, "runs", holder.started);
        run.told(Before, &before.stderr());
        run.told(Operator, &scene.operator.stderr()[told..]);
        last = Some((ended, run));
        before = next;
    }
    holder.end().await;
    before.expect_exit(LIMIT, 0).await;
    scene.clear(semaphore).await;
    timeline
}

/// A `konductor-run` that acquires.
fn client(scene: &Scene, semaphore: &str, line: &Line, asks: bool) -> Command {
    let mut command = scene.konductor_run(&["--semaphore", semaphore], &line.command());
    if asks {
        command.env("KONDUCTOR_LOG", "debug");
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_first_of_its_kind_after_what_it_waits_for() {
        const STEPS: &[Step] =
            &[step("deletion seen", Operator, "claim seen", START), step("granted", Client, "event", "deletion seen")];
        let at = |milliseconds| Boottime(Duration::from_millis(milliseconds));
        let mut run = Run::default();
        // An event of the wait before, and those of a grant that others see, too.
        for (who, noted, when) in [
            (Client, "event", 3),
            (Operator, "claim seen", 2),
            (Client, "event", 12),
            (Operator, "claim seen", 9),
            (Operator, "claim seen", 14),
            (Before, "event", 10),
        ] {
            run.add(who, noted, at(when));
        }
        let mut timeline = Timeline::of(STEPS);
        timeline.add(at(5), &run);
        let shown = timeline.to_string();
        let rows: Vec<_> = shown.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| deletion seen | operator | 4.00 | 4.00 | the start | 4.00 | 4.00 |",
                "| granted | konductor-run | 7.00 | 7.00 | deletion seen | 3.00 | 3.00 |",
            ]
        );
    }

    #[test]
    fn each_step_waits_for_one_above() {
        for steps in [ACQUIRE, HANDOFF] {
            for (number, step) in steps.iter().enumerate() {
                let above = steps[..number].iter().any(|other| other.name == step.after);
                assert!(above || step.after == START, "{}", step.name);
            }
        }
    }
}
