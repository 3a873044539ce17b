//! What every command is given: what was said for all of them, and where its words go.

use std::time::Duration;

use konductor_cluster::Login;

use crate::{cluster::Cluster, error::Error, globals::Globals, patience::TRY_ONCE, screen::Screen};

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
        self.cluster_within(None).await
    }

    /// The same, for a command that waits this long: so may a login, which takes no time from the waiting.
    pub(crate) async fn cluster_within(&self, timeout: Option<Duration>) -> Result<Cluster, Error> {
        let mut login = Login { asks_again: true, ..Login::default() };
        if let Some(timeout) = timeout {
            login.limit = login.limit.min(if timeout.is_zero() { TRY_ONCE } else { timeout });
        }
        Cluster::connect(&self.globals, login).await
    }
}
