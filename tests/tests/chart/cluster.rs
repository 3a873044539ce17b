//! A cluster that one test has for itself, with kubectl and both Helms.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use konductor_tests::{ControlPlane, TestNamespace, eventually};
use kube::Api;
use kube::api::ListParams;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::helm::{CHART, Helm, output};

/// Far more than anything here takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// What the chart labels all its objects with.
const LABEL: &str = "app.kubernetes.io/name=konductor";

/// The kinds of which the chart has objects.
const KINDS: &str = "customresourcedefinitions,clusterroles,clusterrolebindings,flowschemas,\
                     prioritylevelconfigurations,deployments,services,serviceaccounts,configmaps,roles,rolebindings,\
                     poddisruptionbudgets,networkpolicies,validatingadmissionpolicies,\
                     validatingadmissionpolicybindings";

/// The control plane that these tests share. Custom resources and rights are the whole cluster's, so that each test has
/// it for itself and finds it without Konductor.
pub(crate) struct Cluster {
    pub(crate) control_plane: &'static ControlPlane,
    /// Where releases go.
    pub(crate) system: TestNamespace,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Waits for its turn.
    pub(crate) async fn alone() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let control_plane = ControlPlane::shared().await;
        let system = control_plane.namespace("system").await;
        let folder = tempfile::tempdir().expect("make a folder");
        let cluster = Self { control_plane, system, folder, _turn: turn };
        cluster.read_all().await;
        cluster.kubectl(&["delete", KINDS, "--all-namespaces", "--selector", LABEL]).expect("remove what others left");
        // Made by an operator and not by Helm.
        let elections = ["leases.coordination.k8s.io", "--field-selector", "metadata.name=konductor-operator"];
        let elections = [&["delete", "--all-namespaces"], &elections[..]].concat();
        cluster.kubectl(&elections).expect("remove the elections of others");
        cluster
    }

    /// Reads through all custom resources of Konductor. What has never been read, the API server fails to empty at
    /// first when its definition is deleted, and may try again after five minutes only.
    pub(crate) async fn read_all(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.system.client.clone());
        let ours = definitions.list(&ListParams::default().labels(LABEL)).await.expect("list the definitions");
        for definition in ours {
            let path = format!("/apis/{}/v1/{}", definition.spec.group, definition.spec.names.plural);
            eventually(LIMIT, &format!("{path} can be read"), || async {
                let request = Request::get(&path).body(Vec::new()).expect("a request");
                self.system.client.request_text(request).await.map_err(|error| error.to_string())
            })
            .await;
        }
    }

    /// What Helm says with this cluster, in the namespace of releases; or what it says against it.
    pub(crate) fn helm(&self, helm: Helm, arguments: &[&str]) -> Result<String, String> {
        self.helm_in(helm, &self.system.name, arguments)
    }

    /// As [`Cluster::helm`], in another namespace.
    pub(crate) fn helm_in(&self, helm: Helm, namespace: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = helm.command(arguments);
        command.args(["--namespace", namespace]).env("KUBECONFIG", self.control_plane.admin_kubeconfig());
        // What it remembers of other clusters at this address is none of this one.
        command.env("HOME", self.folder.path());
        output(command)
    }

    /// The objects that the release `konductor` has with these arguments, as text.
    pub(crate) fn rendered(&self, helm: Helm, chart: &Path, arguments: &[&str]) -> String {
        let chart = chart.to_str().expect("a UTF-8 path");
        let arguments = [&["template", "konductor", chart, "--namespace", &self.system.name], arguments].concat();
        helm.says(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// What kubectl says, or what it says against it.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        output(self.kubectl_command(arguments))
    }

    /// As [`Cluster::kubectl`], with this text on its stdin.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], text: &str) -> Result<String, String> {
        // A file, so that neither waits for the other.
        let mut file = tempfile::tempfile().expect("make a file");
        file.write_all(text.as_bytes()).expect("write a file");
        file.rewind().expect("rewind a file");
        let mut command = self.kubectl_command(arguments);
        command.stdin(Stdio::from(file));
        output(command)
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.control_plane.admin_kubeconfig());
        command.arg("--cache-dir").arg(self.folder.path().join("cache")).args(arguments);
        command
    }

    /// Fails if what is there is not what these objects say, whoever asks: `kubectl diff` as for `kubectl apply` and as
    /// for `kubectl apply --server-side`.
    pub(crate) fn assert_as(&self, rendered: &str) {
        for ways in [&["diff", "-f", "-"][..], &["diff", "--server-side", "--force-conflicts", "-f", "-"]] {
            let difference = self.kubectl_with(ways, rendered);
            assert_eq!(difference, Ok(String::new()), "{ways:?}");
        }
    }

    /// The chart's objects that are there, as `KIND/NAME` in order.
    pub(crate) fn installed(&self) -> Vec<String> {
        let names = self.kubectl(&["get", KINDS, "--all-namespaces", "--selector", LABEL, "--output", "name"]);
        let mut names: Vec<_> = names.expect("list what is there").lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

/// The chart, as a path.
pub(crate) fn chart() -> PathBuf {
    konductor_tests::workspace().join(CHART)
}
