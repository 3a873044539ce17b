//! Of barriers: who has arrived, and who has not as far as Jobs tell.

use jiff::Timestamp;
use konductor_api::{GoDuration, RendezvousPhase, limits::CREATION_GRAIN, rendezvous::fact::Fact};

use super::{
    limits::{ARRIVALS, ARRIVALS_SHOWN, JOBS, MISSING_SHOWN},
    lock, operator,
    reason::{At, Cause, Reason, Ref, Wish},
    seen::{ArrivalSeen, BarrierSeen, JobSeen, Kind, created},
    wishes::wishes,
    world::{Look, Several, Walk, Which},
};

/// What bears on a barrier.
pub(super) fn explain(walk: &Walk<'_>, namespace: &str, name: &str) -> Vec<Reason> {
    let barrier = match walk.one::<BarrierSeen>(Kind::Barrier, Some(namespace), name) {
        Look::Dark => return Vec::new(),
        Look::Absent => return vec![lock::missing(walk, Kind::Barrier, namespace, name)],
        Look::There(barrier) => barrier,
    };
    let mut reasons = hindrances(walk, barrier);
    let arrivals = arrivals(walk, namespace, name);
    let stands = stands(walk, barrier, &arrivals.items);
    let waits = barrier.status.phase != Some(RendezvousPhase::Open);
    let mut because = Vec::new();
    // Who is missing is what is asked; who is there comes after.
    if waits {
        because.extend(missing(walk, barrier, &arrivals));
    }
    because.extend(arrivals.items.iter().take(ARRIVALS_SHOWN).map(|one| {
        walk.reason(Cause::Arrived {
            holder: one.spec.holder.clone(),
            key: one.spec.key.clone(),
            at: created(&one.metadata).map(At),
        })
    }));
    let rest = arrivals.items.len().saturating_sub(ARRIVALS_SHOWN) as u64;
    if rest > 0 {
        because.push(walk.reason(Cause::NotShown { count: Some(rest), of: "arrivals".into() }));
    }
    if arrivals.more {
        because.push(walk.reason(Cause::NotShown { count: None, of: format!("arrivals than the first {ARRIVALS}") }));
    }
    reasons.push(stands.because(because));
    reasons
}

/// Where it stands, and no more.
pub(super) fn brief(walk: &Walk<'_>, namespace: &str, name: &str) -> Vec<Reason> {
    match walk.one::<BarrierSeen>(Kind::Barrier, Some(namespace), name) {
        Look::Dark => Vec::new(),
        Look::Absent => vec![lock::missing(walk, Kind::Barrier, namespace, name)],
        Look::There(barrier) => vec![stands(walk, barrier, &[])],
    }
}

fn arrivals<'a>(walk: &Walk<'a>, namespace: &str, name: &str) -> Several<&'a ArrivalSeen> {
    let fields = Which::Fields(format!("spec.barrier={name}"), ARRIVALS);
    let mut arrivals = walk.several::<ArrivalSeen>(Kind::Arrival, Some(namespace), fields);
    arrivals.items.retain(|one| !one.metadata.deleting);
    arrivals.items.sort_by_key(|one| (one.metadata.created, one.metadata.name.clone()));
    arrivals
}

fn hindrances(walk: &Walk<'_>, barrier: &BarrierSeen) -> Vec<Reason> {
    let answered = barrier.status.observed_generation == barrier.metadata.generation;
    let waits = barrier.status.phase != Some(RendezvousPhase::Open);
    let mut reasons = if waits || !answered { operator::troubles(walk, !answered) } else { Vec::new() };
    if !answered {
        let object = Ref::new(Kind::Barrier, &barrier.metadata.namespace, &barrier.metadata.name);
        reasons.push(walk.reason(Cause::Unanswered { object }));
    }
    reasons
}

fn after(at: Timestamp, wait: GoDuration) -> Option<Timestamp> {
    at.checked_add(wait.0).ok()
}

fn stands(walk: &Walk<'_>, barrier: &BarrierSeen, arrivals: &[&ArrivalSeen]) -> Reason {
    let BarrierSeen { metadata, spec, status } = barrier;
    let phase = status.phase.unwrap_or(RendezvousPhase::Waiting);
    let ended = match phase {
        RendezvousPhase::Waiting => None,
        RendezvousPhase::Open => status.opened_at.as_ref(),
        RendezvousPhase::Failed => status.failed_at.as_ref(),
    };
    let ended = ended.map(|at| at.0);
    // As the operator counts it: from the end of the second in which the first arrived, and not before the barrier was.
    let first = arrivals.first().and_then(|one| created(&one.metadata));
    let first =
        first.and_then(|at| after(at, GoDuration(CREATION_GRAIN))).max(created(metadata).filter(|_| first.is_some()));
    let waits = phase == RendezvousPhase::Waiting;
    let deadline = first.zip(spec.timeout).filter(|_| waits).and_then(|(at, timeout)| after(at, timeout));
    let next = ended.zip(spec.reset_after).and_then(|(at, wait)| after(at, wait));
    walk.reason(Cause::Barrier {
        barrier: Ref::new(Kind::Barrier, &metadata.namespace, &metadata.name),
        phase: format!("{phase:?}"),
        arrived: status.arrived.unwrap_or(0),
        expected: spec.expected.into(),
        quorum: spec.quorum.filter(|_| waits).map(Into::into),
        round: status.round,
        since: ended.map(At),
        deadline: deadline.map(At),
        next_round: next.map(At),
    })
}

/// Who has not arrived, of the Jobs whose templates say that they arrive here.
fn missing(walk: &Walk<'_>, barrier: &BarrierSeen, arrivals: &Several<&ArrivalSeen>) -> Vec<Reason> {
    let namespace = &barrier.metadata.namespace;
    let jobs = walk.several::<JobSeen>(Kind::Job, Some(namespace), Which::Any(JOBS));
    if !jobs.read || !arrivals.read || arrivals.more {
        return Vec::new();
    }
    let (mut reasons, mut shown, mut told) = (Vec::new(), 0_usize, 0);
    for job in jobs.items {
        let is_to_arrive = |one: &&super::seen::Container| {
            wishes(one).contains(&(Wish::ArriveAt, Kind::Barrier, barrier.metadata.name.clone()))
        };
        let containers = job.containers().filter(is_to_arrive).count() as u64;
        if containers == 0 {
            continue;
        }
        let expected = job.spec.completions.unwrap_or(1) * containers;
        let arrived = arrivals.items.iter().filter(|one| is_of(job, one)).count() as u64;
        let left = expected.saturating_sub(arrived);
        if left == 0 {
            continue;
        }
        told += left;
        shown += 1;
        if shown <= MISSING_SHOWN {
            reasons.push(walk.reason(Cause::NotArrived {
                job: Ref::new(Kind::Job, namespace, &job.metadata.name),
                state: Fact::Job(job.state()).to_string(),
                arrived,
                expected,
            }));
        }
    }
    if shown > MISSING_SHOWN {
        let count = Some((shown - MISSING_SHOWN) as u64);
        reasons.push(walk.reason(Cause::NotShown { count, of: "Jobs that have not arrived".into() }));
    }
    if jobs.more {
        reasons.push(walk.reason(Cause::NotShown { count: None, of: format!("Jobs than the first {JOBS}") }));
    }
    let left = u64::from(barrier.spec.expected).saturating_sub(barrier.status.arrived.unwrap_or(0));
    if let Some(count) = left.checked_sub(told).filter(|count| *count > 0) {
        reasons.push(walk.reason(Cause::NotKnown { count }));
    }
    reasons
}

/// Whether an arrival is one of this Job: by its key, which begins with the Job's UID where that was said, or by its
/// holder, which is a pod's name where nothing else was said.
fn is_of(job: &JobSeen, arrival: &ArrivalSeen) -> bool {
    let of_key = arrival.spec.key.strip_prefix(job.metadata.uid.as_str());
    let by_key = of_key.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let of_pod = arrival.spec.holder.strip_prefix(job.metadata.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
    // `NAME-RANDOM`, or `NAME-INDEX-RANDOM` of an Indexed Job: five characters at the end.
    let is_pod = of_pod.is_some_and(|rest| match rest.rsplit_once('-') {
        None => rest.len() == 5,
        Some((index, random)) => random.len() == 5 && index.bytes().all(|digit| digit.is_ascii_digit()),
    });
    by_key || is_pod
}
