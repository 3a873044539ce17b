//! A folder takes the manifests that a cluster takes, and what kubectl writes of them.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use http::Request;
use konductor_tests::{Binaries, ControlPlane, TestNamespace, install_crds};

/// What the API server says against this, which is not stored.
async fn cluster(namespace: &TestNamespace, kind: &str, text: &str) -> Result<(), String> {
    let path = format!("/apis/konductor.io/v1/namespaces/{}/{kind}", namespace.name);
    let request = Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"));
    let request = request.header("content-type", "application/yaml").body(text.into()).expect("a request");
    namespace.client.request_text(request).await.map(drop).map_err(|error| error.to_string())
}

/// Runs kubectl with this on its stdin; its output, or what it says against it.
fn kubectl(kubeconfig: &Path, arguments: &str, text: &str) -> Result<String, String> {
    let mut kubectl = Command::new("kubectl");
    // What it remembers of other clusters at this address is none of this one.
    kubectl.arg("--cache-dir").arg(kubeconfig.with_file_name("cache")).arg("--kubeconfig").arg(kubeconfig);
    kubectl.args(arguments.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = kubectl.spawn().unwrap_or_else(|error| {
        panic!("cannot run kubectl ({error}): install it, see https://kubernetes.io/docs/tasks/tools/")
    });
    running.stdin.take().expect("stdin is a pipe").write_all(text.as_bytes()).expect("kubectl reads");
    let output = running.wait_with_output().expect("kubectl ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(out.into_owned()) } else { Err(err.into_owned()) }
}

/// What `konductor-run` says against a folder with this in it.
fn folder(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.yaml"), text).expect("write the manifest");
    let mut run = Command::new(Binaries::built().run());
    run.arg("--local").arg(folder.path()).args(["--lease", "there-is-none", "--wait-timeout", "0", "--", "true"]);
    let output = run.output().expect("run konductor-run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Everything can be read, and there is no such lease.
    if output.status.code() == Some(78) { Ok(()) } else { Err(said) }
}

fn semaphore(metadata: &str, spec: &str, more: &str) -> String {
    format!("apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {{name: s{metadata}}}\nspec: {{{spec}}}\n{more}")
}

#[tokio::test]
async fn a_folder_takes_what_a_cluster_takes() {
    let namespace = ControlPlane::shared().await.namespace("manifests").await;
    install_crds(&namespace.client).await;
    let good = semaphore("", "permits: 3", "");
    for (text, is_good) in [
        (good.clone(), true),
        (semaphore("", "permits: 3.0", ""), true),
        (semaphore("", "permits: 3.", ""), true),
        (semaphore("", "permits: 3e0", ""), true),
        (semaphore("", "permits: 3.5", ""), false),
        (semaphore("", "permits: \"3\"", ""), false),
        (semaphore("", "permits: -0.5", ""), false),
        (semaphore("", "permits: 1e7", ""), false),
        (semaphore("", "permits: 3, permit: 3", ""), false),
        (semaphore("", "permits: 3", "status: {}\n"), true),
        (semaphore("", "permits: 3", "status:\n"), true),
        (semaphore("", "permits: 3", "state: {}\n"), false),
        (semaphore(", creationTimestamp: null", "permits: 3", ""), true),
        (semaphore(", creationTimestamp: \"2026-01-02T03:04:05Z\"", "permits: 3", ""), true),
        (semaphore(", creationTimestamp: today", "permits: 3", ""), false),
        (semaphore(", generation: 7, uid: abc, finalizers: [], ownerReferences: []", "permits: 3", ""), true),
        (semaphore(", generateName: t", "permits: 3", ""), true),
        (semaphore(", labels: {a: b}, annotations: {c: \"1\"}", "permits: 3", ""), true),
        (semaphore(", labels: {a: 1}", "permits: 3", ""), false),
        (semaphore(", nmae: t", "permits: 3", ""), false),
        ("apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: l}\n".to_owned(), true),
        ("apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: l}\nspec: null\n".to_owned(), true),
        ("apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: l}\nspec: {ttl: 1s}\n".to_owned(), false),
    ] {
        let kind = if text.contains("Semaphore") { "semaphores" } else { "leases" };
        let cluster = cluster(&namespace, kind, &text).await;
        assert_eq!(cluster.is_ok(), is_good, "a cluster: {cluster:?}\n{text}");
        let folder = folder(&text);
        assert_eq!(folder.is_ok(), is_good, "a folder: {folder:?}\n{text}");
    }
    // Lists are kubectl's own.
    let kubeconfig = namespace.user_kubeconfig("person", Some("system:masters"));
    let item = |text: &str| text.replace('\n', "\n  ");
    let lease = "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: l}\nspec: {}\n";
    let text = format!(
        "apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: \"\"}}\nitems:\n- {}\n- {}\n",
        item(lease),
        item(&good)
    );
    let made = kubectl(&kubeconfig, "apply -f -", &text).expect("make both");
    assert_eq!(made, "lease.konductor.io/l created\nsemaphore.konductor.io/s created\n");
    assert_eq!(folder(&text), Ok(()));
    for what in ["semaphore s -o yaml", "semaphores,leases.konductor.io -o yaml --show-managed-fields"] {
        let text = kubectl(&kubeconfig, &format!("get {what}"), "").expect("what was made");
        assert_eq!(folder(&text), Ok(()), "{what}:\n{text}");
    }
}
