//! Who takes part: whoever can write to the folder, whenever that changes, and whoever else has been killed before.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use nix::unistd::geteuid;

use super::{Folder, KILL, TERM, token};
use crate::harness::{Run, eventually, timed, within};

/// Runs as somebody else, who is in no group of ours; as ourselves where only root could.
fn somebody(user: u32) -> String {
    if geteuid().is_root() { format!("setpriv --reuid={user} --regid={user} --clear-groups") } else { "env".to_owned() }
}

const ALICE: u32 = 65_531;
const BOB: u32 = 65_532;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A new folder with these permissions.
fn folder(mode: u32) -> Folder {
    let folder = Folder::new(1);
    set_mode(folder.path(), mode);
    folder
}

fn by(user: u32, folder: &Folder, umask: &str) -> Run {
    folder
        .run("-q --semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN")
        .under(&somebody(user))
        .after(&format!("umask {umask}; exec \"$@\""))
}

#[test]
fn users_who_start_at_once_in_a_new_folder_all_take_part() {
    for _ in 0..20 {
        let folder = folder(0o777);
        let runs: Vec<_> = [(ALICE, "077"), (BOB, "077"), (ALICE, "022"), (BOB, "000")]
            .map(|(user, umask)| by(user, &folder, umask).start())
            .into_iter()
            .collect();
        let mut tokens: Vec<_> = runs.into_iter().map(|run| token(&run.end())).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 4);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a deadline for tests")]
fn whatever_somebody_was_killed_at_the_next_one_takes_part() {
    // Killed as soon as this is there.
    for (times, made) in [(10, ""), (5, ".konductor"), (5, ".konductor/semaphores"), (5, ".konductor/semaphores/turns")]
    {
        for _ in 0..times {
            let folder = folder(0o777);
            let first = by(ALICE, &folder, "077").start();
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            // As fast as can be looked.
            while std::time::Instant::now() < deadline {
                let entries = fs::read_dir(folder.path().join(made)).into_iter().flatten().flatten();
                if entries.map(|entry| entry.file_name()).any(|name| name.as_encoded_bytes() != b"turns.yaml") {
                    break;
                }
            }
            first.signal(KILL);
            first.end();
            for user in [BOB, ALICE] {
                token(&by(user, &folder, "022").end());
            }
        }
    }
}

#[test]
fn only_who_can_write_to_the_folder_gets_further() {
    for (mode, expected) in [(0o700, 0o700), (0o755, 0o700), (0o775, 0o770), (0o777, 0o777), (0o1777, 0o777)] {
        let folder = folder(mode);
        token(&by(geteuid().as_raw(), &folder, "077").end());
        let state = folder.path().join(".konductor");
        let status = fs::metadata(&state).unwrap();
        assert_eq!(status.mode() & 0o7777, expected, "{mode:o}");
        let of = fs::metadata(folder.path()).unwrap();
        assert_eq!((status.uid(), status.gid()), (of.uid(), of.gid()));
    }
}

#[test]
fn a_folder_that_is_opened_up_later_is_open_as_soon_as_its_owner_looks() {
    if !geteuid().is_root() {
        // There is nobody else.
        return;
    }
    let folder = folder(0o755);
    std::os::unix::fs::chown(folder.path(), Some(ALICE), Some(ALICE)).unwrap();
    token(&by(ALICE, &folder, "022").end());
    let bob = by(BOB, &folder, "022");
    let denied = bob.end();
    assert_eq!(denied.code(), 77);
    assert!(denied.stderr.contains(".konductor: Permission denied"), "{}", denied.stderr);
    set_mode(folder.path(), 0o777);
    let denied = bob.end();
    let said = format!(
        "cannot open {}, whose rights are not those of the folder any more: they become so when user {ALICE} or root uses \
         the folder once",
        folder.path().join(".konductor").display()
    );
    assert!(denied.code() == 77 && denied.stderr.contains(&said), "{}", denied.stderr);
    token(&by(ALICE, &folder, "022").end());
    token(&bob.end());
    // And closed again, while somebody of the owner's waits: at once.
    let holder = folder.hold("--semaphore turns");
    let waiter = by(ALICE, &folder, "022").start();
    eventually("it waits", || (folder.claims("turns") == 2).then_some(()));
    let state = folder.path().join(".konductor");
    within(Duration::from_secs(5), || {
        let becomes = |mode: u32| {
            set_mode(folder.path(), mode);
            eventually("it has the folder's rights", || {
                (fs::metadata(&state).unwrap().mode() & 0o777 == mode).then_some(())
            });
        };
        becomes(0o777);
        timed(|| becomes(0o700))
    });
    assert_eq!(bob.code(), 77);
    holder.signal(TERM);
    token(&waiter.end());
}

#[test]
fn something_foreign_in_the_state_keeps_it_from_being_opened_up_and_not_from_being_closed() {
    if !geteuid().is_root() {
        // There is nobody else.
        return;
    }
    let folder = folder(0o777);
    std::os::unix::fs::chown(folder.path(), Some(ALICE), Some(ALICE)).unwrap();
    token(&by(ALICE, &folder, "022").end());
    let state = folder.path().join(".konductor");
    let bob = by(BOB, &folder, "022");
    token(&bob.end());
    fs::write(state.join("x"), "").unwrap();
    let mode = || fs::metadata(&state).unwrap().mode() & 0o777;
    let said = format!("{} is not Konductor's: take it out of .konductor", state.join("x").display());
    // Alice is told what is in the way, once, and takes part.
    let alice_is_told = |expected: usize| {
        let run = folder.run("--semaphore turns", "echo $KONDUCTOR_FENCING_TOKEN").under(&somebody(ALICE));
        let ended = run.end();
        token(&ended);
        assert_eq!(ended.stderr.matches(&said).count(), expected, "{}", ended.stderr);
    };
    set_mode(folder.path(), 0o755);
    alice_is_told(0);
    assert_eq!((mode(), bob.code()), (0o700, 77));
    set_mode(folder.path(), 0o777);
    alice_is_told(1);
    assert_eq!((mode(), bob.code()), (0o700, 77));
    fs::remove_file(state.join("x")).unwrap();
    alice_is_told(0);
    token(&bob.end());
}

#[test]
fn a_group_that_comes_later_takes_part() {
    if !geteuid().is_root() {
        // There is no other group.
        return;
    }
    let folder = folder(0o770);
    token(&by(0, &folder, "077").end());
    std::os::unix::fs::chown(folder.path(), None, Some(BOB)).unwrap();
    token(&by(0, &folder, "077").end());
    token(&by(BOB, &folder, "077").end());
    assert_eq!(by(ALICE, &folder, "077").code(), 77);
}
