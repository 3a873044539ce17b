//! What people are told while it waits: who is in front, what else is in the way, and that nobody answers.
//!
//! The operator's word reaches the log as it is. Each news is a line, once. How far a barrier has come changes with
//! each of ten thousand arrivals: of that, people hear when they ask for more. Why a gate is closed is followed, but as
//! the Jobs that it selects may change many times a second, its lines have a pace, and the last is never left out.

use std::time::Duration;

use konductor::{Boottime, Exit, LockSeen, WAITS_FOR};
use konductor_api::{Gate, GoDuration, Rendezvous as _};
use tracing::Level;

use super::{ClaimState, Effect, LastHeard, Phase, Supervisor};

/// After how long without a word of the operator people are told so. It answers within a second; a standby that takes
/// over needs a little longer.
const UNANSWERED: Duration = Duration::from_secs(10);

/// The longest pause between two such lines: they double up to here.
const UNANSWERED_AGAIN: Duration = Duration::from_mins(10);

/// How soon the next reason of a gate is told after the last one.
const REASONS_EVERY: Duration = Duration::from_secs(5);

/// What shows whether the operator runs. The chart gives its pods this label.
pub(super) const LOOK: &str = "kubectl get pods --all-namespaces --selector app.kubernetes.io/name=konductor";

/// The operator's word about a claim in the queue.
pub(super) struct Word {
    pub(super) ahead: Option<u64>,
    pub(super) message: String,
    pub(super) missing: bool,
    pub(super) lock: Option<LockSeen>,
}

/// What people have been told of what is waited for.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The last line, and when it was told.
    line: Option<(String, Boottime)>,
    /// The line to be told next, when it is time.
    next: Option<String>,
    /// What else than others in front is in the way: what follows the name, like `, which is paused`.
    pub(super) why: String,
    /// Since when the operator owes an answer.
    unanswered: Option<Unanswered>,
}

#[derive(Clone, Copy, Debug)]
struct Unanswered {
    since: Boottime,
    say_at: Boottime,
    pause: Duration,
}

impl Told {
    /// The operator owes an answer from here on.
    pub(super) fn asked(&mut self, now: Boottime) {
        let new = Unanswered { since: now, say_at: now + UNANSWERED, pause: UNANSWERED };
        self.unanswered.get_or_insert(new);
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        self.unanswered = None;
    }

    /// The next thing begins to be waited for.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    fn is_line(&self, line: &str) -> bool {
        self.line.as_ref().is_some_and(|(told, _)| told == line)
    }

    /// When the next reason of a gate can be told.
    fn pace(&self) -> Option<Boottime> {
        self.line.as_ref().map(|(_, at)| *at + REASONS_EVERY)
    }

    /// When there is something to say.
    pub(super) fn due(&self) -> Option<Boottime> {
        let next = self.next.as_ref().and_then(|_| self.pace());
        self.unanswered.map(|unanswered| unanswered.say_at).into_iter().chain(next).min()
    }
}

impl Supervisor {
    /// Tells what it is time for.
    pub(super) fn tell_due(&mut self, now: Boottime, out: &mut Vec<Effect>) {
        if self.told.due().is_none_or(|at| at > now) {
            return;
        }
        let name = match self.phase {
            Phase::Awaiting { next } => self.settings.awaited[next].to_string(),
            Phase::Acquiring { next } => self.settings.claims[next].clone(),
            _ => return,
        };
        if let Some(Unanswered { since, say_at, pause }) = &mut self.told.unanswered
            && *say_at <= now
        {
            let waited = GoDuration(Duration::from_secs(now.since(*since).as_secs()));
            let message =
                format!("nobody has answered about {name} for {waited}: does Konductor's operator run? {LOOK}");
            out.push(Effect::Log(Level::WARN, message));
            *pause = pause.saturating_mul(2).min(UNANSWERED_AGAIN);
            *say_at = now + *pause;
        }
        if self.told.pace().is_some_and(|at| at <= now)
            && let Some(line) = self.told.next.take()
        {
            self.tell(line, now, out);
        }
    }

    fn tell(&mut self, line: String, now: Boottime, out: &mut Vec<Effect>) {
        out.push(Effect::Log(Level::INFO, line.clone()));
        (self.told.line, self.told.next) = (Some((line, now)), None);
    }

    /// A claim cannot be made yet, which says nothing of the lock.
    pub(super) fn hindered(&mut self, index: usize, why: &str, now: Boottime, out: &mut Vec<Effect>) {
        if self.claims[index] != ClaimState::Asked {
            return;
        }
        self.contact_until = None;
        self.told.answered();
        self.last_heard = LastHeard::Hindered;
        self.told.why = format!(": {why}");
        let line = format!("waiting to ask for {}: {why}", self.settings.claims[index]);
        self.goes_on_waiting(line, now, out);
    }

    /// A claim is in the queue.
    pub(super) fn waiting(&mut self, index: usize, word: &Word, now: Boottime, out: &mut Vec<Effect>) {
        let Word { ahead, message, missing, lock } = word;
        if self.claims[index] != ClaimState::Asked {
            return;
        }
        self.contact_until = None;
        self.told.answered();
        self.last_heard = if *missing { LastHeard::Missing } else { LastHeard::Queued };
        if let Some(error) = lock.as_ref().and_then(|lock| self.never_free(index, lock)) {
            return self.cannot_acquire(index, Exit::Usage, &error, now, out);
        }
        let name = &self.settings.claims[index];
        self.told.why = why(name, message);
        let line = match (*missing, self.told.why.as_str(), *ahead) {
            (true, ..) => format!("waiting for {name}, which does not exist yet"),
            (false, "", None) => format!("waiting for {name}"),
            (false, "", Some(0)) => format!("waiting for {name}: next in line"),
            (false, "", Some(ahead)) => format!("waiting for {name}: {ahead} ahead"),
            (false, why, None | Some(0)) => format!("waiting for {name}{why}"),
            (false, why, Some(ahead)) => format!("waiting for {name}{why}; {ahead} ahead"),
        };
        self.goes_on_waiting(line, now, out);
    }

    /// It is not free yet: who tries once has tried, and others are told, unless they have been told the same.
    fn goes_on_waiting(&mut self, line: String, now: Boottime, out: &mut Vec<Effect>) {
        if self.tries_once() {
            self.time_out(now, out);
        } else if !self.told.is_line(&line) {
            self.tell(line, now, out);
        }
    }

    /// Why a lock is never free for this claim, if those who run this process hold too much of it: they do until this
    /// process has ended. One that is paused will have permits again, nobody knows how many.
    fn never_free(&self, index: usize, lock: &LockSeen) -> Option<String> {
        let around = self.settings.held_around.get(&lock.id)?;
        let (asked, all) = (self.settings.permits[index], lock.permits);
        (all > 0 && around.saturating_add(asked) > all).then(|| {
            format!(
                "the konductor-run that this one runs in holds {around} of {all} until this one has ended, so {asked} \
                 more will never be free; unset KONDUCTOR_SEMAPHORE and KONDUCTOR_LEASE for what is not to take them again"
            )
        })
    }

    /// What is to be open is not.
    pub(super) fn closed(&mut self, index: usize, message: &str, missing: bool, now: Boottime, out: &mut Vec<Effect>) {
        self.contact_until = None;
        self.told.answered();
        self.last_heard = if missing { LastHeard::Missing } else { LastHeard::Queued };
        let awaited = &self.settings.awaited[index];
        let news = if missing {
            format!("waiting for {awaited}, which does not exist yet")
        } else {
            format!("waiting for {awaited}")
        };
        self.told.why = if message.is_empty() { String::new() } else { format!(": {message}") };
        let line = format!("{news}{}", self.told.why);
        let is_gate = awaited.kind == Gate::KIND;
        if self.tries_once() {
            return self.time_out(now, out);
        }
        if self.told.is_line(&line) {
            self.told.next = None;
        } else if is_gate && self.told.pace().is_some_and(|at| now < at) {
            self.told.next = Some(line);
        } else if !is_gate && self.told.line.as_ref().is_some_and(|(told, _)| told.starts_with(&format!("{news}:"))) {
            // The same but for how many have arrived.
            out.push(Effect::Log(Level::DEBUG, line));
        } else {
            self.tell(line, now, out);
        }
    }

    /// Why it is not free, or not open, as what follows that.
    pub(super) fn because(&self) -> String {
        let why = &self.told.why;
        why.strip_prefix(", which ").map_or_else(|| why.clone(), |why| format!(": it {why}"))
    }
}

/// What the operator's word says beside that `name` is waited for.
fn why(name: &str, message: &str) -> String {
    let usual = message.strip_prefix(WAITS_FOR).and_then(|rest| rest.strip_prefix(' ')?.strip_prefix(name));
    match usual {
        Some(rest) => rest.to_owned(),
        None if message.is_empty() => String::new(),
        None => format!(": {message}"),
    }
}
