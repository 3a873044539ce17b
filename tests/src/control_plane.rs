//! A Kubernetes control plane of a test's own: etcd and kube-apiserver with real RBAC, and kube-controller-manager on
//! request.
//!
//! Ports are held for the whole life of the control plane: a bound socket with `SO_REUSEPORT` that never listens keeps
//! everyone else off the port, while the server, told to share it, can bind it again and again. So there is no moment
//! at which another program can take a port that was found free, and a restarted API server is where it was.
//!
//! There is no kubelet and no controller unless asked for: no namespace gets its default `ServiceAccount` (the harness
//! makes it), nothing cascades, and a pod has the status that the test writes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kube::Client;
use nix::unistd::Pid;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::OnceCell;

use crate::access::{self, Access};
use crate::namespace::TestNamespace;
use crate::pki::{self, Authority};
use crate::process::Process;
use crate::reaper;
use crate::tools::{tool, tool_of};
use crate::wait::INTERVAL;

/// Readiness takes some four seconds on two idle cores. The rest is for machines that build and test at the same time.
const START_LIMIT: Duration = Duration::from_mins(3);

/// A running control plane. Dropping it stops its programs and removes its data.
#[derive(Debug)]
pub struct ControlPlane {
    // In the order of dropping: clients before servers, the folder last.
    controllers: Option<Process>,
    /// The API server; stop, freeze and start it only on a control plane that no other test uses.
    pub api_server: ApiServer,
    etcd: Etcd,
    access: Access,
    token_key: PathBuf,
    folder: Folder,
}

/// The file in which the API server notes the writes of custom resources, with what policies say of them.
const AUDIT_LOG: &str = "audit.log";

const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- { level: Metadata, verbs: [create, update, patch, delete], resources: [{ group: konductor.io }] }
- { level: None }
";

impl ControlPlane {
    /// The control plane that all tests of this test binary share, started by the first of them. It ends with the test
    /// process. Tests keep apart by [namespaces](ControlPlane::namespace).
    pub async fn shared() -> &'static Self {
        // Only processes and files are shared: each test has a runtime of its own, and needs clients of its own.
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Starts a control plane for the caller alone, and returns when it is ready.
    pub async fn start() -> Self {
        Self::start_with(None, false).await
    }

    /// As [`ControlPlane::start`], with the API server of this minor of Kubernetes, like `1.36`.
    pub async fn start_of(minor: &str) -> Self {
        Self::start_with(Some(minor), false).await
    }

    /// As [`ControlPlane::start`], but what is written is on the disk before it is acknowledged, as in a real cluster, and
    /// no audit log is kept: for figures, not for tests.
    pub async fn start_durable() -> Self {
        Self::start_with(None, true).await
    }

    async fn start_with(minor: Option<&str>, durable: bool) -> Self {
        let etcd = tool("etcd");
        let api_server = "kube-apiserver";
        let api_server = minor.map_or_else(|| tool(api_server), |minor| tool_of(minor, api_server));
        let folder = Folder(reaper::folder("control-plane"));
        let authority = Authority::new(&folder.0);
        let (token_key, token_public_key) = pki::token_keys(&folder.0);

        let (clients, peers) = (Port::reserve(), Port::reserve());
        let data = folder.0.join("etcd");
        let arguments = vec![
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={}", clients.url("http")),
            format!("--advertise-client-urls={}", clients.url("http")),
            format!("--listen-peer-urls={}", peers.url("http")),
            "--socket-reuse-port=true".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--unsafe-no-fsync={}", !durable),
        ];
        let mut etcd = Etcd { program: etcd, arguments, process: None, data, url: clients.url("http") };
        etcd.start();

        let port = Port::reserve();
        let serving = authority.server(&["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"]);
        let access = Access::new(port.url("https"), authority, folder.0.join("admin.kubeconfig"));
        let mut arguments = vec![
            format!("--etcd-servers={}", clients.url("http")),
            format!("--secure-port={}", port.address.port()),
            "--permit-port-sharing=true".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            // Left to itself it looks for a network interface, and a machine without one cannot start.
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--cert-dir={}", folder.0.display()),
            format!("--tls-cert-file={}", serving.certificate.display()),
            format!("--tls-private-key-file={}", serving.key.display()),
            format!("--client-ca-file={}", access.authority().display()),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", token_public_key.display()),
            format!("--service-account-signing-key-file={}", token_key.display()),
        ];
        if !durable {
            let policy = folder.0.join("audit.yaml");
            std::fs::write(&policy, AUDIT_POLICY).expect("write the audit policy");
            arguments.push(format!("--audit-policy-file={}", policy.display()));
            arguments.push(format!("--audit-log-path={}", folder.0.join(AUDIT_LOG).display()));
        }
        let mut api_server = ApiServer {
            program: api_server,
            arguments,
            process: None,
            kubeconfig: access.admin_kubeconfig().to_owned(),
            _ports: [clients, peers, port],
        };
        api_server.start().await;
        Self { controllers: None, api_server, etcd, access, token_key, folder }
    }

    /// Starts kube-controller-manager: default `ServiceAccount`s, garbage collection, Jobs and the like.
    pub fn start_controllers(&mut self) {
        let mut command = Command::new(tool("kube-controller-manager"));
        command
            .arg(format!("--kubeconfig={}", self.admin_kubeconfig().display()))
            .arg(format!("--service-account-private-key-file={}", self.token_key.display()))
            .arg(format!("--root-ca-file={}", self.access.authority().display()))
            .args(["--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=true"]);
        self.controllers = Some(Process::spawn_quiet("kube-controller-manager", command));
    }

    /// How to reach it, as whom.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The address of the etcd below the API server.
    pub fn etcd_url(&self) -> &str {
        &self.etcd.url
    }

    /// Keeps a copy of all that is stored, for [`restore`](ControlPlane::restore). Stops the servers for it, and starts
    /// them again.
    pub async fn back_up(&mut self) {
        self.api_server.stop();
        self.etcd.stop();
        copy(&self.etcd.data, &self.etcd.backup());
        self.etcd.start();
        self.api_server.start().await;
    }

    /// Goes back to what was stored at the last [`back_up`](ControlPlane::back_up), as people do after a disaster: also
    /// the versions that the API server counts go back.
    pub async fn restore(&mut self) {
        self.api_server.stop();
        self.etcd.stop();
        std::fs::remove_dir_all(&self.etcd.data).expect("remove the data");
        copy(&self.etcd.backup(), &self.etcd.data);
        self.etcd.start();
        self.api_server.start().await;
    }

    /// Makes etcd forget all that was, but for what is there. Restarts the API server, which remembers some of it.
    pub async fn compact(&mut self) {
        self.api_server.stop();
        self.etcd.compact();
        self.api_server.start().await;
    }

    /// The lines of the audit log about writes of custom resources, so far.
    pub fn audit_log(&self) -> String {
        // The file is made with its first line.
        std::fs::read_to_string(self.folder.0.join(AUDIT_LOG)).unwrap_or_default()
    }

    /// The kubeconfig of a user who may do everything.
    pub fn admin_kubeconfig(&self) -> &Path {
        self.access.admin_kubeconfig()
    }

    /// A client of the user who may do everything.
    pub async fn client(&self) -> Client {
        access::client(self.admin_kubeconfig()).await
    }

    /// A new namespace `PREFIX-RANDOM` for one test.
    pub async fn namespace(&self, prefix: &str) -> TestNamespace {
        TestNamespace::new(self.access.clone(), prefix).await
    }
}

/// The etcd of one control plane.
#[derive(Debug)]
struct Etcd {
    program: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
    data: PathBuf,
    url: String,
}

impl Etcd {
    fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        self.process = Some(Process::spawn_quiet("etcd", command));
    }

    fn stop(&mut self) {
        drop(self.process.take().expect("etcd runs"));
    }

    fn compact(&self) {
        let control = |arguments: &[&str]| {
            let mut command = Command::new(tool("etcdctl"));
            let output = command.arg("--endpoints").arg(&self.url).args(arguments).output().expect("run etcdctl");
            assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let status: Value =
            serde_json::from_slice(&control(&["endpoint", "status", "--write-out=json"])).expect("a status");
        control(&["compact", &status[0]["Status"]["header"]["revision"].to_string()]);
    }

    fn backup(&self) -> PathBuf {
        self.data.with_extension("backup")
    }
}

/// Copies a folder with all that is in it; replaces what was there.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a folder");
    for entry in std::fs::read_dir(from).expect("read a folder") {
        let entry = entry.expect("read a folder");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("look at a file").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).expect("copy a file");
        }
    }
}

/// The kube-apiserver of one control plane. Its address and its data outlast its stops.
#[derive(Debug)]
pub struct ApiServer {
    program: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
    kubeconfig: PathBuf,
    /// The ports of the API server and of its etcd.
    _ports: [Port; 3],
}

impl ApiServer {
    /// The process id of it.
    pub fn pid(&self) -> Pid {
        self.process.as_ref().expect("the API server runs").pid()
    }

    /// Kills it, as a crash would. Connections break, and new ones are refused.
    pub fn stop(&mut self) {
        drop(self.process.take().expect("the API server runs"));
    }

    /// Starts it after a [stop](ApiServer::stop), at the same address and with the same data, and returns when it is
    /// ready.
    pub async fn start(&mut self) {
        assert!(self.process.is_none(), "the API server runs already");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let process = self.process.insert(Process::spawn_quiet("kube-apiserver", command));
        let mut config = access::config(&self.kubeconfig).await;
        config.default_retry = false;
        let client = Client::try_from(config).expect("make a client");
        let ready = async {
            loop {
                let Err(error) = client.request_text(ready_request()).await else { return };
                if let Some(status) = process.status() {
                    panic!("kube-apiserver ended with {status} ({error})\n{}", process.output());
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        let done = tokio::time::timeout(START_LIMIT, ready).await;
        assert!(done.is_ok(), "kube-apiserver is not ready after {START_LIMIT:?}\n{}", process.output());
    }

    /// Replaces it by that of another minor of Kubernetes, at the same address and on the same etcd.
    pub async fn replace(&mut self, minor: &str) {
        // First, as it may have to be built.
        self.program = tool_of(minor, "kube-apiserver");
        self.stop();
        self.start().await;
    }

    /// Freezes it: connections stay, new ones are made, and nothing is answered.
    pub fn freeze(&mut self) {
        self.process.as_mut().expect("the API server runs").freeze();
    }

    /// Ends a [freeze](ApiServer::freeze).
    pub fn thaw(&mut self) {
        self.process.as_mut().expect("the API server runs").thaw();
    }
}

fn ready_request() -> http::Request<Vec<u8>> {
    http::Request::get("/readyz").body(Vec::new()).expect("a valid request")
}

/// A port of 127.0.0.1 that nobody else gets while this lives.
#[derive(Debug)]
struct Port {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Port {
    fn reserve() -> Self {
        let reserve = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseport(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            Ok::<_, std::io::Error>(Self { address: socket.local_addr()?, _socket: socket })
        };
        reserve().expect("find a free port")
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }
}

/// A folder that is removed on drop.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            // The reaper tries again.
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}
