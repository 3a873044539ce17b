//! From the surroundings of a process to a connection.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use kube::config::{Cluster, Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::{
    Program,
    link::{Failure, build},
};

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
    /// The kubeconfig does not say which context is the current one, and none was chosen.
    #[error("the kubeconfig has no current context, and none was named")]
    NoCurrentContext {
        /// Those that it knows.
        known: Vec<String>,
    },
    /// The kubeconfig does not know the cluster or the user of the context.
    #[error("the kubeconfig has no {what} {wanted:?}, which its context {context:?} names")]
    Dangling {
        /// `cluster` or `user`.
        what: &'static str,
        /// The one that the context names.
        wanted: String,
        /// The context.
        context: String,
        /// Those that the kubeconfig knows.
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
    let found = match read_kubeconfig(None) {
        Ok(kubeconfig) => configure(kubeconfig, None).await,
        Err(error) => Err(error.into()),
    };
    found.map_err(|source| if in_pod { ConnectError::NoToken { source } } else { ConnectError::NoCluster { source } })
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
        let unusable = |source: Failure| ConnectError::Config { source };
        let kubeconfig = read_kubeconfig(self.kubeconfig.as_deref()).map_err(|error| unusable(error.into()))?;
        configure(kubeconfig, self.context.as_deref()).await.map_err(|error| match error.downcast::<ConnectError>() {
            Ok(known) => *known,
            Err(error) => unusable(error),
        })
    }
}

/// What a context of a kubeconfig comes to, with the proxy that its cluster or the environment names.
async fn configure(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Config, Failure> {
    #[cfg(feature = "proxy")]
    let proxy = cluster_of(&kubeconfig, context)?.and_then(|cluster| cluster.proxy_url.clone());
    #[cfg(not(feature = "proxy"))]
    cluster_of(&kubeconfig, context)?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    #[cfg_attr(not(feature = "proxy"), expect(unused_mut, reason = "it is gone to directly"))]
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    #[cfg(feature = "proxy")]
    {
        let named = proxy.as_deref().filter(|proxy| !proxy.is_empty());
        config.proxy_url = crate::proxy::chosen(named, &config.cluster_url, |name| env::var(name).ok())?;
    }
    Ok(config)
}

/// The cluster of a context, which is the current one unless another was chosen. All that the context names must be
/// there: for a user that is not, kube would be nobody.
fn cluster_of<'a>(kubeconfig: &'a Kubeconfig, chosen: Option<&str>) -> Result<Option<&'a Cluster>, ConnectError> {
    let contexts = || kubeconfig.contexts.iter().map(|known| known.name.clone()).collect();
    let Some(name) = chosen.or(kubeconfig.current_context.as_deref()).filter(|name| !name.is_empty()) else {
        return Err(ConnectError::NoCurrentContext { known: contexts() });
    };
    let Some(named) = kubeconfig.contexts.iter().find(|known| known.name == name) else {
        return Err(ConnectError::NoContext { wanted: name.to_owned(), known: contexts() });
    };
    let Some(context) = &named.context else { return Ok(None) };
    let dangling = |what, wanted: &str, known| ConnectError::Dangling {
        what,
        wanted: wanted.to_owned(),
        context: name.to_owned(),
        known,
    };
    let users = || kubeconfig.auth_infos.iter().map(|known| known.name.clone()).collect::<Vec<_>>();
    if let Some(user) = context.user.as_ref().filter(|user| !user.is_empty())
        && !users().contains(user)
    {
        return Err(dangling("user", user, users()));
    }
    if let Some(named) = kubeconfig.clusters.iter().find(|known| known.name == context.cluster) {
        return Ok(named.cluster.as_ref());
    }
    let known = kubeconfig.clusters.iter().map(|known| known.name.clone()).collect();
    Err(dangling("cluster", &context.cluster, known))
}

/// A client for all of the Kubernetes API, of the cluster of [`find_cluster`]. It repeats no request. Its clones share
/// a connection; each call makes a new one. Where a login program gives the credentials, kube runs it again when they
/// are about to expire.
pub async fn kube_client(program: Program) -> Result<kube::Client, ConnectError> {
    let unusable = |source| ConnectError::Config { source };
    build(&find_cluster().await?, program).map_err(unusable)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_context_names_must_be_there() {
        let text = "
            clusters: [{ name: east, cluster: { server: https://a } }]
            users: [{ name: ann, user: {} }]
            contexts:
            - { name: good, context: { cluster: east, user: ann } }
            - { name: nobody, context: { cluster: east } }
            - { name: stranger, context: { cluster: east, user: bob } }
            - { name: nowhere, context: { cluster: west, user: ann } }
        ";
        let mut kubeconfig = Kubeconfig::from_yaml(text).expect("a kubeconfig");
        let said = |kubeconfig: &Kubeconfig, chosen: Option<&str>| {
            cluster_of(kubeconfig, chosen).map(|_| ()).map_err(|error| error.to_string())
        };
        for (context, expected) in [
            (Some("good"), Ok(())),
            (Some("nobody"), Ok(())),
            (Some("stranger"), Err("the kubeconfig has no user \"bob\", which its context \"stranger\" names")),
            (Some("nowhere"), Err("the kubeconfig has no cluster \"west\", which its context \"nowhere\" names")),
            (Some("other"), Err("the kubeconfig has no context \"other\"")),
            (None, Err("the kubeconfig has no current context, and none was named")),
        ] {
            assert_eq!(said(&kubeconfig, context), expected.map_err(str::to_owned), "{context:?}");
        }
        kubeconfig.current_context = Some("good".to_owned());
        assert_eq!(said(&kubeconfig, None), Ok(()));
    }
}
