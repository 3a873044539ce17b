//! Carries out what the core decides. One thread, one loop: wait, read what happened, step, apply.
//!
//! The API server's side runs in a thread of its own ([`client`]) that can stall or fail without delaying a reaped
//! child, a signal or a deadline. Nothing in this thread waits for anything but the next event.

mod client;
mod fault;
pub(crate) mod found;
mod process;
mod signals;
mod terminal;
mod termination_log;
mod tree;
mod watchdog;
mod witness;

use std::{collections::VecDeque, ffi::OsString, os::fd::AsFd as _, time::Duration};

use konductor::{
    Boottime, ConnectOptions, Exit, Local, PodReference, Request, Wanted,
    identity::{self, PodSources},
    rendezvous::{Arriving, Awaited},
};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd::{chdir, gethostname, getpgrp},
};

use self::{
    client::{ClientThread, Order, Wishes},
    found::Found,
    process::{Place, Program},
    signals::Signals,
    terminal::Terminal,
    tree::Tree,
    watchdog::Watchdog,
    witness::Witness,
};
use crate::{
    config::{Config, Leftovers},
    settings,
    supervisor::{Effect, Event, Settings, Supervisor},
};

pub(crate) use termination_log::report;

/// Who asks the API server.
const PROGRAM: konductor::Program = konductor::Program::new("konductor-run");

/// Signals that end the waiting for a claim.
const ENDING_SIGNALS: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Runs the configured command and says how it all ended.
pub(crate) fn supervise(config: Config, found: &Found) -> Exit {
    let program = match Program::find(&config.command, &config.environment) {
        Ok(program) => program,
        Err(failure) => {
            report(&failure.error);
            return failure.exit;
        }
    };
    let settings = Settings {
        awaited: config.awaited.iter().map(ToString::to_string).collect(),
        claims: config.claims.iter().map(ToString::to_string).collect(),
        arrivals: config.arrivals.iter().map(ToString::to_string).collect(),
        arrive_on: config.arrive_on,
        wait_timeout: config.wait_timeout,
        skip_on_timeout: config.skip_on_timeout,
        local: config.local.is_some(),
        grace: config.grace,
        signals: config.signals.map.clone(),
        leaves: config.leftovers == Leftovers::Leave,
        exit_codes: config.exit_codes.clone(),
        ending_signals: ENDING_SIGNALS.into_iter().filter(|signal| !found.ignored(*signal)).collect(),
    };
    let outcome = Driver::new(config, program, found, &settings.ending_signals).and_then(|mut driver| {
        let outcome = driver.run(Supervisor::new(settings));
        if outcome.is_err() {
            // Without its loop this process protects nothing any more.
            driver.tree.kill();
        }
        outcome
    });
    outcome.unwrap_or_else(|error| {
        report(&format!("the system refuses what a supervisor needs: {error}"));
        Exit::Internal
    })
}

/// An environment's variables.
type Variables = Vec<(OsString, OsString)>;

/// All that the loop waits for and acts upon.
struct Driver<'a> {
    config: Config,
    program: Program,
    found: &'a Found,
    holder: String,
    signals: Signals,
    timer: TimerFd,
    client: Option<ClientThread>,
    tree: Tree,
    /// While something is held and the tree is alive.
    watchdog: Option<Watchdog>,
    /// What the command is known by when this process is gone.
    mark: String,
    terminal: Terminal,
}

impl<'a> Driver<'a> {
    fn new(config: Config, program: Program, found: &'a Found, ending: &[i32]) -> nix::Result<Self> {
        prctl::set_child_subreaper(true)?;
        if let Some(signal) = config.parent_death_signal {
            found.when_parent_dies(signal)?;
        }
        let signals = Signals::before_the_command(ending)?;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let mut driver = Self {
            holder: String::new(),
            signals,
            timer,
            client: None,
            tree: Tree::new(config.signals.scope)?,
            watchdog: None,
            mark: watchdog::mark(),
            terminal: Terminal::default(),
            config,
            program,
            found,
        };
        let Config { awaited, claims, arrivals, .. } = &driver.config;
        if !(awaited.is_empty() && claims.is_empty() && arrivals.is_empty()) {
            driver.connect()?;
        }
        Ok(driver)
    }

    /// The loop, until the supervisor says how it all ended.
    fn run(&mut self, mut supervisor: Supervisor) -> nix::Result<Exit> {
        let mut events = VecDeque::from([Event::Started]);
        loop {
            while let Some(event) = events.pop_front() {
                for effect in supervisor.step(event, Boottime::now()) {
                    if let Effect::Exit(exit) = effect {
                        return Ok(exit);
                    }
                    self.apply(effect, &mut events)?;
                }
            }
            self.wait()?;
            self.signals.read(&mut events)?;
            self.reap(&mut events)?;
            self.read_timer(&mut events)?;
            self.look_after_watchdog(&mut events)?;
            if let Some(client) = &mut self.client {
                client.read(&mut events)?;
            }
        }
    }

    fn apply(&mut self, effect: Effect, events: &mut VecDeque<Event>) -> nix::Result<()> {
        match effect {
            Effect::Await(index) => self.order(Order::Await(index)),
            Effect::Acquire(index) => self.order(Order::Acquire(index)),
            Effect::Release(index) => self.order(Order::Release(index)),
            Effect::Arrive(index) => self.order(Order::Arrive(index)),
            Effect::ReadSignals => {
                self.signals.hear_all()?;
                self.signals.read(events)?;
                events.push_back(Event::SignalsRead);
            }
            Effect::Spawn { tokens, deadline } => match self.spawn(&tokens, deadline) {
                Ok(command) => self.tree.adopt(command),
                Err(failure) => events.push_front(Event::NotSpawned { exit: failure.exit, error: failure.error }),
            },
            Effect::TellWatchdog(deadline) => self.extend_watchdog(deadline),
            Effect::EndWatchdog => self.end_watchdog(),
            Effect::Forward(received) => self.tree.forward(received),
            Effect::Continue => self.resume(),
            Effect::Stop(signal) => self.stop(signal, events)?,
            Effect::TerminateTree => self.tree.terminate(),
            Effect::KillTree => self.tree.kill(),
            Effect::Arm(Some(at)) => {
                // Zero would disarm it.
                let at = TimeSpec::from_duration(at.0.max(Duration::from_nanos(1)));
                self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            Effect::Arm(None) => self.timer.unset()?,
            Effect::Log(level, message) => say(level, &message),
            Effect::Report(message) => report(&message),
            Effect::Exit(_) => unreachable!("the loop ends there"),
        }
        Ok(())
    }

    fn order(&self, order: Order) {
        self.client.iter().for_each(|client| client.order(order));
    }

    /// Until something is to be read.
    fn wait(&mut self) -> nix::Result<()> {
        let mut sources = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        sources.extend(self.watchdog.iter().map(|watchdog| PollFd::new(watchdog.as_fd(), PollFlags::empty())));
        sources.extend(self.client.iter().map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)));
        let patience = match self.signals.patience() {
            _ if self.tree.has_more() => PollTimeout::ZERO,
            None => PollTimeout::NONE,
            Some(patience) => PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut sources, patience) {
            Ok(0) if !self.tree.has_more() => {
                self.signals.give_up_witness();
                Ok(())
            }
            // A stop and continue can end the call; then there is nothing to read.
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        let command = self.tree.command();
        let reaped = self.tree.reap()?;
        if let Some(signal) = reaped.stopped {
            let in_front = !self.tree.shares_group()
                && [libc::SIGTTIN, libc::SIGTTOU].contains(&signal)
                && self.terminal.is_asked_for();
            events.push_back(Event::CommandStopped { signal, in_front });
        }
        if let (Some(exit), Some(command)) = (reaped.command, command) {
            self.terminal.take_back(command);
            events.push_back(Event::CommandEnded(exit));
        }
        if reaped.empty {
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

    /// Stops as a job: returns when somebody has continued us, or at once when the kernel does not stop us.
    fn stop(&mut self, signal: i32, events: &mut VecDeque<Event>) -> nix::Result<()> {
        if let Some(command) = self.tree.command() {
            self.terminal.take_back(command);
        }
        if !signals::stop(signal, self.tree.command())? {
            events.push_back(Event::NotStopped(signal));
        }
        Ok(())
    }

    fn read_timer(&self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        match self.timer.wait() {
            Ok(()) => events.push_back(Event::Timer),
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn spawn(&mut self, tokens: &[u64], deadline: Option<Boottime>) -> Result<nix::unistd::Pid, process::Failure> {
        if let Some(deadline) = deadline
            && let Err(error) = self.start_watchdog(deadline)
        {
            let error = format!("cannot start the watchdog: {error}");
            return Err(process::Failure { exit: Exit::Internal, error });
        }
        let environment = self.config.environment.with(&self.exports(tokens));
        let holds = !tokens.is_empty();
        let spawned = if terminal::is_member_of_a_job() {
            self.spawn_in_job(environment, holds)
        } else {
            let terminal = self.terminal.offer();
            let spawned = self.program.spawn(environment, self.found, Place::Own(terminal.as_ref()), holds);
            spawned.inspect_err(|_| self.terminal.take_back(getpgrp())).map(|started| started.pid)
        };
        if spawned.is_ok() {
            // The command has its own working directory by now; ours is to keep no file system busy.
            let _ = chdir("/");
        }
        spawned
    }

    fn spawn_in_job(&mut self, environment: Variables, holds: bool) -> Result<nix::unistd::Pid, process::Failure> {
        let (mut witness, mut ours) = (None, 0);
        let mut joined = || {
            // Without one the terminal's own signals are known all the same.
            witness = Witness::start().inspect_err(|error| tracing::debug!("cannot start the witness: {error}")).ok();
            ours = found::pending().unwrap_or_default();
        };
        let started = self.program.spawn(environment, self.found, Place::Job(&mut joined), holds)?;
        self.tree.share_group();
        self.tree.witnessed_by(witness.as_ref().map(Witness::pid));
        self.signals.share_group(started.pid, witness, ours, started.pending);
        Ok(started.pid)
    }

    fn start_watchdog(&mut self, deadline: Boottime) -> nix::Result<()> {
        let watchdog = Watchdog::start(deadline, self.tree.others(), &self.mark)?;
        self.tree.watched_by(Some(watchdog.pid()));
        self.watchdog = Some(watchdog);
        Ok(())
    }

    fn extend_watchdog(&mut self, deadline: Boottime) {
        if self.watchdog.as_ref().is_some_and(|watchdog| watchdog.extend(deadline).is_ok()) {
            return;
        }
        // One that does not listen would end the command too early.
        self.end_watchdog();
        if let Err(error) = self.start_watchdog(deadline) {
            tracing::warn!("cannot start the watchdog: {error}; the next renewal tries again");
        }
    }

    fn end_watchdog(&mut self) {
        self.watchdog = None;
        self.tree.watched_by(None);
    }

    fn look_after_watchdog(&mut self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        if let Some(watchdog) = &self.watchdog
            && watchdog.has_ended()?
        {
            self.end_watchdog();
            events.push_back(Event::WatchdogEnded);
        }
        Ok(())
    }

    /// What the command is told about what is held. With nothing held, it sees what an outer `konductor-run` says.
    fn exports(&self, tokens: &[u64]) -> Vec<(String, Option<String>)> {
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

    /// Starts the side that talks to the API server.
    fn connect(&mut self) -> nix::Result<()> {
        let crate::config::Pod { name, uid, container } = self.config.pod.clone();
        let sources = PodSources::read(name, uid, container);
        let pod = sources.pod();
        self.holder = match &self.config.holder {
            Some(holder) => holder.clone(),
            None => identity::default_holder(sources.pod_name(), &gethostname()?.to_string_lossy(), std::process::id()),
        };
        let requests = self.config.claims.iter().map(|wanted| self.request(wanted, pod.clone()));
        let index = self.config.environment.raw(identity::COMPLETION_INDEX).map(|index| index.to_string_lossy());
        let key = identity::arrival_key(
            &self.config.arrival,
            sources.pod_uid(),
            sources.container_name().as_deref(),
            index.as_deref(),
            &self.holder,
        );
        let arrive = |barrier: &Awaited| Arriving {
            barrier: barrier.name.clone(),
            key: key.clone(),
            holder: self.holder.clone(),
        };
        let wishes = Wishes {
            awaited: self.config.awaited.clone(),
            requests: requests.collect(),
            arrivals: self.config.arrivals.iter().map(arrive).collect(),
        };
        // Whatever outlives this process goes on holding.
        let local = self.config.local.as_ref().map(|folder| Local::new(folder).inherit());
        let options = ConnectOptions { namespace: self.config.namespace.clone(), local, program: PROGRAM };
        self.client = Some(ClientThread::start(options, wishes)?);
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

fn say(level: tracing::Level, message: &str) {
    match level {
        tracing::Level::ERROR => tracing::error!("{message}"),
        tracing::Level::WARN => tracing::warn!("{message}"),
        tracing::Level::INFO => tracing::info!("{message}"),
        tracing::Level::DEBUG => tracing::debug!("{message}"),
        tracing::Level::TRACE => tracing::trace!("{message}"),
    }
}
