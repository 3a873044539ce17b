//! `koncli top`: a live view.

use crate::{
    context::Context,
    error::{DONE, Outcome},
};

/// What to look at.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// Shows the view until it is left.
pub(crate) async fn run(_args: &Args, context: &Context) -> Outcome {
    context.cluster().await?;
    Ok(DONE)
}
