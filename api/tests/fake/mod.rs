//! A tiny API server that keeps real objects, checks resourceVersions and logs what a watch would show, and an operator
//! that carries out the writes of its plans against it. Both are driven step by step, so that a test decides what arrives,
//! in which order, and what is lost.

use std::{collections::BTreeMap, fmt::Debug};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use konductor_api::{
    Lock, LockClaim,
    arbiter::{Change, Claim, ClaimState, Now, Outcome, Parent, Subject, View, Write, claim_status},
};
use kube::{
    Resource,
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
#[expect(clippy::large_enum_variant, reason = "tests do not mind")]
pub(crate) enum Event {
    Parent(Parent),
    ParentGone(String),
    Claim(Claim),
    ClaimGone(String),
}

/// One lock and its claims.
#[derive(Clone, Debug)]
pub(crate) struct Api<L: Kept> {
    revision: u64,
    created: u64,
    lock: Option<L>,
    claims: BTreeMap<String, L::Claim>,
    /// Everything that ever happened, in order.
    pub(crate) log: Vec<Event>,
}

impl<L: Kept> Api<L> {
    pub(crate) fn new() -> Self {
        Self { revision: 0, created: 0, lock: None, claims: BTreeMap::new(), log: vec![] }
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
        self.log.extend(self.claim(&name).map(Event::Claim));
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

    pub(crate) fn delete_claim(&mut self, name: &str) {
        if let Some(uid) = self.claims.remove(name).and_then(|claim| claim.meta().uid.clone()) {
            self.revision += 1;
            self.log.push(Event::ClaimGone(uid));
        }
    }

    /// The lock as people see it.
    #[allow(dead_code, reason = "not every test that has an API looks at it")]
    pub(crate) fn lock(&self) -> Option<&L> {
        self.lock.as_ref()
    }

    pub(crate) fn parent(&self) -> Option<Parent> {
        self.lock.as_ref().map(|lock| Parent::of(lock).expect("a readable parent"))
    }

    pub(crate) fn claim(&self, name: &str) -> Option<Claim> {
        self.claims.get(name).map(|claim| Claim::of(claim).expect("a readable claim"))
    }

    pub(crate) fn claims(&self) -> Vec<Claim> {
        self.claims.keys().filter_map(|name| self.claim(name)).collect()
    }

    /// What a read of this object finds.
    pub(crate) fn read(&self, subject: &Subject) -> Event {
        match subject {
            Subject::Parent { uid } => self.parent().map_or_else(|| Event::ParentGone(uid.clone()), Event::Parent),
            Subject::Claim { uid, name } => {
                let claim = self.claim(name).filter(|claim| claim.uid == *uid);
                claim.map_or_else(|| Event::ClaimGone(uid.clone()), Event::Claim)
            }
        }
    }

    /// Carries a write out, unless the object is gone or has changed. One that changes nothing leaves the version alone.
    pub(crate) fn write(&mut self, write: &Write, wall: Timestamp) -> Option<Event> {
        match (&write.subject, &write.change) {
            (Subject::Parent { uid }, Change::Raise(state) | Change::Settle(state) | Change::Summarize(state)) => {
                let parent = self.parent().filter(|parent| parent.uid == *uid && parent.version == write.version)?;
                let mut lock = self.lock.clone()?;
                let status = Some(L::status_of(state, parent.capacity, wall, lock.conditions()));
                if *lock.status_mut() != status {
                    *lock.status_mut() = status;
                    self.store_parent(lock);
                }
                self.parent().map(Event::Parent)
            }
            (Subject::Claim { uid, name }, change) => {
                let claim = self.claim(name).filter(|claim| claim.uid == *uid && claim.version == write.version)?;
                let Some(state) = claim_state(change) else {
                    assert_eq!(*change, Change::Delete, "a change of a parent for {name}");
                    self.delete_claim(name);
                    return Some(Event::ClaimGone(uid.clone()));
                };
                let mut kept = self.claims.get(name).cloned()?;
                let before = kept.status().map(|status| status.conditions.clone()).unwrap_or_default();
                let status = Some(claim_status(state, claim.generation, wall, &before));
                if *kept.status_mut() != status {
                    *kept.status_mut() = status;
                    self.store_claim(kept);
                }
                self.claim(name).map(Event::Claim)
            }
            (subject, change) => panic!("{change:?} for {subject:?}"),
        }
    }
}

fn object<O: Object>(metadata: &ObjectMeta, spec: &O::Spec) -> O {
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("an object of its kind")
}

/// The status that a change gives to a claim.
pub(crate) fn claim_state(change: &Change) -> Option<&ClaimState> {
    match change {
        Change::Grant(state)
        | Change::Restamp(state)
        | Change::SendBack(state)
        | Change::Revoke(state)
        | Change::Expire(state)
        | Change::Tell(state) => Some(state),
        Change::Raise(_) | Change::Settle(_) | Change::Summarize(_) | Change::Delete => None,
    }
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
        let events = api.parent().map(Event::Parent).into_iter().chain(api.claims().into_iter().map(Event::Claim));
        events.for_each(|event| self.observe(event, now));
    }

    pub(crate) fn observe(&mut self, event: Event, now: Now) {
        match event {
            Event::Parent(parent) => self.view.observe_parent(parent, now),
            Event::ParentGone(uid) => self.view.parent_gone(&uid, now),
            Event::Claim(claim) => self.view.observe_claim(claim, now),
            Event::ClaimGone(uid) => self.view.claim_gone(&uid, now),
        }
    }

    /// Learns that a write succeeded, and what the object is like now.
    pub(crate) fn acknowledge(&mut self, write: &Write, result: Event, now: Now) {
        match result {
            Event::Parent(parent) => self.view.acknowledged_parent(write, parent, now),
            Event::Claim(claim) => self.view.acknowledged_claim(write, claim, now),
            Event::ParentGone(uid) | Event::ClaimGone(uid) => self.view.claim_gone(&uid, now),
        }
    }

    /// Learns that a write failed, and what was read since.
    pub(crate) fn fail(&mut self, write: &Write, outcome: Outcome, reading: Event, now: Now) {
        self.observe(reading, now);
        self.view.failed(write, outcome, now);
    }
}
