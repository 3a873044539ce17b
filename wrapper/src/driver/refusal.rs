//! What the system says no to: which call, what it was for, and what a person can do about it.
//!
//! Containers differ in what they allow: an emulator (qemu-user) or a sandbox (gVisor) does not have all of Linux, an
//! old seccomp filter refuses what is newer than it, a limit is reached. So a call is made only where it is needed; one
//! that has another way goes that way; one that fails for a moment is made again; and only then is it an error, which
//! names the call.

use std::time::Duration;

use nix::errno::Errno;

/// For how long, and in which pauses, what fails for a moment is tried again before anything is held: a process or two
/// that end make room.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// A call that the system has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: the system refuses {call}: {errno}{}", advice(*errno))]
pub(super) struct Refusal {
    /// What it was for: `read signals`.
    pub(super) doing: &'static str,
    /// The call, as its manual page names it: `signalfd(2)`.
    pub(super) call: &'static str,
    pub(super) errno: Errno,
}

/// Names a call that may be refused: `result.map_err(refused("read signals", "signalfd(2)"))`.
pub(super) fn refused(doing: &'static str, call: &'static str) -> impl FnOnce(Errno) -> Refusal {
    move |errno| Refusal { doing, call, errno }
}

/// What a person can do.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::EMFILE => " (raise the limit of open files: ulimit -n)",
        Errno::ENFILE => " (the whole machine has as many open files as it can have)",
        Errno::EAGAIN => " (raise the limit of processes and threads: ulimit -u, or pids.max of the container)",
        Errno::ENOMEM => " (raise the limit of memory)",
        Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EINVAL => {
            " (a seccomp profile, sandbox or emulator has to allow it)"
        }
        _ => "",
    }
}

/// Whether a call that was refused for this reason may succeed in a moment: others give back what they have.
pub(super) fn is_momentary(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
}

/// The pause before the next try; nothing when it has lasted for too long. `waited` is the sum of those before.
pub(super) fn pause(refusal: &Refusal, waited: Duration) -> Option<Duration> {
    (is_momentary(refusal.errno) && waited < PATIENCE).then(|| waited.clamp(PAUSES[0], PAUSES[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_call_the_reason_and_what_to_do() {
        let refusal = refused("read signals", "signalfd(2)")(Errno::EMFILE);
        assert_eq!(
            refusal.to_string(),
            "cannot read signals: the system refuses signalfd(2): EMFILE: Too many open files (raise the limit of open \
             files: ulimit -n)"
        );
    }

    #[test]
    fn pauses_grow_and_end() {
        let (momentary, final_one) = (refused("", "")(Errno::ENOMEM), refused("", "")(Errno::EPERM));
        assert_eq!(pause(&final_one, Duration::ZERO), None);
        let mut waited = Duration::ZERO;
        let mut pauses = Vec::new();
        while let Some(next) = pause(&momentary, waited) {
            waited += next;
            pauses.push(next);
        }
        assert_eq!((pauses.first(), pauses.last()), (Some(&PAUSES[0]), Some(&PAUSES[1])));
        assert!(pauses.is_sorted() && pauses.len() < 30 && waited < PATIENCE + PAUSES[1], "{pauses:?}");
    }
}
