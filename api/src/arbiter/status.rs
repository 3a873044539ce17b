//! Statuses as they are written, with their conditions, from the states that were decided.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};

use super::{ClaimState, ParentState};
use crate::{
    ClaimPhase, ClaimStatus, GoDuration, SemaphorePhase, SemaphoreStatus,
    conditions::{self, condition},
};

/// The status of a claim in this state. `before` are the conditions that it had.
pub fn claim_status(state: &ClaimState, generation: i64, now: Timestamp, before: &[Condition]) -> ClaimStatus {
    let granted = state.phase == Some(ClaimPhase::Granted);
    let reason = state.phase.map_or("Unseen", phase_name);
    let message = state.message.clone().unwrap_or_default();
    ClaimStatus {
        phase: state.phase,
        ttl: state.ttl.map(GoDuration),
        term: (state.term > 0).then_some(state.term),
        fencing_token: state.token,
        ticket: state.ticket,
        ahead: state.ahead,
        acquired_at: state.acquired_at.map(MicroTime),
        expires_at: state.expires_at.map(MicroTime),
        message: state.message.clone(),
        observed_generation: Some(generation),
        conditions: vec![condition(conditions::GRANTED, granted, reason, message, Some(generation), now, before)],
    }
}

/// The status of a semaphore of so many permits in this state. `before` are the conditions that it had.
pub fn semaphore_status(state: &ParentState, permits: u64, now: Timestamp, before: &[Condition]) -> SemaphoreStatus {
    let summary = &state.summary;
    let phase = match (permits, summary.available) {
        (0, _) => SemaphorePhase::Paused,
        (_, 0) => SemaphorePhase::Full,
        _ => SemaphorePhase::Available,
    };
    let (saturated, reason) = match phase {
        SemaphorePhase::Available => (false, conditions::AVAILABLE),
        SemaphorePhase::Full => (true, conditions::FULL),
        SemaphorePhase::Paused => (true, conditions::PAUSED),
    };
    let counts = format!("{} of {permits} permits in use, {} waiting", summary.in_use, summary.waiting);
    let generation = summary.generation;
    SemaphoreStatus {
        phase: Some(phase),
        in_use: Some(summary.in_use),
        available: Some(summary.available),
        waiting: Some(summary.waiting),
        holders: summary.holders.clone(),
        term: Some(state.term),
        settled_term: Some(state.settled_term),
        observed_generation: generation,
        conditions: vec![
            condition(conditions::READY, true, conditions::ACCEPTED, "accepted".into(), generation, now, before),
            condition(conditions::SATURATED, saturated, reason, counts, generation, now, before),
        ],
    }
}

fn phase_name(phase: ClaimPhase) -> &'static str {
    match phase {
        ClaimPhase::Pending => "Pending",
        ClaimPhase::Granted => "Granted",
        ClaimPhase::Revoking => "Revoking",
        ClaimPhase::Expired => "Expired",
    }
}
