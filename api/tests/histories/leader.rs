//! An operator beside plain notes of what it was told, to compare its decisions with.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use konductor_api::{
    ClaimPhase, Queueing, Semaphore,
    arbiter::{Claim, ClaimChange, ClaimWrite, Look, Now, Outcome, Parent, Plan, Reign, View, Write},
    limits::{ASIDE, DOUBTED_GRANTS, LONGEST_ASIDE, LONGEST_RETRY_AFTER, RETRY_AFTER},
};

use super::fake::{Api, Event, Operator};

/// What an operator was told, kept as plainly as possible, to compare its decisions with.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) parent: Option<Parent>,
    pub(crate) claims: BTreeMap<String, Claim>,
    /// Claims that cannot be read: their versions, whether they may be held, and their weights if they could be read
    /// once.
    unread: BTreeMap<String, (u64, bool, Option<u64>)>,
    /// Granted by a parent that was deleted since, and there when this one was taken over: they count until they end.
    pub(crate) foreign: BTreeSet<String>,
    /// Claims whose pods are known not to exist.
    pub(crate) absent: BTreeSet<String>,
    /// Waiting claims that the operator has found to be over: whether they were silent for too long is not followed
    /// here.
    pub(crate) mute: BTreeSet<String>,
    /// Grants in a row that got no answer.
    doubts: BTreeMap<String, u32>,
    /// Claims that are gone, as long as an answer, or a list, may show them as they were before.
    gone: BTreeSet<String>,
    gone_while_listing: BTreeSet<String>,
    pub(crate) listing: bool,
    /// Claims that were seen granted, or unreadable, in the list under way.
    shown: BTreeSet<String>,
    /// Answers to come, by claim.
    pub(crate) unanswered: BTreeMap<String, u8>,
    tickets: BTreeMap<String, u64>,
    pub(crate) dead: BTreeSet<String>,
    /// Grants under way, or without an answer.
    pub(crate) granting: BTreeSet<String>,
    /// Those of them that have once got no answer: until the claim changes, only a new term undoes them.
    doubted: BTreeSet<String>,
    /// Claims with a write under way, tellings aside, and its version. One from before a claim could not be read does
    /// not count: it comes to nothing.
    pub(crate) busy: BTreeMap<String, u64>,
    /// How often a write failed in a row, and when the next may be made.
    retries: BTreeMap<String, (u32, Duration)>,
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
                let uid = &*claim.uid;
                let newer = self.claims.get(uid).is_none_or(|known| known.version < claim.version)
                    && self.unread.get(uid).is_none_or(|(version, ..)| *version <= claim.version);
                if !newer || self.is_gone(uid) {
                    return;
                }
                self.unread.remove(uid);
                let ticket = self.tickets.entry(uid.into()).or_insert(claim.version);
                *ticket = claim.state.ticket.unwrap_or(*ticket);
                self.settle(uid);
                let known = self.claims.insert(uid.into(), claim.clone());
                if known.is_some_and(|known| known.renewed != claim.renewed) {
                    self.absent.remove(uid);
                    self.mute.remove(uid);
                }
                if is_granted(claim) {
                    self.mute.remove(uid);
                    self.doubts.remove(uid);
                } else {
                    self.foreign.remove(uid);
                }
                if self.doubts.get(uid).is_none_or(|doubts| *doubts < DOUBTED_GRANTS) {
                    self.retries.remove(uid);
                }
            }
            Event::Unread(claim) => {
                let uid = &*claim.uid;
                if self.listing && claim.may_hold && !self.is_gone(uid) {
                    self.shown.insert(uid.into());
                }
                let newer = self.claims.get(uid).is_none_or(|known| known.version < claim.version)
                    && self.unread.get(uid).is_none_or(|(version, ..)| *version < claim.version);
                if newer && !self.is_gone(uid) {
                    let before = self.unread.get(uid).and_then(|(.., weight)| *weight);
                    let weight = self.claims.remove(uid).map(|claim| claim.weight).or(before);
                    self.unread.insert(uid.into(), (claim.version, claim.may_hold, weight));
                    self.settle(uid);
                    self.mute.remove(uid);
                    self.busy.remove(uid);
                    self.retries.remove(uid);
                    self.doubts.remove(uid);
                    self.tickets.remove(uid);
                    self.dead.remove(uid);
                    self.absent.remove(uid);
                }
            }
            Event::ClaimGone(uid) => {
                let known = self.claims.remove(uid).is_some();
                if known | self.unread.remove(uid).is_some() {
                    if self.unanswered.contains_key(uid) {
                        self.gone.insert(uid.clone());
                    }
                    if self.listing {
                        self.gone_while_listing.insert(uid.clone());
                    }
                    self.tickets.remove(uid);
                    self.dead.remove(uid);
                    self.settle(uid);
                    self.retries.remove(uid);
                    self.foreign.remove(uid);
                    self.absent.remove(uid);
                    self.doubts.remove(uid);
                }
            }
        }
    }

    /// Nothing of a grant of this claim is under way any more.
    fn settle(&mut self, uid: &str) {
        self.granting.remove(uid);
        self.doubted.remove(uid);
    }

    /// Grants of earlier terms do not count.
    pub(crate) fn settle_all(&mut self) {
        self.granting.clear();
        self.doubted.clear();
    }

    fn is_gone(&self, uid: &str) -> bool {
        self.gone.contains(uid) || self.gone_while_listing.contains(uid)
    }

    /// Granted by another parent than the one that is known.
    fn is_foreign(&self, claim: &Claim) -> bool {
        let parent = self.parent.as_ref().map(|parent| &parent.uid);
        is_granted(claim) && claim.state.parent.as_ref() != parent
    }

    /// A part of a list. `counts`: it is the one that the takeover waits for; of another only what it cannot show is
    /// seen.
    fn paged(&mut self, claims: &[Event], counts: bool) {
        for event in claims {
            match event {
                Event::Claim(claim) if counts => {
                    self.observe(event);
                    if self.claims.get(&*claim.uid).is_some_and(is_granted) {
                        self.shown.insert(claim.uid.to_string());
                    }
                }
                Event::Claim(_) => {}
                _ => self.observe(event),
            }
        }
    }

    /// The end of a list. `counts`: it is the one that the takeover waits for.
    fn listed(&mut self, counts: bool) {
        let shown = std::mem::take(&mut self.shown);
        if counts {
            let may_hold = |uid: &String| self.claims.get(uid).is_none_or(|claim| self.is_foreign(claim));
            self.foreign = shown.into_iter().filter(may_hold).collect();
        }
        self.list_ended();
    }

    fn list_ended(&mut self) {
        self.listing = false;
        self.gone_while_listing.clear();
    }

    pub(crate) fn held(&self, term: u64) -> u64 {
        let held = self.claims.values().filter(|claim| {
            let ours = is_granted(claim) && !self.is_foreign(claim) && claim.state.term == term;
            ours || self.is_foreign(claim) && self.foreign.contains(&*claim.uid) || self.granting.contains(&*claim.uid)
        });
        let unread = self.unread.values().filter(|(_, may_hold, _)| *may_hold).filter_map(|(.., weight)| *weight);
        held.map(|claim| claim.weight).chain(unread).sum()
    }

    /// Nobody knows how much is held.
    pub(crate) fn is_unknown(&self) -> bool {
        self.unread.values().any(|(_, may_hold, weight)| *may_hold && weight.is_none())
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
        if self.is_unknown() {
            return vec![];
        }
        let mut free = parent.capacity.saturating_sub(self.held(term));
        let mut next = vec![];
        for claim in self.waiting() {
            let refused = self.retries.get(&*claim.uid).is_some_and(|(_, at)| *at > now.monotonic);
            let lost = self.dead.contains(&*claim.uid) || self.absent.contains(&*claim.uid) || claim.revoke.is_some();
            if claim.weight > parent.capacity || lost || refused || self.mute.contains(&*claim.uid) {
                continue;
            }
            if claim.weight > free {
                match parent.queueing {
                    Queueing::StrictFIFO => break,
                    Queueing::BestEffortFIFO => continue,
                }
            }
            free -= claim.weight;
            if !self.busy.contains_key(&*claim.uid) {
                next.push(claim.uid.to_string());
            }
        }
        next
    }
}

fn is_granted(claim: &Claim) -> bool {
    matches!(claim.state.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking))
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
    /// Looks at pods without an answer yet.
    pub(crate) looks: Vec<Look>,
    /// What the watches of parents and of claims have yet to show. They are not in step.
    watches: [VecDeque<Event>; 2],
    pub(crate) listing: Option<u64>,
    pub(crate) list: Option<(u64, Vec<Event>)>,
}

impl Leader {
    pub(crate) fn new() -> Self {
        Self {
            operator: Operator::new::<Semaphore>(),
            notes: Notes::default(),
            flights: vec![],
            answers: vec![],
            looks: vec![],
            watches: [VecDeque::new(), VecDeque::new()],
            listing: None,
            list: None,
        }
    }

    pub(crate) fn view(&mut self) -> &mut View {
        &mut self.operator.view
    }

    /// Sees up to so many of the next events of each of these watches: 0 is that of parents, 1 that of claims.
    pub(crate) fn watch(&mut self, api: &Api<Semaphore>, events: usize, which: &[usize], now: Now) {
        for event in &api.log[self.operator.seen..] {
            let of_parent = matches!(event, Event::Parent(_) | Event::ParentGone(_));
            self.watches[usize::from(!of_parent)].push_back(event.clone());
        }
        self.operator.seen = api.log.len();
        for watch in which {
            for _ in 0..events {
                let Some(event) = self.watches[*watch].pop_front() else { break };
                self.observe(event, now);
            }
        }
    }

    fn observe(&mut self, event: Event, now: Now) {
        self.notes.observe(&event);
        self.operator.observe(event, now);
    }

    /// Sees what there is instead of what has happened since. What the list does not show is asked for.
    pub(crate) fn relist(&mut self, api: &Api<Semaphore>, now: Now) {
        self.watches = [VecDeque::new(), VecDeque::new()];
        self.operator.seen = api.log.len();
        let known: Vec<_> = self.notes.claims.keys().chain(self.notes.unread.keys()).cloned().collect();
        let there: BTreeSet<_> = api.claims().into_iter().map(|claim| claim.uid).collect();
        for uid in known.into_iter().filter(|uid| !there.contains(&**uid)) {
            self.observe(Event::ClaimGone(uid), now);
        }
        if let (None, Some(known)) = (api.parent(), &self.notes.parent) {
            let uid = known.uid.to_string();
            self.observe(Event::ParentGone(uid), now);
        }
        for event in api.parent().map(Event::Parent).into_iter().chain(api.list()) {
            self.observe(event, now);
        }
    }

    /// The list under way shows some more claims.
    pub(crate) fn page(&mut self, claims: usize, now: Now) {
        let Some((term, mut page)) = self.list.take() else { return };
        let rest = page.split_off(claims.min(page.len()));
        self.list = Some((term, rest));
        self.notes.paged(&page, self.waits_for(term));
        self.operator.paged(term, page, now);
    }

    /// The list under way ends.
    pub(crate) fn listed(&mut self, now: Now) {
        let Some((term, _)) = self.list.take() else { return };
        let counts = self.waits_for(term);
        self.notes.listed(counts);
        self.operator.listed(term, vec![], now);
    }

    /// The list under way fails, whatever it has shown.
    pub(crate) fn list_fails(&mut self) {
        if self.list.take().is_some() {
            self.notes.list_ended();
            self.operator.view.list_failed();
        }
    }

    /// Leads from now on. Who was silent before has the whole time to answer again, unless its end is being written.
    pub(crate) fn lead(&mut self, now: Now) {
        self.hear_anew();
        self.view().lead(now);
    }

    fn hear_anew(&mut self) {
        let Notes { mute, busy, .. } = &mut self.notes;
        mute.retain(|uid| busy.contains_key(uid));
    }

    /// This was sent. Who has stood down and writes to the parent leads again by itself.
    pub(crate) fn sent(&mut self, plan: &Plan, now: Now) {
        let raises = plan.writes.iter().any(|write| matches!(write, Write::Parent(_)));
        if raises && matches!(self.operator.view.reign(), Reign::StoodDown { .. }) {
            self.hear_anew();
        }
        self.operator.view.sent(plan, now);
    }

    fn waits_for(&self, term: u64) -> bool {
        matches!(self.operator.view.reign(), Reign::Listing { term: own, .. } if *own == term)
    }

    pub(crate) fn answer(&mut self, answer: Answer, now: Now) {
        let Answer { write, outcome, found } = answer;
        let uid = write.uid();
        // The result of a write of a claim that is gone says nothing.
        let unreadable = matches!(found, Event::Unread(_));
        if outcome.is_some() || unreadable || self.notes.claims.contains_key(uid) || matches!(found, Event::Parent(_)) {
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
            if self.notes.busy.get(uid) == Some(&write.version()) {
                self.notes.busy.remove(uid);
            }
            let unchanged = self.notes.claims.get(uid).is_some_and(|claim| claim.version == write.version());
            if let (true, Some(outcome)) = (unchanged, outcome) {
                if outcome == Outcome::Unknown && write.name() == "expire" {
                    self.notes.mute.remove(uid);
                }
                if outcome == Outcome::NotApplied && !self.notes.doubted.contains(uid) {
                    self.notes.granting.remove(uid);
                }
                let (failures, at) = self.notes.retries.entry(uid.into()).or_default();
                let pause = if self.notes.granting.contains(uid) {
                    self.notes.doubted.insert(uid.into());
                    let doubts = self.notes.doubts.entry(uid.into()).or_default();
                    *doubts += 1;
                    let times = doubts.checked_sub(DOUBTED_GRANTS);
                    times.map_or(RETRY_AFTER, |times| ASIDE.saturating_mul(1 << times).min(LONGEST_ASIDE))
                } else {
                    *failures += 1;
                    RETRY_AFTER.saturating_mul(1 << (*failures - 1)).min(LONGEST_RETRY_AFTER)
                };
                *at = now.monotonic + pause;
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
