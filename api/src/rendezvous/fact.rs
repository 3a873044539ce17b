//! What a gate's condition asks of an object, and what is known of one.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RendezvousPhase;
use crate::{LeasePhase, SemaphorePhase};

/// A kind of object that a gate can depend on. `Lease` is that of `konductor.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Dependency {
    /// A Job of Kubernetes.
    Job,
    /// A semaphore.
    Semaphore,
    /// A barrier.
    Barrier,
    /// A lease.
    Lease,
    /// Another gate.
    Gate,
}

impl Dependency {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Job, Self::Semaphore, Self::Barrier, Self::Lease, Self::Gate];
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A state that a gate can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Wanted {
    /// A Job that has succeeded.
    Complete,
    /// A Job that has failed for good.
    Failed,
    /// A Job that is neither finished nor suspended.
    Active,
    /// A barrier or gate that is open.
    Open,
    /// A barrier or gate that is not open.
    Closed,
    /// A lease that somebody holds.
    Acquired,
    /// A lease that nobody holds, or a semaphore with permits free.
    Available,
    /// A semaphore whose permits are all in use.
    Full,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a Job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It is to run, or runs, or runs again after a pod of it failed.
    Active,
    /// It is not to run now.
    Suspended,
    /// It has succeeded.
    Complete,
    /// It has failed, and nothing is tried any more.
    Failed,
}

impl JobState {
    /// Reads the conditions that are true, by type, and `spec.suspend`. Only the Job controller's last words count:
    /// counts of pods say nothing of what is still to come, and `FailureTarget` and `SuccessCriteriaMet` come before
    /// the last pod has ended.
    pub fn of<'a>(mut conditions: impl Iterator<Item = &'a str>, suspend: bool) -> Self {
        let end = conditions.find_map(|condition| match condition {
            "Complete" => Some(Self::Complete),
            "Failed" => Some(Self::Failed),
            _ => None,
        });
        end.unwrap_or(if suspend { Self::Suspended } else { Self::Active })
    }
}

/// What is known of an object. A kind of Konductor's own is `None` until the operator has decided on it with its spec
/// as it is now: what its status says of an older one may never have been true of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Of a Job.
    Job(JobState),
    /// Of a semaphore: its phase, and the permits free.
    Semaphore(Option<(SemaphorePhase, u64)>),
    /// Of a lease.
    Lease(Option<LeasePhase>),
    /// Of a barrier or gate.
    Rendezvous(Option<RendezvousPhase>),
    /// It is there, but cannot be read.
    Unreadable,
}

/// A status of which a gate's condition can ask something. What it says stands with its kind.
pub trait Evidence {
    /// The generation of the spec that it answers.
    fn observed_generation(&self) -> Option<i64>;

    /// What is known of an object by this status; by none, if it is `None`.
    fn fact(status: Option<&Self>) -> Fact;
}

impl Fact {
    /// What a status says of an object whose spec is of this generation.
    pub fn of<S: Evidence>(status: Option<&S>, generation: Option<i64>) -> Self {
        S::fact(status.filter(|status| status.observed_generation() == generation))
    }

    /// Whether the object is in this state; `permits` are those that have to be free.
    pub fn is(self, wanted: Wanted, permits: u64) -> bool {
        match (self, wanted) {
            (Self::Job(state), _) => match wanted {
                Wanted::Complete => state == JobState::Complete,
                Wanted::Failed => state == JobState::Failed,
                Wanted::Active => state == JobState::Active,
                _ => false,
            },
            (Self::Semaphore(Some((_, free))), Wanted::Available) => free >= permits,
            (Self::Semaphore(Some((phase, _))), Wanted::Full) => phase == SemaphorePhase::Full,
            (Self::Lease(Some(phase)), Wanted::Available) => phase == LeasePhase::Available,
            (Self::Lease(Some(phase)), Wanted::Acquired) => phase == LeasePhase::Held,
            (Self::Rendezvous(Some(phase)), Wanted::Open) => phase == RendezvousPhase::Open,
            (Self::Rendezvous(Some(phase)), Wanted::Closed) => phase != RendezvousPhase::Open,
            _ => false,
        }
    }
}

impl fmt::Display for Fact {
    /// What follows the object's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Job(JobState::Active) => "is active",
            Self::Job(JobState::Suspended) => "is suspended",
            Self::Job(JobState::Complete) => "is complete",
            Self::Job(JobState::Failed) | Self::Rendezvous(Some(RendezvousPhase::Failed)) => "has failed",
            Self::Semaphore(Some((SemaphorePhase::Paused, _))) => "is paused",
            Self::Semaphore(Some((SemaphorePhase::Full, _))) => "is full",
            Self::Semaphore(Some((SemaphorePhase::Available, free))) => return write!(f, "has {free} permits free"),
            Self::Lease(Some(LeasePhase::Held)) => "is held",
            Self::Lease(Some(LeasePhase::Available)) => "is available",
            Self::Rendezvous(Some(RendezvousPhase::Open)) => "is open",
            Self::Rendezvous(Some(RendezvousPhase::Waiting)) => "is waiting",
            Self::Semaphore(None) | Self::Lease(None) | Self::Rendezvous(None) => "is not known yet (new or edited)",
            Self::Unreadable => "cannot be read",
        })
    }
}
