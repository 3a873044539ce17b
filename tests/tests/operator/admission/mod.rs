//! Who may write which claim and arrival, with the chart's admission policies, and with tokens as kubelets project them.
//!
//! All who ask here have the same rights by RBAC, more than workloads need, so that it is the policies that refuse.

mod clients;
mod elsewhere;
mod kubernetes;
mod matrix;

use std::path::Path;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use konductor_tests::{ControlPlane, Installed, TestNamespace, client};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::cluster::shared;

/// A control plane with controllers, as the chart installs Konductor there, and no operator.
pub(crate) async fn controlled() -> &'static (ControlPlane, Installed) {
    static CONTROLLED: OnceCell<(ControlPlane, Installed)> = OnceCell::const_new();
    CONTROLLED
        .get_or_init(|| async {
            let mut control_plane = ControlPlane::start().await;
            control_plane.start_controllers();
            let installed = Installed::on(&control_plane, true).await;
            (control_plane, installed)
        })
        .await
}

/// A namespace with two running pods of one `ServiceAccount`, and others who ask for things.
struct Scene {
    namespace: TestNamespace,
    /// What `spec.pod` says of the first pod.
    first: Value,
    second: Value,
}

impl Scene {
    /// Where the shared operator is.
    async fn new(prefix: &str) -> Self {
        shared().await;
        Self::of(ControlPlane::shared().await.namespace(prefix).await).await
    }

    async fn of(namespace: TestNamespace) -> Self {
        namespace.service_account("worker").await;
        namespace.allow("worker", &everything()).await;
        let mut pods = Vec::new();
        for name in ["first", "second"] {
            let pod = namespace.pod(name, "worker", &["main"]).await;
            pods.push(json!({ "name": name, "uid": pod.uid().expect("a UID") }));
        }
        let [first, second] = pods.try_into().expect("two pods");
        Self { namespace, first, second }
    }

    /// With the token of this pod.
    async fn pod(&self, name: &str) -> Client {
        client(&self.namespace.pod_kubeconfig(name).await).await
    }

    /// With a token of the pods' `ServiceAccount` that is bound to no pod.
    async fn unbound(&self) -> Client {
        client(&self.namespace.service_account_kubeconfig("worker").await).await
    }

    /// With a token of a `ServiceAccount` that has the pods' rights and may do this, too.
    async fn with_verb(&self, name: &str, verb: &str) -> Client {
        self.namespace.service_account(name).await;
        self.namespace.allow(name, &everything()).await;
        self.namespace.allow(name, &[rule(&["permits", "leaserequests", "arrivals"], &[verb])]).await;
        client(&self.namespace.service_account_kubeconfig(name).await).await
    }

    /// The pods may do this in another namespace, too.
    async fn allow_in(&self, other: &Self, rules: &[PolicyRule]) {
        let role = json!({ "metadata": { "generateName": "guests-" }, "rules": rules });
        let role: Role = serde_json::from_value(role).expect("a role");
        let role = other.namespace.api().create(&PostParams::default(), &role).await.expect("create a role");
        let binding = json!({
            "metadata": { "generateName": "guests-" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role.name_any() },
            "subjects": [{ "kind": "ServiceAccount", "name": "worker", "namespace": self.namespace.name }],
        });
        let binding: RoleBinding = serde_json::from_value(binding).expect("a binding");
        other.namespace.api().create(&PostParams::default(), &binding).await.expect("bind the role");
        self.namespace.wait_allowed("worker", Some(&other.namespace.name), rules).await;
    }

    /// As a user who may do everything, in this namespace.
    async fn admin(&self) -> Client {
        client(&self.namespace.user_kubeconfig("root", Some("system:masters"))).await
    }

    /// With a certificate, and the pods' rights.
    async fn person(&self, name: &str) -> Client {
        let role = self.namespace.api::<RoleBinding>().list(&ListParams::default()).await.expect("list the bindings");
        let of_worker =
            role.items.iter().find(|binding| binding.subjects.iter().flatten().any(|subject| subject.name == "worker"));
        let binding = json!({
            "metadata": { "name": format!("person-{name}") },
            "roleRef": of_worker.expect("the binding of the pods' account").role_ref,
            "subjects": [{ "kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io" }],
        });
        let binding: RoleBinding = serde_json::from_value(binding).expect("a binding");
        self.namespace.api().create(&PostParams::default(), &binding).await.expect("bind the role");
        let client = client(&self.namespace.user_kubeconfig(name, None)).await;
        let api = objects(&client, "Permit");
        konductor_tests::eventually(crate::cluster::LIMIT, &format!("{name} may list"), || async {
            api.list(&ListParams::default()).await.map(drop)
        })
        .await;
        client
    }
}

/// What all have who ask here.
fn everything() -> [PolicyRule; 1] {
    [rule(
        &["permits", "leaserequests", "arrivals", "barriers"],
        &["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"],
    )]
}

fn rule(resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec!["konductor.io".into()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// The objects of this kind in the client's namespace.
fn objects(client: &Client, kind: &str) -> Api<DynamicObject> {
    Api::default_namespaced_with(client.clone(), &resource(kind))
}

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("konductor.io", "v1", kind))
}

/// A claim or arrival of this name that speaks for this pod (null: for none), with more in its metadata and spec.
fn object(kind: &str, name: &str, pod: &Value, metadata: &Value, spec: &Value) -> DynamicObject {
    let mut object = json!({ "apiVersion": "konductor.io/v1", "kind": kind, "metadata": { "name": name } });
    object["spec"] = match kind {
        "Permit" => json!({ "semaphore": "nowhere", "holder": "h", "instance": name }),
        "LeaseRequest" => json!({ "lease": "nowhere", "holder": "h", "instance": name }),
        _ => json!({ "barrier": "nowhere", "holder": "h", "key": name }),
    };
    if !pod.is_null() {
        object["spec"]["pod"] = pod.clone();
    }
    for (part, more) in [("metadata", metadata), ("spec", spec)] {
        object[part].as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    }
    serde_json::from_value(object).expect("an object")
}

async fn create(client: &Client, object: &DynamicObject) -> Result<DynamicObject, kube::Error> {
    let kind = object.types.as_ref().expect("a kind").kind.clone();
    objects(client, &kind).create(&PostParams::default(), object).await
}

async fn merge(client: &Client, kind: &str, name: &str, patch: &Value) -> Result<DynamicObject, kube::Error> {
    objects(client, kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

async fn delete(client: &Client, kind: &str, name: &str) -> Result<(), kube::Error> {
    objects(client, kind).delete(name, &DeleteParams::default()).await.map(drop)
}

/// What a policy says, which must be the one to refuse.
fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> String {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 && status.reason == "Forbidden" => {
            let (_, said) = status.message.split_once("denied request: ").unwrap_or_else(|| panic!("{status:?}"));
            assert!(status.message.contains("ValidatingAdmissionPolicy 'konductor-"), "{status:?}");
            said.to_owned()
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// The objects in the YAML blocks of a page.
fn shown_in(page: &Path) -> Vec<DynamicObject> {
    let text = std::fs::read_to_string(page).unwrap_or_else(|error| panic!("read {}: {error}", page.display()));
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(konductor_tests::parse).collect()
}
