//! A tiny API server that keeps real objects, checks resourceVersions and logs what a watch would show, and an operator
//! that carries out the writes of its plans against it. Both are driven step by step, so that a test decides what arrives,
//! in which order, and what is lost.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use konductor_api::{
    ClaimStatus, Permit, PermitSpec, Semaphore, SemaphoreSpec,
    arbiter::{Change, Claim, ClaimState, Now, Outcome, Parent, Subject, View, Write, claim_status, semaphore_status},
};

/// What a watch or a read shows.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "tests do not mind")]
pub(crate) enum Event {
    Parent(Parent),
    ParentGone(String),
    Claim(Claim),
    ClaimGone(String),
}

/// One semaphore and its permits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Api {
    revision: u64,
    created: u64,
    semaphore: Option<Semaphore>,
    permits: BTreeMap<String, Permit>,
    /// Everything that ever happened, in order.
    pub(crate) log: Vec<Event>,
}

impl Api {
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

    fn store_semaphore(&mut self, mut semaphore: Semaphore) {
        self.stamp(&mut semaphore.metadata);
        self.semaphore = Some(semaphore);
        self.log.extend(self.parent().map(Event::Parent));
    }

    fn store_permit(&mut self, mut permit: Permit) {
        self.stamp(&mut permit.metadata);
        let name = permit.metadata.name.clone().unwrap_or_default();
        self.permits.insert(name.clone(), permit);
        self.log.extend(self.claim(&name).map(Event::Claim));
    }

    /// Changes the semaphore, and creates it first if it does not exist.
    pub(crate) fn put_semaphore(&mut self, default: SemaphoreSpec, wall: Timestamp, edit: impl FnOnce(&mut Semaphore)) {
        let mut semaphore = match self.semaphore.take() {
            Some(mut semaphore) => {
                semaphore.metadata.generation = semaphore.metadata.generation.map(|generation| generation + 1);
                semaphore
            }
            None => Semaphore { metadata: self.metadata("s", wall), spec: default, status: None },
        };
        edit(&mut semaphore);
        self.store_semaphore(semaphore);
    }

    pub(crate) fn delete_semaphore(&mut self) {
        if let Some(uid) = self.semaphore.take().and_then(|semaphore| semaphore.metadata.uid) {
            self.revision += 1;
            self.log.push(Event::ParentGone(uid));
        }
    }

    pub(crate) fn create_permit(&mut self, name: &str, spec: PermitSpec, wall: Timestamp) {
        let permit = Permit { metadata: self.metadata(name, wall), spec, status: None };
        self.store_permit(permit);
    }

    /// A write by somebody else than an operator.
    pub(crate) fn edit_permit(&mut self, name: &str, edit: impl FnOnce(&mut Permit)) {
        if let Some(mut permit) = self.permits.get(name).cloned() {
            edit(&mut permit);
            self.store_permit(permit);
        }
    }

    pub(crate) fn delete_permit(&mut self, name: &str) {
        if let Some(uid) = self.permits.remove(name).and_then(|permit| permit.metadata.uid) {
            self.revision += 1;
            self.log.push(Event::ClaimGone(uid));
        }
    }

    pub(crate) fn parent(&self) -> Option<Parent> {
        self.semaphore.as_ref().map(|semaphore| Parent::try_from(semaphore).expect("a readable semaphore"))
    }

    pub(crate) fn claim(&self, name: &str) -> Option<Claim> {
        self.permits.get(name).map(|permit| Claim::try_from(permit).expect("a readable permit"))
    }

    pub(crate) fn claims(&self) -> Vec<Claim> {
        self.permits.keys().filter_map(|name| self.claim(name)).collect()
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
                let mut semaphore = self.semaphore.clone()?;
                let before = semaphore.status.clone().map(|status| status.conditions).unwrap_or_default();
                let status = Some(semaphore_status(state, parent.capacity, wall, &before));
                if semaphore.status != status {
                    semaphore.status = status;
                    self.store_semaphore(semaphore);
                }
                self.parent().map(Event::Parent)
            }
            (Subject::Claim { uid, name }, change) => {
                let claim = self.claim(name).filter(|claim| claim.uid == *uid && claim.version == write.version)?;
                let Some(state) = claim_state(change) else {
                    assert_eq!(*change, Change::Delete, "a change of a parent for {name}");
                    self.delete_permit(name);
                    return Some(Event::ClaimGone(uid.clone()));
                };
                let mut permit = self.permits.get(name).cloned()?;
                let before = permit.status.clone().map(|status| status.conditions).unwrap_or_default();
                let status: Option<ClaimStatus> = Some(claim_status(state, claim.generation, wall, &before));
                if permit.status != status {
                    permit.status = status;
                    self.store_permit(permit);
                }
                self.claim(name).map(Event::Claim)
            }
            (subject, change) => panic!("{change:?} for {subject:?}"),
        }
    }
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
    pub(crate) fn new() -> Self {
        Self { view: View::new("semaphore", "s"), seen: 0 }
    }

    /// Sees up to so many of the next events.
    pub(crate) fn watch(&mut self, api: &Api, events: usize, now: Now) {
        for event in api.log.iter().skip(self.seen).take(events) {
            self.seen += 1;
            self.observe(event.clone(), now);
        }
    }

    /// Sees what there is now instead of what has happened since.
    pub(crate) fn relist(&mut self, api: &Api, now: Now) {
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
