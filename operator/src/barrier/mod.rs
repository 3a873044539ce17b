//! What barriers need beside decisions.
//!
//! - [`arrivals`]: who has arrived at which barrier, kept by watches;
//! - [`round`]: the requests that precede a phase and the next round;
//! - [`orphans`]: arrivals that came without an owner, to be adopted so that they are collected with their barrier;
//! - [`errand`]: carries these out.

mod arrivals;
mod errand;
mod orphans;
mod round;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use konductor_api::{
    Barrier, RendezvousPhase,
    arbiter::Now,
    rendezvous::{Plan, RendezvousStatus, Write},
};
use konductor_cluster::{
    follow::Event,
    object::{Lenient, Metadata},
};

use self::{
    arrivals::{Arrivals, Arrived, BarrierObject},
    errand::Errand,
};
use crate::{
    engine::{Common, Engine, Inbox, Sizes},
    key::Key,
    metrics::{CacheId, Metrics, parents::Figures},
    waitable::{Kind, Seen, StatusOf, Waitables, kept},
    watching::follow,
};

/// Arrivals, or barriers, in one page of a list: about a third of a megabyte of text.
const PAGE: u32 = 500;

/// Looks at arrivals in one step of the loop: each is some hundred nanoseconds, so that a turn stays well below 5 ms.
const LOOKS: usize = 4096;

/// All barriers.
pub(crate) struct Barriers {
    arrivals: Arrivals,
    cache: CacheId,
    metrics: Arc<Metrics>,
}

/// An engine for barriers, which are followed from now on as those who arrive are, and its inbox.
pub(crate) fn start(common: &Common) -> (Engine<Waitables<Barriers>>, Inbox<Seen<Barriers>>) {
    let inbox = Inbox::default();
    follow(common, None, PAGE, inbox.sender.clone(), kept::<Barriers>, Seen::Parent);
    follow(common, None, PAGE, inbox.sender.clone(), Arrived::of, Seen::Other);
    let barriers = Barriers::new(&common.metrics);
    (Engine::new(Waitables::new(barriers, &common.metrics, &common.recorder)), inbox)
}

impl Barriers {
    fn new(metrics: &Arc<Metrics>) -> Self {
        let (cache, metrics) = (metrics.register_cache("arrivals"), metrics.clone());
        Self { arrivals: Arrivals::default(), cache, metrics }
    }
}

impl Kind for Barriers {
    type Parent = Barrier;
    type Seen = Event<Lenient<Arrived>>;
    type Errand = Errand;
    type Report = (Arc<str>, bool);

    fn figures(barrier: &BarrierObject) -> Figures {
        let status = barrier.status.as_ref();
        Figures::Barrier {
            open: status.and_then(RendezvousStatus::phase) == Some(RendezvousPhase::Open),
            arrived: status.and_then(|status| status.arrived).unwrap_or(0),
            expected: barrier.spec.expected.into(),
        }
    }

    fn slim(metadata: &mut Metadata) {
        (metadata.labels, metadata.owners) = Default::default();
    }

    fn sizes(&self) -> Sizes {
        self.arrivals.sizes()
    }

    fn lead(&mut self, leading: bool, now: Now) {
        self.arrivals.lead(leading, now);
    }

    fn answered_again(&mut self, now: Now) {
        self.arrivals.answered_again(now);
    }

    fn parent(&mut self, key: &Key, barrier: Option<&BarrierObject>, now: Now) {
        self.arrivals.barrier(key, barrier, now);
    }

    fn parents_listed(&mut self) {
        self.arrivals.barriers_listed();
    }

    fn observe(&mut self, seen: Self::Seen, now: Now) {
        let filled = matches!(seen, Event::InitDone { .. });
        self.arrivals.take(seen, now);
        if filled {
            self.metrics.filled(self.cache);
        }
    }

    fn prepare(&mut self, _now: Now, changed: &mut Vec<Key>) -> bool {
        let turn = self.arrivals.work(LOOKS);
        changed.extend(self.arrivals.take_marked());
        turn.more
    }

    fn decide(&self, key: &Key, barrier: &BarrierObject, now: Now) -> Option<Plan<StatusOf<Self>>> {
        self.arrivals.decide(key, barrier, now)
    }

    fn errand(&self, key: &Key, barrier: &Arc<BarrierObject>, write: &Write<StatusOf<Self>>) -> Option<Errand> {
        Errand::round(key, barrier, write.change, &write.status)
    }

    fn chore(&mut self, now: Now) -> Option<(Key, Errand)> {
        let adoption = self.arrivals.next_adoption(now)?;
        Some((adoption.barrier.clone(), Errand::Adopt(adoption)))
    }

    fn report(&mut self, (arrival, done): (Arc<str>, bool), now: Now) {
        self.arrivals.adopted(&arrival, done, now);
    }
}
