//! The node's processes, as the machine sees them: all of them are its own, too.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use konductor_tests::{Pid, Signal, eventually};
use nix::sys::signal::kill;

use crate::cluster::LIMIT;

/// The kernel keeps this much of a program's name.
const NAME_KEPT: usize = 15;

/// The processes of a pod that run this program.
pub(crate) fn of_pod(uid: &str, program: &str) -> Vec<Pid> {
    running(program, |process| is_of_pod(process, uid))
}

/// The shells of a pod that run a script about the records: its command. (What holds its namespaces is a shell, too.)
/// A child of one looks the same until it has become another program.
pub(crate) fn commands_of_pod(uid: &str) -> Vec<Pid> {
    let found = running("sh", |process| is_of_pod(process, uid) && contains(process, "cmdline", "/records"));
    let is_first = |pid: &Pid| stat(*pid).is_some_and(|(_, parent)| !found.contains(&parent));
    found.iter().copied().filter(is_first).collect()
}

fn is_of_pod(process: &Path, uid: &str) -> bool {
    contains(process, "cgroup", &format!("pod{uid}"))
}

/// Kills the one process of a pod that runs this program, as the kernel does when memory is short: without a word.
pub(crate) async fn kill_in_pod(uid: &str, program: &str) {
    // A watchdog looks like its parent until it has given itself its name.
    let process = eventually(LIMIT, &format!("one process of pod {uid} that runs {program}"), || async {
        match of_pod(uid, program).as_slice() {
            [one] => Ok(*one),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
    kill(process, Signal::SIGKILL).expect("kill a running process");
}

/// Freezes everything that runs in a pod, without a word to anybody: what a node that is lost looks like to the
/// cluster. Returns what was frozen.
pub(crate) async fn freeze_pod(uid: &str) -> Vec<Pid> {
    let all = eventually(LIMIT, "the wrapper, its watchdog and its command", || async {
        let found = [of_pod(uid, "konductor-run"), of_pod(uid, "konductor-wdog"), commands_of_pod(uid)];
        if found.iter().all(|found| found.len() == 1) { Ok(found.concat()) } else { Err(format!("{found:?}")) }
    })
    .await;
    for process in &all {
        kill(*process, Signal::SIGSTOP).expect("freeze a process");
    }
    all
}

/// Kills processes that stand still.
pub(crate) fn kill_all(processes: &[Pid]) {
    for process in processes {
        // One may have been killed by another one's death.
        let _ = kill(*process, Signal::SIGKILL);
    }
}

/// The process of one of the node's daemons, unless it is away.
pub(crate) fn daemon(name: &str) -> Option<Pid> {
    let found = running(name, |process| contains(process, "cgroup", "konductor-node/daemons"));
    assert!(found.len() <= 1, "processes of the node that run {name}: {found:?}");
    found.first().copied()
}

/// One `konductor-run` that is the first process of a container, and what else is in there.
#[derive(Debug)]
pub(crate) struct Wrapper {
    /// The UID of its pod.
    pub(crate) pod: String,
    /// Its own process.
    pub(crate) pid: Pid,
    /// Its watchdog's, while it has one.
    pub(crate) watchdog: Option<Pid>,
    /// The command's, and whatever that has started.
    pub(crate) others: Vec<Pid>,
}

/// The wrappers on the node whose command lines have this word, in the order of their starts.
pub(crate) fn wrappers(word: &str) -> Vec<Wrapper> {
    let mut containers: BTreeMap<String, Vec<(i32, PathBuf)>> = BTreeMap::new();
    for process in all() {
        let groups = read(&process, "cgroup");
        let container =
            groups.lines().find_map(|line| line.split_once("konductor-node/kubepods")?.1.split_once("/pod"));
        if let (Some((_, container)), Some(id)) = (container, id_of(&process)) {
            containers.entry(container.to_owned()).or_default().push((id, process));
        }
    }
    let wrapper = |(container, processes): (String, Vec<(i32, PathBuf)>)| {
        let (pod, _) = container.split_once('/')?;
        let named = |(_, process): &&(i32, PathBuf), name: &str| read(process, "comm").trim_end() == name;
        // In the container's own PID namespace it is the first.
        let first = |(_, process): &&(i32, PathBuf)| {
            let status = read(process, "status");
            status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
        };
        let run = processes.iter().find(|one| named(one, "konductor-run") && first(one))?;
        if !contains(&run.1, "cmdline", word) {
            return None;
        }
        let watchdog = processes.iter().find(|one| named(one, "konductor-wdog")).map(|(id, _)| *id);
        let others = processes.iter().map(|(id, _)| *id).filter(|id| *id != run.0 && Some(*id) != watchdog);
        Some(Wrapper {
            pod: pod.to_owned(),
            pid: Pid::from_raw(run.0),
            watchdog: watchdog.map(Pid::from_raw),
            others: others.map(Pid::from_raw).collect(),
        })
    };
    let mut found: Vec<_> = containers.into_iter().filter_map(wrapper).collect();
    found.sort_by_key(|wrapper| wrapper.pid);
    found
}

/// The processes of the node's containers whose command lines have this word.
pub(crate) fn in_containers(word: &str) -> Vec<Pid> {
    let ours = |process: &PathBuf| {
        contains(process, "cgroup", "konductor-node/kubepods") && contains(process, "cmdline", word)
    };
    all().into_iter().filter(ours).filter_map(|process| Some(Pid::from_raw(id_of(&process)?))).collect()
}

/// A process's state, as in ps; none when there is no such process.
pub(crate) fn state(pid: Pid) -> Option<char> {
    Some(stat(pid)?.0)
}

/// A process's state and parent.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let stat = read(&Path::new("/proc").join(pid.to_string()), "stat");
    // They follow the name, which is in parentheses and may hold some itself.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// The node's kubelet, standing still for as long as this exists: what a node that is cut off looks like to the
/// cluster, while its pods run on.
pub(crate) struct FrozenKubelet(Pid);

impl FrozenKubelet {
    /// Freezes it.
    pub(crate) fn new() -> Self {
        let kubelet = daemon("kubelet").expect("the node has a kubelet");
        kill(kubelet, Signal::SIGSTOP).expect("freeze the kubelet");
        Self(kubelet)
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
    let found = |process: &PathBuf| read(process, "comm").trim_end() == name && wanted(process);
    all().into_iter().filter(found).filter_map(|process| Some(Pid::from_raw(id_of(&process)?))).collect()
}

/// The folders in /proc of all processes.
fn all() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").expect("list the processes");
    let paths = entries.map(|entry| entry.expect("list the processes").path());
    paths.filter(|process| id_of(process).is_some()).collect()
}

/// The id of a process, if that is what this folder is of.
fn id_of(process: &Path) -> Option<i32> {
    process.file_name()?.to_str()?.parse().ok()
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
