//! The control plane with Konductor installed as the chart does, one operator, and the programs that are measured.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use konductor::{Client, ConnectOptions};
use konductor_api::{ClaimPhase, Permit, Semaphore};
use konductor_tests::{ControlPlane, Installed, Process, TestNamespace, config, eventually, tool, wait_for};
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::timeout;

/// Far more than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_mins(5);

/// What the operator calls itself.
const OPERATOR: &str = "figures";

/// The programs, all of them real.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) run: PathBuf,
    pub(crate) operator: PathBuf,
    pub(crate) koncli: PathBuf,
    pub(crate) etcdctl: PathBuf,
    /// What runs under the locks and says when.
    pub(crate) mark: PathBuf,
}

impl Programs {
    pub(crate) fn new(run: PathBuf, operator: PathBuf, koncli: PathBuf) -> Self {
        let own = std::env::current_exe().expect("find this program");
        Self { run, operator, koncli, etcdctl: tool("etcdctl"), mark: own.with_file_name("mark") }
    }
}

/// The cluster, the operator and the namespace that everything is measured in.
pub(crate) struct Scene {
    // In the order of dropping.
    pub(crate) operator: Process,
    pub(crate) namespace: TestNamespace,
    pub(crate) control_plane: ControlPlane,
    pub(crate) programs: Programs,
    installed: Installed,
    log: Option<&'static str>,
    /// That of the `ServiceAccount` which runs `konductor-run`.
    kubeconfig: PathBuf,
}

impl Scene {
    /// `log`: what the operator says; what it says by itself when absent.
    pub(crate) async fn start(programs: Programs, log: Option<&'static str>) -> Self {
        let control_plane = ControlPlane::start_durable().await;
        let installed = Installed::on(&control_plane, true).await;
        let operator = start_operator(&programs.operator, &installed, log).await;
        let namespace = control_plane.namespace("figures").await;
        namespace.bind_cluster_role("default", Installed::WORKLOAD).await;
        let kubeconfig = namespace.service_account_kubeconfig("default").await;
        Self { operator, namespace, control_plane, programs, installed, log, kubeconfig }
    }

    /// Replaces the operator by one that has just been started.
    pub(crate) async fn restart_operator(&mut self) {
        self.operator.kill();
        self.operator = start_operator(&self.programs.operator, &self.installed, self.log).await;
    }

    /// `konductor-run FLAGS -- COMMAND`, in an environment that has nothing else in it.
    pub(crate) fn konductor_run(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut run = clean(&self.programs.run);
        run.args(flags).arg("--").args(command).env("KUBECONFIG", &self.kubeconfig);
        run
    }

    /// A client of the API server with these arguments, in an environment that has nothing else in it.
    pub(crate) fn client_program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut run = clean(program);
        run.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        // kubectl keeps files of its own there.
        run.env("HOME", self.kubeconfig.parent().expect("it is in a folder"));
        run
    }

    /// `etcdctl lock NAME COMMAND`, on the etcd below the API server. By itself it loses what it holds when the machine
    /// stands still for ten seconds.
    pub(crate) fn etcdctl_lock(&self, name: &str, command: &[&str]) -> Command {
        let mut run = self.etcdctl(&["lock", "--ttl=60", name]);
        run.args(command);
        run
    }

    fn etcdctl(&self, arguments: &[&str]) -> Command {
        let mut run = clean(&self.programs.etcdctl);
        run.arg("--endpoints").arg(self.control_plane.etcd_url()).args(arguments);
        run
    }

    /// Waits until so many hold or wait for an `etcdctl` lock.
    pub(crate) async fn wait_etcd_claims(&self, name: &str, number: usize) {
        let wanted = format!("\"Count\" : {number}");
        eventually(LIMIT, &format!("{number} claims of the etcd lock {name}"), || async {
            let prefix = format!("{name}/");
            let output = self
                .etcdctl(&["get", "--prefix", &prefix, "--count-only", "--write-out=fields"])
                .output()
                .map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.lines().any(|line| line == wanted) { Ok(()) } else { Err(said) }
        })
        .await;
    }

    /// Waits until so many permits of a semaphore are in use.
    pub(crate) async fn wait_in_use(&self, name: &str, permits: usize) {
        let semaphores: Api<Semaphore> = self.namespace.api();
        wait_for(&semaphores, name, LIMIT, |semaphore| {
            semaphore.status.as_ref().is_some_and(|status| status.in_use == Some(permits as u64))
        })
        .await;
    }

    /// Creates a semaphore, and returns when the operator has taken it over.
    pub(crate) async fn semaphore(&self, name: &str, permits: usize) {
        let semaphore = json!({ "metadata": { "name": name }, "spec": { "permits": permits } });
        let semaphore = serde_json::from_value(semaphore).expect("a Semaphore");
        let api: Api<Semaphore> = self.namespace.api();
        api.create(&PostParams::default(), &semaphore).await.expect("create a Semaphore");
        wait_for(&api, name, LIMIT, |semaphore| {
            let status = semaphore.status.clone().unwrap_or_default();
            status.term.is_some() && status.settled_term == status.term
        })
        .await;
    }

    /// Waits until so many claims on a semaphore were told that they wait.
    pub(crate) async fn wait_pending(&self, semaphore: &str, number: usize) {
        let all = async { while !self.see_pending(semaphore, number).await {} };
        let done = timeout(LIMIT, all).await;
        assert!(done.is_ok(), "not within {LIMIT:?}: {number} claims that wait for {semaphore}");
    }

    /// Whether one watch saw that. The API server ends watches, above all of those who are slow to read.
    async fn see_pending(&self, semaphore: &str, number: usize) -> bool {
        let api: Api<Permit> = self.namespace.api();
        let list = api.list(&of(semaphore)).await.expect("list the claims");
        let pending = |permit: &Permit| phase(permit) == Some(ClaimPhase::Pending);
        let mut waiting: HashSet<_> =
            list.items.iter().filter(|permit| pending(permit)).map(Permit::name_any).collect();
        let version = list.metadata.resource_version.unwrap_or_default();
        let these = WatchParams::default().fields(&format!("spec.semaphore={semaphore}"));
        let mut events = api.watch(&these, &version).await.expect("watch the claims").boxed();
        while waiting.len() != number {
            match events.try_next().await.expect("watch the claims") {
                Some(WatchEvent::Added(permit) | WatchEvent::Modified(permit)) if pending(&permit) => {
                    waiting.insert(permit.name_any());
                }
                Some(WatchEvent::Modified(permit) | WatchEvent::Deleted(permit)) => {
                    waiting.remove(&permit.name_any());
                }
                Some(WatchEvent::Added(_) | WatchEvent::Bookmark(_)) => {}
                Some(WatchEvent::Error(_)) | None => return false,
            }
        }
        true
    }

    /// Deletes a semaphore and all claims on it, and returns when the operator has nothing more to do with them.
    pub(crate) async fn clear(&self, semaphore: &str) {
        let permits: Api<Permit> = self.namespace.api();
        permits.delete_collection(&DeleteParams::default(), &of(semaphore)).await.expect("delete the claims");
        let semaphores: Api<Semaphore> = self.namespace.api();
        wait_for(&semaphores, semaphore, LIMIT, |semaphore| {
            semaphore.status.as_ref().is_some_and(|status| status.in_use == Some(0) && status.waiting == Some(0))
        })
        .await;
        semaphores.delete(semaphore, &DeleteParams::default()).await.expect("delete a Semaphore");
    }

    /// A client of the library, with a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::from_config(config(&self.kubeconfig).await, ConnectOptions::default()).expect("set up a client")
    }
}

async fn start_operator(program: &Path, installed: &Installed, log: Option<&str>) -> Process {
    let mut command = Command::new(program);
    command.args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0", "--identity", OPERATOR]);
    command.env("KUBECONFIG", installed.kubeconfig());
    command.envs(log.map(|log| ("KONDUCTOR_LOG", log)));
    let operator = Process::spawn("konductor-operator", command);
    installed.wait_leader(OPERATOR, LIMIT).await;
    operator
}

/// A command with nothing in its environment but where programs are.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// The claims on one semaphore.
pub(crate) fn of(semaphore: &str) -> ListParams {
    ListParams::default().fields(&format!("spec.semaphore={semaphore}"))
}

pub(crate) fn phase(permit: &Permit) -> Option<ClaimPhase> {
    permit.status.as_ref().and_then(|status| status.phase)
}
