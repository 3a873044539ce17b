//! `LeaseRequest`: a claim on a [`Lease`](crate::Lease).

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]
#![allow(clippy::duplicated_attributes, reason = "several columns are of one type")]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{ClaimSpec, ClaimStatus, LockClaim, limits::MAX_NAME};

/// Asks for a lease of the same namespace. Created and deleted by the client that holds it;
/// only `renewTime` ever changes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "konductor.io",
    version = "v1",
    kind = "LeaseRequest",
    plural = "leaserequests",
    shortname = "lreq",
    category = "konductor",
    namespaced,
    status = "ClaimStatus",
    derive = "PartialEq",
    doc = "A claim on a lease. It holds it while its status says Granted in the lease's term.",
    selectable = ".spec.lease",
    selectable = ".spec.holder",
    selectable = ".spec.pod.uid",
    printcolumn(name = "Lease", type_ = "string", json_path = ".spec.lease"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
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
pub struct LeaseRequestSpec {
    /// The lease, by name. It may be created later than the request.
    #[schemars(length(min = 1, max = MAX_NAME))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("lease cannot change"))]
    pub lease: String,
    /// Who asks, and how.
    #[serde(flatten)]
    pub claim: ClaimSpec,
}

impl LockClaim for LeaseRequest {
    const LOCK_FIELD: &'static str = "spec.lease";

    fn lock(spec: &LeaseRequestSpec) -> &str {
        &spec.lease
    }

    fn weight(_spec: &LeaseRequestSpec) -> u64 {
        1
    }

    fn claim(spec: &LeaseRequestSpec) -> &ClaimSpec {
        &spec.claim
    }

    fn claim_mut(spec: &mut LeaseRequestSpec) -> &mut ClaimSpec {
        &mut spec.claim
    }
}
