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

use crate::{
    context::Context,
    error::{Error, Outcome},
};

/// What to look at.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// Shows the view until it is left.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(
            Error::usage("top needs a terminal that can be drawn on").advise("koncli status all prints the same once")
        );
    }
    let cluster = context.cluster().await?;
    let operator = context.globals.operator_namespace.clone();
    driver::run(&cluster, args.all_namespaces, operator, context.screen.color).await
}
