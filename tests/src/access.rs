//! Ways into a control plane: kubeconfigs for its administrator, for any user, and for any token.
//!
//! Users authenticate with client certificates, `ServiceAccount`s with tokens, as in any cluster; nothing is
//! impersonated.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::pki::{Authority, Identity};
use crate::reaper;

/// How to reach one control plane. Cheap to clone, and independent of whether the API server runs at the moment.
#[derive(Debug, Clone)]
pub struct Access {
    url: String,
    authority: Arc<Authority>,
    admin_kubeconfig: PathBuf,
}

impl Access {
    /// Writes the administrator's kubeconfig to the given path.
    pub(crate) fn new(url: String, authority: Authority, admin_kubeconfig: PathBuf) -> Self {
        let admin = authority.user("admin", "admin", Some("system:masters"));
        let access = Self { url, authority: Arc::new(authority), admin_kubeconfig };
        access.write(&access.admin_kubeconfig, "default", &by_certificate(&admin));
        access
    }

    /// The API server's address, as `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the authority that the API server's own certificate comes from.
    pub fn authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// The kubeconfig of a user who may do everything.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// A kubeconfig of this user, in this group, with `namespace` as its default one. It authenticates with a
    /// certificate.
    pub fn user_kubeconfig(&self, user: &str, group: Option<&str>, namespace: &str) -> PathBuf {
        let folder = reaper::folder("user");
        let file = folder.file_name().and_then(|name| name.to_str()).expect("the harness's folders have UTF-8 names");
        let identity = self.authority.user(file, user, group);
        let path = folder.join("kubeconfig");
        self.write(&path, namespace, &by_certificate(&identity));
        path
    }

    /// A kubeconfig that authenticates with this token, with `namespace` as its default one. The token is in the file
    /// `token` beside the kubeconfig and is read from there, as in a pod; a test can rotate it.
    pub fn token_kubeconfig(&self, token: &str, namespace: &str) -> PathBuf {
        let folder = reaper::folder("token");
        let file = folder.join("token");
        std::fs::write(&file, token).expect("write a token");
        let path = folder.join("kubeconfig");
        self.write(&path, namespace, &json!({ "tokenFile": file }));
        path
    }

    fn write(&self, path: &Path, namespace: &str, user: &Value) {
        let cluster = json!({ "server": self.url, "certificate-authority": self.authority() });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": namespace } }],
            "current-context": "test",
        });
        let text = serde_yaml_ng::to_string(&config).expect("a kubeconfig is plain data");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

fn by_certificate(identity: &Identity) -> Value {
    json!({ "client-certificate": identity.certificate, "client-key": identity.key })
}

/// A client that uses this kubeconfig. It belongs to the runtime that it is made in, so each test makes its own.
pub async fn client(kubeconfig: &Path) -> Client {
    Client::try_from(config(kubeconfig).await).expect("make a client")
}

/// What a kubeconfig says.
pub async fn config(path: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(path).expect("read a kubeconfig");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("use a kubeconfig")
}
