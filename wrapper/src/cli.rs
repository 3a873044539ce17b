//! The command line, as typed. What it means, together with the environment, is [`Config`](crate::config::Config).
//!
//! The flags are those of the table in [`settings`](crate::settings), and two switches that count.

use std::{ffi::OsString, fmt::Write as _};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
    value_parser,
};

use konductor::exit;

use crate::settings::{COPY_TO, SETTINGS, Setting, Topic};

/// The words after the program's name, as far as they can be understood without the environment.
#[derive(Debug, Default)]
pub(crate) struct CommandLine {
    /// The flags of settings with their values, in order.
    given: Vec<(&'static str, String)>,
    /// How often more was wanted in the log, and how often less.
    verbosity: (u8, u8),
    command: Vec<OsString>,
}

/// What the words of a command line turned out to be.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A command line that can be understood.
    Line(CommandLine),
    /// The wish for help or the version: this text.
    Text(String),
    /// A command line that cannot be understood.
    Wrong {
        /// Why it cannot be understood, in one line.
        message: String,
        /// What can be understood, so that the message is in the format that is wanted.
        line: CommandLine,
    },
}

impl CommandLine {
    /// Reads the words, of which the first is the program's name.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Reading {
        let mut words: Vec<_> = words.into_iter().collect();
        // To say which flags there are is a third of a mere init's start.
        if let Some(line) = Self::plain(&mut words) {
            return Reading::Line(line);
        }
        match parser().try_get_matches_from(&words) {
            Ok(matches) => Reading::Line(Self::new(matches)),
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Reading::Text(error.render().to_string()),
                _ => Reading::Wrong {
                    message: in_one_line(&error),
                    line: Self::new(parser().ignore_errors(true).get_matches_from(&words)),
                },
            },
        }
    }

    /// Reads words that can mean one thing only, and takes the command out of them. All others, and all that are wrong, are
    /// the parser's: it alone refuses.
    fn plain(words: &mut Vec<OsString>) -> Option<Self> {
        let mut line = Self::default();
        let mut rest = words.iter().skip(1);
        loop {
            let word = rest.next()?.to_str()?;
            if word == "--" {
                break;
            }
            let (more, less) = &mut line.verbosity;
            if let Some((_, count)) = [(VERBOSE, more), (QUIET, less)].into_iter().find(|(switch, _)| switch.is(word)) {
                *count = count.saturating_add(1);
                continue;
            }
            let (flag, value) = match word.split_once('=') {
                Some(both) => both,
                None => (word, rest.next()?.to_str()?),
            };
            let setting = SETTINGS.into_iter().find(|setting| setting.flag == Some(flag))?;
            let flag = setting.flag.filter(|_| setting.alone.is_none() && setting.flag != COPY_TO.flag)?;
            let again = !setting.repeats && line.given.iter().any(|(given, _)| *given == flag);
            if again || value.is_empty() || value.starts_with('-') {
                return None;
            }
            line.given.push((flag, value.to_owned()));
        }
        let number = rest.len();
        if number == 0 || line.verbosity.0 > 0 && line.verbosity.1 > 0 {
            return None;
        }
        line.command = words.split_off(words.len() - number);
        Some(line)
    }

    fn new(mut matches: ArgMatches) -> Self {
        let flags = SETTINGS.into_iter().filter_map(|setting| setting.flag);
        let mut values = |flag| matches.remove_many(flag).into_iter().flatten().map(move |value| (flag, value));
        Self {
            given: flags.flat_map(&mut values).collect(),
            verbosity: (matches.get_count(VERBOSE.name), matches.get_count(QUIET.name)),
            command: matches.remove_many(COMMAND).into_iter().flatten().collect(),
        }
    }

    /// What was given for a setting, in order.
    pub(crate) fn given(&self, setting: &Setting) -> Vec<&str> {
        let given = self.given.iter().filter(|(flag, _)| setting.flag == Some(flag));
        given.map(|(_, value)| value.as_str()).collect()
    }

    /// The command and its arguments.
    pub(crate) fn command(&self) -> &[OsString] {
        &self.command
    }

    /// How often more was wanted in the log, and how often less.
    pub(crate) fn verbosity(&self) -> (u8, u8) {
        self.verbosity
    }
}

const COMMAND: &str = "COMMAND";

/// A flag without a value.
pub(crate) struct Switch {
    pub(crate) name: &'static str,
    pub(crate) short: char,
    pub(crate) topic: Topic,
    pub(crate) meaning: &'static str,
    action: ArgAction,
}

impl Switch {
    /// Whether this word is the switch and nothing else.
    fn is(&self, word: &str) -> bool {
        let short = |letters: &str| letters.chars().eq([self.short]);
        word.strip_prefix("--").map_or_else(|| word.strip_prefix('-').is_some_and(short), |name| name == self.name)
    }
}

const VERBOSE: Switch = Switch {
    name: "verbose",
    short: 'v',
    topic: Topic::Log,
    meaning: "Log what happens in detail; twice for all (as KONDUCTOR_LOG=debug, trace)",
    action: ArgAction::Count,
};
const QUIET: Switch = Switch {
    name: "quiet",
    short: 'q',
    topic: Topic::Log,
    meaning: "Log only warnings; twice for errors only (as KONDUCTOR_LOG=warn, error)",
    action: ArgAction::Count,
};
const HELP: Switch =
    Switch { name: "help", short: 'h', topic: Topic::Other, meaning: "Show the help", action: ArgAction::Help };
const VERSION: Switch = Switch {
    name: "version",
    short: 'V',
    topic: Topic::Other,
    meaning: "Show the version",
    action: ArgAction::Version,
};

/// All flags without a value.
pub(crate) const SWITCHES: [Switch; 4] = [VERBOSE, QUIET, HELP, VERSION];

fn parser() -> Command {
    let switches = SWITCHES.map(|switch| {
        let argument = Arg::new(switch.name).short(switch.short).long(switch.name).action(switch.action);
        argument.help(switch.meaning).help_heading(switch.topic.title())
    });
    let command = Arg::new(COMMAND).last(true).num_args(1..).value_parser(value_parser!(OsString)).hide(true);
    Command::new("konductor-run")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .override_usage(USAGE)
        .after_help(after_help())
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(SETTINGS.into_iter().filter_map(argument))
        .args(switches)
        .mut_arg(QUIET.name, |quiet| quiet.conflicts_with(VERBOSE.name))
        .arg(command.required_unless_present_any(COPY_TO.flag))
}

/// A setting's flag.
fn argument(setting: &'static Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let repeats = if setting.repeats { " (repeatable)" } else { "" };
    let default = setting.default.map_or(String::new(), |default| format!(" [default: {default}]"));
    let help = [setting.meaning, repeats, &default].concat();
    let argument = Arg::new(flag).long(&flag[2..]).value_name(setting.value).help(help);
    let argument = argument.help_heading(setting.topic.title()).allow_hyphen_values(setting.value == "NUMBER");
    let argument = argument.action(if setting.repeats { ArgAction::Append } else { ArgAction::Set });
    let argument = match setting.alone {
        Some(meant) => argument.num_args(0..=1).require_equals(true).default_missing_value(meant),
        None => argument,
    };
    Some(if flag == COPY_TO.flag? { argument.conflicts_with(COMMAND) } else { argument })
}

/// What is wrong, as one line.
fn in_one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let message = match (error.kind(), context(ContextKind::InvalidArg)) {
        (ErrorKind::MissingRequiredArgument, _) => "there is no command to run".to_owned(),
        (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with('-') => {
            let meant = context(ContextKind::SuggestedArg).map(|meant| format!(": did you mean {meant}?"));
            format!("unknown flag {flag}{}", meant.unwrap_or_default())
        }
        (ErrorKind::UnknownArgument, Some(word)) => format!("unexpected {word:?}: the command comes after --"),
        _ => {
            let text = error.render().to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    };
    format!("{message} (usage: {USAGE}; more: konductor-run --help)")
}

/// How it is called.
pub(crate) const USAGE: &str = "konductor-run [OPTIONS] -- COMMAND [ARG]...";

const ABOUT: &str = "\
Runs COMMAND while holding what it needs, and supervises it as an init would.

Each flag can be set by a variable as well, so that a Job needs no change of its arguments: for
--wait-timeout it is KONDUCTOR_WAIT_TIMEOUT, and so on, with commas in lists. Flags win.";

const EXAMPLES: &str = "\
Examples:
  konductor-run --semaphore warehouse:2 -- ./load     waits until two of the permits are free
  konductor-run --lease report --wait-timeout 0 --on-timeout skip -- ./report
                                                      skips the run while another one is under way
  konductor-run --wait-barrier extracted -- ./load    waits until all that are expected have arrived
  konductor-run --local ./locks --semaphore gpu -- ./train
                                                      without a cluster
  konductor-run -- ./server                           nothing to hold: only an init";

/// What comes after the flags.
fn after_help() -> String {
    let mut text = format!("{EXAMPLES}\n\nExit codes: the command's own; 128+n when signal n killed it; and\n");
    for (exit, meaning, _) in exit::OWN {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:>3}  {meaning}", exit.code());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parser_is_sound() {
        parser().debug_assert();
    }

    /// Words before a command: of all flags with values good and bad, what is hardly a flag, and any bytes.
    fn word() -> impl Strategy<Value = Vec<u8>> {
        const VALUES: [&str; 6] = ["", "a", "a=b", "-1", "--", "ä"];
        let flags = SETTINGS.into_iter().filter_map(|setting| setting.flag).chain(["--verbose", "--quiet", "--leas"]);
        let flags: Vec<_> = flags.collect();
        let with = (prop::sample::select(flags.clone()), prop::sample::select(&VALUES[..]));
        prop_oneof![
            8 => prop::sample::select(flags).prop_map(|flag| flag.as_bytes().to_vec()),
            8 => prop::sample::select(&VALUES[..]).prop_map(|value| value.as_bytes().to_vec()),
            6 => with.prop_map(|(flag, value)| format!("{flag}={value}").into_bytes()),
            4 => prop::sample::select(&["-v", "-q", "-vv", "-", "-h", "-V", "--help", "=", "--="][..])
                .prop_map(|word| word.as_bytes().to_vec()),
            1 => prop::collection::vec(1_u8.., 0..4),
        ]
    }

    /// A flag as it is meant to be given, in one word or two.
    fn flag() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let flags: Vec<_> = SETTINGS.into_iter().filter_map(|setting| setting.flag).collect();
        (prop::sample::select(flags), prop::sample::select(&["a", "a=b", "7"][..]), any::<bool>()).prop_map(
            |(flag, value, in_one)| {
                if in_one {
                    vec![format!("{flag}={value}").into_bytes()]
                } else {
                    [flag, value].map(|word| word.as_bytes().to_vec()).to_vec()
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// What is read without the parser is what the parser would have made of it.
        #[test]
        fn what_is_plain_is_all_that_the_parser_finds(
            before in prop::collection::vec(prop_oneof![4 => flag(), 1 => word().prop_map(|word| vec![word])], 0..5),
            ends in prop::bool::weighted(0.9),
            command in prop::collection::vec(word(), 0..4),
        ) {
            let end = ends.then(|| b"--".to_vec());
            let words = before.into_iter().flatten().chain(end).chain(command);
            let words = std::iter::once(b"konductor-run".to_vec()).chain(words).map(OsString::from_vec);
            let mut words: Vec<_> = words.collect();
            let parsed = parser().try_get_matches_from(&words);
            if let Some(read) = CommandLine::plain(&mut words) {
                let parsed = CommandLine::new(parsed.map_err(|error| TestCaseError::fail(error.to_string()))?);
                prop_assert_eq!(read.command(), parsed.command());
                prop_assert_eq!(read.verbosity(), parsed.verbosity());
                for setting in SETTINGS {
                    prop_assert_eq!(read.given(setting), parsed.given(setting));
                }
            }
        }
    }

    #[test]
    fn what_can_mean_one_thing_only_is_plain() {
        for (line, plain) in [
            ("-- a", true),
            ("-- -- --help -v", true),
            ("--lease a --lease=b --grace 1s -v -v -- a", true),
            ("--quiet -q --gate a=b -- a", true),
            ("", false),
            ("--", false),
            ("a", false),
            ("-v", false),
            ("-vv -- a", false),
            ("-v -q -- a", false),
            ("--help -- a", false),
            ("-V -- a", false),
            ("--leas a -- a", false),
            ("--lease -- a", false),
            ("--lease= -- a", false),
            ("--priority -1 -- a", false),
            ("--grace 1s --grace 1s -- a", false),
            ("--local-filesystem-ok -- a", false),
            ("--local-filesystem-ok=true -- a", false),
            ("--copy-to a -- a", false),
            ("--copy-to=a", false),
        ] {
            let mut words: Vec<_> = ["konductor-run"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
            assert_eq!(CommandLine::plain(&mut words).is_some(), plain, "{line}");
        }
        let odd = OsString::from_vec(vec![0xff]);
        let mut words = ["konductor-run", "--lease", "a", "--", "a"].map(OsString::from).to_vec();
        words.push(odd.clone());
        assert_eq!(CommandLine::plain(&mut words.clone()).map(|line| line.command), Some(words[4..].to_vec()));
        words[2] = odd;
        assert!(CommandLine::plain(&mut words).is_none());
    }

    fn help() -> String {
        match CommandLine::read(["konductor-run", "--help"].map(OsString::from)) {
            Reading::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_help_fits_on_a_page_and_shows_every_setting() {
        let help = help();
        assert!(help.lines().count() <= 80 && help.lines().all(|line| line.chars().count() <= 100), "{help}");
        // Wrapped, a text is there word by word.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let all = words(&help);
        for setting in SETTINGS.into_iter().filter(|setting| setting.flag.is_some()) {
            let (flag, value) = (setting.flag.unwrap_or_default(), setting.value);
            let flag = setting.alone.map_or(format!("{flag} <{value}>"), |_| format!("{flag}[=<{value}>]"));
            for text in [&flag, setting.meaning, setting.topic.title(), setting.default.unwrap_or_default()] {
                assert!(all.contains(&words(text)), "{text} is not in\n{help}");
            }
        }
        let flags = help.lines().filter(|line| line.starts_with("      --")).count();
        let known = SETTINGS.into_iter().filter(|setting| setting.flag.is_some()).count();
        assert_eq!(flags, known, "the help has only what is in the table:\n{help}");
    }
}
