//! `koncli top`: a live view of what is held and who waits.
//!
//! - `state`: what is known and what keys do, from events to effects; `view`: what is on the screen. Both are
//!   functions: a test plays them without a terminal and without a cluster.
//! - `follow`: the kinds that are shown, each listed once and then watched; `terminal`: the screen, which is given back
//!   as it was after every kind of end; `driver`: what connects these, and makes no choices.

mod driver;
mod follow;
mod limits;
mod state;
#[cfg(test)]
mod svg;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal as _};

use konductor::Local;

use crate::{
    args::SelectionArgs,
    cluster::Cluster,
    context::Context,
    error::{Error, Outcome},
    local,
};

/// Where what is shown comes from.
#[derive(Clone)]
enum Source {
    /// A cluster.
    Cluster {
        /// Which one.
        cluster: Cluster,
        /// Which of its parents.
        selection: SelectionArgs,
        /// Where the operator is, when that was said.
        operator: Option<String>,
    },
    /// A folder of this machine.
    Folder(Local),
}

/// What to look at.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
}

/// Shows the view until it is left.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(
            Error::usage("top needs a terminal that can be drawn on").advise("koncli status all prints the same once")
        );
    }
    let source = match context.globals.folder() {
        Some(folder) => {
            local::check(&args.selection)?;
            // What cannot be looked at at all is said before the screen is taken.
            folder.snapshot().map_err(|error| local::unreadable(&error))?;
            Source::Folder(folder)
        }
        None => Source::Cluster {
            cluster: context.cluster().await?,
            selection: args.selection.clone(),
            operator: context.globals.operator_namespace.clone(),
        },
    };
    driver::run(&source, context.screen.color).await
}
