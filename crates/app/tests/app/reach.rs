//! Rights limited to environments and projects: what they reach, and that nothing leads around their limits.

use std::collections::BTreeSet;

use tollgate_app::access::Op;
use tollgate_app::calls::{CallQuery, Days};
use tollgate_app::consumers::NewConsumer;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::keys::NewKey;
use tollgate_app::lists::ListRequest;
use tollgate_app::pipelines::SavePipeline;
use tollgate_app::waivers::WaiverFilter;
use tollgate_model::calls::{CountedCaller, CountedCalls, ShownCredentials};
use tollgate_model::names::{EnvironmentName, ProjectName, ValueName};
use tollgate_model::versions::Version;

use crate::people::environment;
use crate::waivers::new_waiver;
use crate::world::{KEYED, OPEN, World, conformance, consumer, new_consumer, pipeline};

fn in_project(name: &str, project: &str, trigger: &str) -> SavePipeline {
    let document = format!(
        "{{kind: Pipeline, name: {name}, project: {project}, trigger: {trigger}, steps: [{{json: 1}}]}}"
    );
    SavePipeline { document, ..SavePipeline::default() }
}

/// `shop` in project store and `bank` in project finance, both in test; `shop` in prod, too.
async fn two_projects() -> World {
    let world = World::start().await;
    let (pipelines, deployments) = (world.app.pipelines(), world.app.deployments());
    for (name, project) in [("shop", "store"), ("bank", "finance")] {
        pipelines.save(&world.op, in_project(name, project, KEYED)).await.unwrap();
        deployments.deploy(&world.op, &world.test, &pipeline(name), None, None).await.unwrap();
    }
    deployments.deploy(&world.op, &EnvironmentName::prod(), &pipeline("shop"), None, None).await.unwrap();
    world.consumer("ann").await;
    world
}

#[track_caller]
fn forbidden<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "forbidden"), "{error}");
    error.message
}

/// What an answer says, without the name that was asked for.
#[track_caller]
fn said<T: std::fmt::Debug>(
    outcome: Result<T, Error>,
    name: &str,
) -> (ErrorKind, &'static str, String, Option<String>) {
    let error = outcome.unwrap_err();
    let without = |text: &str| text.replace(&format!("`{name}`"), "`…`");
    (error.kind, error.code, without(&error.message), error.hint.as_deref().map(without))
}

#[tokio::test]
async fn who_has_a_project_saves_and_deploys_there_and_nowhere_else() {
    let world = two_projects().await;
    let grants = ["developer for store", "deployer in test for store"];
    let op = &world.somebody("ada", &grants).await;
    let (pipelines, deployments) = (world.app.pipelines(), world.app.deployments());
    let (test, prod) = (&world.test, &EnvironmentName::prod());
    let before = world.store.head().await.unwrap();

    forbidden(pipelines.save(op, in_project("new", "finance", KEYED)).await);
    let message = forbidden(deployments.deploy(op, prod, &pipeline("shop"), None, None).await);
    assert_eq!(message, "this needs the permission `deployment:create` in all of environment `prod`");
    forbidden(deployments.promote(op, &pipeline("shop"), test, prod, None).await);
    forbidden(deployments.undeploy(op, prod, &pipeline("shop"), None, None).await);
    forbidden(deployments.rollback(op, prod, &pipeline("shop"), None, None).await);
    forbidden(
        pipelines.list_of_project(op, &ProjectName::parse("finance").unwrap(), ListRequest::default()).await,
    );
    let all = tollgate_app::access::Permission::ALL;
    assert!(all.iter().all(|permission| !op.may(*permission, tollgate_app::access::Place::REALM)
        || *permission == tollgate_app::access::Permission::UserTokenManage));
    assert_eq!(world.store.head().await.unwrap(), before, "nothing was stored");

    // A project that is not there yet is made by its first pipeline; this one is granted.
    pipelines.save(op, in_project("till", "store", KEYED)).await.unwrap();
    deployments.deploy(op, test, &pipeline("till"), None, None).await.unwrap();
    // Promoting takes reading in the source and creating in the target.
    let release = &world.somebody("rob", &["deployer in prod for store"]).await;
    forbidden(deployments.promote(release, &pipeline("shop"), test, prod, None).await);
    let release = &world.somebody("roy", &["deployer in prod for store", "viewer in test for store"]).await;
    deployments.promote(release, &pipeline("shop"), test, prod, None).await.unwrap();
}

#[tokio::test]
async fn what_lies_where_one_may_not_read_is_answered_as_if_it_were_not_there() {
    let world = two_projects().await;
    let op = &world
        .somebody("ada", &["developer for store", "deployer for store", "governance-manager for store"])
        .await;
    let (pipelines, deployments) = (world.app.pipelines(), world.app.deployments());
    let test = &world.test;
    macro_rules! alike {
        ($($call:expr;)*) => {
            $({
                let call = async |name: &str| ($call)(pipeline(name)).await;
                let (hidden, absent) = (said(call("bank").await, "bank"), said(call("nix").await, "nix"));
                assert_eq!(hidden, absent, "{}", stringify!($call));
                assert_eq!(hidden.0, ErrorKind::NotFound, "{}", stringify!($call));
            })*
        };
    }
    alike! {
        async |name| pipelines.get(op, &name).await;
        async |name| pipelines.versions(op, &name).await;
        async |name| pipelines.version(op, &name, Version::FIRST).await;
        async |name| pipelines.delete(op, &name, None).await;
        async |name| deployments.get(op, test, &name, None).await;
        async |name| deployments.history(op, test, &name).await;
        async |name| deployments.deploy(op, test, &name, None, None).await;
        async |name| deployments.deploy_dry_run(op, test, &name, None, None).await;
        async |name| deployments.undeploy(op, test, &name, None, None).await;
        async |name| deployments.promote(op, &name, test, &EnvironmentName::prod(), None).await;
        async |name| deployments.promote_dry_run(op, &name, test, &EnvironmentName::prod(), None).await;
        async |name| deployments.rollback(op, test, &name, None, None).await;
        async |name| deployments.rollback_candidates(op, test, &name, None).await;
        async |name| world.app.schedule().runs(op, test, &name, None).await;
        async |name| world.app.waivers().create(op, tollgate_app::waivers::NewWaiver { pipeline: name, ..new_waiver() }).await;
        async |name| world.app.calls().report(op, &CallQuery { environment: None, pipeline: Some(name), days: Days::parse(None).unwrap() }).await;
    }
    // An environment that one has nothing in, whether it exists or not.
    let only_test = &world.somebody("bob", &["deployer in test", "credential-manager in test"]).await;
    let shop = &pipeline("shop");
    for name in ["prod", "moon"] {
        let other = &environment(name);
        forbidden(deployments.deploy(only_test, other, shop, None, None).await);
        forbidden(deployments.list(only_test, Some(other)).await);
        forbidden(world.app.consumers().list(only_test, other, ListRequest::default()).await);
        forbidden(world.app.accounts().list(only_test, other).await);
        forbidden(world.app.keys().create(only_test, other, &consumer("ann"), crate::world::new_key()).await);
        forbidden(
            world.app.globals().set(only_test, other, ValueName::parse("x").unwrap(), 1.into(), None).await,
        );
    }
}

#[tokio::test]
async fn lists_and_reports_show_and_count_what_one_may_read() {
    let world = two_projects().await;
    let app = &world.app;
    let count = |pipeline_name: &str, environment: &EnvironmentName| {
        let calls = CountedCalls {
            realm: world.op.realm.clone(),
            environment: environment.clone(),
            pipeline: pipeline(pipeline_name),
            major: 1,
            minute: world.op.now.as_second() / 60,
            caller: CountedCaller::Unknown,
            credentials: ShownCredentials::default(),
        };
        (calls, 5)
    };
    let prod = EnvironmentName::prod();
    let mut counts = [count("shop", &world.test), count("bank", &world.test), count("shop", &prod)].into();
    let batch = app.calls().batch(&mut counts).unwrap();
    app.calls().add(&batch).await.unwrap();

    let seen = async |op: &Op| {
        let names = app.pipelines().list(op, ListRequest::default()).await.unwrap();
        let names: Vec<_> = names.items.iter().map(|head| head.name.to_string()).collect();
        let projects = app.environments().projects(op).await.unwrap();
        let projects: Vec<_> = projects.iter().map(|project| project.name.to_string()).collect();
        let running = app.deployments().list(op, None).await.unwrap();
        let place = |name: &str, environment: &EnvironmentName| format!("{name} in {environment}");
        let running: Vec<_> = running
            .iter()
            .map(|it| place(it.deployment.pipeline.as_str(), &it.deployment.environment))
            .collect();
        let report = conformance(app, op, None).await;
        let judged: Vec<_> = report
            .iter()
            .flat_map(|it| it.items.iter().map(|item| place(item.pipeline.as_str(), &it.environment)))
            .collect();
        let counted: usize = report.iter().map(|it| it.deployments).sum();
        assert_eq!(counted, judged.len(), "the numbers are those of what is shown");
        assert_eq!(judged, running);
        let impact = app.policies().impact(op, &crate::world::tightening()).await.unwrap();
        let fall_out: Vec<_> = impact
            .environments
            .iter()
            .flat_map(|it| it.falls_out.iter().map(|item| place(item.pipeline.as_str(), &it.environment)))
            .collect();
        let days = Days::parse(None).unwrap();
        let callers = app.calls().of_impact(op, &impact.environments, days).await.unwrap();
        assert_eq!(callers.calls, 5 * u64::try_from(fall_out.len()).unwrap());
        let query = CallQuery { environment: None, pipeline: None, days };
        let calls = app.calls().report(op, &query).await.unwrap();
        let called: Vec<_> =
            calls.items.iter().map(|item| place(item.pipeline.as_str(), &item.environment)).collect();
        assert_eq!((calls.calls, &called), (5 * u64::try_from(running.len()).unwrap(), &running));
        (names.join(" "), projects.join(" "), running.join(", "), fall_out.join(", "))
    };
    let text = |names: &str, projects: &str, running: &str, fall_out: &str| {
        (names.to_owned(), projects.to_owned(), running.to_owned(), fall_out.to_owned())
    };
    assert_eq!(
        seen(&world.op).await,
        text(
            "bank shop",
            "finance store",
            "shop in prod, bank in test, shop in test",
            "bank in test, shop in test"
        )
    );
    let store = &world.somebody("ada", &["viewer for store"]).await;
    assert_eq!(seen(store).await, text("shop", "store", "shop in prod, shop in test", "shop in test"));
    let finance = &world.somebody("bob", &["viewer for finance"]).await;
    assert_eq!(seen(finance).await, text("bank", "finance", "bank in test", "bank in test"));
    let mixed = &world
        .somebody("eve", &["viewer for finance", "viewer in prod for store", "auditor for store"])
        .await;
    assert_eq!(
        seen(mixed).await,
        text(
            "bank shop",
            "finance store",
            "shop in prod, bank in test, shop in test",
            "bank in test, shop in test"
        )
    );
    let page = ListRequest { limit: Some(1), cursor: None };
    let page = app.pipelines().list(finance, page).await.unwrap();
    assert_eq!(page.next, None, "no word of what is on pages that are not shown");
    // What concerns everybody is read by whoever works here.
    app.environments().list(finance).await.unwrap();
    app.policies().get(finance).await.unwrap();
    app.realms().get(finance).await.unwrap();
    forbidden(app.journal().list(finance, tollgate_app::JournalFilter::default()).await);
    forbidden(app.journal().list(mixed, tollgate_app::JournalFilter::default()).await);
    forbidden(app.policies().set(mixed, &crate::world::tightening(), "", None).await);
}

#[tokio::test]
async fn nobody_moves_a_pipeline_out_of_or_into_a_project_that_they_do_not_have() {
    let world = two_projects().await;
    let pipelines = world.app.pipelines();
    let ada = &world.somebody("ada", &["developer for store", "viewer for finance"]).await;
    let bob = &world.somebody("bob", &["developer for store"]).await;
    let before = world.store.head().await.unwrap();
    // Taking over: a pipeline of another project under its name, in one's own.
    let message = forbidden(pipelines.save(ada, in_project("bank", "store", OPEN)).await);
    assert_eq!(message, "this needs the permission `pipeline:update` for all of project `finance`");
    let message = forbidden(pipelines.save(bob, in_project("bank", "store", OPEN)).await);
    assert_eq!(message, "you may not save a pipeline `bank` in project `store`");
    let dry = SavePipeline { dry_run: true, ..in_project("bank", "store", OPEN) };
    forbidden(pipelines.save(bob, dry).await);
    // Foisting: one's own on others.
    forbidden(pipelines.save(ada, in_project("shop", "finance", KEYED)).await);
    assert_eq!(world.store.head().await.unwrap(), before, "nothing was stored");

    let eve = &world.somebody("eve", &["developer for store", "developer for finance"]).await;
    pipelines.save(eve, in_project("shop", "finance", KEYED)).await.unwrap();
    assert_eq!(said(pipelines.get(bob, &pipeline("shop")).await, "shop").0, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_pipeline_that_was_moved_is_out_of_reach_by_all_its_versions() {
    let world = two_projects().await;
    let (pipelines, deployments) = (world.app.pipelines(), world.app.deployments());
    let shop = &pipeline("shop");
    let ada = &world.somebody("ada", &["developer for store", "deployer for store"]).await;
    // Version 1.0 says that it belongs to store, where ada deploys; 1.1 says finance.
    pipelines.save(&world.op, in_project("shop", "finance", KEYED)).await.unwrap();
    let test = &world.test;
    for outcome in [
        deployments.deploy(ada, test, shop, Some(Version::FIRST), None).await.map(drop),
        deployments.rollback(ada, test, shop, None, Some(Version::FIRST)).await.map(drop),
        deployments.promote(ada, shop, test, &EnvironmentName::prod(), None).await.map(drop),
        deployments.undeploy(ada, test, shop, None, None).await,
        pipelines.version(ada, shop, Version::FIRST).await.map(drop),
    ] {
        assert_eq!(outcome.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert!(deployments.list(ada, None).await.unwrap().is_empty());
    // And within reach of those of its project.
    let bob = &world.somebody("bob", &["deployer for finance"]).await;
    deployments.deploy(bob, test, shop, Some(Version::FIRST), None).await.unwrap();
}

#[tokio::test]
async fn a_deploy_that_meets_a_move_is_decided_by_where_the_pipeline_is_in_the_end() {
    for _ in 0..4 {
        let world = two_projects().await;
        let ada = &world.somebody("ada", &["deployer for store"]).await;
        let deployed = async {
            world
                .app
                .deployments()
                .deploy(ada, &world.test, &pipeline("shop"), Some(Version::FIRST), None)
                .await
        };
        let moved =
            async { world.app.pipelines().save(&world.op, in_project("shop", "finance", KEYED)).await };
        let (deployed, moved) = tokio::join!(deployed, moved);
        moved.unwrap();
        let filter = tollgate_app::JournalFilter { limit: 100, newest_first: true, ..Default::default() };
        let entries = world.app.journal().list(&world.op, filter).await.unwrap();
        let last: Vec<_> = entries.iter().take(1).map(|entry| entry.action.as_str()).collect();
        if deployed.is_ok() {
            assert_eq!(last, ["pipeline.save"], "it was deployed before it was moved");
        }
    }
}

#[tokio::test]
async fn a_taken_route_tells_who_has_it_only_to_those_who_may_see_them() {
    let world = two_projects().await;
    let routed = |name: &str, project: &str| {
        let trigger = "{type: rest, externalApi: true, apiKey: true, routes: [/items]}";
        in_project(name, project, trigger)
    };
    world.app.pipelines().save(&world.op, routed("ledger", "finance")).await.unwrap();
    world.app.pipelines().save(&world.op, routed("lamps", "store")).await.unwrap();
    let deployments = world.app.deployments();
    deployments.deploy(&world.op, &world.test, &pipeline("ledger"), None, None).await.unwrap();
    let ada = &world.somebody("ada", &["deployer for store"]).await;
    for outcome in [
        deployments.deploy(ada, &world.test, &pipeline("lamps"), None, None).await,
        deployments.deploy_dry_run(ada, &world.test, &pipeline("lamps"), None, None).await,
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.code, "route-taken");
        assert!(!format!("{error}{:?}", error.hint).contains("ledger"), "{error}");
    }
    let bob = &world.somebody("bob", &["deployer for store", "viewer"]).await;
    let error = deployments.deploy(bob, &world.test, &pipeline("lamps"), None, None).await.unwrap_err();
    assert!(error.message.contains("`ledger`"), "{error}");
}

#[tokio::test]
async fn who_has_a_project_only_reaches_neither_consumers_nor_secrets() {
    let world = two_projects().await;
    let grants = ["credential-manager for store", "credential-manager in test for store"];
    let op = &world.somebody("ada", &grants).await;
    let (app, test, ann) = (&world.app, &world.test, &consumer("ann"));
    let bank = || BTreeSet::from([pipeline("bank")]);
    let shop = || BTreeSet::from([pipeline("shop")]);
    let before = world.store.head().await.unwrap();
    forbidden(app.consumers().associate(op, test, ann, bank(), None).await);
    forbidden(app.consumers().associate(op, test, ann, shop(), None).await);
    forbidden(app.consumers().dissociate(op, test, ann, bank(), None).await);
    forbidden(app.consumers().get(op, test, ann).await);
    forbidden(app.consumers().list(op, test, ListRequest::default()).await);
    forbidden(app.consumers().create(op, NewConsumer { pipelines: bank(), ..new_consumer("bob") }).await);
    forbidden(app.consumers().delete(op, test, ann, None).await);
    forbidden(app.keys().list(op, test, ann).await);
    forbidden(app.keys().create(op, test, ann, crate::world::new_key()).await);
    forbidden(app.basic_auth().create(op, test, ann, "ann", None).await);
    forbidden(app.accounts().list(op, test).await);
    forbidden(app.globals().list(op, test).await);
    forbidden(app.signing_keys().rotate(op, test, None, 60).await);
    forbidden(app.signing_keys().revoke_token(op, test, "jti", None).await);

    // Who has one environment makes consumers there, and in no other at the same time.
    let op = &world.somebody("bob", &["credential-manager in test"]).await;
    let both = BTreeSet::from([test.clone(), EnvironmentName::prod()]);
    forbidden(app.consumers().create(op, NewConsumer { environments: both, ..new_consumer("bob") }).await);
    assert_eq!(world.store.head().await.unwrap(), before + 2, "the user and the group only");
    app.consumers().associate(op, test, ann, bank(), None).await.unwrap();
    let key = NewKey { expires_at: None, ..crate::world::new_key() };
    app.keys().create(op, test, ann, key).await.unwrap();
}

#[tokio::test]
async fn waivers_are_granted_seen_and_ended_where_one_may() {
    let world = two_projects().await;
    let app = &world.app;
    app.pipelines().save(&world.op, in_project("shop", "store", OPEN)).await.unwrap();
    app.pipelines().save(&world.op, in_project("bank", "finance", OPEN)).await.unwrap();
    let waiver = |name: &str| tollgate_app::waivers::NewWaiver { pipeline: pipeline(name), ..new_waiver() };
    let bank = app.waivers().create(&world.op, waiver("bank")).await.unwrap().value;
    let op = &world.somebody("ada", &["governance-manager in test for store"]).await;
    let shop = app.waivers().create(op, waiver("shop")).await.unwrap().value;
    let prod = tollgate_app::waivers::NewWaiver { environment: EnvironmentName::prod(), ..waiver("shop") };
    forbidden(app.waivers().create(op, prod).await);
    let seen = app.waivers().list(op, &WaiverFilter::default()).await.unwrap();
    assert_eq!(seen.iter().map(|stored| stored.value.id).collect::<Vec<_>>(), [shop.id]);
    for id in [bank.id, tollgate_model::ids::WaiverId::new(world.op.now, [9; 10])] {
        let name = &id.to_string();
        let (kind, _, message, _) = said(app.waivers().get(op, id).await, name);
        assert_eq!(
            (kind, message.replace(name, "…").as_str()),
            (ErrorKind::NotFound, "there is no waiver …")
        );
        assert_eq!(app.waivers().end(op, id, None).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    let viewer = &world.somebody("bob", &["viewer for store", "governance-manager for other"]).await;
    app.waivers().get(viewer, shop.id).await.unwrap();
    let message = forbidden(app.waivers().end(viewer, shop.id, None).await);
    assert_eq!(message, "this needs the permission `waiver:end` in environment `test` for project `store`");
    app.waivers().end(op, shop.id, None).await.unwrap();
}
