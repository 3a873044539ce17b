//! The API server, two operators, their clients, and what is on its way between them.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use konductor_api::{
    ClaimPhase, ClaimSpec, GoDuration, Permit, PermitSpec, PodReference, Queueing, REVOKE_ANNOTATION, Semaphore,
    SemaphoreSpec,
    arbiter::{ClaimChange, Now, Outcome, Plan, PodSight, Reign, Uid, Write, decide},
    limits::{ASKED_AHEAD, FRESH},
};

use super::{
    Fate, Step,
    fake::{Api, Event},
    leader::{Answer, Leader, is_telling},
};

/// What a client believes.
#[derive(Clone, Debug, PartialEq)]
enum Belief {
    Waits,
    Granted { term: u64, parent: Option<Uid>, token: u64, ttl: Duration },
    Holds { token: u64, ttl: Duration },
    Done,
}

#[derive(Clone, Debug)]
struct Client {
    name: String,
    uid: Uid,
    weight: u64,
    alive: bool,
    /// Its pod can be seen, if it has one.
    pod: bool,
    /// When its last successful renewal was sent; its creation counts as one.
    renewed: Duration,
    belief: Belief,
}

impl Client {
    fn is_dead(&self) -> bool {
        !self.alive
    }

    fn acts(&self) -> bool {
        self.alive && self.belief != Belief::Done
    }

    fn waits(&self) -> bool {
        self.alive && matches!(self.belief, Belief::Waits | Belief::Granted { .. })
    }

    /// Has to renew before it starts anything.
    fn is_stale(&self, ttl: Duration, at: Duration) -> bool {
        at.saturating_sub(self.renewed) > FRESH.min(ttl / 3)
    }
}

pub(crate) struct World {
    at: Duration,
    api: Api<Semaphore>,
    leaders: [Leader; 2],
    /// Writes that nobody waits for any more.
    late: Vec<Write>,
    clients: Vec<Client>,
    /// By token: the permits known when the grant was decided, and the highest token that had ended by then.
    grants: BTreeMap<u64, (u64, u64)>,
    highest_ended: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            at: Duration::ZERO,
            api: Api::new(),
            leaders: [Leader::new(), Leader::new()],
            late: vec![],
            clients: vec![],
            grants: BTreeMap::new(),
            highest_ended: 0,
        };
        world.resize(2, Queueing::StrictFIFO);
        for _ in 0..3 {
            world.create(1, 0, 60);
        }
        let now = world.now();
        world.leaders[0].lead(now);
        world.work(0);
        world
    }

    fn now(&self) -> Now {
        Now { monotonic: self.at, wall: Timestamp::new(1000, 0).unwrap() + self.at }
    }

    fn resize(&mut self, permits: u32, queueing: Queueing) {
        let spec = SemaphoreSpec { permits, ttl: GoDuration(Duration::from_mins(1)), queueing };
        self.api.put_parent(&spec.clone(), self.now().wall, |semaphore| semaphore.spec = spec);
    }

    pub(crate) fn step(&mut self, step: &Step) {
        let now = self.now();
        match *step {
            Step::Create { weight, priority, ttl } => self.create(weight, priority, ttl),
            Step::Resize { permits, queueing } => self.resize(permits, queueing),
            Step::DeleteSemaphore => {
                self.api.delete_parent();
                // The clock of the API server goes on, faster than terms are raised.
                self.pass(Duration::from_secs(100));
            }
            Step::Lead(operator) => self.leaders[operator].lead(now),
            Step::Follow(operator) => self.leaders[operator].view().stand_down(),
            Step::Forget(operator) => {
                // It starts anew; what it sent is still on its way.
                let mut anew = Leader::new();
                anew.relist(&self.api, now);
                let before = std::mem::replace(&mut self.leaders[operator], anew);
                self.late.extend(before.flights);
            }
            Step::Relist(operator) => self.leaders[operator].relist(&self.api, now),
            Step::Watch { operator, events, which } => self.leaders[operator].watch(&self.api, events, which, now),
            Step::Decide(operator) => self.decide(operator),
            Step::List(operator) => {
                let leader = &mut self.leaders[operator];
                leader.list = leader.listing.take().map(|term| (term, self.api.list())).or(leader.list.take());
            }
            Step::Page(operator, claims) => self.leaders[operator].page(claims, now),
            Step::Listed(operator) => {
                self.leaders[operator].page(usize::MAX, now);
                self.leaders[operator].listed(now);
            }
            Step::ListFails(operator) => self.leaders[operator].list_fails(),
            Step::Arrive { operator, write, fate } => self.arrive(operator, write, fate),
            Step::Answer { operator, answer } => {
                let leader = &mut self.leaders[operator];
                if let Some(answer) = take(&mut leader.answers, answer) {
                    leader.answer(answer, now);
                }
            }
            Step::LateArrival(write) => {
                if let Some(write) = take(&mut self.late, write) {
                    self.carry_out(&write);
                }
            }
            Step::LateThenRefused { operator, write } => {
                for (fate, pause) in [(Fate::Late, 1000), (Fate::Refused, 0)] {
                    self.decide(operator);
                    self.arrive(operator, write, fate);
                    self.answer_all(operator);
                    self.pass(Duration::from_millis(pause));
                }
                self.decide(operator);
            }
            Step::ReadBeforeListed { operator, client } => self.with(client, Client::acts, |world, client| {
                let name = world.clients[client].name.clone();
                world.api.make_unreadable(&name, true);
                let now = world.now();
                world.leaders[operator].watch(&world.api, usize::MAX, &[0, 1], now);
                world.leaders[operator].lead(now);
                for _ in 0..2 {
                    world.decide(operator);
                    while !world.leaders[operator].flights.is_empty() {
                        world.arrive(operator, 0, Fate::Arrives);
                    }
                    world.answer_all(operator);
                }
                world.step(&Step::List(operator));
                world.step(&Step::Page(operator, usize::MAX));
                world.api.make_unreadable(&name, false);
                world.leaders[operator].watch(&world.api, usize::MAX, &[0, 1], now);
                world.step(&Step::Listed(operator));
            }),
            Step::Work(operator) => {
                self.work(operator);
            }
            Step::See(which) => self.with(which, Client::waits, Self::see),
            Step::Confirm(which) => self.with(which, Client::waits, Self::confirm),
            Step::Acquire(which) => self.with(which, Client::waits, Self::acquire),
            Step::Renew(which) => self.with(which, Client::acts, Self::renew),
            Step::Release(which) => self.with(which, Client::acts, Self::release),
            Step::Die(which) => self.with(which, Client::acts, |world, client| {
                world.clients[client].alive = false;
                world.end(client, Belief::Done);
            }),
            Step::Proof { operator, client } => {
                self.with(client, Client::is_dead, |world, client| world.proof(operator, client));
            }
            Step::Look { operator, look } => self.look(operator, look),
            Step::Vanish(which) => self.with(which, |_| true, |world, client| world.clients[client].pod = false),
            Step::Unreadable { client, unreadable } => self.with(client, Client::acts, |world, client| {
                world.api.make_unreadable(&world.clients[client].name, unreadable);
            }),
            Step::Edit(which) => self.edit(which, |_| ()),
            Step::Revoke(which) => self.edit(which, |permit| {
                permit.metadata.annotations = Some([(REVOKE_ANNOTATION.to_owned(), "enough".to_owned())].into());
            }),
            Step::Pass(millis) => self.pass(Duration::from_millis(millis)),
        }
        for leader in &mut self.leaders {
            if !matches!(leader.operator.view.reign(), Reign::Settled { .. }) {
                leader.notes.settle_all();
            }
        }
    }

    /// One of the clients that fit, whatever the number.
    fn pick(&self, which: usize, fits: impl Fn(&Client) -> bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.clients.len()).filter(|index| fits(&self.clients[*index])).collect();
        (!fitting.is_empty()).then(|| fitting[which % fitting.len()])
    }

    fn with(&mut self, which: usize, fits: impl Fn(&Client) -> bool, act: impl FnOnce(&mut Self, usize)) {
        if let Some(client) = self.pick(which, fits) {
            act(self, client);
        }
    }

    fn edit(&mut self, which: usize, edit: impl FnOnce(&mut Permit)) {
        self.with(which, Client::acts, |world, client| world.api.edit_claim(&world.clients[client].name, edit));
    }

    fn create(&mut self, weight: u32, priority: i32, ttl: u64) {
        let now = self.now();
        let name = format!("c{}", self.clients.len());
        let pod = PodReference {
            container: "main".into(),
            start: "1".into(),
            ..PodReference::whole(name.clone(), name.clone())
        };
        let spec = PermitSpec {
            semaphore: "s".into(),
            permits: weight,
            claim: ClaimSpec {
                priority,
                holder: name.clone(),
                instance: name.clone(),
                pod: self.clients.len().is_multiple_of(2).then_some(pod),
                ttl: Some(GoDuration(Duration::from_secs(ttl))),
                renew_time: None,
            },
        };
        self.api.create_claim(&name, &spec, now.wall);
        let uid = self.api.claim(&name).unwrap().uid;
        let belief = Belief::Waits;
        self.clients.push(Client {
            name,
            uid,
            weight: weight.into(),
            alive: true,
            pod: true,
            renewed: self.at,
            belief,
        });
    }

    /// Takes one look, and checks the decision against the rules in plain.
    fn decide(&mut self, operator: usize) {
        let now = self.now();
        let leader = &mut self.leaders[operator];
        let plan = decide(&leader.operator.view, now);
        let waiting: Vec<_> = leader.notes.waiting().into_iter().map(|claim| claim.uid.to_string()).collect();
        let ended = plan.writes.iter().filter(|write| write.name() == "expire").map(|write| write.uid().to_owned());
        leader.notes.mute.extend(ended.filter(|uid| waiting.contains(uid)));
        if let (Reign::Settled { term }, Some(parent)) = (leader.operator.view.reign(), &leader.notes.parent.clone()) {
            let known = leader.notes.held(*term);
            let held = if leader.notes.is_unknown() { known.max(parent.capacity) } else { known };
            assert_eq!(leader.operator.view.in_use(), held, "permits in use");
            assert_eq!(leader.operator.view.waiting(), leader.notes.waiting().len(), "claims that wait");
            let granted = plan.writes.iter().filter(|write| write.name() == "grant");
            let granted = granted.map(|write| write.uid().to_owned());
            let granted: Vec<_> = granted.filter(|uid| !leader.notes.granting.contains(uid)).collect();
            assert_eq!(granted, leader.notes.next(parent, *term, now), "grants");
        }
        leader.sent(&plan, now);
        if idle(&plan) {
            let again = decide(&leader.operator.view, now);
            assert!(idle(&again), "nothing was done and something is to be done: {again:?}");
            assert!(again.look_again.is_none_or(|at| at > now.monotonic), "would look again and again");
        }
        leader.listing = plan.list.or(leader.listing);
        leader.notes.listing |= plan.list.is_some();
        leader.looks.extend(plan.looks);
        for write in plan.writes {
            self.check(operator, &write);
            self.leaders[operator].flights.push(write);
        }
    }

    fn check(&mut self, operator: usize, write: &Write) {
        let notes = &mut self.leaders[operator].notes;
        let Write::Claim(claim) = write else { return };
        let uid = claim.uid.to_string();
        if claim.change != ClaimChange::Delete {
            *notes.unanswered.entry(uid.clone()).or_default() += 1;
        }
        if !is_telling(write) {
            let before = notes.busy.insert(uid.clone(), write.version());
            assert_eq!(before, None, "two writes of one claim at once: {write:?}");
        }
        match &claim.change {
            ClaimChange::Grant(state) => {
                notes.granting.insert(uid);
                let capacity = notes.parent.as_ref().map_or(0, |parent| parent.capacity);
                let before = self.grants.insert(state.token.unwrap(), (capacity, self.highest_ended));
                assert_eq!(before, None, "a token is given twice");
            }
            ClaimChange::Restamp(state) => {
                let before = &notes.claims[&uid].state;
                assert!(state.term > before.term, "a term is set back");
                assert_eq!(state.parent, before.parent, "another parent's grant is confirmed");
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, write: &Write) -> Option<Event> {
        let result = self.api.write(write, self.now().wall)?;
        if let Write::Claim(claim) = write
            && claim
                .change
                .state()
                .is_none_or(|state| matches!(state.phase, Some(ClaimPhase::Expired | ClaimPhase::Pending)))
        {
            let holder = self.clients.iter().find(|client| client.uid == claim.uid);
            let holds = holder.is_some_and(|client| matches!(client.belief, Belief::Holds { .. }));
            assert!(!holds, "taken from a holder: {write:?}");
        }
        Some(result)
    }

    fn arrive(&mut self, operator: usize, write: usize, fate: Fate) {
        let Some(write) = take(&mut self.leaders[operator].flights, write) else { return };
        let (outcome, found) = match fate {
            Fate::Arrives => match self.carry_out(&write) {
                Some(result) => (None, result),
                None => (Some(Outcome::NotApplied), self.api.read(&write)),
            },
            Fate::Unanswered => {
                self.carry_out(&write);
                (Some(Outcome::Unknown), self.api.read(&write))
            }
            Fate::Lost => (Some(Outcome::Unknown), self.api.read(&write)),
            Fate::Late => {
                self.late.push(write.clone());
                (Some(Outcome::Unknown), self.api.read(&write))
            }
            Fate::Refused => (Some(Outcome::NotApplied), self.api.read(&write)),
        };
        self.leaders[operator].answers.push(Answer { write, outcome, found });
    }

    fn answer_all(&mut self, operator: usize) {
        let now = self.now();
        for answer in std::mem::take(&mut self.leaders[operator].answers) {
            self.leaders[operator].answer(answer, now);
        }
    }

    /// Everything goes well for an operator until it has nothing to do. Returns whether it did anything.
    fn work(&mut self, operator: usize) -> bool {
        let mut worked = false;
        for _ in 0..200 {
            let now = self.now();
            let before = self.api.log.len();
            self.leaders[operator].watch(&self.api, usize::MAX, &[0, 1], now);
            self.step(&Step::List(operator));
            self.step(&Step::Listed(operator));
            while !self.leaders[operator].flights.is_empty() {
                self.arrive(operator, 0, Fate::Arrives);
            }
            self.answer_all(operator);
            while !self.leaders[operator].looks.is_empty() {
                self.look(operator, 0);
            }
            self.step(&Step::Decide(operator));
            let leader = &self.leaders[operator];
            if leader.flights.is_empty()
                && leader.looks.is_empty()
                && leader.listing.is_none()
                && self.api.log.len() == before
            {
                return worked;
            }
            worked = true;
        }
        panic!("an operator never comes to rest");
    }

    fn pass(&mut self, time: Duration) {
        self.at += time;
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            if matches!(client.belief, Belief::Holds { ttl, .. } if client.renewed + ttl <= self.at) {
                self.end(index, Belief::Done);
            }
        }
    }

    /// Whatever the client ran is dead from now on.
    fn end(&mut self, client: usize, belief: Belief) {
        let client = &mut self.clients[client];
        if let Belief::Holds { token, .. } = client.belief {
            self.highest_ended = self.highest_ended.max(token);
        }
        client.belief = belief;
    }

    fn see(&mut self, index: usize) {
        let client = &self.clients[index];
        if !client.waits() {
            return;
        }
        let state = self.api.claim(&client.name).map(|claim| claim.state);
        let belief = match &state {
            None => Belief::Done,
            Some(state) => match state.phase {
                Some(ClaimPhase::Granted) => Belief::Granted {
                    term: state.term,
                    parent: state.parent.clone(),
                    token: state.token.unwrap(),
                    ttl: state.ttl.unwrap(),
                },
                Some(ClaimPhase::Expired | ClaimPhase::Revoking) => Belief::Done,
                Some(ClaimPhase::Pending) | None => Belief::Waits,
            },
        };
        let asked = state.and_then(|state| state.ahead).is_some_and(|ahead| ahead < ASKED_AHEAD);
        if belief == Belief::Waits && asked && self.at.saturating_sub(client.renewed) > FRESH {
            self.renew_claim(index);
        }
        self.clients[index].belief = belief;
    }

    /// A look at a pod shows whether its client is dead, as far as the pod can be seen.
    fn look(&mut self, operator: usize, which: usize) {
        let now = self.now();
        let leader = &mut self.leaders[operator];
        let Some(look) = take(&mut leader.looks, which) else { return };
        let client = self.clients.iter().find(|client| client.uid == look.claim).expect("a claim has a client");
        let sight = match (client.pod, client.alive) {
            (false, _) => PodSight::Gone,
            (true, false) => PodSight::Ended,
            (true, true) => PodSight::Lives,
        };
        if leader.notes.claims.contains_key(&*look.claim) {
            match sight {
                PodSight::Gone => _ = leader.notes.absent.insert(look.claim.to_string()),
                PodSight::Ended => _ = leader.notes.dead.insert(look.claim.to_string()),
                PodSight::Lives | PodSight::Unknown => {}
            }
        }
        leader.operator.view.looked(&look.claim, sight, now);
    }

    fn renew_claim(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let wall = Timestamp::new(5, 0).unwrap() + self.at;
        self.api.edit_claim(&client.name, |permit| permit.spec.claim.renew_time = Some(wall.into()));
        client.renewed = self.at;
    }

    fn confirm(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Belief::Granted { term, parent, token, ttl } = client.belief.clone() else { return };
        if client.is_stale(ttl, self.at) {
            return;
        }
        let Some(known) = self.api.parent() else {
            client.belief = Belief::Waits;
            return;
        };
        if Some(&known.uid) != parent.as_ref() {
            // That of a parent that does not exist any more is never confirmed: better to ask again than to wait for
            // the TTL.
            return self.release(index);
        }
        if known.state.term != term {
            client.belief = Belief::Waits;
            return;
        }
        client.belief = Belief::Holds { token, ttl };
        let (_, ended) = self.grants[&token];
        assert!(token > ended, "token {token} is granted after {ended} has ended");
        let holders = self.clients.iter().filter_map(|client| match client.belief {
            Belief::Holds { token, .. } => Some((token, client.weight)),
            _ => None,
        });
        let (last, held) = holders.fold((0, 0), |(last, held), (token, weight)| (last.max(token), held + weight));
        let (permits, _) = self.grants[&last];
        assert!(held <= permits, "{held} are held of {permits}: {:#?}", self.clients);
    }

    fn acquire(&mut self, index: usize) {
        self.see(index);
        if matches!(self.clients[index].belief, Belief::Granted { ttl, .. } if self.clients[index].is_stale(ttl, self.at))
        {
            self.renew(index);
        }
        self.confirm(index);
    }

    fn renew(&mut self, index: usize) {
        self.renew_claim(index);
        let client = &self.clients[index];
        let claim = self.api.claim(&client.name).map(|claim| claim.state);
        let granted = claim.filter(|state| state.phase == Some(ClaimPhase::Granted));
        match (&client.belief, granted) {
            (Belief::Holds { .. }, Some(_)) => {}
            (Belief::Holds { .. }, None) => self.end(index, Belief::Done),
            _ => self.see(index),
        }
    }

    fn release(&mut self, index: usize) {
        self.end(index, Belief::Done);
        if self.clients[index].alive {
            self.api.delete_claim(&self.clients[index].name);
        }
    }

    fn proof(&mut self, operator: usize, index: usize) {
        let (uid, now) = (&*self.clients[index].uid, self.now());
        let leader = &mut self.leaders[operator];
        leader.operator.view.holder_died(uid, now);
        if leader.notes.claims.contains_key(uid) {
            leader.notes.dead.insert(uid.into());
        }
    }

    /// The faults end, one operator leads, and clients do what they should.
    pub(crate) fn everybody_is_served(&mut self) {
        for write in std::mem::take(&mut self.late) {
            self.carry_out(&write);
        }
        for client in &self.clients {
            self.api.make_unreadable(&client.name, false);
        }
        self.leaders[1].view().stand_down();
        self.resize(3, Queueing::StrictFIFO);
        let now = self.now();
        if *self.leaders[0].operator.view.reign() == Reign::Standby {
            self.leaders[0].lead(now);
        }
        for _ in 0..2000 {
            let mut busy = self.work(1) | self.work(0);
            for client in 0..self.clients.len() {
                let before = self.clients[client].belief.clone();
                match before {
                    Belief::Holds { .. } | Belief::Done => self.release(client),
                    Belief::Waits | Belief::Granted { .. } => self.acquire(client),
                }
                busy |= before != self.clients[client].belief;
            }
            if busy {
                continue;
            }
            if self.clients.iter().all(|client| client.belief == Belief::Done)
                && self.leaders[0].operator.view.in_use() == 0
                && self.leaders[0].operator.view.waiting() == 0
            {
                return;
            }
            let now = self.now();
            let plan = decide(&self.leaders[0].operator.view, now);
            let next = plan.look_again.expect("somebody is not served, and nothing is ever looked at again");
            assert!(next > self.at, "looks again at a time that has passed");
            self.pass(next.saturating_sub(self.at));
        }
        panic!("not everybody is served: {:#?}", self.clients);
    }
}

/// Takes one out, whatever the number.
fn take<T>(all: &mut Vec<T>, which: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.remove(which % all.len()))
}

fn idle(plan: &Plan) -> bool {
    plan.writes.is_empty() && plan.looks.is_empty() && plan.list.is_none()
}
