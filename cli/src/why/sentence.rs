//! Reasons in plain words. What others wrote (holders, messages) is printed without its control characters: it comes
//! from an API that anybody may write to, and goes to a terminal.

use jiff::Timestamp;

use super::reason::{At, Basis, Cause, Fate, Front, How, Ref, Unseen, UnseenWhy, Way, Wish};
use crate::output::{age, span, table::plain};

fn ago(at: At, now: Timestamp) -> String {
    age(at.0, now)
}

fn since(at: Option<At>, now: Timestamp) -> String {
    at.map(|at| format!(" for {}", ago(at, now))).unwrap_or_default()
}

fn until(at: At, now: Timestamp) -> String {
    match at.0.duration_since(now).as_secs() {
        ..=0 => "now".into(),
        left => format!("in {}", span(left)),
    }
}

fn told(message: Option<&String>) -> String {
    message.filter(|text| !text.is_empty()).map(|text| format!(": {text}")).unwrap_or_default()
}

fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Of a semaphore, how many; a lease has no permits.
fn permits(number: u64, lock: &Ref) -> String {
    if lock.kind == "lease" { lock.to_string() } else { format!("{} of {lock}", count(number, "permit", "permits")) }
}

/// The sentence.
#[expect(clippy::too_many_lines, reason = "one line or two for each cause: a table")]
pub(super) fn of(cause: &Cause, now: Timestamp) -> String {
    let text = match cause {
        Cause::NotFound { object, nearest } => {
            let place = object.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}"));
            let meant = nearest.as_ref().map(|name| format!("; did you mean {}/{name}?", object.kind));
            format!("{object} does not exist{}{}", place.unwrap_or_default(), meant.unwrap_or_default())
        }
        Cause::Waits { claim, holder, lock, permits: number, priority, since: at, ahead: _ } => {
            let priority = if *priority == 0 { String::new() } else { format!(", priority {priority}") };
            let number = permits(*number, lock);
            format!("{claim} (holder {holder}{priority}) has waited{} for {number}", since(*at, now))
        }
        Cause::Holds { claim, holder, lock, permits: number, since: at, renewed, ttl_seconds, revoked, .. } => {
            let renewed = renewed.map(|at| format!(", last renewed {} ago", ago(at, now))).unwrap_or_default();
            let ttl = ttl_seconds.map(|ttl| format!(", TTL {}", span(ttl as i64))).unwrap_or_default();
            let asked = revoked.as_ref().map(|why| format!("; asked to end ({why})")).unwrap_or_default();
            let number = permits(*number, lock);
            format!("{claim} (holder {holder}) has held {number}{}{renewed}{ttl}{asked}", since(*at, now))
        }
        Cause::Over { claim, holder, lock, at, message } => {
            let at = at.map(|at| format!(" {} ago", ago(at, now))).unwrap_or_default();
            format!("{claim} (holder {holder}) on {lock} was over{at}{}", told(message.as_ref()))
        }
        Cause::Unanswered { object } => format!("the operator has not answered {object} yet"),
        Cause::Lock { lock, permits, in_use, holders, waiting } => {
            let by = holders.map(|holders| format!(" by {}", count(holders, "claim", "claims"))).unwrap_or_default();
            let waiting = count(*waiting, "claim waits", "claims wait");
            match (lock.kind.as_str(), in_use) {
                ("lease", 0) => format!("{lock} is held by nobody, {waiting}"),
                ("lease", _) => format!("{lock} is held, {waiting}"),
                _ => format!("{lock}: {in_use} of {} in use{by}, {waiting}", count(*permits, "permit", "permits")),
            }
        }
        Cause::Paused { lock, command } => {
            format!("{lock} is paused: it has 0 permits, so nothing is granted; {command} lets it go on")
        }
        Cause::TooLarge { lock, asked, permits } => format!(
            "it asks for {asked} permits and {lock} has {permits}: it waits until there are more, and lets others pass"
        ),
        Cause::InFront { count: number, claims } => in_front(*number, claims),
        Cause::Blocked { claim, asked, free } => format!(
            "{claim} is first in line and asks for {asked} permits, {free} free: nobody passes it (queueing StrictFIFO)"
        ),
        Cause::Next { asked, free } => {
            format!(
                "nobody is in front: its turn is when {} free, now {free}",
                count(*asked, "permit is", "permits are")
            )
        }
        Cause::Due { lock, passes: false } => {
            format!("nobody is in front and enough of {lock} is free: the operator is to grant it")
        }
        Cause::Due { lock, passes: true } => format!(
            "enough of {lock} is free for it, not for those in front, and it may pass them: the operator is to grant it"
        ),
        Cause::TakenOver { lock, term, settled_term } => format!(
            "a new leader takes {lock} over (term {term}, settled {settled_term}): nothing is granted until that is done"
        ),
        Cause::Estimate { seconds, from } => match (seconds, from) {
            (Some(seconds), Some(Basis { ended, seconds: over })) => format!(
                "its turn is in about {}, at the pace of {} in the last {}",
                span(*seconds),
                count(*ended, "holder that ended", "holders that ended"),
                span(*over)
            ),
            _ => "when its turn is cannot be told: no holder is known to have ended so far".into(),
        },
        Cause::HolderPod { pod, container, fate, phase, node, node_ready, node_since } => {
            let phase = phase.as_deref().unwrap_or("of no phase");
            let on = node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
            let ready = match node_ready {
                Some(true) => ", which is ready".to_owned(),
                Some(false) => format!(
                    ", which has not been heard of{}: nothing tells whether the container still runs",
                    since(*node_since, now)
                ),
                None => String::new(),
            };
            match fate {
                Fate::Lives => {
                    let container = container.as_ref().map(|container| format!(", container {container},"));
                    format!("its {pod}{} is {phase}{on}{ready}", container.unwrap_or_default())
                }
                Fate::Ended => {
                    let container = container.as_ref().map(|container| format!("container {container} of "));
                    format!("its {}{pod} has ended for good ({phase})", container.unwrap_or_default())
                }
                Fate::Gone => {
                    let what = container.as_ref().map(|container| format!("container {container}"));
                    let what = what.unwrap_or_else(|| "it".into());
                    format!(
                        "its {pod} does not exist any more, which does not prove that {what} has ended: its node may be \
                         out of reach"
                    )
                }
            }
        }
        Cause::NodeGone { node } => format!("node {node} does not exist any more"),
        Cause::FreedBy { claim: _, ways } => {
            let ways: Vec<_> = ways.iter().map(|way| way_text(way, now)).collect();
            format!("free when {}", ways.join("; or "))
        }
        Cause::NoOperator { namespace } => {
            let place = namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
            format!("no operator has led{place}: nothing is granted, opened or expired until one is installed and runs")
        }
        Cause::NoLeader { namespace, last, renewed } => {
            let last = last.as_ref().map(|last| format!(", the last was {last}")).unwrap_or_default();
            let ago = renewed.map(|at| format!(", which renewed {} ago", ago(at, now))).unwrap_or_default();
            format!(
                "no operator leads in namespace {namespace}{last}{ago}: nothing is granted, opened or expired; look at \
                 kubectl get pods -n {namespace}"
            )
        }
        Cause::Deployment { deployment, replicas, ready } => {
            format!(
                "{deployment} of the operator has {ready} of {} ready",
                count(*replicas as u64, "replica", "replicas")
            )
        }
        Cause::Gate { gate, phase, met, total, any, since: at, fails_at } => {
            let rule = if *any { ", one is enough" } else { "" };
            let stands = match (phase.as_str(), at) {
                ("Open", _) => "is open".to_owned(),
                ("Failed", _) => format!("has failed, having waited{}", since(*at, now)),
                (_, Some(_)) => format!("has waited{}", since(*at, now)),
                (_, None) => "waits".to_owned(),
            };
            let fails = fails_at.map(|at| format!("; it fails {}", until(at, now))).unwrap_or_default();
            format!("{gate} {stands}: {met} of {} met{rule}{fails}", count(*total, "condition", "conditions"))
        }
        Cause::Overridden { gate, to, command } => {
            let what = if command.contains(" auto ") { "lets its conditions decide" } else { "changes that" };
            format!("{gate} is set to {to} by hand (spec.override); {command} {what}")
        }
        Cause::Condition { index, met, wanted, found } => {
            let met = match met {
                Some(true) => "met",
                Some(false) => "not met",
                None => "not judged yet",
            };
            format!("condition {}, {wanted}: {met}{}", index + 1, told(found.as_ref()))
        }
        Cause::State { object, state, since: at, message } => {
            let at = at.map(|at| format!(" (for {})", ago(at, now))).unwrap_or_default();
            format!("{object} {state}{at}{}", told(message.as_ref()))
        }
        Cause::MetBy { what, command } => {
            let command = command.as_ref().map(|command| format!(": {command}")).unwrap_or_default();
            format!("met when {what}{command}")
        }
        Cause::Cycle { gates } => {
            let names: Vec<_> = gates.iter().chain(gates.first()).map(ToString::to_string).collect();
            format!("gates wait for each other, so none of them opens: {}", names.join(" → "))
        }
        Cause::NamespaceClosed { namespace, gates_of, command } => {
            format!("namespace {namespace} does not let gates of namespace {gates_of} look; {command} does")
        }
        Cause::Barrier { barrier, phase, arrived, expected, quorum, round, since: at, deadline, next_round } => {
            let stands = match phase.as_str() {
                "Open" => format!("has been open{}", since(*at, now)),
                "Failed" => format!("failed{}", at.map(|at| format!(" {} ago", ago(at, now))).unwrap_or_default()),
                _ => "waits".to_owned(),
            };
            let round = round.map(|round| format!(", round {round}")).unwrap_or_default();
            let due = match (deadline, quorum) {
                (Some(at), Some(quorum)) => format!("; {} {quorum} are enough, or it fails", until(*at, now)),
                (Some(at), None) => format!("; it fails {}", until(*at, now)),
                (None, Some(quorum)) => format!("; {quorum} are enough at the timeout, which counts from the first"),
                (None, None) => String::new(),
            };
            let next = next_round.map(|at| format!("; the next round begins {}", until(at, now))).unwrap_or_default();
            format!("{barrier} {stands}: {arrived} of {expected} have arrived{round}{due}{next}")
        }
        Cause::Arrived { holder, key, at } => {
            let at = at.map(|at| format!(" {} ago", ago(at, now))).unwrap_or_default();
            let key = if key == holder { String::new() } else { format!(", key {key}") };
            format!("arrived{at}: {holder}{key}")
        }
        Cause::NotArrived { job, state, arrived, expected } => match (arrived, expected) {
            (0, 1) => format!("not arrived: {job}, which {state}"),
            _ => format!("not all arrived: {job}, which {state}: {arrived} of {expected}"),
        },
        Cause::NotKnown { count: number } => {
            format!("not arrived: {number} of whom no Job in this namespace tells")
        }
        Cause::Pending { pod, reason, message, since: at } => {
            let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{pod} has been Pending{}{reason}{}", since(*at, now), told(message.as_ref()))
        }
        Cause::Crashing { pod, container, reason, restarts, last_exit_code, message } => {
            let code = last_exit_code.map(|code| format!(", last exit code {code}")).unwrap_or_default();
            let restarts = if *restarts > 0 {
                format!(", {}", count(*restarts as u64, "restart", "restarts"))
            } else {
                String::new()
            };
            format!("{pod}, container {container}: {reason}{restarts}{code}{}", told(message.as_ref()))
        }
        Cause::Pod { pod, phase, node, node_ready, message } => {
            let on = node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
            let ready = if *node_ready == Some(false) { ", which is not ready" } else { "" };
            format!("{pod} is {phase}{on}{ready}{}", told(message.as_ref()))
        }
        Cause::Job { job, state, active, succeeded, failed, since: at, message } => {
            let at = at.map(|at| format!(" (for {})", ago(at, now))).unwrap_or_default();
            let counts = format!("pods {active} active, {succeeded} succeeded, {failed} failed");
            format!("{job} {state}{at}, {counts}{}", told(message.as_ref()))
        }
        Cause::Wants { container, object, to, claimed } => match to {
            Wish::Hold if *claimed == Some(false) => {
                format!("container {container} is to hold {object}; it has no claim on it now")
            }
            Wish::Hold => format!("container {container} is to hold {object}"),
            Wish::WaitFor => format!("container {container} is to wait for {object}"),
            Wish::ArriveAt => format!("container {container} is to arrive at {object} when it ends"),
        },
        Cause::Nothing { object } => format!("{object} holds nothing and waits for nothing that Konductor knows of"),
        Cause::NotShown { count: number, of } => match number {
            Some(number) => format!("{number} more {of} not shown"),
            None => format!("more {of} not read"),
        },
        Cause::Unseen(Unseen { verb, resource, namespace, why, message, command }) => {
            let place = match (namespace, resource.as_str()) {
                (Some(namespace), _) => format!(" in namespace {namespace}"),
                (None, "nodes" | "namespaces") => String::new(),
                (None, _) => " in all namespaces".into(),
            };
            match why {
                UnseenWhy::Forbidden => {
                    let command = command.as_ref().map(|command| format!("; {command} would")).unwrap_or_default();
                    format!("{resource}{place}: RBAC does not allow to {verb} them{command}")
                }
                UnseenWhy::NotServed => format!("{resource}: not installed in this cluster"),
                UnseenWhy::Failed => format!("{resource}{place}: {message}"),
            }
        }
        Cause::Unreadable { object, error } => format!("{object} cannot be read: {error}"),
        Cause::Bounded { reads } => format!("what takes more than {reads} requests"),
    };
    plain(&text)
}

fn in_front(number: u64, claims: &[Front]) -> String {
    let one = |Front { claim, holder, permits, priority, passes }: &Front| {
        let permits = if *permits > 1 { format!(", {permits} permits") } else { String::new() };
        let passes = if *passes { format!(", priority {priority}: passes what came earlier") } else { String::new() };
        format!("{claim} (holder {holder}{permits}{passes})")
    };
    let shown: Vec<_> = claims.iter().map(one).collect();
    let rest = number.saturating_sub(claims.len() as u64);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let names = if shown.is_empty() { String::new() } else { format!(": {}{more}", shown.join(", ")) };
    format!("{} in front{names}", count(number, "claim is", "claims are"))
}

fn way_text(Way { how, at, command }: &Way, now: Timestamp) -> String {
    match (how, at, command) {
        (How::Release, ..) => "its holder releases it".into(),
        (How::ContainerEnds, ..) => "its container ends".into(),
        (How::PodEnds, ..) => "its pod ends".into(),
        (How::ProcessEnds, ..) => "its process ends".into(),
        (How::Proof, ..) => "the operator has seen that, which takes moments".into(),
        (How::Expiry, Some(at), _) => match at.0.duration_since(now).as_secs() {
            ..=0 => "the operator has counted its TTL, which has passed by the holder's clock".into(),
            left => format!("it is not renewed for {} more", span(left)),
        },
        (How::Expiry, None, _) => "it is not renewed for its TTL".into(),
        (How::Revocation, _, Some(command)) => format!("it is asked to end: {command}"),
        (How::Revocation, ..) => "it is asked to end".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_commands_no_terminal() {
        let object = Ref { kind: "pod".into(), namespace: None, name: "a\u{1b}[2Jb".into() };
        let text = of(&Cause::Unanswered { object }, Timestamp::UNIX_EPOCH);
        assert_eq!(text, "the operator has not answered pod/a [2Jb yet");
    }
}
