//! From flags and variables to what they mean. Whatever is in a [`Config`] is valid.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use konductor_api::{
    GoDuration,
    limits::{MAX_HOLDER, MAX_NAME, MAX_PERMITS, MAX_TTL, MIN_TTL},
};
use tracing::level_filters::LevelFilter;

use crate::{
    cli::Args,
    environment::{self, Environment, EnvironmentError},
};

/// TERM to KILL unless said otherwise: the time that most programs need at most, and a third of what the kubelet gives.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Length of a namespace's name in Kubernetes.
const MAX_NAMESPACE: usize = 63;

/// All that can be configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The command and its arguments; at least one.
    pub(crate) command: Vec<OsString>,
    /// The environment as found.
    pub(crate) environment: Environment,
    /// What to hold, in the one order in which every wrapper takes them.
    pub(crate) semaphores: Vec<Wanted>,
    /// How long to wait; for ever when absent.
    pub(crate) wait_timeout: Option<Duration>,
    /// Whether a timed-out wait is a success.
    pub(crate) skip_on_timeout: bool,
    /// TTL of the claims; the parent's when absent.
    pub(crate) ttl: Option<Duration>,
    /// From TERM to KILL.
    pub(crate) grace: Duration,
    /// The namespace, when it is not the default one.
    pub(crate) namespace: Option<String>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Who asks, when it was said.
    pub(crate) holder: Option<String>,
    /// How to log.
    pub(crate) log: Log,
}

impl Default for Log {
    fn default() -> Self {
        Self { json: false, level: LevelFilter::INFO }
    }
}

/// Permits of one semaphore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The semaphore.
    pub(crate) name: String,
    /// How many of its permits.
    pub(crate) permits: u32,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// One JSON object a line, instead of text.
    pub(crate) json: bool,
    /// The least important that is shown.
    pub(crate) level: LevelFilter,
}

/// Why there is no [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A flag or a variable has a value that does not fit.
    #[error("{setting}: wanted {wanted}, found {found:?}")]
    Value {
        /// The flag or variable.
        setting: &'static str,
        /// What is accepted.
        wanted: &'static str,
        /// What was there.
        found: String,
    },
    /// A variable that cannot be used.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The same thing twice.
    #[error("{0} is asked for twice")]
    Twice(String),
    /// Two names that differ only in punctuation.
    #[error("semaphores {0} and {1} would export their fencing tokens under one name: use only one of them")]
    SameVariable(String, String),
}

/// Where one setting can come from, and what fits.
struct Setting {
    flag: &'static str,
    variable: &'static str,
    wanted: &'static str,
}

impl Setting {
    /// The value: the flag's if it was given, else the variable's.
    fn read<T>(
        &self,
        given: Option<String>,
        environment: &Environment,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let (setting, text) = match (given, environment.get(self.variable)?) {
            (Some(text), _) => (self.flag, text),
            (None, Some(text)) => (self.variable, text.to_owned()),
            (None, None) => return Ok(None),
        };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::Value { setting, wanted: self.wanted, found: text }),
        }
    }
}

const WAIT_TIMEOUT: Setting = Setting {
    flag: "--wait-timeout",
    variable: environment::WAIT_TIMEOUT,
    wanted: "a duration like 30s or 5m, or 0 to try once",
};
const ON_TIMEOUT: Setting = Setting { flag: "--on-timeout", variable: environment::ON_TIMEOUT, wanted: "fail or skip" };
const TTL: Setting = Setting { flag: "--ttl", variable: environment::TTL, wanted: "a duration from 5s to 24h" };
const GRACE: Setting = Setting { flag: "--grace", variable: environment::GRACE, wanted: "a duration like 10s" };
const NAMESPACE: Setting =
    Setting { flag: "--namespace", variable: environment::NAMESPACE, wanted: "the name of a namespace" };
const PRIORITY: Setting = Setting {
    flag: "--priority",
    variable: environment::PRIORITY,
    wanted: "a whole number from -2147483648 to 2147483647",
};
const HOLDER: Setting =
    Setting { flag: "--holder", variable: environment::HOLDER, wanted: "a text of at most 253 characters" };
const LOG_FORMAT: Setting = Setting { flag: "--log-format", variable: environment::LOG_FORMAT, wanted: "text or json" };
const LOG: Setting =
    Setting { flag: "--verbose", variable: environment::LOG, wanted: "error, warn, info, debug or trace" };
const SEMAPHORE: Setting = Setting {
    flag: "--semaphore",
    variable: environment::SEMAPHORE,
    wanted: "NAME or NAME:N, a Kubernetes name and how many permits (1 to 1000000)",
};

impl Config {
    /// Flags win over variables. Every flag is used: the pattern names them all.
    pub(crate) fn new(args: Args, environment: Environment) -> Result<Self, ConfigError> {
        let Args {
            semaphore,
            wait_timeout,
            on_timeout,
            ttl,
            grace,
            namespace,
            priority,
            holder,
            log_format,
            verbose,
            quiet,
            command,
        } = args;
        let env = &environment;
        let log = Log {
            json: LOG_FORMAT
                .read(log_format, env, |text| one_of(text, [("text", false), ("json", true)]))?
                .unwrap_or(false),
            level: level(verbose, quiet, env)?,
        };
        Ok(Self {
            semaphores: semaphores(semaphore, env)?,
            wait_timeout: WAIT_TIMEOUT.read(wait_timeout, env, duration)?,
            skip_on_timeout: ON_TIMEOUT
                .read(on_timeout, env, |text| one_of(text, [("fail", false), ("skip", true)]))?
                .unwrap_or(false),
            ttl: TTL.read(ttl, env, |text| duration(text).filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl)))?,
            grace: GRACE.read(grace, env, duration)?.unwrap_or(DEFAULT_GRACE),
            namespace: NAMESPACE.read(namespace, env, |text| {
                (is_name(text, MAX_NAMESPACE) && !text.contains('.')).then(|| text.to_owned())
            })?,
            priority: PRIORITY.read(priority, env, |text| text.parse().ok())?.unwrap_or(0),
            holder: HOLDER.read(holder, env, |text| {
                (1..=MAX_HOLDER as usize).contains(&text.chars().count()).then(|| text.to_owned())
            })?,
            log,
            command,
            environment,
        })
    }
}

fn one_of<T>(text: &str, choices: impl IntoIterator<Item = (&'static str, T)>) -> Option<T> {
    choices.into_iter().find_map(|(name, value)| (name == text).then_some(value))
}

fn duration(text: &str) -> Option<Duration> {
    text.parse::<GoDuration>().ok().map(|duration| duration.0)
}

fn level(verbose: u8, quiet: u8, environment: &Environment) -> Result<LevelFilter, ConfigError> {
    let levels = ["error", "warn", "info", "debug", "trace"].into_iter().zip([
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ]);
    let set = LOG.read(None, environment, |text| one_of(text, levels))?;
    Ok(match (verbose, quiet) {
        (0, 0) => set.unwrap_or(LevelFilter::INFO),
        (1, _) => LevelFilter::DEBUG,
        (0, 1) => LevelFilter::WARN,
        (0, _) => LevelFilter::ERROR,
        _ => LevelFilter::TRACE,
    })
}

/// What to hold, by name: the same order in every wrapper, so that two of them never wait for each other.
fn semaphores(flags: Vec<String>, environment: &Environment) -> Result<Vec<Wanted>, ConfigError> {
    let mut all = Vec::new();
    if flags.is_empty() {
        let list = SEMAPHORE.read(None, environment, |text| text.split(',').map(str::trim).map(wanted).collect())?;
        all = list.unwrap_or_default();
    }
    for flag in flags {
        all.extend(SEMAPHORE.read(Some(flag), environment, wanted)?);
    }
    all.sort_by(|a: &Wanted, b| a.name.cmp(&b.name));
    let mut variables = BTreeMap::new();
    for Wanted { name, .. } in &all {
        match variables.insert(environment::token_variable("semaphore", name), name) {
            Some(other) if other == name => return Err(ConfigError::Twice(name.clone())),
            Some(other) => return Err(ConfigError::SameVariable(other.clone(), name.clone())),
            None => {}
        }
    }
    Ok(all)
}

/// `NAME` or `NAME:N`.
fn wanted(text: &str) -> Option<Wanted> {
    let (name, permits) = text.split_once(':').map_or((text, Some(1)), |(name, permits)| (name, permits.parse().ok()));
    let permits = permits.filter(|permits| (1..=MAX_PERMITS).contains(&u64::from(*permits)))?;
    is_name(name, MAX_NAME as usize).then(|| Wanted { name: name.to_owned(), permits })
}

/// Whether Kubernetes takes this as the name of an object (RFC 1123, labels separated by points).
fn is_name(text: &str, most: usize) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    text.len() <= most && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn config(flags: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let words = ["konductor-run"].into_iter().chain(flags.split_whitespace()).chain(["--", "true"]);
        let args = Args::try_parse_from(words).expect("the flags are known");
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Config::new(args, Environment::new(variables)?)
    }

    fn held(flags: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let config = config(flags, variables).map_err(|error| error.to_string())?;
        let all: Vec<_> =
            config.semaphores.iter().map(|wanted| format!("{}:{}", wanted.name, wanted.permits)).collect();
        Ok(all.join(" "))
    }

    #[test]
    fn flags_win_over_variables() {
        let variables = [("KONDUCTOR_GRACE", "1s"), ("KONDUCTOR_TTL", "1m"), ("KONDUCTOR_SEMAPHORE", "a,b:2")];
        let config = config("--grace 2s --semaphore c --priority -5", &variables).unwrap();
        assert_eq!((config.grace, config.ttl), (Duration::from_secs(2), Some(Duration::from_mins(1))));
        assert_eq!(config.semaphores, [Wanted { name: "c".to_owned(), permits: 1 }]);
        assert_eq!(config.priority, -5);
    }

    #[test]
    fn semaphores_are_taken_in_one_order() {
        assert_eq!(held("--semaphore b:3 --semaphore a", &[]).as_deref(), Ok("a:1 b:3"));
        assert_eq!(held("", &[("KONDUCTOR_SEMAPHORE", "z, m:1000000")]).as_deref(), Ok("m:1000000 z:1"));
        assert_eq!(held("", &[("KONDUCTOR_SEMAPHORE", "")]).as_deref(), Ok(""));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let semaphore = "wanted NAME or NAME:N, a Kubernetes name and how many permits (1 to 1000000), found";
        for (flags, variables, expected) in [
            ("--semaphore A", [].as_slice(), format!("--semaphore: {semaphore} \"A\"")),
            ("--semaphore a:0", &[], format!("--semaphore: {semaphore} \"a:0\"")),
            ("--semaphore a:1000001", &[], format!("--semaphore: {semaphore} \"a:1000001\"")),
            ("--semaphore a:b", &[], format!("--semaphore: {semaphore} \"a:b\"")),
            ("--semaphore a..b", &[], format!("--semaphore: {semaphore} \"a..b\"")),
            ("", &[("KONDUCTOR_SEMAPHORE", "a,,b")], format!("KONDUCTOR_SEMAPHORE: {semaphore} \"a,,b\"")),
            ("--semaphore a --semaphore a", &[], "a is asked for twice".to_owned()),
            (
                "--semaphore a-b --semaphore a.b",
                &[],
                "semaphores a-b and a.b would export their fencing tokens under one name: use only one of them"
                    .to_owned(),
            ),
            (
                "",
                &[("KONDUCTOR_TTL", "1s")],
                "KONDUCTOR_TTL: wanted a duration from 5s to 24h, found \"1s\"".to_owned(),
            ),
            ("--grace -1s", &[], "--grace: wanted a duration like 10s, found \"-1s\"".to_owned()),
            ("--on-timeout maybe", &[], "--on-timeout: wanted fail or skip, found \"maybe\"".to_owned()),
            ("--namespace a.b", &[], "--namespace: wanted the name of a namespace, found \"a.b\"".to_owned()),
            (
                "",
                &[("KONDUCTOR_LOG", "loud")],
                "KONDUCTOR_LOG: wanted error, warn, info, debug or trace, found \"loud\"".to_owned(),
            ),
        ] {
            assert_eq!(held(flags, variables), Err(expected), "{flags} {variables:?}");
        }
    }

    #[test]
    fn levels_come_from_flags_or_the_variable() {
        for (flags, variable, expected) in [
            ("", "", LevelFilter::INFO),
            ("", "debug", LevelFilter::DEBUG),
            ("-q", "debug", LevelFilter::WARN),
            ("-qq", "", LevelFilter::ERROR),
            ("-v", "error", LevelFilter::DEBUG),
            ("-vv", "", LevelFilter::TRACE),
        ] {
            let log = config(flags, &[("KONDUCTOR_LOG", variable)]).unwrap().log;
            assert_eq!(log.level, expected, "{flags} {variable}");
        }
    }
}
