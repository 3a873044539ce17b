//! From flags and variables to what they mean. Whatever is in a [`Config`] is valid.

use std::{
    collections::{BTreeMap, btree_map},
    ffi::OsString,
    path::PathBuf,
    time::Duration,
};

use konductor::{Choice, Wanted, identity::ArrivalIdentity, rendezvous::Awaited};
use konductor_api::limits::{MAX_TTL, MIN_TTL};
use tracing::level_filters::LevelFilter;

use crate::{
    cli::CommandLine,
    environment::{Environment, EnvironmentError},
    settings::{self, Setting},
    signal,
    supervisor::ArriveOn,
    values,
};

/// TERM to KILL unless said otherwise: the time that most programs need at most, and a third of what the kubelet gives.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// How many things one command may hold. Each costs renewals for as long as it runs, and a name in its environment; who
/// needs more wants one thing of more permits.
const MAX_CLAIMS: usize = 64;

/// How many barriers and gates one command may wait for, and at how many barriers it may arrive. Who needs more has
/// gates that depend on gates.
const MAX_RENDEZVOUS: usize = 64;

/// How much of a wrong value is shown: enough to find it, little enough for a termination message (4 KiB in all).
const SHOWN: usize = 100;

/// All that can be configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The command and its arguments; at least one.
    pub(crate) command: Vec<OsString>,
    /// The environment as found.
    pub(crate) environment: Environment,
    /// How much those who run this process hold of locks, by the locks' ids.
    pub(crate) held_around: BTreeMap<String, u64>,
    /// What is to be open first, barriers before gates.
    pub(crate) awaited: Vec<Awaited>,
    /// At which barriers to arrive.
    pub(crate) arrivals: Vec<Awaited>,
    /// After which ends of the command to arrive.
    pub(crate) arrive_on: ArriveOn,
    /// What was said about who arrives.
    pub(crate) arrival: ArrivalIdentity,
    /// What to hold, in the one order in which every wrapper takes it.
    pub(crate) claims: Vec<Wanted>,
    /// How long to wait for what is awaited and claimed; for ever when absent.
    pub(crate) wait_timeout: Option<Duration>,
    /// Whether a timed-out wait is a success.
    pub(crate) skip_on_timeout: bool,
    /// TTL of the claims; the parent's when absent.
    pub(crate) ttl: Option<Duration>,
    /// How long the command has from TERM to KILL.
    pub(crate) grace: Duration,
    /// The namespace, when it is not the default one.
    pub(crate) namespace: Option<String>,
    /// Which cluster, and as whom, when a program says so that becomes this one.
    pub(crate) choice: Choice,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Who asks, when it was said.
    pub(crate) holder: Option<String>,
    /// The folder that takes the cluster's place.
    pub(crate) local: Option<PathBuf>,
    /// Whether that folder can be on a filesystem that is not known to be of one machine.
    pub(crate) any_filesystem: bool,
    /// What the pod is, as far as it was said.
    pub(crate) pod: Pod,
    /// What happens to the signals that arrive.
    pub(crate) signals: SignalRules,
    /// What happens to processes that the command leaves behind.
    pub(crate) leftovers: Leftovers,
    /// What to exit with instead of these codes of the command.
    pub(crate) exit_codes: BTreeMap<u8, u8>,
    /// What this process gets when its parent dies.
    pub(crate) parent_death_signal: Option<i32>,
}

/// What the pod's author says about the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    /// The pod's name.
    pub(crate) name: Option<String>,
    /// The pod's UID.
    pub(crate) uid: Option<String>,
    /// The pod's namespace.
    pub(crate) namespace: Option<String>,
    /// The name of this container.
    pub(crate) container: Option<String>,
}

/// What happens to the signals that arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignalRules {
    /// Who gets the signals that are forwarded.
    pub(crate) scope: Scope,
    /// What is forwarded instead of a signal; nothing when it is dropped.
    pub(crate) map: BTreeMap<i32, Option<i32>>,
}

/// Who gets a forwarded signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The command's process group.
    Group,
    /// The command alone.
    Child,
}

/// What happens to processes that the command leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// Leftovers are told to end, and killed after the grace.
    End,
    /// Leftovers live on. Never while anything is held.
    Leave,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// One JSON object a line, instead of text.
    pub(crate) json: bool,
    /// The least important that is shown.
    pub(crate) level: LevelFilter,
}

impl Default for Log {
    fn default() -> Self {
        Self { json: false, level: LevelFilter::INFO }
    }
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
    #[error("{setting}: {what} is there twice")]
    Twice {
        /// The flag or variable.
        setting: &'static str,
        /// What is there twice.
        what: String,
    },
    /// More than one command can hold.
    #[error("wanted at most {MAX_CLAIMS} semaphores and leases, found {0}")]
    TooMany(usize),
    /// More than one command can wait for, or arrive at.
    #[error("{setting}: wanted at most {MAX_RENDEZVOUS} names, found {found}")]
    TooManyNames {
        /// The flag or variable.
        setting: &'static str,
        /// How many there were.
        found: usize,
    },
    /// A folder has semaphores and leases only.
    #[error("{setting}: {what} needs a cluster, and --local is without one")]
    NeedsCluster {
        /// The flag or variable.
        setting: &'static str,
        /// The first of what was asked for.
        what: String,
    },
    /// Two names that differ only in punctuation.
    #[error("{plural} {one} and {other} would export their fencing tokens under one name: use only one of them")]
    SameVariable {
        /// What they are.
        plural: &'static str,
        /// One name.
        one: String,
        /// The other.
        other: String,
    },
    /// What is left alive would hold on to what is given back.
    #[error("{setting}: wanted end, found \"leave\": while {held} is held, nothing may outlive the command")]
    LeftoversHold {
        /// The flag or variable.
        setting: &'static str,
        /// One thing that is to be held.
        held: String,
    },
    /// Who arrives says that the work is done.
    #[error("{setting}: wanted end, found \"leave\": at {barrier} it arrives when nothing of the command is left")]
    LeftoversWork {
        /// The flag or variable.
        setting: &'static str,
        /// One barrier to arrive at.
        barrier: String,
    },
}

/// Where settings come from. Flags win over variables.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    line: &'a CommandLine,
    environment: &'a Environment,
}

impl<'a> Sources<'a> {
    /// Settings from a command line and an environment.
    pub(crate) fn new(line: &'a CommandLine, environment: &'a Environment) -> Self {
        Self { line, environment }
    }

    /// What is set, and by which name; several values only of a setting that repeats.
    fn find(self, setting: &'static Setting) -> Result<Option<(&'static str, Vec<&'a str>)>, ConfigError> {
        let given = self.line.given(setting);
        if let (Some(flag), false) = (setting.flag, given.is_empty()) {
            return Ok(Some((flag, given)));
        }
        let Some(variable) = setting.variable else { return Ok(None) };
        let Some(text) = self.environment.get(variable)? else { return Ok(None) };
        let values = if setting.repeats { text.split(',').map(str::trim).collect() } else { vec![text] };
        Ok(Some((variable, values)))
    }

    /// All values of a setting, with the name that it was set by.
    fn all<T>(
        self,
        setting: &'static Setting,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<(&'static str, Vec<T>), ConfigError> {
        let Some((source, values)) = self.find(setting)? else { return Ok(("", Vec::new())) };
        let value = |text: &str| {
            let found = || text.chars().take(SHOWN).collect();
            read(text).ok_or_else(|| ConfigError::Value { setting: source, wanted: setting.accepts, found: found() })
        };
        Ok((source, values.into_iter().map(value).collect::<Result<_, _>>()?))
    }

    /// The value of a setting.
    fn one<T>(self, setting: &'static Setting, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        Ok(self.all(setting, read)?.1.pop())
    }

    /// A setting of pairs, in which nothing may be on the left twice.
    fn map<K: Ord + Copy, V>(
        self,
        setting: &'static Setting,
        read: impl Fn(&str) -> Option<(K, V)>,
        show: impl Fn(K) -> String,
    ) -> Result<BTreeMap<K, V>, ConfigError> {
        let (source, pairs) = self.all(setting, read)?;
        let mut map = BTreeMap::new();
        for (from, to) in pairs {
            match map.entry(from) {
                btree_map::Entry::Vacant(place) => place.insert(to),
                btree_map::Entry::Occupied(_) => {
                    return Err(ConfigError::Twice { setting: source, what: show(from) });
                }
            };
        }
        Ok(map)
    }

    /// How to log. Wanted first: whatever else is wrong is already told that way.
    pub(crate) fn log(self) -> Result<Log, ConfigError> {
        let levels = ["error", "warn", "info", "debug", "trace"].into_iter().zip([
            LevelFilter::ERROR,
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
        ]);
        let json = self.one(&settings::LOG_FORMAT, |text| values::one_of(text, [("text", false), ("json", true)]))?;
        let set = self.one(&settings::LOG, |text| values::one_of(text, levels.clone()))?;
        let level = match self.line.verbosity() {
            (0, 0) => set.unwrap_or(LevelFilter::INFO),
            (1, _) => LevelFilter::DEBUG,
            (0, 1) => LevelFilter::WARN,
            (0, _) => LevelFilter::ERROR,
            _ => LevelFilter::TRACE,
        };
        Ok(Log { json: json.unwrap_or(false), level })
    }

    /// Where to copy this program to, if that is all that is wanted.
    pub(crate) fn copy_to(self) -> Result<Option<PathBuf>, ConfigError> {
        self.one(&settings::COPY_TO, values::path)
    }

    /// What to hold: sorted, so that no two wrappers ever wait for each other.
    fn claims(self) -> Result<Vec<Wanted>, ConfigError> {
        let lease = |text: &str| values::name(text).map(|name| Wanted::Lease { name });
        let semaphore = |text: &str| values::weighted(text).map(|(name, permits)| Wanted::Semaphore { name, permits });
        let mut all = Vec::new();
        let mut variables = BTreeMap::new();
        for (source, claims) in [self.all(&settings::LEASE, lease)?, self.all(&settings::SEMAPHORE, semaphore)?] {
            for claim in &claims {
                let (kind, name) = (claim.kind(), claim.name().to_owned());
                match variables.insert(settings::token_variable(kind.name, &name), name.clone()) {
                    Some(other) if other == name => {
                        return Err(ConfigError::Twice { setting: source, what: other });
                    }
                    Some(one) => return Err(ConfigError::SameVariable { plural: kind.plural, one, other: name }),
                    None => {}
                }
            }
            all.extend(claims);
        }
        all.sort();
        if all.len() > MAX_CLAIMS { Err(ConfigError::TooMany(all.len())) } else { Ok(all) }
    }

    /// Barriers or gates, in their order.
    fn rendezvous(self, setting: &'static Setting, of: fn(String) -> Awaited) -> Result<Vec<Awaited>, ConfigError> {
        let (source, mut all) = self.all(setting, |text| values::name(text).map(of))?;
        all.sort();
        if let Some([one, _]) = all.array_windows().find(|[one, other]| one == other) {
            return Err(ConfigError::Twice { setting: source, what: one.name.clone() });
        }
        if all.len() > MAX_RENDEZVOUS {
            return Err(ConfigError::TooManyNames { setting: source, found: all.len() });
        }
        if let (Some(first), Some(_)) = (all.first(), self.one(&settings::LOCAL, values::path)?) {
            return Err(ConfigError::NeedsCluster { setting: source, what: first.to_string() });
        }
        Ok(all)
    }

    /// What happens to leftovers, which may not outlive what protects them.
    fn leftovers(self, claims: &[Wanted], arrivals: &[Awaited]) -> Result<Leftovers, ConfigError> {
        let choices = [("end", Leftovers::End), ("leave", Leftovers::Leave)];
        let (setting, found) = self.all(&settings::LEFTOVERS, |text| values::one_of(text, choices))?;
        match (found.as_slice(), claims.first(), arrivals.first()) {
            ([Leftovers::Leave], Some(claim), _) => {
                Err(ConfigError::LeftoversHold { setting, held: claim.to_string() })
            }
            ([Leftovers::Leave], None, Some(barrier)) => {
                Err(ConfigError::LeftoversWork { setting, barrier: barrier.to_string() })
            }
            ([Leftovers::Leave], None, None) => Ok(Leftovers::Leave),
            _ => Ok(Leftovers::End),
        }
    }
}

impl Config {
    /// Whether the command begins only when something is held or open.
    pub(crate) fn waits_first(&self) -> bool {
        !self.claims.is_empty() || !self.awaited.is_empty()
    }

    /// Everything about running a command.
    pub(crate) fn new(line: &CommandLine, environment: Environment) -> Result<Self, ConfigError> {
        environment.refuse_unknown()?;
        let sources = Sources::new(line, &environment);
        let claims = sources.claims()?;
        let barriers = sources.rendezvous(&settings::WAIT_BARRIER, Awaited::barrier)?;
        let gates = sources.rendezvous(&settings::GATE, Awaited::gate)?;
        let arrivals = sources.rendezvous(&settings::BARRIER, Awaited::barrier)?;
        Ok(Self {
            awaited: barriers.into_iter().chain(gates).collect(),
            arrive_on: sources
                .one(&settings::ARRIVE, |text| {
                    values::one_of(text, [("success", ArriveOn::Success), ("always", ArriveOn::AnyEnd)])
                })?
                .unwrap_or(ArriveOn::Success),
            arrival: ArrivalIdentity {
                key: sources.one(&settings::ARRIVAL_KEY, values::key)?,
                job: sources.one(&settings::JOB_UID, values::uid)?,
            },
            wait_timeout: sources.one(&settings::WAIT_TIMEOUT, values::duration)?,
            skip_on_timeout: sources
                .one(&settings::ON_TIMEOUT, |text| values::one_of(text, [("fail", false), ("skip", true)]))?
                .unwrap_or(false),
            ttl: sources
                .one(&settings::TTL, |text| values::duration(text).filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl)))?,
            grace: sources.one(&settings::GRACE, values::duration)?.unwrap_or(DEFAULT_GRACE),
            namespace: sources.one(&settings::NAMESPACE, values::label)?,
            choice: Choice::default(),
            priority: sources.one(&settings::PRIORITY, |text| text.parse().ok())?.unwrap_or(0),
            holder: sources.one(&settings::HOLDER, values::holder)?,
            local: sources.one(&settings::LOCAL, values::path)?,
            any_filesystem: sources
                .one(&settings::LOCAL_FILESYSTEM_OK, |text| values::one_of(text, [("true", true), ("false", false)]))?
                .unwrap_or(false),
            pod: Pod {
                name: sources.one(&settings::POD_NAME, values::name)?,
                uid: sources.one(&settings::POD_UID, values::uid)?,
                namespace: sources.one(&settings::POD_NAMESPACE, values::label)?,
                container: sources.one(&settings::POD_CONTAINER, values::label)?,
            },
            signals: SignalRules {
                scope: sources
                    .one(&settings::SIGNAL_SCOPE, |text| {
                        values::one_of(text, [("group", Scope::Group), ("child", Scope::Child)])
                    })?
                    .unwrap_or(Scope::Group),
                map: sources.map(&settings::MAP_SIGNAL, values::signals, |number| format!("signal {number}"))?,
            },
            leftovers: sources.leftovers(&claims, &arrivals)?,
            exit_codes: sources.map(&settings::EXIT_CODE_MAP, values::exit_codes, |code| format!("code {code}"))?,
            parent_death_signal: sources.one(&settings::PARENT_DEATH_SIGNAL, signal::parse)?,
            claims,
            arrivals,
            command: line.command().to_vec(),
            held_around: environment.held_around(),
            environment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::Reading, settings::SETTINGS};

    fn line(flags: &str, command: bool) -> CommandLine {
        let words = ["konductor-run"].into_iter().chain(flags.split_whitespace());
        let words = words.chain(if command { ["--", "true"].as_slice() } else { &[] }.iter().copied());
        match CommandLine::read(words.map(OsString::from)) {
            Reading::Line(line) => line,
            other => panic!("{other:?}"),
        }
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn config(flags: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let (line, environment) = (line(flags, true), environment(variables));
        Sources::new(&line, &environment).log()?;
        Config::new(&line, environment)
    }

    fn held(flags: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let config = config(flags, variables).map_err(|error| error.to_string())?;
        let show = |wanted: &Wanted| match wanted {
            Wanted::Lease { name } => format!("lease/{name}"),
            Wanted::Semaphore { name, permits } => format!("semaphore/{name}:{permits}"),
        };
        Ok(config.claims.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn flags_win_over_variables() {
        let variables = [("KONDUCTOR_GRACE", "1s"), ("KONDUCTOR_TTL", "1m"), ("KONDUCTOR_SEMAPHORE", "a,b:2")];
        let config = config("--grace 2s --semaphore c --priority -5", &variables).unwrap();
        assert_eq!((config.grace, config.ttl), (Duration::from_secs(2), Some(Duration::from_mins(1))));
        assert_eq!(config.claims, [Wanted::Semaphore { name: "c".to_owned(), permits: 1 }]);
        assert_eq!(config.priority, -5);
    }

    #[test]
    fn what_is_held_is_taken_in_one_order() {
        for (flags, variables, expected) in [
            ("--semaphore b:3 --semaphore a", [].as_slice(), "semaphore/a:1 semaphore/b:3"),
            ("", &[("KONDUCTOR_SEMAPHORE", "z, m:1000000")], "semaphore/m:1000000 semaphore/z:1"),
            ("", &[("KONDUCTOR_SEMAPHORE", "")], ""),
            (
                "--semaphore a --lease z",
                &[("KONDUCTOR_SEMAPHORE", "b"), ("KONDUCTOR_LEASE", "b")],
                "lease/z semaphore/a:1",
            ),
            ("--semaphore a", &[("KONDUCTOR_LEASE", "a,b")], "lease/a lease/b semaphore/a:1"),
        ] {
            assert_eq!(held(flags, variables).as_deref(), Ok(expected), "{flags} {variables:?}");
        }
    }

    #[test]
    fn what_is_awaited_has_one_order_too() {
        let variables = [("KONDUCTOR_GATE", "z, b"), ("KONDUCTOR_BARRIER", "done"), ("KONDUCTOR_ARRIVAL_KEY", "k")];
        let config = config("--wait-barrier y --wait-barrier a --arrive always", &variables).unwrap();
        assert_eq!(
            config.awaited,
            [Awaited::barrier("a"), Awaited::barrier("y"), Awaited::gate("b"), Awaited::gate("z")]
        );
        assert_eq!((config.arrivals, config.arrive_on), (vec![Awaited::barrier("done")], ArriveOn::AnyEnd));
        assert_eq!(config.arrival, ArrivalIdentity { key: Some("k".to_owned()), job: None });
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let semaphore = "wanted NAME or NAME:N, a Kubernetes name and how many permits (1 to 1000000), found";
        let many = (0..=MAX_CLAIMS).map(|n| format!("s{n}")).collect::<Vec<_>>().join(",");
        for (flags, variables, expected) in [
            ("--semaphore A", [].as_slice(), format!("--semaphore: {semaphore} \"A\"")),
            ("--semaphore a,b", &[], format!("--semaphore: {semaphore} \"a,b\"")),
            ("", &[("KONDUCTOR_SEMAPHORE", "a,b:0")], format!("KONDUCTOR_SEMAPHORE: {semaphore} \"b:0\"")),
            ("", &[("KONDUCTOR_SEMAPHORE", "a,,b")], format!("KONDUCTOR_SEMAPHORE: {semaphore} \"\"")),
            ("--semaphore a --semaphore a:2", &[], "--semaphore: a is there twice".to_owned()),
            ("", &[("KONDUCTOR_LEASE", "a,a")], "KONDUCTOR_LEASE: a is there twice".to_owned()),
            ("--lease a:1", &[], "--lease: wanted the name of a lease (leases.konductor.io), found \"a:1\"".to_owned()),
            (
                "--semaphore a-b --semaphore a.b",
                &[],
                "semaphores a-b and a.b would export their fencing tokens under one name: use only one of them"
                    .to_owned(),
            ),
            ("", &[("KONDUCTOR_SEMAPHORE", &many)], "wanted at most 64 semaphores and leases, found 65".to_owned()),
            (
                "",
                &[("KONDUCTOR_TTL", "1s")],
                "KONDUCTOR_TTL: wanted a duration from 5s to 24h, found \"1s\"".to_owned(),
            ),
            ("--grace=-1s", &[], "--grace: wanted a duration like 10s, found \"-1s\"".to_owned()),
            ("--on-timeout maybe", &[], "--on-timeout: wanted fail or skip, found \"maybe\"".to_owned()),
            ("--namespace a.b", &[], "--namespace: wanted the name of a namespace, found \"a.b\"".to_owned()),
            (
                "",
                &[("KONDUCTOR_LOG", "loud")],
                "KONDUCTOR_LOG: wanted error, warn, info, debug or trace, found \"loud\"".to_owned(),
            ),
            (
                "--leftovers leave",
                &[("KONDUCTOR_SEMAPHORE", "a")],
                "--leftovers: wanted end, found \"leave\": while semaphore a is held, nothing may outlive the command"
                    .to_owned(),
            ),
            (
                "--leftovers leave",
                &[("KONDUCTOR_BARRIER", "a")],
                "--leftovers: wanted end, found \"leave\": at barrier a it arrives when nothing of the command is left"
                    .to_owned(),
            ),
            ("--gate a --gate b --gate a", &[], "--gate: a is there twice".to_owned()),
            ("--gate a:1", &[], "--gate: wanted the name of a gate, found \"a:1\"".to_owned()),
            ("", &[("KONDUCTOR_BARRIER", &many)], "KONDUCTOR_BARRIER: wanted at most 64 names, found 65".to_owned()),
            (
                "--local x",
                &[("KONDUCTOR_GATE", "b,a")],
                "KONDUCTOR_GATE: gate a needs a cluster, and --local is without one".to_owned(),
            ),
            (
                "--local x --barrier b",
                &[],
                "--barrier: barrier b needs a cluster, and --local is without one".to_owned(),
            ),
            (
                "--local x --wait-barrier b",
                &[],
                "--wait-barrier: barrier b needs a cluster, and --local is without one".to_owned(),
            ),
            ("--arrive never", &[], "--arrive: wanted success or always, found \"never\"".to_owned()),
            ("--map-signal TERM=INT --map-signal 15=0", &[], "--map-signal: signal 15 is there twice".to_owned()),
            (
                "",
                &[("KONDUCTOR_EXIT_CODE_MAP", "1=0,3=0,1=2")],
                "KONDUCTOR_EXIT_CODE_MAP: code 1 is there twice".to_owned(),
            ),
        ] {
            assert_eq!(held(flags, variables), Err(expected), "{flags} {variables:?}");
        }
    }

    /// Every setting of the table is used, by both of its names, and what is shown of a wrong value is short.
    #[test]
    fn every_setting_is_read_and_refused_by_the_name_that_was_used() {
        let hopeless = "\u{1}".repeat(5000);
        let found = "\u{1}".repeat(SHOWN);
        for setting in SETTINGS {
            let wanted = setting.accepts;
            let by = |name: &'static str, outcome: Option<ConfigError>| {
                assert_eq!(outcome, Some(ConfigError::Value { setting: name, wanted, found: found.clone() }));
            };
            if let Some(flag) = setting.flag {
                let line = line(&format!("{flag}={hopeless}"), flag != "--copy-to");
                by(flag, outcome(&line, &environment(&[])));
            }
            if let Some(variable) = setting.variable {
                by(variable, outcome(&line("", true), &environment(&[(variable, &hopeless)])));
            }
        }
    }

    fn outcome(line: &CommandLine, environment: &Environment) -> Option<ConfigError> {
        let sources = Sources::new(line, environment);
        sources.log().err().or_else(|| sources.copy_to().err()).or_else(|| Config::new(line, environment.clone()).err())
    }

    /// The table's defaults are what holds when nothing is set.
    #[test]
    fn defaults_are_what_the_table_says() {
        let unset = format!("{:?}", config("", &[]).unwrap());
        let mut checked = 0;
        for (flag, default) in SETTINGS.iter().filter_map(|setting| setting.flag.zip(setting.default)) {
            if default.contains(' ') || ["none"].contains(&default) {
                continue;
            }
            checked += 1;
            assert_eq!(format!("{:?}", config(&format!("{flag} {default}"), &[]).unwrap()), unset, "{flag}");
        }
        assert_eq!(checked, 7, "priority, on-timeout, grace, leftovers, arrive, signal-scope, log-format");
    }

    #[test]
    fn a_flag_that_needs_no_value_means_one() {
        for (flags, variables, expected) in [
            ("", [].as_slice(), false),
            ("--local-filesystem-ok", &[], true),
            ("--local-filesystem-ok=true", &[], true),
            ("--local-filesystem-ok=false", &[("KONDUCTOR_LOCAL_FILESYSTEM_OK", "true")], false),
            ("", &[("KONDUCTOR_LOCAL_FILESYSTEM_OK", "true")], true),
            ("", &[("KONDUCTOR_LOCAL_FILESYSTEM_OK", "false")], false),
        ] {
            assert_eq!(config(flags, variables).unwrap().any_filesystem, expected, "{flags} {variables:?}");
        }
        let refused = config("", &[("KONDUCTOR_LOCAL_FILESYSTEM_OK", "1")]).unwrap_err().to_string();
        assert_eq!(refused, "KONDUCTOR_LOCAL_FILESYSTEM_OK: wanted true or false, found \"1\"");
    }

    #[test]
    fn what_an_init_does_can_be_set() {
        let variables = [
            ("KONDUCTOR_MAP_SIGNAL", "TERM=QUIT, RTMIN+1=USR1,WINCH=0"),
            ("KONDUCTOR_EXIT_CODE_MAP", "143=0, 3=4"),
            ("KONDUCTOR_SIGNAL_SCOPE", "child"),
            ("KONDUCTOR_LEFTOVERS", "leave"),
            ("KONDUCTOR_PARENT_DEATH_SIGNAL", "SIGTERM"),
            ("KONDUCTOR_LOCAL", "some/folder"),
        ];
        let config = config("", &variables).unwrap();
        let map = BTreeMap::from([(15, Some(3)), (35, Some(10)), (28, None)]);
        assert_eq!(config.signals, SignalRules { scope: Scope::Child, map });
        assert_eq!(config.exit_codes, BTreeMap::from([(143, 0), (3, 4)]));
        assert_eq!(config.leftovers, Leftovers::Leave);
        assert_eq!((config.parent_death_signal, config.local), (Some(15), Some("some/folder".into())));
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
            let environment = environment(&[("KONDUCTOR_LOG", variable)]);
            let log = Sources::new(&line(flags, true), &environment).log().unwrap();
            assert_eq!(log.level, expected, "{flags} {variable}");
        }
    }
}
