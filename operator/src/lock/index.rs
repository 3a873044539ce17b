//! What is known of all locks and claims of one kind, and of the pods that ended. No I/O, no clock.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{
    ClaimPhase, LockKind,
    arbiter::{Claim, Now, Uid, Unread, Version, View},
};

use super::former::Former;
use super::kind::{Outline, SeenParent};
use crate::{
    crowd::{Crowds, Kept, whole},
    engine::{Sizes, WorkQueue},
    key::{Key, ParentKey},
    pods::{Ended, Graveyard, Tenants},
    tasks::next_absent,
};

/// UIDs of deleted objects that are remembered: answers to requests can be that much later than the watches.
const GRAVES: usize = 8192;

/// One lock's place in the index, whether the lock exists or not.
pub(super) struct Entry {
    pub(super) view: View,
    /// What is known of the lock beside what decisions need.
    pub(super) parent: Option<ParentNotes>,
    /// The reign that the view was told of.
    reign: u64,
}

pub(super) struct ParentNotes {
    pub(super) uid: Uid,
    pub(super) capacity: u64,
    pub(super) conditions: Box<[Condition]>,
    version: Version,
    epoch: u32,
}

/// What is known of a claim beside what decisions need.
pub(super) struct ClaimNotes {
    pub(super) key: Key,
    pub(super) generation: i64,
    pub(super) granted: Option<Outline>,
    pub(super) first_seen: Duration,
    /// Proven dead.
    pub(super) dead: bool,
    /// What it was when the write was sent that is under way, for what is told of that.
    pub(super) before: Option<Box<Before>>,
    phase: Option<ClaimPhase>,
    /// The UID of its pod, as the tenants have it, and its container.
    pod: Option<(Arc<str>, Box<str>)>,
    pub(super) version: Version,
    epoch: u32,
}

/// What a claim was on the version that a write was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    version: Version,
    pub(super) phase: Option<ClaimPhase>,
    pub(super) held_since: Option<Timestamp>,
}

pub(super) struct Index {
    kind: LockKind,
    /// Counts the times that this process came to lead, so that a view hears of it when it is next decided on and not
    /// all of them at once.
    reign: u64,
    leading: bool,
    // In order, so that whatever concerns all of them goes through them in the same order in each process.
    entries: BTreeMap<Key, Entry>,
    claims: BTreeMap<Uid, ClaimNotes>,
    tenants: Tenants,
    graveyard: Graveyard,
    former: Former,
    parent_epoch: u32,
    claim_epoch: u32,
    gone: HashSet<Uid>,
    gone_in_order: VecDeque<Uid>,
    absent: VecDeque<Absent>,
    /// How many locks and claims of each namespace are kept.
    pub(super) crowds: [Crowds; Kin::ALL.len()],
}

/// What is kept so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kin {
    Locks,
    Claims,
}

impl Kin {
    pub(super) const ALL: [Self; 2] = [Self::Locks, Self::Claims];
}

/// What a consistent list of this version did not show.
enum Absent {
    Parent(Key, Uid, Version),
    Claim(Uid, Version),
}

impl Index {
    pub(super) fn new(kind: LockKind, kept: Kept) -> Self {
        Self {
            kind,
            reign: 0,
            leading: false,
            entries: BTreeMap::new(),
            claims: BTreeMap::new(),
            tenants: Tenants::default(),
            graveyard: Graveyard::default(),
            former: Former::default(),
            parent_epoch: 0,
            claim_epoch: 0,
            gone: HashSet::new(),
            gone_in_order: VecDeque::new(),
            absent: VecDeque::new(),
            crowds: [Crowds::new(kept.locks), Crowds::new(kept.claims)],
        }
    }

    /// How much is kept of what.
    pub(super) fn sizes(&self) -> Sizes {
        let mut sizes = vec![
            ("names of locks", self.entries.len()),
            ("notes on claims", self.claims.len()),
            ("UIDs of deleted objects", self.gone.len().max(self.gone_in_order.len())),
            ("what a list did not show", self.absent.len()),
            ("terms of former locks", self.former.len()),
        ];
        let [pods, claims] = self.tenants.sizes();
        sizes.extend([("pods with claims", pods), ("claims of pods", claims), ("ended pods", self.graveyard.len())]);
        let mut views: Vec<(&'static str, usize)> = Vec::new();
        for entry in self.entries.values() {
            for (place, (what, count)) in entry.view.sizes().into_iter().enumerate() {
                match views.get_mut(place) {
                    Some((_, sum)) => *sum += count,
                    None => views.push((what, count)),
                }
            }
        }
        sizes.extend(views);
        sizes
    }

    /// This process leads, or does not any more.
    pub(super) fn lead(&mut self, leading: bool, work_queue: &mut WorkQueue) {
        self.leading = leading;
        self.reign += u64::from(leading);
        for (key, entry) in &mut self.entries {
            if !leading {
                entry.view.stand_down();
            }
            work_queue.mark(key);
        }
        for crowds in &mut self.crowds {
            crowds.tell_anew();
            crowds.all_crowded().for_each(|namespace| work_queue.mark(&whole(namespace)));
        }
    }

    /// The locks or claims of each namespace.
    pub(super) fn crowds(&mut self, of: Kin) -> &mut Crowds {
        &mut self.crowds[of as usize]
    }

    /// Whether this lock is known, or there is room for it.
    pub(super) fn has_room_for_parent(&self, key: &ParentKey) -> bool {
        self.parent(key).is_some() || self.crowds[Kin::Locks as usize].has_room(&key.namespace)
    }

    /// Whether this claim is known, or there is room for it.
    pub(super) fn has_room_for_claim(&self, namespace: &str, uid: &str) -> bool {
        self.claims.contains_key(uid) || self.crowds[Kin::Claims as usize].has_room(namespace)
    }

    /// Whether this lock may exist though it is not known, as not all of its namespace are kept.
    pub(super) fn may_exist(&self, key: &ParentKey) -> bool {
        self.parent(key).is_none() && self.crowds[Kin::Locks as usize].is_crowded(&key.namespace)
    }

    /// One that was kept is not any more: what was left out may find room.
    fn went(&mut self, of: Kin, namespace: &str, work_queue: &mut WorkQueue) {
        let crowds = self.crowds(of);
        crowds.went(namespace);
        if crowds.is_crowded(namespace) {
            work_queue.mark(&whole(namespace));
        }
    }

    /// What is known of this name, if anything is.
    pub(super) fn get(&mut self, key: &ParentKey) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// The same, for a decision: by now the view knows whether this process leads.
    pub(super) fn for_decision(&mut self, key: &Key, now: Now) -> Option<&mut Entry> {
        let (leading, reign) = (self.leading, self.reign);
        let entry = self.entries.get_mut(key)?;
        if leading && entry.reign != reign {
            entry.reign = reign;
            entry.view.lead(now);
        }
        Some(entry)
    }

    pub(super) fn parent(&self, key: &ParentKey) -> Option<&ParentNotes> {
        self.entries.get(key)?.parent.as_ref()
    }

    pub(super) fn claim(&self, uid: &str) -> Option<&ClaimNotes> {
        self.claims.get(uid)
    }

    /// The entry of this name, made if there is none, and marked for a decision.
    fn open(&mut self, key: &ParentKey, work_queue: &mut WorkQueue) -> (Key, &mut Entry) {
        let key = match self.entries.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => Key::new(key.clone()),
        };
        work_queue.mark(&key);
        let kind = self.kind;
        let entry = self.entries.entry(key.clone());
        let name = &key.name;
        let former = &self.former;
        let entry = entry.or_insert_with(|| {
            let view = View::new(kind, name).above(former.term(&key));
            Entry { view, parent: None, reign: 0 }
        });
        (key, entry)
    }

    /// Forgets a lock that there is nothing to know of. Returns whether it did.
    pub(super) fn forget_unused(&mut self, key: &Key, now: Duration) -> bool {
        let unused = self.entries.get(key).is_some_and(|entry| entry.view.is_unused());
        let Some((key, entry)) = unused.then(|| self.entries.remove_entry(key)).flatten() else { return false };
        match entry.view.highest_term() {
            0 => {}
            term => self.former.went(key, term, now),
        }
        true
    }

    pub(super) fn parents_listing(&mut self) {
        self.parent_epoch += 1;
        self.crowds(Kin::Locks).all_listing();
    }

    /// A consistent list of all locks, of this version, has ended. What it did not show is gone if it is not newer: see
    /// [`Index::forget_absent`].
    pub(super) fn parents_listed(&mut self, version: Version) {
        let absent = self.entries.iter().filter_map(|(key, entry)| {
            let parent = entry.parent.as_ref()?;
            let gone = parent.epoch != self.parent_epoch && parent.version <= version;
            gone.then(|| Absent::Parent(key.clone(), parent.uid.clone(), version))
        });
        self.absent.extend(absent);
        self.crowds(Kin::Locks).all_listed();
    }

    pub(super) fn claims_listing(&mut self) {
        self.claim_epoch += 1;
        self.crowds(Kin::Claims).all_listing();
    }

    /// The same of all claims.
    pub(super) fn claims_listed(&mut self, version: Version) {
        let gone = |claim: &ClaimNotes| claim.epoch != self.claim_epoch && claim.version <= version;
        let absent = self.claims.iter().filter(|(_, claim)| gone(claim));
        self.absent.extend(absent.map(|(uid, _)| Absent::Claim(uid.clone(), version)));
        self.crowds(Kin::Claims).all_listed();
    }

    /// Forgets some of what lists have not shown, as that may be all there was. Returns whether more is left. Until then
    /// it counts as there, and an answer may show that it is: then it has come after the list.
    pub(super) fn forget_absent(&mut self, now: Now, work_queue: &mut WorkQueue) -> bool {
        for absent in next_absent(&mut self.absent) {
            match absent {
                Absent::Parent(key, uid, version) => {
                    let known = self.parent(&key);
                    if known.is_some_and(|parent| parent.uid == uid && parent.version <= version) {
                        self.parent_gone(&key, &uid, now, work_queue);
                    }
                }
                Absent::Claim(uid, version) => {
                    if self.claim(&uid).is_some_and(|claim| claim.version <= version) {
                        // When it ended nobody has seen, so for how long it was held is not known.
                        _ = self.claim_gone(&uid, now, work_queue);
                    }
                }
            }
        }
        !self.absent.is_empty()
    }

    /// A lock of this UID was seen, though it cannot be read: at least it is there.
    pub(super) fn saw_unreadable_parent(&mut self, key: &ParentKey, uid: &str) {
        if let Some(parent) = self.entries.get_mut(key).and_then(|entry| entry.parent.as_mut())
            && *parent.uid == *uid
        {
            parent.epoch = self.parent_epoch;
        }
    }

    /// Whether the object of this UID is known to be deleted: what else is heard of it is old.
    pub(super) fn is_gone(&self, uid: &str) -> bool {
        self.gone.contains(uid)
    }

    fn remember_gone(&mut self, uid: &str) {
        let uid = Uid::from(uid);
        if self.gone.insert(uid.clone()) {
            self.gone_in_order.push_back(uid);
            if self.gone_in_order.len() > GRAVES
                && let Some(oldest) = self.gone_in_order.pop_front()
            {
                self.gone.remove(&oldest);
            }
        }
    }

    /// Takes notes of a lock that was seen; the caller tells the view.
    pub(super) fn note_parent(&mut self, key: &ParentKey, seen: &SeenParent, work_queue: &mut WorkQueue) -> &mut View {
        let epoch = self.parent_epoch;
        if self.parent(key).is_none() {
            self.crowds(Kin::Locks).came(&key.namespace);
        }
        let (_, entry) = self.open(key, work_queue);
        let version = seen.parent.version;
        match &mut entry.parent {
            Some(known) if known.version >= version => known.epoch = epoch,
            parent => {
                *parent = Some(ParentNotes {
                    uid: seen.parent.uid.clone(),
                    capacity: seen.parent.capacity,
                    conditions: seen.conditions.clone(),
                    version,
                    epoch,
                });
            }
        }
        &mut entry.view
    }

    /// The lock with this UID does not exist any more.
    pub(super) fn parent_gone(&mut self, key: &ParentKey, uid: &str, now: Now, work_queue: &mut WorkQueue) {
        self.remember_gone(uid);
        if !self.entries.contains_key(key) {
            return;
        }
        let (_, entry) = self.open(key, work_queue);
        let was_known = entry.parent.take_if(|parent| *parent.uid == *uid).is_some();
        entry.view.parent_gone(uid, now);
        if was_known {
            self.went(Kin::Locks, &key.namespace, work_queue);
        }
    }

    /// Takes notes of a claim that was seen; the caller tells the view.
    pub(super) fn note_claim(
        &mut self,
        key: &ParentKey,
        claim: &Claim,
        granted: Option<Outline>,
        now: Now,
        work_queue: &mut WorkQueue,
    ) -> Key {
        let epoch = self.claim_epoch;
        let (key, _) = self.open(key, work_queue);
        if let Some(known) = self.claims.get_mut(&claim.uid) {
            known.epoch = epoch;
            if known.version < claim.version {
                known.version = claim.version;
                known.generation = claim.generation;
                known.granted = granted;
                known.phase = claim.state.phase;
            }
            if known.pod.is_none()
                && let Some(pod) = &claim.pod
            {
                known.pod = Some((self.tenants.add(&pod.uid, &claim.uid), pod.container.as_str().into()));
            }
            return key;
        }
        let pod = claim.pod.as_ref();
        let pod = pod.map(|pod| (self.tenants.add(&pod.uid, &claim.uid), pod.container.as_str().into()));
        let notes = ClaimNotes {
            key: key.clone(),
            generation: claim.generation,
            granted,
            first_seen: now.monotonic,
            dead: false,
            before: None,
            phase: claim.state.phase,
            pod,
            version: claim.version,
            epoch,
        };
        self.claims.insert(claim.uid.clone(), notes);
        self.crowds(Kin::Claims).came(&key.namespace);
        key
    }

    /// Takes notes of a claim of this lock that cannot be read; the caller tells the view.
    pub(super) fn note_unread(
        &mut self,
        key: &ParentKey,
        unread: &Unread,
        now: Now,
        work_queue: &mut WorkQueue,
    ) -> Key {
        let epoch = self.claim_epoch;
        let (key, _) = self.open(key, work_queue);
        if !self.claims.contains_key(&unread.uid) {
            self.crowds(Kin::Claims).came(&key.namespace);
        }
        let notes = self.claims.entry(unread.uid.clone()).or_insert_with(|| ClaimNotes {
            key: key.clone(),
            generation: 0,
            granted: None,
            first_seen: now.monotonic,
            dead: false,
            before: None,
            phase: None,
            pod: None,
            version: 0,
            epoch,
        });
        (notes.epoch, notes.version) = (epoch, notes.version.max(unread.version));
        // The view forgets it: it is told again when the claim can be read.
        notes.dead = false;
        key
    }

    /// The claim with this UID does not exist any more. Returns since when it was held.
    pub(super) fn claim_gone(&mut self, uid: &str, now: Now, work_queue: &mut WorkQueue) -> Option<Timestamp> {
        self.remember_gone(uid);
        let claim = self.claims.remove(uid)?;
        self.went(Kin::Claims, &claim.key.namespace, work_queue);
        if let Some((pod, _)) = &claim.pod {
            self.tenants.remove(pod, uid);
        }
        let (_, entry) = self.open(&claim.key, work_queue);
        let held_since = entry.view.held_since(uid);
        entry.view.claim_gone(uid, now);
        held_since
    }

    /// A write to a claim is about to be sent: notes what the claim is on that version. If it is done, it was that which
    /// has changed, whatever watches have shown by then.
    pub(super) fn sending(&mut self, uid: &str, version: Version) {
        let Some(claim) = self.claims.get_mut(uid).filter(|claim| claim.version == version) else { return };
        let held_since = self.entries.get(&claim.key).and_then(|entry| entry.view.held_since(uid));
        claim.before = Some(Box::new(Before { version, phase: claim.phase, held_since }));
    }

    /// What the claim was on this version, if it was noted: once.
    pub(super) fn take_before(&mut self, uid: &str, version: Version) -> Option<Before> {
        let before = &mut self.claims.get_mut(uid)?.before;
        before.take_if(|before| before.version == version).map(|before| *before)
    }

    /// If the claim's container has certainly ended, its view is told.
    pub(super) fn check_for_death(&mut self, uid: &str, now: Now, work_queue: &mut WorkQueue) {
        let Some(claim) = self.claims.get_mut(uid) else { return };
        if let Some((pod, container)) = &claim.pod
            && !claim.dead
            && self.graveyard.has(pod, container)
        {
            let key = claim.key.clone();
            let (_, entry) = self.open(&key, work_queue);
            // One that cannot be read at the moment is told of when it can.
            let told = entry.view.holder_died(uid, now);
            if let Some(claim) = self.claims.get_mut(uid) {
                claim.dead = told;
            }
        }
    }

    pub(super) fn pods_listing(&mut self, source: usize) {
        self.graveyard.listing(source);
    }

    pub(super) fn pods_listed(&mut self, source: usize) {
        self.graveyard.listed(source);
    }

    /// These containers of the pod have ended.
    pub(super) fn pod_ended(&mut self, source: usize, ended: Ended, now: Now, work_queue: &mut WorkQueue) {
        let claims = self.tenants.of(&ended.pod);
        // Whoever patches an ended pod again and again tells nothing new.
        if !self.graveyard.bury(source, ended) {
            return;
        }
        for claim in claims {
            self.check_for_death(&claim, now, work_queue);
        }
    }

    /// The pod was deleted.
    pub(super) fn pod_gone(&mut self, pod: &str) {
        self.graveyard.forget(pod);
    }
}
