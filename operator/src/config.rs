//! Flags and environment, parsed once into a [`Config`] that cannot be wrong. Flags win over the environment.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, ValueEnum};
use konductor_api::GoDuration;

use crate::{election::LONGEST, log::Filter};

/// Shortest lease: three renewals of it must each survive a slow answer.
const MIN_LEASE: Duration = Duration::from_secs(2);

/// How the logs are written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Election {
    /// Whoever holds the coordination.k8s.io Lease `konductor-operator`.
    Lease,
    /// This process, always: for a single replica, and for tests. Two such processes are safe, but keep taking over
    /// from each other.
    Always,
}

/// Decides who holds Konductor's semaphores and leases. Runs in the cluster, two replicas at a time; one of them leads.
#[derive(Debug, Parser)]
#[command(name = "konductor-operator", version)]
struct Args {
    /// Address of /metrics
    #[arg(long, env = "KONDUCTOR_METRICS_ADDR", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    metrics_addr: SocketAddr,
    /// Address of /healthz and /readyz
    #[arg(long, env = "KONDUCTOR_HEALTH_ADDR", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8081")]
    health_addr: SocketAddr,
    /// Namespace of the election's lease [default: that of the pod, or of the kubeconfig's context]
    #[arg(long, env = "KONDUCTOR_NAMESPACE", value_name = "NAME", value_parser = non_empty)]
    namespace: Option<String>,
    /// This process's name in the election, of a pod its name, an underscore and its UID [default: the host's name and a
    /// random number]
    #[arg(long, env = "KONDUCTOR_IDENTITY", value_name = "NAME", value_parser = non_empty)]
    identity: Option<String>,
    /// Who leads
    #[arg(long, env = "KONDUCTOR_ELECTION", value_enum, default_value_t = Election::Lease)]
    election: Election,
    /// How long a dead leader is waited for: 2s to 10m, in whole seconds
    #[arg(long, env = "KONDUCTOR_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    lease_duration: Duration,
    /// Format of the logs, on standard error
    #[arg(long, env = "KONDUCTOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace; also per module of a library, like info,hyper=debug
    #[arg(long, env = "KONDUCTOR_LOG", value_name = "LEVEL", default_value = "info", value_parser = Filter::read)]
    log: Filter,
}

/// What the operator runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address of /metrics.
    pub metrics_addr: SocketAddr,
    /// Address of /healthz and /readyz.
    pub health_addr: SocketAddr,
    /// Namespace of the election's lease; that of the surroundings when absent.
    pub namespace: Option<String>,
    /// This process's name in the election; made up when absent.
    pub identity: Option<String>,
    /// Who leads.
    pub election: Election,
    /// How long a dead leader is waited for; whole seconds.
    pub lease_duration: Duration,
    /// How the logs are written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: Filter,
}

impl Config {
    /// Reads the process's arguments and environment. The error is what clap wants to print: help, version or a
    /// complaint.
    pub fn from_process() -> Result<Self, clap::Error> {
        Args::try_parse().map(Into::into)
    }
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        let Args { metrics_addr, health_addr, namespace, identity, election, lease_duration, log_format, log } = args;
        Self { metrics_addr, health_addr, namespace, identity, election, lease_duration, log_format, log }
    }
}

fn non_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it must not be empty") } else { Ok(text.to_owned()) }
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let GoDuration(duration) =
        text.parse().map_err(|error: konductor_api::duration::DurationError| error.to_string())?;
    let whole = duration.subsec_nanos() == 0;
    if whole && (MIN_LEASE..=LONGEST).contains(&duration) {
        Ok(duration)
    } else {
        Err("it must be from 2s to 10m, in whole seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        Args::try_parse_from(std::iter::once(&"konductor-operator").chain(arguments)).map(Into::into)
    }

    #[test]
    fn defaults_are_those_of_a_replica_in_the_cluster() {
        let config = parse(&[]).expect("no argument is needed");
        assert_eq!(config.metrics_addr, "0.0.0.0:8080".parse().expect("an address"));
        assert_eq!(config.health_addr, "0.0.0.0:8081".parse().expect("an address"));
        assert_eq!(config.election, Election::Lease);
        assert_eq!(config.lease_duration, Duration::from_secs(15));
        assert_eq!(config.log_format, LogFormat::Text);
        assert_eq!((config.namespace, config.identity), (None, None));
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for wrong in [
            "--metrics-addr=here",
            "--health-addr=8081",
            "--namespace=",
            "--identity=",
            "--election=never",
            "--lease-duration=1s",
            "--lease-duration=1.5s",
            "--lease-duration=11m",
            "--lease-duration=15",
            "--log-format=xml",
            "--log=konductor=loud",
            "--log=loud",
            "--log=",
            "--colour",
            "argument",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong} was accepted");
        }
    }
}
