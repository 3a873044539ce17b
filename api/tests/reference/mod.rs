//! What the pages of `docs/api` say of fields, values and conditions is what the code says: fields come from the custom
//! resource definitions, values from their types, and conditions are what the rules answer in [`conditions::cases`].
//!
//! A page has, for each of its kinds, a part between two markers that is written here; all else on it is written by
//! hand. `UPDATE_DOCS=1 cargo test -p konductor-api --test crds reference` writes these parts anew.

mod conditions;
mod fields;
mod values;

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use self::conditions::Case;

/// The pages, and the kinds that each is about.
const PAGES: [(&str, &[&str]); 4] = [
    ("semaphore.md", &["Semaphore", "Permit"]),
    ("lease.md", &["Lease", "LeaseRequest"]),
    ("barrier.md", &["Barrier", "Arrival"]),
    ("gate.md", &["Gate"]),
];

/// The line above a part that is written here.
fn begin(kind: &str) -> String {
    format!(
        "<!-- {kind}, up to the next such line: UPDATE_DOCS=1 cargo test -p konductor-api --test crds reference -->\n"
    )
}

/// The line below it.
fn end(kind: &str) -> String {
    format!("<!-- end of {kind} -->")
}

#[test]
fn the_pages_of_the_resources_are_what_their_types_say() {
    let definitions = konductor_api::crds::all();
    let cases = conditions::cases();
    let mut told = BTreeSet::new();
    for (page, kinds) in PAGES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api").join(page);
        let committed = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut current = committed.clone();
        for kind in kinds {
            let definition = definitions.iter().find(|one| one.spec.names.kind == *kind).expect("a kind");
            let cases: Vec<_> = cases.iter().filter(|case| case.kind == *kind).collect();
            current = replaced(&current, &begin(kind), &end(kind), &part(definition, &cases))
                .unwrap_or_else(|| panic!("docs/api/{page} has no place for {kind}:\n{}{}", begin(kind), end(kind)));
            told.insert(*kind);
        }
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&file, &current).expect("write the page");
        } else {
            assert!(
                committed == current,
                "docs/api/{page} is not current: UPDATE_DOCS=1 cargo test -p konductor-api --test crds reference"
            );
        }
    }
    let all: BTreeSet<_> = definitions.iter().map(|one| one.spec.names.kind.as_str()).collect();
    assert_eq!(told, all, "each kind has its page");
}

/// The text with another part between two markers; none if it does not have these.
fn replaced(text: &str, begin: &str, end: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{part}\n{end}{after}"))
}

/// All of a kind.
fn part(definition: &CustomResourceDefinition, cases: &[&Case]) -> String {
    let names = &definition.spec.names;
    let version = &definition.spec.versions[0];
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()).expect("a schema");
    let schema = serde_json::to_value(schema).expect("JSON");
    let mut part = format!(
        "`apiVersion: {}/{}`, `kind: {}`; to kubectl `{}`, in short `{}`.",
        definition.spec.group,
        version.name,
        names.kind,
        // kubectl takes `lease` for that of Kubernetes itself.
        format_args!("{}.{}", names.plural, definition.spec.group),
        names.short_names.iter().flatten().next().expect("a short name"),
    );
    let columns = |wide: bool| {
        let columns = version.additional_printer_columns.iter().flatten();
        let columns = columns.filter(|column| (column.priority.unwrap_or(0) > 0) == wide);
        columns.map(|column| column.name.to_uppercase()).collect::<Vec<_>>().join(", ")
    };
    let _ = write!(part, "\nColumns: {}", columns(false));
    let wide = columns(true);
    if !wide.is_empty() {
        let _ = write!(part, "; with `-o wide` also {wide}");
    }
    part += ".";
    let selectable: Vec<_> = version.selectable_fields.iter().flatten().collect();
    if !selectable.is_empty() {
        let fields: Vec<_> = selectable.iter().map(|field| code(field.json_path.trim_start_matches('.'))).collect();
        let _ = write!(part, "\n`--field-selector` knows {}.", fields.join(", "));
    }
    if let Some(scale) = version.subresources.as_ref().and_then(|subresources| subresources.scale.as_ref()) {
        let path = code(scale.spec_replicas_path.trim_start_matches('.'));
        let _ = write!(part, "\n`kubectl scale` sets {path}.");
    }
    part += "\n";
    for name in ["spec", "status"] {
        let Some(schema) = schema["properties"].get(name) else { continue };
        let _ = write!(part, "\n### {}: {name}\n\n", names.kind);
        let rows = fields::of(schema);
        if name == "spec" {
            let rows: Vec<_> = rows.iter().map(fields::Field::wanted).collect();
            table(&mut part, ["field", "type", "default", "bounds", "meaning"], &rows);
        } else {
            // What the operator writes is left to nobody's default.
            let rows: Vec<_> = rows.iter().map(fields::Field::told).collect();
            table(&mut part, ["field", "type", "bounds", "meaning"], &rows);
        }
        let rules = fields::rules(schema);
        if !rules.is_empty() {
            part += "\nThe API server also refuses what breaks one of these rules:\n\n";
            for rule in rules {
                let _ = writeln!(part, "- {rule}");
            }
        }
    }
    let meanings = values::of(&names.kind, &schema);
    if !meanings.is_empty() {
        let _ = write!(part, "\n### {}: values\n\n", names.kind);
        table(&mut part, ["field", "value", "meaning"], &meanings);
    }
    if !cases.is_empty() {
        let _ = write!(part, "\n### {}: conditions and reasons\n\n", names.kind);
        let rows = conditions::rows(cases);
        if rows.iter().any(|[.., example]| !example.is_empty()) {
            table(&mut part, ["condition", "status", "reason", "when", "message, for example"], &rows);
        } else {
            let rows: Vec<_> =
                rows.into_iter().map(|[kind, status, reason, when, _]| [kind, status, reason, when]).collect();
            table(&mut part, ["condition", "status", "reason", "when"], &rows);
        }
    }
    part
}

/// A Markdown table.
fn table<const N: usize>(page: &mut String, columns: [&str; N], rows: &[[String; N]]) {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    *page += &line(&columns.map(str::to_owned));
    *page += &"|---".repeat(N);
    *page += "|\n";
    for row in rows {
        *page += &line(row);
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// The first paragraph of a text of the code, as on a page.
fn said(schema: &Value) -> String {
    plain(schema["description"].as_str().unwrap_or_default())
}

/// The first paragraph of a doc comment, as a sentence of its own: what links within the code says its name only.
fn plain(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    let text = first.replace("[`", "`").replace("`]", "`").replace('\n', " ");
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
