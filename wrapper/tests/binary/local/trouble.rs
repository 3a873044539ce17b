//! Folders, manifests, states and disks that cannot be used: one line, 77, and nothing is ever let in because of it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio, time::Duration};

use super::{Folder, KILL, TERM, pid_of_command, token, watchdogs};
use crate::harness::{Ended, Running, eventually, is_alive, run, timed, within};

#[test]
fn a_mistake_in_a_manifest_is_one_line_and_does_not_end_those_who_wait() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    let mut waiter = folder.queue("--semaphore turns");
    let unknown = "kind: Semafore\napiVersion: konductor.io/v1\n";
    folder.write("other.yaml", unknown);
    waiter.says("trying again: other.yaml line 1");
    for (text, said) in [
        (unknown, "other.yaml line 1: unknown kind \"Semafore\""),
        (
            "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: x\nspec:\n  permits: 1\n  permit: 2\n",
            "other.yaml line 7: unknown field permit",
        ),
        (
            "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata:\n  name: x\nspec:\n  permits: many\n",
            "other.yaml line 6: permits: wanted a whole number from 0 to 1000000, found \"many\"",
        ),
        ("{", "other.yaml line "),
    ] {
        folder.write("other.yaml", text);
        let ended = folder.run("--semaphore turns", "echo started").end();
        assert_eq!(
            (ended.code(), ended.stdout.as_str(), ended.stderr.lines().count()),
            (77, "", 1),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(&format!("cannot acquire semaphore turns: {said}")), "{}", ended.stderr);
    }
    holder.signal(TERM);
    assert_eq!(holder.end().code(), 143);
    fs::remove_file(folder.path().join("other.yaml")).unwrap();
    token(&waiter.end());
}

#[test]
fn a_folder_that_cannot_be_used_is_one_line_and_77() {
    let folder = Folder::new(1);
    let at = |path: &Path| run(["true"]).flags(&format!("--local {} --semaphore turns", path.display()));
    let file = folder.path().join("turns.yaml");
    let missing = folder.path().join("missing");
    for (run, said) in [
        (at(&missing), format!("cannot open the folder {}: No such file", missing.display())),
        (at(&file), format!("cannot open the folder {}: Not a directory", file.display())),
        (at(Path::new("/proc")), "/proc is on proc, which other machines may use as well".to_owned()),
        (at(Path::new("/proc")).flags("--local-filesystem-ok=false"), "/proc is on proc".to_owned()),
        (at(Path::new("/proc")).flags("--local-filesystem-ok"), "cannot create /proc/.konductor: ".to_owned()),
        (
            at(Path::new("/proc")).env("KONDUCTOR_LOCAL_FILESYSTEM_OK", "true"),
            "cannot create /proc/.konductor: ".to_owned(),
        ),
    ] {
        refused(&run.end(), &said);
    }
    // Root may write everywhere.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let as_nobody =
        if nix::unistd::geteuid().is_root() { "setpriv --reuid=65534 --regid=65534 --clear-groups" } else { "env" };
    let ended = at(folder.path()).under(as_nobody).end();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    refused(&ended, &format!("cannot create {}/.konductor: Permission denied", folder.path().display()));
}

fn refused(ended: &Ended, said: &str) {
    assert_eq!((ended.code(), ended.stderr.lines().count()), (77, 1), "{}", ended.stderr);
    let expected = format!("konductor-run: error: cannot acquire semaphore turns: {said}");
    assert!(ended.stderr.starts_with(&expected), "{}\nis not\n{expected}", ended.stderr);
}

/// In a mount namespace of its own, with a small file system of its own on `/mnt`.
fn on_small_disk(script: &str) -> Ended {
    on_disk("size=64k", script)
}

/// The same, with limits of its own.
fn on_disk(limits: &str, script: &str) -> Ended {
    let manifest = "apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {name: turns}\nspec: {permits: 1}\n";
    let script = format!("mount -t tmpfs -o {limits} none /mnt && printf '{manifest}' >/mnt/a.yaml && {script}");
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, crate::harness::KONDUCTOR_RUN];
    let mut command = std::process::Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(command.spawn().expect("unshare is there (package util-linux)")).end()
}

#[test]
fn a_read_only_disk_is_one_line_and_77() {
    let ended =
        on_small_disk("mount -o remount,bind,ro /mnt && exec \"$0\" --local /mnt --semaphore turns -- echo started");
    refused(&ended, "cannot create /mnt/.konductor: Read-only file system");
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_full_disk_is_one_line_and_77_and_does_not_hold_up_a_release() {
    // Full from the start; and full while one holds, which is then released all the same.
    let ended = on_small_disk(
        "\"$0\" -q --local /mnt --semaphore turns -- sh -c 'cat /dev/zero >/mnt/fill 2>/dev/null; echo held'; \
         echo $?; \"$0\" --local /mnt --semaphore turns -- echo started; echo $?; rm /mnt/fill; \
         exec \"$0\" -q --local /mnt --semaphore turns -- echo again",
    );
    assert_eq!(ended.stdout, "held\n0\n77\nagain\n", "{}", ended.stderr);
    let refused = ended.stderr.lines().find(|line| line.contains("error:")).unwrap_or_default();
    assert!(refused.contains("No space left on device"), "{}", ended.stderr);
}

/// Waits until the state names so many claims.
const CLAIMS: &str = r#"claims() { until [ "$(grep -o '"holder"' /mnt/.konductor/semaphores/turns/state.json |
    wc -l)" = $1 ]; do sleep 0.05; done 2>/dev/null; }; "#;

#[test]
fn a_waiter_whose_turn_comes_on_a_full_disk_says_so_once_and_rests() {
    let no_space = "size=64k";
    let no_inodes = "size=1m,nr_inodes=40";
    for (limits, fill) in [
        (no_space, "cat /dev/zero >/mnt/fill"),
        (no_inodes, "mkdir /mnt/fill; for n in $(seq 100); do : >/mnt/fill/$n; done"),
    ] {
        // The log is elsewhere, and said in the end.
        let log = tempfile::NamedTempFile::new().unwrap();
        let ended = on_disk(
            limits,
            &format!(
                "{CLAIMS} log={}; mkfifo /mnt/go; \"$0\" -q --local /mnt --semaphore turns -- cat /mnt/go & holder=$!; \
                 claims 1; \"$0\" --local /mnt --semaphore turns -- echo turn 2>$log & waiter=$!; claims 2; ({fill}) \
                 2>/dev/null; kill -9 $holder; until grep -q 'No space left' $log; do sleep 0.05; done; sleep 4; \
                 awk '{{print ($14 + $15 < 50 ? \"quiet\" : \"busy\")}}' /proc/$waiter/stat; rm -r /mnt/fill; \
                 wait $waiter; code=$?; cat $log >&2; exit $code",
                log.path().display()
            ),
        );
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, "quiet\nturn\n"), "{}", ended.stderr);
        let (said, others): (Vec<_>, Vec<_>) = ended.stderr.lines().partition(|line| line.contains("No space left"));
        assert_eq!(said.len(), 1, "{}", ended.stderr);
        assert!(said[0].contains("cannot take part in the folder yet, trying again: cannot "), "{}", said[0]);
        assert_eq!(others.len(), 2, "next in line, and holding: {others:?}");
    }
}

#[test]
fn who_cannot_watch_still_knows() {
    // No process of this user namespace can watch anything. Trying once takes 30 s where nothing can be said at once.
    let ended = on_small_disk(
        &(CLAIMS.to_owned()
            + "echo 0 >/proc/sys/user/max_inotify_instances; mkfifo /mnt/go; \
               \"$0\" -q --local /mnt --semaphore turns -- cat /mnt/go & holder=$!; claims 1; \
               timeout 14 \"$0\" --local /mnt --semaphore turns --wait-timeout 0 --on-timeout skip -- echo ran; echo $?; \
               \"$0\" --local /mnt --semaphore turns -- echo turn & waiter=$!; claims 2; sleep 2; \
               sed s/permits:.1/permits:\\ 2/ /mnt/a.yaml >/mnt/b; mv /mnt/b /mnt/a.yaml; wait $waiter; \
               echo >/mnt/go; wait $holder"),
    );
    assert_eq!(ended.stdout, "0\nturn\n\n", "{}", ended.stderr);
    let count = |what: &str| ended.stderr.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("is not free: skipping the command"), 1, "{}", ended.stderr);
    // By the one that goes at once, and by the one that waits, however long.
    let said = "cannot watch the folder (changes are seen up to 15 s late) yet, trying again: cannot watch /mnt: ";
    assert!((1..=2).contains(&count(said)), "{}", ended.stderr);
}

#[test]
fn a_damaged_state_is_set_aside_and_never_taken_for_empty() {
    let folder = Folder::new(1);
    let first = token(&folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").end());
    let state = folder.state_folder("turns").join("state.json");
    let aside = folder.state_folder("turns").join("state.json.corrupt-1");
    let good = fs::read(&state).unwrap();
    fs::write(&state, &good[..good.len() / 2]).unwrap();
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    refused(&run.end(), &format!("cannot believe {}: it is not what konductor writes: ", state.display()));
    assert_eq!(fs::read(&aside).unwrap(), good[..good.len() / 2]);
    refused(&run.end(), &format!("{} was set aside because it is damaged: repair it", aside.display()));
    // Repaired.
    fs::remove_file(&aside).unwrap();
    fs::write(&state, &good).unwrap();
    assert!(token(&run.end()) > first);
    // A later version's is left where it is.
    fs::write(&state, "{\"version\":3}").unwrap();
    refused(&run.end(), &format!("cannot use {}: its format is version 3", state.display()));
    assert_eq!(fs::read(&state).unwrap(), b"{\"version\":3}");
}

/// What `terms.json` says, or is to say.
fn terms(folder: &Folder) -> serde_json::Value {
    serde_json::from_slice(&fs::read(folder.state_folder("turns").join("terms.json")).unwrap()).unwrap()
}

#[test]
fn what_a_power_failure_leaves_is_not_needed_and_no_token_comes_again() {
    let folder = Folder::new(1);
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    token(&run.end());
    let state = folder.state_folder("turns").join("state.json");
    let mut older = folder.state("turns");
    older["mount"] = "another boot/1".into();
    let older = older.to_string();
    let half = &older[..older.len() / 2];
    let zeros = "\0".repeat(older.len());
    let mut highest = token(&run.end());
    for left in [None, Some(""), Some(half), Some(&zeros), Some(&older)] {
        let mut terms = terms(&folder);
        terms["boot"] = "00000000-0000-0000-0000-000000000000".into();
        fs::write(folder.state_folder("turns").join("terms.json"), terms.to_string()).unwrap();
        match left {
            Some(text) => fs::write(&state, text).unwrap(),
            None => fs::remove_file(&state).unwrap(),
        }
        let next = token(&run.end());
        let reserved = terms["reserved"].as_u64().unwrap();
        assert!(next > highest && next >> 20 > reserved, "{left:?}: {next} after {highest}, {terms}");
        highest = next;
    }
}

#[test]
fn a_power_failure_while_all_only_wait_leaves_nothing_to_repair() {
    // Without a permit, and without a manifest; and where the boot cannot be known.
    for (has_manifest, boot) in [(true, "another".into()), (false, "another".into()), (true, serde_json::Value::Null)] {
        let folder = Folder::new(0);
        if !has_manifest {
            fs::remove_file(folder.path().join("turns.yaml")).unwrap();
        }
        let waiter = folder.queue("--semaphore turns");
        waiter.signal(KILL);
        waiter.end();
        let mut terms = terms(&folder);
        terms["boot"] = boot;
        fs::write(folder.state_folder("turns").join("terms.json"), terms.to_string()).unwrap();
        fs::write(folder.state_folder("turns").join("state.json"), "").unwrap();
        folder.define("turns", 1);
        let first = token(&folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").end());
        assert!(first >> 20 > 1_700_000_000, "{first} does not follow the time of day");
    }
}

#[test]
fn terms_are_reserved_on_the_disk_before_they_are_given_out_and_many_at_a_time() {
    let folder = Folder::new(1);
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    let reserved = |after: &Ended| {
        let (terms, term) = (terms(&folder)["reserved"].as_u64().unwrap(), token(after) >> 20);
        assert!(terms > term, "{terms} {term}");
        terms
    };
    let (first, second) = (reserved(&run.end()), reserved(&run.end()));
    // Where the kernel does not number mounts nobody can know that nothing was lost in between.
    assert_eq!(first == second, folder.state("turns")["mount"].is_string(), "{first} {second}");
    // Somebody has been there all the time.
    let holder = folder.hold("--semaphore turns");
    let held = terms(&folder);
    let waiter = folder.queue("--semaphore turns");
    holder.signal(TERM);
    assert_eq!((token(&waiter.end()) > 0, terms(&folder)), (true, held));
    assert_eq!(holder.end().code(), 143);
    // What says so and cannot be believed stops everybody.
    let path = folder.state_folder("turns").join("terms.json");
    fs::write(&path, "{}").unwrap();
    refused(&run.end(), &format!("cannot believe {}: it is not what konductor writes: ", path.display()));
}

#[test]
fn a_holder_that_the_state_does_not_know_keeps_others_out() {
    let folder = Folder::new(1);
    let holder = folder.hold("--semaphore turns");
    fs::remove_file(folder.state_folder("turns").join("state.json")).unwrap();
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    let ended = run.end();
    // It might have been about to end, so this is tried twice.
    assert_eq!((ended.code(), ended.stderr.lines().count()), (77, 2), "{}", ended.stderr);
    let claims = folder.state_folder("turns").join("claims").display().to_string();
    for line in ended.stderr.lines() {
        assert!(line.contains(&claims) && line.contains("belongs to a process that runs"), "{line}");
    }
    let command = pid_of_command(&holder);
    holder.signal(KILL);
    // Its first thread takes the command with it, and its last one the lock.
    drop(holder);
    // And the watchdog, which holds until it has seen that.
    let all_are_gone = || !is_alive(command) && watchdogs(&folder).is_empty();
    eventually("the command is dead", || all_are_gone().then_some(()));
    token(&run.end());
}

#[test]
fn a_waiter_whose_claim_was_deleted_asks_again() {
    let folder = Folder::new(0);
    let waiter = folder.queue("--semaphore turns");
    // It may still be looking around.
    eventually("the state is deleted", || fs::remove_dir_all(folder.path().join(".konductor")).ok());
    folder.define("turns", 1);
    let ended = waiter.end();
    token(&ended);
    assert!(ended.stderr.contains("the claim was deleted"), "{}", ended.stderr);
}

#[test]
fn links_in_the_state_lead_nowhere() {
    let (folder, elsewhere) = (Folder::new(1), tempfile::tempdir().unwrap());
    let state = folder.path().join(".konductor");
    let run = folder.run("--semaphore turns", "true");
    let link = |from: &Path| std::os::unix::fs::symlink(elsewhere.path(), from).unwrap();
    link(&state);
    refused(&run.end(), &format!("{} is not a folder", state.display()));
    fs::remove_file(&state).unwrap();
    assert_eq!(run.code(), 0);
    for name in ["lock", "state.json"] {
        let file = folder.state_folder("turns").join(name);
        fs::remove_file(&file).unwrap();
        link(&file);
        refused(&run.end(), &format!("{} is not a plain file", file.display()));
        fs::remove_file(&file).unwrap();
    }
    let claim = folder.state_folder("turns").join("claims").join("0123456789abcdef0123456789abcdef");
    link(&claim);
    refused(&run.end(), &format!("{} is not a FIFO", claim.display()));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_manifest_that_is_no_file_does_not_hold_anybody_up() {
    let folder = Folder::new(1);
    let fifo = folder.path().join("pipe.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let ended = folder.run("--semaphore turns", "true").end();
    refused(&ended, &format!("{} is not a plain file", fifo.display()));
}

#[test]
fn a_folder_that_somebody_keeps_locked_is_waited_for() {
    let folder = Folder::new(1);
    let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN");
    token(&run.end());
    let lock = fs::File::open(folder.state_folder("turns").join("lock")).unwrap();
    lock.lock().unwrap();
    let waiter = run.start();
    let timed_out = folder.run("--semaphore turns --wait-timeout 6s", "true");
    // Whoever has stood still for a second has not looked often enough to know why.
    let ended = eventually("there was time to look", || {
        let ended = within(Duration::from_secs(9), || timed(|| timed_out.end()));
        (!ended.stderr.contains("other processes keep the folder busy")).then_some(ended)
    });
    assert_eq!(ended.code(), 75, "{}", ended.stderr);
    assert!(ended.stderr.contains("timed out asking for semaphore turns"), "{}", ended.stderr);
    drop(lock);
    token(&waiter.end());
}
