//! Objects as they go over the wire: of what comes in, as little as the protocols need, whichever kind it is of. Nothing
//! else is built, nor is code linked that could.

use konductor_api::{ClaimPhase, GoDuration, PodReference, RendezvousPhase, conditions::OPEN};
use kube::Resource;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{protocol::Sighting, rendezvous};

/// Who owns a new object: it is deleted with its owner.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
}

/// A new object of the kind `K` as text.
pub(super) fn text<K: Resource<DynamicType = ()>>(
    name: &str,
    owner: Option<Owner>,
    spec: impl Serialize,
) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Object<'a, S> {
        #[serde(rename = "apiVersion")]
        api_version: &'a str,
        kind: &'a str,
        metadata: Named<'a>,
        spec: S,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Named<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        owner_references: Option<[Owner<'a>; 1]>,
    }
    let metadata = Named { name, owner_references: owner.map(|owner| [owner]) };
    let (api_version, kind) = (K::api_version(&()), K::kind(&()));
    serde_json::to_vec(&Object { api_version: &api_version, kind: &kind, metadata, spec })
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

/// A barrier or a gate.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct AnyRendezvous {
    metadata: RendezvousMetadata,
    status: Option<RendezvousStatus>,
}

#[derive(Clone, Debug, Deserialize)]
struct RendezvousMetadata {
    uid: Option<String>,
    generation: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RendezvousStatus {
    phase: Option<RendezvousPhase>,
    observed_generation: Option<i64>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    r#type: String,
    #[serde(default)]
    message: String,
}

impl AnyRendezvous {
    /// A status that answers an older spec says nothing about this one.
    pub(super) fn sighting(self) -> rendezvous::Sighting {
        let RendezvousMetadata { uid, generation } = self.metadata;
        let status = self.status.filter(|status| status.observed_generation == generation);
        let open = status.iter().flat_map(|status| &status.conditions).find(|condition| condition.r#type == OPEN);
        rendezvous::Sighting {
            uid: uid.unwrap_or_default(),
            message: open.map(|open| open.message.clone()).unwrap_or_default(),
            phase: status.and_then(|status| status.phase),
        }
    }
}

/// An arrival.
#[derive(Deserialize)]
pub(super) struct AnyArrival {
    metadata: ArrivalMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArrivalMetadata {
    #[serde(default)]
    owner_references: Vec<IgnoredAny>,
}

impl AnyArrival {
    /// Whether it is deleted with something else.
    pub(super) fn is_owned(&self) -> bool {
        !self.metadata.owner_references.is_empty()
    }
}

/// A list of what has one name: one, or none.
#[derive(Deserialize)]
pub(super) struct OneOrNone {
    metadata: ListMetadata,
    items: Vec<AnyRendezvous>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
}

impl OneOrNone {
    /// The version of the list, and what is in it.
    pub(super) fn read(self) -> (String, Option<rendezvous::Sighting>) {
        (self.metadata.resource_version, self.items.into_iter().next().map(AnyRendezvous::sighting))
    }
}
