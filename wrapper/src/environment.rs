//! The environment variables: every name that is read or written, and the refusal of all others that begin alike.
//!
//! A misspelt variable would be a lock that nobody takes, so an unknown `KONDUCTOR_...` is an error. An empty value counts
//! as unset, because a template often leaves one behind; nothing is ever empty on purpose here.

use std::ffi::{OsStr, OsString};

/// Semaphores to hold: `NAME[:N]`, separated by commas.
pub(crate) const SEMAPHORE: &str = "KONDUCTOR_SEMAPHORE";
/// How long to wait.
pub(crate) const WAIT_TIMEOUT: &str = "KONDUCTOR_WAIT_TIMEOUT";
/// What a timed-out wait is.
pub(crate) const ON_TIMEOUT: &str = "KONDUCTOR_ON_TIMEOUT";
/// Time to live of the claims.
pub(crate) const TTL: &str = "KONDUCTOR_TTL";
/// From TERM to KILL.
pub(crate) const GRACE: &str = "KONDUCTOR_GRACE";
/// The namespace of what is asked for.
pub(crate) const NAMESPACE: &str = "KONDUCTOR_NAMESPACE";
/// Priority in the queue.
pub(crate) const PRIORITY: &str = "KONDUCTOR_PRIORITY";
/// Who asks. Also set for the command.
pub(crate) const HOLDER: &str = "KONDUCTOR_HOLDER";
/// How the log is written.
pub(crate) const LOG_FORMAT: &str = "KONDUCTOR_LOG_FORMAT";
/// How much is logged.
pub(crate) const LOG: &str = "KONDUCTOR_LOG";
/// The pod's name, where it cannot be found out.
pub(crate) const POD_NAME: &str = "KONDUCTOR_POD_NAME";
/// The pod's UID, where it cannot be found out.
pub(crate) const POD_UID: &str = "KONDUCTOR_POD_UID";
/// The container's name, where it cannot be found out.
pub(crate) const POD_CONTAINER: &str = "KONDUCTOR_POD_CONTAINER";

/// For the command: the fencing token, when exactly one thing is held.
pub(crate) const FENCING_TOKEN: &str = "KONDUCTOR_FENCING_TOKEN";
/// For the command: what is held, `semaphore/NAME` separated by commas.
pub(crate) const HELD: &str = "KONDUCTOR_HELD";
/// For the command: `KONDUCTOR_TOKEN_<KIND>_<NAME>`, the fencing token of each thing held.
const TOKEN: &str = "KONDUCTOR_TOKEN_";

const PREFIX: &str = "KONDUCTOR_";

/// All that a person may set.
const INPUTS: [&str; 13] = [
    SEMAPHORE,
    WAIT_TIMEOUT,
    ON_TIMEOUT,
    TTL,
    GRACE,
    NAMESPACE,
    PRIORITY,
    HOLDER,
    LOG_FORMAT,
    LOG,
    POD_NAME,
    POD_UID,
    POD_CONTAINER,
];

/// The variable that carries the fencing token of one thing held: upper case, with `_` for all but letters and digits.
pub(crate) fn token_variable(kind: &str, name: &str) -> String {
    let letters = format!("{kind}_{name}");
    let clean = letters.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    TOKEN.chars().chain(clean).collect()
}

/// Why the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// Nothing reads this variable.
    #[error("unknown variable {name}: did you mean {nearest}?")]
    Unknown {
        /// The variable.
        name: String,
        /// The known one that is spelt most alike.
        nearest: &'static str,
    },
    /// Its value is not text.
    #[error("{name}: wanted UTF-8 text")]
    NotText {
        /// The variable.
        name: &'static str,
    },
}

/// The environment as found, with no unknown variable of ours in it.
#[derive(Clone, Debug)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Takes the variables, unless one of them is misspelt.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, EnvironmentError> {
        let variables: Vec<_> = variables.into_iter().collect();
        for (name, _) in &variables {
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) && !is_known(&name) {
                return Err(EnvironmentError::Unknown { nearest: nearest(&name), name: name.into_owned() });
            }
        }
        Ok(Self(variables))
    }

    /// The value of one of the variables above; none when it is empty.
    pub(crate) fn get(&self, name: &'static str) -> Result<Option<&str>, EnvironmentError> {
        match self.raw(name).map(OsStr::to_str) {
            None | Some(Some("")) => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(EnvironmentError::NotText { name }),
        }
    }

    /// Any variable's value, as it is.
    pub(crate) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }

    /// The command's environment: this one with some variables replaced or, without a value, taken out.
    pub(crate) fn with(&self, changes: &[(String, Option<String>)]) -> Vec<(OsString, OsString)> {
        let kept = self.0.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| name == changed.as_str()));
        let added = changes.iter().filter_map(|(name, value)| Some((name.into(), value.as_ref()?.into())));
        kept.cloned().chain(added).collect()
    }
}

fn is_known(name: &str) -> bool {
    let exported = name == FENCING_TOKEN || name == HELD || name.starts_with(TOKEN);
    exported || INPUTS.contains(&name) || is_service_variable(name)
}

/// Whether Kubernetes set it for a Service called `konductor` or `konductor-...`: `..._SERVICE_HOST`,
/// `..._SERVICE_PORT[_NAME]`, `..._PORT` and `..._PORT_443_TCP[_PROTO|_PORT|_ADDR]`.
fn is_service_variable(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("KONDUCTOR") else { return false };
    if rest.ends_with("_SERVICE_HOST") || rest.ends_with("_PORT") || rest.contains("_SERVICE_PORT_") {
        return true;
    }
    rest.rmatch_indices("_PORT_").any(|(at, found)| {
        let mut parts = rest[at + found.len()..].split('_');
        let number = parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        let protocol = parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part));
        number && protocol && parts.next().is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part))
    })
}

fn nearest(name: &str) -> &'static str {
    INPUTS.into_iter().min_by_key(|input| strsim::damerau_levenshtein(input, name)).unwrap_or(SEMAPHORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn unknown_variables_are_refused_with_the_nearest_known_one() {
        for (name, expected) in [
            ("KONDUCTOR_SEMAPHOR", Some(SEMAPHORE)),
            ("KONDUCTOR_TIMEOUT", Some(ON_TIMEOUT)),
            ("KONDUCTOR_WAITTIMEOUT", Some(WAIT_TIMEOUT)),
            ("KONDUCTOR_", Some(TTL)),
            ("KONDUCTOR_GRACE", None),
            ("KONDUCTOR_HOLDER", None),
            ("KONDUCTOR_POD_UID", None),
            ("KONDUCTOR_TOKEN_SEMAPHORE_A", None),
            ("KONDUCTOR_FENCING_TOKEN", None),
            ("KONDUCTOR_HELD", None),
            ("KONDUCTORX", None),
            ("PATH", None),
        ] {
            let nearest = environment(&[(name, "x")]).err().map(|error| match error {
                EnvironmentError::Unknown { nearest, .. } => nearest,
                EnvironmentError::NotText { name } => name,
            });
            assert_eq!(nearest, expected, "{name}");
        }
    }

    #[test]
    fn what_kubernetes_sets_for_services_is_let_through() {
        for (name, expected) in [
            ("KONDUCTOR_SERVICE_HOST", true),
            ("KONDUCTOR_SERVICE_PORT", true),
            ("KONDUCTOR_SERVICE_PORT_HTTPS", true),
            ("KONDUCTOR_PORT", true),
            ("KONDUCTOR_PORT_443_TCP", true),
            ("KONDUCTOR_PORT_443_TCP_ADDR", true),
            ("KONDUCTOR_OPERATOR_METRICS_SERVICE_HOST", true),
            ("KONDUCTOR_OPERATOR_METRICS_PORT_8080_UDP_PROTO", true),
            ("KONDUCTOR_PORT_PORT_443_TCP", true),
            ("KONDUCTOR_PORT_443", false),
            ("KONDUCTOR_PORT_X_TCP", false),
            ("KONDUCTOR_PORT__TCP", false),
            ("KONDUCTOR_SERVICE", false),
            ("KONDUCTOR_SEMAPHORE_HOST", false),
        ] {
            assert_eq!(is_service_variable(name), expected, "{name}");
        }
    }

    #[test]
    fn empty_is_unset() {
        let environment = environment(&[(TTL, ""), (GRACE, "1s")]).unwrap();
        assert_eq!((environment.get(TTL), environment.get(GRACE)), (Ok(None), Ok(Some("1s"))));
    }

    #[test]
    fn the_commands_environment_has_only_the_changes() {
        let environment = environment(&[("A", "1"), (HELD, "outer"), (FENCING_TOKEN, "9"), ("B", "2")]).unwrap();
        let changes = [(HELD.to_owned(), Some("inner".to_owned())), (FENCING_TOKEN.to_owned(), None)];
        let expected = [("A", "1"), ("B", "2"), (HELD, "inner")].map(|(k, v)| (OsString::from(k), OsString::from(v)));
        assert_eq!(environment.with(&changes), expected);
    }

    #[test]
    fn token_variables_are_names_that_a_shell_can_read() {
        assert_eq!(token_variable("semaphore", "ware-house.v2"), "KONDUCTOR_TOKEN_SEMAPHORE_WARE_HOUSE_V2");
    }
}
