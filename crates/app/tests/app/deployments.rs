//! Deployments: judged, placed or refused, never half.

use std::collections::BTreeSet;

use tollgate_app::errors::ErrorKind;
use tollgate_app::pipelines::SaveChange;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_model::names::EnvironmentName;
use tollgate_model::versions::Version;
use tollgate_store::{JournalFilter, Outcome};

use crate::world::{ITEMS, KEYED, OPEN, World, consumer, document, pipeline, tightening};

#[tokio::test]
async fn a_refused_deploy_is_journaled_and_changes_nothing() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    app.pipelines().save(&op, document("shop", KEYED)).await.unwrap();
    app.deployments().deploy(&op, &test, &pipeline("shop"), None, None).await.unwrap();
    let before = app.deployments().get(&op, &test, &pipeline("shop"), None).await.unwrap();

    let saved = app.pipelines().save(&op, document("shop", OPEN)).await.unwrap();
    assert_eq!((saved.version.to_string(), saved.change), ("1.1".to_owned(), SaveChange::Updated));
    let error = app.deployments().deploy(&op, &test, &pipeline("shop"), None, None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Refused, "policy-refused"));
    assert_eq!(error.violations[0].pointer, "/trigger/apiKey");

    assert_eq!(app.deployments().get(&op, &test, &pipeline("shop"), None).await.unwrap(), before);
    let newest = JournalFilter { limit: 1, newest_first: true, ..JournalFilter::default() };
    let entry = app.journal().list(&op, newest).await.unwrap().remove(0);
    assert_eq!((entry.outcome, entry.action.as_str()), (Outcome::Refused, "deployment.deploy"));
    assert_eq!(entry.mutations.len(), 0);
    // It was no change of what ran.
    assert_eq!(app.deployments().history(&op, &test, &pipeline("shop")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_two_deploys_onto_one_route_one_is_told_who_holds_it() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    for name in ["one", "two"] {
        app.pipelines().save(&op, document(name, ITEMS)).await.unwrap();
    }
    let (one, two) = (pipeline("one"), pipeline("two"));
    let deployments = app.deployments();
    let (first, second) = tokio::join!(
        deployments.deploy(&op, &test, &one, None, None),
        deployments.deploy(&op, &test, &two, None, None)
    );
    let error = match (first, second) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
        both => panic!("one must win: {both:?}"),
    };
    assert_eq!(error.code, "route-taken");
    assert_eq!(deployments.list(&op, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rollback_is_judged_by_the_policy_of_today() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    let shop = pipeline("shop");
    for trigger in [KEYED, ITEMS] {
        app.pipelines().save(&op, document("shop", trigger)).await.unwrap();
        app.deployments().deploy(&op, &test, &shop, None, None).await.unwrap();
    }
    app.policies().set(&op, &tightening(), "", None).await.unwrap();
    let error = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    let running = app.deployments().get(&op, &test, &shop, None).await.unwrap().value;
    assert_eq!(running.deployment.version.to_string(), "1.1");
    assert!(!running.verdict.conforms());
}

#[tokio::test]
async fn a_rollback_goes_back_and_frees_the_routes_that_the_newer_version_took() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    let shop = pipeline("shop");
    for trigger in [KEYED, ITEMS] {
        app.pipelines().save(&op, document("shop", trigger)).await.unwrap();
        app.deployments().deploy(&op, &test, &shop, None, None).await.unwrap();
    }
    let back = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap();
    assert_eq!(back.deployment.deployment.version.to_string(), "1.0");
    assert!(back.reminders.iter().any(|reminder| reminder.contains("no consumer")));
    app.pipelines().save(&op, document("other", ITEMS)).await.unwrap();
    app.deployments().deploy(&op, &test, &pipeline("other"), None, None).await.unwrap();
    let error = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_rollback_goes_to_no_version_of_a_deleted_pipeline_of_the_same_name() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    let shop = pipeline("shop");
    let internal = "{ type: rest, internalApi: true, apiKey: true }";
    for trigger in [KEYED, ITEMS] {
        app.pipelines().save(&op, document("shop", trigger)).await.unwrap();
        app.deployments().deploy(&op, &test, &shop, None, None).await.unwrap();
    }
    app.deployments().undeploy(&op, &test, &shop, None, None).await.unwrap();
    app.pipelines().delete(&op, &shop, None).await.unwrap();

    for trigger in [KEYED, ITEMS, internal] {
        app.pipelines().save(&op, document("shop", trigger)).await.unwrap();
    }
    app.deployments().deploy(&op, &test, &shop, Some(Version::FIRST), None).await.unwrap();
    app.deployments().deploy(&op, &test, &shop, None, None).await.unwrap();
    let back = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap();
    assert_eq!(back.deployment.deployment.version, Version::FIRST, "1.1 ran, but it was another one");
    let error = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_deploy_beside_a_tightening_is_never_admitted_by_the_policies_before_it() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    app.pipelines().save(&op, document("shop", KEYED)).await.unwrap();
    let (policies, deployments) = (app.policies(), app.deployments());
    let (shop, change) = (pipeline("shop"), tightening());
    let (tightened, deployed) =
        tokio::join!(policies.set(&op, &change, "", None), deployments.deploy(&op, &test, &shop, None, None));
    let tightened = tightened.unwrap();
    match deployed {
        Err(error) => assert_eq!(error.kind, ErrorKind::Refused),
        Ok(deployed) => {
            let stored = deployments.get(&op, &test, &shop, None).await.unwrap();
            assert!(stored.revision < tightened.revision, "{deployed:?}");
            assert_eq!(stored.value.deployment.policy_version, Version::FIRST);
        }
    }
}

#[tokio::test]
async fn a_pipeline_that_takes_the_name_of_a_deleted_one_does_not_inherit_its_callers() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", KEYED).await;
    world.save("other", KEYED).await;
    world.consumer("ann").await;
    let both = BTreeSet::from([shop.clone(), pipeline("other")]);
    app.consumers().associate(op, test, &consumer("ann"), both, None).await.unwrap();
    app.pipelines().delete(op, &shop, None).await.unwrap();
    world.save("shop", KEYED).await;
    let ann = app.consumers().get(op, test, &consumer("ann")).await.unwrap().value;
    assert_eq!(ann.pipelines, BTreeSet::from([pipeline("other")]));
}

#[tokio::test]
async fn a_pipeline_that_is_deleted_while_it_is_associated_is_associated_with_nobody() {
    for _ in 0..10 {
        let world = World::start().await;
        let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
        let ann = consumer("ann");
        world.save("shop", KEYED).await;
        world.consumer("ann").await;
        let (consumers, pipelines) = (app.consumers(), app.pipelines());
        let (_, deleted) = tokio::join!(
            consumers.associate(op, test, &ann, BTreeSet::from([shop.clone()]), None),
            pipelines.delete(op, &shop, None)
        );
        deleted.unwrap();
        assert!(app.consumers().get(op, test, &ann).await.unwrap().value.pipelines.is_empty());
    }
}

#[tokio::test]
async fn mending_turns_on_what_is_missing_and_saves_it_as_the_next_version() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    let shop = pipeline("shop");
    app.policies().set(&op, &tightening(), "", None).await.unwrap();
    app.pipelines().save(&op, document("shop", OPEN)).await.unwrap();

    let tried = app.pipelines().mend(&op, &shop, &test, true).await.unwrap();
    assert_eq!((tried.version.to_string(), tried.revision), ("1.1".to_owned(), None));
    assert_eq!(app.pipelines().get(&op, &shop).await.unwrap().value.latest, Version::FIRST);

    let saved = app.pipelines().mend(&op, &shop, &test, false).await.unwrap();
    assert_eq!((saved.version.to_string(), saved.change), ("1.1".to_owned(), SaveChange::Updated));
    app.deployments().deploy(&op, &test, &shop, None, None).await.unwrap();
    let again = app.pipelines().mend(&op, &shop, &test, false).await.unwrap();
    assert_eq!((again.version.to_string(), again.change), ("1.1".to_owned(), SaveChange::Unchanged));
}

#[tokio::test]
async fn what_no_value_mends_is_left_to_its_author() {
    let World { app, op, test, dir: _dir, .. } = World::start().await;
    let shop = pipeline("shop");
    let rule = PolicyEdit::Set(PolicyValues {
        policy: "needs-limit".parse().unwrap(),
        environments: [("test", "required"), ("prod", "off")]
            .map(|(name, mode)| (EnvironmentName::parse(name).unwrap(), mode.into()))
            .into(),
        partial: false,
        condition: Some("!trigger.externalApi || has(trigger.rateLimit)".to_owned()),
        message: Some("Public APIs need a rate limit".to_owned()),
        fix: None,
    });
    app.policies().set(&op, &rule, "", None).await.unwrap();
    app.pipelines().save(&op, document("shop", OPEN)).await.unwrap();
    let error = app.pipelines().mend(&op, &shop, &test, false).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "no-single-fix"));
    assert_eq!(app.pipelines().get(&op, &shop).await.unwrap().value.latest, Version::FIRST);
}
