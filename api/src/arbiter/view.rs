//! What one operator knows of one parent and its claims, and where its reign over them stands.
//!
//! A view only ever moves forward: what is older than what it knows is ignored, object by object. That absence from a
//! list proves nothing (the list may be older than what is known) is why claims leave only by [`View::claim_gone`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Claim, Now, Parent, Uid, Version,
    claims::Gone,
    entry::{Entry, Role, Unseen},
    retry::Retry,
    takeover::Reign,
    waiters::Waiters,
};
use crate::{LockKind, limits::DEFAULT_TTL};

/// See the [module](super). Create one per parent name, whether or not the parent exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub(super) kind: LockKind,
    pub(super) name: String,
    pub(super) reign: Reign,
    pub(super) parent: Option<Parent>,
    /// A write to the parent is under way, decided on this version.
    pub(super) parent_busy: Option<Version>,
    pub(super) parent_retry: Retry,
    pub(super) listing: bool,
    /// The highest term that the parent or a claim has shown.
    pub(super) floor: u64,
    pub(super) sequence: u64,
    /// Each apart: a tree keeps room for more than it has, which costs as much as what it has.
    pub(super) claims: BTreeMap<Uid, Box<Entry>>,
    pub(super) unread: BTreeMap<Uid, Unseen>,
    /// Writes of claims without an answer yet, deletions aside, whose answers show nothing. Also from before a claim
    /// could not be read.
    pub(super) unanswered: BTreeMap<Uid, u8>,
    /// Claims that are gone, while an answer that may show them as they were before must not bring them back.
    pub(super) gone: BTreeMap<Uid, Gone>,
    pub(super) waiters: Waiters,
    /// Claims that are granted, or may be: those whose part depends on the reign.
    pub(super) granted: BTreeSet<Uid>,
    pub(super) in_use: u64,
    /// Claims that cannot be read and that somebody may hold: none of them can carry a new term.
    pub(super) unread_holders: usize,
    /// Those of them whose weight is not known.
    pub(super) unknown: usize,
    /// Adopted claims that do not carry the own term yet.
    pub(super) unstamped: usize,
    /// Those of them that no write is under way for, by when they can be written to.
    pub(super) restamps: BTreeSet<(Duration, Uid)>,
    pub(super) doubtful: BTreeSet<Uid>,
    /// Holders whose grants say no TTL.
    pub(super) parents_ttl: BTreeSet<Uid>,
    /// When the term was last raised because of those.
    pub(super) doubt_raised_at: Option<Duration>,
    pub(super) due: BTreeSet<(Duration, Uid)>,
    pub(super) over: BTreeSet<(Duration, Uid)>,
    pub(super) queue_changed: bool,
    pub(super) told_at: Option<Duration>,
    pub(super) granted_at: Option<Duration>,
    pub(super) summary_changed_at: Option<Duration>,
    /// By their tokens, so in the order of their grants.
    pub(super) holders: BTreeSet<(u64, Uid)>,
}

impl View {
    /// A view of the parent of this kind and name, of which nothing is known yet.
    pub fn new(kind: LockKind, name: &str) -> Self {
        Self {
            kind,
            name: name.into(),
            reign: Reign::Standby,
            parent: None,
            parent_busy: None,
            parent_retry: Retry::default(),
            listing: false,
            floor: 0,
            sequence: 0,
            claims: BTreeMap::new(),
            unread: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            gone: BTreeMap::new(),
            waiters: Waiters::default(),
            granted: BTreeSet::new(),
            in_use: 0,
            unknown: 0,
            unread_holders: 0,
            unstamped: 0,
            restamps: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            parents_ttl: BTreeSet::new(),
            doubt_raised_at: None,
            due: BTreeSet::new(),
            over: BTreeSet::new(),
            queue_changed: false,
            told_at: None,
            granted_at: None,
            summary_changed_at: None,
            holders: BTreeSet::new(),
        }
    }

    /// Where the takeover stands.
    pub fn reign(&self) -> &Reign {
        &self.reign
    }

    /// The same of a parent whose former one of this name had terms up to this: its own will be above.
    #[must_use]
    pub fn above(mut self, term: u64) -> Self {
        self.floor = term;
        self
    }

    /// The highest term that was seen of this parent, its claims, or a former one; 0 if none was.
    pub fn highest_term(&self) -> u64 {
        self.floor
    }

    /// Neither parent nor claims: nothing is lost when the view is dropped but the [highest term](Self::highest_term).
    pub fn is_unused(&self) -> bool {
        self.parent.is_none() && self.claims.is_empty() && self.unread.is_empty()
    }

    /// The parent exists.
    pub fn has_parent(&self) -> bool {
        self.parent.is_some()
    }

    /// Permits held, or possibly held: all, as long as a claim that may be held cannot be read.
    pub fn in_use(&self) -> u64 {
        match &self.parent {
            Some(parent) if self.unknown > 0 => self.in_use.max(parent.capacity),
            _ => self.in_use,
        }
    }

    /// Claims that wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// How many entries of each sort it keeps. All of them are about claims that there are, or that an answer may still
    /// show.
    pub fn sizes(&self) -> [(&'static str, usize); 12] {
        [
            ("claims", self.claims.len()),
            ("unreadable claims", self.unread.len()),
            ("claims with unanswered writes", self.unanswered.len()),
            ("claims that are gone", self.gone.len()),
            ("waiters", self.waiters.len()),
            ("granted", self.granted.len()),
            ("holders", self.holders.len()),
            ("holders by the lock's TTL", self.parents_ttl.len()),
            ("doubtful", self.doubtful.len()),
            ("to be stamped", self.restamps.len()),
            ("due", self.due.len()),
            ("over", self.over.len()),
        ]
    }

    /// When the claim was created that has waited for longest, in unix seconds; `None` if none waits.
    pub fn oldest_waiter(&self) -> Option<u64> {
        self.waiters.oldest()
    }

    /// What is known of the claim with this UID, if it could be read.
    pub fn claim(&self, uid: &str) -> Option<&Claim> {
        self.claims.get(uid).map(|entry| &entry.claim)
    }

    /// Since when the claim with this UID is held, by the time in its status; `None` if it is not known to be held.
    pub fn held_since(&self, uid: &str) -> Option<Timestamp> {
        let entry = self.claims.get(uid)?;
        entry.claim.state.acquired_at.filter(|_| entry.granted() && entry.role() == Some(Role::Holding))
    }

    /// The parent was seen, at any version.
    pub fn observe_parent(&mut self, parent: Parent, now: Now) {
        // Also what is old news shows a term that was used.
        self.floor = self.floor.max(parent.state.term);
        let known = self.parent.as_ref();
        if known.is_some_and(|known| parent.version <= known.version) {
            return;
        }
        let same = known.is_none_or(|known| known.uid == parent.uid);
        let (term, settled_term) = (parent.state.term, parent.state.settled_term);
        let resized = known.is_none_or(|known| known.capacity != parent.capacity);
        let ttl = self.parent_ttl();
        self.parent = Some(parent);
        self.parent_retry = Retry::default();
        self.queue_changed |= resized;
        self.note_summary_change(now);
        self.note_term(term, now);
        let intact = match self.reign {
            Reign::Listing { term: own, .. } | Reign::Restamping { term: own, .. } => same && term == own,
            Reign::Settled { term: own } => same && term == own && settled_term == own,
            Reign::Standby | Reign::Raising | Reign::StoodDown { .. } => true,
        };
        if !intact {
            self.start_over(now);
        }
        if self.parent_ttl() != ttl {
            self.refile_by_ttl(now);
        }
    }

    /// The parent with this UID does not exist any more. Its claims stay as they are and count again when it is
    /// recreated.
    pub fn parent_gone(&mut self, uid: &str, now: Now) {
        if self.parent.as_ref().is_none_or(|parent| *parent.uid != *uid) {
            return;
        }
        self.parent = None;
        self.parent_busy = None;
        self.queue_changed = true;
        if self.reign != Reign::Standby {
            self.start_over(now);
        }
        self.refile_by_ttl(now);
    }

    pub(super) fn term(&self) -> Option<u64> {
        match self.reign {
            Reign::Listing { term, .. } | Reign::Restamping { term, .. } | Reign::Settled { term } => Some(term),
            Reign::Standby | Reign::Raising | Reign::StoodDown { .. } => None,
        }
    }

    pub(super) fn parent_ttl(&self) -> Duration {
        self.parent.as_ref().map_or(DEFAULT_TTL, |parent| parent.ttl)
    }

    pub(super) fn note_summary_change(&mut self, now: Now) {
        self.summary_changed_at.get_or_insert(now.monotonic);
    }
}
