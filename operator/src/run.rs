//! Puts the parts together, and takes them apart in order.

use std::{
    future::{Future, pending},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use konductor_api::{Lease, Semaphore};
use konductor_cluster::{Program, Way, backoff::random, process};
use kube::Client;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};
use tracing::{error, info};

use crate::{
    barrier,
    clock::Clock,
    config::{Config, Election},
    crowd::Kept,
    election::{Candidate, driver::Elector},
    engine::{self, Census, Common},
    events::Recorder,
    gate,
    http::{self, Server},
    lock, log,
    metrics::Metrics,
};

/// Exit code of bad usage.
const USAGE: u8 = 64;

/// Runs the process.
pub fn main() -> ExitCode {
    let config = match Config::from_process() {
        Ok(config) => config,
        Err(error) => {
            // Nothing is left to say it to if even that fails.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    log::init(&config.log, config.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(config)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let Config { metrics_addr, health_addr, namespace, identity, election, lease_duration, log_format: _, log: _ } =
        config;
    // Before anything else, so that no signal is missed.
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let clock = Clock::start();
    let way = Way::Found(Program::OPERATOR);
    let client = way.client().await.context("cannot find out how to reach the API server")?;
    let identity = identity.unwrap_or_else(invented_identity);
    let figures = Server::bind("metrics", metrics_addr, http::METRICS)
        .with_context(|| format!("cannot listen on {metrics_addr} for /metrics"))?;
    let probes = Server::bind("health", health_addr, http::HEALTH)
        .with_context(|| format!("cannot listen on {health_addr} for /healthz and /readyz"))?;
    let version = env!("CARGO_PKG_VERSION");
    info!(identity, metrics = %figures.address(), health = %probes.address(), version, "konductor-operator starts");

    let metrics = Metrics::new(clock);
    let election = match election {
        Election::Lease => {
            let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
            Some((namespace, lease_duration))
        }
        Election::Always => None,
    };
    let operator = Operator::start(way, client, identity, election, Arc::clone(&metrics), clock).await?;
    // Not earlier: who is asked before its parts are registered would be ready without them.
    figures.serve(http::figures(Arc::clone(&metrics), clock));
    probes.serve(http::probes(metrics));
    operator.run(signals.next()).await
}

/// All that observes, decides and acts, without the process around it.
pub struct Operator {
    engines: JoinSet<()>,
    candidate: JoinHandle<()>,
    stop: watch::Sender<()>,
    resign: oneshot::Sender<()>,
    went_back: mpsc::Receiver<String>,
    censuses: Vec<(&'static str, Census)>,
}

impl Operator {
    /// Starts its tasks, on connections that are made by `way` beside that of `client`. Takes part in the election in
    /// this namespace, with a lease that lasts so long; without one, leads always.
    pub async fn start(
        way: Way,
        client: Client,
        identity: String,
        election: Option<(String, Duration)>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        Self::start_keeping(Kept::default(), way, client, identity, election, metrics, clock).await
    }

    /// The same, with so much kept of each namespace.
    pub async fn start_keeping(
        kept: Kept,
        way: Way,
        client: Client,
        identity: String,
        election: Option<(String, Duration)>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let (leading_sender, leading) = watch::channel(false);
        let (resign, resigned) = oneshot::channel();
        let candidate = if let Some((namespace, lease_duration)) = election {
            let candidate = Candidate::new(identity.clone(), lease_duration);
            // Of its own: the streams of one connection are counted, and watches and writes could take them all.
            let client = way.client().await.context("cannot connect for the election")?;
            let elector = Elector { client, namespace, candidate, clock, leading: leading_sender };
            process::spawn(elector.run(resigned))
        } else {
            info!("this process leads, as it was told to lead always");
            process::spawn(lead_always(leading_sender, resigned))
        };
        let recorder = Recorder::start(client.clone(), identity, Arc::clone(&metrics));
        let (stop, stopped) = watch::channel(());
        let (restored, went_back) = mpsc::channel(1);
        let common = Common { way, client, leading, recorder, metrics, clock, restored, kept };
        let mut engines = JoinSet::new();
        let mut censuses = Vec::new();
        let locks = [
            decide_locks::<Lease>(&mut engines, &mut censuses, &common.apart().await?, &stopped),
            decide_locks::<Semaphore>(&mut engines, &mut censuses, &common.apart().await?, &stopped),
        ];
        lock::follow_pods(&common, &locks);
        let apart = common.apart().await?;
        let (barriers, inbox) = barrier::start(&apart);
        censuses.push((barriers.name(), inbox.census()));
        engines.spawn(process::inherit(engine::run(barriers, inbox, apart, stopped.clone())));
        let apart = common.apart().await?;
        let (gates, inbox) = gate::start(&apart);
        censuses.push((gates.name(), inbox.census()));
        engines.spawn(process::inherit(engine::run(gates, inbox, apart, stopped)));
        Ok(Self { engines, candidate, stop, resign, went_back, censuses })
    }

    /// Ask each engine, by the name of its kind, how much it keeps.
    pub fn censuses(&self) -> Vec<(&'static str, Census)> {
        self.censuses.clone()
    }

    /// Goes on until `signal` says that it should end, and why; then hands over.
    pub async fn run(self, signal: impl Future<Output = &'static str>) -> anyhow::Result<()> {
        let Self { mut engines, mut candidate, stop, resign, mut went_back, censuses: _ } = self;
        let signal = tokio::select! {
            signal = signal => signal,
            // Neither ends by itself but by a panic. Better to start over than to go on with half of it.
            Some(ended) = engines.join_next() => return ended.context("an event loop failed"),
            ended = &mut candidate => return ended.context("the election failed"),
            // What is known of objects, terms and turns is from a time that has never been, and cannot be told from
            // what is true.
            Some(what) = went_back.recv() => bail!(
                "the API server's data was restored from a backup ({what}): starting over with nothing known, which \
                 needs no action"
            ),
        };
        info!("{signal}: handing over");
        // In this order: only when nothing is written any more does the standby's turn come.
        drop(stop);
        while let Some(ended) = engines.join_next().await {
            ended.context("an event loop failed at the end")?;
        }
        drop(resign);
        candidate.await.context("the election failed at the end")
    }
}

/// Starts the engine for the locks of one kind. Returns its inbox.
fn decide_locks<K: lock::Kind>(
    engines: &mut JoinSet<()>,
    censuses: &mut Vec<(&'static str, Census)>,
    common: &Common,
    stopped: &watch::Receiver<()>,
) -> mpsc::Sender<lock::Seen> {
    let (locks, inbox) = lock::start::<K>(common);
    let sender = inbox.sender.clone();
    censuses.push((locks.name(), inbox.census()));
    engines.spawn(process::inherit(engine::run(locks, inbox, common.clone(), stopped.clone())));
    sender
}

async fn lead_always(leading: watch::Sender<bool>, resigned: oneshot::Receiver<()>) {
    leading.send_replace(true);
    // An error means that the other end was dropped, which is how it is told.
    let _ = resigned.await;
}

/// The host's name, and chance.
fn invented_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "konductor-operator" } else { host.trim() };
    format!("{host}-{:08x}", random())
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => pending().await,
        }
    }
}
