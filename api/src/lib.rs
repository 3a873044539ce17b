//! Konductor's custom resources and the rules that decide them.
//!
//! This crate does no I/O, reads no clock and draws no random numbers: whatever a rule needs is an argument. That is
//! what lets the same [`arbiter`] run in the operator, in the exhaustive search of its interleavings, and in property
//! tests.
//!
//! - [`semaphore`] and [`permit`], [`lease`] and [`lease_request`]: the resources, as `kubectl` shows them;
//! - [`claim`]: what the claims (permits and lease requests) have in common; [`lock`]: what they are on;
//! - [`arbiter`]: who holds, who is next, and what to write to make it so;
//! - [`barrier`] and [`arrival`], [`gate`]: what is waited for; [`rendezvous`]: when it opens;
//! - [`admission`]: who may write which claim or arrival;
//! - [`duration`], [`selector`], [`conditions`], [`limits`]: small shared vocabulary; `told`: reading what statuses
//!   tell.

#![forbid(unsafe_code)]

pub mod admission;
pub mod arbiter;
pub mod arrival;
pub mod barrier;
pub mod claim;
pub mod conditions;
pub mod crds;
pub mod duration;
pub mod gate;
pub mod lease;
pub mod lease_request;
pub mod limits;
pub mod lock;
pub mod permit;
pub mod rendezvous;
pub mod selector;
pub mod semaphore;
mod told;

/// API group of all resources.
pub const GROUP: &str = "konductor.io";

/// Annotation on a claim that asks for its revocation; the value is the reason, shown to people.
pub const REVOKE_ANNOTATION: &str = "konductor.io/revoke";

/// Annotation on a namespace: the highest priority that claims in it may have, a whole number. Only while the
/// [`admission`] policies are in force.
pub const MAX_PRIORITY_ANNOTATION: &str = "konductor.io/max-priority";

/// Annotation on a namespace that lets gates of others look at what is in it: a comma list of their namespaces, or `*`.
pub const GATES_FROM_ANNOTATION: &str = "konductor.io/gates-from";

pub use arrival::{Arrival, ArrivalSpec};
pub use barrier::{Barrier, BarrierSpec, BarrierStatus};
pub use claim::{ClaimPhase, ClaimSpec, ClaimStatus, PodReference, RenewTime};
pub use duration::GoDuration;
pub use gate::{Gate, GateCondition, GateConditionStatus, GateSpec, GateStatus, Match, Override, Pick};
pub use lease::{Lease, LeasePhase, LeaseSpec, LeaseStatus};
pub use lease_request::{LeaseRequest, LeaseRequestSpec};
pub use lock::{Lock, LockClaim, LockKind};
pub use permit::{Permit, PermitSpec};
pub use rendezvous::{Rendezvous, RendezvousKind, RendezvousPhase, RendezvousStatus};
pub use selector::Selector;
pub use semaphore::{Queueing, Semaphore, SemaphorePhase, SemaphoreSpec, SemaphoreStatus};
