//! A neighbour: another team on the same cluster, whom nobody stops. What it does is no fault of its network; it does what it
//! may do in its own namespace, and sometimes what an older release has let it do.

use http::Method;
use serde_json::{Value, json};

use super::World;
use crate::{
    plan::{Mischief, Plan},
    server::resource,
};

/// Its namespace.
const NEIGHBOUR: &str = "neighbour";

/// What was stored when the schemas were others, or before there were any.
fn garbage() -> [Value; 8] {
    [
        json!(17),
        json!("text"),
        json!([]),
        json!({}),
        json!({ "permits": "many", "ttl": 5, "priority": "high", "holder": {}, "semaphore": ["a"], "lease": null }),
        json!({ "permits": -1, "ttl": "-5s", "expected": 1e300, "barrier": "\u{0}", "key": "", "conditions": [{}] }),
        json!({ "permits": u64::MAX, "ttl": "999999999h", "renewTime": "yesterday", "instance": "x".repeat(5000) }),
        json!({ "conditions": { "type": "Job" }, "pod": [null], "timeout": "5 minutes", "quorum": false }),
    ]
}

/// The namespace is disturbed by its people.
pub(super) fn disturb(world: &World, plan: &Plan, mischief: Mischief) {
    world.create("/api/v1/namespaces", "v1", "Namespace", NEIGHBOUR, &json!({}));
    match mischief {
        Mischief::Crowd(count) => crowd(world, plan, count),
        Mischief::Garbage => litter(world, plan),
    }
}

fn path(plural: &str) -> String {
    format!("/apis/konductor.io/v1/namespaces/{NEIGHBOUR}/{plural}")
}

/// Locks of the same names as other people's, and many claims on them that nobody renews or gives back: as urgent as can
/// be, kept by a finalizer that nobody takes away, with labels and annotations that mean nothing.
fn crowd(world: &World, plan: &Plan, count: u64) {
    for lock in &plan.locks {
        let (plural, kind) = if lock.is_semaphore { ("semaphores", "Semaphore") } else { ("leases", "Lease") };
        let spec = if lock.is_semaphore { json!({ "permits": 1, "ttl": "24h" }) } else { json!({ "ttl": "24h" }) };
        world.create(&path(plural), "konductor.io/v1", kind, &lock.name, &spec);
    }
    let at = world.now().as_millis();
    for number in 0..count {
        let lock = &plan.locks[number as usize % plan.locks.len()];
        let (plural, kind, field) = if lock.is_semaphore {
            ("permits", "Permit", "semaphore")
        } else {
            ("leaserequests", "LeaseRequest", "lease")
        };
        let mut spec = json!({ "holder": "crowd", "instance": format!("crowd-{number}"), "priority": i32::MAX });
        spec[field] = lock.name.as_str().into();
        spec["ttl"] = if number.is_multiple_of(2) { "24h" } else { "5s" }.into();
        if lock.is_semaphore {
            spec["permits"] = 1.into();
        }
        let claim = json!({
            "apiVersion": "konductor.io/v1", "kind": kind, "spec": spec,
            "metadata": {
                "name": format!("crowd-{at}-{number}"),
                "finalizers": ["example.com/never"],
                "labels": { "konductor.io/": "\u{7f}", "a": "b".repeat(200), "konductor.io/term": "7" },
                "annotations": {
                    "konductor.io/revoke": if number.is_multiple_of(8) { "" } else { "\n\u{0}" },
                    "konductor.io/gates-from": "x".repeat(1000),
                },
            },
        });
        let (code, _) = world.ask(Method::POST, &path(plural), &claim);
        world.count(&format!("claims of a neighbour: {code}"));
    }
}

/// Objects of all kinds of which nothing can be read, some with the names of other people's.
fn litter(world: &World, plan: &Plan) {
    let at = world.now().as_millis();
    let kinds = resource::all().iter().enumerate().filter(|(_, resource)| resource.schema.is_some());
    for (id, resource) in kinds {
        for (number, spec) in garbage().into_iter().enumerate() {
            let name = match plan.locks.get(number) {
                Some(lock) => lock.name.clone(),
                None => format!("litter-{at}-{number}"),
            };
            let object = json!({
                "apiVersion": resource.api_version(), "kind": resource.kind, "spec": spec,
                "metadata": {
                    "name": name, "namespace": NEIGHBOUR, "uid": format!("bad00000-0000-4000-8000-{id:04}{at:06}{number:02}"),
                    "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
                },
                "status": { "phase": "Granted", "term": u64::MAX, "fencingToken": -7, "conditions": "none", "ticket": {} },
            });
            world.change(|server, _| server.store.put((id, NEIGHBOUR.to_owned(), name.clone()), object));
        }
    }
}
