//! One moment to wake up at, in the time since boot.
//!
//! A timerfd keeps time while the machine sleeps, which poll(2) does not. Where there is none to be had, poll wakes up
//! in short steps instead, so that what has come while the machine slept is late by one step at most.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use konductor::Boottime;
use nix::{
    errno::Errno,
    poll::PollTimeout,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

/// The longest step without a timerfd: as late as may be after a machine's sleep, and a thousandth of a processor.
const STEP: Duration = Duration::from_millis(200);

/// Takes no memory, so that a process that was copied from one with threads can have one.
#[derive(Debug, Default)]
pub(super) struct Timer {
    at: Option<Boottime>,
    /// Made when it is first needed.
    fd: Option<TimerFd>,
}

impl Timer {
    /// Wakes up at this time instead of the one before.
    pub(super) fn set(&mut self, at: Option<Boottime>) {
        // What never comes is not waited for, nor a little before that: the kernel's clock does not go so far.
        let at = at.filter(|at| i64::try_from(at.0.as_secs()).is_ok());
        self.at = at;
        if at.is_some() && self.fd.is_none() {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            self.fd = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).ok();
        }
        let set = self.fd.as_ref().map_or(Ok(()), |fd| match at {
            // Zero would disarm it.
            Some(at) => {
                let at = TimeSpec::from_duration(at.0.max(Duration::from_nanos(1)));
                fd.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
            None => fd.unset(),
        });
        if set.is_err() {
            self.fd = None;
        }
    }

    /// What to look at besides: it is readable when the time has come.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// How long to look at it.
    pub(super) fn patience(&self, now: Boottime) -> PollTimeout {
        match self.at {
            Some(at) if self.fd.is_none() => {
                // Rounded up, so that it does not look too early again and again.
                let step = STEP.min(at.since(now)) + Duration::from_micros(999);
                PollTimeout::try_from(step).unwrap_or(PollTimeout::MAX)
            }
            _ => PollTimeout::NONE,
        }
    }

    /// Whether the time has come, which is told once.
    pub(super) fn has_come(&mut self, now: Boottime) -> bool {
        let come = self.at.is_some_and(|at| at <= now);
        if come {
            self.at = None;
            // Read, it is readable no more. It is this moment's, so it cannot have more to say.
            if self.fd.as_ref().is_some_and(|fd| !matches!(fd.wait(), Ok(()) | Err(Errno::EAGAIN))) {
                self.fd = None;
            }
        }
        come
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;

    fn at(milliseconds: u64) -> Boottime {
        Boottime(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_time_that_has_come_is_told_once() {
        let mut timer = Timer::default();
        assert!(timer.source().is_none() && !timer.has_come(at(1)), "nothing is made before it is needed");
        let now = Boottime::now();
        timer.set(Some(now));
        let source = timer.source().expect("Linux has one");
        assert_eq!(poll(&mut [PollFd::new(source, PollFlags::POLLIN)], PollTimeout::from(1_000_u16)), Ok(1));
        assert!(timer.has_come(now) && !timer.has_come(now));
        for never in [Some(Boottime::NEVER), Some(at(u32::MAX.into())), None] {
            timer.set(never);
        }
        assert!(!timer.has_come(Boottime::NEVER));
        timer.set(Some(Boottime::NEVER - Duration::from_secs(30)));
        assert!(timer.source().is_some(), "the kernel is not asked for it");
        assert_eq!(timer.patience(now), PollTimeout::NONE);
    }

    #[test]
    fn without_a_timerfd_poll_wakes_up_in_steps() {
        let timer = Timer { at: Some(at(1_000)), fd: None };
        let patience = |now| timer.patience(at(now)).as_millis();
        assert_eq!([0, 900, 999, 1_000, 5_000].map(patience), [Some(200), Some(100), Some(1), Some(0), Some(0)]);
        assert_eq!(Timer::default().patience(at(0)), PollTimeout::NONE);
    }
}
