//! What a seed makes: who there is, what they want, and what goes wrong when. A plan is data, so that a part of it can
//! be left out to see whether the rest still fails.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{chance::Chance, mutation::Mutation, observe::SETTLED, world::TEAMS};

/// How long things go wrong at most. After that all is well, and everybody has to come to an end.
pub const TROUBLE: Duration = Duration::from_secs(90);

/// A lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// Whether it is a semaphore; else a lease.
    pub is_semaphore: bool,
    /// Its name.
    pub name: String,
    /// Its permits; 1 of a lease.
    pub permits: u64,
    /// Its TTL, in seconds.
    pub ttl: u64,
    /// Whose it is: an index of [`TEAMS`].
    #[serde(default)]
    pub team: usize,
    /// Whether who fits overtakes who does not: its `queueing`.
    #[serde(default)]
    pub best_effort: bool,
}

/// Who wants to hold a lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Client {
    /// Which lock.
    pub lock: usize,
    /// How many permits.
    pub permits: u64,
    /// How urgently.
    pub priority: i32,
    /// A TTL of its own, in seconds.
    pub ttl: Option<u64>,
    /// When it begins.
    pub begins: Duration,
    /// How long it works with what it holds.
    pub works: Duration,
    /// How often.
    pub times: u64,
    /// Whether it is a container of a pod.
    pub in_pod: bool,
    /// By how many millionths its clock is fast.
    pub drift: i64,
    /// A barrier that it arrives at in the end.
    pub arrives: Option<usize>,
    /// A barrier or gate that it waits for first.
    pub awaits: Option<Awaited>,
    /// It is a `konductor-run`; else a program that uses the library.
    pub wrapper: Option<Wrapper>,
    /// It dies at the end of its work in place of releasing, and does not come back.
    #[serde(default)]
    pub dies: bool,
}

/// How a `konductor-run` and its command are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wrapper {
    /// Another lock, of which it holds one permit.
    pub beside: Option<usize>,
    /// How long the command has from TERM to KILL.
    pub grace: Duration,
    /// How long the command takes to end when it is told to; never when absent.
    pub reaction: Option<Duration>,
    /// How long what the command leaves behind goes on.
    pub leaves: Option<Duration>,
    /// How long it waits for what it wants.
    #[serde(default)]
    pub wait_timeout: Option<Duration>,
    /// Whether it arrives also when its command has failed.
    #[serde(default)]
    pub any_end: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Awaited {
    /// This barrier.
    Barrier(usize),
    /// This gate.
    Gate(usize),
}

/// A barrier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Barrier {
    /// Its name.
    pub name: String,
    /// Arrivals until it opens.
    pub expected: u64,
    /// Arrivals that are enough once `timeout` has passed.
    pub quorum: Option<u64>,
    /// How long after the first arrival the others are waited for, in seconds.
    pub timeout: Option<u64>,
    /// How long after its end a new round begins, in seconds.
    pub reset_after: Option<u64>,
}

/// A gate that opens when a job is complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// Its name, and that of its job.
    pub name: String,
    /// When the job completes; never when absent.
    pub completes: Option<Duration>,
    /// How long it is waited for, in seconds.
    pub timeout: Option<u64>,
}

/// A gate that nobody waits for: it shows what the operator sees of others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    /// Its name.
    pub name: String,
    /// It is in another namespace than what it looks at.
    pub elsewhere: bool,
    /// One of its conditions is enough.
    pub any: bool,
    /// Its conditions.
    pub needs: Vec<Need>,
}

/// A condition of a gate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Need {
    /// The kind of what it looks at.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The state that is wanted.
    pub state: String,
}

/// What a neighbour does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Mischief {
    /// It makes so many claims that nobody renews, and that cannot be deleted.
    Crowd(u64),
    /// It has objects that cannot be read.
    Garbage,
}

/// A process of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Who {
    /// This operator.
    Operator(usize),
    /// This client.
    Client(usize),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(number) => write!(f, "operator {number}"),
            Self::Client(number) => write!(f, "client {number}"),
        }
    }
}

/// What the network and the API server do to requests, each in so many of a thousand cases.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Weather {
    /// A request is lost.
    pub lost: u32,
    /// It is carried out, and the answer is lost.
    pub unanswered: u32,
    /// It is carried out late: up to a minute later.
    pub late: u32,
    /// It is refused with 429, 500, 503 or 504, the last of which may have been carried out.
    pub refused: u32,
    /// A watch is cut off before an event, or goes silent.
    pub cut: u32,
    /// The longest way, in milliseconds.
    pub way: u64,
    /// By how much watches lag on their way, at most; in milliseconds.
    pub lag: u64,
    /// By how much the cache of each API server lags, at most; in milliseconds.
    pub behind: u64,
    /// A request goes to another API server than the one before.
    pub moves: u32,
}

/// Objects that the API server cannot serve.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Target {
    /// This lock.
    Lock(usize),
    /// The claims that this client has then.
    ClaimsOf(usize),
    /// This barrier.
    Barrier(usize),
    /// This gate, counted with those that nobody waits for after the others.
    Gate(usize),
    /// The pod that this client is in then.
    PodOf(usize),
    /// What says who leads.
    Election,
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum What {
    /// The process ends at once, and is started again after so long; of a pod with an even number of milliseconds in
    /// the same pod.
    Crash(Who, Duration),
    /// The process stands still for so long.
    Freeze(Who, Duration),
    /// Nothing goes from or to it for so long.
    Cut(Who, Duration),
    /// It may do nothing for so long.
    Forbid(Who, Duration),
    /// A semaphore is given so many permits.
    Permits(usize, u64),
    /// A claim of this client is to be given back.
    Revoke(usize),
    /// A claim of this client is deleted by hand.
    Delete(usize),
    /// A lock is deleted, and made anew after so long.
    Recreate(usize, Duration),
    /// The pod of this client is deleted, by force or not.
    DeletePod(usize, bool),
    /// Etcd is compacted: what was before is not known any more, and every watch ends.
    Compact,
    /// Somebody makes a claim and never comes back.
    Stranger(usize, u64),
    /// The wall clock of this process is set by so many seconds.
    SetClock(Who, i64),
    /// This API server is replaced: its connections end, it is away for so long, and then knows what there is.
    Replace(usize, Duration),
    /// Etcd is restored from a backup that is so old; its versions go on far above all that were, if that is said.
    Restore(Duration, bool),
    /// The namespace is deleted, and made anew, with its locks, so long after it has gone.
    DeleteNamespace(Duration),
    /// For so long a quota has no room for claims.
    Quota(Duration),
    /// For so long admission refuses what is said of claims.
    Refuse(Duration),
    /// For so long a webhook of admission does not answer.
    Webhook(Duration),
    /// The machine of this client is suspended for so long: nothing on it runs, and its time since boot goes on.
    Suspend(usize, Duration),
    /// The machine of this operator is suspended for so long.
    SuspendOperator(usize, Duration),
    /// The node of this client's pod is lost for so long: its kubelet says nothing, its processes run on, and what the
    /// pod was is deleted after a third of that time, and collected after two thirds.
    LoseNode {
        /// The client.
        client: usize,
        /// For how long.
        span: Duration,
        /// Nothing goes from or to its processes, either.
        is_cut_off: bool,
        /// Its kubelet kills what it finds when it is back; else that runs on until it is fenced.
        kills: bool,
    },
    /// People of another namespace do what they may do, and more.
    Neighbour(Mischief),
    /// For so long whatever is asked about these objects alone is answered with 500 or 503: lists and watches go on.
    Unservable(Target, Duration),
    /// A lock is given a TTL of so many seconds.
    Ttl(usize, u64),
    /// A barrier is to expect so many.
    Expect(usize, u64),
    /// A gate, counted as in [`Target::Gate`], is deleted, and made anew after so long.
    RecreateGate(usize, Duration),
    /// A barrier is deleted, and made anew after so long.
    RecreateBarrier(usize, Duration),
    /// The job of this gate fails, if it is not complete; after so long people delete it and make another one.
    FailJob(usize, Duration),
    /// The job of this gate is deleted, and made anew after so long.
    DeleteJob(usize, Duration),
    /// The namespace of everybody lets gates of the other one look, or does not any more.
    GatesFrom(bool),
}

/// A whole history, but for what its seed says of each step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// By how many millionths the clock of each operator is fast.
    pub operators: Vec<i64>,
    /// How many API servers there are, on one etcd.
    pub servers: usize,
    /// How many objects a page of a list has at most; 0: as many as are asked for.
    pub page: usize,
    /// The locks.
    pub locks: Vec<Lock>,
    /// The barriers.
    pub barriers: Vec<Barrier>,
    /// The gates.
    pub gates: Vec<Gate>,
    /// Gates that nobody waits for.
    #[serde(default)]
    pub sides: Vec<Side>,
    /// Whether gates of other namespaces may look into that of everybody.
    #[serde(default)]
    pub is_open_to_gates: bool,
    /// The clients.
    pub clients: Vec<Client>,
    /// What the network does while there is trouble.
    pub weather: Weather,
    /// What happens when.
    pub events: Vec<(Duration, What)>,
    /// When trouble ends.
    pub calm: Duration,
    /// A rule that is taken out.
    pub mutation: Option<Mutation>,
}

/// The most by which the kernel corrects a clock's rate, in millionths: clients and operators rely on it.
const DRIFT: u64 = 500;

impl Plan {
    /// The plan of a seed, without old backups: what may be relied on after one is less (`docs/reliability.md`).
    pub fn of(seed: u64) -> Self {
        let mut plan = Self::with_restores(seed);
        plan.events.retain(|(_, what)| !matches!(what, What::Restore(..)));
        plan
    }

    /// The plan of a seed, in which etcd may be restored from a backup.
    pub fn with_restores(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 1);
        let c = &mut chance;
        let drift = |c: &mut Chance| if c.happens(500) { c.within(0, 2 * DRIFT) as i64 - DRIFT as i64 } else { 0 };
        let operators = (0..c.within(1, 2)).map(|_| drift(c)).collect::<Vec<_>>();
        let servers = if c.happens(600) { 1 } else { c.within(2, 3) as usize };
        let page = if c.happens(700) { 0 } else { c.within(1, 4) as usize };
        let locks: Vec<_> = (0..c.within(1, 2))
            .map(|number| {
                let is_semaphore = c.happens(600);
                let permits = if is_semaphore { c.within(1, 3) } else { 1 };
                let kind = if is_semaphore { "semaphore" } else { "lease" };
                Lock {
                    is_semaphore,
                    name: format!("{kind}-{number}"),
                    permits,
                    ttl: c.within(5, 20),
                    team: 0,
                    best_effort: false,
                }
            })
            .collect();
        let calm = if c.happens(150) { Duration::ZERO } else { Duration::from_secs(c.within(20, TROUBLE.as_secs())) };
        let mut clients: Vec<Client> = (0..c.within(2, 5))
            .map(|_| {
                let lock = c.below(locks.len() as u64) as usize;
                Client {
                    lock,
                    permits: if locks[lock].is_semaphore { c.within(1, locks[lock].permits) } else { 1 },
                    priority: if c.happens(200) { c.within(0, 10) as i32 - 5 } else { 0 },
                    ttl: c.happens(300).then(|| c.within(5, 20)),
                    begins: c.millis(0, calm.as_millis() as u64 + 5000),
                    works: if c.happens(100) { c.millis(20_000, 120_000) } else { c.millis(0, 20_000) },
                    times: c.within(1, 2),
                    in_pod: c.happens(500),
                    drift: drift(c),
                    arrives: None,
                    awaits: None,
                    wrapper: c.happens(400).then(|| wrapper(c, lock, locks.len())),
                    dies: false,
                }
            })
            .collect();
        let mut barriers = Vec::new();
        if c.happens(300) {
            let all = clients.len() as u64;
            let timeout = c.happens(300).then(|| c.within(5, 40));
            barriers.push(Barrier {
                name: "barrier-0".into(),
                expected: all,
                quorum: timeout.and_then(|_| c.happens(500).then(|| c.within(1, all))),
                timeout,
                reset_after: c.happens(250).then(|| c.within(5, 20)),
            });
            for client in &mut clients {
                client.arrives = Some(0);
            }
            // Who waits for a barrier with rounds may come after the last one.
            if barriers[0].reset_after.is_none() && c.happens(500) {
                let mut waits = clients[0].clone();
                (waits.arrives, waits.awaits, waits.times) = (None, Some(Awaited::Barrier(0)), 1);
                clients.push(waits);
            }
        }
        let mut gates = Vec::new();
        if c.happens(200) {
            // Who waits for what fails does not arrive anywhere.
            let may_fail = barriers.is_empty();
            let completes = (c.happens(800) || !may_fail).then(|| c.millis(0, calm.as_millis() as u64 + 5000));
            let timeout = (may_fail && (completes.is_none() || c.happens(300))).then(|| c.within(5, 40));
            gates.push(Gate { name: "gate-0".into(), completes, timeout });
            let number = c.below(clients.len() as u64) as usize;
            if clients[number].awaits.is_none() {
                clients[number].awaits = Some(Awaited::Gate(0));
            }
        }
        let weather = weather(c);
        let mut plan = Self {
            seed,
            operators,
            servers,
            page,
            locks,
            barriers,
            gates,
            sides: Vec::new(),
            is_open_to_gates: false,
            clients,
            weather,
            events: Vec::new(),
            calm,
            mutation: None,
        };
        if !calm.is_zero() {
            let count = if c.happens(200) { c.within(7, 15) } else { c.below(7) };
            for _ in 0..count {
                let at = Duration::from_millis(c.below(calm.as_millis() as u64));
                let what = plan.what(c);
                plan.events.push((at, what));
            }
        }
        plan.more();
        plan
    }

    /// What has come to plans over time, each by a chance of its own, so that what else a seed makes is as before.
    fn more(&mut self) {
        self.beside(&mut Chance::new(self.seed, 3));
        self.machines(&mut Chance::new(self.seed, 4));
        self.teams(&mut Chance::new(self.seed, 5));
        self.people(&mut Chance::new(self.seed, 6));
        self.queues(&mut Chance::new(self.seed, 7));
        self.late(&mut Chance::new(self.seed, 8));
        self.settings(&mut Chance::new(self.seed, 9));
        self.events.sort_by_key(|(at, _)| *at);
    }

    /// What else a `konductor-run` can be told.
    fn settings(&mut self, c: &mut Chance) {
        for wrapper in self.clients.iter_mut().filter_map(|client| client.wrapper.as_mut()) {
            wrapper.any_end = c.happens(200);
            wrapper.wait_timeout = c.happens(100).then(|| c.millis(2000, 60_000));
        }
    }

    /// How who waits for semaphores is let in.
    fn queues(&mut self, c: &mut Chance) {
        for lock in self.locks.iter_mut().filter(|lock| lock.is_semaphore) {
            lock.best_effort = c.happens(250);
        }
    }

    /// Those who come when all has been well for a while, so that nothing excuses what becomes of them: one that dies
    /// while it holds something, and a crowd that has to wait in line.
    fn late(&mut self, c: &mut Chance) {
        let lock = c.below(self.locks.len() as u64) as usize;
        let dies = c.happens(150);
        let crowd = if c.happens(150) { c.within(3, 6) } else { 0 };
        // A crowd is of more use where claims have different weights.
        let lock = if crowd > 0 { self.locks.iter().position(|lock| lock.permits > 1).unwrap_or(lock) } else { lock };
        for number in 0..u64::from(dies) + crowd {
            let dies = dies && number == 0;
            self.clients.push(Client {
                lock,
                permits: c.within(1, self.locks[lock].permits),
                priority: if !dies && c.happens(300) { c.within(0, 4) as i32 - 2 } else { 0 },
                ttl: Some(c.within(10, 50)),
                begins: self.calm + SETTLED + c.millis(0, 20_000),
                works: c.millis(0, if dies { 10_000 } else { 60_000 }),
                times: 1,
                in_pod: c.happens(600),
                drift: 0,
                arrives: None,
                awaits: None,
                wrapper: None,
                dies,
            });
        }
    }

    /// What there is besides: who looks on, who disturbs, and who works on for long when it is to end.
    fn beside(&mut self, c: &mut Chance) {
        if c.happens(150) {
            self.is_open_to_gates = c.happens(700);
            for number in 0..c.within(1, 3) {
                let needs = (0..c.within(1, 2)).map(|_| self.need(c)).collect();
                let (elsewhere, any) = (c.happens(400), c.happens(300));
                self.sides.push(Side { name: format!("side-{number}"), elsewhere, any, needs });
            }
        }
        if self.calm.is_zero() {
            return;
        }
        let calm = self.calm.as_millis() as u64;
        if c.happens(30) {
            let mischief = if c.happens(500) { Mischief::Crowd(c.within(10, 150)) } else { Mischief::Garbage };
            self.events.push((Duration::from_millis(c.below(calm)), What::Neighbour(mischief)));
        }
        if c.happens(60) {
            let number = c.below(self.clients.len() as u64) as usize;
            let at = Duration::from_millis(c.below(calm));
            self.events.push((at, What::Suspend(number, c.millis(1000, 120_000))));
        }
        if c.happens(30) {
            let number = c.below(self.clients.len() as u64) as usize;
            let client = &mut self.clients[number];
            (client.begins, client.times) = (Duration::from_millis(c.below(1000)), 1);
            client.works = self.calm + Duration::from_mins(1);
            self.events.push((Duration::from_millis(c.within(calm / 2, calm)), What::Revoke(number)));
        }
    }

    /// Which machines are suspended and lost.
    fn machines(&mut self, c: &mut Chance) {
        if self.calm.is_zero() {
            return;
        }
        let calm = self.calm.as_millis() as u64;
        if c.happens(80) {
            let number = c.below(self.operators.len() as u64) as usize;
            let at = Duration::from_millis(c.below(calm));
            self.events.push((at, What::SuspendOperator(number, c.millis(1000, 120_000))));
        }
        if c.happens(80) {
            let number = c.below(self.clients.len() as u64) as usize;
            let span = Duration::from_millis(c.within(calm / 4, calm / 2));
            let (is_cut_off, kills) = (c.happens(700), c.happens(500));
            let client = &mut self.clients[number];
            // When it is about to wait or to work, and often for so long that it does so all the time.
            client.begins = client.begins.min(self.calm / 3);
            let at = client.begins + c.millis(0, calm / 6);
            client.works = if c.happens(500) { client.works.max(span) } else { client.works };
            client.in_pod = true;
            // The controller of its Job makes another pod when the one that is lost is collected.
            let mut other = client.clone();
            (other.begins, other.works, other.times) = (at + span / 3 * 2, c.millis(0, 10_000), 1);
            (other.arrives, other.awaits) = (None, None);
            self.clients.push(other);
            let client = number;
            self.events.push((at, What::LoseNode { client, span, is_cut_off, kills }));
        }
    }

    /// Other teams, each with a namespace of its own in which locks have the same names; and a neighbour with very many
    /// claims, which takes long and is rare.
    fn teams(&mut self, c: &mut Chance) {
        let calm = self.calm.as_millis() as u64;
        if c.happens(60) {
            let (locks, clients) = (self.locks.clone(), self.clients.clone());
            for team in 1..=c.within(1, TEAMS.len() as u64 - 1) as usize {
                let first = self.locks.len();
                self.locks.extend(locks.iter().map(|lock| Lock { team, ..lock.clone() }));
                for _ in 0..c.within(1, 3) {
                    let mut client = c.one_of(&clients).clone();
                    (client.arrives, client.awaits) = (None, None);
                    (client.begins, client.drift) = (c.millis(0, calm + 5000), 0);
                    client.lock += first;
                    if let Some(beside) = client.wrapper.as_mut().and_then(|wrapper| wrapper.beside.as_mut()) {
                        *beside += first;
                    }
                    self.clients.push(client);
                }
            }
            for _ in 0..if calm == 0 { 0 } else { c.below(4) } {
                let at = Duration::from_millis(c.below(calm));
                let what = self.what(c);
                self.events.push((at, what));
            }
        }
        if calm > 0 && c.below(2000) == 0 {
            let at = Duration::from_millis(c.below(calm));
            self.events.push((at, What::Neighbour(Mischief::Crowd(c.within(1000, 3000)))));
        }
    }

    /// Who awaits a barrier waits for ever if what has arrived is lost: nobody says it again.
    fn may_lose_arrivals(&self) -> bool {
        !self.clients.iter().any(|client| matches!(client.awaits, Some(Awaited::Barrier(_))))
    }

    /// What people edit, delete and make anew beside locks and claims, and what of it is out of order.
    fn people(&mut self, c: &mut Chance) {
        if self.calm.is_zero() {
            return;
        }
        let calm = self.calm.as_millis() as u64;
        let index = |c: &mut Chance, of: usize| c.below(of as u64) as usize;
        let gates = self.gates.len() + self.sides.len();
        let may_lose_arrivals = self.may_lose_arrivals();
        let mut add = |c: &mut Chance, what: What| self.events.push((Duration::from_millis(c.below(calm)), what));
        if c.happens(100) {
            let target = match c.below(6) {
                0 if gates > 0 => Target::Gate(index(c, gates)),
                1 if !self.barriers.is_empty() => Target::Barrier(index(c, self.barriers.len())),
                2 => Target::ClaimsOf(index(c, self.clients.len())),
                3 => Target::PodOf(index(c, self.clients.len())),
                4 => Target::Election,
                _ => Target::Lock(index(c, self.locks.len())),
            };
            let span = c.millis(1000, 60_000);
            add(c, What::Unservable(target, span));
        }
        if self.sides.iter().any(|side| side.elsewhere) && c.happens(400) {
            let what = What::GatesFrom(c.happens(500));
            add(c, what);
        }
        if c.happens(50) {
            self.operators.push(0);
        }
        if c.happens(60) {
            let what = What::Ttl(index(c, self.locks.len()), c.within(5, 20));
            add(c, what);
        }
        if gates > 0 && c.happens(150) {
            let what = What::RecreateGate(index(c, gates), c.millis(0, 10_000));
            add(c, what);
        }
        if !self.gates.is_empty() && c.happens(300) {
            let (job, pause, fails) = (index(c, self.gates.len()), c.millis(0, 20_000), c.happens(500));
            add(c, if fails { What::FailJob(job, pause) } else { What::DeleteJob(job, pause) });
        }
        if !self.barriers.is_empty() && c.happens(100) {
            let what = What::Expect(index(c, self.barriers.len()), c.within(1, self.clients.len() as u64));
            add(c, what);
        }
        if !self.barriers.is_empty() && may_lose_arrivals && c.happens(150) {
            let what = What::RecreateBarrier(index(c, self.barriers.len()), c.millis(0, 10_000));
            add(c, what);
        }
    }

    /// The namespace of a lock, and of all claims on it.
    pub fn namespace_of(&self, lock: usize) -> &'static str {
        TEAMS[self.locks[lock].team]
    }

    /// The namespace of a client.
    pub fn team_of(&self, client: usize) -> &'static str {
        self.namespace_of(self.clients[client].lock)
    }

    fn need(&self, c: &mut Chance) -> Need {
        let lock = c.one_of(&self.locks);
        let (kind, name, states) = match c.below(5) {
            0 if !self.gates.is_empty() => ("Job", &self.gates[0].name, &["Complete", "Active", "Failed"][..]),
            1 if !self.gates.is_empty() => ("Gate", &self.gates[0].name, &["Open", "Closed"][..]),
            2 if !self.sides.is_empty() && !self.sides[0].elsewhere => {
                ("Gate", &self.sides[0].name, &["Open", "Closed"][..])
            }
            3 if !self.barriers.is_empty() => ("Barrier", &self.barriers[0].name, &["Open", "Closed"][..]),
            _ if lock.is_semaphore => ("Semaphore", &lock.name, &["Available", "Full"][..]),
            _ => ("Lease", &lock.name, &["Acquired", "Available"][..]),
        };
        Need { kind: kind.into(), name: name.clone(), state: (*c.one_of(states)).into() }
    }

    fn what(&self, c: &mut Chance) -> What {
        let who = if c.happens(500) {
            Who::Operator(c.below(self.operators.len() as u64) as usize)
        } else {
            Who::Client(c.below(self.clients.len() as u64) as usize)
        };
        let (client, lock) = (c.below(self.clients.len() as u64) as usize, c.below(self.locks.len() as u64) as usize);
        // What is lost by a restored backup, nobody says again.
        let may_forget = self.barriers.is_empty();
        match c.below(20) {
            0 | 1 => What::Crash(who, c.millis(10, 30_000)),
            2 | 3 => What::Freeze(who, c.millis(100, 60_000)),
            4 | 5 => What::Cut(who, c.millis(100, 60_000)),
            6 => What::Forbid(who, c.millis(100, 20_000)),
            7 if self.locks[lock].is_semaphore => What::Permits(lock, c.within(0, 3)),
            8 => What::Revoke(client),
            9 => What::Delete(client),
            10 => What::Recreate(lock, c.millis(0, 10_000)),
            11 => What::DeletePod(client, c.happens(300)),
            12 => What::Compact,
            13 => What::SetClock(who, c.within(0, 7200) as i64 - 3600),
            14 => What::Replace(c.below(self.servers as u64) as usize, c.millis(0, 20_000)),
            15 if may_forget => What::Restore(c.millis(0, 40_000), c.happens(500)),
            16 if self.may_lose_arrivals() => What::DeleteNamespace(c.millis(0, 10_000)),
            17 => What::Quota(c.millis(100, 30_000)),
            18 => What::Refuse(c.millis(100, 30_000)),
            19 => What::Webhook(c.millis(100, 30_000)),
            _ => What::Stranger(lock, c.within(1, 3)),
        }
    }
}

fn weather(c: &mut Chance) -> Weather {
    if c.happens(250) {
        return Weather { way: 5, lag: 20, ..Weather::default() };
    }
    let mut rate = |most: u64| if c.happens(500) { c.within(0, most) as u32 } else { 0 };
    let (lost, unanswered, late, refused, cut) = (rate(60), rate(60), rate(30), rate(100), rate(60));
    let (behind, moves) = (c.millis(0, 10_000).as_millis() as u64, c.within(0, 200) as u32);
    Weather { lost, unanswered, late, refused, cut, way: c.within(1, 400), lag: c.within(0, 3000), behind, moves }
}

fn wrapper(c: &mut Chance, lock: usize, locks: usize) -> Wrapper {
    let beside = (locks > 1 && c.happens(500)).then(|| (lock + 1) % locks);
    Wrapper {
        beside,
        grace: c.millis(0, 10_000),
        reaction: c.happens(800).then(|| c.millis(0, 5000)),
        leaves: c.happens(300).then(|| c.millis(0, 20_000)),
        wait_timeout: None,
        any_end: false,
    }
}
