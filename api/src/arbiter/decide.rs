//! The decision: from what is known and the time, to what should be written. Pure and total.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Claim, ClaimChange, ClaimState, ClaimWrite, Happening, Look, Now, Parent, ParentChange, ParentWrite, Plan, Reign,
    View, Write, attend::attend, entry::Entry, prove::prove, tell::tell,
};
use crate::{
    ClaimPhase, PodReference, Queueing,
    limits::{
        DOUBT_RAISES_EVERY, KEEP_EXPIRED, LOOK_AGAIN, MAX_EXPIRED, MAX_SEQUENCE, SEQUENCE_BITS, STATUS_EVERY,
        WAITED_LONG, WRITES_PER_PLAN,
    },
};

/// What should be done now. Call [`View::sent`] with the plan before carrying it out.
pub fn decide(view: &View, now: Now) -> Plan {
    let mut plan = Plan::default();
    match (&view.reign, &view.parent) {
        (Reign::Standby, _) => {}
        (Reign::StoodDown { until }, _) if *until > now.monotonic => plan.look_again_at(*until),
        (Reign::StoodDown { .. }, Some(parent)) => _ = raise(view, parent, now, &mut plan),
        (Reign::Raising, Some(parent)) => {
            raise(view, parent, now, &mut plan);
            attend(view, now, &mut plan);
        }
        (Reign::Listing { term, .. }, _) => {
            plan.list = (!view.listing).then_some(*term);
            attend(view, now, &mut plan);
        }
        (Reign::Restamping { term, .. }, Some(parent)) => {
            attend(view, now, &mut plan);
            if view.unstamped == 0 && view.unread_holders == 0 {
                let state = view.parent_state(parent, *term, *term);
                write_parent(view, parent, ParentChange::Settle(state), now, &mut plan);
            } else if view.unstamped == 0 {
                // For as long as that takes, people are told what is.
                clean_up(view, now, &mut plan);
                tell(view, now, &mut plan);
                summarize(view, parent, now, &mut plan);
            }
        }
        (Reign::Settled { .. }, Some(parent)) if must_raise(view, now, &mut plan) => {
            raise(view, parent, now, &mut plan);
            attend(view, now, &mut plan);
        }
        (Reign::Settled { term }, Some(parent)) => {
            grant(view, parent, *term, now, &mut plan);
            attend(view, now, &mut plan);
            prove(view, parent, *term, now, &mut plan);
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
    pub(super) fn look_again_at(&mut self, at: Duration) {
        self.look_again = Some(self.look_again.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn claim(&mut self, claim: &Claim, change: ClaimChange, happening: Option<Happening>) {
        let (uid, name, version) = (claim.uid.clone(), claim.name.clone(), claim.version);
        self.writes.push(Write::Claim(ClaimWrite { uid, name, version, change, happening }));
    }

    /// The claims that it writes to.
    pub(super) fn claims(&self) -> impl Iterator<Item = &ClaimWrite> {
        self.writes.iter().filter_map(|write| match write {
            Write::Claim(write) => Some(write),
            Write::Parent(_) => None,
        })
    }

    /// As much is decided as one plan may hold; the rest follows at once.
    pub(super) fn is_full(&mut self, now: Now) -> bool {
        let full = self.writes.len() + self.looks.len() >= WRITES_PER_PLAN;
        if full {
            self.look_again_at(now.monotonic);
        }
        full
    }
}

/// Returns whether the parent can be written to now.
fn write_parent(view: &View, parent: &Parent, change: ParentChange, now: Now, plan: &mut Plan) -> bool {
    if view.parent_busy.is_some() {
        return false;
    }
    if view.parent_retry.at() > now.monotonic {
        plan.look_again_at(view.parent_retry.at());
        return false;
    }
    plan.writes.push(Write::Parent(ParentWrite { uid: parent.uid.clone(), version: parent.version, change }));
    true
}

/// Whether only a new term helps: all numbers of this one are used, or a grant gets no answer however often it is sent.
fn must_raise(view: &View, now: Now, plan: &mut Plan) -> bool {
    if view.sequence > MAX_SEQUENCE {
        return true;
    }
    if view.doubtful.is_empty() {
        return false;
    }
    let at = view.doubt_raised_at.map_or(Duration::ZERO, |raised| raised + DOUBT_RAISES_EVERY);
    if at > now.monotonic {
        plan.look_again_at(at);
    }
    at <= now.monotonic
}

/// The creation time is a lower bound so that a parent that was deleted and recreated goes on with higher tokens.
fn raise(view: &View, parent: &Parent, now: Now, plan: &mut Plan) -> bool {
    let term = view.floor.max(parent.state.term).saturating_add(1).max(parent.created);
    let state = view.parent_state(parent, term, parent.state.settled_term);
    write_parent(view, parent, ParentChange::Raise(state), now, plan)
}

/// Gives what is free to those whose turn it is.
fn grant(view: &View, parent: &Parent, term: u64, now: Now, plan: &mut Plan) {
    let mut free = view.free(parent);
    if free == 0 {
        return;
    }
    let mut turns = view.waiters.turns(parent.capacity);
    let mut sequence = view.sequence;
    loop {
        let limit = match parent.queueing {
            Queueing::StrictFIFO => parent.capacity,
            Queueing::BestEffortFIFO => free,
        };
        let Some((weight, place)) = turns.next_within(limit) else { return };
        let Some(entry) = view.claims.get(&place.uid) else { continue };
        if entry.is_lost() || entry.is_mute(now.monotonic) {
            continue;
        }
        // Whose grant was refused must not hold up the others.
        if entry.retry.at() > now.monotonic {
            plan.look_again_at(entry.retry.at());
            continue;
        }
        if weight > free {
            return;
        }
        free -= weight;
        // Its grant failed because something else was written first, and the answer is on its way: its turn is kept.
        if entry.busy.is_some() {
            continue;
        }
        if plan.is_full(now) {
            return;
        }
        if sequence > MAX_SEQUENCE {
            return plan.look_again_at(now.monotonic);
        }
        plan.claim(&entry.claim, ClaimChange::Grant(granted(entry, parent, term, sequence, now)), None);
        sequence += 1;
        look_beside_grant(entry, now, plan);
    }
}

/// The pod of a claim that waited for long is looked at beside its grant: whether its client lives is known at once,
/// and the grant comes no later.
fn look_beside_grant(entry: &Entry, now: Now, plan: &mut Plan) {
    let Some(pod) = &entry.claim.pod else { return };
    let long_ago = |at: Duration, span: Duration| now.monotonic.saturating_sub(at) > span;
    if long_ago(entry.heard, WAITED_LONG) && entry.looked_at.is_none_or(|looked| long_ago(looked, LOOK_AGAIN)) {
        plan.looks.push(Look { claim: entry.claim.uid.clone(), pod: PodReference::clone(pod) });
    }
}

pub(super) fn granted(entry: &Entry, parent: &Parent, term: u64, sequence: u64, now: Now) -> ClaimState {
    let ttl = entry.claim.ttl.unwrap_or(parent.ttl);
    ClaimState {
        phase: Some(ClaimPhase::Granted),
        ttl: Some(ttl),
        term,
        parent: Some(parent.uid.clone()),
        token: Some(term << SEQUENCE_BITS | sequence),
        ticket: Some(entry.ticket),
        ahead: None,
        acquired_at: Some(now.wall),
        expires_at: Some(expires_at(ttl, now)),
        message: None,
        revoked: false,
    }
}

pub(super) fn expires_at(ttl: Duration, now: Now) -> Timestamp {
    now.wall.checked_add(ttl).unwrap_or(Timestamp::MAX)
}

/// Deletes expired claims that were kept long enough, and the oldest of too many.
fn clean_up(view: &View, now: Now, plan: &mut Plan) {
    let excess = view.over.len().saturating_sub(MAX_EXPIRED);
    for (position, (since, uid)) in view.over.iter().enumerate() {
        let Some(entry) = view.claims.get(uid) else { continue };
        let retry_at = entry.retry.at();
        let at = if position < excess { retry_at } else { (*since + KEEP_EXPIRED).max(retry_at) };
        if at > now.monotonic {
            plan.look_again_at(at);
            if position >= excess {
                return;
            }
        } else if entry.busy.is_none() {
            if plan.is_full(now) {
                return;
            }
            plan.claim(&entry.claim, ClaimChange::Delete, None);
        }
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
    plan.summarized = state == parent.state || write_parent(view, parent, ParentChange::Summarize(state), now, plan);
}
