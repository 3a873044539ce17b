//! The entrypoint of a Job's container: acquires, runs and supervises the command, releases.
//!
//! - `cli`, `environment`, `config`: what was asked for, valid or refused;
//! - `supervisor`: the core, which decides from events alone what to do next;
//! - `driver`: the loop that carries it out: processes, signals, timers, and the thread that talks to the API server;
//! - `identity`: which pod and container this is; `log`: what people see; `exit`: what the parent process sees.

mod cli;
mod config;
mod driver;
mod environment;
mod exit;
mod identity;
mod log;
mod supervisor;

use std::process::ExitCode;

use clap::{Parser as _, error::ErrorKind};

use self::{cli::Args, config::Config, driver::signals::Found, environment::Environment, exit::Exit};

/// The whole program.
pub fn main() -> ExitCode {
    // Before anything else: from here on a signal waits until the loop reads it.
    let exit = match Found::block_all() {
        Ok(found) => run(&found),
        Err(error) => fail(Exit::Internal, &format!("cannot block signals: {error}")),
    };
    ExitCode::from(exit.code())
}

fn run(found: &Found) -> Exit {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let config = match Environment::new(std::env::vars_os()).map_err(Into::into).and_then(|env| Config::new(args, env))
    {
        Ok(config) => config,
        Err(error) => return fail(Exit::Usage, &error.to_string()),
    };
    log::init(config.log);
    driver::supervise(config, found)
}

/// Help and version go to stdout, and what is wrong to stderr.
fn usage(error: &clap::Error) -> Exit {
    match (error.kind(), error.print()) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, Ok(())) => Exit::Code(0),
        _ => Exit::Usage,
    }
}

/// A failure before the log is set up.
fn fail(exit: Exit, message: &str) -> Exit {
    log::init(config::Log::default());
    driver::report(message);
    exit
}
