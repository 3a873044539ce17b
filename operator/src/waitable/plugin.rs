//! What the engine is told about what is waited for.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use konductor_api::{
    Rendezvous, RendezvousPhase,
    arbiter::{Now, Version},
    conditions,
    duration::doubling_pause,
    limits::{RETRY_AFTER, STATUS_EVERY},
    rendezvous::{Answers, Change, RendezvousStatus},
};
use konductor_cluster::{
    Endpoint, Program, RequestError,
    follow::{Deleted, Event},
    object::{Described, Lenient},
};
use kube::Client;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use super::kind::{Chore, EndpointOf, Errand, Kind, Next, ObjectOf, Verdict, kept};
use crate::{
    accounts::{Attempt, Fate, account},
    engine::{Lane, Plugin, Sizes, Turn},
    events::{News, Recorder, Severity, reference},
    key::{Key, ParentKey},
    metrics::{CacheId, Metrics},
    tasks::next_absent,
};

/// A parent that waits for a time is looked at this often meanwhile, as the wall clock may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The longest pause before another attempt at what was premature, or refused.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The longest pause while nobody answers: how late it may be noticed that somebody does again.
const LONGEST_OUTAGE: Duration = Duration::from_secs(5);

/// What a watch shows.
pub(crate) enum Seen<K: Kind> {
    /// Of the parents.
    Parent(Event<Box<Lenient<ObjectOf<K>>>>),
    /// Of other objects.
    Other(K::Seen),
}

impl<K: Kind> Debug for Seen<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parent(_) => f.write_str("Parent"),
            Self::Other(seen) => seen.fmt(f),
        }
    }
}

/// What is to be written, of which parent: one that was made anew under the same name is another.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    uid: String,
    version: Version,
    change: Change,
    /// When the last request for it was sent.
    sent: Duration,
}

/// Something to be sent.
#[derive(Debug)]
pub(crate) enum Job<E> {
    /// The status, as it is decided by then.
    Status,
    /// A step of an errand; `None`: of a chore.
    Step(E, Option<Purpose>),
    /// A look at a parent that is not as it was known, as a write for this purpose has shown.
    Look(Purpose),
}

/// A request.
pub(crate) enum Request<K: Kind> {
    /// Writes a status.
    Patch { key: Key, purpose: Purpose, version: Version, status: Value },
    /// Takes a step of an errand.
    Step(K::Errand, Option<Purpose>, <K::Errand as Errand<K>>::Request),
    /// Reads the parent.
    Look(Key, Purpose),
    /// Reads the parent instead of writing it, as nobody answers.
    Probe(Key, Purpose),
}

/// What became of a request.
pub(crate) enum Answer<K: Kind> {
    Patched(Purpose, Verdict<K>),
    Stepped(K::Errand, Option<Purpose>, <K::Errand as Errand<K>>::Answer),
    /// `None`: it could not be read.
    Looked(Purpose, Option<Box<Lenient<ObjectOf<K>>>>),
    Probed(Purpose, Result<Box<Lenient<ObjectOf<K>>>, RequestError>),
}

impl<K: Kind> Answer<K> {
    /// When its request was sent, and whether somebody has answered; `None` if that is not known.
    fn heard(&self) -> Option<(Duration, bool)> {
        match self {
            Self::Patched(purpose, Verdict::Failed(error)) | Self::Probed(purpose, Err(error)) => {
                Some((purpose.sent, error.is_not_applied()))
            }
            Self::Patched(purpose, _) | Self::Probed(purpose, Ok(_)) => Some((purpose.sent, true)),
            Self::Stepped(_, purpose, answer) => {
                purpose.as_ref().map(|purpose| (purpose.sent, !K::Errand::is_unanswered(answer)))
            }
            Self::Looked(purpose, found) => found.as_ref().map(|_| (purpose.sent, true)),
        }
    }
}

/// A parent, and how far its status is.
struct Entry<K: Kind> {
    object: Arc<ObjectOf<K>>,
    epoch: u32,
    /// A write or its errand is under way, or waits to go on; for the object of this UID.
    writing: bool,
    /// It waits for a place to be written, as something urgent or not.
    queued: Option<bool>,
    /// When the last write was sent.
    sent: Option<Duration>,
    /// Nothing is written before this time, as a write has failed.
    retry: Duration,
    /// Writes in a row that came to nothing, as they failed or were premature, since it last changed.
    setbacks: u32,
    /// Why they were premature, as it was last told.
    complaint: Option<String>,
}

impl<K: Kind> Entry<K> {
    fn new(object: Arc<ObjectOf<K>>, epoch: u32) -> Self {
        let (writing, queued, sent, retry) = (false, None, None, Duration::ZERO);
        Self { object, epoch, writing, queued, sent, retry, setbacks: 0, complaint: None }
    }
}

/// All parents of one kind.
pub(crate) struct Waitables<K: Kind> {
    kind: K,
    entries: BTreeMap<Key, Entry<K>>,
    epoch: u32,
    answers: Answers,
    /// What a list of this version did not show.
    absent: VecDeque<(Key, String, Version)>,
    cache: CacheId,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

type KindTurn<'a, K> = Turn<'a, Job<<K as Kind>::Errand>>;

fn is_urgent(change: Change) -> bool {
    change != Change::Tell
}

fn lane(urgent: bool) -> Lane {
    if urgent { Lane::Urgent } else { Lane::Calm }
}

/// The longest pause after this.
fn longest(error: &RequestError) -> Duration {
    if error.is_not_applied() { LONGEST_PAUSE } else { LONGEST_OUTAGE }
}

impl<K: Kind> Waitables<K> {
    pub(crate) fn new(kind: K, metrics: &Arc<Metrics>, recorder: &Recorder) -> Self {
        metrics.register_kind(K::Parent::KIND.name);
        Self {
            kind,
            entries: BTreeMap::new(),
            epoch: 0,
            answers: Answers::default(),
            absent: VecDeque::new(),
            cache: metrics.register_cache(K::Parent::KIND.plural),
            recorder: recorder.clone(),
            metrics: metrics.clone(),
        }
    }

    fn apply(&mut self, object: Lenient<ObjectOf<K>>, turn: &mut KindTurn<'_, K>) {
        let metadata = object.metadata();
        let key = Key::from(ParentKey::new(&metadata.namespace, &metadata.name));
        let uid = metadata.uid.clone();
        let Ok(object) = object else {
            if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.object.metadata.uid == uid) {
                entry.epoch = self.epoch;
            }
            return;
        };
        let (object, epoch) = (Arc::new(object), self.epoch);
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.object.metadata.uid == uid) {
            entry.epoch = epoch;
            if entry.object.metadata.version >= object.metadata.version {
                return;
            }
            (entry.retry, entry.setbacks) = (Duration::ZERO, 0);
            entry.object = object;
        } else {
            self.entries.insert(key.clone(), Entry::new(object, epoch));
        }
        self.kind.parent(&key, self.entries.get(&key).map(|entry| &*entry.object), turn.now);
        turn.work_queue.mark(&key);
    }

    fn gone(&mut self, key: &Key, uid: &str, turn: &mut KindTurn<'_, K>) {
        if self.entries.get(key).is_some_and(|entry| entry.object.metadata.uid == uid) {
            self.entries.remove(key);
            turn.work_queue.set_alarm(key, None);
            self.metrics.parents.hide(K::Parent::KIND.name, key);
            self.kind.parent(key, None, turn.now);
        }
    }

    /// All parents were listed at this version: what the list did not show and is not newer is gone.
    fn listed(&mut self, version: Version) {
        let absent = self.entries.iter().filter_map(|(key, entry)| {
            let metadata = &entry.object.metadata;
            let gone = entry.epoch != self.epoch && metadata.version <= version;
            gone.then(|| (key.clone(), metadata.uid.clone(), version))
        });
        self.absent.extend(absent);
        self.kind.parents_listed();
        self.metrics.filled(self.cache);
    }

    /// Forgets some of what lists have not shown, as that may be all there was. Returns whether more is left.
    fn forget_absent(&mut self, turn: &mut KindTurn<'_, K>) -> bool {
        for (key, uid, version) in next_absent(&mut self.absent) {
            // An answer may have shown it meanwhile: then it has come after the list.
            if self.entries.get(&key).is_some_and(|entry| entry.object.metadata.version <= version) {
                self.gone(&key, &uid, turn);
            }
        }
        !self.absent.is_empty()
    }

    /// What to write of a parent now; and sends what waits for nothing else.
    fn plan(&mut self, key: &Key, turn: &mut KindTurn<'_, K>) {
        let (now, leading) = (turn.now, turn.leading);
        let Some(entry) = self.entries.get_mut(key) else { return };
        if !leading || entry.writing || entry.object.metadata.deleting {
            return;
        }
        self.metrics.parents.show(K::Parent::KIND.name, key, K::figures(&entry.object));
        let Some(plan) = self.kind.decide(key, &entry.object, now) else { return };
        let mut alarm = plan.look_again.map(|at| {
            let wait = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
            now.monotonic + wait.min(LOOK_AGAIN)
        });
        if let Some(write) = plan.write {
            let urgent = is_urgent(write.change);
            let pace = entry.sent.filter(|_| !urgent).map_or(Duration::ZERO, |at| at + STATUS_EVERY);
            let due = entry.retry.max(pace);
            if due > now.monotonic {
                alarm = Some(alarm.map_or(due, |at| at.min(due)));
            } else if entry.queued < Some(urgent) {
                entry.queued = Some(urgent);
                turn.lanes.push(lane(urgent), key, Job::Status);
            }
        }
        turn.work_queue.set_alarm(key, alarm);
    }

    /// The request that writes the status as it is decided now.
    fn status(&mut self, key: &Key, turn: &mut KindTurn<'_, K>) -> Option<Request<K>> {
        let entry = self.entries.get_mut(key)?;
        // It may have waited in both lanes.
        if entry.queued.take().is_none() || !turn.leading || entry.writing {
            return None;
        }
        // What came meanwhile may have made it needless, or urgent; its alarm was set when it was queued.
        let Some(write) = self.kind.decide(key, &entry.object, turn.now).and_then(|plan| plan.write) else {
            turn.work_queue.mark(key);
            return None;
        };
        entry.writing = true;
        entry.sent = Some(turn.now.monotonic);
        debug!(namespace = key.namespace, name = key.name, change = write.change.name(), "writing");
        let metadata = &entry.object.metadata;
        let (uid, version, sent) = (metadata.uid.clone(), metadata.version, turn.now.monotonic);
        let purpose = Purpose { uid, version, change: write.change, sent };
        if let Some(errand) = self.kind.errand(key, &entry.object, &write) {
            let request = errand.request();
            return Some(Request::Step(errand, Some(purpose), request));
        }
        if write.change == Change::Decide && self.answers.is_silent() {
            return Some(Request::Probe(key.clone(), purpose));
        }
        let version = purpose.version;
        let status = serde_json::to_value(&write.status).expect("a status is plain data");
        Some(Request::Patch { key: key.clone(), purpose, version, status })
    }

    /// The entry that a write is for; `None` if its parent is gone.
    fn written_to(&mut self, key: &Key, purpose: &Purpose) -> Option<&mut Entry<K>> {
        self.entries.get_mut(key).filter(|entry| entry.object.metadata.uid == purpose.uid)
    }

    /// A write has come to its end.
    fn written(&mut self, key: &Key, purpose: &Purpose, verdict: Verdict<K>, turn: &mut KindTurn<'_, K>) {
        let change = purpose.change;
        let Some(entry) = self.written_to(key, purpose) else { return };
        entry.writing = false;
        let is_overtaken = match &verdict {
            Verdict::Failed(error) => error.is_conflict(),
            Verdict::Overtaken => true,
            Verdict::Written(_) | Verdict::Premature(_) => false,
        };
        let longest = if let Verdict::Failed(error) = &verdict { longest(error) } else { LONGEST_PAUSE };
        if matches!(verdict, Verdict::Written(_)) {
            (entry.setbacks, entry.complaint) = (0, None);
        } else if !(is_overtaken && entry.object.metadata.version > purpose.version) {
            let pause = doubling_pause(RETRY_AFTER, entry.setbacks, longest);
            let pause = if let Verdict::Failed(error) = &verdict { error.pause(pause) } else { pause };
            entry.retry = turn.now.monotonic + pause;
            entry.setbacks += 1;
            if is_overtaken && turn.leading {
                // The watch would tell what it is now, too, but may be silent.
                turn.lanes.push(Lane::Read, key, Job::Look(purpose.clone()));
            }
        }
        self.account(
            key,
            &key.name,
            change.name(),
            match &verdict {
                Verdict::Written(_) => Fate::Applied,
                Verdict::Premature(_) | Verdict::Overtaken => Fate::Premature,
                Verdict::Failed(error) => Fate::Failed(error),
            },
        );
        match verdict {
            Verdict::Written(object) => {
                self.apply(*object, turn);
                if change == Change::Decide {
                    self.tell(key);
                }
            }
            Verdict::Premature(complaint) => self.complain(key, complaint),
            Verdict::Failed(_) | Verdict::Overtaken => {}
        }
        turn.work_queue.mark(key);
    }

    /// A parent was looked at, if it is still there: it is decided on as it is.
    fn looked(
        &mut self,
        key: &Key,
        purpose: &Purpose,
        found: Option<Box<Lenient<ObjectOf<K>>>>,
        turn: &mut KindTurn<'_, K>,
    ) {
        if self.written_to(key, purpose).is_none() {
            return;
        }
        if let Some(object) = found.filter(|object| object.metadata().uid == purpose.uid) {
            self.apply(*object, turn);
        }
    }

    /// A parent was looked at because nobody answered: if somebody does, it is decided on again at once.
    fn probed(
        &mut self,
        key: &Key,
        purpose: &Purpose,
        result: Result<Box<Lenient<ObjectOf<K>>>, RequestError>,
        turn: &mut KindTurn<'_, K>,
    ) {
        let Some(entry) = self.written_to(key, purpose) else { return };
        entry.writing = false;
        match result {
            Ok(object) => {
                entry.retry = Duration::ZERO;
                if object.metadata().uid == purpose.uid {
                    self.apply(*object, turn);
                }
            }
            Err(error) => {
                let pause = error.pause(doubling_pause(RETRY_AFTER, entry.setbacks, longest(&error)));
                entry.retry = turn.now.monotonic + pause;
                entry.setbacks += 1;
            }
        }
        turn.work_queue.mark(key);
    }

    /// A chore has come to its end.
    fn done(&mut self, key: &Key, chore: Chore<K>, now: Now) {
        let Chore { change, object, result, report } = chore;
        self.account(key, &object, change, result.as_ref().map_or_else(Fate::Failed, |()| Fate::Applied));
        self.kind.report(report, now);
    }

    fn account(&self, key: &Key, object: &str, change: &'static str, fate: Fate<'_>) {
        account(&self.metrics, Attempt { kind: K::Parent::KIND.name, parent: key, object, change }, fate);
    }

    /// A write will not be carried on.
    fn abandon(&mut self, key: &Key, purpose: Option<&Purpose>) {
        if let Some(entry) = purpose.and_then(|purpose| self.written_to(key, purpose)) {
            entry.writing = false;
        }
    }

    /// Tells people what keeps a decision from being carried out, if that is news.
    fn complain(&mut self, key: &Key, complaint: Option<String>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if complaint.is_none() || entry.complaint == complaint {
            return;
        }
        entry.complaint.clone_from(&complaint);
        let note = complaint.unwrap_or_default();
        warn!(kind = K::Parent::KIND.name, namespace = key.namespace, name = key.name, "{note}");
        let regarding = reference::<K::Parent>(&key.namespace, &key.name, &entry.object.metadata.uid);
        self.recorder.tell(News { regarding, severity: Severity::Warning, reason: "Stuck", action: "Decide", note });
    }

    /// Tells people of a decision.
    fn tell(&self, key: &Key) {
        let Some(entry) = self.entries.get(key) else { return };
        let Some(status) = &entry.object.status else { return };
        let (severity, reason) = match status.phase() {
            Some(RendezvousPhase::Failed) => (Severity::Warning, conditions::FAILED),
            Some(RendezvousPhase::Open) => (Severity::Normal, conditions::OPEN),
            Some(RendezvousPhase::Waiting) | None => return,
        };
        let open = status.conditions().iter().find(|condition| condition.type_ == conditions::OPEN);
        let note = open.map(|condition| condition.message.clone()).unwrap_or_default();
        info!(kind = K::Parent::KIND.name, namespace = key.namespace, name = key.name, reason, "{note}");
        let regarding = reference::<K::Parent>(&key.namespace, &key.name, &entry.object.metadata.uid);
        self.recorder.tell(News { regarding, severity, reason, action: "Decide", note });
    }

    /// Queues the errands that nobody runs yet.
    fn chores(&mut self, turn: &mut KindTurn<'_, K>) {
        while turn.leading
            && let Some((key, errand)) = self.kind.chore(turn.now)
        {
            turn.lanes.push(Lane::Calm, &key, Job::Step(errand, None));
        }
    }
}

impl<K: Kind> Plugin for Waitables<K> {
    type Seen = Seen<K>;
    type Job = Job<K::Errand>;
    type Request = Request<K>;
    type Answer = Answer<K>;

    fn name(&self) -> &'static str {
        K::Parent::KIND.name
    }

    fn sizes(&self) -> Sizes {
        let mut sizes = self.kind.sizes();
        sizes.extend([("parents", self.entries.len()), ("what a list did not show", self.absent.len())]);
        sizes
    }

    fn lead(&mut self, turn: &mut KindTurn<'_, K>) {
        self.kind.lead(turn.leading, turn.now);
        for (key, job) in turn.lanes.clear() {
            match (job, self.entries.get_mut(&key)) {
                (Job::Status, Some(entry)) => entry.queued = None,
                (Job::Step(_, purpose), _) => self.abandon(&key, purpose.as_ref()),
                (Job::Status, None) | (Job::Look(_), _) => {}
            }
        }
        if turn.leading {
            return self.entries.keys().for_each(|key| turn.work_queue.mark(key));
        }
        // Only the leader's figures count: those of two replicas would be added up.
        self.metrics.parents.hide_all(K::Parent::KIND.name);
    }

    fn observe(&mut self, seen: Seen<K>, turn: &mut KindTurn<'_, K>) {
        match seen {
            Seen::Parent(Event::Init) => self.epoch += 1,
            Seen::Parent(Event::InitDone { version }) => self.listed(version),
            Seen::Parent(Event::Apply(object)) => self.apply(*object, turn),
            Seen::Parent(Event::Delete(Deleted { namespace, name, uid, .. })) => {
                self.gone(&ParentKey::new(namespace, name).into(), &uid, turn);
            }
            Seen::Other(seen) => self.kind.observe(seen, turn.now),
        }
    }

    fn prepare(&mut self, turn: &mut KindTurn<'_, K>) -> bool {
        let absent = self.forget_absent(turn);
        self.chores(turn);
        let mut changed = Vec::new();
        let more = absent | self.kind.prepare(turn.now, &mut changed);
        for key in changed {
            if let Some(entry) = self.entries.get_mut(&key) {
                // Not at once: what changes all the time is no reason to ask all the time.
                (entry.setbacks, entry.retry) = (0, entry.retry.min(turn.now.monotonic + RETRY_AFTER));
            }
            turn.work_queue.mark(&key);
        }
        more
    }

    fn decide(&mut self, key: &Key, turn: &mut KindTurn<'_, K>) {
        self.plan(key, turn);
    }

    fn dispatch(&mut self, key: &Key, job: Self::Job, turn: &mut KindTurn<'_, K>) -> Option<Request<K>> {
        match job {
            Job::Status => self.status(key, turn),
            Job::Step(errand, purpose) => {
                let (request, sent) = (errand.request(), turn.now.monotonic);
                Some(Request::Step(errand, purpose.map(|purpose| Purpose { sent, ..purpose }), request))
            }
            Job::Look(purpose) => Some(Request::Look(key.clone(), Purpose { sent: turn.now.monotonic, ..purpose })),
        }
    }

    fn answered(&mut self, lane: Lane, key: &Key, answer: Answer<K>, turn: &mut KindTurn<'_, K>) {
        // First, as what is decided on the answer may rest on the time.
        match answer.heard() {
            Some((sent, false)) => self.answers.failed(sent),
            Some((sent, true)) if self.answers.answered(sent, turn.now.monotonic) => self.kind.answered_again(turn.now),
            Some((_, true)) | None => {}
        }
        match answer {
            Answer::Patched(purpose, verdict) => self.written(key, &purpose, verdict, turn),
            Answer::Looked(purpose, found) => self.looked(key, &purpose, found, turn),
            Answer::Probed(purpose, result) => self.probed(key, &purpose, result, turn),
            Answer::Stepped(errand, purpose, answer) => match errand.answered(answer, &self.kind, turn.now) {
                Next::Step(errand) if turn.leading => turn.lanes.push(lane, key, Job::Step(errand, purpose)),
                Next::Step(_) => self.abandon(key, purpose.as_ref()),
                Next::Done(chore) => self.done(key, chore, turn.now),
                Next::End(verdict) => {
                    if let Some(purpose) = purpose {
                        self.written(key, &purpose, verdict, turn);
                    }
                }
            },
        }
    }

    async fn perform(client: Client, request: Request<K>) -> Answer<K> {
        match request {
            Request::Patch { key, purpose, version, status } => {
                let verdict = patch::<K>(client, &key, &purpose.uid, version, &status).await;
                Answer::Patched(purpose, verdict)
            }
            Request::Step(errand, purpose, request) => {
                let answer = K::Errand::perform(client, request).await;
                Answer::Stepped(errand, purpose, answer)
            }
            Request::Look(key, purpose) => {
                let endpoint: EndpointOf<K> = Endpoint::namespaced(client, Program::OPERATOR, &key.namespace);
                // If it does not answer, or there is none, the watch will tell.
                let found = endpoint.get(&key.name).await.ok();
                Answer::Looked(purpose, found.map(kept::<K>))
            }
            Request::Probe(key, purpose) => {
                let endpoint: EndpointOf<K> = Endpoint::namespaced(client, Program::OPERATOR, &key.namespace);
                Answer::Probed(purpose, endpoint.get(&key.name).await.map(kept::<K>))
            }
        }
    }
}

/// Writes a status on exactly this version of the parent, or not at all.
async fn patch<K: Kind>(client: Client, key: &Key, uid: &str, version: Version, status: &Value) -> Verdict<K> {
    let endpoint: EndpointOf<K> = Endpoint::namespaced(client, Program::OPERATOR, &key.namespace);
    let metadata = json!({ "uid": uid, "resourceVersion": version.to_string() });
    let patch = json!({ "metadata": metadata, "status": status });
    match endpoint.patch_status(&key.name, &patch).await {
        Ok(object) => Verdict::Written(kept::<K>(object)),
        Err(error) => Verdict::Failed(error),
    }
}
