//! Signals that would end this process: HUP, INT and TERM.
//!
//! Whoever waits hears them, to withdraw before it ends. At all other times they end the process at once, as they do by
//! default, also while it is busy with something that does not wait. One that was ignored when the process was started
//! (as by `nohup`, or of what a script runs in the background) stays ignored: whoever started it wants it to go on.
//!
//! What a signal has ended ends *by* it. Shells look at that: they end a script when a signal has ended what it runs, and
//! go on with the next line after an exit code, be it 130.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use nix::libc::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::emulate_default_handler};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Their numbers.
const NUMBERS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// The process to which the kernel sends no signal that it does not handle, and which cannot end by one.
const INIT: u32 = 1;

/// Whether nobody listens. Set up when somebody does for the first time.
static UNHEARD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Hears the signals while it is there. There is one at a time.
pub(crate) struct Signals(Vec<(i32, Signal)>);

impl Signals {
    /// From here on they end nothing by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let wanted: Vec<_> = NUMBERS.into_iter().filter(|number| !is_ignored(&status, *number)).collect();
        let unheard = if let Some(unheard) = UNHEARD.get() {
            unheard
        } else {
            let unheard = ending_by_default(&wanted)?;
            UNHEARD.get_or_init(|| unheard)
        };
        let heard = wanted.into_iter().map(|number| Ok((number, signal(SignalKind::from_raw(number))?)));
        let heard = heard.collect::<io::Result<_>>()?;
        unheard.store(false, Ordering::SeqCst);
        Ok(Self(heard))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            let come = self.0.iter_mut().find_map(|(number, signal)| {
                let come = signal.poll_recv(context).is_ready();
                come.then_some(*number)
            });
            come.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(unheard) = UNHEARD.get() {
            unheard.store(true, Ordering::SeqCst);
        }
    }
}

/// Has these end the process whenever what is returned is true, which it is.
fn ending_by_default(numbers: &[i32]) -> io::Result<Arc<AtomicBool>> {
    let unheard = Arc::new(AtomicBool::new(true));
    for number in numbers {
        if std::process::id() == INIT {
            flag::register_conditional_shutdown(*number, 128 + number, unheard.clone())?;
        } else {
            flag::register_conditional_default(*number, unheard.clone())?;
        }
    }
    Ok(unheard)
}

/// Whether a process of which /proc tells this ignores a signal. Where there is no /proc, it is not known to.
fn is_ignored(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // The first is the lowest bit.
    (mask >> (number - 1)) & 1 == 1
}

/// Ends this process by a signal, so that its parent sees what has ended it. Returns where the kernel does not do that:
/// a container's first process.
pub(crate) fn die_by(signal: i32) {
    if std::process::id() != INIT {
        // One that has no other action ends nothing.
        let _ = emulate_default_handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_which_signals_are_ignored() {
        let status = "Name:\tkoncli\nSigBlk:\t0000000000004003\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert_eq!(NUMBERS.map(|number| is_ignored(status, number)), [true, false, false]);
        assert!(is_ignored(status, 13), "PIPE");
        assert_eq!(NUMBERS.map(|number| is_ignored("", number)), [false; 3]);
    }
}
