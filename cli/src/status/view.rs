//! Summaries as one screen: a line for each object, and below it what people ask next.

use jiff::Timestamp;
use serde_json::Value;

use crate::output::{
    age,
    table::{aligned, plain},
};

/// Claims of one object that are shown; the last line says how many more there are.
const SHOWN: usize = 20;

/// All objects.
pub(crate) fn screen(summaries: &[Value], now: Timestamp, namespaces: bool) -> String {
    let mut rows = Vec::new();
    for summary in summaries {
        let mut name = format!("{}/{}", text(&summary["kind"]), text(&summary["name"]));
        if namespaces {
            name = format!("{}/{name}", text(&summary["namespace"]));
        }
        rows.push(vec![name, summary["phase"].as_str().unwrap_or("Unseen").to_owned(), line(summary)]);
        rows.extend(claims(summary, now));
        rows.extend(conditions(summary));
    }
    aligned(&rows)
}

/// The same with the objects in bold.
pub(crate) fn colored(screen: &str) -> String {
    let line = |line: &str| match line.split_once(' ') {
        Some((name, rest)) if !name.is_empty() => format!("\x1b[1m{name}\x1b[0m {rest}\n"),
        _ => format!("{line}\n"),
    };
    screen.lines().map(line).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// What matters most of an object.
fn line(summary: &Value) -> String {
    let text = |field: &str| text(&summary[field]);
    match summary["kind"].as_str() {
        _ if summary["phase"].is_null() => "the operator has not seen it yet".to_owned(),
        Some("semaphore") => format!("{} of {} in use, {} waiting", text("inUse"), text("permits"), text("waiting")),
        Some("lease") => format!("{} waiting", text("waiting")),
        _ => text("message"),
    }
}

/// Who holds and who waits.
fn claims(summary: &Value, now: Timestamp) -> Vec<Vec<String>> {
    let since = |value: &Value| value.as_str().and_then(|at| at.parse().ok()).map_or("?".to_owned(), |at| age(at, now));
    // In a folder nothing expires.
    let until = |value: &Value| {
        let at = value.as_str().and_then(|at| at.parse().ok());
        at.map(|at| format!(", expires in {}", age(now, at))).unwrap_or_default()
    };
    let claims = summary["claims"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |claim: &Value| {
        let weight = match claim["permits"].as_u64() {
            Some(permits) if permits > 1 => format!(" ({permits} permits)"),
            _ => String::new(),
        };
        let pod = claim["pod"].as_str().filter(|pod| claim["holder"] != *pod);
        let pod = pod.map(|pod| format!(", pod {}", plain(pod))).unwrap_or_default();
        let how = match claim["phase"].as_str() {
            Some("Granted") => {
                format!("for {}{}{pod}", since(&claim["acquiredAt"]), until(&claim["expiresAt"]))
            }
            Some("Revoking") => format!("for {}, was asked to end{pod}", since(&claim["acquiredAt"])),
            _ => format!("for {}{pod}: {}", since(&claim["since"]), text(&claim["message"])),
        };
        let word = match claim["phase"].as_str() {
            Some("Granted" | "Revoking") => "held by",
            _ => "waits:",
        };
        vec![format!("  {word} {}{weight}", text(&claim["holder"])), String::new(), how]
    };
    let mut rows: Vec<_> = claims.iter().take(SHOWN).map(row).collect();
    if claims.len() > SHOWN {
        rows.push(vec![format!("  and {} more", claims.len() - SHOWN)]);
    }
    rows
}

/// What a gate waits for.
fn conditions(summary: &Value) -> Vec<Vec<String>> {
    let conditions = summary["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |condition: &Value| {
        let met = if condition["met"] == true { "met" } else { "not met" };
        let name = condition["name"].as_str().map_or("by labels".to_owned(), plain);
        let object = format!("  {} {name} {}", text(&condition["type"]), text(&condition["state"]));
        vec![object, met.to_owned(), text(&condition["message"])]
    };
    conditions.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_screen_says_who_holds_who_waits_and_what_is_closed() {
        let semaphore = json!({
            "kind": "semaphore", "namespace": "etl", "name": "warehouse", "phase": "Full",
            "permits": 3, "inUse": 3, "waiting": 1,
            "claims": [
                {
                    "holder": "load", "phase": "Granted", "permits": 3, "pod": "load-x",
                    "acquiredAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T00:15:00Z",
                },
                { "holder": "dump", "phase": "Pending", "permits": 1, "since": "2026-01-01T00:04:00Z", "message": "3 of 3 in use" },
            ],
        });
        let gate = json!({
            "kind": "gate", "namespace": "etl", "name": "ready", "phase": "Waiting", "message": "0 of 1 conditions met",
            "conditions": [{ "type": "Job", "name": "extract", "state": "Complete", "met": false, "message": "no such Job" }],
        });
        let unseen = json!({ "kind": "lease", "namespace": "etl", "name": "report", "phase": null });
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        let screen = screen(&[semaphore, gate, unseen], now, false);
        let expected = "\
semaphore/warehouse          Full      3 of 3 in use, 1 waiting
  held by load (3 permits)             for 5m, expires in 10m, pod load-x
  waits: dump                          for 60s: 3 of 3 in use
gate/ready                   Waiting   0 of 1 conditions met
  Job extract Complete       not met   no such Job
lease/report                 Unseen    the operator has not seen it yet
";
        assert_eq!(screen, expected);
    }
}
