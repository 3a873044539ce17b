//! Which parents to decide on, and when. No I/O, no clock.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use crate::arbiter::Key;

/// Parents that something was heard of, and those that only time changes.
#[derive(Default)]
pub(crate) struct Agenda {
    dirty: HashSet<Key>,
    all: bool,
    alarms: BTreeSet<(Duration, Key)>,
    times: HashMap<Key, Duration>,
}

impl Agenda {
    /// Asks for a decision on this parent, if it exists.
    pub(crate) fn mark(&mut self, key: &Key) {
        if !self.dirty.contains(key) {
            self.dirty.insert(key.clone());
        }
    }

    /// Asks for a decision on all parents.
    pub(crate) fn mark_all(&mut self) {
        self.all = true;
    }

    /// Asks for a decision at this time; replaces the time asked for before.
    pub(super) fn set_alarm(&mut self, key: &Key, at: Option<Duration>) {
        if let Some(before) = self.times.remove(key) {
            self.alarms.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.times.insert(key.clone(), at);
            self.alarms.insert((at, key.clone()));
        }
    }

    /// The parents to decide on now, some of which may not exist. `all` are all there are.
    pub(super) fn take<'a>(&mut self, now: Duration, all: impl Iterator<Item = &'a Key>) -> HashSet<Key> {
        while let Some((at, _)) = self.alarms.first()
            && *at <= now
            && let Some((_, key)) = self.alarms.pop_first()
        {
            self.times.remove(&key);
            self.dirty.insert(key);
        }
        if std::mem::take(&mut self.all) {
            self.dirty.extend(all.cloned());
        }
        std::mem::take(&mut self.dirty)
    }

    /// When the next decision is due; at once if one waits.
    pub(super) fn next(&self) -> Option<Duration> {
        if self.all || !self.dirty.is_empty() { Some(Duration::ZERO) } else { self.alarms.first().map(|(at, _)| *at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbiter::ParentKey;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> Key {
        ParentKey { namespace: "n".into(), name: name.into() }.into()
    }

    fn take(agenda: &mut Agenda, now: Duration) -> Vec<String> {
        let all = [key("a"), key("b"), key("c")];
        let mut names: Vec<_> = agenda.take(now, all.iter()).iter().map(|key| key.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_marked_is_decided_on_once() {
        let mut agenda = Agenda::default();
        agenda.mark(&key("a"));
        agenda.mark(&key("a"));
        assert_eq!(agenda.next(), Some(Duration::ZERO));
        assert_eq!(take(&mut agenda, SECOND), ["a"]);
        assert_eq!((take(&mut agenda, SECOND), agenda.next()), (vec![], None));
        agenda.mark_all();
        assert_eq!(take(&mut agenda, SECOND), ["a", "b", "c"]);
    }

    #[test]
    fn an_alarm_rings_once_at_the_last_time_it_was_set_to() {
        let mut agenda = Agenda::default();
        agenda.set_alarm(&key("a"), Some(SECOND));
        agenda.set_alarm(&key("a"), Some(3 * SECOND));
        agenda.set_alarm(&key("b"), Some(SECOND));
        agenda.set_alarm(&key("b"), None);
        assert_eq!((take(&mut agenda, 2 * SECOND), agenda.next()), (vec![], Some(3 * SECOND)));
        assert_eq!((take(&mut agenda, 3 * SECOND), agenda.next()), (vec!["a".to_owned()], None));
    }
}
