//! What the comment before a block says.

use std::str::FromStr;

/// Where a block is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A folder, and no cluster.
    Local,
    /// A real API server with Konductor and an operator; nothing runs pods.
    Api,
    /// A real API server without Konductor, to install the chart into.
    Helm,
    /// A real node.
    Node,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "local" => Ok(Self::Local),
            "api" => Ok(Self::Api),
            "helm" => Ok(Self::Helm),
            "node" => Ok(Self::Node),
            other => Err(format!("wanted a place (local, api, helm, node), found {other:?}")),
        }
    }
}

/// What becomes of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// It is run.
    Run {
        /// Where.
        place: Place,
        /// The exit code that it ends with.
        code: i32,
        /// It is run again until it ends and prints as wanted.
        until: bool,
        /// It is not waited for, and runs on until the page ends.
        background: bool,
        /// What stands here for what in it, which is the reader's own.
        with: Vec<(String, String)>,
    },
    /// It is what the block before it prints.
    Output {
        /// Its lines may come in any order.
        any_order: bool,
    },
    /// It is written to this file.
    File(String),
    /// It is applied.
    Apply(Place),
    /// The API server checks it.
    Dry(Place),
    /// It is parsed as a language.
    Check {
        /// Which.
        language: String,
        /// All of it takes something from the Internet.
        needs_internet: bool,
    },
    /// It is not run, for this reason.
    NotRun(String),
}

/// What says of a block that it takes something from the Internet: of one that is parsed, or as a reason not to run it.
const INTERNET: &str = "needs internet";

/// A reason in fewer letters says nothing.
const REASON: usize = 10;

impl Marker {
    /// What a comment says, if it is one that speaks of a block.
    ///
    /// Errors say what was wanted.
    pub fn parse(comment: &str) -> Result<Self, String> {
        let text = comment.trim();
        let mut parts = text.split(';').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (name, value) = first.split_once(':').map_or((first, ""), |(name, value)| (name.trim_end(), value.trim()));
        let wants = |what: &str| if value.is_empty() { Err(format!("{name}: wanted {what}")) } else { Ok(value) };
        let marker = match name {
            // A reason may have a semicolon in it.
            "not run" => {
                let reason = text.split_once(':').map_or("", |(_, reason)| reason.trim());
                return if reason.len() < REASON {
                    Err(format!("not run: wanted a reason of {REASON} letters or more, found {reason:?}"))
                } else {
                    Ok(Self::NotRun(reason.to_owned()))
                };
            }
            "run" => {
                let (mut code, mut until, mut background, mut with) = (0, false, false, Vec::new());
                for part in parts.by_ref() {
                    match part.split_once(':').map(|(name, value)| (name.trim_end(), value.trim())) {
                        Some(("fails", value)) => {
                            code =
                                value.parse().ok().filter(|code| (1..=255).contains(code)).ok_or_else(|| {
                                    format!("fails: wanted an exit code from 1 to 255, found {value:?}")
                                })?;
                        }
                        Some(("with", value)) => with = stand_ins(value)?,
                        None if part == "until" => until = true,
                        None if part == "background" => background = true,
                        _ => {
                            return Err(format!(
                                "run: wanted fails: CODE, until, background or with: WORD=OURS, found {part:?}"
                            ));
                        }
                    }
                }
                if background && (until || code != 0) {
                    return Err(
                        "run: what is in the background is not waited for, so it has no end to look at".to_owned()
                    );
                }
                Self::Run { place: value.parse()?, code, until, background, with }
            }
            "output" if value.is_empty() => match parts.next() {
                None => Self::Output { any_order: false },
                Some("any order") => Self::Output { any_order: true },
                Some(other) => return Err(format!("output: wanted any order, or nothing, found {other:?}")),
            },
            "file" => {
                let file = wants("the name of a file")?;
                if file.starts_with('/') || file.split('/').any(|part| part == "..") {
                    return Err(format!("file: wanted a path within the page's folder, found {file:?}"));
                }
                Self::File(file.to_owned())
            }
            "apply" | "dry" => {
                let place = value.parse()?;
                if place == Place::Local {
                    return Err(format!("{name}: nobody takes a manifest without a cluster"));
                }
                if name == "dry" { Self::Dry(place) } else { Self::Apply(place) }
            }
            "check" => {
                let language = wants("a language")?.to_owned();
                match parts.next() {
                    None => Self::Check { language, needs_internet: false },
                    Some(INTERNET) => Self::Check { language, needs_internet: true },
                    Some(other) => return Err(format!("check: wanted {INTERNET}, or nothing, found {other:?}")),
                }
            }
            _ => {
                let known = "run, output, file, apply, dry, check, not run";
                return Err(format!("wanted one of {known}, found {first:?}"));
            }
        };
        match parts.next() {
            None => Ok(marker),
            Some(rest) => Err(format!("{name}: wanted nothing more, found {rest:?}")),
        }
    }

    /// Whether this text begins as a marker does: then it is meant to be one.
    pub fn is_meant(comment: &str) -> bool {
        let name = comment.trim().split([':', ';']).next().unwrap_or_default().trim();
        ["run", "output", "file", "apply", "dry", "check", "not run"].contains(&name)
    }

    /// Whether it says that the block takes something from the Internet.
    pub fn needs_internet(&self) -> bool {
        match self {
            Self::Check { needs_internet, .. } => *needs_internet,
            Self::NotRun(reason) => reason.starts_with(INTERNET),
            _ => false,
        }
    }

    /// Where the block is run, if it is.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Run { place, .. } | Self::Apply(place) | Self::Dry(place) => Some(*place),
            Self::Output { .. } | Self::File(_) | Self::Check { .. } | Self::NotRun(_) => None,
        }
    }
}

/// What stands for what, as in `JOB=import, POD=$pod`.
fn stand_ins(text: &str) -> Result<Vec<(String, String)>, String> {
    let one = |pair: &str| {
        let (word, ours) = pair.split_once('=')?;
        let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
        (is_word && !ours.is_empty()).then(|| (word.to_owned(), ours.to_owned()))
    };
    let wanted = |pair: &str| format!("with: wanted WORD=OURS, found {pair:?}");
    text.split(',').map(str::trim).map(|pair| one(pair).ok_or_else(|| wanted(pair))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_says_what_becomes_of_a_block() {
        let run = |place, code, until, background| Marker::Run { place, code, until, background, with: Vec::new() };
        let check = |language: &str, needs_internet| Marker::Check { language: language.to_owned(), needs_internet };
        let pair = |word: &str, ours: &str| (word.to_owned(), ours.to_owned());
        for (text, expected) in [
            (" run: local ", run(Place::Local, 0, false, false)),
            ("run: api; fails: 75", run(Place::Api, 75, false, false)),
            ("run: node; until", run(Place::Node, 0, true, false)),
            ("run: helm; until; fails: 1", run(Place::Helm, 1, true, false)),
            ("run:local;background", run(Place::Local, 0, false, true)),
            ("output", Marker::Output { any_order: false }),
            ("output; any order", Marker::Output { any_order: true }),
            ("file: jobs/a.yaml", Marker::File("jobs/a.yaml".to_owned())),
            ("apply: api", Marker::Apply(Place::Api)),
            ("dry: node", Marker::Dry(Place::Node)),
            ("check: sql", check("sql", false)),
            ("check: sql; needs internet", check("sql", true)),
            (
                "run: api; with: JOB=import, NAME=$name",
                Marker::Run {
                    place: Place::Api,
                    code: 0,
                    until: false,
                    background: false,
                    with: vec![pair("JOB", "import"), pair("NAME", "$name")],
                },
            ),
            ("not run: needs internet; and more", Marker::NotRun("needs internet; and more".to_owned())),
        ] {
            assert_eq!(Marker::parse(text), Ok(expected), "{text}");
            assert!(Marker::is_meant(text), "{text}");
        }
    }

    #[test]
    fn a_marker_that_cannot_be_meant_is_refused_with_what_was_wanted() {
        for (text, complaint) in [
            ("", "wanted one of"),
            ("runs: local", "wanted one of run"),
            ("run", "wanted a place"),
            ("run: moon", "wanted a place (local, api, helm, node), found \"moon\""),
            ("run: local; fails", "wanted fails: CODE"),
            ("run: local; fails: 0", "from 1 to 255, found \"0\""),
            ("run: local; fails: 256", "from 1 to 255"),
            ("run: local; later", "found \"later\""),
            ("run: local; background; fails: 1", "not waited for"),
            ("run: local; background; until", "not waited for"),
            ("output: x", "wanted one of"),
            ("output; x", "wanted any order, or nothing, found \"x\""),
            ("output; any order; x", "wanted nothing more, found \"x\""),
            ("file:", "wanted the name of a file"),
            ("file: /etc/passwd", "within the page's folder"),
            ("file: a/../../b", "within the page's folder"),
            ("apply: local", "without a cluster"),
            ("dry: local", "without a cluster"),
            ("check:", "wanted a language"),
            ("check: sql; later", "wanted needs internet, or nothing, found \"later\""),
            ("run: api; with: ", "with: wanted WORD=OURS, found \"\""),
            ("run: api; with: job=a", "with: wanted WORD=OURS, found \"job=a\""),
            ("run: api; with: JOB=", "with: wanted WORD=OURS"),
            ("not run", "wanted a reason"),
            ("not run: no", "wanted a reason"),
        ] {
            let found = Marker::parse(text).expect_err(text);
            assert!(found.contains(complaint), "{text}: {found}");
        }
        assert!(!Marker::is_meant("a remark: about something"));
    }

    #[test]
    fn what_needs_the_internet_says_so() {
        for (text, needs) in [
            ("not run: needs internet", true),
            ("not run: needs internet, and a container engine", true),
            ("not run: the registry is yours", false),
            ("check: dockerfile; needs internet", true),
            ("check: dockerfile", false),
            ("run: local", false),
        ] {
            assert_eq!(Marker::parse(text).expect(text).needs_internet(), needs, "{text}");
        }
    }
}
