//! What etcd's compactions and Kubernetes' controllers do, on a control plane of its own.

use konductor_sim::chance::Chance;
use konductor_tests::{ControlPlane, TestNamespace, install_crds};
use serde_json::{Value, json};

use super::{
    Ask, ELECTIONS, NAMESPACES, Scene, Until,
    chance::{beginning, some_requests},
    create, create_namespace, delete, get, list, patch, permit, watch,
};

#[tokio::test]
async fn compactions_and_controllers() {
    let mut control_plane = ControlPlane::start().await;
    let namespace = control_plane.namespace("truth").await;
    install_crds(&namespace.client).await;
    compaction(&mut control_plane, &namespace).await;

    control_plane.start_controllers();
    let mut scene = Scene::new(&control_plane.namespace("truth").await).await;
    scene.has_controllers();
    garbage(&mut scene).await;
    namespaces(&mut scene).await;
    scene.end("controllers");
}

/// What was is not known any more.
async fn compaction(control_plane: &mut ControlPlane, namespace: &TestNamespace) {
    let mut scene = Scene::new(namespace).await;
    let mut script: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|name| create("permits", "Permit", name, &permit(name))).into();
    script.extend([
        create(ELECTIONS, "Lease", "l", &json!({ "holderIdentity": "a" })),
        list("permits", "limit=2"),
        create("permits", "Permit", "bb", &permit("bb")),
        delete("permits", "d", Value::Null),
        patch("permits", "c", json!({ "metadata": { "labels": { "x": "y" } } })),
        patch(ELECTIONS, "l", json!({ "spec": { "holderIdentity": "b" } })),
    ]);
    scene.play(&script).await;
    let mut by_chance = Scene::new(&control_plane.namespace("truth").await).await;
    let c = &mut Chance::new(1, 4);
    by_chance.play(&beginning(c)).await;
    by_chance.play(&some_requests(c)).await;
    by_chance.play(&[list("permits", "limit=1"), create("permits", "Permit", "other", &permit("i"))]).await;

    control_plane.compact().await;
    for scene in [&mut scene, &mut by_chance] {
        scene.memory.compact();
    }
    by_chance.play(&some_requests(c)).await;
    by_chance.end("compaction between requests that chance makes");
    let from_the_first = |plural: &str, name: &str, more: &str| {
        watch(plural, &format!("resourceVersion={{first version:{name}}}{more}"), Until::End)
    };
    let goes_on = || list("permits", "limit=2&continue={token}");
    let script = [
        goes_on(),
        // What the refusal says is where it goes on, from what there is now.
        goes_on(),
        create("permits", "Permit", "f", &permit("f")),
        goes_on(),
        list("permits", "limit=500"),
        get("permits", "a"),
        from_the_first("permits", "a", ""),
        from_the_first("permits", "a", "&allowWatchBookmarks=true"),
        from_the_first("permits", "a", "&fieldSelector=metadata.name%3Da"),
        from_the_first(ELECTIONS, "l", ""),
        from_the_first(ELECTIONS, "l", "&fieldSelector=metadata.name%3Dl"),
        list("permits", "limit=1"),
        create("permits", "Permit", "g", &permit("g")),
        watch("permits", "resourceVersion={listed}", Until::Told("g")),
    ];
    scene.play(&script).await;
    scene.end("compaction");
}

fn owned(name: &str, owners: &[(&str, &str)], finalizers: &[&str]) -> Ask {
    let mut arrival = create("arrivals", "Arrival", name, &json!({ "barrier": "x", "holder": "h", "key": name }));
    let owner = |(owner, uid): &(&str, &str)| json!({ "apiVersion": "konductor.io/v1", "kind": "Barrier", "name": owner, "uid": uid });
    arrival.body["metadata"]["ownerReferences"] = owners.iter().map(owner).collect();
    if !finalizers.is_empty() {
        arrival.body["metadata"]["finalizers"] = json!(finalizers);
    }
    arrival
}

/// What is owned by nobody any more.
async fn garbage(scene: &mut Scene) {
    let barrier = |name: &str| create("barriers", "Barrier", name, &json!({ "expected": 2 }));
    let seen = |name: &str, until: Until| {
        watch("arrivals", &format!("resourceVersion={{version:{name}}}&fieldSelector=metadata.name%3D{name}"), until)
    };
    let script = [
        list("arrivals", "limit=500"),
        barrier("x"),
        barrier("y"),
        owned("a", &[("x", "{uid:x}")], &[]),
        owned("b", &[("y", "{uid:y}")], &[]),
        owned("kept", &[("x", "{uid:x}")], &["example.com/kept"]),
        owned("free", &[], &[]),
        delete("barriers", "x", json!({ "preconditions": { "uid": "{uid:x}" } })),
        // What somebody keeps is marked.
        seen("a", Until::Gone("a")),
        seen("kept", Until::Told("kept")),
        get("arrivals", "b"),
        get("arrivals", "free"),
        // Who is owned by one that is there no more, or that never was.
        barrier("x"),
        owned("late", &[("x", "{former uid:x}")], &[]),
        seen("late", Until::Gone("late")),
        owned("never", &[("nobody", "00000000-0000-4000-8000-000000000000")], &[]),
        seen("never", Until::Gone("never")),
        patch("arrivals", "kept", json!({ "metadata": { "finalizers": null } })),
        list("arrivals", "fieldSelector=metadata.name%3Dkept"),
    ];
    scene.play(&script).await;
}

/// What is in a namespace that is deleted, and then the namespace.
async fn namespaces(scene: &mut Scene) {
    let within = |ask: Ask| Ask { path: ask.path.replace("/NS/", "/NS-2/"), ..ask };
    let permit_of = |name: &str| within(create("permits", "Permit", name, &permit("i")));
    let mut kept = permit_of("kept");
    kept.body["metadata"]["finalizers"] = json!(["example.com/kept"]);
    let script = [
        create_namespace("NS-2"),
        within(list("permits", "limit=500")),
        permit_of("a"),
        kept,
        delete(NAMESPACES, "NS-2", Value::Null),
        within(watch("permits", "resourceVersion={listed}&fieldSelector=metadata.name%3Da", Until::Gone("a"))),
        within(watch(
            "permits",
            "resourceVersion={version:kept}&fieldSelector=metadata.name%3Dkept",
            Until::Told("kept"),
        )),
        within(get("permits", "a")),
        within(patch("permits", "kept", json!({ "spec": { "renewTime": "2026-01-01T00:00:01.000000Z" } }))),
        permit_of("a"),
        get(NAMESPACES, "NS-2"),
        create_namespace("NS-2"),
        within(patch("permits", "kept", json!({ "metadata": { "finalizers": null } }))),
        within(get("permits", "kept")),
        watch(
            NAMESPACES,
            "resourceVersion={first version:NS-2}&fieldSelector=metadata.name%3DNS-2",
            Until::Gone("NS-2"),
        ),
        get(NAMESPACES, "NS-2"),
        permit_of("a"),
        create_namespace("NS-2"),
        within(list("permits", "limit=500")),
    ];
    scene.play(&script).await;
}
