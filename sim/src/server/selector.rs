//! Selectors of fields and labels.

use serde_json::Value;

use super::resource::Resource;

/// What a request selects by.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    fields: Vec<(Vec<String>, bool, String)>,
    labels: Vec<(String, Label)>,
}

#[derive(Clone, Debug)]
enum Label {
    Is(String),
    IsNot(String),
    Exists,
}

impl Selector {
    /// Reads both; the error is the message of a 400.
    pub(super) fn read(resource: &Resource, fields: &str, labels: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for part in fields.split(',').filter(|part| !part.is_empty()) {
            let (name, equal, value) = comparison(part).ok_or_else(|| format!("invalid selector: {part:?}"))?;
            let path = match name {
                "metadata.name" | "metadata.namespace" => name.split('.').map(str::to_owned).collect(),
                name => {
                    resource.fields.get(name).cloned().ok_or_else(|| format!("field label not supported: {name}"))?
                }
            };
            read.fields.push((path, equal, value.to_owned()));
        }
        for part in labels.split(',').filter(|part| !part.is_empty()) {
            let label = match comparison(part) {
                Some((name, true, value)) => (name.to_owned(), Label::Is(value.to_owned())),
                Some((name, false, value)) => (name.to_owned(), Label::IsNot(value.to_owned())),
                None => (part.to_owned(), Label::Exists),
            };
            read.labels.push(label);
        }
        Ok(read)
    }

    /// Whether everything is selected.
    pub(super) fn is_all(&self) -> bool {
        self.fields.is_empty() && self.labels.is_empty()
    }

    /// Whether this object is.
    pub(super) fn selects(&self, object: &Value) -> bool {
        let fields = self.fields.iter().all(|(path, equal, value)| {
            let found = path.iter().fold(object, |at, name| &at[name]);
            let found = match found {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            (found == *value) == *equal
        });
        let labels = &object["metadata"]["labels"];
        fields
            && self.labels.iter().all(|(name, label)| match label {
                Label::Is(value) => labels[name] == value.as_str(),
                Label::IsNot(value) => labels[name] != value.as_str(),
                Label::Exists => labels[name].is_string(),
            })
    }
}

/// `a=b`, `a==b` or `a!=b`.
fn comparison(part: &str) -> Option<(&str, bool, &str)> {
    if let Some((name, value)) = part.split_once("!=") {
        return Some((name, false, value));
    }
    let (name, value) = part.split_once('=')?;
    Some((name, true, value.trim_start_matches('=')))
}
