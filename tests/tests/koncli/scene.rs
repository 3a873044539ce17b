//! A namespace with an operator, and `koncli` in it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use konductor_tests::{Binaries, ControlPlane, Installed, Process, TestNamespace};
use tokio::{net::TcpSocket, sync::OnceCell};

/// Far more than anything here takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// Konductor as the chart installs it, with an operator that all tests share.
pub(crate) async fn shared() -> &'static (Installed, Process) {
    static SHARED: OnceCell<(Installed, Process)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let installed = Installed::on(ControlPlane::shared().await, true).await;
            let operator = installed.operator_alone("shared", LIMIT).await;
            (installed, operator)
        })
        .await
}

/// A test's namespace, and `koncli` as one user of it.
pub(crate) struct Scene {
    pub(crate) namespace: TestNamespace,
    /// Where the operator is.
    pub(crate) system: String,
    pub(crate) kubeconfig: PathBuf,
}

/// How a `koncli` has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; of what a signal has ended, the signal's number with a minus.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Scene {
    /// As a user who may do everything.
    pub(crate) async fn new(prefix: &str) -> Self {
        let (installed, _) = shared().await;
        let namespace = ControlPlane::shared().await.namespace(prefix).await;
        let kubeconfig = namespace.user_kubeconfig("ann", Some("system:masters"));
        Self { namespace, system: installed.system.name.clone(), kubeconfig }
    }

    /// As a `ServiceAccount` with this `ClusterRole` and nothing else.
    pub(crate) async fn with_role(&self, role: &str) -> Self {
        self.namespace.service_account(role).await;
        self.namespace.bind_cluster_role(role, role).await;
        let kubeconfig = self.namespace.service_account_kubeconfig(role).await;
        Self { namespace: self.namespace.clone(), system: self.system.clone(), kubeconfig }
    }

    /// As a `ServiceAccount` that may do nothing.
    pub(crate) async fn without_rights(&self, name: &str) -> Self {
        self.namespace.service_account(name).await;
        let kubeconfig = self.namespace.service_account_kubeconfig(name).await;
        Self { namespace: self.namespace.clone(), system: self.system.clone(), kubeconfig }
    }

    /// Starts `koncli` with the words of a line.
    pub(crate) fn start(&self, line: &str) -> Process {
        let mut command = koncli(&self.kubeconfig);
        command.args(line.split(' ').filter(|word| !word.is_empty()));
        Process::spawn("koncli", command)
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, line: &str) -> Ran {
        ended(self.start(line)).await
    }

    /// Runs it; it must succeed and print this, after ages were replaced, and nothing of trouble.
    pub(crate) async fn says(&self, line: &str, stdout: &str) {
        let ran = self.run(line).await;
        assert_eq!((ran.code, ages(&ran.stdout).as_str()), (0, stdout), "koncli {line}\n{}", ran.stderr);
    }

    /// Runs it until it prints this: a status is written a little after what it tells of.
    pub(crate) async fn comes_to_say(&self, line: &str, stdout: &str) {
        konductor_tests::eventually(LIMIT, &format!("koncli {line} says {stdout:?}"), || async {
            let ran = self.run(line).await;
            if ages(&ran.stdout) == stdout { Ok(()) } else { Err(format!("{ran:?}")) }
        })
        .await;
    }

    /// Runs it; it must fail with this code and say this on stderr, where NAMESPACE stands for the test's.
    pub(crate) async fn fails(&self, line: &str, code: i32, stderr: &str) {
        let ran = self.run(line).await;
        // Older API servers say a value that is an object to be one.
        let said = ran.stderr.replace("Invalid value: \"object\": ", "Invalid value: ");
        let said = ages(&said.replace(&self.namespace.name, "NAMESPACE"));
        assert_eq!((ran.code, said.as_str(), ran.stdout.as_str()), (code, stderr, ""), "koncli {line}");
    }

    /// Runs it; it must succeed. Returns what it printed.
    pub(crate) async fn prints(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert_eq!(ran.code, 0, "koncli {line}\n{}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// A semaphore that the operator has accepted.
    pub(crate) async fn semaphore(&self, name: &str, permits: u32) {
        self.prints(&format!("semaphore create {name} --permits {permits}")).await;
        self.prints(&format!("wait semaphore/{name} --for condition=Ready --timeout 2m")).await;
    }
}

/// `koncli` by this kubeconfig, and with nothing else from its surroundings.
pub(crate) fn koncli(kubeconfig: &Path) -> Command {
    let mut command = Command::new(Binaries::built().koncli());
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", "/nowhere")
        .env("RUST_BACKTRACE", "0");
    command
}

/// An address at which nobody listens, and nobody else will as long as the socket is kept.
pub(crate) fn deaf() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

/// Waits for the end of a `koncli`.
pub(crate) async fn ended(mut process: Process) -> Ran {
    let status = process.wait_exit(LIMIT).await;
    let code = status.code().or(status.signal().map(|signal| -signal)).unwrap_or(i32::MIN);
    Ran { code, stdout: process.stdout(), stderr: process.stderr() }
}

/// The same text with each age as AGE.
pub(crate) fn ages(text: &str) -> String {
    let is_age = |word: &str| {
        let mut digits = false;
        !word.is_empty()
            && word.chars().all(|character| {
                let unit = matches!(character, 's' | 'm' | 'h' | 'd') && digits;
                digits = character.is_ascii_digit();
                unit || digits
            })
            && word.ends_with(['s', 'm', 'h', 'd'])
    };
    let line =
        |line: &str| line.split(' ').map(|word| if is_age(word) { "AGE" } else { word }).collect::<Vec<_>>().join(" ");
    let mut lines = text.lines().map(line).collect::<Vec<_>>().join("\n");
    if text.ends_with('\n') {
        lines.push('\n');
    }
    lines
}
