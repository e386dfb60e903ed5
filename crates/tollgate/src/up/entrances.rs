//! How callers come in at each listener: TLS, HTTP/2, proxies in front.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};
use clap::{Args, ValueEnum};
use tokio::sync::watch;
use tollgate_listener::{Certificates, ClientTrust, Entrance, ForwardedHeader, IpNet, Tls, TrustedProxies};
use tollgate_model::sources::Clock as _;
use zeroize::Zeroizing;

use super::listeners::{Name, Place};
use crate::system::SystemClock;

/// How often certificates are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Arguments about how callers come in.
#[derive(Args)]
pub(crate) struct EntranceArguments {
    /// Certificate chain and private key, PEM files, of a listener, which then speaks TLS; repeatable, also for one
    /// listener: callers get the certificate for the host that they ask for, else the first. Files that change are read
    /// again within 5 seconds, or at once on SIGHUP. In the environment variable, `;` stands between two.
    #[arg(long, value_name = "NAME=CERT,KEY", env = "TOLLGATE_TLS", value_delimiter = ';')]
    tls: Vec<TlsFiles>,
    /// CAs, and their revocation lists (CRL), PEM files, of a listener that then takes nobody without a client certificate
    /// of one of them; repeatable, once for each listener. It speaks TLS (--tls). `test.mtls` is a further external
    /// listener of `test`, for callers with certificates beside those without. Files that change are read again like
    /// certificates. With revocation lists there must be one of each CA that issues certificates; when one is older than
    /// its next update, nobody gets in. In the environment variable, `;` stands between two.
    #[arg(long, value_name = "NAME=CA[,CRL]", env = "TOLLGATE_CLIENT_CA", value_delimiter = ';')]
    client_ca: Vec<ClientFiles>,
    /// Listener that also takes HTTP/2 without TLS, from callers that begin with it; repeatable. Under TLS, HTTP/2 is
    /// always offered.
    #[arg(long, value_name = "NAME", env = "TOLLGATE_CLEARTEXT_HTTP2", value_delimiter = ',')]
    cleartext_http2: Vec<Name>,
    /// Network of proxies that are believed about where a call comes from, for example 10.0.0.0/8; repeatable. From
    /// others, forwarding headers mean nothing.
    #[arg(long, value_name = "CIDR", env = "TOLLGATE_TRUSTED_PROXY", value_delimiter = ',')]
    trusted_proxy: Vec<Network>,
    /// The one header in which trusted proxies tell the caller's address; the other is not read.
    #[arg(long, value_enum, default_value = "x-forwarded-for", env = "TOLLGATE_FORWARDED_HEADER")]
    forwarded_header: HeaderName,
    /// Listener on which each connection begins with the PROXY protocol, version 2, and comes from a trusted proxy;
    /// repeatable. Others are closed.
    #[arg(long, value_name = "NAME", env = "TOLLGATE_PROXY_PROTOCOL", value_delimiter = ',')]
    proxy_protocol: Vec<Name>,
    /// Most connections of one address to one listener of an environment, trusted proxies apart, and never more than half
    /// of all that it takes; further ones are closed.
    #[arg(long, value_name = "NUMBER", default_value = "1000", env = "TOLLGATE_CONNECTIONS_PER_ADDRESS")]
    pub(crate) connections_per_address: std::num::NonZeroUsize,
}

/// One `--tls NAME=CERT,KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TlsFiles {
    name: Name,
    pair: Pair,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    chain: PathBuf,
    key: PathBuf,
}

/// One `--client-ca NAME=CA[,CRL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ClientFiles {
    name: Name,
    authorities: Authorities,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Authorities {
    bundle: PathBuf,
    lists: Option<PathBuf>,
}

/// A network that may be trusted.
#[derive(Debug, Clone, Copy)]
struct Network(IpNet);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HeaderName {
    XForwardedFor,
    Forwarded,
}

/// How callers come in, by listener.
#[derive(Default)]
pub(crate) struct Entrances {
    tls: BTreeMap<Name, Reloaded>,
    cleartext_http2: BTreeSet<Name>,
    proxy_protocol: BTreeSet<Name>,
    proxies: Arc<TrustedProxies>,
    /// Whether other processes may listen on the same addresses, and where the socket is not this process's own.
    shares_addresses: bool,
    inherited: BTreeSet<Name>,
}

/// The certificates of a listener, and the files that they come from.
struct Reloaded {
    tls: Arc<Tls>,
    pairs: Vec<Pair>,
    /// What was tried last, so that each change is tried, and told, once.
    tried: Mutex<Tried>,
    clients: Option<ReloadedClients>,
}

/// The CAs of a listener's client certificates, and the files that they come from.
struct ReloadedClients {
    files: Authorities,
    state: Mutex<ClientsState>,
}

struct ClientsState {
    tried: Tried,
    /// When the first of the revocation lists in use ends.
    lists_end: Option<i64>,
    /// Whether that they have ended was told.
    told: bool,
}

/// What was in the files, or why they could not be read.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Digest(Vec<u8>),
    Unreadable(String),
}

/// What is in the files of CAs.
type PemAuthorities = (Vec<u8>, Option<Vec<u8>>);

/// What is in a pair of files.
type PemPair = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

// === impl Entrances ===

impl Entrances {
    /// Reads the certificates.
    pub(crate) fn load(arguments: &EntranceArguments) -> anyhow::Result<Self> {
        let header = match arguments.forwarded_header {
            HeaderName::XForwardedFor => ForwardedHeader::XForwardedFor,
            HeaderName::Forwarded => ForwardedHeader::Forwarded,
        };
        let networks = arguments.trusted_proxy.iter().map(|network| network.0).collect();
        let proxies = TrustedProxies::new(networks, header);
        if let Some(name) = arguments.proxy_protocol.first()
            && proxies.is_empty()
        {
            bail!(
                "--proxy-protocol {name} would take no connection, since no proxy is trusted: \
                 name its network with --trusted-proxy"
            );
        }
        let mut files: BTreeMap<Name, Vec<Pair>> = BTreeMap::new();
        for TlsFiles { name, pair } in &arguments.tls {
            files.entry(name.clone()).or_default().push(pair.clone());
        }
        let mut clients = BTreeMap::new();
        for ClientFiles { name, authorities } in &arguments.client_ca {
            if !matches!(name, Name::Environment(_)) {
                bail!(
                    "--client-ca {name} is of no use: only callers of environments show client certificates"
                );
            }
            if !files.contains_key(name) {
                bail!(
                    "--client-ca {name} needs a certificate of the listener itself: add --tls {name}=CERT,KEY"
                );
            }
            if clients.insert(name.clone(), authorities.clone()).is_some() {
                bail!(
                    "--client-ca {name} is given twice: put the CAs into one file, and their revocation lists too"
                );
            }
        }
        let mut tls = BTreeMap::new();
        for (name, pairs) in files {
            let authorities = clients.remove(&name);
            demand_authorities(&name, authorities.is_some())?;
            let option = if authorities.is_some() { "--tls or --client-ca" } else { "--tls" };
            let it = Reloaded::load(pairs, authorities)
                .with_context(|| format!("cannot use {option} {name}=…"))?;
            tls.insert(name, it);
        }
        Ok(Self {
            tls,
            cleartext_http2: arguments.cleartext_http2.iter().cloned().collect(),
            proxy_protocol: arguments.proxy_protocol.iter().cloned().collect(),
            proxies: Arc::new(proxies),
            shares_addresses: false,
            inherited: BTreeSet::new(),
        })
    }

    /// Says whether other processes may listen on the same addresses with sockets of their own, and which sockets were passed to
    /// this process: those outlive it.
    pub(crate) fn sharing<'a>(self, addresses: bool, inherited: impl Iterator<Item = &'a Name>) -> Self {
        Self { shares_addresses: addresses, inherited: inherited.cloned().collect(), ..self }
    }

    /// Returns how callers come in at a listener.
    pub(crate) fn of(&self, name: &Name) -> Entrance {
        Entrance {
            tls: self.tls.get(name).map(|it| it.tls.clone()),
            cleartext_http2: self.cleartext_http2.contains(name),
            proxy_protocol: self.proxy_protocol.contains(name),
            proxies: self.proxies.clone(),
            shares_address: self.shares_addresses && !self.inherited.contains(name),
            ..Entrance::default()
        }
    }

    /// Tells whether a listener speaks TLS.
    pub(crate) fn has_tls(&self, name: &Name) -> bool {
        self.tls.contains_key(name)
    }

    /// Tells whether a listener takes nobody without a client certificate.
    pub(crate) fn demands_clients(&self, name: &Name) -> bool {
        self.tls.get(name).is_some_and(|it| it.tls.demands_clients())
    }

    /// Refuses listeners for client certificates that would ask for none.
    pub(crate) fn check<'a>(&self, listened: impl Iterator<Item = &'a Name>) -> anyhow::Result<()> {
        listened.into_iter().try_for_each(|name| demand_authorities(name, self.demands_clients(name)))
    }

    /// Returns `http` or `https`.
    pub(crate) fn scheme(&self, name: &Name) -> &'static str {
        if self.has_tls(name) { "https" } else { "http" }
    }

    /// Tells of listeners that are named and do not exist: `--tls tset=…` would leave `test` without TLS.
    pub(crate) fn tell_unknown<'a>(&self, bound: impl Iterator<Item = &'a Name>) {
        let bound: BTreeSet<&Name> = bound.collect();
        let named = self.tls.keys().chain(&self.cleartext_http2).chain(&self.proxy_protocol);
        for name in named.filter(|name| !bound.contains(name)).collect::<BTreeSet<_>>() {
            tracing::warn!(listener = %name, "there is no such listener yet: its settings wait for its environment");
        }
    }

    /// Reads files that have changed, until `shutdown` turns true.
    pub(crate) async fn watch(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        use tokio::signal::unix::{SignalKind, signal};

        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => {
                tracing::error!(%error, "cannot listen to SIGHUP: certificates are not read again");
                return;
            }
        };
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                _ = hangup.recv() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            let entrances = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                for (name, it) in &entrances.tls {
                    it.look(name);
                }
            });
            if let Err(error) = looked.await {
                tracing::error!(%error, "certificates could not be looked at");
            }
        }
    }
}

// === impl Reloaded ===

impl Reloaded {
    fn load(pairs: Vec<Pair>, authorities: Option<Authorities>) -> anyhow::Result<Self> {
        let files = read(&pairs)?;
        let certificates = parse(&files)?;
        let tried = Mutex::new(Tried::Digest(digest_of(&files)));
        let Some(authorities) = authorities else {
            let tls = Tls::new(certificates).context("cannot set up TLS")?;
            return Ok(Self { tls, pairs, tried, clients: None });
        };
        let pem = authorities.read()?;
        let trust = parse_authorities(&pem)?;
        let state = ClientsState {
            tried: Tried::Digest(digest_of_authorities(&pem)),
            lists_end: trust.lists_end(),
            told: false,
        };
        let tls = Tls::demanding(certificates, trust).context("cannot set up TLS")?;
        let clients = Some(ReloadedClients { files: authorities, state: Mutex::new(state) });
        Ok(Self { tls, pairs, tried, clients })
    }

    /// Uses the files if they have changed. What cannot be used changes nothing.
    fn look(&self, name: &Name) {
        self.look_at_certificates(name);
        if let Some(clients) = &self.clients {
            clients.look(name, &self.tls);
        }
    }

    fn look_at_certificates(&self, name: &Name) {
        let files = read(&self.pairs);
        let found = match &files {
            Ok(files) => Tried::Digest(digest_of(files)),
            Err(error) => Tried::Unreadable(format!("{error:#}")),
        };
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if *tried == found {
            return;
        }
        *tried = found;
        match files.and_then(|files| parse(&files)) {
            Ok(certificates) => {
                tracing::info!(listener = %name, hosts = ?certificates.names(), "certificates were replaced");
                self.tls.replace(certificates);
            }
            Err(error) => tracing::error!(
                listener = %name,
                error = format!("{error:#}"),
                "changed certificates cannot be used: those from before stay"
            ),
        }
    }
}

// === impl ReloadedClients ===

impl ReloadedClients {
    fn look(&self, name: &Name, tls: &Tls) {
        let pem = self.files.read();
        let found = match &pem {
            Ok(pem) => Tried::Digest(digest_of_authorities(pem)),
            Err(error) => Tried::Unreadable(format!("{error:#}")),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.tried != found {
            state.tried = found;
            let replaced = pem.and_then(|pem| {
                let trust = parse_authorities(&pem)?;
                let (authorities, lists_end) = (trust.authorities(), trust.lists_end());
                tls.replace_clients(trust)?;
                Ok((authorities, lists_end))
            });
            match replaced {
                Ok((authorities, lists_end)) => {
                    tracing::info!(listener = %name, authorities, "CAs of client certificates were replaced");
                    (state.lists_end, state.told) = (lists_end, false);
                }
                Err(error) => tracing::error!(
                    listener = %name,
                    error = format!("{error:#}"),
                    "changed CAs or revocation lists cannot be used: those from before stay"
                ),
            }
        }
        let now = SystemClock.now().as_second();
        if !state.told && state.lists_end.is_some_and(|end| end <= now) {
            state.told = true;
            tracing::error!(
                listener = %name,
                "a revocation list is older than its next update: client certificates that need it are refused until \
                 the file is replaced"
            );
        }
    }
}

// === impl Authorities ===

impl Authorities {
    fn read(&self) -> anyhow::Result<PemAuthorities> {
        let file =
            |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok((file(&self.bundle)?, self.lists.as_deref().map(file).transpose()?))
    }
}

fn parse_authorities((bundle, lists): &PemAuthorities) -> anyhow::Result<ClientTrust> {
    Ok(ClientTrust::parse(bundle, lists.as_deref())?)
}

fn digest_of_authorities((bundle, lists): &PemAuthorities) -> Vec<u8> {
    let files = [Some(bundle), lists.as_ref()].into_iter().flatten();
    let digests: Vec<u8> = files.flat_map(|file| digest(&SHA256, file).as_ref().to_vec()).collect();
    digest(&SHA256, &digests).as_ref().to_vec()
}

/// Refuses a listener that is there for client certificates and would ask for none.
fn demand_authorities(name: &Name, are_there: bool) -> anyhow::Result<()> {
    match name {
        Name::Environment(Place { mtls: true, .. }) if !are_there => bail!(
            "the listener {name} is for callers with client certificates and has no CA whose certificates it takes: \
             add --tls {name}=CERT,KEY and --client-ca {name}=CA"
        ),
        _ => Ok(()),
    }
}

fn read(pairs: &[Pair]) -> anyhow::Result<Vec<PemPair>> {
    let file = |path: &Path| {
        std::fs::read(path).map(Zeroizing::new).with_context(|| format!("cannot read {}", path.display()))
    };
    pairs.iter().map(|Pair { chain, key }| Ok((file(chain)?, file(key)?))).collect()
}

fn parse(files: &[PemPair]) -> anyhow::Result<Certificates> {
    Ok(Certificates::parse(files.iter().map(|(chain, key)| (chain.as_slice(), key.as_slice())))?)
}

fn digest_of(files: &[PemPair]) -> Vec<u8> {
    let each = files.iter().flat_map(|(chain, key)| [chain, key]);
    let digests: Vec<u8> = each.flat_map(|file| digest(&SHA256, file).as_ref().to_vec()).collect();
    digest(&SHA256, &digests).as_ref().to_vec()
}

// === impl TlsFiles ===

impl FromStr for TlsFiles {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let hint = "write NAME=CERT,KEY, for example test=/etc/tollgate/test.pem,/etc/tollgate/test.key";
        let (name, files) = input.split_once('=').ok_or(hint)?;
        let (chain, key) = files.split_once(',').ok_or(hint)?;
        if chain.is_empty() || key.is_empty() || key.contains(',') {
            return Err(hint.to_owned());
        }
        Ok(Self { name: name.parse()?, pair: Pair { chain: chain.into(), key: key.into() } })
    }
}

// === impl ClientFiles ===

impl FromStr for ClientFiles {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let hint =
            "write NAME=CA or NAME=CA,CRL, for example test.mtls=/etc/tollgate/ca.pem,/etc/tollgate/crl.pem";
        let (name, files) = input.split_once('=').ok_or(hint)?;
        let (bundle, lists) = match files.split_once(',') {
            Some((bundle, lists)) => (bundle, Some(lists)),
            None => (files, None),
        };
        if bundle.is_empty() || lists.is_some_and(|lists| lists.is_empty() || lists.contains(',')) {
            return Err(hint.to_owned());
        }
        let authorities = Authorities { bundle: bundle.into(), lists: lists.map(PathBuf::from) };
        Ok(Self { name: name.parse()?, authorities })
    }
}

// === impl Network ===

impl FromStr for Network {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let network = input.parse::<IpNet>().or_else(|_| input.parse::<std::net::IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| {
            format!("`{input}` is no network: write it like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1")
        })?;
        if network.prefix_len() == 0 {
            return Err(format!("`{input}` is everybody: name the networks of your proxies"));
        }
        Ok(Self(network.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        entrances: EntranceArguments,
    }

    fn load(arguments: &[&str]) -> Result<Entrances, String> {
        let line = Line::try_parse_from(["up"].iter().chain(arguments)).map_err(|error| error.to_string())?;
        Entrances::load(&line.entrances).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn each_listener_gets_what_is_said_of_it() {
        let entrances = load(&[
            "--cleartext-http2=test,console",
            "--trusted-proxy=10.0.0.0/8",
            "--trusted-proxy=192.0.2.1",
            "--proxy-protocol=test.internal",
        ])
        .expect("good");
        let shown = |name: &str| {
            let entrance = entrances.of(&name.parse().expect("a name"));
            (entrance.cleartext_http2, entrance.proxy_protocol)
        };
        assert_eq!(shown("test"), (true, false));
        assert_eq!(shown("console"), (true, false));
        assert_eq!(shown("test.internal"), (false, true));
        assert_eq!(shown("prod"), (false, false));
        for (address, trusted) in [("10.9.9.9", true), ("192.0.2.1", true), ("192.0.2.2", false)] {
            assert_eq!(
                entrances.proxies.contains(address.parse().expect("an address")),
                trusted,
                "{address}"
            );
        }
    }

    #[test]
    fn a_socket_that_outlives_the_process_is_never_made_deaf() {
        let (test, prod): (Name, Name) = ("test".parse().expect("a name"), "prod".parse().expect("a name"));
        for (shares, passed, expected) in [
            (false, &[][..], [false, false]),
            (true, &[][..], [true, true]),
            (true, &[&test][..], [false, true]),
        ] {
            let entrances = load(&[]).expect("good").sharing(shares, passed.iter().copied());
            assert_eq!([&test, &prod].map(|name| entrances.of(name).shares_address), expected);
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let empty = format!("--tls=test={0},{0}", file.path().display());
        for (arguments, word) in [
            (&["--proxy-protocol=test"][..], "--trusted-proxy"),
            (&["--trusted-proxy=0.0.0.0/0"], "everybody"),
            (&["--trusted-proxy=::/0"], "everybody"),
            (&["--trusted-proxy=proxy.example"], "no network"),
            (&["--tls=test=cert.pem"], "NAME=CERT,KEY"),
            (&["--tls=test=a,b,c"], "NAME=CERT,KEY"),
            (&["--tls=test.mtls=a,b"], "--client-ca test.mtls"),
            (&["--client-ca=test.mtls=a"], "--tls test.mtls"),
            (&["--client-ca=console=a"], "of no use"),
            (&["--client-ca=test=a,b,c"], "NAME=CA,CRL"),
            (&["--client-ca=test=a,"], "NAME=CA,CRL"),
            (&["--client-ca=test"], "NAME=CA"),
            (&["--tls=test=a,b", "--client-ca=test=a", "--client-ca=test=b"], "twice"),
            (&["--tls=test=/nowhere/a,/nowhere/b"], "cannot read /nowhere/a"),
            (&[empty.as_str()], "certificate"),
            (&["--connections-per-address=0"], "connections-per-address"),
        ] {
            let error = load(arguments).map(|_| ()).expect_err("refused");
            assert!(error.contains(word), "{arguments:?}: {error}");
        }
    }
}
