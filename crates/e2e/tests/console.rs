//! The console in a real browser: the journey by clicks alone.

use std::time::Duration;

use serde_json::json;
use thirtyfour::prelude::*;
use tollgate_e2e::{Browser, Home, Server};
use tollgate_testkit::wait_until;

const ORDERS: &str = "kind: Pipeline
name: orders
project: store
description: Orders of the shop
trigger: { type: rest, methods: [GET], externalApi: true }
steps:
  - json: { ok: true }
";

const LOGIN: &str = "kind: Pipeline
name: login
project: store
description: Gives the shop its tokens
trigger: { type: rest, methods: [POST], externalApi: true, apiKey: true }
steps:
  - json: { user: portal }
  - jwtGenerate: { expiresInMs: 900000 }
";

/// Clicks what has this name in the card of an environment.
async fn click_in(browser: &Browser, environment: &str, name: &str) {
    let path = format!(
        "//section[@aria-labelledby='env-{environment}']//*[self::a or self::button][normalize-space(.)='{name}']"
    );
    let found = browser.driver.query(By::XPath(path)).and_displayed().first().await;
    let found = found.unwrap_or_else(|error| panic!("nothing named `{name}` in {environment}: {error}"));
    found.click().await.expect("clicks");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journey_by_clicks() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let browser = Browser::start().await;
    browser.open(server.url("console")).await;
    browser.check("sign-in").await;
    browser.sign_in_first(&server).await;
    browser.check("overview-empty").await;

    browser.click("Policies").await;
    browser.see("Production deploys").await;
    browser.check("policies").await;
    browser.click("Edit external-api-access").await;
    browser.choose("prod", "jwt-with-api-key").await;
    browser.see("prod: tightens").await;
    browser.check("policy-edit").await;
    browser.fill("reason", "tokens from now on").await;
    browser.fill("confirmation", "external-api-access").await;
    browser.click("Save policy").await;
    browser.see("Saved as policy version 1.1").await;

    browser.click("Pipelines").await;
    browser.see("What there is to deploy").await;
    browser.check("pipelines-empty").await;
    browser.click("New pipeline").await;
    browser.fill("document", ORDERS).await;
    browser.see("Missing external JWT").await;
    browser.check("pipeline-new").await;
    browser.turn("Internal API").await;
    browser.see("Missing internal API Key").await;
    browser.turn("Internal API").await;
    browser.click("Save as the next version").await;
    browser.see("would be refused").await;
    browser.check("pipeline").await;
    browser.click("Deploy").await;
    browser.see("Missing external JWT").await;
    browser.check("deploy-refused").await;
    // `test` comes second and asks for less.
    click_in(&browser, "test", "Turn on and save as 1.1").await;
    browser.see("Reminder").await;
    browser.check("deploy").await;
    browser.click("Deploy in test").await;
    browser.see("orders 1.1 runs in test").await;
    browser.check("deployments").await;
    browser.click("Pipelines").await;
    browser.see("What there is to deploy").await;
    browser.check("pipelines").await;

    browser.click("Consumers").await;
    browser.see("Nobody may call").await;
    browser.click("test").await;
    browser.check("consumers-empty").await;
    browser.click("New consumer").await;
    // The environment that one comes from is ticked.
    browser.fill("name", "shop").await;
    browser.choose("pipeline", "orders").await;
    browser.check("consumer-new").await;
    browser.click("Make consumer").await;
    browser.see("Keep it now").await;
    browser.check("consumer-made").await;
    let key = browser.text().await;
    let key = key.split_whitespace().find(|word| word.starts_with("tg_test_")).expect("a key").to_owned();
    browser.see(&format!("{}/pipeline/default/v1/orders", server.url("test"))).await;
    browser.click("Copy").await;
    home.keep_secret(&key);
    let call = async |key: &str| {
        server.call("test", "/pipeline/default/v1/orders", &[("apikey", key)], None).await.status
    };
    assert_eq!((call(&key).await, call("tg_test_wrong").await), (200, 401));
    browser.click("I have kept it").await;
    browser.see("Named callers").await;
    browser.click("test").await;
    browser.click("shop").await;
    browser.see("works").await;
    browser.check("consumer").await;

    // A login flow, which the consumer may call, too.
    browser.click("Pipelines").await;
    browser.click("New pipeline").await;
    browser.fill("document", LOGIN).await;
    browser.see("It is a login flow").await;
    browser.click("Save as the next version").await;
    browser.see("login flow").await;
    browser.click("Deploy").await;
    browser.see("What the policies say comes first").await;
    click_in(&browser, "test", "Deploy in test").await;
    browser.see("login 1.0 runs in test").await;
    browser.click("Consumers").await;
    browser.see("Named callers").await;
    browser.click("test").await;
    browser.click("shop").await;
    browser.choose("pipeline", "login").await;
    browser.click("Save").await;
    let ask = async || {
        let body = json!({ "user": "portal" });
        server.call("test", "/pipeline/default/v1/login", &[("apikey", &key)], Some(&body)).await
    };
    // The browser has sent the form, and the page need not look different when it was taken.
    wait_until("the association to count", Duration::from_secs(20), async || ask().await.status == 200).await;
    let log_in = async || {
        let login = ask().await;
        assert_eq!(login.status, 200, "{}", login.text);
        let token = login.headers.get("authorization").and_then(|it| it.strip_prefix("Bearer "));
        token.expect("a token").to_owned()
    };
    let token = log_in().await;
    home.keep_secret(&token);

    browser.click("Policies").await;
    browser.click("Edit external-api-access").await;
    browser.choose("test", "jwt-with-api-key").await;
    browser.see("falls out").await;
    browser.check("policy-impact").await;
    browser.fill("confirmation", "external-api-access").await;
    browser.click("Save policy").await;
    browser.see("1 not conformant").await;
    browser.check("policies-not-conformant").await;
    let card = "a.card[href$='/policies/conformance/test']";
    browser.driver.query(By::Css(card)).first().await.expect("a card").click().await.expect("clicks");
    browser.see("set /trigger/jwt to true").await;
    browser.check("conformance").await;
    browser.click("Login flows 1").await;
    browser.see("computed from its steps").await;
    browser.check("login-flows").await;
    browser.click("Overview").await;
    browser.see("Needs somebody now").await;
    browser.check("overview").await;

    browser.click("Pipelines").await;
    browser.click("orders").await;
    browser.see("Verdicts").await;
    browser.click("Deploy").await;
    browser.see("What the policies say comes first").await;
    click_in(&browser, "test", "Turn on and save as 1.2").await;
    browser.see("orders 1.2").await;
    click_in(&browser, "test", "Deploy in test").await;
    browser.see("orders 1.2 runs in test").await;
    assert_eq!(call(&key).await, 401, "a key alone is not enough any more");
    let bearer = format!("Bearer {token}");
    let with_token = [("apikey", key.as_str()), ("authorization", bearer.as_str())];
    let called = server.call("test", "/pipeline/default/v1/orders", &with_token, None).await;
    assert_eq!(called.status, 200, "{}", called.text);
    let path = "//article[.//a[normalize-space(.)='orders 1.2']]//a[normalize-space(.)='Roll back']";
    browser.driver.query(By::XPath(path)).first().await.expect("a link").click().await.expect("clicks");
    browser.see("would be refused").await;
    browser.check("rollback").await;

    for (page, name) in [
        ("policy-versions", "policy-versions"),
        ("policy-versions/1.0", "policy-version"),
        ("waivers", "waivers-empty"),
        ("globals", "globals-empty"),
        ("accounts", "accounts-empty"),
        ("signing-keys", "signing-keys"),
        ("pipelines/orders/edit", "pipeline-edit"),
    ] {
        browser.open(&format!("{}/realms/default/{page}", server.url("console"))).await;
        browser.check(name).await;
    }
    browser.click("Sign out").await;
    browser.see("The first password was printed").await;
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
