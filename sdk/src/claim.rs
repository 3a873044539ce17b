//! What a claim's owner asks for and hears: the vocabulary of [`run`](crate::run).

use std::{fmt, time::Duration};

use konductor_api::{Lease, Lock, LockKind, PodReference, Semaphore};

use crate::{Boottime, protocol::Cure};

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is to be held.
    pub wanted: Wanted,
    /// Higher goes first.
    pub priority: i32,
    /// How long the claim outlives its last renewal, 5s to 24h; the lock's own when absent.
    pub ttl: Option<Duration>,
    /// Who asks, as shown to people.
    pub holder: String,
    /// The pod, container and start of the container that this process is, when it is in a pod: lets the operator free
    /// the claim at once when the container has ended.
    pub pod: Option<PodReference>,
}

/// What is to be held, in the client's namespace. Whoever holds several takes them in the order of this type: then no
/// two ever wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// A lease.
    Lease {
        /// The lease's name.
        name: String,
    },
    /// Permits of a semaphore.
    Semaphore {
        /// The semaphore's name.
        name: String,
        /// How many permits, all or nothing.
        permits: u32,
    },
}

impl Wanted {
    /// The kind of lock.
    pub fn kind(&self) -> LockKind {
        match self {
            Self::Lease { .. } => Lease::KIND,
            Self::Semaphore { .. } => Semaphore::KIND,
        }
    }

    /// The lock's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Lease { name } | Self::Semaphore { name, .. } => name,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// What was seen of a lock at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSeen {
    /// Which lock it is, among those of all clusters, namespaces and folders: no two have the same. Letters, digits,
    /// hyphens, dots and slashes.
    pub id: String,
    /// How much of it can be held at once; 1 of a lease.
    pub permits: u64,
}

/// What happened to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The claim is made; the operator has not said anything about it yet. Told again when it is made anew.
    Asked,
    /// The claim was created here: this process's own request was answered so, and it is none that was found. Told only
    /// of a claim that belongs to a holder by its name ([`run_for_holder`](crate::run_for_holder)).
    Created {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// The claim cannot be made yet, for a reason that says nothing of the lock: a quota has no room for it, or others
    /// keep the folder locked that takes a cluster's place. It is tried again.
    Hindered {
        /// What is in the way, as the API server says it.
        why: String,
    },
    /// The operator's word that the claim is queued, each time that it changed.
    Waiting {
        /// Claims in front when that was written; not known before the operator has seen the claim.
        ahead: Option<u64>,
        /// What the operator says to people. It begins with [`WAITS_FOR`](crate::WAITS_FOR) and the
        /// lock; what follows is why, if it is more than others in front.
        message: String,
        /// Whether there was no such lock when last looked.
        parent_missing: bool,
        /// The lock, if it was there when last looked.
        lock: Option<LockSeen>,
    },
    /// The claim is granted, and the lock is being asked whether that still counts: a good moment to prepare what it
    /// protects, and too early to begin it. Told at each question, so maybe more than once, and maybe for nothing.
    Granted,
    /// The claim is held, confirmed with the lock itself. Only now may what it protects begin.
    Held {
        /// Greater than that of every earlier grant of this lock.
        fencing_token: u64,
        /// The time to live in force.
        ttl: Duration,
        /// What it protects must have ended by then, unless it is extended. [`Boottime::NEVER`] without a cluster.
        deadline: Boottime,
        /// Which lock it is: see [`LockSeen::id`].
        lock: String,
    },
    /// A renewal succeeded.
    Extended {
        /// The new deadline.
        deadline: Boottime,
    },
    /// Something failed and is tried again. For the log.
    Retrying {
        /// What was tried: a verb.
        operation: &'static str,
        /// Why it failed.
        error: String,
    },
    /// The claim was held, and is no longer or must no longer be relied upon: end what it protects before the deadline
    /// last told, then send [`Command::Release`].
    Lost {
        /// Why it is no longer held.
        reason: LossReason,
    },
    /// The claim is gone, or left to others who may rely on it ([`run_for_holder`](crate::run_for_holder)). The last
    /// event.
    Released,
    /// The claim was given up because it could not be deleted in time; it ends when its TTL has passed. The last event.
    Abandoned {
        /// Why the last attempt to delete it failed.
        error: String,
    },
    /// The claim could not be acquired. The last event.
    Failed {
        /// Why it could not be acquired.
        error: AcquireError,
    },
}

/// What a claim's owner wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Release if held, withdraw if waiting, clean up if lost. Send it only when what the claim protects has ended.
    Release,
}

/// Why a claim is no longer held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// Somebody asked for it back. It still counts as held until it is released or its deadline has passed.
    #[error("the holder was asked to end ({0})")]
    Revoked(String),
    /// The operator saw no renewal for a full TTL.
    #[error("the claim has expired")]
    Expired,
    /// The operator took the grant back.
    #[error("the grant was taken back")]
    TakenBack,
    /// Somebody deleted the claim.
    #[error("the claim was deleted")]
    Deleted,
    /// Another claim has taken its name.
    #[error("the claim was replaced by another of the same name")]
    Replaced,
    /// No renewal got through before the deadline.
    #[error("the claim could not be renewed before its deadline")]
    DeadlinePassed,
}

/// Why a claim could not be acquired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The API server refuses the request: RBAC, validation or an admission policy. Its message says which.
    #[error("the API server refuses to {operation}: {message}{}", Cure(message))]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What the API server said.
        message: String,
    },
    /// No object can have the name that was asked for.
    #[error("{0:?} is not a name that an object can have: use lower-case letters, digits, hyphens and dots")]
    Name(String),
    /// Without a cluster: the folder, a manifest in it or its state cannot be used.
    #[error("{0}")]
    Folder(String),
    /// The operating system refuses what is needed to wait: a timer, random numbers.
    #[error("the operating system does not let this process wait: {0}")]
    System(String),
    /// Somebody revoked the claim before it was held. The operator's word, with the reason that was given.
    #[error("the claim was ended before it was held ({0})")]
    Revoked(String),
    /// The claim of this name, the holder's, was granted by a lock that has been deleted since. It was found, so others
    /// may rely on it, and it is left alone.
    #[error(
        "the holder's claim {0} was granted by a lock that has been deleted since (release it if nothing relies on it)"
    )]
    Orphaned(String),
    /// The API server does not know the resource.
    #[error("cannot {operation}: {message} (are Konductor's custom resources installed?)")]
    NotInstalled {
        /// What was tried.
        operation: &'static str,
        /// What the API server said.
        message: String,
    },
    /// There is no such namespace.
    #[error("cannot {operation}: {message} (the namespace must exist first)")]
    NoNamespace {
        /// What was tried.
        operation: &'static str,
        /// What the API server said.
        message: String,
    },
}
