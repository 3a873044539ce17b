//! `koncli run`: konductor-run itself, with what was said for all commands of koncli.

use std::{ffi::OsString, process::ExitCode};

use crate::{error::Error, globals::Globals};

/// All that comes after the word is konductor-run's.
#[derive(clap::Args, Debug)]
#[command(override_usage = "koncli run [OPTIONS] -- COMMAND [ARG]...")]
pub(crate) struct Args {}

/// Becomes konductor-run with these words. Called while there is no other thread.
pub(crate) fn become_it(globals: &Globals, words: Vec<OsString>) -> ExitCode {
    konductor_run::main_with(line(globals, words))
}

/// The command line. What was said for all commands comes first, and what is repeated after `run` wins.
fn line(globals: &Globals, mut words: Vec<OsString>) -> Vec<OsString> {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    for word in &mut words[..end] {
        // koncli's short form, which konductor-run does not have.
        let Some(value) = word.to_str().and_then(|word| word.strip_prefix("-n")) else { continue };
        *word = match value.strip_prefix('=').unwrap_or(value) {
            "" => "--namespace".into(),
            value => format!("--namespace={value}").into(),
        };
    }
    let said = |flag: &str| {
        words[..end]
            .iter()
            .any(|word| word.to_str().is_some_and(|word| word == flag || word.starts_with(&format!("{flag}="))))
    };
    let mut line = vec![OsString::from("konductor-run")];
    if let Some(namespace) = globals.namespace.as_ref().filter(|_| !said("--namespace")) {
        line.extend(["--namespace".into(), OsString::from(namespace)]);
    }
    if let Some(folder) = globals.local.as_ref().filter(|_| !said("--local")) {
        line.extend(["--local".into(), folder.clone().into_os_string()]);
    }
    if globals.quiet {
        line.push("--quiet".into());
    }
    line.extend((0..globals.verbose).map(|_| OsString::from("--verbose")));
    line.extend(words);
    line
}

/// Why konductor-run cannot do what was said for all commands, if it cannot.
pub(crate) fn refusal(globals: &Globals) -> Option<Error> {
    let asked = [
        (globals.context.is_some(), "--context"),
        (globals.kubeconfig.is_some(), "--kubeconfig"),
        (globals.as_user.is_some() || !globals.as_group.is_empty(), "--as"),
    ];
    let flag = asked.into_iter().find_map(|(asked, flag)| asked.then_some(flag))?;
    Some(
        Error::usage(format!("{flag} is not for koncli run, which goes where konductor-run goes"))
            .advise("set KUBECONFIG to a kubeconfig whose current context is the one that is meant"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_is_said_to_konductor_run() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let globals = Globals {
            namespace: Some("etl".to_owned()),
            local: Some("locks".into()),
            verbose: 1,
            ..Globals::default()
        };
        for (given, expected) in [
            ("-- ls --local", "konductor-run --namespace etl --local locks --verbose -- ls --local"),
            ("--namespace=b -- ls", "konductor-run --local locks --verbose --namespace=b -- ls"),
            ("-n b -- ls -n", "konductor-run --local locks --verbose --namespace b -- ls -n"),
            ("-nb -- ls", "konductor-run --local locks --verbose --namespace=b -- ls"),
            ("-n=b -- ls", "konductor-run --local locks --verbose --namespace=b -- ls"),
        ] {
            assert_eq!(line(&globals, words(given)), words(expected));
        }
    }
}
