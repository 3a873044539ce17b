//! The cluster: which one, as whom, and requests to it. What comes back is the API's own JSON, so that nothing that this
//! program does not know is lost.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use konductor::{Client, Program, chain};
use konductor_cluster::{Line, Link, Login, login::login_error};
use kube::client::Body;
use serde_json::{Value, json};

use crate::{
    args::DryRun,
    error::Error,
    globals::Globals,
    kind::Resource,
    kubeconfig::{find, unusable},
    trouble::Role,
};

/// Who asks the API server.
pub(crate) const PROGRAM: Program = Program::new("koncli");

/// Largest answer that is read: a page of objects of the largest size that etcd stores would be larger, and is none
/// that anybody has.
const ANSWER: usize = 256 << 20;

/// Objects in one page of a list: what kubectl asks for.
const PAGE: u32 = 500;

/// How long one request may take: longer than an API server under load needs, short enough for who looks on.
const REQUEST: Duration = Duration::from_secs(30);

/// Bytes of one line of a watch: an object cannot be larger in etcd, and escapes make it longer.
const LINE: usize = 16 << 20;

/// The forms in which the API server can show objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Objects,
    /// As the rows and columns that their kind wants to be shown in.
    Table,
}

impl Form {
    fn accept(self) -> &'static str {
        match self {
            Self::Objects => "application/json",
            Self::Table => "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        }
    }
}

/// A connection to the cluster that was chosen, and the namespace that was.
#[derive(Clone)]
pub(crate) struct Cluster {
    link: Arc<Link>,
    /// Of all that is named without one.
    pub(crate) namespace: String,
    /// Where it is, for people.
    pub(crate) server: String,
    /// What the command needs in it: who is refused something is told of all of it.
    pub(crate) role: Role,
}

/// Why a request has not done what it should.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The API server says no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// In a word, like `NotFound`.
        reason: String,
        /// In a sentence.
        message: String,
        /// The name of the object that it is about, when the API server names one.
        name: String,
        /// The kind that it is about, in the plural.
        kind: String,
        /// The fields that it is about, when it is about some.
        fields: Vec<String>,
    },
    /// No whole answer came.
    #[error("{0}")]
    Unanswered(String),
    /// There are no credentials to ask with.
    #[error("{0}")]
    NoLogin(String),
}

impl ApiError {
    /// The HTTP status, if there was an answer.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unanswered(_) | Self::NoLogin(_) => None,
        }
    }

    /// Whether the object of this name is known not to be there.
    pub(crate) fn is_absent(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code: 404, name, .. } if name == wanted)
    }

    /// Whether the object of this name is another than the one that was meant by its UID, or has changed meanwhile.
    pub(crate) fn is_another(&self, wanted: &str) -> bool {
        match self {
            Self::Refused { code: 409, name, .. } => name == wanted,
            // UIDs cannot be changed, as a patch with another one would.
            Self::Refused { code: 422, fields, .. } => fields.iter().any(|field| field == "metadata.uid"),
            Self::Refused { .. } | Self::Unanswered(_) | Self::NoLogin(_) => false,
        }
    }

    /// Whether it answers a request to delete the object of this name and a UID, which is known not to be there any more.
    pub(crate) fn is_gone(&self, wanted: &str) -> bool {
        let is_conflict = matches!(self, Self::Refused { code: 409, reason, .. } if reason == "Conflict");
        self.is_absent(wanted) || is_conflict && self.is_another(wanted)
    }

    /// Whether the API server does not know the resource at all.
    pub(crate) fn is_not_served(&self) -> bool {
        matches!(self, Self::Refused { code: 404, name, .. } if name.is_empty())
    }

    /// Whether this user may not.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Whether it is worth another try.
    pub(crate) fn is_passing(&self) -> bool {
        self.code().is_none_or(|code| matches!(code, 408 | 410 | 429) || code >= 500)
    }

    /// What an error means that is no answer.
    fn unanswered(error: &(dyn std::error::Error + 'static)) -> Self {
        match login_error(error) {
            Some(login) => Self::NoLogin(chain(login)),
            None => Self::Unanswered(chain(error)),
        }
    }

    fn read(status: StatusCode, body: &[u8]) -> Self {
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let message = match text(&said["message"]) {
            empty if empty.is_empty() => {
                let body = String::from_utf8_lossy(body);
                let body = body.trim();
                format!("{status}: {}", &body[..body.floor_char_boundary(SHOWN)])
            }
            message => message,
        };
        let details = &said["details"];
        let causes = details["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self::Refused {
            code: status.as_u16(),
            reason: text(&said["reason"]),
            message,
            name: text(&details["name"]),
            kind: text(&details["kind"]),
            fields: causes.iter().map(|cause| text(&cause["field"])).collect(),
        }
    }
}

/// How much of an answer that is not the API's own is shown.
const SHOWN: usize = 300;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    form: Form,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        let form = Form::Objects;
        Self { method, path: path.into(), query: Vec::new(), form, content_type: "application/json", body: Vec::new() }
    }

    /// Reads what is at `path`.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Creates an object.
    pub(crate) fn create(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path).with("fieldManager", PROGRAM.field_manager()).body(object)
    }

    /// Changes an object by a merge patch.
    pub(crate) fn patch(path: impl Into<String>, change: &Value) -> Self {
        let call = Self::new(Method::PATCH, path).with("fieldManager", PROGRAM.field_manager());
        Self { content_type: "application/merge-patch+json", ..call.body(change) }
    }

    /// Deletes what is at `path`.
    pub(crate) fn delete(path: impl Into<String>, options: &Value, dry_run: DryRun) -> Self {
        let mut options = options.clone();
        // Of a request to delete that has a body, the API server does not look at parameters.
        if dry_run == DryRun::Server {
            options["dryRun"] = json!([dry_run.parameter()]);
        }
        Self::new(Method::DELETE, path).body(&options)
    }

    fn body(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self
    }

    /// The same in another form.
    pub(crate) fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// The same with one more parameter; empty ones are left out.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.query.push((name.to_owned(), value));
        }
        self
    }

    fn request(&self) -> Result<http::Request<Vec<u8>>, ApiError> {
        let query: Vec<_> = self.query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let path = if query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, query.join("&")) };
        let mut request = http::Request::builder().method(self.method.clone()).uri(path);
        request = request.header(header::ACCEPT, self.form.accept());
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, self.content_type);
        }
        request.body(self.body.clone()).map_err(|error| ApiError::Unanswered(chain(&error)))
    }
}

/// A text as it stands in a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// What a watch tells: the word for it (`ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`), and the object.
pub(crate) type WatchEvent = (String, Value);

impl Cluster {
    /// Finds the cluster that was chosen, and logs in, for a command that needs this role. No request is made yet.
    pub(crate) async fn connect(globals: &Globals, login: Login, role: Role) -> Result<Self, Error> {
        let config = find(globals).await?;
        let namespace = globals.namespace.clone().unwrap_or_else(|| config.default_namespace.trim().to_owned());
        if !konductor::name::is_label(&namespace) {
            return Err(Error::usage(format!("{namespace:?} is not a name that a namespace can have")));
        }
        let mut server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        if let Some(proxy) = config.proxy_url.as_ref().and_then(http::Uri::authority) {
            // Without a user and a password.
            let (_, proxy) = proxy.as_str().rsplit_once('@').unwrap_or(("", proxy.as_str()));
            let _ = write!(server, " by the proxy {proxy}");
        }
        let link = Link::connect(config, PROGRAM, login).await.map_err(|error| unusable(&*error))?;
        Ok(Self { link: Arc::new(link), namespace, server, role })
    }

    /// The SDK's client, over the same connection.
    pub(crate) fn client(&self) -> Client {
        Client::over(self.link.clone(), self.namespace.clone())
    }

    /// The path of the object of this name.
    pub(crate) fn path(&self, resource: Resource, name: &str) -> String {
        format!("{}/{name}", resource.path(Some(&self.namespace)))
    }

    /// The path of all objects of a kind in the namespace.
    pub(crate) fn all(&self, resource: Resource) -> String {
        resource.path(Some(&self.namespace))
    }

    /// Sends a request and reads the answer. Credentials that are not accepted are read again, once.
    pub(crate) async fn call(&self, call: Call) -> Result<Value, ApiError> {
        let sending = async {
            let response = self.send(&call).await?;
            let body = Limited::new(response.into_body(), ANSWER).collect().await;
            let body = body.map_err(|error| ApiError::Unanswered(chain(&*error)))?.to_bytes();
            serde_json::from_slice(&body)
                .map_err(|error| ApiError::Unanswered(format!("the API server's answer cannot be read: {error}")))
        };
        tokio::time::timeout(REQUEST, sending).await.unwrap_or_else(|_| {
            let late = || format!("no answer within {} s", REQUEST.as_secs());
            Err(ApiError::Unanswered(self.link.is_logging_in().unwrap_or_else(late)))
        })
    }

    async fn send(&self, call: &Call) -> Result<http::Response<Body>, ApiError> {
        let first = self.link.line().map_err(|error| ApiError::unanswered(&*error))?;
        let generation = first.generation;
        match exchange(first, call.request()?).await {
            Err(error) if error.code() == Some(401) => {
                self.link.renew(generation).await.map_err(|error| ApiError::unanswered(&*error))?;
                let second = self.link.line().map_err(|error| ApiError::unanswered(&*error))?;
                exchange(second, call.request()?).await
            }
            other => other,
        }
    }

    /// All objects (or rows of them) of a list, page by page, in the envelope of the first page.
    pub(crate) async fn list(&self, call: Call) -> Result<Value, ApiError> {
        let call = call.with("limit", PAGE.to_string());
        let mut whole = self.call(call.clone()).await?;
        let rows = if whole["rows"].is_array() { "rows" } else { "items" };
        while let Some(next) = whole["metadata"]["continue"].as_str().filter(|next| !next.is_empty()) {
            let mut page = self.call(call.clone().with("continue", next)).await?;
            whole["metadata"] = page["metadata"].take();
            let more = page[rows].as_array_mut().map(std::mem::take).unwrap_or_default();
            whole[rows].as_array_mut().into_iter().for_each(|all| all.extend(more.iter().cloned()));
        }
        Ok(whole)
    }

    /// Follows what `call` lists, from the version that a list had. Ends when the API server ends it.
    pub(crate) async fn watch(
        &self,
        call: Call,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent, ApiError>> + use<>, ApiError> {
        let call = call.with("watch", "true").with("allowWatchBookmarks", "true").with("resourceVersion", version);
        let opening = tokio::time::timeout(REQUEST, self.send(&call)).await;
        let late = |_| ApiError::Unanswered(format!("no answer within {} s", REQUEST.as_secs()));
        let response = opening.map_err(late)??;
        let chunks = response.into_body().into_data_stream().map_err(|error| ApiError::Unanswered(chain(&error)));
        Ok(lines(chunks.map_ok(|bytes| bytes.to_vec())).map(|line| event(&line?)))
    }
}

/// The chunks of an answer as lines.
fn lines(chunks: impl Stream<Item = Result<Vec<u8>, ApiError>>) -> impl Stream<Item = Result<Vec<u8>, ApiError>> {
    let state = (Box::pin(chunks), Vec::new());
    futures::stream::unfold(state, |(mut chunks, mut rest): (_, Vec<u8>)| async move {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let after = rest.split_off(end + 1);
                return Some((Ok(std::mem::replace(&mut rest, after)), (chunks, rest)));
            }
            if rest.len() > LINE {
                return Some((Err(ApiError::Unanswered("a line of a watch is too long".to_owned())), (chunks, rest)));
            }
            match chunks.next().await? {
                Ok(bytes) => rest.extend(bytes),
                Err(error) => return Some((Err(error), (chunks, rest))),
            }
        }
    })
}

/// What a line of a watch says.
fn event(line: &[u8]) -> Result<WatchEvent, ApiError> {
    let mut event: Value = serde_json::from_slice(line)
        .map_err(|error| ApiError::Unanswered(format!("a line of a watch cannot be read: {error}")))?;
    let (word, object) = (event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take());
    if word == "ERROR" {
        let code = object["code"].as_u64().and_then(|code| StatusCode::from_u16(code as u16).ok());
        return Err(ApiError::read(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), object.to_string().as_bytes()));
    }
    Ok((word, object))
}

async fn exchange(line: Line, request: http::Request<Vec<u8>>) -> Result<http::Response<Body>, ApiError> {
    tracing::debug!("{} {}", request.method(), request.uri());
    let request = line.sign(request).map(Body::from);
    let response = line.client.send(request).await.map_err(|error| ApiError::unanswered(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    let body = body.map_err(|error| ApiError::Unanswered(chain(&*error)))?.to_bytes();
    Err(ApiError::read(status, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_is_read_line_by_line_however_it_is_cut() {
        let chunks = ["{\"type\":\"ADDED\",\"obj", "ect\":1}\n{\"type\"", ":\"MODIFIED\",\"object\":2}\n{\"typ"];
        let chunks = futures::stream::iter(chunks.map(|chunk| Ok(chunk.as_bytes().to_vec())));
        let events: Vec<_> = lines(chunks).map(|line| event(&line.expect("a line")).expect("an event")).collect().await;
        assert_eq!(events, [("ADDED".to_owned(), Value::from(1)), ("MODIFIED".to_owned(), Value::from(2))]);
    }

    #[test]
    fn a_watch_that_is_told_its_end_says_why() {
        let error = event(br#"{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}"#);
        assert_eq!(error.expect_err("an end").code(), Some(410));
    }

    #[test]
    fn what_is_deleted_for_a_trial_says_so_where_it_is_read() {
        for (dry_run, body) in [(DryRun::None, r#"{"a":1}"#), (DryRun::Server, r#"{"a":1,"dryRun":["All"]}"#)] {
            let request = Call::delete("/a", &json!({ "a": 1 }), dry_run).request().expect("a request");
            assert_eq!(String::from_utf8_lossy(request.body()), body);
        }
    }

    #[test]
    fn queries_are_escaped() {
        let call = Call::get("/a").with("labelSelector", "app in (a,b)&x").with("nothing", "");
        let request = call.request().expect("a request");
        assert_eq!(request.uri(), "/a?labelSelector=app%20in%20%28a%2Cb%29%26x");
    }

    #[test]
    fn only_who_names_the_object_says_that_it_is_absent() {
        let body =
            br#"{"message":"permits \"a\" not found","reason":"NotFound","details":{"name":"a","kind":"permits"}}"#;
        let named = ApiError::read(StatusCode::NOT_FOUND, body);
        assert!(named.is_absent("a") && !named.is_absent("b") && !named.is_not_served());
        let page = ApiError::read(StatusCode::NOT_FOUND, b"404 page not found\n");
        assert!(page.is_not_served() && !page.is_absent("a"));
        assert_eq!(page.to_string(), "404 Not Found: 404 page not found");
        let conflict = |reason: &str| {
            let body = format!(r#"{{"message":"no","reason":"{reason}","details":{{"name":"a","kind":"permits"}}}}"#);
            ApiError::read(StatusCode::CONFLICT, body.as_bytes())
        };
        let another = conflict("Conflict");
        assert!(named.is_gone("a") && another.is_gone("a") && another.is_another("a"));
        assert!(!page.is_gone("a") && !another.is_gone("b") && !conflict("AlreadyExists").is_gone("a"));
        let page = ApiError::read(
            StatusCode::CONFLICT,
            b"conflict
",
        );
        assert!(!page.is_gone("a") && !page.is_another("a"));
    }
}
