//! What to do: the writes, in the order of their urgency, what to look at, and when to decide again.

use std::time::Duration;

use super::{ClaimState, ParentState, Uid, Version};
use crate::PodReference;

/// What [`decide`](super::decide) wants done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    /// List the claims of this parent with a consistent read, and hand them to [`View::page`](super::View::page) page
    /// by page and to [`View::listed`](super::View::listed) at the end, with this term.
    pub list: Option<u64>,
    /// To be written; the most urgent first. They are independent of each other and may go out all at once.
    pub writes: Vec<Write>,
    /// Pods to be read, once each; the answers go to [`View::looked`](super::View::looked).
    pub looks: Vec<Look>,
    /// Claims that are asked, by a telling among the writes, to show that their clients live.
    pub asked: Vec<Uid>,
    /// The waiters' positions were looked at.
    pub told: bool,
    /// More waiters have to be told than one round allows.
    pub more_to_tell: bool,
    /// What people see of the parent was compared with what it should be.
    pub summarized: bool,
    /// When to decide again if nothing was observed before, on the clock of [`Now::monotonic`](super::Now).
    pub look_again: Option<Duration>,
}

/// A pod that tells whether a claim's client lives. It is read once: no answer is an answer, too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Look {
    /// The claim's UID.
    pub claim: Uid,
    /// The container that its client runs in.
    pub pod: PodReference,
}

/// One write. It may only take effect on the version of the object that it was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// To the parent's status.
    Parent(ParentWrite),
    /// To a claim: to its status, or its deletion.
    Claim(ClaimWrite),
}

/// A write to the parent's status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParentWrite {
    /// The parent's UID.
    pub uid: Uid,
    /// The resourceVersion that the parent must still have.
    pub version: Version,
    /// What changes.
    pub change: ParentChange,
}

/// A write to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimWrite {
    /// The claim's UID.
    pub uid: Uid,
    /// The claim's name.
    pub name: String,
    /// The resourceVersion that the claim must still have.
    pub version: Version,
    /// What changes.
    pub change: ClaimChange,
    /// To be told as a Kubernetes event on the parent once the write is acknowledged.
    pub happening: Option<Happening>,
}

/// What a write does to a parent: each replaces the whole status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParentChange {
    /// The parent's term goes up: grants of other terms are void.
    Raise(ParentState),
    /// All adopted claims carry this term; granting may begin.
    Settle(ParentState),
    /// The parent's counts, for people.
    Summarize(ParentState),
}

/// What a write does to a claim: each but the last replaces the whole status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimChange {
    /// The claim gets what it asked for.
    Grant(ClaimState),
    /// A claim adopted from an earlier term is confirmed in this one.
    Restamp(ClaimState),
    /// A grant of a deposed leader that nobody confirmed goes back to waiting.
    SendBack(ClaimState),
    /// The holder is asked to end.
    Revoke(ClaimState),
    /// The claim is over: silent for its whole TTL, proven dead, or revoked while it waited.
    Expire(ClaimState),
    /// A waiter is told its position.
    Tell(ClaimState),
    /// What is over has been kept long enough, or what cannot be read has not changed for long enough.
    Delete,
}

impl Write {
    /// The UID of the object that is written.
    pub fn uid(&self) -> &str {
        match self {
            Self::Parent(write) => &write.uid,
            Self::Claim(write) => &write.uid,
        }
    }

    /// The resourceVersion that the object must still have.
    pub fn version(&self) -> Version {
        match self {
            Self::Parent(write) => write.version,
            Self::Claim(write) => write.version,
        }
    }

    /// A short name of the change, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Parent(write) => write.change.name(),
            Self::Claim(write) => write.change.name(),
        }
    }
}

impl ParentChange {
    /// A short name for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Raise(_) => "raise",
            Self::Settle(_) => "settle",
            Self::Summarize(_) => "summarize",
        }
    }

    /// The status that is written.
    pub fn state(&self) -> &ParentState {
        match self {
            Self::Raise(state) | Self::Settle(state) | Self::Summarize(state) => state,
        }
    }
}

impl ClaimChange {
    /// A short name for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Restamp(_) => "restamp",
            Self::SendBack(_) => "send-back",
            Self::Revoke(_) => "revoke",
            Self::Expire(_) => "expire",
            Self::Tell(_) => "tell",
            Self::Delete => "delete",
        }
    }

    /// The status that is written; none by a deletion.
    pub fn state(&self) -> Option<&ClaimState> {
        match self {
            Self::Grant(state)
            | Self::Restamp(state)
            | Self::SendBack(state)
            | Self::Revoke(state)
            | Self::Expire(state)
            | Self::Tell(state) => Some(state),
            Self::Delete => None,
        }
    }
}

/// Why a claim that was granted, or may have been, is over without its holder's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Its pod or container has ended.
    Died,
    /// It was not renewed for its whole TTL.
    Silent,
    /// Nobody was there any more when its turn came.
    Unused,
    /// Nobody can read it, and it has not changed for the longest TTL.
    Unreadable,
}

/// Something to tell people of by an event on the parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Happening {
    /// A reason of [`conditions`](crate::conditions).
    pub reason: &'static str,
    /// Why the claim is over, if it is.
    pub end: Option<End>,
    /// What happened, in a sentence.
    pub message: String,
}
