//! From a claim that exists to one that is held: see the grant, confirm it, and be fresh.

use std::time::Duration;

use konductor_api::ClaimPhase;

use super::{
    Answer, Call, Effect, FRESH, Failure, Grant, ParentSeen, Pauses, Sighting, WAIT, WATCH, WatchEnd, ask,
    asking::Asking,
    ending::Ending,
    holding::Holding,
    limits,
    machine::{Common, Stage, Turn},
};
use crate::{AcquireError, Boottime, Event};

#[derive(Debug)]
pub(super) struct Waiting {
    claim: Sighting,
    began_at: Boottime,
    /// The watch has ended: the claim must be read before the next is opened.
    unseen: bool,
    watching_since: Boottime,
    watch_failures: u32,
    /// What the parent is being asked for.
    asked: Option<Question>,
    asks: u32,
    ask_at: Option<Boottime>,
    /// The grant that the parent has confirmed. Fencing tokens make each grant another one.
    confirmed: Option<Grant>,
    /// The grant for which a renewal was sent before it was confirmed, to save a round trip. Only one is.
    renewed_for: Option<Grant>,
    /// The message for which the parent was last looked at, and whether it was missing then.
    looked_for: Option<String>,
    parent_missing: bool,
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
    pub(super) fn begin(claim: Sighting, common: &mut Common, turn: &mut Turn) -> Stage {
        common.tries.at_once();
        common.tries.forgive();
        turn.effects.push(Effect::Watch { name: common.name.clone(), version: claim.version });
        turn.tell(Event::Asked);
        Stage::Waiting(Self {
            claim,
            began_at: turn.now,
            unseen: false,
            watching_since: turn.now,
            watch_failures: 0,
            asked: None,
            asks: 0,
            ask_at: None,
            confirmed: None,
            renewed_for: None,
            looked_for: None,
            parent_missing: false,
            told: None,
        })
    }

    pub(super) fn advance(mut self, common: &mut Common, turn: &mut Turn) -> Stage {
        match (self.claim.phase, self.claim.grant()) {
            (Some(ClaimPhase::Expired), _) => return self.ask_again(true, "the claim has expired", common, turn),
            (Some(ClaimPhase::Revoking), _) => return self.ask_again(true, "the claim was revoked", common, turn),
            (_, Some(grant)) => {
                let fresh = FRESH.min(grant.ttl / 3);
                let late = common.renewed_at.is_none_or(|at| turn.now.since(at) > fresh);
                let confirmed = self.confirmed == Some(grant);
                if let (true, false, Some(renewed_at)) = (confirmed, late, common.renewed_at) {
                    return Holding::begin(self.claim.uid, grant, renewed_at, common, turn);
                }
                if !confirmed {
                    self.ask(Question::Confirm(grant), turn);
                }
                if late && (confirmed || self.renewed_for != Some(grant)) && common.ready(turn) {
                    self.renewed_for = Some(grant);
                    let call = Call::Renew { name: common.name.clone(), uid: self.claim.uid.clone() };
                    common.send(call, limits::REQUEST.min(grant.ttl / 6), turn);
                }
            }
            (Some(ClaimPhase::Pending), None) => self.tell_waiting(turn),
            (Some(ClaimPhase::Granted) | None, None) => {}
        }
        if self.unseen && common.ready(turn) {
            common.send(Call::Read { name: common.name.clone() }, limits::REQUEST, turn);
        }
        Stage::Waiting(self)
    }

    fn ask(&mut self, question: Question, turn: &mut Turn) {
        if self.asked.as_ref() != Some(&question) && turn.due(self.ask_at) {
            let latest = matches!(question, Question::Confirm(_));
            turn.effects.push(Effect::AskParent { latest, within: limits::REQUEST });
            self.asked = Some(question);
        }
    }

    /// Tells the operator's word, after a look whether it is because there is no parent.
    fn tell_waiting(&mut self, turn: &mut Turn) {
        let message = &self.claim.message;
        if self.looked_for.as_ref() != Some(message) {
            return self.ask(Question::Look(message.clone()), turn);
        }
        let word = (self.claim.ahead, message.clone(), self.parent_missing);
        if self.told.as_ref() != Some(&word) {
            let (ahead, message, parent_missing) = word.clone();
            turn.tell(Event::Waiting { ahead, message, parent_missing });
            self.told = Some(word);
        }
    }

    pub(super) fn parent_answered(
        mut self,
        answer: Result<ParentSeen, Failure>,
        common: &mut Common,
        turn: &mut Turn,
    ) -> Stage {
        let Some(question) = self.asked.take() else { return Stage::Waiting(self) };
        if answer.is_ok() {
            common.tries.succeeded(ask(common.kind));
        }
        match (question, answer) {
            (Question::Confirm(grant), Ok(ParentSeen::Term(Some(term)))) if term == grant.term => {
                self.confirmed = Some(grant);
            }
            (Question::Confirm(_), Ok(_)) => self.ask_later(None, turn),
            (Question::Look(message), Ok(parent)) => {
                self.looked_for = Some(message);
                self.parent_missing = parent == ParentSeen::Missing;
            }
            (question, Err(failure)) => {
                if let Some(error) = common.tries.believed(ask(common.kind), &failure, turn.now) {
                    return self.release(Some(error), common, turn);
                }
                // A look is only for people: what the operator says is told without it.
                if let Question::Look(message) = question {
                    self.looked_for = Some(message);
                }
                let (message, retry_after) = failure.into_parts();
                self.ask_later(retry_after, turn);
                turn.tell_retrying(ask(common.kind), message);
            }
        }
        Stage::Waiting(self)
    }

    fn ask_later(&mut self, retry_after: Option<Duration>, turn: &Turn) {
        self.asks += 1;
        let pause = turn.draw.pause(self.asks, limits::PAUSE);
        self.ask_at = Some(turn.now + pause.max(retry_after.unwrap_or_default().min(limits::RETRY_AFTER)));
    }

    pub(super) fn watched(mut self, claim: Sighting, common: &mut Common, turn: &mut Turn) -> Stage {
        common.tries.succeeded(WATCH);
        self.watch_failures = 0;
        if claim.instance != common.instance {
            return self.ask_again(false, "the claim was replaced by another of the same name", common, turn);
        }
        self.sees(claim);
        Stage::Waiting(self)
    }

    /// Takes in what is newer than what was seen.
    fn sees(&mut self, claim: Sighting) {
        if claim.version > self.claim.version {
            self.claim = claim;
            self.asks = 0;
            self.ask_at = None;
        }
    }

    pub(super) fn watched_deletion(self, uid: &str, common: &mut Common, turn: &mut Turn) -> Stage {
        if uid == self.claim.uid {
            return self.ask_again(false, "the claim was deleted", common, turn);
        }
        Stage::Waiting(self)
    }

    pub(super) fn watch_ended(mut self, end: WatchEnd, common: &mut Common, turn: &mut Turn) -> Stage {
        self.unseen = true;
        if turn.now.since(self.watching_since) >= limits::WATCH_WORKED {
            self.watch_failures = 0;
        }
        let message = match end {
            WatchEnd::Closed | WatchEnd::Outdated => None,
            WatchEnd::Failed(message) => Some(message),
            WatchEnd::Refused(message) => {
                if let Some(error) = common.tries.believed(WATCH, &Failure::Refused(message.clone()), turn.now) {
                    return self.release(Some(error), common, turn);
                }
                Some(message)
            }
        };
        if self.watch_failures > 0 || message.is_some() {
            common.tries.not_before(turn.now + turn.draw.pause(self.watch_failures + 1, limits::PAUSE));
        }
        self.watch_failures += 1;
        if let Some(message) = message {
            turn.tell_retrying(WATCH, message);
        }
        Stage::Waiting(self)
    }

    pub(super) fn answered(
        mut self,
        call: &Call,
        sent_at: Boottime,
        answer: Result<Answer, Failure>,
        common: &mut Common,
        turn: &mut Turn,
    ) -> Stage {
        match answer {
            Ok(Answer::Claim(claim)) if claim.instance == common.instance => {
                common.tries.at_once();
                if matches!(call, Call::Renew { .. }) {
                    common.renewed_at = Some(sent_at);
                } else {
                    self.unseen = false;
                    self.watching_since = turn.now;
                    turn.effects.push(Effect::Watch { name: common.name.clone(), version: claim.version });
                }
                self.sees(claim);
            }
            Ok(_) => return self.ask_again(false, "the claim was replaced by another of the same name", common, turn),
            Err(Failure::Missing(_)) => return self.ask_again(false, "the claim was deleted", common, turn),
            Err(failure) => {
                if let Some(error) = common.tries.believed(call.operation(), &failure, turn.now) {
                    return self.release(Some(error), common, turn);
                }
                if matches!(failure, Failure::Conflict(_)) {
                    self.unseen = true;
                }
                self.renewed_for = None;
                common.retry(call.operation(), failure, Pauses::PATIENT, turn);
            }
        }
        Stage::Waiting(self)
    }

    /// This claim has come to nothing. `exists`: it must be deleted to make room for the next.
    fn ask_again(self, exists: bool, why: &str, common: &mut Common, turn: &mut Turn) -> Stage {
        common.cancel_call(turn);
        turn.effects.push(Effect::Unwatch);
        turn.tell_retrying(WAIT, why);
        if turn.now.since(self.began_at) >= limits::WATCH_WORKED {
            common.rounds = 0;
        }
        Asking::again(exists.then_some(self.claim.uid), common, turn)
    }

    pub(super) fn release(self, error: Option<AcquireError>, common: &mut Common, turn: &mut Turn) -> Stage {
        turn.effects.push(Effect::Unwatch);
        Ending::withdraw(Some(self.claim.uid), false, error, common, turn)
    }
}
