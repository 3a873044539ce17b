//! Locks without a network: an API server of a few lines answers what the engine asks for.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use konductor_api::{
    Semaphore,
    arbiter::{Now, PodSight, Write},
};
use konductor_cluster::{
    RequestError,
    follow::{Deleted, Event},
    object::{Lenient, Object},
};
use serde_json::{Value, json};

use super::{
    index::Kin,
    kind::{read_claim, read_parent},
    observe::Seen,
    plugin::Locks,
    request::{Answer, Answered, ClaimPage, IntakePage, Request, Subject, Written},
};
use crate::{
    clock::Clock,
    crowd::Kept,
    engine::{Engine, Ticket},
    events::{Recorder, Told},
    key::{Key, ParentKey},
    metrics::{EXPIRY_REASONS, ExpiryLabels, KindLabels, Metrics, exposition::Exposition, parents::Figures},
    pods::Ended,
};

pub(super) type Locked = Engine<Locks<Semaphore>>;

pub(super) fn at(seconds: f64) -> Now {
    let wall = Timestamp::from_second(1_800_000_000 + seconds as i64).expect("a time");
    Now { monotonic: Duration::from_secs_f64(seconds), wall }
}

fn object<K, S, T>(object: &Value) -> Lenient<Object<K, S, Option<T>>>
where
    S: serde::de::DeserializeOwned,
    T: serde::de::DeserializeOwned,
{
    Object::read(&object.to_string()).expect("an object")
}

/// Objects by namespace and name; semaphores and permits apart.
#[derive(Default)]
pub(super) struct Server {
    pub(super) version: u64,
    pub(super) semaphores: BTreeMap<(String, String), Value>,
    pub(super) permits: BTreeMap<(String, String), Value>,
    /// Namespaces in which nothing is answered.
    mute: HashSet<String>,
    /// Pods that run on although the container of the claim has ended.
    ended: HashSet<String>,
}

impl Server {
    pub(super) fn put(&mut self, kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
        self.version += 1;
        let object = json!({
            "metadata": {
                "namespace": namespace, "name": name, "uid": format!("{kind}-{namespace}-{name}"), "generation": 1,
                "resourceVersion": self.version.to_string(), "creationTimestamp": "2027-01-15T08:00:00Z",
            },
            "spec": spec,
        });
        let key = (namespace.to_owned(), name.to_owned());
        if kind == "semaphore" { &mut self.semaphores } else { &mut self.permits }.insert(key, object.clone());
        object
    }

    /// Writes a status if the object still has this version.
    pub(super) fn patch(
        &mut self,
        is_lock: bool,
        namespace: &str,
        name: &str,
        version: u64,
        status: Value,
    ) -> Option<Value> {
        let objects = if is_lock { &mut self.semaphores } else { &mut self.permits };
        let object = objects.get_mut(&(namespace.to_owned(), name.to_owned()))?;
        let found = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        if found != Some(version) {
            return None;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["status"] = status;
        Some(object.clone())
    }

    pub(super) fn answer(&mut self, key: &Key, request: Request) -> Option<Answer> {
        let (namespace, lock) = (key.namespace.clone(), key.name.clone());
        if self.mute.contains(&namespace) {
            return None;
        }
        let silence = || RequestError::Unanswered("nothing".into());
        Some(Answer(match request {
            Request::Patch { write, status, .. } => {
                let (is_lock, name) = match &write {
                    Write::Parent(_) => (true, lock),
                    Write::Claim(write) => (false, write.name.clone()),
                };
                let written = self.patch(is_lock, &namespace, &name, write.version(), status);
                let subject = written.map(|object| {
                    if is_lock {
                        Subject::Parent(read_parent::<Semaphore>(self::object(&object)))
                    } else {
                        Subject::Claim(read_claim::<Semaphore>(self::object(&object)))
                    }
                });
                let written =
                    subject.map_or_else(|| Written::Failed(silence()), |found| Written::Applied(Box::new(found)));
                Answered::Written { write, written }
            }
            Request::Page { term, from, failures, .. } => {
                let all = self
                    .permits
                    .iter()
                    .filter(|((of, _), permit)| *of == namespace && permit["spec"]["semaphore"] == lock.as_str());
                let after = from.clone().unwrap_or_default();
                let rest: Vec<_> = all.filter(|((_, name), _)| *name > after).take(501).collect();
                let next = (rest.len() > 500).then(|| rest[499].0.1.clone());
                let claims = rest.iter().take(500).map(|(_, permit)| read_claim::<Semaphore>(object(permit))).collect();
                Answered::Page { term, from, failures, page: Ok(ClaimPage { claims, next }) }
            }
            Request::Intake { of, from, failures, .. } => {
                let all = if of == Kin::Locks { &self.semaphores } else { &self.permits };
                let after = from.clone().unwrap_or_default();
                let rest = all.iter().filter(|((of, name), _)| *of == namespace && *name > after);
                let rest: Vec<_> = rest.take(501).collect();
                let next = (rest.len() > 500).then(|| rest[499].0.1.clone());
                let read = |one: &Value| match of {
                    Kin::Locks => Subject::Parent(read_parent::<Semaphore>(object(one))),
                    Kin::Claims => Subject::Claim(read_claim::<Semaphore>(object(one))),
                };
                let found = rest.iter().take(500).map(|(_, one)| read(one)).collect();
                Answered::Intake { of, from, failures, page: Ok(IntakePage { found, next }) }
            }
            Request::Read { write, outcome, failures, .. } => {
                let found = match &write {
                    Write::Parent(_) => self
                        .semaphores
                        .get(&(namespace, lock))
                        .map(|object| Subject::Parent(read_parent::<Semaphore>(self::object(object)))),
                    Write::Claim(claim) => self
                        .permits
                        .get(&(namespace, claim.name.clone()))
                        .map(|object| Subject::Claim(read_claim::<Semaphore>(self::object(object)))),
                };
                Answered::Read { write, outcome, failures, found: Ok(found.map(Box::new)) }
            }
            Request::Delete { write, .. } => {
                self.permits.remove(&(namespace, write.name.clone()));
                Answered::Written { write: Write::Claim(write), written: Written::Deleted }
            }
            Request::Look { look, .. } => {
                let sight = if self.ended.contains(&look.pod.name) { PodSight::Ended } else { PodSight::Lives };
                Answered::Looked { claim: look.claim, sight }
            }
        }))
    }

    fn phases(&self) -> HashMap<String, usize> {
        let mut phases = HashMap::new();
        for permit in self.permits.values() {
            *phases.entry(permit["status"]["phase"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
        }
        phases
    }
}

fn engine() -> Locked {
    let metrics = Metrics::new(Clock::start());
    let (recorder, _) = Recorder::new(metrics.clone());
    Engine::new(Locks::new(&metrics, &recorder, Kept::default()))
}

pub(super) fn key_of(request: &Request) -> Key {
    match request {
        Request::Patch { key, .. }
        | Request::Delete { key, .. }
        | Request::Read { key, .. }
        | Request::Page { key, .. }
        | Request::Intake { key, .. }
        | Request::Look { key, .. } => key.clone(),
    }
}

pub(super) fn see_lock(engine: &mut Locked, semaphore: &Value, now: Now) {
    let found = read_parent::<Semaphore>(object(semaphore));
    engine.observe(Seen::Parent(Event::Apply(Box::new(found))), now);
}

pub(super) fn see_claim(engine: &mut Locked, permit: &Value, now: Now) {
    let found = read_claim::<Semaphore>(object::<<Semaphore as konductor_api::Lock>::Claim, _, _>(permit));
    engine.observe(Seen::Claim(Event::Apply(Box::new(found))), now);
}

/// Lets the engine work at this time until it rests. Each turn may decide on so many parents. Returns the requests that
/// were not answered, and how many there were at most in one turn.
pub(super) fn work(engine: &mut Locked, server: &mut Server, now: Now, decisions: usize) -> (Vec<Ticket>, usize) {
    let (mut unanswered, mut most) = (Vec::new(), 0);
    for _ in 0..100_000 {
        let mut steps = 0;
        let requests = engine.turn(now, || {
            steps += 1;
            steps > decisions
        });
        most = most.max(requests.len());
        let idle = requests.is_empty();
        for (ticket, request) in requests {
            match server.answer(&key_of(&request), request) {
                Some(answer) => engine.answered(&ticket, answer, now),
                None => unanswered.push(ticket),
            }
        }
        if idle && engine.next().is_none_or(|next| next > now.monotonic) {
            return (unanswered, most);
        }
    }
    panic!("never rests");
}

/// Works through a second, in steps as they are due.
fn work_for_a_second(engine: &mut Locked, server: &mut Server, from: f64) {
    for step in 0..200 {
        work(engine, server, at(from + f64::from(step) * 0.005), usize::MAX);
    }
}

#[test]
fn ten_thousand_claims_on_two_thousand_locks_are_taken_over_and_granted_turn_by_turn() {
    let (mut engine, mut server) = (engine(), Server::default());
    for lock in 0..2000 {
        let (namespace, name) = (format!("n{}", lock % 20), format!("s{lock}"));
        let semaphore = server.put("semaphore", &namespace, &name, &json!({ "permits": 3 }));
        see_lock(&mut engine, &semaphore, at(0.));
        for claim in 0..5 {
            let spec = json!({ "semaphore": name, "holder": "h", "instance": "i" });
            let permit = server.put("permit", &namespace, &format!("{name}-{claim}"), &spec);
            see_claim(&mut engine, &permit, at(0.));
        }
    }
    engine.lead(true, at(0.));
    let (unanswered, most) = work(&mut engine, &mut server, at(0.), 16);
    assert!(unanswered.is_empty());
    // As many as there are places in all lanes, whatever there is to do.
    assert!(most <= 96, "{most} requests in one turn");
    work_for_a_second(&mut engine, &mut server, 0.01);
    assert_eq!(server.phases().get("Granted"), Some(&6000));
}

#[test]
fn a_list_of_many_pages_takes_a_lock_over_page_by_page() {
    let (mut engine, mut server) = (engine(), Server::default());
    let semaphore = server.put("semaphore", "n", "s", &json!({ "permits": 7 }));
    see_lock(&mut engine, &semaphore, at(0.));
    // The watch has shown none of them.
    for claim in 0..1801 {
        let spec = json!({ "semaphore": "s", "holder": "h", "instance": "i" });
        server.put("permit", "n", &format!("c{claim:04}"), &spec);
    }
    engine.lead(true, at(0.));
    work(&mut engine, &mut server, at(0.), usize::MAX);
    assert_eq!(server.phases().get("Granted"), Some(&7));
}

#[test]
fn a_thousand_claims_that_a_list_does_not_show_are_forgotten_in_several_turns_and_what_came_after_it_never() {
    let (mut engine, mut server) = (engine(), Server::default());
    let semaphore = server.put("semaphore", "n", "s", &json!({ "permits": 1000 }));
    see_lock(&mut engine, &semaphore, at(0.));
    for claim in 0..=1000 {
        let permits = if claim == 1000 { 600 } else { 1 };
        let spec = json!({ "semaphore": "s", "permits": permits, "holder": "h", "instance": "i" });
        let permit = server.put("permit", "n", &format!("c{claim:04}"), &spec);
        see_claim(&mut engine, &permit, at(0.));
    }
    engine.lead(true, at(0.));
    work_for_a_second(&mut engine, &mut server, 0.);
    assert_eq!(server.phases()["Granted"], 1000);

    // All that hold are gone. One waits for most of what they held, and another one comes after the list.
    server.permits.retain(|(_, name), _| name == "c1000");
    server.version += 1;
    let version = server.version;
    engine.observe(Seen::Claim(Event::Init), at(1.));
    see_claim(&mut engine, &server.permits.values().next().expect("the one that waits").clone(), at(1.));
    engine.observe(Seen::Claim(Event::InitDone { version }), at(1.));
    let spec = json!({ "semaphore": "s", "holder": "h", "instance": "i" });
    let late = server.put("permit", "n", "late", &spec);
    see_claim(&mut engine, &late, at(1.));
    let mut turns = 0;
    while !server.phases().contains_key("Granted") && turns < 100 {
        turns += 1;
        for (ticket, request) in engine.turn(at(1.), || true) {
            let answer = server.answer(&key_of(&request), request).expect("an answer");
            engine.answered(&ticket, answer, at(1.));
        }
    }
    assert!((3..100).contains(&turns), "there was room after {turns} turns");
    work_for_a_second(&mut engine, &mut server, 1.);
    assert_eq!(server.phases(), HashMap::from([("Granted".to_owned(), 2)]));
}

#[test]
fn a_namespace_that_nobody_answers_for_keeps_no_other_waiting_and_is_served_when_it_is_answered() {
    let (mut engine, mut server) = (engine(), Server::default());
    engine.lead(true, at(0.));
    server.mute.insert("mute".into());
    for lock in 0..500 {
        let name = format!("s{lock}");
        let semaphore = server.put("semaphore", "mute", &name, &json!({ "permits": 1 }));
        see_lock(&mut engine, &semaphore, at(0.));
    }
    let (unanswered, _) = work(&mut engine, &mut server, at(0.), usize::MAX);
    assert!(!unanswered.is_empty());
    let semaphore = server.put("semaphore", "other", "s", &json!({ "permits": 1 }));
    see_lock(&mut engine, &semaphore, at(1.));
    let permit = server.put("permit", "other", "c", &json!({ "semaphore": "s", "holder": "h", "instance": "i" }));
    see_claim(&mut engine, &permit, at(1.));
    work(&mut engine, &mut server, at(1.), usize::MAX);
    assert_eq!(server.phases().get("Granted"), Some(&1));
}

#[test]
fn writes_that_meet_another_version_are_decided_again_after_a_look() {
    let (mut engine, mut server) = (engine(), Server::default());
    engine.lead(true, at(0.));
    let semaphore = server.put("semaphore", "n", "s", &json!({ "permits": 1 }));
    see_lock(&mut engine, &semaphore, at(0.));
    let stale = server.put("permit", "n", "c", &json!({ "semaphore": "s", "holder": "h", "instance": "i" }));
    // A renewal that the watch has not shown yet.
    let version = server.permits[&("n".into(), "c".into())]["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    server.patch(
        false,
        "n",
        "c",
        version.expect("a version").parse().expect("a number"),
        json!({ "phase": "Pending" }),
    );
    see_claim(&mut engine, &stale, at(0.));
    work(&mut engine, &mut server, at(0.), usize::MAX);
    work_for_a_second(&mut engine, &mut server, 0.01);
    assert_eq!(server.phases().get("Granted"), Some(&1));
}

#[test]
fn whoever_stops_leading_in_the_middle_leaves_nothing_under_way_and_can_lead_again() {
    let (mut engine, mut server) = (engine(), Server::default());
    for lock in 0..100 {
        let name = format!("s{lock}");
        let semaphore = server.put("semaphore", "n", &name, &json!({ "permits": 1 }));
        see_lock(&mut engine, &semaphore, at(0.));
        let spec = json!({ "semaphore": name, "holder": "h", "instance": "i" });
        let permit = server.put("permit", "n", &format!("c{lock}"), &spec);
        see_claim(&mut engine, &permit, at(0.));
    }
    engine.lead(true, at(0.));
    let sent = engine.turn(at(0.), || false);
    assert!(!sent.is_empty());
    engine.lead(false, at(0.1));
    assert!(engine.turn(at(0.1), || false).is_empty(), "who does not lead sends nothing");
    engine.lead(true, at(0.2));
    // The answers of the first reign come in the second.
    for (ticket, request) in sent {
        let answer = server.answer(&key_of(&request), request).expect("an answer");
        engine.answered(&ticket, answer, at(0.2));
    }
    work(&mut engine, &mut server, at(0.2), usize::MAX);
    work_for_a_second(&mut engine, &mut server, 0.21);
    work_for_a_second(&mut engine, &mut server, 1.3);
    assert_eq!(server.phases().get("Granted"), Some(&100));
}

/// An engine whose figures and news are looked at.
fn watched() -> (Locked, Arc<Metrics>, Told) {
    watched_keeping(Kept::default())
}

/// The same, with so much kept of each namespace.
pub(super) fn watched_keeping(kept: Kept) -> (Locked, Arc<Metrics>, Told) {
    let metrics = Metrics::new(Clock::start());
    let (recorder, told) = Recorder::new(metrics.clone());
    (Engine::new(Locks::new(&metrics, &recorder, kept)), metrics, told)
}

fn permit_of_pod(server: &mut Server, name: &str) -> Value {
    let pod = json!({ "name": format!("{name}-pod"), "uid": format!("{name}-uid"), "container": "main", "start": "1" });
    let spec = json!({ "semaphore": "s", "holder": "h", "instance": "i", "pod": pod });
    server.put("permit", "n", name, &spec)
}

fn gone(engines: &mut [&mut Locked], server: &mut Server, name: &str, now: Now) {
    let permit = server.permits.remove(&("n".into(), name.into())).expect("it is there");
    server.version += 1;
    let uid = permit["metadata"]["uid"].as_str().expect("a UID").to_owned();
    for engine in engines {
        let deleted = Deleted { namespace: "n".into(), name: name.into(), uid: uid.clone(), version: server.version };
        engine.observe(Seen::Claim(Event::Delete(deleted)), now);
    }
}

/// Two claims on one permit, which the first one of them gets.
fn see_two_who_want_one(engine: &mut Locked, server: &mut Server) {
    let semaphore = server.put("semaphore", "n", "s", &json!({ "permits": 1 }));
    see_lock(engine, &semaphore, at(0.));
    for name in ["a", "b"] {
        let permit = permit_of_pod(server, name);
        see_claim(engine, &permit, at(0.));
    }
    work_for_a_second(engine, server, 0.);
}

fn news(told: &mut Told) -> Vec<String> {
    let next = || told.claimants.try_recv().ok().map(|news| format!("{} {}: {}", news.pod, news.reason, news.note));
    std::iter::from_fn(next).collect()
}

#[test]
fn what_is_shown_of_a_lock_is_what_is_and_waits_and_holds_are_measured() {
    let ((mut engine, metrics, mut told), mut server) = (watched(), Server::default());
    engine.lead(true, at(0.));
    see_two_who_want_one(&mut engine, &mut server);
    let shown = |line: &str| {
        let text = metrics.text(Exposition::OpenMetrics).expect("it can be written");
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    };
    let of_lock = r#"{namespace="n",kind="semaphore",name="s"} 1"#;
    for name in ["permits", "in_use", "waiting"] {
        shown(&format!("konductor_{name}{of_lock}"));
    }
    let oldest = |metrics: &Metrics| match metrics.parents.get("semaphore", &Key::from(ParentKey::new("n", "s"))) {
        Some(Figures::Lock { oldest, .. }) => oldest,
        _ => None,
    };
    assert_eq!(oldest(&metrics), Some(1_800_000_000));
    assert_eq!(news(&mut told), ["b-pod Waiting: waits for semaphore s, position 1"]);

    gone(&mut [&mut engine], &mut server, "a", at(90.));
    work(&mut engine, &mut server, at(90.), usize::MAX);
    assert_eq!(news(&mut told), ["b-pod Granted: granted semaphore s after 1m30s"]);
    assert_eq!(oldest(&metrics), None);
    shown(r#"konductor_wait_seconds_count{kind="semaphore"} 2"#);
    shown(r#"konductor_wait_seconds_bucket{le="60.0",kind="semaphore"} 1"#);
    shown(r#"konductor_wait_seconds_bucket{le="300.0",kind="semaphore"} 2"#);
    shown(r#"konductor_hold_seconds_count{kind="semaphore"} 1"#);
    shown(r#"konductor_hold_seconds_bucket{le="60.0",kind="semaphore"} 0"#);
    shown(r#"konductor_hold_seconds_bucket{le="300.0",kind="semaphore"} 1"#);
    // One that falls silent has been held as long as it was, and once.
    work(&mut engine, &mut server, at(1000.), usize::MAX);
    gone(&mut [&mut engine], &mut server, "b", at(2000.));
    work(&mut engine, &mut server, at(2000.), usize::MAX);
    shown(r#"konductor_hold_seconds_count{kind="semaphore"} 2"#);
    shown(r#"konductor_hold_seconds_bucket{le="900.0",kind="semaphore"} 1"#);
    shown(r#"konductor_hold_seconds_bucket{le="1800.0",kind="semaphore"} 2"#);
    shown(r#"konductor_losses_total{kind="semaphore"} 1"#);
    engine.lead(false, at(2001.));
    assert!(metrics.parents.get("semaphore", &Key::from(ParentKey::new("n", "s"))).is_none());
}

#[test]
fn why_a_claim_is_over_is_counted_as_it_was_found_out() {
    let ((mut engine, metrics, _), mut server) = (watched(), Server::default());
    engine.lead(true, at(0.));
    see_two_who_want_one(&mut engine, &mut server);
    let counted = || {
        let of = |reason| metrics.expiries.get_or_create(&ExpiryLabels { kind: "semaphore", reason }).get();
        (EXPIRY_REASONS.map(of), metrics.losses.get_or_create(&KindLabels { kind: "semaphore" }).get())
    };
    assert_eq!(EXPIRY_REASONS, ["died", "silent", "unused", "unreadable", "waiting"]);
    assert_eq!(counted(), ([0; 5], 0));

    // Its container ended beside one that runs on, which is seen when it misses a renewal.
    server.ended.insert("a-pod".into());
    work(&mut engine, &mut server, at(200.), usize::MAX);
    assert_eq!(counted(), ([1, 0, 0, 0, 0], 1));
    // Who has waited for long is to show that it is there, and was not.
    work(&mut engine, &mut server, at(270.), usize::MAX);
    assert_eq!(counted(), ([1, 0, 1, 0, 0], 1));
    // Who is granted at once is there, and has its whole TTL.
    let permit = permit_of_pod(&mut server, "c");
    see_claim(&mut engine, &permit, at(300.));
    work(&mut engine, &mut server, at(300.), usize::MAX);
    work(&mut engine, &mut server, at(601.), usize::MAX);
    assert_eq!(counted(), ([1, 1, 1, 0, 0], 2));
}

#[test]
fn of_a_lock_that_does_not_exist_it_is_shown_who_waits() {
    let ((mut engine, metrics, _), mut server) = (watched(), Server::default());
    engine.lead(true, at(0.));
    let permit = permit_of_pod(&mut server, "a");
    see_claim(&mut engine, &permit, at(0.));
    work_for_a_second(&mut engine, &mut server, 0.);
    let figures = || metrics.parents.get("semaphore", &Key::from(ParentKey::new("n", "s")));
    let waits = Figures::Lock { permits: None, in_use: None, waiting: 1, oldest: Some(1_800_000_000) };
    assert_eq!(figures(), Some(waits));
    let text = metrics.text(Exposition::OpenMetrics).expect("it can be written");
    assert!(text.contains("konductor_waiting{") && !text.contains("konductor_permits{"), "{text}");
    gone(&mut [&mut engine], &mut server, "a", at(2.));
    work(&mut engine, &mut server, at(2.), usize::MAX);
    assert_eq!(figures(), None);
}

/// Lets the first of two engines work at this time. Both see what it writes, before it is answered.
fn work_as_watches_are_quick(engines: [&mut Locked; 2], server: &mut Server, now: Now) {
    let [leader, standby] = engines;
    for _ in 0..1000 {
        let requests = leader.turn(now, || false);
        if requests.is_empty() {
            return;
        }
        for (ticket, request) in requests {
            let answer = server.answer(&key_of(&request), request).expect("an answer");
            for engine in [&mut *leader, &mut *standby] {
                server.semaphores.values().for_each(|semaphore| see_lock(engine, semaphore, now));
                server.permits.values().for_each(|permit| see_claim(engine, permit, now));
            }
            leader.answered(&ticket, answer, now);
        }
    }
    panic!("never rests");
}

#[test]
fn each_change_is_told_once_whoever_leads_and_whatever_its_watches_have_shown() {
    let ((mut one, _, mut told_by_one), (mut two, _, mut told_by_two)) = (watched(), watched());
    let mut server = Server::default();
    one.lead(true, at(0.));
    server.put("semaphore", "n", "s", &json!({ "permits": 1 }));
    for name in ["a", "b", "c", "d"] {
        permit_of_pod(&mut server, name);
    }
    for engine in [&mut one, &mut two] {
        server.semaphores.values().for_each(|semaphore| see_lock(engine, semaphore, at(0.)));
        server.permits.values().for_each(|permit| see_claim(engine, permit, at(0.)));
    }
    for step in 0..10 {
        work_as_watches_are_quick([&mut one, &mut two], &mut server, at(f64::from(step)));
    }
    let place = |name: &str, place: u32| format!("{name}-pod Waiting: waits for semaphore s, position {place}");
    assert_eq!(news(&mut told_by_one), [place("b", 1), place("c", 2), place("d", 3)]);
    // Another one leads, and tells who moves up its place again, which is no news.
    one.lead(false, at(20.));
    two.lead(true, at(20.));
    gone(&mut [&mut one, &mut two], &mut server, "a", at(20.));
    for step in 0..10 {
        work_as_watches_are_quick([&mut two, &mut one], &mut server, at(20. + f64::from(step)));
    }
    assert_eq!(news(&mut told_by_two), ["b-pod Granted: granted semaphore s after 20s"]);
    assert_eq!(server.permits[&("n".into(), "d".into())]["status"]["ahead"], 1, "it was told that it moved up");
    assert!(news(&mut told_by_one).is_empty());
}

#[test]
fn of_whose_container_has_ended_it_is_known_also_when_the_claim_was_unreadable_for_a_while() {
    let (mut engine, mut server) = (engine(), Server::default());
    see_two_who_want_one(&mut engine, &mut server);
    let ended = Ended { pod: "a-uid".into(), containers: ["main".to_owned()].into() };
    // On a standby: nothing comes of it yet.
    engine.observe(Seen::Pod(0, Event::Apply(ended)), at(1.));
    let readable = server.permits[&("n".to_owned(), "a".to_owned())].clone();
    let version = |permit: &mut Value, version: u64| permit["metadata"]["resourceVersion"] = version.to_string().into();
    let (mut odd, mut again) = (readable.clone(), readable);
    version(&mut odd, server.version + 1);
    odd["spec"]["permits"] = "many".into();
    see_claim(&mut engine, &odd, at(2.));
    server.version += 2;
    version(&mut again, server.version);
    server.permits.insert(("n".into(), "a".into()), again.clone());
    see_claim(&mut engine, &again, at(3.));
    engine.lead(true, at(4.));
    work(&mut engine, &mut server, at(4.), usize::MAX);
    let phase = |name: &str| server.permits[&("n".to_owned(), name.to_owned())]["status"]["phase"].clone();
    assert_eq!([phase("a"), phase("b")], ["Expired", "Granted"]);
}
