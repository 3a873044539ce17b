//! `koncli status`: what is held, by whom, since when, who waits, what is closed and why. As JSON a flat summary, whose
//! fields the reference page describes; on a terminal one screen.

pub(crate) mod summary;
mod view;

use std::{str::FromStr, time::Duration};

use futures::{StreamExt as _, future::try_join_all, stream::select_all};
use konductor::Local;
use konductor_cluster::backoff::Backoff;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    args::{OldWaitArgs, OutputArgs, SelectionArgs},
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::{PARENTS, Resource, parse_name},
    local,
    output::Format,
    trouble::explain,
    why::now,
};

/// How long what is shown again waits for what else changes: short for who looks on, long beside one decision.
const SETTLES: Duration = Duration::from_millis(300);

/// The longest pause between two tries while the API server is away: who looks on sees it back soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    /// Go on watching, and show it again whenever it has changed.
    #[arg(short, long)]
    watch: bool,
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
    /// Go on watching, and show it again whenever it has changed.
    #[arg(short, long)]
    watch: bool,
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
    let Args { kind, name, selection, watch, output, old: _ } = args;
    Wanted { kinds: &kind.0, name: name.as_deref(), selection, watch: *watch, output }.show(context).await
}

/// Shows the status of objects of one kind.
pub(crate) async fn one(context: &Context, resource: Resource, args: &OneArgs) -> Outcome {
    let OneArgs { name, selection, watch, output, old: _ } = args;
    Wanted { kinds: &[resource], name: name.as_deref(), selection, watch: *watch, output }.show(context).await
}

/// What is asked for, and how it is to be shown.
struct Wanted<'a> {
    kinds: &'a [Resource],
    name: Option<&'a str>,
    selection: &'a SelectionArgs,
    watch: bool,
    output: &'a OutputArgs,
}

impl Wanted<'_> {
    async fn show(&self, context: &Context) -> Outcome {
        if let Some(folder) = context.globals.folder() {
            return self.show_folder(context, &folder).await;
        }
        let cluster = context.cluster().await?;
        let place = format!(" in {} namespace.", cluster.namespace);
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        let mut shown = Shown::default();
        loop {
            match self.gather(&cluster).await {
                Ok(Gathered { summaries, versions }) => {
                    shown.show(context, self, summaries, &place)?;
                    if !self.watch || context.screen.is_over() {
                        return Ok(DONE);
                    }
                    match changed(&cluster, versions).await {
                        // Watches end by themselves after a while.
                        Ok(false) => backoff.pause().await,
                        Ok(true) => {
                            backoff.reset();
                            // What changes together is shown together, and many changes are not many lists.
                            sleep(SETTLES).await;
                        }
                        Err(failed) if failed.error.is_passing() => {
                            context.screen.note(&format!("{} (trying again)", failed.error));
                            backoff.pause().await;
                        }
                        // Who may list it may not be allowed to watch it.
                        Err(failed) => return Err(explain(&cluster, failed.error, failed.of, None).await),
                    }
                }
                // What was shown once is shown again when the trouble is over.
                Err(failed) if shown.0.is_some() && failed.error.is_passing() => {
                    context.screen.note(&format!("{} (trying again)", failed.error));
                    backoff.pause().await;
                }
                Err(Failed { error, of, named }) => {
                    return Err(explain(&cluster, error, of, self.name.filter(|_| named)).await);
                }
            }
        }
    }

    async fn show_folder(&self, context: &Context, folder: &Local) -> Outcome {
        let place = format!(" in {}.", folder.folder().display());
        let mut shown = Shown::default();
        if !self.watch {
            let summaries = local::summaries(folder, self.kinds, self.name, self.selection)?;
            shown.show(context, self, summaries, &place)?;
            return Ok(DONE);
        }
        local::check(self.selection)?;
        let mut changes = local::Changes::of(folder);
        while !context.screen.is_over() {
            let view = changes.view(|why| context.screen.looks_again(why)).await?;
            let summaries = local::summaries_of(&view, self.kinds, self.name)?;
            shown.show(context, self, summaries, &place)?;
        }
        Ok(DONE)
    }

    /// All that is to be shown, and from which versions on it may change.
    async fn gather(&self, cluster: &Cluster) -> Result<Gathered, Failed> {
        let Self { kinds, name, selection, .. } = self;
        let (mut summaries, mut versions) = (Vec::new(), Vec::new());
        for kind in *kinds {
            let failed = |error, of, named| Failed { error, of, named };
            let objects = if let Some(name) = name {
                let found = cluster.call(Call::get(cluster.path(*kind, name))).await;
                let found = found.map_err(|error| failed(error, *kind, true))?;
                let only = Call::get(cluster.all(*kind)).with("fieldSelector", format!("metadata.name={name}"));
                versions.push((*kind, only, version_of(&found)));
                vec![found]
            } else {
                let call = selection.call(cluster, *kind);
                let (objects, version) =
                    listed(cluster, call.clone(), *kind).await.map_err(|error| failed(error, *kind, false))?;
                versions.push((*kind, call, version));
                objects
            };
            let claims = match kind.claims() {
                Some((claims_kind, field)) if !objects.is_empty() => {
                    let field = name.map(|name| format!("{field}={name}"));
                    let only = SelectionArgs {
                        all_namespaces: selection.all_namespaces,
                        field_selector: field,
                        selector: None,
                    };
                    let call = only.call(cluster, claims_kind);
                    match listed(cluster, call.clone(), claims_kind).await {
                        Ok((claims, version)) => {
                            versions.push((claims_kind, call, version));
                            Some(claims)
                        }
                        // Without the right to see them there is still what the lock itself tells.
                        Err(error) if error.is_forbidden() => None,
                        Err(error) => return Err(failed(error, claims_kind, false)),
                    }
                }
                _ => None,
            };
            summaries.extend(objects.iter().map(|object| summary::of(*kind, object, claims.as_deref())));
        }
        Ok(Gathered { summaries, versions })
    }

    /// The summaries in the form that is wanted; none for a screen.
    fn text(&self, summaries: &[Value]) -> Result<Option<String>, Error> {
        let value = match (self.name, summaries) {
            (Some(_), [one]) => one.clone(),
            _ => Value::Array(summaries.to_vec()),
        };
        match self.output.format() {
            Format::Name => Ok(Some(summaries.iter().map(summary::name).collect())),
            _ => self.output.print(value),
        }
    }
}

/// What was shown last: only news are shown again.
#[derive(Default)]
struct Shown(Option<(Vec<Value>, Option<String>)>);

impl Shown {
    fn show(
        &mut self,
        context: &Context,
        wanted: &Wanted<'_>,
        summaries: Vec<Value>,
        place: &str,
    ) -> Result<(), Error> {
        let text = wanted.text(&summaries)?;
        let is_first = self.0.is_none();
        let is_news = match &self.0 {
            None => true,
            // What is shown of it may be the same when something else of it has changed.
            Some((former, said)) => *former != summaries && (text.is_none() || *said != text),
        };
        let all = wanted.selection.all_namespaces;
        match &text {
            _ if !is_news => {}
            Some(text) => context.screen.text(text),
            None if summaries.is_empty() => {
                let place = if all { "" } else { place };
                context.screen.note(&format!("No {} found{place}", plurals(wanted.kinds)));
            }
            None => {
                let screen = view::screen(&summaries, now(), all);
                let screen = if context.screen.color { view::colored(&screen) } else { screen };
                // One screen after the other.
                context.screen.text(&if is_first { screen } else { format!("\n{screen}") });
            }
        }
        self.0 = Some((summaries, text));
        Ok(())
    }
}

/// What is there, and from which versions on each list may change.
struct Gathered {
    summaries: Vec<Value>,
    versions: Vec<(Resource, Call, String)>,
}

/// What could not be read, and of which kind; `named`: it was asked for by its name.
struct Failed {
    error: ApiError,
    of: Resource,
    named: bool,
}

/// Returns when one of these lists has changed since its version, or (`false`) when all watches have ended before.
async fn changed(cluster: &Cluster, versions: Vec<(Resource, Call, String)>) -> Result<bool, Box<Failed>> {
    let failed = |error, of| Box::new(Failed { error, of, named: false });
    let opening = versions.into_iter().map(|(of, call, version)| async move {
        let events = cluster.watch(call, &version).await.map_err(|error| failed(error, of))?;
        Ok::<_, Box<Failed>>(Box::pin(events.map(move |event| event.map_err(|error| failed(error, of)))))
    });
    let mut events = select_all(try_join_all(opening).await?);
    while let Some(event) = events.next().await {
        match event {
            Ok((word, _)) if word == "BOOKMARK" => {}
            // A version that is too old: all is listed anew.
            Err(failed) if failed.error.code() == Some(410) => return Ok(false),
            other => return other.map(|_| true),
        }
    }
    Ok(false)
}

async fn listed(cluster: &Cluster, call: Call, resource: Resource) -> Result<(Vec<Value>, String), ApiError> {
    let mut list = cluster.list(call).await?;
    let mut items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    // Of a list, the items need not say what they are.
    for item in &mut items {
        item["kind"] = json!(resource.kind);
    }
    Ok((items, version_of(&list)))
}

fn version_of(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

fn plurals(kinds: &[Resource]) -> String {
    kinds.iter().map(|kind| kind.plural).collect::<Vec<_>>().join(", ")
}
