//! What follows from a state: who goes next, who has to look at what, who has to be told. Pure.
//!
//! A transaction is a short reign of its own over the lock (see [`konductor_api::arbiter`]): it raises the term, adopts
//! the grants that are there, confirms them in its term, and only then grants. The rules are those of the operator,
//! with nothing in flight and nobody else writing; the file's lock sees to that.
//!
//! Time in a reign is made up: it passes only as far as the arbiter wants to wait before it says something to people,
//! and stays far below everything after which the arbiter would take a claim for abandoned. Whether a holder lives is
//! the kernel's to say here, and those that do not were taken out before.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, LockKind,
    arbiter::{self, ClaimChange, ClaimState, Now, Parent, ParentState, View, Write, decide},
    limits::{DEFAULT_TTL, WAITED_LONG},
};

use super::{
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
    let mut claims: BTreeMap<String, arbiter::Claim> =
        before.claims.iter().map(|claim| (claim.name.clone(), observed(claim))).collect();
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
    let claims = before.claims.iter().filter_map(|claim| Some(answered(claim, claims.get(&claim.name)?))).collect();
    State { permits: definition.map(|definition| definition.capacity), term, settled_term, claims, ..before.clone() }
}

fn parent(state: &State, name: &str, definition: &Definition, wall: Timestamp) -> Parent {
    Parent {
        uid: name.into(),
        version: 1,
        generation: 1,
        // A lower bound for the term: with it, tokens go on rising also where a state was deleted.
        created: u64::try_from(wall.as_second()).unwrap_or(0),
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

/// What a waiter looks at, so that everything that concerns anybody is seen by somebody: the first in the queue looks
/// at all holders and at the manifests, and everybody else at who is directly in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Duty {
    /// Whether it is the first.
    pub(super) first: bool,
    /// The claims whose end matters.
    pub(super) claims: BTreeSet<String>,
}

/// Where every claim stands.
pub(super) fn standings(state: &State) -> BTreeMap<&str, Standing> {
    let held = |claim: &&Claim| claim.phase == ClaimPhase::Granted && claim.term == state.term;
    let holders = state.claims.iter().filter(held);
    let mut all: BTreeMap<_, _> = holders
        .filter_map(|claim| Some((claim.name.as_str(), Standing::Held { token: claim.fencing_token? })))
        .collect();
    let mut front: BTreeSet<String> = all.keys().map(|name| (*name).to_owned()).collect();
    let mut queue: Vec<_> = state.claims.iter().filter(|claim| !held(claim)).collect();
    queue.sort_by_key(|claim| (Reverse(claim.priority), claim.ticket));
    for (place, claim) in queue.into_iter().enumerate() {
        let duty = Duty { first: place == 0, claims: std::mem::replace(&mut front, [claim.name.clone()].into()) };
        let (ahead, message) = (claim.ahead, claim.message.clone().unwrap_or_default());
        all.insert(&claim.name, Standing::Waiting { ahead, message, permits: state.permits, duty });
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
