//! Who holds, who is next, and what to write to make it so. One [`View`] per parent.
//!
//! The operator feeds a view with what it saw ([`View::observe_parent`], [`View::observe_claim`], ...) and asks
//! [`decide`] what to do. It carries out the [`Plan`], and tells the view what became of each write. Nothing here does
//! I/O or reads a clock.
//!
//! # Why two operators cannot grant one permit twice
//! A grant is a write to a claim, and says in which *term* it was given. It counts only while its parent's `term` is the
//! same; the client confirms that with a consistent read of the parent before it starts anything. A leader that takes
//! over goes through the stages of [`Reign`]:
//!
//! 1. it raises the parent's term, which makes every grant of its predecessor unconfirmed, and remembers `settledTerm`;
//! 2. it lists the claims: those granted in `settledTerm` or later are adopted, they may have a holder. Older ones are
//!    late writes of a deposed leader that nobody ever confirmed;
//! 3. it writes its own term onto every adopted claim, and waits until each of these writes is acknowledged;
//! 4. it writes `settledTerm = term`; only then does it grant.
//!
//! Every write carries the resourceVersion it was decided on, so a deposed leader's late write fails once anybody
//! else wrote the object. A view that meets a term above its own stops deciding ([`Reign::StoodDown`]). The search in
//! `tests/interleavings.rs` drives this code and finds a double grant when any one of these rules is taken out.
//!
//! # What counts as held
//! Everything that could be: granted claims until they are seen deleted or their expiry is acknowledged, and grants that
//! were sent and are not known to have failed. An unknown outcome is settled by another write of the same version (the grant
//! again, or its withdrawal): whichever lands first makes the other one's resourceVersion stale.
//!
//! # What it costs
//! Waiters are kept in order, and deciding stops at the first that cannot go, so a decision costs what it grants. Telling
//! waiters their position walks the queue, in rounds that are paced ([`TELL_EVERY`](crate::limits::TELL_EVERY)).

mod answers;
mod attend;
mod claims;
mod death;
mod decide;
mod entry;
mod parts;
mod plan;
mod prove;
mod status;
mod summary;
mod takeover;
mod tell;
mod view;
mod waiters;

pub use answers::Outcome;
pub use death::{
    ContainerSeen, ContainerSpecSeen, ContainerStateSeen, PodConditionSeen, PodSight, PodSpecSeen, PodStatusSeen,
    TerminatedSeen, has_ended, pod_sight,
};
pub use decide::decide;
pub use parts::{
    Claim, ClaimState, Identity, Now, Parent, ParentState, ParentSummary, Tenure, Uid, Unread, Unreadable, Version,
};
pub use plan::{ClaimChange, ClaimWrite, Happening, Look, ParentChange, ParentWrite, Plan, Write};
pub use status::claim_status;
pub use takeover::Reign;
pub use view::View;
