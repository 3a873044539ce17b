//! Exit codes: the command's own, exactly, and those of commands that cannot run.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};

use crate::harness::{executable, program, run, sh};

#[test]
fn every_exit_code_is_passed_through() {
    for code in 0..=255 {
        assert_eq!(sh(&format!("exit {code}")).code(), code);
    }
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    // Not those that stop or are ignored by default; and the C library has 32 and 33 ignored in what a test starts.
    // Whoever runs the tests may have others ignored.
    let deadly = (1..=64).filter(|n| ![17, 18, 19, 20, 21, 22, 23, 28, 32, 33].contains(n));
    let folder = tempfile::tempdir().unwrap();
    for signal in deadly {
        // The command leaves no core, and konductor-run would find no limit.
        let script = format!("ulimit -S -c 0; kill -{signal} $$; while :; do :; done");
        let before = format!("cd {} && ulimit -S -c unlimited; exec \"$@\"", folder.path().display());
        let ended = sh(&script).under("env --default-signal").after(&before).end();
        // As a shell tells it, which sees the death itself.
        assert_eq!(ended.code(), 128 + signal, "signal {signal}");
        assert_eq!((ended.status.signal(), ended.status.core_dumped()), (Some(signal), false), "signal {signal}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a core");
}

#[test]
fn what_ends_by_a_signal_in_place_of_the_command_is_told_as_a_code_when_that_is_mapped() {
    for (flags, script, code) in [
        ("--exit-code-map 143=143", "kill $$; sleep 1000", Some(143)),
        ("--exit-code-map 3=143", "exit 3", Some(143)),
        ("--map-signal TERM=INT", "kill $$; sleep 1000", None),
    ] {
        assert_eq!(sh(script).flags(flags).end().status.code(), code, "{flags}");
    }
}

#[test]
fn the_commands_codes_are_mapped_when_wanted() {
    let flags = "--exit-code-map 3=0 --exit-code-map 0=5 --exit-code-map 143=7 --exit-code-map 127=1";
    for (script, code) in [("exit 3", 0), ("exit 0", 5), ("kill $$", 7), ("exit 4", 4), ("exit 127", 1)] {
        assert_eq!(sh(script).flags(flags).code(), code, "{script}");
    }
    // Not its own: this one says that there is no command.
    assert_eq!(run(["konductor-no-such-command"]).flags(flags).code(), 127);
}

#[test]
fn what_cannot_run_is_126_and_what_is_not_there_127() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: &str| {
        let path = folder.path().join(name);
        program(&path, text, mode);
        path.into_os_string().into_string().unwrap()
    };
    let nothing = folder.path().join("nothing").into_os_string().into_string().unwrap();
    for (why, path, code, message) in [
        ("no such file", nothing.clone(), 127, "there is no "),
        ("no such command", "konductor-no-such-command".to_owned(), 127, "there is no command "),
        ("no name", String::new(), 127, "there is no command \"\""),
        ("a directory", "/tmp".to_owned(), 126, "it is a directory"),
        ("a device", "/dev/null".to_owned(), 126, "it is not a plain file"),
        ("no x bit", file("plain", "#!/bin/sh\n", "644"), 126, "ermission denied"),
        (
            "no such interpreter",
            file("lost", &format!("#!{nothing}\n"), "755"),
            126,
            &format!("names, {nothing}, is not"),
        ),
        (
            "a Windows line",
            file("dos", "#!/bin/sh\r\nexit 0\r\n", "755"),
            126,
            "/bin/sh\\r, is not there (the line has a",
        ),
        ("no program to interpret", file("odd", "#!/etc/passwd\n", "755"), 126, "/etc/passwd, cannot be executed"),
        (
            "another machine's",
            file("arm", "\x7fELF\x02\x01\x01_________\x02\0\x28\0", "755"),
            126,
            "a program for arm, and",
        ),
        ("a program through a file", file("a", "#!/bin/sh\n", "755") + "/b", 127, "there is no "),
    ] {
        let ended = run([path.as_str()]).end();
        assert_eq!(ended.code(), code, "{why}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("konductor-run: error: "), "{why}: {}", ended.stderr);
        assert!(ended.stderr.contains(message) && ended.stderr.lines().count() == 1, "{why}: {}", ended.stderr);
    }
}

#[test]
fn a_script_that_does_not_say_what_it_is_for_runs_by_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    for (text, code, output) in [
        ("echo \"$0 $# $2\"; exit 3\n", 3, "FILE 2 b c\n"),
        ("# no such line as #!/bin/false\nexit 4\n", 4, ""),
        ("", 0, ""),
        // What has no line at all that a kernel would look at.
        ("\n\nexit 5", 5, ""),
        ("exit 6\n\0\0archive", 6, ""),
    ] {
        let path = folder.path().join("script");
        executable(&path, text);
        let path = path.to_str().unwrap();
        let ended = run([path, "a", "b c"]).end();
        let expected = output.replace("FILE", path);
        assert_eq!((ended.code(), ended.stdout), (code, expected), "{text:?}: {}", ended.stderr);
        // Found in PATH, it is the same.
        let ended = run(["script", "a", "b c"]).env("PATH", folder.path().to_str().unwrap()).end();
        assert_eq!(ended.code(), code, "{text:?}: {}", ended.stderr);
    }
}

#[test]
fn a_filesystem_without_programs_is_named() {
    let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    let run = run(["/mnt/program"]).under(&format!("unshare {rootless} --mount"));
    let prepare = "mount -t tmpfs -o noexec none /mnt && echo exit 3 >/mnt/program && chmod 755 /mnt/program";
    let ended = run.after(&format!("{prepare} && exec \"$@\"")).end();
    assert_eq!(ended.code(), 126, "{}", ended.stderr);
    assert!(ended.stderr.contains("/mnt/program: its filesystem is mounted noexec"), "{}", ended.stderr);
}

#[test]
fn without_a_shell_such_a_script_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script");
    executable(&path, "exit 3\n");
    let rootless = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    let run = run([path.to_str().unwrap()]).under(&format!("unshare {rootless} --mount"));
    let ended = run.after("mount -t tmpfs none /usr/bin && exec \"$@\"").end();
    assert_eq!(ended.code(), 126, "{}", ended.stderr);
    assert!(ended.stderr.contains("no /bin/sh"), "{}", ended.stderr);
}

#[test]
fn path_is_searched_as_a_shell_would() {
    let folder = tempfile::tempdir().unwrap();
    for (sub, mode) in [("first", "644"), ("second", "755")] {
        let path = folder.path().join(sub);
        fs::create_dir(&path).unwrap();
        program(&path.join("probe"), "#!/bin/sh\necho $0\n", mode);
    }
    let at = |sub: &str| folder.path().join(sub).display().to_string();
    let path = format!("/nowhere:{}:{}", at("first"), at("second"));
    let ended = run(["probe"]).env("PATH", &path).end();
    assert_eq!((ended.code(), ended.stdout.trim()), (0, at("second/probe").as_str()));
    assert_eq!(run(["probe"]).env("PATH", &at("first")).code(), 126);
    assert!(Path::new(&at("first")).exists());
}
