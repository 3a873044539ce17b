//! Watches on demand: a kind of object is followed while some gate needs it, and forgotten when none does any more.

use std::collections::{HashMap, HashSet};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use konductor_api::{
    Barrier, GATES_FROM_ANNOTATION, Lease, Rendezvous, Selector, Semaphore,
    rendezvous::fact::{Dependency, Fact, JobState},
};
use kube::{
    Api, Client, Resource,
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::mpsc, task::AbortHandle};

use super::Gates;
use crate::rendezvous::Sight;
use konductor_cluster::{
    Lenient, partial,
    watch::{Seen, Source},
};

/// Jobs in one page of a list: with their pod templates and managed fields they are some kilobytes each.
const JOB_PAGE: u32 = 100;

/// Other objects in one page of a list.
const PAGE: u32 = 500;

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Objects of a kind; gates themselves are always known.
    Objects(Dependency),
    /// Which namespaces let others look.
    Namespaces,
}

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(super) labels: Box<[(Box<str>, Box<str>)]>,
    pub(super) created: i64,
    pub(super) fact: Fact,
}

impl Outline {
    /// With this fact, of an object with this metadata.
    pub(super) fn new(metadata: &ObjectMeta, fact: Fact) -> Self {
        let labels = metadata.labels.iter().flatten();
        Self {
            labels: labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
            created: metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second()),
            fact,
        }
    }

    /// Whether this selects it.
    pub(super) fn is_selected_by(&self, selector: &Selector) -> bool {
        selector.matches(|key| self.labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value))
    }
}

fn semaphore(Semaphore { metadata, status, .. }: &Semaphore) -> Outline {
    let status = status.as_ref().filter(|status| status.observed_generation == metadata.generation);
    let fact = status.and_then(|status| Some((status.phase?, status.available.unwrap_or(0))));
    Outline::new(metadata, Fact::Semaphore(fact))
}

fn lease(Lease { metadata, status, .. }: &Lease) -> Outline {
    let status = status.as_ref().filter(|status| status.observed_generation == metadata.generation);
    Outline::new(metadata, Fact::Lease(status.and_then(|status| status.phase)))
}

/// Of a barrier or gate.
pub(super) fn rendezvous(object: &impl Rendezvous) -> Outline {
    Outline::new(object.meta(), Fact::Rendezvous(object.current_phase()))
}

/// An object that was seen.
#[derive(Debug)]
pub(super) struct Sighted {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) content: Content,
}

/// What was seen of it.
#[derive(Debug)]
pub(super) enum Content {
    Object(Outline),
    /// The annotation of a namespace, if it has one.
    Namespace(Option<String>),
}

/// What a watch for gates saw.
#[derive(Debug)]
pub(crate) struct GateSight {
    pub(super) subject: Subject,
    pub(super) number: u32,
    pub(super) seen: Seen<Sighted>,
}

struct Following {
    task: AbortHandle,
    number: u32,
}

/// The watches.
pub(super) struct Sources {
    client: Client,
    inbox: mpsc::Sender<Sight<Gates>>,
    following: HashMap<Subject, Following>,
    /// Tells a watch from one that was ended before.
    number: u32,
}

impl Sources {
    pub(super) fn new(client: Client, inbox: mpsc::Sender<Sight<Gates>>) -> Self {
        Self { client, inbox, following: HashMap::new(), number: 0 }
    }

    /// Follows exactly these. Returns what is not followed any more.
    pub(super) fn follow(&mut self, wanted: &HashSet<Subject>) -> Vec<Subject> {
        let ended: Vec<_> = self.following.keys().filter(|subject| !wanted.contains(subject)).copied().collect();
        for subject in &ended {
            if let Some(following) = self.following.remove(subject) {
                following.task.abort();
            }
        }
        for subject in wanted {
            if !self.following.contains_key(subject) {
                self.number += 1;
                let (task, number) = (self.start(*subject), self.number);
                self.following.insert(*subject, Following { task, number });
            }
        }
        ended
    }

    /// Whether this was seen by a watch that is still wanted.
    pub(super) fn is_current(&self, sight: &GateSight) -> bool {
        self.following.get(&sight.subject).is_some_and(|following| following.number == sight.number)
    }

    fn start(&self, subject: Subject) -> AbortHandle {
        let objects = Content::Object;
        match subject {
            Subject::Objects(Dependency::Job) => {
                self.spawn(subject, JOB_PAGE, move |job: &PartialJob| objects(Outline::new(&job.metadata, job.fact())))
            }
            Subject::Objects(Dependency::Semaphore) => self.spawn(subject, PAGE, move |one| objects(semaphore(one))),
            Subject::Objects(Dependency::Lease) => self.spawn(subject, PAGE, move |one| objects(lease(one))),
            Subject::Objects(Dependency::Barrier) => {
                self.spawn(subject, PAGE, move |one: &Barrier| objects(rendezvous(one)))
            }
            Subject::Objects(Dependency::Gate) => unreachable!("the engine follows gates"),
            Subject::Namespaces => self.spawn(subject, PAGE, |namespace: &PartialNamespace| {
                let annotations = namespace.metadata.annotations.as_ref();
                Content::Namespace(annotations.and_then(|all| all.get(GATES_FROM_ANNOTATION)).cloned())
            }),
        }
    }

    fn spawn<K>(&self, subject: Subject, page: u32, read: impl Fn(&K) -> Content + Send + Sync + 'static) -> AbortHandle
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
        let number = self.number;
        let reduce = move |object: Lenient<K>| {
            let metadata = object.metadata();
            let content = match &object.0 {
                Ok(object) => read(object),
                // Where the namespace cannot be read, it allows nothing.
                Err(_) if subject == Subject::Namespaces => Content::Namespace(None),
                Err(_) => Content::Object(Outline::new(metadata, Fact::Unreadable)),
            };
            let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
            Sighted { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default(), content }
        };
        let source: Source<K> = Source { api: Api::all(self.client.clone()), fields: None, page };
        let sight =
            move |seen: Seen<Lenient<K>>| Some(Sight::Other(GateSight { subject, number, seen: seen.map(&reduce) }));
        tokio::spawn(source.follow(self.inbox.clone(), sight)).abort_handle()
    }
}

/// What is read of a Job.
#[derive(Clone, Debug, Deserialize)]
struct PartialJob {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PartialJobSpec,
    #[serde(default)]
    status: PartialJobStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PartialJobSpec {
    suspend: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PartialJobStatus {
    conditions: Option<Vec<PartialCondition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct PartialCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl PartialJob {
    fn fact(&self) -> Fact {
        let conditions = self.status.conditions.iter().flatten();
        let true_ones = conditions.filter(|condition| condition.status == "True");
        Fact::Job(JobState::of(true_ones.map(|condition| condition.kind.as_str()), self.spec.suspend.unwrap_or(false)))
    }
}

partial!(PartialJob, of Job, in NamespaceResourceScope);

/// What is read of a namespace.
#[derive(Clone, Debug, Deserialize)]
struct PartialNamespace {
    metadata: ObjectMeta,
}

partial!(PartialNamespace, of Namespace, in ClusterResourceScope);

#[cfg(test)]
mod tests {
    use konductor_api::{Gate, LeasePhase, RendezvousPhase, SemaphorePhase};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_counts_for_the_spec_that_it_answers_only() {
        let spec = json!({ "permits": 1, "expected": 1, "conditions": [] });
        for (observed, known) in [(json!(2), true), (json!(1), false), (json!(3), false), (json!(null), false)] {
            let object = |phase: &str| {
                json!({
                    "metadata": { "name": "x", "generation": 2 }, "spec": spec,
                    "status": { "phase": phase, "available": 1, "observedGeneration": observed },
                })
                .to_string()
            };
            let facts = [
                semaphore(&serde_json::from_str(&object("Available")).expect("a semaphore")),
                lease(&serde_json::from_str(&object("Held")).expect("a lease")),
                rendezvous(&serde_json::from_str::<Barrier>(&object("Open")).expect("a barrier")),
                rendezvous(&serde_json::from_str::<Gate>(&object("Waiting")).expect("a gate")),
            ];
            let expected = [
                Fact::Semaphore(known.then_some((SemaphorePhase::Available, 1))),
                Fact::Lease(known.then_some(LeasePhase::Held)),
                Fact::Rendezvous(known.then_some(RendezvousPhase::Open)),
                Fact::Rendezvous(known.then_some(RendezvousPhase::Waiting)),
            ];
            assert_eq!(facts.map(|outline| outline.fact), expected, "{observed}");
        }
    }

    #[test]
    fn a_job_is_what_its_controller_says_last() {
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "message": "m" });
        for (suspend, conditions, expected) in [
            (json!(null), json!(null), JobState::Active),
            (json!(true), json!([]), JobState::Suspended),
            (json!(false), json!([condition("Suspended", "False")]), JobState::Active),
            (json!(false), json!([condition("SuccessCriteriaMet", "True")]), JobState::Active),
            (json!(false), json!([condition("FailureTarget", "True")]), JobState::Active),
            (
                json!(null),
                json!([condition("SuccessCriteriaMet", "True"), condition("Complete", "True")]),
                JobState::Complete,
            ),
            (json!(null), json!([condition("FailureTarget", "True"), condition("Failed", "True")]), JobState::Failed),
            (json!(null), json!([condition("Failed", "False")]), JobState::Active),
            (json!(true), json!([condition("Complete", "True")]), JobState::Complete),
        ] {
            let job = json!({
                "metadata": { "name": "j" }, "spec": { "suspend": suspend, "template": { "spec": {} } },
                "status": { "conditions": conditions, "succeeded": 1, "failed": 1 },
            });
            let job: PartialJob = serde_json::from_str(&job.to_string()).expect("a Job");
            assert_eq!(job.fact(), Fact::Job(expected), "{suspend} {conditions}");
        }
        let bare: PartialJob = serde_json::from_str(r#"{ "metadata": {} }"#).expect("a Job");
        assert_eq!(bare.fact(), Fact::Job(JobState::Active));
    }
}
