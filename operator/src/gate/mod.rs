//! What gates depend on, and which gates depend on it.
//!
//! Only what some gate needs is followed ([`sources`]), and of each object only what a condition can ask about is kept
//! ([`Outline`]). A change of an object finds the gates that name or select it through an index ([`needs`]), so it costs
//! what depends on it.

mod needs;
mod sources;
mod world;

use std::{convert::Infallible, sync::Arc};

use jiff::Timestamp;
use konductor_api::{
    Gate,
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

/// All gates.
pub(crate) struct Gates {
    sources: Sources,
    world: World,
}

impl Kind for Gates {
    type Parent = Gate;
    type Sight = GateSight;
    type Chore = Infallible;

    fn start(common: &Common, inbox: mpsc::Sender<Sight<Self>>) -> Self {
        Self { sources: Sources::new(common.client.clone(), inbox), world: World::default() }
    }

    fn parent(&mut self, key: &Key, gate: Option<&Gate>, agenda: &mut Agenda) {
        self.world.gate(key, gate, agenda);
        for source in self.sources.follow(&self.world.sources()) {
            self.world.forget(source);
        }
    }

    fn parents_listed(&mut self, agenda: &mut Agenda) {
        self.world.gates_listed(agenda);
    }

    fn take(&mut self, sight: GateSight, agenda: &mut Agenda) {
        if self.sources.is_current(&sight) {
            self.world.take(sight, agenda);
        }
    }

    fn prepare(&mut self, agenda: &mut Agenda) {
        self.world.find_cycles(agenda);
    }

    fn decide(&self, key: &Key, gate: &Gate, now: Timestamp) -> Option<Plan<StatusOf<Self>>> {
        self.world.decide(key, gate, now)
    }

    async fn write(
        client: Client,
        gate: Arc<Gate>,
        write: Write<StatusOf<Self>>,
    ) -> Result<Option<Lenient<Gate>>, Failure> {
        patch(client, &*gate, &write.status).await
    }

    fn next_chore(&mut self) -> Option<Infallible> {
        None
    }

    async fn work(_client: Client, chore: Infallible) {
        match chore {}
    }
}
