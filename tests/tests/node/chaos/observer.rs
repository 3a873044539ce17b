//! What can be seen from outside while faults strike: claims and pods in the API, processes on the node.
//!
//! - A claim may stay for its TTL after its holder's end, and for a little time of the operator's: longer is a leak.
//! - A wrapper whose pod is gone from the API may run on until the kubelet sees it, or until what it holds is over: longer
//!   makes it an orphan.
//!
//! Both times count only while the API server answers, as nobody can do anything about either before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use konductor::Boottime;
use konductor_api::{ClaimPhase, LeaseRequest, LockClaim, Permit};
use konductor_sim::claims::Claims;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answered;
use super::jobs::LOCKS;
use crate::cluster::{LIMIT, Scene};
use crate::processes;

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(500);

/// What may come on top of a TTL: operators that are killed or stand still, new leaders that wait for a TTL anew, a kubelet
/// that stands still, on a busy machine.
const OVERHEAD: Duration = Duration::from_secs(90);

/// When something began that must not last.
#[derive(Clone, Copy, Debug)]
struct Since {
    at: Boottime,
    well: Duration,
}

/// A claim that was granted.
#[derive(Debug)]
struct Claim {
    uid: String,
    pod: String,
    /// Since when its holder is dead.
    dead: Option<Since>,
    /// When it was seen to be over.
    over: Option<Boottime>,
    /// How long it has stayed is known.
    is_counted: bool,
}

/// How a container has ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) pod: String,
    pub(super) code: i32,
    pub(super) reason: String,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By lock and fencing token.
    claims: BTreeMap<(&'static str, u64), Claim>,
    /// What each claim was, one after the other, by kind.
    pub(super) steps: BTreeMap<String, Claims>,
    /// By the container's id.
    pub(super) ends: BTreeMap<String, End>,
    strays: BTreeMap<String, Since>,
    /// Whether the API server has answered the last time.
    pub(super) answers: bool,
    /// How long it has answered.
    well: Duration,
    /// How long it has not.
    pub(super) unwell: Duration,
    /// The longest that a claim has stayed after its holder's end while the API server answered, in all, and which.
    pub(super) longest_kept: (Duration, Duration, String),
    /// The longest that a wrapper has run on after its pod was gone, and which.
    pub(super) longest_stray: (Duration, String),
    pub(super) leaks: BTreeSet<String>,
    pub(super) orphans: BTreeSet<String>,
}

/// Looks, as long as it exists.
pub(super) struct Observer {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Observer {
    pub(super) fn new(scene: &Scene) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch::<Permit>(scene.api(), "SEMAPHORE", seen.clone()));
        tasks.spawn(watch::<LeaseRequest>(scene.api(), "LEASE", seen.clone()));
        tasks.spawn(look(scene.client.clone(), scene.namespace.clone(), seen.clone()));
        Self { seen, _tasks: tasks }
    }

    /// What was seen so far.
    pub(super) fn with<T>(&self, tell: impl FnOnce(&Seen) -> T) -> T {
        tell(&self.seen.lock().expect("no look has panicked"))
    }
}

impl Seen {
    /// When a claim was seen to be over.
    pub(super) fn over(&self, lock: &'static str, token: u64) -> Option<Boottime> {
        self.claims.get(&(lock, token))?.over
    }

    /// A claim as it is now.
    fn see<K: LockClaim>(&mut self, kind: &str, claim: &K, gone: bool) {
        let name = format!("{kind}_{}", K::lock(claim.spec()).to_uppercase());
        let (Some(status), Some(uid), Some(lock)) =
            (claim.status(), claim.meta().uid.clone(), LOCKS.iter().find(|lock| lock.record == name))
        else {
            return;
        };
        let held = !gone && matches!(status.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking));
        let now = held.then_some((lock.record, status.fencing_token.unwrap_or_default()));
        let pod = K::claim(claim.spec()).pod.as_ref().map(|pod| pod.uid.clone()).unwrap_or_default();
        if let Some(key) = now {
            self.claims.entry(key).or_insert_with(|| Claim {
                uid: uid.clone(),
                pod,
                dead: None,
                over: None,
                is_counted: false,
            });
        }
        // Any other grant of the same claim is over.
        for (_, claim) in self.claims.iter_mut().filter(|(key, claim)| claim.uid == uid && now != Some(**key)) {
            claim.over.get_or_insert_with(Boottime::now);
        }
    }

    /// Those of this kind that are not there any more.
    fn see_all<K: LockClaim>(&mut self, kind: &str, all: &[K]) {
        let there: BTreeSet<_> = all.iter().filter_map(|claim| claim.meta().uid.clone()).collect();
        let of_kind =
            |(key, claim): &(&(&str, u64), &mut Claim)| key.0.starts_with(kind) && !there.contains(&claim.uid);
        for (_, claim) in self.claims.iter_mut().filter(of_kind) {
            claim.over.get_or_insert_with(Boottime::now);
        }
        for claim in all {
            self.see(kind, claim, false);
        }
    }

    /// The pods of the API, none when it did not answer, and those on the node in which a wrapper runs.
    fn look(&mut self, pods: Option<&[Pod]>, running: &BTreeSet<String>, passed: Duration) {
        self.answers = pods.is_some();
        *(if self.answers { &mut self.well } else { &mut self.unwell }) += passed;
        let now = Since { at: Boottime::now(), well: self.well };
        for ((lock, token), claim) in &mut self.claims {
            if running.contains(&claim.pod) {
                claim.dead = None;
                continue;
            }
            let dead = *claim.dead.get_or_insert(now);
            let kept = self.well.saturating_sub(dead.well);
            if let Some(over) = claim.over {
                if !claim.is_counted && over > dead.at {
                    let whole = over.since(dead.at);
                    let longest = std::mem::take(&mut self.longest_kept);
                    self.longest_kept = longest.max((kept.min(whole), whole, format!("{lock} {token}")));
                }
                claim.is_counted = true;
                continue;
            }
            let ttl = LOCKS.iter().find(|of| of.record == *lock).map_or(0, |of| of.ttl);
            if kept > Duration::from_secs(ttl) + OVERHEAD {
                self.leaks.insert(format!("{lock}, token {token}, of pod {}, dead since {}", claim.pod, dead.at));
            }
        }
        let Some(pods) = pods else { return };
        let known: BTreeSet<_> = pods.iter().filter_map(ResourceExt::uid).collect();
        let strays: BTreeSet<_> = running.difference(&known).cloned().collect();
        self.strays.retain(|pod, since| {
            let lasted = now.at.since(since.at);
            self.longest_stray = std::mem::take(&mut self.longest_stray).max((lasted, pod.clone()));
            strays.contains(pod)
        });
        for pod in strays {
            let since = *self.strays.entry(pod.clone()).or_insert(now);
            if self.well.saturating_sub(since.well) > OVERHEAD {
                self.orphans.insert(format!("pod {pod}, gone since {}", since.at));
            }
        }
        for pod in pods {
            let name = pod.name_any();
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let states = statuses.flat_map(|status| [&status.state, &status.last_state]).flatten();
            for end in states.filter_map(|state| state.terminated.as_ref()) {
                // One whose end nobody has seen has no id.
                let id = end.container_id.clone().unwrap_or_else(|| name.clone());
                let reason = end.reason.clone().unwrap_or_default();
                self.ends.entry(id).or_insert(End { pod: name.clone(), code: end.exit_code, reason });
            }
        }
    }
}

/// Looks at pods and processes.
async fn look(client: Client, namespace: String, seen: Arc<Mutex<Seen>>) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut last = Boottime::now();
    loop {
        // Processes first: a pod is in the API before it runs.
        let running = processes::wrappers(&namespace).into_iter().map(|wrapper| wrapper.pod).collect();
        let found = answered(pods.list(&ListParams::default())).await;
        let now = Boottime::now();
        let passed = now.since(last);
        last = now;
        seen.lock().expect("nobody has panicked").look(found.as_ref().map(|list| &list.items[..]), &running, passed);
        sleep(LOOK).await;
    }
}

fn value(claim: &impl Serialize) -> Value {
    serde_json::to_value(claim).expect("a claim is plain data")
}

/// Writes down when claims are granted and over.
async fn watch<K>(claims: Api<K>, kind: &'static str, seen: Arc<Mutex<Seen>>)
where
    K: LockClaim + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    loop {
        // While the API server is away nothing is seen; what ends meanwhile is then seen late, or not at all.
        let _ = timeout(LIMIT, watch_once(&claims, kind, &seen)).await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn watch_once<K>(claims: &Api<K>, kind: &str, seen: &Mutex<Seen>) -> Option<()>
where
    K: LockClaim + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let all = answered(claims.list(&ListParams::default())).await?;
    {
        let mut seen = seen.lock().expect("nobody has panicked");
        seen.steps.entry(kind.to_owned()).or_default().list(all.items.iter().map(value));
        seen.see_all(kind, &all.items);
    }
    let version = all.metadata.resource_version.unwrap_or_default();
    let mut events = std::pin::pin!(claims.watch(&WatchParams::default(), &version).await.ok()?);
    while let Some(event) = events.try_next().await.ok()? {
        let (claim, gone) = match event {
            WatchEvent::Added(claim) | WatchEvent::Modified(claim) => (claim, false),
            WatchEvent::Deleted(claim) => (claim, true),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(_) => return None,
        };
        let mut seen = seen.lock().expect("nobody has panicked");
        seen.steps.entry(kind.to_owned()).or_default().see(value(&claim), gone);
        seen.see(kind, &claim, gone);
    }
    Some(())
}

mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::object;

    const SECOND: Duration = Duration::from_secs(1);

    /// The claim `uid` of this pod on the semaphore `one`, of 10 s.
    fn claim(phase: &str, token: u64) -> Permit {
        object(json!({
            "metadata": { "name": "c", "uid": "c" },
            "spec": { "semaphore": "one", "holder": "h", "instance": "i", "pod": { "name": "p", "uid": "pod" } },
            "status": { "phase": phase, "fencingToken": token },
        }))
    }

    fn pods(uids: &[&str]) -> Vec<Pod> {
        uids.iter().map(|uid| object(json!({ "metadata": { "name": uid, "uid": uid } }))).collect()
    }

    fn running(uids: &[&str]) -> BTreeSet<String> {
        uids.iter().map(|uid| (*uid).to_owned()).collect()
    }

    #[test]
    fn a_claim_that_stays_too_long_after_its_holders_end_has_leaked() {
        let mut seen = Seen::default();
        seen.see("SEMAPHORE", &claim("Granted", 7), false);
        seen.look(Some(&pods(&["pod"])), &running(&["pod"]), 1000 * SECOND);
        seen.look(Some(&pods(&["pod"])), &running(&[]), SECOND);
        // Time in which nobody answers does not count.
        seen.look(None, &running(&[]), 1000 * SECOND);
        seen.look(Some(&pods(&["pod"])), &running(&[]), 10 * SECOND + OVERHEAD);
        assert!(seen.leaks.is_empty(), "{:?}", seen.leaks);
        seen.look(Some(&pods(&["pod"])), &running(&[]), SECOND);
        assert_eq!(seen.leaks.len(), 1, "{:?}", seen.leaks);
    }

    #[test]
    fn a_claim_that_is_over_in_time_has_not() {
        for (phase, token, gone) in
            [("Expired", 7, false), ("Granted", 7, true), ("Pending", 7, false), ("Granted", 8, false)]
        {
            let mut seen = Seen::default();
            seen.see("SEMAPHORE", &claim("Granted", 7), false);
            seen.look(Some(&pods(&[])), &running(&[]), SECOND);
            assert_eq!(seen.over("SEMAPHORE_ONE", 7), None);
            seen.see("SEMAPHORE", &claim(phase, token), gone);
            assert!(seen.over("SEMAPHORE_ONE", 7).is_some(), "{phase} {token} {gone}");
            // Of the other grant it is a leak all the same.
            seen.look(Some(&pods(&[])), &running(&[]), SECOND);
            seen.look(Some(&pods(&[])), &running(&[]), 1000 * SECOND);
            assert_eq!(seen.leaks.len(), usize::from(token == 8), "{:?}", seen.leaks);
        }
    }

    #[test]
    fn a_claim_that_is_not_in_the_list_any_more_is_over() {
        let mut seen = Seen::default();
        seen.see_all("SEMAPHORE", &[claim("Granted", 7)]);
        seen.see_all::<LeaseRequest>("LEASE", &[]);
        assert_eq!(seen.over("SEMAPHORE_ONE", 7), None, "it is of the other kind");
        seen.see_all::<Permit>("SEMAPHORE", &[]);
        assert!(seen.over("SEMAPHORE_ONE", 7).is_some());
    }

    #[test]
    fn a_wrapper_that_outlives_its_pod_is_an_orphan() {
        let mut seen = Seen::default();
        seen.look(Some(&pods(&["a"])), &running(&["a", "b"]), SECOND);
        seen.look(Some(&pods(&["a"])), &running(&["a", "b"]), OVERHEAD);
        assert!(seen.orphans.is_empty(), "{:?}", seen.orphans);
        seen.look(None, &running(&["a", "b"]), 1000 * SECOND);
        assert!(seen.orphans.is_empty(), "{:?}", seen.orphans);
        seen.look(Some(&pods(&["a"])), &running(&["a"]), OVERHEAD);
        assert!(seen.orphans.is_empty(), "it has ended: {:?}", seen.orphans);
        seen.look(Some(&pods(&["a"])), &running(&["a", "b"]), SECOND);
        seen.look(Some(&pods(&["a"])), &running(&["a", "b"]), OVERHEAD + SECOND);
        assert_eq!(seen.orphans.len(), 1, "{:?}", seen.orphans);
        assert!(seen.orphans.iter().all(|orphan| orphan.starts_with("pod b")), "{:?}", seen.orphans);
    }
}
