//! Waiting for gates and barriers, and arriving at barriers: `konductor-run` and the operator together.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::PolicyRule;
use konductor_api::{Arrival, Barrier, Gate, Lease, Rendezvous, RendezvousPhase};
use konductor_tests::{Process, Signal, eventually, wait_for};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::scene::{IN_VAIN, LIMIT, STALL, Scene, all_succeed, exclusive, shared};

impl Scene {
    /// Creates an object.
    async fn create<K>(&self, name: &str, spec: Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone,
        K: std::fmt::Debug,
    {
        let object = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("an object");
        let api: Api<K> = self.namespace.api();
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("create {name}: {error}"));
    }

    /// A gate that is open once the Job `name` is complete.
    async fn gate_of_job(&self, gate: &str, name: &str) {
        let condition = json!({ "type": "Job", "name": name, "state": "Complete" });
        self.create::<Gate>(gate, json!({ "conditions": [condition] })).await;
    }

    /// Creates a Job that nothing runs.
    async fn job(&self, name: &str) {
        let pod = json!({ "restartPolicy": "Never", "containers": [{ "name": "c", "image": "none" }] });
        self.create::<Job>(name, json!({ "template": { "spec": pod } })).await;
    }

    /// Writes what the Job controller would of a Job that has succeeded.
    async fn job_completes(&self, name: &str) {
        let now = "2030-01-01T00:00:00Z";
        let one =
            |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now });
        let status = json!({
            "startTime": now, "completionTime": now, "active": 0,
            "conditions": [one("SuccessCriteriaMet"), one("Complete")],
        });
        let jobs: Api<Job> = self.namespace.api();
        let patch = Patch::Merge(json!({ "status": status }));
        jobs.patch_status(name, &PatchParams::default(), &patch).await.expect("write the status of a Job");
    }

    /// Writes what the Job controller would of a Job that has failed.
    async fn job_fails(&self, name: &str) {
        let now = "2030-01-01T00:00:00Z";
        let one = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": now,
                "lastProbeTime": now,
            })
        };
        let conditions = [one("FailureTarget"), one("Failed")];
        let status = json!({ "startTime": now, "active": 0, "failed": 1, "conditions": conditions });
        let jobs: Api<Job> = self.namespace.api();
        let patch = Patch::Merge(json!({ "status": status }));
        jobs.patch_status(name, &PatchParams::default(), &patch).await.expect("write the status of a Job");
    }

    async fn arrivals(&self) -> Vec<Arrival> {
        let api: Api<Arrival> = self.namespace.api();
        api.list(&ListParams::default()).await.expect("list arrivals").items
    }

    /// Waits until the barrier shows so many.
    async fn arrived(&self, barrier: &str, number: u64) -> Barrier {
        wait_for(&self.namespace.api(), barrier, LIMIT, |barrier: &Barrier| {
            barrier.status.as_ref().is_some_and(|status| status.arrived == Some(number))
        })
        .await
    }

    /// `konductor-run` that holds nothing, unless the flags say so.
    fn free(&self, holder: &str, flags: &[&str], variables: &[(&str, &str)], command: &[&str]) -> Process {
        let mut run = self.command(holder, flags, command);
        run.env_remove("KONDUCTOR_SEMAPHORE").envs(variables.iter().copied());
        Process::spawn(holder, run)
    }

    /// As [`Scene::free`]; the command writes its name into the log.
    fn writes(&self, name: &str, flags: &[&str], variables: &[(&str, &str)]) -> Process {
        let script = format!("echo {name} >> '{}'", self.folder.path().join("log").display());
        self.free(name, flags, variables, &["sh", "-c", &script])
    }

    /// What was written.
    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_pipeline_goes_on_when_all_have_arrived() {
    let scene = shared("pipeline").await;
    let mut transform = scene.writes("transform", &["--wait-barrier", "extracted"], &[]);
    transform.wait_stderr(LIMIT, "waiting for barrier extracted, which does not exist yet").await;
    // Arriving needs no barrier either.
    scene.writes("extract", &["--barrier", "extracted"], &[("KONDUCTOR_ARRIVAL_KEY", "a")]).expect_exit(LIMIT, 0).await;
    scene.create::<Barrier>("extracted", json!({ "expected": 3 })).await;
    transform.wait_stderr(LIMIT, "waiting for barrier extracted: ").await;
    let extract = |key| scene.writes("extract", &["--barrier", "extracted"], &[("KONDUCTOR_ARRIVAL_KEY", key)]);
    let mut second = extract("b");
    second.expect_exit(LIMIT, 0).await;
    assert!(second.stderr().contains("arrived at barrier extracted"), "{}", second.stderr());
    scene.arrived("extracted", 2).await;
    assert_eq!(transform.status(), None, "{}", transform.stderr());
    all_succeed(&mut [extract("c"), transform]).await;
    assert_eq!(scene.log(), ["extract", "extract", "extract", "transform"]);
    // One that comes later finds it open.
    scene.writes("late", &["--wait-barrier", "extracted", "--wait-timeout", "0"], &[]).expect_exit(LIMIT, 0).await;
}

#[tokio::test]
async fn why_a_gate_is_closed_is_told_as_it_changes() {
    let scene = shared("reason").await;
    scene.job("first").await;
    scene.gate_of_job("done", "first").await;
    let waiter = scene.writes("after", &["--gate", "done"], &[]);
    let told = |state: &str| format!("konductor-run: waiting for gate done: 0 of 1 conditions met: Job first {state}");
    waiter.wait_stderr(LIMIT, &told("is active, wanted Complete\n")).await;
    scene.job_fails("first").await;
    waiter.wait_stderr(LIMIT, &told("has failed, wanted Complete\n")).await;
    let mut once = scene.writes("once", &["--gate", "done", "--wait-timeout", "0"], &[]);
    once.expect_exit(LIMIT, 75).await;
    let expected = "gate done is not open: 0 of 1 conditions met: Job first has failed, wanted Complete\n";
    assert!(once.stderr().ends_with(expected), "{}", once.stderr());
}

#[tokio::test]
async fn a_gate_lets_through_when_its_job_is_complete() {
    let scene = shared("gate").await;
    let mut waiter = scene.writes("after", &["--gate", "done"], &[]);
    waiter.wait_stderr(LIMIT, "waiting for gate done, which does not exist yet").await;
    scene.job("first").await;
    scene.gate_of_job("done", "first").await;
    waiter.wait_stderr(LIMIT, "waiting for gate done: 0 of 1 conditions met: Job first is active").await;
    assert_eq!(scene.log(), [""; 0]);
    scene.job_completes("first").await;
    waiter.expect_exit(LIMIT, 0).await;
    assert!(waiter.stderr().contains("gate done is open"), "{}", waiter.stderr());
    assert_eq!(scene.log(), ["after"]);
}

#[tokio::test]
async fn a_wait_that_is_over_says_so() {
    let scene = shared("closed").await;
    scene.gate_of_job("g", "never").await;
    scene.create::<Barrier>("b", json!({ "expected": 2 })).await;
    // What the operator says of them is what those are told who wait.
    let (gate, barrier) = ("0 of 1 conditions met: Job never does not exist", "0 of 2 have arrived");
    wait_for(&scene.namespace.api(), "g", LIMIT, |found: &Gate| found.message() == Some(gate)).await;
    wait_for(&scene.namespace.api(), "b", LIMIT, |found: &Barrier| found.message() == Some(barrier)).await;
    for (what, name, why) in [("gate", "g", gate), ("wait-barrier", "b", barrier)] {
        let shown = format!("{} {name}", what.trim_start_matches("wait-"));
        let flag = format!("--{what}");
        let all = [
            (IN_VAIN, "fail", 75, format!("timed out waiting for {shown}: {why}\n")),
            (IN_VAIN, "skip", 0, format!("{shown} is not open: skipping the command ({why})\n")),
            ("0", "fail", 75, format!("{shown} is not open: {why}\n")),
            ("0", "skip", 0, format!("{shown} is not open: skipping the command ({why})\n")),
        ];
        // They wait together.
        let waits = all.map(|(timeout, outcome, code, message)| {
            let flags = [flag.as_str(), name, "--wait-timeout", timeout, "--on-timeout", outcome];
            (scene.writes("waiter", &flags, &[]), code, message)
        });
        for (mut waiter, code, message) in waits {
            waiter.expect_exit(LIMIT, code).await;
            assert!(waiter.stderr().contains(&message), "{flag}: {message}: {}", waiter.stderr());
        }
        let mut missing = scene.writes("waiter", &[&format!("--{what}"), "none", "--wait-timeout", "0"], &[]);
        missing.expect_exit(LIMIT, 78).await;
        let message = format!("there is no {} none in this namespace", what.trim_start_matches("wait-"));
        assert!(missing.stderr().contains(&message), "{}", missing.stderr());
    }
    assert_eq!(scene.log(), [""; 0]);
}

#[tokio::test]
async fn what_has_failed_ends_the_waiting() {
    let scene = shared("failed").await;
    scene.create::<Barrier>("b", json!({ "expected": 2, "timeout": "1s" })).await;
    let mut waiter = scene.writes("waiter", &["--wait-barrier", "b"], &[]);
    waiter.wait_stderr(LIMIT, "waiting for barrier b").await;
    scene.writes("first", &["--barrier", "b"], &[]).expect_exit(LIMIT, 0).await;
    waiter.expect_exit(LIMIT, 76).await;
    assert!(waiter.stderr().contains("cannot wait for barrier b: it has failed: "), "{}", waiter.stderr());
    assert_eq!(scene.log(), ["first"]);
}

#[tokio::test]
async fn a_signal_ends_the_waiting_within_a_second_and_leaves_nothing() {
    let scene = shared("term").await;
    scene.semaphore(1).await;
    scene.gate_of_job("g", "never").await;
    for gate in ["g", "none"] {
        let flags = ["--gate", gate, "--semaphore", "s", "--barrier", "b", "--arrive", "always"];
        let mut waiter = scene.writes("waiter", &flags, &[]);
        waiter.wait_stderr(LIMIT, &format!("waiting for gate {gate}")).await;
        #[expect(clippy::disallowed_methods, reason = "the time of a process is what is tested")]
        let began = Instant::now();
        waiter.signal(Signal::SIGTERM);
        waiter.expect_exit(LIMIT, 143).await;
        assert!(began.elapsed() < Duration::from_secs(1) + STALL, "{:?}", began.elapsed());
    }
    scene.assert_no_claims().await;
    assert_eq!(scene.arrivals().await, []);
    assert_eq!(scene.log(), [""; 0]);
}

#[tokio::test]
async fn what_is_retried_arrives_once() {
    let scene = shared("retried").await;
    let arrive = async |index: &str, command: &str, code: i32| {
        let variables = [("KONDUCTOR_JOB_UID", "0aa1-77"), ("JOB_COMPLETION_INDEX", index)];
        let mut attempt = scene.free("attempt", &["--barrier", "b"], &variables, &["sh", "-c", command]);
        attempt.expect_exit(LIMIT, code).await;
    };
    // Before there is a barrier, and again when there is one: the same key by two names.
    arrive("0", "true", 0).await;
    scene.create::<Barrier>("b", json!({ "expected": 3 })).await;
    scene.arrived("b", 1).await;
    arrive("0", "true", 0).await;
    arrive("0", "true", 0).await;
    assert_eq!(scene.arrivals().await.len(), 2);
    // Twice it fails, and then it does not.
    arrive("1", "exit 1", 1).await;
    arrive("1", "kill -9 $$", 137).await;
    arrive("1", "true", 0).await;
    arrive("1", "true", 0).await;
    let barrier = scene.arrived("b", 2).await;
    assert_eq!(barrier.status.and_then(|status| status.phase), Some(RendezvousPhase::Waiting));
    let mut keys: Vec<_> = scene.arrivals().await.into_iter().map(|arrival| arrival.spec.key).collect();
    keys.sort();
    assert_eq!(keys, ["0aa1-77/0", "0aa1-77/0", "0aa1-77/1"]);
    // All of them go with the barrier.
    let uid = barrier.metadata.uid.expect("a UID");
    eventually(LIMIT, "all arrivals are owned by the barrier", || async {
        let arrivals = scene.arrivals().await;
        let owned = |arrival: &Arrival| {
            let owners = arrival.metadata.owner_references.iter().flatten();
            owners.map(|owner| &owner.uid).eq([&uid])
        };
        if arrivals.iter().all(owned) { Ok(()) } else { Err(format!("{arrivals:#?}")) }
    })
    .await;
    arrive("2", "true", 0).await;
    wait_for(&scene.namespace.api(), "b", LIMIT, |barrier: &Barrier| {
        barrier.status.as_ref().and_then(|status| status.phase) == Some(RendezvousPhase::Open)
    })
    .await;
}

#[tokio::test]
async fn a_barrier_made_anew_knows_nobody_who_arrived_before() {
    let scene = shared("anew").await;
    let arrive = async || {
        let variables = [("KONDUCTOR_ARRIVAL_KEY", "nightly")];
        scene.free("nightly", &["--barrier", "b"], &variables, &["true"]).expect_exit(LIMIT, 0).await;
    };
    scene.create::<Barrier>("b", json!({ "expected": 2 })).await;
    arrive().await;
    scene.arrived("b", 1).await;
    // Nothing collects garbage here, so that the former arrival is in the way if anything ever is.
    let barriers: Api<Barrier> = scene.namespace.api();
    barriers.delete("b", &DeleteParams::background()).await.expect("delete a barrier");
    scene.create::<Barrier>("b", json!({ "expected": 2 })).await;
    scene.arrived("b", 0).await;
    arrive().await;
    scene.arrived("b", 1).await;
}

#[tokio::test]
async fn whoever_arrives_between_two_barriers_waits_until_the_former_arrival_is_gone() {
    let scene = shared("between").await;
    let arrive = || scene.free("nightly", &["--barrier", "b", "--arrival-key", "nightly"], &[], &["true"]);
    arrive().expect_exit(LIMIT, 0).await;
    scene.create::<Barrier>("b", json!({ "expected": 2 })).await;
    let arrivals: Api<Arrival> = scene.namespace.api();
    let first = scene.arrivals().await.remove(0).name_any();
    wait_for(&arrivals, &first, LIMIT, |arrival: &Arrival| arrival.metadata.owner_references.is_some()).await;
    let barriers: Api<Barrier> = scene.namespace.api();
    barriers.delete("b", &DeleteParams::background()).await.expect("delete a barrier");
    let mut again = arrive();
    again.wait_stderr(LIMIT, "one who has arrived at an earlier barrier of this name is still to be deleted").await;
    // As Kubernetes' garbage collection would.
    arrivals.delete(&first, &DeleteParams::default()).await.expect("delete an arrival");
    again.expect_exit(LIMIT, 0).await;
    scene.create::<Barrier>("b", json!({ "expected": 2 })).await;
    scene.arrived("b", 1).await;
}

#[tokio::test]
async fn only_success_arrives_unless_any_end_is_to() {
    let scene = shared("always").await;
    scene.create::<Barrier>("b", json!({ "expected": 9 })).await;
    let run = |key: &'static str, flags: &[&str], command: &str| {
        let flags: Vec<_> = ["--barrier", "b", "--arrival-key", key].iter().chain(flags).copied().collect();
        scene.free(key, &flags, &[], &["sh", "-c", command])
    };
    for (key, flags, command, code) in [
        ("failed", [].as_slice(), "exit 3", 3),
        ("killed", &[], "kill -9 $$", 137),
        ("mapped", &["--exit-code-map", "3=0"], "exit 3", 0),
        ("any", &["--arrive", "always"], "exit 3", 3),
        ("any-killed", &["--arrive", "always"], "kill -9 $$", 137),
    ] {
        run(key, flags, command).expect_exit(LIMIT, code).await;
    }
    let mut missing = scene.free("x", &["--barrier", "b", "--arrive", "always"], &[], &["no-such-command"]);
    missing.expect_exit(LIMIT, 127).await;
    let mut keys: Vec<_> = scene.arrivals().await.into_iter().map(|arrival| arrival.spec.key).collect();
    keys.sort();
    assert_eq!(keys, ["any", "any-killed", "mapped"]);
}

#[tokio::test]
async fn an_arrival_that_is_refused_is_no_success() {
    let scene = shared("stranger").await;
    scene.namespace.service_account("stranger").await;
    let rule = PolicyRule {
        api_groups: Some(vec!["konductor.io".to_owned()]),
        resources: Some(vec!["barriers".to_owned()]),
        verbs: ["list", "watch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    scene.namespace.allow("stranger", &[rule]).await;
    let kubeconfig = scene.namespace.service_account_kubeconfig("stranger").await;
    let stranger = [("KUBECONFIG", kubeconfig.to_str().expect("test folders have UTF-8 names"))];
    let mut arrives = scene.writes("done", &["--barrier", "b"], &stranger);
    arrives.expect_exit(LIMIT, 77).await;
    let message =
        "the command has ended, but could not arrive at barrier b: the API server refuses to create the arrival: ";
    assert!(arrives.stderr().contains(message), "{}", arrives.stderr());
    let mut waits = scene.writes("waits", &["--gate", "g"], &stranger);
    waits.expect_exit(LIMIT, 77).await;
    let message = "cannot wait for gate g: the API server refuses to read the gate: ";
    assert!(waits.stderr().contains(message), "{}", waits.stderr());
    assert_eq!(scene.log(), ["done"]);
}

#[tokio::test]
async fn everything_at_once() {
    let scene = shared("everything").await;
    scene.job("first").await;
    scene.job("second").await;
    scene.gate_of_job("g1", "first").await;
    scene.gate_of_job("g2", "second").await;
    scene.create::<Barrier>("before", json!({ "expected": 1 })).await;
    scene.create::<Barrier>("after", json!({ "expected": 1 })).await;
    scene.create::<Lease>("l", json!({})).await;
    scene.semaphore_called("s1", 2).await;
    scene.semaphore_called("s2", 1).await;
    let variables = [
        ("KONDUCTOR_GATE", "g2,g1"),
        ("KONDUCTOR_WAIT_BARRIER", "before"),
        ("KONDUCTOR_SEMAPHORE", "s2,s1:2"),
        ("KONDUCTOR_LEASE", "l"),
        ("KONDUCTOR_BARRIER", "after"),
    ];
    let mut all = scene.free("all", &[], &variables, &["sh", "-c", "echo $KONDUCTOR_HELD"]);
    all.wait_stderr(LIMIT, "waiting for barrier before: ").await;
    scene.free("before", &["--barrier", "before"], &[], &["true"]).expect_exit(LIMIT, 0).await;
    all.wait_stderr(LIMIT, "waiting for gate g1: ").await;
    scene.job_completes("first").await;
    all.wait_stderr(LIMIT, "waiting for gate g2: ").await;
    // While it waits nothing is kept from others.
    scene.assert_no_claims().await;
    let next = scene.writes("next", &["--wait-barrier", "after", "--lease", "l", "--semaphore", "s2"], &[]);
    next.wait_stderr(LIMIT, "waiting for barrier after: ").await;
    scene.job_completes("second").await;
    all.expect_exit(LIMIT, 0).await;
    assert_eq!(all.stdout(), "lease/l,semaphore/s1,semaphore/s2\n");
    all_succeed(&mut [next]).await;
    assert_eq!(scene.log(), ["next"]);
    scene.assert_no_claims().await;
}

#[tokio::test]
async fn an_api_server_that_is_away_is_waited_for() {
    let (mut control_plane, installed) = exclusive().await;
    let _operator = installed.operator("operator", &[]);
    let scene = Scene::new(&control_plane, "away").await;
    scene.create::<Barrier>("b", json!({ "expected": 1 })).await;
    let hold = scene.folder.path().join("hold");
    std::fs::write(&hold, "").expect("write a file");
    let script = format!("while test -e '{}'; do sleep 0.02; done", hold.display());
    let waiter = scene.writes("waiter", &["--wait-barrier", "b"], &[]);
    waiter.wait_stderr(LIMIT, "waiting for barrier b: ").await;
    let runner = scene.free("runner", &["--barrier", "b", "-v"], &[], &["sh", "-c", &script]);
    eventually(LIMIT, "the command has started", || async {
        if runner.tree().len() > 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    control_plane.api_server.stop();
    scene.let_go();
    runner.wait_stderr(LIMIT, "barrier b: cannot read the barrier yet, trying again").await;
    control_plane.api_server.start().await;
    all_succeed(&mut [runner, waiter]).await;
    assert_eq!(scene.log(), ["waiter"]);
}
