//! Events about the pods of claims, and about their Jobs: where people look who wonder why nothing happens.
//!
//! A claim says itself which pod it speaks for, and where no admission policy checks that, it may be a lie. So an event
//! goes into the claim's own namespace only, and only if a pod of that name and UID is there: whoever may create a claim
//! there can make a pod that is there already be told of, and nothing else. What the pod belongs to is read from it, by
//! one request a pod as long as it is remembered, and never more than one at a time.
//!
//! As all events they are a courtesy, and more easily left out than those about locks: they have a queue, a pace and
//! shares of namespaces of their own.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use konductor_cluster::{
    Endpoint, Program, RequestError,
    object::{Described, Lenient, Metadata, Object},
};
use kube::{Client, Resource};
use serde::de::IgnoredAny;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{
    events::{News, Severity, WRITE_TIMEOUT, Waiting, Writer, reference, taken},
    metrics::Metrics,
};

/// Least time between two of these news on average. Each is up to three requests; so few a second are nothing beside
/// what starting a pod costs an API server, and as many as a person could follow.
const PACE: Duration = Duration::from_millis(200);

/// Pods whose owners are remembered: those that were told that they wait are told soon what became of that.
const REMEMBERED: usize = 1024;

/// What to tell the people of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimantNews {
    /// The claim's namespace.
    pub(crate) namespace: String,
    /// The name of the pod that the claim names, ...
    pub(crate) pod: String,
    /// ... and its UID.
    pub(crate) uid: String,
    /// Whether to look closer.
    pub(crate) severity: Severity,
    /// In one word.
    pub(crate) reason: &'static str,
    /// What the operator did: a verb.
    pub(crate) action: &'static str,
    /// In a sentence.
    pub(crate) note: String,
}

/// What a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// A Job with this name and UID.
    Job(String, String),
    /// Nothing that is told of.
    Other,
    /// There is no such pod: the claim is wrong, or the pod is gone.
    NoPod,
}

impl Owner {
    /// The owner of the pod with this UID, if that is what was found.
    fn found(pod: &Metadata, uid: &str) -> Self {
        if pod.uid != uid {
            return Self::NoPod;
        }
        let is_job = |api_version: &str, kind: &str| kind == Job::kind(&()) && api_version == Job::api_version(&());
        let job = pod.owners.iter().find(|owner| is_job(&owner.api_version, &owner.kind));
        job.map_or(Self::Other, |job| Self::Job(job.name.clone(), job.uid.clone()))
    }
}

/// A pod as a claim says it: its namespace, name and UID. Somebody else may say the UID with another name.
type Claimed = (String, String, String);

/// The owners of pods that were looked up last.
#[derive(Default)]
struct Owners {
    known: HashMap<Claimed, Owner>,
    in_order: VecDeque<Claimed>,
}

impl Owners {
    fn remember(&mut self, pod: Claimed, owner: Owner) {
        if self.known.insert(pod.clone(), owner).is_none() {
            self.in_order.push_back(pod);
        }
        if self.in_order.len() > REMEMBERED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The events that these news make.
fn events(news: &ClaimantNews, owner: &Owner) -> Vec<News> {
    let ClaimantNews { namespace, pod, uid, severity, reason, action, note } = news;
    let event = |regarding, note: String| News { regarding, severity: *severity, reason, action, note };
    let of_pod = || event(reference::<Pod>(namespace, pod, uid), note.clone());
    match owner {
        Owner::NoPod => Vec::new(),
        Owner::Other => vec![of_pod()],
        Owner::Job(name, uid) => {
            let of_job = event(reference::<Job>(namespace, name, uid), format!("pod {pod}: {note}"));
            vec![of_pod(), of_job]
        }
    }
}

/// Tells what comes, until nobody can hand in any more.
pub(crate) async fn publish(
    client: Client,
    writer: Writer,
    mut queue: mpsc::Receiver<ClaimantNews>,
    waiting: Waiting,
    metrics: Arc<Metrics>,
) {
    let mut owners = Owners::default();
    while let Some(news) = queue.recv().await {
        taken(&waiting, &news.namespace);
        let next = Instant::now() + PACE;
        let pod = (news.namespace.clone(), news.pod.clone(), news.uid.clone());
        let owner = match owners.known.get(&pod) {
            Some(owner) => Some(owner.clone()),
            None => look_up(&client, &news).await,
        };
        match owner {
            Some(owner) => {
                if owner == Owner::NoPod {
                    debug!(namespace = news.namespace, pod = news.pod, uid = news.uid, "no such pod to tell of");
                }
                for event in events(&news, &owner) {
                    writer.write(event).await;
                }
                owners.remember(pod, owner);
            }
            None => {
                metrics.events_dropped.inc();
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

/// One read of the pod that the news are about; `None` if there was no answer that says anything.
async fn look_up(client: &Client, news: &ClaimantNews) -> Option<Owner> {
    let pods: Endpoint<Pod, IgnoredAny, IgnoredAny> =
        Endpoint::namespaced(client.clone(), Program::OPERATOR, &news.namespace);
    let found: Result<Lenient<Object<Pod>>, RequestError> = timeout(WRITE_TIMEOUT, pods.get(&news.pod)).await.ok()?;
    match found {
        Ok(pod) => Some(Owner::found(pod.metadata(), &news.uid)),
        Err(error) if error.is_absent(&news.pod) => Some(Owner::NoPod),
        // No pod can have such a name.
        Err(RequestError::Unsendable(_)) => Some(Owner::NoPod),
        Err(error) => {
            debug!(namespace = news.namespace, pod = news.pod, "the pod of a claim was not read: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata(owners: &Value) -> Metadata {
        let pod = json!({ "metadata": { "namespace": "n", "name": "p", "uid": "u", "ownerReferences": owners } });
        Object::<Pod>::read(&pod.to_string()).expect("a pod").metadata().clone()
    }

    fn owner(api_version: &str, kind: &str) -> Value {
        json!({ "apiVersion": api_version, "kind": kind, "name": "etl", "uid": "job-uid", "controller": true })
    }

    fn about(owner: &Owner) -> Vec<String> {
        let news = ClaimantNews {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            severity: Severity::Normal,
            reason: "Waiting",
            action: "Write",
            note: "waits".into(),
        };
        let told = |news: News| {
            let about = news.regarding;
            let [kind, namespace, name, uid] = [about.kind, about.namespace, about.name, about.uid].map(Option::unwrap);
            format!("{kind} {namespace}/{name} {uid}: {}", news.note)
        };
        events(&news, owner).into_iter().map(told).collect()
    }

    #[test]
    fn a_pod_is_told_of_and_the_job_that_it_belongs_to() {
        let job = Owner::found(&metadata(&json!([owner("apps/v1", "ReplicaSet"), owner("batch/v1", "Job")])), "u");
        assert_eq!(about(&job), ["Pod n/p u: waits", "Job n/etl job-uid: pod p: waits"]);
        for owners in [json!([]), json!([owner("example.com/v1", "Job")]), json!([owner("apps/v1", "ReplicaSet")])] {
            assert_eq!(about(&Owner::found(&metadata(&owners), "u")), ["Pod n/p u: waits"], "{owners}");
        }
    }

    #[test]
    fn of_a_pod_that_is_another_one_nothing_is_told() {
        let pod = metadata(&json!([owner("batch/v1", "Job")]));
        assert!(about(&Owner::found(&pod, "somebody-elses")).is_empty());
    }

    #[test]
    fn the_owners_of_so_many_pods_are_remembered() {
        let mut owners = Owners::default();
        for number in 0..REMEMBERED + 10 {
            for _ in 0..2 {
                owners.remember(("n".into(), "p".into(), number.to_string()), Owner::Other);
            }
        }
        assert_eq!((owners.known.len(), owners.in_order.len()), (REMEMBERED, REMEMBERED));
        assert!(!owners.known.contains_key(&("n".into(), "p".into(), "9".into())));
    }
}
