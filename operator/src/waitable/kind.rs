//! What is special about one kind.

use std::{fmt::Debug, future::Future, sync::Arc};

use konductor_api::{
    Rendezvous,
    arbiter::Now,
    rendezvous::{Plan, Write},
};
use konductor_cluster::{
    Endpoint, RequestError,
    object::{Described, Lenient, Metadata, Object},
};
use kube::{
    Client,
    core::object::{HasSpec, HasStatus},
};
use serde::de::DeserializeOwned;

use crate::{engine::Sizes, key::Key, metrics::parents::Figures};

/// Part of a resource.
pub(crate) trait Part: DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static {}

impl<P: DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static> Part for P {}

/// The status of a kind's parents.
pub(crate) type StatusOf<K> = <<K as Kind>::Parent as HasStatus>::Status;

/// What is read of a parent of this kind.
pub(crate) type ObjectOf<K> = Object<
    <K as Kind>::Parent,
    <<K as Kind>::Parent as HasSpec>::Spec,
    Option<<<K as Kind>::Parent as HasStatus>::Status>,
>;

/// Where the parents of this kind are.
pub(crate) type EndpointOf<K> = Endpoint<
    <K as Kind>::Parent,
    <<K as Kind>::Parent as HasSpec>::Spec,
    Option<<<K as Kind>::Parent as HasStatus>::Status>,
>;

/// A parent as it is kept.
pub(crate) fn kept<K: Kind>(mut parent: Lenient<ObjectOf<K>>) -> Box<Lenient<ObjectOf<K>>> {
    K::slim(parent.metadata_mut());
    Box::new(parent)
}

/// Barriers or gates. Everything but [`Errand::perform`] is pure.
pub(crate) trait Kind: Sized + Send + 'static {
    /// The resource.
    type Parent: Rendezvous<Status: Part> + HasSpec<Spec: Part> + Send + 'static;

    /// What is seen of other objects.
    type Seen: Debug + Send + 'static;

    /// What takes more than one request, or is for no status.
    type Errand: Errand<Self>;

    /// What became of a chore.
    type Report: Send + 'static;

    /// What there is to show of a parent.
    fn figures(parent: &ObjectOf<Self>) -> Figures;

    /// Leaves out of a parent's metadata what nobody asks for and can be much.
    fn slim(metadata: &mut Metadata);

    /// A parent is there, new or changed, or is gone.
    fn parent(&mut self, key: &Key, parent: Option<&ObjectOf<Self>>, now: Now);

    /// All parents that there are have been seen.
    fn parents_listed(&mut self);

    /// How much it keeps of what: all that grows.
    fn sizes(&self) -> Sizes;

    /// This process leads from now on, or does not any more.
    fn lead(&mut self, leading: bool, now: Now);

    /// It is answered again, after it was not for a while: no wait that has run out meanwhile is over at once.
    fn answered_again(&mut self, now: Now);

    /// Takes in what was seen. What decisions it may change is worked out by [`Kind::prepare`].
    fn observe(&mut self, seen: Self::Seen, now: Now);

    /// Does a bounded part of what was put off, and adds to `changed` the parents for which something has: they are
    /// decided on, and what was premature for them is looked at again soon. Returns whether more is left.
    fn prepare(&mut self, now: Now, changed: &mut Vec<Key>) -> bool;

    /// What to do; `None` while too little is known to say.
    fn decide(&self, key: &Key, parent: &ObjectOf<Self>, now: Now) -> Option<Plan<StatusOf<Self>>>;

    /// The errand by which this write is carried out; `None` if it is just written.
    fn errand(&self, key: &Key, parent: &Arc<ObjectOf<Self>>, write: &Write<StatusOf<Self>>) -> Option<Self::Errand>;

    /// A chore: an errand that is for no status, that nobody runs yet, with the parent that it is about. Only the
    /// leader runs any.
    fn chore(&mut self, now: Now) -> Option<(Key, Self::Errand)>;

    /// Takes in what became of a chore.
    fn report(&mut self, report: Self::Report, now: Now);
}

/// What takes more than one request: a pure state machine, of which each step is one request or a few at once.
pub(crate) trait Errand<K: Kind>: Debug + Send + Sized + 'static {
    /// A step.
    type Request: Send + 'static;

    /// What became of it.
    type Answer: Send + 'static;

    /// The next step.
    fn request(&self) -> Self::Request;

    /// Whether nobody has answered, as far as is known.
    fn is_unanswered(answer: &Self::Answer) -> bool;

    /// Takes in what became of it; what was seen since it was begun is in `kind`.
    fn answered(self, answer: Self::Answer, kind: &K, now: Now) -> Next<K, Self>;

    /// Takes a step, once.
    fn perform(client: Client, request: Self::Request) -> impl Future<Output = Self::Answer> + Send + 'static;
}

/// How an errand goes on.
pub(crate) enum Next<K: Kind, E> {
    /// The next step.
    Step(E),
    /// It has ended.
    End(Verdict<K>),
    /// It was a chore, and has ended.
    Done(Chore<K>),
}

/// A chore that has ended.
pub(crate) struct Chore<K: Kind> {
    /// What was to change, in a word.
    pub(crate) change: &'static str,
    /// The name of the object that was to be written.
    pub(crate) object: String,
    /// What became of that.
    pub(crate) result: Result<(), RequestError>,
    /// For the kind.
    pub(crate) report: K::Report,
}

/// How an errand has ended.
pub(crate) enum Verdict<K: Kind> {
    /// The status is written: the parent as it is now.
    Written(Box<Lenient<ObjectOf<K>>>),
    /// Nothing is to be written yet, for this reason if people have to do something about it. Decided on again later,
    /// after longer and longer pauses as long as nothing changes.
    Premature(Option<String>),
    /// The parent is not the version that the write was for.
    Overtaken,
    /// A request has failed: decided on again later.
    Failed(RequestError),
}
