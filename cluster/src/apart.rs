//! Work that waits for files, locks or programs, on a thread of its own.
//!
//! Not on one of tokio's, which panics when the system has no thread to give: here that is an error, of which the
//! caller can think better in a moment.

use std::{io, sync::OnceLock, thread};

use tokio::sync::oneshot;

/// What each such thread does first.
static FIRST: OnceLock<fn()> = OnceLock::new();

/// Has each such thread of this process do this first. Only the first call counts.
pub fn on_thread_start(first: fn()) {
    let _ = FIRST.set(first);
}

/// What `work` returns, done on a thread of its own. Who does not wait for it any more does not end it.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, outcome) = oneshot::channel();
    start(move || {
        // Nobody may be waiting any more.
        let _ = done.send(work());
    })?;
    outcome.await.map_err(|_| ended())
}

/// Starts `work` on a thread of its own. Without one, `work` is dropped here.
pub fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let spawned = thread::Builder::new().name("apart".to_owned()).spawn(move || {
        if let Some(first) = FIRST.get() {
            first();
        }
        work();
    });
    spawned.map(drop)
}

/// Why there is no outcome of work that was started.
pub(crate) fn ended() -> io::Error {
    io::Error::other("the thread has ended without an outcome")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_another_thread() {
        let here = thread::current().id();
        let there = apart(|| thread::current().id()).await.expect("there is a thread");
        assert_ne!(here, there);
    }
}
