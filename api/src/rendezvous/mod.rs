//! What is waited for: a [`Barrier`](crate::Barrier) until enough have arrived, a [`Gate`](crate::Gate) until other
//! things are as wanted.
//!
//! Unlike locks they grant nothing to anybody: all who wait read the same status. So there is no claim protocol here
//! and no term. [`barrier::decide`] and [`gate::decide`] say from what is there, and from the status as it is, what the
//! status should be; whoever carries it out writes on the version that was decided on, or not at all.
//!
//! - [`barrier`], [`gate`]: the rules of each kind;
//! - [`fact`]: what a gate's condition asks of an object; [`tally`]: of many; [`cycles`]: gates that wait for
//!   themselves;
//! - [`since`]: how long something has been so by the operator's own clock; [`answers`]: whether it is answered.

pub mod answers;
pub mod barrier;
pub mod cycles;
pub mod fact;
pub mod gate;
pub mod since;
pub mod tally;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource,
    core::{NamespaceResourceScope, object::HasStatus},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::fact::{Evidence, Fact};
pub use self::{answers::Answers, since::Since};
use crate::{
    GoDuration,
    arbiter::Now,
    conditions::{self, condition},
    limits::MAX_MESSAGE,
};

/// A kind of thing to wait for, as far as it is the same for all of it. Each stands with its resource, as
/// [`Rendezvous::KIND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RendezvousKind {
    /// Its name in small letters, for messages, metrics and names of variables.
    pub name: &'static str,
    /// The name of several, as in paths.
    pub plural: &'static str,
    /// What a client does that reads one, as a verb for people.
    pub read: &'static str,
    /// What a client does that watches one, as a verb for people.
    pub watch: &'static str,
}

impl fmt::Display for RendezvousKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Where a barrier or a gate stands. One without a phase has not been seen by the operator yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RendezvousPhase {
    /// Those who wait go on waiting.
    Waiting,
    /// Those who wait may go on.
    Open,
    /// Those who wait should give up.
    Failed,
}

/// A resource that is waited for.
pub trait Rendezvous:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasStatus<Status: RendezvousStatus>
{
    /// What is the same for all of this kind.
    const KIND: RendezvousKind;

    /// Where it stands.
    fn phase(&self) -> Option<RendezvousPhase> {
        self.status().and_then(RendezvousStatus::phase)
    }

    /// Why it stands there, for people.
    fn message(&self) -> Option<&str> {
        let conditions = self.status()?.conditions();
        conditions.iter().find(|condition| condition.type_ == conditions::OPEN).map(|open| open.message.as_str())
    }
}

/// The status of a [`Rendezvous`].
pub trait RendezvousStatus: Serialize {
    /// Where it stands.
    fn phase(&self) -> Option<RendezvousPhase>;

    /// The generation of the spec that it answers.
    fn observed_generation(&self) -> Option<i64>;

    /// Its conditions.
    fn conditions(&self) -> &[Condition];
}

impl<S: RendezvousStatus> Evidence for S {
    fn observed_generation(&self) -> Option<i64> {
        RendezvousStatus::observed_generation(self)
    }

    fn fact(status: Option<&Self>) -> Fact {
        Fact::Rendezvous(status.and_then(Self::phase))
    }
}

/// What a write does, which says how it is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The spec was taken in, or taken in anew.
    Accept,
    /// Only figures and messages change: for people, and in no hurry.
    Tell,
    /// The phase changes, which sets those free who wait.
    Decide,
    /// A barrier begins its next round: everything that arrived before has to be gone first.
    NextRound,
}

impl Change {
    /// Its name, for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tell => "show",
            Self::Decide => "decide",
            Self::NextRound => "next-round",
        }
    }
}

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write<S> {
    /// What it does.
    pub change: Change,
    /// All of the status.
    pub status: S,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// What to write, if what is there is not right.
    pub write: Option<Write<S>>,
    /// When time alone changes the answer.
    pub look_again: Option<Timestamp>,
}

impl<S: RendezvousStatus + PartialEq> Plan<S> {
    /// Writes this status unless it is what is there.
    fn to(status: S, before: Option<&S>, accepted: bool, look_again: Option<Timestamp>) -> Self {
        let change = match before {
            Some(before) if *before == status => return Self { write: None, look_again },
            Some(before) if before.phase() == status.phase() => {
                if accepted {
                    Change::Tell
                } else {
                    Change::Accept
                }
            }
            None if status.phase() == Some(RendezvousPhase::Waiting) => Change::Accept,
            _ => Change::Decide,
        };
        Self { write: Some(Write { change, status }), look_again }
    }
}

/// A phase, and why.
struct Verdict {
    phase: RendezvousPhase,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(phase: RendezvousPhase, reason: &'static str, message: impl Into<String>) -> Self {
        Self { phase, reason, message: shortened(message.into()) }
    }

    fn conditions(&self, generation: Option<i64>, now: Timestamp, before: &[Condition]) -> Vec<Condition> {
        let one = |kind, phase| {
            let message = self.message.clone();
            condition(kind, self.phase == phase, self.reason, message, generation, now, before)
        };
        vec![
            conditions::accepted(generation, now, before),
            one(conditions::OPEN, RendezvousPhase::Open),
            one(conditions::FAILED, RendezvousPhase::Failed),
        ]
    }
}

/// As much of a message as a status may hold.
fn shortened(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_MESSAGE as usize));
    message
}

/// This long after a moment; the end of time if there is nothing after it.
fn after(at: Timestamp, wait: GoDuration) -> Timestamp {
    at.saturating_add(wait.0).unwrap_or(Timestamp::MAX)
}

/// How far the clocks of machines that are looked after are apart at most. (A time of creation counts from the end of its
/// second, which is to come for a while, too.)
const SKEW: GoDuration = GoDuration(Duration::from_mins(1));

/// When a wait is over that began at this time of the wall clock: not before it is by the operator's own clock, too,
/// which counts alone if that time is still to come, by more than [`SKEW`]. Then a clock was wrong, here or where the time was
/// noted, and nobody knows by how much. What the operator has not seen begins now.
fn later(began: Timestamp, since: Option<Since>, wait: GoDuration, now: Now) -> Timestamp {
    let left = since.unwrap_or(Since::begun(now)).left(wait, now);
    let due = if began > after(now.wall, SKEW) { now.wall } else { after(began, wait) };
    if left.is_zero() { due } else { due.max(after(now.wall, GoDuration(left))) }
}
