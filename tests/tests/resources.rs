//! The resources as the API server takes them: what it refuses and in which words, what cannot change, what it shows.

use konductor_api::{Permit, Semaphore};
use konductor_tests::{ControlPlane, TestNamespace, install_crds};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams, ValidationDirective},
    core::DynamicObject,
    discovery::ApiResource,
};
use serde_json::{Value, json};

async fn namespace() -> TestNamespace {
    let namespace = ControlPlane::shared().await.namespace("resources").await;
    install_crds(&namespace.client).await;
    namespace
}

fn any<K: kube::Resource<DynamicType = ()>>(namespace: &TestNamespace) -> Api<DynamicObject> {
    Api::namespaced_with(namespace.client.clone(), &namespace.name, &ApiResource::erase::<K>(&()))
}

/// Applies the object as `kubectl apply` does.
async fn apply(api: &Api<DynamicObject>, kind: &str, name: &str, spec: &Value) -> Result<DynamicObject, String> {
    let object = json!({ "apiVersion": "konductor.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("test").force() };
    api.patch(name, &params, &Patch::Apply(object)).await.map_err(|error| error.to_string())
}

async fn refuses(api: &Api<DynamicObject>, kind: &str, name: &str, spec: &Value, because: &str) {
    let refusal = apply(api, kind, name, spec).await.err();
    assert!(
        refusal.as_ref().is_some_and(|text| text.contains(because)),
        "{spec}: wanted {because:?}, found {refusal:?}"
    );
}

fn with(base: &Value, field: &str, value: Value) -> Value {
    let mut spec = base.clone();
    spec[field] = value;
    spec
}

fn without(base: &Value, field: &str) -> Value {
    let mut spec = base.clone();
    spec.as_object_mut().expect("an object").remove(field);
    spec
}

#[tokio::test]
async fn a_semaphore_is_refused_with_the_reason() {
    let namespace = namespace().await;
    let api = any::<Semaphore>(&namespace);
    let good = json!({ "permits": 3 });
    let ttl = "ttl must be from 5s to 24h";
    for (spec, because) in [
        (json!({}), "permits"),
        (with(&good, "permits", json!(-1)), "greater than or equal to 0"),
        (with(&good, "permits", json!(1_000_001)), "less than or equal to 1000000"),
        (with(&good, "permits", json!("3")), ".spec.permits: expected numeric"),
        (with(&good, "ttl", json!("0s")), ttl),
        (with(&good, "ttl", json!("4.999s")), ttl),
        (with(&good, "ttl", json!("24h0m1s")), ttl),
        (with(&good, "ttl", json!("-30s")), "spec.ttl"),
        (with(&good, "ttl", json!("soon")), "spec.ttl"),
        (with(&good, "ttl", json!("")), "spec.ttl"),
        (with(&good, "queueing", json!("LIFO")), r#"supported values: "StrictFIFO", "BestEffortFIFO""#),
        (with(&good, "permit", json!(3)), "permit"),
    ] {
        refuses(&api, "Semaphore", "bad", &spec, because).await;
    }
}

#[tokio::test]
async fn a_semaphore_says_what_it_was_not_told() {
    let namespace = namespace().await;
    let made =
        apply(&any::<Semaphore>(&namespace), "Semaphore", "plain", &json!({ "permits": 0 })).await.expect("make");
    assert_eq!(made.data["spec"], json!({ "permits": 0, "ttl": "5m", "queueing": "StrictFIFO" }));
}

fn claim() -> Value {
    json!({
        "semaphore": "warehouse", "permits": 2, "priority": 1, "holder": "me", "instance": "1", "ttl": "30s",
        "pod": { "name": "p", "uid": "u", "container": "c", "start": "s" },
    })
}

#[tokio::test]
async fn a_permit_is_refused_with_the_reason() {
    let namespace = namespace().await;
    let api = any::<Permit>(&namespace);
    let good = claim();
    for (spec, because) in [
        (without(&good, "semaphore"), "semaphore"),
        (without(&good, "holder"), "holder"),
        (without(&good, "instance"), "instance"),
        (with(&good, "semaphore", json!("")), "spec.semaphore"),
        (with(&good, "semaphore", json!("x".repeat(254))), "may not be more than 253"),
        (with(&good, "holder", json!("x".repeat(254))), "may not be more than 253"),
        (with(&good, "instance", json!("x".repeat(65))), "may not be more than 64"),
        (with(&good, "permits", json!(0)), "greater than or equal to 1"),
        (with(&good, "permits", json!(1_000_001)), "less than or equal to 1000000"),
        (with(&good, "ttl", json!("1s")), "ttl must be from 5s to 24h"),
        (with(&good, "pod", json!({ "name": "p" })), "spec.pod.uid"),
        (with(&good, "renewTime", json!("yesterday")), "spec.renewTime"),
        (with(&good, "semafore", json!("x")), "semafore"),
    ] {
        refuses(&api, "Permit", "bad", &spec, because).await;
    }
}

#[tokio::test]
async fn of_a_permit_only_the_renewal_time_changes() {
    let namespace = namespace().await;
    let api = any::<Permit>(&namespace);
    let good = claim();
    apply(&api, "Permit", "mine", &good).await.expect("make");
    let other_pod = json!({ "name": "p", "uid": "other", "container": "c", "start": "s" });
    for (field, value) in [
        ("semaphore", json!("other")),
        ("permits", json!(3)),
        ("priority", json!(2)),
        ("holder", json!("you")),
        ("instance", json!("2")),
        ("ttl", json!("31s")),
        ("pod", other_pod),
    ] {
        refuses(&api, "Permit", "mine", &with(&good, field, value), &format!("{field} cannot change")).await;
    }
    for field in ["ttl", "pod"] {
        refuses(&api, "Permit", "mine", &without(&good, field), "only renewTime can change").await;
    }
    let renewed = with(&good, "renewTime", json!("2030-01-01T00:00:00.000001Z"));
    let renewed = apply(&api, "Permit", "mine", &renewed).await.expect("renew");
    assert_eq!(renewed.data["spec"]["renewTime"], "2030-01-01T00:00:00.000001Z");
}

#[tokio::test]
async fn a_status_is_bounded_and_only_for_those_who_may_write_it() {
    let namespace = namespace().await;
    let api: Api<Semaphore> = namespace.api();
    apply(&any::<Semaphore>(&namespace), "Semaphore", "s", &json!({ "permits": 1 })).await.expect("make");
    let beyond = json!({ "status": { "term": 8_589_934_592_u64 } });
    let refusal = api.patch_status("s", &PatchParams::default(), &Patch::Merge(beyond)).await.expect_err("refused");
    assert!(refusal.to_string().contains("less than or equal to 8589934591"), "{refusal}");
    // The main resource ignores a status, the status subresource ignores all else.
    let sneaky = json!({ "status": { "inUse": 7 } });
    let patched = api.patch("s", &PatchParams::default(), &Patch::Merge(sneaky)).await.expect("patch");
    assert_eq!(patched.status, None);
    let sneaky = json!({ "spec": { "permits": 9 }, "status": { "inUse": 1 } });
    let patched =
        api.patch_status("s", &PatchParams::default(), &Patch::Merge(sneaky)).await.expect("patch the status");
    assert_eq!((patched.spec.permits, patched.status.and_then(|status| status.in_use)), (1, Some(1)));
}

#[tokio::test]
async fn a_semaphore_scales() {
    let namespace = namespace().await;
    let api: Api<Semaphore> = namespace.api();
    apply(&any::<Semaphore>(&namespace), "Semaphore", "s", &json!({ "permits": 1 })).await.expect("make");
    let in_use = json!({ "status": { "inUse": 1 } });
    api.patch_status("s", &PatchParams::default(), &Patch::Merge(in_use)).await.expect("patch the status");
    let scale = json!({ "spec": { "replicas": 4 } });
    let scale = api.patch_scale("s", &PatchParams::default(), &Patch::Merge(scale)).await.expect("scale");
    assert_eq!(scale.status.map(|status| status.replicas), Some(1));
    assert_eq!(api.get("s").await.expect("read").spec.permits, 4);
}

#[tokio::test]
async fn permits_are_found_by_their_fields() {
    let namespace = namespace().await;
    let api: Api<Permit> = namespace.api();
    for (name, semaphore, holder, pod) in [("a", "s", "x", "1"), ("b", "s", "y", "2"), ("c", "t", "y", "3")] {
        let pod = json!({ "name": "p", "uid": pod, "container": "c", "start": "s" });
        let spec = json!({ "semaphore": semaphore, "holder": holder, "instance": name, "pod": pod });
        let permit = json!({ "metadata": { "name": name }, "spec": spec });
        let permit: Permit = serde_json::from_value(permit).expect("a permit");
        api.create(&PostParams::default(), &permit).await.expect("make");
    }
    for (selector, expected) in [
        ("spec.semaphore=s", vec!["a", "b"]),
        ("spec.holder=y", vec!["b", "c"]),
        ("spec.pod.uid=3", vec!["c"]),
        ("spec.semaphore=s,spec.holder=y", vec!["b"]),
    ] {
        let found = api.list(&ListParams::default().fields(selector)).await.expect("list");
        assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), expected, "{selector}");
    }
}

#[tokio::test]
async fn tables_answer_the_first_question() {
    let namespace = namespace().await;
    for (resource, expected) in [
        ("semaphores", ["Name", "Phase", "Permits", "In use", "Waiting", "Age", "Holders", "Term"].as_slice()),
        (
            "permits",
            &[
                "Name",
                "Semaphore",
                "Phase",
                "Permits",
                "Ahead",
                "Holder",
                "Renewed",
                "Age",
                "Token",
                "Priority",
                "Message",
            ],
        ),
    ] {
        let request = http::Request::get(format!("/apis/konductor.io/v1/namespaces/{}/{resource}", namespace.name))
            .header(http::header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .expect("a request");
        let table: Value = namespace.client.request(request).await.expect("a table");
        let columns = table["columnDefinitions"].as_array().expect("columns").iter();
        let names: Vec<_> = columns.map(|column| column["name"].as_str().expect("a name")).collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn names_are_short_and_in_a_category() {
    let namespace = namespace().await;
    let group = kube::discovery::group(&namespace.client, "konductor.io").await.expect("discover");
    let resources = group.versioned_resources("v1");
    assert_eq!(resources.len(), 2);
    let request = http::Request::get("/apis/konductor.io/v1").body(Vec::new()).expect("a request");
    let list: Value = namespace.client.request(request).await.expect("a list");
    for resource in list["resources"].as_array().expect("resources") {
        let short = match resource["name"].as_str().expect("a name") {
            "semaphores" => "sem",
            "permits" => "pmt",
            _ => continue,
        };
        assert_eq!(resource["shortNames"], json!([short]));
        assert_eq!(resource["categories"], json!(["konductor"]));
    }
}
