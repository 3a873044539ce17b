//! `koncli run`: konductor-run itself, with what was said for all commands of koncli.

use std::{ffi::OsString, process::ExitCode};

use konductor::Choice;

use crate::{error::Error, globals::Globals};

/// All that comes after the word is konductor-run's, but for which cluster is meant.
#[derive(clap::Args, Debug)]
#[command(override_usage = "koncli run [OPTIONS] -- COMMAND [ARG]...")]
pub(crate) struct Args {}

/// The flags that konductor-run does not have: they say which cluster is meant.
const CHOOSING: [&str; 4] = ["--context", "--kubeconfig", "--as", "--as-group"];

/// Becomes konductor-run with these words. Called while there is no other thread.
pub(crate) fn become_it(globals: &Globals, words: Vec<OsString>) -> Result<ExitCode, Error> {
    let (choice, words) = chosen(globals, words)?;
    Ok(konductor_run::main_with(line(globals, words), choice))
}

/// Which cluster is meant, and the words that are konductor-run's. What is repeated after `run` wins.
fn chosen(globals: &Globals, words: Vec<OsString>) -> Result<(Choice, Vec<OsString>), Error> {
    let mut choice = globals.choice();
    let (mut groups, mut rest) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default().to_owned();
        if text == "--" {
            rest.push(word);
            break;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), None),
        };
        if !CHOOSING.contains(&name) {
            rest.push(word);
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => words
                .next()
                .and_then(|value| value.into_string().ok())
                .ok_or_else(|| Error::usage(format!("{name} takes a value")))?,
        };
        match name {
            "--context" => choice.context = Some(value),
            "--kubeconfig" => choice.kubeconfig = Some(value.into()),
            "--as" => choice.user = Some(value),
            _ => groups.extend(value.split(',').map(str::to_owned)),
        }
    }
    rest.extend(words);
    if !groups.is_empty() {
        choice.groups = groups;
    }
    if !choice.groups.is_empty() && choice.user.is_none() {
        return Err(Error::usage("--as-group goes with --as: whom to impersonate?"));
    }
    Ok((choice, rest))
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
    if globals.local_filesystem_ok {
        line.push("--local-filesystem-ok".into());
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

    #[test]
    fn which_cluster_is_meant_is_said_before_or_after_the_word() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let globals = Globals {
            context: Some("c".to_owned()),
            as_user: Some("ann".to_owned()),
            as_group: vec!["a".to_owned()],
            ..Globals::default()
        };
        let choice = |context: &str, user: &str, groups: &[&str]| Choice {
            kubeconfig: None,
            context: Some(context.to_owned()),
            user: Some(user.to_owned()),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        for (given, expected, rest) in [
            ("--lease l -- ls --context x", choice("c", "ann", &["a"]), "--lease l -- ls --context x"),
            ("--context d --lease l -- ls", choice("d", "ann", &["a"]), "--lease l -- ls"),
            ("--as=bob --as-group b,c --as-group=d -- ls", choice("c", "bob", &["b", "c", "d"]), "-- ls"),
        ] {
            assert_eq!(chosen(&globals, words(given)).expect("a choice"), (expected, words(rest)), "{given}");
        }
        let file = chosen(&Globals::default(), words("--kubeconfig k -- ls")).expect("a choice");
        assert_eq!(file.0.kubeconfig.as_deref(), Some("k".as_ref()));
        for wrong in ["--as-group a -- ls", "--context"] {
            assert!(chosen(&Globals::default(), words(wrong)).is_err(), "{wrong}");
        }
    }
}
