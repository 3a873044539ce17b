//! Each request of the protocol as one HTTP request, and each answer as the protocol's word for it.

use std::{sync::Arc, time::Duration};

use http::Method;
use jiff::Timestamp;
use konductor_api::{
    ClaimSpec, GoDuration, Lease, LeaseRequestSpec, Lock, PermitSpec, Semaphore, claim::renewal_patch,
};
use konductor_cluster::{Link, moments, server_time};
use kube::{
    Resource,
    core::{WatchEvent, object::HasSpec},
};
use serde::Serialize;

use super::{
    shape::{AnyClaim, AnyParent, text},
    wire::{Calling, Subject, Watch, request, send, transient, unreadable, watch_of},
};
use crate::{
    Request, Wanted,
    connect::Cluster,
    protocol::{Answer, Call, Failure, Input, ParentSeen, WatchEnd},
};

/// A claim of this name, whatever the kind of its lock, as text.
type ClaimText = Box<dyn Fn(&str, ClaimSpec) -> serde_json::Result<Vec<u8>> + Send>;

/// The requests of one claim.
pub(crate) struct Backend {
    link: Arc<Link>,
    claims: String,
    parent: String,
    text: ClaimText,
    request: Request,
    /// When the last renewal says that it was sent: no two may say the same.
    renew_time: Timestamp,
}

impl Backend {
    pub(crate) fn new(cluster: &Cluster, mut request: Request) -> Self {
        request.pod = request.pod.map(|pod| pod.named_in(&cluster.namespace));
        match request.wanted {
            Wanted::Lease { .. } => {
                Self::on::<Lease>(cluster, request, |lock, claim| LeaseRequestSpec { lease: lock.into(), claim })
            }
            Wanted::Semaphore { permits, .. } => {
                let spec = move |lock: &str, claim| PermitSpec { semaphore: lock.into(), permits, claim };
                Self::on::<Semaphore>(cluster, request, spec)
            }
        }
    }

    /// The requests of a claim on a lock of the kind `L`. `spec` is what it says, with the lock's name and what all
    /// claims say.
    fn on<L: Lock<Claim: HasSpec<Spec: Serialize>>>(
        cluster: &Cluster,
        request: Request,
        spec: impl Fn(&str, ClaimSpec) -> <L::Claim as HasSpec>::Spec + Send + 'static,
    ) -> Self {
        let namespace = Some(cluster.namespace.as_str());
        let lock = request.wanted.name().to_owned();
        Self {
            link: cluster.link.clone(),
            claims: L::Claim::url_path(&(), namespace),
            parent: format!("{}/{lock}", L::url_path(&(), namespace)),
            text: Box::new(move |name, claim| text::<L::Claim>(name, None, spec(&lock, claim))),
            request,
            renew_time: Timestamp::MIN,
        }
    }

    pub(crate) fn call(&mut self, call: &Call, within: Duration) -> Calling<Answer> {
        let claims = self.claims.clone();
        let subject = match call {
            Call::Create { .. } => Subject::All,
            Call::Read { name } => Subject::Named(name.clone()),
            Call::Renew { name, uid } | Call::Delete { name, uid, .. } => {
                Subject::One { name: name.clone(), uid: uid.clone() }
            }
        };
        let request = match call {
            Call::Create { name, instance } => {
                let body = self.claim(name, instance);
                request(&self.link, Method::POST, claims, "application/json", body)
            }
            Call::Read { name } => request(&self.link, Method::GET, format!("{claims}/{name}"), "", Ok(Vec::new())),
            Call::Renew { name, uid } => {
                let body = serde_json::to_vec(&renewal_patch(uid, self.next_renew_time()));
                request(&self.link, Method::PATCH, format!("{claims}/{name}"), "application/merge-patch+json", body)
            }
            Call::Delete { name, uid, version } => {
                let mut preconditions = serde_json::json!({ "uid": uid });
                if let Some(version) = version {
                    preconditions["resourceVersion"] = version.to_string().into();
                }
                let body = serde_json::to_vec(&serde_json::json!({ "preconditions": preconditions }));
                request(&self.link, Method::DELETE, format!("{claims}/{name}"), "application/json", body)
            }
        };
        let (link, call) = (self.link.clone(), call.clone());
        Box::pin(async move {
            let body = send(&link, request?, &subject, within).await?;
            match call {
                Call::Delete { .. } => Ok(Answer::Deleted),
                Call::Create { .. } | Call::Read { .. } | Call::Renew { .. } => {
                    let claim: AnyClaim = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
                    claim
                        .seen()
                        .map(Answer::Claim)
                        .ok_or_else(|| transient("the API server's answer lacks a UID or version"))
                }
            }
        })
    }

    pub(crate) fn ask_parent(&self, latest: bool, within: Duration) -> Calling<ParentSeen> {
        // Without a resource version the answer is the latest state, confirmed by a quorum; with 0, what the server
        // has.
        let path = if latest { self.parent.clone() } else { format!("{}?resourceVersion=0", self.parent) };
        let (link, request) = (self.link.clone(), request(&self.link, Method::GET, path, "", Ok(Vec::new())));
        let subject = Subject::Named(self.request.wanted.name().to_owned());
        Box::pin(async move {
            match send(&link, request?, &subject, within).await {
                Ok(body) => {
                    let parent: AnyParent = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
                    Ok(parent.seen())
                }
                Err(Failure::Missing(_)) => Ok(ParentSeen::Missing),
                Err(failure) => Err(failure),
            }
        })
    }

    /// Watches the claim of this name from `version`, for so many seconds.
    pub(crate) fn watch(&self, name: &str, version: u64, seconds: u64) -> Watch<Input> {
        Watch::of(&self.link, watch_of(&self.claims, name, version, seconds), input)
    }

    /// The claim to create, as text.
    fn claim(&self, name: &str, instance: &str) -> serde_json::Result<Vec<u8>> {
        let request = &self.request;
        let claim = ClaimSpec {
            priority: request.priority,
            holder: request.holder.clone(),
            instance: instance.into(),
            pod: request.pod.clone(),
            ttl: request.ttl.map(GoDuration),
            renew_time: None,
        };
        (self.text)(name, claim)
    }

    /// Shown to people, by the API server's clock; that it changes is what counts.
    fn next_renew_time(&mut self) -> Timestamp {
        // A wall clock that was set back must not repeat a value, and the API keeps microseconds.
        let after_last = self.renew_time.as_microsecond().saturating_add(1);
        let next = Timestamp::from_microsecond(server_time::wall().as_microsecond().max(after_last));
        self.renew_time = next.unwrap_or(Timestamp::MAX);
        self.renew_time
    }
}

/// What an event of a watch says.
fn input(event: WatchEvent<AnyClaim>) -> Result<Option<Input>, WatchEnd> {
    match event {
        WatchEvent::Added(claim) | WatchEvent::Modified(claim) => {
            moments::note("event");
            let seen = claim.seen();
            seen.map(|seen| Some(Input::Watched(seen)))
                .ok_or_else(|| WatchEnd::Failed("an event lacks a UID or version".into()))
        }
        WatchEvent::Deleted(claim) => Ok(claim.uid().map(Input::WatchedDeletion)),
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => Ok(None),
    }
}
