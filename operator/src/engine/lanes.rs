//! Jobs that wait for a place.
//!
//! A job is one request, and keeps its place until the answer to that one request, however it turns out. What has to be
//! tried again comes back as another job, later ([`Lanes::push_at`]), and lines up anew. So no place is kept while
//! something is waited for, and a party whose requests all fail has no more places than one whose requests succeed.
//!
//! Each lane has places of its own, so that telling people things never holds up a grant, and is never starved by
//! grants either. Within a lane namespaces take turns, within a namespace parents do, and neither a parent nor a
//! namespace has more than its share under way: whatever one namespace wants, another one finds a place.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::Sizes;
use crate::key::Key;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A write that somebody waits for.
    Urgent,
    /// A write for people, or to tidy up.
    Calm,
    /// A read after a write that failed, or of one object that a decision waits for.
    Read,
    /// A page of a list that a decision waits for.
    List,
}

impl Lane {
    /// All lanes; who comes first is served first where one turn cannot serve all.
    const ALL: [Self; 4] = [Self::Urgent, Self::Read, Self::List, Self::Calm];

    /// Together fewer than the streams that an API server allows on one connection, which are about 100.
    const fn bounds(self) -> Bounds {
        match self {
            // About twice what it takes to keep an API server of a few cores busy.
            Self::Urgent => Bounds { total: 56, per_namespace: 40, per_parent: 32 },
            Self::Calm => Bounds { total: 8, per_namespace: 6, per_parent: 4 },
            Self::Read => Bounds { total: 20, per_namespace: 10, per_parent: 8 },
            // Pages are large, and a parent's come one after the other anyway.
            Self::List => Bounds { total: 8, per_namespace: 4, per_parent: 1 },
        }
    }
}

/// How many jobs of a lane may be under way at once.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    total: usize,
    per_namespace: usize,
    per_parent: usize,
}

/// The jobs of one parent.
#[derive(Debug)]
struct Parent<J> {
    waiting: VecDeque<J>,
    /// Jobs whose time has not come.
    later: usize,
    under_way: usize,
    /// In its namespace's `turns`.
    in_line: bool,
}

impl<J> Default for Parent<J> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), later: 0, under_way: 0, in_line: false }
    }
}

#[derive(Debug)]
struct Namespace<J> {
    parents: BTreeMap<Key, Parent<J>>,
    /// Parents that have something to send and may.
    turns: VecDeque<Key>,
    under_way: usize,
    /// In the lane's `turns`.
    in_line: bool,
}

impl<J> Default for Namespace<J> {
    fn default() -> Self {
        Self { parents: BTreeMap::new(), turns: VecDeque::new(), under_way: 0, in_line: false }
    }
}

#[derive(Debug)]
struct Queue<J> {
    bounds: Bounds,
    namespaces: BTreeMap<String, Namespace<J>>,
    turns: VecDeque<String>,
    /// By their times, then in the order in which they came.
    later: BTreeMap<(Duration, u64), (Key, J)>,
    count: u64,
    under_way: usize,
}

impl<J> Queue<J> {
    fn new(bounds: Bounds) -> Self {
        let (namespaces, turns, later) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self { bounds, namespaces, turns, later, count: 0, under_way: 0 }
    }

    /// Puts the parent and its namespace in line, if they have something to send and are allowed to.
    fn line_up(&mut self, key: &Key) {
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else { return };
        if let Some(parent) = namespace.parents.get_mut(key)
            && !parent.in_line
            && !parent.waiting.is_empty()
            && parent.under_way < self.bounds.per_parent
        {
            parent.in_line = true;
            namespace.turns.push_back(key.clone());
        }
        if !namespace.in_line && !namespace.turns.is_empty() && namespace.under_way < self.bounds.per_namespace {
            namespace.in_line = true;
            self.turns.push_back(key.namespace.clone());
        }
    }

    fn parent(&mut self, key: &Key) -> &mut Parent<J> {
        if !self.namespaces.contains_key(&key.namespace) {
            self.namespaces.insert(key.namespace.clone(), Namespace::default());
        }
        let namespace = self.namespaces.get_mut(&key.namespace).expect("it was just put there");
        namespace.parents.entry(key.clone()).or_default()
    }

    fn push(&mut self, key: &Key, job: J) {
        self.parent(key).waiting.push_back(job);
        self.line_up(key);
    }

    fn push_at(&mut self, key: &Key, job: J, at: Duration) {
        self.parent(key).later += 1;
        self.count += 1;
        self.later.insert((at, self.count), (key.clone(), job));
    }

    fn ring(&mut self, now: Duration) {
        while self.later.first_key_value().is_some_and(|((at, _), _)| *at <= now)
            && let Some((_, (key, job))) = self.later.pop_first()
        {
            self.parent(&key).later -= 1;
            self.push(&key, job);
        }
    }

    fn pop(&mut self) -> Option<(Key, J)> {
        if self.under_way == self.bounds.total {
            return None;
        }
        let name = self.turns.pop_front()?;
        let namespace = self.namespaces.get_mut(&name)?;
        namespace.in_line = false;
        let key = namespace.turns.pop_front()?;
        let parent = namespace.parents.get_mut(&key)?;
        parent.in_line = false;
        let job = parent.waiting.pop_front()?;
        parent.under_way += 1;
        namespace.under_way += 1;
        self.under_way += 1;
        self.line_up(&key);
        Some((key, job))
    }

    fn done(&mut self, key: &Key) {
        self.under_way -= 1;
        if let Some(namespace) = self.namespaces.get_mut(&key.namespace) {
            namespace.under_way -= 1;
            if let Some(parent) = namespace.parents.get_mut(key) {
                parent.under_way -= 1;
            }
        }
        self.line_up(key);
        self.sweep(key);
    }

    /// Forgets a parent, and a namespace, without jobs.
    fn sweep(&mut self, key: &Key) {
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else { return };
        let idle = |parent: &Parent<J>| parent.waiting.is_empty() && parent.later == 0 && parent.under_way == 0;
        if namespace.parents.get(key).is_some_and(idle) {
            namespace.parents.remove(key);
        }
        if namespace.parents.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
    }

    fn clear(&mut self) -> Vec<(Key, J)> {
        self.turns.clear();
        let mut dropped: Vec<_> = std::mem::take(&mut self.later).into_values().collect();
        self.namespaces.retain(|_, namespace| {
            namespace.turns.clear();
            namespace.in_line = false;
            namespace.parents.retain(|key, parent| {
                dropped.extend(parent.waiting.drain(..).map(|job| (key.clone(), job)));
                (parent.later, parent.in_line) = (0, false);
                parent.under_way > 0
            });
            !namespace.parents.is_empty()
        });
        dropped
    }

    fn has(&self, key: &Key) -> bool {
        self.namespaces.get(&key.namespace).is_some_and(|namespace| namespace.parents.contains_key(key))
    }

    /// Jobs that wait, for a place or for their time; parents that are known, also in line; and namespaces.
    fn sizes(&self) -> [usize; 3] {
        let all = || self.namespaces.values();
        let parents = || all().flat_map(|namespace| namespace.parents.values());
        let waiting = parents().map(|parent| parent.waiting.len()).sum::<usize>() + self.later.len();
        let in_line = all().map(|namespace| namespace.turns.len()).sum::<usize>();
        [waiting, parents().count().max(in_line), self.namespaces.len().max(self.turns.len())]
    }

    /// When the next job can go: at once if one waits and there is a place for it.
    fn next(&self) -> Option<Duration> {
        if self.under_way < self.bounds.total && !self.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        self.later.first_key_value().map(|((at, _), _)| *at)
    }
}

/// All jobs that wait, and a count of those under way.
#[derive(Debug)]
pub struct Lanes<J> {
    queues: [Queue<J>; Lane::ALL.len()],
}

impl<J> Default for Lanes<J> {
    fn default() -> Self {
        Self { queues: Lane::ALL.map(|lane| Queue::new(lane.bounds())) }
    }
}

impl<J> Lanes<J> {
    fn queue(&mut self, lane: Lane) -> &mut Queue<J> {
        let place = Lane::ALL.iter().position(|one| *one == lane).expect("all lanes are there");
        &mut self.queues[place]
    }

    /// Queues a job of this parent.
    pub fn push(&mut self, lane: Lane, key: &Key, job: J) {
        self.queue(lane).push(key, job);
    }

    /// Queues a job of this parent that lines up at this time, on the monotonic clock.
    pub fn push_at(&mut self, lane: Lane, key: &Key, job: J, at: Duration) {
        self.queue(lane).push_at(key, job, at);
    }

    /// Lines up the jobs whose time has come.
    pub(super) fn ring(&mut self, now: Duration) {
        for queue in &mut self.queues {
            queue.ring(now);
        }
    }

    /// The next job to do now, if there is a place for it. [`Lanes::done`] has to follow.
    pub(super) fn pop(&mut self) -> Option<(Lane, Key, J)> {
        let mut lanes = Lane::ALL.iter().zip(&mut self.queues);
        lanes.find_map(|(lane, queue)| queue.pop().map(|(key, job)| (*lane, key, job)))
    }

    /// A job of this parent is not under way any more.
    pub(super) fn done(&mut self, lane: Lane, key: &Key) {
        self.queue(lane).done(key);
    }

    /// Takes out everything that is not under way.
    pub fn clear(&mut self) -> Vec<(Key, J)> {
        self.queues.iter_mut().flat_map(Queue::clear).collect()
    }

    /// Whether jobs of this parent wait or are under way.
    pub fn has(&self, key: &Key) -> bool {
        self.queues.iter().any(|queue| queue.has(key))
    }

    /// How much is kept of what.
    pub(super) fn sizes(&self) -> Sizes {
        let [jobs, parents, namespaces] =
            [0, 1, 2].map(|part| self.queues.iter().map(|queue| queue.sizes()[part]).sum());
        let under_way = self.queues.iter().map(|queue| queue.under_way).sum();
        vec![
            ("jobs that wait", jobs),
            ("jobs under way", under_way),
            ("parents with jobs", parents),
            ("namespaces with jobs", namespaces),
        ]
    }

    /// When the next job can go, on the monotonic clock; at once if one can now.
    pub(super) fn next(&self) -> Option<Duration> {
        self.queues.iter().filter_map(Queue::next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ParentKey;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(namespace: &str, name: &str) -> Key {
        ParentKey::new(namespace, name).into()
    }

    fn drain(lanes: &mut Lanes<&'static str>) -> Vec<String> {
        std::iter::from_fn(|| lanes.pop())
            .map(|(_, key, job)| format!("{job} {}/{}", key.namespace, key.name))
            .collect()
    }

    #[test]
    fn grants_go_before_what_is_for_people() {
        let mut lanes = Lanes::default();
        lanes.push(Lane::Calm, &key("n", "a"), "tell");
        lanes.push(Lane::Urgent, &key("n", "a"), "grant");
        assert_eq!(drain(&mut lanes), ["grant n/a", "tell n/a"]);
    }

    #[test]
    fn parents_take_turns_and_none_takes_all_places() {
        let mut lanes = Lanes::default();
        for _ in 0..100 {
            lanes.push(Lane::Urgent, &key("n", "big"), "grant");
        }
        lanes.push(Lane::Urgent, &key("n", "small"), "grant");
        let sent = drain(&mut lanes);
        assert_eq!(sent[..3], ["grant n/big", "grant n/small", "grant n/big"]);
        assert_eq!(sent.len(), Lane::Urgent.bounds().per_parent + 1);
        lanes.done(Lane::Urgent, &key("n", "big"));
        assert_eq!(drain(&mut lanes), ["grant n/big"]);
    }

    #[test]
    fn a_namespace_of_a_thousand_parents_leaves_places_and_turns_to_others() {
        for lane in Lane::ALL {
            let mut lanes = Lanes::default();
            for parent in 0..1000 {
                lanes.push(lane, &key("many", &parent.to_string()), "job");
            }
            lanes.push(lane, &key("one", "a"), "job");
            let sent = drain(&mut lanes);
            assert_eq!(sent[1], "job one/a", "{lane:?}");
            assert_eq!(sent.len(), lane.bounds().per_namespace + 1, "{lane:?}");
            // Also while all of its requests get no answer, another one's go at once.
            lanes.push(lane, &key("two", "a"), "job");
            assert_eq!(drain(&mut lanes), ["job two/a"], "{lane:?}");
        }
    }

    #[test]
    fn the_places_of_a_lane_are_all_there_are() {
        let mut lanes = Lanes::default();
        for number in 0..100 {
            for lane in Lane::ALL {
                lanes.push(lane, &key(&number.to_string(), "a"), "job");
            }
        }
        assert_eq!(drain(&mut lanes).len(), Lane::ALL.iter().map(|lane| lane.bounds().total).sum::<usize>());
    }

    #[test]
    fn what_is_for_later_takes_no_place_and_lines_up_when_its_time_comes() {
        let mut lanes = Lanes::default();
        let a = key("n", "a");
        lanes.push_at(Lane::List, &a, "again", 2 * SECOND);
        lanes.push_at(Lane::List, &a, "first", SECOND);
        assert_eq!((drain(&mut lanes), lanes.next(), lanes.has(&a)), (vec![], Some(SECOND), true));
        lanes.ring(2 * SECOND);
        assert_eq!(drain(&mut lanes), ["first n/a"]);
        lanes.done(Lane::List, &a);
        assert_eq!(drain(&mut lanes), ["again n/a"]);
        lanes.done(Lane::List, &a);
        assert_eq!((lanes.has(&a), lanes.next()), (false, None));
    }

    #[test]
    fn what_was_not_sent_can_be_taken_back() {
        let mut lanes = Lanes::default();
        let (a, share) = (key("n", "a"), Lane::Urgent.bounds().per_parent);
        for _ in 0..share + 8 {
            lanes.push(Lane::Urgent, &a, "grant");
        }
        lanes.push_at(Lane::Read, &a, "read", SECOND);
        assert_eq!(drain(&mut lanes).len(), share);
        assert_eq!(lanes.clear().len(), 9);
        for _ in 0..share {
            assert!(lanes.has(&a));
            lanes.done(Lane::Urgent, &a);
        }
        assert!(!lanes.has(&a));
        assert_eq!((drain(&mut lanes), lanes.next()), (vec![], None));
        assert!(lanes.queues.iter().all(|queue| queue.namespaces.is_empty()), "what is idle is forgotten");
    }
}
