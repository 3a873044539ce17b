//! `acquire`: asks for a claim in a holder's name, waits for its turn, and leaves it to its time to live.

mod ours;
mod showing;

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use konductor::{AcquireError, Boottime, Command, Event, Exit, Request, Wanted, run_for_holder};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::{
    ours::{Before, Held, Made, Ours, clean_up},
    showing::Showing,
};
use super::{claim::resource_of, object};
use crate::{
    args::{DryRun, DryRunArgs, HolderArgs, OutputArgs, TimeoutArgs, parse_duration},
    cluster::{Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    holder::Who,
    kind::{ObjectName, Resource, parse_name},
    patience::{News, Patience},
    signals::Signals,
    trouble::{Role, of_request},
    waiting::{Stop, listen, wait_hearing},
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
    let (kind, _) = lock.claims().expect("a lock has claims");
    let ours = Ours::of(kind, &wanted, &who);
    let request =
        Request { wanted, priority: args.priority, ttl: args.ttl, holder: who.holder.clone(), pod: who.pod.clone() };
    if args.dry_run.dry_run != DryRun::None {
        return dry_run(context, &cluster, &ours, &request, args).await;
    }
    match acquire(context, &cluster, lock, &ours, request, timeout, args).await {
        Ok(()) => Ok(DONE),
        Err(stop) => stop.outcome(),
    }
}

/// Asks, waits, and shows what is held then. The asking and the waiting count for `--timeout`.
async fn acquire(
    context: &Context,
    cluster: &Cluster,
    lock: Resource,
    ours: &Ours,
    request: Request,
    timeout: Option<Duration>,
    args: &Args,
) -> Result<(), Stop> {
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
    let mut making = Making::default();
    let mut signals = listen()?;
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
                if let Some(event) = &event {
                    making.hears(event);
                }
                if matches!(event, Some(Event::Waiting { .. })) && context.screen.live {
                    looking = Some(Box::pin(holder_of(cluster, &object)));
                }
                if let Some(outcome) = takes(event, &object, &doing, &news_in) {
                    return outcome;
                }
            }
        });
        wait_hearing(&mut signals, context, patience, held, &mut news).await
    };
    let made = making.made;
    let mut is_held = false;
    let mut stop = match waited {
        Ok(held) => {
            let showing = Showing { context, cluster, lock: &object, ours, request: &request, output: &args.output };
            let shown = tokio::select! {
                shown = showing.show(&before, made.as_ref(), held) => shown.map_err(Stop::Because),
                signal = signals.next() => Err(Stop::Signal(signal)),
            };
            // What ends with an error is not held: nobody would know of it.
            let Err(stop) = shown else { return Ok(()) };
            is_held = !matches!(&stop, Stop::Because(error) if error.exit == Exit::Lost);
            stop
        }
        Err(stop) => stop,
    };
    let mut reasons = Vec::new();
    // Before it is withdrawn: its own place in the queue is what matters most.
    if matches!(&stop, Stop::Because(error) if error.exit == Exit::TimedOut) {
        let own = ObjectName { resource: ours.kind, name: ours.name.clone() };
        let asked = claim.progress == Progress::UnderWay && contact;
        tokio::select! {
            told = why::in_short(cluster, if asked { &own } else { &object }) => reasons = told,
            signal = signals.next() => stop = Stop::Signal(signal),
        }
    }
    // What has never begun has left nothing behind, and what is over has withdrawn by itself.
    if claim.progress == Progress::UnderWay {
        let _ = commands.send(Command::Release);
        let limit = if contact { CLEAN_UP } else { LAST_TRY };
        let left = Left { context, cluster, ours, before: &before, made, is_held, limit };
        tokio::select! {
            () = left.given_up(claim) => {}
            signal = again(&mut signals) => {
                context.screen.warn(&ours.left_behind());
                stop = Stop::Signal(signal);
            }
        }
    }
    Err(match stop {
        Stop::Because(error) => Stop::Because(reasons.into_iter().fold(error, Error::advise)),
        stop @ Stop::Signal(_) => stop,
    })
}

/// A signal that comes when one has had its time to withdraw: whoever sends it does not want to wait for more.
pub(super) async fn again(signals: &mut Signals) -> i32 {
    tokio::time::sleep(WITHDRAWAL).await;
    signals.next().await
}

/// What is given up, while it may be there.
struct Left<'a> {
    context: &'a Context,
    cluster: &'a Cluster,
    ours: &'a Ours,
    before: &'a Before,
    made: Option<Made>,
    /// It was acquired, and this is how that ends.
    is_held: bool,
    /// How long it is tried to be deleted.
    limit: Duration,
}

impl Left<'_> {
    /// Has it withdrawn, or handed back, and cleans up what that leaves.
    async fn given_up<F: Future<Output = ()>>(mut self, claim: Claim<'_, F>) {
        let screen = &self.context.screen;
        let withdrawing = tokio::time::timeout(WITHDRAWAL, claim.withdrawn()).await;
        if let Ok(withdrawn) = &withdrawing {
            self.made = withdrawn.made.clone().or(self.made);
            match (self.made.is_some(), self.is_held, withdrawn.granted) {
                (true, true, _) => screen.note("what was acquired is handed back"),
                (true, false, true) => {
                    screen.note("it was granted in the moment in which the waiting ended, and is handed back");
                }
                _ => {}
            }
        }
        // The SDK gives up soon, for pods that are to end. Here there is time, and what is left behind may be granted to
        // nobody for a whole time to live.
        if !withdrawing.is_ok_and(|withdrawn| withdrawn.surely) {
            let left = clean_up(self.cluster, self.ours, self.before, self.made.as_ref(), self.limit).await;
            if let Some(warning) = left {
                screen.warn(&warning);
            }
        }
    }
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

/// The claim that is waited for, when it was created here.
#[derive(Debug, Default)]
struct Making {
    made: Option<Made>,
    /// Whether nothing has been asked for since.
    is_new: bool,
}

impl Making {
    fn hears(&mut self, event: &Event) {
        match event {
            Event::Created { name, uid } => {
                let made = Made { name: name.clone(), uid: uid.clone() };
                *self = Self { made: Some(made), is_new: true };
            }
            // What is asked for without being created was found, in the place of what was created before.
            Event::Asked if !std::mem::take(&mut self.is_new) => self.made = None,
            _ => {}
        }
    }
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
        let mut withdrawn = Withdrawn { surely: false, granted: false, made: None };
        while let Some(event) = self.next().await {
            match event {
                Event::Held { .. } => withdrawn.granted = true,
                Event::Created { name, uid } => withdrawn.made = Some(Made { name, uid }),
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
    /// What was created meanwhile.
    made: Option<Made>,
}

/// How long a claim that could not be withdrawn at once is tried to be deleted: as long as one that was held.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// The same when the API server has never answered, so that there is hardly anything to delete: whoever waits for so
/// long as it was told to is not to wait much longer.
const LAST_TRY: Duration = Duration::from_millis(500);

/// Shows what would be asked for, or has the API server check it.
async fn dry_run(context: &Context, cluster: &Cluster, ours: &Ours, request: &Request, args: &Args) -> Outcome {
    let mut spec = ours.spec(request, &cluster.namespace);
    spec["instance"] = json!("holder-dry-run");
    object::create_in(context, cluster, ours.kind, &ours.name, spec, args.dry_run.dry_run, &args.output).await
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let Withdrawn { surely, granted, .. } = claim.withdrawn().await;
        assert_eq!((surely, granted), (true, false));
    }

    #[test]
    fn what_was_created_here_is_forgotten_when_another_claim_is_found_in_its_place() {
        let mut making = Making::default();
        let created = |uid: &str| Event::Created { name: "s-1".to_owned(), uid: uid.to_owned() };
        let mut uid_after = |event| {
            making.hears(&event);
            making.made.as_ref().map(|made| made.uid.clone())
        };
        let told = [Event::Asked, created("a"), Event::Asked, Event::Granted, Event::Asked, created("c"), Event::Asked];
        let uids = told.map(&mut uid_after);
        assert_eq!(
            uids.each_ref().map(|uid| uid.as_deref()),
            [None, Some("a"), Some("a"), Some("a"), None, Some("c"), Some("c")]
        );
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
}
