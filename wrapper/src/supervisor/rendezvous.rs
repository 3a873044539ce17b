//! What is waited for before anything is held, and the arrivals when the command has ended.
//!
//! *Waiting.* One thing after the other, in the order given: each was open when its turn came. (Who wants several to be
//! open at one moment makes them conditions of one gate.) Nothing exists of it in the cluster, so ending it is to stop
//! listening.
//!
//! *Arriving.* When the tree is empty, and before anything is released. Before the tree is empty, those who wait could
//! meet what it still does. And after a release, whoever is let in next could look at the barrier and not find the
//! arrival of the one who was in before; should this process die in between, nobody would ever arrive for work that is
//! done and whose lock has gone to somebody else. In this order, dying in between costs the next holder a wait for the
//! TTL at most. What is held is renewed meanwhile. Who waits at the barrier for what is held here waits for one more
//! request.

use konductor::{Boottime, Exit, rendezvous::Progress};
use tracing::Level;

use super::{ARRIVAL, ArriveOn, Effect, LAST_ARRIVAL, LastHeard, Phase, RELEASE, Supervisor};

impl Supervisor {
    /// Everything before this was seen open; it is waited for, or there is no more.
    pub(super) fn await_next(&mut self, index: usize, out: &mut Vec<Effect>) {
        if index < self.settings.awaited.len() {
            self.phase = Phase::Awaiting { next: index };
            self.told.begin();
            out.push(Effect::Await(index));
        } else {
            self.ask_next(0, out);
        }
    }

    /// News of what is waited for.
    pub(super) fn awaited(&mut self, index: usize, progress: Progress, now: Boottime, out: &mut Vec<Effect>) {
        if self.phase != (Phase::Awaiting { next: index }) {
            return;
        }
        let name = self.settings.awaited[index].to_string();
        match progress {
            Progress::Seen => {
                (self.contact_until, self.last_heard) = (None, LastHeard::Contact);
                self.told.asked(now);
                out.push(Effect::Log(Level::DEBUG, format!("{name} is there; the operator has not looked at it yet")));
            }
            Progress::Waiting { message, missing } => self.closed(index, &message, missing, now, out),
            Progress::Retrying { operation, error } => self.retrying(&name, operation, error, out),
            Progress::Done => {
                out.push(Effect::Log(Level::INFO, format!("{name} is open")));
                (self.contact_until, self.last_heard) = (None, LastHeard::Contact);
                self.await_next(index + 1, out);
            }
            Progress::Failed { error } => self.cannot_wait(index, Exit::from(&error), &error.to_string(), now, out),
            // Only who arrives comes too late, and news that this version does not know are no reason to act.
            _ => {}
        }
    }

    /// What is waited for will not open, or cannot be looked at.
    pub(super) fn cannot_wait(&mut self, index: usize, exit: Exit, error: &str, now: Boottime, out: &mut Vec<Effect>) {
        self.verdict = Some(exit);
        out.push(Effect::Report(format!("cannot wait for {}: {error}", self.settings.awaited[index])));
        self.give_back(RELEASE, now, out);
    }

    /// Nothing is alive: arrive, if the work is done, and then let go of everything.
    pub(super) fn arrive(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        let done = match self.verdict {
            Some(Exit::Code(0)) => true,
            Some(Exit::Code(_) | Exit::Signal(_)) => self.settings.arrive_on == ArriveOn::AnyEnd,
            _ => false,
        };
        if !done || self.arriving.is_empty() {
            return self.give_back(RELEASE, now, out);
        }
        if let Some(why) = self.cut_off.take() {
            let names = self.settings.arrivals.join(", ");
            self.not_arrived(Exit::Internal, &names, &why, out);
            return self.give_back(RELEASE, now, out);
        }
        // There is nothing left to watch.
        self.end_watchdog(out);
        self.phase = Phase::Arriving { until: now + if self.told_to_end { LAST_ARRIVAL } else { ARRIVAL } };
        self.trouble = None;
        self.arriving.fill(true);
        out.extend((0..self.arriving.len()).map(Effect::Arrive));
    }

    /// News of an arrival.
    pub(super) fn arrival(&mut self, index: usize, progress: Progress, now: Boottime, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Arriving { .. }) || !self.arriving[index] {
            return;
        }
        let name = self.settings.arrivals[index].clone();
        match progress {
            Progress::Retrying { operation, error } => return self.retrying(&name, operation, error, out),
            // Not of the barrier, which one arrives at whether it is open or not, but of a quota.
            Progress::Waiting { message, .. } => return self.retrying(&name, "arrive", message, out),
            Progress::RoundOver { failed, message } => {
                let stands = if failed { "has failed" } else { "is open" };
                let news =
                    format!("{name} {stands} ({message}): this arrival comes after the round, and changes nothing");
                return out.push(Effect::Log(Level::WARN, news));
            }
            Progress::RoundPassed { round } => {
                let news = format!(
                    "{name} has begun round {round} before an answer told whether this arrival was made: it is not made once \
                     more, as it could count in two rounds"
                );
                return out.push(Effect::Log(Level::WARN, news));
            }
            Progress::Done => out.push(Effect::Log(Level::INFO, format!("arrived at {name}"))),
            Progress::Failed { error } => self.not_arrived(Exit::from(&error), &name, &error.to_string(), out),
            // News that this version does not know are no reason to act.
            _ => return,
        }
        self.arriving[index] = false;
        if !self.arriving.contains(&true) {
            self.give_back(RELEASE, now, out);
        }
    }

    /// Arriving has taken too long, or nobody can any more.
    pub(super) fn give_up_arriving(&mut self, exit: Exit, why: &str, now: Boottime, out: &mut Vec<Effect>) {
        let names = self.settings.arrivals.iter().zip(&self.arriving).filter(|(_, arriving)| **arriving);
        let names = names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        self.arriving.fill(false);
        self.not_arrived(exit, &names, why, out);
        self.give_back(RELEASE, now, out);
    }

    /// Work that is done and that nobody hears of is no success. A failure of the command stays what it is.
    fn not_arrived(&mut self, exit: Exit, name: &str, why: &str, out: &mut Vec<Effect>) {
        if self.verdict == Some(Exit::Code(0)) {
            self.verdict = Some(exit);
        }
        out.push(Effect::Report(format!("the command has ended, but could not arrive at {name}: {why}")));
    }
}
