//! Connects the state with the cluster, the terminal, the clock and signals. Makes no choices.

use std::io;

use jiff::Timestamp;
use konductor::Exit;
use konductor_api::REVOKE_ANNOTATION;
use nix::libc::{SIGHUP, SIGINT, SIGTERM};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    follow::follow,
    limits::{FRAME, SAMPLE, TICK},
    state::{Effect, Event, FOLLOWED, Id, State, title},
    terminal::{Input, Screen, keys},
    view,
};
use crate::{
    cluster::{Call, Cluster},
    error::{DONE, Error, Outcome},
    why::{self, Question, now},
};

/// Changes that wait to be shown: as many as come while a frame is drawn. More wait in the watches.
const EVENTS: usize = 256;

/// Shows the view until it is left.
pub(super) async fn run(cluster: &Cluster, all: bool, operator: Option<String>, color: bool) -> Outcome {
    let namespace = (!all).then(|| cluster.namespace.clone());
    let (sender, mut events) = mpsc::channel(EVENTS);
    for kind in FOLLOWED {
        tokio::spawn(follow(cluster.clone(), kind, namespace.clone(), sender.clone()));
    }
    // Before the screen is taken, so that no signal finds it taken and nobody listening.
    let listen = |kind| signal(kind).map_err(|error| refused("to hear of signals", &error));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut screen = Screen::take().map_err(|error| refused("the terminal", &error))?;
    let mut keys = keys().map_err(|error| refused("to read keys", &error))?;
    let mut state = State::new(namespace);
    let (mut tick, mut sample) = (interval(TICK), interval(SAMPLE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn = None::<Instant>;
    let mut is_old = true;
    loop {
        let due = drawn.map(|at| at + FRAME);
        let event = tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(Exit::Signal(SIGTERM)),
            _ = interrupt.recv() => return Ok(Exit::Signal(SIGINT)),
            _ = hang_up.recv() => return Ok(Exit::Signal(SIGHUP)),
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
                    tokio::spawn(explain(cluster.clone(), about, operator.clone(), sender.clone()));
                }
                Effect::Revoke(claim, uid) => {
                    tokio::spawn(revoke(cluster.clone(), claim, uid, sender.clone()));
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

async fn explain(cluster: Cluster, about: Id, operator_namespace: Option<String>, events: mpsc::Sender<Event>) {
    let subject = title(&about);
    let Id { namespace, kind, name } = about;
    let question = Question { kind, namespace, name, operator_namespace };
    let answer = why::collect(&cluster, &question, now()).await;
    let lines = answer.text().lines().map(str::to_owned).collect();
    // Who has left needs no answer.
    let _ = events.send(Event::Explained(subject, lines)).await;
}

async fn revoke(cluster: Cluster, claim: Id, uid: String, events: mpsc::Sender<Event>) {
    let Id { namespace, kind, name } = claim;
    let patch = json!({ "metadata": { "uid": uid, "annotations": { REVOKE_ANNOTATION: "by koncli top" } } });
    let object = format!("{}/{name}", kind.resource().path(Some(&namespace)));
    let done = match cluster.call(Call::patch(object, &patch)).await {
        Ok(_) => format!("{}/{name} is asked to end", kind.name()),
        Err(error) => format!("{}/{name} was not revoked: {error}", kind.name()),
    };
    let _ = events.send(Event::Done(done)).await;
}
