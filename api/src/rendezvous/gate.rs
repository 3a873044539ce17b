//! When a gate is open.
//!
//! A gate is open *while* its conditions are met: it closes again when they are not. What it says was so a moment ago,
//! as with everything that is watched; to keep something so while a command runs takes a lock.
//!
//! With a timeout it fails when it has waited for that long, so that nobody waits for what does not come; when the
//! conditions are met after all it opens, and those who ask then may go on. `override` goes before everything.
//!
//! A condition that cannot be judged (nothing of that name, a namespace that does not allow it, a cycle) is not met.
//!
//! A timeout has passed when it has passed twice: by the wall clock since the time in the status, which another
//! operator may have written, and by this operator's own clock since it saw that time there ([`Since`]). A time that is
//! still to come tells nothing, as some clock was wrong: then the operator's own counts alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::{
    Plan, RendezvousPhase, Since, Verdict,
    fact::{Dependency, Fact},
    later, shortened,
    tally::{Asked, Summary},
};
use crate::{
    GATES_FROM_ANNOTATION, GateCondition, GateConditionStatus, GateSpec, GateStatus, Match, Override, Pick,
    arbiter::Now,
    conditions,
    limits::{CYCLE_SHOWN, MAX_LOOKED_AT, MAX_SELECTIONS, MAX_WAYS, SELECTION},
};

/// What was found for a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding<'a> {
    /// What is known of the object that it names, if there is one.
    Named(Option<Fact>),
    /// The objects that it selects.
    Selected(Summary<'a>),
    /// Its namespace does not allow it.
    Forbidden,
    /// The gate would wait for itself.
    Cycle(&'a Cycle),
    /// Gates depend on each other in too many ways to look for cycles.
    Tangled,
    /// The gates of this namespace select in too many ways.
    Crowded,
    /// There is too much where it looks.
    TooMany,
}

/// The gates of a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The names of the gates, the one that is decided on first.
    pub gates: Vec<String>,
    /// These are all of them.
    pub whole: bool,
}

/// A gate and what it depends on.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The gate's namespace.
    pub namespace: &'a str,
    /// What is wanted.
    pub spec: &'a GateSpec,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The status as it is.
    pub status: Option<&'a GateStatus>,
    /// What was found for each condition.
    pub findings: Vec<Finding<'a>>,
    /// Since when the gate has waited, as the status says, by the operator's own clock.
    pub waiting: Option<Since>,
}

/// What the status should be.
pub fn decide(view: &View<'_>, clocks: Now) -> Plan<GateStatus> {
    let now = clocks.wall;
    let GateSpec { conditions: wanted, r#match, timeout, r#override } = view.spec;
    let accepted = view.status.is_some_and(|status| status.observed_generation == view.generation);
    let statuses: Vec<_> = wanted
        .iter()
        .zip(&view.findings)
        .map(|(condition, finding)| judge(view.namespace, condition, finding))
        .collect();
    let (met, total) = (statuses.iter().filter(|status| status.met).count(), wanted.len());
    let since = view.status.filter(|_| accepted).and_then(|status| status.waiting_since.as_ref());
    let since = since.map_or(now, |since| since.0);
    let waiting = view.waiting.filter(|_| accepted);
    let due = timeout.map(|timeout| (later(since, waiting, timeout, clocks), timeout));
    let enough = match r#match {
        // One without conditions is opened by hand.
        Match::All => total > 0 && met == total,
        Match::Any => met > 0,
    };
    let rule = match r#match {
        Match::All => "",
        Match::Any => ", one is enough",
    };
    let counts = format!("{met} of {total} conditions met{rule}");
    let open_ones = || match statuses.iter().find(|status| !status.met) {
        Some(first) => format!("{counts}: {}", first.message),
        None => counts.clone(),
    };
    let verdict = match (r#override, due) {
        (Some(Override::Open), _) => {
            Verdict::new(RendezvousPhase::Open, conditions::OVERRIDDEN, format!("open by override; {counts}"))
        }
        (Some(Override::Closed), _) => {
            Verdict::new(RendezvousPhase::Waiting, conditions::OVERRIDDEN, format!("closed by override; {counts}"))
        }
        (None, _) if enough => Verdict::new(RendezvousPhase::Open, conditions::MET, counts),
        (None, Some((due, timeout))) if due <= now => Verdict::new(
            RendezvousPhase::Failed,
            conditions::TIMED_OUT,
            format!("not open within {timeout}; {}", open_ones()),
        ),
        (None, _) => Verdict::new(RendezvousPhase::Waiting, conditions::WAITING, open_ones()),
    };
    let waits = verdict.phase == RendezvousPhase::Waiting && r#override.is_none();
    let look_again = due.map(|(due, _)| due).filter(|_| waits);
    let before = view.status.map_or(&[][..], |status| &status.conditions);
    let status = GateStatus {
        phase: Some(verdict.phase),
        met: Some(met as u32),
        total: Some(total as u32),
        waiting_since: (verdict.phase != RendezvousPhase::Open).then_some(MicroTime(since)),
        observed_generation: view.generation,
        conditions: verdict.conditions(view.generation, now, before),
        condition_statuses: statuses,
    };
    Plan::to(status, view.status, accepted, look_again)
}

/// Whether a namespace with this value of the annotation `konductor.io/gates-from` lets gates of the other one look.
pub fn allows(annotation: Option<&str>, gates_of: &str) -> bool {
    annotation.is_some_and(|list| list.split(',').map(str::trim).any(|one| one == "*" || one == gates_of))
}

fn judge(gates_of: &str, condition: &GateCondition, finding: &Finding<'_>) -> GateConditionStatus {
    let GateCondition { kind, name, selector, pick, namespace, state: _, value: _ } = condition;
    let elsewhere = namespace.as_deref().filter(|namespace| *namespace != gates_of);
    let place = elsewhere.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let (met, message) = match (finding, name, selector) {
        (Finding::Forbidden, ..) => {
            let other = namespace.as_deref().unwrap_or(gates_of);
            let what = format!("namespace {other} does not let gates of namespace {gates_of} look");
            (false, format!("{what}: its annotation {GATES_FROM_ANNOTATION} has to name that one"))
        }
        (Finding::Cycle(cycle), ..) => (false, format!("the gate waits for itself: {}", round(cycle))),
        (Finding::Tangled, ..) => {
            let what = "gates select each other in too many ways to tell whether this one waits for itself";
            (false, format!("{what}: more than {MAX_WAYS}"))
        }
        (Finding::Crowded, ..) => {
            let what = format!(
                "the gates of namespace {gates_of} have more than {MAX_SELECTIONS} different selectors, counting one for \
                 each {SELECTION} labels and values in one"
            );
            (false, format!("{what}: this one waits until there are fewer"))
        }
        (Finding::TooMany, ..) => {
            let place = namespace.as_deref().unwrap_or(gates_of);
            let what = format!("namespace {place} has too many {kind}s to look at");
            (false, format!("{what}: names and labels of more than {} MiB", MAX_LOOKED_AT >> 20))
        }
        (Finding::Named(found), name, _) => {
            let name = name.as_deref().unwrap_or_default();
            match found {
                Some(fact) => one(condition, *fact, &format!("{kind} {name}{place}")),
                None => (false, format!("{kind} {name}{place} does not exist")),
            }
        }
        (Finding::Selected(found), _, selector) => {
            let selector = selector.as_ref().map(ToString::to_string).unwrap_or_default();
            match (found, pick) {
                (Summary { all: 0, .. }, _) => (false, format!("no {kind}{place} has {selector}")),
                (Summary { shown: Some(newest), .. }, Some(Pick::Newest)) => {
                    one(condition, newest.fact, &format!("{kind} {}{place}, the newest with {selector},", newest.name))
                }
                _ => many(condition, found, &format!("{kind}s{place} with {selector}")),
            }
        }
    };
    GateConditionStatus { met, message: shortened(message) }
}

fn one(condition: &GateCondition, fact: Fact, what: &str) -> (bool, String) {
    let Asked { state, permits, .. } = Asked::by(condition);
    match (fact.is(state, permits), fact) {
        (true, _) => (true, format!("{what} {fact}")),
        (false, Fact::Semaphore(_)) if permits > 1 => (false, format!("{what} {fact}, wanted {permits}")),
        (false, _) => (false, format!("{what} {fact}, wanted {state}")),
    }
}

fn many(condition: &GateCondition, found: &Summary<'_>, what: &str) -> (bool, String) {
    let (Summary { all, met: count, shown }, state) = (found, condition.state);
    let least = condition.value.filter(|_| condition.kind != Dependency::Semaphore).map(|least| least as usize);
    let met = *count >= least.unwrap_or(*all);
    let wanted = least.map(|least| format!(", wanted {least}")).unwrap_or_default();
    let other = shown.filter(|_| !met).map(|object| format!("; {} {}", object.name, object.fact)).unwrap_or_default();
    (met, format!("{count} of {all} {what} are {state}{wanted}{other}"))
}

/// The cycle in words.
fn round(Cycle { gates, whole }: &Cycle) -> String {
    let shown: Vec<_> = gates.iter().take(CYCLE_SHOWN).map(String::as_str).collect();
    let more = match gates.len() - shown.len() {
        _ if !whole => " → others".into(),
        0 => String::new(),
        more => format!(" → {more} more"),
    };
    let first = gates.first().map_or("", String::as_str);
    format!("{}{more} → {first}", shown.join(" → "))
}
