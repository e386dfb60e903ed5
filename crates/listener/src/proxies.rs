//! Whose word counts about where a call comes from.
//!
//! Anyone can write `X-Forwarded-For: 203.0.113.9`. Only what a proxy in a trusted network has added is believed, read
//! from the end that this proxy wrote, and only one of the two headers in use: a proxy that keeps one of them passes the
//! other on as the caller sent it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// Most proxies of a chain that are followed.
const MAX_HOPS: usize = 32;

/// The networks of the proxies in front, and the header that they write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

/// The header in which proxies tell where a call comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

// === impl TrustedProxies ===

impl TrustedProxies {
    /// Returns proxies that are trusted to tell the caller's address in `header`.
    pub fn new(networks: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Tells whether an address is that of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Returns where a call comes from: the last address that no trusted proxy has, as far as trusted proxies tell.
    ///
    /// What is no address ends the chain; the call then comes from the proxy that wrote it.
    pub fn caller(&self, remote: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut caller = remote.to_canonical();
        if !self.contains(caller) {
            return caller;
        }
        let lines: Vec<&HeaderValue> = headers.get_all(self.header.name()).iter().collect();
        let elements = lines.iter().rev().flat_map(|line| split(line.as_bytes(), b',').into_iter().rev());
        for element in elements.take(MAX_HOPS) {
            let Some(address) = self.header.address(element) else { break };
            caller = address;
            if !self.contains(caller) {
                break;
            }
        }
        caller
    }
}

// === impl ForwardedHeader ===

impl ForwardedHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => http::header::FORWARDED,
        }
    }

    /// Reads the address of one hop.
    fn address(self, element: &[u8]) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => parse_address(element),
            Self::Forwarded => {
                let mut addresses = split(element, b';').into_iter().filter_map(|pair| {
                    let (name, value) = pair.split_at_checked(4)?;
                    name.eq_ignore_ascii_case(b"for=").then_some(value)
                });
                let value = addresses.next().filter(|_| addresses.next().is_none())?;
                parse_address(
                    value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value),
                )
            }
        }
    }
}

/// Splits a field outside of quoted strings.
fn split(text: &[u8], at: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|byte| {
        let is_end = *byte == at && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        is_end
    })
    .map(<[u8]>::trim_ascii)
    .collect()
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (address, "") => IpAddr::V6(address.parse().ok()?),
            (address, port) => {
                port.strip_prefix(':')?.parse::<u16>().ok()?;
                IpAddr::V6(address.parse().ok()?)
            }
        },
        None => text
            .parse()
            .ok()
            .or_else(|| text.parse::<std::net::SocketAddrV4>().ok().map(|it| IpAddr::V4(*it.ip())))?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: ForwardedHeader) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48"].map(|text| text.parse().expect("a network"));
        TrustedProxies::new(networks.to_vec(), header)
    }

    fn caller(header: ForwardedHeader, remote: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        proxies(header).caller(remote.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn the_last_address_that_no_proxy_has_is_the_callers() {
        for (remote, lines, expected) in [
            ("10.1.1.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("10.1.1.1", &["203.0.113.9, 10.2.2.2"], "203.0.113.9"),
            ("10.1.1.1", &["203.0.113.9", "10.2.2.2"], "203.0.113.9"),
            ("10.1.1.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.1.1.1", &["2001:db8::9"], "2001:db8::9"),
            ("10.1.1.1", &["[2001:db8::9]:4711"], "2001:db8::9"),
            ("10.1.1.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.1.1.1", &["203.0.113.9"], "203.0.113.9"),
            ("2001:db8:1::1", &["203.0.113.9"], "203.0.113.9"),
            ("10.1.1.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("10.1.1.1", &[], "10.1.1.1"),
        ] {
            assert_eq!(caller(ForwardedHeader::XForwardedFor, remote, lines), expected, "{remote} {lines:?}");
        }
    }

    #[test]
    fn what_a_caller_writes_itself_is_not_believed() {
        for (remote, lines, expected) in [
            // No proxy of ours.
            ("198.51.100.7", &["203.0.113.9"][..], "198.51.100.7"),
            // The proxy has added what it saw to what the caller sent.
            ("10.1.1.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            ("10.1.1.1", &["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
            ("10.1.1.1", &["10.2.2.2, 198.51.100.7"], "198.51.100.7"),
            // Nothing behind what is no address counts.
            ("10.1.1.1", &["203.0.113.9, unknown"], "10.1.1.1"),
            ("10.1.1.1", &["203.0.113.9, , 10.2.2.2"], "10.2.2.2"),
            ("10.1.1.1", &["203.0.113.9,"], "10.1.1.1"),
            ("10.1.1.1", &["[203.0.113.9]"], "10.1.1.1"),
            ("10.1.1.1", &["[2001:db8::9]x"], "10.1.1.1"),
            ("10.1.1.1", &["\u{e9}"], "10.1.1.1"),
        ] {
            assert_eq!(caller(ForwardedHeader::XForwardedFor, remote, lines), expected, "{remote} {lines:?}");
        }
        let hops = vec!["10.9.9.9"; 1_000].join(",");
        assert_eq!(caller(ForwardedHeader::XForwardedFor, "10.1.1.1", &["203.0.113.9", &hops]), "10.9.9.9");
    }

    #[test]
    fn the_standard_header_is_read_with_its_quotes() {
        for (line, expected) in [
            ("for=203.0.113.9", "203.0.113.9"),
            ("proto=https;FOR=203.0.113.9;by=10.1.1.1", "203.0.113.9"),
            ("for=\"203.0.113.9:4711\"", "203.0.113.9"),
            ("for=\"[2001:db8::9]:4711\", for=10.2.2.2", "2001:db8::9"),
            ("for=192.0.2.66, for=198.51.100.7", "198.51.100.7"),
            // A list in a quoted string is one element.
            ("for=198.51.100.7;host=\"a, for=192.0.2.66\"", "198.51.100.7"),
            ("for=198.51.100.7;host=\"a\\\", for=192.0.2.66\"", "198.51.100.7"),
            ("for=192.0.2.66;for=198.51.100.7", "10.1.1.1"),
            ("for=_hidden", "10.1.1.1"),
            ("for=unknown", "10.1.1.1"),
            ("by=203.0.113.9", "10.1.1.1"),
            ("203.0.113.9", "10.1.1.1"),
        ] {
            assert_eq!(caller(ForwardedHeader::Forwarded, "10.1.1.1", &[line]), expected, "{line}");
        }
    }

    #[test]
    fn only_the_header_that_the_proxies_write_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::FORWARDED, HeaderValue::from_static("for=203.0.113.9"));
        let remote = "10.1.1.1".parse().expect("an address");
        assert_eq!(proxies(ForwardedHeader::XForwardedFor).caller(remote, &headers), remote);
    }
}
