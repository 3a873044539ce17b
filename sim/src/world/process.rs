//! A process of the world: its clocks, its chance, and whether it runs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
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
}

/// What a process waits for: it has neither given it up nor has it ended.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) requests: AtomicUsize,
    pub(super) watches: AtomicUsize,
}

#[derive(Debug, Default)]
struct Life {
    stands_still: bool,
    is_over: bool,
    wakers: Vec<Waker>,
    /// Since when its machine is suspended.
    sleeps_since: Option<Instant>,
    /// From when to when it was, in order.
    sleeps: Vec<(Instant, Instant)>,
}

impl Life {
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
        })
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it stand still, as SIGSTOP does.
    pub(super) fn freeze(&self) {
        self.life().stands_still = true;
    }

    /// Has it stand still with its machine: its monotonic clock does, too, and its time since boot goes on.
    pub(super) fn suspend(&self) {
        let mut life = self.life();
        life.stands_still = true;
        life.sleeps_since.get_or_insert(Instant::now());
    }

    /// Has it go on.
    pub(super) fn thaw(&self) {
        let wakers = {
            let mut life = self.life();
            life.stands_still = false;
            if let Some(since) = life.sleeps_since.take() {
                life.sleeps.push((since, Instant::now()));
            }
            std::mem::take(&mut life.wakers)
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
        let mut life = self.life();
        if life.stands_still && !life.is_over {
            life.wakers.push(waker.clone());
        }
        !life.stands_still && !life.is_over
    }
}
