//! Who holds, who is next, and what to write to make it so. One [`View`] per parent.
//!
//! The operator feeds a view with what it saw ([`View::observe_parent`], [`View::observe_claim`], ...) and asks
//! [`decide`] what to do. It carries out the [`Plan`], and tells the view what became of each write. Nothing here does
//! I/O or reads a clock.
//!
//! # Why two operators cannot grant one permit twice
//! A grant is a write to a claim, and says in which *term* it was given. It counts only while its parent's `term` is
//! the same; the client confirms that with a consistent read of the parent before it starts anything. A leader that
//! takes over goes through the stages of [`Reign`]:
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
//! # Parents that are deleted and created again
//! A new parent of the name knows neither the terms nor the settled term of the former one, so the terms of grants say
//! nothing beside it. Therefore a grant names the UID of its parent, and clients confirm both. One of another UID that
//! the takeover's list shows may have a holder who confirmed it by the former parent: it counts until it ends. It is
//! never re-stamped, which would confirm a late write of a deposed leader, and never sent back, which would take it
//! from its holder. One that turns up after the list is a late write.
//!
//! # What counts as held
//! Everything that could be: granted claims until they are seen deleted or their expiry is acknowledged, and grants
//! that were sent and are not known to have failed. An unknown outcome is settled by another write of the same version
//! (the grant again, or its withdrawal): whichever lands first makes the other one's resourceVersion stale. That the
//! other write is refused settles nothing, as long as the version stands. Where none is ever done, a raised term does
//! the same: what still lands is a late write then. Its claim is set aside for a while
//! ([`ASIDE`](crate::limits::ASIDE)), and others are served.
//!
//! A claim that cannot be read and may be held counts as holding everything ([`View::observe_unreadable`]). Nor does a
//! leader settle beside it: it may be one that has to carry the new term, and a leader that settled without having
//! given it that would let its successor take it for one that nobody confirmed. As nothing would be granted anyway,
//! nobody waits longer for that; everything else goes on.
//!
//! # Who is dead
//! A holder that was silent for its whole TTL, by this operator's own clock and as it has seen itself, also before it
//! led. An operator that has just been started counts from its first sight. Sooner, one whose container has certainly
//! ended ([`pod_sight`] says what proves that): the pods of those that miss a renewal are looked at ([`Plan::looks`]).
//! That a pod is gone proves nothing of a holder, which may run on a node that is out of reach.
//!
//! Waiters do not renew, and nobody's death must cost those behind them a TTL. A client that has waited for long
//! ([`WAITED_LONG`](crate::limits::WAITED_LONG)) renews before it starts anything. So a grant to one, as long as no
//! renewal has followed, can be taken back on less than a proof: its pod is gone, or no renewal came for a while
//! ([`PROOF_OF_LIFE`](crate::limits::PROOF_OF_LIFE)); and if a renewal lands first, the write that takes it back fails.
//! Both questions are asked ahead of a claim's turn, too, of all that are near the head of the queue at once.
//!
//! # What it costs
//! Waiters are kept in order, and deciding stops at the first that cannot go, so a decision costs what it grants; a
//! takeover costs what is granted, page by page. One plan has at most
//! [`WRITES_PER_PLAN`](crate::limits::WRITES_PER_PLAN) writes. Telling waiters their position walks the queue, but not
//! the claims, in rounds that are paced ([`TELL_EVERY`](crate::limits::TELL_EVERY)). `tests/crowd.rs` measures it.
//!
//! # Where it is
//! `takeover`: the stages of a reign; `claims`: what is seen of claims and how they are filed, `entry`: of one,
//! `waiters`: of the queue; `answers`: what goes out and comes back; `decide`: what should be done, with `attend`: for
//! claims whose time has come, `prove`: to find out who lives, `tell` and `summary`: for people; `death`: what a pod
//! proves; `retry`: when what has failed is tried again.

mod answers;
mod attend;
mod claims;
mod death;
mod decide;
mod entry;
mod parts;
mod plan;
mod prove;
mod retry;
mod status;
mod summary;
mod takeover;
mod tell;
mod view;
mod waiters;

pub use answers::Outcome;
pub use death::{
    ContainerSeen, ContainerSpecSeen, ContainerStateSeen, PodConditionSeen, PodSight, PodSpecSeen, PodStatusSeen,
    RunningSeen, TerminatedSeen, has_ended, pod_sight,
};
pub use decide::decide;
pub use parts::{
    Claim, ClaimState, Identity, Now, Parent, ParentState, ParentSummary, Tenure, Uid, Unread, Unreadable, Version,
};
pub use plan::{ClaimChange, ClaimWrite, End, Happening, Look, ParentChange, ParentWrite, Plan, Write};
pub use prove::usual_message;
pub use status::claim_status;
pub use takeover::Reign;
pub use tell::WAITS_FOR;
pub use view::View;
