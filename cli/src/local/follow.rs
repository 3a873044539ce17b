//! Waiting for what happens in a folder.

use std::{pin::pin, time::Duration};

use konductor::{Boottime, Exit, Local};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{Changes, KINDS, objects, only_in_a_cluster, why};
use crate::{
    args::OutputArgs,
    commands::wait::{Goal, Verdict, stands},
    context::Context,
    error::{DONE, Error, Outcome},
    kind::ObjectName,
    patience::{News, Patience},
    waiting::{Stop, wait_for},
    why::{Kind, now},
};

/// Waits until all of these are in this state.
pub(crate) async fn wait(
    context: &Context,
    folder: &Local,
    goals: &[(ObjectName, Goal)],
    timeout: Option<Duration>,
    output: &OutputArgs,
) -> Outcome {
    for (object, _) in goals {
        if !KINDS.contains(&object.resource) {
            return Err(only_in_a_cluster(object.resource));
        }
    }
    let (news_in, mut news) = unbounded_channel();
    let names: Vec<_> = goals.iter().map(|(object, _)| object.to_string()).collect();
    let patience = Patience::new(names.join(" and "), Boottime::now(), timeout);
    let reaching = pin!(reach(folder, goals, &news_in));
    match wait_for(context, patience, reaching, &mut news).await {
        Ok(reached) => {
            for ((object, goal), found) in goals.iter().zip(reached) {
                match output.print(found)? {
                    Some(text) => context.screen.text(&text),
                    None => context.screen.confirm(&format!(
                        "{}/{} {}",
                        object.resource.qualified(),
                        object.name,
                        goal.name()
                    )),
                }
            }
            Ok(DONE)
        }
        Err(Stop::Because(mut error)) if error.exit == Exit::TimedOut => {
            for (object, _) in goals {
                let kind = Kind::SUBJECTS.into_iter().find(|kind| kind.resource() == object.resource);
                let answer = kind.and_then(|kind| why(folder, kind, &object.name, now()).ok());
                let lines = answer.map(|answer| answer.short()).unwrap_or_default();
                error = lines.lines().fold(error, Error::advise);
            }
            Err(error)
        }
        Err(stop) => stop.outcome(),
    }
}

/// Looks at each view until all goals have been reached, each once; returns the objects as they were then.
async fn reach(
    folder: &Local,
    goals: &[(ObjectName, Goal)],
    news: &UnboundedSender<News>,
) -> Result<Vec<Value>, Error> {
    let mut changes = Changes::of(folder);
    let mut known = vec![None; goals.len()];
    let mut reached: Vec<Option<Value>> = vec![None; goals.len()];
    loop {
        // Who listens has gone when nobody waits any more.
        let trouble = |why: &str| {
            let _ = news.send(News::Trouble(why.to_owned()));
        };
        let view = changes.view(trouble).await?;
        let _ = news.send(News::Contact);
        for (at, (object, goal)) in
            goals.iter().enumerate().filter(|(at, _)| reached[*at].is_none()).collect::<Vec<_>>()
        {
            let all = objects(&view, object.resource);
            let found = all.iter().find(|found| found["metadata"]["name"] == object.name.as_str());
            let (message, missing) = match stands(object.resource, &mut known[at], found, goal) {
                Some(Verdict::Reached) => {
                    reached[at] = found.cloned();
                    continue;
                }
                Some(Verdict::Never(why)) => {
                    return Err(Error::new(Exit::Failed, format!("{object} will not be {}: {why}", goal.name())));
                }
                Some(Verdict::Gone(why)) => {
                    let message = format!("{object} will not be {}: {why}", goal.name());
                    return Err(Error::new(Exit::NoSuchPrimitive, message));
                }
                // A folder has no operator that could be slow to speak.
                Some(Verdict::NotYet(message) | Verdict::Unsaid(message)) => (message, false),
                None => (String::new(), true),
            };
            let _ = news.send(News::Waiting { object: object.to_string(), message, ahead: None, missing });
        }
        if reached.iter().all(Option::is_some) {
            return Ok(reached.into_iter().flatten().collect());
        }
    }
}
