//! Runs the scripts of events and effects in `scripts/`.
//!
//! A script is a sentence (`# ...`), settings (`key: value`), and events (`TIME EVENT`), each followed by the effects
//! that are expected, indented. `UPDATE_GOLDEN=1 cargo test -p konductor-run scripts` writes what happens now.

use konductor::{AcquireError, LockSeen, LossReason, RendezvousError};
use konductor_api::GoDuration;

use super::*;

#[test]
fn scripts_come_true() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/supervisor/scripts");
    konductor_golden::check_folder(folder, |_, script| play(script));
}

/// The script with the effects that really follow.
fn play(script: &str) -> String {
    let mut settings = defaults();
    let mut supervisor = None;
    konductor_golden::replay(script, "  ", |line| {
        if line.starts_with('#') {
            (settings, supervisor) = (defaults(), None);
        } else if let Some((key, value)) = line.split_once(": ").filter(|(key, _)| !key.contains(' ')) {
            set(&mut settings, key, value);
        } else if let Some((at, event)) = line.split_once(' ') {
            let supervisor = supervisor.get_or_insert_with(|| Supervisor::new(settings.clone()));
            return supervisor.step(read_event(event), time(at)).iter().map(show).collect();
        }
        Vec::new()
    })
}

fn defaults() -> Settings {
    Settings {
        awaited: Vec::new(),
        arrivals: Vec::new(),
        arrive_on: ArriveOn::Success,
        claims: vec!["semaphore a".to_owned()],
        permits: vec![1],
        held_around: BTreeMap::new(),
        wait_timeout: None,
        skip_on_timeout: false,
        local: false,
        grace: Duration::from_secs(10),
        ending_signals: vec![1, 2, 3, 15],
        signals: BTreeMap::new(),
        leaves: false,
        exit_codes: BTreeMap::new(),
    }
}

fn set(settings: &mut Settings, key: &str, value: &str) {
    let names = || -> Vec<String> { value.split(", ").filter(|name| *name != "none").map(str::to_owned).collect() };
    match key {
        "claims" => {
            settings.claims = names();
            settings.permits = vec![1; settings.claims.len()];
        }
        "permits" => settings.permits = vec![number(value)],
        "held-around" => {
            let (lock, permits) = value.split_once('=').unwrap_or_else(|| panic!("not a lock: {value}"));
            settings.held_around.insert(lock.to_owned(), number(permits));
        }
        "awaited" => {
            settings.awaited = names()
                .iter()
                .map(|awaited: &String| match awaited.split_once(' ') {
                    Some(("gate", name)) => Awaited::gate(name),
                    Some(("barrier", name)) => Awaited::barrier(name),
                    _ => panic!("not a barrier or a gate: {awaited}"),
                })
                .collect();
        }
        "arrivals" => settings.arrivals = names(),
        "arrive" if value == "always" => settings.arrive_on = ArriveOn::AnyEnd,
        "wait-timeout" => settings.wait_timeout = Some(duration(value)),
        "on-timeout" => settings.skip_on_timeout = value == "skip",
        "local" => settings.local = value == "yes",
        "grace" => settings.grace = duration(value),
        "map-signal" => {
            let (from, to) = value.split_once('=').unwrap_or_else(|| panic!("not a map: {value}"));
            settings.signals.insert(number(from), Some(number(to)).filter(|to| *to != 0));
        }
        "exit-code-map" => {
            let (from, to) = value.split_once('=').unwrap_or_else(|| panic!("not a map: {value}"));
            settings.exit_codes.insert(number(from), number(to));
        }
        "leftovers" => settings.leaves = value == "leave",
        "ignored" => settings.ending_signals.retain(|signal| *signal != number::<i32>(value)),
        _ => panic!("no such setting: {key}"),
    }
}

fn duration(text: &str) -> Duration {
    text.parse::<GoDuration>().unwrap_or_else(|error| panic!("{text}: {error}")).0
}

fn time(text: &str) -> Boottime {
    if text == "never" { Boottime::NEVER } else { Boottime(duration(text)) }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn read_event(line: &str) -> Event {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    let field = |name: &str| {
        let mut fields = tail.split(' ').filter_map(|field| field.split_once('='));
        fields.find_map(|(key, value)| (key == name).then_some(value)).unwrap_or_else(|| panic!("no {name}: {line}"))
    };
    if let Some(progress) = rest.split_once(' ').and_then(|(_, tail)| read_progress(tail)) {
        match verb {
            "awaited" => return Event::Awaited(number(first), progress),
            "arrival" => return Event::Arrival(number(first), progress),
            _ => {}
        }
    }
    let news = match verb {
        "started" => return Event::Started,
        "signal" => {
            let shared = tail == "shared";
            let alone = tail.is_empty() || shared;
            let queued = (!alone).then(|| Queued { pid: 7, uid: 8, value: number(field("value")) });
            return Event::Signal(Received { signal: number(first), queued, shared });
        }
        "stopped" => {
            return Event::CommandStopped { signal: number(first), in_front: tail == "in front" };
        }
        "not-stopped" => return Event::NotStopped(number(first)),
        "signals-read" => return Event::SignalsRead,
        "logging-in" => return Event::LoggingIn { program: rest.to_owned() },
        "logged-in" => return Event::LoggedIn,
        "unreachable" => return Event::Unreachable { exit: Exit::Unreachable, error: rest.to_owned() },
        "no-token" => return Event::Unreachable { exit: Exit::Refused, error: rest.to_owned() },
        "client-failed" => return Event::ClientFailed { error: rest.to_owned() },
        "not-spawned" => return Event::NotSpawned { exit: Exit::NotFound, error: rest.to_owned(), momentary: false },
        "not-spawned-yet" => {
            return Event::NotSpawned { exit: Exit::Internal, error: rest.to_owned(), momentary: true };
        }
        "some-killed" => return Event::Killed,
        "ended" => return Event::CommandEnded(Exit::Code(number(first))),
        "killed" => return Event::CommandEnded(Exit::Signal(number(first))),
        "not-executed" => return Event::NotExecuted { exit: Exit::NotFound, error: rest.to_owned() },
        "remaining" => return Event::Remaining,
        "tree-empty" => return Event::TreeEmpty,
        "watchdog-ended" => return Event::WatchdogEnded,
        "timer" => return Event::Timer,
        "asked" => ClaimEvent::Asked,
        "granted" => ClaimEvent::Granted,
        "waiting" if tail == "missing" => waiting(None, "", None),
        "waiting" => {
            let (tail, message) = tail.split_once(" message=").unwrap_or((tail, ""));
            let lock = tail.split_once(" lock=").map(|(_, lock)| {
                let (id, permits) = lock.split_once(':').unwrap_or_else(|| panic!("not a lock: {lock}"));
                LockSeen { id: id.to_owned(), permits: number(permits) }
            });
            waiting(Some(number(field("ahead"))), message, lock)
        }
        "held" => ClaimEvent::Held {
            fencing_token: number(field("token")),
            ttl: duration(field("ttl")),
            deadline: time(field("deadline")),
            lock: "p".to_owned(),
        },
        "extended" => ClaimEvent::Extended { deadline: time(field("deadline")) },
        "retrying" => ClaimEvent::Retrying { operation: "renew", error: tail.to_owned() },
        "deleted" => ClaimEvent::Lost { reason: LossReason::Deleted },
        "revoked" => ClaimEvent::Lost { reason: LossReason::Revoked(tail.to_owned()) },
        "released" => ClaimEvent::Released,
        "hindered" => ClaimEvent::Hindered { why: tail.to_owned() },
        "abandoned" => ClaimEvent::Abandoned { error: tail.to_owned() },
        "refused" => ClaimEvent::Failed { error: refused("create the claim", tail) },
        _ => panic!("no such event: {line}"),
    };
    Event::Claim(number(first), news)
}

/// A claim without a place in the queue waits for what is missing.
fn waiting(ahead: Option<u64>, message: &str, lock: Option<LockSeen>) -> ClaimEvent {
    ClaimEvent::Waiting { ahead, message: message.to_owned(), parent_missing: ahead.is_none(), lock }
}

fn refused(operation: &'static str, message: &str) -> AcquireError {
    AcquireError::Refused { operation, message: message.to_owned() }
}

fn read_progress(text: &str) -> Option<Progress> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match verb {
        "seen" => Progress::Seen,
        "closed" => Progress::Waiting { message: rest.to_owned(), missing: false },
        "missing" => Progress::Waiting { message: String::new(), missing: true },
        "retrying" => Progress::Retrying { operation: "ask", error: rest.to_owned() },
        "late-open" => Progress::RoundOver { failed: false, message: rest.to_owned() },
        "late-failed" => Progress::RoundOver { failed: true, message: rest.to_owned() },
        "round-passed" => Progress::RoundPassed { round: rest.parse().expect("a round") },
        "done" => Progress::Done,
        "failed" => Progress::Failed { error: RendezvousError::Failed(rest.to_owned()) },
        "refused" => Progress::Failed { error: refused("ask", rest).into() },
        _ => return None,
    })
}

fn show_time(at: Boottime) -> String {
    if at == Boottime::NEVER { "the end".to_owned() } else { GoDuration(at.0).to_string() }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Await(index) => format!("await {index}"),
        Effect::Arrive(index) => format!("arrive {index}"),
        Effect::Acquire(index) => format!("acquire {index}"),
        Effect::Release(index) => format!("release {index}"),
        Effect::ReadSignals => "read signals".to_owned(),
        Effect::Spawn { tokens, deadline: None, .. } => format!("spawn {tokens:?}"),
        Effect::Spawn { tokens, deadline: Some(at), .. } => {
            format!("spawn {tokens:?}, watchdog until {}", show_time(*at))
        }
        Effect::TellWatchdog(at) => format!("watchdog until {}", show_time(*at)),
        Effect::PrepareWatchdog => "prepare the watchdog".to_owned(),
        Effect::EndWatchdog => "end the watchdog".to_owned(),
        Effect::Forward(Received { signal, queued: None, .. }) => format!("forward {signal}"),
        Effect::Forward(Received { signal, queued: Some(queued), .. }) => {
            format!("forward {signal} value={}", queued.value)
        }
        Effect::Continue => "continue the command".to_owned(),
        Effect::Stop(signal) => format!("stop because of {signal}"),
        Effect::TerminateTree => "terminate the tree".to_owned(),
        Effect::KillTree => "kill the tree".to_owned(),
        Effect::Arm(Some(at)) => format!("arm {}", GoDuration(at.0)),
        Effect::Arm(None) => "disarm".to_owned(),
        Effect::Log(level, message) => format!("{}: {message}", level.as_str().to_lowercase()),
        Effect::Report(message) => format!("report: {message}"),
        Effect::Exit(exit) => format!("exit {}", exit.code()),
    }
}
