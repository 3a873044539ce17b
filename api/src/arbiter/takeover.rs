//! How a leader takes a parent over, and how it learns that somebody else has.

use std::time::Duration;

use super::{Claim, Now, Uid, View, entry::Entry, retry::Retry};
use crate::limits::{PROOF_OF_LIFE, STOOD_DOWN};

/// How far the operator is in taking this parent over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reign {
    /// Does not lead; only watches.
    Standby,
    /// Leads, and has to raise the term first (as soon as the parent exists).
    Raising,
    /// The term is raised; waits for a consistent list of the claims.
    Listing {
        /// The term raised to.
        term: u64,
        /// The last term whose leader had settled: grants older than this were never confirmed.
        settled: u64,
    },
    /// Writes its term onto the adopted claims. Lasts while a claim that may be held cannot be read: it cannot be given
    /// the term, so a leader that settled above it would let the next one take it for one that nobody ever confirmed.
    Restamping {
        /// Its term.
        term: u64,
        /// As above.
        settled: u64,
    },
    /// Grants.
    Settled {
        /// Its term.
        term: u64,
    },
    /// Met a higher term: somebody else leads here.
    StoodDown {
        /// When to take over again if this operator still leads.
        until: Duration,
    },
}

impl View {
    /// This operator leads from now on and takes the parent over. What it has seen of the holders' renewals counts, also
    /// what it saw while another led: to call one silent needs no more than that it has itself seen no renewal for the
    /// whole TTL, by its own clock, as the write fails if there was one.
    pub fn lead(&mut self, now: Now) {
        self.parent_retry = Retry::default();
        self.ask_for_proof_anew(now);
        self.begin(now, |entry| entry.proof_due.take().is_some());
    }

    /// Nobody could be heard while nobody led: who was asked before whether it lives has the whole time to answer again.
    fn ask_for_proof_anew(&mut self, now: Now) {
        let mut asked = vec![];
        for (_, uid) in &self.due {
            let waiter = self.claims.get_mut(uid).filter(|entry| !entry.granted());
            if let Some(due) = waiter.and_then(|entry| entry.proof_due.as_mut()) {
                *due = now.monotonic + PROOF_OF_LIFE;
                asked.push(uid.clone());
            }
        }
        self.refile_all(&asked, now);
    }

    /// Takes the parent over again. What was seen of the holders' renewals stays: this operator has watched all the
    /// time. Until the list has come all that are granted count, so only those are filed anew that did not, or were
    /// being written.
    pub(super) fn start_over(&mut self, now: Now) {
        self.begin(now, |_| false);
    }

    /// Begins to take the parent over, with this change of each claim that is granted, which says whether it is filed
    /// anew.
    fn begin(&mut self, now: Now, change: impl Fn(&mut Entry) -> bool) {
        self.reign = Reign::Raising;
        self.unstamped = 0;
        self.restamps.clear();
        let mut changed = vec![];
        for uid in &self.granted {
            if let Some(entry) = self.claims.get_mut(uid) {
                if change(entry) | entry.depends_on_reign() {
                    changed.push(uid.clone());
                }
                entry.settle_grant();
                entry.adopted = false;
                if let Some(filed) = &mut entry.filed {
                    (filed.unstamped, filed.restamp) = (false, None);
                }
            }
        }
        for unseen in self.unread.values_mut() {
            (unseen.adopted, unseen.listed) = (false, false);
        }
        self.refile_all(&changed, now);
    }

    /// This operator does not lead any more.
    pub fn stand_down(&mut self) {
        self.reign = Reign::Standby;
    }

    /// A part of the answer to [`Plan::list`](super::Plan::list): claims of this parent, by a consistent read that was
    /// sent after the plan. What cannot be read of it goes to [`View::observe_unreadable`]. Once the end of the list
    /// has come, [`View::listed`] is to be called.
    ///
    /// What it shows as granted is adopted at once, so that the end of a long list costs no more than its pages. Should
    /// the list fail later, what was adopted stays so: all grants that may count are those of one leader, which gave no
    /// more than there is at any time, and what has ended since is seen to have.
    pub fn page(&mut self, term: u64, claims: Vec<Claim>, now: Now) {
        for claim in claims {
            // What a list shows that nobody waits for may be long gone.
            if !self.is_listing(term) {
                return;
            }
            let uid = claim.uid.clone();
            self.observe_claim(claim, now);
            self.adopt(&uid, now);
        }
    }

    /// A list shows this claim: if it is granted, and its grant may have been confirmed, it counts from now on.
    pub(super) fn adopt(&mut self, uid: &str, now: Now) {
        if let Some(entry) = self.claims.get(uid)
            && self.may_adopt(entry)
            && let Some(entry) = self.claims.get_mut(uid)
        {
            entry.adopted = true;
            self.refile(uid, now);
        }
    }

    /// Whether a claim that the takeover's list shows is taken over.
    pub(super) fn may_adopt(&self, entry: &Entry) -> bool {
        let (Reign::Listing { settled, .. } | Reign::Restamping { settled, .. }) = self.reign else { return false };
        entry.granted() && (entry.claim.state.term >= settled || entry.is_foreign(self.parent.as_ref()))
    }

    /// The end of the list for the takeover in this term: its pages have shown all claims.
    pub fn listed(&mut self, term: u64, now: Now) {
        self.list_failed();
        let Reign::Listing { settled, .. } = self.reign else { return };
        // A claim may have shown a higher term.
        if !self.is_listing(term) {
            return;
        }
        self.reign = Reign::Restamping { term, settled };
        let is_left = |uid: &&Uid| self.claims.get(*uid).is_some_and(|entry| !entry.adopted);
        let left: Vec<Uid> = self.granted.iter().filter(is_left).cloned().collect();
        self.refile_all(&left, now);
    }

    /// The list could not be had; it is asked for again.
    pub fn list_failed(&mut self) {
        self.listing = false;
        self.gone.retain(|_, gone| {
            gone.list = false;
            gone.answers > 0
        });
    }

    pub(super) fn is_listing(&self, term: u64) -> bool {
        matches!(self.reign, Reign::Listing { term: own, .. } if own == term)
    }

    /// A claim shows this term. If it is the own one before anything was written in it, somebody else's had the same
    /// number, and the parent does not know of that any more: a backup was restored. What was given in it, and its
    /// tokens, are to be below all that is given from now on.
    pub(super) fn note_claims_term(&mut self, term: u64, now: Now) {
        self.note_term(term, now);
        if self.is_listing(term) {
            self.start_over(now);
        }
    }

    pub(super) fn note_term(&mut self, term: u64, now: Now) {
        self.floor = self.floor.max(term);
        if self.term().is_some_and(|own| term > own) {
            self.reign = Reign::StoodDown { until: now.monotonic + STOOD_DOWN };
        }
    }
}
