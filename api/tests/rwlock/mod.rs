//! A kind of lock that only tests know, for readers and writers. It is written with what any other crate has too, so it
//! shows what a kind has to say of itself, and that the arbiter and the operator need no more.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{
    ClaimSpec, ClaimStatus, Lock, LockClaim, LockKind, Queueing,
    arbiter::{ParentState, ParentSummary},
    limits::DEFAULT_TTL,
};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// As many readers as this can share the lock. A writer needs all of their places.
const READERS: u64 = 1000;

/// Is shared by readers, or held by one writer.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "RwLock",
    plural = "rwlocks",
    namespaced,
    status = "RwLockStatus",
    schema = "disabled"
)]
pub(crate) struct RwLockSpec {}

/// The operator's view of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RwLockStatus {
    pub(crate) term: u64,
    pub(crate) settled_term: u64,
    pub(crate) observed_generation: Option<i64>,
    pub(crate) readers: u64,
    pub(crate) written: bool,
    pub(crate) waiting: u64,
    pub(crate) holders: Vec<String>,
}

/// A claim on it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "RwLockRequest",
    plural = "rwlockrequests",
    namespaced,
    status = "ClaimStatus",
    schema = "disabled"
)]
pub(crate) struct RwLockRequestSpec {
    pub(crate) rwlock: String,
    /// To write, and not only to read.
    #[serde(default)]
    pub(crate) write: bool,
    #[serde(flatten)]
    pub(crate) claim: ClaimSpec,
}

impl Lock for RwLock {
    const KIND: LockKind = LockKind { name: "rwlock", plural: "rwlocks", read: "read the rwlock", exclusive: false };
    type Claim = RwLockRequest;

    fn capacity(_spec: &RwLockSpec) -> u64 {
        READERS
    }

    fn ttl(_spec: &RwLockSpec) -> Duration {
        DEFAULT_TTL
    }

    fn queueing(_spec: &RwLockSpec) -> Queueing {
        Queueing::StrictFIFO
    }

    fn state(status: &RwLockStatus) -> ParentState {
        let in_use = if status.written { READERS } else { status.readers };
        ParentState {
            term: status.term,
            settled_term: status.settled_term,
            summary: ParentSummary {
                generation: status.observed_generation,
                in_use,
                available: READERS - in_use,
                waiting: status.waiting,
                holders: status.holders.clone(),
                tenure: None,
            },
        }
    }

    fn conditions(_status: &RwLockStatus) -> &[Condition] {
        &[]
    }

    fn status_of(state: &ParentState, capacity: u64, _now: Timestamp, _before: &[Condition]) -> RwLockStatus {
        let summary = &state.summary;
        let written = summary.in_use == capacity;
        RwLockStatus {
            term: state.term,
            settled_term: state.settled_term,
            observed_generation: summary.generation,
            readers: if written { 0 } else { summary.in_use },
            written,
            waiting: summary.waiting,
            holders: summary.holders.clone(),
        }
    }
}

impl LockClaim for RwLockRequest {
    const LOCK_FIELD: &'static str = "spec.rwlock";

    fn lock(spec: &RwLockRequestSpec) -> &str {
        &spec.rwlock
    }

    fn weight(spec: &RwLockRequestSpec) -> u64 {
        if spec.write { READERS } else { 1 }
    }

    fn claim(spec: &RwLockRequestSpec) -> &ClaimSpec {
        &spec.claim
    }

    fn claim_mut(spec: &mut RwLockRequestSpec) -> &mut ClaimSpec {
        &mut spec.claim
    }
}
