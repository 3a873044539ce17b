//! How a claim is acquired, kept and given up, as a state machine: no I/O, no clock, no chance.
//!
//! Inputs (answers, watch events, the passing of time, a command) go in, effects (requests to make, events to tell)
//! come out, so that every path can be written down as a script and searched by property tests. The driver in
//! [`run`](crate::run) has no choices left.
//!
//! What it guarantees, and why:
//!
//! - **Nothing begins on a grant that is not confirmed.** A grant counts only if the parent, read *after* the grant was
//!   seen, is still in the grant's term and has the UID that the grant names. A deposed operator's late grant carries
//!   an older term than the parent; a grant that was there before the term was raised is one that the new operator has
//!   adopted. A parent that was deleted and created again knows nothing of the grants of the one before, and may come
//!   to the same term: such a grant can never be confirmed, so its claim is given up and asked for anew. A read that
//!   was sent before the grant was seen proves nothing, so it is never used; nor is a confirmation used for another
//!   grant.
//! - **Nothing begins late.** The TTL counts from the *sending* of the last successful renewal, the create being the
//!   first: the operator cannot have seen it earlier. If that was more than [`FRESH`] (or a third of the TTL) ago, the
//!   claim is renewed first, and the answer to the renewal must still say that it is granted.
//! - **The deadline is kept even when nothing answers.** It is that sending plus the TTL, less what two clocks may
//!   differ by. Each step compares it first, so a process that was frozen past it is told of the loss before anything
//!   is sent.
//! - **No claim is left behind.** A create whose outcome is not known is looked up before the machine ends; a held
//!   claim is deleted, by its UID, so that never another's claim of the same name is.
//! - **Old news changes nothing.** What was seen of a claim is replaced only by what has a higher resource version.
//!
//! Who waits writes nothing, with one exception. Whether a claim of no pod still has a client, the operator cannot find
//! out; so a client that is told that its turn is near, and has not renewed for long, renews once. A claim that
//! somebody revokes while it waits has been refused: it is not asked for again.
//!
//! Once held, the watch stays, as a stream that is idle but for the renewals: a revocation is seen as soon as it is
//! written. But the answers to renewals alone say whether the claim is still held. That a watch is lost, or refused,
//! loses nothing; it is opened again after pauses.
//!
//! A claim may belong to a holder by its name ([`Machine::of_holder`]): its name and instance follow from the holder's,
//! so that one process acquires it, leaves it to its TTL, and another one renews or releases it. Who finds it held and
//! gives up, or may not hold it, leaves it alone: somebody may work under it.
//!
//! A refusal (RBAC, admission) ends an attempt at once if it is the first answer there is; after an acceptance, or a
//! server that did not answer, it must have lasted for [`limits::REFUSED_FOR`] without interruption, and whatever is not
//! answered interrupts it; and a claim that is held ignores refusals until its deadline: rules flap during upgrades, and
//! the command that is protected has until then anyway. That the namespace is being deleted is final at once: it does
//! not come back. That a quota of the namespace is used up is no refusal: it is waited for, like what is not free, but by
//! asking again, as nobody tells when there is room.

use std::time::Duration;

use konductor_api::{ClaimPhase, PodReference};

use crate::{Boottime, Event};

mod asking;
mod chance;
mod context;
mod cure;
mod ending;
mod holding;
pub mod limits;
mod machine;
mod name;
mod tries;
mod waiting;
mod watching;

pub use chance::Draw;
pub(crate) use cure::Cure;
pub use konductor_api::limits::FRESH;
pub use machine::Machine;
pub(crate) use name::{OF_HOLDER, hashed, instance_of_holder, of_holder, random};
pub(crate) use tries::{Pauses, Tries};
pub(crate) use watching::Watching;

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but the passing of time: at the start, and when [`Machine::alarm`] is due.
    Time,
    /// The answer to the last [`Effect::Call`].
    Answered(Result<Answer, Failure>),
    /// The answer to the last [`Effect::AskParent`].
    ParentAnswered(Result<ParentSeen, Failure>),
    /// The watch has shown the claim.
    Watched(ClaimSeen),
    /// The watch has shown that the claim with this UID is gone.
    WatchedDeletion(String),
    /// The watch has ended. It is not opened again without another [`Effect::Watch`].
    WatchEnded(WatchEnd),
    /// The owner wants the claim gone.
    Release,
}

/// What comes out, to be done in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this request and hand in its answer. At most one is under way.
    Call {
        /// The request.
        call: Call,
        /// When there is no answer after this long, that is the answer: [`Failure::Transient`].
        within: Duration,
    },
    /// Drop the request that is under way.
    CancelCall,
    /// Read the parent, beside whatever else is under way; replaces an earlier one.
    AskParent {
        /// Whether the answer must be the latest state rather than a cached one.
        latest: bool,
        /// As of [`Effect::Call`].
        within: Duration,
    },
    /// Watch the claim of this name from this resource version; replaces an earlier watch.
    Watch {
        /// The claim's name.
        name: String,
        /// The last resource version seen.
        version: u64,
    },
    /// Close the watch.
    Unwatch,
    /// Tell the owner.
    Tell(Event),
}

/// A request about the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Create the claim.
    Create {
        /// The claim's name.
        name: String,
        /// The claim's `spec.instance`.
        instance: String,
    },
    /// Read whatever claim has this name, in its latest state.
    Read {
        /// The claim's name.
        name: String,
    },
    /// Renew the claim, if it is still the one with this UID.
    Renew {
        /// The claim's name.
        name: String,
        /// The claim's UID.
        uid: String,
    },
    /// Delete the claim, if it is still the one with this UID.
    Delete {
        /// The claim's name.
        name: String,
        /// The claim's UID.
        uid: String,
        /// Its resource version, if it must not have changed either.
        version: Option<u64>,
    },
}

impl Call {
    /// What it does, as a verb for people.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create the claim",
            Self::Read { .. } => "read the claim",
            Self::Renew { .. } => "renew the claim",
            Self::Delete { .. } => "delete the claim",
        }
    }
}

/// The operation of [`Effect::Watch`] for people.
pub(crate) const WATCH: &str = "watch the claim";
/// The operation of waiting for people.
pub(crate) const WAIT: &str = "wait for the grant";

/// A request that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "almost all answers are claims")]
pub enum Answer {
    /// The claim as the answer shows it.
    Claim(ClaimSeen),
    /// The claim is deleted.
    Deleted,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name is taken.
    Taken,
    /// There is no such object: the API server says so of this very name.
    Missing(String),
    /// There is no such resource: Konductor is not installed, or this API server does not know of it yet.
    NotServed(String),
    /// There is no such namespace.
    NoNamespace(String),
    /// The namespace is being deleted: nothing can be created in it any more, and what is in it goes.
    Terminating(String),
    /// The object is another than the one meant, or was changed meanwhile.
    Conflict(String),
    /// A quota of the namespace has no room for one more object. There will be when others are gone.
    QuotaUsedUp(String),
    /// The server refuses, whatever it said, and credentials read anew did not help.
    Refused(String),
    /// A refusal by a server that does not say that it is ready: one that starts refuses everybody until it has read
    /// the rules, and knows no custom resources yet.
    Unready(Box<Failure>),
    /// No answer, or one that says to try again. The request may or may not have been carried out.
    Transient {
        /// What went wrong.
        message: String,
        /// When the server said to come back.
        retry_after: Option<Duration>,
    },
}

/// What the parent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentSeen {
    /// There is none of that name.
    Missing,
    /// There is one.
    Found {
        /// `metadata.uid`.
        uid: String,
        /// `status.term`; none before an operator has seen it.
        term: Option<u64>,
        /// `spec.permits`, where the kind has that.
        permits: Option<u64>,
    },
}

/// Why a watch has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The server closes every watch after some time.
    Closed,
    /// What happened since the resource version is no longer known: read, then watch.
    Outdated,
    /// The server refuses.
    Refused(String),
    /// Anything else.
    Failed(String),
}

/// What was seen of a claim at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimSeen {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`: a number that grows with every change, as Kubernetes promises since 1.35 and etcd
    /// has always kept.
    pub version: u64,
    /// `spec.instance`.
    pub instance: String,
    /// `spec.pod`.
    pub pod: Option<PodReference>,
    /// `status.phase`.
    pub phase: Option<ClaimPhase>,
    /// `status.term`.
    pub term: Option<u64>,
    /// `status.parentUid`: the lock that granted it.
    pub parent_uid: Option<String>,
    /// `status.fencingToken`.
    pub fencing_token: Option<u64>,
    /// `status.ttl`.
    pub ttl: Option<Duration>,
    /// `status.ahead`.
    pub ahead: Option<u64>,
    /// `status.message`.
    pub message: String,
    /// Whether somebody revoked it while it waited, as its condition `Granted` says.
    pub revoked: bool,
}

/// A grant as the claim shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) parent_uid: String,
    pub(crate) term: u64,
    pub(crate) fencing_token: u64,
    pub(crate) ttl: Duration,
}

impl ClaimSeen {
    /// The grant, if it is one. A status that says Granted and lacks what belongs to it grants nothing.
    pub(crate) fn grant(&self) -> Option<Grant> {
        (self.phase == Some(ClaimPhase::Granted)).then_some(())?;
        let parent_uid = self.parent_uid.clone()?;
        Some(Grant { parent_uid, term: self.term?, fencing_token: self.fencing_token?, ttl: self.ttl? })
    }
}

/// The latest moment at which a claim renewed at `renewed_at` is certainly still held.
pub(crate) fn deadline(renewed_at: Boottime, ttl: Duration) -> Boottime {
    renewed_at + ttl.saturating_sub(ttl / limits::CLOCK_DIFFERENCE)
}
