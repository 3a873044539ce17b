//! The transitions of the [`Supervisor`].

use std::time::Duration;

use konductor::{Boottime, Event as ClaimEvent, Exit, LossReason};
use tracing::Level;

use super::{
    ClaimState, Effect, Ending, Event, FIRST_CONTACT, KILL_AGAIN, KILLING, LastHeard, Phase, RELEASE, STARTING,
    STARTING_PAUSES, Settings, Supervisor, TRY_ONCE, Told, Unstarted, WATCHDOG_LASTS, WITHDRAWAL, WatchdogState,
    told::{LOOK, Word},
};

impl Supervisor {
    /// A supervisor to which nothing has happened.
    pub fn new(settings: Settings) -> Self {
        Self {
            phase: Phase::Awaiting { next: 0 },
            claims: vec![ClaimState::Absent; settings.claims.len()],
            locks: vec![String::new(); settings.claims.len()],
            arriving: vec![false; settings.arrivals.len()],
            cut_off: None,
            verdict: None,
            command_alive: false,
            told_to_end: false,
            suspending: false,
            halted: false,
            ending: None,
            watchdog: None,
            watchdog_ready: None,
            unstarted: None,
            early: Vec::new(),
            wait_until: None,
            contact_until: None,
            last_heard: LastHeard::Nothing,
            trouble: None,
            told: Told::default(),
            armed: None,
            settings,
        }
    }

    /// What to do about `event`, which is known at `now`.
    pub fn step(&mut self, event: Event, now: Boottime) -> Vec<Effect> {
        let mut out = Vec::new();
        self.keep_time(now, &mut out);
        match event {
            _ if self.phase == Phase::Over => {}
            Event::Started => self.start(now, &mut out),
            Event::Claim(index, news) => self.hear(index, news, now, &mut out),
            Event::Awaited(index, progress) => self.awaited(index, progress, now, &mut out),
            Event::Arrival(index, progress) => self.arrival(index, progress, now, &mut out),
            Event::LoggingIn { program } => self.logging_in(&program, &mut out),
            Event::LoggedIn => self.logged_in(now),
            Event::Unreachable { exit, error } => self.unreachable(exit, &error, now, &mut out),
            Event::ClientFailed { error } => self.client_failed(&error, now, &mut out),
            Event::Signal(signal) => self.signal(signal, now, &mut out),
            Event::SignalsRead => self.spawn(now, &mut out),
            Event::NotSpawned { exit, error, momentary } => self.not_spawned(exit, error, momentary, now, &mut out),
            Event::Killed => self.killed(&mut out),
            Event::CommandEnded(exit) => {
                self.command_ended(exit, now, &mut out);
            }
            Event::NotExecuted { exit, error } => self.not_executed(exit, error, now, &mut out),
            Event::CommandStopped { signal, in_front } => self.command_stopped(signal, in_front, now, &mut out),
            Event::NotStopped(signal) => self.not_stopped(signal, &mut out),
            Event::Remaining => self.remaining(now, &mut out),
            Event::TreeEmpty if self.phase == Phase::Running && !self.command_alive => self.arrive(now, &mut out),
            Event::TreeEmpty => {}
            Event::WatchdogEnded => self.watchdog_ended(now, &mut out),
            Event::Timer => self.armed = None,
        }
        let due = self.next_due();
        if due != self.armed {
            self.armed = due;
            out.push(Effect::Arm(due));
        }
        out
    }

    /// Whatever is due, before anything else.
    fn keep_time(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        let due = |at: Option<Boottime>| at.is_some_and(|at| at <= now);
        match self.phase {
            Phase::Acquiring { .. } | Phase::Ready if due(self.last_call()) => {
                let claim = self.most_urgent();
                self.verdict = Some(Exit::Lost);
                out.push(Effect::Report(format!("lost {claim} before the command was started: it was not renewed")));
                self.give_back(RELEASE, now, out);
            }
            Phase::Ready if due(self.unstarted.and_then(|unstarted| unstarted.again_at)) => {
                self.unstarted = self.unstarted.map(|unstarted| Unstarted { again_at: None, ..unstarted });
                out.push(Effect::ReadSignals);
            }
            Phase::Awaiting { .. } | Phase::Acquiring { .. } if due(self.contact_until) || due(self.wait_until) => {
                self.time_out(now, out);
            }
            Phase::Arriving { until } if until <= now => {
                let trouble = self.trouble.take().unwrap_or_else(|| "the cluster does not answer".to_owned());
                self.give_up_arriving(Exit::Unreachable, &trouble, now, out);
            }
            Phase::Running => {
                if due(self.last_call()) && self.verdict != Some(Exit::Lost) {
                    let claim = self.most_urgent();
                    let urgent = due(self.fence());
                    self.lose(&claim, "it was not renewed in time", urgent, now, out);
                }
                if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| due(watchdog.again)) {
                    (watchdog.started, watchdog.again) = (now, None);
                    out.push(Effect::TellWatchdog(watchdog.deadline));
                }
                match self.ending {
                    Some(Ending { kill_at, killed: false, .. }) if kill_at <= now => {
                        self.kill(now, out);
                        self.ending = self.ending.map(|ending| Ending { overdue: true, ..ending });
                    }
                    Some(ending) if ending.kill_at <= now => {
                        self.ending = Some(Ending { kill_at: now + KILL_AGAIN, ..ending });
                        out.push(Effect::KillTree);
                    }
                    _ => {}
                }
            }
            Phase::Releasing { until } if until <= now => {
                for (claim, name) in self.claims.iter_mut().zip(&self.settings.claims) {
                    if std::mem::replace(claim, ClaimState::Absent) == ClaimState::Leaving {
                        out.push(Effect::Log(Level::WARN, format!("could not release {name} in time")));
                    }
                }
                self.finish(out);
            }
            Phase::Awaiting { .. }
            | Phase::Acquiring { .. }
            | Phase::Ready
            | Phase::Arriving { .. }
            | Phase::Releasing { .. }
            | Phase::Over => {}
        }
        self.tell_due(now, out);
    }

    fn next_due(&self) -> Option<Boottime> {
        match self.phase {
            Phase::Awaiting { .. } | Phase::Acquiring { .. } => {
                [self.last_call(), self.wait_until, self.contact_until, self.told.due()].into_iter().flatten().min()
            }
            Phase::Ready => {
                let again_at = self.unstarted.and_then(|unstarted| unstarted.again_at);
                self.last_call().into_iter().chain(again_at).min()
            }
            Phase::Running => match self.ending {
                Some(Ending { kill_at, killed: true, .. }) => Some(kill_at),
                Some(Ending { kill_at, .. }) if self.verdict == Some(Exit::Lost) => Some(kill_at),
                ending => {
                    let kill_at = ending.map(|ending| ending.kill_at);
                    let watchdog = self.watchdog.and_then(|watchdog| watchdog.again);
                    [kill_at, watchdog, self.last_call()].into_iter().flatten().min()
                }
            },
            Phase::Arriving { until } | Phase::Releasing { until } => Some(until),
            Phase::Over => None,
        }
    }

    /// When the tree must be killed, for it to be dead when the first of the claims that are held ends.
    fn fence(&self) -> Option<Boottime> {
        self.held().map(|(_, _, deadline)| deadline).min()
    }

    /// When the command must be told to end, for the tree to be dead in time: min(grace, ttl/3) before the deadline.
    pub(super) fn last_call(&self) -> Option<Boottime> {
        self.held().map(|(_, ttl, deadline)| deadline - self.settings.grace.min(ttl / 3)).min()
    }

    pub(super) fn most_urgent(&self) -> String {
        let grace = self.settings.grace;
        let first = self.held().min_by_key(|(_, ttl, deadline)| *deadline - grace.min(*ttl / 3));
        first.map(|(index, ..)| self.settings.claims[index].clone()).unwrap_or_default()
    }

    /// The claims that end unless they are renewed. (Without a cluster the kernel knows that we live.)
    fn held(&self) -> impl Iterator<Item = (usize, Duration, Boottime)> {
        self.claims.iter().enumerate().filter_map(|(index, claim)| match claim {
            ClaimState::Held { ttl, deadline, .. } if *deadline != Boottime::NEVER => {
                Some((index, *ttl, *deadline - KILLING))
            }
            _ => None,
        })
    }

    fn start(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        if !self.claims.is_empty() || !self.settings.awaited.is_empty() {
            self.wait_until =
                self.settings.wait_timeout.map(|timeout| now + if timeout.is_zero() { TRY_ONCE } else { timeout });
            self.contact_until = Some(now + FIRST_CONTACT);
        }
        self.await_next(0, out);
    }

    /// People may have to type something somewhere, which takes no time from the API server's.
    fn logging_in(&mut self, program: &str, out: &mut Vec<Effect>) {
        out.push(Effect::Log(Level::INFO, format!("logging in by {program:?}")));
        if self.has_not_been_answered() {
            self.contact_until = None;
            self.trouble = Some(format!("the kubeconfig's login program {program:?} has not answered yet"));
        }
    }

    fn logged_in(&mut self, now: Boottime) {
        if self.has_not_been_answered() {
            (self.contact_until, self.trouble) = (Some(now + FIRST_CONTACT), None);
        }
    }

    fn has_not_been_answered(&self) -> bool {
        matches!(self.phase, Phase::Awaiting { .. } | Phase::Acquiring { .. }) && self.last_heard == LastHeard::Nothing
    }

    /// Everything before this claim is held; it is asked for, or there are no more.
    pub(super) fn ask_next(&mut self, index: usize, out: &mut Vec<Effect>) {
        if index < self.claims.len() {
            self.ask(index, out);
        } else {
            self.phase = Phase::Ready;
            out.push(Effect::ReadSignals);
        }
    }

    fn ask(&mut self, index: usize, out: &mut Vec<Effect>) {
        self.phase = Phase::Acquiring { next: index };
        self.told.begin();
        self.claims[index] = ClaimState::Asked;
        out.push(Effect::Acquire(index));
    }

    fn hear(&mut self, index: usize, news: ClaimEvent, now: Boottime, out: &mut Vec<Effect>) {
        let name = self.settings.claims[index].clone();
        match news {
            ClaimEvent::Asked => self.asked(index, now, out),
            ClaimEvent::Hindered { why } => self.hindered(index, &why, now, out),
            ClaimEvent::Waiting { ahead, message, parent_missing: missing, lock } => {
                self.waiting(index, &Word { ahead, message, missing, lock }, now, out);
            }
            // While the lock is asked there is nothing else to do.
            ClaimEvent::Granted => {
                let is_last = index + 1 == self.claims.len() && self.phase == (Phase::Acquiring { next: index });
                if is_last && self.watchdog_ready.replace(now).is_none() {
                    out.push(Effect::PrepareWatchdog);
                }
            }
            ClaimEvent::Held { fencing_token, ttl, deadline, lock } => {
                self.locks[index] = lock;
                self.hold(index, fencing_token, ttl, deadline, out);
            }
            ClaimEvent::Extended { deadline: new } => {
                if let ClaimState::Held { deadline, .. } = &mut self.claims[index] {
                    *deadline = (*deadline).max(new);
                }
                self.extend_watchdog(out);
            }
            ClaimEvent::Retrying { operation, error } => self.retrying(&name, operation, error, out),
            ClaimEvent::Lost { reason } => {
                // A revoked claim still counts as held; all others may be held by somebody else by now.
                let taken = !matches!(reason, LossReason::Revoked(_));
                self.lost(index, &reason.to_string(), taken, now, out);
            }
            ClaimEvent::Failed { error } if self.claims[index] == ClaimState::Asked => {
                self.claims[index] = ClaimState::Absent;
                self.cannot_acquire(index, Exit::from(&error), &error.to_string(), now, out);
            }
            ClaimEvent::Failed { error } => self.gone(index, &error.to_string(), now, out),
            ClaimEvent::Abandoned { error } => {
                let message = format!("could not release {name}, which ends with its TTL: {error}");
                out.push(Effect::Log(Level::WARN, message));
                self.gone(index, &error, now, out);
            }
            ClaimEvent::Released => self.gone(index, "the claim is gone", now, out),
            // News that this version does not know are no reason to act.
            _ => {}
        }
    }

    pub(super) fn cannot_acquire(
        &mut self,
        index: usize,
        exit: Exit,
        error: &str,
        now: Boottime,
        out: &mut Vec<Effect>,
    ) {
        self.verdict = Some(exit);
        out.push(Effect::Report(format!("cannot acquire {}: {error}", self.settings.claims[index])));
        self.give_back(RELEASE, now, out);
    }

    /// There is nobody to ask, so nothing is held and nothing is to be given back.
    fn unreachable(&mut self, exit: Exit, error: &str, now: Boottime, out: &mut Vec<Effect>) {
        if let Phase::Running | Phase::Over = self.phase {
            return;
        }
        self.claims.fill(ClaimState::Absent);
        match self.phase {
            Phase::Awaiting { next } => self.cannot_wait(next, exit, error, now, out),
            Phase::Acquiring { next } => self.cannot_acquire(next, exit, error, now, out),
            Phase::Arriving { .. } => self.give_up_arriving(exit, error, now, out),
            Phase::Releasing { .. } => self.finish(out),
            Phase::Ready | Phase::Running | Phase::Over => {}
        }
    }

    pub(super) fn retrying(&mut self, name: &str, operation: &str, error: String, out: &mut Vec<Effect>) {
        out.push(Effect::Log(Level::WARN, format!("{name}: cannot {operation} yet, trying again: {error}")));
        self.trouble = Some(error);
    }

    fn asked(&mut self, index: usize, now: Boottime, out: &mut Vec<Effect>) {
        if self.claims[index] == ClaimState::Asked {
            self.contact_until = None;
            self.last_heard = LastHeard::Contact;
            if !self.settings.local {
                self.told.asked(now);
            }
            out.push(Effect::Log(Level::DEBUG, format!("asked for {}", self.settings.claims[index])));
        }
    }

    fn hold(&mut self, index: usize, token: u64, ttl: Duration, deadline: Boottime, out: &mut Vec<Effect>) {
        if self.phase != (Phase::Acquiring { next: index }) {
            return;
        }
        let name = &self.settings.claims[index];
        out.push(Effect::Log(Level::INFO, format!("holding {name}, fencing token {token}")));
        self.claims[index] = ClaimState::Held { token, ttl, deadline };
        (self.contact_until, self.last_heard) = (None, LastHeard::Contact);
        self.ask_next(index + 1, out);
    }

    /// Every signal that came first has been heard, and none of them was a reason not to start.
    fn spawn(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        if self.phase != Phase::Ready {
            return;
        }
        let tokens = self.claims.iter().filter_map(|claim| match claim {
            ClaimState::Held { token, .. } => Some(*token),
            _ => None,
        });
        // Without a cluster the watchdog is there for the end of this process alone.
        let deadline = self.fence().or_else(|| (!self.claims.is_empty()).then_some(Boottime::NEVER));
        out.push(Effect::Spawn { tokens: tokens.collect(), locks: self.locks.clone(), deadline });
        self.watchdog = deadline.map(|deadline| WatchdogState { deadline, started: now, again: None, short: false });
        self.watchdog_ready = None;
        self.phase = Phase::Running;
        self.command_alive = true;
        self.forward_early(out);
    }

    /// There is no command. If there may be one in a moment, it is tried again, with all that has arrived for it.
    fn not_spawned(&mut self, exit: Exit, error: String, momentary: bool, now: Boottime, out: &mut Vec<Effect>) {
        self.command_alive = false;
        let first = self.unstarted.is_none();
        let since = self.unstarted.map_or(now, |unstarted| unstarted.since);
        let lasted = now.since(since);
        if momentary && lasted < STARTING && self.phase == Phase::Running && self.verdict.is_none() {
            self.end_watchdog(out);
            self.phase = Phase::Ready;
            let again_at = Some(now + lasted.clamp(STARTING_PAUSES[0], STARTING_PAUSES[1]));
            self.unstarted = Some(Unstarted { since, again_at });
            if first {
                out.push(Effect::Log(Level::WARN, format!("{error}; trying again")));
            }
            return;
        }
        self.verdict = Some(exit);
        out.push(Effect::Report(error));
        self.give_back(RELEASE, now, out);
    }

    /// Something was alive when the tree was killed.
    fn killed(&mut self, out: &mut Vec<Effect>) {
        if let Some(ending) = &mut self.ending
            && std::mem::take(&mut ending.overdue)
        {
            out.push(Effect::Log(Level::WARN, "killed what had not ended in time".to_owned()));
        }
    }

    /// Once something is lost, no renewal of anything else changes when the tree must be dead.
    fn extend_watchdog(&mut self, out: &mut Vec<Effect>) {
        let fence = self.fence();
        if let (Some(watchdog), Some(fence)) = (&mut self.watchdog, fence)
            && self.verdict != Some(Exit::Lost)
            && fence > watchdog.deadline
        {
            watchdog.deadline = fence;
            out.push(Effect::TellWatchdog(fence));
        }
    }

    /// Somebody has killed it, or it has done its work, and then the time that is up has come first.
    fn watchdog_ended(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        self.watchdog_ready = None;
        let Some(watchdog) = &mut self.watchdog else { return };
        if matches!(self.ending, Some(Ending { killed: true, .. })) {
            return;
        }
        if now - watchdog.started < WATCHDOG_LASTS {
            let soon = if watchdog.deadline == Boottime::NEVER {
                watchdog.again = Some(now + WATCHDOG_LASTS);
                "another one is tried every second"
            } else {
                "the next renewal starts another one"
            };
            // Once, however long that goes on.
            if !std::mem::replace(&mut watchdog.short, true) {
                out.push(Effect::Log(Level::WARN, format!("the watchdog has ended again; {soon}")));
            }
        } else {
            (watchdog.started, watchdog.short) = (now, false);
            out.push(Effect::TellWatchdog(watchdog.deadline));
            out.push(Effect::Log(Level::WARN, "the watchdog has ended; another one takes its place".to_owned()));
        }
    }

    /// The command itself has ended: its code counts, as it is or as it is to be told.
    fn command_ended(&mut self, exit: Exit, now: Boottime, out: &mut Vec<Effect>) {
        let code = exit.code();
        let told = self.settings.exit_codes.get(&code).copied();
        let message = told.map_or(String::new(), |told| format!(", to be told as {told}"));
        out.push(Effect::Log(Level::DEBUG, format!("the command has ended: {code}{message}")));
        self.ended(told.map_or(exit, Exit::Code), now, out);
    }

    /// The command's file was slow to come, and then could not be executed. A loss stays what it is.
    fn not_executed(&mut self, exit: Exit, error: String, now: Boottime, out: &mut Vec<Effect>) {
        let is_first = self.verdict.is_none();
        out.push(if is_first { Effect::Report(error) } else { Effect::Log(Level::WARN, error) });
        self.ended(exit, now, out);
    }

    fn ended(&mut self, exit: Exit, now: Boottime, out: &mut Vec<Effect>) {
        self.command_alive = false;
        self.verdict.get_or_insert(exit);
        if self.settings.leaves && self.phase == Phase::Running {
            self.give_back(RELEASE, now, out);
        }
    }

    /// Something of the tree is alive after others have ended.
    fn remaining(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        if self.phase != Phase::Running {
            return;
        }
        match self.ending {
            Some(Ending { killed: true, .. }) => out.push(Effect::KillTree),
            None if !self.command_alive => {
                out.push(Effect::Log(Level::DEBUG, "ending the processes that the command left behind".to_owned()));
                self.terminate(now, out);
            }
            _ => {}
        }
    }

    /// The client says that a claim is no longer to be relied upon.
    fn lost(&mut self, index: usize, reason: &str, taken: bool, now: Boottime, out: &mut Vec<Effect>) {
        match self.claims[index] {
            ClaimState::Held { .. } => {}
            // Revoked first and now free: the grace is over.
            ClaimState::Lost if taken && self.phase == Phase::Running => return self.kill(now, out),
            _ => return,
        }
        let name = self.settings.claims[index].clone();
        match self.phase {
            Phase::Acquiring { .. } | Phase::Ready => {
                self.verdict = Some(Exit::Lost);
                out.push(Effect::Report(format!("lost {name} before the command was started: {reason}")));
                self.give_back(RELEASE, now, out);
            }
            Phase::Running => {
                self.lose(&name, reason, taken, now, out);
                self.claims[index] = ClaimState::Lost;
            }
            // What was held while the command ran has done its work.
            Phase::Awaiting { .. } | Phase::Arriving { .. } | Phase::Releasing { .. } | Phase::Over => {}
        }
    }

    /// The client has no more to say about this claim.
    fn gone(&mut self, index: usize, reason: &str, now: Boottime, out: &mut Vec<Effect>) {
        if self.claims[index] == ClaimState::Asked {
            self.verdict = Some(Exit::Internal);
            let name = &self.settings.claims[index];
            out.push(Effect::Report(format!("stopped waiting for {name} without having been asked to: {reason}")));
            self.claims[index] = ClaimState::Absent;
            return self.give_back(RELEASE, now, out);
        }
        self.lost(index, reason, true, now, out);
        self.claims[index] = ClaimState::Absent;
        if matches!(self.phase, Phase::Releasing { .. }) && !self.claims.contains(&ClaimState::Leaving) {
            self.finish(out);
        }
    }

    /// Nobody renews any more, and nobody can release.
    fn client_failed(&mut self, error: &str, now: Boottime, out: &mut Vec<Effect>) {
        let message = format!("the thread that talks to the API server is gone: {error}");
        match self.phase {
            Phase::Running => {
                if self.held().next().is_some() {
                    self.lose(&self.settings.claims.join(", "), &message, false, now, out);
                }
                self.claims.fill(ClaimState::Absent);
                self.cut_off = Some(message);
            }
            Phase::Arriving { .. } => {
                self.claims.fill(ClaimState::Absent);
                self.give_up_arriving(Exit::Internal, &message, now, out);
            }
            Phase::Awaiting { .. } | Phase::Acquiring { .. } | Phase::Ready | Phase::Releasing { .. } => {
                self.verdict.get_or_insert(Exit::Internal);
                out.push(Effect::Report(message));
                self.claims.fill(ClaimState::Absent);
                self.finish(out);
            }
            Phase::Over => {}
        }
    }

    /// What ran must not go on. `urgent` leaves no time to end in order.
    fn lose(&mut self, name: &str, reason: &str, urgent: bool, now: Boottime, out: &mut Vec<Effect>) {
        self.verdict = Some(Exit::Lost);
        if urgent {
            self.kill(now, out);
        } else {
            self.terminate(now, out);
        }
        out.push(Effect::Report(format!("lost {name}: {reason}; ending the command")));
    }

    /// TERM now, KILL after the grace or at the deadline.
    fn terminate(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        let in_time = now + self.settings.grace;
        let kill_at = self.fence().map_or(in_time, |fence| fence.min(in_time));
        if let Some(ending) = &mut self.ending {
            ending.kill_at = ending.kill_at.min(kill_at);
        } else {
            self.ending = Some(Ending { kill_at, killed: false, overdue: false });
            out.push(Effect::TerminateTree);
        }
    }

    fn kill(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        if !matches!(self.ending, Some(Ending { killed: true, .. })) {
            self.ending = Some(Ending { kill_at: now + KILL_AGAIN, killed: true, overdue: false });
            out.push(Effect::KillTree);
        }
    }

    pub(super) fn tries_once(&self) -> bool {
        self.settings.wait_timeout.is_some_and(|timeout| timeout.is_zero())
    }

    /// Waiting has taken too long.
    pub(super) fn time_out(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        let (name, wanted) = match self.phase {
            Phase::Awaiting { next } => (self.settings.awaited[next].to_string(), "open"),
            Phase::Acquiring { next } => (self.settings.claims[next].clone(), "free"),
            _ => return,
        };
        let (tries_once, because) = (self.tries_once(), self.because());
        let (exit, message) = match self.last_heard {
            LastHeard::Nothing | LastHeard::Contact if self.settings.local => {
                (Exit::TimedOut, format!("timed out waiting for {name}: other processes keep the folder busy"))
            }
            LastHeard::Nothing => {
                let trouble = self.trouble.as_deref().unwrap_or("it does not answer");
                (Exit::Unreachable, format!("cannot reach the cluster to ask for {name}: {trouble}"))
            }
            LastHeard::Contact => {
                (Exit::TimedOut, format!("no answer about {name}: does Konductor's operator run? {LOOK}"))
            }
            // It may well be free: to skip the command would hide what is in the way.
            LastHeard::Hindered if tries_once => (Exit::TimedOut, format!("cannot ask for {name} now{because}")),
            LastHeard::Hindered => (Exit::TimedOut, format!("timed out asking for {name}{because}")),
            LastHeard::Missing if tries_once => {
                (Exit::NoSuchPrimitive, format!("there is no {name} in this namespace: create it, or let me wait"))
            }
            LastHeard::Missing => (Exit::TimedOut, format!("timed out waiting for {name}, which does not exist")),
            LastHeard::Queued if self.settings.skip_on_timeout => {
                let because = because.strip_prefix(": ").map(|why| format!(" ({why})")).unwrap_or_default();
                (Exit::Skipped, format!("{name} is not {wanted}: skipping the command{because}"))
            }
            LastHeard::Queued if tries_once => (Exit::TimedOut, format!("{name} is not {wanted}{because}")),
            LastHeard::Queued => (Exit::TimedOut, format!("timed out waiting for {name}{}", self.told.why)),
        };
        self.verdict = Some(exit);
        out.push(match exit {
            Exit::Skipped => Effect::Log(Level::INFO, message),
            _ => Effect::Report(message),
        });
        // Who has not answered for so long will not do so now.
        let bound = if exit == Exit::Unreachable { WITHDRAWAL } else { RELEASE };
        self.give_back(bound, now, out);
    }

    /// Nothing is alive: let go of everything, the last taken first.
    pub(super) fn give_back(&mut self, bound: Duration, now: Boottime, out: &mut Vec<Effect>) {
        self.phase = Phase::Releasing { until: now + bound };
        self.end_watchdog(out);
        for (index, claim) in self.claims.iter_mut().enumerate().rev() {
            if *claim != ClaimState::Absent {
                *claim = ClaimState::Leaving;
                out.push(Effect::Release(index));
            }
        }
        if !self.claims.contains(&ClaimState::Leaving) {
            self.finish(out);
        }
    }

    pub(super) fn end_watchdog(&mut self, out: &mut Vec<Effect>) {
        if self.watchdog_ready.take().is_some() | self.watchdog.take().is_some() {
            out.push(Effect::EndWatchdog);
        }
    }

    fn finish(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        out.push(Effect::Exit(self.verdict.unwrap_or(Exit::Internal)));
    }
}
