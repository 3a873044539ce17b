//! `koncli gate`.

use std::{str::FromStr, time::Duration};

use clap::{Subcommand, ValueEnum};
use konductor_api::GoDuration;
use serde_json::{Value, json};

use super::{
    list, object,
    wait::{self, Goal},
};
use crate::{
    args::{OutputArgs, TimeoutArgs, WriteArgs, parse_duration},
    context::Context,
    error::Outcome,
    kind::{BARRIER, GATE, JOB, LEASE, ObjectName, Resource, SEMAPHORE, parse_name},
    status,
};

/// What to do with a gate.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Create a gate; without conditions it is closed, and opened and closed by hand.
    Create(CreateArgs),
    /// Wait until a gate is open.
    Wait(WaitArgs),
    /// Open a gate, whatever its conditions say.
    Open(OverrideArgs),
    /// Close a gate, whatever its conditions say.
    Close(OverrideArgs),
    /// Let its conditions decide.
    Auto(OverrideArgs),
    /// How it stands.
    Status(status::OneArgs),
    /// List gates.
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Delete gates.
    Delete(object::DeleteArgs),
}

/// The gate to create.
#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What is waited for, as in job/extract=Complete, barrier/b=Open or semaphore/s=Available:2; in another namespace
    /// as in job/NAMESPACE/extract=Complete; by labels as in job:app=etl,tier=x=Complete (repeatable).
    #[arg(long = "condition", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// How many of the conditions are to be met.
    #[arg(long = "match", value_name = "HOW", default_value = "all", hide_default_value = true, ignore_case = true)]
    matching: Matching,
    /// How long the gate may wait before it fails.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    gate_timeout: Option<Duration>,
    #[command(flatten)]
    write: WriteArgs,
}

/// How many conditions are to be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Matching {
    /// All of them.
    All,
    /// One of them.
    Any,
}

/// One condition, as the API has it.
#[derive(Clone, Debug, PartialEq)]
struct Condition(Value);

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (object, state) = text.rsplit_once('=').ok_or("write KIND/NAME=STATE, as in job/extract=Complete")?;
        let (kind, rest, by_labels) = match (object.split_once('/'), object.split_once(':')) {
            (Some((kind, rest)), _) if !kind.contains(':') => (kind, rest, false),
            (_, Some((kind, rest))) => (kind, rest, true),
            _ => return Err("write KIND/NAME=STATE, as in job/extract=Complete".to_owned()),
        };
        let resource: Resource = kind.parse()?;
        let states: &[&str] = match resource {
            JOB => &["Complete", "Failed", "Active"],
            BARRIER | GATE => &["Open", "Closed"],
            LEASE => &["Acquired", "Available"],
            SEMAPHORE => &["Available", "Full"],
            _ => {
                return Err(format!(
                    "a gate cannot wait for a {resource}: it can for a job, semaphore, lease, barrier or gate"
                ));
            }
        };
        let (state, value) = match state.split_once(':') {
            Some((state, value)) => {
                let value = value.parse::<u32>().map_err(|_| format!("{value:?} is not how many"))?;
                (state, Some(value))
            }
            None => (state, None),
        };
        let state = states
            .iter()
            .find(|known| known.eq_ignore_ascii_case(state))
            .ok_or_else(|| format!("a {resource} can be {}, and not {state:?}", states.join(" or ")))?;
        let mut condition = json!({ "type": resource.kind, "state": state });
        if by_labels {
            condition["selector"] = json!({ "matchLabels": labels(rest)? });
        } else {
            let name = match rest.split_once('/') {
                Some((namespace, name)) => {
                    condition["namespace"] = json!(parse_name(namespace)?);
                    name
                }
                None => rest,
            };
            condition["name"] = json!(parse_name(name)?);
        }
        if let Some(value) = value {
            condition["value"] = json!(value);
        }
        Ok(Self(condition))
    }
}

/// Labels as in `a=b,c=d`.
fn labels(text: &str) -> Result<Value, String> {
    let mut labels = json!({});
    for label in text.split(',') {
        let (name, value) = label.split_once('=').ok_or_else(|| format!("{label:?} is not a label as in app=etl"))?;
        labels[name] = json!(value);
    }
    Ok(labels)
}

/// What to wait for.
#[derive(clap::Args, Debug)]
pub(crate) struct WaitArgs {
    /// The gate.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    timeout: TimeoutArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which gate to open or close.
#[derive(clap::Args, Debug)]
pub(crate) struct OverrideArgs {
    /// The gate.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    write: WriteArgs,
}

impl CreateArgs {
    fn spec(&self) -> Value {
        let conditions: Vec<_> = self.conditions.iter().map(|condition| condition.0.clone()).collect();
        let mut spec = json!({ "conditions": conditions });
        if self.conditions.is_empty() {
            spec["override"] = json!("Closed");
        }
        if self.matching == Matching::Any {
            spec["match"] = json!("Any");
        }
        if let Some(timeout) = self.gate_timeout {
            spec["timeout"] = json!(GoDuration(timeout));
        }
        spec
    }
}

/// Does it.
pub(crate) async fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Create(args) => {
            object::create(context, GATE, &args.name, args.spec(), args.write.dry_run(), &args.write.output).await
        }
        Command::Wait(args) => {
            let object = ObjectName { resource: GATE, name: args.name.clone() };
            let (cluster, timeout) = context.cluster_within(args.timeout.timeout).await?;
            wait::all(context, &cluster, std::slice::from_ref(&object), &Goal::Open, timeout, &args.output).await
        }
        Command::Open(args) => decide(context, args, &json!("Open"), "opened").await,
        Command::Close(args) => decide(context, args, &json!("Closed"), "closed").await,
        Command::Auto(args) => decide(context, args, &Value::Null, "left to its conditions").await,
        Command::Status(args) => status::one(context, GATE, args).await,
        Command::List(args) => list::run(context, GATE, args).await,
        Command::Delete(args) => object::delete(context, GATE, args).await,
    }
}

async fn decide(context: &Context, args: &OverrideArgs, how: &Value, verb: &str) -> Outcome {
    let cluster = context.cluster().await?;
    let patch = json!({ "spec": { "override": how } });
    let change = object::Change { resource: GATE, name: &args.name, patch, verb };
    object::change(context, &cluster, change, args.write.dry_run(), &args.write.output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_a_kind_a_name_and_a_state() {
        for (text, expected) in [
            ("job/extract=Complete", json!({ "type": "Job", "name": "extract", "state": "Complete" })),
            ("job/extract=complete", json!({ "type": "Job", "name": "extract", "state": "Complete" })),
            (
                "Job/etl/extract=Failed",
                json!({ "type": "Job", "namespace": "etl", "name": "extract", "state": "Failed" }),
            ),
            ("sem/s=Available:2", json!({ "type": "Semaphore", "name": "s", "state": "Available", "value": 2 })),
            ("lease/l=Acquired", json!({ "type": "Lease", "name": "l", "state": "Acquired" })),
            ("gate/g=Closed", json!({ "type": "Gate", "name": "g", "state": "Closed" })),
            (
                "job:app=etl,tier=x=Complete:3",
                json!({ "type": "Job", "selector": { "matchLabels": { "app": "etl", "tier": "x" } }, "state": "Complete", "value": 3 }),
            ),
            (
                "job:example.com/app=etl=Complete",
                json!({ "type": "Job", "selector": { "matchLabels": { "example.com/app": "etl" } }, "state": "Complete" }),
            ),
        ] {
            assert_eq!(text.parse(), Ok(Condition(expected)), "{text}");
        }
        for wrong in [
            "job/extract",
            "job=Complete",
            "job/e=Open",
            "pod/p=Ready",
            "job/E=Complete",
            "sem/s=Available:x",
            "job:app=Complete",
        ] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
    }
}
