//! What an engine decides about is a plugin's: locks, or what is waited for.

use std::{fmt::Debug, future::Future};

use konductor_api::arbiter::Now;
use kube::Client;

use super::{Lane, Lanes, Sizes, WorkQueue};
use crate::key::Key;

/// What a plugin is given in each call: the time, and where it puts what is to be done.
#[derive(Debug)]
pub struct Turn<'a, J> {
    /// The time.
    pub now: Now,
    /// Whether this process leads.
    pub leading: bool,
    /// Which parents to decide on, and when.
    pub work_queue: &'a mut WorkQueue,
    /// What is to be sent.
    pub lanes: &'a mut Lanes<J>,
}

/// Decides for all parents of one kind. Everything but [`perform`](Plugin::perform) is pure: no I/O, no clock, no
/// chance. No call may cost more than what it is about: one object, one answer, one parent.
pub trait Plugin: Sized {
    /// What a watch shows.
    type Seen: Debug + Send + 'static;

    /// Something to be sent when there is a place for it.
    type Job: Debug;

    /// One request to the API server.
    type Request: Send + 'static;

    /// The answer to it, or that there was none.
    type Answer: Send + 'static;

    /// The name of the kind in small letters, for metrics and logs.
    fn name(&self) -> &'static str;

    /// How much it keeps of what: all that grows. Not cheap: it may look at each parent.
    fn sizes(&self) -> Sizes;

    /// This process leads from now on, or does not any more, as `turn` says. Jobs that were not sent are the plugin's
    /// to keep or to drop.
    fn lead(&mut self, turn: &mut Turn<'_, Self::Job>);

    /// Takes in what was seen, and marks the parents that it bears on.
    fn observe(&mut self, seen: Self::Seen, turn: &mut Turn<'_, Self::Job>);

    /// Does a bounded part of what is common to several decisions. Returns whether more is left. Decisions go on
    /// meanwhile: what is not known yet is not decided on.
    fn prepare(&mut self, _turn: &mut Turn<'_, Self::Job>) -> bool {
        false
    }

    /// Decides on one parent, if it exists: queues jobs, and sets the time of the next look.
    fn decide(&mut self, key: &Key, turn: &mut Turn<'_, Self::Job>);

    /// The request for a job that has got a place, as of now; `None` if it has become needless, which ends the job.
    fn dispatch(&mut self, key: &Key, job: Self::Job, turn: &mut Turn<'_, Self::Job>) -> Option<Self::Request>;

    /// Takes in the answer to a request of this parent. Its place is free.
    fn answered(&mut self, lane: Lane, key: &Key, answer: Self::Answer, turn: &mut Turn<'_, Self::Job>);

    /// Sends a request, once.
    fn perform(client: Client, request: Self::Request) -> impl Future<Output = Self::Answer> + Send + 'static;
}
