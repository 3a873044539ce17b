//! The decision: from what is known and the time, to what should be written. Pure and total.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    Change, Claim, ClaimState, Happening, Now, Parent, Plan, Reign, Subject, View, Write,
    entry::{Entry, Role},
};
use crate::{
    ClaimPhase, GoDuration, Queueing, conditions,
    limits::{
        GRANTS_PER_PLAN, KEEP_EXPIRED, MAX_EXPIRED, MAX_SEQUENCE, QUIET_AFTER, SEQUENCE_BITS, STATUS_EVERY, TELL_EVERY,
        TOLD_WHILE_BUSY, TOLD_WHILE_QUIET,
    },
};

/// What should be done now. Call [`View::sent`] with the plan before carrying it out.
pub fn decide(view: &View, now: Now) -> Plan {
    let mut plan = Plan::default();
    match (&view.reign, &view.parent) {
        (Reign::Standby, _) => {}
        (Reign::StoodDown { until }, _) if *until > now.monotonic => plan.look_again_at(*until),
        (Reign::StoodDown { .. } | Reign::Raising, Some(parent)) => raise(view, parent, now, &mut plan),
        (Reign::Listing { term, .. }, _) => plan.list = (!view.listing).then_some(*term),
        (Reign::Restamping { term }, Some(parent)) => {
            restamp(view, *term, now, &mut plan);
            if view.unstamped.is_empty() {
                write_parent(view, parent, Change::Settle(view.parent_state(parent, *term, *term)), now, &mut plan);
            }
        }
        (Reign::Settled { .. }, Some(parent)) if view.sequence > MAX_SEQUENCE => raise(view, parent, now, &mut plan),
        (Reign::Settled { term }, Some(parent)) => {
            grant(view, parent, *term, now, &mut plan);
            attend(view, now, &mut plan);
            clean_up(view, now, &mut plan);
            tell(view, now, &mut plan);
            summarize(view, parent, now, &mut plan);
        }
        // Without a parent there is nothing to grant, but waiters are told, and the dead are buried.
        (_, None) => {
            attend(view, now, &mut plan);
            clean_up(view, now, &mut plan);
            tell(view, now, &mut plan);
        }
    }
    plan
}

impl Plan {
    fn look_again_at(&mut self, at: Duration) {
        self.look_again = Some(self.look_again.map_or(at, |earlier| earlier.min(at)));
    }

    fn claim(&mut self, claim: &Claim, change: Change, happening: Option<Happening>) {
        let subject = Subject::Claim { uid: claim.uid.clone(), name: claim.name.clone() };
        self.writes.push(Write { subject, version: claim.version, change, happening });
    }
}

/// Returns whether the parent can be written to now.
fn write_parent(view: &View, parent: &Parent, change: Change, now: Now, plan: &mut Plan) -> bool {
    if view.parent_busy.is_some() {
        return false;
    }
    if view.parent_retry_at > now.monotonic {
        plan.look_again_at(view.parent_retry_at);
        return false;
    }
    let subject = Subject::Parent { uid: parent.uid.clone() };
    plan.writes.push(Write { subject, version: parent.version, change, happening: None });
    true
}

/// The creation time is a lower bound so that a parent that was deleted and recreated goes on with higher tokens.
fn raise(view: &View, parent: &Parent, now: Now, plan: &mut Plan) {
    let term = view.floor.max(parent.state.term).saturating_add(1).max(parent.created);
    write_parent(view, parent, Change::Raise(view.parent_state(parent, term, parent.state.settled_term)), now, plan);
}

fn restamp(view: &View, term: u64, now: Now, plan: &mut Plan) {
    for entry in view.unstamped.iter().filter_map(|uid| view.claims.get(uid)).filter(|entry| !entry.busy) {
        if entry.retry_at > now.monotonic {
            plan.look_again_at(entry.retry_at);
        } else {
            plan.claim(&entry.claim, Change::Restamp(ClaimState { term, ..entry.claim.state.clone() }), None);
        }
    }
}

/// Gives what is free to those whose turn it is.
fn grant(view: &View, parent: &Parent, term: u64, now: Now, plan: &mut Plan) {
    let mut free = parent.capacity.saturating_sub(view.in_use);
    let mut turns = view.waiters.turns(parent.capacity);
    let mut sequence = view.sequence;
    loop {
        let limit = match parent.queueing {
            Queueing::StrictFIFO => parent.capacity,
            Queueing::BestEffortFIFO => free,
        };
        let Some((weight, place)) = turns.next_within(limit) else { return };
        let Some(entry) = view.claims.get(&place.uid) else { continue };
        if entry.dead {
            continue;
        }
        // Whose grant was refused must not hold up the others.
        if entry.retry_at > now.monotonic {
            plan.look_again_at(entry.retry_at);
            continue;
        }
        if weight > free {
            return;
        }
        free -= weight;
        // Its grant failed because something else was written first, and the answer is on its way: its turn is kept.
        if entry.busy {
            continue;
        }
        if plan.writes.len() >= GRANTS_PER_PLAN || sequence > MAX_SEQUENCE {
            return plan.look_again_at(now.monotonic);
        }
        plan.claim(&entry.claim, Change::Grant(granted(entry, parent, term, sequence, now)), None);
        sequence += 1;
    }
}

fn granted(entry: &Entry, parent: &Parent, term: u64, sequence: u64, now: Now) -> ClaimState {
    let ttl = entry.claim.ttl.unwrap_or(parent.ttl);
    ClaimState {
        phase: Some(ClaimPhase::Granted),
        ttl: Some(ttl),
        term,
        token: Some(term << SEQUENCE_BITS | sequence),
        ticket: Some(entry.ticket),
        ahead: None,
        acquired_at: Some(now.wall),
        expires_at: Some(now.wall.checked_add(ttl).unwrap_or(Timestamp::MAX)),
        message: None,
    }
}

/// Sees to the claims whose time has come: the dead and the silent, grants in doubt, late grants, wanted revocations.
fn attend(view: &View, now: Now, plan: &mut Plan) {
    for (due, uid) in &view.due {
        if *due > now.monotonic {
            plan.look_again_at(*due);
            break;
        }
        let Some(entry) = view.claims.get(uid) else { continue };
        match entry.role() {
            Some(Role::Waiting) => {
                plan.claim(&entry.claim, expired(entry, "its pod ended while it waited", now), None);
            }
            Some(Role::Holding) => attend_holder(view, entry, now, plan),
            Some(Role::Stray) => {
                let message = "granted by an operator that no longer led, and never confirmed: waits again";
                let state = ClaimState {
                    phase: Some(ClaimPhase::Pending),
                    // Shows the deposed operator, should it still be at it, that somebody else leads.
                    term: view.term().unwrap_or(0),
                    ticket: Some(entry.ticket),
                    message: Some(message.into()),
                    ..ClaimState::default()
                };
                plan.claim(&entry.claim, Change::SendBack(state), None);
            }
            Some(Role::Leaving | Role::Over) | None => {}
        }
    }
}

fn attend_holder(view: &View, entry: &Entry, now: Now, plan: &mut Plan) {
    let (claim, holder) = (&entry.claim, &entry.claim.holder);
    let mut over = |why: &str| {
        let message = format!("{} of {holder} is over: {why}", claim.name);
        plan.claim(claim, expired(entry, why, now), Some(Happening { reason: conditions::EXPIRED, message }));
    };
    if entry.dead {
        over("its pod has ended");
    } else if entry.in_doubt() && view.parent.as_ref().is_some_and(|parent| view.in_use > parent.capacity) {
        // Whichever of the two writes is first makes the other one fail.
        let state = ClaimState {
            phase: Some(ClaimPhase::Pending),
            term: view.term().unwrap_or(0),
            ticket: Some(entry.ticket),
            message: Some("there is less to have than when its turn came: waits again".into()),
            ..ClaimState::default()
        };
        plan.claim(claim, Change::SendBack(state), None);
    } else if entry.in_doubt() {
        // The same grant again: whichever of the two writes is first makes the other one fail.
        if let (Reign::Settled { term }, Some(parent)) = (&view.reign, &view.parent)
            && view.sequence + plan.writes.len() as u64 <= MAX_SEQUENCE
        {
            let granted_before = plan.writes.iter().filter(|write| matches!(write.change, Change::Grant(_))).count();
            let sequence = view.sequence + granted_before as u64;
            plan.claim(claim, Change::Grant(granted(entry, parent, *term, sequence, now)), None);
        }
    } else if entry.expires(view.parent_ttl()) <= now.monotonic {
        over(&format!("it was not renewed for {}", GoDuration(entry.ttl(view.parent_ttl()))));
    } else if entry.proof_due.is_some_and(|proof| proof <= now.monotonic) {
        over("no renewal followed its grant");
    } else if let (true, Some(reason)) = (entry.wants_revoking(), &claim.revoke) {
        let message = format!("{} of {holder} is being revoked: {reason}", claim.name);
        let state = ClaimState {
            phase: Some(ClaimPhase::Revoking),
            message: Some(format!("revoked: {reason}")),
            ..claim.state.clone()
        };
        plan.claim(claim, Change::Revoke(state), Some(Happening { reason: conditions::REVOKING, message }));
    } else {
        // It has no TTL of its own, and that of the parent was raised.
        plan.look_again_at(entry.expires(view.parent_ttl()));
    }
}

fn expired(entry: &Entry, why: &str, now: Now) -> Change {
    Change::Expire(ClaimState {
        phase: Some(ClaimPhase::Expired),
        ahead: None,
        expires_at: Some(now.wall),
        message: Some(why.into()),
        ticket: Some(entry.ticket),
        ..entry.claim.state.clone()
    })
}

/// Deletes expired claims that were kept long enough, and the oldest of too many.
fn clean_up(view: &View, now: Now, plan: &mut Plan) {
    let excess = view.over.len().saturating_sub(MAX_EXPIRED);
    for (position, (since, uid)) in view.over.iter().enumerate() {
        let Some(entry) = view.claims.get(uid) else { continue };
        let at = if position < excess { entry.retry_at } else { (*since + KEEP_EXPIRED).max(entry.retry_at) };
        if at > now.monotonic {
            plan.look_again_at(at);
            if position >= excess {
                return;
            }
        } else if !entry.busy {
            plan.claim(&entry.claim, Change::Delete, None);
        }
    }
}

/// Tells waiters how many are in front: once, and again each time that has halved.
fn tell(view: &View, now: Now, plan: &mut Plan) {
    if !view.queue_changed {
        return;
    }
    let round = view.told_at.map_or(Duration::ZERO, |told| told + TELL_EVERY);
    if round > now.monotonic {
        return plan.look_again_at(round);
    }
    plan.told = true;
    let busy = view.granted_at.is_some_and(|granted| granted + QUIET_AFTER > now.monotonic);
    let limit = if busy { TOLD_WHILE_BUSY } else { TOLD_WHILE_QUIET };
    let decided: BTreeSet<String> = plan.writes.iter().map(|write| write.subject.uid().to_owned()).collect();
    let (mut ahead, mut news) = (0, Vec::new());
    for entry in view.waiters.in_order().filter_map(|place| view.claims.get(&place.uid)) {
        // Whose turn has come, or who is dead, is in nobody's way.
        if entry.dead || entry.busy || decided.contains(&entry.claim.uid) {
            continue;
        }
        let message = waiting_message(view, &entry.claim);
        let position = ahead;
        ahead += u64::from(view.parent.as_ref().is_none_or(|parent| entry.claim.weight <= parent.capacity));
        let state = &entry.claim.state;
        let halved = state.ahead.is_none_or(|told| position < told && position <= told / 2);
        let told = state.phase == Some(ClaimPhase::Pending) && !halved && state.message.as_deref() == Some(&message);
        if !told && !entry.telling {
            news.push((entry, position, message));
        }
    }
    // Those who know nothing yet come first: some only want to know whether it is their turn at once.
    news.sort_by_key(|(entry, ..)| entry.claim.state.phase.is_some());
    plan.more_to_tell = news.len() > limit;
    for (entry, position, message) in news.into_iter().take(limit) {
        let state = ClaimState {
            phase: Some(ClaimPhase::Pending),
            ticket: Some(entry.ticket),
            ahead: Some(position),
            term: view.term().unwrap_or(0),
            message: Some(message),
            ..ClaimState::default()
        };
        plan.claim(&entry.claim, Change::Tell(state), None);
    }
    if plan.more_to_tell {
        plan.look_again_at(now.monotonic + TELL_EVERY);
    }
}

fn waiting_message(view: &View, claim: &Claim) -> String {
    let (kind, name, weight) = (view.kind, &view.name, claim.weight);
    match view.parent.as_ref().map(|parent| parent.capacity) {
        None => format!("waits for {kind} {name}, which does not exist yet"),
        Some(0) => format!("waits for {kind} {name}, which is paused: it has 0 permits"),
        Some(capacity) if weight > capacity => {
            format!("asks for {weight} permits of {kind} {name}, which has {capacity}: waits until it has more")
        }
        Some(_) => format!("waits for {kind} {name}"),
    }
}

/// Keeps what people see of the parent true, but not at the price of a write per change.
fn summarize(view: &View, parent: &Parent, now: Now, plan: &mut Plan) {
    let Some(changed) = view.summary_changed_at else { return };
    let at = if parent.state.summary.generation == Some(parent.generation) { changed + STATUS_EVERY } else { changed };
    if at > now.monotonic {
        return plan.look_again_at(at);
    }
    let state = view.parent_state(parent, parent.state.term, parent.state.settled_term);
    plan.summarized = state == parent.state || write_parent(view, parent, Change::Summarize(state), now, plan);
}
