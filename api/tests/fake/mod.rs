//! A tiny API server that keeps real objects, checks resourceVersions and logs what a watch would show, and an operator
//! that carries out the writes of its plans against it. Both are driven step by step, so that a test decides what
//! arrives, in which order, and what is lost.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use konductor_api::{
    ClaimPhase, Lock, LockClaim, REVOKE_ANNOTATION,
    arbiter::{Claim, ClaimWrite, Identity, Now, Outcome, Parent, ParentWrite, Unread, View, Write, claim_status},
};
use kube::{
    Resource, ResourceExt,
    core::object::{HasSpec, HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

/// A kind of lock that can be kept here.
pub(crate) trait Kept: Lock<Claim: KeptClaim> + HasStatus<Status: Clone + PartialEq> + Object {}

impl<L: Lock<Claim: KeptClaim> + HasStatus<Status: Clone + PartialEq> + Object> Kept for L {}

/// A claim on it.
pub(crate) trait KeptClaim: LockClaim + Object {}

impl<C: LockClaim + Object> KeptClaim for C {}

/// What both are.
pub(crate) trait Object: HasSpec<Spec: Serialize> + DeserializeOwned + Clone + Debug {}

impl<O: HasSpec<Spec: Serialize> + DeserializeOwned + Clone + Debug> Object for O {}

/// What a watch or a read shows.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Parent(Parent),
    ParentGone(String),
    Claim(Claim),
    Unread(Unread),
    ClaimGone(String),
}

/// One lock and its claims.
#[derive(Clone, Debug)]
pub(crate) struct Api<L: Kept> {
    revision: u64,
    created: u64,
    lock: Option<L>,
    claims: BTreeMap<String, L::Claim>,
    /// Claims that hold something which no operator can read.
    unreadable: BTreeSet<String>,
    /// Everything that ever happened, in order.
    pub(crate) log: Vec<Event>,
}

impl<L: Kept> Api<L> {
    pub(crate) fn new() -> Self {
        Self { revision: 0, created: 0, lock: None, claims: BTreeMap::new(), unreadable: BTreeSet::new(), log: vec![] }
    }

    fn metadata(&mut self, name: &str, wall: Timestamp) -> ObjectMeta {
        self.created += 1;
        ObjectMeta {
            name: Some(name.into()),
            uid: Some(format!("{name}#{}", self.created)),
            generation: Some(1),
            creation_timestamp: Some(Time(wall)),
            ..ObjectMeta::default()
        }
    }

    fn stamp(&mut self, metadata: &mut ObjectMeta) {
        self.revision += 1;
        metadata.resource_version = Some(self.revision.to_string());
    }

    fn store_parent(&mut self, mut lock: L) {
        self.stamp(lock.meta_mut());
        self.lock = Some(lock);
        self.log.extend(self.parent().map(Event::Parent));
    }

    fn store_claim(&mut self, mut claim: L::Claim) {
        self.stamp(claim.meta_mut());
        let name = claim.meta().name.clone().unwrap_or_default();
        self.claims.insert(name.clone(), claim);
        self.log.extend(self.shown(&name));
    }

    /// Changes the lock, and creates it first if it does not exist.
    pub(crate) fn put_parent(&mut self, default: &L::Spec, wall: Timestamp, edit: impl FnOnce(&mut L)) {
        let mut lock = match self.lock.take() {
            Some(mut lock) => {
                let generation = &mut lock.meta_mut().generation;
                *generation = generation.map(|generation| generation + 1);
                lock
            }
            None => object(&self.metadata("s", wall), default),
        };
        edit(&mut lock);
        self.store_parent(lock);
    }

    pub(crate) fn delete_parent(&mut self) {
        if let Some(uid) = self.lock.take().and_then(|lock| lock.meta().uid.clone()) {
            self.revision += 1;
            self.log.push(Event::ParentGone(uid));
        }
    }

    pub(crate) fn create_claim(&mut self, name: &str, spec: &<L::Claim as HasSpec>::Spec, wall: Timestamp) {
        let claim = object(&self.metadata(name, wall), spec);
        self.store_claim(claim);
    }

    /// A write by somebody else than an operator.
    pub(crate) fn edit_claim(&mut self, name: &str, edit: impl FnOnce(&mut L::Claim)) {
        if let Some(mut claim) = self.claims.get(name).cloned() {
            edit(&mut claim);
            self.store_claim(claim);
        }
    }

    /// From now on nothing can be read of this claim but its metadata and its phase; or everything again.
    pub(crate) fn make_unreadable(&mut self, name: &str, unreadable: bool) {
        if unreadable {
            self.unreadable.insert(name.into())
        } else {
            self.unreadable.remove(name)
        };
        self.edit_claim(name, |_| ());
    }

    pub(crate) fn delete_claim(&mut self, name: &str) {
        self.unreadable.remove(name);
        if let Some(uid) = self.claims.remove(name).and_then(|claim| claim.meta().uid.clone()) {
            self.revision += 1;
            self.log.push(Event::ClaimGone(uid));
        }
    }

    /// The lock as people see it.
    pub(crate) fn lock(&self) -> Option<&L> {
        self.lock.as_ref()
    }

    pub(crate) fn parent(&self) -> Option<Parent> {
        self.lock
            .as_ref()
            .map(|lock| Parent::of::<L>(identity(lock.meta()), lock.spec(), lock.status()).expect("a readable parent"))
    }

    pub(crate) fn claim(&self, name: &str) -> Option<Claim> {
        let claim = self.claims.get(name)?;
        let (revoke, deleting) =
            (claim.annotations().get(REVOKE_ANNOTATION), claim.meta().deletion_timestamp.is_some());
        let (spec, status) = (claim.spec(), claim.status());
        let claim =
            Claim::of::<L::Claim>(identity(claim.meta()), name, revoke.map(String::as_str), deleting, spec, status);
        Some(claim.expect("a readable claim"))
    }

    pub(crate) fn claims(&self) -> Vec<Claim> {
        self.claims.keys().filter_map(|name| self.claim(name)).collect()
    }

    /// What a look at the claim shows.
    fn shown(&self, name: &str) -> Option<Event> {
        let Claim { uid, name, version, state, .. } = self.claim(name)?;
        if !self.unreadable.contains(&name) {
            return self.claim(&name).map(Event::Claim);
        }
        let may_hold = matches!(state.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking));
        Some(Event::Unread(Unread { uid, name, version, may_hold }))
    }

    /// What a list of all claims shows.
    pub(crate) fn list(&self) -> Vec<Event> {
        self.claims.keys().filter_map(|name| self.shown(name)).collect()
    }

    /// What a read of the object of this write finds.
    pub(crate) fn read(&self, write: &Write) -> Event {
        match write {
            Write::Parent(ParentWrite { uid, .. }) => {
                self.parent().map_or_else(|| Event::ParentGone(uid.to_string()), Event::Parent)
            }
            Write::Claim(ClaimWrite { uid, name, .. }) => {
                let claim = self.claim(name).filter(|claim| claim.uid == *uid);
                claim.and_then(|_| self.shown(name)).unwrap_or_else(|| Event::ClaimGone(uid.to_string()))
            }
        }
    }

    /// Carries a write out, unless the object is gone or has changed. One that changes nothing leaves the version
    /// alone.
    pub(crate) fn write(&mut self, write: &Write, wall: Timestamp) -> Option<Event> {
        match write {
            Write::Parent(ParentWrite { uid, version, change }) => {
                let parent = self.parent().filter(|parent| parent.uid == *uid && parent.version == *version)?;
                let mut lock = self.lock.clone()?;
                let before = lock.status().map_or(&[][..], L::conditions);
                let status = Some(L::status_of(change.state(), parent.capacity, wall, before));
                if *lock.status_mut() != status {
                    *lock.status_mut() = status;
                    self.store_parent(lock);
                }
                self.parent().map(Event::Parent)
            }
            Write::Claim(ClaimWrite { uid, name, version, change, .. }) => {
                let claim = self.claim(name).filter(|claim| claim.uid == *uid && claim.version == *version)?;
                let Some(state) = change.state() else {
                    self.delete_claim(name);
                    return Some(Event::ClaimGone(uid.to_string()));
                };
                let mut kept = self.claims.get(name).cloned()?;
                let before = kept.status().map(|status| status.conditions.clone()).unwrap_or_default();
                let status = Some(claim_status(state, claim.generation, wall, &before));
                if *kept.status_mut() != status {
                    *kept.status_mut() = status;
                    self.store_claim(kept);
                }
                self.shown(name)
            }
        }
    }
}

fn identity(metadata: &ObjectMeta) -> Identity {
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok()).expect("a number");
    Identity {
        uid: metadata.uid.as_deref().expect("a UID").into(),
        version: number(&metadata.resource_version),
        generation: metadata.generation.unwrap_or(0),
        created: metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second() as u64),
    }
}

fn object<O: Object>(metadata: &ObjectMeta, spec: &O::Spec) -> O {
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("an object of its kind")
}

/// An operator's caches, and how far its watch has come.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) view: View,
    pub(crate) seen: usize,
}

impl Operator {
    pub(crate) fn new<L: Lock>() -> Self {
        Self { view: View::new(L::KIND, "s"), seen: 0 }
    }

    /// Sees up to so many of the next events.
    pub(crate) fn watch<L: Kept>(&mut self, api: &Api<L>, events: usize, now: Now) {
        for event in api.log.iter().skip(self.seen).take(events) {
            self.seen += 1;
            self.observe(event.clone(), now);
        }
    }

    /// Sees what there is now instead of what has happened since.
    pub(crate) fn relist<L: Kept>(&mut self, api: &Api<L>, now: Now) {
        self.seen = api.log.len();
        let events = api.parent().map(Event::Parent).into_iter().chain(api.list());
        events.for_each(|event| self.observe(event, now));
    }

    pub(crate) fn observe(&mut self, event: Event, now: Now) {
        match event {
            Event::Parent(parent) => self.view.observe_parent(parent, now),
            Event::ParentGone(uid) => self.view.parent_gone(&uid, now),
            Event::Claim(claim) => self.view.observe_claim(claim, now),
            Event::Unread(claim) => self.view.observe_unreadable(claim, now),
            Event::ClaimGone(uid) => self.view.claim_gone(&uid, now),
        }
    }

    /// Gets the answer to a list, in pages of one claim each.
    pub(crate) fn listed(&mut self, term: u64, claims: Vec<Event>, now: Now) {
        self.paged(term, claims, now);
        self.view.listed(term, now);
    }

    /// Gets a part of the answer to a list.
    pub(crate) fn paged(&mut self, term: u64, claims: Vec<Event>, now: Now) {
        for claim in claims {
            match claim {
                Event::Claim(claim) => self.view.page(term, vec![claim], now),
                other => self.observe(other, now),
            }
        }
    }

    /// Learns that a write succeeded, and what the object is like now.
    pub(crate) fn acknowledge(&mut self, write: &Write, result: Event, now: Now) {
        match (write, result) {
            (Write::Parent(write), Event::Parent(parent)) => self.view.acknowledged_parent(write, parent, now),
            (Write::Claim(write), Event::Claim(claim)) => self.view.acknowledged_claim(write, claim, now),
            (Write::Claim(write), Event::ClaimGone(_)) => self.view.claim_gone(&write.uid, now),
            // The answer is no more readable than the object.
            (_, Event::Unread(claim)) => {
                self.view.observe_unreadable(claim, now);
                self.view.failed(write, Outcome::Unknown, now);
            }
            (write, result) => panic!("no result of {write:?}: {result:?}"),
        }
    }

    /// Learns that a write failed, and what was read since.
    pub(crate) fn fail(&mut self, write: &Write, outcome: Outcome, reading: Event, now: Now) {
        self.observe(reading, now);
        self.view.failed(write, outcome, now);
    }
}
