//! Whether those at the head of the queue still live, found out ahead of their turn.
//!
//! Waiters do not renew, so a dead one is found out only by asking: by a look at its pod, or, if it names none or a pod
//! as a whole, by a telling that its client answers with a renewal. Each is asked once when it comes near the head, mostly while
//! somebody else still holds, and again only when the queue moves long after; those near the head are asked all at
//! once. So a row of dead waiters costs a few rounds, and a queue that stands still costs nothing.

use jiff::Timestamp;

use super::{ClaimChange, ClaimState, Look, Now, Parent, Plan, View, entry::Entry, tell::waiting_message};
use crate::{
    ClaimPhase, PodReference,
    limits::{ASK_AGAIN, ASKED_AHEAD, LOOKED_AHEAD, WAITED_LONG},
};

/// Claims looked at in search of the head of the queue: those that are being dropped stand in it until that is done.
const PASSED: usize = 4 * ASKED_AHEAD as usize;

pub(super) fn prove(view: &View, parent: &Parent, term: u64, now: Now, plan: &mut Plan) {
    let mut turns = view.waiters.turns(parent.capacity);
    let mut ahead = 0;
    for _ in 0..PASSED {
        let Some((_, place)) = turns.next_within(parent.capacity) else { return };
        let Some(entry) = view.claims.get(&place.uid) else { continue };
        if entry.is_lost() || entry.busy.is_some() || plan.claims().any(|write| write.uid == place.uid) {
            continue;
        }
        let position = ahead;
        ahead += 1;
        if position >= ASKED_AHEAD {
            return;
        }
        // Of a whole pod none tells whether the client in it lives.
        let looked_at = entry.claim.pod.as_ref().filter(|pod| !pod.is_whole());
        let wanted = match looked_at {
            Some(_) => position < LOOKED_AHEAD as u64 && entry.looked_at.is_none(),
            None => wants_asking(view, entry),
        };
        let asks = looked_at.is_none();
        let long = entry.heard + WAITED_LONG;
        let long = if asks { long.max(entry.tell_retry.at()) } else { long };
        if !wanted {
            continue;
        }
        if long > now.monotonic {
            plan.look_again_at(long);
            continue;
        }
        if plan.is_full(now) {
            return;
        }
        match looked_at {
            Some(pod) => plan.looks.push(Look { claim: entry.claim.uid.clone(), pod: PodReference::clone(pod) }),
            None => ask(view, entry, position, term, now, plan),
        }
    }
}

fn wants_asking(view: &View, entry: &Entry) -> bool {
    let moved_since = |asked| view.granted_at.is_some_and(|granted| granted >= asked + ASK_AGAIN);
    !entry.telling && entry.proof_due.is_none() && entry.asked_at.is_none_or(moved_since)
}

fn ask(view: &View, entry: &Entry, position: u64, term: u64, now: Now, plan: &mut Plan) {
    let state = ClaimState {
        phase: Some(ClaimPhase::Pending),
        ticket: Some(entry.ticket),
        ahead: Some(position),
        term,
        message: Some(asking_message(&waiting_message(view, entry.claim.weight), now)),
        ..ClaimState::default()
    };
    plan.asked.push(entry.claim.uid.clone());
    plan.claim(&entry.claim, ClaimChange::Tell(state), None);
}

/// What follows the usual message when a client is asked.
const ASKING: &str = "; near its turn, so its client is to renew it";

/// Another message than the usual one, and than when its client was last asked: the API server tells nobody of a write
/// that changes nothing, and a client takes only what has changed for a question.
fn asking_message(usual: &str, now: Now) -> String {
    let at = Timestamp::from_second(now.wall.as_second()).unwrap_or(now.wall);
    format!("{usual}{ASKING} (asked at {at})")
}

/// What a message to a waiter would be if its client had not been asked: what people are to read.
pub fn usual_message(message: &str) -> &str {
    message.split_once(ASKING).map_or(message, |(usual, _)| usual)
}
