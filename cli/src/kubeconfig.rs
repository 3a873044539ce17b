//! What is wrong with the way to the cluster, for people: the kubeconfig, and the login that it names.

use std::error::Error as StdError;

use konductor::{Exit, chain};
use konductor_cluster::{ConnectError, LoginError, causes, login::login_error};
use kube::config::Config;

use crate::{error::Error, globals::Globals};

/// What shows the part of the kubeconfig that counts.
const VIEW: &str = "kubectl config view --minify shows the part that is in use";

/// What to do when a login has failed.
pub(crate) const LOG_IN: &str = "log in anew, as your provider says; kubectl version goes the same way";

/// The configuration that was chosen.
pub(crate) async fn find(globals: &Globals) -> Result<Config, Error> {
    let named = globals.kubeconfig.is_some() || globals.context.is_some();
    globals.choice().find().await.map_err(|error| explain(&error, named))
}

/// Why there is no configuration. `named` says whether somebody has named a file or a context.
fn explain(error: &ConnectError, named: bool) -> Error {
    // What is wrong with a kubeconfig that nobody has named stands below that there is no cluster.
    let particular = match error {
        // A pod is given its token by who makes it: no kubeconfig is what it lacks.
        ConnectError::NoToken { .. } => return Error::new(Exit::from(error), error.to_string()),
        _ => causes(error).filter_map(|error| error.downcast_ref()).last().unwrap_or(error),
    };
    let told = Error::new(Exit::from(particular), chain(particular));
    match particular {
        ConnectError::NoUser => Error::usage("--as-group goes with --as: whom to impersonate?"),
        ConnectError::NoContext { known, .. } => told.advise(has(known)),
        ConnectError::NoCurrentContext { known } => {
            told.advise(has(known)).advise("choose one with --context, or for good: kubectl config use-context NAME")
        }
        ConnectError::Dangling { known, .. } => {
            told.advise(has(known)).advise("choose another --context, or correct it")
        }
        ConnectError::Config { source } if named => {
            Error::new(Exit::Unreachable, format!("the kubeconfig cannot be used: {}", chain(&**source)))
                .advise("correct it, or name another file with --kubeconfig or KUBECONFIG")
        }
        _ => told.advise("set KUBECONFIG, or name a file with --kubeconfig; --local DIR works without a cluster"),
    }
}

fn has(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has: {}", known.join(", ")) }
}

/// Why there can be no connection by a configuration: most often, the login has failed.
pub(crate) fn unusable(error: &(dyn StdError + 'static)) -> Error {
    let Some(login) = login_error(error) else {
        let message = format!("the cluster's configuration cannot be used: {}", chain(error));
        return Error::new(Exit::Unreachable, message).advise(VIEW);
    };
    let error = Error::new(Exit::Unreachable, chain(login));
    match login {
        LoginError::Missing { hint: Some(hint), .. } => error.advise(hint.trim()),
        LoginError::Missing { hint: None, .. } => error.advise("install it, or correct PATH or the kubeconfig"),
        LoginError::Failed { .. } | LoginError::Answer { .. } | LoginError::TooLong { .. } => {
            error.advise(LOG_IN).advise(VIEW)
        }
        LoginError::NoTerminal(_) => {
            error.advise("run it in a terminal, or name a kubeconfig whose user has a token or a certificate")
        }
        LoginError::Version(_) => {
            error.advise("have your provider's tool write the kubeconfig anew, as aws eks update-kubeconfig does")
        }
        LoginError::NoSuchProvider(_) => error.advise(
            "Kubernetes has dropped it: a login program (exec) takes its place, such as kubelogin or \
             gke-gcloud-auth-plugin",
        ),
        _ => error.advise(VIEW),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_kubeconfig_is_said_with_what_it_has() {
        let known = || vec!["east".to_owned(), "west".to_owned()];
        let deep = ConnectError::NoCluster { source: ConnectError::NoCurrentContext { known: known() }.into() };
        let error = explain(&deep, false);
        assert_eq!(error.message, "the kubeconfig has no current context, and none was named");
        assert_eq!(error.advice[0], "it has: east, west");
        let (what, wanted, context) = ("user", "bob".to_owned(), "c".to_owned());
        let error = explain(&ConnectError::Dangling { what, wanted, context, known: Vec::new() }, true);
        assert_eq!(error.advice[0], "it has none");
        assert_eq!(explain(&ConnectError::NoUser, false).exit, Exit::Usage);
        let absent = ConnectError::NoCluster { source: "no file".into() };
        assert_eq!(explain(&absent, false).exit, Exit::Unreachable);
        let source = Box::new(ConnectError::NoCurrentContext { known: known() });
        let error = explain(&ConnectError::NoToken { source }, false);
        assert_eq!((error.exit, error.advice.len()), (Exit::Refused, 0), "as konductor-run has it");
        assert!(error.message.contains("automountServiceAccountToken: true"), "{}", error.message);
        let source = "no such file".into();
        let error = explain(&ConnectError::Config { source }, true);
        assert_eq!(error.message, "the kubeconfig cannot be used: no such file");
    }
}
