//! Label selectors, as Kubernetes has them but with every list bounded.

#![allow(unreachable_pub, reason = "the schema derive repeats the struct inside a function")]

use std::{collections::BTreeMap, fmt};

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_SELECTOR_TERMS, MAX_SELECTOR_VALUES};

/// Selects the objects that have all of these labels and meet all of these expressions.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
        .message("a selector needs matchLabels or matchExpressions")
)]
pub struct Selector {
    /// Labels with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = MAX_SELECTOR_TERMS), extend("maxProperties" = MAX_SELECTOR_TERMS, "additionalProperties" = { "type": "string", "maxLength": MAX_LABEL_VALUE }))]
    pub match_labels: BTreeMap<String, String>,
    /// What else is asked of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_SELECTOR_TERMS))]
    pub match_expressions: Vec<Requirement>,
}

/// What is asked of one label.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)")
        .message("In and NotIn need values, Exists and DoesNotExist take none")
)]
pub struct Requirement {
    /// The label.
    #[schemars(length(min = 1, max = MAX_LABEL_KEY))]
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
    /// Its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_SELECTOR_VALUES), inner(length(max = MAX_LABEL_VALUE)))]
    pub values: Vec<String>,
}

/// What can be asked of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is absent.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

impl Selector {
    /// What it costs at most to see whether it selects an object: labels that are looked for, and values that are
    /// compared.
    pub fn looks(&self) -> usize {
        let expressions = self.match_expressions.iter().map(|requirement| 1 + requirement.values.len());
        (self.match_labels.len() + expressions.sum::<usize>()).max(1)
    }

    /// Whether it selects an object with these labels; `label` finds the value of one.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.match_labels.iter().all(|(key, value)| label(key) == Some(value))
            && self.match_expressions.iter().all(|Requirement { key, operator, values }| {
                let value = label(key);
                let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
                match operator {
                    Operator::In => listed,
                    Operator::NotIn => !listed,
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

impl fmt::Display for Selector {
    /// As `kubectl get -l` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|Requirement { key, operator, values }| match operator {
            Operator::In => format!("{key} in ({})", values.join(",")),
            Operator::NotIn => format!("{key} notin ({})", values.join(",")),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
        });
        f.write_str(&labels.chain(expressions).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(value: serde_json::Value) -> Selector {
        serde_json::from_value(value).expect("a selector")
    }

    #[test]
    fn selects_as_kubernetes_does() {
        let labels = [("app", "etl"), ("stage", "load")];
        let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let expression = |key: &str, operator: &str, values: &[&str]| serde_json::json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        for (value, text, expected) in [
            (serde_json::json!({ "matchLabels": { "app": "etl" } }), "app=etl", true),
            (
                serde_json::json!({ "matchLabels": { "app": "etl", "stage": "extract" } }),
                "app=etl,stage=extract",
                false,
            ),
            (expression("stage", "In", &["extract", "load"]), "stage in (extract,load)", true),
            (expression("stage", "NotIn", &["load"]), "stage notin (load)", false),
            (expression("tier", "NotIn", &["load"]), "tier notin (load)", true),
            (expression("tier", "In", &["load"]), "tier in (load)", false),
            (expression("app", "Exists", &[]), "app", true),
            (expression("app", "DoesNotExist", &[]), "!app", false),
        ] {
            let selector = selector(value);
            assert_eq!((selector.to_string().as_str(), selector.matches(label)), (text, expected));
        }
    }
}
