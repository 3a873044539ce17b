//! `--copy-to`: the program as a file.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::harness::KONDUCTOR_RUN;

fn copy_to(path: &Path) -> Output {
    Command::new(KONDUCTOR_RUN).arg("--copy-to").arg(path).output().expect("the binary can be started")
}

fn works(path: &Path) {
    let output = Command::new(path).args(["--", "sh", "-c", "exit 7"]).output().expect("the copy can be started");
    assert_eq!(output.status.code(), Some(7));
}

fn says(output: &Output, code: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(code), &*format!("konductor-run: {message}\n")));
    assert!(output.stdout.is_empty());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_copy_is_the_program_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    for (to, file) in [("", "konductor-run"), ("init", "init")] {
        let (to, file) = (folder.path().join(to), folder.path().join(file));
        let output = Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" --copy-to \"$1\"", KONDUCTOR_RUN])
            .arg(&to)
            .output()
            .unwrap();
        says(&output, 0, &format!("copied this program to {}", file.display()));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(fs::read(&file).unwrap() == fs::read(KONDUCTOR_RUN).unwrap(), "the copy is another program");
        works(&file);
    }
    assert_eq!(names(folder.path()).len(), 2);
}

/// As an init container: no shell and no `cp`, a root that is read-only, a user that is nobody, and a volume. (This
/// binary needs a loader and libraries, which the image's static one does not.)
#[test]
fn it_works_for_nobody_in_an_image_with_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let script = "set -e; cd \"$1\"; mount -t tmpfs -o mode=755 none .; cd \"$1\"; mkdir proc volume; cp \"$0\" init
        for libraries in lib lib64 usr/lib usr/lib64; do
            if test -L /$libraries; then ln -s \"$(readlink /$libraries)\" $libraries
            elif test -d /$libraries; then mkdir -p $libraries; mount --rbind /$libraries $libraries; fi
        done
        mount -t tmpfs -o mode=1777 none volume; mount --rbind /proc proc; mount -o remount,bind,ro .
        unshare --user --map-user=65532 --map-group=65532 --root=. /init --copy-to /volume
        volume/konductor-run -- sh -c 'exit 7' || echo $?";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, KONDUCTOR_RUN])
        .arg(root.path())
        .output()
        .expect("unshare is there (package util-linux)");
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(said, ["7\n", "konductor-run: copied this program to /volume/konductor-run\n"]);
}

#[test]
fn an_older_copy_is_replaced_also_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("konductor-run");
    assert_eq!(copy_to(folder.path()).status.code(), Some(0));
    let mut old = Command::new(&file).args(["--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let inode = || fs::metadata(&file).unwrap().ino();
    let before = inode();
    assert_eq!(copy_to(folder.path()).status.code(), Some(0));
    assert_ne!(inode(), before);
    works(&file);
    // Until its input ends.
    drop(old.stdin.take());
    assert_eq!(old.wait().unwrap().code(), Some(0));
    assert_eq!(names(folder.path()), ["konductor-run"]);
}

#[test]
fn copies_at_the_same_time_are_all_whole() {
    let folder = tempfile::tempdir().unwrap();
    let start = |_| Command::new(KONDUCTOR_RUN).arg("-q").arg("--copy-to").arg(folder.path()).spawn().unwrap();
    let copies: Vec<_> = (0..8).map(start).collect();
    for mut copy in copies {
        assert_eq!(copy.wait().unwrap().code(), Some(0));
        works(&folder.path().join("konductor-run"));
    }
    assert_eq!(names(folder.path()), ["konductor-run"]);
}

#[test]
fn a_place_that_is_not_there_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    for (path, place) in
        [(at("nowhere/konductor-run"), at("nowhere")), (at("new/"), at("new/")), (at("file/konductor-run"), at("file"))]
    {
        let message =
            format!("error: cannot copy this program to {}: there is no folder {}", path.display(), place.display());
        says(&copy_to(&path), 64, &message);
    }
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn a_place_that_cannot_be_written_is_said_and_left_as_it_was() {
    for (options, why) in
        [("ro", "Read-only file system (os error 30)"), ("size=64k", "No space left on device (os error 28)")]
    {
        let folder = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o \"$1\" none \"$2\" && { \"$0\" --copy-to \"$2\"; echo $?; ls -A \"$2\"; }";
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, KONDUCTOR_RUN, options])
            .arg(folder.path())
            .output()
            .expect("unshare is there (package util-linux)");
        let file = folder.path().join("konductor-run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, format!("konductor-run: error: cannot copy this program to {}: {why}\n", file.display()));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "70\n", "the code, and nothing left behind");
    }
}

#[test]
fn what_is_set_for_commands_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(KONDUCTOR_RUN);
    let output = command.env("KONDUCTOR_SEMAPHORE", "not valid").arg("--copy-to").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}
