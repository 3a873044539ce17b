//! A claim whose status says that it is granted: whether its lock confirms that, and who renews it.

use konductor_api::{GoDuration, limits::PROOF_OF_LIFE};
use serde_json::Value;

use super::Verdict;
use crate::{
    cluster::{ApiError, Call, Cluster},
    kind::{LEASE, ObjectName, Resource, SEMAPHORE},
    trouble::quoted,
};

/// The lock that a claim is on.
fn lock_of(kind: Resource, claim: &Value) -> Option<ObjectName> {
    [SEMAPHORE, LEASE].into_iter().find_map(|resource| {
        let (_, field) = resource.claims().filter(|(claims, _)| *claims == kind)?;
        let name = claim.pointer(&format!("/{}", field.replace('.', "/")))?.as_str()?;
        Some(ObjectName { resource, name: name.to_owned() })
    })
}

/// How a claim stands that is granted by its status. That alone may be the late write of an operator that leads no
/// longer: a grant counts when the lock, read after it, has its UID and its term, as for those who hold it.
pub(super) async fn confirmed(cluster: &Cluster, kind: Resource, claim: &Value) -> Result<Verdict, ApiError> {
    let Some(lock) = lock_of(kind, claim) else { return Ok(Verdict::Unsaid("it names no lock".to_owned())) };
    match cluster.call(Call::get(cluster.path(lock.resource, &lock.name))).await {
        Ok(found) => Ok(confirms(&lock, &found, claim)),
        Err(error) if error.is_absent(&lock.name) => Ok(gone(&lock)),
        Err(error) => Err(error),
    }
}

fn confirms(lock: &ObjectName, found: &Value, claim: &Value) -> Verdict {
    let (granted, term) = (&claim["status"], &found["status"]["term"]);
    match granted["parentUid"].as_str() {
        Some(uid) if found["metadata"]["uid"] != uid => gone(lock),
        Some(_) if term.is_u64() && *term == granted["term"] => Verdict::Reached,
        _ => Verdict::Unsaid(format!("{lock} has not confirmed the grant")),
    }
}

/// A UID never comes back.
fn gone(lock: &ObjectName) -> Verdict {
    Verdict::Never(format!("{lock}, which granted it, has been deleted"))
}

/// What people should know of a claim that is held: until when, and how to renew it, where nobody is known to do so. A
/// process renews what it holds, in a pod or elsewhere; what belongs to a holder by its name, or was written by hand
/// and never renewed, may be nobody's.
pub(super) fn unrenewed(kind: Resource, claim: &Value) -> Option<String> {
    let (spec, lock) = (&claim["spec"], lock_of(kind, claim)?);
    let is_of_holder = spec["instance"].as_str().is_some_and(konductor::is_of_holder);
    let is_renewed = !spec["renewTime"].is_null();
    if !is_of_holder && (is_renewed || !spec["pod"].is_null()) {
        return None;
    }
    let ttl: GoDuration = claim["status"]["ttl"].as_str()?.parse().ok()?;
    // One that had waited is taken back sooner if its holder gives no sign of life.
    let ends = if is_renewed { ttl } else { GoDuration(ttl.0.min(PROOF_OF_LIFE)) };
    let ObjectName { resource, name } = &lock;
    let holder = quoted(spec["holder"].as_str()?);
    let renew = format!("koncli {resource} renew {name} --holder {holder}");
    Some(format!("{kind}/{} ends within {ends} unless it is renewed: {renew}", claim["metadata"]["name"].as_str()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::{LEASE_REQUEST, PERMIT};

    #[test]
    fn a_grant_is_confirmed_by_the_uid_and_the_term_of_its_lock() {
        let claim = |term: &Value, uid: &Value| json!({ "status": { "term": term, "parentUid": uid } });
        let lock = ObjectName { resource: SEMAPHORE, name: "s".to_owned() };
        let found = json!({ "metadata": { "uid": "U" }, "status": { "term": 7, "settledTerm": 7 } });
        for (term, uid, expected) in [
            (json!(7), json!("U"), "Reached"),
            (json!(6), json!("U"), "Unsaid"),
            (json!(8), json!("U"), "Unsaid"),
            (Value::Null, json!("U"), "Unsaid"),
            (json!(7), Value::Null, "Unsaid"),
            (json!(7), json!("V"), "Never"),
        ] {
            let verdict = format!("{:?}", confirms(&lock, &found, &claim(&term, &uid)));
            assert!(verdict.starts_with(expected), "{term} {uid}: {verdict}");
        }
        let fresh = json!({ "metadata": { "uid": "U" } });
        let verdict = confirms(&lock, &fresh, &claim(&Value::Null, &json!("U")));
        assert!(matches!(verdict, Verdict::Unsaid(_)), "no term is no term that is the same: {verdict:?}");
    }

    #[test]
    fn each_claim_names_its_lock() {
        for (kind, spec, expected) in [
            (PERMIT, json!({ "semaphore": "s" }), Some("semaphore/s")),
            (LEASE_REQUEST, json!({ "lease": "l" }), Some("lease/l")),
            (PERMIT, json!({ "lease": "l" }), None),
            (SEMAPHORE, json!({ "semaphore": "s" }), None),
        ] {
            let lock = lock_of(kind, &json!({ "spec": spec })).map(|lock| lock.to_string());
            assert_eq!(lock.as_deref(), expected, "{kind}");
        }
    }

    #[test]
    fn who_waits_for_a_claim_is_told_how_to_renew_it_where_nobody_else_may() {
        let claim = |spec: &Value| {
            let mut claim = json!({
                "metadata": { "name": "p" }, "spec": { "semaphore": "s", "holder": "a b" }, "status": { "ttl": "30s" },
            });
            claim["spec"].as_object_mut().expect("a spec").extend(spec.as_object().expect("fields").clone());
            claim
        };
        let told = unrenewed(PERMIT, &claim(&json!({ "instance": "by-hand" })));
        let expected = "permit/p ends within 30s unless it is renewed: koncli semaphore renew s --holder 'a b'";
        assert_eq!(told.as_deref(), Some(expected), "sooner than any sign of life is asked for");
        let pod = json!({ "name": "p", "uid": "u" });
        for (spec, is_told) in [
            (json!({ "instance": "holder-1", "renewTime": "x" }), true),
            (json!({ "instance": "holder-1", "renewTime": "x", "pod": pod }), true),
            (json!({ "instance": "0123", "renewTime": "x" }), false),
            (json!({ "instance": "0123", "pod": pod }), false),
        ] {
            assert_eq!(unrenewed(PERMIT, &claim(&spec)).is_some(), is_told, "{spec}");
        }
    }
}
