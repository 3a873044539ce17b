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
    let before = counts(scene).await;
    for _ in 0..effort.runs {
        let output = command.output().expect("run konductor-run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let after = counts(scene).await;
    scene.clear(semaphore).await;
    let mut each: BTreeMap<_, f64> = BTreeMap::new();
    for (asked, count) in after {
        let more = count - before.get(&asked).copied().unwrap_or_default();
        if more > 0.0 {
            each.insert(asked, more / effort.runs as f64);
        }
    }
    let (writes, reads): (Vec<_>, Vec<_>) = each.iter().partition(|((verb, _), _)| WRITES.contains(&verb.as_str()));
    for (what, these, goal) in [
        ("API writes per uncontended cycle", writes, "3, and the semaphore's own share"),
        ("API reads per uncontended cycle", reads, ""),
    ] {
        let sum: f64 = these.iter().map(|(_, count)| **count).sum();
        let parts: Vec<_> =
            these.iter().map(|((verb, resource), count)| format!("{verb} {resource} {}", Figure(**count))).collect();
        table.push(Row::new(what, format!("{}: {}", Figure(sum), parts.join(", "))).goal(goal));
    }
}

/// Requests for Konductor's resources and for events so far, by verb and resource.
async fn counts(scene: &Scene) -> BTreeMap<(String, String), f64> {
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
            let subresource = label("subresource");
            let slash = if subresource.is_empty() { "" } else { "/" };
            let key = (label("verb").to_owned(), format!("{}{slash}{subresource}", label("resource")));
            *counts.entry(key).or_default() += count.parse::<f64>().expect("a number");
        }
    }
    counts
}
