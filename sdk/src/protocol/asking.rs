//! Making a claim of ours exist.
//!
//! A create may be repeated at will: a name that is taken by a claim with our instance is a create that had succeeded.
//! Taken by an earlier start of this container, the claim speaks for a process that is dead (the kubelet starts a
//! container again only after the former has ended) and is deleted. Taken by this start, it is that of a sibling
//! process, which is alive: another name. A quota that is used up hides that a name is taken, so then it is looked.
//!
//! The claim of a holder by its name is everybody's who asks in that name: found there, it is taken up. Who made it may
//! have renewed it long ago, so it is renewed before it counts; one that has expired makes room for a new one. Others may
//! work under one that is held, so nobody deletes it who has only found it.

use konductor_api::ClaimPhase;

use super::{
    Answer, Call, ClaimSeen, Failure, Pauses,
    context::{Context, Turn},
    ending::Ending,
    limits,
    machine::Stage,
    name,
    waiting::Waiting,
};
use crate::{AcquireError, Event};

#[derive(Debug)]
pub(super) struct Asking {
    next: Next,
    /// Names found taken by siblings.
    sibling: u32,
    /// Whether a create of this name may have succeeded without our knowing.
    unsure: bool,
    /// The last claim that was deleted to make room.
    cleared: Option<String>,
    /// What was last told of a quota that is used up.
    quota: Option<String>,
    /// Whether it was looked who has the name since a quota was found used up. (A quota answers before the name does.)
    inspected: bool,
}

#[derive(Debug)]
enum Next {
    Create,
    /// Look who has the name.
    Inspect,
    /// Delete the claim with this UID, which has the name.
    Clear(String),
}

impl Asking {
    pub(super) fn first() -> Self {
        Self { next: Next::Create, sibling: 0, unsure: false, cleared: None, quota: None, inspected: false }
    }

    /// Asks once more, after the claim with this UID, if it still exists, is deleted.
    pub(super) fn again(uid: Option<String>, context: &mut Context, turn: &mut Turn) -> Stage {
        context.new_instance(turn.draw);
        context.tries.at_once();
        if context.rounds > 0 {
            context.tries.not_before(turn.now + turn.draw.pause(context.rounds, limits::PAUSE));
        }
        context.rounds += 1;
        let next = uid.map_or(Next::Create, Next::Clear);
        Self { next, ..Self::first() }.advance(context, turn)
    }

    pub(super) fn advance(self, context: &mut Context, turn: &mut Turn) -> Stage {
        if context.name.is_empty() {
            context.new_instance(turn.draw);
            context.name = self.name(context, turn);
        }
        if context.ready(turn) {
            let name = context.name.clone();
            let call = match &self.next {
                Next::Create => {
                    context.renewed_at.get_or_insert(turn.now);
                    Call::Create { name, instance: context.instance.clone() }
                }
                Next::Inspect => Call::Read { name },
                Next::Clear(uid) => Call::Delete { name, uid: uid.clone(), version: None },
            };
            context.send(call, limits::REQUEST, turn);
        }
        Stage::Asking(self)
    }

    fn name(&self, context: &Context, turn: &Turn) -> String {
        if let Some(holder) = &context.holder
            && self.sibling == 0
        {
            return name::of_holder(context.kind, &context.parent, holder, context.pod.as_ref());
        }
        match &context.pod {
            // Of a whole pod nobody knows which start of which container asks, so no name is found again.
            Some(pod) if context.holder.is_none() && !pod.is_whole() && self.sibling < limits::SIBLINGS => {
                name::derived(context.kind, &context.parent, pod, self.sibling)
            }
            _ => name::random(&context.parent, turn.draw.id),
        }
    }

    pub(super) fn answered(
        mut self,
        call: &Call,
        answer: Result<Answer, Failure>,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        match (&self.next, answer) {
            (Next::Create, Ok(Answer::Claim(claim))) => {
                context.created(&claim, turn);
                return Waiting::begin(claim, context, turn);
            }
            (Next::Inspect, Ok(Answer::Claim(claim))) => return self.judge(claim, context, turn),
            (Next::Create, Err(Failure::Taken)) => {
                context.tries.at_once();
                self.next = Next::Inspect;
            }
            (Next::Create, Err(failure @ Failure::QuotaUsedUp(_))) => {
                let _ = context.tries.believed(call.operation(), &failure, turn.now);
                let message = context.tries.failed(failure, Pauses::PATIENT, turn.now, turn.draw);
                if self.quota.as_ref() != Some(&message) {
                    self.quota = Some(message.clone());
                    turn.tell(Event::Hindered { why: message });
                }
                if !std::mem::replace(&mut self.inspected, !self.unsure) {
                    self.next = Next::Inspect;
                }
            }
            (Next::Inspect, Err(Failure::Missing(_))) => {
                context.tries.pause(limits::PAUSE, turn.now, turn.draw);
                self.next = Next::Create;
            }
            (Next::Clear(uid), Ok(Answer::Deleted) | Err(Failure::Missing(_) | Failure::Conflict(_))) => {
                // One that comes back has a finalizer: it is gone when others have done their part.
                if self.cleared.as_ref() == Some(uid) {
                    context.tries.pause(limits::PAUSE, turn.now, turn.draw);
                }
                self.cleared = Some(uid.clone());
                self.next = Next::Create;
            }
            (_, Err(failure)) => {
                self.unsure |= matches!((&self.next, &failure), (Next::Create, Failure::Transient { .. }));
                if let Some(error) = context.tries.believed(call.operation(), &failure, turn.now) {
                    return self.release(Some(error), context, turn);
                }
                context.retry(call.operation(), failure, Pauses::PATIENT, turn);
            }
            (_, Ok(_)) => {}
        }
        Stage::Asking(self)
    }

    /// Whose claim is it that has the name?
    fn judge(mut self, claim: ClaimSeen, context: &mut Context, turn: &mut Turn) -> Stage {
        if claim.instance == context.instance {
            if context.holder.is_some() {
                if claim.phase == Some(ClaimPhase::Expired) {
                    self.next = Next::Clear(claim.uid);
                    return Stage::Asking(self);
                }
                context.renewed_at = None;
                context.taken_up = true;
            }
            return Waiting::begin(claim, context, turn);
        }
        let here = |pod: &&konductor_api::PodReference| {
            claim.pod.as_ref().is_some_and(|other| (&other.uid, &other.container) == (&pod.uid, &pod.container))
        };
        let alive = |pod: &konductor_api::PodReference| {
            claim.phase != Some(ClaimPhase::Expired) && claim.pod.as_ref().is_some_and(|p| p.start == pod.start)
        };
        match context.pod.as_ref().filter(|pod| !pod.is_whole()).filter(here) {
            Some(pod) if !alive(pod) => self.next = Next::Clear(claim.uid),
            _ => {
                self.sibling += 1;
                (self.unsure, self.inspected) = (false, false);
                context.name = self.name(context, turn);
                self.next = Next::Create;
            }
        }
        Stage::Asking(self)
    }

    pub(super) fn release(self, error: Option<AcquireError>, context: &mut Context, turn: &mut Turn) -> Stage {
        // What was to be cleared is still to be: a claim of ours may hold what nobody uses.
        let uid = if let Next::Clear(uid) = self.next { Some(uid) } else { None };
        Ending::withdraw(uid, self.unsure, error, context, turn)
    }
}
