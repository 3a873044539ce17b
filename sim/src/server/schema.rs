//! What a custom resource's schema says of an object: what is left out, what is filled in, what is refused.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};

use super::rules::Rule;

/// The one pattern that the resources have.
const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(h|m|s|ms|us|ns))+$";

/// What a schema may say that this server need not look at.
const SILENT: [&str; 3] = ["description", "title", "x-kubernetes-list-type"];

/// The schema of a value.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    kind: String,
    nullable: bool,
    default: Option<Value>,
    allowed: Vec<Value>,
    range: (Option<f64>, Option<f64>),
    length: (Option<u64>, Option<u64>),
    has_pattern: bool,
    format: String,
    items: Option<Box<Schema>>,
    keys: Vec<String>,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    required: Vec<String>,
    most: Option<u64>,
    rules: Vec<Rule>,
}

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What it is called.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
    /// Where.
    pub field: String,
}

impl Fault {
    /// A value that is not allowed.
    pub fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self { reason: "FieldValueInvalid", message: format!("Invalid value: {value}: {why}"), field: field.into() }
    }
}

/// Where a value is in an object. It is written out only when something is wrong there.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(Self::Root, name) => f.write_str(name),
            Self::Member(around, name) => write!(f, "{around}.{name}"),
            Self::Item(around, at) => write!(f, "{around}[{at}]"),
        }
    }
}

impl Schema {
    /// Reads one.
    ///
    /// # Panics
    /// If it says something that this server does not know.
    pub fn read(schema: &Value) -> Self {
        let mut read = Self::default();
        let number = |value: &Value| value.as_f64().expect("a number");
        let count = |value: &Value| value.as_u64().expect("a count");
        for (word, value) in schema.as_object().expect("a schema is an object") {
            match word.as_str() {
                "type" => read.kind = value.as_str().expect("a type").into(),
                "nullable" => read.nullable = value == true,
                "default" => read.default = Some(value.clone()),
                "enum" => read.allowed.clone_from(value.as_array().expect("a list")),
                "minimum" => read.range.0 = Some(number(value)),
                "maximum" => read.range.1 = Some(number(value)),
                "minLength" => read.length.0 = Some(count(value)),
                "maxLength" => read.length.1 = Some(count(value)),
                "maxItems" | "maxProperties" => read.most = Some(count(value)),
                "pattern" => {
                    assert_eq!(value, DURATION, "a pattern that this server does not know");
                    read.has_pattern = true;
                }
                "format" => read.format = value.as_str().expect("a format").into(),
                "items" => read.items = Some(Box::new(Self::read(value))),
                "additionalProperties" => read.additional = Some(Box::new(Self::read(value))),
                "properties" => {
                    let properties = value.as_object().expect("properties").iter();
                    read.properties = properties.map(|(name, schema)| (name.clone(), Self::read(schema))).collect();
                }
                "required" => read.required = texts(value),
                "x-kubernetes-list-map-keys" => read.keys = texts(value),
                "x-kubernetes-validations" => {
                    read.rules = value.as_array().expect("rules").iter().map(Rule::read).collect();
                }
                other => assert!(SILENT.contains(&other), "a schema says {other}, which this server does not know"),
            }
        }
        read
    }

    /// Leaves out what the schema does not know, and fills in what it says to.
    pub fn prepare(&self, value: &mut Value) {
        match value {
            Value::Object(members) if self.additional.is_none() => {
                members.retain(|name, _| self.properties.contains_key(name));
                self.fill(members);
            }
            Value::Object(members) => {
                let of_each = self.additional.as_deref().expect("just seen");
                for value in members.values_mut() {
                    of_each.prepare(value);
                }
            }
            Value::Array(items) => {
                if let Some(of_each) = &self.items {
                    for item in items {
                        of_each.prepare(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// As [`prepare`](Self::prepare), of a whole object, whose kind and metadata are not the schema's.
    pub fn prepare_object(&self, object: &mut Map<String, Value>) {
        object.retain(|name, _| {
            matches!(name.as_str(), "apiVersion" | "kind" | "metadata") || self.properties.contains_key(name)
        });
        self.fill(object);
    }

    fn fill(&self, members: &mut Map<String, Value>) {
        for (name, schema) in &self.properties {
            if let Some(default) = &schema.default
                && members.get(name).is_none_or(|value| value.is_null() && !schema.nullable)
            {
                members.insert(name.clone(), default.clone());
            }
            // What is null and may not be is as if it had not been said.
            if members.get(name).is_some_and(|value| value.is_null() && !schema.nullable) {
                members.remove(name);
            }
            if let Some(value) = members.get_mut(name) {
                schema.prepare(value);
            }
        }
    }

    /// What is wrong with `now`, which was `before`. Rules are asked only of what is well formed.
    pub fn faults(&self, now: &Value, before: Option<&Value>) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.look(Path::Root, now, &mut faults);
        let blocks = |fault: &Fault| {
            matches!(
                fault.reason,
                "FieldValueRequired"
                    | "FieldValueTooLong"
                    | "FieldValueTooMany"
                    | "FieldValueTypeInvalid"
                    | "FieldValueNotSupported"
            )
        };
        if faults.iter().any(blocks) {
            let message = "some validation rules were not checked because the object was invalid; correct the existing \
                           errors to complete validation";
            faults.push(Fault::invalid("<nil>", &json!("null"), message));
        } else {
            self.judge(Path::Root, now, before, &mut faults);
        }
        faults
    }

    fn look(&self, path: Path<'_>, value: &Value, faults: &mut Vec<Fault>) {
        if value.is_null() && self.nullable {
            return;
        }
        let mut fault = |reason, message: String| faults.push(Fault { reason, message, field: path.to_string() });
        let other_type = self.other_type(value);
        if let Some(found) = other_type {
            let message =
                format!("Invalid value: \"{found}\": {path} in body must be of type {}: \"{found}\"", self.kind);
            fault("FieldValueTypeInvalid", message);
        }
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let allowed = self.allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            fault("FieldValueNotSupported", format!("Unsupported value: {value}: supported values: {allowed}"));
        }
        if other_type.is_some() {
            return;
        }
        let wrong = |why: String| format!("Invalid value: {value}: {path} in body should {why}");
        match value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                if let Some(least) = self.range.0.filter(|least| number < *least) {
                    fault("FieldValueInvalid", wrong(format!("be greater than or equal to {least}")));
                }
                if let Some(most) = self.range.1.filter(|most| number > *most) {
                    fault("FieldValueInvalid", wrong(format!("be less than or equal to {most}")));
                }
                if self.format == "int32" && number.abs() > f64::from(i32::MAX) {
                    fault("FieldValueInvalid", wrong("be of type int32".into()));
                }
            }
            Value::String(text) => {
                let length = text.chars().count() as u64;
                // Of these, one is told.
                if let Some(most) = self.length.1.filter(|most| length > *most) {
                    fault("FieldValueTooLong", format!("Too long: may not be more than {most} bytes"));
                } else if let Some(least) = self.length.0.filter(|least| length < *least) {
                    fault("FieldValueInvalid", wrong(format!("be at least {least} chars long")));
                } else if self.has_pattern && !is_duration(text) {
                    fault("FieldValueInvalid", wrong(format!("match '{DURATION}'")));
                }
                if self.format == "date-time" && !is_time(text) {
                    let message = format!("Invalid value: {value}: {path} in body must be of type date-time: {value}");
                    fault("FieldValueTypeInvalid", message);
                }
            }
            Value::Array(items) => {
                let count = items.len() as u64;
                if let Some(most) = self.most.filter(|most| count > *most) {
                    fault("FieldValueTooMany", format!("Too many: {count}: must have at most {most} items"));
                }
                let of_each = self.items.as_deref().expect("a list's schema has one of its items");
                for (at, item) in items.iter().enumerate() {
                    let path = Path::Item(&path, at);
                    let same = |other: &&Value| self.keys.iter().all(|key| other[key] == item[key]);
                    if !self.keys.is_empty() && items[..at].iter().any(|other| same(&other)) {
                        let keys: Map<_, _> = self.keys.iter().map(|key| (key.clone(), item[key].clone())).collect();
                        let message = format!("Duplicate value: {}", Value::Object(keys));
                        faults.push(Fault { reason: "FieldValueDuplicate", message, field: path.to_string() });
                    }
                    of_each.look(path, item, faults);
                }
            }
            Value::Object(members) => {
                let count = members.len() as u64;
                if let Some(most) = self.most.filter(|most| count > *most) {
                    fault("FieldValueTooMany", format!("Too many: {count}: must have at most {most} items"));
                }
                for name in self.required.iter().filter(|name| !members.contains_key(*name)) {
                    let message = "Required value".into();
                    faults.push(Fault {
                        reason: "FieldValueRequired",
                        message,
                        field: Path::Member(&path, name).to_string(),
                    });
                }
                for (name, value) in members {
                    if let Some(schema) = self.of(name) {
                        schema.look(Path::Member(&path, name), value, faults);
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn judge(&self, path: Path<'_>, now: &Value, before: Option<&Value>, faults: &mut Vec<Fault>) {
        if now.is_null() {
            return;
        }
        let before = before.filter(|before| !before.is_null());
        for rule in self.rules.iter().filter(|rule| rule.is_broken(now, before)) {
            let field = rule.field.as_ref().map_or_else(|| path.to_string(), |field| format!("{path}{field}"));
            let message = format!("Invalid value: {}: {}", self.shown(now), rule.message);
            faults.push(Fault { reason: rule.reason, message, field });
        }
        match now {
            Value::Object(members) => {
                for (name, value) in members {
                    if let Some(schema) = self.of(name) {
                        let path = Path::Member(&path, name);
                        schema.judge(path, value, before.and_then(|before| before.get(name)), faults);
                    }
                }
            }
            Value::Array(items) => {
                let of_each = self.items.as_deref().expect("a list's schema has one of its items");
                for (at, item) in items.iter().enumerate() {
                    // What is compared over time are the items of maps only.
                    let before =
                        before.and_then(Value::as_array).filter(|_| !self.keys.is_empty()).and_then(|before| {
                            before.iter().find(|other| self.keys.iter().all(|key| other[key] == item[key]))
                        });
                    of_each.judge(Path::Item(&path, at), item, before, faults);
                }
            }
            _ => {}
        }
    }

    /// How an error about a rule shows a value.
    fn shown(&self, value: &Value) -> Value {
        if value.is_object() || value.is_array() { self.kind.clone().into() } else { value.clone() }
    }

    fn of(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// The type that it has, if it is not the right one.
    fn other_type(&self, value: &Value) -> Option<&'static str> {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() && number.as_f64().is_some_and(|n| n.fract() != 0.0) => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        (found != self.kind && !(self.kind == "number" && found == "integer")).then_some(found)
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

/// Whether it is made as [`DURATION`] says: numbers, each with a unit.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let whole = digits(rest);
        if whole == 0 {
            return false;
        }
        rest = &rest[whole..];
        if let Some(fraction) = rest.strip_prefix('.') {
            let count = digits(fraction);
            if count == 0 {
                return false;
            }
            rest = &fraction[count..];
        }
        let units = ["ms", "us", "ns", "h", "m", "s"];
        let Some(unit) = units.iter().find(|unit| rest.starts_with(**unit)) else { return false };
        rest = &rest[unit.len()..];
    }
    !text.is_empty()
}

/// Whether it looks like a time of RFC 3339.
fn is_time(text: &str) -> bool {
    let shape: String =
        text.chars().take(19).map(|c| if c.is_ascii_digit() { '0' } else { c.to_ascii_uppercase() }).collect();
    let zone = text.get(19..).unwrap_or_default();
    let zone = zone.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    shape == "0000-00-00T00:00:00"
        && (zone.eq_ignore_ascii_case("z") || zone.len() == 6 && zone.starts_with(['+', '-']))
}
