//! Edits of manifests are seen, by whatever way the folder leads to them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Folder, token};
use crate::harness::{Running, eventually, run};

fn manifest(permits: u32) -> String {
    format!("apiVersion: konductor.io/v1\nkind: Semaphore\nmetadata: {{name: turns}}\nspec: {{permits: {permits}}}\n")
}

/// A folder without manifests, beside another one.
struct Linked {
    folder: Folder,
    elsewhere: tempfile::TempDir,
}

impl Linked {
    fn new() -> Self {
        let folder = Folder::new(0);
        fs::remove_file(folder.path().join("turns.yaml")).unwrap();
        Self { folder, elsewhere: tempfile::tempdir().unwrap() }
    }

    fn there(&self, path: &str) -> PathBuf {
        self.elsewhere.path().join(path)
    }

    fn here(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }
}

fn write(path: &Path, permits: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, manifest(permits)).unwrap();
}

fn replace(path: &Path, permits: u32) {
    let new = path.with_file_name(".new");
    write(&new, permits);
    fs::rename(new, path).unwrap();
}

/// Replaces a link.
fn link_anew(target: &Path, path: &Path) {
    let new = path.with_file_name(".new");
    symlink(target, &new).unwrap();
    fs::rename(new, path).unwrap();
}

/// Somebody waits for what has no permits; after this edit it has one.
fn woken(what: &str, scene: &Linked, edit: impl FnOnce()) {
    let waiter = scene.folder.queue("--semaphore turns");
    asleep(&waiter);
    edit();
    let ended = waiter.end();
    assert_eq!(ended.code(), 0, "{what}: {}", ended.stderr);
    token(&ended);
}

/// It watches by now: its only other thread has ended.
fn asleep(waiter: &Running) {
    eventually("it watches", || {
        let open = fs::read_dir(format!("/proc/{}/fd", waiter.pid())).ok()?;
        let mut paths = open.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        paths.any(|path| path.as_os_str() == "anon_inode:inotify").then_some(())
    });
}

#[test]
fn a_manifest_that_is_a_link_is_watched_where_it_is() {
    for (what, edit) in [
        ("written", (|scene| write(&scene.there("a.yaml"), 1)) as fn(&Linked)),
        ("replaced", |scene| replace(&scene.there("a.yaml"), 1)),
        ("the link replaced", |scene| {
            write(&scene.there("b.yaml"), 1);
            link_anew(&scene.there("b.yaml"), &scene.here("a.yaml"));
        }),
    ] {
        let scene = Linked::new();
        write(&scene.there("a.yaml"), 0);
        symlink(scene.there("a.yaml"), scene.here("a.yaml")).unwrap();
        woken(what, &scene, || edit(&scene));
    }
}

#[test]
fn links_in_between_are_watched() {
    for (what, edit) in [
        ("the last link", (|scene| link_anew(&scene.there("new/a.yaml"), &scene.there("links/a.yaml"))) as fn(&Linked)),
        ("a folder's link", |scene| link_anew(Path::new("new"), &scene.there("current"))),
        ("the file", |scene| write(&scene.there("old/a.yaml"), 1)),
    ] {
        let scene = Linked::new();
        write(&scene.there("old/a.yaml"), 0);
        write(&scene.there("new/a.yaml"), 1);
        symlink("old", scene.there("current")).unwrap();
        fs::create_dir(scene.there("links")).unwrap();
        symlink("../current/a.yaml", scene.there("links/a.yaml")).unwrap();
        symlink(scene.there("links/a.yaml"), scene.here("a.yaml")).unwrap();
        woken(what, &scene, || edit(&scene));
    }
}

#[test]
fn a_config_map_is_watched() {
    let scene = Linked::new();
    write(&scene.here("..1/turns.yaml"), 0);
    write(&scene.here("..2/turns.yaml"), 1);
    symlink("..1", scene.here("..data")).unwrap();
    symlink("..data/turns.yaml", scene.here("turns.yaml")).unwrap();
    woken("its link", &scene, || link_anew(Path::new("..2"), &scene.here("..data")));
}

#[test]
fn a_file_with_another_name_is_watched() {
    let scene = Linked::new();
    write(&scene.here("turns.yaml"), 0);
    fs::hard_link(scene.here("turns.yaml"), scene.there("other.yaml")).unwrap();
    woken("by its other name", &scene, || write(&scene.there("other.yaml"), 1));
}

#[test]
fn a_folder_that_is_reached_by_a_link_is_watched() {
    let scene = Linked::new();
    write(&scene.here("turns.yaml"), 0);
    symlink(scene.folder.path(), scene.there("link")).unwrap();
    let flags = format!("--local {} --semaphore turns", scene.there("link").display());
    let waiter = run(["true"]).flags(&flags).start();
    eventually("it waits", || (scene.folder.claims("turns") == 1).then_some(()));
    asleep(&waiter);
    write(&scene.here("turns.yaml"), 1);
    assert_eq!(waiter.end().code(), 0);
}
