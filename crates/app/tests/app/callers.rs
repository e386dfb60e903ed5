//! Who can call a pipeline, what a consumer can call, and what nobody uses.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use tollgate_app::App;
use tollgate_app::access::Op;
use tollgate_app::calls::Days;
use tollgate_app::errors::ErrorKind;
use tollgate_app::keys::NewKey;
use tollgate_app::reach::UnusedCredential;
use tollgate_model::calls::CountedCaller;
use tollgate_model::names::CredentialName;
use tollgate_model::sources::Clock as _;

use crate::calls::{count, of};
use crate::credentials::{by_name, new_certificate};
use crate::world::{KEYED, OPEN, World, consumer, external, new_key, pipeline};

const TOKEN: &str = "{ type: rest, externalApi: true, internalApi: true, apiKey: true, jwt: { scopes: [read] }, \
                     routes: [{ path: /items, methods: [POST], scopes: [write] }] }";
const BASIC: &str = "{ type: rest, externalApi: true, apiKey: true, basicAuth: true }";

/// Moves the clock, and returns the operation of then.
fn later(world: &World, days: u64) -> Op {
    world.clock.advance(Duration::from_secs(days * 86_400));
    Op { now: world.clock.now(), ..world.op.clone() }
}

async fn deploy(world: &World, name: &str, trigger: &str) {
    world.save(name, trigger).await;
    world.app.deployments().deploy(&world.op, &world.test, &pipeline(name), None, None).await.unwrap();
}

async fn associate(world: &World, op: &Op, who: &str, with: &[&str]) {
    let with: BTreeSet<_> = with.iter().map(|name| pipeline(name)).collect();
    world.app.consumers().associate(op, &world.test, &consumer(who), with, None).await.unwrap();
}

#[tokio::test]
async fn who_can_call_is_told_by_credentials_that_work_with_what_is_demanded_and_calls() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    deploy(&world, "shop", TOKEN).await;
    deploy(&world, "both", BASIC).await;
    world.save("waiting", KEYED).await;
    for name in ["ann", "bob", "carol", "dave"] {
        let key = world.consumer(name).await.key.unwrap().key;
        if name == "bob" {
            app.keys().revoke(op, test, key.id).await.unwrap();
        }
        if name != "dave" {
            associate(&world, op, name, &["shop", "both", "waiting"]).await;
        }
        if name == "ann" {
            count(&world, op, "shop", of("ann", Some(key.id)), "api-key+token", 3).await;
            app.basic_auth().create(op, test, &consumer("ann"), "ann-user", None).await.unwrap();
        }
    }
    let expiring = NewKey {
        name: CredentialName::parse("old").unwrap(),
        expires_at: Some(op.now + SignedDuration::from_secs(1)),
    };
    app.keys().create(op, test, &consumer("bob"), expiring).await.unwrap();
    let op = &later(&world, 1);

    let callers = app.reach().callers(op, &pipeline("shop"), None).await.unwrap();
    let [deployment] = callers.deployments.as_slice() else { panic!("{callers:#?}") };
    let callable = json!(deployment.callable);
    assert_eq!(callable["demands"], json!({ "apiKey": true, "token": true, "basicAuth": false }));
    assert_eq!(
        callable["routes"][1],
        json!({ "exposure": "external", "path": "/pipeline/default/v1/items", "methods": ["POST"],
            "scopes": ["read", "write"] })
    );
    assert_eq!(callable["routes"].as_array().unwrap().len(), 4, "on both listeners");
    let by: Vec<_> = deployment
        .callers
        .iter()
        .map(|it| (it.consumer.as_str(), it.can_call, it.lacks.as_slice(), it.keys.len()))
        .collect();
    let none: &[&str] = &[];
    assert_eq!(by, [("ann", true, none, 1), ("bob", false, &["apiKey"][..], 0), ("carol", true, none, 1)]);
    let usage = deployment.callers.first().unwrap().usage.unwrap();
    assert_eq!(usage.calls, 3);
    assert!(deployment.callers.iter().skip(1).all(|it| it.usage.is_none()));

    let callers = app.reach().callers(op, &pipeline("both"), Some(test)).await.unwrap();
    let lacks: Vec<_> =
        callers.deployments.iter().flat_map(|it| &it.callers).map(|it| it.lacks.clone()).collect();
    assert_eq!(lacks, [vec![], vec!["apiKey", "basicAuth"], vec!["basicAuth"]]);
    let callers = app.reach().callers(op, &pipeline("waiting"), None).await.unwrap();
    assert_eq!((callers.deployments.len(), callers.not_deployed.len()), (0, 1));
    assert_eq!(callers.not_deployed.first().unwrap().consumers.len(), 3);

    let text = format!("{callers:?} {deployment:?}");
    assert!(!text.contains("argon2") && !text.contains("digest"), "{text}");
    for (name, environment) in [("nothing", None), ("shop", Some("nowhere"))] {
        let environment = environment.map(|name| name.parse().unwrap());
        let error = app.reach().callers(op, &pipeline(name), environment.as_ref()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn anybody_can_call_what_demands_nothing_and_nobody_what_is_refused_or_exposes_nothing() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    app.policies().set(op, &external(true, "test", "any"), "", None).await.unwrap();
    deploy(&world, "open", OPEN).await;
    deploy(&world, "shop", KEYED).await;
    deploy(&world, "inside", "{ type: rest }").await;
    world.consumer("ann").await;
    associate(&world, op, "ann", &["shop", "inside"]).await;
    count(&world, op, "open", CountedCaller::Unknown, "none", 9).await;
    let open = app.reach().callers(op, &pipeline("open"), None).await.unwrap();
    let deployment = open.deployments.first().unwrap();
    assert!(deployment.callable.anybody && deployment.callable.refused.is_none());
    assert_eq!(deployment.unknown_calls.map(|usage| usage.calls), Some(9));
    let inside = app.reach().callers(op, &pipeline("inside"), None).await.unwrap();
    let deployment = inside.deployments.first().unwrap();
    assert!(!deployment.callable.anybody && deployment.callers.iter().all(|it| !it.can_call));

    // From a date on the gateway refuses what does not conform.
    let policy = |name: &str, value: serde_json::Value| {
        tollgate_app::policies::PolicyEdit::Set(tollgate_app::policies::PolicyValues {
            policy: name.parse().unwrap(),
            environments: [(test.clone(), value)].into(),
            partial: true,
            condition: None,
            message: None,
            fix: None,
        })
    };
    let at = (op.now + SignedDuration::from_hours(12)).to_string();
    app.policies().set(op, &policy("enforcement", json!({ "atGateway": at })), "", None).await.unwrap();
    app.policies().set(op, &external(true, "test", "api-key"), "", None).await.unwrap();
    let refused = async |op: &Op| {
        let open = app.reach().callers(op, &pipeline("open"), None).await.unwrap();
        open.deployments.first().unwrap().callable.refused.clone().unwrap()
    };
    let before = refused(op).await;
    assert!(
        !before.now && before.from.to_string() == at && before.reason.contains("Missing external API Key")
    );
    let access = app.reach().of_consumer(op, test, &consumer("ann")).await.unwrap();
    let names: Vec<_> = access.deployments.iter().map(|it| it.callable.pipeline.as_str()).collect();
    assert_eq!(names, ["open", "shop"], "anybody can call the one, nobody what exposes nothing");
    assert!(refused(&later(&world, 1)).await.now);
}

#[tokio::test]
async fn what_a_consumer_can_call_names_routes_what_is_missing_and_what_does_not_run() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    deploy(&world, "shop", TOKEN).await;
    deploy(&world, "other", KEYED).await;
    world.save("waiting", KEYED).await;
    let key = world.consumer("ann").await.key.unwrap().key.id;
    associate(&world, op, "ann", &["shop", "waiting"]).await;
    count(&world, op, "shop", of("ann", Some(key)), "api-key+token", 2).await;
    let access = app.reach().of_consumer(op, test, &consumer("ann")).await.unwrap();
    let [deployment] = access.deployments.as_slice() else { panic!("{access:#?}") };
    let caller = deployment.caller.as_ref().unwrap();
    assert!(caller.can_call && caller.usage.unwrap().calls == 2);
    assert_eq!(access.not_deployed, [pipeline("waiting")]);
    app.keys().revoke(op, test, key).await.unwrap();
    let access = app.reach().of_consumer(op, test, &consumer("ann")).await.unwrap();
    let caller = access.deployments.first().unwrap().caller.as_ref().unwrap();
    assert!(!caller.can_call && caller.lacks == ["apiKey"]);
    let error = app.reach().of_consumer(op, test, &consumer("nobody")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn who_could_call_is_answered_from_the_journal() {
    let world = World::start().await;
    let (app, test) = (&world.app, &world.test);
    deploy(&world, "shop", KEYED).await;
    let key = world.consumer("ann").await.key.unwrap().key.id;
    associate(&world, &world.op, "ann", &["shop"]).await;
    count(&world, &world.op, "shop", of("ann", Some(key)), "api-key", 2).await;
    let then = later(&world, 1).now;
    let op = &later(&world, 1);
    app.keys().revoke(op, test, key).await.unwrap();
    app.consumers().delete(op, test, &consumer("ann"), None).await.unwrap();
    let callers = async |app: &App, op: &Op| app.reach().callers(op, &pipeline("shop"), None).await.unwrap();
    assert_eq!(callers(app, op).await.deployments.first().unwrap().callers, []);
    let (past, op_of_then) = app.as_of(op, then).await.unwrap();
    let before = callers(&past, &op_of_then).await;
    let caller = before.deployments.first().unwrap().callers.first().unwrap();
    assert!(caller.can_call && caller.consumer == consumer("ann") && caller.keys.len() == 1);
    assert_eq!((before.since, caller.usage, before.as_of), (None, None, then), "counts have no history");
}

#[tokio::test]
async fn what_nobody_uses_is_listed_and_what_is_too_young_is_said_to_be() {
    let world = World::start().await;
    let (app, test) = (&world.app, &world.test);
    for name in ["shop", "quiet", "crowded"] {
        deploy(&world, name, KEYED).await;
    }
    world.save("waiting", KEYED).await;
    let key = world.consumer("ann").await.key.unwrap().key;
    associate(&world, &world.op, "ann", &["shop", "quiet", "crowded", "waiting"]).await;
    count(&world, &world.op, "quiet", of("ann", Some(key.id)), "api-key", 1).await;
    let op = &later(&world, 20);
    count(&world, op, "shop", of("ann", Some(key.id)), "api-key", 1).await;
    count(&world, op, "crowded", CountedCaller::Others, "api-key", 1).await;
    let basic = async |op: &Op, name| {
        let made = app.basic_auth().create(op, test, &consumer("ann"), name, None).await.unwrap();
        made.credential.id
    };
    let bind = async |op: &Op, name| {
        let certificate = new_certificate(by_name(name, 1));
        app.certificates().create(op, test, &consumer("ann"), certificate).await.unwrap().certificate.id
    };
    // Of each kind one that is used, one that is not, one that is revoked.
    let (used_user, idle_user, revoked_user) =
        (basic(&world.op, "used").await, basic(&world.op, "idle").await, basic(&world.op, "revoked").await);
    let (used_bound, idle_bound, revoked_bound) = (
        bind(&world.op, "dns:used.example").await,
        bind(&world.op, "dns:idle.example").await,
        bind(&world.op, "dns:revoked.example").await,
    );
    app.basic_auth().revoke(op, test, revoked_user).await.unwrap();
    app.certificates().revoke(op, test, revoked_bound).await.unwrap();
    let uses = [key.id.into(), used_user.into(), used_bound.into()].map(|id| (id, op.now));
    app.usage().flush(&uses).await.unwrap();
    // Made lately: another association, another key, another consumer.
    world.save("new", KEYED).await;
    associate(&world, op, "ann", &["new"]).await;
    let second = app.keys().create(op, test, &consumer("ann"), new_key()).await.unwrap().key;
    let revoked = app.keys().create(op, test, &consumer("ann"), new_key()).await.unwrap().key;
    app.keys().revoke(op, test, revoked.id).await.unwrap();
    let op = &later(&world, 2);

    let unused = app.reach().unused(op, Days::parse(Some(10)).unwrap(), None).await.unwrap();
    let found: Vec<_> = unused
        .associations
        .iter()
        .map(|it| (it.pipeline.as_str(), it.deployed, it.last_call.is_some(), it.too_young, it.uncertain))
        .collect();
    assert_eq!(
        found,
        [
            ("crowded", true, false, false, true),
            ("new", false, false, true, false),
            ("quiet", true, true, false, false),
            ("waiting", false, false, false, false),
        ]
    );
    let keys: Vec<_> = unused.keys.iter().map(|it| (it.id.clone(), it.too_young)).collect();
    assert_eq!(keys, [(second.id.to_string(), true)], "the first was used, the third is revoked");
    let told = |them: &[UnusedCredential]| -> Vec<_> {
        them.iter().map(|it| (it.id.clone(), it.last_used_at, it.too_young)).collect()
    };
    assert_eq!(told(&unused.certificates), [(idle_bound.to_string(), None, false)]);
    assert_eq!(told(&unused.basic_auth), [(idle_user.to_string(), None, false)]);

    let unused = app.reach().unused(op, Days::parse(Some(1)).unwrap(), Some(test)).await.unwrap();
    assert!(unused.associations.iter().all(|it| !it.too_young) && unused.associations.len() == 5);
    assert_eq!(unused.keys.iter().filter(|it| !it.too_young).count(), 2);
    let nowhere = Some("nowhere".parse().unwrap());
    let error = app.reach().unused(op, Days::parse(None).unwrap(), nowhere.as_ref()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}
