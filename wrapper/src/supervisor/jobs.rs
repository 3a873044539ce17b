//! Signals and job control: what becomes of a signal that has arrived, and of a command that a signal has stopped.
//!
//! A signal keeps its number on the way to the command, unless the configuration says otherwise. Before the command
//! runs there is nobody to forward to: what then ends the waiting ends it, what stops a job stops it, and everything
//! else is kept for the command. A signal that is dropped is as if it were ignored, from start to end.
//!
//! As a member of a terminal's job the command is in the same group as this process. What was sent to the whole group
//! has reached it already ([`Received::shared`]) and is not sent again, nor mapped, nor dropped.
//!
//! A shell that started this process waits for this process. So when the terminal stops the command (TSTP, TTIN, TTOU),
//! this process stops as well, by the same signal, so that the kernel decides. It does not stop what nobody could
//! continue: PID 1, or a group with no shell above it. Then the command is continued at once after a TSTP, as the kernel
//! would not have stopped it in this process's place, and stays stopped when it wanted a terminal that is not its own.
//!
//! SIGSTOP is somebody's deliberate act upon the command alone: everything else goes on, renewals too. Unless TSTP has
//! asked for it: many programs of the whole screen clean up and then stop themselves by SIGSTOP.

use konductor::{Boottime, Exit};
use konductor_api::GoDuration;
use nix::{libc, sys::signal::Signal};
use tracing::Level;

use std::time::Duration;

use super::{Effect, LAST_ARRIVAL, Phase, Received, Supervisor, WITHDRAWAL};

/// What a terminal stops a job with.
pub(crate) const TERMINAL_STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

impl Supervisor {
    /// A signal has arrived.
    pub(super) fn signal(&mut self, received: Received, now: Boottime, out: &mut Vec<Effect>) {
        let name = signal_name(received.signal);
        self.told_to_end |= received.signal == libc::SIGTERM && self.phase == Phase::Running;
        if received.shared && self.phase == Phase::Running && self.command_alive {
            out.push(Effect::Log(Level::DEBUG, format!("{name}: the command has got it, too")));
            return self.note_stop(received.signal, now, out);
        }
        let mapped = self.settings.signals.get(&received.signal).copied();
        let Some(signal) = mapped.unwrap_or(Some(received.signal)) else {
            return out.push(Effect::Log(Level::DEBUG, format!("{name}: dropping")));
        };
        let ends = self.settings.ending_signals.contains(&received.signal);
        match self.phase {
            Phase::Awaiting { .. } | Phase::Acquiring { .. } | Phase::Ready if ends => {
                self.verdict = Some(Exit::Signal(received.signal));
                out.push(Effect::Log(Level::INFO, format!("{name}: ending before the command was started")));
                self.give_back(WITHDRAWAL, now, out);
            }
            Phase::Awaiting { .. } | Phase::Acquiring { .. } if TERMINAL_STOPS.contains(&received.signal) => {
                self.stop(received.signal, "it is lost", now, out);
            }
            // A CONT has done its work.
            Phase::Awaiting { .. } | Phase::Acquiring { .. } if received.signal == libc::SIGCONT => {
                out.push(Effect::Log(Level::DEBUG, format!("{name}: nothing to forward it to")));
            }
            Phase::Awaiting { .. } | Phase::Acquiring { .. } | Phase::Ready => {
                self.early.push(Received { signal, ..received });
            }
            Phase::Running if self.command_alive => {
                let message = match mapped {
                    None => format!("{name}: forwarding"),
                    Some(_) => format!("{name}: forwarding {}", signal_name(signal)),
                };
                out.push(Effect::Log(Level::DEBUG, message));
                out.push(forward(Received { signal, ..received }));
                self.note_stop(signal, now, out);
            }
            Phase::Arriving { until } if ends => {
                self.phase = Phase::Arriving { until: until.min(now + LAST_ARRIVAL) };
            }
            Phase::Releasing { until } if ends => {
                self.phase = Phase::Releasing { until: until.min(now + WITHDRAWAL) };
            }
            _ => out.push(Effect::Log(Level::DEBUG, format!("{name}: nothing to forward it to"))),
        }
    }

    /// The command has been started: what has waited for it comes first. It is kept, should the start have failed.
    pub(super) fn forward_early(&self, out: &mut Vec<Effect>) {
        out.extend(self.early.iter().copied().map(forward));
    }

    /// The command has been stopped by `signal`; `in_front`: for want of the terminal, whose
    /// foreground this process has.
    pub(super) fn command_stopped(&mut self, signal: i32, in_front: bool, now: Boottime, out: &mut Vec<Effect>) {
        if !self.command_alive || self.ending.is_some() {
            return;
        }
        let name = signal_name(signal);
        self.halted = signal == libc::SIGSTOP;
        if self.halted && self.suspending {
            self.stop(libc::SIGTSTP, "the command is ended", now, out);
        } else if !TERMINAL_STOPS.contains(&signal) {
            out.push(Effect::Log(Level::INFO, format!("{name} has stopped the command; CONT continues it")));
        } else if in_front {
            // It could not know that it would use the terminal; or a shell has brought a running job to the front.
            out.push(Effect::Continue);
        } else {
            out.push(Effect::Log(Level::DEBUG, format!("{name} has stopped the command: stopping as well")));
            self.stop(signal, "the command is ended", now, out);
        }
    }

    /// The command has got a signal that may stop or continue it. The news that it has stopped come before or after. A
    /// CONT may have got lost before: then the news are old, and the driver finds that the command runs.
    fn note_stop(&mut self, signal: i32, now: Boottime, out: &mut Vec<Effect>) {
        match signal {
            libc::SIGTSTP => {
                self.suspending = true;
                if self.halted && self.ending.is_none() {
                    self.stop(signal, "the command is ended", now, out);
                }
            }
            libc::SIGCONT => (self.suspending, self.halted) = (false, false),
            _ => {}
        }
    }

    /// The kernel has not stopped this process.
    pub(super) fn not_stopped(&mut self, signal: i32, out: &mut Vec<Effect>) {
        if !self.command_alive {
            return;
        }
        if signal == libc::SIGTSTP {
            (self.suspending, self.halted) = (false, false);
            let message = "no shell could continue this job: continuing the command".to_owned();
            out.push(Effect::Continue);
            out.push(Effect::Log(Level::DEBUG, message));
        } else {
            let message = "the command is stopped: it wants the terminal, which is another job's; CONT continues it";
            out.push(Effect::Log(Level::WARN, message.to_owned()));
        }
    }

    /// Stops this process; people first read how long what is held allows.
    fn stop(&mut self, signal: i32, otherwise: &str, now: Boottime, out: &mut Vec<Effect>) {
        if let Some(last_call) = self.last_call() {
            let left = GoDuration(Duration::from_secs((last_call - now).as_secs()));
            let claim = self.most_urgent();
            let message = format!("stopped while holding {claim}: unless continued within {left}, {otherwise}");
            out.push(Effect::Log(Level::WARN, message));
        }
        out.push(Effect::Stop(signal));
    }
}

/// CONT goes to the whole job, with the foreground.
fn forward(received: Received) -> Effect {
    if received.signal == libc::SIGCONT { Effect::Continue } else { Effect::Forward(received) }
}

/// `SIGTERM`, or the number of a signal that has no name.
fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}
