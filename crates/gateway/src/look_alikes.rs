//! Headers that look like a client certificate.
//!
//! Proxies that end TLS hand certificates on in headers (RFC 9440, and many a name besides). The gateway ends TLS itself:
//! what a caller showed is a type beside the request. A flow, or a server behind it, may still believe such a header, and
//! every caller can send one. So none gets any further than this, whoever sent it.

use http::{HeaderMap, HeaderName};

use crate::fields::remove_where;

/// What such names have in common, without what stands between words: `Client-Cert`, `X-Forwarded-Client-Cert`,
/// `SSL_CLIENT_S_DN`, `X-Forwarded-Tls-Client-Cert-Info`, `X-ARR-ClientCert`, `X-Amzn-Mtls-Clientcert-Leaf`.
const MARKS: [&str; 6] = ["clientcert", "sslclient", "tlsclient", "clientdn", "clientverify", "mtls"];

/// Takes such headers away.
pub(crate) fn strip(headers: &mut HeaderMap) {
    remove_where(headers, is_look_alike);
}

/// Tells whether a field is one of them.
pub(crate) fn is_look_alike(name: &HeaderName) -> bool {
    let name = name.as_str();
    // `client` or `mtls` stands in a row in each mark, however the words are set apart: an `l` between these letters.
    let may_be = name.as_bytes().contains(&b'l')
        && memchr::memchr_iter(b'l', name.as_bytes()).any(|at| {
            let (before, after) = name.as_bytes().split_at(at);
            before.ends_with(b"c") && after.starts_with(b"lient")
                || before.ends_with(b"mt") && after.starts_with(b"ls")
        });
    may_be && {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        MARKS.iter().any(|mark| plain.contains(mark))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn no_header_is_a_client_certificate() {
        let mut headers = HeaderMap::new();
        for name in [
            "client-cert",
            "client-cert-chain",
            "x-client-cert",
            "x_client_cert",
            "x-forwarded-client-cert",
            "x-forwarded-tls-client-cert",
            "x-ssl-client-verify",
            "ssl_client_s_dn",
            "ssl-client-cert",
            "x-arr-clientcert",
            "x-amzn-mtls-clientcert-leaf",
            "x-client-dn",
            "x-client-verify",
        ] {
            headers.append(name, HeaderValue::from_static("x"));
            headers.append(name, HeaderValue::from_static("y"));
        }
        let kept = ["x-client-id", "client", "certificate", "x-request-id", "tls", "x-clients-served"];
        for name in kept {
            headers.append(name, HeaderValue::from_static("x"));
        }
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let mut expected = kept;
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
