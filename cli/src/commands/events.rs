//! `koncli events`: what has happened to Konductor's objects, as the operator tells it.

use konductor_api::GROUP;
use serde_json::Value;

use super::list::Listing;
use crate::{
    args::{OutputArgs, SelectionArgs},
    context::Context,
    error::Outcome,
    kind::{ObjectName, Resource},
};

/// Kubernetes' events.
pub(crate) const EVENT: Resource = Resource::foreign("events.k8s.io", "Event", "events", "event");

/// Which events to show.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// About this object only.
    #[arg(value_name = "KIND/NAME")]
    object: Option<ObjectName>,
    /// Go on watching.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows them, the oldest first.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    let cluster = context.cluster().await?;
    let mut selection = args.selection.clone();
    if let Some(object) = &args.object {
        let about = format!("regarding.kind={},regarding.name={}", object.resource.kind, object.name);
        let fields = selection.field_selector.take().into_iter().chain([about]);
        selection.field_selector = Some(fields.collect::<Vec<_>>().join(","));
    }
    let mut call = selection.call(&cluster, EVENT);
    if args.output.look(false).is_some() {
        // Which kind an event is about, its row does not say.
        call = call.with("includeObject", "Object");
    }
    let listing = Listing {
        resource: EVENT,
        call,
        namespaces: selection.all_namespaces,
        watch: args.watch,
        output: &args.output,
        choose: &|list| choose(list, args.object.as_ref()),
        deletions: false,
        nothing: "No events found: the API server keeps them for an hour, unless it is told otherwise.".to_owned(),
    };
    listing.show(context, &cluster).await
}

/// Keeps what is about Konductor's objects (or about the one that was named), the oldest first.
fn choose(list: &mut Value, object: Option<&ObjectName>) {
    for (rows, part) in [("rows", "/object"), ("items", "")] {
        if let Some(all) = list[rows].as_array_mut() {
            let event = |row: &Value| row.pointer(part).cloned().unwrap_or_default();
            all.retain(|row| concerns(&event(row), object));
            all.sort_by_key(|row| at(&event(row)));
        }
    }
}

fn concerns(event: &Value, object: Option<&ObjectName>) -> bool {
    let version = event["regarding"]["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    group == object.map_or(GROUP, |object| object.resource.group)
}

/// When it happened last. RFC 3339 in UTC sorts as text, as far as the same number of digits goes.
fn at(event: &Value) -> String {
    let times = [&event["series"]["lastObservedTime"], &event["deprecatedLastTimestamp"], &event["eventTime"]];
    let mut times = times.into_iter().chain([&event["metadata"]["creationTimestamp"]]);
    times.find_map(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_ours_is_shown_in_its_order() {
        let event = |name: &str, version: &str, at: &str| json!({ "metadata": { "name": name }, "regarding": { "apiVersion": version }, "eventTime": at });
        let items = [
            event("late", "konductor.io/v1", "2026-01-01T00:00:02.000000Z"),
            event("pod", "v1", "2026-01-01T00:00:00.000000Z"),
            event("early", "konductor.io/v1", "2026-01-01T00:00:01.000000Z"),
            event("theirs", "coordination.k8s.io/v1", "2026-01-01T00:00:00.000000Z"),
        ];
        let mut list = json!({ "items": items });
        choose(&mut list, None);
        let names: Vec<_> =
            list["items"].as_array().expect("items").iter().map(|item| item["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["early", "late"]);
        let mut table = json!({ "rows": items.map(|item| json!({ "cells": [], "object": item })) });
        choose(&mut table, Some(&"pod/a".parse().expect("an object")));
        assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "pod");
    }
}
