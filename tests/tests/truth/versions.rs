//! What depends on the version that a request names: reads of what a server has, watches from the beginning, and
//! bookmarks.

use konductor_api::{Barrier, Permit};
use konductor_tests::wait_for;
use serde_json::{Value, json};

use super::{
    Ask, ELECTIONS, LIMIT, NAMESPACES, PODS, Until, any, apply, compare, create, create_namespace, delete, get, list,
    namespace, patch, permit, watch,
};

/// Waits until the shared server watches permits and barriers itself: it tells of nothing that was before.
pub(super) async fn watched() {
    let namespace = namespace().await;
    for (kind, api, spec) in [
        ("Permit", any::<Permit>(&namespace), permit("i")),
        ("Barrier", any::<Barrier>(&namespace), json!({ "expected": 1 })),
    ] {
        apply(&api, kind, "first", &spec).await.expect("make");
    }
    wait_for(&namespace.api::<Permit>(), "first", LIMIT, |_| true).await;
    wait_for(&namespace.api::<Barrier>(), "first", LIMIT, |_| true).await;
}

#[tokio::test]
async fn reads_and_watches_of_what_a_server_has() {
    watched().await;
    let lease = json!({ "holderIdentity": "a" });
    let script = [
        create("permits", "Permit", "a", &permit("a")),
        create("permits", "Permit", "b", &permit("b")),
        create("permits", "Permit", "c", &permit("c")),
        patch("permits", "a", json!({ "metadata": { "labels": { "x": "y" } } })),
        delete("permits", "b", Value::Null),
        create("permits", "Permit", "d", &permit("d")),
        // What it has told of, it has.
        watch("permits", "resourceVersion={first version:a}", Until::Told("d")),
        get("permits", "a?resourceVersion=0"),
        get("permits", "b?resourceVersion=0"),
        get("permits", "nothing?resourceVersion=0"),
        list("permits", "resourceVersion=0"),
        list("permits", "resourceVersion=0&limit=2"),
        list("permits", "resourceVersion=0&limit=500"),
        list("permits", "resourceVersion=0&labelSelector=x%3Dy"),
        list("permits", "resourceVersion=0&fieldSelector=metadata.name%3Dd"),
        list("permits", "resourceVersion=0&fieldSelector=spec.semaphore%3Dt"),
        watch("permits", "resourceVersion=0", Until::Told("d")),
        watch("permits", "", Until::Told("d")),
        watch("permits", "resourceVersion=0&labelSelector=x%3Dy", Until::Told("a")),
        watch("permits", "resourceVersion=0&fieldSelector=metadata.name%3Dd", Until::Told("d")),
        // From where a list was, and from its beginning.
        list("permits", "limit=1"),
        patch("permits", "d", json!({ "metadata": { "labels": { "x": "z" } } })),
        watch("permits", "resourceVersion={listed}", Until::Told("d")),
        watch("permits", "resourceVersion={listed}&fieldSelector=metadata.name%3Dd", Until::Told("d")),
        list("permits", "fieldSelector=metadata.name%3Dnobody"),
        create("permits", "Permit", "nobody", &permit("n")),
        watch("permits", "resourceVersion={listed}&fieldSelector=metadata.name%3Dnobody", Until::Told("nobody")),
        // As an election is followed.
        list(ELECTIONS, "fieldSelector=metadata.name%3Dkonductor-operator&limit=10"),
        create(ELECTIONS, "Lease", "konductor-operator", &lease),
        create(ELECTIONS, "Lease", "other", &lease),
        patch(ELECTIONS, "konductor-operator", json!({ "spec": { "holderIdentity": "b" } })),
        delete(ELECTIONS, "konductor-operator", Value::Null),
        create(ELECTIONS, "Lease", "konductor-operator", &lease),
        watch(
            ELECTIONS,
            "resourceVersion={listed}&fieldSelector=metadata.name%3Dkonductor-operator",
            Until::Gone("konductor-operator"),
        ),
        get(ELECTIONS, "konductor-operator?resourceVersion=0"),
        get(ELECTIONS, "nobody"),
        patch(ELECTIONS, "nobody", json!({ "spec": { "holderIdentity": "b" } })),
    ];
    compare("what a server has", &script).await;
}

#[tokio::test]
async fn a_version_that_is_too_old_and_one_that_never_was() {
    watched().await;
    // Since before the server watches the resource itself, as after a compaction.
    let too_old = |query: &str| watch("permits", &format!("resourceVersion=1{query}"), Until::End);
    let script = [too_old(""), too_old("&fieldSelector=metadata.name%3Da"), too_old("&allowWatchBookmarks=true")];
    let mut scene = super::Scene::new(&namespace().await).await;
    scene.play(&[create("permits", "Permit", "a", &permit("a")), create("permits", "Permit", "b", &permit("b"))]).await;
    scene.memory.compact();
    scene.play(&script).await;
    scene.end("a version that is too old");
}

#[tokio::test]
async fn bookmarks() {
    watched().await;
    // A real server sends one two seconds before the end, if anything has happened to the resource since the beginning.
    let bookmark = |plural: &str, query: &str, meanwhile: Ask| {
        let query = format!("watch=true&timeoutSeconds=3&allowWatchBookmarks=true&resourceVersion={query}");
        Ask { until: Until::Bookmark, meanwhile: Some(Box::new(meanwhile)), ..list(plural, &query) }
    };
    let elsewhere = |plural: &str, kind: &str, spec: &Value| {
        let mut create = create(plural, kind, "", spec);
        create.body["metadata"] = json!({ "generateName": "bookmark-" });
        Ask { path: create.path.replace("/NS/", "/default/"), ..create }
    };
    let labelled = |plural: &str, name: &str| patch(plural, name, json!({ "metadata": { "labels": { "x": "y" } } }));
    let pod_spec = json!({ "nodeName": "node", "containers": [{ "name": "main", "image": "i" }] });
    let (other, lease) = (elsewhere("permits", "Permit", &permit("i")), json!({ "holderIdentity": "a" }));
    let script = [
        create("permits", "Permit", "a", &permit("a")),
        create("permits", "Permit", "b", &permit("b")),
        bookmark("permits", "{first version:a}", other.clone()),
        // It is of what is not selected, too.
        bookmark("permits", "{first version:a}&fieldSelector=metadata.name%3Da", other),
        create("permits", "Permit", "c", &permit("c")),
        watch("permits", "resourceVersion={listed}", Until::Told("c")),
        create(ELECTIONS, "Lease", "l", &lease),
        labelled(ELECTIONS, "l"),
        bookmark(ELECTIONS, "{first version:l}", elsewhere(ELECTIONS, "Lease", &lease)),
        create(PODS, "Pod", "p", &pod_spec),
        labelled(PODS, "p"),
        bookmark(
            PODS,
            "{first version:p}&fieldSelector=metadata.name%3Dp",
            Ask { path: PODS.into(), ..elsewhere(PODS, "Pod", &pod_spec) },
        ),
        create_namespace("NS-2"),
        labelled(NAMESPACES, "NS-2"),
        bookmark(
            NAMESPACES,
            "{first version:NS-2}&fieldSelector=metadata.name%3DNS-2",
            elsewhere(NAMESPACES, "Namespace", &json!({})),
        ),
    ];
    compare("bookmarks", &script).await;
}
