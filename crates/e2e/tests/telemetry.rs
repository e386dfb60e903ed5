//! Traces and logs for a collector, and the part of the log that is written.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use serde_json::Value;
use tollgate_e2e::{Home, Server};
use tollgate_testkit::{Collector, SentSpan, Upstream, wait_until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn pipeline(name: &str, steps: &str) -> String {
    format!(
        "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {{ type: rest, externalApi: true, apiKey: true }}\n\
         steps: [{steps}]\n"
    )
}

/// Deploys pipelines in test and returns a key that may call them.
fn deploy(home: &Home, server: &Server<'_>, pipelines: &[(&str, &str)]) -> String {
    let mut create = vec!["consumer", "create", "shop", "--env", "test"];
    for (name, steps) in pipelines {
        let file = home.file(&format!("{name}.yaml"), &pipeline(name, steps));
        server.cli(&["apply", "-f", &file]).expect_code(0);
        server.cli(&["deploy", name, "--env", "test"]).expect_code(0);
        create.extend(["--pipeline", name]);
    }
    let made = server.json(&create);
    made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_spans_and_log_lines_and_no_secret() {
    let home = Home::new();
    let (collector, upstream) =
        (Collector::start().await.expect("a port"), Upstream::start().await.expect("a port"));
    let endpoint = collector.endpoint();
    let server = Server::start_with_environment(
        &home,
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "50"),
        ],
    );
    server.cli(&["realm", "set", "--allow-upstreams", "127.0.0.1"]).expect_code(0);
    let asks = format!("{{ http: {{ method: GET, url: {} }} }}", upstream.url("/stock"));
    let key = deploy(&home, &server, &[("asks", &asks)]);
    let path = "/pipeline/default/v1/asks";
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let headers = [("apikey", key.as_str()), ("traceparent", &parent), ("x-private", "private-header")];
    let good = server.call("test", &format!("{path}?q=private-query"), &headers, None).await.expect(200, "");
    server
        .call("test", path, &[("apikey", "tg_test_private-guess")], None)
        .await
        .expect(401, "api-key-invalid");

    let spans = async || -> Vec<SentSpan> { collector.spans() };
    wait_until("the spans", Duration::from_secs(20), async || spans().await.len() >= 3).await;
    let all = spans().await;
    let find = |of: &dyn Fn(&SentSpan) -> bool| {
        all.iter().find(|span| of(span)).unwrap_or_else(|| panic!("{all:#?}"))
    };
    let call = find(&|span| span.attribute("tollgate.request_id") == good.headers["x-request-id"]);
    assert_eq!((call.name.as_str(), call.trace_id.as_str()), ("GET /pipeline/default/v1/asks", TRACE));
    assert_eq!(
        (call.parent.as_str(), call.attribute("http.response.status_code")),
        ("b7ad6b7169203331", "200")
    );
    assert_eq!((call.attribute("tollgate.consumer"), call.attribute("tollgate.pipeline")), ("shop", "asks"));
    let below = find(&|span| span.parent == call.span_id);
    assert_eq!((below.trace_id.as_str(), below.attribute("server.address")), (TRACE, "127.0.0.1"));
    assert!(call.nanos >= below.nanos && below.nanos > 0);
    let told = upstream.requests()[0].headers["traceparent"].to_str().expect("text").to_owned();
    assert_eq!(told, format!("00-{TRACE}-{}-01", below.span_id), "the upstream stands below its own span");
    let refused = find(&|span| span.attribute("error.type") == "api-key-invalid");
    assert!(refused.parent.is_empty() && refused.trace_id != TRACE);

    wait_until("the log", Duration::from_secs(20), async || {
        collector.lines().iter().any(|line| line.attribute("request_id") == good.headers["x-request-id"])
    })
    .await;
    let key_rest = key.rsplit('_').next().expect("a key").to_owned();
    home.keep_secret(&key);
    assert_eq!(server.stop(), Some(0));
    let sent = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for secret in [key_rest.as_str(), "private-header", "private-query", "private-guess"] {
        assert!(!sent.contains(secret), "{secret} was sent");
    }
    assert!(
        collector.lines().iter().any(|line| line.text.contains("stopping")),
        "the last lines are sent, too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_up_no_call_and_no_stop() {
    let home = Home::new();
    let endpoint = format!("http://127.0.0.1:{}", tollgate_testkit::free_port());
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_MAX_QUEUE_SIZE", "4")];
    let server = Server::start_with_environment(&home, &[], &environment);
    let key = deploy(&home, &server, &[("open", "{ json: { ok: true } }")]);
    for _ in 0..100 {
        server.call("test", "/pipeline/default/v1/open", &[("apikey", &key)], None).await.expect(200, "");
    }
    assert_eq!(server.stop(), Some(0));
    let bad = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_TRACES_SAMPLER", "sometimes")];
    let broken = Home::new();
    let mut command = broken.command(&["up"]);
    let output = command.envs(bad).output().expect("runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("OTEL_TRACES_SAMPLER"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_calls_that_went_well_the_log_has_a_part_and_of_all_others_every_one() {
    let home = Home::new();
    let server = Server::start(&home, &["--access-log-sample", "0.1"]);
    let key = deploy(&home, &server, &[("open", "{ json: { ok: true } }")]);
    let path = "/pipeline/default/v1/open";
    // A caller cannot choose to leave no line by naming a trace.
    let unlucky = format!("00-{}-b7ad6b7169203331-00", "f".repeat(32));
    let headers = [("apikey", key.as_str()), ("traceparent", &unlucky)];
    for _ in 0..300 {
        server.call("test", path, &headers, None).await.expect(200, "");
    }
    for _ in 0..20 {
        server.call("test", path, &[("apikey", "junk")], None).await.expect(401, "api-key-invalid");
    }
    let lines = |server: &Server<'_>, status: u64| {
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["pipeline"] == "open" && line["status"] == status).count()
    };
    wait_until("the log", Duration::from_secs(10), async || lines(&server, 401) == 20).await;
    let well = lines(&server, 200);
    assert!((1..150).contains(&well), "{well} of 300");
}
