//! From the surroundings of a process to a connection, or to the folder that takes its place.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::{
    Local,
    kubernetes::{Link, build},
    protocol::is_name,
};

/// Where the kubelet puts a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where to connect to.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The namespace; that of the pod or of the kubeconfig's context when absent.
    pub namespace: Option<String>,
    /// A folder of this machine instead of a cluster, see [`local`](crate::local). Never taken by itself.
    pub local: Option<Local>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Neither in a pod nor with a kubeconfig that can be used.
    #[error("no cluster to connect to: this is not a pod with a service account, and there is no usable kubeconfig")]
    NoCluster {
        /// What is wrong with the kubeconfig.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the pod's service account or the kubeconfig says cannot be used.
    #[error("the cluster's configuration cannot be used")]
    Config {
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A namespace that cannot exist.
    #[error("{0:?} is not a name that a namespace can have")]
    Namespace(String),
}

/// Where the cluster is, and as whom to talk to it: see [`Client::connect`].
async fn find_cluster() -> Result<Config, ConnectError> {
    let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(SERVICE_ACCOUNT_TOKEN).exists();
    if in_pod && env::var_os("KUBECONFIG").is_none() {
        Config::incluster().map_err(|error| ConnectError::Config { source: error.into() })
    } else {
        find_kubeconfig().await.map_err(|error| ConnectError::NoCluster { source: error.into() })
    }
}

/// As kube finds it, but with absolute paths: the working directory may be another one when a token file is read again.
async fn find_kubeconfig() -> Result<Config, KubeconfigError> {
    let options = KubeConfigOptions::default();
    let value = env::var_os("KUBECONFIG").unwrap_or_default();
    let mut files = env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).peekable();
    if files.peek().is_none() {
        return Config::from_kubeconfig(&options).await;
    }
    let merged = files.try_fold(Kubeconfig::default(), |merged, file| {
        Kubeconfig::read_from(std::path::absolute(&file).unwrap_or(file)).and_then(|next| merged.merge(next))
    })?;
    Config::from_custom_kubeconfig(merged, &options).await
}

/// A client for the rest of the Kubernetes API, found and connected as [`Client::connect`] does; for programs that are part
/// of Konductor. It repeats no request.
#[doc(hidden)]
pub async fn kube_client() -> Result<kube::Client, ConnectError> {
    build(&find_cluster().await?).map_err(|source| ConnectError::Config { source })
}

/// A connection to the cluster, for one namespace, or a folder instead. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client(pub(crate) Place);

/// Where a client's locks are.
#[derive(Clone)]
pub(crate) enum Place {
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
            Place::Cluster(Cluster { namespace, .. }) => {
                f.debug_struct("Client").field("namespace", namespace).finish_non_exhaustive()
            }
            Place::Local(local) => f.debug_tuple("Client").field(local).finish(),
        }
    }
}

impl Client {
    /// Finds the cluster: by `KUBECONFIG` when set, else in a pod by its service account, else by `~/.kube/config`; unless the
    /// options name a folder.
    ///
    /// No request is made yet. Tokens of service accounts, and token files of a kubeconfig, are read anew at least every
    /// minute and when the API server no longer accepts them. Must be called on a tokio runtime with I/O and time enabled.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        match options.local {
            Some(local) => Ok(Self(Place::Local(local))),
            None => Self::from_config(find_cluster().await?, options),
        }
    }

    /// Connects to the cluster of this configuration. Its timeouts, retries and proxy are not used; the
    /// protocol has its own, and a proxy is warned about.
    pub fn from_config(config: Config, options: ConnectOptions) -> Result<Self, ConnectError> {
        let namespace = options.namespace.unwrap_or_else(|| config.default_namespace.trim().to_owned());
        if !is_name(&namespace) {
            return Err(ConnectError::Namespace(namespace));
        }
        if let Some(proxy) = &config.proxy_url {
            tracing::warn!(
                "proxies are not supported: connecting directly, not by {}",
                proxy.host().unwrap_or_default()
            );
        }
        let link = Link::new(config).map_err(|source| ConnectError::Config { source })?;
        Ok(Self(Place::Cluster(Cluster { link: Arc::new(link), namespace })))
    }

    /// Without a cluster: the locks of this folder, between the processes of this machine. See [`local`](crate::local).
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Self(Place::Local(Local::new(folder)))
    }

    /// The namespace of everything that this client asks for; empty without a cluster.
    pub fn namespace(&self) -> &str {
        match &self.0 {
            Place::Cluster(cluster) => &cluster.namespace,
            Place::Local(_) => "",
        }
    }
}
