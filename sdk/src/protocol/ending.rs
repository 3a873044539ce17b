//! Giving a claim up: deleted by its UID, or given up trying after a bound. The claim of a holder by its name is left
//! alone when somebody else may work under it; one that is not known to have been created here is deleted only as it was
//! read, as it may be granted, and relied on, meanwhile.

use konductor_api::ClaimPhase;

use super::{
    Answer, Call, Failure, Pauses,
    context::{Context, Turn},
    limits,
    machine::Stage,
};
use crate::{AcquireError, Boottime, Event};

#[derive(Debug)]
pub(super) struct Ending {
    /// Why it ends, unless its owner wanted it.
    error: Option<AcquireError>,
    until: Boottime,
    /// The claim to delete.
    uid: Option<String>,
    /// The version at which it was read, if others may rely on a later one.
    version: Option<u64>,
    /// The claim that was found in its holder's name. Another one that has the name is another process's.
    found: Option<String>,
    /// Whether there may be a claim of ours whose UID we do not know.
    unsure: bool,
    /// What kept the claim from being deleted.
    trouble: String,
}

impl Ending {
    /// Deletes a claim that was held, unless somebody else may rely on it.
    pub(super) fn release(uid: Option<String>, context: &mut Context, turn: &mut Turn) -> Stage {
        let until = turn.now + limits::RELEASE_WITHIN;
        Self { error: None, until, uid, version: None, found: None, unsure: false, trouble: String::new() }
            .begin(context, turn)
    }

    /// Deletes a claim that was never held, unless somebody else may rely on it. `unsure`: whether one may exist although its UID is not known.
    pub(super) fn withdraw(
        uid: Option<String>,
        unsure: bool,
        error: Option<AcquireError>,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        let until = turn.now + limits::WITHDRAW_WITHIN;
        Self { error, until, uid, version: None, found: None, unsure, trouble: String::new() }.begin(context, turn)
    }

    fn begin(mut self, context: &mut Context, turn: &mut Turn) -> Stage {
        if context.relied_on {
            self.uid = None;
        } else if context.taken_up && self.uid.is_some() {
            // The others who wait with it may have been granted it by now.
            self.found = self.uid.take();
            self.unsure = true;
        }
        // A create is waited for: dropping it would leave a claim behind, or not.
        if !matches!(context.calling(), Some(Call::Create { .. })) {
            context.cancel_call(turn);
        }
        context.tries.at_once();
        Stage::Ending(self)
    }

    pub(super) fn advance(mut self, context: &mut Context, turn: &mut Turn) -> Stage {
        let creating = context.calling().is_some_and(|call| matches!(call, Call::Create { .. }));
        if self.uid.is_none() && !self.unsure && !creating {
            return self.over(turn);
        }
        if turn.now >= self.until {
            if let Some(call) = context.calling() {
                self.trouble = format!("no answer to the request to {}", call.operation());
            }
            context.cancel_call(turn);
            return self.abandon(turn);
        }
        turn.wake(self.until);
        if context.ready(turn) {
            let name = context.name.clone();
            let call = match &self.uid {
                Some(uid) => Call::Delete { name, uid: uid.clone(), version: self.version },
                None => Call::Read { name },
            };
            context.send(call, limits::RELEASE_REQUEST.min(self.until.since(turn.now)), turn);
        }
        Stage::Ending(self)
    }

    pub(super) fn answered(
        mut self,
        call: &Call,
        answer: Result<Answer, Failure>,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        match (call, answer) {
            // Others who ask in the holder's name may work under it: its instance is theirs, too.
            (Call::Read { .. }, Ok(Answer::Claim(claim)))
                if context.holder.is_some()
                    && matches!(claim.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking)) =>
            {
                self.uid = None;
                self.unsure = false;
            }
            (Call::Create { .. } | Call::Read { .. }, Ok(Answer::Claim(claim))) => {
                if matches!(call, Call::Create { .. }) {
                    context.created(&claim, turn);
                }
                if matches!(call, Call::Read { .. }) && context.holder.is_some() {
                    self.version = Some(claim.version);
                    self.found.get_or_insert_with(|| claim.uid.clone());
                }
                let is_found = self.found.as_ref().is_none_or(|found| *found == claim.uid);
                self.uid = (is_found && claim.instance == context.instance).then_some(claim.uid);
                self.unsure = false;
                context.tries.at_once();
            }
            (Call::Create { .. }, Err(Failure::Taken | Failure::Transient { .. })) => {
                self.unsure = true;
                context.tries.at_once();
            }
            (Call::Create { .. }, Err(_)) => context.tries.at_once(),
            (Call::Delete { version: Some(_), .. }, Err(Failure::Conflict(_))) => {
                self.read_anew();
                context.tries.pause(limits::RELEASE_PAUSE, turn.now, turn.draw);
            }
            (Call::Read { .. }, Err(Failure::Missing(_)))
            | (Call::Delete { .. }, Ok(_) | Err(Failure::Missing(_) | Failure::Conflict(_)))
            // Nothing of ours stays in a namespace that is being deleted.
            | (Call::Read { .. } | Call::Delete { .. }, Err(Failure::Terminating(_))) => {
                self.uid = None;
                self.unsure = false;
            }
            (_, Err(failure)) => {
                if matches!(failure, Failure::Refused(_) | Failure::Unready(_) | Failure::Transient { .. }) {
                    self.trouble = failure.clone().into_parts().0;
                }
                if matches!(call, Call::Delete { version: Some(_), .. }) {
                    self.read_anew();
                }
                context.retry(call.operation(), failure, Pauses::RELEASING, turn);
            }
            (_, Ok(_)) => {}
        }
        Stage::Ending(self)
    }

    /// What was read of the claim counts for one request to delete it.
    fn read_anew(&mut self) {
        (self.uid, self.version) = (None, None);
        self.unsure = true;
    }

    fn over(self, turn: &mut Turn) -> Stage {
        turn.tell(self.error.map_or(Event::Released, |error| Event::Failed { error }));
        Stage::Over
    }

    fn abandon(self, turn: &mut Turn) -> Stage {
        let error = self.trouble;
        turn.tell(self.error.map_or(Event::Abandoned { error }, |error| Event::Failed { error }));
        Stage::Over
    }
}
