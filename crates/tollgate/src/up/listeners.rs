//! Addresses: what listens where.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::{fmt, io};

use anyhow::{Context as _, bail};
use tokio::net::{TcpListener, TcpSocket};
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// One `--listen NAME=ADDR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) name: Name,
    pub(crate) address: SocketAddr,
}

/// What an address is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// The management API.
    Console,
    /// What Prometheus reads.
    Metrics,
    /// A listener of an environment.
    Environment(Place),
}

/// A listener of an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) environment: EnvironmentName,
    pub(crate) exposure: Exposure,
    /// A further listener of the exposure, for callers with client certificates.
    pub(crate) mtls: bool,
}

/// How listeners are opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening {
    /// The console may listen beyond this machine.
    pub(crate) console_may_leave: bool,
    /// And metrics, and both without TLS.
    pub(crate) insecure_http: bool,
    /// Other processes may listen on the same addresses.
    pub(crate) reuse_port: bool,
}

/// Every address, bound.
pub(crate) struct Listeners {
    pub(crate) console: TcpListener,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) environments: Vec<(Place, TcpListener)>,
}

/// Returns the address of each listener: the defaults, with what `--listen` says in their place.
pub(crate) fn addresses(given: &[Listen]) -> BTreeMap<Name, SocketAddr> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let place = |environment, exposure| Name::Environment(Place::of(environment, exposure));
    let mut all = BTreeMap::from([
        (Name::Console, local(7000)),
        (place(EnvironmentName::test(), Exposure::External), local(7001)),
        (place(EnvironmentName::prod(), Exposure::External), local(7002)),
        (place(EnvironmentName::test(), Exposure::Internal), local(7011)),
        (place(EnvironmentName::prod(), Exposure::Internal), local(7012)),
    ]);
    all.extend(given.iter().map(|listen| (listen.name.clone(), listen.address)));
    all
}

/// Listens on an address; with `reuse_port` beside other processes of this user that say so, too.
pub(crate) fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // An address whose last connections are not forgotten yet can be used again.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(reuse_port)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

// === impl Listeners ===

impl Listeners {
    /// Binds every address but those of listeners that are open already. The console listens beyond this machine only
    /// when it may leave it, and metrics when this is said of HTTP without TLS.
    pub(crate) fn open(
        given: &[Listen],
        mut inherited: BTreeMap<Name, TcpListener>,
        opening: Opening,
    ) -> anyhow::Result<Self> {
        let mut addresses = addresses(given);
        for (name, listener) in &inherited {
            if given.iter().any(|listen| listen.name == *name) {
                bail!(
                    "a socket is passed for {name}, and --listen {name}=… gives it another: leave one of them out"
                );
            }
            addresses.insert(name.clone(), listener.local_addr()?);
        }
        let (mut console, mut metrics, mut environments) = (None, None, Vec::new());
        for (name, address) in addresses {
            if name == Name::Console && !address.ip().is_loopback() && !opening.console_may_leave {
                bail!(
                    "the console would listen on {address}, beyond this machine, without TLS: passwords and tokens \
                     would travel in clear. Give it a certificate with --tls console=CERT,KEY, or put a proxy with TLS in \
                     front and add --insecure-http, or listen on 127.0.0.1"
                );
            }
            if name == Name::Metrics && !address.ip().is_loopback() && !opening.insecure_http {
                bail!(
                    "metrics would be readable on {address}, beyond this machine, by everybody and without TLS: they \
                     name environments and pipelines. Listen on 127.0.0.1, or add --insecure-http"
                );
            }
            let listener = match inherited.remove(&name) {
                Some(listener) => listener,
                None => bind(address, opening.reuse_port).with_context(|| {
                    format!("cannot listen on {address} for {name}: choose another with --listen {name}=ADDR")
                })?,
            };
            match name {
                Name::Console => console = Some(listener),
                Name::Metrics => metrics = Some(listener),
                Name::Environment(place) => environments.push((place, listener)),
            }
        }
        Ok(Self { console: console.context("the console has no address")?, metrics, environments })
    }
}

// === impl Listen ===

impl FromStr for Listen {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let (name, address) =
            input.split_once('=').ok_or("write NAME=ADDR, for example test=127.0.0.1:7001")?;
        let address = address
            .parse()
            .map_err(|_| format!("`{address}` is no address: write IP:PORT, for example 127.0.0.1:7001"))?;
        Ok(Self { name: name.parse()?, address })
    }
}

fn environment(name: &str) -> Result<EnvironmentName, String> {
    EnvironmentName::parse(name).map_err(|error| error.to_string())
}

// === impl Name ===

impl FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.split_once('.') {
            None if name == "console" => Ok(Self::Console),
            None if name == "metrics" => Ok(Self::Metrics),
            None => Ok(Self::Environment(Place::of(environment(name)?, Exposure::External))),
            Some((name, "internal")) => {
                Ok(Self::Environment(Place::of(environment(name)?, Exposure::Internal)))
            }
            Some((name, "mtls")) => {
                let place = Place::of(environment(name)?, Exposure::External);
                Ok(Self::Environment(Place { mtls: true, ..place }))
            }
            Some((_, other)) => Err(format!(
                "there is no listener `{other}` of an environment: there are `internal` and `mtls`"
            )),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Console => f.pad("console"),
            Self::Metrics => f.pad("metrics"),
            Self::Environment(place) => place.fmt(f),
        }
    }
}

// === impl Place ===

impl Place {
    /// Returns the listener of an exposure that is always there.
    pub(crate) fn of(environment: EnvironmentName, exposure: Exposure) -> Self {
        Self { environment, exposure, mtls: false }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exposure, self.mtls) {
            (Exposure::External, false) => f.pad(self.environment.as_str()),
            (Exposure::External, true) => f.pad(&format!("{}.mtls", self.environment)),
            (Exposure::Internal, _) => f.pad(&format!("{}.internal", self.environment)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_read_and_the_rest_keeps_its_default() {
        let given: Vec<Listen> =
            ["console=127.0.0.1:0", "test.internal=[::1]:9", "metrics=127.0.0.1:8", "test.mtls=127.0.0.1:7"]
                .iter()
                .map(|text| text.parse().expect("valid"))
                .collect();
        let shown: Vec<String> =
            addresses(&given).iter().map(|(name, address)| format!("{name}={address}")).collect();
        assert_eq!(
            shown,
            [
                "console=127.0.0.1:0",
                "metrics=127.0.0.1:8",
                "prod=127.0.0.1:7002",
                "prod.internal=127.0.0.1:7012",
                "test=127.0.0.1:7001",
                "test.mtls=127.0.0.1:7",
                "test.internal=[::1]:9"
            ]
        );
        for bad in [
            "test",
            "test=7001",
            "test.internal.mtls=127.0.0.1:1",
            ".mtls=127.0.0.1:1",
            "test.x=127.0.0.1:1",
            "Test=127.0.0.1:1",
            "=127.0.0.1:1",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad} was taken");
        }
    }

    #[tokio::test]
    async fn a_console_and_metrics_beyond_loopback_need_a_word() {
        for name in [Name::Console, Name::Metrics] {
            let local = ["console", "test", "prod", "test.internal", "prod.internal"];
            let mut given: Vec<Listen> =
                local.iter().map(|name| format!("{name}=127.0.0.1:0").parse().expect("valid")).collect();
            given.push(Listen { name, address: SocketAddr::from(([0, 0, 0, 0], 0)) });
            let open = |opening| Listeners::open(&given, BTreeMap::new(), opening).map(|_| ());
            let error = open(Opening::default()).expect_err("refused").to_string();
            assert!(error.contains("--insecure-http"), "{error}");
            let may = Opening { console_may_leave: true, insecure_http: true, reuse_port: false };
            assert!(open(may).is_ok());
        }
    }

    #[tokio::test]
    async fn what_is_passed_is_listened_on_under_the_same_rules() {
        let passed = |address: [u8; 4]| bind(SocketAddr::from((address, 0)), false).expect("a port");
        let local = ["test", "prod", "test.internal", "prod.internal"];
        let given: Vec<Listen> =
            local.iter().map(|name| format!("{name}=127.0.0.1:0").parse().expect("valid")).collect();
        let open = |name: Name, listener| {
            Listeners::open(&given, BTreeMap::from([(name, listener)]), Opening::default())
        };
        let listener = passed([127, 0, 0, 1]);
        let address = listener.local_addr().expect("bound");
        let listeners = open(Name::Console, listener).expect("opens");
        assert_eq!(listeners.console.local_addr().expect("bound"), address);
        let everywhere = open(Name::Console, passed([0, 0, 0, 0]));
        assert!(everywhere.map(|_| ()).expect_err("refused").to_string().contains("--insecure-http"));
        let twice = open("test".parse().expect("a name"), passed([127, 0, 0, 1]));
        assert!(twice.map(|_| ()).expect_err("refused").to_string().contains("--listen test="));
    }

    #[tokio::test]
    async fn an_address_is_shared_only_by_those_who_say_so() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("a port");
        let address = first.local_addr().expect("bound");
        assert!(bind(address, false).is_err());
        assert!(bind(address, true).is_ok());
    }
}
