//! How much goes through: full cycles under contention beside what the API server can do at all, and grants alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use konductor::Boottime;
use konductor_api::{ClaimPhase, Permit, Semaphore};
use konductor_tests::{client, parse, wait_for, workspace};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Effort;
use crate::footprint::{create_claims, processor};
use crate::sample::{Figure, Sample};
use crate::scale::{AT_ONCE, raw_patches};
use crate::scene::{LIMIT, Scene, of, phase};
use crate::table::{Row, Table};
use crate::writes::Counts;

/// How many clients there are at once.
const CLIENTS: usize = 32;

/// On how many permits they are, and what the rate is meant to be, over that of the same writes alone.
const GOALS: [(usize, &str); 3] = [(1, ">= 0.60"), (4, ">= 0.75"), (16, ">= 0.85")];

/// A group in which nobody watches: its permits are those of Konductor in all but that.
pub(crate) const RAW_GROUP: &str = "raw.konductor.io";

/// Cycles of acquire and release, of many clients on few permits, in turns with create, status patch and delete of the
/// same kind of object, which nobody decides on and nobody watches.
pub(crate) async fn cycles(scene: &Scene, effort: Effort, table: &mut Table) {
    install_raw(scene).await;
    let (mut one, mut many) = (Sample::default(), Sample::default());
    let mut ours = GOALS.map(|(permits, goal)| (permits, goal, Sample::default(), Sample::default()));
    let mut writes = String::new();
    for (permits, ..) in &ours {
        scene.semaphore(&semaphore_of(*permits), *permits).await;
    }
    for _ in 0..effort.windows {
        one.push(raw(scene, 1, effort.window).await.rate);
        many.push(raw(scene, CLIENTS, effort.window).await.rate);
        for (permits, _, rates, costs) in &mut ours {
            let before = Counts::now(scene).await;
            let work = contended(scene, &semaphore_of(*permits), effort.window).await;
            (writes, _) = Counts::now(scene).await.since(&before).each(work.in_all);
            rates.push(work.rate);
            costs.push(work.operator.as_secs_f64() * 1000.0 / work.done);
        }
    }
    for (permits, goal, rates, costs) in &ours {
        let plural = if *permits == 1 { "" } else { "s" };
        let row = Row::new(
            format!("full cycles, {CLIENTS} clients on {permits} permit{plural}"),
            format!("{}; operator's CPU {} ms each", rates.show(" a second"), Figure(costs.median())),
        );
        table.push(
            row.beside(format!(
                "raw create + status patch + delete: {CLIENTS} clients {}; 1 client {}",
                many.show(" a second"),
                one.show(" a second")
            ))
            .ratio(rates.median() / many.median())
            .goal(*goal),
        );
        scene.clear(&semaphore_of(*permits)).await;
    }
    table.push(Row::new("API writes per full cycle of the last of these", writes));
}

fn semaphore_of(permits: usize) -> String {
    format!("cycles-{permits}")
}

/// What was done in one window of time.
struct Work {
    done: f64,
    /// How many a second.
    rate: f64,
    /// What the operator took of a processor.
    operator: Duration,
    /// What was done before and after the window, too.
    in_all: usize,
}

/// Counts what many tasks do in one window of time, once each has done it once.
struct Counter {
    done: AtomicUsize,
    stop: AtomicBool,
}

impl Counter {
    /// Lets each of `clients` work again and again.
    async fn count<W>(scene: &Scene, clients: Vec<W>, window: Duration) -> Work
    where
        W: AsyncFnMut() + 'static,
    {
        let counter = Arc::new(Self { done: AtomicUsize::new(0), stop: AtomicBool::new(false) });
        let (ready, mut all_ready) = tokio::sync::mpsc::channel(clients.len());
        let local = tokio::task::LocalSet::new();
        let number = clients.len();
        let mut tasks = JoinSet::new();
        for mut work in clients {
            let (counter, ready) = (Arc::clone(&counter), ready.clone());
            let task = async move {
                work().await;
                ready.send(()).await.expect("somebody listens");
                while !counter.stop.load(Ordering::Relaxed) {
                    work().await;
                    counter.done.fetch_add(1, Ordering::Relaxed);
                }
            };
            tasks.spawn_local_on(task, &local);
        }
        let measure = async {
            for _ in 0..number {
                all_ready.recv().await.expect("all tasks begin");
            }
            let look = || {
                let done = counter.done.load(Ordering::Relaxed) as f64;
                (Boottime::now(), done, processor(scene.operator.pid()))
            };
            let (start, done_before, operator_before) = look();
            tokio::time::sleep(window).await;
            let (end, done, operator) = look();
            let (done, operator) = (done - done_before, operator.saturating_sub(operator_before));
            counter.stop.store(true, Ordering::Relaxed);
            while let Some(ended) = tasks.join_next().await {
                ended.expect("a client does its work");
            }
            Work {
                done,
                rate: done / end.since(start).as_secs_f64(),
                operator,
                in_all: number + counter.done.load(Ordering::Relaxed),
            }
        };
        timeout(LIMIT, local.run_until(measure)).await.expect("clients get on with their work")
    }
}

/// Clients that each take a permit, give it back at once, and ask again.
async fn contended(scene: &Scene, semaphore: &str, window: Duration) -> Work {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (client, semaphore) = (scene.client().await, semaphore.to_owned());
        clients.push(async move || {
            let permit = client.semaphore(semaphore.clone()).acquire().await.expect("acquire a permit");
            permit.release().await.expect("release a permit");
        });
    }
    Counter::count(scene, clients, window).await
}

/// The same three writes a cycle, and nothing else.
async fn raw(scene: &Scene, clients: usize, window: Duration) -> Work {
    let mut all = Vec::new();
    for number in 0..clients {
        let client = client(scene.control_plane.admin_kubeconfig()).await;
        let api: Api<DynamicObject> = Api::namespaced_with(client, &scene.namespace.name, &raw_resource());
        let mut cycle = 0;
        all.push(async move || {
            cycle += 1;
            let name = format!("raw-{number}-{cycle}");
            api.create(&PostParams::default(), &raw_permit(&name)).await.expect("create");
            let status = Patch::Merge(json!({ "status": granted() }));
            api.patch_status(&name, &PatchParams::default(), &status).await.expect("patch the status");
            api.delete(&name, &DeleteParams::default()).await.expect("delete");
        });
    }
    Counter::count(scene, all, window).await
}

/// As much as a claim says.
pub(crate) fn raw_permit(name: &str) -> DynamicObject {
    let permit = json!({
        "apiVersion": format!("{RAW_GROUP}/v1"), "kind": "Permit", "metadata": { "name": name },
        "spec": { "semaphore": "raw", "holder": name, "instance": name },
    });
    serde_json::from_value(permit).expect("an object")
}

/// As much status as a grant writes.
pub(crate) fn granted() -> Value {
    json!({
        "phase": "Granted", "ttl": "5m0s", "term": 1_700_000_000, "fencingToken": 1_700_000_000_u64 << 20, "ticket": 1,
        "acquiredAt": "2026-01-01T00:00:00.000000Z", "expiresAt": "2026-01-01T00:05:00.000000Z",
        "message": "granted", "conditions": [{
            "type": "Granted", "status": "True", "reason": "Granted", "message": "granted",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        }],
    })
}

pub(crate) fn raw_resource() -> ApiResource {
    ApiResource {
        group: RAW_GROUP.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{RAW_GROUP}/v1"),
        kind: "Permit".to_owned(),
        plural: "permits".to_owned(),
    }
}

/// Installs the `Permit`s' definition once more, in the group in which nobody watches, unless it is there.
pub(crate) async fn install_raw(scene: &Scene) {
    let folder = workspace().join("charts/konductor/files/crds");
    let own = format!("permits.{}", konductor_api::GROUP);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    let objects = files.flat_map(|file| {
        let text = std::fs::read_to_string(file.expect("list the CRDs").path()).expect("read a CRD");
        parse(&text)
    });
    let found = objects.into_iter().find(|object| object.name_any() == own);
    let mut definition = serde_json::to_value(found.expect("the Permits' CRD")).expect("an object is plain data");
    definition["metadata"] = json!({ "name": format!("permits.{RAW_GROUP}") });
    definition["spec"]["group"] = json!(RAW_GROUP);
    let definition: CustomResourceDefinition = serde_json::from_value(definition).expect("a CRD");
    let definitions: Api<CustomResourceDefinition> = Api::all(scene.namespace.client.clone());
    match definitions.create(&PostParams::default(), &definition).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("create a CRD: {error}"),
    }
    wait_for(&definitions, &definition.name_any(), LIMIT, |definition| {
        let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
    })
    .await;
}

/// Grants a second, of claims that wait for a semaphore to be opened, in turns with as many status patches of objects of the
/// same schema that nobody decides on.
pub(crate) async fn grants(scene: &Scene, effort: Effort, table: &mut Table) {
    install_raw(scene).await;
    let (mut ours, mut raw) = (Sample::default(), Sample::default());
    for round in 0..effort.windows {
        ours.push(granted_a_second(scene, &format!("grants-{round}"), effort.grants).await);
        raw.push(raw_patches(scene, &format!("grants-{round}"), effort.grants).await.0);
    }
    let row = Row::new(format!("grants alone, {} claims that all fit at once", effort.grants), ours.show(" a second"));
    let beside = format!("raw status patches, {AT_ONCE} at a time: {}", raw.show(" a second"));
    table.push(row.beside(beside).ratio(ours.median() / raw.median()).goal(">= 0.8"));
}

async fn granted_a_second(scene: &Scene, semaphore: &str, number: usize) -> f64 {
    scene.semaphore(semaphore, 0).await;
    create_claims(scene, semaphore, number).await;
    scene.wait_pending(semaphore, number).await;
    let permits: Api<Permit> = scene.namespace.api();
    let now = permits.list(&of(semaphore)).await.expect("list the claims").metadata.resource_version;
    let watch = WatchParams::default().fields(&format!("spec.semaphore={semaphore}"));
    let mut events = permits.watch(&watch, &now.unwrap_or_default()).await.expect("watch the claims").boxed();

    let start = Boottime::now();
    let open = Patch::Merge(json!({ "spec": { "permits": number } }));
    let semaphores: Api<Semaphore> = scene.namespace.api();
    semaphores.patch(semaphore, &PatchParams::default(), &open).await.expect("open the semaphore");
    let mut granted = 0;
    let all = async {
        while granted < number {
            match events.try_next().await.expect("watch the claims").expect("a watch outlasts this") {
                WatchEvent::Modified(permit) if phase(&permit) == Some(ClaimPhase::Granted) => granted += 1,
                _ => {}
            }
        }
    };
    timeout(LIMIT, all).await.expect("all are granted");
    let rate = number as f64 / Boottime::now().since(start).as_secs_f64();
    drop(events);
    scene.clear(semaphore).await;
    rate
}
