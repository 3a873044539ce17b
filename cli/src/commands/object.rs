//! Creating, changing and deleting one object, with a confirmation as kubectl's.

use serde_json::{Value, json};

use crate::{
    args::{DryRun, DryRunArgs, OutputArgs},
    cluster::{Call, Cluster},
    context::Context,
    error::{DONE, Failures, Outcome},
    kind::{Resource, parse_name},
    trouble::explain,
};

/// What to delete.
#[derive(clap::Args, Debug)]
pub(crate) struct DeleteArgs {
    /// What to delete.
    #[arg(required = true, value_name = "NAME", value_parser = parse_name)]
    names: Vec<String>,
    /// Do not fail for what is not there.
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    old: crate::args::OldWaitArgs,
}

/// Creates an object with this spec.
pub(crate) async fn create(
    context: &Context,
    resource: Resource,
    name: &str,
    spec: Value,
    dry_run: DryRun,
    output: &OutputArgs,
) -> Outcome {
    let cluster = context.cluster().await?;
    create_in(context, &cluster, resource, name, spec, dry_run, output).await
}

/// The same in a cluster that is connected to.
pub(crate) async fn create_in(
    context: &Context,
    cluster: &Cluster,
    resource: Resource,
    name: &str,
    spec: Value,
    dry_run: DryRun,
    output: &OutputArgs,
) -> Outcome {
    let mut object = json!({
        "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": { "name": name, "namespace": cluster.namespace }, "spec": spec,
    });
    if dry_run != DryRun::Client {
        let call = Call::create(cluster.all(resource), &object).with("dryRun", dry_run.parameter());
        object = match cluster.call(call).await {
            Ok(object) => object,
            Err(error) => return Err(explain(cluster, error, resource, Some(name)).await),
        };
    }
    done(context, resource, &object, "created", dry_run, output)
}

/// A change of one object.
pub(crate) struct Change<'a> {
    pub(crate) resource: Resource,
    pub(crate) name: &'a str,
    /// A merge patch.
    pub(crate) patch: Value,
    /// What is done by it, as in `opened`.
    pub(crate) verb: &'a str,
}

/// Changes an object.
pub(crate) async fn change(
    context: &Context,
    cluster: &Cluster,
    change: Change<'_>,
    dry_run: DryRun,
    output: &OutputArgs,
) -> Outcome {
    let Change { resource, name, patch, verb } = change;
    let mut object = json!({
        "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": { "name": name, "namespace": cluster.namespace },
    });
    if dry_run != DryRun::Client {
        let call = Call::patch(cluster.path(resource, name), &patch).with("dryRun", dry_run.parameter());
        object = match cluster.call(call).await {
            Ok(object) => object,
            Err(error) => return Err(explain(cluster, error, resource, Some(name)).await),
        };
    }
    done(context, resource, &object, verb, dry_run, output)
}

/// Says what was done to an object, or shows it.
pub(crate) fn done(
    context: &Context,
    resource: Resource,
    object: &Value,
    verb: &str,
    dry_run: DryRun,
    output: &OutputArgs,
) -> Outcome {
    if let Some(text) = output.print(object.clone())? {
        context.screen.text(&text);
    } else {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        context.screen.confirm(&format!("{}/{name} {verb}{}", resource.qualified(), dry_run.suffix()));
    }
    Ok(DONE)
}

/// Deletes objects by their names. All are tried; the gravest failure is how it ends.
pub(crate) async fn delete(context: &Context, resource: Resource, args: &DeleteArgs) -> Outcome {
    let cluster = context.cluster().await?;
    let dry_run = args.dry_run.dry_run;
    let mut failures = Failures::default();
    for name in &args.names {
        match remove(&cluster, resource, name, dry_run).await {
            Ok(()) => match args.output.format() {
                crate::output::Format::Name => context.screen.line(&format!("{}/{name}", resource.qualified())),
                _ => {
                    context.screen.confirm(&format!("{} \"{name}\" deleted{}", resource.qualified(), dry_run.suffix()));
                }
            },
            Err(error) if args.ignore_not_found && error.is_absent(name) => {}
            Err(error) => {
                failures.add(&context.screen, explain(&cluster, error, resource, Some(name)).await);
            }
        }
    }
    failures.outcome()
}

async fn remove(
    cluster: &Cluster,
    resource: Resource,
    name: &str,
    dry_run: DryRun,
) -> Result<(), crate::cluster::ApiError> {
    let path = cluster.path(resource, name);
    let call = match dry_run {
        // Whether it is there is what a dry run can tell.
        DryRun::Client => Call::get(path),
        DryRun::None | DryRun::Server => Call::delete(path, &json!({ "propagationPolicy": "Background" }), dry_run),
    };
    cluster.call(call).await.map(|_| ())
}
