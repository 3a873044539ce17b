//! What waiters are told: why they wait, and how many are in front.

use std::{
    collections::{BTreeMap, HashSet},
    rc::Rc,
    time::Duration,
};

use super::{ClaimChange, ClaimState, Now, Plan, View, waiters::digest};
use crate::{
    ClaimPhase,
    limits::{QUIET_AFTER, TELL_EVERY, TOLD_WHILE_BUSY, TOLD_WHILE_QUIET},
};

/// What those of one weight are told.
struct Words {
    message: Rc<str>,
    digest: u64,
}

impl Words {
    fn new(view: &View, weight: u64) -> Self {
        let message = waiting_message(view, weight);
        Self { digest: digest(&message), message: message.into() }
    }
}

/// Tells waiters how many are in front: once, and again each time that has halved.
pub(super) fn tell(view: &View, now: Now, plan: &mut Plan) {
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
    // Those that are being asked are told by that.
    let (asked, decided): (HashSet<&str>, HashSet<&str>) =
        plan.claims().map(|write| &*write.uid).partition(|uid| plan.asked.iter().any(|asked| **asked == **uid));
    let capacity = view.parent.as_ref().map_or(u64::MAX, |parent| parent.capacity);
    let usual = Words::new(view, capacity.min(1));
    let mut too_heavy = BTreeMap::new();
    let (mut ahead, mut first, mut again) = (0, Vec::new(), Vec::new());
    let mut retry_at: Option<Duration> = None;
    for (place, waiter) in view.waiters.in_order() {
        // Whose turn has come, or who is dropped, is in nobody's way.
        if waiter.aside || decided.contains(&*place.uid) {
            continue;
        }
        let fits = waiter.weight <= capacity;
        let words = if fits || capacity == 0 {
            &usual
        } else {
            too_heavy.entry(waiter.weight).or_insert_with(|| Words::new(view, waiter.weight))
        };
        let position = ahead;
        // Who asks for more than there is lets others pass. Where there is nothing at all, nobody passes anybody.
        ahead += u64::from(fits || capacity == 0);
        let halved = waiter.ahead.is_none_or(|told| position < told && position <= told / 2);
        let told = waiter.pending && !halved && words.digest == waiter.message;
        if told || waiter.telling || asked.contains(&*place.uid) {
            continue;
        }
        if waiter.tell_at > now.monotonic {
            retry_at = Some(retry_at.map_or(waiter.tell_at, |earlier| earlier.min(waiter.tell_at)));
        } else {
            // Those who know nothing yet come first: some only want to know whether it is their turn at once.
            let news = if waiter.pending { &mut again } else { &mut first };
            news.push((&place.uid, position, words.message.clone()));
        }
    }
    let more_to_tell = first.len() + again.len() > limit;
    let mut tellings = Vec::with_capacity(limit);
    for (uid, position, message) in first.into_iter().chain(again).take(limit) {
        let Some(entry) = view.claims.get(uid) else { continue };
        let state = ClaimState {
            phase: Some(ClaimPhase::Pending),
            ticket: Some(entry.ticket),
            ahead: Some(position),
            term: view.term().unwrap_or(0),
            message: Some((*message).into()),
            ..ClaimState::default()
        };
        tellings.push((&entry.claim, ClaimChange::Tell(state)));
    }
    for (claim, change) in tellings {
        plan.claim(claim, change, None);
    }
    plan.more_to_tell = more_to_tell || retry_at.is_some();
    if more_to_tell {
        plan.look_again_at(now.monotonic + TELL_EVERY);
    }
    if let Some(at) = retry_at {
        plan.look_again_at(at.max(now.monotonic + TELL_EVERY));
    }
}

/// How each message to a waiter begins. The lock follows, and if it is more than others in front, `, which` and why.
pub const WAITS_FOR: &str = "waits for";

pub(super) fn waiting_message(view: &View, weight: u64) -> String {
    let waits = format!("{WAITS_FOR} {} {}", view.kind, view.name);
    match view.parent.as_ref().map(|parent| parent.capacity) {
        None => format!("{waits}, which does not exist yet"),
        Some(0) => format!("{waits}, which is paused: it has 0 permits"),
        Some(capacity) if weight > capacity => {
            let noun = if capacity == 1 { "permit" } else { "permits" };
            format!("{waits}, which has {capacity} {noun}, fewer than the {weight} that are asked for")
        }
        Some(_) if view.is_held_up() => {
            format!("{waits}, which has a claim that cannot be read and may hold everything")
        }
        Some(_) => waits,
    }
}
