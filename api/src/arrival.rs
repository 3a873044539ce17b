//! `Arrival`: somebody has arrived at a [`Barrier`](crate::Barrier).
//!
//! To arrive is to create one, and nothing else is ever needed of the client: nobody writes to it while it counts, and
//! it outlasts the pod that made it. It is deleted when its barrier begins the next round, or is deleted.
//!
//! An arrival is owned by its barrier, so that Kubernetes collects it with the barrier also when no operator runs. A
//! client that has read the barrier names it as the owner when it creates the arrival; the operator adds the owner to
//! one that came without, as when the barrier did not exist yet. One owned by another barrier of the same name (that
//! was deleted since) does not count.

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    PodReference,
    limits::{MAX_HOLDER, MAX_KEY, MAX_NAME},
};

/// Says that its holder has arrived. It never changes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "Arrival",
    plural = "arrivals",
    shortname = "arr",
    category = "konductor",
    namespaced,
    derive = "PartialEq",
    doc = "Somebody has arrived at a barrier.",
    selectable = ".spec.barrier",
    selectable = ".spec.holder",
    printcolumn(name = "Barrier", type_ = "string", json_path = ".spec.barrier"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Key", type_ = "string", json_path = ".spec.key", priority = 1),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod.name", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("an arrival cannot change: create another"),
    validation = Rule::new("!has(self.pod) || has(self.pod.container) == has(self.pod.start)")
        .message("a pod is named with container and start, or as a whole with neither")
)]
pub struct ArrivalSpec {
    /// The barrier, by name. It may be created later than the arrival.
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub barrier: String,
    /// Who has arrived, as shown to people.
    #[schemars(length(min = 1, max = MAX_HOLDER))]
    pub holder: String,
    /// What arrives once, however often it says so: arrivals of one key in one round count as one.
    #[schemars(length(min = 1, max = MAX_KEY))]
    pub key: String,
    /// The pod that has arrived, when it was one. It counts for nothing: a barrier counts keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodReference>,
}
