//! `-o jsonpath={.status.available}`: one expression, as kubectl has them: fields, indices, `[*]`, quoted names.

use std::str::FromStr;

use serde_json::Value;

/// Where a part of an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    /// From the end when negative.
    Index(i64),
    All,
}

impl JsonPath {
    /// The parts that are there, as kubectl prints them: texts as they are, with blanks between.
    pub(crate) fn print(&self, value: &Value) -> String {
        let found = self.0.iter().fold(vec![value], |found, step| {
            found.into_iter().flat_map(|value| step.from(value)).collect::<Vec<&Value>>()
        });
        let texts = found.into_iter().map(|value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        });
        texts.collect::<Vec<_>>().join(" ")
    }
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), value) => value.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let at = if *index < 0 { items.len() as i64 + index } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(fields)) => fields.values().collect(),
            (Self::Index(_) | Self::All, _) => Vec::new(),
        }
    }
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text).trim();
        if inner.starts_with("range") || inner.contains('{') {
            return Err(
                "range and several expressions are not supported: one expression as in {.a.b}, or -o json and jq"
                    .to_owned(),
            );
        }
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest).ok_or_else(|| {
                format!("cannot read {rest:?} of the path {text:?}: write fields as .a or ['a'], items as [0] or [*]")
            })?;
            steps.extend(step);
            rest = after;
        }
        Ok(Self(steps))
    }
}

/// The first step of a path, and the rest of it.
fn step(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(text) = text.strip_prefix('[') {
        let (inner, after) = text.split_once(']')?;
        let quoted = |quote| inner.strip_prefix(quote)?.strip_suffix(quote).map(str::to_owned);
        let step = match quoted('\'').or_else(|| quoted('"')) {
            Some(name) => Step::Field(name),
            None if inner == "*" => Step::All,
            None => Step::Index(inner.parse().ok()?),
        };
        return Some((Some(step), after));
    }
    let text = text.strip_prefix('.').unwrap_or(text);
    if text.is_empty() || text.starts_with('[') {
        return Some((None, text));
    }
    // A dot that belongs to a name is escaped: `.metadata.labels.app\.kubernetes\.io/name`.
    let (mut name, mut escaped, mut end) = (String::new(), false, text.len());
    for (at, character) in text.char_indices() {
        match character {
            '\\' if !escaped => escaped = true,
            '.' | '[' if !escaped => {
                end = at;
                break;
            }
            '{' | '}' | '(' | ')' | '?' | '@' | ' ' if !escaped => return None,
            other => {
                name.push(other);
                escaped = false;
            }
        }
    }
    let step = match name.as_str() {
        "" => return None,
        "*" => Step::All,
        _ => Step::Field(name),
    };
    Some((Some(step), &text[end..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_what_it_names() {
        let object = json!({
            "a": { "b": "text", "n": 5, "yes": true, "nothing": null },
            "items": [{ "name": "x" }, { "name": "y" }],
            "labels": { "app.kubernetes.io/name": "konductor" },
        });
        for (path, expected) in [
            ("{.a.b}", "text"),
            (".a.b", "text"),
            ("{$.a.b}", "text"),
            ("{ .a.n }", "5"),
            ("{.a.yes}", "true"),
            ("{.a.nothing}", ""),
            ("{.a.missing.more}", ""),
            ("{.items[0].name}", "x"),
            ("{.items[-1].name}", "y"),
            ("{.items[9].name}", ""),
            ("{.items[*].name}", "x y"),
            ("{.items[0]}", r#"{"name":"x"}"#),
            (r"{.labels.app\.kubernetes\.io/name}", "konductor"),
            ("{.labels['app.kubernetes.io/name']}", "konductor"),
            ("{.a['b']}", "text"),
        ] {
            let parsed: JsonPath = path.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(parsed.print(&object), expected, "{path}");
        }
        assert_eq!("{.}".parse::<JsonPath>().expect("a path").print(&json!({ "a": 1 })), r#"{"a":1}"#);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (path, word) in [
            ("{range .items[*]}{.a}{end}", "range"),
            ("{.a}{.b}", "several"),
            ("{.items[?(@.a==1)].b}", "cannot read"),
            ("{.a..b}", "cannot read"),
            ("{.items[x]}", "cannot read"),
            ("{.a b}", "cannot read"),
        ] {
            let error = path.parse::<JsonPath>().expect_err(path);
            assert!(error.contains(word), "{path}: {error}");
        }
    }
}
