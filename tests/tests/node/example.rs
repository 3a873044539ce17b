//! The examples, as their pages have people run them.

use std::path::Path;

use k8s_openapi::api::batch::v1::Job;
use konductor_tests::book::Telling;
use konductor_tests::book::runs::{Ran, rows, who_ran_when};
use konductor_tests::workspace;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::cluster::{LABEL, Scene};
use crate::pages::on_the_node;

#[tokio::test]
#[ignore = "needs root and a node: run tests/node/test"]
async fn the_warehouse_is_loaded_two_tables_at_a_time() {
    let scene = told("warehouse", |page| page.ends_with("examples/warehouse/README.md")).await;

    let jobs: Vec<Job> = scene.api().list(&ListParams::default()).await.expect("list the Jobs").items;
    assert_eq!(jobs.len(), 8);
    let (mut tokens, mut runs) = (Vec::new(), Vec::new());
    for job in jobs.iter().map(ResourceExt::name_any) {
        scene.completed(&job).await;
        let log = scene.kubectl(&["logs", &format!("job/{job}"), "--container", "load"]).await;
        let table = job.strip_prefix("load-").expect("the Jobs are named after tables");
        let loading = log.lines().find_map(|line| line.split_once(&format!(" loading {table} with fencing token ")));
        let (from, token) = loading.unwrap_or_else(|| panic!("{job} does not say what it does: {log}"));
        tokens.push(token.parse::<u64>().unwrap_or_else(|_| panic!("no fencing token in {log}")));
        let until = log.lines().find_map(|line| line.strip_suffix(&format!(" loaded {table}")));
        let until = until.unwrap_or_else(|| panic!("{job} does not say that it is done: {log}"));
        runs.push(Ran { who: table.to_owned(), from: stamp(from), until: stamp(until) });
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 8, "fencing tokens are distinct");
    scene.at_rest("warehouse").await;
    assert_eq!(scene.permits().await.len(), 0, "permits are left");
    drawn("warehouse", "Who ran when: eight loads, two at a time", &across_midnight(&runs));
}

/// Draws the picture of an example from what has run, and fails if the one that is committed has other rows. It is
/// replaced when `UPDATE_DOCS` is set.
pub(crate) fn drawn(example: &str, title: &str, runs: &[Ran]) {
    let path = workspace().join(format!("docs/pictures/{example}-run.svg"));
    let svg = who_ran_when(title, runs);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &svg).expect("write a picture");
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    let begin = |svg: &str| {
        svg.split_once("</style>").map(|(begin, _)| begin.split_once("<title").map(|(_, title)| title.to_owned()))
    };
    assert!(
        rows(&shown) == rows(&svg) && begin(&shown) == begin(&svg),
        "{} shows something else: UPDATE_DOCS=1 tests/node/test {example}",
        path.display()
    );
}

/// The example of this name, as its page has people run it. It has a namespace of its own, of the same name.
pub(crate) async fn told(name: &str, page: fn(&Path) -> bool) -> Scene {
    let mut scene = Scene::new("example").await;
    // Nothing is left from before.
    scene.kubectl(&["delete", "namespace", name, "--ignore-not-found"]).await;
    let own = std::mem::replace(&mut scene.namespace, name.to_owned());
    scene.kubectl(&["delete", "namespace", &own, "--wait=false"]).await;
    // The page names its namespace, so that there is nothing to read otherwise in what is printed.
    let cluster = (scene.kubeconfig().0, "default".to_owned());
    Telling { of: page, ..on_the_node() }.told(async |_| Some(cluster.clone())).await;
    scene.kubectl(&["label", "namespace", name, &format!("{LABEL}=example")]).await;
    scene
}

/// `12:34:56` in hundredths of a second.
fn stamp(clock: &str) -> u64 {
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().expect("a time of day is numbers")).collect();
    let [hours, minutes, seconds] = parts[..] else { panic!("{clock:?} is no time of day") };
    ((hours * 60 + minutes) * 60 + seconds) * 100
}

/// The same runs, where those after midnight come after those before.
fn across_midnight(runs: &[Ran]) -> Vec<Ran> {
    let day = 24 * 60 * 60 * 100;
    let is_late = runs.iter().any(|run| run.from > day / 2);
    let next = |at: u64| if is_late && at < day / 4 { at + day } else { at };
    runs.iter().map(|run| Ran { from: next(run.from), until: next(run.until), who: run.who.clone() }).collect()
}

#[test]
fn a_night_goes_on_after_midnight() {
    let ran = |from, until| Ran { who: "a".to_owned(), from: stamp(from), until: stamp(until) };
    let day = stamp("24:00:00");
    let runs = across_midnight(&[ran("23:59:58", "00:00:01"), ran("00:00:02", "00:00:03")]);
    let times: Vec<_> = runs.iter().map(|run| (run.from, run.until)).collect();
    assert_eq!(times, [(day - 200, day + 100), (day + 200, day + 300)]);
    let early = [ran("00:00:01", "00:00:02")];
    assert_eq!(across_midnight(&early), early);
}
