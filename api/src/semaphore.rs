//! `Semaphore`: at most N permits in use.

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    GoDuration, Lock, LockKind, Permit,
    arbiter::{ParentState, ParentSummary},
    conditions::{self, condition},
    limits::{HOLDERS_SHOWN, MAX_CONDITIONS, MAX_HOLDER, MAX_PERMITS, MAX_TERM},
    rendezvous::fact::{Evidence, Fact},
};

/// Limits how many permits are in use at once. Claims on them are `Permit`s.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Semaphore",
    plural = "semaphores",
    shortname = "sem",
    category = "konductor",
    namespaced,
    status = "SemaphoreStatus",
    derive = "PartialEq",
    doc = "At most N permits in use at once.",
    scale(spec_replicas_path = ".spec.permits", status_replicas_path = ".status.inUse"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Permits", type_ = "integer", json_path = ".spec.permits"),
    printcolumn(name = "In use", type_ = "integer", json_path = ".status.inUse"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Holders", type_ = "string", json_path = ".status.holders", priority = 1),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.term", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct SemaphoreSpec {
    /// How many permits there are. 0 pauses: nothing new is granted. Lowering it never takes a permit away.
    #[schemars(range(min = 0, max = MAX_PERMITS))]
    pub permits: u32,
    /// Time to live, without a renewal, of claims that name none: 5s to 24h.
    #[serde(default = "crate::lock::default_ttl")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('24h')").message("ttl must be from 5s to 24h"))]
    pub ttl: GoDuration,
    /// Whether a claim that fits may pass an earlier one that does not.
    #[serde(default)]
    pub queueing: Queueing,
}

/// Who may go when the first in line does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Queueing {
    /// Nobody: all wait for the first.
    #[default]
    StrictFIFO,
    /// The first that fits.
    BestEffortFIFO,
}

/// The operator's view of a semaphore, as of its last write: at most a few times a second.
///
/// Absent fields are written as null, so that a merge patch of a whole status leaves nothing of the former one behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SemaphoreStatus {
    /// In one word.
    pub phase: Option<SemaphorePhase>,
    /// Permits held. May exceed `spec.permits` after that was lowered.
    pub in_use: Option<u64>,
    /// Permits free.
    pub available: Option<u64>,
    /// Claims that wait.
    pub waiting: Option<u64>,
    /// Some of the holders; `kubectl get permits --field-selector spec.semaphore=NAME` shows all.
    #[serde(default)]
    #[schemars(length(max = HOLDERS_SHOWN), inner(length(max = MAX_HOLDER)))]
    pub holders: Vec<String>,
    /// The term in which claims are confirmed. A grant of another term counts for nothing.
    #[schemars(range(min = 0, max = MAX_TERM))]
    pub term: Option<u64>,
    /// The last term whose leader had confirmed all claims that it took over.
    #[schemars(range(min = 0, max = MAX_TERM))]
    pub settled_term: Option<u64>,
    /// The generation of the spec that this status answers.
    pub observed_generation: Option<i64>,
    /// `Ready` and `Saturated`.
    #[serde(default, deserialize_with = "crate::told::conditions")]
    #[schemars(length(max = MAX_CONDITIONS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A semaphore's state in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SemaphorePhase {
    /// Permits are free.
    Available,
    /// All permits are in use.
    Full,
    /// The semaphore has no permits.
    Paused,
}

impl Evidence for SemaphoreStatus {
    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }

    fn fact(status: Option<&Self>) -> Fact {
        Fact::Semaphore(status.and_then(|status| Some((status.phase?, status.available.unwrap_or(0)))))
    }
}

impl Lock for Semaphore {
    const KIND: LockKind =
        LockKind { name: "semaphore", plural: "semaphores", read: "read the semaphore", exclusive: false };
    type Claim = Permit;

    fn capacity(spec: &SemaphoreSpec) -> u64 {
        spec.permits.into()
    }

    fn ttl(spec: &SemaphoreSpec) -> Duration {
        spec.ttl.0
    }

    fn queueing(spec: &SemaphoreSpec) -> Queueing {
        spec.queueing
    }

    fn state(status: &SemaphoreStatus) -> ParentState {
        let status = status.clone();
        ParentState {
            term: status.term.unwrap_or(0),
            settled_term: status.settled_term.unwrap_or(0),
            summary: ParentSummary {
                generation: status.observed_generation,
                in_use: status.in_use.unwrap_or(0),
                available: status.available.unwrap_or(0),
                waiting: status.waiting.unwrap_or(0),
                holders: status.holders,
                tenure: None,
            },
        }
    }

    fn conditions(status: &SemaphoreStatus) -> &[Condition] {
        &status.conditions
    }

    fn status_of(state: &ParentState, capacity: u64, now: Timestamp, before: &[Condition]) -> SemaphoreStatus {
        let summary = &state.summary;
        let phase = match (capacity, summary.available) {
            (0, _) => SemaphorePhase::Paused,
            (_, 0) => SemaphorePhase::Full,
            _ => SemaphorePhase::Available,
        };
        let (saturated, reason) = match phase {
            SemaphorePhase::Available => (false, conditions::AVAILABLE),
            SemaphorePhase::Full => (true, conditions::FULL),
            SemaphorePhase::Paused => (true, conditions::PAUSED),
        };
        let counts = format!("{} of {capacity} permits in use, {} waiting", summary.in_use, summary.waiting);
        let generation = summary.generation;
        SemaphoreStatus {
            phase: Some(phase),
            in_use: Some(summary.in_use),
            available: Some(summary.available),
            waiting: Some(summary.waiting),
            holders: summary.holders.clone(),
            term: Some(state.term),
            settled_term: Some(state.settled_term),
            observed_generation: generation,
            conditions: vec![
                conditions::accepted(generation, now, before),
                condition(conditions::SATURATED, saturated, reason, counts, generation, now, before),
            ],
        }
    }
}
