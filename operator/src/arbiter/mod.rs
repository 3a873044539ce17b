//! Carries out what [`konductor_api::arbiter`] decides, for all parents of all kinds.
//!
//! For each kind, one task ([`engine`]) owns everything that is known (`book`): a
//! [`View`](konductor_api::arbiter::View) per parent. It
//! takes in what the watches and the answers to requests say, as much as there is, and then decides once for each parent
//! that something was heard of. So a flood costs one decision, not one each; and nothing is locked, because nothing is
//! shared. Requests run beside it (`requests`), bounded and in the order of their urgency (`outbox`): a slow write
//! delays only what depends on it.
//!
//! Both the leader and its standby do all of this, but only the leader decides. All safety is in the views; here is only
//! what they ask for: every write is reported back, whatever became of it, and absence from a list is never taken for
//! proof that an object is gone.

mod book;
pub mod engine;
mod intake;
mod kind;
mod outbox;
mod requests;

use std::sync::Arc;

use konductor_api::{Lease, Semaphore};
use kube::{Api, Client};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::engine::{Engine, Sight};
use crate::pods::{Ended, TERMINAL, TerminalPod};
use konductor_cluster::watch::Source;

pub use engine::Common;
pub use kind::Kind;

/// Pods in one page of a list: their text is ten times as long as that of claims.
const POD_PAGE: u32 = 50;

/// Starts an engine for each kind. They end when the sender of `stop` is dropped; before that only by a panic.
pub fn start(common: &Common, stop: &watch::Receiver<()>) -> JoinSet<()> {
    let leases = Engine::<Lease>::start(common.clone());
    let semaphores = Engine::<Semaphore>::start(common.clone());
    follow_pods(&common.client, &[leases.inbox(), semaphores.inbox()]);
    let mut engines = JoinSet::new();
    engines.spawn(leases.run(stop.clone()));
    engines.spawn(semaphores.run(stop.clone()));
    engines
}

/// Watches the terminal pods once, for all engines. They share what is kept of a pod. One that is behind keeps the others
/// waiting for the next proof of death, but for nothing else.
fn follow_pods(client: &Client, inboxes: &[mpsc::Sender<Sight>]) {
    for (number, fields) in TERMINAL.into_iter().enumerate() {
        let pods: Source<TerminalPod> = Source { api: Api::all(client.clone()), fields: Some(fields), page: POD_PAGE };
        let (sights, mut seen) = mpsc::channel(1);
        tokio::spawn(pods.follow(sights, |seen| Some(seen.map(Ended::from))));
        let inboxes = inboxes.to_vec();
        tokio::spawn(async move {
            while let Some(seen) = seen.recv().await {
                for inbox in &inboxes {
                    if inbox.send(Sight::Pod(number, seen.clone())).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// A parent's name, whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A shared [`ParentKey`].
pub(crate) type Key = Arc<ParentKey>;
