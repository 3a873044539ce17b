//! Objects as they go over the wire: of what comes in, as little as the protocols need, whichever kind it is of. Nothing
//! else is built, nor is code linked that could.

use konductor_api::{ClaimPhase, GoDuration, PodReference, RendezvousPhase, conditions::OPEN};
use kube::Resource;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

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

/// A field that may say anything: what does not fit says as much as an absent one, and spoils nothing else.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(field: D) -> Result<T, D::Error> {
    serde_json::Value::deserialize(field).map(|value| T::deserialize(value).unwrap_or_default())
}

/// A claim of any kind.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct AnyClaim {
    metadata: Metadata,
    spec: Spec,
    #[serde(default, deserialize_with = "lenient")]
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
    #[serde(default, deserialize_with = "lenient")]
    pod: Option<PodReference>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default, deserialize_with = "lenient")]
    phase: Option<ClaimPhase>,
    #[serde(default, deserialize_with = "lenient")]
    term: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    fencing_token: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    ttl: Option<GoDuration>,
    #[serde(default, deserialize_with = "lenient")]
    ahead: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
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
    #[serde(default, deserialize_with = "lenient")]
    status: Option<ParentStatus>,
}

#[derive(Deserialize)]
struct ParentStatus {
    #[serde(default, deserialize_with = "lenient")]
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
    #[serde(default, deserialize_with = "lenient")]
    status: Option<RendezvousStatus>,
}

#[derive(Clone, Debug, Deserialize)]
struct RendezvousMetadata {
    uid: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    generation: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RendezvousStatus {
    #[serde(default, deserialize_with = "lenient")]
    phase: Option<RendezvousPhase>,
    #[serde(default, deserialize_with = "lenient")]
    observed_generation: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    r#type: String,
    #[serde(default, deserialize_with = "lenient")]
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
    #[serde(default, deserialize_with = "lenient")]
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::WatchEvent;
    use serde_json::{Value, json};

    use super::*;

    /// What a real API server handed back of odd objects of this kind, by what is odd about them, as text.
    fn corpus(plural: &str) -> BTreeMap<String, String> {
        let path = format!("{}/../cluster/tests/corpus/{plural}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let corpus: BTreeMap<String, Value> = serde_json::from_str(&text).expect("the corpus");
        corpus.into_iter().map(|(what, object)| (what, object.to_string())).collect()
    }

    /// Reads an object, and an event with it.
    fn read<T: DeserializeOwned>(what: &str, text: &str) -> T {
        let event: WatchEvent<T> = serde_json::from_str(&format!(r#"{{"type":"MODIFIED","object":{text}}}"#))
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(matches!(event, WatchEvent::Modified(_)), "{what}");
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    #[test]
    fn all_that_an_api_server_stores_is_read() {
        for plural in ["permits", "leaserequests"] {
            for (what, text) in corpus(plural) {
                let claim = read::<AnyClaim>(&what, &text).sighting().unwrap_or_else(|| panic!("{what}"));
                assert_eq!(claim.instance, "i", "{what}");
                if what == "a status at the upper limits" {
                    let grant = claim.grant().expect("a grant");
                    assert_eq!((grant.term, grant.fencing_token), ((1 << 33) - 1, (1 << 53) - 1));
                }
            }
        }
        for (what, text) in ["semaphores", "leases"].into_iter().flat_map(corpus) {
            assert_eq!(read::<AnyParent>(&what, &text).term(), None, "{what}");
        }
        for (what, text) in ["barriers", "gates"].into_iter().flat_map(corpus) {
            assert!(!read::<AnyRendezvous>(&what, &text).sighting().uid.is_empty(), "{what}");
        }
        for (what, text) in corpus("arrivals") {
            assert_eq!(read::<AnyArrival>(&what, &text).is_owned(), what.contains("owners"), "{what}");
        }
    }

    #[test]
    fn what_does_not_fit_says_as_much_as_what_is_absent() {
        let metadata = json!({ "uid": "u", "resourceVersion": u64::MAX.to_string(), "generation": 1.5 });
        let claim = |spec: Value, status: Value| {
            let claim = json!({ "metadata": metadata, "spec": spec, "status": status }).to_string();
            read::<AnyClaim>("", &claim).sighting().expect("a claim")
        };
        let nothing = claim(json!({ "instance": "i" }), json!(null));
        assert_eq!(nothing.version, u64::MAX);
        for odd in [json!(-1), json!("odd"), json!([{}]), json!({ "name": 5 }), json!(1.5e300)] {
            assert_eq!(claim(json!({ "instance": "i", "pod": odd }), odd.clone()), nothing, "{odd}");
            for field in ["phase", "term", "fencingToken", "ttl", "ahead"] {
                let status = json!({ field: odd });
                assert_eq!(claim(json!({ "instance": "i" }), status.clone()), nothing, "{status}");
            }
            let parent = json!({ "metadata": metadata, "status": { "term": odd } }).to_string();
            assert_eq!(read::<AnyParent>("", &parent).term(), None, "{odd}");
            let status = json!({ "phase": odd, "observedGeneration": odd, "conditions": odd });
            let barrier = read::<AnyRendezvous>("", &json!({ "metadata": metadata, "status": status }).to_string());
            let seen = barrier.sighting();
            assert_eq!((seen.phase, seen.message), (None, String::new()), "{odd}");
        }
        let granted =
            json!({ "phase": "Granted", "term": 1, "fencingToken": 1, "ttl": "1s", "message": 5, "ahead": -1 });
        assert!(claim(json!({ "instance": "i" }), granted).grant().is_some());
    }
}
