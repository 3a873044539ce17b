//! From the surroundings of a process to a connection.

use std::{env, path::Path, sync::Arc};

use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::{Program, link::build};

/// Where the kubelet puts a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

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
    /// In a pod that is given no token of its service account, and without a kubeconfig: for ever, unless the pod is
    /// made anew.
    #[error(
        "this pod has no token to talk to the cluster with: set automountServiceAccountToken: true in the pod's spec (it \
         may be false there or in the ServiceAccount)"
    )]
    NoToken {
        /// What is wrong with the kubeconfig that could take its place.
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

/// Where the cluster is, and as whom to talk to it: by `KUBECONFIG` when set, else in a pod by its service account,
/// else by `~/.kube/config`.
pub async fn find_cluster() -> Result<Config, ConnectError> {
    let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some() && env::var_os("KUBECONFIG").is_none();
    if in_pod && Path::new(SERVICE_ACCOUNT_TOKEN).exists() {
        return Config::incluster().map_err(|error| ConnectError::Config { source: error.into() });
    }
    find_kubeconfig().await.map_err(|error| {
        let source = error.into();
        if in_pod { ConnectError::NoToken { source } } else { ConnectError::NoCluster { source } }
    })
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

/// A client for all of the Kubernetes API, of the cluster of [`find_cluster`]. It repeats no request. Its clones share
/// a connection; each call makes a new one.
pub async fn kube_client(program: Program) -> Result<kube::Client, ConnectError> {
    build(&find_cluster().await?, program).map_err(|source| ConnectError::Config { source })
}

/// How a program that needs several connections comes to each of them.
#[derive(Clone)]
pub enum Way {
    /// To the cluster of [`find_cluster`].
    Found(Program),
    /// As somebody else makes them.
    Made(Arc<dyn Fn() -> kube::Client + Send + Sync>),
}

impl Way {
    /// A client with a connection of its own.
    pub async fn client(&self) -> Result<kube::Client, ConnectError> {
        match self {
            Self::Found(program) => kube_client(*program).await,
            Self::Made(make) => Ok(make()),
        }
    }
}
