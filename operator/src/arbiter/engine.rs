//! The event loop: takes in what was seen, decides, and lets the requests out.

use std::{
    collections::{HashSet, VecDeque},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use konductor_api::arbiter::{Change, Now, Outcome, Plan, Subject, Write, claim_status, decide};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{sleep_until, timeout},
};
use tracing::{debug, info};

use super::{
    Key, ParentKey,
    book::{Book, Missing},
    kind::{Found, Kind, SeenClaim, SeenParent, read_claim, read_parent},
    outbox::{Outbox, Urgency},
    requests::{Done, Requests},
};
use crate::{
    clock::Clock,
    events::Publisher,
    faults::Faults,
    health::{CacheId, LoopId},
    metrics::{Metrics, ParentLabels},
    pods::{Ended, TERMINAL},
};
use konductor_cluster::{
    Lenient, Object,
    watch::{Seen, Source},
};

/// Caches of one engine that are to be filled before the process is ready: parents, claims, and the terminal pods.
pub(super) const CACHES: usize = 2 + TERMINAL.len();

/// What the caches of terminal pods are called.
const ENDED_PODS: &str = "ended pods";

/// Sightings that wait to be taken in; the watches wait when there are more.
const INBOX: usize = 512;

/// Sightings and answers taken in before the next decision, so that a flood cannot put decisions off for ever.
const TAKEN_AT_ONCE: usize = 1024;

/// Objects in one page of a list of claims or parents: about a megabyte of text.
const PAGE: u32 = 500;

/// Takeover lists under way at once.
const LISTS: usize = 8;

/// Reads under way at once of objects that a list did not show.
const PROBES: usize = 8;

/// The loop turns at least this often, which tells the health check that it lives.
const TURN: Duration = Duration::from_secs(1);

/// Least time before a parent is decided on again when nothing was heard of it.
const BREATH: Duration = Duration::from_millis(5);

/// How long a shutdown waits for writes under way. Whatever they did is safe without it; it only makes the next leader's
/// takeover meet fewer conflicts.
const DRAIN: Duration = Duration::from_secs(5);

/// What a watch saw.
#[derive(Debug)]
pub(super) enum Sight {
    Parent(Seen<Box<Found<SeenParent>>>),
    Claim(Seen<Box<Found<SeenClaim>>>),
    /// The number is that of the selector in [`TERMINAL`].
    Pod(usize, Seen<Ended>),
}

/// What the engines of all kinds share.
#[derive(Clone)]
pub struct Common {
    /// The way to the API server.
    pub client: Client,
    /// Whether this process leads.
    pub leading: watch::Receiver<bool>,
    /// Where news is handed in.
    pub publisher: Publisher,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
}

/// Decides for all parents of one kind.
pub struct Engine<K: Kind> {
    pub(super) book: Book,
    pub(super) outbox: Outbox,
    inbox: mpsc::Receiver<Sight>,
    /// For what is not seen of one kind alone.
    sights: mpsc::Sender<Sight>,
    /// UIDs of objects that an urgent write is under way for.
    pub(super) urgent: HashSet<String>,
    requests: Requests,
    tasks: JoinSet<Done>,
    lists: VecDeque<(Key, u64)>,
    pub(super) lists_under_way: usize,
    pub(super) probes: VecDeque<Missing>,
    pub(super) probes_under_way: usize,
    pub(super) faults: Faults,
    leading: watch::Receiver<bool>,
    pub(super) publisher: Publisher,
    pub(super) metrics: Arc<Metrics>,
    pub(super) caches: [CacheId; CACHES],
    event_loop: LoopId,
    clock: Clock,
    kind: PhantomData<K>,
}

impl<K: Kind> Engine<K> {
    /// Starts the watches of the kind's own objects. That of pods is for the caller to bring to [`Engine::inbox`].
    pub(super) fn start(common: Common) -> Self {
        let Common { client, leading, publisher, metrics, clock } = common;
        let (sights, inbox) = mpsc::channel(INBOX);
        let parents = Source { api: Api::all(client.clone()), fields: None, page: PAGE };
        forward(parents, sights.clone(), |seen| Sight::Parent(seen.map(|parent| Box::new(read_parent::<K>(parent)))));
        let claims = Source { api: Api::all(client.clone()), fields: None, page: PAGE };
        forward(claims, sights.clone(), |seen| Sight::Claim(seen.map(|claim| Box::new(read_claim::<K>(claim)))));
        Self {
            book: Book::new(K::KIND),
            outbox: Outbox::new(),
            inbox,
            sights,
            urgent: HashSet::new(),
            requests: Requests::new(client, leading.clone()),
            tasks: JoinSet::new(),
            lists: VecDeque::new(),
            lists_under_way: 0,
            probes: VecDeque::new(),
            probes_under_way: 0,
            faults: Faults::new(metrics.clone(), publisher.clone()),
            leading,
            publisher,
            caches: [
                <K as kube::Resource>::plural(&()),
                <K::Claim as kube::Resource>::plural(&()),
                ENDED_PODS.into(),
                ENDED_PODS.into(),
            ]
            .map(|name| metrics.register_cache(name)),
            event_loop: metrics.register_loop(K::KIND.name()),
            metrics,
            clock,
            kind: PhantomData,
        }
    }

    /// Where sights of pods go.
    pub(super) fn inbox(&self) -> mpsc::Sender<Sight> {
        self.sights.clone()
    }

    /// Runs until the sender of `stop` is dropped, then stops deciding and waits a little for the writes under way.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<()>) {
        self.set_leading();
        loop {
            let now = self.clock.monotonic();
            let wake = self.book.next_alarm().map_or(now + TURN, |alarm| alarm.min(now + TURN));
            tokio::select! {
                Some(sight) = self.inbox.recv() => self.take_sight(sight, self.clock.now()),
                Some(done) = self.tasks.join_next() => self.take_done(answer(done), self.clock.now()),
                Ok(()) = self.leading.changed() => self.set_leading(),
                () = sleep_until(self.clock.instant(wake)) => {}
                _ = stop.changed() => break,
            }
            let woken = self.clock.monotonic();
            self.take_what_is_there();
            self.decide(self.clock.now());
            self.let_out(self.clock.now());
            self.metrics.turn(self.event_loop, self.clock.monotonic().saturating_sub(woken));
        }
        self.stand_down(self.clock.now());
        let drained = timeout(DRAIN, async {
            while let Some(done) = self.tasks.join_next().await {
                self.take_done(answer(done), self.clock.now());
            }
        });
        if drained.await.is_err() {
            info!("{} requests were still under way at the end", self.tasks.len());
        }
    }

    fn take_what_is_there(&mut self) {
        for _ in 0..TAKEN_AT_ONCE {
            if let Ok(sight) = self.inbox.try_recv() {
                self.take_sight(sight, self.clock.now());
            } else if let Some(done) = self.tasks.try_join_next() {
                self.take_done(answer(done), self.clock.now());
            } else {
                return;
            }
        }
    }

    fn set_leading(&mut self) {
        let (leading, now) = (*self.leading.borrow_and_update(), self.clock.now());
        self.metrics.leader.set(leading.into());
        if leading {
            self.book.lead(true, now);
            self.faults.tell_all();
        } else {
            self.stand_down(now);
        }
    }

    pub(super) fn is_leading(&self) -> bool {
        *self.leading.borrow()
    }

    fn stand_down(&mut self, now: Now) {
        self.book.lead(false, now);
        for (key, write) in self.outbox.clear() {
            if let Some(slot) = self.book.slot(&key) {
                slot.view.failed(&write, Outcome::NotApplied, now);
            }
        }
        for (key, _) in self.lists.drain(..) {
            if let Some(slot) = self.book.slot(&key) {
                slot.lists -= 1;
                slot.view.list_failed();
            }
        }
        // Only the leader's figures count: those of two replicas would be added up.
        self.metrics.waiting.clear();
        self.metrics.in_use.clear();
    }

    /// Decides once for each parent that something was heard of, or whose time has come.
    fn decide(&mut self, now: Now) {
        for key in self.book.take_dirty(now.monotonic) {
            let Some(slot) = self.book.slot(&key) else { continue };
            let plan = decide(&slot.view, now);
            slot.view.sent(&plan, now);
            self.show(&key);
            let Plan { list, writes, look_again, .. } = plan;
            if let Some(term) = list
                && let Some(slot) = self.book.slot(&key)
            {
                slot.lists += 1;
                self.lists.push_back((key.clone(), term));
            }
            for write in writes {
                self.outbox.push(&key, write);
            }
            self.book.set_alarm(&key, look_again.map(|at| at.max(now.monotonic + BREATH)));
            if !self.outbox.has(&key) {
                self.book.forget_unused(&key);
            }
        }
    }

    /// Puts a parent's figures into the metrics.
    fn show(&mut self, key: &Key) {
        let leading = self.is_leading();
        let Some(slot) = self.book.slot(key) else { return };
        let labels = ParentLabels { namespace: key.namespace.clone(), kind: K::KIND.name(), name: key.name.clone() };
        if slot.view.has_parent() && leading {
            self.metrics.waiting.get_or_create(&labels).set(slot.view.waiting() as i64);
            self.metrics.in_use.get_or_create(&labels).set(slot.view.in_use() as i64);
        } else {
            self.metrics.waiting.remove(&labels);
            self.metrics.in_use.remove(&labels);
        }
    }

    /// Sends what there is a place for.
    fn let_out(&mut self, now: Now) {
        while let Some((key, write)) = self.outbox.next() {
            if self.is_overtaken(&write) {
                self.drop_unsent(&key, &write, now);
            } else if let Ok(status) = self.status(&key, &write, now) {
                if Urgency::from(&write.change) == Urgency::Urgent {
                    self.urgent.insert(write.subject.uid().into());
                }
                debug!(namespace = key.namespace, name = key.name, change = write.change.name(), "writing");
                self.tasks.spawn(self.requests.clone().write::<K>(key, write, status));
            } else {
                self.drop_unsent(&key, &write, now);
            }
        }
        while self.lists_under_way < LISTS
            && let Some((key, term)) = self.lists.pop_front()
        {
            self.lists_under_way += 1;
            self.tasks.spawn(self.requests.clone().list::<K>(key, term));
        }
        while self.probes_under_way < PROBES
            && let Some(missing) = self.probes.pop_front()
        {
            self.probes_under_way += 1;
            let requests = self.requests.clone();
            match missing {
                Missing::Parent { key, uid } => self.tasks.spawn(requests.probe_parent::<K>(key, uid)),
                Missing::Claim { namespace, name, uid } => {
                    self.tasks.spawn(requests.probe_claim::<K>(namespace, name, uid))
                }
            };
        }
    }

    /// Whether a write is sure to fail, or to make a more urgent one fail.
    fn is_overtaken(&self, write: &Write) -> bool {
        let uid = write.subject.uid();
        let superseded = self.book.claim(uid).is_some_and(|claim| claim.version > write.version);
        superseded || matches!(write.change, Change::Tell(_)) && self.urgent.contains(uid)
    }

    fn drop_unsent(&mut self, key: &Key, write: &Write, now: Now) {
        self.outbox.done(key, (&write.change).into());
        if let Some(slot) = self.book.slot(key) {
            slot.view.failed(write, Outcome::NotApplied, now);
        }
        self.book.mark(key);
    }

    /// The status that a write consists of; `None` for a deletion.
    fn status(&mut self, key: &ParentKey, write: &Write, now: Now) -> Result<Option<Value>, Vanished> {
        match (&write.change, &write.subject) {
            (Change::Raise(state) | Change::Settle(state) | Change::Summarize(state), Subject::Parent { uid }) => {
                let parent = self.book.parent(key).filter(|parent| parent.uid == *uid).ok_or(Vanished)?;
                Ok(Some(data(&K::status_of(state, parent.capacity, now.wall, &parent.conditions))))
            }
            (
                Change::Grant(state)
                | Change::Restamp(state)
                | Change::SendBack(state)
                | Change::Revoke(state)
                | Change::Expire(state)
                | Change::Tell(state),
                Subject::Claim { uid, .. },
            ) => {
                let claim = self.book.claim(uid).ok_or(Vanished)?;
                let status = claim_status(state, claim.generation, now.wall, &claim.conditions);
                Ok(Some(data(&status)))
            }
            (Change::Delete, Subject::Claim { .. }) => Ok(None),
            (change, subject) => unreachable!("{} is not for {subject:?}", change.name()),
        }
    }
}

fn data(status: &impl Serialize) -> Value {
    serde_json::to_value(status).expect("a status is plain data")
}

/// What a write is for has been deleted meanwhile.
struct Vanished;

/// Follows a source into the inbox.
fn forward<O: Object, F>(source: Source<O>, sights: mpsc::Sender<Sight>, read: F)
where
    F: Fn(Seen<Lenient<O>>) -> Sight + Send + 'static,
{
    tokio::spawn(source.follow(sights, move |seen| Some(read(seen))));
}

/// A request that panicked would leave its view waiting for ever: better to start over.
fn answer(done: Result<Done, JoinError>) -> Done {
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
