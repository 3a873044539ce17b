//! How each kind of object is read: the same whether its text comes from an API server or from a test.

use konductor_api::{
    Lease, LeaseRequest, LeaseRequestSpec, LeaseSpec, LeaseStatus, Permit, PermitSpec, Semaphore, SemaphoreSpec,
    SemaphoreStatus,
};
use konductor_cluster::object::{Metadata, Object};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::seen::{
    ArrivalSeen, BarrierSeen, Claim, DeploymentSeen, ElectionSeen, GateSeen, JobSeen, Kind, LockSeen, NodeSeen,
    PodSeen, Seen,
};

/// What is seen of an object of this kind in its JSON; nothing of a text that is no object.
pub(crate) fn read(kind: Kind, text: &str) -> Option<Seen> {
    match kind {
        Kind::Permit => of(text, |metadata, spec: PermitSpec, status| {
            Seen::Claim(Box::new(Claim::new::<Permit>(kind, metadata, &spec, status)))
        }),
        Kind::LeaseRequest => of(text, |metadata, spec: LeaseRequestSpec, status| {
            Seen::Claim(Box::new(Claim::new::<LeaseRequest>(kind, metadata, &spec, status)))
        }),
        Kind::Semaphore => of(text, |metadata, spec: SemaphoreSpec, status: Option<SemaphoreStatus>| {
            Seen::Lock(Box::new(LockSeen::new::<Semaphore>(kind, metadata, &spec, status.as_ref())))
        }),
        Kind::Lease => of(text, |metadata, spec: LeaseSpec, status: Option<LeaseStatus>| {
            Seen::Lock(Box::new(LockSeen::new::<Lease>(kind, metadata, &spec, status.as_ref())))
        }),
        Kind::Barrier => {
            of(text, |metadata, spec, status| Seen::Barrier(Box::new(BarrierSeen { metadata, spec, status })))
        }
        Kind::Arrival => {
            of(text, |metadata, spec, _: IgnoredAny| Seen::Arrival(Box::new(ArrivalSeen { metadata, spec })))
        }
        Kind::Gate => of(text, |metadata, spec, status| Seen::Gate(Box::new(GateSeen { metadata, spec, status }))),
        Kind::Pod => of(text, |metadata, spec, status| Seen::Pod(Box::new(PodSeen { metadata, spec, status }))),
        Kind::Job => of(text, |metadata, spec, status| Seen::Job(Box::new(JobSeen { metadata, spec, status }))),
        Kind::Node => of(text, |metadata, _: IgnoredAny, status| Seen::Node(Box::new(NodeSeen { metadata, status }))),
        Kind::Namespace => of(text, |metadata, _: IgnoredAny, _: IgnoredAny| Seen::Namespace(Box::new(metadata))),
        Kind::Election => {
            of(text, |metadata, spec, _: IgnoredAny| Seen::Election(Box::new(ElectionSeen { metadata, spec })))
        }
        Kind::Deployment => {
            of(text, |metadata, spec, status| Seen::Deployment(Box::new(DeploymentSeen { metadata, spec, status })))
        }
    }
}

fn of<S, T>(text: &str, make: impl FnOnce(Metadata, S, T) -> Seen) -> Option<Seen>
where
    S: DeserializeOwned,
    T: DeserializeOwned + Default,
{
    Some(match Object::<(), S, T>::read(text).ok()? {
        Ok(Object { metadata, spec, status, .. }) => make(metadata, spec, status),
        Err(misfit) => Seen::Misfit(Box::new(misfit.metadata), misfit.error),
    })
}
