//! Follows all objects of a kind: one consistent list, then a watch from there, for ever.
//!
//! What it promises: after [`Seen::Listed`], everything that changes is told in the order of the API server, until the
//! next [`Seen::Listing`]. What it does not: that an object missing between the two is gone. A list can be older than what
//! is known from elsewhere (the answer to a write), so whoever listens has to ask for what is missing.
//!
//! Nothing ends it but the listener: an API server that is away, a kind that is not installed yet and a permission that
//! is missing are said once each time the trouble changes, and tried again.

use std::{fmt::Debug, pin::pin, time::Duration};

use futures::TryStreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::{backoff::Backoff, lenient::Lenient};

/// How long one watch lasts; the next one goes on where it ended. Short, because a connection that is silently dead (a
/// load balancer forgot it) looks like quiet, and costs that long at most.
const WATCH_SECONDS: u32 = 30;

/// How much later than [`WATCH_SECONDS`] the API server may end a watch.
const WATCH_SLACK: Duration = Duration::from_secs(5);

/// How long one page of a list may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Watches that fail this often in a row are begun anew with a list: the version to go on from may be the trouble
/// (an API server that was restored from a backup does not know it).
const FAILURES_BEFORE_LIST: u32 = 3;

/// A watch that ends sooner was cut off: the next one waits a little.
const HASTY: Duration = Duration::from_secs(1);

/// What to follow.
#[derive(Clone, Debug)]
pub struct Source<K> {
    /// Where.
    pub api: Api<Lenient<K>>,
    /// Which: a field selector, or all.
    pub fields: Option<&'static str>,
    /// Objects in one page of a list. Bounds the memory of a list.
    pub page: u32,
}

/// What was seen.
#[derive(Clone, Debug)]
pub enum Seen<T> {
    /// A list begins: what comes until [`Seen::Listed`] are all objects.
    Listing,
    /// The list has ended.
    Listed,
    /// An object, new or changed.
    Present(T),
    /// An object that was deleted.
    Gone(Gone),
}

/// An object that was deleted.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl<T> Seen<T> {
    /// The same with what `read` makes of the object.
    pub fn map<U>(self, read: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Listing => Seen::Listing,
            Self::Listed => Seen::Listed,
            Self::Present(object) => Seen::Present(read(object)),
            Self::Gone(gone) => Seen::Gone(gone),
        }
    }
}

/// Sends on what was seen.
struct Outlet<T, F> {
    sights: mpsc::Sender<T>,
    read: F,
}

impl<T, F> Outlet<T, F> {
    async fn send<K>(&mut self, seen: Seen<Lenient<K>>) -> Result<(), Trouble>
    where
        F: FnMut(Seen<Lenient<K>>) -> Option<T>,
    {
        match (self.read)(seen) {
            Some(sight) => self.sights.send(sight).await.map_err(|_| Trouble::Closed),
            None => Ok(()),
        }
    }
}

enum Trouble {
    Closed,
    /// The version to go on from is too old, or an event could not be understood.
    Desync(String),
    Api(kube::Error),
    TimedOut,
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 410 => Self::Desync(status.message),
            kube::Error::SerdeError(error) => Self::Desync(error.to_string()),
            error => Self::Api(error),
        }
    }
}

impl<K> Source<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    /// Sends what `read` makes of what is seen, until nobody listens any more.
    pub async fn follow<T: Send>(
        self,
        sights: mpsc::Sender<T>,
        read: impl FnMut(Seen<Lenient<K>>) -> Option<T> + Send,
    ) {
        let mut outlet = Outlet { sights, read };
        let (mut backoff, mut version, mut complaint) = (Backoff::default(), None, String::new());
        loop {
            let begun = Instant::now();
            let (result, hasty) = match &mut version {
                None => (self.list(&mut outlet).await.map(|listed| version = Some(listed)), false),
                Some(version) => {
                    let result = self.watch(version, &mut backoff, &mut outlet).await;
                    (result, begun.elapsed() < HASTY)
                }
            };
            match result {
                Ok(()) if hasty => backoff.pause().await,
                Ok(()) => {
                    backoff.reset();
                    if !std::mem::take(&mut complaint).is_empty() {
                        info!(resource = %K::plural(&()), "following again");
                    }
                }
                Err(Trouble::Closed) => return,
                Err(trouble) => {
                    if matches!(trouble, Trouble::Desync(_)) || backoff.failures() >= FAILURES_BEFORE_LIST {
                        version = None;
                    }
                    let said = describe::<K>(trouble);
                    if said != complaint {
                        warn!(resource = %K::plural(&()), "{said}");
                        complaint = said;
                    }
                    backoff.pause().await;
                }
            }
        }
    }

    /// All pages of one consistent list. Returns the version to watch from.
    async fn list<T: Send, F>(&self, outlet: &mut Outlet<T, F>) -> Result<String, Trouble>
    where
        F: FnMut(Seen<Lenient<K>>) -> Option<T> + Send,
    {
        outlet.send(Seen::Listing).await?;
        let mut params = ListParams { field_selector: self.fields.map(Into::into), ..ListParams::default() };
        params.limit = Some(self.page);
        loop {
            let page = timeout(PAGE_TIMEOUT, self.api.list(&params)).await.map_err(|_| Trouble::TimedOut)??;
            for object in page.items {
                outlet.send(Seen::Present(object)).await?;
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                outlet.send(Seen::Listed).await?;
                return page
                    .metadata
                    .resource_version
                    .ok_or_else(|| Trouble::Desync("a list without a version".into()));
            }
        }
    }

    /// One watch from `version`, which moves on with each event.
    async fn watch<T: Send, F>(
        &self,
        version: &mut String,
        backoff: &mut Backoff,
        outlet: &mut Outlet<T, F>,
    ) -> Result<(), Trouble>
    where
        F: FnMut(Seen<Lenient<K>>) -> Option<T> + Send,
    {
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.field_selector = self.fields.map(Into::into);
        let limit = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_SLACK;
        let watch = async {
            let mut events = pin!(self.api.watch(&params, version).await?);
            while let Some(event) = events.try_next().await? {
                let (seen, at) = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        let at = object.metadata().resource_version.clone();
                        (Some(Seen::Present(object)), at)
                    }
                    WatchEvent::Deleted(object) => {
                        let ObjectMeta { namespace, name, uid, resource_version, .. } = object.metadata().clone();
                        let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
                        (Some(Seen::Gone(Gone { namespace, name, uid: uid.unwrap_or_default() })), resource_version)
                    }
                    WatchEvent::Bookmark(bookmark) => (None, Some(bookmark.metadata.resource_version)),
                    WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
                };
                if let Some(seen) = seen {
                    outlet.send(seen).await?;
                }
                if let Some(at) = at {
                    *version = at;
                }
                backoff.reset();
            }
            Ok(())
        };
        // A listener that is slow for so long makes the watch begin again where it is, which is harmless.
        timeout(limit, watch).await.unwrap_or(Ok(()))
    }
}

fn describe<K: Resource<DynamicType = ()>>(trouble: Trouble) -> String {
    match trouble {
        Trouble::Closed => String::new(),
        Trouble::Desync(reason) => format!("cannot go on from where the last watch ended, listing anew: {reason}"),
        Trouble::TimedOut => "the API server did not answer in time; trying again".into(),
        Trouble::Api(kube::Error::Api(status)) if status.code == 404 => format!(
            "the API server does not know {}.{}: are Konductor's custom resources installed? Trying again",
            K::plural(&()),
            K::group(&())
        ),
        Trouble::Api(error) => format!("{}; trying again", crate::explain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http_body_util::Full;
    use hyper::body::Bytes;
    use konductor_api::Permit;
    use kube::{Client, client::Body};

    use super::*;

    fn list(version: u32, names: &[&str], more: &str) -> String {
        let items: Vec<_> = names.iter().map(|name| object(name, version)).collect();
        format!(
            r#"{{"kind":"PermitList","apiVersion":"konductor.io/v1","metadata":{{"resourceVersion":"{version}","continue":"{more}"}},"items":[{}]}}"#,
            items.join(",")
        )
    }

    fn object(name: &str, version: u32) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"{name}","resourceVersion":"{version}"}},"spec":{{"semaphore":"s","holder":"h","instance":"i"}}}}"#
        )
    }

    fn event(kind: &str, object: &str) -> String {
        format!(r#"{{"type":"{kind}","object":{object}}}"#) + "\n"
    }

    /// What is told, and the queries that are asked, when the API server gives these answers in turn and then no more.
    async fn follow(answers: &[(u16, String)]) -> (Vec<String>, Vec<String>) {
        let answers = Arc::new(Mutex::new(answers.iter().cloned().collect::<VecDeque<_>>()));
        let queries = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&queries);
        let (sights, mut told) = mpsc::channel(100);
        let mut end = Some(sights.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            asked.lock().expect("no panic").push(request.uri().query().unwrap_or_default().to_owned());
            let answer = answers.lock().expect("no panic").pop_front();
            let end = if answer.is_none() { end.take() } else { None };
            async move {
                let Some((status, text)) = answer else {
                    if let Some(end) = end {
                        end.send("end".to_owned()).await.expect("somebody listens");
                    }
                    return std::future::pending().await;
                };
                let response = http::Response::builder().status(status).body(Full::new(Bytes::from(text)));
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        let source: Source<Permit> = Source { api: Api::all(Client::new(service, "n")), fields: None, page: 2 };
        let read = |seen: Seen<Lenient<Permit>>| {
            Some(match seen {
                Seen::Listing => "listing".to_owned(),
                Seen::Listed => "listed".to_owned(),
                Seen::Present(object) => format!("+{}", object.metadata().name.clone().unwrap_or_default()),
                Seen::Gone(gone) => format!("-{}", gone.name),
            })
        };
        let following = tokio::spawn(source.follow(sights, read));
        let mut seen = Vec::new();
        while let Some(sight) = told.recv().await
            && sight != "end"
        {
            seen.push(sight);
        }
        following.abort();
        let queries = queries.lock().expect("no panic").clone();
        (seen, queries)
    }

    #[tokio::test]
    async fn lists_all_pages_and_then_watches_from_there() {
        let events = event("ADDED", &object("c", 6)) + &event("DELETED", &object("a", 7));
        let bookmark = r#"{"apiVersion":"v1","kind":"Permit","metadata":{"resourceVersion":"9"}}"#;
        let (seen, queries) = follow(&[
            (200, list(5, &["a", "b"], "more")),
            (200, list(5, &["c"], "")),
            (200, events + &event("BOOKMARK", bookmark)),
        ])
        .await;
        assert_eq!(seen, ["listing", "+a", "+b", "+c", "listed", "+c", "-a"]);
        // The list asks for what is current: it names no version.
        assert_eq!(queries[0], "&limit=2");
        assert_eq!(queries[1], "&limit=2&continue=more");
        assert!(queries[2].ends_with("resourceVersion=5") && queries[3].ends_with("resourceVersion=9"), "{queries:?}");
    }

    #[tokio::test]
    async fn begins_anew_when_the_version_is_too_old() {
        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old","reason":"Expired","code":410}"#;
        for answer in [(200, event("ERROR", gone)), (410, gone.to_owned())] {
            let (seen, _) = follow(&[(200, list(5, &["a"], "")), answer, (200, list(8, &["b"], ""))]).await;
            assert_eq!(seen, ["listing", "+a", "listed", "listing", "+b", "listed"]);
        }
    }

    #[tokio::test]
    async fn goes_on_from_where_it_was_after_other_errors_and_begins_anew_after_many() {
        let failed = || (500, "no".to_owned());
        let (seen, queries) = follow(&[(200, list(5, &[], "")), failed(), failed()]).await;
        assert_eq!(seen, ["listing", "listed"]);
        assert!(queries[1..].iter().all(|query| query.ends_with("resourceVersion=5")), "{queries:?}");
        let failures = std::iter::repeat_with(failed).take(FAILURES_BEFORE_LIST as usize + 1);
        let answers: Vec<_> = std::iter::once((200, list(5, &[], ""))).chain(failures).collect();
        let (seen, queries) = follow(&answers).await;
        assert_eq!(seen, ["listing", "listed", "listing"]);
        assert_eq!(queries.last().map(String::as_str), Some("&limit=2"));
    }
}
