//! What can be held: the kinds of locks, and what they have in common.
//!
//! A semaphore and a lease differ in their fields and in what their statuses show. Everything else (the arbiter, the
//! operator, the claim protocol) is written once, over these traits.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource,
    core::{
        NamespaceResourceScope,
        object::{HasSpec, HasStatus},
    },
};
use serde::Serialize;

use crate::{ClaimSpec, ClaimStatus, GoDuration, Queueing, arbiter::ParentState, limits::DEFAULT_TTL};

/// A kind of lock, as far as it is the same for all locks of it. Each stands with its resource, as [`Lock::KIND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockKind {
    /// Its name in small letters, for messages, metrics and names of variables.
    pub name: &'static str,
    /// The name of several, as in paths.
    pub plural: &'static str,
    /// What a client does that reads one, as a verb for people.
    pub read: &'static str,
    /// There is never more than one holder, and the status shows that one and its tenure. Else it shows some of the
    /// holders.
    pub exclusive: bool,
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A resource that can be held, by claims on it: the parent of its claims. What is asked here is asked of a spec or a
/// status: of an object that others wrote, no more needs to be read than that.
pub trait Lock:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasSpec + HasStatus<Status: Serialize>
{
    /// What is the same for all locks of this kind.
    const KIND: LockKind;

    /// The claims on it.
    type Claim: LockClaim;

    /// How much may be held at once, in permits.
    fn capacity(spec: &Self::Spec) -> u64;

    /// Time to live of claims that name none.
    fn ttl(spec: &Self::Spec) -> Duration;

    /// Whether smaller claims may pass the first in line.
    fn queueing(spec: &Self::Spec) -> Queueing;

    /// What a status says, as far as the arbiter wrote it.
    fn state(status: &Self::Status) -> ParentState;

    /// The conditions in a status.
    fn conditions(status: &Self::Status) -> &[Condition];

    /// The status to write in this state, at this capacity. `before` are the conditions that it had.
    fn status_of(state: &ParentState, capacity: u64, now: Timestamp, before: &[Condition]) -> Self::Status;
}

/// A resource that is a claim on a [`Lock`].
pub trait LockClaim:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasSpec + HasStatus<Status = ClaimStatus>
{
    /// The field that names the lock; claims can be selected by it.
    const LOCK_FIELD: &'static str;

    /// The name of the lock.
    fn lock(spec: &Self::Spec) -> &str;

    /// How much of its capacity is asked for.
    fn weight(spec: &Self::Spec) -> u64;

    /// Who asks, and how.
    fn claim(spec: &Self::Spec) -> &ClaimSpec;

    /// The same, to be changed.
    fn claim_mut(spec: &mut Self::Spec) -> &mut ClaimSpec;
}

/// The time to live of claims on a lock whose spec says nothing about it.
pub(crate) fn default_ttl() -> GoDuration {
    GoDuration(DEFAULT_TTL)
}
