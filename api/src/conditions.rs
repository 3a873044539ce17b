//! Condition types and reasons, all in one place, and how a condition's transition time is kept.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The spec was accepted. True even when contended, so that nothing that waits for readiness gets stuck on a full
/// queue.
pub const READY: &str = "Ready";
/// Nothing more can be granted now.
pub const SATURATED: &str = "Saturated";
/// The claim is granted: `kubectl wait --for=condition=Granted permit/x` (or `leaserequest/x`).
pub const GRANTED: &str = "Granted";

/// What is waited for is open: `kubectl wait --for=condition=Open barrier/x` (or `gate/x`).
pub const OPEN: &str = "Open";
/// What is waited for will not open by itself any more.
pub const FAILED: &str = "Failed";

/// Reason of [`READY`]: the operator has accepted the spec.
pub const ACCEPTED: &str = "Accepted";
/// Reason of [`SATURATED`]: all permits are in use.
pub const FULL: &str = "Full";
/// Reason of [`SATURATED`]: the lease has its holder.
pub const HELD: &str = "Held";
/// Reason of [`SATURATED`]: something is free.
pub const AVAILABLE: &str = "Available";
/// Reason of [`SATURATED`]: the semaphore has no permits at all.
pub const PAUSED: &str = "Paused";
/// Reason of [`OPEN`] and [`FAILED`]: it is not open, and has not failed.
pub const WAITING: &str = "Waiting";
/// Reason of [`OPEN`]: all that are expected have arrived.
pub const ARRIVED: &str = "Arrived";
/// Reason of [`OPEN`]: the timeout has passed, and a quorum has arrived.
pub const QUORUM: &str = "Quorum";
/// Reason of [`OPEN`]: the gate's conditions are met.
pub const MET: &str = "Met";
/// Reason of [`OPEN`]: somebody has overridden the gate's conditions.
pub const OVERRIDDEN: &str = "Overridden";
/// Reason of [`FAILED`]: the timeout has passed.
pub const TIMED_OUT: &str = "TimedOut";
/// Reason of an event: a holder or waiter was found dead or silent, and its claim is over.
pub const EXPIRED: &str = "Expired";
/// Reason of [`GRANTED`]: the claim is over because somebody wanted it revoked before its turn came.
pub const REVOKED: &str = "Revoked";
/// Reason of an event: a holder was asked to end.
pub const REVOKING: &str = "Revoking";

/// One condition; its transition time is that of `before` when the status is unchanged.
pub fn condition(
    kind: &str,
    status: bool,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
    before: &[Condition],
) -> Condition {
    let status = if status { "True" } else { "False" };
    let unchanged = before.iter().find(|c| c.type_ == kind && c.status == status);
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: unchanged.map_or(Time(now), |c| c.last_transition_time.clone()),
    }
}

/// [`READY`], of a parent whose spec of this generation the operator has taken in.
pub fn accepted(generation: Option<i64>, now: Timestamp, before: &[Condition]) -> Condition {
    condition(READY, true, ACCEPTED, "accepted".into(), generation, now, before)
}
