//! Policies at call time: deployments that do not conform, and fields that are never shown.

use std::time::Duration;

use serde_json::json;
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::policies::Policies;
use tollgate_model::waivers::Waiver;

use crate::attacks::LOG;
use crate::world::{Reply, World, get, request};

const DAY: u64 = 24 * 60 * 60;
const OPEN: &str = "/pipeline/default/v1/open";
const KEYED: &str = "/pipeline/default/v1/keyed";

fn pipeline(name: &str, switches: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, steps: [{{json: {{ok: true}}}}], \
         trigger: {{type: rest, externalApi: true {switches}}}}}"
    )
}

/// `open` demands no key, which the policies do, from a day after now on at the gateway.
fn world(seed: u64) -> World {
    let mut world = World::seeded(seed);
    let own = ", responseHeaders: { sunset: 'Fri, 31 Dec 2100 00:00:00 GMT' }, \
               cors: { allowOrigins: ['https://shop.example'], allowMethods: [GET] }";
    world.deploy(&pipeline("open", own));
    world.deploy(&pipeline("keyed", ", apiKey: true"));
    world.enforce_in(DAY as i64);
    world
}

fn waive(world: &mut World, days: i64) {
    let waiver: Waiver = serde_json::from_value(json!({ "id": format!("wvr_{}", "1".repeat(32)),
        "pipeline": "open", "environment": "test", "policy": "external-api-access", "code": "missing-api-key",
        "until": (world.now() + jiff::SignedDuration::from_hours(24 * days)).to_string(), "reason": "being mended",
        "createdAt": world.now().to_string(), "createdBy": "admin" }))
    .expect("a waiver");
    world.put(&waiver);
}

async fn call(world: &World, path: &str) -> Reply {
    world.call(&EnvironmentName::test(), get(path, &[])).await
}

fn announced(reply: &Reply) -> (&str, &str) {
    (reply.header("deprecation"), reply.header("sunset"))
}

#[tokio::test]
async fn callers_are_told_until_the_date_and_refused_from_then_on() {
    let world = world(11);
    world.publish();
    let (since, until) = (format!("@{}", world.now().as_second()), world.now() + Duration::from_secs(DAY));
    let until =
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&until).expect("a date");

    let reply = call(&world, OPEN).await;
    assert_eq!((reply.status.as_u16(), announced(&reply)), (200, (since.as_str(), until.as_str())));
    let reply = world.call(&EnvironmentName::test(), request("PUT", OPEN, &[], "")).await;
    assert_eq!((reply.code(), announced(&reply)), ("method-not-allowed", (since.as_str(), until.as_str())));
    assert_eq!(announced(&call(&world, KEYED).await), ("", ""), "it conforms");
    let prod = world.call(&EnvironmentName::prod(), get(OPEN, &[])).await;
    assert_eq!((prod.status.as_u16(), prod.header("deprecation")), (200, ""), "enforced at deploy time only");

    world.clock.advance(Duration::from_secs(DAY - 1));
    assert_eq!(call(&world, OPEN).await.status.as_u16(), 200);
    world.clock.advance(Duration::from_secs(1));
    let reply = call(&world, OPEN).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (403, "policy-not-conformant"));
    assert_eq!(announced(&reply), ("", ""));
    assert_eq!(call(&world, KEYED).await.code(), "api-key-missing", "it conforms");
    let prod = world.call(&EnvironmentName::prod(), get(OPEN, &[])).await;
    assert_eq!(prod.status.as_u16(), 200);
}

#[tokio::test]
async fn the_reason_stands_in_the_log_and_not_in_the_answer() {
    let (log, world) = (&*LOG, world(12));
    world.publish();
    world.clock.advance(Duration::from_secs(DAY));
    let reply = call(&world, OPEN).await;
    assert!(!reply.text.contains("API") && !reply.text.contains("external"), "{reply:?}");
    let line = log.line_of(&reply);
    assert_eq!(line["code"], "policy-not-conformant");
    assert_eq!(
        line["reason"],
        "Missing external API Key (policy external-api-access, environment test): set /trigger/apiKey to true, \
         or /trigger/mtls where callers show client certificates"
    );
}

#[tokio::test]
async fn a_page_in_a_browser_can_read_why_it_is_refused() {
    let world = world(13);
    world.publish();
    world.clock.advance(Duration::from_secs(DAY));
    let origin = ("origin", "https://shop.example");
    let asks = [origin, ("access-control-request-method", "GET")];
    let preflight = world.call(&EnvironmentName::test(), request("OPTIONS", OPEN, &asks, "")).await;
    assert_eq!(preflight.status.as_u16(), 204);
    let reply = world.call(&EnvironmentName::test(), get(OPEN, &[origin])).await;
    assert_eq!(reply.code(), "policy-not-conformant");
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
}

#[tokio::test]
async fn a_waiver_that_ends_after_the_date_refuses_from_its_end_on_by_itself() {
    let mut world = world(14);
    waive(&mut world, 3);
    world.publish();
    world.clock.advance(Duration::from_secs(2 * DAY));
    let reply = call(&world, OPEN).await;
    assert_eq!(reply.status.as_u16(), 200);
    assert_ne!(reply.header("deprecation"), "", "callers are told although it conforms today");
    world.clock.advance(Duration::from_secs(DAY));
    assert_eq!(call(&world, OPEN).await.code(), "policy-not-conformant");
}

#[tokio::test]
async fn without_policies_that_can_be_read_no_call_is_let_through() {
    let mut world = world(15);
    world.spoil::<Policies>();
    let snapshot = world.publish();
    for path in [OPEN, KEYED] {
        let reply = call(&world, path).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (503, "check-unavailable"), "{path}");
    }
    assert_eq!(snapshot.problems(), ["stored policies `current` of realm `default` does not parse"]);
    assert_eq!(call(&world, "/elsewhere").await.code(), "route-not-found");
}

#[tokio::test]
async fn a_schedule_runs_whatever_its_pipeline_breaks_and_not_without_policies() {
    let mut world = world(16);
    world.deploy(
        "{kind: Pipeline, name: nightly, project: store, steps: [{json: {a: '{{ metadata.pipeline }}'}}], \
         trigger: {type: scheduler, cron: '0 6 * * *'}}",
    );
    world.policy(
        json!({ "name": "no-schedules", "condition": "trigger.type != 'scheduler'", "message": "none",
        "environments": { "test": "required", "prod": "required" } }),
    );
    world.enforce_in(0);
    let snapshot = world.publish();
    assert_eq!(world.gateway.run_scheduled(&snapshot, &snapshot.schedules()[0]).await.status.as_u16(), 200);
    world.spoil::<Policies>();
    let snapshot = world.publish();
    let run = world.gateway.run_scheduled(&snapshot, &snapshot.schedules()[0]).await;
    assert_eq!(run.error.as_deref(), Some("check-unavailable"));
}

#[tokio::test]
async fn a_version_that_cannot_be_read_is_not_let_through() {
    let mut world = world(17);
    world.spoil::<PipelineVersion>();
    world.publish();
    assert_eq!(call(&world, OPEN).await.code(), "check-unavailable");
}

#[tokio::test]
async fn sensitive_fields_of_the_policy_are_hidden_in_running_flows_from_the_next_snapshot_on() {
    let (log, mut world) = (&*LOG, World::seeded(18));
    world.deploy(
        "{kind: Pipeline, name: notes, project: store, sensitiveFields: [phone], \
         trigger: {type: http, methods: [POST], externalApi: true, routes: ['/of/:iban']}, \
         steps: [{log: {message: 'noted {{ message }}'}}]}",
    );
    let test = EnvironmentName::test();
    let send = async |world: &World, nonce: &str| {
        let secret = |what: &str| format!("{what}-{nonce}");
        let body =
            json!({ "a": [{ "email": secret("mail"), "Email": secret("other") }], "phone": secret("phone") });
        let path = format!("/pipeline/default/v1/of/{}?email={}", secret("iban"), secret("query"));
        let headers = [("content-type", "application/json"), ("x-email", &secret("header"))];
        world.call(&test, request("POST", &path, &headers, &body.to_string())).await;
    };
    let seen = |what: &str, nonce: &str| log.text().contains(&format!("{what}-{nonce}"));

    world.publish();
    send(&world, "before").await;
    assert!(seen("mail", "before") && seen("header", "before") && !seen("phone", "before"));
    world.policy(
        json!({ "name": "sensitive-fields", "environments": { "test": ["email", "iban", "x-email"] } }),
    );
    world.publish();
    send(&world, "after").await;
    for hidden in ["mail", "query", "header", "iban", "phone"] {
        assert!(!seen(hidden, "after"), "{hidden} stands in the log");
    }
    assert!(seen("other", "after"), "names of fields are case-sensitive");
}
