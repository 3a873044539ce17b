//! What the chart renders and what it refuses. Golden files show what the values of `charts/konductor/ci` come to.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use konductor_tests::workspace;
use serde_json::{Value, json};

use crate::helm::{CHART, Helm, values_files};

/// Kinds whose objects are generated from the code, and compared where they are.
const GENERATED: [&str; 2] = ["CustomResourceDefinition", "ValidatingAdmissionPolicy"];

#[test]
fn typical_values_come_to_what_is_written() {
    let files = values_files();
    assert_eq!(files.len(), 5);
    for (name, path) in files {
        let path = path.to_str().expect("a UTF-8 path");
        let render = |helm: Helm| {
            let arguments = ["template", "konductor", CHART, "--namespace", "konductor-system", "--values", path];
            let rendered = helm.says(&arguments).unwrap_or_else(|error| panic!("{helm:?} {name}: {error}"));
            shortened(&rendered)
        };
        let [three, four] = Helm::ALL.map(render);
        assert!(three == four, "{name}: what Helm 4 renders is not what Helm 3 does:\n{four}");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart/golden").join(format!("{name}.yaml"));
        konductor_golden::check_file(golden, |_| three);
    }
}

/// Rendered objects without what is generated, without what is in a file as it is, of no version, and without empty
/// lines, of which the Helms write different numbers.
fn shortened(rendered: &str) -> String {
    let mut text = rendered.to_owned();
    for (file, indent) in [("files/rules.yaml", 2), ("files/dashboard.json", 4)] {
        let path = workspace().join(CHART).join(file);
        let content = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let lines = content.trim().lines();
        let indented: Vec<_> = lines.map(|line| format!("{:indent$}{line}", "")).collect();
        text = text.replace(&indented.join("\n"), &format!("{:indent$}# {file}, as it is", ""));
    }
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut short = String::new();
    let mut skipped = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let kind = line.strip_prefix("kind: ");
        if kind.is_some() || line == "---" {
            skipped = kind.is_some_and(|kind| GENERATED.contains(&kind));
        }
        // Of what is generated, the metadata is the chart's.
        if skipped && line == "spec:" {
            short += "# generated\n";
        } else if !skipped || !short.ends_with("# generated\n") {
            short += line.trim_end();
            short.push('\n');
        }
    }
    short
}

/// Names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("konductor_") || word.starts_with("process_")).collect()
}

/// Whether an extended regular expression matches the whole word.
fn is_all_of(word: &str, pattern: &str) -> bool {
    let script = "printf '%s\\n' \"$1\" | grep --quiet --extended-regexp --line-regexp --regexp=\"$2\"";
    let status = Command::new("sh").args(["-c", script, "sh", word, pattern]).status().expect("run grep");
    match status.code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("{pattern:?} is no pattern: {other:?}"),
    }
}

#[test]
fn typical_values_keep_the_series_that_dashboard_and_alerts_ask_for() {
    let read = |file: &str| std::fs::read_to_string(workspace().join(CHART).join(file)).expect("read a file");
    let texts = ["files/rules.yaml", "files/dashboard.json"].map(read);
    let asked_for: BTreeSet<_> = texts.iter().flat_map(|text| metrics(text)).collect();
    assert!(asked_for.contains("process_resident_memory_bytes"), "{asked_for:?}");
    let mut rules = 0;
    for (name, path) in values_files() {
        let values = std::fs::read_to_string(path).expect("read the values");
        let values: Value = serde_yaml_ng::from_str(&values).expect("YAML");
        for monitor in ["podMonitor", "serviceMonitor"] {
            for rule in values["metrics"][monitor]["metricRelabelings"].as_array().into_iter().flatten() {
                assert_eq!((&rule["sourceLabels"], &rule["action"]), (&json!(["__name__"]), &json!("drop")), "{name}");
                // As Prometheus takes it: the whole name.
                let pattern = rule["regex"].as_str().expect("a pattern");
                let dropped: Vec<_> = asked_for.iter().filter(|name| is_all_of(name, pattern)).collect();
                assert!(dropped.is_empty(), "{name} drops {dropped:?}");
                rules += 1;
            }
        }
    }
    assert_eq!(rules, 1, "there are values that drop something");
}

#[test]
fn both_helms_find_nothing_to_complain_about() {
    for helm in Helm::ALL {
        let linted = helm.says(&["lint", "--strict", CHART]).expect("nothing wrong");
        assert!(linted.contains("1 chart(s) linted, 0 chart(s) failed"), "{linted}");
        assert!(!linted.contains("[INFO]") && !linted.contains("[WARNING]"), "{linted}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_sentence() {
    for (values, sentence) in [
        (
            json!({ "metrics": { "podMonitor": { "enabled": true }, "serviceMonitor": { "enabled": true } } }),
            "metrics.podMonitor and metrics.serviceMonitor are both enabled, so that every series would be there \
             twice: enable one",
        ),
        (
            json!({ "podDisruptionBudget": { "minAvailable": 1, "maxUnavailable": 0 } }),
            "podDisruptionBudget has minAvailable and maxUnavailable, of which Kubernetes takes one: leave the other \
             empty",
        ),
        (
            json!({ "commonLabels": { "app.kubernetes.io/name": "locks" } }),
            "commonLabels has app.kubernetes.io/name, which the chart sets, and finds its objects by: leave it out",
        ),
        (
            json!({ "podLabels": { "app.kubernetes.io/component": "lock" } }),
            "podLabels has app.kubernetes.io/component, which the chart sets",
        ),
        (
            json!({ "metrics": { "dashboard": { "labels": { "helm.sh/chart": "mine" } } } }),
            "metrics.dashboard.labels has helm.sh/chart, which the chart sets",
        ),
        (
            json!({ "extraEnv": [{ "name": "KONDUCTOR_LOG", "value": "debug" }] }),
            "extraEnv has KONDUCTOR_LOG, which is set already: leave it out (log.level and log.format are values of \
             their own)",
        ),
        (
            json!({ "extraEnv": [{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }] }),
            "extraEnv has A, which is set already",
        ),
        (
            json!({ "serviceAccount": { "create": false } }),
            "serviceAccount.name is needed when serviceAccount.create is false",
        ),
        (json!({ "image": { "digest": "sha256:123" } }), "at '/image/digest': 'sha256:123' does not match pattern"),
        (json!({ "fullnameOverride": "Locks" }), "at '/fullnameOverride': 'Locks' does not match pattern"),
    ] {
        for helm in Helm::ALL {
            let refusal = refusal(helm, &values);
            assert!(refusal.contains(sentence), "{helm:?} {values}: {refusal}");
        }
    }
}

#[test]
fn an_unknown_value_is_refused_by_its_name() {
    let schema = std::fs::read_to_string(workspace().join(CHART).join("values.schema.json")).expect("read the schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut sections = Vec::new();
    let values = unknown_everywhere(&schema, &schema, "", &mut sections);
    assert!(sections.contains(&"/metrics/podMonitor".to_owned()), "{sections:?}");
    for helm in Helm::ALL {
        let refusal = refusal(helm, &values);
        for section in &sections {
            let complaint = format!("at '{section}': additional properties 'unheardOf' not allowed");
            assert!(refusal.contains(&complaint), "{helm:?} {section}: {refusal}");
        }
    }
}

/// Values with something unknown in every section that the schema closes; the sections, as JSON pointers.
fn unknown_everywhere(root: &Value, schema: &Value, path: &str, sections: &mut Vec<String>) -> Value {
    let schema = schema["$ref"].as_str().map_or(schema, |reference| &root["definitions"][&reference[14..]]);
    let mut values = json!({});
    if schema["additionalProperties"] == json!(false) {
        sections.push(path.to_owned());
        values["unheardOf"] = json!("x");
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inner = unknown_everywhere(root, property, &format!("{path}/{name}"), sections);
        if inner != json!({}) {
            values[name] = inner;
        }
    }
    values
}

/// What Helm says against these values.
fn refusal(helm: Helm, values: &Value) -> String {
    let file = tempfile::NamedTempFile::new().expect("make a file");
    std::fs::write(file.path(), values.to_string()).expect("write the values");
    let path = file.path().to_str().expect("a UTF-8 path");
    helm.says(&["template", "konductor", CHART, "--values", path]).expect_err("they are refused")
}
