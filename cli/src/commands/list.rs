//! `list`: what there is, as the API server shows it; `-w`: and what happens to it.

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    args::{OutputArgs, SelectionArgs},
    cluster::{Call, Cluster, Form},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::Resource,
    output::table::Table,
    trouble::explain,
};

/// What to list.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Go on watching.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl SelectionArgs {
    /// The request for all objects of a kind that are selected.
    pub(crate) fn call(&self, cluster: &Cluster, resource: Resource) -> Call {
        let path = if self.all_namespaces { resource.path(None) } else { cluster.all(resource) };
        let selector = |selector: &Option<String>| selector.clone().unwrap_or_default();
        Call::get(path)
            .with("labelSelector", selector(&self.selector))
            .with("fieldSelector", selector(&self.field_selector))
    }
}

/// Lists the objects of a kind.
pub(crate) async fn run(context: &Context, resource: Resource, args: &Args) -> Outcome {
    let cluster = context.cluster().await?;
    show(
        context,
        &cluster,
        resource,
        args.selection.call(&cluster, resource),
        &args.selection,
        args.watch,
        &args.output,
    )
    .await
}

/// Shows what a request lists, and what happens to it if wanted.
pub(crate) async fn show(
    context: &Context,
    cluster: &Cluster,
    resource: Resource,
    call: Call,
    selection: &SelectionArgs,
    watch: bool,
    output: &OutputArgs,
) -> Outcome {
    let look = output.look(selection.all_namespaces);
    let call = call.form(if look.is_some() { Form::Table } else { Form::Objects });
    let mut table: Option<Table> = None;
    let mut first = true;
    loop {
        let list = match cluster.list(call.clone()).await {
            Ok(list) => list,
            Err(error) => return Err(explain(cluster, error, resource, None).await),
        };
        // What is listed again after a watch was outdated has been shown, as far as it is the same.
        if first {
            match look {
                Some(look) => {
                    let table = table.insert(Table::new(&list, look));
                    let text = table.piece(&list);
                    if text.is_empty() && !watch {
                        context.screen.note(&nothing(cluster, selection));
                    }
                    context.screen.text(&text);
                }
                None if watch => each(context, &list, output)?,
                None => context.screen.text(&output.print(as_list(list.clone()))?.unwrap_or_default()),
            }
            first = false;
        }
        if !watch {
            return Ok(DONE);
        }
        follow(context, cluster, resource, &call, &list, &mut table, output).await?;
    }
}

/// Watches until the versions that are known are too old.
async fn follow(
    context: &Context,
    cluster: &Cluster,
    resource: Resource,
    call: &Call,
    list: &Value,
    table: &mut Option<Table>,
    output: &OutputArgs,
) -> Result<(), Error> {
    let mut version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    loop {
        let mut events = match cluster.watch(call.clone(), &version).await {
            Ok(events) => Box::pin(events),
            Err(error) if error.code() == Some(410) => return Ok(()),
            Err(error) => return Err(explain(cluster, error, resource, None).await),
        };
        while let Some(event) = events.next().await {
            let (word, object) = match event {
                Ok(event) => event,
                Err(error) if error.code() == Some(410) => return Ok(()),
                Err(error) => return Err(explain(cluster, error, resource, None).await),
            };
            let metadata =
                if object["rows"].is_array() { &object["rows"][0]["object"]["metadata"] } else { &object["metadata"] };
            let seen = metadata["resourceVersion"].as_str().or(object["metadata"]["resourceVersion"].as_str());
            version = seen.unwrap_or(&version).to_owned();
            if word == "BOOKMARK" {
                continue;
            }
            match table {
                Some(table) => context.screen.text(&table.piece(&object)),
                None => context.screen.text(&output.print(object)?.unwrap_or_default()),
            }
        }
    }
}

/// Each object of a list by itself, as a watch shows them.
fn each(context: &Context, list: &Value, output: &OutputArgs) -> Result<(), Error> {
    for item in list["items"].as_array().into_iter().flatten() {
        context.screen.text(&output.print(item.clone())?.unwrap_or_default());
    }
    Ok(())
}

/// A list as kubectl prints it: a List of whatever, which kubectl can read again.
fn as_list(mut list: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "List",
        "metadata": { "resourceVersion": "" },
        "items": list["items"].take(),
    })
}

fn nothing(cluster: &Cluster, selection: &SelectionArgs) -> String {
    if selection.all_namespaces {
        "No resources found".to_owned()
    } else {
        format!("No resources found in {} namespace.", cluster.namespace)
    }
}
