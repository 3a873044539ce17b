//! The environment: what is in it, and the refusal of variables that look like ours and are not.
//!
//! A misspelt variable would be a lock that nobody takes, so an unknown `KONDUCTOR_...` is an error. An empty value
//! counts as unset, because a template often leaves one behind; nothing is ever empty on purpose here.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use crate::{
    settings::{EXPORTS, SEMAPHORE, SETTINGS, TOKEN_PREFIX, TREE_HOLDS},
    trace::{TRACEPARENT, TraceId},
};

const PREFIX: &str = "KONDUCTOR_";

/// How many letters a variable may be off one of ours to be taken for a mistake.
const NEARLY: usize = 2;

/// Why the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// Nothing reads this variable.
    #[error("unknown variable {name}: did you mean {nearest}?")]
    Unknown {
        /// The variable that nothing reads.
        name: String,
        /// The known one that is spelt most alike.
        nearest: &'static str,
    },
    /// Its value is not text.
    #[error("{name}: wanted UTF-8 text")]
    NotText {
        /// The variable whose value is not text.
        name: &'static str,
    },
}

/// The environment as found.
#[derive(Clone, Debug)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// An environment of these variables.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// Refuses variables that begin like ours and that nothing reads.
    pub(crate) fn refuse_unknown(&self) -> Result<(), EnvironmentError> {
        for (name, _) in &self.0 {
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) && !is_known(&name) {
                return Err(EnvironmentError::Unknown { nearest: nearest(&name), name: name.into_owned() });
            }
        }
        Ok(())
    }

    /// The value of a variable that is read; none when it is empty.
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

    /// How much those who run this process hold of locks, by the locks' ids. What cannot be read is of another version,
    /// and says nothing.
    pub(crate) fn held_around(&self) -> BTreeMap<String, u64> {
        let text = self.raw(TREE_HOLDS).and_then(OsStr::to_str).unwrap_or_default();
        let held = text.split(',').filter_map(|held| {
            let (lock, permits) = held.rsplit_once(':')?;
            Some((lock.to_owned(), permits.parse().ok()?))
        });
        held.filter(|(lock, _)| !lock.is_empty()).collect()
    }

    /// The trace that this run is part of, if it is said in the way that is agreed on.
    pub(crate) fn trace(&self) -> Option<TraceId> {
        TraceId::of(self.raw(TRACEPARENT)?.to_str()?)
    }

    /// Names of variables that nothing reads and that are one or two letters off one that is, or written in another
    /// case; each with that one. Other programs have variables, too: these are for a warning.
    pub(crate) fn nearly_ours(&self) -> Vec<(String, &'static str)> {
        let nearly = |name: &str| {
            let upper = name.to_ascii_uppercase();
            if !begins_nearly_like_ours(&upper) {
                return None;
            }
            let near = inputs().map(|input| (strsim::damerau_levenshtein(input, &upper), input));
            near.filter(|(distance, _)| *distance <= NEARLY).min().map(|(_, input)| input)
        };
        let foreign = self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.to_string_lossy());
        let foreign = foreign.filter(|name| !name.starts_with(PREFIX));
        foreign.filter_map(|name| Some((name.to_string(), nearly(&name)?))).collect()
    }

    /// The command's environment: this one with some variables replaced or, without a value, taken out.
    pub(crate) fn with(&self, changes: &[(String, Option<String>)]) -> Vec<(OsString, OsString)> {
        let kept = self.0.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| name == changed.as_str()));
        let added = changes.iter().filter_map(|(name, value)| Some((name.into(), value.as_ref()?.into())));
        kept.cloned().chain(added).collect()
    }
}

/// Whether a closer look is worth its time, at a start that is to take no longer than a millisecond. Two letters that
/// are off, or two pairs that are swapped, leave one of these three pairs as it is, not far from its place.
fn begins_nearly_like_ours(name: &str) -> bool {
    [(0, "KO"), (3, "DU"), (6, "TO")].into_iter().any(|(at, pair): (usize, &str)| {
        let (from, to) = (at.saturating_sub(NEARLY), name.len().min(at + NEARLY + pair.len()));
        let near = name.as_bytes().get(from..to).unwrap_or_default();
        near.windows(pair.len()).any(|found| found == pair.as_bytes())
    })
}

/// What [`Environment::held_around`] reads.
pub(crate) fn print_held(held: &BTreeMap<String, u64>) -> String {
    let known = held.iter().filter(|(lock, _)| !lock.is_empty());
    known.map(|(lock, permits)| format!("{lock}:{permits}")).collect::<Vec<_>>().join(",")
}

fn is_known(name: &str) -> bool {
    let exported = EXPORTS.iter().any(|(export, _)| *export == name) || name.starts_with(TOKEN_PREFIX);
    exported || inputs().any(|input| input == name) || is_service_variable(name)
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

/// All that a person may set.
fn inputs() -> impl Iterator<Item = &'static str> {
    SETTINGS.into_iter().filter_map(|setting| setting.variable)
}

fn nearest(name: &str) -> &'static str {
    inputs().min_by_key(|input| strsim::damerau_levenshtein(input, name)).or(SEMAPHORE.variable).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::{FENCING_TOKEN, HELD};

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn unknown_variables_are_refused_with_the_nearest_known_one() {
        for (name, expected) in [
            ("KONDUCTOR_SEMAPHOR", Some("KONDUCTOR_SEMAPHORE")),
            ("KONDUCTOR_TIMEOUT", Some("KONDUCTOR_ON_TIMEOUT")),
            ("KONDUCTOR_WAITTIMEOUT", Some("KONDUCTOR_WAIT_TIMEOUT")),
            ("KONDUCTOR_", Some("KONDUCTOR_TTL")),
            ("KONDUCTOR_GRACE", None),
            ("KONDUCTOR_HOLDER", None),
            ("KONDUCTOR_POD_UID", None),
            ("KONDUCTOR_TOKEN_SEMAPHORE_A", None),
            ("KONDUCTOR_FENCING_TOKEN", None),
            ("KONDUCTOR_HELD", None),
            ("KONDUCTORX", None),
            ("PATH", None),
        ] {
            let nearest = environment(&[(name, "x")]).refuse_unknown().err().map(|error| match error {
                EnvironmentError::Unknown { nearest, .. } => nearest,
                EnvironmentError::NotText { name } => name,
            });
            assert_eq!(nearest, expected, "{name}");
        }
    }

    #[test]
    fn what_is_one_or_two_letters_off_is_told_with_the_one_that_was_meant() {
        for (name, expected) in [
            ("KONDUKTOR_SEMAPHORE", Some("KONDUCTOR_SEMAPHORE")),
            ("CONDUCTOR_SEMAPHORE", Some("KONDUCTOR_SEMAPHORE")),
            ("KONDUCTER_LEASE", Some("KONDUCTOR_LEASE")),
            ("KONDUKTOR_WAIT_TIMOUT", Some("KONDUCTOR_WAIT_TIMEOUT")),
            ("KNODUTCOR_GATE", Some("KONDUCTOR_GATE")),
            ("KONDUCTORSEMAPHORE", Some("KONDUCTOR_SEMAPHORE")),
            ("konductor_semaphore", Some("KONDUCTOR_SEMAPHORE")),
            ("Konductor_Semaphore", Some("KONDUCTOR_SEMAPHORE")),
            ("_KONDUCTOR_TTL", Some("KONDUCTOR_TTL")),
            ("CONDUCTOR_URL", None),
            ("KONDIKTER_SEMAFORE", None),
            ("KONDUCTOR_SEMAPHORE", None),
            ("KONDUCTOR", None),
            ("HISTORY", None),
            ("", None),
            ("éé KONDUCTOR_TTL", None),
        ] {
            let found = environment(&[(name, "x")]).nearly_ours();
            let expected: Vec<_> = expected.map(|meant| (name.to_owned(), meant)).into_iter().collect();
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(environment(&[("KONDUKTOR_SEMAPHORE", "")]).nearly_ours(), [], "empty is unset");
    }

    #[test]
    fn what_is_held_around_is_read_as_it_was_written() {
        let held = BTreeMap::from([("fd01-1c3/semaphore/turns".to_owned(), 2), ("3f2a-b".to_owned(), 1)]);
        let text = print_held(&held);
        assert_eq!(text, "3f2a-b:1,fd01-1c3/semaphore/turns:2");
        assert_eq!(environment(&[(TREE_HOLDS, &text)]).held_around(), held);
        for text in ["", ",", "a", "a:", "a:b", ":1", "a:-1"] {
            assert_eq!(environment(&[(TREE_HOLDS, text)]).held_around(), BTreeMap::new(), "{text}");
        }
    }

    proptest! {
        /// No name that is so near is left out by the first look.
        #[test]
        fn the_first_look_lets_all_through_that_are_near(
            input in prop::sample::select(inputs().collect::<Vec<_>>()),
            edits in prop::collection::vec((0..40_usize, 0..4_u8, "[A-Z_]"), 0..=NEARLY),
        ) {
            let mut name: Vec<char> = input.chars().collect();
            for (at, edit, letter) in edits {
                let (at, letter) = (at % name.len(), letter.chars().next().unwrap());
                match edit {
                    0 => name[at] = letter,
                    1 => name.insert(at, letter),
                    2 => _ = name.remove(at),
                    _ if at + 1 < name.len() => name.swap(at, at + 1),
                    _ => {}
                }
            }
            let name: String = name.into_iter().collect();
            prop_assert!(begins_nearly_like_ours(&name), "{}", name);
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
        let environment = environment(&[("KONDUCTOR_TTL", ""), ("KONDUCTOR_GRACE", "1s")]);
        assert_eq!((environment.get("KONDUCTOR_TTL"), environment.get("KONDUCTOR_GRACE")), (Ok(None), Ok(Some("1s"))));
    }

    #[test]
    fn the_commands_environment_has_only_the_changes() {
        let environment = environment(&[("A", "1"), (HELD, "outer"), (FENCING_TOKEN, "9"), ("B", "2")]);
        let changes = [(HELD.to_owned(), Some("inner".to_owned())), (FENCING_TOKEN.to_owned(), None)];
        let expected = [("A", "1"), ("B", "2"), (HELD, "inner")].map(|(k, v)| (OsString::from(k), OsString::from(v)));
        assert_eq!(environment.with(&changes), expected);
    }
}
