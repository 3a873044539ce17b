//! What must be true at every step, as somebody sees it who has kubectl and the clients' own words, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use konductor::LossReason;
use konductor_operator::engine::Sizes;

use crate::{
    claims,
    machines::Machine,
    mutation::seconds,
    plan::{Need, Plan},
    server::{Change, Key, Server, resource},
    sizes::{self, Population},
    world::{ONLOOKERS, TEAM, TEAMS, View, holder},
};

/// How long a claim waits before it counts as passed over: by then every operator that is well has seen it.
const SEEN: Duration = Duration::from_secs(20);

/// How long an operator may not have seen an edit: a watch that was cut off without a word is begun anew after that.
const UNSEEN: Duration = Duration::from_mins(1);

/// How long after all trouble order counts: a claim is set aside for up to a minute when a write on it came to nothing.
pub(crate) const SETTLED: Duration = Duration::from_secs(90);

/// How long after all trouble what was asked for meanwhile has ended: a request may be late by a minute.
const PAST: Duration = Duration::from_mins(2);

/// How long a holder may take to give back what is to be given back, once all is well: its next renewal, its command's
/// end, and a new leader before it.
const REVOKED: Duration = Duration::from_secs(40);

/// How long nothing may have changed about a lock, a gate or a barrier until its status has to say what is: a look of
/// the operator, and a new leader before it.
const AT_REST: Duration = Duration::from_secs(45);

/// How long after all trouble a claim may still be set aside that could not be written meanwhile: a minute, or two when
/// that was so before.
const ASIDE: Duration = Duration::from_mins(3);

/// How far a time of another clock may be ahead before an operator leaves it out of account.
const SKEW: Duration = Duration::from_mins(1);

/// How long an operator that is well, and leads, takes from what it was told of a gate's conditions to the gate's
/// status: a write, and another one when it was overtaken.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How long after all trouble nothing is waited for any more that was asked for before.
const ANSWERED: Duration = Duration::from_secs(20);

/// How long what its deadline ends may live on: the kernel needs a moment, and a clock's step is a millisecond.
const DYING: Duration = Duration::from_millis(50);

/// How long a write that was sent may take to land.
const LATE: Duration = Duration::from_mins(1);

/// How long after a holder's TTL, counted from its last renewal, an operator that is well has freed what it held.
const FREED: Duration = Duration::from_secs(10);

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Broken {
    /// When.
    pub at: Duration,
    /// What.
    pub what: String,
}

/// Somebody who holds something, as it says itself.
#[derive(Clone, Debug)]
struct Hold {
    lock: usize,
    weight: u64,
    token: u64,
    /// When what it protects has ended at the latest, or has ended.
    until: Duration,
    /// Its last deadline.
    fence: Duration,
    /// When its machine went on last.
    awake_since: Duration,
    /// What it protects has ended: a later deadline is of no concern.
    has_ended: bool,
    /// Its machine is suspended.
    sleeps: bool,
    /// Its claim was taken away by hand, which is nobody's fault but of who did it.
    is_void: bool,
}

/// What somebody holds that is told that it does.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Which lock.
    pub lock: usize,
    /// How many permits.
    pub weight: u64,
    /// Its fencing token.
    pub token: u64,
    /// When what it protects must have ended, unless that is extended.
    pub fence: Duration,
    /// When it has ended at the latest; never when it is a tree of processes, which may live on when its deadline has
    /// passed, and has ended when nothing of it is left.
    pub until: Duration,
}

impl Hold {
    fn new(now: Duration, taken: Taken, is_void: bool) -> Self {
        let Taken { lock, weight, token, fence, until } = taken;
        Self { lock, weight, token, until, fence, awake_since: now, has_ended: false, sleeps: false, is_void }
    }

    /// It is a tree of processes that runs when its deadline has passed.
    fn outlives_its_fence(&self, now: Duration) -> bool {
        self.until == Duration::MAX && !self.has_ended && !self.sleeps && now > self.fence.max(self.awake_since) + DYING
    }
}

/// What is seen of a holder's life.
#[derive(Clone, Debug)]
struct Renewed {
    at: Value,
    since: Duration,
    /// Since when its container has ended for good.
    dead_since: Option<Duration>,
}

/// Whether the container of a claim has ended for good, by its pod.
fn is_dead(claim: &Value, server: &Server) -> bool {
    let reference = &claim["spec"]["pod"];
    let (Some(namespace), Some(name)) = (claim["metadata"]["namespace"].as_str(), reference["name"].as_str()) else {
        return false;
    };
    let pod = server.store.get(&(resource::PODS, namespace.to_owned(), name.to_owned()));
    pod.is_some_and(|pod| {
        let status = &pod.value["status"];
        pod.value["metadata"]["uid"] == reference["uid"]
            && matches!(status["phase"].as_str(), Some("Failed" | "Succeeded"))
            && !status["containerStatuses"][0]["state"]["terminated"].is_null()
    })
}

/// Where a job stands, as a gate asks for it.
pub fn state_of(job: &Value) -> &'static str {
    let conditions = job["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let is = |kind: &str| conditions.iter().any(|one| one["type"] == kind && one["status"] == "True");
    ["Complete", "Failed"].into_iter().find(|kind| is(kind)).unwrap_or("Active")
}

/// Whether this is a job that is complete.
fn is_complete(job: &Value) -> bool {
    state_of(job) == "Complete"
}

/// Notes whether something is so, and since when.
fn note(known: &mut (bool, Duration), is: bool, now: Duration) {
    if known.0 != is {
        *known = (is, now);
    }
}

/// Whether this namespace lets gates of the other one look.
fn lets_look(namespace: &Value) -> bool {
    namespace["metadata"]["annotations"]["konductor.io/gates-from"] == ONLOOKERS
}

/// Where a condition of a gate looks.
fn key_of(need: &Need) -> Key {
    let group = if need.kind == "Job" { "batch" } else { "konductor.io" };
    let is_kind = |resource: &resource::Resource| resource.kind == need.kind && resource.group == group;
    let id = resource::all().iter().position(is_kind).expect("it is served");
    (id, TEAM.to_owned(), need.name.clone())
}

/// Whether an object, if there is one, is as a condition wants it.
fn meets(need: &Need, object: Option<&Value>) -> bool {
    let Some(object) = object else { return false };
    if need.kind == "Job" {
        return state_of(object) == need.state;
    }
    let status = &object["status"];
    let is_known = !status["phase"].is_null() && status["observedGeneration"] == object["metadata"]["generation"];
    is_known
        && match (need.kind.as_str(), need.state.as_str()) {
            ("Semaphore", "Available") => status["available"].as_u64().unwrap_or(0) >= 1,
            ("Lease", "Acquired") => status["phase"] == "Held",
            (_, "Closed") => status["phase"] != "Open",
            (_, state) => status["phase"] == state,
        }
}

/// Whether something may be, and whether it may not be, of which it is one; nothing if there is none.
fn either(all: impl Iterator<Item = bool>) -> Option<[bool; 2]> {
    let all: Vec<_> = all.collect();
    (!all.is_empty()).then(|| [all.contains(&true), all.contains(&false)])
}

/// The same of a gate with these conditions, of which any is enough, or all are needed.
fn together(any: bool, all: &[[bool; 2]]) -> [bool; 2] {
    let (mut is, mut is_not) = (all.iter().map(|may| may[0]), all.iter().map(|may| may[1]));
    if any { [is.any(|is| is), is_not.all(|is_not| is_not)] } else { [is.all(|is| is), is_not.any(|is_not| is_not)] }
}

/// When a wait of a barrier is over at the latest that began by then. An operator that has just begun waits anew by its
/// own clock; and while that runs, a time that was left out of account as too far ahead comes near, and counts again:
/// then for the rest of [`SKEW`] and all of the wait.
fn over(began: Duration, seconds: u64) -> Duration {
    began + Duration::from_secs(2 * seconds) + SKEW
}

/// Whether an arrival counts for a barrier: not if it arrived at another one of that name.
fn counts_for(barrier: &Value, arrival: &Value) -> bool {
    let owners = arrival["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let mut owners = owners.filter(|owner| owner["kind"] == "Barrier" && owner["apiVersion"] == "konductor.io/v1");
    arrival["spec"]["barrier"] == barrier["metadata"]["name"]
        && owners.next().is_none_or(|owner| owner["uid"] == barrier["metadata"]["uid"])
}

/// What a lock's status says that is not so, if so many are held and wait, and these hold it.
fn untrue(
    object: &Value,
    is_semaphore: bool,
    permits: u64,
    held: u64,
    waiting: u64,
    holders: &BTreeSet<String>,
) -> Option<String> {
    let status = &object["status"];
    let mut must_be =
        vec![("waiting", waiting.into()), ("observedGeneration", object["metadata"]["generation"].clone())];
    if is_semaphore {
        let free = permits.saturating_sub(held);
        let phase = match (permits, free) {
            (0, _) => "Paused",
            (_, 0) => "Full",
            _ => "Available",
        };
        must_be.extend([("inUse", held.into()), ("available", free.into()), ("phase", phase.into())]);
    } else {
        must_be.push(("phase", if held > 0 { "Held" } else { "Available" }.into()));
    }
    let wrong = must_be.into_iter().find(|(field, must_be)| status[*field] != *must_be);
    let said: BTreeSet<_> = match &status["holders"] {
        Value::Array(all) => all.iter().map(Value::to_string).collect(),
        _ => Some(&status["holder"]).filter(|holder| !holder.is_null()).map(Value::to_string).into_iter().collect(),
    };
    match wrong {
        Some((field, must_be)) => Some(format!("{field} {}, and it is {must_be}", status[field])),
        None if said != *holders => Some(format!("that {said:?} hold it, and {holders:?} do")),
        None => None,
    }
}

/// The number of the only resource of this kind.
fn id_of(kind: &str) -> usize {
    resource::all().iter().position(|resource| resource.kind == kind).expect("it is served")
}

/// How many different ones have arrived at a barrier.
fn arrived(barrier: &Value, server: &Server) -> u64 {
    let all = server.store.list(id_of("Arrival"), Some(TEAM), None, u64::MAX).map(|(_, arrival)| &arrival.value);
    let keys: BTreeSet<_> =
        all.filter(|arrival| counts_for(barrier, arrival)).map(|arrival| arrival["spec"]["key"].to_string()).collect();
    keys.len() as u64
}

/// Times in metadata are cut to seconds.
const SECOND: Duration = Duration::from_secs(1);

/// When an object was made.
fn created(object: &Value) -> Option<Duration> {
    let at = object["metadata"]["creationTimestamp"].as_str()?.parse::<jiff::Timestamp>().ok()?;
    Some(Duration::from_secs((at.as_second() - crate::world::EPOCH.as_second()).max(0) as u64))
}

/// Watches a history.
#[derive(Debug)]
pub struct Observers {
    plan: Plan,
    broken: Vec<Broken>,
    /// By client and lock.
    holds: BTreeMap<(usize, usize), Hold>,
    /// What was held and has ended, when, and its token; of each lock.
    past: Vec<Vec<(Duration, u64)>>,
    /// Grants that nobody of Konductor has taken, by lock and token: by hand, with a namespace, by an old backup.
    taken: BTreeSet<(usize, u64)>,
    /// All grants that there have been, by lock and token, and when.
    granted: BTreeMap<(usize, u64), Duration>,
    /// Since when each claim is to be given back.
    revoked: BTreeMap<(usize, String), Duration>,
    /// Until when each job was complete, by its name.
    complete: BTreeMap<String, Duration>,
    /// Since when each round of a barrier stands at its end.
    ended_rounds: BTreeMap<String, Duration>,
    /// Since when each client asks.
    asks: BTreeMap<usize, Duration>,
    /// How many permits each lock had, since when.
    permits: Vec<Vec<(Duration, u64)>>,
    /// The tokens that were held, of each lock, in order.
    tokens: Vec<Vec<u64>>,
    /// Since when all is well.
    calm: Option<Duration>,
    /// Claims that were passed over by a grant of this token, it seems: decided in one go, the writes may land in any
    /// order.
    passed: BTreeMap<(usize, String), (u64, String, Duration)>,
    /// Since when no claim on each lock has come or changed its phase, and the lock has not been edited.
    quiet: Vec<Duration>,
    /// Of each gate that nobody waits for, of each of its conditions: whether it is met, and since when; until when it
    /// was, if it is not.
    sides: Vec<Vec<(bool, Duration)>>,
    /// The same of whether gates of another namespace may look.
    lets: (bool, Duration),
    /// Since when so many are at each barrier that it has to open, and it does not.
    full: Vec<Option<Duration>>,
    /// Since when neither where each barrier stands has changed nor what it is decided by; nothing once it has been
    /// looked at since, or if it is not there.
    unseen_barriers: Vec<Option<Duration>>,
    /// Of each claim that is held, by UID: what its last renewal says, and since when; and since when its pod is dead.
    held: BTreeMap<String, Renewed>,
    population: Population,
    /// Of each gate, on which connection of the leader it is decided by what is known there, whether that has it open,
    /// and since when both are so.
    decided: BTreeMap<String, (u64, bool, Duration)>,
    /// What was counted.
    pub figures: BTreeMap<String, u64>,
}

impl Observers {
    /// Those of a plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            broken: Vec::new(),
            holds: BTreeMap::new(),
            asks: BTreeMap::new(),
            permits: plan.locks.iter().map(|lock| vec![(Duration::ZERO, lock.permits)]).collect(),
            tokens: vec![Vec::new(); plan.locks.len()],
            past: vec![Vec::new(); plan.locks.len()],
            taken: BTreeSet::new(),
            granted: BTreeMap::new(),
            revoked: BTreeMap::new(),
            complete: BTreeMap::new(),
            ended_rounds: BTreeMap::new(),
            calm: None,
            passed: BTreeMap::new(),
            quiet: vec![Duration::ZERO; plan.locks.len()],
            sides: plan.sides.iter().map(|side| vec![(false, Duration::ZERO); side.needs.len()]).collect(),
            lets: (false, Duration::ZERO),
            full: vec![None; plan.barriers.len()],
            unseen_barriers: vec![Some(Duration::ZERO); plan.barriers.len()],
            held: BTreeMap::new(),
            population: Population::default(),
            decided: BTreeMap::new(),
            figures: BTreeMap::new(),
        }
    }

    /// What has been broken.
    pub fn all_broken(&self) -> &[Broken] {
        &self.broken
    }

    /// Something that must not be.
    pub fn broken(&mut self, at: Duration, what: String) {
        if self.broken.len() < 20 {
            self.broken.push(Broken { at, what });
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &str) {
        if let Some(count) = self.figures.get_mut(what) {
            *count += 1;
        } else {
            self.figures.insert(what.to_owned(), 1);
        }
    }

    /// An object has come from one state to another.
    fn passes(&mut self, now: Duration, machine: &str, was: &str, is: &str, name: &str) {
        self.count(&format!("{machine} {was} to {is}"));
        if !Machine::of(machine).has(was, is) {
            self.broken(now, format!("transition: the {machine} {name} was {was} and is {is}"));
        }
    }

    /// Notes the most that there has been of something.
    pub fn most(&mut self, what: &str, count: u64) {
        match self.figures.get_mut(what) {
            Some(most) => *most = count.max(*most),
            None => {
                self.figures.insert(what.to_owned(), count);
            }
        }
    }

    /// All is well from now on.
    pub fn calm(&mut self, now: Duration) {
        self.calm = Some(now);
    }

    /// Whether all has been well for so long that nothing is left of the trouble.
    fn is_settled(&self, now: Duration) -> bool {
        self.calm.is_some_and(|calm| now >= calm + SETTLED || self.plan.calm.is_zero())
    }

    /// How many objects there are, and were lately.
    pub(crate) fn objects(&self) -> usize {
        self.population.all()
    }

    /// An engine of an operator keeps so much.
    pub fn kept(&mut self, now: Duration, who: &str, engine: &str, sizes: &Sizes) {
        self.most("most entries that an engine keeps", sizes.iter().map(|(_, count)| *count as u64).sum());
        let is_settled = self.is_settled(now);
        if let Some(what) = self.population.excess(now, is_settled, engine, sizes) {
            self.broken(now, format!("memory: {who} keeps {what}"));
        }
    }

    /// A process has so many requests and watches that it has not given up and that have not ended.
    pub fn waits(&mut self, now: Duration, who: &str, is_operator: bool, requests: usize, watches: usize) {
        let most = if is_operator { self.population.operator() } else { sizes::client() };
        let figures = if is_operator {
            ["most requests of an operator at once", "most watches of an operator at once"]
        } else {
            ["most requests of a client at once", "most watches of a client at once"]
        };
        self.most(figures[0], requests as u64);
        self.most(figures[1], watches as u64);
        if requests > most.0 || watches > most.1 {
            let what =
                format!("memory: {who} has {requests} requests and {watches} watches at once, more than {most:?}");
            self.broken(now, what);
        }
    }

    /// A client has been told so much that it has not heard yet.
    pub fn unheard(&mut self, now: Duration, client: usize, told: usize) {
        self.most("most that a client has not heard yet", told as u64);
        if sizes::is_unheard(told) {
            self.broken(now, format!("memory: client {client} has not heard {told} things that it was told"));
        }
    }

    /// A client asks for its lock.
    pub fn asks(&mut self, now: Duration, client: usize) {
        self.asks.insert(client, now);
    }

    /// A client is told that it holds something.
    pub fn held(&mut self, now: Duration, client: usize, taken: Taken, server: &Server) {
        let Taken { lock, weight, token, fence, .. } = taken;
        self.count("held");
        let name = self.plan.locks[lock].name.clone();
        if fence <= now {
            let what = format!("client {client} holds {name} when its deadline has passed");
            return self.broken(now, what);
        }
        // What has gone by nobody's fault of Konductor's is known to its holder at its next renewal.
        if self.claim_of(lock, token, server).is_none() {
            if !self.taken.contains(&(lock, token)) {
                let what = format!("I1: client {client} holds {name} with token {token}, and no claim has that");
                self.broken(now, what);
            }
            self.holds.insert((client, lock), Hold::new(now, taken, true));
            return;
        }
        // An operator that has not seen a semaphore's edit yet grants by what it was before, and the grant may be late.
        let granted = self.granted.get(&(lock, token)).copied().unwrap_or(now);
        let since = granted.saturating_sub(UNSEEN + LATE);
        let history = &self.permits[lock];
        let first = history.iter().rposition(|(from, _)| *from <= since).unwrap_or(0);
        let allowed = history[first..].iter().map(|(_, permits)| *permits).max().unwrap_or(0);
        let most = history.iter().map(|(_, permits)| *permits).max().unwrap_or(0);
        let live: Vec<_> = self
            .holds
            .iter()
            .filter(|(_, hold)| hold.lock == lock && hold.until > now && !hold.is_void && !hold.sleeps)
            .collect();
        let used: u64 = weight + live.iter().map(|(_, hold)| hold.weight).sum::<u64>();
        if used > allowed {
            let others: Vec<_> =
                live.iter().map(|((client, _), hold)| format!("client {client} until {:?}", hold.until)).collect();
            let what =
                format!("I1: client {client} holds {weight} of {name} (of {allowed}) beside {}", others.join(", "));
            self.broken(now, what);
        }
        let tokens = &mut self.tokens[lock];
        let is_exclusive = most <= 1;
        let greatest = tokens.iter().max().copied().unwrap_or(0);
        if tokens.contains(&token) || is_exclusive && token <= greatest {
            let what = format!("I7: client {client} holds {name} with token {token}, after {greatest}");
            self.broken.push(Broken { at: now, what });
        }
        self.tokens[lock].push(token);
        // Who asks when another one has ended comes after that one, as anybody can see: holds are one after the other.
        let asked = self.asks.get(&client).copied().unwrap_or_default();
        let later = self.past[lock].iter().find(|(end, other)| *end < asked && *other >= token);
        if let Some((end, other)) = later {
            let what =
                format!("order: client {client} asked at {asked:?} and has token {token}; {other} ended at {end:?}");
            self.broken.push(Broken { at: now, what });
        }
        self.holds.insert((client, lock), Hold::new(now, taken, false));
    }

    /// The versions of all claims, by UID.
    pub fn claims(server: &Server) -> BTreeMap<String, String> {
        let is_claim = |resource: &resource::Resource| resource.kind == "Permit" || resource.kind == "LeaseRequest";
        let ids = (0..resource::all().len()).filter(|id| is_claim(&resource::all()[*id]));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        ids.flat_map(|id| TEAMS.map(|team| server.store.list(id, Some(team), None, u64::MAX)))
            .flatten()
            .map(|(_, claim)| &claim.value["metadata"])
            .map(|metadata| (text(&metadata["uid"]), text(&metadata["resourceVersion"])))
            .collect()
    }

    /// The claim on this lock that has this token.
    fn claim_of<'a>(&self, lock: usize, token: u64, server: &'a Server) -> Option<&'a Value> {
        let kind = if self.plan.locks[lock].is_semaphore { "Permit" } else { "LeaseRequest" };
        let id = id_of(kind);
        let team = self.plan.namespace_of(lock);
        server.store.list(id, Some(team), None, u64::MAX).map(|(_, claim)| &claim.value).find(|claim| {
            let status = &claim["status"];
            status["fencingToken"] == token
                && (status["phase"] == "Granted" || status["phase"] == "Revoking")
                && self.is_lock_of(lock, claim)
        })
    }

    /// Etcd is as it was some time ago; `before` are the versions of all claims until now, by UID. What is held and not in
    /// it any more, or was renewed in the time that is lost, is its holder's mistake until its next renewal, and tokens
    /// may be given again: who restores a backup has to know (`docs/reliability.md`).
    pub fn restored(&mut self, now: Duration, before: &BTreeMap<String, String>, server: &Server) {
        self.count("etcd restored");
        let lost = self.granted.keys().filter(|(lock, token)| self.claim_of(*lock, *token, server).is_none());
        let lost: Vec<_> = lost.copied().collect();
        self.taken.extend(lost);
        let is_same = |hold: &Hold| {
            self.claim_of(hold.lock, hold.token, server).is_some_and(|claim| {
                let metadata = &claim["metadata"];
                let version = before.get(metadata["uid"].as_str().unwrap_or_default());
                version.is_some_and(|version| metadata["resourceVersion"] == version.as_str())
            })
        };
        let forgotten = self.holds.iter().filter(|(_, hold)| !is_same(hold));
        let forgotten: Vec<_> = forgotten.map(|(of, _)| *of).collect();
        for of in forgotten {
            if let Some(hold) = self.holds.get_mut(&of) {
                hold.is_void = true;
            }
        }
        self.population.restored(now, server);
        self.tokens.iter_mut().for_each(Vec::clear);
        self.past.iter_mut().for_each(Vec::clear);
        self.passed.clear();
        self.revoked.clear();
        self.quiet.fill(now);
        self.unseen_barriers.fill(Some(now));
        for known in self.sides.iter_mut().flatten().chain([&mut self.lets]).filter(|known| known.0) {
            *known = (false, now);
        }
        self.look_at_sides(now, server);
        for gate in &self.plan.gates {
            self.complete.insert(gate.name.clone(), now);
        }
        let id = id_of("Semaphore");
        for (number, lock) in self.plan.locks.iter().enumerate() {
            let found = server.store.get(&(id, self.plan.namespace_of(number).to_owned(), lock.name.clone()));
            if let Some(permits) = found.and_then(|found| found.value["spec"]["permits"].as_u64()) {
                self.permits[number].push((now, permits));
            }
        }
    }

    /// A client says that its deadline is later now.
    pub fn extended(&mut self, client: usize, lock: usize, fence: Duration, until: Duration) {
        self.count("extended");
        if let Some(hold) = self.holds.get_mut(&(client, lock)).filter(|hold| !hold.has_ended) {
            // The supervisor takes no deadline for an earlier one, either.
            (hold.fence, hold.until) = (hold.fence.max(fence), hold.until.max(until));
        }
    }

    /// A client says that it does not hold its lock any more, and why: it must not give up what is its own.
    pub fn lost(&mut self, now: Duration, client: usize, lock: usize, why: &LossReason, server: &Server) {
        let Some(hold) = self.holds.get(&(client, lock)).filter(|hold| !hold.has_ended).cloned() else { return };
        self.count("losses held against what is so");
        let is_there = || self.claim_of(lock, hold.token, server).is_some();
        let is_early = match why {
            LossReason::Revoked(_) => {
                let asked = |claim: &Value| !claim["metadata"]["annotations"]["konductor.io/revoke"].is_null();
                self.claim_of(lock, hold.token, server).is_some_and(|claim| !asked(claim))
                    && !self.figures.contains_key("etcd restored")
            }
            LossReason::DeadlinePassed => now + DYING < hold.fence,
            // What a backup has brought back was lost all the same.
            _ => is_there() && !self.figures.contains_key("etcd restored"),
        };
        if is_early {
            let (name, fence) = (&self.plan.locks[lock].name, hold.fence);
            self.broken(now, format!("I5: client {client} gives {name} up, its own until {fence:?}: {why}"));
        }
    }

    /// A client that runs has not been told for a while that its deadline has passed.
    pub fn untold(&mut self, now: Duration, client: usize) {
        self.broken(now, format!("I2: client {client} is not told that its deadline has passed"));
    }

    /// Nothing that somebody protects lives on when its deadline has passed.
    fn look_at_fences(&mut self, now: Duration) {
        let late = self.holds.iter_mut().filter(|(_, hold)| hold.outlives_its_fence(now));
        let late: Vec<_> = late
            .map(|((client, lock), hold)| {
                // Told once.
                hold.has_ended = true;
                (*client, *lock, hold.fence)
            })
            .collect();
        for (client, lock, fence) in late {
            let name = &self.plan.locks[lock].name;
            self.broken(now, format!("I2: client {client} runs with {name} after its deadline at {fence:?}"));
        }
    }

    /// The machine of a client is suspended, or goes on: what does not run does no harm.
    pub fn suspended(&mut self, now: Duration, client: usize, sleeps: bool) {
        self.look_at_fences(now);
        for (_, hold) in self.holds.iter_mut().filter(|((of, _), _)| *of == client) {
            hold.sleeps = sleeps;
            hold.awake_since = now;
        }
    }

    /// What a client protects runs on after its machine was suspended: then it is still its turn.
    pub fn resumed(&mut self, now: Duration, client: usize, server: &Server) {
        let live = self.holds.iter().filter(|((of, _), hold)| *of == client && hold.until > now && !hold.is_void);
        let lost = live.filter(|(_, hold)| self.claim_of(hold.lock, hold.token, server).is_none());
        let lost: Vec<_> = lost.map(|((_, lock), _)| self.plan.locks[*lock].name.clone()).collect();
        for name in lost {
            self.broken(now, format!("I2: client {client} goes on with {name} after it slept, and has lost it"));
        }
    }

    /// What a client protected has ended.
    pub fn ended(&mut self, now: Duration, client: usize) {
        self.look_at_fences(now);
        for (_, hold) in self.holds.iter_mut().filter(|((of, _), hold)| *of == client && !hold.has_ended) {
            hold.until = hold.until.min(now);
            hold.has_ended = true;
            if !hold.is_void {
                self.past[hold.lock].push((now, hold.token));
            }
        }
    }

    /// Something was written.
    pub fn changed(&mut self, now: Duration, change: &Change, by: Option<&str>, server: &Server) {
        let resource = &resource::all()[change.key.0];
        self.population.changed(now, change);
        self.look_at_sides(now, server);
        if resource.kind == "Job" && change.before.as_ref().is_some_and(|before| is_complete(&before.value)) {
            self.complete.insert(change.key.2.clone(), now);
        }
        if resource.schema.is_none() {
            if resource.kind == "Lease" {
                let holder = |value: &Value| value["spec"]["holderIdentity"].clone();
                let before = change.before.as_ref().map_or(Value::Null, |before| holder(&before.value));
                if holder(&change.object.value) != before {
                    self.count("changes of who leads");
                }
            }
            return;
        }
        if resource.kind == "Gate" {
            // Whatever has led to that, it was known, also if what is known has changed back before the next look.
            let phase = |object: &Value| object["status"]["phase"].clone();
            if change.before.as_ref().map(|before| phase(&before.value)) != Some(phase(&change.object.value)) {
                self.decided.remove(&change.key.2);
            }
        }
        if change.key.1 == ONLOOKERS {
            return self.side_changed(now, change);
        }
        // What a neighbour has is its own.
        if !TEAMS.contains(&change.key.1.as_str()) {
            return;
        }
        if let "Semaphore" | "Lease" = resource.kind.as_str() {
            self.lock_changed(now, change, &resource.kind);
        }
        match resource.kind.as_str() {
            "Permit" | "LeaseRequest" => self.claim_changed(now, change, by, server),
            "Semaphore" => {
                let number = self.lock(&change.key);
                let permits = change.object.value["spec"]["permits"].as_u64();
                if let (Some(number), Some(permits)) = (number, permits)
                    && self.permits[number].last().is_none_or(|(_, last)| *last != permits)
                {
                    self.permits[number].push((now, permits));
                }
            }
            "Barrier" => self.barrier_changed(now, change, server),
            "Arrival" => self.stirred(now, &change.key.1, change.object.value["spec"]["barrier"].as_str()),
            "Gate" => self.gate_changed(now, change, server),
            _ => {}
        }
    }

    fn lock_changed(&mut self, now: Duration, change: &Change, kind: &str) {
        let spec = |object: &Value| object["spec"].clone();
        let before = change.before.as_ref().map(|before| spec(&before.value));
        if (change.deleted || before != Some(spec(&change.object.value)))
            && let Some(number) = self.lock(&change.key)
        {
            self.quiet[number] = now;
        }
        let phase = |object: &Value| object["status"]["phase"].as_str().unwrap_or("new").to_owned();
        let was = change.before.as_ref().map_or_else(|| "new".to_owned(), |before| phase(&before.value));
        let is = phase(&change.object.value);
        if !change.deleted && was != is {
            self.passes(now, &kind.to_lowercase(), &was, &is, &change.key.2);
        }
    }

    fn claim_changed(&mut self, now: Duration, change: &Change, by: Option<&str>, server: &Server) {
        let after = &change.object.value;
        let before = change.before.as_ref().map_or(&Value::Null, |before| &before.value);
        let phase = |object: &Value| object["status"]["phase"].as_str().unwrap_or_default().to_owned();
        let (was, is) = (phase(before), phase(after));
        let held = |phase: &str| matches!(phase, "Granted" | "Revoking");
        let freed = held(&was) && (change.deleted || !held(&is));
        let token_before = before["status"]["fencingToken"].as_u64().unwrap_or(0);
        if was != is || change.deleted {
            let to = if change.deleted { "gone" } else { claims::state_of(after) };
            self.passes(now, "claim", claims::state_of(before), to, &change.key.2);
        }
        if freed && by.is_none() {
            // By hand, or with its namespace.
            let locks = (0..self.plan.locks.len()).filter(|number| self.is_lock_of(*number, after));
            let taken: Vec<_> = locks.map(|number| (number, token_before)).collect();
            self.taken.extend(taken);
            let live =
                self.holds.iter().filter(|(_, hold)| hold.token == token_before && self.is_lock_of(hold.lock, after));
            let live: Vec<_> = live.map(|(of, _)| *of).collect();
            for of in live {
                if let Some(hold) = self.holds.get_mut(&of) {
                    hold.is_void = true;
                }
            }
        }
        if was != is || change.deleted || change.before.is_none() {
            for number in
                (0..self.plan.locks.len()).filter(|number| self.is_lock_of(*number, after)).collect::<Vec<_>>()
            {
                self.quiet[number] = now;
            }
        }
        if let Some(what) = claims::ticket(before, after) {
            self.broken(now, what);
        }
        self.revoked(now, change, held(&was), freed);
        if freed && let Some(by) = by {
            let live = self.holds.iter().find(|(_, hold)| {
                hold.token == token_before
                    && hold.until > now
                    && !hold.is_void
                    && !hold.sleeps
                    && self.is_lock_of(hold.lock, after)
            });
            if let Some(((client, _), hold)) = live {
                let until = hold.until;
                let what = format!(
                    "I2: {by} frees the claim {} of client {client}, who may hold until {until:?}",
                    change.key.2
                );
                self.broken(now, what);
            }
        }
        if held(&is) {
            let token = after["status"]["fencingToken"].as_u64().unwrap_or(0);
            let locks = (0..self.plan.locks.len()).filter(|number| self.is_lock_of(*number, after));
            let granted: Vec<_> = locks.map(|number| (number, token)).collect();
            for of in granted {
                self.granted.entry(of).or_insert(now);
            }
        }
        if !held(&was) && is == "Granted" {
            self.count("granted");
            let token = after["status"]["fencingToken"].as_u64().unwrap_or(0);
            self.order(now, change, token, server);
        }
        if is == "Expired" && held(&was) && !change.deleted {
            self.expired(now, change);
        }
    }

    /// A claim is to be given back, or has been.
    fn revoked(&mut self, now: Duration, change: &Change, was_held: bool, is_free: bool) {
        let of = (change.key.0, change.key.2.clone());
        let claim = &change.object.value;
        if was_held && !claim["metadata"]["annotations"]["konductor.io/revoke"].is_null() {
            self.revoked.entry(of.clone()).or_insert(now);
        }
        if !is_free {
            return;
        }
        if let (Some(since), Some(calm)) = (self.revoked.remove(&of), self.calm)
            && now > since.max(calm) + REVOKED
        {
            let what = format!("the claim {} is to be given back since {since:?}, and is now", change.key.2);
            self.broken(now, what);
        }
    }

    /// When all is well, nobody is silent.
    fn expired(&mut self, now: Duration, change: &Change) {
        let claim = &change.object.value;
        let past = if self.plan.calm.is_zero() { Duration::ZERO } else { PAST };
        let dies =
            |(number, client): (usize, &crate::plan::Client)| client.dies && claim["spec"]["holder"] == holder(number);
        if claim["spec"]["holder"] != "stranger"
            && !self.plan.clients.iter().enumerate().any(dies)
            && self.calm.is_some_and(|calm| created(claim).is_some_and(|created| created > calm + past))
        {
            self.broken(now, format!("the claim {} expires when all is well", change.key.2));
        }
    }

    fn is_lock_of(&self, lock: usize, claim: &Value) -> bool {
        let name = self.plan.locks[lock].name.as_str();
        claim["metadata"]["namespace"] == self.plan.namespace_of(lock)
            && (claim["spec"]["semaphore"] == name || claim["spec"]["lease"] == name)
    }

    /// The number of the lock that is there.
    fn lock(&self, (_, namespace, name): &Key) -> Option<usize> {
        let mut all = 0..self.plan.locks.len();
        all.find(|number| self.plan.locks[*number].name == *name && self.plan.namespace_of(*number) == namespace)
    }

    /// Who was granted something was the first in line.
    fn order(&mut self, now: Duration, change: &Change, token: u64, server: &Server) {
        // Decided at the same moment, its grant may have met with what else was written to it, and was tried again.
        if let Some((before, by, at)) = self.passed.remove(&(change.key.0, change.key.2.clone()))
            && before < token
            && now > at + SECOND
        {
            self.broken(now, format!("I6: {by} was granted before {}", change.key.2));
        }
        if !self.is_settled(now) {
            return;
        }
        let of = |claim: &Value, field: &str| claim["spec"][field].clone();
        let granted = &change.object.value;
        let rank = |claim: &Value| {
            let priority = claim["spec"]["priority"].as_i64().unwrap_or(0);
            (-priority, claim["status"]["ticket"].as_u64().unwrap_or(u64::MAX))
        };
        let made = |claim: &Value| created(claim).unwrap_or(Duration::MAX);
        let weight = |claim: &Value| claim["spec"]["permits"].as_u64().unwrap_or(1);
        // Whoever needs more than there is at all is in nobody's way; by best effort also who needs more than is free.
        let number = (0..self.plan.locks.len()).find(|number| self.is_lock_of(*number, granted));
        let Some(planned) = number.map(|number| &self.plan.locks[number]) else { return };
        let most = if planned.best_effort { weight(granted) } else { planned.permits };
        let mut held_against = 0;
        for (key, stored) in server.store.list(change.key.0, Some(&change.key.1), None, u64::MAX) {
            let waiting = &stored.value;
            let same =
                of(waiting, "semaphore") == of(granted, "semaphore") && of(waiting, "lease") == of(granted, "lease");
            if key != &change.key
                && same
                && waiting["status"]["phase"] == "Pending"
                && weight(waiting) <= most
                && made(waiting).saturating_add(SEEN) < now
            {
                held_against += 1;
                if rank(waiting) > rank(granted) {
                    continue;
                }
                self.passed.entry((key.0, key.2.clone())).or_insert_with(|| (token, change.key.2.clone(), now));
            }
        }
        if held_against > 0 {
            self.count("grants held against who waited");
        }
    }

    /// A barrier of this name is another one than before, or something that it is decided by is.
    fn stirred(&mut self, now: Duration, namespace: &str, name: Option<&str>) {
        let number = self.plan.barriers.iter().position(|barrier| Some(barrier.name.as_str()) == name);
        if let Some(number) = number.filter(|_| namespace == TEAM) {
            self.unseen_barriers[number] = Some(now);
        }
    }

    fn barrier_changed(&mut self, now: Duration, change: &Change, server: &Server) {
        let after = &change.object.value;
        let before = change.before.as_ref().map_or(&Value::Null, |before| &before.value);
        let phase = |object: &Value| object["status"]["phase"].as_str().unwrap_or("new").to_owned();
        let (was, is) = (phase(before), phase(after));
        let stands = |object: &Value| [object["spec"].clone(), object["status"]["round"].clone()];
        if change.deleted || was != is || stands(before) != stands(after) {
            self.stirred(now, &change.key.1, Some(&change.key.2));
        }
        if change.deleted {
            return;
        }
        if was != is {
            self.passes(now, "barrier", &was, &is, &change.key.2);
        }
        let name = change.key.2.clone();
        let id = id_of("Arrival");
        let all = server.store.list(id, Some(&change.key.1), None, u64::MAX);
        let all: Vec<_> = all.filter(|(_, arrival)| counts_for(after, &arrival.value)).collect();
        let round = |object: &Value| object["status"]["round"].as_u64().unwrap_or(0);
        let answers = |object: &Value| object["status"]["observedGeneration"].clone();
        if matches!(was.as_str(), "Open" | "Failed")
            && was != is
            && round(before) == round(after)
            && answers(before) == answers(after)
        {
            let what = format!("final: {name} was {was} and is {is} in the same round, and nobody has edited it");
            self.broken(now, what);
        }
        if round(after) > round(before).max(1) {
            self.count("rounds of barriers begun anew");
            let pause = self.plan.barriers.iter().find(|barrier| barrier.name == name).and_then(|b| b.reset_after);
            let since = self.ended_rounds.remove(&name);
            let is_due =
                since.zip(pause).is_some_and(|(since, pause)| now + SECOND >= since + Duration::from_secs(pause));
            if !is_due || round(after) != round(before) + 1 {
                let what = format!("{name} begins round {}, after one that ended at {since:?}", round(after));
                self.broken(now, what);
            }
            let is_old = |at: Duration| since.is_some_and(|since| at + SECOND < since);
            let old = all.iter().filter(|(_, arrival)| created(&arrival.value).is_some_and(is_old)).count();
            if old > 0 {
                self.broken(now, format!("{name} begins round {} with {old} who arrived in another", round(after)));
            }
        }
        let (opens, fails) = (is == "Open" && was != "Open", is == "Failed" && was != "Failed");
        if !opens && !fails {
            return;
        }
        self.ended_rounds.insert(name.clone(), now);
        let keys: BTreeSet<_> = all.iter().map(|(_, arrival)| arrival.value["spec"]["key"].to_string()).collect();
        let first = all.iter().filter_map(|(_, arrival)| created(&arrival.value)).min();
        let count = |field: &str| after["spec"][field].as_u64();
        let timeout =
            self.plan.barriers.iter().find(|barrier| barrier.name == name).and_then(|barrier| barrier.timeout);
        let is_over =
            first.zip(timeout).is_some_and(|(first, timeout)| now + SECOND >= first + Duration::from_secs(timeout));
        let there = keys.len() as u64;
        let expected = count("expected").unwrap_or(0);
        if opens && there < expected && !(is_over && count("quorum").is_some_and(|quorum| there >= quorum)) {
            self.broken(now, format!("{name} opens when {there} of {expected} have arrived"));
        }
        if fails && !is_over {
            self.broken(now, format!("{name} fails before its time is over: the first came at {first:?}"));
        }
        // Who comes while it is decided may be too late.
        let in_time = |arrival: &Value| created(arrival).is_some_and(|at| at + SECOND + AT_ONCE < now);
        let known = all.iter().filter(|(_, arrival)| in_time(&arrival.value));
        let known: BTreeSet<_> = known.map(|(_, arrival)| arrival.value["spec"]["key"].to_string()).collect();
        let enough = count("quorum").unwrap_or(expected).min(expected);
        if fails && self.is_settled(now) && known.len() as u64 >= enough {
            self.broken(now, format!("{name} fails when {} have arrived, and {enough} are enough", known.len()));
        }
    }

    /// Whether each condition of a gate may be met, and may not be, by what an operator knows; `None` if it is no gate
    /// of ours, or what is known cannot be said.
    fn possible(&self, namespace: &str, name: &str, view: &mut View<'_>) -> Option<(bool, Vec<[bool; 2]>)> {
        let gate = self.plan.gates.iter().find(|gate| gate.name == name && namespace == TEAM);
        let side = self
            .plan
            .sides
            .iter()
            .find(|side| side.name == name && namespace == if side.elsewhere { ONLOOKERS } else { TEAM });
        let (any, elsewhere, needs) = match (gate, side) {
            (Some(gate), _) => {
                (false, false, vec![Need { kind: "Job".into(), name: gate.name.clone(), state: "Complete".into() }])
            }
            (None, Some(side)) => (side.any, side.elsewhere, side.needs.clone()),
            (None, None) => return None,
        };
        let mut lets = [!elsewhere, false];
        if elsewhere {
            let states = view.states(&(resource::NAMESPACES, String::new(), TEAM.to_owned()));
            lets = either(states.iter().map(|namespace| namespace.is_some_and(lets_look)))?;
        }
        let mut all = Vec::new();
        for need in &needs {
            let states = view.states(&key_of(need));
            let [is, is_not] = either(states.iter().map(|object| meets(need, *object)))?;
            all.push([is && lets[0], is_not || lets[1]]);
        }
        Some((any, all))
    }

    /// An operator asks for a status of a gate: it says what the gate's conditions say, by what that operator knows.
    pub(crate) fn gate_decided(
        &mut self,
        now: Duration,
        who: &str,
        (namespace, name): (&str, &str),
        status: &Value,
        view: &mut View<'_>,
    ) {
        let Some((any, all)) = self.possible(namespace, name, view) else { return };
        let [is, is_not] = together(any, &all);
        let opens = status["phase"] == "Open";
        let said = status["conditionStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_said = |(number, may): (usize, &[bool; 2])| {
            let met = said.get(number).and_then(|one| one["met"].as_bool());
            met.is_some_and(|met| if met { may[0] } else { may[1] })
        };
        self.count("statuses of gates held against what their operator knew");
        if !(if opens { is } else { is_not }) || !all.iter().enumerate().all(is_said) {
            let what =
                format!("exact: {who} writes {status} of {name}, by conditions that may be and not be met: {all:?}");
            self.broken(now, what);
        }
    }

    /// Who leads, by the lease of the election, as it is called here.
    pub(crate) fn leader(server: &Server) -> Option<String> {
        let is_election = |resource: &resource::Resource| resource.kind == "Lease" && resource.schema.is_none();
        let id = resource::all().iter().position(is_election).expect("it is served");
        let mut all = server.store.list(id, None, None, u64::MAX);
        all.find_map(|(_, lease)| Some(lease.value["spec"]["holderIdentity"].as_str()?.replace('-', " ")))
    }

    /// When all is well, the leader soon says of each gate what its conditions say by what it knows: by this
    /// connection.
    pub(crate) fn gates_of_leader(&mut self, now: Duration, server: &Server, view: Option<(u64, View<'_>)>) {
        let Some((connection, mut view)) = view.filter(|_| self.calm.is_some()) else { return self.decided.clear() };
        // What changes after that is decided at once, whatever has failed before.
        let answered = self.calm.map_or(Duration::MAX, |calm| calm + ANSWERED);
        let gates = id_of("Gate");
        for (key, gate) in [TEAM, ONLOOKERS]
            .into_iter()
            .flat_map(|namespace| server.store.list(gates, Some(namespace), None, u64::MAX))
        {
            let known = self.possible(&key.1, &key.2, &mut view).map(|(any, all)| together(any, &all));
            // Of a write that was not answered an operator hears by its watch, which may be silent for a while.
            let version = |gate: &Value| gate["metadata"]["resourceVersion"].clone();
            let is_told = matches!(view.states(key)[..], [Some(told)] if version(told) == version(&gate.value));
            let Some(opens) = known.filter(|[is, is_not]| is_told && is != is_not).map(|[is, _]| is) else {
                self.decided.remove(&key.2);
                continue;
            };
            let same = self.decided.get(&key.2).filter(|(of, before, _)| *of == connection && *before == opens);
            let since = same.map_or(now, |(.., since)| *since);
            self.decided.insert(key.2.clone(), (connection, opens, since));
            let made = created(&gate.value).unwrap_or_default();
            let phase = &gate.value["status"]["phase"];
            if now < since.max(made) + AT_ONCE || since < answered && !self.is_settled(now) {
                continue;
            }
            self.count("gates held against what the leader had known for a while");
            if (*phase == "Open") != opens || phase.is_null() {
                self.decided.remove(&key.2);
                let what =
                    format!("exact: {} is {phase}, and its operator has known since {since:?} that {opens}", key.2);
                self.broken(now, what);
            }
        }
    }

    /// Notes which conditions of the gates that nobody waits for are met now.
    fn look_at_sides(&mut self, now: Duration, server: &Server) {
        if self.plan.sides.is_empty() {
            return;
        }
        let namespace = server.store.get(&(resource::NAMESPACES, String::new(), TEAM.to_owned()));
        note(&mut self.lets, namespace.is_some_and(|namespace| lets_look(&namespace.value)), now);
        for (side, known) in self.plan.sides.iter().zip(&mut self.sides) {
            for (need, known) in side.needs.iter().zip(known) {
                let found = server.store.get(&key_of(need));
                note(known, meets(need, found.map(|found| &found.value)), now);
            }
        }
    }

    /// A gate that nobody waits for opens only for what is there, or was when an operator last looked.
    fn side_changed(&mut self, now: Duration, change: &Change) {
        let phase = |object: &Value| object["status"]["phase"].as_str().unwrap_or("new").to_owned();
        let was = change.before.as_ref().map_or_else(|| "new".to_owned(), |before| phase(&before.value));
        let is = phase(&change.object.value);
        let Some(number) = self.plan.sides.iter().position(|side| side.name == change.key.2) else { return };
        if change.deleted || was == is {
            return;
        }
        self.passes(now, "gate", &was, &is, &change.key.2);
        let is_or_was = |(is_met, since): &(bool, Duration)| *is_met || !since.is_zero() && now < *since + UNSEEN;
        let (side, mut met) = (&self.plan.sides[number], self.sides[number].iter().map(is_or_was));
        let may_look = !side.elsewhere || is_or_was(&self.lets);
        let opens = may_look && if side.any { met.any(|met| met) } else { met.all(|met| met) };
        if is == "Open" && !opens {
            self.broken(now, format!("{} opens when its conditions are not met", change.key.2));
        }
    }

    /// Whether a barrier is still to be looked at when nothing has changed about it for a while.
    pub fn has_unseen_barriers(&self) -> bool {
        self.unseen_barriers.iter().any(Option::is_some)
    }

    /// When as many are at a barrier as it expects, it opens at once.
    fn look_for_crowd(&mut self, now: Duration, number: usize, server: &Server) {
        let key = (id_of("Barrier"), TEAM.to_owned(), self.plan.barriers[number].name.clone());
        let is_full = server.store.get(&key).is_some_and(|found| {
            let waits = !matches!(found.value["status"]["phase"].as_str(), Some("Open" | "Failed"));
            waits
                && found.value["spec"]["expected"]
                    .as_u64()
                    .is_some_and(|expected| arrived(&found.value, server) >= expected)
        });
        let since = *self.full[number].get_or_insert(now);
        if !is_full {
            self.full[number] = None;
        } else if now > since + AT_ONCE + SECOND {
            self.full[number] = Some(now);
            self.broken(now, format!("barrier: {} has all that it expects since {since:?}, and is not open", key.2));
        }
    }

    /// When nothing has changed about a barrier for so long that whatever it waits for is over, it stands where it has
    /// to.
    fn look_at_barrier(&mut self, now: Duration, number: usize, server: &Server) {
        let Some(since) = self.unseen_barriers[number] else { return };
        // Whoever leads may have begun only after all trouble.
        let began = since.max(self.calm.unwrap_or_default() + AT_REST);
        if now < began + AT_REST {
            return;
        }
        let planned = &self.plan.barriers[number];
        let Some(found) = server.store.get(&(id_of("Barrier"), TEAM.to_owned(), planned.name.clone())) else {
            self.unseen_barriers[number] = None;
            return;
        };
        let (spec, status) = (&found.value["spec"], &found.value["status"]);
        let there = arrived(&found.value, server);
        let is_enough = |field: &str| spec[field].as_u64().is_some_and(|enough| there >= enough);
        let phase = status["phase"].as_str().unwrap_or("new");
        let (due, must_be) = match (phase, planned.timeout, planned.reset_after) {
            // The end of a round is final, whoever comes or goes then.
            ("Open" | "Failed", _, Some(pause)) => (over(began, pause), "Waiting"),
            ("Open" | "Failed", _, None) => (began, phase),
            _ if is_enough("expected") => (began, "Open"),
            (_, Some(timeout), _) if there > 0 => {
                (over(began, timeout), if is_enough("quorum") { "Open" } else { "Failed" })
            }
            _ => (began, "Waiting"),
        };
        if now < due + AT_REST {
            return;
        }
        self.unseen_barriers[number] = None;
        let answers = status["observedGeneration"] == found.value["metadata"]["generation"];
        let broken = (phase != must_be || status["arrived"] != there || !answers).then(|| {
            let (name, arrived) = (&planned.name, &status["arrived"]);
            format!(
                "{name} is {phase} and says that {arrived} have arrived; nothing has changed since {since:?}, {there} \
                 are there, and it has to be {must_be}"
            )
        });
        self.count("barriers at rest that were looked at");
        if let Some(what) = broken {
            self.broken(now, what);
        }
    }

    /// What its holder has not renewed for its TTL is freed soon after, and at once when its pod says that it is dead.
    fn look_at_lives(&mut self, now: Duration, server: &Server) {
        let mut before = std::mem::take(&mut self.held);
        let is_settled = self.is_settled(now);
        for kind in ["Permit", "LeaseRequest"] {
            for (_, stored) in
                TEAMS.into_iter().flat_map(|team| server.store.list(id_of(kind), Some(team), None, u64::MAX))
            {
                let claim = &stored.value;
                if !matches!(claims::state_of(claim), "Granted" | "Revoking") {
                    continue;
                }
                let uid = claim["metadata"]["uid"].as_str().unwrap_or_default();
                let at = &claim["spec"]["renewTime"];
                let known = before.remove(uid).filter(|known| known.at == *at);
                let mut known = known.unwrap_or_else(|| Renewed { at: at.clone(), since: now, dead_since: None });
                known.dead_since = if is_dead(claim, server) { known.dead_since.or(Some(now)) } else { None };
                // A TTL of its own, or else that in force.
                let ttl = seconds(&claim["spec"]["ttl"]).or_else(|| seconds(&claim["status"]["ttl"]));
                let ttl = ttl.map(Duration::from_secs);
                let is_over = |since: Duration, span: Duration| now > since + span + SECOND;
                let what = match (ttl, known.dead_since) {
                    (_, Some(since)) if is_over(since, AT_ONCE) => {
                        Some(format!("its container has ended at {since:?}"))
                    }
                    (Some(ttl), _) if is_over(known.since, ttl + FREED) => {
                        Some(format!("it was renewed at {:?}, for {ttl:?}", known.since))
                    }
                    _ => None,
                };
                if is_settled && let Some(what) = what {
                    // Told once.
                    known.since = Duration::MAX / 2;
                    known.dead_since = known.dead_since.and(Some(Duration::MAX / 2));
                    self.broken(now, format!("I4: the claim {} is held, and {what}", claim["metadata"]["name"]));
                }
                self.held.insert(uid.to_owned(), known);
            }
        }
    }

    /// When all is well and nothing has changed for a while, every lock, every gate and every barrier says what is.
    pub fn at_rest(&mut self, now: Duration, server: &Server) {
        self.look_at_fences(now);
        self.look_at_lives(now, server);
        if !self.is_settled(now) || now < AT_REST {
            return;
        }
        for number in 0..self.plan.barriers.len() {
            self.look_for_crowd(now, number, server);
            self.look_at_barrier(now, number, server);
        }
        for number in 0..self.plan.locks.len() {
            if now < self.quiet[number] + AT_REST {
                continue;
            }
            let lock = &self.plan.locks[number];
            let (kind, claims) = if lock.is_semaphore { ("Semaphore", "Permit") } else { ("Lease", "LeaseRequest") };
            let id = |kind: &str| {
                let is_it = |resource: &resource::Resource| resource.kind == kind && resource.schema.is_some();
                resource::all().iter().position(is_it).expect("it is served")
            };
            let team = self.plan.namespace_of(number);
            let Some(found) = server.store.get(&(id(kind), team.to_owned(), lock.name.clone())) else { continue };
            let held = server.store.list(id(claims), Some(team), None, u64::MAX).map(|(_, claim)| &claim.value).filter(
                |claim| {
                    self.is_lock_of(number, claim)
                        && matches!(claim["status"]["phase"].as_str(), Some("Granted" | "Revoking"))
                },
            );
            let weight = |claim: &Value| claim["spec"]["permits"].as_u64().unwrap_or(1);
            let held_claims: Vec<_> = held.collect();
            let held: u64 = held_claims.iter().map(|claim| weight(claim)).sum();
            let waiting = server.store.list(id(claims), Some(team), None, u64::MAX).map(|(_, claim)| &claim.value);
            let waiting = waiting
                .filter(|claim| self.is_lock_of(number, claim) && matches!(claims::state_of(claim), "new" | "Pending"));
            let waiting: Vec<_> = waiting.collect();
            let all_waiting = waiting.len() as u64;
            let first = waiting.into_iter().min_by_key(|claim| {
                let priority = claim["spec"]["priority"].as_i64().unwrap_or(0);
                (-priority, claim["status"]["ticket"].as_u64().unwrap_or(u64::MAX))
            });
            let permits = if lock.is_semaphore { found.value["spec"]["permits"].as_u64().unwrap_or(0) } else { 1 };
            let is_new = |claim: &Value| {
                let calm = self.calm.map_or(Duration::MAX, |calm| calm + ANSWERED);
                self.plan.calm.is_zero() || created(claim).is_some_and(|created| created > calm)
            };
            let aside_until = self.calm.map_or(Duration::MAX, |calm| calm + ASIDE);
            let must_be_served =
                |claim: &&Value| held + weight(claim) <= permits && (is_new(claim) || now > aside_until);
            if let Some(first) = first.filter(must_be_served) {
                let what = format!(
                    "liveness: {} is the first in line for {}, and waits although {held} of {permits} are held",
                    first["metadata"]["name"], lock.name
                );
                self.quiet[number] = now;
                self.broken(now, what);
                continue;
            }
            let holders: BTreeSet<_> = held_claims.iter().map(|claim| claim["spec"]["holder"].to_string()).collect();
            let what = untrue(&found.value, lock.is_semaphore, permits, held, all_waiting, &holders);
            let what = what.map(|what| format!("I8: {} says {what}", lock.name));
            self.count("locks at rest that were looked at");
            if let Some(what) = what {
                self.quiet[number] = now;
                self.broken(now, what);
            }
        }
        let gates = id_of("Gate");
        for number in 0..self.plan.sides.len() {
            let (side, known) = (&self.plan.sides[number], &self.sides[number]);
            let lets = Some(&self.lets).filter(|_| side.elsewhere);
            if known.iter().chain(lets).any(|(_, since)| now < *since + AT_REST) {
                continue;
            }
            let namespace = if side.elsewhere { ONLOOKERS } else { TEAM };
            let Some(found) = server.store.get(&(gates, namespace.to_owned(), side.name.clone())) else { continue };
            let is_met = |(is_met, _): &(bool, Duration)| *is_met;
            let opens = if side.any { known.iter().any(is_met) } else { known.iter().all(is_met) };
            let opens = opens && lets.is_none_or(is_met);
            let phase = &found.value["status"]["phase"];
            if (*phase == "Open") != opens {
                let what = format!("{} is {phase} when its conditions are {known:?}", side.name);
                self.sides[number][0].1 = now;
                self.broken(now, what);
            }
        }
    }

    fn gate_changed(&mut self, now: Duration, change: &Change, server: &Server) {
        if self.plan.sides.iter().any(|side| side.name == change.key.2) {
            return self.side_changed(now, change);
        }
        let phase = |object: &Value| object["status"]["phase"].as_str().unwrap_or("new").to_owned();
        let was = change.before.as_ref().map_or_else(|| "new".to_owned(), |before| phase(&before.value));
        let is = phase(&change.object.value);
        if change.deleted || was == is {
            return;
        }
        self.passes(now, "gate", &was, &is, &change.key.2);
        let gate = self.plan.gates.iter().find(|gate| gate.name == change.key.2);
        let timeout = gate.and_then(|gate| gate.timeout).map(Duration::from_secs);
        let since = created(&change.object.value).unwrap_or_default();
        if is == "Failed" && timeout.is_none_or(|timeout| now + SECOND < since + timeout) {
            self.broken(now, format!("{} fails before its time is over", change.key.2));
        }
        if is != "Open" {
            return;
        }
        let jobs = id_of("Job");
        let job = server.store.get(&(jobs, change.key.1.clone(), change.key.2.clone()));
        // An operator that has not seen yet that it has gone says what it was.
        let was_complete = self.complete.get(&change.key.2).is_some_and(|until| now < *until + UNSEEN);
        let complete = was_complete || job.is_some_and(|job| is_complete(&job.value));
        if !complete {
            let what = format!("{} opens before its job is complete", change.key.2);
            self.broken(now, what);
        }
    }

    /// In the end nothing is held any more, and every lock says so.
    pub fn end(&mut self, now: Duration, server: &Server) {
        for what in left(server) {
            self.broken(now, what);
        }
    }
}

/// What says that something is held.
pub fn left(server: &Server) -> Vec<String> {
    let mut left = Vec::new();
    for (id, resource) in resource::all().iter().enumerate() {
        if !resource.namespaced {
            continue;
        }
        for (key, stored) in TEAMS.into_iter().flat_map(|team| server.store.list(id, Some(team), None, u64::MAX)) {
            let status = &stored.value["status"];
            left.push(match resource.kind.as_str() {
                "Permit" | "LeaseRequest" if status["phase"] == "Granted" || status["phase"] == "Revoking" => {
                    format!("I4: the claim {} is {} when everybody has gone", key.2, status["phase"])
                }
                "Semaphore" if status["inUse"].as_u64().unwrap_or(0) != 0 => {
                    format!("I8: semaphore {} says that {} are in use when everybody has gone", key.2, status["inUse"])
                }
                "Lease" if resource.schema.is_some() && status["phase"] == "Held" => {
                    format!("I8: lease {} says that it is held when everybody has gone", key.2)
                }
                _ => continue,
            });
        }
    }
    left
}
