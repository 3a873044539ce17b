//! Nothing outlives a test process: neither processes nor files.
//!
//! Destructors do not run after SIGKILL or Ctrl-C, and never for statics. So the first use of the harness starts one
//! small shell script (`reaper.sh`) in a process group of its own. It makes the folder that holds all the harness's
//! files, and reads a pipe whose other end only the test process holds; the kernel closes that end when the process
//! ends, however it ends. The reaper then kills what is left, removes the folder and exits.
//!
//! It knows its processes by an environment variable ([`MARK`]) that names the folder. The whole tree below inherits
//! the variable, process groups and sessions of their own included, and there is nothing to register and so no moment
//! at which a process is started but not known yet: between fork and exec a child still holds the pipe, so the reaper
//! waits for it. What it cannot find is a process that drops its environment; nothing under test does.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The environment variable that marks everything the harness starts: the folder, a slash, and the process's own name.
pub(crate) const MARK: &str = "HARNESS_PROCESS";

/// How many looks in a row must find nothing, as in reaper.sh: a process that is becoming another program has no
/// environment for a moment.
const QUIET: u32 = 3;

struct Reaper {
    root: PathBuf,
    /// Holds the pipe open. Never dropped: it is in a static.
    _child: Child,
}

/// This test process's folder. Starts the reaper at the first call.
pub(crate) fn root() -> &'static Path {
    static REAPER: OnceLock<Reaper> = OnceLock::new();
    &REAPER.get_or_init(start).root
}

/// A new empty folder `root/NUMBER-name`.
pub(crate) fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let path = root().join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
    path
}

fn start() -> Reaper {
    let mut child = Command::new("bash")
        .args(["-c", include_str!("reaper.sh"), "reaper", MARK])
        // A harness inside a harness (the harness's own tests) keeps its reaper when the outer one kills.
        .env_remove(MARK)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Its end comes after ours: an inherited descriptor would keep `cargo test | less` waiting.
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start bash for the harness's reaper");
    let mut root = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped"))
        .read_line(&mut root)
        .expect("read the reaper's folder");
    assert!(root.ends_with('\n'), "the harness's reaper could not make a folder in {}", std::env::temp_dir().display());
    Reaper { root: PathBuf::from(root.trim_end()), _child: child }
}

/// The live processes whose environment holds `MARK=mark`, zombies not counted.
pub(crate) fn marked(mark: &str) -> Vec<Pid> {
    let wanted = format!("{MARK}={mark}");
    let entries = std::fs::read_dir("/proc").expect("list /proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // A process that has ended meanwhile, or is another user's, is not ours.
        .filter(|pid: &i32| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
        })
        .map(Pid::from_raw)
        .collect()
}

/// Kills every process with this mark, and returns when none is left.
pub(crate) fn kill_marked(mark: &str) {
    let mut quiet = 0;
    // As in reaper.sh: again until none is left, half a minute at least.
    for _ in 0..1500 {
        let found = marked(mark);
        quiet = if found.is_empty() { quiet + 1 } else { 0 };
        if quiet == QUIET {
            return;
        }
        // Those who only look again do so soon: each test waits for it.
        let pause = if found.is_empty() { 2 } else { 20 };
        for pid in found {
            // ESRCH: gone since we looked.
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(pause));
    }
    eprintln!("{mark}: processes {:?} survive SIGKILL", marked(mark));
}
