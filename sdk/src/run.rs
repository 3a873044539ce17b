//! The protocol's driver: waits for what happens next and does what the machine says. It has no choices of its own.

use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    AcquireError, Boottime, Client, Command, Event, Request,
    clock::Alarm,
    connect::{Cluster, Target},
    driver::{InFlight, draw},
    kubernetes::{Backend, Watch},
    local,
    name::is_name,
    protocol::{Effect, Input, Machine},
};

/// Acquires and holds one claim, telling `on_event` all that happens to it, until it is released or has failed: returns
/// after [`Event::Released`], [`Event::Abandoned`] or [`Event::Failed`].
///
/// Dropping the sender of `commands` is [`Command::Release`]. Dropping the future leaves the claim as it is, for its
/// TTL (without a cluster, it ends the claim). Must be called on a tokio runtime (of any flavour) with I/O and time
/// enabled, and must be polled: whatever is protected has to be ended by the deadline last told, whether or not this
/// future gets to run.
pub async fn run(
    client: Client,
    request: Request,
    mut commands: UnboundedReceiver<Command>,
    mut on_event: impl FnMut(Event),
) {
    if !is_name(request.wanted.name()) {
        return on_event(Event::Failed { error: AcquireError::Name(request.wanted.name().to_owned()) });
    }
    let outcome = match &client.0 {
        Target::Cluster(cluster) => drive(cluster, request, &mut commands, &mut on_event).await,
        Target::Local(local) => local::drive(local, &request, &mut commands, &mut on_event).await,
    };
    if let Err(error) = outcome {
        on_event(Event::Failed { error: AcquireError::System(error.to_string()) });
    }
}

async fn drive(
    cluster: &Cluster,
    request: Request,
    commands: &mut UnboundedReceiver<Command>,
    on_event: &mut impl FnMut(Event),
) -> std::io::Result<()> {
    let mut machine = Machine::new(request.wanted.kind(), request.wanted.name().to_owned(), request.pod.clone());
    let mut backend = Backend::new(cluster, request);
    let mut alarm = Alarm::new()?;
    let (mut call, mut question, mut watch) = (InFlight::empty(), InFlight::empty(), Watch::none());
    let mut listening = true;
    let mut input = Input::Time;
    loop {
        let chance = draw()?;
        for effect in machine.step(input, Boottime::now(), chance) {
            match effect {
                Effect::Call { call: next, within } => call = InFlight::with(backend.call(&next, within)),
                Effect::CancelCall => call = InFlight::empty(),
                Effect::AskParent { latest, within } => question = InFlight::with(backend.ask_parent(latest, within)),
                Effect::Watch { name, version } => watch = backend.watch(&name, version, chance.id as u64),
                Effect::Unwatch => watch = Watch::none(),
                Effect::Tell(event) => on_event(event),
            }
        }
        if machine.is_over() {
            return Ok(());
        }
        alarm.set(machine.alarm())?;
        input = tokio::select! {
            rung = alarm.ring() => rung.map(|()| Input::Time)?,
            answer = call.answer() => Input::Answered(answer),
            answer = question.answer() => Input::ParentAnswered(answer),
            seen = watch.next() => seen.unwrap_or_else(Input::WatchEnded),
            Some(Command::Release) | None = commands.recv(), if listening => {
                listening = false;
                Input::Release
            }
        };
    }
}
