//! Random histories of a semaphore with two operators and their clients: late and lost writes and answers, watches that
//! lag and are not in step, operators that list anew and such that both believe that they lead, resizes, deletions and
//! recreations, claims that cannot be read, pods that vanish, deaths, and time that passes.
//!
//! Clients keep the claim protocol: they trust a grant of the parent's term only, renew before they start when they
//! have not been heard of for long, and are dead when their TTL has passed without a renewal. What must always be true:
//! - the weights of all who hold never exceed the permits that there were when the last of them was granted;
//! - nobody's claim is taken away while it holds;
//! - fencing tokens increase from one holder to the next;
//! - who leads grants exactly what a plain reading of the rules says, and looks again only when there is something to
//!   do;
//! - when the faults end everybody is served.

#[path = "../fake/mod.rs"]
mod fake;
mod leader;
mod world;

use konductor_api::Queueing;
use proptest::{prelude::*, test_runner::RngAlgorithm};
use world::World;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create {
        weight: u32,
        priority: i32,
        ttl: u64,
    },
    Resize {
        permits: u32,
        queueing: Queueing,
    },
    DeleteSemaphore,
    Lead(usize),
    Follow(usize),
    Forget(usize),
    Relist(usize),
    Watch {
        operator: usize,
        events: usize,
        which: &'static [usize],
    },
    Decide(usize),
    List(usize),
    /// The list under way shows so many more claims.
    Page(usize, usize),
    Listed(usize),
    /// The list under way fails, and has to be asked for again.
    ListFails(usize),
    Arrive {
        operator: usize,
        write: usize,
        fate: Fate,
    },
    Answer {
        operator: usize,
        answer: usize,
    },
    LateArrival(usize),
    /// A write is late, and the next one of an operator is refused.
    LateThenRefused {
        operator: usize,
        write: usize,
    },
    /// An operator takes over while a claim cannot be read, which it can be before the list ends.
    ReadBeforeListed {
        operator: usize,
        client: usize,
    },
    Work(usize),
    See(usize),
    Confirm(usize),
    /// Sees, renews if need be, and confirms.
    Acquire(usize),
    Renew(usize),
    Release(usize),
    Die(usize),
    Proof {
        operator: usize,
        client: usize,
    },
    /// A look at a pod is answered.
    Look {
        operator: usize,
        look: usize,
    },
    /// The client's pod is deleted by force; it may live on.
    Vanish(usize),
    Unreadable {
        client: usize,
        unreadable: bool,
    },
    Edit(usize),
    Revoke(usize),
    Pass(u64),
}

/// What becomes of a write on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It arrives, and the answer is on its way.
    Arrives,
    /// It arrives, and the answer is lost.
    Unanswered,
    /// It is lost.
    Lost,
    /// The operator gives up on it, and it arrives later.
    Late,
    /// It is refused.
    Refused,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Which of those that there are: taken modulo their number.
    let (operator, client, which) = (|| 0..2_usize, || 0..60_usize, || 0..60_usize);
    let queueing = prop_oneof![Just(Queueing::StrictFIFO), Just(Queueing::BestEffortFIFO)];
    let watches = prop::sample::select(vec![&[0, 1][..], &[0], &[1]]);
    let fate = prop_oneof![
        6 => Just(Fate::Arrives),
        1 => Just(Fate::Unanswered),
        1 => Just(Fate::Lost),
        2 => Just(Fate::Late),
        1 => Just(Fate::Refused),
    ];
    let step = prop_oneof![
        8 => (1..=3_u32, 0..=1, prop_oneof![Just(5_u64), Just(30), Just(60)])
            .prop_map(|(weight, priority, ttl)| Step::Create { weight, priority, ttl }),
        3 => (0..=3_u32, queueing).prop_map(|(permits, queueing)| Step::Resize { permits, queueing }),
        2 => Just(Step::DeleteSemaphore),
        3 => operator().prop_map(Step::Lead),
        1 => operator().prop_map(Step::Follow),
        1 => operator().prop_map(Step::Forget),
        2 => operator().prop_map(Step::Relist),
        10 => (operator(), 1..4_usize, watches).prop_map(|(operator, events, which)| {
            Step::Watch { operator, events, which }
        }),
        16 => operator().prop_map(Step::Decide),
        4 => operator().prop_map(Step::List),
        3 => (operator(), 1..4_usize).prop_map(|(operator, claims)| Step::Page(operator, claims)),
        4 => operator().prop_map(Step::Listed),
        2 => operator().prop_map(Step::ListFails),
        24 => (operator(), which(), fate).prop_map(|(operator, write, fate)| Step::Arrive { operator, write, fate }),
        20 => (operator(), which()).prop_map(|(operator, answer)| Step::Answer { operator, answer }),
        6 => which().prop_map(Step::LateArrival),
        2 => (operator(), which()).prop_map(|(operator, write)| Step::LateThenRefused { operator, write }),
        2 => (operator(), client()).prop_map(|(operator, client)| Step::ReadBeforeListed { operator, client }),
        16 => operator().prop_map(Step::Work),
        6 => client().prop_map(Step::See),
        6 => client().prop_map(Step::Confirm),
        6 => client().prop_map(Step::Renew),
        24 => client().prop_map(Step::Acquire),
        5 => client().prop_map(Step::Release),
        2 => client().prop_map(Step::Die),
        2 => (operator(), client()).prop_map(|(operator, client)| Step::Proof { operator, client }),
        4 => (operator(), which()).prop_map(|(operator, look)| Step::Look { operator, look }),
        1 => client().prop_map(Step::Vanish),
        2 => (client(), any::<bool>()).prop_map(|(client, unreadable)| Step::Unreadable { client, unreadable }),
        1 => client().prop_map(Step::Edit),
        1 => client().prop_map(Step::Revoke),
        5 => prop_oneof![Just(100_u64), Just(1000)].prop_map(Step::Pass),
        3 => prop_oneof![Just(4000_u64), Just(16_000), Just(31_000)].prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 20_000, rng_algorithm: RngAlgorithm::XorShift, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_promises(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.everybody_is_served();
    }
}
