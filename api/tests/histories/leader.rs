//! An operator beside plain notes of what it was told, to compare its decisions with.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use konductor_api::{
    ClaimPhase, Queueing, Semaphore,
    arbiter::{Claim, ClaimChange, ClaimWrite, Now, Outcome, Parent, View, Write},
    limits::RETRY_AFTER,
};

use super::fake::{Api, Event, Operator};

/// What an operator was told, kept as plainly as possible, to compare its decisions with.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) parent: Option<Parent>,
    pub(crate) claims: BTreeMap<String, Claim>,
    /// Claims that are gone, as long as an answer, or a list, may show them as they were before.
    gone: BTreeSet<String>,
    gone_while_listing: BTreeSet<String>,
    pub(crate) listing: bool,
    /// Answers to come, by claim.
    pub(crate) unanswered: BTreeMap<String, u8>,
    tickets: BTreeMap<String, u64>,
    pub(crate) dead: BTreeSet<String>,
    /// Grants under way, or without an answer.
    pub(crate) granting: BTreeSet<String>,
    /// Claims with a write under way, tellings aside.
    pub(crate) busy: BTreeSet<String>,
    retry_at: BTreeMap<String, Duration>,
}

impl Notes {
    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::Parent(parent) => {
                if self.parent.as_ref().is_none_or(|known| known.version < parent.version) {
                    self.parent = Some(parent.clone());
                }
            }
            Event::ParentGone(uid) => self.parent = self.parent.take().filter(|parent| *parent.uid != **uid),
            Event::Claim(claim) => {
                let newer = self.claims.get(&*claim.uid).is_none_or(|known| known.version < claim.version);
                if newer && !self.gone.contains(&*claim.uid) && !self.gone_while_listing.contains(&*claim.uid) {
                    let ticket = self.tickets.entry(claim.uid.to_string()).or_insert(claim.version);
                    *ticket = claim.state.ticket.unwrap_or(*ticket);
                    self.granting.remove(&*claim.uid);
                    self.retry_at.remove(&*claim.uid);
                    self.claims.insert(claim.uid.to_string(), claim.clone());
                }
            }
            Event::ClaimGone(uid) => {
                if self.claims.remove(uid).is_some() {
                    if self.unanswered.contains_key(uid) {
                        self.gone.insert(uid.clone());
                    }
                    if self.listing {
                        self.gone_while_listing.insert(uid.clone());
                    }
                    self.tickets.remove(uid);
                    self.dead.remove(uid);
                    self.granting.remove(uid);
                    self.retry_at.remove(uid);
                }
            }
        }
    }

    pub(crate) fn listed(&mut self, claims: &[Claim]) {
        for claim in claims {
            self.observe(&Event::Claim(claim.clone()));
        }
        self.listing = false;
        self.gone_while_listing.clear();
    }

    pub(crate) fn held(&self, term: u64) -> u64 {
        let held = self.claims.values().filter(|claim| {
            let granted = matches!(claim.state.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking));
            granted && claim.state.term == term || self.granting.contains(&*claim.uid)
        });
        held.map(|claim| claim.weight).sum()
    }

    /// Everybody who waits, in the order in which they may go.
    pub(crate) fn waiting(&self) -> Vec<&Claim> {
        let mut waiting: Vec<_> = self.claims.values().collect();
        waiting.retain(|claim| {
            matches!(claim.state.phase, None | Some(ClaimPhase::Pending)) && !self.granting.contains(&*claim.uid)
        });
        waiting.sort_by_key(|claim| (Reverse(claim.priority), self.tickets[&*claim.uid], claim.uid.clone()));
        waiting
    }

    /// Who is to be granted now.
    pub(crate) fn next(&self, parent: &Parent, term: u64, now: Now) -> Vec<String> {
        let mut free = parent.capacity.saturating_sub(self.held(term));
        let mut next = vec![];
        for claim in self.waiting() {
            let refused = self.retry_at.get(&*claim.uid).is_some_and(|at| *at > now.monotonic);
            if claim.weight > parent.capacity || self.dead.contains(&*claim.uid) || refused {
                continue;
            }
            if claim.weight > free {
                match parent.queueing {
                    Queueing::StrictFIFO => break,
                    Queueing::BestEffortFIFO => continue,
                }
            }
            free -= claim.weight;
            if !self.busy.contains(&*claim.uid) {
                next.push(claim.uid.to_string());
            }
        }
        next
    }
}

/// The answer to a write.
pub(crate) struct Answer {
    pub(crate) write: Write,
    /// `None` when it is known to have taken effect.
    pub(crate) outcome: Option<Outcome>,
    /// The result, or what was read after the failure.
    pub(crate) found: Event,
}

pub(crate) struct Leader {
    pub(crate) operator: Operator,
    pub(crate) notes: Notes,
    pub(crate) flights: Vec<Write>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) listing: Option<u64>,
    pub(crate) list: Option<(u64, Vec<Claim>)>,
}

impl Leader {
    pub(crate) fn new() -> Self {
        Self {
            operator: Operator::new::<Semaphore>(),
            notes: Notes::default(),
            flights: vec![],
            answers: vec![],
            listing: None,
            list: None,
        }
    }

    pub(crate) fn view(&mut self) -> &mut View {
        &mut self.operator.view
    }

    pub(crate) fn watch(&mut self, api: &Api<Semaphore>, events: usize, now: Now) {
        let end = api.log.len().min(self.operator.seen.saturating_add(events));
        api.log[self.operator.seen..end].iter().for_each(|event| self.notes.observe(event));
        self.operator.watch(api, events, now);
    }

    pub(crate) fn relist(&mut self, api: &Api<Semaphore>, now: Now) {
        let events = api.parent().map(Event::Parent).into_iter().chain(api.claims().into_iter().map(Event::Claim));
        events.for_each(|event| self.notes.observe(&event));
        self.operator.relist(api, now);
    }

    pub(crate) fn answer(&mut self, answer: Answer, now: Now) {
        let Answer { write, outcome, found } = answer;
        let uid = write.uid();
        // The result of a write of a claim that is gone says nothing.
        if outcome.is_some() || self.notes.claims.contains_key(uid) || matches!(found, Event::Parent(_)) {
            self.notes.observe(&found);
        }
        if let Some(answers) = self.notes.unanswered.get_mut(uid) {
            *answers -= 1;
            if *answers == 0 {
                self.notes.unanswered.remove(uid);
                self.notes.gone.remove(uid);
            }
        }
        if !is_telling(&write) {
            self.notes.busy.remove(uid);
            let unchanged = self.notes.claims.get(uid).is_some_and(|claim| claim.version == write.version());
            if let (true, Some(outcome)) = (unchanged, outcome) {
                self.notes.retry_at.insert(uid.into(), now.monotonic + RETRY_AFTER);
                if outcome == Outcome::NotApplied {
                    self.notes.granting.remove(uid);
                }
            }
        }
        match outcome {
            None => self.operator.acknowledge(&write, found, now),
            Some(outcome) => self.operator.fail(&write, outcome, found, now),
        }
    }
}

/// Tellings go beside other writes of a claim.
pub(crate) fn is_telling(write: &Write) -> bool {
    matches!(write, Write::Claim(ClaimWrite { change: ClaimChange::Tell(_), .. }))
}
