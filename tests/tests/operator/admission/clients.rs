//! `konductor-run` and `koncli` where the policies are in force, and where a quota is.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::ResourceQuota;
use konductor_api::{Permit, Semaphore};
use konductor_tests::{Binaries, Process, TestNamespace, eventually, wait_for};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::Scene;
use crate::cluster::LIMIT;

/// `konductor-run` as the user of this kubeconfig, holding a permit of the semaphore `s` while `true` runs.
pub(super) fn run(kubeconfig: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new("env");
    command.args(["--default-signal", "--ignore-environment"]).args(["PATH=/usr/bin:/bin", "KONDUCTOR_SEMAPHORE=s"]);
    command.arg(format!("KUBECONFIG={}", kubeconfig.display()));
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(Binaries::built().run()).args(flags).args(["--", "true"]);
    Process::spawn("run", command)
}

pub(super) fn koncli(kubeconfig: &Path, variables: &[(&str, &str)], line: &str) -> Process {
    let mut command = Command::new(Binaries::built().koncli());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nowhere").env("KUBECONFIG", kubeconfig);
    command.envs(variables.iter().copied()).args(line.split(' '));
    Process::spawn("koncli", command)
}

pub(super) async fn ended(mut process: Process) -> (i32, String) {
    let code = process.wait_exit(LIMIT).await.code().unwrap_or(-1);
    (code, process.stderr())
}

/// A semaphore of one permit, and who may look at it.
pub(super) async fn semaphore(namespace: &TestNamespace) {
    let semaphore = json!({ "metadata": { "name": "s" }, "spec": { "permits": 1 } });
    let semaphore: Semaphore = serde_json::from_value(semaphore).expect("a semaphore");
    namespace.api().create(&PostParams::default(), &semaphore).await.expect("create a semaphore");
    namespace.bind_cluster_role("worker", konductor_tests::Installed::WORKLOAD).await;
}

#[tokio::test]
async fn konductor_run_says_what_a_pod_must_tell_it() {
    let scene = Scene::new("told").await;
    semaphore(&scene.namespace).await;
    // Its token is in a file of a kubeconfig, and not where it could find out its pod.
    let kubeconfig = scene.namespace.pod_kubeconfig("first").await;
    let (code, said) = ended(run(&kubeconfig, &[], &[])).await;
    assert_eq!(code, 77, "{said}");
    for words in ["speaks for no pod, and you are the pod first", "KONDUCTOR_POD_NAME", "KONDUCTOR_POD_UID"] {
        assert!(said.contains(words), "{said}");
    }
    // So it holds, and arrives.
    let uid = scene.first["uid"].as_str().expect("a UID");
    let pod = [("KONDUCTOR_POD_NAME", "first"), ("KONDUCTOR_POD_UID", uid)];
    let (code, said) = ended(run(&kubeconfig, &["--barrier", "b"], &pod)).await;
    assert_eq!(code, 0, "{said}");
    let arrivals: Api<konductor_api::Arrival> = scene.namespace.api();
    let arrivals = arrivals.list(&ListParams::default()).await.expect("list the arrivals").items;
    let [arrival] = arrivals.as_slice() else { panic!("{arrivals:?}") };
    assert_eq!(arrival.spec.pod.as_ref().map(|pod| pod.uid.as_str()), Some(uid));
    // For another pod it cannot.
    let uid = scene.second["uid"].as_str().expect("a UID");
    let (code, said) =
        ended(run(&kubeconfig, &[], &[("KONDUCTOR_POD_NAME", "second"), ("KONDUCTOR_POD_UID", uid)])).await;
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("speaks for the pod second (UID "), "{said}");
}

#[tokio::test]
async fn koncli_acquires_and_releases_in_pods_and_outside_of_them() {
    let scene = Scene::new("by-name").await;
    semaphore(&scene.namespace).await;
    let uids = [&scene.first, &scene.second].map(|pod| pod["uid"].as_str().expect("a UID").to_owned());
    let first = [("KONDUCTOR_POD_NAME", "first"), ("KONDUCTOR_POD_UID", uids[0].as_str())];
    let second = [("KONDUCTOR_POD_NAME", "second"), ("KONDUCTOR_POD_UID", uids[1].as_str())];
    let in_first = scene.namespace.pod_kubeconfig("first").await;
    let in_second = scene.namespace.pod_kubeconfig("second").await;
    let outside = scene.namespace.service_account_kubeconfig("worker").await;
    let succeeds = async |kubeconfig: &Path, variables: &[(&str, &str)], line: &str| {
        let (code, said) = ended(koncli(kubeconfig, variables, line)).await;
        assert_eq!(code, 0, "koncli {line}: {said}");
    };
    let refused = async |kubeconfig: &Path, variables: &[(&str, &str)], line: &str| {
        let (code, said) = ended(koncli(kubeconfig, variables, line)).await;
        assert_eq!(code, 77, "koncli {line}: {said}");
        assert!(said.contains("takes the verb administer on permits"), "koncli {line}: {said}");
        assert!(said.contains("konductor-edit"), "koncli {line}: {said}");
    };
    // One command acquires, others renew and release; another pod of the same account does neither.
    succeeds(&in_first, &first, "semaphore acquire s --holder etl --timeout 60s").await;
    succeeds(&in_first, &first, "semaphore renew s --holder etl").await;
    refused(&in_second, &second, "semaphore renew s --holder etl").await;
    refused(&in_second, &second, "semaphore release s --holder etl --force").await;
    succeeds(&in_first, &first, "semaphore release s --holder etl").await;
    succeeds(&outside, &[], "semaphore acquire s --holder ci --timeout 60s").await;
    succeeds(&outside, &[], "semaphore renew s --holder ci").await;
    refused(&in_first, &first, "semaphore release s --holder ci").await;
    succeeds(&outside, &[], "semaphore release s --holder ci").await;
    for (kubeconfig, variables) in [(&in_first, &first[..]), (&outside, &[])] {
        succeeds(kubeconfig, variables, "barrier arrive b").await;
    }
}

/// Kubernetes' own controller would write what is used; the API server adds to it.
async fn quota(namespace: &TestNamespace, hard: u32) {
    let quotas: Api<ResourceQuota> = namespace.api();
    let count = "count/permits.konductor.io";
    let limit = json!({ count: hard.to_string() });
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "claims" }, "spec": { "hard": limit } });
    let apply = PatchParams::apply("test").force();
    quotas.patch("claims", &apply, &Patch::Apply(&quota)).await.expect("apply a quota");
    let status = json!({ "status": { "hard": limit, "used": { count: "0" } } });
    quotas.patch_status("claims", &PatchParams::default(), &Patch::Merge(&status)).await.expect("write its status");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_waited_for() {
    let scene = Scene::new("quota").await;
    semaphore(&scene.namespace).await;
    let kubeconfig = scene.namespace.service_account_kubeconfig("worker").await;
    quota(&scene.namespace, 0).await;
    let exceeded = "exceeded quota: claims, requested: count/permits.konductor.io=1";
    // The API server knows quotas from a cache.
    let probe =
        json!({ "metadata": { "name": "probe" }, "spec": { "semaphore": "s", "holder": "h", "instance": "i" } });
    let probe: Permit = serde_json::from_value(probe).expect("a claim");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually(LIMIT, "the quota is in force", || async {
        match scene.namespace.api::<Permit>().create(&dry_run, &probe).await {
            Err(error) if error.to_string().contains(exceeded) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let (code, said) = ended(run(&kubeconfig, &["--wait-timeout", "15s"], &[])).await;
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(&format!("timed out asking for semaphore s: {exceeded}")), "{said}");
    let (code, said) = ended(run(&kubeconfig, &["--wait-timeout", "0", "--on-timeout", "skip"], &[])).await;
    // The semaphore is free: to skip the command would hide what is in the way.
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(&format!("cannot ask for semaphore s now: {exceeded}")), "{said}");
    let (code, said) = ended(koncli(&kubeconfig, &[], "semaphore acquire s --holder me --timeout 15s")).await;
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(exceeded), "{said}");

    let waiting = run(&kubeconfig, &[], &[]);
    waiting.wait_stderr(LIMIT, &format!("waiting to ask for semaphore s: {exceeded}")).await;
    quota(&scene.namespace, 1).await;
    let (code, said) = ended(waiting).await;
    assert_eq!(code, 0, "{said}");
    wait_for(&scene.namespace.api::<Semaphore>(), "s", LIMIT, |semaphore| {
        semaphore.status.as_ref().is_some_and(|status| status.in_use == Some(0))
    })
    .await;
}
