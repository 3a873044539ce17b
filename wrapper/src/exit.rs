//! Exit codes: the command's own, passed through exactly, and those of `konductor-run` itself.
//!
//! The own ones are those of sysexits.h where it has a fitting one, and above all distinct: a Job's `podFailurePolicy`
//! can tell "try again" (69, 75, 79) from "a person must act" (64, 77, 78).
//!
//! A barrier or gate that has failed has a code of its own, 76: whether that is final (a barrier that is never reset) or over by
//! the next attempt (one that begins a new round, or a gate that opens late) only the Job's author knows, and can say
//! in the policy; 75 would try again for ever, and 77 speaks of permissions.

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
    /// What was waited for has failed.
    Failed,
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
pub(crate) const OWN: [(Exit, &str, &str); 10] = [
    (Exit::Usage, "wrong flag, argument or variable", "correct what the message names"),
    (
        Exit::Unreachable,
        "the cluster cannot be reached, or never answered",
        "try again; see that there is a way to the API server",
    ),
    (Exit::Internal, "the system refuses what is needed, or a defect", "the message says which; report a defect"),
    (Exit::TimedOut, "timed out while waiting", "try again later"),
    (
        Exit::Failed,
        "a barrier or gate that was waited for has failed",
        "see why (kubectl describe); a failed barrier opens when its spec is edited, or begins anew",
    ),
    (
        Exit::Refused,
        "the cluster refuses, the claim was revoked, or the folder of --local cannot be used",
        "grant what the message names (RBAC), satisfy the admission policy, or repair the folder",
    ),
    (
        Exit::NoSuchPrimitive,
        "no such semaphore, lease, barrier or gate, and not to be waited for",
        "create it, or install Konductor",
    ),
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
            Self::Failed => 76,
            Self::Refused => 77,
            Self::NoSuchPrimitive => 78,
            Self::Lost => 79,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}
