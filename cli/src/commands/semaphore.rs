//! `koncli semaphore`.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use konductor::Wanted;
use konductor_api::{GoDuration, limits::MAX_PERMITS};
use serde_json::json;

use super::{acquire, claim, list, object};
use crate::{
    args::{WriteArgs, parse_duration},
    context::Context,
    error::Outcome,
    kind::{SEMAPHORE, parse_name},
    status,
};

/// What to do with a semaphore.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create a semaphore.
    Create(CreateArgs),
    /// Wait for permits and hold them; prints the fencing token.
    Acquire(AcquireArgs),
    /// Give permits back.
    Release(claim::ReleaseArgs),
    /// Hold permits for another time to live.
    Renew(claim::RenewArgs),
    /// Change how many permits there are; 0 pauses.
    Resize(ResizeArgs),
    /// How it stands.
    Status(status::OneArgs),
    /// List semaphores.
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Delete semaphores. Whoever holds permits goes on.
    Delete(object::DeleteArgs),
}

/// The semaphore to create.
#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// How many permits there are; 0 pauses.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_PERMITS as u32)))]
    permits: u32,
    /// Time to live, without a renewal, of claims that name none.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Whether a claim that fits may pass an earlier one that does not.
    #[arg(long, value_name = "HOW")]
    queueing: Option<QueueingArg>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Who may go when the first in line does not fit.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum QueueingArg {
    /// Nobody: all wait for the first.
    #[value(name = "StrictFIFO", alias = "strict")]
    Strict,
    /// The first that fits.
    #[value(name = "BestEffortFIFO", alias = "best-effort")]
    BestEffort,
}

/// What to acquire.
#[derive(clap::Args, Debug)]
pub(crate) struct AcquireArgs {
    #[command(flatten)]
    common: acquire::Args,
    /// How many permits, all or nothing.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PERMITS as u32)))]
    permits: u32,
}

/// The size to give.
#[derive(clap::Args, Debug)]
pub(crate) struct ResizeArgs {
    /// The semaphore.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// How many permits there are to be; 0 pauses. Nobody loses a permit by it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_PERMITS as u32)))]
    permits: u32,
    #[command(flatten)]
    write: WriteArgs,
}

/// Does it.
pub(crate) async fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Create(args) => {
            let mut spec = json!({ "permits": args.permits });
            if let Some(ttl) = args.ttl {
                spec["ttl"] = json!(GoDuration(ttl));
            }
            match args.queueing {
                Some(QueueingArg::Strict) => spec["queueing"] = json!("StrictFIFO"),
                Some(QueueingArg::BestEffort) => spec["queueing"] = json!("BestEffortFIFO"),
                None => {}
            }
            object::create(context, SEMAPHORE, &args.name, spec, args.write.dry_run(), &args.write.output).await
        }
        Command::Acquire(args) => {
            let wanted = Wanted::Semaphore { name: args.common.name.clone(), permits: args.permits };
            acquire::run(context, wanted, &args.common).await
        }
        Command::Release(args) => claim::release(context, SEMAPHORE, args).await,
        Command::Renew(args) => claim::renew(context, SEMAPHORE, args).await,
        Command::Resize(args) => {
            let cluster = context.cluster().await?;
            let patch = json!({ "spec": { "permits": args.permits } });
            let change = object::Change { resource: SEMAPHORE, name: &args.name, patch, verb: "resized" };
            object::change(context, &cluster, change, args.write.dry_run(), &args.write.output).await
        }
        Command::Status(args) => status::one(context, SEMAPHORE, args).await,
        Command::List(args) => list::run(context, SEMAPHORE, args).await,
        Command::Delete(args) => object::delete(context, SEMAPHORE, args).await,
    }
}
