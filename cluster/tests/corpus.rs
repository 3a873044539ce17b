//! Objects as odd as API servers store them are read, and whatever one of them says concerns no other.
//!
//! The corpus is what a real API server handed back; `tests/tests/odd.rs` makes it, and shows that it is true. What is
//! too large to be kept, and what takes an API server years to reach, is put into its objects here.

use std::{collections::BTreeMap, convert::Infallible};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod},
};
use konductor_api::{
    Arrival, ArrivalSpec, Barrier, BarrierSpec, BarrierStatus, ClaimStatus, Gate, GateSpec, GateStatus, Lease,
    LeaseRequest, LeaseRequestSpec, LeaseSpec, LeaseStatus, Permit, PermitSpec, Semaphore, SemaphoreSpec,
    SemaphoreStatus,
};
use konductor_cluster::{
    Endpoint, PageRequest, Program,
    object::{Described, Metadata, NO_TIME, Object},
};
use kube::{Client, Resource, client::Body};
use proptest::{prelude::*, sample::Index};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value, json, value::RawValue};

/// The objects of the kind `K`, by what is odd about them, as text.
fn corpus<K: Resource<DynamicType = ()>>() -> BTreeMap<String, String> {
    let path = format!("{}/tests/corpus/{}.json", env!("CARGO_MANIFEST_DIR"), K::plural(&()));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let corpus: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).expect("the corpus");
    corpus.into_iter().map(|(what, object)| (what, object.get().to_owned())).collect()
}

/// What is read of a status.
trait Status: DeserializeOwned + Default {}

impl<T: DeserializeOwned + Default> Status for T {}

/// What is read of the metadata, and whether spec and status are what they should be.
fn read<K, S: DeserializeOwned, T: Status>(what: &str, text: &str) -> (Metadata, bool) {
    let object = Object::<K, S, T>::read(text).unwrap_or_else(|error| panic!("{what}: {error}"));
    (object.metadata().clone(), object.is_ok())
}

/// As many answers of this text as are asked for.
fn client(text: String) -> Client {
    let bytes = Bytes::from(text);
    let service = tower::service_fn(move |_: Request<Body>| {
        let response = Response::new(Full::new(bytes.clone()));
        async move { Ok::<_, Infallible>(response) }
    });
    Client::new(service, "n")
}

/// Reads these objects as one page.
async fn page<K: Resource<DynamicType = ()>, S: DeserializeOwned, T: Status>(
    objects: &[String],
) -> Vec<(Metadata, bool)> {
    let text = format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{}]}}"#, objects.join(","));
    let endpoint = Endpoint::<K, S, T>::all(client(text), Program::OPERATOR);
    let page = endpoint.page(&PageRequest::default(), |item| (item.metadata().clone(), item.is_ok())).await;
    let page = page.expect("a page");
    assert_eq!(page.illegible, []);
    page.items
}

/// Objects of one kind, each as it is and with more of everything.
async fn holds<K: Resource<DynamicType = ()>, S: DeserializeOwned, T: Status>() {
    let corpus = corpus::<K>();
    let (mut texts, mut expected) = (Vec::new(), Vec::new());
    for (what, text) in &corpus {
        let (metadata, fits) = read::<K, S, T>(what, text);
        assert!(!metadata.name.is_empty() && !metadata.uid.is_empty(), "{what}: {metadata:?}");
        assert!(metadata.version > 0 && metadata.created > NO_TIME, "{what}: {metadata:?}");
        // What is odd about metadata or the times of a status is no reason not to read the rest.
        assert!(fits, "{what}");
        texts.push(text.clone());
        expected.push((metadata.clone(), fits));
        // Once a megabyte is enough.
        texts.push(inflated(text, if texts.len() == 1 { 200_000 } else { 200 }));
        let finalizers = vec!["example.com/finalizer".to_owned(); 16];
        expected.push((Metadata { version: u64::MAX, finalizers, ..metadata }, fits));
    }
    let paged = page::<K, S, T>(&texts).await;
    assert_eq!(paged.len(), expected.len());
    for ((found, found_fits), (wanted, fits)) in paged.into_iter().zip(expected) {
        // Owners were added.
        assert_eq!((Metadata { owners: wanted.owners.clone(), ..found }, found_fits), (wanted, fits));
    }
}

/// The object with the largest version, an annotation of five times this many bytes, thousands of finalizers, owners
/// and managed fields, and members that nobody knows, some of them twice.
fn inflated(text: &str, fifths: usize) -> String {
    let mut object: Value = serde_json::from_str(text).expect("an object");
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.insert("resourceVersion".into(), json!(u64::MAX.to_string()));
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    annotations["large"] = json!("é\"]}".repeat(fifths));
    let owner = json!({ "apiVersion": "v1", "kind": "x".repeat(1000), "name": "x", "uid": "x" });
    metadata.insert("finalizers".into(), json!(vec!["example.com/finalizer"; 5000]));
    metadata.insert("ownerReferences".into(), json!(vec![owner; 1000]));
    metadata.insert("managedFields".into(), json!(vec![json!({ "time": "10000-01-01T23:58:59Z" }); 1000]));
    metadata.insert("nobodyKnows".into(), json!([{ "metadata": { "name": "other" } }]));
    let twice = object.to_string().replacen(
        r#""metadata":{"#,
        r#""nobodyKnows":1,"metadata":{"nobodyKnows":1,"name":"twice","#,
        1,
    );
    twice.replacen('{', r#"{"nobodyKnows":{"metadata":{}},"metadata":{"name":"once"},"#, 1)
}

#[tokio::test]
async fn locks_and_claims_are_read() {
    holds::<Permit, PermitSpec, ClaimStatus>().await;
    holds::<LeaseRequest, LeaseRequestSpec, ClaimStatus>().await;
    holds::<Semaphore, SemaphoreSpec, SemaphoreStatus>().await;
    holds::<Lease, LeaseSpec, LeaseStatus>().await;
}

#[tokio::test]
async fn barriers_gates_and_arrivals_are_read() {
    holds::<Barrier, BarrierSpec, BarrierStatus>().await;
    holds::<Gate, GateSpec, GateStatus>().await;
    holds::<Arrival, ArrivalSpec, IgnoredAny>().await;
}

#[tokio::test]
async fn objects_of_kubernetes_are_read() {
    holds::<Pod, IgnoredAny, IgnoredAny>().await;
    holds::<Job, IgnoredAny, IgnoredAny>().await;
    holds::<Namespace, IgnoredAny, IgnoredAny>().await;
}

#[test]
fn what_is_needed_of_metadata_is_read() {
    let corpus = corpus::<Permit>();
    let text = &corpus["annotations of any text"];
    let annotations = read::<Permit, PermitSpec, IgnoredAny>("", text).0.annotations;
    let known = [("konductor.io/gates-from", "a,b"), ("konductor.io/revoke", "\u{0}why?\"}")];
    assert_eq!(annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), known);
    let deleted =
        read::<Permit, PermitSpec, IgnoredAny>("", &corpus["finalizers and owners of what is being deleted"]).0;
    assert!(deleted.deleting);
    let owner = &deleted.owners[3];
    let owner = [&owner.api_version, &owner.kind, &owner.name, &owner.uid];
    assert_eq!(owner, ["example.com/v1<>&", "Ü]}", "o3", "\"3"]);
    let labels = read::<Permit, PermitSpec, IgnoredAny>("", &corpus["labels at their limits"]).0.labels;
    assert_eq!(labels.iter().map(|(key, value)| (key.len(), value.len())).collect::<Vec<_>>(), [(5, 0), (317, 63)]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("10000-01-01T00:00:00Z")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..5)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Paths of all values in one, but for these members of metadata.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    let members: Vec<_> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(number, value)| (number.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in members {
        let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        paths(value, &path, found);
        if !["/metadata", "/metadata/name", "/metadata/uid"].contains(&path.as_str()) {
            found.push(path);
        }
    }
}

proptest! {
    /// Also what no API server stores today: of the metadata nothing but a name has to be what it should.
    #[test]
    fn anything_in_place_of_anything_leaves_an_object_with_a_name(object: Index, place: Index, other in any_json()) {
        let corpus = corpus::<Permit>();
        let (what, text) = corpus.iter().nth(object.index(corpus.len())).expect("one");
        let mut object: Value = serde_json::from_str(text).expect("an object");
        let mut all = Vec::new();
        paths(&object, "", &mut all);
        let path = &all[place.index(all.len())];
        *object.pointer_mut(path).expect("it is there") = other;
        let (before, _) = read::<Permit, PermitSpec, IgnoredAny>(what, text);
        let (after, _) = read::<Permit, PermitSpec, IgnoredAny>(what, &object.to_string());
        prop_assert_eq!((&after.name, &after.uid), (&before.name, &before.uid));
        if !path.starts_with("/metadata") {
            prop_assert_eq!(after, before);
        }
    }
}
