//! Completion: scripts for shells, and what they ask for (`__complete`), in the form that kubectl wants of its plugins: a
//! line for each candidate, with its description after a tab, and a last line with what the shell is to do.

use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _, ValueEnum};
use konductor::Exit;
use konductor_cluster::Login;

use crate::{
    args::CommandLine,
    cluster::Cluster,
    context::Context,
    error::{DONE, Outcome},
    globals::Globals,
    kind::{ALL, BARRIER, GATE, JOB, LEASE, PARENTS, Resource, SEMAPHORE},
    local,
    trouble::{Role, names},
};

/// How long a person who presses TAB waits for the cluster.
const PATIENCE: Duration = Duration::from_millis(500);

/// Which shell.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// bash, zsh or fish: to be read by the shell; kubectl: the file `kubectl_complete-konductor`, to be put into PATH.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// What can complete.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Kubectl,
}

/// What was typed so far.
#[derive(clap::Args, Debug)]
pub(crate) struct CompleteArgs {
    #[arg(value_name = "WORDS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Prints a script.
pub(crate) fn run(args: &Args, context: &Context) -> Exit {
    context.screen.text(match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        Shell::Kubectl => KUBECTL,
    });
    DONE
}

const BASH: &str = r#"# Read this by: source <(koncli completion bash)
_koncli() {
  local line directive=0
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :* ]]; then directive=${line#:}; continue; fi
    COMPREPLY+=("${line%%$'\t'*}")
  done < <(koncli __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if ((directive & 2)); then compopt -o nospace; fi
}
complete -o default -F _koncli koncli
"#;

const ZSH: &str = r#"#compdef koncli
# Read this by: source <(koncli completion zsh), or put it into a file _koncli of fpath.
_koncli() {
  local line directive=0
  local -a found options
  for line in "${(@f)$(koncli __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    if [[ $line == :* ]]; then directive=${line#:}; continue; fi
    [[ -n $line ]] && found+=("${line%%$'\t'*}")
  done
  ((directive & 2)) && options=(-S '')
  if ((${#found})); then compadd "${options[@]}" -a found; else _files; fi
}
compdef _koncli koncli
"#;

const FISH: &str = r"# Read this by: koncli completion fish | source
function __koncli_complete
  set -l words (commandline -opc) (commandline -ct)
  koncli __complete -- $words[2..-1] 2>/dev/null | string match -v -r '^:'
end
complete -c koncli -f -a '(__koncli_complete)'
";

const KUBECTL: &str = r#"#!/bin/sh
# Put this into PATH as kubectl_complete-konductor, executable: kubectl then completes `kubectl konductor`.
exec kubectl-konductor __complete -- "$@"
"#;

/// What a candidate comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// These, with what they mean.
    Fixed(Vec<(String, String)>),
    /// The names of objects of a kind.
    Names(Resource),
    /// `KIND/NAME` of one of these kinds.
    Objects(Vec<Resource>),
    Namespaces,
    Contexts,
    /// Whatever the shell has.
    Files,
}

/// Prints what could come next. Silent when nothing can be found out.
pub(crate) async fn complete(words: &[String], context: &Context) -> Outcome {
    let last = words.last().map_or("", String::as_str);
    let (source, globals) = next(&CommandLine::command(), words, context.globals.clone());
    let (mut candidates, mut directive) = (Vec::new(), NO_FILES);
    match source {
        Source::Fixed(fixed) => candidates = fixed,
        Source::Files => directive = DEFAULT,
        Source::Contexts => candidates = plain(contexts(&globals)),
        Source::Namespaces => candidates = plain(from_cluster(&globals, &NAMESPACE).await),
        Source::Names(resource) => candidates = plain(from_cluster(&globals, &resource).await),
        Source::Objects(kinds) => {
            if let Some((kind, _)) = last.split_once('/') {
                if let Ok(resource) = kind.parse() {
                    let names = from_cluster(&globals, &resource).await;
                    candidates = plain(names.into_iter().map(|name| format!("{kind}/{name}")).collect());
                }
            } else {
                candidates = plain(kinds.iter().map(|kind| format!("{kind}/")).collect());
                directive |= NO_SPACE;
            }
        }
    }
    let mut text = String::new();
    for (candidate, meaning) in candidates.iter().filter(|(candidate, _)| candidate.starts_with(last)) {
        text.push_str(candidate);
        if !meaning.is_empty() {
            text.push('\t');
            text.push_str(meaning);
        }
        text.push('\n');
    }
    context.screen.text(&format!("{text}:{directive}\n"));
    Ok(DONE)
}

/// What a shell is to do: the values are cobra's, as kubectl reads them.
const DEFAULT: u8 = 0;
const NO_SPACE: u8 = 2;
const NO_FILES: u8 = 4;

const NAMESPACE: Resource = Resource::foreign("", "Namespace", "namespaces", "namespace");

fn plain(names: Vec<String>) -> Vec<(String, String)> {
    names.into_iter().map(|name| (name, String::new())).collect()
}

fn contexts(globals: &Globals) -> Vec<String> {
    let kubeconfig = konductor_cluster::read_kubeconfig(globals.kubeconfig.as_deref());
    kubeconfig
        .map(|kubeconfig| kubeconfig.contexts.into_iter().map(|context| context.name).collect())
        .unwrap_or_default()
}

async fn from_cluster(globals: &Globals, resource: &Resource) -> Vec<String> {
    let asking = async {
        if let Some(folder) = globals.folder() {
            let objects = folder.snapshot().map(|view| local::objects(&view, *resource)).unwrap_or_default();
            let named = objects.iter().filter_map(|object| object["metadata"]["name"].as_str());
            return named.map(str::to_owned).collect();
        }
        // Nobody is asked in the middle of a line. A login that takes longer goes on, and the next TAB may find it done.
        let login = Login { asks: false, ..Login::default() };
        let Ok(cluster) = Cluster::connect(globals, login, Role::View).await else { return Vec::new() };
        if *resource == NAMESPACE {
            crate::trouble::names_at(&cluster, NAMESPACE.path(None)).await
        } else {
            names(&cluster, *resource).await
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_default()
}

/// What can be at the place of the last word, and what the command would take for all commands: what was said before
/// that word, and what the environment says where nothing was.
fn next(root: &Command, words: &[String], mut globals: Globals) -> (Source, Globals) {
    let mut groups = Vec::new();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut path = vec![root];
    let mut positionals = 0;
    let mut pending: Option<&Arg> = None;
    let mut given = Vec::new();
    for word in before {
        let current = path[path.len() - 1];
        if let Some(flag) = pending.take() {
            note(&mut globals, &mut groups, flag, word);
        } else if let Some(flag) = flag(&path, word) {
            if takes_value(flag) {
                match word.split_once('=') {
                    Some((_, value)) => note(&mut globals, &mut groups, flag, value),
                    None => pending = Some(flag),
                }
            }
        } else if let Some(command) = current.find_subcommand(word) {
            path.push(command);
            positionals = 0;
        } else {
            positionals += 1;
            given.push(word.as_str());
        }
    }
    if !groups.is_empty() {
        globals.as_group = groups;
    }
    let source = match pending {
        Some(flag) => of_flag(flag),
        None => match (last.split_once('='), last.starts_with('-')) {
            (Some(_), true) => Source::Fixed(Vec::new()),
            (_, true) => Source::Fixed(flags(&path)),
            _ => at(&path, positionals, &given),
        },
    };
    (source, globals)
}

/// The flag that a word names.
fn flag<'a>(path: &[&'a Command], word: &str) -> Option<&'a Arg> {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let is = |arg: &&Arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => {
            name.strip_prefix('-').is_some_and(|short| arg.get_short().is_some_and(|known| short == known.to_string()))
        }
    };
    path.iter().rev().flat_map(|command| command.get_arguments()).find(is)
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// Takes in what was said of the cluster.
fn note(globals: &mut Globals, groups: &mut Vec<String>, flag: &Arg, value: &str) {
    match flag.get_id().as_str() {
        "namespace" => globals.namespace = Some(value.to_owned()),
        "context" => globals.context = Some(value.to_owned()),
        "kubeconfig" => globals.kubeconfig = Some(value.into()),
        "as_user" => globals.as_user = Some(value.to_owned()),
        "as_group" => groups.extend(value.split(',').map(str::to_owned)),
        "local" => globals.local = Some(value.into()),
        _ => {}
    }
}

fn of_flag(flag: &Arg) -> Source {
    match flag.get_id().as_str() {
        "namespace" | "operator_namespace" => Source::Namespaces,
        "context" => Source::Contexts,
        "output" => fixed(&["wide", "json", "yaml", "name", "jsonpath="]),
        "goal" => fixed(&["open", "failed", "granted", "complete", "condition="]),
        "kubeconfig" | "local" => Source::Files,
        _ => Source::Fixed(
            flag.get_possible_values()
                .iter()
                .filter(|value| !value.is_hide_set())
                .map(|value| {
                    (value.get_name().to_owned(), value.get_help().map(ToString::to_string).unwrap_or_default())
                })
                .collect(),
        ),
    }
}

fn fixed(words: &[&str]) -> Source {
    Source::Fixed(words.iter().map(|word| ((*word).to_owned(), String::new())).collect())
}

/// The flags of a command and of all commands above it.
fn flags(path: &[&Command]) -> Vec<(String, String)> {
    let arguments = path.iter().rev().flat_map(|command| command.get_arguments());
    let shown = arguments.filter(|arg| !arg.is_hide_set());
    let named = shown.filter_map(|arg| {
        let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some((format!("--{}", arg.get_long()?), meaning.lines().next().unwrap_or_default().to_owned()))
    });
    named.collect()
}

/// What can be where no flag is.
fn at(path: &[&Command], positionals: usize, given: &[&str]) -> Source {
    let current = path[path.len() - 1];
    if current.has_subcommands() {
        let commands = current.get_subcommands().filter(|command| !command.is_hide_set());
        let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
        return Source::Fixed(commands.map(|command| (command.get_name().to_owned(), about(command))).collect());
    }
    let names: Vec<_> = path.iter().skip(1).map(|command| command.get_name()).collect();
    let of_kind = match names.first() {
        Some(&"semaphore") => Some(SEMAPHORE),
        Some(&"lease") => Some(LEASE),
        Some(&"barrier") => Some(BARRIER),
        Some(&"gate") => Some(GATE),
        _ => None,
    };
    match (names.as_slice(), of_kind, positionals) {
        ([_, "create" | "list"], ..) => Source::Fixed(Vec::new()),
        ([_, "delete"], Some(kind), _) | ([_, _], Some(kind), 0) => Source::Names(kind),
        (["status"], _, 0) => fixed(&["all", "semaphore", "lease", "barrier", "gate"]),
        (["status"], _, 1) => match given.last().and_then(|kind| kind.parse().ok()) {
            Some(kind) => Source::Names(kind),
            None => Source::Fixed(Vec::new()),
        },
        (["wait"], ..) => Source::Objects(vec![BARRIER, GATE, JOB]),
        (["why"], _, 0) => Source::Objects(ALL.to_vec()),
        (["revoke"], _, 0) => Source::Objects(vec![SEMAPHORE, LEASE]),
        (["events"], _, 0) => Source::Objects(PARENTS.to_vec()),
        (["completion"], _, 0) => fixed(&["bash", "zsh", "fish", "kubectl"]),
        (["run" | "convert"], ..) => Source::Files,
        _ => Source::Fixed(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(line: &str) -> Source {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        next(&CommandLine::command(), &words, Globals::default()).0
    }

    fn has(source: &Source, word: &str) -> bool {
        matches!(source, Source::Fixed(words) if words.iter().any(|(known, _)| known == word))
    }

    #[test]
    fn what_can_come_next_follows_from_what_was_typed() {
        for (line, expected) in [
            ("semaphore acquire ", Source::Names(SEMAPHORE)),
            ("sem release -n etl w", Source::Names(SEMAPHORE)),
            ("-n etl barrier wait ", Source::Names(BARRIER)),
            ("barrier wait --timeout 5m ", Source::Names(BARRIER)),
            ("gate delete a ", Source::Names(GATE)),
            ("gate open a ", Source::Fixed(Vec::new())),
            ("lease create ", Source::Fixed(Vec::new())),
            ("wait bar", Source::Objects(vec![BARRIER, GATE, JOB])),
            ("status semaphore ", Source::Names(SEMAPHORE)),
            ("semaphore list -n ", Source::Namespaces),
            ("--context ", Source::Contexts),
            ("--kubeconfig ", Source::Files),
            ("run ", Source::Files),
            ("convert old.yaml ", Source::Files),
        ] {
            assert_eq!(source(line), expected, "{line}");
        }
        for (line, word) in [
            ("", "semaphore"),
            ("sem", "semaphore"),
            ("semaphore ", "resize"),
            ("semaphore acquire x --", "--timeout"),
            ("semaphore acquire x --", "--namespace"),
            ("semaphore create x --queueing ", "BestEffortFIFO"),
            ("semaphore list -o ", "json"),
            ("completion ", "kubectl"),
            ("status ", "all"),
        ] {
            assert!(has(&source(line), word), "{line}: {:?}", source(line));
        }
        assert!(!has(&source(""), "__complete"), "what is hidden is not offered");
    }

    #[test]
    fn the_cluster_that_was_chosen_is_the_one_that_is_asked() {
        let words = ["-n", "etl", "semaphore", "--context=c", "acquire", "--as", "ann", ""].map(str::to_owned);
        let environment = || Globals {
            namespace: Some("from-env".to_owned()),
            kubeconfig: Some("env.yaml".into()),
            as_group: vec!["a".to_owned()],
            ..Globals::default()
        };
        let (_, globals) = next(&CommandLine::command(), &words, environment());
        assert_eq!(globals.kubeconfig.as_deref(), Some("env.yaml".as_ref()));
        assert_eq!(globals.as_group, ["a"]);
        assert_eq!(globals.namespace.as_deref(), Some("etl"));
        assert_eq!(globals.context.as_deref(), Some("c"));
        assert_eq!(globals.as_user.as_deref(), Some("ann"));
        let words = ["--as-group", "b,c", "gate", "wait", ""].map(str::to_owned);
        let (_, globals) = next(&CommandLine::command(), &words, environment());
        assert_eq!((globals.namespace.as_deref(), globals.as_group), (Some("from-env"), vec!["b".into(), "c".into()]));
    }
}
