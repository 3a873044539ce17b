//! What gates depend on, and which gates depend on it.
//!
//! Only what some gate needs is followed ([`sources`]), only what is in a namespace that some gate may look at is kept,
//! which is listed when the first one does ([`lister`]), and of each object only what a condition can ask about
//! ([`Outline`](sources::Outline)). A change of an object finds the gates that name it through an index ([`needs`]),
//! and corrects the counts of those that select it ([`partition`]), so it costs what depends on it. What can be more
//! than that is done in pieces ([`cache`]), as is the search for gates that wait for themselves ([`hunt`]).

mod cache;
mod hunt;
mod lister;
mod needs;
mod partition;
mod places;
mod sources;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc};

use konductor_api::{
    Gate, RendezvousPhase,
    arbiter::Now,
    rendezvous::{Plan, RendezvousStatus, Write},
};
use konductor_cluster::object::Metadata;
use kube::Client;

use self::{
    cache::DependencyCache,
    lister::Lister,
    sources::{GateObject, GateSeen, Sources, watches},
};
use crate::{
    engine::{Common, Engine, Inbox, Sizes},
    key::Key,
    metrics::parents::Figures,
    waitable::{Errand, Kind, Next, Seen, StatusOf, Waitables, kept},
    watching::follow,
};

/// Gates in one page of a list.
const PAGE: u32 = 500;

/// Looks at objects in one step of the loop: each is some hundred nanoseconds, so that a turn stays well below 5 ms.
const LOOKS: usize = 4096;

/// All gates.
pub(crate) struct Gates {
    sources: Sources,
    lister: Lister,
    cache: DependencyCache,
}

/// An engine for gates, which are followed from now on, and its inbox.
pub(crate) fn start(common: &Common) -> (Engine<Waitables<Gates>>, Inbox<Seen<Gates>>) {
    let inbox = Inbox::default();
    follow(common, None, PAGE, inbox.sender.clone(), kept::<Gates>, Seen::Parent);
    let sources = Sources::new(watches(common, inbox.sender.clone()));
    let lister = Lister::start(common, inbox.sender.clone());
    let gates = Gates { sources, lister, cache: DependencyCache::default() };
    (Engine::new(Waitables::new(gates, &common.metrics, &common.recorder)), inbox)
}

impl Kind for Gates {
    type Parent = Gate;
    type Seen = GateSeen;
    type Errand = Infallible;
    type Report = Infallible;

    fn figures(gate: &GateObject) -> Figures {
        let phase = gate.status.as_ref().and_then(RendezvousStatus::phase);
        Figures::Gate { open: phase == Some(RendezvousPhase::Open) }
    }

    fn slim(metadata: &mut Metadata) {
        metadata.owners = Vec::new();
    }

    fn parent(&mut self, key: &Key, gate: Option<&GateObject>, now: Now) {
        self.cache.gate(key, gate, now);
        for source in self.sources.follow(&self.cache.sources()) {
            self.cache.forget(source);
        }
    }

    fn parents_listed(&mut self) {
        self.cache.gates_listed();
    }

    fn sizes(&self) -> Sizes {
        self.cache.sizes()
    }

    fn lead(&mut self, leading: bool, now: Now) {
        self.cache.lead(leading, now);
    }

    fn answered_again(&mut self, now: Now) {
        self.cache.answered_again(now);
    }

    fn observe(&mut self, seen: GateSeen, _now: Now) {
        match seen {
            GateSeen::Watched(seen) if self.sources.is_current(&seen) => _ = self.cache.take(seen),
            GateSeen::Watched(_) => {}
            GateSeen::Listed(listed) => _ = self.cache.take_listed(listed),
        }
    }

    fn prepare(&mut self, now: Now, changed: &mut Vec<Key>) -> bool {
        self.cache.tick(now.monotonic);
        let turn = self.cache.work(LOOKS);
        changed.extend(self.cache.take_marked());
        for wish in self.cache.take_wishes() {
            self.lister.list(wish);
        }
        turn.more
    }

    fn decide(&self, key: &Key, gate: &GateObject, now: Now) -> Option<Plan<StatusOf<Self>>> {
        self.cache.decide(key, gate, now)
    }

    fn errand(&self, _: &Key, _: &Arc<GateObject>, _: &Write<StatusOf<Self>>) -> Option<Infallible> {
        None
    }

    fn chore(&mut self, _now: Now) -> Option<(Key, Infallible)> {
        None
    }

    fn report(&mut self, report: Infallible, _now: Now) {
        match report {}
    }
}

impl Errand<Gates> for Infallible {
    type Request = Self;
    type Answer = Self;

    fn request(&self) -> Self {
        match *self {}
    }

    fn is_unanswered(answer: &Self) -> bool {
        match *answer {}
    }

    fn answered(self, _: Self, _: &Gates, _: Now) -> Next<Gates, Self> {
        match self {}
    }

    async fn perform(_: Client, request: Self) -> Self {
        match request {}
    }
}
