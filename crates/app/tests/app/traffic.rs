//! What became of calls, the live log, and what a deployment offers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;
use tollgate_app::access::{Extent, Op, Permission, Reach, Rights};
use tollgate_app::errors::ErrorKind;
use tollgate_app::keys::Expiry;
use tollgate_app::lists::ListRequest;
use tollgate_app::recent_calls::{Ended, RecentFilter};
use tollgate_app::traffic::{TrafficQuery, TrafficRange};
use tollgate_model::environments::Exposure;
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, ProjectName};
use tollgate_model::recent_calls::{RecentCall, RecentCalls};
use tollgate_model::traffic::{AnswerClass, CountedTraffic, Measure, TrafficCaller};
use tollgate_model::versions::Version;
use tollgate_store::{TrafficFilter, TrafficGrouping};

use crate::refused_calls::FakeGateway;
use crate::world::{KEYED, World, consumer, new_key, pipeline};

/// Counts calls in `test`, so many minutes ago.
async fn count(
    world: &World,
    minutes_ago: i64,
    name: Option<&str>,
    caller: Option<&str>,
    measure: Measure,
    calls: u64,
) {
    let of = CountedTraffic {
        realm: world.op.realm.clone(),
        environment: EnvironmentName::test(),
        pipeline: name.map(|name| (pipeline(name), 1)),
        minute: world.op.now.as_second().div_euclid(60) - minutes_ago,
        caller: caller.map_or(TrafficCaller::Unknown, |name| TrafficCaller::Consumer(consumer(name))),
        measure,
    };
    let mut counts = BTreeMap::from([(of, calls)]);
    let batch = world.app.traffic().batch(&mut counts).unwrap();
    world.app.traffic().add(&batch).await.unwrap();
}

fn answer(class: AnswerClass) -> Measure {
    Measure::Answer(class)
}

fn refused(code: &str) -> Measure {
    Measure::Code(AnswerClass::ClientError, code.to_owned())
}

fn every_call(range: &str) -> TrafficQuery {
    TrafficQuery { range: TrafficRange::parse(Some(range)).unwrap(), ..TrafficQuery::default() }
}

#[tokio::test]
async fn traffic_is_told_step_by_step_and_by_pipeline_consumer_and_problem() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    count(&world, 0, Some("shop"), Some("ann"), answer(AnswerClass::Successful), 6).await;
    count(&world, 2, Some("shop"), Some("ann"), answer(AnswerClass::ServerError), 1).await;
    count(&world, 2, Some("shop"), None, answer(AnswerClass::ClientError), 3).await;
    count(&world, 2, Some("shop"), None, refused("api-key-missing"), 3).await;
    count(&world, 2, None, None, answer(AnswerClass::ClientError), 2).await;
    count(&world, 2, None, None, refused("route-not-found"), 2).await;
    count(&world, 0, Some("shop"), Some("ann"), Measure::Took(3), 10).await;
    count(&world, 200, Some("shop"), Some("ann"), answer(AnswerClass::Successful), 100).await;

    let traffic = world.app.traffic();
    let report = traffic.report(&world.op, &every_call("1h")).await.unwrap();
    assert_eq!((report.points.len(), report.step_minutes), (60, 1));
    assert!(report.since < world.op.now && world.op.now < report.until);
    let total = &report.total;
    assert_eq!((total.calls(), total.refused(), total.failed()), (12, 5, 1));
    let codes: Vec<_> = total.codes().into_iter().map(|(_, code, calls)| (code.to_owned(), calls)).collect();
    assert_eq!(codes, [("api-key-missing".to_owned(), 3), ("route-not-found".to_owned(), 2)]);
    assert_eq!(total.percentile_us(50), Some(7_500));
    let last: Vec<_> = report.points.iter().rev().take(3).map(|point| point.tally.calls()).collect();
    assert_eq!(last, [6, 0, 6]);
    let by: Vec<_> = report
        .pipelines
        .iter()
        .map(|it| (it.pipeline.as_ref().map_or("-", |(name, _)| name.as_str()), it.tally.calls()))
        .collect();
    assert_eq!(by, [("shop", 10), ("-", 2)]);
    let by: Vec<_> = report.consumers.iter().map(|it| (it.caller.clone(), it.tally.calls())).collect();
    assert_eq!(by, [(TrafficCaller::Consumer(consumer("ann")), 7), (TrafficCaller::Unknown, 5)]);

    let calls = async |query: &TrafficQuery| traffic.report(&world.op, query).await.unwrap().total.calls();
    assert_eq!(calls(&every_call("6h")).await, 112);
    let of_ann = TrafficQuery { consumer: Some(consumer("ann")), ..every_call("24h") };
    assert_eq!(calls(&of_ann).await, 107);
    let of_shop = TrafficQuery { pipeline: Some(pipeline("shop")), ..every_call("1h") };
    assert_eq!(calls(&of_shop).await, 10);
    let nowhere = TrafficQuery { pipeline: Some(pipeline("nowhere")), ..every_call("1h") };
    assert_eq!(traffic.report(&world.op, &nowhere).await.unwrap_err().kind, ErrorKind::NotFound);
    let nowhere = TrafficQuery { environment: Some("nowhere".parse().unwrap()), ..every_call("1h") };
    assert_eq!(traffic.report(&world.op, &nowhere).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn whoever_reads_one_project_learns_nothing_of_another() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    let mut other = crate::world::document("secret", KEYED);
    other.document = other.document.replace("project: store", "project: other");
    world.app.pipelines().save(&world.op, other).await.unwrap();
    for name in ["shop", "secret"] {
        count(&world, 1, Some(name), Some("ann"), answer(AnswerClass::Successful), 5).await;
    }
    count(&world, 1, None, None, answer(AnswerClass::ClientError), 7).await;
    let reach = |environments, project| Reach {
        environments,
        projects: Extent::Only([ProjectName::parse(project).unwrap()].into()),
    };
    let of = |reach: &Reach| world.with(Rights::of([Permission::UsageRead], reach));
    let store = of(&reach(Extent::All, "store"));
    let report = world.app.traffic().report(&store, &every_call("1h")).await.unwrap();
    assert_eq!(report.total.calls(), 5);
    let names: Vec<_> = report.pipelines.iter().map(|it| it.pipeline.clone()).collect();
    assert_eq!(names, [Some((pipeline("shop"), 1))]);
    assert_eq!(report.consumers.iter().map(|it| it.tally.calls()).sum::<u64>(), 5);
    let asked = TrafficQuery { pipeline: Some(pipeline("secret")), ..every_call("1h") };
    let error = world.app.traffic().report(&store, &asked).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "as if it were not there");
    // Nor of what was added up for somebody who may see everything.
    let soon = async |op: &Op| {
        let mut reports = world.app.traffic().reports_soon(op, &[every_call("1h")]).await.unwrap();
        reports.pop().unwrap().unwrap().expect("little is added up within the moment")
    };
    assert_eq!(soon(&world.op).await.total.calls(), 17);
    assert_eq!(soon(&store).await, report);
    let both = [pipeline("shop"), pipeline("secret")];
    let named =
        world.app.traffic().of_pipelines(&store, &world.test, &both, TrafficRange::Hour).await.unwrap();
    let named: Vec<_> = named.into_iter().map(|it| (it.pipeline, it.tally.calls())).collect();
    assert_eq!(named, [(Some((pipeline("shop"), 1)), 5)]);
    let prod = of(&reach(Extent::Only([EnvironmentName::prod()].into()), "store"));
    assert_eq!(world.app.traffic().report(&prod, &every_call("1h")).await.unwrap().total.calls(), 0);
}

#[tokio::test]
async fn old_traffic_is_put_together_by_what_is_told_and_forgotten_after_thirty_days() {
    let world = World::start().await;
    let hours = |hours: i64| hours * 60;
    let day = (0..15).map(|minute| hours(8) + minute);
    let older = [hours(49), hours(49) + 1, hours(29 * 24), hours(31 * 24)];
    for minutes_ago in day.chain(older) {
        count(&world, minutes_ago, Some("shop"), None, answer(AnswerClass::Successful), 1).await;
    }
    world.app.traffic().forget_old().await.unwrap();
    let day = TrafficFilter {
        since_minute: world.op.now.as_second() / 60 - hours(9),
        until_minute: i64::MAX,
        environment: None,
        pipelines: &[],
        consumer: None,
    };
    let by_minute = TrafficGrouping { step_minutes: Some(1), ..TrafficGrouping::default() };
    let kept = world.store.sum_traffic(&world.op.realm, &day, by_minute).await.unwrap();
    assert!(kept.iter().all(|sum| sum.of.minute % 15 == 0), "by quarters: {kept:?}");
    let calls =
        async |range| world.app.traffic().report(&world.op, &every_call(range)).await.unwrap().total.calls();
    assert_eq!((calls("24h").await, calls("7d").await, calls("30d").await), (15, 17, 18));
}

fn recent(
    world: &World,
    n: u8,
    of: Option<&str>,
    status: Option<u16>,
    code: Option<&str>,
) -> Arc<RecentCall> {
    let at = world.op.now + SignedDuration::from_secs(n.into());
    Arc::new(RecentCall {
        request_id: RequestId::new(at, [n; 10]),
        at,
        environment: if n.is_multiple_of(2) { EnvironmentName::test() } else { EnvironmentName::prod() },
        exposure: Exposure::External,
        method: "GET".to_owned(),
        path: "/a".to_owned(),
        status,
        code: code.map(str::to_owned),
        pipeline: of.map(|name| (pipeline(name), Version::FIRST)),
        consumer: of.map(|_| consumer("ann")),
        took_us: 1,
        bytes: Some(0),
        cut_off: None,
    })
}

#[tokio::test]
async fn the_live_log_is_filtered_and_shows_the_environments_of_the_right_alone() {
    let world = World::start().await;
    let unasked = world.app.recent_calls().list(&world.op, &RecentFilter::default(), None).await;
    assert_eq!(unasked.unwrap_err().kind, ErrorKind::Unavailable, "there is no gateway to ask");
    let calls = vec![
        recent(&world, 6, Some("shop"), Some(404), None),
        recent(&world, 5, Some("shop"), None, None),
        recent(&world, 4, Some("shop"), Some(500), Some("flow-failed")),
        recent(&world, 3, None, Some(404), Some("route-not-found")),
        recent(&world, 2, Some("shop"), Some(200), None),
    ];
    let known = RecentCalls { calls: calls.clone(), left_out: 9 };
    world.app.set_gateway(Arc::new(FakeGateway { recent: known, ..FakeGateway::default() }));
    let list = async |op: &Op, filter: RecentFilter| {
        let list = world.app.recent_calls().list(op, &filter, None).await.unwrap();
        assert_eq!(list.left_out, 9);
        list.calls.iter().map(|call| call.at.as_second() - world.op.now.as_second()).collect::<Vec<_>>()
    };
    let any = RecentFilter::default;
    let op = &world.op;
    assert_eq!(list(op, any()).await, [6, 5, 4, 3, 2]);
    assert_eq!(list(op, RecentFilter { environment: Some(EnvironmentName::prod()), ..any() }).await, [5, 3]);
    assert_eq!(list(op, RecentFilter { pipeline: Some(pipeline("shop")), ..any() }).await, [6, 5, 4, 2]);
    assert_eq!(list(op, RecentFilter { consumer: Some(consumer("bob")), ..any() }).await, [0_i64; 0]);
    assert_eq!(list(op, RecentFilter { status: Some(404), ..any() }).await, [6, 3]);
    let ended = |ended| RecentFilter { ended: Some(ended), ..any() };
    for (end, of) in [
        (Ended::Well, vec![6, 2]),
        (Ended::Refused, vec![3]),
        (Ended::Failed, vec![4]),
        (Ended::HungUp, vec![5]),
    ] {
        assert_eq!(list(op, ended(end)).await, of, "{end:?}");
        assert_eq!(Ended::parse(end.as_str()).ok(), Some(end));
    }
    assert_eq!(list(op, RecentFilter { after: Some(calls[2].request_id), ..any() }).await, [6, 5]);
    let reach = Reach { environments: Extent::Only([EnvironmentName::prod()].into()), projects: Extent::All };
    let prod = world.with(Rights::of([Permission::CallExplain], &reach));
    assert_eq!(list(&prod, any()).await, [5, 3]);
    let of_test = RecentFilter { environment: Some(EnvironmentName::test()), ..any() };
    let error = world.app.recent_calls().list(&prod, &of_test, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    let usage = world.with(Rights::of([Permission::UsageRead], &Reach::EVERYTHING));
    let error = world.app.recent_calls().list(&usage, &any(), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden, "paths are more than counts");
}

#[tokio::test]
async fn a_deployment_is_described_by_what_its_gateway_enforces() {
    let world = World::start().await;
    let trigger = "{ type: rest, methods: [GET, POST], externalApi: true, apiKey: { query: true }, \
                   jwt: { scopes: [catalog:read] }, \
                   routes: [{ path: \"/items/:id\", methods: [GET], scopes: [items:read] }], \
                   rateLimit: { limits: [{ interval: minute, limit: 60 }] } }";
    world.save("shop", trigger).await;
    let deployments = world.app.deployments();
    deployments.deploy(&world.op, &world.test, &pipeline("shop"), None, None).await.unwrap();
    let describe =
        async |gateway| deployments.openapi(&world.op, &world.test, &pipeline("shop"), None, gateway).await;
    let document = describe(Some("https://api.example.com/")).await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["title"], "shop");
    assert_eq!(document["info"]["version"], "1.0");
    assert_eq!(document["servers"], json!([{ "url": "https://api.example.com" }]));
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(
        paths.keys().collect::<Vec<_>>(),
        ["/pipeline/default/v1/shop", "/pipeline/default/v1/items/{id}"]
    );
    let main = &paths["/pipeline/default/v1/shop"];
    assert!(main["post"]["requestBody"]["content"]["application/json"].is_object());
    assert_eq!(
        main["get"]["security"],
        json!([
            { "apiKey": [], "token": ["catalog:read"] },
            { "apiKeyInQuery": [], "token": ["catalog:read"] },
        ]),
        "key and token together, never one of them"
    );
    let item = &paths["/pipeline/default/v1/items/{id}"];
    assert_eq!(item["parameters"][0]["name"], "id");
    assert!(item["post"].is_null());
    assert_eq!(item["get"]["security"][0]["token"], json!(["catalog:read", "items:read"]));
    let answers: Vec<_> = item["get"]["responses"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(answers, ["200", "401", "403", "413", "429", "503", "504", "default"]);
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["apiKey", "apiKeyInQuery", "token"]);
    assert_eq!(describe(Some("javascript:alert(1)")).await.unwrap_err().kind, ErrorKind::Invalid);
    assert!(describe(None).await.unwrap()["servers"].is_null());
    world.app.set_gateway(Arc::new(FakeGateway::default()));
    assert_eq!(describe(None).await.unwrap()["servers"][0]["url"], "http://127.0.0.1:7001");

    world.save("quiet", "{ type: rest }").await;
    deployments.deploy(&world.op, &world.test, &pipeline("quiet"), None, None).await.unwrap();
    let quiet = deployments.openapi(&world.op, &world.test, &pipeline("quiet"), None, None).await;
    assert_eq!(quiet.unwrap_err().kind, ErrorKind::NotFound);
    world.save("open", "{ type: http, internalApi: true, externalApi: false, apiKey: true }").await;
    deployments.deploy(&world.op, &world.test, &pipeline("open"), None, None).await.unwrap();
    let open = deployments.openapi(&world.op, &world.test, &pipeline("open"), None, None).await.unwrap();
    assert_eq!(open["paths"]["/pipeline/default/v1/open"]["get"]["security"], json!([{ "apiKey": [] }]));
}

#[tokio::test]
async fn keys_that_stop_working_soon_are_told_by_name_the_first_first() {
    let world = World::start().await;
    let consumer_of = |days: i64, key: tollgate_model::ids::KeyId| Expiry {
        environment: world.test.clone(),
        consumer: consumer("ann"),
        key,
        at: world.op.now + SignedDuration::from_hours(24 * days),
    };
    let unasked = world.app.keys().expiring(&world.op, 14).await;
    assert_eq!(unasked.unwrap_err().kind, ErrorKind::Unavailable);
    let first = world.consumer("ann").await.key.unwrap().key;
    let second =
        world.app.keys().create(&world.op, &world.test, &consumer("ann"), new_key()).await.unwrap().key;
    let gone = tollgate_model::ids::KeyId::new(world.op.now, [9; 10]);
    let expiring = vec![
        consumer_of(9, first.id),
        consumer_of(3, second.id),
        consumer_of(1, gone),
        consumer_of(40, first.id),
    ];
    world.app.set_gateway(Arc::new(FakeGateway { expiring, ..FakeGateway::default() }));
    let told = async |op: &Op, days| {
        let keys = world.app.keys().expiring(op, days).await?;
        Ok::<_, tollgate_app::errors::Error>(keys.into_iter().map(|it| it.hint).collect::<Vec<_>>())
    };
    assert_eq!(told(&world.op, 14).await.unwrap(), [second.hint, first.hint]);
    for days in [0, 91] {
        assert_eq!(told(&world.op, days).await.unwrap_err().kind, ErrorKind::Invalid);
    }
    let reach = Reach { environments: Extent::Only([EnvironmentName::prod()].into()), projects: Extent::All };
    let prod = world.with(Rights::of([Permission::ApiKeyRead], &reach));
    assert!(told(&prod, 14).await.unwrap().is_empty(), "those of test are not theirs to know");
}

#[tokio::test]
async fn what_runs_is_found_by_name_a_page_at_a_time() {
    let world = World::start().await;
    let deployments = world.app.deployments();
    for name in ["a-shop", "b-shop", "c-shop", "other"] {
        world.save(name, KEYED).await;
        let deployed = deployments.deploy(&world.op, &world.test, &pipeline(name), None, None).await.unwrap();
        assert!(deployed.nobody_associated);
    }
    let page = async |op: &Op, search: &str, cursor: Option<String>| {
        let request = ListRequest { limit: Some(2), cursor };
        let page = deployments.list_page(op, Some(&world.test), search, request).await.unwrap();
        let names: Vec<_> = page.items.iter().map(|it| it.deployment.pipeline.to_string()).collect();
        (names.join(" "), page.next)
    };
    let (first, next) = page(&world.op, "shop", None).await;
    assert_eq!((first.as_str(), next.is_some()), ("a-shop b-shop", true));
    assert_eq!(page(&world.op, "shop", next).await, ("c-shop".to_owned(), None));
    assert_eq!(page(&world.op, "nothing", None).await.0, "");
    let project = ProjectName::parse("elsewhere").unwrap();
    let reach = Reach { environments: Extent::All, projects: Extent::Only([project].into()) };
    let stranger = world.with(Rights::of([Permission::DeploymentRead], &reach));
    assert_eq!(page(&stranger, "", None).await.0, "");
}

#[tokio::test]
async fn what_is_told_soon_is_what_was_just_counted() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    let query = TrafficQuery { pipeline: Some(pipeline("shop")), ..every_call("1h") };
    for calls in 1..=3 {
        count(&world, 1, Some("shop"), Some("ann"), answer(AnswerClass::Successful), 1).await;
        let soon =
            world.app.traffic().reports_soon(&world.op, &[query.clone(), every_call("24h")]).await.unwrap();
        let totals: Vec<_> = soon.into_iter().map(|it| it.unwrap().map(|it| it.total.calls())).collect();
        assert_eq!(totals, [Some(calls); 2]);
    }
    let nowhere = TrafficQuery { environment: Some("nowhere".parse().unwrap()), ..every_call("1h") };
    let mut soon = world.app.traffic().reports_soon(&world.op, &[nowhere, every_call("1h")]).await.unwrap();
    assert!(soon.pop().unwrap().is_ok(), "one question fails for itself");
    assert_eq!(soon.pop().unwrap().unwrap_err().kind, ErrorKind::NotFound);
    let of_none = world.app.traffic().of_pipelines(&world.op, &world.test, &[], TrafficRange::Hour).await;
    assert_eq!(of_none.unwrap(), [], "no pipelines are not all");
}
