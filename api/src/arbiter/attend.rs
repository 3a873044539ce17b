//! Claims whose time has come: the dead and the silent, what has to carry the own term, grants in doubt, late grants,
//! wanted revocations, and what nobody can read.
//!
//! This goes on in each stage of a takeover, so that nothing that hinders it lasts longer than a TTL. To end the claim
//! of who is dead, or silent for its whole TTL, is safe for whoever has seen it, in whatever term: the write fails if
//! anything was written to the claim meanwhile.

use std::time::Duration;

use super::{
    Claim, ClaimChange, ClaimState, End, Happening, Look, Now, Plan, Reign, Uid, View, Write,
    decide::{expires_at, granted},
    entry::{Entry, Role, Unseen},
};
use crate::{
    ClaimPhase, GoDuration, PodReference, conditions,
    limits::{EXPIRY_TRIES, MAX_SEQUENCE, MAX_TTL},
};

pub(super) fn attend(view: &View, now: Now, plan: &mut Plan) {
    for (due, uid) in what_is_due(view) {
        if *due > now.monotonic {
            plan.look_again_at(*due);
            break;
        }
        if plan.is_full(now) {
            break;
        }
        let Some(entry) = view.claims.get(uid) else {
            if let Some(unseen) = view.unread.get(uid) {
                delete_unread(unseen, plan);
            }
            continue;
        };
        match entry.role() {
            Some(Role::Waiting) => plan.claim(&entry.claim, end_of_waiter(entry, now), None),
            Some(Role::Holding) => attend_holder(view, entry, now, plan),
            Some(Role::Stray) => {
                let message = "granted by an operator that no longer led, and never confirmed: waits again";
                plan.claim(&entry.claim, send_back(view, entry, message), None);
            }
            Some(Role::Leaving | Role::Over) | None => {}
        }
    }
}

/// What is due and, once the list of a takeover has ended, what has to carry the own term, in the order of their times.
/// What is both comes once, as the latter.
fn what_is_due(view: &View) -> impl Iterator<Item = &(Duration, Uid)> {
    let stamping = matches!(view.reign, Reign::Restamping { .. });
    let comes_as_restamp = move |(_, uid): &&(Duration, Uid)| {
        let filed = || view.claims.get(uid)?.filed.as_ref();
        stamping && filed().is_some_and(|filed| filed.restamp.is_some())
    };
    let mut restamps = view.restamps.iter().filter(move |_| stamping).peekable();
    let mut due = view.due.iter().filter(move |due| !comes_as_restamp(due)).peekable();
    std::iter::from_fn(move || match (restamps.peek(), due.peek()) {
        (Some(restamp), Some(other)) if restamp > other => due.next(),
        (Some(_), _) => restamps.next(),
        (None, _) => due.next(),
    })
}

fn end_of_waiter(entry: &Entry, now: Now) -> ClaimChange {
    if let Some(reason) = &entry.claim.revoke {
        let state = ClaimState { revoked: true, ..over_state(entry, &format!("revoked: {reason}"), now) };
        return ClaimChange::Expire(state);
    }
    let why = if entry.dead {
        "its pod ended while it waited"
    } else if entry.gone {
        "its pod is gone"
    } else {
        "it did not renew when it was asked to show that it still waits"
    };
    ClaimChange::Expire(over_state(entry, why, now))
}

fn attend_holder(view: &View, entry: &Entry, now: Now, plan: &mut Plan) {
    let claim = &entry.claim;
    let stamping = matches!(view.reign, Reign::Restamping { .. });
    let silent = entry.expires(view.parent_ttl()) <= now.monotonic;
    if entry.dead {
        over(entry, End::Died, "its pod has ended", now, plan);
    } else if entry.is_absent() {
        over(entry, End::Unused, "its pod was gone before its turn came", now, plan);
    } else if entry.in_doubt() {
        settle_doubt(view, entry, now, plan);
    } else if silent {
        let ttl = GoDuration(entry.ttl(view.parent_ttl()));
        over(entry, End::Silent, &format!("it was not renewed for {ttl}"), now, plan);
    } else if entry.proof_due.is_some_and(|proof| proof <= now.monotonic) {
        over(entry, End::Unused, "no renewal followed its grant", now, plan);
    } else {
        if let (Some(pod), true) = (&claim.pod, entry.look_due(view.parent_ttl()).is_some_and(|at| at <= now.monotonic))
        {
            plan.looks.push(Look { claim: claim.uid.clone(), pod: PodReference::clone(pod) });
        }
        if stamping && entry.filed.as_ref().is_some_and(|filed| filed.unstamped) {
            restamp(view, entry, now, plan);
        } else if let (true, Some(reason)) = (entry.wants_revoking(), &claim.revoke) {
            let message = format!("{} of {} is being revoked: {reason}", claim.name, claim.holder);
            let state = ClaimState {
                phase: Some(ClaimPhase::Revoking),
                message: Some(format!("revoked: {reason}")),
                ..claim.state.clone()
            };
            plan.claim(
                claim,
                ClaimChange::Revoke(state),
                Some(Happening { reason: conditions::REVOKING, end: None, message }),
            );
        }
    }
}

/// The parent's UID is written also where the grant does not say it, as those of earlier versions do not.
fn restamp(view: &View, entry: &Entry, now: Now, plan: &mut Plan) {
    let (Some(term), Some(parent)) = (view.term(), &view.parent) else { return };
    let state = ClaimState {
        term,
        parent: Some(parent.uid.clone()),
        expires_at: Some(expires_at(entry.ttl(parent.ttl), now)),
        ..entry.claim.state.clone()
    };
    plan.claim(&entry.claim, ClaimChange::Restamp(state), None);
}

/// Another write of the same version: whichever of the two is first makes the other one fail.
fn settle_doubt(view: &View, entry: &Entry, now: Now, plan: &mut Plan) {
    let (Reign::Settled { term }, Some(parent)) = (&view.reign, &view.parent) else { return };
    if view.in_use() > parent.capacity {
        let message = "there is less to have than when its turn came: waits again";
        return plan.claim(&entry.claim, send_back(view, entry, message), None);
    }
    let granted_before = plan.claims().filter(|write| matches!(write.change, ClaimChange::Grant(_))).count();
    let sequence = view.sequence + granted_before as u64;
    if sequence <= MAX_SEQUENCE {
        plan.claim(&entry.claim, ClaimChange::Grant(granted(entry, parent, *term, sequence, now)), None);
    }
}

fn send_back(view: &View, entry: &Entry, message: &str) -> ClaimChange {
    ClaimChange::SendBack(ClaimState {
        phase: Some(ClaimPhase::Pending),
        // Shows the deposed operator, should it still be at it, that somebody else leads.
        term: view.term().unwrap_or(0),
        ticket: Some(entry.ticket),
        message: Some(message.into()),
        ..ClaimState::default()
    })
}

fn over(entry: &Entry, end: End, why: &str, now: Now, plan: &mut Plan) {
    let claim = &entry.claim;
    // A claim that has become too large to be written can still be deleted.
    let change = if entry.unended >= EXPIRY_TRIES {
        ClaimChange::Delete
    } else {
        ClaimChange::Expire(over_state(entry, why, now))
    };
    plan.claim(claim, change, Some(happening(claim, end, why)));
}

fn happening(claim: &Claim, end: End, why: &str) -> Happening {
    let message = format!("{} of {} is over: {why}", claim.name, claim.holder);
    Happening { reason: conditions::EXPIRED, end: Some(end), message }
}

fn over_state(entry: &Entry, why: &str, now: Now) -> ClaimState {
    ClaimState {
        phase: Some(ClaimPhase::Expired),
        ahead: None,
        expires_at: Some(now.wall),
        message: Some(why.into()),
        ticket: Some(entry.ticket),
        ..entry.claim.state.clone()
    }
}

fn delete_unread(unseen: &Unseen, plan: &mut Plan) {
    let claim = &unseen.claim;
    let message = format!("{} is over: it cannot be read, and has not changed for {}", claim.name, GoDuration(MAX_TTL));
    plan.writes.push(Write::Claim(super::ClaimWrite {
        uid: claim.uid.clone(),
        name: claim.name.clone(),
        version: claim.version,
        change: ClaimChange::Delete,
        happening: Some(Happening { reason: conditions::EXPIRED, end: Some(End::Unreadable), message }),
    }));
}
