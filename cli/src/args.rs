//! The command line, as typed.

use clap::{Args, Parser, Subcommand};

use crate::{globals::Globals, output::Format, top, why};

/// See, wait for, acquire and explain Konductor's semaphores, leases, barriers and gates.
#[derive(Parser, Debug)]
#[command(name = "koncli", version, propagate_version = false, disable_help_subcommand = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Explain why something waits, is closed, or is held.
    Why(why::Args),
    /// A live view of what is held and who waits.
    Top(top::Args),
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
}
