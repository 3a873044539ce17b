//! From the surroundings of a process to a connection.

use std::{
    env,
    path::{Path, PathBuf},
};

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
    /// The kubeconfig does not know the context that was chosen.
    #[error("the kubeconfig has no context {wanted:?}")]
    NoContext {
        /// The one that was chosen.
        wanted: String,
        /// Those that it knows.
        known: Vec<String>,
    },
    /// Groups were named to be impersonated, and no user.
    #[error("a group is impersonated together with a user, and no user is named")]
    NoUser,
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
    match merged_kubeconfig()? {
        None => Config::from_kubeconfig(&options).await,
        Some(merged) => Config::from_custom_kubeconfig(merged, &options).await,
    }
}

/// What the files of `KUBECONFIG` say together; none when it names none.
fn merged_kubeconfig() -> Result<Option<Kubeconfig>, KubeconfigError> {
    let value = env::var_os("KUBECONFIG").unwrap_or_default();
    let mut files = env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).peekable();
    if files.peek().is_none() {
        return Ok(None);
    }
    let merged = files.try_fold(Kubeconfig::default(), |merged, file| {
        Kubeconfig::read_from(absolute(&file)).and_then(|next| merged.merge(next))
    })?;
    Ok(Some(merged))
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

/// The kubeconfig in this file; without one, as kubectl finds it.
pub fn read_kubeconfig(file: Option<&Path>) -> Result<Kubeconfig, KubeconfigError> {
    if let Some(file) = file {
        return Kubeconfig::read_from(absolute(file));
    }
    merged_kubeconfig()?.map_or_else(Kubeconfig::read, Ok)
}

/// Which cluster, and as whom, when that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The kubeconfig; found as by [`find_cluster`] when absent.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; its current one when absent.
    pub context: Option<String>,
    /// The user to impersonate.
    pub user: Option<String>,
    /// The groups to impersonate, together with a user.
    pub groups: Vec<String>,
}

impl Choice {
    /// Where the cluster is that was chosen, and as whom to talk to it.
    pub async fn find(&self) -> Result<Config, ConnectError> {
        let mut config = if self.kubeconfig.is_none() && self.context.is_none() {
            find_cluster().await?
        } else {
            self.in_kubeconfig().await?
        };
        if let Some(user) = &self.user {
            config.auth_info.impersonate = Some(user.clone());
        }
        if !self.groups.is_empty() {
            if config.auth_info.impersonate.is_none() {
                return Err(ConnectError::NoUser);
            }
            config.auth_info.impersonate_groups = Some(self.groups.clone());
        }
        Ok(config)
    }

    async fn in_kubeconfig(&self) -> Result<Config, ConnectError> {
        let unusable = |error: KubeconfigError| ConnectError::Config { source: error.into() };
        let kubeconfig = read_kubeconfig(self.kubeconfig.as_deref()).map_err(unusable)?;
        if let Some(context) = &self.context
            && kubeconfig.contexts.iter().all(|known| known.name != *context)
        {
            let known = kubeconfig.contexts.into_iter().map(|known| known.name).collect();
            return Err(ConnectError::NoContext { wanted: context.clone(), known });
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)
    }
}

/// A client for all of the Kubernetes API, of the cluster of [`find_cluster`]. It repeats no request. Its clones share
/// a connection; each call makes a new one.
pub async fn kube_client(program: Program) -> Result<kube::Client, ConnectError> {
    build(&find_cluster().await?, program).map_err(|source| ConnectError::Config { source })
}
