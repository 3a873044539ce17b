//! Of which namespaces objects are kept: of those that some gate looks at, and may. No I/O, no clock.
//!
//! A kind is watched in all namespaces at once, as watches are counted, but what nobody asks for is not kept. So when
//! the first gate looks at a namespace, it is listed by itself, beside the watch. The two are not in step. What is
//! newer stays, whichever shows it; what the watch shows to be deleted meanwhile is remembered, as a page may still
//! show it; and a list of all is a fresh start. When no gate looks there any more, what is kept stays for a while:
//! whoever makes and deletes gates all the time has a namespace listed no more often than that.

use std::{collections::HashMap, mem, time::Duration};

use konductor_api::rendezvous::fact::Dependency;
use konductor_cluster::object::NO_VERSION;
use tracing::warn;

use super::{
    cache::{Cause, DependencyCache, Stock, Task},
    partition::Partition,
    sources::Wish,
};
use crate::key::{Key, ParentKey};

/// How long what nobody looks at any more is kept.
const LINGER: Duration = Duration::from_mins(1);

/// How long what was too much is left alone before it is listed again.
const FULL_AGAIN: Duration = Duration::from_mins(10);

/// Deletions that are remembered while a namespace is listed; if there are more, the list begins anew.
const GONE: usize = 4096;

/// A namespace of which objects of a kind are kept.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) standing: Standing,
    /// It will be seen about whether it is still looked at.
    leaving: bool,
}

/// How far its objects are known.
#[derive(Debug)]
pub(super) enum Standing {
    /// They come with the list of all that is under way, or is the next.
    Coming,
    /// The list of all that is under way has gone past some of them: they are listed by themselves after it.
    Later,
    /// They are being listed.
    Listing(Listing),
    /// Since a list that showed all that there was at this version. A watch may be behind it, and still tell how something
    /// was that has been deleted by then.
    Known(u64),
    /// They are more than is kept.
    Full,
}

/// A list of a namespace that is under way.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The number of its wish.
    number: u32,
    /// What was deleted meanwhile, and at which version.
    gone: HashMap<Box<str>, u64>,
    /// What only the watch has told of meanwhile, and its version.
    told: HashMap<Box<str>, u64>,
}

impl Place {
    /// Whether an object that was seen here at this version is kept; `is_known`: something of it is already.
    pub(super) fn keeps(&self, name: &str, version: u64, is_known: bool) -> bool {
        match &self.standing {
            Standing::Coming => true,
            Standing::Known(listed) => is_known || *listed == NO_VERSION || version > *listed,
            Standing::Listing(Listing { gone, .. }) => gone.get(name).is_none_or(|end| *end < version),
            Standing::Later | Standing::Full => false,
        }
    }

    /// A list of it shows this, or the watch tells of it.
    pub(super) fn hear(&mut self, name: &str, version: u64, from_list: bool) {
        if let Standing::Listing(Listing { told, .. }) = &mut self.standing {
            if from_list {
                told.remove(name);
            } else {
                told.insert(name.into(), version);
            }
        }
    }
}

impl DependencyCache {
    /// What is to be listed since this was asked last.
    pub(super) fn take_wishes(&mut self) -> Vec<Wish> {
        mem::take(&mut self.wishes)
    }

    /// It is this time.
    pub(super) fn tick(&mut self, now: Duration) {
        self.now = now;
        while let Some((_, kind, place)) = self.leaving.pop_front_if(|(at, ..)| *at <= now) {
            self.tasks.push(&place, Task::Leave(kind));
        }
        while let Some((_, kind, place)) = self.full.pop_front_if(|(at, ..)| *at <= now) {
            if matches!(self.standing(kind, &place), Some(Standing::Full)) {
                self.list(kind, &place);
            }
        }
    }

    fn standing(&mut self, kind: Dependency, place: &str) -> Option<&mut Standing> {
        self.stocks[kind as usize].places.get_mut(place).map(|place| &mut place.standing)
    }

    /// A gate looks at this namespace, and may.
    pub(super) fn want(&mut self, kind: Dependency, place: &str) {
        let stock = &mut self.stocks[kind as usize];
        if kind == Dependency::Gate || stock.places.contains_key(place) {
            return;
        }
        let standing = if stock.listing { Standing::Later } else { Standing::Coming };
        stock.places.insert(place.to_owned(), Place { standing, leaving: false });
        if stock.listed && !stock.listing {
            self.list(kind, place);
        }
    }

    /// Has a namespace listed by itself.
    fn list(&mut self, kind: Dependency, place: &str) {
        self.wish += 1;
        let number = self.wish;
        let Some(standing) = self.standing(kind, place) else { return };
        *standing = Standing::Listing(Listing { number, ..Listing::default() });
        self.wishes.push(Wish { kind, place: place.to_owned(), number });
    }

    /// Whether this list is wanted still.
    pub(super) fn is_listing(&self, wish: &Wish) -> bool {
        let place = self.stocks[wish.kind as usize].places.get(&wish.place);
        place
            .is_some_and(|place| matches!(&place.standing, Standing::Listing(listing) if listing.number == wish.number))
    }

    /// All of a namespace has been seen that there was at this version. Returns how many looks that took.
    pub(super) fn known(&mut self, kind: Dependency, place: &str, version: u64) -> usize {
        let Some(standing) = self.standing(kind, place) else { return 1 };
        let before = mem::replace(standing, Standing::Known(version));
        let mut looks = 1;
        if let Standing::Listing(Listing { told, .. }) = before
            && version != NO_VERSION
        {
            // A watch that is behind the list has told how they were before they were deleted.
            let mut over: Vec<_> =
                told.into_iter().filter(|(_, seen)| *seen <= version).map(|(name, _)| name).collect();
            over.sort_unstable();
            for name in over {
                let key = ParentKey { namespace: place.to_owned(), name: name.into() }.into();
                looks += self.gone(kind, &key, Some(version));
            }
        }
        self.tell(Cause::Place(kind, place.to_owned()));
        looks
    }

    /// A list of all begins: it shows what others were to show.
    pub(super) fn listing(&mut self, kind: Dependency) {
        let stock = &mut self.stocks[kind as usize];
        (stock.epoch, stock.listing) = (stock.epoch + 1, true);
        let mut begun = Vec::new();
        for (name, Place { standing, .. }) in &mut stock.places {
            // Before the first list that ends, some have been shown only by others that broke off.
            let is_known = matches!(standing, Standing::Coming | Standing::Known(_));
            if is_known && !stock.listed || matches!(standing, Standing::Later | Standing::Listing(_)) {
                *standing = Standing::Coming;
                begun.push(name.clone());
            }
        }
        // What those have shown may have been deleted unseen.
        for place in begun {
            self.empty(kind, &place);
        }
    }

    /// A list of all has ended.
    pub(super) fn listed(&mut self, kind: Dependency) {
        let stock = &mut self.stocks[kind as usize];
        stock.listing = false;
        let (mut known, mut later) = (Vec::new(), Vec::new());
        for (name, Place { standing, .. }) in &stock.places {
            match standing {
                Standing::Coming => known.push(name.clone()),
                Standing::Later => later.push(name.clone()),
                Standing::Listing(_) | Standing::Known(_) | Standing::Full => {}
            }
        }
        for place in known {
            // The watch goes on from where that list has ended.
            self.known(kind, &place, NO_VERSION);
        }
        for place in later {
            self.list(kind, &place);
        }
    }

    /// An object was seen deleted: a page of a list that is under way may still show it.
    pub(super) fn note_gone(&mut self, kind: Dependency, key: &Key, version: u64) {
        let Some(Standing::Listing(Listing { gone, told, .. })) = self.standing(kind, &key.namespace) else { return };
        told.remove(key.name.as_str());
        gone.insert(key.name.as_str().into(), version);
        if gone.len() > GONE {
            // A list that begins now shows none of them.
            self.list(kind, &key.namespace);
        }
    }

    /// There is more in a namespace than is kept: then nothing of it is, as a part would say something wrong.
    pub(super) fn overflow(&mut self, kind: Dependency, place: &str) {
        let Some(standing) = self.standing(kind, place) else { return };
        *standing = Standing::Full;
        warn!(%kind, namespace = place, "too many to look at, so gates that do are not met");
        self.full.push_back((self.now + FULL_AGAIN, kind, place.to_owned()));
        self.empty(kind, place);
        self.tell(Cause::Place(kind, place.to_owned()));
    }

    /// Keeps no objects of this kind in this namespace.
    fn empty(&mut self, kind: Dependency, place: &str) {
        let Some(part) = self.stocks[kind as usize].parts.get_mut(place) else { return };
        let (objects, questions) = part.clear();
        let parts = [(String::new(), Partition::of(objects))].into();
        self.tasks.push("", Task::Free(Stock { parts, ..Stock::default() }));
        for question in questions {
            self.tasks.push(place, Task::Answer(question));
        }
        self.drop_if_empty(kind, place);
    }

    /// A gate looks here no more, or may not: sees in a while whether any does.
    pub(super) fn leave(&mut self, kind: Dependency, place: &str) {
        let first = self.needs.looking_at(kind, place).and_then(|gates| gates.first());
        if first.is_some_and(|gate| self.hospitable.allows(&gate.namespace, place)) {
            return;
        }
        let due = self.now + LINGER;
        let place = self.stocks[kind as usize].places.get_key_value(place).map(|(name, _)| name.clone());
        let Some(name) = place else { return };
        if let Some(place) = self.stocks[kind as usize].places.get_mut(&name)
            && !mem::replace(&mut place.leaving, true)
        {
            self.leaving.push_back((due, kind, name));
        }
    }

    /// Keeps no more of this kind here, unless some gate looks here, and may.
    pub(super) fn leave_now(&mut self, kind: Dependency, place: &str, budget: &mut isize) {
        let is_looked_at = self.is_looked_at(kind, place, budget);
        let places = &mut self.stocks[kind as usize].places;
        if is_looked_at {
            if let Some(place) = places.get_mut(place) {
                place.leaving = false;
            }
        } else if places.remove(place).is_some() {
            self.empty(kind, place);
        }
    }

    /// Objects of this kind that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self, kind: Dependency) -> usize {
        self.stocks[kind as usize].parts.values().map(|part| part.objects().len()).sum()
    }

    fn is_looked_at(&self, kind: Dependency, place: &str, budget: &mut isize) -> bool {
        let Some(gates) = self.needs.looking_at(kind, place) else { return false };
        let mut next = gates.first();
        while let Some(gate) = next {
            *budget -= 1;
            if self.hospitable.allows(&gate.namespace, place) {
                return true;
            }
            // The first of the next namespace.
            let after = Key::from(ParentKey::new(format!("{}\0", gate.namespace), ""));
            next = gates.range(after..).next();
        }
        *budget -= 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use konductor_api::{
        arbiter::Now,
        limits::MAX_LOOKED_AT,
        rendezvous::fact::{Fact, JobState},
    };
    use konductor_cluster::{
        follow::{Deleted, Event},
        object::Metadata,
    };
    use serde_json::json;

    use super::*;
    use crate::gate::sources::{Content, GateObject, Listed, Outline, Shown, Sighted, Subject, Watched};

    const JOBS: Subject = Subject::Objects(Dependency::Job);

    /// A cache in which all gates, and which namespaces let others look, are known.
    struct Scene(DependencyCache);

    impl Scene {
        fn new() -> Self {
            let mut scene = Self(DependencyCache::default());
            scene.0.gates_listed();
            scene.see(Subject::Namespaces, Event::InitDone { version: 1 });
            scene
        }

        /// And all Jobs.
        fn listed() -> Self {
            let mut scene = Self::new();
            scene.see(JOBS, Event::Init);
            scene.see(JOBS, Event::InitDone { version: 1 });
            scene
        }

        fn see(&mut self, subject: Subject, event: Event<Sighted>) {
            self.0.take(Watched { subject, number: 0, event });
        }

        fn job(namespace: &str, name: &str, version: u64, labels: usize) -> Sighted {
            let labels = (0..labels).map(|number| (format!("l{number:03}"), "v".repeat(63)));
            let metadata = Metadata { labels: labels.collect::<BTreeMap<_, _>>(), ..Metadata::default() };
            let content = Content::Object(Outline::new(&metadata, Fact::Job(JobState::Complete)));
            Sighted { namespace: namespace.into(), name: name.into(), version, content }
        }

        fn watch_shows(&mut self, namespace: &str, name: &str, version: u64) {
            self.see(JOBS, Event::Apply(Self::job(namespace, name, version, 0)));
        }

        fn deleted(&mut self, name: &str, version: u64) {
            let gone = Deleted { namespace: "n".into(), name: name.into(), uid: String::new(), version };
            self.see(JOBS, Event::Delete(gone));
        }

        fn list_shows(&mut self, wish: &Wish, sighted: Option<Sighted>) {
            self.list_tells(wish, sighted.map_or(Shown::All(NO_VERSION), Shown::One));
        }

        fn list_tells(&mut self, wish: &Wish, shown: Shown) {
            self.0.take_listed(Listed { wish: wish.clone(), shown });
        }

        fn gate(&mut self, namespace: &str, place: &str) -> GateObject {
            let condition = json!({ "type": "Job", "name": "a", "namespace": place, "state": "Complete" });
            let gate = json!({
                "metadata": { "namespace": namespace, "name": "g", "generation": 1 },
                "spec": { "conditions": [condition] },
            });
            let gate = GateObject::read(&gate.to_string()).expect("an object").expect("a gate");
            let now = self.now();
            self.0.gate(&key(namespace), Some(&gate), now);
            gate
        }

        fn delete_gate(&mut self, namespace: &str) {
            let now = self.now();
            self.0.gate(&key(namespace), None, now);
        }

        fn now(&self) -> Now {
            let wall = Timestamp::from_second(1_800_000_000).expect("a time");
            Now { monotonic: self.0.now, wall }
        }

        fn wish(&mut self) -> Option<Wish> {
            let mut wishes = self.0.take_wishes();
            assert!(wishes.len() <= 1, "{wishes:?}");
            wishes.pop()
        }

        /// What the gate says of its condition, once everything is done; nothing while that is not known.
        fn message(&mut self, namespace: &str, gate: &GateObject) -> Option<String> {
            while self.0.work(1000).more {}
            let plan = self.0.decide(&key(namespace), gate, self.now())?;
            Some(plan.write?.status.condition_statuses[0].message.clone())
        }

        fn at(&mut self, seconds: u64) {
            self.0.tick(Duration::from_secs(seconds));
            while self.0.work(1000).more {}
        }
    }

    fn key(namespace: &str) -> Key {
        ParentKey::new(namespace, "g").into()
    }

    fn allow(namespace: &str, annotation: Option<&str>) -> Sighted {
        let content = Content::Namespace(annotation.map(str::to_owned));
        Sighted { namespace: String::new(), name: namespace.into(), version: 0, content }
    }

    #[test]
    fn what_a_list_has_shown_to_be_gone_does_not_come_back_by_a_watch_that_is_behind_it() {
        let missing = Some("Job a does not exist".to_owned());
        for (told_before, told_after) in [(Some(5), None), (None, Some(5)), (Some(5), Some(10))] {
            let mut scene = Scene::listed();
            let gate = scene.gate("n", "n");
            let wish = scene.wish().expect("nothing of it is known");
            if let Some(version) = told_before {
                scene.watch_shows("n", "a", version);
            }
            scene.watch_shows("n", "b", 3);
            scene.list_shows(&wish, Some(Scene::job("n", "b", 3, 0)));
            scene.list_tells(&wish, Shown::All(10));
            if let Some(version) = told_after {
                scene.watch_shows("n", "a", version);
            }
            assert_eq!(scene.message("n", &gate), missing, "{told_before:?} {told_after:?}");
            assert_eq!(scene.0.kept(Dependency::Job), 1, "what it has shown stays");
            // Made anew.
            scene.watch_shows("n", "a", 11);
            assert_ne!(scene.message("n", &gate), missing);
        }
    }

    #[test]
    fn by_a_list_in_which_something_could_not_be_read_nothing_is_gone() {
        let mut scene = Scene::listed();
        let gate = scene.gate("n", "n");
        let wish = scene.wish().expect("nothing of it is known");
        scene.watch_shows("n", "a", 5);
        scene.list_tells(&wish, Shown::All(NO_VERSION));
        assert_ne!(scene.message("n", &gate), Some("Job a does not exist".to_owned()));
    }

    #[test]
    fn jobs_are_kept_only_where_a_gate_looks_and_may() {
        let mut scene = Scene::new();
        scene.gate("n", "n");
        scene.gate("curious", "secret");
        scene.see(JOBS, Event::Init);
        for namespace in 0..100 {
            for job in 0..10 {
                scene.watch_shows(&format!("other-{namespace}"), &format!("{job}"), 1);
            }
        }
        for namespace in ["n", "secret"] {
            scene.watch_shows(namespace, "a", 1);
        }
        scene.see(JOBS, Event::InitDone { version: 1 });
        assert_eq!((scene.0.kept(Dependency::Job), scene.wish()), (1, None), "the list of all has shown it");
        scene.see(Subject::Namespaces, Event::Apply(allow("secret", Some("curious"))));
        scene.at(0);
        let wish = scene.wish().expect("it may look");
        assert_eq!(wish.place, "secret");
        scene.list_shows(&wish, Some(Scene::job("secret", "a", 1, 0)));
        assert_eq!(scene.0.kept(Dependency::Job), 2);
        // It may not any more.
        scene.see(Subject::Namespaces, Event::Apply(allow("secret", None)));
        scene.at(0);
        scene.at(61);
        assert_eq!(scene.0.kept(Dependency::Job), 1);
    }

    #[test]
    fn a_gate_that_is_the_first_to_look_somewhere_is_decided_on_when_that_is_listed() {
        let mut scene = Scene::listed();
        scene.watch_shows("n", "a", 5);
        let gate = scene.gate("n", "n");
        assert_eq!(scene.message("n", &gate), None);
        let wish = scene.wish().expect("a list");
        scene.list_shows(&wish, Some(Scene::job("n", "a", 5, 0)));
        assert_eq!(scene.message("n", &gate), None, "there may be more");
        scene.0.take_marked();
        scene.list_shows(&wish, None);
        assert_eq!(scene.message("n", &gate).as_deref(), Some("Job a is complete"));
        assert_eq!(scene.0.take_marked(), [key("n")], "it is decided on again");
    }

    #[test]
    fn a_list_that_is_behind_the_watch_neither_brings_back_nor_reverts() {
        let mut scene = Scene::listed();
        let gate = scene.gate("n", "n");
        let wish = scene.wish().expect("a list");
        // Deleted before its page has come, and after.
        scene.deleted("a", 7);
        for name in ["a", "b"] {
            scene.list_shows(&wish, Some(Scene::job("n", name, 5, 0)));
        }
        scene.deleted("b", 8);
        scene.watch_shows("n", "c", 9);
        scene.list_shows(&wish, Some(Scene::job("n", "c", 5, 3)));
        scene.list_shows(&wish, None);
        assert_eq!(scene.message("n", &gate).as_deref(), Some("Job a does not exist"));
        let part = scene.0.stocks[Dependency::Job as usize].part("n").expect("it is kept");
        let kept: Vec<_> = part.objects().iter().map(|(name, seen)| (&**name, seen.version)).collect();
        assert_eq!(kept, [("c", 9)]);
        // It was made anew.
        scene.watch_shows("n", "a", 10);
        assert_eq!(scene.message("n", &gate).as_deref(), Some("Job a is complete"));
    }

    #[test]
    fn more_deletions_than_are_remembered_begin_the_list_anew() {
        let mut scene = Scene::listed();
        scene.gate("n", "n");
        let wish = scene.wish().expect("a list");
        for job in 0..=GONE {
            scene.deleted(&format!("{job}"), 7);
        }
        let again = scene.wish().expect("another list");
        assert!(!scene.0.is_listing(&wish) && scene.0.is_listing(&again));
        scene.list_shows(&wish, Some(Scene::job("n", "0", 5, 0)));
        assert_eq!(scene.0.kept(Dependency::Job), 0);
    }

    #[test]
    fn a_list_of_all_is_a_fresh_start_and_who_comes_in_its_midst_is_listed_after_it() {
        let mut scene = Scene::listed();
        let first = scene.gate("n", "n");
        let wish = scene.wish().expect("a list");
        scene.see(JOBS, Event::Init);
        scene.watch_shows("n", "a", 5);
        scene.watch_shows("late", "a", 5);
        let late = scene.gate("late", "late");
        assert_eq!(scene.wish(), None);
        scene.see(JOBS, Event::InitDone { version: 6 });
        assert!(!scene.0.is_listing(&wish));
        assert_eq!(scene.message("n", &first).as_deref(), Some("Job a is complete"));
        assert_eq!(scene.message("late", &late), None);
        let wish = scene.wish().expect("a list");
        scene.list_shows(&wish, Some(Scene::job("late", "a", 5, 0)));
        scene.list_shows(&wish, None);
        assert_eq!(scene.message("late", &late).as_deref(), Some("Job a is complete"));
    }

    #[test]
    fn what_only_a_first_list_that_broke_off_has_shown_is_not_there() {
        let mut scene = Scene::new();
        let gate = scene.gate("n", "n");
        scene.see(JOBS, Event::Init);
        scene.watch_shows("n", "a", 5);
        scene.see(JOBS, Event::Init);
        scene.watch_shows("n", "b", 5);
        scene.see(JOBS, Event::InitDone { version: 7 });
        assert_eq!(scene.message("n", &gate).as_deref(), Some("Job a does not exist"));
        assert_eq!(scene.0.kept(Dependency::Job), 1);
    }

    #[test]
    fn what_is_left_to_be_swept_when_nobody_looks_any_more_takes_nothing_of_a_later_list() {
        let mut scene = Scene::listed();
        scene.gate("n", "n");
        for version in 2..6 {
            scene.see(JOBS, Event::Init);
            scene.see(JOBS, Event::InitDone { version });
        }
        // It was given no time to sweep.
        scene.delete_gate("n");
        scene.0.forget(JOBS);
        let gate = scene.gate("n", "n");
        scene.see(JOBS, Event::Init);
        scene.watch_shows("n", "a", 1);
        scene.see(JOBS, Event::InitDone { version: 6 });
        assert_eq!(scene.message("n", &gate).as_deref(), Some("Job a is complete"));
    }

    #[test]
    fn what_is_too_much_is_not_kept_and_its_gates_say_so_until_it_is_less() {
        let mut scene = Scene::listed();
        let gate = scene.gate("n", "n");
        let wish = scene.wish().expect("a list");
        scene.list_shows(&wish, None);
        let mut job = 0;
        while scene.0.kept(Dependency::Job) >= job {
            assert!(job < MAX_LOOKED_AT / 8192, "{job} are kept");
            job += 1;
            scene.see(JOBS, Event::Apply(Scene::job("n", &format!("{job}"), 5, 200)));
        }
        assert_eq!(scene.0.kept(Dependency::Job), 0);
        let message = scene.message("n", &gate);
        let expected = "namespace n has too many Jobs to look at: names and labels of more than 8 MiB";
        assert_eq!(message.as_deref(), Some(expected));
        scene.watch_shows("n", "a", 6);
        scene.at(599);
        assert_eq!((scene.0.kept(Dependency::Job), scene.wish()), (0, None));
        scene.at(600);
        let wish = scene.wish().expect("a list");
        scene.list_shows(&wish, Some(Scene::job("n", "a", 6, 0)));
        scene.list_shows(&wish, None);
        assert_eq!(scene.message("n", &gate).as_deref(), Some("Job a is complete"));
    }

    #[test]
    fn who_makes_and_deletes_gates_all_the_time_has_a_namespace_listed_seldom() {
        let mut scene = Scene::listed();
        let mut lists = 0;
        for second in 0..600 {
            scene.at(second);
            scene.gate("n", "n");
            if let Some(wish) = scene.wish() {
                lists += 1;
                scene.list_shows(&wish, Some(Scene::job("n", "a", 5, 0)));
                scene.list_shows(&wish, None);
            }
            scene.delete_gate("n");
        }
        assert!((2..=10).contains(&lists), "{lists}");
        scene.at(1000);
        assert_eq!(scene.0.kept(Dependency::Job), 0);
        assert!(scene.0.stocks.iter().all(|stock| stock.places.is_empty() && stock.parts.is_empty()));
    }
}
