//! Metrics as Prometheus reads them: the real one, from Debian.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tollgate_e2e::{Home, Server};
use tollgate_testkit::{FakeIssuer, free_port, wait_until};

const LISTEN: [&str; 6] = ["console", "test", "prod", "test.internal", "prod.internal", "metrics"];
const DOCS: &str = include_str!("../../../docs/metrics.md");
const MISSING: &str =
    "the tests need Prometheus: run `cargo xtask test`, or install Debian's package `prometheus`";

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listen() -> Vec<String> {
    LISTEN.iter().flat_map(|name| ["--listen".to_owned(), format!("{name}=127.0.0.1:0")]).collect()
}

fn start<'a>(home: &'a Home, listen: &'a [String]) -> Server<'a> {
    Server::start(home, &listen.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Lets Prometheus's own linter read metrics.
fn lint(text: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}: {MISSING}"));
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("reads");
    child.wait_with_output().expect("ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_and_answers_how_many_calls_there_were() {
    let (home, listen) = (Home::new(), listen());
    let server = start(&home, &listen);
    let pipeline = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: 1 }]\n";
    let file = home.file("orders.yaml", pipeline);
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    for _ in 0..3 {
        server.call("test", "/pipeline/default/v1/orders", &[], None).await.expect(401, "api-key-missing");
    }

    let issuer = FakeIssuer::start().await.expect("an issuer");
    let create = format!(
        "issuer create corp --env test --issuer {} --audience a --algorithm ES256 --consumer-claim azp --internal-addresses",
        issuer.url()
    );
    server.cli(&create.split_whitespace().collect::<Vec<_>>()).expect_code(0);
    server.cli(&["consumer", "create", "shop", "--env", "test", "--pipeline", "orders"]).expect_code(0);
    server.cli(&["key", "create", "shop", "--env", "test", "--expires-in", "3d"]).expect_code(0);

    // With a sample in every family.
    let mut text = String::new();
    wait_until("samples", Duration::from_secs(20), async || {
        text = server.call("metrics", "/metrics", &[], None).await.expect(200, "").text;
        text.contains("tollgate_issuer_keys_age_seconds{")
    })
    .await;
    let families: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(families.len() > 20, "{families:?}");
    for family in families {
        assert!(text.lines().any(|line| line.starts_with(family)), "{family} has no sample");
        let named = family.starts_with("process_") || DOCS.contains(&format!("`{family}`"));
        assert!(named, "docs/metrics.md does not tell of {family}");
    }
    let linted = lint(&text);
    assert!(
        linted.status.success() && linted.stdout.is_empty() && linted.stderr.is_empty(),
        "{linted:?}\n{text}"
    );
    assert!(
        !lint("# HELP a\n# TYPE a_total gauge\na_total 1\n").stderr.is_empty(),
        "the linter finds nothing"
    );

    let target = server.url("metrics").trim_start_matches("http://");
    let configuration = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: tollgate, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
    );
    let configuration = home.file("prometheus.yml", &configuration);
    let port = free_port();
    let log = std::fs::File::create(home.path().join("prometheus.log")).expect("a log");
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={configuration}"))
        .arg(format!("--storage.tsdb.path={}", home.path().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let _prometheus = Ended(prometheus.unwrap_or_else(|error| panic!("{error}: {MISSING}")));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |query: &str| -> Option<Value> {
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        // The form of the API: `query=…`, percent-encoded.
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = client.post(url).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(format!("query={query}")).send().await.ok()?.text().await.ok()?;
        serde_json::from_str(&answer).ok()
    };
    let value =
        |answer: &Value| answer.pointer("/data/result/0/value/1").and_then(Value::as_str).map(str::to_owned);
    let calls =
        "sum(tollgate_calls_total{environment=\"test\",pipeline=\"orders\",code=\"api-key-missing\"})";
    wait_until("Prometheus to have scraped", Duration::from_secs(60), async || {
        ask(calls).await.and_then(|answer| value(&answer)).as_deref() == Some("3")
    })
    .await;
    let quantile =
        "histogram_quantile(0.5, sum by (le) (tollgate_call_duration_seconds_bucket{pipeline=\"orders\"}))";
    for (query, expected) in [
        ("tollgate_store_up", Some("1")),
        ("tollgate_follower_lag_entries", Some("0")),
        ("count(tollgate_build_info)", Some("1")),
        ("tollgate_snapshot_revision - tollgate_journal_entries_total", Some("0")),
        ("tollgate_call_duration_seconds_count{pipeline=\"orders\"}", Some("3")),
        (quantile, None),
    ] {
        let answer = ask(query).await.unwrap_or_else(|| panic!("no answer to {query}"));
        let value = value(&answer).unwrap_or_else(|| panic!("no value in {answer}"));
        assert!(value != "NaN" && expected.is_none_or(|expected| value == expected), "{query}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_read_on_their_own_listener_only_and_under_no_strange_name() {
    let (home, listen) = (Home::new(), listen());
    let server = start(&home, &listen);
    server.call("metrics", "/metrics", &[("host", "localhost")], None).await.expect(200, "");
    server.call("metrics", "/metrics", &[("host", "rebound.example")], None).await.expect(421, "");
    for other in ["console", "test", "test.internal"] {
        let reply = server.call(other, "/metrics", &[], None).await;
        assert_eq!((reply.status, reply.text.contains("tollgate_")), (404, false), "{other}: {reply:?}");
    }
    server.call("metrics", "/api/v1/version", &[], None).await.expect(404, "");
    let ready = server.call("test", "/readyz", &[], None).await.expect(200, "").json();
    assert!(
        ready["revision"].as_u64().is_some_and(|it| it > 0) && ready["ageSeconds"].is_number(),
        "{ready}"
    );
    drop(server);
    // Without a word there are none.
    let plain = Home::new();
    assert!(!Server::start(&plain, &[]).banner.contains("metrics"));
}
