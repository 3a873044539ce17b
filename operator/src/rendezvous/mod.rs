//! Carries out what [`konductor_api::rendezvous`] decides: the statuses of barriers and gates.
//!
//! As in the arbiter, one task a kind owns everything that is known and decides once for each parent that
//! something was heard of (`engine`); requests run beside it. It is simpler here, because nothing is granted to anybody:
//!
//! - a decision is a whole status, so it can be forgotten and made again; nothing waits in a queue but names, and what
//!   is sent is decided when there is a place to send it;
//! - every write is on the version that it was decided on. A deposed operator's late write fails once anybody else
//!   wrote the parent, so it cannot take back what its successor decided;
//! - whatever goes wrong with a write, the parent is decided on again a little later.
//!
//! What is special about a kind is in its `Kind`: what else it watches, and how a write is carried out that must not
//! rest on what a watch has shown so far.

mod agenda;
mod engine;
mod kind;

use tokio::{sync::watch, task::JoinSet};

pub(crate) use self::{
    agenda::Agenda,
    engine::Sight,
    kind::{Failure, Kind, StatusOf, answer, patch},
};
use crate::{arbiter::Common, barrier::Barriers, gate::Gates};

/// Starts an engine for each kind. They end when the sender of `stop` is dropped; before that only by a panic.
pub fn start(common: &Common, stop: &watch::Receiver<()>, engines: &mut JoinSet<()>) {
    engines.spawn(engine::Engine::<Barriers>::start(common.clone()).run(stop.clone()));
    engines.spawn(engine::Engine::<Gates>::start(common.clone()).run(stop.clone()));
}
