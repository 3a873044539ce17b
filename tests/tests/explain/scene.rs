//! A namespace with an operator, and `koncli` in it.

use std::{path::Path, process::Command, time::Duration};

use konductor_api::{ClaimPhase, Permit};
use konductor_tests::{Binaries, ControlPlane, Installed, Process, TestNamespace, wait_for};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Far more than anything here takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// The operator that all tests share, and the namespace that it is installed in.
pub(crate) async fn operator() -> &'static (Installed, Process) {
    static SHARED: OnceCell<(Installed, Process)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let installed = Installed::on(ControlPlane::shared().await, true).await;
            let operator = installed.operator_alone("shared", LIMIT).await;
            (installed, operator)
        })
        .await
}

/// A namespace with an operator.
pub(crate) async fn namespace(prefix: &str) -> TestNamespace {
    operator().await;
    ControlPlane::shared().await.namespace(prefix).await
}

/// Creates an object.
pub(crate) async fn create<K>(namespace: &TestNamespace, name: &str, spec: &Value) -> K
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let object = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("an object");
    namespace.api::<K>().create(&PostParams::default(), &object).await.expect("create an object")
}

/// Creates a claim on a semaphore.
pub(crate) async fn permit(namespace: &TestNamespace, name: &str, semaphore: &str, more: &Value) -> Permit {
    let mut spec = json!({ "semaphore": semaphore, "holder": name, "instance": name });
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    create(namespace, name, &spec).await
}

/// Waits until a claim is in this phase.
pub(crate) async fn phase(namespace: &TestNamespace, name: &str, phase: ClaimPhase) -> Permit {
    let is = |permit: &Permit| permit.status.as_ref().and_then(|status| status.phase) == Some(phase);
    wait_for(&namespace.api::<Permit>(), name, LIMIT, is).await
}

/// Merges this into the status of an object, as whoever else writes it would.
pub(crate) async fn status<K>(api: &Api<K>, name: &str, status: &Value)
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.map(drop).expect("write a status");
}

/// What `koncli` says: its exit code, and its two outputs.
pub(crate) async fn koncli(kubeconfig: &Path, namespace: &TestNamespace, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(Binaries::built().koncli());
    command.args(arguments).args(["-n", &namespace.name]).env("KUBECONFIG", kubeconfig);
    let mut process = Process::spawn("koncli", command);
    let status = process.wait_exit(LIMIT).await;
    (status.code().unwrap_or(-1), process.stdout(), process.stderr())
}

/// The same text with every span replaced by `#`, and the namespace by `NS`.
pub(crate) fn steady(text: &str, namespace: &TestNamespace) -> String {
    let text = text.replace(&namespace.name, "NS");
    let mut steady = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        steady.push_str(before);
        let end = from.find(|c: char| !c.is_ascii_digit() && !"hmsd".contains(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let begins = before.ends_with([' ', '(']) || before.is_empty();
        let is_span = begins && word.ends_with(['s', 'm', 'h', 'd']);
        steady.push_str(if is_span { "#" } else { word });
        rest = after;
    }
    steady.push_str(rest);
    steady
}
