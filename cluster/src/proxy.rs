//! Connections by a proxy, as people's kubeconfigs and `HTTPS_PROXY` name one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use percent_encoding::percent_decode_str;

use crate::{link::Failure, resolve::Resolver};

/// Connections that the proxy at `proxy` forwards (`CONNECT`).
pub(crate) fn tunnel(proxy: &Uri, tcp: HttpConnector<Resolver>) -> Result<Tunnel<HttpConnector<Resolver>>, Failure> {
    if proxy.scheme_str() != Some("http") {
        let named = proxy.scheme_str().unwrap_or_default();
        return Err(format!("a proxy of the kind {named:?} is not supported: name one that begins with http://").into());
    }
    let tunnel = Tunnel::new(proxy.clone(), tcp);
    Ok(match credentials(proxy) {
        None => tunnel,
        Some(credentials) => tunnel.with_auth(HeaderValue::try_from(credentials)?),
    })
}

/// The header that the user and the password in a URI become.
fn credentials(proxy: &Uri) -> Option<String> {
    let (user, _) = proxy.authority()?.as_str().rsplit_once('@')?;
    let user: Vec<u8> = percent_decode_str(user).collect();
    Some(format!("Basic {}", STANDARD.encode(user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_sent_as_it_was_before_it_was_escaped() {
        for (proxy, expected) in [
            ("http://proxy:3128", None),
            ("http://me:p%40ss@proxy:3128", Some("Basic bWU6cEBzcw==")),
            ("http://me@proxy", Some("Basic bWU=")),
        ] {
            assert_eq!(credentials(&Uri::from_static(proxy)).as_deref(), expected, "{proxy}");
        }
    }

    #[tokio::test]
    async fn only_what_can_be_used_is_taken_for_a_proxy() {
        let tcp = || HttpConnector::new_with_resolver(Resolver::system());
        assert!(tunnel(&Uri::from_static("http://proxy:3128"), tcp()).is_ok());
        let refused = tunnel(&Uri::from_static("socks5://proxy:1080"), tcp()).expect_err("no HTTP proxy");
        assert!(refused.to_string().contains("socks5"), "{refused}");
    }
}
