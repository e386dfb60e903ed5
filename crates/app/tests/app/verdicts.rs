//! Verdicts before anybody tries: of stored versions, of promotions, of rollbacks, and dry runs of all of them.

use tollgate_app::errors::{Error, ErrorKind};
use tollgate_model::names::EnvironmentName;
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;

use crate::world::{ITEMS, KEYED, OPEN, World, external, pipeline, tightening};

fn conforming(verdicts: &[Verdict]) -> Vec<&str> {
    verdicts.iter().filter(|it| it.conforms()).map(|it| it.environment.as_str()).collect()
}

#[tokio::test]
async fn every_stored_version_shows_where_it_would_be_refused_today() {
    let world = World::start().await;
    let (app, op) = (&world.app, &world.op);
    world.save("shop", OPEN).await;
    world.save("shop", KEYED).await;
    app.policies().set(op, &external(true, "prod", "jwt-with-api-key"), "", None).await.unwrap();
    let versions = app.pipelines().versions(op, &pipeline("shop")).await.unwrap();
    let shown: Vec<_> =
        versions.iter().map(|it| (it.version.version.to_string(), conforming(&it.verdicts))).collect();
    assert_eq!(shown, [("1.0".to_owned(), vec![]), ("1.1".to_owned(), vec!["test"])]);
}

#[tokio::test]
async fn a_deployment_shows_the_verdict_that_its_promotion_would_get() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    let prod = EnvironmentName::prod();
    world.save("shop", KEYED).await;
    app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
    for (value, admitted) in [("jwt-with-api-key", false), ("api-key", true)] {
        app.policies().set(op, &external(true, "prod", value), "", None).await.unwrap();
        let view = app.deployments().list(op, Some(test)).await.unwrap().remove(0);
        assert_eq!(view, app.deployments().get(op, test, &shop, None).await.unwrap().value);
        assert!(view.verdict.conforms());
        assert_eq!(view.elsewhere.iter().map(|it| &it.environment).collect::<Vec<_>>(), [&prod]);
        assert_eq!(view.elsewhere[0].conforms(), admitted);
        let promoted = app.deployments().promote(op, &shop, test, &prod, None).await;
        match promoted {
            Ok(promoted) => assert_eq!(promoted.deployment.verdict, view.elsewhere[0]),
            Err(error) => assert_eq!(*error.violations, *view.elsewhere[0].violations),
        }
    }
}

/// What the real thing says, for comparison: the outcome, without the words that tell that it was none.
fn outcome<T>(result: Result<T, Error>) -> Result<T, (ErrorKind, &'static str, Vec<String>)> {
    result
        .map_err(|error| (error.kind, error.code, error.violations.iter().map(ToString::to_string).collect()))
}

#[tokio::test]
async fn a_dry_run_says_what_the_real_thing_does_and_stores_nothing() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    let (deployments, prod) = (app.deployments(), EnvironmentName::prod());
    world.save("shop", OPEN).await;
    world.save("shop", KEYED).await;
    world.save("shop", ITEMS).await;
    world.save("other", ITEMS).await;
    let (first, second, other) = (Version::FIRST, Version::FIRST.next_minor(), pipeline("other"));
    macro_rules! same {
        ($dry:expr, $real:expr) => {{
            let before = world.store.head().await.unwrap();
            let dry = outcome($dry.await);
            assert_eq!(world.store.head().await.unwrap(), before, "it was none");
            let real = outcome($real.await);
            match (dry, real) {
                (Ok(dry), Ok(real)) => {
                    assert_eq!(dry.reminders, real.reminders);
                    assert_eq!(dry.deployment.verdict, real.deployment.verdict);
                    assert_eq!(dry.deployment.deployment.version, real.deployment.deployment.version);
                    "done"
                }
                (Err(dry), Err(real)) => {
                    assert_eq!(dry, real);
                    dry.1
                }
                both => panic!("{both:?}"),
            }
        }};
    }
    let deploy = |name, version| {
        (
            deployments.deploy_dry_run(op, test, name, version, None),
            deployments.deploy(op, test, name, version, None),
        )
    };
    for (name, version, expected) in [
        (&shop, Some(first), "policy-refused"),
        (&shop, Some(second), "done"),
        (&shop, None, "done"),
        (&shop, None, "done"),
        (&other, None, "route-taken"),
        (&pipeline("none"), None, "not-found"),
    ] {
        let (dry, real) = deploy(name, version);
        assert_eq!(same!(dry, real), expected, "{name} {version:?}");
    }
    let promote = || {
        (
            deployments.promote_dry_run(op, &shop, test, &prod, None),
            deployments.promote(op, &shop, test, &prod, None),
        )
    };
    let (dry, real) = promote();
    assert_eq!(same!(dry, real), "done");
    app.policies().set(op, &external(true, "prod", "jwt-with-api-key"), "", None).await.unwrap();
    let (dry, real) = promote();
    assert_eq!(same!(dry, real), "policy-refused");
    let rollback = |version| {
        (
            deployments.rollback_dry_run(op, test, &shop, None, version),
            deployments.rollback(op, test, &shop, None, version),
        )
    };
    let (dry, real) = rollback(Some(first));
    assert_eq!(same!(dry, real), "policy-refused");
    let (dry, real) = rollback(None);
    assert_eq!(same!(dry, real), "done");
    let (dry, real) = rollback(None);
    assert_eq!(same!(dry, real), "not-found");

    let stale = deployments.deploy_dry_run(op, test, &shop, None, Some(1)).await.unwrap_err();
    assert_eq!(stale.kind, ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn what_a_rollback_can_go_back_to_is_listed_with_todays_verdict() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    app.policies().set(op, &external(true, "test", "any"), "", None).await.unwrap();
    for trigger in [OPEN, KEYED, "{ type: rest, internalApi: true, apiKey: true }", ITEMS] {
        world.save("shop", trigger).await;
        if !trigger.contains("internal") {
            app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
        }
    }
    app.policies().set(op, &external(true, "test", "api-key"), "", None).await.unwrap();
    let listed = async || {
        let candidates = app.deployments().rollback_candidates(op, test, &shop, None).await.unwrap();
        let shown = candidates.iter().map(|it| (it.version.to_string(), it.verdict.conforms()));
        shown.collect::<Vec<_>>()
    };
    // 1.2 never ran here.
    assert_eq!(listed().await, [("1.1".to_owned(), true), ("1.0".to_owned(), false)]);
    app.policies().set(op, &tightening(), "", None).await.unwrap();
    assert_eq!(listed().await, [("1.1".to_owned(), false), ("1.0".to_owned(), false)]);
    app.deployments().undeploy(op, test, &shop, None, None).await.unwrap();
    let error = app.deployments().rollback_candidates(op, test, &shop, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}
