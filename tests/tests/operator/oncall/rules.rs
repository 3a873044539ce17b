//! Alerts: what they fire at is in `rules.test.yaml`, beside this.

use std::collections::BTreeSet;

use konductor_tests::workspace;
use serde_json::Value;

use super::prometheus::promtool;

pub(crate) const RULES: &str = "charts/konductor/files/rules.yaml";
const TESTS: &str = "tests/tests/operator/oncall/rules.test.yaml";

fn yaml(path: &str) -> Value {
    let text = std::fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"));
    serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All that stands under this name, wherever it is.
fn all<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| all(item, name, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == name {
                    found.push(value);
                }
                all(value, name, found);
            }
        }
        _ => {}
    }
}

/// All alerts.
pub(crate) fn alerts() -> Vec<Value> {
    let rules = yaml(RULES);
    let groups = rules["groups"].as_array().into_iter().flatten();
    groups.filter_map(|group| group["rules"].as_array().cloned()).flatten().collect()
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let path = |path: &str| workspace().join(path).display().to_string();
    promtool(&["check", "rules", &path(RULES)], "");
    promtool(&["test", "rules", &path(TESTS)], "");
    // And each is tested both ways.
    let tests = yaml(TESTS);
    let mut cases = Vec::new();
    all(&tests, "alert_rule_test", &mut cases);
    let cases: Vec<_> = cases.into_iter().flat_map(|cases| cases.as_array().into_iter().flatten()).collect();
    let tested = |fires: bool| -> BTreeSet<&str> {
        let cases = cases.iter().filter(|case| case.get("exp_alerts").is_some() == fires);
        cases.filter_map(|case| case["alertname"].as_str()).collect()
    };
    let alerts = alerts();
    let names: BTreeSet<_> = alerts.iter().filter_map(|alert| alert["alert"].as_str()).collect();
    assert_eq!((&tested(true), &tested(false)), (&names, &names));
}

#[test]
fn each_alert_has_a_section_in_the_runbook_that_says_what_it_means_and_what_to_do() {
    let runbook = std::fs::read_to_string(workspace().join("docs/runbook.md")).expect("read the runbook");
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        let section = runbook.split("\n## ").find(|section| section.lines().next() == Some(name));
        let section = section.unwrap_or_else(|| panic!("the runbook has no section {name}"));
        for part in ["**What it means.**", "**What to look at.**", "**What to do.**"] {
            assert!(section.contains(part), "{name} has no {part}");
        }
        let url = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
        assert!(url.ends_with(&format!("/docs/runbook.md#{}", name.to_lowercase())), "{name}: {url}");
    }
}
