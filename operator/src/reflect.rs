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
#[derive(Debug)]
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
        Trouble::Api(error) => format!("{}; trying again", crate::chain(&error)),
    }
}
