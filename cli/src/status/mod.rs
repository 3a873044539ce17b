//! `koncli status`: what is held, by whom, since when, who waits, what is closed and why. As JSON a flat summary, whose
//! fields the reference page describes; on a terminal one screen.

pub(crate) mod summary;
mod view;

use std::str::FromStr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    args::{OldWaitArgs, OutputArgs, SelectionArgs},
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::{PARENTS, Resource, parse_name},
    trouble::explain,
};

/// Whose status to show.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// semaphore, lease, barrier, gate or all.
    #[arg(value_name = "KIND", default_value = "all", hide_default_value = true)]
    kind: Kinds,
    /// Only this one.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    old: OldWaitArgs,
}

/// Whose status to show, of a kind that is known.
#[derive(clap::Args, Debug)]
pub(crate) struct OneArgs {
    /// Only this one.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    old: OldWaitArgs,
}

/// Which kinds.
#[derive(Clone, Debug)]
struct Kinds(Vec<Resource>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(PARENTS.to_vec()));
        }
        match text.parse() {
            Ok(resource) if PARENTS.contains(&resource) => Ok(Self(vec![resource])),
            _ => Err("use semaphore, lease, barrier, gate or all".to_owned()),
        }
    }
}

/// Shows the status of what was named.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    if args.name.is_some() && args.kind.0.len() > 1 {
        return Err(Error::usage("a name goes with a kind: koncli status semaphore NAME"));
    }
    show(context, &args.kind.0, args.name.as_deref(), &args.selection, &args.output).await
}

/// Shows the status of objects of one kind.
pub(crate) async fn one(context: &Context, resource: Resource, args: &OneArgs) -> Outcome {
    show(context, &[resource], args.name.as_deref(), &args.selection, &args.output).await
}

async fn show(
    context: &Context,
    kinds: &[Resource],
    name: Option<&str>,
    selection: &SelectionArgs,
    output: &OutputArgs,
) -> Outcome {
    let cluster = context.cluster().await?;
    let mut summaries = Vec::new();
    for kind in kinds {
        let objects = match name {
            Some(name) => vec![match cluster.call(Call::get(cluster.path(*kind, name))).await {
                Ok(object) => object,
                Err(error) => return Err(explain(&cluster, error, *kind, Some(name)).await),
            }],
            None => match listed(&cluster, selection.call(&cluster, *kind), *kind).await {
                Ok(objects) => objects,
                Err(error) => return Err(explain(&cluster, error, *kind, None).await),
            },
        };
        let claims = match kind.claims() {
            Some((claims, field)) if !objects.is_empty() => {
                let field = name.map(|name| format!("{field}={name}"));
                let only =
                    SelectionArgs { all_namespaces: selection.all_namespaces, field_selector: field, selector: None };
                match listed(&cluster, only.call(&cluster, claims), claims).await {
                    Ok(claims) => Some(claims),
                    // Without the right to see them there is still what the lock itself tells.
                    Err(error) if error.is_forbidden() => None,
                    Err(error) => return Err(explain(&cluster, error, claims, None).await),
                }
            }
            _ => None,
        };
        summaries.extend(objects.iter().map(|object| summary::of(*kind, object, claims.as_deref())));
    }
    let value = match (name, summaries.as_slice()) {
        (Some(_), [one]) => one.clone(),
        _ => Value::Array(summaries.clone()),
    };
    let text = match output.format() {
        crate::output::Format::Name => Some(summaries.iter().map(summary::name).collect()),
        _ => output.print(value)?,
    };
    match text {
        Some(text) => context.screen.text(&text),
        None if summaries.is_empty() => {
            let place =
                if selection.all_namespaces { String::new() } else { format!(" in {} namespace.", cluster.namespace) };
            context.screen.note(&format!("No {} found{place}", plurals(kinds)));
        }
        None => {
            #[expect(clippy::disallowed_methods, reason = "ages are shown to people")]
            let now = Timestamp::now();
            let screen = view::screen(&summaries, now, selection.all_namespaces);
            context.screen.text(&if context.screen.color { view::colored(&screen) } else { screen });
        }
    }
    Ok(DONE)
}

async fn listed(cluster: &Cluster, call: Call, resource: Resource) -> Result<Vec<Value>, ApiError> {
    let mut list = cluster.list(call).await?;
    let mut items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    // Of a list, the items need not say what they are.
    for item in &mut items {
        item["kind"] = json!(resource.kind);
    }
    Ok(items)
}

fn plurals(kinds: &[Resource]) -> String {
    kinds.iter().map(|kind| kind.plural).collect::<Vec<_>>().join(", ")
}
