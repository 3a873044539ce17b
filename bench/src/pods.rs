//! What it costs to know of the pods of holders: the ways there are, in bytes from the API server. It is why the
//! operator watches only pods that have ended, and reads others one by one when there is a reason to.

use futures::{StreamExt, stream};
use http::{Request, header::ACCEPT};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::Effort;
use crate::scene::Scene;
use crate::table::{Row, Table};

/// Creations under way at once.
const AT_ONCE: usize = 32;

/// Only the metadata of each object.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let pods: Api<Pod> = scene.namespace.api();
    let create = async |number: usize| {
        let pod = serde_json::from_value(pod(number)).expect("a Pod");
        pods.create(&PostParams::default(), &pod).await.expect("create a Pod");
        let status = Patch::Merge(json!({ "status": status(number.is_multiple_of(10)) }));
        pods.patch_status(&name(number), &PatchParams::default(), &status).await.expect("patch a status");
    };
    stream::iter(0..effort.pods).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
    let namespace = &scene.namespace.name;
    let path = |rest: &str| format!("/api/v1/namespaces/{namespace}/pods{rest}");
    let size = async |path: String, accept: &str| {
        let request = Request::get(path).header(ACCEPT, accept).body(Vec::new()).expect("a request");
        scene.namespace.client.request_text(request).await.expect("an answer").len()
    };
    let all = size(path(""), "application/json").await;
    let metadata = size(path(""), METADATA).await;
    let ended = size(path("?fieldSelector=status.phase%3DSucceeded"), "application/json").await;
    let one = size(path(&format!("/{}", name(1))), "application/json").await;
    let found = format!("{} kB", ended / 1000);
    let beside =
        format!("all pods: {} kB; their metadata alone, which does not tell: {} kB", all / 1000, metadata / 1000);
    let what = format!("a list of the ended ones of {} pods, a tenth", effort.pods);
    table.push(Row::new(what, found).beside(beside).ratio(ended as f64 / all as f64));
    let what = "a look at one pod, when a renewal was missed or a turn is near";
    let beside = format!("each change of any pod, were all of them watched: {:.1} kB", one as f64 / 1000.0);
    table.push(Row::new(what, format!("{:.1} kB", one as f64 / 1000.0)).beside(beside));
}

fn name(number: usize) -> String {
    format!("pod-{number}")
}

/// Of the size that a Job's pod has in a cluster: with variables, resources and probes.
fn pod(number: usize) -> Value {
    let variables: Vec<_> =
        (0..15).map(|one| json!({ "name": format!("VARIABLE_{one}"), "value": "x".repeat(40) })).collect();
    let container = json!({
        "name": "main", "image": "registry.example/team/image:1.2.3", "args": ["--all"], "env": variables,
        "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
    });
    json!({
        "metadata": { "name": name(number), "labels": { "job-name": "job", "team": "data", "app.kubernetes.io/name": "import" } },
        "spec": { "containers": [container], "restartPolicy": "Never" },
    })
}

fn status(ended: bool) -> Value {
    let state = if ended {
        json!({ "terminated": { "exitCode": 0, "reason": "Completed" } })
    } else {
        json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } })
    };
    let conditions: Vec<_> = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(|kind| json!({ "type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }))
        .into();
    json!({
        "phase": if ended { "Succeeded" } else { "Running" }, "conditions": conditions, "podIP": "10.1.2.3",
        "containerStatuses": [{
            "name": "main", "image": "registry.example/team/image:1.2.3", "imageID": format!("sha256:{}", "0".repeat(64)),
            "containerID": format!("containerd://{}", "0".repeat(64)), "ready": !ended, "restartCount": 0, "state": state,
        }],
    })
}
