//! Stopping as a job: this process stands still because the command does, and goes on with it.
//!
//! A shell that has started this process looks at this process alone. So when the terminal has stopped the command, this
//! process stops as well, by the same signal, and the kernel decides whether it does: not PID 1, and not where nobody
//! could continue it.
//!
//! Signals alone do not tell whether it has. The kernel takes away a CONT that was not looked at when a stop comes, and
//! a stop when a CONT comes, and of two stops that wait it keeps one; so after `fg` and Ctrl-Z at once nothing may be
//! left of the CONT. But whether the command stands still *now* can always be asked. Hence the rule, whatever has come
//! and gone: this process stops only while the command stands still; and that nobody could continue it is believed only
//! while the command still does, with no CONT and no other stop having come. What else waits for this process is read
//! later, and decided upon anew.
//!
//! What was read already is as what waits: a stop of this process is the end of a CONT from before it. The witness may
//! not have seen that CONT any more, and then it would be sent on, and take a Ctrl-Z away from the command.
//!
//! What the rule cannot have: this process is open to stops until it runs again after a CONT. A Ctrl-Z so soon after `fg`
//! stops it at once, and the shell is back before the command has cleaned up.

use nix::{
    libc::{self, c_int},
    sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
    unistd::getpid,
};

use super::{
    found::{self, Mask, bit},
    signals::Signals,
    tree::Tree,
};
use crate::supervisor::TERMINAL_STOPS;

/// How often this process stops for one stop of the command, which has not been continued in between: each time but the
/// first another stop must have come within microseconds.
const TRIES: usize = 100;

/// The signals that take each other away.
const JOB_CONTROL: [c_int; 4] = [libc::SIGCONT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Stops this process by the signal that has stopped the command, if that still stands, or that has come while there is
/// no command, until somebody continues it. Not so when nobody could: then the answer is no. What else is in the group
/// has its own signal, from whoever wanted it to stop.
pub(super) fn stop(signal: c_int, tree: &Tree, signals: &mut Signals) -> nix::Result<bool> {
    if tree.command().is_some() {
        // Where it was found ignored, the command has inherited that by now.
        found::set_default(signal)?;
    }
    stop_with(&mut ThisProcess { signal: Signal::try_from(signal)?, tree, signals })
}

/// What the rule needs to know and to do.
trait Member {
    /// Whether the command stands still, or there is none yet.
    fn command_stands(&mut self) -> bool;
    /// Sends this process the signal, which waits, together with another one that may be waiting. From here on a CONT
    /// takes it away.
    fn raise(&mut self) -> nix::Result<()>;
    /// Forgets these signals if they were read and are not told yet.
    fn forget(&mut self, signals: &[c_int]);
    /// Lets stops through: returns when this process has been continued, or if the kernel does not stop it.
    fn let_through(&mut self) -> nix::Result<()>;
    /// What waits for this process.
    fn pending(&mut self) -> nix::Result<Mask>;
}

fn stop_with(member: &mut impl Member) -> nix::Result<bool> {
    for _ in 0..TRIES {
        if !member.command_stands() {
            return Ok(true);
        }
        member.raise()?;
        // A CONT that came meanwhile may be taken away by that; it has continued the command, and would have taken away
        // what was read before.
        if !member.command_stands() {
            member.forget(&JOB_CONTROL);
            return Ok(true);
        }
        // What is let through takes away what waits, and what was read as well.
        member.forget(&[libc::SIGCONT]);
        member.let_through()?;
        let pending = member.pending()?;
        if pending & bit(libc::SIGCONT) != 0 {
            return Ok(true);
        }
        if TERMINAL_STOPS.iter().all(|stop| pending & bit(*stop) == 0) {
            return Ok(false);
        }
    }
    Ok(false)
}

struct ThisProcess<'a> {
    signal: Signal,
    tree: &'a Tree,
    signals: &'a mut Signals,
}

impl Member for ThisProcess<'_> {
    fn command_stands(&mut self) -> bool {
        self.tree.command().is_none() || self.tree.command_stands()
    }

    fn raise(&mut self) -> nix::Result<()> {
        kill(getpid(), self.signal)
    }

    fn forget(&mut self, signals: &[c_int]) {
        self.signals.forget(signals);
    }

    fn let_through(&mut self) -> nix::Result<()> {
        let stops: SigSet = TERMINAL_STOPS.into_iter().filter_map(|stop| Signal::try_from(stop).ok()).collect();
        pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&stops), None)?;
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&stops), None)
    }

    fn pending(&mut self) -> nix::Result<Mask> {
        found::pending()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use konductor::Boottime;
    use nix::errno::Errno;
    use proptest::prelude::*;

    use super::{
        super::signals::{SIGNALS, Sorter, is_overtaken},
        *,
    };
    use crate::supervisor::{Effect, Event, Received, Settings, Supervisor, properties::plain};

    const TSTP: c_int = libc::SIGTSTP;
    const CONT: c_int = libc::SIGCONT;

    /// What the command does on TSTP.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kind {
        /// The kernel stops it.
        Plain,
        /// It cleans up and then stops itself.
        CleansUp,
    }

    /// The command, as the kernel has it.
    #[derive(Debug, Default)]
    struct Command {
        pending: bool,
        cleans: bool,
        stands: bool,
        /// A stop that was not reported yet.
        report: Option<c_int>,
    }

    impl Command {
        fn continued(&mut self) {
            self.pending = false;
            if self.stands {
                (self.stands, self.report) = (false, None);
            }
        }
    }

    /// What the witness is asked.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Question {
        No,
        Asked,
        Answered(Mask),
    }

    /// A job (this process, its witness and the command), a person and a shell. All that happens comes in the order of
    /// `turns`: at each point where another process may run, the next ones say which do.
    #[expect(clippy::struct_excessive_bools, reason = "each is a state of the kernel's, apart from all others")]
    struct Machine {
        kind: Kind,
        /// Nobody could continue the job.
        orphaned: bool,
        turns: VecDeque<u8>,
        command: Command,
        /// This process's.
        pending: Mask,
        by_itself: bool,
        open: bool,
        stands: bool,
        /// The shell has seen it stand.
        seen: bool,
        /// What has been read of it and not told yet, and since.
        batch: Vec<c_int>,
        /// What waits for the witness, and its answer, if it has been asked.
        witness: Mask,
        asked: Question,
        /// What the person still does, and has done last.
        keys: usize,
        last: c_int,
    }

    /// Turns as often as they come: this process, the command, the person, the witness, the shell.
    const TURNS: [u8; 12] = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4];

    /// What a turn is over with: nothing is left to happen while this process stands.
    const OVER: Errno = Errno::EINTR;

    impl Machine {
        /// To the whole group, as the kernel sends it.
        fn send(&mut self, signal: c_int) {
            self.last = signal;
            if signal == CONT {
                self.pending &= !bit(TSTP);
                self.command.continued();
                (self.stands, self.seen) = (false, false);
                self.pending |= bit(CONT);
                self.witness = bit(CONT);
            } else {
                self.command.pending = true;
                self.witness = bit(TSTP);
                self.arrives(false);
            }
        }

        /// A stop for this process.
        fn arrives(&mut self, by_itself: bool) {
            self.pending &= !bit(CONT);
            if self.pending & bit(TSTP) == 0 {
                self.by_itself = by_itself;
            }
            self.pending |= bit(TSTP);
            self.deliver();
        }

        fn deliver(&mut self) {
            if self.open && !self.stands && self.pending & bit(TSTP) != 0 {
                self.pending &= !bit(TSTP);
                self.stands = !self.orphaned;
            }
        }

        /// Lets others run for a while.
        fn others(&mut self) {
            while let Some(turn) = self.turns.pop_front() {
                match turn {
                    0 => return,
                    1 => self.command_runs(),
                    2 => self.person_acts(),
                    3 => self.witness_runs(),
                    _ => self.seen |= self.stands,
                }
            }
        }

        fn witness_runs(&mut self) {
            if self.asked == Question::Asked {
                self.asked = Question::Answered(std::mem::take(&mut self.witness));
            }
        }

        /// What has come for this process, but for what it has sent itself.
        fn take(&mut self) -> Vec<c_int> {
            let own = std::mem::take(&mut self.by_itself);
            let waits = std::mem::take(&mut self.pending);
            let signals = [CONT, TSTP].into_iter().filter(|signal| waits & bit(*signal) != 0);
            signals.filter(|signal| *signal == CONT || !own).collect()
        }

        fn command_runs(&mut self) {
            let command = &mut self.command;
            if command.stands {
                return;
            }
            if command.cleans {
                *command =
                    Command { stands: true, report: Some(libc::SIGSTOP), pending: command.pending, cleans: false };
            } else if std::mem::take(&mut command.pending) {
                match self.kind {
                    Kind::CleansUp => command.cleans = true,
                    Kind::Plain if self.orphaned => {}
                    Kind::Plain => (command.stands, command.report) = (true, Some(TSTP)),
                }
            }
        }

        /// Ctrl-Z while the job is in front, and `fg` when the shell is and all of the job stands.
        fn person_acts(&mut self) {
            if self.keys > 0 && (!self.seen || self.command.stands) {
                self.keys -= 1;
                self.send(if self.seen { CONT } else { TSTP });
            }
        }

        /// Until nothing more happens.
        fn settle(&mut self) {
            self.turns.clear();
            for _ in 0..3 {
                self.command_runs();
            }
            self.witness_runs();
            self.seen |= self.stands;
        }
    }

    impl Member for Machine {
        fn command_stands(&mut self) -> bool {
            self.others();
            self.command.stands
        }

        fn raise(&mut self) -> nix::Result<()> {
            self.others();
            self.arrives(true);
            Ok(())
        }

        fn forget(&mut self, signals: &[c_int]) {
            self.batch.retain(|signal| !signals.contains(signal));
        }

        fn let_through(&mut self) -> nix::Result<()> {
            self.others();
            self.open = true;
            self.deliver();
            loop {
                self.others();
                if !self.stands {
                    break;
                }
                if self.turns.is_empty() {
                    self.settle();
                    let before = self.keys;
                    self.person_acts();
                    if self.keys == before {
                        return Err(OVER);
                    }
                }
            }
            self.open = false;
            Ok(())
        }

        fn pending(&mut self) -> nix::Result<Mask> {
            self.others();
            Ok(self.pending)
        }
    }

    fn supervisor() -> Supervisor {
        let settings = Settings { grace: Duration::ZERO, ending_signals: Vec::new(), ..plain() };
        let mut supervisor = Supervisor::new(settings);
        for event in [Event::Started, Event::SignalsRead] {
            supervisor.step(event, Boottime(Duration::ZERO));
        }
        supervisor
    }

    /// A part of the rule, or of what the driver does beside it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Part {
        /// A CONT that waits means that somebody can continue it.
        Continued,
        /// Another stop that waits means that the first may have been let through.
        StoppedAgain,
        /// What another signal has overtaken is not told.
        Overtaken,
    }

    const PARTS: [Part; 3] = [Part::Continued, Part::StoppedAgain, Part::Overtaken];

    /// The machine, for a rule that lacks a part.
    struct Lacking<'a> {
        machine: &'a mut Machine,
        part: Option<Part>,
    }

    impl Member for Lacking<'_> {
        fn command_stands(&mut self) -> bool {
            self.machine.command_stands()
        }

        fn raise(&mut self) -> nix::Result<()> {
            self.machine.raise()
        }

        fn forget(&mut self, signals: &[c_int]) {
            self.machine.forget(signals);
        }

        fn let_through(&mut self) -> nix::Result<()> {
            self.machine.let_through()
        }

        fn pending(&mut self) -> nix::Result<Mask> {
            let left_out = match self.part {
                Some(Part::Continued) => bit(CONT),
                Some(Part::StoppedAgain) => bit(TSTP),
                _ => 0,
            };
            Ok(self.machine.pending()? & !left_out)
        }
    }

    /// The loop of the driver, as far as stops go, without this part of it.
    fn play(machine: &mut Machine, part: Option<Part>) {
        let (mut supervisor, mut sorter) = (supervisor(), Sorter::new(0, 0));
        let mut idle = 0;
        while idle < 4 {
            machine.others();
            let mut events = VecDeque::new();
            if let Question::Answered(answer) = machine.asked {
                let later = machine.take();
                let mut heard = [0; SIGNALS];
                for signal in [CONT, TSTP].into_iter().filter(|signal| answer & bit(*signal) != 0) {
                    heard[signal as usize] = 1;
                }
                let told = std::mem::replace(&mut machine.batch, later.clone());
                let shared = sorter.sort(&heard, &told, &vec![false; told.len()]);
                let signals = [told.as_slice(), &later].concat();
                for (at, (signal, shared)) in told.into_iter().zip(shared).enumerate() {
                    if part == Some(Part::Overtaken) || !is_overtaken(signal, &signals[at + 1..]) {
                        events.push_back(Event::Signal(Received { signal, queued: None, shared }));
                    }
                }
                machine.asked = Question::No;
            }
            if machine.asked == Question::No {
                machine.others();
                let more = machine.take();
                machine.batch.extend(more);
                machine.asked = if machine.batch.is_empty() { Question::No } else { Question::Asked };
            }
            machine.others();
            if let Some(signal) = machine.command.report.take() {
                events.push_back(Event::CommandStopped { signal, in_front: false });
            }
            idle = if events.is_empty() && machine.asked == Question::No && machine.turns.is_empty() {
                idle + 1
            } else {
                0
            };
            if machine.turns.is_empty() {
                machine.settle();
            }
            while let Some(event) = events.pop_front() {
                for effect in supervisor.step(event, Boottime(Duration::ZERO)) {
                    machine.others();
                    match effect {
                        Effect::Stop(signal) => match stop_with(&mut Lacking { machine, part }) {
                            Ok(true) => {}
                            Ok(false) => events.push_back(Event::NotStopped(signal)),
                            Err(_) => return,
                        },
                        Effect::Continue => machine.command.continued(),
                        Effect::Forward(_) => machine.command.pending = true,
                        _ => {}
                    }
                }
            }
        }
    }

    /// Who comes to run when, and what the person does meanwhile.
    #[derive(Clone, Debug)]
    struct History {
        kind: Kind,
        orphaned: bool,
        keys: usize,
        turns: Vec<u8>,
    }

    fn histories() -> impl Strategy<Value = History> {
        let kind = prop::sample::select(vec![Kind::Plain, Kind::CleansUp]);
        let turns = prop::collection::vec(prop::sample::select(&TURNS[..]), 0..150);
        (kind, prop::bool::weighted(0.2), 1_usize..8, turns).prop_map(|(kind, orphaned, keys, turns)| History {
            kind,
            orphaned,
            keys,
            turns,
        })
    }

    /// How this process and the command end up, and how they should: standing or not.
    fn outcome(history: History, without: Option<Part>) -> ((bool, bool), (bool, bool)) {
        let History { kind, orphaned, keys, turns } = history;
        let mut machine = Machine {
            kind,
            orphaned,
            turns: turns.into(),
            command: Command::default(),
            pending: 0,
            by_itself: false,
            open: false,
            stands: false,
            seen: false,
            batch: Vec::new(),
            witness: 0,
            asked: Question::No,
            keys,
            last: CONT,
        };
        play(&mut machine, without);
        let stopped = machine.last == TSTP && !orphaned;
        ((machine.stands, machine.command.stands), (stopped, stopped))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Ctrl-Z and `fg` in whatever succession, and whoever comes to run when: the last of them is what counts.
        #[test]
        fn no_stop_and_no_continuation_is_lost(history in histories()) {
            let (found, wanted) = outcome(history, None);
            prop_assert_eq!(found, wanted);
        }
    }

    /// The search above would prove little if it did not find what is wrong without these parts of the rule.
    #[test]
    fn what_is_lost_without_a_part_of_the_rule_is_found() {
        use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
        let mut missed = Vec::new();
        for part in PARTS {
            let mut runner = TestRunner::deterministic();
            let mut lost = (0..20_000).map(|_| {
                let history = histories().new_tree(&mut runner).expect("the strategies reject nothing").current();
                outcome(history, Some(part))
            });
            if !lost.any(|(found, wanted)| found != wanted) {
                missed.push(part);
            }
        }
        assert!(missed.is_empty(), "nothing is lost without {missed:?}");
    }
}
