//! Who has arrived at which barrier. No I/O, no clock.
//!
//! Of an arrival its key is kept, and what tells one from another. What is counted here says when to look; that it is
//! right is shown by a consistent read before a phase is written ([`round`](super::round)).
//!
//! Taking in one arrival costs a look at it. Counting those who came before their barrier, clearing away what a list
//! does not show any more, and looking for arrivals that nobody owns is done in pieces, by [`Arrivals::work`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use konductor_api::{
    Arrival, ArrivalSpec, Barrier, BarrierSpec, BarrierStatus,
    arbiter::{Now, Version},
    rendezvous::{
        Plan, Since,
        barrier::{View, decide},
    },
};
use konductor_cluster::{
    follow::Event,
    object::{self as cluster, Lenient, Metadata, NO_VERSION, Object},
};
use kube::Resource;

use super::orphans::Orphans;
use crate::{
    engine::Sizes,
    key::{Key, ParentKey},
    tasks::{SLICE, Tasks, Turn, room},
};

/// What is read of an arrival.
pub(crate) type ArrivalObject = Object<Arrival, ArrivalSpec>;

/// What is read of a barrier.
pub(crate) type BarrierObject = Object<Barrier, BarrierSpec, Option<BarrierStatus>>;

/// An arrival, as far as it counts.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(super) uid: Arc<str>,
    pub(super) version: Version,
    pub(super) key: Key,
    pub(super) name: Box<str>,
    /// What arrived.
    token: Arc<str>,
    pub(super) owner: Owner,
    created: i64,
}

/// Whose an arrival is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    /// The barrier with this UID.
    Barrier(Box<str>),
    /// Something else, that somebody has put there.
    Other,
}

impl Arrived {
    /// Reads an arrival. One that cannot be read has not arrived.
    pub(super) fn of(arrival: Lenient<ArrivalObject>) -> Lenient<Self> {
        let ArrivalObject { metadata, spec, .. } = arrival?;
        let Metadata { namespace, name, uid, version, created, owners, .. } = metadata;
        let of_ours = |owner: &&cluster::Owner| {
            owner.kind == Barrier::kind(&()) && owner.api_version == Barrier::api_version(&())
        };
        let owner = match owners.iter().find(of_ours) {
            Some(owner) => Owner::Barrier(owner.uid.as_str().into()),
            None if owners.is_empty() => Owner::Nobody,
            None => Owner::Other,
        };
        Ok(Self {
            uid: uid.into(),
            version,
            key: ParentKey { namespace, name: spec.barrier }.into(),
            name: name.into(),
            token: spec.key.into(),
            owner,
            created,
        })
    }

    /// Whether it counts for the barrier with this UID: not if it arrived at another one of the same name.
    pub(super) fn counts_for(&self, barrier: &str) -> bool {
        match &self.owner {
            Owner::Barrier(uid) => **uid == *barrier,
            Owner::Nobody | Owner::Other => true,
        }
    }
}

/// Those who have arrived at a barrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crowd {
    /// Arrivals of each key.
    keys: HashMap<Arc<str>, u32>,
    /// Arrivals of each second, and since when one of them has been seen, if that is known.
    times: BTreeMap<i64, (u32, Option<Since>)>,
}

impl Crowd {
    pub(super) fn add(&mut self, arrived: &Arrived, since: Option<Since>) {
        *self.keys.entry(arrived.token.clone()).or_default() += 1;
        self.times.entry(arrived.created).or_insert((0, since)).0 += 1;
    }

    fn remove(&mut self, arrived: &Arrived) {
        if let Some(count) = self.keys.get_mut(&arrived.token) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&arrived.token);
            }
        }
        if let Some((count, _)) = self.times.get_mut(&arrived.created) {
            *count -= 1;
            if *count == 0 {
                self.times.remove(&arrived.created);
            }
        }
    }

    /// The second of the first arrival, and since when it has been seen.
    fn first(&self) -> Option<(i64, Option<Since>)> {
        self.times.first_key_value().map(|(second, (_, since))| (*second, *since))
    }
}

/// What is known of an arrival beside what it says.
#[derive(Debug)]
struct Entry {
    arrived: Arrived,
    /// Since when it has been seen.
    since: Since,
    /// The list that it was in last.
    epoch: u32,
}

/// A barrier that exists.
#[derive(Debug)]
struct Known {
    uid: Box<str>,
    /// When its round ended, by its status and by our own clock.
    end: Option<(MicroTime, Since)>,
}

/// Those who have arrived are counted up to this UID, or all.
#[derive(Debug, PartialEq, Eq)]
enum Counted {
    To(Option<Arc<str>>),
    All,
}

/// Who has arrived at a barrier of a name, whether it exists or not.
#[derive(Debug)]
struct Attendance {
    known: Option<Known>,
    entries: BTreeMap<Arc<str>, Entry>,
    crowd: Crowd,
    counted: Counted,
}

impl Attendance {
    fn new() -> Self {
        Self { known: None, entries: BTreeMap::new(), crowd: Crowd::default(), counted: Counted::All }
    }

    /// Whether this arrival is in the crowd if it is there at all.
    fn counts(&self, arrived: &Arrived) -> bool {
        let is_counted = match &self.counted {
            Counted::To(last) => last.as_ref().is_some_and(|last| arrived.uid <= *last),
            Counted::All => true,
        };
        is_counted && self.known.as_ref().is_some_and(|known| arrived.counts_for(&known.uid))
    }
}

/// A position among all arrivals: after that with this UID, or before all of this barrier.
pub(super) type At = (Key, Option<Arc<str>>);

/// What is done in pieces.
enum Task {
    /// Counting those who came before their barrier.
    Count(Key),
    /// All arrivals have been seen for the first time: asking for decisions on all barriers; those up to this one are
    /// done.
    Begin(Option<Key>),
    /// Taking away what was last seen before this list.
    Sweep(u32, Option<At>),
    /// Having all namespaces looked through for arrivals that nobody owns, after those up to this one.
    Seek(Option<Key>),
    /// Looking for arrivals that nobody owns, in one namespace.
    Scan(At),
}

/// How far the first list that ends is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum First {
    /// None has ended.
    #[default]
    Coming,
    /// It has ended; what is kept may have been shown by others that broke off.
    Listed,
    /// That was taken away: what is kept is what there is.
    Swept,
}

/// What the barriers of the cluster need to be decided on.
#[derive(Default)]
pub(crate) struct Arrivals {
    attendances: BTreeMap<Key, Attendance>,
    /// Where each arrival is.
    keys: HashMap<Arc<str>, Key>,
    epoch: u32,
    first: First,
    barriers_listed: bool,
    tasks: Tasks<Task>,
    orphans: Orphans,
    /// A namespace is being looked through for arrivals that nobody owns.
    scanning: bool,
    marked: BTreeSet<Key>,
    /// Since when this process leads and is answered, if it ever has led.
    answered_since: Option<Duration>,
}

impl Arrivals {
    /// The barriers to be decided on since this was asked last.
    pub(crate) fn take_marked(&mut self) -> BTreeSet<Key> {
        mem::take(&mut self.marked)
    }

    /// How much is kept of what.
    pub(crate) fn sizes(&self) -> Sizes {
        let all = || self.attendances.values();
        let mut sizes = vec![
            ("names of barriers", self.attendances.len()),
            ("arrivals", all().map(|attendance| attendance.entries.len()).sum::<usize>().max(self.keys.len())),
            ("keys that have arrived", all().map(|attendance| attendance.crowd.keys.len()).sum()),
            ("seconds of arrivals", all().map(|attendance| attendance.crowd.times.len()).sum()),
            ("tasks", self.tasks.len()),
            ("marked barriers", self.marked.len()),
        ];
        sizes.extend(self.orphans.sizes());
        sizes
    }

    /// This process leads, or does not any more.
    pub(crate) fn lead(&mut self, leading: bool, now: Now) {
        self.orphans.lead(leading);
        if leading {
            self.answered_again(now);
            self.tasks.push("", Task::Seek(None));
        }
    }

    /// This process is answered again.
    pub(crate) fn answered_again(&mut self, now: Now) {
        self.answered_since = Some(now.monotonic);
    }

    /// All barriers have been seen.
    pub(crate) fn barriers_listed(&mut self) {
        self.barriers_listed = true;
    }

    /// A barrier is there, new or changed, or is gone.
    pub(crate) fn barrier(&mut self, key: &Key, barrier: Option<&BarrierObject>, now: Now) {
        let Some(barrier) = barrier else {
            if let Some(attendance) = self.attendances.get_mut(key) {
                (attendance.known, attendance.crowd, attendance.counted) = (None, Crowd::default(), Counted::All);
                if attendance.entries.is_empty() {
                    self.attendances.remove(key);
                }
            }
            return;
        };
        let uid = barrier.metadata.uid.as_str();
        let attendance = self.attendances.entry(key.clone()).or_insert_with(Attendance::new);
        if attendance.known.as_ref().is_none_or(|known| *known.uid != *uid) {
            attendance.known = Some(Known { uid: uid.into(), end: None });
            attendance.crowd = Crowd::default();
            attendance.counted = Counted::To(None);
            if attendance.entries.is_empty() {
                attendance.counted = Counted::All;
            } else {
                self.tasks.push(&key.namespace, Task::Count(key.clone()));
            }
        }
        let status = barrier.status.as_ref();
        let end = status.and_then(|status| status.opened_at.clone().or_else(|| status.failed_at.clone()));
        if let Some(known) = &mut attendance.known
            && known.end.as_ref().map(|(time, _)| time) != end.as_ref()
        {
            let seen = |time: MicroTime| {
                let since = if self.barriers_listed { Since::begun(now) } else { Since::found(time.0, now) };
                (time, since)
            };
            known.end = end.map(seen);
        }
    }

    /// Takes in what was seen of arrivals.
    pub(crate) fn take(&mut self, seen: Event<Lenient<Arrived>>, now: Now) {
        match seen {
            Event::Init => self.epoch += 1,
            Event::InitDone { version } => {
                self.first = self.first.max(First::Listed);
                // By a list in which something could not be read, nothing is gone.
                if version == NO_VERSION {
                    self.swept();
                } else {
                    self.tasks.push("", Task::Sweep(self.epoch, None));
                }
            }
            Event::Apply(Ok(arrived)) => self.arrive(arrived, now),
            Event::Apply(Err(misfit)) => self.leave(&misfit.metadata.uid),
            Event::Delete(gone) => self.leave(&gone.uid),
        }
    }

    /// What was last seen before the list that has ended is taken away, also what others have shown that broke off.
    fn swept(&mut self) {
        if mem::replace(&mut self.first, First::Swept) != First::Swept {
            self.tasks.push("", Task::Begin(None));
        }
    }

    fn arrive(&mut self, mut arrived: Arrived, now: Now) {
        let found = || Timestamp::from_second(arrived.created).map_or(Since::begun(now), |at| Since::found(at, now));
        let since = if self.first == First::Coming { found() } else { Since::begun(now) };
        let known = self.keys.get(&arrived.uid).and_then(|key| self.attendances.get(key));
        let since =
            known.and_then(|attendance| attendance.entries.get(&arrived.uid)).map_or(since, |entry| entry.since);
        self.leave(&arrived.uid.clone());
        // One copy of the name for all.
        let attendance = self.attendances.get_key_value(&arrived.key).map(|(key, _)| key.clone());
        arrived.key = attendance.unwrap_or(arrived.key);
        let attendance = self.attendances.entry(arrived.key.clone()).or_insert_with(Attendance::new);
        if attendance.counts(&arrived) {
            attendance.crowd.add(&arrived, Some(since));
            self.marked.insert(arrived.key.clone());
        }
        if arrived.owner == Owner::Nobody && attendance.known.is_some() {
            offer(&mut self.orphans, &arrived.uid, &arrived.key);
        }
        self.keys.insert(arrived.uid.clone(), arrived.key.clone());
        attendance.entries.insert(arrived.uid.clone(), Entry { arrived, since, epoch: self.epoch });
    }

    fn leave(&mut self, uid: &str) {
        let Some(key) = self.keys.remove(uid) else { return };
        let Some(attendance) = self.attendances.get_mut(&key) else { return };
        let Some(Entry { arrived, .. }) = attendance.entries.remove(uid) else { return };
        if attendance.counts(&arrived) {
            attendance.crowd.remove(&arrived);
        }
        // One that does not count may have kept the next round from beginning.
        if attendance.known.is_some() {
            self.marked.insert(key.clone());
        }
        if attendance.entries.is_empty() && attendance.known.is_none() {
            self.attendances.remove(&key);
        }
    }

    /// What to do about a barrier; `None` while too little is known.
    pub(crate) fn decide(&self, key: &Key, barrier: &BarrierObject, now: Now) -> Option<Plan<BarrierStatus>> {
        let attendance = self
            .attendances
            .get(key)
            .filter(|attendance| self.first == First::Swept && attendance.counted == Counted::All)?;
        let uid = &attendance.known.as_ref()?.uid;
        if *barrier.metadata.uid != **uid {
            return None;
        }
        Some(decide(&view(&attendance.crowd, barrier, &self.seen(key)), now))
    }

    /// What this process has seen of a barrier, for a decision on a crowd that was read.
    pub(crate) fn seen(&self, key: &Key) -> Sightings {
        let attendance = self.attendances.get(key);
        let first = attendance.and_then(|attendance| attendance.crowd.first());
        let end = attendance.and_then(|attendance| attendance.known.as_ref()?.end.as_ref()).map(|(_, since)| *since);
        let answered = |since: Since| self.answered_since.map_or(since, |at| since.answered(at));
        let first = first.and_then(|(second, since)| Some((second, answered(since?))));
        Sightings { first, end: end.map(answered) }
    }

    /// An arrival to be adopted, if there is one and room to do it.
    pub(crate) fn next_adoption(&mut self, now: Now) -> Option<Adoption> {
        while let Some(uid) = self.orphans.next(now.monotonic) {
            let attendance = self.keys.get(&uid).and_then(|key| Some((key, self.attendances.get(key)?)));
            let adoption = attendance.and_then(|(key, attendance)| {
                let arrived = &attendance.entries.get(&uid)?.arrived;
                let barrier_uid = attendance.known.as_ref()?.uid.to_string();
                let (name, version) = (arrived.name.to_string(), arrived.version);
                let (barrier, uid) = (key.clone(), uid.clone());
                (arrived.owner == Owner::Nobody).then_some(Adoption { barrier, barrier_uid, name, uid, version })
            });
            if adoption.is_some() {
                return adoption;
            }
            self.orphans.settled(&uid);
        }
        None
    }

    /// What became of an adoption. One that failed is tried again a little later.
    pub(crate) fn adopted(&mut self, uid: &Arc<str>, done: bool, now: Now) {
        if done {
            self.orphans.settled(uid);
        } else {
            self.orphans.failed(uid, now.monotonic);
        }
    }

    /// Does what was put off, up to so many looks at arrivals or barriers.
    pub(crate) fn work(&mut self, budget: usize) -> Turn {
        let budget = budget as isize;
        let mut left = budget;
        self.begin_scan();
        while left > 0
            && let Some((namespace, task)) = self.tasks.pop()
        {
            let slice = left.min(SLICE);
            let mut rest = slice;
            if let Some(task) = self.carry_on(task, &mut rest) {
                self.tasks.push(&namespace, task);
            }
            // What costs nothing costs one, so that there is an end.
            left -= (slice - rest).max(1);
            self.begin_scan();
        }
        Turn { looks: (budget - left) as usize, more: !self.tasks.is_empty() }
    }

    fn begin_scan(&mut self) {
        if !self.scanning
            && let Some(from) = self.orphans.wants_scan()
        {
            self.scanning = true;
            let namespace = from.0.namespace.clone();
            self.tasks.push(&namespace, Task::Scan(from));
        }
    }

    /// Returns what is left of the task.
    fn carry_on(&mut self, task: Task, budget: &mut isize) -> Option<Task> {
        match task {
            Task::Count(key) => {
                let attendance = self.attendances.get_mut(&key)?;
                let Counted::To(last) = &mut attendance.counted else { return None };
                let uid = &attendance.known.as_ref()?.uid;
                let from = last.as_ref().map_or(Unbounded, Excluded);
                let mut at = None;
                for (entry_uid, Entry { arrived, since, .. }) in
                    attendance.entries.range::<Arc<str>, _>((from, Unbounded)).take(room(*budget))
                {
                    *budget -= 1;
                    if arrived.counts_for(uid) {
                        attendance.crowd.add(arrived, Some(*since));
                    }
                    if arrived.owner == Owner::Nobody {
                        offer(&mut self.orphans, entry_uid, &key);
                    }
                    at = Some(entry_uid.clone());
                }
                *last = at.or(last.take());
                if *budget <= 0 {
                    return Some(Task::Count(key));
                }
                attendance.counted = Counted::All;
                self.marked.insert(key);
                None
            }
            Task::Begin(last) => {
                let from = last.as_ref().map_or(Unbounded, Excluded);
                let mut at = None;
                for key in self.attendances.range::<Key, _>((from, Unbounded)).map(|(key, _)| key).take(room(*budget)) {
                    *budget -= 1;
                    self.marked.insert(key.clone());
                    at = Some(key.clone());
                }
                (*budget <= 0).then(|| Task::Begin(at.or(last)))
            }
            Task::Sweep(epoch, at) => {
                let mut old = Vec::new();
                let from = at.as_ref().map_or(Unbounded, |(key, _)| Included(key.clone()));
                let attendances = self.attendances.range::<Key, _>((from, Unbounded));
                let at = walk(attendances, at.as_ref(), budget, |_, uid, entry| {
                    if entry.epoch < epoch {
                        old.push(uid.clone());
                    }
                    true
                });
                for uid in old {
                    self.leave(&uid);
                }
                if at.is_none() {
                    self.swept();
                }
                at.map(|at| Task::Sweep(epoch, Some(at)))
            }
            Task::Seek(last) => self.seek(last, budget),
            Task::Scan(at) => {
                let at = self.scan(&at, budget);
                self.scanning = at.is_some();
                at.map(Task::Scan)
            }
        }
    }

    fn seek(&mut self, mut last: Option<Key>, budget: &mut isize) -> Option<Task> {
        while *budget > 0 {
            *budget -= 1;
            // After all of this namespace and before all of the next one.
            let end = |last: &Key| Key::from(ParentKey::new(format!("{}\0", last.namespace), ""));
            let from = last.as_ref().map_or(Unbounded, |last| Included(end(last)));
            let (key, _) = self.attendances.range::<Key, _>((from, Unbounded)).next()?;
            self.orphans.miss((key.clone(), None));
            last = Some(key.clone());
        }
        Some(Task::Seek(last))
    }

    /// Goes on looking for arrivals that nobody owns, in the namespace of this position. Returns where it stopped, if it
    /// is to go on from there at once.
    fn scan(&mut self, at: &At, budget: &mut isize) -> Option<At> {
        let Self { attendances, orphans, .. } = self;
        let (first, _) = at;
        let attendances = attendances.range::<Key, _>(first..).take_while(|(key, _)| key.namespace == first.namespace);
        let mut has_room = true;
        let stopped = walk(attendances, Some(at), budget, |attendance, uid, entry| {
            let is_orphan = entry.arrived.owner == Owner::Nobody && attendance.known.is_some();
            has_room = !is_orphan || orphans.offer(uid, &entry.arrived.key);
            has_room
        });
        if has_room {
            return stopped;
        }
        if let Some(at) = stopped {
            orphans.miss(at);
        }
        None
    }
}

/// Goes on through all these arrivals, after those up to `at`, until `budget` is used up or `pass` says that
/// it goes no further. Returns where it stopped, before what was not passed; `None` at the end.
fn walk<'a>(
    attendances: impl Iterator<Item = (&'a Key, &'a Attendance)>,
    at: Option<&At>,
    budget: &mut isize,
    mut pass: impl FnMut(&Attendance, &Arc<str>, &Entry) -> bool,
) -> Option<At> {
    for (key, attendance) in attendances {
        let mut last = at.filter(|(at, _)| at == key).and_then(|(_, uid)| uid.clone());
        *budget -= 1;
        loop {
            if *budget <= 0 {
                return Some((key.clone(), last));
            }
            let from = last.as_ref().map_or(Unbounded, Excluded);
            let Some((uid, entry)) = attendance.entries.range::<Arc<str>, _>((from, Unbounded)).next() else { break };
            *budget -= 1;
            if !pass(attendance, uid, entry) {
                return Some((key.clone(), last));
            }
            last = Some(uid.clone());
        }
    }
    None
}

/// Notes an arrival that nobody owns, whose barrier exists.
fn offer(orphans: &mut Orphans, uid: &Arc<str>, barrier: &Key) {
    if !orphans.offer(uid, barrier) {
        orphans.miss((barrier.clone(), None));
    }
}

/// What a process has seen of a barrier by its own clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sightings {
    /// The second of the first arrival, and since when it has been there.
    first: Option<(i64, Since)>,
    /// Since when the round has ended.
    end: Option<Since>,
}

/// The barrier with this crowd before it. A first arrival that was not seen yet has come now.
pub(super) fn view<'a>(crowd: &Crowd, barrier: &'a BarrierObject, seen: &Sightings) -> View<'a> {
    let first = crowd.first().map(|(second, _)| second);
    View {
        spec: &barrier.spec,
        generation: barrier.metadata.generation,
        created: Timestamp::from_second(barrier.metadata.created).unwrap_or(Timestamp::UNIX_EPOCH),
        status: barrier.status.as_ref(),
        arrived: crowd.keys.len() as u64,
        first: first.and_then(|second| Timestamp::from_second(second).ok()),
        first_seen: seen.first.filter(|(second, _)| Some(*second) == first).map(|(_, since)| since),
        end_seen: seen.end,
    }
}

/// An arrival that is to be owned by its barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adoption {
    pub(super) barrier: Key,
    pub(super) barrier_uid: String,
    pub(super) name: String,
    pub(super) uid: Arc<str>,
    pub(super) version: Version,
}
