//! Runs the scripts of inputs and effects in `scripts/`.
//!
//! A script is a sentence (`# ...`), a goal (`gate`, `barrier` or `arrive`), and inputs (`TIME INPUT`), each followed
//! by the effects that are expected, indented. `UPDATE_GOLDEN=1 cargo test -p konductor scripts` writes what happens
//! now.

use std::time::Duration;

use konductor_api::{Barrier, Gate, GoDuration, Rendezvous, RendezvousPhase};

use super::{machine::Effect, *};
use crate::protocol::{Draw, Failure, WatchEnd};

/// What arrives in the scripts.
const KEY: &str = "job-1/3";

#[test]
fn scripts_come_true() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rendezvous/scripts");
    konductor_golden::check_folder(folder, |_, script| play(script));
}

/// The script with the effects that really follow.
fn play(script: &str) -> String {
    let mut machine = None;
    konductor_golden::replay(script, "  ", |line| {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first {
            "#" => {}
            "gate" => machine = Some(Machine::new(Goal::Open(Gate::KIND))),
            "barrier" => machine = Some(Machine::new(Goal::Open(Barrier::KIND))),
            "arrive" => {
                let arriving = Arriving { barrier: "b".into(), key: KEY.into(), holder: "me".into(), pod: None };
                machine = Some(Machine::new(Goal::Arrive(arriving)));
            }
            at => {
                let machine = machine.as_mut().unwrap_or_else(|| panic!("no goal before {line}"));
                let at = at.parse::<GoDuration>().unwrap_or_else(|error| panic!("{line}: {error}")).0;
                // All pauses are as long as they can be.
                let draw = Draw { id: 1, jitter: u32::MAX };
                let mut effects: Vec<_> = machine.step(input(rest), Boottime(at), draw).into_iter().map(show).collect();
                match machine.alarm() {
                    Some(Boottime(at)) => effects.push(format!("until {}", GoDuration(at))),
                    None if machine.is_over() => effects.push("over".into()),
                    None => {}
                }
                return effects;
            }
        }
        Vec::new()
    })
}

fn input(line: &str) -> Input {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let answer = match verb {
        "time" => return Input::Time,
        "watched" => return Input::Watched(seen(rest).expect("what is watched is there")),
        "deleted" => return Input::WatchedDeletion,
        "watch-closed" => return Input::WatchEnded(WatchEnd::Closed),
        "watch-outdated" => return Input::WatchEnded(WatchEnd::Outdated),
        "watch-failed" => return Input::WatchEnded(WatchEnd::Failed(rest.into())),
        "watch-refused" => return Input::WatchEnded(WatchEnd::Refused(rest.into())),
        "found" => Ok(Answer::Looked { version: "7".into(), found: seen(rest) }),
        "created" => Ok(Answer::Created),
        "unowned" => Ok(Answer::Inspected(arrived())),
        "owned" => Ok(Answer::Inspected(Arrived { owner: Some(rest.into()), ..arrived() })),
        "of-key" => Ok(Answer::Inspected(Arrived { key: rest.into(), ..arrived() })),
        "of-barrier" => Ok(Answer::Inspected(Arrived { barrier: rest.into(), ..arrived() })),
        "ending" => Ok(Answer::Inspected(Arrived { owner: Some(rest.into()), ending: true, ..arrived() })),
        "taken" => Err(Failure::Taken),
        "no-namespace" => Err(Failure::NoNamespace(rest.into())),
        "not-served" => Err(Failure::NotServed(rest.into())),
        "missing" => Err(Failure::Missing(rest.into())),
        "terminating" => Err(Failure::Terminating(rest.into())),
        "refused" => Err(Failure::Refused(rest.into())),
        "quota" => Err(Failure::QuotaUsedUp(rest.into())),
        "failed" => Err(Failure::Transient { message: rest.into(), retry_after: None }),
        "busy" => Err(Failure::Transient { message: rest.into(), retry_after: Some(Duration::from_secs(3)) }),
        _ => panic!("no such input: {line}"),
    };
    Input::Answered(answer)
}

/// An arrival with the key and the barrier of the scripts, which nobody owns.
fn arrived() -> Arrived {
    Arrived { barrier: "b".into(), key: KEY.into(), owner: None, ending: false }
}

/// What was found: a phase and a message, of the barrier with the UID u1 or the one before a slash, in its first round or
/// the one after an @.
fn seen(text: &str) -> Option<RendezvousSeen> {
    let (phase, message) = text.split_once(' ').unwrap_or((text, ""));
    let (uid, phase) = phase.split_once('/').unwrap_or(("u1", phase));
    let (phase, round) = phase.split_once('@').unwrap_or((phase, "1"));
    let round = round.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let phase = match phase {
        "nothing" => return None,
        "new" => None,
        "waiting" => Some(RendezvousPhase::Waiting),
        "open" => Some(RendezvousPhase::Open),
        "failed" => Some(RendezvousPhase::Failed),
        _ => panic!("no such phase: {text}"),
    };
    Some(RendezvousSeen { uid: uid.into(), round, phase, message: message.into() })
}

fn show(effect: Effect) -> String {
    match effect {
        Effect::Call { call: Call::Look, within } => format!("look, within {}", GoDuration(within)),
        Effect::Call { call: Call::Create { name, owner, spec }, .. } => {
            let owner = owner.map_or(String::new(), |uid| format!(", owned by {uid}"));
            format!("create {name} with key {}{owner}", spec.key)
        }
        Effect::Call { call: Call::Inspect { name, .. }, .. } => format!("inspect {name}"),
        Effect::Watch { version } => format!("watch from {version}"),
        Effect::Tell(Progress::Seen) => "tell: seen".into(),
        Effect::Tell(Progress::Waiting { missing: true, .. }) => "tell: missing".into(),
        Effect::Tell(Progress::Waiting { message, .. }) => format!("tell: waiting: {message}"),
        Effect::Tell(Progress::Retrying { operation, error }) => format!("tell: cannot {operation}: {error}"),
        Effect::Tell(Progress::RoundOver { failed, message }) => {
            format!("tell: the round was over, {}: {message}", if failed { "failed" } else { "open" })
        }
        Effect::Tell(Progress::RoundPassed { round }) => format!("tell: round {round} has begun meanwhile"),
        Effect::Tell(Progress::Done) => "tell: done".into(),
        Effect::Tell(Progress::Failed { error }) => format!("tell: failed: {error}"),
    }
}
