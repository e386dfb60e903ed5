//! The console in a real browser: first start, one's own account, administration, and what two people decide together.

#![expect(
    clippy::disallowed_methods,
    reason = "the codes of an app follow the clock of the server that is started"
)]

use jiff::Timestamp;
use thirtyfour::By;
use thirtyfour::prelude::ElementQueryable as _;
use tollgate_e2e::{Browser, Home, Person, Server};
use tollgate_testkit::totp_code;

const LATER: &str = "tranquil otter bicycle";

/// Signs in with a name and a password, on the page that the browser is at or is sent to.
async fn sign_in(browser: &Browser, server: &Server<'_>, user: &str, password: &str) {
    browser.open(server.url("console")).await;
    browser.fill("user", user).await;
    browser.fill("password", password).await;
    browser.click("Sign in").await;
}

/// Returns the text of the element of an id.
async fn text_of(browser: &Browser, id: &str) -> String {
    let element = browser.driver.query(By::Id(id)).first().await.expect("an element");
    element.text().await.expect("its text")
}

/// Shows the password, scans the code and turns a second factor on; returns the recovery codes.
async fn enrol(browser: &Browser, home: &Home, password: &str, picture: &str) -> Vec<String> {
    browser.fill("password", password).await;
    browser.click("Show the code to scan").await;
    browser.see("Scan the code with your app").await;
    let secret = text_of(browser, "secret").await.replace(' ', "");
    home.keep_secret(&secret);
    browser.check(&format!("second-factor-scan{picture}")).await;
    browser.fill("code", &totp_code(&secret, Timestamp::now())).await;
    browser.click("Turn it on").await;
    browser.see("Keep your recovery codes").await;
    let codes: Vec<String> = text_of(browser, "codes").await.split_whitespace().map(str::to_owned).collect();
    assert_eq!(codes.len(), 10);
    codes.iter().for_each(|code| home.keep_secret(code));
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_temporary_password_to_an_account_of_ones_own() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let first =
        server.banner.split("admin, password ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let admin_password = first.expect("the first password").to_owned();
    let admin = Browser::start().await;
    admin.sign_in_first(&server).await;

    admin.click("admin").await;
    admin.see("How admin signs in").await;
    admin.check("account").await;
    admin.click("Set up second factor").await;
    admin.check("second-factor").await;
    let codes = enrol(&admin, &home, &admin_password, "").await;
    admin.check("recovery-codes").await;
    admin.click("I have kept them").await;
    admin.see("Your second factor is on: each sign-in asks for a code").await;
    admin.check("account-second-factor").await;
    admin.click("Realm settings").await;
    admin.see("What realm default decided").await;
    admin.check("realm-settings").await;
    admin.choose("second_factor", "on").await;
    admin.click("Save settings").await;
    admin.see("Saved.").await;

    admin.click("Users").await;
    admin.check("users").await;
    admin.click("New user").await;
    admin.fill("name", "ada").await;
    admin.choose("group", "administrators").await;
    admin.check("user-new").await;
    admin.click("Make user").await;
    admin.see("Temporary password of ada").await;
    let temporary = text_of(&admin, "password").await;
    home.keep_secret(&temporary);
    admin.check("user-made").await;
    admin.click("I have handed it over").await;
    admin.see("temporary password").await;

    // She is led through both, and then to where she wanted to go.
    let ada = Browser::start().await;
    ada.open(&format!("{}/realms/default/policies", server.url("console"))).await;
    ada.fill("user", "ada").await;
    ada.fill("password", &temporary).await;
    ada.click("Sign in").await;
    ada.see("Choose your own password").await;
    ada.fill("current", &temporary).await;
    ada.fill("new", "short").await;
    ada.fill("again", "short").await;
    ada.click("Change password").await;
    ada.see("at least 12 characters").await;
    ada.check("password-duty").await;
    for (field, text) in [("current", temporary.as_str()), ("new", LATER), ("again", LATER)] {
        ada.fill(field, text).await;
    }
    home.keep_secret(LATER);
    ada.click("Change password").await;
    ada.see("demands a second factor of everybody").await;
    ada.check("second-factor-duty").await;
    let hers = enrol(&ada, &home, LATER, "-duty").await;
    ada.click("I have kept them").await;
    ada.see("Production deploys").await;

    // Her second session ends with her password.
    let other = Browser::start().await;
    other.open(server.url("console")).await;
    other.fill("user", "ada").await;
    other.fill("password", LATER).await;
    other.fill("code", hers.first().expect("a code")).await;
    other.click("Sign in").await;
    other.see("how it stands to policy version").await;
    ada.click("ada").await;
    ada.see("this one").await;
    ada.see("End all others").await;
    ada.check("account-sessions").await;
    ada.click("Change password").await;
    let latest = "quite another sentence";
    home.keep_secret(latest);
    for (field, text) in [("current", LATER), ("new", latest), ("again", latest)] {
        ada.fill(field, text).await;
    }
    ada.check("password").await;
    ada.click("Change password").await;
    ada.see("every other session of yours has ended").await;
    other.open(&format!("{}/realms/default/account", server.url("console"))).await;
    other.see("The first password was printed").await;

    // A token that does one thing.
    ada.click("New API token").await;
    ada.fill("name", "CI").await;
    ada.choose("limited", "yes").await;
    ada.choose("permission", "pipeline:read").await;
    ada.check("token-new").await;
    ada.click("Make token").await;
    ada.see("nobody can show it again").await;
    let token = text_of(&ada, "token").await;
    home.keep_secret(&token);
    ada.check("token-made").await;
    ada.click("I have kept it").await;
    ada.see("pipeline:read").await;
    server.cli(&["--token", &token, "get", "pipelines"]).expect_code(0);
    server.cli(&["--token", &token, "user", "list"]).expect_code(5);

    // Guesses are told how long to wait.
    other.open(server.url("console")).await;
    for _ in 0..7 {
        sign_in(&other, &server, "ada", "guess guess guess").await;
        if other.text().await.contains("Nothing is locked for good") {
            break;
        }
    }
    other.see("Nothing is locked for good").await;
    other.check("sign-in-paused").await;

    // The admin helps somebody who lost everything.
    admin.open(&format!("{}/realms/default/users/ada", server.url("console"))).await;
    admin.check("user").await;
    admin.click("Disable").await;
    admin.click("Disable ada").await;
    admin.see("neither their password nor any token").await;
    ada.open(&format!("{}/realms/default/account", server.url("console"))).await;
    ada.see("The first password was printed").await;
    admin.click("Enable").await;
    admin.see("They can sign in again").await;
    admin.click("Reset password").await;
    admin.click("Reset password of ada").await;
    admin.see("ada has a temporary password").await;
    home.keep_secret(&text_of(&admin, "password").await);
    assert_eq!(codes.len(), 10);
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_by_clicks() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let ada = Person::of(&home, &server, "ada", &["administrators"]).await;
    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;

    browser.click("Roles").await;
    browser.see("Of the product").await;
    browser.check("roles").await;
    browser.click("viewer").await;
    browser.see("never changes").await;
    browser.check("role-built-in").await;
    browser.click("New role like this").await;
    browser.fill("name", "key-helper").await;
    browser.fill("description", "helps with keys").await;
    browser.choose("permission", "api-key:read").await;
    browser.check("role-new").await;
    browser.click("Make role").await;
    browser.see("helps with keys").await;

    browser.click("Groups").await;
    browser.check("groups").await;
    browser.click("New group").await;
    browser.fill("name", "store-support").await;
    browser.check("group-new").await;
    browser.click("Make group").await;
    browser.see("It grants nothing").await;
    let role = browser.driver.query(By::Css("#role option[value='key-helper']"));
    role.first().await.expect("an option").click().await.expect("chooses");
    browser.choose("environment", "test").await;
    browser.click("Grant").await;
    browser.see("key-helper in test").await;
    browser.fill("user", "ada").await;
    browser.click("Put in").await;
    browser.see("They are in the group").await;
    browser.check("group").await;

    browser.click("Environments").await;
    browser.see("where the server was started with").await;
    browser.click("New environment").await;
    browser.fill("name", "staging").await;
    browser.fill("external", "127.0.0.1:1").await;
    browser.check("environment-new").await;
    browser.click("Make environment").await;
    browser.see("The environment was made").await;
    browser.click("Delete staging").await;
    browser.check("environments").await;
    browser.fill("confirmation-staging", "stag").await;
    browser.click("Delete staging").await;

    server.cli(&["realm", "set", "--four-eyes-policies", "on", "--four-eyes-waivers", "on"]).expect_code(0);
    browser.click("Realm settings").await;
    browser.see("This realm wants four eyes").await;
    browser.check("realm-settings-four-eyes").await;
    let set = ["policy", "set", "external-api-access", "--env", "prod=any", "--yes"];
    ada.cli(&[&set[..], &["--reason", "a partner asks"]].concat()).expect_code(0);
    browser.open(&format!("{}/realms/default/change-requests", server.url("console"))).await;
    browser.see("for you to decide").await;
    browser.check("change-requests").await;
    browser.click("Set policy external-api-access: prod=any").await;
    browser.see("a partner asks").await;
    browser.check("change-request").await;
    browser.click("Approve and make the change").await;
    browser.see("Approved: the change was made").await;
    browser.check("change-request-approved").await;
    browser.click("Change requests").await;
    browser.see("Nothing waits for a decision").await;

    browser.click("Audit").await;
    browser.see("Every change and every refused attempt").await;
    browser.click("Verify now").await;
    browser.see("Verified up to entry").await;
    browser.check("audit").await;
    browser.open(&format!("{}/realms/default/audit?action=policy.set", server.url("console"))).await;
    browser.see("requested by ada").await;
    browser.open(&format!("{}/realms/default/audit?action=group.grant", server.url("console"))).await;
    let link = browser.driver.query(By::Css(".entries tbody th a"));
    link.first().await.expect("an entry").click().await.expect("opens");
    browser.see("Where it stands").await;
    browser.check("audit-entry").await;
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
