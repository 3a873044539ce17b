//! The Jobs that are hit: what each holds, arrives at or waits for, and how it has to end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use k8s_openapi::api::batch::v1::Job;
use konductor::Boottime;
use konductor_api::Barrier;
use konductor_tests::Chance;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::answered;
use crate::cluster::{LABEL, Scene, object};
use crate::records::{self, Run};
use crate::workload::CONTAINER;

/// What can be held: how it is asked for, its name in what the commands write, its permits and its TTL in seconds.
pub(super) struct Lock {
    pub(super) variable: &'static str,
    pub(super) name: &'static str,
    pub(super) record: &'static str,
    pub(super) permits: usize,
    pub(super) ttl: u64,
}

/// With one permit, any overlap shows; with more, claims are granted side by side.
pub(super) const LOCKS: [Lock; 3] = [
    Lock { variable: "KONDUCTOR_SEMAPHORE", name: "one", record: "SEMAPHORE_ONE", permits: 1, ttl: 10 },
    Lock { variable: "KONDUCTOR_SEMAPHORE", name: "five", record: "SEMAPHORE_FIVE", permits: 5, ttl: 15 },
    Lock { variable: "KONDUCTOR_LEASE", name: "lead", record: "LEASE_LEAD", permits: 1, ttl: 20 },
];

/// Which of the locks a Job holds, with no regard to others.
const HELD: [&[usize]; 6] = [&[0], &[1], &[1], &[2], &[0, 1], &[1, 2]];

/// How many arrive at each barrier.
const EXPECTED: usize = 3;

/// How often a Job's pod is tried again. Kubernetes waits 10 s before the first time, and then ever longer.
const RETRIES: u32 = 3;

/// How long a command works, in tenths of a second.
const WORK: usize = 60;

/// What a Job is for, beside holding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Nothing.
    Alone,
    /// It is this one of those who arrive at this barrier.
    Arrives(usize, usize),
    /// It runs once this barrier is open.
    Follows(usize),
}

/// How Jobs have ended.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) complete: usize,
    pub(super) given_up: usize,
}

/// What is wanted of the API server, until it has answered.
enum Wanted {
    Barrier(String),
    Job(String, Value),
}

/// All Jobs that there have been.
pub(super) struct Jobs {
    pub(super) started: usize,
    pub(super) ends: Ends,
    barriers: usize,
    parts: BTreeMap<String, Part>,
    running: BTreeSet<String>,
    wanted: VecDeque<Wanted>,
}

impl Jobs {
    pub(super) fn new() -> Self {
        let (parts, running, wanted) = <_>::default();
        Self { started: 0, ends: Ends::default(), barriers: 0, parts, running, wanted }
    }

    /// The Jobs that have not ended.
    pub(super) fn running(&self) -> &BTreeSet<String> {
        &self.running
    }

    /// So many Jobs that only hold something, and one barrier with those that arrive and the one that follows.
    pub(super) fn fill(&mut self, scene: &Scene, chance: &mut Chance, many: usize) {
        let alone = |jobs: &Self| jobs.running.iter().filter(|job| jobs.parts[*job] == Part::Alone).count();
        while alone(self) < many {
            self.add(scene, chance, Part::Alone);
        }
        if self.running.iter().all(|job| self.parts[job] == Part::Alone) {
            let barrier = self.barriers;
            self.barriers += 1;
            self.wanted.push_back(Wanted::Barrier(format!("b{barrier}")));
            (0..EXPECTED).for_each(|place| self.add(scene, chance, Part::Arrives(barrier, place)));
            self.add(scene, chance, Part::Follows(barrier));
        }
    }

    fn add(&mut self, scene: &Scene, chance: &mut Chance, part: Part) {
        self.started += 1;
        let name = format!("job-{}", self.started);
        let (held, of_barrier) = match part {
            Part::Alone => (HELD[chance.below(HELD.len())], None),
            Part::Arrives(barrier, _) => (&[1][..], Some(("KONDUCTOR_BARRIER", barrier))),
            Part::Follows(barrier) => (&[2][..], Some(("KONDUCTOR_WAIT_BARRIER", barrier))),
        };
        let mut env: BTreeMap<&str, String> = BTreeMap::from([("KONDUCTOR_GRACE", "2s".to_owned())]);
        for lock in held.iter().map(|lock| &LOCKS[*lock]) {
            env.entry(lock.variable).and_modify(|names| names.extend([",", lock.name])).or_insert(lock.name.to_owned());
        }
        env.extend(of_barrier.map(|(variable, barrier)| (variable, format!("b{barrier}"))));
        let records: Vec<_> = held.iter().map(|lock| LOCKS[*lock].record).collect();
        let job = manifest(scene, chance, &name, &env, &records);
        self.wanted.push_back(Wanted::Job(name.clone(), job));
        self.parts.insert(name.clone(), part);
        self.running.insert(name);
    }

    /// Makes what is wanted, sees who has ended, and lets those try anew that others wait for. Whatever the API server does
    /// not answer is tried at the next call.
    pub(super) async fn follow(&mut self, scene: &Scene, chance: &mut Chance) {
        while let Some(wanted) = self.wanted.front() {
            let made = match wanted {
                Wanted::Barrier(name) => {
                    let barrier: Barrier =
                        object(json!({ "metadata": { "name": name }, "spec": { "expected": EXPECTED } }));
                    answered(scene.api().create(&PostParams::default(), &barrier)).await.is_some()
                }
                Wanted::Job(_, job) => {
                    let job: Job = object(job.clone());
                    answered(scene.api().create(&PostParams::default(), &job)).await.is_some()
                }
            };
            // It was made, unless the next look at it says otherwise: the answer to a request that was carried out may be lost.
            let (Wanted::Barrier(name) | Wanted::Job(name, _)) = wanted;
            let is_there = match wanted {
                _ if made => true,
                Wanted::Barrier(_) => answered(scene.api::<Barrier>().get(name)).await.is_some(),
                Wanted::Job(..) => answered(scene.api::<Job>().get(name)).await.is_some(),
            };
            if !is_there {
                return;
            }
            self.wanted.pop_front();
        }
        let Some(jobs) = answered(scene.api::<Job>().list(&ListParams::default())).await else { return };
        for job in jobs {
            let name = job.name_any();
            let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ended = conditions.filter(|condition| condition.status == "True");
            let Some(end) = ended.into_iter().find(|end| ["Complete", "Failed"].contains(&end.type_.as_str())) else {
                continue;
            };
            // A Job that has ended is deleted again when the first time was not answered.
            if self.running.remove(&name) {
                let part = self.parts[&name];
                if end.type_ == "Complete" {
                    self.ends.complete += 1;
                    let runs = runs_of(&scene.runs_in("jobs"), &name);
                    assert!(
                        runs.iter().any(|run| run.ended),
                        "{name} is complete, but its command never ended: {runs:#?}"
                    );
                } else {
                    assert_eq!(end.reason.as_deref(), Some("BackoffLimitExceeded"), "{name} has failed: {end:?}");
                    self.ends.given_up += 1;
                    if part != Part::Alone {
                        self.add(scene, chance, part);
                    }
                }
            }
            let _ = answered(scene.api::<Job>().delete(&name, &DeleteParams::background())).await;
        }
    }

    /// Has Kubernetes look at the Jobs anew: after errors of the API server its controller waits ever longer to do so by itself,
    /// up to some minutes.
    pub(super) async fn touch(&self, scene: &Scene) {
        for name in &self.running {
            let touched = json!({ "metadata": { "annotations": { LABEL: Boottime::now().to_string() } } });
            let patch = Patch::Merge(touched);
            let _ = answered(scene.api::<Job>().patch(name, &PatchParams::default(), &patch)).await;
        }
    }

    /// What is wrong with those that follow a barrier: each begins when as many as expected have ended well.
    pub(super) fn wrong(&self, folder: &Path) -> Vec<String> {
        let all = records::read(&folder.join("jobs"));
        let follows = |(name, part): (&String, &Part)| match part {
            Part::Follows(barrier) => Some((name.clone(), *barrier)),
            _ => None,
        };
        let mut wrong = Vec::new();
        for (name, barrier) in self.parts.iter().filter_map(follows) {
            let arrives = |part: &Part| matches!(part, Part::Arrives(at, _) if *at == barrier);
            let arriving: Vec<_> = self.parts.iter().filter(|(_, part)| arrives(part)).map(|(name, _)| name).collect();
            for run in runs_of(&all, &name) {
                let done = |job: &&&String| runs_of(&all, job).iter().any(|it| it.ended && it.until <= run.from);
                let before = arriving.iter().filter(done).count();
                if before < EXPECTED {
                    wrong
                        .push(format!("{run:?} of {name} began when {before} of {EXPECTED} had arrived: {arriving:?}"));
                }
            }
        }
        wrong
    }
}

/// The runs of a Job's pods.
fn runs_of(all: &[Run], job: &str) -> Vec<Run> {
    let prefix = format!("{job}-");
    all.iter().filter(|run| run.pod.starts_with(&prefix)).cloned().collect()
}

/// A Job of one pod. What its wrapper says is kept beside the records, as pods that are deleted take their logs with them.
fn manifest(scene: &Scene, chance: &mut Chance, name: &str, env: &BTreeMap<&str, String>, records: &[&str]) -> Value {
    let work = chance.below(WORK);
    let mut note = r#"note() { read -r now _ </proc/uptime; echo "$1 $now 0" >>"/records/jobs/$HOSTNAME""#.to_owned();
    for record in records {
        let line = format!(r#"; echo "$1 $now $KONDUCTOR_TOKEN_{record}" >>"/records/{record}/$HOSTNAME""#);
        note.push_str(&line);
    }
    let script = format!(
        "{note}; }}; note start; i=0; while [ $i -lt {work} ]; do note alive; sleep 0.1; i=$((i+1)); done; note end"
    );
    // Some do not end when they are asked to, and some are in a session of their own below the command.
    let before: &[&str] = match chance.below(3) {
        0 => &[],
        1 => &["sh", "-c", "trap '' TERM; exec \"$@\"", "sh"],
        _ => &["sh", "-c", "setsid \"$@\" & trap '' TERM; wait $!", "sh"],
    };
    let restart = if chance.below(2) == 0 { "Never" } else { "OnFailure" };
    let start = [
        &["sh", "-c", "exec konductor-run -- \"$@\" 2>>\"/records/logs/$HOSTNAME\"", "sh"],
        before,
        &["sh", "-c", &script, &scene.namespace],
    ]
    .concat();
    let mut env: Vec<_> = env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let uid = json!({ "fieldRef": { "fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']" } });
    env.push(json!({ "name": "KONDUCTOR_JOB_UID", "valueFrom": uid }));
    json!({
        "metadata": { "name": name },
        "spec": { "backoffLimit": RETRIES, "template": {
            "metadata": { "labels": { LABEL: "pod" } },
            "spec": {
                "restartPolicy": restart,
                "terminationGracePeriodSeconds": 10,
                "containers": [{
                    "name": CONTAINER,
                    "image": concat!("konductor/demo:", env!("CARGO_PKG_VERSION")),
                    "command": start,
                    "env": env,
                    "volumeMounts": [{ "name": "records", "mountPath": "/records" }],
                }],
                "volumes": [{ "name": "records", "hostPath": { "path": scene.records.path(), "type": "Directory" } }],
            },
        } },
    })
}

#[test]
fn who_follows_a_barrier_before_all_have_ended_well_is_seen() {
    let mut jobs = Jobs::new();
    // The first tried a second time, as another Job.
    for (name, part) in [("job-1", 0), ("job-2", 1), ("job-3", 2), ("job-5", 0)] {
        jobs.parts.insert(name.to_owned(), Part::Arrives(0, part));
    }
    jobs.parts.insert("job-4".to_owned(), Part::Follows(0));
    jobs.parts.insert("job-6".to_owned(), Part::Arrives(1, 0));
    for (case, ends, right) in [
        ("nobody", &[][..], false),
        ("two", &["job-1", "job-2"], false),
        ("another barrier's", &["job-1", "job-2", "job-6"], false),
        ("all", &["job-1", "job-2", "job-3"], true),
        ("all, one of them at its second try", &["job-5", "job-2", "job-3"], true),
    ] {
        let folder = tempfile::tempdir().expect("make a folder");
        std::fs::create_dir(folder.path().join("jobs")).expect("make a folder");
        let write = |pod: &str, text: &str| {
            std::fs::write(folder.path().join("jobs").join(pod), text).expect("write a record");
        };
        for job in ["job-1", "job-2", "job-3", "job-5", "job-6"] {
            let end = if ends.contains(&job) { "end 2.00 0\n" } else { "" };
            write(&format!("{job}-abcde"), &format!("start 1.00 0\n{end}"));
        }
        write("job-4-abcde", "start 2.00 0\nend 3.00 0\n");
        let wrong = jobs.wrong(folder.path());
        assert_eq!(wrong.is_empty(), right, "{case}: {wrong:?}");
    }
}
