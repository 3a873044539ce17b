//! What a pod proves of a claim's client: that its container has ended and is never started again.
//!
//! A claim speaks for one start of a container; a pod's status tells of the last start that its kubelet has reported.
//! Between the two lies a time in which the container may have been started again, have made its claim, and the status
//! still shows how the start before has ended. So `terminated` alone proves nothing. It proves death where no start can
//! have followed:
//!
//! - *The pod is terminal* (`Succeeded`, `Failed`) and the container is terminated. A kubelet reports a terminal phase
//!   once it will start nothing of the pod any more, and in the same status how the last start of each container ended.
//!   (The garbage collector of pods sets `Failed` too, for nodes that are lost, above a status that may be old: it says
//!   so in a condition, and then the phase proves nothing.)
//! - *`restartPolicy: Never`*. No start follows the first, also not with a new sandbox: the status of the first is that
//!   of the last.
//! - *`restartPolicy: OnFailure` and exit code 0*. A container that has succeeded is not started again. This does not
//!   hold for init containers, all of which run again in a new sandbox.
//!
//! The last two hold only while nothing in the pod has rules of its own: a container's `restartPolicy` overrides the
//! pod's, and one container's `restartPolicyRules` may have all of them started again. (That of a native sidecar, an
//! init container that is always restarted, concerns itself alone.) Everywhere else the next start withdraws the claim
//! that its predecessor left, so that nothing is lost but the time until then.
//!
//! A claim that speaks for its whole pod ends with the pod: the pod is terminal, and no container is reported to run.
//! (One that is reported to wait was never started again, and in a terminal pod never is.)
//!
//! That a pod does not exist proves nothing of a client that may have started something: its node may be out of reach,
//! and the pod was deleted by force.

use serde::Deserialize;

use crate::PodReference;

/// What a look at a pod shows of the container that a claim speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PodSight {
    /// The pod does not exist, or another one has its name.
    Gone,
    /// The container has certainly ended for good.
    Ended,
    /// Nothing shows that it has ended.
    Lives,
    /// The question was not answered, or may not be asked.
    Unknown,
}

/// What of a pod's spec bears on whether a container is started again.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpecSeen {
    /// `Always` when absent.
    pub restart_policy: Option<String>,
    /// The containers proper.
    pub containers: Vec<ContainerSpecSeen>,
    /// Those that run before them, and native sidecars.
    pub init_containers: Vec<ContainerSpecSeen>,
}

/// What of a container's spec bears on that.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSpecSeen {
    /// Its name.
    pub name: String,
    /// Overrides the pod's.
    pub restart_policy: Option<String>,
    /// Only whether there are any matters.
    pub restart_policy_rules: Vec<serde::de::IgnoredAny>,
}

/// What of a pod's status does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatusSeen {
    /// Its phase.
    pub phase: Option<String>,
    /// Who else than the kubelet has set the phase.
    pub conditions: Vec<PodConditionSeen>,
    /// Of the containers proper.
    pub container_statuses: Vec<ContainerSeen>,
    /// Of init containers.
    pub init_container_statuses: Vec<ContainerSeen>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodConditionSeen {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its reason.
    pub reason: Option<String>,
}

/// How a container stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSeen {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ContainerStateSeen,
}

/// A container's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStateSeen {
    /// Whether it runs.
    pub running: Option<RunningSeen>,
    /// How its last start has ended, if it has.
    pub terminated: Option<TerminatedSeen>,
}

/// That a start of a container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RunningSeen {}

/// How a start of a container has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminatedSeen {
    /// Its exit code.
    pub exit_code: i64,
}

/// What the pod with this UID shows of the container that the claim speaks for, or of itself if the claim speaks for the
/// whole pod.
pub fn pod_sight(uid: &str, spec: &PodSpecSeen, status: &PodStatusSeen, claim: &PodReference) -> PodSight {
    let ended = || if claim.is_whole() { status.has_ended() } else { has_ended(spec, status, &claim.container) };
    if uid != claim.uid {
        PodSight::Gone
    } else if ended() {
        PodSight::Ended
    } else {
        PodSight::Lives
    }
}

/// Whether a pod shows that this container of it has ended for good.
pub fn has_ended(spec: &PodSpecSeen, status: &PodStatusSeen, container: &str) -> bool {
    let find = |all: &[ContainerSeen]| all.iter().find(|seen| seen.name == container).cloned();
    let (seen, is_init) = match find(&status.container_statuses) {
        Some(seen) => (seen, false),
        None => match find(&status.init_container_statuses) {
            Some(seen) => (seen, true),
            None => return false,
        },
    };
    let Some(TerminatedSeen { exit_code }) = seen.state.terminated else { return false };
    status.is_terminal()
        || !spec.has_rules_of_containers()
            && !spec.is_sidecar(container)
            && match spec.restart_policy.as_deref() {
                Some("Never") => true,
                Some("OnFailure") => exit_code == 0 && !is_init,
                _ => false,
            }
}

impl PodStatusSeen {
    /// Whether the whole pod has ended for good.
    pub fn has_ended(&self) -> bool {
        let mut all = self.container_statuses.iter().chain(&self.init_container_statuses);
        // A kubelet that rejects a pod after it has started anew says nothing of its containers, which may still run.
        let is_told = !self.container_statuses.is_empty();
        self.is_terminal() && is_told && all.all(|seen| seen.state.running.is_none())
    }

    /// The kubelet says that nothing of the pod runs, or will run again.
    fn is_terminal(&self) -> bool {
        let collected = |condition: &PodConditionSeen| {
            condition.kind == "DisruptionTarget" && condition.reason.as_deref() == Some("DeletionByPodGC")
        };
        matches!(self.phase.as_deref(), Some("Succeeded" | "Failed")) && !self.conditions.iter().any(collected)
    }
}

impl PodSpecSeen {
    fn is_sidecar(&self, container: &str) -> bool {
        self.init_containers.iter().any(|init| init.name == container && init.restart_policy.is_some())
    }

    fn has_rules_of_containers(&self) -> bool {
        let ruled = |container: &ContainerSpecSeen| !container.restart_policy_rules.is_empty();
        let overrides = |container: &ContainerSpecSeen| container.restart_policy.is_some();
        // The only value that an init container can have without rules beside it is a sidecar's.
        let odd = |init: &ContainerSpecSeen| !matches!(init.restart_policy.as_deref(), None | Some("Always"));
        self.containers.iter().any(|container| ruled(container) || overrides(container))
            || self.init_containers.iter().any(|init| ruled(init) || odd(init))
    }
}
