//! Defects and refused memory on the side that talks to the API server, and whole containers that stand still.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use konductor::Boottime;
use konductor_tests::{Installed, Pid, Process, eventually};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::scene::{LIMIT, SHORT, STALL, Scene, shared};

/// A time to live in which there is time for renewals that fail, also on a machine that stands still for ten seconds.
const PATIENT: [&str; 4] = ["--ttl", "30s", "--grace", "1s"];

/// Lets a process have only this much more memory than it has.
fn limit_memory(pid: Pid, more: u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let size = status.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB"));
    let size: u64 = size.and_then(|size| size.parse().ok()).expect("a size in kB");
    let limit = format!("--data={}", (size << 10) + more);
    let limited = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().expect("run prlimit");
    assert!(limited.success(), "prlimit, of util-linux: {limited}");
}

/// What a holder that lost its other side does: it ends the command long before the TTL, and exits.
async fn ended_in_order(scene: &Scene, mut holder: Process, why: &str) {
    holder.expect_exit(LIMIT, 79).await;
    assert!(holder.stderr().contains("the thread that talks to the API server is gone"), "{}", holder.stderr());
    assert!(holder.stderr().contains(why), "{}", holder.stderr());
    assert_eq!(holder.tree(), []);
    assert!(!scene.record.runs()[0].ended);
}

#[tokio::test]
async fn an_answer_that_there_is_no_memory_for_ends_the_command_in_order() {
    let scene = shared("memory").await;
    scene.semaphore(1).await;
    let holder = scene.holder("holder", &PATIENT);
    scene.record.started(LIMIT, 1).await;
    limit_memory(holder.pid(), 64 << 10);
    // The next renewal is answered with all of this.
    let claim = scene.claim("holder").await;
    let patch = json!({ "metadata": { "annotations": { "example.com/note": "x".repeat(250_000) } } });
    let patched = scene.permits().patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.expect("annotate a Permit");
    ended_in_order(&scene, holder, "no memory for ").await;
}

/// Credentials from a program are read anew in a thread of its own. Without one there is no renewal.
#[tokio::test]
async fn a_thread_that_is_not_to_be_had_ends_the_command_in_order() {
    let scene = shared("thread").await;
    scene.semaphore(1).await;
    scene.namespace.service_account("short-lived").await;
    scene.namespace.bind_cluster_role("short-lived", Installed::WORKLOAD).await;
    let token = scene.namespace.service_account_token("short-lived").await;
    let credential = scene.folder.path().join("credential");
    let text = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "token": token },
    });
    std::fs::write(&credential, text.to_string()).expect("write a file");
    let mut run = scene.command("holder", &PATIENT, &scene.until_let_go().each_ref().map(String::as_str));
    run.env("KUBECONFIG", exec_kubeconfig(&scene, &credential));
    let mut holder = Process::spawn("holder", run);
    scene.record.started(LIMIT, 1).await;
    // Enough for all but a thread's stack.
    limit_memory(holder.pid(), 1 << 20);
    let accounts = scene.namespace.api::<ServiceAccount>();
    accounts.delete("short-lived", &DeleteParams::default()).await.expect("delete a ServiceAccount");
    holder.expect_exit(LIMIT, 79).await;
    assert!(holder.stderr().contains("cannot renew the claim yet, trying again: "), "{}", holder.stderr());
    assert!(holder.stderr().contains("it was not renewed in time"), "{}", holder.stderr());
    assert_eq!(holder.tree(), []);
    assert!(!scene.record.runs()[0].ended);
}

/// A kubeconfig with the answer of a program, `cat`, for its user.
fn exec_kubeconfig(scene: &Scene, credential: &Path) -> PathBuf {
    let text = std::fs::read_to_string(&scene.kubeconfig).expect("read a kubeconfig");
    let mut config: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("a kubeconfig");
    let user = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [credential], "interactiveMode": "Never",
    }});
    config["users"][0]["user"] = serde_yaml_ng::to_value(user).expect("plain data");
    let path = scene.folder.path().join("kubeconfig");
    std::fs::write(&path, serde_yaml_ng::to_string(&config).expect("plain data")).expect("write a file");
    path
}

/// A cgroup of a test's own, in the hierarchy that can freeze (version 2). Removed at the end.
struct Freezer(PathBuf);

impl Freezer {
    fn new(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("read /proc/mounts");
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[2] == "cgroup2");
        let root = root.expect("this test needs cgroups of version 2: mount -t cgroup2 none /sys/fs/cgroup/unified")[1];
        let folder = Path::new(root).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        Self(folder)
    }

    /// A command that runs in it.
    fn contains(&self, run: &Command) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs"));
        command.arg(run.get_program()).args(run.get_args());
        command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Freezes or thaws all that is in it, and returns when that is done.
    async fn set(&self, frozen: bool) {
        std::fs::write(self.0.join("cgroup.freeze"), if frozen { "1" } else { "0" }).expect("write to a cgroup");
        let wanted = format!("frozen {}", u8::from(frozen));
        eventually(LIMIT, &wanted, || async {
            let events = std::fs::read_to_string(self.0.join("cgroup.events")).map_err(|error| error.to_string())?;
            if events.contains(&wanted) { Ok(()) } else { Err(events) }
        })
        .await;
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // The first thaws what a failed test has left, the second fails while that is ending.
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
#[ignore = "makes a cgroup, for which it must be root: .ci/run runs it"]
async fn a_container_that_was_frozen_past_its_deadline_kills_as_soon_as_it_is_thawed() {
    let scene = shared("cgroup").await;
    scene.semaphore(1).await;
    let freezer = Freezer::new("konductor-frozen");
    let command = scene.until_let_go();
    let run = scene.command("holder", &SHORT, &command.each_ref().map(String::as_str));
    let mut holder = Process::spawn("holder", freezer.contains(&run));
    scene.record.started(LIMIT, 1).await;
    let mut next = scene.witness("next", &[], Duration::ZERO);
    scene.waiting(1).await;
    freezer.set(true).await;
    next.expect_exit(LIMIT, 0).await;
    scene.record.assert_never_more_than(1);
    let thawed = Boottime::now();
    freezer.set(false).await;
    holder.expect_exit(LIMIT, 79).await;
    assert_eq!(holder.tree(), []);
    let runs = scene.record.runs();
    assert_eq!((runs.len(), runs[0].ended, runs[1].ended), (2, false, true), "{runs:?}");
    // All go on at the same time, so the command may get a moment before it is killed.
    assert!(runs[0].last < thawed + Duration::from_millis(500) + STALL, "thawed at {thawed}: {runs:?}");
    scene.assert_no_claims().await;
}
