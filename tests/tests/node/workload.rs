//! Pods and Jobs whose commands run under `konductor-run`.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use konductor_api::{ClaimPhase, Permit};
use konductor_tests::{eventually, wait_for};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{LABEL, LIMIT, Scene, object};
use crate::records::{self, NOTE, Run};

/// A command that works for so many seconds.
pub(crate) fn work(seconds: u32) -> String {
    format!("{NOTE} note start; sleep {seconds}; note end")
}

/// A command that ends with this exit code when it is [told](Scene::tell).
pub(crate) fn work_until_told(code: i32) -> String {
    format!("{NOTE} note start; until [ -e /records/told ]; do note alive; sleep 0.1; done; note end; exit {code}")
}

/// What a pod is made of, beside its command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    /// Environment variables; `KONDUCTOR_SEMAPHORE` among them.
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// `Never`, `OnFailure` or `Always`.
    pub(crate) restart: &'a str,
}

impl<'a> Shape<'a> {
    /// Runs once, with these variables.
    pub(crate) fn once(env: &'a [(&'a str, &'a str)]) -> Self {
        Self { env, restart: "Never" }
    }
}

/// The container of each pod.
pub(crate) const CONTAINER: &str = "work";

impl Scene {
    /// A pod template of the demo image.
    fn template(&self, script: &str, shape: Shape<'_>) -> Value {
        let env: Vec<_> = shape.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        json!({
            "metadata": { "labels": { LABEL: "pod" } },
            "spec": {
                "restartPolicy": shape.restart,
                "containers": [{
                    "name": CONTAINER,
                    "image": concat!("konductor/demo:", env!("CARGO_PKG_VERSION")),
                    "args": ["sh", "-c", script],
                    "env": env,
                    "volumeMounts": [{ "name": "records", "mountPath": "/records" }],
                }],
                "volumes": [{ "name": "records", "hostPath": { "path": self.records.path(), "type": "Directory" } }],
            },
        })
    }

    /// Starts a pod.
    pub(crate) async fn pod(&self, name: &str, script: &str, shape: Shape<'_>) -> Pod {
        let mut pod = self.template(script, shape);
        pod["metadata"]["name"] = json!(name);
        self.api().create(&PostParams::default(), &object(pod)).await.expect("make a pod")
    }

    /// Starts a Job of one pod.
    pub(crate) async fn job(&self, name: &str, script: &str, shape: Shape<'_>) -> Job {
        self.job_with(name, script, shape, json!({ "backoffLimit": 0 })).await
    }

    /// Starts a Job with this in its spec, whose pods are told its UID.
    pub(crate) async fn job_with(&self, name: &str, script: &str, shape: Shape<'_>, mut spec: Value) -> Job {
        let mut template = self.template(script, shape);
        let uid = json!({ "fieldRef": { "fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']" } });
        let env = template["spec"]["containers"][0]["env"].as_array_mut().expect("variables are a list");
        env.push(json!({ "name": "KONDUCTOR_JOB_UID", "valueFrom": uid }));
        spec["template"] = template;
        let job = object(json!({ "metadata": { "name": name }, "spec": spec }));
        self.api().create(&PostParams::default(), &job).await.expect("make a Job")
    }

    /// Starts a Deployment of so many replicas.
    pub(crate) async fn deployment(&self, name: &str, replicas: u32, script: &str, env: &[(&str, &str)]) {
        let mut template = self.template(script, Shape { env, restart: "Always" });
        template["metadata"]["labels"]["app"] = json!(name);
        let selector = json!({ "matchLabels": { "app": name } });
        let spec = json!({ "replicas": replicas, "selector": selector, "template": template });
        let deployment: Deployment = object(json!({ "metadata": { "name": name }, "spec": spec }));
        self.api().create(&PostParams::default(), &deployment).await.expect("make a Deployment");
    }

    /// Waits until a Job is Complete.
    pub(crate) async fn completed(&self, job: &str) {
        wait_for(&self.api::<Job>(), job, LIMIT, |job| {
            let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ended: Vec<_> = conditions.filter(|condition| condition.status == "True").collect();
            assert!(!ended.iter().any(|condition| condition.type_ == "Failed"), "{job:#?}");
            ended.iter().any(|condition| condition.type_ == "Complete")
        })
        .await;
    }

    /// Waits until a pod's command has started.
    pub(crate) async fn started(&self, pod: &str) -> Run {
        eventually(LIMIT, &format!("the command of {pod} starts"), || async {
            match records::of(self.records.path(), pod) {
                Some(run) => Ok(run),
                None => Err(self.seen(pod).await),
            }
        })
        .await
    }

    /// The pod's status, for a message.
    async fn seen(&self, pod: &str) -> String {
        match self.api::<Pod>().get(pod).await {
            Ok(pod) => format!("{:?}", pod.status.unwrap_or_default()),
            Err(error) => error.to_string(),
        }
    }

    /// Lets the commands end that wait for it.
    pub(crate) fn tell(&self) {
        std::fs::write(self.records.path().join("told"), "").expect("make a file");
    }

    /// The runs so far.
    pub(crate) fn runs(&self) -> Vec<Run> {
        records::read(self.records.path())
    }

    /// The runs so far of those who write to a folder below the records.
    pub(crate) fn runs_in(&self, folder: &str) -> Vec<Run> {
        records::read(&self.records.path().join(folder))
    }

    /// What is known by now of a run.
    pub(crate) fn run_of(&self, run: &Run) -> Run {
        let now = self.runs().into_iter().find(|now| (&now.pod, now.token) == (&run.pod, run.token));
        now.expect("a run that there was stays")
    }

    /// Waits until a pod has ended for good, and returns how its container did.
    pub(crate) async fn ended(&self, pod: &str) -> ContainerStateTerminated {
        let pod = wait_for(&self.api::<Pod>(), pod, LIMIT, |pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        })
        .await;
        let mut statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let terminated = statuses.find_map(|status| status.state.as_ref()?.terminated.clone());
        terminated.unwrap_or_else(|| panic!("it ended, but its container did not: {pod:#?}"))
    }

    /// Waits until this pod's claim is in this phase.
    pub(crate) async fn claim(&self, pod: &str, phase: ClaimPhase) -> Permit {
        let permits: Api<Permit> = self.api();
        let theirs = ListParams::default().fields(&format!("spec.holder={pod}"));
        eventually(LIMIT, &format!("the claim of {pod} is {phase:?}"), || async {
            let found = permits.list(&theirs).await.map_err(|error| error.to_string())?.items;
            let wanted = |permit: &&Permit| permit.status.as_ref().is_some_and(|status| status.phase == Some(phase));
            found.iter().find(wanted).cloned().ok_or_else(|| format!("{found:#?}"))
        })
        .await
    }

    /// One permit, taken by a pod whose command runs; another pod waits for it.
    pub(crate) async fn one_of_two(&self, script: &str, ttl: &str) -> (Pod, Pod) {
        self.semaphore("one", json!({ "permits": 1, "ttl": ttl })).await;
        let env = [("KONDUCTOR_SEMAPHORE", "one")];
        let first = self.pod("first", script, Shape::once(&env)).await;
        self.started("first").await;
        let second = self.pod("second", &work(1), Shape::once(&env)).await;
        self.claim("second", ClaimPhase::Pending).await;
        (first, second)
    }

    /// Waits until the pod that had to wait has run; fails unless its command started within `limit` of the first one's
    /// end.
    pub(crate) async fn second_follows(&self, limit: Duration) {
        self.started("second").await;
        assert_eq!(self.ended("second").await.exit_code, 0);
        let runs = self.runs();
        records::assert_in_order(&runs, 1);
        let [first, second] = &runs[..] else { panic!("not two runs: {runs:#?}") };
        assert_eq!((first.pod.as_str(), second.pod.as_str()), ("first", "second"));
        let after = Duration::from_millis(10 * (second.from - first.until));
        assert!(after <= limit, "the second command started {after:?} after the first one was over, not {limit:?}");
        self.at_rest("one").await;
    }
}

/// The UID that a pod's cgroup is named after.
pub(crate) fn uid(pod: &Pod) -> String {
    pod.uid().expect("a pod has a UID")
}
