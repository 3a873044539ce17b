//! What people see of a parent.

use super::{Claim, Parent, ParentState, ParentSummary, Reign, Tenure, View};
use crate::limits::HOLDERS_SHOWN;

impl View {
    /// Permits that can be granted now.
    pub(super) fn free(&self, parent: &Parent) -> u64 {
        // Nobody knows how much an unreadable claim holds.
        if self.unknown > 0 { 0 } else { parent.capacity.saturating_sub(self.in_use) }
    }

    /// Nothing is granted, however much is free, because of a claim that cannot be read.
    pub(super) fn is_held_up(&self) -> bool {
        self.unknown > 0 || self.unread_holders > 0 && matches!(self.reign, Reign::Restamping { .. })
    }

    /// What people should see of the parent now.
    fn summary(&self, parent: &Parent) -> ParentSummary {
        // No more than one, whatever was done to the claims by hand.
        let exclusive = self.kind.exclusive;
        let (most, shown) = if exclusive { (1, 1) } else { (u64::MAX, HOLDERS_SHOWN) };
        let holders = || self.holders.iter().take(shown).filter_map(|(_, uid)| Some(&self.claims.get(uid)?.claim));
        let tenure = |claim: &Claim| Some(Tenure { token: claim.state.token?, since: claim.state.acquired_at? });
        ParentSummary {
            generation: Some(parent.generation),
            in_use: self.in_use().min(most),
            available: self.free(parent),
            waiting: self.waiters.len() as u64,
            holders: holders().map(|claim| claim.holder.clone()).collect(),
            tenure: if exclusive { holders().next().and_then(tenure) } else { None },
        }
    }

    /// The parent's whole status with these terms.
    pub(super) fn parent_state(&self, parent: &Parent, term: u64, settled_term: u64) -> ParentState {
        ParentState { term, settled_term, summary: self.summary(parent) }
    }
}
