//! What is printed, and in which form.

pub(crate) mod jsonpath;

use std::str::FromStr;

use self::jsonpath::JsonPath;

/// The forms in which objects can be printed; a table when nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
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

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wide" => Ok(Self::Wide),
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
