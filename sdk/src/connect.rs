//! From the surroundings of a process to a connection, or to the folder that takes its place.

use std::{fmt, path::PathBuf, sync::Arc};

use konductor_cluster::Link;
use kube::config::Config;

use crate::{Local, name::is_name};

pub use konductor_cluster::{Choice, ConnectError, Login, Program};

/// Where to connect to.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The namespace; that of the pod or of the kubeconfig's context when absent.
    pub namespace: Option<String>,
    /// A folder of this machine instead of a cluster, see [`local`](crate::local). Never taken by itself.
    pub local: Option<Local>,
    /// Whose requests these are, as the API server's logs and the managed fields of objects name it.
    pub program: Program,
    /// Which cluster, and as whom, when that was said.
    pub choice: Choice,
    /// How the program is run that the kubeconfig logs in by, if it has one.
    pub login: Login,
}

impl Default for ConnectOptions {
    /// The namespace that is found, of a cluster, for [`Program::SDK`].
    fn default() -> Self {
        Self { namespace: None, local: None, program: Program::SDK, choice: Choice::default(), login: Login::default() }
    }
}

/// A connection to the cluster, for one namespace, or a folder instead. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client(pub(crate) Target);

/// Where a client's locks are.
#[derive(Clone)]
pub(crate) enum Target {
    Cluster(Cluster),
    Local(Local),
}

/// A connection and the namespace that it is used for.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) link: Arc<Link>,
    pub(crate) namespace: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Cluster(Cluster { namespace, .. }) => {
                f.debug_struct("Client").field("namespace", namespace).finish_non_exhaustive()
            }
            Target::Local(local) => f.debug_tuple("Client").field(local).finish(),
        }
    }
}

impl Client {
    /// Finds the cluster: by `KUBECONFIG` when set, else in a pod by its service account, else by `~/.kube/config`;
    /// unless the options choose another one, or name a folder.
    ///
    /// No request is made yet; a login program that the kubeconfig has is run, and waited for. Tokens of service accounts,
    /// and token files of a kubeconfig, are read anew at least every minute and when the API server no longer accepts them.
    /// Must be called on a tokio runtime with I/O and time enabled.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        if let Some(local) = options.local {
            return Ok(Self(Target::Local(local)));
        }
        let config = options.choice.find().await?;
        let namespace = namespace_of(&config, options.namespace)?;
        let link = Link::connect(config, options.program, options.login).await;
        let link = link.map_err(|source| ConnectError::Config { source })?;
        Ok(Self::over(Arc::new(link), namespace))
    }

    /// Connects to the cluster of this configuration. Its timeouts, retries and proxy are not used; the
    /// protocol has its own, and a proxy is warned about. A login program that it has is waited for, and keeps this
    /// thread from all else.
    pub fn from_config(config: Config, options: ConnectOptions) -> Result<Self, ConnectError> {
        let namespace = namespace_of(&config, options.namespace)?;
        let link = Link::new(config, options.program).map_err(|source| ConnectError::Config { source })?;
        Ok(Self::over(Arc::new(link), namespace))
    }

    /// Shares a connection that others use as well, for this namespace.
    #[doc(hidden)]
    pub fn over(link: Arc<Link>, namespace: String) -> Self {
        Self(Target::Cluster(Cluster { link, namespace }))
    }

    /// Without a cluster: the locks of this folder, between the processes of this machine. See [`local`](crate::local).
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Self(Target::Local(Local::new(folder)))
    }

    /// The namespace of everything that this client asks for; empty without a cluster.
    pub fn namespace(&self) -> &str {
        match &self.0 {
            Target::Cluster(cluster) => &cluster.namespace,
            Target::Local(_) => "",
        }
    }
}

/// The namespace that was chosen, or else that of the configuration.
fn namespace_of(config: &Config, chosen: Option<String>) -> Result<String, ConnectError> {
    let namespace = chosen.unwrap_or_else(|| config.default_namespace.trim().to_owned());
    if is_name(&namespace) { Ok(namespace) } else { Err(ConnectError::Namespace(namespace)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn others_go_on_while_a_login_program_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, go) = (folder.path().join("config"), folder.path().join("go"));
        let script =
            format!("while [ ! -e {} ]; do sleep 0.01; done; echo '{{\"status\":{{\"token\":\"t\"}}}}'", go.display());
        let exec = serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
        });
        let kubeconfig = serde_json::json!({
            "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
            "users": [{ "name": "u", "user": { "exec": exec } }],
        });
        std::fs::write(&file, kubeconfig.to_string()).expect("written");
        let login = Login { limit: Duration::from_mins(1), asks: false, asks_again: false };
        let choice = Choice { kubeconfig: Some(file), ..Choice::default() };
        let connecting = Client::connect(ConnectOptions { choice, login, ..ConnectOptions::default() });
        // On the same thread.
        let other = async { std::fs::write(go, "").expect("written") };
        let (client, ()) = tokio::join!(connecting, other);
        client.expect("logged in");
    }
}
