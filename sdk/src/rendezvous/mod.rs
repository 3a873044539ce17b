//! Waiting until a barrier or a gate is open, and arriving at a barrier.
//!
//! Nothing is held here: all who wait read the same status, and whoever has arrived has nothing to give back. So both
//! can be given up at any moment by dropping the future, and nothing is left behind.
//!
//! *To wait* is to look once and then to watch that one name, never to ask again and again. What does not exist yet is
//! waited for as well. A status counts only when it answers the spec as it is now: a gate that was edited is not open
//! because it was open before. That a gate was open at one moment is all that waiting tells; it may close again.
//!
//! *To arrive* is to look once at the barrier and to create one [`Arrival`](konductor_api::Arrival), which nobody has
//! to write to after that. Its name follows from the barrier, its UID and the key, so that whoever arrives again, or
//! repeats a request whose answer was lost, finds the name taken by itself and has arrived. A name proves nothing, as
//! anybody can give it to an arrival of their own: what has it is read, and has arrived if its barrier and key are
//! those, and it is not being deleted; otherwise another name is taken. With the UID in the name, an arrival at an
//! earlier barrier of the same name, which is about to be deleted with that one, is in nobody's way. Before each
//! attempt to create the barrier is looked at, as it may be another one after an outage.
//!
//! One who arrives at a barrier that is open, or has failed, arrives all the same: its work is done, and that somebody
//! else opened the barrier (by a quorum, or by more arrivals than were expected) is no fault of its own. But the
//! arrival does nothing in this round, nor in the next one, which begins without the arrivals of this one; that is
//! told. So is who does not hear whether it has arrived before the next round has begun: it does not arrive in that one,
//! as it could count in both.
//!
//! Where there is no barrier yet the arrival has no owner; the operator gives it one. The same key may then be there by
//! two names, which is one arrival all the same: keys are counted, not objects. Where there is no barrier any more, a
//! name that is taken by an arrival with an owner says nothing: that one went to a barrier which was deleted, so it is
//! waited for until it is gone as well, or there is a new barrier.
//!
//! A refusal ends either at once if it is the first answer; after an outage it must have lasted, as for a claim.

mod client;
mod machine;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scripts;

use std::fmt;

use konductor_api::{Barrier, Gate, PodReference, Rendezvous, RendezvousKind};

pub use client::{BarrierHandle, GateHandle};
pub(crate) use machine::{Answer, Arrived, Call, Effect, Goal, Input, Machine, RendezvousSeen};

use crate::{
    AcquireError, Boottime, Client,
    clock::Alarm,
    connect::{Cluster, Target},
    driver::{InFlight, draw},
    kubernetes::{RendezvousBackend, Spans, Watch},
    name::is_name,
};

/// What is waited for, in the client's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Awaited {
    /// Whether it is a barrier or a gate.
    pub kind: RendezvousKind,
    /// The barrier's or gate's name.
    pub name: String,
}

impl Awaited {
    /// A barrier.
    pub fn barrier(name: impl Into<String>) -> Self {
        Self { kind: Barrier::KIND, name: name.into() }
    }

    /// A gate.
    pub fn gate(name: impl Into<String>) -> Self {
        Self { kind: Gate::KIND, name: name.into() }
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Who arrives where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arriving {
    /// The barrier's name.
    pub barrier: String,
    /// What arrives once, however often it says so: 1 to 253 characters.
    pub key: String,
    /// Who arrives, as shown to people: 1 to 253 characters.
    pub holder: String,
    /// The pod that arrives, when it is one.
    pub pod: Option<PodReference>,
}

/// What happens while waiting or arriving.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The barrier or gate is there, and the operator has not said anything about it as it is now.
    Seen,
    /// The barrier or gate is not open. Told each time that this changes. Of an arrival: a quota has no room for it.
    Waiting {
        /// What the operator says to people; of a quota, what the API server says.
        message: String,
        /// Whether there is no such barrier or gate.
        missing: bool,
    },
    /// Something failed and is tried again. For the log.
    Retrying {
        /// What was tried: a verb.
        operation: &'static str,
        /// Why it failed.
        error: String,
    },
    /// Of an arrival: the round was over before it, so that it changes nothing. [`Done`](Self::Done) follows.
    RoundOver {
        /// Whether the barrier has failed; otherwise it is open.
        failed: bool,
        /// What the operator says to people.
        message: String,
    },
    /// Of an arrival: the next round has begun before an answer told whether it was made in the last one. It is not made
    /// once more, as it would count in both. [`Done`](Self::Done) follows.
    RoundPassed {
        /// The round that has begun.
        round: u64,
    },
    /// The barrier or gate is open, or the arrival is made. Nothing follows.
    Done,
    /// The barrier or gate will not open, or the arrival cannot be made. Nothing follows.
    Failed {
        /// Why it has come to nothing.
        error: RendezvousError,
    },
}

/// Why waiting or arriving has come to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RendezvousError {
    /// The barrier or gate has failed: it will not open by itself any more.
    #[error("it has failed: {0}")]
    Failed(String),
    /// A barrier or gate of a folder: there are none without a cluster.
    #[error("barriers and gates need a cluster")]
    NeedsCluster,
    /// The request cannot be made or is refused.
    #[error(transparent)]
    Request(#[from] AcquireError),
}

/// Waits until a barrier or a gate is open, telling `on_progress` all that happens until [`Progress::Done`] or
/// [`Progress::Failed`].
///
/// Must be called on a tokio runtime (of any flavour) with I/O and time enabled. Dropping the future ends the waiting.
pub async fn wait(client: Client, awaited: Awaited, on_progress: impl FnMut(Progress)) {
    let goal = Goal::Open(awaited.kind);
    pursue(client, awaited, goal, on_progress).await;
}

/// Arrives at a barrier, telling `on_progress` all that happens until [`Progress::Done`] or [`Progress::Failed`]. What
/// fails is tried again for as long as the future is not dropped.
///
/// Must be called on a tokio runtime (of any flavour) with I/O and time enabled.
pub async fn arrive(client: Client, arriving: Arriving, on_progress: impl FnMut(Progress)) {
    let awaited = Awaited::barrier(arriving.barrier.clone());
    pursue(client, awaited, Goal::Arrive(arriving), on_progress).await;
}

async fn pursue(client: Client, awaited: Awaited, goal: Goal, mut on_progress: impl FnMut(Progress)) {
    let failed = |error: RendezvousError| Progress::Failed { error };
    if !is_name(&awaited.name) {
        return on_progress(failed(AcquireError::Name(awaited.name).into()));
    }
    let Target::Cluster(cluster) = &client.0 else { return on_progress(failed(RendezvousError::NeedsCluster)) };
    if let Err(error) = drive(cluster, awaited, goal, &mut on_progress).await {
        on_progress(failed(AcquireError::System(error.to_string()).into()));
    }
}

/// Waits for what happens next and does what the machine says. It has no choices of its own.
async fn drive(
    cluster: &Cluster,
    awaited: Awaited,
    goal: Goal,
    on_progress: &mut impl FnMut(Progress),
) -> std::io::Result<()> {
    let backend = RendezvousBackend::new(cluster, awaited);
    let mut machine = Machine::new(goal);
    let mut alarm = Alarm::new()?;
    let (mut call, mut watch, mut spans) = (InFlight::empty(), Watch::none(), Spans::default());
    let mut input = Input::Time;
    loop {
        let (now, chance) = (Boottime::now(), draw()?);
        if let Input::WatchEnded(end) = &input {
            spans.ended(end, now);
        }
        for effect in machine.step(input, now, chance) {
            match effect {
                Effect::Call { call: next, within } => call = InFlight::with(backend.call(&next, within)),
                Effect::Watch { version } => watch = backend.watch(&version, spans.opened(now, chance.id as u64)),
                Effect::Tell(progress) => on_progress(progress),
            }
        }
        if machine.is_over() {
            return Ok(());
        }
        alarm.set(machine.alarm())?;
        input = tokio::select! {
            rung = alarm.ring() => rung.map(|()| Input::Time)?,
            answer = call.answer() => Input::Answered(answer),
            seen = watch.next() => seen.unwrap_or_else(Input::WatchEnded),
        };
    }
}
