//! Who is in the world: operators, clients with their pods, the controllers of Kubernetes, people.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    hash::Hasher,
    panic,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use konductor::{
    Client, Command, Event, Exit, LossReason, PodReference, Request, Wanted,
    rendezvous::{self, Arriving, Progress},
};
use konductor_cluster::{
    Boottime, Link, Program, Way,
    process::{self, within},
};
use konductor_operator::{Operator, clock::Clock, engine::Census, metrics::Metrics};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc::unbounded_channel, watch},
    time::{sleep, sleep_until, timeout},
};

use super::{Inner, ONLOOKERS, TEAM, World, neighbour, network, process::Process, tree::Tree, wrapper::Run};
use crate::{
    chance::Chance,
    mutation::Mutation,
    observe::{self, Broken, Taken},
    plan::{Awaited, Plan, Target, Weather, What, Who, Wrapper},
    server::{Key, Refusal, Server, resource},
    sizes::CENSUS,
};

/// That of the operators.
const SYSTEM: &str = "konductor-system";

/// How long a leader that is silent is waited for.
const LEASE: Duration = Duration::from_secs(15);

/// How long each client may take for each of its turns, beside its own work and that of all others, when all is well: a
/// dead leader, the longest TTL twice, and the pauses of all sides.
const PATIENCE: Duration = Duration::from_mins(3);

/// How long the world goes on at least after the last one has gone: what is granted then, to whoever is left, is seen.
const AFTERWARDS: Duration = Duration::from_secs(45);

/// How long after the last one has gone something may still be held. Who has crashed while it waited is granted something
/// just before its time to show that it lives is over, at the worst, and has it for the longest TTL; and for as long again
/// if that is first asked of it then. Beside [`AFTERWARDS`].
const HELD_AFTERWARDS: Duration = Duration::from_secs(135);

/// How long after the last one has gone barriers come to rest at the latest: a timeout and a pause between rounds, each
/// as long as the observers allow, and the rest after both.
const RESTED: Duration = Duration::from_mins(10);

/// How long after the last one has gone a request may still be under way: what was cut off, and late.
const LATEST: Duration = Duration::from_mins(3);

/// How long after a backup was restored people start anew what has not noticed it.
const RESTARTED: Duration = Duration::from_secs(30);

/// How long after a machine went on what is overdue is dead: the kernel rings at once, and kills.
const RESUMED: Duration = Duration::from_millis(50);

/// How long after a deadline its holder is told that it has passed.
const TOLD: Duration = Duration::from_secs(1);

/// How long a command takes to end when it is told to.
const REACTION: Duration = Duration::from_millis(100);

/// What became of a history.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What must not have been.
    pub broken: Vec<Broken>,
    /// What happened, if it was to be told.
    pub story: String,
    /// What a history that is repeated has again.
    pub digest: u64,
    /// Writes that took effect.
    pub steps: u64,
    /// How long it lasted.
    pub lasted: Duration,
    /// What was counted.
    pub figures: BTreeMap<String, u64>,
}

thread_local! {
    /// The first panic of this thread's history.
    static PANIC: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Has panics noted, of whichever task.
pub fn note_panics() {
    panic::set_hook(Box::new(|panic| {
        PANIC.with_borrow_mut(|first| {
            first.get_or_insert_with(|| panic.to_string());
        });
    }));
}

/// Lives through a plan.
pub fn live(plan: &Plan, tells: bool) -> Outcome {
    PANIC.set(None);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&plan.seed.to_le_bytes()));
    let runtime = builder.build().expect("a runtime");
    let world = runtime.block_on(async {
        let world = World::new(plan, tells);
        Cast::new(&world, plan).play().await;
        world
    });
    let lasted = runtime.block_on(async { world.now() });
    drop(runtime);
    let mut inner = world.inner();
    if let Some(panic) = PANIC.take() {
        inner.observers.broken(lasted, format!("a panic: {panic}"));
    }
    Outcome {
        broken: inner.observers.all_broken().to_vec(),
        story: inner.story.take().unwrap_or_default(),
        digest: inner.digest.finish(),
        steps: inner.steps,
        lasted,
        figures: std::mem::take(&mut inner.observers.figures),
    }
}

/// How far a client has come.
#[derive(Debug, Default)]
struct Done {
    waited: bool,
    turns: u64,
    arrived: bool,
    finished: bool,
}

/// All who are in the world.
pub(super) struct Cast {
    pub(super) world: Arc<World>,
    pub(super) plan: Plan,
    processes: Mutex<BTreeMap<Who, Arc<Process>>>,
    starts: Mutex<BTreeMap<Who, u64>>,
    /// The number of the pod that each client is in.
    pods: Mutex<BTreeMap<usize, u64>>,
    done: Mutex<Vec<Done>>,
    /// Told each time that somebody has finished.
    finished: watch::Sender<usize>,
    /// Tells a client to end.
    pub(super) ends: Vec<Notify>,
    /// What runs for each `konductor-run`.
    trees: Mutex<BTreeMap<usize, Arc<Tree>>>,
    /// Locks that are deleted and not made anew yet.
    gone: Mutex<BTreeSet<usize>>,
    /// Clients whose nodes are lost.
    lost: Mutex<BTreeSet<usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(group: &str, plural: &str) -> String {
    path_in(TEAM, group, plural)
}

fn path_in(namespace: &str, group: &str, plural: &str) -> String {
    format!("/apis/{group}/v1/namespaces/{namespace}/{plural}")
}

const OURS: &str = "konductor.io";

impl Cast {
    fn new(world: &Arc<World>, plan: &Plan) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            plan: plan.clone(),
            processes: Mutex::default(),
            starts: Mutex::default(),
            pods: Mutex::default(),
            done: Mutex::new(plan.clients.iter().map(|_| Done::default()).collect()),
            finished: watch::Sender::new(0),
            ends: plan.clients.iter().map(|_| Notify::new()).collect(),
            trees: Mutex::default(),
            gone: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    async fn play(self: &Arc<Self>) {
        let (world, plan) = (&self.world, &self.plan);
        self.create_namespace();
        for name in [SYSTEM, ONLOOKERS].into_iter().chain(self.other_teams()) {
            world.create("/api/v1/namespaces", "v1", "Namespace", name, &json!({}));
        }
        for number in 0..plan.locks.len() {
            self.make_lock(number);
        }
        self.make_barriers();
        self.make_gates();
        tokio::spawn(Arc::clone(self).complete_jobs());
        if plan.calm.is_zero() {
            world.inner().observers.calm(Duration::ZERO);
            self.set_weather(Weather { way: 3, lag: 5, ..Weather::default() }, true);
        } else {
            self.set_weather(plan.weather, false);
        }
        tokio::spawn(controllers(Arc::clone(world)));
        for number in 0..plan.operators.len() {
            self.start(Who::Operator(number));
        }
        for (number, client) in plan.clients.iter().enumerate() {
            let (cast, begins) = (Arc::clone(self), client.begins);
            tokio::spawn(async move {
                sleep(begins).await;
                cast.start(Who::Client(number));
            });
        }
        for (at, what) in plan.events.clone() {
            let cast = Arc::clone(self);
            tokio::spawn(async move {
                sleep(at).await;
                cast.happen(what).await;
            });
        }
        sleep(plan.calm).await;
        self.calm_down();
        let leaves = |client: &crate::plan::Client| client.wrapper.as_ref().and_then(|wrapper| wrapper.leaves);
        let work = |client: &crate::plan::Client| client.works + REACTION + leaves(client).unwrap_or_default();
        let work: Duration = plan.clients.iter().map(|client| work(client) * client.times as u32).sum();
        let turns: u32 = plan.clients.iter().map(|client| client.times as u32).sum();
        let limit = PATIENCE + work + Duration::from_secs(20) * turns;
        let all = plan.clients.len();
        let mut finished = self.finished.subscribe();
        if timeout(limit, finished.wait_for(|count| *count >= all)).await.is_err() {
            let now = world.now();
            let left: Vec<_> = lock(&self.done)
                .iter()
                .enumerate()
                .filter(|(_, done)| !done.finished)
                .map(|(number, done)| format!("client {number} ({done:?})"))
                .collect();
            world.inner().observers.broken(now, format!("liveness: not finished in time: {}", left.join(", ")));
            return;
        }
        // What was sent while there was trouble may come late, and make a claim that nobody waits for any more.
        let last = tokio::time::Instant::now() + LATEST;
        while world.inner().under_way > 0 && tokio::time::Instant::now() < last {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(AFTERWARDS).await;
        let last = tokio::time::Instant::now() + HELD_AFTERWARDS;
        while !observe::left(&world.inner().server).is_empty() && tokio::time::Instant::now() < last {
            sleep(Duration::from_secs(1)).await;
        }
        let now = world.now();
        {
            let mut inner = world.inner();
            let Inner { server, observers, .. } = &mut *inner;
            observers.end(now, server);
        }
        // Nobody waits for a barrier's last round.
        let last = tokio::time::Instant::now() + RESTED;
        while world.inner().observers.has_unseen_barriers() && tokio::time::Instant::now() < last {
            sleep(Duration::from_secs(1)).await;
        }
        world.rest().await;
        let now = world.now();
        let mut inner = world.inner();
        let inner = &mut *inner;
        if inner.observers.has_unseen_barriers() {
            inner.observers.broken(now, "liveness: a barrier does not come to rest".into());
        }
    }

    fn create_namespace(&self) {
        let mut metadata = json!({ "name": TEAM });
        if self.plan.is_open_to_gates {
            metadata["annotations"] = json!({ "konductor.io/gates-from": ONLOOKERS });
        }
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
        self.world.ask(Method::POST, "/api/v1/namespaces", &namespace);
    }

    /// The namespaces of teams beside the first.
    fn other_teams(&self) -> BTreeSet<&'static str> {
        (0..self.plan.locks.len()).map(|lock| self.plan.namespace_of(lock)).filter(|name| *name != TEAM).collect()
    }

    fn make_barriers(&self) {
        for barrier in &self.plan.barriers {
            let mut spec = json!({ "expected": barrier.expected });
            let seconds = |seconds: u64| Value::from(format!("{seconds}s"));
            for (field, value) in [
                ("quorum", barrier.quorum.map(Value::from)),
                ("timeout", barrier.timeout.map(seconds)),
                ("resetAfter", barrier.reset_after.map(seconds)),
            ] {
                if let Some(value) = value {
                    spec[field] = value;
                }
            }
            self.world.create(&path(OURS, "barriers"), "konductor.io/v1", "Barrier", &barrier.name, &spec);
        }
    }

    fn make_gates(&self) {
        for side in &self.plan.sides {
            let conditions = side.needs.iter().map(|need| {
                let mut condition = json!({ "type": need.kind, "name": need.name, "state": need.state });
                if side.elsewhere {
                    condition["namespace"] = TEAM.into();
                }
                condition
            });
            let spec =
                json!({ "conditions": conditions.collect::<Vec<_>>(), "match": if side.any { "Any" } else { "All" } });
            let namespace = if side.elsewhere { ONLOOKERS } else { TEAM };
            let path = format!("/apis/{OURS}/v1/namespaces/{namespace}/gates");
            self.world.create(&path, "konductor.io/v1", "Gate", &side.name, &spec);
        }
        for gate in &self.plan.gates {
            self.world.create(&path("batch", "jobs"), "batch/v1", "Job", &gate.name, &json!({}));
            let mut spec = json!({ "conditions": [{ "type": "Job", "name": gate.name, "state": "Complete" }] });
            if let Some(timeout) = gate.timeout {
                spec["timeout"] = format!("{timeout}s").into();
            }
            self.world.create(&path(OURS, "gates"), "konductor.io/v1", "Gate", &gate.name, &spec);
        }
    }

    /// Where a gate is, counted with those that nobody waits for after the others.
    fn gate_path(&self, number: usize) -> String {
        let gates = &self.plan.gates;
        let Some(gate) = gates.get(number) else {
            let side = &self.plan.sides[number - gates.len()];
            let namespace = if side.elsewhere { ONLOOKERS } else { TEAM };
            return format!("{}/{}", path_in(namespace, OURS, "gates"), side.name);
        };
        format!("{}/{}", path(OURS, "gates"), gate.name)
    }

    fn barrier_path(&self, number: usize) -> String {
        format!("{}/{}", path(OURS, "barriers"), self.plan.barriers[number].name)
    }

    fn job_path(&self, gate: usize) -> String {
        format!("{}/{}", path("batch", "jobs"), self.plan.gates[gate].name)
    }

    fn expect(&self, barrier: usize, expected: u64) {
        self.world.ask(Method::PATCH, &self.barrier_path(barrier), &json!({ "spec": { "expected": expected } }));
    }

    /// The job of a gate, if it is there.
    fn job(&self, gate: usize) -> Option<Value> {
        let (code, job) = self.world.ask(Method::GET, &self.job_path(gate), &Value::Null);
        (code == 200).then_some(job)
    }

    /// Where these objects are.
    fn paths_of(&self, target: Target) -> Vec<String> {
        match target {
            Target::Lock(number) => vec![self.lock_path(number)],
            Target::ClaimsOf(client) => self.claims_of(client).into_iter().map(|(path, _)| path).collect(),
            Target::Barrier(number) => vec![self.barrier_path(number)],
            Target::Gate(number) => vec![self.gate_path(number)],
            Target::PodOf(client) => self.pod_of(client).map(|name| self.pod_path(client, &name)).into_iter().collect(),
            Target::Election => {
                vec![format!("{}/konductor-operator", path_in(SYSTEM, "coordination.k8s.io", "leases"))]
            }
        }
    }

    /// Whether gates of the other namespace may look into that of everybody.
    fn let_gates_look(&self, lets: bool) {
        let value = if lets { Value::from(ONLOOKERS) } else { Value::Null };
        let patch = json!({ "metadata": { "annotations": { "konductor.io/gates-from": value } } });
        self.world.ask(Method::PATCH, &format!("/api/v1/namespaces/{TEAM}"), &patch);
    }

    /// Deletes an object, and returns when it is to be made anew, after so long.
    async fn delete_for(&self, path: &str, pause: Duration) {
        self.world.ask(Method::DELETE, path, &Value::Null);
        sleep(pause).await;
    }

    /// A job is deleted, and made anew after so long.
    async fn recreate_job(&self, gate: usize, pause: Duration) {
        self.delete_for(&self.job_path(gate), pause).await;
        self.make_gates();
    }

    /// The controller of jobs says how one has ended.
    fn end_job(&self, gate: usize, condition: &str) {
        let status = json!({ "status": { "succeeded": u64::from(condition == "Complete"), "conditions": [
            { "type": condition, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" },
        ]}});
        self.world.ask(Method::PATCH, &format!("{}/status", self.job_path(gate)), &status);
    }

    /// Has each job be complete once its time has come, whatever becomes of it then, if it has not failed.
    async fn complete_jobs(self: Arc<Self>) {
        let mut times: Vec<_> = self.plan.gates.iter().filter_map(|gate| gate.completes).collect();
        times.sort();
        loop {
            let now = self.world.now();
            for (number, gate) in self.plan.gates.iter().enumerate() {
                let is_due = gate.completes.is_some_and(|at| at <= now);
                if is_due && self.job(number).is_some_and(|job| observe::state_of(&job) == "Active") {
                    self.end_job(number, "Complete");
                }
            }
            let next = times.iter().find(|at| **at > now).and_then(|at| at.checked_sub(now));
            if times.is_empty() {
                return;
            }
            sleep(next.unwrap_or(Duration::from_secs(5)).min(Duration::from_secs(5))).await;
        }
    }

    /// What runs for this client now. Whatever ran before is dead.
    pub(super) fn plant(&self, client: usize, tree: &Arc<Tree>) {
        lock(&self.trees).insert(client, Arc::clone(tree));
    }

    fn set_weather(&self, weather: Weather, calm: bool) {
        let mut inner = self.world.inner();
        (inner.weather, inner.calm) = (weather, calm);
    }

    /// So long, or until all trouble ends.
    fn until_calm(&self, span: Duration) -> Duration {
        span.min(self.plan.calm.saturating_sub(self.world.now()))
    }

    /// All trouble ends, also what would have lasted longer.
    fn calm_down(&self) {
        let now = self.world.now();
        self.set_weather(Weather { way: 3, lag: 5, ..Weather::default() }, true);
        {
            let mut inner = self.world.inner();
            inner.cuts.clear();
            inner.bans.clear();
            inner.admission.clear();
            inner.unservable.clear();
            inner
                .servers
                .iter_mut()
                .filter(|server| !server.is_there())
                .for_each(|server| server.replace(Duration::ZERO));
            inner.observers.calm(now);
            inner.tell(now, || "all is well from now on".into());
        }
        for tree in lock(&self.trees).values() {
            tree.resume();
        }
        for process in lock(&self.processes).values() {
            process.thaw();
            process.resume();
            process.set_clock(0);
        }
        for (number, lock) in self.plan.locks.iter().enumerate().filter(|(_, lock)| lock.is_semaphore) {
            self.set_permits(number, lock.permits);
        }
        for (number, barrier) in self.plan.barriers.iter().enumerate() {
            self.expect(number, barrier.expected);
        }
    }

    fn make_lock(&self, number: usize) {
        lock(&self.gone).remove(&number);
        let lock = &self.plan.locks[number];
        let (ttl, team) = (format!("{}s", lock.ttl), self.plan.namespace_of(number));
        if lock.is_semaphore {
            let queueing = if lock.best_effort { "BestEffortFIFO" } else { "StrictFIFO" };
            let spec = json!({ "permits": lock.permits, "ttl": ttl, "queueing": queueing });
            self.world.create(&path_in(team, OURS, "semaphores"), "konductor.io/v1", "Semaphore", &lock.name, &spec);
        } else {
            let spec = json!({ "ttl": ttl });
            self.world.create(&path_in(team, OURS, "leases"), "konductor.io/v1", "Lease", &lock.name, &spec);
        }
    }

    fn lock_path(&self, number: usize) -> String {
        let lock = &self.plan.locks[number];
        let plural = if lock.is_semaphore { "semaphores" } else { "leases" };
        format!("{}/{}", path_in(self.plan.namespace_of(number), OURS, plural), lock.name)
    }

    fn set_permits(&self, number: usize, permits: u64) {
        self.world.ask(Method::PATCH, &self.lock_path(number), &json!({ "spec": { "permits": permits } }));
    }

    /// Claims of a client, by name, and the path of their kind.
    fn claims_of(&self, client: usize) -> Vec<(String, Key)> {
        let is_semaphore = self.plan.locks[self.plan.clients[client].lock].is_semaphore;
        let (plural, kind) = if is_semaphore { ("permits", "Permit") } else { ("leaserequests", "LeaseRequest") };
        let id = resource::all().iter().position(|resource| resource.kind == kind).expect("claims are served");
        let (holder, team) = (holder(client), self.plan.team_of(client));
        let inner = self.world.inner();
        let claims = inner.server.store.list(id, Some(team), None, u64::MAX);
        let claims = claims.filter(|(_, stored)| stored.value["spec"]["holder"] == holder.as_str());
        claims.map(|(key, _)| (format!("{}/{}", path_in(team, OURS, plural), key.2), key.clone())).collect()
    }

    fn process(&self, who: Who) -> Option<Arc<Process>> {
        lock(&self.processes).get(&who).cloned()
    }

    /// Starts a process, for the first time or again; a client in a pod of its own, if it is in one.
    fn start(self: &Arc<Self>, who: Who) {
        if let Who::Client(number) = who {
            *lock(&self.pods).entry(number).or_default() += 1;
        }
        self.start_here(who);
    }

    /// The same in the pod that there is.
    fn start_here(self: &Arc<Self>, who: Who) {
        let start = {
            let mut starts = lock(&self.starts);
            let start = starts.entry(who).or_default();
            *start += 1;
            *start
        };
        let number = match who {
            Who::Operator(number) => number as u64,
            Who::Client(number) => 1000 + number as u64,
        };
        let chance = Chance::new(self.plan.seed, 1_000_000 + number * 1000 + start);
        let drift = match who {
            Who::Operator(number) => self.plan.operators[number],
            Who::Client(number) => self.plan.clients[number].drift,
        };
        let drift = drift + self.plan.mutation.map_or(0, |mutation| mutation.drift(who));
        let is_operator = matches!(who, Who::Operator(_));
        let process = Process::start(who.to_string(), is_operator, drift, chance);
        lock(&self.processes).insert(who, Arc::clone(&process));
        self.world.tell(|| format!("{who} starts ({start})"));
        match who {
            Who::Operator(number) => {
                tokio::spawn(within(process.clone(), operate(Arc::clone(self), process, number)));
            }
            Who::Client(number) => {
                let life = Life { cast: Arc::clone(self), process: process.clone(), number, start };
                tokio::spawn(within(process, life.live()));
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "a line or two for each")]
    async fn happen(self: &Arc<Self>, what: What) {
        let world = &self.world;
        world.tell(|| format!("*** {what:?}"));
        world.count(&format!("trouble: {}", word(&what)));
        match what {
            What::Crash(who, pause) => {
                let Some(process) = self.process(who) else { return };
                if let Who::Client(number) = who {
                    if lock(&self.done)[number].finished {
                        return;
                    }
                    if !process.kill() {
                        return;
                    }
                    // As PID 1 it takes all with it; else its watchdog ends the rest.
                    if let Some(tree) = lock(&self.trees).get(&number)
                        && self.plan.mutation != Some(Mutation::WatchdogsSleep)
                    {
                        tree.kill();
                    }
                    if self.plan.clients[number].in_pod && pause.as_millis() % 2 == 0 {
                        let now = world.now();
                        world.inner().observers.ended(now, number);
                        sleep(pause).await;
                        return self.start_here(who);
                    }
                    self.pod_fails(number).await;
                } else if !process.kill() {
                    return;
                }
                sleep(pause).await;
                self.start(who);
            }
            What::Freeze(who, span) => {
                let Some(process) = self.process(who) else { return };
                process.freeze();
                sleep(self.until_calm(span)).await;
                world.tell(|| format!("{who} goes on"));
                process.thaw();
            }
            What::Suspend(client, span) => {
                let Some(process) = self.process(Who::Client(client)) else { return };
                let tree = lock(&self.trees).get(&client).cloned();
                process.suspend();
                if let Some(tree) = &tree {
                    tree.suspend();
                }
                let now = world.now();
                world.inner().observers.suspended(now, client, true);
                sleep(self.until_calm(span)).await;
                self.resume(client, &process, tree.as_deref()).await;
            }
            What::SuspendOperator(number, span) => {
                let Some(process) = self.process(Who::Operator(number)) else { return };
                process.suspend();
                sleep(self.until_calm(span)).await;
                world.tell(|| format!("the machine of operator {number} goes on"));
                process.resume();
            }
            What::LoseNode { client, span, is_cut_off, kills } => {
                self.lose_node(client, span, is_cut_off, kills).await;
            }
            What::Cut(who, span) => world.cut_off(who.to_string(), span),
            What::Forbid(who, span) => {
                let until = tokio::time::Instant::now() + span;
                world.inner().bans.insert(who.to_string(), until);
            }
            What::Permits(number, permits) => self.set_permits(number, permits),
            What::Revoke(client) => {
                for (path, _) in self.claims_of(client) {
                    let patch = json!({ "metadata": { "annotations": { "konductor.io/revoke": "for a test" } } });
                    world.ask(Method::PATCH, &path, &patch);
                }
            }
            What::Delete(client) => {
                for (path, _) in self.claims_of(client) {
                    world.ask(Method::DELETE, &path, &Value::Null);
                }
            }
            What::Recreate(number, pause) => {
                world.ask(Method::DELETE, &self.lock_path(number), &Value::Null);
                lock(&self.gone).insert(number);
                sleep(pause).await;
                self.make_lock(number);
            }
            What::DeletePod(client, forced) => {
                let Some(name) = self.pod_of(client) else { return };
                if forced {
                    world.change(|server, _| server.purge(&self.pod_key(client, &name)));
                } else {
                    self.kubelet_ends(client).await;
                }
            }
            What::Compact => world.change(|server, _| {
                let version = server.store.version();
                server.store.compact(version);
            }),
            What::Stranger(number, permits) => {
                let lock = &self.plan.locks[number];
                let name = format!("stranger-{}", world.now().as_millis());
                let mut spec = json!({ "holder": "stranger", "instance": name, "ttl": "5s" });
                let (plural, kind) = if lock.is_semaphore {
                    spec["semaphore"] = lock.name.as_str().into();
                    spec["permits"] = permits.into();
                    ("permits", "Permit")
                } else {
                    spec["lease"] = lock.name.as_str().into();
                    ("leaserequests", "LeaseRequest")
                };
                let path = path_in(self.plan.namespace_of(number), OURS, plural);
                world.create(&path, "konductor.io/v1", kind, &name, &spec);
            }
            What::SetClock(who, ahead) => {
                if let Some(process) = self.process(who) {
                    process.set_clock(ahead);
                }
            }
            What::Replace(server, away) => world.replace(server, away),
            What::Restore(age, raised) => self.restore(age, raised).await,
            What::DeleteNamespace(pause) => self.delete_namespace(pause).await,
            What::Quota(span) => world.admits_not(Refusal::Quota, span),
            What::Refuse(span) => world.admits_not(Refusal::Policy, span),
            What::Webhook(span) => world.admits_not(Refusal::Webhook, span),
            What::Neighbour(mischief) => neighbour::disturb(world, &self.plan, mischief),
            What::Unservable(target, span) => {
                for path in self.paths_of(target) {
                    world.cannot_serve(path, span);
                }
            }
            What::GatesFrom(lets) => self.let_gates_look(lets),
            What::Ttl(number, seconds) => {
                let spec = json!({ "spec": { "ttl": format!("{seconds}s") } });
                world.ask(Method::PATCH, &self.lock_path(number), &spec);
            }
            What::Expect(number, expected) => self.expect(number, expected),
            What::RecreateGate(number, pause) => {
                self.delete_for(&self.gate_path(number), pause).await;
                self.make_gates();
            }
            What::RecreateBarrier(number, pause) => {
                self.delete_for(&self.barrier_path(number), pause).await;
                self.make_barriers();
            }
            What::FailJob(gate, pause) => {
                if self.job(gate).is_some_and(|job| observe::state_of(&job) == "Active") {
                    self.end_job(gate, "Failed");
                    sleep(pause).await;
                    self.recreate_job(gate, Duration::ZERO).await;
                }
            }
            What::DeleteJob(gate, pause) => self.recreate_job(gate, pause).await,
        }
    }

    /// A machine goes on that was suspended: what must not run any more is dead at once.
    async fn resume(&self, client: usize, process: &Process, tree: Option<&Tree>) {
        let world = &self.world;
        world.tell(|| format!("the machine of client {client} goes on"));
        tree.into_iter().for_each(Tree::resume);
        process.resume();
        sleep(RESUMED).await;
        let now = world.now();
        let mut inner = world.inner();
        let Inner { server, observers, .. } = &mut *inner;
        observers.suspended(now, client, false);
        observers.resumed(now, client, server);
    }

    /// Etcd is restored from a backup that is so old, and people see to what that leaves undone.
    async fn restore(self: &Arc<Self>, age: Duration, raised: bool) {
        let world = &self.world;
        let before: Vec<_> = (0..self.plan.operators.len()).map(|number| self.process(Who::Operator(number))).collect();
        world.restore(age, raised);
        self.make_namespace(Duration::ZERO).await;
        sleep(RESTARTED).await;
        self.restart_operators(&before);
    }

    /// What the runbook says after a backup was restored: operators that have not started over by themselves are started
    /// anew. So few versions may be lost that more come before anybody looks.
    fn restart_operators(self: &Arc<Self>, before: &[Option<Arc<Process>>]) {
        for (number, before) in before.iter().enumerate() {
            let who = Who::Operator(number);
            let now = self.process(who);
            if let (Some(before), Some(now)) = (before, now)
                && Arc::ptr_eq(before, &now)
                && now.kill()
            {
                self.world.count("operators that have not noticed an old backup");
                self.start(who);
            }
        }
    }

    /// Deletes the namespace of everybody, and makes it anew when all in it has gone.
    async fn delete_namespace(self: &Arc<Self>, pause: Duration) {
        let world = &self.world;
        world.ask(Method::DELETE, &format!("/api/v1/namespaces/{TEAM}"), &Value::Null);
        // The kubelets end what runs in pods.
        let is_in_it = |number: &usize| self.plan.team_of(*number) == TEAM && self.pod_of(*number).is_some();
        for number in (0..self.plan.clients.len()).filter(is_in_it) {
            let cast = Arc::clone(self);
            tokio::spawn(async move { cast.kubelet_ends(number).await });
        }
        self.make_namespace(pause).await;
    }

    /// Sees to it that there is the namespace of everybody, with its locks: if it is being deleted, so long after it has
    /// gone.
    async fn make_namespace(&self, pause: Duration) {
        let key = (resource::NAMESPACES, String::new(), TEAM.to_owned());
        let is_going = |found: &Value| !found["metadata"]["deletionTimestamp"].is_null();
        while self.world.object(&key).as_ref().is_some_and(is_going) {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(pause).await;
        self.create_namespace();
        let is_there = |number: &usize| !lock(&self.gone).contains(number);
        for number in (0..self.plan.locks.len()).filter(|number| self.plan.locks[*number].team == 0).filter(is_there) {
            self.make_lock(number);
        }
        self.make_barriers();
        self.make_gates();
    }

    /// The node of a client's pod is lost for so long.
    async fn lose_node(self: &Arc<Self>, client: usize, span: Duration, is_cut_off: bool, kills: bool) {
        let world = &self.world;
        let (Some(name), Some(process)) = (self.pod_of(client), self.process(Who::Client(client))) else { return };
        lock(&self.lost).insert(client);
        if is_cut_off {
            world.cut_off(process.name.clone(), span);
        }
        sleep(span / 3).await;
        // It is evicted; nobody is there to end it.
        world.ask(Method::DELETE, &self.pod_path(client, &name), &Value::Null);
        sleep(span / 3).await;
        self.collect(client, &name);
        sleep(span / 3).await;
        world.tell(|| format!("the node of client {client} is back"));
        lock(&self.lost).remove(&client);
        let is_current = self.process(Who::Client(client)).is_some_and(|now| Arc::ptr_eq(&now, &process));
        if kills && is_current && !lock(&self.done)[client].finished && process.kill() {
            if let Some(tree) = lock(&self.trees).get(&client) {
                tree.kill();
            }
            let now = world.now();
            world.inner().observers.ended(now, client);
            sleep(Duration::from_secs(1)).await;
            self.start(Who::Client(client));
        }
    }

    /// The collector of garbage says that a pod has failed, for which nobody has seen its processes end, and removes
    /// it.
    fn collect(&self, client: usize, name: &str) {
        let reason = json!({ "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC" });
        let mut status = json!({ "phase": "Failed", "conditions": [reason] });
        if self.plan.mutation == Some(Mutation::LostPodsAreCalledDead) {
            let state = json!({ "terminated": { "exitCode": 137, "finishedAt": "2026-01-01T00:00:00Z" } });
            status = json!({ "phase": "Failed", "containerStatuses": [{ "name": "main", "state": state }] });
        }
        let path = format!("{}/status", self.pod_path(client, name));
        self.world.ask(Method::PATCH, &path, &json!({ "status": status }));
        self.world.change(|server, _| server.purge(&self.pod_key(client, name)));
    }

    /// Until the kubelet of a client's pod is there.
    async fn kubelet(&self, client: usize) {
        while lock(&self.lost).contains(&client) {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The kubelet of a client's pod ends it, when it is there.
    async fn kubelet_ends(&self, client: usize) {
        self.kubelet(client).await;
        self.ends[client].notify_one();
    }

    /// The pod that a client runs in, if it is in one.
    fn pod_of(&self, client: usize) -> Option<String> {
        let pod = *lock(&self.pods).get(&client)?;
        self.plan.clients[client].in_pod.then(|| pod_name(client, pod))
    }

    /// The process of a client has died: its kubelet says so after a while, if it is in a pod.
    async fn pod_fails(&self, client: usize) {
        let Some(name) = self.pod_of(client) else { return };
        let now = self.world.now();
        // All of a container is dead when its first process is.
        self.world.inner().observers.ended(now, client);
        sleep(Duration::from_secs(1)).await;
        self.pod_ends(client, &name, "Failed", 137).await;
    }

    /// A client dies for good, and so does its pod.
    async fn die(self: Arc<Self>, client: usize) {
        if self.process(Who::Client(client)).is_some_and(|process| process.kill()) {
            self.world.tell(|| format!("client {client} dies"));
            let now = self.world.now();
            self.world.inner().observers.ended(now, client);
            self.world.count("holders that die when all is well");
            self.pod_fails(client).await;
            self.finish(client);
        }
    }

    /// The kubelet says so, when it is there.
    async fn pod_ends(&self, client: usize, name: &str, phase: &str, code: i32) {
        self.kubelet(client).await;
        let state = json!({ "terminated": { "exitCode": code, "finishedAt": "2026-01-01T00:00:00Z" } });
        let status = json!({ "status": { "phase": phase, "containerStatuses": [
            { "name": "main", "state": state, "lastState": {}, "ready": false, "restartCount": 0 },
        ]}});
        self.world.ask(Method::PATCH, &format!("{}/status", self.pod_path(client, name)), &status);
    }

    /// Where a pod of a client is.
    fn pod_path(&self, client: usize, name: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{name}", self.plan.team_of(client))
    }

    fn pod_key(&self, client: usize, name: &str) -> Key {
        (resource::PODS, self.plan.team_of(client).into(), name.into())
    }

    fn finish(&self, number: usize) {
        lock(&self.done)[number].finished = true;
        self.world.tell(|| format!("client {number} has finished"));
        self.finished.send_modify(|count| *count += 1);
    }
}

/// What something is called.
pub(super) fn word(of: &impl Debug) -> String {
    let text = format!("{of:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

pub(crate) fn holder(client: usize) -> String {
    format!("client-{client}")
}

fn pod_name(client: usize, pod: u64) -> String {
    format!("pod-{client}-{pod}")
}

/// What the controllers of Kubernetes do: collect garbage, and take down namespaces.
async fn controllers(world: Arc<World>) {
    // The version at which there was nothing to do.
    let mut idle_at = None;
    loop {
        sleep(Duration::from_secs(1)).await;
        world.look_at_rest();
        let version = world.inner().server.store.version();
        if idle_at == Some(version) {
            continue;
        }
        idle_at = Some(version);
        world.change(Server::control);
    }
}

/// An operator.
async fn operate(cast: Arc<Cast>, process: Arc<Process>, number: usize) {
    let world = Arc::clone(&cast.world);
    let clock = Clock::start();
    let metrics = Metrics::new(clock);
    let (of, by) = (Arc::clone(&world), Arc::clone(&process));
    let way = Way::Made(Arc::new(move || network::client(&of, &by)));
    let identity = format!("operator-{number}");
    let client = network::client(&world, &process);
    let election = Some((SYSTEM.to_owned(), LEASE));
    let ended = match Operator::start(way, client, identity, election, metrics, clock).await {
        Ok(operator) => {
            process::spawn(count(Arc::clone(&world), Arc::clone(&process), operator.censuses()));
            operator.run(std::future::pending()).await
        }
        Err(error) => Err(error),
    };
    let now = world.now();
    let why = ended.map_or_else(|error| format!("{error:#}"), |()| "as if it had been told to".to_owned());
    if world.inner().restored && why.contains("restored from a backup") && process.kill() {
        world.tell(|| format!("operator {number} ends: {why}"));
        world.count("operators that start over with nothing known");
        // By its kubelet.
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            cast.start(Who::Operator(number));
        });
        return;
    }
    world.inner().observers.broken(now, format!("operator {number} has ended: {why}"));
}

/// Has the engines of an operator say again and again how much they keep, as long as it lives.
async fn count(world: Arc<World>, process: Arc<Process>, censuses: Vec<(&'static str, Census)>) {
    loop {
        sleep(CENSUS).await;
        for (engine, census) in &censuses {
            let Some(sizes) = census.take().await else { return };
            let now = world.now();
            world.inner().observers.kept(now, &process.name, engine, &sizes);
        }
    }
}

/// A client, from a start to its end.
pub(super) struct Life {
    pub(super) cast: Arc<Cast>,
    pub(super) process: Arc<Process>,
    pub(super) number: usize,
    start: u64,
}

impl Life {
    async fn live(self) {
        let Self { cast, process, number, .. } = &self;
        let (number, plan) = (*number, &cast.plan.clients[*number]);
        let (of, by) = (Arc::clone(&cast.world), Arc::clone(process));
        let link = Arc::new(Link::made(Arc::new(move || network::client(&of, &by)), Program::SDK));
        let client = Client::over(link, cast.plan.team_of(number).into());
        let pod = match cast.pod_of(number) {
            Some(name) => Some(self.make_pod(name).await),
            None => None,
        };
        let done = |change: fn(&mut Done)| change(&mut lock(&cast.done)[number]);
        let (has_waited, has_arrived) = {
            let done = &lock(&cast.done)[number];
            (done.waited, done.arrived)
        };
        if let Some(wrapper) = &plan.wrapper {
            self.run(wrapper, &client, pod.clone()).await;
            if let Some(pod) = pod {
                cast.pod_ends(number, &pod.name, "Succeeded", 0).await;
            }
            return cast.finish(number);
        }
        if let Some(awaited) = plan.awaits.filter(|_| !has_waited) {
            self.wait(&client, awaited).await;
            done(|done| done.waited = true);
        }
        while lock(&cast.done)[number].turns < plan.times {
            if self.hold(&client, pod.clone()).await {
                done(|done| done.turns += 1);
            } else {
                sleep(Duration::from_secs(1)).await;
            }
        }
        if let Some(barrier) = plan.arrives.filter(|_| !has_arrived) {
            self.arrive(&client, barrier).await;
            done(|done| done.arrived = true);
        }
        if let Some(pod) = pod {
            cast.pod_ends(number, &pod.name, "Succeeded", 0).await;
        }
        cast.finish(number);
    }

    /// The pod of this name that it runs in, which may be there.
    async fn make_pod(&self, name: String) -> PodReference {
        let world = &self.cast.world;
        let spec = json!({ "nodeName": "node", "restartPolicy": "OnFailure", "containers": [{ "name": "main", "image": "i" }] });
        let pods = format!("/api/v1/namespaces/{}/pods", self.cast.plan.team_of(self.number));
        let make = || world.create(&pods, "v1", "Pod", &name, &spec);
        // No container starts before there is a pod: a namespace that is being deleted takes none.
        let uid = loop {
            make();
            let found = world.object(&self.cast.pod_key(self.number, &name));
            let uid = found.map_or(Value::Null, |pod| pod["metadata"]["uid"].clone());
            if let Some(uid) = uid.as_str() {
                break uid.to_owned();
            }
            sleep(Duration::from_secs(1)).await;
        };
        let state = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
        let status = json!({ "status": { "phase": "Running", "containerStatuses": [
            { "name": "main", "state": state, "lastState": {}, "ready": true, "restartCount": 0 },
        ]}});
        world.ask(Method::PATCH, &format!("{pods}/{name}/status"), &status);
        if self.cast.plan.mutation == Some(Mutation::KubeletsLie) {
            let (cast, number, name) = (Arc::clone(&self.cast), self.number, name.clone());
            tokio::spawn(async move {
                sleep(Duration::from_secs(10)).await;
                cast.pod_ends(number, &name, "Failed", 1).await;
            });
        }
        PodReference {
            container: "main".into(),
            start: format!("start-{}", self.start),
            ..PodReference::whole(name, uid)
        }
    }

    /// Runs `konductor-run` until it has succeeded as often as it is to, as a Job does.
    async fn run(&self, wrapper: &Wrapper, client: &Client, pod: Option<PodReference>) {
        let (cast, number) = (&self.cast, self.number);
        let plan = &cast.plan.clients[number];
        let mut runs = 0;
        while lock(&cast.done)[number].turns < plan.times {
            runs += 1;
            // Each is another start of the container.
            let pod = pod.clone().map(|pod| PodReference { start: format!("{}-{runs}", pod.start), ..pod });
            let exit = Run::new(self, wrapper, client.clone(), pod).go().await;
            cast.world.tell(|| format!("client {number}: {exit:?}"));
            cast.world.count(&format!("konductor-run ends with {}", exit.code()));
            if exit == Exit::Code(0) {
                lock(&cast.done)[number].turns += 1;
            } else {
                if plan.awaits.is_some_and(|awaited| self.has_failed(awaited)) {
                    return;
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Whether what is awaited will never open.
    fn has_failed(&self, awaited: Awaited) -> bool {
        let plan = &self.cast.plan;
        let (kind, name) = match awaited {
            Awaited::Barrier(number) => ("Barrier", &plan.barriers[number].name),
            Awaited::Gate(number) => ("Gate", &plan.gates[number].name),
        };
        let id = resource::all().iter().position(|resource| resource.kind == kind).expect("it is served");
        let found = self.cast.world.object(&(id, TEAM.to_owned(), name.clone()));
        found.is_some_and(|found| found["status"]["phase"] == "Failed")
    }

    async fn wait(&self, client: &Client, awaited: Awaited) {
        let plan = &self.cast.plan;
        let which = awaited;
        let awaited = match awaited {
            Awaited::Barrier(number) => rendezvous::Awaited::barrier(&plan.barriers[number].name),
            Awaited::Gate(number) => rendezvous::Awaited::gate(&plan.gates[number].name),
        };
        loop {
            let (world, number, mut is_open) = (&self.cast.world, self.number, false);
            let tell = |progress: Progress| {
                world.tell(|| format!("client {number}: {progress:?}"));
                is_open |= progress == Progress::Done;
            };
            rendezvous::wait(client.clone(), awaited.clone(), tell).await;
            if is_open || self.has_failed(which) {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn arrive(&self, client: &Client, barrier: usize) {
        let holder = holder(self.number);
        let arriving =
            Arriving { barrier: self.cast.plan.barriers[barrier].name.clone(), key: holder.clone(), holder, pod: None };
        loop {
            let (world, number, mut has_arrived) = (&self.cast.world, self.number, false);
            let tell = |progress: Progress| {
                world.tell(|| format!("client {number}: {progress:?}"));
                has_arrived |= progress == Progress::Done;
            };
            rendezvous::arrive(client.clone(), arriving.clone(), tell).await;
            if has_arrived {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// When this deadline comes, in the world's time.
    pub(super) fn deadline(&self, at: Boottime) -> Duration {
        self.process.moment(at.0).saturating_duration_since(self.cast.world.started)
    }

    /// When what a client that uses the library protects has ended at the latest.
    fn end_after(&self, fence: Duration) -> Duration {
        let is_late = self.cast.plan.mutation == Some(Mutation::CommandsOutliveTheirDeadline);
        fence + if is_late { Duration::from_secs(10) } else { Duration::ZERO }
    }

    /// When the client must have been told that this deadline has passed.
    fn untold_at(&self, fence: Duration) -> tokio::time::Instant {
        self.cast.world.started + fence + TOLD
    }

    /// The deadline has passed, and nothing was told. Returns when it is to be looked at again: who has just gone on
    /// needs a moment.
    fn is_untold(&self) -> Option<tokio::time::Instant> {
        let heard_by = self.process.runs_since() + TOLD;
        if tokio::time::Instant::now() < heard_by {
            return Some(heard_by);
        }
        let now = self.cast.world.now();
        self.cast.world.inner().observers.untold(now, self.number);
        None
    }

    /// What the client protects has ended.
    fn end_work(&self) {
        if self.cast.plan.mutation != Some(Mutation::CommandsOutliveTheirRelease) {
            let now = self.cast.world.now();
            self.cast.world.inner().observers.ended(now, self.number);
        }
    }

    /// Holds its lock once, for as long as its work takes. Returns whether it held it to the end.
    async fn hold(&self, client: &Client, pod: Option<PodReference>) -> bool {
        let (cast, number) = (&self.cast, self.number);
        let plan = &cast.plan.clients[number];
        let wanted_lock = &cast.plan.locks[plan.lock];
        let name = wanted_lock.name.clone();
        let wanted = if wanted_lock.is_semaphore {
            Wanted::Semaphore { name, permits: plan.permits as u32 }
        } else {
            Wanted::Lease { name }
        };
        let (ttl, holder) = (plan.ttl.map(Duration::from_secs), holder(number));
        let request = Request { wanted, priority: plan.priority, ttl, holder, pod };
        let (commands, received) = unbounded_channel();
        let (told, mut events) = unbounded_channel();
        let now = cast.world.now();
        cast.world.inner().observers.asks(now, number);
        let mut run = Box::pin(konductor::run(client.clone(), request, received, move |event| {
            // Its receiver is in the same function.
            let _ = told.send(event);
        }));
        let (mut works_until, mut untold_at) = (None, None);
        let (mut has_worked, mut is_over, mut is_told_to_end) = (false, false, false);
        loop {
            let never = tokio::time::Instant::now() + Duration::from_secs(1 << 30);
            tokio::select! {
                biased;
                Some(event) = events.recv() => {
                    cast.world.unheard(number, events.len());
                    cast.world.tell(|| format!("client {number}: {event:?}"));
                    cast.world.count(&format!("client: {}", word(&event)));
                    match event {
                        // Nothing is begun any more.
                        Event::Held { .. } if is_told_to_end => {}
                        Event::Held { fencing_token, deadline, .. } => {
                            cast.world.is_told_to_hold(&self.process);
                            let fence = self.deadline(deadline);
                            let (lock, weight, token) = (plan.lock, plan.permits, fencing_token);
                            let until = self.end_after(fence);
                            cast.world.holds(number, Taken { lock, weight, token, fence, until });
                            untold_at = Some(self.untold_at(fence));
                            works_until = Some(tokio::time::Instant::now() + plan.works);
                        }
                        Event::Extended { deadline } => {
                            cast.world.is_told_to_hold(&self.process);
                            let fence = self.deadline(deadline);
                            cast.world.inner().observers.extended(number, plan.lock, fence, self.end_after(fence));
                            untold_at = untold_at.map(|_| self.untold_at(fence));
                        }
                        Event::Lost { reason: LossReason::DeadlinePassed }
                            if cast.plan.mutation == Some(Mutation::DeadlinesAreNotTold) => {}
                        Event::Lost { reason } => {
                            untold_at = None;
                            cast.world.loses(number, plan.lock, &reason);
                            sleep(REACTION).await;
                            self.end_work();
                            works_until = None;
                            let _ = commands.send(Command::Release);
                        }
                        _ => {}
                    }
                }
                () = sleep_until(untold_at.unwrap_or(never)) => untold_at = self.is_untold(),
                () = sleep_until(works_until.unwrap_or(never)), if plan.dies => {
                    tokio::spawn(Arc::clone(cast).die(number));
                    works_until = None;
                }
                () = sleep_until(works_until.unwrap_or(never)) => {
                    self.end_work();
                    (works_until, untold_at, has_worked) = (None, None, true);
                    let _ = commands.send(Command::Release);
                }
                () = cast.ends[number].notified() => {
                    // What TERM does to konductor-run: the command ends, and then the claim is given back.
                    is_told_to_end = true;
                    sleep(REACTION).await;
                    self.end_work();
                    (works_until, untold_at) = (None, None);
                    let _ = commands.send(Command::Release);
                }
                () = &mut run, if !is_over => is_over = true,
                else => return has_worked,
            }
            if is_over && events.is_empty() {
                return has_worked;
            }
        }
    }
}
