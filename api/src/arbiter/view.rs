//! What one operator knows of one parent and its claims, and where its reign over them stands.
//!
//! A view only ever moves forward: what is older than what it knows is ignored, object by object. That absence from a
//! list proves nothing (the list may be older than what is known) is why claims leave only by [`View::claim_gone`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Change, Claim, Now, Parent, ParentState, ParentSummary, Plan, Subject, Tenure, Version, Write,
    entry::{Entry, Filed, Role},
    waiters::{Place, Waiters},
};
use crate::{
    ClaimPhase, LockKind,
    limits::{HOLDERS_SHOWN, PROOF_OF_LIFE, RETRY_AFTER, STOOD_DOWN, WAITED_LONG},
};

/// How far the operator is in taking this parent over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reign {
    /// Does not lead; only watches.
    Standby,
    /// Leads, and has to raise the term first (as soon as the parent exists).
    Raising,
    /// The term is raised; waits for a consistent list of the claims.
    Listing {
        /// The term raised to.
        term: u64,
        /// The last term whose leader had settled: grants older than this were never confirmed.
        settled: u64,
    },
    /// Writes its term onto the adopted claims.
    Restamping {
        /// Its term.
        term: u64,
    },
    /// Grants.
    Settled {
        /// Its term.
        term: u64,
    },
    /// Met a higher term: somebody else leads here.
    StoodDown {
        /// When to take over again if this operator still leads.
        until: Duration,
    },
}

/// What is known of a write that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API server refused it: it has not taken effect and never will.
    NotApplied,
    /// No answer: it may have taken effect, or may still.
    Unknown,
}

/// What may still show a claim that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gone {
    /// Answers to writes of it, or the reads after they failed.
    answers: u8,
    /// The list that is under way.
    list: bool,
}

/// See the [module](super). Create one per parent name, whether or not the parent exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub(super) kind: LockKind,
    pub(super) name: String,
    pub(super) reign: Reign,
    pub(super) parent: Option<Parent>,
    /// A write to the parent is under way, decided on this version.
    pub(super) parent_busy: Option<Version>,
    pub(super) parent_retry_at: Duration,
    pub(super) listing: bool,
    pub(super) floor: u64,
    /// The last `settledTerm` seen for this name. A recreated parent does not know it, its claims still do.
    settled: u64,
    pub(super) sequence: u64,
    pub(super) claims: BTreeMap<String, Entry>,
    /// Claims that are gone, while an answer that may show them as they were before must not bring them back.
    gone: BTreeMap<String, Gone>,
    pub(super) waiters: Waiters,
    pub(super) in_use: u64,
    pub(super) unstamped: BTreeSet<String>,
    pub(super) due: BTreeSet<(Duration, String)>,
    pub(super) over: BTreeSet<(Duration, String)>,
    pub(super) queue_changed: bool,
    pub(super) told_at: Option<Duration>,
    pub(super) granted_at: Option<Duration>,
    pub(super) summary_changed_at: Option<Duration>,
    /// By their tokens, so in the order of their grants.
    holders: BTreeSet<(u64, String)>,
}

impl View {
    /// A view of the parent of this kind and name, of which nothing is known yet.
    pub fn new(kind: LockKind, name: &str) -> Self {
        Self::with_floor(kind, name, 0)
    }

    /// Like [`View::new`], for a name whose terms have been seen up to `floor`.
    pub fn with_floor(kind: LockKind, name: &str, floor: u64) -> Self {
        Self {
            kind,
            name: name.into(),
            reign: Reign::Standby,
            parent: None,
            parent_busy: None,
            parent_retry_at: Duration::ZERO,
            listing: false,
            floor,
            settled: 0,
            sequence: 0,
            claims: BTreeMap::new(),
            gone: BTreeMap::new(),
            waiters: Waiters::default(),
            in_use: 0,
            unstamped: BTreeSet::new(),
            due: BTreeSet::new(),
            over: BTreeSet::new(),
            queue_changed: false,
            told_at: None,
            granted_at: None,
            summary_changed_at: None,
            holders: BTreeSet::new(),
        }
    }

    /// This operator leads from now on and takes the parent over.
    pub fn lead(&mut self, now: Now) {
        self.reign = Reign::Raising;
        for entry in self.claims.values_mut() {
            entry.granting = None;
            entry.adopted = false;
            entry.proof_due = None;
            // A new leader waits a full TTL, whatever it saw before.
            entry.renewal_seen = now.monotonic;
        }
        self.refile_all(now);
    }

    /// This operator does not lead any more.
    pub fn stand_down(&mut self) {
        self.reign = Reign::Standby;
    }

    /// Where the takeover stands.
    pub fn reign(&self) -> &Reign {
        &self.reign
    }

    /// Highest term ever seen for this name. Outlives the parent, see [`View::with_floor`].
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Neither parent nor claims: nothing is lost when the view is dropped but its [`floor`](View::floor).
    pub fn is_unused(&self) -> bool {
        self.parent.is_none() && self.claims.is_empty()
    }

    /// The parent exists.
    pub fn has_parent(&self) -> bool {
        self.parent.is_some()
    }

    /// Permits held, or possibly held.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Claims that wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// The parent was seen, at any version.
    pub fn observe_parent(&mut self, parent: Parent, now: Now) {
        // Also what is old news shows a term that was used.
        self.floor = self.floor.max(parent.state.term);
        let known = self.parent.as_ref();
        if known.is_some_and(|known| parent.version <= known.version) {
            return;
        }
        let (same, state) = (known.is_none_or(|known| known.uid == parent.uid), parent.state.clone());
        if state.settled_term > 0 {
            self.settled = state.settled_term;
        }
        let resized = known.is_none_or(|known| known.capacity != parent.capacity);
        self.parent = Some(parent);
        self.queue_changed |= resized;
        self.note_summary_change(now);
        self.note_term(state.term, now);
        let intact = match self.reign {
            Reign::Listing { term, .. } | Reign::Restamping { term } => same && state.term == term,
            Reign::Settled { term } => same && state.term == term && state.settled_term == term,
            Reign::Standby | Reign::Raising | Reign::StoodDown { .. } => true,
        };
        if !intact {
            self.lead(now);
        }
    }

    /// The parent with this UID does not exist any more. Its claims stay as they are and count again when it is recreated.
    pub fn parent_gone(&mut self, uid: &str, now: Now) {
        if self.parent.as_ref().is_none_or(|parent| parent.uid != uid) {
            return;
        }
        self.parent = None;
        self.parent_busy = None;
        self.queue_changed = true;
        if self.reign != Reign::Standby {
            self.lead(now);
        }
    }

    /// A claim was seen, at any version.
    pub fn observe_claim(&mut self, claim: Claim, now: Now) {
        let (uid, term) = (claim.uid.clone(), claim.state.term);
        if self.gone.contains_key(&uid) {
            return;
        }
        if let Some(entry) = self.claims.get_mut(&uid) {
            if claim.version <= entry.claim.version {
                return;
            }
            let (was_granted, renewed) = (entry.granted(), claim.renewed != entry.claim.renewed);
            entry.claim = claim;
            entry.ticket = entry.claim.state.ticket.unwrap_or(entry.ticket);
            entry.adopted &= entry.granted();
            entry.granting = None;
            entry.retry_at = Duration::ZERO;
            if renewed {
                entry.heard = now.monotonic;
            }
            let newly_granted = entry.granted() && !was_granted;
            if renewed || newly_granted {
                entry.renewal_seen = now.monotonic;
                entry.proof_due =
                    (newly_granted && !renewed && entry.granting_late).then(|| now.monotonic + PROOF_OF_LIFE);
            }
        } else {
            // The version of a claim that nobody has written to since its creation is its place in the API server's order.
            let ticket = claim.state.ticket.unwrap_or(claim.version);
            let entry = Entry {
                ticket,
                dead: false,
                adopted: false,
                busy: false,
                telling: false,
                retry_at: Duration::ZERO,
                proof_due: None,
                granting: None,
                granting_late: false,
                heard: now.monotonic,
                renewal_seen: now.monotonic,
                over_since: now.monotonic,
                filed: None,
                claim,
            };
            self.claims.insert(uid.clone(), entry);
        }
        self.note_term(term, now);
        self.refile(&uid, now);
    }

    /// The claim with this UID does not exist any more: seen deleted, or a read answered so.
    pub fn claim_gone(&mut self, uid: &str, now: Now) {
        self.unfile(uid, now);
        if let Some(entry) = self.claims.remove(uid) {
            // Of what is over only the deletion is under way; its answer shows nothing.
            let writing = entry.busy && entry.claim.state.phase != Some(ClaimPhase::Expired);
            let gone = Gone { answers: u8::from(writing) + u8::from(entry.telling), list: self.listing };
            if gone.answers > 0 || gone.list {
                self.gone.insert(uid.into(), gone);
            }
        }
    }

    /// An answer to a write of this claim has come. Returns whether the claim is still there.
    fn heard_back(&mut self, uid: &str) -> bool {
        if let Some(gone) = self.gone.get_mut(uid) {
            gone.answers = gone.answers.saturating_sub(1);
            if gone.answers == 0 && !gone.list {
                self.gone.remove(uid);
            }
        }
        self.claims.contains_key(uid)
    }

    /// The claim's container has ended together with its pod.
    pub fn holder_died(&mut self, uid: &str, now: Now) {
        if let Some(entry) = self.claims.get_mut(uid) {
            entry.dead = true;
            self.refile(uid, now);
        }
    }

    /// The answer to [`Plan::list`]: all claims of this parent by one consistent read that was sent after the plan.
    pub fn listed(&mut self, term: u64, mut claims: Vec<Claim>, now: Now) {
        claims.retain(|claim| !self.gone.contains_key(&claim.uid));
        self.list_failed();
        let Reign::Listing { term: own, settled } = self.reign else { return };
        if own != term {
            return;
        }
        let listed: BTreeSet<String> = claims.iter().map(|claim| claim.uid.clone()).collect();
        for claim in claims {
            self.observe_claim(claim, now);
        }
        // Observing may have shown a higher term.
        if self.reign != (Reign::Listing { term: own, settled }) {
            return;
        }
        self.reign = Reign::Restamping { term };
        for (uid, entry) in &mut self.claims {
            entry.adopted = entry.granted() && entry.claim.state.term >= settled && listed.contains(uid);
        }
        self.refile_all(now);
    }

    /// The list could not be had; it is asked for again.
    pub fn list_failed(&mut self) {
        self.listing = false;
        self.gone.retain(|_, gone| {
            gone.list = false;
            gone.answers > 0
        });
    }

    /// The plan is about to be carried out. To be called once, before any of it goes out.
    pub fn sent(&mut self, plan: &Plan, now: Now) {
        self.listing |= plan.list.is_some();
        if plan.told {
            self.queue_changed = plan.more_to_tell;
            self.told_at = Some(now.monotonic);
        }
        if plan.summarized {
            self.summary_changed_at = None;
        }
        for write in &plan.writes {
            match &write.subject {
                Subject::Parent { .. } => {
                    self.parent_busy = Some(write.version);
                    self.summary_changed_at = None;
                    if matches!(write.change, Change::Raise(_)) && self.reign != Reign::Raising {
                        self.lead(now);
                    }
                }
                Subject::Claim { uid, .. } => self.claim_sent(uid, write, now),
            }
        }
    }

    fn claim_sent(&mut self, uid: &str, write: &Write, now: Now) {
        let Some(entry) = self.claims.get_mut(uid) else { return };
        if let Change::Tell(_) = write.change {
            entry.telling = true;
            return;
        }
        entry.busy = true;
        if let Change::Grant(_) = write.change {
            // A grant that is sent again may have taken effect at the first time.
            let late = now.monotonic.saturating_sub(entry.heard) > WAITED_LONG;
            entry.granting_late = late && (entry.granting.is_none() || entry.granting_late);
            entry.granting = Some(write.version);
            self.granted_at = Some(now.monotonic);
            self.sequence += 1;
        }
        self.refile(uid, now);
    }

    /// A write to the parent succeeded with this result.
    pub fn acknowledged_parent(&mut self, write: &Write, parent: Parent, now: Now) {
        // The answer may be about a parent that is gone.
        if self.parent_busy.take_if(|version| *version == write.version).is_none() {
            return;
        }
        let settled = if parent.state.settled_term > 0 { parent.state.settled_term } else { self.settled };
        self.observe_parent(parent, now);
        let Some(state) = self.parent.as_ref().map(|parent| &parent.state) else { return };
        match (&write.change, &self.reign) {
            (Change::Raise(raised), Reign::Raising) if state.term == raised.term => {
                self.sequence = 0;
                self.reign = Reign::Listing { term: raised.term, settled };
                // A claim may have shown a higher term since the raise took effect.
                self.note_term(self.floor, now);
                self.refile_all(now);
            }
            (Change::Settle(_), Reign::Restamping { term }) if state.term == *term && state.settled_term == *term => {
                self.reign = Reign::Settled { term: *term };
                self.queue_changed = true;
            }
            _ => {}
        }
    }

    /// A write to a claim succeeded with this result.
    pub fn acknowledged_claim(&mut self, write: &Write, claim: Claim, now: Now) {
        let uid = claim.uid.clone();
        if !self.heard_back(&uid) {
            return;
        }
        self.observe_claim(claim, now);
        if let Some(entry) = self.claims.get_mut(&uid) {
            entry.answered(write);
            self.refile(&uid, now);
        }
    }

    /// A write did not succeed. The object has been read again since, and what was found has been observed.
    pub fn failed(&mut self, write: &Write, outcome: Outcome, now: Now) {
        match &write.subject {
            Subject::Parent { uid } => {
                if self.parent_busy.take_if(|version| *version == write.version).is_none() {
                    return;
                }
                let unchanged =
                    self.parent.as_ref().is_some_and(|parent| parent.uid == *uid && parent.version == write.version);
                self.parent_retry_at = if unchanged { now.monotonic + RETRY_AFTER } else { Duration::ZERO };
                self.note_summary_change(now);
            }
            Subject::Claim { uid, .. } => {
                self.heard_back(uid);
                let Some(entry) = self.claims.get_mut(uid) else { return };
                entry.answered(write);
                self.queue_changed = true;
                if entry.claim.version == write.version && !matches!(write.change, Change::Tell(_)) {
                    entry.retry_at = now.monotonic + RETRY_AFTER;
                    if outcome == Outcome::NotApplied {
                        entry.granting = None;
                    }
                }
                self.refile(uid, now);
            }
        }
    }

    pub(super) fn term(&self) -> Option<u64> {
        match self.reign {
            Reign::Listing { term, .. } | Reign::Restamping { term } | Reign::Settled { term } => Some(term),
            Reign::Standby | Reign::Raising | Reign::StoodDown { .. } => None,
        }
    }

    pub(super) fn parent_ttl(&self) -> Duration {
        self.parent.as_ref().map_or(crate::limits::DEFAULT_TTL, |parent| parent.ttl)
    }

    /// What people should see of the parent now.
    pub(super) fn summary(&self, parent: &Parent) -> ParentSummary {
        // A lease can show no more than one, whatever was done to its claims by hand.
        let (most, shown) = match self.kind {
            LockKind::Lease => (1, 1),
            LockKind::Semaphore => (u64::MAX, HOLDERS_SHOWN),
        };
        let holders = || self.holders.iter().take(shown).filter_map(|(_, uid)| Some(&self.claims.get(uid)?.claim));
        let tenure = |claim: &Claim| Some(Tenure { token: claim.state.token?, since: claim.state.acquired_at? });
        ParentSummary {
            generation: Some(parent.generation),
            in_use: self.in_use.min(most),
            available: parent.capacity.saturating_sub(self.in_use),
            waiting: self.waiters.len() as u64,
            holders: holders().map(|claim| claim.holder.clone()).collect(),
            tenure: if shown == 1 { holders().next().and_then(tenure) } else { None },
        }
    }

    /// The parent's whole status with these terms.
    pub(super) fn parent_state(&self, parent: &Parent, term: u64, settled_term: u64) -> ParentState {
        ParentState { term, settled_term, summary: self.summary(parent) }
    }

    fn note_term(&mut self, term: u64, now: Now) {
        self.floor = self.floor.max(term);
        if self.term().is_some_and(|own| term > own) {
            self.reign = Reign::StoodDown { until: now.monotonic + STOOD_DOWN };
        }
    }

    fn note_summary_change(&mut self, now: Now) {
        self.summary_changed_at.get_or_insert(now.monotonic);
    }

    fn role(&self, entry: &Entry) -> Role {
        let state = &entry.claim.state;
        match state.phase {
            Some(ClaimPhase::Expired) => Role::Over,
            _ if entry.granting.is_some() => Role::Holding,
            Some(ClaimPhase::Granted | ClaimPhase::Revoking) => match self.reign {
                Reign::Restamping { term } | Reign::Settled { term } if !entry.adopted && state.term < term => {
                    Role::Stray
                }
                _ => Role::Holding,
            },
            Some(ClaimPhase::Pending) | None if entry.claim.deleting => Role::Leaving,
            Some(ClaimPhase::Pending) | None => Role::Waiting,
        }
    }

    fn refile_all(&mut self, now: Now) {
        let uids: Vec<String> = self.claims.keys().cloned().collect();
        for uid in uids {
            self.refile(&uid, now);
        }
    }

    /// Files the claim anew in all indexes, after anything about it changed.
    fn refile(&mut self, uid: &str, now: Now) {
        self.unfile(uid, now);
        let (parent_ttl, own_term) = (self.parent_ttl(), self.term());
        let Some(entry) = self.claims.get(uid) else { return };
        let role = self.role(entry);
        let Some(entry) = self.claims.get_mut(uid) else { return };
        if role != Role::Over {
            entry.over_since = now.monotonic;
        }
        let filed = Filed {
            role,
            weight: entry.claim.weight,
            place: Place { priority: Reverse(entry.claim.priority), ticket: entry.ticket, uid: uid.into() },
            token: entry.claim.state.token,
            over_since: entry.over_since,
            due: entry.due(role, parent_ttl),
        };
        entry.filed = Some(filed.clone());
        match role {
            Role::Waiting => {
                self.waiters.insert(filed.weight, filed.place);
                self.queue_changed = true;
            }
            Role::Holding => {
                self.in_use += filed.weight;
                self.holders.insert((filed.token.unwrap_or(u64::MAX), uid.into()));
                if entry.adopted && own_term.is_some_and(|own| own != entry.claim.state.term) {
                    self.unstamped.insert(uid.into());
                }
            }
            Role::Over => {
                self.over.insert((filed.over_since, uid.into()));
            }
            Role::Stray | Role::Leaving => {}
        }
        if let Some(due) = filed.due {
            self.due.insert((due, uid.into()));
        }
    }

    /// Takes the claim out of all indexes.
    fn unfile(&mut self, uid: &str, now: Now) {
        self.note_summary_change(now);
        let Some(filed) = self.claims.get_mut(uid).and_then(|entry| entry.filed.take()) else { return };
        match filed.role {
            Role::Waiting => {
                self.waiters.remove(filed.weight, &filed.place);
                self.queue_changed = true;
            }
            Role::Holding => {
                self.in_use -= filed.weight;
                self.holders.remove(&(filed.token.unwrap_or(u64::MAX), uid.into()));
                self.unstamped.remove(uid);
            }
            Role::Over => {
                self.over.remove(&(filed.over_since, uid.into()));
            }
            Role::Stray | Role::Leaving => {}
        }
        if let Some(due) = filed.due {
            self.due.remove(&(due, uid.into()));
        }
    }
}
