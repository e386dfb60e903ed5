//! Running pipelines and watching them, in a real browser.

use std::time::Duration;

use thirtyfour::prelude::*;
use tollgate_e2e::{Browser, Home, Server};
use tollgate_testkit::wait_until;

const ORDERS: &str = "kind: Pipeline
name: orders
project: store
description: Orders of the shop
trigger: { type: rest, methods: [GET], externalApi: true, apiKey: true, routes: [\"/orders/:id\"] }
steps:
  - json: { id: \"{{ message.queryAndPath.id }}\", rate: \"{{ globals.rate }}\" }
";

const STOCK: &str = "kind: Pipeline
name: stock
project: store
trigger: { type: rest, methods: [GET], externalApi: true, apiKey: true }
steps:
  - throw: { error: the warehouse is closed, code: closed, status: 500 }
";

#[tokio::test(flavor = "multi_thread")]
async fn running_and_watching_by_clicks() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    for (name, text) in [("orders.yaml", ORDERS), ("stock.yaml", STOCK)] {
        server.cli(&["apply", "-f", &home.file(name, text)]).expect_code(0);
    }
    server.cli(&["global", "set", "rate", "5", "--env", "test"]).expect_code(0);
    server.cli(&["deploy", "stock", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "stock"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    home.keep_secret(&key);
    server
        .cli(&["key", "create", "shop", "--env", "test", "--name", "summer", "--expires-in", "3d"])
        .expect_code(0);

    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;
    let open =
        async |page: &str| browser.open(&format!("{}/realms/default/{page}", server.url("console"))).await;
    for (page, name) in [
        ("traffic?environment=prod", "traffic-empty"),
        ("calls?environment=prod&paused=yes", "calls-empty"),
        ("deployments?environment=prod", "deployments-empty"),
    ] {
        open(page).await;
        browser.check(name).await;
    }

    // Nobody may call it: that is offered before it is deployed.
    open("pipelines/orders/deploy?environment=test").await;
    browser.see("no consumer of test is associated").await;
    browser.click("Choose who may call it in test").await;
    browser.choose("consumer", "shop").await;
    browser.check("associate").await;
    browser.click("Let them call it").await;
    browser.see("Deploy orders 1.0").await;
    browser.click("Deploy in test").await;
    browser.see("orders 1.0 runs in test").await;

    let call = async |path: &str, headers: &[(&str, &str)]| {
        server.call("test", &format!("/pipeline/default/v1/{path}"), headers, None).await
    };
    wait_until("the deployment answers", Duration::from_secs(10), async || {
        call("orders/17", &[("apikey", &key)]).await.status == 200
    })
    .await;
    for n in 0..40 {
        call(&format!("orders/{n}"), &[("apikey", &key)]).await.expect(200, "");
    }
    for n in 0..9 {
        call("orders", if n % 2 == 0 { &[] } else { &[("apikey", "tg_test_no-key-at-all")] }).await;
    }
    for _ in 0..3 {
        call("stock", &[("apikey", &key)]).await;
    }
    let refused = call("orders?apikey=secret-in-a-query", &[]).await;
    let request = refused.headers.get("x-request-id").expect("an id").to_owned();

    // The log renews itself; a link leads to the reason.
    open("calls?environment=test").await;
    browser.see(&request).await;
    let seen = call("nowhere", &[]).await.headers.get("x-request-id").expect("an id").to_owned();
    let log = browser.see(&seen).await;
    assert!(!log.contains("secret-in-a-query") && !log.contains(&key), "{log}");
    browser.click("Pause").await;
    browser.see("Go on").await;
    browser.check("calls").await;
    browser.click(&request).await;
    browser.see("was answered 401 api-key-missing").await;
    browser.check("explain-refusal").await;
    browser.fill("url", "/pipeline/default/v1/orders").await;
    browser.fill("headers", &format!("apikey: {key}")).await;
    browser.click("What would be answered in test?").await;
    let told = browser.see("It would pass every check").await;
    assert!(!told.contains(&key), "{told}");
    browser.check("explain-call").await;

    wait_until("the calls are counted", Duration::from_secs(30), async || {
        server.json(&["traffic", "--env", "test"])["total"]["calls"].as_u64() >= Some(54)
    })
    .await;
    let log = server.json(&["calls", "--env", "test", "--ended", "failed"]);
    assert_eq!(log["items"][0]["pipeline"], "stock", "{log}");
    browser.click("Traffic").await;
    browser.see("What became of calls in test").await;
    browser.see("api-key-invalid").await;
    browser.check("traffic").await;
    browser.click("24 hours").await;
    browser.see("Calls by 15 minutes").await;
    browser.click("The same numbers as a table").await;
    browser.check("traffic-day").await;
    browser.click("Overview").await;
    browser.see("stops working").await;
    browser.check("overview-busy").await;

    browser.click("Deployments").await;
    browser.see("calls in the last day").await;
    browser.check("deployments-busy").await;
    open("pipelines/orders/promote?from=test&to=prod&major=1").await;
    browser.see("global rate").await;
    browser.check("promote").await;
    browser.click("Promote to prod").await;
    browser.see("orders 1.0 runs in prod").await;
    browser.click("History").await;
    browser.see("promoted").await;
    browser.check("history").await;
    open("deployments?environment=test&search=orders").await;
    browser.click("Undeploy").await;
    browser.see("1 caller would be answered 404").await;
    browser.check("undeploy").await;
    browser.click("Undeploy orders").await;
    browser.see("What runs in test").await;

    // What somebody else undeployed meanwhile is told on the list, and loading that again undeploys nothing.
    open("deployments/undeploy?environment=test&pipeline=stock&major=1").await;
    browser.see("Undeploy stock 1.0").await;
    server.cli(&["undeploy", "stock", "--env", "test"]).expect_code(0);
    browser.click("Undeploy stock").await;
    browser.see("Nothing runs in test yet").await;
    let alert =
        browser.driver.query(By::Css("main [role='alert']:focus")).first().await.expect("an alert in focus");
    assert!(alert.text().await.expect("text").contains("stock"), "it says what");
    browser.check("deployments-refused").await;
    let here = browser.driver.current_url().await.expect("a page");
    assert!(here.as_str().ends_with("/deployments?environment=test"), "{here}");
    let found = |search: &str| {
        let list = server.json(&["deployments", "--env", "prod", "--search", search]);
        list["items"].as_array().map(Vec::len)
    };
    assert_eq!((found("rder"), found("stock")), (Some(1), Some(0)));
    let document =
        server.json(&["openapi", "orders", "--env", "prod", "--gateway", "https://api.example.com"]);
    assert_eq!(document["servers"][0]["url"], "https://api.example.com");
    assert_eq!(document["paths"]["/pipeline/default/v1/orders/{id}"]["parameters"][0]["name"], "id");
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
