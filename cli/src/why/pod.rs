//! Of pods and Jobs: what keeps them from running, all that they hold and wait for, and what they are yet to ask for.

use konductor_api::rendezvous::fact::{Fact, JobState};

use super::{
    barrier, gate,
    limits::{CLAIMS_OF_POD, PODS, PODS_SHOWN},
    lock::{self, explain_claim},
    reason::{At, Cause, Reason, Ref, Wish},
    seen::{ArrivalSeen, Claim, JobSeen, Kind, NodeSeen, PodSeen, created},
    wishes::wishes,
    world::{Look, Walk, Which},
};

/// What bears on a pod.
pub(super) fn explain_pod(walk: &Walk<'_>, namespace: &str, name: &str) -> Vec<Reason> {
    match walk.one::<PodSeen>(Kind::Pod, Some(namespace), name) {
        Look::Dark => Vec::new(),
        Look::Absent => vec![lock::missing(walk, Kind::Pod, namespace, name)],
        Look::There(pod) => of_pod(walk, pod),
    }
}

fn of_pod(walk: &Walk<'_>, pod: &PodSeen) -> Vec<Reason> {
    let namespace = &pod.metadata.namespace;
    let mut reasons = troubles(walk, pod);
    if reasons.is_empty() {
        reasons.push(stands(walk, pod));
    }
    let mut claims = Vec::new();
    let mut unread = Vec::new();
    for kind in [Kind::Permit, Kind::LeaseRequest] {
        let fields = Which::Fields(format!("spec.pod.uid={}", pod.metadata.uid), CLAIMS_OF_POD);
        let found = walk.several::<Claim>(kind, Some(namespace), fields);
        claims.extend(found.items);
        if !found.read {
            unread.push(kind);
        }
        if found.more {
            reasons.push(walk.reason(Cause::NotShown { count: None, of: format!("{}s of this pod", kind.name()) }));
        }
    }
    // What waits is what is asked about; then what is held, which others wait for.
    claims.sort_by_key(|claim| (!claim.waits(), !claim.holds(), claim.kind, claim.metadata.name.clone()));
    let claimed = |wish: &(Kind, String)| claims.iter().any(|one| (one.kind.lock(), &one.lock) == (wish.0, &wish.1));
    reasons.extend(claims.iter().map(|claim| explain_claim(walk, claim)));
    let fields = Which::Fields(format!("spec.holder={}", pod.metadata.name), CLAIMS_OF_POD);
    let found = walk.several::<ArrivalSeen>(Kind::Arrival, Some(namespace), fields);
    let arrivals = found.items;
    if !found.read {
        unread.push(Kind::Arrival);
    }
    for ArrivalSeen { metadata, spec } in &arrivals {
        let arrived =
            Cause::Arrived { holder: spec.holder.clone(), key: spec.key.clone(), at: created(metadata).map(At) };
        let barrier = Ref::new(Kind::Barrier, namespace, &spec.barrier);
        let at = Cause::State { object: barrier, state: "has its arrival".into(), since: None, message: None };
        reasons.push(walk.reason(at).because([walk.reason(arrived)]));
    }
    let over = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if !over {
        for container in &pod.spec.containers {
            for (wish, kind, name) in wishes(container) {
                if wish == Wish::Hold && claimed(&(kind, name.clone())) {
                    continue;
                }
                if wish == Wish::ArriveAt && arrivals.iter().any(|one| one.spec.barrier == name) {
                    continue;
                }
                let claimed = (wish == Wish::Hold && !unread.contains(&kind.claims())).then_some(false);
                let object = Ref::new(kind, namespace, &name);
                let wants = Cause::Wants { container: container.name.clone(), object, to: wish, claimed };
                reasons.push(walk.reason(wants).because(behind(walk, namespace, wish, kind, &name)));
            }
        }
    }
    let told = claims.len() + arrivals.len();
    // Of what could not be read it may hold anything.
    if told == 0 && unread.is_empty() && reasons.iter().all(|reason| !matches!(reason.cause, Cause::Wants { .. })) {
        reasons.push(walk.reason(Cause::Nothing { object: Ref::new(Kind::Pod, namespace, &pod.metadata.name) }));
    }
    reasons
}

/// Where that stands which a container is yet to ask for.
fn behind(walk: &Walk<'_>, namespace: &str, to: Wish, kind: Kind, name: &str) -> Vec<Reason> {
    match (kind, to) {
        (Kind::Gate, _) => gate::explain(walk, namespace, name, &mut Vec::new()),
        (Kind::Barrier, Wish::WaitFor) => barrier::explain(walk, namespace, name),
        (Kind::Barrier, _) => barrier::brief(walk, namespace, name),
        _ => lock::explain_lock(walk, kind, namespace, name),
    }
}

/// Why a pod does not run, for reasons that are none of Konductor's.
fn troubles(walk: &Walk<'_>, pod: &PodSeen) -> Vec<Reason> {
    let what = Ref::new(Kind::Pod, &pod.metadata.namespace, &pod.metadata.name);
    let mut reasons = Vec::new();
    if pod.status.phase.as_deref() == Some("Pending") {
        let placed = pod.status.conditions.iter().find(|one| one.kind == "PodScheduled" && one.status != "True");
        reasons.push(walk.reason(Cause::Pending {
            pod: what.clone(),
            reason: placed.and_then(|one| one.reason.clone()).or(pod.status.reason.clone()),
            message: placed.and_then(|one| one.message.clone()).or(pod.status.message.clone()),
            since: placed.and_then(super::seen::AnyCondition::since).or(created(&pod.metadata)).map(At),
        }));
    }
    for status in &pod.status.containers {
        let Some(waiting) = &status.state.waiting else { continue };
        let reason = waiting.reason.clone().unwrap_or_default();
        // Every container waits for a moment when its pod begins.
        if reason.is_empty() || matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
            continue;
        }
        reasons.push(walk.reason(Cause::Crashing {
            pod: what.clone(),
            container: status.name.clone(),
            reason,
            restarts: status.restart_count,
            last_exit_code: status.last_state.terminated.as_ref().map(|ended| ended.exit_code),
            message: waiting.message.clone(),
        }));
    }
    reasons
}

fn stands(walk: &Walk<'_>, pod: &PodSeen) -> Reason {
    let node = pod.spec.node.as_ref();
    let ready = node.and_then(|node| walk.one::<NodeSeen>(Kind::Node, None, node).there()).and_then(NodeSeen::ready);
    walk.reason(Cause::Pod {
        pod: Ref::new(Kind::Pod, &pod.metadata.namespace, &pod.metadata.name),
        phase: pod.status.phase.clone().unwrap_or_else(|| "of no phase".into()),
        node: node.cloned(),
        node_ready: ready.map(|(ready, _)| ready),
        message: pod.status.message.clone().or(pod.status.reason.clone()),
    })
}

/// Where a Job stands.
pub(super) fn job_stands(walk: &Walk<'_>, job: &JobSeen) -> Reason {
    let (since, message) = job.since();
    walk.reason(Cause::Job {
        job: Ref::new(Kind::Job, &job.metadata.namespace, &job.metadata.name),
        state: Fact::Job(job.state()).to_string(),
        active: job.status.active,
        succeeded: job.status.succeeded,
        failed: job.status.failed,
        since: since.map(At),
        message,
    })
}

/// What bears on a Job.
pub(super) fn explain_job(walk: &Walk<'_>, namespace: &str, name: &str) -> Vec<Reason> {
    let job = match walk.one::<JobSeen>(Kind::Job, Some(namespace), name) {
        Look::Dark => return Vec::new(),
        Look::Absent => return vec![lock::missing(walk, Kind::Job, namespace, name)],
        Look::There(job) => job,
    };
    let mut reasons = vec![job_stands(walk, job)];
    if job.state() == JobState::Suspended {
        let what = "somebody or something resumes it (spec.suspend)".to_owned();
        let command = format!("kubectl patch job {name} -n {namespace} -p '{{\"spec\":{{\"suspend\":false}}}}'");
        let object = Ref::new(Kind::Job, namespace, name);
        let state =
            Cause::State { object, state: "runs no pod until it is resumed".into(), since: None, message: None };
        reasons.push(walk.reason(state).because([walk.reason(Cause::MetBy { what, command: Some(command) })]));
    }
    let labelled = Which::Labels(format!("batch.kubernetes.io/job-name={name}"), PODS);
    let pods = walk.several::<PodSeen>(Kind::Pod, Some(namespace), labelled);
    let is_over = |pod: &&PodSeen| matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let (_over, mut live): (Vec<_>, Vec<_>) = pods.items.into_iter().partition(is_over);
    // Those that do not run come first.
    live.sort_by_key(|pod| (troubles(walk, pod).is_empty(), pod.metadata.name.clone()));
    for pod in live.iter().take(PODS_SHOWN) {
        let mut of = of_pod(walk, pod).into_iter();
        if let Some(first) = of.next() {
            reasons.push(first.because(of));
        }
    }
    let rest = live.len().saturating_sub(PODS_SHOWN) as u64;
    if rest > 0 {
        reasons.push(walk.reason(Cause::NotShown { count: Some(rest), of: "pods".into() }));
    }
    if pods.more {
        reasons.push(walk.reason(Cause::NotShown { count: None, of: format!("pods than the first {PODS}") }));
    }
    if live.is_empty() && pods.read && job.state() == JobState::Active {
        let object = Ref::new(Kind::Job, namespace, name);
        let state = "has no pod that runs or is to: its controller has not made one yet, or waits before the next try";
        reasons.push(walk.reason(Cause::State { object, state: state.into(), since: None, message: None }));
    }
    reasons
}
