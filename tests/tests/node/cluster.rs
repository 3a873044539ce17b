//! The cluster that these tests share, and each test's own part of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use konductor_api::{Lease, LeasePhase, Permit, Semaphore};
use konductor_tests::{Process, client, wait_for, workspace};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::processes;

/// Far more than anything here takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// Where the operator is.
pub(crate) const SYSTEM: &str = "konductor-system";

/// Marks what belongs to a test, so that `tests/node/test` can show it when the test has failed.
pub(crate) const LABEL: &str = "konductor.io/test";

/// Keeps tests that disturb what all share apart from all others.
static TURN: RwLock<()> = RwLock::const_new(());

/// How long this test has the cluster, and whether alone.
#[expect(dead_code, reason = "held, and let go of")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A test's own namespace, whose default `ServiceAccount` may take permits, and a folder that its pods share with it.
pub(crate) struct Scene {
    /// The namespace's name.
    pub(crate) namespace: String,
    /// A client that may do everything.
    pub(crate) client: Client,
    /// What the commands write down.
    pub(crate) records: TempDir,
    /// What no pod sees.
    folder: TempDir,
    _turn: Turn,
}

impl Scene {
    /// Beside other tests.
    pub(crate) async fn new(name: &str) -> Self {
        Self::with(Turn::Shared(TURN.read().await), name).await
    }

    /// Alone: for a test that disturbs the operator or the node.
    pub(crate) async fn alone(name: &str) -> Self {
        Self::with(Turn::Alone(TURN.write().await), name).await
    }

    async fn with(turn: Turn, name: &str) -> Self {
        let client = installed().await;
        let namespace = json!({ "metadata": { "generateName": format!("{name}-"), "labels": { LABEL: name } } });
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = namespaces.create(&PostParams::default(), &object(namespace)).await.expect("make a namespace");
        let records = tempfile::Builder::new().prefix("konductor-records-").tempdir().expect("make a folder");
        processes::open_to_all(records.path());
        let folder = tempfile::tempdir().expect("make a folder");
        let scene = Self { namespace: namespace.name_any(), client, records, folder, _turn: turn };
        wait_for(&scene.api::<ServiceAccount>(), "default", LIMIT, |_| true).await;
        let account = format!("{}:default", scene.namespace);
        let role = "konductor-workload";
        scene
            .kubectl(&["create", "rolebinding", "workload", "--clusterrole", role, "--serviceaccount", &account])
            .await;
        scene
    }

    /// The objects of one kind in this namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes a semaphore with this spec, and returns when the operator has accepted it.
    pub(crate) async fn semaphore(&self, name: &str, spec: Value) {
        let semaphore: Semaphore = object(json!({ "metadata": { "name": name }, "spec": spec }));
        self.api().create(&PostParams::default(), &semaphore).await.expect("make a semaphore");
        self.kubectl(&["wait", "--for=condition=Ready", &format!("semaphore/{name}"), "--timeout=3m"]).await;
    }

    /// Waits until a semaphore rests: nothing held, nobody waiting.
    pub(crate) async fn at_rest(&self, name: &str) {
        wait_for(&self.api::<Semaphore>(), name, LIMIT, |semaphore| {
            semaphore.status.as_ref().is_some_and(|status| (status.in_use, status.waiting) == (Some(0), Some(0)))
        })
        .await;
    }

    /// Waits until a lease rests: nobody has it, nobody waits for it.
    pub(crate) async fn lease_at_rest(&self, name: &str) {
        wait_for(&self.api::<Lease>(), name, LIMIT, |lease| {
            let status = lease.status.as_ref();
            status.is_some_and(|status| status.phase == Some(LeasePhase::Available) && status.waiting == Some(0))
        })
        .await;
    }

    /// The permits that there are, expired ones included.
    pub(crate) async fn permits(&self) -> Vec<Permit> {
        self.api().list(&ListParams::default()).await.expect("list the permits").items
    }

    /// A kubeconfig whose context has this namespace, and the namespace. It is gone with the scene.
    pub(crate) fn kubeconfig(&self) -> (PathBuf, String) {
        let text = std::fs::read_to_string(kubeconfig()).expect("read the node's kubeconfig");
        let mut config: Value = serde_yaml_ng::from_str(&text).expect("a kubeconfig");
        config["contexts"][0]["context"]["namespace"] = json!(self.namespace);
        let file = self.folder.path().join("kubeconfig");
        std::fs::write(&file, config.to_string()).expect("write a kubeconfig");
        (file, self.namespace.clone())
    }

    /// What kubectl says, in this namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        finish(self.start_kubectl(arguments)).await
    }

    /// A kubectl that runs on, in this namespace.
    pub(crate) fn start_kubectl(&self, arguments: &[&str]) -> Process {
        let mut command = kubectl();
        command.args(["--namespace", &self.namespace]).args(arguments);
        Process::spawn("kubectl", command)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // That of a failed test is left to be looked at.
        if !std::thread::panicking() {
            let mut command = kubectl();
            command.args(["delete", "namespace", &self.namespace, "--wait=false"]);
            let output = command.output().expect("run kubectl");
            assert!(output.status.success(), "delete a namespace: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// A client of the node, on which Konductor was installed by the first call.
async fn installed() -> Client {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let client = client(kubeconfig().as_ref()).await;
    INSTALLED
        .get_or_init(|| async {
            // Some tests kill what they find: never on somebody's real cluster.
            let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.expect("ask for nodes");
            let names: Vec<_> = nodes.iter().map(ResourceExt::name_any).collect();
            assert_eq!(names, ["konductor"], "not the node of tests/node/up; run: tests/node/test");
            install(&[]).await;
        })
        .await;
    client
}

/// Installs Konductor, or brings it to these settings. Returns when the operator is ready.
pub(crate) async fn install(options: &[&str]) {
    let mut command = Command::new(workspace().join("tests/node/install"));
    command.args(options);
    // The node's folder is found by this variable, and by those of the person, which stay.
    if let Some(folder) = std::env::var_os("KONDUCTOR_NODE_DIR") {
        command.env("KONDUCTOR_NODE_DIR", folder);
    }
    finish(Process::spawn("install", command)).await;
}

/// What helm says.
pub(crate) async fn helm(arguments: &[&str]) -> String {
    let mut command = Command::new(konductor_tests::tool("helm"));
    command.args(arguments).current_dir(workspace()).env("KUBECONFIG", kubeconfig());
    finish(Process::spawn("helm", command)).await
}

/// The node's administrator's kubectl.
pub(crate) fn kubectl() -> Command {
    let mut command = Command::new("kubectl");
    command.env("KUBECONFIG", kubeconfig());
    command
}

async fn finish(mut process: Process) -> String {
    process.expect_exit(LIMIT, 0).await;
    process.stdout()
}

fn kubeconfig() -> String {
    std::env::var("KUBECONFIG").expect("KUBECONFIG names the node of tests/node/up; run: tests/node/test")
}

/// The node's folder, which `tests/node/up` has made.
pub(crate) fn node_folder() -> PathBuf {
    Path::new(&kubeconfig()).parent().expect("the kubeconfig is a file in it").to_owned()
}

/// The object that this JSON describes.
pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    let text = value.to_string();
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Deletes an object, as its owner would.
pub(crate) async fn delete<K>(api: &Api<K>, name: &str)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.delete(name, &DeleteParams::default()).await.unwrap_or_else(|error| panic!("delete {name}: {error}"));
}
