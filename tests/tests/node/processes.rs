//! The node's processes, as the machine sees them: all of them are its own, too.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use konductor_tests::{Pid, Signal};
use nix::sys::signal::kill;

/// The kernel keeps this much of a program's name.
const NAME_KEPT: usize = 15;

/// The processes of a pod that run this program.
pub(crate) fn of_pod(uid: &str, program: &str) -> Vec<Pid> {
    running(program, |process| is_of_pod(process, uid))
}

/// The shells of a pod that run a script about the records: its command. (What holds its namespaces is a shell, too.)
pub(crate) fn commands_of_pod(uid: &str) -> Vec<Pid> {
    running("sh", |process| is_of_pod(process, uid) && contains(process, "cmdline", "/records"))
}

fn is_of_pod(process: &Path, uid: &str) -> bool {
    contains(process, "cgroup", &format!("pod{uid}"))
}

/// Kills the one process of a pod that runs this program, as the kernel does when memory is short: without a word.
pub(crate) fn kill_in_pod(uid: &str, program: &str) {
    let found = of_pod(uid, program);
    assert_eq!(found.len(), 1, "processes of pod {uid} that run {program}: {found:?}");
    kill(found[0], Signal::SIGKILL).expect("kill a running process");
}

/// Freezes everything that runs in a pod, without a word to anybody: what a node that is lost looks like to the
/// cluster. Returns what was frozen.
pub(crate) fn freeze_pod(uid: &str) -> Vec<Pid> {
    let frozen: Vec<_> = ["konductor-run", "konductor-wdog"]
        .into_iter()
        .flat_map(|program| of_pod(uid, program))
        .chain(commands_of_pod(uid))
        .inspect(|process| kill(*process, Signal::SIGSTOP).expect("freeze a process"))
        .collect();
    assert_eq!(frozen.len(), 3, "the wrapper, its watchdog and its command: {frozen:?}");
    frozen
}

/// Kills processes that stand still.
pub(crate) fn kill_all(processes: &[Pid]) {
    for process in processes {
        // One may have been killed by another one's death.
        let _ = kill(*process, Signal::SIGKILL);
    }
}

/// The node's kubelet, standing still for as long as this exists: what a node that is cut off looks like to the
/// cluster, while its pods run on.
pub(crate) struct FrozenKubelet(Pid);

impl FrozenKubelet {
    /// Freezes it.
    pub(crate) fn new() -> Self {
        let found = running("kubelet", |process| contains(process, "cgroup", "konductor-node"));
        assert_eq!(found.len(), 1, "kubelets of the node: {found:?}");
        kill(found[0], Signal::SIGSTOP).expect("freeze the kubelet");
        Self(found[0])
    }
}

impl Drop for FrozenKubelet {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).expect("thaw the kubelet");
    }
}

/// The processes that run a program, and of whose folder in /proc this holds.
fn running(program: &str, wanted: impl Fn(&Path) -> bool) -> Vec<Pid> {
    let name = &program[..program.len().min(NAME_KEPT)];
    let ids = fs::read_dir("/proc").expect("list the processes").filter_map(|entry| {
        let process = entry.expect("list the processes").path();
        let id = process.file_name()?.to_str()?.parse().ok()?;
        let found = read(&process, "comm").trim_end() == name && wanted(&process);
        found.then_some(Pid::from_raw(id))
    });
    ids.collect()
}

fn contains(process: &Path, file: &str, word: &str) -> bool {
    read(process, file).contains(word)
}

/// A file of a process; of one that ended meanwhile they are all empty.
fn read(process: &Path, file: &str) -> String {
    fs::read(process.join(file)).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// Lets the users of all pods write to a folder.
pub(crate) fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("change a folder's mode");
}
