//! Figures of each parent: of locks, barriers and gates, as long as they exist and this process leads.
//!
//! Who decides puts in what has changed, and waits for nobody: a scrape takes a copy of what is shown, which is bounded,
//! and writes its text from that. So what a scrape costs is the same whatever people create, and so is what a Prometheus
//! has to keep of it: there is a most of parents in all, and of one namespace. Where there are more, namespaces have equal
//! shares, and what one leaves the others have: what somebody has very many of is cut there and nowhere else. Which they
//! are follows from the names alone, so that two replicas show the same. Who is left out has its figures in its status
//! all the same, is counted, and is shown once there is room.

use std::{
    collections::BTreeMap,
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
        /// Permits that there are; none of a lock that does not exist, or does not any more.
        permits: Option<u64>,
        /// Permits in use, if there are any.
        in_use: Option<u64>,
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
            Figures::Lock { permits, .. } => *permits,
            _ => None,
        },
    },
    Series {
        name: "in_use",
        help: "Permits in use",
        value: |figures, _| match figures {
            Figures::Lock { in_use, .. } => *in_use,
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

/// Which parents of a namespace are shown: the first so many, in the order of their names and kinds.
type OfNamespace = BTreeMap<Id, Figures>;

#[derive(Debug, Default)]
struct Table {
    /// All parents, by namespace; none is empty.
    namespaces: BTreeMap<String, OfNamespace>,
    count: usize,
}

/// How the places are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    /// Each namespace has so many, or as many as it needs.
    each: usize,
    /// And one more, those that need it, as long as there are some left: so many.
    left: usize,
}

impl Shares {
    /// For namespaces that have so many parents: what one has too many of is cut there first.
    fn of(needs: &(impl Iterator<Item = usize> + Clone)) -> Self {
        let used = |each: usize| needs.clone().map(|need| need.min(each)).sum::<usize>();
        // The largest that leaves nobody without.
        let (mut each, mut above) = (0, SHARE + 1);
        while above - each > 1 {
            let middle = each.midpoint(above);
            if used(middle) <= SHOWN {
                each = middle;
            } else {
                above = middle;
            }
        }
        let left = if each == SHARE { 0 } else { SHOWN - used(each) };
        Self { each, left }
    }

    /// How many places a namespace gets; to be asked in the order of the namespaces.
    fn take(&mut self, need: usize) -> usize {
        let more = need > self.each && self.left > 0;
        self.left -= usize::from(more);
        need.min(self.each + usize::from(more))
    }
}

impl Table {
    fn show(&mut self, id: Id, figures: Figures) {
        let of_namespace = self.namespaces.entry(id.0.namespace.clone()).or_default();
        self.count += usize::from(of_namespace.insert(id, figures).is_none());
    }

    fn hide(&mut self, id: &Id) {
        let Some(of_namespace) = self.namespaces.get_mut(&id.0.namespace) else { return };
        self.count -= usize::from(of_namespace.remove(id).is_some());
        if of_namespace.is_empty() {
            self.namespaces.remove(&id.0.namespace);
        }
    }

    /// Those that have a place: which they are follows from those that there are.
    fn shown(&self) -> impl Iterator<Item = (&Id, &Figures)> {
        let mut shares = Shares::of(&self.namespaces.values().map(BTreeMap::len));
        self.namespaces.values().flat_map(move |of_namespace| of_namespace.iter().take(shares.take(of_namespace.len())))
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
        table.namespaces.retain(|_, of_namespace| {
            of_namespace.retain(|id, _| id.1 != kind);
            !of_namespace.is_empty()
        });
        table.count = table.namespaces.values().map(BTreeMap::len).sum();
    }

    /// The figures of this parent, whether it has a place or not.
    pub fn get(&self, kind: &'static str, key: &Key) -> Option<Figures> {
        self.table().namespaces.get(&key.namespace)?.get(&(key.clone(), kind)).copied()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Parents {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (shown, left_out) = {
            let table = self.table();
            let shown: Vec<(Id, Figures)> = table.shown().map(|(id, figures)| (id.clone(), *figures)).collect();
            let left_out = table.count - shown.len();
            (shown, left_out)
        };
        let now = u64::try_from(wall().as_second()).unwrap_or(0);
        for Series { name, help, value } in SERIES {
            let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
            for ((key, kind), figures) in &shown {
                let Some(value) = value(figures, now) else { continue };
                let labels = [("namespace", &*key.namespace), ("kind", *kind), ("name", &*key.name)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let left_out = ConstGauge::new(left_out as u64);
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

    fn shown(parents: &Parents, namespace: &str) -> Vec<String> {
        let table = parents.table();
        let of_namespace = table.shown().filter(|((key, _), _)| key.namespace == namespace);
        of_namespace.map(|((key, _), _)| key.name.clone()).collect()
    }

    fn all(parents: &Parents) -> (usize, usize) {
        let table = parents.table();
        let shown = table.shown().count();
        (shown, table.count - shown)
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
        assert_eq!((shown(&parents, "many").len(), shown(&parents, "one").len(), all(&parents).1), (SHARE, 1, 3));
        parents.hide("gate", &key("many", 7));
        assert_eq!((shown(&parents, "many").len(), all(&parents).1), (SHARE, 2));
        for _ in 0..2 {
            parents.hide("gate", &key("many", SHARE + 2));
        }
        assert_eq!((shown(&parents, "many").len(), all(&parents).1), (SHARE, 1));
        parents.hide_all("gate");
        assert_eq!(all(&parents), (0, 0));
        assert!(parents.table().namespaces.is_empty());
    }

    #[test]
    fn who_comes_after_those_that_have_very_many_has_places_all_the_same() {
        let parents = Parents::default();
        for namespace in ["a", "b", "c", "d"] {
            for number in 0..SHARE {
                parents.show("gate", &key(namespace, number), GATE);
            }
        }
        assert_eq!(all(&parents), (SHOWN, 0));
        for number in 0..3 {
            parents.show("gate", &key("small", number), GATE);
        }
        for number in 0..SHARE + 100 {
            parents.show("gate", &key("z", number), GATE);
        }
        // 2,000 - 3 are shared by five.
        let counts = ["a", "b", "c", "d", "small", "z"].map(|namespace| shown(&parents, namespace).len());
        assert_eq!(counts, [400, 400, 399, 399, 3, 399]);
        assert_eq!(all(&parents), (SHOWN, 4 * SHARE + 3 + SHARE + 100 - SHOWN));
        let first: Vec<_> = (0..400).map(|number| key("a", number).name.clone()).collect();
        assert_eq!(shown(&parents, "a"), first);
    }

    #[test]
    fn who_is_shown_follows_from_who_there_is() {
        let keys = || (0..3 * SHOWN).map(|number| key(&format!("n{}", number % 7 * number % 5), number));
        let (forth, back) = (Parents::default(), Parents::default());
        keys().for_each(|key| forth.show("gate", &key, GATE));
        let backwards: Vec<_> = keys().collect();
        backwards.iter().rev().for_each(|key| back.show("gate", key, GATE));
        // Some have come and gone.
        for number in 0..SHOWN {
            back.show("lease", &key("other", number), GATE);
        }
        back.hide_all("lease");
        let ids = |parents: &Parents| parents.table().shown().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&forth), ids(&back));
    }

    proptest::proptest! {
        #[test]
        fn no_place_is_wasted_and_none_is_taken_from_who_has_less(
            needs in proptest::collection::vec(proptest::prop_oneof![1..5_usize, 1..2 * SHARE], 0..60)
        ) {
            let mut shares = Shares::of(&needs.iter().copied());
            let taken: Vec<_> = needs.iter().map(|need| shares.take(*need)).collect();
            let could: usize = needs.iter().map(|need| (*need).min(SHARE)).sum();
            proptest::prop_assert_eq!(taken.iter().sum::<usize>(), could.min(SHOWN));
            let most = taken.iter().copied().max().unwrap_or(0);
            for (need, taken) in needs.iter().zip(&taken) {
                proptest::prop_assert!(*taken <= SHARE);
                proptest::prop_assert!(taken == need || *taken == SHARE || taken + 1 >= most, "{} of {}", taken, need);
            }
        }

        #[test]
        fn more_namespaces_than_places_have_one_each_as_far_as_they_go(count in SHOWN..2 * SHOWN) {
            let mut shares = Shares::of(&std::iter::repeat_n(3, count));
            let taken: usize = (0..count).map(|_| shares.take(3)).sum();
            proptest::prop_assert_eq!(taken, SHOWN);
        }
    }

    #[test]
    fn kinds_are_apart() {
        let parents = Parents::default();
        let lock = Figures::Lock { permits: Some(1), in_use: Some(1), waiting: 0, oldest: None };
        parents.show("lease", &key("n", 0), lock);
        parents.show("semaphore", &key("n", 0), lock);
        parents.hide_all("lease");
        assert_eq!(parents.table().shown().map(|(id, _)| id.1).collect::<Vec<_>>(), ["semaphore"]);
    }
}
