//! What `koncli operator` tells of an installation.

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::scene::{Scene, ages, shared};

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

#[tokio::test]
async fn the_versions_of_what_is_installed_are_told_and_what_its_policies_do() {
    let scene = Scene::new("koncli-versions").await;
    let (installed, _) = shared().await;
    let (client, system) = (&scene.namespace.client, &installed.system.name);
    let labels = json!({ "app.kubernetes.io/name": "konductor", "app.kubernetes.io/component": "operator" });
    let containers = json!([{ "name": "operator", "image": "registry.example.com:5000/konductor/operator:9.9.9" }]);
    let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": containers } });
    let deployment = json!({
        "metadata": { "name": "konductor-operator", "labels": labels },
        "spec": { "replicas": 2, "selector": { "matchLabels": labels }, "template": template },
    });
    let parameters = PostParams::default();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), system);
    deployments.create(&parameters, &object(deployment)).await.expect("a deployment");
    // About nothing that another test does.
    let rules =
        json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["limitranges"] }]);
    let spec = json!({ "matchConstraints": { "resourceRules": rules }, "validations": [{ "expression": "true" }] });
    let labels = json!({ "app.kubernetes.io/version": "0.0.9" });
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    for name in ["konductor-bound", "konductor-loose"] {
        let policy = json!({ "metadata": { "name": name, "labels": labels }, "spec": spec });
        policies.create(&parameters, &object(policy)).await.expect("a policy");
    }
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let bound = json!({ "policyName": "konductor-bound", "validationActions": ["Deny", "Audit"] });
    let binding = json!({ "metadata": { "name": "konductor-bound" }, "spec": bound });
    bindings.create(&parameters, &object(binding)).await.expect("a binding");

    // The chart labels them all.
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let labelled = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    definitions.patch("gates.konductor.io", &PatchParams::default(), &labelled).await.expect("a definition");

    scene.comes_to_say(&format!("operator -n {system} -o jsonpath={{.leader}}"), "shared\n").await;
    let screen = ages(&scene.prints(&format!("operator -n {system}")).await);
    let lines: Vec<_> = screen.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        format!("Namespace: {system}"),
        "Leader: shared, for AGE".to_owned(),
        "Operator: version 9.9.9, 0 of 2 ready, registry.example.com:5000/konductor/operator:9.9.9".to_owned(),
        "Custom resources: version not known: arrivals, barriers, leaserequests, leases, permits, semaphores"
            .to_owned(),
        "version 0.0.9, while the operator's is 9.9.9 (helm upgrade brings both there): gates".to_owned(),
        "Admission policies: konductor-bound, version 0.0.9: Audit and Deny".to_owned(),
        "konductor-loose, version 0.0.9: not bound, so that it does nothing".to_owned(),
    ];
    assert_eq!(lines, expected);
}
