//! What must be true at every step, as somebody sees it who has kubectl and the clients' own words, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    plan::Plan,
    server::{Change, Server, resource},
};

/// How long a claim waits before it counts as passed over: by then every operator that is well has seen it.
const SEEN: Duration = Duration::from_secs(20);

/// How long an operator may not have seen an edit: a watch that was cut off without a word is begun anew after that.
const UNSEEN: Duration = Duration::from_mins(1);

/// How long after all trouble order counts: a claim is set aside for up to a minute when a write on it came to nothing.
const SETTLED: Duration = Duration::from_secs(90);

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
    /// What it protects has ended: a later deadline is of no concern.
    has_ended: bool,
    /// Its claim was taken away by hand, which is nobody's fault but of who did it.
    is_void: bool,
}

/// Watches a history.
#[derive(Debug)]
pub struct Observers {
    plan: Plan,
    broken: Vec<Broken>,
    holds: BTreeMap<usize, Hold>,
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
    passed: BTreeMap<(usize, String), (u64, String)>,
    /// What was counted.
    pub figures: BTreeMap<&'static str, u64>,
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
            calm: None,
            passed: BTreeMap::new(),
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
    pub fn count(&mut self, what: &'static str) {
        *self.figures.entry(what).or_default() += 1;
    }

    /// All is well from now on.
    pub fn calm(&mut self, now: Duration) {
        self.calm = Some(now);
    }

    /// A client asks for its lock.
    pub fn asks(&mut self, now: Duration, client: usize) {
        self.asks.insert(client, now);
    }

    /// A client says that it holds its lock.
    pub fn held(&mut self, now: Duration, client: usize, token: u64, deadline: Duration) {
        self.count("held");
        let lock = self.plan.clients[client].lock;
        let weight = self.plan.clients[client].permits;
        let name = self.plan.locks[lock].name.clone();
        if deadline <= now {
            let what = format!("client {client} holds {name} when its deadline has passed");
            return self.broken(now, what);
        }
        // An operator that has not seen a semaphore's edit yet grants by what it was before.
        let since = self.asks.get(&client).copied().unwrap_or_default().min(now.saturating_sub(UNSEEN));
        let history = &self.permits[lock];
        let first = history.iter().rposition(|(from, _)| *from <= since).unwrap_or(0);
        let allowed = history[first..].iter().map(|(_, permits)| *permits).max().unwrap_or(0);
        let most = history.iter().map(|(_, permits)| *permits).max().unwrap_or(0);
        let live: Vec<_> =
            self.holds.iter().filter(|(_, hold)| hold.lock == lock && hold.until > now && !hold.is_void).collect();
        let used: u64 = weight + live.iter().map(|(_, hold)| hold.weight).sum::<u64>();
        if used > allowed {
            let others: Vec<_> =
                live.iter().map(|(client, hold)| format!("client {client} until {:?}", hold.until)).collect();
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
        self.holds.insert(client, Hold { lock, weight, token, until: deadline, has_ended: false, is_void: false });
    }

    /// A client says that its deadline is later now.
    pub fn extended(&mut self, client: usize, deadline: Duration) {
        self.count("extended");
        if let Some(hold) = self.holds.get_mut(&client).filter(|hold| !hold.has_ended) {
            hold.until = deadline;
        }
    }

    /// What a client protected has ended.
    pub fn ended(&mut self, now: Duration, client: usize) {
        if let Some(hold) = self.holds.get_mut(&client) {
            hold.until = hold.until.min(now);
            hold.has_ended = true;
        }
    }

    /// The claim of a client was deleted by hand.
    pub fn void(&mut self, client: usize) {
        if let Some(hold) = self.holds.get_mut(&client) {
            hold.is_void = true;
        }
    }

    /// Something was written.
    pub fn changed(&mut self, now: Duration, change: &Change, by: Option<&str>, server: &Server) {
        let resource = &resource::all()[change.key.0];
        if resource.schema.is_none() {
            return;
        }
        match resource.kind.as_str() {
            "Permit" | "LeaseRequest" => self.claim_changed(now, change, by, server),
            "Semaphore" => {
                let number = self.plan.locks.iter().position(|lock| lock.name == change.key.2);
                let permits = change.object.value["spec"]["permits"].as_u64();
                if let (Some(number), Some(permits)) = (number, permits)
                    && self.permits[number].last().is_none_or(|(_, last)| *last != permits)
                {
                    self.permits[number].push((now, permits));
                }
            }
            "Barrier" => self.barrier_changed(now, change, server),
            "Gate" => self.gate_changed(now, change, server),
            _ => {}
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
        if freed && let Some(by) = by {
            let live =
                self.holds.iter().find(|(_, hold)| hold.token == token_before && hold.until > now && !hold.is_void);
            if let Some((client, hold)) = live
                && self.is_lock_of(hold.lock, after)
            {
                let until = hold.until;
                let what = format!(
                    "I2: {by} frees the claim {} of client {client}, who may hold until {until:?}",
                    change.key.2
                );
                self.broken(now, what);
            }
        }
        if !held(&was) && is == "Granted" {
            self.count("granted");
            let token = after["status"]["fencingToken"].as_u64().unwrap_or(0);
            self.order(now, change, token, server);
        }
        if is == "Expired" && was != "Expired" {
            self.count("expired");
        }
    }

    fn is_lock_of(&self, lock: usize, claim: &Value) -> bool {
        let name = self.plan.locks[lock].name.as_str();
        claim["spec"]["semaphore"] == name || claim["spec"]["lease"] == name
    }

    /// Who was granted something was the first in line.
    fn order(&mut self, now: Duration, change: &Change, token: u64, server: &Server) {
        if let Some((before, by)) = self.passed.remove(&(change.key.0, change.key.2.clone()))
            && before < token
        {
            self.broken(now, format!("I6: {by} was granted before {}", change.key.2));
        }
        if !self.calm.is_some_and(|calm| now >= calm + SETTLED || self.plan.calm.is_zero()) {
            return;
        }
        let of = |claim: &Value, field: &str| claim["spec"][field].clone();
        let granted = &change.object.value;
        let rank = |claim: &Value| {
            let priority = claim["spec"]["priority"].as_i64().unwrap_or(0);
            (-priority, claim["status"]["ticket"].as_u64().unwrap_or(u64::MAX))
        };
        let seconds = |claim: &Value| {
            let created =
                claim["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            created.map_or(Duration::MAX, |created| {
                Duration::from_secs((created.as_second() - crate::world::EPOCH.as_second()).max(0) as u64)
            })
        };
        for (key, stored) in server.store.list(change.key.0, Some(&change.key.1), None, u64::MAX) {
            let waiting = &stored.value;
            let same =
                of(waiting, "semaphore") == of(granted, "semaphore") && of(waiting, "lease") == of(granted, "lease");
            if key != &change.key
                && same
                && waiting["status"]["phase"] == "Pending"
                && rank(waiting) < rank(granted)
                && waiting["spec"]["permits"].as_u64() <= granted["spec"]["permits"].as_u64()
                && seconds(waiting).saturating_add(SEEN) < now
            {
                self.passed.entry((key.0, key.2.clone())).or_insert_with(|| (token, change.key.2.clone()));
            }
        }
    }

    fn barrier_changed(&mut self, now: Duration, change: &Change, server: &Server) {
        let opened = |object: &Value| object["status"]["phase"] == "Open";
        let before = change.before.as_ref().is_some_and(|before| opened(&before.value));
        if change.deleted || before || !opened(&change.object.value) {
            return;
        }
        self.count("barriers opened");
        let arrivals = resource::all().iter().position(|resource| resource.kind == "Arrival").expect("arrivals");
        let mut keys: Vec<_> = server
            .store
            .list(arrivals, Some(&change.key.1), None, u64::MAX)
            .filter(|(_, arrival)| arrival.value["spec"]["barrier"] == change.key.2.as_str())
            .map(|(_, arrival)| arrival.value["spec"]["key"].to_string())
            .collect();
        keys.sort();
        keys.dedup();
        let expected = change.object.value["spec"]["expected"].as_u64().unwrap_or(0);
        if (keys.len() as u64) < expected {
            let what = format!("{} opens when {} of {expected} have arrived", change.key.2, keys.len());
            self.broken(now, what);
        }
    }

    fn gate_changed(&mut self, now: Duration, change: &Change, server: &Server) {
        let opened = |object: &Value| object["status"]["phase"] == "Open";
        let before = change.before.as_ref().is_some_and(|before| opened(&before.value));
        if change.deleted || before || !opened(&change.object.value) {
            return;
        }
        self.count("gates opened");
        let jobs = resource::all().iter().position(|resource| resource.kind == "Job").expect("jobs");
        let job = server.store.get(&(jobs, change.key.1.clone(), change.key.2.clone()));
        let complete = job.is_some_and(|job| {
            let conditions = job.value["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Complete" && one["status"] == "True"))
        });
        if !complete {
            let what = format!("{} opens before its job is complete", change.key.2);
            self.broken(now, what);
        }
    }

    /// In the end nothing is held any more, and every lock says so.
    pub fn end(&mut self, now: Duration, server: &Server) {
        for (id, resource) in resource::all().iter().enumerate() {
            for (key, stored) in server.store.list(id, None, None, u64::MAX) {
                let status = &stored.value["status"];
                let what = match resource.kind.as_str() {
                    "Permit" | "LeaseRequest" if status["phase"] == "Granted" || status["phase"] == "Revoking" => {
                        format!("I4: the claim {} is {} when everybody has gone", key.2, status["phase"])
                    }
                    "Semaphore" if status["inUse"].as_u64().unwrap_or(0) != 0 => {
                        format!(
                            "I8: semaphore {} says that {} are in use when everybody has gone",
                            key.2, status["inUse"]
                        )
                    }
                    "Lease" if resource.schema.is_some() && status["phase"] == "Held" => {
                        format!("I8: lease {} says that it is held when everybody has gone", key.2)
                    }
                    _ => continue,
                };
                self.broken(now, what);
            }
        }
    }
}
