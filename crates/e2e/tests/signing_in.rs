//! Signing in with the real binary: passwords, second factor, sessions, API tokens, and the way back.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]
#![expect(
    clippy::disallowed_methods,
    reason = "the codes of an app follow the clock of the server that is started"
)]

use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate_e2e::{Home, Outcome, Server};
use tollgate_testkit::totp_code;

const LATER: &str = "tranquil otter bicycle";

/// A server, and the admin signed in at it.
struct World<'a> {
    server: Server<'a>,
    home: &'a Home,
    password: String,
}

impl<'a> World<'a> {
    fn start(home: &'a Home) -> Self {
        let mut server = Server::start(home, &[]);
        server.read_until("  API token ");
        let after = server.banner.split_once("password ").map(|(_, rest)| rest.to_owned());
        let password = after.as_deref().and_then(|rest| rest.split(' ').next()).expect("shown").to_owned();
        home.keep_secret(&password);
        Self { server, home, password }
    }

    fn login(&self, password: &str, more: &[&str]) -> Outcome {
        let arguments = [&["login", "--password-stdin"], more].concat();
        self.server.cli_with_input(&arguments, &format!("{password}\n"))
    }

    /// Returns the token of the session in the profile.
    fn token(&self) -> String {
        let path = self.home.path().join(".config/tollgate/profile.json");
        let profile: Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("a profile")).expect("JSON");
        profile["token"].as_str().expect("a token").to_owned()
    }

    /// Runs a command with a token.
    fn by(&self, token: &str, arguments: &[&str], input: &str) -> Outcome {
        let all = [&["--output", "json", "--token", token], arguments].concat();
        self.server.cli_with_input(&all, input)
    }

    /// Returns what was changed so far.
    fn changes(&self) -> Value {
        self.server.json(&["audit", "list", "--outcome", "done"])
    }
}

#[test]
fn a_second_factor_from_enrolling_to_removing_it() {
    let home = Home::new();
    let world = World::start(&home);
    let password = format!("{}\n", world.password);
    world.login(&world.password, &[]).expect_code(0);
    let session = world.token();
    let enrolled =
        world.by(&session, &["second-factor", "enrol", "--password-stdin"], &password).expect_code(0).json();
    let secret = enrolled["secret"].as_str().expect("a secret");
    home.keep_secret(secret);
    assert!(enrolled["uri"].as_str().is_some_and(|uri| uri.contains(secret)), "{enrolled}");
    let first = totp_code(secret, Timestamp::now());
    let confirmed = world.by(&session, &["second-factor", "confirm", &first], "").expect_code(0).json();
    let codes: Vec<&str> =
        confirmed["recoveryCodes"].as_array().expect("codes").iter().filter_map(Value::as_str).collect();
    assert_eq!(codes.len(), 10);
    codes.iter().for_each(|code| home.keep_secret(code));

    world.login(&world.password, &[]).expect_code(5).expect_words("--code");
    world
        .login(&world.password, &["--code", &first])
        .expect_code(5)
        .expect_words("user, password or code is wrong");
    // The app shows the next code soon, and a clock may be off by one.
    let next = totp_code(secret, Timestamp::now() + jiff::SignedDuration::from_secs(30));
    world.login(&world.password, &["--code", &next]).expect_code(0);
    world.login(&world.password, &["--code", &next]).expect_code(5);
    world.login(&world.password, &["--code", codes[0]]).expect_code(0);
    world.login(&world.password, &["--code", codes[0]]).expect_code(5);

    let session = world.token();
    let status = world.by(&session, &["second-factor", "status"], "").json();
    assert_eq!((&status["enrolled"], &status["recoveryCodesLeft"]), (&json!(true), &json!(9)));
    let renew = ["second-factor", "recovery-codes", "--password-stdin", "--code", codes[1]];
    let renewed = world.by(&session, &renew, &password).expect_code(0).json();
    let fresh = renewed["recoveryCodes"][0].as_str().expect("a code");
    home.keep_secret(fresh);
    let remove = |code| ["second-factor", "remove", "--password-stdin", "--code", code];
    world.by(&session, &remove(codes[2]), &password).expect_code(5).expect_words("wrong");
    world.by(&session, &remove(fresh), &password).expect_code(0);
    world.login(&world.password, &[]).expect_code(0);
    world.server.stop();
    home.assert_secrets_stayed_secret();
}

#[test]
fn where_a_second_factor_is_demanded_a_session_can_only_enrol_one() {
    let home = Home::new();
    let world = World::start(&home);
    let password = format!("{}\n", world.password);
    let demand = ["realm", "set", "--second-factor", "required"];
    world.server.cli(&demand).expect_code(1).expect_words("needs one themselves");
    world.server.cli(&["realm", "set", "--second-factor", "sometimes"]).expect_code(2);
    world.login(&world.password, &[]).expect_code(0);
    let session = world.token();
    let enrol = |session: &str| {
        let arguments = ["second-factor", "enrol", "--password-stdin"];
        let secret = world.by(session, &arguments, &password).expect_code(0).json()["secret"].clone();
        let code = totp_code(secret.as_str().expect("a secret"), Timestamp::now());
        world.by(session, &["second-factor", "confirm", &code], "").expect_code(0).json()["recoveryCodes"]
            .clone()
    };
    let codes = enrol(&session);
    world.by(&session, &demand, "").expect_code(0);
    let code = codes[0].as_str().expect("a code");
    world
        .by(&session, &["second-factor", "remove", "--password-stdin", "--code", code], &password)
        .expect_code(0);

    let told = world.login(&world.password, &[]).expect_code(0);
    assert!(told.stderr.contains("tollgate second-factor enrol"), "{told:?}");
    let session = world.token();
    world.by(&session, &["get", "pipelines"], "").expect_code(5).expect_words("second-factor enrol");
    world.by(&session, &["session", "list"], "").expect_code(5);
    world.server.cli(&["get", "pipelines"]).expect_code(5).expect_words("second factor");
    assert_eq!(world.by(&session, &["whoami"], "").json()["duty"], "enrol-second-factor");
    enrol(&session);
    world.by(&session, &["get", "pipelines"], "").expect_code(0);
    world.server.cli(&["get", "pipelines"]).expect_code(0);
}

#[test]
fn a_changed_password_ends_the_other_sessions() {
    let home = Home::new();
    let world = World::start(&home);
    world.login(&world.password, &[]).expect_code(0);
    let session = world.token();
    let change = ["password", "change", "--password-stdin"];
    let input = |new: &str| format!("{}\n{new}\n", world.password);
    let before = world.changes();
    world.server.cli_with_input(&change, &input(LATER)).expect_code(5).expect_words("it needs a session");
    world.by(&session, &change, &input("short")).expect_code(1).expect_words("at least 12 characters");
    world.by(&session, &change, &input("the admin of this")).expect_code(1).expect_words("name of its user");
    world.by(&session, &change, &format!("wrong\n{LATER}\n")).expect_code(5).expect_words("wrong");
    world
        .by(&session, &change, &format!("{}\n", world.password))
        .expect_code(2)
        .expect_words("no new password");
    world.by(&session, &["password", "change"], "").expect_code(2).expect_words("--password-stdin");
    assert_eq!(world.changes(), before, "something was stored");

    // A second session, of another home.
    let body = json!({ "user": "admin", "password": world.password });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let other = runtime.block_on(world.server.call("console", "/api/v1/login", &[], Some(&body))).json();
    let other = other["token"].as_str().expect("a token");
    let ended = world.by(&session, &change, &input(LATER)).expect_code(0).json();
    assert_eq!(ended["endedSessions"], 1);
    home.keep_secret(LATER);
    world.by(other, &["whoami"], "").expect_code(5);
    world.by(&session, &["whoami"], "").expect_code(0);
    world.login(&world.password, &[]).expect_code(5);
    world.login(LATER, &[]).expect_code(0);
    world.server.stop();
    home.assert_secrets_stayed_secret();
}

#[test]
fn sessions_are_listed_ended_and_replaced() {
    let home = Home::new();
    let world = World::start(&home);
    world.login(&world.password, &[]).expect_code(0);
    let first = world.token();
    world.login(&world.password, &[]).expect_code(0);
    let session = world.token();
    world.by(&first, &["whoami"], "").expect_code(5);
    let listed = world.by(&session, &["session", "list"], "").json();
    let items = listed["items"].as_array().expect("items");
    assert_eq!(items.len(), 1, "a new sign-in takes the place of the profile's: {listed}");
    assert_eq!((&items[0]["current"], &items[0]["source"]), (&json!(true), &json!("127.0.0.1")));
    assert!(items[0]["userAgent"].as_str().is_some_and(|agent| agent.starts_with("tollgate/")), "{listed}");
    world.server.cli(&["session", "list"]).expect_code(5).expect_words("session");
    let of_admin = world.server.json(&["session", "list", "--user", "admin"]);
    let id = of_admin["items"][0]["id"].as_str().expect("an id");
    world.by(&session, &["session", "end", "--others"], "").expect_code(0);
    world.by(&session, &["session", "end"], "").expect_code(2);
    world.by(&session, &["session", "end", "nonsense"], "").expect_code(2);
    world.server.cli(&["session", "end", id, "--user", "admin"]).expect_code(0);
    world.by(&session, &["whoami"], "").expect_code(5);
    world.server.cli(&["session", "end", id, "--user", "admin"]).expect_code(4);
}

#[test]
fn an_api_token_does_what_its_scopes_say_where_they_say_it() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let document = server.json(&["new", "pipeline", "orders"]);
    let path = home.file("orders.json", &document.to_string());
    server.cli(&["apply", "-f", &path]).expect_code(0);
    let before = server.json(&["audit", "verify"])["headHash"].clone();
    let create = |more: &[&str]| server.cli(&[&["--output", "json", "token", "create", "ci"], more].concat());
    create(&["--scope", "deployment:crate"]).expect_code(1).expect_words("did you mean `deployment:create`");
    create(&["--scope", "policy:update@test"]).expect_code(1).expect_words("would allow nothing");
    create(&["--env", "test"]).expect_code(2);
    create(&["--expires", "400d"]).expect_code(1).expect_words("365 days");
    assert_eq!(server.json(&["audit", "verify"])["headHash"], before, "something was stored");

    let limited = create(&["--scope", "deployment:create@test/store"]).expect_code(0).json();
    let limited = limited["token"].as_str().expect("shown once");
    server.cli(&["--token", limited, "deploy", "orders", "--env", "prod"]).expect_code(5);
    let scopes = ["--scope", "deployment:create", "--scope", "pipeline:read", "--expires", "30d"];
    let made = create(&scopes).expect_code(0).json();
    let ci = made["token"].as_str().expect("shown once");
    home.keep_secret(ci);
    let by = |arguments: &[&str]| server.cli(&[&["--token", ci], arguments].concat());
    by(&["deploy", "orders", "--env", "test"]).expect_code(0);
    by(&["undeploy", "orders", "--env", "test"]).expect_code(5).expect_words("deployment:delete");
    by(&["policy", "get", "external-api-access"]).expect_code(5);
    by(&["token", "create", "more"]).expect_code(5);
    by(&["session", "end", "--others"]).expect_code(5);
    let listed = server.cli(&["token", "list"]).expect_code(0).stdout;
    assert!(listed.contains("deployment:create, pipeline:read"), "{listed}");
    assert!(listed.contains("deployment:create (test; project store)"), "{listed}");
    let id = made["id"].as_str().expect("an id");
    server.cli(&["token", "revoke", id]).expect_code(0);
    by(&["whoami"]).expect_code(5);
    server.stop();
    home.assert_secrets_stayed_secret();
}

#[test]
fn guessing_is_slowed_down_and_says_for_how_long() {
    let home = Home::new();
    let world = World::start(&home);
    for _ in 0..5 {
        world.login("wrong", &[]).expect_code(5);
    }
    let refused = world.login(&world.password, &[]).expect_code(1);
    assert!(refused.stderr.contains("nothing is locked for good"), "{refused:?}");
    world.server.cli(&["whoami"]).expect_code(0);
}

#[test]
fn who_lost_everything_gets_back_in_on_the_server_s_machine_while_it_runs() {
    let home = Home::new();
    let world = World::start(&home);
    let data = home.data().display().to_string();
    // As after a kill between the first admin and the file with their token.
    std::fs::remove_file(home.data().join("admin-token")).expect("removes");
    world.server.cli(&["whoami"]).expect_code(5);
    world
        .server
        .cli(&["user", "recover", "admin", "--data", "nowhere"])
        .expect_code(4)
        .expect_words("--data");
    assert!(!home.path().join("nowhere").exists(), "a store was made");
    world.server.cli(&["user", "recover", "nobody", "--data", &data]).expect_code(4).expect_words("`admin`");
    let recovered = world.server.cli(&["--output", "json", "user", "recover", "admin", "--data", &data]);
    let recovered = recovered.expect_code(0).json();
    let temporary = recovered["temporaryPassword"].as_str().expect("shown once");
    home.keep_secret(temporary);
    world.login(&world.password, &[]).expect_code(5);
    let told = world.login(temporary, &[]).expect_code(0);
    assert!(told.stderr.contains("tollgate password change"), "{told:?}");
    let session = world.token();
    world.by(&session, &["get", "pipelines"], "").expect_code(5).expect_words("temporary");
    world.by(&session, &["token", "create", "x"], "").expect_code(5);
    let change = ["password", "change", "--password-stdin"];
    world.by(&session, &change, &format!("{temporary}\n{LATER}\n")).expect_code(0);
    let entries = world.by(&session, &["audit", "list"], "").expect_code(0).json();
    let items = entries["items"].as_array().expect("entries");
    let entry = items.iter().find(|entry| entry["action"] == "user.recover").expect("journaled");
    assert_eq!((&entry["source"], &entry["actor"]), (&json!("cli"), &json!("system")));
    world.server.stop();
    // And while it does not run.
    let output = home.command(&["user", "recover", "admin", "--data", &data]).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    home.assert_secrets_stayed_secret();
}
