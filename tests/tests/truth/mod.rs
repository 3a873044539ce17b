//! Whether the simulation's API server answers as a real one does: the same requests are made to both, and the answers
//! compared field by field. Times, UIDs and versions are each server's own, and compared by what they are of: the UID and
//! version of an object by how many of its own have been seen before.
//!
//! Of pods, Jobs, namespaces and events the one in memory has what was written; a real one says more in spec and status, of
//! which nobody here reads anything. So of these what the one in memory says must be what the real one says.

mod chance;
mod claims;
mod controllers;
mod kubernetes;
mod refusals;
mod versions;

use std::{collections::BTreeMap, time::Duration};

use http::{Method, Request as HttpRequest, Response, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use konductor_sim::server::{Answer, Reply, Request, Server};
use konductor_tests::{TestNamespace, eventually, minors};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::{any, apply, namespace};

/// How long a server may take to watch a resource, to tell of what has happened, or to begin to serve.
const LIMIT: Duration = Duration::from_mins(2);

/// Where the leases of elections are.
const ELECTIONS: &str = "/apis/coordination.k8s.io/v1/namespaces/NS/leases";

const PODS: &str = "/api/v1/namespaces/NS/pods";
const NAMESPACES: &str = "/api/v1/namespaces";

/// A request: `NS` in its path is the namespace; `{uid:x}` and `{version:x}` in path and body are those that the last
/// answer about the object `x` had, `{former uid:x}` and `{former version:x}` those that it had before, and
/// `{first version:x}` the first of all. `{listed}` is the version of the last list or bookmark, and `{token}` what the
/// last list ended with.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: String,
    body: Value,
    until: Until,
    /// What a real server is asked for as soon as it watches, so that something happens.
    meanwhile: Option<Box<Ask>>,
}

/// The last event of a watch that is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    /// What the server ends it with.
    End,
    /// The first about this object.
    Told(&'static str),
    /// That this object is gone.
    Gone(&'static str),
    /// A bookmark.
    Bookmark,
}

impl Until {
    /// These events, each a line, up to it. `None` if it is not among them.
    fn cut<'a>(self, events: &'a str, namespace: &str) -> Option<&'a str> {
        let is_last = |line: &str| {
            let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
            let is_about = |name: &str| event["object"]["metadata"]["name"] == *name.replace("NS", namespace);
            match self {
                Self::End => false,
                Self::Told(name) => is_about(name),
                Self::Gone(name) => event["type"] == "DELETED" && is_about(name),
                Self::Bookmark => event["type"] == "BOOKMARK",
            }
        };
        let mut end = 0;
        for line in events.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            end += line.len();
            if is_last(line) {
                return Some(&events[..end]);
            }
        }
        None
    }
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
    /// The version of the last list or bookmark.
    listed: String,
    /// Whether there are controllers: those of the one in memory do all that there is to do before it tells of it.
    has_controllers: bool,
    /// What the one in memory says of requests before it looks at them itself.
    before: Option<Before>,
}

/// Answers a request, or leaves it to the server.
type Before = Box<dyn Fn(&Request) -> Option<Answer>>;

impl Side {
    fn new(real: Option<Client>, namespace: &str) -> Self {
        let (memory, seen) = (Server::default(), BTreeMap::new());
        let (token, listed) = (String::new(), String::new());
        Self { real, namespace: namespace.into(), memory, seen, token, listed, has_controllers: false, before: None }
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.replace("NS", &self.namespace);
        text = text.replace("{token}", &self.token).replace("{listed}", &self.listed);
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
        let (code, text) = if let Some(client) = &self.real {
            let what = format!("{:?} of {} {path}", ask.until, ask.method);
            let meanwhile = ask.meanwhile.as_ref().map(|ask| (self.fill(&ask.path), self.fill(&ask.body.to_string())));
            let attempt = || attempt(client, ask, &self.namespace, [&path, &body], meanwhile.as_ref());
            eventually(LIMIT, &what, attempt).await
        } else {
            let (path, query) = path.split_once('?').unwrap_or((path.as_str(), ""));
            let request = Request {
                method: ask.method.clone(),
                path: path.into(),
                query: Request::parameters(query),
                content_type: content_type(&ask.method).into(),
                body: body.into_bytes(),
            };
            if self.has_controllers && ask.until != Until::End {
                self.control();
            }
            let before = self.before.as_ref().and_then(|before| before(&request)).map(Reply::Answer);
            match before.unwrap_or_else(|| self.memory.handle(&request, Timestamp::UNIX_EPOCH, u64::MAX)) {
                Reply::Answer(answer) => (answer.code, answer.body),
                Reply::Watch(mut watch) => {
                    let version = self.memory.store.version();
                    let events = self.memory.events(&mut watch, version).unwrap_or_else(|events| events);
                    let bookmark = self.memory.bookmark(&watch).filter(|_| ask.until == Until::Bookmark);
                    let events: String = events.into_iter().chain(bookmark).collect();
                    (200, ask.until.cut(&events, &self.namespace).unwrap_or(&events).to_owned())
                }
            }
        };
        self.note(&text);
        (code, text)
    }

    /// Forgets what was, in memory.
    fn compact(&mut self) {
        let version = self.memory.store.version();
        self.memory.store.compact(version);
    }

    /// All that controllers have to do, of the server in memory.
    fn control(&mut self) {
        let mut before = None;
        while before != Some(self.memory.store.version()) {
            before = Some(self.memory.store.version());
            self.memory.control(Timestamp::UNIX_EPOCH);
        }
    }

    fn note(&mut self, text: &str) {
        for object in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let is_bookmark = object["type"] == "BOOKMARK";
            let metadata = if is_bookmark { &object["object"]["metadata"] } else { &object["metadata"] };
            if let Some(version) = metadata["resourceVersion"].as_str().filter(|_| metadata["name"].is_null()) {
                version.clone_into(&mut self.listed);
            }
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
    fn same(&self, ask: &Ask, text: &str) -> Vec<Value> {
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
        objects.retain(|object| object["type"] != "BOOKMARK" || ask.until == Until::Bookmark);
        // Controllers write when they like.
        let counts = counts_versions() && !self.has_controllers;
        if counts {
            for object in &mut objects {
                self.number_versions(object);
            }
        }
        objects.iter_mut().for_each(normalize);
        // What controllers say of how a namespace goes is theirs.
        for event in objects.iter_mut().filter(|event| self.has_controllers && event["object"]["kind"] == "Namespace") {
            event["object"]["status"].as_object_mut().expect("a status").remove("conditions");
        }
        if !counts {
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

/// Whether this is the newest Kubernetes, which the server in memory is like: only then the versions of an object are
/// compared by their number, and events that show nothing new. 1.32 makes one more of a write to a status that changes
/// nothing but labels, which stay as they were.
fn counts_versions() -> bool {
    std::env::var("KONDUCTOR_TEST_KUBERNETES").map_or(true, |minor| minors().last() == Some(&minor))
}

fn content_type(method: &Method) -> &'static str {
    if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" }
}

async fn send(client: &Client, method: &Method, path: &str, body: &str) -> Response<Body> {
    let request = HttpRequest::builder().method(method.clone()).uri(path).header(header::ACCEPT, "application/json");
    let request = request.header(header::CONTENT_TYPE, content_type(method));
    let request = request.body(Body::from(body.as_bytes().to_vec())).expect("a request");
    client.send(request).await.expect("an answer")
}

/// Makes a request to a real server. Fails if the server cannot serve it yet, or has not told what is waited for.
async fn attempt(
    client: &Client,
    ask: &Ask,
    namespace: &str,
    [path, body]: [&str; 2],
    meanwhile: Option<&(String, String)>,
) -> Result<(u16, String), String> {
    let response = send(client, &ask.method, path, body).await;
    let code = response.status().as_u16();
    if let Some((path, body)) = meanwhile {
        let status = send(client, &Method::POST, path, body).await.status();
        assert!(status.is_success(), "{path}: {status}");
    }
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        bytes.extend(frame.expect("a body").into_data().expect("nothing but data"));
        if ask.until != Until::End
            && let Some(events) = ask.until.cut(&String::from_utf8_lossy(&bytes), namespace)
        {
            return Ok((code, events.to_owned()));
        }
    }
    let text = String::from_utf8(bytes).expect("text");
    // It has just started, and does not yet watch the resource itself.
    let is_early = code == 429;
    if is_early || code == 200 && ask.until != Until::End {
        Err(format!("{code}: {}", text.lines().last().unwrap_or_default()))
    } else {
        Ok((code, text))
    }
}

/// Leaves out what is each server's own.
fn normalize(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(normalize),
        Value::Object(members) => {
            members.remove("managedFields");
            // An older server says of a bookmark also when it was created: at no time.
            if !counts_versions() && members.get("creationTimestamp").is_some_and(Value::is_null) {
                members.remove("creationTimestamp");
            }
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
                        // What is about no field the server says itself, and not a schema.
                        for cause in causes.iter_mut().filter(|cause| !cause["field"].is_null()) {
                            if let Some(cause) = cause.as_object_mut() {
                                cause.remove("message");
                            }
                        }
                        // An older one says twice what is wrong with a UID.
                        if !counts_versions() {
                            causes.dedup();
                        }
                    }
                    // The versions that it names are each server's own.
                    "message" if value.as_str().is_some_and(|text| text.starts_with(TOO_OLD)) => {
                        *value = TOO_OLD.into();
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

/// How a watch says that it cannot go on from a version.
const TOO_OLD: &str = "too old resource version: ";

/// Whether this is a request about objects of which the server in memory has only what was written.
fn is_partial(path: &str) -> bool {
    ["/api/v1/", "/apis/batch/", "/apis/events.k8s.io/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Whether at this place a real server says more of such objects: in their specs and statuses, which generation of the
/// spec it is, which pods are a Job's, and of events what they were before they had a group.
fn is_more(path: &str, name: &str, value: &Value) -> bool {
    let of_part = path.split(['.', '[']).any(|part| part == "spec" || part == "status");
    // By these a Job is found again, and its pods.
    let is_of_job = |name: &str| name.ends_with("job-name") || name.ends_with("controller-uid");
    let of_job = name == "labels" && value.as_object().is_some_and(|labels| labels.keys().all(|name| is_of_job(name)));
    let is_part = matches!(name, "spec" | "status") && value.is_object();
    of_part || is_part || of_job || is_of_job(name) || name == "generation" || name.starts_with("deprecated")
}

/// Where two values differ; of `partial` objects, in what the one in memory says.
fn differences(path: &str, real: &Value, memory: &Value, partial: bool, found: &mut Vec<String>) {
    match (real, memory) {
        (Value::Object(real), Value::Object(memory)) => {
            let names: std::collections::BTreeSet<_> = real.keys().chain(memory.keys()).collect();
            for name in names {
                if partial && !memory.contains_key(name) && is_more(path, name, &real[name]) {
                    continue;
                }
                let path = format!("{path}.{name}");
                let of =
                    |members: &serde_json::Map<String, Value>| members.get(name).cloned().unwrap_or("(none)".into());
                differences(&path, &of(real), &of(memory), partial, found);
            }
        }
        (Value::Array(real), Value::Array(memory)) if real.len() == memory.len() => {
            for (at, (real, memory)) in real.iter().zip(memory).enumerate() {
                differences(&format!("{path}[{at}]"), real, memory, partial, found);
            }
        }
        (real, memory) if real == memory => {}
        (real, memory) => {
            found.push(format!("{path}: {real} is what a real server says, and {memory} the one in memory"));
        }
    }
}

/// Both servers, and how their answers differ.
struct Scene {
    real: Side,
    memory: Side,
    asked: usize,
    wrong: Vec<String>,
}

impl Scene {
    async fn new(namespace: &TestNamespace) -> Self {
        let real = Side::new(Some(namespace.client.clone()), &namespace.name);
        let mut memory = Side::new(None, &namespace.name);
        memory.ask(&create_namespace("NS")).await;
        // Only the one in memory has been asked for it.
        memory.seen.clear();
        Self { real, memory, asked: 0, wrong: Vec::new() }
    }

    /// Makes these requests to both servers, and compares the answers.
    async fn play(&mut self, script: &[Ask]) {
        for ask in script {
            let (real_code, real_text) = self.real.ask(ask).await;
            let (code, text) = self.memory.ask(ask).await;
            let mut found = Vec::new();
            if real_code != code {
                found.push(format!("status {real_code} of a real server, {code} of the one in memory"));
            }
            let [real, memory] =
                [(&self.real, &real_text), (&self.memory, &text)].map(|(side, text)| side.same(ask, text).into());
            let partial = ask.until == Until::Bookmark || is_partial(&ask.path);
            differences("", &real, &memory, partial, &mut found);
            if !found.is_empty() {
                let Ask { method, path, body, .. } = ask;
                self.wrong.push(format!("{} {method} {path} {body}\n    {}", self.asked, found.join("\n    ")));
            }
            self.asked += 1;
        }
    }

    /// There are controllers from now on.
    fn has_controllers(&mut self) {
        (self.real.has_controllers, self.memory.has_controllers) = (true, true);
    }

    fn end(self, name: &str) {
        let Self { asked, wrong, .. } = self;
        assert!(wrong.is_empty(), "{name}: {} of {asked} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Makes these requests to both servers, and compares.
async fn compare(name: &str, script: &[Ask]) {
    let mut scene = Scene::new(&namespace().await).await;
    scene.play(script).await;
    scene.end(name);
}

fn ask(method: Method, path: &str, body: Value) -> Ask {
    Ask { method, path: path.to_owned(), body, until: Until::End, meanwhile: None }
}

/// The path of resources: of Konductor's own by their plural.
fn of(plural: &str) -> String {
    if plural.starts_with('/') {
        return plural.to_owned();
    }
    format!("/apis/konductor.io/v1/namespaces/NS/{plural}")
}

fn get(plural: &str, name: &str) -> Ask {
    ask(Method::GET, &format!("{}/{name}", of(plural)), Value::Null)
}

fn list(plural: &str, query: &str) -> Ask {
    ask(Method::GET, &format!("{}?{query}", of(plural)), Value::Null)
}

fn watch(plural: &str, query: &str, until: Until) -> Ask {
    Ask { until, ..list(plural, &format!("watch=true&timeoutSeconds=60&{query}")) }
}

fn create_namespace(name: &str) -> Ask {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    ask(Method::POST, "/api/v1/namespaces", object)
}

fn create(plural: &str, kind: &str, name: &str, spec: &Value) -> Ask {
    let path = of(plural);
    let mut group_and_version = path.trim_start_matches("/apis/").split('/').take(2);
    let api_version = match (group_and_version.next(), group_and_version.next()) {
        (Some(group), Some(version)) if path.starts_with("/apis/") => format!("{group}/{version}"),
        _ => "v1".to_owned(),
    };
    let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name }, "spec": spec });
    ask(Method::POST, &path, object)
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
