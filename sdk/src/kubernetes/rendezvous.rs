//! The requests about one barrier or gate, and about an arrival.

use std::{sync::Arc, time::Duration};

use http::Method;
use konductor_api::{Arrival, ArrivalSpec, Barrier, GROUP};
use konductor_cluster::Link;
use kube::{Resource, core::WatchEvent};

use super::{
    shape::{AnyArrival, AnyRendezvous, OneOrNone, Owner, text},
    wire::{Calling, Subject, Watch, request, send, unreadable, watch_of},
};
use crate::{
    connect::Cluster,
    protocol::WatchEnd,
    rendezvous::{Answer, Awaited, Call, Input},
};

/// The requests of one who waits or arrives.
pub(crate) struct RendezvousBackend {
    link: Arc<Link>,
    objects: String,
    arrivals: String,
    namespace: String,
    awaited: Awaited,
}

impl RendezvousBackend {
    pub(crate) fn new(cluster: &Cluster, awaited: Awaited) -> Self {
        let path = |plural| format!("/apis/{GROUP}/v1/namespaces/{}/{plural}", cluster.namespace);
        let (objects, arrivals) = (path(awaited.kind.plural), path(&Arrival::plural(&())));
        Self { link: cluster.link.clone(), objects, arrivals, namespace: cluster.namespace.clone(), awaited }
    }

    pub(crate) fn call(&self, call: &Call, within: Duration) -> Calling<Answer> {
        let link = self.link.clone();
        match call {
            Call::Look => {
                // A list of one name has a version also when there is nothing of that name: a watch can go on from
                // there.
                let path = format!("{}?fieldSelector=metadata.name%3D{}", self.objects, self.awaited.name);
                let request = request(&self.link, Method::GET, path, "", Ok(Vec::new()));
                Box::pin(async move {
                    let body = send(&link, request?, &Subject::All, within).await?;
                    let list: OneOrNone = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
                    let (version, found) = list.read();
                    Ok(Answer::Looked { version, found })
                })
            }
            Call::Inspect { name, .. } => {
                let subject = Subject::Named(name.clone());
                let request = request(&self.link, Method::GET, format!("{}/{name}", self.arrivals), "", Ok(Vec::new()));
                Box::pin(async move {
                    let body = send(&link, request?, &subject, within).await?;
                    let arrival: AnyArrival = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
                    Ok(Answer::Inspected(arrival.arrived()))
                })
            }
            Call::Create { name, owner, spec } => {
                let body = self.arrival(name, owner.as_deref(), spec);
                let request = request(&self.link, Method::POST, self.arrivals.clone(), "application/json", body);
                Box::pin(async move { send(&link, request?, &Subject::All, within).await.map(|_| Answer::Created) })
            }
        }
    }

    fn arrival(&self, name: &str, owner: Option<&str>, spec: &ArrivalSpec) -> serde_json::Result<Vec<u8>> {
        let (api_version, kind) = (Barrier::api_version(&()), Barrier::kind(&()));
        let owner = owner.map(|uid| Owner { api_version: &api_version, kind: &kind, name: &self.awaited.name, uid });
        let pod = spec.pod.clone().map(|pod| pod.named_in(&self.namespace));
        text::<Arrival>(name, owner, ArrivalSpec { pod, ..spec.clone() })
    }

    /// Watches the barrier or gate from `version`, for so many seconds.
    pub(crate) fn watch(&self, version: &str, seconds: u64) -> Watch<Input> {
        Watch::of(&self.link, watch_of(&self.objects, &self.awaited.name, version, seconds), input)
    }
}

/// What an event of a watch says.
#[expect(clippy::unnecessary_wraps, reason = "of other objects, an event can lack what is needed")]
fn input(event: WatchEvent<AnyRendezvous>) -> Result<Option<Input>, WatchEnd> {
    Ok(match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(Input::Watched(object.seen())),
        WatchEvent::Deleted(_) => Some(Input::WatchedDeletion),
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => None,
    })
}
