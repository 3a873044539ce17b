//! What holds for every order of events: random histories against a small model of the world around the core.

use konductor::{AcquireError, LossReason, RendezvousError};
use proptest::prelude::*;

use super::*;

/// What happens next, as far as it can.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// Time passes, with a timer that rings when it should.
    Passes(u64),
    /// Time passes unnoticed: the process was frozen.
    Frozen(u64),
    Signal(i32),
    /// One that the command has got as well.
    Shared(i32),
    /// A signal that is not read yet.
    Arrives(i32),
    Stopped(i32, bool),
    Continued,
    Hears(usize, ClaimNews),
    Awaits(usize, RendezvousNews),
    Arrivals(usize, RendezvousNews),
    CommandEnds(u8),
    SomeEnd,
    AllEnd,
    /// There is no cluster to connect to.
    Unreachable,
    /// A login program is run, and ends.
    LogsIn,
    ClientFails,
    WatchdogEnds,
    /// The next times that the command is to be started, there is no process to be had.
    NotSpawned(u32),
}

#[derive(Clone, Copy, Debug)]
enum ClaimNews {
    Asked,
    Granted,
    Waiting(Option<u64>, bool),
    Held(u64),
    Extended,
    Revoked,
    Taken,
    Failed,
    Released,
}

#[derive(Clone, Copy, Debug)]
enum RendezvousNews {
    Seen,
    Closed(bool),
    Trouble,
    Done,
    Failed,
}

fn news() -> impl Strategy<Value = RendezvousNews> {
    prop_oneof![
        1 => Just(RendezvousNews::Seen),
        1 => any::<bool>().prop_map(RendezvousNews::Closed),
        1 => Just(RendezvousNews::Trouble),
        9 => Just(RendezvousNews::Done),
        1 => Just(RendezvousNews::Failed),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let claim_news = prop_oneof![
        1 => Just(ClaimNews::Asked),
        2 => Just(ClaimNews::Granted),
        1 => (proptest::option::of(0..3_u64), any::<bool>())
            .prop_map(|(ahead, missing)| ClaimNews::Waiting(ahead, missing && ahead.is_none())),
        4 => (5_000..30_000_u64).prop_map(ClaimNews::Held),
        4 => Just(ClaimNews::Extended),
        1 => Just(ClaimNews::Revoked),
        1 => Just(ClaimNews::Taken),
        1 => Just(ClaimNews::Failed),
        4 => Just(ClaimNews::Released),
    ];
    prop_oneof![
        6 => (0..8_000_u64).prop_map(Happening::Passes),
        1 => (0..60_000_u64).prop_map(Happening::Frozen),
        1 => prop::sample::select(vec![1, 2, 10, 15, 18, 20, 34]).prop_map(Happening::Signal),
        1 => prop::sample::select(vec![2, 15, 18, 20]).prop_map(Happening::Shared),
        1 => prop::sample::select(vec![1, 10, 15, 34]).prop_map(Happening::Arrives),
        1 => (prop::sample::select(vec![19, 20, 21, 22]), any::<bool>())
            .prop_map(|(signal, in_front)| Happening::Stopped(signal, in_front)),
        1 => Just(Happening::Continued),
        12 => (0..3_usize, claim_news).prop_map(|(claim, news)| Happening::Hears(claim, news)),
        4 => (0..2_usize, news()).prop_map(|(index, news)| Happening::Awaits(index, news)),
        4 => (0..2_usize, news()).prop_map(|(index, news)| Happening::Arrivals(index, news)),
        2 => prop_oneof![Just(0), Just(3), any::<u8>()].prop_map(Happening::CommandEnds),
        2 => Just(Happening::SomeEnd),
        2 => Just(Happening::AllEnd),
        1 => prop::sample::select(vec![Happening::Unreachable, Happening::LogsIn]),
        1 => Just(Happening::ClientFails),
        1 => Just(Happening::WatchdogEnds),
        1 => (0..3_u32).prop_map(Happening::NotSpawned),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let few = || prop_oneof![3 => Just(0), 1 => 1..3_usize];
    let rendezvous = (few(), few(), prop::sample::select(vec![ArriveOn::Success, ArriveOn::AnyEnd]));
    let map = prop::sample::select(vec![BTreeMap::new(), BTreeMap::from([(15, Some(3)), (10, None)])]);
    (0..4_usize, proptest::option::of(0..20_000_u64), any::<bool>(), 0..20_000_u64, any::<bool>(), map, rendezvous)
        .prop_map(|(claims, wait, skip_on_timeout, grace, leaves, signals, (awaited, arrivals, arrive_on))| Settings {
            awaited: (0..awaited).map(|gate| Awaited::gate(gate.to_string())).collect(),
            arrivals: (0..arrivals).map(|barrier| format!("barrier {barrier}")).collect(),
            arrive_on,
            claims: (0..claims).map(|claim| format!("semaphore {claim}")).collect(),
            permits: vec![1; claims],
            held_around: BTreeMap::new(),
            wait_timeout: wait.map(Duration::from_millis),
            skip_on_timeout,
            local: false,
            grace: Duration::from_millis(grace),
            ending_signals: vec![1, 2, 3, 15],
            signals,
            leaves: leaves && claims + arrivals == 0,
            exit_codes: BTreeMap::from([(3, 0), (79, 0), (143, 7)]),
        })
}

/// Nothing to hold, and nothing configured.
pub(crate) fn plain() -> Settings {
    Settings {
        awaited: Vec::new(),
        arrivals: Vec::new(),
        arrive_on: ArriveOn::Success,
        claims: Vec::new(),
        permits: Vec::new(),
        held_around: BTreeMap::new(),
        wait_timeout: None,
        skip_on_timeout: false,
        local: false,
        grace: Duration::from_secs(10),
        ending_signals: vec![1, 2, 3, 15],
        signals: BTreeMap::new(),
        leaves: false,
        exit_codes: BTreeMap::new(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ClaimSeen {
    Absent,
    Asked,
    Held { ttl: Duration, deadline: Boottime },
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum RendezvousSeen {
    Ahead,
    Begun,
    Met,
    Failed,
}

/// The world as the events and effects tell it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states")]
struct World {
    supervisor: Supervisor,
    now: Boottime,
    armed: Option<Boottime>,
    awaited: Vec<RendezvousSeen>,
    arrivals: Vec<RendezvousSeen>,
    claims: Vec<ClaimSeen>,
    releasing: Vec<bool>,
    answered: bool,
    client_failed: bool,
    signalled: bool,
    spawned: bool,
    command_alive: bool,
    /// What the command has ended with is 0, or told as 0.
    ended_well: bool,
    tree_alive: bool,
    killed: bool,
    /// How often the command cannot be started for a moment.
    not_spawned: u32,
    lost: bool,
    /// This process is asked to stop; every second time the kernel does not.
    stopping: Option<i32>,
    kernel_stops: bool,
    /// Signals that wait to be read.
    arrived: Vec<i32>,
    /// The first signal that ended the waiting.
    ended_by: Option<i32>,
    /// What the command is to receive, and what it has received.
    owed: usize,
    forwarded: usize,
    /// What the watchdog was last told, while there is one.
    watchdog: Option<Boottime>,
    /// There is one that was told nothing yet.
    watchdog_ready: bool,
    /// What the last watchdog was last told.
    last_told: Option<Boottime>,
    exit: Option<Exit>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let claims = settings.claims.len();
        Self {
            awaited: vec![RendezvousSeen::Ahead; settings.awaited.len()],
            arrivals: vec![RendezvousSeen::Ahead; settings.arrivals.len()],
            supervisor: Supervisor::new(settings),
            now: Boottime(Duration::from_secs(100)),
            armed: None,
            claims: vec![ClaimSeen::Absent; claims],
            releasing: vec![false; claims],
            answered: false,
            client_failed: false,
            signalled: false,
            spawned: false,
            command_alive: false,
            ended_well: false,
            tree_alive: false,
            killed: false,
            not_spawned: 0,
            lost: false,
            stopping: None,
            kernel_stops: false,
            arrived: Vec::new(),
            ended_by: None,
            owed: 0,
            forwarded: 0,
            watchdog: None,
            watchdog_ready: false,
            last_told: None,
            exit: None,
        }
    }

    fn tell(&mut self, event: Event) {
        let late = self
            .claims
            .iter()
            .any(|claim| matches!(claim, ClaimSeen::Held { deadline, .. } if *deadline - KILLING <= self.now));
        self.lost |= late && self.tree_alive;
        let effects = self.supervisor.step(event, self.now);
        assert!(self.exit.is_none() || effects.is_empty(), "effects after the exit: {effects:?}");
        let (mut read_signals, mut not_spawned) = (false, false);
        for effect in effects {
            match effect {
                Effect::Await(index) => self.begins_to_wait(index),
                Effect::Arrive(index) => self.begins_to_arrive(index),
                Effect::Acquire(index) => {
                    assert_eq!(self.claims[index], ClaimSeen::Absent);
                    assert!(self.met(self.awaited.len()), "holds before it has waited");
                    assert!(self.claims[..index].iter().all(|claim| matches!(claim, ClaimSeen::Held { .. })));
                    self.claims[index] = ClaimSeen::Asked;
                }
                Effect::Release(index) => {
                    assert!(!self.tree_alive, "released under a live tree");
                    assert_eq!((self.watchdog, self.watchdog_ready), (None, false), "released with a watchdog about");
                    assert!(self.claims[index] != ClaimSeen::Absent && !self.releasing[index]);
                    self.releasing[index] = true;
                }
                Effect::ReadSignals => read_signals = true,
                Effect::Spawn { tokens, locks, deadline } => {
                    assert_eq!((locks.len(), tokens.len()), (self.claims.len(), self.claims.len()));
                    not_spawned = !self.spawns(deadline);
                }
                Effect::PrepareWatchdog => {
                    assert!(!self.tree_alive && self.watchdog.is_none() && !self.watchdog_ready, "another watchdog");
                    self.watchdog_ready = true;
                }
                Effect::TellWatchdog(deadline) => {
                    assert!(self.tree_alive, "a watchdog of nothing");
                    assert!(!self.lost || Some(deadline) == self.last_told, "later, although something is lost");
                    (self.watchdog, self.last_told) = (Some(deadline), Some(deadline));
                }
                Effect::EndWatchdog => {
                    assert!(!self.tree_alive, "a live tree without a watchdog");
                    (self.watchdog, self.watchdog_ready) = (None, false);
                }
                // There is nobody yet.
                Effect::Forward(_) | Effect::Continue if not_spawned => {}
                Effect::Forward(received) => {
                    let dropped = self.supervisor.settings.signals.get(&received.signal) == Some(&None);
                    assert!(self.command_alive && !dropped);
                    self.forwarded += 1;
                }
                Effect::Continue => assert!(self.command_alive),
                Effect::Stop(signal) => self.stopping = Some(signal),
                // Both may come with the news that the tree is empty: time comes first.
                Effect::TerminateTree => assert!(self.spawned && !self.killed),
                Effect::KillTree => {
                    assert!(self.spawned);
                    self.killed = true;
                }
                Effect::Arm(at) => self.armed = at,
                Effect::Log(..) | Effect::Report(_) => {}
                Effect::Exit(exit) => {
                    assert!(!self.tree_alive || self.supervisor.settings.leaves, "left a live tree behind");
                    assert!(!self.lost || exit == Exit::Lost, "a loss must end with 79: {exit:?}");
                    let arrived = self.arrivals.iter().all(|arrival| *arrival == RendezvousSeen::Met);
                    assert!(exit != Exit::Code(0) || arrived, "a success that nobody hears of");
                    self.exit = Some(exit);
                }
            }
        }
        for claim in &self.claims {
            let late = matches!(claim, ClaimSeen::Held { deadline, .. } if *deadline - KILLING <= self.now);
            assert!(!late || !self.tree_alive || self.killed, "alive past the deadline: {claim:?} at {}", self.now);
        }
        if let (Some(watchdog), Some(fence)) = (self.watchdog, self.fence()) {
            assert!(watchdog <= fence, "the watchdog waits for too long");
            let over = self.supervisor.verdict == Some(Exit::Lost);
            assert!(over || watchdog == fence, "renewed, and the watchdog waits until {watchdog} and not {fence}");
        }
        if let Some(signal) = self.stopping.take() {
            self.kernel_stops = !self.kernel_stops;
            if !self.kernel_stops {
                self.tell(Event::NotStopped(signal));
            }
        }
        if not_spawned {
            self.tell(Event::NotSpawned { exit: Exit::Internal, error: "no process".to_owned(), momentary: true });
        }
        if read_signals {
            self.read_signals();
            self.tell(Event::SignalsRead);
        }
    }

    /// Whether the command runs then: there may be no process to be had.
    fn spawns(&mut self, deadline: Option<Boottime>) -> bool {
        assert!(!self.spawned, "started twice");
        assert!(!self.signalled, "started after a signal to end");
        assert!(self.met(self.awaited.len()), "started before it has waited");
        for claim in &self.claims {
            let lasts = matches!(claim, ClaimSeen::Held { deadline, .. } if self.now < *deadline - KILLING);
            assert!(lasts, "{claim:?}");
        }
        assert_eq!(deadline, self.fence(), "the watchdog has another deadline");
        (self.watchdog, self.watchdog_ready, self.last_told) = (deadline, false, deadline);
        let runs = self.not_spawned == 0;
        (self.spawned, self.command_alive, self.tree_alive) = (runs, runs, runs);
        self.not_spawned = self.not_spawned.saturating_sub(1);
        runs
    }

    fn begins_to_wait(&mut self, index: usize) {
        assert!(self.claims.iter().all(|claim| *claim == ClaimSeen::Absent), "holds while it waits");
        assert!(!self.spawned && self.met(index) && self.awaited[index] == RendezvousSeen::Ahead);
        self.awaited[index] = RendezvousSeen::Begun;
    }

    fn begins_to_arrive(&mut self, index: usize) {
        assert!(self.spawned && !self.tree_alive && !self.lost, "arrives for work that is not done");
        assert!(!self.releasing.contains(&true), "released before it has arrived");
        assert!(self.ended_well || self.supervisor.settings.arrive_on == ArriveOn::AnyEnd);
        assert_eq!((self.watchdog, self.arrivals[index]), (None, RendezvousSeen::Ahead));
        self.arrivals[index] = RendezvousSeen::Begun;
    }

    /// Whether everything that is awaited before this was seen open.
    fn met(&self, index: usize) -> bool {
        self.awaited[..index].iter().all(|seen| *seen == RendezvousSeen::Met)
    }

    fn has_asked(&self) -> bool {
        let rendezvous = self.awaited.iter().chain(&self.arrivals);
        self.claims.iter().any(|claim| *claim != ClaimSeen::Absent)
            || rendezvous.into_iter().any(|seen| *seen != RendezvousSeen::Ahead)
    }

    /// Whether the cluster has been heard of, so that there is one.
    fn is_answered(&self) -> bool {
        let rendezvous = self.awaited.iter().chain(&self.arrivals);
        self.answered || rendezvous.into_iter().any(|seen| [RendezvousSeen::Met, RendezvousSeen::Failed].contains(seen))
    }

    fn read_signals(&mut self) {
        for signal in std::mem::take(&mut self.arrived) {
            self.happen(Happening::Signal(signal));
        }
    }

    /// When the first claim ends.
    fn fence(&self) -> Option<Boottime> {
        let deadlines = self.claims.iter().filter_map(|claim| match claim {
            ClaimSeen::Held { deadline, .. } => Some(*deadline - KILLING),
            _ => None,
        });
        deadlines.min()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Passes(millis) => {
                let until = self.now + Duration::from_millis(millis);
                while let Some(at) = self.armed.filter(|at| *at <= until) {
                    self.now = self.now.max(at);
                    self.armed = None;
                    self.tell(Event::Timer);
                    assert!(self.armed.is_none_or(|next| next > self.now), "the timer rings for ever");
                }
                self.now = until;
            }
            Happening::Frozen(millis) => self.now = self.now + Duration::from_millis(millis),
            Happening::Arrives(signal) => self.arrived.push(signal),
            Happening::Signal(signal) => {
                let ends = [1, 2, 3, 15].contains(&signal);
                self.signalled |= ends;
                if ends && !self.spawned {
                    self.ended_by.get_or_insert(signal);
                }
                let waits =
                    matches!(self.supervisor.phase, Phase::Awaiting { .. } | Phase::Acquiring { .. } | Phase::Ready);
                self.owed += usize::from(self.command_alive || waits && !ends);
                self.tell(Event::Signal(Received { signal, queued: None, shared: false }));
            }
            Happening::Shared(signal) if self.command_alive => {
                let before = self.forwarded;
                self.tell(Event::Signal(Received { signal, queued: None, shared: true }));
                assert_eq!(self.forwarded, before, "a signal was doubled");
            }
            Happening::Stopped(signal, in_front) if self.command_alive => {
                self.tell(Event::CommandStopped { signal, in_front });
            }
            Happening::NotSpawned(times) => self.not_spawned = times,
            Happening::Continued => self.tell(Event::Signal(Received { signal: 18, queued: None, shared: false })),
            Happening::Hears(index, news) if index < self.claims.len() && !self.client_failed => self.hear(index, news),
            Happening::CommandEnds(code) if self.command_alive => {
                self.command_alive = false;
                self.ended_well = *self.supervisor.settings.exit_codes.get(&code).unwrap_or(&code) == 0;
                self.tell(Event::CommandEnded(Exit::Code(code)));
                self.tell(Event::Remaining);
            }
            Happening::SomeEnd if self.tree_alive => self.tell(Event::Remaining),
            Happening::AllEnd if self.tree_alive => {
                if self.command_alive {
                    (self.command_alive, self.ended_well) = (false, true);
                    self.tell(Event::CommandEnded(Exit::Code(0)));
                }
                self.tree_alive = false;
                self.tell(Event::TreeEmpty);
            }
            Happening::WatchdogEnds if std::mem::take(&mut self.watchdog_ready) | self.watchdog.take().is_some() => {
                self.tell(Event::WatchdogEnded);
            }
            Happening::Awaits(index, news) if !self.client_failed && begun(&self.awaited, index) => {
                let (next, progress) = progress(news);
                self.awaited[index] = next;
                self.tell(Event::Awaited(index, progress));
            }
            Happening::Arrivals(index, news) if !self.client_failed && begun(&self.arrivals, index) => {
                let (next, progress) = progress(news);
                self.arrivals[index] = next;
                self.tell(Event::Arrival(index, progress));
            }
            Happening::LogsIn if !self.client_failed => {
                self.tell(Event::LoggingIn { program: "aws".to_owned() });
                self.tell(Event::LoggedIn);
            }
            Happening::Unreachable if !self.client_failed && self.has_asked() && !self.is_answered() => {
                self.client_failed = true;
                // One may be released in the same step: the time that was up comes first.
                self.tell(Event::Unreachable { exit: Exit::Unreachable, error: "no cluster".to_owned() });
                self.claims.fill(ClaimSeen::Absent);
                assert!(self.exit.is_some(), "waits for nobody");
                assert!(self.exit != Some(Exit::Code(0)), "nobody was asked");
            }
            Happening::ClientFails if !self.client_failed && self.has_asked() => {
                self.lost |= self.tree_alive && self.claims.iter().any(|claim| *claim != ClaimSeen::Absent);
                self.client_failed = true;
                self.tell(Event::ClientFailed { error: "a defect".to_owned() });
            }
            _ => {}
        }
    }

    /// One answer, if it can come where the claim stands.
    fn hear(&mut self, index: usize, news: ClaimNews) {
        let claim = self.claims[index];
        let (next, event) = match (news, claim) {
            (ClaimNews::Asked, ClaimSeen::Asked) => (claim, ClaimEvent::Asked),
            (ClaimNews::Granted, ClaimSeen::Asked) => (claim, ClaimEvent::Granted),
            (ClaimNews::Waiting(ahead, missing), ClaimSeen::Asked) => {
                (claim, ClaimEvent::Waiting { ahead, message: String::new(), parent_missing: missing, lock: None })
            }
            (ClaimNews::Held(millis), ClaimSeen::Asked) => {
                let ttl = Duration::from_millis(millis);
                let deadline = self.now + ttl;
                (
                    ClaimSeen::Held { ttl, deadline },
                    ClaimEvent::Held { fencing_token: 1, ttl, deadline, lock: "p".into() },
                )
            }
            (ClaimNews::Extended, ClaimSeen::Held { ttl, .. }) => {
                let deadline = self.now + ttl;
                (ClaimSeen::Held { ttl, deadline }, ClaimEvent::Extended { deadline })
            }
            (ClaimNews::Revoked | ClaimNews::Taken, ClaimSeen::Held { .. }) => {
                self.lost |= self.tree_alive;
                let by_a_person = LossReason::Revoked("maintenance".to_owned());
                let reason = if matches!(news, ClaimNews::Revoked) { by_a_person } else { LossReason::Deleted };
                (ClaimSeen::Lost, ClaimEvent::Lost { reason })
            }
            (ClaimNews::Failed, ClaimSeen::Asked) => {
                let error = AcquireError::Refused { operation: "create the claim", message: "no".to_owned() };
                (ClaimSeen::Absent, ClaimEvent::Failed { error })
            }
            (ClaimNews::Released, _) if self.releasing[index] => (ClaimSeen::Absent, ClaimEvent::Released),
            _ => return,
        };
        self.answered = true;
        if next == ClaimSeen::Absent {
            // It may be released in the same step: the time that was up comes first.
            self.tell(Event::Claim(index, event));
            (self.claims[index], self.releasing[index]) = (next, false);
        } else {
            self.claims[index] = next;
            self.tell(Event::Claim(index, event));
        }
    }

    /// Ends everything in order.
    fn wind_down(&mut self) {
        self.read_signals();
        self.happen(Happening::Signal(15));
        self.happen(Happening::AllEnd);
        self.happen(Happening::Passes((ARRIVAL + RELEASE).as_millis() as u64));
    }
}

fn begun(all: &[RendezvousSeen], index: usize) -> bool {
    all.get(index) == Some(&RendezvousSeen::Begun)
}

/// The news, and where what they are about stands then.
fn progress(news: RendezvousNews) -> (RendezvousSeen, Progress) {
    match news {
        RendezvousNews::Seen => (RendezvousSeen::Begun, Progress::Seen),
        RendezvousNews::Closed(missing) => {
            (RendezvousSeen::Begun, Progress::Waiting { message: String::new(), missing })
        }
        RendezvousNews::Trouble => {
            (RendezvousSeen::Begun, Progress::Retrying { operation: "ask", error: "no".to_owned() })
        }
        RendezvousNews::Done => (RendezvousSeen::Met, Progress::Done),
        RendezvousNews::Failed => {
            (RendezvousSeen::Failed, Progress::Failed { error: RendezvousError::Failed("no".to_owned()) })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_in_every_history(settings in settings(), history in prop::collection::vec(happening(), 0..80)) {
        let mut world = World::new(settings);
        world.tell(Event::Started);
        for happening in history {
            world.happen(happening);
        }
        world.wind_down();
        prop_assert!(world.exit.is_some(), "never ends: {:?}", world.supervisor);
    }
}

/// Signals on the way to the start, each read by itself or together with others just before it.
fn on_the_way_to_the_start() -> impl Strategy<Value = Vec<Happening>> {
    let signal = || prop::sample::select(vec![1, 10, 15, 34]);
    let happening = prop_oneof![
        2 => signal().prop_map(Happening::Signal),
        1 => (0..3_u32).prop_map(Happening::NotSpawned),
        3 => signal().prop_map(Happening::Arrives),
        9 => (0..2_usize).prop_map(|claim| Happening::Hears(claim, ClaimNews::Held(15_000))),
        1 => Just(Happening::Passes(1)),
        1 => Just(Happening::Passes(100)),
    ];
    prop::collection::vec(happening, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn no_command_is_started_after_a_shutdown_signal(
        claims in 0..3_usize,
        before in prop::collection::vec(prop::sample::select(vec![1, 10, 15, 34]), 0..2),
        history in on_the_way_to_the_start(),
    ) {
        let mut world = World::new(Settings { claims: vec!["semaphore".to_owned(); claims], ..plain() });
        world.arrived = before;
        world.tell(Event::Started);
        for happening in history {
            world.happen(happening);
        }
        world.wind_down();
        if world.spawned {
            prop_assert_eq!(world.forwarded, world.owed, "a signal was lost or doubled");
        } else {
            prop_assert_eq!(world.exit, world.ended_by.map(Exit::Signal));
        }
    }
}

/// The histories would prove little if none of them got anywhere.
#[test]
fn histories_reach_the_interesting_places() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut spawned, mut lost, mut killed, mut withdrew, mut arrived) = (0, 0, 0, 0, 0);
    for _ in 0..2_000 {
        let (settings, history) = (settings(), prop::collection::vec(happening(), 0..80))
            .new_tree(&mut runner)
            .expect("the strategies reject nothing")
            .current();
        let mut world = World::new(settings);
        world.tell(Event::Started);
        for happening in history {
            world.happen(happening);
        }
        spawned += u32::from(world.spawned);
        lost += u32::from(world.lost);
        killed += u32::from(world.killed);
        withdrew += u32::from(!world.spawned && world.signalled);
        arrived += u32::from(world.arrivals.contains(&RendezvousSeen::Met));
    }
    let all = format!("{spawned} {lost} {killed} {withdrew} {arrived}");
    assert!(spawned > 200 && lost > 25 && killed > 40 && withdrew > 50 && arrived > 25, "{all}");
}
