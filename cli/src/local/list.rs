//! `list` and `status` in a folder.

use jiff::Timestamp;
use konductor::Local;
use serde_json::{Value, json};

use super::{Changes, check, objects, one, only_in_a_cluster, unreadable};
use crate::{
    args::{OutputArgs, SelectionArgs},
    commands::list::as_list,
    context::Context,
    error::{DONE, Error, Outcome},
    kind::{LEASE, Resource, SEMAPHORE},
    output::{age, table::Table},
    status::summary,
    why::now,
};

/// A column: its name, where it is in an object, and whether it is shown only in a wide table.
type Column = (&'static str, &'static str, bool);

/// The columns of a kind, as a cluster shows them, but for the age, which nothing in a folder has.
const COLUMNS: [(Resource, &[Column]); 2] = [
    (
        SEMAPHORE,
        &[
            ("Name", "/metadata/name", false),
            ("Phase", "/status/phase", false),
            ("Permits", "/spec/permits", false),
            ("In use", "/status/inUse", false),
            ("Waiting", "/status/waiting", false),
            ("Holders", "/status/holders", true),
            ("Term", "/status/term", true),
        ],
    ),
    (
        LEASE,
        &[
            ("Name", "/metadata/name", false),
            ("Phase", "/status/phase", false),
            ("Holder", "/status/holder", false),
            ("Since", "/status/acquiredAt", false),
            ("Waiting", "/status/waiting", false),
            ("Token", "/status/fencingToken", true),
            ("Term", "/status/term", true),
        ],
    ),
];

/// Objects as the table that an API server would make of them.
fn table(resource: Resource, all: &[Value], now: Timestamp) -> Value {
    let columns = COLUMNS.into_iter().find(|(kind, _)| *kind == resource).map_or(&[][..], |(_, columns)| columns);
    let definitions: Vec<_> =
        columns.iter().map(|(name, _, wide)| json!({ "name": name, "priority": u8::from(*wide) })).collect();
    let cell = |object: &Value, path: &str| {
        let value = object.pointer(path).cloned().unwrap_or_default();
        match value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
            Some(at) => json!(age(at, now)),
            None if value.is_null() => json!(""),
            None => value,
        }
    };
    let row = |object: &Value| {
        let cells: Vec<_> = columns.iter().map(|(_, path, _)| cell(object, path)).collect();
        json!({ "cells": cells, "object": object })
    };
    json!({ "columnDefinitions": definitions, "rows": all.iter().map(row).collect::<Vec<_>>() })
}

/// Lists the objects of a kind; with `watch`, and what happens to them.
pub(crate) async fn list(
    context: &Context,
    folder: &Local,
    resource: Resource,
    selection: &SelectionArgs,
    watch: bool,
    output: &OutputArgs,
) -> Outcome {
    check(selection)?;
    let mut changes = Changes::of(folder);
    let mut shown: Option<Table> = None;
    while !context.screen.is_over() {
        let view = changes.view(|why| context.screen.looks_again(why)).await?;
        let news = changes.news(objects(&view, resource));
        let Some(look) = output.look(false) else {
            if watch {
                for object in news {
                    context.screen.text(&output.print(object)?.unwrap_or_default());
                }
                continue;
            }
            context.screen.text(&output.print(as_list(json!({ "items": news })))?.unwrap_or_default());
            return Ok(DONE);
        };
        let table = table(resource, &news, now());
        if news.is_empty() && !watch {
            context.screen.note(&format!("No {} defined in {}.", resource.plural, folder.folder().display()));
        }
        if !news.is_empty() {
            let shown = shown.get_or_insert_with(|| Table::new(&table, look));
            context.screen.text(&shown.piece(&table));
        }
        if !watch {
            break;
        }
    }
    Ok(DONE)
}

/// The summaries of what is asked for.
pub(crate) fn summaries(
    folder: &Local,
    kinds: &[Resource],
    name: Option<&str>,
    selection: &SelectionArgs,
) -> Result<Vec<Value>, Error> {
    check(selection)?;
    let view = folder.snapshot().map_err(|error| unreadable(&error))?;
    summaries_of(&view, kinds, name)
}

/// The same of a view.
pub(crate) fn summaries_of(
    view: &konductor::local::Snapshot,
    kinds: &[Resource],
    name: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let kinds: Vec<_> = match kinds {
        [kind] if kind.claims().is_none() => return Err(only_in_a_cluster(*kind)),
        // Of all kinds those that a folder has.
        kinds => kinds.iter().copied().filter_map(|kind| Some((kind, kind.claims()?.0))).collect(),
    };
    let mut summaries = Vec::new();
    for (kind, claims) in kinds {
        let (all, claims) = (objects(view, kind), objects(view, claims));
        let chosen = match name {
            Some(name) => vec![one(&all, kind, name)?],
            None => all.iter().collect(),
        };
        summaries.extend(chosen.into_iter().map(|object| summary::of(kind, object, Some(&claims))));
    }
    Ok(summaries)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::view, *};
    use crate::output::table::Look;

    #[test]
    fn the_columns_are_those_of_the_custom_resources() {
        for crd in konductor_api::crds::all() {
            let Some((_, columns)) = COLUMNS.iter().find(|(kind, _)| kind.kind == crd.spec.names.kind) else {
                continue;
            };
            let theirs = crd.spec.versions[0].additional_printer_columns.clone().unwrap_or_default();
            let theirs: Vec<_> = theirs
                .iter()
                .filter(|column| column.name != "Age")
                .map(|column| (column.name.clone(), column.json_path.replace('.', "/"), column.priority == Some(1)))
                .collect();
            let ours = columns.iter().skip(1).map(|(name, path, wide)| ((*name).to_owned(), (*path).to_owned(), *wide));
            assert_eq!(ours.collect::<Vec<_>>(), theirs, "{}", crd.spec.names.kind);
        }
    }

    #[test]
    fn a_folder_is_shown_as_a_cluster_is() {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let table = table(SEMAPHORE, &objects(&view(), SEMAPHORE), now);
        let shown = Table::new(&table, Look::default()).piece(&table);
        let expected = "\
NAME     PHASE        PERMITS   IN USE   WAITING
broken   Unreadable   1
gpu      Available    3         2        2
";
        assert_eq!(shown, expected);
        let all = summaries_of(&view(), &crate::kind::PARENTS, None).expect("summaries");
        assert_eq!(all.iter().map(|one| one["name"].as_str().expect("a name")).collect::<Vec<_>>(), ["broken", "gpu"]);
        let error = summaries_of(&view(), &[SEMAPHORE], Some("gpuu")).expect_err("no such semaphore");
        assert_eq!(error.advice, ["did you mean semaphore/gpu?"]);
        assert!(summaries_of(&view(), &[crate::kind::GATE], None).is_err(), "a folder has no gates");
    }
}
