//! When a barrier opens, fails, and begins its next round.
//!
//! A round ends once: [`Open`](RendezvousPhase::Open) when all that are expected have arrived, or a quorum of them when
//! the timeout has passed; [`Failed`](RendezvousPhase::Failed) when the timeout has passed otherwise. The end is final:
//! late or withdrawn arrivals change the figures, not the phase. Only an edit of the spec decides the round anew, and
//! `resetAfter` begins the next one, also after an edit: once it is over, the arrivals of the round are being deleted,
//! and those that are left say nothing of it.
//!
//! # Which round an arrival belongs to
//! The one in which it is there. Nothing in an arrival says so, and nothing has to be written to it: the next round
//! begins with a write that is only made once every arrival of the round before is deleted
//! ([`Change::NextRound`](super::Change)). So whatever is there belongs to the round that the status names, whoever
//! looks and whenever, and a name that follows from barrier and key is free again in each round. An operator that ends
//! halfway leaves the round as it was, and the next one does it over.
//!
//! What is watched may be older than the status (two watches are not in step), so the count of a watch says only when
//! to look: a phase is written after arrivals were counted by a consistent read, on the version that this count was
//! for. Nothing that is decided rests on a figure in the status but the phase, its time, and the round.
//!
//! # Time
//! `timeout` and `resetAfter` have passed when they have passed twice: by the wall clock since the time that the API
//! server knows, and by the operator's own clock since it saw what that time tells ([`Since`]). A time that is still to
//! come tells nothing, as some clock was wrong: then the operator's own counts alone.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::{Change, Plan, RendezvousPhase, Since, Verdict, Write, after, later};
use crate::{BarrierSpec, BarrierStatus, GoDuration, arbiter::Now, conditions, limits::CREATION_GRAIN};

/// A barrier and who has arrived.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is wanted.
    pub spec: &'a BarrierSpec,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// When the barrier was created.
    pub created: Timestamp,
    /// The status as it is.
    pub status: Option<&'a BarrierStatus>,
    /// Different keys that have arrived.
    pub arrived: u64,
    /// When the first of those that are there was created.
    pub first: Option<Timestamp>,
    /// Since when that one has been there, by the operator's own clock.
    pub first_seen: Option<Since>,
    /// Since when the round has ended, as the status says, by the operator's own clock.
    pub end_seen: Option<Since>,
}

/// What the status should be.
pub fn decide(view: &View<'_>, now: Now) -> Plan<BarrierStatus> {
    let accepted = view.status.is_some_and(|status| status.observed_generation == view.generation);
    match view.status.and_then(|status| Some((status, ended(status, now)?))) {
        Some((status, at)) if accepted || may_be_clearing(view, at, now) => keep(view, status, at, now),
        _ => evaluate(view, accepted, now),
    }
}

/// When the round ended, if it did. An end without a time that can be read is final like any other: it counts from now.
fn ended(status: &BarrierStatus, now: Now) -> Option<Timestamp> {
    let told = match status.phase? {
        RendezvousPhase::Waiting => return None,
        RendezvousPhase::Open => &status.opened_at,
        RendezvousPhase::Failed => &status.failed_at,
    };
    Some(told.as_ref().map_or(now.wall, |told| told.0))
}

/// Whether arrivals of the round that has ended may have been deleted for the next one. By the wall clock alone: another
/// operator may have begun with it that has seen the end for longer.
fn may_be_clearing(view: &View<'_>, ended: Timestamp, now: Now) -> bool {
    view.spec.reset_after.is_some_and(|wait| after(ended, wait) <= now.wall)
}

/// The round has ended and stays as it ended, until it is time for the next one.
fn keep(view: &View<'_>, before: &BarrierStatus, ended: Timestamp, clocks: Now) -> Plan<BarrierStatus> {
    let now = clocks.wall;
    let next = view.spec.reset_after.map(|wait| later(ended, view.end_seen, wait, clocks));
    if next.is_some_and(|next| next <= now) {
        let round = round(view) + 1;
        let verdict = Verdict::new(RendezvousPhase::Waiting, conditions::WAITING, waiting(view.spec, 0));
        let empty = View { arrived: 0, first: None, ..*view };
        let status = status(&empty, &verdict, round, now);
        return Plan { write: Some(Write { change: Change::NextRound, status }), look_again: None };
    }
    let mut status = BarrierStatus { arrived: Some(view.arrived), ..before.clone() };
    let end = if status.phase == Some(RendezvousPhase::Open) { &mut status.opened_at } else { &mut status.failed_at };
    *end = Some(MicroTime(ended));
    Plan::to(status, Some(before), true, next)
}

fn evaluate(view: &View<'_>, accepted: bool, clocks: Now) -> Plan<BarrierStatus> {
    let now = clocks.wall;
    let BarrierSpec { expected, quorum, timeout, reset_after: _ } = *view.spec;
    let arrived = view.arrived;
    // An arrival made before its barrier waits for nobody yet. Times of creation are whole seconds: from the end of
    // that one.
    let first = view.first.map(|first| after(first, GoDuration(CREATION_GRAIN)).max(view.created));
    let due = timeout.and_then(|timeout| Some((later(first?, view.first_seen, timeout, clocks), timeout)));
    let (phase, reason, message) = match due {
        _ if arrived >= expected.into() => {
            (RendezvousPhase::Open, conditions::ARRIVED, format!("{arrived} of {expected} have arrived"))
        }
        Some((due, timeout)) if due <= now => match quorum {
            Some(quorum) if arrived >= quorum.into() => (
                RendezvousPhase::Open,
                conditions::QUORUM,
                format!(
                    "{arrived} of {expected} had arrived {timeout} after the first, and {quorum} were to be enough then"
                ),
            ),
            _ => (
                RendezvousPhase::Failed,
                conditions::TIMED_OUT,
                format!("only {arrived} of {expected} had arrived {timeout} after the first"),
            ),
        },
        _ => (RendezvousPhase::Waiting, conditions::WAITING, waiting(view.spec, arrived)),
    };
    let look_again = due.map(|(due, _)| due).filter(|due| *due > now && phase == RendezvousPhase::Waiting);
    let status = status(view, &Verdict::new(phase, reason, message), round(view), now);
    Plan::to(status, view.status, accepted, look_again)
}

fn waiting(spec: &BarrierSpec, arrived: u64) -> String {
    format!("{arrived} of {} have arrived", spec.expected)
}

fn round(view: &View<'_>) -> u64 {
    view.status.and_then(|status| status.round).unwrap_or(1)
}

fn status(view: &View<'_>, verdict: &Verdict, round: u64, now: Timestamp) -> BarrierStatus {
    let before = view.status.filter(|status| status.phase == Some(verdict.phase));
    // One that was open and is found so again has been so since.
    let since = |phase, known: fn(&BarrierStatus) -> &Option<MicroTime>| {
        (verdict.phase == phase).then(|| before.and_then(|before| known(before).clone()).unwrap_or(MicroTime(now)))
    };
    let conditions = view.status.map_or(&[][..], |status| &status.conditions);
    BarrierStatus {
        phase: Some(verdict.phase),
        arrived: Some(view.arrived),
        round: Some(round),
        opened_at: since(RendezvousPhase::Open, |status| &status.opened_at),
        failed_at: since(RendezvousPhase::Failed, |status| &status.failed_at),
        observed_generation: view.generation,
        conditions: verdict.conditions(view.generation, now, conditions),
    }
}
