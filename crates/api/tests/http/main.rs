//! The management API through its router, over a real store.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

mod audit;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_api::{ApiSettings, router};
use tollgate_app::{App, Password};
use tollgate_credential::seal::MasterKey;
use tollgate_store::Store;
use tollgate_testkit::{FixedClock, SeededRandom};
use tower::ServiceExt as _;

const PIPELINE: &str = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: KEY }\nsteps: [{ json: { ok: true } }]\n";
const REALM: &str = "/api/v1/realms/default";

/// A server without a network, and the admin's token.
struct Api {
    _directory: TempDir,
    router: Router,
    app: App,
    clock: FixedClock,
    token: String,
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

/// A body of which nothing ever arrives.
struct Endless;

impl http_body::Body for Endless {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

impl Api {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("test.db").display());
        let store = Store::open(&url).await.expect("opens");
        let random = Arc::new(SeededRandom::new(7));
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
        let clock = FixedClock::default();
        let app = App::new(store, master, Arc::new(clock.clone()), random);
        let op = app.system_op().expect("random");
        app.realms().initialise(&op).await.expect("a realm");
        let password = Password::parse("open-sesame").expect("a password");
        let admin =
            app.users().create_first_admin(&op, Some(password)).await.expect("an admin").expect("the first");
        let token = admin.token.plain.expose_secret().to_owned();
        let settings = ApiSettings {
            version: "9.9".to_owned(),
            allowed_hosts: vec!["tollgate.example".to_owned()],
            secure_cookies: false,
        };
        let router = router(app.clone(), settings, Router::new());
        Self { _directory: directory, router, app, clock, token }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response: Response<Body> = self.router.clone().oneshot(request).await.expect("never fails");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 10 << 20).await.expect("a body");
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:7000")
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Reply {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(self.request(method, path).body(body).expect("a request")).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, Value::Null).await
    }

    async fn save(&self, api_key: bool) -> Reply {
        let document = PIPELINE.replace("KEY", &api_key.to_string());
        self.call("POST", &format!("{REALM}/pipelines"), json!({ "document": document })).await
    }

    /// Returns the number of the last change.
    async fn head(&self) -> u64 {
        self.get(&format!("{REALM}/journal?outcome=done&limit=1")).await.body["items"][0]["seq"]
            .as_u64()
            .expect("an entry")
    }
}

impl Reply {
    #[track_caller]
    fn expect(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status, self.body["code"].as_str().unwrap_or_default()),
            (status, code),
            "{self:#?}"
        );
        if !code.is_empty() {
            assert_eq!(self.headers["content-type"], "application/problem+json");
            assert_eq!(self.body["requestId"], self.headers["x-request-id"].to_str().expect("text"));
            assert!(self.body["detail"].as_str().is_some_and(|text| !text.is_empty()), "{self:#?}");
        }
        self
    }
}

#[tokio::test]
async fn the_life_of_a_pipeline_from_file_to_rollback() {
    let api = Api::start().await;
    let saved = api.save(false).await.expect(201, "");
    assert_eq!((&saved.body["version"], &saved.body["change"]), (&json!("1.0"), &json!("created")));
    assert_eq!(api.save(false).await.expect(200, "").body["change"], "unchanged");
    let deployments = format!("{REALM}/environments/test/deployments");
    let refused =
        api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(422, "policy-refused");
    assert_eq!(refused.body["violations"][0]["pointer"], "/trigger/apiKey");
    assert_eq!(refused.body["violations"][0]["fix"], true);
    assert_eq!(api.get(&format!("{REALM}/deployments")).await.body["items"], json!([]));

    api.save(true).await.expect(201, "");
    let deployed = api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(201, "");
    assert_eq!(deployed.body["deployment"]["urls"][0]["path"], "/pipeline/default/v1/orders");
    assert!(deployed.body["reminders"][0].as_str().is_some_and(|text| text.contains("no consumer of test")));
    api.call(
        "POST",
        &format!("{REALM}/environments/prod/deployments/orders/promote"),
        json!({ "from": "test" }),
    )
    .await
    .expect(201, "");
    api.call("DELETE", &format!("{REALM}/pipelines/orders"), Value::Null)
        .await
        .expect(409, "pipeline-deployed");
    api.call("POST", &format!("{deployments}/orders/rollback"), json!({ "version": "1.0" }))
        .await
        .expect(422, "policy-refused");

    let policy = format!("{REALM}/policies/external-api-access");
    let stricter = json!({ "environments": { "test": "jwt-with-api-key" }, "partial": true });
    let impact = api.call("POST", &format!("{policy}/impact"), stricter.clone()).await.expect(200, "");
    let test = impact.body["impact"]
        .as_array()
        .expect("impact")
        .iter()
        .find(|it| it["environment"] == "test")
        .expect("test");
    assert_eq!(test["fallsOut"][0]["pipeline"], "orders");
    assert_eq!(api.call("PUT", &policy, stricter).await.expect(200, "").body["version"], "1.1");
    let report = api.get(&format!("{REALM}/conformance?environment=test")).await.expect(200, "");
    assert_eq!(
        (&report.body["environments"][0]["conformant"], &report.body["environments"][0]["notConformant"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(api.get(&format!("{deployments}/orders/history")).await.body["items"][0]["version"], "1.1");
    assert_eq!(api.get(&format!("{deployments}/orders")).await.expect(200, "").body["conforms"], false);
    api.call("DELETE", &format!("{deployments}/orders"), Value::Null).await.expect(204, "");
    api.get(&format!("{deployments}/orders")).await.expect(404, "not-found");
    assert_eq!(
        api.get(&format!("{REALM}/pipelines/orders/versions/1.1")).await.body["pipeline"]["trigger"]["apiKey"],
        true
    );
    assert_eq!(api.call("POST", &format!("{REALM}/journal/verify"), Value::Null).await.body["intact"], true);
}

#[tokio::test]
async fn conformance_comes_in_pages_and_counts_all_of_it_on_each() {
    let api = Api::start().await;
    for name in ["invoices", "orders", "orders-old"] {
        let document = PIPELINE.replace("orders", name).replace("KEY", "true");
        api.call("POST", &format!("{REALM}/pipelines"), json!({ "document": document }))
            .await
            .expect(201, "");
        let deployments = format!("{REALM}/environments/test/deployments");
        api.call("POST", &deployments, json!({ "pipeline": name })).await.expect(201, "");
    }
    let pages = async |query: &str| {
        let (mut told, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{REALM}/conformance?environment=test&limit=1{query}{cursor}");
            let page = api.get(&path).await.expect(200, "").body;
            let here = &page["environments"][0];
            assert_eq!((&here["deployments"], &here["conformant"]), (&json!(3), &json!(3)));
            let items = here["items"].as_array().expect("a list");
            told.extend(items.iter().map(|item| item["pipeline"].clone()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", next.replace('/', "%2F")),
                None => return told,
            }
        }
    };
    assert_eq!(pages("").await, ["invoices", "orders-old", "orders"]);
    assert_eq!(pages("&name=orders&standing=conformant").await, ["orders-old", "orders"]);
    assert_eq!(pages("&standing=notConformant").await, Vec::<Value>::new());
    assert_eq!(pages("&loginFlows=true").await, Vec::<Value>::new());
    for bad in ["limit=x", "standing=fine", "loginFlows=maybe", "page=2"] {
        api.get(&format!("{REALM}/conformance?{bad}")).await.expect(422, "query-invalid");
    }
}

#[tokio::test]
async fn the_life_of_an_environment() {
    let api = Api::start().await;
    let environments = format!("{REALM}/environments");
    let body = |address: &str, policies: Value| json!({ "name": "staging", "policies": policies, "listeners": { "external": address } });
    let both = json!({ "external-api-access": "api-key", "internal-api-access": "any" });
    let half = json!({ "external-api-access": "api-key" });
    let unknown = json!({ "external-api-access": "api-key", "Nope": "any" });
    for (bad, code) in [
        (body("127.0.0.1:7003", half), "policy-environment-missing"),
        (body("127.0.0.1:7003", unknown), "invalid"),
        (body("staging.example:7003", both.clone()), "invalid"),
        (body("127.0.0.1:0", both.clone()), "invalid"),
    ] {
        let before = api.head().await;
        let refused = api.call("POST", &environments, bad).await.expect(422, code);
        assert!(refused.body["hint"].is_string(), "{refused:?}");
        assert_eq!(api.head().await, before);
    }
    let made = api.call("POST", &environments, body("127.0.0.1:7003", both.clone())).await.expect(201, "");
    assert_eq!(made.body["listeners"], json!({ "external": "127.0.0.1:7003" }));
    assert_eq!(made.body["policies"]["enforcement"], "atDeploy");
    api.call("POST", &environments, body("127.0.0.1:7004", both)).await.expect(409, "already-exists");
    let staging = format!("{environments}/staging");
    let etag = api.get(&staging).await.expect(200, "").headers["etag"].clone();
    let delete = |tag: &http::HeaderValue| {
        let request = api.request("DELETE", &format!("{staging}?reason=done")).header("if-match", tag);
        api.send(request.body(Body::empty()).expect("a request"))
    };
    delete(&http::HeaderValue::from_static("\"1\"")).await.expect(412, "precondition-failed");
    delete(&etag).await.expect(204, "");
    api.get(&staging).await.expect(404, "not-found");
    assert_eq!(api.get(&format!("{REALM}/policy-versions")).await.body["items"][0]["reason"], "done");
    api.call("DELETE", &format!("{environments}/test"), Value::Null).await.expect(409, "environment-in-use");
}

#[tokio::test]
async fn a_file_can_be_sent_as_it_is() {
    let api = Api::start().await;
    let send = |query: &str, text: String| {
        let request = Request::builder()
            .method("POST")
            .uri(format!("{REALM}/pipelines{query}"))
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", api.token))
            .header("content-type", "application/yaml");
        api.send(request.body(Body::from(text)).expect("a request"))
    };
    assert_eq!(
        send("?dryRun=true", PIPELINE.replace("KEY", "true")).await.expect(200, "").body["version"],
        "1.0"
    );
    api.get(&format!("{REALM}/pipelines/orders")).await.expect(404, "not-found");
    send("", PIPELINE.replace("KEY", "true")).await.expect(201, "");
    assert_eq!(
        send("?newMajor=true", PIPELINE.replace("KEY", "false")).await.expect(201, "").body["version"],
        "2.0"
    );
    let twice = PIPELINE.replace("KEY", "true, routes: [\"/a/:x\", { path: \"/a/:y\", methods: [PUT] }]");
    let refused = send("", twice).await.expect(422, "pipeline-invalid");
    assert_eq!(refused.body["errors"][0]["pointer"], "/trigger/routes/1");
    let bad = send("", PIPELINE.replace("KEY", "yes")).await.expect(422, "document-invalid");
    assert_eq!(bad.body["errors"][0]["line"], 4);
}

#[tokio::test]
async fn a_waiver_has_one_end_is_seen_where_conformance_is_and_can_be_ended() {
    let api = Api::start().await;
    api.save(false).await.expect(201, "");
    let waivers = format!("{REALM}/waivers");
    let body = |more: Value| {
        let mut body = json!({ "pipeline": "orders", "environment": "test", "policy": "external-api-access",
            "reason": "the shop cannot yet" });
        body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        body
    };
    let before = api.head().await;
    for (more, code) in [
        (json!({}), "waiver-without-end"),
        (json!({ "until": "2026-01-08T00:00:00Z", "forSeconds": 60 }), "waiver-without-end"),
        (json!({ "until": "soon" }), "body-invalid"),
        (json!({ "forSeconds": -1 }), "body-invalid"),
        (json!({ "forSeconds": 60, "code": "missing" }), "body-invalid"),
        (json!({ "forSeconds": 60, "policy": "No Policy" }), "body-invalid"),
        (json!({ "until": "2025-01-08T00:00:00Z" }), "date-passed"),
        (json!({ "until": "2027-01-08T00:00:00Z" }), "waiver-too-long"),
        (json!({ "forSeconds": u64::MAX }), "waiver-too-long"),
        (json!({ "forSeconds": 60, "code": "missing-jwt" }), "waiver-unfounded"),
        (json!({ "forSeconds": 60, "reason": "" }), "invalid"),
    ] {
        api.call("POST", &waivers, body(more)).await.expect(422, code);
    }
    assert_eq!(api.head().await, before, "something was stored");

    let made = api.call("POST", &waivers, body(json!({ "forSeconds": 86_400 }))).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["until"], "2026-01-02T00:00:00Z");
    assert_eq!(
        (&made.body["code"], &made.body["state"], &made.body["createdBy"]),
        (&json!("missing-api-key"), &json!("active"), &json!("admin"))
    );
    api.call("POST", &waivers, body(json!({ "forSeconds": 60 }))).await.expect(409, "already-waived");
    let one = format!("{waivers}/{}", made.body["id"].as_str().expect("an id"));
    let read = api.get(&one).await;
    assert_eq!((&read.body, &read.headers["etag"]), (&made.body, &made.headers["etag"]));
    assert_eq!(api.get(&format!("{waivers}?environment=prod")).await.body["items"], json!([]));
    assert_eq!(api.get(&format!("{waivers}?pipeline=orders")).await.body["items"], json!([made.body]));

    let versions = api.get(&format!("{REALM}/pipelines/orders/versions")).await.expect(200, "");
    let standing: Vec<_> = versions.body["items"][0]["verdicts"]
        .as_array()
        .expect("verdicts")
        .iter()
        .map(|it| (it["environment"].as_str(), it["standing"].as_str()))
        .collect();
    assert_eq!(standing, [(Some("prod"), Some("notConformant")), (Some("test"), Some("waived"))]);
    let deployments = format!("{REALM}/environments/test/deployments");
    let deployed = api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(201, "");
    let deployment = &deployed.body["deployment"];
    assert_eq!((&deployment["standing"], &deployment["conforms"]), (&json!("waived"), &json!(true)));
    assert_eq!(deployment["waived"][0]["waiver"], made.body["id"]);
    let report = api.get(&format!("{REALM}/conformance?environment=test")).await.body;
    assert_eq!(report["environments"][0]["waived"], 1);

    api.call("DELETE", &one, Value::Null).await.expect(204, "");
    api.get(&one).await.expect(404, "not-found");
    api.get(&format!("{waivers}/wvr_1")).await.expect(404, "not-found");
    assert_eq!(api.get(&format!("{deployments}/orders")).await.body["standing"], "notConformant");
}

#[tokio::test]
async fn a_dry_run_is_200_or_the_refusal_and_changes_nothing() {
    let api = Api::start().await;
    api.save(false).await.expect(201, "");
    api.save(true).await.expect(201, "");
    let test = format!("{REALM}/environments/test/deployments");
    let prod = format!("{REALM}/environments/prod/deployments/orders");
    let before = api.head().await;
    let body = |version: &str| json!({ "pipeline": "orders", "version": version, "dryRun": true });
    let refused = api.call("POST", &test, body("1.0")).await.expect(422, "policy-refused");
    assert_eq!(refused.body["violations"][0]["fix"], true);
    let would = api.call("POST", &test, body("1.1")).await.expect(200, "");
    assert_eq!((&would.body["dryRun"], &would.body["deployment"]["version"]), (&json!(true), &json!("1.1")));
    assert_eq!(would.body["deployment"]["elsewhere"][0]["environment"], "prod");
    assert_eq!(api.head().await, before, "something was stored");

    let real = api.call("POST", &test, json!({ "pipeline": "orders" })).await.expect(201, "");
    assert_eq!(real.body["dryRun"], false);
    let before = api.head().await;
    api.call("POST", &format!("{prod}/promote"), json!({ "from": "test", "dryRun": true }))
        .await
        .expect(200, "");
    api.call("POST", &format!("{test}/orders/rollback"), json!({ "version": "1.0", "dryRun": true }))
        .await
        .expect(422, "policy-refused");
    assert_eq!(api.get(&format!("{test}/orders/rollback-candidates")).await.body["items"], json!([]));
    api.get(&format!("{prod}/rollback-candidates")).await.expect(404, "not-found");
    assert_eq!(api.head().await, before, "something was stored");
}

#[tokio::test]
async fn the_settings_of_a_realm_are_read_and_changed_whole() {
    let api = Api::start().await;
    let settings = format!("{REALM}/settings");
    let before = api.get(REALM).await.expect(200, "");
    assert_eq!(before.body["settings"], json!({ "maxWaiverDays": 30 }));
    let head = api.head().await;
    for bad in [
        json!({}),
        json!({ "maxWaiverDays": 0 }),
        json!({ "maxWaiverDays": 366 }),
        json!({ "maxWaiverDays": "7" }),
        json!({ "maxWaiverDays": 7, "other": 1 }),
        json!({ "maxWaiverDays": 7, "secondFactor": "sometimes" }),
    ] {
        api.call("PUT", &settings, bad).await.expect(422, "body-invalid");
    }
    assert_eq!(api.head().await, head, "something was stored");
    let put = |etag: &str, days: u16| {
        let request = api.request("PUT", &settings).header("if-match", etag);
        let body = json!({ "maxWaiverDays": days }).to_string();
        api.send(request.body(Body::from(body)).expect("a request"))
    };
    let etag = before.headers["etag"].to_str().expect("text");
    let saved = put(etag, 7).await.expect(200, "");
    put(etag, 8).await.expect(412, "precondition-failed");
    let read = api.get(REALM).await.expect(200, "");
    assert_eq!((&read.body, &read.headers["etag"]), (&saved.body, &saved.headers["etag"]));
    assert_eq!(read.body["settings"]["maxWaiverDays"], 7);
    api.get("/api/v1/realms/none").await.expect(404, "not-found");
}

#[tokio::test]
async fn secrets_are_shown_once_and_kept_nowhere() {
    let api = Api::start().await;
    api.save(true).await.expect(201, "");
    let consumer = json!({ "name": "shop", "environments": ["test", "prod"], "pipelines": ["orders"] });
    let made = api.call("POST", &format!("{REALM}/consumers"), consumer.clone()).await.expect(201, "");
    let key = made.body["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    let environment = made.body["items"][0]["consumer"]["environment"].as_str().expect("a name").to_owned();
    api.call("POST", &format!("{REALM}/consumers"), consumer).await.expect(409, "already-exists");
    let place = format!("{REALM}/environments/{environment}");
    let basic = api
        .call("POST", &format!("{place}/consumers/shop/basic-auth"), json!({ "username": "shop" }))
        .await
        .expect(201, "");
    let password = basic.body["password"].as_str().expect("shown once").to_owned();
    let account =
        json!({ "fields": { "token": "s3cret-value-1" }, "hashedFields": { "hash": "s3cret-value-2" } });
    let set = api.call("PUT", &format!("{place}/accounts/portal"), account).await.expect(200, "");
    assert_eq!(set.body["fields"], json!(["hash", "token"]));
    let rotated = api
        .call(
            "POST",
            &format!("{place}/keys/{}/rotate", made.body["items"][0]["key"]["id"].as_str().expect("an id")),
            json!({}),
        )
        .await
        .expect(201, "");
    let second = rotated.body["key"].as_str().expect("shown once").to_owned();
    assert_ne!(key, second);

    for path in [
        "consumers",
        "consumers/shop",
        "consumers/shop/keys",
        "consumers/shop/basic-auth",
        "accounts",
        "signing-keys",
    ] {
        let shown = api.get(&format!("{place}/{path}")).await.expect(200, "").body.to_string();
        for secret in [key.as_str(), &second, &password, "s3cret-value", "sealed", "argon2"] {
            assert!(!shown.contains(secret), "{path} shows a secret: {shown}");
        }
    }
    let journal = api.get(&format!("{REALM}/journal")).await.expect(200, "").body.to_string();
    assert!(!journal.contains(&key) && !journal.contains("s3cret-value"));
}

#[tokio::test]
async fn a_client_certificate_is_bound_listed_and_revoked() {
    let api = Api::start().await;
    let consumer = json!({ "name": "shop", "environments": ["test"], "createKey": false });
    api.call("POST", &format!("{REALM}/consumers"), consumer).await.expect(201, "");
    let place = format!("{REALM}/environments/test");
    let path = format!("{place}/consumers/shop/certificates");
    let digest = "ab".repeat(32);
    for wrong in [
        json!({}),
        json!({ "fingerprint": "ab" }),
        json!({ "san": "dns:shop.example" }),
        json!({ "san": "dns:*.example", "issuer": digest }),
        json!({ "san": "shop.example", "issuer": digest }),
        json!({ "issuer": digest }),
        json!({ "fingerprint": digest, "san": "dns:shop.example", "issuer": digest }),
    ] {
        api.call("POST", &path, wrong).await.expect(422, "invalid");
    }
    let by_name = json!({ "name": "laptop", "san": "dns:Shop.example", "issuer": digest });
    let made = api.call("POST", &path, by_name).await.expect(201, "").body;
    for (field, expected) in
        [("name", "laptop"), ("san", "dns:shop.example"), ("issuer", &digest), ("state", "active")]
    {
        assert_eq!(made[field], expected);
    }
    let one = json!({ "fingerprint": digest.to_uppercase() });
    assert_eq!(api.call("POST", &path, one).await.expect(201, "").body["fingerprint"], digest);
    let listed = api.get(&path).await.expect(200, "").body;
    assert_eq!(listed["items"].as_array().expect("items").len(), 2);
    let id = made["id"].as_str().expect("an id");
    let revoked =
        api.call("POST", &format!("{place}/certificates/{id}/revoke"), json!({})).await.expect(200, "");
    assert_eq!(revoked.body["state"], "revoked");
    let unknown = format!("{place}/certificates/crt_{}/revoke", "0".repeat(32));
    api.call("POST", &unknown, json!({})).await.expect(404, "not-found");
    let journal = api.get(&format!("{REALM}/journal")).await.expect(200, "").body.to_string();
    assert!(journal.contains("certificate.create") && journal.contains("certificate.revoke"));
}

#[tokio::test]
async fn no_operation_but_the_public_ones_answers_without_a_token() {
    let api = Api::start().await;
    let before = api.head().await;
    let document = tollgate_api::openapi();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["x-permission"] == "none" {
                continue;
            }
            let path =
                path.replace("{realm}", "default").replace("{environment}", "test").replace(['{', '}'], "");
            for authorization in ["", "Bearer tgu_0000", "Basic YWRtaW46b3Blbi1zZXNhbWU=", "Bearer "] {
                let mut request = Request::builder()
                    .method(method.to_ascii_uppercase().as_str())
                    .uri(format!("/api/v1{path}"))
                    .header("host", "localhost")
                    .header("content-type", "application/json");
                if !authorization.is_empty() {
                    request = request.header("authorization", authorization);
                }
                let reply = api.send(request.body(Body::from("{}")).expect("a request")).await;
                assert_eq!(reply.status, 401, "{method} {path} {authorization}: {reply:?}");
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
            }
        }
    }
    assert_eq!(api.head().await, before, "something was stored");
}

#[tokio::test]
async fn a_lost_update_is_412_and_a_repeated_creation_is_done_once() {
    let api = Api::start().await;
    let policy = format!("{REALM}/policies/external-api-access");
    let etag = api.get(&policy).await.headers["etag"].to_str().expect("text").to_owned();
    let change = |value: &str| json!({ "environments": { "test": value }, "partial": true }).to_string();
    let put = |etag: &str, value: &str| {
        api.send(
            api.request("PUT", &policy)
                .header("if-match", etag)
                .body(Body::from(change(value)))
                .expect("a request"),
        )
    };
    put(&etag, "any").await.expect(200, "");
    put(&etag, "jwt-with-api-key").await.expect(412, "precondition-failed");
    put("7", "any").await.expect(400, "if-match-invalid");
    assert_eq!(api.get(&policy).await.body["environments"]["test"], "any");

    let make = |key: &str, name: &str| {
        let body = json!({ "name": name, "environments": ["test"] }).to_string();
        let request = api.request("POST", &format!("{REALM}/consumers")).header("idempotency-key", key);
        api.send(request.body(Body::from(body)).expect("a request"))
    };
    let first = make("abc", "shop").await.expect(201, "");
    let again = make("abc", "shop").await.expect(201, "");
    assert_eq!(first.body, again.body);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    make("abc", "other").await.expect(422, "idempotency-key-reused");
    make("def", "shop").await.expect(409, "already-exists");
    make("def", "new").await.expect(201, "");
}

#[tokio::test]
async fn the_description_says_where_etags_come_from_and_where_they_are_heeded() {
    let api = Api::start().await;
    let has = |list: &Value, name: &str| {
        list.as_array().into_iter().flatten().any(|parameter| parameter["name"] == name)
    };
    for (path, methods) in tollgate_api::openapi()["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if matches!(operation["x-permission"].as_str(), None | Some("none" | "signed-in")) {
                continue;
            }
            let path =
                path.replace("{realm}", "default").replace("{environment}", "test").replace(['{', '}'], "");
            let request = api
                .request(&method.to_ascii_uppercase(), &format!("/api/v1{path}"))
                .header("if-match", "no etag")
                .body(Body::from("{}"));
            let heeded = api.send(request.expect("a request")).await.body["code"] == "if-match-invalid";
            assert_eq!(heeded, has(&operation["parameters"], "If-Match"), "{method} {path}");
        }
    }

    api.save(true).await.expect(201, "");
    let place = "/environments/test";
    let set = |path: String, body: Value| {
        let api = &api;
        async move { api.call("PUT", &path, body).await.expect(200, "") }
    };
    set(format!("{REALM}{place}/globals/shop"), json!({ "value": 1 })).await;
    set(format!("{REALM}{place}/accounts/portal"), json!({ "fields": { "token": "s3cret" } })).await;
    api.call("POST", &format!("{REALM}/consumers"), json!({ "name": "shop", "environments": ["test"] }))
        .await
        .expect(201, "");
    api.call("POST", &format!("{REALM}{place}/deployments"), json!({ "pipeline": "orders" }))
        .await
        .expect(201, "");
    for (template, path) in [
        ("/realms/{realm}/pipelines/{name}", "/pipelines/orders".to_owned()),
        ("/realms/{realm}/policies/{name}", "/policies/external-api-access".to_owned()),
        (
            "/realms/{realm}/environments/{environment}/consumers/{consumer}",
            format!("{place}/consumers/shop"),
        ),
        (
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}",
            format!("{place}/deployments/orders"),
        ),
        ("/realms/{realm}/environments/{environment}/globals/{name}", format!("{place}/globals/shop")),
        ("/realms/{realm}/environments/{environment}/accounts/{name}", format!("{place}/accounts/portal")),
    ] {
        let reply = api.get(&format!("{REALM}{path}")).await.expect(200, "");
        assert!(reply.headers.contains_key("etag"), "{path}");
        let answers = &tollgate_api::openapi()["paths"][template]["get"]["responses"]["200"];
        assert!(answers["headers"]["ETag"].is_object(), "{template}");
        let request = api
            .request("DELETE", &format!("{REALM}{path}"))
            .header("if-match", "\"999999\"")
            .body(Body::empty());
        if !path.starts_with("/policies/") {
            api.send(request.expect("a request")).await.expect(412, "precondition-failed");
        }
    }
    assert!(!api.get(&format!("{REALM}{place}/accounts/portal")).await.body.to_string().contains("s3cret"));
    api.get(&format!("{REALM}{place}/globals/nope")).await.expect(404, "not-found");
    api.get(&format!("{REALM}{place}/accounts/nope")).await.expect(404, "not-found");
}

#[tokio::test]
async fn whatever_is_malformed_is_a_problem_that_says_what_to_do() {
    let api = Api::start().await;
    let before = api.head().await;
    let raw = |method: &str, path: &str, content_type: &str, body: String| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", api.token))
            .header("content-type", content_type);
        api.send(request.body(Body::from(body)).expect("a request"))
    };
    let consumers = format!("{REALM}/consumers");
    raw("POST", &consumers, "application/json", "{".to_owned()).await.expect(400, "body-invalid");
    raw("POST", &consumers, "text/plain", "{}".to_owned()).await.expect(415, "media-type-unsupported");
    raw("POST", &consumers, "application/json", " ".repeat(3 << 20)).await.expect(413, "request-too-large");
    let unknown = raw("POST", &consumers, "application/json", json!({ "nam": 1 }).to_string())
        .await
        .expect(422, "body-invalid");
    assert!(unknown.body["detail"].as_str().is_some_and(|text| text.contains("`nam`")), "{unknown:?}");
    let slug = raw(
        "POST",
        &consumers,
        "application/json",
        json!({ "name": "My Shop", "environments": ["test"] }).to_string(),
    )
    .await;
    assert!(
        slug.body["detail"].as_str().is_some_and(|text| text.contains("for example `my-shop`")),
        "{slug:?}"
    );
    let secret = json!({ "user": "admin", "password": 1_234_567_890 }).to_string();
    let reply = raw("POST", "/api/v1/login", "application/json", secret).await.expect(422, "body-invalid");
    assert!(!reply.body.to_string().contains("1234567890"), "a secret in the wrong type is repeated");

    api.get("/api/v1/nope").await.expect(404, "not-found");
    api.get("/nope").await.expect(404, "not-found");
    let method = api.call("DELETE", "/api/v1/version", Value::Null).await.expect(405, "method-not-allowed");
    assert!(method.headers["allow"].to_str().is_ok_and(|allow| allow.contains("GET")), "{method:?}");
    api.get("/api/v1/realms/nowhere/pipelines").await.expect(404, "not-found");
    api.get("/api/v1/realms/No%20Slug/pipelines").await.expect(404, "not-found");
    api.get(&format!("{REALM}/environments/moon/consumers")).await.expect(404, "not-found");
    api.get(&format!("{REALM}/pipelines?limit=x")).await.expect(422, "query-invalid");
    api.get(&format!("{REALM}/journal?kind=nope")).await.expect(422, "query-invalid");
    let id = api.call("POST", &format!("{REALM}/environments/test/keys/nope/revoke"), json!({})).await;
    let detail = id.expect(404, "not-found").body["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.starts_with("`nope` is not an id"), "{detail}");
    let whole = json!({ "environments": { "test": "any" } });
    let left_out = api.call("PUT", &format!("{REALM}/policies/external-api-access"), whole).await;
    assert_eq!(left_out.status, 422);
    assert!(left_out.body["detail"].as_str().is_some_and(|text| text.contains("`prod`")), "{left_out:?}");
    assert_eq!(api.head().await, before, "something was stored");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
    let api = Api::start().await;
    // From here on time passes as soon as there is nothing to do but wait.
    tokio::time::pause();
    let request = api.request("POST", "/api/v1/login").body(Body::new(Endless)).expect("a request");
    api.send(request).await.expect(408, "request-timeout");
}

#[tokio::test]
async fn other_names_other_sites_and_doubled_headers_are_refused() {
    let api = Api::start().await;
    let with_host = |host: &str| {
        api.send(
            Request::builder()
                .uri("/api/v1/version")
                .header("host", host)
                .body(Body::empty())
                .expect("a request"),
        )
    };
    for host in ["127.0.0.1:7000", "localhost", "[::1]:7000", "tollgate.example", "TOLLGATE.example:7000"] {
        assert_eq!(with_host(host).await.expect(200, "").body["version"], "9.9", "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
        assert!(matches!(with_host(host).await.status, 421 | 400), "{host}");
    }
    let doubled =
        api.request("GET", "/api/v1/whoami").header("authorization", "Bearer tgu_x").body(Body::empty());
    api.send(doubled.expect("a request")).await.expect(400, "request-malformed");

    let login = json!({ "user": "admin", "password": "open-sesame" });
    let plain = api.call("POST", "/api/v1/session", login.clone()).await.expect(204, "");
    assert!(
        !plain.headers["set-cookie"].to_str().expect("text").contains("Secure"),
        "it would not come back"
    );
    let over_tls = api
        .request("POST", "/api/v1/session")
        .header("origin", "https://tollgate.example")
        .body(Body::from(login.to_string()));
    let session = api.send(over_tls.expect("a request")).await.expect(204, "");
    let cookie = session.headers["set-cookie"].to_str().expect("text").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let by_cookie = |method: &str, requested_with: bool| {
        let mut request = Request::builder()
            .method(method)
            .uri(if method == "GET" { "/api/v1/whoami".to_owned() } else { "/api/v1/tokens".to_owned() })
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("cookie", &cookie);
        if requested_with {
            request = request.header("x-requested-with", "console");
        }
        api.send(request.body(Body::from(json!({ "name": "x" }).to_string())).expect("a request"))
    };
    by_cookie("GET", false).await.expect(200, "");
    by_cookie("POST", false).await.expect(403, "cross-site-request");
    by_cookie("POST", true).await.expect(201, "");
}

#[tokio::test]
async fn a_sign_in_says_nothing_about_who_exists_and_guessing_is_slowed_down() {
    let api = Api::start().await;
    let login = |user: &str, password: &str| {
        api.call("POST", "/api/v1/login", json!({ "user": user, "password": password }))
    };
    let wrong = login("admin", "wrong").await.expect(401, "login-failed");
    let nobody = login("nobody", "wrong").await.expect(401, "login-failed");
    assert_eq!(wrong.body["detail"], nobody.body["detail"]);
    let signed_in = login("admin", "open-sesame").await.expect(201, "");
    assert!(signed_in.body["token"].as_str().is_some_and(|token| token.starts_with("tgu_")));
    let mut refused = 0;
    for _ in 0..20 {
        refused += u32::from(login("admin", "wrong").await.status == StatusCode::TOO_MANY_REQUESTS.as_u16());
    }
    assert!(refused > 5, "{refused}");
}

#[tokio::test]
async fn a_token_that_was_revoked_or_signed_out_is_dead_at_once() {
    let api = Api::start().await;
    let made = api.call("POST", "/api/v1/tokens", json!({ "name": "ci" })).await.expect(201, "");
    let token = made.body["token"].as_str().expect("shown once").to_owned();
    let whoami = |token: &str| {
        let request = Request::builder()
            .uri("/api/v1/whoami")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"));
        api.send(request.body(Body::empty()).expect("a request"))
    };
    assert_eq!(whoami(&token).await.expect(200, "").body["user"], "admin");
    api.call("DELETE", &format!("/api/v1/tokens/{}", made.body["id"].as_str().expect("an id")), Value::Null)
        .await
        .expect(204, "");
    whoami(&token).await.expect(401, "unauthenticated");
    api.call("POST", "/api/v1/logout", json!({})).await.expect(204, "");
    whoami(&api.token.clone()).await.expect(401, "unauthenticated");
}

#[tokio::test]
async fn the_list_of_everybodys_tokens_has_nothing_that_could_be_used() {
    let api = Api::start().await;
    let made = api.call("POST", "/api/v1/tokens", json!({ "name": "ci" })).await.expect(201, "");
    let (plain, id) =
        (made.body["token"].as_str().expect("shown once"), made.body["id"].as_str().expect("an id"));
    let list = api.call("GET", "/api/v1/realms/default/tokens?user=admin", Value::Null).await.expect(200, "");
    let listed =
        list.body["items"].as_array().expect("items").iter().find(|it| it["id"] == id).expect("listed");
    let mut members: Vec<_> = listed.as_object().expect("an object").keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(
        members,
        ["createdAt", "expired", "expiresAt", "id", "kind", "madeBy", "name", "user", "userDisabled"]
    );
    let text = list.body.to_string();
    assert!(!text.contains(plain) && !text.contains("digest"), "{text}");
    let path = format!("/api/v1/realms/default/tokens/{id}");
    api.call("DELETE", &path, Value::Null).await.expect(204, "");
    let gone = api.call("DELETE", &path, Value::Null).await.expect(404, "not-found");
    assert_eq!(
        gone.body["next"],
        json!({ "step": "list-tokens-of-everybody", "request": "GET /api/v1/realms/{realm}/tokens" })
    );
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let api = Api::start().await;
    for n in 0..5 {
        let document = PIPELINE.replace("KEY", "true").replace("orders", &format!("p{n}"));
        api.call("POST", &format!("{REALM}/pipelines"), json!({ "document": document }))
            .await
            .expect(201, "");
    }
    let mut names = Vec::new();
    let mut path = format!("{REALM}/pipelines?limit=2");
    loop {
        let page = api.get(&path).await.expect(200, "").body;
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("{REALM}/pipelines?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
    let of = async |project: &str| {
        let list = api.get(&format!("{REALM}/pipelines?project={project}")).await.expect(200, "").body;
        list["items"].as_array().expect("items").len()
    };
    assert_eq!((of("store").await, of("other").await), (5, 0));
}

#[tokio::test]
async fn keys_are_identified_by_digests_and_never_by_anything_else() {
    let api = Api::start().await;
    let consumer = json!({ "name": "shop", "environments": ["test"], "pipelines": [] });
    let made = api.call("POST", &format!("{REALM}/consumers"), consumer).await.expect(201, "");
    let plain = made.body["items"][0]["key"]["key"].as_str().expect("a key").to_owned();
    let digest =
        tollgate_credential::keys::PresentedKey::parse(plain.as_bytes(), &"test".parse().expect("a name"))
            .expect("a key")
            .digest()
            .to_string();
    let path = format!("{REALM}/environments/test/keys/identify");
    let told = api.call("POST", &path, json!({ "digests": [digest] })).await.expect(200, "");
    assert_eq!(told.body["items"][0]["digest"], digest);
    let key = &told.body["items"][0]["key"];
    assert_eq!((&key["consumer"], &key["state"]), (&json!("shop"), &json!("active")));
    assert!(!told.body.to_string().contains(&plain));
    // A key that is sent by mistake is refused and not repeated.
    let refused = api.call("POST", &path, json!({ "digests": [plain] })).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(!refused.body.to_string().contains(&plain), "{refused:?}");
    api.call("POST", &path, json!({ "digests": vec![digest; 501] })).await.expect(422, "invalid");
}

#[tokio::test]
async fn evidence_is_there_for_whoever_verifies() {
    let api = Api::start().await;
    api.save(true).await.expect(201, "");
    let deployments = format!("{REALM}/environments/test/deployments");
    let deployed = api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(201, "").body;
    let deployment = &deployed["deployment"];

    // The keys are for everybody; what they signed is for those who may read deployments.
    let asked = Request::get("/.well-known/tollgate-evidence-keys.json").header("host", "127.0.0.1:7000");
    let published = api.send(asked.body(Body::empty()).expect("a request")).await.expect(200, "");
    assert_eq!(published.body["keys"][0]["crv"], "Ed25519");
    assert_eq!(api.get("/api/v1/evidence-keys").await.expect(200, "").body, published.body);
    let attestation = format!("{deployments}/orders/attestation");
    let envelope = api.get(&attestation).await.expect(200, "").body;
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    assert_eq!(envelope["signatures"][0]["keyid"], published.body["keys"][0]["kid"]);
    let id = deployment["attestation"].as_str().expect("an id");
    assert_eq!(api.get(&format!("{attestation}?id={id}")).await.expect(200, "").body, envelope);
    let of = format!("{attestation}?deployment={}", deployment["id"].as_str().expect("an id"));
    assert_eq!(api.get(&of).await.expect(200, "").body, envelope);
    api.get(&format!("{attestation}?id=att_0123")).await.expect(422, "query-invalid");
    let unknown = format!("{attestation}?id=att_00000000000070008000000000000000");
    api.get(&unknown).await.expect(404, "attestation-missing");
    let listed =
        api.get(&format!("{REALM}/attestations?environment=test&pipeline=orders")).await.expect(200, "");
    let item = &listed.body["items"][0];
    assert_eq!(
        (&item["id"], &item["sha256"], &item["kid"]),
        (&deployment["attestation"], &deployment["sha256"], &envelope["signatures"][0]["keyid"])
    );
    api.get(&format!("{REALM}/attestations?pipeline=orders")).await.expect(422, "invalid");

    // The same digest wherever a version is shown.
    let versions = format!("{REALM}/pipelines/orders/versions");
    let history = api.get(&format!("{deployments}/orders/history")).await.body;
    for shown in [
        &api.get(&format!("{versions}/1.0")).await.body["sha256"],
        &api.get(&versions).await.body["items"][0]["sha256"],
        &history["items"][0]["sha256"],
    ] {
        assert_eq!(shown, &deployment["sha256"]);
    }

    // With a checkpoint kept elsewhere, with a body and without.
    let checkpoint =
        api.call("POST", &format!("{REALM}/journal/checkpoint"), Value::Null).await.expect(200, "").body;
    assert_eq!(api.get(&format!("{REALM}/journal/checkpoint")).await.expect(200, "").body, checkpoint);
    let verify = format!("{REALM}/journal/verify");
    for body in [Value::Null, json!({})] {
        let report = api.call("POST", &verify, body).await.expect(200, "").body;
        assert_eq!((&report["intact"], &report["headHash"]), (&json!(true), &checkpoint["hash"]));
        assert_eq!(report["checkpoints"]["newest"], checkpoint);
    }
    let given =
        api.call("POST", &verify, json!({ "checkpoint": checkpoint["note"] })).await.expect(200, "").body;
    assert_eq!(given["checkpoints"]["given"], checkpoint);
    let forged = checkpoint["note"].as_str().expect("a note").replacen("time 2", "time 3", 1);
    let report = api.call("POST", &verify, json!({ "checkpoint": forged })).await.expect(200, "").body;
    assert_eq!((&report["intact"], &report["entries"]), (&json!(false), &Value::Null));
    api.call("POST", &verify, json!({ "checkpoint": "nothing" })).await.expect(422, "invalid");
    api.call("POST", &verify, json!({ "what": 1 })).await.expect(422, "body-invalid");
    let text = Request::post(&verify)
        .header("host", "127.0.0.1:7000")
        .header("authorization", format!("Bearer {}", api.token))
        .header("content-type", "text/plain");
    api.send(text.body(Body::from("{}")).expect("a request")).await.expect(415, "media-type-unsupported");

    let head = api.head().await;
    let losses = format!("{REALM}/journal/losses");
    api.call("POST", &losses, json!({ "reason": "a backup" })).await.expect(409, "nothing-lost");
    api.call("POST", &losses, json!({ "reason": "" })).await.expect(422, "invalid");
    assert_eq!(api.head().await, head);
    let rotated = api.call("POST", "/api/v1/evidence-keys/rotate", Value::Null).await.expect(201, "").body;
    assert!(rotated["publicJwk"].get("d").is_none() && rotated.get("sealedPrivate").is_none(), "{rotated}");
    let keys = api.get("/api/v1/evidence-keys").await.body;
    assert_eq!(keys["keys"][1]["kid"], rotated["kid"]);
    assert!(keys["keys"][0]["retiredAt"].is_string());
}
