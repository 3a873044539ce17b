//! One layer for all requests about objects: one attempt each, within a deadline, and answers of which little is kept.
//!
//! Nothing here tries again or waits for anything but the answer: what is to be done about a failure is for the caller
//! to decide, who knows what else there is to do.

use std::{any::type_name, fmt, marker::PhantomData, time::Duration};

use http::{Request, header};
use http_body_util::BodyExt;
use kube::{
    Client, Resource,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchParams},
    client::Body,
    core::request,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    cause::chain,
    object::{Illegible, Lenient, Object},
    program::Program,
    refusal::{Refusal, RequestError},
    sieve::{Found, Layout, Sieve, Text},
};

/// How long one request may take; the API server itself gives up after a minute, when nobody needs the answer any more.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one page of a list may take: it can be as large as what others have stored in its objects.
pub const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an error's answer that are read. It may repeat an object that was refused, but the end of it tells whose it
/// is.
const ERROR: usize = 1 << 20;

/// It has none of them, so it can go wherever its client can.
type Reads<K, S, T> = fn() -> Object<K, S, T>;

/// Where objects of the kind `K` are, of all namespaces or of one, and what is read of them.
pub struct Endpoint<K, S, T> {
    client: Client,
    program: Program,
    /// Within which namespace, if it is one.
    namespace: Option<String>,
    reads: PhantomData<Reads<K, S, T>>,
}

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// A field selector; all objects when absent.
    pub fields: Option<String>,
    /// Objects in it.
    pub limit: u32,
    /// What the page before says of where it ended.
    pub continue_token: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<R> {
    /// What was kept of each object.
    pub items: Vec<R>,
    /// Why there are items of which nothing is known, not even a name.
    pub illegible: Vec<Illegible>,
    /// The version of the list: all its pages show what was there at that one moment.
    pub version: u64,
    /// Where the next page begins; `None` of the last one.
    pub continue_token: Option<String>,
}

impl<R> Page<R> {
    /// The page, if nothing is known to be missing in it: an error if it has an item that is [illegible](Illegible).
    /// For whoever takes what is not listed for absent.
    pub fn complete(mut self) -> Result<Self, RequestError> {
        self.illegible.pop().map_or(Ok(self), |error| Err(RequestError::Illegible(error)))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListFrame {
    metadata: ListMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    r#continue: Option<String>,
}

impl<K, S, T> Clone for Endpoint<K, S, T> {
    fn clone(&self) -> Self {
        Self { namespace: self.namespace.clone(), ..Self::new(self.client.clone(), self.program) }
    }
}

impl<K, S, T> fmt::Debug for Endpoint<K, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("of", &type_name::<K>())
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl<K, S, T> Endpoint<K, S, T> {
    fn new(client: Client, program: Program) -> Self {
        Self { client, program, namespace: None, reads: PhantomData }
    }
}

impl<K: Resource<DynamicType = ()>, S, T> Endpoint<K, S, T> {
    /// In all namespaces, or of what has none.
    pub fn all(client: Client, program: Program) -> Self {
        Self::new(client, program)
    }

    /// In one namespace.
    pub fn namespaced(client: Client, program: Program, namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::new(client, program) }
    }

    /// The same in this namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self::namespaced(self.client.clone(), self.program, namespace)
    }
}

impl<K, S, T> Endpoint<K, S, T>
where
    K: Resource<DynamicType = ()>,
    S: DeserializeOwned,
    T: DeserializeOwned + Default,
{
    /// The object of this name, as it is at this moment.
    pub async fn get(&self, name: &str) -> Result<Lenient<Object<K, S, T>>, RequestError> {
        sendable(name)?;
        self.single(self.request()?.get(name, &GetParams::default())).await
    }

    /// A page of a consistent list: of what is there at this moment, or was at the moment of the page before. Each
    /// object is handed to `keep` as it is read, so that no more of a page is in memory than what that returns.
    pub async fn page<R>(
        &self,
        wanted: &PageRequest,
        keep: impl FnMut(Lenient<Object<K, S, T>>) -> R,
    ) -> Result<Page<R>, RequestError> {
        within(PAGE_TIMEOUT, self.read_page(wanted, keep)).await
    }

    /// The version of a list of what is there at this moment, and is selected by `fields`.
    pub(crate) async fn current_version(&self, fields: Option<String>) -> Result<u64, RequestError> {
        let wanted = PageRequest { fields, limit: 1, continue_token: None };
        within(REQUEST_TIMEOUT, self.read_page(&wanted, drop)).await.map(|page| page.version)
    }

    async fn read_page<R>(
        &self,
        wanted: &PageRequest,
        mut keep: impl FnMut(Lenient<Object<K, S, T>>) -> R,
    ) -> Result<Page<R>, RequestError> {
        let params = ListParams {
            field_selector: wanted.fields.clone(),
            limit: Some(wanted.limit),
            continue_token: wanted.continue_token.clone(),
            ..ListParams::default()
        };
        let (mut items, mut illegible) = (Vec::new(), Vec::new());
        let found = |found| {
            let Found::Object(text) = found else { return };
            match read(&text) {
                Ok(item) => items.push(keep(item)),
                Err(error) => illegible.push(error),
            }
        };
        let frame = self.send(self.request()?.list(&params), Layout::List, found).await?;
        let ListFrame { metadata } = serde_json::from_str(&frame.json)
            .map_err(|error| RequestError::Illegible(Illegible(format!("of a list: {error}"))))?;
        let version = metadata.resource_version.parse().map_err(|_| {
            RequestError::Illegible(Illegible(format!("a list of version {:?}", metadata.resource_version)))
        })?;
        let continue_token = metadata.r#continue.filter(|token| !token.is_empty());
        Ok(Page { items, illegible, version, continue_token })
    }

    /// Merges `patch` into the status of an object. Says which object and version it is meant for by its `metadata`.
    pub async fn patch_status(&self, name: &str, patch: &Value) -> Result<Lenient<Object<K, S, T>>, RequestError> {
        sendable(name)?;
        self.single(self.request()?.patch_subresource("status", name, &self.patch_params(), &Patch::Merge(patch))).await
    }

    /// Merges `patch` into an object. Says which object and version it is meant for by its `metadata`.
    pub async fn patch(&self, name: &str, patch: &Value) -> Result<Lenient<Object<K, S, T>>, RequestError> {
        sendable(name)?;
        self.single(self.request()?.patch(name, &self.patch_params(), &Patch::Merge(patch))).await
    }

    /// Creates an object.
    pub async fn create(&self, object: &Value) -> Result<Lenient<Object<K, S, T>>, RequestError> {
        let params = PostParams { field_manager: Some(self.program.field_manager().into()), ..PostParams::default() };
        self.single(self.request()?.create(&params, object.to_string().into_bytes())).await
    }

    /// Deletes the object with this name and UID, if it has this version when one is given.
    pub async fn delete(&self, name: &str, uid: &str, version: Option<u64>) -> Result<(), RequestError> {
        sendable(name)?;
        let resource_version = version.map(|version| version.to_string());
        let preconditions = Some(Preconditions { uid: Some(uid.into()), resource_version });
        let request = self.request()?.delete(name, &DeleteParams { preconditions, ..DeleteParams::default() });
        // The answer is the object, or a status: either says no more than that it has been done.
        within(REQUEST_TIMEOUT, self.send(request, Layout::Single, |_| ())).await.map(|_| ())
    }

    fn request(&self) -> Result<request::Request, RequestError> {
        self.namespace.as_deref().map_or(Ok(()), sendable)?;
        Ok(request::Request::new(K::url_path(&(), self.namespace.as_deref())))
    }

    fn patch_params(&self) -> PatchParams {
        PatchParams { field_manager: Some(self.program.field_manager().into()), ..PatchParams::default() }
    }

    async fn single(&self, request: Built) -> Result<Lenient<Object<K, S, T>>, RequestError> {
        let text = within(REQUEST_TIMEOUT, self.send(request, Layout::Single, |_| ())).await?;
        read(&text).map_err(RequestError::Illegible)
    }

    /// Sends a request, and reads its answer. Returns what is left of that besides what `found` was told.
    async fn send(&self, request: Built, layout: Layout, mut found: impl FnMut(Found)) -> Result<Text, RequestError> {
        let mut body = open(&self.client, request).await?;
        let mut sieve = Sieve::new(layout);
        while let Some(bytes) = next(&mut body).await? {
            sieve.push(&bytes, &mut found);
        }
        Ok(sieve.finish())
    }

    /// A watch from this version for so many seconds, as its body.
    pub(crate) async fn watch(&self, fields: Option<&str>, version: u64, seconds: u32) -> Result<Body, RequestError> {
        let mut params = WatchParams::default().timeout(seconds);
        params.field_selector = fields.map(Into::into);
        open(&self.client, self.request()?.watch(&params, &version.to_string())).await
    }
}

type Built = Result<Request<Vec<u8>>, request::Error>;

async fn within<R>(
    deadline: Duration,
    answer: impl Future<Output = Result<R, RequestError>>,
) -> Result<R, RequestError> {
    let late = || RequestError::Unanswered(format!("the API server did not answer within {} s", deadline.as_secs()));
    timeout(deadline, answer).await.unwrap_or_else(|_| Err(late()))
}

/// Reads an object of which a [`Sieve`] kept this.
pub(crate) fn read<K, S: DeserializeOwned, T: DeserializeOwned + Default>(
    text: &Text,
) -> Result<Lenient<Object<K, S, T>>, Illegible> {
    if text.is_cut { Object::read_cut(&text.json, "it is too long") } else { Object::read(&text.json) }
}

/// Whether an object or a namespace can have this name. Names that strangers wrote become part of a path, where others
/// would ask for something else.
fn sendable(name: &str) -> Result<(), RequestError> {
    let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if name.bytes().all(fits) && name.bytes().any(|byte| byte != b'.') {
        return Ok(());
    }
    Err(RequestError::Unsendable(format!("no object can have the name {name:?}")))
}

/// Sends a request. Returns the body of the answer if that is no error.
async fn open(client: &Client, request: Built) -> Result<Body, RequestError> {
    let mut request = request.map_err(|error| RequestError::Unsendable(chain(&error)))?.map(Body::from);
    request.headers_mut().entry(header::ACCEPT).or_insert(http::HeaderValue::from_static("application/json"));
    let response = client.send(request).await.map_err(|error| RequestError::Unanswered(chain(&error)))?;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    let (response, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(more) = next(&mut body).await? {
        bytes.extend_from_slice(&more[..more.len().min(ERROR - bytes.len())]);
    }
    Err(RequestError::Refused(Box::new(Refusal::read(response.status, &bytes).with(&response.headers))))
}

/// The next bytes of an answer, as long as there are any.
pub(crate) async fn next(body: &mut Body) -> Result<Option<hyper::body::Bytes>, RequestError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| RequestError::Unanswered(chain(&error)))?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use konductor_api::{Permit, PermitSpec};
    use serde::de::IgnoredAny;
    use serde_json::json;

    use super::*;
    use crate::{fake::Fake, object::Described};

    type Claims = Endpoint<Permit, PermitSpec, IgnoredAny>;

    fn permit(name: &str, annotation: &str) -> Value {
        json!({
            "apiVersion": "konductor.io/v1", "kind": "Permit",
            "metadata": { "name": name, "uid": "u", "resourceVersion": "7", "annotations": { "other": annotation } },
            "spec": { "semaphore": "s", "holder": "h", "instance": "i" },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn every_write_names_its_manager_and_is_sent_once() {
        let answer = (200, permit("a", "").to_string());
        let fake = Fake::new(&[answer.clone(), answer.clone(), answer.clone(), answer]);
        let claims = Claims::all(fake.client(), Program::OPERATOR).within("n");
        let patch = json!({ "metadata": { "uid": "u" } });
        claims.patch_status("a", &patch).await.expect("patched").expect("read");
        claims.patch("a", &patch).await.expect("patched").expect("read");
        claims.create(&permit("a", "")).await.expect("created").expect("read");
        claims.delete("a", "u", Some(7)).await.expect("deleted");
        let asked: Vec<_> = fake
            .asked()
            .into_iter()
            .map(|request| {
                (
                    request.method().clone(),
                    request.uri().to_string(),
                    String::from_utf8_lossy(request.body()).into_owned(),
                )
            })
            .collect();
        let permits = "/apis/konductor.io/v1/namespaces/n/permits";
        let manager = "fieldManager=konductor-operator";
        let preconditions = json!({ "preconditions": { "resourceVersion": "7", "uid": "u" } });
        assert_eq!(asked[0], (Method::PATCH, format!("{permits}/a/status?&{manager}"), patch.to_string()));
        assert_eq!(asked[1], (Method::PATCH, format!("{permits}/a?&{manager}"), patch.to_string()));
        assert_eq!(asked[2], (Method::POST, format!("{permits}?&{manager}"), permit("a", "").to_string()));
        assert_eq!((&asked[3].0, &*asked[3].1), (&Method::DELETE, &*format!("{permits}/a?")));
        assert_eq!(
            serde_json::from_str::<Value>(&asked[3].2).expect("JSON")["preconditions"],
            preconditions["preconditions"]
        );
        assert_eq!(asked.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_can_be_asked_for_by_a_name() {
        let fake = Fake::new(&[]);
        let claims = Claims::all(fake.client(), Program::OPERATOR).within("n");
        for name in ["", ".", "..", "../../secrets", "a/status", "?watch=true", "a?b", "a#b", "a%2fb", "a b", "ä", "A"]
        {
            let asked = [
                claims.get(name).await.err(),
                claims.patch(name, &json!({})).await.err(),
                claims.patch_status(name, &json!({})).await.err(),
                claims.delete(name, "u", None).await.err(),
            ];
            for error in asked {
                assert!(matches!(error, Some(RequestError::Unsendable(_))), "{name:?}: {error:?}");
            }
        }
        for namespace in ["", "..", "../../secrets", "a/b", "?a", "%2e"] {
            let claims = claims.within(namespace);
            let asked = [
                claims.get("a").await.err(),
                claims.patch("a", &json!({})).await.err(),
                claims.patch_status("a", &json!({})).await.err(),
                claims.create(&json!({})).await.err(),
                claims.delete("a", "u", None).await.err(),
                claims.page(&PageRequest::default(), drop).await.err(),
                claims.watch(None, 1, 1).await.err(),
            ];
            for error in asked {
                assert!(matches!(error, Some(RequestError::Unsendable(_))), "{namespace:?}: {error:?}");
            }
        }
        assert_eq!(fake.asked().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_read_item_by_item_wherever_its_version_stands() {
        let items =
            [permit("a", "x"), json!({ "metadata": { "name": "b" }, "spec": 5 }), json!(null), permit("c", "]},{\"")];
        let metadata = json!({ "resourceVersion": u64::MAX.to_string(), "continue": "more", "remainingItemCount": 5 });
        let items = serde_json::to_string(&items).expect("JSON");
        let wanted =
            PageRequest { fields: Some("spec.semaphore=s".into()), limit: 3, continue_token: Some("t&".into()) };
        for text in [
            format!(r#"{{"kind":"PermitList","metadata":{metadata},"items":{items}}}"#),
            format!(r#"{{"items": {items}, "metadata": {metadata} }}"#),
        ] {
            let fake = Fake::new(&[(200, text)]);
            let name = |item: Lenient<_>| (item.metadata().name.clone(), item.is_ok());
            let page = Claims::all(fake.client(), Program::OPERATOR).page(&wanted, name).await.expect("a page");
            assert_eq!(page.items, [("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), true)]);
            assert_eq!(page.illegible.len(), 1);
            assert_eq!((page.version, page.continue_token.as_deref()), (u64::MAX, Some("more")));
            assert!(matches!(page.complete(), Err(RequestError::Illegible(_))));
            assert_eq!(fake.queries(), ["&fieldSelector=spec.semaphore%3Ds&limit=3&continue=t%26"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_say_what_is_known_of_the_write() {
        let absent =
            json!({ "kind": "Status", "message": "no a", "details": { "name": "a" }, "code": 404 }).to_string();
        let fake = Fake::new(&[(404, absent), (404, "404 page not found".into()), (200, "no JSON".into())]);
        let claims = Claims::all(fake.client(), Program::OPERATOR).within("n");
        assert!(claims.get("a").await.expect_err("absent").is_absent("a"));
        assert!(!claims.get("a").await.expect_err("not served").is_absent("a"));
        let error = claims.patch_status("a", &json!({})).await.expect_err("illegible");
        assert_eq!((error.is_not_applied(), error.label()), (false, "unreadable"));
        let error = claims.get("").await.expect_err("no name");
        assert!(error.is_not_applied() && matches!(error, RequestError::Unsendable(_)), "{error:?}");
        assert_eq!(fake.asked().len(), 3);
    }

    #[test]
    fn a_server_that_is_busy_is_left_alone_as_long_as_it_says_and_a_minute_at_most() {
        let seconds = Duration::from_secs;
        for (code, said, expected) in [
            (429, Some("3"), seconds(3)),
            (503, Some(" 3 "), seconds(3)),
            (429, Some("0"), seconds(1)),
            (429, Some("86400"), seconds(60)),
            (429, Some("99999999999999999999"), seconds(1)),
            (429, Some("Thu, 26 Nov 2026 08:00:00 GMT"), seconds(1)),
            (429, None, seconds(1)),
            // Says nothing of how busy it is.
            (500, Some("3"), seconds(1)),
            (403, Some("3"), seconds(1)),
        ] {
            let headers = said.map(|said| (header::RETRY_AFTER, said.parse().expect("a header")));
            let status = http::StatusCode::from_u16(code).expect("a status");
            let refusal = Refusal::read(status, b"{}").with(&headers.into_iter().collect());
            let error = RequestError::Refused(Box::new(refusal));
            assert_eq!(error.pause(seconds(1)), expected, "{code} {said:?}");
            assert_eq!(error.pause(seconds(100)), seconds(100), "{code} {said:?}");
        }
        assert_eq!(RequestError::Unanswered(String::new()).pause(seconds(1)), seconds(1));
    }
}
