//! What the stages of a claim share, and what one step is given and gives.

use std::time::Duration;

use konductor_api::{ClaimPhase, LockKind, PodReference};

use super::{Call, ClaimSeen, Draw, Effect, Failure, Pauses, Tries, name};
use crate::{Boottime, Event};

/// What all stages share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) kind: LockKind,
    pub(super) parent: String,
    pub(super) pod: Option<PodReference>,
    /// By whose name the claim is found again, if it is.
    pub(super) holder: Option<String>,
    /// The claim's name and instance, of the present attempt to acquire.
    pub(super) name: String,
    pub(super) instance: String,
    /// When the last successful renewal was sent; the first create of this instance counts as one.
    pub(super) renewed_at: Option<Boottime>,
    /// Whether the claim was found in its holder's name, and not created here as far as is known.
    pub(super) taken_up: bool,
    /// Whether somebody else may work under the claim: it was taken up, and seen held. Its instance does not tell: it is
    /// that of all who ask in the holder's name. Nothing here deletes it before it has expired. (The price: a claim whose
    /// create was not answered here, and that is granted and then given up, stays for its TTL, as it looks the same.)
    pub(super) relied_on: bool,
    /// Claims in a row that came to nothing soon after they were created.
    pub(super) rounds: u32,
    /// The request under way, and when it was sent.
    call: Option<(Call, Boottime)>,
    /// Attempts in a row.
    pub(super) tries: Tries,
}

/// One step's time, chance and effects.
pub(super) struct Turn {
    pub(super) now: Boottime,
    pub(super) draw: Draw,
    pub(super) effects: Vec<Effect>,
    alarm: Option<Boottime>,
}

impl Turn {
    pub(super) fn new(now: Boottime, draw: Draw) -> Self {
        Self { now, draw, effects: Vec::new(), alarm: None }
    }

    /// When to step again if nothing else happens.
    pub(super) fn alarm(&self) -> Option<Boottime> {
        self.alarm
    }

    /// The step must be repeated at `at` at the latest.
    pub(super) fn wake(&mut self, at: Boottime) {
        self.alarm = Some(self.alarm.map_or(at, |alarm| alarm.min(at)));
    }

    /// Whether `at` has come; the step will be repeated then if not.
    pub(super) fn due(&mut self, at: Option<Boottime>) -> bool {
        let Some(at) = at.filter(|at| *at > self.now) else { return true };
        self.wake(at);
        false
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.effects.push(Effect::Tell(event));
    }

    pub(super) fn tell_retrying(&mut self, operation: &'static str, error: impl Into<String>) {
        self.tell(Event::Retrying { operation, error: error.into() });
    }
}

impl Context {
    pub(super) fn new(kind: LockKind, parent: String, pod: Option<PodReference>) -> Self {
        Self {
            kind,
            parent,
            pod,
            holder: None,
            name: String::new(),
            instance: String::new(),
            renewed_at: None,
            taken_up: false,
            relied_on: false,
            rounds: 0,
            call: None,
            tries: Tries::default(),
        }
    }

    /// The request that was under way, and when it was sent: it is answered.
    pub(super) fn answered(&mut self) -> Option<(Call, Boottime)> {
        self.call.take()
    }

    /// Sends `call`, which must be the only one.
    pub(super) fn send(&mut self, call: Call, within: Duration, turn: &mut Turn) {
        self.call = Some((call.clone(), turn.now));
        turn.effects.push(Effect::Call { call, within });
    }

    pub(super) fn calling(&self) -> Option<&Call> {
        self.call.as_ref().map(|(call, _)| call)
    }

    pub(super) fn cancel_call(&mut self, turn: &mut Turn) {
        if self.call.take().is_some() {
            turn.effects.push(Effect::CancelCall);
        }
    }

    /// Whether a request can be made now; if only time is missing, the step is repeated then.
    pub(super) fn ready(&self, turn: &mut Turn) -> bool {
        self.call.is_none() && turn.due(self.tries.retry_at())
    }

    /// Pauses as long as `pauses` and the server want, and says why.
    pub(super) fn retry(&mut self, operation: &'static str, failure: Failure, pauses: Pauses, turn: &mut Turn) {
        let message = self.tries.failed(failure, pauses, turn.now, turn.draw);
        turn.tell_retrying(operation, message);
    }

    /// Makes the present attempt a new one: another instance, renewed by nobody yet.
    pub(super) fn new_instance(&mut self, draw: Draw) {
        self.instance = match &self.holder {
            None => name::instance(draw.id),
            Some(holder) => name::instance_of_holder(self.kind, &self.parent, holder, self.pod.as_ref()),
        };
        self.renewed_at = None;
        self.taken_up = false;
        self.relied_on = false;
    }

    /// Tells that a claim that others may find was created here.
    pub(super) fn created(&self, claim: &ClaimSeen, turn: &mut Turn) {
        if self.holder.is_some() {
            turn.tell(Event::Created { name: self.name.clone(), uid: claim.uid.clone() });
        }
    }

    /// Notes in which phase the claim was seen.
    pub(super) fn saw(&mut self, phase: Option<ClaimPhase>) {
        match phase {
            Some(ClaimPhase::Granted | ClaimPhase::Revoking) => self.relied_on |= self.taken_up,
            Some(ClaimPhase::Expired) => self.relied_on = false,
            Some(ClaimPhase::Pending) | None => {}
        }
    }
}
