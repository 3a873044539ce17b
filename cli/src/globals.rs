//! What every command takes: which cluster, as whom, how much is said.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use konductor::{Choice, Local};

/// Where to look, and how to speak.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Globals {
    /// The namespace; that of the kubeconfig's context, or of the pod, when absent.
    #[arg(short, long, global = true, env = "KONCLI_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig to use.
    #[arg(long, global = true, env = "KONCLI_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig to use; that of KUBECONFIG, the pod's service account, or ~/.kube/config when absent.
    #[arg(long, global = true, env = "KONCLI_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The user to impersonate.
    #[arg(long = "as", global = true, env = "KONCLI_AS", value_name = "USER")]
    pub(crate) as_user: Option<String>,
    /// A group to impersonate (repeatable).
    #[arg(long = "as-group", global = true, env = "KONCLI_AS_GROUP", value_delimiter = ',', value_name = "GROUP")]
    pub(crate) as_group: Vec<String>,
    /// No cluster: the locks in this folder, between the processes of this machine.
    #[arg(long, global = true, env = "KONCLI_LOCAL", value_name = "DIR")]
    pub(crate) local: Option<PathBuf>,
    /// That folder may be on a filesystem of which nobody knows that no other machine uses it.
    #[arg(long, global = true, hide = true)]
    pub(crate) local_filesystem_ok: bool,
    /// Say only what goes wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on stderr; twice for all.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Whether to use colours; auto: on a terminal, unless `NO_COLOR` or TERM=dumb says no.
    #[arg(long, global = true, env = "KONCLI_COLOR", value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorWhen,
    /// Where the operator is, for `why`, which otherwise looks for it; elsewhere it makes no difference (old scripts).
    #[arg(long, global = true, hide = true, value_name = "NAMESPACE")]
    pub(crate) operator_namespace: Option<String>,
    /// Taken for old scripts: error, warn, info, debug or trace.
    #[arg(long, global = true, hide = true, env = "KONCLI_LOG", value_name = "LEVEL", value_parser = parse_level)]
    pub(crate) log_level: Option<tracing::Level>,
}

impl Globals {
    /// Which cluster is meant, and as whom.
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            user: self.as_user.clone(),
            groups: self.as_group.clone(),
        }
    }

    /// The folder that takes the cluster's place, if one does.
    pub(crate) fn folder(&self) -> Option<Local> {
        let folder = Local::new(self.local.as_ref()?);
        Some(if self.local_filesystem_ok { folder.on_any_filesystem() } else { folder })
    }
}

/// Reads how much is logged.
fn parse_level(text: &str) -> Result<tracing::Level, String> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Ok(tracing::Level::WARN),
        // Of those there is nothing here that would not be an error.
        "fatal" | "panic" => Ok(tracing::Level::ERROR),
        level => level.parse().map_err(|_| "use error, warn, info, debug or trace".to_owned()),
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal that has them.
    #[default]
    Auto,
    /// Also elsewhere.
    Always,
    /// Never.
    Never,
}

impl ColorWhen {
    /// Whether to use colours, given what the environment says and whether it goes to a terminal.
    pub(crate) fn decide(self, terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR") => false,
            Self::Auto if variable("CLICOLOR_FORCE").is_some_and(|value| !matches!(value.as_str(), "" | "0")) => true,
            Self::Auto => terminal && variable("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_old_scripts() {
        for (text, expected) in [
            ("info", Some(tracing::Level::INFO)),
            ("DEBUG", Some(tracing::Level::DEBUG)),
            ("warning", Some(tracing::Level::WARN)),
            ("fatal", Some(tracing::Level::ERROR)),
            ("loud", None),
        ] {
            assert_eq!(parse_level(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn colors_are_for_terminals_that_want_them() {
        let nothing: &[(&str, &str)] = &[];
        for (when, terminal, variables, expected) in [
            (ColorWhen::Auto, true, nothing, true),
            (ColorWhen::Auto, false, nothing, false),
            (ColorWhen::Auto, true, &[("NO_COLOR", "1")][..], false),
            (ColorWhen::Auto, true, &[("NO_COLOR", "")][..], true),
            (ColorWhen::Auto, true, &[("TERM", "dumb")][..], false),
            (ColorWhen::Auto, false, &[("CLICOLOR_FORCE", "1")][..], true),
            (ColorWhen::Auto, false, &[("CLICOLOR_FORCE", "0")][..], false),
            (ColorWhen::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")][..], false),
            (ColorWhen::Always, false, &[("NO_COLOR", "1")][..], true),
            (ColorWhen::Never, true, &[("CLICOLOR_FORCE", "1")][..], false),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(when.decide(terminal, variable), expected, "{when:?} {terminal} {variables:?}");
        }
    }
}
