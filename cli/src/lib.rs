//! `koncli`: see, wait for, acquire and explain Konductor's semaphores, leases, barriers and gates.
//!
//! - `args`, `globals`: the command line; `kind`: the names of kinds;
//! - `cluster`: which cluster, and requests to it, in the API's own JSON; `error`: what went wrong, for people;
//! - `commands`: one module a command; `output`, `screen`: what is printed;
//! - `why`: from an object to all that bears on it; `top`: a live view.

mod args;
mod cluster;
mod context;
mod error;
mod globals;
mod kind;
mod output;
mod screen;
mod top;
mod why;

use std::process::ExitCode;

use clap::Parser as _;
use konductor::Exit;

use self::{
    args::{Command, CommandLine},
    context::Context,
    error::{Error, Outcome},
    screen::Screen,
};

/// The whole of `koncli`.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Code(0) };
            // Who closes the output has seen enough.
            let _ = error.print();
            return ExitCode::from(exit.code());
        }
    };
    let screen = Screen::new(&line.globals);
    let context = Context { globals: line.globals, screen };
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&line.command, &context)),
        Err(error) => Err(Error::internal(format!("the system refuses what is needed to wait: {error}"))),
    };
    let exit = outcome.unwrap_or_else(|error| {
        context.screen.error(&error);
        error.exit
    });
    ExitCode::from(exit.code())
}

async fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Why(args) => why::run(args, context).await,
        Command::Top(args) => top::run(args, context).await,
    }
}
