//! What is said of a cluster by what is installed in it. These have a control plane of their own: the others share one.

use std::{path::Path, process::Command};

use konductor_tests::{Binaries, ControlPlane, Process, apply, helm_template};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::scene::{Ran, ages, ended};

/// An object that nobody else makes here.
fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

async fn koncli(kubeconfig: &Path, line: &str) -> Ran {
    let mut command = Command::new(Binaries::built().koncli());
    command.args(line.split(' ')).env_clear().env("HOME", "/nowhere").env("KUBECONFIG", kubeconfig);
    ended(Process::spawn("koncli", command)).await
}

/// The lines of a screen, with one space where there are several, and ages as AGE.
fn lines(ran: &Ran) -> Vec<String> {
    ages(&ran.stdout).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn what_is_missing_is_named_and_what_is_installed_is_told_with_its_version() {
    let control_plane = ControlPlane::start().await;
    let namespace = control_plane.namespace("bare").await;
    let (client, system) = (&namespace.client, &namespace.name);
    let ann = namespace.user_kubeconfig("ann", Some("system:masters"));
    let ran = koncli(&ann, "semaphore list").await;
    let expected = "error: the cluster does not know semaphores.konductor.io: Konductor is not installed in it\n  install Konductor: helm install konductor charts/konductor -n konductor-system --create-namespace\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (78, expected));
    let kinds = ["arrivals", "barriers", "gates", "leaserequests", "leases", "permits", "semaphores"];
    let missing = kinds.map(|kind| format!("{kind}.konductor.io")).join(", ");
    let head =
        [format!("Namespace: {system}"), "Leader: none: nothing is granted, and no barrier or gate opens".to_owned()];
    let ran = koncli(&ann, &format!("operator -n {system}")).await;
    let bare = [format!("Custom resources: not installed: {missing}"), "Admission policies: not installed".to_owned()];
    assert_eq!((ran.code, lines(&ran)), (78, [&head[..], &bare].concat()), "{}", ran.stderr);

    let mut objects = helm_template("konductor", system, &[("image.tag", "9.9.9")]);
    objects.retain(|object| {
        let kind = object.types.as_ref().map(|types| types.kind.as_str());
        matches!(kind, Some("CustomResourceDefinition" | "Deployment"))
    });
    // About nothing that is made here.
    let rules =
        json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["limitranges"] }]);
    let spec = json!({ "matchConstraints": { "resourceRules": rules }, "validations": [{ "expression": "true" }] });
    let version = "admissionregistration.k8s.io/v1";
    for name in ["konductor-bound", "konductor-loose"] {
        let metadata = json!({ "name": name, "labels": { "app.kubernetes.io/version": "0.0.9" } });
        objects.push(object(json!({
            "apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec,
        })));
    }
    let bound = json!({ "policyName": "konductor-bound", "validationActions": ["Deny", "Audit"] });
    objects.push(object(json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": "konductor-bound" },
        "spec": bound,
    })));
    apply(client, system, &objects).await;
    let ran = koncli(&ann, &format!("operator -n {system}")).await;
    let (version, kinds) = (env!("CARGO_PKG_VERSION"), kinds.join(", "));
    let installed = [
        "Operator: version 9.9.9, 0 of 2 ready, konductor/operator:9.9.9".to_owned(),
        format!(
            "Custom resources: version {version}, while the operator's is 9.9.9 (helm upgrade brings both there): {kinds}"
        ),
        "Admission policies: konductor-bound, version 0.0.9: Audit and Deny".to_owned(),
        "konductor-loose, version 0.0.9: not bound, so that it does nothing".to_owned(),
    ];
    assert_eq!((ran.code, lines(&ran)), (78, [&head[..], &installed].concat()), "{}", ran.stderr);
}
