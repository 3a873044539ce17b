//! Keeping a claim: a renewal every third of its TTL, and the deadline.

use std::time::Duration;

use konductor_api::ClaimPhase;

use super::{
    Answer, Call, ClaimSeen, Effect, Failure, Grant, Pauses,
    context::{Context, Turn},
    deadline, limits,
    machine::Stage,
};
use crate::{Boottime, Event, LossReason};

#[derive(Debug)]
pub(super) struct Holding {
    pub(super) uid: String,
    fencing_token: u64,
    ttl: Duration,
    deadline: Boottime,
    /// A renewal met another object or another's change: look which.
    doubtful: bool,
}

impl Holding {
    pub(super) fn begin(
        uid: String,
        grant: &Grant,
        renewed_at: Boottime,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        let Grant { fencing_token, ttl, .. } = *grant;
        let deadline = deadline(renewed_at, ttl);
        context.cancel_call(turn);
        context.tries.not_before(renewed_at + turn.draw.renewal(ttl));
        turn.effects.push(Effect::Unwatch);
        turn.tell(Event::Held { fencing_token, ttl, deadline, lock: grant.parent_uid.clone() });
        Self { uid, fencing_token, ttl, deadline, doubtful: false }.advance(context, turn)
    }

    /// Nothing is done before the deadline is looked at: a process may have been frozen past it.
    pub(super) fn checked(self, context: &mut Context, turn: &mut Turn) -> Stage {
        if turn.now >= self.deadline {
            return self.lost(LossReason::DeadlinePassed, context, turn);
        }
        Stage::Holding(self)
    }

    pub(super) fn advance(self, context: &mut Context, turn: &mut Turn) -> Stage {
        turn.wake(self.deadline);
        if context.ready(turn) {
            let name = context.name.clone();
            let call = if self.doubtful { Call::Read { name } } else { Call::Renew { name, uid: self.uid.clone() } };
            let within = limits::REQUEST.min(self.ttl / 6).min(self.deadline.since(turn.now));
            context.send(call, within, turn);
        }
        Stage::Holding(self)
    }

    pub(super) fn answered(
        mut self,
        call: &Call,
        sent_at: Boottime,
        answer: Result<Answer, Failure>,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        let pauses = Pauses { longest: limits::RENEWAL_PAUSE.min(self.ttl / 12), obeyed: self.ttl / 6 };
        match answer {
            Ok(Answer::Claim(claim)) => {
                if let Some(reason) = self.loss(&claim) {
                    return self.lost(reason, context, turn);
                }
                if self.doubtful {
                    self.doubtful = false;
                    context.tries.pause(pauses.longest, turn.now, turn.draw);
                } else {
                    self.renewed(sent_at, claim.ttl, context, turn);
                }
            }
            Ok(Answer::Deleted) => {}
            Err(Failure::Missing(_)) => return self.lost(LossReason::Deleted, context, turn),
            Err(Failure::Conflict(message)) => {
                self.doubtful = true;
                context.tries.at_once();
                turn.tell_retrying(call.operation(), message);
            }
            Err(failure) => context.retry(call.operation(), failure, pauses, turn),
        }
        Stage::Holding(self)
    }

    fn renewed(&mut self, sent_at: Boottime, ttl: Option<Duration>, context: &mut Context, turn: &mut Turn) {
        self.ttl = ttl.unwrap_or(self.ttl);
        self.deadline = deadline(sent_at, self.ttl);
        context.renewed_at = Some(sent_at);
        context.tries.not_before(sent_at + turn.draw.renewal(self.ttl));
        turn.tell(Event::Extended { deadline: self.deadline });
    }

    /// Whether this is still the claim and the grant that was confirmed. Its term may rise, as each new operator stamps
    /// the claims that it takes over; its fencing token is that of the grant.
    fn loss(&self, claim: &ClaimSeen) -> Option<LossReason> {
        if claim.uid != self.uid {
            return Some(LossReason::Replaced);
        }
        match claim.phase {
            Some(ClaimPhase::Granted) if claim.fencing_token == Some(self.fencing_token) => None,
            Some(ClaimPhase::Revoking) => Some(LossReason::Revoked(claim.message.clone())),
            Some(ClaimPhase::Expired) => Some(LossReason::Expired),
            Some(ClaimPhase::Granted | ClaimPhase::Pending) | None => Some(LossReason::TakenBack),
        }
    }

    fn lost(self, reason: LossReason, context: &mut Context, turn: &mut Turn) -> Stage {
        context.cancel_call(turn);
        let exists = !matches!(reason, LossReason::Deleted | LossReason::Replaced);
        turn.tell(Event::Lost { reason });
        Stage::Lost(exists.then_some(self.uid))
    }
}
