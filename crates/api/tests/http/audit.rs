//! The journal through the API: who was refused, what was before, exports, and questions to the past.

use std::time::Duration;

use axum::body::Body;
use serde_json::{Value, json};

use crate::{Api, REALM, Reply};

impl Api {
    /// Lists the journal with these parameters, oldest first.
    async fn journal(&self, parameters: &str) -> Vec<Value> {
        let path = format!("{REALM}/journal?order=oldest&limit=500&{parameters}");
        self.get(&path).await.expect(200, "").body["items"].as_array().expect("items").clone()
    }

    /// Sends a request with another token, or without one.
    async fn as_other(&self, method: &str, path: &str, token: Option<&str>) -> Reply {
        let mut request = self.request(method, path).body(Body::from("{}")).expect("a request");
        let headers = request.headers_mut();
        headers.remove("authorization");
        if let Some(token) = token {
            headers.insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        }
        self.send(request).await
    }

    async fn flush(&self) {
        assert_eq!(self.app.refusals().flush().await, 0);
    }

    async fn text(&self, path: &str) -> (String, String) {
        let reply = self.get(path).await.expect(200, "");
        let media_type = reply.headers["content-type"].to_str().expect("text").to_owned();
        (media_type, reply.body.as_str().expect("text that is not JSON").to_owned())
    }
}

fn column<'a>(entries: &'a [Value], field: &str) -> Vec<&'a str> {
    entries.iter().map(|entry| entry[field].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn whoever_is_refused_is_found_by_what_they_did() {
    let api = Api::start().await;
    let deployments = format!("{REALM}/environments/test/deployments");
    api.save(false).await.expect(201, "");
    api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(422, "policy-refused");
    let policy = format!("{REALM}/policies/external-api-access");
    let change = json!({ "environments": { "test": "any", "prod": "any" } });
    let stale =
        api.request("PUT", &policy).header("if-match", "\"1234\"").body(Body::from(change.to_string()));
    api.send(stale.expect("a request")).await.expect(412, "precondition-failed");
    let login = |user: &str| json!({ "user": user, "password": "hunter2" });
    api.call("POST", "/api/v1/login", login("admin")).await.expect(401, "login-failed");
    api.call("POST", "/api/v1/login", login("hunter3")).await.expect(401, "login-failed");
    let consumer = format!("{REALM}/environments/prod/consumers/shop");
    for token in [None, Some("tgu_made-up")] {
        api.as_other("DELETE", &consumer, token).await.expect(401, "unauthenticated");
    }
    let mut cookie = api.request("DELETE", &consumer).body(Body::empty()).expect("a request");
    cookie.headers_mut().remove("authorization");
    cookie.headers_mut().insert("cookie", "tollgate_session=x".parse().expect("a header"));
    let crossed = api.send(cookie).await;
    assert!(matches!(crossed.status, 401 | 403), "{crossed:?}");
    // Input that is not valid, or names what is not there, is no attempt.
    api.call("POST", &deployments, json!({ "pipeline": 7 })).await.expect(422, "body-invalid");
    api.call("DELETE", &consumer, Value::Null).await.expect(404, "not-found");
    api.get(&format!("{REALM}/journal?kind=nothing")).await.expect(422, "query-invalid");
    // What changes nothing is no attempt either.
    let rehearsal = json!({ "pipeline": "orders", "dryRun": true });
    api.call("POST", &deployments, rehearsal).await.expect(422, "policy-refused");

    // Those of the admin were stored before they were answered.
    let durable = api.journal("outcome=refused").await;
    assert_eq!(column(&durable, "code"), ["policy-refused", "precondition-failed"]);
    assert_eq!(column(&durable, "action"), ["deployment.deploy", "policy.set"]);
    assert_eq!(durable[0]["about"], json!({ "kind": "deployment", "key": "test/orders/v1" }));
    assert_eq!(durable[0]["environment"], "test");
    assert_eq!(durable[1]["about"], json!({ "kind": "policies", "key": "external-api-access" }));
    assert_eq!(durable[1]["operation"], "PUT /realms/{realm}/policies/{name}");
    api.flush().await;
    let refused = api.journal("outcome=refused").await;
    let nobody = api.journal("actor=nobody&outcome=refused").await;
    assert_eq!((refused.len(), nobody.len()), (2 + 3, 3), "{nobody:#?}");
    let sign_ins = api.journal("action=user.sign-in").await;
    let [sign_in] = sign_ins.as_slice() else { panic!("{sign_ins:#?}") };
    assert_eq!((&sign_in["code"], &sign_in["count"]), (&json!("login-failed"), &json!(2)));
    let made_up = api.journal("kind=consumer&key=prod%2Fshop&action=consumer.delete").await;
    let codes: Vec<_> = made_up.iter().map(|entry| (entry["code"].clone(), entry["count"].clone())).collect();
    assert!(codes.contains(&(json!("unauthenticated"), json!(2))), "{codes:?}");
    assert!(codes.contains(&(json!("cross-site-request"), json!(1))), "{codes:?}");

    let journal = json!(api.journal("").await).to_string();
    assert!(!journal.contains("hunter") && !journal.contains("made-up"), "{journal}");
    api.call("POST", &format!("{REALM}/journal/verify"), json!({})).await.expect(200, "");
}

#[tokio::test]
async fn an_attempt_is_found_by_the_id_of_its_request_and_by_time() {
    let api = Api::start().await;
    api.save(false).await.expect(201, "");
    api.clock.advance(Duration::from_secs(3600));
    let deployments = format!("{REALM}/environments/test/deployments");
    let reply =
        api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(422, "policy-refused");
    let id = reply.body["requestId"].as_str().expect("an id");
    let entries = api.journal(&format!("requestId={id}")).await;
    assert_eq!(column(&entries, "code"), ["policy-refused"]);
    assert_eq!(api.journal("since=2026-01-01T01:00:00Z").await, entries);
    assert_eq!(api.journal("since=2026-01-01T01:00:00Z&until=2026-01-01T01:00:00.000000001Z").await, entries);
    let before = api.journal("until=2026-01-01T01:00:00Z").await;
    assert!(!before.is_empty() && column(&before, "outcome").iter().all(|outcome| *outcome == "done"));
    assert_eq!(api.journal("source=192.0.2.7").await.len(), 0);
    // Pages go on where the one before ended, with any filter.
    let (mut cursor, mut seen) = (String::new(), 0);
    loop {
        let page =
            api.get(&format!("{REALM}/journal?outcome=done&limit=2{cursor}")).await.expect(200, "").body;
        seen += page["items"].as_array().map_or(0, Vec::len);
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, before.len());
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_refused() {
    let api = Api::start().await;
    let before = api.head().await;
    for (parameters, code) in [
        ("kind=nothing", "query-invalid"),
        ("outcome=lost", "query-invalid"),
        ("since=yesterday", "query-invalid"),
        ("until=2026-01-01", "query-invalid"),
        ("actr=admin", "query-invalid"),
        ("cursor=-1", "query-invalid"),
        ("key=test%2Fshop", "invalid"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "invalid"),
    ] {
        for path in ["journal", "journal/export"] {
            if (path, parameters) != ("journal/export", "cursor=-1") {
                api.get(&format!("{REALM}/{path}?{parameters}")).await.expect(422, code);
            }
        }
    }
    api.get(&format!("{REALM}/journal/export?format=xml")).await.expect(422, "query-invalid");
    api.get(&format!("{REALM}/journal/export?format=csv&chain=true")).await.expect(422, "query-invalid");
    api.get(&format!("{REALM}/journal/x")).await.expect(404, "not-found");
    api.get(&format!("{REALM}/journal/99999")).await.expect(404, "not-found");
    assert_eq!(api.head().await, before);
}

#[tokio::test]
async fn an_entry_shows_before_and_after_and_no_secret() {
    let api = Api::start().await;
    let policy = format!("{REALM}/policies/external-api-access");
    let set =
        |value: &str| json!({ "environments": { "test": value, "prod": "api-key" }, "reason": "because" });
    api.call("PUT", &policy, set("any")).await.expect(200, "");
    let seq = api.head().await;
    let entry = api.get(&format!("{REALM}/journal/{seq}")).await.expect(200, "").body;
    assert_eq!(
        (&entry["seq"], &entry["reason"], &entry["outcome"]),
        (&json!(seq), &json!("because"), &json!("done"))
    );
    assert!(
        ["hash", "previousHash"].iter().all(|hash| entry[hash].as_str().is_some_and(|it| it.len() == 64))
    );
    let changes = entry["changes"].as_array().expect("changes");
    let policies = changes.iter().find(|change| change["kind"] == "policies").expect("the policies");
    let fields = policies["fields"].as_array().expect("fields").clone();
    let found = fields.iter().find(|field| field["before"] == "api-key").expect("the value of test");
    assert!(found["pointer"].as_str().is_some_and(|pointer| pointer.contains("/test")), "{found}");
    assert_eq!((&found["after"], &policies["previous"]), (&json!("any"), &json!(1)));

    let first_users = api.journal("kind=user").await;
    let shown = api.get(&format!("{REALM}/journal/{}", first_users[0]["seq"])).await.expect(200, "").body;
    let hidden: Vec<_> = shown["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|change| change["fields"].as_array().cloned().unwrap_or_default())
        .filter(|field| field["after"] == "(masked)")
        .map(|field| field["pointer"].clone())
        .collect();
    assert_eq!(hidden, ["/passwordHash", "/digest"]);
    assert!(!shown.to_string().contains("argon2"), "{shown}");
}

#[tokio::test]
async fn an_export_is_the_list_as_a_file() {
    let api = Api::start().await;
    api.save(false).await.expect(201, "");
    let deployments = format!("{REALM}/environments/test/deployments");
    api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(422, "policy-refused");
    let policy = format!("{REALM}/policies/external-api-access");
    let change = json!({ "environments": { "test": "any", "prod": "api-key" }, "reason": "=1+1, \"so\"" });
    api.call("PUT", &policy, change).await.expect(200, "");
    let listed = api.journal("").await;

    let (media_type, jsonl) = api.text(&format!("{REALM}/journal/export")).await;
    assert_eq!(media_type, "application/jsonl");
    let lines: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for field in ["seq", "at", "actor", "source", "action", "requestId", "reason", "outcome", "hash"] {
        let of = |entries: &[Value]| entries.iter().map(|entry| entry[field].clone()).collect::<Vec<_>>();
        assert_eq!(of(&lines), of(&listed), "{field}");
    }
    assert!(!jsonl.contains("argon2") && jsonl.contains("(masked)"));

    let (media_type, csv) = api.text(&format!("{REALM}/journal/export?format=csv&outcome=refused")).await;
    assert_eq!(media_type, "text/csv; charset=utf-8; header=present");
    let rows: Vec<&str> = csv.trim_end_matches("\r\n").split("\r\n").collect();
    assert!(rows[0].starts_with("seq,at,realm,actor,") && rows.len() == 2, "{csv}");
    assert!(
        rows[1].contains(",deployment.deploy,refused,policy-refused,1,test,deployment test/orders/v1,"),
        "{csv}"
    );
    let (_, csv) = api.text(&format!("{REALM}/journal/export?format=csv&action=policy.set")).await;
    assert!(csv.contains(",\"'=1+1, \"\"so\"\"\","), "{csv}");

    // Nothing found: a header, and no line.
    let (_, csv) = api.text(&format!("{REALM}/journal/export?format=csv&actor=somebody")).await;
    assert_eq!(csv.lines().count(), 1);
    let empty = api.get(&format!("{REALM}/journal/export?actor=somebody")).await.expect(200, "");
    assert_eq!(empty.body, "");
    // With the chain, all entries are there, and those that were not asked for say nothing.
    let (_, chain) = api.text(&format!("{REALM}/journal/export?chain=true&outcome=refused")).await;
    let lines: Vec<Value> = chain.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), listed.len());
    assert_eq!(lines.iter().filter(|line| line.get("actor").is_some()).count(), 1);
}

#[tokio::test]
async fn what_was_is_answered_as_of_a_time_where_that_has_an_answer() {
    let api = Api::start().await;
    api.clock.advance(Duration::from_secs(60));
    api.save(true).await.expect(201, "");
    let deployments = format!("{REALM}/environments/test/deployments");
    api.call("POST", &deployments, json!({ "pipeline": "orders" })).await.expect(201, "");
    api.clock.advance(Duration::from_secs(60));
    api.call("DELETE", &format!("{deployments}/orders"), Value::Null).await.expect(204, "");
    api.call("DELETE", &format!("{REALM}/pipelines/orders"), Value::Null).await.expect(204, "");

    let then = "asOf=2026-01-01T00:01:30Z";
    let names = |reply: Reply, field: &str| -> Vec<Value> {
        let items = reply.body["items"].as_array().expect("items").clone();
        items.iter().map(|item| item[field].clone()).collect()
    };
    let now = api.get(&format!("{REALM}/pipelines")).await.expect(200, "");
    assert_eq!(names(now, "name"), Vec::<Value>::new());
    let past = api.get(&format!("{REALM}/pipelines?{then}&limit=5")).await.expect(200, "");
    assert_eq!(names(past, "name"), ["orders"]);
    let past = api.get(&format!("{REALM}/deployments?environment=test&{then}")).await.expect(200, "");
    assert_eq!(names(past, "pipeline"), ["orders"]);
    let got = api.get(&format!("{REALM}/pipelines/orders?{then}")).await.expect(200, "");
    assert_eq!(got.body["latest"], "1.0");
    api.get(&format!("{REALM}/pipelines/orders")).await.expect(404, "not-found");
    let report = api.get(&format!("{REALM}/conformance?environment=test&{then}")).await.expect(200, "");
    assert_eq!(report.body["environments"][0]["conformant"], 1);
    let earlier =
        api.get(&format!("{REALM}/conformance?asOf=2026-01-01T00:00:30%2B00:00")).await.expect(200, "");
    assert_eq!(earlier.body["environments"][0]["deployments"], 0);

    for (path, code) in [
        ("pipelines?asOf=2026-01-01T00:02:00.1Z", "time-in-future"),
        ("pipelines?asOf=2025-12-31T23:59:59Z", "time-before-realm"),
        ("pipelines?asOf=yesterday", "query-invalid"),
        ("pipelines?asOf=", "query-invalid"),
        ("pipelines?asOf", "query-invalid"),
        ("pipelines?asOf=2026-01-01T00:01:00Z&asOf=2026-01-01T00:02:00Z", "query-invalid"),
        ("usage?asOf=2026-01-01T00:01:00Z", "query-invalid"),
        ("journal?asOf=2026-01-01T00:01:00Z", "query-invalid"),
    ] {
        let reply = api.get(&format!("{REALM}/{path}")).await.expect(422, code);
        assert!(reply.body["hint"].is_string(), "{reply:?}");
    }
    // Nothing is changed as of a time.
    let before = api.head().await;
    api.call("DELETE", &format!("{REALM}/pipelines/orders?{then}"), Value::Null)
        .await
        .expect(422, "query-invalid");
    assert_eq!(api.head().await, before);
}
