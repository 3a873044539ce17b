//! A `konductor-run`: the real supervisor, driven as its own driver does, with a pretended process tree and with the
//! real client library.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use konductor::{
    Boottime, Client, Command, Exit, PodReference, Request, Wanted,
    rendezvous::{self, Arriving},
};
use konductor_cluster::process::inherit;
use konductor_run::supervisor::{ArriveOn, Effect, Event, Received, Settings, Supervisor};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    actors::{Life, holder, word},
    tree::Tree,
};
use crate::{
    mutation::Mutation,
    observe::Taken,
    plan::{Awaited, Wrapper},
};

/// What ends it in order.
const TERM: i32 = 15;

/// A lock that it wants: which of the plan's, and how many permits of it.
#[derive(Clone, Copy, Debug)]
struct Claim {
    lock: usize,
    permits: u64,
}

/// One run of `konductor-run`.
pub(super) struct Run<'a> {
    life: &'a Life,
    wrapper: &'a Wrapper,
    client: Client,
    pod: Option<PodReference>,
    claims: Vec<Claim>,
    news: UnboundedSender<Event>,
    heard: UnboundedReceiver<Event>,
    tasks: JoinSet<()>,
    commands: Vec<Option<UnboundedSender<Command>>>,
    /// The last deadline of each claim, in the world's time.
    fences: Vec<Duration>,
    tree: Option<Arc<Tree>>,
    armed: Option<Boottime>,
}

impl<'a> Run<'a> {
    pub(super) fn new(life: &'a Life, wrapper: &'a Wrapper, client: Client, pod: Option<PodReference>) -> Self {
        let plan = &life.cast.plan;
        let own = &plan.clients[life.number];
        let mut claims = vec![Claim { lock: own.lock, permits: own.permits }];
        claims.extend(wrapper.beside.map(|lock| Claim { lock, permits: 1 }));
        claims.sort_by_key(|claim| wanted(life, *claim));
        if plan.mutation == Some(Mutation::ClaimsAreTakenInAnyOrder) && life.number % 2 == 1 {
            claims.reverse();
        }
        let (news, heard) = unbounded_channel();
        let commands = claims.iter().map(|_| None).collect();
        let fences = vec![Duration::MAX; claims.len()];
        Self {
            life,
            wrapper,
            client,
            pod,
            claims,
            news,
            heard,
            tasks: JoinSet::new(),
            commands,
            fences,
            tree: None,
            armed: None,
        }
    }

    fn settings(&self) -> Settings {
        let plan = &self.life.cast.plan;
        let own = &plan.clients[self.life.number];
        Settings {
            awaited: self.awaited().into_iter().collect(),
            claims: self.claims.iter().map(|claim| format!("lock {}", plan.locks[claim.lock].name)).collect(),
            permits: self.claims.iter().map(|claim| claim.permits).collect(),
            held_around: BTreeMap::new(),
            arrivals: own.arrives.iter().map(|barrier| format!("barrier {}", plan.barriers[*barrier].name)).collect(),
            arrive_on: if self.wrapper.any_end { ArriveOn::AnyEnd } else { ArriveOn::Success },
            wait_timeout: self.wrapper.wait_timeout,
            skip_on_timeout: false,
            local: false,
            grace: self.wrapper.grace,
            ending_signals: vec![TERM],
            signals: BTreeMap::new(),
            leaves: false,
            exit_codes: BTreeMap::new(),
        }
    }

    fn awaited(&self) -> Option<rendezvous::Awaited> {
        let plan = &self.life.cast.plan;
        plan.clients[self.life.number].awaits.map(|awaited| match awaited {
            Awaited::Barrier(number) => rendezvous::Awaited::barrier(&plan.barriers[number].name),
            Awaited::Gate(number) => rendezvous::Awaited::gate(&plan.gates[number].name),
        })
    }

    /// From its start to its end: how it ends.
    pub(super) async fn go(mut self) -> Exit {
        let (cast, number) = (&self.life.cast, self.life.number);
        let now = cast.world.now();
        cast.world.inner().observers.asks(now, number);
        let mut supervisor = Supervisor::new(self.settings());
        let mut events = VecDeque::from([Event::Started]);
        loop {
            while let Some(event) = events.pop_front() {
                for effect in supervisor.step(event, Boottime::now()) {
                    if let Effect::Exit(exit) = effect {
                        self.check_is_empty("ends");
                        return exit;
                    }
                    self.apply(effect, &mut events);
                }
            }
            self.wait(&mut events).await;
        }
    }

    /// Until something has happened.
    async fn wait(&mut self, events: &mut VecDeque<Event>) {
        let far = Instant::now() + Duration::from_secs(1 << 30);
        let alarm = self.armed.map_or(far, |at| self.life.process.moment(at.0));
        let tree = self.tree.clone();
        let changed = async {
            match &tree {
                Some(tree) => tree.changed.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.life.cast.ends[self.life.number].notified() => {
                events.push_back(Event::Signal(Received { signal: TERM, queued: None, shared: false }));
            }
            () = changed => events.extend(tree.iter().flat_map(|tree| tree.news())),
            () = sleep_until(alarm) => {
                self.armed = None;
                events.push_back(Event::Timer);
            }
            Some(event) = self.heard.recv() => {
                self.life.cast.world.unheard(self.life.number, self.heard.len());
                let mut next = Some(event);
                while let Some(event) = next {
                    if let Event::Claim(index, event) = &event {
                        self.hear(*index, event);
                    }
                    events.push_back(event);
                    next = self.heard.try_recv().ok();
                }
            }
        }
    }

    /// What it is told of a claim.
    fn hear(&mut self, index: usize, event: &konductor::Event) {
        let (Life { cast, number, process, .. }, lock) = (self.life, self.claims[index].lock);
        match event {
            konductor::Event::Held { deadline, .. } | konductor::Event::Extended { deadline } => {
                cast.world.is_told_to_hold(process);
                self.fences[index] = self.life.deadline(*deadline);
                if matches!(event, konductor::Event::Extended { .. }) {
                    cast.world.inner().observers.extended(*number, lock, self.fences[index], Duration::MAX);
                }
            }
            konductor::Event::Lost { reason } => cast.world.loses(*number, lock, reason),
            _ => {}
        }
    }

    fn apply(&mut self, effect: Effect, events: &mut VecDeque<Event>) {
        let (cast, number) = (&self.life.cast, self.life.number);
        cast.world.tell(|| format!("client {number}: {effect:?}"));
        cast.world.count(&format!("konductor-run: {}", word(&effect)));
        match effect {
            Effect::Await(_) => {
                let (tell, client) = (self.teller(|progress| Event::Awaited(0, progress)), self.client.clone());
                let awaited = self.awaited().expect("what is awaited");
                self.tasks.spawn(inherit(async move { rendezvous::wait(client, awaited, tell).await }));
            }
            Effect::Acquire(index) => {
                let (sender, receiver) = unbounded_channel();
                self.commands[index] = Some(sender);
                let (tell, client) = (self.teller(move |event| Event::Claim(index, event)), self.client.clone());
                let request = self.request(self.claims[index]);
                self.tasks.spawn(inherit(async move { konductor::run(client, request, receiver, tell).await }));
            }
            Effect::Release(index) => {
                self.check_is_empty("releases");
                let _ = self.commands[index].take().map(|commands| commands.send(Command::Release));
            }
            Effect::Arrive(_) => {
                self.check_is_empty("arrives");
                let (tell, client) = (self.teller(|progress| Event::Arrival(0, progress)), self.client.clone());
                let plan = &cast.plan;
                let barrier = plan.clients[number].arrives.map(|barrier| plan.barriers[barrier].name.clone());
                let (barrier, holder) = (barrier.expect("where it arrives"), holder(number));
                let arriving = Arriving { barrier, key: holder.clone(), holder, pod: self.pod.clone() };
                self.tasks.spawn(inherit(async move { rendezvous::arrive(client, arriving, tell).await }));
            }
            Effect::ReadSignals => events.push_back(Event::SignalsRead),
            Effect::Spawn { tokens, deadline, .. } => self.spawn(&tokens, deadline, events),
            Effect::TellWatchdog(deadline) => self.watch(Some(deadline)),
            Effect::EndWatchdog => self.watch(None),
            Effect::Forward(_) | Effect::TerminateTree => self.tree.iter().for_each(|tree| tree.terminate()),
            Effect::KillTree => self.tree.iter().for_each(|tree| tree.kill()),
            Effect::Arm(at) => self.armed = at,
            // A watchdog without a deadline has nothing to do, and nothing here stops or continues a job.
            Effect::PrepareWatchdog | Effect::Continue | Effect::Stop(_) | Effect::Log(..) | Effect::Report(_) => {}
            Effect::Exit(_) => unreachable!("the loop ends there"),
        }
    }

    fn teller<T>(&self, event: impl Fn(T) -> Event + Send + 'static) -> impl FnMut(T) + Send + 'static {
        let news = self.news.clone();
        move |told| {
            // Nobody hears it only when this run is over.
            let _ = news.send(event(told));
        }
    }

    fn request(&self, claim: Claim) -> Request {
        let own = &self.life.cast.plan.clients[self.life.number];
        Request {
            wanted: wanted(self.life, claim),
            priority: own.priority,
            ttl: own.ttl.map(Duration::from_secs),
            holder: holder(self.life.number),
            pod: self.pod.clone(),
        }
    }

    fn spawn(&mut self, tokens: &[u64], deadline: Option<Boottime>, events: &mut VecDeque<Event>) {
        let (cast, number) = (&self.life.cast, self.life.number);
        // As if there were no more processes for a moment.
        if self.life.process.happens(30) {
            let error = "cannot start the command: no more processes".to_owned();
            return events.push_front(Event::NotSpawned { exit: Exit::Internal, error, momentary: true });
        }
        let works = cast.plan.clients[number].works;
        let watchdog = deadline.map(|at| self.life.process.moment(at.0));
        // What ran before it, in a run that could not start it, is over.
        let tree = Tree::start(&cast.world, number, self.wrapper, works, watchdog, cast.plan.mutation);
        cast.plant(number, &tree);
        self.tree = Some(tree);
        for ((claim, token), fence) in self.claims.iter().zip(tokens).zip(&self.fences) {
            let (lock, weight) = (claim.lock, claim.permits);
            cast.world.holds(number, Taken { lock, weight, token: *token, fence: *fence, until: Duration::MAX });
        }
    }

    fn watch(&self, deadline: Option<Boottime>) {
        let until = deadline.map(|at| self.life.process.moment(at.0));
        self.tree.iter().for_each(|tree| tree.watch(until));
    }

    /// Nothing of the command may be left now.
    fn check_is_empty(&self, what: &str) {
        let (world, number) = (&self.life.cast.world, self.life.number);
        if self.tree.as_ref().is_some_and(|tree| !tree.is_empty()) {
            let now = world.now();
            world.inner().observers.broken(now, format!("I3: client {number} {what} before its command is dead"));
        }
    }
}

fn wanted(life: &Life, claim: Claim) -> Wanted {
    let lock = &life.cast.plan.locks[claim.lock];
    let name = lock.name.clone();
    if lock.is_semaphore { Wanted::Semaphore { name, permits: claim.permits as u32 } } else { Wanted::Lease { name } }
}
