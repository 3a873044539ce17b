//! What is seen of claims, and the indexes that they are filed in.
//!
//! A claim is filed anew only when something about it changed that an index is about, so that ten thousand waiters cost
//! nothing while somebody takes over or renews.

use std::cmp::Reverse;

use super::{
    Claim, ClaimChange, ClaimWrite, Now, Uid, Unread, View,
    entry::{Entry, Filed, Role, Unseen},
    retry::Retry,
    takeover::Reign,
    waiters::Place,
};
use crate::{
    ClaimPhase,
    limits::{DOUBTED_GRANTS, PROOF_OF_LIFE},
};

/// What may still show a claim that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gone {
    /// Answers to writes of it, or the reads after they failed.
    pub(super) answers: u8,
    /// The list that is under way.
    pub(super) list: bool,
}

impl View {
    /// A claim was seen, at any version.
    pub fn observe_claim(&mut self, claim: Claim, now: Now) {
        let (uid, term) = (claim.uid.clone(), claim.state.term);
        if self.gone.contains_key(&uid) {
            return;
        }
        if let Some(entry) = self.claims.get_mut(&uid) {
            if claim.version <= entry.claim.version {
                return;
            }
            entry.observe(claim, now);
        } else {
            if self.unread.get(&uid).is_some_and(|unseen| claim.version < unseen.claim.version) {
                return;
            }
            let mut entry = Entry::new(claim, now.monotonic);
            if let Some(unseen) = self.remove_unread(&uid) {
                let shown = unseen.listed || matches!(self.reign, Reign::Restamping { .. });
                entry.adopted = entry.granted() && unseen.adopted || shown && self.may_adopt(&entry);
            }
            self.claims.insert(uid.clone(), Box::new(entry));
        }
        self.note_claims_term(term, now);
        self.refile(&uid, now);
    }

    /// A claim that merely waits was seen, and is not to be kept: nothing is known of it but the term that it shows. It
    /// is as if it had not been seen yet, which it may be at any time, as watches are late. One that is held, or may
    /// be, is never left out.
    pub fn leave_out(&mut self, claim: &Claim, now: Now) {
        self.note_claims_term(claim.state.term, now);
    }

    /// A claim that cannot be read was seen, at any version, by a watch, a read, or a page of a list. If somebody may
    /// hold it, it counts with the weight that it had when it could be read; if it never could, nothing is granted
    /// beside it, as its weight is not known. So until it can be read, is gone, or has not changed for the longest TTL.
    /// It is then deleted: to write that it is over would need a status that can be read, and leave it as it is.
    pub fn observe_unreadable(&mut self, claim: Unread, now: Now) {
        let uid = claim.uid.clone();
        if self.gone.contains_key(&uid) {
            return;
        }
        // Also if something newer is known: the list may be what shows that it was granted before.
        let listed = claim.may_hold && self.listing;
        if listed {
            self.adopt(&uid, now);
            if let Some(unseen) = self.unread.get_mut(&uid) {
                unseen.listed = true;
            }
        }
        let known = self.claims.get(&uid).map(|entry| entry.claim.version);
        let known = known.or_else(|| self.unread.get(&uid).map(|unseen| unseen.claim.version));
        let adopted = match known {
            Some(known) if known >= claim.version => return,
            _ => {
                self.claims.get(&uid).is_some_and(|entry| entry.adopted)
                    || self.unread.get(&uid).is_some_and(|unseen| unseen.adopted)
            }
        };
        self.unfile(&uid, now);
        let weight = self.claims.remove(&uid).map(|entry| entry.claim.weight);
        let before = self.remove_unread(&uid);
        let (busy, known, before) =
            before.map_or((false, None, false), |unseen| (unseen.busy, unseen.weight, unseen.listed));
        let listed = listed || before;
        let weight = weight.or(known);
        if claim.may_hold {
            // Waiters are told what is in their way.
            self.queue_changed = true;
            self.unread_holders += 1;
            match weight {
                Some(weight) => self.in_use += weight,
                None => self.unknown += 1,
            }
        }
        self.note_summary_change(now);
        let (since, retry) = (now.monotonic, Retry::default());
        self.unread.insert(uid.clone(), Unseen { claim, weight, adopted, listed, busy, retry, since, due: None });
        self.with_unread(&uid, |_| ());
    }

    /// Changes what is known of an unreadable claim, and files it anew.
    pub(super) fn with_unread(&mut self, uid: &str, change: impl FnOnce(&mut Unseen)) {
        let Some(unseen) = self.unread.get_mut(uid) else { return };
        change(unseen);
        let (uid, due) = (unseen.claim.uid.clone(), unseen.due());
        if let Some(before) = std::mem::replace(&mut unseen.due, due) {
            self.due.remove(&(before, uid.clone()));
        }
        if let Some(due) = due {
            self.due.insert((due, uid));
        }
    }

    fn remove_unread(&mut self, uid: &str) -> Option<Unseen> {
        let unseen = self.unread.remove(uid)?;
        if unseen.claim.may_hold {
            self.unread_holders -= 1;
            match unseen.weight {
                Some(weight) => self.in_use -= weight,
                None => self.unknown -= 1,
            }
        }
        if let Some(due) = unseen.due {
            self.due.remove(&(due, unseen.claim.uid.clone()));
        }
        self.queue_changed = true;
        Some(unseen)
    }

    /// The claim with this UID does not exist any more: seen deleted, or an answer said so.
    pub fn claim_gone(&mut self, uid: &str, now: Now) {
        self.unfile(uid, now);
        let uid = match (self.claims.remove(uid), self.remove_unread(uid)) {
            (Some(entry), _) => entry.claim.uid.clone(),
            (None, Some(unseen)) => unseen.claim.uid,
            (None, None) => return,
        };
        self.note_summary_change(now);
        let answers = self.unanswered.get(&uid).copied().unwrap_or(0);
        if answers > 0 || self.listing {
            self.gone.insert(uid, Gone { answers, list: self.listing });
        }
    }

    /// An answer to a write of this claim has come. Returns whether the claim is still there.
    pub(super) fn heard_back(&mut self, write: &ClaimWrite) -> bool {
        let uid = &write.uid;
        if write.change != ClaimChange::Delete {
            if let Some(answers) = self.unanswered.get_mut(uid) {
                *answers = answers.saturating_sub(1);
                if *answers == 0 {
                    self.unanswered.remove(uid);
                }
            }
            if let Some(gone) = self.gone.get_mut(uid) {
                gone.answers = gone.answers.saturating_sub(1);
                if gone.answers == 0 && !gone.list {
                    self.gone.remove(uid);
                }
            }
        }
        self.claims.contains_key(uid)
    }

    fn role(&self, entry: &Entry) -> Role {
        let state = &entry.claim.state;
        match state.phase {
            Some(ClaimPhase::Expired) => Role::Over,
            _ if entry.granting.is_some() => Role::Holding,
            Some(ClaimPhase::Granted | ClaimPhase::Revoking) => match self.reign {
                Reign::Restamping { term, .. } | Reign::Settled { term }
                    if !entry.adopted && (state.term < term || entry.is_foreign(self.parent.as_ref())) =>
                {
                    Role::Stray
                }
                _ => Role::Holding,
            },
            Some(ClaimPhase::Pending) | None if entry.claim.deleting => Role::Leaving,
            Some(ClaimPhase::Pending) | None => Role::Waiting,
        }
    }

    /// An adopted claim that has to carry the own term before this leader settles.
    fn is_unstamped(&self, entry: &Entry) -> bool {
        let (Reign::Listing { term, .. } | Reign::Restamping { term, .. }) = self.reign else { return false };
        let (parent, state) = (self.parent.as_ref(), &entry.claim.state);
        entry.granted() && entry.adopted && state.term != term && !entry.is_foreign(parent)
    }

    /// Files those claims anew that expire after the parent's TTL. Grants say their own, so there are hardly any.
    pub(super) fn refile_by_ttl(&mut self, now: Now) {
        let claims: Vec<Uid> = self.parents_ttl.iter().cloned().collect();
        self.refile_all(&claims, now);
    }

    pub(super) fn refile_all(&mut self, claims: &[Uid], now: Now) {
        for uid in claims {
            self.refile(uid, now);
        }
    }

    /// Files the claim anew in all indexes, after anything about it changed.
    pub(super) fn refile(&mut self, uid: &str, now: Now) {
        let Some(entry) = self.claims.get(uid) else { return };
        let (role, unstamped, parent_ttl) = (self.role(entry), self.is_unstamped(entry), self.parent_ttl());
        let unstamped = unstamped && role == Role::Holding;
        let Some(entry) = self.claims.get_mut(uid) else { return };
        if role != Role::Over {
            entry.over_since = now.monotonic;
        }
        let claim = &entry.claim;
        let filed = Filed {
            role,
            place: Place {
                priority: Reverse(claim.priority),
                ticket: entry.ticket,
                uid: claim.uid.clone(),
                created: claim.created,
            },
            waiter: entry.waiter(),
            token: claim.state.token,
            over_since: (role == Role::Over).then_some(entry.over_since),
            unstamped,
            restamp: (unstamped && entry.busy.is_none()).then(|| entry.retry.at()),
            parents_ttl: role == Role::Holding && entry.has_parents_ttl(),
            doubtful: role == Role::Holding && entry.is_doubtful(),
            due: entry.due(role, parent_ttl),
        };
        match &entry.filed {
            Some(before) if *before == filed => {}
            Some(before) if before.stays_beside(&filed) => {
                let before = before.clone();
                entry.filed = Some(filed.clone());
                self.file_beside(&before, &filed);
            }
            _ => {
                self.unfile(uid, now);
                self.file(filed, now);
            }
        }
    }

    /// Brings those indexes up to date that can change while a claim keeps its part and its place.
    fn file_beside(&mut self, before: &Filed, filed: &Filed) {
        let uid = filed.place.uid.clone();
        if filed.role == Role::Waiting && before.waiter != filed.waiter {
            self.waiters.update(&filed.place, filed.waiter);
            self.queue_changed = true;
        }
        self.unstamped = self.unstamped + usize::from(filed.unstamped) - usize::from(before.unstamped);
        for (index, before, filed) in [
            (&mut self.doubtful, before.doubtful, filed.doubtful),
            (&mut self.parents_ttl, before.parents_ttl, filed.parents_ttl),
        ] {
            match (before, filed) {
                (false, true) => _ = index.insert(uid.clone()),
                (true, false) => _ = index.remove(&uid),
                _ => {}
            }
        }
        for (index, before, filed) in
            [(&mut self.due, before.due, filed.due), (&mut self.restamps, before.restamp, filed.restamp)]
        {
            if before != filed {
                if let Some(before) = before {
                    index.remove(&(before, uid.clone()));
                }
                if let Some(filed) = filed {
                    index.insert((filed, uid.clone()));
                }
            }
        }
    }

    fn file(&mut self, filed: Filed, now: Now) {
        self.note_summary_change(now);
        let uid = filed.place.uid.clone();
        let Some(entry) = self.claims.get_mut(&uid) else { return };
        entry.filed = Some(filed.clone());
        match filed.role {
            Role::Waiting => {
                self.waiters.insert(filed.place, filed.waiter);
                self.queue_changed = true;
            }
            Role::Holding => {
                self.in_use += filed.waiter.weight;
                self.holders.insert((filed.token.unwrap_or(u64::MAX), uid.clone()));
                self.granted.insert(uid.clone());
                self.unstamped += usize::from(filed.unstamped);
                if let Some(at) = filed.restamp {
                    self.restamps.insert((at, uid.clone()));
                }
                if filed.doubtful {
                    self.doubtful.insert(uid.clone());
                }
                if filed.parents_ttl {
                    self.parents_ttl.insert(uid.clone());
                }
            }
            Role::Stray => _ = self.granted.insert(uid.clone()),
            Role::Over => _ = self.over.insert((entry.over_since, uid.clone())),
            Role::Leaving => {}
        }
        if let Some(due) = filed.due {
            self.due.insert((due, uid));
        }
    }

    /// Takes the claim out of all indexes.
    fn unfile(&mut self, uid: &str, now: Now) {
        let Some(filed) = self.claims.get_mut(uid).and_then(|entry| entry.filed.take()) else { return };
        self.note_summary_change(now);
        let uid = filed.place.uid.clone();
        match filed.role {
            Role::Waiting => {
                self.waiters.remove(&filed.place);
                self.queue_changed = true;
            }
            Role::Holding => {
                self.in_use -= filed.waiter.weight;
                self.holders.remove(&(filed.token.unwrap_or(u64::MAX), uid.clone()));
                self.granted.remove(&uid);
                self.unstamped -= usize::from(filed.unstamped);
                if let Some(at) = filed.restamp {
                    self.restamps.remove(&(at, uid.clone()));
                }
                if filed.doubtful {
                    self.doubtful.remove(&uid);
                }
                if filed.parents_ttl {
                    self.parents_ttl.remove(&uid);
                }
            }
            Role::Stray => _ = self.granted.remove(&uid),
            Role::Over => _ = self.over.remove(&(filed.over_since.unwrap_or_default(), uid.clone())),
            Role::Leaving => {}
        }
        if let Some(due) = filed.due {
            self.due.remove(&(due, uid));
        }
    }
}

impl Entry {
    /// A newer version of the claim was seen.
    fn observe(&mut self, claim: Claim, now: Now) {
        let (was_granted, renewed) = (self.granted(), claim.renewed != self.claim.renewed);
        self.claim = claim;
        self.ticket = self.claim.state.ticket.unwrap_or(self.ticket);
        self.adopted &= self.granted();
        self.settle_grant();
        let newly_granted = self.granted() && !was_granted;
        if newly_granted {
            self.doubts = 0;
            self.renewal_seen = now.monotonic;
            self.proof_due = self.granting_late.then(|| now.monotonic + PROOF_OF_LIFE);
        }
        if renewed {
            self.heard = now.monotonic;
            self.renewal_seen = now.monotonic;
            self.proof_due = None;
            // A late grant that was sent before, and never done, says nothing of the next one, whoever makes it: its
            // client has just been heard, and need not renew before it starts.
            self.granting_late = false;
            // It lives, wherever its pod is.
            self.gone = false;
        }
        // That it could be told something does not mean that it can be granted.
        if self.doubts < DOUBTED_GRANTS {
            self.retry = Retry::default();
        }
        self.tell_retry = Retry::default();
    }
}
