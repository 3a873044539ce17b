//! How much operators and clients may keep: so much for each object that there is, and never more the longer they run.
//!
//! Operators say themselves how many entries they keep of what (`konductor_operator::Operator::censuses`); what
//! requests and watches a process has, and what its library has told it and it has not heard, is seen from outside.
//! What a client keeps else has the size that it was built with.

use std::{collections::VecDeque, time::Duration};

use konductor_operator::engine::Sizes;

use crate::server::{Change, Server, resource};

/// How often each operator is asked: not a whole number of what its loops and its watches turn by.
pub(crate) const CENSUS: Duration = Duration::from_millis(4700);

/// How long an operator that is well may know of what is gone: a watch that was cut off without a word is begun anew
/// after less.
const UNSEEN: Duration = Duration::from_mins(1);

/// UIDs of deleted objects that an engine of locks remembers, whatever there is.
const GRAVES: usize = 8192;

/// Terms of former locks that an engine remembers.
const FORMER: usize = 1024;

/// Requests that all lanes of an engine have places for.
const PLACES: usize = 92;

/// What may be under way or put off beside what is for one object: lists, sweeps, searches.
const APART: usize = 24;

/// Watches of an operator: of five kinds of parents and claims for locks, of two sorts of pods, of arrivals and
/// barriers, of gates and six kinds that they depend on, and of the election.
const OPERATOR_WATCHES: usize = 4 + 2 + 2 + 7 + 1;

/// Requests of a client at once, for each thing that it wants: what it does, and a read or deletion beside it.
const CLIENT_REQUESTS: usize = 3;

/// Things that a client wants at once: two locks, a barrier or gate to wait for, and a barrier to arrive at.
const CLIENT_WANTS: usize = 4;

/// What a client has been told by its library and has not heard yet.
const TOLD: usize = 16;

/// How many objects there are, and were a while ago, of each resource.
#[derive(Debug)]
pub(crate) struct Population {
    present: Vec<usize>,
    /// When each that is gone went.
    gone: Vec<VecDeque<Duration>>,
}

impl Default for Population {
    fn default() -> Self {
        let resources = resource::all().len();
        Self { present: vec![0; resources], gone: vec![VecDeque::new(); resources] }
    }
}

impl Population {
    /// Something was written.
    pub(crate) fn changed(&mut self, now: Duration, change: &Change) {
        let id = change.key.0;
        if change.deleted {
            self.present[id] = self.present[id].saturating_sub(1);
            self.gone[id].push_back(now);
        } else if change.before.is_none() {
            self.present[id] += 1;
        }
    }

    /// Etcd is as it was some time ago: all that was known is as good as gone.
    pub(crate) fn restored(&mut self, now: Duration, server: &Server) {
        for (id, present) in self.present.iter_mut().enumerate() {
            self.gone[id].extend(std::iter::repeat_n(now, *present));
            *present = server.store.list(id, None, None, u64::MAX).count();
        }
    }

    /// Forgets what has gone so long ago that nobody may know of it any more.
    fn forget(&mut self, now: Duration) {
        for gone in &mut self.gone {
            while gone.front().is_some_and(|at| *at + UNSEEN < now) {
                gone.pop_front();
            }
        }
    }

    /// How many objects an operator may know of.
    pub(crate) fn all(&self) -> usize {
        (0..self.present.len()).map(|id| self.present[id] + self.gone[id].len()).sum()
    }

    /// How many objects of this kind an operator may know of.
    fn of(&self, kind: &str) -> usize {
        let all = resource::all().iter().enumerate();
        let ids = all.filter(|(_, resource)| resource.kind == kind && (resource.schema.is_some() || kind != "Lease"));
        ids.map(|(id, _)| self.present[id] + self.gone[id].len()).sum()
    }

    /// What this engine of an operator keeps too much of. Once all is well, what is gone is soon known to be.
    pub(crate) fn excess(&mut self, now: Duration, is_settled: bool, engine: &str, sizes: &Sizes) -> Option<String> {
        if is_settled {
            self.forget(now);
        }
        let bounds = Bounds::of(engine, self);
        let (what, count, most) = sizes.iter().find_map(|(what, count)| {
            let most = bounds.most(what);
            (most.is_none_or(|most| *count > most)).then_some((what, count, most))
        })?;
        Some(match most {
            Some(most) => format!("{count} {what} for its {engine}s, where {most} are enough"),
            None => format!("{what}, of which nobody has said how many may be"),
        })
    }

    /// How many requests and watches an operator may have at once.
    pub(crate) fn operator(&self) -> (usize, usize) {
        ((4 * PLACES).min(2 * self.all()) + APART, OPERATOR_WATCHES)
    }
}

/// How many requests and watches a client may have at once.
pub(crate) fn client() -> (usize, usize) {
    (CLIENT_REQUESTS * CLIENT_WANTS, 2 * CLIENT_WANTS)
}

/// Whether a client has been told more than it should have left unheard.
pub(crate) fn is_unheard(told: usize) -> bool {
    told > TOLD
}

/// What one engine may know of.
struct Bounds {
    /// Parents that exist, and those that others name.
    names: usize,
    parents: usize,
    /// Claims or arrivals.
    children: usize,
    pods: usize,
    /// What gates may depend on.
    objects: usize,
    namespaces: usize,
}

impl Bounds {
    fn of(engine: &str, population: &Population) -> Self {
        let (parent, child) = match engine {
            "semaphore" => ("Semaphore", "Permit"),
            "lease" => ("Lease", "LeaseRequest"),
            "barrier" => ("Barrier", "Arrival"),
            _ => ("Gate", ""),
        };
        let (parents, children) = (population.of(parent), population.of(child));
        let depended = ["Semaphore", "Lease", "Barrier", "Gate", "Job"];
        Self {
            names: parents + children,
            parents,
            children,
            pods: population.of("Pod"),
            objects: depended.iter().map(|kind| population.of(kind)).sum(),
            namespaces: population.of("Namespace"),
        }
    }

    /// How many entries of this there may be.
    fn most(&self, what: &str) -> Option<usize> {
        let Self { names, parents, children, pods, objects, namespaces } = *self;
        Some(match what {
            "names of locks"
            | "names of barriers"
            | "parents to decide on"
            | "alarms"
            | "what a list did not show"
            | "marked barriers" => names,
            // Of each, what is to be written, read again, listed and looked at.
            "jobs that wait" => 3 * names,
            "parents with jobs" | "namespaces with jobs" => 4 * names,
            "jobs under way" | "urgent writes under way" => PLACES,
            "notes on claims"
            | "claims"
            | "unreadable claims"
            | "claims with unanswered writes"
            | "claims that are gone"
            | "waiters"
            | "granted"
            | "holders"
            | "holders by the lock's TTL"
            | "doubtful"
            | "to be stamped"
            | "due"
            | "over"
            | "claims of pods"
            | "pods with claims"
            | "arrivals"
            | "keys that have arrived"
            | "seconds of arrivals"
            | "orphans"
            | "orphans that are ready or rest" => children,
            "UIDs of deleted objects" => GRAVES,
            "terms of former locks" => FORMER,
            "ended pods" => pods,
            "parents" | "notes on gates" | "specs of gates" | "gates that ask too much" | "gates that are searched" => {
                parents
            }
            // None of the gates here has more than two conditions.
            "what conditions ask" | "questions" | "gates by what they name" | "gates by where they look" => 2 * parents,
            "objects" | "causes that are told" => objects + namespaces,
            "marked gates" => 4 * parents + objects,
            "tasks" => names + objects + APART,
            "namespaces with objects"
            | "namespaces to be looked at"
            | "namespaces to be left"
            | "namespaces with too much" => 5 * namespaces,
            "namespaces that let others look"
            | "namespaces that ask"
            | "namespaces to be searched"
            | "namespaces searched together" => namespaces,
            "namespaces with orphans" | "pairs of namespaces" => 3 * namespaces,
            _ => return None,
        })
    }
}
