//! Blocks of other languages: parsed by what reads them.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize as _;
use serde_json::json;

/// What is checked here, block by block. (SQL is run, as what one block creates another one uses.)
pub const LANGUAGES: [&str; 7] = ["dockerfile", "json", "promql", "python", "sh", "toml", "yaml"];

/// What a Dockerfile is made of.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Fails with what is wrong with a text of one of these [languages](LANGUAGES). Files that a check needs are made in `folder`.
pub fn check(language: &str, text: &str, folder: &Path) -> Result<(), String> {
    match language {
        "json" => serde_json::from_str::<serde_json::Value>(text).map(drop).map_err(|error| error.to_string()),
        "yaml" => serde_yaml_ng::Deserializer::from_str(text)
            .try_for_each(|document| serde_json::Value::deserialize(document).map(drop))
            .map_err(|error| error.to_string()),
        "dockerfile" => dockerfile(text),
        // A rule each, as promtool reads no bare expressions without being told that it is an experiment.
        "promql" => {
            let rules: Vec<_> = text.lines().map(|line| json!({ "record": "checked", "expr": line })).collect();
            let rules = json!({ "groups": [{ "name": "checked", "rules": rules }] });
            accepted(folder, &rules.to_string(), "promtool", &["check", "rules", "--lint=none"])
        }
        "sh" => accepted(folder, text, "bash", &["-n"]),
        "python" => accepted(folder, text, "python3", &["-m", "py_compile"]),
        "toml" => {
            accepted(folder, text, "python3", &["-c", "import sys, tomllib; tomllib.load(open(sys.argv[1], 'rb'))"])
        }
        other => Err(format!("nobody here reads {other}")),
    }
}

/// Fails with what a program says against a file with this text.
fn accepted(folder: &Path, text: &str, program: &str, arguments: &[&str]) -> Result<(), String> {
    let file = folder.join("checked");
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(arguments).arg(&file).stdin(Stdio::null()).env("PYTHONPYCACHEPREFIX", folder);
    let output = command.output().map_err(|error| format!("run {program} (install it): {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Each line is an instruction, a remark, or goes on from the one before, and a stage comes first.
fn dockerfile(text: &str) -> Result<(), String> {
    let (mut goes_on, mut begun) = (false, false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if !goes_on {
            let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
            if !INSTRUCTIONS.contains(&instruction) {
                return Err(format!("no instruction of a Dockerfile: {line:?}"));
            }
            if rest.trim().is_empty() {
                return Err(format!("an instruction of nothing: {line:?}"));
            }
            begun |= instruction == "FROM";
            if !begun && instruction != "ARG" {
                return Err(format!("before the first FROM: {line:?}"));
            }
        }
        goes_on = line.ends_with('\\');
    }
    if goes_on { Err("the last line goes on".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_is_told_from_what_it_is_not() {
        let folder = tempfile::tempdir().expect("make a folder");
        let goods = [
            ("json", "{\"a\": 1}", "{\"a\": }"),
            ("yaml", "a: 1\n---\nb: [2]\n", "a: [1\n"),
            ("dockerfile", "ARG v\nFROM debian\n# a remark\nRUN a \\\n  && b\n", "FROM debian\nGET x\n"),
            ("dockerfile", "FROM a\nCOPY --from=b /c /d\n", "RUN x\nFROM debian\n"),
            ("dockerfile", "FROM a\n", "FROM a\nRUN b \\\n"),
            ("sh", "if a; then b; fi\n", "if a; then b\n"),
            ("python", "import os\n", "import os from\n"),
            ("toml", "a = 1\n", "a = \n"),
            ("promql", "sum by (a) (rate(b[5m]))\nc == 1\n", "sum by (a) (rate(b[5m])\n"),
        ];
        for (language, good, bad) in goods {
            assert_eq!(check(language, good, folder.path()), Ok(()), "{language}");
            assert!(check(language, bad, folder.path()).is_err(), "{language}: {bad:?}");
        }
        for language in LANGUAGES {
            assert!(goods.iter().any(|(tried, ..)| *tried == language), "{language} is not tried");
        }
    }
}
