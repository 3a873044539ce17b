//! What Kubernetes itself does about claims and policies: check types, clean up, and refuse the tokens of pods that are
//! gone.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyStatus,
};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use konductor_tests::{eventually, helm_template, wait_for, wait_gone};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Scene, controlled, create, delete, merge, object, objects, refusal};
use crate::cluster::LIMIT;

/// What the API server's controllers have found out about a policy.
async fn checked(policies: &Api<ValidatingAdmissionPolicy>, name: &str) -> ValidatingAdmissionPolicyStatus {
    let policy = wait_for(policies, name, LIMIT, |policy| {
        let status = policy.status.as_ref();
        status.is_some_and(|status| {
            status.type_checking.is_some() && status.observed_generation == policy.metadata.generation
        })
    })
    .await;
    policy.status.expect("it has one")
}

fn warnings(status: &ValidatingAdmissionPolicyStatus) -> Vec<String> {
    let checking = status.type_checking.iter();
    let warnings = checking.flat_map(|checking| checking.expression_warnings.iter().flatten());
    warnings.map(|warning| format!("{}: {}", warning.field_ref, warning.warning)).collect()
}

#[tokio::test]
async fn the_types_of_the_policies_are_checked_and_right() {
    let (control_plane, _) = controlled().await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(control_plane.client().await);
    for name in ["konductor-claims", "konductor-arrivals"] {
        assert_eq!(warnings(&checked(&policies, name).await), [""; 0], "{name}");
        // The check finds what is wrong.
        let mut wrong = policies.get(name).await.expect("read a policy");
        wrong.metadata = ObjectMeta { name: Some(format!("{name}-misspelt")), ..ObjectMeta::default() };
        let validations = wrong.spec.as_mut().and_then(|spec| spec.validations.as_mut()).expect("validations");
        validations[0].expression = "object.spec.holder == object.spec.houlder".into();
        policies.create(&PostParams::default(), &wrong).await.expect("create a policy");
        let found = warnings(&checked(&policies, &wrong.name_any()).await);
        assert!(found.iter().any(|warning| warning.contains("undefined field 'houlder'")), "{found:?}");
    }
}

#[tokio::test]
async fn a_namespace_with_claims_can_be_deleted() {
    let (control_plane, _) = controlled().await;
    let scene = Scene::of(control_plane.namespace("leaving").await).await;
    let (first, unbound) = (scene.pod("first").await, scene.unbound().await);
    for kind in ["Permit", "LeaseRequest", "Arrival"] {
        create(&first, &object(kind, "of-first", &scene.first, &json!({}), &json!({}))).await.expect("create");
        create(&unbound, &object(kind, "of-none", &Value::Null, &json!({}), &json!({}))).await.expect("create");
    }
    let namespaces: Api<Namespace> = Api::all(scene.namespace.client.clone());
    namespaces.delete(&scene.namespace.name, &DeleteParams::default()).await.expect("delete a namespace");
    wait_gone(&namespaces, &scene.namespace.name, LIMIT).await;
}

#[tokio::test]
async fn in_a_namespace_that_goes_whoever_may_delete_deletes_what_speaks_for_anybody() {
    // There is no controller here: the namespace stays while it goes.
    let scene = Scene::new("going").await;
    let (first, second) = (scene.pod("first").await, scene.pod("second").await);
    let kinds = ["Permit", "LeaseRequest", "Arrival"];
    for kind in kinds {
        for name in ["goes", "stays"] {
            create(&first, &object(kind, name, &scene.first, &json!({}), &json!({}))).await.expect("create");
        }
        refusal(delete(&second, kind, "goes").await);
    }
    let namespaces: Api<Namespace> = Api::all(scene.namespace.client.clone());
    namespaces.delete(&scene.namespace.name, &DeleteParams::default()).await.expect("delete a namespace");
    for kind in kinds {
        // The API server knows a namespace from its cache.
        eventually(LIMIT, &format!("{kind}s of a namespace that goes can be deleted"), || async {
            delete(&second, kind, "goes").await.map_err(|error| error.to_string())
        })
        .await;
        // All else is as it was.
        refusal(merge(&second, kind, "stays", &json!({ "metadata": { "annotations": { "a": "b" } } })).await);
    }
}

#[tokio::test]
async fn a_deletion_in_the_foreground_removes_a_claim() {
    let (control_plane, _) = controlled().await;
    let scene = Scene::of(control_plane.namespace("foreground").await).await;
    let first = scene.pod("first").await;
    create(&first, &object("Permit", "claim", &scene.first, &json!({}), &json!({}))).await.expect("create");
    // It gets a finalizer, which the garbage collector takes away.
    let foreground = DeleteParams::foreground();
    objects(&first, "Permit").delete("claim", &foreground).await.expect("delete");
    wait_gone(&objects(&first, "Permit"), "claim", LIMIT).await;
}

#[tokio::test]
async fn the_token_of_a_pod_that_is_gone_is_refused() {
    let scene = Scene::new("gone").await;
    let first = scene.pod("first").await;
    create(&first, &object("Permit", "claim", &scene.first, &json!({}), &json!({}))).await.expect("create");
    scene.namespace.api::<Pod>().delete("first", &DeleteParams::default()).await.expect("delete a pod");
    wait_gone(&scene.namespace.api::<Pod>(), "first", LIMIT).await;
    // The API server remembers for some seconds that the token was good.
    eventually(LIMIT, "the token is refused", || async {
        match objects(&first, "Permit").get("claim").await {
            Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // A pod of the same name is another one.
    scene.namespace.pod("first", "worker", &["main"]).await;
    let successor = scene.pod("first").await;
    let said = refusal(delete(&successor, "Permit", "claim").await);
    assert!(
        said.contains("speaks for the pod first (UID ") && said.contains("and you are the pod first (UID "),
        "{said}"
    );
}

#[tokio::test]
async fn the_token_of_a_pod_that_does_not_go_is_refused_a_minute_after_its_end() {
    const LEEWAY: Duration = Duration::from_mins(1);
    let scene = Scene::new("lingering").await;
    let first = scene.pod("first").await;
    create(&first, &object("Permit", "claim", &scene.first, &json!({}), &json!({}))).await.expect("create");
    let pods = scene.namespace.api::<Pod>();
    let kept = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/keep"] } }));
    pods.patch("first", &PatchParams::default(), &kept).await.expect("keep a pod");
    let start = konductor::Boottime::now();
    pods.delete("first", &DeleteParams::default().grace_period(0)).await.expect("delete a pod");
    // Until then it may still release what it holds.
    eventually(LEEWAY + LIMIT, "the token is refused", || async {
        match objects(&first, "Permit").get("claim").await {
            Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The API server's times are whole seconds.
    let took = konductor::Boottime::now().since(start);
    assert!(took + Duration::from_secs(2) > LEEWAY, "refused after {took:?}");
    let there = pods.get("first").await.expect("it is still there");
    assert!(there.metadata.deletion_timestamp.is_some());
}

#[tokio::test]
async fn the_chart_installs_what_its_mode_says() {
    let scene = Scene::new("modes").await;
    let actions = |mode: &str| {
        let objects = helm_template("konductor", "system", &[("crds.enabled", "false"), ("admission.mode", mode)]);
        let kind =
            |object: &kube::api::DynamicObject| object.types.as_ref().map_or(String::new(), |types| types.kind.clone());
        let policies = objects.iter().filter(|object| kind(object) == "ValidatingAdmissionPolicy").count();
        let bindings = objects.iter().filter(|object| kind(object) == "ValidatingAdmissionPolicyBinding");
        let actions = bindings.map(|binding| binding.data["spec"]["validationActions"].clone());
        (policies, actions.collect::<Vec<_>>())
    };
    for mode in ["Deny", "Warn", "Audit"] {
        assert_eq!(actions(mode), (2, vec![json!([mode]); 2]), "{mode}");
    }
    assert_eq!(actions("Off"), (0, Vec::new()));
    // Another release's are the same, so that what an uninstalled one has left is never in force beside them.
    let others = helm_template("second", "system", &[("crds.enabled", "false"), ("admission.mode", "Audit")]);
    let of_kind = |kind: &str| {
        let these = others.iter().filter(|object| object.types.as_ref().is_some_and(|types| types.kind == kind));
        these.map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    let names = ["konductor-arrivals", "konductor-claims"];
    assert_eq!(of_kind("ValidatingAdmissionPolicy"), names);
    assert_eq!(of_kind("ValidatingAdmissionPolicyBinding"), names);
    let bindings = others
        .iter()
        .filter(|object| object.types.as_ref().is_some_and(|types| types.kind == "ValidatingAdmissionPolicyBinding"));
    assert_eq!(bindings.map(|binding| binding.data["spec"]["policyName"].clone()).collect::<Vec<_>>(), names);
    // What is installed here is the first of them.
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(scene.namespace.client.clone());
    let there = bindings.list(&ListParams::default().labels("app.kubernetes.io/name=konductor")).await.expect("list");
    let there: Vec<_> = there.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(there, ["konductor-arrivals", "konductor-claims"]);
}
