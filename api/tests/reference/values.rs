//! What the values of a field mean that has only some.

use std::collections::BTreeMap;

use konductor_api::{
    ClaimPhase, LeasePhase, Match, Override, Pick, Queueing, RendezvousPhase, SemaphorePhase,
    rendezvous::fact::{Dependency, Wanted},
    selector::Operator,
};
use schemars::{Schema, schema_for};
use serde_json::Value;

use super::{code, plain};

/// The type of a field, by kind and path.
fn types(kind: &str) -> Vec<(&'static str, Schema)> {
    match kind {
        "Semaphore" => {
            vec![("spec.queueing", schema_for!(Queueing)), ("status.phase", schema_for!(SemaphorePhase))]
        }
        "Permit" | "LeaseRequest" => vec![("status.phase", schema_for!(ClaimPhase))],
        "Lease" => vec![("status.phase", schema_for!(LeasePhase))],
        "Barrier" => vec![("status.phase", schema_for!(RendezvousPhase))],
        "Gate" => vec![
            ("spec.match", schema_for!(Match)),
            ("spec.override", schema_for!(Override)),
            ("spec.conditions[].type", schema_for!(Dependency)),
            ("spec.conditions[].state", schema_for!(Wanted)),
            ("spec.conditions[].pick", schema_for!(Pick)),
            ("spec.conditions[].selector.matchExpressions[].operator", schema_for!(Operator)),
            ("status.phase", schema_for!(RendezvousPhase)),
        ],
        _ => Vec::new(),
    }
}

/// Field, value and meaning; of all values that there are in the schema of this kind.
pub(super) fn of(kind: &str, schema: &Value) -> Vec<[String; 3]> {
    let mut there = BTreeMap::new();
    collect(schema, "", &mut there);
    let mut rows = Vec::new();
    for (path, schema) in types(kind) {
        let schema = serde_json::to_value(schema).expect("JSON");
        let variants = schema["oneOf"].as_array().unwrap_or_else(|| panic!("{kind} {path}: {schema}"));
        let values: Vec<_> = variants.iter().map(|one| one["const"].as_str().expect("a value").to_owned()).collect();
        assert_eq!(there.remove(path).as_ref(), Some(&values), "{kind} {path}");
        for (value, variant) in values.iter().zip(variants) {
            let meaning = plain(variant["description"].as_str().expect("a meaning"));
            rows.push([code(path), code(value), meaning]);
        }
    }
    assert!(there.is_empty(), "{kind}: what do these mean? {there:?}");
    rows
}

fn collect(schema: &Value, path: &str, found: &mut BTreeMap<String, Vec<String>>) {
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        found.insert(path.to_owned(), values);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(field, &path, found);
        collect(&field["items"], &format!("{path}[]"), found);
    }
}
