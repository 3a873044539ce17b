//! `koncli lease`: leases of konductor.io, not Kubernetes' own.

use std::time::Duration;

use clap::Subcommand;
use konductor::Wanted;
use konductor_api::GoDuration;
use serde_json::json;

use super::{acquire, claim, list, object};
use crate::{
    args::{WriteArgs, parse_duration},
    context::Context,
    error::Outcome,
    kind::{LEASE, parse_name},
    status,
};

/// What to do with a lease.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create a lease.
    Create(CreateArgs),
    /// Wait for the lease and hold it; prints the fencing token.
    Acquire(acquire::Args),
    /// Give the lease back.
    Release(claim::ReleaseArgs),
    /// Hold the lease for another time to live.
    Renew(claim::RenewArgs),
    /// How it stands.
    Status(status::OneArgs),
    /// List leases.
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Delete leases. Whoever holds one goes on.
    Delete(object::DeleteArgs),
}

/// The lease to create.
#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// Time to live, without a renewal, of claims that name none.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Does it.
pub(crate) async fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Create(args) => {
            let spec = args.ttl.map_or(json!({}), |ttl| json!({ "ttl": GoDuration(ttl) }));
            object::create(context, LEASE, &args.name, spec, args.write.dry_run(), &args.write.output).await
        }
        Command::Acquire(args) => acquire::run(context, Wanted::Lease { name: args.name.clone() }, args).await,
        Command::Release(args) => claim::release(context, LEASE, args).await,
        Command::Renew(args) => claim::renew(context, LEASE, args).await,
        Command::Status(args) => status::one(context, LEASE, args).await,
        Command::List(args) => list::run(context, LEASE, args).await,
        Command::Delete(args) => object::delete(context, LEASE, args).await,
    }
}
