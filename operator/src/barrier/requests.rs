//! Carries out what barriers ask for.

use futures::{StreamExt, stream};
use konductor_api::{Arrival, Barrier};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tracing::debug;

use super::{
    PAGE,
    arrivals::{Adoption, Arrived},
    round::{Answer, Listed, Step, Target},
};
use crate::rendezvous::{Failure, answer};
use konductor_cluster::Lenient;

/// Carries out one step of a barrier's round. A failure is returned beside its answer, to be told to people.
pub(super) async fn carry_out(client: &Client, barrier: &Barrier, step: Step) -> (Answer, Option<Failure>) {
    let result = match step {
        Step::Page { continue_token } => page(client, barrier, continue_token).await,
        Step::Look => look(client, barrier).await,
        Step::Delete(targets) => delete(client, barrier, targets).await,
        Step::Rest(_) | Step::Over => Ok(Answer::Failed),
    };
    result.map_or_else(|failure| (Answer::Failed, Some(failure)), |answer| (answer, None))
}

fn arrivals(client: &Client, barrier: &Barrier) -> Api<Lenient<Arrival>> {
    Api::namespaced(client.clone(), barrier.metadata.namespace.as_deref().unwrap_or_default())
}

async fn page(client: &Client, barrier: &Barrier, continue_token: Option<String>) -> Result<Answer, Failure> {
    let selector = format!("spec.barrier={}", barrier.metadata.name.as_deref().unwrap_or_default());
    // No version: the API server answers with what was current when it was asked.
    let params = ListParams { continue_token, ..ListParams::default().fields(&selector).limit(PAGE) };
    let page = answer(arrivals(client, barrier).list(&params)).await?;
    let listed = page.items.into_iter().map(|arrival| {
        let metadata = arrival.metadata();
        let target =
            Target { name: metadata.name.clone().unwrap_or_default(), uid: metadata.uid.clone().unwrap_or_default() };
        let finalizers = || metadata.finalizers.clone().unwrap_or_default();
        Listed {
            target,
            deleted: metadata.deletion_timestamp.as_ref().map(|_| finalizers()),
            arrived: Arrived::of(arrival),
        }
    });
    let continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
    Ok(Answer::Page { listed: listed.collect(), continue_token })
}

async fn look(client: &Client, barrier: &Barrier) -> Result<Answer, Failure> {
    let barriers: Api<Lenient<Barrier>> =
        Api::namespaced(client.clone(), barrier.metadata.namespace.as_deref().unwrap_or_default());
    let found = answer(barriers.get_opt(barrier.metadata.name.as_deref().unwrap_or_default())).await?;
    let identity = |found: Lenient<Barrier>| {
        let metadata = found.metadata();
        Some((metadata.uid.clone()?, metadata.resource_version.clone()?))
    };
    Ok(Answer::Barrier(found.and_then(identity)))
}

/// Deletes exactly these arrivals. That somebody else did is as good.
async fn delete(client: &Client, barrier: &Barrier, targets: Vec<Target>) -> Result<Answer, Failure> {
    let api = arrivals(client, barrier);
    let (api, count) = (&api, targets.len());
    let deletions = stream::iter(targets).map(|Target { name, uid }| async move {
        let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match answer(api.delete(&name, &params)).await {
            Err(Failure::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
            result => result.map(|_| ()),
        }
    });
    let mut done = deletions.buffer_unordered(count);
    while let Some(result) = done.next().await {
        result?;
    }
    Ok(Answer::Deleted)
}

/// Writes the owner into the arrival that was seen, if it is still there: one attempt. Returns whether it needs no other one.
pub(super) async fn adopt(client: Client, adoption: Adoption) -> bool {
    let Adoption { barrier, barrier_uid, name, uid, version } = adoption;
    let api: Api<Lenient<Arrival>> = Api::namespaced(client, &barrier.namespace);
    let owner = json!({
        "apiVersion": Barrier::api_version(&()), "kind": Barrier::kind(&()), "name": barrier.name, "uid": barrier_uid,
    });
    let metadata = json!({ "uid": *uid, "resourceVersion": version.to_string(), "ownerReferences": [owner] });
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let Err(failure) = answer(api.patch(&name, &PatchParams::default(), &patch)).await else { return true };
    debug!(namespace = barrier.namespace, name, "arrival not adopted: {failure}");
    matches!(&failure, Failure::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
}
