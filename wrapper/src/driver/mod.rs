//! Carries out what the core decides. One thread, one loop: wait, read what happened, step, apply.
//!
//! The API server's side runs in a thread of its own ([`client`]) that can stall or fail without delaying a reaped
//! child, a signal or a deadline. Nothing in this thread waits for anything but the next event. In a folder that thread
//! starts only when something is to be waited for.

mod client;
pub(crate) mod entry;
mod fault;
mod format;
pub(crate) mod found;
mod pages;
mod parent;
mod process;
mod refusal;
mod signals;
mod stop;
mod terminal;
mod termination_log;
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod threads;
mod timer;
mod tree;
mod watchdog;
mod witness;

use std::{cell::LazyCell, collections::VecDeque, os::fd::AsFd as _, time::Duration};

use konductor::{
    Boottime, ConnectOptions, Exit, Local, Login, PodReference, Request, Wanted,
    identity::{self, PodSources},
    moments,
    rendezvous::{Arriving, Awaited},
};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::prctl,
    unistd::{chdir, gethostname, getpgrp},
};

use self::{
    client::{Client, Order, Wishes},
    found::Found,
    parent::Parent,
    process::{Place, Program, Started, Unheard},
    refusal::{Refusal, pause, refused},
    signals::Signals,
    terminal::Terminal,
    timer::Timer,
    tree::Tree,
    watchdog::Watchdog,
    witness::Witness,
};
use crate::{
    config::{Config, Leftovers},
    environment, settings,
    supervisor::{Effect, Event, Settings, Supervisor},
};

pub(crate) use termination_log::report;

/// Who asks the API server.
const PROGRAM: konductor::Program = konductor::Program::new("konductor-run");

/// What was needed only to start, or for what has just happened, is given back when so many milliseconds have gone by
/// without an event while the command runs or its turn is waited for: most of it would be needed again to end a shorter wait.
const LETS_GO_AFTER: u16 = 100;

/// The pause between two looks when the system cannot say that something has happened.
const BLIND: Duration = Duration::from_millis(10);

/// Runs the configured command and says how it all ended.
pub(crate) fn supervise(config: &Config, found: &Found) -> Exit {
    let program = match Program::find(&config.command, &config.environment) {
        Ok(program) => program,
        Err(failure) => {
            report(&failure.error);
            return failure.exit;
        }
    };
    let settings = Settings {
        awaited: config.awaited.clone(),
        claims: config.claims.iter().map(ToString::to_string).collect(),
        permits: config.claims.iter().map(permits).collect(),
        held_around: config.held_around.clone(),
        arrivals: config.arrivals.iter().map(ToString::to_string).collect(),
        arrive_on: config.arrive_on,
        wait_timeout: config.wait_timeout,
        skip_on_timeout: config.skip_on_timeout,
        local: config.local.is_some(),
        grace: config.grace,
        signals: config.signals.map.clone(),
        leaves: config.leftovers == Leftovers::Leave,
        exit_codes: config.exit_codes.clone(),
        ending_signals: found.ending().collect(),
    };
    let outcome = match prepare(config, &program, found, &settings.ending_signals) {
        Ok(Prepared::Driver(mut driver)) => driver.run(Supervisor::new(settings)).inspect_err(|_| {
            // Without its loop this process protects nothing any more.
            driver.tree.kill();
            // What is not dead at once is the watchdog's to end, which holds until then.
            driver.watchdog.take().into_iter().for_each(Watchdog::leave);
        }),
        Ok(Prepared::Ended(signal)) => Ok(Exit::Signal(signal)),
        Err(refusal) => Err(refusal),
    };
    outcome.unwrap_or_else(|refusal| {
        report(&refusal.to_string());
        Exit::Internal
    })
}

/// What has come of the preparation.
enum Prepared<'a> {
    Driver(Box<Driver<'a>>),
    /// A signal that ends the waiting has arrived before.
    Ended(i32),
}

/// Has all that the loop needs, trying again for a while when something is refused that others may give back.
fn prepare<'a>(
    config: &'a Config,
    program: &'a Program,
    found: &'a Found,
    ending: &[i32],
) -> Result<Prepared<'a>, Refusal> {
    let mut waited = Duration::ZERO;
    loop {
        match Driver::new(config, program, found, ending) {
            Ok(driver) => return Ok(Prepared::Driver(Box::new(driver))),
            Err(refusal) => {
                let next = pause(&refusal, waited).ok_or(refusal)?;
                tracing::debug!("{refusal}; trying again");
                if let Some(signal) = found.wait(next) {
                    return Ok(Prepared::Ended(signal));
                }
                waited += next;
            }
        }
    }
}

/// The command has its own working directory once it runs; ours is to keep no file system busy.
fn leave_the_folder() {
    let _ = chdir("/");
}

/// What is different in the command's environment: variables with a new value, or without one.
type Changes = [(String, Option<String>)];

/// All that the loop waits for and acts upon.
struct Driver<'a> {
    config: &'a Config,
    program: &'a Program,
    found: &'a Found,
    holder: String,
    signals: Signals,
    timer: Timer,
    client: Option<Client>,
    /// The folder that takes the cluster's place.
    local: Option<Local>,
    tree: Tree,
    /// While something is held and the tree is alive, and when that may begin in a moment.
    watchdog: Option<Watchdog>,
    /// One that was killed, and is to be waited for.
    killed_watchdog: Option<Watchdog>,
    /// What the command is known by when this process is gone, if anything is to be held.
    mark: String,
    terminal: Terminal,
    /// The command, if its file has not been heard to be executed.
    unheard: Option<Unheard>,
    /// What was needed for what has happened last is given back.
    has_let_go: bool,
}

impl<'a> Driver<'a> {
    fn new(config: &'a Config, program: &'a Program, found: &'a Found, ending: &[i32]) -> Result<Self, Refusal> {
        adopt_orphans(config)?;
        let parent = config.parent_death_signal.map(|signal| Parent::watch(found.parent(), signal));
        let parent = parent.transpose().map_err(refused("watch the parent process", "prctl(2) PR_SET_PDEATHSIG"))?;
        let mut driver = Self {
            holder: String::new(),
            signals: Signals::before_the_command(ending, parent).map_err(refused("read signals", "signalfd4(2)"))?,
            timer: Timer::default(),
            client: None,
            // Whatever outlives this process goes on holding.
            local: config.local.as_ref().map(|folder| {
                let folder = Local::new(folder).inherit();
                if config.any_filesystem { folder.on_any_filesystem() } else { folder }
            }),
            tree: Tree::new(config.signals.scope),
            watchdog: None,
            killed_watchdog: None,
            mark: if config.claims.is_empty() { String::new() } else { watchdog::mark() },
            terminal: Terminal::default(),
            unheard: None,
            has_let_go: false,
            config,
            program,
            found,
        };
        if !(config.awaited.is_empty() && config.claims.is_empty() && config.arrivals.is_empty()) {
            driver.connect()?;
        }
        Ok(driver)
    }

    /// The loop, until the supervisor says how it all ended.
    fn run(&mut self, mut supervisor: Supervisor) -> Result<Exit, Refusal> {
        let mut events = VecDeque::from([Event::Started]);
        loop {
            while let Some(event) = events.pop_front() {
                for effect in supervisor.step(event, Boottime::now()) {
                    if let Effect::Exit(exit) = effect {
                        if let Some(client) = self.client.take() {
                            moments::note("over");
                            moments::tell();
                            // Its thread ends with this process: it is not to take down all that it has just before.
                            std::mem::forget(client);
                        }
                        return Ok(exit);
                    }
                    self.apply(effect, &mut events)?;
                }
            }
            self.bury_watchdog();
            self.wait()?;
            self.listen();
            self.read_signals(&mut events)?;
            self.reap(&mut events)?;
            if self.timer.has_come(Boottime::now()) {
                events.push_back(Event::Timer);
                self.tree.look_again();
            }
            self.look_after_watchdog(&mut events)?;
            if let Some(client) = &mut self.client {
                let before = events.len();
                client.read(&mut events)?;
                // What has brought these news is to be given back in its turn.
                self.has_let_go &= events.len() == before;
            }
        }
    }

    fn apply(&mut self, effect: Effect, events: &mut VecDeque<Event>) -> Result<(), Refusal> {
        match effect {
            Effect::Await(index) => self.order(Order::Await(index), events),
            Effect::Acquire(index) => self.order(Order::Acquire(index), events),
            Effect::Release(index) => self.order(Order::Release(index), events),
            Effect::Arrive(index) => self.order(Order::Arrive(index), events),
            Effect::ReadSignals => {
                self.signals.hear_all().map_err(refused("read signals", "signalfd4(2)"))?;
                self.read_signals(events)?;
                events.push_back(Event::SignalsRead);
            }
            Effect::Spawn { tokens, locks, deadline } => match self.spawn(&tokens, &locks, deadline) {
                Ok(command) => {
                    self.tree.adopt(command);
                    self.tell_command();
                }
                Err(process::Failure { exit, error, momentary }) => {
                    events.push_front(Event::NotSpawned { exit, error, momentary });
                }
            },
            Effect::TellWatchdog(deadline) => self.extend_watchdog(deadline, events),
            Effect::PrepareWatchdog => self.prepare_watchdog(),
            Effect::EndWatchdog => self.kill_watchdog(),
            Effect::Forward(received) => self.tree.forward(received),
            Effect::Continue => self.resume(),
            Effect::Stop(signal) => self.stop(signal, events)?,
            Effect::TerminateTree => self.tree.terminate(),
            Effect::KillTree => self.tree.kill(),
            Effect::Arm(at) => self.timer.set(at),
            Effect::Log(level, message) => say(level, &message),
            Effect::Report(message) => report(&message),
            Effect::Exit(_) => unreachable!("the loop ends there"),
        }
        Ok(())
    }

    fn order(&mut self, order: Order, events: &mut VecDeque<Event>) {
        self.client.iter_mut().for_each(|client| client.order(order, events));
    }

    /// Until something is to be read.
    fn wait(&mut self) -> Result<(), Refusal> {
        let mut sources = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        sources.extend(self.timer.source().map(|timer| PollFd::new(timer, PollFlags::POLLIN)));
        sources.extend(self.watchdog.iter().map(|watchdog| PollFd::new(watchdog.as_fd(), PollFlags::empty())));
        let news = self.client.as_ref().and_then(Client::source);
        sources.extend(news.map(|client| PollFd::new(client, PollFlags::POLLIN)));
        let unheard = self.unheard.as_ref().and_then(Unheard::source);
        sources.extend(unheard.map(|command| PollFd::new(command, PollFlags::POLLIN)));
        let rests = (self.tree.command().is_some() || self.client.is_some()) && !self.has_let_go;
        let now = Boottime::now();
        let bounds = [self.signals.patience(now), self.timer.patience(now)].into_iter();
        let bound = bounds.filter(|bound| *bound != PollTimeout::NONE).min_by_key(|bound| i32::from(*bound));
        let (patience, lets_go) = match bound {
            _ if self.tree.has_more() => (PollTimeout::ZERO, false),
            Some(bound) => (bound, false),
            None if rests => (LETS_GO_AFTER.into(), true),
            None => (PollTimeout::NONE, false),
        };
        match poll(&mut sources, patience) {
            Ok(0) if lets_go => {
                pages::let_go();
                self.has_let_go = true;
                Ok(())
            }
            // A stop and continue can end the call; then there is nothing to read.
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            // Without memory for the call a look finds out, now and then.
            Err(Errno::ENOMEM | Errno::EAGAIN) => {
                std::thread::sleep(BLIND);
                Ok(())
            }
            Err(error) => Err(refused("wait for what happens", "poll(2)")(error)),
        }
    }

    /// Hears of a command whose file was slow to come.
    fn listen(&mut self) {
        if self.unheard.as_mut().is_some_and(Unheard::listen) {
            self.unheard = None;
            leave_the_folder();
        }
    }

    fn read_signals(&mut self, events: &mut VecDeque<Event>) -> Result<(), Refusal> {
        let read = self.signals.read(events).map_err(refused("read signals", "read(2) of a signalfd"));
        // Once it is given up, another process may get its number.
        self.tree.witnessed_by(self.signals.witness());
        read
    }

    fn reap(&mut self, events: &mut VecDeque<Event>) -> Result<(), Refusal> {
        let command = self.tree.command();
        let reaped = self.tree.reap().map_err(refused("wait for the command", "wait4(2)"))?;
        if let Some(signal) = reaped.stopped {
            let in_front = !self.tree.shares_group()
                && [libc::SIGTTIN, libc::SIGTTOU].contains(&signal)
                && self.terminal.is_asked_for();
            events.push_back(Event::CommandStopped { signal, in_front });
        }
        if let (Some(exit), Some(command)) = (reaped.command, command) {
            moments::note("reaped");
            self.terminal.take_back(command);
            let failure = self.unheard.take().and_then(|unheard| self.program.never_became(unheard));
            events.push_back(match failure {
                Some(process::Failure { exit, error, .. }) => Event::NotExecuted { exit, error },
                None => Event::CommandEnded(exit),
            });
        }
        if reaped.command.is_some() || reaped.some && self.tree.command().is_none() {
            // Another process may get its number.
            self.tell_command();
        }
        if reaped.killed {
            events.push_back(Event::Killed);
        }
        if reaped.empty {
            moments::note("dead");
            events.push_back(Event::TreeEmpty);
        } else if reaped.some {
            events.push_back(Event::Remaining);
        }
        Ok(())
    }

    /// Continues the command, in the foreground if it is ours to give.
    fn resume(&mut self) {
        if let Some(command) = self.tree.command().filter(|_| !self.tree.shares_group()) {
            self.terminal.give(command);
        }
        self.tree.signal_group(libc::SIGCONT);
    }

    /// Stops as a job while the command stands still: returns when somebody has continued us, or at once when the kernel
    /// does not stop us.
    fn stop(&mut self, signal: i32, events: &mut VecDeque<Event>) -> Result<(), Refusal> {
        if let Some(command) = self.tree.command() {
            self.terminal.take_back(command);
        }
        let stopped = stop::stop(signal, &self.tree, &mut self.signals);
        if !stopped.map_err(refused("stop as a job", "kill(2) or rt_sigprocmask(2)"))? {
            events.push_back(Event::NotStopped(signal));
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        tokens: &[u64],
        locks: &[String],
        deadline: Option<Boottime>,
    ) -> Result<nix::unistd::Pid, process::Failure> {
        moments::note("held");
        if let Some(deadline) = deadline {
            self.have_watchdog(deadline)?;
            moments::note("guarded");
        }
        self.tree.set_apart();
        let changes = self.exports(tokens, locks);
        let holds = !tokens.is_empty();
        let spawned = if terminal::is_member_of_a_job() {
            self.spawn_in_job(&changes, holds)
        } else {
            let terminal = self.terminal.offer();
            let place = Place::Own(terminal.as_ref());
            let spawned = self.program.spawn(&self.config.environment, &changes, self.found, place, holds);
            spawned.inspect_err(|_| self.terminal.take_back(getpgrp()))
        };
        let Started { pid, unheard, .. } = spawned?;
        moments::note("executed");
        (self.unheard, self.has_let_go) = (unheard, false);
        if self.unheard.is_none() {
            leave_the_folder();
        }
        Ok(pid)
    }

    fn spawn_in_job(&mut self, changes: &Changes, holds: bool) -> Result<Started, process::Failure> {
        let (mut witness, mut ours) = (None, 0);
        let mut joined = || {
            // Without one the terminal's own signals are known all the same.
            witness = Witness::start().inspect_err(|error| tracing::debug!("cannot start the witness: {error}")).ok();
            ours = found::pending().unwrap_or_default();
        };
        let place = Place::Job(&mut joined);
        let started = self.program.spawn(&self.config.environment, changes, self.found, place, holds)?;
        self.tree.share_group();
        self.tree.witnessed_by(witness.as_ref());
        self.signals.share_group(started.pid, witness, ours, started.pending);
        Ok(started)
    }

    /// Has a watchdog ready that is only to be told its deadline. It may be for nothing, and ends with this process; what
    /// is refused now is asked for again when it is needed.
    fn prepare_watchdog(&mut self) {
        if self.watchdog.is_none()
            && let Err(refusal) = self.start_watchdog(Boottime::NEVER)
        {
            tracing::debug!("{refusal}");
        }
        moments::note("guard");
    }

    /// Has a watchdog that keeps this deadline: the one that is ready, or else a new one.
    fn have_watchdog(&mut self, deadline: Boottime) -> Result<(), Refusal> {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.extend(deadline).is_ok()) {
            return Ok(());
        }
        self.end_watchdog();
        self.start_watchdog(deadline)
    }

    fn start_watchdog(&mut self, deadline: Boottime) -> Result<(), Refusal> {
        self.bury_watchdog();
        let kept = self.local.as_ref().map(Local::inherited).unwrap_or_default();
        let mut watchdog = Watchdog::start(deadline, self.tree.others(), &self.mark, &kept)?;
        self.tree.watched_by(Some(watchdog.pid()), watchdog.counts());
        // One that does not listen is replaced when it is seen to have ended.
        let _ = watchdog.tell_command(self.tree.known_command());
        self.watchdog = Some(watchdog);
        Ok(())
    }

    fn extend_watchdog(&mut self, deadline: Boottime, events: &mut VecDeque<Event>) {
        // One that does not listen would end the command too early, and is replaced.
        if let Err(error) = self.have_watchdog(deadline) {
            if deadline == Boottime::NEVER {
                tracing::debug!("{error}");
                events.push_back(Event::WatchdogEnded);
            } else {
                tracing::warn!("{error}; the next renewal tries again");
            }
        }
    }

    /// Tells the watchdog which process is the command, so that it knows the command's group when this process is gone.
    fn tell_command(&mut self) {
        let Some(watchdog) = &mut self.watchdog else { return };
        // One that does not listen is replaced when it is seen to have ended.
        let _ = watchdog.tell_command(self.tree.known_command());
    }

    fn end_watchdog(&mut self) {
        self.watchdog = None;
        self.tree.watched_by(None, false);
    }

    /// Ends the watchdog when nothing is alive that it would have to end. It is waited for only when what is held is on its
    /// way back: the end of a process takes a tenth of the time that the API server does. In a folder what is given back
    /// is so by what is written, whoever may still have its lock for a moment; and when nothing can be written, by the end
    /// of all who have it.
    fn kill_watchdog(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.kill();
            self.killed_watchdog = Some(watchdog);
        }
    }

    fn bury_watchdog(&mut self) {
        if self.killed_watchdog.take().is_some() {
            self.tree.watched_by(None, false);
            moments::note("guard ended");
        }
    }

    fn look_after_watchdog(&mut self, events: &mut VecDeque<Event>) -> Result<(), Refusal> {
        let ended = self.watchdog.as_ref().map(Watchdog::has_ended).transpose();
        if ended.map_err(refused("look after the watchdog", "poll(2)"))? == Some(true) {
            self.end_watchdog();
            events.push_back(Event::WatchdogEnded);
        }
        Ok(())
    }

    /// What the command is told about what is held. With nothing held, it sees what an outer `konductor-run` says.
    fn exports(&self, tokens: &[u64], locks: &[String]) -> Vec<(String, Option<String>)> {
        let wanted = &self.config.claims;
        if wanted.is_empty() {
            return Vec::new();
        }
        let held: Vec<_> = wanted.iter().map(|wanted| format!("{}/{}", wanted.kind(), wanted.name())).collect();
        let only = (tokens.len() == 1).then(|| tokens[0].to_string());
        let each = wanted.iter().zip(tokens).map(|(wanted, token)| {
            (settings::token_variable(wanted.kind().name, wanted.name()), Some(token.to_string()))
        });
        [
            (settings::HELD.to_owned(), Some(held.join(","))),
            (settings::HOLDER.variable.unwrap_or_default().to_owned(), Some(self.holder.clone())),
            (settings::FENCING_TOKEN.to_owned(), only),
            (settings::TREE.to_owned(), Some(self.trees())),
            (settings::TREE_HOLDS.to_owned(), Some(self.tree_holds(locks))),
        ]
        .into_iter()
        .chain(each)
        .collect()
    }

    /// The trees that the command belongs to, the innermost last.
    fn trees(&self) -> String {
        let outer = self.config.environment.raw(settings::TREE).map(|outer| outer.to_string_lossy());
        outer.map_or_else(|| self.mark.clone(), |outer| format!("{outer},{}", self.mark))
    }

    /// What the trees hold that the command belongs to.
    fn tree_holds(&self, locks: &[String]) -> String {
        let mut all = self.config.held_around.clone();
        for (lock, wanted) in locks.iter().zip(&self.config.claims) {
            *all.entry(lock.clone()).or_default() += permits(wanted);
        }
        environment::print_held(&all)
    }

    /// Starts the side that talks to the API server, or takes from the folder at once what it has.
    fn connect(&mut self) -> Result<(), Refusal> {
        let crate::config::Pod { name, uid, namespace, container } = self.config.pod.clone();
        let mut sources = PodSources { name, uid, namespace, container, mounts: None }.and_token();
        if sources.pod_uid().is_some() || !self.config.arrivals.is_empty() {
            sources = sources.and_mounts();
        }
        let pod = sources.pod();
        self.holder = if let Some(holder) = &self.config.holder {
            holder.clone()
        } else {
            let host = gethostname().map_err(refused("name the holder", "uname(2)"))?;
            identity::default_holder(sources.pod_name(), &host.to_string_lossy(), std::process::id())
        };
        if pod.as_ref().is_some_and(PodReference::is_whole) {
            tracing::info!(
                "cannot tell which container of the pod this is, as its termination log is not among the mounts: what it \
                 asks for speaks for the whole pod, and is free at once when all of the pod has ended"
            );
        }
        let requests = self.config.claims.iter().map(|wanted| self.request(wanted, pod.clone()));
        let index = self.config.environment.raw(identity::COMPLETION_INDEX).map(|index| index.to_string_lossy());
        let key = LazyCell::new(|| {
            identity::arrival_key(
                &self.config.arrival,
                sources.pod_uid(),
                sources.container_name().as_deref(),
                index.as_deref(),
                &self.holder,
            )
        });
        let arrive = |barrier: &Awaited| Arriving {
            barrier: barrier.name.clone(),
            key: key.clone(),
            holder: self.holder.clone(),
            pod: pod.clone(),
        };
        let wishes = Wishes {
            awaited: self.config.awaited.clone(),
            requests: requests.collect(),
            arrivals: self.config.arrivals.iter().map(arrive).collect(),
        };
        let (namespace, local) = (self.config.namespace.clone(), self.local.clone());
        let choice = self.config.choice.clone();
        // While the command runs the terminal is the command's.
        let first = Login::default();
        let login = Login { asks: first.asks && self.config.waits_first(), ..first };
        let options = ConnectOptions { namespace, local, program: PROGRAM, choice, login };
        self.client = Some(Client::start(options, wishes, *self.found)?);
        Ok(())
    }

    /// What to ask for, in the client's words.
    fn request(&self, wanted: &Wanted, pod: Option<PodReference>) -> Request {
        Request {
            wanted: wanted.clone(),
            priority: self.config.priority,
            ttl: self.config.ttl,
            holder: self.holder.clone(),
            pod,
        }
    }
}

/// How many permits are wanted; a lease has one.
fn permits(wanted: &Wanted) -> u64 {
    match wanted {
        Wanted::Lease { .. } => 1,
        Wanted::Semaphore { permits, .. } => u64::from(*permits),
    }
}

/// Orphans of the tree come to this process from now on, as they do to PID 1 by themselves. When this is refused, an
/// init works but for them; but who holds something, or says when the work is done, must know that the last one is dead.
fn adopt_orphans(config: &Config) -> Result<(), Refusal> {
    if tree::is_init() {
        return Ok(());
    }
    let adopted = prctl::set_child_subreaper(true);
    match adopted.map_err(refused(
        "see the end of all that the command starts, as PID 1 would",
        "prctl(2) PR_SET_CHILD_SUBREAPER",
    )) {
        Err(refusal) if config.claims.is_empty() && config.arrivals.is_empty() => {
            if config.leftovers == Leftovers::End {
                tracing::warn!("{refusal}; not all that the command leaves behind is ended");
            }
            Ok(())
        }
        adopted => adopted,
    }
}

fn say(level: tracing::Level, message: &str) {
    match level {
        tracing::Level::ERROR => tracing::error!("{message}"),
        tracing::Level::WARN => tracing::warn!("{message}"),
        tracing::Level::INFO => tracing::info!("{message}"),
        tracing::Level::DEBUG => tracing::debug!("{message}"),
        tracing::Level::TRACE => tracing::trace!("{message}"),
    }
}
