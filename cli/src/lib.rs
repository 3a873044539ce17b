//! `koncli`: see, wait for, acquire and explain Konductor's semaphores, leases, barriers and gates.
//!
//! - `args`, `globals`, `help`: the command line; `kind`: the names of kinds; `holder`: who asks;
//! - `kubeconfig`: which cluster, and as whom; `cluster`: requests to it, in the API's own JSON; `error`, `trouble`: what
//!   went wrong, for people;
//! - `commands`: one module a command; `patience`, `waiting`: how long, and what is said meanwhile;
//! - `signals`: what ends it from outside, and how that is told;
//! - `output`, `screen`: what is printed; `status`: the flat summaries;
//! - `why`: from an object to all that bears on it; `top`: a live view; `local`: what a folder has in a cluster's place;
//! - `convert`: manifests of the first konductor, written anew.

mod args;
mod cluster;
mod commands;
mod context;
mod convert;
mod error;
mod globals;
mod help;
mod holder;
mod kind;
mod kubeconfig;
mod local;
mod output;
mod patience;
#[cfg(test)]
mod reference;
mod screen;
mod signals;
mod status;
mod top;
mod trouble;
mod waiting;
mod why;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _};
use konductor::Exit;

use self::{
    args::{Command, CommandLine},
    context::Context,
    error::{DONE, Error, Outcome},
    screen::Screen,
};

/// The whole of `koncli`.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let (line, raw) = match read(&words) {
        Ok(read) => read,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Code(0) };
            // Who closes the output has seen enough.
            let _ = error.print();
            return ExitCode::from(exit.code());
        }
    };
    let screen = Screen::new(&line.globals);
    if let Command::Run(_) = line.command {
        return commands::run::become_it(&line.globals, raw).unwrap_or_else(|error| {
            screen.error(&error);
            ExitCode::from(error.exit.code())
        });
    }
    log(&line.globals);
    let context = Context { globals: line.globals, screen, role: line.command.role() };
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(&line.command, raw, &context));
            // What still runs, like a login program that takes too long for a completion, is not waited for.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Error::internal(format!("the system refuses what is needed to wait: {error}"))),
    };
    let exit = outcome.unwrap_or_else(|error| {
        context.screen.error(&error);
        error.exit
    });
    let exit = match context.screen.unwritten() {
        Some(error) => {
            context.screen.error(&error);
            if exit == DONE { error.exit } else { exit }
        }
        None => exit,
    };
    if let Exit::Signal(signal) = exit {
        signals::die_by(signal);
    }
    ExitCode::from(exit.code())
}

/// The command line, and the words after it that are not for its parser.
fn read(words: &[OsString]) -> Result<(CommandLine, Vec<OsString>), clap::Error> {
    let mut parser = CommandLine::command();
    if is_plugin(words) {
        // Usage lines say what was typed.
        parser = parser.name("kubectl konductor").bin_name("kubectl konductor");
    }
    let (own, raw) = split(&parser, words);
    let matches = parser.try_get_matches_from_mut(own)?;
    Ok((CommandLine::from_arg_matches(&matches)?, raw))
}

/// Whether kubectl runs this as its plugin.
fn is_plugin(words: &[OsString]) -> bool {
    let name = words.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("kubectl-"))
}

/// What comes after `run` or `__complete` is read by others, flags too.
fn split(parser: &clap::Command, words: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        at += 1;
        if word == "run" || word == "__complete" {
            let raw = &words[at..];
            let raw =
                if word == "__complete" && raw.first().is_some_and(|word| word == "--") { &raw[1..] } else { raw };
            return (words[..at].to_vec(), raw.to_vec());
        }
        if !word.starts_with('-') {
            break;
        }
        let is = |arg: &&clap::Arg| {
            let short = arg.get_short().map(|short| format!("-{short}"));
            let long = arg.get_long().map(|long| format!("--{long}"));
            short.as_deref() == Some(word) || long.as_deref() == Some(word)
        };
        if parser.get_arguments().find(is).is_some_and(|arg| arg.get_action().takes_values()) {
            at += 1;
        }
    }
    (words.to_vec(), Vec::new())
}

/// What the libraries say goes to stderr, if more is wanted.
fn log(globals: &globals::Globals) {
    let level = match (globals.log_level, globals.verbose) {
        (_, 1) => tracing::Level::DEBUG,
        (_, 2..) => tracing::Level::TRACE,
        // What they tell of waiting is said better by the progress line.
        (Some(level), _) => level,
        _ => tracing::Level::ERROR,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // That stderr is closed would be told on stderr, which ends the program.
    log.log_internal_errors(false).init();
}

async fn run(command: &Command, raw: Vec<OsString>, context: &Context) -> Outcome {
    if let Some(folder) = &context.globals.local
        && let Some(error) = local::refusal(command, folder)
    {
        return Err(error);
    }
    match command {
        Command::Semaphore(command) => commands::semaphore::run(command, context).await,
        Command::Lease(command) => commands::lease::run(command, context).await,
        Command::Barrier(command) => commands::barrier::run(command, context).await,
        Command::Gate(command) => commands::gate::run(command, context).await,
        Command::Wait(args) => commands::wait::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Why(args) => why::run(args, context).await,
        Command::Top(args) => top::run(args, context).await,
        Command::Events(args) => commands::events::run(args, context).await,
        Command::Revoke(args) => commands::revoke::run(args, context).await,
        // It has been seen to before there was a runtime.
        Command::Run(_) => Ok(Exit::Internal),
        Command::Operator(args) => commands::operator::run(args, context).await,
        Command::Convert(args) => commands::convert::run(args, context),
        Command::Completion(args) => Ok(commands::completion::run(args, context)),
        Command::Version(args) => commands::version::run(args, context),
        Command::Complete(_) => {
            let words: Vec<_> = raw.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            commands::completion::complete(&words, context).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_comes_after_run_is_for_konductor_run() {
        for (line, own, raw) in [
            ("koncli run --semaphore a -- ls -n", "koncli run", "--semaphore a -- ls -n"),
            ("koncli -n etl run -n other -- ls", "koncli -n etl run", "-n other -- ls"),
            ("koncli --local=. run -- ls", "koncli --local=. run", "-- ls"),
            ("koncli __complete -- semaphore -n", "koncli __complete", "semaphore -n"),
            ("koncli __complete semaphore -n", "koncli __complete", "semaphore -n"),
        ] {
            assert_eq!(split(&CommandLine::command(), &words(line)), (words(own), words(raw)), "{line}");
        }
        let other = "koncli -n run semaphore acquire run";
        assert_eq!(split(&CommandLine::command(), &words(other)), (words(other), Vec::new()), "a value, and a name");
    }

    #[test]
    fn a_plugin_of_kubectl_says_so() {
        let error = read(&words("/usr/bin/kubectl-konductor semaphore acquire")).expect_err("no name");
        assert!(error.to_string().contains("Usage: kubectl konductor semaphore acquire"), "{error}");
        let error = read(&words("koncli semaphore acquire")).expect_err("no name");
        assert!(error.to_string().contains("Usage: koncli semaphore acquire"), "{error}");
    }
}
