//! The loop around an [`Engine`]: watches in, requests out, by the clock.

use std::{future::Future, sync::Arc, time::Duration};

use konductor_cluster::{ConnectError, Way, process};
use kube::Client;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
    time::{sleep_until, timeout},
};
use tracing::info;

use super::{Engine, Plugin, Sizes, Ticket};
use crate::{
    clock::Clock,
    crowd::Kept,
    events::Recorder,
    metrics::{LoopId, Metrics},
};

/// What watches show waits here to be taken in; they wait when there is more.
const INBOX: usize = 512;

/// How long a turn takes in what is there, and how long it decides, before it lets others have a turn: together well
/// below the 5 ms that a turn may take, as the last step of each is not cut short.
const SHARE: Duration = Duration::from_millis(1);

/// The loop turns at least this often, which tells the health check that it lives.
const TURN: Duration = Duration::from_secs(1);

/// How long a shutdown waits for requests under way. Whatever they did is safe without it; it only makes the next
/// leader's takeover meet fewer conflicts.
const DRAIN: Duration = Duration::from_secs(5);

/// What the engines of all kinds share.
#[derive(Clone)]
pub struct Common {
    /// How to connect to the API server.
    pub way: Way,
    /// A connection to it.
    pub client: Client,
    /// Whether this process leads.
    pub leading: watch::Receiver<bool>,
    /// Where news is handed in.
    pub recorder: Recorder,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
    /// Told when the API server's data has gone back to an earlier time: then nothing that is known can be relied on.
    pub restored: mpsc::Sender<String>,
    /// How much is kept of one namespace.
    pub kept: Kept,
}

impl Common {
    /// The same with a connection of its own: an API server allows about 100 streams on one, which is what the lanes
    /// and watches of one engine may take. Those of another would wait behind requests that nobody answers.
    pub(crate) async fn apart(&self) -> Result<Self, ConnectError> {
        Ok(Self { client: self.way.client().await?, ..self.clone() })
    }
}

/// Where watches put what they show, and where the engine takes it from.
#[derive(Debug)]
pub struct Inbox<S> {
    /// For the watches.
    pub sender: mpsc::Sender<S>,
    receiver: mpsc::Receiver<S>,
    census: Census,
    asked: mpsc::Receiver<Asked>,
}

/// Somebody wants to know how much an engine keeps.
type Asked = oneshot::Sender<Sizes>;

/// Asks an engine how much it keeps.
#[derive(Clone, Debug)]
pub struct Census {
    questions: mpsc::Sender<Asked>,
}

impl Census {
    /// How much the engine keeps of what: all that grows. `None` if it does not run any more. An engine that has much to
    /// look at turns for longer meanwhile.
    pub async fn take(&self) -> Option<Sizes> {
        let (sender, sizes) = oneshot::channel();
        self.questions.send(sender).await.ok()?;
        sizes.await.ok()
    }
}

impl<S> Inbox<S> {
    /// Asks the engine that takes from here.
    pub fn census(&self) -> Census {
        self.census.clone()
    }
}

impl<S> Default for Inbox<S> {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(INBOX);
        // Who asks waits for the answer.
        let (questions, asked) = mpsc::channel(1);
        Self { sender, receiver, census: Census { questions }, asked }
    }
}

/// Why a turn begins.
enum Woken<P: Plugin> {
    Leading(bool),
    Done(Result<(Ticket, P::Answer), JoinError>),
    Seen(P::Seen),
    Asked(Asked),
    Due,
}

/// Runs an engine until the sender of `stop` is dropped, then stops deciding and waits a little for the requests under
/// way.
pub fn run<P: Plugin>(
    engine: Engine<P>,
    inbox: Inbox<P::Seen>,
    common: Common,
    stop: watch::Receiver<()>,
) -> impl Future<Output = ()> {
    // At once: a process whose loops have not begun to turn is not well.
    let this_loop = common.metrics.register_loop(engine.name());
    drive(engine, inbox, common, stop, this_loop)
}

async fn drive<P: Plugin>(
    mut engine: Engine<P>,
    inbox: Inbox<P::Seen>,
    mut common: Common,
    mut stop: watch::Receiver<()>,
    this_loop: LoopId,
) {
    let Inbox { sender: _sender, receiver: mut seen, census: _census, mut asked } = inbox;
    let mut tasks: JoinSet<(Ticket, P::Answer)> = JoinSet::new();
    let clock = common.clock;
    engine.lead(*common.leading.borrow_and_update(), clock.now());
    loop {
        let idle_until = clock.monotonic() + TURN;
        let wake = engine.next().map_or(idle_until, |next| next.min(idle_until));
        let woken: Woken<P> = tokio::select! {
            biased;
            _ = stop.changed() => break,
            Ok(()) = common.leading.changed() => Woken::Leading(*common.leading.borrow_and_update()),
            Some(done) = tasks.join_next() => Woken::Done(done),
            Some(seen) = seen.recv() => Woken::Seen(seen),
            Some(asked) = asked.recv() => Woken::Asked(asked),
            () = sleep_until(clock.instant(wake)) => Woken::Due,
        };
        let (begun, worked) = (clock.monotonic(), clock.processor());
        match woken {
            Woken::Leading(leading) => engine.lead(leading, clock.now()),
            Woken::Done(done) => take(&mut engine, done, clock),
            Woken::Seen(seen) => engine.observe(seen, clock.now()),
            Woken::Asked(asked) => {
                // Who does not wait any more is told nothing.
                let _ = asked.send(engine.sizes());
            }
            Woken::Due => {}
        }
        while clock.monotonic() < begun + SHARE {
            if let Some(done) = tasks.try_join_next() {
                take(&mut engine, done, clock);
            } else if let Ok(seen) = seen.try_recv() {
                engine.observe(seen, clock.now());
            } else {
                break;
            }
        }
        let taken = clock.monotonic();
        for (ticket, request) in engine.turn(clock.now(), || clock.monotonic() >= taken + SHARE) {
            let performed = P::perform(common.client.clone(), request);
            tasks.spawn(process::inherit(async move { (ticket, performed.await) }));
        }
        let (took, worked) = (clock.monotonic().saturating_sub(begun), clock.processor().saturating_sub(worked));
        common.metrics.turn(this_loop, took, worked);
        // Where much is left to do, nothing above waits: others get their turn here.
        tokio::task::yield_now().await;
    }
    engine.lead(false, clock.now());
    let drained = timeout(DRAIN, async {
        while let Some(done) = tasks.join_next().await {
            take(&mut engine, done, clock);
        }
    });
    if drained.await.is_err() {
        info!("{} requests were still under way at the end", tasks.len());
    }
}

/// A request that panicked would leave its parent waiting for ever: better to start over.
fn take<P: Plugin>(engine: &mut Engine<P>, done: Result<(Ticket, P::Answer), JoinError>, clock: Clock) {
    let (ticket, answer) = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    engine.answered(&ticket, answer, clock.now());
}
