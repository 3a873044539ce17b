//! How the writes of a barrier are carried out.
//!
//! The caches of barriers and of arrivals are fed by two watches, which are not in step: an operator may know of a round, and
//! still of arrivals that were deleted before it began. So before a phase is written the arrivals are counted by a
//! consistent read. That read came after the version of the barrier on which the write is made, and everything of former
//! rounds was deleted before that version; so whatever was read belongs to this round.
//!
//! The next round begins in this order: read arrivals; read the barrier, and stop unless it is still at the version on which this
//! was decided; delete those arrivals, by UID; again, until there are none; write. What is deleted was there while
//! the round was still the old one, whatever other operators do meanwhile and however late this one is. An arrival that
//! the API server takes in while the last read or the write is on its way counts for the new round: nobody can tell
//! which was first.

use std::time::Duration;

use futures::{StreamExt, stream};
use konductor_api::{
    Arrival, Barrier, BarrierStatus,
    arbiter::Version,
    rendezvous::{Change, Write, barrier::decide},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tracing::debug;

use super::{Arrived, Crowd, PAGE};
use crate::{
    arbiter::Key,
    clock::wall,
    rendezvous::{Failure, answer, patch},
};
use konductor_cluster::{Lenient, backoff::Backoff};

/// Arrivals deleted at once, of one barrier.
const DELETIONS: usize = 16;

/// Attempts to adopt an arrival, spread over half a minute. After them it is left until the barrier or the arrival is seen anew:
/// it counts all the same.
const ADOPTIONS: u32 = 10;

/// The longest pause between attempts to adopt.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Writes on this version of the barrier.
pub(super) async fn write(
    client: Client,
    barrier: &Barrier,
    write: &Write<BarrierStatus>,
) -> Result<Option<Lenient<Barrier>>, Failure> {
    match write.change {
        Change::Accept | Change::Tell => patch(client, barrier, &write.status).await,
        Change::Decide => {
            let crowd = crowd(&client, barrier).await?;
            match decide(&crowd.view(barrier), wall()).write {
                // It may only be a figure, after all: then that is right, too.
                Some(found) if found.change != Change::NextRound => patch(client, barrier, &found.status).await,
                _ => Ok(None),
            }
        }
        Change::NextRound => {
            if let Some(newer) = clear(&client, barrier).await? {
                return Ok(Some(newer));
            }
            patch(client, barrier, &write.status).await
        }
    }
}

fn arrivals(client: &Client, barrier: &Barrier) -> (Api<Lenient<Arrival>>, ListParams) {
    let namespace = barrier.metadata.namespace.as_deref().unwrap_or_default();
    let selector = format!("spec.barrier={}", barrier.metadata.name.as_deref().unwrap_or_default());
    // No version: the API server answers with what was current when it was asked.
    (Api::namespaced(client.clone(), namespace), ListParams::default().fields(&selector).limit(PAGE))
}

/// All who have arrived, by one consistent read.
async fn crowd(client: &Client, barrier: &Barrier) -> Result<Crowd, Failure> {
    let (api, mut params) = arrivals(client, barrier);
    let uid = barrier.metadata.uid.as_deref().unwrap_or_default();
    let mut crowd = Crowd::default();
    loop {
        let page = answer(api.list(&params)).await?;
        let arrived = page.items.into_iter().filter_map(Arrived::of);
        arrived.filter(|arrived| arrived.counts_for(uid)).for_each(|arrived| crowd.add(&arrived));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(crowd);
        }
    }
}

/// Deletes all arrivals of this round. Returns the barrier if somebody has changed it meanwhile: then not all may be gone.
async fn clear(client: &Client, barrier: &Barrier) -> Result<Option<Lenient<Barrier>>, Failure> {
    let (api, params) = arrivals(client, barrier);
    let namespace = barrier.metadata.namespace.as_deref().unwrap_or_default();
    let barriers: Api<Lenient<Barrier>> = Api::namespaced(client.clone(), namespace);
    loop {
        let page = answer(api.list(&params)).await?;
        if page.items.is_empty() {
            return Ok(None);
        }
        let now = answer(barriers.get(barrier.metadata.name.as_deref().unwrap_or_default())).await?;
        let found = now.meta();
        if (&found.uid, &found.resource_version) != (&barrier.metadata.uid, &barrier.metadata.resource_version) {
            return Ok(Some(now));
        }
        let deletions = stream::iter(page.items).map(|arrival| delete(&api, arrival));
        let mut done = deletions.buffer_unordered(DELETIONS);
        while let Some(result) = done.next().await {
            result?;
        }
    }
}

/// Deletes exactly this arrival. That somebody else did is as good.
async fn delete(api: &Api<Lenient<Arrival>>, arrival: Lenient<Arrival>) -> Result<(), Failure> {
    let uid = arrival.meta().uid.clone();
    let params =
        DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::default() };
    match answer(api.delete(arrival.meta().name.as_deref().unwrap_or_default(), &params)).await {
        Err(Failure::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// An arrival that is to be owned by its barrier.
#[derive(Clone, Debug)]
pub(crate) struct Adoption {
    pub(super) barrier: Key,
    pub(super) barrier_uid: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: Version,
}

impl Adoption {
    /// Writes the owner into the arrival that was seen, if it is still there.
    pub(super) async fn carry_out(self, client: Client) {
        let api: Api<Lenient<Arrival>> = Api::namespaced(client, &self.barrier.namespace);
        let owner = json!({
            "apiVersion": Barrier::api_version(&()), "kind": Barrier::kind(&()),
            "name": self.barrier.name, "uid": self.barrier_uid,
        });
        let version = self.version.to_string();
        let metadata = json!({ "uid": self.uid, "resourceVersion": version, "ownerReferences": [owner] });
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        while backoff.failures() < ADOPTIONS {
            let Err(failure) = answer(api.patch(&self.name, &PatchParams::default(), &patch)).await else { return };
            debug!(namespace = self.barrier.namespace, name = self.name, "arrival not adopted: {failure}");
            if matches!(&failure, Failure::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409)) {
                return;
            }
            backoff.pause().await;
        }
    }
}
