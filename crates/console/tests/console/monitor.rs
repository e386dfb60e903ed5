//! Traffic, the live log, explanations, and running pipelines, by pages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tollgate_app::explanations::{BoxFuture, Listener, NotExplained, ThisGateway};
use tollgate_app::keys::Expiry;
use tollgate_app::pipelines::SavePipeline;
use tollgate_app::trials::{NotTried, PreparedTrial};
use tollgate_model::environments::Exposure;
use tollgate_model::explanations::{
    CallToExplain, Check, CheckOutcome, CheckReport, ExplainedAnswer, Explanation, Reached, Refusal,
    SentCredentials,
};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::recent_calls::{RecentCall, RecentCalls};
use tollgate_model::traffic::{AnswerClass, CountedTraffic, Measure, TrafficCaller};
use tollgate_model::trials::TrialReport;
use tollgate_model::versions::Version;

use crate::world::World;

const ORDERS: &str = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: { rate: \"{{ globals.rate }}\" } }]\n";

/// A gateway that knows one call.
struct OneCall(RecentCall);

fn refused_call(world: &World) -> RecentCall {
    RecentCall {
        request_id: RequestId::new(world.op.now, [7; 10]),
        at: world.op.now,
        environment: EnvironmentName::test(),
        exposure: Exposure::External,
        method: "GET".to_owned(),
        path: "/pipeline/default/v1/<orders>".to_owned(),
        status: Some(401),
        code: Some("api-key-missing".to_owned()),
        pipeline: Some(("orders".parse().expect("a name"), Version::FIRST)),
        consumer: None,
        took_us: 1_500,
        bytes: Some(120),
        cut_off: None,
    }
}

impl ThisGateway for OneCall {
    fn explain<'a>(
        &'a self,
        _: &'a RealmName,
        call: &'a CallToExplain,
    ) -> BoxFuture<'a, Result<Explanation, NotExplained>> {
        let knows = call.headers.iter().any(|(name, value)| name == "apikey" && value == "the-secret-key");
        let explanation = Explanation {
            at: Timestamp::UNIX_EPOCH,
            revision: Some(7),
            answer: ExplainedAnswer {
                status: (!knows).then_some(401),
                code: (!knows).then(|| "api-key-missing".to_owned()),
            },
            reached: Reached { pipeline: Some("orders".parse().expect("a name")), ..Reached::default() },
            sent: SentCredentials::default(),
            checks: vec![
                CheckReport {
                    check: Check::ApiKeyPresent,
                    outcome: CheckOutcome::Failed,
                    why: Some("no key".to_owned()),
                },
                CheckReport { check: Check::TokenPresent, outcome: CheckOutcome::NotDemanded, why: None },
            ],
        };
        Box::pin(std::future::ready(Ok(explanation)))
    }

    fn refusal(&self, _: &RealmName, id: RequestId) -> Option<Arc<Refusal>> {
        (id == self.0.request_id).then(|| {
            Arc::new(Refusal {
                request_id: id,
                at: self.0.at,
                environment: EnvironmentName::test(),
                exposure: Exposure::External,
                method: "GET".to_owned(),
                path: "/a".to_owned(),
                remote: IpAddr::from([192, 0, 2, 1]),
                status: 401,
                code: "api-key-missing".to_owned(),
                reached: Reached::default(),
                sent: SentCredentials::default(),
                revision: 3,
                checks: Vec::new(),
            })
        })
    }

    fn refusals(&self, _: &RealmName) -> Vec<Arc<Refusal>> {
        Vec::new()
    }

    fn recent_calls(&self, _: &RealmName) -> RecentCalls {
        RecentCalls { calls: vec![Arc::new(self.0.clone())], left_out: 3 }
    }

    fn expiring_keys(&self, _: &RealmName, _: Timestamp, _: Timestamp) -> Vec<Expiry> {
        Vec::new()
    }

    fn try_flow<'a>(&'a self, _: PreparedTrial<'a>) -> BoxFuture<'a, Result<TrialReport, NotTried>> {
        Box::pin(std::future::ready(Err(NotTried::Unavailable)))
    }

    fn listeners(&self) -> Vec<Listener> {
        vec![Listener {
            environment: EnvironmentName::test(),
            exposure: Exposure::External,
            mtls: false,
            address: ([127, 0, 0, 1], 7001).into(),
            tls: true,
        }]
    }
}

/// A console where `orders` runs in test.
async fn running() -> World {
    let world = World::start().await;
    let input = SavePipeline { document: ORDERS.to_owned(), ..SavePipeline::default() };
    world.app.pipelines().save(&world.op, input).await.expect("saved");
    world.app.set_gateway(Arc::new(OneCall(refused_call(&world))));
    let deploy = [("version", "1.0"), ("environment", "test")];
    assert_eq!(world.post("/realms/default/pipelines/orders/deploy", &deploy).await.status, 303);
    world
}

async fn count(world: &World, measure: Measure, calls: u64) {
    let of = CountedTraffic {
        realm: world.op.realm.clone(),
        environment: EnvironmentName::test(),
        pipeline: Some(("orders".parse().expect("a name"), 1)),
        minute: world.op.now.as_second() / 60,
        caller: TrafficCaller::Unknown,
        measure,
    };
    let mut counts = BTreeMap::from([(of, calls)]);
    let batch = world.app.traffic().batch(&mut counts).expect("stored");
    world.app.traffic().add(&batch).await.expect("stored");
}

#[tokio::test]
async fn traffic_is_drawn_with_the_same_numbers_as_a_table() {
    let world = running().await;
    let page = world.get("/realms/default/traffic?environment=test").await.text;
    assert!(page.contains("No call in this time"), "{page}");
    count(&world, Measure::Answer(AnswerClass::Successful), 40).await;
    count(&world, Measure::Answer(AnswerClass::ClientError), 2).await;
    count(&world, Measure::Code(AnswerClass::ClientError, "api-key-missing".to_owned()), 2).await;
    count(&world, Measure::Took(1), 42).await;
    for range in ["1h", "6h", "24h", "7d", "30d"] {
        let page = world.get(&format!("/realms/default/traffic?environment=test&range={range}")).await;
        assert_eq!(page.status, 200);
        for text in ["<dd>42</dd>", "42 calls, 2 refused", "orders v1", "api-key-missing", "nobody known"] {
            assert!(page.text.contains(text), "{range}: {text}: {}", page.text);
        }
        assert!(!page.text.contains("style="), "the browser would not take it");
    }
    let overview = world.get("/realms/default/overview").await.text;
    assert!(overview.contains("<dd>42</dd>") && overview.contains("api-key-missing"), "{overview}");
    let card = world.get("/realms/default/deployments?environment=test").await.text;
    assert!(card.contains("42 calls in the last day"), "{card}");
    let other = world.get("/realms/default/traffic?environment=prod").await.text;
    assert!(other.contains("No call in this time"));
    assert_eq!(world.get("/realms/default/traffic?environment=test&range=2h").await.status, 422);
    assert_eq!(
        world.get("/realms/default/traffic?environment=test&pipeline=Not%20a%20name").await.status,
        404
    );
}

#[tokio::test]
async fn the_live_log_renews_itself_until_it_is_paused() {
    let world = running().await;
    let log = world.get("/realms/default/calls?environment=test&ended=refused").await.text;
    assert!(
        log.contains("hx-trigger=\"every 2s\"")
            && log.contains("/calls/list?environment=test&#38;ended=refused"),
        "{log}"
    );
    assert!(
        log.contains("401 refused")
            && log.contains("1.5 ms")
            && log.contains("3 calls to this process were left out"),
        "{log}"
    );
    assert!(log.contains("&#60;orders&#62;") && !log.contains("<orders>"), "paths are the caller's");
    let paused = world.get("/realms/default/calls?environment=test&paused=yes").await.text;
    assert!(!paused.contains("hx-trigger=\"every"), "{paused}");
    let list = world.get("/realms/default/calls/list?environment=test").await.text;
    assert!(list.trim_start().starts_with("<div class=\"table stacks\""), "{list}");
    let nothing = world.get("/realms/default/calls?environment=test&ended=failed").await.text;
    assert!(nothing.contains("No such call lately"));
    let elsewhere = world.get("/realms/default/calls?environment=prod").await.text;
    assert!(elsewhere.contains("No call yet"));
}

#[tokio::test]
async fn a_refused_call_and_one_that_is_described_are_explained_and_no_header_comes_back() {
    let world = running().await;
    let id = RequestId::new(world.op.now, [7; 10]);
    let explained = world.get(&format!("/realms/default/explain?environment=test&request={id}")).await;
    assert!(explained.text.contains("was answered 401 api-key-missing"), "{}", explained.text);
    let unknown = RequestId::new(world.op.now, [8; 10]);
    assert_eq!(world.get(&format!("/realms/default/explain?request={unknown}")).await.status, 404);
    assert_eq!(world.get("/realms/default/explain?request=nonsense").await.status, 422);

    let form = |headers| [("environment", "test"), ("method", "POST"), ("url", "/a"), ("headers", headers)];
    let told = world.post("/realms/default/explain", &form("apikey: the-secret-key")).await;
    assert_eq!(told.status, 200);
    assert!(told.text.contains("It would pass every check"), "{}", told.text);
    assert!(!told.text.contains("the-secret-key"), "what was written as a header is not shown again");
    let told = world.post("/realms/default/explain", &form("")).await;
    assert!(told.text.contains("API key present") && told.text.contains("Not demanded here: Token present"));
    let told = world.post("/realms/default/explain", &form("the-secret-key")).await;
    assert_eq!(told.status, 422);
    assert!(told.text.contains("has no colon") && !told.text.contains("the-secret-key"), "{}", told.text);
}

#[tokio::test]
async fn an_environment_that_was_chosen_stays_chosen() {
    let world = running().await;
    let first = world.get("/realms/default/deployments").await;
    assert!(first.text.contains("What runs in prod"), "the first, when none was chosen: {}", first.text);
    let chosen = world.get("/realms/default/deployments?environment=test").await;
    let cookie = chosen.header("set-cookie").to_owned();
    assert!(cookie.starts_with("tollgate_environment=test; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    let next = async |environment| {
        let cookies = format!("{}; tollgate_environment={environment}", world.cookie);
        world.get_as(&cookies, "/realms/default/traffic").await.text
    };
    assert!(next("test").await.contains("What became of calls in test"));
    assert!(
        next("nowhere").await.contains("What became of calls in prod"),
        "one that is not there is forgotten"
    );
    let planted = world.get("/realms/default/traffic?environment=a%0d%0aset-cookie:b").await;
    assert_eq!((planted.status, planted.header("set-cookie")), (404, ""));
}

#[tokio::test]
async fn a_promotion_shows_both_sides_and_what_the_other_lacks() {
    let world = running().await;
    let globals = [("environment", "test"), ("name", "rate"), ("value", "5")];
    assert_eq!(world.post("/realms/default/globals", &globals).await.status, 303);
    let promote = "/realms/default/pipelines/orders/promote";
    let page = world.get(&format!("{promote}?from=test&to=prod&major=1")).await;
    assert_eq!(page.status, 200);
    for text in
        ["Nothing of v1 runs in prod yet", "global rate", "Promote to prod", "Choose who may call it in prod"]
    {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    let fields = [("from", "test"), ("to", "prod"), ("major", "1")];
    let done = world.post(promote, &fields).await;
    assert_eq!(done.status, 303);
    let shown = world.get(done.header("location")).await.text;
    assert!(shown.contains("orders 1.0 runs in prod"), "{shown}");
    let again = world.get(&format!("{promote}?from=test&to=prod&major=1")).await.text;
    assert!(again.contains("The same version runs here already"));
    let history = world.get("/realms/default/deployments/prod/orders/history").await.text;
    assert!(history.contains("promoted") && history.contains("admin"), "{history}");
    let stranger = world.get(&format!("{promote}?from=nowhere&to=prod&major=1")).await;
    assert_eq!(stranger.status, 404);
}

#[tokio::test]
async fn where_nobody_may_call_it_is_chosen_who_may() {
    let world = running().await;
    let associate = "/realms/default/pipelines/orders/associate";
    let deploy = world.get("/realms/default/pipelines/orders/deploy?environment=test").await.text;
    assert!(deploy.contains(&format!("{associate}?environment=test")), "{deploy}");
    let nobody = world.get(&format!("{associate}?environment=test")).await.text;
    assert!(nobody.contains("There is no consumer in test yet"));
    let new = world.get("/realms/default/consumers/new?environment=test&pipeline=orders").await.text;
    assert!(new.contains("value=\"orders\" checked") && new.contains("value=\"test\" checked"), "{new}");
    world.post("/realms/default/consumers", &[("name", "shop"), ("environment", "test")]).await;
    let offered = world.get(&format!("{associate}?environment=test&version=1.0")).await.text;
    assert!(offered.contains("value=\"shop\""), "{offered}");
    let nothing = world.post(associate, &[("environment", "test")]).await;
    assert_eq!(nothing.status, 422);
    let done =
        world.post(associate, &[("environment", "test"), ("version", "1.0"), ("consumer", "shop")]).await;
    assert_eq!(done.status, 303);
    let deploy = world.get(done.header("location")).await.text;
    assert!(!deploy.contains("no consumer of test is associated"), "{deploy}");
    assert!(world.get(&format!("{associate}?environment=test")).await.text.contains("may call it already"));
    let unknown = world.post(associate, &[("environment", "test"), ("consumer", "nobody")]).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn undeploying_tells_first_what_it_breaks() {
    let world = running().await;
    let undeploy = "/realms/default/deployments/undeploy";
    let ask = format!("{undeploy}?environment=test&pipeline=orders&major=1");
    let page = world.get(&ask).await.text;
    assert!(page.contains("Nobody called it in the last 7 days"), "{page}");
    let call = tollgate_model::calls::CountedCalls {
        realm: world.op.realm.clone(),
        environment: EnvironmentName::test(),
        pipeline: "orders".parse().unwrap(),
        major: 1,
        minute: (world.op.now - SignedDuration::from_hours(2)).as_second() / 60,
        caller: tollgate_model::calls::CountedCaller::Consumer("shop".parse().unwrap(), None),
        credentials: "api-key".parse().unwrap(),
    };
    let batch = world.app.calls().batch(&mut BTreeMap::from([(call, 12)])).unwrap();
    world.app.calls().add(&batch).await.unwrap();
    let page = world.get(&ask).await.text;
    assert!(page.contains("1 caller would be answered 404") && page.contains("shop"), "{page}");
    let form = [("environment", "test"), ("pipeline", "orders"), ("major", "1")];
    assert_eq!(world.post(undeploy, &form).await.status, 303);
    assert!(
        world
            .get("/realms/default/deployments?environment=test")
            .await
            .text
            .contains("Nothing runs in test yet")
    );
    assert_eq!(world.get(&ask).await.status, 404);
}

#[tokio::test]
async fn deployments_are_found_by_name_and_tell_how_to_call_them() {
    let world = running().await;
    let found = world.get("/realms/default/deployments?environment=test&search=ORD").await.text;
    assert!(found.contains("https://127.0.0.1:7001/pipeline/default/v1/orders"), "{found}");
    let none = world.get("/realms/default/deployments?environment=test&search=%22%3E%3Cscript%3E").await.text;
    assert!(none.contains("is named so") && !none.contains("\"><script>"), "{none}");
    let document = world.get("/realms/default/deployments/test/orders/openapi.json?major=1").await;
    assert_eq!(document.header("content-type"), "application/json");
    let document: serde_json::Value = serde_json::from_str(&document.text).unwrap();
    assert_eq!(document["servers"][0]["url"], "https://127.0.0.1:7001");
    assert!(document["paths"]["/pipeline/default/v1/orders"]["get"].is_object());
}
