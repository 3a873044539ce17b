//! What is left out because its namespace has more than is kept of one, and taken in when there is room: see
//! [`crowd`](crate::crowd).
//!
//! # Why that is safe
//! A claim that is left out is one that waits, of which a watch might as well not have told yet. Views are made for
//! that: nothing follows from a claim that they do not know. One that is held, or that may be, is always kept, by
//! whichever watch, answer or list it is seen first, so a takeover's list adopts what it would have adopted without a
//! limit. What lists do not show is gone only if it was known, and what is known is never left out. A claim that
//! another leader grants is seen granted, and kept from then on.
//!
//! Those that are kept are served in the usual order, which is theirs and not that of all. Nobody is told a place in it
//! that is better than it is but by those who were left out.

use std::time::Duration;

use konductor_api::{
    ClaimPhase,
    arbiter::{Claim, Uid},
};
use konductor_cluster::RequestError;
use kube::Resource;
use tracing::warn;

use super::{
    index::Kin,
    kind::Kind,
    observe::{ATTEMPTS, of as of_kind},
    plugin::{LockTurn, Locks},
    request::{IntakePage, Job, Subject, pause},
};
use crate::{
    crowd::Due,
    engine::Lane,
    events::{News, Severity, reference},
    key::{Key, ParentKey},
    metrics::ResourceLabels,
};

/// Between two pages of a list: they are for nobody who is in a hurry.
const BETWEEN_PAGES: Duration = Duration::from_millis(100);

/// The plural name of what is kept.
pub(super) fn resource<K: Kind>(of: Kin) -> String {
    match of {
        Kin::Locks => K::plural(&()),
        Kin::Claims => K::Claim::plural(&()),
    }
    .into_owned()
}

impl<K: Kind> Locks<K> {
    /// Whether a claim that was seen is kept. What is held is always, and what is known.
    pub(super) fn is_kept(&mut self, lock: &ParentKey, claim: &Claim, turn: &mut LockTurn<'_>) -> bool {
        let holds = matches!(claim.state.phase, Some(ClaimPhase::Granted | ClaimPhase::Revoking));
        if holds || self.index.has_room_for_claim(&lock.namespace, &claim.uid) {
            return true;
        }
        if let Some(entry) = self.index.get(lock) {
            let before = entry.view.reign().clone();
            entry.view.leave_out(claim, turn.now);
            // The term that it shows may be another leader's.
            if *entry.view.reign() != before {
                turn.work_queue.mark(&ParentKey::clone(lock).into());
            }
        }
        self.leave_out(Kin::Claims, lock, (&claim.name, &claim.uid), turn);
        false
    }

    /// A claim of this lock, or the lock itself, of this name and UID was seen and is not kept.
    pub(super) fn leave_out(
        &mut self,
        of: Kin,
        lock: &ParentKey,
        (object, uid): (&str, &Uid),
        turn: &mut LockTurn<'_>,
    ) {
        let resource = resource::<K>(of);
        let crowds = self.index.crowds(of);
        let tell = crowds.left_out(&lock.namespace, turn.now.monotonic);
        let limit = crowds.limit();
        self.show_crowds(of);
        self.metrics.left_out.get_or_create(&ResourceLabels { resource: resource.clone() }).inc();
        if !tell {
            return;
        }
        let (namespace, name) = (&lock.namespace, &lock.name);
        let note = format!(
            "namespace {namespace} has more than {limit} {resource}, which is all that are looked at: the others wait \
             until some of these are gone, in no order among them; delete what nobody needs, or use several namespaces"
        );
        warn!(kind = K::KIND.name, namespace, name, "{note}");
        let regarding = match (of, self.index.parent(lock)) {
            (Kin::Claims, Some(parent)) => reference::<K>(namespace, name, &parent.uid),
            (Kin::Claims, None) => reference::<K::Claim>(namespace, object, uid),
            (Kin::Locks, _) => reference::<K>(namespace, object, uid),
        };
        if turn.leading {
            self.recorder.tell(News {
                regarding,
                severity: Severity::Warning,
                reason: "Crowded",
                action: "Keep",
                note,
            });
        }
    }

    /// Puts into the metrics how many namespaces have too much.
    pub(super) fn show_crowds(&mut self, of: Kin) {
        let crowded = self.index.crowds(of).crowded();
        self.metrics.crowded.get_or_create(&ResourceLabels { resource: resource::<K>(of) }).set(crowded as i64);
    }

    /// Has a namespace listed if it is time to. Only a leader needs what waits, and a takeover lists its lock anyway.
    pub(super) fn take_in(&mut self, namespace: &Key, turn: &mut LockTurn<'_>) {
        let (now, leading) = (turn.now.monotonic, turn.leading);
        let mut alarm = None;
        for of in Kin::ALL.into_iter().filter(|_| leading) {
            match self.index.crowds(of).due(&namespace.namespace, now) {
                Due::Never => {}
                Due::At(at) if at > now => alarm = Some(alarm.map_or(at, |before: Duration| before.min(at))),
                Due::At(_) => {
                    self.index.crowds(of).listing(&namespace.namespace, now);
                    turn.lanes.push(Lane::List, namespace, Job::Intake { of, from: None, failures: 0 });
                }
            }
        }
        turn.work_queue.set_alarm(namespace, alarm);
    }

    /// A page of what a namespace has, has come or has not.
    pub(super) fn intake_paged(
        &mut self,
        key: &Key,
        of: Kin,
        from: Option<String>,
        failures: u32,
        page: Result<IntakePage, RequestError>,
        turn: &mut LockTurn<'_>,
    ) {
        let page = match page {
            Ok(page) if turn.leading => page,
            Err(error) if turn.leading && failures < ATTEMPTS && !error.is_outdated() => {
                self.metrics.errors.get_or_create(&of_kind::<K>()).inc();
                let at = turn.now.monotonic + error.pause(pause(failures));
                return turn.lanes.push_at(Lane::List, key, Job::Intake { of, from, failures: failures + 1 }, at);
            }
            // It is listed again in a while.
            Ok(_) | Err(_) => return self.intake_ended(key, of, false),
        };
        for subject in page.found {
            match subject {
                Subject::Parent(found) => self.observe_parent(found, turn),
                Subject::Claim(found) => self.observe_claim(found, turn),
            }
        }
        match page.next {
            Some(next) if self.index.crowds(of).has_room(&key.namespace) => {
                let at = turn.now.monotonic + BETWEEN_PAGES;
                turn.lanes.push_at(Lane::List, key, Job::Intake { of, from: Some(next), failures }, at);
            }
            next => self.intake_ended(key, of, next.is_none()),
        }
    }

    /// The list of a namespace has ended; whether it has shown all there is.
    pub(super) fn intake_ended(&mut self, key: &Key, of: Kin, is_complete: bool) {
        self.index.crowds(of).listed(&key.namespace, is_complete);
        self.show_crowds(of);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use konductor_cluster::follow::{Deleted, Event};
    use serde_json::{Value, json};

    use super::super::{
        observe::Seen,
        plugin::MAY_EXIST,
        request::Request,
        tests::{Locked, Server, at, key_of, see_claim, see_lock, watched_keeping, work},
    };
    use crate::{
        crowd::Kept,
        events::Told,
        key::{Key, ParentKey},
        metrics::{Metrics, ResourceLabels, parents::Figures},
    };

    const KEPT: usize = 50;

    struct Scene {
        engine: Locked,
        metrics: std::sync::Arc<Metrics>,
        told: Told,
        server: Server,
    }

    impl Scene {
        fn new() -> Self {
            let (engine, metrics, told) = watched_keeping(Kept { claims: KEPT, locks: KEPT });
            Self { engine, metrics, told, server: Server::default() }
        }

        fn lock(&mut self, namespace: &str, name: &str, permits: u32) {
            let semaphore = self.server.put("semaphore", namespace, name, &json!({ "permits": permits }));
            see_lock(&mut self.engine, &semaphore, at(0.));
        }

        /// A claim that no watch has shown.
        fn claim(&mut self, namespace: &str, lock: &str, name: &str) -> Value {
            let spec = json!({ "semaphore": lock, "holder": "h", "instance": "i" });
            self.server.put("permit", namespace, name, &spec)
        }

        fn see_claims(&mut self, namespace: &str, lock: &str, count: usize, seconds: f64) {
            for number in 0..count {
                let permit = self.claim(namespace, lock, &format!("{lock}-{number:04}"));
                see_claim(&mut self.engine, &permit, at(seconds));
            }
        }

        fn work(&mut self, seconds: f64) {
            work(&mut self.engine, &mut self.server, at(seconds), usize::MAX);
        }

        /// Claims of this lock that are known to hold, and to wait.
        fn known(&self, namespace: &str, lock: &str) -> (u64, u64) {
            match self.metrics.parents.get("semaphore", &Key::from(ParentKey::new(namespace, lock))) {
                Some(Figures::Lock { in_use, waiting, .. }) => (in_use.unwrap_or_default(), waiting),
                other => panic!("{other:?}"),
            }
        }

        fn crowded(&self, resource: &str) -> i64 {
            self.metrics.crowded.get_or_create(&ResourceLabels { resource: resource.into() }).get()
        }

        fn phase(&self, namespace: &str, name: &str) -> Option<&str> {
            self.server.permits.get(&(namespace.into(), name.into()))?["status"]["phase"].as_str()
        }

        /// That of a leader, whose namespace `n` has one lock more than is kept.
        fn one_lock_too_many() -> Self {
            let mut scene = Self::new();
            scene.engine.lead(true, at(0.));
            for number in 0..=KEPT {
                scene.lock("n", &format!("s{number:04}"), 1);
            }
            scene
        }

        /// After a second one of these locks is deleted, so that all others can be kept.
        fn make_room(&mut self) {
            let first = self.server.semaphores.remove(&("n".into(), "s0000".into())).expect("it is there");
            let uid = first["metadata"]["uid"].as_str().expect("a UID").to_owned();
            let gone = Deleted { namespace: "n".into(), name: "s0000".into(), uid, version: self.server.version };
            self.engine.observe(Seen::Parent(Event::Delete(gone)), at(1.));
            self.work(1.);
        }

        /// Deletes these of the namespace, which is seen. Returns how many.
        fn delete(&mut self, namespace: &str, phase: Option<&str>, seconds: f64) -> usize {
            let permits: BTreeMap<_, _> = std::mem::take(&mut self.server.permits);
            let is_meant = |of: &str, permit: &Value| of == namespace && permit["status"]["phase"].as_str() == phase;
            let (gone, left): (Vec<_>, Vec<_>) =
                permits.into_iter().partition(|((of, _), permit)| is_meant(of, permit));
            self.server.permits = left.into_iter().collect();
            let count = gone.len();
            for ((namespace, name), permit) in gone {
                self.server.version += 1;
                let uid = permit["metadata"]["uid"].as_str().expect("a UID").to_owned();
                let gone = Deleted { namespace, name, uid, version: self.server.version };
                self.engine.observe(Seen::Claim(Event::Delete(gone)), at(seconds));
            }
            count
        }
    }

    #[test]
    fn a_crowd_in_one_namespace_is_bounded_and_served_by_and_by_and_all_others_at_once() {
        let mut scene = Scene::new();
        scene.engine.lead(true, at(0.));
        scene.lock("crowd", "s", 1000);
        scene.see_claims("crowd", "s", 10 * KEPT, 0.);
        for number in 1..10 {
            let namespace = format!("n{number}");
            scene.lock(&namespace, "s", 1000);
            scene.see_claims(&namespace, "s", 20, 0.);
        }
        scene.work(0.);
        for number in 1..10 {
            assert_eq!(scene.known(&format!("n{number}"), "s"), (20, 0));
        }
        assert_eq!((scene.known("crowd", "s"), scene.crowded("permits")), ((KEPT as u64, 0), 1));
        let news = scene.told.objects.try_recv().expect("people are told");
        assert_eq!((news.reason, news.regarding.name.as_deref()), ("Crowded", Some("s")), "{}", news.note);
        assert!(scene.told.objects.try_recv().is_err(), "once");
        let (mut served, mut seconds) = (0, 0.);
        while served < 10 * KEPT {
            assert!(seconds < 600., "{served} were served");
            assert!(scene.known("crowd", "s").0 <= KEPT as u64);
            served += scene.delete("crowd", Some("Granted"), seconds);
            seconds += 31.;
            for _ in 0..20 {
                scene.work(seconds);
                seconds += 0.1;
            }
        }
        scene.work(seconds + 60.);
        assert_eq!((scene.known("crowd", "s"), scene.crowded("permits")), ((0, 0), 0));
    }

    #[test]
    fn what_is_held_is_kept_beyond_any_limit_and_nothing_is_granted_beside_it() {
        let mut scene = Scene::new();
        // Another leader has granted them.
        for lock in ["seen", "listed"] {
            scene.lock("n", lock, 100);
            for number in 0..100 {
                let name = format!("{lock}-{number}");
                let permit = scene.claim("n", lock, &name);
                let version = permit["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
                let status = json!({
                    "phase": "Granted", "term": 1, "fencingToken": number + 1, "acquiredAt": "2027-01-15T08:00:00.000000Z",
                });
                scene.server.patch(false, "n", &name, version.expect("one"), status);
            }
        }
        // Those who wait have come first, as far as the watch tells.
        scene.see_claims("n", "waiting", KEPT * 2, 0.);
        for number in 0..100 {
            let permit = scene.server.permits[&("n".to_owned(), format!("seen-{number}"))].clone();
            see_claim(&mut scene.engine, &permit, at(0.));
        }
        for lock in ["seen", "listed"] {
            scene.claim("n", lock, &format!("{lock}-waits"));
        }
        scene.engine.lead(true, at(1.));
        scene.work(1.);
        for lock in ["seen", "listed"] {
            assert_eq!(scene.known("n", lock).0, 100, "{lock}");
            assert_eq!(scene.phase("n", &format!("{lock}-waits")), None);
        }
    }

    #[test]
    fn what_was_left_out_and_is_then_granted_by_another_leader_counts() {
        let mut scene = Scene::new();
        scene.lock("n", "s", 1000);
        scene.see_claims("n", "waiting", KEPT, 0.);
        let permit = scene.claim("n", "s", "left-out");
        see_claim(&mut scene.engine, &permit, at(0.));
        assert_eq!(scene.crowded("permits"), 1);
        let status =
            json!({ "phase": "Granted", "term": 1, "fencingToken": 1, "acquiredAt": "2027-01-15T08:00:00.000000Z" });
        let version = scene.server.version;
        let permit = scene.server.patch(false, "n", "left-out", version, status).expect("it is there");
        see_claim(&mut scene.engine, &permit, at(0.));
        scene.engine.lead(true, at(1.));
        scene.work(1.);
        assert_eq!(scene.known("n", "s").0, 1);
    }

    #[test]
    fn nothing_that_is_left_out_is_written_to_or_deleted_whatever_lists_show() {
        let mut scene = Scene::new();
        scene.engine.lead(true, at(0.));
        scene.lock("n", "s", 1);
        scene.see_claims("n", "s", KEPT * 2, 0.);
        scene.work(0.);
        let all: Vec<_> = scene.server.permits.values().cloned().collect();
        scene.engine.observe(Seen::Claim(Event::Init), at(1.));
        for permit in &all {
            see_claim(&mut scene.engine, permit, at(1.));
        }
        let version = scene.server.version;
        scene.engine.observe(Seen::Claim(Event::InitDone { version }), at(1.));
        scene.work(1.);
        assert_eq!(scene.server.permits.len(), KEPT * 2, "all of them are there");
        let untouched = scene.server.permits.values().skip(KEPT).filter(|permit| permit["status"].is_null()).count();
        assert_eq!((untouched, scene.crowded("permits")), (KEPT, 1));
        // Those who were left out have given up while nobody watched.
        scene.engine.observe(Seen::Claim(Event::Init), at(2.));
        for permit in &all[..KEPT] {
            see_claim(&mut scene.engine, permit, at(2.));
        }
        scene.engine.observe(Seen::Claim(Event::InitDone { version }), at(2.));
        scene.work(2.);
        assert_eq!((scene.known("n", "s"), scene.crowded("permits")), ((1, KEPT as u64 - 1), 0));
    }

    #[test]
    fn who_makes_room_and_takes_it_again_all_the_time_has_the_namespace_listed_seldom() {
        let mut scene = Scene::new();
        scene.engine.lead(true, at(0.));
        scene.lock("n", "s", 1000);
        scene.see_claims("n", "s", KEPT * 20, 0.);
        let (mut pages, mut next) = (0, KEPT * 20);
        for second in 0..300 {
            let now = f64::from(second);
            if scene.delete("n", Some("Granted"), now) > 0 {
                for _ in 0..KEPT / 2 {
                    next += 1;
                    let permit = scene.claim("n", "s", &format!("new-{next}"));
                    see_claim(&mut scene.engine, &permit, at(now));
                }
            }
            for _ in 0..100 {
                let requests = scene.engine.turn(at(now), || false);
                if requests.is_empty() {
                    break;
                }
                for (ticket, request) in requests {
                    pages += usize::from(matches!(request, Request::Intake { .. }));
                    let answer = scene.server.answer(&key_of(&request), request).expect("an answer");
                    scene.engine.answered(&ticket, answer, at(now));
                }
            }
        }
        assert!((2..=22).contains(&pages), "{pages} pages");
    }

    #[test]
    fn locks_beyond_the_limit_are_taken_in_when_there_is_room_and_nobody_hears_that_they_do_not_exist() {
        let mut scene = Scene::one_lock_too_many();
        let last = format!("s{KEPT:04}");
        let permit = scene.claim("n", &last, "c");
        see_claim(&mut scene.engine, &permit, at(0.));
        scene.work(0.);
        assert_eq!((scene.crowded("semaphores"), scene.phase("n", "c")), (1, None));
        scene.make_room();
        assert_eq!((scene.crowded("semaphores"), scene.phase("n", "c")), (0, Some("Granted")));
    }

    #[test]
    fn who_wants_a_lock_that_does_not_exist_is_told_so_once_all_locks_are_known() {
        let mut scene = Scene::one_lock_too_many();
        let permit = scene.claim("n", "typo", "c");
        see_claim(&mut scene.engine, &permit, at(0.));
        scene.work(0.);
        assert_eq!(scene.phase("n", "c"), None, "it may be one that is left out");
        scene.make_room();
        scene.work(1. + MAY_EXIST.as_secs_f64());
        assert_eq!((scene.crowded("semaphores"), scene.phase("n", "c")), (0, Some("Pending")));
    }
}
