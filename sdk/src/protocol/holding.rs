//! Keeping a claim: a renewal every third of its TTL, the deadline, and a watch that shows a revocation at once.
//!
//! Renewals and the deadline decide whether the claim is held; the watch only brings news sooner. When it ends, the
//! claim is read before the next one is opened, as what happened meanwhile may no longer be known; a renewal that is
//! answered first does as well.

use std::time::Duration;

use konductor_api::ClaimPhase;

use super::{
    Answer, Call, ClaimSeen, Effect, Failure, Grant, Pauses, WATCH, WatchEnd, Watching,
    context::{Context, Turn},
    deadline,
    ending::Ending,
    limits,
    machine::Stage,
    waiting::open,
};
use crate::{Boottime, Event, LossReason};

#[derive(Debug)]
pub(super) struct Holding {
    uid: String,
    /// The newest version of the claim that was seen.
    version: u64,
    fencing_token: u64,
    ttl: Duration,
    deadline: Boottime,
    /// A renewal met another object or another's change: look which.
    doubtful: bool,
    watch: Watching,
    /// While there is no watch: when the claim may be read to open the next one.
    watch_at: Option<Boottime>,
}

impl Holding {
    pub(super) fn begin(
        claim: ClaimSeen,
        grant: &Grant,
        renewed_at: Boottime,
        watch: Watching,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        let Grant { fencing_token, ttl, .. } = *grant;
        let ClaimSeen { uid, version, .. } = claim;
        let deadline = deadline(renewed_at, ttl);
        context.cancel_call(turn);
        context.tries.forgive();
        // A watch that has ended is opened again when a pause that it asked for is over.
        let watch_at = context.tries.retry_at();
        context.tries.not_before(renewed_at + turn.draw.renewal(ttl));
        turn.tell(Event::Held { fencing_token, ttl, deadline, lock: grant.parent_uid.clone() });
        let holding = Self { uid, version, fencing_token, ttl, deadline, doubtful: false, watch, watch_at };
        holding.advance(context, turn)
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
            context.send(call, self.within(self.deadline, turn), turn);
        } else if context.calling().is_none() && !self.watch.is_open() && turn.due(self.watch_at) {
            // No renewal waits for its answer.
            let renewal = context.tries.retry_at().unwrap_or(self.deadline);
            context.send(Call::Read { name: context.name.clone() }, self.within(renewal, turn), turn);
        }
        Stage::Holding(self)
    }

    /// How long a request may take that must be over at `end`.
    fn within(&self, end: Boottime, turn: &Turn) -> Duration {
        limits::REQUEST.min(self.ttl / 6).min(end.since(turn.now))
    }

    pub(super) fn watched(mut self, claim: &ClaimSeen, context: &mut Context, turn: &mut Turn) -> Stage {
        self.watch.shows();
        // Old news: of before the grant, or of before a renewal whose answer was faster.
        if claim.version <= self.version {
            return Stage::Holding(self);
        }
        self.version = claim.version;
        match self.loss(claim) {
            Some(reason) => self.lost(reason, context, turn),
            None => Stage::Holding(self),
        }
    }

    pub(super) fn watched_deletion(self, uid: &str, context: &mut Context, turn: &mut Turn) -> Stage {
        if uid == self.uid { self.lost(LossReason::Deleted, context, turn) } else { Stage::Holding(self) }
    }

    /// Nothing is lost with a watch, whatever has ended it.
    pub(super) fn watch_ended(mut self, end: &WatchEnd, turn: &mut Turn) -> Stage {
        self.watch_at = self.watch.ended(end, limits::PAUSE, turn.now, turn.draw);
        if let Some(trouble) = end.trouble() {
            turn.tell_retrying(WATCH, trouble);
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
        let renews = matches!(call, Call::Renew { .. });
        match answer {
            Ok(Answer::Claim(claim)) => {
                if let Some(reason) = self.loss(&claim) {
                    return self.lost(reason, context, turn);
                }
                self.version = self.version.max(claim.version);
                if !self.watch.is_open() && turn.due(self.watch_at) {
                    open(&mut self.watch, &claim, context, turn);
                }
                if renews {
                    self.renewed(sent_at, claim.ttl, context, turn);
                } else if std::mem::take(&mut self.doubtful) {
                    context.tries.pause(pauses.longest, turn.now, turn.draw);
                }
            }
            Ok(Answer::Deleted) => {}
            Err(Failure::Missing(_)) => return self.lost(LossReason::Deleted, context, turn),
            Err(Failure::Conflict(message)) => {
                self.doubtful = true;
                context.tries.at_once();
                turn.tell_retrying(call.operation(), message);
            }
            Err(failure) if renews || self.doubtful => context.retry(call.operation(), failure, pauses, turn),
            // A look that was only for the next watch.
            Err(failure) => {
                self.watch_at = Some(self.watch.delayed(limits::PAUSE, turn.now, turn.draw));
                turn.tell_retrying(call.operation(), failure.into_parts().0);
            }
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
        turn.effects.push(Effect::Unwatch);
        let exists = !matches!(reason, LossReason::Deleted | LossReason::Replaced);
        // Nobody works under what has expired.
        context.relied_on &= reason != LossReason::Expired;
        turn.tell(Event::Lost { reason });
        Stage::Lost(exists.then_some(self.uid))
    }

    pub(super) fn release(self, context: &mut Context, turn: &mut Turn) -> Stage {
        turn.effects.push(Effect::Unwatch);
        Ending::release(Some(self.uid), context, turn)
    }
}
