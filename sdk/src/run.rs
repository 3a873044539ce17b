//! The protocol's driver: waits for what happens next and does what the machine says. It has no choices of its own.

use konductor_api::PodReference;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    AcquireError, Boottime, Client, Command, Event, Request, Wanted,
    clock::Alarm,
    connect::{Cluster, Target},
    driver::{InFlight, draw},
    kubernetes::{Backend, Spans, Watch},
    local,
    name::is_name,
    protocol::{self, Effect, Input, Machine},
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
        Target::Cluster(cluster) => {
            let wanted = &request.wanted;
            let machine = Machine::new(wanted.kind(), wanted.name().to_owned(), request.pod.clone());
            drive(cluster, machine, request, &mut commands, &mut on_event).await
        }
        Target::Local(local) => local::drive(local, &request, &mut commands, &mut on_event).await,
    };
    if let Err(error) = outcome {
        on_event(Event::Failed { error: AcquireError::System(error.to_string()) });
    }
}

/// Acquires a claim that belongs to [`Request::holder`] by its name, in the pod of the request or in none: like
/// [`run`], but whoever asks in that name means the same claim, and takes up the one that is there. What was taken up
/// and is held is not deleted by a release: others may work under it. Nor is a claim whose create was never answered
/// and that was granted meanwhile; it ends with its TTL.
///
/// Dropping the future once it is held leaves it for its TTL, for others to renew or release who know the name: it is
/// called [`claim_of_holder`]. Without a cluster a claim ends with its process, so there are none of these.
pub async fn run_for_holder(
    client: Client,
    request: Request,
    mut commands: UnboundedReceiver<Command>,
    mut on_event: impl FnMut(Event),
) {
    if !is_name(request.wanted.name()) {
        return on_event(Event::Failed { error: AcquireError::Name(request.wanted.name().to_owned()) });
    }
    let Target::Cluster(cluster) = &client.0 else {
        let error = "without a cluster a claim ends with the process that holds it";
        return on_event(Event::Failed { error: AcquireError::Folder(error.to_owned()) });
    };
    let wanted = &request.wanted;
    let (name, holder, pod) = (wanted.name().to_owned(), request.holder.clone(), request.pod.clone());
    let machine = Machine::of_holder(wanted.kind(), name, holder, pod);
    if let Err(error) = drive(cluster, machine, request, &mut commands, &mut on_event).await {
        on_event(Event::Failed { error: AcquireError::System(error.to_string()) });
    }
}

/// What the claim on `wanted` is called that belongs to a holder by its name, in this pod or in none.
pub fn claim_of_holder(wanted: &Wanted, holder: &str, pod: Option<&PodReference>) -> String {
    protocol::of_holder(wanted.kind(), wanted.name(), holder, pod)
}

/// The instance of that claim.
pub fn instance_of_holder(wanted: &Wanted, holder: &str, pod: Option<&PodReference>) -> String {
    protocol::instance_of_holder(wanted.kind(), wanted.name(), holder, pod)
}

/// Whether a claim of this instance belongs to a holder by its name.
pub fn is_of_holder(instance: &str) -> bool {
    instance.starts_with(protocol::OF_HOLDER)
}

async fn drive(
    cluster: &Cluster,
    mut machine: Machine,
    request: Request,
    commands: &mut UnboundedReceiver<Command>,
    on_event: &mut impl FnMut(Event),
) -> std::io::Result<()> {
    let mut backend = Backend::new(cluster, request);
    let mut alarm = Alarm::new()?;
    let (mut call, mut question, mut watch) = (InFlight::empty(), InFlight::empty(), Watch::none());
    let mut spans = Spans::default();
    let mut listening = true;
    let mut input = Input::Time;
    loop {
        let (now, chance) = (Boottime::now(), draw()?);
        if let Input::WatchEnded(end) = &input {
            spans.ended(end, now);
        }
        for effect in machine.step(input, now, chance) {
            match effect {
                Effect::Call { call: next, within } => call = InFlight::with(backend.call(&next, within)),
                Effect::CancelCall => call = InFlight::empty(),
                Effect::AskParent { latest, within } => question = InFlight::with(backend.ask_parent(latest, within)),
                Effect::Watch { name, version } => {
                    watch = backend.watch(&name, version, spans.opened(now, chance.id as u64));
                }
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
