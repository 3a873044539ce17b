//! Transactions, and what they find that others have left or do meanwhile.

use std::{fs, sync::Barrier, thread};

use konductor_api::{Lease, Lock as _};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::*;

const MANIFEST: &str = "apiVersion: konductor.io/v1\nkind: Lease\nmetadata:\n  name: s\n";

/// A folder with one lease, and that.
fn folder() -> (tempfile::TempDir, FolderLock) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.yaml"), MANIFEST).unwrap();
    let place = FolderLock {
        folder: Arc::new(folder.path().to_owned()),
        kind: Lease::KIND,
        name: "s".to_owned(),
        any_filesystem: true,
        in_the_way: Arc::default(),
    };
    (folder, place)
}

impl FolderLock {
    fn state(&self) -> PathBuf {
        self.folder.join(STATE_FOLDER).join(self.kind.plural).join(&self.name)
    }

    fn change(&self, name: &str, change: &Change) -> Result<(Standing, Option<File>)> {
        self.transact(change, name, &Weak::new(), Haste::HoweverLong)
    }

    fn add(&self, name: &str) -> Result<(Standing, Option<File>)> {
        let ask = Ask { name: name.to_owned(), holder: "me".to_owned(), permits: 1, priority: 0, may_wait: true };
        self.change(name, &Change::Add(ask))
    }

    fn hold(&self, name: &str) -> (u64, File) {
        match self.add(name).unwrap() {
            (Standing::Held { token }, Some(fifo)) => (token, fifo),
            other => panic!("nobody else wants it: {other:?}"),
        }
    }

    fn give_back(&self, name: &str) {
        let outcome = self.change(name, &Change::Remove(name.to_owned())).unwrap();
        assert!(matches!(outcome, (Standing::Gone, None)), "{outcome:?}");
    }
}

#[test]
fn who_holds_alone_gives_back_whatever_has_become_of_the_manifests() {
    let (folder, place) = folder();
    let write = |text: &str| fs::write(folder.path().join("s.yaml"), text).unwrap();
    let mut tokens = Vec::new();
    for name in ["a", "b"] {
        write(MANIFEST);
        let (token, fifo) = place.hold(name);
        tokens.push(token);
        write("kind: Mistake\n");
        place.give_back(name);
        drop(fifo);
    }
    assert!(tokens[0] < tokens[1], "{tokens:?}");
}

#[test]
fn a_claim_that_is_given_back_is_without_its_fifo_before_it_is_out_of_the_state() {
    let (_folder, place) = folder();
    let (_, fifo) = place.hold("a");
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    inotify.add_watch(&place.state().join("claims"), AddWatchFlags::IN_DELETE).unwrap();
    inotify.add_watch(&place.state(), AddWatchFlags::IN_MOVED_TO).unwrap();
    place.give_back("a");
    let names = inotify.read_events().unwrap().into_iter().filter_map(|event| event.name);
    let seen: Vec<_> = names.filter(|name| name == "a" || name == STATE_FILE).collect();
    assert_eq!(seen, ["a", STATE_FILE]);
    drop(fifo);
}

/// Even if something has inherited it.
#[test]
fn who_was_killed_while_it_gave_back_is_in_nobodys_way() {
    let (_folder, place) = folder();
    let (_, inherited) = place.hold("a");
    fs::remove_file(place.state().join("claims/a")).unwrap();
    place.hold("b");
    drop(inherited);
}

#[test]
fn manifests_that_are_renamed_while_they_are_read_are_no_mistake_and_links_that_lead_nowhere_are() {
    let (folder, _) = folder();
    let at = |name: &str| folder.path().join(name);
    let mut is_renamed = false;
    let found = definitions(folder.path(), || {
        let names = manifest_names(folder.path())?;
        if !is_renamed {
            fs::rename(at("s.yaml"), at("r.yaml")).unwrap();
            is_renamed = true;
        }
        Ok(names)
    });
    assert_eq!(found.unwrap().len(), 1);
    std::os::unix::fs::symlink("nowhere", at("link.yaml")).unwrap();
    let said = manifests(folder.path()).unwrap_err().to_string();
    assert!(said.contains("link.yaml"), "{said}");
}

#[test]
fn what_was_moved_while_somebody_waited_for_it_is_no_place_to_meet() {
    let (folder, place) = folder();
    for moved in [place.folder.join(STATE_FOLDER), folder.path().to_owned()] {
        let found = place.open(Haste::HoweverLong).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(&moved, elsewhere.path().join("moved")).unwrap();
        let outcome = found.lock(Locking::Exclusively, Haste::HoweverLong).map(drop);
        assert!(matches!(outcome, Err(FolderError::Unsteady { .. })), "{outcome:?}");
    }
}

/// At whatever moment, each time another one.
#[test]
fn who_comes_while_the_state_is_deleted_is_let_in_all_the_same() {
    let (folder, place) = folder();
    let (state, trash) = (folder.path().join(STATE_FOLDER), folder.path().join("trash"));
    let turn = Barrier::new(2);
    thread::scope(|scope| {
        let rounds = 0..200;
        let deletes = rounds.clone();
        scope.spawn(|| {
            for _ in deletes {
                turn.wait();
                // Nothing is held, so this is allowed.
                let _ = fs::rename(&state, &trash).and_then(|()| fs::remove_dir_all(&trash));
                turn.wait();
                // Something may have been made in it.
                let _ = fs::remove_dir_all(&trash);
            }
        });
        for round in rounds {
            turn.wait();
            let outcome = place.add(&format!("{round:032x}"));
            turn.wait();
            let (standing, _) = outcome.unwrap();
            assert!(matches!(standing, Standing::Held { .. }), "{standing:?}");
        }
    });
}
