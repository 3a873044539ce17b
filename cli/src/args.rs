//! The command line, as typed.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use konductor_api::GoDuration;

use crate::{commands, globals::Globals, output::Format, status, top, trouble::Role, why};

/// See, wait for, acquire and explain Konductor's semaphores, leases, barriers and gates.
#[derive(Parser, Debug)]
#[command(
    name = "koncli",
    version,
    disable_help_subcommand = true,
    after_help = crate::help::after_help(),
    infer_long_args = false,
    max_term_width = 100
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Permits of a semaphore: acquire, release, create, resize, ...
    #[command(subcommand, visible_alias = "sem", alias = "semaphores")]
    Semaphore(commands::semaphore::Command),
    /// A lease, which has one holder: acquire, release, create, ...
    #[command(subcommand, alias = "leases")]
    Lease(commands::lease::Command),
    /// A barrier, which opens when enough have arrived: arrive, wait, create, ...
    #[command(subcommand, alias = "barriers")]
    Barrier(commands::barrier::Command),
    /// A gate, which is open while other things are as wanted: wait, open, close, create, ...
    #[command(subcommand, alias = "gates")]
    Gate(commands::gate::Command),
    /// Wait until something is open, granted, complete or failed.
    Wait(commands::wait::Args),
    /// What is held, by whom, since when, who waits, what is closed and why.
    Status(status::Args),
    /// Explain why something waits, is closed, or is held.
    Why(why::Args),
    /// A live view of what is held and who waits.
    Top(top::Args),
    /// What has happened, as the operator tells it.
    Events(commands::events::Args),
    /// Ask a holder to end.
    Revoke(commands::revoke::Args),
    /// Run a command while holding what it needs: konductor-run, for a terminal.
    Run(commands::run::Args),
    /// The operator's replicas and leader, and what is installed.
    Operator(commands::operator::Args),
    /// Write manifests of the first konductor (sync.konductor.io) anew, for this one.
    Convert(commands::convert::Args),
    /// Print a script for a shell that completes commands and names.
    Completion(commands::completion::Args),
    /// Print the version.
    Version(commands::version::Args),
    /// What could come next: the shells' scripts ask.
    #[command(name = "__complete", hide = true)]
    Complete(commands::completion::CompleteArgs),
}

impl Command {
    /// What it needs in a cluster.
    pub(crate) fn role(&self) -> Role {
        use commands::{barrier, gate, lease, semaphore};
        match self {
            Self::Semaphore(command) => match command {
                semaphore::Command::Status(_) | semaphore::Command::List(_) => Role::View,
                semaphore::Command::Acquire(_) | semaphore::Command::Release(_) | semaphore::Command::Renew(_) => {
                    Role::Workload
                }
                semaphore::Command::Create(_) | semaphore::Command::Resize(_) | semaphore::Command::Delete(_) => {
                    Role::Edit
                }
            },
            Self::Lease(command) => match command {
                lease::Command::Status(_) | lease::Command::List(_) => Role::View,
                lease::Command::Acquire(_) | lease::Command::Release(_) | lease::Command::Renew(_) => Role::Workload,
                lease::Command::Create(_) | lease::Command::Delete(_) => Role::Edit,
            },
            Self::Barrier(command) => match command {
                barrier::Command::Status(_) | barrier::Command::List(_) | barrier::Command::Wait(_) => Role::View,
                barrier::Command::Arrive(_) => Role::Workload,
                barrier::Command::Create(_) | barrier::Command::Reset(_) | barrier::Command::Delete(_) => Role::Edit,
            },
            Self::Gate(command) => match command {
                gate::Command::Status(_) | gate::Command::List(_) | gate::Command::Wait(_) => Role::View,
                gate::Command::Create(_)
                | gate::Command::Open(_)
                | gate::Command::Close(_)
                | gate::Command::Auto(_)
                | gate::Command::Delete(_) => Role::Edit,
            },
            Self::Revoke(_) => Role::Edit,
            Self::Wait(_)
            | Self::Status(_)
            | Self::Why(_)
            | Self::Top(_)
            | Self::Events(_)
            | Self::Run(_)
            | Self::Operator(_)
            | Self::Convert(_)
            | Self::Completion(_)
            | Self::Version(_)
            | Self::Complete(_) => Role::View,
        }
    }
}

/// How to print what was asked for.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// wide, json, yaml, name, or jsonpath={.a.b}.
    #[arg(short, long, env = "KONCLI_OUTPUT", value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Leave the headers of tables out.
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Show managedFields, too.
    #[arg(long)]
    pub(crate) show_managed_fields: bool,
}

/// Which objects to look at.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Selection")]
pub(crate) struct SelectionArgs {
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only those with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// Only those with these fields, as in spec.holder=me.
    #[arg(long, value_name = "FIELDS")]
    pub(crate) field_selector: Option<String>,
}

/// Whether to do it at all.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct DryRunArgs {
    /// Change nothing: client sends nothing, server has the API server check it.
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "none",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "client",
        hide_default_value = true
    )]
    pub(crate) dry_run: DryRun,
}

/// Where a request ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// It is carried out.
    #[default]
    #[value(hide = true)]
    None,
    /// Nothing is sent.
    Client,
    /// The API server does all but store it.
    Server,
}

impl DryRun {
    /// What a confirmation has at its end.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }

    /// The parameter of a request.
    pub(crate) fn parameter(self) -> &'static str {
        if self == Self::Server { "All" } else { "" }
    }
}

/// How long to wait.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct TimeoutArgs {
    /// How long to wait, as in 30s or 1h30m; for ever when absent. 0 tries once.
    #[arg(long, env = "KONCLI_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) old: OldWaitArgs,
}

/// How a command writes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    old: OldWaitArgs,
}

impl WriteArgs {
    /// Where its requests end.
    pub(crate) fn dry_run(&self) -> DryRun {
        self.dry_run.dry_run
    }
}

/// What old scripts say of waiting: all commands here wait for the answer.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct OldWaitArgs {
    #[arg(long, hide = true)]
    wait_for_update: bool,
    #[arg(long, hide = true, value_name = "DURATION", value_parser = parse_duration)]
    update_timeout: Option<Duration>,
    #[arg(long, hide = true, value_name = "DURATION", value_parser = parse_duration)]
    wait_duration: Option<Duration>,
}

/// Who asks.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct HolderArgs {
    /// Who holds it, as shown to people, and by what it is found again: in a pod the pod's name, else USER@HOST.
    #[arg(long, env = "KONCLI_HOLDER", value_name = "NAME", value_parser = parse_holder)]
    pub(crate) holder: Option<String>,
}

/// Reads a duration in Go's notation.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration: Result<GoDuration, _> = text.parse();
    duration.map(|duration| duration.0).map_err(|_| "write a duration as in 30s, 5m or 1h30m".to_owned())
}

/// Reads who asks.
pub(crate) fn parse_holder(text: &str) -> Result<String, String> {
    let most = konductor_api::limits::MAX_HOLDER as usize;
    let fits = (1..=most).contains(&text.chars().count());
    fits.then(|| text.to_owned()).ok_or_else(|| format!("a holder has 1 to {most} characters"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_parser_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_old_scripts_say_is_taken() {
        for line in [
            "koncli --operator-namespace konductor-system status all",
            "koncli --log-level debug semaphore list",
            "koncli semaphore acquire x --wait --timeout 1m --wait-for-update --update-timeout 10s --holder a",
            "koncli semaphore release x --holder a --wait-for-update --update-timeout 10s",
            "koncli barrier arrive b worker-1",
            "koncli barrier arrive b --holder worker-1",
            "koncli barrier wait b --timeout 30m --wait-duration 5s",
            "koncli gate create g",
            "koncli gate open g --wait-for-update",
            "koncli status semaphore x -o json",
            "koncli semaphore list -o text",
            "koncli lease create l --ttl 10m",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_kubectl_takes_everywhere_is_taken_everywhere() {
        for line in [
            "koncli -n etl --context c --kubeconfig k --as me --as-group a --as-group b semaphore list -A -l a=b",
            "koncli semaphore -n etl list --as me --no-headers -o wide --field-selector metadata.name=a -w",
            "koncli semaphore create x --permits 3 --dry-run=client -o yaml -n etl",
            "koncli semaphore create x --permits 3 --dry-run",
            "koncli gate wait g -q --color never",
            "koncli barrier list -v -v -o jsonpath={.items[*].metadata.name}",
            "koncli sem list",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "koncli",
            "koncli semaphore",
            "koncli semaphore create x",
            "koncli semaphore create X --permits 1",
            "koncli semaphore create x --permits -1",
            "koncli semaphore create x --permits 1000001",
            "koncli semaphore acquire x --permits 0",
            "koncli semaphore acquire x --timeout soon",
            "koncli barrier create b",
            "koncli barrier create b --expected 0",
            "koncli wait",
            "koncli wait barrier",
            "koncli wait barrier/b --for closed",
            "koncli list",
            "koncli semaphore list -o jsonpath={range}",
            "koncli -q -v semaphore list",
        ] {
            assert!(parse(line).is_err_and(|error| error.exit_code() == 2), "{line}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [("0", Some(0)), ("0s", Some(0)), ("90s", Some(90)), ("1h30m", Some(5400)), ("5", None)]
        {
            assert_eq!(parse_duration(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
    }
}
