//! Who may call what, through the router: every operation of the document refuses whoever has not signed in and whoever
//! lacks its permission, and no operation refuses whoever has it.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_api::{ApiSettings, router};
use tollgate_app::access::Permission;
use tollgate_app::{App, Password};
use tollgate_credential::seal::MasterKey;
use tollgate_store::Store;
use tollgate_testkit::{FixedClock, SeededRandom};
use tower::ServiceExt as _;

const REALM: &str = "/realms/default";
const PASSWORD: &str = "open-sesame-42";

/// Operations that everybody who signed in may call: they concern only themselves. Reviewed: whoever adds one says so here.
const SIGNED_IN: [&str; 16] = [
    "post /logout",
    "delete /session",
    "get /whoami",
    "get /sessions",
    "delete /sessions/{id}",
    "post /sessions/end-others",
    "post /password",
    "get /second-factor",
    "post /second-factor",
    "post /second-factor/confirm",
    "post /second-factor/remove",
    "post /second-factor/recovery-codes",
    "get /tokens",
    "post /tokens",
    "delete /tokens/{id}",
    "get /realms",
];

struct Api {
    _directory: TempDir,
    router: Router,
    admin: String,
}

/// An operation of the document, with a path that can be called.
struct Operation {
    name: String,
    method: String,
    path: String,
    permission: String,
    also: Option<String>,
}

impl Api {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("test.db").display());
        let store = Store::open(&url).await.expect("opens");
        let random = Arc::new(SeededRandom::new(7));
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
        let app = App::new(store, master, Arc::new(FixedClock::default()), random);
        let op = app.system_op().expect("random");
        app.realms().initialise(&op).await.expect("a realm");
        let password = Password::parse(PASSWORD).expect("a password");
        let admin =
            app.users().create_first_admin(&op, Some(password)).await.expect("one").expect("the first");
        let admin = admin.token.plain.expose_secret().to_owned();
        Self { _directory: directory, router: router(app, ApiSettings::default(), Router::new()), admin }
    }

    async fn call(&self, token: Option<&str>, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("host", "127.0.0.1:7000")
            .header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if method == "GET" { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.body(body).expect("a request");
        let response: Response<Body> = self.router.clone().oneshot(request).await.expect("never fails");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 10 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Does something as the admin, which must succeed.
    async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Some(&self.admin), method, path, &body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Makes a user in these groups; returns a token of theirs.
    async fn user(&self, name: &str, groups: &[&str]) -> String {
        let user = json!({ "name": name, "password": PASSWORD, "groups": groups });
        self.done("POST", "/users", user).await;
        let login = json!({ "user": name, "password": PASSWORD });
        let (status, answer) = self.call(None, "POST", "/login", &login).await;
        assert_eq!(status, 201, "{answer}");
        let token = answer["token"].as_str().expect("a token").to_owned();
        // It was a temporary one.
        let change = json!({ "current": PASSWORD, "new": "a-password-of-my-own" });
        let (status, answer) = self.call(Some(&token), "POST", "/password", &change).await;
        assert_eq!(status, 200, "{answer}");
        token
    }
}

fn operations() -> Vec<Operation> {
    let document = tollgate_api::openapi();
    let mut all = Vec::new();
    for (template, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let path = template.replace("{realm}", "default").replace("{environment}", "test");
            // Names, versions and ids of what is not there: nothing is changed by asking.
            let path = path
                .replace("{version}", "9.9")
                .replace("{id}", "key_00000000000000000000000000000000")
                .replace("{name}", "none")
                .replace("{kid}", "none");
            let path: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "none" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            all.push(Operation {
                name: format!("{method} {template}"),
                method: method.to_ascii_uppercase(),
                path,
                permission: operation["x-permission"].as_str().expect("a permission").to_owned(),
                also: operation["x-also-permission"].as_str().map(str::to_owned),
            });
        }
    }
    all
}

#[test]
fn every_operation_names_a_permission_that_there_is_or_is_on_a_reviewed_list() {
    let mut signed_in = Vec::new();
    for operation in operations() {
        match operation.permission.as_str() {
            // The public ones are reviewed beside the document.
            "none" => {}
            "signed-in" => signed_in.push(operation.name),
            permission => {
                Permission::parse(permission).unwrap_or_else(|error| panic!("{}: {error}", operation.name));
            }
        }
        operation.also.map(|also| Permission::parse(&also).expect("a permission"));
    }
    assert_eq!(signed_in, SIGNED_IN);
}

#[tokio::test]
async fn whoever_has_not_signed_in_is_answered_401_by_every_operation() {
    let api = Api::start().await;
    for operation in operations().iter().filter(|operation| operation.permission != "none") {
        for token in [None, Some("tgu_0000000000000000000000000000000000000000"), Some("nonsense")] {
            let (status, body) = api.call(token, &operation.method, &operation.path, &json!({})).await;
            assert_eq!((status, &body["code"]), (401, &json!("unauthenticated")), "{}", operation.name);
        }
    }
}

#[tokio::test]
async fn each_operation_is_refused_without_its_permission_and_not_with_it() {
    let api = Api::start().await;
    let put_role = async |permissions: Vec<&str>| {
        api.done("PUT", &format!("{REALM}/roles/probe"), json!({ "permissions": permissions })).await
    };
    put_role(vec!["realm:read"]).await;
    let grants = json!({ "name": "probes", "grants": [{ "role": "probe" }] });
    api.done("POST", &format!("{REALM}/groups"), grants).await;
    let token = &api.user("probe", &["probes"]).await;
    let head = async || {
        api.done("GET", &format!("{REALM}/journal?outcome=done&limit=1"), Value::Null).await["items"][0]["seq"].clone()
    };
    let mut asked = 0;
    for permission in Permission::ALL.iter().map(|permission| permission.as_str()) {
        let needing: Vec<_> = operations()
            .into_iter()
            .filter(|it| it.permission == permission || it.also.as_deref() == Some(permission))
            .collect();
        let others = Permission::ALL.iter().map(|other| other.as_str()).filter(|other| *other != permission);
        put_role(others.collect()).await;
        let before = head().await;
        for operation in &needing {
            let (status, body) = api.call(Some(token), &operation.method, &operation.path, &json!({})).await;
            assert_eq!((status, &body["code"]), (403, &json!("forbidden")), "{}", operation.name);
            let detail = body["detail"].as_str().unwrap_or_default();
            assert!(detail.contains(&format!("`{permission}`")), "{}: {detail}", operation.name);
            asked += 1;
        }
        assert_eq!(head().await, before, "a refused attempt changed something");
        for operation in &needing {
            let also = operation.also.as_deref().into_iter().chain([operation.permission.as_str()]);
            put_role(also.collect()).await;
            let (status, body) = api.call(Some(token), &operation.method, &operation.path, &json!({})).await;
            assert!(status != 401 && status != 403, "{}: {status} {body}", operation.name);
        }
    }
    assert!(asked > 90, "the document was not walked: {asked}");
}

#[tokio::test]
async fn who_is_in_no_group_may_do_what_concerns_themselves_and_nothing_else() {
    let api = Api::start().await;
    let token = &api.user("ada", &[]).await;
    for operation in operations() {
        let (status, body) = match operation.permission.as_str() {
            "none" => continue,
            // Ends the session that asks.
            "signed-in" if operation.name.ends_with("/session") || operation.name.ends_with("/logout") => {
                continue;
            }
            _ => api.call(Some(token), &operation.method, &operation.path, &json!({})).await,
        };
        let is_own = operation.permission == "signed-in" && operation.name != "get /realms";
        assert_eq!(status == 403, !is_own, "{}: {status} {body}", operation.name);
    }
    let (_, me) = api.call(Some(token), "GET", "/whoami", &Value::Null).await;
    assert_eq!((&me["user"], &me["realms"]), (&json!("ada"), &json!([])));
    assert_eq!(me["permissions"], json!(["user-token:manage"]));
}

#[tokio::test]
async fn a_right_in_one_realm_is_none_in_another_and_a_realm_is_hidden_from_strangers() {
    let api = Api::start().await;
    api.done("POST", "/realms", json!({ "name": "acme" })).await;
    let ada = &api.user("ada", &[]).await;
    let managers = json!({ "name": "team", "members": ["ada"], "grants": [{ "role": "administrator" }] });
    api.done("POST", "/realms/acme/groups", managers).await;
    let status = async |token: &str, path: &str| api.call(Some(token), "GET", path, &Value::Null).await.0;
    assert_eq!(status(ada, "/realms/acme/pipelines").await, 200);
    assert_eq!(status(ada, "/realms/default/pipelines").await, 403);
    assert_eq!(status(ada, "/realms/moon/pipelines").await, 403, "as one that is there");
    assert_eq!(status(&api.admin, "/realms/moon/pipelines").await, 404);
    // Everything in acme is nothing on the server.
    assert_eq!(status(ada, "/users").await, 403);
    let (_, realms) = api.call(Some(ada), "GET", "/realms", &Value::Null).await;
    assert_eq!(realms["items"].as_array().map(Vec::len), Some(1), "{realms}");
    let (_, me) = api.call(Some(ada), "GET", "/whoami", &Value::Null).await;
    assert_eq!((&me["realms"][0]["realm"], &me["realms"][0]["groups"]), (&json!("acme"), &json!(["team"])));
}

#[tokio::test]
async fn wrong_groups_roles_and_users_are_refused_with_what_to_write_instead() {
    let api = Api::start().await;
    let groups = &format!("{REALM}/groups");
    let roles = &format!("{REALM}/roles");
    let head = async || {
        api.done("GET", &format!("{REALM}/journal?outcome=done&limit=1"), Value::Null).await["items"][0]["seq"].clone()
    };
    let before = head().await;
    for (path, body, status, says) in [
        (
            groups,
            json!({ "name": "x", "grants": [{ "role": "deployer", "environments": [] }] }),
            422,
            "leave it out",
        ),
        (
            groups,
            json!({ "name": "x", "grants": [{ "role": "deployer", "environment": "test" }] }),
            422,
            "environment",
        ),
        (groups, json!({ "name": "x", "grants": [{ "role": "deploier" }] }), 404, "deploier"),
        (
            groups,
            json!({ "name": "x", "grants": [{ "role": "viewer", "environments": ["moon"] }] }),
            404,
            "moon",
        ),
        (groups, json!({ "name": "x", "members": ["nobody-here"] }), 404, "nobody-here"),
        (groups, json!({ "name": "X" }), 422, "slug"),
        (groups, json!({ "name": "x", "description": "a\u{7}b" }), 422, "control"),
        (groups, json!({ "name": "administrators" }), 409, "administrators"),
        (roles, json!({ "name": "x", "permissions": ["pipeline:raed"] }), 422, "pipeline:read"),
        (roles, json!({ "name": "x", "permissions": [] }), 422, "no permissions"),
        (roles, json!({ "name": "viewer", "permissions": ["user:delete"] }), 409, "viewer"),
        (&"/users".to_owned(), json!({ "name": "a b" }), 422, "user name"),
        (&"/users".to_owned(), json!({ "name": "ada", "password": "" }), 422, "password"),
        (&"/users".to_owned(), json!({ "name": "ada", "groups": ["none"] }), 404, "none"),
        (&"/users".to_owned(), json!({ "name": "Admin" }), 409, "admin"),
        (&"/users".to_owned(), json!({ "name": "ada", "admin": true }), 422, "admin"),
    ] {
        let (answered, problem) = api.call(Some(&api.admin), "POST", path, &body).await;
        let text = format!("{} {}", problem["detail"], problem["hint"]);
        assert_eq!(answered, status, "{body}: {problem}");
        assert!(text.contains(says), "{body}: {text}");
    }
    assert_eq!(head().await, before, "nothing was stored");

    // What was changed since it was read is not overwritten.
    let (_, _) = api.call(Some(&api.admin), "POST", groups, &json!({ "name": "x" })).await;
    let request = Request::builder()
        .method("PUT")
        .uri(format!("/api/v1{groups}/x"))
        .header("host", "127.0.0.1:7000")
        .header("authorization", format!("Bearer {}", api.admin))
        .header("content-type", "application/json")
        .header("if-match", "\"1\"")
        .body(Body::from("{}"))
        .expect("a request");
    assert_eq!(api.router.clone().oneshot(request).await.expect("never fails").status(), 412);
}
