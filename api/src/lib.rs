//! Konductor's custom resources and the rules that decide them.
//!
//! This crate does no I/O, reads no clock and draws no random numbers: whatever a rule needs is an argument. That is what
//! lets the same [`arbiter`] run in the operator, in the exhaustive search of its interleavings, and in property tests.
//!
//! - [`semaphore`] and [`permit`], [`lease`] and [`lease_request`]: the resources, as `kubectl` shows them;
//! - [`claim`]: what the claims (permits and lease requests) have in common; [`lock`]: what they are on;
//! - [`arbiter`]: who holds, who is next, and what to write to make it so;
//! - [`duration`], [`conditions`], [`limits`]: small shared vocabulary.

#![forbid(unsafe_code)]

pub mod arbiter;
pub mod claim;
pub mod conditions;
pub mod crds;
pub mod duration;
pub mod lease;
pub mod lease_request;
pub mod limits;
pub mod lock;
pub mod permit;
pub mod semaphore;

/// API group of all resources.
pub const GROUP: &str = "konductor.io";

/// Annotation on a claim that asks for its revocation; the value is the reason, shown to people.
pub const REVOKE_ANNOTATION: &str = "konductor.io/revoke";

pub use claim::{ClaimPhase, ClaimSpec, ClaimStatus, PodReference};
pub use duration::GoDuration;
pub use lease::{Lease, LeasePhase, LeaseSpec, LeaseStatus};
pub use lease_request::{LeaseRequest, LeaseRequestSpec};
pub use lock::{Lock, LockClaim, LockKind};
pub use permit::{Permit, PermitSpec};
pub use semaphore::{Queueing, Semaphore, SemaphorePhase, SemaphoreSpec, SemaphoreStatus};
