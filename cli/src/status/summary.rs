//! The flat summary of an object: `koncli status KIND NAME -o json`. What is not known is null, and fields are only ever
//! added.

use serde_json::{Value, json};

use crate::{
    kind::{BARRIER, GATE, LEASE, Resource, SEMAPHORE},
    trouble::condition,
};

/// The fields of all summaries and of each kind's, with what they mean: the reference page shows this.
#[cfg(test)]
pub(crate) const FIELDS: [(&str, &str, &str); 41] = [
    ("all", "kind, namespace, name", "what it is: semaphore, lease, barrier or gate"),
    ("all", "phase", "in one word, as the operator wrote it last; null before it has seen the object"),
    ("all", "message", "why, for people"),
    ("all", "since", "when it was created"),
    ("semaphore", "permits", "how many there are"),
    ("semaphore", "inUse", "how many are held"),
    ("semaphore", "available", "how many are free"),
    ("semaphore", "waiting", "how many claims wait"),
    ("semaphore", "ttl", "time to live of claims that name none"),
    ("semaphore", "queueing", "StrictFIFO or BestEffortFIFO"),
    ("semaphore", "holders", "names of holders: all that can be seen, else the preview of at most 10"),
    ("semaphore", "claims", "the claims on it, if they may be seen: those that are held first, then those that wait"),
    ("lease", "holder", "who holds it; null when nobody does"),
    ("lease", "available", "1 when nobody holds it, else 0"),
    ("lease", "waiting", "how many claims wait"),
    ("lease", "fencingToken", "of the holder"),
    ("lease", "acquiredAt", "when the holder acquired it"),
    ("lease", "ttl", "time to live of claims that name none"),
    ("lease", "claims", "as of a semaphore"),
    ("claim", "name, holder, phase, permits, priority", "what was asked for, and how it stands"),
    ("claim", "fencingToken, acquiredAt, expiresAt", "while it is held; expiresAt is without further renewals"),
    ("claim", "since", "when it was asked for"),
    ("claim", "ahead, message", "while it waits, as told last"),
    ("claim", "pod, container", "where its holder is, if that is known"),
    ("barrier", "arrived", "how many have arrived in this round"),
    ("barrier", "expected", "how many are to arrive"),
    ("barrier", "missing", "how many have not"),
    ("barrier", "quorum", "how many are enough once the timeout has passed"),
    ("barrier", "timeout", "how long the others are waited for"),
    ("barrier", "round", "counts from 1"),
    ("barrier", "open", "true or false"),
    ("barrier", "openedAt", "when this round opened"),
    ("barrier", "failedAt", "when this round failed"),
    ("gate", "met", "how many conditions are met"),
    ("gate", "total", "how many there are"),
    ("gate", "match", "All or Any"),
    ("gate", "open", "true or false"),
    ("gate", "override", "Open, Closed or null"),
    ("gate", "waitingSince", "since when it is not open"),
    ("gate", "timeout", "how long it may wait before it fails"),
    ("gate", "conditions", "each with type, name, namespace, state, met and message"),
];

/// The summary of an object, with the claims on it (and on others of its kind) if they may be seen.
pub(crate) fn of(kind: Resource, object: &Value, claims: Option<&[Value]>) -> Value {
    let (spec, status) = (&object["spec"], &object["status"]);
    let open = condition(object, "Open");
    let message = open.or_else(|| condition(object, "Saturated")).or_else(|| condition(object, "Ready"));
    let mut summary = json!({
        "kind": kind.singular,
        "namespace": object["metadata"]["namespace"],
        "name": object["metadata"]["name"],
        "phase": status["phase"],
        "message": message.map_or(Value::Null, |message| message["message"].clone()),
        "since": object["metadata"]["creationTimestamp"],
    });
    let more = match kind {
        SEMAPHORE => {
            let claims = claims.map(|claims| claims_of("semaphore", object, claims));
            let mut names: Vec<_> = claims
                .iter()
                .flatten()
                .filter(|claim| claim["phase"] != "Pending")
                .map(|claim| claim["holder"].clone())
                .collect();
            if names.is_empty() {
                names = status["holders"].as_array().cloned().unwrap_or_default();
            }
            json!({
                "permits": spec["permits"], "inUse": status["inUse"], "available": status["available"],
                "waiting": status["waiting"], "ttl": spec["ttl"], "queueing": spec["queueing"],
                "holders": names, "claims": claims,
            })
        }
        LEASE => {
            let available = match status["phase"].as_str() {
                Some("Available") => json!(1),
                Some(_) => json!(0),
                None => Value::Null,
            };
            json!({
                "holder": status["holder"], "available": available, "waiting": status["waiting"],
                "fencingToken": status["fencingToken"], "acquiredAt": status["acquiredAt"], "ttl": spec["ttl"],
                "claims": claims.map(|claims| claims_of("lease", object, claims)),
            })
        }
        BARRIER => {
            let (arrived, expected) = (status["arrived"].as_u64(), spec["expected"].as_u64());
            let missing = arrived.zip(expected).map(|(arrived, expected)| expected.saturating_sub(arrived));
            json!({
                "arrived": status["arrived"], "expected": spec["expected"], "missing": missing,
                "quorum": spec["quorum"], "timeout": spec["timeout"], "round": status["round"],
                "open": status["phase"] == "Open", "openedAt": status["openedAt"], "failedAt": status["failedAt"],
            })
        }
        GATE => json!({
            "met": status["met"], "total": status["total"], "match": spec["match"],
            "open": status["phase"] == "Open", "override": spec["override"],
            "waitingSince": status["waitingSince"], "timeout": spec["timeout"],
            "conditions": conditions(spec, status),
        }),
        _ => json!({}),
    };
    if let (Some(summary), Value::Object(more)) = (summary.as_object_mut(), more) {
        summary.extend(more);
    }
    summary
}

/// `semaphore.konductor.io/warehouse`, as a line.
pub(crate) fn name(summary: &Value) -> String {
    let text = |field: &str| summary[field].as_str().unwrap_or_default();
    format!("{}.{}/{}\n", text("kind"), konductor_api::GROUP, text("name"))
}

/// Those on this lock that are not over: who holds first, then who waits, in their order.
fn claims_of(field: &str, lock: &Value, claims: &[Value]) -> Vec<Value> {
    let (name, namespace) = (&lock["metadata"]["name"], &lock["metadata"]["namespace"]);
    let on = |claim: &&Value| {
        claim["spec"][field] == *name
            && claim["metadata"]["namespace"] == *namespace
            && claim["status"]["phase"] != "Expired"
    };
    let mut claims: Vec<_> = claims.iter().filter(on).collect();
    claims.sort_by_key(|claim| {
        let waits = !matches!(claim["status"]["phase"].as_str(), Some("Granted" | "Revoking"));
        let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
        let priority = claim["spec"]["priority"].as_i64().unwrap_or(0);
        let place = if waits { number(&claim["status"]["ticket"]) } else { number(&claim["status"]["fencingToken"]) };
        (waits, if waits { -priority } else { 0 }, place)
    });
    claims.into_iter().map(claim).collect()
}

fn claim(claim: &Value) -> Value {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    json!({
        "name": claim["metadata"]["name"], "holder": spec["holder"],
        "phase": status["phase"].as_str().unwrap_or("Pending"),
        "permits": spec["permits"].as_u64().unwrap_or(1), "priority": spec["priority"].as_i64().unwrap_or(0),
        "fencingToken": status["fencingToken"], "acquiredAt": status["acquiredAt"], "expiresAt": status["expiresAt"],
        "since": claim["metadata"]["creationTimestamp"], "ahead": status["ahead"], "message": status["message"],
        "pod": spec["pod"]["name"], "container": spec["pod"]["container"],
    })
}

fn conditions(spec: &Value, status: &Value) -> Vec<Value> {
    let conditions = spec["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |(at, condition): (usize, &Value)| {
        let found = &status["conditionStatuses"][at];
        json!({
            "type": condition["type"], "name": condition["name"], "namespace": condition["namespace"],
            "state": condition["state"], "met": found["met"], "message": found["message"],
        })
    };
    conditions.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn semaphore() -> Value {
        json!({
            "metadata": { "name": "s", "namespace": "etl", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "permits": 3, "ttl": "5m0s", "queueing": "StrictFIFO" },
            "status": { "phase": "Full", "inUse": 3, "available": 0, "waiting": 2, "holders": ["a"] },
        })
    }

    fn permit(name: &str, phase: &str, ticket: u64, priority: i64) -> Value {
        json!({
            "metadata": { "name": name, "namespace": "etl" },
            "spec": { "semaphore": "s", "holder": name, "priority": priority, "permits": 1 },
            "status": { "phase": phase, "ticket": ticket, "fencingToken": if phase == "Granted" { Some(ticket) } else { None } },
        })
    }

    #[test]
    fn every_field_of_a_summary_is_described_and_every_described_field_is_there() {
        let claims = [permit("a", "Granted", 1, 0)];
        for kind in crate::kind::PARENTS {
            let object = json!({ "spec": { "conditions": [{}] }, "metadata": { "name": "s", "namespace": "etl" } });
            let summary = of(kind, &object, Some(&claims));
            let described = |of: &str| -> Vec<&str> {
                let fields = FIELDS.iter().filter(|(kind, ..)| *kind == of);
                fields.flat_map(|(_, names, _)| names.split(", ")).collect()
            };
            let mut expected = [described("all"), described(kind.singular)].concat();
            expected.sort_unstable();
            let fields: Vec<_> = summary.as_object().expect("an object").keys().cloned().collect();
            assert_eq!(fields, expected, "{kind}");
        }
        let mut expected: Vec<_> =
            FIELDS.iter().filter(|(kind, ..)| *kind == "claim").flat_map(|(_, names, _)| names.split(", ")).collect();
        expected.sort_unstable();
        let fields: Vec<_> = claim(&claims[0]).as_object().expect("an object").keys().cloned().collect();
        assert_eq!(fields, expected);
    }

    #[test]
    fn who_holds_comes_first_and_then_who_waits_in_their_order() {
        let mut other = permit("other", "Granted", 9, 0);
        other["spec"]["semaphore"] = json!("t");
        let claims = [
            permit("late", "Pending", 7, 0),
            permit("urgent", "Pending", 8, 5),
            permit("holder", "Granted", 3, 0),
            permit("over", "Expired", 1, 0),
            permit("early", "Pending", 6, 0),
            other,
        ];
        let summary = of(SEMAPHORE, &semaphore(), Some(&claims));
        let names: Vec<_> =
            summary["claims"].as_array().expect("claims").iter().map(|claim| claim["name"].clone()).collect();
        assert_eq!(names, ["holder", "urgent", "early", "late"]);
        assert_eq!((&summary["holders"], &summary["available"]), (&json!(["holder"]), &json!(0)));
        let unclaimed = of(SEMAPHORE, &semaphore(), Some(&[]));
        assert_eq!(unclaimed["holders"], json!(["a"]), "what the semaphore tells of them");
        assert_eq!(unclaimed["claims"], json!([]));
        let forbidden = of(SEMAPHORE, &semaphore(), None);
        assert_eq!(
            (&forbidden["holders"], &forbidden["claims"]),
            (&json!(["a"]), &Value::Null),
            "not seen is not none"
        );
        assert_eq!(of(LEASE, &json!({}), None)["claims"], Value::Null);
        assert_eq!(name(&summary), "semaphore.konductor.io/s\n");
    }

    #[test]
    fn a_barrier_says_who_is_missing() {
        let barrier = json!({ "spec": { "expected": 3 }, "status": { "arrived": 1, "phase": "Waiting" } });
        let summary = of(BARRIER, &barrier, None);
        assert_eq!((&summary["missing"], &summary["open"]), (&json!(2), &json!(false)));
        assert_eq!(of(BARRIER, &json!({ "spec": { "expected": 3 } }), None)["missing"], Value::Null);
    }
}
