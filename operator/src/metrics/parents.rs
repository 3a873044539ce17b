//! Figures of each parent: of locks, barriers and gates, as long as they exist and this process leads.
//!
//! Who decides puts in what has changed, and waits for nobody: a scrape takes a copy of what is shown, which is bounded,
//! and writes its text from that. So what a scrape costs is the same whatever people create, and so is what a Prometheus
//! has to keep of it: there is a most of parents in all, and of one namespace. Who is left out has its figures in its
//! status all the same, is counted ([`Parents::left_out`]), and is shown once there is room.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{clock::wall, key::Key};

/// Parents that have series of their own: with the longest names their text is 3 MB, of which slow readers may keep
/// five copies. It is far above what a cluster usually has, and what a person could look at.
pub const SHOWN: usize = 2000;

/// Those of one namespace, so that one that has very many leaves the others room.
pub const SHARE: usize = 500;

/// What there is to show of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figures {
    /// Of a lock.
    Lock {
        /// Permits that there are.
        permits: u64,
        /// Permits in use.
        in_use: u64,
        /// Claims that wait.
        waiting: u64,
        /// When the claim was created that has waited for longest, in unix seconds.
        oldest: Option<u64>,
    },
    /// Of a barrier.
    Barrier {
        /// It is open.
        open: bool,
        /// Those who have arrived in this round.
        arrived: u64,
        /// Those who are expected.
        expected: u64,
    },
    /// Of a gate.
    Gate {
        /// It is open.
        open: bool,
    },
}

/// A series per parent.
struct Series {
    name: &'static str,
    help: &'static str,
    /// Its value, if the parent has it, at this time in unix seconds.
    value: fn(&Figures, u64) -> Option<u64>,
}

/// All of them.
const SERIES: [Series; 7] = [
    Series {
        name: "permits",
        help: "Permits that a semaphore or lease has",
        value: |figures, _| match figures {
            Figures::Lock { permits, .. } => Some(*permits),
            _ => None,
        },
    },
    Series {
        name: "in_use",
        help: "Permits in use",
        value: |figures, _| match figures {
            Figures::Lock { in_use, .. } => Some(*in_use),
            _ => None,
        },
    },
    Series {
        name: "waiting",
        help: "Claims that wait",
        value: |figures, _| match figures {
            Figures::Lock { waiting, .. } => Some(*waiting),
            _ => None,
        },
    },
    Series {
        name: "oldest_waiter_seconds",
        help: "How long that claim has waited that has waited for longest; 0 if none waits",
        value: |figures, now| match figures {
            Figures::Lock { oldest, .. } => Some(oldest.map_or(0, |oldest| now.saturating_sub(oldest))),
            _ => None,
        },
    },
    Series {
        name: "open",
        help: "1 while a barrier or gate is open",
        value: |figures, _| match figures {
            Figures::Barrier { open, .. } | Figures::Gate { open } => Some((*open).into()),
            Figures::Lock { .. } => None,
        },
    },
    Series {
        name: "barrier_arrived",
        help: "Who has arrived at a barrier in its round",
        value: |figures, _| match figures {
            Figures::Barrier { arrived, .. } => Some(*arrived),
            _ => None,
        },
    },
    Series {
        name: "barrier_expected",
        help: "Who is expected at a barrier",
        value: |figures, _| match figures {
            Figures::Barrier { expected, .. } => Some(*expected),
            _ => None,
        },
    },
];

/// A parent: its name and its kind.
type Id = (Key, &'static str);

#[derive(Debug, Default)]
struct Table {
    shown: BTreeMap<Id, Figures>,
    /// How many of each namespace are shown.
    namespaces: HashMap<String, usize>,
    /// Those that there is no room for, by namespace.
    left_out: BTreeMap<String, BTreeMap<Id, Figures>>,
    left_out_count: usize,
}

impl Table {
    fn has_room(&self, namespace: &str) -> bool {
        self.shown.len() < SHOWN && self.namespaces.get(namespace).is_none_or(|shown| *shown < SHARE)
    }

    fn show(&mut self, id: Id, figures: Figures) {
        if let Some(known) = self.shown.get_mut(&id) {
            *known = figures;
        } else if self.has_room(&id.0.namespace) {
            self.leave_in(&id);
            self.insert(id, figures);
        } else {
            let left_out = self.left_out.entry(id.0.namespace.clone()).or_default();
            self.left_out_count += usize::from(left_out.insert(id, figures).is_none());
        }
    }

    fn insert(&mut self, id: Id, figures: Figures) {
        *self.namespaces.entry(id.0.namespace.clone()).or_default() += 1;
        self.shown.insert(id, figures);
    }

    fn hide(&mut self, id: &Id) {
        if self.shown.remove(id).is_none() {
            return self.leave_in(id);
        }
        if let Some(shown) = self.namespaces.get_mut(&id.0.namespace) {
            *shown -= 1;
            if *shown == 0 {
                self.namespaces.remove(&id.0.namespace);
            }
        }
        // Few namespaces have their whole share, as there is no room for many shares: it is found at once.
        let next = self.left_out.keys().find(|namespace| self.has_room(namespace)).cloned();
        if let Some((id, figures)) = next
            .and_then(|namespace| self.left_out.get(&namespace)?.first_key_value())
            .map(|(id, figures)| (id.clone(), *figures))
        {
            self.leave_in(&id);
            self.insert(id, figures);
        }
    }

    /// This one is not left out, or not any more.
    fn leave_in(&mut self, id: &Id) {
        let Some(of_namespace) = self.left_out.get_mut(&id.0.namespace) else { return };
        self.left_out_count -= usize::from(of_namespace.remove(id).is_some());
        if of_namespace.is_empty() {
            self.left_out.remove(&id.0.namespace);
        }
    }
}

/// See the [module](self).
#[derive(Default)]
pub struct Parents(Mutex<Table>);

impl fmt::Debug for Parents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parents").finish_non_exhaustive()
    }
}

impl Parents {
    /// These are the figures of this parent from now on.
    pub fn show(&self, kind: &'static str, key: &Key, figures: Figures) {
        self.table().show((key.clone(), kind), figures);
    }

    /// This parent has no figures any more.
    pub fn hide(&self, kind: &'static str, key: &Key) {
        self.table().hide(&(key.clone(), kind));
    }

    /// No parent of this kind has figures any more.
    pub fn hide_all(&self, kind: &'static str) {
        let mut table = self.table();
        table.left_out.retain(|_, of_namespace| {
            of_namespace.retain(|id, _| id.1 != kind);
            !of_namespace.is_empty()
        });
        table.left_out_count = table.left_out.values().map(BTreeMap::len).sum();
        let shown: Vec<Id> = table.shown.keys().filter(|id| id.1 == kind).cloned().collect();
        for id in &shown {
            table.hide(id);
        }
    }

    /// The figures of this parent, if it has a place.
    pub fn get(&self, kind: &'static str, key: &Key) -> Option<Figures> {
        self.table().shown.get(&(key.clone(), kind)).copied()
    }

    /// How many parents have no series of their own.
    pub fn left_out(&self) -> usize {
        self.table().left_out_count
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Parents {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = self.table().shown.clone();
        let now = u64::try_from(wall().as_second()).unwrap_or(0);
        for Series { name, help, value } in SERIES {
            let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
            for ((key, kind), figures) in &shown {
                let Some(value) = value(figures, now) else { continue };
                let labels = [("namespace", &*key.namespace), ("kind", *kind), ("name", &*key.name)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let left_out = ConstGauge::new(self.left_out() as u64);
        let help = "Parents without series of their own, as there are too many.";
        left_out.encode(encoder.encode_descriptor("parents_left_out", help, None, MetricType::Gauge)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ParentKey;

    fn key(namespace: &str, number: usize) -> Key {
        ParentKey::new(namespace, format!("s{number:05}")).into()
    }

    fn shown(parents: &Parents, namespace: &str) -> usize {
        parents.table().shown.keys().filter(|(key, _)| key.namespace == namespace).count()
    }

    fn all(parents: &Parents) -> usize {
        parents.table().shown.len()
    }

    const GATE: Figures = Figures::Gate { open: true };

    #[test]
    fn one_namespace_leaves_the_others_room_and_who_is_left_out_comes_in_when_there_is() {
        let parents = Parents::default();
        for number in 0..SHARE + 3 {
            parents.show("gate", &key("many", number), GATE);
        }
        parents.show("gate", &key("one", 0), GATE);
        // What is known already counts once, shown or not.
        for number in [0, SHARE] {
            parents.show("gate", &key("many", number), GATE);
        }
        assert_eq!((shown(&parents, "many"), shown(&parents, "one"), parents.left_out()), (SHARE, 1, 3));
        parents.hide("gate", &key("many", 7));
        assert_eq!((shown(&parents, "many"), parents.left_out()), (SHARE, 2));
        parents.hide("gate", &key("many", SHARE + 2));
        parents.hide("gate", &key("many", SHARE + 2));
        assert_eq!((shown(&parents, "many"), parents.left_out()), (SHARE, 1));
        parents.hide_all("gate");
        assert_eq!((shown(&parents, "many"), parents.left_out()), (0, 0));
        assert!(parents.table().namespaces.is_empty());
    }

    #[test]
    fn there_is_a_most_of_all_and_a_place_goes_to_a_namespace_that_has_not_its_share() {
        let parents = Parents::default();
        let namespaces: Vec<_> = (0..10).map(|number| format!("n{number}")).collect();
        for namespace in &namespaces {
            for number in 0..SHARE {
                parents.show("gate", &key(namespace, number), GATE);
            }
        }
        assert_eq!((all(&parents), parents.left_out()), (SHOWN, 10 * SHARE - SHOWN));
        parents.hide("gate", &key("n0", 0));
        assert_eq!((all(&parents), shown(&parents, "n4")), (SHOWN, 1));
    }

    #[test]
    fn kinds_are_apart() {
        let parents = Parents::default();
        let lock = Figures::Lock { permits: 1, in_use: 1, waiting: 0, oldest: None };
        parents.show("lease", &key("n", 0), lock);
        parents.show("semaphore", &key("n", 0), lock);
        parents.hide_all("lease");
        assert_eq!(parents.table().shown.keys().map(|id| id.1).collect::<Vec<_>>(), ["semaphore"]);
    }
}
