//! The dashboard that the chart ships, and its picture in the documentation.

use std::collections::BTreeSet;

use konductor_tests::workspace;
use serde_json::Value;

use super::{night, picture, prometheus::Prometheus};

const DASHBOARD: &str = "charts/konductor/files/dashboard.json";
const PICTURE: &str = "docs/dashboard.svg";

pub(crate) fn dashboard() -> Value {
    let text = std::fs::read_to_string(workspace().join(DASHBOARD)).expect("read the dashboard");
    serde_json::from_str(&text).expect("it is JSON")
}

/// A query as Grafana sends it: of all namespaces, with rates over this time.
pub(crate) fn expanded(query: &str, rates: &str) -> String {
    let query = query.replace("$namespace", ".*").replace("$__rate_interval", rates);
    assert!(!query.contains('$'), "a variable is not known: {query}");
    query
}

/// All queries, with the titles of their panels.
pub(crate) fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let queries = panels.flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().into_iter().flatten();
        targets.map(move |target| (title.clone(), target["expr"].as_str().expect("a query").to_owned()))
    });
    queries.collect()
}

#[test]
fn panels_do_not_overlap_and_all_know_where_their_data_is() {
    let dashboard = dashboard();
    let (mut places, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64()), "an id is there twice: {panel}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|field| panel["gridPos"][field].as_u64().expect("a place"));
        assert!(x + w <= 24, "{}", panel["title"]);
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(places.insert(place), "{} is on another one", panel["title"]);
        }
        for target in panel["targets"].as_array().expect("queries") {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
}

/// The picture is of a night that is made up. `UPDATE_DOCS=1 cargo test -p konductor-tests --test operator picture`
/// makes it anew.
#[tokio::test]
async fn the_picture_is_of_this_dashboard() {
    let folder = tempfile::tempdir().expect("a folder");
    night::write(&folder.path().join("data"));
    let prometheus = Prometheus::start(folder.path(), "global: {}\n").await;
    let drawn = picture::draw(&dashboard(), |query| {
        let query = expanded(query, "5m");
        prometheus.range(&query, night::TIMES, night::STEP).unwrap_or_else(|error| panic!("{query}: {error}"))
    });
    let path = workspace().join(PICTURE);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &drawn).expect("write the picture");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == drawn, "{PICTURE} is not of this dashboard: UPDATE_DOCS=1 makes it anew");
}
