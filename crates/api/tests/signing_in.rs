//! Signing in through the router: what a browser and a program see, and what an attacker tries.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_api::{ApiSettings, router};
use tollgate_app::{App, Password};
use tollgate_credential::seal::MasterKey;
use tollgate_model::sources::Clock as _;
use tollgate_store::Store;
use tollgate_testkit::{FixedClock, SeededRandom, totp_code};
use tower::ServiceExt as _;

const PASSWORD: &str = "open sesame, quickly";
const LATER: &str = "tranquil otter bicycle";

/// A server without a network.
struct Api {
    _directory: TempDir,
    router: Router,
    clock: FixedClock,
    /// The API token of the first start.
    token: String,
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Api {
    async fn start(secure_cookies: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("test.db").display());
        let store = Store::open(&url).await.expect("opens");
        let (random, clock) = (Arc::new(SeededRandom::new(7)), FixedClock::default());
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
        let app = App::new(store, master, Arc::new(clock.clone()), random);
        let op = app.system_op().expect("random");
        app.realms().initialise(&op).await.expect("a realm");
        let password = Password::parse(PASSWORD).expect("a password");
        let admin =
            app.users().create_first_admin(&op, Some(password)).await.expect("an admin").expect("the first");
        let token = admin.token.plain.expose_secret().to_owned();
        let settings = ApiSettings { version: "9.9".to_owned(), allowed_hosts: Vec::new(), secure_cookies };
        Self { _directory: directory, router: router(app, settings, Router::new()), clock, token }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("host", "127.0.0.1:7000")
            .header("content-type", "application/json")
            .extension(ConnectInfo(std::net::SocketAddr::from(([10, 0, 0, 1], 40_000))));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).expect("a request")).await;
        let (parts, body) = response.expect("never fails").into_parts();
        let bytes = axum::body::to_bytes(body, 10 << 20).await.expect("a body");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Calls with a token in the header.
    async fn by(&self, token: &str, method: &str, path: &str, body: Value) -> Reply {
        self.send(method, path, &[("authorization", &format!("Bearer {token}"))], &body).await
    }

    /// Calls with cookies.
    async fn browse(&self, cookies: &str, method: &str, path: &str, body: Value) -> Reply {
        self.send(method, path, &[("cookie", cookies), ("x-requested-with", "console")], &body).await
    }

    async fn login(&self, body: Value) -> Reply {
        self.send("POST", "/login", &[], &body).await
    }

    /// Signs a program in.
    async fn session(&self) -> String {
        let answer = self.login(json!({ "user": "admin", "password": PASSWORD })).await.expect(201, "");
        answer.body["token"].as_str().expect("a token").to_owned()
    }

    /// Enrols a second factor, lets a step pass, and returns the secret and the recovery codes.
    async fn enrol(&self, token: &str) -> (String, Vec<Value>) {
        let enrolment = self.by(token, "POST", "/second-factor", json!({ "password": PASSWORD })).await;
        let secret = enrolment.expect(201, "").body["secret"].as_str().expect("a secret").to_owned();
        let body = json!({ "code": totp_code(&secret, self.clock.now()) });
        let codes = self.by(token, "POST", "/second-factor/confirm", body).await.expect(200, "");
        self.clock.advance(Duration::from_secs(30));
        (secret, codes.body["recoveryCodes"].as_array().expect("codes").clone())
    }

    async fn head(&self) -> u64 {
        let entries =
            self.by(&self.token, "GET", "/realms/default/journal?outcome=done&limit=1", Value::Null).await;
        entries.body["items"][0]["seq"].as_u64().expect("an entry")
    }
}

impl Reply {
    #[track_caller]
    fn expect(self, status: u16, code: &str) -> Self {
        let found = (self.status, self.body["code"].as_str().unwrap_or_default());
        assert_eq!(found, (status, code), "{self:#?}");
        if !code.is_empty() {
            assert!(self.body["hint"].is_string() || code == "request-malformed", "{self:#?}");
        }
        self
    }

    /// Returns `name=value` of the cookie that is set.
    fn cookie(&self) -> String {
        let cookie = self.headers["set-cookie"].to_str().expect("text");
        for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(part) && !cookie.contains("Domain"), "{cookie}");
        }
        cookie.split(';').next().expect("a pair").to_owned()
    }
}

fn credentials() -> Value {
    json!({ "user": "admin", "password": PASSWORD })
}

#[tokio::test]
async fn the_wait_is_told_in_the_header_and_in_words() {
    let api = Api::start(false).await;
    for _ in 0..5 {
        api.login(json!({ "user": "admin", "password": "wrong" })).await.expect(401, "login-failed");
    }
    let refused = api.login(credentials()).await.expect(429, "too-many-logins");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.body["hint"].as_str().is_some_and(|hint| hint.contains("wait 1 s")), "{refused:?}");
    api.clock.advance(Duration::from_secs(1));
    api.login(credentials()).await.expect(201, "");
}

#[tokio::test]
async fn a_cookie_that_was_planted_before_the_sign_in_is_never_taken_over() {
    let api = Api::start(false).await;
    let planted = api.send("POST", "/session", &[], &credentials()).await.expect(204, "").cookie();
    let own = api.browse(&planted, "POST", "/session", credentials()).await.expect(204, "").cookie();
    assert_ne!(own, planted);
    api.browse(&planted, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");
    api.browse(&own, "GET", "/whoami", Value::Null).await.expect(200, "");
    // One that was made up is not adopted either.
    let made_up = "tollgate_session=tgu_attacker";
    let own = api.browse(made_up, "POST", "/session", credentials()).await.expect(204, "").cookie();
    assert!(!own.contains("attacker"));
    // Two of one name: a page of a neighbouring host set one of them.
    let both = format!("{own}; {planted}");
    api.browse(&both, "GET", "/whoami", Value::Null).await.expect(400, "request-malformed");
    api.browse(&both, "POST", "/session", credentials()).await.expect(400, "request-malformed");
}

#[tokio::test]
async fn over_tls_the_cookie_has_a_name_that_nobody_else_can_set() {
    let api = Api::start(true).await;
    let answer = api.send("POST", "/session", &[], &credentials()).await.expect(204, "");
    let cookie = answer.cookie();
    assert!(cookie.starts_with("__Host-tollgate_session=tgu_"), "{cookie}");
    assert!(answer.headers["set-cookie"].to_str().expect("text").contains("; Secure"));
    api.browse(&cookie, "GET", "/whoami", Value::Null).await.expect(200, "");
    let plain = cookie.replace("__Host-", "");
    api.browse(&plain, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");

    let api = Api::start(false).await;
    let from_tls = [("origin", "https://tollgate.example")];
    let cookie = api.send("POST", "/session", &from_tls, &credentials()).await.expect(204, "").cookie();
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    let planted = format!("tollgate_session={}; {cookie}", api.session().await);
    let seen = api.browse(&planted, "GET", "/sessions", Value::Null).await.expect(200, "");
    let current = seen.body["items"].as_array().expect("items").iter().find(|it| it["current"] == true);
    assert_eq!(current.expect("one")["client"], "browser", "the other cookie counted");
}

#[tokio::test]
async fn what_was_signed_out_is_not_replayed() {
    let api = Api::start(false).await;
    let cookie = api.send("POST", "/session", &[], &credentials()).await.expect(204, "").cookie();
    let closed = api.browse(&cookie, "DELETE", "/session", Value::Null).await.expect(204, "");
    let cleared: Vec<_> = closed.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cleared.len(), 2);
    api.browse(&cookie, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");
    let token = api.session().await;
    api.by(&token, "POST", "/logout", json!({})).await.expect(204, "");
    api.by(&token, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");
}

#[tokio::test]
async fn a_password_is_changed_and_every_other_session_ends() {
    let api = Api::start(false).await;
    let (here, there) = (api.session().await, api.session().await);
    let body = |current: &str, new: &str| json!({ "current": current, "new": new });
    let before = api.head().await;
    api.by(&here, "POST", "/password", body("wrong", LATER)).await.expect(403, "confirmation-failed");
    api.by(&here, "POST", "/password", body(PASSWORD, "short")).await.expect(422, "password-weak");
    api.by(&api.token, "POST", "/password", body(PASSWORD, LATER)).await.expect(403, "session-required");
    api.by(&here, "POST", "/password", json!({ "new": LATER })).await.expect(422, "body-invalid");
    assert_eq!(api.head().await, before);
    let changed = api.by(&here, "POST", "/password", body(PASSWORD, LATER)).await.expect(200, "");
    assert_eq!(changed.body, json!({ "endedSessions": 1, "endedApiTokens": 0, "apiTokensLeft": 1 }));
    api.by(&there, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");
    api.by(&here, "GET", "/whoami", Value::Null).await.expect(200, "");
    api.login(credentials()).await.expect(401, "login-failed");
}

#[tokio::test]
async fn a_second_factor_is_enrolled_asked_for_and_removed() {
    let api = Api::start(false).await;
    let session = api.session().await;
    let status = async || api.by(&session, "GET", "/second-factor", Value::Null).await.expect(200, "").body;
    assert_eq!(status().await, json!({ "enrolled": false, "recoveryCodesLeft": 0, "required": false }));
    let (secret, codes) = api.enrol(&session).await;
    assert_eq!(status().await["recoveryCodesLeft"], 10);
    let asked = api.login(credentials()).await.expect(401, "second-factor-required");
    assert_eq!(asked.headers["www-authenticate"], "Bearer");
    let code = totp_code(&secret, api.clock.now());
    let with = |code: &str| json!({ "user": "admin", "password": PASSWORD, "code": code });
    api.login(with(&code)).await.expect(201, "");
    api.login(with(&code)).await.expect(401, "login-failed");
    let recovery = codes[0].as_str().expect("a code");
    api.send("POST", "/session", &[], &with(recovery)).await.expect(204, "");
    api.login(with(recovery)).await.expect(401, "login-failed");
    let proof = json!({ "password": PASSWORD, "code": codes[1] });
    let renewed = api.by(&session, "POST", "/second-factor/recovery-codes", proof).await.expect(201, "");
    let proof = json!({ "password": PASSWORD, "code": renewed.body["recoveryCodes"][0] });
    api.by(&session, "POST", "/second-factor/remove", proof).await.expect(204, "");
    api.login(credentials()).await.expect(201, "");
    assert_eq!(status().await["enrolled"], false);
}

#[tokio::test]
async fn who_has_a_duty_is_told_so_at_every_operation_and_does_only_that() {
    let api = Api::start(false).await;
    let session = api.session().await;
    let (_, codes) = api.enrol(&session).await;
    let settings = "/realms/default/settings";
    let required = json!({ "maxWaiverDays": 30, "secondFactor": "required" });
    api.by(&session, "PUT", settings, required).await.expect(200, "");
    // A client that does not know the setting does not turn it off.
    let kept = api.by(&session, "PUT", settings, json!({ "maxWaiverDays": 20 })).await.expect(200, "");
    assert_eq!(kept.body["settings"]["secondFactor"], "required");
    let proof = json!({ "password": PASSWORD, "code": codes[0] });
    api.by(&session, "POST", "/second-factor/remove", proof).await.expect(204, "");

    let document = tollgate_api::openapi();
    let free = ["/whoami", "/password", "/second-factor", "/second-factor/confirm", "/logout", "/session"];
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["x-permission"] == "none" || free.contains(&path.as_str()) {
                continue;
            }
            let id = "utk_01a20b6db916733abfb8ee4528c1c378";
            let real =
                path.replace("{realm}", "default").replace("{environment}", "test").replace("{id}", id);
            let real = real.replace(['{', '}'], "");
            let refused = api.by(&session, &method.to_uppercase(), &real, json!({})).await;
            refused.expect(403, "second-factor-enrolment-required");
        }
    }
    let whoami = api.by(&session, "GET", "/whoami", Value::Null).await.expect(200, "").body;
    assert_eq!((&whoami["duty"], &whoami["permissions"]), (&json!("enrol-second-factor"), &json!([])));
    let signed_in = api.login(credentials()).await.expect(201, "");
    assert_eq!(signed_in.body["duty"], "enrol-second-factor");
    api.by(&api.token, "GET", "/realms", Value::Null).await.expect(403, "second-factor-enrolment-required");
    api.enrol(&session).await;
    api.by(&session, "GET", "/realms", Value::Null).await.expect(200, "");
    api.by(&api.token, "GET", "/realms", Value::Null).await.expect(200, "");
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let api = Api::start(false).await;
    let here = api.session().await;
    let headers = [("user-agent", "Mozilla/5.0")];
    let cookie = api.send("POST", "/session", &headers, &credentials()).await.expect(204, "").cookie();
    let listed = api.by(&here, "GET", "/sessions", Value::Null).await.expect(200, "").body;
    let items = listed["items"].as_array().expect("items");
    let browser = items.iter().find(|it| it["client"] == "browser").expect("one");
    assert_eq!((&browser["source"], &browser["userAgent"]), (&json!("10.0.0.1"), &json!("Mozilla/5.0")));
    assert_eq!((&browser["current"], &browser["idleSeconds"]), (&json!(false), &json!(43_200)));
    assert!(!listed.to_string().contains("digest"), "{listed}");
    let id = browser["id"].as_str().expect("an id");
    api.by(&here, "DELETE", &format!("/sessions/{id}"), Value::Null).await.expect(204, "");
    api.by(&here, "DELETE", &format!("/sessions/{id}"), Value::Null).await.expect(404, "not-found");
    api.browse(&cookie, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");
    let other = api.session().await;
    let ended = api.by(&here, "POST", "/sessions/end-others", json!({})).await.expect(200, "");
    assert_eq!(ended.body["endedSessions"], 1);
    api.by(&other, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");
    let of_admin = "/users/admin/sessions";
    let listed = api.by(&api.token, "GET", of_admin, Value::Null).await.expect(200, "").body;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    api.by(&api.token, "GET", "/users/nobody/sessions", Value::Null).await.expect(404, "not-found");
    api.by(&api.token, "POST", &format!("{of_admin}/end-all"), json!({})).await.expect(200, "");
    api.by(&here, "GET", "/whoami", Value::Null).await.expect(401, "unauthenticated");
}

#[tokio::test]
async fn a_scoped_token_never_becomes_more_than_it_is() {
    let api = Api::start(false).await;
    let session = api.session().await;
    let scopes = json!([{ "permission": "user-token:manage" }, { "permission": "policy:read" }]);
    let body = json!({ "name": "ci", "scopes": scopes });
    // With an idempotency key: its answer, which shows a token, is for whoever showed the same token.
    let keyed = async |token: &str, body: &Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k1")];
        api.send("POST", "/tokens", &headers, body).await
    };
    let made = keyed(&session, &body).await.expect(201, "").body;
    let ci = made["token"].as_str().expect("a token");
    assert_eq!((&made["kind"], &made["scopes"]), (&json!("api-token"), &scopes));
    assert_eq!(keyed(&session, &body).await.expect(201, "").body["token"], made["token"]);
    keyed(ci, &body).await.expect(422, "idempotency-key-reused");

    let before = api.head().await;
    for (method, path, body, status, code) in [
        ("GET", "/realms", Value::Null, 403, "forbidden"),
        ("PUT", "/realms/default/settings", json!({ "maxWaiverDays": 1 }), 403, "forbidden"),
        (
            "POST",
            "/tokens",
            json!({ "name": "x", "scopes": [{ "permission": "policy:update" }] }),
            403,
            "scope-exceeded",
        ),
        (
            "POST",
            "/tokens",
            json!({ "name": "x", "expiresAt": "2026-12-31T00:00:00Z" }),
            403,
            "scope-exceeded",
        ),
        ("POST", "/password", json!({ "current": PASSWORD, "new": LATER }), 403, "session-required"),
        ("POST", "/second-factor", json!({ "password": PASSWORD }), 403, "session-required"),
        ("GET", "/sessions", Value::Null, 403, "session-required"),
        ("POST", "/sessions/end-others", json!({}), 403, "session-required"),
        ("POST", "/users/admin/sessions/end-all", json!({}), 403, "forbidden"),
        ("DELETE", "/users/admin/second-factor", Value::Null, 403, "forbidden"),
    ] {
        api.by(ci, method, path, body).await.expect(status, code);
    }
    let unknown = json!({ "name": "x", "scopes": [{ "permission": "policy:reed" }] });
    let refused = api.by(&session, "POST", "/tokens", unknown).await.expect(422, "scope-unknown");
    assert!(refused.body["hint"].as_str().is_some_and(|hint| hint.contains("policy:read")), "{refused:?}");
    for (body, code) in [
        (
            json!({ "name": "x", "scopes": [{ "permission": "policy:read", "env": ["test"] }] }),
            "body-invalid",
        ),
        (
            json!({ "name": "x", "scopes": [{ "permission": "policy:read", "environments": ["No Slug"] }] }),
            "body-invalid",
        ),
        (json!({ "name": "x", "expiresAt": "2030-01-01T00:00:00Z" }), "invalid"),
        (json!({ "name": "x", "expiresAt": "2020-01-01T00:00:00Z" }), "invalid"),
    ] {
        api.by(&session, "POST", "/tokens", body).await.expect(422, code);
    }
    assert_eq!(api.head().await, before, "something was stored");
    let whoami = api.by(ci, "GET", "/whoami", Value::Null).await.expect(200, "").body;
    assert_eq!(whoami["permissions"], json!(["policy:read", "user-token:manage"]));
}
