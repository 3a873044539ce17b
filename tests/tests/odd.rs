//! Objects as odd as a real API server stores them, and that each of them can be read.
//!
//! What it hands back is kept in `cluster/tests/corpus/`, for tests that need no API server; `UPDATE_CORPUS=1` writes
//! that anew.

use std::{collections::BTreeMap, env, fs, path::PathBuf, time::Duration};

use http::{Method, Request};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod},
};
use konductor_api::{Arrival, Barrier, Gate, Lease, LeaseRequest, Permit, Semaphore};
use konductor_cluster::{
    Endpoint, PageRequest, Program,
    follow::{Event, Report, Source},
    object::{Described, Lenient, Metadata, Object},
};
use konductor_tests::{ControlPlane, TestNamespace, install_crds, workspace};
use kube::Resource;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json, value::RawValue};
use tokio::{sync::mpsc, time::timeout};

/// Objects of one kind, by what is odd about them, as the API server hands them back.
type Corpus = BTreeMap<String, Box<RawValue>>;

/// Sends a request as the user who may do everything. Returns the answer as it came.
async fn send(namespace: &TestNamespace, method: Method, path: &str, body: &Value) -> Result<String, String> {
    let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", content);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.body(body).expect("a request");
    namespace.client.request_text(request).await.map_err(|error| error.to_string())
}

/// What is odd about an object, and what makes it so.
struct Oddity {
    what: &'static str,
    changes: Vec<Change>,
}

enum Change {
    /// A patch of the object.
    Patch(Value),
    /// A patch of its status.
    Status(Value),
    /// Deletion.
    Delete,
}

fn odd(what: &'static str, patch: Value) -> Oddity {
    Oddity { what, changes: vec![Change::Patch(patch)] }
}

fn odd_status(what: &'static str, status: &Value) -> Oddity {
    Oddity { what, changes: vec![Change::Status(json!({ "status": status }))] }
}

/// The first and the last moment that an API server takes for a time of one of its own types.
const FIRST: &str = "0000-01-01T00:00:00+23:59";
const LAST: &str = "9999-12-31T23:59:59-23:59";

/// The largest number that the schemas of Konductor allow.
const LARGEST: u64 = (1 << 53) - 1;

fn managed(api_version: &str, times: &[&str]) -> Value {
    let entry = |(number, time): (usize, &&str)| {
        json!({
            "manager": format!("m{number}"), "operation": "Update", "apiVersion": api_version, "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:labels": { "f:a]}\"": {} } } },
        })
    };
    json!({ "metadata": { "managedFields": times.iter().enumerate().map(entry).collect::<Vec<_>>() } })
}

/// What everybody can store in the metadata of every kind.
fn metadata<K: Resource<DynamicType = ()>>() -> Vec<Oddity> {
    let managed = |times: &[&str]| managed(&K::api_version(&()), times);
    let domain = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(61)].join(".");
    let longest_key = format!("{domain}/{}", "k".repeat(63));
    let label = |number| (format!("{number:02}.example.com/{}", "l".repeat(63)), json!("v".repeat(63)));
    let labels: Map<_, _> = (0..10).map(label).collect();
    let finalizers: Vec<_> = (0..4).map(|number| format!("example.com/f{number}")).collect();
    let owner = |number| {
        let (name, uid) = (format!("o{number}"), format!("\"{number}"));
        json!({ "apiVersion": "example.com/v1<>&", "kind": "Ü]}", "name": name, "uid": uid })
    };
    let owners: Vec<_> = (0..4).map(owner).collect();
    let annotations = json!({
        "a": "\u{0}\u{1}\u{7f}\u{2028}\u{feff}\u{fffd}\u{10ffff}\n\r\t\"\\<>&'é漢🦀", "b": "]},{\"items\":[",
        "c": "x".repeat(200), &longest_key: "",
        "konductor.io/revoke": "\u{0}why?\"}", "konductor.io/gates-from": "a,b", "konductor.io/other": "x",
    });
    let nulls = json!({ "labels": null, "annotations": null, "ownerReferences": null, "managedFields": [{}] });
    vec![
        odd("managed fields of the last second", managed(&["9999-12-31T23:59:59Z"])),
        odd("managed fields of the day after", managed(&[LAST])),
        odd("managed fields of the first year", managed(&["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", FIRST])),
        odd(
            "managed fields with a fraction",
            managed(&["2026-01-01T00:00:00.1234567890123Z", "2026-01-01T00:00:00.000000000000000000001+01:00"]),
        ),
        odd(
            "labels at their limits",
            json!({ "metadata": { "labels": { longest_key: "v".repeat(63), "empty": "" } } }),
        ),
        odd("many labels", json!({ "metadata": { "labels": labels } })),
        odd("annotations of any text", json!({ "metadata": { "annotations": annotations } })),
        Oddity {
            what: "finalizers and owners of what is being deleted",
            changes: vec![
                Change::Patch(json!({ "metadata": { "finalizers": finalizers, "ownerReferences": owners } })),
                Change::Delete,
            ],
        },
        odd("nulls", json!({ "metadata": nulls })),
    ]
}

/// What can be stored in a claim.
fn claims() -> Vec<Oddity> {
    let condition = json!({
        "type": "Granted", "status": "True", "lastTransitionTime": LAST, "reason": "Granted",
        "message": "é]}".repeat(100),
    });
    let renewals = [
        ("renewed in the last second", "9999-12-31T23:59:59.999999999Z"),
        ("renewed in the first second", "0001-01-01T00:00:00Z"),
        ("renewed before the first year", "0000-01-01T00:00:00Z"),
        ("renewed elsewhere at the end of time", "9999-12-31T23:59:59.999999-23:59"),
        ("renewed at a fraction of thirteen digits", "2026-01-01T00:00:00.1234567890123Z"),
        ("renewed in a leap second", "2016-12-31T23:59:60Z"),
        ("renewed in small letters", "2026-01-01t00:00:00z"),
        ("renewed on a day that is none", "2026-02-30T00:00:00Z"),
        ("renewed in a month that is none", "2026-13-01T00:00:00Z"),
        ("renewed with text after the letter t", "2026-01-01T00:00:00Ztomorrow"),
        ("renewed at a fraction after another letter", "2026-01-01T00:00:00x5Z"),
        ("renewed at an offset that is none", "2026-01-01T00:00:00+99:99"),
    ];
    let renewals = renewals.map(|(what, at)| odd(what, json!({ "spec": { "renewTime": at } })));
    let statuses = [
        (
            "a status at the upper limits",
            json!({
                "phase": "Granted", "term": 8_589_934_591_u64, "fencingToken": LARGEST, "ticket": LARGEST,
                "ahead": LARGEST, "observedGeneration": i64::MAX, "ttl": "24h", "message": "\u{0}é\"\\<".repeat(200),
            }),
        ),
        (
            "a status at the lower limits",
            json!({
                "phase": "Expired", "term": 0, "fencingToken": 0, "ticket": 0, "ahead": 0,
                "observedGeneration": i64::MIN, "ttl": "0s", "message": "",
            }),
        ),
        (
            "a status with times at both ends",
            json!({
                "phase": "Granted", "acquiredAt": "0000-01-01T00:00:00.0000000000000001-23:59",
                "expiresAt": "9999-12-31t23:59:59.9999999999999z",
            }),
        ),
        ("a status with a long condition", json!({ "phase": "Pending", "conditions": [condition] })),
        ("a status with an odd duration", json!({ "ttl": "2562047h47m16.854775807s" })),
        ("a status with the duration of a kind of its own", json!({ "ttl": "0" })),
        ("a status with a negative duration", json!({ "ttl": "-5s" })),
        ("a status of nothing", json!({})),
    ];
    let statuses = statuses.map(|(what, status)| odd_status(what, &status));
    renewals.into_iter().chain(statuses).collect()
}

/// Those of them that the API server refuses, as no claim's schema allows them.
const REFUSED_OF_CLAIMS: [&str; 5] = [
    "renewed in a leap second",
    "renewed on a day that is none",
    "renewed in a month that is none",
    "a status with the duration of a kind of its own",
    "a status with a negative duration",
];

/// What can be stored in the status of a barrier or gate.
fn rendezvous() -> Vec<Oddity> {
    vec![
        odd_status(
            "a status with times at both ends",
            &json!({
                "phase": "Open", "openedAt": "9999-12-31T23:59:59.9999999999999-23:59", "failedAt": FIRST,
                "waitingSince": "2016-12-31t23:59:59.99999999999999999999z", "observedGeneration": i64::MIN,
            }),
        ),
        odd_status(
            "a status with large numbers",
            &json!({ "arrived": LARGEST, "round": LARGEST, "met": 32, "total": 32, "observedGeneration": i64::MAX }),
        ),
    ]
}

/// What can be stored in a pod.
fn pods() -> Vec<Oddity> {
    let status = |phase: &str, at: &str| {
        let terminated = json!({
            "exitCode": i32::MIN, "signal": i32::MAX, "finishedAt": at, "startedAt": at, "message": "\u{0}é<>&",
            "reason": "]}",
        });
        json!({
            "phase": phase, "startTime": at,
            "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": at }],
            "containerStatuses": [{
                "name": "c", "ready": false, "restartCount": i32::MAX, "image": "", "imageID": "",
                "state": { "terminated": terminated },
            }],
        })
    };
    let toleration = |number| {
        let (key, seconds) = (format!("k{number}"), i64::MIN + number);
        json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds })
    };
    let tolerations: Vec<_> = (0..10).map(toleration).collect();
    vec![
        odd_status("a status of the last year", &status("Failed", LAST)),
        odd_status("a status of the first year", &status("Succeeded", FIRST)),
        odd_status("a status of an unknown phase", &json!({ "phase": "]}Ü", "containerStatuses": null })),
        odd("a spec at its limits", json!({ "spec": { "tolerations": tolerations } })),
    ]
}

/// What can be stored in a Job.
fn jobs() -> Vec<Oddity> {
    let condition = |at: &str| {
        json!({
            "type": "Ready]}", "status": "True", "lastProbeTime": at, "lastTransitionTime": at,
            "message": "\u{0}<>&é",
        })
    };
    let conditions = [FIRST, LAST].map(condition);
    let limits = json!({ "activeDeadlineSeconds": i64::MAX, "ttlSecondsAfterFinished": i32::MAX, "suspend": true });
    vec![
        odd_status(
            "a status at both ends",
            &json!({ "startTime": LAST, "active": i32::MAX, "ready": 0, "conditions": conditions }),
        ),
        odd("a spec at its limits", json!({ "spec": limits })),
    ]
}

/// Makes an object of the kind `K` for each oddity. Returns how the API server hands them back, and what it refuses.
async fn make<K: Resource<DynamicType = ()>>(
    namespace: &TestNamespace,
    spec: &Value,
    oddities: impl IntoIterator<Item = Oddity>,
) -> (Corpus, Vec<&'static str>) {
    let (mut corpus, mut refused) = (Corpus::new(), Vec::new());
    // A namespace is in none.
    let all = K::url_path(&(), (K::kind(&()) != "Namespace").then_some(&*namespace.name));
    for (number, Oddity { what, changes }) in oddities.into_iter().enumerate() {
        let name = format!("{}-{number}", namespace.name);
        let (api_version, kind) = (K::api_version(&()), K::kind(&()));
        let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name }, "spec": spec });
        send(namespace, Method::POST, &all, &object).await.expect("create");
        for change in changes {
            let one = format!("{all}/{name}");
            let done = match change {
                Change::Patch(patch) => send(namespace, Method::PATCH, &one, &patch).await,
                Change::Status(patch) => send(namespace, Method::PATCH, &format!("{one}/status"), &patch).await,
                Change::Delete => send(namespace, Method::DELETE, &one, &Value::Null).await,
            };
            if let Err(error) = done {
                eprintln!("{}: {what}: refused: {error}", K::kind(&()));
                refused.push(what);
            }
        }
        let stored = send(namespace, Method::GET, &format!("{all}/{name}"), &Value::Null).await.expect("read");
        if refused.last() != Some(&what) {
            corpus.insert(what.into(), RawValue::from_string(stored.trim().into()).expect("JSON"));
        }
    }
    (corpus, refused)
}

fn file<K: Resource<DynamicType = ()>>() -> PathBuf {
    workspace().join(format!("cluster/tests/corpus/{}.json", K::plural(&())))
}

/// Reads the objects of the kind `K` that are kept, or keeps these.
fn keep<K: Resource<DynamicType = ()>>(corpus: &Corpus) -> Corpus {
    if env::var_os("UPDATE_CORPUS").is_some() {
        let lines = corpus.iter().map(|(what, object)| format!("{}: {object}", json!(what)));
        fs::write(file::<K>(), format!("{{\n{}\n}}\n", lines.collect::<Vec<_>>().join(",\n"))).expect("write");
    }
    let text = fs::read_to_string(file::<K>()).expect("the corpus; UPDATE_CORPUS=1 makes it");
    serde_json::from_str(&text).expect("the corpus")
}

/// What does not differ from one control plane to the next.
fn lasting(metadata: &Metadata) -> Metadata {
    let Metadata { generation, deleting, labels, annotations, owners, .. } = metadata.clone();
    // Each namespace has its name as a label, each Job its name and UID.
    let own = |name: &str| name.contains("kubernetes.io/") || name == "job-name" || name == "controller-uid";
    let labels = labels.into_iter().filter(|(name, _)| !own(name)).collect();
    Metadata { generation, deleting, labels, annotations, owners, ..Metadata::default() }
}

/// Stores odd objects of the kind `K`, and reads them in each way that there is.
async fn is_read<K>(spec: Value, oddities: impl IntoIterator<Item = Oddity>, wanted_refused: &[&str])
where
    K: Resource<DynamicType = ()> + 'static,
{
    type Read<K> = Object<K, IgnoredAny, IgnoredAny>;
    let namespace = ControlPlane::shared().await.namespace("odd").await;
    install_crds(&namespace.client).await;
    let (corpus, refused) = make::<K>(&namespace, &spec, oddities).await;
    assert_eq!(refused, wanted_refused, "what the API server refuses");
    let kept = keep::<K>(&corpus);
    assert_eq!(
        kept.keys().collect::<Vec<_>>(),
        corpus.keys().collect::<Vec<_>>(),
        "the corpus; UPDATE_CORPUS=1 writes it"
    );
    let read = |what: &str, text: &RawValue| {
        let object = Read::<K>::read(text.get()).unwrap_or_else(|error| panic!("{what}: {error}"));
        object.unwrap_or_else(|misfit| panic!("{what}: {misfit}")).metadata
    };
    let client = namespace.client.clone();
    let endpoint = match K::kind(&()).as_ref() {
        "Namespace" => Endpoint::<K, IgnoredAny, IgnoredAny>::all(client, Program::OPERATOR),
        _ => Endpoint::namespaced(client, Program::OPERATOR, &namespace.name),
    };
    let (events, mut seen) = mpsc::channel(1000);
    let reports = events.clone();
    let source = Source { endpoint: endpoint.clone(), fields: None, page: 3 };
    let following = tokio::spawn(source.follow(
        events,
        |object: Lenient<Read<K>>| object,
        |event| Some(Ok(event)),
        move |report| reports.try_send(Err(report)).expect("room for all"),
    ));
    let wanted = PageRequest { limit: 1000, ..PageRequest::default() };
    let page = endpoint.page(&wanted, |object: Lenient<Read<K>>| object).await.expect("a page");
    assert_eq!(page.illegible, []);
    let mut followed = BTreeMap::new();
    loop {
        let next = timeout(Duration::from_mins(2), seen.recv()).await.expect("more is seen");
        match next.expect("following") {
            Ok(Event::Apply(object)) => {
                let object = object.expect("readable");
                followed.insert(object.metadata.name.clone(), object.metadata);
            }
            Ok(Event::InitDone { .. }) => break,
            Ok(Event::Init | Event::Delete(_)) => {}
            Err(report) => assert_eq!(report, Report::Following),
        }
    }
    following.abort();
    for (what, text) in &corpus {
        let metadata = read(what, text);
        assert!(metadata.version > 0 && !metadata.uid.is_empty() && metadata.created > 0, "{what}: {metadata:?}");
        assert_eq!(lasting(&metadata), lasting(&read(what, &kept[what])), "{what}: the corpus is not true any more");
        let got = endpoint.get(&metadata.name).await.expect("answered").expect("readable");
        let paged = page.items.iter().find(|item| item.metadata().name == metadata.name).expect("on the page");
        for other in [got.metadata(), paged.metadata(), &followed[&metadata.name]] {
            assert_eq!(other, &metadata, "{what}");
        }
    }
}

fn claim(lock: &str) -> Value {
    json!({ lock: "x", "holder": "\u{0}é漢🦀\"\\<>&]}", "instance": "i", "priority": i32::MIN })
}

#[tokio::test]
async fn every_permit_is_read() {
    is_read::<Permit>(claim("semaphore"), metadata::<Permit>().into_iter().chain(claims()), &REFUSED_OF_CLAIMS).await;
}

#[tokio::test]
async fn every_lease_request_is_read() {
    is_read::<LeaseRequest>(claim("lease"), metadata::<LeaseRequest>().into_iter().chain(claims()), &REFUSED_OF_CLAIMS)
        .await;
}

#[tokio::test]
async fn every_lock_is_read() {
    is_read::<Semaphore>(json!({ "permits": 1_000_000, "ttl": "24h" }), metadata::<Semaphore>(), &[]).await;
    is_read::<Lease>(json!({}), metadata::<Lease>(), &[]).await;
}

#[tokio::test]
async fn every_barrier_arrival_and_gate_is_read() {
    is_read::<Barrier>(json!({ "expected": 1 }), metadata::<Barrier>().into_iter().chain(rendezvous()), &[]).await;
    let arrival = json!({ "barrier": "b", "key": "\u{0}é]}", "holder": "<>&" });
    is_read::<Arrival>(arrival, metadata::<Arrival>(), &[]).await;
    let gate = json!({ "conditions": [{ "type": "Job", "name": "x", "state": "Complete" }] });
    is_read::<Gate>(gate, metadata::<Gate>().into_iter().chain(rendezvous()), &[]).await;
}

#[tokio::test]
async fn every_pod_job_and_namespace_is_read() {
    let pod = json!({ "containers": [{ "name": "c", "image": "i" }], "restartPolicy": "Never" });
    is_read::<Pod>(pod.clone(), metadata::<Pod>().into_iter().chain(pods()), &[]).await;
    is_read::<Job>(json!({ "template": { "spec": pod } }), metadata::<Job>().into_iter().chain(jobs()), &[]).await;
    is_read::<Namespace>(json!({}), metadata::<Namespace>(), &[]).await;
}
