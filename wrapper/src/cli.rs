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
#[derive(Debug)]
pub(crate) struct CommandLine {
    /// What was given before the command; nothing at all when the command comes first.
    flags: Option<ArgMatches>,
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
        // Without any flag there is nothing to parse, and to say which flags there are is a third of a mere init's start.
        if words.len() > 2 && words[1] == "--" {
            return Reading::Line(Self { flags: None, command: words.split_off(2) });
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

    fn new(mut matches: ArgMatches) -> Self {
        let command = matches.remove_many(COMMAND).into_iter().flatten().collect();
        Self { flags: Some(matches), command }
    }

    /// What was given for a setting, in order.
    pub(crate) fn given(&self, setting: &Setting) -> Vec<&str> {
        let values = self.flags.as_ref().zip(setting.flag).and_then(|(flags, flag)| flags.get_many::<String>(flag));
        values.into_iter().flatten().map(String::as_str).collect()
    }

    /// The command and its arguments.
    pub(crate) fn command(&self) -> &[OsString] {
        &self.command
    }

    /// How often more was wanted in the log, and how often less.
    pub(crate) fn verbosity(&self) -> (u8, u8) {
        self.flags.as_ref().map_or((0, 0), |flags| (flags.get_count(VERBOSE.name), flags.get_count(QUIET.name)))
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

    proptest! {
        /// What needs no parser is what the parser would have made of it.
        #[test]
        fn a_command_that_comes_first_is_all_that_the_parser_finds(
            words in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(&["", "-", "--", "-v", "--help", "--grace", "--lease=a", "-q", "a"][..])
                        .prop_map(|word| word.as_bytes().to_vec()),
                    prop::collection::vec(1_u8.., 0..4),
                ],
                0..5,
            ),
        ) {
            let line = ["konductor-run", "--"].map(OsString::from).into_iter();
            let line: Vec<_> = line.chain(words.into_iter().map(OsString::from_vec)).collect();
            match (CommandLine::read(line.clone()), parser().try_get_matches_from(&line)) {
                (Reading::Line(read), Ok(parsed)) => {
                    let parsed = CommandLine::new(parsed);
                    prop_assert_eq!(read.command(), parsed.command());
                    prop_assert_eq!(read.verbosity(), parsed.verbosity());
                    let given = |line: &CommandLine| SETTINGS.into_iter().any(|setting| !line.given(setting).is_empty());
                    prop_assert!(!given(&read) && !given(&parsed));
                }
                (Reading::Wrong { .. }, Err(_)) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
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
