//! Carries out what [`konductor_api::arbiter`] decides, for all parents of one kind.
//!
//! One task ([`engine`]) owns everything that is known (`book`): a [`View`](konductor_api::arbiter::View) per parent. It
//! takes in what the watches and the answers to requests say, as much as there is, and then decides once for each parent
//! that something was heard of. So a flood costs one decision, not one each; and nothing is locked, because nothing is
//! shared. Requests run beside it (`requests`), bounded and in the order of their urgency (`outbox`): a slow write
//! delays only what depends on it.
//!
//! Both the leader and its standby do all of this, but only the leader decides. All safety is in the views; here is only
//! what they ask for: every write is reported back, whatever became of it, and absence from a list is never taken for
//! proof that an object is gone.

mod book;
pub mod engine;
mod intake;
mod kind;
mod outbox;
mod requests;
mod semaphore;

use std::sync::Arc;

pub use engine::Engine;
pub use kind::Kind;
pub use semaphore::Semaphores;

/// A parent's name, whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A shared [`ParentKey`].
type Key = Arc<ParentKey>;
