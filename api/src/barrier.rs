//! `Barrier`: opens when enough have arrived, and stays open.

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    GoDuration,
    limits::{MAX_CONDITIONS, MAX_COUNT, MAX_EXPECTED},
    rendezvous::{Rendezvous, RendezvousKind, RendezvousPhase, RendezvousStatus},
};

/// Opens when so many have arrived. They arrive by creating `Arrival`s.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Barrier",
    plural = "barriers",
    shortname = "bar",
    category = "konductor",
    namespaced,
    status = "BarrierStatus",
    derive = "PartialEq",
    doc = "Opens when so many have arrived, and stays open.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Arrived", type_ = "integer", json_path = ".status.arrived"),
    printcolumn(name = "Expected", type_ = "integer", json_path = ".spec.expected"),
    printcolumn(name = "Round", type_ = "integer", json_path = ".status.round"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Opened", type_ = "date", json_path = ".status.openedAt", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Open")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.quorum) || self.quorum <= self.expected").message("quorum must not exceed expected"),
    validation = Rule::new("!has(self.quorum) || has(self.timeout)").message("quorum counts once timeout has passed: set timeout too")
)]
pub struct BarrierSpec {
    /// How many are to arrive. Changing it, or anything else here, decides the round anew, unless `resetAfter` is over.
    #[schemars(range(min = 1, max = MAX_EXPECTED))]
    pub expected: u32,
    /// How many are enough once `timeout` has passed; all that are expected when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_EXPECTED))]
    pub quorum: Option<u32>,
    /// How long after the first arrival the others are waited for: 1s to 8760h; for ever when absent. Then the barrier
    /// opens if there is a quorum, and fails otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')").message("timeout must be from 1s to 8760h"))]
    pub timeout: Option<GoDuration>,
    /// How long after it opened or failed the barrier begins a new round, with nobody arrived: 1s to 8760h; never when
    /// absent. Long enough that all who wait for this round have seen its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')").message("resetAfter must be from 1s to 8760h"))]
    pub reset_after: Option<GoDuration>,
}

/// The operator's view of a barrier.
///
/// Absent fields are written as null, so that a merge patch of a whole status leaves nothing of the former one behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BarrierStatus {
    /// Where this round stands. Open and Failed are final until the spec is edited or the next round begins.
    pub phase: Option<RendezvousPhase>,
    /// How many have arrived in this round, as of the last write: at most a few times a second.
    #[schemars(range(min = 0, max = MAX_COUNT))]
    pub arrived: Option<u64>,
    /// Counts from 1.
    #[schemars(range(min = 0, max = MAX_COUNT))]
    pub round: Option<u64>,
    /// When this round opened.
    #[serde(default, deserialize_with = "crate::told::time")]
    pub opened_at: Option<MicroTime>,
    /// When this round failed.
    #[serde(default, deserialize_with = "crate::told::time")]
    pub failed_at: Option<MicroTime>,
    /// The generation of the spec that this status answers.
    pub observed_generation: Option<i64>,
    /// `Ready`, `Open` and `Failed`.
    #[serde(default, deserialize_with = "crate::told::conditions")]
    #[schemars(length(max = MAX_CONDITIONS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Rendezvous for Barrier {
    const KIND: RendezvousKind =
        RendezvousKind { name: "barrier", plural: "barriers", read: "read the barrier", watch: "watch the barrier" };
}

impl RendezvousStatus for BarrierStatus {
    fn phase(&self) -> Option<RendezvousPhase> {
        self.phase
    }

    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }

    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}
