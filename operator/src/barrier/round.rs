//! What precedes a barrier's phase and its next round: a sequence of single requests. No I/O, no clock.
//!
//! The caches of barriers and of arrivals are fed by two watches, which are not in step: an operator may know of a
//! round, and still of arrivals that were deleted before it began. So before a phase is written the arrivals are
//! counted by a consistent read. That read came after the version of the barrier on which the write is made, and
//! everything of former rounds was deleted before that version; so whatever was read belongs to this round.
//!
//! The next round begins in this order: read arrivals; read the barrier, and stop unless it is still at the version on
//! which this was decided; delete those arrivals, by UID; again, until there are none; write. What is deleted was there
//! while the round was still the old one, whatever other operators do meanwhile and however late this one is. An
//! arrival that the API server takes in while the last read or the write is on its way counts for the new round: nobody
//! can tell which was first.
//!
//! # One request at a time
//! [`Round::next`] names one request, and [`Round::answered`] takes its answer; in between the barrier is back in the
//! queue, so no barrier keeps a place that others wait for. While arrivals are there that were deleted but do not go
//! ([`Stuck`]: a finalizer of somebody else's), it comes to rest, and the barrier is decided on anew after a pause,
//! which is longer each time.

use std::{collections::VecDeque, fmt};

use konductor_api::arbiter::Version;

use super::arrivals::{Arrived, Crowd};

/// Arrivals deleted at once, of one barrier: it has one place among all requests of its namespace, and one place should
/// stand for few of them.
const DELETIONS: usize = 4;

/// Finalizers named in a message.
const FINALIZERS_SHOWN: usize = 3;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Reading a page of the barrier's arrivals: the first one by a consistent read, or the one after this token.
    Page {
        /// Of the page before.
        continue_token: Option<String>,
    },
    /// Reading the barrier.
    Look,
    /// Deleting these, each by its UID and side by side. There are [`DELETIONS`] at most.
    Delete(Vec<Target>),
    /// Nothing for a while: then it is begun anew, by another [`Round`].
    Rest,
    /// Nothing more: see [`Round::end`].
    Over,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// These have arrived: to be decided on, and written on the version that this was begun for.
    Counted(Crowd),
    /// Nobody is there: the next round can be written, on the version that this was begun for.
    Cleared,
    /// The barrier is not what it was: to be decided on anew.
    Overtaken,
}

/// An arrival to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(super) name: String,
    pub(super) uid: String,
}

/// An arrival in a page.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(super) target: Target,
    /// If it was deleted already: the finalizers that keep it.
    pub(super) deleted: Option<Vec<String>>,
    /// `None` if it cannot be read.
    pub(super) arrived: Option<Arrived>,
}

/// The answer to a step.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A page of arrivals.
    Page {
        /// Those in it.
        listed: Vec<Listed>,
        /// Of the next page, if there is one.
        continue_token: Option<String>,
    },
    /// The barrier's UID and resourceVersion as they are; `None` if it is gone.
    Barrier(Option<(String, Version)>),
    /// All are deleted, or were not there any more.
    Deleted,
}

/// An arrival that was deleted and does not go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    name: String,
    finalizers: Vec<String>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, finalizers } = self;
        let shown = finalizers.iter().take(FINALIZERS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = finalizers.len().saturating_sub(FINALIZERS_SHOWN);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        write!(f, "the next round waits: arrival {name} was deleted and is kept by its finalizers {shown}{more}; ")?;
        f.write_str("whoever put them there has to take them away")
    }
}

#[derive(Debug)]
enum Goal {
    Count(Crowd),
    Clear,
}

#[derive(Debug)]
enum Stage {
    List(Option<String>),
    Look(VecDeque<Target>),
    Delete(VecDeque<Target>),
    Rest,
    Over(End),
}

/// The way to a phase or to the next round, on one version of a barrier.
#[derive(Debug)]
pub(crate) struct Round {
    uid: String,
    version: Version,
    goal: Goal,
    stage: Stage,
    /// Somebody was deleted.
    deleted: bool,
    stuck: Option<Stuck>,
}

impl Round {
    /// Counts who has arrived at the barrier with this UID and resourceVersion.
    pub(crate) fn count(uid: String, version: Version) -> Self {
        let goal = Goal::Count(Crowd::default());
        Self { uid, version, goal, stage: Stage::List(None), deleted: false, stuck: None }
    }

    /// Deletes all who have arrived at it.
    pub(crate) fn clear(uid: String, version: Version) -> Self {
        Self { uid, version, goal: Goal::Clear, stage: Stage::List(None), deleted: false, stuck: None }
    }

    /// Whether it is to delete all and has deleted nobody yet: then it can still be left as it is.
    pub(crate) fn can_be_left(&self) -> bool {
        matches!(self.goal, Goal::Clear) && !self.deleted
    }

    /// What to do next.
    pub(crate) fn next(&self) -> Step {
        match &self.stage {
            Stage::List(token) => Step::Page { continue_token: token.clone() },
            Stage::Look(_) => Step::Look,
            Stage::Delete(targets) => Step::Delete(targets.iter().take(DELETIONS).cloned().collect()),
            Stage::Rest => Step::Rest,
            Stage::Over(_) => Step::Over,
        }
    }

    /// How it ended, once it is over.
    pub(crate) fn end(self) -> Option<End> {
        if let Stage::Over(end) = self.stage { Some(end) } else { None }
    }

    /// Why it does not go on, if somebody has to do something about it: to be said when there is a pause.
    pub(crate) fn stuck(&self) -> Option<&Stuck> {
        self.stuck.as_ref()
    }

    /// Takes the answer to the step that [`next`](Self::next) named. An answer to anything else means nothing.
    pub(crate) fn answered(&mut self, answer: Answer) {
        match (&mut self.stage, answer) {
            (Stage::List(_), Answer::Page { listed, continue_token }) => self.page(listed, continue_token),
            (Stage::Look(targets), Answer::Barrier(found)) => {
                let same = found.is_some_and(|(uid, version)| uid == self.uid && version == self.version);
                let targets = std::mem::take(targets);
                self.stage = if same { Stage::Delete(targets) } else { Stage::Over(End::Overtaken) };
            }
            (Stage::Delete(targets), Answer::Deleted) => {
                self.deleted = true;
                targets.drain(..DELETIONS.min(targets.len()));
                if targets.is_empty() {
                    self.begin();
                }
            }
            _ => {}
        }
    }

    fn page(&mut self, listed: Vec<Listed>, continue_token: Option<String>) {
        match &mut self.goal {
            Goal::Count(crowd) => {
                let arrived = listed.iter().filter_map(|one| one.arrived.as_ref());
                for arrived in arrived.filter(|arrived| arrived.counts_for(&self.uid)) {
                    crowd.add(arrived, None);
                }
                self.stage = match continue_token {
                    None => Stage::Over(End::Counted(std::mem::take(crowd))),
                    token => Stage::List(token),
                };
            }
            Goal::Clear => {
                let mut targets = VecDeque::new();
                for Listed { target, deleted, .. } in listed {
                    match deleted {
                        None => targets.push_back(target),
                        Some(finalizers) => {
                            self.stuck.get_or_insert(Stuck { name: target.name, finalizers });
                        }
                    }
                }
                if !targets.is_empty() {
                    self.stage = Stage::Look(targets);
                } else if continue_token.is_some() {
                    self.stage = Stage::List(continue_token);
                } else if self.stuck.is_some() {
                    self.stage = Stage::Rest;
                } else {
                    self.stage = Stage::Over(End::Cleared);
                }
            }
        }
    }

    /// From the first page.
    fn begin(&mut self) {
        if let Goal::Count(crowd) = &mut self.goal {
            *crowd = Crowd::default();
        }
        self.stuck = None;
        self.stage = Stage::List(None);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::barrier::arrivals::ArrivalObject;

    /// Arrivals as the API server has them: by name, with the finalizers, and whether they were deleted.
    #[derive(Default)]
    struct Server {
        arrivals: BTreeMap<String, (Vec<String>, bool)>,
        version: Version,
        page: usize,
        requests: usize,
    }

    impl Server {
        fn with(names: impl IntoIterator<Item = String>) -> Self {
            let arrivals = names.into_iter().map(|name| (name, (Vec::new(), false))).collect();
            Self { arrivals, version: 1, page: 20, requests: 0 }
        }

        fn answer(&mut self, step: Step) -> Answer {
            self.requests += 1;
            match step {
                Step::Page { continue_token } => {
                    let after = continue_token.unwrap_or_default();
                    let all = self.arrivals.iter().filter(|(name, _)| **name > after);
                    let listed: Vec<_> = all
                        .take(self.page + 1)
                        .map(|(name, (finalizers, deleted))| {
                            let arrival = json!({
                                "metadata": { "name": name, "uid": format!("{name}-uid"), "namespace": "n" },
                                "spec": { "barrier": "b", "holder": name, "key": name },
                            });
                            let arrival = ArrivalObject::read(&arrival.to_string()).expect("an arrival");
                            let target = Target { name: name.clone(), uid: format!("{name}-uid") };
                            let deleted = deleted.then(|| finalizers.clone());
                            Listed { target, deleted, arrived: Arrived::of(arrival).ok() }
                        })
                        .collect();
                    let more = listed.len() > self.page;
                    let listed: Vec<_> = listed.into_iter().take(self.page).collect();
                    let last = listed.last().map(|one| one.target.name.clone());
                    Answer::Page { listed, continue_token: last.filter(|_| more) }
                }
                Step::Look => Answer::Barrier(Some(("uid".into(), self.version))),
                Step::Delete(targets) => {
                    assert!(!targets.is_empty() && targets.len() <= DELETIONS);
                    for Target { name, .. } in targets {
                        if self.arrivals.get(&name).is_some_and(|(finalizers, _)| finalizers.is_empty()) {
                            self.arrivals.remove(&name);
                        } else if let Some((_, deleted)) = self.arrivals.get_mut(&name) {
                            *deleted = true;
                        }
                    }
                    Answer::Deleted
                }
                Step::Rest | Step::Over => panic!("no request"),
            }
        }
    }

    fn clear() -> Round {
        Round::clear("uid".into(), 1)
    }

    /// Up to the next pause, or the end.
    fn run(round: &mut Round, server: &mut Server) -> Step {
        loop {
            let step = round.next();
            if matches!(step, Step::Rest | Step::Over) {
                return step;
            }
            let answer = server.answer(step);
            round.answered(answer);
        }
    }

    fn ended(mut round: Round, server: &mut Server) -> End {
        assert_eq!(run(&mut round, server), Step::Over);
        round.end().expect("it is over")
    }

    fn counted(round: Round, server: &mut Server) -> Crowd {
        let End::Counted(crowd) = ended(round, server) else { panic!("not counted") };
        crowd
    }

    fn count() -> Round {
        Round::count("uid".into(), 1)
    }

    fn names(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|number| format!("a{number:03}"))
    }

    #[test]
    fn all_are_deleted_in_batches_and_read_again_before_the_round_is_over() {
        let mut server = Server::with(names(50));
        assert_eq!(ended(clear(), &mut server), End::Cleared);
        assert!(server.arrivals.is_empty());
        // Three pages with a look and five batches each (the last with three), and the page that shows that nobody is
        // left.
        assert_eq!(server.requests, 3 * 2 + 5 + 5 + 3 + 1);
    }

    #[test]
    fn counts_all_pages_and_deletes_nothing() {
        let mut server = Server::with(names(50));
        let crowd = counted(count(), &mut server);
        let mut expected = Crowd::default();
        let Answer::Page { listed, .. } = Server { page: 100, ..server }.answer(Step::Page { continue_token: None })
        else {
            panic!("no page")
        };
        listed.iter().filter_map(|one| one.arrived.as_ref()).for_each(|arrived| expected.add(arrived, None));
        assert_eq!(crowd, expected);
    }

    #[test]
    fn a_barrier_that_has_changed_loses_nobody() {
        let mut server = Server::with(names(5));
        server.version = 2;
        assert_eq!(ended(clear(), &mut server), End::Overtaken);
        assert_eq!(server.arrivals.len(), 5);
        let mut round = clear();
        round.answered(server.answer(round.next()));
        round.answered(Answer::Barrier(None));
        assert_eq!(round.end(), Some(End::Overtaken));
    }

    #[test]
    fn one_that_does_not_go_makes_it_rest_and_is_named() {
        let mut server = Server::with(names(50));
        for name in ["a003", "a007"] {
            server.arrivals.get_mut(name).expect("it is there").0 =
                ["x.io/1", "x.io/2", "x.io/3", "x.io/4"].map(str::to_owned).to_vec();
        }
        assert_eq!(run(&mut clear(), &mut server), Step::Rest);
        // All others are gone; each further attempt is one page.
        assert_eq!(server.arrivals.len(), 2);
        let (mut round, before) = (clear(), server.requests);
        assert_eq!(run(&mut round, &mut server), Step::Rest);
        assert_eq!(server.requests, before + 1);
        assert_eq!(
            round.stuck().map(ToString::to_string).as_deref(),
            Some(
                "the next round waits: arrival a003 was deleted and is kept by its finalizers x.io/1, x.io/2, x.io/3 and \
                 1 more; whoever put them there has to take them away"
            )
        );
        server.arrivals.clear();
        assert_eq!(ended(clear(), &mut server), End::Cleared);
    }

    #[test]
    fn those_behind_many_that_do_not_go_are_deleted_all_the_same() {
        let mut server = Server::with(names(100));
        server.arrivals.values_mut().take(60).for_each(|(finalizers, _)| finalizers.push("x.io/keep".into()));
        assert!(matches!(run(&mut clear(), &mut server), Step::Rest));
        assert_eq!(server.arrivals.len(), 60);
    }

    #[test]
    fn an_answer_to_nothing_means_nothing() {
        let mut server = Server::with(names(50));
        let mut round = count();
        round.answered(server.answer(round.next()));
        let next = round.next();
        assert!(matches!(next, Step::Page { continue_token: Some(_) }));
        round.answered(Answer::Deleted);
        assert_eq!(round.next(), next);
    }
}
