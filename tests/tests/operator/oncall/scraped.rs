//! A real Prometheus scrapes the operator, by the configuration that a `PodMonitor` makes.

use std::path::Path;

use konductor_api::{Arrival, Barrier, Gate, Lease};
use konductor_tests::{eventually, get_as, helm_template, metrics_address, workspace};
use kube::api::PostParams;
use serde_json::{Map, Value, json};

use super::{
    dashboard::{dashboard, expanded, queries},
    prometheus::{Prometheus, promtool},
    rules::{RULES, alerts},
};
use crate::cluster::{LIMIT, Scene, namespace, shared};

#[tokio::test]
async fn promtool_finds_nothing_amiss_in_the_metrics() {
    let operator = shared().await;
    let (status, answer) = get_as(operator, "/metrics", "*/*").await;
    let (head, metrics) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(status.contains("200") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert_eq!(promtool(&["check", "metrics"], metrics), "");
}

/// The chart's `PodMonitor`: the labels that it selects, its only endpoint, and the label that names the job. The pods
/// of its Deployment have these labels, and a port of the endpoint's name.
fn monitor() -> (Value, Value, String) {
    let objects = helm_template("konductor", "konductor-system", &[("metrics.podMonitor.enabled", "true")]);
    let of_kind = |kind: &str| {
        let found = objects.iter().find(|object| object.types.as_ref().is_some_and(|types| types.kind == kind));
        found.unwrap_or_else(|| panic!("the chart has no {kind}")).data["spec"].clone()
    };
    let (monitor, pod) = (of_kind("PodMonitor"), of_kind("Deployment")["template"].clone());
    let labels = monitor["selector"]["matchLabels"].clone();
    for (label, value) in labels.as_object().expect("labels") {
        assert_eq!(&pod["metadata"]["labels"][label], value, "the pods have another {label}");
    }
    let endpoint = monitor["podMetricsEndpoints"][0].clone();
    let ports = pod["spec"]["containers"][0]["ports"].as_array().expect("ports");
    assert!(ports.iter().any(|port| port["name"] == endpoint["port"] && port["containerPort"] == 8080), "{ports:?}");
    (labels, endpoint, monitor["jobLabel"].as_str().expect("a job").to_owned())
}

/// How discovery calls a pod's label.
fn discovered(label: &str) -> String {
    format!("__meta_kubernetes_pod_label_{}", label.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// What discovery says of a pod with these labels, which is this process of the machine. Debian's Prometheus has no
/// discovery of Kubernetes, so the test says it.
fn target(address: &str, labels: &Value, port: &str) -> Value {
    let of_pod = labels.as_object().expect("labels").iter().map(|(label, value)| (discovered(label), value.clone()));
    let others = [
        ("__meta_kubernetes_namespace", "konductor-system"),
        ("__meta_kubernetes_pod_name", "operator-a"),
        ("__meta_kubernetes_pod_container_name", "operator"),
        ("__meta_kubernetes_pod_container_port_name", port),
    ];
    let others = others.map(|(label, value)| (label.to_owned(), Value::from(value)));
    let labels: Map<String, Value> = of_pod.chain(others).collect();
    json!([{ "targets": [address], "labels": labels }])
}

/// What the operator of Prometheus makes of a `PodMonitor` with these labels, this endpoint and this label of the job;
/// but for where its pods are found, and more often.
fn configuration(targets: &Path, labels: &Value, endpoint: &Value, job: &str) -> String {
    let keep = |label: &str, value: &str| json!({ "action": "keep", "source_labels": [label], "regex": value });
    let name = |label: &str, target: &str| json!({ "source_labels": [label], "target_label": target });
    let labels = labels.as_object().expect("labels").iter();
    let mut relabelings: Vec<_> =
        labels.map(|(label, value)| keep(&discovered(label), value.as_str().expect("text"))).collect();
    relabelings.extend([
        keep("__meta_kubernetes_pod_container_port_name", endpoint["port"].as_str().expect("a port")),
        name(&discovered(job), "job"),
        name("__meta_kubernetes_namespace", "namespace"),
        name("__meta_kubernetes_pod_container_name", "container"),
        name("__meta_kubernetes_pod_name", "pod"),
    ]);
    let job = json!({
        "job_name": "podMonitor/konductor-system/konductor-operator/0",
        "honor_labels": endpoint["honorLabels"],
        "metrics_path": "/metrics",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "file_sd_configs": [{ "files": [targets] }],
        "relabel_configs": relabelings,
    });
    let rules = workspace().join(RULES);
    json!({ "global": { "evaluation_interval": "1s" }, "rule_files": [rules], "scrape_configs": [job] }).to_string()
}

/// One of everything, so that no panel is empty.
async fn everything(scene: &Scene) {
    scene.semaphore("warehouse", 1).await;
    scene.claim("warehouse", "first").await;
    scene.granted("first").await;
    scene.claim("warehouse", "second").await;
    scene.ahead("second", 0).await;
    scene.release("first").await;
    scene.granted("second").await;
    Scene::<Lease>::of(scene.namespace.clone()).create("report", &json!({})).await;
    let barrier = json!({ "metadata": { "name": "loaded" }, "spec": { "expected": 2 } });
    let barrier: Barrier = serde_json::from_value(barrier).expect("a barrier");
    scene.namespace.api().create(&PostParams::default(), &barrier).await.expect("create a barrier");
    let arrival =
        json!({ "metadata": { "name": "first" }, "spec": { "barrier": "loaded", "holder": "first", "key": "first" } });
    let arrival: Arrival = serde_json::from_value(arrival).expect("an arrival");
    scene.namespace.api().create(&PostParams::default(), &arrival).await.expect("arrive");
    // Who waits here, waits for as long as it takes.
    scene.create("paused", &json!({ "permits": 0, "ttl": "30m" })).await;
    scene.claim("paused", "third").await;
    scene.ahead("third", 0).await;
    let gate = json!({ "metadata": { "name": "ready" }, "spec": { "conditions": [
        { "type": "Semaphore", "name": "warehouse", "state": "Full" },
    ]}});
    let gate: Gate = serde_json::from_value(gate).expect("a gate");
    scene.namespace.api().create(&PostParams::default(), &gate).await.expect("create a gate");
}

#[tokio::test]
async fn a_prometheus_finds_the_operator_and_has_what_each_panel_and_alert_asks_for() {
    let operator = shared().await;
    let scene = namespace("scraped").await;
    everything(&scene).await;
    let (folder, (labels, endpoint, job)) = (tempfile::tempdir().expect("a folder"), monitor());
    let port = endpoint["port"].as_str().expect("a port");
    let targets = folder.path().join("targets.json");
    let address = metrics_address(operator).await.to_string();
    std::fs::write(&targets, target(&address, &labels, port).to_string()).expect("write the targets");
    let prometheus = Prometheus::start(folder.path(), &configuration(&targets, &labels, &endpoint, &job)).await;
    let name = &scene.namespace.name;
    let wanted = format!(
        r#"konductor_in_use{{namespace="{name}", kind="semaphore", name="warehouse", pod="operator-a", job="konductor"}} == 1"#
    );
    eventually(LIMIT, &wanted, || async {
        let found = prometheus.now(&wanted)?;
        if found.is_empty() { Err(format!("{:?}", prometheus.ask("targets", &[]))) } else { Ok(()) }
    })
    .await;
    let of = |kind: &str, parent: &str| format!(r#"namespace="{name}", kind="{kind}", name="{parent}""#);
    let (warehouse, paused, loaded) =
        (of("semaphore", "warehouse"), of("semaphore", "paused"), of("barrier", "loaded"));
    for wanted in [
        format!("konductor_permits{{{warehouse}}} == 1"),
        format!("konductor_permits{{{paused}}} == 0"),
        format!("konductor_waiting{{{paused}}} == 1"),
        format!("konductor_oldest_waiter_seconds{{{paused}}} > 1"),
        format!("konductor_barrier_arrived{{{loaded}}} == 1"),
        format!("konductor_barrier_expected{{{loaded}}} == 2"),
        format!(r#"konductor_build_info{{version="{}"}} == 1"#, env!("CARGO_PKG_VERSION")),
        r#"konductor_wait_seconds_count{kind="semaphore"} >= 2"#.to_owned(),
        r#"konductor_hold_seconds_count{kind="semaphore"} >= 1"#.to_owned(),
        r#"konductor_watch_restarts_total{resource="permits"} >= 0"#.to_owned(),
        "konductor_parents_left_out >= 0".to_owned(),
        "process_resident_memory_bytes > 1e6".to_owned(),
    ] {
        eventually(LIMIT, &wanted, || async {
            if prometheus.now(&wanted)?.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
        })
        .await;
    }
    for (title, query) in queries(&dashboard()) {
        let query = expanded(&query, "1m");
        eventually(LIMIT, &format!("something to show for {title}: {query}"), || async {
            let clock = prometheus.now("vector(time())")?;
            let (now, _) = clock[0].values[0];
            let found = prometheus.range(&query, (now - 60.0, now), 5.0)?;
            let has_values = found.iter().any(|series| !series.values.is_empty());
            if has_values { Ok(()) } else { Err("nothing".to_owned()) }
        })
        .await;
    }
    eventually(LIMIT, "all rules to be evaluated", || async {
        let found = prometheus.ask("rules", &[])?;
        let rules = found["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let well = rules.iter().filter(|rule| rule["health"] == "ok").count();
        if well == alerts().len() && rules.len() == well { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}
