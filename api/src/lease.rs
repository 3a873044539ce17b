//! `Lease`: one holder. Always written `leases.konductor.io`, as Kubernetes has a Lease of its own.

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    GoDuration, LeaseRequest, Lock, LockKind, Queueing,
    arbiter::{ParentState, ParentSummary, Tenure},
    conditions::{self, condition},
    limits::{MAX_CONDITIONS, MAX_COUNT, MAX_HOLDER, MAX_TERM},
    rendezvous::fact::{Evidence, Fact},
};

/// Has one holder at a time. Claims on it are `LeaseRequest`s.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Lease",
    plural = "leases",
    shortname = "klease",
    category = "konductor",
    namespaced,
    status = "LeaseStatus",
    derive = "PartialEq",
    doc = "One holder at a time. Not the Lease of coordination.k8s.io: kubectl knows this one as leases.konductor.io or klease.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".status.holder"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.acquiredAt"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Token", type_ = "integer", json_path = ".status.fencingToken", priority = 1),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.term", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct LeaseSpec {
    /// Time to live, without a renewal, of claims that name none: 5s to 24h. Short ones are for leader election, where
    /// another is to take over soon after a node was lost.
    #[serde(default = "crate::lock::default_ttl")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('24h')").message("ttl must be from 5s to 24h"))]
    pub ttl: GoDuration,
}

/// The operator's view of a lease, as of its last write: at most a few times a second.
///
/// Absent fields are written as null, so that a merge patch of a whole status leaves nothing of the former one behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    /// In one word.
    pub phase: Option<LeasePhase>,
    /// Who holds it.
    #[schemars(length(max = MAX_HOLDER))]
    pub holder: Option<String>,
    /// The fencing token of the holder's grant.
    #[schemars(range(min = 0, max = MAX_COUNT))]
    pub fencing_token: Option<u64>,
    /// Since when it is held.
    #[serde(default, deserialize_with = "crate::told::time")]
    pub acquired_at: Option<MicroTime>,
    /// Claims that wait.
    pub waiting: Option<u64>,
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

/// A lease's state in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LeasePhase {
    /// Nobody holds it.
    Available,
    /// Somebody holds it.
    Held,
}

impl Evidence for LeaseStatus {
    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }

    fn fact(status: Option<&Self>) -> Fact {
        Fact::Lease(status.and_then(|status| status.phase))
    }
}

impl Lock for Lease {
    const KIND: LockKind = LockKind { name: "lease", plural: "leases", read: "read the lease", exclusive: true };
    type Claim = LeaseRequest;

    fn capacity(_spec: &LeaseSpec) -> u64 {
        1
    }

    fn ttl(spec: &LeaseSpec) -> Duration {
        spec.ttl.0
    }

    fn queueing(_spec: &LeaseSpec) -> Queueing {
        Queueing::StrictFIFO
    }

    fn state(status: &LeaseStatus) -> ParentState {
        let status = status.clone();
        let in_use = u64::from(status.phase == Some(LeasePhase::Held));
        ParentState {
            term: status.term.unwrap_or(0),
            settled_term: status.settled_term.unwrap_or(0),
            summary: ParentSummary {
                generation: status.observed_generation,
                in_use,
                available: u64::from(status.phase == Some(LeasePhase::Available)),
                waiting: status.waiting.unwrap_or(0),
                holders: status.holder.into_iter().collect(),
                tenure: status
                    .fencing_token
                    .zip(status.acquired_at)
                    .map(|(token, since)| Tenure { token, since: since.0 }),
            },
        }
    }

    fn conditions(status: &LeaseStatus) -> &[Condition] {
        &status.conditions
    }

    fn status_of(state: &ParentState, _capacity: u64, now: Timestamp, before: &[Condition]) -> LeaseStatus {
        let summary = &state.summary;
        let held = summary.in_use > 0;
        let (phase, reason) =
            if held { (LeasePhase::Held, conditions::HELD) } else { (LeasePhase::Available, conditions::AVAILABLE) };
        let holder = summary.holders.first().cloned();
        let message = match &holder {
            Some(holder) => format!("held by {holder}, {} waiting", summary.waiting),
            None => format!("not held, {} waiting", summary.waiting),
        };
        let generation = summary.generation;
        LeaseStatus {
            phase: Some(phase),
            holder,
            fencing_token: summary.tenure.map(|tenure| tenure.token),
            acquired_at: summary.tenure.map(|tenure| MicroTime(tenure.since)),
            waiting: Some(summary.waiting),
            term: Some(state.term),
            settled_term: Some(state.settled_term),
            observed_generation: generation,
            conditions: vec![
                conditions::accepted(generation, now, before),
                condition(conditions::SATURATED, held, reason, message, generation, now, before),
            ],
        }
    }
}
