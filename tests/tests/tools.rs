//! `tests/tools/install`, with a compiler that is a stand-in: what is tried here is how it finds, builds and caches.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use konductor_tests::{executable, workspace};
use tempfile::TempDir;

/// What the script needs of a machine besides a compiler.
const PROGRAMS: [&str; 8] = ["awk", "bash", "chmod", "dirname", "flock", "mkdir", "mv", "sleep"];

/// A machine with these programs only, an empty cache, and no compiler.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("make a folder"));
        std::fs::create_dir(machine.bin()).expect("make a folder");
        for program in PROGRAMS {
            let output =
                Command::new("bash").args(["-c", &format!("command -v {program}")]).output().expect("run bash");
            let path = String::from_utf8(output.stdout).expect("a UTF-8 path");
            assert!(!path.is_empty(), "this test needs {program}: install it");
            symlink(path.trim_end(), machine.bin().join(program)).expect("link a program");
        }
        machine
    }

    /// Adds a compiler that takes a moment, writes `built` as the program, and leaves a line in `builds`.
    fn with_compiler(self) -> Self {
        let script = r#"#!/usr/bin/env bash
while [[ $1 != -o ]]; do shift; done
sleep 0.3
echo built >"$2"
chmod +x "$2"
echo build >>"$BUILDS"
"#;
        executable(&self.bin().join("go"), script);
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    fn install(&self, programs: &[&str]) -> Command {
        let mut command = Command::new(workspace().join("tests/tools/install"));
        command
            .args(programs)
            .env_clear()
            .env("PATH", self.bin())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("BUILDS", self.path().join("builds"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn builds(&self) -> usize {
        std::fs::read_to_string(self.path().join("builds")).unwrap_or_default().lines().count()
    }
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

#[test]
fn without_compiler_and_assets_says_what_to_install() {
    let machine = Machine::new();
    let output = machine.install(&["etcd"]).output().expect("run the script");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in ["The tests need etcd v3.", "install Go", "KUBEBUILDER_ASSETS", "setup-envtest"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }

    // And the harness says just that.
    let harness = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .env_clear()
        .env("PATH", machine.bin())
        .env("XDG_CACHE_HOME", machine.path().join("cache"))
        .output()
        .expect("run the harness");
    assert_eq!(harness.status.code(), Some(101));
    let said = String::from_utf8(harness.stderr).expect("UTF-8");
    assert!(said.lines().any(|line| line == message.trim_end()), "{message:?} in {said}");
}

#[test]
fn two_at_once_build_once() {
    let machine = Machine::new().with_compiler();
    let children = [(); 2].map(|()| machine.install(&["etcd", "helm"]).spawn().expect("run the script"));
    let outputs = children.map(|child| child.wait_with_output().expect("wait for the script"));
    assert_eq!(stdout(&outputs[0]), stdout(&outputs[1]));
    assert_eq!(stdout(&outputs[0]).lines().count(), 2);
    for path in stdout(&outputs[0]).lines() {
        assert_eq!(std::fs::read_to_string(path).expect("read the program"), "built\n");
    }
    assert_eq!(machine.builds(), 2, "one for each program");
    // And from the cache afterwards.
    assert_eq!(stdout(&machine.install(&["etcd", "helm"]).output().expect("run the script")), stdout(&outputs[0]));
    assert_eq!(machine.builds(), 2);
}

#[test]
fn assets_win_for_what_they_hold() {
    let machine = Machine::new().with_compiler();
    let assets = machine.path().join("assets");
    std::fs::create_dir(&assets).expect("make a folder");
    executable(&assets.join("etcd"), "");
    let output =
        machine.install(&["etcd", "helm"]).env("KUBEBUILDER_ASSETS", &assets).output().expect("run the script");
    let paths: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(paths[0], assets.join("etcd").to_str().expect("UTF-8"));
    assert!(paths[1].starts_with(machine.path().join("cache").to_str().expect("UTF-8")), "{}", paths[1]);
    assert_eq!(machine.builds(), 1);
}
