//! `koncli barrier`.

use std::{pin::pin, time::Duration};

use clap::Subcommand;
use konductor::{
    Boottime, Exit,
    identity::{ArrivalIdentity, COMPLETION_INDEX, PodSources, arrival_key},
    rendezvous::{self, Arriving, Awaited, Progress},
};
use konductor_api::{GoDuration, limits::MAX_EXPECTED};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::{
    list, object,
    wait::{self, Goal},
};
use crate::{
    args::{DryRun, DryRunArgs, HolderArgs, OldWaitArgs, OutputArgs, TimeoutArgs, parse_duration, parse_holder},
    cluster::{Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    holder::Who,
    kind::{ARRIVAL, BARRIER, ObjectName, parse_name},
    patience::{News, Patience},
    status,
    trouble::{explain, of_rendezvous},
    waiting::wait_for,
};

/// What to do with a barrier.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create a barrier.
    Create(CreateArgs),
    /// Arrive at a barrier.
    Arrive(ArriveArgs),
    /// Wait until a barrier is open.
    Wait(WaitArgs),
    /// Begin anew, with nobody arrived: the barrier is deleted and created again.
    Reset(ResetArgs),
    /// How it stands.
    Status(status::OneArgs),
    /// List barriers.
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Delete barriers, with who has arrived.
    Delete(object::DeleteArgs),
}

/// The barrier to create.
#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// How many are to arrive.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EXPECTED as u32)))]
    expected: u32,
    /// How many are enough once --timeout has passed.
    #[arg(long, value_name = "N", requires = "timeout", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EXPECTED as u32)))]
    quorum: Option<u32>,
    /// How long after the first arrival the others are waited for; then it opens with a quorum, or fails.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// How long after it opened or failed it begins a new round.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    reset_after: Option<Duration>,
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    old: OldWaitArgs,
}

/// Who arrives.
#[derive(clap::Args, Debug)]
pub(crate) struct ArriveArgs {
    /// The barrier.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// Who arrives: as --holder says, and before what that says.
    #[arg(value_name = "HOLDER", value_parser = parse_holder)]
    arriving: Option<String>,
    #[command(flatten)]
    holder: HolderArgs,
    /// What arrives once, however often it says so; the holder if one is named, else the pod's Job or the pod.
    #[arg(long, value_name = "KEY", value_parser = parse_holder)]
    key: Option<String>,
    /// Then wait until the barrier is open.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    timeout: TimeoutArgs,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

/// What to wait for.
#[derive(clap::Args, Debug)]
pub(crate) struct WaitArgs {
    /// The barrier.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

/// What to begin anew.
#[derive(clap::Args, Debug)]
pub(crate) struct ResetArgs {
    /// The barrier.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    old: OldWaitArgs,
}

/// Does it.
pub(crate) async fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Create(args) => {
            let mut spec = json!({ "expected": args.expected });
            if let Some(quorum) = args.quorum {
                spec["quorum"] = json!(quorum);
            }
            for (field, value) in [("timeout", args.timeout), ("resetAfter", args.reset_after)] {
                if let Some(value) = value {
                    spec[field] = json!(GoDuration(value));
                }
            }
            object::create(context, BARRIER, &args.name, spec, args.dry_run.dry_run, &args.output).await
        }
        Command::Arrive(args) => arrive(context, args).await,
        Command::Wait(args) => {
            let object = ObjectName { resource: BARRIER, name: args.name.clone() };
            let cluster = context.cluster().await?;
            wait::all(context, &cluster, std::slice::from_ref(&object), &Goal::Open, args.timeout.timeout).await
        }
        Command::Reset(args) => reset(context, args).await,
        Command::Status(args) => status::one(context, BARRIER, args).await,
        Command::List(args) => list::run(context, BARRIER, args).await,
        Command::Delete(args) => object::delete(context, BARRIER, args).await,
    }
}

/// Who arrives, and what makes two arrivals the same.
fn arriving(args: &ArriveArgs) -> Arriving {
    let given = args.arriving.as_deref().or(args.holder.holder.as_deref());
    let who = Who::found(given);
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let key = match (&args.key, given) {
        (Some(key), _) => key.clone(),
        (None, Some(holder)) => holder.to_owned(),
        (None, None) => {
            let (name, uid) = (variable("KONDUCTOR_POD_NAME"), variable("KONDUCTOR_POD_UID"));
            let sources = PodSources::read(name, uid, variable("KONDUCTOR_POD_CONTAINER"));
            let said = ArrivalIdentity { key: variable("KONDUCTOR_ARRIVAL_KEY"), job: variable("KONDUCTOR_JOB_UID") };
            let (container, index) = (sources.container_name(), variable(COMPLETION_INDEX));
            arrival_key(&said, sources.pod_uid(), container.as_deref(), index.as_deref(), &who.holder)
        }
    };
    Arriving { barrier: args.name.clone(), key, holder: who.holder }
}

async fn arrive(context: &Context, args: &ArriveArgs) -> Outcome {
    let cluster = context.cluster().await?;
    let arriving = arriving(args);
    let object = ObjectName { resource: BARRIER, name: args.name.clone() };
    let dry_run = args.dry_run.dry_run;
    let confirmation = format!("{}/{} arrived ({})", BARRIER.qualified(), args.name, arriving.key);
    if dry_run != DryRun::None {
        let spec = json!({ "barrier": arriving.barrier, "holder": arriving.holder, "key": arriving.key });
        let arrival = json!({
            "apiVersion": ARRIVAL.api_version(), "kind": ARRIVAL.kind,
            "metadata": { "generateName": format!("{}-", args.name) }, "spec": spec,
        });
        if dry_run == DryRun::Server {
            let call = Call::create(cluster.all(ARRIVAL), &arrival).with("dryRun", dry_run.parameter());
            if let Err(error) = cluster.call(call).await {
                return Err(explain(&cluster, error, ARRIVAL, None).await);
            }
        }
        context.screen.confirm(&format!("{confirmation}{}", dry_run.suffix()));
        return Ok(DONE);
    }
    let (news_in, mut news) = unbounded_channel();
    let doing = format!("arrive at {object}");
    let arrived = pin!(async {
        let mut outcome = None;
        rendezvous::arrive(cluster.client(), arriving, |progress| {
            let said = match progress {
                Progress::Done => return outcome = Some(Ok(())),
                Progress::Failed { error } => return outcome = Some(Err(of_rendezvous(&doing, &error))),
                Progress::RoundOver { failed, message } => {
                    let stands = if failed { "has failed" } else { "is open" };
                    News::Note(format!(
                        "{object} {stands} ({message}): this arrival comes after the round, and changes nothing"
                    ))
                }
                Progress::Retrying { operation, error } => {
                    News::Trouble(format!("{object}: cannot {operation} yet: {error}"))
                }
                // At a barrier that is not open, or not there, one arrives all the same.
                _ => News::Contact,
            };
            let _ = news_in.send(said);
        })
        .await;
        outcome.unwrap_or_else(|| Err(Error::internal("the arrival has ended without a word")))
    });
    // To arrive is not to wait: `--timeout` is for what comes after.
    let patience = Patience::new(object.to_string(), Boottime::now(), None);
    if let Err(stop) = wait_for(context, patience, arrived, &mut news).await {
        return stop.outcome();
    }
    context.screen.confirm(&confirmation);
    if args.wait {
        return wait::all(context, &cluster, std::slice::from_ref(&object), &Goal::Open, args.timeout.timeout).await;
    }
    Ok(DONE)
}

/// Waits for one barrier or gate to open, as the SDK does.
pub(crate) async fn open(
    cluster: &Cluster,
    object: &ObjectName,
    news: &tokio::sync::mpsc::UnboundedSender<News>,
) -> Result<(), Error> {
    let name = object.name.clone();
    let awaited = if object.resource == BARRIER { Awaited::barrier(name) } else { Awaited::gate(name) };
    let mut outcome = None;
    rendezvous::wait(cluster.client(), awaited, |progress| {
        let said = match progress {
            Progress::Done => return outcome = Some(Ok(())),
            Progress::Failed { error } => {
                return outcome = Some(Err(of_rendezvous(&format!("wait for {object}"), &error)));
            }
            Progress::Waiting { message, missing } => {
                News::Waiting { object: object.to_string(), message, ahead: None, missing }
            }
            Progress::Retrying { operation, error } => {
                News::Trouble(format!("{object}: cannot {operation} yet: {error}"))
            }
            _ => News::Contact,
        };
        let _ = news.send(said);
    })
    .await;
    outcome.unwrap_or_else(|| Err(Error::internal("the waiting has ended without a word")))
}

/// Deletes the barrier and creates it again: its arrivals belong to the one that is deleted.
async fn reset(context: &Context, args: &ResetArgs) -> Outcome {
    let cluster = context.cluster().await?;
    let path = cluster.path(BARRIER, &args.name);
    let old = match cluster.call(Call::get(&path)).await {
        Ok(old) => old,
        Err(error) => return Err(explain(&cluster, error, BARRIER, Some(&args.name)).await),
    };
    let mut metadata = json!({ "name": args.name, "namespace": cluster.namespace });
    for field in ["labels", "annotations", "ownerReferences", "finalizers"] {
        if !old["metadata"][field].is_null() {
            metadata[field] = old["metadata"][field].clone();
        }
    }
    let mut new = json!({
        "apiVersion": BARRIER.api_version(), "kind": BARRIER.kind, "metadata": metadata, "spec": old["spec"],
    });
    let dry_run = args.dry_run.dry_run;
    if dry_run != DryRun::Client {
        // Not one that somebody has changed since: that is to be reset as it is.
        let preconditions =
            json!({ "uid": old["metadata"]["uid"], "resourceVersion": old["metadata"]["resourceVersion"] });
        let options = json!({ "preconditions": preconditions, "propagationPolicy": "Background" });
        let delete = Call::delete(&path, &options, dry_run);
        if let Err(error) = cluster.call(delete).await {
            return Err(explain(&cluster, error, BARRIER, Some(&args.name)).await);
        }
        if dry_run == DryRun::None {
            // Those that came before the operator could say whose they are would count again.
            let selector = format!("spec.barrier={}", args.name);
            let arrivals = Call::delete(cluster.all(ARRIVAL), &json!({}), dry_run).with("fieldSelector", selector);
            let cleared = cluster.call(arrivals).await;
            new = match cluster.call(Call::create(cluster.all(BARRIER), &new)).await {
                Ok(new) => new,
                Err(error) => {
                    let error = explain(&cluster, error, BARRIER, None).await;
                    return Err(Error::new(
                        Exit::Refused,
                        format!("{object} was deleted, and cannot be created again: {error}", object = args.name),
                    )
                    .advise(format!("kubectl apply -f - <<< '{new}'")));
                }
            };
            if let Err(error) = cleared {
                context.screen.note(&format!("who has arrived may count again: {error}"));
            }
        }
    }
    object::done(context, BARRIER, &new, "reset", dry_run, &args.output)
}
