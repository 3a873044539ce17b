//! The examples, as their pages have people run them.

use std::path::Path;

use k8s_openapi::api::batch::v1::Job;
use konductor_tests::book::Telling;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::cluster::{LABEL, Scene};
use crate::pages::on_the_node;

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn the_warehouse_is_loaded_two_tables_at_a_time() {
    let scene = told("warehouse", |page| page.ends_with("examples/warehouse/README.md")).await;

    let jobs: Vec<Job> = scene.api().list(&ListParams::default()).await.expect("list the Jobs").items;
    assert_eq!(jobs.len(), 8);
    let mut tokens = Vec::new();
    for job in jobs.iter().map(ResourceExt::name_any) {
        scene.completed(&job).await;
        let log = scene.kubectl(&["logs", &format!("job/{job}"), "--container", "load"]).await;
        let table = job.strip_prefix("load-").expect("the Jobs are named after tables");
        let loading = log.lines().find_map(|line| line.split_once(&format!(" loading {table} with fencing token ")));
        let (_, token) = loading.unwrap_or_else(|| panic!("{job} does not say what it does: {log}"));
        tokens.push(token.parse::<u64>().unwrap_or_else(|_| panic!("no fencing token in {log}")));
        assert!(log.lines().any(|line| line.ends_with(&format!(" loaded {table}"))), "{log}");
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 8, "fencing tokens are distinct");
    scene.at_rest("warehouse").await;
    assert_eq!(scene.permits().await.len(), 0, "permits are left");
}

/// The example of this name, as its page has people run it. It has a namespace of its own, of the same name.
pub(crate) async fn told(name: &str, page: fn(&Path) -> bool) -> Scene {
    let mut scene = Scene::new("example").await;
    // Nothing is left from before.
    scene.kubectl(&["delete", "namespace", name, "--ignore-not-found"]).await;
    let own = std::mem::replace(&mut scene.namespace, name.to_owned());
    scene.kubectl(&["delete", "namespace", &own, "--wait=false"]).await;
    // The page names its namespace, so that there is nothing to read otherwise in what is printed.
    let cluster = (scene.kubeconfig().0, "default".to_owned());
    Telling { of: page, ..on_the_node() }.told(async |_| Some(cluster.clone())).await;
    scene.kubectl(&["label", "namespace", name, &format!("{LABEL}=example")]).await;
    scene
}
