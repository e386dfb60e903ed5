//! TLS, HTTP/2 and proxies in front, with curl as the caller.

use std::process::Command;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tollgate_e2e::{Home, Server};
use tollgate_testkit::wait_until;

/// A certificate for `gateway.example` in files.
struct Pair {
    chain: String,
    key: String,
}

// === impl Pair ===

impl Pair {
    fn write(home: &Home, name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["gateway.example", "localhost"].map(str::to_owned))
                .expect("a certificate");
        Self {
            chain: home.file(&format!("{name}.pem"), &cert.pem()),
            key: home.file(&format!("{name}.key"), &signing_key.serialize_pem()),
        }
    }

    fn option(&self, listener: &str) -> String {
        format!("--tls={listener}={},{}", self.chain, self.key)
    }
}

/// Calls as `gateway.example`; returns the protocol, the status and the body, or why there is none.
fn curl(url: &str, arguments: &[&str]) -> Result<String, String> {
    let (scheme, address) = url.split_once("://").expect("a URL");
    let port = address.rsplit_once(':').expect("a port").1;
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-w", "\n%{http_version} %{response_code}"])
        .args(["--resolve", &format!("gateway.example:{port}:127.0.0.1")])
        .args(arguments)
        .arg(format!("{scheme}://gateway.example:{port}/pipeline/default/v1/nothing"))
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.rsplit_once('\n') {
        Some((body, told)) if output.status.success() => {
            assert!(body.contains("route-not-found"), "{text}");
            Ok(told.to_owned())
        }
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn hang_up(server: &Server<'_>) {
    let sent = Command::new("kill").args(["-HUP", &server.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn curl_speaks_both_protocols_with_and_without_tls() {
    let home = Home::new();
    let pair = Pair::write(&home, "one");
    let server = Server::start(&home, &[&pair.option("test"), "--cleartext-http2=prod"]);
    let (test, prod) = (server.url("test"), server.url("prod"));
    let trust = ["--cacert", pair.chain.as_str()];
    assert!(test.starts_with("https://") && prod.starts_with("http://"));
    let with = |more: &[&'static str]| [&trust[..], more].concat();
    assert_eq!(curl(test, &with(&[])), Ok("2 404".to_owned()));
    assert_eq!(curl(test, &with(&["--http1.1"])), Ok("1.1 404".to_owned()));
    assert_eq!(curl(test, &with(&["--tls-max", "1.2"])), Ok("2 404".to_owned()));
    assert!(curl(test, &with(&["--tls-max", "1.1"])).is_err());
    assert!(curl(test, &[]).is_err(), "the certificate is nobody's");
    assert_eq!(curl(prod, &["--http2-prior-knowledge"]), Ok("2 404".to_owned()));
    assert_eq!(curl(prod, &["--http2"]), Ok("1.1 404".to_owned()), "no upgrade");
    assert_eq!(curl(prod, &[]), Ok("1.1 404".to_owned()));
    let internal = server.url("prod.internal");
    assert!(curl(internal, &["--http2-prior-knowledge"]).is_err(), "not where nobody asked for it");
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn certificates_are_replaced_while_the_server_runs_and_broken_ones_change_nothing() {
    let home = Home::new();
    let used = Pair::write(&home, "used");
    let first = home.file("first.pem", &std::fs::read_to_string(&used.chain).expect("reads"));
    let server = Server::start(&home, &[&used.option("test")]);
    let url = server.url("test");
    let trusted = |chain: &str| curl(url, &["--cacert", chain]).is_ok();
    assert!(trusted(&first));
    // Somebody copies the key and forgets the chain.
    let next = Pair::write(&home, "next");
    std::fs::copy(&next.key, &used.key).expect("copies");
    hang_up(&server);
    wait_until("the complaint", Duration::from_secs(20), async || {
        server.log().contains("changed certificates cannot be used")
    })
    .await;
    assert!(trusted(&first));
    std::fs::copy(&next.chain, &used.chain).expect("copies");
    hang_up(&server);
    wait_until("the new certificate", Duration::from_secs(20), async || trusted(&next.chain)).await;
    assert!(!trusted(&first));
    assert!(!server.log().contains("PRIVATE KEY"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_server_with_a_broken_certificate_does_not_start() {
    let home = Home::new();
    let (one, other) = (Pair::write(&home, "one"), Pair::write(&home, "other"));
    let mixed = Pair { chain: one.chain, key: other.key }.option("test");
    for (arguments, words) in [
        (&[mixed.as_str()][..], "certificate and key cannot be used together"),
        (&["--tls=test=/nowhere/a.pem,/nowhere/a.key"], "cannot read /nowhere/a.pem"),
        (&["--proxy-protocol=test"], "--trusted-proxy"),
    ] {
        let server = Server::launch(&home, arguments);
        assert_eq!(server.wait(), Some(1), "{arguments:?}");
        let log = std::fs::read_to_string(home.log_path()).expect("a log");
        assert!(log.contains(words), "`{words}` is missing in {log}");
    }
    assert!(!home.data().join("admin-token").exists(), "nothing was written");
}

#[test]
fn the_console_may_leave_this_machine_with_tls() {
    let home = Home::new();
    let pair = Pair::write(&home, "one");
    let listen = ["--listen=console=0.0.0.0:0,test=127.0.0.1:0,prod=127.0.0.1:0", "--listen"];
    let rest = "test.internal=127.0.0.1:0,prod.internal=127.0.0.1:0";
    let refused = Server::launch(&home, &[listen[0], listen[1], rest]);
    assert_eq!(refused.wait(), Some(1));
    let server = Server::start(&home, &[listen[0], listen[1], rest, &pair.option("console")]);
    let port = server.url("console").rsplit_once(':').expect("a port").1.to_owned();
    let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--cacert", &pair.chain])
        .args(["--resolve", &format!("gateway.example:{port}:127.0.0.1")])
        .args(["-H", &format!("authorization: Bearer {}", token.trim())])
        .args(["-o", "/dev/null", "-w", "%{http_version} %{response_code}"])
        // The name of the certificate is none that the console was told of.
        .arg(format!("https://gateway.example:{port}/api/v1/realms"))
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 421");
    // The command line speaks TLS too, and believes whom the system believes.
    let url = format!("https://localhost:{port}");
    let whoami = |authority: &str| {
        let mut command = home.command(&["--server", &url, "whoami"]);
        command.env("TOLLGATE_TOKEN", token.trim()).env("SSL_CERT_FILE", authority);
        command.output().expect("runs").status.success()
    };
    let other = Pair::write(&home, "other");
    assert!(whoami(&pair.chain) && !whoami(&other.chain));
    assert_eq!(server.stop(), Some(0));
}

/// Calls and makes a consumer through a proxy; returns whom the log and the journal name.
async fn named(home: &Home, trusted: &str, consumer: &str) -> (Vec<String>, String) {
    let server = Server::start(home, &[trusted]);
    let forwarded = ("x-forwarded-for", "192.0.2.66, 203.0.113.9");
    let reply = server.call("test", "/pipeline/default/v1/nothing", &[forwarded], None).await;
    let id = reply.headers.get("x-request-id").expect("an id").clone();
    let remote = || {
        let log = server.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| {
            line.get("target").is_some_and(|it| it == "tollgate::access")
                && line.get("request_id").is_some_and(|it| *it == *id)
        })?;
        line.get("remote").and_then(Value::as_str).map(str::to_owned)
    };
    wait_until("the line", Duration::from_secs(20), async || remote().is_some()).await;
    let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    let bearer = format!("Bearer {}", token.trim());
    let made = json!({ "name": consumer, "environments": ["test"], "createKey": false });
    let headers = [forwarded, ("authorization", bearer.as_str())];
    let made = server.call("console", "/api/v1/realms/default/consumers", &headers, Some(&made)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let journal = server.json(&["audit", "list"]).to_string();
    let remotes = remote().into_iter().collect();
    assert_eq!(server.stop(), Some(0));
    (remotes, journal)
}

#[tokio::test]
async fn the_log_and_the_journal_name_the_caller_behind_a_trusted_proxy() {
    let home = Home::new();
    // Not of a trusted proxy first: nothing of what the caller says is kept.
    let (remote, journal) = named(&home, "--trusted-proxy=10.0.0.0/8", "one").await;
    assert_eq!(remote, ["127.0.0.1"]);
    assert!(!journal.contains("203.0.113.9") && !journal.contains("192.0.2.66"), "{journal}");
    let (remote, journal) = named(&home, "--trusted-proxy=127.0.0.1", "two").await;
    assert_eq!(remote, ["203.0.113.9"]);
    assert!(journal.contains("203.0.113.9") && !journal.contains("192.0.2.66"), "{journal}");
}
