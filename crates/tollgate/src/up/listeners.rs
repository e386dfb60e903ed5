//! Addresses: what listens where.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;

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

// === impl Listeners ===

impl Listeners {
    /// Binds every address. The console listens beyond this machine only when it may leave it, and metrics when this is
    /// said of HTTP without TLS.
    pub(crate) async fn bind(
        given: &[Listen],
        console_may_leave: bool,
        insecure_http: bool,
    ) -> anyhow::Result<Self> {
        let (mut console, mut metrics, mut environments) = (None, None, Vec::new());
        for (name, address) in addresses(given) {
            if name == Name::Console && !address.ip().is_loopback() && !console_may_leave {
                bail!(
                    "the console would listen on {address}, beyond this machine, without TLS: passwords and tokens \
                     would travel in clear. Give it a certificate with --tls console=CERT,KEY, or put a proxy with TLS in \
                     front and add --insecure-http, or listen on 127.0.0.1"
                );
            }
            if name == Name::Metrics && !address.ip().is_loopback() && !insecure_http {
                bail!(
                    "metrics would be readable on {address}, beyond this machine, by everybody and without TLS: they \
                     name environments and pipelines. Listen on 127.0.0.1, or add --insecure-http"
                );
            }
            let listener = TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address} for {name}: choose another with --listen {name}=ADDR")
            })?;
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
            let error =
                Listeners::bind(&given, false, false).await.map(|_| ()).expect_err("refused").to_string();
            assert!(error.contains("--insecure-http"), "{error}");
            assert!(Listeners::bind(&given, true, true).await.is_ok());
        }
    }
}
