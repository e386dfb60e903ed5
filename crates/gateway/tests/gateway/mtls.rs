//! Client certificates: whose they are, at each call, beside all other credentials.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate_gateway::Exposition;
use tollgate_listener::{Certificates, ClientCertificate, ClientTrust, Entrance, Tls};
use tollgate_model::calls::{Shown, ShownCredentials};
use tollgate_model::certificates::{Certificate, Fingerprint, KnownBy, SubjectAltName};
use tollgate_model::consumers::Consumer;
use tollgate_model::environments::Exposure;
use tollgate_model::explanations::Check;
use tollgate_model::ids::ConsumerId;
use tollgate_model::names::EnvironmentName;
use tollgate_testkit::{Authority, Leaf};

use crate::world::{Reply, World, get};

const OPEN: &str = "kind: Pipeline\nname: NAME\nproject: store\ntrigger: { type: rest, externalApi: true, SWITCHES }\n\
                    steps: [{ json: { headers: \"{{ message.headers }}\" } }]\n";

fn pipeline(name: &str, switches: &str) -> String {
    OPEN.replace("NAME", name).replace("SWITCHES", switches)
}

/// TLS that demands certificates of these CAs.
fn door(authorities: &[&Authority]) -> Arc<Tls> {
    let own = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).expect("a certificate");
    let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let certificates = Certificates::parse([(chain.as_bytes(), key.as_bytes())]).expect("good");
    Tls::demanding(certificates, trust(authorities, None)).expect("set up")
}

fn trust(authorities: &[&Authority], list: Option<&str>) -> ClientTrust {
    let bundle: String = authorities.iter().map(|authority| authority.pem()).collect();
    ClientTrust::parse(bundle.as_bytes(), list.map(str::as_bytes)).expect("good")
}

fn shown(door: &Tls, leaf: &Leaf) -> ClientCertificate {
    door.imagine_client(leaf.chain.as_bytes()).expect("a certificate").expect("asked for")
}

fn fingerprint(leaf: &Leaf) -> KnownBy {
    KnownBy::Fingerprint(Fingerprint::parse(&leaf.fingerprint).expect("a fingerprint"))
}

fn san(name: &str, issuer: &Authority) -> KnownBy {
    KnownBy::San {
        san: SubjectAltName::parse(name).expect("a name"),
        issuer: Fingerprint::parse(&issuer.fingerprint()).expect("a fingerprint"),
    }
}

fn with(mut request: Request<Full<Bytes>>, certificate: Option<&ClientCertificate>) -> Request<Full<Bytes>> {
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(certificate.clone());
    }
    request
}

async fn call(world: &World, certificate: Option<&ClientCertificate>) -> Reply {
    world.call(&EnvironmentName::test(), with(get("/pipeline/default/v1/p", &[]), certificate)).await
}

/// A pipeline that demands a client certificate, and a consumer that may call it.
fn world() -> (World, ConsumerId) {
    let mut world = World::new();
    world.deploy(&pipeline("p", "mtls: true"));
    let shop = world.consumer(&EnvironmentName::test(), "shop", &["p"]);
    world.publish();
    (world, shop)
}

#[tokio::test]
async fn a_certificate_is_whose_it_is_bound_to_by_fingerprint_or_by_a_name_of_its_ca() {
    let (mut world, shop) = world();
    let (ca, other) = (Authority::new("CA"), Authority::new("CA"));
    let door = door(&[&ca, &other]);
    let test = EnvironmentName::test();
    let reply = call(&world, None).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (401, "client-certificate-missing"));
    assert_eq!(reply.header("www-authenticate"), "ClientCertificate");
    for name in ["dns:shop.example", "uri:spiffe://example/shop", "email:shop@shop.example"] {
        let (own, stranger) = (ca.issue(&[name]), other.issue(&[name]));
        for (leaf, known_by) in [(&own, san(name, &ca)), (&own, fingerprint(&own))] {
            assert_eq!(call(&world, Some(&shown(&door, leaf))).await.code(), "client-certificate-invalid");
            let id = world.certificate(&test, shop, known_by);
            world.publish();
            assert_eq!(call(&world, Some(&shown(&door, leaf))).await.code(), "");
            // The same name from another CA that is believed, too, and another certificate without a name.
            for leaf in [&stranger, &ca.issue(&[])] {
                let reply = call(&world, Some(&shown(&door, leaf))).await;
                assert_eq!(reply.code(), "client-certificate-invalid");
            }
            world.delete::<Certificate>(|it| it.id == id);
            world.publish();
        }
    }
    assert_eq!(world.usage.drain().len(), 6, "each binding was used once, and what was refused was not");
    let counts = world.usage.drain_calls();
    let expected = ShownCredentials { certificate: Shown::Verified, ..ShownCredentials::default() };
    assert!(counts.calls.keys().all(|of| of.credentials == expected), "{counts:?}");
}

#[tokio::test]
async fn what_ends_a_binding_ends_it_on_connections_that_are_open() {
    let (mut world, shop) = world();
    let ca = Authority::new("CA");
    let door = door(&[&ca]);
    let leaf = ca.issue(&["dns:shop.example"]);
    let connection = shown(&door, &leaf);
    let test = EnvironmentName::test();
    let id = world.certificate(&test, shop, fingerprint(&leaf));
    world.publish();
    assert_eq!(call(&world, Some(&connection)).await.code(), "");
    let change = |world: &mut World, change: &dyn Fn(&mut Certificate)| {
        world.change::<Certificate>(|it| it.id == id, change);
        world.publish();
    };
    let now = world.now();
    let ends = now + Duration::from_secs(10);
    for (set, reset) in [
        (
            &(|it: &mut Certificate| it.revoked_at = Some(ends)) as &dyn Fn(&mut Certificate),
            &(|it: &mut Certificate| it.revoked_at = None) as &dyn Fn(&mut Certificate),
        ),
        (&|it: &mut Certificate| it.expires_at = Some(now), &|it: &mut Certificate| it.expires_at = None),
    ] {
        change(&mut world, set);
        let reply = call(&world, Some(&connection)).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (401, "client-certificate-invalid"));
        change(&mut world, reset);
        assert_eq!(call(&world, Some(&connection)).await.code(), "");
    }
    // It is one of another environment.
    let reply = world
        .call(&EnvironmentName::prod(), with(get("/pipeline/default/v1/p", &[]), Some(&connection)))
        .await;
    assert_eq!(reply.code(), "client-certificate-invalid");
    // Its consumer may not call any more, then is gone.
    world.change::<Consumer>(|it| it.id == shop, |it| it.pipelines.clear());
    world.publish();
    assert_eq!(call(&world, Some(&connection)).await.code(), "consumer-not-allowed");
    world.delete::<Consumer>(|it| it.id == shop);
    world.publish();
    assert_eq!(call(&world, Some(&connection)).await.code(), "client-certificate-invalid");
}

#[tokio::test]
async fn what_ends_a_certificate_ends_it_on_connections_that_are_open() {
    let (mut world, shop) = world();
    let ca = Authority::new("CA");
    let door = door(&[&ca]);
    let now = world.now();
    let leaf = ca.issue_between(&[], now, now + Duration::from_secs(100));
    world.certificate(&EnvironmentName::test(), shop, fingerprint(&leaf));
    world.publish();
    let connection = shown(&door, &leaf);
    let believe = |list: String| door.replace_clients(trust(&[&ca], Some(&list))).expect("set up");
    believe(ca.revoke(&[], now + Duration::from_secs(50)));
    assert_eq!(call(&world, Some(&connection)).await.code(), "");
    world.clock.advance(Duration::from_secs(50));
    let reply = call(&world, Some(&connection)).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (503, "check-unavailable"), "nobody knows any more");
    believe(ca.revoke(&[], now + Duration::from_secs(1_000)));
    assert_eq!(call(&world, Some(&connection)).await.code(), "");
    believe(ca.revoke(&[&leaf], now + Duration::from_secs(1_000)));
    assert_eq!(call(&world, Some(&connection)).await.code(), "client-certificate-invalid");
    believe(ca.revoke(&[], now + Duration::from_secs(1_000)));
    world.clock.advance(Duration::from_secs(51));
    assert_eq!(call(&world, Some(&connection)).await.code(), "client-certificate-invalid", "expired");
}

#[tokio::test]
async fn a_certificate_of_several_consumers_is_nobodys() {
    let (mut world, shop) = world();
    let (ca, test) = (Authority::new("CA"), EnvironmentName::test());
    let bank = world.consumer(&test, "bank", &["p"]);
    let door = door(&[&ca]);
    let leaf = ca.issue(&["dns:shop.example", "uri:spiffe://example/bank"]);
    let connection = shown(&door, &leaf);
    world.certificate(&test, shop, san("dns:shop.example", &ca));
    world.certificate(&test, shop, fingerprint(&leaf));
    world.publish();
    assert_eq!(call(&world, Some(&connection)).await.code(), "", "two bindings of one consumer");
    let of_bank = world.certificate(&test, bank, san("uri:spiffe://example/bank", &ca));
    world.publish();
    assert_eq!(call(&world, Some(&connection)).await.code(), "client-certificate-invalid");
    // One that works no more contradicts nobody.
    let now = world.now();
    world.change::<Certificate>(|it| it.id == of_bank, |it| it.revoked_at = Some(now));
    world.publish();
    assert_eq!(call(&world, Some(&connection)).await.code(), "");
}

#[tokio::test]
async fn no_header_counts_as_a_certificate_and_no_flow_sees_one_that_looks_like_it() {
    let (mut world, shop) = world();
    world.deploy(&pipeline("open", ""));
    let ca = Authority::new("CA");
    let leaf = ca.issue(&["dns:shop.example"]);
    world.certificate(&EnvironmentName::test(), shop, fingerprint(&leaf));
    world.publish();
    let pem = leaf.chain.replace('\n', "%0A");
    let headers: Vec<(&str, &str)> =
        ["x-client-cert", "x-forwarded-client-cert", "client-cert", "ssl_client_cert"]
            .iter()
            .map(|name| (*name, pem.as_str()))
            .collect();
    let test = EnvironmentName::test();
    let reply = world.call(&test, get("/pipeline/default/v1/p", &headers)).await;
    assert_eq!(reply.code(), "client-certificate-missing");
    let reply = world
        .call(&test, get("/pipeline/default/v1/open", &[&headers[..], &[("x-shop", "1")]].concat()))
        .await;
    let seen = reply.json();
    let seen = seen["headers"].as_object().expect("headers");
    assert!(seen.contains_key("x-shop") && !seen.keys().any(|name| name.contains("cert")), "{seen:?}");
}

/// Whose credential of a kind a call carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Nobody,
    Shop,
    Bank,
}

const EVERYBODY: [Of; 3] = [Of::Nobody, Of::Shop, Of::Bank];

/// What the design says of a call, written without cleverness: everything that is demanded must be there, and be of one
/// consumer.
fn expected(key: Option<Of>, certificate: Option<Of>, basic: Option<Of>, token: Option<Of>) -> &'static str {
    let mut caller = None;
    for (demanded, missing, mismatch) in [
        (key, "api-key-missing", ""),
        (certificate, "client-certificate-missing", "client-certificate-consumer-mismatch"),
        (basic, "basic-auth-invalid", "basic-auth-invalid"),
        (token, "jwt-missing", "jwt-consumer-mismatch"),
    ] {
        match demanded {
            None => {}
            Some(Of::Nobody) => return missing,
            Some(of) if caller.is_some_and(|caller| caller != of) => return mismatch,
            Some(of) => caller = Some(of),
        }
    }
    ""
}

#[tokio::test]
async fn whatever_is_demanded_together_must_be_of_one_consumer() {
    let mut world = World::new();
    let test = EnvironmentName::test();
    let mut switches = Vec::new();
    for (index, (key, mtls)) in
        [(false, false), (false, true), (true, false), (true, true)].into_iter().enumerate()
    {
        for (basic, jwt) in [(false, false), (true, false), (false, true)] {
            let name = format!("p{index}{}{}", u8::from(basic), u8::from(jwt));
            let text = format!("apiKey: {key}, mtls: {mtls}, basicAuth: {basic}, jwt: {jwt}");
            world.deploy(&pipeline(&name, &text));
            switches.push((name, key, mtls, basic, jwt));
        }
    }
    let names: Vec<&str> = switches.iter().map(|it| it.0.as_str()).collect();
    let (shop, bank) = (world.consumer(&test, "shop", &names), world.consumer(&test, "bank", &names));
    let ca = Authority::new("CA");
    let door = door(&[&ca]);
    let mut credentials = Vec::new();
    for (of, name) in [(shop, "shop"), (bank, "bank")] {
        let leaf = ca.issue(&[]);
        world.certificate(&test, of, fingerprint(&leaf));
        world.basic(&test, of, name, "a long password");
        let (_, key) = world.key(&test, of);
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{name}:a long password"));
        let token = world.token(&test, of, &[]);
        credentials.push((key, shown(&door, &leaf), format!("Basic {basic}"), format!("Bearer {token}")));
    }
    world.publish();
    let of = |it: Of| match it {
        Of::Nobody => None,
        Of::Shop => credentials.first(),
        Of::Bank => credentials.get(1),
    };
    for (name, key, mtls, basic, jwt) in &switches {
        for key_of in EVERYBODY {
            for certificate_of in EVERYBODY {
                for authorization_of in EVERYBODY {
                    let mut headers = Vec::new();
                    headers.extend(of(key_of).map(|it| ("apikey", it.0.as_str())));
                    let authorization = of(authorization_of).map(|it| if *basic { &it.2 } else { &it.3 });
                    headers.extend(authorization.map(|it| ("authorization", it.as_str())));
                    let request = get(&format!("/pipeline/default/v1/{name}"), &headers);
                    let request = with(request, of(certificate_of).map(|it| &it.1));
                    let reply = world.call(&test, request).await;
                    let demanded = |is: bool, of: Of| is.then_some(of);
                    let expected = expected(
                        demanded(*key, key_of),
                        demanded(*mtls, certificate_of),
                        demanded(*basic, authorization_of),
                        demanded(*jwt, authorization_of),
                    );
                    assert_eq!(
                        reply.code(),
                        expected,
                        "{name}: {key_of:?} {certificate_of:?} {authorization_of:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_rate_limit_by_credential_counts_each_certificate_and_an_explanation_charges_none() {
    let mut world = World::new();
    let test = EnvironmentName::test();
    let limits = "rateLimit: { by: credential, limits: [{ interval: hour, limit: 1 }] }";
    world.deploy(&pipeline("p", &format!("mtls: true, {limits}")));
    let shop = world.consumer(&test, "shop", &["p"]);
    let ca = Authority::new("CA");
    let door = door(&[&ca]);
    let leaves = [ca.issue(&[]), ca.issue(&[])];
    for leaf in &leaves {
        world.certificate(&test, shop, fingerprint(leaf));
    }
    world.publish();
    for leaf in &leaves {
        assert_eq!(call(&world, Some(&shown(&door, leaf))).await.code(), "");
    }
    for leaf in &leaves {
        assert_eq!(call(&world, Some(&shown(&door, leaf))).await.code(), "rate-limited");
    }
}

#[tokio::test]
async fn what_is_kept_of_a_refusal_names_the_binding_and_never_the_names_of_the_certificate() {
    let (mut world, shop) = world();
    let ca = Authority::new("CA");
    let leaf = ca.issue(&["email:somebody@shop.example"]);
    let id = world.certificate(&EnvironmentName::test(), shop, san("email:somebody@shop.example", &ca));
    let now = world.now();
    world.change::<Certificate>(|it| it.id == id, |it| it.revoked_at = Some(now));
    world.publish();
    let reply = call(&world, Some(&shown(&door(&[&ca]), &leaf))).await;
    assert_eq!(reply.code(), "client-certificate-invalid");
    assert!(!reply.text.contains("crt_") && !reply.text.contains("shop"), "{}", reply.text);
    let kept = world.refusal_of(&reply).expect("kept");
    assert_eq!(kept.reached.certificate, Some(id));
    assert_eq!(kept.reached.consumer.as_ref().map(|name| name.as_str()), Some("shop"));
    assert_eq!(kept.sent.certificate.as_deref(), Some(leaf.fingerprint.as_str()));
    let failed = kept.checks.iter().find(|it| it.check == Check::CertificateKnown).expect("made");
    assert!(failed.why.as_deref().is_some_and(|why| why.contains("was revoked at")), "{failed:?}");
    assert!(!format!("{kept:?}").contains("somebody"));
}

#[tokio::test]
async fn a_listener_that_asks_for_certificates_is_counted_beside_the_one_that_does_not() {
    let (world, _) = world();
    let ca = Authority::new("CA");
    let (stop, shutdown) = watch::channel(false);
    let mut addresses = Vec::new();
    for tls in [None, Some(door(&[&ca]))] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        addresses.push(listener.local_addr().expect("bound"));
        let (gateway, shutdown) = (world.gateway.clone(), shutdown.clone());
        let entrance = Entrance { tls, ..Entrance::default() };
        tokio::spawn(async move {
            let test = EnvironmentName::test();
            gateway.serve(listener, entrance, test, Exposure::External, shutdown).await;
        });
    }
    for address in [addresses[0], addresses[1], addresses[1]] {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream
            .write_all(b"GET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .expect("taken");
        let mut answer = Vec::new();
        // To a caller who does not speak TLS the listener may just hang up.
        let _ = stream.read_to_end(&mut answer).await;
    }
    let mut out = Exposition::default();
    world.gateway.write_metrics(&mut out);
    let text = out.into_text();
    let (plain, mtls) = (
        "environment=\"test\",exposure=\"external\"",
        "environment=\"test\",exposure=\"external\",mtls=\"true\"",
    );
    for (sample, value) in [
        (format!("tollgate_connections_accepted_total{{{plain}}}"), 1),
        (format!("tollgate_connections_accepted_total{{{mtls}}}"), 2),
        (format!("tollgate_call_duration_seconds_count{{{plain}}}"), 1),
        (format!("tollgate_call_duration_seconds_count{{{mtls}}}"), 0),
        (format!("tollgate_calls_in_flight{{{mtls}}}"), 0),
        (format!("tollgate_tls_handshakes_failed_total{{{plain},reason=\"other\"}}"), 0),
        (format!("tollgate_tls_handshakes_failed_total{{{mtls},reason=\"other\"}}"), 2),
        (format!("tollgate_tls_handshakes_failed_total{{{mtls},reason=\"client-certificate\"}}"), 0),
    ] {
        assert!(text.contains(&format!("\n{sample} {value}\n")), "{sample} {value}\n{text}");
    }
    stop.send_replace(true);
}
