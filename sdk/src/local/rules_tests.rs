use konductor_api::{Lease, Lock, Queueing, Semaphore};
use proptest::prelude::*;

use super::*;
use crate::local::manifest::Position;

const WALL: i64 = 1_800_000_000;

fn wall() -> Timestamp {
    Timestamp::from_second(WALL).unwrap()
}

fn definition(capacity: u64, queueing: Queueing) -> Definition {
    let at = Position { file: "a.yaml".to_owned(), line: 1 };
    Definition { kind: Semaphore::KIND, name: "s".to_owned(), capacity, queueing, at }
}

fn with(mut state: State, name: &str, permits: u64, priority: i32) -> State {
    let holder = format!("holder of {name}");
    state.claims.push(Claim::waiting(name.to_owned(), holder, permits, priority, state.next_ticket));
    state.next_ticket += 1;
    state
}

fn without(mut state: State, name: &str) -> State {
    state.claims.retain(|claim| claim.name != name);
    state
}

fn decided(state: &State, capacity: u64) -> State {
    let state = reign(state, Semaphore::KIND, "s", Some(&definition(capacity, Queueing::StrictFIFO)), wall());
    state.print().expect("what the rules decide is believable");
    state
}

/// `a: held; b: next, looks at a`, as text.
fn shown(state: &State) -> Vec<String> {
    let mut all: Vec<_> = state.claims.iter().map(|claim| &claim.name).collect();
    all.sort();
    let standings = standings(state);
    let one = |name: &String| match &standings[name.as_str()] {
        Standing::Held { .. } => format!("{name} holds"),
        Standing::Waiting { ahead, permits, duty, .. } => {
            let sentry = if duty.sentry { " as a sentry" } else { "" };
            let missing = if permits.is_none() { " for what is missing" } else { "" };
            let looks: Vec<_> = duty.claims.keys().map(String::as_str).collect();
            format!("{name} waits{missing}{sentry} behind {}, looks at {}", ahead.unwrap(), looks.join(" "))
        }
        Standing::PassedOver => format!("{name} was passed over"),
        Standing::Gone => panic!("{name} is in the state"),
    };
    all.into_iter().map(one).collect()
}

#[test]
fn the_first_two_look_at_the_holders_and_everybody_at_who_is_in_front() {
    let mut state = State::default();
    for name in ["a", "b", "c", "d", "e"] {
        state = decided(&with(state, name, 1, 0), 2);
    }
    assert_eq!(
        shown(&state),
        [
            "a holds",
            "b holds",
            "c waits as a sentry behind 0, looks at a b",
            "d waits as a sentry behind 1, looks at a b c",
            "e waits behind 2, looks at d"
        ]
    );
    let urgent = decided(&with(state.clone(), "u", 1, 5), 2);
    assert_eq!(
        shown(&urgent),
        [
            "a holds",
            "b holds",
            "c waits as a sentry behind 0, looks at a b u",
            "d waits behind 1, looks at c",
            "e waits behind 2, looks at d",
            "u waits as a sentry behind 0, looks at a b"
        ]
    );
    // Only who was in front has another duty now. (Positions are told again when they have halved.)
    assert_eq!(concerned(&state, &urgent), ["c", "d"]);
    let released = decided(&without(state.clone(), "a"), 2);
    assert_eq!(
        shown(&released),
        [
            "b holds",
            "c holds",
            "d waits as a sentry behind 0, looks at b c",
            "e waits as a sentry behind 1, looks at b c d"
        ]
    );
    assert_eq!(concerned(&state, &released), ["c", "d", "e"]);
}

#[test]
fn who_was_passed_over_is_out_of_the_queue_until_it_says_something_and_then_first_again() {
    let mut state = State::default();
    for name in ["a", "b", "c"] {
        state = decided(&with(state, name, 1, 0), 1);
    }
    let mut state = decided(&without(state, "a"), 1);
    assert_eq!(shown(&state), ["b holds", "c waits as a sentry behind 0, looks at b"]);
    let token = state.claims[0].fencing_token;
    state.claims[0].pass_over();
    let mut passed = decided(&state, 1);
    assert_eq!(shown(&passed), ["b was passed over", "c holds"]);
    assert!(passed.claims[1].fencing_token > token);
    // Whatever is decided meanwhile.
    passed = decided(&with(passed, "d", 1, 0), 1);
    assert_eq!(shown(&passed), ["b was passed over", "c holds", "d waits as a sentry behind 0, looks at c"]);
    passed.claims[0].passed_over = false;
    let back = decided(&passed, 1);
    assert_eq!(
        shown(&back),
        ["b waits as a sentry behind 0, looks at c", "c holds", "d waits as a sentry behind 0, looks at b c"]
    );
    assert_eq!(shown(&decided(&without(back, "c"), 1))[0], "b holds");
}

#[test]
fn without_a_manifest_claims_wait_and_say_so() {
    let missing = reign(&with(State::default(), "a", 1, 0), Lease::KIND, "s", None, wall());
    assert_eq!(shown(&missing), ["a waits for what is missing as a sentry behind 0, looks at "]);
    assert_eq!(missing.claims[0].message.as_deref(), Some("waits for lease s, which does not exist yet"));
    assert_eq!(shown(&decided(&missing, 1)), ["a holds"]);
}

#[test]
fn holders_keep_what_they_have_when_the_manifest_goes_or_shrinks() {
    let held = decided(&with(with(State::default(), "a", 1, 0), "b", 1, 0), 2);
    let token = |state: &State| state.claims[0].fencing_token;
    for later in [decided(&held, 0), reign(&held, Semaphore::KIND, "s", None, wall())] {
        assert_eq!((shown(&later), token(&later)), (shown(&held), token(&held)));
        let back = decided(&with(later, "c", 1, 0), 2);
        assert_eq!(shown(&back), ["a holds", "b holds", "c waits as a sentry behind 0, looks at a b"]);
        assert_eq!(token(&back), token(&held));
    }
}

#[test]
fn terms_start_from_the_time_of_day_and_rise_when_it_does_not() {
    let first = decided(&with(State::default(), "a", 1, 0), 1);
    assert_eq!(first.term, WALL as u64);
    assert_eq!(decided(&first, 1).term, WALL as u64 + 1);
}

#[test]
fn all_of_a_long_queue_are_told_their_place() {
    let state = (0..1000).fold(State::default(), |state, n| with(state, &format!("c{n}"), 1, 0));
    let state = decided(&state, 5);
    let told = state.claims.iter().filter(|claim| claim.ahead.is_some()).count();
    assert_eq!((told, standings(&state).len()), (995, 1000));
}

/// What can happen between two transactions.
#[derive(Clone, Debug)]
enum Step {
    Add {
        permits: u64,
        priority: i32,
    },
    /// The holder or waiter at this place ends.
    End(prop::sample::Index),
    Resize(u64),
    Vanish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u64, -1..2_i32).prop_map(|(permits, priority)| Step::Add { permits, priority }),
        3 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => (0..6_u64).prop_map(Step::Resize),
        1 => Just(Step::Vanish),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_are_kept(steps in prop::collection::vec(step(), 1..40), strict in any::<bool>()) {
        let queueing = if strict { Queueing::StrictFIFO } else { Queueing::BestEffortFIFO };
        let (mut state, mut capacity, mut highest) = (State::default(), Some(2), 0);
        for (number, step) in steps.into_iter().enumerate() {
            let mut next = state.clone();
            match step {
                Step::Add { permits, priority } => next = with(next, &format!("c{number}"), permits, priority),
                Step::End(_) if next.claims.is_empty() => {}
                Step::End(at) => drop(next.claims.remove(at.index(next.claims.len()))),
                Step::Resize(to) => capacity = Some(to),
                Step::Vanish => capacity = None,
            }
            let definition = capacity.map(|capacity| definition(capacity, queueing));
            let decided = reign(&next, Semaphore::KIND, "s", definition.as_ref(), wall());
            prop_assert!(decided.print().is_ok(), "{:?}", decided.print());
            prop_assert_eq!(decided.claims.len(), next.claims.len());
            let (before, after) = (standings(&state), standings(&decided));
            prop_assert_eq!(after.len(), decided.claims.len());
            let held = |claim: &&Claim| matches!(after[claim.name.as_str()], Standing::Held { .. });
            let in_use: u64 = decided.claims.iter().filter(held).map(|claim| claim.permits).sum();
            let mut newly: Vec<_> = decided.claims.iter().filter(held).filter(|claim| {
                !matches!(before.get(claim.name.as_str()), Some(Standing::Held { .. }))
            }).collect();
            if !newly.is_empty() {
                prop_assert!(in_use <= capacity.unwrap_or(0), "{in_use} of {capacity:?}");
            }
            // Who held, holds, with the token that it was given.
            for claim in &next.claims {
                if let Some(Standing::Held { token }) = before.get(claim.name.as_str()) {
                    prop_assert_eq!(&after[claim.name.as_str()], &Standing::Held { token: *token });
                }
            }
            newly.sort_by_key(|claim| claim.fencing_token);
            for claim in newly {
                prop_assert!(claim.fencing_token > Some(highest));
                highest = claim.fencing_token.unwrap();
            }
            // Everybody who waits looks at somebody who is there, one or two of them at the manifests and all holders.
            let (mut sentries, mut waiters) = (0, 0);
            for standing in after.values() {
                if let Standing::Waiting { duty, .. } = standing {
                    waiters += 1;
                    sentries += usize::from(duty.sentry);
                    prop_assert!(duty.sentry || duty.claims.len() == 1);
                    prop_assert!(duty.claims.keys().all(|name| after.contains_key(name.as_str())));
                    let holders = decided.claims.iter().filter(held);
                    prop_assert!(!duty.sentry || holders.clone().all(|claim| duty.claims[&claim.name] == claim.fencing_token));
                }
            }
            prop_assert_eq!(sentries, waiters.min(limits::SENTRIES));
            // There is nothing left to decide.
            let again = reign(&decided, Semaphore::KIND, "s", definition.as_ref(), wall());
            prop_assert_eq!(standings(&again), after);
            state = decided;
        }
    }
}
