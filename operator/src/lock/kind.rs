//! What is read of a lock and of a claim, of whichever kind.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{
    Lock, LockClaim, REVOKE_ANNOTATION,
    arbiter::{Claim, Identity, Parent, Uid, Unread, Unreadable, Version},
    conditions::{GRANTED, condition},
};
use konductor_cluster::object::{Lenient, Metadata, Object};
use kube::core::object::{HasSpec, HasStatus};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::key::ParentKey;

/// A kind of lock, and of the claims on it.
pub trait Kind: Lock<Claim: Read, Spec: Part, Status: Part> + Send + 'static {}

impl<L: Lock<Claim: Read, Spec: Part, Status: Part> + Send + 'static> Kind for L {}

/// A resource whose parts can be read.
pub trait Read: LockClaim<Spec: Part, Status: Part> + Send + 'static {}

impl<C: LockClaim<Spec: Part, Status: Part> + Send + 'static> Read for C {}

/// Part of a resource.
pub trait Part: DeserializeOwned + Send + 'static {}

impl<P: DeserializeOwned + Send + 'static> Part for P {}

/// What is read of an object of the kind `K`.
pub(super) type ObjectOf<K> = Object<K, <K as HasSpec>::Spec, Option<<K as HasStatus>::Status>>;

/// An object as it was found: read, or why not.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    /// Its namespace and name.
    pub(super) key: ParentKey,
    /// Its UID.
    pub(super) uid: Uid,
    /// Its resourceVersion.
    pub(super) version: Version,
    /// What it says.
    pub(super) content: Result<T, Fault>,
}

/// An object that cannot be decided on. Why is told by who follows it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// It may be a claim that somebody holds: unknown phases count as held.
    pub(super) may_hold: bool,
}

/// What is read of a lock.
#[derive(Clone, Debug)]
pub(crate) struct SeenParent {
    /// What decisions need.
    pub(super) parent: Parent,
    /// Types, statuses and times of its conditions.
    pub(super) conditions: Box<[Condition]>,
}

/// What is read of a claim.
#[derive(Clone, Debug)]
pub(crate) struct SeenClaim {
    /// Whose claim it is.
    pub(super) lock: ParentKey,
    /// What decisions need.
    pub(super) claim: Claim,
    /// What its condition says.
    pub(super) granted: Option<Outline>,
}

/// What the next status needs of a claim's only condition: one that stays as it is keeps its time. No texts, as there are
/// many claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    status: bool,
    since: Timestamp,
}

impl Outline {
    fn of(conditions: &[Condition]) -> Option<Self> {
        let condition = conditions.iter().find(|condition| condition.type_ == GRANTED)?;
        let status = match condition.status.as_str() {
            "True" => true,
            "False" => false,
            // Whatever comes next is another one.
            _ => return None,
        };
        Some(Self { status, since: condition.last_transition_time.0 })
    }

    /// The condition, as far as the next one needs it.
    pub(super) fn condition(self) -> Condition {
        condition(GRANTED, self.status, "", String::new(), None, self.since, &[])
    }
}

impl<T> Found<T> {
    /// What decisions need of a claim that cannot be read.
    pub(super) fn unread(&self) -> Option<Unread> {
        let Fault { may_hold, .. } = *self.content.as_ref().err()?;
        Some(Unread { uid: self.uid.clone(), name: self.key.name.clone(), version: self.version, may_hold })
    }
}

/// Reads a lock.
pub(super) fn read_parent<K: Kind>(object: Lenient<ObjectOf<K>>) -> Found<SeenParent> {
    read(object, |metadata, spec, status| {
        let conditions = status.map_or(&[][..], K::conditions);
        Ok(SeenParent { parent: Parent::of::<K>(identity(metadata), spec, status)?, conditions: outlines(conditions) })
    })
}

/// Reads a claim.
pub(super) fn read_claim<K: Kind>(object: Lenient<ObjectOf<K::Claim>>) -> Found<SeenClaim> {
    read(object, |metadata, spec, status| {
        let lock = ParentKey::new(&metadata.namespace, K::Claim::lock(spec));
        let granted = status.and_then(|status| Outline::of(&status.conditions));
        let revoke = metadata.annotations.get(REVOKE_ANNOTATION).map(String::as_str);
        let claim = Claim::of::<K::Claim>(identity(metadata), &metadata.name, revoke, metadata.deleting, spec, status)?;
        Ok(SeenClaim { lock, claim, granted })
    })
}

fn read<K, S, T, R>(
    object: Lenient<Object<K, S, Option<T>>>,
    content: impl FnOnce(&Metadata, &S, Option<&T>) -> Result<R, Unreadable>,
) -> Found<R> {
    let (metadata, content) = match object {
        Ok(Object { metadata, spec, status, .. }) => {
            let content = content(&metadata, &spec, status.as_ref());
            let content = content.map_err(|error| {
                // The schema does not let it through, so nobody else tells of it.
                warn!(namespace = metadata.namespace, name = metadata.name, "cannot be decided on: {error}");
                Fault { may_hold: true }
            });
            (metadata, content)
        }
        Err(misfit) => {
            let waits = matches!(misfit.phase.as_deref(), None | Some("Pending" | "Expired"));
            (misfit.metadata, Err(Fault { may_hold: !waits }))
        }
    };
    let Metadata { namespace, name, uid, version, .. } = metadata;
    Found { key: ParentKey { namespace, name }, uid: uid.into(), version, content }
}

fn identity(metadata: &Metadata) -> Identity {
    Identity {
        uid: metadata.uid.as_str().into(),
        version: metadata.version,
        generation: metadata.generation.unwrap_or(0),
        created: u64::try_from(metadata.created).unwrap_or(0),
    }
}

/// What the next status needs of a lock's conditions: a condition that stays as it is keeps its time.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use konductor_api::{
        ClaimPhase,
        arbiter::{ClaimState, claim_status},
    };

    use super::*;

    #[test]
    fn a_claims_condition_keeps_its_time_as_long_as_it_stays_as_it_is() {
        let (before, now) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + Duration::from_mins(1));
        let state = |phase| ClaimState { phase: Some(phase), ..ClaimState::default() };
        let stored = claim_status(&state(ClaimPhase::Pending), 1, before, &[]).conditions;
        let outline = Outline::of(&stored).map(Outline::condition);
        for (phase, since) in [(ClaimPhase::Pending, before), (ClaimPhase::Granted, now)] {
            let written = claim_status(&state(phase), 1, now, outline.as_slice()).conditions;
            assert_eq!(written[0].last_transition_time.0, since, "{phase:?}");
        }
        let odd = Condition { status: "Unknown".into(), ..stored[0].clone() };
        assert_eq!(Outline::of(&[odd]), None, "whatever comes next is another one");
    }
}
