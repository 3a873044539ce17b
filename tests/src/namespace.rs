//! One test's own namespace, and in it what a cluster's other parts would make: `ServiceAccount`s, permissions, pods,
//! their tokens and their ends.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::{self, Access};
use crate::wait::eventually;

/// The API server's authorizer reads roles from a cache, some milliseconds old; the rest is for a busy machine.
const PERMISSION_LIMIT: Duration = Duration::from_mins(2);

/// What a pod's status says of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// The container has not started.
    Waiting,
    /// The container runs.
    Running,
    /// It ended with this exit code.
    Terminated(i32),
}

/// A namespace of one test. It stays until its control plane ends: to delete one takes controllers.
#[derive(Clone)]
pub struct TestNamespace {
    /// The namespace's name.
    pub name: String,
    /// A client of the user who may do everything.
    pub client: Client,
    access: Access,
}

impl TestNamespace {
    pub(crate) async fn new(access: Access, prefix: &str) -> Self {
        let client = access::client(access.admin_kubeconfig()).await;
        let namespace = json!({ "metadata": { "generateName": format!("{prefix}-") } });
        let name = create::<Namespace>(&Api::all(client.clone()), namespace).await.name_any();
        let namespace = Self { name, client, access };
        // Without it no pod is admitted. Where controllers run, they may have been quicker.
        let account = object(json!({ "metadata": { "name": "default" } }));
        match namespace.api::<ServiceAccount>().create(&PostParams::default(), &account).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => panic!("create the default ServiceAccount: {error}"),
        }
        namespace
    }

    /// The objects of one kind in this namespace, as the user who may do everything.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates a `ServiceAccount`, which may do nothing yet.
    pub async fn service_account(&self, name: &str) {
        create::<ServiceAccount>(&self.api(), json!({ "metadata": { "name": name } })).await;
    }

    /// Gives a `ServiceAccount` these permissions in this namespace, and returns when they are in force.
    pub async fn allow(&self, service_account: &str, rules: &[PolicyRule]) {
        let role = json!({ "metadata": { "generateName": "allow-" }, "rules": rules });
        let role = create::<Role>(&self.api(), role).await.name_any();
        self.bind(service_account, "Role", &role).await;
        self.wait_allowed(service_account, Some(&self.name), rules).await;
    }

    /// Gives a `ServiceAccount` a `ClusterRole`'s permissions in this namespace, and returns when they are in force.
    pub async fn bind_cluster_role(&self, service_account: &str, cluster_role: &str) {
        self.bind(service_account, "ClusterRole", cluster_role).await;
        self.wait_allowed(service_account, Some(&self.name), &self.rules_of(cluster_role).await).await;
    }

    /// Gives a `ServiceAccount` a `ClusterRole`'s permissions everywhere, and returns when they are in force.
    pub async fn bind_cluster_role_everywhere(&self, service_account: &str, cluster_role: &str) {
        let binding = self.binding(service_account, "ClusterRole", cluster_role);
        create::<ClusterRoleBinding>(&Api::all(self.client.clone()), binding).await;
        self.wait_allowed(service_account, None, &self.rules_of(cluster_role).await).await;
    }

    async fn bind(&self, service_account: &str, kind: &str, role: &str) {
        create::<RoleBinding>(&self.api(), self.binding(service_account, kind, role)).await;
    }

    fn binding(&self, service_account: &str, kind: &str, role: &str) -> Value {
        json!({
            "metadata": { "generateName": format!("{role}-") },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": service_account, "namespace": self.name }],
        })
    }

    async fn rules_of(&self, cluster_role: &str) -> Vec<PolicyRule> {
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        let role =
            roles.get(cluster_role).await.unwrap_or_else(|error| panic!("read ClusterRole {cluster_role}: {error}"));
        role.rules.unwrap_or_default()
    }

    /// Waits until a `ServiceAccount` of this namespace may do what the rules say; `None` means in every namespace. One
    /// access of each rule is asked for, as a rule is in force as a whole or not at all.
    pub async fn wait_allowed(&self, service_account: &str, namespace: Option<&str>, rules: &[PolicyRule]) {
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let first = |values: &Option<Vec<String>>| values.as_ref().and_then(|values| values.first().cloned());
        for rule in rules {
            let attributes = match first(&rule.resources) {
                Some(resource) => {
                    let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
                    json!({ "resourceAttributes": {
                        "namespace": namespace, "verb": rule.verbs.first(), "group": first(&rule.api_groups),
                        "resource": resource, "subresource": subresource, "name": first(&rule.resource_names),
                    }})
                }
                None => json!({ "nonResourceAttributes": {
                    "verb": rule.verbs.first(), "path": first(&rule.non_resource_urls),
                }}),
            };
            let mut spec = json!({
                "user": format!("system:serviceaccount:{}:{service_account}", self.name),
                "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{}", self.name), "system:authenticated"],
            });
            spec.as_object_mut().expect("an object").extend(attributes.as_object().expect("an object").clone());
            let review: SubjectAccessReview = object(json!({ "metadata": {}, "spec": spec }));
            eventually(PERMISSION_LIMIT, &format!("{service_account} may do {rule:?}"), || async {
                let answer =
                    reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
                let status = answer.status.ok_or("no answer")?;
                if status.allowed { Ok(()) } else { Err(format!("denied: {}", status.reason.unwrap_or_default())) }
            })
            .await;
        }
    }

    /// A token of a `ServiceAccount`, bound to nothing else.
    pub async fn service_account_token(&self, service_account: &str) -> String {
        self.token(service_account, None).await
    }

    /// A kubeconfig of a `ServiceAccount`, with this namespace as its default one.
    pub async fn service_account_kubeconfig(&self, service_account: &str) -> PathBuf {
        let token = self.service_account_token(service_account).await;
        self.access.token_kubeconfig(&token, &self.name)
    }

    /// A kubeconfig of any user, in this group, with this namespace as its default one.
    pub fn user_kubeconfig(&self, user: &str, group: Option<&str>) -> PathBuf {
        self.access.user_kubeconfig(user, group, &self.name)
    }

    /// A kubeconfig with a pod's token, with this namespace as its default one.
    pub async fn pod_kubeconfig(&self, pod: &str) -> PathBuf {
        let token = self.pod_token(pod).await;
        self.access.token_kubeconfig(&token, &self.name)
    }

    /// The token that a kubelet would project into this pod: of the pod's `ServiceAccount`, bound to the pod by name
    /// and uid.
    pub async fn pod_token(&self, pod: &str) -> String {
        let pod = self.api::<Pod>().get(pod).await.expect("read a pod");
        let service_account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let bound = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid });
        self.token(&service_account.expect("a pod has a ServiceAccount"), Some(bound)).await
    }

    async fn token(&self, service_account: &str, bound: Option<Value>) -> String {
        // An hour, as a kubelet asks for; an audience list left empty means the API server.
        let spec = json!({ "audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound });
        let request: TokenRequest = object(json!({ "metadata": {}, "spec": spec }));
        let answer = self
            .api::<ServiceAccount>()
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .unwrap_or_else(|error| panic!("make a token of {service_account}: {error}"));
        answer.status.expect("a token request is answered with a token").token
    }

    /// Creates a pod of these containers that runs as this `ServiceAccount`. Nothing runs it: its status is the test's.
    pub async fn pod(&self, name: &str, service_account: &str, containers: &[&str]) -> Pod {
        let containers: Vec<_> =
            containers.iter().map(|container| json!({ "name": container, "image": "none" })).collect();
        let spec = json!({ "serviceAccountName": service_account, "restartPolicy": "Never", "containers": containers });
        create(&self.api(), json!({ "metadata": { "name": name }, "spec": spec })).await
    }

    /// Writes that the pod has ended, as its kubelet would: every container with its exit code, and the phase that
    /// follows from them.
    pub async fn pod_terminated(&self, pod: &str, exit_codes: &[(&str, i32)]) {
        let phase = if exit_codes.iter().all(|(_, code)| *code == 0) { "Succeeded" } else { "Failed" };
        let containers: Vec<_> =
            exit_codes.iter().map(|(container, code)| (*container, ContainerState::Terminated(*code))).collect();
        self.pod_status(pod, phase, &containers).await;
    }

    /// Writes a pod's phase and the states of its containers. With no containers, those of the status stay as they are.
    pub async fn pod_status(&self, pod: &str, phase: &str, containers: &[(&str, ContainerState)]) {
        let mut status = json!({ "phase": phase });
        if !containers.is_empty() {
            status["containerStatuses"] =
                containers.iter().map(|(name, state)| container_status(name, *state)).collect();
        }
        self.api::<Pod>()
            .patch_status(pod, &PatchParams::default(), &Patch::Merge(json!({ "status": status })))
            .await
            .unwrap_or_else(|error| panic!("write the status of pod {pod}: {error}"));
    }
}

impl Debug for TestNamespace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TestNamespace").field("name", &self.name).finish_non_exhaustive()
    }
}

fn container_status(name: &str, state: ContainerState) -> Value {
    let running = state == ContainerState::Running;
    let state = match state {
        ContainerState::Waiting => json!({ "waiting": { "reason": "ContainerCreating" } }),
        ContainerState::Running => json!({ "running": {} }),
        ContainerState::Terminated(code) => {
            json!({ "terminated": { "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" } } })
        }
    };
    json!({
        "name": name, "image": "none", "imageID": "", "restartCount": 0,
        "ready": running, "started": running, "state": state,
    })
}

/// The object that this JSON describes.
fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("make an object: {error}"))
}

async fn create<K>(api: &Api<K>, value: Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + Debug,
{
    let text = value.to_string();
    api.create(&PostParams::default(), &object(value)).await.unwrap_or_else(|error| panic!("create {text}: {error}"))
}
