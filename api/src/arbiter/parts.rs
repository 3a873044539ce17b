//! What a decision needs to know of a parent and of a claim, read from the API's objects once, at the edge.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    ClaimPhase, ClaimStatus, Lock, LockClaim, PodReference, Queueing, RenewTime,
    limits::{MAX_MESSAGE, MAX_TERM},
};

/// An object's UID. Shared: it stands in many indexes.
pub type Uid = Arc<str>;

/// A resourceVersion. Those of one object are compared as numbers, as Kubernetes allows since 1.35 and etcd always did.
pub type Version = u64;

/// The time, twice: what decisions rest on, and what people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Now {
    /// Time since the operator's own start. Never set back; not comparable between processes.
    pub monotonic: Duration,
    /// The wall clock, written into statuses for people to read.
    pub wall: Timestamp,
}

/// A parent, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parent {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp` in unix seconds.
    pub created: u64,
    /// How much may be held at once, in permits.
    pub capacity: u64,
    /// Time to live of claims that name none.
    pub ttl: Duration,
    /// Whether smaller claims may pass the first in line.
    pub queueing: Queueing,
    /// What the status says.
    pub state: ParentState,
}

/// A parent's status, as far as decisions need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ParentState {
    /// `status.term`; 0 when absent.
    pub term: u64,
    /// `status.settledTerm`; 0 when absent.
    pub settled_term: u64,
    /// The derived rest.
    pub summary: ParentSummary,
}

/// What people and `kubectl` see of a parent; nothing is decided from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ParentSummary {
    /// The generation of the spec that this answers; absent before the first answer.
    pub generation: Option<i64>,
    /// Permits held.
    pub in_use: u64,
    /// Permits free.
    pub available: u64,
    /// Claims that wait.
    pub waiting: u64,
    /// Some of the holders.
    pub holders: Vec<String>,
    /// What the holder has; only of a parent that shows no more than one.
    pub tenure: Option<Tenure>,
}

/// What a holder was given, as its parent shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// Its fencing token.
    pub token: u64,
    /// When it was granted.
    pub since: Timestamp,
}

/// A claim, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp` in unix seconds.
    pub created: u64,
    /// How many permits it asks for.
    pub weight: u64,
    /// Higher goes first.
    pub priority: i32,
    /// Shown to people.
    pub holder: String,
    /// The pod that it speaks for. Apart, as most of many claims may be of none.
    pub pod: Option<Box<PodReference>>,
    /// The time to live that it asks for.
    pub ttl: Option<Duration>,
    /// `spec.renewTime`, as text: only whether it changes matters.
    pub renewed: Option<RenewTime>,
    /// The reason of a wanted revocation.
    pub revoke: Option<String>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// What the status says.
    pub state: ClaimState,
}

/// A claim's status, as far as decisions need it. Conditions follow from it, see [`claim_status`](super::claim_status).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClaimState {
    /// `status.phase`.
    pub phase: Option<ClaimPhase>,
    /// `status.ttl`.
    pub ttl: Option<Duration>,
    /// `status.term`; 0 when absent.
    pub term: u64,
    /// `status.parentUid`: the UID of the parent that granted it.
    pub parent: Option<Uid>,
    /// `status.fencingToken`.
    pub token: Option<u64>,
    /// `status.ticket`.
    pub ticket: Option<u64>,
    /// `status.ahead`.
    pub ahead: Option<u64>,
    /// `status.acquiredAt`.
    pub acquired_at: Option<Timestamp>,
    /// `status.expiresAt`.
    pub expires_at: Option<Timestamp>,
    /// `status.message`.
    pub message: Option<String>,
    /// The condition `Granted` says that the claim ended because somebody wanted it revoked while it waited.
    pub revoked: bool,
}

/// A claim of which nothing can be read but that it is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unread {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// Somebody may hold it. Not so if its phase can be read, and is that of a claim that waits or is over.
    pub may_hold: bool,
}

/// Why an object cannot be decided on. The object is left alone, everything else goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Tokens of this term would not fit 53 bits.
    #[error("status.term {0} is above the highest possible one: clear the status to go on")]
    Term(u64),
}

/// Which object it is, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// `metadata.generation`; 0 when absent.
    pub generation: i64,
    /// `metadata.creationTimestamp` in unix seconds.
    pub created: u64,
}

impl Parent {
    /// What decisions need of the lock with this spec and status.
    pub fn of<L: Lock>(identity: Identity, spec: &L::Spec, status: Option<&L::Status>) -> Result<Self, Unreadable> {
        let state = status.map(L::state).unwrap_or_default();
        if state.term > MAX_TERM {
            return Err(Unreadable::Term(state.term));
        }
        let Identity { uid, version, generation, created } = identity;
        let (capacity, ttl, queueing) = (L::capacity(spec), L::ttl(spec), L::queueing(spec));
        Ok(Self { uid, version, generation, created, capacity, ttl, queueing, state })
    }
}

impl Claim {
    /// What decisions need of the claim of this name with this spec and status. `revoke` is the value of the annotation
    /// that asks for its revocation; `deleting` says whether it is being deleted.
    pub fn of<C: LockClaim>(
        identity: Identity,
        name: &str,
        revoke: Option<&str>,
        deleting: bool,
        spec: &C::Spec,
        status: Option<&ClaimStatus>,
    ) -> Result<Self, Unreadable> {
        let Identity { uid, version, generation, created } = identity;
        let claim = C::claim(spec);
        Ok(Self {
            uid,
            name: name.into(),
            version,
            generation,
            created,
            weight: C::weight(spec),
            priority: claim.priority,
            holder: claim.holder.clone(),
            pod: claim.pod.clone().map(Box::new),
            ttl: claim.ttl.map(|ttl| ttl.0),
            renewed: claim.renew_time.clone(),
            revoke: revoke.map(|reason| reason.chars().take(MAX_MESSAGE as usize / 2).collect()),
            deleting,
            state: state(status)?,
        })
    }
}

fn state(status: Option<&ClaimStatus>) -> Result<ClaimState, Unreadable> {
    let Some(status) = status else { return Ok(ClaimState::default()) };
    let term = status.term.unwrap_or(0);
    if term > MAX_TERM {
        return Err(Unreadable::Term(term));
    }
    Ok(ClaimState {
        phase: status.phase,
        ttl: status.ttl.map(|ttl| ttl.0),
        term,
        parent: status.parent_uid.as_deref().map(Into::into),
        token: status.fencing_token,
        ticket: status.ticket,
        ahead: status.ahead,
        acquired_at: status.acquired_at.as_ref().map(|time| time.0),
        expires_at: status.expires_at.as_ref().map(|time| time.0),
        message: status.message.clone(),
        revoked: status.is_revoked(),
    })
}
