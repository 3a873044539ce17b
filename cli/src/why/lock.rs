//! Of locks and claims on them: who holds, who is in front, and when one's turn is.

use std::cmp::Reverse;

use jiff::Timestamp;
use konductor::name::is_name;
use konductor_api::{
    ClaimPhase, PodReference, Queueing,
    arbiter::{PodSight, pod_sight},
    limits::{MAX_SEQUENCE, SEQUENCE_BITS},
};
use konductor_cluster::object::Metadata;

use super::{
    limits::{CLAIMS, FRONT_SHOWN, HOLDERS_SHOWN, NAMES},
    operator,
    reason::{At, Basis, Cause, Fate, Front, How, Reason, Ref, Way},
    seen::{BarrierSeen, Claim, GateSeen, JobSeen, Kind, LockSeen, Named, NodeSeen, PodSeen, created},
    world::{Look, Of, Several, Walk, Which},
};
use crate::trouble::{nearest, quoted};

fn reference(claim: &Claim) -> Ref {
    Ref::new(claim.kind, &claim.metadata.namespace, &claim.metadata.name)
}

/// All that is known of the claims on a lock.
struct Queue<'a> {
    holders: Vec<&'a Claim>,
    /// In the order in which they go.
    waiters: Vec<&'a Claim>,
    all: Vec<&'a Claim>,
    /// These are all.
    whole: bool,
    read: bool,
}

fn queue<'a>(walk: &Walk<'a>, kind: Kind, namespace: &str, lock: &str) -> Queue<'a> {
    if !is_name(lock) {
        // No claim can be asked for by it, and a selector would take it for something else.
        return Queue { holders: Vec::new(), waiters: Vec::new(), all: Vec::new(), whole: false, read: false };
    }
    let claims = kind.claims();
    let fields = Which::Fields(format!("spec.{}={lock}", kind.name()), CLAIMS);
    let Several { items: all, more, read } = walk.several::<Claim>(claims, Some(namespace), fields);
    let mut holders: Vec<_> = all.iter().copied().filter(|claim| claim.holds()).collect();
    holders.sort_by_key(|claim| (acquired(claim), claim.metadata.name.clone()));
    let mut waiters: Vec<_> = all.iter().copied().filter(|claim| claim.waits()).collect();
    // Those that the operator has not seen come after those that it has, in the order of the API server.
    waiters.sort_by_key(|claim| {
        let Metadata { version, name, .. } = &claim.metadata;
        (Reverse(claim.spec.priority), claim.status.ticket.unwrap_or(u64::MAX), *version, name.clone())
    });
    Queue { holders, waiters, all, whole: read && !more, read }
}

fn acquired(claim: &Claim) -> Option<Timestamp> {
    claim.status.acquired_at.as_ref().map(|at| at.0)
}

/// What bears on a claim.
pub(super) fn explain_claim(walk: &Walk<'_>, claim: &Claim) -> Reason {
    if claim.holds() {
        return holder(walk, claim);
    }
    let namespace = &claim.metadata.namespace;
    let lock = Ref::new(claim.kind.lock(), namespace, &claim.lock);
    if !claim.waits() {
        return walk.reason(Cause::Over {
            claim: reference(claim),
            holder: claim.spec.holder.clone(),
            lock,
            at: claim.status.expires_at.as_ref().map(|at| At(at.0)),
            message: claim.status.message.clone(),
        });
    }
    let found = walk.one::<LockSeen>(claim.kind.lock(), Some(namespace), &claim.lock);
    let queue = queue(walk, claim.kind.lock(), namespace, &claim.lock);
    let capacity = match &found {
        Look::There(lock) => lock.capacity,
        _ => u64::MAX,
    };
    // Whoever asks for more than there is lets others pass.
    let mut front = Vec::new();
    let mut found_itself = false;
    for other in &queue.waiters {
        if other.metadata.uid == claim.metadata.uid {
            found_itself = true;
            break;
        }
        if other.permits <= capacity {
            front.push(*other);
        }
    }
    let ahead = if found_itself && queue.whole { Some(front.len() as u64) } else { claim.status.ahead };
    if !found_itself {
        front.clear();
    }
    let waits = walk.reason(Cause::Waits {
        claim: reference(claim),
        holder: claim.spec.holder.clone(),
        lock: lock.clone(),
        permits: claim.permits,
        priority: claim.spec.priority,
        since: created(&claim.metadata).map(At),
        ahead,
    });
    let mut because = Vec::new();
    let (pod, fate, node_ready) = pod_of(walk, claim);
    if fate.is_some_and(|fate| fate != Fate::Lives) || node_ready == Some(false) {
        // Whoever waits is no longer there, or cannot be told to be.
        because.extend(pod);
    }
    let is_seen = claim.status.phase.is_some();
    if !is_seen {
        because.push(walk.reason(Cause::Unanswered { object: reference(claim) }));
    }
    match found {
        Look::There(found) => {
            because.extend(operator::troubles(walk, !is_seen || !found.is_answered()));
            because.extend(on_lock(walk, claim, found, &queue, &front, ahead));
        }
        Look::Absent => {
            because.extend(operator::troubles(walk, !is_seen));
            because.push(missing(walk, claim.kind.lock(), namespace, &claim.lock));
        }
        Look::Dark => {
            because.extend(operator::troubles(walk, !is_seen));
            because.extend(holders(walk, &queue));
            because.extend(in_front(walk, claim, &front, ahead));
        }
    }
    waits.because(because)
}

/// A waiting claim on a lock that is there.
fn on_lock(
    walk: &Walk<'_>,
    claim: &Claim,
    lock: &LockSeen,
    queue: &Queue<'_>,
    front: &[&Claim],
    ahead: Option<u64>,
) -> Vec<Reason> {
    let what = Ref::new(lock.kind, &lock.metadata.namespace, &lock.metadata.name);
    let mut because = Vec::new();
    because.extend(hindrances(walk, lock));
    let fits = claim.permits <= lock.capacity;
    if !fits && lock.capacity > 0 {
        because.push(walk.reason(Cause::TooLarge { lock: what.clone(), asked: claim.permits, permits: lock.capacity }));
    }
    because.push(stands(walk, lock, queue));
    let goes = fits && lock.capacity > 0;
    if !goes {
        return because;
    }
    because.extend(in_front(walk, claim, front, ahead));
    let free = lock.capacity.saturating_sub(in_use(lock, queue));
    if queue.whole {
        let strict = lock.queueing == Queueing::StrictFIFO;
        match front.first() {
            Some(first) if strict && first.permits > free && claim.permits <= free => {
                because.push(walk.reason(Cause::Blocked { claim: reference(first), asked: first.permits, free }));
            }
            None if claim.permits > free && lock.kind == Kind::Semaphore => {
                because.push(walk.reason(Cause::Next { asked: claim.permits, free }));
            }
            _ if claim.permits <= free && front.iter().all(|one| !strict && one.permits > free) => {
                // In a folder it is about to take its turn, and nobody has to do anything for it.
                let due = walk.reason(Cause::Due { lock: what, passes: !front.is_empty() });
                because.extend((!walk.is_local).then_some(due));
                return because;
            }
            _ => {}
        }
    }
    because.push(estimate(walk, lock, queue, ahead));
    because
}

/// What holds the lock itself up.
fn hindrances(walk: &Walk<'_>, lock: &LockSeen) -> Vec<Reason> {
    let what = Ref::new(lock.kind, &lock.metadata.namespace, &lock.metadata.name);
    let mut because = Vec::new();
    if lock.capacity == 0 {
        let Metadata { namespace, name, .. } = &lock.metadata;
        let command = if walk.is_local {
            "a manifest that gives it some".to_owned()
        } else {
            format!("koncli semaphore resize {name} --permits N -n {namespace}")
        };
        because.push(walk.reason(Cause::Paused { lock: what.clone(), command }));
    }
    if let Some(state) = &lock.state
        && state.term != state.settled_term
    {
        let (term, settled_term) = (state.term, state.settled_term);
        because.push(walk.reason(Cause::TakenOver { lock: what, term, settled_term }));
    }
    because
}

fn in_front(walk: &Walk<'_>, claim: &Claim, front: &[&Claim], ahead: Option<u64>) -> Option<Reason> {
    let count = ahead.filter(|ahead| *ahead > 0)?;
    let one = |other: &&Claim| Front {
        claim: reference(other),
        holder: other.spec.holder.clone(),
        permits: other.permits,
        priority: other.spec.priority,
        passes: other.spec.priority > claim.spec.priority && is_later(other, claim),
    };
    let claims = front.iter().take(FRONT_SHOWN).map(one).collect();
    Some(walk.reason(Cause::InFront { count, claims }))
}

fn is_later(one: &Claim, other: &Claim) -> bool {
    let place = |claim: &Claim| (claim.status.ticket.unwrap_or(u64::MAX), claim.metadata.created);
    place(one) > place(other)
}

fn in_use(lock: &LockSeen, queue: &Queue<'_>) -> u64 {
    if queue.whole {
        queue.holders.iter().map(|claim| claim.permits).sum()
    } else {
        lock.state.as_ref().map_or(0, |state| state.summary.in_use)
    }
}

/// Where a lock stands, with its holders.
fn stands(walk: &Walk<'_>, lock: &LockSeen, queue: &Queue<'_>) -> Reason {
    let waiting = if queue.whole {
        queue.waiters.len() as u64
    } else {
        lock.state.as_ref().map_or(0, |state| state.summary.waiting)
    };
    let cause = Cause::Lock {
        lock: Ref::new(lock.kind, &lock.metadata.namespace, &lock.metadata.name),
        permits: lock.capacity,
        in_use: in_use(lock, queue),
        holders: queue.whole.then_some(queue.holders.len() as u64),
        waiting,
    };
    walk.reason(cause).because(holders(walk, queue))
}

fn holders(walk: &Walk<'_>, queue: &Queue<'_>) -> Vec<Reason> {
    let mut reasons: Vec<_> = queue.holders.iter().take(HOLDERS_SHOWN).map(|claim| holder(walk, claim)).collect();
    let rest = queue.holders.len().saturating_sub(HOLDERS_SHOWN) as u64;
    if rest > 0 {
        reasons.push(walk.reason(Cause::NotShown { count: Some(rest), of: "holders".into() }));
    }
    if queue.read && !queue.whole {
        reasons.push(walk.reason(Cause::NotShown { count: None, of: format!("claims than the first {CLAIMS}") }));
    }
    reasons
}

/// A holder, whether it lives, and what would free what it holds.
fn holder(walk: &Walk<'_>, claim: &Claim) -> Reason {
    let lock = Ref::new(claim.kind.lock(), &claim.metadata.namespace, &claim.lock);
    let revoking = claim.status.phase == Some(ClaimPhase::Revoking);
    let asked = claim.metadata.annotations.get(konductor_api::REVOKE_ANNOTATION);
    let revoked = revoking.then(|| asked.or(claim.status.message.as_ref()).cloned().unwrap_or_default());
    let ttl = claim.status.ttl.map(|ttl| ttl.0.as_secs());
    let holds = walk.reason(Cause::Holds {
        claim: reference(claim),
        holder: claim.spec.holder.clone(),
        lock: lock.clone(),
        permits: claim.permits,
        since: acquired(claim).map(At),
        renewed: claim.renewed().map(At),
        ttl_seconds: ttl,
        fencing_token: claim.status.fencing_token,
        revoked,
    });
    let (pod, fate, node_ready) = pod_of(walk, claim);
    let renewed = claim.renewed().max(acquired(claim));
    let expires = renewed.zip(claim.status.ttl).and_then(|(at, ttl)| at.checked_add(ttl.0).ok()).or(claim
        .status
        .expires_at
        .as_ref()
        .map(|at| at.0));
    let expiry = Way { how: How::Expiry, at: expires.map(At), command: None };
    let bare = |how| Way { how, at: None, command: None };
    let namespace = &claim.metadata.namespace;
    let command = format!("koncli revoke {lock} --holder {} -n {namespace}", quoted(&claim.spec.holder));
    // What was acquired by a command line has no process that would hear of it.
    let is_heard = !konductor::is_of_holder(&claim.spec.instance);
    let revocation = (!revoking && is_heard).then_some(Way { how: How::Revocation, at: None, command: Some(command) });
    let silent = fate == Some(Fate::Gone) || node_ready == Some(false);
    let is_whole = claim.spec.pod.as_ref().is_some_and(PodReference::is_whole);
    let ends = if is_whole { How::PodEnds } else { How::ContainerEnds };
    let ways = match fate {
        // Nothing expires in a folder, and nobody is asked to end.
        _ if walk.is_local => vec![bare(How::Release), bare(How::ProcessEnds)],
        Some(Fate::Ended) => vec![bare(How::Proof), expiry],
        // Nobody is there to release it or to hear of a revocation.
        _ if silent => vec![expiry],
        Some(Fate::Lives) => [bare(How::Release), bare(ends), expiry].into_iter().chain(revocation).collect(),
        _ => [bare(How::Release), expiry].into_iter().chain(revocation).collect(),
    };
    let freed = walk.reason(Cause::FreedBy { claim: reference(claim), ways });
    holds.because(pod).because([freed])
}

/// The pod of a claim, and whether it and its node live.
fn pod_of(walk: &Walk<'_>, claim: &Claim) -> (Vec<Reason>, Option<Fate>, Option<bool>) {
    let Some(pod) = &claim.spec.pod else { return (Vec::new(), None, None) };
    let namespace = pod.namespace_from(&claim.metadata.namespace);
    let found = walk.one::<PodSeen>(Kind::Pod, Some(namespace), &pod.name);
    let (fate, seen) = match found {
        Look::Dark => return (Vec::new(), None, None),
        Look::Absent => (Fate::Gone, None),
        Look::There(seen) => match pod_sight(&seen.metadata.uid, &seen.spec.death, &seen.status.death, pod) {
            PodSight::Gone => (Fate::Gone, None),
            PodSight::Ended => (Fate::Ended, Some(seen)),
            PodSight::Lives | PodSight::Unknown => (Fate::Lives, Some(seen)),
        },
    };
    // Of what has ended the node does not matter any more.
    let node = seen.filter(|_| fate == Fate::Lives).and_then(|seen| seen.spec.node.clone());
    let looked = node.as_ref().map(|node| walk.one::<NodeSeen>(Kind::Node, None, node));
    let (ready, gone) = match looked {
        Some(Look::There(node)) => (node.ready(), false),
        Some(Look::Absent) => (None, true),
        _ => (None, false),
    };
    let node_ready = if gone { Some(false) } else { ready.map(|(ready, _)| ready) };
    let mut reasons = vec![walk.reason(Cause::HolderPod {
        pod: Ref::new(Kind::Pod, namespace, &pod.name),
        container: (!pod.is_whole()).then(|| pod.container.clone()),
        fate,
        phase: seen.and_then(|seen| seen.status.phase.clone()),
        node: node.clone(),
        node_ready: ready.map(|(ready, _)| ready),
        node_since: ready.and_then(|(_, since)| since).map(At),
    })];
    if let Some(node) = node.filter(|_| gone) {
        reasons.push(walk.reason(Cause::NodeGone { node }));
    }
    (reasons, Some(fate), node_ready)
}

/// When the turn of who has so many in front may be, at the pace at which holders of this parent have ended so far.
fn estimate(walk: &Walk<'_>, lock: &LockSeen, queue: &Queue<'_>, ahead: Option<u64>) -> Reason {
    let pace = pace(walk, lock, queue);
    let seconds = pace.as_ref().zip(ahead).map(|(Basis { ended, seconds }, ahead)| {
        let turns = i128::from(ahead) + 1;
        i64::try_from(i128::from(*seconds) * turns / i128::from(*ended)).unwrap_or(i64::MAX)
    });
    walk.reason(Cause::Estimate { seconds, from: pace.filter(|_| seconds.is_some()) })
}

/// How many have ended in which time. Fencing tokens number the grants of a term: so the oldest and the newest grant
/// that are known tell how many there were in between, and the newest how many since the leader took the parent over;
/// and what was granted and is not held has ended.
fn pace(walk: &Walk<'_>, lock: &LockSeen, queue: &Queue<'_>) -> Option<Basis> {
    let known = queue.all.iter().filter_map(|claim| {
        let token = claim.status.fencing_token?;
        Some((token >> SEQUENCE_BITS, token & MAX_SEQUENCE, acquired(claim)?, claim.holds()))
    });
    let mut grants: Vec<_> = known.collect();
    // Of a term that is over, numbers say nothing of the next one.
    let term = grants.iter().map(|(term, ..)| *term).max()?;
    grants.retain(|(of, ..)| *of == term);
    grants.sort_unstable();
    let held = grants.iter().filter(|(.., held)| *held).count() as u64;
    let ((_, first, since, _), (_, last, ..)) = (grants.first()?, grants.last()?);
    let basis = |granted: u64, since: Timestamp| {
        let (ended, seconds) = (granted.checked_sub(held)?, walk.now.duration_since(since).as_secs());
        Some(Basis { ended, seconds }).filter(|basis| basis.ended > 0 && basis.seconds > 0)
    };
    basis(last - first + 1, *since).or_else(|| {
        let is_current = lock.state.as_ref().is_some_and(|state| state.term == term);
        let begun = operator::leads_since(walk).filter(|_| is_current)?;
        basis(last + 1, begun.max(created(&lock.metadata)?))
    })
}

/// What does not exist, and what may have been meant.
pub(super) fn missing(walk: &Walk<'_>, kind: Kind, namespace: &str, name: &str) -> Reason {
    let names = match kind {
        Kind::Semaphore | Kind::Lease => names::<LockSeen>(walk, kind, namespace),
        Kind::Barrier => names::<BarrierSeen>(walk, kind, namespace),
        Kind::Gate => names::<GateSeen>(walk, kind, namespace),
        Kind::Permit | Kind::LeaseRequest => names::<Claim>(walk, kind, namespace),
        Kind::Pod => names::<PodSeen>(walk, kind, namespace),
        Kind::Job => names::<JobSeen>(walk, kind, namespace),
        _ => Vec::new(),
    };
    let found = nearest(name, &names).map(str::to_owned);
    walk.reason(Cause::NotFound { object: Ref::new(kind, namespace, name), nearest: found })
}

/// The names of all objects of a kind, as far as they can be read.
fn names<T: Of + Named>(walk: &Walk<'_>, kind: Kind, namespace: &str) -> Vec<String> {
    let all = walk.tried::<T>(kind, Some(namespace), Which::Any(NAMES)).items;
    all.into_iter().map(|one| one.name().to_owned()).collect()
}

/// What bears on a lock: who holds it and who waits.
pub(super) fn explain_lock(walk: &Walk<'_>, kind: Kind, namespace: &str, name: &str) -> Vec<Reason> {
    let found = walk.one::<LockSeen>(kind, Some(namespace), name);
    let lock = match found {
        Look::Dark => return Vec::new(),
        Look::Absent => return vec![missing(walk, kind, namespace, name)],
        Look::There(lock) => lock,
    };
    let queue = queue(walk, kind, namespace, name);
    let mut reasons = operator::troubles(walk, !lock.is_answered());
    if !lock.is_answered() {
        reasons.push(walk.reason(Cause::Unanswered { object: Ref::new(kind, namespace, name) }));
    }
    reasons.extend(hindrances(walk, lock));
    reasons.push(stands(walk, lock, &queue));
    for claim in queue.waiters.iter().take(FRONT_SHOWN) {
        reasons.push(walk.reason(Cause::Waits {
            claim: reference(claim),
            holder: claim.spec.holder.clone(),
            lock: Ref::new(kind, namespace, name),
            permits: claim.permits,
            priority: claim.spec.priority,
            since: created(&claim.metadata).map(At),
            ahead: claim.status.ahead,
        }));
    }
    let rest = queue.waiters.len().saturating_sub(FRONT_SHOWN) as u64;
    if rest > 0 {
        reasons.push(walk.reason(Cause::NotShown { count: Some(rest), of: "waiters".into() }));
    }
    reasons
}
