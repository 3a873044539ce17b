//! `koncli barrier`.

use std::{pin::pin, time::Duration};

use clap::Subcommand;
use futures::{StreamExt as _, stream};
use konductor::{
    Boottime, Exit,
    identity::{ArrivalIdentity, COMPLETION_INDEX, PodSources, arrival_key},
    rendezvous::{self, Arriving, Awaited, Progress},
};
use konductor_api::{ArrivalSpec, GoDuration, limits::MAX_EXPECTED};
use konductor_cluster::backoff::Backoff;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use super::{
    acquire::again,
    claim::delete,
    list, object,
    wait::{self, Goal},
};
use crate::{
    args::{DryRun, DryRunArgs, HolderArgs, OutputArgs, TimeoutArgs, WriteArgs, parse_duration, parse_holder},
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    holder::Who,
    kind::{ARRIVAL, BARRIER, ObjectName, parse_name},
    patience::{News, Patience},
    status,
    trouble::{explain, of_rendezvous, quoted},
    waiting::{listen, wait_for},
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
    /// Begin anew, with nobody arrived: the barrier is deleted and created again, which may take up to two minutes, and is
    /// finished when a signal comes.
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
    write: WriteArgs,
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
    #[command(flatten)]
    output: OutputArgs,
}

/// What to wait for.
#[derive(clap::Args, Debug)]
pub(crate) struct WaitArgs {
    /// The barrier.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    timeout: TimeoutArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to begin anew.
#[derive(clap::Args, Debug)]
pub(crate) struct ResetArgs {
    /// The barrier.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    write: WriteArgs,
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
            object::create(context, BARRIER, &args.name, spec, args.write.dry_run(), &args.write.output).await
        }
        Command::Arrive(args) => arrive(context, args).await,
        Command::Wait(args) => {
            let object = ObjectName { resource: BARRIER, name: args.name.clone() };
            let (cluster, timeout) = context.cluster_within(args.timeout.timeout).await?;
            wait::all(context, &cluster, std::slice::from_ref(&object), &Goal::Open, timeout, &args.output).await
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
            let container = variable("KONDUCTOR_POD_CONTAINER");
            let sources = PodSources { container, ..PodSources::found() }.and_mounts();
            let said = ArrivalIdentity { key: variable("KONDUCTOR_ARRIVAL_KEY"), job: variable("KONDUCTOR_JOB_UID") };
            let (container, index) = (sources.container_name(), variable(COMPLETION_INDEX));
            arrival_key(&said, sources.pod_uid(), container.as_deref(), index.as_deref(), &who.holder)
        }
    };
    Arriving { barrier: args.name.clone(), key, holder: who.holder, pod: who.pod }
}

async fn arrive(context: &Context, args: &ArriveArgs) -> Outcome {
    let (cluster, timeout) = context.cluster_within(args.timeout.timeout).await?;
    let arriving = arriving(args);
    let object = ObjectName { resource: BARRIER, name: args.name.clone() };
    let dry_run = args.dry_run.dry_run;
    let key = arriving.key.clone();
    let confirmation = format!("{}/{} arrived ({key})", BARRIER.qualified(), args.name);
    if dry_run != DryRun::None {
        let Arriving { barrier, key, holder, pod } = arriving;
        let spec = ArrivalSpec { barrier, key, holder, pod };
        let mut arrival = json!({
            "apiVersion": ARRIVAL.api_version(), "kind": ARRIVAL.kind,
            "metadata": { "generateName": format!("{}-", args.name) }, "spec": spec,
        });
        if dry_run == DryRun::Server {
            let call = Call::create(cluster.all(ARRIVAL), &arrival).with("dryRun", dry_run.parameter());
            arrival = match cluster.call(call).await {
                Ok(arrival) => arrival,
                Err(error) => return Err(explain(&cluster, error, ARRIVAL, None).await),
            };
        }
        match args.output.print(arrival)? {
            Some(text) => context.screen.text(&text),
            None => context.screen.confirm(&format!("{confirmation}{}", dry_run.suffix())),
        }
        return Ok(DONE);
    }
    let (news_in, mut news) = unbounded_channel();
    let doing = format!("arrive at {object}");
    let arrived = pin!(async {
        let mut outcome = None;
        rendezvous::arrive(cluster.client(), arriving, |progress| {
            let said = match progress {
                Progress::Done => return outcome = Some(Ok(())),
                Progress::Failed { error } => return outcome = Some(Err(of_rendezvous(&doing, &error, cluster.role))),
                Progress::RoundOver { failed, message } => {
                    let stands = if failed { "has failed" } else { "is open" };
                    News::Note(format!(
                        "{object} {stands} ({message}): this arrival comes after the round, and changes nothing"
                    ))
                }
                Progress::RoundPassed { round } => News::Note(format!(
                    "{object} has begun round {round} before an answer told whether this arrival was made: it is not made \
                     once more, as it could count in two rounds"
                )),
                Progress::Retrying { operation, error } => {
                    News::Trouble(format!("{object}: cannot {operation} yet: {error}"))
                }
                // Not for the barrier, which one arrives at whether it is open or not, but for a quota.
                Progress::Waiting { message, missing } => {
                    News::Waiting { object: object.to_string(), message, ahead: None, missing }
                }
                _ => News::Contact,
            };
            let _ = news_in.send(said);
        })
        .await;
        outcome.unwrap_or_else(|| Err(Error::internal("the arrival has ended without a word")))
    });
    // To arrive is not to wait: `--timeout` is for what comes after.
    let patience = Patience::new(object.to_string(), Boottime::now(), None).with(&cluster.server);
    if let Err(stop) = wait_for(context, patience, arrived, &mut news).await {
        return stop.outcome();
    }
    let is_shown = args.output.look(false).is_none();
    // Shown once: when all is done.
    if !(is_shown && args.wait) {
        wait::said(context, &cluster, &object, &format!("arrived ({key})"), &args.output).await?;
    }
    if args.wait {
        return wait::all(context, &cluster, std::slice::from_ref(&object), &Goal::Open, timeout, &args.output).await;
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
                return outcome = Some(Err(of_rendezvous(&format!("wait for {object}"), &error, cluster.role)));
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
    let new = successor(&old);
    let dry_run = args.write.dry_run();
    if dry_run != DryRun::Client {
        rehearse(&cluster, &new).await?;
    }
    match dry_run {
        DryRun::Client => {}
        DryRun::Server => {
            if let Err(error) = cluster.call(deletion(&path, &old, DryRun::Server)).await {
                return Err(explain(&cluster, error, BARRIER, Some(&args.name)).await);
            }
        }
        DryRun::None => {
            // Before the old barrier goes: who arrives after that arrives at the new one.
            let arrivals = match unowned(&cluster, &args.name).await {
                Ok(arrivals) => arrivals,
                Err(error) => return Err(explain(&cluster, error, ARRIVAL, None).await),
            };
            let show = |new: &Value| object::done(context, BARRIER, new, "reset", dry_run, &args.write.output);
            return finish(context, &new, replace(context, &cluster, &old, &new, arrivals), show).await;
        }
    }
    object::done(context, BARRIER, &new, "reset", dry_run, &args.write.output)
}

/// Has the API server try the new barrier before the old one goes, under a name that is free: what it refuses now, it
/// would refuse then, and the barrier would be lost.
async fn rehearse(cluster: &Cluster, new: &Value) -> Result<(), Error> {
    let mut trial = new.clone();
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    trial["metadata"]["name"] = Value::Null;
    trial["metadata"]["generateName"] = json!(trial_prefix(name));
    let call = Call::create(cluster.all(BARRIER), &trial).with("dryRun", DryRun::Server.parameter());
    let Err(error) = cluster.call(call).await else { return Ok(()) };
    let is_quota = error.to_string().contains("exceeded quota");
    let error = explain(cluster, error, BARRIER, None).await;
    let message = format!("barrier/{name} is left as it is, as a trial to create it again has failed: {error}");
    let error = Error { message, ..error };
    Err(if is_quota {
        error.advise("a quota counts the old one until a while after it has gone: it takes room for one more")
    } else {
        error
    })
}

/// As much of a name as the API server surely keeps before the five letters that it adds.
const TRIAL: usize = 50;

/// How the names of barriers begin that are tried in place of the one of this name.
fn trial_prefix(name: &str) -> String {
    let kept = &name[..name.floor_char_boundary(TRIAL)];
    format!("{}-", kept.trim_end_matches(['.', '-']))
}

/// Puts the new barrier in the place of the old one and its unowned arrivals.
async fn replace(
    context: &Context,
    cluster: &Cluster,
    old: &Value,
    new: &Value,
    arrivals: Vec<Value>,
) -> Result<Value, Error> {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    remove(cluster, old, new).await?;
    let cleared = clear(cluster, arrivals).await;
    let created = match create(cluster, new).await {
        Ok(created) => created,
        Err(error) if error.code() == Some(409) => {
            let error = explain(cluster, error, BARRIER, Some(name)).await;
            let message = format!("{name} was deleted, and created anew by somebody else, otherwise");
            return Err(Error { message, ..error });
        }
        Err(error) => {
            let error = explain(cluster, error, BARRIER, None).await;
            let message = format!("{name} was deleted, and cannot be created again: {error}");
            return Err(Error::new(error.exit, message).advise(by_hand(new)));
        }
    };
    if let Err(error) = cleared {
        context.screen.note(&format!("who has arrived may count again: {error}"));
    }
    Ok(created)
}

/// Has a barrier replaced, and shows it. Between the two requests nobody else knows what it was: a first signal ends
/// this when the barrier is there again, and a second one at once, with what creates it.
async fn finish(
    context: &Context,
    new: &Value,
    replacing: impl Future<Output = Result<Value, Error>>,
    show: impl FnOnce(&Value) -> Outcome,
) -> Outcome {
    let mut signals = listen()?;
    let mut replacing = pin!(replacing);
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let signal = tokio::select! {
        biased;
        replaced = &mut replacing => return show(&replaced?),
        signal = signals.next() => signal,
    };
    context
        .screen
        .note(&format!("barrier/{name} is being replaced, and this ends then; a second signal ends it at once"));
    tokio::select! {
        biased;
        replaced = replacing => {
            if let Err(error) = replaced.and_then(|new| show(&new)) {
                context.screen.error(&error);
            }
            Ok(Exit::Signal(signal))
        }
        second = again(&mut signals) => {
            let create = by_hand(new);
            context.screen.warn(&format!("barrier/{name} may be deleted; to create it when it is gone: {create}"));
            Ok(Exit::Signal(second))
        }
    }
}

/// How long the old barrier may take to go, and the new one to come: two requests without an answer.
const RESET: Duration = Duration::from_mins(1);

/// The barrier that takes the place of an old one. Finalizers are not taken over: whoever sets them does so by itself,
/// and nobody may be left to take them away.
fn successor(old: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "labels", "annotations", "ownerReferences"] {
        if !old["metadata"][field].is_null() {
            metadata[field] = old["metadata"][field].clone();
        }
    }
    json!({ "apiVersion": BARRIER.api_version(), "kind": BARRIER.kind, "metadata": metadata, "spec": old["spec"] })
}

/// How to create it when this program cannot.
fn by_hand(new: &Value) -> String {
    format!("printf %s {} | kubectl create -f -", quoted(&new.to_string()))
}

/// The request to delete a barrier, but not one that somebody has changed since: that is to be reset as it is.
fn deletion(path: &str, old: &Value, dry_run: DryRun) -> Call {
    let metadata = &old["metadata"];
    let preconditions = json!({ "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"] });
    Call::delete(path, &json!({ "preconditions": preconditions, "propagationPolicy": "Background" }), dry_run)
}

/// Deletes the old barrier and waits until it is gone.
async fn remove(cluster: &Cluster, old: &Value, new: &Value) -> Result<(), Error> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let path = cluster.path(BARRIER, name);
    let (mut is_going, mut last) = (false, None);
    let removing = async {
        let mut backoff = Backoff::default();
        let mut old = old.clone();
        loop {
            let mut overtaken = None;
            if !is_going {
                match cluster.call(deletion(&path, &old, DryRun::None)).await {
                    Ok(_) => is_going = true,
                    Err(error) if error.is_passing() => last = Some(error),
                    Err(error) if error.code() == Some(409) => overtaken = Some(error),
                    // After an answer that was lost, what is there tells whether it has come to pass.
                    Err(_) if last.is_some() => {}
                    Err(error) => return Err(error),
                }
            }
            match cluster.call(Call::get(&path)).await {
                Ok(found) if found["metadata"]["uid"] != old["metadata"]["uid"] => return Ok(()),
                Ok(found) => {
                    is_going |= !found["metadata"]["deletionTimestamp"].is_null();
                    // The operator writes the status all the time; what is wanted of it may not have changed.
                    match overtaken {
                        Some(error) if found["spec"] != old["spec"] => return Err(error),
                        _ => old = found,
                    }
                }
                Err(error) if error.is_absent(name) => return Ok(()),
                Err(error) if error.is_passing() => last = Some(error),
                Err(error) => return Err(error),
            }
            backoff.pause().await;
        }
    };
    let removed = tokio::time::timeout(RESET, removing).await;
    let error = match (removed, last) {
        (Ok(Ok(())), _) => return Ok(()),
        (Ok(Err(error)), _) => explain(cluster, error, BARRIER, Some(name)).await,
        (Err(_), Some(error)) if !is_going => explain(cluster, error, BARRIER, Some(name)).await,
        (Err(_), _) => Error::new(
            Exit::TimedOut,
            format!("barrier/{name} is deleted, and not gone after {}: a finalizer keeps it", GoDuration(RESET)),
        ),
    };
    Err(if is_going { error.advise(format!("when it is gone: {}", by_hand(new))) } else { error })
}

/// The arrivals at barriers of this name that are known to be no barrier's: they would count for the next one. (All
/// others count for the barrier that owns them, and go with it.)
async fn unowned(cluster: &Cluster, barrier: &str) -> Result<Vec<Value>, ApiError> {
    let selector = format!("spec.barrier={barrier}");
    let mut list = cluster.list(Call::get(cluster.all(ARRIVAL)).with("fieldSelector", selector)).await?;
    let all = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let is_owned = |arrival: &Value| {
        let owners = arrival["metadata"]["ownerReferences"].as_array();
        owners.into_iter().flatten().any(|owner| owner["kind"] == BARRIER.kind)
    };
    Ok(all.into_iter().filter(|arrival| !is_owned(arrival)).collect())
}

/// Requests to delete that are under way at a time: enough for a few hundred to be quick, and nothing to an API server.
const AT_ONCE: usize = 8;

/// Deletes these arrivals, and none that have come since. All are tried; the error is that of one.
async fn clear(cluster: &Cluster, arrivals: Vec<Value>) -> Result<(), ApiError> {
    let deleting = arrivals.iter().map(|arrival| delete(cluster, ARRIVAL, arrival, DryRun::None));
    let deleted: Vec<_> = stream::iter(deleting).buffer_unordered(AT_ONCE).collect().await;
    deleted.into_iter().collect()
}

/// Creates the new barrier, unless one that is alike is there: it is the one whose answer was lost, or somebody who
/// keeps the cluster as it is written down somewhere was quicker.
async fn create(cluster: &Cluster, new: &Value) -> Result<Value, ApiError> {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let mut last = None;
    let creating = async {
        let mut backoff = Backoff::default();
        loop {
            let error = match cluster.call(Call::create(cluster.all(BARRIER), new)).await {
                Ok(new) => return Ok(new),
                Err(error) => error,
            };
            if error.is_passing() {
                last = Some(error);
                backoff.pause().await;
                continue;
            }
            if error.code() == Some(409) {
                let found = cluster.call(Call::get(cluster.path(BARRIER, name))).await;
                if let Ok(found) = found
                    && found["spec"] == new["spec"]
                {
                    return Ok(found);
                }
            }
            return Err(error);
        }
    };
    let created = tokio::time::timeout(RESET, creating).await;
    let late = || ApiError::Unanswered(format!("no answer within {}", GoDuration(RESET)));
    created.unwrap_or_else(|_| Err(last.unwrap_or_else(late)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_begins_anew_as_it_was_but_for_who_keeps_it() {
        let old = json!({
            "metadata": {
                "name": "b", "namespace": "etl", "uid": "u", "resourceVersion": "7", "labels": { "a": "b" },
                "annotations": { "note": "it's" }, "finalizers": ["example.com/gone"], "deletionTimestamp": "x",
            },
            "spec": { "expected": 2 }, "status": { "phase": "Open" },
        });
        let new = successor(&old);
        let metadata = json!({
            "name": "b", "namespace": "etl", "labels": { "a": "b" }, "annotations": { "note": "it's" },
        });
        assert_eq!(new["metadata"], metadata);
        assert_eq!((&new["spec"], &new["status"]), (&old["spec"], &Value::Null));
        assert!(by_hand(&new).contains(r"it'\''s"), "{}", by_hand(&new));
    }

    #[test]
    fn a_barrier_is_tried_under_a_name_that_is_one() {
        let dotted = format!("{}.{}", "a".repeat(TRIAL - 1), "b".repeat(TRIAL));
        for (name, expected) in [("b", "b-".to_owned()), (&dotted, format!("{}-", "a".repeat(TRIAL - 1)))] {
            assert_eq!(trial_prefix(name), expected);
            assert!(konductor::name::is_name(&format!("{expected}x7k2p")), "{expected}");
        }
    }
}
