//! A few histories in every build; `sim/run` lives through many.

use crate::{mutation::Mutation, plan::Plan, world::live};

#[test]
fn histories_break_no_promise() {
    for seed in 1..=20 {
        let outcome = live(&Plan::of(seed), false);
        assert!(outcome.broken.is_empty(), "seed {seed}: {:?}", outcome.broken);
    }
}

/// Histories in which something was broken once.
#[test]
fn what_was_mended_stays_so() {
    let scripts = [
        include_str!("../scripts/claim-as-it-was-before.json"),
        include_str!("../scripts/released-claim-in-an-old-backup.json"),
        include_str!("../scripts/claim-lost-before-its-first-watch.json"),
        include_str!("../scripts/claim-lost-before-another-watch.json"),
        include_str!("../scripts/timeout-that-a-wrong-clock-began.json"),
        include_str!("../scripts/refused-renewals-between-short-watches.json"),
        include_str!("../scripts/lock-created-again-within-a-second.json"),
        include_str!("../scripts/condition-that-only-a-broken-list-showed.json"),
        include_str!("../scripts/arrival-that-only-a-broken-list-showed.json"),
        include_str!("../scripts/list-that-is-ahead-of-its-watch.json"),
    ];
    for script in scripts {
        let plan: Plan = serde_json::from_str(script).expect("a plan");
        let outcome = live(&plan, false);
        assert!(outcome.broken.is_empty(), "seed {}: {:?}", plan.seed, outcome.broken);
    }
}

#[test]
fn what_breaks_a_promise_is_noticed() {
    for (mutation, promise) in [
        (Mutation::CommandsOutliveTheirRelease, "I2"),
        (Mutation::RenewalsAreForgotten, "I2"),
        (Mutation::ArrivalsAreForgotten, "liveness"),
        (Mutation::DeletionsAreNotTold, "memory"),
        (Mutation::GivenUpRequestsAreKept, "memory"),
        (Mutation::ConditionsAreHeardLate, "exact"),
        (Mutation::OperatorsSeeNoRounds, "barrier-0 is"),
        (Mutation::OperatorsSeeNoDeaths, "is held, and its container has ended"),
        (Mutation::OperatorsSeeLongTtls, "is held, and it was renewed"),
        (Mutation::ClientsSeeFalseExpiry, "I5"),
        (Mutation::DeadlinesAreNotTold, "is not told that its deadline has passed"),
        (Mutation::WatchdogsSleep, "after its deadline at"),
        (Mutation::TokensAreSwapped, "order"),
        (Mutation::UseIsForgotten, "I8"),
    ] {
        let noticed = (1..=60).find(|seed| {
            let plan = Plan { mutation: Some(mutation), ..Plan::of(*seed) };
            live(&plan, false).broken.iter().any(|broken| broken.what.contains(promise))
        });
        assert!(noticed.is_some(), "{mutation:?} is not noticed");
    }
}

#[test]
fn a_story_is_told_to_whoever_asks() {
    let outcome = live(&Plan::of(1), true);
    assert!(outcome.story.contains("operator 0 starts") && outcome.steps > 0, "{}", outcome.story);
}
