//! Tries to break the argument of `arbiter::pod_sight` against a kubelet whose status lags: whatever it does, no
//! container that was said to have ended runs, or ever runs again. And tries how seldom a claim may be renewed whose end a
//! kubelet tells (`renewals`).

use std::collections::{BTreeSet, VecDeque};

use konductor_api::{
    PodReference,
    arbiter::{
        ContainerSeen, ContainerSpecSeen, ContainerStateSeen, PodConditionSeen, PodSight, PodSpecSeen, PodStatusSeen,
        RunningSeen, TerminatedSeen, pod_sight,
    },
};
use proptest::{prelude::*, test_runner::RngAlgorithm};
use serde_json::json;

#[path = "death/renewals.rs"]
mod renewals;

/// How a container is started again when it has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Restart {
    Never,
    OnFailure,
    Always,
}

impl Restart {
    fn name(self) -> String {
        format!("{self:?}")
    }

    fn after(self, code: i64) -> bool {
        match self {
            Self::Never => false,
            Self::OnFailure => code != 0,
            Self::Always => true,
        }
    }
}

/// A container: an init container that has to succeed before the next one, a sidecar (an init container that is always
/// restarted), or one proper.
#[derive(Clone, Debug)]
struct Container {
    init: bool,
    sidecar: bool,
    policy: Option<Restart>,
    /// When it ends with 7, all containers of the pod are started again.
    restarts_all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    Running,
    Ended(i64),
}

#[derive(Clone, Debug)]
enum Step {
    /// One that runs ends with this code.
    Exit(usize, i64),
    /// The kubelet does what is to be done next.
    Sync,
    /// The node starts anew: all that ran is dead, and the pod gets a new sandbox.
    Reboot,
    /// The kubelet stops everything: the pod's deadline has passed, or it is evicted.
    Stop,
    /// The kubelet notes a status, to be reported later.
    Note,
    /// The API server gets the next status.
    Report,
    /// The garbage collector of pods calls it failed, as the node seems lost.
    Collect,
    /// The operator looks at the pod because of this container.
    Look(usize),
    /// The operator looks at it because of a claim that speaks for all of it.
    LookAtAll,
}

struct Kubelet {
    policy: Restart,
    containers: Vec<Container>,
    states: Vec<State>,
    /// Nothing is started any more.
    over: Option<&'static str>,
    noted: VecDeque<PodStatusSeen>,
    reported: PodStatusSeen,
    said_to_have_ended: BTreeSet<usize>,
}

fn name(index: usize) -> String {
    format!("c{index}")
}

impl Kubelet {
    fn new(policy: Restart, containers: Vec<Container>) -> Self {
        Self {
            policy,
            states: vec![State::Waiting; containers.len()],
            containers,
            over: None,
            noted: VecDeque::new(),
            reported: PodStatusSeen::default(),
            said_to_have_ended: BTreeSet::new(),
        }
    }

    fn spec(&self) -> PodSpecSeen {
        let of = |init: bool| {
            let those = self.containers.iter().enumerate().filter(move |(_, container)| container.init == init);
            let seen = those.map(|(index, container)| {
                let policy = if container.sidecar { Some(Restart::Always) } else { container.policy };
                let rules =
                    if container.restarts_all { json!([{ "action": "RestartAllContainers" }]) } else { json!([]) };
                let spec = json!({
                    "name": name(index), "image": "x", "restartPolicy": policy.map(Restart::name),
                    "restartPolicyRules": rules,
                });
                serde_json::from_value::<ContainerSpecSeen>(spec).expect("a container")
            });
            seen.collect::<Vec<_>>()
        };
        PodSpecSeen { restart_policy: Some(self.policy.name()), containers: of(false), init_containers: of(true) }
    }

    fn policy_of(&self, index: usize) -> Restart {
        let container = &self.containers[index];
        if container.sidecar {
            return Restart::Always;
        }
        let policy = container.policy.unwrap_or(self.policy);
        // An init container that has succeeded is done; that of a pod that is always restarted is tried until it does.
        if container.init && policy == Restart::Always { Restart::OnFailure } else { policy }
    }

    fn start(&mut self, index: usize) {
        assert!(!self.said_to_have_ended.contains(&index), "{} was said to have ended, and is started", name(index));
        self.states[index] = State::Running;
    }

    fn sync(&mut self) {
        if self.over.is_some() {
            return;
        }
        let ended = |container: &Container, state: &State| container.restarts_all && *state == State::Ended(7);
        if self.containers.iter().zip(&self.states).any(|(container, state)| ended(container, state)) {
            self.states.fill(State::Waiting);
            return;
        }
        for index in 0..self.containers.len() {
            let container = &self.containers[index];
            let done = match self.states[index] {
                State::Waiting => {
                    self.start(index);
                    container_lets_on(&self.containers[index])
                }
                State::Running => container_lets_on(container),
                State::Ended(code) if self.policy_of(index).after(code) => {
                    self.start(index);
                    container_lets_on(&self.containers[index])
                }
                State::Ended(code) if container.init && code != 0 => {
                    self.end("Failed");
                    return;
                }
                State::Ended(_) => true,
            };
            if !done {
                return;
            }
        }
        let proper: Vec<_> = (0..self.containers.len())
            .filter(|index| !self.containers[*index].init)
            .map(|index| self.states[index])
            .collect();
        if proper.iter().all(|state| matches!(state, State::Ended(_))) {
            let succeeded = proper.iter().all(|state| *state == State::Ended(0));
            self.end(if succeeded { "Succeeded" } else { "Failed" });
        }
    }

    /// What still runs (sidecars) is stopped before a terminal phase is noted.
    fn end(&mut self, phase: &'static str) {
        self.over = Some(phase);
        for state in &mut self.states {
            if *state == State::Running {
                *state = State::Ended(137);
            }
        }
    }

    fn reboot(&mut self) {
        if self.over.is_some() {
            return;
        }
        for index in 0..self.containers.len() {
            if self.states[index] == State::Running {
                self.states[index] = State::Ended(137);
            }
        }
        // A pod that never restarts gets no second sandbox. In another one init containers run again, and of the others
        // those that are to be restarted.
        if self.policy == Restart::Never && self.containers.iter().all(|container| container.policy.is_none()) {
            if self.states.iter().any(|state| *state != State::Waiting) {
                self.end("Failed");
            }
            return;
        }
        for index in 0..self.containers.len() {
            if self.containers[index].init {
                self.states[index] = State::Waiting;
            }
        }
    }

    fn note(&mut self) {
        let of = |init: bool| {
            let those = (0..self.containers.len()).filter(|index| self.containers[*index].init == init);
            let seen = those.filter_map(|index| {
                let state = match self.states[index] {
                    State::Waiting => return None,
                    State::Running => ContainerStateSeen { running: Some(RunningSeen {}), terminated: None },
                    State::Ended(exit_code) => {
                        ContainerStateSeen { running: None, terminated: Some(TerminatedSeen { exit_code }) }
                    }
                };
                Some(ContainerSeen { name: name(index), state })
            });
            seen.collect()
        };
        self.noted.push_back(PodStatusSeen {
            phase: Some(self.over.unwrap_or("Running").into()),
            conditions: vec![],
            container_statuses: of(false),
            init_container_statuses: of(true),
        });
    }

    /// What a rule says of the pod as it is reported, checked against what runs.
    fn look(&mut self, index: usize, rule: impl Fn(&PodSpecSeen, &PodStatusSeen, &PodReference) -> bool) {
        let claim = PodReference { container: name(index), start: "1".into(), ..PodReference::whole("p", "u") };
        if rule(&self.spec(), &self.reported, &claim) {
            assert!(self.states[index] != State::Running, "{} was said to have ended, and runs", name(index));
            self.said_to_have_ended.insert(index);
        }
    }

    fn step(&mut self, step: &Step, rule: impl Fn(&PodSpecSeen, &PodStatusSeen, &PodReference) -> bool) {
        let count = self.containers.len();
        match *step {
            Step::Exit(index, code) => {
                if self.states[index % count] == State::Running {
                    self.states[index % count] = State::Ended(code);
                }
            }
            Step::Sync => self.sync(),
            Step::Reboot => self.reboot(),
            Step::Stop => {
                if self.over.is_none() {
                    self.end("Failed");
                }
            }
            Step::Note => self.note(),
            Step::Report => {
                if let Some(status) = self.noted.pop_front() {
                    self.reported = status;
                }
            }
            Step::Collect => {
                self.reported.phase = Some("Failed".into());
                let reason = Some("DeletionByPodGC".into());
                self.reported.conditions = vec![PodConditionSeen { kind: "DisruptionTarget".into(), reason }];
            }
            Step::Look(index) => self.look(index % count, rule),
            Step::LookAtAll => {
                if rule(&self.spec(), &self.reported, &PodReference::whole("p", "u")) {
                    for index in 0..count {
                        assert!(self.states[index] != State::Running, "the pod was said to have ended, and runs");
                        self.said_to_have_ended.insert(index);
                    }
                }
            }
        }
    }
}

/// Whether the kubelet goes on to the next container.
fn container_lets_on(container: &Container) -> bool {
    !container.init || container.sidecar
}

fn pod() -> impl Strategy<Value = (Restart, Vec<Container>)> {
    let policy = || prop::sample::select(vec![Restart::Never, Restart::OnFailure, Restart::Always]);
    let own = prop_oneof![4 => Just(None), 1 => policy().prop_map(Some)];
    let proper = (own, prop::bool::weighted(0.1)).prop_map(|(policy, restarts_all)| Container {
        init: false,
        sidecar: false,
        policy,
        restarts_all,
    });
    let init = any::<bool>().prop_map(|sidecar| Container { init: true, sidecar, policy: None, restarts_all: false });
    (policy(), prop::collection::vec(init, 0..2), prop::collection::vec(proper, 1..3))
        .prop_map(|(policy, inits, proper)| (policy, inits.into_iter().chain(proper).collect()))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0..4_usize;
    let step = prop_oneof![
        6 => (which(), prop::sample::select(vec![0_i64, 0, 1, 7])).prop_map(|(index, code)| Step::Exit(index, code)),
        8 => Just(Step::Sync),
        1 => Just(Step::Reboot),
        1 => Just(Step::Stop),
        5 => Just(Step::Note),
        5 => Just(Step::Report),
        1 => Just(Step::Collect),
        5 => which().prop_map(Step::Look),
        3 => Just(Step::LookAtAll),
    ];
    prop::collection::vec(step, 1..80)
}

fn ended(spec: &PodSpecSeen, status: &PodStatusSeen, claim: &PodReference) -> bool {
    pod_sight("u", spec, status, claim) == PodSight::Ended
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, rng_algorithm: RngAlgorithm::XorShift, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_to_have_ended_never_runs_again(pod in pod(), steps in steps()) {
        let (policy, containers) = pod;
        let mut kubelet = Kubelet::new(policy, containers);
        for step in &steps {
            kubelet.step(step, ended);
        }
    }
}

/// Plays steps under another rule than the one in use.
fn play(policy: Restart, containers: Vec<Container>, steps: &[Step], rule: fn(&PodStatusSeen) -> bool) {
    let mut kubelet = Kubelet::new(policy, containers);
    for step in steps {
        kubelet.step(step, |_, status, _| rule(status));
    }
}

fn one() -> Container {
    Container { init: false, sidecar: false, policy: None, restarts_all: false }
}

fn is_terminated(status: &PodStatusSeen) -> bool {
    status.container_statuses.first().is_some_and(|seen| seen.state.terminated.is_some())
}

#[test]
#[should_panic(expected = "c0 was said to have ended, and runs")]
fn that_a_container_is_terminated_is_not_enough_where_it_is_started_again() {
    let steps = [Step::Sync, Step::Exit(0, 1), Step::Note, Step::Sync, Step::Report, Step::Look(0)];
    play(Restart::OnFailure, vec![one()], &steps, is_terminated);
}

#[test]
#[should_panic(expected = "c0 was said to have ended, and is started")]
fn nor_where_another_container_has_all_of_them_started_again() {
    let steps = [
        Step::Sync,
        Step::Exit(0, 0),
        Step::Note,
        Step::Report,
        Step::Look(0),
        Step::Exit(1, 7),
        Step::Sync,
        Step::Sync,
    ];
    play(Restart::Never, vec![one(), Container { restarts_all: true, ..one() }], &steps, is_terminated);
}

#[test]
#[should_panic(expected = "c0 was said to have ended, and runs")]
fn that_the_pod_has_failed_besides_is_not_enough_if_its_kubelet_did_not_say_so() {
    let steps = [Step::Sync, Step::Exit(0, 1), Step::Note, Step::Sync, Step::Report, Step::Collect, Step::Look(0)];
    let rule = |status: &PodStatusSeen| is_terminated(status) && status.phase.as_deref() == Some("Failed");
    play(Restart::Always, vec![one()], &steps, rule);
}

/// What a look at container `c` shows, of a pod as the API server tells it.
fn sight(spec: serde_json::Value, status: serde_json::Value) -> PodSight {
    let claim = PodReference { container: "c".into(), start: "1".into(), ..PodReference::whole("p", "u") };
    let (spec, status) = (serde_json::from_value(spec).unwrap(), serde_json::from_value(status).unwrap());
    pod_sight("u", &spec, &status, &claim)
}

fn status(phase: &str, code: i64) -> serde_json::Value {
    json!({ "phase": phase, "hostIP": "10.0.0.1", "containerStatuses": [
        { "name": "proxy", "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } }, "ready": true },
        { "name": "c", "state": { "terminated": { "exitCode": code, "reason": "Completed" } }, "ready": false },
    ] })
}

#[test]
fn a_container_that_ended_beside_a_proxy_is_seen() {
    use PodSight::{Ended, Lives};
    let containers = json!([{ "name": "c" }, { "name": "proxy" }]);
    for (policy, code, expected) in [
        ("Never", 0, Ended),
        ("Never", 1, Ended),
        ("OnFailure", 0, Ended),
        ("OnFailure", 1, Lives),
        ("Always", 0, Lives),
    ] {
        let spec = json!({ "restartPolicy": policy, "containers": containers });
        assert_eq!(sight(spec, status("Running", code)), expected, "{policy} {code}");
    }
    let sidecar = json!({ "restartPolicy": "Never", "containers": [{ "name": "c" }],
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }] });
    assert_eq!(sight(sidecar, status("Running", 1)), Ended, "beside a native sidecar");
}

#[test]
fn rules_of_any_container_make_it_no_proof() {
    for containers in [
        json!([{ "name": "c", "restartPolicy": "Never" }, { "name": "proxy" }]),
        json!([{ "name": "c" }, { "name": "proxy", "restartPolicyRules": [{ "action": "Restart" }] }]),
    ] {
        let spec = json!({ "restartPolicy": "Never", "containers": containers });
        assert_eq!(sight(spec.clone(), status("Running", 0)), PodSight::Lives);
        assert_eq!(sight(spec, status("Failed", 0)), PodSight::Ended, "but of a terminal pod it is one");
    }
}

#[test]
fn a_whole_pod_has_ended_when_it_is_terminal_and_nothing_of_it_runs() {
    let claim = PodReference::whole("p", "u");
    let state = |init: serde_json::Value, main: serde_json::Value| {
        json!({ "initContainerStatuses": [{ "name": "i", "state": init }],
            "containerStatuses": [{ "name": "c", "state": main }] })
    };
    let (ended, runs, waits) =
        (json!({ "terminated": { "exitCode": 0 } }), json!({ "running": {} }), json!({ "waiting": {} }));
    for (phase, init, main, expected) in [
        ("Succeeded", &ended, &ended, PodSight::Ended),
        ("Failed", &ended, &waits, PodSight::Ended),
        ("Failed", &ended, &runs, PodSight::Lives),
        ("Running", &ended, &runs, PodSight::Lives),
        ("Running", &ended, &ended, PodSight::Lives),
        ("Pending", &ended, &waits, PodSight::Lives),
    ] {
        let mut status = state(init.clone(), main.clone());
        status["phase"] = json!(phase);
        let status = serde_json::from_value(status).unwrap();
        let spec = PodSpecSeen { restart_policy: Some("Never".into()), ..PodSpecSeen::default() };
        assert_eq!(pod_sight("u", &spec, &status, &claim), expected, "{phase} {init} {main}");
    }
}

#[test]
fn another_pod_of_the_name_is_no_proof_of_death_but_of_absence() {
    let claim = PodReference { container: "c".into(), start: "1".into(), ..PodReference::whole("p", "other") };
    let sight = pod_sight("u", &PodSpecSeen::default(), &PodStatusSeen::default(), &claim);
    assert_eq!(sight, PodSight::Gone);
}
