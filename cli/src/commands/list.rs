//! `list`: what there is, as the API server shows it; `-w`: and what happens to it.

use futures::StreamExt as _;
use konductor_cluster::backoff::Backoff;
use serde_json::{Value, json};

use crate::{
    args::{OutputArgs, SelectionArgs},
    cluster::{ApiError, Call, Cluster, Form, WatchEvent},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::Resource,
    local,
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
    if let Some(folder) = context.globals.folder() {
        return local::list(context, &folder, resource, &args.selection, args.watch, &args.output).await;
    }
    let cluster = context.cluster().await?;
    let nothing = if args.selection.all_namespaces {
        "No resources found".to_owned()
    } else {
        format!("No resources found in {} namespace.", cluster.namespace)
    };
    let listing = Listing {
        resource,
        call: args.selection.call(&cluster, resource),
        namespaces: args.selection.all_namespaces,
        watch: args.watch,
        output: &args.output,
        choose: &|_| {},
        deletions: true,
        nothing,
    };
    listing.show(context, &cluster).await
}

/// What to show of a kind, and how.
pub(crate) struct Listing<'a> {
    pub(crate) resource: Resource,
    /// The request that lists it.
    pub(crate) call: Call,
    /// Whether the namespace of each is shown.
    pub(crate) namespaces: bool,
    /// Whether to go on watching.
    pub(crate) watch: bool,
    pub(crate) output: &'a OutputArgs,
    /// Keeps of a list (`rows` or `items`) what is to be shown, in its order.
    pub(crate) choose: &'a dyn Fn(&mut Value),
    /// Whether what is deleted is shown once more.
    pub(crate) deletions: bool,
    /// What is said when there is nothing.
    pub(crate) nothing: String,
}

impl Listing<'_> {
    /// Shows it.
    pub(crate) async fn show(&self, context: &Context, cluster: &Cluster) -> Outcome {
        let look = self.output.look(self.namespaces);
        let call = self.call.clone().form(if look.is_some() { Form::Table } else { Form::Objects });
        let mut list = match cluster.list(call.clone()).await {
            Ok(list) => list,
            Err(error) => return Err(explain(cluster, error, self.resource, None).await),
        };
        (self.choose)(&mut list);
        self.say_kind(&mut list);
        let mut table = look.map(|look| Table::new(&list, look));
        let is_empty = ["rows", "items"].iter().all(|rows| list[*rows].as_array().is_none_or(Vec::is_empty));
        if is_empty && !self.watch && table.is_some() {
            context.screen.note(&self.nothing);
        }
        let mut version = version_of(&list).unwrap_or_default();
        match &mut table {
            None if !self.watch => context.screen.text(&self.output.print(as_list(list))?.unwrap_or_default()),
            table => self.piece(context, table, &list)?,
        }
        let mut backoff = Backoff::default();
        if !self.watch {
            return Ok(DONE);
        }
        // Who closes the pipe has seen enough.
        while !context.screen.is_over() {
            match self.follow(context, cluster, &call, &mut table, &mut version, &mut backoff).await? {
                Ended::Quietly => {}
                Ended::Outdated => {
                    // What has changed since is shown; what was deleted meanwhile nobody can tell any more.
                    match cluster.list(call.clone()).await {
                        Ok(mut list) => {
                            keep_newer(&mut list, &version);
                            (self.choose)(&mut list);
                            self.say_kind(&mut list);
                            version = version_of(&list).unwrap_or_default();
                            self.piece(context, &mut table, &list)?;
                        }
                        Err(error) if error.is_passing() => context.screen.note(&format!("{error} (trying again)")),
                        Err(error) => return Err(explain(cluster, error, self.resource, None).await),
                    }
                }
                Ended::By(error) => context.screen.note(&format!("{error} (trying again)")),
            }
            backoff.pause().await;
        }
        Ok(DONE)
    }

    /// Items of a list need not say what they are: those of Kubernetes' own kinds do not.
    fn say_kind(&self, list: &mut Value) {
        for item in list["items"].as_array_mut().into_iter().flatten() {
            item["kind"] = json!(self.resource.kind);
            item["apiVersion"] = json!(self.resource.api_version());
        }
    }

    /// Shows what is in a list, one after the other.
    fn piece(&self, context: &Context, table: &mut Option<Table>, list: &Value) -> Result<(), Error> {
        if let Some(table) = table {
            context.screen.text(&table.piece(list));
            return Ok(());
        }
        for item in list["items"].as_array().into_iter().flatten() {
            context.screen.text(&self.output.print(item.clone())?.unwrap_or_default());
        }
        Ok(())
    }

    /// Shows what happens from a version on, for as long as one watch lasts.
    async fn follow(
        &self,
        context: &Context,
        cluster: &Cluster,
        call: &Call,
        table: &mut Option<Table>,
        version: &mut String,
        backoff: &mut Backoff,
    ) -> Result<Ended, Error> {
        let ended = |error: ApiError| match error {
            error if error.code() == Some(410) => Ok(Ended::Outdated),
            error if error.is_passing() => Ok(Ended::By(error)),
            error => Err(error),
        };
        let mut events = match cluster.watch(call.clone(), version).await.map_err(ended) {
            Ok(events) => Box::pin(events),
            Err(Ok(ended)) => return Ok(ended),
            Err(Err(error)) => return Err(explain(cluster, error, self.resource, None).await),
        };
        while let Some(event) = events.next().await {
            let (word, object): WatchEvent = match event.map_err(ended) {
                Ok(event) => event,
                Err(Ok(ended)) => return Ok(ended),
                Err(Err(error)) => return Err(explain(cluster, error, self.resource, None).await),
            };
            backoff.reset();
            *version = version_of(&object["rows"][0]["object"]).or_else(|| version_of(&object)).unwrap_or_default();
            if word == "BOOKMARK" || word == "DELETED" && !self.deletions {
                continue;
            }
            let mut list = if object["rows"].is_array() { object } else { json!({ "items": [object] }) };
            (self.choose)(&mut list);
            self.piece(context, table, &list)?;
            if context.screen.is_over() {
                break;
            }
        }
        Ok(Ended::Quietly)
    }
}

/// How a watch has ended.
enum Ended {
    /// As all do after a while.
    Quietly,
    /// The version that it was to begin at is too old.
    Outdated,
    /// By trouble that passes.
    By(ApiError),
}

fn version_of(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

/// Keeps of a list what is newer than this version.
fn keep_newer(list: &mut Value, version: &str) {
    let number = |version: &str| version.parse::<u64>().ok();
    let newer = |object: &Value| {
        let own = version_of(object).as_deref().and_then(number);
        own.zip(number(version)).is_none_or(|(own, version)| own > version)
    };
    if let Some(rows) = list["rows"].as_array_mut() {
        rows.retain(|row| newer(&row["object"]));
    }
    if let Some(items) = list["items"].as_array_mut() {
        items.retain(newer);
    }
}

/// A list as kubectl prints it: a List of whatever, which kubectl can read again.
pub(crate) fn as_list(mut list: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "List",
        "metadata": { "resourceVersion": "" },
        "items": list["items"].take(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_gap_only_what_has_changed_is_shown() {
        let object = |version: &str| json!({ "metadata": { "resourceVersion": version } });
        let mut list = json!({ "items": [object("5"), object("12"), object("9"), object("x")] });
        keep_newer(&mut list, "9");
        assert_eq!(list["items"], json!([object("12"), object("x")]));
        let mut table = json!({ "rows": [{ "object": object("5") }, { "object": object("12") }] });
        keep_newer(&mut table, "9");
        assert_eq!(table["rows"], json!([{ "object": object("12") }]));
    }
}
