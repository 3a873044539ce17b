//! The fields of a schema.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{code, said};

/// The rule of what cannot change, which is among the bounds of a field.
const SAME: &str = "self == oldSelf";

/// A field, as a table shows it.
pub(super) struct Field {
    path: String,
    kind: String,
    default: String,
    bounds: String,
    meaning: String,
}

impl Field {
    /// As part of a spec.
    pub(super) fn wanted(&self) -> [String; 5] {
        let Self { path, kind, default, bounds, meaning } = self;
        [code(path), kind.clone(), default.clone(), bounds.clone(), meaning.clone()]
    }

    /// As part of a status.
    pub(super) fn told(&self) -> [String; 4] {
        let Self { path, kind, default: _, bounds, meaning } = self;
        [code(path), kind.clone(), bounds.clone(), meaning.clone()]
    }
}

/// All fields below a schema, each behind what it is in.
pub(super) fn of(schema: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    collect(schema, "", &mut found);
    found
}

fn collect(schema: &Value, parent: &str, found: &mut Vec<Field>) {
    let required: BTreeSet<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    // What is required is read first.
    let (first, then): (Vec<_>, Vec<_>) =
        properties.into_iter().partition(|(name, _)| required.contains(name.as_str()));
    for (name, field) in first.into_iter().chain(then) {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        let default = match (&field["default"], required.contains(name.as_str())) {
            (_, true) => "required".to_owned(),
            (Value::Null, _) => "none".to_owned(),
            (Value::String(text), _) => code(text),
            (other, _) => code(&other.to_string()),
        };
        found.push(Field {
            kind: kind(field),
            default,
            bounds: bounds(field),
            meaning: said(field),
            path: path.clone(),
        });
        // Conditions are Kubernetes' own, and have a table.
        if is_conditions(field) {
            continue;
        }
        collect(field, &path, found);
        collect(&field["items"], &format!("{path}[]"), found);
    }
}

fn is_conditions(field: &Value) -> bool {
    field["x-kubernetes-list-map-keys"].is_array()
}

fn kind(field: &Value) -> String {
    let choices = |schema: &Value| -> Option<String> {
        let choices: Vec<_> = schema["enum"].as_array()?.iter().filter_map(Value::as_str).map(code).collect();
        Some(choices.join(", "))
    };
    let one = |schema: &Value| match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some("string"), _) if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("h|m|s")) => {
            "duration".to_owned()
        }
        (Some("string"), _) => choices(schema).unwrap_or_else(|| "text".into()),
        (Some("object"), _) if schema["additionalProperties"].is_object() => "texts by name".to_owned(),
        (Some(kind), _) => kind.to_owned(),
        (None, _) => panic!("no type: {schema}"),
    };
    match field["type"].as_str() {
        Some("array") if is_conditions(field) => "list of conditions".to_owned(),
        Some("array") => format!("list of {}s", one(&field["items"])),
        _ => one(field),
    }
}

fn bounds(field: &Value) -> String {
    let whole = field["format"] == "int32" && field["minimum"].is_null();
    let limits = if whole { (Some(i32::MIN.into()), Some(i32::MAX.into())) } else { (None, None) };
    let (least, most) = (field["minimum"].as_f64().or(limits.0), field["maximum"].as_f64().or(limits.1));
    let mut bounds: Vec<_> = span(least, most).into_iter().collect();
    let is_duration = kind(field) == "duration";
    let sizes = [("Length", "characters"), ("Items", "items"), ("Properties", "labels")];
    for (of, what) in sizes.into_iter().filter(|(of, _)| !is_duration || *of != "Length") {
        let size = |end: &str| field[format!("{end}{of}")].as_f64();
        bounds.extend(span(size("min"), size("max")).map(|span| format!("{span} {what}")));
    }
    for each in [&field["items"], &field["additionalProperties"]] {
        let span = span(each["minLength"].as_f64(), each["maxLength"].as_f64());
        bounds.extend(span.map(|span| format!("each {span} characters")));
    }
    // Rules of an object are about its fields together, and are listed apart.
    for (rule, message) in own_rules(field).filter(|(rule, _)| *rule == SAME || field["type"] != "object") {
        bounds.push(match message.split_once(" must be from ") {
            _ if rule == SAME => "cannot change".to_owned(),
            Some((_, span)) => span.to_owned(),
            None => message.to_owned(),
        });
    }
    bounds.join(", ")
}

/// From the least to the most, as far as there is one.
fn span(least: Option<f64>, most: Option<f64>) -> Option<String> {
    match (least, most) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        (None, None) => None,
    }
}

/// The rules of a schema: what is to be true, and what the API server says if it is not.
fn own_rules(schema: &Value) -> impl Iterator<Item = (&str, &str)> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| Some((rule["rule"].as_str()?, rule["message"].as_str()?)))
}

/// The rules that are about more than one field, in words, with the path of what each is about.
pub(super) fn rules(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_rules(schema, "", &mut found);
    found
}

fn collect_rules(schema: &Value, path: &str, found: &mut Vec<String>) {
    if schema["type"] == "object" {
        let about = if path.is_empty() { String::new() } else { format!("{}: ", code(path)) };
        let rules = own_rules(schema).filter(|(rule, _)| path.is_empty() || *rule != SAME);
        found.extend(rules.map(|(_, message)| format!("{about}{message}")));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect_rules(field, &path, found);
        collect_rules(&field["items"], &format!("{path}[]"), found);
    }
}
