//! What a process has of its own: clocks, chance, and whether it runs at all.
//!
//! A program is one process, and asks the system. A simulation has many processes in one, whose clocks drift and are
//! set, whose chance comes from a seed, and which are frozen and thawed. So whatever asks the system for time or chance
//! asks here, and a task that a process starts is its own ([`spawn`], [`inherit`]). Where no simulation has said
//! otherwise, all of this is the system's.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{task::JoinHandle, time::Instant};

/// What stands in for the system around one simulated process.
pub trait Surroundings: Send + Sync {
    /// Time since boot, counting suspension.
    fn boottime(&self) -> Duration;

    /// How long it has been since `start`, by its monotonic clock, which does not count suspension.
    fn elapsed(&self, start: Instant) -> Duration;

    /// When its monotonic clock will have gone on by so much since `start`, if it is not suspended any more.
    fn after(&self, start: Instant, span: Duration) -> Instant;

    /// What its wall clock says.
    fn wall(&self) -> Timestamp;

    /// Fills this with chance.
    fn fill(&self, bytes: &mut [u8]);

    /// Whether it runs. If not, the waker is called when it does again.
    fn runs(&self, waker: &Waker) -> bool;
}

/// A simulated process.
pub type Process = Arc<dyn Surroundings>;

thread_local! {
    static CURRENT: RefCell<Option<Process>> = const { RefCell::new(None) };
}

/// The simulated process that this runs in, if there is one.
fn current() -> Option<Process> {
    CURRENT.with_borrow(Clone::clone)
}

/// Time since boot, counting suspension; `None` of the system's own.
pub(crate) fn boottime() -> Option<Duration> {
    CURRENT.with_borrow(|process| process.as_ref().map(|process| process.boottime()))
}

/// How long it has been since `start`, by this process's monotonic clock.
pub fn elapsed(start: Instant) -> Duration {
    CURRENT.with_borrow(|process| process.as_ref().map_or_else(|| start.elapsed(), |process| process.elapsed(start)))
}

/// When this process's monotonic clock will have gone on by so much since `start`.
pub fn after(start: Instant, span: Duration) -> Instant {
    CURRENT.with_borrow(|process| process.as_ref().map_or(start + span, |process| process.after(start, span)))
}

/// Whether this is part of a simulated process, which has no processor of its own.
pub fn is_simulated() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// What the wall clock says.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
pub(crate) fn wall() -> Timestamp {
    current().map_or_else(Timestamp::now, |process| process.wall())
}

/// Fills this with chance.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    match current() {
        Some(process) => process.fill(bytes),
        None => getrandom::fill(bytes).map_err(io::Error::other)?,
    }
    Ok(())
}

/// A future that is part of one process.
#[must_use = "futures do nothing unless polled"]
pub struct Within<F> {
    process: Option<Process>,
    future: Pin<Box<F>>,
}

/// `future` as part of this simulated process.
pub fn within<F: Future>(process: Process, future: F) -> Within<F> {
    Within { process: Some(process), future: Box::pin(future) }
}

/// `future` as part of the process that calls this.
pub fn inherit<F: Future>(future: F) -> Within<F> {
    Within { process: current(), future: Box::pin(future) }
}

/// Starts a task of the process that calls this.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(inherit(future))
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(process) = self.process.clone() else { return self.future.as_mut().poll(context) };
        if !process.runs(context.waker()) {
            return Poll::Pending;
        }
        let before = CURRENT.replace(Some(process));
        let polled = self.future.as_mut().poll(context);
        CURRENT.set(before);
        polled
    }
}
