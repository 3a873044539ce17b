//! `koncli why`: why an object waits, or what it holds. A pure function from objects to reasons.
//!
//! [`explain`] walks from the object that is asked about to all that bears on it. It reads nothing itself: what it
//! misses on its way it names ([`Step::Read`]), and is asked again with that. So it alone decides what is read, a test
//! plays all of it without a cluster, and the driver ([`collect`]) has no choices to make.
//!
//! It promises an answer after [`limits::READS`] reads at the latest, whatever there is: what is beyond a limit is
//! named in the answer, and so is what cannot be read (RBAC, a resource that is not installed, an object into which
//! others wrote what no type holds). Nothing of that makes the whole fail.
//!
//! It is a view of a moment that has passed, put together from several reads: two of them may show the same thing
//! before and after a change.

mod barrier;
mod collect;
mod gate;
mod limits;
mod lock;
mod operator;
mod pod;
mod read;
mod reason;
mod seen;
mod sentence;
#[cfg(test)]
mod tests;
mod wishes;
mod world;

use jiff::Timestamp;
use konductor::{Exit, Local};

pub(crate) use self::{
    collect::collect,
    operator::{ELECTION, NAMESPACE as OPERATOR_NAMESPACE},
    read::read,
    reason::Answer,
    seen::{Claim, Kind, Seen},
    world::{Batch, Known, Which},
};
use self::{
    reason::{API_VERSION, At, Cause, Ref, Unseen, UnseenWhy},
    world::{Look, Need, Walk},
};
use crate::{
    args::OutputArgs,
    cluster::{Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::ObjectName,
    local,
    output::Format,
    trouble,
};

/// What to explain.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A semaphore, lease, barrier, gate, permit, lease request, pod or job.
    #[arg(value_name = "KIND/NAME")]
    pub(crate) subject: ObjectName,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Explains one object.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    if *args.output.format() == Format::Name {
        return Err(Error::usage("an answer has no name: use json, yaml or jsonpath={.a.b}"));
    }
    if let Some(folder) = context.globals.folder() {
        return in_folder(args, context, &folder);
    }
    let cluster = context.cluster().await?;
    let operator = context.globals.operator_namespace.clone();
    let Some(question) = Question::about(&cluster, &args.subject, operator) else {
        let kinds = Kind::SUBJECTS.map(Kind::name).join(", ");
        return Err(Error::usage(format!("{} cannot be explained: what can is {kinds}", args.subject)));
    };
    let answer = collect(&cluster, &question, now()).await;
    let value = serde_json::to_value(&answer).map_err(|error| Error::internal(error.to_string()))?;
    let text = args.output.print(value)?;
    if answer.reasons.is_empty() && text.is_none() {
        // Nothing at all is known of it: that is said as by every other command.
        let ObjectName { resource, name } = &args.subject;
        if let Err(error) = cluster.call(Call::get(cluster.path(*resource, name))).await {
            return Err(trouble::explain(&cluster, error, *resource, Some(name)).await);
        }
    }
    context.screen.text(&text.unwrap_or_else(|| answer.text()));
    Ok(exit(&answer))
}

/// Explains one object of a folder.
fn in_folder(args: &Args, context: &Context, folder: &Local) -> Outcome {
    let ObjectName { resource, name } = &args.subject;
    let kind = Kind::SUBJECTS.into_iter().find(|kind| kind.resource() == *resource);
    let kind = kind.filter(|_| local::KINDS.contains(resource)).ok_or_else(|| local::only_in_a_cluster(*resource))?;
    let answer = local::why(folder, kind, name, now())?;
    let value = serde_json::to_value(&answer).map_err(|error| Error::internal(error.to_string()))?;
    context.screen.text(&args.output.print(value)?.unwrap_or_else(|| answer.text()));
    Ok(exit(&answer))
}

/// How the program ends: an answer is a success, also with gaps, as long as something is known of what was asked about.
fn exit(answer: &Answer) -> Exit {
    let is_subject = |object: &Ref| *object == answer.subject;
    if answer.reasons.iter().any(|reason| matches!(&reason.cause, Cause::NotFound { object, .. } if is_subject(object)))
    {
        return Exit::NoSuchPrimitive;
    }
    if !answer.reasons.is_empty() {
        return DONE;
    }
    let why = answer.unread.iter().find_map(|reason| match &reason.cause {
        Cause::Unseen(Unseen { why, .. }) => Some(*why),
        _ => None,
    });
    match why {
        Some(UnseenWhy::Forbidden) => Exit::Refused,
        Some(UnseenWhy::NotServed) => Exit::NoSuchPrimitive,
        Some(UnseenWhy::Failed) => Exit::Unreachable,
        None => DONE,
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: ages are counted to the moment of the question")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Whether the holder of this election's lease, as the API has it, leads.
pub(crate) fn leads(election: &serde_json::Value, now: Timestamp) -> bool {
    let seen = read(Kind::Election, &election.to_string());
    matches!(&seen, Some(Seen::Election(election)) if operator::leads(election, now))
}

/// The same in a few lines, for who has waited in vain. Never fails, and takes [`limits::IN_SHORT`] at most: what cannot
/// be read is a line.
pub(crate) async fn in_short(cluster: &Cluster, subject: &ObjectName) -> Vec<String> {
    let Some(question) = Question::about(cluster, subject, None) else { return Vec::new() };
    match tokio::time::timeout(limits::IN_SHORT, collect(cluster, &question, now())).await {
        Ok(answer) => answer.short().lines().map(str::to_owned).collect(),
        Err(_) => vec![format!("koncli why {subject} -n {} tells why", question.namespace)],
    }
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The kind: one of [`Kind::SUBJECTS`].
    pub(crate) kind: Kind,
    /// The namespace; empty in a folder (`--local`), which has none, and no operator, pods or times to live.
    pub(crate) namespace: String,
    /// The name.
    pub(crate) name: String,
    /// Where the operator is; looked for when absent.
    pub(crate) operator_namespace: Option<String>,
}

impl Question {
    /// About this object in the cluster's namespace; none if its kind cannot be explained.
    fn about(cluster: &Cluster, subject: &ObjectName, operator_namespace: Option<String>) -> Option<Self> {
        let kind = Kind::SUBJECTS.into_iter().find(|kind| kind.resource() == subject.resource)?;
        Some(Self { kind, namespace: cluster.namespace.clone(), name: subject.name.clone(), operator_namespace })
    }
}

/// What comes of a walk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Read these, and ask again.
    Read(Vec<Need>),
    /// The answer.
    Answer(Box<Answer>),
}

/// Why the object is as it is, from what is known so far.
pub(crate) fn explain(question: &Question, known: &Known, now: Timestamp) -> Step {
    let Question { kind, namespace, name, operator_namespace } = question;
    let walk = Walk::new(known, operator_namespace.as_deref(), now, namespace.is_empty());
    let reasons = match kind {
        Kind::Semaphore | Kind::Lease => lock::explain_lock(&walk, *kind, namespace, name),
        Kind::Permit | Kind::LeaseRequest => match walk.one::<Claim>(*kind, Some(namespace), name) {
            Look::There(claim) => vec![lock::explain_claim(&walk, claim)],
            Look::Absent => vec![lock::missing(&walk, *kind, namespace, name)],
            Look::Dark => Vec::new(),
        },
        Kind::Barrier => barrier::explain(&walk, namespace, name),
        Kind::Gate => gate::explain(&walk, namespace, name, &mut Vec::new()),
        Kind::Pod => pod::explain_pod(&walk, namespace, name),
        Kind::Job => pod::explain_job(&walk, namespace, name),
        // Not to be asked about: nothing is known of them.
        Kind::Arrival | Kind::Node | Kind::Namespace | Kind::Election | Kind::Deployment => Vec::new(),
    };
    let (needs, unread) = walk.end();
    if !needs.is_empty() {
        return Step::Read(needs);
    }
    let subject = Ref::new(*kind, namespace, name);
    let (api_version, kind) = (API_VERSION.to_owned(), "Why".to_owned());
    Step::Answer(Box::new(Answer { api_version, kind, subject, at: At(now), reasons, unread }))
}
