//! Four eyes through the router: two users, each with a token of their own.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_api::{ApiSettings, router};
use tollgate_app::App;
use tollgate_app::access::{Group, Op};
use tollgate_credential::seal::MasterKey;
use tollgate_credential::user_tokens::IssuedUserToken;
use tollgate_model::ids::{UserId, UserTokenId};
use tollgate_model::names::GroupName;
use tollgate_model::objects::keys;
use tollgate_model::users::{User, UserToken};
use tollgate_store::{Change, Expect, Mutation, Store};
use tollgate_testkit::{FixedClock, SeededRandom};
use tower::ServiceExt as _;

const REALM: &str = "/api/v1/realms/default";
const REQUESTS: &str = "/api/v1/realms/default/change-requests";
const ACCESS: &str = "/api/v1/realms/default/policies/external-api-access";

struct Api {
    _directory: TempDir,
    router: Router,
    ann: String,
    bob: String,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Api {
    /// A server where everything needs two, and the tokens of the two.
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("test.db").display());
        let store = Store::open(&url).await.expect("opens");
        let random = Arc::new(SeededRandom::new(7));
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
        let app = App::new(store.clone(), master, Arc::new(FixedClock::default()), random);
        let op = app.system_op().expect("random");
        app.realms().initialise(&op).await.expect("a realm");
        let (ann, bob) = (token(&store, &op, "ann").await, token(&store, &op, "bob").await);
        let api = Self {
            _directory: directory,
            router: router(app, ApiSettings::default(), Router::new()),
            ann,
            bob,
        };
        let four_eyes = json!({ "policies": true, "waivers": true });
        let settings = json!({ "maxWaiverDays": 30, "fourEyes": four_eyes });
        let set = api.call(&api.ann, "PUT", &format!("{REALM}/settings"), settings).await.expect(200, "");
        assert_eq!(set.body["settings"]["fourEyes"], four_eyes);
        api
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response: Response<Body> = self.router.clone().oneshot(request).await.expect("never fails");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 10 << 20).await.expect("a body");
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn request(&self, token: &str, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:7000")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Reply {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(self.request(token, method, path).body(body).expect("a request")).await
    }

    /// Asks, as Ann, for tokens in `test`; returns the path of the request and its answer.
    async fn ask(&self, value: &str) -> (String, Reply) {
        let body = json!({ "environments": { "test": value }, "partial": true, "reason": "it is time" });
        let asked = self.call(&self.ann, "PUT", ACCESS, body).await.expect(202, "");
        let path = asked.headers["location"].to_str().expect("text").to_owned();
        (path, asked)
    }

    async fn value(&self) -> Value {
        self.call(&self.bob, "GET", ACCESS, Value::Null).await.body["environments"]["test"].clone()
    }
}

impl Reply {
    #[track_caller]
    fn expect(self, status: u16, code: &str) -> Self {
        let found = self.body["code"].as_str().filter(|_| self.status >= 400).unwrap_or_default();
        assert_eq!((self.status, found), (status, code), "{self:#?}");
        self
    }
}

/// Makes a user and returns a token of theirs.
async fn token(store: &Store, op: &Op, name: &str) -> String {
    let mut random = [0; 10];
    random[..name.len()].copy_from_slice(name.as_bytes());
    let id = UserId::new(op.now, random);
    let user: User = serde_json::from_value(
        json!({ "id": id, "name": name, "passwordHash": "none", "createdAt": op.now }),
    )
    .expect("a user");
    let key = keys::group(&GroupName::administrators());
    let administrators = store.get::<Group>(&op.realm, &key).await.expect("readable");
    let mut administrators = administrators.expect("a realm has administrators").value;
    administrators.members.insert(id);
    let plain = IssuedUserToken::generate(&SeededRandom::new(u64::from(name.as_bytes()[0]))).expect("random");
    let token: UserToken = serde_json::from_value(json!({
        "id": UserTokenId::new(op.now, random),
        "user": id,
        "name": "a test",
        "digest": plain.digest.to_string(),
        "createdAt": op.now,
    }))
    .expect("a token");
    let change = Change {
        realm: op.realm.clone(),
        actor: "system".to_owned(),
        source: "test".to_owned(),
        action: "user.create".to_owned(),
        request_id: op.request_id.to_string(),
        reason: String::new(),
        at: op.now,
        guards: Vec::new(),
        mutations: vec![
            Mutation::put(&user, Expect::Absent).expect("JSON"),
            Mutation::put(&administrators, Expect::Any).expect("JSON"),
            Mutation::put(&token, Expect::Absent).expect("JSON"),
        ],
    };
    store.commit(change).await.expect("stored");
    plain.expose_secret().to_owned()
}

#[tokio::test]
async fn a_change_is_asked_for_by_one_user_and_made_by_another() {
    let api = Api::start().await;
    let (path, asked) = api.ask("jwt-with-api-key").await;
    let request = &asked.body["changeRequest"];
    assert_eq!(path, format!("{REQUESTS}/{}", request["id"].as_str().expect("an id")));
    assert_eq!((&request["state"], &request["decision"]), (&json!("pending"), &Value::Null));
    assert_eq!(request["summary"], "set policy external-api-access: test=jwt-with-api-key");
    assert_eq!(request["change"]["type"], "setPolicy");
    assert_eq!((&request["author"]["name"], &request["reason"]), (&json!("ann"), &json!("it is time")));
    assert_eq!(asked.body["meaning"]["effect"], "tightens");
    assert_eq!(api.value().await, "api-key");

    let shown = api.call(&api.bob, "GET", &path, Value::Null).await.expect(200, "");
    assert_eq!(shown.body["diff"]["policies"][0]["environments"][0]["after"], "jwt-with-api-key");
    assert_eq!(shown.body["meaning"]["effect"], "tightens");
    let (approve, base) = (format!("{path}/approve"), shown.body["currentBase"].clone());
    let etag = shown.headers["etag"].to_str().expect("text").to_owned();
    api.call(&api.ann, "POST", &approve, json!({ "base": base })).await.expect(403, "change-request-own");
    for bad in [json!({}), json!({ "base": "1" }), json!({ "base": base, "environments": {} })] {
        api.call(&api.bob, "POST", &approve, bad).await.expect(422, "body-invalid");
    }
    api.call(&api.bob, "POST", &approve, json!({ "base": 999 })).await.expect(412, "base-changed");
    let with_etag = |etag: &str| {
        let request = api.request(&api.bob, "POST", &approve).header("if-match", etag);
        request.body(Body::from(json!({ "base": base, "comment": "fine" }).to_string())).expect("a request")
    };
    api.send(with_etag("\"1\"")).await.expect(412, "precondition-failed");
    assert_eq!(api.value().await, "api-key");
    let approved = api.send(with_etag(&etag)).await.expect(200, "");
    assert_eq!(
        (&approved.body["state"], &approved.body["decision"]["by"]["name"]),
        (&json!("approved"), &json!("bob"))
    );
    assert_eq!(api.value().await, "jwt-with-api-key");
    api.send(with_etag(&etag)).await.expect(409, "change-request-decided");

    let versions = api.call(&api.bob, "GET", &format!("{REALM}/policy-versions"), Value::Null).await;
    let newest = &versions.body["items"][0];
    assert_eq!((&newest["createdBy"], &newest["approvedBy"]), (&json!("ann"), &json!("bob")));
    let journal = format!("{REALM}/journal?kind=change-request&outcome=done&limit=1");
    let entry = &api.call(&api.bob, "GET", &journal, Value::Null).await.body["items"][0];
    assert_eq!((&entry["action"], &entry["actor"]), (&json!("policy.set"), &json!("bob")));
    assert!(entry["reason"].as_str().is_some_and(|text| text.ends_with("requested by ann, approved by bob")));
}

#[tokio::test]
async fn requests_are_listed_by_state_rejected_and_withdrawn() {
    let api = Api::start().await;
    let ((first, _), (second, _), (third, _)) =
        (api.ask("any").await, api.ask("jwt-with-api-key").await, api.ask("api-key").await);
    let post = async |token: &str, path: &str, verb: &str| {
        api.call(token, "POST", &format!("{path}/{verb}"), json!({ "comment": "not now" })).await
    };
    post(&api.bob, &first, "withdraw").await.expect(403, "change-request-not-own");
    post(&api.ann, &first, "reject").await.expect(403, "change-request-own");
    post(&api.bob, &first, "reject").await.expect(200, "");
    let withdrawn = post(&api.ann, &second, "withdraw").await.expect(200, "");
    assert_eq!(withdrawn.body["decision"]["comment"], "not now");
    for (state, path) in [("rejected", &first), ("withdrawn", &second), ("pending", &third)] {
        let list = api.call(&api.ann, "GET", &format!("{REQUESTS}?state={state}"), Value::Null).await;
        let items = list.body["items"].as_array().expect("items");
        assert_eq!(items.len(), 1, "{state}");
        assert!(path.ends_with(items[0]["id"].as_str().expect("an id")), "{state}");
    }
    let all = api.call(&api.ann, "GET", REQUESTS, Value::Null).await;
    assert_eq!(all.body["items"].as_array().expect("items").len(), 3);
    api.call(&api.ann, "GET", &format!("{REQUESTS}?state=lost"), Value::Null)
        .await
        .expect(422, "query-invalid");
    let nowhere = format!("{REQUESTS}/chg_{}", "0".repeat(32));
    api.call(&api.ann, "GET", &nowhere, Value::Null).await.expect(404, "not-found");
    api.call(&api.ann, "GET", &format!("{REQUESTS}/one"), Value::Null).await.expect(404, "not-found");
}

#[tokio::test]
async fn a_repeated_request_asks_once_and_a_key_of_somebody_else_approves_nothing() {
    let api = Api::start().await;
    let body = json!({ "name": "staging", "listeners": { "external": "127.0.0.1:7003" },
        "policies": { "external-api-access": "any", "internal-api-access": "any" } });
    let make = async |token: &str| {
        let request =
            api.request(token, "POST", &format!("{REALM}/environments")).header("idempotency-key", "k");
        api.send(request.body(Body::from(body.to_string())).expect("a request")).await.expect(202, "")
    };
    let (first, again, other) = (make(&api.ann).await, make(&api.ann).await, make(&api.bob).await);
    let id = |reply: &Reply| reply.body["changeRequest"]["id"].clone();
    assert_eq!(id(&first), id(&again));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_ne!(id(&first), id(&other));
    let environments = api.call(&api.ann, "GET", &format!("{REALM}/environments"), Value::Null).await;
    assert_eq!(environments.body["items"].as_array().expect("items").len(), 2);
}

#[tokio::test]
async fn settings_that_leave_four_eyes_out_keep_them_and_those_that_end_them_are_asked_for() {
    let api = Api::start().await;
    let settings = format!("{REALM}/settings");
    let off = json!({ "policies": false, "waivers": false });
    for body in [
        json!({ "maxWaiverDays": 60 }),
        json!({ "maxWaiverDays": 30, "fourEyes": off }),
        json!({ "maxWaiverDays": 30, "fourEyes": { "policies": true, "waivers": true } }),
    ] {
        let asked = api.call(&api.ann, "PUT", &settings, body.clone()).await.expect(202, "");
        let keeps = body.get("fourEyes").is_none();
        let after = &asked.body["settings"]["after"];
        assert!(!keeps || after["fourEyes"]["policies"] == true, "{after}");
    }
    for bad in [
        json!({ "maxWaiverDays": 30, "fourEyes": { "policies": true } }),
        json!({ "maxWaiverDays": 30, "fourEyes": true }),
    ] {
        api.call(&api.ann, "PUT", &settings, bad).await.expect(422, "body-invalid");
    }
    let realm = api.call(&api.bob, "GET", REALM, Value::Null).await;
    assert_eq!(
        realm.body["settings"],
        json!({ "maxWaiverDays": 30, "fourEyes": { "policies": true, "waivers": true } })
    );
}
