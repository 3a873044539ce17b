//! Claims that are there: found by their holder, released, renewed.

use jiff::Timestamp;
use konductor::{Exit, Wanted};
use konductor_api::claim::renewal_patch;
use serde_json::{Value, json};

use crate::{
    args::{DryRun, HolderArgs, WriteArgs},
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Failures, Outcome},
    holder::Who,
    kind::{LEASE, Resource, SEMAPHORE, parse_name},
    trouble::{explain, nearest, quoted},
};

/// What to release.
#[derive(clap::Args, Debug)]
pub(crate) struct ReleaseArgs {
    /// The lock.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    holder: HolderArgs,
    /// Also what a running container, another pod or another person holds: whatever that protects is then protected no
    /// longer.
    #[arg(long)]
    force: bool,
    /// Do not fail when nothing is held.
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// What to renew.
#[derive(clap::Args, Debug)]
pub(crate) struct RenewArgs {
    /// The lock.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    holder: HolderArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// The kind of lock that is wanted.
pub(crate) fn resource_of(wanted: &Wanted) -> Resource {
    match wanted {
        Wanted::Lease { .. } => LEASE,
        Wanted::Semaphore { .. } => SEMAPHORE,
    }
}

/// The claims on a lock that are not over, of this holder or of all.
pub(crate) async fn claims_on(
    cluster: &Cluster,
    lock: Resource,
    name: &str,
    holder: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let (claims, field) = lock.claims().expect("a lock has claims");
    let of_holder = holder.map(|holder| format!(",spec.holder={}", selected(holder)));
    let selector = format!("{field}={}{}", selected(name), of_holder.unwrap_or_default());
    let list = cluster.list(Call::get(cluster.all(claims)).with("fieldSelector", selector)).await;
    let mut list = match list {
        Ok(list) => list,
        Err(error) => return Err(explain(cluster, error, claims, None).await),
    };
    let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(items.into_iter().filter(|claim| claim["status"]["phase"] != "Expired").collect())
}

/// A value as a field selector has it.
fn selected(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if matches!(character, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Which of a holder's claims a command means, and may touch.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    /// These.
    Own(Vec<&'a Value>),
    /// These, which somebody else than a command line like this one has acquired.
    Others(Vec<&'a Value>),
    /// There is none.
    None,
}

/// Chooses among the claims of a holder: those that belong to it by its name, in this pod or in none. All else is held
/// by a process that lives and renews it, by another pod, or by another person.
fn choose<'a>(claims: &'a [Value], who: &Who) -> Choice<'a> {
    let pod = who.pod.as_ref().map(|pod| pod.uid.as_str());
    let own = |claim: &&Value| {
        let of = &claim["spec"]["pod"];
        let by_name = claim["spec"]["instance"].as_str().is_some_and(konductor::is_of_holder);
        let is_here = match of["uid"].as_str() {
            Some(of) => Some(of) == pod,
            None => !who.is_of_another(),
        };
        by_name && is_here
    };
    // What was acquired outside of any pod is left alone where this pod has a claim of its own.
    let mine: Vec<_> = claims.iter().filter(own).collect();
    let here: Vec<_> = mine.iter().copied().filter(|claim| claim["spec"]["pod"]["uid"].as_str() == pod).collect();
    match (claims.is_empty(), mine.is_empty(), here.is_empty()) {
        (true, ..) => Choice::None,
        (_, true, _) => Choice::Others(claims.iter().collect()),
        (.., true) => Choice::Own(mine),
        _ => Choice::Own(here),
    }
}

/// Releases what a holder has acquired.
pub(crate) async fn release(context: &Context, lock: Resource, args: &ReleaseArgs) -> Outcome {
    let cluster = context.cluster().await?;
    let who = Who::found(args.holder.holder.as_deref());
    let claims = claims_on(&cluster, lock, &args.name, Some(&who.holder)).await?;
    let chosen = match choose(&claims, &who) {
        Choice::Own(chosen) => chosen,
        Choice::Others(chosen) if args.force => chosen,
        Choice::Others(chosen) => return Err(of_others(lock, &args.name, &who, &chosen)),
        Choice::None if args.ignore_not_found => return Ok(DONE),
        Choice::None => return Err(holds_nothing(&cluster, lock, &args.name, &who.holder).await),
    };
    let (claim_kind, _) = lock.claims().expect("a lock has claims");
    let mut failures = Failures::default();
    for claim in chosen {
        match delete(&cluster, claim_kind, claim, args.write.dry_run()).await {
            Ok(()) => {
                if let Some(text) = args.write.output.print(claim.clone())? {
                    context.screen.text(&text);
                } else {
                    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
                    let suffix = args.write.dry_run().suffix();
                    context.screen.confirm(&format!("{}/{name} released{suffix}", claim_kind.qualified()));
                }
            }
            Err(error) => failures.add(&context.screen, explain(&cluster, error, claim_kind, None).await),
        }
    }
    failures.outcome()
}

/// Deletes this very claim, and none that has taken its name since. Whoever has deleted it at the same time has done the
/// same; but only the API server says so, which names it: a 404 of a gateway says nothing of the claim.
pub(crate) async fn delete(cluster: &Cluster, kind: Resource, claim: &Value, dry_run: DryRun) -> Result<(), ApiError> {
    if dry_run == DryRun::Client {
        return Ok(());
    }
    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
    let options = json!({ "preconditions": { "uid": claim["metadata"]["uid"] } });
    let call = Call::delete(cluster.path(kind, name), &options, dry_run);
    match cluster.call(call).await {
        Err(error) if !error.is_gone(name) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn of_others(lock: Resource, name: &str, who: &Who, claims: &[&Value]) -> Error {
    let place = |claim: &&Value| {
        let pod = &claim["spec"]["pod"];
        match (pod["name"].as_str(), pod["container"].as_str()) {
            (Some(pod), Some(container)) => format!("by the container {container} of the pod {pod}"),
            (Some(pod), None) => format!("in the pod {pod}"),
            (None, _) if claim["spec"]["instance"].as_str().is_some_and(konductor::is_of_holder) => {
                format!("by {}, who is somebody else", who.holder)
            }
            (None, _) => "by a process that renews it".to_owned(),
        }
    };
    let places: Vec<_> = claims.iter().map(place).collect();
    Error::new(
        Exit::Refused,
        format!("what {} holds of {lock}/{name} was acquired elsewhere: {}", who.holder, places.join("; ")),
    )
    .advise(format!("koncli revoke {lock}/{name} --holder {} asks it to end", quoted(&who.holder)))
    .advise("--force releases it at once, whatever still relies on it")
}

/// The holder has no claim: who has?
pub(crate) async fn holds_nothing(cluster: &Cluster, lock: Resource, name: &str, holder: &str) -> Error {
    let error = Error::new(Exit::NoSuchPrimitive, format!("{holder} holds nothing of {lock}/{name}, nor waits for it"));
    let Ok(claims) = claims_on(cluster, lock, name, None).await else { return error };
    let mut holders: Vec<_> =
        claims.iter().filter_map(|claim| claim["spec"]["holder"].as_str()).map(str::to_owned).collect();
    holders.sort();
    holders.dedup();
    match nearest(holder, &holders) {
        Some(near) => error.advise(format!("did you mean --holder {}?", quoted(near))),
        None if holders.is_empty() => {
            error.advise(format!("nobody does; koncli {lock} status {name} shows how it stands"))
        }
        None => error.advise(format!("these do: {}", holders[..holders.len().min(SHOWN)].join(", "))),
    }
}

/// Holders that are named when the right one is not among them.
const SHOWN: usize = 10;

/// Extends what a holder has acquired.
pub(crate) async fn renew(context: &Context, lock: Resource, args: &RenewArgs) -> Outcome {
    let cluster = context.cluster().await?;
    let who = Who::found(args.holder.holder.as_deref());
    let claims = claims_on(&cluster, lock, &args.name, Some(&who.holder)).await?;
    let chosen = match choose(&claims, &who) {
        Choice::Own(chosen) | Choice::Others(chosen) => chosen,
        Choice::None => return Err(holds_nothing(&cluster, lock, &args.name, &who.holder).await),
    };
    let (claim_kind, _) = lock.claims().expect("a lock has claims");
    let mut failures = Failures::default();
    for claim in chosen {
        if let Err(error) = renew_one(context, &cluster, claim_kind, claim, args).await {
            failures.add(&context.screen, error);
        }
    }
    failures.outcome()
}

async fn renew_one(
    context: &Context,
    cluster: &Cluster,
    kind: Resource,
    claim: &Value,
    args: &RenewArgs,
) -> Result<(), Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, uid) = (text(&claim["metadata"]["name"]), text(&claim["metadata"]["uid"]));
    let dry_run = args.write.dry_run();
    let mut renewed = claim.clone();
    if dry_run != DryRun::Client {
        #[expect(clippy::disallowed_methods, reason = "shown to people; that it changes is what counts")]
        let patch = renewal_patch(&uid, Timestamp::now());
        let call = Call::patch(cluster.path(kind, &name), &patch).with("dryRun", dry_run.parameter());
        renewed = match cluster.call(call).await {
            Ok(claim) => claim,
            // Another claim has taken its name, or it is gone.
            Err(error) if error.is_absent(&name) || error.is_another(&name) => return Err(lost(&name, "it is gone")),
            Err(error) => return Err(explain(cluster, error, kind, Some(&name)).await),
        };
    }
    let status = &renewed["status"];
    match status["phase"].as_str() {
        Some("Granted") => {}
        Some("Revoking") => {
            return Err(lost(&name, &format!("its holder was asked to end ({})", text(&status["message"]))));
        }
        Some("Expired") => return Err(lost(&name, "it has expired")),
        _ => {
            return Err(Error::new(
                Exit::TimedOut,
                format!("{kind}/{name} is not held yet: {}", text(&status["message"])),
            )
            .advise("koncli ... acquire waits until it is"));
        }
    }
    if let Some(text) = args.write.output.print(renewed.clone())? {
        context.screen.text(&text);
    } else {
        let ttl = status["ttl"].as_str().unwrap_or("its time to live");
        context.screen.confirm(&format!("{}/{name} renewed for {ttl}{}", kind.qualified(), dry_run.suffix()));
    }
    Ok(())
}

fn lost(name: &str, why: &str) -> Error {
    Error::new(Exit::Lost, format!("{name} is no longer held: {why}"))
        .advise("end what relies on it, and acquire it again")
}

#[cfg(test)]
mod tests {
    use konductor::PodReference;

    use super::*;

    fn claim(name: &str, pod: &Value) -> Value {
        let instance = if pod["container"].is_null() { "holder-1" } else { "1" };
        json!({ "metadata": { "name": name }, "spec": { "holder": "h", "instance": instance, "pod": pod } })
    }

    fn chosen(claims: &[Value], pod: Option<&str>) -> String {
        let pod = pod.map(|uid| PodReference::whole("p", uid));
        let who = Who { holder: "h".to_owned(), person: "ann@laptop".to_owned(), pod };
        let names = |claims: Vec<&Value>| {
            claims.iter().map(|claim| claim["metadata"]["name"].as_str().expect("a name")).collect::<Vec<_>>().join(" ")
        };
        match choose(claims, &who) {
            Choice::Own(claims) => names(claims),
            Choice::Others(claims) => format!("others: {}", names(claims)),
            Choice::None => "none".to_owned(),
        }
    }

    #[test]
    fn a_holder_means_what_it_has_acquired_here() {
        let nowhere = || claim("nowhere", &Value::Null);
        let here = || claim("here", &json!({ "name": "p", "uid": "u1" }));
        let there = || claim("there", &json!({ "name": "q", "uid": "u2" }));
        let contained = || claim("contained", &json!({ "name": "p", "uid": "u1", "container": "main", "start": "1" }));
        let process = || {
            let spec = json!({ "holder": "h", "instance": "0123456789abcdef" });
            json!({ "metadata": { "name": "process" }, "spec": spec })
        };
        for (claims, pod, expected) in [
            (vec![], None, "none"),
            (vec![nowhere()], None, "nowhere"),
            (vec![nowhere(), there()], None, "nowhere"),
            (vec![there()], None, "others: there"),
            (vec![contained()], None, "others: contained"),
            (vec![process()], None, "others: process"),
            (vec![here(), nowhere(), contained()], Some("u1"), "here"),
            (vec![nowhere()], Some("u1"), "nowhere"),
            (vec![there()], Some("u1"), "others: there"),
            (vec![contained()], Some("u1"), "others: contained"),
        ] {
            assert_eq!(chosen(&claims, pod), expected, "{claims:?} {pod:?}");
        }
    }

    #[test]
    fn a_person_on_a_machine_is_nobody_else() {
        let named = |holder: &str, pod: &Value| {
            let spec = json!({ "holder": holder, "instance": "holder-1", "pod": pod });
            [json!({ "metadata": { "name": "c" }, "spec": spec })]
        };
        let nowhere = Value::Null;
        let here = json!({ "name": "p", "uid": "u1" });
        for (holder, place, pod, is_own) in [
            ("ann@laptop", &nowhere, None, true),
            ("bob@desk", &nowhere, None, false),
            ("nightly", &nowhere, None, true),
            ("bob@desk", &nowhere, Some("u1"), false),
            ("bob@desk", &here, Some("u1"), true),
        ] {
            let pod = pod.map(|uid| PodReference::whole("p", uid));
            let who = Who { holder: holder.to_owned(), person: "ann@laptop".to_owned(), pod };
            let claims = named(holder, place);
            assert_eq!(matches!(choose(&claims, &who), Choice::Own(_)), is_own, "{holder} {place}");
        }
    }

    #[test]
    fn what_is_selected_is_escaped() {
        assert_eq!(selected(r"a,b=c\d"), r"a\,b\=c\\d");
    }
}
