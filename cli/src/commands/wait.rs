//! `koncli wait`: until objects are as wanted. It lists each once and then watches, and never asks again and again, but
//! for what a lock says of a grant that it does not confirm.

mod granted;

use std::{pin::pin, str::FromStr, time::Duration};

use futures::{StreamExt as _, future::try_join_all};
use konductor::{Boottime, Exit};
use konductor_api::{GROUP, conditions::GRANTED};
use konductor_cluster::backoff::Backoff;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::barrier;
use crate::{
    args::{OutputArgs, TimeoutArgs},
    cluster::{ApiError, Call, Cluster},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::{BARRIER, GATE, JOB, LEASE_REQUEST, ObjectName, PERMIT, Resource},
    local,
    output::Format,
    patience::{News, Patience},
    trouble::{condition, explain},
    waiting::{Stop, wait_for},
    why,
};

/// What to wait for.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What to wait for: all of them.
    #[arg(required = true, value_name = "KIND/NAME")]
    objects: Vec<ObjectName>,
    /// open, failed, granted, complete, or condition=TYPE[=VALUE]; when absent, what is good news of the kind: a barrier
    /// or gate that is open, a job that is complete, a claim that is granted.
    #[arg(long = "for", value_name = "STATE")]
    goal: Option<Goal>,
    #[command(flatten)]
    timeout: TimeoutArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The state that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Of barriers and gates.
    Open,
    /// Of barriers, gates and jobs.
    Failed,
    /// Of claims.
    Granted,
    /// Of jobs.
    Complete,
    /// A condition has this value.
    Condition(String, String),
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "open" => Ok(Self::Open),
            "failed" => Ok(Self::Failed),
            "granted" => Ok(Self::Granted),
            "complete" => Ok(Self::Complete),
            _ => {
                let condition = text.strip_prefix("condition=").filter(|rest| !rest.is_empty());
                let condition = condition.ok_or("use open, failed, granted, complete or condition=TYPE[=VALUE]")?;
                let (kind, value) = condition.split_once('=').unwrap_or((condition, "True"));
                Ok(Self::Condition(kind.to_owned(), value.to_owned()))
            }
        }
    }
}

impl Goal {
    /// What is good news of a kind.
    fn of(resource: Resource) -> Option<Self> {
        match resource {
            BARRIER | GATE => Some(Self::Open),
            JOB => Some(Self::Complete),
            PERMIT | LEASE_REQUEST => Some(Self::Granted),
            _ => None,
        }
    }

    /// Whether objects of a kind can ever be in it.
    fn fits(&self, resource: Resource) -> bool {
        match self {
            Self::Open => matches!(resource, BARRIER | GATE),
            Self::Failed => matches!(resource, BARRIER | GATE | JOB),
            Self::Granted => matches!(resource, PERMIT | LEASE_REQUEST),
            Self::Complete => resource == JOB,
            Self::Condition(..) => true,
        }
    }

    /// Whether an object of this kind that is in it is held, if its status is to be believed.
    fn is_held(&self, resource: Resource) -> bool {
        let is_granted = match self {
            Self::Granted => true,
            Self::Condition(kind, value) => kind == GRANTED && value.eq_ignore_ascii_case("True"),
            Self::Open | Self::Failed | Self::Complete => false,
        };
        is_granted && matches!(resource, PERMIT | LEASE_REQUEST)
    }

    /// In a word.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Granted => "granted".to_owned(),
            Self::Complete => "complete".to_owned(),
            Self::Condition(kind, value) if value == "True" => kind.clone(),
            Self::Condition(kind, value) => format!("{kind}={value}"),
        }
    }
}

/// Waits for all that was named.
pub(crate) async fn run(args: &Args, context: &Context) -> Outcome {
    let mut goals = Vec::new();
    for object in &args.objects {
        let goal = args.goal.clone().or_else(|| Goal::of(object.resource)).ok_or_else(|| {
            Error::usage(format!("what is {object} waited for? say --for condition=TYPE, as in condition=Ready"))
        })?;
        if !goal.fits(object.resource) {
            return Err(Error::usage(format!("a {} is never {}: choose another --for", object.resource, goal.name())));
        }
        goals.push((object.clone(), goal));
    }
    if let Some(folder) = context.globals.folder() {
        return local::wait(context, &folder, &goals, args.timeout.timeout, &args.output).await;
    }
    let (cluster, timeout) = context.cluster_within(args.timeout.timeout).await?;
    wait(context, &cluster, goals, timeout, &args.output).await
}

/// Waits until all of these are in this state.
pub(crate) async fn all(
    context: &Context,
    cluster: &Cluster,
    objects: &[ObjectName],
    goal: &Goal,
    timeout: Option<Duration>,
    output: &OutputArgs,
) -> Outcome {
    let goals = objects.iter().map(|object| (object.clone(), goal.clone())).collect();
    wait(context, cluster, goals, timeout, output).await
}

async fn wait(
    context: &Context,
    cluster: &Cluster,
    goals: Vec<(ObjectName, Goal)>,
    timeout: Option<Duration>,
    output: &OutputArgs,
) -> Outcome {
    let (news_in, mut news) = unbounded_channel();
    let waits = goals.iter().map(|(object, goal)| {
        let news = &news_in;
        async move {
            if *goal == Goal::Open {
                barrier::open(cluster, object, news).await?;
            } else {
                reach(cluster, object, goal, news).await?;
            }
            said(context, cluster, object, &goal.name(), output).await
        }
    });
    let waits = pin!(try_join_all(waits));
    let names: Vec<_> = goals.iter().map(|(object, _)| object.to_string()).collect();
    let patience = Patience::new(names.join(" and "), Boottime::now(), timeout).with(&cluster.server);
    match wait_for(context, patience, waits, &mut news).await {
        Ok(_) => Ok(DONE),
        Err(Stop::Because(error)) if error.exit == Exit::TimedOut => {
            let mut error = error;
            for (object, _) in &goals {
                error = why::in_short(cluster, object).await.into_iter().fold(error, Error::advise);
            }
            Err(error)
        }
        Err(stop) => stop.outcome(),
    }
}

/// Says what an object has come to, or shows it as it is now.
pub(crate) async fn said(
    context: &Context,
    cluster: &Cluster,
    object: &ObjectName,
    verb: &str,
    output: &OutputArgs,
) -> Result<(), Error> {
    let ObjectName { resource, name } = object;
    if output.look(false).is_some() {
        context.screen.confirm(&format!("{}/{name} {verb}", resource.qualified()));
        return Ok(());
    }
    if *output.format() == Format::Name {
        context.screen.line(&format!("{}/{name}", resource.qualified()));
        return Ok(());
    }
    match cluster.call(Call::get(cluster.path(*resource, name))).await {
        Ok(found) => context.screen.text(&output.print(found)?.unwrap_or_default()),
        Err(error) => return Err(explain(cluster, error, *resource, Some(name)).await),
    }
    Ok(())
}

/// How an object stands to a goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As wanted.
    Reached,
    /// It will not be reached any more.
    Never(String),
    /// The object is there no longer, and does not come again.
    Gone(&'static str),
    /// For this reason.
    NotYet(String),
    /// The operator has not spoken of it as it is now, and this is how that shows.
    Unsaid(String),
}

/// How what is found stands to a goal, if it is there. `known` is the uid of what was there before: of a claim or a job
/// that is deleted, another one of the same name says nothing.
pub(crate) fn stands(
    resource: Resource,
    known: &mut Option<String>,
    found: Option<&Value>,
    goal: &Goal,
) -> Option<Verdict> {
    let is_once = matches!(resource, PERMIT | LEASE_REQUEST | JOB);
    let uid = found.map(|found| found["metadata"]["uid"].as_str().unwrap_or_default().to_owned());
    if is_once && known.is_some() && uid != *known {
        return Some(Verdict::Gone(match uid {
            None => "it was deleted",
            Some(_) => "it was deleted, and another one has its name now",
        }));
    }
    *known = uid.or(known.take());
    found.map(|found| judge(found, goal))
}

/// How what was deleted stands to a goal: a job may have ended as wanted before.
fn deleted(resource: Resource, known: &mut Option<String>, last: &Value, goal: &Goal) -> Option<Verdict> {
    if resource == JOB && judge(last, goal) == Verdict::Reached {
        return Some(Verdict::Reached);
    }
    stands(resource, known, None, goal)
}

/// How an object, as the API has it, stands to a goal.
fn judge(object: &Value, goal: &Goal) -> Verdict {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is = |kind: &str| condition(object, kind).filter(|condition| condition["status"] == "True");
    let why = |condition: &Value| {
        let parts = [text(&condition["reason"]), text(&condition["message"])];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    };
    // A status that answers an older spec says nothing of this one. Jobs have no such field.
    let generation = &object["metadata"]["generation"];
    let observed = &object["status"]["observedGeneration"];
    if !observed.is_null() && observed != generation && *goal != Goal::Granted {
        return Verdict::Unsaid("the status is not of the present spec yet".to_owned());
    }
    // What the operator writes before it has anything to say, its term, is no word of it.
    let is_ours = text(&object["apiVersion"]).starts_with(GROUP);
    let is_silent = is_ours && object["status"]["conditions"].as_array().is_none_or(Vec::is_empty);
    let not_yet = |message: String| if is_silent { Verdict::Unsaid(message) } else { Verdict::NotYet(message) };
    match goal {
        Goal::Complete => match (is("Complete"), is("Failed")) {
            (Some(_), _) => Verdict::Reached,
            (None, Some(failed)) => Verdict::Never(format!("it has failed ({})", why(failed))),
            (None, None) => Verdict::NotYet(of_job(object)),
        },
        Goal::Failed => match (is("Failed"), is("Complete")) {
            (Some(_), _) => Verdict::Reached,
            (None, Some(_)) => Verdict::Never("it is complete".to_owned()),
            (None, None) => not_yet(condition(object, "Open").map(why).unwrap_or_default()),
        },
        Goal::Open => match (is("Open"), is("Failed")) {
            (Some(_), _) => Verdict::Reached,
            (None, Some(failed)) => Verdict::Never(format!("it has failed ({})", why(failed))),
            (None, None) => not_yet(condition(object, "Open").map(why).unwrap_or_default()),
        },
        Goal::Granted => match object["status"]["phase"].as_str() {
            Some("Granted") => Verdict::Reached,
            Some("Expired" | "Revoking") => {
                Verdict::Never(format!("it is over ({})", text(&object["status"]["message"])))
            }
            Some(_) => Verdict::NotYet(text(&object["status"]["message"])),
            None => Verdict::Unsaid(String::new()),
        },
        Goal::Condition(kind, value) => match condition(object, kind) {
            Some(found) if text(&found["status"]).eq_ignore_ascii_case(value) => Verdict::Reached,
            Some(found) => Verdict::NotYet(format!("{kind} is {} ({})", text(&found["status"]), why(found))),
            None => not_yet(format!("it has no condition {kind} yet")),
        },
    }
}

/// How far a job has come.
fn of_job(job: &Value) -> String {
    let count = |field: &str| job["status"][field].as_u64().unwrap_or(0);
    format!("{} active, {} succeeded, {} failed", count("active"), count("succeeded"), count("failed"))
}

/// Waits until an object is as wanted: a list of its name, and then a watch from there.
async fn reach(cluster: &Cluster, object: &ObjectName, goal: &Goal, news: &UnboundedSender<News>) -> Result<(), Error> {
    let selector = format!("metadata.name={}", object.name);
    let call = Call::get(cluster.all(object.resource)).with("fieldSelector", selector);
    let mut backoff = Backoff::default();
    let mut known = None;
    let mut contact = false;
    loop {
        let looking = look(cluster, &call, object, goal, news, (&mut contact, &mut known), &mut backoff);
        match looking.await {
            Ok(Some(verdict)) => return verdict,
            // Watches end by themselves after a while.
            Ok(None) => backoff.pause().await,
            Err(error) if error.is_passing() => {
                let _ = news.send(News::Trouble(format!("{object}: {error}")));
                backoff.pause().await;
            }
            Err(error) => return Err(explain(cluster, error, object.resource, None).await),
        }
    }
}

/// Lists and watches until there is a verdict; `None` if the watch has ended before.
async fn look(
    cluster: &Cluster,
    call: &Call,
    object: &ObjectName,
    goal: &Goal,
    news: &UnboundedSender<News>,
    (contact, known): (&mut bool, &mut Option<String>),
    backoff: &mut Backoff,
) -> Result<Option<Result<(), Error>>, ApiError> {
    let list = cluster.call(call.clone()).await?;
    if !std::mem::replace(contact, true) {
        let _ = news.send(News::Contact);
    }
    let tell = |verdict: Option<Verdict>| {
        let never =
            |exit: Exit, why: &str| Some(Err(Error::new(exit, format!("{object} will not be {}: {why}", goal.name()))));
        let object = object.to_string();
        let said = match verdict {
            Some(Verdict::Reached) => return Some(Ok(())),
            Some(Verdict::Never(why)) => return never(Exit::Failed, &why),
            Some(Verdict::Gone(why)) => return never(Exit::NoSuchPrimitive, why),
            Some(Verdict::NotYet(message)) => News::Waiting { object, message, ahead: None, missing: false },
            Some(Verdict::Unsaid(message)) => News::Unsaid { object, message },
            None => News::Waiting { object, message: String::new(), ahead: None, missing: true },
        };
        let _ = news.send(said);
        None
    };
    let resource = object.resource;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let mut found = list["items"].get(0).cloned();
    let mut verdict = stands(resource, known, found.as_ref(), goal);
    let (mut watch, mut doubts) = (None, Backoff::default());
    loop {
        let mut is_doubted = false;
        if let (Some(Verdict::Reached), Some(claim), true) = (&verdict, &found, goal.is_held(resource)) {
            let confirmed = granted::confirmed(cluster, resource, claim).await?;
            is_doubted = confirmed != Verdict::Reached;
            if let Some(note) = granted::unrenewed(resource, claim).filter(|_| !is_doubted) {
                let _ = news.send(News::Note(note));
            }
            verdict = Some(confirmed);
        }
        if let Some(outcome) = tell(verdict) {
            return Ok(Some(outcome));
        }
        let events = match &mut watch {
            Some(events) => events,
            none => none.insert(Box::pin(cluster.watch(call.clone(), version).await?)),
        };
        verdict = loop {
            let event = tokio::select! {
                event = events.next() => event,
                // Its lock may confirm it later, and no event of the claim tells that.
                () = doubts.pause(), if is_doubted => break Some(Verdict::Reached),
            };
            let Some(event) = event else { return Ok(None) };
            let (word, object) = event?;
            backoff.reset();
            doubts.reset();
            match &*word {
                "BOOKMARK" => {}
                "DELETED" => {
                    found = None;
                    break deleted(resource, known, &object, goal);
                }
                _ => break stands(resource, known, Some(found.insert(object)), goal),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| json!({ "type": kind, "status": status, "reason": "R", "message": "m" }))
            .collect();
        json!({ "metadata": { "generation": 2 }, "status": { "conditions": conditions } })
    }

    #[test]
    fn a_goal_is_reached_will_never_be_or_not_yet() {
        let failed = Verdict::Never("it has failed (R: m)".to_owned());
        for (goal, conditions, expected) in [
            (Goal::Complete, &[("Complete", "True")][..], Verdict::Reached),
            (Goal::Complete, &[("Failed", "True")], failed.clone()),
            (Goal::Complete, &[("Failed", "False")], Verdict::NotYet("0 active, 0 succeeded, 0 failed".to_owned())),
            (
                Goal::Complete,
                &[("FailureTarget", "True")],
                Verdict::NotYet("0 active, 0 succeeded, 0 failed".to_owned()),
            ),
            (Goal::Failed, &[("Failed", "True")], Verdict::Reached),
            (Goal::Failed, &[("Complete", "True")], Verdict::Never("it is complete".to_owned())),
            (Goal::Failed, &[("Open", "False")], Verdict::NotYet("R: m".to_owned())),
            (Goal::Open, &[("Open", "True")], Verdict::Reached),
            (Goal::Open, &[("Open", "False"), ("Failed", "True")], failed),
            (Goal::Condition("Ready".into(), "True".into()), &[("Ready", "True")], Verdict::Reached),
            (Goal::Condition("Ready".into(), "false".into()), &[("Ready", "False")], Verdict::Reached),
            (
                Goal::Condition("Ready".into(), "True".into()),
                &[("Ready", "False")],
                Verdict::NotYet("Ready is False (R: m)".to_owned()),
            ),
            (
                Goal::Condition("Ready".into(), "True".into()),
                &[],
                Verdict::NotYet("it has no condition Ready yet".to_owned()),
            ),
        ] {
            assert_eq!(judge(&object(conditions), &goal), expected, "{goal:?} {conditions:?}");
        }
        for (phase, expected) in [
            ("Granted", Verdict::Reached),
            ("Expired", Verdict::Never("it is over (m)".to_owned())),
            ("Pending", Verdict::NotYet("m".to_owned())),
        ] {
            let claim = json!({ "status": { "phase": phase, "message": "m" } });
            assert_eq!(judge(&claim, &Goal::Granted), expected, "{phase}");
        }
    }

    #[test]
    fn what_is_deleted_does_not_come_again_but_for_what_people_make_anew() {
        let found = |uid: &str, conditions: &[(&str, &str)]| {
            let mut found = object(conditions);
            found["metadata"]["uid"] = json!(uid);
            found
        };
        let complete = found("1", &[("Complete", "True")]);
        for (resource, goal) in
            [(JOB, Goal::Complete), (PERMIT, Goal::Granted), (LEASE_REQUEST, Goal::Granted), (GATE, Goal::Failed)]
        {
            let known = || Some("1".to_owned());
            let is_over = resource != GATE;
            assert_eq!(stands(resource, &mut None, None, &goal), None, "{resource}: it may come");
            let gone = stands(resource, &mut known(), None, &goal);
            assert_eq!(gone, is_over.then_some(Verdict::Gone("it was deleted")), "{resource}");
            let other = stands(resource, &mut known(), Some(&found("2", &[])), &goal);
            assert_eq!(matches!(other, Some(Verdict::Gone(_))), is_over, "{resource}");
            let same = stands(resource, &mut known(), Some(&found("1", &[])), &goal);
            assert!(matches!(same, Some(Verdict::NotYet(_) | Verdict::Unsaid(_))), "{resource}: {same:?}");
        }
        let mut known = None;
        stands(JOB, &mut known, Some(&found("1", &[])), &Goal::Complete);
        assert_eq!(deleted(JOB, &mut known.clone(), &complete, &Goal::Complete), Some(Verdict::Reached));
        let half_done = found("1", &[]);
        assert_eq!(deleted(JOB, &mut known, &half_done, &Goal::Complete), Some(Verdict::Gone("it was deleted")));
    }

    #[test]
    fn what_the_operator_has_not_spoken_of_is_no_word_of_it() {
        let metadata = json!({ "generation": 2 });
        let ours = |status: Value| json!({ "apiVersion": "konductor.io/v1", "metadata": metadata, "status": status });
        let open = json!({ "conditions": [{ "type": "Open", "status": "False", "reason": "R", "message": "m" }] });
        let ready = Goal::Condition("Ready".into(), "True".into());
        for (what, object, goal, is_said) in [
            ("no status", ours(Value::Null), &ready, false),
            ("a term alone", ours(json!({ "term": 7 })), &Goal::Failed, false),
            ("a claim without a phase", ours(json!({})), &Goal::Granted, false),
            (
                "an older spec",
                ours(json!({ "observedGeneration": 1, "conditions": open["conditions"] })),
                &ready,
                false,
            ),
            ("a claim that waits", ours(json!({ "phase": "Pending" })), &Goal::Granted, true),
            ("other conditions", ours(open.clone()), &ready, true),
            ("the condition", ours(open.clone()), &Goal::Failed, true),
            ("another's kind", json!({ "apiVersion": "batch/v1" }), &ready, true),
        ] {
            let verdict = judge(&object, goal);
            assert_eq!(matches!(verdict, Verdict::NotYet(_)), is_said, "{what}: {verdict:?}");
            assert_eq!(matches!(verdict, Verdict::Unsaid(_)), !is_said, "{what}: {verdict:?}");
        }
    }

    #[test]
    fn a_status_of_an_older_spec_counts_for_nothing() {
        let mut gate = object(&[("Ready", "True")]);
        gate["status"]["observedGeneration"] = json!(1);
        let ready = Goal::Condition("Ready".into(), "True".into());
        assert!(matches!(judge(&gate, &ready), Verdict::Unsaid(_)));
        gate["status"]["observedGeneration"] = json!(2);
        assert_eq!(judge(&gate, &ready), Verdict::Reached);
    }

    #[test]
    fn goals_are_said_in_a_word() {
        assert_eq!("Open".parse(), Ok(Goal::Open));
        assert_eq!("condition=Ready".parse(), Ok(Goal::Condition("Ready".into(), "True".into())));
        assert_eq!("condition=Ready=False".parse(), Ok(Goal::Condition("Ready".into(), "False".into())));
        assert!("condition=".parse::<Goal>().is_err() && "closed".parse::<Goal>().is_err());
    }
}
