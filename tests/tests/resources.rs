//! The resources as the API server takes them: what it refuses and in which words, what cannot change, what it shows.

mod truth;

use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use konductor_api::{Arrival, Barrier, Gate, Lease, LeaseRequest, Permit, Semaphore};
use konductor_tests::{ControlPlane, TestNamespace, helm_template, install_crds};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, ValidationDirective},
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

#[tokio::test]
async fn a_lease_is_refused_with_the_reason_and_needs_to_be_told_nothing() {
    let namespace = namespace().await;
    let api = any::<Lease>(&namespace);
    let ttl = "ttl must be from 5s to 24h";
    for (spec, because) in [
        (json!({ "ttl": "0s" }), ttl),
        (json!({ "ttl": "4.999s" }), ttl),
        (json!({ "ttl": "25h" }), ttl),
        (json!({ "ttl": "soon" }), "spec.ttl"),
        (json!({ "permits": 1 }), "permits"),
        (json!({ "holder": "me" }), "holder"),
    ] {
        refuses(&api, "Lease", "bad", &spec, because).await;
    }
    // Not even that it has a spec.
    for spec in [json!({}), Value::Null] {
        let made = apply(&api, "Lease", "plain", &spec).await.expect("make");
        assert_eq!(made.data["spec"], json!({ "ttl": "5m" }));
    }
}

fn claim() -> Value {
    json!({
        "priority": 1, "holder": "me", "instance": "1", "ttl": "30s",
        "pod": { "name": "p", "uid": "u", "container": "c", "start": "s" },
    })
}

fn permit() -> Value {
    with(&with(&claim(), "semaphore", json!("warehouse")), "permits", json!(2))
}

fn lease_request() -> Value {
    with(&claim(), "lease", json!("leader"))
}

/// What is refused of both kinds of claims.
async fn refuses_bad_claims(api: &Api<DynamicObject>, kind: &str, good: &Value, lock: &str) {
    let half = "a pod is named with container and start, or as a whole with neither";
    for (spec, because) in [
        (without(good, lock), lock),
        (without(good, "holder"), "holder"),
        (without(good, "instance"), "instance"),
        (with(good, lock, json!("")), &*format!("spec.{lock}")),
        (with(good, lock, json!("x".repeat(254))), "may not be more than 253"),
        (with(good, "holder", json!("x".repeat(254))), "may not be more than 253"),
        (with(good, "instance", json!("x".repeat(65))), "may not be more than 64"),
        (with(good, "ttl", json!("1s")), "ttl must be from 5s to 24h"),
        (with(good, "pod", json!({ "name": "p" })), "spec.pod.uid"),
        (with(good, "pod", json!({ "name": "p", "uid": "u", "container": "c" })), half),
        (with(good, "pod", json!({ "name": "p", "uid": "u", "start": "s" })), half),
        (with(good, "pod", json!({ "name": "p", "uid": "u", "container": "", "start": "" })), "spec.pod.container"),
        (with(good, "renewTime", json!("yesterday")), "spec.renewTime"),
        (with(good, "semafore", json!("x")), "semafore"),
    ] {
        refuses(api, kind, "bad", &spec, because).await;
    }
    for (name, pod) in [("whole", json!({ "name": "p", "uid": "u" })), ("none", Value::Null)] {
        apply(api, kind, name, &with(good, "pod", pod)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn a_permit_is_refused_with_the_reason() {
    let namespace = namespace().await;
    let api = any::<Permit>(&namespace);
    let good = permit();
    refuses_bad_claims(&api, "Permit", &good, "semaphore").await;
    for (spec, because) in [
        (with(&good, "permits", json!(0)), "greater than or equal to 1"),
        (with(&good, "permits", json!(1_000_001)), "less than or equal to 1000000"),
    ] {
        refuses(&api, "Permit", "bad", &spec, because).await;
    }
}

#[tokio::test]
async fn a_lease_request_is_refused_with_the_reason() {
    let namespace = namespace().await;
    let api = any::<LeaseRequest>(&namespace);
    refuses_bad_claims(&api, "LeaseRequest", &lease_request(), "lease").await;
    refuses(&api, "LeaseRequest", "bad", &with(&lease_request(), "permits", json!(1)), "permits").await;
}

#[tokio::test]
async fn of_a_claim_only_the_renewal_time_changes() {
    let namespace = namespace().await;
    let permits = (any::<Permit>(&namespace), "Permit", permit(), vec!["semaphore", "permits"]);
    let lease_requests = (any::<LeaseRequest>(&namespace), "LeaseRequest", lease_request(), vec!["lease"]);
    for (api, kind, good, own) in [permits, lease_requests] {
        apply(&api, kind, "mine", &good).await.expect("make");
        for field in ["priority", "holder", "instance", "ttl", "pod"].into_iter().chain(own) {
            let other = match field {
                "permits" | "priority" => json!(3),
                "ttl" => json!("31s"),
                "pod" => json!({ "name": "p", "uid": "other", "container": "c", "start": "s" }),
                _ => json!("other"),
            };
            refuses(&api, kind, "mine", &with(&good, field, other), &format!("{field} cannot change")).await;
        }
        for field in ["ttl", "pod"] {
            refuses(&api, kind, "mine", &without(&good, field), "only renewTime can change").await;
        }
        let renewed = with(&good, "renewTime", json!("2030-01-01T00:00:00.000001Z"));
        let renewed = apply(&api, kind, "mine", &renewed).await.expect("renew");
        assert_eq!(renewed.data["spec"]["renewTime"], "2030-01-01T00:00:00.000001Z");
    }
}

#[tokio::test]
async fn a_barrier_is_refused_with_the_reason() {
    let namespace = namespace().await;
    let api = any::<Barrier>(&namespace);
    let good = json!({ "expected": 3, "timeout": "5m" });
    let (timeout, reset) = ("timeout must be from 1s to 8760h", "resetAfter must be from 1s to 8760h");
    for (spec, because) in [
        (json!({}), "expected"),
        (with(&good, "expected", json!(0)), "greater than or equal to 1"),
        (with(&good, "expected", json!(100_001)), "less than or equal to 100000"),
        (with(&good, "quorum", json!(0)), "greater than or equal to 1"),
        (with(&good, "quorum", json!(4)), "quorum must not exceed expected"),
        (json!({ "expected": 3, "quorum": 2 }), "quorum counts once timeout has passed: set timeout too"),
        (with(&good, "timeout", json!("0s")), timeout),
        (with(&good, "timeout", json!("-1m")), "spec.timeout"),
        (with(&good, "timeout", json!("8761h")), timeout),
        (with(&good, "resetAfter", json!("500ms")), reset),
        (with(&good, "resetAfter", json!("8760h1s")), reset),
        (with(&good, "expect", json!(3)), "expect"),
    ] {
        refuses(&api, "Barrier", "bad", &spec, because).await;
    }
    apply(&api, "Barrier", "good", &with(&good, "quorum", json!(3))).await.expect("make");
}

#[tokio::test]
async fn an_arrival_never_changes() {
    let namespace = namespace().await;
    let api = any::<Arrival>(&namespace);
    let good = json!({ "barrier": "b", "holder": "h", "key": "k" });
    apply(&api, "Arrival", "mine", &good).await.expect("make");
    for field in ["barrier", "holder", "key"] {
        refuses(&api, "Arrival", "bad", &without(&good, field), field).await;
        refuses(&api, "Arrival", "bad", &with(&good, field, json!("")), field).await;
        refuses(&api, "Arrival", "bad", &with(&good, field, json!("x".repeat(254))), "may not be more than 253").await;
        refuses(&api, "Arrival", "mine", &with(&good, field, json!("other")), "an arrival cannot change").await;
    }
    refuses(&api, "Arrival", "bad", &with(&good, "round", json!(1)), "round").await;
    // Whose it is, is said at once or never.
    let pod = json!({ "name": "p", "uid": "u" });
    refuses(&api, "Arrival", "mine", &with(&good, "pod", pod.clone()), "an arrival cannot change").await;
    refuses(&api, "Arrival", "bad", &with(&good, "pod", json!({ "name": "p" })), "spec.pod.uid").await;
    let half = with(&good, "pod", json!({ "name": "p", "uid": "u", "container": "c" }));
    refuses(&api, "Arrival", "bad", &half, "a pod is named with container and start, or as a whole with neither").await;
    let of_pod = with(&with(&good, "pod", pod), "key", json!("of-pod"));
    let of_pod = with(&of_pod, "holder", json!("p"));
    apply(&api, "Arrival", "of-pod", &of_pod).await.expect("make");
    refuses(&api, "Arrival", "of-pod", &without(&of_pod, "pod"), "an arrival cannot change").await;
    let another = with(&of_pod, "pod", json!({ "name": "q", "uid": "v" }));
    refuses(&api, "Arrival", "of-pod", &another, "an arrival cannot change").await;
    let found = api.list(&ListParams::default().fields("spec.barrier=b,spec.holder=h")).await.expect("list");
    assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["mine"]);
}

#[tokio::test]
async fn a_gate_is_refused_with_the_reason() {
    let namespace = namespace().await;
    let api = any::<Gate>(&namespace);
    let good = json!({ "type": "Job", "name": "j", "state": "Complete" });
    let selecting = json!({ "type": "Job", "selector": { "matchLabels": { "a": "b" } }, "state": "Complete" });
    let expression = |operator: &str, values: Value| {
        with(
            &selecting,
            "selector",
            json!({ "matchExpressions": [{ "key": "a", "operator": operator, "values": values }] }),
        )
    };
    let (one, state) = ("a condition needs either name or selector", "a Job can be Complete, Failed or Active");
    let (value, values) = ("value is for a Semaphore", "In and NotIn need values, Exists and DoesNotExist take none");
    for (condition, because) in [
        (json!({}), "type"),
        (without(&good, "name"), one),
        (with(&selecting, "name", json!("j")), one),
        (with(&good, "type", json!("Pod")), r#"supported values: "Job", "Semaphore", "Barrier", "Lease", "Gate""#),
        (with(&good, "state", json!("Open")), state),
        (with(&good, "state", json!("Succeeded")), r#"supported values: "Complete""#),
        (json!({ "type": "Lease", "name": "l", "state": "Full" }), state),
        (json!({ "type": "Semaphore", "name": "s", "state": "Acquired" }), state),
        (json!({ "type": "Barrier", "name": "b", "state": "Complete" }), state),
        (json!({ "type": "Gate", "name": "g", "state": "Failed" }), state),
        (with(&good, "value", json!(2)), value),
        (with(&with(&selecting, "value", json!(2)), "pick", json!("Newest")), value),
        (json!({ "type": "Semaphore", "name": "s", "state": "Full", "value": 2 }), value),
        (with(&selecting, "value", json!(0)), "greater than or equal to 1"),
        (with(&good, "pick", json!("Newest")), "pick is for a selector"),
        (with(&selecting, "pick", json!("Oldest")), r#"supported values: "All", "Newest""#),
        (with(&selecting, "selector", json!({})), "a selector needs matchLabels or matchExpressions"),
        (
            with(&selecting, "selector", json!({ "matchLabels": {} })),
            "a selector needs matchLabels or matchExpressions",
        ),
        (expression("In", json!([])), values),
        (expression("Exists", json!(["x"])), values),
        (expression("Like", json!(["x"])), r#"supported values: "In", "NotIn", "Exists", "DoesNotExist""#),
        (with(&good, "namespace", json!("x".repeat(64))), "may not be more than 63"),
        (with(&good, "kind", json!("Job")), "kind"),
    ] {
        refuses(&api, "Gate", "bad", &json!({ "conditions": [condition] }), because).await;
    }
    let spec = json!({ "conditions": [good] });
    for (spec, because) in [
        (json!({}), "conditions"),
        (json!({ "conditions": [] }), "a gate without conditions is opened and closed by hand: set override"),
        (json!({ "conditions": vec![good.clone(); 33] }), "must have at most 32 items"),
        (with(&spec, "match", json!("Some")), r#"supported values: "All", "Any""#),
        (with(&spec, "override", json!("Shut")), r#"supported values: "Open", "Closed""#),
        (with(&spec, "timeout", json!("0s")), "timeout must be from 1s to 8760h"),
    ] {
        refuses(&api, "Gate", "bad", &spec, because).await;
    }
    let semaphores =
        json!({ "type": "Semaphore", "selector": { "matchLabels": { "a": "b" } }, "state": "Available", "value": 2 });
    let all = json!({ "conditions": [good, selecting, expression("NotIn", json!(["x"])), semaphores] });
    let made = apply(&api, "Gate", "good", &all).await.expect("make");
    assert_eq!(made.data["spec"]["match"], "All");
    let by_hand = json!({ "conditions": [], "override": "Closed" });
    apply(&api, "Gate", "by-hand", &by_hand).await.expect("make");
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
async fn claims_are_found_by_their_fields() {
    let namespace = namespace().await;
    for (api, kind, lock) in
        [(any::<Permit>(&namespace), "Permit", "semaphore"), (any::<LeaseRequest>(&namespace), "LeaseRequest", "lease")]
    {
        for (name, on, holder, pod) in [("a", "s", "x", "1"), ("b", "s", "y", "2"), ("c", "t", "y", "3")] {
            let pod = json!({ "name": "p", "uid": pod, "container": "c", "start": "s" });
            let spec = json!({ lock: on, "holder": holder, "instance": name, "pod": pod });
            apply(&api, kind, name, &spec).await.expect("make");
        }
        for (selector, expected) in [
            (&*format!("spec.{lock}=s"), vec!["a", "b"]),
            ("spec.holder=y", vec!["b", "c"]),
            ("spec.pod.uid=3", vec!["c"]),
            (&*format!("spec.{lock}=s,spec.holder=y"), vec!["b"]),
        ] {
            let found = api.list(&ListParams::default().fields(selector)).await.expect("list");
            assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), expected, "{kind}: {selector}");
        }
    }
}

#[tokio::test]
async fn tables_answer_the_first_question() {
    let namespace = namespace().await;
    for (resource, expected) in [
        ("semaphores", "Name, Phase, Permits, In use, Waiting, Age, Holders, Term"),
        ("permits", "Name, Semaphore, Phase, Permits, Ahead, Holder, Held, Renewed, Age, Token, Priority, Message"),
        ("leases", "Name, Phase, Holder, Since, Waiting, Age, Token, Term"),
        ("leaserequests", "Name, Lease, Phase, Ahead, Holder, Held, Renewed, Age, Token, Priority, Message"),
        ("barriers", "Name, Phase, Arrived, Expected, Round, Age, Opened, Message"),
        ("arrivals", "Name, Barrier, Holder, Age, Key, Pod"),
        ("gates", "Name, Phase, Met, Total, Override, Age, Message"),
    ] {
        let request = http::Request::get(format!("/apis/konductor.io/v1/namespaces/{}/{resource}", namespace.name))
            .header(http::header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .expect("a request");
        let table: Value = namespace.client.request(request).await.expect("a table");
        let columns = table["columnDefinitions"].as_array().expect("columns").iter();
        let names: Vec<_> = columns.map(|column| column["name"].as_str().expect("a name")).collect();
        assert_eq!(names.join(", "), expected);
    }
}

/// As the chart installs it with `admission.mode=Off`.
#[tokio::test]
async fn without_admission_policies_only_rights_decide_who_writes_what() {
    let namespace = namespace().await;
    let mut objects = helm_template("off", &namespace.name, &[("crds.enabled", "false"), ("admission.mode", "Off")]);
    let kind = |object: &DynamicObject| object.types.as_ref().map_or(String::new(), |types| types.kind.clone());
    assert!(!objects.iter().any(|object| kind(object).starts_with("Validating")), "no policies");
    objects.retain(|object| kind(object) == "ClusterRole");
    konductor_tests::apply(&namespace.client, &namespace.name, &objects).await;
    namespace.bind_cluster_role("default", "off-konductor-workload").await;
    for pod in ["mine", "others"] {
        namespace.pod(pod, "default", &["main"]).await;
    }
    let client = konductor_tests::client(&namespace.pod_kubeconfig("mine").await).await;
    let api: Api<Permit> = Api::default_namespaced(client);
    let uid = namespace.api::<Pod>().get("others").await.expect("read a pod").uid();
    for pod in [json!({ "name": "others", "uid": uid }), Value::Null] {
        let spec = json!({ "semaphore": "s", "holder": "h", "instance": "i", "pod": pod });
        let permit = serde_json::from_value(json!({ "metadata": { "name": "theirs" }, "spec": spec }));
        api.create(&PostParams::default(), &permit.expect("a claim")).await.expect("create");
        let renewal = Patch::Merge(json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } }));
        api.patch("theirs", &PatchParams::default(), &renewal).await.expect("renew");
        api.delete("theirs", &DeleteParams::default()).await.expect("delete");
    }
}

#[tokio::test]
async fn names_are_short_and_in_a_category() {
    let namespace = namespace().await;
    let request = http::Request::get("/apis/konductor.io/v1").body(Vec::new()).expect("a request");
    let list: Value = namespace.client.request(request).await.expect("a list");
    let mut short = Vec::new();
    for resource in list["resources"].as_array().expect("resources") {
        let name = resource["name"].as_str().expect("a name");
        if !name.contains('/') {
            assert_eq!(resource["categories"], json!(["konductor"]), "{name}");
            short.push(format!("{name} {}", resource["shortNames"]));
        }
    }
    short.sort();
    let expected = [
        r#"arrivals ["arr"]"#,
        r#"barriers ["bar"]"#,
        r#"gates ["gt"]"#,
        r#"leaserequests ["lreq"]"#,
        r#"leases ["klease"]"#,
        r#"permits ["pmt"]"#,
        r#"semaphores ["sem"]"#,
    ];
    assert_eq!(short, expected);
}

#[tokio::test]
async fn kubectl_takes_lease_for_kubernetes_own() {
    let namespace = namespace().await;
    apply(&any::<Lease>(&namespace), "Lease", "of-konductor", &json!({})).await.expect("make");
    let kubernetes_own = json!({ "metadata": { "name": "of-kubernetes" }, "spec": { "holderIdentity": "somebody" } });
    let kubernetes_own = serde_json::from_value(kubernetes_own).expect("a Lease of coordination.k8s.io");
    let coordination: Api<k8s_openapi::api::coordination::v1::Lease> = namespace.api();
    coordination.create(&PostParams::default(), &kubernetes_own).await.expect("make Kubernetes' own");
    let kubeconfig = namespace.user_kubeconfig("person", Some("system:masters"));
    for (word, expected) in [
        ("lease", "lease.coordination.k8s.io/of-kubernetes\n"),
        ("leases", "lease.coordination.k8s.io/of-kubernetes\n"),
        ("leases.konductor.io", "lease.konductor.io/of-konductor\n"),
        ("lease.konductor.io", "lease.konductor.io/of-konductor\n"),
        ("klease", "lease.konductor.io/of-konductor\n"),
        ("konductor", "lease.konductor.io/of-konductor\n"),
    ] {
        let mut kubectl = Command::new("kubectl");
        // What it remembers of other clusters at this address is none of this one.
        kubectl.arg("--cache-dir").arg(kubeconfig.with_file_name("cache")).arg("--kubeconfig").arg(&kubeconfig);
        kubectl.args(["get", word, "--output", "name"]);
        let output = kubectl.output().unwrap_or_else(|error| {
            panic!("cannot run kubectl ({error}): install it, see https://kubernetes.io/docs/tasks/tools/")
        });
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out, expected, "kubectl get {word}: {err}");
    }
}
