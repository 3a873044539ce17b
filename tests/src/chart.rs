//! What Konductor itself puts into a cluster, from the files that people install: the CRDs and the rendered chart.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt};
use serde::Deserialize;

use crate::tools::{tool, workspace};
use crate::wait::{eventually, wait_for};

/// A CRD is served within some milliseconds; the rest is for a busy machine.
const SERVED_LIMIT: Duration = Duration::from_mins(2);

/// The owner of the fields that the harness applies.
const FIELD_MANAGER: &str = "konductor-tests";

/// Applies the CRDs of `charts/konductor/files/crds`, and returns when they are served. Tests of one control plane may
/// all call it.
pub async fn install_crds(client: &Client) {
    install_crds_of(client, &workspace().join("charts/konductor/files/crds")).await;
}

/// Applies the CRDs of a folder, as [`install_crds`] does.
pub async fn install_crds_of(client: &Client, folder: &Path) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("list the CRDs").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    assert!(!files.is_empty(), "no CRDs in {}", folder.display());
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
        for crd in parse(&text) {
            let name = crd.name_any();
            crds.patch(&name, &parameters(), &Patch::Apply(&crd))
                .await
                .unwrap_or_else(|error| panic!("apply {}: {error}", file.display()));
            wait_for(&crds, &name, SERVED_LIMIT, is_established).await;
            wait_served(client, &crd).await;
        }
    }
}

/// Waits until the objects of a CRD can be asked for, and are found by who asks what there is: both come a moment after
/// the CRD says that it is established.
async fn wait_served(client: &Client, crd: &DynamicObject) {
    let text = |pointer: &str| {
        let value = crd.data.pointer(pointer).and_then(serde_json::Value::as_str);
        value.unwrap_or_else(|| panic!("{} has no {pointer}", crd.name_any())).to_owned()
    };
    let version = format!("{}/{}", text("/spec/group"), text("/spec/versions/0/name"));
    let plural = text("/spec/names/plural");
    eventually(SERVED_LIMIT, &format!("{plural} are served"), || async {
        let path = format!("/apis/{version}/{plural}?limit=1");
        let list = Request::get(&path).body(Vec::new()).expect("a request");
        client.request_text(list).await.map_err(|error| format!("{path}: {error}"))?;
        let found = client.list_api_group_resources(&version).await.map_err(|error| error.to_string())?;
        let is_found = found.resources.iter().any(|resource| resource.name == plural);
        if is_found { Ok(()) } else { Err("not found among the resources".to_owned()) }
    })
    .await;
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// The objects that `helm install RELEASE charts/konductor --namespace NAMESPACE --set KEY=VALUE...` would create, in
/// the order in which it would. Tests that share a control plane need releases of different names, as cluster-wide
/// objects are named after them.
pub fn helm_template(release: &str, namespace: &str, values: &[(&str, &str)]) -> Vec<DynamicObject> {
    let mut command = Command::new(tool("helm"));
    command.args(["template", release, "charts/konductor", "--namespace", namespace]).current_dir(workspace());
    for (key, value) in values {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    parse(std::str::from_utf8(&output.stdout).expect("helm writes UTF-8"))
}

/// Applies objects of any kinds; those that belong into a namespace and name none go into `namespace`. Kinds must be
/// served already.
pub async fn apply(client: &Client, namespace: &str, objects: &[DynamicObject]) {
    for object in objects {
        let kind = object.types.as_ref().expect("an object names its kind");
        let kind = GroupVersionKind::try_from(kind).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let (resource, capabilities) =
            pinned_kind(client, &kind).await.unwrap_or_else(|error| panic!("find out about {kind:?}: {error}"));
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
                Api::namespaced_with(client.clone(), &namespace, &resource)
            }
        };
        let name = object.name_any();
        api.patch(&name, &parameters(), &Patch::Apply(object))
            .await
            .unwrap_or_else(|error| panic!("apply {} {name}: {error}", kind.kind));
    }
}

fn parameters() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// The objects in a YAML text of any number of documents.
pub fn parse(text: &str) -> Vec<DynamicObject> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| serde_json::Value::deserialize(document).unwrap_or_else(|error| panic!("{error} in\n{text}")))
        .filter(|value| !value.is_null())
        .map(|value| serde_json::from_value(value).unwrap_or_else(|error| panic!("{error} in\n{text}")))
        .collect()
}
