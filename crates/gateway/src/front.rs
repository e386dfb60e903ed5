//! What stands before the gateway, as far as it is told to upstreams.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate_listener::{Entrance, TrustedProxies};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How calls come to a listener.
#[derive(Debug, Default)]
pub(crate) struct Front {
    proxies: Arc<TrustedProxies>,
    is_tls: bool,
}

/// Where a call comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The caller's address, as trusted proxies tell it.
    pub(crate) caller: IpAddr,
    front: &'a Front,
    /// Whether a trusted proxy has written what stands in the headers.
    by_proxy: bool,
}

// === impl Front ===

impl Front {
    pub(crate) fn new(entrance: &Entrance) -> Self {
        Self { proxies: entrance.proxies.clone(), is_tls: entrance.tls.is_some() }
    }

    /// Returns where a call comes from. A caller that a proxy has told of has no port.
    pub(crate) fn origin(&self, remote: SocketAddr) -> Origin<'_> {
        let by_proxy = !self.proxies.is_empty() && (remote.port() == 0 || self.proxies.contains(remote.ip()));
        Origin { caller: remote.ip(), front: self, by_proxy }
    }
}

// === impl Origin ===

impl Origin<'_> {
    /// Returns the scheme that the caller used.
    pub(crate) fn scheme(&self, headers: &HeaderMap) -> &'static str {
        let told = Some(headers).filter(|_| self.by_proxy).and_then(|it| last(it, &X_FORWARDED_PROTO));
        match told {
            Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => "https",
            Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => "http",
            _ if self.front.is_tls => "https",
            _ => "http",
        }
    }

    /// Returns the host that the caller named.
    pub(crate) fn host<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        let is_host = |value: &&HeaderValue| {
            http::uri::Authority::try_from(value.as_bytes()).is_ok_and(|it| !it.as_str().contains('@'))
        };
        let told = headers.get_all(&X_FORWARDED_HOST).iter().next_back();
        told.filter(|_| self.by_proxy).filter(is_host).or_else(|| headers.get(HOST))
    }
}

/// Returns the last element of a field, which the nearest proxy has written.
fn last<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let value = headers.get_all(name).iter().next_back()?;
    value.as_bytes().rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use tollgate_listener::ForwardedHeader;

    use super::*;

    #[test]
    fn what_a_caller_writes_is_believed_of_trusted_proxies_alone() {
        let proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        let proxies = Arc::new(TrustedProxies::new(proxies, ForwardedHeader::XForwardedFor));
        let front = Front { proxies, is_tls: false };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("gateway.example"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("shop.example"));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("http, https"));
        let told = |remote: &str| {
            let origin = front.origin(remote.parse().expect("an address"));
            (origin.scheme(&headers), origin.host(&headers).and_then(|it| it.to_str().ok()))
        };
        assert_eq!(told("203.0.113.9:4711"), ("http", Some("gateway.example")));
        assert_eq!(told("203.0.113.9:0"), ("https", Some("shop.example")));
        assert_eq!(told("10.1.1.1:4711"), ("https", Some("shop.example")));
    }
}
