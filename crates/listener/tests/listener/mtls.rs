//! Client certificates: who gets in, what goes with each request, and what is never resumed.

use std::sync::{Arc, Mutex};

use http::Request;
use hyper::body::Incoming;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_listener::{
    Certificates, ClientCertificate, ClientTrust, Entrance, FailedHandshakes, HandshakeFailure,
    ListenerSettings, Tls,
};
use tollgate_testkit::{Authority, Leaf};

use crate::world::{Server, ok, read_to, rest, start};

const CALL: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A listener that demands certificates of a CA, and what came with its requests.
struct Gate {
    server: Server,
    tls: Arc<Tls>,
    roots: RootCertStore,
    shown: Arc<Mutex<Vec<Option<ClientCertificate>>>>,
    failed: Arc<Mutex<Vec<HandshakeFailure>>>,
}

/// How a caller comes.
#[derive(Clone, Copy)]
struct Caller<'a> {
    leaf: Option<&'a Leaf>,
    version: &'static rustls::SupportedProtocolVersion,
}

fn trust(ca: &Authority) -> ClientTrust {
    ClientTrust::parse(ca.pem().as_bytes(), None).expect("good")
}

// === impl Gate ===

impl Gate {
    async fn open(ca: Option<&Authority>) -> Self {
        let own = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).expect("a certificate");
        let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let certificates = Certificates::parse([(chain.as_bytes(), key.as_bytes())]).expect("good");
        let tls = match ca {
            Some(ca) => Tls::demanding(certificates, trust(ca)),
            None => Tls::new(certificates),
        };
        let tls = tls.expect("set up");
        let shown: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = shown.clone();
        let handler = move |_, request: Request<Incoming>| {
            seen.lock().expect("no panic").push(request.extensions().get::<ClientCertificate>().cloned());
            async { ok("in") }
        };
        let failures: Arc<Mutex<Vec<_>>> = Arc::default();
        let failed = FailedHandshakes::new({
            let failures = failures.clone();
            move |failure| failures.lock().expect("no panic").push(failure)
        });
        let entrance = Entrance { tls: Some(tls.clone()), failed, ..Entrance::default() };
        let server = start(entrance, ListenerSettings::default(), handler).await;
        Self { server, tls, roots, shown, failed: failures }
    }

    fn config(&self, caller: Caller<'_>) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[caller.version])
            .expect("a version")
            .with_root_certificates(self.roots.clone());
        let mut config = match caller.leaf {
            Some(leaf) => {
                let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }

    async fn connect(&self, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.server.address).await.expect("listening");
        let host = ServerName::try_from("gateway.example").expect("a name");
        TlsConnector::from(config.clone()).connect(host, stream).await
    }

    /// Makes one call; `None` when there is no answer.
    async fn call(&self, caller: Caller<'_>) -> Option<String> {
        let mut stream = self.connect(&Arc::new(self.config(caller))).await.ok()?;
        // With TLS 1.3 the refusal comes after the caller's handshake is done.
        let call = CALL.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        stream.write_all(call.as_bytes()).await.ok()?;
        let answer = rest(&mut stream).await;
        answer.starts_with("HTTP/1.1 200 ").then_some(answer)
    }
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn nobody_gets_in_without_a_good_certificate() {
    let (ca, stranger) = (Authority::new("CA"), Authority::new("CA"));
    let gate = Gate::open(Some(&ca)).await;
    let past: jiff::Timestamp = "2020-01-01T00:00:00Z".parse().expect("a time");
    let expired = ca.issue_between(&["dns:a.example"], past, past + jiff::SignedDuration::from_hours(1));
    let server_only = ca.issue_with(&["dns:a.example"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for version in VERSIONS {
        for leaf in [None, Some(&stranger.issue(&["dns:a.example"])), Some(&expired), Some(&server_only)] {
            assert_eq!(gate.call(Caller { leaf, version }).await, None);
        }
    }
    assert_eq!(gate.server.seen(), [""; 0], "no request gets that far");
    assert_eq!(*gate.failed.lock().expect("no panic"), [HandshakeFailure::ClientCertificate; 8]);
    // Not TLS, and the end before it has begun.
    for bytes in [CALL, ""] {
        let mut stream = TcpStream::connect(gate.server.address).await.expect("listening");
        stream.write_all(bytes.as_bytes()).await.expect("taken");
        stream.shutdown().await.expect("open");
        rest(&mut stream).await;
    }
    let good = ca.issue(&["dns:a.example"]);
    assert!(gate.call(Caller { leaf: Some(&good), version: VERSIONS[1] }).await.is_some());
    let failed = gate.failed.lock().expect("no panic").split_off(8);
    assert_eq!(failed, [HandshakeFailure::Other; 2], "and none of the one that got through");
}

#[tokio::test]
async fn the_certificate_goes_with_each_request_and_only_where_it_was_asked_for() {
    let ca = Authority::new("CA");
    let leaf = ca.issue(&["dns:a.example"]);
    let gate = Gate::open(Some(&ca)).await;
    for version in VERSIONS {
        let config = Arc::new(gate.config(Caller { leaf: Some(&leaf), version }));
        let mut stream = gate.connect(&config).await.expect("gets in");
        for _ in 0..2 {
            stream.write_all(CALL.as_bytes()).await.expect("taken");
            read_to(&mut stream, "\r\n\r\nin").await;
        }
    }
    let shown = gate.shown.lock().expect("no panic").clone();
    assert_eq!(shown.len(), 4);
    for certificate in shown.into_iter().map(|shown| shown.expect("a certificate")) {
        let hex: String = certificate.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((hex, certificate.names()), (leaf.fingerprint.clone(), &["dns:a.example".to_owned()][..]));
    }
    let open = Gate::open(None).await;
    for version in VERSIONS {
        assert!(open.call(Caller { leaf: Some(&leaf), version }).await.is_some());
    }
    assert!(open.shown.lock().expect("no panic").iter().all(Option::is_none), "nobody asked for it");
    assert!(!open.tls.demands_clients());
}

#[tokio::test]
async fn other_cas_are_believed_without_dropping_connections() {
    let (old, new) = (Authority::new("old CA"), Authority::new("new CA"));
    let (of_old, of_new) = (old.issue(&["dns:a.example"]), new.issue(&["dns:a.example"]));
    let gate = Gate::open(Some(&old)).await;
    let version = &rustls::version::TLS13;
    let config = Arc::new(gate.config(Caller { leaf: Some(&of_old), version }));
    let mut stream = gate.connect(&config).await.expect("gets in");
    stream.write_all(CALL.as_bytes()).await.expect("taken");
    read_to(&mut stream, "\r\n\r\nin").await;
    gate.tls.replace_clients(trust(&new)).expect("set up");
    assert_eq!(gate.call(Caller { leaf: Some(&of_old), version }).await, None);
    assert!(gate.call(Caller { leaf: Some(&of_new), version }).await.is_some());
    // The connection from before goes on, and what goes with its requests is no longer good.
    stream.write_all(CALL.as_bytes()).await.expect("taken");
    read_to(&mut stream, "\r\n\r\nin").await;
    let last = gate.shown.lock().expect("no panic").last().cloned().flatten().expect("a certificate");
    assert!(last.check(1_800_000_000).is_err());
}

#[tokio::test]
async fn a_session_is_never_resumed_where_certificates_are_demanded() {
    let ca = Authority::new("CA");
    let leaf = ca.issue(&["dns:a.example"]);
    for (demands, ca) in [(true, Some(&ca)), (false, None)] {
        let gate = Gate::open(ca).await;
        for version in VERSIONS {
            let config = Arc::new(gate.config(Caller { leaf: Some(&leaf), version }));
            let mut kinds = Vec::new();
            for _ in 0..3 {
                let mut stream = gate.connect(&config).await.expect("gets in");
                // Tickets come with the answer.
                stream.write_all(CALL.as_bytes()).await.expect("taken");
                read_to(&mut stream, "\r\n\r\nin").await;
                kinds.push(stream.get_ref().1.handshake_kind());
                assert_eq!(stream.get_ref().1.protocol_version(), Some(expected(version)));
            }
            let resumed = kinds.contains(&Some(HandshakeKind::Resumed));
            assert_eq!(resumed, !demands, "{kinds:?}: what would be resumed elsewhere is not here");
        }
    }
}

fn expected(version: &rustls::SupportedProtocolVersion) -> ProtocolVersion {
    if std::ptr::eq(version, &rustls::version::TLS12) {
        ProtocolVersion::TLSv1_2
    } else {
        ProtocolVersion::TLSv1_3
    }
}
