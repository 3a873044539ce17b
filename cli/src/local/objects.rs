//! A view of a folder as objects, as the API would have them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use konductor::{
    LockKind,
    local::{ClaimShown, LockShown, Snapshot},
};
use konductor_api::{
    Lease, Lock, Semaphore,
    arbiter::{ParentState, ParentSummary, Tenure},
    limits::HOLDERS_SHOWN,
};
use serde_json::{Value, json};

use crate::kind::{LEASE, LEASE_REQUEST, PERMIT, Resource, SEMAPHORE};

/// All objects of a kind; none of a kind that a folder does not have.
pub(crate) fn objects(view: &Snapshot, resource: Resource) -> Vec<Value> {
    let of = |kind: LockKind| view.locks.iter().filter(move |lock| lock.kind == kind);
    match resource {
        SEMAPHORE => of(Semaphore::KIND).filter_map(lock::<Semaphore>).collect(),
        LEASE => of(Lease::KIND).filter_map(lock::<Lease>).collect(),
        PERMIT => of(Semaphore::KIND).flat_map(|lock| claims(PERMIT, "semaphore", lock)).collect(),
        LEASE_REQUEST => of(Lease::KIND).flat_map(|lock| claims(LEASE_REQUEST, "lease", lock)).collect(),
        _ => Vec::new(),
    }
}

/// A lock that a manifest defines.
fn lock<L: Lock>(lock: &LockShown) -> Option<Value> {
    let permits = lock.permits?;
    let is_semaphore = !L::KIND.exclusive;
    let resource = if is_semaphore { SEMAPHORE } else { LEASE };
    let spec = if is_semaphore { json!({ "permits": permits, "queueing": lock.queueing }) } else { json!({}) };
    let status = match &lock.trouble {
        Some(trouble) => json!({
            "phase": "Unreadable", "observedGeneration": 1,
            "conditions": [{ "type": "Ready", "status": "False", "reason": "Unreadable", "message": trouble }],
        }),
        None => status::<L>(lock, permits),
    };
    Some(json!({
        "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": { "name": lock.name, "generation": 1 },
        "spec": spec, "status": status,
    }))
}

/// What the operator would say of it, by the rules of the API.
fn status<L: Lock>(lock: &LockShown, permits: u64) -> Value {
    let holders = || lock.claims.iter().filter(|claim| claim.fencing_token.is_some());
    let in_use = holders().map(|claim| claim.permits).sum();
    let first = holders().next();
    let tenure = first.and_then(|claim| Some(Tenure { token: claim.fencing_token?, since: claim.acquired_at? }));
    let state = ParentState {
        term: lock.term,
        settled_term: lock.settled_term,
        summary: ParentSummary {
            generation: Some(1),
            in_use,
            available: permits.saturating_sub(in_use),
            waiting: lock.claims.iter().filter(|claim| claim.fencing_token.is_none()).count() as u64,
            holders: holders().take(HOLDERS_SHOWN).map(|claim| claim.holder.clone()).collect(),
            tenure,
        },
    };
    let mut status = json!(L::status_of(&state, permits, Timestamp::UNIX_EPOCH, &[]));
    // Nobody keeps when a condition became what it is.
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition.as_object_mut().map(|condition| condition.remove("lastTransitionTime"));
    }
    status
}

/// The claims on a lock.
fn claims<'a>(resource: Resource, field: &'a str, lock: &'a LockShown) -> impl Iterator<Item = Value> + 'a {
    let claim = move |claim: &ClaimShown| {
        let held = claim.fencing_token.is_some();
        let mut spec = BTreeMap::from([
            (field, json!(lock.name)),
            ("holder", json!(claim.holder)),
            ("instance", json!(claim.name)),
            ("priority", json!(claim.priority)),
        ]);
        if resource == PERMIT {
            spec.insert("permits", json!(claim.permits));
        }
        json!({
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": {
                "name": claim.name, "uid": claim.name, "generation": 1, "creationTimestamp": claim.since,
            },
            "spec": spec,
            "status": {
                "phase": if held { "Granted" } else { "Pending" }, "ticket": claim.ticket, "ahead": claim.ahead,
                "term": lock.term, "fencingToken": claim.fencing_token, "acquiredAt": claim.acquired_at,
                "message": claim.message,
                "conditions": [{ "type": "Granted", "status": if held { "True" } else { "False" } }],
            },
        })
    };
    lock.claims.iter().map(claim)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::view, *};
    use crate::{
        status::summary,
        why::{Kind, Seen, read},
    };

    #[test]
    fn they_are_read_as_those_of_a_cluster_are() {
        let view = view();
        for (resource, kind, count) in
            [(SEMAPHORE, Kind::Semaphore, 2), (PERMIT, Kind::Permit, 4), (LEASE, Kind::Lease, 0)]
        {
            let all = objects(&view, resource);
            assert_eq!(all.len(), count, "{resource}");
            for object in all {
                let seen = read(kind, &object.to_string()).expect("an object");
                let is_broken = object["metadata"]["name"] == "broken";
                assert_eq!(matches!(seen, Seen::Misfit(..)), is_broken, "{object} {seen:?}");
            }
        }
        let (semaphores, permits) = (objects(&view, SEMAPHORE), objects(&view, PERMIT));
        let gpu = summary::of(SEMAPHORE, &semaphores[1], Some(&permits));
        assert_eq!((&gpu["phase"], &gpu["inUse"], &gpu["available"]), (&json!("Available"), &json!(2), &json!(1)));
        assert_eq!((&gpu["waiting"], &gpu["holders"]), (&json!(2), &json!(["host-a"])));
        let broken = summary::of(SEMAPHORE, &semaphores[0], Some(&permits));
        assert_eq!(broken["message"], "cannot believe state.json");
    }
}
