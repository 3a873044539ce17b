//! The command line.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use konductor_sim::{
    mutation::Mutation,
    plan::Plan,
    shrink::shrink,
    world::{Outcome, live, note_panics},
};

/// Lives through histories of Konductor that seeds make, and checks them at every step.
#[derive(Parser)]
#[command(name = "sim")]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Tells the story of one seed, or searches many
    Run(Run),
    /// Takes out one rule after the other, and tells which seed notices
    Mutations {
        /// Seeds that are tried for each
        #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
        seeds: u64,
        /// Only these
        only: Vec<String>,
    },
    /// Finds the shortest history that fails as the one of this seed does, and tells it
    Shrink {
        /// The seed
        seed: u64,
        /// With this rule taken out
        #[arg(long, value_name = "NAME")]
        mutation: Option<String>,
    },
    /// Prints the plan of a seed as a script, to be kept in sim/scripts
    Script {
        /// The seed
        seed: u64,
    },
    /// Lives through a history that was kept as a script
    Play {
        /// The script
        script: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// The seed whose story is told
    seed: Option<u64>,
    /// Searches until something is broken
    #[arg(long)]
    until_fault: bool,
    /// Searches for so many minutes at most
    #[arg(long, value_name = "NUMBER")]
    minutes: Option<u64>,
    /// Searches so many seeds at most
    #[arg(long, value_name = "NUMBER")]
    seeds: Option<u64>,
    /// The first seed of a search
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Threads of a search
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    threads: usize,
    /// Etcd may be restored from a backup, after which not all can be relied on
    #[arg(long)]
    restores: bool,
    /// Lives through each history twice, and compares
    #[arg(long)]
    twice: bool,
}

pub(crate) fn main() -> ExitCode {
    let Command { what } = Command::parse();
    note_panics();
    match what {
        What::Run(Run { seed: Some(seed), restores, .. }) => tell(&plan_of(seed, restores)),
        What::Run(run) => search(&run),
        What::Mutations { seeds, only } => mutate(seeds, &only),
        What::Script { seed } => {
            println!("{}", serde_json::to_string_pretty(&Plan::of(seed)).unwrap_or_default());
            ExitCode::SUCCESS
        }
        What::Play { script } => match read(&script) {
            Ok(plan) => tell(&plan),
            Err(error) => {
                eprintln!("sim: {}: {error}", script.display());
                ExitCode::from(2)
            }
        },
        What::Shrink { seed, mutation } => {
            let named = |known: &&Mutation| Some(format!("{known:?}")) == mutation;
            let mutation = Mutation::ALL.iter().find(named).copied();
            if let Some(plan) = shrink(&Plan { mutation, ..Plan::of(seed) }) {
                let result = tell(&plan);
                println!("{}", serde_json::to_string_pretty(&plan).unwrap_or_default());
                return result;
            }
            println!("seed {seed} breaks nothing");
            ExitCode::SUCCESS
        }
    }
}

fn plan_of(seed: u64, restores: bool) -> Plan {
    if restores { Plan::with_restores(seed) } else { Plan::of(seed) }
}

fn read(script: &Path) -> io::Result<Plan> {
    Ok(serde_json::from_str(&fs::read_to_string(script)?)?)
}

/// Whether a seed repeats: only where tokio's own chance comes from it.
const REPEATS: bool = cfg!(tokio_unstable);

fn tell(plan: &Plan) -> ExitCode {
    if !REPEATS {
        eprintln!("sim: built without --cfg tokio_unstable, so this history need not come again: use sim/run");
    }
    println!("{plan:#?}");
    let outcome = live(plan, true);
    print!("{}", outcome.story);
    let Outcome { broken, digest, steps, lasted, figures, .. } = outcome;
    println!("seed {}: {steps} writes in {lasted:?}, digest {digest:016x}, {figures:?}", plan.seed);
    for broken in &broken {
        println!("BROKEN at {:?}: {}", broken.at, broken.what);
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutate(seeds: u64, only: &[String]) -> ExitCode {
    let mut survivors = 0;
    let chosen = |mutation: &&Mutation| only.is_empty() || only.contains(&format!("{mutation:?}"));
    for mutation in Mutation::ALL.iter().filter(chosen) {
        let noticed = (1..=seeds).find_map(|seed| {
            let plan = Plan { mutation: Some(*mutation), ..Plan::of(seed) };
            let broken = live(&plan, false).broken.into_iter().next()?;
            live(&Plan::of(seed), false).broken.is_empty().then_some((seed, broken.what))
        });
        if let Some((seed, what)) = noticed {
            println!("{mutation:?}: noticed by seed {seed}: {what}");
        } else {
            survivors += 1;
            println!("{mutation:?}: NOT NOTICED within {seeds} seeds");
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Sum {
    histories: u64,
    steps: u64,
    lasted: Duration,
    figures: BTreeMap<String, u64>,
    failed: BTreeMap<u64, String>,
}

#[expect(clippy::disallowed_methods, reason = "a search is limited by the time of who waits for it")]
fn search(run: &Run) -> ExitCode {
    let begun = std::time::Instant::now();
    let limit = run.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let (next, stop, sum) = (AtomicU64::new(run.from), AtomicBool::new(false), Mutex::new(Sum::default()));
    let work = || {
        while !stop.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            let enough = run.seeds.is_some_and(|seeds| seed >= run.from + seeds)
                || limit.is_some_and(|limit| begun.elapsed() >= limit);
            if enough {
                return;
            }
            let plan = plan_of(seed, run.restores);
            let mut outcome = live(&plan, false);
            if run.twice {
                let again = live(&plan, false);
                if again.digest != outcome.digest {
                    let what = "determinism: the same seed tells another story".to_owned();
                    outcome.broken.push(konductor_sim::observe::Broken { at: Duration::ZERO, what });
                }
            }
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.histories += 1;
            sum.steps += outcome.steps;
            sum.lasted += outcome.lasted;
            for (what, count) in outcome.figures {
                *sum.figures.entry(what).or_default() += count;
            }
            if let Some(broken) = outcome.broken.first() {
                println!("seed {seed} BROKEN at {:?}: {}", broken.at, broken.what);
                sum.failed.insert(seed, broken.what.clone());
                stop.fetch_or(run.until_fault, Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..run.threads {
            scope.spawn(work);
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} histories of {:.0} s each, {} writes, in {seconds:.1} s ({:.1} a second): {} broken",
        sum.histories,
        sum.lasted.as_secs_f64() / (sum.histories.max(1) as f64),
        sum.steps,
        sum.histories as f64 / seconds,
        sum.failed.len(),
    );
    for (what, count) in &sum.figures {
        println!("{count:>12} {what}");
    }
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
