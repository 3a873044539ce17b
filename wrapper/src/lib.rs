//! The entrypoint of a Job's container: acquires, runs and supervises the command, releases.
//!
//! - `settings`: everything that can be set; `cli`, `environment`, `values`, `signal`, `config`: what was asked for,
//!   valid or refused; `doubts`: what is valid and hardly meant; `copy`: the one thing to ask for that runs no command;
//! - `supervisor`: the core, which decides from events alone what to do next;
//! - `driver`: the loop that carries it out: processes, signals, timers, and the thread that talks to the API server;
//! - `log`: what people see; `trace`: the trace that its lines name.
//!
//! What the parent process sees (`konductor::exit`), and which pod and container this is (`konductor::identity`), it
//! has in common with other command lines.

mod cli;
mod config;
mod copy;
mod doubts;
mod driver;
mod environment;
mod log;
#[cfg(test)]
mod reference;
mod settings;
mod signal;
pub mod supervisor;
mod trace;
mod values;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    mem::ManuallyDrop,
    path::Path,
    process::ExitCode,
};

use konductor::{Choice, Exit, moments};

use self::{
    cli::{CommandLine, Reading},
    config::{Config, Log, Sources},
    driver::found::Found,
    environment::Environment,
};

pub use driver::entry::main;

/// The whole of `konductor-run` with this command line, of which the first word is the program's name, in the cluster
/// that was chosen. For a program that becomes `konductor-run`: it must have no other thread, and must not have changed
/// what happens to signals.
pub fn main_with(words: impl IntoIterator<Item = OsString>, choice: Choice) -> ExitCode {
    ExitCode::from(code_of(words, choice))
}

/// The same; the code to exit with, unless a signal has ended this process as it has ended the command.
fn code_of(words: impl IntoIterator<Item = OsString>, choice: Choice) -> u8 {
    // Before anything else: from here on a signal waits until the loop reads it.
    let exit = match Found::block_all() {
        Ok(found) => run(words, choice, &found),
        Err(error) => {
            log::init(Log::default(), None);
            fail(Exit::Internal, &format!("cannot block signals: {error}"))
        }
    };
    log::flush();
    if let Exit::Signal(signal) = exit {
        // Shells end a script or a loop when a signal has ended what it runs, and not for 128 and its number.
        driver::found::die_by(signal);
    }
    exit.code()
}

fn run(words: impl IntoIterator<Item = OsString>, choice: Choice, found: &Found) -> Exit {
    let environment = Environment::new(std::env::vars_os());
    let (line, wrong) = match CommandLine::read(words) {
        Reading::Line(line) => (line, None),
        Reading::Text(text) => return print(&text),
        Reading::Wrong { message, line } => (line, Some(message)),
    };
    let sources = Sources::new(&line, &environment);
    let log = sources.log();
    log::init(log.as_ref().copied().unwrap_or_default(), environment.trace());
    moments::note("begun");
    if let Some(message) = wrong {
        return fail(Exit::Usage, &message);
    }
    match log.and_then(|_| sources.copy_to()) {
        Ok(None) => {}
        Ok(Some(path)) => return copy(&path),
        Err(error) => return fail(Exit::Usage, &error.to_string()),
    }
    match Config::new(&line, environment) {
        Ok(config) => {
            // It is needed to the end, and who ends gives all back at once.
            let config = ManuallyDrop::new(Config { choice, ..config });
            for doubt in doubts::doubts(&line, &config) {
                tracing::warn!("{doubt}");
            }
            driver::supervise(&config, found)
        }
        Err(error) => fail(Exit::Usage, &error.to_string()),
    }
}

/// Help and version are what was asked for, so they go to stdout.
fn print(text: &str) -> Exit {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Exit::Code(0),
        Err(_) => Exit::Internal,
    }
}

fn copy(path: &Path) -> Exit {
    match copy::copy_to(path) {
        Ok(path) => {
            tracing::info!("copied this program to {}", path.display());
            Exit::Code(0)
        }
        Err(error) => fail(error.exit(), &error.to_string()),
    }
}

fn fail(exit: Exit, message: &str) -> Exit {
    driver::report(message);
    exit
}
