//! Follows all objects of a kind: one consistent list, then a watch from there, for ever.
//!
//! What it promises: after [`Event::InitDone`], everything that changes is told in the order of the API server, until the
//! next [`Event::Init`]. What it does not: that an object missing between the two is gone. A list can be older than what
//! is known from elsewhere (the answer to a write), so whoever listens has to ask for what is missing.
//!
//! Nothing ends it but the listener. Whatever goes wrong is reported and tried again after a pause that grows; an object
//! that cannot be read is told as such and costs nothing else.
//!
//! Versions only ever grow, unless the API server's etcd was restored from a backup: then what is known of the objects is
//! from a time that has never been. A watch does not tell; it waits for a version that is far away. So a watch that has
//! seen nothing at all is followed by a small consistent read, and a consistent read that is older than what was seen
//! before is reported.

use std::time::Duration;

use kube::Resource;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::{
    backoff::Backoff,
    endpoint::{Endpoint, PageRequest, REQUEST_TIMEOUT, next, read},
    object::{Described, Illegible, Lenient, Metadata, NO_VERSION, Object},
    refusal::{Refusal, RequestError},
    sieve::{Found, Layout, Sieve, Text},
};

/// How long one watch lasts; the next one goes on where it ended. Short, because a connection that is silently dead (a
/// load balancer forgot it) looks like quiet, and costs that long at most.
const WATCH_SECONDS: u32 = 30;

/// How much later than [`WATCH_SECONDS`] the API server may end a watch.
const WATCH_SLACK: Duration = Duration::from_secs(5);

/// Watches that fail this often in a row are begun anew with a list: the version to go on from may be the trouble.
const FAILURES_BEFORE_LIST: u32 = 3;

/// A watch that ends sooner was cut off: the next one waits a little.
const HASTY: Duration = Duration::from_secs(1);

/// What to follow.
#[derive(Clone, Debug)]
pub struct Source<K, S, T> {
    /// Where.
    pub endpoint: Endpoint<K, S, T>,
    /// Which: a field selector, or all.
    pub fields: Option<String>,
    /// Objects in one page of a list.
    pub page: u32,
}

/// What is told of the objects.
#[derive(Clone, Debug)]
pub enum Event<O> {
    /// A list begins: what comes until [`Event::InitDone`] are all objects.
    Init,
    /// The list has ended.
    InitDone,
    /// An object, new or changed.
    Apply(Lenient<O>),
    /// An object that was deleted.
    Delete(Deleted),
}

/// An object that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version of the deletion.
    pub version: u64,
}

/// What is told of following itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// All is well, for the first time or again: there is a watch.
    Following,
    /// A list or a watch does not work, and is tried again. Told once each time the reason changes.
    Failing {
        /// What is wrong.
        why: String,
    },
    /// An object came of which nothing can be read, not even its name; it is passed over.
    Illegible {
        /// What is wrong with it.
        why: String,
    },
    /// What is there now is older than what was seen before: the API server's data was restored from a backup.
    WentBack {
        /// The version that was seen.
        seen: u64,
        /// The version that a consistent read shows.
        listed: u64,
    },
}

/// Why a list or a watch has ended.
enum End {
    /// Nobody listens any more.
    Closed,
    /// The version to go on from is of no use.
    Desync(String),
    /// It failed.
    Failed(RequestError),
}

impl From<RequestError> for End {
    fn from(error: RequestError) -> Self {
        if error.is_outdated() { Self::Desync(error.to_string()) } else { Self::Failed(error) }
    }
}

/// Where a source stands.
struct Follower<K, S, T, E, F, R> {
    source: Source<K, S, T>,
    events: mpsc::Sender<E>,
    wrap: F,
    report: R,
    backoff: Backoff,
    /// The version to watch from; `None` if a list is due.
    version: Option<u64>,
    /// The greatest version that was ever seen.
    seen: u64,
    /// What was reported last as failing.
    complaint: Option<String>,
    /// Whether there has been a watch.
    has_followed: bool,
}

impl<K, S, T> Source<K, S, T>
where
    K: Resource<DynamicType = ()>,
    S: DeserializeOwned + Send,
    T: DeserializeOwned + Default + Send,
{
    /// Sends what `wrap` makes of each event, until nobody listens any more. `report` is told how it goes.
    pub async fn follow<E: Send>(
        self,
        events: mpsc::Sender<E>,
        wrap: impl FnMut(Event<Object<K, S, T>>) -> Option<E> + Send,
        report: impl FnMut(Report) + Send,
    ) {
        let follower = Follower {
            source: self,
            events,
            wrap,
            report,
            backoff: Backoff::default(),
            version: None,
            seen: NO_VERSION,
            complaint: None,
            has_followed: false,
        };
        follower.run().await;
    }
}

impl<K, S, T, E, F, R> Follower<K, S, T, E, F, R>
where
    K: Resource<DynamicType = ()>,
    S: DeserializeOwned + Send,
    T: DeserializeOwned + Default + Send,
    E: Send,
    F: FnMut(Event<Object<K, S, T>>) -> Option<E> + Send,
    R: FnMut(Report) + Send,
{
    async fn run(mut self) {
        loop {
            let result = match self.version {
                None => self.list().await,
                Some(version) => self.watch(version).await,
            };
            match result {
                Ok(()) => {}
                Err(End::Closed) => return,
                Err(End::Desync(why)) => {
                    self.version = None;
                    self.fails(format!("cannot go on from where the last watch ended, listing anew: {why}"));
                    self.backoff.pause().await;
                }
                Err(End::Failed(error)) => {
                    if self.backoff.failures() >= FAILURES_BEFORE_LIST {
                        self.version = None;
                    }
                    self.fails(describe::<K>(&error));
                    self.backoff.pause().await;
                }
            }
        }
    }

    async fn send(&mut self, event: Event<Object<K, S, T>>) -> Result<(), End> {
        match (self.wrap)(event) {
            Some(event) => self.events.send(event).await.map_err(|_| End::Closed),
            None => Ok(()),
        }
    }

    fn fails(&mut self, why: String) {
        if self.complaint.as_ref() != Some(&why) {
            warn!(resource = %K::plural(&()), "{why}");
            self.complaint = Some(why.clone());
            (self.report)(Report::Failing { why });
        }
    }

    fn is_well(&mut self) {
        let failed = self.complaint.take().is_some();
        if failed {
            info!(resource = %K::plural(&()), "following again");
        }
        if failed || !std::mem::replace(&mut self.has_followed, true) {
            (self.report)(Report::Following);
        }
    }

    fn pass_over(&mut self, error: &Illegible) {
        warn!(resource = %K::plural(&()), "passed over: {error}");
        (self.report)(Report::Illegible { why: error.to_string() });
    }

    /// All pages of one consistent list.
    async fn list(&mut self) -> Result<(), End> {
        let mut wanted =
            PageRequest { fields: self.source.fields.clone(), limit: self.source.page, continue_token: None };
        let mut page = self.source.endpoint.page(&wanted).await?;
        self.compare(page.version);
        self.send(Event::Init).await?;
        loop {
            for error in page.illegible {
                self.pass_over(&error);
            }
            for object in page.items {
                self.send(Event::Apply(object)).await?;
            }
            wanted.continue_token = page.continue_token;
            if wanted.continue_token.is_none() {
                self.version = Some(page.version);
                return self.send(Event::InitDone).await;
            }
            page = self.source.endpoint.page(&wanted).await?;
        }
    }

    /// Compares what a consistent read shows with what was seen before.
    fn compare(&mut self, listed: u64) -> bool {
        let seen = std::mem::replace(&mut self.seen, listed);
        let went_back = listed < seen;
        if went_back {
            warn!(resource = %K::plural(&()), seen, listed, "the API server's data was restored from a backup");
            (self.report)(Report::WentBack { seen, listed });
        }
        went_back
    }

    /// One watch from `version`, and what follows from how it went.
    async fn watch(&mut self, version: u64) -> Result<(), End> {
        let begun = Instant::now();
        // A listener that is slow for so long makes the watch begin again where it is, which is harmless.
        let limit = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_SLACK;
        timeout(limit, self.watch_once(version)).await.unwrap_or(Ok(()))?;
        if begun.elapsed() < HASTY {
            self.backoff.pause().await;
        } else {
            self.backoff.reset();
        }
        if self.version == Some(version) {
            let wanted = PageRequest { limit: 1, ..PageRequest::default() };
            let listed = self.source.endpoint.page(&wanted).await?.version;
            if self.compare(listed) {
                return Err(End::Desync(format!("version {version} is still to come")));
            }
        }
        Ok(())
    }

    async fn watch_once(&mut self, version: u64) -> Result<(), End> {
        let opening = self.source.endpoint.watch(self.source.fields.as_deref(), version, WATCH_SECONDS);
        let late = |_| RequestError::Unanswered("the API server did not begin a watch in time".into());
        let mut body = timeout(REQUEST_TIMEOUT, opening).await.map_err(late)??;
        self.is_well();
        let (mut sieve, mut found) = (Sieve::new(Layout::Events), Vec::new());
        let mut object = Text::default();
        while let Some(bytes) = next(&mut body).await? {
            sieve.push(&bytes, |piece| found.push(piece));
            for piece in found.drain(..) {
                match piece {
                    Found::Object(text) => object = text,
                    Found::Frame(frame) => self.take(&frame.json, std::mem::take(&mut object)).await?,
                }
            }
        }
        let left = sieve.finish().json;
        if left.trim().is_empty() { Ok(()) } else { Err(unexpected(&left).into()) }
    }

    /// Takes in an event: what stands around its object, and the object.
    async fn take(&mut self, frame: &str, object: Text) -> Result<(), End> {
        #[derive(Deserialize)]
        struct Frame {
            r#type: String,
        }
        let kind = serde_json::from_str::<Frame>(frame).map(|frame| frame.r#type).unwrap_or_default();
        let (event, at) = match kind.as_str() {
            "ADDED" | "MODIFIED" | "DELETED" => match read::<K, S, T>(&object) {
                Ok(object) if kind == "DELETED" => {
                    let Metadata { namespace, name, uid, version, .. } = object.metadata().clone();
                    (Some(Event::Delete(Deleted { namespace, name, uid, version })), version)
                }
                Ok(object) => {
                    let at = object.metadata().version;
                    (Some(Event::Apply(object)), at)
                }
                Err(error) => {
                    self.pass_over(&error);
                    (None, NO_VERSION)
                }
            },
            "BOOKMARK" => (None, Metadata::of(&object.json).version),
            "ERROR" => return Err(refused(&object.json).into()),
            _ => return Err(unexpected(frame).into()),
        };
        if let Some(event) = event {
            self.send(event).await?;
        }
        self.move_to(at)
    }

    /// The next watch goes on from `version`.
    fn move_to(&mut self, version: u64) -> Result<(), End> {
        if version == NO_VERSION {
            return Ok(());
        }
        if version < self.seen {
            return Err(End::Desync(format!("version {version} came after {}", self.seen)));
        }
        self.version = Some(version);
        self.seen = version;
        self.backoff.reset();
        Ok(())
    }
}

/// What an event of an error says.
fn refused(status: &str) -> RequestError {
    RequestError::Refused(Box::new(Refusal::told(status)))
}

/// The answer is none of a watch.
fn unexpected(text: &str) -> RequestError {
    RequestError::Illegible(Illegible(crate::object::shortened(text, crate::object::REASON)))
}

fn describe<K: Resource<DynamicType = ()>>(error: &RequestError) -> String {
    match error.refusal() {
        Some(refusal) if refusal.code == 404 => format!(
            "the API server does not know {}.{}: are Konductor's custom resources installed? Trying again",
            K::plural(&()),
            K::group(&())
        ),
        _ => format!("{error}; trying again"),
    }
}
