//! What a container is to hold, wait for and arrive at, by what its spec says: the variables of `konductor-run`, and
//! its flags where the container runs it.
//!
//! Whoever waits for a barrier or a gate leaves no trace in the API, so that this is all that tells.

use super::{
    reason::Wish,
    seen::{Container, Kind},
};

/// Flags and variables of `konductor-run` that name something.
const SETTINGS: [(&str, &str, Wish, Kind); 5] = [
    ("--gate", "KONDUCTOR_GATE", Wish::WaitFor, Kind::Gate),
    ("--wait-barrier", "KONDUCTOR_WAIT_BARRIER", Wish::WaitFor, Kind::Barrier),
    ("--semaphore", "KONDUCTOR_SEMAPHORE", Wish::Hold, Kind::Semaphore),
    ("--lease", "KONDUCTOR_LEASE", Wish::Hold, Kind::Lease),
    ("--barrier", "KONDUCTOR_BARRIER", Wish::ArriveAt, Kind::Barrier),
];

/// What it asks for, in the order in which `konductor-run` does. Flags go before variables, as they do there.
pub(crate) fn wishes(container: &Container) -> Vec<(Wish, Kind, String)> {
    let flags = flags(container);
    let mut wishes = Vec::new();
    for (flag, variable, wish, kind) in SETTINGS {
        let mut names: Vec<&str> = values(&flags, flag);
        if names.is_empty() {
            let set = container.env.iter().rev().find(|one| one.name == variable);
            names = set.and_then(|one| one.value.as_deref()).into_iter().flat_map(|value| value.split(',')).collect();
        }
        for name in names {
            // `NAME:N` of a semaphore.
            let name = name.split(':').next().unwrap_or_default().trim();
            let wish = (wish, kind, name.to_owned());
            if !name.is_empty() && !wishes.contains(&wish) {
                wishes.push(wish);
            }
        }
    }
    wishes
}

/// The flags of `konductor-run` in a container's command line; none if it runs something else.
fn flags(container: &Container) -> Vec<&str> {
    let words: Vec<_> = container.command.iter().chain(&container.args).map(String::as_str).collect();
    let is_ours = |word: &&str| word.rsplit('/').next() == Some("konductor-run");
    let run = words.iter().position(is_ours).map(|at| at + 1);
    let of_cli = words.windows(2).position(|two| two[0].rsplit('/').next() == Some("koncli") && two[1] == "run");
    // Arguments alone are those of an image's entrypoint, which nothing here tells; Konductor's own take no flags there.
    let Some(begin) = run.or(of_cli.map(|at| at + 2)) else { return Vec::new() };
    words[begin..].iter().copied().take_while(|word| *word != "--").collect()
}

fn values<'a>(flags: &[&'a str], flag: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    let mut rest = flags.iter().copied();
    while let Some(word) = rest.next() {
        if word == flag {
            values.extend(rest.next());
        } else if let Some(value) = word.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            values.push(value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(container: serde_json::Value) -> Vec<String> {
        let container: Container = serde_json::from_value(container).expect("a container");
        wishes(&container).into_iter().map(|(wish, kind, name)| format!("{wish:?} {}/{name}", kind.name())).collect()
    }

    #[test]
    fn variables_and_flags_say_what_a_container_asks_for() {
        let env = json!([
            { "name": "KONDUCTOR_SEMAPHORE", "value": "warehouse:2, database" },
            { "name": "KONDUCTOR_GATE", "value": "hours" },
            { "name": "KONDUCTOR_LEASE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        ]);
        let of_env = ["WaitFor gate/hours", "Hold semaphore/warehouse", "Hold semaphore/database"];
        assert_eq!(of(json!({ "name": "main", "env": env })), of_env);
        let command = json!(["/bin/konductor-run", "--semaphore", "cache:3", "--barrier=done", "--", "--lease", "x"]);
        let flags = ["WaitFor gate/hours", "Hold semaphore/cache", "ArriveAt barrier/done"];
        assert_eq!(of(json!({ "command": command, "env": env })), flags);
        let args = json!(["--lease", "leader", "--", "work"]);
        assert_eq!(of(json!({ "command": ["/konductor-run"], "args": args })), ["Hold lease/leader"]);
        assert_eq!(of(json!({ "command": ["koncli", "run", "--wait-barrier", "b"] })), ["WaitFor barrier/b"]);
    }

    #[test]
    fn flags_of_other_programs_say_nothing() {
        assert!(of(json!({ "command": ["other"], "args": ["--lease", "x"] })).is_empty());
        assert!(of(json!({ "args": ["--lease", "x"] })).is_empty(), "whatever the image's entrypoint makes of it");
        assert!(of(json!({ "command": ["sh", "-c", "konductor-run --lease x"] })).is_empty());
    }
}
