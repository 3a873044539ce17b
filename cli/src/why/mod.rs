//! `koncli why`: from an object to all that bears on it.

use crate::{
    args::OutputArgs,
    cluster::Cluster,
    context::Context,
    error::{DONE, Outcome},
    kind::ObjectName,
};

/// What to explain.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A semaphore, lease, barrier, gate, permit, lease request, pod or job.
    #[arg(value_name = "KIND/NAME")]
    pub(crate) subject: ObjectName,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Explains one object.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    let cluster = context.cluster().await?;
    for line in in_short(&cluster, &args.subject).await {
        context.screen.line(&line);
    }
    Ok(DONE)
}

/// The same in a few lines, for who has waited in vain. Never fails: what cannot be read is a line.
pub(crate) async fn in_short(_cluster: &Cluster, _subject: &ObjectName) -> Vec<String> {
    Vec::new()
}
