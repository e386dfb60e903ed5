//! Governance, credentials and the search in a real browser.

use thirtyfour::prelude::*;
use tollgate_e2e::{Browser, Home, Server};

const PIPELINES: &str = "kind: Pipeline
name: orders
project: store
trigger: { type: rest, methods: [GET], externalApi: true, apiKey: true }
steps: [{ json: { ok: true } }]
---
kind: Pipeline
name: invoices
project: billing
trigger: { type: rest, methods: [GET], internalApi: true, apiKey: true, basicAuth: true }
steps: [{ json: { ok: true } }]
";

#[tokio::test(flavor = "multi_thread")]
async fn rules_credentials_and_the_search() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let path = home.file("pipelines.yaml", PIPELINES);
    server.cli(&["apply", "-f", &path]).expect_code(0);
    for name in ["orders", "invoices"] {
        server.cli(&["deploy", name, "--env", "test"]).expect_code(0);
    }
    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;

    browser.click("Policies").await;
    browser.click("New rule").await;
    browser.see("Write a condition").await;
    browser.check("rule-new").await;
    browser.fill("name", "needs-rate-limit").await;
    browser.fill("condition", "trigger.rateLimits").await;
    browser.see("does not fit").await;
    browser.check("rule-at-fault").await;
    browser.fill("condition", "!trigger.externalApi || has(trigger.rateLimit)").await;
    browser.see("1 of 2 break it").await;
    browser.fill("message", "Public APIs need a rate limit").await;
    browser.see("orders 1.0: Public APIs need a rate limit").await;
    browser.check("rule-tried").await;
    browser.choose("mode.test", "required").await;
    browser.fill("confirmation", "needs-rate-limit").await;
    browser.click("Save rule").await;
    browser.see("Saved as policy version 1.1").await;
    browser.see("1 not conformant").await;
    browser.check("policies-with-rule").await;

    browser.click("Edit enforcement").await;
    browser.see("From a date on").await;
    browser.check("policy-enforcement").await;
    browser.click("Policies").await;
    browser.click("Edit sensitive-fields").await;
    browser.fill("fields-test", "password, email").await;
    browser.click("Try as a shadow").await;
    browser.see("Make it hold").await;
    browser.check("shadow").await;

    browser.click("Consumers").await;
    browser.see("Nobody may call").await;
    browser.click("test").await;
    browser.click("New consumer").await;
    browser.fill("name", "shop").await;
    browser.fill("pick_q", "inv").await;
    let offers = async |what: &str| {
        browser.driver.query(By::Css(what)).first().await.expect("the picker");
    };
    offers("#picker:not(:has(input[value='orders']))").await;
    browser.choose("pipeline", "invoices").await;
    browser.fill("pick_q", "ord").await;
    offers("#picker:has(input[value='orders'])").await;
    browser.choose("pipeline", "orders").await;
    browser.check("consumer-picked").await;
    browser.click("Make consumer").await;
    browser.see("Keep it now").await;
    let key = browser
        .driver
        .query(By::Css("code.api-key"))
        .first()
        .await
        .expect("a key")
        .text()
        .await
        .expect("text");
    home.keep_secret(&key);
    browser.click("I have kept it").await;
    browser.see("Named callers").await;
    browser.click("test").await;
    browser.click("shop").await;
    browser.see("It has no password").await;
    browser.click("Make password").await;
    browser.see("Keep it now").await;
    let password =
        browser.driver.query(By::Css("code.password")).first().await.expect("it").text().await.expect("text");
    home.keep_secret(&password);
    browser.click("I have kept it").await;
    browser.see("Revoke").await;
    browser.check("consumer-credentials").await;

    // From anywhere by the keyboard alone: `/`, a part of the name, down, Enter.
    browser.click("Overview").await;
    browser.see("how it stands to policy version").await;
    let body = browser.driver.query(By::Tag("body")).first().await.expect("a page");
    body.send_keys("/").await.expect("types");
    let search = browser.driver.query(By::Id("search")).first().await.expect("a box");
    search.send_keys("sho").await.expect("types");
    browser.driver.query(By::Css("#suggestions a")).first().await.expect("a suggestion");
    browser.check("search-suggestions").await;
    search.send_keys(Key::Down + "").await.expect("types");
    browser.driver.active_element().await.expect("focus").send_keys(Key::Enter + "").await.expect("types");
    browser.see("It may call").await;
    browser.open(&format!("{}/realms/default/search?q=o", server.url("console"))).await;
    browser.see("orders").await;
    browser.check("search").await;
    for (page, name) in [
        ("rules/needs-rate-limit/remove", "rule-remove"),
        ("policy-values/login-flows", "policy-login-flows"),
        ("consumers?environment=test", "consumers"),
        ("signing-keys?environment=test", "signing-keys-forms"),
    ] {
        browser.open(&format!("{}/realms/default/{page}", server.url("console"))).await;
        browser.check(name).await;
    }
    let answer = server.call("test", "/pipeline/default/v1/orders", &[("apikey", &key)], None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
