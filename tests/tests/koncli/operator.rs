//! What `koncli operator` tells of an installation.

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::scene::{Scene, ages, shared};

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

#[tokio::test]
async fn the_versions_of_what_is_installed_are_told_and_what_its_policies_do() {
    let scene = Scene::new("koncli-versions").await;
    let (installed, _) = shared().await;
    let (client, system) = (&installed.system.client, &installed.system.name);
    let labels = json!({ "app.kubernetes.io/name": "konductor", "app.kubernetes.io/component": "operator" });
    let containers = json!([{ "name": "operator", "image": "registry.example.com:5000/konductor/operator:9.9.9" }]);
    let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": containers } });
    let deployment = json!({
        "metadata": { "name": "konductor-operator", "labels": labels },
        "spec": { "replicas": 2, "selector": { "matchLabels": labels }, "template": template },
    });
    let parameters = PostParams::default();
    installed.system.api::<Deployment>().create(&parameters, &object(deployment)).await.expect("a deployment");
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

    scene.comes_to_say(&format!("operator -n {system} -o jsonpath={{.leader}}"), "shared\n").await;
    let screen = ages(&scene.prints(&format!("operator -n {system}")).await);
    let lines: Vec<_> = screen.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let version = env!("CARGO_PKG_VERSION");
    let resources = "arrivals, barriers, gates, leaserequests, leases, permits, semaphores";
    let expected = [
        format!("Namespace: {system}"),
        "Leader: shared, for AGE".to_owned(),
        "Operator: version 9.9.9, 0 of 2 ready, registry.example.com:5000/konductor/operator:9.9.9".to_owned(),
        format!(
            "Custom resources: version {version}, while the operator's is 9.9.9 (helm upgrade brings both there): {resources}"
        ),
        "Admission policies: konductor-bound, version 0.0.9: Audit and Deny".to_owned(),
        "konductor-loose, version 0.0.9: not bound, so that it does nothing".to_owned(),
    ];
    assert_eq!(lines, expected);
}
