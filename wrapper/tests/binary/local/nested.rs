//! One `konductor-run` inside another, which holds what the inner one asks for.

use super::*;
use crate::harness::KONDUCTOR_RUN;

/// A script that ends with what an inner run ends with.
fn inner(folder: &Folder, flags: &str) -> String {
    format!("{KONDUCTOR_RUN} --local {} {flags} -- echo started", folder.path().display())
}

fn refusal(what: &str, around: u64, all: u64, asked: u64) -> String {
    format!(
        "konductor-run: error: cannot acquire {what}: the konductor-run that this one runs in holds {around} of {all} \
         until this one has ended, so {asked} more will never be free; unset KONDUCTOR_SEMAPHORE and KONDUCTOR_LEASE \
         for what is not to take them again\n"
    )
}

#[test]
fn what_the_outer_one_holds_is_refused_at_once() {
    let folder = Folder::new(1);
    // Also by another path, and when it is tried once.
    let link = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path(), link.path().join("link")).unwrap();
    let by_link = format!("{KONDUCTOR_RUN} --local {}/link --semaphore turns -- echo started", link.path().display());
    let once = inner(&folder, "--semaphore turns --wait-timeout 0 --on-timeout skip");
    for script in [inner(&folder, "--semaphore turns"), by_link, once] {
        let ended = folder.run("-q --semaphore turns", &script).end();
        assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""), "{script}: {}", ended.stderr);
        assert_eq!(ended.stderr, refusal("semaphore turns", 1, 1, 1), "{script}");
    }
    assert_eq!(folder.claims("turns"), 0);
}

#[test]
fn a_lease_is_refused_too_and_what_is_inherited_by_variables() {
    let folder = Folder::new(1);
    folder.write("l.yaml", "apiVersion: konductor.io/v1\nkind: Lease\nmetadata: {name: l}\n");
    let run = sh(&format!("{KONDUCTOR_RUN} -- echo started"))
        .flags("-q")
        .env("KONDUCTOR_LEASE", "l")
        .env("KONDUCTOR_LOCAL", folder.path().to_str().unwrap());
    let ended = run.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""), "{}", ended.stderr);
    assert_eq!(ended.stderr, refusal("lease l", 1, 1, 1));
    // Taken out on purpose: no doubt is told.
    let run = sh(&format!("KONDUCTOR_LEASE= {KONDUCTOR_RUN} -- echo started"))
        .flags("-q")
        .env("KONDUCTOR_LEASE", "l")
        .env("KONDUCTOR_LOCAL", folder.path().to_str().unwrap());
    let ended = run.end();
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "started\n", ""));
}

#[test]
fn what_has_room_by_its_count_is_taken_or_waited_for() {
    let folder = Folder::new(3);
    let ended = folder.run("-q --semaphore turns:2", &inner(&folder, "-q --semaphore turns")).end();
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "started\n", ""));
    let ended = folder.run("-q --semaphore turns:2", &inner(&folder, "-q --semaphore turns:2")).end();
    assert_eq!((ended.code(), ended.stderr), (64, refusal("semaphore turns", 2, 3, 2)));
    // Somebody else holds what is left, and gives it back.
    let other = folder.hold("--semaphore turns");
    let waits = folder.run("--semaphore turns:2", &inner(&folder, "--semaphore turns")).start();
    eventually("the inner one waits", || (folder.claims("turns") == 3).then_some(()));
    other.signal(TERM);
    let ended = waits.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "started\n"), "{}", ended.stderr);
    assert_eq!(other.end().code(), 143);
}

#[test]
fn what_all_of_them_hold_together_counts() {
    let folder = Folder::new(3);
    folder.define("other", 1);
    let innermost = inner(&folder, "-q --semaphore turns:2");
    let middle = |flags: &str| format!("{KONDUCTOR_RUN} --local {} {flags} -- {innermost}", folder.path().display());
    // The one in the middle holds another lock, one more of the same, or nothing.
    for (flags, around) in
        [("-q --semaphore other", 2), ("-q --semaphore turns", 3), ("-q --semaphore turns --semaphore other", 3)]
    {
        let ended = folder.run("-q --semaphore turns:2", &middle(flags)).end();
        assert_eq!((ended.code(), ended.stderr), (64, refusal("semaphore turns", around, 3, 2)), "{flags}");
    }
    let plain = format!("{KONDUCTOR_RUN} -- {innermost}");
    let ended = folder.run("-q --semaphore turns:2", &plain).end();
    assert_eq!((ended.code(), ended.stderr), (64, refusal("semaphore turns", 2, 3, 2)));
}

#[test]
fn another_folders_semaphore_of_the_same_name_is_another() {
    let (outer, other) = (Folder::new(1), Folder::new(1));
    let holder = other.hold("--semaphore turns");
    let waits = outer.run("--semaphore turns", &inner(&other, "--semaphore turns")).start();
    eventually("the inner one waits", || (other.claims("turns") == 2).then_some(()));
    holder.signal(TERM);
    let ended = waits.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "started\n"), "{}", ended.stderr);
    assert_eq!(holder.end().code(), 143);
}

#[test]
fn what_is_in_the_way_is_told_as_in_a_cluster() {
    let folder = Folder::new(3);
    let holder = folder.hold("--semaphore turns");
    let mut heavy = folder.queue("--semaphore turns:4");
    let mut first = folder.queue("--semaphore turns:3");
    folder.define("turns", 0);
    let mut second = folder.queue("--semaphore turns");
    let told = |name: &str, expected: &str| {
        eventually(name, || {
            let state = folder.state("turns");
            let mut claims = state["claims"].as_array()?.iter();
            claims.find(|claim| claim["message"].as_str().is_some_and(|message| message == expected)).map(|_| ())
        });
    };
    let paused = "waits for semaphore turns, which is paused: it has 0 permits";
    told("they are told that it is paused", paused);
    let refused = folder.run("--semaphore turns --wait-timeout 0", "echo started").end();
    assert_eq!(refused.code(), 75);
    assert_eq!(refused.stderr, "konductor-run: error: semaphore turns is not free: it is paused: it has 0 permits\n");
    let waiting = |rest: &str| format!("konductor-run: waiting for semaphore turns{rest}\n");
    let fewer = waiting(", which has 3 permits, fewer than the 4 that are asked for");
    let said = heavy.says("which is paused");
    assert!(said.starts_with(&fewer), "{said}");
    assert!(said.ends_with(&waiting(", which is paused: it has 0 permits")), "{said}");
    assert_eq!(second.says("waiting for"), waiting(", which is paused: it has 0 permits; 2 ahead"));
    assert_eq!(first.says("waiting for"), waiting(": next in line"));
    for run in [heavy, first, second] {
        run.signal(TERM);
        assert_eq!(run.end().code(), 143);
    }
    holder.signal(TERM);
    assert_eq!(holder.end().code(), 143);
}
