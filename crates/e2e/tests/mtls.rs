//! Client certificates, with curl and openssl as the callers.

use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tollgate_e2e::{Home, Server};
use tollgate_testkit::{Authority, Leaf, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// The files of a gateway with an mTLS listener, and what they come from.
struct Gate {
    home: Home,
    ca: Authority,
    server_cert: String,
    options: Vec<String>,
}

/// A client certificate in files.
struct Client {
    leaf: Leaf,
    cert: String,
    key: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    protocol: String,
    status: String,
    code: String,
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    Timestamp::from_second(since.as_secs().try_into().expect("in range")).expect("in range")
}

fn hour() -> Timestamp {
    now() + SignedDuration::from_hours(1)
}

// === impl Gate ===

impl Gate {
    fn new() -> Self {
        let home = Home::new();
        let ca = Authority::new("partners");
        let own = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).expect("a certificate");
        let server_cert = home.file("server.pem", &own.cert.pem());
        let server_key = home.file("server.key", &own.signing_key.serialize_pem());
        home.file("ca.pem", &ca.pem());
        home.file("crl.pem", &ca.revoke(&[], hour()));
        let tls = |name: &str| format!("--tls={name}={server_cert},{server_key}");
        let trust = |name: &str| {
            let path = |file: &str| home.path().join(file).display().to_string();
            format!("--client-ca={name}={},{}", path("ca.pem"), path("crl.pem"))
        };
        let options = vec![
            "--listen=test.mtls=127.0.0.1:0".to_owned(),
            "--listen=prod.mtls=127.0.0.1:0".to_owned(),
            tls("test"),
            tls("test.mtls"),
            tls("prod.mtls"),
            trust("test.mtls"),
            trust("prod.mtls"),
        ];
        Self { home, ca, server_cert, options }
    }

    fn start(&self) -> Server<'_> {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        Server::start(&self.home, &options)
    }

    fn client(&self, name: &str, leaf: Leaf) -> Client {
        let cert = self.home.file(&format!("{name}.pem"), &leaf.chain);
        let key = self.home.file(&format!("{name}.key"), &leaf.key);
        Client { leaf, cert, key }
    }

    fn file(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Calls the pipeline on a listener with curl; says why there is no answer.
    fn curl(
        &self,
        server: &Server<'_>,
        listener: &str,
        client: Option<&Client>,
        more: &[&str],
    ) -> Result<Answer, String> {
        let port = server.url(listener).rsplit_once(':').expect("a port").1;
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "20", "--cacert", &self.server_cert, "-o", "/dev/null"])
            .args(["-w", "%{http_version} %{response_code} %header{tollgate-error}"])
            .args(["--resolve", &format!("gateway.example:{port}:127.0.0.1")]);
        if let Some(client) = client {
            command.args(["--cert", &client.cert, "--key", &client.key]);
        }
        command.args(more).arg(format!("https://gateway.example:{port}/pipeline/default/v1/orders"));
        let output = command.output().expect("curl runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let mut words = told.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        Ok(Answer { protocol: word(), status: word(), code: word() })
    }

    /// Calls the mTLS listener of `test`; returns status and code.
    fn call(&self, server: &Server<'_>, client: &Client, more: &[&str]) -> (String, String) {
        let answer = self.curl(server, "test.mtls", Some(client), more).expect("an answer");
        (answer.status, answer.code)
    }
}

fn answer(status: &str, code: &str) -> (String, String) {
    (status.to_owned(), code.to_owned())
}

/// Deploys a pipeline that demands a client certificate, and more.
fn deploy(gate: &Gate, server: &Server<'_>, switches: &str) {
    let file = gate.home.file(
        "orders.yaml",
        &format!(
            "kind: Pipeline\nname: orders\nproject: store\ntrigger: {{ type: rest, externalApi: true, mtls: true{switches} }}\n\
             steps: [{{ json: {{ consumer: \"{{{{ consumer.name }}}}\" }} }}]\n"
        ),
    );
    server.cli(&["apply", "-f", &file]).expect_code(0);
    for environment in ["test", "prod"] {
        // The API key requirement, which both have, is met by the certificate.
        server.cli(&["deploy", "orders", "--env", environment]).expect_code(0);
    }
}

fn consumer(server: &Server<'_>, name: &str) -> String {
    let made = server.json(&["consumer", "create", name, "--env", "test", "--pipeline", "orders"]);
    made.pointer("/items/0/key/key").and_then(Value::as_str).expect("a key").to_owned()
}

fn bind(server: &Server<'_>, name: &str, by: &[&str]) -> String {
    let all = [&["certificate", "create", name, "--env", "test"], by].concat();
    server.json(&all).pointer("/id").and_then(Value::as_str).expect("an id").to_owned()
}

async fn until_answered(gate: &Gate, server: &Server<'_>, client: &Client, expected: (String, String)) {
    wait_until("the answer", SOON, async || gate.call(server, client, &[]) == expected).await;
}

fn hang_up(server: &Server<'_>) {
    let sent = Command::new("kill").args(["-HUP", &server.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[tokio::test]
async fn a_consumer_calls_with_its_certificate_and_nobody_else_does() {
    let gate = Gate::new();
    let server = gate.start();
    deploy(&gate, &server, "");
    consumer(&server, "shop");
    let shop = gate.client("shop", gate.ca.issue(&["dns:shop.example"]));
    let (missing, invalid) =
        (answer("401", "client-certificate-missing"), answer("401", "client-certificate-invalid"));
    assert_eq!(gate.call(&server, &shop, &[]), invalid, "bound to nobody");
    let id = bind(&server, "shop", &["--cert", &shop.cert]);
    until_answered(&gate, &server, &shop, answer("200", "")).await;
    for (options, protocol) in [
        (&["--http2"][..], "2"),
        (&["--http1.1"], "1.1"),
        (&["--tls-max", "1.2"], "2"),
        (&["--http1.1", "--tls-max", "1.2"], "1.1"),
    ] {
        let answer = gate.curl(&server, "test.mtls", Some(&shop), options).expect("an answer");
        assert_eq!((answer.protocol.as_str(), answer.status.as_str()), (protocol, "200"));
    }
    // A listener that does not ask: what the caller could show counts for nothing, and headers that look like it neither.
    let header = format!("x-forwarded-client-cert: {}", shop.leaf.chain.replace('\n', "%0A"));
    for more in [&[][..], &["-H", &header], &["-H", "x-client-cert: shop", "-H", "client-cert: :YWJj:"]] {
        let answer = gate.curl(&server, "test", Some(&shop), more).expect("an answer");
        assert_eq!((answer.status, answer.code), missing);
    }
    // The binding is of `test`: on the other environment's listener, whose CA is the same, it is nobody's.
    let answer_of_prod = gate.curl(&server, "prod.mtls", Some(&shop), &[]).expect("an answer");
    assert_eq!((answer_of_prod.status, answer_of_prod.code), invalid);

    // Whoever the CA does not vouch for gets no answer at all.
    let stranger = Authority::new("partners");
    let past = now() - SignedDuration::from_hours(2);
    let server_only = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    for (name, leaf) in [
        ("stranger", stranger.issue(&["dns:shop.example"])),
        ("expired", gate.ca.issue_between(&["dns:shop.example"], past, past + SignedDuration::from_hours(1))),
        (
            "early",
            gate.ca.issue_between(&["dns:shop.example"], hour(), hour() + SignedDuration::from_hours(1)),
        ),
        ("server-only", gate.ca.issue_with(&["dns:shop.example"], server_only)),
    ] {
        let client = gate.client(name, leaf);
        assert!(gate.curl(&server, "test.mtls", Some(&client), &[]).is_err(), "{name}");
    }
    assert!(gate.curl(&server, "test.mtls", None, &[]).is_err(), "without a certificate");

    // The log names the binding and its consumer, and never the certificate's names.
    let log = || server.log();
    wait_until("the log", SOON, async || log().contains(&id)).await;
    assert!(!log().contains("shop.example") && !log().contains("a client"), "{}", log());
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn revoking_acts_on_a_connection_that_is_open() {
    let gate = Gate::new();
    let server = gate.start();
    deploy(&gate, &server, "");
    consumer(&server, "shop");
    let shop = gate.client("shop", gate.ca.issue(&[]));
    let id = bind(&server, "shop", &["--fingerprint", &shop.leaf.fingerprint]);
    until_answered(&gate, &server, &shop, answer("200", "")).await;
    let mut open = Connection::open(&gate, &server, &shop);
    assert_eq!(open.call(), 200);
    server.cli(&["certificate", "revoke", &id, "--env", "test"]).expect_code(0);
    wait_until("the refusal", Duration::from_secs(5), async || open.call() == 401).await;
    let listed = server.json(&["certificate", "list", "shop", "--env", "test"]);
    assert_eq!(listed.pointer("/items/0/state"), Some(&json!("revoked")));

    // By its CA, after another binding let it in again.
    bind(&server, "shop", &["--cert", &shop.cert]);
    wait_until("the new binding", SOON, async || open.call() == 200).await;
    gate.home.file("crl.pem", &gate.ca.revoke(&[&shop.leaf], hour()));
    hang_up(&server);
    wait_until("the revocation list", SOON, async || open.call() == 401).await;
    assert!(gate.curl(&server, "test.mtls", Some(&shop), &[]).is_err(), "no new connection");
    // A list that has ended: nobody can say, so nobody gets in, and what is open is told so.
    gate.home.file("crl.pem", &gate.ca.revoke(&[], now() - SignedDuration::from_hours(1)));
    hang_up(&server);
    wait_until("the old list", SOON, async || open.call() == 503).await;
    assert!(gate.curl(&server, "test.mtls", Some(&shop), &[]).is_err(), "no new connection");
    wait_until("the complaint", SOON, async || server.log().contains("older than its next update")).await;
    // A file that is no list changes nothing.
    gate.home.file("crl.pem", "nonsense");
    hang_up(&server);
    wait_until("the complaint", SOON, async || {
        server.log().contains("changed CAs or revocation lists cannot be used")
    })
    .await;
    assert_eq!(open.call(), 503);
    gate.home.file("crl.pem", &gate.ca.revoke(&[], hour()));
    hang_up(&server);
    wait_until("the good list", SOON, async || open.call() == 200).await;
    // Another CA is believed from now on.
    let next = Authority::new("next");
    gate.home.file("crl.pem", &next.revoke(&[], hour()));
    gate.home.file("ca.pem", &next.pem());
    hang_up(&server);
    wait_until("the other CA", SOON, async || open.call() == 401).await;
    assert_eq!(server.stop(), Some(0));
}

/// A connection of `openssl s_client` that stays open.
struct Connection {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Connection {
    fn open(gate: &Gate, server: &Server<'_>, client: &Client) -> Self {
        let port = server.url("test.mtls").rsplit_once(':').expect("a port").1;
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")])
            .args(["-servername", "gateway.example", "-CAfile", &gate.server_cert])
            .args(["-cert", &client.cert, "-key", &client.key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = std::sync::mpsc::channel();
        // Ends with the process.
        std::thread::spawn(move || {
            use std::io::BufRead as _;
            for line in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Makes a call on the connection and returns its status.
    fn call(&mut self) -> u16 {
        use std::io::Write as _;

        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin
            .write_all(b"GET /pipeline/default/v1/orders HTTP/1.1\r\nhost: gateway.example\r\n\r\n")
            .and_then(|()| stdin.flush())
            .expect("the connection is open");
        loop {
            let line = self.lines.recv_timeout(SOON).expect("an answer");
            // The body of the answer before has no line end, so that this one may follow it.
            if let Some((_, rest)) = line.split_once("HTTP/1.1 ") {
                return rest.split(' ').next().and_then(|status| status.parse().ok()).expect("a status");
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn key_and_certificate_must_be_one_consumers_and_a_name_is_its_cas() {
    let gate = Gate::new();
    // Two CAs are believed.
    let other = Authority::new("others");
    gate.home.file("ca.pem", &format!("{}{}", gate.ca.pem(), other.pem()));
    gate.home.file("crl.pem", &format!("{}{}", gate.ca.revoke(&[], hour()), other.revoke(&[], hour())));
    gate.home.file("issuer.pem", &gate.ca.pem());
    let server = gate.start();
    deploy(&gate, &server, ", apiKey: true");
    let (of_shop, of_bank) = (consumer(&server, "shop"), consumer(&server, "bank"));
    let shop = gate.client("shop", gate.ca.issue(&["uri:spiffe://example/shop"]));
    let issuer = gate.file("issuer.pem");
    bind(&server, "shop", &["--san", "uri:spiffe://example/shop", "--issuer", &issuer]);
    let key = |key: &str| format!("apikey: {key}");
    let (shops, banks) = (key(&of_shop), key(&of_bank));
    wait_until("the binding", SOON, async || gate.call(&server, &shop, &["-H", &shops]) == answer("200", ""))
        .await;
    assert_eq!(gate.call(&server, &shop, &[]), answer("401", "api-key-missing"));
    let mismatch = answer("403", "client-certificate-consumer-mismatch");
    assert_eq!(gate.call(&server, &shop, &["-H", &banks]), mismatch);
    // The same name from the other CA is not the shop's.
    let impostor = gate.client("impostor", other.issue(&["uri:spiffe://example/shop"]));
    let invalid = answer("401", "client-certificate-invalid");
    assert_eq!(gate.call(&server, &impostor, &["-H", &shops]), invalid);
    // A name has one owner, and the refusal says who it is.
    let san = ["--san", "uri:spiffe://example/shop", "--issuer", &issuer];
    let refused = server.cli(&[&["certificate", "create", "bank", "--env", "test"], &san[..]].concat());
    refused.expect_code(1).expect_words("consumer `shop`");
    // A private key goes nowhere.
    server
        .cli(&["certificate", "create", "bank", "--env", "test", "--cert", &shop.key])
        .expect_code(2)
        .expect_words("private key");

    let url = format!("{}/pipeline/default/v1/orders", server.url("test.mtls"));
    let explained = server.json(&["explain", "GET", &url, "-H", &banks, "--cert", &shop.cert]);
    assert_eq!(explained.pointer("/answer/code"), Some(&json!("client-certificate-consumer-mismatch")));
    let explained = server.json(&["explain", "GET", &url, "-H", &shops, "--cert", &impostor.cert]);
    assert_eq!(explained.pointer("/answer/code"), Some(&json!("client-certificate-invalid")));
    let callers = server.json(&["access", "callers", "orders", "--env", "test"]).to_string();
    assert!(callers.contains("\"lacks\":[\"certificate\"]"), "the bank lacks one: {callers}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_session_is_not_resumed_and_a_door_for_certificates_is_never_left_open() {
    let gate = Gate::new();
    let server = gate.start();
    let client = gate.client("anybody", gate.ca.issue(&[]));
    let port = server.url("test.mtls").rsplit_once(':').expect("a port").1;
    let session = gate.file("session");
    let mut reused = Vec::new();
    for option in ["-sess_out", "-sess_in"] {
        if option == "-sess_in" && !std::path::Path::new(&session).exists() {
            // There was none to keep.
            continue;
        }
        let output = Command::new("openssl")
            .args(["s_client", "-tls1_2", "-connect", &format!("127.0.0.1:{port}"), option, &session])
            .args(["-cert", &client.cert, "-key", &client.key])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        reused.push(String::from_utf8_lossy(&output.stdout).contains("Reused,"));
    }
    assert!(!reused.is_empty() && !reused.contains(&true), "{reused:?}");
    assert_eq!(server.stop(), Some(0));

    for (options, words) in [
        (vec!["--listen=test.mtls=127.0.0.1:0".to_owned()], "--client-ca test.mtls=CA"),
        (gate.options.iter().filter(|it| !it.starts_with("--client-ca")).cloned().collect(), "--client-ca"),
        (gate.options.iter().filter(|it| !it.starts_with("--tls")).cloned().collect(), "--tls"),
    ] {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let server = Server::launch(&gate.home, &options);
        assert_eq!(server.wait(), Some(1));
        let log = std::fs::read_to_string(gate.home.log_path()).expect("a log");
        assert!(log.contains(words), "{words}: {log}");
        std::fs::remove_file(gate.home.log_path()).expect("there");
    }
}

#[tokio::test]
async fn an_operator_sees_when_each_certificate_was_used_and_how_many_were_refused() {
    let mut gate = Gate::new();
    gate.options.push("--listen=metrics=127.0.0.1:0".to_owned());
    let server = gate.start();
    deploy(&gate, &server, "");
    consumer(&server, "shop");
    let shop = gate.client("shop", gate.ca.issue(&["dns:shop.example"]));
    let (used, idle) = (
        bind(&server, "shop", &["--cert", &shop.cert]),
        bind(&server, "shop", &["--san", "dns:other.example", "--issuer", &gate.file("ca.pem")]),
    );
    until_answered(&gate, &server, &shop, answer("200", "")).await;
    wait_until("the last use", SOON, async || {
        let listed = server.json(&["certificate", "list", "shop", "--env", "test"]);
        listed.pointer("/items/0/lastUsedAt").is_some_and(Value::is_string)
    })
    .await;
    let unused = server.json(&["access", "unused", "--days", "1", "--env", "test"]);
    let ids: Vec<_> = unused["certificates"].as_array().expect("a list").iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, [&json!(idle)], "{unused}");
    let usage = server.json(&["usage", "--env", "test"]);
    let credential = usage.pointer("/items/0/credential").expect("a credential");
    assert_eq!((&credential["kind"], &credential["id"]), (&json!("certificate"), &json!(used)));
    let table = server.cli(&["usage", "--env", "test"]).expect_code(0);
    assert!(table.stdout.contains("certificate default"), "{table:?}");

    assert!(gate.curl(&server, "test.mtls", None, &[]).is_err(), "without a certificate");
    let text = server.call("metrics", "/metrics", &[], None).await.expect(200, "").text;
    let of = "environment=\"test\",exposure=\"external\",mtls=\"true\"";
    assert!(
        text.contains(&format!(
            "tollgate_tls_handshakes_failed_total{{{of},reason=\"client-certificate\"}} 1\n"
        )),
        "{text}"
    );
    assert!(text.contains(&format!("tollgate_connections{{{of}}} ")), "{text}");
    let mut lint = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Debian's package `prometheus` is installed: `cargo xtask test` does that");
    std::io::Write::write_all(&mut lint.stdin.take().expect("piped"), text.as_bytes()).expect("reads");
    let linted = lint.wait_with_output().expect("ends");
    assert!(linted.status.success() && linted.stdout.is_empty() && linted.stderr.is_empty(), "{linted:?}");
    assert_eq!(server.stop(), Some(0));
}
