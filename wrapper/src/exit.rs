//! Exit codes: the command's own, passed through exactly, and those of `konductor-run` itself.
//!
//! The own ones are those of sysexits.h where it has a fitting one, and above all distinct: a Job's `podFailurePolicy`
//! can tell "try again" (69, 75, 79) from "a person must act" (64, 77, 78).

/// How `konductor-run` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command's own code.
    Code(u8),
    /// The command was killed by this signal, or `konductor-run` was before it had started the command.
    Signal(i32),
    /// Timed out while waiting, and asked to call that a success.
    Skipped,
    /// Wrong flag, argument or environment variable.
    Usage,
    /// No cluster to talk to, or it never answered.
    Unreachable,
    /// The system refused something that `konductor-run` cannot work without, or a defect in it.
    Internal,
    /// Timed out while waiting.
    TimedOut,
    /// The cluster refuses (RBAC or an admission policy), or the folder that takes its place cannot be used.
    Refused,
    /// There is no such primitive, and it was not to be waited for.
    NoSuchPrimitive,
    /// What was held was lost while the command ran.
    Lost,
    /// The command is there and cannot be executed.
    NotExecutable,
    /// There is no such command.
    NotFound,
}

/// The codes that are `konductor-run`'s own, what they mean, and what to do about them.
pub(crate) const OWN: [(Exit, &str, &str); 9] = [
    (Exit::Usage, "wrong flag, argument or variable", "correct what the message names"),
    (
        Exit::Unreachable,
        "the cluster cannot be reached, or never answered",
        "try again; see that there is a way to the API server",
    ),
    (Exit::Internal, "the system refuses what is needed, or a defect", "the message says which; report a defect"),
    (Exit::TimedOut, "timed out while waiting", "try again later"),
    (
        Exit::Refused,
        "the cluster refuses, or the folder of --local cannot be used",
        "grant what the message names (RBAC), satisfy the admission policy, or repair the folder",
    ),
    (Exit::NoSuchPrimitive, "no such semaphore or lease, and not to be waited for", "create it, or install Konductor"),
    (Exit::Lost, "what was held was lost while the command ran", "try again; the command has been ended in time"),
    (Exit::NotExecutable, "the command cannot be executed", "correct the file or its mode"),
    (Exit::NotFound, "there is no such command", "correct its name or PATH"),
];

impl Exit {
    /// The number that the parent process sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            // Signals end at 64.
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)),
            Self::Skipped => 0,
            Self::Usage => 64,
            Self::Unreachable => 69,
            Self::Internal => 70,
            Self::TimedOut => 75,
            Self::Refused => 77,
            Self::NoSuchPrimitive => 78,
            Self::Lost => 79,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}
