//! The console without a mouse: the journey by Tab, Enter and Space; and from one realm to another.

use thirtyfour::prelude::ElementQueryable as _;
use thirtyfour::{By, Key};
use tollgate_e2e::{Browser, Home, Person, Server};

const ORDERS: &str = "kind: Pipeline
name: orders
project: store
trigger: { type: rest, methods: [GET], externalApi: true }
steps:
  - json: { ok: true }
";

#[tokio::test(flavor = "multi_thread")]
async fn the_journey_by_keyboard() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let password =
        server.banner.split("admin, password ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let password = password.expect("the first password").to_owned();
    let browser = Browser::start().await;
    let enter = async |name: &str| {
        browser.tab_to(name).await;
        browser.press(Key::Enter).await;
    };

    // The first field has the focus; Enter sends the form.
    browser.open(server.url("console")).await;
    browser.see_focus_on("User").await;
    browser.press("admin").await;
    browser.tab_to("Password").await;
    browser.press(password.as_str()).await;
    browser.press(Key::Enter).await;
    browser.see("From nothing to a first call").await;

    // The first stop of every page leads past the navigation.
    browser.press(Key::Tab).await;
    assert_eq!(browser.focused().await, "Skip to the page");
    browser.press(Key::Enter).await;
    browser.press(Key::Tab).await;
    assert_eq!(browser.focused().await, "Write a pipeline");
    browser.press(Key::Enter).await;
    browser.see("Forms and file are one").await;

    // A switch that is turned keeps the focus, though the form around it was made anew.
    browser.tab_to("File").await;
    browser.select_all().await;
    browser.press(ORDERS).await;
    browser.see("Missing external API Key").await;
    browser.tab_to("Internal API").await;
    browser.press(Key::Space).await;
    browser.see("Missing internal API Key").await;
    browser.see_focus_on("Internal API").await;
    browser.press(Key::Space).await;
    browser.see_focus_on("Internal API").await;
    enter("Save as the next version").await;
    browser.see("would be refused").await;

    enter("Deploy").await;
    browser.see("What the policies say comes first").await;
    enter("Turn on and save as 1.1").await;
    browser.see("Reminder").await;
    enter("Deploy in test").await;
    browser.see("orders 1.1 runs in test").await;

    enter("Consumers").await;
    browser.see("Named callers").await;
    enter("test").await;
    browser.see("Nobody may call in test yet").await;
    enter("New consumer").await;
    browser.see("It gets an API key in each environment").await;
    browser.tab_to("Name").await;
    browser.press("shop").await;
    browser.tab_to("orders").await;
    browser.press(Key::Space).await;
    enter("Make consumer").await;
    browser.see("Keep it now").await;
    let key = browser.text().await;
    let key = key.split_whitespace().find(|word| word.starts_with("tg_test_")).expect("a key").to_owned();
    home.keep_secret(&key);
    let answered = server.call("test", "/pipeline/default/v1/orders", &[("apikey", &key)], None).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
    enter("I have kept it").await;
    browser.see("Named callers").await;
    enter("test").await;
    enter("shop").await;
    browser.see("works").await;

    // A question that is not answered leaves nothing open, and the focus where it came from.
    enter("Revoke default").await;
    browser.see("It cannot be brought back").await;
    browser.press(Key::Tab).await;
    browser.press(Key::Escape).await;
    browser.see_focus_on("Revoke default").await;

    // `/` goes to the search box, the arrow keys through what it finds.
    browser.press("/").await;
    browser.see_focus_on("Search pipelines and consumers").await;
    browser.press("ord").await;
    browser.see("Pipelines").await;
    browser.driver.query(By::Css("#suggestions a")).first().await.expect("a suggestion");
    browser.press(Key::Down).await;
    browser.see_focus_on("orders store").await;
    browser.press(Key::Enter).await;
    browser.see("Verdicts").await;

    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_realm_to_another_by_clicks_and_back_there_after_the_next_sign_in() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    server.cli(&["realm", "create", "acme"]).expect_code(0);
    server.cli(&["realm", "create", "secret-plans"]).expect_code(0);
    let ada = Person::of(&home, &server, "ada", &[]).await;
    server.cli(&["--realm", "acme", "group", "create", "guests", "--role", "viewer"]).expect_code(0);
    server.cli(&["--realm", "acme", "group", "add", "guests", "ada"]).expect_code(0);
    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;
    browser.click("Realm default, switch to another").await;
    browser.see("secret-plans").await;
    browser.check("realms").await;
    browser.click("Switch to acme").await;
    browser.see("Realm acme").await;
    browser.click("Pipelines").await;
    browser.see("What there is to deploy").await;
    browser.click("Sign out").await;
    browser.sign_in_first(&server).await;
    browser.see("Realm acme").await;

    // Whose realm it is not does not read its name.
    drop(browser);
    let browser = Browser::start().await;
    browser.open(server.url("console")).await;
    browser.fill("user", "ada").await;
    browser.fill("password", ada.password()).await;
    browser.click("Sign in").await;
    browser.see("Realm acme").await;
    browser.click("Realm acme, switch to another").await;
    let shown = browser.see("you are here").await;
    assert!(!shown.contains("secret-plans") && !shown.contains("Switch to default"), "{shown}");
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn everybodys_api_tokens_by_clicks() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let ada = Person::of(&home, &server, "ada", &["administrators"]).await;
    let made = ada.cli(&["token", "create", "ci of ada", "--scope", "deployment:read@test"]).expect_code(0);
    let plain = made.stdout.split_whitespace().find(|word| word.starts_with("tgu_")).expect("a token");
    let plain = plain.trim_matches('"').to_owned();
    home.keep_secret(&plain);
    let call = async || {
        let bearer = format!("Bearer {plain}");
        server.call("console", "/api/v1/whoami", &[("authorization", &bearer)], None).await.status
    };
    assert_eq!(call().await, 200);
    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;
    browser.click("API tokens").await;
    browser.see("ci of ada").await;
    browser.see("deployment:read in test").await;
    browser.check("tokens").await;
    browser.fill("owner", "ada").await;
    browser.click("Find").await;
    browser.see("Show all").await;
    browser.click("Revoke ci of ada of ada").await;
    browser.click("Revoke token of ada").await;
    let shown = browser.see("The API token was revoked").await;
    assert!(!shown.contains("ci of ada"), "{shown}");
    assert_eq!(call().await, 401);
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
