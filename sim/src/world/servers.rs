//! The API servers of the world: one etcd, and in front of it several servers, each with a cache that lags behind it.
//!
//! Writes and consistent reads go through to etcd. Watches, and reads that allow it, are answered from the cache of the
//! server that is asked; so who goes from one to another may be told less than it was told before.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// One API server.
#[derive(Debug, Default)]
pub(super) struct ApiServer {
    /// What it will know, and when: versions in order.
    coming: VecDeque<(Instant, u64)>,
    /// The version that it knows.
    position: u64,
    /// How often it was started anew.
    pub(super) boots: u64,
    /// Until when it is away.
    away_until: Option<Instant>,
}

impl ApiServer {
    /// There is a new version in etcd, which it will know after this lag, and not before what came before.
    pub(super) fn hear(&mut self, version: u64, lag: Duration) {
        let due = Instant::now() + lag;
        let due = self.coming.back().map_or(due, |(last, _)| due.max(*last));
        self.coming.push_back((due, version));
    }

    /// The version that it knows now, and when it will know more.
    pub(super) fn position(&mut self) -> (u64, Option<Instant>) {
        let now = Instant::now();
        while let Some((_, version)) = self.coming.pop_front_if(|(due, _)| *due <= now) {
            self.position = version;
        }
        (self.position, self.coming.front().map(|(due, _)| *due))
    }

    /// It ends, with all its watches, and comes back after so long with what there is then.
    pub(super) fn replace(&mut self, away: Duration) {
        self.boots += 1;
        self.away_until = Some(Instant::now() + away);
        let latest = self.coming.drain(..).next_back();
        self.position = latest.map_or(self.position, |(_, version)| version);
    }

    /// The same, when etcd has gone back to this version.
    pub(super) fn restore(&mut self, version: u64) {
        self.replace(Duration::ZERO);
        self.position = version;
    }

    /// Whether it answers.
    pub(super) fn is_there(&self) -> bool {
        self.away_until.is_none_or(|until| until <= Instant::now())
    }
}
