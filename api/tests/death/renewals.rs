//! How seldom a claim may be renewed whose end the kubelet tells. Three spans bear on it: after how long the holder renews
//! (`interval`), after how long without an answered renewal it ends itself (`fence`), and after how long without a
//! renewal the operator frees the claim (`ttl`). Today they are TTL / 3, TTL and TTL.
//!
//! Every moment at which a node can be cut off, come back, or its container end is tried, for all small spans, with the
//! real rules of the operator. What comes out:
//!
//! - *a holder is dead before its claim is free* (I2) if and only if `fence <= ttl`: of a node that is cut off nobody hears,
//!   and its containers go on running, so that only the holder's own deadline ends it;
//! - *who is well goes on* if and only if a renewal and its answer fit into the fence: `interval + answer <= fence`;
//! - *nothing stays locked* (I4) after a lost node within `ttl`, and not sooner; after an end that the kubelet can tell, at
//!   once, whatever the TTL is.
//!
//! So `interval < fence <= ttl`: who wants fewer renewals has to wait as much longer for the lock of a lost node, whether
//! there is a kubelet or not. Its word makes that the only price.

use std::time::Duration;

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, ClaimSpec, GoDuration, Lease, LeaseRequestSpec, LeaseSpec, PodReference,
    arbiter::{Now, PodSight, decide},
};

#[path = "../fake/mod.rs"]
mod fake;
use fake::{Api, Operator};

/// One step of time: longer than anything here takes but what is counted in steps.
const STEP: Duration = Duration::from_secs(20);

/// So many steps are lived through: whatever is going to happen by the spans below has happened by then.
const STEPS: u32 = 18;

/// The steps within which something begins to happen.
const BEGINNINGS: u32 = 6;

/// An answer to a renewal takes so many steps at most.
const SLOWEST: u32 = 1;

/// How long, in steps.
#[derive(Clone, Copy, Debug)]
struct Spans {
    interval: u32,
    fence: u32,
    ttl: u32,
}

/// When the operator holds a claim for free.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Freed {
    /// Its holder was silent for the TTL, or the kubelet has told of its end.
    SilenceOrWord,
    /// Only the kubelet's word counts: as long as it has told of no end, the claim counts as renewed.
    WordAlone,
    /// A node that is silent is taken for dead.
    LostNode,
}

/// What happens, and when.
#[derive(Clone, Copy, Debug, Default)]
struct History {
    /// Who is cut off from the API server, from when, and until when if it ends.
    cut: Option<(Cut, u32, Option<u32>)>,
    /// The container ends by itself: it crashes, say.
    end: Option<u32>,
    /// How long renewals are under way.
    answer: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The whole node.
    Node,
    /// The container, and not its kubelet.
    Container,
    /// The kubelet, which has stopped, say; the container goes on and is answered.
    Kubelet,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// When the next one got the lock.
    freed: Option<u32>,
    /// The holder ran on then.
    beside: bool,
    /// The holder ended itself.
    fenced: bool,
    renewals: u32,
}

impl History {
    fn is_cut(&self, who: Cut, at: u32) -> bool {
        self.cut.is_some_and(|(cut, from, until)| {
            (cut == who || cut == Cut::Node) && from <= at && until.is_none_or(|until| at < until)
        })
    }

    /// All of them.
    fn all() -> impl Iterator<Item = Self> {
        let spans = || (0..BEGINNINGS).flat_map(|from| (1..=BEGINNINGS).map(move |long| (from, Some(from + long))));
        let lasting = || (0..BEGINNINGS).map(|from| (from, None));
        let cuts = [Cut::Node, Cut::Container, Cut::Kubelet]
            .into_iter()
            .flat_map(move |who| spans().chain(lasting()).map(move |(from, until)| Some((who, from, until))));
        cuts.chain([None]).flat_map(|cut| {
            let ends = [None].into_iter().chain((0..BEGINNINGS).map(Some));
            ends.flat_map(move |end| (0..=SLOWEST).map(move |answer| Self { cut, end, answer }))
        })
    }
}

/// The operator, and what it reads and writes.
#[derive(Clone)]
struct World {
    api: Api<Lease>,
    operator: Operator,
}

fn at(step: u32) -> Now {
    let time = STEP * step;
    Now { monotonic: time, wall: Timestamp::UNIX_EPOCH + time }
}

fn request(name: &str) -> LeaseRequestSpec {
    let pod = PodReference { container: "main".into(), start: "1".into(), ..PodReference::whole(name, name) };
    let (holder, instance) = (name.into(), name.into());
    let claim = ClaimSpec { priority: 0, holder, instance, pod: Some(pod), ttl: None, renew_time: None };
    LeaseRequestSpec { lease: "s".into(), claim }
}

impl World {
    /// At the moment at which the holder has its grant, and another one waits.
    fn new(ttl: u32) -> Self {
        let mut world = Self { api: Api::new(), operator: Operator::new::<Lease>() };
        world.api.put_parent(&LeaseSpec { ttl: GoDuration(STEP * ttl) }, at(0).wall, |_| ());
        world.operator.view.lead(at(0));
        for name in ["holder", "next"] {
            world.api.create_claim(name, &request(name), at(0).wall);
            world.decide(at(0), PodSight::Lives);
        }
        assert!(world.has("holder") && !world.has("next"));
        world
    }

    fn has(&self, name: &str) -> bool {
        self.api.claim(name).is_some_and(|claim| claim.state.phase == Some(ClaimPhase::Granted))
    }

    fn renew(&mut self, now: Now) {
        self.api.edit_claim("holder", |claim| claim.spec.claim.renew_time = Some(now.wall.into()));
    }

    /// Lets the operator see and decide until it rests. `sight` is what a look at the holder's pod shows.
    fn decide(&mut self, now: Now, sight: PodSight) {
        for _ in 0..100 {
            self.operator.watch(&self.api, usize::MAX, now);
            let plan = decide(&self.operator.view, now);
            self.operator.view.sent(&plan, now);
            if plan.writes.is_empty() && plan.list.is_none() && plan.looks.is_empty() {
                return;
            }
            if let Some(term) = plan.list {
                self.operator.listed(term, self.api.list(), now);
            }
            for write in plan.writes {
                let result = self.api.write(&write, now.wall).expect("nobody else writes meanwhile");
                self.operator.acknowledge(&write, result, now);
            }
            for look in plan.looks {
                let sight = if look.pod.name == "holder" { sight } else { PodSight::Lives };
                self.operator.view.looked(&look.claim, sight, now);
            }
        }
        panic!("never rests");
    }

    /// Lives through a history.
    fn live(mut self, spans: Spans, freed: Freed, history: History) -> Outcome {
        let mut outcome = Outcome::default();
        let uid = self.api.claim("holder").expect("it was created").uid;
        let (mut runs, mut told) = (true, false);
        // The grant counts as the first renewal. At most one is under way.
        let (mut renewed, mut under_way) = (0, None::<u32>);
        for step in 0..STEPS {
            let now = at(step);
            runs &= history.end != Some(step);
            if let Some(sent) = under_way.filter(|sent| sent + history.answer <= step) {
                // What was sent arrives, also when its answer does not.
                self.renew(now);
                under_way = None;
                if !history.is_cut(Cut::Container, step) {
                    renewed = sent;
                }
            }
            if runs && step >= renewed + spans.fence {
                (runs, outcome.fenced) = (false, true);
            }
            let due = runs && under_way.is_none() && step >= renewed + spans.interval;
            if due && !history.is_cut(Cut::Container, step) {
                outcome.renewals += 1;
                under_way = Some(step);
                if history.answer == 0 {
                    self.renew(now);
                    (under_way, renewed) = (None, step);
                }
            }
            told |= !runs && !history.is_cut(Cut::Kubelet, step);
            if freed == Freed::WordAlone && !told {
                self.renew(now);
            }
            let lost = freed == Freed::LostNode && history.is_cut(Cut::Kubelet, step);
            if told || lost {
                self.operator.view.holder_died(&uid, now);
            }
            self.decide(now, if told { PodSight::Ended } else { PodSight::Lives });
            if self.has("next") {
                (outcome.freed, outcome.beside) = (Some(step), runs);
                return outcome;
            }
        }
        outcome
    }
}

/// What holds in all histories.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Verdict {
    /// A holder is dead before its claim is free.
    never_beside: bool,
    /// A holder that is neither cut off nor ends goes on.
    well_goes_on: bool,
    /// The longest time from when a node was lost for ever to when its lock was free; `None`: never.
    lost_node: Option<u32>,
    /// The longest time from an end that the kubelet could tell at once.
    told_end: Option<u32>,
}

fn judge(spans: Spans, freed: Freed) -> Verdict {
    let world = World::new(spans.ttl);
    let (mut never_beside, mut well_goes_on) = (true, true);
    let (mut lost_node, mut told_end) = (Some(0), Some(0));
    for history in History::all() {
        let outcome = world.clone().live(spans, freed, history);
        never_beside &= !outcome.beside;
        let since = |begun: u32| outcome.freed.map(|freed| freed.saturating_sub(begun));
        match history {
            History { cut: None, end: None, .. } => well_goes_on &= !outcome.fenced && outcome.freed.is_none(),
            History { cut: None, end: Some(end), .. } => told_end = told_end.max_of(since(end)),
            History { cut: Some((Cut::Node, from, None)), end: None, .. } => lost_node = lost_node.max_of(since(from)),
            _ => {}
        }
    }
    Verdict { never_beside, well_goes_on, lost_node, told_end }
}

/// The longer of two times, where none is never.
trait Longer {
    fn max_of(self, other: Self) -> Self;
}

impl Longer for Option<u32> {
    fn max_of(self, other: Self) -> Self {
        Some(self?.max(other?))
    }
}

/// Small spans, and among them all orders of the three.
fn all_spans() -> impl Iterator<Item = Spans> {
    let intervals = |fence, ttl| (1..=5).map(move |interval| Spans { interval, fence, ttl });
    [3, 4].into_iter().flat_map(move |ttl| (2..=5).flat_map(move |fence| intervals(fence, ttl)))
}

#[test]
fn a_holder_is_dead_before_its_claim_is_free_exactly_if_its_fence_is_no_longer_than_the_ttl() {
    for spans in all_spans() {
        let verdict = judge(spans, Freed::SilenceOrWord);
        assert_eq!(verdict.never_beside, spans.fence <= spans.ttl, "{spans:?}: {verdict:?}");
    }
}

#[test]
fn who_is_well_goes_on_exactly_if_a_renewal_and_its_answer_fit_into_the_fence() {
    for spans in all_spans().filter(|spans| spans.fence <= spans.ttl) {
        let verdict = judge(spans, Freed::SilenceOrWord);
        assert_eq!(verdict.well_goes_on, spans.interval + SLOWEST <= spans.fence, "{spans:?}: {verdict:?}");
    }
}

#[test]
fn a_lost_node_keeps_its_lock_for_the_ttl_and_an_end_that_is_told_frees_it_at_once_however_long_that_is() {
    for ttl in [3, 6, 9] {
        let spans = Spans { interval: ttl / 3, fence: ttl, ttl };
        let verdict = judge(spans, Freed::SilenceOrWord);
        assert!(verdict.never_beside && verdict.well_goes_on, "{spans:?}: {verdict:?}");
        // The last renewal may have been under way when the node was lost.
        let longest = verdict.lost_node.expect("it is free in the end");
        assert!((ttl..=ttl + SLOWEST).contains(&longest), "{spans:?}: {verdict:?}");
        assert_eq!(verdict.told_end, Some(0), "{spans:?}: {verdict:?}");
    }
}

#[test]
fn with_the_kubelets_word_in_place_of_renewals_a_lost_node_keeps_its_lock_for_ever() {
    let spans = Spans { interval: STEPS, fence: 4, ttl: 4 };
    assert_eq!(judge(spans, Freed::WordAlone).lost_node, None);
}

#[test]
fn with_a_silent_node_taken_for_dead_two_hold() {
    let spans = Spans { interval: 1, fence: 4, ttl: 4 };
    assert!(!judge(spans, Freed::LostNode).never_beside);
}

#[test]
fn a_ttl_that_is_three_times_as_long_costs_a_third_of_the_renewals() {
    let renewals = [3, 9].map(|ttl| {
        let spans = Spans { interval: ttl / 3, fence: ttl, ttl };
        World::new(ttl).live(spans, Freed::SilenceOrWord, History::default()).renewals
    });
    assert_eq!(renewals, [STEPS - 1, STEPS / 3 - 1]);
}
