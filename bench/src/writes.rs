//! How many requests one cycle makes, by the API server's own count.

use std::collections::BTreeMap;

use konductor_api::GROUP;

use crate::Effort;
use crate::sample::Figure;
use crate::scene::Scene;
use crate::table::{Row, Table};

/// The counter, and the labels that tell what was asked for.
const COUNTER: &str = "apiserver_request_total{";

/// Verbs of the counter that change something.
const WRITES: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];

pub(crate) async fn measure(scene: &Scene, effort: Effort, table: &mut Table) {
    let semaphore = "writes";
    scene.semaphore(semaphore, 1).await;
    let mut command = scene.konductor_run(&["--semaphore", semaphore], &["true"]);
    let before = Counts::now(scene).await;
    for _ in 0..effort.runs {
        let output = command.output().expect("run konductor-run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let counts = Counts::now(scene).await.since(&before);
    scene.clear(semaphore).await;
    let (writes, reads) = counts.each(effort.runs);
    let goal = "3, and the semaphore's own share";
    table.push(Row::new("API writes per uncontended cycle", writes).goal(goal));
    table.push(Row::new("API reads per uncontended cycle", reads));
}

/// Requests for Konductor's resources and for events, by verb and resource.
pub(crate) struct Counts(BTreeMap<(String, String), f64>);

impl Counts {
    /// All requests that the API server has counted so far.
    pub(crate) async fn now(scene: &Scene) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a valid request");
        let text = scene.namespace.client.request_text(request).await.expect("read the API server's metrics");
        let mut counts = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(COUNTER)) {
            let (labels, count) = line.rsplit_once("} ").expect("labels and a number");
            let label = |name: &str| {
                let value = labels.split_once(&format!("{name}=\""));
                value.and_then(|(_, rest)| rest.split_once('"')).map_or("", |(value, _)| value)
            };
            if label("group") == GROUP || label("resource") == "events" {
                let (resource, subresource) = (label("resource"), label("subresource"));
                let slash = if subresource.is_empty() { "" } else { "/" };
                let key = (label("verb").to_owned(), format!("{resource}{slash}{subresource}"));
                *counts.entry(key).or_default() += count.parse::<f64>().expect("a number");
            }
        }
        Self(counts)
    }

    /// The requests after `before` was taken.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        for (asked, count) in &before.0 {
            *self.0.entry(asked.clone()).or_default() -= count;
        }
        self.0.retain(|_, count| *count > 0.0);
        self
    }

    /// How often this was asked of this resource.
    pub(crate) fn of(&self, verb: &str, resource: &str) -> f64 {
        self.0.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or(0.0)
    }

    /// Writes and reads per cycle.
    pub(crate) fn each(&self, cycles: usize) -> (String, String) {
        let (writes, reads): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|((verb, _), _)| WRITES.contains(&verb.as_str()));
        let show = |these: Vec<(&(String, String), &f64)>| {
            let sum: f64 = these.iter().map(|(_, count)| **count).sum();
            let part = |((verb, resource), count): &(&(String, String), &f64)| {
                format!("{verb} {resource} {}", Figure(**count / cycles as f64))
            };
            format!("{}: {}", Figure(sum / cycles as f64), these.iter().map(part).collect::<Vec<_>>().join(", "))
        };
        (show(writes), show(reads))
    }
}
