//! Which addresses flows may call.
//!
//! Whoever can save a pipeline, or set a global, chooses whom the gateway calls, from where the gateway stands: inside.
//! So addresses that mean the machine itself, its link, or the metadata service of a cloud are refused, in every form in
//! which they can be written, unless the realm allows their network. Private networks are where upstreams are, and are not
//! refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tollgate_model::networks::Network;

/// Metadata services that stand in networks which are not special.
const METADATA: [IpAddr; 4] = [
    // Azure, Alibaba.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Amazon, Google.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Tells whether flows of a realm that allows these networks may call an address.
pub(crate) fn is_allowed(address: IpAddr, networks: &[Network]) -> bool {
    !is_special(address.to_canonical())
        || networks.iter().any(|it| it.contains(address) || it.contains(address.to_canonical()))
}

fn is_special(address: IpAddr) -> bool {
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

    fn allowed(address: &str, networks: &[&str]) -> bool {
        let networks: Vec<_> =
            networks.iter().map(|network| Network::parse(network).expect("a network")).collect();
        is_allowed(address.parse().expect("an address"), &networks)
    }

    #[test]
    fn no_form_of_an_address_of_the_machine_or_its_link_is_called() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
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
            assert!(!allowed(address, &[]), "{address}");
        }
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "203.0.113.9",
            "::ffff:10.0.0.1",
            "2002:cb00:7109::1",
            "64:ff9b::203.0.113.9",
            "2606:4700::1",
            "fd00::1",
        ] {
            assert!(allowed(address, &[]), "{address}");
        }
    }

    #[test]
    fn a_realm_allows_networks_one_by_one() {
        assert!(allowed("127.0.0.1", &["127.0.0.0/8"]) && allowed("::ffff:127.0.0.1", &["127.0.0.0/8"]));
        assert!(!allowed("::1", &["127.0.0.0/8"]) && !allowed("169.254.169.254", &["127.0.0.0/8", "::1"]));
        assert!(!allowed("2002:7f00:1::", &["127.0.0.0/8"]), "another way to the same is another network");
    }
}
