//! What has been read, and what is to be read: the walk asks for what it needs, and is repeated when that is there.
//!
//! What is not there yet leaves a gap in the walk and no more, so that a round asks for all that can be asked for. How
//! much is read is bounded; the answer says what was left out.

use std::{cell::RefCell, collections::BTreeMap};

use jiff::Timestamp;
use konductor::name::{is_label, is_name};
use konductor_cluster::object::Metadata;

use super::{
    limits::{READS, UNREADABLE_SHOWN},
    reason::{Cause, Reason, Ref, Unseen},
    seen::{
        ArrivalSeen, BarrierSeen, Claim, DeploymentSeen, ElectionSeen, GateSeen, JobSeen, Kind, LockSeen, NodeSeen,
        PodSeen, Seen,
    },
};

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Need {
    /// Which kind.
    pub(crate) kind: Kind,
    /// Where; `None` of what has no namespace, and for all of them.
    pub(crate) namespace: Option<String>,
    /// Which.
    pub(crate) which: Which,
}

/// Which objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Which {
    /// The one of this name.
    Named(String),
    /// Those that a field selector selects, so many at most.
    Fields(String, usize),
    /// Those that a label selector selects, so many at most.
    Labels(String, usize),
    /// So many at most.
    Any(usize),
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// What is there. Of one name one, or none.
    pub(crate) items: Vec<Seen>,
    /// There are more than these.
    pub(crate) more: bool,
}

/// What has been read.
pub(crate) type Known = BTreeMap<Need, Result<Batch, Box<Unseen>>>;

/// What is known of an object.
#[derive(Debug)]
pub(super) enum Look<T> {
    /// It is there.
    There(T),
    /// It is not there.
    Absent,
    /// It cannot be known, which has been noted; or it is not known yet.
    Dark,
}

impl<T> Look<T> {
    pub(super) fn there(self) -> Option<T> {
        match self {
            Self::There(seen) => Some(seen),
            _ => None,
        }
    }
}

/// What is known of several objects.
#[derive(Debug)]
pub(super) struct Several<T> {
    pub(super) items: Vec<T>,
    /// There are more.
    pub(super) more: bool,
    /// They were read; otherwise nothing is known.
    pub(super) read: bool,
}

/// One walk through what is known.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) now: Timestamp,
    /// Where the operator is to be found.
    pub(super) operator_namespace: Option<&'a str>,
    /// It goes through a folder, where there is no operator, no pod and no namespace.
    pub(super) is_local: bool,
    known: &'a Known,
    needs: RefCell<Vec<Need>>,
    /// What could not be read, in the order in which it was met.
    notes: RefCell<Vec<Cause>>,
}

/// Something that is seen of a kind.
pub(super) trait Of: Sized {
    fn of(seen: &Seen) -> Option<&Self>;
}

macro_rules! of {
    ($($variant:ident $kind:ty),*) => {$(
        impl Of for $kind {
            fn of(seen: &Seen) -> Option<&Self> {
                match seen {
                    Seen::$variant(seen) => Some(seen),
                    _ => None,
                }
            }
        }
    )*};
}

of!(
    Claim Claim, Lock LockSeen, Barrier BarrierSeen, Arrival ArrivalSeen, Gate GateSeen, Pod PodSeen, Job JobSeen,
    Node NodeSeen, Namespace Metadata, Election ElectionSeen, Deployment DeploymentSeen
);

impl<'a> Walk<'a> {
    pub(super) fn new(known: &'a Known, operator_namespace: Option<&'a str>, now: Timestamp, is_local: bool) -> Self {
        Self { now, operator_namespace, is_local, known, needs: RefCell::default(), notes: RefCell::default() }
    }

    /// What is still to be read, and what could not be.
    pub(super) fn end(self) -> (Vec<Need>, Vec<Reason>) {
        let notes = self.notes.into_inner();
        (self.needs.into_inner(), notes.into_iter().map(|cause| Reason::new(cause, self.now)).collect())
    }

    /// The object of this name. Names come from specs that anybody may have written: what can be no name would be
    /// another path of the API, and no object has it.
    pub(super) fn one<T: Of>(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Look<&'a T> {
        if !is_name(name) || !self.is_place(namespace) {
            return Look::Absent;
        }
        let named = Which::Named(name.to_owned());
        let Some(batch) = self.read(Need { kind, namespace: namespace.map(str::to_owned), which: named }, true) else {
            return Look::Dark;
        };
        match batch.items.first() {
            None => Look::Absent,
            Some(seen) => T::of(seen).map_or(Look::Dark, Look::There),
        }
    }

    /// Whether something can be there.
    fn is_place(&self, namespace: Option<&str>) -> bool {
        namespace.is_none_or(|namespace| is_label(namespace) || self.is_local && namespace.is_empty())
    }

    /// Those of a namespace.
    pub(super) fn several<T: Of>(&self, kind: Kind, namespace: Option<&str>, which: Which) -> Several<&'a T> {
        self.listed(kind, namespace, which, true)
    }

    /// The same, but that it is not allowed is nothing to tell: something else can be read instead.
    pub(super) fn tried<T: Of>(&self, kind: Kind, namespace: Option<&str>, which: Which) -> Several<&'a T> {
        self.listed(kind, namespace, which, false)
    }

    fn listed<T: Of>(&self, kind: Kind, namespace: Option<&str>, which: Which, tell: bool) -> Several<&'a T> {
        if !self.is_place(namespace) {
            return Several { items: Vec::new(), more: false, read: true };
        }
        match self.read(Need { kind, namespace: namespace.map(str::to_owned), which }, tell) {
            None => Several { items: Vec::new(), more: false, read: false },
            Some(batch) => {
                Several { items: batch.items.iter().filter_map(T::of).collect(), more: batch.more, read: true }
            }
        }
    }

    fn read(&self, need: Need, tell: bool) -> Option<&'a Batch> {
        match self.known.get(&need) {
            Some(Ok(batch)) => {
                let misfits = || {
                    batch.items.iter().filter_map(|seen| match seen {
                        Seen::Misfit(metadata, error) => Some((metadata, error)),
                        _ => None,
                    })
                };
                for (metadata, error) in misfits().take(UNREADABLE_SHOWN) {
                    let object = Ref::new(need.kind, &metadata.namespace, &metadata.name);
                    self.note(Cause::Unreadable { object, error: error.clone() });
                }
                if let Some(count) = misfits().count().checked_sub(UNREADABLE_SHOWN).filter(|count| *count > 0) {
                    let of = format!("unreadable {}s", need.kind.name());
                    self.note(Cause::NotShown { count: Some(count as u64), of });
                }
                return Some(batch);
            }
            Some(Err(unseen)) => {
                if tell {
                    self.note(Cause::Unseen((**unseen).clone()));
                }
            }
            None => {
                let mut needs = self.needs.borrow_mut();
                if needs.contains(&need) {
                } else if self.known.len() + needs.len() < READS {
                    needs.push(need);
                } else {
                    drop(needs);
                    self.note(Cause::Bounded { reads: READS });
                }
            }
        }
        None
    }

    /// Whether this is still to be read.
    pub(super) fn awaits(&self, kind: Kind, namespace: Option<&str>, which: &Which) -> bool {
        let is = |need: &Need| need.kind == kind && need.namespace.as_deref() == namespace && need.which == *which;
        self.needs.borrow().iter().any(is)
    }

    /// Notes what could not be read, once.
    pub(super) fn note(&self, cause: Cause) {
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&cause) {
            notes.push(cause);
        }
    }

    /// A reason, in words of this moment.
    pub(super) fn reason(&self, cause: Cause) -> Reason {
        Reason::new(cause, self.now)
    }
}
