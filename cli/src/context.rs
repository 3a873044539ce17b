//! What every command is given: what was said for all of them, and where its words go.

use crate::{cluster::Cluster, error::Error, globals::Globals, screen::Screen};

/// The surroundings of a command.
pub(crate) struct Context {
    /// What was said for all commands.
    pub(crate) globals: Globals,
    /// Where words go.
    pub(crate) screen: Screen,
}

impl Context {
    /// A connection to the cluster that was chosen. What is asked of a folder was seen to before, or refused.
    pub(crate) async fn cluster(&self) -> Result<Cluster, Error> {
        Cluster::connect(&self.globals).await
    }
}
