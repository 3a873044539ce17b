//! Proof of death: which containers of which pods have certainly ended.
//!
//! What proves it is said by [`konductor_api::arbiter::pod_sight`]. Pods that have ended are watched, by field
//! selectors, and of each only the names of its terminated containers are kept. Those of living pods are not: a cluster
//! of 5,000 pods tells of each of them many times a minute, and only a few are anybody's concern. Of these one is read
//! when its claim's client has missed a renewal, or when its turn is near (a [`Look`](konductor_api::arbiter::Look)).

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use konductor_api::{
    PodReference,
    arbiter::{PodSight, PodSpecSeen, PodStatusSeen, Uid, has_ended, pod_sight},
};
use konductor_cluster::{
    Endpoint, RequestError,
    object::{Described, Lenient, Object},
};

/// The field selectors that together select all pods that have ended.
pub const TERMINAL: [&str; 2] = ["status.phase=Succeeded", "status.phase=Failed"];

/// Pods in one page of a list: their text is ten times as long as that of claims.
pub const PAGE: u32 = 50;

/// What is read of a pod.
pub type PodObject = Object<Pod, PodSpecSeen, PodStatusSeen>;

/// Where pods are.
pub type PodEndpoint = Endpoint<Pod, PodSpecSeen, PodStatusSeen>;

/// What a look at the pod that a claim speaks for has shown.
pub fn sight(found: Result<Lenient<PodObject>, RequestError>, claim: &PodReference) -> PodSight {
    match found {
        Ok(Ok(pod)) => pod_sight(&pod.metadata.uid, &pod.spec, &pod.status, claim),
        Err(error) if error.is_absent(&claim.name) => PodSight::Gone,
        Ok(Err(_)) | Err(_) => PodSight::Unknown,
    }
}

/// A pod's UID, and its containers that have certainly ended; an empty name stands for the whole pod, as in a claim.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The pod's UID.
    pub pod: Arc<str>,
    /// The containers' names.
    pub containers: Arc<[String]>,
}

impl From<Lenient<PodObject>> for Ended {
    /// What cannot be read proves nothing.
    fn from(pod: Lenient<PodObject>) -> Self {
        let uid = Arc::from(pod.metadata().uid.as_str());
        let containers = pod.map_or_else(
            |_| Vec::new(),
            |PodObject { spec, status, .. }| {
                let seen = status.container_statuses.iter().chain(&status.init_container_statuses);
                let ended = seen.filter(|container| has_ended(&spec, &status, &container.name));
                let whole = status.has_ended().then(String::new);
                ended.map(|container| container.name.clone()).chain(whole).collect()
            },
        );
        Self { pod: uid, containers: containers.into() }
    }
}

struct Grave {
    containers: Arc<[String]>,
    source: usize,
    epoch: u32,
}

/// The terminal pods that are known, by UID. Each engine has one; what is kept of a pod is shared between them.
#[derive(Default)]
pub struct Graveyard {
    graves: HashMap<Arc<str>, Grave>,
    epochs: [u32; TERMINAL.len()],
}

impl Graveyard {
    /// A list of this source (an index of [`TERMINAL`]) begins.
    pub fn listing(&mut self, source: usize) {
        self.epochs[source] += 1;
    }

    /// The list of this source has ended: what it did not show is gone. (Were it not, only a proof would be lost.)
    pub fn listed(&mut self, source: usize) {
        let epoch = self.epochs[source];
        self.graves.retain(|_, grave| grave.source != source || grave.epoch == epoch);
        self.graves.shrink_to_fit();
    }

    /// These containers of the pod have ended. Returns whether that is news.
    pub fn bury(&mut self, source: usize, ended: Ended) -> bool {
        let (epoch, Ended { pod, containers }) = (self.epochs[source], ended);
        if containers.is_empty() {
            return false;
        }
        let before = self.graves.insert(pod, Grave { containers: containers.clone(), source, epoch });
        before.is_none_or(|grave| grave.containers != containers)
    }

    /// How many pods are known.
    pub fn len(&self) -> usize {
        self.graves.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.graves.is_empty()
    }

    /// The pod was deleted.
    pub fn forget(&mut self, pod: &str) {
        self.graves.remove(pod);
    }

    /// Whether this container of this pod has certainly ended.
    pub fn has(&self, pod: &str, container: &str) -> bool {
        self.graves.get(pod).is_some_and(|grave| grave.containers.iter().any(|ended| ended == container))
    }
}

/// Claims of one pod that its end frees at once: more than any pod has containers and locks. What is beyond is found
/// out when it misses a renewal.
const TENANTS: usize = 256;

/// The claims of each pod, so that a pod's end finds them.
#[derive(Default)]
pub struct Tenants {
    claims: HashMap<Arc<str>, Vec<Uid>>,
}

impl Tenants {
    /// This claim speaks for a container of this pod. Of a pod with very many claims not all are found by its end.
    /// Returns the pod's UID, to be kept instead of another copy of it.
    pub fn add(&mut self, pod: &str, claim: &Uid) -> Arc<str> {
        let pod = self.claims.get_key_value(pod).map_or_else(|| pod.into(), |(pod, _)| pod.clone());
        // Nearly always there is one.
        let claims = self.claims.entry(pod.clone()).or_insert_with(|| Vec::with_capacity(1));
        if claims.len() < TENANTS && !claims.contains(claim) {
            claims.push(claim.clone());
        }
        pod
    }

    /// This claim is gone.
    pub fn remove(&mut self, pod: &str, claim: &str) {
        if let Some(claims) = self.claims.get_mut(pod) {
            claims.retain(|other| **other != *claim);
            if claims.is_empty() {
                self.claims.remove(pod);
            }
        }
    }

    /// How many pods have claims, and how many claims those are.
    pub fn sizes(&self) -> [usize; 2] {
        [self.claims.len(), self.claims.values().map(Vec::len).sum()]
    }

    /// The claims of this pod.
    pub fn of(&self, pod: &str) -> Vec<Uid> {
        self.claims.get(pod).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_the_containers_are_kept_that_have_ended_for_good() {
        let pod = |phase: &str, policy: &str| {
            let pod = json!({
                "metadata": { "name": "p", "uid": "u", "managedFields": [{ "time": "9999-12-31T23:59:59Z" }] },
                "spec": { "restartPolicy": policy, "containers": [{ "name": "main" }, { "name": "side" }] },
                "status": { "phase": phase, "containerStatuses": [
                    { "name": "main", "state": { "terminated": { "exitCode": 1, "finishedAt": "9999-12-31T23:59:59Z" } } },
                    { "name": "side", "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } },
                ]},
            });
            Ended::from(PodObject::read(&pod.to_string()).expect("a pod"))
        };
        let ended = pod("Failed", "Always");
        assert_eq!((&*ended.pod, &*ended.containers), ("u", &["main".to_owned()][..]));
        assert_eq!(pod("Running", "Never").containers.len(), 1);
        assert!(ended.containers.iter().all(|name| !name.is_empty()), "one of them runs, says a status that is odd");
        assert!(pod("Running", "Always").containers.is_empty());
    }

    #[test]
    fn a_pod_that_has_ended_as_a_whole_is_kept_by_the_name_of_none_of_its_containers() {
        let pod = json!({
            "metadata": { "name": "p", "uid": "u" },
            "spec": { "restartPolicy": "Never", "initContainers": [{ "name": "take" }], "containers": [{ "name": "main" }] },
            "status": {
                "phase": "Failed",
                "initContainerStatuses": [{ "name": "take", "state": { "terminated": { "exitCode": 0 } } }],
                "containerStatuses": [{ "name": "main", "state": { "waiting": { "reason": "PodInitializing" } } }],
            },
        });
        let ended = Ended::from(PodObject::read(&pod.to_string()).expect("a pod"));
        assert_eq!(*ended.containers, ["take".to_owned(), String::new()]);
        let mut graveyard = Graveyard::default();
        graveyard.bury(0, ended);
        assert!(graveyard.has("u", "") && graveyard.has("u", "take") && !graveyard.has("u", "main"));
    }

    #[test]
    fn a_pods_end_finds_each_of_its_claims_once_and_those_of_no_other() {
        let mut tenants = Tenants::default();
        let [a, b, other] = ["a", "b", "other"].map(Uid::from);
        let pod = tenants.add("pod", &a);
        assert!(Arc::ptr_eq(&pod, &tenants.add("pod", &b)), "its UID is kept once");
        tenants.add("pod", &a);
        tenants.add("another", &other);
        assert_eq!(tenants.of("pod"), [a, b.clone()]);
        tenants.remove("pod", "a");
        assert_eq!(tenants.of("pod"), [b]);
        tenants.remove("pod", "b");
        assert!(tenants.of("pod").is_empty() && tenants.claims.len() == 1, "what is empty is forgotten");
    }

    #[test]
    fn a_list_drops_what_it_does_not_show_of_its_own_source() {
        let mut graveyard = Graveyard::default();
        let ended = |pod: &str| Ended { pod: pod.into(), containers: ["main".into()].into() };
        graveyard.bury(0, ended("old"));
        graveyard.bury(1, ended("other"));
        graveyard.listing(0);
        graveyard.bury(0, ended("new"));
        graveyard.listed(0);
        assert!(!graveyard.has("old", "main"));
        assert!(graveyard.has("new", "main") && graveyard.has("other", "main"));
        assert!(!graveyard.has("new", "sidecar"));
    }
}
