//! Signals that `koncli` was told to ignore.

use std::process::Command;

use konductor_tests::{Binaries, Process, Signal};

use crate::scene::{LIMIT, ended};

#[tokio::test]
async fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |permits: u32| {
        let head = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: gpu\nspec:\n  permits: ";
        std::fs::write(folder.path().join("gpu.yaml"), format!("{head}{permits}\n")).expect("a manifest");
    };
    write(1);
    let mut command = Command::new("sh");
    // As `nohup` has it.
    command.args(["-c", "trap '' HUP; exec \"$0\" --local \"$1\" wait semaphore/gpu --for condition=Never"]);
    command.arg(Binaries::built().koncli()).arg(folder.path());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nowhere");
    let mut waiting = Process::spawn("koncli", command);
    waiting.wait_stderr(LIMIT, "waiting for semaphore/gpu").await;
    waiting.signal(Signal::SIGHUP);
    // Of two signals that have come, the first in number would be heard first.
    waiting.signal(Signal::SIGTERM);
    let ran = ended(waiting).await;
    assert_eq!(ran.code, -15, "{ran:?}");
}
