//! A real Kubernetes control plane for tests, and the real programs that run against it.
//!
//! ```no_run
//! use konductor_tests::{Binaries, ControlPlane, Process, install_crds};
//! use std::process::Command;
//! use std::time::Duration;
//!
//! # async fn test() {
//! let control_plane = ControlPlane::shared().await;
//! let namespace = control_plane.namespace("greeting").await;
//! install_crds(&namespace.client).await;
//!
//! let mut command = Command::new(Binaries::built().run());
//! command.args(["--", "echo", "hello"]).env("KUBECONFIG", namespace.service_account_kubeconfig("default").await);
//! let mut run = Process::spawn("run", command);
//! run.expect_exit(Duration::from_secs(10), 0).await;
//! assert_eq!(run.stdout(), "hello\n");
//! # }
//! ```
//!
//! Nothing is mocked: requests go to a kube-apiserver with RBAC and admission as they are in a cluster, and programs
//! are processes. What no program of this tier does (there is no kubelet) the test does in its place, and says so.
//! Everything that a test process starts or writes is gone after it, even when it is killed.
//!
//! This package's dependencies have at least the features that the workspace's other packages ask for. Otherwise
//! `cargo test -p konductor-tests` and the build of all programs that follows would compile the same crates in turns.

mod access;
pub mod book;
mod chance;
mod chart;
mod control_plane;
mod gateway;
mod installed;
mod namespace;
mod pki;
mod process;
mod proxy;
mod reaper;
mod scrape;
mod tools;
mod wait;

pub use access::{Access, client, config};
pub use chance::{Chance, setting};
pub use chart::{apply, helm_template, install_crds, install_crds_of, parse};
pub use control_plane::{ApiServer, ControlPlane};
pub use gateway::{Fate, Gateway, Rule};
pub use installed::Installed;
pub use namespace::{ContainerState, TestNamespace};
pub use process::{Process, executable};
pub use proxy::{Network, Proxy};
pub use scrape::{get, get_as, metrics_address};
pub use tools::{Binaries, minors, tool, tool_of, workspace};
pub use wait::{INTERVAL, eventually, wait_for, wait_gone};

/// The signals of [`Process::signal`], and the ids of [`Process::tree`].
pub use nix::{sys::signal::Signal, unistd::Pid};
