//! What people see: the log, and the termination message.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

use crate::{
    actors::{LAST, act},
    harness::{KONDUCTOR_RUN, PATIENCE, Running, eventually, run},
    terminal,
};

fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.stdin(Stdio::null()).output().expect("the binary can be started").stderr).expect("text")
}

#[test]
fn each_line_is_json_when_wanted_whatever_it_quotes() {
    let odd = OsStr::from_bytes(b"/a\"quote\\back\nline\ttab\x1b\x7f\xff\xc3/b");
    let long = "x".repeat(100_000);
    let runs: [(&[&str], &OsStr, &str); 6] = [
        (&["--log-format", "json", "-vv"], OsStr::new("true"), "the command has ended: 0"),
        (&["--log-format", "json"], odd, "there is no /a\"quote\\back\nline\ttab\u{1b}\u{7f}\u{fffd}\u{fffd}/b"),
        (&["--log-format", "json"], OsStr::new(&long), "there is no command \"xxx"),
        (&["--log-format", "json", "--holder", &long], OsStr::new("true"), "--holder: wanted a text"),
        (&["--log-format", "json", "--nonsense", "a\nb"], OsStr::new("true"), "unknown flag --nonsense"),
        (&["--log-format=json", "--grace"], OsStr::new("true"), "a value is required for '--grace <DURATION>'"),
    ];
    for (flags, program, message) in runs {
        let mut command = Command::new(KONDUCTOR_RUN);
        let lines = stderr(command.args(flags).arg("--").arg(program));
        assert!(lines.ends_with('\n') && lines.lines().all(|line| line.len() < 4096), "{message}: {lines}");
        let messages: Vec<_> =
            lines.lines().map(serde_json::from_str::<serde_json::Value>).map(Result::unwrap).collect();
        let said = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(message));
        assert!(messages.iter().any(said), "{message}: {lines}");
    }
}

#[test]
fn a_wrong_variable_is_told_as_json_when_that_is_wanted() {
    let ended = run(["true"]).env("KONDUCTOR_LOG_FORMAT", "json").env("KONDUCTOR_SEMAFORE", "a").end();
    let line: serde_json::Value = serde_json::from_str(ended.stderr.trim_end()).expect("one line of JSON");
    let message = "unknown variable KONDUCTOR_SEMAFORE: did you mean KONDUCTOR_SEMAPHORE?";
    assert_eq!((ended.code(), line["level"].as_str(), line["message"].as_str()), (64, Some("ERROR"), Some(message)));
}

/// What the command gets of a value of `TRACEPARENT`, and the lines of the log.
fn traced(traceparent: &OsStr) -> (Vec<u8>, Vec<serde_json::Value>) {
    let mut command = Command::new(KONDUCTOR_RUN);
    command.args(["--log-format=json", "-v", "--", "sh", "-c", "printf %s \"$TRACEPARENT $TRACESTATE\""]);
    command.env("TRACEPARENT", traceparent).env("TRACESTATE", "vendor=1").stdin(Stdio::null());
    let ended = command.output().expect("the binary can be started");
    assert!(ended.status.success(), "{ended:?}");
    let lines = String::from_utf8(ended.stderr).expect("text");
    (ended.stdout, lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect())
}

#[test]
fn each_line_names_the_trace_and_the_command_gets_it_unharmed() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (passed_on, lines) = traced(OsStr::new(&format!("00-{id}-00f067aa0ba902b7-01")));
    assert_eq!(String::from_utf8_lossy(&passed_on), format!("00-{id}-00f067aa0ba902b7-01 vendor=1"));
    assert!(!lines.is_empty() && lines.iter().all(|line| line["trace_id"] == id), "{lines:?}");
}

#[test]
fn what_is_no_trace_is_ignored_quietly_and_passed_on_all_the_same() {
    for value in [&b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"[..], b"nonsense", b"", b"\xff\xfe"] {
        let (passed_on, lines) = traced(OsStr::from_bytes(value));
        assert_eq!(passed_on, [value, b" vendor=1"].concat());
        assert!(!lines.is_empty() && lines.iter().all(|line| line.get("trace_id").is_none()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.to_string().contains("TRACE")), "{lines:?}");
    }
}

#[test]
fn a_message_is_one_line_of_text_whatever_it_quotes() {
    let ended = run(["/a\nb\u{1b}[31m"]).end();
    assert_eq!(ended.stderr, "konductor-run: error: there is no /a\\nb\\u{1b}[31m\n");
}

#[test]
fn own_failures_are_the_termination_message() {
    for (code, run, message) in [
        (64, "\"$0\" --grace soon -- true", "--grace: wanted a duration like 10s, found \"soon\""),
        (64, "KONDUCTOR_X=1 \"$0\" -- true", "unknown variable KONDUCTOR_X: did you mean "),
        (64, "\"$0\" --nonsense -- true", "unknown flag --nonsense"),
        (
            64,
            "\"$0\" --copy-to /nowhere/at/all",
            "cannot copy this program to /nowhere/at/all: there is no folder /nowhere/at",
        ),
        (69, "HOME=/nowhere \"$0\" --semaphore a -- true", "cannot acquire semaphore a: "),
        (70, "(ulimit -n 4; exec \"$0\" -- true)", "cannot start the command: the system refuses pipe2(2): EMFILE"),
        (70, "\"$0\" --copy-to /proc/konductor-run", "cannot copy this program to "),
        (126, "\"$0\" -- /", "cannot execute /: it is a directory"),
        (127, "\"$0\" -- konductor-no-such-command", "there is no command \"konductor-no-such-command\" in PATH"),
        (127, "\"$0\" -- '/a\nb'", "there is no /a\\nb"),
    ] {
        // A /dev of its own, as a container has one.
        let script = format!(
            "mount -t tmpfs -o size=64k none /dev && echo before >/dev/termination-log && {{ {run}; code=$?; }}; \
             cat /dev/termination-log; exit $code"
        );
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, KONDUCTOR_RUN])
            .env_remove("KUBECONFIG")
            // No folder that only root can look into.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("unshare is there (package util-linux)");
        let said = String::from_utf8_lossy(&output.stdout);
        let why = format!("{run}: {said} {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{why}");
        assert!(said.starts_with(&format!("before\nkonductor-run: {message}")), "{why}");
        assert_eq!(said.lines().count(), 2, "{why}");
    }
}

#[test]
fn a_log_that_waits_for_room_holds_up_no_signal() {
    // A terminal says that there is room when there is some, and then a whole line may have to wait.
    let (near, far) = terminal::pair();
    let mut run = act("receiver", "").flags("-v").command().stderr(far).spawn().map(Running).unwrap();
    assert!(run.line().starts_with("ready"));
    // A line has 35 bytes at least, and a terminal keeps 64 KiB.
    for _ in 0..4_000 {
        run.signal(28);
        assert_eq!(run.line(), "28");
    }
    run.signal(LAST);
    assert_eq!(run.line(), LAST.to_string());
    let ended = eventually("it ends", || run.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    drop(near);
}

#[test]
fn lines_that_nobody_takes_are_counted_and_the_number_is_said() {
    for (format, said) in [("text", "konductor-run: warning: "), ("json", "\"level\":\"WARN\",\"message\":\"")] {
        let mut run = act("receiver", "").flags(&format!("-v --log-format {format}")).start();
        assert!(run.line().starts_with("ready"));
        let stderr = run.0.stderr.take().unwrap();
        // A line has 35 bytes at least, and a pipe has 64 KiB.
        let sent = 10_000;
        for _ in 0..sent {
            run.signal(28);
            assert_eq!(run.line(), "28");
        }
        let lost = " lines of this log are lost: nobody took them";
        let (tell, told) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map(Result::unwrap);
            lines
                .inspect(|line| {
                    if line.contains(lost) {
                        tell.send(()).unwrap();
                    }
                })
                .collect::<Vec<_>>()
        });
        // It is said when there is room again, and not only with the next line.
        told.recv_timeout(PATIENCE).expect("it is said");
        run.signal(LAST);
        assert_eq!(run.line(), LAST.to_string());
        assert_eq!(run.end().code(), 0);
        let lines = reader.join().unwrap();
        let lost = lines.iter().filter_map(|line| line.split_once(lost));
        let lost: Vec<usize> = lost
            .map(|(line, _)| {
                line.split_once(said).and_then(|(_, number)| number.parse().ok()).expect("a line of its own")
            })
            .collect();
        // Beside what was sent, the last signal and the end.
        let kept = lines.len() - lost.len();
        assert_eq!(kept + lost.iter().sum::<usize>(), sent + 2, "{format}: {kept} kept, {lost:?} lost");
    }
}
