//! Connections by a proxy, as people's kubeconfigs and `HTTPS_PROXY` name one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use hyper_util::client::{
    legacy::connect::{HttpConnector, proxy::Tunnel},
    proxy::matcher::Matcher,
};
use percent_encoding::percent_decode_str;

use crate::{link::Failure, resolve::Resolver};

/// The proxy by which to reach this server, if by one: that of the kubeconfig always, that of the environment unless
/// `NO_PROXY` names the server.
pub(crate) fn chosen(
    named: Option<&str>,
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, Failure> {
    let either = |upper: &str, lower: &str| [upper, lower].into_iter().filter_map(&variable).find(|v| !v.is_empty());
    let proxy = if let Some(named) = named {
        named.to_owned()
    } else {
        let of_all = either("HTTPS_PROXY", "https_proxy").filter(|_| server.scheme_str() == Some("https"));
        let Some(proxy) = of_all else { return Ok(None) };
        let excepted = either("NO_PROXY", "no_proxy").unwrap_or_default();
        // Only whether it goes by a proxy is asked: any will do.
        if Matcher::builder().all("http://proxy").no(excepted).build().intercept(server).is_none() {
            return Ok(None);
        }
        // As curl and Go read it.
        if proxy.contains("://") { proxy } else { format!("http://{proxy}") }
    };
    // It may hold a password.
    let shown = proxy.rsplit_once('@').map_or(proxy.as_str(), |(_, host)| host);
    proxy.parse().map(Some).map_err(|error| format!("the proxy {shown:?} cannot be used: {error}").into())
}

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
    // A user without a password has an empty one: what is sent always has a colon (RFC 7617).
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let both: Vec<u8> = percent_decode_str(user).chain(*b":").chain(percent_decode_str(password)).collect();
    Some(format!("Basic {}", STANDARD.encode(both)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_sent_as_it_was_before_it_was_escaped() {
        for (proxy, expected) in [
            ("http://proxy:3128", None),
            ("http://me:p%40ss@proxy:3128", Some("Basic bWU6cEBzcw==")),
            ("http://me@proxy", Some("Basic bWU6")),
            ("http://me:@proxy", Some("Basic bWU6")),
            ("http://:token@proxy", Some("Basic OnRva2Vu")),
            ("http://me:a:b@proxy", Some("Basic bWU6YTpi")),
        ] {
            assert_eq!(credentials(&Uri::from_static(proxy)).as_deref(), expected, "{proxy}");
        }
    }

    #[test]
    fn a_kubeconfigs_proxy_is_always_used_and_the_environments_unless_the_server_is_excepted() {
        let (server, plain) = (Uri::from_static("https://api.example.com:6443"), Uri::from_static("http://10.0.0.1"));
        let by = |named, server: &Uri, variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            chosen(named, server, variable).expect("a proxy").map(|proxy| proxy.to_string())
        };
        let proxy = ("HTTPS_PROXY", "http://proxy:3128");
        for (named, server, variables, expected) in [
            (None, &server, &[][..], None),
            (None, &server, &[proxy], Some("http://proxy:3128/")),
            (None, &server, &[("https_proxy", "proxy:3128")], Some("http://proxy:3128/")),
            (None, &plain, &[proxy], None),
            (None, &server, &[proxy, ("NO_PROXY", "localhost,.example.com,")], None),
            (None, &server, &[proxy, ("no_proxy", "*")], None),
            // Who is excepted is the server, and not the proxy.
            (None, &server, &[proxy, ("NO_PROXY", "proxy,10.0.0.0/8")], Some("http://proxy:3128/")),
            (Some("http://other:1"), &server, &[proxy, ("NO_PROXY", "*")], Some("http://other:1/")),
        ] {
            assert_eq!(by(named, server, variables).as_deref(), expected, "{named:?} {server} {variables:?}");
        }
        let error = chosen(Some("http://me:secret@[oops"), &server, |_| None).expect_err("no proxy").to_string();
        assert!(error.contains("[oops") && !error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn only_what_can_be_used_is_taken_for_a_proxy() {
        let tcp = || HttpConnector::new_with_resolver(Resolver::system());
        assert!(tunnel(&Uri::from_static("http://proxy:3128"), tcp()).is_ok());
        let refused = tunnel(&Uri::from_static("socks5://proxy:1080"), tcp()).expect_err("no HTTP proxy");
        assert!(refused.to_string().contains("socks5"), "{refused}");
    }
}
