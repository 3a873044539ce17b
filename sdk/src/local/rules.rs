//! What follows from a state: who goes next, who has to look at what, who has to be told. Pure.
//!
//! A transaction is a short reign of its own over the lock (see [`konductor_api::arbiter`]): it raises the term, adopts
//! the grants that are there, confirms them in its term, and only then grants. The rules are those of the operator,
//! with nothing in flight and nobody else writing; the file's lock sees to that.
//!
//! Time in a reign is made up: it passes only as far as the arbiter wants to wait before it says something to people,
//! and stays far below everything after which the arbiter would take a claim for abandoned. Whether a holder lives is
//! the kernel's to say here, and those that do not were taken out before.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, LockKind,
    arbiter::{self, ClaimChange, ClaimState, Now, Parent, ParentState, View, Write, decide},
    limits::{DEFAULT_TTL, WAITED_LONG},
};

use super::{
    limits,
    manifest::Definition,
    state::{Claim, State},
};

/// How much time can pass in one reign.
const REIGN: Duration = Duration::from_secs(WAITED_LONG.as_secs() / 2);

/// What a reign makes of a state.
pub(super) fn reign(
    before: &State,
    kind: LockKind,
    name: &str,
    definition: Option<&Definition>,
    wall: Timestamp,
) -> State {
    let mut now = Now { monotonic: Duration::ZERO, wall };
    let mut parent = definition.map(|definition| parent(before, name, definition, wall));
    let mut claims: BTreeMap<String, arbiter::Claim> = before
        .claims
        .iter()
        .filter(|claim| !claim.passed_over)
        .map(|claim| (claim.name.clone(), observed(claim)))
        .collect();
    let mut view = View::new(kind, name);
    if let Some(parent) = &parent {
        view.observe_parent(parent.clone(), now);
    }
    for claim in claims.values() {
        view.observe_claim(claim.clone(), now);
    }
    view.lead(now);
    loop {
        let plan = decide(&view, now);
        view.sent(&plan, now);
        if let Some(term) = plan.list {
            view.page(term, claims.values().cloned().collect(), now);
            view.listed(term, now);
        }
        for write in &plan.writes {
            match write {
                Write::Parent(write) => {
                    let Some(parent) = &mut parent else { continue };
                    parent.state = write.change.state().clone();
                    parent.version += 1;
                    view.acknowledged_parent(write, parent.clone(), now);
                }
                Write::Claim(write) => {
                    if let (Some(state), Some(claim)) = (decided(&write.change), claims.get_mut(&*write.uid)) {
                        claim.state = state.clone();
                        claim.version += 1;
                        view.acknowledged_claim(write, claim.clone(), now);
                    } else {
                        claims.remove(&*write.uid);
                        view.claim_gone(&write.uid, now);
                    }
                }
            }
        }
        if plan.list.is_none() && plan.writes.is_empty() {
            match plan.look_again {
                Some(at) if at > now.monotonic && at <= REIGN => now.monotonic = at,
                _ => break,
            }
        }
    }
    let (term, settled_term) = parent
        .as_ref()
        .map_or((before.term, before.settled_term), |parent| (parent.state.term, parent.state.settled_term));
    let answer = |claim: &Claim| match claims.get(&claim.name) {
        Some(decided) => Some(answered(claim, decided)),
        None => claim.passed_over.then(|| claim.clone()),
    };
    let claims = before.claims.iter().filter_map(answer).collect();
    State { permits: definition.map(|definition| definition.capacity), term, settled_term, claims, ..before.clone() }
}

fn parent(state: &State, name: &str, definition: &Definition, wall: Timestamp) -> Parent {
    Parent {
        uid: name.into(),
        version: 1,
        generation: 1,
        // What a lock's first term follows, so that tokens go on rising also where all that was known of it was deleted.
        created: if state.term == 0 { u64::try_from(wall.as_second()).unwrap_or(0) } else { 0 },
        capacity: definition.capacity,
        ttl: DEFAULT_TTL,
        queueing: definition.queueing,
        state: ParentState { term: state.term, settled_term: state.settled_term, ..ParentState::default() },
    }
}

fn observed(claim: &Claim) -> arbiter::Claim {
    arbiter::Claim {
        uid: claim.name.as_str().into(),
        name: claim.name.clone(),
        version: 1,
        generation: 1,
        created: 0,
        weight: claim.permits,
        priority: claim.priority,
        holder: claim.holder.clone(),
        pod: None,
        // The kernel says when it is over.
        ttl: Some(Duration::MAX),
        renewed: None,
        revoke: None,
        deleting: false,
        state: ClaimState {
            phase: Some(claim.phase),
            ttl: Some(Duration::MAX),
            term: claim.term,
            // The folder knows a lock by its name alone.
            parent: None,
            token: claim.fencing_token,
            ticket: Some(claim.ticket),
            ahead: claim.ahead,
            acquired_at: claim.acquired_at,
            expires_at: None,
            message: claim.message.clone(),
            revoked: false,
        },
    }
}

/// The claim with the state that was decided. Its place in the queue is its own.
fn answered(claim: &Claim, decided: &arbiter::Claim) -> Claim {
    let state = &decided.state;
    Claim {
        phase: state.phase.unwrap_or(claim.phase),
        // Without a manifest the arbiter has no term of its own to write.
        term: state.term.max(claim.term),
        fencing_token: state.token,
        ahead: state.ahead,
        acquired_at: state.acquired_at,
        message: state.message.clone(),
        ..claim.clone()
    }
}

/// The state that a change gives to a claim; none when it takes the claim away.
fn decided(change: &ClaimChange) -> Option<&ClaimState> {
    match change {
        // What is over holds nothing and waits for nothing.
        ClaimChange::Expire(_) | ClaimChange::Revoke(_) => None,
        change => change.state(),
    }
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not there.
    Gone,
    /// Its turn came and it did not take it. Nobody counts on it until it says something again.
    PassedOver,
    /// Held.
    Held {
        /// Its fencing token.
        token: u64,
    },
    /// In the queue.
    Waiting {
        /// Claims in front when last told.
        ahead: Option<u64>,
        /// For people.
        message: String,
        /// What the lock has; none if no manifest names it.
        permits: Option<u64>,
        /// What to look at meanwhile.
        duty: Duty,
    },
}

/// What a waiter looks at, so that everything that concerns anybody is seen by somebody: the sentries, who are the first
/// in the queue, look at all holders and at the manifests, and everybody at who is directly in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Duty {
    /// Whether it looks at the manifests, and sees to it that who has its turn takes it.
    pub(super) sentry: bool,
    /// The claims whose end matters; with its token, if one holds.
    pub(super) claims: BTreeMap<String, Option<u64>>,
}

impl Claim {
    /// Whether it has had its turn and not given it back.
    pub(super) fn holds(&self, state: &State) -> bool {
        self.phase == ClaimPhase::Granted && self.term == state.term
    }

    /// Takes its turn away, which it has not taken.
    pub(super) fn pass_over(&mut self) {
        self.phase = ClaimPhase::Pending;
        (self.fencing_token, self.ahead, self.acquired_at) = (None, None, None);
        self.message = Some("passed over: it stood still when its turn came".to_owned());
        self.passed_over = true;
    }
}

/// Where every claim stands.
pub(super) fn standings(state: &State) -> BTreeMap<&str, Standing> {
    let mut all = BTreeMap::new();
    let (mut holders, mut queue) = (BTreeMap::new(), Vec::new());
    for claim in &state.claims {
        if claim.passed_over {
            all.insert(claim.name.as_str(), Standing::PassedOver);
        } else if !claim.holds(state) {
            queue.push(claim);
        } else if let Some(token) = claim.fencing_token {
            all.insert(claim.name.as_str(), Standing::Held { token });
            holders.insert(claim.name.clone(), Some(token));
        }
    }
    queue.sort_by_key(|claim| (Reverse(claim.priority), claim.ticket));
    let mut in_front = None;
    for (place, claim) in queue.into_iter().enumerate() {
        let sentry = place < limits::SENTRIES;
        let mut claims = if sentry { holders.clone() } else { BTreeMap::new() };
        claims.extend(in_front.replace(claim.name.clone()).map(|name| (name, None)));
        let (ahead, message, permits) = (claim.ahead, claim.message.clone().unwrap_or_default(), state.permits);
        all.insert(&claim.name, Standing::Waiting { ahead, message, permits, duty: Duty { sentry, claims } });
    }
    all
}

/// Who has to be woken when a state replaces another.
pub(super) fn concerned<'a>(before: &State, after: &'a State) -> Vec<&'a str> {
    let (before, after) = (standings(before), standings(after));
    let waited = |name: &str| matches!(before.get(name), Some(Standing::Waiting { .. }));
    let changed = |name: &&str, standing: &Standing| waited(name) && before.get(name) != Some(standing);
    after.into_iter().filter(|(name, standing)| changed(name, standing)).map(|(name, _)| name).collect()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
