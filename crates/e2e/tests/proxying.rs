//! Calls that go on to an upstream, with the real binary.

use std::time::Duration;

use tollgate_e2e::{Home, Server};
use tollgate_testkit::{Upstream, wait_until};

const PATH: &str = "/pipeline/default/v1/stock/items/7";

fn stock(url: &str) -> String {
    format!(
        "kind: Pipeline\nname: stock\nproject: store\ndescription: Stock\n\
         trigger: {{ type: rest, methods: [GET], externalApi: true, apiKey: true, routes: [\"/stock/*rest\"] }}\n\
         steps:\n  - proxy: {{ url: \"{url}\", headers: {{ x-consumer: \"{{{{ consumer.name }}}}\" }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_call_the_machine_itself_only_where_the_realm_allows_it() {
    let upstream = Upstream::start().await.expect("a port");
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["apply", "-f", &home.file("stock.yaml", &stock(&upstream.url("/api")))]).expect_code(0);
    server.cli(&["deploy", "stock", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "stock"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    let headers = [("apikey", key.as_str()), ("authorization", "Bearer of-the-caller")];
    wait_until("the key works", Duration::from_secs(20), async || {
        server.call("test", PATH, &headers, None).await.code() == "flow-failed"
    })
    .await;
    assert!(upstream.requests().is_empty(), "nothing reached it");
    wait_until("the log to say why", Duration::from_secs(20), async || {
        server.log().contains("the realm does not allow its network")
    })
    .await;

    server.cli(&["realm", "set", "--allow-upstreams", "localhost"]).expect_code(2);
    let set = server.cli(&["realm", "set", "--allow-upstreams", "127.0.0.1,::1"]).expect_code(0);
    assert!(set.stdout.contains("127.0.0.1/32 and ::1/128"), "{}", set.stdout);
    wait_until("the realm allows it", Duration::from_secs(20), async || {
        server.call("test", PATH, &headers, None).await.status == 200
    })
    .await;
    let sent = upstream.requests().pop().expect("a request");
    assert_eq!(
        (sent.target.as_str(), &sent.headers["x-consumer"]),
        ("/api/items/7", &"shop".parse().unwrap())
    );
    assert!(!sent.headers.contains_key("apikey") && !sent.headers.contains_key("authorization"));
    let forwarded = sent.headers["forwarded"].to_str().expect("text");
    assert!(forwarded.starts_with("for=127.0.0.1;host="), "{forwarded}");

    server.cli(&["realm", "set", "--allow-upstreams", ""]).expect_code(0);
    wait_until("the realm allows it no more", Duration::from_secs(20), async || {
        server.call("test", PATH, &headers, None).await.code() == "flow-failed"
    })
    .await;
    home.keep_secret(&key);
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
