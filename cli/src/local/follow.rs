//! What happens in a folder: its objects again and again, and waits for one of them.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use konductor::{
    Boottime, Exit, Local,
    local::{Snapshot, Spectator},
};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{KINDS, objects, only_in_a_cluster, unreadable, why};
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

/// The objects of a folder that have changed, view by view.
#[derive(Debug)]
pub(crate) struct Changes {
    views: Spectator,
    known: BTreeMap<(usize, String), Value>,
}

impl Changes {
    /// All that happens in a folder from now on.
    pub(crate) fn of(folder: &Local) -> Self {
        Self { views: folder.watch(), known: BTreeMap::new() }
    }

    /// The next view.
    pub(crate) async fn view(&mut self) -> Result<Snapshot, Error> {
        self.views.next().await.map_err(|error| unreadable(&error))
    }

    /// Those of these objects that are new or have changed since the last time.
    pub(crate) fn news(&mut self, all: Vec<Value>) -> Vec<Value> {
        let key = |object: &Value| {
            let kind = KINDS.iter().position(|kind| object["kind"] == kind.kind).unwrap_or_default();
            (kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        };
        let former = std::mem::replace(&mut self.known, all.iter().map(|one| (key(one), one.clone())).collect());
        all.into_iter().filter(|object| former.get(&key(object)) != Some(object)).collect()
    }
}

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
        let view = changes.view().await?;
        // Who listens has gone when nobody waits any more.
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
                Some(Verdict::NotYet(message)) => (message, false),
                None => (String::new(), true),
            };
            let _ = news.send(News::Waiting { object: object.to_string(), message, ahead: None, missing });
        }
        if reached.iter().all(Option::is_some) {
            return Ok(reached.into_iter().flatten().collect());
        }
    }
}
