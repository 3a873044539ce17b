//! The reference page, `docs/metrics.md`: written from what is registered, and compared with what is committed.
//!
//! `UPDATE_DOCS=1 cargo test -p konductor-operator reference` writes it anew.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use super::{
    ExpiryLabels, KindLabels, Metrics, ResourceLabels, WriteLabels,
    exposition::Exposition,
    parents::{Figures, SHARE, SHOWN},
};
use crate::{clock::Clock, key::ParentKey};

const ABOUT: &str = "
The operator serves these at `/metrics` on port 8080 (`KONDUCTOR_METRICS_ADDR`), as OpenMetrics to who asks for that and in the
classic text format to all others. [The runbook](runbook.md) says what the alerts on them mean and what to do.

- **Scrape every replica, and keep the labels that are there** (`honorLabels: true` of a PodMonitor or ServiceMonitor,
  `honor_labels: true` of a scrape configuration): `namespace` is that of the lock, barrier or gate, and not the operator's.
- Figures of locks, barriers and gates come from the leader only, so nothing is added up twice. Counters are each replica's own:
  `sum` them, without the replicas' labels.
- Counters and histograms are there from the start, at 0, but for `konductor_writes_total`, whose series come with the first write of
  each kind and outcome.
- Of a lock that does not exist, or does not any more, `konductor_waiting` and `konductor_oldest_waiter_seconds` are there as long as
  claims wait for it, and `konductor_permits` and `konductor_in_use` are not.
";

const BOUNDED: &str = "
A parent is a lock, a barrier or a gate. No more than {SHOWN} of them have series of their own at a time, and no more than {SHARE} of one
namespace, so that what there is in a cluster does not decide how much a scrape brings. (Over time there can be more: a parent that is
made for one run and deleted leaves series that a Prometheus keeps for as long as it keeps any.) Where there are more, each namespace has
the same share, of which the first by name are shown, and what one does not need the others have. Who is left out has its
figures in its status all the same. `konductor_parents_left_out` says how many they are; alerts and panels do not see them.
All other series are one for each kind, resource or event loop: there are a few hundred in all.
";

const LABELS: [(&str, &str); 11] = [
    ("architecture", "what the program was built for"),
    (
        "change",
        "what was to be written: `grant`, `restamp`, `send-back`, `revoke`, `expire`, `tell`, `delete` of a claim; `raise`, \
                `settle`, `summarize` of a lock; `accept`, `decide`, `next-round`, `tell` of a barrier or gate; `adopt` of an \
                arrival",
    ),
    ("event_loop", "whose turn it is: of each kind"),
    ("kind", "`semaphore`, `lease`, `barrier` or `gate`"),
    ("le", "the upper bound of a bucket"),
    ("name", "of the parent"),
    ("namespace", "of the parent"),
    (
        "outcome",
        "`applied`; `premature`: not sent, as it was not time yet; `conflict` or `gone`: somebody else was first, which is no \
                 fault; `refused`, `unanswered` or `unreadable`: failed, and decided again",
    ),
    (
        "reason",
        "`died`: the container had ended; `silent`: not renewed in time; `unused`: nobody was there any more when its turn \
                 came; `unreadable`: nobody could read it; `waiting`: it was not held",
    ),
    ("resource", "the plural name of what is followed"),
    ("version", "the operator's own"),
];

/// One of each series.
fn example() -> Arc<Metrics> {
    let metrics = Metrics::new(Clock::start());
    for kind in ["semaphore", "lease"] {
        metrics.register_locks(kind);
    }
    let key = ParentKey::new("n", "p").into();
    metrics.parents.show(
        "semaphore",
        &key,
        Figures::Lock { permits: Some(1), in_use: Some(1), waiting: 0, oldest: None },
    );
    metrics.parents.show("barrier", &key, Figures::Barrier { open: false, arrived: 0, expected: 1 });
    metrics.turn(metrics.register_loop("semaphore"), Duration::ZERO, Duration::ZERO);
    let labels = ResourceLabels { resource: "permits".into() };
    drop(metrics.unreadable.get_or_create(&labels));
    metrics.register_kept("permits".into());
    drop(metrics.errors.get_or_create(&KindLabels { kind: "gate" }));
    drop(metrics.expiries.get_or_create(&ExpiryLabels { kind: "lease", reason: "silent" }));
    drop(metrics.writes.get_or_create(&WriteLabels { kind: "lease", change: "grant", outcome: "applied" }));
    std::mem::forget(metrics.register_watch("permits"));
    metrics
}

/// Of each family its type, its labels and what it is, by the name that it has in queries.
fn families() -> BTreeMap<String, (String, Vec<String>, String)> {
    let text = example().text(Exposition::Classic).expect("it can be written");
    let mut families: BTreeMap<String, (String, Vec<String>, String)> = BTreeMap::new();
    let mut help = "";
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("a help has words").1;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut current);
            families.insert(current.clone(), (kind.to_owned(), Vec::new(), help.to_owned()));
        } else {
            let family = families.get_mut(&current).expect("a type comes before its samples");
            let labels =
                line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
            for label in labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned())) {
                if !family.1.contains(&label) {
                    family.1.push(label);
                }
            }
        }
    }
    families
}

fn page() -> String {
    let mut page = format!("# Metrics\n{ABOUT}\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, (kind, labels, help)) in families() {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(" "), help.trim_end_matches('.'));
    }
    page += "\n## Labels\n\n| label | values |\n|---|---|\n";
    for (label, values) in LABELS {
        let _ = writeln!(page, "| `{label}` | {values} |");
    }
    page += "\n## How many series there can be\n";
    page + &BOUNDED.replace("{SHOWN}", &SHOWN.to_string()).replace("{SHARE}", &SHARE.to_string())
}

#[test]
fn the_reference_page_is_what_is_registered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).expect("the page can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page(),
        "docs/metrics.md is not what is registered: UPDATE_DOCS=1 cargo test -p konductor-operator reference"
    );
}

#[test]
fn each_label_is_explained() {
    let mut used: Vec<_> = families().into_values().flat_map(|(_, labels, _)| labels).collect();
    used.sort();
    used.dedup();
    assert_eq!(used, LABELS.map(|(label, _)| label.to_owned()));
}
