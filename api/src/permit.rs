//! `Permit`: a claim on permits of a [`Semaphore`](crate::Semaphore).

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{ClaimStatus, GoDuration, PodReference};

/// Asks for permits of a semaphore of the same namespace. Created and deleted by the client that holds them;
/// only `renewTime` ever changes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Permit",
    plural = "permits",
    shortname = "pmt",
    category = "konductor",
    namespaced,
    status = "ClaimStatus",
    derive = "PartialEq",
    doc = "A claim on permits of a semaphore. It holds them while its status says Granted in the semaphore's term.",
    selectable = ".spec.semaphore",
    selectable = ".spec.holder",
    selectable = ".spec.pod.uid",
    printcolumn(name = "Semaphore", type_ = "string", json_path = ".spec.semaphore"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Permits", type_ = "integer", json_path = ".spec.permits"),
    printcolumn(name = "Ahead", type_ = "integer", json_path = ".status.ahead"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder"),
    printcolumn(name = "Renewed", type_ = "date", json_path = ".spec.renewTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Token", type_ = "integer", json_path = ".status.fencingToken", priority = 1),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.ttl) == has(oldSelf.ttl) && has(self.pod) == has(oldSelf.pod)")
        .message("only renewTime can change: delete the permit and create another")
)]
pub struct PermitSpec {
    /// The semaphore, by name. It may be created later than the permit.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("semaphore cannot change"))]
    pub semaphore: String,
    /// How many permits, all or nothing.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("permits cannot change"))]
    pub permits: u32,
    /// Higher goes first; within a priority, first come first served.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("priority cannot change"))]
    pub priority: i32,
    /// Who asks, as shown to people.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("holder cannot change"))]
    pub holder: String,
    /// Random, one per attempt to acquire: tells a repeated create from somebody else's claim of the same name.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("instance cannot change"))]
    pub instance: String,
    /// The pod that the claim speaks for, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("pod cannot change"))]
    pub pod: Option<PodReference>,
    /// Time to live without a renewal, 5s to 24h; the semaphore's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("ttl cannot change"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('24h')").message("ttl must be from 5s to 24h"))]
    pub ttl: Option<GoDuration>,
    /// When the holder last renewed, by its own clock. That it changes is what counts, not its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<MicroTime>,
}

fn one() -> u32 {
    1
}
