//! The status of a claim as it is written, with its conditions, from the state that was decided. (Those of parents are
//! with their kinds.)

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};

use super::ClaimState;
use crate::{
    ClaimPhase, ClaimStatus, GoDuration,
    conditions::{self, condition},
};

/// The status of a claim in this state. `before` are the conditions that it had.
pub fn claim_status(state: &ClaimState, generation: i64, now: Timestamp, before: &[Condition]) -> ClaimStatus {
    let granted = state.phase == Some(ClaimPhase::Granted);
    let reason = if state.revoked { conditions::REVOKED } else { state.phase.map_or("Unseen", phase_name) };
    let message = state.message.clone().unwrap_or_default();
    ClaimStatus {
        phase: state.phase,
        ttl: state.ttl.map(GoDuration),
        term: (state.term > 0).then_some(state.term),
        parent_uid: state.parent.as_deref().map(Into::into),
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

fn phase_name(phase: ClaimPhase) -> &'static str {
    match phase {
        ClaimPhase::Pending => "Pending",
        ClaimPhase::Granted => "Granted",
        ClaimPhase::Revoking => "Revoking",
        ClaimPhase::Expired => "Expired",
    }
}
