//! Follows all objects of a kind: one consistent list, then a watch from there, for ever.
//!
//! What it promises: after [`Event::InitDone`], everything that changes is told in the order of the API server, until
//! the next [`Event::Init`]. What a list does not show is gone if it is not newer than the list; what is newer (known
//! from the answer to a write) may have come after it, and the watch tells. Nothing is gone by a list in which
//! something could not be read at all.
//!
//! Nothing ends it but the listener. Whatever goes wrong is reported and tried again after a pause that grows; an
//! object that cannot be read is told as such and costs nothing else.
//!
//! Versions only ever grow, unless the API server's etcd was restored from a backup: then what is known of the objects
//! is from a time that has never been. A watch does not tell; it waits for a version that is far away. So a watch that
//! has seen nothing at all is followed by a small consistent read, and a consistent read that is older than what was
//! seen before is reported. So is one that was cut off, or that has ended before its time, as watches do when API servers
//! are restarted, and at once: versions soon come to where they were, and then no read tells. And who restores a backup as
//! etcd's guide says has its versions go on far above all that were: then it is in the objects, which are older than they
//! were seen, in a list that is newer.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use kube::Resource;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tracing::{info, warn};

use crate::{
    backoff::Backoff,
    clock::Boottime,
    endpoint::{Endpoint, Page, PageRequest, REQUEST_TIMEOUT, next, read},
    object::{Described, Illegible, Lenient, Metadata, NO_VERSION, Object},
    refusal::{Refusal, RequestError},
    repeats::{Repeated, Repeats},
    sieve::{Found, Layout, Sieve, Text},
};

/// How long one watch lasts; the next one goes on where it ended. Short, because a connection that is silently dead (a
/// load balancer forgot it) looks like quiet, and costs that long at most.
const WATCH_SECONDS: u32 = 30;

/// How much later than [`WATCH_SECONDS`] the API server may end a watch.
const WATCH_SLACK: Duration = Duration::from_secs(5);

/// Watches that fail this often in a row may be tried from where they were. After one more a list comes first: the
/// version to go on from may be the trouble.
const FAILURES_BEFORE_LIST: u32 = 3;

/// The least objects that a page is asked for, however often it fails: of the largest that can be stored, 12 MB.
const LEAST_PAGE: u32 = 8;

/// How a selector begins that selects by name. The small read has it too: permission may go no further than that one
/// object. It has no other selector: all objects might be searched for one that is selected.
const BY_NAME: &str = "metadata.name=";

/// A watch that ends sooner was cut off: the next one waits a little, and the log does not say that it has worked.
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
pub enum Event<A> {
    /// A list begins: what comes until [`Event::InitDone`] are all objects.
    Init,
    /// The list has ended. It was consistent: what it did not show was not there at this version.
    InitDone {
        /// The version of the list. [`NO_VERSION`] if something in it was passed over: that may be anything, so the
        /// list shows of nothing that it is gone.
        version: u64,
    },
    /// An object, new or changed.
    Apply(A),
    /// An object that was deleted.
    Delete(Deleted),
}

impl<A> Event<A> {
    /// The same with what `read` makes of the object.
    pub fn map<B>(self, read: impl FnOnce(A) -> B) -> Event<B> {
        match self {
            Self::Init => Event::Init,
            Self::InitDone { version } => Event::InitDone { version },
            Self::Apply(object) => Event::Apply(read(object)),
            Self::Delete(deleted) => Event::Delete(deleted),
        }
    }
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
    /// A list or a watch did not work, or could not go on, and is begun anew. Told each time.
    Restarting,
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

/// How many objects a page is asked for. Their text can be more than comes in time, so a page that fails is halved; but
/// an API server that is not there fails small pages, too, so they grow again once one has come. A size that failed
/// after another one had come is not tried again in that list.
#[derive(Clone, Copy, Debug)]
struct PageSize {
    now: u32,
    most: u32,
    /// Whether a page has come since the last one failed.
    has_come: bool,
}

impl PageSize {
    fn new(most: u32) -> Self {
        Self { now: most, most, has_come: false }
    }

    fn came(&mut self) {
        (self.now, self.has_come) = (self.now.saturating_mul(2).min(self.most), true);
    }

    fn failed(&mut self) {
        self.now = (self.now / 2).max(LEAST_PAGE.min(self.now));
        if std::mem::take(&mut self.has_come) {
            self.most = self.now;
        }
    }
}

/// What the log says of trouble and of its end: each once, with how often it has failed in between. Trouble that comes
/// and goes is said ever more seldom.
#[derive(Debug, Default)]
struct Logged {
    repeats: Repeats,
    /// A complaint is the last that it says.
    is_complaint: bool,
    /// Failures since it last said that it works.
    failures: u32,
}

impl Logged {
    /// It has failed; `is_new`: for another reason than before. Returns whether to log that.
    fn failed(&mut self, why: &str, is_new: bool, now: Duration) -> Option<Repeated> {
        self.failures = self.failures.saturating_add(1);
        // What lasts is said once; but once it is, also if it came too soon after the last time to be said at first.
        let again = if is_new || !self.is_complaint { self.repeats.take(why, now) } else { None };
        self.is_complaint |= again.is_some();
        again
    }

    /// Whether to log that it works, and after how many failures. Whoever has read of no trouble has no use for its
    /// end.
    fn works(&mut self) -> Option<u32> {
        std::mem::take(&mut self.is_complaint).then(|| std::mem::take(&mut self.failures))
    }
}

/// How many deletions are remembered: those that the last moments before an outage may have had. Each object of a list is
/// looked up among them.
const REMEMBERED: usize = 64;

/// Objects whose versions are remembered: some megabytes. If there are more, half of them are, or a quarter: whoever
/// makes very many must not take everybody's memory. Which ones, nobody can choose.
const VERSIONS: usize = 1 << 17;

/// At which version each object was last seen, by a digest of its UID.
#[derive(Debug, Default)]
struct Versions {
    seen: HashMap<u64, u64>,
    /// Digests with any of these bits are passed over.
    mask: u64,
    /// The same of a list that is not complete yet.
    listed: HashMap<u64, u64>,
    /// What was deleted since the last list, in order, of the latest so many: an old backup has it again.
    gone: VecDeque<(u64, u64)>,
    /// An object that this list shows as it was before it was last seen: these two versions.
    reversed: Option<(u64, u64)>,
}

impl Versions {
    fn digest(uid: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        hasher.finish()
    }

    fn list_begins(&mut self) {
        self.mask = 0;
        self.listed.clear();
        self.reversed = None;
    }

    fn list_shows(&mut self, uid: &str, version: u64) {
        let digest = Self::digest(uid);
        // What a field selector no longer selects is as good as deleted, and may come again, later.
        let is_back = |(gone, end): &&(u64, u64)| *gone == digest && version != NO_VERSION && version < *end;
        if let Some((_, end)) = self.gone.iter().find(is_back) {
            self.reversed.get_or_insert((*end, version));
        }
        let known = self.seen.get(&digest).filter(|seen| version != NO_VERSION && **seen > version);
        if let Some(seen) = known {
            self.reversed.get_or_insert((*seen, version));
        }
        Self::note(&mut self.listed, &mut self.mask, digest, version);
    }

    /// A list is complete. What went back, if anything did.
    fn list_ends(&mut self) -> Option<(u64, u64)> {
        self.seen = std::mem::take(&mut self.listed);
        self.gone.clear();
        self.reversed.take()
    }

    fn event_shows(&mut self, uid: &str, version: u64) {
        Self::note(&mut self.seen, &mut self.mask, Self::digest(uid), version);
    }

    fn note(versions: &mut HashMap<u64, u64>, mask: &mut u64, digest: u64, version: u64) {
        if digest & *mask != 0 {
            return;
        }
        versions.insert(digest, version);
        if versions.len() > VERSIONS {
            *mask = *mask << 1 | 1;
            versions.retain(|digest, _| digest & *mask == 0);
        }
    }

    fn is_gone(&mut self, uid: &str, version: u64) {
        let digest = Self::digest(uid);
        self.seen.remove(&digest);
        if self.gone.len() == REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back((digest, version));
    }
}

/// Where a source stands.
struct Follower<K, S, T, E, N, F, R> {
    source: Source<K, S, T>,
    events: mpsc::Sender<E>,
    keep: N,
    wrap: F,
    report: R,
    page: PageSize,
    backoff: Backoff,
    /// Watches that have failed since the last list.
    failed_watches: u32,
    /// The version to watch from; `None` if a list is due.
    version: Option<u64>,
    /// The last watch was cut off: the API server may be another one.
    is_cut_off: bool,
    /// The latest version that was seen.
    seen: u64,
    versions: Versions,
    /// What was reported last as failing.
    complaint: Option<String>,
    log: Logged,
    /// Whether there has been a watch.
    has_followed: bool,
}

impl<K, S, T> Source<K, S, T>
where
    K: Resource<DynamicType = ()>,
    S: DeserializeOwned + Send,
    T: DeserializeOwned + Default + Send,
{
    /// Sends what `wrap` makes of each event, until nobody listens any more. `report` is told how it goes. Of each
    /// object an event has what `keep` returns of it. That is asked as soon as the object is read, so that no more of a
    /// page is in memory; if the page breaks off, nothing is told of it.
    pub async fn follow<A: Send, E: Send>(
        self,
        events: mpsc::Sender<E>,
        keep: impl FnMut(Lenient<Object<K, S, T>>) -> A + Send,
        wrap: impl FnMut(Event<A>) -> Option<E> + Send,
        report: impl FnMut(Report) + Send,
    ) {
        let follower = Follower {
            page: PageSize::new(self.page),
            source: self,
            events,
            keep,
            wrap,
            report,
            backoff: Backoff::default(),
            failed_watches: 0,
            version: None,
            is_cut_off: false,
            seen: NO_VERSION,
            versions: Versions::default(),
            complaint: None,
            log: Logged::default(),
            has_followed: false,
        };
        follower.run().await;
    }
}

impl<K, S, T, A, E, N, F, R> Follower<K, S, T, E, N, F, R>
where
    K: Resource<DynamicType = ()>,
    S: DeserializeOwned + Send,
    T: DeserializeOwned + Default + Send,
    A: Send,
    E: Send,
    N: FnMut(Lenient<Object<K, S, T>>) -> A + Send,
    F: FnMut(Event<A>) -> Option<E> + Send,
    R: FnMut(Report) + Send,
{
    async fn run(mut self) {
        loop {
            let result = match self.version {
                None => self.list().await,
                Some(version) if self.is_cut_off => self.look_back(version).await,
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
                    self.is_cut_off |= matches!(error, RequestError::Unanswered(_));
                    self.failed_watches += 1;
                    if self.failed_watches > FAILURES_BEFORE_LIST {
                        self.version = None;
                    }
                    self.fails(describe::<K>(&error));
                    self.backoff.pause_after(&error).await;
                }
            }
        }
    }

    async fn send(&mut self, event: Event<A>) -> Result<(), End> {
        match (self.wrap)(event) {
            Some(event) => self.events.send(event).await.map_err(|_| End::Closed),
            None => Ok(()),
        }
    }

    fn fails(&mut self, why: String) {
        (self.report)(Report::Restarting);
        let is_new = self.complaint.as_ref() != Some(&why);
        if let Some(again) = self.log.failed(&why, is_new, Boottime::now().0) {
            warn!(resource = %K::plural(&()), "{why}{again}");
        }
        if is_new {
            self.complaint = Some(why.clone());
            (self.report)(Report::Failing { why });
        }
    }

    fn is_well(&mut self) {
        let is_first = !std::mem::replace(&mut self.has_followed, true);
        if self.complaint.take().is_some() || is_first {
            (self.report)(Report::Following);
        }
    }

    /// The watch has shown something, or lasts.
    fn log_that_it_works(&mut self) {
        if let Some(failures) = self.log.works() {
            info!(resource = %K::plural(&()), failures, "following again");
        }
    }

    fn pass_over(&mut self, error: &Illegible) {
        warn!(resource = %K::plural(&()), "passed over: {error}");
        (self.report)(Report::Illegible { why: error.to_string() });
    }

    /// All pages of one consistent list.
    async fn list(&mut self) -> Result<(), End> {
        let mut token = None;
        self.versions.list_begins();
        let mut page = self.page(token).await?;
        self.compare(page.version);
        self.send(Event::Init).await?;
        let mut is_complete = true;
        loop {
            is_complete &= page.illegible.is_empty();
            for error in page.illegible {
                self.pass_over(&error);
            }
            for object in page.items {
                self.send(Event::Apply(object)).await?;
            }
            token = page.continue_token;
            if token.is_none() {
                (self.version, self.failed_watches, self.is_cut_off) = (Some(page.version), 0, false);
                self.page = PageSize::new(self.source.page);
                if let Some((seen, listed)) = self.versions.list_ends() {
                    self.went_back(seen, listed);
                }
                let version = if is_complete { page.version } else { NO_VERSION };
                return self.send(Event::InitDone { version }).await;
            }
            page = self.page(token).await?;
        }
    }

    /// One page of a list, from where the one before ended.
    async fn page(&mut self, continue_token: Option<String>) -> Result<Page<A>, RequestError> {
        let wanted = PageRequest { fields: self.source.fields.clone(), limit: self.page.now, continue_token };
        let (versions, keep) = (&mut self.versions, &mut self.keep);
        let mut note = |object: Lenient<Object<K, S, T>>| {
            let metadata = object.metadata();
            versions.list_shows(&metadata.uid, metadata.version);
            keep(object)
        };
        let page = self.source.endpoint.page(&wanted, &mut note).await;
        match &page {
            Ok(_) => self.page.came(),
            Err(RequestError::Unanswered(_)) => self.page.failed(),
            Err(error) if error.refusal().is_some_and(|refusal| refusal.code >= 500) => self.page.failed(),
            Err(_) => {}
        }
        page
    }

    /// Compares what a consistent read shows with what was seen before.
    fn compare(&mut self, listed: u64) -> bool {
        let seen = std::mem::replace(&mut self.seen, listed);
        let went_back = listed < seen;
        if went_back {
            self.went_back(seen, listed);
        }
        went_back
    }

    fn went_back(&mut self, seen: u64, listed: u64) {
        warn!(resource = %K::plural(&()), seen, listed, "the API server's data was restored from a backup");
        (self.report)(Report::WentBack { seen, listed });
    }

    /// A small consistent read: whether `version` has been.
    async fn look_back(&mut self, version: u64) -> Result<(), End> {
        let fields = self.source.fields.clone().filter(|fields| fields.starts_with(BY_NAME));
        let listed = self.source.endpoint.current_version(fields).await?;
        self.is_cut_off = false;
        if self.compare(listed) {
            return Err(End::Desync(format!("version {version} is still to come")));
        }
        Ok(())
    }

    /// One watch from `version`, and what follows from how it went.
    async fn watch(&mut self, version: u64) -> Result<(), End> {
        let begun = Instant::now();
        // A listener that is slow for so long makes the watch begin again where it is, which is harmless.
        let limit = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_SLACK;
        timeout(limit, self.watch_once(version)).await.unwrap_or(Ok(()))?;
        let lasted = begun.elapsed();
        if lasted < HASTY {
            self.backoff.pause().await;
        } else {
            self.backoff.reset();
            self.failed_watches = 0;
        }
        let is_early = lasted >= HASTY && lasted + HASTY < Duration::from_secs(WATCH_SECONDS.into());
        if self.version == Some(version) || is_early {
            self.look_back(version).await?;
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
        let lasts = Instant::now() + HASTY;
        loop {
            // An API server that has just started opens a watch, and then says that it cannot serve it.
            let bytes = if self.log.is_complaint {
                if let Ok(bytes) = timeout_at(lasts, next(&mut body)).await {
                    bytes?
                } else {
                    self.log_that_it_works();
                    continue;
                }
            } else {
                next(&mut body).await?
            };
            let Some(bytes) = bytes else { break };
            sieve.push(&bytes, |piece| found.push(piece));
            for piece in found.drain(..) {
                match piece {
                    Found::Object(text) => object = text,
                    Found::Frame(frame) => {
                        self.take(&frame.json, std::mem::take(&mut object)).await?;
                        self.log_that_it_works();
                    }
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
                    self.versions.is_gone(&uid, version);
                    (Some(Event::Delete(Deleted { namespace, name, uid, version })), version)
                }
                Ok(object) => {
                    let at = object.metadata().version;
                    self.versions.event_shows(&object.metadata().uid, at);
                    (Some(Event::Apply((self.keep)(object))), at)
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
        if let Some(last) = self.version.filter(|last| version < *last) {
            return Err(End::Desync(format!("version {version} came after {last}")));
        }
        self.version = Some(version);
        self.seen = self.seen.max(version);
        self.failed_watches = 0;
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

#[cfg(test)]
mod tests {
    use konductor_api::{Permit, PermitSpec};
    use serde::de::IgnoredAny;

    use super::*;
    use crate::{Program, fake::Fake};

    type Claim = Object<Permit, PermitSpec, IgnoredAny>;

    // Time stands still in these tests but for pauses, as nothing else takes any: what becomes of a watch depends on how
    // long it has lasted.

    fn list(version: u64, names: &[&str], more: &str) -> String {
        let items: Vec<_> = names.iter().map(|name| object(name, version)).collect();
        let metadata = format!(r#"{{"resourceVersion":"{version}","continue":"{more}"}}"#);
        format!(r#"{{"kind":"PermitList","metadata":{metadata},"items":[{}]}}"#, items.join(","))
    }

    fn object(name: &str, version: u64) -> String {
        let metadata = format!(r#"{{"name":"{name}","namespace":"n","uid":"{name}","resourceVersion":"{version}"}}"#);
        format!(r#"{{"metadata":{metadata},"spec":{{"semaphore":"s","holder":"h","instance":"i"}}}}"#)
    }

    fn misfit(name: &str, version: u64) -> String {
        object(name, version).replace(r#""semaphore":"s","#, "")
    }

    fn event(kind: &str, object: &str) -> String {
        format!(r#"{{"type":"{kind}","object":{object}}}"#) + "\n"
    }

    fn bookmark(version: u64) -> String {
        event("BOOKMARK", &format!(r#"{{"kind":"Permit","metadata":{{"resourceVersion":"{version}"}}}}"#))
    }

    fn failure(code: u16, message: &str) -> String {
        format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{message}","code":{code}}}"#)
    }

    /// What is told, reports among it, and the queries that are asked, when the API server gives these answers in turn
    /// and then none any more.
    async fn follow(answers: &[(u16, String)]) -> (Vec<String>, Vec<String>) {
        follow_some(None, answers).await
    }

    async fn follow_some(fields: Option<&str>, answers: &[(u16, String)]) -> (Vec<String>, Vec<String>) {
        follow_by(2, fields, answers).await
    }

    async fn follow_by(page: u32, fields: Option<&str>, answers: &[(u16, String)]) -> (Vec<String>, Vec<String>) {
        let (mut seen, queries) = follow_whole(page, fields, answers).await;
        seen.retain(|text| text != RESTARTING);
        (seen, queries)
    }

    /// What is told each time that a list or a watch fails.
    const RESTARTING: &str = "restarting";

    /// The same as [`follow_by`], with each of these.
    async fn follow_whole(page: u32, fields: Option<&str>, answers: &[(u16, String)]) -> (Vec<String>, Vec<String>) {
        let fake = Fake::new(answers);
        let (events, mut told) = mpsc::channel(1000);
        let reports = events.clone();
        let endpoint = Endpoint::<Permit, PermitSpec, IgnoredAny>::all(fake.client(), Program::OPERATOR);
        let source = Source { endpoint, fields: fields.map(Into::into), page };
        let keep = |object: Lenient<Claim>| match object {
            Ok(object) => format!("+{}", object.metadata.name),
            Err(misfit) => format!("?{}: {misfit}", misfit.metadata.name),
        };
        let wrap = |event| {
            Some(match event {
                Event::Init => "init".to_owned(),
                Event::InitDone { version } => format!("done {version}"),
                Event::Apply(text) => text,
                Event::Delete(deleted) => format!("-{}", deleted.name),
            })
        };
        let report = move |report| {
            let text = match report {
                Report::Following => "following".to_owned(),
                Report::Failing { why } => format!("failing: {why}"),
                Report::Restarting => RESTARTING.to_owned(),
                Report::Illegible { why } => format!("illegible: {why}"),
                Report::WentBack { seen, listed } => format!("went back from {seen} to {listed}"),
            };
            reports.try_send(text).expect("room for all");
        };
        let following = tokio::spawn(source.follow(events, keep, wrap, report));
        fake.exhausted().await;
        following.abort();
        let mut seen = Vec::new();
        while let Some(text) = told.recv().await {
            seen.push(text);
        }
        (seen, fake.queries())
    }

    #[test]
    fn of_very_many_objects_a_part_is_remembered_and_shows_what_went_back() {
        let mut versions = Versions::default();
        let list = |versions: &mut Versions, version: u64| {
            versions.list_begins();
            (0..VERSIONS * 3).for_each(|number| versions.list_shows(&number.to_string(), version));
            versions.list_ends()
        };
        assert_eq!(list(&mut versions, 7), None);
        assert!((VERSIONS / 2..=VERSIONS).contains(&versions.seen.len()), "{}", versions.seen.len());
        assert_eq!(list(&mut versions, 6), Some((7, 6)));
    }

    #[tokio::test(start_paused = true)]
    async fn lists_all_pages_and_then_watches_from_there() {
        let events = event("ADDED", &object("c", 6)) + &event("DELETED", &object("a", 7)) + &bookmark(9);
        let (seen, queries) =
            follow(&[(200, list(5, &["a", "b"], "more")), (200, list(5, &["c"], "")), (200, events)]).await;
        assert_eq!(seen, ["init", "+a", "+b", "+c", "done 5", "following", "+c", "-a"]);
        // The list asks for what is current: it names no version.
        assert_eq!(queries[0], "&limit=2");
        assert_eq!(queries[1], "&limit=2&continue=more");
        assert!(queries[2].ends_with("resourceVersion=5") && queries[3].ends_with("resourceVersion=9"), "{queries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn begins_anew_when_the_version_is_too_old() {
        let gone = failure(410, "too old");
        for answer in [(200, event("ERROR", &gone)), (410, gone.clone())] {
            let (seen, _) =
                follow(&[(200, list(5, &["a"], "")), answer, (200, list(8, &["b"], "")), (200, bookmark(8))]).await;
            let failing = "failing: cannot go on from where the last watch ended, listing anew: too old (410)";
            let seen: Vec<_> = seen.into_iter().filter(|text| text != "following").collect();
            assert_eq!(seen, ["init", "+a", "done 5", failing, "init", "+b", "done 8"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_from_where_it_was_after_other_errors_and_begins_anew_after_many() {
        let failed = || (500, "no".to_owned());
        let (seen, queries) = follow(&[(200, list(5, &[], "")), failed(), failed()]).await;
        assert_eq!(seen, ["init", "done 5", "failing: no (500); trying again"]);
        assert!(queries[1..].iter().all(|query| query.ends_with("resourceVersion=5")), "{queries:?}");
        let failures = std::iter::repeat_with(failed).take(FAILURES_BEFORE_LIST as usize + 1);
        let answers: Vec<_> = std::iter::once((200, list(5, &[], ""))).chain(failures).collect();
        let (_, queries) = follow(&answers).await;
        assert_eq!(queries.last().map(String::as_str), Some("&limit=2"));
    }

    #[tokio::test(start_paused = true)]
    async fn each_list_and_watch_that_fails_is_told_also_where_the_reason_is_the_same() {
        let failed = || (500, "no".to_owned());
        let gone = (410, failure(410, "too old"));
        let list = || (200, list(5, &[], ""));
        // The end of a watch in time is none.
        let answers = [failed(), list(), (200, bookmark(6)), failed(), failed(), gone, list(), (200, bookmark(7))];
        let (seen, _) = follow_whole(2, None, &answers).await;
        let restarts = seen.iter().filter(|text| *text == RESTARTING).count();
        let failing = seen.iter().filter(|text| text.starts_with("failing: ")).count();
        assert_eq!((restarts, failing), (4, 3), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_cannot_be_read_is_told_and_costs_nothing_else() {
        let events = event("MODIFIED", &misfit("b", 6))
            + &event("MODIFIED", r#"{"spec":5}"#)
            + &event("MODIFIED", "[[]]")
            + &event("ADDED", &object("c", 7))
            + &event("DELETED", &misfit("b", 8));
        let items = [object("a", 1), misfit("b", 2), r#"{"metadata":{}}"#.into(), object("d", 3)].join(",");
        let list = format!(r#"{{"items":[{items}],"metadata":{{"resourceVersion":"5"}}}}"#);
        let (seen, queries) = follow(&[(200, list), (200, events)]).await;
        let why = "?b: spec: missing field `semaphore` at line 1 column 29";
        let illegible = "illegible: not an object: it has no name";
        let none = "illegible: not an object: invalid type: sequence, expected an object at line 1 column 0";
        let expected = ["init", illegible, "+a", why, "+d", "done 0", "following", why, illegible, none, "+c", "-b"];
        assert_eq!(seen, expected);
        assert!(queries[1].ends_with("resourceVersion=5"), "{queries:?}");
        assert!(queries[2].ends_with("resourceVersion=8"), "{queries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_in_which_something_was_passed_over_shows_of_nothing_that_it_is_gone() {
        let illegible = |more: &str| {
            let metadata = format!(r#"{{"resourceVersion":"5","continue":"{more}"}}"#);
            (200, format!(r#"{{"metadata":{metadata},"items":[{{"metadata":{{}}}}]}}"#))
        };
        let page = |more: &str| (200, list(5, &["a"], more));
        for (pages, done) in [
            ([page("1"), page("2"), page("")], "done 5"),
            ([illegible("1"), page("2"), page("")], "done 0"),
            ([page("1"), page("2"), illegible("")], "done 0"),
        ] {
            let (seen, queries) = follow(&pages).await;
            assert_eq!(seen.last().map(String::as_str), Some(done));
            assert!(queries[3].ends_with("resourceVersion=5"), "{queries:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_too_long_is_told_by_its_name_and_makes_no_new_list() {
        let long = object("b", 6).replace(r#""holder":"h""#, &format!(r#""holder":"{}""#, "h".repeat(5 << 20)));
        let events = event("MODIFIED", &long) + &event("ADDED", &object("c", 7));
        let (seen, queries) = follow(&[(200, list(5, &["a"], "")), (200, events)]).await;
        assert_eq!(seen, ["init", "+a", "done 5", "following", "?b: it is too long", "+c"]);
        assert!(queries[2].ends_with("resourceVersion=7"), "{queries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pages_that_fail_are_halved_and_grow_again_up_to_what_did_not_fail() {
        let (failed, refused) = ((504, "late".to_owned()), (403, failure(403, "no")));
        let page = |more: &str| (200, list(5, &[], more));
        let gone = (410, failure(410, "too old"));
        let limits = async |answers: &[(u16, String)]| {
            let (_, queries) = follow_by(40, None, answers).await;
            let limit = |query: &String| query.strip_prefix("&limit=")?.split('&').next()?.parse::<u32>().ok();
            queries.iter().filter_map(limit).collect::<Vec<_>>()
        };
        // Whoever refuses does not do so for the size.
        assert_eq!(limits(&[refused.clone(), refused]).await, [40, 40, 40]);
        // An API server that was not there for a while.
        let answers = [&[failed.clone(), failed.clone(), failed.clone(), failed.clone()][..], &[page("1"), page("2")]];
        assert_eq!(limits(&answers.concat()).await, [40, 20, 10, 8, 8, 16, 32]);
        // A page that is too large, and the list after this one.
        let answers = [page("1"), failed.clone(), page("1"), failed, page("1"), page("2"), page(""), gone];
        assert_eq!(limits(&answers).await, [40, 40, 20, 20, 10, 10, 10, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn says_when_a_permission_is_taken_away_and_given_back() {
        let refused = (403, failure(403, "no right to watch"));
        let answers = [(200, list(5, &[], "")), (200, bookmark(6)), refused.clone(), refused, (200, bookmark(7))];
        let (seen, _) = follow(&answers).await;
        let failing = "failing: no right to watch (403); trying again";
        assert_eq!(seen, ["init", "done 5", "following", failing, "following"]);
    }

    #[test]
    fn that_it_works_again_is_news_only_to_who_has_read_of_trouble() {
        let mut log = Logged::default();
        let mut comes_and_goes = |at: u64| {
            let complains = log.failed("cut off", true, Duration::from_secs(at)).is_some();
            (complains, log.works())
        };
        let hushed = (false, None);
        let expected = [(true, Some(1)), hushed, hushed, hushed, (true, Some(4)), hushed];
        assert_eq!([0, 3, 6, 9, 12, 15].map(&mut comes_and_goes), expected);
        // What lasts is said once, and its end with a count.
        assert_eq!(log.works(), None, "it has worked before");
        let mut lasts = |at: u64| log.failed("refused", at == 20, Duration::from_secs(at)).is_some();
        assert_eq!([20, 25, 30, 300].map(&mut lasts), [true, false, false, false]);
        assert_eq!(log.works(), Some(5), "with the one before that was not told");
    }

    #[tokio::test(start_paused = true)]
    async fn says_when_versions_go_back() {
        // A watch from a version that is still to come shows nothing; the read after it tells why.
        let answers = [
            (200, list(50, &["a"], "")),
            (200, String::new()),
            (200, list(20, &["a"], "")),
            (200, list(21, &["b"], "")),
        ];
        let (seen, queries) = follow(&answers).await;
        let failing =
            "failing: cannot go on from where the last watch ended, listing anew: version 50 is still to come";
        let expected =
            ["init", "+a", "done 50", "following", "went back from 50 to 20", failing, "init", "+b", "done 21"];
        assert_eq!(seen, expected);
        assert_eq!(queries[2..4], ["&limit=1", "&limit=2"]);
        // One that has shown something more is as good.
        let answers = [(200, list(50, &[], "")), (200, bookmark(60) + &bookmark(20)), (200, list(21, &[], ""))];
        let (seen, _) = follow(&answers).await;
        assert!(seen.contains(&"went back from 60 to 21".to_owned()), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn says_when_an_object_goes_back_in_a_list_that_is_newer() {
        // Who restores a backup as etcd's guide says has versions go on far above all that were.
        let gone = (410, failure(410, "too old"));
        let events = event("MODIFIED", &object("a", 60)) + &event("ADDED", &object("b", 61));
        let raised = list(1_000_000_061, &[], "").replace("[]", &format!("[{}]", object("a", 50)));
        let answers = [(200, list(50, &["a"], "")), (200, events), gone.clone(), (200, raised.clone())];
        let (seen, _) = follow(&answers).await;
        assert!(seen.contains(&"went back from 60 to 50".to_owned()), "{seen:?}");
        // What was deleted is there again.
        let events = event("DELETED", &object("a", 60)) + &event("ADDED", &object("b", 61));
        let answers = [(200, list(50, &["a"], "")), (200, events), gone.clone(), (200, raised.clone())];
        let (seen, _) = follow(&answers).await;
        assert!(seen.contains(&"went back from 60 to 50".to_owned()), "{seen:?}");
        // All is as it was; or a selector selects again what it did not for a while.
        let selected = list(70, &[], "").replace("[]", &format!("[{}]", object("a", 65)));
        for (events, listed) in
            [(event("ADDED", &object("b", 61)), raised), (event("DELETED", &object("a", 60)), selected)]
        {
            let answers = [(200, list(50, &["a"], "")), (200, events), gone.clone(), (200, listed)];
            let (seen, _) = follow(&answers).await;
            assert!(!seen.iter().any(|text| text.starts_with("went back")), "{seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_whether_versions_went_back_as_soon_as_a_watch_is_cut_off() {
        // Soon they come to where they were, and then no read tells.
        let answers = [
            (200, list(50, &["a"], "")),
            (Fake::CUT_OFF, bookmark(51)),
            (200, list(20, &["a"], "")),
            (200, list(21, &["b"], "")),
        ];
        let (seen, queries) = follow(&answers).await;
        assert!(seen.contains(&"went back from 51 to 20".to_owned()), "{seen:?}");
        assert_eq!(queries[2], "&limit=1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_watch_is_no_sign_of_anything() {
        // What the read shows may come as an event only later.
        let answers = [
            (200, list(50, &[], "")),
            (200, String::new()),
            (200, list(60, &[], "")),
            (200, event("ADDED", &object("a", 55))),
        ];
        let (seen, queries) = follow(&answers).await;
        assert_eq!(seen, ["init", "done 50", "following", "+a"]);
        assert!(
            queries[3].ends_with("resourceVersion=50") && queries[4].ends_with("resourceVersion=55"),
            "{queries:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_read_after_a_quiet_watch_asks_for_no_more_than_one_object_by_name() {
        let answers = [(200, list(50, &[], "")), (200, String::new()), (200, list(50, &[], ""))];
        for (fields, expected) in
            [("metadata.name=a", "&fieldSelector=metadata.name%3Da&limit=1"), ("status.phase=Failed", "&limit=1")]
        {
            let (_, queries) = follow_some(Some(fields), &answers).await;
            assert_eq!(queries[2], expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_none_of_a_watch_is_a_failure_with_a_pause() {
        for answer in ["<html>", r#"{"kind":"Status"}"#, r#"{"type":"ADDED","object":{"metadata""#] {
            let begun = Instant::now();
            let (seen, queries) = follow(&[(200, list(5, &[], "")), (200, answer.into()), (200, answer.into())]).await;
            assert!(seen[3].starts_with("failing: the API server's answer cannot be read"), "{seen:?}");
            assert!(queries[1..].iter().all(|query| query.ends_with("resourceVersion=5")), "{queries:?}");
            assert!(begun.elapsed() >= Duration::from_millis(50 + 100), "{:?}", begun.elapsed());
        }
    }
}
