//! What to do: the writes, in the order of their urgency, and when to look again.

use std::time::Duration;

use super::{ClaimState, ParentState, Version};

/// What [`decide`](super::decide) wants done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    /// List the claims of this parent with a consistent read, and hand them to
    /// [`View::listed`](super::View::listed) with this term.
    pub list: Option<u64>,
    /// To be written; the most urgent first. They are independent of each other and may go out all at once.
    pub writes: Vec<Write>,
    /// The waiters' positions were looked at.
    pub told: bool,
    /// More waiters have to be told than one round allows.
    pub more_to_tell: bool,
    /// What people see of the parent was compared with what it should be.
    pub summarized: bool,
    /// When to decide again if nothing was observed before, on the clock of [`Now::monotonic`](super::Now).
    pub look_again: Option<Duration>,
}

/// One write. It may only take effect on the version of the object that it was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// What is written.
    pub subject: Subject,
    /// The resourceVersion that the object must still have.
    pub version: Version,
    /// What changes.
    pub change: Change,
    /// To be told as a Kubernetes event on the parent once the write is acknowledged.
    pub happening: Option<Happening>,
}

/// The object that a write changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The parent itself.
    Parent {
        /// Its UID.
        uid: String,
    },
    /// One of its claims.
    Claim {
        /// Its UID.
        uid: String,
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// The object's UID.
    pub fn uid(&self) -> &str {
        match self {
            Self::Parent { uid } | Self::Claim { uid, .. } => uid,
        }
    }
}

/// What a write does. Each but the last replaces the whole status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The parent's term goes up: grants of other terms are void.
    Raise(ParentState),
    /// All adopted claims carry this term; granting may begin.
    Settle(ParentState),
    /// The parent's counts, for people.
    Summarize(ParentState),
    /// The claim gets what it asked for.
    Grant(ClaimState),
    /// A claim adopted from an earlier term is confirmed in this one.
    Restamp(ClaimState),
    /// A grant of a deposed leader that nobody confirmed goes back to waiting.
    SendBack(ClaimState),
    /// The holder is asked to end.
    Revoke(ClaimState),
    /// The claim is over: silent for its whole TTL, or its holder is proven dead.
    Expire(ClaimState),
    /// A waiter is told its position.
    Tell(ClaimState),
    /// An expired claim has been kept long enough.
    Delete,
}

impl Change {
    /// A short name for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Raise(_) => "raise",
            Self::Settle(_) => "settle",
            Self::Summarize(_) => "summarize",
            Self::Grant(_) => "grant",
            Self::Restamp(_) => "restamp",
            Self::SendBack(_) => "send-back",
            Self::Revoke(_) => "revoke",
            Self::Expire(_) => "expire",
            Self::Tell(_) => "tell",
            Self::Delete => "delete",
        }
    }
}

/// Something to tell people of by an event on the parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Happening {
    /// A reason of [`conditions`](crate::conditions).
    pub reason: &'static str,
    /// What happened, in a sentence.
    pub message: String,
}
