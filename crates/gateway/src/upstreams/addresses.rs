//! Which addresses flows may call.
//!
//! Whoever can save a pipeline, or set a global, chooses whom the gateway calls, from where the gateway stands: inside.
//! So addresses that mean the machine itself, its link, or the metadata service of a cloud are refused, in every form in
//! which they can be written, unless the realm allows their network. Private networks are where upstreams are, and are not
//! refused.

use std::net::IpAddr;

use tollgate_model::networks::{Network, is_special};

/// Tells whether flows of a realm that allows these networks may call an address.
pub(crate) fn is_allowed(address: IpAddr, networks: &[Network]) -> bool {
    !is_special(address)
        || networks.iter().any(|it| it.contains(address) || it.contains(address.to_canonical()))
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
    fn a_realm_allows_networks_one_by_one() {
        assert!(allowed("127.0.0.1", &["127.0.0.0/8"]) && allowed("::ffff:127.0.0.1", &["127.0.0.0/8"]));
        assert!(!allowed("::1", &["127.0.0.0/8"]) && !allowed("169.254.169.254", &["127.0.0.0/8", "::1"]));
        assert!(!allowed("2002:7f00:1::", &["127.0.0.0/8"]), "another way to the same is another network");
    }
}
