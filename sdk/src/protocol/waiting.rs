//! From a claim that exists to one that is held: see the grant, confirm it, and be fresh.

use std::time::Duration;

use konductor_api::{ClaimPhase, PodReference, arbiter::usual_message, limits::ASKED_AHEAD};

use super::{
    Answer, Call, ClaimSeen, Effect, FRESH, Failure, Grant, ParentSeen, Pauses, WAIT, WATCH, WatchEnd, Watching,
    asking::Asking,
    context::{Context, Turn},
    ending::Ending,
    holding::Holding,
    limits,
    machine::Stage,
};
use crate::{AcquireError, Boottime, Event, LockSeen};

#[derive(Debug)]
pub(super) struct Waiting {
    claim: ClaimSeen,
    began_at: Boottime,
    /// The watch has ended: the claim must be read before the next is opened.
    unseen: bool,
    /// The operator has said that the turn is near, to a client that it has not heard of for long: renew.
    asked_to_renew: bool,
    watch: Watching,
    /// What the parent is being asked for.
    asked: Option<Question>,
    asks: u32,
    ask_at: Option<Boottime>,
    /// The grant that the parent has confirmed. Fencing tokens make each grant another one.
    confirmed: Option<Grant>,
    /// The grant for which a renewal was sent before it was confirmed, to save a round trip. Only one is.
    renewed_for: Option<Grant>,
    /// The message for which the parent was last looked at, whether it was missing then, and what it was.
    looked_for: Option<String>,
    parent_missing: bool,
    parent: Option<LockSeen>,
    told: Option<(Option<u64>, String, bool)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Question {
    /// Is this grant of your term?
    Confirm(Grant),
    /// Are you there? (Asked when the operator has this to say.)
    Look(String),
}

impl Waiting {
    pub(super) fn begin(claim: ClaimSeen, context: &mut Context, turn: &mut Turn) -> Stage {
        context.tries.at_once();
        context.tries.forgive();
        context.saw(claim.phase);
        let mut watch = Watching::closed();
        open(&mut watch, &claim, context, turn);
        turn.tell(Event::Asked);
        Stage::Waiting(Self {
            asked_to_renew: is_asked_to_renew(&ClaimSeen::default(), &claim, context, turn),
            claim,
            began_at: turn.now,
            unseen: false,
            watch,
            asked: None,
            asks: 0,
            ask_at: None,
            confirmed: None,
            renewed_for: None,
            looked_for: None,
            parent_missing: false,
            parent: None,
            told: None,
        })
    }

    pub(super) fn advance(self, context: &mut Context, turn: &mut Turn) -> Stage {
        match (self.claim.phase, self.claim.grant()) {
            (Some(ClaimPhase::Expired), _) if self.claim.revoked => self.refused(context, turn),
            (Some(ClaimPhase::Revoking), _) => self.refused(context, turn),
            (Some(ClaimPhase::Expired), _) => self.ask_again(true, "the claim has expired", context, turn),
            (_, Some(grant)) => self.advance_granted(grant, context, turn),
            (Some(ClaimPhase::Pending), None) => self.advance_queued(context, turn),
            (Some(ClaimPhase::Granted) | None, None) => {
                self.read_if_unseen(context, turn);
                Stage::Waiting(self)
            }
        }
    }

    fn advance_granted(mut self, grant: Grant, context: &mut Context, turn: &mut Turn) -> Stage {
        let fresh = FRESH.min(grant.ttl / 3);
        let late = context.renewed_at.is_none_or(|at| turn.now.since(at) > fresh);
        let confirmed = self.confirmed.as_ref() == Some(&grant);
        if let (true, false, Some(renewed_at)) = (confirmed, late, context.renewed_at) {
            return Holding::begin(self.claim, &grant, renewed_at, self.watch, context, turn);
        }
        if !confirmed {
            let asks = self.ask(Question::Confirm(grant.clone()), turn);
            if asks {
                turn.tell(Event::Granted);
            }
        }
        self.read_if_unseen(context, turn);
        if late && (confirmed || self.renewed_for.as_ref() != Some(&grant)) && context.ready(turn) {
            self.renew(limits::REQUEST.min(grant.ttl / 6), context, turn);
            self.renewed_for = Some(grant);
        }
        Stage::Waiting(self)
    }

    fn advance_queued(mut self, context: &mut Context, turn: &mut Turn) -> Stage {
        self.tell_waiting(turn);
        self.read_if_unseen(context, turn);
        if self.asked_to_renew && context.ready(turn) {
            self.renew(limits::REQUEST, context, turn);
        }
        Stage::Waiting(self)
    }

    /// Before anything is written: what cannot be seen may be another's by now.
    fn read_if_unseen(&self, context: &mut Context, turn: &mut Turn) {
        if self.unseen && context.ready(turn) {
            context.send(Call::Read { name: context.name.clone() }, limits::REQUEST, turn);
        }
    }

    fn renew(&self, within: Duration, context: &mut Context, turn: &mut Turn) {
        let call = Call::Renew { name: context.name.clone(), uid: self.claim.uid.clone() };
        context.send(call, within, turn);
    }

    /// Returns whether it is asked now.
    fn ask(&mut self, question: Question, turn: &mut Turn) -> bool {
        let asks = self.asked.as_ref() != Some(&question) && turn.due(self.ask_at);
        if asks {
            let latest = matches!(question, Question::Confirm(_));
            turn.effects.push(Effect::AskParent { latest, within: limits::REQUEST });
            self.asked = Some(question);
        }
        asks
    }

    /// Tells the operator's word, after a look whether it is because there is no parent.
    fn tell_waiting(&mut self, turn: &mut Turn) {
        let message = &self.claim.message;
        if self.looked_for.as_ref() != Some(message) {
            self.ask(Question::Look(message.clone()), turn);
            return;
        }
        // That its client is asked to renew concerns nobody else.
        let word = (self.claim.ahead, usual_message(message).to_owned(), self.parent_missing);
        if self.told.as_ref() != Some(&word) {
            let (ahead, message, parent_missing) = word.clone();
            turn.tell(Event::Waiting { ahead, message, parent_missing, lock: self.parent.clone() });
            self.told = Some(word);
        }
    }

    pub(super) fn parent_answered(
        mut self,
        answer: Result<ParentSeen, Failure>,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        let Some(question) = self.asked.take() else { return Stage::Waiting(self) };
        if answer.is_ok() {
            context.tries.accepted(context.kind.read);
        }
        match (question, answer) {
            (Question::Confirm(grant), Ok(ParentSeen::Found { uid, term, .. })) if uid == grant.parent_uid => {
                if term == Some(grant.term) {
                    self.confirmed = Some(grant);
                } else {
                    self.ask_later(None, limits::PAUSE, turn);
                }
            }
            // A UID never comes back, and the answer is newer than the grant.
            (Question::Confirm(_), Ok(_)) if context.relied_on => {
                let error = AcquireError::Orphaned(context.name.clone());
                return self.release(Some(error), context, turn);
            }
            (Question::Confirm(_), Ok(_)) => {
                return self.ask_again(true, "what granted the claim has been deleted", context, turn);
            }
            (Question::Look(message), Ok(parent)) => {
                self.looked_for = Some(message);
                self.parent_missing = parent == ParentSeen::Missing;
                self.parent = match parent {
                    ParentSeen::Found { uid, permits, .. } => {
                        let permits = if context.kind.exclusive { Some(1) } else { permits };
                        permits.map(|permits| LockSeen { id: uid, permits })
                    }
                    ParentSeen::Missing => None,
                };
            }
            (question, Err(failure)) => {
                if let Some(error) = context.tries.believed(context.kind.read, &failure, turn.now) {
                    return self.release(Some(error), context, turn);
                }
                // A look is only for people: what the operator says is told without it.
                if let Question::Look(message) = question {
                    self.looked_for = Some(message);
                }
                let (message, retry_after) = failure.into_parts();
                self.ask_later(retry_after, context.tries.longest(limits::PAUSE), turn);
                turn.tell_retrying(context.kind.read, message);
            }
        }
        Stage::Waiting(self)
    }

    fn ask_later(&mut self, retry_after: Option<Duration>, longest: Duration, turn: &Turn) {
        self.asks += 1;
        let pause = turn.draw.pause(self.asks, longest);
        self.ask_at = Some(turn.now + pause.max(retry_after.unwrap_or_default().min(limits::RETRY_AFTER)));
    }

    pub(super) fn watched(mut self, claim: ClaimSeen, context: &mut Context, turn: &mut Turn) -> Stage {
        context.tries.accepted(WATCH);
        self.watch.shows();
        if !self.is_ours(&claim, context) {
            return self.ask_again(false, "the claim was replaced by another of the same name", context, turn);
        }
        self.sees(claim, context, turn);
        Stage::Waiting(self)
    }

    /// Whether what has the claim's name is what is waited for. An instance of our own tells, also of what a create that
    /// came late has made once more. A holder's instance is that of all who ask in its name, so there the UID tells:
    /// another one was made by another process, which may work under it.
    fn is_ours(&self, claim: &ClaimSeen, context: &Context) -> bool {
        claim.instance == context.instance && (context.holder.is_none() || claim.uid == self.claim.uid)
    }

    /// Takes in what is newer than what was seen.
    fn sees(&mut self, claim: ClaimSeen, context: &mut Context, turn: &Turn) {
        if claim.version > self.claim.version {
            context.saw(claim.phase);
            self.asked_to_renew |= is_asked_to_renew(&self.claim, &claim, context, turn);
            self.claim = claim;
            self.asks = 0;
            self.ask_at = None;
        }
    }

    pub(super) fn watched_deletion(self, uid: &str, context: &mut Context, turn: &mut Turn) -> Stage {
        if uid == self.claim.uid {
            return self.ask_again(false, "the claim was deleted", context, turn);
        }
        Stage::Waiting(self)
    }

    pub(super) fn watch_ended(mut self, end: &WatchEnd, context: &mut Context, turn: &mut Turn) -> Stage {
        self.unseen = true;
        let has_worked = self.watch.has_worked(turn.now);
        if let Some(error) = context.tries.watch_ended(WATCH, end, has_worked, turn.now) {
            return self.release(Some(error), context, turn);
        }
        let longest = context.tries.longest(limits::PAUSE);
        if let Some(at) = self.watch.ended(end, longest, turn.now, turn.draw) {
            context.tries.wait_until(at);
        }
        if let Some(trouble) = end.trouble() {
            turn.tell_retrying(WATCH, trouble);
        }
        Stage::Waiting(self)
    }

    pub(super) fn answered(
        mut self,
        call: &Call,
        sent_at: Boottime,
        answer: Result<Answer, Failure>,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Stage {
        match answer {
            Ok(Answer::Claim(claim)) if self.is_ours(&claim, context) => {
                // A look that shows nothing new makes nothing well that has failed before it.
                if matches!(call, Call::Renew { .. }) || claim.version > self.claim.version {
                    context.tries.at_once();
                } else {
                    context.tries.go_on();
                }
                if matches!(call, Call::Renew { .. }) {
                    context.renewed_at = Some(sent_at);
                    self.asked_to_renew = false;
                } else {
                    // With no watch open nothing else is told meanwhile, so what is read is what there is: if it is
                    // older than what was seen, the API server's data was restored from a backup.
                    if !self.watch.is_open() && claim.version < self.claim.version {
                        (self.claim.version, self.confirmed, self.renewed_for) = (0, None, None);
                    }
                    self.unseen = false;
                    open(&mut self.watch, &claim, context, turn);
                }
                self.sees(claim, context, turn);
            }
            Ok(_) => return self.ask_again(false, "the claim was replaced by another of the same name", context, turn),
            Err(Failure::Missing(_)) => return self.ask_again(false, "the claim was deleted", context, turn),
            Err(failure) => {
                if let Some(error) = context.tries.believed(call.operation(), &failure, turn.now) {
                    return self.release(Some(error), context, turn);
                }
                if matches!(failure, Failure::Conflict(_)) {
                    self.unseen = true;
                }
                self.renewed_for = None;
                context.retry(call.operation(), failure, Pauses::PATIENT, turn);
            }
        }
        Stage::Waiting(self)
    }

    /// This claim has come to nothing. `exists`: it must be deleted to make room for the next.
    fn ask_again(self, exists: bool, why: &str, context: &mut Context, turn: &mut Turn) -> Stage {
        context.cancel_call(turn);
        turn.effects.push(Effect::Unwatch);
        turn.tell_retrying(WAIT, why);
        if turn.now.since(self.began_at) >= limits::WATCH_WORKED {
            context.rounds = 0;
        }
        Asking::again(exists.then_some(self.claim.uid), context, turn)
    }

    /// Somebody does not want this claim to be held.
    fn refused(self, context: &mut Context, turn: &mut Turn) -> Stage {
        let error = AcquireError::Revoked(self.claim.message.clone());
        self.release(Some(error), context, turn).advance(context, turn)
    }

    pub(super) fn release(self, error: Option<AcquireError>, context: &mut Context, turn: &mut Turn) -> Stage {
        turn.effects.push(Effect::Unwatch);
        Ending::withdraw(Some(self.claim.uid), false, error, context, turn)
    }
}

/// Opens a watch of the claim as it was seen; it replaces an earlier one.
pub(super) fn open(watch: &mut Watching, claim: &ClaimSeen, context: &Context, turn: &mut Turn) {
    watch.opened(turn.now);
    turn.effects.push(Effect::Watch { name: context.name.clone(), version: claim.version });
}

/// Whether the operator has told a claim anew that its turn is near, and may not have heard of its client for long. (It
/// asks those that were silent for twice [`FRESH`] by its own clock.) Of a container it can find out by itself.
fn is_asked_to_renew(before: &ClaimSeen, now: &ClaimSeen, context: &Context, turn: &Turn) -> bool {
    let word = |claim: &ClaimSeen| (claim.phase, claim.term, claim.ahead, claim.message.clone());
    let near = now.phase == Some(ClaimPhase::Pending) && now.ahead.is_some_and(|ahead| ahead < ASKED_AHEAD);
    let silent = context.renewed_at.is_none_or(|at| turn.now.since(at) > FRESH);
    let is_asked = context.pod.as_ref().is_none_or(PodReference::is_whole);
    is_asked && near && silent && word(before) != word(now)
}
