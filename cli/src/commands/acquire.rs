//! `acquire`: asks for a claim in a holder's name, waits for its turn, and leaves it to its time to live.

use std::{pin::pin, time::Duration};

use konductor::{AcquireError, Boottime, Command, Event, Exit, Request, Wanted, claim_of_holder, run_for_holder};
use konductor_api::GoDuration;
use konductor_cluster::backoff::Backoff;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{claim::resource_of, object};
use crate::{
    args::{DryRun, DryRunArgs, HolderArgs, OutputArgs, TimeoutArgs, parse_duration},
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    holder::Who,
    kind::{ObjectName, Resource, parse_name},
    patience::{News, Patience},
    trouble::{explain, of_request},
    waiting::{Stop, wait_for},
    why,
};

/// How long a withdrawal may take, as `konductor-run` has it.
const WITHDRAWAL: Duration = Duration::from_millis(900);

/// What to acquire, and how.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The lock.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub(crate) name: String,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// How long the claim outlives its last renewal, 5s to 24h; the lock's own when absent.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    holder: HolderArgs,
    /// Higher goes first.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true, hide_default_value = true)]
    priority: i32,
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Taken for old scripts: it always waits.
    #[arg(long, hide = true)]
    wait: bool,
}

/// What is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    fencing_token: u64,
    ttl: Duration,
}

/// Acquires a claim on `wanted`.
pub(crate) async fn run(context: &Context, wanted: Wanted, args: &Args) -> Outcome {
    if context.globals.local.is_some() {
        return Err(Error::usage("in a folder (--local) a claim ends with the process that holds it")
            .advise("koncli run --local DIR --semaphore NAME -- COMMAND holds it while the command runs"));
    }
    let cluster = context.cluster().await?;
    let who = Who::found(args.holder.holder.as_deref());
    let lock = resource_of(&wanted);
    let (kind, field) = lock.claims().expect("a lock has claims");
    let name = claim_of_holder(&wanted, &who.holder, who.pod.as_ref());
    let request = Request {
        wanted: wanted.clone(),
        priority: args.priority,
        ttl: args.ttl,
        holder: who.holder.clone(),
        pod: who.pod.clone(),
    };
    if args.dry_run.dry_run != DryRun::None {
        return dry_run(context, &cluster, kind, field, &name, &request, args).await;
    }
    no_other_wish(&cluster, kind, &name, &request).await?;
    let held = match acquire(context, &cluster, lock, request, args).await {
        Ok(held) => held,
        Err(stop) => return stop.outcome(),
    };
    let until = GoDuration(held.ttl);
    context.screen.note(&format!("{} holds {lock}/{}, for {until} unless it is renewed", who.holder, args.name));
    let shown = match args.output.look(false) {
        Some(_) => format!("{}\n", held.fencing_token),
        None => args.output.print(held_claim(&cluster, lock, &args.name, &who, held).await?)?.unwrap_or_default(),
    };
    context.screen.text(&shown);
    Ok(DONE)
}

/// A claim in this holder's name that is there must be for the same.
async fn no_other_wish(cluster: &Cluster, kind: Resource, name: &str, request: &Request) -> Result<(), Error> {
    let claim = match cluster.call(Call::get(cluster.path(kind, name))).await {
        Ok(claim) => claim,
        Err(error) if error.is_absent(name) => return Ok(()),
        Err(error) => return Err(explain(cluster, error, kind, Some(name)).await),
    };
    match differs(&claim, request) {
        Some(difference) if claim["status"]["phase"] != "Expired" => {
            Err(Error::usage(format!("{} has a claim on {} already, {difference}", request.holder, request.wanted))
                .advise("release it first, or name another --holder"))
        }
        _ => Ok(()),
    }
}

/// In what a claim differs from what is asked for now, if it does.
fn differs(claim: &Value, request: &Request) -> Option<String> {
    if let Wanted::Semaphore { permits, .. } = request.wanted {
        let has = claim["spec"]["permits"].as_u64().unwrap_or(1);
        if has != u64::from(permits) {
            return Some(format!("for {has} permits and not for {permits}"));
        }
    }
    let has = claim["spec"]["ttl"].as_str().and_then(|ttl| ttl.parse::<GoDuration>().ok()).map(|ttl| ttl.0);
    match request.ttl {
        Some(wanted) if has != Some(wanted) => {
            let has = has.map_or("the lock's own".to_owned(), |has| GoDuration(has).to_string());
            Some(format!("with a time to live of {has} and not {}", GoDuration(wanted)))
        }
        _ => None,
    }
}

/// Asks and waits.
async fn acquire(
    context: &Context,
    cluster: &Cluster,
    lock: Resource,
    request: Request,
    args: &Args,
) -> Result<Held, Stop> {
    let object = ObjectName { resource: lock, name: args.name.clone() };
    let (kind, _) = lock.claims().expect("a lock has claims");
    let claim = claim_of_holder(&request.wanted, &request.holder, request.pod.as_ref());
    let doing = format!("acquire {object}");
    let (tell, mut events) = unbounded_channel();
    let (commands, orders) = unbounded_channel();
    let mut running = pin!(run_for_holder(cluster.client(), request, orders, move |event| {
        // Nobody listens any more when the program is about to end.
        let _ = tell.send(event);
    }));
    let (news_in, mut news) = unbounded_channel();
    let stop = {
        let held = pin!(async {
            loop {
                let event = tokio::select! {
                    biased;
                    event = events.recv() => event,
                    () = &mut running => events.recv().await,
                };
                if let Some(outcome) = takes(event, &object, &doing, &news_in) {
                    return outcome;
                }
            }
        });
        let patience = Patience::new(object.to_string(), Boottime::now(), args.timeout.timeout);
        match wait_for(context, patience, held, &mut news).await {
            Ok(held) => return Ok(held),
            Err(stop) => stop,
        }
    };
    // What could not be acquired is gone; all else is withdrawn.
    if !matches!(&stop, Stop::Because(error) if error.exit != Exit::TimedOut && error.exit != Exit::NoSuchPrimitive) {
        let _ = commands.send(Command::Release);
        let withdrawing = tokio::time::timeout(WITHDRAWAL, withdraw(running, &mut events)).await;
        if let Ok(Withdrawn { note: Some(note), .. }) = &withdrawing {
            context.screen.note(note);
        }
        // The SDK gives up soon, for pods that are to end. Here there is time, and what is left behind may be granted to
        // nobody for a whole time to live.
        if !withdrawing.is_ok_and(|withdrawn| withdrawn.surely) {
            clean_up(context, cluster, kind, &claim).await;
        }
    }
    Err(match stop {
        Stop::Because(error) if error.exit == Exit::TimedOut => {
            let reasons = why::in_short(cluster, &object).await;
            Stop::Because(reasons.into_iter().fold(error, Error::advise))
        }
        stop => stop,
    })
}

/// What an event means to who waits: an outcome, or news.
fn takes(
    event: Option<Event>,
    object: &ObjectName,
    doing: &str,
    news: &tokio::sync::mpsc::UnboundedSender<News>,
) -> Option<Result<Held, Error>> {
    let failed = |error: &AcquireError| Some(Err(of_request(doing, error)));
    let said = match event {
        Some(Event::Held { fencing_token, ttl, .. }) => return Some(Ok(Held { fencing_token, ttl })),
        Some(Event::Failed { error }) => return failed(&error),
        Some(Event::Lost { reason }) => {
            return Some(Err(Error::new(Exit::Lost, format!("{object} was acquired and lost at once: {reason}"))));
        }
        Some(Event::Asked) => News::Contact,
        Some(Event::Waiting { ahead, message, parent_missing }) => {
            News::Waiting { object: object.to_string(), message, ahead, missing: parent_missing }
        }
        Some(Event::Retrying { operation, error }) => {
            News::Trouble(format!("{object}: cannot {operation} yet: {error}"))
        }
        Some(_) => return None,
        None => return failed(&AcquireError::System("the claim's task has ended without a word".to_owned())),
    };
    // Who waits listens as long as it asks.
    let _ = news.send(said);
    None
}

/// How a withdrawal went.
struct Withdrawn {
    /// Whether nothing is left.
    surely: bool,
    /// What people should know of it.
    note: Option<String>,
}

/// Drives the claim to its end.
async fn withdraw(running: impl Future<Output = ()>, events: &mut UnboundedReceiver<Event>) -> Withdrawn {
    running.await;
    let (mut surely, mut note) = (false, None);
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Held { .. } => {
                note = Some("it was granted in the moment in which the waiting ended, and is handed back".to_owned());
            }
            Event::Released => surely = true,
            _ => {}
        }
    }
    Withdrawn { surely, note }
}

/// How long a claim that could not be withdrawn at once is tried to be deleted: as long as one that was held.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// Deletes the claim of this name if it is there.
async fn clean_up(context: &Context, cluster: &Cluster, kind: Resource, name: &str) {
    let deleting = async {
        let mut backoff = Backoff::default();
        loop {
            let found = cluster.call(Call::get(cluster.path(kind, name))).await;
            let outcome = match found {
                Ok(claim) => super::claim::delete(cluster, kind, &claim, DryRun::None).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) | Err(ApiError::Refused { code: 403 | 404 | 409, .. }) => return,
                Err(_) => backoff.pause().await,
            }
        }
    };
    if tokio::time::timeout(CLEAN_UP, deleting).await.is_err() {
        context
            .screen
            .warn(&format!("{kind}/{name} could not be deleted: nobody renews it, so it ends with its time to live"));
    }
}

/// The claim as the API has it.
async fn held_claim(cluster: &Cluster, lock: Resource, name: &str, who: &Who, held: Held) -> Result<Value, Error> {
    let claims = super::claim::claims_on(cluster, lock, name, Some(&who.holder)).await?;
    let ours = claims.into_iter().find(|claim| claim["status"]["fencingToken"] == held.fencing_token);
    ours.ok_or_else(|| Error::new(Exit::Lost, format!("{lock}/{name} was acquired and is gone again")))
}

/// Shows what would be asked for, or has the API server check it.
async fn dry_run(
    context: &Context,
    cluster: &Cluster,
    kind: Resource,
    field: &str,
    name: &str,
    request: &Request,
    args: &Args,
) -> Outcome {
    let lock_field = field.trim_start_matches("spec.");
    let mut spec = json!({
        lock_field: args.name, "holder": request.holder, "priority": request.priority, "instance": "holder-dry-run",
    });
    if let Wanted::Semaphore { permits, .. } = request.wanted {
        spec["permits"] = json!(permits);
    }
    if let Some(ttl) = request.ttl {
        spec["ttl"] = json!(GoDuration(ttl));
    }
    if let Some(pod) = &request.pod {
        spec["pod"] = json!(pod);
    }
    object::create_in(context, cluster, kind, name, spec, args.dry_run.dry_run, &args.output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_there_must_be_for_the_same() {
        let request = |permits, ttl: Option<u64>| Request {
            wanted: Wanted::Semaphore { name: "s".to_owned(), permits },
            priority: 0,
            ttl: ttl.map(Duration::from_secs),
            holder: "h".to_owned(),
            pod: None,
        };
        let claim = json!({ "spec": { "permits": 2, "ttl": "1m0s" } });
        assert_eq!(differs(&claim, &request(2, None)), None);
        assert_eq!(differs(&claim, &request(2, Some(60))), None);
        assert_eq!(differs(&claim, &request(1, None)).as_deref(), Some("for 2 permits and not for 1"));
        let difference = differs(&claim, &request(2, Some(5)));
        assert_eq!(difference.as_deref(), Some("with a time to live of 1m and not 5s"));
    }
}
