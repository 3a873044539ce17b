//! A release from its installation to its end, on a real API server. There is no node: what the operator does, a process
//! of the test does, with the rights that the release has installed.

use std::path::PathBuf;
use std::process::Command;

use http::Request;
use konductor_api::Semaphore;
use konductor_tests::{Binaries, Installed, Process, Signal, TestNamespace, client, eventually, workspace};
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, LIMIT, chart};
use crate::helm::{CHART, Helm, output, values_files};

/// What an uninstalled release leaves.
const KEPT: [&str; 12] = [
    "clusterrole.rbac.authorization.k8s.io/konductor-workload",
    "customresourcedefinition.apiextensions.k8s.io/arrivals.konductor.io",
    "customresourcedefinition.apiextensions.k8s.io/barriers.konductor.io",
    "customresourcedefinition.apiextensions.k8s.io/gates.konductor.io",
    "customresourcedefinition.apiextensions.k8s.io/leaserequests.konductor.io",
    "customresourcedefinition.apiextensions.k8s.io/leases.konductor.io",
    "customresourcedefinition.apiextensions.k8s.io/permits.konductor.io",
    "customresourcedefinition.apiextensions.k8s.io/semaphores.konductor.io",
    "validatingadmissionpolicy.admissionregistration.k8s.io/konductor-arrivals",
    "validatingadmissionpolicy.admissionregistration.k8s.io/konductor-claims",
    "validatingadmissionpolicybinding.admissionregistration.k8s.io/konductor-arrivals",
    "validatingadmissionpolicybinding.admissionregistration.k8s.io/konductor-claims",
];

/// Bindings of people's own that are labelled as the chart's objects are, and are no operator's.
const OF_OTHERS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: all-workloads, labels: { app.kubernetes.io/name: konductor, app.kubernetes.io/instance: jobs } }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: konductor-workload }
subjects: [{ kind: ServiceAccount, name: jobs, namespace: jobs }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: on-call, labels: { app.kubernetes.io/name: konductor, app.kubernetes.io/instance: jobs } }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: konductor-operator }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: on-call }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: nobody, labels: { app.kubernetes.io/name: konductor, app.kubernetes.io/instance: jobs } }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: konductor-operator }
";

/// Values of `charts/konductor/ci`, as an argument of Helm.
fn values(name: &str) -> String {
    let (_, path) = values_files().into_iter().find(|(file, _)| file == name).expect("there are such values");
    path.into_os_string().into_string().expect("a UTF-8 path")
}

#[tokio::test]
async fn a_release_is_installed_changed_rolled_back_and_removed_by_helm_3() {
    life(Helm::Three).await;
}

#[tokio::test]
async fn a_release_is_installed_changed_rolled_back_and_removed_by_helm_4() {
    life(Helm::Four).await;
}

async fn life(helm: Helm) {
    let cluster = Cluster::alone().await;
    let elsewhere = cluster.control_plane.namespace("elsewhere").await.name;
    cluster.kubectl_with(&["create", "-f", "-"], OF_OTHERS).expect("bind others");
    let notes = cluster.helm(helm, &["install", "konductor", CHART]).expect("install");
    assert!(notes.contains("--clusterrole konductor-workload"), "{notes}");
    let first = cluster.rendered(helm, &chart(), &[]);
    cluster.assert_as(&first);

    // One is enough for a cluster, whatever another one would be called.
    for (name, namespace) in [("other", &elsewhere), ("konductor", &elsewhere), ("other", &cluster.system.name)] {
        let second = cluster.helm_in(helm, namespace, &["install", name, CHART, "--set", "crds.enabled=false"]);
        let refusal = second.expect_err("there is one already");
        let sentence = format!(
            "Konductor is in this cluster already, as release konductor in namespace {}, and a second operator would \
             contest the first one's decisions: upgrade that release, or uninstall it first",
            cluster.system.name
        );
        assert!(refusal.contains(&sentence), "{refusal}");
    }

    cluster.kubectl_with(&["delete", "-f", "-"], OF_OTHERS).expect("let go of others");

    let closed = values("closed");
    cluster.helm(helm, &["upgrade", "konductor", CHART, "--values", &closed]).expect("upgrade");
    cluster.assert_as(&cluster.rendered(helm, &chart(), &["--values", &closed]));
    let (policy, view) = ("networkpolicy.networking.k8s.io/konductor-operator", "konductor-view");
    let there = cluster.installed();
    assert!(there.iter().any(|name| name == policy) && !there.iter().any(|name| name.ends_with(view)), "{there:?}");

    cluster.helm(helm, &["rollback", "konductor", "1"]).expect("roll back");
    cluster.assert_as(&first);
    let there = cluster.installed();
    assert!(!there.iter().any(|name| name == policy) && there.iter().any(|name| name.ends_with(view)), "{there:?}");

    cluster.helm(helm, &["uninstall", "konductor"]).expect("uninstall");
    assert_eq!(cluster.installed(), KEPT);

    // Who comes next by another name, or elsewhere, is told whose that is, and how to take it over. The policies alone
    // are another's as well, also for who wants none.
    let said = |what: &str| {
        format!(
            "the {what} in this cluster are those of release konductor in namespace {}: install under that name in \
             that namespace, or, if that release is no more, hand over what it left: kubectl ",
            cluster.system.name
        )
    };
    let no_definitions = ["--set", "crds.enabled=false"];
    let no_policies = ["--set", "crds.enabled=false,admission.mode=Off"];
    for (what, name, namespace, values) in [
        ("custom resources", "konductor", &elsewhere, &[][..]),
        ("admission policies", "locks", &cluster.system.name, &no_definitions),
        ("admission policies", "locks", &cluster.system.name, &no_policies),
    ] {
        let install = [&["install", name, CHART], values].concat();
        let refusal = cluster.helm_in(helm, namespace, &install).expect_err("it belongs to another release");
        assert!(refusal.contains(&said(what)), "{install:?}: {refusal}");
    }
    let refusal = cluster.helm(helm, &["install", "locks", CHART]).expect_err("it belongs to another release");
    let (_, hand_over) = refusal.split_once(&said("custom resources")).unwrap_or_else(|| panic!("{refusal}"));
    let hand_over: Vec<_> = hand_over.lines().next().expect("a command").split(' ').collect();
    cluster.kubectl(&hand_over).expect("hand over");
    let named = ["--set", "fullnameOverride=konductor", "--set", "crds.keep=false", "--set", "rbac.keep=false"];
    cluster.helm(helm, &[&["install", "locks", CHART][..], &named].concat()).expect("install");

    // Who says so leaves nothing.
    cluster.read_all().await;
    cluster.helm(helm, &["uninstall", "locks", "--wait"]).expect("uninstall");
    assert_eq!(cluster.installed(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs the history of the repository, which an archive of it lacks; .ci/run runs it where there is one"]
async fn the_chart_of_the_previous_commit_is_upgraded_and_rolled_back_to() {
    let cluster = Cluster::alone().await;
    let (_folder, previous) = previous_chart();
    let before = cluster.rendered(Helm::Three, &previous, &[]);
    let previous = previous.to_str().expect("a UTF-8 path");
    cluster.helm(Helm::Three, &["install", "konductor", previous]).expect("install the previous one");
    let team = cluster.control_plane.namespace("team").await;
    let uid = semaphore(&team, "s").await.uid();

    // By the other Helm, as it happens when people change from one to the other.
    cluster.helm(Helm::Four, &["upgrade", "konductor", CHART]).expect("upgrade");
    cluster.assert_as(&cluster.rendered(Helm::Four, &chart(), &[]));
    assert_eq!(team.api::<Semaphore>().get("s").await.expect("it is still there").uid(), uid);
    semaphore(&team, "t").await;

    cluster.helm(Helm::Four, &["rollback", "konductor", "1"]).expect("roll back");
    cluster.assert_as(&before);
    assert_eq!(team.api::<Semaphore>().get("s").await.expect("it is still there").uid(), uid);
}

/// The chart as it was before it was last changed: before what is not committed, or else before the last commit (of the
/// main line) that changed it.
fn previous_chart() -> (TempDir, PathBuf) {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        // Whoever checked it out: nothing of it is executed.
        git.args(["-c", "safe.directory=*"]).args(arguments).current_dir(workspace());
        output(git).unwrap_or_else(|error| {
            panic!("git {arguments:?}: {error}this test needs the history: git clone, or git fetch --unshallow")
        })
    };
    let commit = if git(&["status", "--porcelain", "--", CHART]).is_empty() {
        let last = git(&["log", "--first-parent", "--max-count=1", "--format=%H", "--", CHART]);
        format!("{}^", last.trim())
    } else {
        "HEAD".to_owned()
    };
    let folder = tempfile::tempdir().expect("make a folder");
    let archive = folder.path().join("chart.tar");
    let archive = archive.to_str().expect("a UTF-8 path");
    git(&["archive", "--output", archive, &commit, CHART]);
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--file", archive, "--directory"]).arg(folder.path());
    output(tar).expect("unpack the chart");
    let chart = folder.path().join(CHART);
    (folder, chart)
}

#[tokio::test]
async fn what_is_held_outlasts_the_operator_and_ends_with_the_custom_resources() {
    let cluster = Cluster::alone().await;
    cluster.helm(Helm::Four, &["install", "konductor", CHART]).expect("install");
    let team = cluster.control_plane.namespace("team").await;
    team.bind_cluster_role("default", Installed::WORKLOAD).await;
    let kubeconfig = team.service_account_kubeconfig("default").await;
    let held = tempfile::NamedTempFile::new().expect("make a file");
    // Holds as long as the file is there.
    let run = |name: &str| {
        let mut run = Command::new(Binaries::built().run());
        let script = "while [ -e \"$0\" ]; do sleep 0.1; done";
        run.args(["--holder", name, "--semaphore", "s", "--", "sh", "-c", script]).arg(held.path());
        run.env("KUBECONFIG", &kubeconfig);
        Process::spawn(name, run)
    };
    semaphore(&team, "s").await;
    let mut operator = Installed::found(cluster.system.clone()).await.operator("first", &[]);
    let mut first = run("first");
    first.wait_stderr(LIMIT, "holding semaphore s").await;
    let mut second = run("second");
    second.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;

    // The operator goes with the release, and its rights. Nobody else notices.
    end(&mut operator).await;
    cluster.helm(Helm::Four, &["uninstall", "konductor"]).expect("uninstall");
    assert_eq!(cluster.installed(), KEPT);
    assert!(first.status().is_none() && second.status().is_none());
    let path = held.path().to_owned();
    std::fs::remove_file(&path).expect("remove a file");
    first.expect_exit(LIMIT, 0).await;
    std::fs::write(&path, "").expect("write a file");
    assert!(!second.stderr().contains("holding"), "nobody decides: {}", second.stderr());

    // The next operator goes on.
    let keep = ["upgrade", "konductor", CHART, "--install", "--set", "crds.keep=false"];
    cluster.helm(Helm::Four, &keep).expect("install again");
    let mut operator = Installed::found(cluster.system.clone()).await.operator("second", &[]);
    second.wait_stderr(LIMIT, "holding semaphore s").await;
    let mut third = run("third");
    third.wait_stderr(LIMIT, "waiting for semaphore s: next in line").await;

    // Without their custom resources claims are gone: what is held is lost, and its command is ended.
    end(&mut operator).await;
    cluster.read_all().await;
    cluster.helm(Helm::Four, &["uninstall", "konductor"]).expect("uninstall");
    second.expect_exit(LIMIT, 79).await;
    assert!(second.stderr().contains("lost semaphore s: the claim was deleted; ending the command"));
    third.expect_exit(LIMIT, 78).await;
    let kept: Vec<_> = KEPT.into_iter().filter(|name| !name.starts_with("customresourcedefinition.")).collect();
    let gone =
        || async { if cluster.installed() == kept { Ok(()) } else { Err(format!("{:?}", cluster.installed())) } };
    eventually(LIMIT, "all custom resources are gone", gone).await;
}

/// Ends an operator as its pod's kubelet does.
async fn end(operator: &mut Process) {
    operator.signal(Signal::SIGTERM);
    operator.expect_exit(LIMIT, 0).await;
}

/// Makes a semaphore of one permit.
async fn semaphore(namespace: &TestNamespace, name: &str) -> Semaphore {
    let semaphore = json!({ "metadata": { "name": name }, "spec": { "permits": 1 } });
    let semaphore = serde_json::from_value(semaphore).expect("a Semaphore");
    // The API server serves a definition a moment after it is there.
    eventually(LIMIT, "semaphores are served", || async {
        namespace.api().create(&PostParams::default(), &semaphore).await.map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test]
async fn the_mode_of_admission_says_what_becomes_of_who_speaks_for_a_pod_of_others() {
    let cluster = Cluster::alone().await;
    let team = cluster.control_plane.namespace("team").await;
    cluster.helm(Helm::Four, &["install", "konductor", CHART]).expect("install");
    team.bind_cluster_role("default", Installed::WORKLOAD).await;
    let nobody = client(&team.service_account_kubeconfig("default").await).await;
    let claim = json!({
        "apiVersion": "konductor.io/v1", "kind": "Permit", "metadata": { "name": "claim" },
        "spec": { "semaphore": "s", "holder": "h", "instance": "i", "pod": { "name": "p", "uid": "u" } },
    });
    // Each answer is another one than that before it. Of what Audit notes, who asks sees nothing.
    let sentence = "this claim speaks for the pod p";
    let noted = || {
        let log = cluster.control_plane.audit_log();
        let of_team = |line: &&str| line.contains(&team.name) && line.contains("/validation_failure");
        log.lines().filter(of_team).filter(|line| line.contains(sentence)).count()
    };
    let answers = async |how: &str, code: u16, warns: bool| {
        eventually(LIMIT, &format!("{how}: {code}, warns: {warns}"), || async {
            let path = format!("/apis/konductor.io/v1/namespaces/{}/permits?dryRun=All", team.name);
            let request = Request::post(path).header("Content-Type", "application/json");
            let request = request.body(claim.to_string().into_bytes().into()).expect("a request");
            let answer = nobody.send(request).await.map_err(|error| error.to_string())?;
            let warning = answer.headers().get("warning").and_then(|text| text.to_str().ok()).unwrap_or_default();
            let is_as_wanted = answer.status() == code && warning.contains(sentence) == warns;
            if is_as_wanted { Ok(()) } else { Err(format!("{} {warning}", answer.status())) }
        })
        .await;
    };
    let policies = || cluster.installed().into_iter().filter(|name| name.starts_with("validatingadmission")).count();
    for (helm, mode, code, warns, objects) in [
        (Helm::Four, "Deny", 403, false, 4),
        // Helm deletes nothing in an upgrade that is to be kept: it is bound to nothing, and is left out of the next.
        (Helm::Four, "Off", 201, false, 4),
        (Helm::Four, "Warn", 201, true, 4),
        (Helm::Three, "Off", 201, false, 4),
        (Helm::Three, "Off", 201, false, 0),
        (Helm::Four, "Deny", 403, false, 4),
        (Helm::Four, "Off", 201, false, 4),
        (Helm::Four, "Off", 201, false, 0),
        (Helm::Four, "Deny", 403, false, 4),
        (Helm::Four, "Audit", 201, false, 4),
    ] {
        let upgrade = ["upgrade", "konductor", CHART, "--set", &format!("admission.mode={mode}")];
        cluster.helm(helm, &upgrade).expect("upgrade");
        answers(&format!("with {mode}"), code, warns).await;
        assert_eq!(policies(), objects, "with {mode}");
        if mode != "Audit" {
            assert_eq!(noted(), 0, "with {mode}");
        }
    }
    eventually(LIMIT, "what would have been refused is in the audit log", || async {
        if noted() > 0 { Ok(()) } else { Err(cluster.control_plane.audit_log()) }
    })
    .await;

    // What workloads may still do without an operator is restricted as before.
    let deny = ["upgrade", "konductor", CHART, "--set", "admission.mode=Deny"];
    cluster.helm(Helm::Four, &deny).expect("upgrade");
    answers("with Deny again", 403, false).await;
    cluster.helm(Helm::Four, &["uninstall", "konductor"]).expect("uninstall");
    assert_eq!(cluster.installed(), KEPT);
    answers("uninstalled", 403, false).await;
    // And who comes next and wants none, has none.
    for helm in Helm::ALL {
        let off = ["konductor", CHART, "--set", "admission.mode=Off"];
        cluster.helm(helm, &[&["install"], &off[..]].concat()).expect("install");
        answers("installed again with Off", 201, false).await;
        cluster.helm(helm, &[&["upgrade"], &off[..]].concat()).expect("upgrade");
        assert_eq!(policies(), 0, "{helm:?}");
        cluster.helm(helm, &["uninstall", "konductor"]).expect("uninstall");
        assert_eq!(cluster.installed(), KEPT[..8]);
        cluster.helm(helm, &["install", "konductor", CHART]).expect("install");
        answers("installed again", 403, false).await;
        cluster.helm(helm, &["uninstall", "konductor"]).expect("uninstall");
    }
}

#[tokio::test]
async fn what_is_rendered_can_be_applied_by_others() {
    let cluster = Cluster::alone().await;
    let apply = ["apply", "--server-side", "-f", "-"];
    let monitoring = include_str!("monitoring.yaml");
    cluster.kubectl_with(&apply, monitoring).expect("define the kinds of the Prometheus operator");
    let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=2m"];
    cluster.kubectl(&wait).expect("they are served");
    cluster.kubectl(&["create", "namespace", "monitoring"]).expect("make a namespace");

    let production = cluster.rendered(Helm::Four, &chart(), &["--values", &values("production")]);
    cluster.kubectl_with(&apply, &production).expect("apply");
    cluster.kubectl(&wait).expect("the custom resources are served");
    cluster.assert_as(&production);
    // Once more changes nothing.
    let versions = || {
        let format = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
        cluster.kubectl_with(&["get", "-f", "-", "--output", format], &production).expect("read all")
    };
    let before = versions();
    assert!(before.contains("FlowSchema konductor-operator"), "{before}");
    cluster.kubectl_with(&apply, &production).expect("apply again");
    assert_eq!(versions(), before);

    // All other typical values are taken, too, every field of them.
    for (name, path) in values_files() {
        let rendered = cluster.rendered(Helm::Four, &chart(), &["--values", path.to_str().expect("a UTF-8 path")]);
        let tried = [&apply[..], &["--dry-run=server", "--force-conflicts", "--validate=strict"]].concat();
        cluster.kubectl_with(&tried, &rendered).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let chart = std::fs::read_to_string(chart().join("Chart.yaml")).expect("read Chart.yaml");
    let chart: Value = serde_yaml_ng::from_str(&chart).expect("YAML");
    let examples = chart["annotations"]["artifacthub.io/crdsExamples"].as_str().expect("examples");
    let examples: Vec<Value> = serde_yaml_ng::from_str(examples).expect("a list");
    let examples: Vec<_> = examples.iter().map(ToString::to_string).collect();
    let tried = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
    cluster.kubectl_with(&tried, &examples.join("\n")).expect("take the examples");

    // The API server sorts the operator's requests into the place that was made for them.
    let kind = kube::core::GroupVersionKind::gvk("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema");
    let flows: Api<DynamicObject> = Api::all_with(cluster.system.client.clone(), &ApiResource::from_gvk(&kind));
    let operator = client(&cluster.system.service_account_kubeconfig("konductor-operator").await).await;
    let election = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/konductor-operator", cluster.system.name);
    for (path, name) in [
        ("/apis/konductor.io/v1/semaphores", "konductor-operator"),
        ("/apis/coordination.k8s.io/v1/leases", "konductor-operator"),
        (&*election, "konductor-operator-election"),
    ] {
        let flow = flows.get(name).await.expect("read the flow schema").uid().expect("a UID");
        eventually(LIMIT, &format!("{path} belongs to {name}"), || async {
            let request = Request::get(path).body(Vec::new().into()).expect("a request");
            let answer = operator.send(request).await.map_err(|error| error.to_string())?;
            let sorted = answer.headers().get("x-kubernetes-pf-flowschema-uid").and_then(|uid| uid.to_str().ok());
            if sorted == Some(&*flow) { Ok(()) } else { Err(format!("it is in {sorted:?}")) }
        })
        .await;
    }
    let election = flows.get("konductor-operator-election").await.expect("read the flow schema");
    let conditions = election.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let dangling = conditions.iter().find(|condition| condition["type"] == "Dangling").expect("it is told");
    assert_eq!(dangling["status"], "False", "the API server has a place for elections: {dangling}");
}
