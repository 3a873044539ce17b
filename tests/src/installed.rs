//! Konductor in a control plane, as the chart installs it, with operators that are processes of the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;

use crate::access::client;
use crate::chart::{apply, helm_template, install_crds};
use crate::control_plane::ControlPlane;
use crate::namespace::TestNamespace;
use crate::process::Process;
use crate::tools::Binaries;
use crate::wait::{eventually, wait_for};

/// The operator's `ServiceAccount` in the chart.
const SERVICE_ACCOUNT: &str = "konductor-operator";

/// The lease that operators elect their leader by.
const LEASE: &str = "konductor-operator";

/// A policy is in force about a second after it is written; the rest is for a busy machine.
const POLICY_LIMIT: Duration = Duration::from_mins(2);

/// A control plane where Konductor is installed, but for the operator itself.
#[derive(Debug)]
pub struct Installed {
    /// The namespace that it is installed in.
    pub system: TestNamespace,
    kubeconfig: PathBuf,
}

impl Installed {
    /// The `ClusterRole` of those who run `konductor-run`.
    pub const WORKLOAD: &str = "konductor-workload";

    /// Installs what the chart has for permissions and admission, as it is by default, and returns when all of it is
    /// in force; the CRDs only if wanted. (Without them nobody can tell whether the admission policies are.)
    pub async fn on(control_plane: &ControlPlane, crds: bool) -> Self {
        let system = control_plane.namespace("system").await;
        if crds {
            install_crds(&system.client).await;
        }
        let mut objects = helm_template("konductor", &system.name, &[("crds.enabled", "false")]);
        objects.retain(|object| {
            let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
            kind == "ServiceAccount" || kind.contains("Role") || kind.contains("ValidatingAdmissionPolicy")
        });
        apply(&system.client, &system.name, &objects).await;
        let installed = Self::found(system).await;
        if crds {
            wait_policed(&installed.system).await;
        }
        installed
    }

    /// What a release called `konductor` has installed in this namespace. Returns when its rights are in force.
    pub async fn found(system: TestNamespace) -> Self {
        let everywhere = Api::<ClusterRole>::all(system.client.clone()).get(SERVICE_ACCOUNT).await.expect("its role");
        system.wait_allowed(SERVICE_ACCOUNT, None, &everywhere.rules.unwrap_or_default()).await;
        let here = system.api::<Role>().get(SERVICE_ACCOUNT).await.expect("its role here");
        system.wait_allowed(SERVICE_ACCOUNT, Some(&system.name), &here.rules.unwrap_or_default()).await;
        let kubeconfig = system.service_account_kubeconfig(SERVICE_ACCOUNT).await;
        Self { system, kubeconfig }
    }

    /// The kubeconfig of the operator's `ServiceAccount`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Starts an operator of this name.
    pub fn operator(&self, name: &str, arguments: &[&str]) -> Process {
        self.operator_by(name, &self.kubeconfig, arguments)
    }

    /// Starts an operator of this name for tests that share it, and returns when it leads. Its lease lasts for as long as
    /// a machine may stand still: there is nobody to take over from it, and each election raises all terms.
    pub async fn operator_alone(&self, name: &str, limit: Duration) -> Process {
        let operator = self.operator(name, &["--lease-duration", "2m"]);
        operator.wait_stderr(limit, "this process leads").await;
        operator
    }

    /// Starts an operator of this name that goes by this kubeconfig.
    pub fn operator_by(&self, name: &str, kubeconfig: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(Binaries::built().operator());
        command.args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0", "--identity", name]);
        if !arguments.contains(&"--log") {
            command.args(["--log", "info,konductor_operator=debug"]);
        }
        command.args(arguments).env("KUBECONFIG", kubeconfig);
        Process::spawn(name, command)
    }

    /// Waits until the operator of this name is the elected leader.
    pub async fn wait_leader(&self, name: &str, limit: Duration) {
        wait_for(&self.system.api::<Lease>(), LEASE, limit, |lease| {
            lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(name)
        })
        .await;
    }
}

/// Waits until the admission policies are in force: who is no pod cannot speak for one.
async fn wait_policed(system: &TestNamespace) {
    let (account, pod) = ("nobody-in-particular", json!({ "name": "p", "uid": "u" }));
    system.service_account(account).await;
    system.bind_cluster_role(account, Installed::WORKLOAD).await;
    let client = client(&system.service_account_kubeconfig(account).await).await;
    for (kind, spec) in [
        ("Permit", json!({ "semaphore": "s", "holder": "h", "instance": "i", "pod": pod })),
        ("Arrival", json!({ "barrier": "b", "holder": "h", "key": "k", "pod": pod })),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("konductor.io", "v1", kind));
        let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
        let object = json!({
            "apiVersion": "konductor.io/v1", "kind": kind, "metadata": { "name": "probe" }, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        eventually(POLICY_LIMIT, &format!("{kind}s are policed"), || async {
            match api.create(&dry_run, &object).await {
                Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}
