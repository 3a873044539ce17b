//! The event loop: takes in what was seen, decides, and sends.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use konductor_api::{
    Rendezvous, RendezvousPhase,
    arbiter::{Now, Version},
    conditions,
    limits::{RETRY_AFTER, STATUS_EVERY},
    rendezvous::{Change, RendezvousStatus, Write},
};
use kube::{Api, Resource};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    agenda::Agenda,
    event_loop,
    kind::{Failure, Kind, StatusOf},
    parents,
};
use crate::{
    arbiter::{Common, Key, ParentKey},
    events::{News, Severity, reference},
    faults::Faults,
    metrics::{KindLabels, ParentLabels, WriteLabels},
};
use konductor_cluster::{
    Lenient,
    watch::{Gone, Seen, Source},
};

/// Sightings that wait to be taken in; the watches wait when there are more.
const INBOX: usize = 512;

/// Sightings and answers taken in before the next decisions, so that a flood cannot put them off for ever.
const TAKEN_AT_ONCE: usize = 1024;

/// Parents in one page of a list.
const PAGE: u32 = 500;

/// Writes under way at once that somebody waits for.
const URGENT: usize = 32;

/// Writes under way at once that are for people.
const CALM: usize = 8;

/// Chores under way at once.
const CHORES: usize = 4;

/// The loop turns at least this often, which tells the health check that it lives.
const TURN: Duration = Duration::from_secs(1);

/// A parent that waits for a time is looked at this often meanwhile, as the wall clock may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How long a shutdown waits for writes under way. Whatever they did is safe without it.
const DRAIN: Duration = Duration::from_secs(5);

/// What a watch saw.
#[derive(Debug)]
pub(crate) enum Sight<K: Kind> {
    /// Of the parents.
    Parent(Seen<Box<Lenient<K::Parent>>>),
    /// Of other objects.
    Other(K::Sight),
}

/// What became of a request that ran beside the event loop.
enum Done<K: Kind> {
    Written(Box<Written<K>>),
    Chore(K::Done),
}

/// What became of a write.
struct Written<K: Kind> {
    key: Key,
    uid: String,
    write: Write<StatusOf<K>>,
    result: Result<Option<Lenient<K::Parent>>, Failure>,
}

/// A parent, and how far its status is.
struct Slot<P> {
    parent: Arc<P>,
    uid: String,
    version: Version,
    epoch: u32,
    /// A write is under way.
    writing: bool,
    /// It waits for a place to be written, as something urgent or not.
    queued: Option<bool>,
    /// When the last write was sent.
    sent: Option<Duration>,
    /// Nothing is written before this time, as a write has failed.
    retry: Duration,
}

/// Decides for all parents of one kind.
pub(super) struct Engine<K: Kind> {
    kind: K,
    slots: HashMap<Key, Slot<K::Parent>>,
    epoch: u32,
    agenda: Agenda,
    inbox: mpsc::Receiver<Sight<K>>,
    urgent: Lane,
    calm: Lane,
    chores: usize,
    tasks: JoinSet<Done<K>>,
    /// The kind has put something off.
    more: bool,
    faults: Faults,
    common: Common,
}

/// Parents that wait for a place to be written.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Key>,
    under_way: usize,
}

fn is_urgent(change: Change) -> bool {
    change != Change::Tell
}

impl<K: Kind> Engine<K> {
    /// Starts the watches.
    pub(super) fn start(common: Common) -> Self {
        let (sights, inbox) = mpsc::channel(INBOX);
        let parents: Source<K::Parent> = Source { api: Api::all(common.client.clone()), fields: None, page: PAGE };
        tokio::spawn(parents.follow(sights.clone(), |seen| Some(Sight::Parent(seen.map(Box::new)))));
        Self {
            kind: K::start(&common, sights),
            slots: HashMap::new(),
            epoch: 0,
            agenda: Agenda::default(),
            inbox,
            urgent: Lane::default(),
            calm: Lane::default(),
            chores: 0,
            tasks: JoinSet::new(),
            more: false,
            faults: Faults::new(common.metrics.clone(), common.publisher.clone()),
            common,
        }
    }

    /// Runs until `stop`, then stops deciding and waits a little for the writes under way.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<()>) {
        self.set_leading();
        loop {
            let now = self.common.clock.monotonic();
            self.common.metrics.beat(event_loop(K::Parent::KIND), now);
            let wake = match self.agenda.next() {
                _ if self.more => {
                    // Everybody else's turn.
                    tokio::task::yield_now().await;
                    now
                }
                Some(alarm) => alarm.min(now + TURN),
                None => now + TURN,
            };
            tokio::select! {
                Some(sight) = self.inbox.recv() => self.take_sight(sight),
                Some(done) = self.tasks.join_next() => self.take_done(unless_panicked(done)),
                Ok(()) = self.common.leading.changed() => self.set_leading(),
                () = sleep_until(self.common.clock.instant(wake)) => {}
                Err(_) = stop.changed() => break,
            }
            self.take_what_is_there();
            self.decide(self.common.clock.now());
            self.let_out(self.common.clock.now());
        }
        let drained = timeout(DRAIN, async {
            while let Some(done) = self.tasks.join_next().await {
                self.take_done(unless_panicked(done));
            }
        });
        if drained.await.is_err() {
            info!("{} requests were still under way at the end", self.tasks.len());
        }
    }

    fn take_what_is_there(&mut self) {
        for _ in 0..TAKEN_AT_ONCE {
            if let Ok(sight) = self.inbox.try_recv() {
                self.take_sight(sight);
            } else if let Some(done) = self.tasks.try_join_next() {
                self.take_done(unless_panicked(done));
            } else {
                return;
            }
        }
    }

    fn is_leading(&self) -> bool {
        *self.common.leading.borrow()
    }

    fn set_leading(&mut self) {
        let leading = *self.common.leading.borrow_and_update();
        self.kind.lead(leading);
        if leading {
            self.faults.tell_all();
            self.agenda.mark_all();
        } else {
            // Only the leader's figures count: those of two replicas would be added up.
            for key in self.slots.keys() {
                self.common.metrics.open.remove(&labels::<K>(key));
            }
        }
    }

    fn take_sight(&mut self, sight: Sight<K>) {
        match sight {
            Sight::Parent(Seen::Listing) => self.epoch += 1,
            Sight::Parent(Seen::Listed) => {
                // The list was consistent and came after everything that was seen before it: what is not in it is gone.
                let old = self.slots.iter().filter(|(_, slot)| slot.epoch != self.epoch);
                let old: Vec<_> = old.map(|(key, slot)| (key.clone(), slot.uid.clone())).collect();
                for (key, uid) in old {
                    self.gone(&key, &uid);
                }
                self.kind.parents_listed(&mut self.agenda);
                self.common.metrics.filled(parents(K::Parent::KIND));
            }
            Sight::Parent(Seen::Present(parent)) => self.observe(*parent),
            Sight::Parent(Seen::Gone(Gone { namespace, name, uid })) => {
                self.gone(&Key::from(ParentKey { namespace, name }), &uid);
            }
            Sight::Other(sight) => self.kind.take(sight, self.common.clock.now(), &mut self.agenda),
        }
    }

    fn observe(&mut self, parent: Lenient<K::Parent>) {
        let metadata = parent.metadata();
        let (namespace, name) =
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let uid = metadata.uid.clone().unwrap_or_default();
        let version: Version = metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        let key = Key::from(ParentKey { namespace, name });
        let parent = match parent.0 {
            Ok(parent) => parent,
            Err(misfit) => {
                self.faults.report::<K::Parent>(&key, &uid, &misfit.error, self.is_leading());
                if let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.uid == uid) {
                    slot.epoch = self.epoch;
                }
                return;
            }
        };
        self.faults.clear::<K::Parent>(&uid);
        let (parent, epoch) = (Arc::new(parent), self.epoch);
        if let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.uid == uid) {
            slot.epoch = epoch;
            if slot.version >= version {
                return;
            }
            slot.version = version;
            slot.retry = Duration::ZERO;
            slot.parent = parent;
        } else {
            let (writing, queued, sent, retry) = (false, None, None, Duration::ZERO);
            self.slots.insert(key.clone(), Slot { parent, uid, version, epoch, writing, queued, sent, retry });
        }
        let now = self.common.clock.now();
        self.kind.parent(&key, self.slots.get(&key).map(|slot| &*slot.parent), now, &mut self.agenda);
        self.agenda.mark(&key);
    }

    fn gone(&mut self, key: &Key, uid: &str) {
        self.faults.clear::<K::Parent>(uid);
        if self.slots.get(key).is_some_and(|slot| slot.uid == uid) {
            self.slots.remove(key);
            self.agenda.set_alarm(key, None);
            self.common.metrics.open.remove(&labels::<K>(key));
            self.kind.parent(key, None, self.common.clock.now(), &mut self.agenda);
        }
    }

    /// Decides once for each parent that something was heard of, or whose time has come.
    fn decide(&mut self, now: Now) {
        self.more = self.kind.prepare(now, &mut self.agenda);
        let leading = self.is_leading();
        for key in self.agenda.take(now.monotonic, self.slots.keys()) {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            if !leading || slot.writing || slot.parent.meta().deletion_timestamp.is_some() {
                continue;
            }
            let open = slot.parent.phase() == Some(RendezvousPhase::Open);
            self.common.metrics.open.get_or_create(&labels::<K>(&key)).set(open.into());
            let Some(plan) = self.kind.decide(&key, &slot.parent, now) else { continue };
            let mut alarm = plan.look_again.map(|at| {
                let wait = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
                now.monotonic + wait.min(LOOK_AGAIN)
            });
            if let Some(write) = plan.write {
                let pace =
                    slot.sent.filter(|_| !is_urgent(write.change)).map_or(Duration::ZERO, |at| at + STATUS_EVERY);
                let due = slot.retry.max(pace);
                if due > now.monotonic {
                    alarm = Some(alarm.map_or(due, |at| at.min(due)));
                } else if slot.queued < Some(is_urgent(write.change)) {
                    slot.queued = Some(is_urgent(write.change));
                    let lane = if is_urgent(write.change) { &mut self.urgent } else { &mut self.calm };
                    lane.waiting.push_back(key.clone());
                }
            }
            self.agenda.set_alarm(&key, alarm);
        }
    }

    /// Sends what there is a place for, as it is decided now.
    fn let_out(&mut self, now: Now) {
        while self.urgent.under_way < URGENT
            && let Some(key) = self.urgent.waiting.pop_front()
        {
            self.send(&key, now);
        }
        while self.calm.under_way < CALM
            && let Some(key) = self.calm.waiting.pop_front()
        {
            self.send(&key, now);
        }
        while self.chores < CHORES
            && self.is_leading()
            && let Some(chore) = self.kind.next_chore(now)
        {
            self.chores += 1;
            let work = K::work(self.common.client.clone(), chore);
            self.tasks.spawn(async { Done::Chore(work.await) });
        }
    }

    fn send(&mut self, key: &Key, now: Now) {
        let leading = self.is_leading();
        let Some(slot) = self.slots.get_mut(key) else { return };
        // It may have waited in both lanes.
        if slot.queued.take().is_none() || !leading {
            return;
        }
        // What came meanwhile may have made it needless, or urgent; its alarm was set when it was queued.
        let Some(write) = self.kind.decide(key, &slot.parent, now).and_then(|plan| plan.write) else {
            self.agenda.mark(key);
            return;
        };
        slot.writing = true;
        slot.sent = Some(now.monotonic);
        let lane = if is_urgent(write.change) { &mut self.urgent } else { &mut self.calm };
        lane.under_way += 1;
        debug!(namespace = key.namespace, name = key.name, change = write.change.name(), "writing");
        let (key, uid, client, parent) =
            (key.clone(), slot.uid.clone(), self.common.client.clone(), Arc::clone(&slot.parent));
        let writing = self.kind.write(client, &key, parent, write.clone());
        self.tasks.spawn(async move {
            let result = writing.await;
            Done::Written(Box::new(Written { key, uid, write, result }))
        });
    }

    fn take_done(&mut self, done: Done<K>) {
        match done {
            Done::Written(written) => self.take_written(*written),
            Done::Chore(done) => {
                self.chores -= 1;
                self.kind.done(done, self.common.clock.now());
            }
        }
    }

    fn take_written(&mut self, written: Written<K>) {
        let Written { key, uid, write, result } = written;
        let lane = if is_urgent(write.change) { &mut self.urgent } else { &mut self.calm };
        lane.under_way -= 1;
        let retry = self.common.clock.monotonic() + RETRY_AFTER;
        if let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.uid == uid) {
            slot.writing = false;
            if !matches!(result, Ok(Some(_))) {
                slot.retry = retry;
            }
        }
        let (kind, change) = (K::Parent::KIND.name(), write.change.name());
        let outcome = match result {
            Ok(Some(parent)) => {
                let phase = |parent: &Lenient<K::Parent>| parent.0.as_ref().ok().and_then(Rendezvous::phase);
                let decided = write.change == Change::Decide && phase(&parent) == write.status.phase();
                // Nobody hears of one that is gone already.
                if self.slots.get(&key).is_some_and(|slot| slot.uid == uid) {
                    self.observe(parent);
                    if decided {
                        self.tell(&key, &uid, &write.status);
                    }
                }
                "applied"
            }
            Ok(None) => "premature",
            Err(failure) => {
                let label = failure.label();
                let (namespace, name) = (&key.namespace, &key.name);
                if matches!(label, "conflict" | "gone") {
                    debug!(kind, namespace, name, change, "overtaken: {failure}");
                } else {
                    self.common.metrics.errors.get_or_create(&KindLabels { kind }).inc();
                    warn!(kind, namespace, name, change, "not written, to be decided again: {failure}");
                }
                label
            }
        };
        self.common.metrics.writes.get_or_create(&WriteLabels { kind, change, outcome }).inc();
        self.agenda.mark(&key);
    }

    /// Tells people of a decision.
    fn tell(&self, key: &Key, uid: &str, status: &StatusOf<K>) {
        let (severity, reason) = match status.phase() {
            Some(RendezvousPhase::Failed) => (Severity::Warning, conditions::FAILED),
            Some(RendezvousPhase::Open) => (Severity::Normal, conditions::OPEN),
            Some(RendezvousPhase::Waiting) | None => return,
        };
        let open = status.conditions().iter().find(|condition| condition.type_ == conditions::OPEN);
        let note = open.map(|condition| condition.message.clone()).unwrap_or_default();
        info!(kind = K::Parent::KIND.name(), namespace = key.namespace, name = key.name, reason, "{note}");
        let regarding = reference::<K::Parent>(&key.namespace, &key.name, uid);
        self.common.publisher.tell(News { regarding, severity, reason, action: "Decide", note });
    }
}

fn labels<K: Kind>(key: &Key) -> ParentLabels {
    ParentLabels { namespace: key.namespace.clone(), kind: K::Parent::KIND.name(), name: key.name.clone() }
}

/// A request that panicked would leave its parent waiting for ever: better to start over.
fn unless_panicked<T>(done: Result<T, JoinError>) -> T {
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
