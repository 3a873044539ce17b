//! What people copy is true: a real API server accepts the examples and the README's objects as they are, and images are of
//! this version.

use std::path::{Path, PathBuf};

use k8s_openapi::api::rbac::v1::ClusterRole;
use konductor_tests::{ControlPlane, apply, helm_template, install_crds, parse, workspace};
use kube::{Api, Client};

/// What the chart would install, but for the operator.
async fn installed() -> Client {
    let client = ControlPlane::shared().await.client().await;
    install_crds(&client).await;
    let mut roles = helm_template("konductor", "konductor-system", &[("crds.enabled", "false")]);
    roles.retain(|object| object.types.as_ref().is_some_and(|types| types.kind == "ClusterRole"));
    apply(&client, "default", &roles).await;
    client
}

#[tokio::test]
async fn the_api_server_accepts_the_examples() {
    let client = installed().await;
    for (file, text) in examples() {
        let objects = parse(&text);
        assert!(!objects.is_empty(), "{} is empty", file.display());
        assert!(
            text.contains(&format!("kubectl apply -f {}", file.display())),
            "{} says how to use it",
            file.display()
        );
        apply(&client, "default", &objects).await;
    }
}

#[tokio::test]
async fn the_api_server_accepts_what_the_readme_shows() {
    let client = installed().await;
    let namespace = ControlPlane::shared().await.namespace("readme").await;
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("read the README");
    let blocks: Vec<_> = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "the README shows no objects");
    for block in blocks {
        apply(&client, &namespace.name, &parse(block)).await;
    }
    // Its Jobs may do what they have to.
    let role = Api::<ClusterRole>::all(client).get("konductor-workload").await.expect("read the chart's role");
    namespace.wait_allowed("importer", Some(&namespace.name), &role.rules.expect("it has rules")).await;
}

#[test]
fn images_are_of_this_version() {
    for (file, text) in examples() {
        let images: Vec<_> = text.split_whitespace().filter(|word| word.contains("konductor/")).collect();
        let images: Vec<_> = images.iter().filter_map(|image| image.split_once(':')).collect();
        assert!(!images.is_empty(), "{} names no image", file.display());
        for (image, tag) in images {
            assert_eq!(tag, env!("CARGO_PKG_VERSION"), "tag of {image} in {}", file.display());
        }
    }
}

/// The YAML files of the examples, named from the workspace's root.
fn examples() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(&workspace().join("examples"), &mut found);
    assert!(!found.is_empty(), "there are no examples");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("list the examples") {
        let path = entry.expect("list the examples").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("read an example");
            let name = path.strip_prefix(workspace()).expect("it is in the workspace");
            found.push((name.to_owned(), text));
        }
    }
}
