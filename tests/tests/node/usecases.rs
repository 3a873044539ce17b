//! The use cases, as the pages of the examples tell them: what the commands say, and when, shows the promised order.
//!
//! Each command says when it begins and when it ends, with the machine's time since boot; what a container says is read
//! from its log. Both words are within the time in which it really ran, as in [`records`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use konductor_api::Arrival;
use konductor_tests::book::runs::Ran;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::cluster::Scene;
use crate::example::{drawn, told};
use crate::records::{Run, assert_in_order, hundredths};

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn a_pipeline_extracts_then_transforms_then_loads() {
    let scene = told("etl", |page| page.ends_with("examples/etl-pipeline.md")).await;
    for job in ["extract", "transform", "load"] {
        scene.completed(job).await;
    }
    let extractions = spans(&said(&scene, "job-name=extract").await, "extracting", "extracted");
    let transformations = spans(&said(&scene, "job-name=transform").await, "transforming", "transformed");
    let loads = spans(&said(&scene, "job-name=load").await, "loading", "loaded");
    assert_eq!([extractions.len(), transformations.len(), loads.len()], [3, 3, 2]);
    assert_follows(&transformations, &extractions);
    assert_follows(&loads, &transformations);
    assert_in_order(&transformations, 2);
    assert_in_order(&loads, 1);
    let arrivals = scene.api::<Arrival>().list(&ListParams::default()).await.expect("list the arrivals").items;
    assert_eq!(arrivals.len(), 3, "each extractor has arrived once: {arrivals:#?}");
    scene.at_rest("engine").await;
    let runs = [of("extract", &extractions), of("transform", &transformations), of("load", &loads)].concat();
    drawn(
        "etl",
        "Who ran when: three extractions side by side, after the last of them two transformations side by side and then the \
         third, after that two loads one after the other",
        &runs,
    );
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn of_a_batch_the_urgent_goes_first_and_two_run_at_a_time() {
    let scene = told("batch", |page| page.ends_with("examples/batch-processing.md")).await;
    let mut runs = Vec::new();
    let mut classes = BTreeMap::new();
    for job in ["urgent", "normal", "bulk"] {
        scene.completed(job).await;
        let theirs = spans(&said(&scene, &format!("job-name={job}")).await, "working on", "worked on");
        assert_eq!(theirs.len(), 2, "{theirs:#?}");
        classes.extend(theirs.iter().map(|run| (run.token, job)));
        runs.extend(theirs);
    }
    assert_in_order(&runs, 2);
    let order: Vec<_> = classes.values().copied().collect();
    assert_eq!(order, ["urgent", "urgent", "normal", "normal", "bulk", "bulk"], "{runs:#?}");
    // Two at a time: the third waits for the end of one of the first two, and so on.
    runs.sort_by_key(|run| run.token);
    for pair in [0, 2] {
        let freed = runs[pair..pair + 2].iter().map(|run| run.until).min();
        let next = runs[pair + 2..].iter().map(|run| run.from).min();
        assert!(freed <= next, "one of a lower priority ran before one of a higher had ended: {runs:#?}");
    }
    scene.at_rest("workers").await;
    let runs: Vec<_> = runs.iter().flat_map(|run| of(classes[&run.token], std::slice::from_ref(run))).collect();
    let title = "Who ran when: two at a time, first both pods of urgent, then both of normal, then both of bulk";
    drawn("batch", title, &runs);
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn of_three_replicas_one_migrates_and_none_serves_before() {
    let scene = told("migration", |page| page.ends_with("examples/database-migrations.md")).await;
    scene.kubectl(&["rollout", "status", "deployment/app", "--timeout=3m"]).await;
    let words = said(&scene, "app=app").await;
    let migration = spans(&words, "migrating", "migrated");
    let [migration] = &migration[..] else { panic!("not one migration: {words:#?}") };
    let looks = spans(&words, "looking", "left as it is");
    assert_eq!(looks.len(), 2, "the other replicas find it done: {words:#?}");
    assert_follows(&looks, std::slice::from_ref(migration));
    let whole = spans(&words, "looking", "migrated");
    assert_in_order(&[looks.clone(), whole].concat(), 1);
    let serving = spans(&words, "serving", "serving");
    assert_eq!(serving.len(), 3, "{words:#?}");
    assert_follows(&serving, std::slice::from_ref(migration));
    // They serve on: a second of it is enough to be seen.
    let last = serving.iter().map(|run| run.until).max().unwrap_or_default() + 100;
    let serving: Vec<_> = serving.iter().map(|run| Run { until: last, ..run.clone() }).collect();
    let runs = [of("migrate", std::slice::from_ref(migration)), of("look", &looks), of("serve", &serving)].concat();
    drawn(
        "migration",
        "Who ran when: one pod migrates, then the two others look and leave the schema as it is; all three serve only after \
         the migration",
        &runs,
    );
}

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn jobs_follow_the_success_the_failure_and_the_end_of_others() {
    let scene = told("dependencies", |page| page.ends_with("examples/job-dependencies.md")).await;
    for job in ["build", "alert", "report"] {
        scene.completed(job).await;
    }
    let ran = async |job: &str, begin: &str, end: &str| {
        let words = said(&scene, &format!("job-name={job}")).await;
        let found = spans(&words, begin, end);
        assert_eq!(found.len(), 1, "{job} runs once: {words:#?}");
        found
    };
    let build = ran("build", "building", "built").await;
    let verification = ran("verify", "verifying", "verified").await;
    let alert = ran("alert", "alerting", "alerting").await;
    let report = ran("report", "reporting", "reporting").await;
    assert_follows(&verification, &build);
    assert_follows(&alert, &verification);
    assert_follows(&report, &verification);
    scene.kubectl(&["wait", "--for=condition=Failed", "job/verify", "--timeout=0"]).await;
    let runs = [of("build", &build), of("verify", &verification), of("alert", &alert), of("report", &report)].concat();
    drawn("dependencies", "Who ran when: build, then verify, then alert and report side by side", &runs);
}

/// These runs, as rows of a picture.
fn of(who: &str, runs: &[Run]) -> Vec<Ran> {
    runs.iter().map(|run| Ran { who: who.to_owned(), from: run.from, until: run.until }).collect()
}

/// What a container has said: the pod, when, and the words.
type Said = (String, u64, String);

/// What the commands of these pods have said, in all containers.
async fn said(scene: &Scene, selector: &str) -> Vec<Said> {
    let pods = scene.api::<Pod>().list(&ListParams::default().labels(selector)).await.expect("list the pods");
    let mut all = Vec::new();
    for pod in pods.items.iter().map(ResourceExt::name_any) {
        let log = scene.kubectl(&["logs", &pod, "--all-containers", "--tail=-1"]).await;
        // Between these lines is what konductor-run logs.
        let stamped = log.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
        all.extend(stamped.filter_map(|line| {
            let (at, words) = line.split_once(' ')?;
            Some((pod.clone(), hundredths(at), words.to_owned()))
        }));
    }
    all
}

/// The times from one word to another, of each pod that has said both. The token is the last thing that the first
/// word's line says, if anything is held.
fn spans(said: &[Said], begin: &str, end: &str) -> Vec<Run> {
    let find = |pod: &str, word: &str| {
        said.iter().find(|(whose, _, words)| whose == pod && words.starts_with(word)).map(|(_, at, words)| (*at, words))
    };
    let mut pods: Vec<_> = said.iter().map(|(pod, ..)| pod.as_str()).collect();
    pods.dedup();
    let spans = pods.into_iter().filter_map(|pod| {
        let ((from, words), (until, _)) = (find(pod, begin)?, find(pod, end)?);
        let token = words.rsplit_once(" token ").map_or(0, |(_, token)| token.parse().expect("a token is a number"));
        Some(Run { pod: pod.to_owned(), token, from, until, ended: true })
    });
    spans.collect()
}

/// Fails unless all of the earlier runs were over when the first of the later ones began.
fn assert_follows(later: &[Run], earlier: &[Run]) {
    let (over, begun) = (earlier.iter().map(|run| run.until).max(), later.iter().map(|run| run.from).min());
    assert!(over.is_some() && over <= begun, "{later:#?}\nbegan before the end of\n{earlier:#?}");
}
