//! What is read of a parent and of a claim, of whichever kind.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{
    Lock, LockClaim,
    arbiter::{Claim, Parent, Unreadable},
};
use kube::{ResourceExt, core::object::HasStatus};

use super::ParentKey;
use konductor_cluster::{Lenient, Object};

/// A kind of parent, and of the claims on it.
pub trait Kind: Lock<Claim: Object> + Object {}

impl<L: Lock<Claim: Object> + Object> Kind for L {}

/// An object as it was found: read, or why not.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// Its UID.
    pub(super) uid: String,
    /// What it says.
    pub(super) content: Result<T, Fault>,
}

/// Why an object cannot be decided on.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) error: String,
    /// It may be a claim that somebody holds: unknown phases count as held.
    pub(super) may_hold: bool,
}

/// What is read of a parent.
#[derive(Clone, Debug)]
pub(super) struct SeenParent {
    /// What decisions need.
    pub(super) parent: Parent,
    /// Types, statuses and times of its conditions.
    pub(super) conditions: Box<[Condition]>,
}

/// What is read of a claim.
#[derive(Clone, Debug)]
pub(super) struct SeenClaim {
    /// Whose claim it is.
    pub(super) key: ParentKey,
    /// What decisions need.
    pub(super) claim: Claim,
    /// Types, statuses and times of its conditions.
    pub(super) conditions: Box<[Condition]>,
}

/// Reads a parent.
pub(super) fn read_parent<K: Kind>(object: Lenient<K>) -> Found<SeenParent> {
    read(object, |parent| Ok(SeenParent { parent: Parent::of(parent)?, conditions: outlines(parent.conditions()) }))
}

/// Reads a claim.
pub(super) fn read_claim<K: Kind>(object: Lenient<K::Claim>) -> Found<SeenClaim> {
    read(object, |claim| {
        let key = ParentKey { namespace: claim.namespace().unwrap_or_default(), name: claim.lock().into() };
        let conditions = claim.status().map_or(&[][..], |status| &status.conditions);
        Ok(SeenClaim { key, claim: Claim::of(claim)?, conditions: outlines(conditions) })
    })
}

fn read<K: Object, T>(object: Lenient<K>, content: impl FnOnce(&K) -> Result<T, Unreadable>) -> Found<T> {
    let metadata = object.metadata();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let (name, uid) = (metadata.name.clone().unwrap_or_default(), metadata.uid.clone().unwrap_or_default());
    let content = match object.0 {
        Ok(object) => content(&object).map_err(|error| Fault { error: error.to_string(), may_hold: true }),
        Err(misfit) => {
            let waits = matches!(misfit.phase.as_deref(), None | Some("Pending" | "Expired"));
            Err(Fault { error: misfit.error, may_hold: !waits })
        }
    };
    Found { namespace, name, uid, content }
}

/// What the next status needs of the conditions: a condition that stays as it is keeps its time.
fn outlines(conditions: &[Condition]) -> Box<[Condition]> {
    let outline = |condition: &Condition| Condition {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        last_transition_time: condition.last_transition_time.clone(),
        message: String::new(),
        reason: String::new(),
        observed_generation: None,
    };
    conditions.iter().map(outline).collect()
}
