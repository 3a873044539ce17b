//! The command line, as typed. What it means, together with the environment, is [`Config`](crate::config::Config).

#![allow(rustdoc::broken_intra_doc_links, reason = "the help shows a syntax in brackets")]
#![expect(clippy::doc_markdown, reason = "these comments are the help that people read in a terminal")]

use std::ffi::OsString;

/// Runs COMMAND while holding what it needs, and supervises it as an init would.
///
/// Everything can also be set by environment variables, so that a Job needs no change of its arguments. Flags win. With
/// nothing to hold it is a plain, complete init.
#[derive(Debug, clap::Parser)]
#[command(name = "konductor-run", version, override_usage = "konductor-run [OPTIONS] -- COMMAND [ARG]...", after_help = EXITS)]
pub(crate) struct Args {
    /// Hold N permits of a semaphore while the command runs (repeatable; 1 without N) [env: KONDUCTOR_SEMAPHORE=NAME[:N],...]
    #[arg(long, value_name = "NAME[:N]")]
    pub(crate) semaphore: Vec<String>,

    /// Wait no longer than this; 0 tries once [default: for ever] [env: KONDUCTOR_WAIT_TIMEOUT]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait_timeout: Option<String>,

    /// Exit with 75 when the wait has timed out, or skip the command and exit with 0 [default: fail] [env: KONDUCTOR_ON_TIMEOUT]
    #[arg(long, value_name = "fail|skip")]
    pub(crate) on_timeout: Option<String>,

    /// How long a claim outlives its last renewal, 5s to 24h [default: the semaphore's] [env: KONDUCTOR_TTL]
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<String>,

    /// From TERM to KILL, when the command must end or has left processes behind [default: 10s] [env: KONDUCTOR_GRACE]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) grace: Option<String>,

    /// The namespace [default: the pod's, or that of the kubeconfig's context] [env: KONDUCTOR_NAMESPACE]
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Higher goes first [default: 0] [env: KONDUCTOR_PRIORITY]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) priority: Option<String>,

    /// Who asks, as shown to people [default: the pod's name, or the host's and the process id] [env: KONDUCTOR_HOLDER]
    #[arg(long, value_name = "NAME")]
    pub(crate) holder: Option<String>,

    /// How to log, on stderr [default: text] [env: KONDUCTOR_LOG_FORMAT]
    #[arg(long, value_name = "text|json")]
    pub(crate) log_format: Option<String>,

    /// Log more; twice for all [env: KONDUCTOR_LOG=error|warn|info|debug|trace]
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Log only warnings; twice for errors only
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) quiet: u8,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const EXITS: &str = "\
Exit codes: the command's own, or 128+n when signal n killed it;
  64 wrong usage            69 cluster unreachable     70 internal error
  75 timed out waiting      77 refused by the cluster  78 no such semaphore
  79 lost while running    126 not executable         127 no such command";
