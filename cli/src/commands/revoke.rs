//! `koncli revoke`: asks a holder to end, or takes away by force.

use konductor_api::REVOKE_ANNOTATION;
use serde_json::{Value, json};

use super::{
    claim::{claims_on, delete, holds_nothing},
    object::{self, Change},
};
use crate::{
    args::{DryRun, WriteArgs, parse_holder},
    cluster::{Call, Cluster},
    context::Context,
    error::{Error, Failures, Outcome},
    kind::{LEASE, LEASE_REQUEST, ObjectName, PERMIT, Resource, SEMAPHORE},
    trouble::explain,
};

/// What to revoke.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A semaphore or lease, or a claim itself: permit/NAME, leaserequest/NAME.
    #[arg(value_name = "KIND/NAME")]
    object: ObjectName,
    /// Whose claims; needed unless a claim is named.
    #[arg(long, value_name = "NAME", value_parser = parse_holder)]
    holder: Option<String>,
    /// Why, as the holder and others are told.
    #[arg(long, value_name = "TEXT", default_value = "asked for by koncli")]
    reason: String,
    /// Delete the claim instead of asking: the next one is let in at once, whatever the holder still does.
    #[arg(long)]
    force: bool,
    /// Do not ask whether --force is meant.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// Asks holders to end.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    let resource = args.object.resource;
    let kind = match (resource, &args.holder) {
        (PERMIT | LEASE_REQUEST, _) => resource,
        (SEMAPHORE | LEASE, Some(_)) => resource.claims().expect("a lock has claims").0,
        (SEMAPHORE | LEASE, None) => {
            return Err(Error::usage(format!("whose claim on {} is to be revoked? say --holder NAME", args.object))
                .advise(format!("koncli {resource} status {} shows who holds it", args.object.name)));
        }
        _ => {
            return Err(Error::usage(format!("a {resource} is held by nobody: name a semaphore or lease, or a claim")));
        }
    };
    let cluster = context.cluster().await?;
    let claims = find(&cluster, args, kind).await?;
    if args.force && args.write.dry_run() == DryRun::None {
        agreed(context, &claims, args.yes)?;
    }
    let mut failures = Failures::default();
    for claim in &claims {
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        if args.force {
            match delete(&cluster, kind, claim, args.write.dry_run()).await {
                Ok(()) => {}
                Err(error) => {
                    failures.add(&context.screen, explain(&cluster, error, kind, Some(name)).await);
                    continue;
                }
            }
            let suffix = args.write.dry_run().suffix();
            context.screen.confirm(&format!("{}/{name} deleted{suffix}", kind.qualified()));
        } else {
            let metadata =
                json!({ "uid": claim["metadata"]["uid"], "annotations": { REVOKE_ANNOTATION: args.reason } });
            let patch = json!({ "metadata": metadata });
            let change = Change { resource: kind, name, patch, verb: "revoked" };
            match object::change(context, &cluster, change, args.write.dry_run(), &args.write.output).await {
                Ok(_) => unheard(claim).into_iter().for_each(|note| context.screen.note(&note)),
                Err(error) => failures.add(&context.screen, error),
            }
        }
    }
    failures.outcome()
}

/// The claims that are meant.
async fn find(cluster: &Cluster, args: &Args, kind: Resource) -> Result<Vec<Value>, Error> {
    let ObjectName { resource, name } = &args.object;
    if *resource == kind {
        return match cluster.call(Call::get(cluster.path(kind, name))).await {
            Ok(claim) => Ok(vec![claim]),
            Err(error) => Err(explain(cluster, error, kind, Some(name)).await),
        };
    }
    let holder = args.holder.as_deref().unwrap_or_default();
    let claims = claims_on(cluster, *resource, name, Some(holder)).await?;
    if claims.is_empty() {
        return Err(holds_nothing(cluster, *resource, name, holder).await);
    }
    Ok(claims)
}

/// That nobody hears of the revocation, if it is so.
fn unheard(claim: &Value) -> Option<String> {
    let is_of_holder = claim["spec"]["instance"].as_str().is_some_and(konductor::is_of_holder);
    let holder = claim["spec"]["holder"].as_str().unwrap_or_default();
    is_of_holder.then(|| {
        format!(
            "{holder} acquired it by a command, and no process of it hears of this before it renews: it counts as held \
             until it is released or its time to live has passed"
        )
    })
}

/// Says what force risks, and asks unless the answer is known.
fn agreed(context: &Context, claims: &[Value], yes: bool) -> Result<(), Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for claim in claims {
        let pod = claim["spec"]["pod"]["name"].as_str().map(|pod| format!(" (pod {pod})")).unwrap_or_default();
        context.screen.warn(&format!(
            "{} of {}{pod} is deleted: until it notices, at its next renewal, it goes on beside the next holder",
            text(&claim["metadata"]["name"]),
            text(&claim["spec"]["holder"]),
        ));
    }
    if yes {
        return Ok(());
    }
    match context.screen.asks("Delete?") {
        Some(true) => Ok(()),
        Some(false) => Err(Error::usage("nothing was deleted")),
        None => Err(Error::usage("there is nobody to ask whether --force is meant: say so with -y")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_nothing_of_a_revocation_is_told_of() {
        let claim = |instance: &str| json!({ "spec": { "holder": "nightly", "instance": instance } });
        assert!(unheard(&claim("holder-1")).expect("a note").starts_with("nightly acquired it by a command"));
        assert_eq!(unheard(&claim("0123456789abcdef")), None);
    }
}
