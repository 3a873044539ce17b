//! What a view knows of one claim beyond the claim itself, and when decide has to look at it.

use std::time::Duration;

use super::{Change, Claim, Version, Write, waiters::Place};
use crate::ClaimPhase;

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
    /// Taken over from an earlier term: counts although its term is old.
    pub(super) adopted: bool,
    /// A write is under way, other than a telling.
    pub(super) busy: bool,
    /// A telling is under way. It does not keep the claim from being granted meanwhile.
    pub(super) telling: bool,
    /// Not to be written before this time, after a failed write.
    pub(super) retry_at: Duration,
    /// When a renewal has to have followed a grant that came after a long wait.
    pub(super) proof_due: Option<Duration>,
    /// A grant was sent for this version and is not known to have failed.
    pub(super) granting: Option<Version>,
    /// That grant was sent after [`WAITED_LONG`], so its client renews before it starts anything.
    pub(super) granting_late: bool,
    /// When its client was last known to live: it was created then, or renewed.
    pub(super) heard: Duration,
    pub(super) renewal_seen: Duration,
    pub(super) over_since: Duration,
    pub(super) filed: Option<Filed>,
}

/// Under what a claim stands in the indexes of the view. Kept, so that it can be taken out after the claim has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Filed {
    pub(super) role: Role,
    pub(super) weight: u64,
    pub(super) place: Place,
    pub(super) token: Option<u64>,
    pub(super) over_since: Duration,
    /// When decide has to look at it.
    pub(super) due: Option<Duration>,
}

impl Entry {
    pub(super) fn role(&self) -> Option<Role> {
        self.filed.as_ref().map(|filed| filed.role)
    }

    pub(super) fn answered(&mut self, write: &Write) {
        match write.change {
            Change::Tell(_) => self.telling = false,
            _ => self.busy = false,
        }
    }

    pub(super) fn granted(&self) -> bool {
        matches!(self.claim.state.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking))
    }

    /// When its holder has been silent for too long.
    pub(super) fn expires(&self, parent_ttl: Duration) -> Duration {
        self.renewal_seen.saturating_add(self.ttl(parent_ttl))
    }

    pub(super) fn ttl(&self, parent_ttl: Duration) -> Duration {
        self.claim.state.ttl.or(self.claim.ttl).unwrap_or(parent_ttl)
    }

    pub(super) fn in_doubt(&self) -> bool {
        self.granting.is_some() && !self.busy
    }

    pub(super) fn wants_revoking(&self) -> bool {
        self.claim.revoke.is_some() && self.claim.state.phase == Some(ClaimPhase::Granted)
    }

    /// When decide has to look at the claim, if at any time. Expired ones are filed by age instead.
    pub(super) fn due(&self, role: Role, parent_ttl: Duration) -> Option<Duration> {
        let urgent = match role {
            Role::Waiting => self.dead,
            Role::Holding => self.dead || self.in_doubt() || self.wants_revoking(),
            Role::Stray => true,
            Role::Leaving | Role::Over => return None,
        };
        match role {
            _ if self.busy => None,
            _ if urgent => Some(self.retry_at),
            Role::Holding => {
                let silent = self.expires(parent_ttl);
                Some(self.proof_due.map_or(silent, |proof| silent.min(proof)).max(self.retry_at))
            }
            _ => None,
        }
    }
}
