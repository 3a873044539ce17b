//! `--local DIR`: what a folder has in a cluster's place.

use std::{path::Path, process::Command};

use konductor_tests::{Binaries, Process, Signal, eventually};
use serde_json::Value;

use crate::scene::{LIMIT, Ran, ages, ended};

fn koncli(folder: &Path, line: &str) -> Process {
    let mut command = Command::new(Binaries::built().koncli());
    command.args(["--local".as_ref(), folder.as_os_str()]).args(line.split(' '));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nowhere").env("RUST_BACKTRACE", "0");
    Process::spawn("koncli", command)
}

async fn run(folder: &Path, line: &str) -> Ran {
    ended(koncli(folder, line)).await
}

fn write(folder: &Path, kind: &str, name: &str, spec: &str) {
    let text = format!("apiVersion: konductor.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\nspec: {spec}\n");
    std::fs::write(folder.join(format!("{name}.yaml")), text).expect("a manifest");
}

/// A folder with a semaphore of three permits, of which one run holds two and another waits for two.
async fn busy() -> (tempfile::TempDir, Process, Process) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "Semaphore", "gpu", "{ permits: 3 }");
    write(folder.path(), "Lease", "report", "{}");
    let hold = |name: &str| {
        let mut command = Command::new(Binaries::built().koncli());
        command.args(["--local".as_ref(), folder.path().as_os_str()]);
        command.args(["run", "--holder", name, "--semaphore", "gpu:2", "--", "sh", "-c", "echo held; exec sleep 600"]);
        Process::spawn(name, command)
    };
    let first = hold("first");
    first.wait_stdout(LIMIT, "held").await;
    let second = hold("second");
    second.wait_stderr(LIMIT, "gpu").await;
    (folder, first, second)
}

#[tokio::test]
async fn what_a_folder_has_is_shown() {
    let (folder, _first, mut second) = busy().await;
    let folder = folder.path();
    let says = |line: &'static str, expected: &'static str| async move {
        let ran = run(folder, line).await;
        assert_eq!((ran.code, ages(&ran.stdout).as_str()), (0, expected), "koncli {line}\n{}", ran.stderr);
    };
    eventually(LIMIT, "one that waits", || async {
        let ran = run(folder, "status semaphore gpu -o jsonpath={.waiting}").await;
        if ran.stdout == "1\n" { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
    says(
        "semaphore list",
        "\
NAME   PHASE       PERMITS   IN USE   WAITING
gpu    Available   3         2        1
",
    )
    .await;
    says("lease list -o name", "lease.konductor.io/report\n").await;
    says("semaphore status gpu -o jsonpath={.available}", "1\n").await;
    says("status semaphore gpu -o jsonpath={.holders[*]}", "first\n").await;
    says("semaphore list -o jsonpath={.items[*].kind}", "Semaphore\n").await;
    let screen = run(folder, "status").await.stdout;
    assert!(screen.contains("held by first (2 permits)") && !screen.contains("expires"), "nothing expires: {screen}");
    assert!(screen.contains("waits: second (2 permits)") && screen.contains("lease/report"), "{screen}");
    let why = run(folder, "why semaphore/gpu").await;
    assert_eq!(why.code, 0, "{}", why.stderr);
    let shown = why.stdout.replace(", ", " , ");
    assert!(shown.contains("semaphore/gpu: 2 of 3 permits in use by 1 claim , 1 claim waits"), "{shown}");
    assert!(shown.contains("free when its holder releases it; or its process ends"), "{shown}");
    assert!(!shown.contains("operator") && !shown.contains("TTL"), "nothing that a folder does not have: {shown}");
    let json: Value = serde_json::from_str(&run(folder, "why semaphore/gpu -o json").await.stdout).expect("JSON");
    assert_eq!(json["subject"]["name"], "gpu");
    // Who only looks is nobody's in the queue, and makes nothing.
    let others = tempfile::tempdir().expect("a folder");
    write(others.path(), "Lease", "unused", "{}");
    assert_eq!(run(others.path(), "lease status unused -o jsonpath={.available}").await.stdout, "1\n");
    assert_eq!(std::fs::read_dir(others.path()).expect("a folder").count(), 1, "nothing but the manifest");
    second.kill();
}

#[tokio::test]
async fn what_happens_in_a_folder_is_waited_for_and_watched() {
    let (folder, mut first, second) = busy().await;
    let folder = folder.path();
    let waiting = koncli(folder, "wait semaphore/gpu --for condition=Saturated --timeout 2m");
    waiting.wait_stderr(LIMIT, "waiting for semaphore/gpu: Saturated is False").await;
    let watching = koncli(folder, "semaphore status gpu -w -o jsonpath={.holders[*]}");
    watching.wait_stdout(LIMIT, "first").await;
    // A change of a manifest, and then a holder's death: nobody has to say so.
    write(folder, "Semaphore", "gpu", "{ permits: 2 }");
    let waited = ended(waiting).await;
    assert_eq!(
        (waited.code, waited.stdout.as_str()),
        (0, "semaphore.konductor.io/gpu Saturated\n"),
        "{}",
        waited.stderr
    );
    first.signal(Signal::SIGKILL);
    second.wait_stdout(LIMIT, "held").await;
    watching.wait_stdout(LIMIT, "second").await;
    let vain = run(folder, "wait semaphore/gpu --for condition=Saturated=False --timeout 0").await;
    assert_eq!(vain.code, 75, "{}", vain.stderr);
    assert!(vain.stderr.contains("second"), "it says why: {}", vain.stderr);
}

#[tokio::test]
async fn what_a_folder_cannot_do_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "Semaphore", "gpu", "{ permits: 1 }");
    for (line, code, wanted, advice) in [
        ("semaphore acquire gpu", 64, "a claim ends with the process that holds it", "koncli run --local"),
        ("semaphore release gpu", 64, "a claim ends with the process that holds it", "koncli run --local"),
        ("lease renew report", 64, "a claim ends with the process that holds it", "--lease NAME"),
        ("semaphore create x --permits 1", 64, "a semaphore is what a manifest says", "*.yaml"),
        ("semaphore resize gpu --permits 1", 64, "change it there", "*.yaml"),
        ("lease delete report", 64, "delete it there", "*.yaml"),
        ("barrier wait b", 64, "a barrier needs a cluster", "leave --local"),
        ("gate open g", 64, "a gate needs a cluster", "leave --local"),
        ("wait barrier/b", 64, "a folder (--local) has no barriers", "leave --local"),
        ("why pod/p", 64, "a folder (--local) has no pods", "leave --local"),
        ("status gate", 64, "a folder (--local) has no gates", "leave --local"),
        ("semaphore list -l a=b", 64, "nothing can be selected", ""),
        ("events", 64, "events are told by a cluster", "leave --local"),
        ("operator", 64, "an operator is part of a cluster", "leave --local"),
        ("revoke semaphore/gpu --holder h", 64, "a claim ends with its process", "koncli status --local"),
        ("status semaphore gpuu", 78, "defines semaphore/gpuu", "did you mean semaphore/gpu?"),
        ("why semaphore/gpuu", 78, "", ""),
        ("wait semaphore/none --for condition=Ready --timeout 0", 78, "which does not exist", ""),
    ] {
        let ran = run(folder.path(), line).await;
        assert_eq!(ran.code, code, "{line}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(wanted) && ran.stderr.contains(advice), "{line}: {}", ran.stderr);
    }
    let ran = run(Path::new("/nowhere/at/all"), "status").await;
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains("/nowhere/at/all"), "{}", ran.stderr);
}
