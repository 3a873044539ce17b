//! What differs between kinds of parents, and nothing else. A further kind is one more folder with one implementation.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::arbiter::{Claim, Parent, ParentState, Unreadable};
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ParentKey;
use crate::lenient::Lenient;

/// A namespaced resource that is known at compile time.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// A kind of parent and of the claims on it.
pub trait Kind: Send + Sync + 'static {
    /// The parent's kind in small letters, for messages and metrics.
    const NAME: &'static str;
    /// The claims' field that names the parent; claims can be selected by it.
    const FIELD: &'static str;
    /// The parent's resource.
    type Parent: Object;
    /// The claims' resource.
    type Claim: Object;

    /// Reads a parent.
    fn parent(parent: &Self::Parent) -> Result<Parent, Unreadable>;
    /// Reads a claim.
    fn claim(claim: &Self::Claim) -> Result<Claim, Unreadable>;
    /// The name of the claim's parent.
    fn parent_name(claim: &Self::Claim) -> &str;
    /// The conditions in the parent's status.
    fn parent_conditions(parent: &Self::Parent) -> &[Condition];
    /// The conditions in the claim's status.
    fn claim_conditions(claim: &Self::Claim) -> &[Condition];
    /// The status to write for a parent of this capacity, which had these conditions.
    fn parent_status(state: &ParentState, capacity: u64, now: jiff::Timestamp, before: &[Condition]) -> Value;
}

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
pub(super) fn read_parent<K: Kind>(object: Lenient<K::Parent>) -> Found<SeenParent> {
    read(object, |parent| {
        Ok(SeenParent { parent: K::parent(parent)?, conditions: outlines(K::parent_conditions(parent)) })
    })
}

/// Reads a claim.
pub(super) fn read_claim<K: Kind>(object: Lenient<K::Claim>) -> Found<SeenClaim> {
    read(object, |claim| {
        let key = ParentKey { namespace: claim.namespace().unwrap_or_default(), name: K::parent_name(claim).into() };
        Ok(SeenClaim { key, claim: K::claim(claim)?, conditions: outlines(K::claim_conditions(claim)) })
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
