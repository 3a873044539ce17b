//! HTTP: one request and what its answer means to a protocol; a watch as a stream of what was seen.

use std::{fmt::Display, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use konductor_api::{GoDuration, limits::PROOF_OF_LIFE};
use konductor_cluster::{
    Boottime, Line, Link,
    link::{PING, PONG},
    moments,
};
use kube::{
    client::Body,
    core::{Status, WatchEvent, response::StatusDetails},
};
use serde::de::DeserializeOwned;

use crate::{
    chain,
    protocol::{Failure, WatchEnd, limits},
};

/// Largest answer that is read: more than etcd stores of one object.
const ANSWER: usize = 4 << 20;

/// How much of an answer that is not the API's own is shown.
const SHOWN: usize = 300;

/// How long one watch may last, in seconds: the server would end it after half an hour to an hour anyway; spread, so that
/// ten thousand of them do not end at once.
const WATCH: (u64, u64) = (1800, 600);

/// The same of a watch that may be one for nothing: see [`Spans`].
const FIRST_WATCH: (u64, u64) = (60, 30);

/// How much sooner than by its span a watch may end in its time: the server's clock is another one.
const WATCH_SLACK: Duration = Duration::from_secs(1);

/// How long opening a watch may take.
const OPEN_WATCH: Duration = Duration::from_secs(10);

/// A waiter that the operator asks whether it lives, at the moment when its watch goes silently dead, notices that and
/// has renewed in time.
const _: () = {
    let answered = PING.saturating_add(PONG).saturating_add(limits::REQUEST);
    assert!(answered.as_millis() < PROOF_OF_LIFE.as_millis(), "a waiter with a dead watch would lose its place");
};

/// A request under way.
pub(crate) type Calling<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// A request with its body.
pub(super) type Outgoing = http::Request<Vec<u8>>;

/// What a request is about: only of this can an answer say that there is none.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// All objects of a kind: to list them, or to create one.
    All,
    /// The object of this name.
    Named(String),
    /// The object of this name, if it has this UID.
    One {
        /// The object's name.
        name: String,
        /// The object's UID.
        uid: String,
    },
}

impl Subject {
    /// Whether it is this object that is not there. API servers say no UID today; where one does, it must be the right
    /// one.
    fn is_meant_by(&self, details: &StatusDetails) -> bool {
        match self {
            Self::All => false,
            Self::Named(name) => details.name == *name,
            Self::One { name, uid } => details.name == *name && (details.uid.is_empty() || details.uid == *uid),
        }
    }
}

pub(super) fn request(
    link: &Link,
    method: Method,
    path: String,
    content_type: &'static str,
    body: serde_json::Result<Vec<u8>>,
) -> Result<Outgoing, Failure> {
    // Who writes says who it is.
    let path = match method {
        Method::POST | Method::PATCH => format!("{path}?fieldManager={}", link.program().field_manager()),
        _ => path,
    };
    let mut request = http::Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let body = body.map_err(|error| Failure::Refused(chain(&error)))?;
    request.body(body).map_err(|error| Failure::Refused(chain(&error)))
}

/// Sends `request` about `subject` and reads the answer's body. Credentials that are not accepted are read again, once; and
/// who refuses is asked whether it is ready.
pub(super) async fn send(
    link: &Link,
    request: Outgoing,
    subject: &Subject,
    within: Duration,
) -> Result<Vec<u8>, Failure> {
    let first = link.line().map_err(|error| transient(chain(&*error)))?;
    let generation = first.generation;
    let sending = async {
        let answer = match exchange(first, request.clone(), subject).await {
            Err(Trouble::Unauthorized(_)) => {
                link.renew(generation).await.map_err(|error| transient(chain(&*error)))?;
                let second = link.line().map_err(|error| transient(chain(&*error)))?;
                exchange(second, request, subject).await.map_err(Trouble::into_failure)
            }
            other => other.map_err(Trouble::into_failure),
        };
        match answer {
            Err(refusal @ (Failure::Refused(_) | Failure::NotServed(_) | Failure::NoNamespace(_)))
                if !is_ready(link).await =>
            {
                Err(Failure::Unready(Box::new(refusal)))
            }
            answer => answer,
        }
    };
    if let Ok(answer) = tokio::time::timeout(within, sending).await {
        return answer;
    }
    // The next request gets a connection of its own: this one may be dead.
    if let Err(error) = link.reconnect(generation).await {
        tracing::debug!("cannot set up a new connection: {}", chain(&*error));
    }
    let late = || format!("no answer within {}", GoDuration(within));
    Err(transient(link.is_logging_in().unwrap_or_else(late)))
}

/// Whether the API server says that it is ready. One that refuses to say so may have read no rules yet, or may have been
/// told to say it to nobody (usually all may ask, by `system:public-info-viewer`).
async fn is_ready(link: &Link) -> bool {
    let question = request(link, Method::GET, "/readyz".into(), "", Ok(Vec::new()));
    let (Ok(now), Ok(question)) = (link.line(), question) else { return false };
    exchange(now, question, &Subject::All).await.is_ok()
}

#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    Unauthorized(String),
    Other(Failure),
}

impl Trouble {
    fn into_failure(self) -> Failure {
        match self {
            Self::Unauthorized(message) => Failure::Refused(message),
            Self::Other(failure) => failure,
        }
    }
}

async fn exchange(line: Line, request: Outgoing, subject: &Subject) -> Result<Vec<u8>, Trouble> {
    let method = request.method().clone();
    let request = line.sign(request).map(Body::from);
    let [asked, answered] = steps(&method);
    moments::note(asked);
    let response = line.client.send(request).await.map_err(|error| Trouble::Other(transient(chain(&error))))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    let body = body.map_err(|error| Trouble::Other(transient(chain(&*error))))?.to_bytes();
    moments::note(answered);
    if status.is_success() {
        return Ok(body.into());
    }
    Err(trouble(status, &headers, &body, &method, subject))
}

/// The steps of a request and of its answer.
fn steps(method: &Method) -> [&'static str; 2] {
    match *method {
        Method::POST => ["create", "create answered"],
        Method::PATCH => ["renewal", "renewal answered"],
        Method::DELETE => ["delete", "delete answered"],
        _ => ["read", "read answered"],
    }
}

/// What an answer that is no success means.
fn trouble(status: StatusCode, headers: &http::HeaderMap, body: &[u8], method: &Method, subject: &Subject) -> Trouble {
    let (creates, renews) = (method == Method::POST, method == Method::PATCH);
    let said: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = match said.message.as_str() {
        "" => format!("{status}: {}", shown(&String::from_utf8_lossy(body))),
        message => message.to_owned(),
    };
    let transient = |message| Trouble::Other(Failure::Transient { message, retry_after: retry_after(headers) });
    match status {
        StatusCode::UNAUTHORIZED => Trouble::Unauthorized(message),
        StatusCode::NOT_FOUND => {
            let details = said.details.as_ref();
            match subject {
                Subject::All if details.is_some_and(|details| details.kind == "namespaces") => {
                    Trouble::Other(Failure::NoNamespace(message))
                }
                Subject::All => Trouble::Other(Failure::NotServed(message)),
                subject if details.is_some_and(|details| subject.is_meant_by(details)) => {
                    Trouble::Other(Failure::Missing(message))
                }
                // A proxy's page, or an API server that does not serve the resource yet: it says nothing of the object.
                Subject::Named(_) | Subject::One { .. } => transient(message),
            }
        }
        StatusCode::CONFLICT if creates && said.reason == "AlreadyExists" => Trouble::Other(Failure::Taken),
        // Of a create, a conflict is about something else, like a quota that is being counted.
        StatusCode::CONFLICT if !creates => Trouble::Other(Failure::Conflict(message)),
        // What a merge patch with the UID of another object meets: UIDs cannot be changed. Anything else that is not
        // valid is refused.
        StatusCode::UNPROCESSABLE_ENTITY if renews && is_another(said.details.as_ref()) => {
            Trouble::Other(Failure::Conflict(message))
        }
        StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::GONE | StatusCode::TOO_MANY_REQUESTS => {
            transient(message)
        }
        StatusCode::FORBIDDEN if creates && quota(&message).is_some() => {
            Trouble::Other(Failure::QuotaUsedUp(quota(&message).unwrap_or_default().to_owned()))
        }
        StatusCode::FORBIDDEN if is_terminating(said.details.as_ref()) => Trouble::Other(Failure::Terminating(message)),
        status if status.is_client_error() => Trouble::Other(Failure::Refused(message)),
        _ => transient(message),
    }
}

/// Whether something cannot be created because its namespace is being deleted.
fn is_terminating(details: Option<&StatusDetails>) -> bool {
    details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// Whether an object is not the one whose UID was sent.
fn is_another(details: Option<&StatusDetails>) -> bool {
    details.is_some_and(|details| details.causes.iter().any(|cause| cause.field == "metadata.uid"))
}

/// What a `ResourceQuota` says that has no room for one more, or whose room is not known yet. It comes as a 403 without
/// any word for programs, so it is known by the API server's sentence (`apiserver/pkg/admission/plugin/resourcequota`).
fn quota(message: &str) -> Option<&str> {
    let (_, why) = message.split_once(" is forbidden: ")?;
    ["exceeded quota: ", "status unknown for quota: "].iter().any(|words| why.starts_with(words)).then_some(why)
}

/// In seconds; API servers do not send dates.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// How long the watches of one object may last, one after another.
///
/// When the API server's etcd is restored from a backup between an answer and the watch from its version, the object may be
/// gone, and the watch waits for a version that is still to come: nothing is told until it ends. All connections end with a
/// restored etcd. So the first watch is short, and so is each after one that did not end in its time; what is read after
/// it tells.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    /// When the watch was opened that is open, and for how long.
    open: Option<(Boottime, Duration)>,
    /// Whether the last one has ended in its time.
    is_steady: bool,
}

impl Spans {
    /// A watch is opened. Returns for how many seconds.
    pub(crate) fn opened(&mut self, now: Boottime, chance: u64) -> u64 {
        let (least, spread) = if self.is_steady { WATCH } else { FIRST_WATCH };
        let seconds = least + chance % spread;
        self.open = Some((now, Duration::from_secs(seconds)));
        seconds
    }

    /// The watch has ended.
    pub(crate) fn ended(&mut self, end: &WatchEnd, now: Boottime) {
        let open = self.open.take();
        let in_time = open.is_some_and(|(since, span)| now.since(since) + WATCH_SLACK >= span);
        self.is_steady = *end == WatchEnd::Closed && in_time;
    }
}

/// The path that watches what is called `name` among `objects` from `version`, for so many seconds.
pub(super) fn watch_of(objects: &str, name: &str, version: impl Display, seconds: u64) -> String {
    format!(
        "{objects}?watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion={version}&timeoutSeconds={seconds}"
    )
}

/// A watch, as what its events mean to a protocol. The last item says why it has ended.
pub(crate) struct Watch<I>(Option<Items<I>>);

type Items<I> = Pin<Box<dyn Stream<Item = Result<I, WatchEnd>> + Send>>;

impl<I: Send + 'static> Watch<I> {
    /// A watch of nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The watch at `path`, whose events mean what `read` says. Bookmarks and errors need no reading.
    pub(super) fn of<T: DeserializeOwned + Clone + Send + 'static>(
        link: &Arc<Link>,
        path: String,
        read: fn(WatchEvent<T>) -> Result<Option<I>, WatchEnd>,
    ) -> Self {
        let read = move |event| match event {
            Ok(WatchEvent::Error(status)) => Err(watch_end(&kube::Error::Api(status))),
            Ok(event) => read(event),
            Err(error) => Err(watch_end(&error)),
        };
        let items = futures::stream::once(open::<T>(link.clone(), path)).flat_map(move |opened| match opened {
            Err(end) => futures::stream::iter([Err(end)]).boxed(),
            Ok(events) => {
                let items = events.filter_map(move |event| std::future::ready(read(event).transpose()));
                items.chain(futures::stream::iter([Err(WatchEnd::Closed)])).boxed()
            }
        });
        Self(Some(items.boxed()))
    }

    /// What comes next; never, when nothing more does.
    pub(crate) async fn next(&mut self) -> Result<I, WatchEnd> {
        if let Some(items) = &mut self.0
            && let Some(item) = items.next().await
        {
            if item.is_err() {
                self.0 = None;
            }
            return item;
        }
        std::future::pending().await
    }
}

type Events<T> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<T>>> + Send>>;

async fn open<T: DeserializeOwned + Clone + Send + 'static>(
    link: Arc<Link>,
    path: String,
) -> Result<Events<T>, WatchEnd> {
    let request = request(&link, Method::GET, path, "", Ok(Vec::new()))
        .map_err(|failure| WatchEnd::Failed(failure.into_parts().0))?;
    let now = link.line().map_err(|error| WatchEnd::Failed(chain(&*error)))?;
    let generation = now.generation;
    let opening = now.client.request_events::<T>(now.sign(request));
    moments::note("watch");
    match tokio::time::timeout(OPEN_WATCH, opening).await {
        Ok(Ok(events)) => {
            moments::note("watch opened");
            Ok(Box::pin(events))
        }
        Ok(Err(error)) => {
            if matches!(&error, kube::Error::Api(status) if status.code == 401)
                && let Err(error) = link.renew(generation).await
            {
                tracing::debug!("cannot read the credentials again: {}", chain(&*error));
            }
            Err(watch_end(&error))
        }
        Err(_) => Err(WatchEnd::Failed(format!("no answer within {}", GoDuration(OPEN_WATCH)))),
    }
}

fn watch_end(error: &kube::Error) -> WatchEnd {
    match error {
        kube::Error::Api(status) => match status.code {
            410 => WatchEnd::Outdated,
            403 => WatchEnd::Refused(status.message.clone()),
            _ => WatchEnd::Failed(status.message.clone()),
        },
        other => WatchEnd::Failed(chain(other)),
    }
}

pub(super) fn transient(message: impl Into<String>) -> Failure {
    Failure::Transient { message: message.into(), retry_after: None }
}

pub(super) fn unreadable(error: &serde_json::Error) -> Failure {
    transient(format!("cannot read the API server's answer: {error}"))
}

fn shown(text: &str) -> &str {
    let text = text.trim();
    &text[..text.floor_char_boundary(SHOWN)]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Client, ConnectOptions, Program, connect::Target};

    const PAGE: &str = "404 page not found\n";

    /// What a 404 with this body means to a request.
    fn not_found(body: &str, method: &Method, subject: &Subject) -> Failure {
        let headers = http::HeaderMap::new();
        let trouble = trouble(StatusCode::NOT_FOUND, &headers, body.as_bytes(), method, subject);
        trouble.into_failure()
    }

    fn said(message: &str, details: &Value) -> String {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound",
            "code": 404, "message": message, "details": details,
        });
        status.to_string()
    }

    fn one(name: &str, uid: &str) -> Subject {
        Subject::One { name: name.into(), uid: uid.into() }
    }

    #[test]
    fn a_watch_is_long_only_after_one_that_ended_in_its_time() {
        let at = |seconds| Boottime(Duration::from_secs(seconds));
        let mut spans = Spans::default();
        assert_eq!(spans.opened(at(0), 5), 65);
        spans.ended(&WatchEnd::Closed, at(64));
        assert_eq!(spans.opened(at(64), 601), 1801, "it has ended in its time, by the server's clock");
        spans.ended(&WatchEnd::Closed, at(1000));
        assert_eq!(spans.opened(at(1000), 0), 60, "an API server has ended before the watch");
        spans.ended(&WatchEnd::Failed("reset".into()), at(1060));
        assert_eq!(spans.opened(at(1070), 0), 60, "a connection was cut");
        spans.ended(&WatchEnd::Outdated, at(1200));
        assert_eq!(spans.opened(at(1200), 0), 60, "what came meanwhile is not known");
    }

    #[tokio::test]
    async fn every_write_says_whose_it_is() {
        let etl = ConnectOptions { program: Program::new("etl"), ..ConnectOptions::default() };
        for (options, manager) in [(etl, "etl"), (ConnectOptions::default(), "konductor-sdk")] {
            let config = kube::Config::new("http://127.0.0.1:1".parse().expect("a URI"));
            let client = Client::from_config(config, options).expect("a client");
            let Target::Cluster(cluster) = client.0 else { panic!("no cluster") };
            for (method, writes) in
                [(Method::GET, false), (Method::DELETE, false), (Method::POST, true), (Method::PATCH, true)]
            {
                let request = request(&cluster.link, method, "/a".into(), "", Ok(Vec::new())).expect("a request");
                let expected = writes.then(|| format!("fieldManager={manager}"));
                assert_eq!(request.uri().query(), expected.as_deref());
            }
        }
    }

    #[test]
    fn an_object_is_missing_only_when_the_answer_names_it() {
        let message = r#"permits.konductor.io "a" not found"#;
        let named = json!({ "name": "a", "group": "konductor.io", "kind": "permits" });
        let with_uid = json!({ "name": "a", "group": "konductor.io", "kind": "permits", "uid": "u" });
        for (why, method, subject, body, missing) in [
            ("it is named", Method::GET, Subject::Named("a".into()), said(message, &named), true),
            ("it is named, of which one UID is meant", Method::PATCH, one("a", "u"), said(message, &named), true),
            ("it is the one", Method::DELETE, one("a", "u"), said(message, &with_uid), true),
            ("another is named", Method::GET, Subject::Named("b".into()), said(message, &named), false),
            ("another UID is named", Method::PATCH, one("a", "v"), said(message, &with_uid), false),
            ("the resource is not served", Method::PATCH, one("a", "u"), PAGE.into(), false),
            ("the version is not served", Method::GET, Subject::Named("a".into()), said("no such", &json!({})), false),
            ("a proxy has a page", Method::DELETE, one("a", "u"), "<html>a not found</html>".into(), false),
            ("nothing is said", Method::GET, Subject::Named("a".into()), String::new(), false),
        ] {
            let failure = not_found(&body, &method, &subject);
            assert_eq!(matches!(failure, Failure::Missing(_)), missing, "{why}: {failure:?}");
            assert_eq!(matches!(failure, Failure::Transient { .. }), !missing, "{why}: {failure:?}");
        }
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_told_from_other_refusals() {
        let message = r#"permits.konductor.io "a" is forbidden: unable to create new content in namespace etl because it is being terminated"#;
        let refusal = |causes: Value| {
            let details = json!({ "name": "a", "group": "konductor.io", "kind": "permits", "causes": causes });
            let status = json!({ "status": "Failure", "reason": "Forbidden", "message": message, "details": details });
            let (body, headers) = (status.to_string(), http::HeaderMap::new());
            trouble(StatusCode::FORBIDDEN, &headers, body.as_bytes(), &Method::POST, &Subject::All).into_failure()
        };
        let terminating = json!([{
            "reason": "NamespaceTerminating", "field": "metadata.namespace", "message": "namespace etl is being terminated",
        }]);
        assert_eq!(refusal(terminating), Failure::Terminating(message.into()));
        assert_eq!(refusal(json!([])), Failure::Refused(message.into()));
    }

    #[test]
    fn a_renewal_meets_another_object_only_if_the_answer_names_the_uid() {
        let answer = |method: &Method, causes: Value| {
            let details = json!({ "name": "a", "group": "konductor.io", "kind": "Permit", "causes": causes });
            let status = json!({ "status": "Failure", "reason": "Invalid", "message": "no", "details": details });
            let (body, headers) = (status.to_string(), http::HeaderMap::new());
            trouble(StatusCode::UNPROCESSABLE_ENTITY, &headers, body.as_bytes(), method, &one("a", "u")).into_failure()
        };
        let cause = |field: &str| json!([{ "reason": "FieldValueInvalid", "field": field, "message": "immutable" }]);
        let (conflict, refused) = (Failure::Conflict("no".into()), Failure::Refused("no".into()));
        assert_eq!(answer(&Method::PATCH, cause("metadata.uid")), conflict);
        for causes in [cause("spec.renewTime"), cause(""), json!([])] {
            assert_eq!(answer(&Method::PATCH, causes.clone()), refused, "{causes}");
        }
        assert_eq!(answer(&Method::POST, cause("metadata.uid")), refused);
    }

    #[test]
    fn a_quota_that_is_used_up_is_told_from_other_refusals() {
        let answer = |method: &Method, why: &str| {
            let message = format!(r#"permits.konductor.io "a" is forbidden: {why}"#);
            let status = json!({ "status": "Failure", "reason": "Forbidden", "message": message });
            let (body, headers) = (status.to_string(), http::HeaderMap::new());
            trouble(StatusCode::FORBIDDEN, &headers, body.as_bytes(), method, &Subject::All).into_failure()
        };
        let count = "count/permits.konductor.io=1";
        for why in [
            format!("exceeded quota: claims, requested: {count}, used: {count}, limited: {count}"),
            format!("status unknown for quota: claims, resources: {count}"),
        ] {
            assert_eq!(answer(&Method::POST, &why), Failure::QuotaUsedUp(why.clone()));
            assert!(matches!(answer(&Method::PATCH, &why), Failure::Refused(_)), "a renewal takes no room");
        }
        for why in [
            "User \"x\" cannot create resource \"permits\"",
            "ValidatingAdmissionPolicy 'quota' denied request: exceeded quota: of our own",
        ] {
            assert!(matches!(answer(&Method::POST, why), Failure::Refused(_)), "{why}");
        }
    }

    #[test]
    fn what_is_missing_for_a_create_or_a_list_is_the_namespace_or_the_resource() {
        let message = r#"namespaces "etl" not found"#;
        let namespace = said(message, &json!({ "name": "etl", "kind": "namespaces" }));
        for method in [Method::POST, Method::GET] {
            let failure = not_found(&namespace, &method, &Subject::All);
            assert_eq!(failure, Failure::NoNamespace(message.into()));
            let failure = not_found(PAGE, &method, &Subject::All);
            assert_eq!(failure, Failure::NotServed("404 Not Found: 404 page not found".into()));
        }
    }
}
