//! What gates depend on, and which gates depend on it.
//!
//! Only what some gate needs is followed ([`sources`]), and of each object only what a condition can ask about is kept
//! ([`Outline`](sources::Outline)). A change of an object finds the gates that name it through an index ([`needs`]), and corrects the
//! counts of those that select it ([`partition`]), so it costs what depends on it. What can be more than that is done in pieces
//! ([`world`]), as is the search for gates that wait for themselves ([`hunt`]).

mod hunt;
mod needs;
mod partition;
mod sources;
#[cfg(test)]
mod tests;
mod world;

use std::{convert::Infallible, sync::Arc};

use konductor_api::{
    Gate,
    arbiter::Now,
    rendezvous::{Plan, Write},
};
use kube::Client;
use tokio::sync::mpsc;

pub(crate) use self::sources::GateSight;
use self::{sources::Sources, world::World};
use crate::{
    arbiter::{Common, Key},
    rendezvous::{Agenda, Failure, Kind, Sight, StatusOf, patch},
};
use konductor_cluster::Lenient;

/// Looks at objects in one turn of the loop: each is some hundred nanoseconds, so that a turn stays well below 5 ms.
const LOOKS: usize = 4096;

/// All gates.
pub(crate) struct Gates {
    sources: Sources,
    world: World,
}

impl Kind for Gates {
    type Parent = Gate;
    type Sight = GateSight;
    type Chore = Infallible;
    type Done = Infallible;

    fn start(common: &Common, inbox: mpsc::Sender<Sight<Self>>) -> Self {
        Self { sources: Sources::new(common.client.clone(), inbox), world: World::default() }
    }

    fn parent(&mut self, key: &Key, gate: Option<&Gate>, now: Now, _agenda: &mut Agenda) {
        self.world.gate(key, gate, now);
        for source in self.sources.follow(&self.world.sources()) {
            self.world.forget(source);
        }
    }

    fn parents_listed(&mut self, _agenda: &mut Agenda) {
        self.world.gates_listed();
    }

    fn take(&mut self, sight: GateSight, _now: Now, _agenda: &mut Agenda) {
        if self.sources.is_current(&sight) {
            self.world.take(sight);
        }
    }

    fn prepare(&mut self, _now: Now, agenda: &mut Agenda) -> bool {
        let turn = self.world.work(LOOKS);
        for gate in self.world.take_marked() {
            agenda.mark(&gate);
        }
        turn.more
    }

    fn decide(&self, key: &Key, gate: &Gate, now: Now) -> Option<Plan<StatusOf<Self>>> {
        self.world.decide(key, gate, now)
    }

    fn write(
        &self,
        client: Client,
        _key: &Key,
        gate: Arc<Gate>,
        write: Write<StatusOf<Self>>,
    ) -> impl Future<Output = Result<Option<Lenient<Gate>>, Failure>> + Send + 'static {
        put(client, gate, write)
    }

    fn next_chore(&mut self, _now: Now) -> Option<Infallible> {
        None
    }

    async fn work(_client: Client, chore: Infallible) -> Infallible {
        chore
    }

    fn done(&mut self, done: Infallible, _now: Now) {
        match done {}
    }
}

async fn put(client: Client, gate: Arc<Gate>, write: Write<StatusOf<Gates>>) -> Result<Option<Lenient<Gate>>, Failure> {
    patch(client, &*gate, &write.status).await
}
