//! The core: what to do next, decided from events alone.
//!
//! [`Supervisor::step`] is total and deterministic: no clock, no I/O, no randomness. The driver tells it what happened
//! and when, and carries out the effects in order. What it guarantees, whatever the order of events:
//!
//! - the command is started at most once, only while every claim is held and safely before its deadline, and never
//!   after a signal that ends the waiting;
//! - time comes first: each step begins with what is due, so that a process that was frozen past its deadline kills
//!   before it looks at anything else;
//! - the whole process tree is told to end early enough before a deadline, and is dead at it, without any help
//!   from the side that talks to the API server;
//! - a watchdog, which keeps the deadline should this process not get to run, knows the latest deadline from before the
//!   start of the command until the tree is empty;
//! - a claim is released only after the driver has seen the tree empty;
//! - a loss while anything ran ends with 79, whatever the command's own code was;
//! - whoever arrives at a barrier has done the work: the tree is empty, nothing that was held was lost, and the command
//!   has ended with 0 (or has ended, if that is enough); and an arrival that was not made is never a success.
//!
//! What is only waited for comes first, one after the other, while nothing is held that others may want.
//!
//! Claims are taken one after the other in the order given, which the caller makes the same for every wrapper, so that
//! two of them never wait for each other; they are released in reverse.

mod jobs;
mod rendezvous;
mod rules;
mod told;

#[cfg(test)]
pub(crate) mod properties;
#[cfg(test)]
mod scripts;

use std::{collections::BTreeMap, time::Duration};

use konductor::{
    Boottime, Event as ClaimEvent, Exit,
    rendezvous::{Awaited, Progress},
};
use tracing::Level;

use self::told::Told;

pub(crate) use jobs::TERMINAL_STOPS;

/// How long the API server may leave the first request unanswered, not counting a login before it. Shorter than any pod's start timeout, longer than
/// the restart of an API server that another one replaces; the Job's own backoff takes over from there.
pub(crate) const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// How long "try once" waits for the operator's word. A standby takes over within half of it.
pub(crate) const TRY_ONCE: Duration = Duration::from_secs(30);

/// How long a withdrawal may take once a signal has asked to end: with it the process is gone within a second. The
/// client gives up a little earlier and says why.
pub(crate) const WITHDRAWAL: Duration = Duration::from_millis(900);

/// How long releases may take after the command's end: well inside the kubelet's default of 30 s between TERM and KILL.
/// The client gives up after 10 s and says why; this is for one that says nothing. A claim that could not be released
/// ends with its TTL, or at once when the kubelet reports the container's end.
pub(crate) const RELEASE: Duration = Duration::from_secs(12);

/// How long arriving may take after the command's end: longer than the restart of an API server, as work that may have
/// taken hours would be for nothing; and not for ever, so that the Job's own backoff takes over.
pub(crate) const ARRIVAL: Duration = Duration::from_mins(2);

/// How long it may take from a signal to end on: with the releases well inside the kubelet's default of 30 s.
pub(crate) const LAST_ARRIVAL: Duration = Duration::from_secs(8);

/// How often what was killed and is still there is looked for and killed again: that it is there may have been refused
/// to be told, and nothing announces what was missed.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// How long before a claim's end its tree is killed: what lies between a timer and the last process's death on a
/// machine that has ten times more to do than it can. A twentieth of the shortest TTL, so that renewals hardly have
/// less time.
pub(crate) const KILLING: Duration = Duration::from_millis(250);

/// How long it is tried to start a command that cannot be started for a moment (no more processes, a file that is open
/// for writing), and the pauses: while others wait for what is held, and longer than a burst of processes lasts.
pub(crate) const STARTING: Duration = Duration::from_secs(10);
pub(crate) const STARTING_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// How soon after its start a watchdog that has ended is not worth another one before the next renewal: whatever ends
/// it would end the next as well.
pub(crate) const WATCHDOG_LASTS: Duration = Duration::from_secs(1);

/// What the rules need to know from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What to see open before anything is held.
    pub awaited: Vec<Awaited>,
    /// What to hold, in the order in which it is taken, as shown to people (`semaphore warehouse`).
    pub claims: Vec<String>,
    /// How many permits of each of these.
    pub permits: Vec<u64>,
    /// How much those who run this process hold of locks, by the locks' ids.
    pub held_around: BTreeMap<String, u64>,
    /// Where to arrive when the command has ended, as shown to people (`barrier extracted`).
    pub arrivals: Vec<String>,
    /// When to arrive at those barriers.
    pub arrive_on: ArriveOn,
    /// How long to wait for all that is awaited and claimed together; for ever when absent, and zero tries once.
    pub wait_timeout: Option<Duration>,
    /// Whether a timed-out wait is a success.
    pub skip_on_timeout: bool,
    /// Whether a folder of this machine takes the cluster's place.
    pub local: bool,
    /// How long the command has from TERM to KILL.
    pub grace: Duration,
    /// Signals that end the waiting. Those that were ignored when the process started are not among them (`nohup`).
    pub ending_signals: Vec<i32>,
    /// What is forwarded instead of a signal; nothing when it is dropped.
    pub signals: BTreeMap<i32, Option<i32>>,
    /// Whether what the command leaves behind is left alone. Never while anything is held.
    pub leaves: bool,
    /// What to exit with instead of these codes of the command.
    pub exit_codes: BTreeMap<u8, u8>,
}

/// After which ends of the command to arrive at barriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArriveOn {
    /// When the command has ended with 0, or with what is to be told as 0.
    Success,
    /// Whatever the command has ended with.
    AnyEnd,
}

/// A signal as it has arrived, and as it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The signal's number.
    pub signal: i32,
    /// What came with it, when it was sent by sigqueue(3).
    pub queued: Option<Queued>,
    /// Whether the command has got it, too: it was sent to the whole group, and the command shares ours.
    pub shared: bool,
}

/// What sigqueue(3) sends with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The sender's process id.
    pub pid: i32,
    /// The sender's user id.
    pub uid: u32,
    /// The value sent along: a number, or a pointer's bits.
    pub value: u64,
}

/// What has happened, as the driver tells the supervisor.
#[derive(Clone, Debug)]
pub enum Event {
    /// The first event of all: the program has started.
    Started,
    /// News of a claim, by its index in [`Settings::claims`].
    Claim(usize, ClaimEvent),
    /// News of something to be seen open, by its index in [`Settings::awaited`].
    Awaited(usize, Progress),
    /// News of an arrival, by its index in [`Settings::arrivals`].
    Arrival(usize, Progress),
    /// What was ordered cannot be asked for: there is no cluster to connect to.
    Unreachable {
        /// How to end because of it.
        exit: Exit,
        /// Why the client cannot connect.
        error: String,
    },
    /// The client waits for a program that the kubeconfig logs in by, before it asks for anything.
    LoggingIn {
        /// The program's name.
        program: String,
    },
    /// That program has ended.
    LoggedIn,
    /// The side that talks to the API server is gone: it panicked, or could not be started.
    ClientFailed {
        /// What is known about its end.
        error: String,
    },
    /// A signal has arrived that is not SIGCHLD.
    Signal(Received),
    /// All signals that end the waiting and had arrived when [`Effect::ReadSignals`] was carried out have been told.
    SignalsRead,
    /// The command could not be started.
    NotSpawned {
        /// The code that says why.
        exit: Exit,
        /// What to tell people.
        error: String,
        /// Whether it may be started in a moment.
        momentary: bool,
    },
    /// The command was started, and its process has ended without having become it. [`Event::Remaining`] or
    /// [`Event::TreeEmpty`] follows.
    NotExecuted {
        /// The code that says why.
        exit: Exit,
        /// What to tell people.
        error: String,
    },
    /// Some processes of the tree were alive when it was killed.
    Killed,
    /// The command itself has ended. [`Event::Remaining`] or [`Event::TreeEmpty`] follows.
    CommandEnded(Exit),
    /// A signal has stopped the command.
    CommandStopped {
        /// The number of that signal.
        signal: i32,
        /// Whether the command wants the terminal, whose foreground this process has.
        in_front: bool,
    },
    /// The kernel has not carried out [`Effect::Stop`]: there is nobody who could continue this process.
    NotStopped(i32),
    /// Some processes of the tree have ended, and others are left.
    Remaining,
    /// No process of the command's tree is left.
    TreeEmpty,
    /// The watchdog is gone, and nobody has told it to.
    WatchdogEnded,
    /// The armed time has come.
    Timer,
}

/// What to do, in this order: what is urgent comes before what is only told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Wait until this index of [`Settings::awaited`] is open.
    Await(usize),
    /// Ask for this index of [`Settings::claims`].
    Acquire(usize),
    /// Release or withdraw this index of [`Settings::claims`].
    Release(usize),
    /// Arrive at this index of [`Settings::arrivals`].
    Arrive(usize),
    /// Tell the signals that have arrived by now, all those that end the waiting among them, then
    /// [`Event::SignalsRead`].
    ReadSignals,
    /// Start the command, with the claims' fencing tokens in order.
    Spawn {
        /// A fencing token for each of [`Settings::claims`].
        tokens: Vec<u64>,
        /// The id of the lock that each of them is on.
        locks: Vec<String>,
        /// When the tree must be dead: a watchdog is started first that sees to it. [`Boottime::NEVER`]: when this
        /// process is gone.
        deadline: Option<Boottime>,
    },
    /// Start a watchdog that [`Effect::Spawn`] will tell its deadline: everything may be held in a moment.
    PrepareWatchdog,
    /// Tell the watchdog a later deadline; when there is none any more, start another one.
    TellWatchdog(Boottime),
    /// End the watchdog.
    EndWatchdog,
    /// Send a signal to the command, and to its process group if it has one of its own and that is configured.
    Forward(Received),
    /// Continue the command and the process group that it has of its own, with the terminal's foreground if that is
    /// ours to give.
    Continue,
    /// Stop this process as a job, by this signal, if the command still stands or is not started yet; the foreground is
    /// taken back first. [`Event::NotStopped`] follows when nobody could continue this process.
    Stop(i32),
    /// Ask every process of the tree to end.
    TerminateTree,
    /// Kill every process of the tree, and those that appear meanwhile.
    KillTree,
    /// Wake up at this time instead of the one armed before.
    Arm(Option<Boottime>),
    /// Tell people, in the log.
    Log(Level, String),
    /// An own failure: tell people, also in the container's termination message.
    Report(String),
    /// End the program like this. No effect follows.
    Exit(Exit),
}

/// Where the supervision of the command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is awaited before `next` was seen open, and this one is not yet.
    Awaiting { next: usize },
    /// The claims before `next` are held and this one was asked for.
    Acquiring { next: usize },
    /// Everything is held; the signals that have arrived meanwhile come first.
    Ready,
    /// The command, or something that it left behind, is alive.
    Running,
    /// Nothing is alive any more; the arrivals are being made, and what is held is still held.
    Arriving { until: Boottime },
    /// Nothing is alive any more, or ever was; the claims are being given back.
    Releasing { until: Boottime },
    /// [`Effect::Exit`] was said.
    Over,
}

/// Where one claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimState {
    /// The claim was not asked for, or is gone.
    Absent,
    /// The claim is asked for; the client may or may not have created it.
    Asked,
    /// The claim is held.
    Held { token: u64, ttl: Duration, deadline: Boottime },
    /// The claim was held; it is still to be cleaned up.
    Lost,
    /// The claim is being released.
    Leaving,
}

/// What was last heard of what is waited for: decides between the exit codes of a wait that timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastHeard {
    /// Nothing has been heard from the cluster.
    Nothing,
    /// The cluster answers; the operator has not said anything about the claim.
    Contact,
    /// Something else than what is waited for is in the way of asking for it.
    Hindered,
    /// There is no object of that name.
    Missing,
    /// The operator has put it in the queue, or says that it is not open.
    Queued,
}

/// The end of the tree, once it is wanted.
#[derive(Clone, Copy, Debug)]
struct Ending {
    /// When it is killed, for the first time or again.
    kill_at: Boottime,
    killed: bool,
    /// Killed because its time to end was over, and nobody was told of a process that had not.
    overdue: bool,
}

/// Since when the command cannot be started, and when to try again.
#[derive(Clone, Copy, Debug)]
struct Unstarted {
    since: Boottime,
    again_at: Option<Boottime>,
}

/// What the watchdog was last told, and when it was started.
#[derive(Clone, Copy, Debug)]
struct WatchdogState {
    deadline: Boottime,
    started: Boottime,
    /// When to start another one, if no renewal is to do so.
    again: Option<Boottime>,
    /// The last one has not lasted.
    short: bool,
}

/// The state machine. One value supervises one command.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent: any combination can occur")]
pub struct Supervisor {
    settings: Settings,
    phase: Phase,
    claims: Vec<ClaimState>,
    /// The id of the lock that each claim is on, once it has been held.
    locks: Vec<String>,
    /// The arrivals that are being made.
    arriving: Vec<bool>,
    /// Why nobody talks to the API server any more.
    cut_off: Option<String>,
    /// What the exit will be; a loss replaces anything else.
    verdict: Option<Exit>,
    command_alive: bool,
    /// TERM has come while the command ran: the pod's end is near.
    told_to_end: bool,
    /// The command has got a TSTP, and is not known to have got a CONT since.
    suspending: bool,
    /// SIGSTOP has stopped the command, and nothing is known to have continued it.
    halted: bool,
    ending: Option<Ending>,
    watchdog: Option<WatchdogState>,
    /// Since when one is ready that has no deadline yet.
    watchdog_ready: Option<Boottime>,
    /// A command that cannot be started for a moment.
    unstarted: Option<Unstarted>,
    /// What has arrived for a command that is to be started. The driver leaves it where it is until then: the kernel's
    /// limit on waiting signals bounds it.
    early: Vec<Received>,
    /// When waiting for the claims ends.
    wait_until: Option<Boottime>,
    /// When the cluster must have answered.
    contact_until: Option<Boottime>,
    last_heard: LastHeard,
    /// The latest trouble on the way to the cluster.
    trouble: Option<String>,
    told: Told,
    armed: Option<Boottime>,
}
