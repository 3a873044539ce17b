//! From the surroundings of the process to a connection.

use kube::{Client, Config};

/// Connects by the kubeconfig (`KUBECONFIG`, `~/.kube/config`), else with the pod's service account.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer().await?;
    // Retrying is the caller's: a write that is repeated behind its back may meet its own result.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}
