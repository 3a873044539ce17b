//! Of gates: each condition, where its object stands, and what would meet it.

use jiff::Timestamp;
use konductor_api::{
    GATES_FROM_ANNOTATION, GateCondition, Match, Override, Pick, RendezvousPhase,
    arbiter::ParentState,
    conditions::{OPEN, SATURATED},
    rendezvous::{
        fact::{Dependency, Fact, JobState, Wanted},
        gate::allows,
    },
};
use konductor_cluster::object::Metadata;

use super::{
    barrier,
    limits::{GATES_DEEP, SELECTED, SELECTED_SHOWN},
    lock, operator,
    reason::{At, Cause, Reason, Ref},
    seen::{BarrierSeen, GateSeen, JobSeen, Kind, LockSeen},
    world::{Look, Of, Walk, Which},
};
use crate::trouble::quoted;

/// What bears on a gate. `path` are the gates through which the walk came here.
pub(super) fn explain(walk: &Walk<'_>, namespace: &str, name: &str, path: &mut Vec<Ref>) -> Vec<Reason> {
    let gate = match walk.one::<GateSeen>(Kind::Gate, Some(namespace), name) {
        Look::Dark => return Vec::new(),
        Look::Absent => return vec![lock::missing(walk, Kind::Gate, namespace, name)],
        Look::There(gate) => gate,
    };
    let what = Ref::new(Kind::Gate, namespace, name);
    let answered = gate.status.observed_generation == gate.metadata.generation;
    let is_open = answered && gate.status.phase == Some(RendezvousPhase::Open);
    let mut reasons = Vec::new();
    if !is_open && path.is_empty() {
        reasons.extend(operator::troubles(walk, !answered));
    }
    if !answered {
        reasons.push(walk.reason(Cause::Unanswered { object: what.clone() }));
    }
    if let Some(to) = gate.spec.r#override {
        let to = match to {
            Override::Open => "Open",
            Override::Closed => "Closed",
        };
        let command = match (gate.spec.conditions.as_slice(), to) {
            ([], "Open") => format!("koncli gate close {name} -n {namespace}"),
            ([], _) => format!("koncli gate open {name} -n {namespace}"),
            _ => format!("koncli gate auto {name} -n {namespace}"),
        };
        reasons.push(walk.reason(Cause::Overridden { gate: what.clone(), to: to.into(), command }));
    }
    path.push(what);
    let because: Vec<_> =
        (0..gate.spec.conditions.len()).map(|index| condition(walk, gate, index, answered, path)).collect();
    path.pop();
    reasons.push(stands(walk, gate).because(because));
    reasons
}

fn stands(walk: &Walk<'_>, gate: &GateSeen) -> Reason {
    let GateSeen { metadata, spec, status } = gate;
    let since = status.waiting_since.as_ref().map(|at| at.0);
    let waits = status.phase == Some(RendezvousPhase::Waiting) && spec.r#override.is_none();
    let fails = since.zip(spec.timeout).filter(|_| waits).and_then(|(at, timeout)| at.checked_add(timeout.0).ok());
    walk.reason(Cause::Gate {
        gate: Ref::new(Kind::Gate, &metadata.namespace, &metadata.name),
        phase: format!("{:?}", status.phase.unwrap_or(RendezvousPhase::Waiting)),
        met: status.met.unwrap_or(0).into(),
        total: spec.conditions.len() as u64,
        any: spec.r#match == Match::Any,
        since: since.map(At),
        fails_at: fails.map(At),
    })
}

fn kind_of(dependency: Dependency) -> Kind {
    match dependency {
        Dependency::Job => Kind::Job,
        Dependency::Semaphore => Kind::Semaphore,
        Dependency::Barrier => Kind::Barrier,
        Dependency::Lease => Kind::Lease,
        Dependency::Gate => Kind::Gate,
    }
}

fn condition(walk: &Walk<'_>, gate: &GateSeen, index: usize, answered: bool, path: &mut Vec<Ref>) -> Reason {
    let gates_of = &gate.metadata.namespace;
    let condition = &gate.spec.conditions[index];
    let GateCondition { kind, name, selector, pick, namespace, state, value } = condition;
    let elsewhere = namespace.as_deref().filter(|namespace| namespace != gates_of);
    let status = gate.status.condition_statuses.get(index).filter(|_| answered);
    let which = match (name, selector) {
        (Some(name), _) => format!("{} {name}", kind_of(*kind).name()),
        (None, Some(selector)) if *pick == Some(Pick::Newest) => {
            format!("the newest {} with {selector}", kind_of(*kind).name())
        }
        (None, selector) => {
            let selector = selector.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{}s with {selector}", kind_of(*kind).name())
        }
    };
    let place = elsewhere.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let value = value.map(|value| format!(" ({value})")).unwrap_or_default();
    let verb = if name.is_none() && *pick != Some(Pick::Newest) { "are" } else { "is" };
    let reason = walk.reason(Cause::Condition {
        index: index as u64,
        met: status.map(|status| status.met),
        wanted: format!("{which}{place} {verb} to be {state}{value}"),
        found: status.map(|status| status.message.clone()),
    });
    let at = elsewhere.unwrap_or(gates_of);
    if elsewhere.is_some()
        && let Some(closed) = closed(walk, at, gates_of)
    {
        return reason.because([closed]);
    }
    let is_met = status.is_some_and(|status| status.met);
    let because = match (name, selector) {
        (Some(name), _) => named(walk, condition, at, name, is_met, path),
        (None, Some(selector)) => selected(walk, condition, at, &selector.to_string(), is_met),
        (None, None) => Vec::new(),
    };
    reason.because(because)
}

/// That a namespace does not let gates of this one look.
fn closed(walk: &Walk<'_>, namespace: &str, gates_of: &str) -> Option<Reason> {
    let annotation = match walk.one::<Metadata>(Kind::Namespace, None, namespace) {
        Look::There(metadata) => metadata.annotations.get(GATES_FROM_ANNOTATION),
        Look::Absent => {
            let object = Ref::new(Kind::Namespace, "", namespace);
            return Some(walk.reason(Cause::NotFound { object, nearest: None }));
        }
        Look::Dark => return None,
    };
    if allows(annotation.map(String::as_str), gates_of) {
        return None;
    }
    let list = annotation.filter(|list| !list.is_empty()).map(|list| format!("{list},")).unwrap_or_default();
    let value = quoted(&format!("{list}{gates_of}"));
    let command = format!("kubectl annotate namespace {namespace} --overwrite {GATES_FROM_ANNOTATION}={value}");
    let (namespace, gates_of) = (namespace.to_owned(), gates_of.to_owned());
    Some(walk.reason(Cause::NamespaceClosed { namespace, gates_of, command }))
}

/// Where an object stands: in words, since when, and why.
struct Standing {
    object: Ref,
    state: String,
    since: Option<Timestamp>,
    message: Option<String>,
}

impl Standing {
    fn told(self, walk: &Walk<'_>) -> Reason {
        let Self { object, state, since, message } = self;
        walk.reason(Cause::State { object, state, since: since.map(At), message })
    }
}

fn changed(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition], kind: &str) -> Option<Timestamp> {
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.last_transition_time.0)
}

fn job_standing(job: &JobSeen) -> Standing {
    let (since, message) = job.since();
    let object = Ref::new(Kind::Job, &job.metadata.namespace, &job.metadata.name);
    Standing { object, state: Fact::Job(job.state()).to_string(), since, message }
}

fn lock_standing(lock: &LockSeen) -> Standing {
    let object = Ref::new(lock.kind, &lock.metadata.namespace, &lock.metadata.name);
    let state = match &lock.state {
        None => "has not been seen by the operator yet".to_owned(),
        Some(ParentState { summary, .. }) if lock.kind == Kind::Lease => match summary.holders.first() {
            Some(holder) => format!("is held by {holder}"),
            None => "is available".into(),
        },
        Some(_) if lock.capacity == 0 => "is paused".into(),
        Some(ParentState { summary, .. }) => {
            format!("has {} of {} permits free", summary.available, lock.capacity)
        }
    };
    Standing { object, state, since: changed(&lock.conditions, SATURATED), message: None }
}

fn named(
    walk: &Walk<'_>,
    condition: &GateCondition,
    namespace: &str,
    name: &str,
    is_met: bool,
    path: &mut Vec<Ref>,
) -> Vec<Reason> {
    let kind = kind_of(condition.kind);
    let mut needed = (!is_met).then(|| met_by(walk, condition, namespace, Some(name)));
    let mut reasons = Vec::new();
    match kind {
        Kind::Job => {
            if let Some(job) = look::<JobSeen>(walk, kind, namespace, name, &mut reasons) {
                reasons.push(job_standing(job).told(walk));
                let ended = matches!(job.state(), JobState::Complete | JobState::Failed);
                if ended && !is_met {
                    // A Job that has ended stays as it is.
                    let what = format!("job/{name} is deleted, made anew and then {}", condition.state);
                    needed = Some(walk.reason(Cause::MetBy { what, command: None }));
                }
            }
        }
        Kind::Semaphore | Kind::Lease => match look::<LockSeen>(walk, kind, namespace, name, &mut reasons) {
            Some(seen) if is_met => reasons.push(lock_standing(seen).told(walk)),
            Some(seen) => {
                reasons.push(lock_standing(seen).told(walk));
                if matches!(condition.state, Wanted::Available) {
                    reasons.extend(lock::explain_lock(walk, kind, namespace, name));
                }
            }
            None => {}
        },
        Kind::Barrier => match look::<BarrierSeen>(walk, kind, namespace, name, &mut reasons) {
            Some(_) if is_met || condition.state == Wanted::Closed => {
                reasons.extend(barrier::brief(walk, namespace, name));
            }
            Some(_) => reasons.extend(barrier::explain(walk, namespace, name)),
            None => {}
        },
        _ => reasons.extend(of_gate(walk, namespace, name, is_met, path)),
    }
    reasons.extend(needed);
    reasons
}

/// The object, or that there is none.
fn look<'a, T: Of>(
    walk: &Walk<'a>,
    kind: Kind,
    namespace: &str,
    name: &str,
    reasons: &mut Vec<Reason>,
) -> Option<&'a T> {
    let look = walk.one::<T>(kind, Some(namespace), name);
    if matches!(look, Look::Absent) {
        reasons.push(lock::missing(walk, kind, namespace, name));
    }
    look.there()
}

/// Another gate that a gate waits for: the walk goes on there, unless it has been there before.
fn of_gate(walk: &Walk<'_>, namespace: &str, name: &str, is_met: bool, path: &mut Vec<Ref>) -> Vec<Reason> {
    let other = Ref::new(Kind::Gate, namespace, name);
    if let Some(at) = path.iter().position(|gate| *gate == other) {
        return vec![walk.reason(Cause::Cycle { gates: path[at..].to_vec() })];
    }
    if is_met || path.len() >= GATES_DEEP {
        let seen = walk.one::<GateSeen>(Kind::Gate, Some(namespace), name);
        return match seen {
            Look::There(gate) => {
                let since = changed(&gate.status.conditions, OPEN);
                let phase = gate.status.phase;
                let state = Fact::Rendezvous(phase).to_string();
                vec![Standing { object: other, state, since, message: None }.told(walk)]
            }
            Look::Absent => vec![lock::missing(walk, Kind::Gate, namespace, name)],
            Look::Dark => Vec::new(),
        };
    }
    explain(walk, namespace, name, path)
}

fn selected(walk: &Walk<'_>, condition: &GateCondition, namespace: &str, selector: &str, is_met: bool) -> Vec<Reason> {
    let kind = kind_of(condition.kind);
    let which = || Which::Labels(selector.to_owned(), SELECTED);
    let at = Some(namespace);
    let generation = |metadata: &Metadata| metadata.generation;
    let (mut found, more): (Vec<(i64, Fact, Standing)>, bool) = match kind {
        Kind::Job => {
            let jobs = walk.several::<JobSeen>(kind, at, which());
            let one = |job: &&JobSeen| (job.metadata.created, Fact::Job(job.state()), job_standing(job));
            (jobs.items.iter().map(one).collect(), jobs.more)
        }
        Kind::Semaphore | Kind::Lease => {
            let locks = walk.several::<LockSeen>(kind, at, which());
            let one = |lock: &&LockSeen| (lock.metadata.created, lock_fact(lock), lock_standing(lock));
            (locks.items.iter().map(one).collect(), locks.more)
        }
        Kind::Barrier => {
            let barriers = walk.several::<BarrierSeen>(kind, at, which());
            let one = |BarrierSeen { metadata, status, .. }: &&BarrierSeen| {
                let fact = Fact::of(Some(status), generation(metadata));
                let ended = status.opened_at.as_ref().or(status.failed_at.as_ref()).map(|at| at.0);
                let object = Ref::new(kind, namespace, &metadata.name);
                (metadata.created, fact, Standing { object, state: fact.to_string(), since: ended, message: None })
            };
            (barriers.items.iter().map(one).collect(), barriers.more)
        }
        _ => {
            let gates = walk.several::<GateSeen>(kind, at, which());
            let one = |GateSeen { metadata, status, .. }: &&GateSeen| {
                let fact = Fact::of(Some(status), generation(metadata));
                let object = Ref::new(kind, namespace, &metadata.name);
                let since = changed(&status.conditions, OPEN);
                (metadata.created, fact, Standing { object, state: fact.to_string(), since, message: None })
            };
            (gates.items.iter().map(one).collect(), gates.more)
        }
    };
    if condition.pick == Some(Pick::Newest) {
        found.sort_by_key(|(created, ..)| std::cmp::Reverse(*created));
        found.truncate(1);
    } else {
        let permits = condition.value.filter(|_| kind == Kind::Semaphore).unwrap_or(1);
        found.retain(|(_, fact, _)| !fact.is(condition.state, permits.into()));
    }
    let rest = found.len().saturating_sub(SELECTED_SHOWN) as u64;
    let mut reasons: Vec<_> =
        found.into_iter().take(SELECTED_SHOWN).map(|(_, _, standing)| standing.told(walk)).collect();
    if rest > 0 {
        reasons.push(walk.reason(Cause::NotShown { count: Some(rest), of: format!("{}s", kind.name()) }));
    }
    if more {
        let of = format!("{}s than the first {SELECTED}", kind.name());
        reasons.push(walk.reason(Cause::NotShown { count: None, of }));
    }
    if !is_met {
        reasons.push(met_by(walk, condition, namespace, None));
    }
    reasons
}

fn lock_fact(lock: &LockSeen) -> Fact {
    use konductor_api::{LeasePhase, SemaphorePhase};
    let state = lock.state.as_ref().filter(|_| lock.is_answered());
    if lock.kind == Kind::Lease {
        let phase = |state: &ParentState| {
            if state.summary.in_use > 0 { LeasePhase::Held } else { LeasePhase::Available }
        };
        return Fact::Lease(state.map(phase));
    }
    Fact::Semaphore(state.map(|state| match (lock.capacity, state.summary.available) {
        (0, _) => (SemaphorePhase::Paused, 0),
        (_, 0) => (SemaphorePhase::Full, 0),
        (_, free) => (SemaphorePhase::Available, free),
    }))
}

/// What would meet a condition.
fn met_by(walk: &Walk<'_>, condition: &GateCondition, namespace: &str, name: Option<&str>) -> Reason {
    let what = match name {
        Some(name) => format!("{}/{name}", kind_of(condition.kind).name()),
        None if condition.pick == Some(Pick::Newest) => "the newest of them".into(),
        None => condition
            .value
            .filter(|_| condition.kind != Dependency::Semaphore)
            .map_or_else(|| "every one of them".to_owned(), |least| format!("{least} of them (at least)")),
    };
    let (does, command) = match (condition.state, condition.kind) {
        (Wanted::Complete, _) => ("has succeeded (condition Complete)".into(), None),
        (Wanted::Failed, _) => ("has failed for good (condition Failed)".into(), None),
        (Wanted::Active, _) => ("is neither finished nor suspended".into(), None),
        (Wanted::Open, Dependency::Gate) => {
            let open = name.map(|name| format!("koncli gate open {name} -n {namespace}"));
            ("is open, by its conditions or by hand".into(), open)
        }
        (Wanted::Open, _) => ("is open".into(), None),
        (Wanted::Closed, _) => ("is there and not open".into(), None),
        (Wanted::Acquired, _) => ("is held by somebody".into(), None),
        (Wanted::Available, Dependency::Semaphore) => {
            (format!("has {} or more permits free", condition.value.unwrap_or(1)), None)
        }
        (Wanted::Available, _) => ("is held by nobody".into(), None),
        (Wanted::Full, _) => ("has no permit free".to_owned(), None),
    };
    walk.reason(Cause::MetBy { what: format!("{what} {does}"), command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dependency_is_a_kind_that_can_be_asked_about() {
        for dependency in Dependency::ALL {
            assert!(Kind::SUBJECTS.contains(&kind_of(dependency)), "{dependency}");
        }
    }
}
