//! The machine: what all stages share, and who of them is on.

use std::time::Duration;

use konductor_api::{LockKind, PodReference};

use super::{
    Answer, Call, Draw, Effect, Failure, Input, Pauses, Tries, asking::Asking, ending::Ending, holding::Holding, name,
    waiting::Waiting,
};
use crate::{Boottime, Event};

/// One claim from the first request to its end.
#[derive(Debug)]
pub struct Machine {
    common: Common,
    stage: Stage,
    alarm: Option<Boottime>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it does not move often")]
pub(super) enum Stage {
    /// No claim of ours is known to exist.
    Asking(Asking),
    /// It exists and is not held.
    Waiting(Waiting),
    /// It is held.
    Holding(Holding),
    /// It was held. The UID, when there may be something left to delete.
    Lost(Option<String>),
    /// It is being given up.
    Ending(Ending),
    /// All is told.
    Over,
}

/// What all stages share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) kind: LockKind,
    pub(super) parent: String,
    pub(super) pod: Option<PodReference>,
    /// The claim's name and instance, of the present attempt to acquire.
    pub(super) name: String,
    pub(super) instance: String,
    /// When the last successful renewal was sent; the first create of this instance counts as one.
    pub(super) renewed_at: Option<Boottime>,
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

impl Common {
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
        self.instance = name::instance(draw.id);
        self.renewed_at = None;
    }
}

impl Machine {
    /// A claim on `parent`, a `kind` of primitive, by `pod` when in one. The first step sends the first request.
    pub fn new(kind: LockKind, parent: String, pod: Option<PodReference>) -> Self {
        let common = Common {
            kind,
            parent,
            pod,
            name: String::new(),
            instance: String::new(),
            renewed_at: None,
            rounds: 0,
            call: None,
            tries: Tries::default(),
        };
        Self { common, stage: Stage::Asking(Asking::first()), alarm: None }
    }

    /// Takes one input in at `now` and says what to do. `now` never goes back.
    pub fn step(&mut self, input: Input, now: Boottime, draw: Draw) -> Vec<Effect> {
        let mut turn = Turn { now, draw, effects: Vec::new(), alarm: None };
        let stage = std::mem::replace(&mut self.stage, Stage::Over).checked(&mut self.common, &mut turn);
        let stage = stage.take(input, &mut self.common, &mut turn);
        self.stage = stage.advance(&mut self.common, &mut turn);
        self.alarm = turn.alarm;
        turn.effects
    }

    /// When to step again if nothing else happens.
    pub fn alarm(&self) -> Option<Boottime> {
        self.alarm
    }

    /// Whether the last event was told.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether the claim is held.
    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Holding(_))
    }
}

impl Stage {
    /// The deadline before anything else.
    fn checked(self, common: &mut Common, turn: &mut Turn) -> Self {
        match self {
            Self::Holding(holding) => holding.checked(common, turn),
            other => other,
        }
    }

    fn take(self, input: Input, common: &mut Common, turn: &mut Turn) -> Self {
        match input {
            Input::Time => self,
            Input::Release => self.release(common, turn),
            Input::Answered(answer) => {
                let Some((call, sent_at)) = common.call.take() else { return self };
                if answer.is_ok() {
                    common.tries.succeeded(call.operation());
                }
                self.answered(&call, sent_at, answer, common, turn)
            }
            Input::ParentAnswered(answer) => match self {
                Self::Waiting(waiting) => waiting.parent_answered(answer, common, turn),
                other => other,
            },
            Input::Watched(sighting) => match self {
                Self::Waiting(waiting) => waiting.watched(sighting, common, turn),
                other => other,
            },
            Input::WatchedDeletion(uid) => match self {
                Self::Waiting(waiting) => waiting.watched_deletion(&uid, common, turn),
                other => other,
            },
            Input::WatchEnded(end) => match self {
                Self::Waiting(waiting) => waiting.watch_ended(end, common, turn),
                other => other,
            },
        }
    }

    fn answered(
        self,
        call: &Call,
        sent_at: Boottime,
        answer: Result<Answer, Failure>,
        common: &mut Common,
        turn: &mut Turn,
    ) -> Self {
        match self {
            Self::Asking(asking) => asking.answered(call, answer, common, turn),
            Self::Waiting(waiting) => waiting.answered(call, sent_at, answer, common, turn),
            Self::Holding(holding) => holding.answered(call, sent_at, answer, common, turn),
            Self::Ending(ending) => ending.answered(call, answer, common, turn),
            Self::Lost(_) | Self::Over => self,
        }
    }

    fn release(self, common: &mut Common, turn: &mut Turn) -> Self {
        match self {
            Self::Asking(asking) => asking.release(None, common, turn),
            Self::Waiting(waiting) => waiting.release(None, common, turn),
            Self::Holding(holding) => Ending::release(Some(holding.uid), common, turn),
            Self::Lost(uid) => Ending::release(uid, common, turn),
            Self::Ending(_) | Self::Over => self,
        }
    }

    /// Does what can be done now.
    pub(super) fn advance(self, common: &mut Common, turn: &mut Turn) -> Self {
        match self {
            Self::Asking(asking) => asking.advance(common, turn),
            Self::Waiting(waiting) => waiting.advance(common, turn),
            Self::Holding(holding) => holding.advance(common, turn),
            Self::Ending(ending) => ending.advance(common, turn),
            Self::Lost(_) | Self::Over => self,
        }
    }
}
