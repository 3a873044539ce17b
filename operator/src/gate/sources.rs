//! Watches on demand: a kind of object is followed while some gate needs it, and forgotten when none does any more.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{batch::v1::Job, core::v1::Namespace};
use konductor_api::{
    Barrier, GATES_FROM_ANNOTATION, Gate, GateSpec, GateStatus, Lease, Selector, Semaphore,
    rendezvous::fact::{Dependency, Evidence, Fact, JobState},
};
use konductor_cluster::{
    follow::Event,
    object::{Described, Lenient, Metadata, Object},
};
use kube::{Resource, core::object::HasStatus};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::Gates;
use crate::{engine::Common, waitable, watching};

/// Jobs in one page of a list: with their pod templates and managed fields they are some kilobytes each.
pub(super) const JOB_PAGE: u32 = 100;

/// Other objects in one page of a list.
pub(super) const PAGE: u32 = 500;

/// Labels of an object that are kept: more than anybody gives one. Each change of it costs looks at them for all that
/// gates ask where it is.
const LABELS: usize = 256;

/// What is read of a gate.
pub(crate) type GateObject = Object<Gate, GateSpec, Option<GateStatus>>;

/// What is read of another object of Konductor's own.
pub(super) type OwnObject<K> = Object<K, IgnoredAny, Option<<K as HasStatus>::Status>>;

pub(super) type JobObject = Object<Job, JobSpec, JobStatus>;

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// Objects of a kind; gates themselves are always known.
    Objects(Dependency),
    /// Which namespaces let others look.
    Namespaces,
}

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// By name, in order.
    pub(super) labels: Box<[(Box<str>, Box<str>)]>,
    pub(super) created: i64,
    pub(super) fact: Fact,
}

impl Outline {
    /// With this fact, of an object with this metadata.
    pub(super) fn new(metadata: &Metadata, fact: Fact) -> Self {
        let labels =
            metadata.labels.iter().take(LABELS).map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        Self { labels: labels.collect(), created: metadata.created, fact }
    }

    /// Whether this selects it.
    pub(super) fn is_selected_by(&self, selector: &Selector) -> bool {
        selector.matches(|key| {
            let found = self.labels.binary_search_by(|(name, _)| (**name).cmp(key));
            found.ok().map(|at| &*self.labels[at].1)
        })
    }
}

/// Of an object of Konductor's own.
pub(super) fn own<K, S, T: Evidence>(object: &Object<K, S, Option<T>>) -> Outline {
    let Object { metadata, status, .. } = object;
    Outline::new(metadata, Fact::of(status.as_ref(), metadata.generation))
}

pub(super) fn job(JobObject { metadata, spec, status, .. }: &JobObject) -> Outline {
    let true_ones = status.conditions.iter().flatten().filter(|condition| condition.status == "True");
    let state = JobState::of(true_ones.map(|condition| condition.kind.as_str()), spec.suspend.unwrap_or(false));
    Outline::new(metadata, Fact::Job(state))
}

/// An object that was seen.
#[derive(Debug)]
pub(super) struct Sighted {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) content: Content,
}

/// What was seen of it.
#[derive(Debug)]
pub(super) enum Content {
    Object(Outline),
    /// The annotation of a namespace, if it has one.
    Namespace(Option<String>),
}

/// What was seen for gates.
#[derive(Debug)]
pub(crate) enum GateSeen {
    Watched(Watched),
    Listed(Listed),
}

/// What the list of one namespace has shown.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(super) wish: Wish,
    pub(super) shown: Shown,
}

/// A part of what a list shows.
#[derive(Debug)]
pub(super) enum Shown {
    One(Sighted),
    /// That was all that there was at this version; at [`NO_VERSION`](konductor_cluster::object::NO_VERSION) where
    /// something could not be read, so that what was not shown may be there all the same.
    All(u64),
}

/// A namespace whose objects of a kind are to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) kind: Dependency,
    pub(super) place: String,
    /// Tells it from an earlier one.
    pub(super) number: u32,
}

/// What a watch has shown.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(super) subject: Subject,
    pub(super) number: u32,
    pub(super) event: Event<Sighted>,
}

/// Begins to follow a subject, as the watch of this number.
type Start = Box<dyn Fn(Subject, u32) -> AbortHandle + Send>;

struct Following {
    task: AbortHandle,
    number: u32,
}

/// The watches.
pub(super) struct Sources {
    start: Start,
    following: BTreeMap<Subject, Following>,
    /// Tells a watch from one that was ended before.
    number: u32,
}

impl Sources {
    pub(super) fn new(start: Start) -> Self {
        Self { start, following: BTreeMap::new(), number: 0 }
    }

    /// Follows exactly these. Returns what is not followed any more.
    pub(super) fn follow(&mut self, wanted: &BTreeSet<Subject>) -> Vec<Subject> {
        let ended: Vec<_> = self.following.keys().filter(|subject| !wanted.contains(subject)).copied().collect();
        for subject in &ended {
            if let Some(following) = self.following.remove(subject) {
                following.task.abort();
            }
        }
        for subject in wanted {
            if !self.following.contains_key(subject) {
                self.number += 1;
                let (task, number) = ((self.start)(*subject, self.number), self.number);
                self.following.insert(*subject, Following { task, number });
            }
        }
        ended
    }

    /// Whether this was seen by a watch that is still wanted.
    pub(super) fn is_current(&self, seen: &Watched) -> bool {
        self.following.get(&seen.subject).is_some_and(|following| following.number == seen.number)
    }
}

/// Starts watches whose events come to this inbox.
pub(super) fn watches(common: &Common, inbox: mpsc::Sender<waitable::Seen<Gates>>) -> Start {
    let common = common.clone();
    Box::new(move |subject, number| {
        let watch = Watch { common: &common, inbox: &inbox, subject, number };
        match subject {
            Subject::Objects(Dependency::Job) => watch.follow(JOB_PAGE, |one: &JobObject| Content::Object(job(one))),
            Subject::Objects(Dependency::Semaphore) => watch.follow_own::<Semaphore>(),
            Subject::Objects(Dependency::Lease) => watch.follow_own::<Lease>(),
            Subject::Objects(Dependency::Barrier) => watch.follow_own::<Barrier>(),
            Subject::Objects(Dependency::Gate) => unreachable!("the engine follows gates"),
            Subject::Namespaces => watch.follow(PAGE, |namespace: &Object<Namespace>| {
                Content::Namespace(namespace.metadata.annotations.get(GATES_FROM_ANNOTATION).cloned())
            }),
        }
    })
}

struct Watch<'a> {
    common: &'a Common,
    inbox: &'a mpsc::Sender<waitable::Seen<Gates>>,
    subject: Subject,
    number: u32,
}

impl Watch<'_> {
    fn follow_own<K>(&self) -> AbortHandle
    where
        K: Resource<DynamicType = ()> + HasStatus<Status: Evidence + DeserializeOwned + Send> + Send + 'static,
    {
        self.follow(PAGE, |one: &OwnObject<K>| Content::Object(own(one)))
    }

    fn follow<K, S, T>(
        &self,
        page: u32,
        read: impl Fn(&Object<K, S, T>) -> Content + Send + Sync + 'static,
    ) -> AbortHandle
    where
        K: Resource<DynamicType = ()> + Send + 'static,
        S: DeserializeOwned + Send + 'static,
        T: DeserializeOwned + Default + Send + 'static,
    {
        let (subject, number) = (self.subject, self.number);
        let keep = move |object: Lenient<Object<K, S, T>>| sighted(subject, &object, &read);
        watching::follow(self.common, None, page, self.inbox.clone(), keep, move |event| {
            waitable::Seen::Other(GateSeen::Watched(Watched { subject, number, event }))
        })
    }
}

/// What is kept of an object that was seen.
pub(super) fn sighted<K, S, T>(
    subject: Subject,
    object: &Lenient<Object<K, S, T>>,
    read: impl Fn(&Object<K, S, T>) -> Content,
) -> Sighted {
    let metadata = object.metadata();
    let content = match object {
        Ok(object) => read(object),
        // Where the namespace cannot be read, it allows nothing.
        Err(_) if subject == Subject::Namespaces => Content::Namespace(None),
        Err(_) => Content::Object(Outline::new(metadata, Fact::Unreadable)),
    };
    let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
    Sighted { namespace, name, version: metadata.version, content }
}

/// What is read of a Job's spec.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct JobSpec {
    suspend: Option<bool>,
}

/// What is read of a Job's status.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct JobStatus {
    conditions: Option<Vec<JobCondition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct JobCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[cfg(test)]
mod tests {
    use konductor_api::{LeasePhase, RendezvousPhase, SemaphorePhase};
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
                own(&OwnObject::<Semaphore>::read(&object("Available")).expect("an object").expect("a semaphore")),
                own(&OwnObject::<Lease>::read(&object("Held")).expect("an object").expect("a lease")),
                own(&OwnObject::<Barrier>::read(&object("Open")).expect("an object").expect("a barrier")),
                own(&GateObject::read(&object("Waiting")).expect("an object").expect("a gate")),
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
            let found = JobObject::read(&job.to_string()).expect("an object").expect("a Job");
            assert_eq!(super::job(&found).fact, Fact::Job(expected), "{suspend} {conditions}");
        }
        let bare = JobObject::read(r#"{ "metadata": { "name": "j" } }"#).expect("an object").expect("a Job");
        assert_eq!(super::job(&bare).fact, Fact::Job(JobState::Active));
    }
}
