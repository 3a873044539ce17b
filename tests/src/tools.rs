//! The programs that tests run: the cluster's, pinned and cached by `tests/tools/install`, and this workspace's own.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

/// The workspace's root folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace")
}

/// The variable that says which minor of Kubernetes the tests run on, for this process and `tests/tools/install`.
const MINOR: &str = "KONDUCTOR_TEST_KUBERNETES";

/// The path of a cluster program: `etcd`, `etcdctl`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`,
/// `kubelet`, `helm` or `helm4`. Builds it when this user has none of the pinned version yet, which takes minutes.
/// Kubernetes' own are of the newest minor, or of the one that `KONDUCTOR_TEST_KUBERNETES` names.
///
/// Panics with what to install when there is no way to get it; a later call then panics at once with the same words.
pub fn tool(program: &str) -> PathBuf {
    found(program, None)
}

/// As [`tool`], of this minor of Kubernetes, like `1.36`.
pub fn tool_of(minor: &str, program: &str) -> PathBuf {
    found(program, Some(minor))
}

/// The minors of Kubernetes that Konductor is for, oldest first.
pub fn minors() -> Vec<String> {
    let file = workspace().join("tests/tools/kubernetes/versions");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    let minor = |line: &str| Some(line.split(' ').next()?.rsplit_once('.')?.0.to_owned());
    text.lines().rev().map(|line| minor(line).unwrap_or_else(|| panic!("{}: {line:?}", file.display()))).collect()
}

fn found(program: &str, minor: Option<&str>) -> PathBuf {
    type Found = HashMap<(String, Option<String>), Result<PathBuf, String>>;
    static FOUND: Mutex<Option<Found>> = Mutex::new(None);
    let found = FOUND
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .entry((program.to_owned(), minor.map(str::to_owned)))
        .or_insert_with(|| install(program, minor))
        .clone();
    found.unwrap_or_else(|message| panic!("{message}"))
}

fn install(program: &str, minor: Option<&str>) -> Result<PathBuf, String> {
    let script = workspace().join("tests/tools/install");
    let mut child = Command::new(&script)
        .arg(program)
        .envs(minor.map(|minor| (MINOR, minor)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("run {}: {error}", script.display()))?;
    let mut message = String::new();
    for line in BufReader::new(child.stderr.take().expect("stderr is piped")).lines() {
        let line = line.map_err(|error| format!("read from {}: {error}", script.display()))?;
        if line.starts_with("building ") {
            // Whoever waits some minutes should see why: this one way to write is not captured by the test runner.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        message += &line;
        message.push('\n');
    }
    let mut path = String::new();
    let read = child.stdout.take().expect("stdout is piped").read_to_string(&mut path);
    let status = child.wait();
    match (read, status) {
        (Ok(_), Ok(status)) if status.success() => Ok(PathBuf::from(path.trim_end())),
        (Err(error), _) | (_, Err(error)) => Err(format!("run {}: {error}", script.display())),
        _ => Err(message.trim_end().to_owned()),
    }
}

/// The workspace's own programs, as the tests run them.
#[derive(Debug)]
pub struct Binaries {
    programs: HashMap<String, PathBuf>,
}

impl Binaries {
    /// Builds all the workspace's programs, once per test process. After `cargo test --workspace` there is nothing left
    /// to build; after `cargo test -p` of one package this brings the others up to date, too.
    pub fn built() -> &'static Self {
        static BUILT: OnceLock<Result<Binaries, String>> = OnceLock::new();
        BUILT.get_or_init(build).as_ref().unwrap_or_else(|message| panic!("{message}"))
    }

    /// The path of `konductor-operator`.
    pub fn operator(&self) -> &Path {
        self.path("konductor-operator")
    }

    /// The path of `konductor-run`.
    pub fn run(&self) -> &Path {
        self.path("konductor-run")
    }

    /// The path of `koncli`.
    pub fn koncli(&self) -> &Path {
        self.path("koncli")
    }

    fn path(&self, program: &str) -> &Path {
        self.programs.get(program).unwrap_or_else(|| panic!("the workspace has no program {program}"))
    }
}

fn build() -> Result<Binaries, String> {
    let mut command = Command::new(std::env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")));
    command.current_dir(workspace()).args(["build", "--workspace", "--bins", "--quiet", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // Cargo describes the package under test in the environment; some build scripts take a change there for a change of
    // theirs, so that every such build would start almost from the beginning.
    for (variable, _) in std::env::vars_os() {
        let of_package =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "CARGO_TARGET_TMPDIR"];
        if variable.to_str().is_some_and(|variable| of_package.iter().any(|prefix| variable.starts_with(prefix))) {
            command.env_remove(variable);
        }
    }
    let output = command.output().map_err(|error| format!("run {command:?}: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if !output.status.success() {
        let rendered: String =
            messages.iter().filter_map(|message| message.pointer("/message/rendered")?.as_str()).collect();
        return Err(format!(
            "building the workspace's programs failed:\n{rendered}{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let programs = messages
        .iter()
        .filter_map(|message| {
            let name = message.pointer("/target/name")?.as_str()?.to_owned();
            Some((name, PathBuf::from(message.get("executable")?.as_str()?)))
        })
        .collect();
    Ok(Binaries { programs })
}
