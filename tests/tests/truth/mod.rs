//! Whether the simulation's API server answers as a real one does: the same requests are made to both, and the answers
//! compared field by field. Times, UIDs and versions are each server's own, and compared by what they are of: the UID and
//! version of an object by how many of its own have been seen before.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, Request as HttpRequest, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use konductor_api::{Barrier, Permit};
use konductor_sim::{
    chance::Chance,
    server::{Reply, Request, Server},
};
use konductor_tests::{minors, wait_for};
use kube::{Client, client::Body};
use serde_json::{Map, Value, json};

use super::{any, apply, namespace};

/// How long a server may take to watch a resource.
const WATCHED_LIMIT: Duration = Duration::from_mins(1);

/// A request: `NS` in its path is the namespace; `{uid:x}` and `{version:x}` in path and body are those that the last
/// answer about the object `x` had, `{former uid:x}` and `{former version:x}` those that it had before, and
/// `{first version:x}` the first of all.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: String,
    body: Value,
    /// Of a watch, the object whose event is the last that is waited for; else what the server ends with is the end.
    last: Option<&'static str>,
}

/// The UIDs and versions that an object has had, in the order in which they were seen.
#[derive(Default)]
struct Seen {
    uids: Vec<String>,
    versions: Vec<String>,
}

/// One of the two servers.
struct Side {
    /// The real one; else the one in memory.
    real: Option<Client>,
    namespace: String,
    memory: Server,
    /// What was seen of each object, by its name.
    seen: BTreeMap<String, Seen>,
    /// What lists ended with.
    token: String,
}

impl Side {
    fn new(real: Option<Client>, namespace: &str) -> Self {
        let (memory, seen) = (Server::default(), BTreeMap::new());
        Self { real, namespace: namespace.into(), memory, seen, token: String::new() }
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.replace("NS", &self.namespace).replace("{token}", &self.token);
        for (name, seen) in &self.seen {
            for (word, of) in [("uid", &seen.uids), ("version", &seen.versions)] {
                let former = of.iter().rev().nth(1);
                for (which, value) in [("", of.last()), ("former ", former), ("first ", of.first())] {
                    if let Some(value) = value {
                        text = text.replace(&format!("{{{which}{word}:{name}}}"), value);
                    }
                }
            }
        }
        text
    }

    async fn ask(&mut self, ask: &Ask) -> (u16, String) {
        let path = self.fill(&ask.path);
        let body = if ask.body.is_null() { String::new() } else { self.fill(&ask.body.to_string()) };
        let content_type =
            if ask.method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let (code, text) = if let Some(client) = &self.real {
            let request = HttpRequest::builder().method(ask.method.clone()).uri(path);
            let request = request.header(header::CONTENT_TYPE, content_type).header(header::ACCEPT, "application/json");
            let request = request.body(Body::from(body.into_bytes())).expect("a request");
            let response = client.send(request).await.expect("an answer");
            let code = response.status().as_u16();
            let (mut body, mut bytes) = (response.into_body(), Vec::new());
            while let Some(frame) = body.frame().await {
                bytes.extend(frame.expect("a body").into_data().expect("nothing but data"));
                if ask.last.is_some_and(|last| tells_of(&bytes, last)) {
                    break;
                }
            }
            (code, String::from_utf8(bytes).expect("text"))
        } else {
            let (path, query) = path.split_once('?').unwrap_or((path.as_str(), ""));
            let request = Request {
                method: ask.method.clone(),
                path: path.into(),
                query: Request::parameters(query),
                content_type: content_type.into(),
                body: body.into_bytes(),
            };
            match self.memory.handle(&request, Timestamp::UNIX_EPOCH, u64::MAX) {
                Reply::Answer(answer) => (answer.code, answer.body),
                Reply::Watch(mut watch) => {
                    let version = self.memory.store.version();
                    let events = self.memory.events(&mut watch, version).unwrap_or_else(|events| events);
                    (200, events.concat())
                }
            }
        };
        self.note(&text);
        (code, text)
    }

    fn note(&mut self, text: &str) {
        for object in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let metadata = &object["metadata"];
            if let (Some(name), Some(uid), Some(version)) =
                (metadata["name"].as_str(), metadata["uid"].as_str(), metadata["resourceVersion"].as_str())
            {
                let seen = self.seen.entry(name.to_owned()).or_default();
                for (of, value) in [(&mut seen.uids, uid), (&mut seen.versions, version)] {
                    if !of.iter().any(|known| known == value) {
                        of.push(value.to_owned());
                    }
                }
            }
            if let Some(token) = metadata["continue"].as_str() {
                token.clone_into(&mut self.token);
            }
        }
    }

    /// What is the same on both sides, of an answer.
    fn same(&self, text: &str) -> Vec<Value> {
        let mut text = text.replace(&self.namespace, "NS");
        for (name, seen) in &self.seen {
            for (number, uid) in seen.uids.iter().enumerate() {
                text = text.replace(uid.as_str(), &format!("uid {number} of {name}"));
            }
            // In a sentence.
            for (number, version) in seen.versions.iter().enumerate() {
                let number = if counts_versions() { number.to_string() } else { "any".to_owned() };
                text = text.replace(&format!("({version})"), &format!("(version {number} of {name})"));
            }
        }
        let mut objects: Vec<Value> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into()))
            .collect();
        objects.retain(|object| object["type"] != "BOOKMARK");
        if counts_versions() {
            for object in &mut objects {
                self.number_versions(object);
            }
        }
        objects.iter_mut().for_each(normalize);
        if !counts_versions() {
            let mut shown = BTreeMap::new();
            objects.retain(|event| {
                let before = shown.insert(event["object"]["metadata"]["name"].to_string(), event["object"].clone());
                event["type"] != "MODIFIED" || before.as_ref() != Some(&event["object"])
            });
        }
        objects
    }

    /// Says of each object which of its versions it has, counted from 0. A list's own version may be that of anything.
    fn number_versions(&self, value: &mut Value) {
        let metadata = &value["metadata"];
        let seen = metadata["name"].as_str().and_then(|name| self.seen.get(name));
        let number =
            seen.and_then(|seen| seen.versions.iter().position(|known| metadata["resourceVersion"] == **known));
        if let Some(number) = number {
            value["metadata"]["number of the version"] = number.into();
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.number_versions(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.number_versions(member)),
            _ => {}
        }
    }
}

/// Whether the versions of an object are compared by their number, and events that show nothing new. Kubernetes 1.32 makes one more of a write to a status
/// that changes nothing but labels, which stay as they were; the server in memory is like the newest one.
fn counts_versions() -> bool {
    std::env::var("KONDUCTOR_TEST_KUBERNETES").map_or(true, |minor| minors().last() == Some(&minor))
}

/// Whether the events of a watch, each a line, tell of an object.
fn tells_of(events: &[u8], name: &str) -> bool {
    let lines = events.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let mut events = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    events.any(|event| event["object"]["metadata"]["name"] == name)
}

/// Leaves out what is each server's own.
fn normalize(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(normalize),
        Value::Object(members) => {
            members.remove("managedFields");
            for (name, value) in members.iter_mut() {
                match name.as_str() {
                    "creationTimestamp" | "deletionTimestamp" if value.is_string() => *value = "a time".into(),
                    "resourceVersion" | "uid" if value.is_string() => *value = "its own".into(),
                    "continue" if value.as_str().is_some_and(|token| !token.is_empty()) => *value = "a token".into(),
                    // Both say what is wrong with the same fields; of several at once the order is nobody's.
                    "causes" if value.is_array() => {
                        let causes = value.as_array_mut().expect("just seen");
                        causes.retain(|cause| !cause["message"].as_str().is_some_and(|text| text.contains(TYPE_AGAIN)));
                        causes.sort_by_key(|cause| (cause["field"].to_string(), cause["reason"].to_string()));
                        for cause in causes {
                            if let Some(cause) = cause.as_object_mut() {
                                cause.remove("message");
                            }
                        }
                    }
                    // The sentence names the causes in their own order and words.
                    "message" if value.as_str().is_some_and(|text| text.contains(" is invalid: ")) => {
                        let text = value.as_str().unwrap_or_default();
                        *value = text.split(" is invalid: ").next().unwrap_or_default().into();
                    }
                    _ => normalize(value),
                }
            }
        }
        _ => {}
    }
}

/// What newer servers, and not older ones, say once more of a fraction where a whole number is wanted, and of no field
/// or of its parent. Nobody can rely on it; that the type is wrong both say of the field itself.
const TYPE_AGAIN: &str = "Checked value must be of type integer";

/// Where two values differ.
fn differences(path: &str, real: &Value, memory: &Value, found: &mut Vec<String>) {
    match (real, memory) {
        (Value::Object(real), Value::Object(memory)) => {
            let names: std::collections::BTreeSet<_> = real.keys().chain(memory.keys()).collect();
            for name in names {
                let path = format!("{path}.{name}");
                let of =
                    |members: &serde_json::Map<String, Value>| members.get(name).cloned().unwrap_or("(none)".into());
                differences(&path, &of(real), &of(memory), found);
            }
        }
        (Value::Array(real), Value::Array(memory)) if real.len() == memory.len() => {
            for (at, (real, memory)) in real.iter().zip(memory).enumerate() {
                differences(&format!("{path}[{at}]"), real, memory, found);
            }
        }
        (real, memory) if real == memory => {}
        (real, memory) => {
            found.push(format!("{path}: {real} is what a real server says, and {memory} the one in memory"));
        }
    }
}

/// Makes these requests to both servers, and compares.
async fn compare(name: &str, script: &[Ask]) {
    let namespace = namespace().await;
    let mut real = Side::new(Some(namespace.client.clone()), &namespace.name);
    let mut memory = Side::new(None, &namespace.name);
    let make = ask(
        Method::POST,
        "/api/v1/namespaces",
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "NS" } }),
    );
    memory.ask(&make).await;
    // Only the one in memory has been asked for it.
    memory.seen.clear();
    let mut wrong = Vec::new();
    for (number, ask) in script.iter().enumerate() {
        let (real_code, real_text) = real.ask(ask).await;
        let (code, text) = memory.ask(ask).await;
        let mut found = Vec::new();
        if real_code != code {
            found.push(format!("status {real_code} of a real server, {code} of the one in memory"));
        }
        let (of_real, of_memory) = (Value::Array(real.same(&real_text)), Value::Array(memory.same(&text)));
        differences("", &of_real, &of_memory, &mut found);
        if !found.is_empty() {
            wrong.push(format!("{number} {} {} {}\n    {}", ask.method, ask.path, ask.body, found.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{name}: {} of {} answers differ:\n{}", wrong.len(), script.len(), wrong.join("\n"));
}

fn ask(method: Method, path: &str, body: Value) -> Ask {
    Ask { method, path: path.to_owned(), body, last: None }
}

fn of(plural: &str) -> String {
    format!("/apis/konductor.io/v1/namespaces/NS/{plural}")
}

fn get(plural: &str, name: &str) -> Ask {
    ask(Method::GET, &format!("{}/{name}", of(plural)), Value::Null)
}

fn list(plural: &str, query: &str) -> Ask {
    ask(Method::GET, &format!("{}?{query}", of(plural)), Value::Null)
}

fn create(plural: &str, kind: &str, name: &str, spec: &Value) -> Ask {
    let object = json!({ "apiVersion": "konductor.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    ask(Method::POST, &of(plural), object)
}

fn patch(plural: &str, name: &str, body: Value) -> Ask {
    ask(Method::PATCH, &format!("{}/{name}", of(plural)), body)
}

fn delete(plural: &str, name: &str, options: Value) -> Ask {
    ask(Method::DELETE, &format!("{}/{name}", of(plural)), options)
}

fn permit(instance: &str) -> Value {
    json!({ "semaphore": "s", "holder": "h", "instance": instance })
}

fn status(term: u64) -> Value {
    json!({ "phase": "Granted", "term": term, "fencingToken": 7, "message": null, "conditions": [
        { "type": "Granted", "status": "True", "reason": "Granted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" },
    ]})
}

#[tokio::test]
async fn the_claim_protocol() {
    let script = [
        get("semaphores", "s"),
        create("semaphores", "Semaphore", "s", &json!({ "permits": 3 })),
        create("semaphores", "Semaphore", "s", &json!({ "permits": 3 })),
        get("semaphores", "s"),
        create("permits", "Permit", "a", &permit("i")),
        create("permits", "Permit", "a", &permit("i")),
        create("permits", "Permit", "Not_A_Name", &permit("i")),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "uid": "{uid:a}", "resourceVersion": "{version:a}" }, "status": status(5) }),
        ),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "uid": "{uid:a}", "resourceVersion": "1" }, "status": status(6) }),
        ),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000" }, "status": status(6) }),
        ),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "holder": "x" }, "status": status(6) }),
        ),
        patch(
            "permits",
            "a",
            json!({ "metadata": { "uid": "{uid:a}" }, "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } }),
        ),
        patch(
            "permits",
            "a",
            json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000" }, "spec": { "renewTime": "2026-01-01T00:00:02.000000Z" } }),
        ),
        patch("permits", "a", json!({ "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } })),
        patch("permits", "a", json!({ "status": { "phase": "Expired" } })),
        patch("permits", "a", json!({ "spec": { "holder": "somebody else" } })),
        patch("permits", "a", json!({ "spec": { "ttl": "30s" } })),
        patch("permits", "a", json!({ "metadata": { "annotations": { "konductor.io/revoke": "why" } } })),
        patch("permits", "b", json!({ "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } })),
        patch("permits", "b/status", json!({ "status": status(1) })),
        patch("permits", "a", json!({ "metadata": { "name": "b" } })),
        patch("permits", "a", json!({ "metadata": { "annotations": null, "labels": { "x": "y" } } })),
        list("permits", "fieldSelector=spec.semaphore%3Ds"),
        list("permits", "fieldSelector=spec.semaphore%3Dt"),
        list("permits", "fieldSelector=metadata.name%3Da"),
        list("permits", "labelSelector=x%3Dy"),
        list("permits", "labelSelector=x!%3Dy"),
        list("permits", "fieldSelector=spec.priority%3D0"),
        delete("permits", "a", json!({ "preconditions": { "uid": "00000000-0000-4000-8000-000000000000" } })),
        delete("permits", "a", json!({ "preconditions": { "uid": "{uid:a}", "resourceVersion": "1" } })),
        delete("permits", "a", json!({ "preconditions": { "uid": "{uid:a}", "resourceVersion": "{version:a}" } })),
        delete("permits", "a", json!({ "preconditions": { "uid": "{uid:a}" } })),
        get("permits", "a"),
        ask(Method::GET, "/apis/konductor.io/v1/namespaces/NS/nothing", Value::Null),
        ask(Method::GET, "/apis/konductor.io/v1/namespaces/NS/permits/a/other", Value::Null),
    ];
    compare("the claim protocol", &script).await;
}

#[tokio::test]
async fn lists_in_pages_and_watches() {
    let mut script = vec![create("semaphores", "Semaphore", "s", &json!({ "permits": 1 }))];
    for name in ["a", "b", "c", "d", "e"] {
        script.push(create("permits", "Permit", name, &permit(name)));
    }
    script.extend([
        list("permits", "limit=2"),
        create("permits", "Permit", "bb", &permit("bb")),
        list("permits", "limit=2&continue={token}"),
        delete("permits", "e", Value::Null),
        list("permits", "limit=2&continue={token}"),
        list("permits", "limit=500"),
        patch("permits", "c/status", json!({ "status": status(5) })),
        patch("permits", "d", json!({ "metadata": { "labels": { "x": "y" } } })),
        patch("permits", "d", json!({ "metadata": { "labels": null } })),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1"),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1&fieldSelector=metadata.name%3Dc"),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1&labelSelector=x%3Dy"),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1&fieldSelector=spec.semaphore%3Dt"),
    ]);
    compare("lists and watches", &script).await;
}

#[tokio::test]
async fn deleting_what_is_kept_and_what_is_about_to_go() {
    let kept = json!({ "apiVersion": "konductor.io/v1", "kind": "Semaphore",
        "metadata": { "name": "kept", "finalizers": ["example.com/kept"], "labels": {}, "annotations": { "a": "b" } },
        "spec": { "permits": 1, "unknown": true } });
    let script = [
        ask(Method::POST, &of("semaphores"), kept),
        delete("semaphores", "kept", Value::Null),
        delete("semaphores", "kept", Value::Null),
        get("semaphores", "kept"),
        patch("semaphores", "kept", json!({ "spec": { "permits": 2 } })),
        patch("semaphores", "kept", json!({ "metadata": { "finalizers": null } })),
        get("semaphores", "kept"),
        ask(
            Method::POST,
            "/apis/konductor.io/v1/namespaces/nobody-has-this/permits",
            json!({ "apiVersion": "konductor.io/v1", "kind": "Permit", "metadata": { "name": "a" }, "spec": permit("i") }),
        ),
        ask(
            Method::POST,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases",
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "konductor-operator" },
                "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z" },
            }),
        ),
        ask(
            Method::PATCH,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases/konductor-operator",
            json!({
                "metadata": { "resourceVersion": "{version:konductor-operator}" },
                "spec": { "holderIdentity": null },
            }),
        ),
        ask(
            Method::PATCH,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases/konductor-operator",
            json!({
                "metadata": { "resourceVersion": "1" }, "spec": { "holderIdentity": "b" },
            }),
        ),
        ask(
            Method::GET,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases?fieldSelector=metadata.name%3Dkonductor-operator&limit=10",
            Value::Null,
        ),
        ask(Method::DELETE, "/apis/coordination.k8s.io/v1/namespaces/NS/leases/konductor-operator", Value::Null),
    ];
    compare("deletion", &script).await;
}

/// What `some_request` is about: claims of one kind, and rendezvous of another.
const OBJECTS: [(&str, &str, &str); 5] = [
    ("permits", "Permit", "a"),
    ("permits", "Permit", "b"),
    ("permits", "Permit", "c"),
    ("barriers", "Barrier", "x"),
    ("barriers", "Barrier", "y"),
];

fn some_spec(c: &mut Chance, plural: &str) -> Value {
    if plural == "permits" { permit("i") } else { json!({ "expected": c.within(1, 3) }) }
}

/// Which object a request is about, as far as it says so: mostly the one that there is, at times what there was, another,
/// or none that ever was.
fn identity(c: &mut Chance, name: &str) -> Map<String, Value> {
    let mut identity = Map::new();
    for (member, word, invented) in
        [("uid", "uid", "00000000-0000-4000-8000-000000000000"), ("resourceVersion", "version", "1")]
    {
        let (.., other) = *c.one_of(&OBJECTS);
        let said = match c.below(12) {
            0..=4 => continue,
            5..=8 => json!(format!("{{{word}:{name}}}")),
            9 => json!(format!("{{former {word}:{name}}}")),
            10 => json!(format!("{{{word}:{other}}}")),
            _ => json!(invented),
        };
        identity.insert(member.to_owned(), said);
    }
    identity
}

/// A request about one of a few objects: most exist when it is made, and of what is asked of them much is refused.
fn some_request(c: &mut Chance) -> Ask {
    let (plural, kind, name) = *c.one_of(&OBJECTS);
    match c.below(20) {
        0..=4 => {
            let mut create = create(plural, kind, name, &some_spec(c, plural));
            if c.happens(250) {
                create.body["metadata"]["finalizers"] = json!(["example.com/kept"]);
            }
            create
        }
        5..=9 => {
            let mut metadata = identity(c, name);
            match c.below(8) {
                0 => metadata.insert("labels".into(), json!({ "x": *c.one_of(&["y", "z"]) })),
                1 => metadata.insert("labels".into(), Value::Null),
                2 => metadata.insert("finalizers".into(), json!(["example.com/kept"])),
                3 | 4 => metadata.insert("finalizers".into(), Value::Null),
                _ => None,
            };
            let spec = match (plural, c.below(4)) {
                (_, 0) => json!({}),
                ("permits", 1) => json!({ "holder": *c.one_of(&["h", "somebody else"]) }),
                ("permits", _) => json!({ "renewTime": format!("2026-01-01T00:00:0{}.000000Z", c.below(3)) }),
                (_, 1) => json!({ "quorum": *c.one_of(&[json!(1), json!(2), Value::Null]), "timeout": "5s" }),
                _ => json!({ "expected": c.within(0, 3) }),
            };
            patch(plural, name, json!({ "metadata": metadata, "spec": spec }))
        }
        10..=13 => {
            let status = match plural {
                "permits" => status(c.below(3)),
                _ => json!({ "phase": *c.one_of(&["Waiting", "Open", "Ajar"]), "arrived": c.below(3) }),
            };
            let mut body = json!({ "metadata": identity(c, name), "status": status });
            if c.happens(200) {
                body["spec"] = some_spec(c, plural);
                body["metadata"]["labels"] = json!({ "x": "status" });
            }
            patch(plural, &format!("{name}/status"), body)
        }
        14 | 15 if c.happens(500) => delete(plural, name, json!({ "preconditions": identity(c, name) })),
        14 | 15 => delete(plural, name, Value::Null),
        16 | 17 => get(plural, name),
        18 => {
            let query = *c.one_of(&["limit=1&continue={token}", "limit=2&continue={token}", "limit=2"]);
            list("permits", query)
        }
        _ => {
            let query = *c.one_of(&["", "limit=500", "labelSelector=x%3Dy"]);
            list(plural, query)
        }
    }
}

#[tokio::test]
async fn one_request_after_the_other() {
    // A server tells of nothing that was before it first watched a resource itself.
    let watched = namespace().await;
    for (plural, kind) in [("permits", "Permit"), ("barriers", "Barrier")] {
        let c = &mut Chance::new(0, 1);
        let api = if plural == "permits" { any::<Permit>(&watched) } else { any::<Barrier>(&watched) };
        apply(&api, kind, "first", &some_spec(c, plural)).await.expect("make");
    }
    wait_for(&watched.api::<Permit>(), "first", WATCHED_LIMIT, |_| true).await;
    wait_for(&watched.api::<Barrier>(), "first", WATCHED_LIMIT, |_| true).await;

    for seed in 1..=3 {
        let c = &mut Chance::new(seed, 2);
        let mut script = Vec::new();
        // Each has been another before.
        for (plural, kind, name) in OBJECTS {
            let make = create(plural, kind, name, &some_spec(c, plural));
            script.extend([make.clone(), delete(plural, name, Value::Null), make]);
        }
        script.extend((0..200).map(|_| some_request(c)));
        for (plural, kind, first) in [("permits", "Permit", "a"), ("barriers", "Barrier", "x")] {
            script.push(create(plural, kind, "last", &some_spec(c, plural)));
            let query = format!("watch=true&resourceVersion={{first version:{first}}}&timeoutSeconds=60");
            script.push(Ask { last: Some("last"), ..list(plural, &query) });
        }
        compare(&format!("one request after the other, of seed {seed}"), &script).await;
    }
}

/// Values of which some are refused.
fn anything(c: &mut Chance) -> Value {
    match c.below(12) {
        0 => json!(null),
        1 => json!(0),
        2 => json!(-1),
        3 => json!(c.below(2_000_000)),
        4 => json!(1.5),
        5 => json!(""),
        6 => json!("x".repeat(c.below(300) as usize)),
        7 => json!(["1s", "5s", "0s", "24h", "25h", "1h30m", "1.5h", "soon", "5", "9000h"][c.below(10) as usize]),
        8 => json!(true),
        9 => json!([]),
        10 => json!({}),
        _ => json!({ "name": "p", "uid": "u", "container": "c", "start": "s" }),
    }
}

#[tokio::test]
async fn what_custom_resources_may_say() {
    let good = [
        ("semaphores", "Semaphore", json!({ "permits": 3 })),
        ("leases", "Lease", json!({})),
        ("permits", "Permit", permit("i")),
        ("leaserequests", "LeaseRequest", json!({ "lease": "l", "holder": "h", "instance": "i" })),
        ("barriers", "Barrier", json!({ "expected": 3 })),
        ("arrivals", "Arrival", json!({ "barrier": "b", "holder": "h", "key": "k" })),
        ("gates", "Gate", json!({ "conditions": [{ "type": "Job", "name": "j", "state": "Complete" }] })),
    ];
    let fields = [
        "permits",
        "ttl",
        "queueing",
        "priority",
        "holder",
        "pod",
        "renewTime",
        "expected",
        "quorum",
        "timeout",
        "resetAfter",
        "key",
        "barrier",
        "conditions",
        "match",
        "override",
        "lease",
        "semaphore",
        "instance",
    ];
    let mut script = Vec::new();
    let c = &mut Chance::new(1, 1);
    for (plural, kind, spec) in good {
        script.push(create(plural, kind, "good", &spec));
        for number in 0..40 {
            let mut spec = spec.clone();
            for _ in 0..c.within(1, 2) {
                spec[*c.one_of(&fields)] = anything(c);
            }
            script.push(create(plural, kind, &format!("x-{number}"), &spec));
        }
        for _ in 0..20 {
            script.push(patch(plural, "good", json!({ "spec": { *c.one_of(&fields): anything(c) } })));
            script.push(patch(
                plural,
                "good/status",
                json!({ "status": { *c.one_of(&["phase", "term", "ttl", "message"]): anything(c) } }),
            ));
        }
        script.push(get(plural, "good"));
    }
    compare("what custom resources may say", &script).await;
}
