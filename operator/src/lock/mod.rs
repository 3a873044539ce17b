//! Locks: carries out what [`konductor_api::arbiter`] decides, for all locks of one kind and the claims on them.
//!
//! Everything that is known of a lock is in its [`View`](konductor_api::arbiter::View); the `index` finds it, and what
//! a status needs besides. Both the leader and its standby observe, but only the leader decides. All safety is in the
//! views; here is only what they ask for: every write is reported back, whatever became of it.
//!
//! - `kind`: what is read of a lock and of a claim; `index`: what is known; `observe`: what watches and answers say;
//! - `intake`: what is left out, as its namespace has too much of it, and taken in later;
//! - `news`: what the people of a claim are told;
//! - `plugin`: the engine's [`Plugin`](crate::engine::Plugin); `request`: the requests, each a single attempt.

#[cfg(test)]
mod another_kind;
mod former;
mod index;
mod intake;
mod kind;
mod news;
mod observe;
mod plugin;
mod request;
#[cfg(test)]
mod tests;

use konductor_cluster::{follow::Event, moments, process};
use tokio::sync::mpsc;

pub use self::kind::Kind;
pub(crate) use self::observe::Seen;
use self::{
    kind::{read_claim, read_parent},
    plugin::Locks,
};
use crate::{
    engine::{Common, Engine, Inbox},
    pods::{self, Ended},
    watching::follow,
};

/// Objects in one page of a list.
const PAGE: u32 = 500;

/// An engine for the locks of one kind, whose objects are followed from now on, and its inbox.
pub(crate) fn start<K: Kind>(common: &Common) -> (Engine<Locks<K>>, Inbox<Seen>) {
    let inbox = Inbox::default();
    let parent = |object| Box::new(read_parent::<K>(object));
    follow(common, None, PAGE, inbox.sender.clone(), parent, Seen::Parent);
    let claim = |object| Box::new(read_claim::<K>(object));
    let seen = |event| {
        moments::note("claim seen");
        Seen::Claim(event)
    };
    follow(common, None, PAGE, inbox.sender.clone(), claim, seen);
    (Engine::new(Locks::new(&common.metrics, &common.recorder, common.kept)), inbox)
}

/// Brings what is seen of the pods that have ended to these inboxes. They share what is kept of a pod. One that is
/// behind keeps the others waiting for the next proof of death, but for nothing else.
pub(crate) fn follow_pods(common: &Common, inboxes: &[mpsc::Sender<Seen>]) {
    for (number, fields) in pods::TERMINAL.into_iter().enumerate() {
        let (events, mut seen) = mpsc::channel(1);
        follow(common, Some(fields), pods::PAGE, events, Ended::from, |event| event);
        let inboxes = inboxes.to_vec();
        process::spawn(async move {
            while let Some(event) = seen.recv().await {
                for inbox in &inboxes {
                    if inbox.send(Seen::Pod(number, Event::clone(&event))).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}
