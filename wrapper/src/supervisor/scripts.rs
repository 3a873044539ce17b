//! Runs the scripts of events and effects in `scripts/`.
//!
//! A script is a sentence (`# ...`), settings (`key: value`), and events (`TIME EVENT`), each followed by the effects
//! that are expected, indented. `UPDATE_GOLDEN=1 cargo test -p konductor-run scripts` writes what happens now.

use std::{fmt::Write as _, fs, path::Path};

use konductor_api::GoDuration;

use super::*;

#[test]
fn scripts_come_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/supervisor/scripts");
    let mut ran = 0;
    for entry in fs::read_dir(folder).expect("the scripts' folder is there") {
        let path = entry.expect("the folder can be read").path();
        let script = fs::read_to_string(&path).expect("a script is text");
        let played = play(&script);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &played).expect("a script can be written");
        } else {
            let differs = script.lines().zip(played.lines()).position(|(a, b)| a != b);
            assert!(script == played, "{}, line {}:\n{played}", path.display(), differs.map_or(0, |line| line + 1));
        }
        ran += 1;
    }
    assert!(ran > 0, "no scripts were found");
}

/// The script with the effects that really follow.
fn play(script: &str) -> String {
    let mut played = String::new();
    let mut settings = defaults();
    let mut supervisor = None;
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(played, "{line}").expect("a string takes all");
        if line.starts_with('#') {
            (settings, supervisor) = (defaults(), None);
        } else if let Some((key, value)) = line.split_once(": ").filter(|(key, _)| !key.contains(' ')) {
            set(&mut settings, key, value);
        } else if let Some((at, event)) = line.split_once(' ') {
            let supervisor = supervisor.get_or_insert_with(|| Supervisor::new(settings.clone()));
            for effect in supervisor.step(read_event(event), time(at)) {
                writeln!(played, "  {}", show(&effect)).expect("a string takes all");
            }
        }
    }
    played
}

fn defaults() -> Settings {
    Settings {
        awaited: Vec::new(),
        arrivals: Vec::new(),
        arrive_on: ArriveOn::Success,
        claims: vec!["semaphore a".to_owned()],
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
    let names = || value.split(", ").filter(|name| *name != "none").map(str::to_owned).collect();
    match key {
        "claims" => settings.claims = names(),
        "awaited" => settings.awaited = names(),
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
    if let Some(told) = rest.split_once(' ').and_then(|(_, tail)| read_told(tail)) {
        match verb {
            "awaited" => return Event::Awaited(number(first), told),
            "arrival" => return Event::Arrival(number(first), told),
            _ => {}
        }
    }
    let answer = match verb {
        "started" => return Event::Started,
        "signal" => {
            let queued = (!tail.is_empty()).then(|| Queued { pid: 7, uid: 8, value: number(field("value")) });
            return Event::Signal(Received { signal: number(first), queued });
        }
        "stopped" => {
            return Event::CommandStopped { signal: number(first), in_front: tail == "in front" };
        }
        "not-stopped" => return Event::NotStopped(number(first)),
        "signals-read" => return Event::SignalsRead,
        "claims-failed" => return Event::ClaimsFailed { error: rest.to_owned() },
        "not-spawned" => return Event::NotSpawned { exit: Exit::NotFound, error: rest.to_owned() },
        "ended" => return Event::CommandEnded(Exit::Code(number(first))),
        "killed" => return Event::CommandEnded(Exit::Signal(number(first))),
        "remaining" => return Event::Remaining,
        "tree-empty" => return Event::TreeEmpty,
        "guard-ended" => return Event::GuardEnded,
        "timer" => return Event::Timer,
        "asked" => Answer::Asked,
        "waiting" if tail == "missing" => Answer::Waiting { ahead: None, missing: true },
        "waiting" => Answer::Waiting { ahead: Some(number(field("ahead"))), missing: false },
        "held" => Answer::Held {
            token: number(field("token")),
            ttl: duration(field("ttl")),
            deadline: time(field("deadline")),
        },
        "extended" => Answer::Extended { deadline: time(field("deadline")) },
        "retrying" => Answer::Retrying { operation: "renew", error: tail.to_owned() },
        "taken" => Answer::Lost { taken: true, reason: tail.to_owned() },
        "revoked" => Answer::Lost { taken: false, reason: tail.to_owned() },
        "released" => Answer::Released,
        "abandoned" => Answer::Abandoned { error: tail.to_owned() },
        "refused" => Answer::Failed { exit: Exit::Refused, error: tail.to_owned() },
        _ => panic!("no such event: {line}"),
    };
    Event::Claim(number(first), answer)
}

fn read_told(text: &str) -> Option<Told> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match verb {
        "seen" => Told::Seen,
        "closed" => Told::Waiting { message: rest.to_owned(), missing: false },
        "missing" => Told::Waiting { message: String::new(), missing: true },
        "retrying" => Told::Retrying { operation: "ask", error: rest.to_owned() },
        "late-open" => Told::RoundOver { failed: false, message: rest.to_owned() },
        "late-failed" => Told::RoundOver { failed: true, message: rest.to_owned() },
        "done" => Told::Done,
        "failed" => Told::Failed { exit: Exit::Failed, error: rest.to_owned() },
        "refused" => Told::Failed { exit: Exit::Refused, error: rest.to_owned() },
        _ => return None,
    })
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Await(index) => format!("await {index}"),
        Effect::Arrive(index) => format!("arrive {index}"),
        Effect::Acquire(index) => format!("acquire {index}"),
        Effect::Release(index) => format!("release {index}"),
        Effect::ReadSignals => "read signals".to_owned(),
        Effect::Spawn { tokens, deadline: None } => format!("spawn {tokens:?}"),
        Effect::Spawn { tokens, deadline: Some(at) } => format!("spawn {tokens:?}, guarded until {}", GoDuration(at.0)),
        Effect::Guard(at) => format!("guard until {}", GoDuration(at.0)),
        Effect::Unguard => "unguard".to_owned(),
        Effect::Forward(Received { signal, queued: None }) => format!("forward {signal}"),
        Effect::Forward(Received { signal, queued: Some(queued) }) => {
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
