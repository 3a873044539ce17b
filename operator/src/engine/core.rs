//! The engine as a state machine over what was seen, answers and time. No I/O, no clock.

use std::time::Duration;

use konductor_api::arbiter::Now;

use super::{Lane, Lanes, Plugin, Sizes, Turn, WorkQueue};
use crate::key::Key;

/// Jobs looked at in one turn before they are sent: more than there are places, as some have become needless.
const DISPATCHED: usize = 256;

/// A request that is under way, for [`Engine::answered`].
#[derive(Clone, Debug)]
pub struct Ticket {
    lane: Lane,
    key: Key,
}

/// Decides for all parents of one kind: see the [module](super).
#[derive(Debug)]
pub struct Engine<P: Plugin> {
    plugin: P,
    work_queue: WorkQueue,
    lanes: Lanes<P::Job>,
    leading: bool,
    /// Something that comes before decisions is not done yet.
    preparing: bool,
}

impl<P: Plugin> Engine<P> {
    /// An engine that knows nothing and does not lead.
    pub fn new(plugin: P) -> Self {
        Self { plugin, work_queue: WorkQueue::default(), lanes: Lanes::default(), leading: false, preparing: false }
    }

    /// The name of the kind.
    pub fn name(&self) -> &'static str {
        self.plugin.name()
    }

    /// How much it keeps of what: all that grows.
    pub fn sizes(&self) -> Sizes {
        [self.work_queue.sizes(), self.lanes.sizes(), self.plugin.sizes()].concat()
    }

    fn call<T>(&mut self, now: Now, call: impl FnOnce(&mut P, &mut Turn<'_, P::Job>) -> T) -> T {
        let Self { plugin, work_queue, lanes, leading, .. } = self;
        call(plugin, &mut Turn { now, leading: *leading, work_queue, lanes })
    }

    /// This process leads from now on, or does not any more.
    pub fn lead(&mut self, leading: bool, now: Now) {
        self.leading = leading;
        self.call(now, P::lead);
    }

    /// A watch has shown this.
    pub fn observe(&mut self, seen: P::Seen, now: Now) {
        self.call(now, |plugin, turn| plugin.observe(seen, turn));
    }

    /// The answer to a request has come.
    pub fn answered(&mut self, ticket: &Ticket, answer: P::Answer, now: Now) {
        self.lanes.done(ticket.lane, &ticket.key);
        self.call(now, |plugin, turn| plugin.answered(ticket.lane, &ticket.key, answer, turn));
    }

    /// Decides, parent by parent, until nothing is left to decide or `enough` says that the turn has taken long enough,
    /// and returns the requests to send. What is left is due at once: see [`Engine::next`].
    pub fn turn(&mut self, now: Now, mut enough: impl FnMut() -> bool) -> Vec<(Ticket, P::Request)> {
        self.work_queue.ring(now.monotonic);
        self.lanes.ring(now.monotonic);
        self.preparing = true;
        while self.preparing {
            self.preparing = self.call(now, P::prepare);
            if enough() {
                break;
            }
        }
        // Also while something is left to prepare, as that may be so for ever: what is not known yet, a plugin does not
        // decide on. One that is marked by another's decision waits for the next turn: no turn is without an end.
        let mut left = self.work_queue.waiting();
        while left > 0
            && let Some(key) = self.work_queue.pop()
        {
            self.call(now, |plugin, turn| plugin.decide(&key, turn));
            left = if enough() { 0 } else { left - 1 };
        }
        let mut requests = Vec::new();
        for _ in 0..DISPATCHED {
            let Some((lane, key, job)) = self.lanes.pop() else { break };
            match self.call(now, |plugin, turn| plugin.dispatch(&key, job, turn)) {
                Some(request) => requests.push((Ticket { lane, key }, request)),
                None => self.lanes.done(lane, &key),
            }
        }
        requests
    }

    /// When the next turn is due if nothing happens before: on the monotonic clock; at once if something is left to do.
    pub fn next(&self) -> Option<Duration> {
        if self.preparing {
            return Some(Duration::ZERO);
        }
        self.work_queue.next().into_iter().chain(self.lanes.next()).min()
    }
}
