//! What the command finds: what it would find without us, field by field.

use std::{collections::BTreeSet, fs};

use crate::{
    actors::act,
    harness::{children, eventually, run, sh},
};

/// The fields that differ between two texts of `name: value` lines: `name: one -> other`.
fn differences(one: &str, other: &str) -> Vec<String> {
    let find = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        value.unwrap_or_else(|| "none".to_owned())
    };
    let mut names: Vec<_> = one.lines().chain(other.lines()).filter_map(|line| line.split(": ").next()).collect();
    names.sort_unstable();
    names.dedup();
    let differs = names.into_iter().filter(|name| find(one, name) != find(other, name));
    differs.map(|name| format!("{name}: {} -> {}", find(one, name), find(other, name))).collect()
}

#[test]
fn the_command_finds_what_it_would_find_without_us() {
    for script in [
        "exec \"$@\"",
        "umask 027; ulimit -n 100; ulimit -c 0; cd /usr; exec nice -n 5 \"$@\"",
        "exec env --ignore-signal=PIPE --ignore-signal=HUP \"$@\"",
        "exec env --ignore-signal=CHLD --block-signal=USR1 \"$@\"",
        "exec env --default-signal --block-signal \"$@\"",
        "exec env --ignore-signal --block-signal=TERM \"$@\"",
        "exec \"$@\" 7</dev/null 8>/dev/null 9>>/dev/null",
        "exec \"$@\" <&-",
        "exec \"$@\" 2>&-",
        "exec \"$@\" <&- 2>&-",
        "exec setpriv --no-new-privs \"$@\"",
        "exec setarch --addr-no-randomize \"$@\"",
        "exec choom --adjust 500 -- \"$@\"",
        "exec ionice --class 2 --classdata 7 \"$@\"",
        "exec taskset 1 \"$@\"",
        "exec chrt --batch 0 \"$@\"",
        "cd \"$(mktemp -d)\" && rmdir \"$PWD\" && exec \"$@\"",
        "folder=$(mktemp -d) && cd $folder && chmod 0 . && exec \"$@\"",
        "exec env -i \"$@\"",
    ] {
        let run = act("context", "").after(script);
        let (with, without) = (run.end(), run.bare());
        assert!(without.stdout.lines().count() > 60, "{script}: {without:?}");
        let mut found = differences(&without.stdout, &with.stdout);
        // A temporary folder's name, which is never the same.
        found.retain(|field| !field.contains("/tmp."));
        assert_eq!(found, ["group of its own: false -> true"], "{script}: {}", with.stderr);
    }
}

#[test]
fn what_is_in_the_environment_without_being_a_variable_is_passed_on() {
    let own = std::env::current_exe().expect("a process has an executable");
    let run = run(["/usr/bin/env"]).under(&format!("{} actor:odd", own.display()));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (with, without) = (run.end(), run.bare());
    assert_eq!(lines(&with.stdout), lines(&without.stdout), "{}", with.stderr);
    assert_eq!(without.stdout.lines().count(), 7);
}

#[test]
fn while_something_is_held_it_finds_only_what_is_documented_beside() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {name: turns}\nspec: {permits: 1}\n";
    fs::write(folder.path().join("turns.yaml"), manifest).unwrap();
    let run = act("context", "").flags(&format!("--semaphore turns --holder me --local {}", folder.path().display()));
    let (with, without) = (run.end(), run.bare());
    let found = differences(&without.stdout, &with.stdout);
    let found: Vec<_> = found.iter().map(|field| field.split(" -> ").next().unwrap_or_default()).collect();
    // The lock itself, which the command holds as well.
    let [lock, others @ ..] = found.as_slice() else { panic!("nothing differs: {}", with.stderr) };
    assert!(lock.starts_with("descriptor ") && lock.ends_with(": none"), "{lock}");
    let expected = [
        "group of its own: false",
        "parent's death: None",
        "variable KONDUCTOR_FENCING_TOKEN: none",
        "variable KONDUCTOR_HELD: none",
        "variable KONDUCTOR_HOLDER: none",
        "variable KONDUCTOR_TOKEN_SEMAPHORE_TURNS: none",
        "variable KONDUCTOR_TREE: none",
        "variable KONDUCTOR_TREE_HOLDS: none",
    ];
    assert_eq!(others, expected, "{}", with.stderr);
    assert!(with.stdout.contains("parent's death: Some(SIGKILL)"), "{}", with.stdout);
}

#[test]
fn the_command_is_executed_itself_under_its_own_name() {
    assert_eq!(run(["sh", "-c", "echo $0", "zero"]).end().stdout, "zero\n");
    let run = run(["sleep", "1000"]).start();
    eventually("it is our child, with no shell in between", || {
        let child = *children(run.pid()).first()?;
        let line = fs::read(format!("/proc/{child}/cmdline")).ok()?;
        (line == b"sleep\x001000\0").then_some(())
    });
    run.signal(15);
    assert_eq!(run.end().code(), 143);
}

#[test]
fn konductor_run_keeps_no_file_system_busy() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("cd {} && exec \"$@\"", folder.path().display());
    let mut run = sh("pwd; read -r _; pwd").after(&script).with_stdin();
    let before = run.line();
    assert_eq!(before, folder.path().display().to_string());
    let own = format!("/proc/{}", run.pid());
    eventually("it is at the root", || (fs::read_link(format!("{own}/cwd")).ok()? == *"/").then_some(()));
    // Nor by a descriptor of a file: those that it has were there before, and are the command's as well.
    let descriptors = |process: &str| -> BTreeSet<_> {
        let folder = fs::read_dir(format!("{process}/fd")).unwrap();
        let all = folder.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
        all.filter(|target| target.is_absolute()).collect()
    };
    let command = format!("/proc/{}", children(run.pid())[0]);
    assert_eq!(descriptors(&own), descriptors(&command));
    run.write_line();
    assert_eq!(run.line(), before);
    assert_eq!(run.end().code(), 0);
}
