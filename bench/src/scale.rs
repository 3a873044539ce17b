//! Many claims: what grants, an operator that is killed and the API server cost, and that what one grant costs does not
//! grow with the number that wait.
//!
//! Claims name pods, as those of Jobs do; the driver creates them, and nothing runs. Those whose turn comes have a pod
//! that is there, so that the operator, which looks at it, finds it alive.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use konductor::Boottime;
use konductor_api::{ClaimPhase, Permit, Semaphore};
use konductor_tests::{TestNamespace, get};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::Effort;
use crate::footprint::{peak, processor, turn_times};
use crate::sample::{Figure, Sample};
use crate::scene::{LIMIT, Scene, phase};
use crate::table::{Row, Table};
use crate::throughput::{RAW_GROUP, granted, install_raw, raw_resource};

/// Requests of the driver that are under way at once: as many as the operator has for one lock.
pub(crate) const AT_ONCE: usize = 32;

/// Of so many claims one holds, where many share a lock.
const ONE_IN: usize = 10;

/// Claims of each lock, where locks are many; and how many of them hold.
const EACH: (usize, usize) = (10, 2);

/// So many claims wait in the short queue that the long one is compared with.
const FEW: usize = 100;

/// Handoffs in a row in one queue, before it is the other one's turn.
const STRETCH: usize = 40;

/// What waits in the short queue and in the long one.
const QUEUES: [&str; 2] = ["scale-few", "scale-one"];

/// Locks with some claims each.
pub(crate) async fn many_locks(scene: &mut Scene, effort: Effort, table: &mut Table) {
    let before = begin(scene, "scale-many").await;
    let locks = effort.crowd_claims / EACH.0;
    let (hold, wait) = (locks * EACH.1, locks * (EACH.0 - EACH.1));
    let of = format!("{} claims of which {wait} wait, on {locks} locks", effort.crowd_claims);
    let names: Vec<_> = (0..locks).map(|lock| format!("scale-{lock}")).collect();
    let create = async |name: &String| create_semaphore(scene, name, EACH.1).await;
    stream::iter(&names).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
    settled(scene, locks, &Terms::new()).await;
    let claims = names.iter().flat_map(|name| vec![name.clone(); EACH.0]).enumerate();
    // In rounds, so that each lock's first ones hold.
    let mut claims: Vec<_> = claims.map(|(number, lock)| (number % EACH.0, lock)).collect();
    claims.sort();
    // All of them are near the head of a queue, so the operator looks at all of their pods.
    fill(scene, table, &of, &claims, claims.len(), (hold, wait)).await;
    let rate = open(scene, &names, EACH.1 + 1, effort.grants.min(locks)).await;
    push_grants(table, &format!("grants alone, {of}"), &rate);
    take_over(scene, table, &of, locks).await;
    scene.namespace = before;
}

/// One lock that all claims are on.
pub(crate) async fn one_lock(scene: &mut Scene, effort: Effort, table: &mut Table) {
    let before = begin(scene, "scale-one").await;
    let [few, many] = QUEUES.map(str::to_owned);
    let hold = effort.crowd_claims / ONE_IN;
    let wait = effort.crowd_claims - hold;
    let of = format!("{} claims of which {wait} wait, on one lock", effort.crowd_claims);
    create_semaphore(scene, &many, hold).await;
    settled(scene, 1, &Terms::new()).await;
    let claims: Vec<_> = (0..effort.crowd_claims).map(|_| (0, many.clone())).collect();
    let handoffs = STRETCH * effort.windows;
    let real = hold + effort.grants + handoffs + 8 * AT_ONCE;
    fill(scene, table, &of, &claims, real, (hold, wait)).await;
    let rate = open(scene, std::slice::from_ref(&many), hold + effort.grants, effort.grants).await;
    push_grants(table, &format!("grants alone, {of}"), &rate);
    take_over(scene, table, &of, 1).await;
    compare_handoffs(scene, effort, table, [&few, &many]).await;
    let (_, metrics) = get(&scene.operator, "/metrics").await;
    for (what, metric) in
        [("processor time", "konductor_turn_processor_seconds"), ("as passed", "konductor_turn_seconds")]
    {
        let (within, all, longest) = turn_times(&metrics, metric);
        let found = format!("{} % of {all} within 5 ms; all within {longest} s", Figure(100.0 * within / all));
        table.push(Row::new(format!("operator, {of}: turns of its loops, {what}"), found).goal("all within 5 ms"));
    }
    scene.namespace = before;
}

/// A namespace in which there is nothing else, and an operator that knows of nothing yet. Returns the one before.
async fn begin(scene: &mut Scene, namespace: &str) -> TestNamespace {
    install_raw(scene).await;
    let own = scene.control_plane.namespace(namespace).await;
    let before = std::mem::replace(&mut scene.namespace, own);
    // Of all namespaces: the operator's memory is that of what is here.
    clear(&scene.namespace.client).await;
    scene.restart_operator().await;
    before
}

/// Creates claims, and waits until each is answered.
async fn fill(
    scene: &Scene,
    table: &mut Table,
    of: &str,
    claims: &[(usize, String)],
    real: usize,
    (hold, wait): (usize, usize),
) {
    let operator = scene.operator.pid();
    let (start, before) = (Boottime::now(), Spent::now(scene));
    let mut phases = Phases::follow(scene).await;
    let made = async {
        let make = async |(number, (_, lock)): (usize, &(usize, String))| {
            create_claim(scene, lock, &format!("{lock}-{number}"), number < real).await;
        };
        stream::iter(claims.iter().enumerate()).map(make).buffered(AT_ONCE).collect::<()>().await;
    };
    let told =
        phases.until(|phases| phases.count(ClaimPhase::Granted) == hold && phases.count(ClaimPhase::Pending) == wait);
    tokio::join!(made, told);
    let (took, spent) = (Boottime::now().since(start), Spent::now(scene).since(&before));
    let found = format!("{} MB", Figure(peak(operator)));
    table.push(Row::new(format!("operator, {of}: peak RSS"), found).goal("<= 32 MB with 10,000 on one"));
    let each = |time: Duration| Figure(time.as_secs_f64() * 1000.0 / claims.len() as f64);
    let found = format!("{} ms in {} s", each(spent.operator), Figure(took.as_secs_f64()));
    let beside = format!("API server: {} ms, for the driver's pods and for telling it, too", each(spent.api_server));
    table.push(Row::new(format!("CPU for each of {of}, until all are told"), found).beside(beside));
}

/// How fast something was written.
struct Rate {
    grants: Sample,
    raw: Sample,
    number: usize,
    /// Processor time of one write, in milliseconds: the operator's and the API server's, then the API server's of a
    /// raw one.
    operator: f64,
    api_server: f64,
    raw_api_server: f64,
}

fn push_grants(table: &mut Table, what: &str, rate: &Rate) {
    let cpu = format!("CPU each: operator {} ms, API server {} ms", Figure(rate.operator), Figure(rate.api_server));
    let found = format!("{} a second ({} at once); {cpu}", Figure(rate.grants.median()), rate.number);
    let beside = format!(
        "raw status patches, {AT_ONCE} at a time, before and after: {}; API server {} ms",
        rate.raw.show(" a second"),
        Figure(rate.raw_api_server)
    );
    let ratio = rate.grants.median() / rate.raw.median();
    table.push(Row::new(what, found).beside(beside).ratio(ratio).goal(">= 0.8"));
}

/// Gives these locks more permits while the operator stands still, and lets it go on: from then until the last grant.
async fn open(scene: &mut Scene, locks: &[String], permits: usize, number: usize) -> Rate {
    let mut raw = Sample::default();
    let (first, raw_api_server) = raw_patches(scene, "before", number).await;
    raw.push(first);
    let mut phases = Phases::follow(scene).await;
    let before = phases.count(ClaimPhase::Granted);
    scene.operator.freeze();
    let semaphores: Api<Semaphore> = scene.namespace.api();
    let give = async |lock: &String| {
        let patch = Patch::Merge(json!({ "spec": { "permits": permits } }));
        semaphores.patch(lock, &PatchParams::default(), &patch).await.expect("patch a Semaphore");
    };
    stream::iter(locks.iter().take(number)).map(give).buffer_unordered(AT_ONCE).collect::<()>().await;
    let (start, spent) = (Boottime::now(), Spent::now(scene));
    scene.operator.thaw();
    phases.until(|phases| phases.count(ClaimPhase::Granted) == before + number).await;
    let (took, spent) = (Boottime::now().since(start), Spent::now(scene).since(&spent));
    drop(phases);
    let (second, _) = raw_patches(scene, "after", number).await;
    raw.push(second);
    let each = |time: Duration| time.as_secs_f64() * 1000.0 / number as f64;
    let mut grants = Sample::default();
    grants.push(number as f64 / took.as_secs_f64());
    let (operator, api_server) = (each(spent.operator), each(spent.api_server));
    Rate { grants, raw, number, operator, api_server, raw_api_server }
}

/// Patches as much status into objects of the same kind, that nobody watches: how many a second, and the API server's
/// processor time of one in milliseconds.
pub(crate) async fn raw_patches(scene: &Scene, name: &str, number: usize) -> (f64, f64) {
    let api: Api<DynamicObject> =
        Api::namespaced_with(scene.namespace.client.clone(), &scene.namespace.name, &raw_resource());
    let named = |number: usize| format!("raw-{name}-{number}");
    let create = async |number: usize| {
        let name = named(number);
        let permit: DynamicObject = serde_json::from_value(json!({
            "apiVersion": format!("{RAW_GROUP}/v1"), "kind": "Permit", "metadata": { "name": name },
            "spec": spec("raw", &name, &json!({ "name": name, "uid": name })),
        }))
        .expect("an object");
        api.create(&PostParams::default(), &permit).await.expect("create");
    };
    stream::iter(0..number).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
    let patch = async |number: usize| {
        let status = Patch::Merge(json!({ "status": granted() }));
        api.patch_status(&named(number), &PatchParams::default(), &status).await.expect("patch the status");
    };
    let (start, before) = (Boottime::now(), Spent::now(scene));
    stream::iter(0..number).map(patch).buffer_unordered(AT_ONCE).collect::<()>().await;
    let (took, spent) = (Boottime::now().since(start), Spent::now(scene).since(&before));
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("delete what was made");
    (number as f64 / took.as_secs_f64(), spent.api_server.as_secs_f64() * 1000.0 / number as f64)
}

/// Kills the operator, starts it anew as a kubelet would, and waits until it has taken over all locks.
async fn take_over(scene: &mut Scene, table: &mut Table, of: &str, locks: usize) {
    let before = settled(scene, locks, &Terms::new()).await;
    let (start, spent) = (Boottime::now(), Spent::now(scene));
    scene.restart_operator().await;
    let leads = Boottime::now().since(start);
    settled(scene, locks, &before).await;
    let took = Boottime::now().since(start);
    let spent = spent.api_server_since(scene);
    let pid = scene.operator.pid();
    let found = format!(
        "{} s after the kill, {} s of them until it led; its CPU {} s, peak RSS {} MB",
        Figure(took.as_secs_f64()),
        Figure(leads.as_secs_f64()),
        Figure(processor(pid).as_secs_f64()),
        Figure(peak(pid))
    );
    let row = Row::new(format!("operator killed and started anew, {of}: all taken over"), found);
    table.push(row.beside(format!("API server: CPU {} s", Figure(spent.as_secs_f64()))).goal("<= 5 s on one"));
}

/// The terms of locks, by their names.
type Terms = HashMap<String, u64>;

/// Waits until so many locks are settled in a later term than before, and returns their terms.
async fn settled(scene: &Scene, locks: usize, before: &Terms) -> Terms {
    let semaphores: Api<Semaphore> = scene.namespace.api();
    // A list of a thousand takes the API server some time, too.
    let pause = Duration::from_millis(if locks > 1 { 200 } else { 20 });
    let all = async {
        loop {
            let list = semaphores.list(&ListParams::default()).await.expect("list the semaphores");
            let terms = list.items.iter().filter_map(|semaphore| {
                let (name, status) = (semaphore.name_any(), semaphore.status.as_ref()?);
                let settled = status.settled_term.filter(|settled| Some(*settled) == status.term)?;
                before.get(&name).is_none_or(|before| settled > *before).then_some((name, settled))
            });
            let terms: Terms = terms.collect();
            if terms.len() >= locks {
                return terms;
            }
            tokio::time::sleep(pause).await;
        }
    };
    timeout(LIMIT, all).await.expect("all locks are taken over")
}

/// What one handoff costs in a short queue, and in a long one: in turns, so that both have the same day.
async fn compare_handoffs(scene: &Scene, effort: Effort, table: &mut Table, [few, many]: [&str; 2]) {
    create_semaphore(scene, few, 1).await;
    let more = effort.crowd_claims / ONE_IN + effort.grants;
    // As many wait as were wanted, and a holder of the short queue.
    for (lock, number) in [(few, FEW + 1), (many, more)] {
        let create =
            async |number: usize| create_claim(scene, lock, &format!("{lock}-more-{number}"), lock == few).await;
        stream::iter(0..number).map(create).buffered(AT_ONCE).collect::<()>().await;
    }
    let mut phases = Phases::follow(scene).await;
    let all = effort.crowd_claims + FEW;
    phases.until(|phases| phases.count(ClaimPhase::Pending) >= all).await;
    let mut costs = [Sample::default(), Sample::default()];
    let mut times = [Sample::default(), Sample::default()];
    for window in 0..effort.windows {
        for (place, lock) in [few, many].into_iter().enumerate() {
            let spent = Spent::now(scene);
            for number in 0..STRETCH {
                times[place].push_time(hand_over(scene, &mut phases, lock, window * STRETCH + number).await);
            }
            let spent = Spent::now(scene).since(&spent);
            costs[place].push(spent.operator.as_secs_f64() * 1000.0 / STRETCH as f64);
        }
    }
    let [few, many] = costs;
    let [few_times, many_times] = times;
    let row = Row::new(
        format!("a handoff with {} waiting: operator's CPU, from the delete to the grant's news", effort.crowd_claims),
        format!("{}; {}", many.show(" ms"), many_times.show(" ms")),
    );
    let beside = format!("with {FEW} waiting: {}; {}", few.show(" ms"), few_times.show(" ms"));
    table.push(row.beside(beside).ratio(many.median() / few.median()).goal("<= 1.2"));
}

/// Deletes a holder, waits until another claim has its place, and has a new one line up at the end.
async fn hand_over(scene: &Scene, phases: &mut Phases, lock: &str, number: usize) -> Duration {
    let prefix = format!("{lock}-");
    let holder = phases.of(ClaimPhase::Granted, &prefix).expect("somebody holds");
    let before = phases.count(ClaimPhase::Granted);
    let permits: Api<Permit> = scene.namespace.api();
    let start = Boottime::now();
    permits.delete(&holder, &DeleteParams::default()).await.expect("delete a Permit");
    phases.until(|phases| !phases.has(&holder) && phases.count(ClaimPhase::Granted) == before).await;
    let took = Boottime::now().since(start);
    create_claim(scene, lock, &format!("{lock}-new-{number}"), lock == QUEUES[0]).await;
    took
}

/// Processor time that was spent so far.
struct Spent {
    operator: Duration,
    api_server: Duration,
}

impl Spent {
    fn now(scene: &Scene) -> Self {
        Self { operator: processor(scene.operator.pid()), api_server: processor(scene.control_plane.api_server.pid()) }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            operator: self.operator.saturating_sub(before.operator),
            api_server: self.api_server.saturating_sub(before.api_server),
        }
    }

    /// Also when the operator is another one by now.
    fn api_server_since(&self, scene: &Scene) -> Duration {
        processor(scene.control_plane.api_server.pid()).saturating_sub(self.api_server)
    }
}

/// The phases of all claims, by a list and what a watch has shown since.
struct Phases {
    api: Api<Permit>,
    known: HashMap<String, Option<ClaimPhase>>,
    version: String,
}

impl Phases {
    async fn follow(scene: &Scene) -> Self {
        let mut phases = Self { api: scene.namespace.api(), known: HashMap::new(), version: String::new() };
        phases.list().await;
        phases
    }

    async fn list(&mut self) {
        let list = self.api.list(&ListParams::default()).await.expect("list the claims");
        self.known = list.items.iter().map(|permit| (permit.name_any(), phase(permit))).collect();
        self.version = list.metadata.resource_version.unwrap_or_default();
    }

    fn count(&self, wanted: ClaimPhase) -> usize {
        self.known.values().filter(|phase| **phase == Some(wanted)).count()
    }

    fn has(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    fn of(&self, wanted: ClaimPhase, prefix: &str) -> Option<String> {
        let mut found = self.known.iter().filter(|(name, phase)| **phase == Some(wanted) && name.starts_with(prefix));
        found.next().map(|(name, _)| name.clone())
    }

    /// Follows the claims until they are as wanted.
    async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        let done = timeout(LIMIT, async { while !self.watch(&wanted).await {} }).await;
        let counts = [ClaimPhase::Granted, ClaimPhase::Pending].map(|phase| self.count(phase));
        assert!(done.is_ok(), "not within {LIMIT:?}: {counts:?} of {} hold and wait", self.known.len());
    }

    /// Whether one watch saw it. The API server ends watches, above all of those who are slow to read.
    async fn watch(&mut self, wanted: &impl Fn(&Self) -> bool) -> bool {
        if wanted(self) {
            return true;
        }
        let events = self.api.watch(&WatchParams::default(), &self.version).await.expect("watch the claims");
        let mut events = events.boxed();
        // To look at all of them after each event would be most of the work.
        let mut unseen = 0;
        loop {
            let event = match timeout(Duration::from_millis(1), events.try_next()).await {
                Ok(event) => event.expect("watch the claims"),
                Err(_) if unseen == 0 => events.try_next().await.expect("watch the claims"),
                Err(_) => {
                    unseen = 0;
                    if wanted(self) {
                        return true;
                    }
                    continue;
                }
            };
            unseen += 1;
            match event {
                Some(WatchEvent::Added(permit) | WatchEvent::Modified(permit)) => {
                    self.version = permit.resource_version().unwrap_or_default();
                    self.known.insert(permit.name_any(), phase(&permit));
                }
                Some(WatchEvent::Deleted(permit)) => {
                    self.version = permit.resource_version().unwrap_or_default();
                    self.known.remove(&permit.name_any());
                }
                Some(WatchEvent::Bookmark(_)) => {}
                Some(WatchEvent::Error(_)) | None => {
                    self.list().await;
                    return false;
                }
            }
        }
    }
}

async fn create_semaphore(scene: &Scene, name: &str, permits: usize) {
    let semaphore = json!({ "metadata": { "name": name }, "spec": { "permits": permits, "ttl": "1h" } });
    let semaphore = serde_json::from_value(semaphore).expect("a Semaphore");
    let api: Api<Semaphore> = scene.namespace.api();
    api.create(&PostParams::default(), &semaphore).await.expect("create a Semaphore");
}

/// Creates a claim of a container, whose pod is there or only said to be.
async fn create_claim(scene: &Scene, lock: &str, name: &str, real: bool) {
    let uid = if real {
        let container = json!({ "name": "main", "image": "registry.example/team/image:1.2.3" });
        let pod =
            json!({ "metadata": { "name": name }, "spec": { "containers": [container], "restartPolicy": "Never" } });
        let pods: Api<Pod> = scene.namespace.api();
        let pod = serde_json::from_value(pod).expect("a Pod");
        pods.create(&PostParams::default(), &pod).await.expect("create a Pod").uid().unwrap_or_default()
    } else {
        // As long as a real one, and no other claim's.
        format!("{name:-<36}")
    };
    let pod = json!({ "name": name, "uid": uid, "container": "main", "start": "0123abcd" });
    let permit = json!({ "metadata": { "name": name }, "spec": spec(lock, name, &pod) });
    let permit = serde_json::from_value(permit).expect("a Permit");
    let permits: Api<Permit> = scene.namespace.api();
    permits.create(&PostParams::default(), &permit).await.expect("create a Permit");
}

fn spec(lock: &str, name: &str, pod: &Value) -> Value {
    json!({ "semaphore": lock, "holder": name, "instance": name, "pod": pod })
}

/// Removes the locks and claims that parts before have left, namespace by namespace.
async fn clear(client: &Client) {
    let semaphores: Api<Semaphore> = Api::all(client.clone());
    let left = semaphores.list(&ListParams::default()).await.expect("list the semaphores");
    let namespaces: BTreeSet<_> = left.items.iter().filter_map(ResourceExt::namespace).collect();
    let all = (DeleteParams::default(), ListParams::default());
    for namespace in namespaces {
        let permits: Api<Permit> = Api::namespaced(client.clone(), &namespace);
        permits.delete_collection(&all.0, &all.1).await.expect("delete the claims");
        let semaphores: Api<Semaphore> = Api::namespaced(client.clone(), &namespace);
        semaphores.delete_collection(&all.0, &all.1).await.expect("delete the locks");
    }
}
