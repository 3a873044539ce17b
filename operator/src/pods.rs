//! Proof of death: which containers of which pods have certainly ended.
//!
//! A pod that is Succeeded or Failed *and* whose status says that the container is terminated: its kubelet saw it end.
//! Nothing less will do. A pod that is missing, unreachable or merely Failed may still be running somewhere.
//!
//! Only terminal pods are watched, and of each only the names of its terminated containers are kept.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::core::NamespaceResourceScope;
use serde::Deserialize;
use serde_json::value::RawValue;

use konductor_cluster::{Lenient, partial};

/// The field selectors that together select all terminal pods.
pub const TERMINAL: [&str; 2] = ["status.phase=Succeeded", "status.phase=Failed"];

/// What is read of a terminal pod: all else of it is skipped without being built.
#[derive(Clone, Debug, Deserialize)]
pub struct TerminalPod {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    container_statuses: Option<Vec<Container>>,
    init_container_statuses: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct State {
    terminated: Option<Box<RawValue>>,
}

impl TerminalPod {
    /// The names of its terminated containers; none as long as the pod itself has not ended.
    fn ended(self) -> Vec<String> {
        if !matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Vec::new();
        }
        let containers =
            self.status.container_statuses.into_iter().chain(self.status.init_container_statuses).flatten();
        containers.filter(|container| container.state.terminated.is_some()).map(|container| container.name).collect()
    }
}

/// A pod's UID, and its containers that have certainly ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The pod's UID.
    pub pod: Arc<str>,
    /// The containers' names.
    pub containers: Arc<[String]>,
}

impl From<Lenient<TerminalPod>> for Ended {
    /// What cannot be read proves nothing.
    fn from(pod: Lenient<TerminalPod>) -> Self {
        let uid = pod.metadata().uid.clone().unwrap_or_default();
        Self { pod: uid.into(), containers: pod.0.map(TerminalPod::ended).unwrap_or_default().into() }
    }
}

partial!(TerminalPod, of Pod, in NamespaceResourceScope);

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

    /// These containers of the pod have ended.
    pub fn bury(&mut self, source: usize, ended: Ended) {
        let (epoch, Ended { pod, containers }) = (self.epochs[source], ended);
        if containers.is_empty() {
            return;
        }
        self.graves.insert(pod, Grave { containers, source, epoch });
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

/// The claims of each pod, so that a pod's end finds them.
#[derive(Default)]
pub struct Tenants {
    claims: HashMap<String, HashSet<String>>,
}

impl Tenants {
    /// This claim speaks for a container of this pod.
    pub fn add(&mut self, pod: &str, claim: &str) {
        self.claims.entry(pod.into()).or_default().insert(claim.into());
    }

    /// This claim is gone.
    pub fn remove(&mut self, pod: &str, claim: &str) {
        if let Some(claims) = self.claims.get_mut(pod) {
            claims.remove(claim);
            if claims.is_empty() {
                self.claims.remove(pod);
            }
        }
    }

    /// The claims of this pod.
    pub fn of(&self, pod: &str) -> Vec<String> {
        self.claims.get(pod).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, terminated: &[&str], running: &[&str]) -> TerminalPod {
        let state =
            |name: &&str, state: &str| json!({ "name": name, "state": { state: { "exitCode": 0 } }, "image": "x" });
        let statuses: Vec<_> = running.iter().map(|name| state(name, "running")).collect();
        let ended: Vec<_> = terminated.iter().map(|name| state(name, "terminated")).collect();
        let text = json!({
            "metadata": { "uid": "u" },
            "spec": { "containers": [] },
            "status": { "phase": phase, "containerStatuses": statuses, "initContainerStatuses": ended },
        });
        serde_json::from_str(&text.to_string()).expect("a pod")
    }

    #[test]
    fn only_a_terminated_container_of_a_terminal_pod_is_proven_dead() {
        assert_eq!(pod("Failed", &["main"], &["sidecar"]).ended(), ["main"]);
        assert_eq!(pod("Succeeded", &["a", "b"], &[]).ended(), ["a", "b"]);
        assert!(pod("Failed", &[], &["main"]).ended().is_empty());
        assert!(pod("Running", &["main"], &[]).ended().is_empty());
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
