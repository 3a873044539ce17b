//! What is printed, and in which form.

pub(crate) mod jsonpath;
pub(crate) mod table;

use std::str::FromStr;

use jiff::Timestamp;
use serde_json::Value;

use self::{jsonpath::JsonPath, table::Look};
use crate::{args::OutputArgs, error::Error};

/// The forms in which objects can be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table: what is printed when nothing is said.
    Table,
    /// A table with all columns.
    Wide,
    /// The objects as the API has them.
    Json,
    /// The same in YAML.
    Yaml,
    /// Kind and name.
    Name,
    /// One part of them.
    JsonPath(JsonPath),
}

impl OutputArgs {
    /// The form that is wanted.
    pub(crate) fn format(&self) -> &Format {
        self.output.as_ref().unwrap_or(&Format::Table)
    }

    /// How to show tables, if that is the form.
    pub(crate) fn look(&self, namespaces: bool) -> Option<Look> {
        let wide = match self.format() {
            Format::Table => false,
            Format::Wide => true,
            Format::Json | Format::Yaml | Format::Name | Format::JsonPath(_) => return None,
        };
        Some(Look { wide, no_headers: self.no_headers, namespaces })
    }

    /// Objects (one, or a List) or a summary of them in the form that is wanted; nothing for tables.
    pub(crate) fn print(&self, mut value: Value) -> Result<Option<String>, Error> {
        if !self.show_managed_fields {
            without_managed_fields(&mut value);
        }
        let unprintable = |error: &dyn std::fmt::Display| Error::internal(format!("this cannot be printed: {error}"));
        Ok(match self.format() {
            Format::Table | Format::Wide => None,
            Format::Json => {
                let text = serde_json::to_string_pretty(&value).map_err(|error| unprintable(&error))?;
                // As kubectl indents.
                Some(indented(&text))
            }
            Format::Yaml => Some(serde_yaml_ng::to_string(&value).map_err(|error| unprintable(&error))?),
            Format::Name => Some(names(&value)),
            Format::JsonPath(path) => Some(format!("{}\n", path.print(&value))),
        })
    }
}

/// How long ago that was.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    span(now.as_second().saturating_sub(at.as_second()))
}

/// So many seconds, as kubectl says it: two units at most.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |one: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{one}{unit}"),
        rest => format!("{one}{unit}{rest}{small}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// The same with four blanks for each level.
fn indented(text: &str) -> String {
    let line = |line: &str| {
        let inner = line.trim_start_matches(' ');
        format!("{}{line}\n", " ".repeat(line.len() - inner.len()))
    };
    text.lines().map(line).collect()
}

/// What only tells who wrote what is left out, as kubectl does.
fn without_managed_fields(value: &mut Value) {
    let items = value.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        without_managed_fields(item);
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// `semaphore.konductor.io/warehouse`, a line each.
fn names(value: &Value) -> String {
    if let Some(items) = value["items"].as_array() {
        return items.iter().map(names).collect();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&value["kind"]).to_lowercase();
    let version = text(&value["apiVersion"]);
    let group = version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
    format!("{kind}{group}/{}\n", text(&value["metadata"]["name"]))
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wide" => Ok(Self::Wide),
            // What the first konductor called its table.
            "text" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            _ => match text.strip_prefix("jsonpath=") {
                Some(path) => path.parse().map(Self::JsonPath),
                None => Err("use wide, json, yaml, name, or jsonpath={.a.b}".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(format: &str, value: &Value) -> Option<String> {
        let output = OutputArgs { output: Some(format.parse().expect("a format")), ..OutputArgs::default() };
        output.print(value.clone()).expect("text")
    }

    #[test]
    fn ages_are_said_as_kubectl_says_them() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        for (seconds, expected) in [
            (0, "0s"),
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3600, "60m"),
            (10_860, "3h1m"),
            (36_000, "10h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ] {
            let at = Timestamp::from_second(now.as_second() - seconds).expect("a time");
            assert_eq!(age(at, now), expected, "{seconds}");
        }
    }

    #[test]
    fn objects_are_printed_as_they_are_but_for_who_wrote_what() {
        let object = json!({
            "apiVersion": "konductor.io/v1", "kind": "Semaphore",
            "metadata": { "name": "a", "managedFields": [{}] }, "spec": { "unknown": 5 },
        });
        let list = json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": [object] });
        assert_eq!(printed("name", &object).as_deref(), Some("semaphore.konductor.io/a\n"));
        assert_eq!(printed("name", &list).as_deref(), Some("semaphore.konductor.io/a\n"));
        assert_eq!(printed("jsonpath={.spec.unknown}", &object).as_deref(), Some("5\n"));
        let json = printed("json", &list).expect("text");
        assert!(json.contains("\n            \"kind\": \"Semaphore\"") && !json.contains("managedFields"), "{json}");
        let yaml = printed("yaml", &object).expect("text");
        assert!(yaml.contains("\nspec:\n  unknown: 5\n"), "{yaml}");
        assert_eq!(printed("wide", &object), None);
    }
}
