//! Takes in what the watches and the answers say: into the index, the views, the metrics and the events.

use std::time::Duration;

use jiff::Timestamp;
use konductor_api::arbiter::{ClaimChange, ClaimWrite, End, Happening, Now, Outcome, Reign, Write};
use konductor_cluster::{RequestError, follow::Event};
use tracing::{info, warn};

use super::{
    index::{Before, Kin},
    kind::{Found, Kind, SeenClaim, SeenParent},
    news,
    plugin::{LockTurn, Locks, lane},
    request::{Answer, Answered, ClaimPage, Job, Subject, Written, pause},
};
use crate::{
    accounts::{Attempt, Fate, account},
    engine::Lane,
    events::{News, Severity, reference},
    key::{Key, ParentKey},
    metrics::{ExpiryLabels, KindLabels},
    pods::Ended,
};

/// How often something is read, or a page asked for with the same token, before it is decided anew or listed from the
/// start: some seconds, which an API server that starts anew may take.
pub(super) const ATTEMPTS: u32 = 5;

/// A takeover that does not get on is told of again after so many failures: a minute or so.
const SAID_EVERY: u32 = 16;

/// What a watch shows.
#[derive(Debug)]
pub(crate) enum Seen {
    Parent(Event<Box<Found<SeenParent>>>),
    Claim(Event<Box<Found<SeenClaim>>>),
    /// The number is that of the selector in [`TERMINAL`](crate::pods::TERMINAL).
    Pod(usize, Event<Ended>),
}

impl<K: Kind> Locks<K> {
    pub(super) fn take(&mut self, seen: Seen, turn: &mut LockTurn<'_>) {
        match seen {
            Seen::Parent(Event::Init) => self.index.parents_listing(),
            Seen::Parent(Event::InitDone { version }) => {
                self.index.parents_listed(version);
                self.show_crowds(Kin::Locks);
                self.metrics.filled(self.caches.parents);
            }
            Seen::Parent(Event::Apply(found)) => self.observe_parent(*found, turn),
            Seen::Parent(Event::Delete(gone)) => {
                self.parent_gone(&ParentKey::new(gone.namespace, gone.name), &gone.uid, turn);
            }
            Seen::Claim(Event::Init) => self.index.claims_listing(),
            Seen::Claim(Event::InitDone { version }) => {
                self.index.claims_listed(version);
                self.show_crowds(Kin::Claims);
                self.metrics.filled(self.caches.claims);
            }
            Seen::Claim(Event::Apply(found)) => self.observe_claim(*found, turn),
            Seen::Claim(Event::Delete(gone)) => self.claim_gone(&gone.uid, turn),
            Seen::Pod(source, Event::Init) => self.index.pods_listing(source),
            Seen::Pod(source, Event::InitDone { .. }) => {
                self.index.pods_listed(source);
                self.metrics.filled(self.caches.pods[source]);
            }
            Seen::Pod(source, Event::Apply(ended)) => self.index.pod_ended(source, ended, turn.now, turn.work_queue),
            Seen::Pod(_, Event::Delete(gone)) => self.index.pod_gone(&gone.uid),
        }
    }

    pub(super) fn observe_parent(&mut self, found: Found<SeenParent>, turn: &mut LockTurn<'_>) {
        if self.is_readable(&found)
            && let Ok(seen) = found.content
        {
            if !self.index.has_room_for_parent(&found.key) {
                return self.leave_out(Kin::Locks, &found.key, (&found.key.name, &found.uid), turn);
            }
            self.index.note_parent(&found.key, &seen, turn.work_queue).observe_parent(seen.parent, turn.now);
        } else {
            self.index.saw_unreadable_parent(&found.key, &found.uid);
        }
    }

    pub(super) fn observe_claim(&mut self, found: Found<SeenClaim>, turn: &mut LockTurn<'_>) {
        let now = turn.now;
        if !self.is_readable(&found) {
            // Whose it is, only the takeover's list or what it said before can tell.
            let lock = self.index.claim(&found.uid).map(|claim| claim.key.clone());
            if let Some(lock) = lock {
                self.observe_unread(&lock, &found, turn);
            }
        } else if let Ok(SeenClaim { lock, claim, granted }) = found.content {
            if !self.is_kept(&lock, &claim, turn) {
                return;
            }
            let uid = claim.uid.clone();
            let key = self.index.note_claim(&lock, &claim, granted, now, turn.work_queue);
            if let Some(entry) = self.index.get(&key) {
                entry.view.observe_claim(claim, now);
            }
            self.index.check_for_death(&uid, now, turn.work_queue);
        }
    }

    /// A claim on this lock that cannot be read. One that is known to be gone is no news.
    fn observe_unread(&mut self, lock: &ParentKey, found: &Found<SeenClaim>, turn: &mut LockTurn<'_>) {
        let Some(unread) = found.unread().filter(|unread| !self.index.is_gone(&unread.uid)) else { return };
        if !unread.may_hold && !self.index.has_room_for_claim(&lock.namespace, &unread.uid) {
            return self.leave_out(Kin::Claims, lock, (&unread.name, &unread.uid), turn);
        }
        let key = self.index.note_unread(lock, &unread, turn.now, turn.work_queue);
        if let Some(entry) = self.index.get(&key) {
            entry.view.observe_unreadable(unread, turn.now);
        }
    }

    fn parent_gone(&mut self, key: &ParentKey, uid: &str, turn: &mut LockTurn<'_>) {
        self.index.parent_gone(key, uid, turn.now, turn.work_queue);
    }

    fn claim_gone(&mut self, uid: &str, turn: &mut LockTurn<'_>) {
        let held_since = self.index.claim_gone(uid, turn.now, turn.work_queue);
        // A standby sees the same.
        if let Some(since) = held_since.filter(|_| turn.leading) {
            self.was_held(since, turn.now);
        }
    }

    fn was_held(&self, since: Timestamp, now: Now) {
        let held = now.wall.duration_since(since).as_secs_f64().max(0.0);
        self.metrics.hold.get_or_create(&of::<K>()).observe(held);
    }

    /// Whether the object says anything: it is not known to be gone, and can be read.
    fn is_readable<T>(&self, found: &Found<T>) -> bool {
        !self.index.is_gone(&found.uid) && found.content.is_ok()
    }

    pub(super) fn take_answer(&mut self, key: &Key, Answer(answer): Answer, turn: &mut LockTurn<'_>) {
        match answer {
            Answered::Written { write, written } => self.written(key, write, written, turn),
            Answered::Read { write, outcome, failures, found } => {
                self.read_after(key, write, outcome, failures, found, turn);
            }
            Answered::Page { term, from, failures, page } => self.paged(key, term, from, failures, page, turn),
            Answered::Intake { of, from, failures, page } => self.intake_paged(key, of, from, failures, page, turn),
            Answered::Looked { claim, sight } => {
                if let Some(entry) = self.index.get(key) {
                    entry.view.looked(&claim, sight, turn.now);
                }
            }
        }
    }

    fn written(&mut self, key: &Key, write: Write, written: Written, turn: &mut LockTurn<'_>) {
        self.account(key, &write, &written);
        let now = turn.now;
        match written {
            Written::Applied(subject) => match (&write, *subject) {
                (Write::Parent(write), Subject::Parent(found)) if self.is_readable(&found) => {
                    let Ok(seen) = found.content else { return };
                    self.index.note_parent(key, &seen, turn.work_queue).acknowledged_parent(write, seen.parent, now);
                }
                (Write::Claim(write), Subject::Claim(found)) if self.is_readable(&found) => {
                    let Ok(SeenClaim { claim, granted, .. }) = found.content else { return };
                    self.celebrate(key, write, now);
                    let uid = claim.uid.clone();
                    self.index.note_claim(key, &claim, granted, now, turn.work_queue);
                    if let Some(entry) = self.index.get(key) {
                        entry.view.acknowledged_claim(write, claim, now);
                    }
                    self.index.check_for_death(&uid, now, turn.work_queue);
                }
                // Deleted meanwhile, or it cannot be read any more. The view waits for an answer all the same.
                (_, subject) => {
                    if let Subject::Claim(found) = subject {
                        self.observe_unread(key, &found, turn);
                    }
                    self.fail(key, &write, Outcome::Unknown, now);
                }
            },
            Written::Deleted => {
                if let Write::Claim(write) = &write {
                    self.celebrate(key, write, now);
                }
                self.claim_gone(write.uid(), turn);
            }
            // A client has withdrawn or released it meanwhile: nothing is left to be read.
            Written::Failed(error) if error.is_absent(name(key, &write)) => {
                self.absent(key, &write, turn);
                self.fail(key, &write, Outcome::NotApplied, now);
            }
            Written::Failed(error) => {
                let outcome = if error.is_not_applied() { Outcome::NotApplied } else { Outcome::Unknown };
                turn.lanes.push(Lane::Read, key, Job::Read { write, outcome, failures: 0 });
            }
        }
    }

    /// What a write was for was read again, as the write was not known to be done.
    fn read_after(
        &mut self,
        key: &Key,
        write: Write,
        outcome: Outcome,
        failures: u32,
        found: Result<Option<Box<Subject>>, RequestError>,
        turn: &mut LockTurn<'_>,
    ) {
        match found.map(|found| found.map(|subject| *subject)) {
            Ok(None) => self.absent(key, &write, turn),
            Ok(Some(Subject::Parent(found))) => {
                if *found.uid != *write.uid() {
                    self.parent_gone(key, write.uid(), turn);
                }
                self.observe_parent(found, turn);
            }
            Ok(Some(Subject::Claim(found))) => {
                if *found.uid != *write.uid() {
                    self.claim_gone(write.uid(), turn);
                }
                self.observe_claim(found, turn);
            }
            // Without a look at the object, a refusal may hide an earlier write of ours that did take effect.
            Err(_) if !turn.leading || failures >= ATTEMPTS => {
                return self.fail(key, &write, Outcome::Unknown, turn.now);
            }
            Err(error) => {
                if failures == 0 {
                    let (namespace, name) = (&key.namespace, name(key, &write));
                    warn!(kind = K::KIND.name, namespace, name, "cannot read, trying again: {error}");
                }
                let at = turn.now.monotonic + error.pause(pause(failures));
                let failures = failures.saturating_add(1);
                return turn.lanes.push_at(Lane::Read, key, Job::Read { write, outcome, failures }, at);
            }
        }
        self.fail(key, &write, outcome, turn.now);
    }

    /// What a write was for does not exist any more.
    fn absent(&mut self, key: &Key, write: &Write, turn: &mut LockTurn<'_>) {
        match write {
            Write::Parent(write) => self.parent_gone(key, &write.uid, turn),
            Write::Claim(write) => self.claim_gone(&write.uid, turn),
        }
    }

    fn fail(&mut self, key: &Key, write: &Write, outcome: Outcome, now: Now) {
        if let Some(entry) = self.index.get(key) {
            entry.view.failed(write, outcome, now);
        }
    }

    /// Counts a write that was answered.
    fn account(&mut self, key: &Key, write: &Write, written: &Written) {
        if lane(write) == Lane::Urgent {
            self.urgent.remove(write.uid());
        }
        let fate = match written {
            Written::Applied(_) | Written::Deleted => Fate::Applied,
            Written::Failed(error) => Fate::Failed(error),
        };
        let (kind, object, change) = (K::KIND.name, name(key, write), write.name());
        account(&self.metrics, Attempt { kind, parent: key, object, change }, fate);
    }

    /// Tells of what was done: to the metrics, and to people.
    fn celebrate(&mut self, key: &Key, write: &ClaimWrite, now: Now) {
        let ClaimWrite { uid, name, version, change, happening } = write;
        let before = self.index.take_before(uid, *version);
        self.tell_claimant(key, write, before, now);
        let waited = self.waited(key, uid, now);
        let claim = self.index.claim(uid);
        let end = happening.as_ref().and_then(|happening| happening.end);
        match change {
            ClaimChange::Grant(_) => {
                self.metrics.grants.get_or_create(&of::<K>()).inc();
                if let Some(claim) = claim {
                    let latency = now.monotonic.saturating_sub(claim.first_seen);
                    self.metrics.grant_latency.get_or_create(&of::<K>()).observe(latency.as_secs_f64());
                    let waited = waited.unwrap_or_default().max(latency);
                    self.metrics.wait.get_or_create(&of::<K>()).observe(waited.as_secs_f64());
                }
            }
            ClaimChange::Expire(_) | ClaimChange::Delete if let Some(end) = end => {
                let labels = ExpiryLabels { kind: K::KIND.name, reason: reason(end) };
                self.metrics.expiries.get_or_create(&labels).inc();
                if end != End::Unused {
                    self.metrics.losses.get_or_create(&of::<K>()).inc();
                }
                // What is deleted has ended when it is gone.
                if let (ClaimChange::Expire(_), Some(since)) = (change, before.and_then(|before| before.held_since)) {
                    self.was_held(since, now);
                }
            }
            ClaimChange::Expire(_) => {
                self.metrics.expiries.get_or_create(&ExpiryLabels { kind: K::KIND.name, reason: "waiting" }).inc();
            }
            ClaimChange::Revoke(_) => {
                self.metrics.revocations.get_or_create(&of::<K>()).inc();
            }
            _ => {}
        }
        let Some(Happening { reason, message, .. }) = happening else { return };
        info!(namespace = key.namespace, name = key.name, reason, "{message}");
        let regarding = match self.index.parent(key) {
            Some(parent) => reference::<K>(&key.namespace, &key.name, &parent.uid),
            None => reference::<K::Claim>(&key.namespace, name, uid),
        };
        self.recorder.tell(News {
            regarding,
            severity: Severity::Warning,
            reason,
            action: news::verb(change),
            note: message.clone(),
        });
    }

    /// How long a claim has waited since its creation, or up to a second less: times of creation are whole seconds.
    fn waited(&mut self, key: &Key, uid: &str, now: Now) -> Option<Duration> {
        let created = self.index.get(key)?.view.claim(uid)?.created;
        Some(Duration::from_secs(u64::try_from(now.wall.as_second()).ok()?.checked_sub(created)?.saturating_sub(1)))
    }

    /// Tells the people of a claim of what was done to it, when it was this before.
    fn tell_claimant(&mut self, key: &Key, write: &ClaimWrite, before: Option<Before>, now: Now) {
        let (Some(before), Some(entry)) = (before, self.index.get(key)) else { return };
        let ClaimWrite { uid, change, happening, .. } = write;
        let Some(claim) = entry.view.claim(uid) else { return };
        let news = news::of_write(K::KIND, key, claim, before.phase, change, happening.as_ref(), now.wall);
        if let Some(news) = news {
            self.recorder.tell_claimant(news);
        }
    }

    /// A page of the list of a takeover has come, or has not.
    fn paged(
        &mut self,
        key: &Key,
        term: u64,
        from: Option<String>,
        failures: u32,
        page: Result<ClaimPage, RequestError>,
        turn: &mut LockTurn<'_>,
    ) {
        let (now, leading) = (turn.now, turn.leading);
        let Some(entry) = self.index.get(key) else { return };
        // Taken over by somebody else, or anew, meanwhile.
        if !leading || !matches!(*entry.view.reign(), Reign::Listing { term: own, .. } if own == term) {
            return entry.view.list_failed();
        }
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                self.metrics.errors.get_or_create(&of::<K>()).inc();
                if failures.is_multiple_of(SAID_EVERY) {
                    let (namespace, name) = (&key.namespace, &key.name);
                    warn!(kind = K::KIND.name, namespace, name, "cannot take over yet, trying again: {error}");
                }
                // A token that has become too old, or does not work, is of no use: the list begins anew.
                let pause = error.pause(pause(failures));
                let failures = failures.saturating_add(1);
                let from = from.filter(|_| !error.is_outdated() && !failures.is_multiple_of(ATTEMPTS));
                return turn.lanes.push_at(Lane::List, key, Job::Page { term, from, failures }, now.monotonic + pause);
            }
        };
        let mut readable = Vec::new();
        for found in page.claims {
            if !self.is_readable(&found) {
                self.observe_unread(key, &found, turn);
            } else if let Ok(SeenClaim { claim, granted, .. }) = found.content
                && self.is_kept(key, &claim, turn)
            {
                self.index.note_claim(key, &claim, granted, now, turn.work_queue);
                readable.push(claim);
            }
        }
        let uids: Vec<_> = readable.iter().map(|claim| claim.uid.clone()).collect();
        if let Some(entry) = self.index.get(key) {
            entry.view.page(term, readable, now);
            if page.next.is_none() {
                entry.view.listed(term, now);
            }
        }
        for uid in uids {
            self.index.check_for_death(&uid, now, turn.work_queue);
        }
        if page.next.is_some() {
            // As large as the page that came: a larger one may fail for its size, and begin the list anew.
            turn.lanes.push(Lane::List, key, Job::Page { term, from: page.next, failures });
        }
    }
}

/// The name of the object that a write is for.
fn name<'a>(key: &'a Key, write: &'a Write) -> &'a str {
    match write {
        Write::Parent(_) => &key.name,
        Write::Claim(write) => &write.name,
    }
}

/// The label of the counter of expiries.
fn reason(end: End) -> &'static str {
    match end {
        End::Died => "died",
        End::Silent => "silent",
        End::Unused => "unused",
        End::Unreadable => "unreadable",
    }
}

pub(super) fn of<K: Kind>() -> KindLabels {
    KindLabels { kind: K::KIND.name }
}
