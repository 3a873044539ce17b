//! What all these tests need: a cluster with Konductor, and commands that run under `konductor-run`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use konductor_api::{Permit, Semaphore};
use konductor_tests::{Binaries, ControlPlane, Installed, Process, TestNamespace, eventually, wait_for, wait_gone};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::record::Record;

/// Far more than anything here takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// A time to live for claims that are to expire: what is renewed each third of it, and ended a second before its end,
/// outlives a machine that stands still for ten seconds.
pub(crate) const SHORT_TTL: Duration = Duration::from_secs(18);

/// That a claim has this time to live.
pub(crate) const SHORT: [&str; 4] = ["--ttl", "18s", "--grace", "1s"];

/// How long somebody waits who waits in vain: long enough to hear why, on a machine that stands still for ten seconds.
pub(crate) const IN_VAIN: &str = "15s";

/// For how long a machine may stand still, and a process not get to run beside hundreds of others that want to. Whether
/// anybody else was let in meanwhile is another question, which the record answers.
pub(crate) const STALL: Duration = Duration::from_secs(15);

/// The program that writes down when it is alive.
pub(crate) const WITNESS: &str = env!("CARGO_BIN_EXE_witness");

/// A control plane of a test's own, with Konductor but no operator yet.
pub(crate) async fn exclusive() -> (ControlPlane, Installed) {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    (control_plane, installed)
}

/// A namespace of the control plane that tests share, with an operator that nobody disturbs.
pub(crate) async fn shared(prefix: &str) -> Scene {
    static OPERATOR: OnceCell<Process> = OnceCell::const_new();
    OPERATOR
        .get_or_init(|| async {
            let installed = Installed::on(ControlPlane::shared().await, true).await;
            installed.operator_alone("shared", LIMIT).await
        })
        .await;
    Scene::new(ControlPlane::shared().await, prefix).await
}

/// A test's namespace, and what can be done in it.
pub(crate) struct Scene {
    pub(crate) namespace: TestNamespace,
    pub(crate) record: Record,
    pub(crate) folder: TempDir,
    pub(crate) kubeconfig: PathBuf,
}

impl Scene {
    pub(crate) async fn new(control_plane: &ControlPlane, prefix: &str) -> Self {
        let namespace = control_plane.namespace(prefix).await;
        namespace.bind_cluster_role("default", Installed::WORKLOAD).await;
        let kubeconfig = namespace.service_account_kubeconfig("default").await;
        let folder = tempfile::tempdir().expect("make a folder");
        Self { namespace, record: Record::new(folder.path().join("record")), folder, kubeconfig }
    }

    pub(crate) fn permits(&self) -> Api<Permit> {
        self.namespace.api()
    }

    pub(crate) fn semaphores(&self) -> Api<Semaphore> {
        self.namespace.api()
    }

    /// Creates the semaphore `s` of so many permits.
    pub(crate) async fn semaphore(&self, permits: u32) {
        self.semaphore_called("s", permits).await;
    }

    /// Creates a semaphore of so many permits.
    pub(crate) async fn semaphore_called(&self, name: &str, permits: u32) {
        let semaphore = json!({ "metadata": { "name": name }, "spec": { "permits": permits } });
        let semaphore = serde_json::from_value(semaphore).expect("a Semaphore");
        self.semaphores().create(&PostParams::default(), &semaphore).await.expect("create a Semaphore");
    }

    /// Changes how many permits the semaphore `s` has.
    pub(crate) async fn resize(&self, permits: u32) {
        let patch = Patch::Merge(json!({ "spec": { "permits": permits } }));
        self.semaphores().patch("s", &PatchParams::default(), &patch).await.expect("change a Semaphore");
    }

    /// Waits until so many claims on the semaphore `s` wait.
    pub(crate) async fn waiting(&self, number: u64) {
        wait_for(&self.semaphores(), "s", LIMIT, |semaphore| {
            semaphore.status.as_ref().is_some_and(|status| status.waiting == Some(number))
        })
        .await;
    }

    /// The term of the semaphore `s`.
    pub(crate) async fn term(&self) -> u64 {
        let semaphore = self.semaphores().get("s").await.expect("read a Semaphore");
        semaphore.status.and_then(|status| status.term).expect("an operator has raised the term")
    }

    /// `konductor-run` for `holder` with these flags and this command. It wants one permit of the semaphore `s`, if the
    /// flags do not say otherwise.
    pub(crate) fn command(&self, holder: &str, flags: &[&str], command: &[&str]) -> Command {
        // Whoever runs the tests in the background may have had signals ignored.
        let mut run = Command::new("env");
        run.arg("--default-signal")
            .arg(Binaries::built().run())
            .args(["--holder", holder])
            .args(flags)
            .arg("--")
            .args(command);
        run.env("KUBECONFIG", &self.kubeconfig).env("KONDUCTOR_SEMAPHORE", "s");
        run
    }

    /// Starts `konductor-run` for `holder` with these flags and this command.
    pub(crate) fn run(&self, holder: &str, flags: &[&str], command: &[&str]) -> Process {
        Process::spawn(holder, self.command(holder, flags, command))
    }

    /// As [`Scene::run`]; the command is a witness that holds for so long.
    pub(crate) fn witness(&self, holder: &str, flags: &[&str], hold: Duration) -> Process {
        self.run(holder, flags, &[WITNESS, path(self.record.path()), &hold.as_millis().to_string()])
    }

    /// The command line of a witness that holds until [`Scene::let_go`].
    pub(crate) fn until_let_go(&self) -> [String; 3] {
        let hold = self.folder.path().join("hold");
        std::fs::write(&hold, "").expect("write a file");
        [WITNESS.to_owned(), path(self.record.path()).to_owned(), path(&hold).to_owned()]
    }

    /// As [`Scene::run`]; the command is a witness that holds until [`Scene::let_go`].
    pub(crate) fn holder(&self, holder: &str, flags: &[&str]) -> Process {
        self.run(holder, flags, &self.until_let_go().each_ref().map(String::as_str))
    }

    /// Lets witnesses go.
    pub(crate) fn let_go(&self) {
        std::fs::remove_file(self.folder.path().join("hold")).expect("remove a file");
    }

    /// Starts so many witnesses.
    pub(crate) fn crowd(&self, number: usize, flags: &[&str], hold: Duration) -> Vec<Process> {
        (0..number).map(|client| self.witness(&format!("client-{client}"), flags, hold)).collect()
    }

    /// The claim of this holder, once there is one.
    pub(crate) async fn claim(&self, holder: &str) -> Permit {
        eventually(LIMIT, &format!("a claim of {holder}"), || async {
            let list = self.permits().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let number = list.items.len();
            let found = list.items.into_iter().find(|permit| permit.spec.claim.holder == holder);
            found.ok_or_else(|| format!("{number} claims of others"))
        })
        .await
    }

    /// Waits until the claim of this holder is as wanted.
    pub(crate) async fn claim_is(&self, holder: &str, wanted: impl Fn(&Permit) -> bool) -> Permit {
        wait_for(&self.permits(), &self.claim(holder).await.name_any(), LIMIT, wanted).await
    }

    /// Waits until the claim of one that has ended while it waited is gone. It has less than a second to withdraw it. Who
    /// says that this was not enough is cleaned up after; returns whether that was not needed.
    pub(crate) async fn has_withdrawn(&self, waiter: &Process, claim: &Permit) -> bool {
        let withdrawn = !could_not_withdraw(waiter);
        if !withdrawn {
            match self.permits().delete(&claim.name_any(), &DeleteParams::default()).await {
                // What was tried may have been done after all.
                Ok(_) | Err(kube::Error::Api(_)) => {}
                Err(error) => panic!("delete a Permit: {error}"),
            }
        }
        wait_gone(&self.permits(), &claim.name_any(), LIMIT).await;
        withdrawn
    }

    /// Asserts that those who have ended while they waited have left no claim. Who says that it could not withdraw its own
    /// in the second that it has is cleaned up after.
    pub(crate) async fn assert_withdrawn(&self, waiters: &[Process]) {
        if waiters.iter().any(could_not_withdraw) {
            let all = self.permits().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
            all.expect("delete the Permits that are left");
        } else {
            self.assert_no_claims().await;
        }
    }

    /// Asserts that nobody has left a claim.
    pub(crate) async fn assert_no_claims(&self) {
        let left = self.permits().list(&ListParams::default()).await.expect("list Permits").items;
        assert!(left.is_empty(), "{left:#?}");
    }
}

fn could_not_withdraw(waiter: &Process) -> bool {
    waiter.stderr().contains("could not release semaphore ")
}

/// Waits until all of them have ended with success.
pub(crate) async fn all_succeed(processes: &mut [Process]) {
    for process in processes {
        process.expect_exit(LIMIT, 0).await;
    }
}

/// A flag's value.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test folders have UTF-8 names")
}
