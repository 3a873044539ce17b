//! What is special about one kind.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use konductor_api::{
    Rendezvous,
    arbiter::Now,
    rendezvous::{Plan, Write},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::object::HasStatus,
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::{Agenda, Sight};
use crate::arbiter::{Common, Key};
use konductor_cluster::{Lenient, Object};

/// How long one request may take; the API server itself gives up after a minute, when nobody needs the answer any more.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The status of a kind's parents.
pub(crate) type StatusOf<K> = <<K as Kind>::Parent as HasStatus>::Status;

/// Barriers or gates.
pub(crate) trait Kind: Sized + Send + 'static {
    /// The resource.
    type Parent: Rendezvous<Status: Clone + Debug + PartialEq + Send + Sync> + Object;

    /// What is seen of other objects.
    type Sight: Debug + Send + 'static;

    /// Something to do for the leader that changes no status of a parent.
    type Chore: Send + 'static;

    /// What became of it.
    type Done: Send + 'static;

    /// Begins to watch what decisions need beside the parents.
    fn start(common: &Common, inbox: mpsc::Sender<Sight<Self>>) -> Self;

    /// This process leads, or does not any more.
    fn lead(&mut self, _leading: bool) {}

    /// A parent is there, new or changed, or is gone.
    fn parent(&mut self, key: &Key, parent: Option<&Self::Parent>, now: Now, agenda: &mut Agenda);

    /// All parents that there are have been seen.
    fn parents_listed(&mut self, _agenda: &mut Agenda) {}

    /// Takes in what was seen, and asks for the decisions that it may change.
    fn take(&mut self, sight: Self::Sight, now: Now, agenda: &mut Agenda);

    /// Comes before decisions: does a piece of what was put off. Returns whether there is more of it.
    fn prepare(&mut self, now: Now, agenda: &mut Agenda) -> bool;

    /// What to do; `None` while too little is known to say.
    fn decide(&self, key: &Key, parent: &Self::Parent, now: Now) -> Option<Plan<StatusOf<Self>>>;

    /// Carries out a write on this version of the parent. Returns what is there then; `None` if it turned out that nothing is to
    /// be written yet.
    fn write(
        &self,
        client: Client,
        key: &Key,
        parent: Arc<Self::Parent>,
        write: Write<StatusOf<Self>>,
    ) -> impl Future<Output = Result<Option<Lenient<Self::Parent>>, Failure>> + Send + 'static;

    /// A chore that nobody does yet.
    fn next_chore(&mut self, now: Now) -> Option<Self::Chore>;

    /// Does a chore: one attempt.
    fn work(client: Client, chore: Self::Chore) -> impl Future<Output = Self::Done> + Send + 'static;

    /// Takes what became of it.
    fn done(&mut self, done: Self::Done, now: Now);
}

/// Why a write was not done, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API server said so.
    #[error("{}", konductor_cluster::explain(.0))]
    Api(#[from] kube::Error),
    /// It said nothing.
    #[error("the API server did not answer in time")]
    Unanswered,
}

impl Failure {
    /// In a word, for the metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Api(kube::Error::Api(status)) => match status.code {
                404 => "gone",
                409 => "conflict",
                // Too many requests (429) is said before anything is done; a timeout (408) is not.
                400..500 if status.code != 408 => "refused",
                _ => "unanswered",
            },
            _ => "unanswered",
        }
    }
}

/// An answer, unless it takes too long.
pub(crate) async fn answer<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    Ok(timeout(REQUEST_TIMEOUT, request).await.map_err(|_| Failure::Unanswered)??)
}

/// Writes a status on exactly this version of the parent, or not at all.
pub(crate) async fn patch<P: Rendezvous + Object>(
    client: Client,
    parent: &P,
    status: &P::Status,
) -> Result<Option<Lenient<P>>, Failure> {
    let ObjectMeta { namespace, name, uid, resource_version, .. } = parent.meta();
    let api: Api<Lenient<P>> = Api::namespaced(client, namespace.as_deref().unwrap_or_default());
    let version = json!({ "uid": uid, "resourceVersion": resource_version });
    let patch = Patch::Merge(json!({ "metadata": version, "status": status }));
    let params = PatchParams::default();
    answer(api.patch_status(name.as_deref().unwrap_or_default(), &params, &patch)).await.map(Some)
}
