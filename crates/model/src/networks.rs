//! Networks, as people write them: `10.0.0.0/8`, `::1/128`, or one address.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network of addresses (RFC 4632, RFC 4291 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct Network(#[schemars(with = "String")] IpNet);

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
}
