//! Holding without `konductor-run`: scripts and init containers that acquire and release with `koncli`, and what people see
//! of it with kubectl's plugin.

use std::os::unix::fs::symlink;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use konductor_api::ClaimPhase;
use konductor_tests::Process;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{LABEL, LIMIT, Scene, kubectl, object};
use crate::processes;
use crate::records::{NOTE, assert_in_order};
use crate::workload::uid;

/// The image that has nothing but `koncli`.
const CLI: &str = concat!("konductor/cli:", env!("CARGO_PKG_VERSION"));

/// The one that also has a shell.
const DEMO: &str = concat!("konductor/demo:", env!("CARGO_PKG_VERSION"));

/// Makes a Job of one pod with these containers, of which the last one is no init container.
async fn job(scene: &Scene, name: &str, mut containers: Vec<Value>) {
    let last = containers.pop().expect("a container");
    let template = json!({
        "metadata": { "labels": { LABEL: "pod" } },
        "spec": {
            "restartPolicy": "Never", "initContainers": containers, "containers": [last],
            "volumes": [{ "name": "records", "hostPath": { "path": scene.records.path(), "type": "Directory" } }],
        },
    });
    let spec = json!({ "backoffLimit": 0, "template": template });
    let job: Job = object(json!({ "metadata": { "name": name }, "spec": spec }));
    scene.api().create(&PostParams::default(), &job).await.expect("make a Job");
}

/// A container that is `koncli` alone.
fn koncli(name: &str, line: &str) -> Value {
    json!({ "name": name, "image": CLI, "args": line.split(' ').collect::<Vec<_>>() })
}

/// A container that runs a script and no konductor-run.
fn script(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": DEMO, "command": ["sh", "-c", format!("{NOTE}\n{script}")],
        "volumeMounts": [{ "name": "records", "mountPath": "/records" }],
    })
}

/// The pod of a Job.
async fn pod_of(scene: &Scene, job: &str) -> Pod {
    let theirs = ListParams::default().labels(&format!("job-name={job}"));
    konductor_tests::eventually(LIMIT, &format!("{job} has a pod"), || async {
        let pods = scene.api::<Pod>().list(&theirs).await.map_err(|error| error.to_string())?;
        pods.items.into_iter().next().ok_or_else(|| "none".to_owned())
    })
    .await
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn one_container_acquires_another_one_works_and_a_third_releases() {
    let scene = Scene::new("init").await;
    // Nobody waits here for a time to live.
    scene.semaphore("one", json!({ "permits": 1, "ttl": "30m" })).await;
    // The token went to the log of the first container: here only the times are looked at.
    let work = "KONDUCTOR_FENCING_TOKEN=0; note start; sleep 1; note end";
    for name in ["a", "b"] {
        let containers = vec![
            koncli("take", "semaphore acquire one --timeout 3m"),
            script("work", work),
            koncli("give", "semaphore release one"),
        ];
        job(&scene, name, containers).await;
    }
    for name in ["a", "b"] {
        scene.completed(name).await;
    }
    let runs = scene.runs();
    assert!(runs.len() == 2 && runs[0].until <= runs[1].from, "one after the other: {runs:#?}");
    scene.at_rest("one").await;
    assert_eq!(scene.permits().await.len(), 0, "permits are left");
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_script_holds_what_it_has_acquired_until_it_releases_or_its_pod_is_killed() {
    let scene = Scene::new("script").await;
    scene.semaphore("one", json!({ "permits": 1, "ttl": "30m" })).await;
    let holding = |work: &str| {
        format!(
            "KONDUCTOR_FENCING_TOKEN=$(koncli semaphore acquire one --timeout 3m) || exit\n\
             note start\n{work}\nnote end\nkoncli semaphore release one"
        )
    };
    job(&scene, "killed", vec![script("work", &holding("while :; do note alive; sleep 0.1; done"))]).await;
    let killed = pod_of(&scene, "killed").await;
    scene.started(&killed.name_any()).await;
    let claim = scene.claim(&killed.name_any(), ClaimPhase::Granted).await;
    let of = claim.spec.claim.pod.expect("it is the pod's");
    assert_eq!((of.uid, of.container.as_str()), (uid(&killed), ""), "and no container's");
    job(&scene, "next", vec![script("work", &holding("sleep 1"))]).await;
    let next = pod_of(&scene, "next").await;
    scene.claim(&next.name_any(), ClaimPhase::Pending).await;

    let why = plugin(&scene, &["why", &format!("pod/{}", next.name_any())]).await;
    let (waiting, holding) = (format!("(holder {}) has waited for ", next.name_any()), killed.name_any());
    assert!(why.contains(&waiting) && why.contains(&format!("(holder {holding}) has held 1 permit")), "{why}");

    // Any pod may ask for it, with the token that the kubelet gave it: the policy tells whose claim it is.
    job(&scene, "stranger", vec![koncli("take-away", &format!("semaphore release one --holder {holding} --force"))])
        .await;
    let stranger = pod_of(&scene, "stranger").await;
    assert_eq!(scene.ended(&stranger.name_any()).await.exit_code, 77, "not permitted");
    let said = scene.kubectl(&["logs", &stranger.name_any()]).await;
    assert!(said.contains(&format!("this claim speaks for the pod {holding}")), "{said}");
    scene.claim(&holding, ClaimPhase::Granted).await;

    let shells = processes::commands_of_pod(&uid(&killed));
    assert!(!shells.is_empty(), "the script runs");
    processes::kill_all(&shells);
    scene.completed("next").await;
    let runs = scene.runs();
    assert_in_order(&runs, 1);
    assert_eq!(runs.iter().map(|run| run.ended).collect::<Vec<_>>(), [false, true], "{runs:#?}");
    scene.at_rest("one").await;
}

/// What `kubectl konductor` says, in the test's namespace: kubectl finds the program by its name.
async fn plugin(scene: &Scene, arguments: &[&str]) -> String {
    let program = std::env::var_os("KONCLI").expect("KONCLI names the static koncli; run: tests/node/test");
    let folder = tempfile::tempdir().expect("make a folder");
    symlink(program, folder.path().join("kubectl-konductor")).expect("make a link");
    let path = std::env::var("PATH").expect("a PATH");
    let mut command = kubectl();
    command.arg("konductor").args(arguments).args(["--namespace", &scene.namespace]);
    command.env("PATH", format!("{}:{path}", folder.path().display()));
    let mut process = Process::spawn("kubectl", command);
    process.expect_exit(LIMIT, 0).await;
    process.stdout()
}
