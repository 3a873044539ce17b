//! Exit codes of Konductor's command lines: a command's own, passed through exactly, and those of the program itself.
//!
//! Konductor's own ones are those of sysexits.h where it has a fitting one, and above all distinct: a Job's
//! `podFailurePolicy` can tell "try again" (69, 75, 79) from "a person must act" (64, 77, 78).
//!
//! A barrier or gate that has failed has a code of its own, 76: whether that is final (a barrier that is never reset)
//! or over by the next attempt (one that begins a new round, or a gate that opens late) only the Job's author knows,
//! and can say in the policy; 75 would try again for ever, and 77 speaks of permissions.
//!
//! ```
//! use konductor::{AcquireError, Exit};
//!
//! let error = AcquireError::Name("No Name".into());
//! assert_eq!(Exit::from(&error).code(), 77);
//! ```

use crate::{AcquireError, ConnectError, LossReason, RendezvousError};

/// How one of Konductor's programs ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// With the code of the command that was run, or with 0 for a success of the program itself.
    Code(u8),
    /// The command was killed by this signal, or the program was before it had started the command.
    Signal(i32),
    /// Timed out while waiting, and asked to call that a success.
    Skipped,
    /// Wrong flag, argument or environment variable.
    Usage,
    /// No cluster to talk to, or it never answered.
    Unreachable,
    /// The system refused something that the program cannot work without, or there is a defect in it.
    Internal,
    /// Timed out while waiting.
    TimedOut,
    /// What was waited for has failed.
    Failed,
    /// The cluster refuses (RBAC or an admission policy), or this pod has no token to ask it with, or somebody revoked
    /// the claim before it was held, or the folder that takes a cluster's place cannot be used.
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

/// The codes that are Konductor's own: each with what it means, and what to do about it.
pub const OWN: [(Exit, &str, &str); 10] = [
    (
        Exit::Usage,
        "wrong flag, argument or variable, or what only its own end would free",
        "correct what the message names",
    ),
    (
        Exit::Unreachable,
        "the cluster cannot be reached, or never answered",
        "try again; see that there is a way to the API server",
    ),
    (
        Exit::Internal,
        "the system refuses what is needed, or a defect",
        "the message names the call that was refused and what to do; report a defect",
    ),
    (Exit::TimedOut, "timed out while waiting", "try again later"),
    (
        Exit::Failed,
        "a barrier or gate that was waited for has failed",
        "see why (kubectl describe); a failed barrier opens when its spec is edited, or begins anew",
    ),
    (
        Exit::Refused,
        "refused by the cluster, no token, revoked, or the folder of --local cannot be used",
        "grant what the message names (RBAC), satisfy the admission policy, mount the token, or repair the folder",
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
    pub fn code(self) -> u8 {
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

impl From<&AcquireError> for Exit {
    fn from(error: &AcquireError) -> Self {
        match error {
            AcquireError::NotInstalled { .. } | AcquireError::NoNamespace { .. } => Self::NoSuchPrimitive,
            AcquireError::System(_) => Self::Internal,
            AcquireError::Refused { .. }
            | AcquireError::Name(_)
            | AcquireError::Folder(_)
            | AcquireError::Revoked(_)
            | AcquireError::Orphaned(_) => Self::Refused,
        }
    }
}

impl From<&RendezvousError> for Exit {
    fn from(error: &RendezvousError) -> Self {
        match error {
            RendezvousError::Failed(_) => Self::Failed,
            RendezvousError::NeedsCluster => Self::Refused,
            RendezvousError::Request(error) => error.into(),
        }
    }
}

impl From<&ConnectError> for Exit {
    /// Whatever keeps a program from connecting, nothing can be asked of the cluster. But a pod that is given no token
    /// has none in its next attempt either.
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::NoToken { .. } => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

impl From<&LossReason> for Exit {
    /// Whatever the reason, what ran was not protected to its end.
    fn from(_: &LossReason) -> Self {
        Self::Lost
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn own_codes_are_distinct_and_never_a_success() {
        let codes: BTreeSet<_> = OWN.iter().map(|(exit, ..)| exit.code()).collect();
        assert_eq!(codes.len(), OWN.len());
        assert!(!codes.contains(&0) && codes.iter().all(|code| *code < 128), "{codes:?}");
    }

    #[test]
    fn signals_are_told_as_shells_tell_them() {
        assert_eq!([1, 15, 64, 200, -1].map(|signal| Exit::Signal(signal).code()), [129, 143, 192, 255, 255]);
    }

    #[test]
    fn each_error_has_its_code() {
        let refused = AcquireError::Refused { operation: "create the claim", message: "no".to_owned() };
        let absent = AcquireError::NotInstalled { operation: "create the claim", message: "no".to_owned() };
        let nowhere = AcquireError::NoNamespace { operation: "create the claim", message: "no".to_owned() };
        for (error, code) in [
            (refused.clone(), 77),
            (AcquireError::Revoked("revoked: maintenance".to_owned()), 77),
            (AcquireError::Orphaned("warehouse-1".to_owned()), 77),
            (AcquireError::Name("A".to_owned()), 77),
            (AcquireError::Folder("no folder".to_owned()), 77),
            (AcquireError::System("no timer".to_owned()), 70),
            (absent, 78),
            (nowhere, 78),
        ] {
            assert_eq!(Exit::from(&error).code(), code, "{error}");
            assert_eq!(Exit::from(&RendezvousError::Request(error.clone())).code(), code, "{error}");
        }
        assert_eq!(Exit::from(&RendezvousError::Failed("2 of 3".to_owned())).code(), 76);
        assert_eq!(Exit::from(&RendezvousError::NeedsCluster).code(), 77);
        assert_eq!(Exit::from(&ConnectError::Namespace("A".to_owned())).code(), 69);
        let no_token = ConnectError::NoToken { source: "no kubeconfig".into() };
        assert_eq!(Exit::from(&no_token).code(), 77);
        assert_eq!(Exit::from(&LossReason::Expired).code(), 79);
    }
}
