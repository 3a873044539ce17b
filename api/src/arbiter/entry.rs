//! What a view knows of one claim beyond the claim itself, and when decide has to look at it.

use std::time::Duration;

use super::{
    Claim, ClaimChange, ClaimWrite, Parent, Unread, Version,
    prove::usual_message,
    retry::Retry,
    waiters::{Place, Waiter, digest},
};
use crate::{
    ClaimPhase,
    limits::{DOUBTED_GRANTS, MAX_TTL, MISSED_RENEWAL},
};

/// What a claim is to the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Waiting,
    /// Waits, but is being deleted.
    Leaving,
    Holding,
    /// Granted by a deposed leader, too late to count.
    Stray,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent: any combination can occur")]
pub(super) struct Entry {
    pub(super) claim: Claim,
    pub(super) ticket: u64,
    /// Proven dead. Never unproven again.
    pub(super) dead: bool,
    /// Its pod does not exist. Says nothing of a client that may have started something; see [`Entry::is_absent`].
    pub(super) gone: bool,
    /// Taken over from an earlier term, or another parent of the name: counts although its term is old.
    pub(super) adopted: bool,
    /// A write of this version is under way, other than a telling.
    pub(super) busy: Option<Version>,
    /// A telling is under way. It does not keep the claim from being granted meanwhile.
    pub(super) telling: bool,
    /// Not to be written before this time, after a failed write.
    pub(super) retry: Retry,
    /// Nor to be told anything before this one, after a failed telling: that keeps nobody from being granted something.
    pub(super) tell_retry: Retry,
    /// When a renewal has to have come, after a grant that came after a long wait, or after its client was asked.
    pub(super) proof_due: Option<Duration>,
    /// A grant was sent for this version and is not known to have failed.
    pub(super) granting: Option<Version>,
    /// That grant was sent after [`WAITED_LONG`](crate::limits::WAITED_LONG), so its client renews before it starts
    /// anything.
    pub(super) granting_late: bool,
    /// It, or another write of this version since, got no answer. What is refused after that says nothing of what is
    /// still on its way, so only another version, or another term, settles it.
    pub(super) doubted: bool,
    /// Writes that did not settle it, one after the other, while a grant was not known to have failed.
    pub(super) doubts: u32,
    /// Ends that were written in vain.
    pub(super) unended: u32,
    /// When its client was last known to live: it was created then, or renewed.
    pub(super) heard: Duration,
    pub(super) renewal_seen: Duration,
    pub(super) over_since: Duration,
    /// The telling of this version asks its client whether it lives; and when it was sent.
    pub(super) asking: Option<(Version, Duration)>,
    pub(super) asked_at: Option<Duration>,
    pub(super) looked_at: Option<Duration>,
    pub(super) filed: Option<Filed>,
}

/// Under what a claim stands in the indexes of the view. Kept, so that it can be taken out after the claim has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Filed {
    pub(super) role: Role,
    pub(super) place: Place,
    pub(super) waiter: Waiter,
    pub(super) token: Option<u64>,
    pub(super) over_since: Option<Duration>,
    /// Has to carry the own term before anything is granted.
    pub(super) unstamped: bool,
    /// When that can be written, once the list of the takeover has ended.
    pub(super) restamp: Option<Duration>,
    /// When its holder has been silent for too long follows from the parent's TTL: its grant says none.
    pub(super) parents_ttl: bool,
    /// Its grant went without an answer too often.
    pub(super) doubtful: bool,
    /// When decide has to look at it.
    pub(super) due: Option<Duration>,
}

impl Filed {
    /// Whether the claim keeps its part, its place and what it counts for.
    pub(super) fn stays_beside(&self, other: &Self) -> bool {
        let key = |filed: &Self| (filed.role, filed.waiter.weight, filed.token, filed.over_since);
        key(self) == key(other) && self.place == other.place
    }
}

impl Entry {
    pub(super) fn new(claim: Claim, now: Duration) -> Self {
        Self {
            // The version of a claim that nobody has written to since its creation is its place in the API server's
            // order.
            ticket: claim.state.ticket.unwrap_or(claim.version),
            dead: false,
            gone: false,
            adopted: false,
            busy: None,
            telling: false,
            retry: Retry::default(),
            tell_retry: Retry::default(),
            proof_due: None,
            granting: None,
            granting_late: false,
            doubted: false,
            doubts: 0,
            unended: 0,
            heard: now,
            renewal_seen: now,
            over_since: now,
            asking: None,
            asked_at: None,
            looked_at: None,
            filed: None,
            claim,
        }
    }

    /// It would be filed otherwise if this operator had not got as far in taking the parent over.
    pub(super) fn depends_on_reign(&self) -> bool {
        self.granting.is_some() || self.role().is_none_or(|role| role == Role::Stray)
    }

    pub(super) fn role(&self) -> Option<Role> {
        self.filed.as_ref().map(|filed| filed.role)
    }

    pub(super) fn answered(&mut self, write: &ClaimWrite) {
        match write.change {
            ClaimChange::Tell(_) => self.telling = false,
            // Not that of an earlier one, made before the claim could be read.
            _ => _ = self.busy.take_if(|version| *version == write.version),
        }
    }

    pub(super) fn granted(&self) -> bool {
        matches!(self.claim.state.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking))
    }

    /// Granted by another parent of this name, deleted since: counts until it ends, and is never confirmed.
    pub(super) fn is_foreign(&self, parent: Option<&Parent>) -> bool {
        self.claim.state.parent.as_ref().is_some_and(|uid| parent.is_none_or(|parent| parent.uid != *uid))
    }

    /// When its holder has been silent for too long.
    pub(super) fn expires(&self, parent_ttl: Duration) -> Duration {
        self.renewal_seen.saturating_add(self.ttl(parent_ttl))
    }

    pub(super) fn ttl(&self, parent_ttl: Duration) -> Duration {
        self.claim.state.ttl.or(self.claim.ttl).unwrap_or(parent_ttl)
    }

    /// No grant is under way any more that could still be done, and count.
    pub(super) fn settle_grant(&mut self) {
        self.granting = None;
        self.doubted = false;
    }

    pub(super) fn has_parents_ttl(&self) -> bool {
        self.granted() && self.claim.state.ttl.is_none() && self.claim.ttl.is_none()
    }

    pub(super) fn in_doubt(&self) -> bool {
        self.granting.is_some() && self.busy.is_none()
    }

    /// Decided again and again without an answer: only a raised term undoes what may still be on its way.
    pub(super) fn is_doubtful(&self) -> bool {
        self.in_doubt() && !self.dead && self.doubts >= DOUBTED_GRANTS
    }

    pub(super) fn wants_revoking(&self) -> bool {
        self.claim.revoke.is_some() && self.claim.state.phase == Some(ClaimPhase::Granted)
    }

    /// A waiter that is not to be granted any more.
    pub(super) fn is_lost(&self) -> bool {
        self.dead || self.gone || self.claim.revoke.is_some()
    }

    /// Its client was asked whether it lives, and has not answered in time.
    pub(super) fn is_mute(&self, now: Duration) -> bool {
        self.proof_due.is_some_and(|due| due <= now)
    }

    /// Granted after a long wait, while its pod does not exist and no renewal has come: its client has started nothing,
    /// as it renews first, and that would make the write fail that takes the grant back.
    pub(super) fn is_absent(&self) -> bool {
        self.gone && if self.granting.is_some() { self.granting_late } else { self.proof_due.is_some() }
    }

    /// When its pod is to be looked at because a renewal was missed.
    pub(super) fn look_due(&self, parent_ttl: Duration) -> Option<Duration> {
        if self.claim.pod.is_none() || !self.granted() || self.dead {
            return None;
        }
        let ttl = self.ttl(parent_ttl);
        let (part, whole) = MISSED_RENEWAL;
        let missed = self.renewal_seen.saturating_add((ttl / whole).saturating_mul(part));
        Some(self.looked_at.map_or(missed, |looked| missed.max(looked.saturating_add(ttl / 3))))
    }

    /// When decide has to look at the claim, if at any time. Expired ones are filed by age instead.
    pub(super) fn due(&self, role: Role, parent_ttl: Duration) -> Option<Duration> {
        if self.busy.is_some() {
            return None;
        }
        let at = match role {
            Role::Leaving | Role::Over => return None,
            Role::Stray => Duration::ZERO,
            Role::Waiting if self.is_lost() => Duration::ZERO,
            Role::Waiting => self.proof_due?,
            Role::Holding if self.is_doubtful() => return None,
            Role::Holding if self.dead || self.in_doubt() || self.wants_revoking() => Duration::ZERO,
            Role::Holding if self.is_absent() => Duration::ZERO,
            Role::Holding => {
                let proof = self.proof_due.unwrap_or(Duration::MAX);
                let look = self.look_due(parent_ttl).unwrap_or(Duration::MAX);
                self.expires(parent_ttl).min(proof).min(look)
            }
        };
        Some(at.max(self.retry.at()))
    }

    /// What a walk through the queue has to know of it.
    pub(super) fn waiter(&self) -> Waiter {
        let state = &self.claim.state;
        Waiter {
            weight: self.claim.weight,
            aside: self.is_lost() || self.busy.is_some(),
            telling: self.telling,
            tell_at: self.tell_retry.at(),
            pending: state.phase == Some(ClaimPhase::Pending),
            ahead: state.ahead,
            message: state.message.as_deref().map_or(0, |message| digest(usual_message(message))),
        }
    }
}

/// What a view knows of a claim that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unseen {
    pub(super) claim: Unread,
    /// What it asks for, if it could be read once: that never changes.
    pub(super) weight: Option<u64>,
    /// It had been taken over when it could be read.
    pub(super) adopted: bool,
    /// Seen during the list of the takeover, which may be what shows that it was granted before.
    pub(super) listed: bool,
    /// Its deletion is under way.
    pub(super) busy: bool,
    pub(super) retry: Retry,
    /// When this version of it was first seen, or the reign began.
    pub(super) since: Duration,
    pub(super) due: Option<Duration>,
}

impl Unseen {
    /// When it has not changed for so long that nobody can hold it any more.
    pub(super) fn due(&self) -> Option<Duration> {
        let may_hold = self.claim.may_hold && !self.busy;
        may_hold.then(|| self.since.saturating_add(MAX_TTL).max(self.retry.at()))
    }
}
