//! Objects as they go over the wire: of what comes in, as little as the protocol needs, whichever kind it is of. Nothing
//! else is built, nor is code linked that could.

use konductor_api::{ClaimPhase, GoDuration, PodReference};
use kube::Resource;
use serde::{Deserialize, Serialize};

use crate::protocol::Sighting;

/// A new object of the kind `K` as text.
pub(super) fn text<K: Resource<DynamicType = ()>>(name: &str, spec: impl Serialize) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Object<'a, S> {
        #[serde(rename = "apiVersion")]
        api_version: &'a str,
        kind: &'a str,
        metadata: Named<'a>,
        spec: S,
    }
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
    }
    let (api_version, kind) = (K::api_version(&()), K::kind(&()));
    serde_json::to_vec(&Object { api_version: &api_version, kind: &kind, metadata: Named { name }, spec })
}

/// A claim of any kind.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct AnyClaim {
    metadata: Metadata,
    spec: Spec,
    status: Option<Status>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: Option<String>,
    resource_version: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Spec {
    instance: String,
    pod: Option<PodReference>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    phase: Option<ClaimPhase>,
    term: Option<u64>,
    fencing_token: Option<u64>,
    ttl: Option<GoDuration>,
    ahead: Option<u64>,
    message: Option<String>,
}

impl AnyClaim {
    pub(super) fn uid(self) -> Option<String> {
        self.metadata.uid
    }

    /// `None` if the resource version is not a number.
    pub(super) fn sighting(self) -> Option<Sighting> {
        let status = self.status.unwrap_or_default();
        Some(Sighting {
            uid: self.metadata.uid?,
            version: self.metadata.resource_version?.parse().ok()?,
            instance: self.spec.instance,
            pod: self.spec.pod,
            phase: status.phase,
            term: status.term,
            fencing_token: status.fencing_token,
            ttl: status.ttl.map(|ttl| ttl.0),
            ahead: status.ahead,
            message: status.message.unwrap_or_default(),
        })
    }
}

/// A lock of any kind.
#[derive(Deserialize)]
pub(super) struct AnyParent {
    status: Option<ParentStatus>,
}

#[derive(Deserialize)]
struct ParentStatus {
    term: Option<u64>,
}

impl AnyParent {
    /// The term that it is in.
    pub(super) fn term(self) -> Option<u64> {
        self.status.and_then(|status| status.term)
    }
}
