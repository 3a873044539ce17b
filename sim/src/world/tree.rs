//! A pretended process tree: the command of a `konductor-run` with what it leaves behind, and the watchdog beside it.
//!
//! It lives in the world and not in the process of its `konductor-run`: it goes on while that one stands still, and when
//! that one is killed, the watchdog ends it at once. What `konductor-run` is told of it, it is told when it runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use konductor::Exit;
use konductor_run::supervisor::Event;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::World;
use crate::{mutation::Mutation, plan::Wrapper};

/// How long the kernel takes from SIGKILL to the last process's end.
const DYING: Duration = Duration::from_millis(5);

/// As far as any plan goes.
const FAR: Duration = Duration::from_secs(1 << 30);

/// The tree of one command.
#[derive(Debug)]
pub(super) struct Tree {
    client: usize,
    wrapper: Wrapper,
    mutation: Option<Mutation>,
    state: Mutex<State>,
    /// Something is to be told to `konductor-run`, or has to end at another time.
    pub(super) changed: Notify,
    again: Notify,
}

#[derive(Debug)]
struct State {
    /// When the command ends, and then what it has left behind.
    ends: [Instant; 2],
    exit: Exit,
    /// When the watchdog ends everything.
    watchdog: Option<Instant>,
    command_has_ended: bool,
    is_empty: bool,
    /// Since when its machine is suspended.
    sleeps_since: Option<Instant>,
    /// It was killed meanwhile.
    is_killed: bool,
    news: Vec<Event>,
}

impl Tree {
    /// Starts a command that works so long.
    pub(super) fn start(
        world: &Arc<World>,
        client: usize,
        wrapper: &Wrapper,
        works: Duration,
        watchdog: Option<Instant>,
        mutation: Option<Mutation>,
    ) -> Arc<Self> {
        let end = Instant::now() + works;
        let state = State {
            ends: [end, end + wrapper.leaves.unwrap_or_default()],
            exit: Exit::Code(0),
            watchdog,
            command_has_ended: false,
            is_empty: false,
            sleeps_since: None,
            is_killed: false,
            news: Vec::new(),
        };
        let tree = Arc::new(Self {
            client,
            wrapper: wrapper.clone(),
            mutation,
            state: Mutex::new(state),
            changed: Notify::new(),
            again: Notify::new(),
        });
        tokio::spawn(Arc::clone(&tree).live(Arc::clone(world)));
        tree
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on until no process is left.
    async fn live(self: Arc<Self>, world: Arc<World>) {
        loop {
            let now = Instant::now();
            let (next, is_empty) = {
                let mut state = self.state();
                // On a machine that is suspended nothing goes on.
                let next = if state.sleeps_since.is_some() { None } else { self.pass(&mut state, now) };
                (next, state.is_empty)
            };
            self.changed.notify_one();
            if is_empty {
                world.tell(|| format!("nothing of the command of client {} is left", self.client));
                if self.mutation == Some(Mutation::CommandsOutliveTheirRelease) {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                let now = world.now();
                world.inner().observers.ended(now, self.client);
                return;
            }
            tokio::select! {
                biased;
                () = self.again.notified() => {}
                () = sleep_until(next.unwrap_or(now + FAR)) => {}
            }
        }
    }

    /// What has happened until now. Returns when something happens next.
    fn pass(&self, state: &mut State, now: Instant) -> Option<Instant> {
        if state.watchdog.is_some_and(|at| at <= now) {
            state.watchdog = None;
            if self.mutation != Some(Mutation::WatchdogsSleep) {
                Self::end_by(state, now + self.dying());
                state.news.push(Event::WatchdogEnded);
            }
        }
        if !state.command_has_ended && state.ends[0] <= now {
            state.command_has_ended = true;
            let exit = state.exit;
            state.news.push(Event::CommandEnded(exit));
            if state.ends[1] > now {
                let early = self.mutation == Some(Mutation::TreesAreCalledEmptyEarly);
                state.news.push(if early { Event::TreeEmpty } else { Event::Remaining });
            }
        }
        if state.command_has_ended && state.ends[1] <= now {
            state.is_empty = true;
            state.news.push(Event::TreeEmpty);
        }
        state.ends.into_iter().filter(|end| *end > now).chain(state.watchdog).min()
    }

    /// Its machine is suspended: nothing of it goes on.
    pub(super) fn suspend(&self) {
        self.state().sleeps_since.get_or_insert(Instant::now());
        self.again.notify_one();
    }

    /// Its machine goes on. What the command had left to do takes as long as before; what was due is due now.
    pub(super) fn resume(&self) {
        let now = Instant::now();
        {
            let mut state = self.state();
            let Some(since) = state.sleeps_since.take() else { return };
            for end in &mut state.ends {
                *end += now - since;
            }
            if std::mem::take(&mut state.is_killed) {
                Self::end_by(&mut state, now + self.dying());
            }
        }
        self.again.notify_one();
    }

    fn end_by(state: &mut State, at: Instant) {
        for end in &mut state.ends {
            *end = at.min(*end);
        }
    }

    /// Tells every process to end; those that listen do so after a while.
    pub(super) fn terminate(&self) {
        if let Some(reaction) = self.wrapper.reaction {
            let mut state = self.state();
            if !state.command_has_ended {
                state.exit = Exit::Signal(15);
            }
            Self::end_by(&mut state, Instant::now() + reaction);
        }
        self.again.notify_one();
    }

    /// How long what is killed lives on.
    fn dying(&self) -> Duration {
        let late = if self.mutation == Some(Mutation::KillsAreLate) { Duration::from_secs(10) } else { Duration::ZERO };
        DYING + late
    }

    /// Kills every process.
    pub(super) fn kill(&self) {
        {
            let mut state = self.state();
            if state.is_empty {
                return;
            }
            if !state.command_has_ended {
                state.exit = Exit::Signal(9);
            }
            state.is_killed = state.sleeps_since.is_some();
            Self::end_by(&mut state, Instant::now() + self.dying());
            state.news.push(Event::Killed);
        }
        self.again.notify_one();
    }

    /// The watchdog is told a deadline, or to end.
    pub(super) fn watch(&self, until: Option<Instant>) {
        self.state().watchdog = until;
        self.again.notify_one();
    }

    /// Whether no process is left.
    pub(super) fn is_empty(&self) -> bool {
        self.state().is_empty
    }

    /// What there is to tell to `konductor-run`.
    pub(super) fn news(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().news)
    }
}
