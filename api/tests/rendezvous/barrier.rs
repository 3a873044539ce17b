//! Barriers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use konductor_api::{
    BarrierSpec, BarrierStatus,
    RendezvousPhase::{Failed, Open, Waiting},
    arbiter::Now,
    rendezvous::{
        Change, Plan, Since,
        barrier::{View, decide},
    },
};
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::{Subject, at, check, clocks};

/// A barrier and who is there.
#[derive(Default)]
struct Scene {
    spec: Option<BarrierSpec>,
    generation: i64,
    status: Option<BarrierStatus>,
    /// By key, with the second of its creation and since when it has been seen.
    arrived: BTreeMap<String, (i64, Since)>,
    /// Since when the end of the round has been seen.
    end_seen: Option<Since>,
    created: i64,
}

fn end(status: &BarrierStatus) -> Option<&MicroTime> {
    status.opened_at.as_ref().or(status.failed_at.as_ref())
}

impl Subject for Scene {
    type Status = BarrierStatus;

    fn take(&mut self, event: &str, argument: &str, now: Now) {
        match event {
            "spec" => {
                self.spec = Some(serde_json::from_str(argument).expect("a spec"));
                self.generation += 1;
            }
            "created" => self.created = argument.parse().expect("seconds"),
            "arrive" => {
                let (key, second) = argument.split_once(" at ").expect("KEY at SECOND");
                self.arrived.insert(key.into(), (second.parse().expect("a second"), Since::begun(now)));
            }
            "leave" => {
                self.arrived.remove(argument).expect("it was there");
            }
            _ => panic!("no event {event}"),
        }
    }

    fn decide(&self, now: Now) -> Plan<BarrierStatus> {
        let first = self.arrived.values().min_by_key(|(second, _)| *second);
        let view = View {
            spec: self.spec.as_ref().expect("a spec comes first"),
            generation: Some(self.generation),
            created: at(self.created),
            status: self.status.as_ref(),
            arrived: self.arrived.len() as u64,
            first: first.map(|(second, _)| at(*second)),
            first_seen: first.map(|(_, seen)| *seen),
            end_seen: self.end_seen,
        };
        decide(&view, now)
    }

    fn write(&mut self, status: BarrierStatus, now: Now) {
        if self.status.as_ref().is_some_and(|before| before.round < status.round) {
            // All of the former round are deleted before this is written.
            self.arrived.clear();
        }
        if self.status.as_ref().and_then(end) != end(&status) {
            self.end_seen = end(&status).map(|_| Since::begun(now));
        }
        self.status = Some(status);
    }

    fn restart(&mut self, now: Now) {
        for (second, seen) in self.arrived.values_mut() {
            *seen = Since::found(at(*second), now);
        }
        self.end_seen = self.status.as_ref().and_then(end).map(|end| Since::found(end.0, now));
    }

    fn figures(status: &BarrierStatus) -> String {
        let seconds = |time: &Option<MicroTime>| time.as_ref().map(|time| time.0.duration_since(at(0)).as_secs());
        let end = |word: &str, time| seconds(time).map(|at| format!(", {word} at {at}")).unwrap_or_default();
        let (opened, failed) = (end("opened", &status.opened_at), end("failed", &status.failed_at));
        format!("{} in round {}{opened}{failed}", status.arrived.unwrap_or(0), status.round.unwrap_or(0))
    }
}

#[test]
fn a_barrier_does_what_its_script_says() {
    check("barrier.txt", Scene::default());
}

#[test]
fn an_end_without_a_time_that_can_be_read_is_final_and_counts_from_now() {
    let seconds = |seconds| konductor_api::GoDuration(std::time::Duration::from_secs(seconds));
    let spec = BarrierSpec { expected: 2, quorum: None, timeout: None, reset_after: Some(seconds(10)) };
    for (phase, member) in [(Open, "openedAt"), (Failed, "failedAt")] {
        let status = json!({ "phase": phase, "round": 3, "observedGeneration": 1, member: "9999-12-31T23:59:59Z" });
        let status = Some(serde_json::from_value(status).expect("a status"));
        let mut scene = Scene { spec: Some(spec.clone()), generation: 1, status, ..Scene::default() };
        let now = clocks(100, 100);
        let write = scene.decide(now).write.expect("a time to tell");
        assert_eq!((write.change, write.status.phase, write.status.round), (Change::Tell, Some(phase), Some(3)));
        assert_eq!(end(&write.status), Some(&MicroTime(at(100))));
        scene.write(write.status, now);
        assert_eq!(scene.decide(now), Plan { write: None, look_again: Some(at(110)) });
        let next = scene.decide(clocks(110, 110)).write.expect("the next round");
        assert_eq!((next.change, next.status.round), (Change::NextRound, Some(4)));
    }
}

#[test]
fn an_edit_once_the_pause_is_over_keeps_nobody_in_a_round_that_is_being_cleared() {
    let seconds = |seconds| konductor_api::GoDuration(std::time::Duration::from_secs(seconds));
    for (phase, member) in [(Open, "openedAt"), (Failed, "failedAt")] {
        let status = json!({ "phase": phase, "round": 1, "observedGeneration": 1, member: at(100).to_string() });
        let spec =
            BarrierSpec { expected: 5, quorum: None, timeout: Some(seconds(60)), reset_after: Some(seconds(10)) };
        let mut scene = Scene { spec: Some(spec), generation: 2, ..Scene::default() };
        scene.write(serde_json::from_value(status).expect("a status"), clocks(100, 100));
        // Of five, two are deleted.
        for key in ["a", "b", "c"] {
            scene.arrived.insert(key.into(), (90, Since::begun(clocks(90, 90))));
        }
        let before = scene.decide(clocks(109, 109)).write.expect("decided anew");
        assert_eq!((before.change, before.status.round), (Change::Decide, Some(1)), "before it is over");
        let next = scene.decide(clocks(110, 110)).write.expect("the next round");
        assert_eq!((next.change, next.status.round), (Change::NextRound, Some(2)));
        assert_eq!((next.status.arrived, next.status.observed_generation), (Some(0), Some(2)));
        // An operator that was started meanwhile finds some deleted, and does not know yet for how long it has ended.
        scene.restart(clocks(110, 110));
        let waits = scene.decide(clocks(110, 110));
        let write = waits.write.expect("how many are left");
        assert_eq!((write.change, write.status.phase), (Change::Tell, Some(phase)));
        assert_eq!(waits.look_again, Some(at(120)));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Arrive(u8),
    Leave(u8),
    Edit(BarrierSpec),
    Pass(i64),
}

fn spec() -> impl Strategy<Value = BarrierSpec> {
    (1_u32..5, 1_u32..5, prop::bool::ANY, prop::option::of(1_u64..6), prop::option::of(1_u64..6)).prop_map(
        |(expected, quorum, has_quorum, timeout, reset)| {
            let seconds = |seconds: u64| konductor_api::GoDuration(std::time::Duration::from_secs(seconds));
            BarrierSpec {
                expected,
                quorum: (has_quorum && timeout.is_some()).then_some(quorum.min(expected)),
                timeout: timeout.map(seconds),
                reset_after: reset.map(seconds),
            }
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u8..6).prop_map(Event::Arrive),
        1 => (0_u8..6).prop_map(Event::Leave),
        1 => spec().prop_map(Event::Edit),
        3 => (1_i64..4).prop_map(Event::Pass),
    ]
}

proptest! {
    /// An end is final until an edit or the next round; rounds follow one another; an opening has its reason.
    #[test]
    fn a_round_ends_once(first in spec(), events in vec(event(), 1..60)) {
        let mut scene = Scene { spec: Some(first), generation: 1, ..Scene::default() };
        let mut time = 0;
        for event in events {
            let edited = matches!(event, Event::Edit(_));
            match event {
                Event::Arrive(key) => {
                    scene.arrived.entry(key.to_string()).or_insert((time, Since::begun(clocks(time, time))));
                }
                Event::Leave(key) => {
                    scene.arrived.remove(&key.to_string());
                }
                Event::Edit(spec) => {
                    scene.generation += i64::from(scene.spec.as_ref() != Some(&spec));
                    scene.spec = Some(spec);
                }
                Event::Pass(seconds) => time += seconds,
            }
            let now = clocks(time, time);
            let mut edited = edited;
            for step in 0.. {
                prop_assert!(step < 5);
                let plan = scene.decide(now);
                prop_assert!(plan.look_again.is_none_or(|again| again > at(time)));
                let Some(write) = plan.write else { break };
                let (spec, before) = (scene.spec.clone().expect("a spec"), scene.status.clone().unwrap_or_default());
                let status = &write.status;
                let count = scene.arrived.len() as u64;
                if before.round.is_some_and(|round| Some(round) != status.round) {
                    prop_assert_eq!(write.change, Change::NextRound);
                    prop_assert_eq!(before.round.map(|round| round + 1), status.round);
                    prop_assert!(before.phase != Some(Waiting) && spec.reset_after.is_some());
                    prop_assert_eq!((status.phase, status.arrived), (Some(Waiting), Some(0)));
                } else if before.phase != status.phase && before.phase.is_some() {
                    prop_assert_eq!(write.change, Change::Decide);
                    prop_assert!(before.phase == Some(Waiting) || edited);
                }
                let quorum = spec.quorum.map_or(u64::MAX, Into::into);
                if status.phase == Some(Open) && (before.phase != Some(Open) || edited) {
                    prop_assert!(count >= u64::from(spec.expected) || count >= quorum);
                }
                if status.phase == Some(Failed) && (before.phase != Some(Failed) || edited) {
                    prop_assert!(count < u64::from(spec.expected).min(quorum) && spec.timeout.is_some());
                }
                prop_assert_eq!(status.opened_at.is_some(), status.phase == Some(Open));
                prop_assert_eq!(status.failed_at.is_some(), status.phase == Some(Failed));
                prop_assert_eq!(status.observed_generation, Some(scene.generation));
                edited = false;
                scene.write(write.status, now);
            }
        }
    }
}
