//! `acquire`: asks for a claim in a holder's name, waits for its turn, and leaves it to its time to live.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use konductor::{
    AcquireError, Boottime, Command, Event, Exit, Request, Wanted, claim_of_holder, instance_of_holder, run_for_holder,
};
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
    trouble::{Role, explain, of_request},
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
    let (cluster, timeout) = context.cluster_within(args.timeout.timeout).await?;
    let who = Who::found(args.holder.holder.as_deref());
    if who.pod.is_none() && who.is_of_another() {
        context.screen.note(&format!(
            "{} is the name of another person than {}: releasing it takes --force here; a name without @ is anybody's",
            who.holder, who.person
        ));
    }
    let lock = resource_of(&wanted);
    let (kind, field) = lock.claims().expect("a lock has claims");
    let ours = Ours::of(kind, &wanted, &who);
    let request =
        Request { wanted, priority: args.priority, ttl: args.ttl, holder: who.holder.clone(), pod: who.pod.clone() };
    if args.dry_run.dry_run != DryRun::None {
        return dry_run(context, &cluster, field, &ours, &request, args).await;
    }
    let (before, held) = match acquire(context, &cluster, lock, &ours, request, timeout, args).await {
        Ok(held) => held,
        Err(stop) => return stop.outcome(),
    };
    let until = GoDuration(held.ttl);
    context.screen.note(&format!("{} holds {lock}/{}, for {until} unless it is renewed", who.holder, args.name));
    if before.granted(held.fencing_token) {
        context.screen.note(&format!("{} held it already: the same claim, renewed", who.holder));
    }
    let shown = match args.output.look(false) {
        Some(_) => format!("{}\n", held.fencing_token),
        None => args.output.print(held_claim(&cluster, lock, &args.name, &who, held).await?)?.unwrap_or_default(),
    };
    context.screen.text(&shown);
    Ok(DONE)
}

/// The claim that belongs to the holder by its name.
#[derive(Debug)]
struct Ours {
    kind: Resource,
    name: String,
    instance: String,
}

impl Ours {
    fn of(kind: Resource, wanted: &Wanted, who: &Who) -> Self {
        let pod = who.pod.as_ref();
        let name = claim_of_holder(wanted, &who.holder, pod);
        Self { kind, name, instance: instance_of_holder(wanted, &who.holder, pod) }
    }

    /// Looks what has its name before anything is asked for, which must be for the same.
    async fn found_before(&self, cluster: &Cluster, request: &Request) -> Result<Before, Error> {
        let answer = cluster.call(Call::get(cluster.path(self.kind, &self.name))).await;
        match Before::told(answer, &self.name) {
            Ok(Before::There(claim)) => match differs(&claim, request) {
                Some(difference) if claim["status"]["phase"] != "Expired" => Err(Error::usage(format!(
                    "{} has a claim on {} already, {difference}",
                    request.holder, request.wanted
                ))
                .advise("release it first, or name another --holder")),
                _ => Ok(Before::There(claim)),
            },
            Ok(before) => Ok(before),
            Err(error) => Err(explain(cluster, error, self.kind, Some(&self.name)).await),
        }
    }

    /// Whether a claim that is left behind may be deleted: one that this process knows, and that nobody else can hold.
    /// `known` is its UID, when one was seen before.
    fn may_delete(&self, claim: &Value, before: &Before, known: Option<&str>) -> bool {
        let uid = claim["metadata"]["uid"].as_str();
        let same = claim["spec"]["instance"] == *self.instance && known.is_none_or(|known| uid == Some(known));
        let held = matches!(claim["status"]["phase"].as_str(), Some("Granted" | "Revoking"));
        same && !(held && *before != Before::Absent)
    }
}

/// What had the claim's name before anything was asked for.
#[derive(Debug, PartialEq)]
enum Before {
    /// It could not be seen.
    Unknown,
    /// Nothing.
    Absent,
    /// This claim.
    There(Value),
}

impl Before {
    /// What an answer says of it. A failure that may pass is no answer: the asking itself tells whether it does.
    fn told(answer: Result<Value, ApiError>, name: &str) -> Result<Self, ApiError> {
        match answer {
            Ok(claim) => Ok(Self::There(claim)),
            Err(error) if error.is_absent(name) => Ok(Self::Absent),
            Err(error) if error.is_passing() => Ok(Self::Unknown),
            Err(error) => Err(error),
        }
    }

    fn uid(&self) -> Option<&str> {
        match self {
            Self::There(claim) => claim["metadata"]["uid"].as_str(),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// Whether this grant was there.
    fn granted(&self, fencing_token: u64) -> bool {
        matches!(self, Self::There(claim)
            if claim["status"]["phase"] == "Granted" && claim["status"]["fencingToken"] == fencing_token)
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

/// Asks and waits. All of it counts for `--timeout`.
async fn acquire(
    context: &Context,
    cluster: &Cluster,
    lock: Resource,
    ours: &Ours,
    request: Request,
    timeout: Option<Duration>,
    args: &Args,
) -> Result<(Before, Held), Stop> {
    let object = ObjectName { resource: lock, name: args.name.clone() };
    let doing = format!("acquire {object}");
    let (tell, events) = unbounded_channel();
    let (commands, orders) = unbounded_channel();
    let running = pin!(run_for_holder(cluster.client(), request.clone(), orders, move |event| {
        // Nobody listens any more when the program is about to end.
        let _ = tell.send(event);
    }));
    let mut claim = Claim { running, progress: Progress::NotBegun, events };
    let mut before = Before::Unknown;
    // Whether the API server has ever answered.
    let mut contact = false;
    let (news_in, mut news) = unbounded_channel();
    let patience = Patience::new(object.to_string(), Boottime::now(), timeout).with(&cluster.server);
    let waited = {
        let held = pin!(async {
            before = ours.found_before(cluster, &request).await?;
            contact |= before != Before::Unknown;
            let mut looking: Option<Pin<Box<dyn Future<Output = Option<String>>>>> = None;
            loop {
                let event = tokio::select! {
                    event = claim.next() => event,
                    holder = async { looking.as_mut().expect("there is one").await }, if looking.is_some() => {
                        looking = None;
                        if let Some(holder) = holder {
                            // Who waits listens as long as it asks.
                            let _ = news_in.send(News::Holder(holder));
                        }
                        continue;
                    }
                };
                contact |= matches!(
                    event,
                    Some(Event::Asked | Event::Hindered { .. } | Event::Waiting { .. } | Event::Held { .. })
                );
                if matches!(event, Some(Event::Waiting { .. })) && context.screen.live {
                    looking = Some(Box::pin(holder_of(cluster, &object)));
                }
                if let Some(outcome) = takes(event, &object, &doing, &news_in) {
                    return outcome;
                }
            }
        });
        wait_for(context, patience, held, &mut news).await
    };
    let stop = match waited {
        Ok(held) => return Ok((before, held)),
        Err(stop) => stop,
    };
    let reasons = match &stop {
        // Before it is withdrawn: its own place in the queue is what matters most.
        Stop::Because(error) if error.exit == Exit::TimedOut => {
            let own = ObjectName { resource: ours.kind, name: ours.name.clone() };
            let asked = claim.progress == Progress::UnderWay && contact;
            why::in_short(cluster, if asked { &own } else { &object }).await
        }
        _ => Vec::new(),
    };
    // What has never begun has left nothing behind, and what is over has withdrawn by itself.
    if claim.progress == Progress::UnderWay {
        let _ = commands.send(Command::Release);
        let withdrawing = tokio::time::timeout(WITHDRAWAL, claim.withdrawn()).await;
        if let Ok(Withdrawn { granted: true, .. }) = &withdrawing
            && before == Before::Absent
        {
            context.screen.note("it was granted in the moment in which the waiting ended, and is handed back");
        }
        // The SDK gives up soon, for pods that are to end. Here there is time, and what is left behind may be granted to
        // nobody for a whole time to live.
        if !withdrawing.is_ok_and(|withdrawn| withdrawn.surely) {
            clean_up(context, cluster, ours, &before, if contact { CLEAN_UP } else { LAST_TRY }).await;
        }
    }
    Err(match stop {
        Stop::Because(error) => Stop::Because(reasons.into_iter().fold(error, Error::advise)),
        stop @ Stop::Signal(_) => stop,
    })
}

/// Who holds a lock, for people, as far as the lock itself tells it.
async fn holder_of(cluster: &Cluster, lock: &ObjectName) -> Option<String> {
    asked_again(async || {
        let told = cluster.call(Call::get(cluster.path(lock.resource, &lock.name))).await;
        told.ok().as_ref().and_then(held_by)
    })
    .await
}

/// Seconds until a lock is asked again that tells of no holder: it is told later than the claim that waits. One that
/// nobody holds is left alone after the last.
const ASK_AGAIN: [u64; 4] = [1, 2, 4, 8];

async fn asked_again<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    for pause in ASK_AGAIN {
        if let Some(told) = ask().await {
            return Some(told);
        }
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    ask().await
}

/// Holders that are named on one line.
const NAMED: usize = 2;

fn held_by(lock: &Value) -> Option<String> {
    let status = &lock["status"];
    let several = status["holders"].as_array().into_iter().flatten();
    let names: Vec<_> = several.chain([&status["holder"]]).filter_map(Value::as_str).collect();
    let more = if names.len() > NAMED { " and others" } else { "" };
    (!names.is_empty()).then(|| format!("held by {}{more}", names[..names.len().min(NAMED)].join(", ")))
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    NotBegun,
    UnderWay,
    /// It must not be polled again.
    Over,
}

/// A claim that is driven while its events are taken.
struct Claim<'a, F> {
    running: Pin<&'a mut F>,
    progress: Progress,
    events: UnboundedReceiver<Event>,
}

impl<F: Future<Output = ()>> Claim<'_, F> {
    /// The next event; none when all is told.
    async fn next(&mut self) -> Option<Event> {
        if self.progress != Progress::Over {
            self.progress = Progress::UnderWay;
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => return Some(event),
                () = &mut self.running => self.progress = Progress::Over,
            }
        }
        self.events.recv().await
    }

    /// Drives it to its end.
    async fn withdrawn(mut self) -> Withdrawn {
        let mut withdrawn = Withdrawn { surely: false, granted: false };
        while let Some(event) = self.next().await {
            match event {
                Event::Held { .. } => withdrawn.granted = true,
                Event::Released => withdrawn.surely = true,
                _ => {}
            }
        }
        withdrawn
    }
}

/// What an event means to who waits: an outcome, or news.
fn takes(
    event: Option<Event>,
    object: &ObjectName,
    doing: &str,
    news: &tokio::sync::mpsc::UnboundedSender<News>,
) -> Option<Result<Held, Error>> {
    let failed = |error: &AcquireError| Some(Err(of_request(doing, error, Role::Workload)));
    let said = match event {
        Some(Event::Held { fencing_token, ttl, .. }) => return Some(Ok(Held { fencing_token, ttl })),
        Some(Event::Failed { error }) => return failed(&error),
        Some(Event::Lost { reason }) => {
            return Some(Err(Error::new(Exit::Lost, format!("{object} was acquired and lost at once: {reason}"))));
        }
        Some(Event::Asked) => News::Contact,
        Some(Event::Hindered { why }) => {
            News::Waiting { object: object.to_string(), message: why, ahead: None, missing: false }
        }
        Some(Event::Waiting { ahead, message, parent_missing, .. }) => {
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
    /// Whether nothing is left that is to be deleted.
    surely: bool,
    /// Whether it was granted before.
    granted: bool,
}

/// How long a claim that could not be withdrawn at once is tried to be deleted: as long as one that was held.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// The same when the API server has never answered, so that there is hardly anything to delete: whoever waits for so
/// long as it was told to is not to wait much longer.
const LAST_TRY: Duration = Duration::from_millis(500);

/// Deletes the claim if it is there, is still the one that was asked for here, and nobody else can rely on it.
async fn clean_up(context: &Context, cluster: &Cluster, ours: &Ours, before: &Before, within: Duration) {
    let path = cluster.path(ours.kind, &ours.name);
    let deleting = async {
        let mut known = before.uid().map(str::to_owned);
        let mut backoff = Backoff::default();
        loop {
            let outcome = match cluster.call(Call::get(path.clone())).await {
                Ok(claim) if !ours.may_delete(&claim, before, known.as_deref()) => return,
                Ok(claim) => {
                    let (uid, version) = (&claim["metadata"]["uid"], &claim["metadata"]["resourceVersion"]);
                    known = uid.as_str().map(str::to_owned);
                    // As it was seen: it may be granted, and relied on, meanwhile.
                    let options = json!({ "preconditions": { "uid": uid, "resourceVersion": version } });
                    cluster.call(Call::delete(path.clone(), &options, DryRun::None)).await.map(|_| ())
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) | Err(ApiError::Refused { code: 403 | 404, .. }) => return,
                Err(_) => backoff.pause().await,
            }
        }
    };
    if tokio::time::timeout(within, deleting).await.is_err() {
        let Ours { kind, name, .. } = ours;
        context
            .screen
            .warn(&format!("{kind}/{name} may be left behind: nobody renews it, so it ends with its time to live"));
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
    field: &str,
    ours: &Ours,
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
        spec["pod"] = json!(pod.clone().named_in(&cluster.namespace));
    }
    object::create_in(context, cluster, ours.kind, &ours.name, spec, args.dry_run.dry_run, &args.output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Ours {
        let who = Who { holder: "h".to_owned(), person: "ann@laptop".to_owned(), pod: None };
        Ours::of(crate::kind::PERMIT, &Wanted::Semaphore { name: "s".to_owned(), permits: 1 }, &who)
    }

    fn claim(uid: &str, instance: &str, phase: &str) -> Value {
        let status = json!({ "phase": phase, "fencingToken": 7 });
        json!({ "metadata": { "uid": uid }, "spec": { "instance": instance }, "status": status })
    }

    fn refused(code: u16, name: &str) -> ApiError {
        let text = String::new;
        ApiError::Refused {
            code,
            reason: text(),
            message: text(),
            name: name.to_owned(),
            kind: text(),
            fields: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_has_failed_is_over_and_is_not_polled_again() {
        let (tell, events) = unbounded_channel();
        let error = AcquireError::NoNamespace { operation: "create the claim", message: "no".to_owned() };
        let failed = Event::Failed { error };
        let told = failed.clone();
        let running = pin!(async move { tell.send(told).expect("somebody listens") });
        let mut claim = Claim { running, progress: Progress::NotBegun, events };
        assert_eq!(claim.next().await, Some(failed));
        assert_eq!(claim.progress, Progress::Over);
        assert_eq!((claim.next().await, claim.next().await), (None, None), "without a panic");
    }

    #[tokio::test]
    async fn what_is_told_before_the_end_is_withdrawn() {
        let (tell, events) = unbounded_channel();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let running = pin!(async move {
            tell.send(Event::Asked).expect("somebody listens");
            released.await.expect("a release");
            tell.send(Event::Released).expect("somebody listens");
        });
        let mut claim = Claim { running, progress: Progress::NotBegun, events };
        let asked = tokio::time::timeout(Duration::from_mins(1), claim.next()).await;
        assert_eq!((asked, claim.progress), (Ok(Some(Event::Asked)), Progress::UnderWay));
        release.send(()).expect("it waits");
        let Withdrawn { surely, granted } = claim.withdrawn().await;
        assert_eq!((surely, granted), (true, false));
    }

    #[test]
    fn only_what_was_made_here_is_deleted_when_it_is_held() {
        let ours = ours();
        let own = ours.instance.as_str();
        let there = || Before::There(claim("a", own, "Granted"));
        for (claim, before, known, expected) in [
            (claim("a", own, "Granted"), Before::Absent, None, true),
            (claim("a", own, "Pending"), Before::Unknown, None, true),
            (claim("a", own, "Granted"), Before::Unknown, None, false),
            (claim("a", own, "Granted"), there(), Some("a"), false),
            (claim("a", own, "Revoking"), there(), Some("a"), false),
            (claim("a", own, "Expired"), there(), Some("a"), true),
            (claim("b", own, "Pending"), there(), Some("a"), false),
            (claim("b", own, "Granted"), Before::Absent, Some("a"), false),
            (claim("a", "0123", "Pending"), Before::Absent, None, false),
        ] {
            assert_eq!(ours.may_delete(&claim, &before, known), expected, "{claim} {before:?} {known:?}");
        }
    }

    #[test]
    fn what_may_pass_does_not_end_the_first_look() {
        let passing = [ApiError::Unanswered("connection refused".to_owned()), refused(429, ""), refused(500, "")];
        for error in passing {
            assert_eq!(Before::told(Err(error), "s-1").expect("it goes on"), Before::Unknown);
        }
        assert_eq!(Before::told(Err(refused(404, "s-1")), "s-1").expect("it goes on"), Before::Absent);
        for code in [401, 403, 404] {
            assert!(Before::told(Err(refused(code, "")), "s-1").is_err(), "{code}");
        }
    }

    #[test]
    fn who_holds_is_said_in_a_few_words() {
        for (status, expected) in [
            (json!({ "holders": ["a"] }), Some("held by a")),
            (json!({ "holders": ["a", "b"] }), Some("held by a, b")),
            (json!({ "holders": ["a", "b", "c"] }), Some("held by a, b and others")),
            (json!({ "holder": "a" }), Some("held by a")),
            (json!({ "holders": [], "holder": null }), None),
        ] {
            assert_eq!(held_by(&json!({ "status": status })).as_deref(), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_tells_nobody_is_asked_again_a_few_times() {
        for (tells_at, expected) in [(1, (Some(1), 1)), (3, (Some(3), 3)), (5, (Some(5), 5)), (6, (None, 5))] {
            let mut asked = 0;
            let told = asked_again(async || {
                asked += 1;
                (asked == tells_at).then_some(asked)
            });
            assert_eq!((told.await, asked), expected);
        }
    }

    #[test]
    fn held_already_is_the_same_grant() {
        let before = Before::There(claim("a", "i", "Granted"));
        assert!(before.granted(7) && !before.granted(8));
        assert!(!Before::There(claim("a", "i", "Expired")).granted(7) && !Before::Absent.granted(7));
    }

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
