//! An API server in memory: what a client can observe of a real one, as far as Konductor and its users look.
//!
//! It has no clock, no chance and no network: a request and the time are arguments, and its answer is a text. Delays,
//! losses and refusals are the [world's](crate::world). That its answers are those of a real one is checked by running
//! the same requests against both (`tests/tests/truth`).
//!
//! It serves the custom resources by their own schemas (pruned, defaulted, refused; the CEL rules are those of
//! `rules`), and namespaces, pods, jobs, coordination leases and events without looking into them. There is GET, LIST in
//! pages, WATCH, POST, merge PATCH and DELETE of single objects. There is no PUT, server-side apply, JSON patch, table,
//! scale, protobuf nor managed fields, and no admission but what namespaces do and what [`Refusal`] names; who asks does
//! not matter, except to [`no_right`].
//! [`Server::control`] is a turn of Kubernetes' controllers.

mod answer;
mod refusal;
pub mod resource;
mod rules;
mod schema;
mod selector;
mod store;

use std::collections::BTreeSet;

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use self::{
    answer::Answer,
    refusal::{Refusal, no_right},
    store::{Change, Key, Store, Stored},
};
use self::{
    resource::{NAMESPACES, PODS, Resource, ResourceId},
    schema::Fault,
    selector::Selector,
};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
    /// The query's parameters.
    pub query: Vec<(String, String)>,
    /// What its body is.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a URI's query.
    pub fn parameters(query: &str) -> Vec<(String, String)> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (plain(name), plain(value)))
            .collect()
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    fn is_set(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
    }
}

/// Text whose `%20` and `+` are what they stand for.
fn plain(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        let code = (*first == b'%').then(|| others.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        let (byte, after) = match code {
            Some(byte) => (byte, &others[2..]),
            None => (if *first == b'+' { b' ' } else { *first }, others),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Reply {
    /// At once.
    Answer(Answer),
    /// With events, from now on.
    Watch(Watch),
}

/// A watch: where it stands, and what it selects.
#[derive(Clone, Debug)]
pub struct Watch {
    /// What is watched.
    pub resource: ResourceId,
    /// For how many seconds.
    pub seconds: u64,
    namespace: Option<String>,
    selector: Selector,
    bookmarks: bool,
    /// The version that it has told of.
    position: u64,
    /// What it tells first.
    first: Vec<String>,
}

impl Watch {
    /// The version that it has told of.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Leaves out what happened up to this version.
    pub(crate) fn pass_over(&mut self, version: u64) {
        self.position = self.position.max(version);
    }
}

/// Where a path leads.
struct Place {
    resource: ResourceId,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

/// The server.
#[derive(Debug, Default)]
pub struct Server {
    /// What is stored.
    pub store: Store,
    /// How many objects a page has at most, whatever is asked for; 0: what is asked for.
    pub page: usize,
    /// What is created has the UID of what had its name before: not so on any real server.
    pub keeps_uids: bool,
    /// Whether arrivals are left when their barrier has gone, as a garbage collector does that stands still.
    pub keeps_arrivals: bool,
    /// How admission refuses what is written of claims and arrivals.
    pub refusals: BTreeSet<Refusal>,
    made: u64,
}

/// How long a watch lasts that does not say. Real ones last half an hour to an hour; here less, as what a client misses
/// that has created its claim and not yet watched it when an old backup is restored, it is told when its watch ends.
const WATCH_SECONDS: u64 = 120;

impl Server {
    /// Carries out a request. A read that allows it sees what was there at version `stale`.
    pub fn handle(&mut self, request: &Request, now: Timestamp, stale: u64) -> Reply {
        if request.path == "/readyz" {
            return Reply::Answer(Answer::object(200, "ok"));
        }
        let Some(place) = place(&request.path) else { return Reply::Answer(Answer::no_such_path()) };
        let resource = &resource::all()[place.resource];
        if request.method == Method::GET && place.name.is_none() {
            let selector =
                Selector::read(resource, request.parameter("fieldSelector"), request.parameter("labelSelector"));
            let selector = match selector {
                Ok(selector) => selector,
                Err(message) => return Reply::Answer(Answer::bad(&message)),
            };
            return if request.is_set("watch") {
                self.watch(request, place, selector)
            } else {
                Reply::Answer(self.list(request, &place, &selector, stale))
            };
        }
        Reply::Answer(self.single(request, place, now, stale))
    }

    fn single(&mut self, request: &Request, place: Place, now: Timestamp, stale: u64) -> Answer {
        let resource = &resource::all()[place.resource];
        let namespace = place.namespace.unwrap_or_default();
        let of_status = match place.subresource.as_deref() {
            None => false,
            Some("status") if resource.has_status => true,
            Some(_) => return Answer::not_found(resource, place.name.as_deref().unwrap_or_default()),
        };
        match (&request.method, place.name) {
            (&Method::POST, None) => self.create(request, place.resource, namespace, now),
            (&Method::GET, Some(name)) => {
                let key = (place.resource, namespace, name);
                let found = if request.parameter("resourceVersion") == "0" {
                    self.store.get_at(&key, stale)
                } else {
                    self.store.get(&key)
                };
                found.map_or_else(|| Answer::not_found(resource, &key.2), |found| Answer::object(200, &found.text))
            }
            (&Method::PATCH, Some(name)) => self.patch(request, (place.resource, namespace, name), of_status),
            (&Method::DELETE, Some(name)) if !of_status => self.delete(request, (place.resource, namespace, name), now),
            _ => Answer::no_such_method(),
        }
    }

    /// Creates an object.
    fn create(&mut self, request: &Request, id: ResourceId, namespace: String, now: Timestamp) -> Answer {
        let resource = &resource::all()[id];
        let Ok(Value::Object(mut object)) = serde_json::from_slice(&request.body) else {
            return Answer::bad("the object provided is unrecognized (must be of type object)");
        };
        let mut metadata = match object.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        };
        let said = (object.get("apiVersion").cloned(), object.get("kind").cloned());
        if resource.schema.is_some()
            && said != (Some(resource.api_version().into()), Some(resource.kind.as_str().into()))
        {
            return Answer::bad("the object provided is of another kind or version than its path");
        }
        object.insert("apiVersion".into(), resource.api_version().into());
        object.insert("kind".into(), resource.kind.as_str().into());
        let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if resource.namespaced {
            if metadata.get("namespace").and_then(Value::as_str).is_some_and(|said| said != namespace) {
                let message = "the namespace of the provided object does not match the namespace sent on the request";
                return Answer::bad(message);
            }
            match self.store.get(&(NAMESPACES, String::new(), namespace.clone())) {
                None => return Answer::not_found(&resource::all()[NAMESPACES], &namespace),
                Some(found) if !found.value["metadata"]["deletionTimestamp"].is_null() => {
                    return Answer::terminating(resource, &name, &namespace);
                }
                Some(_) => {}
            }
            metadata.insert("namespace".into(), namespace.as_str().into());
        }
        keep_metadata(&mut metadata);
        for own in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            metadata.remove(own);
        }
        self.made += 1;
        let number = if self.keeps_uids && name.contains('-') && id > PODS {
            name.bytes().fold(1 << 40, |sum: u64, byte| (sum << 1 ^ u64::from(byte)) & 0xffff_ffff_ffff)
        } else {
            self.made
        };
        metadata.insert("uid".into(), uid(number).into());
        metadata.insert("creationTimestamp".into(), seconds(now).into());
        if resource.has_status {
            object.remove("status");
        }
        if let Some(schema) = &resource.schema {
            metadata.insert("generation".into(), 1.into());
            schema.prepare_object(&mut object);
        }
        if id == NAMESPACES {
            object.insert("spec".into(), json!({ "finalizers": ["kubernetes"] }));
            object.insert("status".into(), json!({ "phase": "Active" }));
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = name.as_str().into();
        }
        if id == PODS {
            object.insert("status".into(), json!({ "phase": "Pending" }));
        }
        object.insert("metadata".into(), metadata.into());
        let object = Value::Object(object);
        let mut faults = name_faults(&name);
        if let Some(schema) = &resource.schema {
            faults.extend(schema.faults(&object, None));
            faults.extend(resource.scale_faults(&object));
        }
        if !faults.is_empty() {
            return Answer::invalid(resource, &name, &faults);
        }
        if let Some(answer) = self.admission(resource, &name, true) {
            return answer;
        }
        let key = (id, namespace, name);
        if let Some(found) = self.store.get(&key) {
            let is_going = !found.value["metadata"]["deletionTimestamp"].is_null();
            return Answer::exists(resource, &key.2, is_going);
        }
        Answer::object(201, &self.store.put(key, object).text)
    }

    /// Merges a patch into an object or its status.
    fn patch(&mut self, request: &Request, key: Key, of_status: bool) -> Answer {
        let resource = &resource::all()[key.0];
        if request.content_type != "application/merge-patch+json" {
            let message = "the body of the request was in an unknown format - accepted media types include: \
                           application/merge-patch+json";
            return Answer::failure(415, "UnsupportedMediaType", message, json!({}));
        }
        let Ok(patch) = serde_json::from_slice::<Value>(&request.body) else {
            return Answer::bad("error decoding patch");
        };
        let Some(stored) = self.store.get(&key).cloned() else { return Answer::not_found(resource, &key.2) };
        let before = &stored.value;
        let mut object = before.clone();
        merge(&mut object, &patch);
        if object["metadata"]["name"] != key.2.as_str() {
            let found = object["metadata"]["name"].as_str().unwrap_or_default();
            let message = format!("the name of the object ({found}) does not match the name on the URL ({})", key.2);
            return Answer::bad(&message);
        }
        if object["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
            && !object["metadata"]["resourceVersion"].is_null()
        {
            return Answer::modified(resource, &key.2);
        }
        let same_uid = object["metadata"]["uid"].is_null() || object["metadata"]["uid"] == before["metadata"]["uid"];
        // Of a custom resource's status nothing of the metadata counts but the version; of the rest it is looked at twice.
        let uid_fault = Fault::invalid("metadata.uid", &object["metadata"]["uid"], "field is immutable");
        let is_custom = resource.schema.is_some();
        let uid_faults = if same_uid || of_status && is_custom { 0 } else { 1 + usize::from(is_custom) };
        // What nobody may change stays as it is.
        for own in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "namespace",
            "name",
        ] {
            let metadata = object["metadata"].as_object_mut().expect("just looked into");
            match before["metadata"].get(own) {
                Some(value) => metadata.insert(own.into(), value.clone()),
                None => metadata.remove(own),
            };
        }
        let members = object.as_object_mut().expect("a patched object is one");
        if of_status {
            let status = members.remove("status");
            members.clone_from(before.as_object().expect("an object"));
            match status {
                Some(status) => members.insert("status".into(), status),
                None => members.remove("status"),
            };
        } else if resource.has_status {
            match before.get("status") {
                Some(status) => members.insert("status".into(), status.clone()),
                None => members.remove("status"),
            };
        }
        for same in ["apiVersion", "kind"] {
            members.insert(same.into(), before[same].clone());
        }
        if let Some(Value::Object(metadata)) = members.get_mut("metadata") {
            keep_metadata(metadata);
        }
        let mut faults = vec![uid_fault; uid_faults];
        if let Some(schema) = &resource.schema {
            schema.prepare_object(members);
            let changed = members.iter().any(|(name, value)| {
                !matches!(name.as_str(), "metadata" | "status") && before.get(name) != Some(value)
            }) || before
                .as_object()
                .is_some_and(|before| before.keys().any(|name| !members.contains_key(name) && name != "status"));
            if changed {
                let generation = before["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
                members["metadata"]["generation"] = generation.into();
            }
            faults.extend(schema.faults(&object, Some(before)));
            faults.extend(resource.scale_faults(&object));
        }
        if !faults.is_empty() {
            return Answer::invalid(resource, &key.2, &faults);
        }
        if let Some(answer) = self.admission(resource, &key.2, false) {
            return answer;
        }
        if object == *before {
            return Answer::object(200, &stored.text);
        }
        let is_last = !object["metadata"]["deletionTimestamp"].is_null()
            && finalizers(&object) == 0
            && object["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0) == 0;
        if is_last {
            // The change itself is never stored: what is gone is what was there before it, and only the answer has it.
            let answer = Answer::object(200, &object.to_string());
            self.store.delete(key, before.clone());
            return answer;
        }
        Answer::object(200, &self.store.put(key, object).text)
    }

    /// Deletes an object as a request says.
    fn delete(&mut self, request: &Request, key: Key, now: Timestamp) -> Answer {
        let options: Value = if request.body.is_empty() {
            Value::Null
        } else {
            match serde_json::from_slice(&request.body) {
                Ok(options) => options,
                Err(_) => return Answer::bad("error decoding the options of a deletion"),
            }
        };
        self.remove(key, &options, now)
    }

    /// Deletes an object, or marks it for those who keep it.
    fn remove(&mut self, key: Key, options: &Value, now: Timestamp) -> Answer {
        let resource = &resource::all()[key.0];
        let Some(stored) = self.store.get(&key).cloned() else { return Answer::not_found(resource, &key.2) };
        let object = &stored.value;
        let wanted = &options["preconditions"];
        for (field, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let (wanted, found) = (&wanted[field], &object["metadata"][field]);
            if let (Some(wanted), Some(found)) = (wanted.as_str(), found.as_str())
                && wanted != found
            {
                if key.0 == NAMESPACES {
                    let why = format!(
                        "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {found}"
                    );
                    return Answer::conflict(resource, &key.2, &why);
                }
                let end = if name == "UID" {
                    "The object might have been deleted and then recreated"
                } else {
                    "The object might have been modified"
                };
                let why = format!(
                    "the {name} in the precondition ({wanted}) does not match the {name} in record ({found}). {end}"
                );
                return Answer::precondition(resource, &key.2, &why);
            }
        }
        if let Some(answer) = self.admission(resource, &key.2, false) {
            return answer;
        }
        let wanted = options["gracePeriodSeconds"].as_u64();
        let pending = object["metadata"]["deletionGracePeriodSeconds"].as_u64();
        let grace = match (resource.grace, pending) {
            (None, _) => 0,
            // Once it is to end, it can only be told to end sooner.
            (_, Some(pending)) => wanted.unwrap_or(pending).min(pending),
            // A pod that no node has is nobody's to end, nor is one that has ended.
            _ if object["spec"]["nodeName"].is_null() => 0,
            _ if matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) => 0,
            (Some(usual), None) => {
                wanted.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_u64()).unwrap_or(usual)
            }
        };
        let kept = finalizers(object) > 0 || key.0 == NAMESPACES || grace > 0;
        // A pod is marked also when nobody keeps it.
        if !kept && resource.grace.is_none() {
            let answer = Answer::deleted(resource, &key.2, &object["metadata"]["uid"]);
            self.store.delete(key, object.clone());
            return answer;
        }
        let mut marked = object.clone();
        let metadata = &mut marked["metadata"];
        let is_new = metadata["deletionTimestamp"].is_null();
        let is_sooner = pending.is_some_and(|pending| grace < pending);
        let changes = is_new || is_sooner;
        if is_new {
            let end = now.saturating_add(jiff::SignedDuration::from_secs(grace as i64)).unwrap_or(now);
            metadata["deletionTimestamp"] = seconds(end).into();
            if let Some(generation) = metadata["generation"].as_i64() {
                metadata["generation"] = (generation + 1).into();
            }
        }
        if key.0 == NAMESPACES {
            marked["status"]["phase"] = "Terminating".into();
        } else if changes {
            metadata["deletionGracePeriodSeconds"] = grace.into();
        }
        let marked = if changes { self.store.put(key.clone(), marked) } else { stored };
        let shown = if kept { marked } else { self.store.delete(key, marked.value.clone()) };
        Answer::object(200, &shown.text)
    }

    /// A page of a list.
    fn list(&self, request: &Request, place: &Place, selector: &Selector, stale: u64) -> Answer {
        let resource = &resource::all()[place.resource];
        let (mut version, mut after) = (self.store.version(), None);
        let token = request.parameter("continue");
        if !token.is_empty() {
            let Some(from) = Token::read(token) else {
                return Answer::bad("continue key is not valid: it cannot be read");
            };
            version = from.version.unwrap_or(version);
            if version < self.store.compacted() {
                return Answer::inconsistent(&Token { version: None, ..from }.text());
            }
            after = Some((place.resource, from.namespace, from.name));
        } else if request.parameter("resourceVersion") == "0" {
            version = stale;
        }
        // What a server has it shows as a whole.
        let is_whole = token.is_empty() && request.parameter("resourceVersion") == "0";
        let limit = request.parameter("limit").parse().ok().filter(|limit| *limit > 0 && !is_whole);
        let limit = limit.map_or(usize::MAX, |limit: usize| if self.page > 0 { limit.min(self.page) } else { limit });
        let mut items = Vec::new();
        let mut next = String::new();
        let mut left = 0_u64;
        for (key, stored) in self.store.list(place.resource, place.namespace.as_deref(), after.as_ref(), version) {
            if !selector.selects(&stored.value) {
                continue;
            }
            if items.len() < limit {
                items.push((key, &*stored.text));
            } else {
                left += 1;
                if next.is_empty()
                    && let Some(((_, namespace, name), _)) = items.last()
                {
                    next = Token { version: Some(version), namespace: namespace.clone(), name: name.clone() }.text();
                }
            }
        }
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        // Lists of Kubernetes' own kinds leave out what is empty, and what all items have.
        let is_custom = resource.schema.is_some();
        if is_custom || !next.is_empty() {
            metadata["continue"] = next.into();
        }
        if left > 0 && selector.is_all() {
            metadata["remainingItemCount"] = left.into();
        }
        let plain = |text: &str| {
            let mut object: Value = serde_json::from_str(text).expect("what is stored is JSON");
            if let Some(members) = object.as_object_mut() {
                members.remove("apiVersion");
                members.remove("kind");
            }
            object.to_string()
        };
        let texts = items.into_iter().map(|(_, text)| if is_custom { text.to_owned() } else { plain(text) });
        let texts: Vec<_> = texts.collect();
        let body = format!(
            r#"{{"apiVersion":"{}","kind":"{}List","metadata":{metadata},"items":[{}]}}"#,
            resource.api_version(),
            resource.kind,
            texts.join(",")
        );
        Answer::object(200, &body)
    }

    fn watch(&self, request: &Request, place: Place, selector: Selector) -> Reply {
        let said = request.parameter("resourceVersion");
        let (mut position, mut first) = (self.store.version(), Vec::new());
        if said.is_empty() || said == "0" {
            let all = self.store.list(place.resource, place.namespace.as_deref(), None, position);
            first = all
                .filter(|(_, stored)| selector.selects(&stored.value))
                .map(|(_, stored)| event("ADDED", &stored.text))
                .collect();
        } else {
            let Ok(from) = said.parse::<u64>() else {
                return Reply::Answer(Answer::bad(&format!("invalid resource version \"{said}\"")));
            };
            position = from;
        }
        let seconds = request.parameter("timeoutSeconds").parse().unwrap_or(WATCH_SECONDS);
        Reply::Watch(Watch {
            resource: place.resource,
            seconds,
            namespace: place.namespace,
            selector,
            bookmarks: request.is_set("allowWatchBookmarks"),
            position,
            first,
        })
    }

    /// What is to be told to a watch, up to this version; after an error it ends.
    pub fn events(&self, watch: &mut Watch, up_to: u64) -> Result<Vec<String>, Vec<String>> {
        let mut events = std::mem::take(&mut watch.first);
        if watch.position < self.store.compacted() {
            let message = format!("too old resource version: {} ({})", watch.position, self.store.compacted());
            events.push(event("ERROR", &Answer::expired(&message).body));
            return Err(events);
        }
        for change in self.store.changes_after(watch.position).iter().take_while(|change| change.version <= up_to) {
            let (resource, namespace, _) = &change.key;
            if *resource != watch.resource || watch.namespace.as_ref().is_some_and(|wanted| wanted != namespace) {
                continue;
            }
            let was = change.before.as_ref().is_some_and(|before| watch.selector.selects(&before.value));
            let is = !change.deleted && watch.selector.selects(&change.object.value);
            match (was, is) {
                (false, true) => events.push(event("ADDED", &change.object.text)),
                (true, true) => events.push(event("MODIFIED", &change.object.text)),
                (true, false) => events.push(event("DELETED", &gone(change))),
                (false, false) => {}
            }
        }
        watch.position = watch.position.max(up_to);
        Ok(events)
    }

    /// What a watch is told at times, so that it can go on from there.
    pub fn bookmark(&self, watch: &Watch) -> Option<String> {
        let resource = &resource::all()[watch.resource];
        watch.bookmarks.then(|| {
            let object = json!({
                "apiVersion": resource.api_version(), "kind": resource.kind,
                "metadata": { "resourceVersion": watch.position.to_string() },
            });
            event("BOOKMARK", &object.to_string())
        })
    }

    /// What Kubernetes' controllers do in a turn: they delete what has no owner any more, and what is in namespaces that are
    /// to go, of one kind after the other; and such a namespace when nothing was left in it. A pod's kubelet has ended it
    /// at once.
    pub fn control(&mut self, now: Timestamp) {
        for key in self.orphans() {
            self.remove(key, &Value::Null, now);
        }
        let at_once = json!({ "gracePeriodSeconds": 0 });
        for (namespace, content) in self.terminating() {
            if content.is_empty() {
                self.purge(&namespace);
            }
            // What somebody keeps is marked, and stays.
            let before = self.store.version();
            for of_a_kind in content.chunk_by(|one, next| one.0 == next.0) {
                for key in of_a_kind {
                    self.remove(key.clone(), &at_once, now);
                }
                if self.store.version() != before {
                    break;
                }
            }
        }
    }

    /// Objects all of whose owners are gone: what the garbage collector deletes.
    fn orphans(&self) -> Vec<Key> {
        let mut orphans = Vec::new();
        let is_collected = |id: &usize| !self.keeps_arrivals || resource::all()[*id].kind != "Arrival";
        for id in (0..resource::all().len()).filter(is_collected) {
            for (key, stored) in self.store.list(id, None, None, u64::MAX) {
                let owners = stored.value["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
                if !owners.is_empty()
                    && stored.value["metadata"]["deletionTimestamp"].is_null()
                    && !owners.iter().any(|owner| self.owner_is_there(&key.1, owner))
                {
                    orphans.push(key.clone());
                }
            }
        }
        orphans
    }

    fn owner_is_there(&self, namespace: &str, owner: &Value) -> bool {
        let kind =
            |resource: &&Resource| resource.kind == owner["kind"] && resource.api_version() == owner["apiVersion"];
        let Some(id) = resource::all().iter().position(|resource| kind(&resource)) else { return true };
        let namespace = if resource::all()[id].namespaced { namespace.to_owned() } else { String::new() };
        let key = (id, namespace, owner["name"].as_str().unwrap_or_default().to_owned());
        self.store.get(&key).is_some_and(|found| found.value["metadata"]["uid"] == owner["uid"])
    }

    /// Namespaces that are to go, and what is left in each.
    fn terminating(&self) -> Vec<(Key, Vec<Key>)> {
        let namespaces = self.store.list(NAMESPACES, None, None, u64::MAX);
        let terminating = namespaces.filter(|(_, stored)| !stored.value["metadata"]["deletionTimestamp"].is_null());
        let content = |name: &str| {
            let all = (0..resource::all().len()).filter(|id| resource::all()[*id].namespaced);
            all.flat_map(|id| {
                self.store.list(id, Some(name), None, u64::MAX).map(|(key, _)| key.clone()).collect::<Vec<_>>()
            })
            .collect()
        };
        terminating.map(|(key, _)| (key.clone(), content(&key.2))).collect()
    }

    /// Takes an object away whatever it says: what a kubelet or a controller does in the end.
    pub fn purge(&mut self, key: &Key) {
        if let Some(stored) = self.store.get(key).cloned() {
            self.store.delete(key.clone(), stored.value.clone());
        }
    }
}

/// The text of an object that a watch does not select any more.
fn gone(change: &Change) -> String {
    match &change.before {
        // What it was when it was last selected, at the version at which it no longer is.
        Some(before) if !change.deleted => {
            let mut value = before.value.clone();
            value["metadata"]["resourceVersion"] = change.version.to_string().into();
            value.to_string()
        }
        _ => change.object.text.clone(),
    }
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// Where a list goes on.
struct Token {
    /// With what there was at this version; `None`: with what there is.
    version: Option<u64>,
    namespace: String,
    name: String,
}

impl Token {
    fn text(&self) -> String {
        let version = self.version.map(|version| version.to_string()).unwrap_or_default();
        format!("{version}~{}~{}", self.namespace, self.name)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('~');
        let (version, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        let version = if version.is_empty() { None } else { Some(version.parse().ok()?) };
        Some(Self { version, namespace: namespace.into(), name: name.into() })
    }
}

/// The resource that a path is of.
pub(crate) fn resource_of(path: &str) -> Option<ResourceId> {
    place(path).map(|place| place.resource)
}

fn place(path: &str) -> Option<Place> {
    let mut parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let group = match parts.first().copied()? {
        "api" => {
            parts.drain(..1);
            ""
        }
        "apis" => {
            let group = *parts.get(1)?;
            parts.drain(..2);
            group
        }
        _ => return None,
    };
    let version = (!parts.is_empty()).then(|| parts.remove(0))?;
    let namespace = (parts.len() > 2 && parts[0] == "namespaces" && parts[2] != "status").then(|| parts[1].to_owned());
    if namespace.is_some() {
        parts.drain(..2);
    }
    let plural = *parts.first()?;
    let found = resource::all()
        .iter()
        .position(|resource| resource.group == group && resource.version == version && resource.plural == plural)?;
    let resource = &resource::all()[found];
    let fits = resource.namespaced || namespace.is_none();
    let part = |at: usize| parts.get(at).map(|part| plain(part));
    let place = Place { resource: found, namespace, name: part(1), subresource: part(2) };
    // One object is in one namespace.
    (fits && parts.len() <= 3 && (place.name.is_none() || !resource.namespaced || place.namespace.is_some()))
        .then_some(place)
}

/// A merge patch (RFC 7396).
pub fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let members = object.as_object_mut().expect("just made one");
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Metadata is read into a type: what that does not know is left out, and so is what is empty.
fn keep_metadata(metadata: &mut Map<String, Value>) {
    const KNOWN: [&str; 13] = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "generateName",
    ];
    metadata.retain(|name, value| {
        let is_empty = match &*value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => false,
        };
        KNOWN.contains(&name.as_str()) && !is_empty
    });
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}

fn name_faults(name: &str) -> Vec<Fault> {
    if name.is_empty() {
        let message = "Required value: name or generateName is required".into();
        return vec![Fault { reason: "FieldValueRequired", message, field: "metadata.name".into() }];
    }
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label =
        |label: &str| label.starts_with(ends) && label.ends_with(ends) && label.chars().all(|c| ends(c) || c == '-');
    if name.len() <= 253 && name.split('.').all(label) {
        return Vec::new();
    }
    let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
               and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
               '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    vec![Fault::invalid("metadata.name", &name.into(), why)]
}

/// The UID of the object that is made as this one. No two of a server's are the same.
fn uid(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-{:04x}-4000-8000-{number:012x}", mixed >> 32, mixed & 0xffff)
}

/// As metadata tells times.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
