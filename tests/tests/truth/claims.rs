//! The requests of clients and operators about claims: one after the other, as written here.

use http::Method;
use serde_json::{Value, json};

use super::{ask, compare, create, delete, get, list, of, patch, permit, status};

#[tokio::test]
async fn the_claim_protocol() {
    let script = [
        get("semaphores", "s"),
        create("semaphores", "Semaphore", "s", &json!({ "permits": 3 })),
        create("semaphores", "Semaphore", "s", &json!({ "permits": 3 })),
        get("semaphores", "s"),
        create("permits", "Permit", "a", &permit("i")),
        create("permits", "Permit", "a", &permit("i")),
        create("permits", "Permit", "Not_A_Name", &permit("i")),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "uid": "{uid:a}", "resourceVersion": "{version:a}" }, "status": status(5) }),
        ),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "uid": "{uid:a}", "resourceVersion": "1" }, "status": status(6) }),
        ),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000" }, "status": status(6) }),
        ),
        patch(
            "permits",
            "a/status",
            json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "holder": "x" }, "status": status(6) }),
        ),
        patch(
            "permits",
            "a",
            json!({ "metadata": { "uid": "{uid:a}" }, "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } }),
        ),
        patch(
            "permits",
            "a",
            json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000" }, "spec": { "renewTime": "2026-01-01T00:00:02.000000Z" } }),
        ),
        patch("permits", "a", json!({ "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } })),
        patch("permits", "a", json!({ "status": { "phase": "Expired" } })),
        patch("permits", "a", json!({ "spec": { "holder": "somebody else" } })),
        patch("permits", "a", json!({ "spec": { "ttl": "30s" } })),
        patch("permits", "a", json!({ "metadata": { "annotations": { "konductor.io/revoke": "why" } } })),
        patch("permits", "b", json!({ "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } })),
        patch("permits", "b/status", json!({ "status": status(1) })),
        patch("permits", "a", json!({ "metadata": { "name": "b" } })),
        patch("permits", "a", json!({ "metadata": { "annotations": null, "labels": { "x": "y" } } })),
        list("permits", "fieldSelector=spec.semaphore%3Ds"),
        list("permits", "fieldSelector=spec.semaphore%3Dt"),
        list("permits", "fieldSelector=metadata.name%3Da"),
        list("permits", "labelSelector=x%3Dy"),
        list("permits", "labelSelector=x!%3Dy"),
        list("permits", "fieldSelector=spec.priority%3D0"),
        delete("permits", "a", json!({ "preconditions": { "uid": "00000000-0000-4000-8000-000000000000" } })),
        delete("permits", "a", json!({ "preconditions": { "uid": "{uid:a}", "resourceVersion": "1" } })),
        delete("permits", "a", json!({ "preconditions": { "uid": "{uid:a}", "resourceVersion": "{version:a}" } })),
        delete("permits", "a", json!({ "preconditions": { "uid": "{uid:a}" } })),
        get("permits", "a"),
        ask(Method::GET, "/apis/konductor.io/v1/namespaces/NS/nothing", Value::Null),
        ask(Method::GET, "/apis/konductor.io/v1/namespaces/NS/permits/a/other", Value::Null),
    ];
    compare("the claim protocol", &script).await;
}

#[tokio::test]
async fn lists_in_pages_and_watches() {
    let mut script = vec![create("semaphores", "Semaphore", "s", &json!({ "permits": 1 }))];
    for name in ["a", "b", "c", "d", "e"] {
        script.push(create("permits", "Permit", name, &permit(name)));
    }
    script.extend([
        list("permits", "limit=2"),
        create("permits", "Permit", "bb", &permit("bb")),
        list("permits", "limit=2&continue={token}"),
        delete("permits", "e", Value::Null),
        list("permits", "limit=2&continue={token}"),
        list("permits", "limit=500"),
        patch("permits", "c/status", json!({ "status": status(5) })),
        patch("permits", "d", json!({ "metadata": { "labels": { "x": "y" } } })),
        patch("permits", "d", json!({ "metadata": { "labels": null } })),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1"),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1&fieldSelector=metadata.name%3Dc"),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1&labelSelector=x%3Dy"),
        list("permits", "watch=true&resourceVersion={version:a}&timeoutSeconds=1&fieldSelector=spec.semaphore%3Dt"),
    ]);
    compare("lists and watches", &script).await;
}

#[tokio::test]
async fn deleting_what_is_kept_and_what_is_about_to_go() {
    let kept = json!({ "apiVersion": "konductor.io/v1", "kind": "Semaphore",
        "metadata": { "name": "kept", "finalizers": ["example.com/kept"], "labels": {}, "annotations": { "a": "b" } },
        "spec": { "permits": 1, "unknown": true } });
    let script = [
        ask(Method::POST, &of("semaphores"), kept),
        delete("semaphores", "kept", Value::Null),
        delete("semaphores", "kept", Value::Null),
        get("semaphores", "kept"),
        patch("semaphores", "kept", json!({ "spec": { "permits": 2 } })),
        patch("semaphores", "kept", json!({ "metadata": { "finalizers": null } })),
        get("semaphores", "kept"),
        ask(
            Method::POST,
            "/apis/konductor.io/v1/namespaces/nobody-has-this/permits",
            json!({ "apiVersion": "konductor.io/v1", "kind": "Permit", "metadata": { "name": "a" }, "spec": permit("i") }),
        ),
        ask(
            Method::POST,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases",
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "konductor-operator" },
                "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z" },
            }),
        ),
        ask(
            Method::PATCH,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases/konductor-operator",
            json!({
                "metadata": { "resourceVersion": "{version:konductor-operator}" },
                "spec": { "holderIdentity": null },
            }),
        ),
        ask(
            Method::PATCH,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases/konductor-operator",
            json!({
                "metadata": { "resourceVersion": "1" }, "spec": { "holderIdentity": "b" },
            }),
        ),
        ask(
            Method::GET,
            "/apis/coordination.k8s.io/v1/namespaces/NS/leases?fieldSelector=metadata.name%3Dkonductor-operator&limit=10",
            Value::Null,
        ),
        ask(Method::DELETE, "/apis/coordination.k8s.io/v1/namespaces/NS/leases/konductor-operator", Value::Null),
    ];
    compare("deletion", &script).await;
}
