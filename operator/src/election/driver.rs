//! Reads and writes the lease as [`Candidate`] says.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};
use tracing::{info, warn};

use super::{Candidate, NAME, Step};
use crate::clock::{Clock, wall};
use konductor_cluster::{
    Lenient,
    backoff::{jittered, random},
    watch::{Seen, Source},
};

/// How long one read or write of the lease may take. The leader's own deadline can cut it shorter.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest pause after a failed write; a short lease makes it shorter.
const RETRY: Duration = Duration::from_secs(2);

/// How often a release is tried: the process is about to end, and the lease ends by itself.
const RELEASE_ATTEMPTS: usize = 3;

/// Takes part in the election.
pub struct Elector {
    /// The lease's namespace, as a client's default one.
    pub client: Client,
    /// The lease's namespace.
    pub namespace: String,
    /// The rule.
    pub candidate: Candidate,
    /// How long leases last.
    pub duration: Duration,
    /// The clock.
    pub clock: Clock,
    /// Told whether this process leads.
    pub leading: watch::Sender<bool>,
}

impl Elector {
    /// Takes part until `resigned`, then gives the lease up, so that a standby takes over at once.
    pub async fn run(mut self, mut resigned: oneshot::Receiver<()>) {
        let (sightings, mut seen) = mpsc::channel(16);
        let source =
            Source { api: Api::namespaced(self.client.clone(), &self.namespace), fields: Some(FIELDS), page: 10 };
        let watcher = tokio::spawn(watch_lease(source, sightings));
        let api = Api::namespaced(self.client.clone(), &self.namespace);
        let mut complaint = String::new();
        loop {
            let now = self.clock.monotonic();
            self.tell(now);
            let until = match self.candidate.step(now, wall()) {
                Step::Wait(until) => until,
                step => match self.write(&api, step, now).await {
                    Ok(()) => {
                        complaint.clear();
                        continue;
                    }
                    Err(error) => {
                        if complaint != error {
                            warn!("cannot write the lease {}/{NAME} of the election: {error}", self.namespace);
                            complaint = error;
                        }
                        self.clock.monotonic() + jittered(RETRY.min(self.duration / 10), random())
                    }
                },
            };
            let until = self.candidate.leads_until().map_or(until, |end| end.min(until));
            tokio::select! {
                () = sleep_until(self.clock.instant(until)) => {}
                lease = seen.recv() => match lease {
                    Some(lease) => self.candidate.observe(lease, self.clock.monotonic()),
                    None => break,
                },
                _ = &mut resigned => break,
            }
        }
        watcher.abort();
        self.leading.send_replace(false);
        self.release(&api).await;
    }

    fn tell(&mut self, now: Duration) {
        self.candidate.expire(now);
        let leads = self.candidate.leads_until().is_some();
        if self.leading.send_if_modified(|leading| std::mem::replace(leading, leads) != leads) {
            info!(leads, "{}", if leads { "this process leads" } else { "this process does not lead any more" });
        }
    }

    async fn write(&mut self, api: &Api<Lease>, step: Step, now: Duration) -> Result<(), String> {
        // Not past the end of its own leadership: that has to be told in time.
        let limit =
            self.candidate.leads_until().map_or(REQUEST_TIMEOUT, |end| end.saturating_sub(now).min(REQUEST_TIMEOUT));
        let params = PostParams::default();
        let attempt = timeout(limit, async {
            let result = match &step {
                Step::Create(lease) => api.create(&params, lease).await,
                Step::Replace(lease) => api.replace(NAME, &params, lease).await,
                Step::Wait(_) => return Ok(None),
            };
            match result {
                Ok(lease) => Ok(Some(Written::Own(lease))),
                // Somebody else wrote it, and the watch is late or dead: look.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    Ok(Some(Written::Other(api.get_opt(NAME).await?)))
                }
                Err(error) => Err(error),
            }
        });
        match attempt.await {
            Ok(Ok(Some(Written::Own(lease)))) => self.candidate.wrote(lease, now, self.clock.monotonic()),
            Ok(Ok(Some(Written::Other(lease)))) => self.candidate.observe(lease, self.clock.monotonic()),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return Err(konductor_cluster::explain(&error)),
            Err(_) => return Err(NO_ANSWER.into()),
        }
        Ok(())
    }

    async fn release(&self, api: &Api<Lease>) {
        for _ in 0..RELEASE_ATTEMPTS {
            let attempt = timeout(REQUEST_TIMEOUT, async {
                let Some(lease) = api.get_opt(NAME).await?.and_then(|lease| self.candidate.released(lease)) else {
                    return Ok(());
                };
                api.replace(NAME, &PostParams::default(), &lease).await.map(|_| ())
            });
            match attempt.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    warn!("cannot give up the lease of the election: {}", konductor_cluster::explain(&error));
                }
                Err(_) => warn!("cannot give up the lease of the election: {NO_ANSWER}"),
            }
        }
    }
}

/// What the lease is after a write.
enum Written {
    Own(Lease),
    Other(Option<Lease>),
}

const NO_ANSWER: &str = "the API server did not answer in time";

/// Selects the one lease, so that permission to watch it is enough.
const FIELDS: &str = "metadata.name=konductor-operator";

/// Sends each state of the lease that a watch shows.
async fn watch_lease(source: Source<Lease>, sightings: mpsc::Sender<Option<Lease>>) {
    let mut listed = None;
    let read = move |seen| match seen {
        Seen::Listing => {
            listed = None;
            None
        }
        Seen::Listed => Some(listed.take()),
        Seen::Present(Lenient(Ok(lease))) => {
            listed = Some(Lease::clone(&lease));
            Some(Some(lease))
        }
        Seen::Present(Lenient(Err(misfit))) => {
            warn!("cannot read the lease of the election: {misfit}");
            None
        }
        Seen::Gone(_) => Some(None),
    };
    source.follow(sightings, read).await;
}
