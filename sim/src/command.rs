//! The command line.

use std::{
    collections::BTreeSet,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use konductor_sim::{
    mutation::Mutation,
    plan::Plan,
    shrink::shrink,
    world::{Outcome, live, note_panics},
};

use crate::sum::Sum;

/// Histories in a piece of a search that is added to a file.
const PIECE: u64 = 1000;

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
        #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
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
        /// Etcd may be restored from a backup
        #[arg(long)]
        restores: bool,
    },
    /// Prints the plan of a seed as a script, to be kept in sim/scripts
    Script {
        /// The seed
        seed: u64,
        /// Etcd may be restored from a backup
        #[arg(long)]
        restores: bool,
    },
    /// Prints the table of what `run --add` has added to a file
    Table {
        /// The file
        file: PathBuf,
        /// Of histories with restored backups
        #[arg(long)]
        restores: bool,
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
    /// Fails if the time is over before so many
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    at_least: u64,
    /// The first seed of a search
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Threads of a search; one for each processor if it is not said
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// Etcd may be restored from a backup, after which not all can be relied on
    #[arg(long)]
    restores: bool,
    /// Lives through each history twice, and compares
    #[arg(long)]
    twice: bool,
    /// Adds what comes of each thousand histories to this file, and leaves out those that it has
    #[arg(long, value_name = "FILE")]
    add: Option<PathBuf>,
}

pub(crate) fn main() -> ExitCode {
    let Command { what } = Command::parse();
    note_panics();
    match what {
        What::Run(Run { seed: Some(seed), restores, .. }) => tell(&plan_of(seed, restores)),
        What::Run(run) => search(&run),
        What::Mutations { seeds, only } => mutate(seeds, &only),
        What::Script { seed, restores } => {
            println!("{}", serde_json::to_string_pretty(&plan_of(seed, restores)).unwrap_or_default());
            ExitCode::SUCCESS
        }
        What::Table { file, restores } => add_up(&file, restores).unwrap_or_else(|error| {
            eprintln!("sim: {}: {error}", file.display());
            ExitCode::from(2)
        }),
        What::Play { script } => match read(&script) {
            Ok(plan) => tell(&plan),
            Err(error) => {
                eprintln!("sim: {}: {error}", script.display());
                ExitCode::from(2)
            }
        },
        What::Shrink { seed, mutation, restores } => {
            let mutation = match mutation.map(|name| named(&name)).transpose() {
                Ok(mutation) => mutation,
                Err(unknown) => return unknown,
            };
            if let Some(plan) = shrink(&Plan { mutation, ..plan_of(seed, restores) }) {
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

/// The rule of this name.
fn named(name: &str) -> Result<Mutation, ExitCode> {
    let found = Mutation::ALL.iter().find(|known| format!("{known:?}") == name);
    found.copied().ok_or_else(|| {
        let all: Vec<_> = Mutation::ALL.iter().map(|known| format!("{known:?}")).collect();
        eprintln!("sim: {name} is no rule that can be taken out; wanted one of {}", all.join(", "));
        ExitCode::from(2)
    })
}

fn mutate(seeds: u64, only: &[String]) -> ExitCode {
    if let Some(unknown) = only.iter().find_map(|name| named(name).err()) {
        return unknown;
    }
    let mut survivors = 0;
    let chosen = |mutation: &&Mutation| only.is_empty() || only.contains(&format!("{mutation:?}"));
    for mutation in Mutation::ALL.iter().filter(chosen) {
        // Those are searched only when they are asked for.
        let seeds = if only.is_empty() && mutation.unseen().is_some() { 0 } else { seeds };
        let noticed = (1..=seeds).find_map(|seed| {
            let plan = Plan { mutation: Some(*mutation), ..Plan::of(seed) };
            let broken = live(&plan, false).broken.into_iter().next()?;
            live(&Plan::of(seed), false).broken.is_empty().then_some((seed, broken.what))
        });
        match (noticed, mutation.unseen()) {
            (Some((seed, what)), _) => println!("{mutation:?}: noticed by seed {seed}: {what}"),
            (None, Some(why)) => println!("{mutation:?}: not noticed by anybody: {why}"),
            (None, None) => {
                survivors += 1;
                println!("{mutation:?}: NOT NOTICED within {seeds} seeds");
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What limits a search.
struct Limits {
    begun: Instant,
    minutes: Option<Duration>,
    stop: AtomicBool,
}

impl Limits {
    fn is_over(&self) -> bool {
        self.stop.load(Relaxed) || self.minutes.is_some_and(|minutes| self.begun.elapsed() >= minutes)
    }
}

#[expect(clippy::disallowed_methods, reason = "a search is limited by the time of who waits for it")]
fn search(run: &Run) -> ExitCode {
    let minutes = run.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let limits = Limits { begun: Instant::now(), minutes, stop: AtomicBool::new(false) };
    let end = run.seeds.map_or(u64::MAX, |seeds| run.from.saturating_add(seeds));
    let sum = match &run.add {
        None => live_through(run, run.from, end, &limits),
        Some(file) => match search_in_pieces(run, end, file, &limits) {
            Ok(sum) => sum,
            Err(error) => {
                eprintln!("sim: {}: {error}", file.display());
                return ExitCode::from(2);
            }
        },
    };
    let seconds = limits.begun.elapsed().as_secs_f64();
    println!("{}, in {seconds:.1} s ({:.1} a second)", sum.line(), sum.histories as f64 / seconds);
    if run.add.is_none() && run.seeds.is_some_and(|seeds| sum.histories < seeds) && sum.failed.is_empty() {
        println!("The time was over before the other histories that were wanted.");
    }
    if run.add.is_none() {
        print!("{}", sum.table());
    }
    if sum.histories < run.at_least {
        eprintln!("sim: {} histories were wanted at least", run.at_least);
        return ExitCode::FAILURE;
    }
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lives through what a file does not have yet, a piece at a time, and adds to it each that is complete.
fn search_in_pieces(run: &Run, end: u64, file: &Path, limits: &Limits) -> io::Result<Sum> {
    let known: BTreeSet<_> =
        Sum::read(file, run.restores)?.into_iter().flat_map(|piece| piece.pieces.into_iter()).collect();
    let mut sum = Sum::new(run.restores);
    let mut from = run.from;
    while from < end && !limits.is_over() {
        let seeds = PIECE.min(end - from);
        if !known.contains(&(from, seeds)) {
            let mut piece = live_through(run, from, from + seeds, limits);
            if piece.histories == seeds {
                piece.pieces.insert(from, seeds);
                piece.keep(file)?;
            }
            sum.join(piece);
        }
        from += seeds;
    }
    Ok(sum)
}

/// Lives through the histories of these seeds.
fn live_through(run: &Run, from: u64, end: u64, limits: &Limits) -> Sum {
    let (next, sum) = (AtomicU64::new(from), Mutex::new(Sum::new(run.restores)));
    let work = || {
        while !limits.is_over() {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= end {
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
            if let Some(broken) = outcome.broken.first() {
                println!("seed {seed} BROKEN at {:?}: {}", broken.at, broken.what);
                limits.stop.fetch_or(run.until_fault, Relaxed);
            }
            sum.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
        }
    };
    let threads = run.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Prints the table of all pieces of a file.
fn add_up(file: &Path, restores: bool) -> io::Result<ExitCode> {
    let mut sum = Sum::new(restores);
    for piece in Sum::read(file, restores)? {
        sum.join(piece);
    }
    print!("{}", sum.table());
    for (seed, what) in &sum.failed {
        println!("seed {seed} BROKEN: {what}");
    }
    Ok(if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
