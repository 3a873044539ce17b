//! The machine: which stage is on, and what comes in goes to it.

use konductor_api::{LockKind, PodReference};

use super::{
    Answer, Call, Draw, Effect, Failure, Input,
    asking::Asking,
    context::{Context, Turn},
    ending::Ending,
    holding::Holding,
    waiting::Waiting,
};
use crate::Boottime;

/// One claim from the first request to its end.
#[derive(Debug)]
pub struct Machine {
    context: Context,
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

impl Machine {
    /// A claim on `parent`, a `kind` of primitive, by `pod` when in one. The first step sends the first request.
    pub fn new(kind: LockKind, parent: String, pod: Option<PodReference>) -> Self {
        let context = Context::new(kind, parent, pod);
        Self { context, stage: Stage::Asking(Asking::first()), alarm: None }
    }

    /// The claim on `parent` that belongs to a holder by its name: whoever asks in that name, in the same pod or in
    /// none, means the same claim. One that is there already is taken up, and renewed before it counts as held. Others
    /// may work under it then, so an [`Input::Release`] deletes it only while it is not held. What was created here and
    /// is held is deleted, but not when the answer to the create was never seen: that claim stays for its TTL.
    pub fn of_holder(kind: LockKind, parent: String, holder: String, pod: Option<PodReference>) -> Self {
        let mut context = Context::new(kind, parent, pod);
        context.holder = Some(holder);
        Self { context, stage: Stage::Asking(Asking::first()), alarm: None }
    }

    /// Takes one input in at `now` and says what to do. `now` never goes back.
    pub fn step(&mut self, input: Input, now: Boottime, draw: Draw) -> Vec<Effect> {
        let mut turn = Turn::new(now, draw);
        let stage = std::mem::replace(&mut self.stage, Stage::Over).checked(&mut self.context, &mut turn);
        let stage = stage.take(input, &mut self.context, &mut turn);
        self.stage = stage.advance(&mut self.context, &mut turn);
        self.alarm = turn.alarm();
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
    fn checked(self, context: &mut Context, turn: &mut Turn) -> Self {
        match self {
            Self::Holding(holding) => holding.checked(context, turn),
            other => other,
        }
    }

    fn take(self, input: Input, context: &mut Context, turn: &mut Turn) -> Self {
        match input {
            Input::Time => self,
            Input::Release => self.release(context, turn),
            Input::Answered(answer) => {
                let Some((call, sent_at)) = context.answered() else { return self };
                if answer.is_ok() {
                    context.tries.accepted(call.operation());
                }
                self.answered(&call, sent_at, answer, context, turn)
            }
            Input::ParentAnswered(answer) => match self {
                Self::Waiting(waiting) => waiting.parent_answered(answer, context, turn),
                other => other,
            },
            Input::Watched(seen) => match self {
                Self::Waiting(waiting) => waiting.watched(seen, context, turn),
                Self::Holding(holding) => holding.watched(&seen, context, turn),
                other => other,
            },
            Input::WatchedDeletion(uid) => match self {
                Self::Waiting(waiting) => waiting.watched_deletion(&uid, context, turn),
                Self::Holding(holding) => holding.watched_deletion(&uid, context, turn),
                other => other,
            },
            Input::WatchEnded(end) => match self {
                Self::Waiting(waiting) => waiting.watch_ended(&end, context, turn),
                Self::Holding(holding) => holding.watch_ended(&end, turn),
                other => other,
            },
        }
    }

    fn answered(
        self,
        call: &Call,
        sent_at: Boottime,
        answer: Result<Answer, Failure>,
        context: &mut Context,
        turn: &mut Turn,
    ) -> Self {
        match self {
            Self::Asking(asking) => asking.answered(call, answer, context, turn),
            Self::Waiting(waiting) => waiting.answered(call, sent_at, answer, context, turn),
            Self::Holding(holding) => holding.answered(call, sent_at, answer, context, turn),
            Self::Ending(ending) => ending.answered(call, answer, context, turn),
            Self::Lost(_) | Self::Over => self,
        }
    }

    fn release(self, context: &mut Context, turn: &mut Turn) -> Self {
        match self {
            Self::Asking(asking) => asking.release(None, context, turn),
            Self::Waiting(waiting) => waiting.release(None, context, turn),
            Self::Holding(holding) => holding.release(context, turn),
            Self::Lost(uid) => Ending::release(uid, context, turn),
            Self::Ending(_) | Self::Over => self,
        }
    }

    /// Does what can be done now.
    pub(super) fn advance(self, context: &mut Context, turn: &mut Turn) -> Self {
        match self {
            Self::Asking(asking) => asking.advance(context, turn),
            Self::Waiting(waiting) => waiting.advance(context, turn),
            Self::Holding(holding) => holding.advance(context, turn),
            Self::Ending(ending) => ending.advance(context, turn),
            Self::Lost(_) | Self::Over => self,
        }
    }
}
