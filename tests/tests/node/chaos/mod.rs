//! Jobs on the real node under random faults, for as long as one likes, with a seed that says which faults:
//! `tests/node/chaos`.
//!
//! What is hit: wrappers and their watchdogs (killed, frozen, terminated), whole containers (frozen), pods (deleted, and by
//! force), operators, the kubelet, the API server and etcd (killed, frozen, away for a while). What is checked, from what
//! the commands wrote down and what the API and the node's processes showed:
//!
//! - never more hold than there are permits ([`records::over_admitted`]), and a command is dead before its claim is seen
//!   expired or gone: no over-admissions;
//! - a claim is over within its TTL and a little time of the operator's after its holder's end: no leaks;
//! - no wrapper outlives its pod: no orphans;
//! - each claim goes from state to state as it may, and keeps its ticket, as in the simulation;
//! - a barrier opens when all have ended well who were to arrive, and whoever waits for it runs then;
//! - every Job gets its end, a complete one has run, and each container ends with a code that its end explains.
//!
//! The seed decides what is done, and to whom as far as it is there; how the processes interleave is up to the machine. So
//! a run can be repeated in kind, not exactly.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use konductor::Boottime;
use konductor_api::{GoDuration, Lease};
use konductor_sim::claims::Claims;
use konductor_tests::{Chance, eventually, setting};
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::cluster::{LIMIT, Scene, object};
use crate::processes::{self, open_to_all};
use crate::records::{self, Run};

use self::faults::{Fault, Troubles};
use self::jobs::{Jobs, LOCKS};
use self::observer::Observer;

mod faults;
mod jobs;
mod observer;

/// From one fault to the next.
const PAUSE: (u64, u64) = (200, 1_500);

/// How long an answer of the API server is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the last Jobs may take when there are no more faults: Kubernetes tries a pod again after up to a minute and a
/// half.
const LAST: Duration = Duration::from_mins(10);

/// How often what is left is looked at anew by Kubernetes in the end.
const TOUCH: Duration = Duration::from_secs(20);

/// Codes that a container may end with here: success, a cluster that it did not reach, a loss, and the signals sent to it.
const CODES: [i32; 5] = [0, 69, 79, 128 + 9, 128 + 15];

/// Nothing of the container has run: the kubelet was ended in the middle of its start.
const NOT_STARTED: &str = "StartError";

struct Chaos {
    scene: Scene,
    chance: Chance,
    many: usize,
    jobs: Jobs,
    troubles: Troubles,
    observer: Observer,
    faults: BTreeMap<Fault, usize>,
    /// All faults in order, and whom they hit.
    history: Vec<String>,
}

/// What the API server says, unless it does not answer in time or refuses.
async fn answered<T>(request: impl Future<Output = kube::Result<T>>) -> Option<T> {
    timeout(PATIENCE, request).await.ok()?.ok()
}

#[tokio::test]
#[ignore = "takes as long as one likes: tests/node/chaos runs it"]
async fn random_faults_break_no_promise() {
    let minutes = Duration::from_secs(60 * setting("CHAOS_MINUTES", 10));
    let many = setting("CHAOS_JOBS", 12) as usize;
    let seed = setting("CHAOS_SEED", u64::from(std::process::id()) ^ Boottime::now().0.as_nanos() as u64);
    println!("seed {seed}, {many} Jobs at a time, {minutes:?}");
    let mut chaos = Chaos::new(seed, many).await;
    let end = Boottime::now() + minutes;
    let mut told = Boottime::now();
    while Boottime::now() < end {
        chaos.troubles.end(false).await;
        chaos.jobs.fill(&chaos.scene, &mut chaos.chance, chaos.many);
        // While nobody answers, faults go on.
        if chaos.observer.with(|seen| seen.answers) {
            chaos.jobs.follow(&chaos.scene, &mut chaos.chance).await;
        }
        chaos.strike().await;
        let pause = chaos.chance.within(PAUSE);
        sleep(pause).await;
        if Boottime::now().since(told) > Duration::from_secs(30) {
            told = Boottime::now();
            chaos.check();
            chaos.tell();
        }
    }
    chaos.finish().await;
}

impl Chaos {
    async fn new(seed: u64, many: usize) -> Self {
        let scene = Scene::alone("chaos").await;
        for folder in LOCKS.iter().map(|lock| lock.record).chain(["jobs", "logs"]) {
            let folder = scene.records.path().join(folder);
            std::fs::create_dir(&folder).expect("make a folder");
            open_to_all(&folder);
        }
        for lock in LOCKS {
            let ttl = GoDuration(Duration::from_secs(lock.ttl)).to_string();
            if lock.variable == "KONDUCTOR_SEMAPHORE" {
                scene.semaphore(lock.name, json!({ "permits": lock.permits, "ttl": ttl })).await;
            } else {
                let lease: Lease = object(json!({ "metadata": { "name": lock.name }, "spec": { "ttl": ttl } }));
                scene.api().create(&PostParams::default(), &lease).await.expect("make a lease");
            }
        }
        let observer = Observer::new(&scene);
        let (troubles, faults, history) = <_>::default();
        Self { scene, chance: Chance::new(seed), many, jobs: Jobs::new(), troubles, observer, faults, history }
    }

    async fn strike(&mut self) {
        if let Some((fault, whom)) = self.troubles.strike(&self.scene, &mut self.chance).await {
            self.history.push(format!("{}: {fault:?} {whom}", Boottime::now()));
            *self.faults.entry(fault).or_default() += 1;
        }
    }

    /// What must hold at any time.
    fn check(&self) {
        let mut wrong = self.jobs.wrong(self.scene.records.path());
        for lock in LOCKS {
            let runs = self.scene.runs_in(lock.record);
            wrong.extend(records::over_admitted(&runs, lock.permits).iter().map(|it| format!("{}: {it}", lock.record)));
            let outlived = |run: &&Run| {
                let over = self.observer.with(|seen| seen.over(lock.record, run.token));
                over.is_some_and(|over| u128::from(run.until) > over.0.as_millis() / 10)
            };
            wrong
                .extend(runs.iter().filter(outlived).map(|run| format!("{}: {run:?} outlived its claim", lock.record)));
        }
        self.observer.with(|seen| {
            wrong.extend(seen.steps.values().flat_map(Claims::broken).cloned());
            wrong.extend(seen.leaks.iter().map(|leak| format!("leaked: {leak}")));
            wrong.extend(seen.orphans.iter().map(|orphan| format!("orphaned: {orphan}")));
            let unexplained = seen.ends.values().filter(|end| !CODES.contains(&end.code) && end.reason != NOT_STARTED);
            wrong.extend(unexplained.map(|end| format!("{} ended with {} ({})", end.pod, end.code, end.reason)));
        });
        if !wrong.is_empty() {
            let (history, logs) = (self.history.join("\n"), self.logs_about(&wrong));
            panic!("{}\nthe faults:\n{history}\nwhat they said:\n{logs}", wrong.join("\n"));
        }
    }

    /// What the wrappers said in pods that are named here.
    fn logs_about(&self, wrong: &[String]) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.scene.records.path().join("logs")).expect("list the logs").flatten() {
            let pod = entry.file_name().to_string_lossy().into_owned();
            if wrong.iter().any(|wrong| wrong.contains(&pod)) {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                all.extend(["--- ", &pod, "\n", &log]);
            }
        }
        all
    }

    fn tell(&self) {
        let runs: Vec<_> = LOCKS.iter().map(|lock| self.scene.runs_in(lock.record).len()).collect();
        let commands = self.scene.runs_in("jobs").len();
        let wrappers = std::fs::read_dir(self.scene.records.path().join("logs")).expect("list the logs").count();
        self.observer.with(|seen| {
            let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
            seen.ends.values().for_each(|end| *codes.entry(end.code).or_default() += 1);
            println!(
                "{} Jobs ({:?}), {wrappers} pods, {commands} commands ran (holding one, five, lead: {runs:?}), containers ended by \
                 code {codes:?}, faults {} {:?}, the API server was away for {:?}, the longest that a claim stayed after its \
                 holder's end (while it answered; in all): {:?}, that a wrapper stayed after its pod's: {:?}, transitions of \
                 claims (seen, all): {:?}",
                self.jobs.started,
                self.jobs.ends,
                self.history.len(),
                self.faults,
                seen.unwell,
                seen.longest_kept,
                seen.longest_stray,
                seen.steps.values().map(Claims::coverage).collect::<Vec<_>>(),
            );
        });
    }

    /// No more faults: everything ends, and nothing stays.
    async fn finish(mut self) {
        self.troubles.end(true).await;
        let deadline = Boottime::now() + LAST;
        let mut touched = Boottime::now();
        while !self.jobs.running().is_empty() {
            if Boottime::now().since(touched) > TOUCH {
                touched = Boottime::now();
                self.jobs.touch(&self.scene).await;
            }
            self.jobs.follow(&self.scene, &mut self.chance).await;
            let left = self.jobs.running();
            assert!(Boottime::now() < deadline, "these Jobs do not end: {left:?}; the faults: {:#?}", self.history);
            sleep(Duration::from_millis(500)).await;
        }
        let ended = Boottime::now();
        for lock in LOCKS {
            if lock.variable == "KONDUCTOR_SEMAPHORE" {
                self.scene.at_rest(lock.name).await;
            } else {
                self.scene.lease_at_rest(lock.name).await;
            }
        }
        let free = Boottime::now().since(ended);
        eventually(LIMIT, "no pod is left", || async {
            self.jobs_and_pods_left().await.map_or(Ok(()), |left| Err(format!("{left:?}")))
        })
        .await;
        eventually(LIMIT, "nothing of theirs runs on the node", || async {
            let left = processes::in_containers(&self.scene.namespace);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        self.check();
        self.tell();
        println!("everything was free {free:?} after the last Job had ended");
        assert!(LOCKS.iter().all(|lock| !self.scene.runs_in(lock.record).is_empty()), "no command has run");
    }

    /// What is left when all Jobs have ended, as long as it is.
    async fn jobs_and_pods_left(&self) -> Option<Vec<String>> {
        let Some(pods) = answered(self.scene.api::<Pod>().list(&ListParams::default())).await else {
            return Some(vec!["no answer".to_owned()]);
        };
        let left: Vec<_> = pods.items.into_iter().filter_map(|pod| pod.metadata.name).collect();
        (!left.is_empty()).then_some(left)
    }
}
