//! What to ask next, decided from answers alone: no I/O, no clock, no chance.

use std::time::Duration;

use konductor_api::{ArrivalSpec, Barrier, Rendezvous, RendezvousKind, RendezvousPhase};

use super::{Arriving, Progress, RendezvousError};
use crate::{
    Boottime,
    protocol::{Draw, Failure, Pauses, Tries, WatchEnd, Watching, hashed, limits, random},
};

/// The creation for people.
const ARRIVE: &str = "create the arrival";

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// To see one of this kind open.
    Open(RendezvousKind),
    /// To have arrived.
    Arrive(Arriving),
}

/// What goes in.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Nothing but the passing of time: at the start, and when [`Machine::alarm`] is due.
    Time,
    /// The answer to the last [`Effect::Call`].
    Answered(Result<Answer, Failure>),
    /// The watch has shown it.
    Watched(RendezvousSeen),
    /// The watch has shown that it is gone.
    WatchedDeletion,
    /// The watch has ended.
    WatchEnded(WatchEnd),
}

/// What was seen of a barrier or gate at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RendezvousSeen {
    /// `metadata.uid`.
    pub(crate) uid: String,
    /// In which round a barrier is.
    pub(crate) round: u64,
    /// Where it stands; absent when the operator has not answered the spec as it is.
    pub(crate) phase: Option<RendezvousPhase>,
    /// Why, for people.
    pub(crate) message: String,
}

/// A request that succeeded.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// What there is, as of this version.
    Looked { version: String, found: Option<RendezvousSeen> },
    /// The arrival is made.
    Created,
    /// This arrival has the name.
    Inspected(Arrived),
}

/// An arrival that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// `spec.barrier`.
    pub(crate) barrier: String,
    /// `spec.key`.
    pub(crate) key: String,
    /// The UID of the barrier that owns it, if one does.
    pub(crate) owner: Option<String>,
    /// Whether it is being deleted.
    pub(crate) ending: bool,
}

/// What comes out, to be done in this order.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Make this request and hand in its answer; no answer after this long is one that says to try again. At most one
    /// is under way.
    Call { call: Call, within: Duration },
    /// Watch from this version.
    Watch { version: String },
    /// Tell who wants it.
    Tell(Progress),
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// What there is, in its latest state.
    Look,
    /// Create the arrival, owned by the barrier with this UID.
    Create { name: String, owner: Option<String>, spec: Box<ArrivalSpec> },
    /// What arrival has this name, which was taken when one was to be created with this owner.
    Inspect { name: String, owner: Option<String> },
}

/// One wait or one arrival, from the first request to its end.
#[derive(Debug)]
pub(crate) struct Machine {
    goal: Goal,
    /// What to ask next, or what is being asked.
    next: Call,
    calling: bool,
    watch: Watching,
    tries: Tries,
    /// What was last told, so that nothing is said twice.
    told: Option<Progress>,
    /// Names that were found taken by other arrivals.
    names: u32,
    /// Whether a quota was used up when an arrival was last to be created: nothing tells that its name is taken.
    no_room: bool,
    /// The round in which an arrival that is made now counts, as of the last look.
    round: Round,
    /// The round in which an arrival may have been made: the answer to its creation was lost.
    unsure: Option<Round>,
    /// What is to be told of an arrival that is made after the round was over.
    late: Option<Progress>,
    alarm: Option<Boottime>,
    over: bool,
}

/// A round of a barrier.
#[derive(Clone, Debug)]
struct Round {
    /// The barrier's UID; none while there is no barrier.
    uid: Option<String>,
    number: u64,
}

impl Round {
    /// That of the barrier that was found. One that is still to come begins with its first.
    fn of(found: Option<&RendezvousSeen>) -> Self {
        Self { uid: found.map(|barrier| barrier.uid.clone()), number: found.map_or(1, |barrier| barrier.round) }
    }

    /// Whether what was made in this round counts at the barrier that is in the round `now`, or counted in an earlier one.
    /// An arrival without an owner counts at whichever barrier comes; any other one at its own.
    fn bears_on(&self, now: &Self) -> bool {
        self.uid.is_none() || self.uid == now.uid
    }
}

/// One step's time, chance and effects.
struct Turn {
    now: Boottime,
    draw: Draw,
    effects: Vec<Effect>,
}

impl Turn {
    fn tell(&mut self, progress: Progress) {
        self.effects.push(Effect::Tell(progress));
    }
}

impl Machine {
    /// The first step makes the first request.
    pub(crate) fn new(goal: Goal) -> Self {
        Self {
            goal,
            next: Call::Look,
            calling: false,
            watch: Watching::closed(),
            tries: Tries::default(),
            told: None,
            names: 0,
            no_room: false,
            round: Round::of(None),
            unsure: None,
            late: None,
            alarm: None,
            over: false,
        }
    }

    /// Takes one input in at `now` and says what to do. `now` never goes back.
    pub(crate) fn step(&mut self, input: Input, now: Boottime, draw: Draw) -> Vec<Effect> {
        let mut turn = Turn { now, draw, effects: Vec::new() };
        if !self.over {
            self.take(input, &mut turn);
            self.advance(&mut turn);
        }
        turn.effects
    }

    /// When to step again if nothing else happens.
    pub(crate) fn alarm(&self) -> Option<Boottime> {
        self.alarm
    }

    /// Whether the last was told.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    fn take(&mut self, input: Input, turn: &mut Turn) {
        match input {
            Input::Time => {}
            Input::Answered(answer) => {
                self.calling = false;
                if answer.is_ok() {
                    self.tries.accepted(self.operation());
                }
                self.answered(answer, turn);
            }
            Input::Watched(seen) => {
                self.tries.accepted(self.kind().watch);
                self.watch.shows();
                self.see(Some(seen), turn);
            }
            Input::WatchedDeletion => self.see(None, turn),
            Input::WatchEnded(end) => self.watch_ended(&end, turn),
        }
    }

    fn answered(&mut self, answer: Result<Answer, Failure>, turn: &mut Turn) {
        match (&self.next, answer) {
            (_, Ok(Answer::Looked { version, found })) => self.looked(version, found, turn),
            (Call::Create { name, owner, .. }, Err(Failure::Taken)) => {
                self.no_room = false;
                self.next = Call::Inspect { name: name.clone(), owner: owner.clone() };
                self.tries.go_on();
            }
            (_, Ok(Answer::Created)) => {
                if let Some(late) = self.late.take() {
                    turn.tell(late);
                }
                self.end(Progress::Done, turn);
            }
            (Call::Inspect { name, owner }, Ok(Answer::Inspected(arrived))) => {
                let (name, owner) = (name.clone(), owner.clone());
                self.inspected(&name, owner.as_deref(), &arrived, turn);
            }
            (Call::Inspect { .. }, Err(Failure::Missing(_))) if self.no_room => {
                self.next = Call::Look;
                self.tries.pause(limits::PAUSE, turn.now, turn.draw);
            }
            (Call::Inspect { .. }, Err(Failure::Missing(_))) => {
                self.look_later("the arrival that had the name is gone", turn);
            }
            (_, Ok(Answer::Inspected(_))) => {}
            (_, Err(failure)) => self.failed(failure, turn),
        }
    }

    /// `name` is taken by this arrival, when one at the barrier with the UID `owner`, or at none yet, was to have it.
    fn inspected(&mut self, name: &str, owner: Option<&str>, arrived: &Arrived, turn: &mut Turn) {
        let Goal::Arrive(arriving) = &self.goal else { return };
        let same = (&arrived.barrier, &arrived.key) == (&arriving.barrier, &arriving.key);
        match (arrived.owner.as_deref(), owner) {
            // Owned by another barrier than the one whose UID is in the name, or made with that name for something
            // else: it does not count for this arrival.
            (Some(other), Some(owner)) if other != owner => self.taken(name, turn),
            _ if !same => self.taken(name, turn),
            // Of the last round, and gone before the next one begins.
            _ if arrived.ending => self.look_later("the arrival that has the name is being deleted", turn),
            // Without a barrier, the one who has the name may have arrived at one that was deleted.
            (Some(_), None) => {
                let why = "one who has arrived at an earlier barrier of this name is still to be deleted";
                self.look_later(why, turn);
            }
            // Who has arrived before has arrived.
            (Some(_) | None, Some(_)) | (None, None) => self.end(Progress::Done, turn),
        }
    }

    /// Somebody else has this name: another.
    fn taken(&mut self, name: &str, turn: &mut Turn) {
        let error = format!("the name {name} is taken by another arrival");
        turn.tell(Progress::Retrying { operation: ARRIVE, error });
        self.names += 1;
        self.next = Call::Look;
        self.tries.go_on();
    }

    fn look_later(&mut self, why: &str, turn: &mut Turn) {
        turn.tell(Progress::Retrying { operation: ARRIVE, error: why.into() });
        self.next = Call::Look;
        self.tries.pause(limits::PAUSE, turn.now, turn.draw);
    }

    fn advance(&mut self, turn: &mut Turn) {
        self.alarm = None;
        if self.over || self.calling || self.watch.is_open() {
            return;
        }
        if let Some(at) = self.tries.retry_at().filter(|at| *at > turn.now) {
            self.alarm = Some(at);
            return;
        }
        self.calling = true;
        turn.effects.push(Effect::Call { call: self.next.clone(), within: limits::REQUEST });
    }

    fn looked(&mut self, version: String, found: Option<RendezvousSeen>, turn: &mut Turn) {
        if let Goal::Arrive(arriving) = &self.goal {
            self.round = Round::of(found.as_ref());
            self.unsure.take_if(|unsure| !unsure.bears_on(&self.round));
            // Made once more, what has counted in a round that is over would count in this one, too. And what was never
            // made is late.
            if self.unsure.as_ref().is_some_and(|unsure| unsure.number < self.round.number) {
                turn.tell(Progress::RoundPassed { round: self.round.number });
                return self.end(Progress::Done, turn);
            }
            self.late = found.as_ref().and_then(RendezvousSeen::round_over);
            self.next = arriving.creation(found, self.names, turn.draw);
            self.tries.go_on();
            return;
        }
        self.tries.at_once();
        self.see(found, turn);
        if !self.over {
            self.watch.opened(turn.now);
            turn.effects.push(Effect::Watch { version });
        }
    }

    /// What there is now.
    fn see(&mut self, found: Option<RendezvousSeen>, turn: &mut Turn) {
        let missing = found.is_none();
        let RendezvousSeen { phase, message, .. } = found.unwrap_or_default();
        let progress = match phase {
            Some(RendezvousPhase::Open) => return self.end(Progress::Done, turn),
            Some(RendezvousPhase::Failed) => {
                return self.end(Progress::Failed { error: RendezvousError::Failed(message) }, turn);
            }
            None if !missing => Progress::Seen,
            Some(RendezvousPhase::Waiting) | None => Progress::Waiting { message, missing },
        };
        self.waits(progress, turn);
    }

    /// Tells this, if it is news.
    fn waits(&mut self, progress: Progress, turn: &mut Turn) {
        if self.told.as_ref() != Some(&progress) {
            self.told = Some(progress.clone());
            turn.tell(progress);
        }
    }

    fn failed(&mut self, failure: Failure, turn: &mut Turn) {
        let operation = self.operation();
        if let Some(error) = self.tries.believed(operation, &failure, turn.now) {
            return self.end(Progress::Failed { error: error.into() }, turn);
        }
        if let (Call::Create { .. }, Failure::Transient { .. }) = (&self.next, &failure) {
            self.unsure.get_or_insert_with(|| self.round.clone());
        }
        let is_quota = matches!(failure, Failure::QuotaUsedUp(_));
        let error = self.tries.failed(failure, Pauses::PATIENT, turn.now, turn.draw);
        if is_quota {
            // The API server answers; there is room when others are gone.
            self.waits(Progress::Waiting { message: error, missing: false }, turn);
        } else {
            turn.tell(Progress::Retrying { operation, error });
        }
        // Meanwhile there may be another barrier: whoever is owned by one that is gone does not count, and is
        // collected.
        if let Call::Create { name, owner, .. } = &self.next {
            // A quota answers before the name does: who has arrived unheard would else wait for room.
            self.no_room = is_quota;
            self.next = if is_quota { Call::Inspect { name: name.clone(), owner: owner.clone() } } else { Call::Look };
        }
    }

    fn watch_ended(&mut self, end: &WatchEnd, turn: &mut Turn) {
        let watch = self.kind().watch;
        if let Some(error) = self.tries.watch_ended(watch, end, self.watch.has_worked(turn.now), turn.now) {
            return self.end(Progress::Failed { error: error.into() }, turn);
        }
        if let Some(at) = self.watch.ended(end, self.tries.longest(limits::PAUSE), turn.now, turn.draw) {
            self.tries.not_before(at);
        }
        if let Some(trouble) = end.trouble() {
            turn.tell(Progress::Retrying { operation: watch, error: trouble.into() });
        }
    }

    fn end(&mut self, progress: Progress, turn: &mut Turn) {
        self.over = true;
        turn.tell(progress);
    }

    /// What is being asked, as a verb for people.
    fn operation(&self) -> &'static str {
        match &self.next {
            Call::Create { .. } => ARRIVE,
            Call::Inspect { .. } => "read the arrival",
            Call::Look => self.kind().read,
        }
    }

    /// The kind of what is looked at and watched.
    fn kind(&self) -> RendezvousKind {
        match &self.goal {
            Goal::Open(kind) => *kind,
            Goal::Arrive(_) => Barrier::KIND,
        }
    }
}

impl Arriving {
    /// The request that makes it arrive at the barrier that was found, if one was, by a name after so many that are
    /// taken.
    fn creation(&self, found: Option<RendezvousSeen>, taken: u32, draw: Draw) -> Call {
        let owner = found.map(|barrier| barrier.uid);
        let parts = [Barrier::KIND.name, &self.barrier, owner.as_deref().unwrap_or_default(), &self.key];
        let name = match taken {
            0 => hashed(&self.barrier, &parts),
            1..limits::SIBLINGS => format!("{}-{}", hashed(&self.barrier, &parts), taken + 1),
            _ => random(&self.barrier, draw.id),
        };
        let spec = Box::new(ArrivalSpec {
            barrier: self.barrier.clone(),
            holder: self.holder.clone(),
            key: self.key.clone(),
            pod: self.pod.clone(),
        });
        Call::Create { name, owner, spec }
    }
}

impl RendezvousSeen {
    /// What is to be told of an arrival that comes now, if it comes too late for this round.
    fn round_over(&self) -> Option<Progress> {
        let failed = match self.phase? {
            RendezvousPhase::Open => false,
            RendezvousPhase::Failed => true,
            RendezvousPhase::Waiting => return None,
        };
        Some(Progress::RoundOver { failed, message: self.message.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_do_not_run_out() {
        let arriving = Arriving { barrier: "b".into(), key: "k".into(), holder: "h".into(), pod: None };
        let name = |taken: u32| match arriving.creation(None, taken, Draw { id: u128::from(taken), jitter: 0 }) {
            Call::Create { name, .. } => name,
            other => panic!("no creation: {other:?}"),
        };
        let names: BTreeSet<_> = (0..100).map(name).collect();
        assert_eq!(names.len(), 100);
    }
}
