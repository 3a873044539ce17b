//! What the admission policies cost: a claim that a pod creates, beside the same object in a group that no policy is
//! about.

use k8s_openapi::api::rbac::v1::PolicyRule;
use konductor::Boottime;
use konductor_api::{GROUP, admission::ADMINISTER};
use konductor_tests::client;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::Effort;
use crate::sample::Sample;
use crate::scene::Scene;
use crate::table::{Row, Table};
use crate::throughput::{RAW_GROUP, install_raw, raw_resource};

pub(crate) async fn measure(scene: &mut Scene, effort: Effort, table: &mut Table) {
    install_raw(scene).await;
    let namespace = scene.namespace.clone();
    let rule = |groups: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(groups.iter().map(ToString::to_string).collect()),
        resources: Some(vec!["permits".to_owned()]),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    };
    for account in ["policed", "administrator"] {
        namespace.service_account(account).await;
        namespace
            .allow(account, &[rule(&[GROUP], &["create", "delete"]), rule(&[RAW_GROUP], &["create", "delete"])])
            .await;
    }
    namespace.allow("administrator", &[rule(&[GROUP], &[ADMINISTER])]).await;
    let uid = namespace.pod("policed", "policed", &["main"]).await.uid().expect("a UID");
    let pod = client(&namespace.pod_kubeconfig("policed").await).await;
    let administrator = client(&namespace.service_account_kubeconfig("administrator").await).await;
    let claims = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", "Permit"));

    // Nobody decides on either of them meanwhile.
    scene.operator.freeze();
    let (mut policed, mut raw, mut administered) = (Sample::default(), Sample::default(), Sample::default());
    for number in 0..effort.starts {
        let name = format!("policed-{number}");
        policed.push(created(&pod, &claims, &name, &uid).await);
        raw.push(created(&pod, &raw_resource(), &name, &uid).await);
        administered.push(created(&administrator, &claims, &name, &uid).await);
    }
    scene.restart_operator().await;
    let beside = format!("the same object without a policy: {}", raw.show(" ms"));
    for (what, sample) in [
        ("create of a claim by its pod, as the policies check it", policed),
        ("create of another pod's claim, by who has the verb for it", administered),
    ] {
        let ratio = sample.median() / raw.median();
        table.push(Row::new(what, sample.show(" ms")).beside(beside.clone()).ratio(ratio));
    }
}

/// Creates a claim of this pod and deletes it again. Returns what the creation took, in milliseconds.
async fn created(client: &Client, resource: &ApiResource, name: &str, pod: &str) -> f64 {
    let api: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), resource);
    let claim: DynamicObject = serde_json::from_value(json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": { "name": name },
        "spec": {
            "semaphore": "policed", "holder": name, "instance": name,
            "pod": { "name": "policed", "uid": pod, "container": "main", "start": "1" },
        },
    }))
    .expect("an object");
    let start = Boottime::now();
    api.create(&PostParams::default(), &claim).await.expect("create a claim");
    let took = Boottime::now().since(start);
    api.delete(name, &DeleteParams::default()).await.expect("delete a claim");
    took.as_secs_f64() * 1000.0
}
