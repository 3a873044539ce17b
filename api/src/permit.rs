//! `Permit`: a claim on permits of a [`Semaphore`](crate::Semaphore).

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    ClaimSpec, ClaimStatus, LockClaim,
    limits::{MAX_NAME, MAX_PERMITS},
};

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
    printcolumn(name = "Held", type_ = "date", json_path = ".status.acquiredAt"),
    printcolumn(name = "Renewed", type_ = "date", json_path = ".spec.renewTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Token", type_ = "integer", json_path = ".status.fencingToken", priority = 1),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct PermitSpec {
    /// The semaphore, by name. It may be created later than the permit.
    #[schemars(length(min = 1, max = MAX_NAME))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("semaphore cannot change"))]
    pub semaphore: String,
    /// How many permits, all or nothing.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = MAX_PERMITS))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("permits cannot change"))]
    pub permits: u32,
    /// Who asks, and how.
    #[serde(flatten)]
    pub claim: ClaimSpec,
}

fn one() -> u32 {
    1
}

impl LockClaim for Permit {
    const LOCK_FIELD: &'static str = "spec.semaphore";

    fn lock(spec: &PermitSpec) -> &str {
        &spec.semaphore
    }

    fn weight(spec: &PermitSpec) -> u64 {
        spec.permits.into()
    }

    fn claim(spec: &PermitSpec) -> &ClaimSpec {
        &spec.claim
    }

    fn claim_mut(spec: &mut PermitSpec) -> &mut ClaimSpec {
        &mut spec.claim
    }
}
