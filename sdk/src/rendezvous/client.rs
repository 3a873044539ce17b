//! The short way: `client.gate("g").wait()`, `client.barrier("b").key("k").arrive()`.

use std::future::Future;

use konductor_api::PodReference;

use super::{Arriving, Awaited, Progress, RendezvousError, arrive, wait};
use crate::{
    AcquireError, Client, Repeats,
    guard::{default_holder, log_retrying},
    identity,
};

impl Client {
    /// The barrier of this name: to be waited for, or to arrive at.
    pub fn barrier(&self, name: impl Into<String>) -> BarrierHandle {
        BarrierHandle {
            client: self.clone(),
            name: name.into(),
            key: None,
            holder: default_holder(),
            pod: identity::whole_pod(),
        }
    }

    /// The gate of this name: to be waited for.
    pub fn gate(&self, name: impl Into<String>) -> GateHandle {
        GateHandle { client: self.clone(), name: name.into() }
    }
}

/// A barrier by its name: to be waited for, or to arrive at.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before wait() or arrive()"]
pub struct BarrierHandle {
    client: Client,
    name: String,
    key: Option<String>,
    holder: String,
    pod: Option<PodReference>,
}

impl BarrierHandle {
    /// What arrives once, however often it says so: a job's id rather than that of one of its attempts. The
    /// [`holder`](Self::holder) unless told.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Who arrives, as shown to people; host name and process id unless told.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into();
        self
    }

    /// The pod that arrives; the [pod that this process is in](identity::whole_pod) unless told.
    pub fn pod(mut self, pod: PodReference) -> Self {
        self.pod = Some(pod);
        self
    }

    /// Waits until the barrier is open, however long, also when it does not exist yet.
    pub async fn wait(self) -> Result<(), RendezvousError> {
        outcome(|tell| wait(self.client, Awaited::barrier(self.name), tell)).await
    }

    /// Arrives at the barrier. Whoever has arrived with this key in this round has arrived, and this succeeds again; so
    /// it does when the round is over, which is logged.
    pub async fn arrive(self) -> Result<(), RendezvousError> {
        let key = self.key.unwrap_or_else(|| self.holder.clone());
        let arriving = Arriving { barrier: self.name, key, holder: self.holder, pod: self.pod };
        outcome(|tell| arrive(self.client, arriving, tell)).await
    }
}

/// A gate by its name: to be waited for.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before wait()"]
pub struct GateHandle {
    client: Client,
    name: String,
}

impl GateHandle {
    /// Waits until the gate is open, however long, also when it does not exist yet.
    pub async fn wait(self) -> Result<(), RendezvousError> {
        outcome(|tell| wait(self.client, Awaited::gate(self.name), tell)).await
    }
}

/// How it ends; the way there is logged.
async fn outcome<F: Future<Output = ()>>(
    pursue: impl FnOnce(Box<dyn FnMut(Progress) + Send>) -> F,
) -> Result<(), RendezvousError> {
    let (end, ended) = tokio::sync::oneshot::channel();
    let (mut end, mut repeats) = (Some(end), Repeats::default());
    let mut finish = move |outcome| {
        // Who is no longer interested has dropped the future.
        let _ = end.take().map(|end| end.send(outcome));
    };
    pursue(Box::new(move |progress| match progress {
        Progress::Seen => tracing::debug!("seen"),
        Progress::Waiting { message, missing } => tracing::info!(missing, "{message}"),
        Progress::Retrying { operation, error } => log_retrying(operation, &error, &mut repeats),
        Progress::RoundOver { failed, message } => {
            tracing::warn!(failed, "arrived after the round was over: {message}");
        }
        Progress::RoundPassed { round } => {
            tracing::warn!(round, "may have arrived in a round that is over, and does not arrive in this one");
        }
        Progress::Done => finish(Ok(())),
        Progress::Failed { error } => finish(Err(error)),
    }))
    .await;
    let silent = || AcquireError::System("it has ended without a word".into()).into();
    ended.await.unwrap_or_else(|_| Err(silent()))
}
