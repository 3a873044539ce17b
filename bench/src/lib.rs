//! Konductor's figures.
//!
//! Machines differ, and one machine differs from minute to minute. So every figure stands beside another one that was
//! taken in the same run, in turns with it, against the same etcd or API server: what a bare process costs, what
//! `etcdctl lock` costs, what the API server itself can do. Their ratio is what can be compared between machines.
//!
//! Nothing is simplified in Konductor's favour: the programs are the static release binaries, the API server has RBAC,
//! clients authenticate with tokens of `ServiceAccount`s as in a pod, and etcd writes to the disk.
//!
//! - `scene`: the control plane with Konductor installed, and the programs;
//! - `inits`, `people`, `local`, `whole`, `writes`, `admission`, `handoff`, `holding`, `throughput`, `footprint`, `pods`,
//!   `scale`, `watches`, `renewals`: what is measured;
//! - `timeline`: an acquisition and a handoff, step by step;
//! - `line`: commands that say when they run;
//! - `sample`, `table`: figures, and how they are shown.

mod admission;
mod floor;
mod footprint;
mod handoff;
mod holding;
mod inits;
mod line;
mod local;
mod people;
mod pods;
mod renewals;
mod sample;
mod scale;
mod scene;
mod table;
mod throughput;
mod timeline;
mod watches;
mod whole;
mod writes;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use self::scene::{Programs, Scene};
use self::table::Table;

/// Takes Konductor's figures and prints them as a Markdown table.
#[derive(Debug, Parser)]
#[command(name = "bench/run")]
struct Args {
    /// Everything a little, to show that it works; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// How many claims the operator's memory is measured with
    #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
    claims: usize,
    /// Only the parts whose name begins with this
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// Instead of all that: one acquisition and one handoff, step by step; see bench/trace
    #[arg(long)]
    timeline: bool,
    /// How often that is measured
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    runs: usize,
    /// The konductor-run to measure; bench/run says which
    #[arg(long, value_name = "PATH", hide = true)]
    run: PathBuf,
    /// The konductor-operator to measure; bench/run says which
    #[arg(long, value_name = "PATH", hide = true)]
    operator: PathBuf,
    /// The koncli to measure; bench/run says which
    #[arg(long, value_name = "PATH", hide = true)]
    koncli: PathBuf,
}

/// How much of everything to measure.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Runs of which the median is taken; odd.
    runs: usize,
    /// Starts of a process with nothing to acquire; odd.
    starts: usize,
    /// Real processes in the longer of the two queues.
    queue: usize,
    /// Claims behind the next one in line.
    crowd: usize,
    /// Windows of which the median is taken; odd.
    windows: usize,
    /// How long one window of a throughput is.
    window: Duration,
    /// How long something is held while nothing happens.
    hold: Duration,
    /// Claims that are granted at once.
    grants: usize,
    /// Claims that the operator's memory is measured with.
    claims: usize,
    /// Those with large annotations.
    large_claims: usize,
    /// Pods in the cluster.
    pods: usize,
    /// Claims at a time, where they are many.
    crowd_claims: usize,
    /// Watches at a time, where they are many.
    watches: usize,
    /// Holders of whom the renewals are counted.
    holders: usize,
}

impl Effort {
    fn of(args: &Args) -> Self {
        if args.quick {
            let window = Duration::from_millis(500);
            Self {
                runs: 5,
                starts: 11,
                queue: 10,
                crowd: 50,
                windows: 1,
                window,
                hold: window,
                grants: 50,
                claims: 100,
                large_claims: 10,
                pods: 100,
                crowd_claims: 100,
                watches: 20,
                holders: 10,
            }
        } else {
            let window = Duration::from_secs(4);
            let hold = Duration::from_mins(1);
            Self {
                runs: 31,
                starts: 201,
                queue: 100,
                crowd: 1000,
                windows: 3,
                window,
                hold,
                grants: 500,
                claims: args.claims,
                large_claims: 200,
                pods: 5000,
                crowd_claims: 10_000,
                watches: 1000,
                holders: 200,
            }
        }
    }
}

/// The whole of `konductor-bench`.
pub async fn main() {
    let args = Args::parse();
    let effort = Effort::of(&args);
    let programs = Programs::new(args.run, args.operator, args.koncli);
    if args.timeline {
        let scene = Scene::start(programs, Some(timeline::OPERATOR_LOG)).await;
        return timeline::print(&scene, if args.quick { effort.runs } else { args.runs }).await;
    }
    let mut scene = Scene::start(programs, None).await;
    let mut table = Table::default();
    for part in [
        "inits",
        "people",
        "local",
        "idle",
        "whole",
        "writes",
        "admission",
        "handoff",
        "holding",
        "throughput",
        "grants",
        "memory",
        "bytes",
        "turns",
        "pods",
        "scale-many",
        "scale-one",
        "watches",
        "renewals",
    ] {
        if !part.starts_with(&args.only) {
            continue;
        }
        eprintln!("measuring: {part}");
        match part {
            "inits" => inits::measure(&scene, effort, &mut table).await,
            "people" => people::measure(&scene, effort, &mut table).await,
            "local" => local::measure(&scene, effort, &mut table).await,
            "idle" => footprint::idle(&scene, effort, &mut table).await,
            "whole" => whole::measure(&scene, effort, &mut table).await,
            "writes" => writes::measure(&scene, effort, &mut table).await,
            "admission" => admission::measure(&mut scene, effort, &mut table).await,
            "handoff" => handoff::measure(&scene, effort, &mut table).await,
            "holding" => holding::measure(&scene, effort, &mut table).await,
            "throughput" => throughput::cycles(&scene, effort, &mut table).await,
            "grants" => throughput::grants(&scene, effort, &mut table).await,
            "bytes" => footprint::with_large_claims(&mut scene, effort, &mut table).await,
            "pods" => pods::measure(&scene, effort, &mut table).await,
            "scale-many" => scale::many_locks(&mut scene, effort, &mut table).await,
            "scale-one" => scale::one_lock(&mut scene, effort, &mut table).await,
            "watches" => watches::measure(&scene, effort, &mut table).await,
            "renewals" => renewals::measure(&scene, effort, &mut table).await,
            "turns" => footprint::turns(&mut scene, effort, &mut table).await,
            _ => footprint::with_claims(&mut scene, effort, &mut table).await,
        }
    }
    print!("{table}");
}
