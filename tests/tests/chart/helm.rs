//! The two Helms that are in use.

use std::path::PathBuf;
use std::process::Command;

use konductor_tests::{tool, workspace};

/// The chart, as a path in the workspace.
pub(crate) const CHART: &str = "charts/konductor";

/// A major version of Helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helm {
    /// Helm 3.
    Three,
    /// Helm 4.
    Four,
}

impl Helm {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Three, Self::Four];

    /// A command line of it, in the workspace's folder and without a cluster.
    pub(crate) fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool(match self {
            Self::Three => "helm",
            Self::Four => "helm4",
        }));
        command.args(arguments).current_dir(workspace()).env("KUBECONFIG", "/dev/null");
        command
    }

    /// What it says to these arguments, without a cluster; or what it says against them.
    pub(crate) fn says(self, arguments: &[&str]) -> Result<String, String> {
        output(self.command(arguments))
    }
}

/// A command's output; or what it says on stderr, when it fails.
pub(crate) fn output(mut command: Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(format!("{}{}", text(output.stdout), text(output.stderr)))
    }
}

/// The values files that are tried, in the order of their names: each with its name.
pub(crate) fn values_files() -> Vec<(String, PathBuf)> {
    let folder = workspace().join(CHART).join("ci");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("list the values files").path())
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a UTF-8 name");
            (name.strip_suffix("-values.yaml").expect("ci/NAME-values.yaml").to_owned(), path)
        })
        .collect();
    files.sort();
    files
}
