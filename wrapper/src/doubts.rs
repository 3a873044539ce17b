//! What is valid, and probably not what was meant. People are warned: that a lock is not taken is found out too late
//! otherwise. The command runs all the same, as an init without anything to hold is a good use, too.

use crate::{
    cli::CommandLine,
    config::Config,
    settings::{
        ARRIVAL_KEY, ARRIVE, BARRIER, GATE, HOLDER, JOB_UID, LEASE, LOCAL, NAMESPACE, ON_TIMEOUT, POD_CONTAINER,
        POD_NAME, POD_NAMESPACE, POD_UID, PRIORITY, SEMAPHORE, Setting, TREE, TTL, WAIT_BARRIER, WAIT_TIMEOUT,
    },
};

/// What says what to hold, to wait for, or to arrive at.
const WHAT: [&Setting; 5] = [&SEMAPHORE, &LEASE, &GATE, &WAIT_BARRIER, &BARRIER];

/// What only says how: without any of the above it changes nothing.
const HOW: [&Setting; 9] =
    [&LOCAL, &TTL, &PRIORITY, &HOLDER, &NAMESPACE, &WAIT_TIMEOUT, &ON_TIMEOUT, &ARRIVE, &ARRIVAL_KEY];

/// The same, only by variables.
const POD: [&Setting; 5] = [&POD_NAME, &POD_UID, &POD_NAMESPACE, &POD_CONTAINER, &JOB_UID];

/// All doubts about what was asked for, a line each.
pub(crate) fn doubts(line: &CommandLine, config: &Config) -> Vec<String> {
    let nearly = config.environment.nearly_ours().into_iter();
    let misspelt = nearly.map(|(name, meant)| format!("nothing reads the variable {name}: did you mean {meant}?"));
    misspelt.chain(nothing_held(line, config)).collect()
}

/// Nothing is held, waited for or arrived at, although something says how.
fn nothing_held(line: &CommandLine, config: &Config) -> Option<String> {
    let Config { claims, awaited, arrivals, environment, .. } = config;
    if !(claims.is_empty() && awaited.is_empty() && arrivals.is_empty()) {
        return None;
    }
    let given = HOW.into_iter().filter(|setting| !line.given(setting).is_empty()).find_map(|setting| setting.flag);
    if let Some(flag) = given {
        return Some(format!("nothing is held: {flag} says how, and no --semaphore or --lease says what"));
    }
    // Who takes out a variable for a command within a command that holds something does it on purpose.
    if environment.raw(TREE).is_some_and(|trees| !trees.is_empty()) {
        return None;
    }
    let is_set = |variable: &&str| environment.raw(variable).is_some_and(|value| !value.is_empty());
    if let Some(local) = LOCAL.variable.filter(is_set) {
        return Some(format!(
            "nothing is held: {local} says where, and no KONDUCTOR_SEMAPHORE or KONDUCTOR_LEASE what"
        ));
    }
    let variables = |settings: &[&'static Setting]| settings.iter().filter_map(|setting| setting.variable).collect();
    let (what, how): (Vec<&str>, Vec<&str>) = (variables(&WHAT), variables(&[&HOW[..], &POD[..]].concat()));
    let empty = what.into_iter().find(|variable| environment.raw(variable).is_some_and(std::ffi::OsStr::is_empty))?;
    let meant = how.into_iter().find(is_set)?;
    Some(format!("nothing is held: {empty} is empty, and {meant} says that something was meant"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::{cli::Reading, environment::Environment};

    fn found(flags: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let words = ["konductor-run"].into_iter().chain(flags.split_whitespace()).chain(["--", "true"]);
        let Reading::Line(line) = CommandLine::read(words.map(OsString::from)) else { panic!("{flags}") };
        let environment = Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())));
        let config = Config::new(&line, environment).unwrap_or_else(|error| panic!("{flags} {variables:?}: {error}"));
        doubts(&line, &config)
    }

    #[test]
    fn nothing_held_is_told_where_something_was_meant() {
        let by_flag = |flag| format!("nothing is held: {flag} says how, and no --semaphore or --lease says what");
        let empty =
            |empty, meant| format!("nothing is held: {empty} is empty, and {meant} says that something was meant");
        let local = "nothing is held: KONDUCTOR_LOCAL says where, and no KONDUCTOR_SEMAPHORE or KONDUCTOR_LEASE what"
            .to_owned();
        for (flags, variables, expected) in [
            ("--local d", [].as_slice(), Some(by_flag("--local"))),
            ("--local d --semaphore s", &[], None),
            ("--ttl 1m", &[], Some(by_flag("--ttl"))),
            ("--wait-timeout 0 --on-timeout skip", &[], Some(by_flag("--wait-timeout"))),
            ("--wait-timeout 0 --gate g", &[], None),
            ("--arrive always", &[], Some(by_flag("--arrive"))),
            ("--arrive always --barrier b", &[], None),
            ("--grace 1s -v", &[], None),
            ("", &[("KONDUCTOR_LOCAL", "d")], Some(local)),
            ("", &[("KONDUCTOR_SEMAPHORE", "")], None),
            ("", &[("KONDUCTOR_SEMAPHORE", ""), ("KONDUCTOR_GRACE", "1s"), ("KONDUCTOR_LOG", "warn")], None),
            ("", &[("KONDUCTOR_TTL", "1m")], None),
            (
                "",
                &[("KONDUCTOR_SEMAPHORE", ""), ("KONDUCTOR_TTL", "1m")],
                Some(empty("KONDUCTOR_SEMAPHORE", "KONDUCTOR_TTL")),
            ),
            (
                "",
                &[("KONDUCTOR_LEASE", ""), ("KONDUCTOR_POD_UID", "u")],
                Some(empty("KONDUCTOR_LEASE", "KONDUCTOR_POD_UID")),
            ),
            ("", &[("KONDUCTOR_SEMAPHORE", ""), ("KONDUCTOR_TTL", "")], None),
            ("", &[("KONDUCTOR_SEMAPHORE", ""), ("KONDUCTOR_LEASE", "l"), ("KONDUCTOR_TTL", "1m")], None),
            // Within a command that holds something: taken out on purpose.
            ("", &[("KONDUCTOR_SEMAPHORE", ""), ("KONDUCTOR_TTL", "1m"), ("KONDUCTOR_TREE", "t")], None),
            ("", &[("KONDUCTOR_SEMAPHORE", ""), ("KONDUCTOR_LOCAL", "d"), ("KONDUCTOR_TREE", "t")], None),
            ("--local d", &[("KONDUCTOR_TREE", "t")], Some(by_flag("--local"))),
        ] {
            assert_eq!(found(flags, variables), Vec::from_iter(expected), "{flags} {variables:?}");
        }
    }

    #[test]
    fn variables_that_are_nearly_ours_are_told() {
        assert_eq!(
            found("", &[("KONDUKTOR_SEMAPHORE", "a"), ("konductor_lease", "b"), ("PATH", "/bin")]),
            [
                "nothing reads the variable KONDUKTOR_SEMAPHORE: did you mean KONDUCTOR_SEMAPHORE?",
                "nothing reads the variable konductor_lease: did you mean KONDUCTOR_LEASE?",
            ]
        );
    }
}
