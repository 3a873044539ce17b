//! What of one version of Konductor works with what of another (`docs/compatibility.md` has the promise).
//!
//! `tests/earlier` has the resource definitions of earlier versions. Its programs are not kept; where a folder has them
//! (`tests/earlier/build` makes one), `KONDUCTOR_TEST_EARLIER` names it for the ignored test.

mod narrower;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use konductor_api::{Permit, Semaphore};
use konductor_tests::{
    Binaries, ControlPlane, Installed, Process, Signal, eventually, install_crds, install_crds_of, workspace,
};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use narrower::narrower;
use serde_json::{Value, json};

use crate::scene::{LIMIT, Scene, WITNESS, all_succeed};

/// Rules that came later, and why nothing breaks them that was valid before.
const LATER_RULES: [(&str, &str, &str); 4] = [
    ("gates", "size(self.conditions) > 0 || has(self.override)", "before, there had to be a condition"),
    ("permits", POD_RULE, "before, both had to be there"),
    ("leaserequests", POD_RULE, "before, both had to be there"),
    ("arrivals", POD_RULE, "before, there was no pod"),
];
const POD_RULE: &str = "!has(self.pod) || has(self.pod.container) == has(self.pod.start)";

/// The folders with the resource definitions of earlier versions.
fn earlier() -> Vec<PathBuf> {
    let folder = workspace().join("tests/earlier");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    let entries = entries.map(|entry| entry.expect("list a folder").path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} is empty", folder.display());
    folders
}

fn definitions(folder: &Path) -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("list a folder").path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
        let name = file.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        (name, serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    };
    files.iter().map(read).collect()
}

/// So objects that are stored stay valid, and programs of both versions find and understand what they know.
#[test]
fn resources_only_grow() {
    let now = definitions(&workspace().join("charts/konductor/files/crds"));
    let mut lost = Vec::new();
    for folder in earlier() {
        for (name, definition) in definitions(&folder) {
            let Some((_, other)) = now.iter().find(|(other, _)| *other == name) else {
                lost.push(format!("{name} is gone"));
                continue;
            };
            let mut found = narrower(&definition, other);
            found.retain(|line| {
                !LATER_RULES.iter().any(|(of, rule, _)| *of == name && line.ends_with(&format!(" rule: {rule}")))
            });
            lost.extend(found.into_iter().map(|line| format!("{name} since {}: {line}", folder.display())));
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// An upgrade of the chart brings the resources first, then the operator; `konductor-run` is in other people's images
/// and changes when they like. And a rollback goes back.
#[tokio::test]
async fn resources_and_operator_change_under_holders_and_go_back() {
    let earlier = earlier().pop().expect("an earlier version");
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, false).await;
    let client = &installed.system.client;
    install_crds_of(client, &earlier).await;
    let start = |name: &str| installed.operator(name, &["--lease-duration", "3s"]);
    let mut operator = start("before");
    let scene = Scene::new(&control_plane, "versions").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &[]);
    scene.record.started(LIMIT, 1).await;
    let mut waiters = vec![scene.witness("first", &[], Duration::ZERO)];
    scene.waiting(1).await;

    let held = scene.claim("holder").await;
    for (resources, name) in [(workspace().join("charts/konductor/files/crds"), "after"), (earlier, "again")] {
        install_crds_of(client, &resources).await;
        operator.signal(Signal::SIGKILL);
        operator.expect_exit(LIMIT, 137).await;
        operator = start(name);
        waiters.push(scene.witness(name, &[], Duration::ZERO));
        scene.waiting(waiters.len() as u64).await;
        let now = scene.claim("holder").await;
        assert_eq!((now.uid(), token(&now)), (held.uid(), token(&held)), "{name}");
        assert_eq!(holder.status(), None, "{}", holder.output());
    }
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    all_succeed(&mut waiters).await;
    scene.record.assert_complete(1 + waiters.len(), 1);
    scene.assert_no_claims().await;
}

fn token(claim: &Permit) -> Option<u64> {
    claim.status.as_ref().and_then(|status| status.fencing_token)
}

/// The resource definitions as a later version may have them: with fields that today's programs do not know.
async fn install_later(control_plane: &ControlPlane) {
    let client = control_plane.client().await;
    install_crds(&client).await;
    let crds: Api<CustomResourceDefinition> = Api::all(client);
    for (name, mut definition) in definitions(&workspace().join("charts/konductor/files/crds")) {
        let properties = definition
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties")
            .and_then(Value::as_object_mut)
            .unwrap_or_else(|| panic!("{name} has a schema"));
        for part in ["spec", "status"] {
            if let Some(part) = properties.get_mut(part) {
                part["properties"]["later"] = json!({ "type": "string" });
            }
        }
        let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
        let crd: CustomResourceDefinition = serde_json::from_value(definition).expect("a CRD");
        crds.patch(&name, &PatchParams::apply("konductor-tests").force(), &Patch::Apply(&crd)).await.expect("apply");
    }
}

/// This field, which is none of the type's.
async fn later<K>(scene: &Scene, name: &str, part: &str) -> Value
where
    K: Resource<DynamicType = ()>,
{
    let api: Api<DynamicObject> =
        Api::namespaced_with(scene.namespace.client.clone(), &scene.namespace.name, &ApiResource::erase::<K>(&()));
    api.get(name).await.expect("read an object").data[part]["later"].clone()
}

/// What a later version wrote is neither stumbled over nor lost.
#[tokio::test]
async fn fields_of_a_later_version_are_let_be() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, false).await;
    install_later(&control_plane).await;
    let _operator = installed.operator("only", &[]);
    let scene = Scene::new(&control_plane, "later").await;
    scene.semaphore(1).await;
    let mut holder = scene.holder("holder", &["--ttl", "30s", "--grace", "1s"]);
    scene.record.started(LIMIT, 1).await;
    let claim = scene.claim("holder").await.name_any();
    let written = |part: &str| Patch::Merge(json!({ part: { "later": "x" } }));
    let parameters = PatchParams::default();
    // It takes a moment until all of the API server knows the new fields, and until then it drops them.
    eventually(LIMIT, "fields of a later version", || async {
        scene.semaphores().patch("s", &parameters, &written("spec")).await.expect("patch");
        scene.semaphores().patch_status("s", &parameters, &written("status")).await.expect("patch");
        scene.permits().patch(&claim, &parameters, &written("spec")).await.expect("patch");
        scene.permits().patch_status(&claim, &parameters, &written("status")).await.expect("patch");
        let found = [
            later::<Semaphore>(&scene, "s", "spec").await,
            later::<Semaphore>(&scene, "s", "status").await,
            later::<Permit>(&scene, &claim, "spec").await,
            later::<Permit>(&scene, &claim, "status").await,
        ];
        if found.iter().all(|value| value == "x") { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let renewed = scene.claim("holder").await.spec.claim.renew_time;
    scene.claim_is("holder", |claim| claim.spec.claim.renew_time != renewed).await;
    // The operator writes the semaphore's status.
    let mut waiter = scene.witness("waiter", &[], Duration::ZERO);
    scene.waiting(1).await;
    for part in ["spec", "status"] {
        assert_eq!(later::<Permit>(&scene, &claim, part).await, "x", "{part} of the claim");
        assert_eq!(later::<Semaphore>(&scene, "s", part).await, "x", "{part} of the semaphore");
    }
    scene.let_go();
    holder.expect_exit(LIMIT, 0).await;
    waiter.expect_exit(LIMIT, 0).await;
    scene.record.assert_complete(2, 1);
    scene.assert_no_claims().await;
}

/// Each pair with today's resources, as an upgrade brings these first.
#[tokio::test]
#[ignore = "needs the programs of an earlier version"]
async fn programs_of_two_versions_work_together() {
    let folder = std::env::var_os("KONDUCTOR_TEST_EARLIER").expect("KONDUCTOR_TEST_EARLIER names a folder");
    let folder = PathBuf::from(folder);
    let now = Binaries::built();
    let before = |program: &str| folder.join(program);
    for (operator, run, name) in [
        (before("konductor-operator"), now.run().to_owned(), "operator-before"),
        (now.operator().to_owned(), before("konductor-run"), "operator-after"),
    ] {
        let control_plane = ControlPlane::start().await;
        let installed = Installed::on(&control_plane, true).await;
        let mut command = Command::new(operator);
        command.args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0", "--identity", name]);
        command.env("KUBECONFIG", installed.kubeconfig());
        let _operator = Process::spawn(name, command);
        let scene = Scene::new(&control_plane, name).await;
        scene.semaphore(0).await;
        let start = |client: usize| {
            let mut command = Command::new("env");
            command.arg("--default-signal").arg(&run).args(["--holder", &format!("client-{client}"), "--"]);
            command.arg(WITNESS).arg(scene.record.path()).arg("50");
            command.env("KUBECONFIG", &scene.kubeconfig).env("KONDUCTOR_SEMAPHORE", "s");
            Process::spawn("client", command)
        };
        let mut crowd: Vec<_> = (0..20).map(start).collect();
        scene.waiting(20).await;
        scene.resize(3).await;
        all_succeed(&mut crowd).await;
        scene.record.assert_complete(20, 3);
        scene.assert_no_claims().await;
    }
}
