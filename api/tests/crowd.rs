//! Ten thousand claims on one parent: what they cost, and that many dead ones among them cost little.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, ClaimSpec, GoDuration, Lease, LeaseRequestSpec, LeaseSpec, Lock, Queueing, Semaphore,
    arbiter::{Claim, ClaimState, ClaimWrite, Now, Parent, ParentState, Reign, View, Write, decide},
    limits::{DEFAULT_TTL, PROOF_OF_LIFE},
};

#[path = "fake/mod.rs"]
mod fake;
use fake::{Api, Operator};

fn at(time: Duration) -> Now {
    Now { monotonic: time, wall: Timestamp::UNIX_EPOCH + time }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets the operator work until it rests, and says when it wants to look again.
fn work(api: &mut Api<Lease>, operator: &mut Operator, now: Now) -> Option<Duration> {
    for _ in 0..10_000 {
        operator.watch(api, usize::MAX, now);
        let plan = decide(&operator.view, now);
        operator.view.sent(&plan, now);
        if plan.writes.is_empty() && plan.list.is_none() {
            return plan.look_again;
        }
        if let Some(term) = plan.list {
            operator.listed(term, api.list(), now);
        }
        for write in plan.writes {
            let result = api.write(&write, now.wall).expect("nobody else writes");
            operator.acknowledge(&write, result, now);
        }
    }
    panic!("never rests");
}

fn request(name: &str) -> LeaseRequestSpec {
    let claim =
        ClaimSpec { priority: 0, holder: name.into(), instance: name.into(), pod: None, ttl: None, renew_time: None };
    LeaseRequestSpec { lease: "s".into(), claim }
}

fn holds(api: &Api<Lease>, name: &str) -> bool {
    api.claim(name).is_some_and(|claim| claim.state.phase == Some(ClaimPhase::Granted))
}

#[test]
fn a_hundred_dead_waiters_of_no_pod_are_found_out_while_somebody_still_holds() {
    let mut api = Api::<Lease>::new();
    api.put_parent(&LeaseSpec { ttl: GoDuration(DEFAULT_TTL) }, at(seconds(0)).wall, |_| ());
    let mut operator = Operator::new::<Lease>();
    operator.view.lead(at(seconds(0)));
    api.create_claim("holder", &request("holder"), at(seconds(0)).wall);
    work(&mut api, &mut operator, at(seconds(0)));
    for dead in 0..100 {
        api.create_claim(&format!("dead{dead}"), &request("dead"), at(seconds(0)).wall);
    }
    api.create_claim("live", &request("live"), at(seconds(0)).wall);
    // The live one's client renews as it is told that it is near its turn; the holder as usual.
    let (mut now, mut told) = (seconds(0), None);
    let run_until =
        |api: &mut Api<Lease>, operator: &mut Operator, told: &mut Option<String>, now: &mut Duration, end| {
            while *now < end {
                let again = work(api, operator, at(*now)).unwrap_or(end);
                let message = api.claim("live").and_then(|claim| claim.state.message);
                if *told != message {
                    *told = message;
                    let renewed = at(*now).wall;
                    api.edit_claim("live", |claim| claim.spec.claim.renew_time = Some(renewed.into()));
                }
                *now = again.max(*now + Duration::from_millis(1)).min(end);
            }
        };
    run_until(&mut api, &mut operator, &mut told, &mut now, PROOF_OF_LIFE * 4);
    assert_eq!(operator.view.waiting(), 5, "of the dead, three rounds of 32 are found out");
    api.delete_claim("holder");
    run_until(&mut api, &mut operator, &mut told, &mut now, PROOF_OF_LIFE * 6);
    assert!(holds(&api, "live"), "{:?}", api.claim("live"));
}

fn claim(number: u64, phase: ClaimPhase) -> Claim {
    let granted = phase == ClaimPhase::Granted;
    Claim {
        uid: format!("{:016x}-{number}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).into(),
        name: format!("claim-{number}"),
        version: 10 + number,
        generation: 1,
        created: 0,
        weight: 1,
        priority: 0,
        holder: format!("holder of {number}"),
        pod: None,
        ttl: None,
        renewed: None,
        revoke: None,
        deleting: false,
        state: ClaimState {
            phase: Some(phase),
            term: u64::from(granted),
            token: granted.then_some(number),
            ticket: Some(number),
            ..ClaimState::default()
        },
    }
}

/// How long each call takes while a parent with so many claims is taken over, served and resized.
fn calls(holders: u64, waiters: u64) -> Vec<(Duration, &'static str)> {
    let mut calls = vec![];
    let mut now = at(seconds(100));
    let mut parent = Parent {
        uid: "parent".into(),
        version: 1,
        generation: 1,
        created: 1,
        capacity: holders.max(1),
        ttl: seconds(300),
        queueing: Queueing::StrictFIFO,
        state: ParentState { term: 1, settled_term: 1, ..ParentState::default() },
    };
    let mut view = View::new(Semaphore::KIND, "s");
    let mut timed = |what: &'static str, view: &mut View, act: &mut dyn FnMut(&mut View)| {
        #[expect(clippy::disallowed_methods, reason = "measures")]
        let start = Instant::now();
        act(view);
        calls.push((start.elapsed(), what));
    };
    let claims: Vec<_> = (0..holders + waiters)
        .map(|number| claim(number, if number < holders { ClaimPhase::Granted } else { ClaimPhase::Pending }))
        .collect();
    view.observe_parent(parent.clone(), now);
    for claim in &claims {
        view.observe_claim(claim.clone(), now);
    }
    let mut kept: BTreeMap<_, _> = claims.into_iter().map(|claim| (claim.uid.clone(), claim)).collect();
    timed("lead", &mut view, &mut |view| view.lead(now));
    let mut granted = 0;
    for turn in 0..1_000 {
        let mut plan = None;
        timed("decide", &mut view, &mut |view| plan = Some(decide(view, now)));
        let plan = plan.expect("decided");
        timed("sent", &mut view, &mut |view| view.sent(&plan, now));
        if let Some(term) = plan.list {
            let all: Vec<_> = kept.values().cloned().collect();
            for page in all.chunks(500) {
                let mut page = Some(page.to_vec());
                timed("page", &mut view, &mut |view| view.page(term, page.take().unwrap_or_default(), now));
            }
            timed("listed", &mut view, &mut |view| view.listed(term, now));
        }
        for write in &plan.writes {
            match write {
                Write::Parent(write) => {
                    parent = Parent { version: parent.version + 1, state: write.change.state().clone(), ..parent };
                    timed("parent's answer", &mut view, &mut |view| {
                        view.acknowledged_parent(write, parent.clone(), now);
                    });
                }
                Write::Claim(write @ ClaimWrite { uid, change, .. }) => {
                    let Some(state) = change.state() else {
                        kept.remove(uid);
                        timed("claim gone", &mut view, &mut |view| view.claim_gone(uid, now));
                        continue;
                    };
                    let claim = kept.get_mut(uid).expect("a claim that exists");
                    claim.version += 1_000_000;
                    claim.state = state.clone();
                    granted += u32::from(change.name() == "grant");
                    timed("claim's answer", &mut view, &mut |view| view.acknowledged_claim(write, claim.clone(), now));
                }
            }
        }
        if plan.writes.is_empty() && plan.list.is_none() {
            now = at(plan.look_again.unwrap_or(now.monotonic + seconds(1)).max(now.monotonic));
        }
        if turn == 500 {
            parent = Parent { version: parent.version + 1, capacity: parent.capacity + 1000, ..parent };
            timed("resize", &mut view, &mut |view| view.observe_parent(parent.clone(), now));
        }
    }
    assert!(matches!(view.reign(), Reign::Settled { .. }), "{:?}", view.reign());
    assert!(waiters == 0 || granted >= 1000, "only {granted} were granted");
    calls
}

/// What anybody who may write the parent can make the operator do again and again.
fn changes_of_the_parent(holders: u64) -> Vec<(Duration, &'static str)> {
    let now = at(seconds(100));
    let mut parent = Parent {
        uid: "parent".into(),
        version: 1,
        generation: 1,
        created: 1,
        capacity: holders,
        ttl: seconds(300),
        queueing: Queueing::StrictFIFO,
        state: ParentState { term: 1, settled_term: 1, ..ParentState::default() },
    };
    let mut view = View::new(Semaphore::KIND, "s");
    view.observe_parent(parent.clone(), now);
    for number in 0..holders {
        let mut claim = claim(number, ClaimPhase::Granted);
        claim.state.ttl = Some(seconds(300));
        view.observe_claim(claim, now);
    }
    view.lead(now);
    let mut took = vec![];
    let mut timed = |what: &'static str, view: &mut View, act: &dyn Fn(&mut View)| {
        #[expect(clippy::disallowed_methods, reason = "measures")]
        let start = Instant::now();
        act(view);
        took.push((start.elapsed(), what));
    };
    parent = Parent { version: 2, ttl: seconds(200), ..parent };
    timed("another TTL", &mut view, &|view| view.observe_parent(parent.clone(), now));
    timed("the parent's deletion", &mut view, &|view| view.parent_gone("parent", now));
    parent = Parent { version: 3, uid: "anew".into(), state: ParentState::default(), ..parent };
    timed("the parent's creation", &mut view, &|view| view.observe_parent(parent.clone(), now));
    let plan = decide(&view, now);
    view.sent(&plan, now);
    let [Write::Parent(raise)] = &plan.writes[..] else { panic!("more than a raised term: {plan:?}") };
    parent = Parent { version: 4, state: raise.change.state().clone(), ..parent };
    timed("its new term", &mut view, &|view| view.acknowledged_parent(raise, parent.clone(), now));
    assert!(matches!(view.reign(), Reign::Listing { .. }), "{:?}", view.reign());
    took
}

#[test]
#[cfg_attr(debug_assertions, ignore = "measures; only with --release")]
fn no_change_of_a_parent_costs_what_is_held() {
    let runs = (0..4).map(|_| changes_of_the_parent(10_000));
    let shorter = |(one, other): ((Duration, &'static str), (Duration, &'static str))| one.min(other);
    let best = runs.reduce(|best, run| best.into_iter().zip(run).map(shorter).collect()).expect("a run");
    println!("{best:?}");
    for (took, what) in best {
        assert!(took <= Duration::from_millis(5), "{what} takes {took:?} beside 10,000 holders");
    }
}

/// Figures of a build without optimizations say nothing, so this is for `cargo test --release`.
#[test]
#[cfg_attr(debug_assertions, ignore = "measures; only with --release")]
fn no_single_call_takes_longer_than_a_turn_may() {
    for (holders, waiters) in [(1, 10_000), (1_000, 9_000), (10_000, 0)] {
        // Each run makes the same calls. The shortest of a few for each: the machine has other things to do, too.
        let shorter = |(one, other): ((Duration, &'static str), (Duration, &'static str))| one.min(other);
        let runs = (0..4).map(|_| calls(holders, waiters));
        let best = runs.reduce(|best, run| best.into_iter().zip(run).map(shorter).collect()).expect("a run");
        let (longest, call) = best.into_iter().max().expect("a call");
        println!("{holders} holders, {waiters} waiters: {longest:?} ({call})");
        assert!(longest <= Duration::from_millis(5), "{holders} holders, {waiters} waiters: {call} takes {longest:?}");
    }
}
