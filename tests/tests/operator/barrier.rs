//! Barriers: who has arrived, when they open and fail, and how a new round begins.

use std::collections::BTreeMap;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use konductor_api::RendezvousPhase::{Failed, Open, Waiting};
use konductor_api::{Arrival, Barrier, Rendezvous};
use konductor_tests::{ControlPlane, Installed, Process, Signal, eventually, wait_gone};
use kube::ResourceExt;
use kube::api::{PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::admission::controlled;
use crate::cluster::LIMIT;
use crate::rendezvous::{Place, arrived, conditions, place, round};

#[tokio::test]
async fn a_barrier_opens_when_all_have_arrived_and_stays_open() {
    let place = place("opens").await;
    // Before there is a barrier, and before one of the same name that nobody waits for.
    place.arrive("b", "early").await;
    place.arrive("c", "elsewhere").await;
    place.barrier("b", json!({ "expected": 3 })).await;
    let barrier = place.until("b", |barrier| arrived(barrier) == Some(1)).await;
    assert_eq!(conditions(&barrier), ["Ready True Accepted", "Open False Waiting", "Failed False Waiting"]);
    assert_eq!((barrier.phase(), barrier.message()), (Some(Waiting), Some("1 of 3 have arrived")));
    place.arrive("b", "1").await;
    // The same key by another name, as somebody with kubectl might make it.
    let again = json!({ "spec": { "barrier": "b", "holder": "me", "key": "1" } });
    place.create::<Arrival>("again", again).await;
    place.until("b", |barrier| arrived(barrier) == Some(2)).await;
    place.arrive("b", "2").await;
    let barrier = place.barrier_in("b", Open).await;
    assert_eq!(conditions(&barrier), ["Ready True Accepted", "Open True Arrived", "Failed False Arrived"]);
    assert_eq!(
        (barrier.message(), arrived(&barrier), round(&barrier)),
        (Some("3 of 3 have arrived"), Some(3), Some(1))
    );
    // Those who leave again do not close it, those who come late are counted.
    place.delete::<Arrival>("b-2").await;
    place.delete::<Arrival>("b-early").await;
    let after = place.until("b", |barrier| arrived(barrier) == Some(1)).await;
    assert_eq!(after.phase(), Some(Open));
    assert_eq!(after.status.expect("a status").opened_at, barrier.status.expect("a status").opened_at);
    place.arrive("b", "late").await;
    let after = place.until("b", |barrier| arrived(barrier) == Some(2)).await;
    assert_eq!(after.phase(), Some(Open));
}

#[tokio::test]
async fn an_edit_of_expected_decides_anew() {
    let place = place("edited").await;
    place.barrier("b", json!({ "expected": 2 })).await;
    place.arrive("b", "1").await;
    place.arrive("b", "2").await;
    let first = place.barrier_in("b", Open).await;
    place.patch::<Barrier>("b", json!({ "spec": { "expected": 3 } })).await;
    let barrier = place.barrier_in("b", Waiting).await;
    assert_eq!((barrier.message(), round(&barrier)), (Some("2 of 3 have arrived"), Some(1)));
    assert_eq!(barrier.status.expect("a status").opened_at, None);
    place.patch::<Barrier>("b", json!({ "spec": { "expected": 1 } })).await;
    let barrier = place.barrier_in("b", Open).await;
    let opened = |barrier: &Barrier| barrier.status.as_ref().and_then(|status| status.opened_at.clone());
    assert!(opened(&barrier).map(|at| at.0) > opened(&first).map(|at| at.0));
    // Still open after an edit: open since then.
    place.patch::<Barrier>("b", json!({ "spec": { "expected": 2 } })).await;
    let same = place.barrier_in("b", Open).await;
    assert_eq!(opened(&same), opened(&barrier));
}

#[tokio::test]
async fn a_barrier_that_waited_too_long_fails_or_makes_do_with_a_quorum() {
    let place = place("late").await;
    // They arrive first, so that no slow machine makes one of them late.
    for (barrier, key) in [("fails", "1"), ("fails", "2"), ("quorum", "1"), ("quorum", "2"), ("no-quorum", "1")] {
        place.arrive(barrier, key).await;
    }
    place.barrier("fails", json!({ "expected": 3, "timeout": "2s" })).await;
    place.barrier("quorum", json!({ "expected": 3, "quorum": 2, "timeout": "2s" })).await;
    place.barrier("no-quorum", json!({ "expected": 3, "quorum": 2, "timeout": "2s" })).await;
    place.barrier("nobody", json!({ "expected": 1, "timeout": "1s" })).await;
    let barrier = place.barrier_in("fails", Failed).await;
    assert_eq!(conditions(&barrier), ["Ready True Accepted", "Open False TimedOut", "Failed True TimedOut"]);
    assert_eq!(barrier.message(), Some("only 2 of 3 had arrived 2s after the first"));
    assert!(barrier.status.expect("a status").failed_at.is_some());
    let barrier = place.barrier_in("quorum", Open).await;
    assert_eq!(conditions(&barrier), ["Ready True Accepted", "Open True Quorum", "Failed False Quorum"]);
    place.barrier_in("no-quorum", Failed).await;
    // Final: who comes now is too late.
    place.arrive("fails", "3").await;
    let barrier = place.until("fails", |barrier| arrived(barrier) == Some(3)).await;
    assert_eq!(barrier.phase(), Some(Failed));
    // Nobody has arrived here, so nothing was waited for.
    assert_eq!(place.barrier_in("nobody", Waiting).await.message(), Some("0 of 1 have arrived"));
    // Unless somebody who may edits it.
    place.patch::<Barrier>("fails", json!({ "spec": { "expected": 2 } })).await;
    place.barrier_in("fails", Open).await;
}

/// Waits until the barrier, which cannot fail, is open in this round. A slow machine may look when the next one has
/// begun.
async fn ended(place: &Place, name: &str, number: u64) {
    place
        .until::<Barrier>(name, |barrier| match round(barrier) {
            Some(round) if round == number => barrier.phase() == Some(Open),
            round => round == Some(number + 1),
        })
        .await;
}

#[tokio::test]
async fn kubectl_waits_for_what_is_to_open() {
    let place = place("kubectl").await;
    place.barrier("b", json!({ "expected": 1 })).await;
    let condition = json!({ "type": "Barrier", "name": "b", "state": "Open" });
    place.gate("g", json!({ "conditions": [condition] })).await;
    place.barrier_in("b", Waiting).await;
    let kubeconfig = place.0.user_kubeconfig("person", Some("system:masters"));
    let wait = |what: &str| {
        let mut kubectl = Command::new("kubectl");
        // What it remembers of other clusters at this address is none of this one.
        kubectl.arg("--cache-dir").arg(kubeconfig.with_file_name("cache")).arg("--kubeconfig").arg(&kubeconfig);
        kubectl.args(["wait", "--for=condition=Open", "--timeout=3m", what]);
        Process::spawn("kubectl", kubectl)
    };
    let mut waiting = [wait("barrier/b"), wait("gate/g")];
    place.arrive("b", "1").await;
    for kubectl in &mut waiting {
        kubectl.expect_exit(LIMIT, 0).await;
        assert!(kubectl.stdout().contains("condition met"), "{}", kubectl.output());
    }
}

#[tokio::test]
async fn a_new_round_begins_with_nobody_arrived_and_all_names_free() {
    let place = place("rounds").await;
    place.barrier("b", json!({ "expected": 2, "resetAfter": "1s" })).await;
    for number in 1..=3 {
        place.until::<Barrier>("b", |barrier| round(barrier) == Some(number) && barrier.phase() == Some(Waiting)).await;
        // The names of every round, as they follow from barrier and key.
        place.arrive("b", "1").await;
        let barrier = place.until("b", |barrier| arrived(barrier) == Some(1)).await;
        assert_eq!((round(&barrier), barrier.phase()), (Some(number), Some(Waiting)));
        place.arrive("b", "2").await;
        ended(&place, "b", number).await;
    }
    let barrier = place.until::<Barrier>("b", |barrier| round(barrier) == Some(4)).await;
    assert_eq!((barrier.phase(), arrived(&barrier)), (Some(Waiting), Some(0)));
    assert_eq!(place.arrivals().await, [""; 0]);
}

#[tokio::test]
async fn arrivals_are_collected_with_their_barrier_and_do_not_count_for_the_next_one_of_its_name() {
    let (control_plane, installed) = controlled().await;
    let mut operator = installed.operator("only", &["--election", "always"]);
    let place = Place(control_plane.namespace("collected").await);
    place.arrive("b", "before").await;
    place.barrier("b", json!({ "expected": 3 })).await;
    place.arrive("b", "after").await;
    // A client that has read the barrier names it as the owner itself.
    let barrier = place.until::<Barrier>("b", |barrier| arrived(barrier) == Some(2)).await;
    let owner = |uid: &str| json!([{ "apiVersion": "konductor.io/v1", "kind": "Barrier", "name": "b", "uid": uid }]);
    let of = |owner: serde_json::Value, key: &str| json!({ "metadata": { "ownerReferences": owner }, "spec": { "barrier": "b", "holder": "h", "key": key } });
    let uid = barrier.uid().expect("a UID");
    let own = place.create::<Arrival>("own", of(owner(&uid), "own")).await;
    place.barrier_in("b", Open).await;
    for name in ["b-before", "b-after"] {
        place.until::<Arrival>(name, |arrival| arrival.owner_references().iter().any(|owner| owner.uid == uid)).await;
    }
    // Nobody has touched this one.
    let untouched = place.api::<Arrival>().get("own").await.expect("read");
    assert_eq!(untouched.resource_version(), own.resource_version());

    // Also while no operator runs.
    operator.signal(Signal::SIGTERM);
    operator.expect_exit(LIMIT, 0).await;
    place.delete::<Barrier>("b").await;
    for name in ["b-before", "b-after", "own"] {
        wait_gone(&place.api::<Arrival>(), name, LIMIT).await;
    }
    place.barrier("b", json!({ "expected": 2 })).await;
    let next = place.api::<Barrier>().get("b").await.expect("read").uid().expect("a UID");
    // Kubernetes will delete the first one; whether it has or not, it does not count.
    place.create::<Arrival>("of-former", of(owner(&uid), "former")).await;
    place.create::<Arrival>("of-this", of(owner(&next), "this")).await;
    let _operator = installed.operator("next", &["--election", "always"]);
    let barrier = place.until("b", |barrier| arrived(barrier).is_some()).await;
    assert_eq!((arrived(&barrier), barrier.phase()), (Some(1), Some(Waiting)));
}

/// Notes every state of a barrier that a watch from this version on shows, and fails at the first that must not follow the
/// one before.
async fn watch_for_flaps(place: &Place, name: &str, mut version: String, until_round: u64) -> BTreeMap<u64, usize> {
    let api = place.api::<Barrier>();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let (mut opened, mut before) = (BTreeMap::new(), (1, Waiting));
    loop {
        let mut events = pin!(api.watch(&params, &version).await.expect("watch"));
        while let Some(event) = events.try_next().await.expect("an event") {
            let (WatchEvent::Added(barrier) | WatchEvent::Modified(barrier)) = event else { continue };
            version = barrier.resource_version().expect("a version");
            let (Some(round), Some(phase)) = (round(&barrier), barrier.phase()) else { continue };
            let now = (round, phase);
            let follows = now == before
                || before.0 == round && before.1 == Waiting && phase == Open
                || before.0 + 1 == round && before.1 == Open && phase == Waiting;
            assert!(follows, "{now:?} after {before:?}: {barrier:#?}");
            if now != before && phase == Open {
                *opened.entry(round).or_insert(0) += 1;
                assert_eq!(arrived(&barrier), Some(3), "{barrier:#?}");
            }
            before = now;
            if round == until_round {
                return opened;
            }
        }
    }
}

#[tokio::test]
async fn two_operators_that_both_lead_open_each_round_once_and_count_no_arrival_twice() {
    const ROUNDS: u64 = 5;
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let _both =
        [installed.operator("one", &["--election", "always"]), installed.operator("two", &["--election", "always"])];
    let place = Place(control_plane.namespace("both").await);
    place.barrier("b", json!({ "expected": 3, "resetAfter": "1s" })).await;
    // Before anything has become of it.
    let version = place.until::<Barrier>("b", |barrier| round(barrier) == Some(1)).await.resource_version();
    let people = async {
        for number in 1..=ROUNDS {
            place.until::<Barrier>("b", |barrier| round(barrier) == Some(number)).await;
            for key in ["1", "2", "3"] {
                place.arrive("b", key).await;
            }
        }
    };
    let (opened, ()) = tokio::join!(watch_for_flaps(&place, "b", version.expect("a version"), ROUNDS + 1), people);
    assert_eq!(opened, (1..=ROUNDS).map(|round| (round, 1)).collect());
}

#[tokio::test]
async fn a_round_survives_the_operators_that_begin_and_end_it() {
    let control_plane = ControlPlane::start().await;
    let installed = Installed::on(&control_plane, true).await;
    let mut operator = installed.operator("0", &["--lease-duration", "2s"]);
    let place = Place(control_plane.namespace("survives").await);
    place.barrier("b", json!({ "expected": 3, "resetAfter": "1s" })).await;
    for number in 1..=4 {
        place.until::<Barrier>("b", |barrier| round(barrier) == Some(number) && barrier.phase() == Some(Waiting)).await;
        place.arrive("b", "1").await;
        place.until("b", |barrier| arrived(barrier) == Some(1)).await;
        place.arrive("b", "2").await;
        if number % 2 == 1 {
            // Killed with one to come. The next one finds the round where it is.
            operator.signal(Signal::SIGKILL);
            operator.expect_exit(LIMIT, 137).await;
            place.arrive("b", "3").await;
            operator = installed.operator(&number.to_string(), &["--lease-duration", "2s"]);
            ended(&place, "b", number).await;
        } else {
            place.arrive("b", "3").await;
            ended(&place, "b", number).await;
            // Killed while the next round is due. The next one begins it.
            operator.signal(Signal::SIGKILL);
            operator.expect_exit(LIMIT, 137).await;
            operator = installed.operator(&number.to_string(), &["--lease-duration", "2s"]);
        }
    }
}

#[tokio::test]
async fn ten_thousand_arrive() {
    const ALL: u32 = 10_000;
    let place = place("many").await;
    place.barrier("b", json!({ "expected": ALL, "resetAfter": "1s" })).await;
    let uid = place.api::<Barrier>().get("b").await.expect("read").uid();
    let owner = json!([{ "apiVersion": "konductor.io/v1", "kind": "Barrier", "name": "b", "uid": uid }]);
    let api = place.api::<Arrival>();
    let create = |number: u32| {
        let (api, owner) = (api.clone(), owner.clone());
        async move {
            let arrival = json!({
                "metadata": { "name": format!("b-{number}"), "ownerReferences": owner },
                "spec": { "barrier": "b", "holder": "h", "key": number.to_string() },
            });
            let arrival = serde_json::from_value(arrival).expect("an Arrival");
            api.create(&PostParams::default(), &arrival).await.expect("arrive");
        }
    };
    stream::iter(0..ALL - 1).for_each_concurrent(32, create).await;
    // Long enough for all these writes.
    let limit = Duration::from_mins(5);
    let count = |wanted: u64| {
        let place = &place;
        move || async move {
            let barrier = place.api::<Barrier>().get("b").await.expect("read");
            assert_eq!(barrier.phase(), Some(Waiting));
            if arrived(&barrier) == Some(wanted) { Ok(()) } else { Err(format!("{:?}", arrived(&barrier))) }
        }
    };
    eventually(limit, "all but one counted", count(u64::from(ALL) - 1)).await;
    let begun = tokio::time::Instant::now();
    create(ALL - 1).await;
    let open = place.barrier_in("b", Open).await;
    println!("10,000 arrivals: open {:?} after the last was sent", begun.elapsed());
    assert_eq!(arrived(&open), Some(ALL.into()));
    let begun = tokio::time::Instant::now();
    konductor_tests::wait_for(&place.api::<Barrier>(), "b", limit, |barrier| round(barrier) == Some(2)).await;
    println!("10,000 arrivals: next round {:?} later", begun.elapsed());
    assert_eq!(place.arrivals().await, [""; 0]);
}
