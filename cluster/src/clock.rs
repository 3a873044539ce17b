//! Time since boot, counting suspension.
//!
//! A deadline that keeps two holders apart must go on while the machine sleeps and must not follow corrections of the
//! wall clock. `CLOCK_BOOTTIME` is the only clock of Linux that does both. Timers of other clocks stop during
//! suspension, so a timer of this clock goes with it.

use std::{
    fmt, io,
    ops::{Add, Sub},
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{self, Expiration, TimerFlags, TimerSetTimeFlags},
    },
    time::{ClockId, clock_gettime},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

use crate::process;

/// A moment, as the time since boot on `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boottime(pub Duration);

impl Boottime {
    /// A moment that never comes: the deadline of what does not end by itself.
    pub const NEVER: Self = Self(Duration::MAX);

    /// Now.
    pub fn now() -> Self {
        if let Some(now) = process::boottime() {
            return Self(now);
        }
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had CLOCK_BOOTTIME since 2.6.39");
        Self(now.into())
    }

    /// How long from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Boottime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Boottime {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl Sub for Boottime {
    type Output = Duration;

    /// Zero when `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Boottime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s after boot", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// The longest step of an alarm without a timer of the kernel's: as late as it may be after a suspension.
const STEP: Duration = Duration::from_millis(200);

/// Waits for moments of [`Boottime`], also through a suspension: then it is due at once when the machine wakes. Where
/// the system has no timer of that kind to give, it looks at the clock in short steps.
#[derive(Debug)]
pub struct Alarm {
    at: Option<Boottime>,
    timer: Option<AsyncFd<Timer>>,
}

#[derive(Debug)]
struct Timer(timerfd::TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// One that is not set. Must be called on a tokio runtime with I/O enabled.
    pub fn new() -> io::Result<Self> {
        if process::boottime().is_some() {
            return Ok(Self { at: None, timer: None });
        }
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let Ok(timer) = timerfd::TimerFd::new(timerfd::ClockId::CLOCK_BOOTTIME, flags) else {
            return Ok(Self { at: None, timer: None });
        };
        #[expect(
            deprecated,
            reason = "its successor is unsafe for owners that may close the descriptor; this one cannot"
        )]
        let registered = AsyncFd::with_interest(Timer(timer), Interest::READABLE)?;
        Ok(Self { at: None, timer: Some(registered) })
    }

    /// Sets it to `at`, or to never.
    pub fn set(&mut self, at: Option<Boottime>) -> io::Result<()> {
        self.at = at;
        let Some(timer) = &self.timer else { return Ok(()) };
        let timer = &timer.get_ref().0;
        let Some(Boottime(at)) = at else { return Ok(timer.unset()?) };
        // Zero would unset it.
        let at = TimeSpec::from_duration(at.max(Duration::from_nanos(1)));
        Ok(timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Returns once the moment has come; never, when it is set to never.
    pub async fn ring(&mut self) -> io::Result<()> {
        loop {
            let Some(timer) = &mut self.timer else {
                let Some(at) = self.at else { return std::future::pending().await };
                let left = at.since(Boottime::now());
                if left.is_zero() {
                    self.at = None;
                    return Ok(());
                }
                if process::boottime().is_some() {
                    tokio::time::sleep_until(process::after(Instant::now(), left)).await;
                } else {
                    tokio::time::sleep(left.min(STEP)).await;
                }
                continue;
            };
            let mut ready = timer.readable_mut().await?;
            let rung = ready.try_io(|timer| match timer.get_ref().0.wait() {
                Err(Errno::EAGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                other => Ok(other?),
            });
            if let Ok(rung) = rung {
                return rung;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_when_its_moment_has_come_and_not_before() {
        let mut alarm = Alarm::new().unwrap();
        let at = Boottime::now() + Duration::from_millis(30);
        alarm.set(Some(at)).unwrap();
        alarm.ring().await.unwrap();
        assert!(Boottime::now() >= at);
    }

    #[tokio::test]
    async fn an_alarm_without_a_timer_rings_as_well() {
        let mut alarm = Alarm { at: None, timer: None };
        let at = Boottime::now() + Duration::from_millis(5);
        alarm.set(Some(at)).unwrap();
        alarm.ring().await.unwrap();
        assert!(Boottime::now() >= at);
        let again = tokio::time::timeout(Duration::from_millis(5), alarm.ring()).await;
        assert!(again.is_err(), "rang twice");
    }

    #[tokio::test]
    async fn an_alarm_set_to_the_past_rings_at_once_and_one_set_to_never_does_not() {
        let mut alarm = Alarm::new().unwrap();
        alarm.set(Some(Boottime(Duration::ZERO))).unwrap();
        alarm.ring().await.unwrap();
        alarm.set(Some(Boottime::now() + Duration::from_millis(5))).unwrap();
        alarm.set(None).unwrap();
        let rung = tokio::time::timeout(Duration::from_millis(50), alarm.ring()).await;
        assert!(rung.is_err(), "rang although it was unset");
    }
}
