//! `Gate`: is open while other things are in the wanted state.

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    GoDuration, Selector,
    limits::{MAX_CONDITIONS, MAX_GATE_CONDITIONS, MAX_MESSAGE, MAX_NAME, MAX_NAMESPACE, MAX_PERMITS},
    rendezvous::{
        Rendezvous, RendezvousKind, RendezvousPhase, RendezvousStatus,
        fact::{Dependency, Wanted},
    },
};

/// Is open while all (or any) of its conditions are met.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Gate",
    plural = "gates",
    shortname = "gt",
    category = "konductor",
    namespaced,
    status = "GateStatus",
    derive = "PartialEq",
    doc = "Is open while other things are in the wanted state.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Met", type_ = "integer", json_path = ".status.met"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total"),
    printcolumn(name = "Override", type_ = "string", json_path = ".spec.override"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Open")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("size(self.conditions) > 0 || has(self.override)")
        .message("a gate without conditions is opened and closed by hand: set override")
)]
pub struct GateSpec {
    /// What is waited for. A gate that waits for nothing (an empty list) is opened and closed by `override`.
    #[schemars(length(max = MAX_GATE_CONDITIONS))]
    pub conditions: Vec<GateCondition>,
    /// How many of the conditions are to be met.
    #[serde(default)]
    pub r#match: Match,
    /// How long the gate may wait before it fails: 1s to 8760h; for ever when absent. Counted from when it was created,
    /// edited or last open. It opens all the same once its conditions are met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')").message("timeout must be from 1s to 8760h"))]
    pub timeout: Option<GoDuration>,
    /// Opens or closes the gate whatever its conditions say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#override: Option<Override>,
}

/// What a gate waits for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.name) != has(self.selector)").message("a condition needs either name or selector"),
    validation = Rule::new("self.type == 'Job' ? self.state in ['Complete', 'Failed', 'Active'] : self.type == 'Semaphore' ? self.state in ['Available', 'Full'] : self.type == 'Lease' ? self.state in ['Acquired', 'Available'] : self.state in ['Open', 'Closed']")
        .message("a Job can be Complete, Failed or Active; a Semaphore Available or Full; a Lease Acquired or Available; a Barrier or Gate Open or Closed"),
    validation = Rule::new("!has(self.value) || (self.type == 'Semaphore' ? self.state == 'Available' : has(self.selector) && (!has(self.pick) || self.pick == 'All'))")
        .message("value is for a Semaphore that is to be Available, or for a selector that picks All"),
    validation = Rule::new("!has(self.pick) || has(self.selector)").message("pick is for a selector")
)]
pub struct GateCondition {
    /// The kind of object. `Lease` is that of konductor.io.
    #[serde(rename = "type")]
    pub kind: Dependency,
    /// The object, by name. While there is none of that name, the condition is not met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub name: Option<String>,
    /// The objects, by their labels. While there are none, the condition is not met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Which of the selected objects count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pick: Option<Pick>,
    /// The objects' namespace; the gate's own when absent. Another one has to allow it: by its annotation
    /// konductor.io/gates-from, a comma list of the namespaces whose gates may look, or *.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAMESPACE))]
    pub namespace: Option<String>,
    /// The state that is wanted.
    pub state: Wanted,
    /// Of a Semaphore that is to be Available: permits that must be free, 1 when absent. Else: how many of the selected
    /// objects must be in the state, all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_PERMITS))]
    pub value: Option<u32>,
}

/// Which of the selected objects count; All when absent. Newest is how to wait for the last Job of a `CronJob`: set a
/// label in its jobTemplate's metadata and select that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Pick {
    /// All of them.
    All,
    /// The one that was created last.
    Newest,
}

/// How many conditions are to be met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Match {
    /// All of them.
    #[default]
    All,
    /// One of them.
    Any,
}

/// What a person has decided over the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Override {
    /// The gate is open.
    Open,
    /// The gate is closed, and does not fail.
    Closed,
}

/// The operator's view of a gate.
///
/// Absent fields are written as null, so that a merge patch of a whole status leaves nothing of the former one behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Where the gate stands.
    pub phase: Option<RendezvousPhase>,
    /// How many conditions are met.
    #[schemars(range(min = 0, max = MAX_GATE_CONDITIONS))]
    pub met: Option<u32>,
    /// How many conditions there are.
    #[schemars(range(min = 0, max = MAX_GATE_CONDITIONS))]
    pub total: Option<u32>,
    /// Each condition, in the order of the spec.
    #[serde(default)]
    #[schemars(length(max = MAX_GATE_CONDITIONS))]
    pub condition_statuses: Vec<GateConditionStatus>,
    /// Since when it waits, while it is not open. The timeout counts from here.
    #[serde(default, deserialize_with = "crate::told::time")]
    pub waiting_since: Option<MicroTime>,
    /// The generation of the spec that this status answers.
    pub observed_generation: Option<i64>,
    /// `Ready`, `Open` and `Failed`.
    #[serde(default, deserialize_with = "crate::told::conditions")]
    #[schemars(length(max = MAX_CONDITIONS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where one condition of a gate stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateConditionStatus {
    /// Whether it is met.
    pub met: bool,
    /// What was found.
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
}

impl Rendezvous for Gate {
    const KIND: RendezvousKind =
        RendezvousKind { name: "gate", plural: "gates", read: "read the gate", watch: "watch the gate" };
}

impl RendezvousStatus for GateStatus {
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
