//! What is known of all parents and claims of one kind, and of the pods that ended. No I/O, no clock.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{
    LockKind,
    arbiter::{Claim, Now, Version, View},
};

use super::{
    Key, ParentKey,
    kind::{Found, SeenParent},
};
use crate::pods::{Ended, Graveyard, Tenants};

/// UIDs of deleted objects that are remembered: answers to requests can be that much later than the watches.
const GRAVES: usize = 8192;

/// One parent's place in the book.
pub(super) struct Slot {
    pub(super) view: View,
    /// What is known of the parent beside what decisions need.
    pub(super) parent: Option<ParentNotes>,
    /// Waits for a decision.
    dirty: bool,
    /// When to decide again, as filed in the alarms.
    alarm: Option<Duration>,
    /// Lists of its claims that wait or are under way.
    pub(super) lists: u32,
}

pub(super) struct ParentNotes {
    pub(super) uid: String,
    pub(super) capacity: u64,
    pub(super) conditions: Box<[Condition]>,
    version: Version,
    epoch: u32,
}

/// What is known of a claim beside what decisions need.
pub(super) struct ClaimNotes {
    pub(super) key: Key,
    pub(super) name: String,
    pub(super) generation: i64,
    pub(super) conditions: Box<[Condition]>,
    pub(super) first_seen: Duration,
    /// Proven dead.
    pub(super) dead: bool,
    pod: Option<(String, String)>,
    pub(super) version: Version,
    epoch: u32,
}

/// An object that a list did not show.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Parent { key: Key, uid: String },
    Claim { namespace: String, name: String, uid: String },
}

pub(super) struct Book {
    kind: LockKind,
    leading: bool,
    slots: HashMap<Key, Slot>,
    claims: HashMap<String, ClaimNotes>,
    tenants: Tenants,
    graveyard: Graveyard,
    dirty: Vec<Key>,
    alarms: BTreeSet<(Duration, Key)>,
    parent_epoch: u32,
    claim_epoch: u32,
    gone: HashSet<String>,
    gone_in_order: VecDeque<String>,
}

impl Book {
    pub(super) fn new(kind: LockKind) -> Self {
        Self {
            kind,
            leading: false,
            slots: HashMap::new(),
            claims: HashMap::new(),
            tenants: Tenants::default(),
            graveyard: Graveyard::default(),
            dirty: Vec::new(),
            alarms: BTreeSet::new(),
            parent_epoch: 0,
            claim_epoch: 0,
            gone: HashSet::new(),
            gone_in_order: VecDeque::new(),
        }
    }

    /// This process leads, or does not any more.
    pub(super) fn lead(&mut self, leading: bool, now: Now) {
        self.leading = leading;
        let keys: Vec<Key> = self.slots.keys().cloned().collect();
        for key in keys {
            if let Some(slot) = self.slots.get_mut(&key) {
                if leading { slot.view.lead(now) } else { slot.view.stand_down() }
            }
            self.mark(&key);
        }
    }

    pub(super) fn slot(&mut self, key: &Key) -> Option<&mut Slot> {
        self.slots.get_mut(key)
    }

    pub(super) fn parent(&self, key: &ParentKey) -> Option<&ParentNotes> {
        self.slots.get(key)?.parent.as_ref()
    }

    pub(super) fn claim(&self, uid: &str) -> Option<&ClaimNotes> {
        self.claims.get(uid)
    }

    /// The slot of this name, made if there is none, and marked for a decision.
    fn open(&mut self, key: &ParentKey, now: Now) -> (Key, &mut Slot) {
        let key = match self.slots.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => Key::new(key.clone()),
        };
        self.slots.entry(key.clone()).or_insert_with(|| {
            let mut view = View::new(self.kind, &key.name);
            if self.leading {
                view.lead(now);
            }
            Slot { view, parent: None, dirty: false, alarm: None, lists: 0 }
        });
        self.mark(&key);
        let slot = self.slots.get_mut(&key).expect("it was just opened");
        (key, slot)
    }

    /// Asks for a decision on this parent.
    pub(super) fn mark(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key)
            && !slot.dirty
        {
            slot.dirty = true;
            self.dirty.push(key.clone());
        }
    }

    /// The parents to decide on now.
    pub(super) fn take_dirty(&mut self, now: Duration) -> Vec<Key> {
        while let Some((at, _)) = self.alarms.first()
            && *at <= now
        {
            let Some((_, key)) = self.alarms.pop_first() else { break };
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.alarm = None;
            }
            self.mark(&key);
        }
        let dirty = std::mem::take(&mut self.dirty);
        for key in &dirty {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.dirty = false;
            }
        }
        dirty
    }

    /// Asks for a decision at this time; replaces the time asked for before.
    pub(super) fn set_alarm(&mut self, key: &Key, at: Option<Duration>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(before) = std::mem::replace(&mut slot.alarm, at) {
            self.alarms.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.alarms.insert((at, key.clone()));
        }
    }

    /// When the next decision is due; now if one waits.
    pub(super) fn next_alarm(&self) -> Option<Duration> {
        if self.dirty.is_empty() { self.alarms.first().map(|(at, _)| *at) } else { Some(Duration::ZERO) }
    }

    /// Forgets a parent that there is nothing to know of. Returns whether it did.
    pub(super) fn forget_unused(&mut self, key: &Key) -> bool {
        let unused = |slot: &Slot| slot.view.is_unused() && slot.lists == 0;
        if !self.slots.get(key).is_some_and(unused) {
            return false;
        }
        self.set_alarm(key, None);
        self.slots.remove(key);
        true
    }

    pub(super) fn parents_listing(&mut self) {
        self.parent_epoch += 1;
    }

    /// The parents that the list did not show.
    pub(super) fn parents_listed(&self) -> Vec<Missing> {
        let missing = self.slots.iter().filter_map(|(key, slot)| {
            let parent = slot.parent.as_ref().filter(|parent| parent.epoch != self.parent_epoch)?;
            Some(Missing::Parent { key: key.clone(), uid: parent.uid.clone() })
        });
        missing.collect()
    }

    pub(super) fn claims_listing(&mut self) {
        self.claim_epoch += 1;
    }

    /// The claims that the list did not show.
    pub(super) fn claims_listed(&self) -> Vec<Missing> {
        let missing = self.claims.iter().filter(|(_, claim)| claim.epoch != self.claim_epoch);
        let missing = missing.map(|(uid, claim)| Missing::Claim {
            namespace: claim.key.namespace.clone(),
            name: claim.name.clone(),
            uid: uid.clone(),
        });
        missing.collect()
    }

    /// An object of this UID was seen, though it cannot be read: at least it is there.
    pub(super) fn saw_unreadable(&mut self, found: &Found<impl Sized>) {
        if let Some(claim) = self.claims.get_mut(&found.uid) {
            claim.epoch = self.claim_epoch;
        }
        let key = ParentKey { namespace: found.namespace.clone(), name: found.name.clone() };
        if let Some(parent) = self.slots.get_mut(&key).and_then(|slot| slot.parent.as_mut())
            && parent.uid == found.uid
        {
            parent.epoch = self.parent_epoch;
        }
    }

    /// Whether the object of this UID is known to be deleted: what else is heard of it is old.
    pub(super) fn is_gone(&self, uid: &str) -> bool {
        self.gone.contains(uid)
    }

    fn remember_gone(&mut self, uid: &str) {
        if self.gone.insert(uid.into()) {
            self.gone_in_order.push_back(uid.into());
            if self.gone_in_order.len() > GRAVES
                && let Some(oldest) = self.gone_in_order.pop_front()
            {
                self.gone.remove(&oldest);
            }
        }
    }

    /// Takes notes of a parent that was seen; the caller tells the view.
    pub(super) fn note_parent(&mut self, key: &ParentKey, seen: &SeenParent, now: Now) -> &mut View {
        let epoch = self.parent_epoch;
        let (_, slot) = self.open(key, now);
        let version = seen.parent.version;
        match &mut slot.parent {
            Some(known) if known.version >= version => known.epoch = epoch,
            parent => {
                *parent = Some(ParentNotes {
                    uid: seen.parent.uid.to_string(),
                    capacity: seen.parent.capacity,
                    conditions: seen.conditions.clone(),
                    version,
                    epoch,
                });
            }
        }
        &mut slot.view
    }

    /// The parent with this UID does not exist any more.
    pub(super) fn parent_gone(&mut self, key: &ParentKey, uid: &str, now: Now) {
        self.remember_gone(uid);
        if !self.slots.contains_key(key) {
            return;
        }
        let (_, slot) = self.open(key, now);
        slot.parent.take_if(|parent| parent.uid == uid);
        slot.view.parent_gone(uid, now);
    }

    /// Takes notes of a claim that was seen; the caller tells the view.
    pub(super) fn note_claim(&mut self, key: &ParentKey, claim: &Claim, conditions: Box<[Condition]>, now: Now) -> Key {
        let epoch = self.claim_epoch;
        let (key, _) = self.open(key, now);
        if let Some(known) = self.claims.get_mut(&*claim.uid) {
            known.epoch = epoch;
            if known.version < claim.version {
                known.version = claim.version;
                known.generation = claim.generation;
                known.conditions = conditions;
            }
            return key;
        }
        let pod = claim.pod.as_ref().map(|pod| (pod.uid.clone(), pod.container.clone()));
        if let Some((pod, _)) = &pod {
            self.tenants.add(pod, &claim.uid);
        }
        let notes = ClaimNotes {
            key: key.clone(),
            name: claim.name.clone(),
            generation: claim.generation,
            conditions,
            first_seen: now.monotonic,
            dead: false,
            pod,
            version: claim.version,
            epoch,
        };
        self.claims.insert(claim.uid.to_string(), notes);
        key
    }

    /// The claim with this UID does not exist any more.
    pub(super) fn claim_gone(&mut self, uid: &str, now: Now) {
        self.remember_gone(uid);
        let Some(claim) = self.claims.remove(uid) else { return };
        if let Some((pod, _)) = &claim.pod {
            self.tenants.remove(pod, uid);
        }
        let (_, slot) = self.open(&claim.key, now);
        slot.view.claim_gone(uid, now);
    }

    /// If the claim's container has certainly ended, its view is told.
    pub(super) fn check_for_death(&mut self, uid: &str, now: Now) {
        let Some(claim) = self.claims.get_mut(uid) else { return };
        if let Some((pod, container)) = &claim.pod
            && !claim.dead
            && self.graveyard.has(pod, container)
        {
            claim.dead = true;
            let key = claim.key.clone();
            let (_, slot) = self.open(&key, now);
            slot.view.holder_died(uid, now);
        }
    }

    pub(super) fn pods_listing(&mut self, source: usize) {
        self.graveyard.listing(source);
    }

    pub(super) fn pods_listed(&mut self, source: usize) {
        self.graveyard.listed(source);
    }

    /// These containers of the pod have ended.
    pub(super) fn pod_ended(&mut self, source: usize, ended: Ended, now: Now) {
        let claims = self.tenants.of(&ended.pod);
        self.graveyard.bury(source, ended);
        for claim in claims {
            self.check_for_death(&claim, now);
        }
    }

    /// The pod was deleted.
    pub(super) fn pod_gone(&mut self, pod: &str) {
        self.graveyard.forget(pod);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use konductor_api::{
        PodReference, Queueing,
        arbiter::{ClaimState, Parent, ParentState},
    };

    use super::*;

    const NOW: Now = Now { monotonic: Duration::from_secs(100), wall: Timestamp::UNIX_EPOCH };

    fn key() -> ParentKey {
        ParentKey { namespace: "n".into(), name: "s".into() }
    }

    fn claim(uid: &str, version: Version) -> Claim {
        Claim {
            uid: uid.into(),
            name: uid.into(),
            version,
            generation: 1,
            created: 0,
            weight: 1,
            priority: 0,
            holder: "h".into(),
            pod: Some(PodReference {
                name: "p".into(),
                uid: "pod".into(),
                container: "main".into(),
                start: "1".into(),
            }),
            ttl: None,
            renewed: None,
            revoke: None,
            deleting: false,
            state: ClaimState::default(),
        }
    }

    fn parent(uid: &str, version: Version, capacity: u64) -> SeenParent {
        let parent = Parent {
            uid: uid.into(),
            version,
            generation: 1,
            created: 0,
            capacity,
            ttl: Duration::from_mins(5),
            queueing: Queueing::StrictFIFO,
            state: ParentState::default(),
        };
        SeenParent { parent, conditions: Box::default() }
    }

    fn see(book: &mut Book, claim: Claim) {
        let key = book.note_claim(&key(), &claim, Box::default(), NOW);
        if let Some(slot) = book.slot(&key) {
            slot.view.observe_claim(claim, NOW);
        }
    }

    fn dirty(book: &mut Book) -> usize {
        book.take_dirty(NOW.monotonic).len()
    }

    #[test]
    fn what_was_heard_of_is_decided_on_once() {
        let mut book = Book::new(LockKind::Semaphore);
        see(&mut book, claim("a", 1));
        see(&mut book, claim("b", 2));
        assert_eq!((dirty(&mut book), dirty(&mut book)), (1, 0));
        book.set_alarm(&key().into(), Some(NOW.monotonic + Duration::from_secs(1)));
        assert_eq!(dirty(&mut book), 0);
        book.set_alarm(&key().into(), Some(NOW.monotonic));
        assert_eq!((dirty(&mut book), book.next_alarm()), (1, None));
    }

    #[test]
    fn what_a_list_does_not_show_is_missing_not_gone() {
        let mut book = Book::new(LockKind::Semaphore);
        see(&mut book, claim("a", 1));
        see(&mut book, claim("b", 2));
        book.note_parent(&key(), &parent("u", 3, 1), NOW);
        book.claims_listing();
        book.parents_listing();
        see(&mut book, claim("b", 2));
        let missing = Missing::Claim { namespace: "n".into(), name: "a".into(), uid: "a".into() };
        assert_eq!(book.claims_listed(), [missing]);
        assert_eq!(book.parents_listed(), [Missing::Parent { key: key().into(), uid: "u".into() }]);
        assert!(book.claim("a").is_some() && book.parent(&key()).is_some());
    }

    #[test]
    fn an_unreadable_object_is_not_missing() {
        let mut book = Book::new(LockKind::Semaphore);
        see(&mut book, claim("a", 1));
        book.claims_listing();
        book.saw_unreadable(&Found::<()> {
            namespace: "n".into(),
            name: "a".into(),
            uid: "a".into(),
            content: Err(crate::arbiter::kind::Fault { error: "?".into(), may_hold: true }),
        });
        assert_eq!(book.claims_listed(), []);
    }

    #[test]
    fn the_deleted_are_remembered() {
        let mut book = Book::new(LockKind::Semaphore);
        see(&mut book, claim("a", 1));
        book.claim_gone("a", NOW);
        assert!(book.is_gone("a") && !book.is_gone("b"));
        for number in 0..GRAVES {
            book.claim_gone(&number.to_string(), NOW);
        }
        assert!(!book.is_gone("a"), "what is remembered is bounded");
    }

    #[test]
    fn older_notes_do_not_replace_newer_ones() {
        let mut book = Book::new(LockKind::Semaphore);
        book.note_parent(&key(), &parent("u", 5, 10), NOW);
        book.note_parent(&key(), &parent("u", 4, 3), NOW);
        assert_eq!(book.parent(&key()).map(|parent| parent.capacity), Some(10));
    }

    #[test]
    fn an_end_counts_whether_the_pod_or_the_claim_is_seen_first() {
        for pod_first in [true, false] {
            let mut book = Book::new(LockKind::Semaphore);
            if !pod_first {
                see(&mut book, claim("a", 1));
            }
            book.pod_ended(0, Ended { pod: "pod".into(), containers: ["main".into()].into() }, NOW);
            if pod_first {
                see(&mut book, claim("a", 1));
                book.check_for_death("a", NOW);
            }
            assert!(book.claim("a").is_some_and(|claim| claim.dead), "pod first: {pod_first}");
        }
    }

    #[test]
    fn a_name_that_is_not_used_any_more_is_forgotten() {
        let mut book = Book::new(LockKind::Semaphore);
        see(&mut book, claim("a", 1));
        let key: Key = key().into();
        assert!(!book.forget_unused(&key));
        book.claim_gone("a", NOW);
        assert!(book.forget_unused(&key));
        assert!(book.slot(&key).is_none());
    }
}
