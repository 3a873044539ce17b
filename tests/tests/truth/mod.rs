//! Whether the simulation's API server answers as a real one does: the same requests are made to both, and the answers
//! compared field by field. Times, UIDs and versions are each server's own, and compared by what they are of.

use std::collections::BTreeMap;

use http::{Method, Request as HttpRequest, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use konductor_sim::{
    chance::Chance,
    server::{Reply, Request, Server},
};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::namespace;

/// A request: `NS` in its path is the namespace; `{uid:x}` and `{version:x}` in path and body are those that the last
/// answer about the object `x` had.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: String,
    body: Value,
}

/// One of the two servers.
struct Side {
    /// The real one; else the one in memory.
    real: Option<Client>,
    namespace: String,
    memory: Server,
    /// UID and version of each object, when it was last seen.
    seen: BTreeMap<String, (String, String)>,
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
        for (name, (uid, version)) in &self.seen {
            text = text.replace(&format!("{{uid:{name}}}"), uid).replace(&format!("{{version:{name}}}"), version);
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
            let bytes = response.into_body().collect().await.expect("a body").to_bytes();
            (code, String::from_utf8(bytes.to_vec()).expect("text"))
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
                self.seen.insert(name.to_owned(), (uid.to_owned(), version.to_owned()));
            }
            if let Some(token) = metadata["continue"].as_str() {
                token.clone_into(&mut self.token);
            }
        }
    }

    /// What is the same on both sides, of an answer.
    fn same(&self, text: &str) -> Vec<Value> {
        let mut text = text.replace(&self.namespace, "NS");
        for (name, (uid, _)) in &self.seen {
            text = text.replace(uid.as_str(), &format!("uid of {name}"));
        }
        let mut objects: Vec<Value> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into()))
            .collect();
        objects.retain(|object| object["type"] != "BOOKMARK");
        objects.iter_mut().for_each(normalize);
        objects
    }
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
                    "message" if value.as_str().is_some_and(|text| text.contains(VERSION)) => {
                        let text = value.as_str().unwrap_or_default();
                        *value = text.split(VERSION).next().unwrap_or_default().into();
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

/// What precedes a version in a sentence.
const VERSION: &str = "does not match the ResourceVersion in record";

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
    Ask { method, path: path.to_owned(), body }
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
