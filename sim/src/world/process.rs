//! A process of the world: its clocks, its chance, and whether it runs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use konductor_cluster::process::Surroundings;
use tokio::time::Instant;

use super::EPOCH;
use crate::chance::Chance;

/// A process. It is one from its start to its end: who is started again is another one.
#[derive(Debug)]
pub(super) struct Process {
    /// What the story calls it.
    pub(super) name: String,
    /// Whether it is an operator.
    pub(super) is_operator: bool,
    born: Instant,
    /// Time since boot when it began: no two of a host's begin at the same.
    boot: Duration,
    rate: f64,
    /// By how many milliseconds its wall clock is ahead.
    ahead: AtomicI64,
    chance: Mutex<Chance>,
    /// The API server that it is connected to.
    home: AtomicUsize,
    life: Mutex<Life>,
    /// Requests and watches that it has.
    pub(super) open: Open,
    turns: Turns,
}

/// How often something of a process has been looked at for whether it can go on, in one second of the world.
#[derive(Debug, Default)]
struct Turns {
    second: AtomicU64,
    in_it: AtomicU64,
    most: AtomicU64,
}

/// So many turns in one second of the world are a loop in which no time passes: the history would never end.
const ENDLESS: u64 = 3_000_000;

/// What a process waits for: it has neither given it up nor has it ended.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) requests: AtomicUsize,
    pub(super) watches: AtomicUsize,
}

#[derive(Debug, Default)]
struct Life {
    is_frozen: bool,
    is_over: bool,
    wakers: Vec<Waker>,
    /// Since when its machine is suspended.
    sleeps_since: Option<Instant>,
    /// From when to when it was, in order.
    sleeps: Vec<(Instant, Instant)>,
    /// From when to when it stood still last.
    stood: Option<(Instant, Option<Instant>)>,
}

impl Life {
    fn stands_still(&self) -> bool {
        self.is_frozen || self.sleeps_since.is_some()
    }

    /// It stands still from now on, for one more reason if it did before.
    fn stop(&mut self) {
        let now = Instant::now();
        if !self.stands_still() {
            // Who stops again in the moment in which it went on has heard nothing in between.
            let from = self.stood.filter(|(_, to)| *to == Some(now)).map_or(now, |(from, _)| from);
            self.stood = Some((from, None));
        }
    }

    /// It goes on, unless there is another reason for it to stand still. Returns who is to be woken.
    fn go_on(&mut self) -> Vec<Waker> {
        if self.stands_still() {
            return Vec::new();
        }
        if let Some((_, to)) = &mut self.stood {
            to.get_or_insert(Instant::now());
        }
        std::mem::take(&mut self.wakers)
    }

    /// When its machine was suspended, until now.
    fn sleeps(&self) -> impl Iterator<Item = (Instant, Instant)> {
        self.sleeps.iter().copied().chain(self.sleeps_since.map(|since| (since, Instant::now())))
    }
}

impl Process {
    /// One that begins now, with a clock that is fast by so many millionths.
    pub(super) fn start(name: String, is_operator: bool, drift: i64, mut chance: Chance) -> Arc<Self> {
        let boot = Duration::from_millis(chance.below(100_000_000));
        let home = AtomicUsize::new(chance.below(12) as usize);
        Arc::new(Self {
            name,
            is_operator,
            born: Instant::now(),
            boot,
            rate: 1.0 + drift as f64 / 1e6,
            ahead: AtomicI64::new(0),
            chance: Mutex::new(chance),
            home,
            life: Mutex::default(),
            open: Open::default(),
            turns: Turns::default(),
        })
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it stand still, as SIGSTOP does.
    pub(super) fn freeze(&self) {
        let mut life = self.life();
        life.stop();
        life.is_frozen = true;
    }

    /// Whether it has not ended.
    pub(super) fn is_alive(&self) -> bool {
        !self.life().is_over
    }

    /// It has taken in all that it was told before this moment.
    pub(super) fn has_heard_until(&self) -> Instant {
        let now = Instant::now();
        match self.life().stood {
            Some((from, to)) if to.is_none_or(|to| to == now) => from,
            _ => now,
        }
    }

    /// Since when it has not stood still.
    pub(super) fn runs_since(&self) -> Instant {
        match self.life().stood {
            Some((_, to)) => to.unwrap_or_else(Instant::now),
            None => self.born,
        }
    }

    /// Has it stand still with its machine: its monotonic clock does, too, and its time since boot goes on.
    pub(super) fn suspend(&self) {
        let mut life = self.life();
        life.stop();
        life.sleeps_since.get_or_insert(Instant::now());
    }

    /// Has it go on that was frozen, as SIGCONT does: not while its machine is suspended.
    pub(super) fn thaw(&self) {
        let wakers = {
            let mut life = self.life();
            life.is_frozen = false;
            life.go_on()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Has its machine go on.
    pub(super) fn resume(&self) {
        let wakers = {
            let mut life = self.life();
            if let Some(since) = life.sleeps_since.take() {
                life.sleeps.push((since, Instant::now()));
            }
            life.go_on()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends it, as SIGKILL does. Returns whether it had not ended before.
    pub(super) fn kill(&self) -> bool {
        let mut life = self.life();
        life.wakers.clear();
        !std::mem::replace(&mut life.is_over, true)
    }

    /// Whether something happens that happens in so many of a thousand cases.
    pub(super) fn happens(&self, per_mille: u32) -> bool {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).happens(per_mille)
    }

    /// The most turns that it has taken in a second.
    pub(super) fn most_turns(&self) -> u64 {
        self.turns.most.load(Relaxed)
    }

    fn count_turn(&self) {
        let second = self.born.elapsed().as_secs();
        if self.turns.second.swap(second, Relaxed) != second {
            self.turns.in_it.store(0, Relaxed);
        }
        let turns = self.turns.in_it.fetch_add(1, Relaxed) + 1;
        self.turns.most.fetch_max(turns, Relaxed);
        assert!(turns < ENDLESS, "{} takes {turns} turns in a second of the world", self.name);
    }

    /// Which of so many API servers it is connected to.
    pub(super) fn home(&self, servers: usize) -> usize {
        self.home.load(Relaxed) % servers
    }

    pub(super) fn move_to(&self, server: usize) {
        self.home.store(server, Relaxed);
    }

    /// Sets its wall clock so many seconds ahead.
    pub(super) fn set_clock(&self, ahead: i64) {
        self.ahead.store(ahead * 1000, Relaxed);
    }

    /// The moment when its time since boot is this.
    pub(super) fn moment(&self, boottime: Duration) -> Instant {
        // As far as any plan goes.
        const FAR: Duration = Duration::from_secs(1 << 30);
        self.born + boottime.saturating_sub(self.boot).min(FAR).div_f64(self.rate)
    }
}

impl Surroundings for Process {
    fn boottime(&self) -> Duration {
        self.boot + self.born.elapsed().mul_f64(self.rate)
    }

    fn elapsed(&self, start: Instant) -> Duration {
        let life = self.life();
        let slept: Duration = life.sleeps().map(|(from, to)| to.saturating_duration_since(from.max(start))).sum();
        (start.elapsed().saturating_sub(slept)).mul_f64(self.rate)
    }

    fn after(&self, start: Instant, span: Duration) -> Instant {
        let life = self.life();
        let at = start + span.div_f64(self.rate);
        life.sleeps().fold(
            at,
            |at, (from, to)| {
                if from < at { at + to.saturating_duration_since(from.max(start)) } else { at }
            },
        )
    }

    fn wall(&self) -> Timestamp {
        let now = self.born + self.born.elapsed();
        let now = super::timestamp(now);
        now.saturating_add(SignedDuration::from_millis(self.ahead.load(Relaxed))).unwrap_or(EPOCH)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }

    fn runs(&self, waker: &Waker) -> bool {
        self.count_turn();
        let mut life = self.life();
        if life.stands_still() && !life.is_over {
            life.wakers.push(waker.clone());
        }
        !life.stands_still() && !life.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn suspended_its_monotonic_clock_stands_and_its_time_since_boot_goes_on() {
        let process = Process::start("p".into(), true, 0, Chance::new(1, 1));
        let (start, boot) = (Instant::now(), process.boottime());
        let times = || (process.elapsed(start), process.boottime().saturating_sub(boot));
        tokio::time::advance(MINUTE).await;
        process.suspend();
        tokio::time::advance(MINUTE).await;
        assert_eq!(times(), (MINUTE, 2 * MINUTE));
        process.resume();
        assert_eq!(process.after(start, MINUTE + MINUTE / 2), Instant::now() + MINUTE / 2);
        tokio::time::advance(MINUTE).await;
        assert_eq!(times(), (2 * MINUTE, 3 * MINUTE));
        // Who only stands still has clocks that go on.
        process.freeze();
        tokio::time::advance(MINUTE).await;
        process.thaw();
        assert_eq!(times(), (3 * MINUTE, 4 * MINUTE));
        assert_eq!(process.after(Instant::now(), MINUTE), Instant::now() + MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_frozen_on_a_suspended_machine_goes_on_when_neither_is_so() {
        let process = Process::start("p".into(), true, 0, Chance::new(1, 1));
        process.suspend();
        process.freeze();
        process.thaw();
        assert!(!process.runs(Waker::noop()));
        process.freeze();
        process.resume();
        assert!(!process.runs(Waker::noop()));
        process.thaw();
        assert!(process.runs(Waker::noop()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_was_told_while_it_stood_still_it_has_heard_when_it_has_gone_on_for_a_moment() {
        let process = Process::start("p".into(), true, 0, Chance::new(1, 1));
        tokio::time::advance(MINUTE).await;
        let stopped = Instant::now();
        for _ in 0..2 {
            process.freeze();
            tokio::time::advance(MINUTE).await;
            assert_eq!(process.has_heard_until(), stopped);
            process.thaw();
            assert_eq!(process.has_heard_until(), stopped);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(process.has_heard_until(), Instant::now());
    }
}
