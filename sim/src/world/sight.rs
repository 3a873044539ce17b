//! What each connection of an operator has been told of each resource, and how far it has surely taken that in.
//!
//! An operator decides by what its lists and watches have told it, and no two of its parts have been told the same.
//! What it is told it takes in at once, unless it stands still; only of what comes in the very moment of a decision it
//! cannot be known whether that came before.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use super::process::Process;
use crate::server::resource::ResourceId;

/// A connection.
pub(super) type Connection = u64;

/// What was told of one resource.
#[derive(Debug, Default)]
struct Told {
    /// All that happened up to this version was told, and taken in.
    low: u64,
    /// Nothing that happened after this version was told.
    high: u64,
    /// The versions up to which all was told, and when.
    coming: VecDeque<(Instant, u64)>,
}

/// What was told on one connection.
#[derive(Debug)]
struct Sight {
    process: Arc<Process>,
    told: BTreeMap<ResourceId, Told>,
    /// It is the one on which gates are decided.
    is_of_gates: bool,
    /// Etcd was restored since: nobody can say what its process takes for true, until people start that anew.
    is_of_another_time: bool,
}

/// What all connections of operators were told.
#[derive(Debug, Default)]
pub(super) struct Sights(BTreeMap<Connection, Sight>);

impl Sights {
    /// A process connects.
    pub(super) fn connect(&mut self, process: &Arc<Process>, connection: Connection) {
        if process.is_operator {
            let (process, told) = (Arc::clone(process), BTreeMap::new());
            self.0.insert(connection, Sight { process, told, is_of_gates: false, is_of_another_time: false });
        }
    }

    /// Whether gates are decided on this connection: nobody looks at what is told on others.
    pub(super) fn decides_on_gates(&self, connection: Connection) -> bool {
        self.0.get(&connection).is_some_and(|sight| sight.is_of_gates)
    }

    /// Gates are decided on this connection.
    pub(super) fn is_of_gates(&mut self, connection: Connection) {
        if let Some(sight) = self.0.get_mut(&connection) {
            sight.is_of_gates = true;
        }
    }

    /// The connection on which this process decides on gates, if it lives.
    pub(super) fn of(&self, process: &str) -> Option<Connection> {
        let decides = |sight: &Sight| sight.is_of_gates && !sight.is_of_another_time;
        let is_it = |sight: &Sight| decides(sight) && sight.process.name == process && sight.process.is_alive();
        self.0.iter().rev().find(|(_, sight)| is_it(sight)).map(|(connection, _)| *connection)
    }

    /// A part of what there was at this version was told; all of it, if `whole`.
    pub(super) fn told(&mut self, connection: Connection, resource: ResourceId, version: u64, whole: bool) {
        let Some(sight) = self.0.get_mut(&connection).filter(|sight| sight.is_of_gates) else { return };
        let told = sight.told.entry(resource).or_default();
        told.high = told.high.max(version);
        if whole && told.coming.back().is_none_or(|(_, last)| *last < version) {
            told.coming.push_back((Instant::now(), version));
        }
    }

    /// From which to which version what the operator knows of this resource may be, if it knows it.
    pub(super) fn range(&mut self, connection: Connection, resource: ResourceId) -> Option<(u64, u64)> {
        let sight = self.0.get_mut(&connection).filter(|sight| !sight.is_of_another_time)?;
        let until = sight.process.has_heard_until();
        let told = sight.told.get_mut(&resource)?;
        while let Some((_, version)) = told.coming.pop_front_if(|(at, _)| *at < until) {
            told.low = told.low.max(version);
        }
        (told.low > 0).then_some((told.low, told.high))
    }

    /// Etcd is as it was some time ago: what was told is of another time.
    pub(super) fn forget(&mut self) {
        self.0.values_mut().for_each(|sight| sight.is_of_another_time = true);
    }
}
