//! What the engine is told about locks.

use std::{collections::HashSet, marker::PhantomData, sync::Arc, time::Duration};

use konductor_api::arbiter::{
    ClaimChange, ClaimWrite, Now, Outcome, ParentChange, ParentWrite, Plan, PodSight, Reign, Uid, Write, claim_status,
    decide,
};
use konductor_cluster::moments;
use kube::Client;
use serde::Serialize;
use serde_json::Value;
use tracing::debug;

use super::{
    index::{Entry, Index, Kin},
    intake::resource,
    kind::{Kind, Outline},
    observe::Seen,
    request::{Answer, Job, Request, perform},
};
use crate::{
    crowd::{Kept, is_whole},
    engine::{Lane, Plugin, Sizes, Turn},
    events::Recorder,
    key::Key,
    metrics::{CacheId, Metrics, parents::Figures},
    pods::TERMINAL,
};

/// Least time before a lock is decided on again when nothing was heard of it.
const BREATH: Duration = Duration::from_millis(5);

/// How long it may take until it is noticed that all locks of a namespace are known, and with them those that do not
/// exist: a claim on such a one waits for nothing that is hurried.
pub(super) const MAY_EXIST: Duration = Duration::from_secs(30);

/// All locks of one kind.
pub(crate) struct Locks<K: Kind> {
    pub(super) index: Index,
    /// UIDs of claims that an urgent write is under way for.
    pub(super) urgent: HashSet<Uid>,
    pub(super) recorder: Recorder,
    pub(super) metrics: Arc<Metrics>,
    pub(super) caches: Caches,
    kind: PhantomData<fn() -> K>,
}

/// Caches that have to be filled before the process is ready.
pub(super) struct Caches {
    pub(super) parents: CacheId,
    pub(super) claims: CacheId,
    pub(super) pods: [CacheId; TERMINAL.len()],
}

pub(super) type LockTurn<'a> = Turn<'a, Job>;

impl<K: Kind> Locks<K> {
    pub(super) fn new(metrics: &Arc<Metrics>, recorder: &Recorder, kept: Kept) -> Self {
        let plural = K::KIND.plural;
        metrics.register_locks(K::KIND.name);
        for of in Kin::ALL {
            metrics.register_kept(resource::<K>(of));
        }
        Self {
            index: Index::new(K::KIND, kept),
            urgent: HashSet::new(),
            recorder: recorder.clone(),
            metrics: metrics.clone(),
            caches: Caches {
                parents: metrics.register_cache(plural),
                claims: metrics.register_cache(format!("claims of {plural}")),
                pods: TERMINAL.map(|fields| metrics.register_cache(format!("pods with {fields}, for {plural}"))),
            },
            kind: PhantomData,
        }
    }

    /// Puts a lock's figures into the metrics, also of one that does not exist as long as claims wait for it. Only the
    /// leader's count: those of two replicas would be added up.
    fn show(&mut self, key: &Key, leading: bool) {
        let Some(Entry { view, parent, .. }) = self.index.get(key) else { return };
        let parent = parent.as_ref().filter(|_| view.has_parent());
        let (waiting, oldest) = (view.waiting() as u64, view.oldest_waiter());
        if leading && (parent.is_some() || waiting > 0) {
            let (permits, in_use) = (parent.map(|parent| parent.capacity), parent.map(|_| view.in_use()));
            self.metrics.parents.show(K::KIND.name, key, Figures::Lock { permits, in_use, waiting, oldest });
        } else {
            self.metrics.parents.hide(K::KIND.name, key);
        }
    }

    /// Forgets a lock of which nothing is known, and nothing is to be heard.
    fn tidy(&mut self, key: &Key, turn: &mut LockTurn<'_>) {
        if !turn.lanes.has(key) && self.index.forget_unused(key, turn.now.monotonic) {
            turn.work_queue.set_alarm(key, None);
        }
    }

    /// A job will not be done.
    fn drop_job(&mut self, key: &Key, job: Job, now: Now) {
        if let Job::Intake { of, .. } = job {
            return self.intake_ended(key, of, false);
        }
        let Some(entry) = self.index.get(key) else { return };
        match job {
            Job::Intake { .. } => {}
            Job::Write(write) => entry.view.failed(&write, Outcome::NotApplied, now),
            Job::Read { write, .. } => entry.view.failed(&write, Outcome::Unknown, now),
            Job::Page { .. } => entry.view.list_failed(),
            Job::Look(look) => entry.view.looked(&look.claim, PodSight::Unknown, now),
        }
    }

    /// Whether a write is sure to fail, or to make a more urgent one fail.
    fn is_overtaken(&self, write: &Write) -> bool {
        let Write::Claim(ClaimWrite { uid, version, change, .. }) = write else { return false };
        let superseded = self.index.claim(uid).is_some_and(|claim| claim.version > *version);
        superseded || matches!(change, ClaimChange::Tell(_)) && self.urgent.contains(uid)
    }

    /// The request for a write; the write again if it has become needless, as what it is for was changed or deleted
    /// meanwhile.
    fn request(&mut self, key: &Key, write: Write, now: Now) -> Result<Request, Box<Write>> {
        if self.is_overtaken(&write) {
            return Err(Box::new(write));
        }
        let status = match &write {
            Write::Parent(ParentWrite { uid, change, .. }) => {
                let (ParentChange::Raise(state) | ParentChange::Settle(state) | ParentChange::Summarize(state)) =
                    change;
                let parent = self.index.parent(key).filter(|parent| parent.uid == *uid);
                parent.map(|parent| data(&K::status_of(state, parent.capacity, now.wall, &parent.conditions)))
            }
            Write::Claim(claim) => {
                let notes = self.index.claim(&claim.uid);
                let (Some(notes), Some(state)) = (notes, claim.change.state()) else {
                    return match (notes, write) {
                        (Some(_), Write::Claim(write)) => {
                            self.index.sending(&write.uid, write.version);
                            Ok(Request::Delete { key: key.clone(), write })
                        }
                        (_, write) => Err(Box::new(write)),
                    };
                };
                let before = notes.granted.map(Outline::condition);
                Some(data(&claim_status(state, notes.generation, now.wall, before.as_slice())))
            }
        };
        let Some(status) = status else { return Err(Box::new(write)) };
        if let Write::Claim(ClaimWrite { uid, version, .. }) = &write {
            self.index.sending(uid, *version);
        }
        if lane(&write) == Lane::Urgent {
            self.urgent.insert(write.uid().into());
        }
        debug!(namespace = key.namespace, name = key.name, change = write.name(), "writing");
        Ok(Request::Patch { key: key.clone(), write, status })
    }
}

/// The lane that a write takes.
pub(super) fn lane(write: &Write) -> Lane {
    match write {
        Write::Parent(write) => match write.change {
            ParentChange::Raise(_) | ParentChange::Settle(_) => Lane::Urgent,
            ParentChange::Summarize(_) => Lane::Calm,
        },
        Write::Claim(write) => match write.change {
            ClaimChange::Grant(_)
            | ClaimChange::Restamp(_)
            | ClaimChange::SendBack(_)
            | ClaimChange::Revoke(_)
            | ClaimChange::Expire(_) => Lane::Urgent,
            ClaimChange::Tell(_) | ClaimChange::Delete => Lane::Calm,
        },
    }
}

fn data(status: &impl Serialize) -> Value {
    serde_json::to_value(status).expect("a status is plain data")
}

impl<K: Kind> Plugin for Locks<K> {
    type Seen = Seen;
    type Job = Job;
    type Request = Request;
    type Answer = Answer;

    fn name(&self) -> &'static str {
        K::KIND.name
    }

    fn sizes(&self) -> Sizes {
        let mut sizes = self.index.sizes();
        sizes.push(("urgent writes under way", self.urgent.len()));
        sizes
    }

    fn lead(&mut self, turn: &mut LockTurn<'_>) {
        self.metrics.leader.set(turn.leading.into());
        // Also when leading ended and began again between two looks: what was decided before is of another reign.
        for (key, job) in turn.lanes.clear() {
            self.drop_job(&key, job, turn.now);
        }
        self.index.lead(turn.leading, turn.work_queue);
        if !turn.leading {
            self.metrics.parents.hide_all(K::KIND.name);
        }
    }

    fn observe(&mut self, seen: Seen, turn: &mut LockTurn<'_>) {
        self.take(seen, turn);
    }

    fn prepare(&mut self, turn: &mut LockTurn<'_>) -> bool {
        self.index.forget_absent(turn.now, turn.work_queue)
    }

    fn decide(&mut self, key: &Key, turn: &mut LockTurn<'_>) {
        if is_whole(key) {
            return self.take_in(key, turn);
        }
        // Nothing may be said, or done, because a lock is not there, while it may be.
        if self.index.may_exist(key) {
            self.show(key, turn.leading);
            // Nothing else tells that all of the namespace is known.
            turn.work_queue.set_alarm(key, Some(turn.now.monotonic + MAY_EXIST));
            return self.tidy(key, turn);
        }
        let Some(entry) = self.index.for_decision(key, turn.now) else { return };
        let plan = decide(&entry.view, turn.now);
        entry.view.sent(&plan, turn.now);
        let Plan { list, writes, looks, look_again, .. } = plan;
        self.show(key, turn.leading);
        if let Some(term) = list {
            turn.lanes.push(Lane::List, key, Job::Page { term, from: None, failures: 0 });
        }
        if writes.iter().any(|write| lane(write) == Lane::Urgent) {
            moments::note("decided");
        }
        for write in writes {
            turn.lanes.push(lane(&write), key, Job::Write(write));
        }
        for look in looks {
            turn.lanes.push(Lane::Read, key, Job::Look(look));
        }
        let breath = turn.now.monotonic + BREATH;
        turn.work_queue.set_alarm(key, look_again.map(|at| at.max(breath)));
        self.tidy(key, turn);
    }

    fn dispatch(&mut self, key: &Key, job: Job, turn: &mut LockTurn<'_>) -> Option<Request> {
        let key = key.clone();
        match job {
            Job::Write(write) => match self.request(&key, write, turn.now) {
                Ok(request) => Some(request),
                Err(write) => {
                    self.drop_job(&key, Job::Write(*write), turn.now);
                    turn.work_queue.mark(&key);
                    None
                }
            },
            Job::Read { write, outcome, failures } => Some(Request::Read { key, write, outcome, failures }),
            Job::Page { term, from, failures } => {
                let entry = self.index.get(&key)?;
                // Taken over by somebody else, or anew, meanwhile.
                if !matches!(*entry.view.reign(), Reign::Listing { term: own, .. } if own == term) {
                    entry.view.list_failed();
                    turn.work_queue.mark(&key);
                    return None;
                }
                Some(Request::Page { key, term, from, failures })
            }
            Job::Intake { of, from, failures } => Some(Request::Intake { key, of, from, failures }),
            Job::Look(look) => Some(Request::Look { key, look }),
        }
    }

    fn answered(&mut self, _lane: Lane, key: &Key, answer: Answer, turn: &mut LockTurn<'_>) {
        self.take_answer(key, answer, turn);
        turn.work_queue.mark(key);
    }

    async fn perform(client: Client, request: Request) -> Answer {
        let is_urgent = matches!(&request, Request::Patch { write, .. } if lane(write) == Lane::Urgent);
        if is_urgent {
            moments::note("patch");
        }
        let answer = perform::<K>(client, request).await;
        if is_urgent {
            moments::note("patch answered");
            moments::tell();
        }
        answer
    }
}
