//! Signals as data: all of them blocked from the first line of `main`, read from a descriptor, none handled.
//!
//! A blocked signal waits until it is read, so none is lost between two looks, and real-time ones keep their number and
//! order. SIGCHLD is only a reason to reap. Before there is a command only what matters to the waiting is read; the
//! rest waits where it is, so the kernel merges and bounds it as it would for the command.
//!
//! A look takes a bounded number, the standard ones first: that is the kernel's order. So signals in any number keep
//! nothing else waiting, and what is not read yet counts against the sender's limit, as it would without us.
//!
//! A few are the kernel's answer to what this process itself has done, and none of the command's business: a write to a
//! closed pipe (PIPE) or beyond the limit on a file's size (XFSZ), processor time that this process has used up (XCPU),
//! and its own stop as a job.
//!
//! When the command shares this process's group, [`Sorter`] tells what has been sent to the whole group.
#![expect(unsafe_code, reason = "sets with all 64 signals, which nix does not have")]

use std::{
    collections::VecDeque,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use konductor::Boottime;
use nix::{
    libc::{self, c_int},
    poll::PollTimeout,
    sys::{
        signal::SigSet,
        signalfd::{SfdFlags, SignalFd, siginfo},
    },
    unistd::{Pid, getpgid, getpgrp, setpgid},
};

use super::{
    found::{self, Mask, bit},
    parent::{NEWS, Parent},
    witness::{Counts, Witness},
};
use crate::supervisor::{Event, Queued, Received, TERMINAL_STOPS};

/// How many signals one look takes: more than there are standard ones, so that all of those are among them.
const MOST: usize = 64;

/// How long the witness may take to answer: longer than it waits for a processor. Then there is a look: one that somebody
/// has stopped is given up, and any other one is waited for as long again, so often. (A time in which the whole machine
/// stood still is only one of these.)
const ANSWER: Duration = Duration::from_secs(1);
const LOOKS: u32 = 10;

/// Numbers of signals, of which zero is none.
pub(super) const SIGNALS: usize = found::LAST as usize + 1;

/// The first that the kernel counts and does not merge.
const FIRST_COUNTED: usize = 32;

/// What the kernel itself sends to a terminal's foreground group, and to a group that nobody can continue any more.
const OF_A_TERMINAL: [c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
];

/// The signals that have arrived.
pub(super) struct Signals {
    descriptor: SignalFd,
    /// Whose death is news.
    parent: Option<Parent>,
    /// While the command shares this process's group.
    job: Option<Job>,
}

/// What is known about signals while the command shares this process's group.
struct Job {
    command: Pid,
    witness: Option<Witness>,
    /// When the witness has been asked what it has not answered yet, or when there was a look whether it will.
    asked: Option<Boottime>,
    /// How many looks there were.
    looks: u32,
    /// What has been read and is not told yet.
    batch: Vec<siginfo>,
    sorter: Sorter,
}

impl Signals {
    /// Only those that matter while there is no command yet: `ending` ones, and job control.
    pub(super) fn before_the_command(ending: &[c_int], parent: Option<Parent>) -> nix::Result<Self> {
        let control = TERMINAL_STOPS.iter().chain(&[libc::SIGCONT, libc::SIGCHLD, NEWS]);
        let mask = ending.iter().chain(control).fold(0, |mask, signal| mask | bit(*signal));
        Ok(Self { descriptor: descriptor(mask)?, parent, job: None })
    }

    /// From now on all are read.
    pub(super) fn hear_all(&mut self) -> nix::Result<()> {
        self.descriptor.set_mask(&set(Mask::MAX))
    }

    /// From now on `command` shares this process's group. `ours`: what waited to be read when it did already;
    /// `theirs`: what waited for the command a moment later.
    pub(super) fn share_group(&mut self, command: Pid, witness: Option<Witness>, ours: Mask, theirs: Mask) {
        let sorter = Sorter::new(ours, theirs);
        self.job = Some(Job { command, witness, asked: None, looks: 0, batch: Vec::new(), sorter });
    }

    /// How long the wait for news may take, if there is a bound: the witness has been asked.
    pub(super) fn patience(&self, now: Boottime) -> PollTimeout {
        self.job.as_ref().and_then(|job| job.asked).map_or(PollTimeout::NONE, |asked| {
            // Rounded up, so that it does not look too early again and again.
            let left = ANSWER.saturating_sub(now.since(asked)) + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    /// The witness, while there is one.
    pub(super) fn witness(&self) -> Option<&Witness> {
        self.job.as_ref()?.witness.as_ref()
    }

    /// Forgets these signals, if they were read and are not told yet: the kernel would have taken them away.
    pub(super) fn forget(&mut self, signals: &[c_int]) {
        if let Some(job) = &mut self.job {
            job.batch.retain(|info| !signals.contains(&number(info)));
        }
    }

    /// Tells signals that have arrived, in the kernel's order: all standard ones, and as many others as fit.
    pub(super) fn read(&mut self, events: &mut VecDeque<Event>) -> nix::Result<()> {
        let Some(job) = &mut self.job else {
            let tell = |info| events.push_back(Event::Signal(received(&info, false)));
            return take(&self.descriptor, self.parent, tell);
        };
        if let Some(asked) = job.asked {
            match job.witness.as_mut().map(Witness::answer) {
                Some(Ok(None)) if Boottime::now().since(asked) < ANSWER => return Ok(()),
                Some(Ok(None)) if job.looks < LOOKS && job.witness.as_ref().is_some_and(Witness::may_answer) => {
                    job.looks += 1;
                    job.asked = Some(Boottime::now());
                    return Ok(());
                }
                Some(Ok(Some(heard))) => {
                    await_signals_on_their_way();
                    // What had come when the witness looked is there by now, and other things are, too.
                    let mut later = Vec::new();
                    take(&self.descriptor, self.parent, |info| later.push(info))?;
                    job.tell(Some(&heard), later, events);
                }
                Some(Ok(None) | Err(_)) | None => job.witness = None,
            }
        }
        take(&self.descriptor, self.parent, |info| job.batch.push(info))?;
        if !job.batch.is_empty() && job.witness.as_mut().is_none_or(|witness| witness.ask().is_err()) {
            job.witness = None;
            job.tell(None, Vec::new(), events);
        }
        (job.asked, job.looks) = ((!job.batch.is_empty()).then(Boottime::now), 0);
        Ok(())
    }
}

impl Job {
    /// Tells what has been read before the witness was asked. `heard`: its answer, if there is a witness; `later`: what
    /// has been read since. That is kept for the next question, but for what merged with what is told.
    fn tell(&mut self, heard: Option<&Counts>, later: Vec<siginfo>, events: &mut VecDeque<Event>) {
        // It may have made itself a group of its own, as an interactive shell does.
        let left = getpgid(Some(self.command)) != Ok(getpgrp());
        // No call sends a value to a group.
        let singles: Vec<_> = self.batch.iter().map(|info| left || queued(info).is_some()).collect();
        let signals: Vec<_> = self.batch.iter().chain(&later).map(number).collect();
        let (told, rest) = signals.split_at(self.batch.len());
        let shared = match heard {
            Some(heard) => self.sorter.sort(heard, told, &singles),
            None => self.batch.iter().map(|info| !left && is_of_a_terminal(info)).collect(),
        };
        let merged = |info: &siginfo| {
            let index = number(info) as usize;
            let has_merged = index < FIRST_COUNTED && heard.is_some_and(|heard| heard[index] > 0);
            // A stop of this process lies between them.
            let is_new = rest.contains(&libc::SIGCONT);
            has_merged && !left && !is_new && told.contains(&number(info))
        };
        let kept: Vec<_> = later.into_iter().filter(|info| !merged(info)).collect();
        for (at, (info, shared)) in self.batch.iter().zip(shared).enumerate() {
            if !is_overtaken(told[at], &signals[at + 1..]) {
                events.push_back(Event::Signal(received(info, shared)));
            }
        }
        self.batch = kept;
    }
}

/// What is sent to the group reaches one member after the other, the witness before this process, while the kernel holds
/// a lock for reading that this call takes for writing: so it returns when what the witness has got is here. It changes
/// nothing else, as this process is in that group already.
///
/// Without that, of `fg` and Ctrl-Z at once, the CONT might be here and the stop still on its way: the CONT would be taken
/// for one to this process alone and sent on, and would take the Ctrl-Z away from the command.
fn await_signals_on_their_way() {
    // Refused where a group cannot be changed at all; the lock was taken before.
    let _ = setpgid(Pid::from_raw(0), getpgrp());
}

/// Whether the kernel would have taken this signal away, had it not been read: stops and CONT cancel each other.
pub(super) fn is_overtaken(signal: c_int, later: &[c_int]) -> bool {
    let stops = |signal: &c_int| TERMINAL_STOPS.contains(signal);
    match signal {
        libc::SIGCONT => later.iter().any(stops),
        signal => stops(&signal) && later.contains(&libc::SIGCONT),
    }
}

fn number(info: &siginfo) -> c_int {
    info.ssi_signo as c_int
}

/// Tells apart what has been sent to the whole group and what to this process alone, by what the witness has got.
pub(super) struct Sorter {
    /// What waited for this process, and then for the command, when they began to share the group.
    first: Option<(Mask, Mask)>,
    /// What the witness has got, and this process has not read yet.
    carried: Counts,
}

impl Sorter {
    /// `ours` and `theirs`: what waited for this process, and then for the command, when they began to share the group.
    pub(super) fn new(ours: Mask, theirs: Mask) -> Self {
        Self { first: Some((ours, theirs)), carried: [0; SIGNALS] }
    }

    /// Which signals of a batch the whole group has got. `heard`: what the witness has got since the last batch;
    /// `singles`: which of the batch cannot have been sent to a group.
    pub(super) fn sort(&mut self, heard: &Counts, batch: &[c_int], singles: &[bool]) -> Vec<bool> {
        let first = self.first.take();
        let mut known = self.carried;
        for (known, heard) in known.iter_mut().zip(heard) {
            *known = known.saturating_add(*heard);
        }
        let mut shared = Vec::with_capacity(batch.len());
        let mut read = [false; SIGNALS];
        for (signal, single) in batch.iter().zip(singles) {
            let number = *signal as usize;
            read[number] |= !single;
            shared.push(match first {
                _ if *single => false,
                // The witness may have come later than the signal.
                Some((ours, theirs)) if has(ours, *signal) => has(theirs, *signal),
                _ if known[number] == 0 => false,
                _ => {
                    // Of those that merge, one may stand for several.
                    known[number] -= u16::from(number >= FIRST_COUNTED);
                    true
                }
            });
        }
        for number in 0..SIGNALS {
            let counted = number >= FIRST_COUNTED;
            let was_early = first.is_some_and(|(ours, _)| has(ours, number as c_int));
            self.carried[number] = match read[number] {
                true if !counted || was_early => 0,
                _ if counted => known[number],
                // What is on its way arrives before anything else does; it is not kept for longer.
                _ => heard[number],
            };
        }
        shared
    }
}

/// Without a witness: what the kernel sends because of the terminal.
fn is_of_a_terminal(info: &siginfo) -> bool {
    info.ssi_code == libc::SI_KERNEL && OF_A_TERMINAL.contains(&number(info))
}

/// Takes what has arrived from others, as much as one look may.
fn take(descriptor: &SignalFd, parent: Option<Parent>, mut tell: impl FnMut(siginfo)) -> nix::Result<()> {
    for _ in 0..MOST {
        let Some(info) = descriptor.read_signal()? else { break };
        let of_parent = parent.is_some_and(|parent| parent.is_news(&info));
        if number(&info) != libc::SIGCHLD && !is_own(&info) && !of_parent {
            tell(info);
        }
    }
    Ok(())
}

/// Whether this process has raised it itself.
fn is_own(info: &siginfo) -> bool {
    let by_us = info.ssi_code == libc::SI_USER && info.ssi_pid == std::process::id();
    match number(info) {
        libc::SIGPIPE | libc::SIGXFSZ => by_us,
        signal if TERMINAL_STOPS.contains(&signal) => by_us,
        libc::SIGXCPU => info.ssi_code == libc::SI_KERNEL,
        _ => false,
    }
}

fn received(info: &siginfo, shared: bool) -> Received {
    Received { signal: number(info), queued: queued(info), shared }
}

/// What sigqueue(3) has sent along.
fn queued(info: &siginfo) -> Option<Queued> {
    let sent = info.ssi_code == libc::SI_QUEUE;
    sent.then_some(Queued { pid: info.ssi_pid as i32, uid: info.ssi_uid, value: info.ssi_ptr })
}

/// A descriptor for all signals.
pub(super) fn all() -> nix::Result<SignalFd> {
    descriptor(Mask::MAX)
}

fn descriptor(mask: Mask) -> nix::Result<SignalFd> {
    SignalFd::with_flags(&set(mask), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The C library's set: it has room for more, and its own way to fill one leaves out two.
fn set(mask: Mask) -> SigSet {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    const { assert!(size_of::<Mask>() <= size_of::<libc::sigset_t>()) };
    // SAFETY: every pattern of bits is a set, and the kernel's part is its beginning.
    unsafe {
        set.as_mut_ptr().cast::<Mask>().write(mask);
        SigSet::from_sigset_t_unchecked(set.assume_init())
    }
}

fn has(mask: Mask, signal: c_int) -> bool {
    mask & bit(signal) != 0
}

impl AsFd for Signals {
    /// Readable when there is something to tell.
    fn as_fd(&self) -> BorrowedFd<'_> {
        let asked = self.job.as_ref().filter(|job| job.asked.is_some()).and_then(|job| job.witness.as_ref());
        asked.map_or(self.descriptor.as_fd(), AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: c_int = libc::SIGTERM;
    const INT: c_int = libc::SIGINT;
    const COUNTED: c_int = 34;

    fn counts(signals: &[c_int]) -> Counts {
        let mut counts = [0; SIGNALS];
        for signal in signals {
            counts[*signal as usize] += 1;
        }
        counts
    }

    /// Batches, each with what the witness has got and what of it is for all.
    fn check(first: (&[c_int], &[c_int]), batches: &[(&[c_int], &[c_int], &[bool])]) {
        let mask = |signals: &[c_int]| signals.iter().fold(0, |mask, signal| mask | bit(*signal));
        let mut sorter = Sorter::new(mask(first.0), mask(first.1));
        for (at, (heard, batch, expected)) in batches.iter().enumerate() {
            let shared = sorter.sort(&counts(heard), batch, &vec![false; batch.len()]);
            assert_eq!(&shared, expected, "batch {at} of {batches:?}");
        }
    }

    #[test]
    fn what_the_witness_has_got_is_for_all() {
        check((&[], &[]), &[(&[TERM], &[TERM, INT], &[true, false]), (&[], &[TERM], &[false])]);
    }

    #[test]
    fn those_that_merge_for_the_one_may_not_merge_for_the_other() {
        check((&[], &[]), &[(&[TERM], &[TERM, TERM], &[true, true]), (&[TERM, TERM], &[TERM], &[true])]);
        check((&[], &[]), &[(&[TERM, TERM], &[TERM], &[true]), (&[], &[TERM], &[false])]);
    }

    #[test]
    fn those_that_do_not_merge_are_counted() {
        check(
            (&[], &[]),
            &[
                (&[COUNTED, COUNTED], &[COUNTED], &[true]),
                (&[], &[COUNTED, COUNTED], &[true, false]),
                (&[], &[COUNTED], &[false]),
            ],
        );
    }

    #[test]
    fn what_the_witness_has_got_first_is_expected_in_the_next_batch_only() {
        check((&[], &[]), &[(&[INT, TERM], &[TERM], &[true]), (&[], &[INT], &[true]), (&[], &[INT], &[false])]);
        check((&[], &[]), &[(&[INT, TERM], &[TERM], &[true]), (&[], &[TERM], &[false]), (&[], &[INT], &[false])]);
    }

    #[test]
    fn what_waited_when_the_command_was_started_is_its_own_only_if_it_had_it() {
        check((&[INT, TERM], &[TERM]), &[(&[], &[INT, TERM], &[false, true]), (&[], &[TERM], &[false])]);
        check(
            (&[INT, COUNTED], &[INT, COUNTED]),
            &[(&[INT, COUNTED], &[INT, COUNTED], &[true, true]), (&[], &[INT, COUNTED], &[false, false])],
        );
    }

    #[test]
    fn what_cannot_have_been_sent_to_a_group_is_not_taken_for_it() {
        let mut sorter = Sorter::new(0, 0);
        let shared = sorter.sort(&counts(&[COUNTED]), &[COUNTED, COUNTED], &[true, false]);
        assert_eq!(shared, [false, true]);
    }

    #[test]
    fn what_its_own_calls_raise_is_known() {
        let own = std::process::id();
        for (signal, code, sender, expected) in [
            (libc::SIGPIPE, libc::SI_USER, own, true),
            (libc::SIGPIPE, libc::SI_USER, 1, false),
            (libc::SIGXFSZ, libc::SI_USER, own, true),
            (libc::SIGXFSZ, libc::SI_USER, 1, false),
            // The limits on processor time, and a person.
            (libc::SIGXCPU, libc::SI_KERNEL, 0, true),
            (libc::SIGXCPU, libc::SI_USER, 1, false),
            // A stop of its own, and the terminal's.
            (libc::SIGTSTP, libc::SI_USER, own, true),
            (libc::SIGTSTP, libc::SI_KERNEL, 0, false),
            // An alarm that was set before this program was executed is meant for the command.
            (libc::SIGALRM, libc::SI_KERNEL, 0, false),
            // That the parent has died before this process could ask to be told.
            (TERM, libc::SI_USER, own, false),
        ] {
            // SAFETY: every pattern of bits is such a structure.
            let mut info: siginfo = unsafe { std::mem::zeroed() };
            (info.ssi_signo, info.ssi_code, info.ssi_pid) = (signal as u32, code, sender);
            assert_eq!(is_own(&info), expected, "{signal} {code} {sender}");
        }
    }
}
