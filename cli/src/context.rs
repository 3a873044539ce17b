//! What every command is given: what was said for all of them, and where its words go.

use std::time::Duration;

use konductor::Boottime;
use konductor_cluster::Login;

use crate::{cluster::Cluster, error::Error, globals::Globals, patience::TRY_ONCE, screen::Screen, trouble::Role};

/// The surroundings of a command.
pub(crate) struct Context {
    /// What was said for all commands.
    pub(crate) globals: Globals,
    /// Where words go.
    pub(crate) screen: Screen,
    /// What the command needs in a cluster.
    pub(crate) role: Role,
}

impl Context {
    /// A connection to the cluster that was chosen. What is asked of a folder was seen to before, or refused.
    pub(crate) async fn cluster(&self) -> Result<Cluster, Error> {
        self.cluster_within(None).await.map(|(cluster, _)| cluster)
    }

    /// The same, for a command that waits this long: a login takes its time from that. Returns what is left of it.
    pub(crate) async fn cluster_within(&self, timeout: Option<Duration>) -> Result<(Cluster, Option<Duration>), Error> {
        let begun = Boottime::now();
        let mut login = Login { asks_again: true, ..Login::default() };
        if let Some(timeout) = timeout {
            login.limit = login.limit.min(if timeout.is_zero() { TRY_ONCE } else { timeout });
        }
        let cluster = Cluster::connect(&self.globals, login, self.role).await?;
        Ok((cluster, left(timeout, Boottime::now().since(begun))))
    }
}

/// What is left of a timeout. Trying once stays that, and all else never becomes it.
fn left(timeout: Option<Duration>, taken: Duration) -> Option<Duration> {
    timeout.map(|timeout| if timeout.is_zero() { timeout } else { timeout.saturating_sub(taken).max(SHORTEST) })
}

/// The shortest time to wait.
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_takes_its_time_from_the_waiting() {
        let seconds = Duration::from_secs;
        for (timeout, taken, expected) in [
            (None, 5, None),
            (Some(seconds(60)), 0, Some(seconds(60))),
            (Some(seconds(60)), 45, Some(seconds(15))),
            (Some(seconds(60)), 60, Some(SHORTEST)),
            (Some(seconds(60)), 61, Some(SHORTEST)),
            (Some(Duration::ZERO), 5, Some(Duration::ZERO)),
        ] {
            assert_eq!(left(timeout, seconds(taken)), expected, "{timeout:?} {taken}");
        }
    }
}
