//! Connects the state with the cluster, the terminal, the clock and signals. Makes no choices.

use std::io;

use jiff::Timestamp;
use konductor::Exit;
use konductor_api::REVOKE_ANNOTATION;
use nix::libc::{SIGHUP, SIGINT};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Source,
    follow::{follow, follow_folder},
    limits::{FRAME, SAMPLE, TICK},
    state::{Effect, Event, FOLLOWED, Id, Place, State, title},
    terminal::{Input, Screen, keys},
    view,
};
use crate::{
    cluster::Call,
    error::{DONE, Error, Outcome},
    local,
    signals::Signals,
    why::{self, Question, now},
};

/// Changes that wait to be shown: as many as come while a frame is drawn. More wait in the watches.
const EVENTS: usize = 256;

/// Shows the view until it is left.
pub(super) async fn run(source: &Source, color: bool) -> Outcome {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut state = match source {
        Source::Cluster { cluster, selection, .. } => {
            for kind in FOLLOWED {
                tokio::spawn(follow(cluster.clone(), kind, selection.clone(), sender.clone()));
            }
            let namespace = (!selection.all_namespaces).then(|| cluster.namespace.clone());
            let is_whole = selection.selector.is_none() && selection.field_selector.is_none();
            State::new(Place::Cluster(namespace), is_whole)
        }
        Source::Folder(folder) => {
            tokio::spawn(follow_folder(folder.clone(), sender.clone()));
            State::new(Place::Folder(folder.folder().display().to_string()), true)
        }
    };
    // Before the screen is taken, so that no signal finds it taken and nobody listening.
    let mut signals = Signals::new().map_err(|error| refused("to hear of signals", &error))?;
    let mut screen = Screen::take().map_err(|error| refused("the terminal", &error))?;
    let mut keys = keys().map_err(|error| refused("to read keys", &error))?;
    let (mut tick, mut sample) = (interval(TICK), interval(SAMPLE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn = None::<Instant>;
    let mut is_old = true;
    loop {
        let due = drawn.map(|at| at + FRAME);
        let event = tokio::select! {
            biased;
            signal = signals.next() => return Ok(Exit::Signal(signal)),
            () = async { if let Some(due) = due { sleep_until(due).await } }, if is_old => {
                draw(&mut screen, &state, now(), color)?;
                (drawn, is_old) = (Some(Instant::now()), false);
                continue;
            }
            input = keys.recv() => match input {
                Some(Input::Key(key)) => Event::Key(key),
                Some(Input::Resized) => {
                    (drawn, is_old) = (None, true);
                    continue;
                }
                Some(Input::Gone) | None => return Ok(Exit::Signal(SIGHUP)),
            },
            _ = sample.tick() => Event::Sample,
            _ = tick.tick() => Event::Tick,
            Some(event) = events.recv() => event,
        };
        let is_key = matches!(event, Event::Key(_));
        let height = screen.terminal.size().map_or(24, |size| size.height);
        for effect in state.step(event, now(), view::lines(height)) {
            match effect {
                Effect::Leave => return Ok(DONE),
                Effect::Interrupted => return Ok(Exit::Signal(SIGINT)),
                Effect::Explain(about) => {
                    tokio::spawn(explain(source.clone(), about, sender.clone()));
                }
                Effect::Revoke(claim, uid) => {
                    tokio::spawn(revoke(source.clone(), claim, uid, sender.clone()));
                }
            }
        }
        is_old = true;
        if is_key {
            // Who types sees it at once.
            drawn = None;
        }
    }
}

fn refused(what: &str, error: &io::Error) -> Error {
    Error::internal(format!("the system refuses {what}: {error}"))
}

fn draw(screen: &mut Screen, state: &State, now: Timestamp, color: bool) -> Result<(), Error> {
    let drawn = screen.terminal.draw(|frame| view::draw(frame, state, now, color));
    drawn.map(|_| ()).map_err(|error| refused("to write to the terminal", &error))
}

async fn explain(source: Source, about: Id, events: mpsc::Sender<Event>) {
    let subject = title(&about);
    let Id { namespace, kind, name } = about;
    let text = match source {
        Source::Cluster { cluster, operator, .. } => {
            let question = Question { kind, namespace, name, operator_namespace: operator };
            why::collect(&cluster, &question, now()).await.text()
        }
        Source::Folder(folder) => match local::why(&folder, kind, &name, now()) {
            Ok(answer) => answer.text(),
            Err(error) => error.message,
        },
    };
    let lines = text.lines().map(str::to_owned).collect();
    // Who has left needs no answer.
    let _ = events.send(Event::Explained(subject, lines)).await;
}

async fn revoke(source: Source, claim: Id, uid: String, events: mpsc::Sender<Event>) {
    let Id { namespace, kind, name } = claim;
    let done = match source {
        Source::Cluster { cluster, .. } => {
            let patch = json!({ "metadata": { "uid": uid, "annotations": { REVOKE_ANNOTATION: "by koncli top" } } });
            let object = format!("{}/{name}", kind.resource().path(Some(&namespace)));
            match cluster.call(Call::patch(object, &patch)).await {
                Ok(_) => format!("{}/{name} is asked to end", kind.name()),
                Err(error) => format!("{}/{name} was not revoked: {error}", kind.name()),
            }
        }
        Source::Folder(_) => "in a folder nobody is asked to end: a claim ends with its process".to_owned(),
    };
    let _ = events.send(Event::Done(done)).await;
}
