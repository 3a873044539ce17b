//! What goes out, and what comes back.

use super::{
    Claim, ClaimChange, ClaimWrite, Now, Parent, ParentChange, ParentWrite, Plan, PodSight, View, Write,
    takeover::Reign,
};
use crate::{
    ClaimPhase,
    limits::{ASIDE, DOUBTED_GRANTS, LONGEST_ASIDE, PROOF_OF_LIFE, RETRY_AFTER, WAITED_LONG},
};

/// What is known of a write that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API server refused it: it has not taken effect and never will.
    NotApplied,
    /// No answer: it may have taken effect, or may still.
    Unknown,
}

impl View {
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
            match write {
                Write::Parent(write) => self.parent_sent(write, now),
                Write::Claim(write) => self.claim_sent(write, now),
            }
        }
        for uid in &plan.asked {
            if let Some(entry) = self.claims.get_mut(uid) {
                entry.asking = Some((entry.claim.version, now.monotonic));
            }
        }
        for look in &plan.looks {
            if let Some(entry) = self.claims.get_mut(&look.claim) {
                entry.looked_at = Some(now.monotonic);
                self.refile(&look.claim, now);
            }
        }
    }

    fn parent_sent(&mut self, write: &ParentWrite, now: Now) {
        self.parent_busy = Some(write.version);
        self.summary_changed_at = None;
        if !matches!(write.change, ParentChange::Raise(_)) {
            return;
        }
        match self.reign {
            Reign::Raising => {}
            // All that was seen meanwhile was written by somebody else, perhaps still is.
            Reign::StoodDown { .. } => self.lead(now),
            _ => {
                if !self.doubtful.is_empty() {
                    self.doubt_raised_at = Some(now.monotonic);
                }
                self.start_over(now);
            }
        }
    }

    fn claim_sent(&mut self, write: &ClaimWrite, now: Now) {
        if write.change != ClaimChange::Delete {
            let answers = self.unanswered.entry(write.uid.clone()).or_default();
            *answers = answers.saturating_add(1);
        }
        let Some(entry) = self.claims.get_mut(&write.uid) else {
            return self.with_unread(&write.uid, |unseen| unseen.busy = true);
        };
        match write.change {
            ClaimChange::Tell(_) => entry.telling = true,
            ClaimChange::Grant(_) => {
                entry.busy = Some(write.version);
                // A grant that is sent again may have taken effect at the first time.
                let late = now.monotonic.saturating_sub(entry.heard) > WAITED_LONG;
                entry.granting_late = late && (entry.granting.is_none() || entry.granting_late);
                entry.granting = Some(write.version);
                self.granted_at = Some(now.monotonic);
                self.sequence += 1;
            }
            _ => entry.busy = Some(write.version),
        }
        self.refile(&write.uid, now);
    }

    /// A write to the parent succeeded with this result.
    pub fn acknowledged_parent(&mut self, write: &ParentWrite, parent: Parent, now: Now) {
        // The answer may be about a parent that is gone.
        if self.parent_busy.take_if(|version| *version == write.version).is_none() {
            return;
        }
        let settled = parent.state.settled_term;
        self.observe_parent(parent, now);
        let Some(state) = self.parent.as_ref().map(|parent| &parent.state) else { return };
        match (&write.change, &self.reign) {
            (ParentChange::Raise(raised), Reign::Raising) if state.term == raised.term => {
                self.sequence = 0;
                self.reign = Reign::Listing { term: raised.term, settled };
                // A claim may have shown a higher term since the raise took effect.
                self.note_term(self.floor, now);
                let shown = self.claims.values().map(|entry| entry.claim.state.term).max();
                self.note_claims_term(shown.unwrap_or(0), now);
            }
            (ParentChange::Settle(_), Reign::Restamping { term, .. })
                if state.term == *term && state.settled_term == *term =>
            {
                self.reign = Reign::Settled { term: *term };
                self.queue_changed = true;
            }
            _ => {}
        }
    }

    /// A write to a claim succeeded with this result. (After a deletion, it is [`View::claim_gone`] that says so.)
    pub fn acknowledged_claim(&mut self, write: &ClaimWrite, claim: Claim, now: Now) {
        if !self.heard_back(write) {
            return;
        }
        let version = claim.version;
        self.observe_claim(claim, now);
        if let Some(entry) = self.claims.get_mut(&write.uid) {
            entry.answered(write);
            if let ClaimChange::Tell(_) = write.change {
                self.queue_changed = true;
                if let Some((_, sent)) = entry.asking.take_if(|(asked, _)| *asked == write.version) {
                    entry.asked_at = Some(now.monotonic);
                    let waits = matches!(entry.claim.state.phase, Some(ClaimPhase::Pending) | None);
                    // A telling that changed nothing was seen by nobody, and who has renewed since has answered.
                    if version > write.version && entry.heard < sent && waits {
                        entry.proof_due = Some(now.monotonic + PROOF_OF_LIFE);
                    }
                }
            }
            self.refile(&write.uid, now);
        }
    }

    /// A write did not succeed. The object has been read again since, and what was found has been observed.
    pub fn failed(&mut self, write: &Write, outcome: Outcome, now: Now) {
        match write {
            Write::Parent(write) => {
                if self.parent_busy.take_if(|version| *version == write.version).is_none() {
                    return;
                }
                let unchanged = self
                    .parent
                    .as_ref()
                    .is_some_and(|parent| parent.uid == write.uid && parent.version == write.version);
                if unchanged {
                    self.parent_retry.failed(now);
                }
                self.note_summary_change(now);
            }
            Write::Claim(write) => self.claim_failed(write, outcome, now),
        }
    }

    fn claim_failed(&mut self, write: &ClaimWrite, outcome: Outcome, now: Now) {
        self.heard_back(write);
        self.queue_changed = true;
        let Some(entry) = self.claims.get_mut(&write.uid) else {
            return self.with_unread(&write.uid, |unseen| {
                unseen.busy = false;
                unseen.retry.failed(now);
            });
        };
        entry.answered(write);
        let unchanged = entry.claim.version == write.version;
        if let ClaimChange::Tell(_) = write.change {
            entry.asking.take_if(|(asked, _)| *asked == write.version);
            if unchanged {
                entry.tell_retry.failed(now);
            }
        } else if unchanged {
            let ends = matches!(write.change, ClaimChange::Expire(_));
            entry.unended += u32::from(ends);
            // While nobody was answered, its client could not show that it lives either.
            if let (true, Outcome::Unknown, Some(due)) = (ends, outcome, entry.proof_due.as_mut()) {
                *due = now.monotonic + PROOF_OF_LIFE;
            }
            if outcome == Outcome::NotApplied && !entry.doubted {
                entry.settle_grant();
            }
            if entry.granting.is_none() {
                entry.retry.failed(now);
            } else {
                entry.doubted = true;
                entry.doubts = entry.doubts.saturating_add(1);
                // Until then it is tried at an even pace, as it keeps its permits from others.
                let pause = entry.doubts.checked_sub(DOUBTED_GRANTS).map_or(RETRY_AFTER, |times| {
                    ASIDE.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(LONGEST_ASIDE)
                });
                entry.retry.pause(pause, now);
            }
        }
        self.refile(&write.uid, now);
    }

    /// The claim's container has certainly ended for good.
    /// Returns whether it is known here: one that cannot be read at the moment has to be told of again.
    pub fn holder_died(&mut self, uid: &str, now: Now) -> bool {
        let Some(entry) = self.claims.get_mut(uid) else { return false };
        entry.dead = true;
        self.refile(uid, now);
        true
    }

    /// The answer to a [`Look`](super::Look).
    pub fn looked(&mut self, uid: &str, sight: PodSight, now: Now) {
        match sight {
            PodSight::Ended => _ = self.holder_died(uid, now),
            PodSight::Gone => {
                if let Some(entry) = self.claims.get_mut(uid) {
                    entry.gone = true;
                    self.refile(uid, now);
                }
            }
            PodSight::Lives | PodSight::Unknown => {}
        }
    }
}
