//! What is told of a claim where its people look: in events about its pod and that pod's Job. Once for each change of
//! its state, and never for what only goes on, like a renewal or a place in the queue. A claim that is granted at once
//! is not told of: that its pod runs says as much.

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, GoDuration, LockKind,
    arbiter::{Claim, ClaimChange, ClaimState, Happening, WAITS_FOR, usual_message},
    conditions,
};

use crate::{claimants::ClaimantNews, events::Severity, key::ParentKey};

/// What the operator did, for an event.
pub(super) fn verb(change: &ClaimChange) -> &'static str {
    match change {
        ClaimChange::Grant(_) => "Grant",
        ClaimChange::Tell(_) => "Queue",
        ClaimChange::Revoke(_) => "Revoke",
        ClaimChange::Expire(_) | ClaimChange::Delete => "Expire",
        _ => "Write",
    }
}

/// What there is to tell of a write to a claim that was in this phase before; nothing if it names no pod, or one in
/// another namespace, where whoever made the claim may have nothing to tell.
pub(super) fn of_write(
    kind: LockKind,
    lock: &ParentKey,
    claim: &Claim,
    before: Option<ClaimPhase>,
    change: &ClaimChange,
    happening: Option<&Happening>,
    now: Timestamp,
) -> Option<ClaimantNews> {
    let pod = claim.pod.as_ref().filter(|pod| pod.namespace_from(&lock.namespace) == lock.namespace)?;
    let what = format!("{} {}", kind.name, lock.name);
    let (severity, reason, note) = match (change, happening) {
        (_, Some(Happening { reason, message, .. })) => (Severity::Warning, *reason, format!("{what}: {message}")),
        (ClaimChange::Tell(state), _) if before.is_none() => {
            (Severity::Normal, conditions::WAITING, place(&what, state))
        }
        (ClaimChange::Grant(_), _) if before == Some(ClaimPhase::Pending) => {
            (Severity::Normal, conditions::GRANTED, grant(&what, claim, now))
        }
        (ClaimChange::Expire(state), _) => {
            let reason = if state.revoked { conditions::REVOKED } else { conditions::EXPIRED };
            let why = state.message.as_deref().unwrap_or_default();
            (Severity::Warning, reason, format!("waits no longer for {what}: {why}"))
        }
        _ => return None,
    };
    let (namespace, action) = (lock.namespace.clone(), verb(change));
    Some(ClaimantNews { namespace, pod: pod.name.clone(), uid: pod.uid.clone(), severity, reason, action, note })
}

/// That it waits, in which place, and what else is in the way.
fn place(what: &str, state: &ClaimState) -> String {
    let message = state.message.as_deref().map(usual_message).unwrap_or_default();
    let more = message.strip_prefix(WAITS_FOR).and_then(|rest| rest.trim_start().strip_prefix(what));
    let place = state.ahead.map_or(String::new(), |ahead| format!(", position {}", ahead + 1));
    format!("{WAITS_FOR} {what}{place}{}", more.unwrap_or_default())
}

fn grant(what: &str, claim: &Claim, now: Timestamp) -> String {
    // Times of creation are whole seconds, rounded down.
    let waited = u64::try_from(now.as_second()).unwrap_or(0).saturating_sub(claim.created);
    let after = (waited > 0).then(|| format!(" after {}", GoDuration(std::time::Duration::from_secs(waited))));
    format!("granted {what}{}", after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use konductor_api::{Lock, PodReference, Semaphore};

    use konductor_api::arbiter::End;

    use super::*;

    fn claim(pod: bool) -> Claim {
        let pod = pod.then(|| PodReference {
            container: "main".into(),
            start: "1".into(),
            ..PodReference::whole("etl-x", "pod-uid")
        });
        Claim {
            uid: "u".into(),
            name: "c".into(),
            version: 1,
            generation: 1,
            created: 1_800_000_000,
            weight: 1,
            priority: 0,
            holder: "h".into(),
            pod: pod.map(Box::new),
            ttl: None,
            renewed: None,
            revoke: None,
            deleting: false,
            state: ClaimState::default(),
        }
    }

    fn told(before: Option<ClaimPhase>, change: &ClaimChange, happening: Option<&Happening>) -> Option<String> {
        let lock = ParentKey::new("etl", "warehouse");
        let now = Timestamp::from_second(1_800_000_750).expect("a time");
        let news = of_write(Semaphore::KIND, &lock, &claim(true), before, change, happening, now)?;
        assert_eq!((&*news.namespace, &*news.pod, &*news.uid), ("etl", "etl-x", "pod-uid"));
        Some(format!("{:?} {} {}: {}", news.severity, news.reason, news.action, news.note))
    }

    fn state(message: &str, ahead: Option<u64>) -> ClaimState {
        ClaimState { message: Some(message.into()), ahead, ..ClaimState::default() }
    }

    #[test]
    fn each_change_of_its_state_is_told_once() {
        let waits = ClaimChange::Tell(state("waits for semaphore warehouse", Some(2)));
        let paused =
            ClaimChange::Tell(state("waits for semaphore warehouse, which is paused: it has 0 permits", Some(0)));
        let granted = ClaimChange::Grant(ClaimState::default());
        let revoked = ClaimChange::Expire(ClaimState { revoked: true, ..state("revoked: maintenance", None) });
        let over = Happening {
            reason: conditions::EXPIRED,
            end: Some(End::Died),
            message: "c of h is over: its pod has ended".into(),
        };
        let pending = Some(ClaimPhase::Pending);
        for (before, change, happening, expected) in [
            (None, &waits, None, Some("Normal Waiting Queue: waits for semaphore warehouse, position 3")),
            (pending, &waits, None, None),
            (
                None,
                &paused,
                None,
                Some(
                    "Normal Waiting Queue: waits for semaphore warehouse, position 1, which is paused: it has 0 permits",
                ),
            ),
            (pending, &granted, None, Some("Normal Granted Grant: granted semaphore warehouse after 12m30s")),
            (None, &granted, None, None),
            (
                pending,
                &revoked,
                None,
                Some("Warning Revoked Expire: waits no longer for semaphore warehouse: revoked: maintenance"),
            ),
            (
                Some(ClaimPhase::Granted),
                &ClaimChange::Expire(ClaimState::default()),
                Some(&over),
                Some("Warning Expired Expire: semaphore warehouse: c of h is over: its pod has ended"),
            ),
            (Some(ClaimPhase::Granted), &ClaimChange::Restamp(ClaimState::default()), None, None),
            (Some(ClaimPhase::Expired), &ClaimChange::Delete, None, None),
        ] {
            assert_eq!(told(before, change, happening).as_deref(), expected);
        }
    }

    #[test]
    fn who_names_no_pod_is_told_nothing() {
        let (lock, waits) = (ParentKey::new("etl", "warehouse"), ClaimChange::Tell(state("waits", Some(0))));
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(of_write(Semaphore::KIND, &lock, &claim(false), None, &waits, None, now), None);
    }
}
