//! The short way: acquire, do, release.

use std::{fmt, marker::PhantomData, time::Duration};

use konductor_api::{Lease, PodReference, Semaphore};
use konductor_cluster::process;
use tokio::{
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinHandle,
};

use crate::{AcquireError, Boottime, Client, Command, Event, LossReason, Repeats, Request, Wanted, identity, run};

impl Client {
    /// Asks for one permit of the semaphore of this name; change what is asked for, then
    /// [`acquire`](Acquiring::acquire).
    pub fn semaphore(&self, name: impl Into<String>) -> Acquiring<Semaphore> {
        Acquiring::of(self, Wanted::Semaphore { name: name.into(), permits: 1 })
    }

    /// Asks for the lease of this name: `leases.konductor.io`, not Kubernetes' own.
    pub fn lease(&self, name: impl Into<String>) -> Acquiring<Lease> {
        Acquiring::of(self, Wanted::Lease { name: name.into() })
    }
}

/// A claim that is being put together, on a lock of the kind `L`: [`acquire`](Self::acquire) makes it and waits for its
/// turn.
#[must_use = "nothing is asked for before acquire()"]
pub struct Acquiring<L> {
    client: Client,
    request: Request,
    lock: PhantomData<fn() -> L>,
}

impl<L> fmt::Debug for Acquiring<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquiring").field("client", &self.client).field("request", &self.request).finish()
    }
}

impl Acquiring<Semaphore> {
    /// How many permits, all or nothing; 1 unless told.
    pub fn permits(mut self, count: u32) -> Self {
        if let Wanted::Semaphore { permits, .. } = &mut self.request.wanted {
            *permits = count;
        }
        self
    }
}

impl<L> Acquiring<L> {
    fn of(client: &Client, wanted: Wanted) -> Self {
        let request = Request { wanted, priority: 0, ttl: None, holder: default_holder(), pod: identity::whole_pod() };
        Self { client: client.clone(), request, lock: PhantomData }
    }

    /// Higher goes first; 0 unless told.
    pub fn priority(mut self, priority: i32) -> Self {
        self.request.priority = priority;
        self
    }

    /// How long the claim outlives its last renewal, 5s to 24h; the lock's own unless told.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.request.ttl = Some(ttl);
        self
    }

    /// Who asks, as shown to people; host name and process id unless told.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.request.holder = holder.into();
        self
    }

    /// The pod and container that this process is the main process of: its claim is then free as soon as the kubelet
    /// has reported that the container ended. The whole [pod that this process is in](identity::whole_pod) unless told.
    pub fn pod(mut self, pod: PodReference) -> Self {
        self.request.pod = Some(pod);
        self
    }

    /// Waits for its turn, however long, and returns when it is held. Dropping the future withdraws.
    pub async fn acquire(self) -> Result<Guard, AcquireError> {
        let (commands, orders) = unbounded_channel();
        let (tell, mut state) = watch::channel(State::Waiting);
        let task = process::spawn(async move {
            let mut repeats = Repeats::default();
            run(self.client, self.request, orders, |event| log_and_note(event, &tell, &mut repeats)).await;
        });
        let mut guard = Guard { fencing_token: 0, commands, state: state.clone(), task: Some(task) };
        let ended = AcquireError::System("the task that waits for the claim has ended".into());
        match &*state.wait_for(|state| !matches!(state, State::Waiting)).await.map_err(|_| ended.clone())? {
            State::Held { fencing_token, .. } | State::Lost { fencing_token, .. } => {
                guard.fencing_token = *fencing_token;
            }
            State::Failed(error) => return Err(error.clone()),
            State::Waiting | State::Over(_) => return Err(ended),
        }
        Ok(guard)
    }
}

#[derive(Clone, Debug)]
enum State {
    Waiting,
    Held {
        fencing_token: u64,
        deadline: Boottime,
    },
    Lost {
        fencing_token: u64,
        deadline: Boottime,
        reason: LossReason,
    },
    Failed(AcquireError),
    /// What kept the claim from being deleted, if anything did.
    Over(Option<String>),
}

fn log_and_note(event: Event, state: &watch::Sender<State>, repeats: &mut Repeats) {
    match event {
        Event::Asked => tracing::debug!("asked for"),
        Event::Created { name, .. } => tracing::debug!("created {name}"),
        Event::Granted => tracing::debug!("granted; asking the lock whether that still counts"),
        Event::Hindered { why } => tracing::info!("waiting: {why}"),
        Event::Waiting { ahead, message, .. } => tracing::info!(ahead, "{message}"),
        Event::Retrying { operation, error } => log_retrying(operation, &error, repeats),
        Event::Held { fencing_token, deadline, .. } => {
            state.send_replace(State::Held { fencing_token, deadline });
        }
        Event::Extended { deadline } => state.send_modify(|state| {
            if let State::Held { deadline: old, .. } = state {
                *old = deadline;
            }
        }),
        Event::Lost { reason } => state.send_modify(|state| {
            if let State::Held { fencing_token, deadline } = *state {
                *state = State::Lost { fencing_token, deadline, reason };
            }
        }),
        Event::Released => {
            state.send_replace(State::Over(None));
        }
        Event::Abandoned { error } => {
            state.send_replace(State::Over(Some(error)));
        }
        Event::Failed { error } => {
            state.send_replace(State::Failed(error));
        }
    }
}

/// What is tried for hours is not said each time.
pub(crate) fn log_retrying(operation: &str, error: &str, repeats: &mut Repeats) {
    let warning = format!("cannot {operation}, trying again: {error}");
    if let Some(again) = repeats.take(&warning, Boottime::now().0) {
        tracing::warn!("{warning}{again}");
    } else {
        tracing::debug!("{warning}");
    }
}

/// A lock that is held. Dropping it releases it in the background, as well as it can; [`release`](Self::release)
/// says how that went.
#[must_use = "dropping it releases what is held"]
pub struct Guard {
    fencing_token: u64,
    commands: UnboundedSender<Command>,
    state: watch::Receiver<State>,
    task: Option<JoinHandle<()>>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("fencing_token", &self.fencing_token).finish_non_exhaustive()
    }
}

/// Why a claim could not be released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The claim could not be deleted in time. It ends when its TTL has passed.
    #[error("the claim could not be deleted and ends with its TTL: {0}")]
    Abandoned(String),
}

impl Guard {
    /// Greater than that of every earlier grant of this lock: hand it to storage that can refuse older ones.
    pub fn fencing_token(&self) -> u64 {
        self.fencing_token
    }

    /// The work must have ended by then, unless the deadline has moved; it moves with each renewal.
    pub fn deadline(&self) -> Boottime {
        match &*self.state.borrow() {
            State::Held { deadline, .. } | State::Lost { deadline, .. } => *deadline,
            State::Waiting | State::Failed(_) | State::Over(_) => Boottime(Duration::ZERO),
        }
    }

    /// Waits until the claim is lost. The work must then end at once, and in any case by the
    /// [`deadline`](Self::deadline).
    pub async fn lost(&self) -> LossReason {
        let mut state = self.state.clone();
        match state.wait_for(|state| !matches!(state, State::Held { .. })).await.as_deref() {
            Ok(State::Lost { reason, .. }) => reason.clone(),
            // Only a task that was ended from outside, with its runtime, ends without a word.
            Ok(_) | Err(_) => LossReason::DeadlinePassed,
        }
    }

    /// Gives it back and waits until that is done, or was given up.
    pub async fn release(mut self) -> Result<(), ReleaseError> {
        // The task may have ended with its runtime only: then there is nobody to tell, and the state says nothing.
        let _ = self.commands.send(Command::Release);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            return Err(ReleaseError::Abandoned(error.to_string()));
        }
        match &*self.state.borrow() {
            State::Over(None) => Ok(()),
            State::Over(Some(error)) => Err(ReleaseError::Abandoned(error.clone())),
            other => Err(ReleaseError::Abandoned(format!("it ended as {other:?}"))),
        }
    }
}

/// Who asks, when nobody said: this process on this host.
pub(crate) fn default_holder() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into());
    identity::default_holder(None, &host, std::process::id())
}
