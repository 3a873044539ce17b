//! The claim protocol as scripts: `tests/golden/*.txt` hold inputs and, indented below each, the effects.
//!
//! A line is a time since boot, an input, and what belongs to it; a script may begin with a line `pod NAME UID
//! CONTAINER START` (or `pod NAME UID`, the whole pod), or `holder NAME` for the claim that belongs to a holder by its
//! name. Locks have the UID `p` unless the line says another. Chance is fixed: the n-th step draws the id n, and there
//! is no jitter. `UPDATE_GOLDEN=1 cargo test -p konductor --test golden` writes what happens into the scripts: read the
//! difference.

use std::{collections::BTreeMap, time::Duration};

use konductor::{
    Boottime, Event,
    protocol::{Answer, Call, ClaimSeen, Draw, Effect, Failure, Input, Machine, ParentSeen, WatchEnd},
};
use konductor_api::{ClaimPhase, GoDuration, Lock, PodReference, Semaphore};

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    konductor_golden::check_folder(folder, |_, script| play(script));
}

/// The script with the effects that its inputs really have.
fn play(script: &str) -> String {
    let (mut machine, mut steps, mut last) = (None, 0, Boottime(Duration::ZERO));
    let (mut pod, mut holder): (_, Option<String>) = (None, None);
    konductor_golden::replay(script, "  ", |line| {
        if line.starts_with('#') {
            return Vec::new();
        }
        if let Some(line) = line.strip_prefix("pod ") {
            pod = Some(match *line.split(' ').collect::<Vec<_>>() {
                [name, uid] => PodReference::whole(name, uid),
                [name, uid, container, start] => {
                    PodReference { container: container.into(), start: start.into(), ..PodReference::whole(name, uid) }
                }
                _ => panic!("{line}: a pod is two or four words"),
            });
            return Vec::new();
        }
        if let Some(name) = line.strip_prefix("holder ") {
            holder = Some(name.to_owned());
            return Vec::new();
        }
        let (time, input) = line.split_once(' ').unwrap_or_else(|| panic!("{line}: a time and an input"));
        let now = Boottime(time.parse::<GoDuration>().unwrap_or_else(|error| panic!("{line}: {error}")).0);
        assert!(now >= last, "{line}: time goes back");
        (last, steps) = (now, steps + 1);
        let machine = machine.get_or_insert_with(|| match holder.clone() {
            None => Machine::new(Semaphore::KIND, "warehouse".into(), pod.clone()),
            Some(holder) => Machine::of_holder(Semaphore::KIND, "warehouse".into(), holder, pod.clone()),
        });
        let draw = Draw { id: steps, jitter: 0 };
        let mut effects: Vec<_> = machine.step(parse(input), now, draw).iter().map(show).collect();
        effects.extend(machine.alarm().map(|alarm| format!("alarm at {}", show_time(alarm))));
        effects.extend(machine.is_over().then(|| "over".into()));
        effects
    })
}

fn parse(line: &str) -> Input {
    let (line, text) = line.split_once(" message=").unwrap_or((line, ""));
    let mut words = line.split(' ');
    let verb = words.next().unwrap();
    let fields: BTreeMap<&str, &str> = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
    let failed = |failure| Input::Answered(Err(failure));
    let transient = || Failure::Transient {
        message: text.into(),
        retry_after: fields.get("after").map(|after| after.parse::<GoDuration>().unwrap().0),
    };
    match verb {
        "time" => Input::Time,
        "release" => Input::Release,
        "claim" => Input::Answered(Ok(Answer::Claim(seen(&fields, text)))),
        "deleted" => Input::Answered(Ok(Answer::Deleted)),
        "taken" => failed(Failure::Taken),
        "missing" => failed(Failure::Missing(text.into())),
        "conflict" => failed(Failure::Conflict(text.into())),
        "not-served" => failed(Failure::NotServed(text.into())),
        "no-namespace" => failed(Failure::NoNamespace(text.into())),
        "terminating" => failed(Failure::Terminating(text.into())),
        "refused" => failed(Failure::Refused(text.into())),
        "unready" => failed(Failure::Unready(Box::new(Failure::Refused(text.into())))),
        "quota" => failed(Failure::QuotaUsedUp(text.into())),
        "transient" => failed(transient()),
        "parent" if fields.contains_key("missing") => Input::ParentAnswered(Ok(ParentSeen::Missing)),
        "parent" if fields.contains_key("refused") => Input::ParentAnswered(Err(Failure::Refused(text.into()))),
        "parent" if fields.contains_key("transient") => Input::ParentAnswered(Err(transient())),
        "parent" => Input::ParentAnswered(Ok(ParentSeen::Found {
            uid: (*fields.get("uid").unwrap_or(&"p")).into(),
            term: fields.get("term").map(|term| term.parse().unwrap()),
            permits: fields.get("permits").map(|permits| permits.parse().unwrap()),
        })),
        "watched" => Input::Watched(seen(&fields, text)),
        "watched-deletion" => Input::WatchedDeletion(fields["uid"].into()),
        "watch-closed" => Input::WatchEnded(WatchEnd::Closed),
        "watch-outdated" => Input::WatchEnded(WatchEnd::Outdated),
        "watch-refused" => Input::WatchEnded(WatchEnd::Refused(text.into())),
        "watch-failed" => Input::WatchEnded(WatchEnd::Failed(text.into())),
        other => panic!("no such input: {other}"),
    }
}

fn seen(fields: &BTreeMap<&str, &str>, message: &str) -> ClaimSeen {
    let number = |key| fields.get(key).map(|value: &&str| value.parse().unwrap());
    ClaimSeen {
        uid: fields["uid"].into(),
        version: number("version").unwrap(),
        instance: match fields.get("instance") {
            Some(holder) if holder.starts_with("holder-") => (*holder).to_owned(),
            _ => format!("{:032x}", number("instance").unwrap_or(1)),
        },
        pod: fields.get("pod").map(|pod| {
            let [uid, container, start] = pod.split('/').map(String::from).collect::<Vec<_>>().try_into().unwrap();
            PodReference { container, start, ..PodReference::whole("etl-0", uid) }
        }),
        phase: fields.get("phase").map(|phase| match *phase {
            "Pending" => ClaimPhase::Pending,
            "Granted" => ClaimPhase::Granted,
            "Revoking" => ClaimPhase::Revoking,
            "Expired" => ClaimPhase::Expired,
            other => panic!("no such phase: {other}"),
        }),
        term: number("term"),
        parent_uid: fields.get("term").map(|_| (*fields.get("parent").unwrap_or(&"p")).into()),
        fencing_token: number("token"),
        ttl: fields.get("ttl").map(|ttl| ttl.parse::<GoDuration>().unwrap().0),
        ahead: number("ahead"),
        message: message.into(),
        revoked: fields.contains_key("revoked"),
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Call { call, within } => {
            let call = match call {
                Call::Create { name, instance } => {
                    format!("create {name} instance={}", instance.trim_start_matches('0'))
                }
                Call::Read { name } => format!("read {name}"),
                Call::Renew { uid, .. } => format!("renew uid={uid}"),
                Call::Delete { uid, version: None, .. } => format!("delete uid={uid}"),
                Call::Delete { uid, version: Some(version), .. } => format!("delete uid={uid} version={version}"),
            };
            format!("{call} within {}", GoDuration(*within))
        }
        Effect::CancelCall => "cancel".into(),
        Effect::AskParent { latest: true, .. } => "ask the parent for its latest state".into(),
        Effect::AskParent { latest: false, .. } => "look at the parent".into(),
        Effect::Watch { name, version } => format!("watch {name} from {version}"),
        Effect::Unwatch => "unwatch".into(),
        Effect::Tell(event) => format!("tell {}", show_event(event)),
    }
}

fn show_event(event: &Event) -> String {
    match event {
        Event::Asked => "asked".into(),
        Event::Created { name, uid } => format!("created {name} uid={uid}"),
        Event::Granted => "granted".into(),
        Event::Hindered { why } => format!("hindered: {why}"),
        Event::Waiting { ahead, message, parent_missing, lock } => {
            let lock = lock.as_ref().map_or(String::new(), |lock| format!("{} of {} permits: ", lock.id, lock.permits));
            format!("waiting ahead={ahead:?} parent_missing={parent_missing} {lock}{message}")
        }
        Event::Held { fencing_token, ttl, deadline, lock } => {
            let lock = if lock == "p" { String::new() } else { format!(" {lock}") };
            format!("HELD{lock} token={fencing_token} ttl={} until {}", GoDuration(*ttl), show_time(*deadline))
        }
        Event::Extended { deadline } => format!("extended until {}", show_time(*deadline)),
        Event::Retrying { operation, error } => format!("retrying to {operation}: {error}"),
        Event::Lost { reason } => format!("LOST {reason:?}"),
        Event::Released => "released".into(),
        Event::Abandoned { error } => format!("abandoned: {error}"),
        Event::Failed { error } => format!("failed: {error}"),
        other => format!("{other:?}"),
    }
}

fn show_time(at: Boottime) -> GoDuration {
    GoDuration(at.0)
}
