//! The command line, as typed. What it means, together with the environment, is [`Config`](crate::config::Config).
//!
//! The flags are those of the table in [`settings`](crate::settings), and two switches that count.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind, value_parser};

use crate::settings::{COPY_TO, SETTINGS, Setting, Topic};

/// The words after the program's name, as far as they can be understood without the environment.
#[derive(Debug)]
pub(crate) struct CommandLine(ArgMatches);

/// What the words are.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A command line.
    Line(CommandLine),
    /// The wish for help or the version: this text.
    Text(String),
    /// Not to be understood.
    Wrong {
        /// Why, in one line.
        message: String,
        /// What can be understood, so that the message is in the format that is wanted.
        line: CommandLine,
    },
}

impl CommandLine {
    /// Reads the words, of which the first is the program's name.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Reading {
        let words: Vec<_> = words.into_iter().collect();
        match parser().try_get_matches_from(&words) {
            Ok(matches) => Reading::Line(Self(matches)),
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Reading::Text(error.render().to_string()),
                _ => Reading::Wrong {
                    message: in_one_line(&error),
                    line: Self(parser().ignore_errors(true).get_matches_from(&words)),
                },
            },
        }
    }

    /// What was given for a setting, in order.
    pub(crate) fn given(&self, setting: &Setting) -> Vec<&str> {
        let values = setting.flag.and_then(|flag| self.0.get_many::<String>(flag));
        values.into_iter().flatten().map(String::as_str).collect()
    }

    /// The command and its arguments.
    pub(crate) fn command(&self) -> Vec<OsString> {
        self.0.get_many::<OsString>(COMMAND).into_iter().flatten().cloned().collect()
    }

    /// How often more was wanted in the log, and how often less.
    pub(crate) fn verbosity(&self) -> (u8, u8) {
        (self.0.get_count(VERBOSE), self.0.get_count(QUIET))
    }
}

const COMMAND: &str = "COMMAND";
const VERBOSE: &str = "verbose";
const QUIET: &str = "quiet";

fn parser() -> Command {
    let counts = |name, short, help| {
        Arg::new(name).short(short).long(name).action(ArgAction::Count).help(help).help_heading(Topic::Log.title())
    };
    Command::new("konductor-run")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .override_usage(USAGE)
        .after_help(AFTER)
        .args(SETTINGS.into_iter().filter_map(argument))
        .arg(counts(VERBOSE, 'v', "Log more; twice for all").conflicts_with(QUIET))
        .arg(counts(QUIET, 'q', "Log only warnings; twice for errors only"))
        .arg(
            Arg::new(COMMAND)
                .last(true)
                .num_args(1..)
                .required_unless_present_any(COPY_TO.flag)
                .value_parser(value_parser!(OsString))
                .hide(true),
        )
}

/// A setting's flag.
fn argument(setting: &'static Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let repeats = if setting.repeats { " (repeatable)" } else { "" };
    let note = |name, value: Option<_>| value.map_or(String::new(), |value| format!(" [{name}: {value}]"));
    let help = [setting.meaning, repeats, &note("default", setting.default), &note("env", setting.variable)].concat();
    let argument = Arg::new(flag).long(&flag[2..]).value_name(setting.value).help(help);
    let argument = argument.help_heading(setting.topic.title()).allow_hyphen_values(setting.value == "NUMBER");
    let argument = argument.action(if setting.repeats { ArgAction::Append } else { ArgAction::Set });
    Some(if flag == COPY_TO.flag? { argument.conflicts_with(COMMAND) } else { argument })
}

/// clap's message without its further paragraphs, but with its advice.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let message = match error.kind() {
        ErrorKind::MissingRequiredArgument => "there is no command to run".to_owned(),
        _ => {
            lines.filter_map(|line| line.strip_prefix("tip: ")).fold(first, |message, tip| format!("{message}; {tip}"))
        }
    };
    format!("{message} (usage: {USAGE}; more: konductor-run --help)")
}

const USAGE: &str = "konductor-run [OPTIONS] -- COMMAND [ARG]...";

const ABOUT: &str = "\
Runs COMMAND while holding what it needs, and supervises it as an init would.

Everything can also be set by environment variables, so that a Job needs no change of its arguments. Flags win. With
nothing to hold it is a plain, complete init.";

const AFTER: &str = "\
Exit codes: the command's own, or 128+n when signal n killed it;
  64 wrong usage            69 cluster unreachable     70 internal error
  75 timed out waiting      77 refused by the cluster  78 no such semaphore
  79 lost while running    126 not executable         127 no such command";
