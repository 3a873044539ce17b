//! What is read of objects, as little as the answer needs. Claims of both kinds are one type, and so are locks.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use konductor_api::{
    ArrivalSpec, BarrierSpec, BarrierStatus, ClaimPhase, ClaimSpec, ClaimStatus, GateSpec, GateStatus, Lock, LockClaim,
    Queueing,
    arbiter::{ParentState, PodSpecSeen, PodStatusSeen},
    rendezvous::fact::JobState,
};
use konductor_cluster::object::{Metadata, NO_TIME};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::kind::{self, Resource};

/// A kind of object that bears on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A semaphore.
    Semaphore,
    /// A lease of `konductor.io`.
    Lease,
    /// A claim on a semaphore.
    Permit,
    /// A claim on a lease.
    LeaseRequest,
    /// A barrier.
    Barrier,
    /// An arrival at a barrier.
    Arrival,
    /// A gate.
    Gate,
    /// A pod.
    Pod,
    /// A Job.
    Job,
    /// A node.
    Node,
    /// A namespace.
    Namespace,
    /// The lease of `coordination.k8s.io` by which the operators know their leader.
    Election,
    /// A Deployment.
    Deployment,
}

impl Kind {
    /// Those that can be asked about.
    pub(crate) const SUBJECTS: [Self; 8] = [
        Self::Semaphore,
        Self::Lease,
        Self::Barrier,
        Self::Gate,
        Self::Permit,
        Self::LeaseRequest,
        Self::Pod,
        Self::Job,
    ];

    /// As the API knows it.
    pub(crate) const fn resource(self) -> Resource {
        match self {
            Self::Semaphore => kind::SEMAPHORE,
            Self::Lease => kind::LEASE,
            Self::Permit => kind::PERMIT,
            Self::LeaseRequest => kind::LEASE_REQUEST,
            Self::Barrier => kind::BARRIER,
            Self::Arrival => kind::ARRIVAL,
            Self::Gate => kind::GATE,
            Self::Pod => kind::POD,
            Self::Job => kind::JOB,
            Self::Node => Resource::foreign("", "Node", "nodes", "node"),
            Self::Namespace => Resource::foreign("", "Namespace", "namespaces", "namespace"),
            // Not to be taken for our own.
            Self::Election => Resource::foreign("coordination.k8s.io", "Lease", "leases", "lease.coordination.k8s.io"),
            Self::Deployment => Resource::foreign("apps", "Deployment", "deployments", "deployment"),
        }
    }

    /// Its name, as it stands before the slash in `pod/etl-0`.
    pub(crate) const fn name(self) -> &'static str {
        self.resource().singular
    }

    /// Its claims, of a lock.
    pub(crate) const fn claims(self) -> Self {
        if matches!(self, Self::Lease) { Self::LeaseRequest } else { Self::Permit }
    }

    /// What it is on, of a claim.
    pub(crate) const fn lock(self) -> Self {
        if matches!(self, Self::LeaseRequest) { Self::Lease } else { Self::Semaphore }
    }
}

/// A claim on a lock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claim {
    /// Which kind of claim.
    pub(crate) kind: Kind,
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// The lock's name.
    pub(crate) lock: String,
    /// Permits asked for.
    pub(crate) permits: u64,
    /// Who asks, and how.
    pub(crate) spec: ClaimSpec,
    /// The operator's answer.
    pub(crate) status: ClaimStatus,
}

impl Claim {
    /// Of this spec and status.
    pub(crate) fn new<C: LockClaim>(
        kind: Kind,
        metadata: Metadata,
        spec: &C::Spec,
        status: Option<ClaimStatus>,
    ) -> Self {
        Self {
            kind,
            metadata,
            lock: C::lock(spec).to_owned(),
            permits: C::weight(spec),
            spec: C::claim(spec).clone(),
            status: status.unwrap_or_default(),
        }
    }

    /// Whether it holds what it asked for.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.status.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking))
    }

    /// Whether it waits.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.status.phase, None | Some(ClaimPhase::Pending))
    }

    /// When its holder last renewed, as that one says.
    pub(crate) fn renewed(&self) -> Option<Timestamp> {
        self.spec.renew_time.as_ref().and_then(|time| time.0.parse().ok())
    }
}

/// A semaphore or a lease.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LockSeen {
    /// Which kind of lock.
    pub(crate) kind: Kind,
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// Permits that there are.
    pub(crate) capacity: u64,
    /// Whether smaller claims may pass.
    pub(crate) queueing: Queueing,
    /// What the operator says; `None` before it has seen the lock.
    pub(crate) state: Option<ParentState>,
    /// Its conditions.
    pub(crate) conditions: Vec<Condition>,
}

impl LockSeen {
    /// Of this spec and status.
    pub(crate) fn new<L: Lock>(kind: Kind, metadata: Metadata, spec: &L::Spec, status: Option<&L::Status>) -> Self {
        Self {
            kind,
            metadata,
            capacity: L::capacity(spec),
            queueing: L::queueing(spec),
            state: status.map(L::state),
            conditions: status.map(|status| L::conditions(status).to_vec()).unwrap_or_default(),
        }
    }

    /// Whether the operator has answered this generation of its spec.
    pub(crate) fn is_answered(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.summary.generation == self.metadata.generation)
    }
}

/// A barrier.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BarrierSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// What is wanted.
    pub(crate) spec: BarrierSpec,
    /// What the operator says.
    pub(crate) status: BarrierStatus,
}

/// A gate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GateSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// What is wanted.
    pub(crate) spec: GateSpec,
    /// What the operator says.
    pub(crate) status: GateStatus,
}

/// An arrival.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ArrivalSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// Who arrived.
    pub(crate) spec: ArrivalSpec,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// Its spec.
    pub(crate) spec: PodSpec,
    /// Its status.
    pub(crate) status: PodStatus,
}

/// What is read of a pod's spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodSpec {
    /// Where it runs.
    pub(crate) node: Option<String>,
    /// Its containers, those that begin first in front.
    pub(crate) containers: Vec<Container>,
    /// What bears on whether a container is started again.
    pub(crate) death: PodSpecSeen,
}

/// What is read of a pod's status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodStatus {
    /// Its phase.
    pub(crate) phase: Option<String>,
    /// Why it is in that phase, when the kubelet says so.
    pub(crate) reason: Option<String>,
    /// The same in a sentence.
    pub(crate) message: Option<String>,
    /// Its conditions.
    pub(crate) conditions: Vec<AnyCondition>,
    /// How its containers stand.
    pub(crate) containers: Vec<ContainerStatus>,
    /// What bears on whether a container has ended.
    pub(crate) death: PodStatusSeen,
}

/// What is read of a container's spec: what it asks of `konductor-run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    /// Its name.
    pub(crate) name: String,
    /// Its command.
    pub(crate) command: Vec<String>,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Its variables.
    pub(crate) env: Vec<Variable>,
}

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// Its value, where the spec has it.
    pub(crate) value: Option<String>,
}

/// How a container stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerStatus {
    /// Its name.
    pub(crate) name: String,
    /// How often it was started again.
    pub(crate) restart_count: i64,
    /// Its state.
    pub(crate) state: ContainerState,
    /// How its last start ended.
    pub(crate) last_state: ContainerState,
}

/// A container's state.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    /// It waits to be started.
    pub(crate) waiting: Option<Waiting>,
    /// It has ended.
    pub(crate) terminated: Option<Terminated>,
}

/// Why a container waits to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    /// In a word.
    pub(crate) reason: Option<String>,
    /// In a sentence.
    pub(crate) message: Option<String>,
}

/// How a container has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Terminated {
    /// Its exit code.
    pub(crate) exit_code: i64,
    /// Why, in a word.
    pub(crate) reason: Option<String>,
}

/// A condition of anything of Kubernetes' own, as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AnyCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    /// In a word.
    pub(crate) reason: Option<String>,
    /// In a sentence.
    pub(crate) message: Option<String>,
    /// Since when, as it was written.
    pub(crate) last_transition_time: Option<String>,
}

impl AnyCondition {
    /// Since when it is so.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.last_transition_time.as_ref()?.parse().ok()
    }
}

/// What a JSON member says, or the default of it: an odd member is no reason not to read the others.
fn member<T: DeserializeOwned + Default>(of: &Value, name: &str) -> T {
    of.get(name).and_then(|value| T::deserialize(value).ok()).unwrap_or_default()
}

impl<'de> Deserialize<'de> for PodSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spec = Value::deserialize(deserializer)?;
        let mut containers: Vec<Container> = member(&spec, "initContainers");
        containers.extend(member::<Vec<Container>>(&spec, "containers"));
        let death = PodSpecSeen::deserialize(&spec).unwrap_or_default();
        Ok(Self { node: member(&spec, "nodeName"), containers, death })
    }
}

impl<'de> Deserialize<'de> for PodStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let status = Value::deserialize(deserializer)?;
        let mut containers: Vec<ContainerStatus> = member(&status, "initContainerStatuses");
        containers.extend(member::<Vec<ContainerStatus>>(&status, "containerStatuses"));
        Ok(Self {
            phase: member(&status, "phase"),
            reason: member(&status, "reason"),
            message: member(&status, "message"),
            conditions: member(&status, "conditions"),
            containers,
            death: PodStatusSeen::deserialize(&status).unwrap_or_default(),
        })
    }
}

/// A Job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// Its spec.
    pub(crate) spec: JobSpec,
    /// Its status.
    pub(crate) status: JobStatus,
}

/// What is read of a Job's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct JobSpec {
    /// It is not to run now.
    pub(crate) suspend: bool,
    /// How many of its pods are to succeed.
    pub(crate) completions: Option<u64>,
    /// What its pods are.
    pub(crate) template: Template,
}

/// What is read of a Job's template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    /// Its pods' spec.
    pub(crate) spec: TemplateSpec,
}

/// What is read of the spec in a Job's template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TemplateSpec {
    /// Those that run first.
    pub(crate) init_containers: Vec<Container>,
    /// The containers proper.
    pub(crate) containers: Vec<Container>,
}

/// What is read of a Job's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct JobStatus {
    /// Pods that run or are to.
    pub(crate) active: u64,
    /// Pods that have succeeded.
    pub(crate) succeeded: u64,
    /// Pods that have failed.
    pub(crate) failed: u64,
    /// When it began, as it was written.
    pub(crate) start_time: Option<String>,
    /// Its conditions.
    pub(crate) conditions: Vec<AnyCondition>,
}

impl JobSeen {
    /// Where it stands.
    pub(crate) fn state(&self) -> JobState {
        let true_ones = self.status.conditions.iter().filter(|condition| condition.status == "True");
        JobState::of(true_ones.map(|condition| condition.kind.as_str()), self.spec.suspend)
    }

    /// Since when, and why.
    pub(crate) fn since(&self) -> (Option<Timestamp>, Option<String>) {
        let wanted = match self.state() {
            JobState::Complete => "Complete",
            JobState::Failed => "Failed",
            JobState::Suspended => "Suspended",
            JobState::Active => "",
        };
        match self.status.conditions.iter().find(|condition| condition.kind == wanted && condition.status == "True") {
            Some(condition) => (condition.since(), condition.message.clone().filter(|text| !text.is_empty())),
            None => (self.status.start_time.as_ref().and_then(|at| at.parse().ok()), None),
        }
    }

    /// All its containers.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Container> {
        let TemplateSpec { init_containers, containers } = &self.spec.template.spec;
        init_containers.iter().chain(containers)
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// Its status.
    pub(crate) status: NodeStatus,
}

/// What is read of a node's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    /// Its conditions.
    pub(crate) conditions: Vec<AnyCondition>,
}

impl NodeSeen {
    /// Whether its kubelet is heard of, and since when that is so.
    pub(crate) fn ready(&self) -> Option<(bool, Option<Timestamp>)> {
        let ready = self.status.conditions.iter().find(|condition| condition.kind == "Ready")?;
        Some((ready.status == "True", ready.since()))
    }
}

/// The election's lease.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ElectionSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// Its spec.
    pub(crate) spec: ElectionSpec,
}

/// What is read of the election's lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ElectionSpec {
    /// Who leads.
    pub(crate) holder_identity: Option<String>,
    /// For how long after each renewal.
    pub(crate) lease_duration_seconds: Option<i64>,
    /// When the leader last renewed, as it wrote it.
    pub(crate) renew_time: Option<String>,
    /// Since when it leads, as it wrote it.
    pub(crate) acquire_time: Option<String>,
}

/// The operator's Deployment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeploymentSeen {
    /// Its metadata.
    pub(crate) metadata: Metadata,
    /// Its spec.
    pub(crate) spec: DeploymentSpec,
    /// Its status.
    pub(crate) status: DeploymentStatus,
}

/// What is read of a Deployment's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct DeploymentSpec {
    /// Replicas wanted.
    pub(crate) replicas: Option<i64>,
}

/// What is read of a Deployment's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeploymentStatus {
    /// Replicas that are ready.
    pub(crate) ready_replicas: i64,
}

/// When an object was created.
pub(crate) fn created(metadata: &Metadata) -> Option<Timestamp> {
    Some(metadata.created).filter(|at| *at != NO_TIME).and_then(|at| Timestamp::from_second(at).ok())
}

/// An object of one of the kinds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A permit or a lease request.
    Claim(Box<Claim>),
    /// A semaphore or a lease.
    Lock(Box<LockSeen>),
    /// A barrier.
    Barrier(Box<BarrierSeen>),
    /// An arrival.
    Arrival(Box<ArrivalSeen>),
    /// A gate.
    Gate(Box<GateSeen>),
    /// A pod.
    Pod(Box<PodSeen>),
    /// A Job.
    Job(Box<JobSeen>),
    /// A node.
    Node(Box<NodeSeen>),
    /// A namespace: only its metadata matters.
    Namespace(Box<Metadata>),
    /// The election's lease.
    Election(Box<ElectionSeen>),
    /// A Deployment.
    Deployment(Box<DeploymentSeen>),
    /// One that is there and cannot be read: its name, and why.
    Misfit(Box<Metadata>, String),
}

/// What has a name.
pub(crate) trait Named {
    /// Its name.
    fn name(&self) -> &str;
}

macro_rules! named {
    ($($kind:ty),*) => {$(
        impl Named for $kind {
            fn name(&self) -> &str {
                &self.metadata.name
            }
        }
    )*};
}

named!(Claim, LockSeen, BarrierSeen, GateSeen, PodSeen, JobSeen);
