//! Objects as they go over the wire: of what comes in, as little as the protocols need, whichever kind it is of.
//! Nothing else is built, nor is code linked that could.

use konductor_api::{
    Barrier, ClaimPhase, GoDuration, PodReference, RendezvousPhase,
    conditions::{GRANTED, OPEN, REVOKED},
};
use kube::Resource;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{
    protocol::{ClaimSeen, ParentSeen},
    rendezvous::{Arrived, RendezvousSeen},
};

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
    parent_uid: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    fencing_token: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    ttl: Option<GoDuration>,
    #[serde(default, deserialize_with = "lenient")]
    ahead: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    message: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    conditions: Vec<Condition>,
}

impl AnyClaim {
    pub(super) fn uid(self) -> Option<String> {
        self.metadata.uid
    }

    /// `None` if the resource version is not a number.
    pub(super) fn seen(self) -> Option<ClaimSeen> {
        let status = self.status.unwrap_or_default();
        let says_revoked = |condition: &Condition| condition.r#type == GRANTED && condition.reason == REVOKED;
        Some(ClaimSeen {
            uid: self.metadata.uid?,
            version: self.metadata.resource_version?.parse().ok()?,
            instance: self.spec.instance,
            pod: self.spec.pod,
            phase: status.phase,
            term: status.term,
            parent_uid: status.parent_uid,
            fencing_token: status.fencing_token,
            ttl: status.ttl.map(|ttl| ttl.0),
            ahead: status.ahead,
            message: status.message.unwrap_or_default(),
            revoked: status.conditions.iter().any(says_revoked),
        })
    }
}

/// A lock of any kind.
#[derive(Deserialize)]
pub(super) struct AnyParent {
    metadata: ParentMetadata,
    #[serde(default, deserialize_with = "lenient")]
    spec: ParentSpec,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<ParentStatus>,
}

#[derive(Deserialize)]
struct ParentMetadata {
    uid: String,
}

#[derive(Default, Deserialize)]
struct ParentSpec {
    #[serde(default, deserialize_with = "lenient")]
    permits: Option<u64>,
}

#[derive(Deserialize)]
struct ParentStatus {
    #[serde(default, deserialize_with = "lenient")]
    term: Option<u64>,
}

impl AnyParent {
    pub(super) fn seen(self) -> ParentSeen {
        let term = self.status.and_then(|status| status.term);
        ParentSeen::Found { uid: self.metadata.uid, term, permits: self.spec.permits }
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
    round: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    observed_generation: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    r#type: String,
    #[serde(default, deserialize_with = "lenient")]
    reason: String,
    #[serde(default, deserialize_with = "lenient")]
    message: String,
}

impl AnyRendezvous {
    /// A status that answers an older spec says nothing about this one; but an edit begins no round.
    pub(super) fn seen(self) -> RendezvousSeen {
        let RendezvousMetadata { uid, generation } = self.metadata;
        let round = self.status.as_ref().and_then(|status| status.round).unwrap_or(1);
        let status = self.status.filter(|status| status.observed_generation == generation);
        let open = status.iter().flat_map(|status| &status.conditions).find(|condition| condition.r#type == OPEN);
        RendezvousSeen {
            uid: uid.unwrap_or_default(),
            round,
            message: open.map(|open| open.message.clone()).unwrap_or_default(),
            phase: status.and_then(|status| status.phase),
        }
    }
}

/// An arrival.
#[derive(Deserialize)]
pub(super) struct AnyArrival {
    metadata: ArrivalMetadata,
    spec: ArrivalKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArrivalMetadata {
    #[serde(default, deserialize_with = "lenient")]
    owner_references: Vec<AnyOwner>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyOwner {
    api_version: String,
    kind: String,
    uid: String,
}

#[derive(Deserialize)]
struct ArrivalKey {
    barrier: String,
    key: String,
}

impl AnyArrival {
    pub(super) fn arrived(self) -> Arrived {
        let is_barrier =
            |owner: &AnyOwner| owner.api_version == Barrier::api_version(&()) && owner.kind == Barrier::kind(&());
        Arrived {
            barrier: self.spec.barrier,
            key: self.spec.key,
            owner: self.metadata.owner_references.into_iter().find(is_barrier).map(|owner| owner.uid),
            ending: self.metadata.deletion_timestamp.is_some(),
        }
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
    pub(super) fn read(self) -> (String, Option<RendezvousSeen>) {
        (self.metadata.resource_version, self.items.into_iter().next().map(AnyRendezvous::seen))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::WatchEvent;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_claim_says_who_granted_it_and_whether_it_was_revoked_while_it_waited() {
        let claim = |status| {
            let metadata = json!({ "uid": "u", "resourceVersion": "9007199254740993" });
            let claim = json!({ "metadata": metadata, "spec": { "instance": "i" }, "status": status });
            serde_json::from_value::<AnyClaim>(claim).expect("a claim").seen().expect("what was seen of it")
        };
        let granted = claim(json!({
            "phase": "Granted", "term": 7, "parentUid": "p", "fencingToken": 70, "ttl": "30s",
            "conditions": [{ "type": "Granted", "status": "True", "reason": "Granted", "message": "granted" }],
        }));
        assert_eq!((granted.parent_uid.as_deref(), granted.revoked), (Some("p"), false));
        assert!(granted.grant().is_some());
        assert_eq!(granted.version, 9_007_199_254_740_993);
        let nobodys = claim(json!({ "phase": "Granted", "term": 7, "fencingToken": 70, "ttl": "30s" }));
        assert_eq!(nobodys.grant(), None, "a grant of nobody");
        for (kind, reason, revoked) in
            [("Granted", "Revoked", true), ("Granted", "Expired", false), ("Other", "Revoked", false)]
        {
            let condition = json!({ "type": kind, "status": "False", "reason": reason, "message": "revoked: why" });
            let ended = claim(json!({ "phase": "Expired", "message": "revoked: why", "conditions": [condition] }));
            assert_eq!((ended.revoked, ended.message.as_str()), (revoked, "revoked: why"), "{kind}, {reason}");
        }
        assert!(!claim(json!({})).revoked);
    }

    #[test]
    fn an_arrival_says_at_which_barrier_it_arrived() {
        let arrived = |metadata| {
            let spec = json!({ "barrier": "b", "key": "k", "holder": "h" });
            serde_json::from_value::<AnyArrival>(json!({ "metadata": metadata, "spec": spec })).expect("one").arrived()
        };
        let owner =
            |api: &str, kind: &str, uid: &str| json!({ "apiVersion": api, "kind": kind, "name": "b", "uid": uid });
        let nobodys = Arrived { barrier: "b".into(), key: "k".into(), owner: None, ending: false };
        assert_eq!(arrived(json!({})), nobodys);
        assert_eq!(arrived(json!({ "deletionTimestamp": "?" })), Arrived { ending: true, ..nobodys.clone() });
        let others = [owner("batch/v1", "Job", "j"), owner("example.com/v1", "Barrier", "x")];
        assert_eq!(arrived(json!({ "ownerReferences": others })), nobodys);
        let owners = [owner("batch/v1", "Job", "j"), owner("konductor.io/v1", "Barrier", "u1")];
        assert_eq!(arrived(json!({ "ownerReferences": owners })), Arrived { owner: Some("u1".into()), ..nobodys });
    }

    #[test]
    fn a_barrier_that_was_edited_is_in_the_round_that_it_was_in() {
        let seen = |generation, status| {
            let barrier = json!({ "metadata": { "uid": "u", "generation": generation }, "status": status });
            serde_json::from_value::<AnyRendezvous>(barrier).expect("a barrier").seen()
        };
        let open = json!({ "phase": "Open", "round": 3, "observedGeneration": 1 });
        let there = RendezvousSeen { uid: "u".into(), round: 3, phase: None, message: String::new() };
        assert_eq!(seen(2, open.clone()), there);
        assert_eq!(seen(1, open), RendezvousSeen { phase: Some(RendezvousPhase::Open), ..there.clone() });
        assert_eq!(seen(1, json!(null)), RendezvousSeen { round: 1, ..there }, "nobody has seen it yet");
    }

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
                let claim = read::<AnyClaim>(&what, &text).seen().unwrap_or_else(|| panic!("{what}"));
                assert_eq!(claim.instance, "i", "{what}");
                if what == "a status at the upper limits" {
                    let claim = ClaimSeen { parent_uid: Some("p".into()), ..claim };
                    let grant = claim.grant().expect("a grant");
                    assert_eq!((grant.term, grant.fencing_token), ((1 << 33) - 1, (1 << 53) - 1));
                }
            }
        }
        for (what, text) in ["semaphores", "leases"].into_iter().flat_map(corpus) {
            let ParentSeen::Found { uid, term, .. } = read::<AnyParent>(&what, &text).seen() else { panic!("{what}") };
            assert_eq!((uid.is_empty(), term), (false, None), "{what}");
        }
        for (what, text) in ["barriers", "gates"].into_iter().flat_map(corpus) {
            assert!(!read::<AnyRendezvous>(&what, &text).seen().uid.is_empty(), "{what}");
        }
        for (what, text) in corpus("arrivals") {
            // Its owners, where it has any, are no barriers.
            let ending = what.contains("being deleted");
            let expected = Arrived { barrier: "b".into(), key: "\0é]}".into(), owner: None, ending };
            assert_eq!(read::<AnyArrival>(&what, &text).arrived(), expected, "{what}");
        }
    }

    #[test]
    fn what_does_not_fit_says_as_much_as_what_is_absent() {
        let metadata = json!({ "uid": "u", "resourceVersion": u64::MAX.to_string(), "generation": 1.5 });
        let claim = |spec: Value, status: Value| {
            let claim = json!({ "metadata": metadata, "spec": spec, "status": status }).to_string();
            read::<AnyClaim>("", &claim).seen().expect("a claim")
        };
        let nothing = claim(json!({ "instance": "i" }), json!(null));
        assert_eq!(nothing.version, u64::MAX);
        for odd in [json!(-1), json!("odd"), json!([{}]), json!({ "name": 5 }), json!(1.5e300)] {
            assert_eq!(claim(json!({ "instance": "i", "pod": odd }), odd.clone()), nothing, "{odd}");
            for field in ["phase", "term", "fencingToken", "ttl", "ahead", "conditions"] {
                let status = json!({ field: odd });
                assert_eq!(claim(json!({ "instance": "i" }), status.clone()), nothing, "{status}");
            }
            let nothing = ParentSeen::Found { uid: "u".into(), term: None, permits: None };
            for spec in [odd.clone(), json!({ "permits": odd })] {
                let parent = json!({ "metadata": metadata, "spec": spec, "status": { "term": odd } }).to_string();
                assert_eq!(read::<AnyParent>("", &parent).seen(), nothing, "{odd}");
            }
            let status = json!({ "phase": odd, "round": odd, "observedGeneration": odd, "conditions": odd });
            let barrier = read::<AnyRendezvous>("", &json!({ "metadata": metadata, "status": status }).to_string());
            let seen = barrier.seen();
            assert_eq!((seen.round, seen.phase, seen.message), (1, None, String::new()), "{odd}");
        }
        for odd in [json!(5), json!(null), json!(["p"])] {
            let granted = json!({ "phase": "Granted", "term": 1, "parentUid": odd, "fencingToken": 1, "ttl": "1s" });
            assert_eq!(claim(json!({ "instance": "i" }), granted).grant(), None, "{odd}");
        }
        let odd = [json!({ "type": "Granted", "reason": 5 }), json!(5)];
        let granted = json!({
            "phase": "Granted", "term": 1, "parentUid": "p", "fencingToken": 1, "ttl": "1s", "message": 5, "ahead": -1,
            "conditions": odd,
        });
        assert!(claim(json!({ "instance": "i" }), granted).grant().is_some());
        let owners = json!({ "ownerReferences": [5], "deletionTimestamp": 5 });
        let arrival = json!({ "metadata": owners, "spec": { "barrier": "b", "key": "k" } }).to_string();
        let arrived = Arrived { barrier: "b".into(), key: "k".into(), owner: None, ending: true };
        assert_eq!(read::<AnyArrival>("", &arrival).arrived(), arrived);
    }
}
