//! The console in a real browser: client certificates, issuers outside, values, settings, and waivers that are extended.

use std::process::Command;
use std::time::Duration;

use tollgate_e2e::{Browser, Home, Server};
use tollgate_testkit::{Authority, FakeIssuer, IssuerMood, wait_until};

const PATIENCE: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_pasted_is_used_in_a_real_call_until_it_is_revoked() {
    let home = Home::new();
    let ca = Authority::new("partners");
    let own = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).expect("a certificate");
    let server_cert = home.file("server.pem", &own.cert.pem());
    let server_key = home.file("server.key", &own.signing_key.serialize_pem());
    let bundle = home.file("ca.pem", &ca.pem());
    let mut server = Server::start(
        &home,
        &[
            "--listen=test.mtls=127.0.0.1:0",
            &format!("--tls=test.mtls={server_cert},{server_key}"),
            &format!("--client-ca=test.mtls={bundle}"),
        ],
    );
    server.read_until("  API token");
    let file = home.file(
        "orders.yaml",
        "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, mtls: true }\n\
         steps: [{ json: { consumer: \"{{ consumer.name }}\" } }]\n",
    );
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    server.cli(&["consumer", "create", "shop", "--env", "test", "--pipeline", "orders"]).expect_code(0);
    let leaf = ca.issue(&["dns:shop.example"]);
    home.keep_secret(leaf.key.lines().nth(1).expect("a line of the key"));
    let (cert, key) = (home.file("shop.pem", &leaf.chain), home.file("shop.key", &leaf.key));
    let port = server.url("test.mtls").rsplit_once(':').expect("a port").1.to_owned();
    let call = || {
        let output = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "20",
                "--cacert",
                &server_cert,
                "-o",
                "/dev/null",
                "-w",
                "%{response_code}",
            ])
            .args(["--resolve", &format!("gateway.example:{port}:127.0.0.1"), "--cert", &cert, "--key", &key])
            .arg(format!("https://gateway.example:{port}/pipeline/default/v1/orders"))
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(call(), "401", "bound to nobody");

    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;
    browser.open(&format!("{}/realms/default/consumers/test/shop", server.url("console"))).await;
    browser.see("None is bound").await;
    browser.click("Bind a certificate").await;
    browser.fill("certificate", &format!("{}{}", leaf.chain, leaf.key)).await;
    browser.click("Bind this certificate").await;
    browser.see("This holds a private key").await;
    browser.check("certificate-refused").await;
    browser.fill("certificate", &leaf.chain).await;
    browser.fill("certificate-name", "web").await;
    browser.click("Bind this certificate").await;
    browser.see("SHA-256 fingerprint").await;
    wait_until("the binding counts", PATIENCE, async || call() == "200").await;
    browser.click("Bind a name").await;
    browser.fill("san", "uri:spiffe://partners.example/shop").await;
    browser.fill("san-authority", &ca.pem()).await;
    browser.fill("san-name", "fleet").await;
    browser.fill("san-days", "90").await;
    browser.click("Bind this name").await;
    browser.see("in 90 days").await;
    browser.see("2 client certificates").await;
    browser.check("consumer-certificates").await;
    browser.click("Revoke web").await;
    browser.see("on open connections, too").await;
    browser.check("certificate-revoke").await;
    browser.click_on("details[open] form[action*='/certificates/'] button.danger").await;
    wait_until("the binding is dead", PATIENCE, async || call() == "401").await;
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_set_watched_and_deleted_by_clicks() {
    let issuer = FakeIssuer::start().await.expect("an issuer");
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;
    browser.click("Issuers").await;
    browser.see("No issuers in").await;
    browser.check("issuers-empty").await;
    browser.open(&format!("{}/realms/default/new-issuer?environment=test", server.url("console"))).await;
    browser.see("A system outside whose tokens test takes").await;
    browser.check("issuer-new").await;
    browser.fill("name", "corp").await;
    browser.fill("issuer", &issuer.url()).await;
    browser.fill("audience", "orders").await;
    browser.fill("values", "client-7 = shop").await;
    browser.click("Set issuer").await;
    browser.see("plain http").await;
    browser.check("issuer-refused").await;
    browser.click("Scopes, clocks and keys").await;
    browser.choose("internal_addresses", "on").await;
    browser.fill("refresh", "10").await;
    browser.click("Set issuer").await;
    browser.see("The issuer was set").await;
    let page = format!("{}/realms/default/issuers/test/corp", server.url("console"));
    let comes = async |words: &str| {
        wait_until(words, PATIENCE, async || {
            browser.open(&page).await;
            browser.text().await.contains(words)
        })
        .await;
    };
    comes("Tokens are verified by these keys").await;
    browser.check("issuer").await;
    issuer.mood(IssuerMood::Broken);
    browser.click("Fetch now").await;
    browser.see("Every gateway fetches its keys now").await;
    comes("The last attempt failed").await;
    browser.check("issuer-stale").await;

    // Somebody else is faster.
    let rest = home.file(
        "corp.yaml",
        &format!(
            "kind: Issuer\nname: corp\nenvironments:\n  test: {{ issuer: \"{}\", audience: billing, algorithms: [ES256], \
             consumer: {{ claim: azp }}, internalAddresses: true }}\n",
            issuer.url()
        ),
    );
    server.cli(&["apply", "-f", &rest]).expect_code(0);
    browser.fill("audience", "invoices").await;
    browser.click("Save issuer").await;
    browser.see("Changed meanwhile").await;
    browser.check("issuer-overtaken").await;
    browser.click("Save issuer").await;
    browser.see("It counts from the next call on").await;
    browser.click("Issuers").await;
    browser.see("invoices").await;
    browser.check("issuers").await;

    // What runs keeps it.
    let file = home.file(
        "orders.yaml",
        "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true, \
         jwt: { issuers: [corp] } }\nsteps: [{ json: { region: \"{{ globals.region }}\" } }]\n",
    );
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["global", "set", "region", "eu", "--env", "test"]).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    browser.open(&page).await;
    browser.see("It can be deleted once nothing that runs lists it").await;
    browser.check("issuer-listed").await;
    let listed = server.cli(&["issuer", "dependents", "corp", "--env", "test"]).expect_code(0);
    assert!(listed.stdout.contains("orders"), "{}", listed.stdout);

    // Values are changed as they were read, and their readers are told before they go.
    browser.open(&format!("{}/realms/default/globals?environment=test", server.url("console"))).await;
    browser.click("Change region").await;
    browser.see("Change region in test").await;
    server.cli(&["global", "set", "region", "us", "--env", "test"]).expect_code(0);
    browser.fill("value", "asia").await;
    browser.click("Save").await;
    browser.see("Changed meanwhile").await;
    browser.check("globals-overtaken").await;
    browser.click("Save").await;
    browser.see("Flows read it from their next call on").await;
    browser.check("globals").await;
    browser.click("Delete region").await;
    browser.see("1 deployment reads it").await;
    browser.check("global-delete").await;
    let read = server.cli(&["global", "dependents", "region", "--env", "test"]).expect_code(0);
    assert!(read.stdout.contains("orders"), "{}", read.stdout);
    browser.click("Cancel").await;
    browser.click("Accounts").await;
    browser.fill("name", "crm").await;
    browser.fill("field-0", "token").await;
    browser.click("Set").await;
    browser.see("Write the secret").await;
    browser.check("account-refused").await;
    browser.fill("secret-0", "hush-hush-hush").await;
    home.keep_secret("hush-hush-hush");
    browser.click("Further fields").await;
    browser.fill("field-1", "password").await;
    browser.fill("secret-1", "hush-hush-hush").await;
    browser.click("Set").await;
    browser.see("password, token").await;
    browser.click("Change crm").await;
    browser.see("write every secret anew").await;
    browser.check("account-change").await;

    // The realm's settings.
    browser.click("Realm settings").await;
    browser.fill("allow_upstreams", "127.0.0.0/40").await;
    browser.fill("origins", "https://shop.example").await;
    browser.choose("method", "GET").await;
    browser.fill("allow_headers", "apikey, authorization").await;
    browser.click("Save settings").await;
    browser.see("is not a network").await;
    browser.check("realm-settings-refused").await;
    browser.fill("allow_upstreams", "127.0.0.1").await;
    browser.click("Save settings").await;
    browser.see("Saved.").await;
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiver_is_extended_and_a_version_restored_over_what_somebody_saved() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let file = home.file(
        "orders.yaml",
        "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true }\nsteps: [{ json: 1 }]\n",
    );
    server.cli(&["apply", "-f", &file]).expect_code(0);
    let waive =
        ["waiver", "create", "--pipeline", "orders", "--env", "test", "--policy", "external-api-access"];
    let made = server.json(&[&waive[..], &["--for", "7d", "--reason", "a partner needs it"]].concat());
    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;
    browser.click("Waivers").await;
    browser.see("a partner needs it").await;
    browser.check("waivers").await;
    browser.click("Extend the waiver of orders").await;
    browser.see("ends in 6 days").await;
    browser.fill("days", "90").await;
    browser.click("Extend waiver").await;
    browser.see("lasts 30 days at most").await;
    browser.check("waiver-extend").await;
    browser.fill("days", "20").await;
    browser.click("Extend waiver").await;
    browser.see("The waiver has another end").await;
    let id = made.pointer("/id").and_then(serde_json::Value::as_str).expect("an id").to_owned();
    server.cli(&["waiver", "extend", &id, "--for", "5d"]).expect_code(4);
    let now = server.json(&["waiver", "list"]);
    let id = now.pointer("/items/0/id").and_then(serde_json::Value::as_str).expect("an id").to_owned();
    server.cli(&["waiver", "extend", &id, "--for", "5d"]).expect_code(0);

    let set = |value: &str| {
        let value = format!("test={value}");
        server.cli(&["policy", "set", "external-api-access", "--env", &value, "--yes"]).expect_code(0);
    };
    set("any");
    browser.open(&format!("{}/realms/default/policy-versions/1.0", server.url("console"))).await;
    browser.see("What differs today").await;
    set("jwt-with-api-key");
    browser.fill("confirmation", "1.0").await;
    browser.click("Restore 1.0").await;
    browser.see("Changed meanwhile").await;
    browser.check("policy-restore-overtaken").await;
    browser.fill("confirmation", "1.0").await;
    browser.click("Restore 1.0").await;
    browser.see("Saved as policy version 1.3").await;
    assert_eq!(server.stop(), Some(0));
}
