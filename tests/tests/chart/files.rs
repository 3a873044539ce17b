//! What the chart's files say of each other: values, their schema and the README's table; Chart.yaml and what it lists.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

use konductor_tests::{parse, workspace};
use serde_json::Value;

use crate::helm::CHART;

/// Below this line the README is made from the comments of values.yaml.
const BEGIN: &str = "<!-- From here to the end: UPDATE_DOCS=1 cargo test -p konductor-tests --test chart readme -->\n";

fn path(file: &str) -> PathBuf {
    workspace().join(CHART).join(file)
}

fn read(file: &str) -> String {
    let path = path(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// The one object in a YAML file.
fn yaml(file: &str) -> Value {
    serde_yaml_ng::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A value, or a section of values, as values.yaml has it.
#[derive(Debug)]
struct Entry {
    /// As `--set` takes it.
    path: String,
    comment: String,
    /// A section has none.
    default: Option<Value>,
}

/// The values, in the file's order. What is below a key is a section when something in it has a comment, and otherwise
/// the key's value.
fn entries(text: &str) -> Vec<Entry> {
    let values: Value = serde_yaml_ng::from_str(text).expect("values.yaml is YAML");
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut entries = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut above: Vec<(usize, &str)> = Vec::new();
    let mut below_value = None;
    for (number, line) in lines.iter().enumerate() {
        let text = line.trim();
        if below_value.is_some_and(|key| !text.is_empty() && indent(line) > key) {
            continue;
        }
        below_value = None;
        if text.is_empty() {
            comment.clear();
            continue;
        }
        if let Some(words) = text.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        let (key, _) = text.split_once(':').unwrap_or_else(|| panic!("values.yaml:{}: not a key", number + 1));
        above.retain(|(column, _)| *column < indent(line));
        above.push((indent(line), key));
        let path: Vec<_> = above.iter().map(|(_, key)| *key).collect();
        let mut below = lines[number + 1..].iter().take_while(|next| next.is_empty() || indent(next) > indent(line));
        let is_section = below.any(|next| next.trim_start().starts_with('#'));
        if !is_section {
            below_value = Some(indent(line));
        }
        let pointer = format!("/{}", path.join("/"));
        let value = values.pointer(&pointer).unwrap_or_else(|| panic!("values.yaml has no {pointer}"));
        entries.push(Entry {
            path: path.join("."),
            comment: std::mem::take(&mut comment).join(" "),
            default: (!is_section).then(|| value.clone()),
        });
    }
    entries
}

#[test]
fn a_values_comment_is_what_stands_right_above_it() {
    let entries =
        entries("# Of the file.\n\n# One\n# two.\na: 1\nb:\n  # Three.\n  c:\n    d: x\n  # Four.\n  e: []\nf: {}\n");
    let said: Vec<_> = entries
        .iter()
        .map(|entry| {
            let default = entry.default.as_ref().map(ToString::to_string);
            (entry.path.as_str(), entry.comment.as_str(), default)
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        said,
        [
            ("a", "One two.", some("1")),
            ("b", "", None),
            ("b.c", "Three.", some(r#"{"d":"x"}"#)),
            ("b.e", "Four.", some("[]")),
            ("f", "", some("{}")),
        ]
    );
}

#[test]
fn the_readme_is_what_the_comments_of_the_values_say() {
    let mut table = "\n| value | default | what it is |\n|---|---|---|\n".to_owned();
    for Entry { path, comment, default } in entries(&read("values.yaml")) {
        assert!(!comment.is_empty() || default.is_none(), "values.yaml: {path} has no comment");
        if !comment.is_empty() {
            let default = default.map_or_else(String::new, |value| format!("`{value}`"));
            writeln!(table, "| `{path}` | {default} | {} |", comment.replace('|', "\\|")).expect("write to a string");
        }
    }
    let committed = read("README.md");
    let (introduction, _) = committed.split_once(BEGIN).expect("the README says where its table begins");
    let readme = format!("{introduction}{BEGIN}{table}");
    if env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path("README.md"), &readme).expect("write the README");
    }
    assert!(
        read("README.md") == readme,
        "charts/konductor/README.md is not current: UPDATE_DOCS=1 cargo test -p konductor-tests --test chart readme"
    );
}

#[test]
fn the_schema_knows_the_values_that_there_are_and_no_others() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let entries = entries(&read("values.yaml"));
    let sections = entries.iter().filter(|entry| entry.default.is_none()).map(|entry| entry.path.as_str());
    for section in std::iter::once("").chain(sections) {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let there: BTreeSet<&str> = entries
            .iter()
            .filter_map(|entry| entry.path.strip_prefix(&prefix))
            .filter(|name| !name.contains('.'))
            .collect();
        let known = section.split('.').filter(|name| !name.is_empty()).fold(&schema, |known, name| {
            let property = &known["properties"][name];
            property["$ref"].as_str().map_or(property, |reference| &schema["definitions"][&reference[14..]])
        });
        assert_eq!(known["additionalProperties"], Value::Bool(false), "{section}");
        let properties = known["properties"].as_object().unwrap_or_else(|| panic!("the schema has no {section}"));
        // Helm's own.
        let properties: BTreeSet<_> = properties.keys().map(String::as_str).filter(|name| *name != "global").collect();
        assert_eq!(there, properties, "in {section:?}");
    }
}

#[test]
fn the_chart_says_what_is_in_it() {
    let chart = yaml("Chart.yaml");
    let description = chart["description"].as_str().expect("a description").to_lowercase();
    for kind in ["semaphores", "leases", "barriers", "gates"] {
        assert!(description.contains(kind), "{kind} in {description}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((chart["version"].as_str(), chart["appVersion"].as_str()), (Some(version), Some(version)));

    // The icon is a file of this repository, at its main branch.
    let icon = chart["icon"].as_str().expect("an icon");
    let (_, file) = icon.split_once("/main/").expect("an address in the repository");
    assert!(workspace().join(file).is_file(), "{icon}");

    let list = |annotation: &str| -> Vec<Value> {
        let text = chart["annotations"][annotation].as_str().unwrap_or_else(|| panic!("no {annotation}"));
        serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{annotation}: {error}"))
    };
    let names = |list: &[Value], field: &str| -> BTreeSet<String> {
        list.iter().map(|one| one[field].as_str().expect("text").to_owned()).collect()
    };
    let shipped: BTreeSet<_> = std::fs::read_dir(path("files/crds"))
        .expect("list the definitions")
        .map(|entry| entry.expect("list the definitions").path())
        .flat_map(|path| parse(&std::fs::read_to_string(path).expect("read a definition")))
        .map(|crd| crd.metadata.name.expect("a name"))
        .collect();
    assert_eq!(names(&list("artifacthub.io/crds"), "name"), shipped);
    let images = names(&list("artifacthub.io/images"), "image");
    for image in ["operator", "run", "cli"] {
        assert!(images.contains(&format!("konductor/{image}:{version}")), "{image} in {images:?}");
    }
    for link in list("artifacthub.io/links") {
        let url = link["url"].as_str().expect("an address");
        let (_, file) = url.split_once("/main/").expect("an address in the repository");
        assert!(workspace().join(file).is_file(), "{url}");
    }
}
