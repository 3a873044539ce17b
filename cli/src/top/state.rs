//! What the view knows and what it does: from events to effects, without a clock, a terminal or a cluster.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use jiff::Timestamp;
use konductor_api::RendezvousPhase;
use konductor_cluster::object::Metadata;

use super::limits::{FILTER, NOTICE, SAMPLES};
use crate::why::{Claim, Kind, Seen};

/// The kinds that are followed.
pub(crate) const FOLLOWED: [Kind; 6] =
    [Kind::Semaphore, Kind::Lease, Kind::Barrier, Kind::Gate, Kind::Permit, Kind::LeaseRequest];

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// All objects of a kind.
    Listed(Kind, Vec<Seen>),
    /// An object is new or has changed.
    Changed(Kind, Box<Seen>),
    /// An object was deleted: its namespace and name.
    Deleted(Kind, String, String),
    /// What is known of a kind is as it was, because of this; or is followed again.
    Trouble(Kind, Option<String>),
    /// A key was pressed.
    Key(Key),
    /// A time for a sample of each parent's use.
    Sample,
    /// Some time has passed.
    Tick,
    /// Why something is as it is.
    Explained(String, Vec<String>),
    /// What became of something that was asked for.
    Done(String),
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// One that writes.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// One up.
    Up,
    /// One down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Ctrl-C.
    Interrupt,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Leave.
    Leave,
    /// Leave as if by a signal.
    Interrupted,
    /// Ask why.
    Explain(Id),
    /// Have this claim end, if it is still the one with this UID.
    Revoke(Id, String),
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) namespace: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl Id {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), kind, name: name.to_owned() }
    }
}

/// What comes first in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// By namespace, kind and name.
    #[default]
    Name,
    /// The fullest.
    Use,
    /// That for which most wait.
    Waiting,
    /// What has been held for longest.
    Held,
}

impl Sort {
    const ALL: [Self; 4] = [Self::Name, Self::Use, Self::Waiting, Self::Held];

    /// Its name, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Use => "use",
            Self::Waiting => "waiting",
            Self::Held => "held for",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// What is on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// All parents.
    List,
    /// One of them, with its claims; the chosen one by its name.
    Parent {
        /// Which one.
        parent: Id,
        /// The claim that is chosen.
        claim: Option<String>,
    },
    /// A text.
    Text {
        /// What it is about.
        title: String,
        /// Its lines; none while it is waited for.
        lines: Vec<String>,
        /// The first line that is shown.
        top: usize,
        /// Where it was asked for.
        back: Box<Self>,
    },
    /// A question: whether to have a claim revoked.
    Confirm {
        /// Which claim.
        claim: Id,
        /// Its UID.
        uid: String,
        /// Who holds it.
        holder: String,
        /// Where it was asked for.
        back: Box<Self>,
    },
}

/// What is shown of a parent in the list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: Id,
    /// Permits in use, arrivals or conditions met ...
    pub(crate) used: u64,
    /// ... of so many.
    pub(crate) of: u64,
    pub(crate) waiting: u64,
    /// In a word.
    pub(crate) state: &'static str,
    /// Who holds, if it is one.
    pub(crate) holder: Option<String>,
    /// Since when the first of its holders holds, or it is open.
    pub(crate) since: Option<Timestamp>,
    /// Whether what is shown of it needs a person's look.
    pub(crate) is_odd: bool,
}

/// Where it is looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this namespace of a cluster; in all if absent.
    Cluster(Option<String>),
    /// In this folder, in which names have no namespace.
    Folder(String),
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Where it is looked.
    pub(crate) place: Place,
    /// All parents of that place are looked at, and not some that were selected.
    is_whole: bool,
    pub(crate) page: Page,
    pub(crate) sort: Sort,
    pub(crate) filter: String,
    /// The filter is being typed.
    pub(crate) typing: bool,
    /// What is chosen in the list.
    pub(crate) chosen: Option<Id>,
    /// What has been done, and when that was told.
    pub(crate) notice: Option<(String, Timestamp)>,
    parents: BTreeMap<Id, Seen>,
    /// By the parent that they are on.
    claims: BTreeMap<Id, BTreeMap<String, Claim>>,
    history: BTreeMap<Id, VecDeque<u8>>,
    troubles: BTreeMap<Kind, String>,
    /// Kinds that have been listed.
    listed: Vec<Kind>,
}

impl State {
    pub(crate) fn new(place: Place, is_whole: bool) -> Self {
        Self {
            place,
            is_whole,
            page: Page::List,
            sort: Sort::default(),
            filter: String::new(),
            typing: false,
            chosen: None,
            notice: None,
            parents: BTreeMap::new(),
            claims: BTreeMap::new(),
            history: BTreeMap::new(),
            troubles: BTreeMap::new(),
            listed: Vec::new(),
        }
    }

    /// Takes in what has happened. `lines` is how many lines of a list or text the screen shows.
    pub(crate) fn step(&mut self, event: Event, now: Timestamp, lines: usize) -> Vec<Effect> {
        match event {
            Event::Listed(kind, all) => {
                self.forget(kind);
                for seen in all {
                    self.see(kind, seen);
                }
                if !self.listed.contains(&kind) {
                    self.listed.push(kind);
                }
            }
            Event::Changed(kind, seen) => self.see(kind, *seen),
            Event::Deleted(kind, namespace, name) => self.remove(kind, &namespace, &name),
            Event::Trouble(kind, Some(why)) => {
                self.troubles.insert(kind, why);
            }
            Event::Trouble(kind, None) => {
                self.troubles.remove(&kind);
            }
            Event::Sample => self.sample(),
            Event::Tick => {}
            Event::Explained(subject, text) => {
                if let Page::Text { title, lines, .. } = &mut self.page
                    && *title == subject
                {
                    *lines = text;
                }
            }
            Event::Done(what) => self.notice = Some((what, now)),
            Event::Key(key) => return self.press(key, lines),
        }
        self.notice.take_if(|(_, at)| now.duration_since(*at).unsigned_abs() > NOTICE);
        Vec::new()
    }

    fn forget(&mut self, kind: Kind) {
        match kind {
            Kind::Permit | Kind::LeaseRequest => self.claims.retain(|parent, _| parent.kind != kind.lock()),
            _ => self.parents.retain(|id, _| id.kind != kind),
        }
    }

    fn see(&mut self, kind: Kind, seen: Seen) {
        match seen {
            Seen::Claim(claim) => {
                let parent = Id::new(kind.lock(), &claim.metadata.namespace, &claim.lock);
                self.claims.entry(parent).or_default().insert(claim.metadata.name.clone(), *claim);
            }
            // A claim that cannot be read is on nothing that is known.
            Seen::Misfit(..) if matches!(kind, Kind::Permit | Kind::LeaseRequest) => {}
            seen => {
                if let Some(metadata) = metadata(&seen) {
                    self.parents.insert(Id::new(kind, &metadata.namespace, &metadata.name), seen);
                }
            }
        }
    }

    fn remove(&mut self, kind: Kind, namespace: &str, name: &str) {
        if matches!(kind, Kind::Permit | Kind::LeaseRequest) {
            for (parent, claims) in &mut self.claims {
                if parent.kind == kind.lock() && parent.namespace == namespace {
                    claims.remove(name);
                }
            }
            self.claims.retain(|_, claims| !claims.is_empty());
        } else {
            let id = Id::new(kind, namespace, name);
            self.parents.remove(&id);
            self.history.remove(&id);
        }
    }

    fn sample(&mut self) {
        let rows: BTreeMap<_, _> = self.all().map(|row| (row.id.clone(), percent(row.used, row.of))).collect();
        self.history.retain(|id, _| rows.contains_key(id));
        for (id, percent) in rows {
            let samples = self.history.entry(id).or_default();
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back(percent);
        }
    }

    /// Its use over the last minutes, in percent, the oldest first.
    pub(crate) fn history(&self, id: &Id) -> impl Iterator<Item = u8> {
        self.history.get(id).into_iter().flatten().copied()
    }

    /// What does not work, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        let why = self.troubles.values().next()?;
        let more = match self.troubles.values().filter(|other| *other != why).count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(format!("may be old: {why}{more}"))
    }

    /// Whether everything has been listed at least once, or cannot be.
    pub(crate) fn is_complete(&self) -> bool {
        FOLLOWED.iter().all(|kind| self.listed.contains(kind) || self.troubles.contains_key(kind))
    }

    /// All parents, also those that do not exist and are waited for: of some that were selected, nobody knows whether
    /// these would be among them.
    fn all(&self) -> impl Iterator<Item = Row> {
        let missing = self.claims.keys().filter(|parent| self.is_whole && !self.parents.contains_key(parent));
        self.parents.keys().chain(missing).map(|id| self.row(id))
    }

    /// What is shown of a parent.
    pub(crate) fn row(&self, id: &Id) -> Row {
        let claims = || self.claims.get(id).into_iter().flat_map(BTreeMap::values);
        let waiting = claims().filter(|claim| claim.waits()).count() as u64;
        let blank =
            Row { id: id.clone(), used: 0, of: 0, waiting, state: "missing", holder: None, since: None, is_odd: true };
        match self.parents.get(id) {
            Some(Seen::Lock(lock)) => {
                let holders = claims().filter(|claim| claim.holds());
                let used: u64 = holders.clone().map(|claim| claim.permits).sum();
                let since = holders.clone().filter_map(acquired).min();
                let state = match (lock.capacity, used) {
                    (0, _) => "paused",
                    (of, used) if used >= of && id.kind == Kind::Lease => "held",
                    (of, used) if used >= of => "full",
                    _ => "free",
                };
                let mut names = holders.map(|claim| claim.spec.holder.clone());
                let holder = names.next().filter(|_| names.next().is_none());
                let is_odd = lock.capacity == 0;
                Row { used, of: lock.capacity, state, holder, since, is_odd, ..blank }
            }
            Some(Seen::Barrier(barrier)) => {
                let since = barrier.status.opened_at.as_ref().or(barrier.status.failed_at.as_ref()).map(|at| at.0);
                let (used, of) = (barrier.status.arrived.unwrap_or(0), barrier.spec.expected.into());
                let (state, is_odd) = phase(barrier.status.phase);
                Row { used, of, state, since, is_odd, ..blank }
            }
            Some(Seen::Gate(gate)) => {
                let since = gate.status.waiting_since.as_ref().map(|at| at.0);
                let (used, of) = (gate.status.met.unwrap_or(0).into(), gate.spec.conditions.len() as u64);
                let (state, is_odd) = phase(gate.status.phase);
                Row { used, of, state, since, is_odd, ..blank }
            }
            Some(_) => Row { state: "unreadable", ..blank },
            None => blank,
        }
    }

    /// The list, as it is sorted and filtered.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let filter = self.filter.to_lowercase();
        let holder_has = |row: &Row| {
            let claims = self.claims.get(&row.id).into_iter().flat_map(BTreeMap::values);
            claims.into_iter().any(|claim| claim.spec.holder.to_lowercase().contains(&filter))
        };
        let has = |row: &Row| {
            let id =
                format!("{}/{}/{} {}", row.id.namespace, row.id.kind.name(), row.id.name, row.state).to_lowercase();
            id.contains(&filter) || holder_has(row)
        };
        let mut rows: Vec<_> = self.all().filter(has).collect();
        rows.sort_by(|one, other| one.id.cmp(&other.id));
        match self.sort {
            Sort::Name => {}
            Sort::Use => rows.sort_by_key(|row| Reverse(percent(row.used, row.of))),
            Sort::Waiting => rows.sort_by_key(|row| Reverse(row.waiting)),
            Sort::Held => rows.sort_by_key(|row| (row.since.is_none(), row.since)),
        }
        rows
    }

    /// The claims on a parent: those that hold, the first first, and then those that wait, in the order in which they
    /// go.
    pub(crate) fn claims(&self, parent: &Id) -> Vec<&Claim> {
        let all = || self.claims.get(parent).into_iter().flat_map(BTreeMap::values);
        let mut holders: Vec<_> = all().filter(|claim| claim.holds()).collect();
        holders.sort_by_key(|claim| (acquired(claim), &claim.metadata.name));
        let mut waiters: Vec<_> = all().filter(|claim| claim.waits()).collect();
        waiters.sort_by_key(|claim| {
            let ticket = claim.status.ticket.unwrap_or(u64::MAX);
            (Reverse(claim.spec.priority), ticket, claim.metadata.version)
        });
        holders.extend(waiters);
        holders
    }

    /// Which of these is chosen: the one that was, or the first.
    pub(crate) fn chosen(&self, rows: &[Row]) -> usize {
        rows.iter().position(|row| self.chosen.as_ref() == Some(&row.id)).unwrap_or(0)
    }

    fn press(&mut self, key: Key, lines: usize) -> Vec<Effect> {
        if key == Key::Interrupt {
            return vec![Effect::Interrupted];
        }
        // Who goes on has read it.
        self.notice = None;
        if self.typing {
            self.write(key);
            return Vec::new();
        }
        match self.page.clone() {
            Page::List => self.in_list(key, lines),
            Page::Parent { parent, claim } => self.in_parent(key, lines, parent, claim.as_deref()),
            Page::Text { back, .. } => self.in_text(key, lines, *back),
            Page::Confirm { claim, uid, back, .. } => {
                self.page = *back;
                match key {
                    Key::Char('y' | 'Y') => vec![Effect::Revoke(claim, uid)],
                    _ => Vec::new(),
                }
            }
        }
    }

    fn write(&mut self, key: Key) {
        match key {
            Key::Char(c) if self.filter.len() < FILTER => self.filter.push(c),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
    }

    fn in_list(&mut self, key: Key, lines: usize) -> Vec<Effect> {
        let rows = self.rows();
        let at = self.chosen(&rows);
        match key {
            Key::Char('q') => return vec![Effect::Leave],
            Key::Char('/') => self.typing = true,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Escape => self.filter.clear(),
            Key::Char('w') => {
                if let Some(row) = rows.get(at) {
                    return self.ask(row.id.clone());
                }
            }
            Key::Enter => {
                if let Some(row) = rows.get(at) {
                    self.chosen = Some(row.id.clone());
                    if matches!(row.id.kind, Kind::Semaphore | Kind::Lease) {
                        self.page = Page::Parent { parent: row.id.clone(), claim: None };
                    } else {
                        return self.ask(row.id.clone());
                    }
                }
            }
            key => {
                let to = moved(key, at, rows.len(), lines);
                self.chosen = rows.get(to).map(|row| row.id.clone());
            }
        }
        Vec::new()
    }

    fn in_parent(&mut self, key: Key, lines: usize, parent: Id, chosen: Option<&str>) -> Vec<Effect> {
        let claims = self.claims(&parent);
        let at = claims.iter().position(|claim| Some(claim.metadata.name.as_str()) == chosen).unwrap_or(0);
        let chosen =
            claims.get(at).map(|claim| (claim_id(claim), claim.metadata.uid.clone(), claim.spec.holder.clone()));
        let to = claims.get(moved(key, at, claims.len(), lines)).map(|claim| claim.metadata.name.clone());
        match key {
            Key::Char('q') => return vec![Effect::Leave],
            Key::Escape | Key::Backspace => self.page = Page::List,
            Key::Char('w') => return self.ask(parent),
            Key::Enter => {
                if let Some((claim, ..)) = chosen {
                    return self.ask(claim);
                }
            }
            Key::Char('r') => {
                if let Some((claim, uid, holder)) = chosen {
                    self.page = Page::Confirm { claim, uid, holder, back: Box::new(self.page.clone()) };
                }
            }
            _ => self.page = Page::Parent { parent, claim: to },
        }
        Vec::new()
    }

    fn in_text(&mut self, key: Key, height: usize, back: Page) -> Vec<Effect> {
        let Page::Text { lines, top, .. } = &mut self.page else { return Vec::new() };
        // Long lines take several of the screen, so that only the last line at the top is sure to show the end.
        let last = lines.len().saturating_sub(1);
        match key {
            Key::Char('q') => return vec![Effect::Leave],
            Key::Escape | Key::Backspace => self.page = back,
            Key::Up => *top = top.saturating_sub(1),
            Key::Down => *top = (*top + 1).min(last),
            Key::PageUp => *top = top.saturating_sub(height),
            Key::PageDown => *top = (*top + height).min(last),
            Key::Home => *top = 0,
            Key::End => *top = last,
            _ => {}
        }
        Vec::new()
    }

    fn ask(&mut self, about: Id) -> Vec<Effect> {
        let title = title(&about);
        self.page = Page::Text { title, lines: Vec::new(), top: 0, back: Box::new(self.page.clone()) };
        vec![Effect::Explain(about)]
    }
}

/// What a text about an object is called.
pub(crate) fn title(about: &Id) -> String {
    let place = if about.namespace.is_empty() { String::new() } else { format!(" -n {}", about.namespace) };
    format!("why {}/{}{place}", about.kind.name(), about.name)
}

fn claim_id(claim: &Claim) -> Id {
    Id::new(claim.kind, &claim.metadata.namespace, &claim.metadata.name)
}

fn metadata(seen: &Seen) -> Option<&Metadata> {
    match seen {
        Seen::Lock(lock) => Some(&lock.metadata),
        Seen::Barrier(barrier) => Some(&barrier.metadata),
        Seen::Gate(gate) => Some(&gate.metadata),
        Seen::Misfit(metadata, _) => Some(metadata),
        _ => None,
    }
}

/// When a claim was granted.
pub(crate) fn acquired(claim: &Claim) -> Option<Timestamp> {
    claim.status.acquired_at.as_ref().map(|at| at.0)
}

fn phase(phase: Option<RendezvousPhase>) -> (&'static str, bool) {
    match phase {
        None => ("not seen yet", true),
        Some(RendezvousPhase::Waiting) => ("waiting", false),
        Some(RendezvousPhase::Open) => ("open", false),
        Some(RendezvousPhase::Failed) => ("failed", true),
    }
}

/// So much of the whole, at most 100.
pub(crate) fn percent(used: u64, of: u64) -> u8 {
    used.saturating_mul(100).checked_div(of).unwrap_or(0).min(100) as u8
}

fn moved(key: Key, at: usize, count: usize, page: usize) -> usize {
    let last = count.saturating_sub(1);
    let to = match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at + 1,
        Key::PageUp => at.saturating_sub(page.max(1)),
        Key::PageDown => at + page.max(1),
        Key::Home => 0,
        Key::End => last,
        _ => at,
    };
    to.min(last)
}
