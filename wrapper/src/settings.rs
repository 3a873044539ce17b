//! Everything that can be set, described once: flag, variable, what is accepted, the default, and what it means.
//!
//! The command line, the variables that are known, the messages about wrong values, the help and the reference page
//! (`docs/konductor-run.md`) all come from this table, so that none of them can tell something else than another.

/// One thing that can be set.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The flag, with its dashes; absent for what only a variable sets.
    pub(crate) flag: Option<&'static str>,
    /// The variable; absent for what only a flag asks for.
    pub(crate) variable: Option<&'static str>,
    /// Under which heading the help shows the setting.
    pub(crate) topic: Topic,
    /// Whether the flag can be given several times, and the variable is a list separated by commas.
    pub(crate) repeats: bool,
    /// What the flag means without a value; absent when it needs one. With one it is written `--flag=value`.
    pub(crate) alone: Option<&'static str>,
    /// The form of a value, as the help shows it.
    pub(crate) value: &'static str,
    /// What is accepted, as a message about a wrong value says it.
    pub(crate) accepts: &'static str,
    /// What holds when nothing is set.
    pub(crate) default: Option<&'static str>,
    /// What the setting means.
    pub(crate) meaning: &'static str,
}

/// What a person looks for in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// What to hold, and as whom.
    Hold,
    /// How long to wait for it.
    Wait,
    /// What happens when the command ends or must end.
    End,
    /// What happens to signals.
    Signals,
    /// What is logged.
    Log,
    /// What the pod is, where it cannot be found out. Only variables.
    Pod,
    /// Everything else.
    Other,
}

impl Topic {
    /// The topic's heading in the help.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Hold => "What to hold",
            Self::Wait => "Waiting for it",
            Self::End => "How it ends",
            Self::Signals => "Signals",
            Self::Log => "Log, on stderr",
            Self::Pod => "The pod, where it cannot be found out",
            Self::Other => "Other",
        }
    }
}

/// What most settings are: one value, from a flag or a variable.
const ONE: Setting = Setting {
    flag: None,
    variable: None,
    topic: Topic::Other,
    repeats: false,
    alone: None,
    value: "",
    accepts: "",
    default: None,
    meaning: "",
};

pub(crate) const SEMAPHORE: Setting = Setting {
    flag: Some("--semaphore"),
    variable: Some("KONDUCTOR_SEMAPHORE"),
    topic: Topic::Hold,
    repeats: true,
    value: "NAME[:N]",
    accepts: "NAME or NAME:N, a Kubernetes name and how many permits (1 to 1000000)",
    meaning: "Hold N permits of a semaphore while the command runs; one without N",
    ..ONE
};
pub(crate) const LEASE: Setting = Setting {
    flag: Some("--lease"),
    variable: Some("KONDUCTOR_LEASE"),
    topic: Topic::Hold,
    repeats: true,
    value: "NAME",
    accepts: "the name of a lease (leases.konductor.io)",
    meaning: "Hold a lease (leases.konductor.io) while the command runs",
    ..ONE
};
pub(crate) const PRIORITY: Setting = Setting {
    flag: Some("--priority"),
    variable: Some("KONDUCTOR_PRIORITY"),
    topic: Topic::Hold,
    value: "NUMBER",
    accepts: "a whole number from -2147483648 to 2147483647",
    default: Some("0"),
    meaning: "Higher goes first, and who asked earlier among equals",
    ..ONE
};
pub(crate) const TTL: Setting = Setting {
    flag: Some("--ttl"),
    variable: Some("KONDUCTOR_TTL"),
    topic: Topic::Hold,
    value: "DURATION",
    accepts: "a duration from 5s to 24h",
    default: Some("what the semaphore or lease says"),
    meaning: "How long a claim outlives its last renewal, 5s to 24h",
    ..ONE
};
pub(crate) const HOLDER: Setting = Setting {
    flag: Some("--holder"),
    variable: Some("KONDUCTOR_HOLDER"),
    topic: Topic::Hold,
    value: "NAME",
    accepts: "a text of at most 253 characters",
    default: Some("the pod's name, or the host's and the process id"),
    meaning: "Who asks, as shown to people",
    ..ONE
};
pub(crate) const NAMESPACE: Setting = Setting {
    flag: Some("--namespace"),
    variable: Some("KONDUCTOR_NAMESPACE"),
    topic: Topic::Hold,
    value: "NAME",
    accepts: "the name of a namespace",
    default: Some("the pod's, or that of the kubeconfig's context"),
    meaning: "The namespace of what to hold",
    ..ONE
};
pub(crate) const LOCAL: Setting = Setting {
    flag: Some("--local"),
    variable: Some("KONDUCTOR_LOCAL"),
    topic: Topic::Hold,
    value: "DIR",
    accepts: "the path of a folder",
    default: Some("the cluster"),
    meaning: "No cluster: share what the manifests in this folder define with others on this machine",
    ..ONE
};
pub(crate) const LOCAL_FILESYSTEM_OK: Setting = Setting {
    flag: Some("--local-filesystem-ok"),
    variable: Some("KONDUCTOR_LOCAL_FILESYSTEM_OK"),
    topic: Topic::Other,
    alone: Some("true"),
    value: "BOOL",
    accepts: "true or false",
    meaning: "No other machine uses the filesystem of --local's folder",
    ..ONE
};
pub(crate) const GATE: Setting = Setting {
    flag: Some("--gate"),
    variable: Some("KONDUCTOR_GATE"),
    topic: Topic::Wait,
    repeats: true,
    value: "NAME",
    accepts: "the name of a gate",
    meaning: "Wait until this gate is open; first of all",
    ..ONE
};
pub(crate) const WAIT_BARRIER: Setting = Setting {
    flag: Some("--wait-barrier"),
    variable: Some("KONDUCTOR_WAIT_BARRIER"),
    topic: Topic::Wait,
    repeats: true,
    value: "NAME",
    accepts: "the name of a barrier",
    meaning: "Wait until this barrier is open; first of all",
    ..ONE
};
pub(crate) const WAIT_TIMEOUT: Setting = Setting {
    flag: Some("--wait-timeout"),
    variable: Some("KONDUCTOR_WAIT_TIMEOUT"),
    topic: Topic::Wait,
    value: "DURATION",
    accepts: "a duration like 30s or 5m, or 0 to try once",
    default: Some("for ever"),
    meaning: "Wait no longer than this; 0 tries once",
    ..ONE
};
pub(crate) const ON_TIMEOUT: Setting = Setting {
    flag: Some("--on-timeout"),
    variable: Some("KONDUCTOR_ON_TIMEOUT"),
    topic: Topic::Wait,
    value: "fail|skip",
    accepts: "fail or skip",
    default: Some("fail"),
    meaning: "When that time is over, exit with 75, or with 0 without having run the command",
    ..ONE
};
pub(crate) const GRACE: Setting = Setting {
    flag: Some("--grace"),
    variable: Some("KONDUCTOR_GRACE"),
    topic: Topic::End,
    value: "DURATION",
    accepts: "a duration like 10s",
    default: Some("10s"),
    meaning: "From TERM to KILL, when the command must end or has left processes behind",
    ..ONE
};
pub(crate) const LEFTOVERS: Setting = Setting {
    flag: Some("--leftovers"),
    variable: Some("KONDUCTOR_LEFTOVERS"),
    topic: Topic::End,
    value: "end|leave",
    accepts: "end or leave",
    default: Some("end"),
    meaning: "What happens to processes that the command leaves behind; with anything to hold they are ended",
    ..ONE
};
pub(crate) const EXIT_CODE_MAP: Setting = Setting {
    flag: Some("--exit-code-map"),
    variable: Some("KONDUCTOR_EXIT_CODE_MAP"),
    topic: Topic::End,
    repeats: true,
    value: "A=B",
    accepts: "A=B, two numbers from 0 to 255",
    meaning: "Exit with B when the command has ended with A",
    ..ONE
};
pub(crate) const BARRIER: Setting = Setting {
    flag: Some("--barrier"),
    variable: Some("KONDUCTOR_BARRIER"),
    topic: Topic::End,
    repeats: true,
    value: "NAME",
    accepts: "the name of a barrier",
    meaning: "Arrive at this barrier when the command has ended",
    ..ONE
};
pub(crate) const ARRIVE: Setting = Setting {
    flag: Some("--arrive"),
    variable: Some("KONDUCTOR_ARRIVE"),
    topic: Topic::End,
    value: "success|always",
    accepts: "success or always",
    default: Some("success"),
    meaning: "Arrive only on exit code 0, or always",
    ..ONE
};
pub(crate) const ARRIVAL_KEY: Setting = Setting {
    flag: Some("--arrival-key"),
    variable: Some("KONDUCTOR_ARRIVAL_KEY"),
    topic: Topic::End,
    value: "KEY",
    accepts: "a text of at most 200 characters",
    default: Some("UID of the Job, else of the pod, and the container; else the holder"),
    meaning: "What arrives once; an Indexed Job's index is added",
    ..ONE
};
pub(crate) const SIGNAL_SCOPE: Setting = Setting {
    flag: Some("--signal-scope"),
    variable: Some("KONDUCTOR_SIGNAL_SCOPE"),
    topic: Topic::Signals,
    value: "group|child",
    accepts: "group or child",
    default: Some("group"),
    meaning: "Forward signals to the command's process group, or to the command alone",
    ..ONE
};
pub(crate) const MAP_SIGNAL: Setting = Setting {
    flag: Some("--map-signal"),
    variable: Some("KONDUCTOR_MAP_SIGNAL"),
    topic: Topic::Signals,
    repeats: true,
    value: "A=B",
    accepts: "A=B, two signals like TERM=QUIT, RTMIN+1=USR1 or 15=3; A=0 drops A; A is not KILL, STOP or CHLD",
    meaning: "Forward B to the command when A arrives; 0 drops it",
    ..ONE
};
pub(crate) const PARENT_DEATH_SIGNAL: Setting = Setting {
    flag: Some("--parent-death-signal"),
    variable: Some("KONDUCTOR_PARENT_DEATH_SIGNAL"),
    topic: Topic::Signals,
    value: "SIGNAL",
    accepts: "a signal like TERM, RTMIN+1 or 15",
    default: Some("none"),
    meaning: "What to get when its parent process dies",
    ..ONE
};
pub(crate) const LOG_FORMAT: Setting = Setting {
    flag: Some("--log-format"),
    variable: Some("KONDUCTOR_LOG_FORMAT"),
    topic: Topic::Log,
    value: "text|json",
    accepts: "text or json",
    default: Some("text"),
    meaning: "How to log",
    ..ONE
};
pub(crate) const LOG: Setting = Setting {
    variable: Some("KONDUCTOR_LOG"),
    topic: Topic::Log,
    value: "LEVEL",
    accepts: "error, warn, info, debug or trace",
    default: Some("info"),
    meaning: "The least important that is logged; -v and -q win",
    ..ONE
};
pub(crate) const POD_NAME: Setting = Setting {
    variable: Some("KONDUCTOR_POD_NAME"),
    topic: Topic::Pod,
    value: "NAME",
    accepts: "the name of a pod",
    default: Some("from the service account's token"),
    meaning: "The pod's name",
    ..ONE
};
pub(crate) const POD_UID: Setting = Setting {
    variable: Some("KONDUCTOR_POD_UID"),
    topic: Topic::Pod,
    value: "UID",
    accepts: "a UID of at most 64 letters, digits and hyphens",
    default: Some("from the service account's token"),
    meaning: "The pod's UID",
    ..ONE
};
pub(crate) const POD_NAMESPACE: Setting = Setting {
    variable: Some("KONDUCTOR_POD_NAMESPACE"),
    topic: Topic::Pod,
    value: "NAME",
    accepts: "the name of a namespace",
    default: Some("from the service account's token"),
    meaning: "The pod's namespace; matters where what to hold is in another one",
    ..ONE
};
pub(crate) const POD_CONTAINER: Setting = Setting {
    variable: Some("KONDUCTOR_POD_CONTAINER"),
    topic: Topic::Pod,
    value: "NAME",
    accepts: "the name of a container",
    default: Some("from the mount of the termination log"),
    meaning: "The container's name",
    ..ONE
};
pub(crate) const JOB_UID: Setting = Setting {
    variable: Some("KONDUCTOR_JOB_UID"),
    topic: Topic::Pod,
    value: "UID",
    accepts: "a UID of at most 64 letters, digits and hyphens",
    default: Some("none"),
    meaning: "The UID of the pod's Job, to arrive once for all attempts",
    ..ONE
};
pub(crate) const COPY_TO: Setting = Setting {
    flag: Some("--copy-to"),
    topic: Topic::Other,
    value: "PATH",
    accepts: "the path of a file or folder",
    meaning: "Copy this program to PATH, as an init container, and run nothing",
    ..ONE
};

/// All settings, in the order in which people read about them.
pub(crate) const SETTINGS: [&Setting; 29] = [
    &SEMAPHORE,
    &LEASE,
    &PRIORITY,
    &TTL,
    &HOLDER,
    &NAMESPACE,
    &LOCAL,
    &LOCAL_FILESYSTEM_OK,
    &GATE,
    &WAIT_BARRIER,
    &WAIT_TIMEOUT,
    &ON_TIMEOUT,
    &GRACE,
    &LEFTOVERS,
    &EXIT_CODE_MAP,
    &BARRIER,
    &ARRIVE,
    &ARRIVAL_KEY,
    &SIGNAL_SCOPE,
    &MAP_SIGNAL,
    &PARENT_DEATH_SIGNAL,
    &LOG_FORMAT,
    &LOG,
    &POD_NAME,
    &POD_UID,
    &POD_NAMESPACE,
    &POD_CONTAINER,
    &JOB_UID,
    &COPY_TO,
];

/// For the command: what is held, `KIND/NAME` separated by commas.
pub(crate) const HELD: &str = "KONDUCTOR_HELD";
/// For the command: the fencing token, when exactly one thing is held.
pub(crate) const FENCING_TOKEN: &str = "KONDUCTOR_FENCING_TOKEN";
/// For the command: ids of the process trees that it belongs to. Whatever outlives a `konductor-run` that held
/// something is found by them and killed.
pub(crate) const TREE: &str = "KONDUCTOR_TREE";
/// For the command: what the process trees that it belongs to hold, `LOCK:PERMITS` separated by commas. A
/// `konductor-run` in there that asks for more than is left would wait for itself.
pub(crate) const TREE_HOLDS: &str = "KONDUCTOR_TREE_HOLDS";
/// What the command is told beside the token of each thing that it holds, and what that is.
pub(crate) const EXPORTS: [(&str, &str); 4] = [
    (HELD, "What is held, in the order in which it was taken: `lease/report,semaphore/ware-house`"),
    (FENCING_TOKEN, "The fencing token, when exactly one thing is held"),
    (TREE, "Whose processes these are, should `konductor-run` be killed: not for use, and not to be taken away"),
    (TREE_HOLDS, "What one `konductor-run` inside another need not wait for: not for use either"),
];
/// For the command: `KONDUCTOR_TOKEN_<KIND>_<NAME>`, the fencing token of each thing held.
pub(crate) const TOKEN_PREFIX: &str = "KONDUCTOR_TOKEN_";

/// The variable that carries the fencing token of one thing held: upper case, with `_` for all but letters and digits.
pub(crate) fn token_variable(kind: &str, name: &str) -> String {
    let letters = format!("{kind}_{name}");
    let clean = letters.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    TOKEN_PREFIX.chars().chain(clean).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_setting_is_described_in_full() {
        let mut names = BTreeSet::new();
        for setting in SETTINGS {
            assert!(setting.flag.is_some() || setting.variable.is_some(), "{setting:?}");
            for text in [setting.value, setting.accepts, setting.meaning] {
                assert!(!text.is_empty(), "{setting:?}");
            }
            for name in [setting.flag, setting.variable].into_iter().flatten() {
                assert!(names.insert(name), "{name} is there twice");
            }
        }
    }

    #[test]
    fn a_flag_and_its_variable_have_one_name() {
        for setting in SETTINGS {
            if let (Some(flag), Some(variable)) = (setting.flag, setting.variable) {
                assert_eq!(variable, format!("KONDUCTOR{}", flag[1..].replace('-', "_").to_uppercase()));
            }
        }
    }

    #[test]
    fn token_variables_are_names_that_a_shell_can_read() {
        assert_eq!(token_variable("semaphore", "ware-house.v2"), "KONDUCTOR_TOKEN_SEMAPHORE_WARE_HOUSE_V2");
    }
}
