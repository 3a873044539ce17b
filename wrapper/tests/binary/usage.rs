//! The command line and the environment, as a person meets them.

use std::process::Command;

use crate::harness::{KONDUCTOR_RUN, run};

fn refusal(flags: &str, variables: &[(&str, &str)]) -> String {
    let run = variables.iter().fold(run(["true"]).flags(flags), |run, (name, value)| run.env(name, value));
    let ended = run.end();
    assert_eq!(ended.code(), 64, "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    ended.stderr
}

#[test]
fn wrong_usage_is_64_and_says_what_is_wrong() {
    let usage = "(usage: konductor-run [OPTIONS] -- COMMAND [ARG]...; more: konductor-run --help)";
    for (words, expected) in [
        ("--nonsense -- true", "unknown flag --nonsense"),
        ("--semaphor x -- true", "unknown flag --semaphor: did you mean --semaphore?"),
        ("-v -q -- true", "the argument '--verbose...' cannot be used with '--quiet...'"),
        ("--grace", "a value is required for '--grace <DURATION>' but none was supplied"),
        ("--grace 1s --grace 2s -- true", "the argument '--grace <DURATION>' cannot be used multiple times"),
        ("--copy-to x -- true", "the argument '--copy-to <PATH>' cannot be used with '[COMMAND]...'"),
        ("", "there is no command to run"),
        ("--", "there is no command to run"),
        ("true", "unexpected \"true\": the command comes after --"),
    ] {
        let output = Command::new(KONDUCTOR_RUN).args(words.split_whitespace()).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{words}");
        let expected = format!("konductor-run: error: {expected} {usage}\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected, "{words}");
    }
}

#[test]
fn a_wrong_value_is_named_in_one_line() {
    for (flags, variables, expected) in [
        ("--grace soon", [].as_slice(), "--grace: wanted a duration like 10s, found \"soon\""),
        ("", &[("KONDUCTOR_TTL", "2s")], "KONDUCTOR_TTL: wanted a duration from 5s to 24h, found \"2s\""),
        ("", &[("KONDUCTOR_ON_TIMEOUT", "run")], "KONDUCTOR_ON_TIMEOUT: wanted fail or skip, found \"run\""),
        ("", &[("KONDUCTOR_SEMAFORE", "a")], "unknown variable KONDUCTOR_SEMAFORE: did you mean KONDUCTOR_SEMAPHORE?"),
    ] {
        assert_eq!(refusal(flags, variables), format!("konductor-run: error: {expected}\n"));
    }
}

#[test]
fn empty_variables_and_those_of_services_are_let_through() {
    let run = run(["true"])
        .env("KONDUCTOR_SEMAPHORE", "")
        .env("KONDUCTOR_GRACE", "")
        .env("KONDUCTOR_HELD", "semaphore/outer")
        .env("KONDUCTOR_TOKEN_SEMAPHORE_OUTER", "7")
        .env("KONDUCTOR_FENCING_TOKEN", "7")
        .env("KONDUCTOR_TREE", "outer")
        .env("KONDUCTOR_SERVICE_HOST", "10.0.0.7")
        .env("KONDUCTOR_PORT_443_TCP_ADDR", "10.0.0.7");
    let ended = run.end();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
}

#[test]
fn version_and_help_go_to_stdout() {
    let version = Command::new(KONDUCTOR_RUN).arg("--version").output().unwrap();
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("konductor-run {}\n", env!("CARGO_PKG_VERSION")));
    let help = Command::new(KONDUCTOR_RUN).arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8_lossy(&help.stdout);
    for word in [
        "--semaphore",
        "KONDUCTOR_WAIT_TIMEOUT",
        "79  what was held was lost while the command ran",
        "-- COMMAND [ARG]...",
    ] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

#[test]
fn a_quiet_init_says_nothing() {
    let ended = run(["sh", "-c", "exit 3"]).end();
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (3, "", ""));
}

#[test]
fn what_is_hardly_meant_is_warned_about_and_the_command_runs() {
    for (flags, variables, expected) in [
        ("--local .", [].as_slice(), "nothing is held: --local says how, and no --semaphore or --lease says what"),
        (
            "",
            &[("KONDUCTOR_SEMAPHORE", ""), ("KONDUCTOR_WAIT_TIMEOUT", "5m")],
            "nothing is held: KONDUCTOR_SEMAPHORE is empty, and KONDUCTOR_WAIT_TIMEOUT says that something was meant",
        ),
        (
            "",
            &[("KONDUKTOR_SEMAPHORE", "a")],
            "nothing reads the variable KONDUKTOR_SEMAPHORE: did you mean KONDUCTOR_SEMAPHORE?",
        ),
    ] {
        let run = run(["echo", "ran"]).flags(flags);
        let ended = variables.iter().fold(run, |run, (name, value)| run.env(name, value)).end();
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, "ran\n"));
        assert_eq!(ended.stderr, format!("konductor-run: warning: {expected}\n"));
    }
}
