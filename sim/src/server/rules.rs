//! The rules of the custom resources' schemas that are written in CEL, each known here by its text: a server of this
//! kind needs no interpreter, and a rule that it does not know is a panic and not a rule that is not kept.

use konductor_api::GoDuration;
use serde_json::Value;

/// Whether a value keeps a rule; `None` if the rule is about a change and there was no value before.
type Check = fn(&Value, Option<&Value>) -> Option<bool>;

/// All rules.
const RULES: &[(&str, Check)] = &[
    ("self == oldSelf", |now, before| before.map(|before| before == now)),
    ("has(self.ttl) == has(oldSelf.ttl) && has(self.pod) == has(oldSelf.pod)", |now, before| {
        before.map(|before| ["ttl", "pod"].iter().all(|field| has(now, field) == has(before, field)))
    }),
    ("!has(self.pod) || has(self.pod.container) == has(self.pod.start)", |now, _| {
        Some(!has(now, "pod") || has(&now["pod"], "container") == has(&now["pod"], "start"))
    }),
    ("duration(self) >= duration('5s') && duration(self) <= duration('24h')", |now, _| Some(within(now, 5, 24 * 3600))),
    ("duration(self) >= duration('1s') && duration(self) <= duration('8760h')", |now, _| {
        Some(within(now, 1, 8760 * 3600))
    }),
    ("!has(self.quorum) || has(self.timeout)", |now, _| Some(!has(now, "quorum") || has(now, "timeout"))),
    ("!has(self.quorum) || self.quorum <= self.expected", |now, _| {
        Some(!has(now, "quorum") || now["quorum"].as_i64() <= now["expected"].as_i64())
    }),
    ("size(self.conditions) > 0 || has(self.override)", |now, _| {
        Some(size(&now["conditions"]) > 0 || has(now, "override"))
    }),
    ("!has(self.pick) || has(self.selector)", |now, _| Some(!has(now, "pick") || has(now, "selector"))),
    (
        "!has(self.value) || (self.type == 'Semaphore' ? self.state == 'Available' : has(self.selector) && \
         (!has(self.pick) || self.pick == 'All'))",
        |now, _| {
            Some(
                !has(now, "value")
                    || if now["type"] == "Semaphore" {
                        now["state"] == "Available"
                    } else {
                        has(now, "selector") && (!has(now, "pick") || now["pick"] == "All")
                    },
            )
        },
    ),
    (
        "self.type == 'Job' ? self.state in ['Complete', 'Failed', 'Active'] : self.type == 'Semaphore' ? \
         self.state in ['Available', 'Full'] : self.type == 'Lease' ? self.state in ['Acquired', 'Available'] : \
         self.state in ['Open', 'Closed']",
        |now, _| {
            let states: &[&str] = match now["type"].as_str().unwrap_or_default() {
                "Job" => &["Complete", "Failed", "Active"],
                "Semaphore" => &["Available", "Full"],
                "Lease" => &["Acquired", "Available"],
                _ => &["Open", "Closed"],
            };
            Some(now["state"].as_str().is_some_and(|state| states.contains(&state)))
        },
    ),
    ("has(self.name) != has(self.selector)", |now, _| Some(has(now, "name") != has(now, "selector"))),
    (
        "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && \
         size(self.matchExpressions) > 0)",
        |now, _| Some(size(&now["matchLabels"]) > 0 || size(&now["matchExpressions"]) > 0),
    ),
    ("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)", |now, _| {
        Some((now["operator"] == "In" || now["operator"] == "NotIn") == (size(&now["values"]) > 0))
    }),
];

/// A rule of a schema.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    check: Check,
    /// What an error says.
    pub(super) message: String,
    /// What an error is called.
    pub(super) reason: &'static str,
    /// Which field below the value an error is about.
    pub(super) field: Option<String>,
}

impl Rule {
    /// Reads an item of `x-kubernetes-validations`.
    pub(super) fn read(rule: &Value) -> Self {
        let text = rule["rule"].as_str().expect("a rule has a text");
        let known = RULES.iter().find(|(known, _)| *known == text);
        let (_, check) =
            known.unwrap_or_else(|| panic!("a rule of the resources that this server does not know: {text}"));
        let reason = match rule["reason"].as_str() {
            None | Some("FieldValueInvalid") => "FieldValueInvalid",
            Some("FieldValueForbidden") => "FieldValueForbidden",
            Some("FieldValueRequired") => "FieldValueRequired",
            Some(other) => panic!("a reason that this server does not know: {other}"),
        };
        assert!(rule["messageExpression"].is_null(), "this server knows no messageExpression");
        let message = rule["message"].as_str().map_or_else(|| format!("failed rule: {text}"), str::to_owned);
        Self { check: *check, message, reason, field: rule["fieldPath"].as_str().map(str::to_owned) }
    }

    /// Whether `now` breaks it.
    pub(super) fn is_broken(&self, now: &Value, before: Option<&Value>) -> bool {
        (self.check)(now, before) == Some(false)
    }
}

/// To CEL a null of a nullable field is not there.
fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|field| !field.is_null())
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
}

fn within(value: &Value, least: u64, most: u64) -> bool {
    let Ok(GoDuration(duration)) = serde_json::from_value(value.clone()) else { return false };
    duration.as_secs() >= least
        && (duration.as_secs() < most || duration.as_secs() == most && duration.subsec_nanos() == 0)
}
