//! Networks, as people write them: `10.0.0.0/8`, `::1/128`, or one address; and which addresses are special.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network of addresses (RFC 4632, RFC 4291 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct Network(#[schemars(with = "String")] IpNet);

/// Metadata services that stand in networks which are not special.
const METADATA: [IpAddr; 4] = [
    // Azure, Alibaba.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Amazon, Google.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

// === impl Network ===

impl Network {
    /// Parses a network, or an address, which is a network of one.
    ///
    /// # Errors
    ///
    /// A sentence that says what to write.
    pub fn parse(input: &str) -> Result<Self, String> {
        let network = input.parse::<IpNet>().or_else(|_| input.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| {
            format!(
                "`{}` is not a network: write for example `10.0.0.0/8` or `127.0.0.1`",
                input.escape_debug()
            )
        })?;
        Ok(Self(network.trunc()))
    }

    /// Tells whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Tells whether an address means the machine itself, its link, the metadata service of a cloud, or no single host, in
/// whatever form it is written. Who may choose whom this process calls must not choose such a one, unless somebody else
/// allowed it. Private networks are where servers are, and are not special.
pub fn is_special(address: IpAddr) -> bool {
    let address = address.to_canonical();
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(address) => is_special_v4(address),
            IpAddr::V6(address) => is_special_v6(address),
        }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    first == 0
        || address.is_loopback()
        || address.is_link_local()
        // IETF protocol assignments (RFC 6890), among them the metadata service of Oracle.
        || (first, second, third) == (192, 0, 0)
        // Multicast, reserved, broadcast.
        || first >= 224
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_special(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match first {
        // `::`, `::1` and what embeds an IPv4 address: mapped, translated (RFC 2765) or compatible. None goes elsewhere.
        0 if (second, third, fourth) == (0, 0, 0) => true,
        // NAT64 (RFC 6052), and its local form (RFC 8215), behind which anything can stand.
        0x64 if second == 0xff9b => {
            (third, fourth, fifth, sixth) != (0, 0, 0, 0) || embedded(seventh, eighth)
        }
        // 6to4 (RFC 3056).
        0x2002 => embedded(second, third),
        // Teredo (RFC 4380) embeds an address that is hidden on purpose.
        0x2001 if second == 0 => true,
        // Link-local, site-local, multicast.
        _ => first & 0xffc0 == 0xfe80 || first & 0xffc0 == 0xfec0 || first >= 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_written_as_prefix_or_address() {
        for (input, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("fd00::/8", "fd00::/8"),
        ] {
            assert_eq!(Network::parse(input).map(|it| it.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "10.0.0.0/33", "localhost", "10.0.0.0/", "0x7f.1"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_form_of_an_address_of_the_machine_or_its_link_is_ordinary() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "127.255.1.2",
            "169.254.169.254",
            "192.0.0.192",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "64:ff9b::1:7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            assert!(is_special(address.parse().expect("an address")), "{address}");
        }
        for address in [
            "10.0.0.1",
            "10.1.2.3",
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "2001:db8::1",
            "2002:c000:201::",
            "fd12::1",
            "172.16.0.1",
            "192.168.1.1",
            "203.0.113.9",
            "::ffff:10.0.0.1",
            "2002:cb00:7109::1",
            "64:ff9b::203.0.113.9",
            "2606:4700::1",
            "fd00::1",
        ] {
            assert!(!is_special(address.parse().expect("an address")), "{address}");
        }
    }
}
