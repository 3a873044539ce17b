//! What the other tests rely on: the harness itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use konductor_tests::{
    Binaries, ContainerState, ControlPlane, Pid, Process, Signal, TestNamespace, apply, client, eventually,
    helm_template, install_crds, parse, wait_for, wait_gone,
};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use nix::sys::signal::kill;
use serde_json::json;

/// Far more than anything here takes on an idle machine.
const LIMIT: Duration = Duration::from_mins(4);

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "key": "value" } })).expect("a ConfigMap")
}

/// The HTTP status code with which the API server refused.
fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result.expect_err("the API server refuses") {
        kube::Error::Api(status) => status.code,
        error => panic!("not refused, but failed: {error}"),
    }
}

/// Whom the API server takes a client for.
async fn user_of(client: &Client) -> k8s_openapi::api::authentication::v1::UserInfo {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .expect("ask who I am");
    review.status.and_then(|status| status.user_info).expect("an answer")
}

#[tokio::test]
async fn namespaces_keep_tests_apart() {
    let control_plane = ControlPlane::shared().await;
    let (ours, theirs) = (control_plane.namespace("apart").await, control_plane.namespace("apart").await);
    assert_ne!(ours.name, theirs.name);
    ours.api().create(&PostParams::default(), &config_map("thing")).await.expect("create");
    assert_eq!(theirs.api::<ConfigMap>().get_opt("thing").await.expect("read"), None);
}

#[tokio::test]
async fn all_tests_of_a_process_share_one_control_plane() {
    let first = std::ptr::from_ref(ControlPlane::shared().await) as usize;
    let in_another_runtime = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime");
        runtime.block_on(async {
            let control_plane = ControlPlane::shared().await;
            control_plane.client().await.apiserver_version().await.expect("use the API server");
            std::ptr::from_ref(control_plane) as usize
        })
    });
    assert_eq!(in_another_runtime.join().expect("the other runtime's test passes"), first);
}

#[tokio::test]
async fn service_accounts_may_do_only_what_they_are_allowed() {
    let namespace = ControlPlane::shared().await.namespace("rbac").await;
    namespace.service_account("worker").await;
    let client = client(&namespace.service_account_kubeconfig("worker").await).await;
    assert_eq!(client.default_namespace(), namespace.name);
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    assert_eq!(refusal(api.list(&ListParams::default()).await), 403);

    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_owned()]),
        verbs: vec!["list".to_owned()],
        ..PolicyRule::default()
    };
    namespace.allow("worker", &[rule]).await;
    api.list(&ListParams::default()).await.expect("list what is allowed");
    assert_eq!(refusal(api.create(&PostParams::default(), &config_map("thing")).await), 403);
    let elsewhere: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    assert_eq!(refusal(elsewhere.list(&ListParams::default()).await), 403);
}

#[tokio::test]
async fn cluster_roles_hold_in_one_namespace_or_everywhere() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("roles").await;
    let admin = control_plane.client().await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": format!("{}-reader", namespace.name) },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"] }],
    });
    let role = parse(&role.to_string());
    apply(&admin, &namespace.name, &role).await;
    let role = role[0].name_any();

    for (service_account, everywhere) in [("here", false), ("everywhere", true)] {
        namespace.service_account(service_account).await;
        if everywhere {
            namespace.bind_cluster_role_everywhere(service_account, &role).await;
        } else {
            namespace.bind_cluster_role(service_account, &role).await;
        }
        let client = client(&namespace.service_account_kubeconfig(service_account).await).await;
        let here = Api::<ConfigMap>::default_namespaced(client.clone());
        here.list(&ListParams::default()).await.expect("list in the namespace of the binding");
        let all = Api::<ConfigMap>::all(client).list(&ListParams::default()).await;
        assert_eq!(all.is_ok(), everywhere, "{all:?}");
    }
}

#[tokio::test]
async fn users_are_who_their_kubeconfig_says() {
    let namespace = ControlPlane::shared().await.namespace("users").await;
    let client = client(&namespace.user_kubeconfig("jane", Some("engineers"))).await;
    let user = user_of(&client).await;
    assert_eq!(user.username.as_deref(), Some("jane"));
    assert!(user.groups.expect("groups").contains(&"engineers".to_owned()));
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    assert_eq!(refusal(api.list(&ListParams::default()).await), 403);
}

#[tokio::test]
async fn a_pods_token_names_the_pod() {
    let namespace = ControlPlane::shared().await.namespace("token").await;
    namespace.service_account("worker").await;
    let pod = namespace.pod("job-1", "worker", &["main"]).await;
    let client = client(&namespace.pod_kubeconfig("job-1").await).await;
    let user = user_of(&client).await;
    assert_eq!(user.username, Some(format!("system:serviceaccount:{}:worker", namespace.name)));
    let extra = user.extra.expect("a bound token's claims");
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["job-1"]);
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [pod.uid().expect("a uid")]);
}

#[tokio::test]
async fn a_pod_ends_as_its_kubelet_would_say() {
    let namespace = ControlPlane::shared().await.namespace("pods").await;
    let pods: Api<Pod> = namespace.api();
    for name in ["good", "bad"] {
        namespace.pod(name, "default", &["main", "sidecar"]).await;
    }
    namespace.pod_status("bad", "Running", &[("main", ContainerState::Running)]).await;
    // Found by field selector, as the operator does.
    let terminal = || async {
        let selector =
            ListParams::default().fields("status.phase!=Pending,status.phase!=Running,status.phase!=Unknown");
        let list = pods.list(&selector).await.expect("list pods");
        list.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    assert_eq!(terminal().await, Vec::<String>::new());
    namespace.pod_terminated("good", &[("main", 0), ("sidecar", 0)]).await;
    namespace.pod_terminated("bad", &[("main", 3), ("sidecar", 0)]).await;
    assert_eq!(terminal().await, ["bad", "good"]);
    for (name, phase, code) in [("good", "Succeeded", 0), ("bad", "Failed", 3)] {
        let status = pods.get(name).await.expect("read a pod").status.expect("a status");
        assert_eq!(status.phase.as_deref(), Some(phase));
        let containers = status.container_statuses.expect("containers");
        assert_eq!(containers.len(), 2);
        let state = containers[0].state.as_ref().and_then(|state| state.terminated.as_ref());
        assert_eq!(state.expect("terminated").exit_code, code);
    }
}

#[tokio::test]
async fn waits_watch() {
    let namespace = ControlPlane::shared().await.namespace("waits").await;
    let api: Api<ConfigMap> = namespace.api();
    let has_key = |object: &ConfigMap| object.data.iter().any(|data| data.contains_key("key"));
    let change = async {
        api.create(&PostParams::default(), &config_map("late")).await.expect("create");
    };
    tokio::join!(wait_for(&api, "late", LIMIT, has_key), change);
    let delete = async {
        api.delete("late", &DeleteParams::default()).await.expect("delete");
    };
    tokio::join!(wait_gone(&api, "late", LIMIT), delete);
}

#[tokio::test]
#[should_panic(expected = "not within 50ms: the moon; last seen: clouds")]
async fn a_wait_in_vain_says_what_it_saw() {
    eventually(Duration::from_millis(50), "the moon", || async { Err::<(), _>("clouds") }).await;
}

#[tokio::test]
async fn the_crds_are_served() {
    let namespace = ControlPlane::shared().await.namespace("crds").await;
    tokio::join!(install_crds(&namespace.client), install_crds(&namespace.client));
    let resources = namespace.client.list_api_group_resources("konductor.io/v1").await.expect("list the kinds");
    let names: Vec<_> = resources.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert!(names.contains(&"semaphores") && names.contains(&"permits"), "{names:?}");
}

#[tokio::test]
async fn the_charts_roles_are_those_that_helm_would_install() {
    let namespace = ControlPlane::shared().await.namespace("chart").await;
    // The CRDs come as files; the Deployment has nobody to run it.
    let mut objects = helm_template(&namespace.name, &namespace.name, &[("crds.enabled", "false"), ("replicas", "3")]);
    let deployment = objects.iter().find(|object| kind(object) == "Deployment").expect("the chart has a Deployment");
    assert_eq!(deployment.data["spec"]["replicas"], 3);
    assert!(!objects.iter().any(|object| kind(object) == "CustomResourceDefinition"));

    objects.retain(|object| kind(object).starts_with("ClusterRole"));
    assert!(!objects.is_empty(), "the chart has ClusterRoles");
    apply(&namespace.client, &namespace.name, &objects).await;
    let roles: Api<ClusterRole> = Api::all(namespace.client.clone());
    for object in objects.iter().filter(|object| kind(object) == "ClusterRole") {
        roles.get(&object.name_any()).await.expect("read what was applied");
    }
}

fn kind(object: &DynamicObject) -> &str {
    &object.types.as_ref().expect("an object has a kind").kind
}

#[tokio::test]
async fn the_workspaces_programs_are_built() {
    for program in [Binaries::built().operator(), Binaries::built().run()] {
        let mut command = Command::new(program);
        command.arg("--version");
        let mut process = Process::spawn("program", command);
        process.expect_exit(LIMIT, 0).await;
        assert!(process.stdout().contains(env!("CARGO_PKG_VERSION")), "{}", process.output());
    }
}

#[tokio::test]
async fn a_restarted_api_server_is_where_it_was_and_knows_what_it_knew() {
    let mut control_plane = ControlPlane::start().await;
    let namespace = control_plane.namespace("restart").await;
    let api: Api<ConfigMap> = namespace.api();
    let before = api.create(&PostParams::default(), &config_map("kept")).await.expect("create");
    let token = client(&namespace.service_account_kubeconfig("default").await).await;

    control_plane.api_server.stop();
    let refused = api.get("kept").await.expect_err("nothing listens");
    assert!(!matches!(refused, kube::Error::Api(_)), "{refused}");
    control_plane.api_server.start().await;
    let after = api.get("kept").await.expect("read after the restart");
    assert_eq!((after.uid(), after.resource_version()), (before.uid(), before.resource_version()));
    assert!(user_of(&token).await.username.is_some(), "tokens made before the restart are good");

    control_plane.api_server.freeze();
    let frozen = tokio::time::timeout(Duration::from_millis(300), api.get("kept")).await;
    assert!(frozen.is_err(), "answered while frozen: {frozen:?}");
    control_plane.api_server.thaw();
    api.get("kept").await.expect("read after the thaw");

    controllers_do_their_work(&mut control_plane, &namespace).await;
}

async fn controllers_do_their_work(control_plane: &mut ControlPlane, namespace: &TestNamespace) {
    control_plane.start_controllers();
    let containers = json!([{ "name": "main", "image": "none" }]);
    let job = json!({
        "metadata": { "name": "job" },
        "spec": { "template": { "spec": { "restartPolicy": "Never", "containers": containers } } },
    });
    let job: Job = serde_json::from_value(job).expect("a Job");
    namespace.api().create(&PostParams::default(), &job).await.expect("create");
    wait_for(&namespace.api::<Job>(), "job", LIMIT, |job| {
        job.status.as_ref().is_some_and(|status| status.active == Some(1))
    })
    .await;
}

#[tokio::test]
async fn processes_are_watched_signalled_and_cleaned_up() {
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", script]);
        Process::spawn("shell", command)
    };
    let mut failing = shell("echo out; echo err >&2; exit 3");
    failing.expect_exit(LIMIT, 3).await;
    assert_eq!((failing.stdout().as_str(), failing.stderr().as_str()), ("out\n", "err\n"));

    // A grandchild in a session of its own, without a parent.
    let mut parent = shell("setsid sleep 1000 & echo started; wait");
    parent.wait_stdout(LIMIT, "started").await;
    eventually(LIMIT, "two processes", || async {
        let tree = parent.tree();
        if tree.len() == 2 { Ok(()) } else { Err(format!("{tree:?}")) }
    })
    .await;
    parent.signal(Signal::SIGKILL);
    parent.expect_exit(LIMIT, 128 + 9).await;
    eventually(LIMIT, "one orphan", || async {
        let orphans = parent.tree();
        if orphans.len() == 1 { Ok(()) } else { Err(format!("{orphans:?}")) }
    })
    .await;
    parent.kill();
    assert_eq!(parent.tree(), Vec::<Pid>::new());

    let mut frozen = shell("exec sleep 1000");
    frozen.freeze();
    frozen.signal(Signal::SIGTERM);
    assert_eq!(frozen.status(), None);
    frozen.thaw();
    frozen.expect_exit(LIMIT, 128 + 15).await;
}

/// However a test process ends, its control plane's programs and files end with it.
#[tokio::test]
async fn nothing_outlives_the_test_process() {
    let program = env!("CARGO_BIN_EXE_control-plane");
    // As a terminal does at Ctrl-C. A shell's background job, and so perhaps this test, ignores it and passes that on.
    let interruptible = ["env", "--default-signal=INT", program];
    leaves_nothing(&interruptible, 128 + 2, |process, _| process.signal_group(Signal::SIGINT)).await;
    leaves_nothing(&[program], 128 + 9, |process, servers| {
        for server in servers {
            kill(*server, Signal::SIGSTOP).expect("freeze a server");
        }
        process.signal(Signal::SIGKILL);
    })
    .await;
    // Its line of output meets a closed pipe, which is a panic.
    let panics = ["bash", "-c", "set -o pipefail; \"$0\" | :", program];
    leaves_nothing(&panics, 101, |_, _| ()).await;
}

/// Runs a program that starts a control plane, and ends it when the servers run. Whether they are there is seen without
/// the harness's own means: by their command lines, which name the folder for temporary files.
async fn leaves_nothing(program: &[&str], code: i32, end: impl FnOnce(&mut Process, &[Pid])) {
    let folder = tempfile::tempdir().expect("make a folder");
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).env("TMPDIR", folder.path());
    let mut process = Process::spawn("control-plane", command);
    let servers = eventually(LIMIT, "etcd and kube-apiserver", || async {
        let found = processes_naming(folder.path());
        if found.len() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await;
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1, "all its files are in one folder");
    end(&mut process, &servers);
    process.expect_exit(LIMIT, code).await;
    eventually(LIMIT, "no server and no file is left", || async {
        let (servers, files) =
            (processes_naming(folder.path()), std::fs::read_dir(folder.path()).expect("list").count());
        if servers.is_empty() && files == 0 { Ok(()) } else { Err(format!("processes {servers:?}, {files} folders")) }
    })
    .await;
}

fn processes_naming(folder: &Path) -> Vec<Pid> {
    let folder = folder.to_str().expect("a UTF-8 path");
    let entries = std::fs::read_dir("/proc").expect("list /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let names = |pid: &i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(folder)
    };
    pids.filter(names).map(Pid::from_raw).collect()
}
