//! Each request of the protocol as one HTTP request, and each answer as the protocol's word for it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use konductor_api::{
    ClaimSpec, GoDuration, Lease, LeaseRequest, LeaseRequestSpec, Lock, Permit, PermitSpec, Semaphore,
    claim::renewal_patch,
};
use kube::{
    Resource,
    client::Body,
    core::{Status, WatchEvent},
};

use super::{
    Link,
    shape::{AnyClaim, AnyParent, text},
};
use crate::{
    Request, Wanted, chain,
    connect::Cluster,
    protocol::{Answer, Call, Failure, Input, ParentSeen, WatchEnd},
};

/// Largest answer that is read: more than etcd stores of one object.
const ANSWER: usize = 4 << 20;

/// How much of an answer that is not the API's own is shown.
const SHOWN: usize = 300;

/// How long one watch may last: the server would end it after half an hour to an hour anyway; spread, so that ten
/// thousand of them do not end at once.
const WATCH: (u64, u64) = (1800, 600);

/// How long opening a watch may take.
const OPEN_WATCH: Duration = Duration::from_secs(10);

/// The requests of one claim.
pub(crate) struct Backend {
    link: Arc<Link>,
    claims: String,
    parent: String,
    request: Request,
    /// When the last renewal says that it was sent: no two may say the same.
    renew_time: Timestamp,
}

/// Where the locks of a kind are, and the claims on them.
fn paths<L: Lock>(namespace: &str) -> (String, String) {
    (L::url_path(&(), Some(namespace)), L::Claim::url_path(&(), Some(namespace)))
}

/// A request under way.
pub(crate) type Calling<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

impl Backend {
    pub(crate) fn new(cluster: &Cluster, request: Request) -> Self {
        let (locks, claims) = match &request.wanted {
            Wanted::Lease { .. } => paths::<Lease>(&cluster.namespace),
            Wanted::Semaphore { .. } => paths::<Semaphore>(&cluster.namespace),
        };
        Self {
            link: cluster.link.clone(),
            claims,
            parent: format!("{locks}/{}", request.wanted.name()),
            request,
            renew_time: Timestamp::MIN,
        }
    }

    pub(crate) fn call(&mut self, call: &Call, within: Duration) -> Calling<Answer> {
        let claims = self.claims.clone();
        let request = match call {
            Call::Create { name, instance } => {
                let body = self.claim(name, instance);
                request(Method::POST, claims, "application/json", body)
            }
            Call::Read { name } => request(Method::GET, format!("{claims}/{name}"), "", Ok(Vec::new())),
            Call::Renew { name, uid } => {
                let body = serde_json::to_vec(&renewal_patch(uid, self.next_renew_time()));
                request(Method::PATCH, format!("{claims}/{name}"), "application/merge-patch+json", body)
            }
            Call::Delete { name, uid } => {
                let body = serde_json::to_vec(&serde_json::json!({ "preconditions": { "uid": uid } }));
                request(Method::DELETE, format!("{claims}/{name}"), "application/json", body)
            }
        };
        let (link, call) = (self.link.clone(), call.clone());
        Box::pin(async move {
            let body = send(&link, request?, within).await?;
            match call {
                Call::Delete { .. } => Ok(Answer::Deleted),
                Call::Create { .. } | Call::Read { .. } | Call::Renew { .. } => {
                    let claim: AnyClaim = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
                    claim
                        .sighting()
                        .map(Answer::Claim)
                        .ok_or_else(|| transient("the API server's answer lacks a UID or version"))
                }
            }
        })
    }

    pub(crate) fn ask_parent(&self, latest: bool, within: Duration) -> Calling<ParentSeen> {
        // Without a resource version the answer is the latest state, confirmed by a quorum; with 0, what the server has.
        let path = if latest { self.parent.clone() } else { format!("{}?resourceVersion=0", self.parent) };
        let (link, request) = (self.link.clone(), request(Method::GET, path, "", Ok(Vec::new())));
        Box::pin(async move {
            match send(&link, request?, within).await {
                Ok(body) => {
                    let parent: AnyParent = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
                    Ok(ParentSeen::Term(parent.term()))
                }
                Err(Failure::Missing(_)) => Ok(ParentSeen::Missing),
                Err(failure) => Err(failure),
            }
        })
    }

    /// Watches the claim of this name from `version`. The last input is [`Input::WatchEnded`].
    pub(crate) fn watch(&self, name: &str, version: u64, chance: u64) -> Watch {
        let path = format!(
            "{}?watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion={version}&timeoutSeconds={}",
            self.claims,
            WATCH.0 + chance % WATCH.1
        );
        Watch(Some(Box::pin(events(self.link.clone(), path))))
    }

    /// The claim to create, as text.
    fn claim(&self, name: &str, instance: &str) -> serde_json::Result<Vec<u8>> {
        let request = &self.request;
        let claim = ClaimSpec {
            priority: request.priority,
            holder: request.holder.clone(),
            instance: instance.into(),
            pod: request.pod.clone(),
            ttl: request.ttl.map(GoDuration),
            renew_time: None,
        };
        match request.wanted.clone() {
            Wanted::Lease { name: lease } => text::<LeaseRequest>(name, LeaseRequestSpec { lease, claim }),
            Wanted::Semaphore { name: semaphore, permits } => {
                text::<Permit>(name, PermitSpec { semaphore, permits, claim })
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "shown to people; that it changes is what counts")]
    fn next_renew_time(&mut self) -> Timestamp {
        // A wall clock that was set back must not repeat a value, and the API keeps microseconds.
        let after_last = self.renew_time.as_microsecond().saturating_add(1);
        let next = Timestamp::from_microsecond(Timestamp::now().as_microsecond().max(after_last));
        self.renew_time = next.unwrap_or(Timestamp::MAX);
        self.renew_time
    }
}

type Outgoing = http::Request<Vec<u8>>;

fn request(
    method: Method,
    path: String,
    content_type: &'static str,
    body: serde_json::Result<Vec<u8>>,
) -> Result<Outgoing, Failure> {
    let mut request = http::Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let body = body.map_err(|error| Failure::Refused(chain(&error)))?;
    request.body(body).map_err(|error| Failure::Refused(chain(&error)))
}

/// Sends `request` and reads the answer's body. Credentials that are not accepted are read again, once.
async fn send(link: &Link, request: Outgoing, within: Duration) -> Result<Vec<u8>, Failure> {
    let first = link.line().map_err(|error| transient(chain(&*error)))?;
    let generation = first.generation;
    let sending = async {
        match exchange(first, request.clone()).await {
            Err(Trouble::Unauthorized(_)) => {
                link.renew(generation).await.map_err(|error| transient(chain(&*error)))?;
                let second = link.line().map_err(|error| transient(chain(&*error)))?;
                exchange(second, request).await.map_err(Trouble::into_failure)
            }
            other => other.map_err(Trouble::into_failure),
        }
    };
    if let Ok(answer) = tokio::time::timeout(within, sending).await {
        return answer;
    }
    // The next request gets a connection of its own: this one may be dead. (With an exec plugin this may take long, and
    // this request's time is up.)
    if link.is_quick_to_renew()
        && let Err(error) = link.renew(generation).await
    {
        tracing::debug!("cannot set up a new connection: {}", chain(&*error));
    }
    Err(transient(format!("no answer within {}", GoDuration(within))))
}

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

async fn exchange(line: super::link::Line, request: Outgoing) -> Result<Vec<u8>, Trouble> {
    let (creates, renews) = (request.method() == Method::POST, request.method() == Method::PATCH);
    let request = line.sign(request).map(Body::from);
    let response = line.client.send(request).await.map_err(|error| Trouble::Other(transient(chain(&error))))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    let body = body.map_err(|error| Trouble::Other(transient(chain(&*error))))?.to_bytes();
    if status.is_success() {
        return Ok(body.into());
    }
    let said: Status = serde_json::from_slice(&body).unwrap_or_default();
    let message = match said.message.as_str() {
        "" => format!("{status}: {}", shown(&String::from_utf8_lossy(&body))),
        message => message.to_owned(),
    };
    Err(match status {
        StatusCode::UNAUTHORIZED => Trouble::Unauthorized(message),
        StatusCode::NOT_FOUND => Trouble::Other(Failure::Missing(message)),
        StatusCode::CONFLICT if creates && said.reason == "AlreadyExists" => Trouble::Other(Failure::Taken),
        // Of a create, a conflict is about something else, like a quota that is being counted.
        StatusCode::CONFLICT if !creates => Trouble::Other(Failure::Conflict(message)),
        // What a merge patch with the UID of another object meets: UIDs cannot be changed.
        StatusCode::UNPROCESSABLE_ENTITY if renews => Trouble::Other(Failure::Conflict(message)),
        StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::GONE | StatusCode::TOO_MANY_REQUESTS => {
            Trouble::Other(Failure::Transient { message, retry_after: retry_after(&headers) })
        }
        status if status.is_client_error() => Trouble::Other(Failure::Refused(message)),
        _ => Trouble::Other(Failure::Transient { message, retry_after: retry_after(&headers) }),
    })
}

/// In seconds; API servers do not send dates.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A watch that ends with the last of its inputs.
pub(crate) struct Watch(Option<Pin<Box<dyn Stream<Item = Input> + Send>>>);

impl Watch {
    /// A watch of nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The next input; never, when there is no more.
    pub(crate) async fn next(&mut self) -> Input {
        if let Some(events) = &mut self.0 {
            // Every watch ends with the input that says so, and nothing comes after that.
            if let Some(event) = events.next().await {
                if matches!(event, Input::WatchEnded(_)) {
                    self.0 = None;
                }
                return event;
            }
        }
        std::future::pending().await
    }
}

fn events(link: Arc<Link>, path: String) -> impl Stream<Item = Input> + Send {
    futures::stream::once(open(link, path)).flat_map(|opened| match opened {
        Err(end) => futures::stream::iter([Input::WatchEnded(end)]).boxed(),
        Ok(events) => {
            let end = futures::stream::iter([Input::WatchEnded(WatchEnd::Closed)]);
            events.filter_map(async |event| input(event)).chain(end).boxed()
        }
    })
}

type Events = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<AnyClaim>>> + Send>>;

async fn open(link: Arc<Link>, path: String) -> Result<Events, WatchEnd> {
    let request = request(Method::GET, path, "", Ok(Vec::new())).map_err(|failure| WatchEnd::Failed(said(failure)))?;
    let now = link.line().map_err(|error| WatchEnd::Failed(chain(&*error)))?;
    let generation = now.generation;
    let opening = now.client.request_events::<AnyClaim>(now.sign(request));
    match tokio::time::timeout(OPEN_WATCH, opening).await {
        Ok(Ok(events)) => Ok(Box::pin(events)),
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

fn input(event: kube::Result<WatchEvent<AnyClaim>>) -> Option<Input> {
    match event {
        Ok(WatchEvent::Added(claim) | WatchEvent::Modified(claim)) => Some(match claim.sighting() {
            Some(sighting) => Input::Watched(sighting),
            None => Input::WatchEnded(WatchEnd::Failed("an event lacks a UID or version".into())),
        }),
        Ok(WatchEvent::Deleted(claim)) => claim.uid().map(Input::WatchedDeletion),
        Ok(WatchEvent::Bookmark(_)) => None,
        Ok(WatchEvent::Error(status)) => Some(Input::WatchEnded(watch_end(&kube::Error::Api(status)))),
        Err(error) => Some(Input::WatchEnded(watch_end(&error))),
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

fn said(failure: Failure) -> String {
    match failure {
        Failure::Taken => "the name is taken".into(),
        Failure::Missing(message)
        | Failure::Conflict(message)
        | Failure::Refused(message)
        | Failure::Transient { message, .. } => message,
    }
}

fn transient(message: impl Into<String>) -> Failure {
    Failure::Transient { message: message.into(), retry_after: None }
}

fn unreadable(error: &serde_json::Error) -> Failure {
    transient(format!("cannot read the API server's answer: {error}"))
}

fn shown(text: &str) -> &str {
    let text = text.trim();
    &text[..text.floor_char_boundary(SHOWN)]
}
