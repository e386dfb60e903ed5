//! Who may try a flow: who could deploy it there, and nobody else.

use std::collections::BTreeSet;
use std::sync::Arc;

use tollgate_app::JournalFilter;
use tollgate_app::access::{Extent, Op, Permission, Reach, Rights};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::trials::{Trial, Tried};
use tollgate_model::names::{EnvironmentName, ProjectName};
use tollgate_model::trials::SampleMessage;

use crate::refused_calls::FakeGateway;
use crate::world::{KEYED, OPEN, World, document, pipeline};

async fn run(world: &World, op: &Op, env: &EnvironmentName, tried: Tried) -> Result<Trial, Error> {
    world.app.trials().run(op, env, tried, SampleMessage::default()).await
}

fn draft(trigger: &str) -> Tried {
    Tried::Draft(document("shop", trigger).document)
}

fn kind<T: std::fmt::Debug>(outcome: Result<T, Error>) -> ErrorKind {
    outcome.expect_err("it was done").kind
}

#[tokio::test]
async fn only_who_may_deploy_it_there_may_try_a_flow() {
    let world = World::start().await;
    world.app.set_gateway(Arc::new(FakeGateway::default()));
    world.save("shop", KEYED).await;
    let saved = || Tried::Saved(pipeline("shop"), None);
    let in_test = Reach {
        environments: Extent::Only(BTreeSet::from([EnvironmentName::test()])),
        projects: Extent::All,
    };
    let projects = Extent::Only(BTreeSet::from([ProjectName::parse("other").unwrap()]));
    let elsewhere = Reach { environments: Extent::All, projects };
    let deploys = Rights::of([Permission::DeploymentCreate, Permission::PipelineRead], &in_test);
    let (test, prod) = (&world.test, &EnvironmentName::prod());

    let op = world.with(Rights::of([Permission::DeploymentCreate], &in_test));
    assert!(run(&world, &op, test, saved()).await.is_ok());
    // The secrets of an environment where they may not deploy are none of their business.
    assert_eq!(kind(run(&world, &op, prod, saved()).await), ErrorKind::Forbidden);
    // A draft is something that they could not save.
    assert_eq!(kind(run(&world, &world.with(deploys), test, draft(KEYED)).await), ErrorKind::Forbidden);
    // Who may only save, or only read everything, tries nothing.
    for permission in [
        Permission::PipelineUpdate,
        Permission::PipelineRead,
        Permission::CallExplain,
        Permission::AccountUpdate,
    ] {
        let op =
            world.with(Rights::of([permission], &Reach { environments: Extent::All, projects: Extent::All }));
        assert_eq!(kind(run(&world, &op, test, saved()).await), ErrorKind::Forbidden, "{permission:?}");
        assert_eq!(kind(run(&world, &op, test, draft(KEYED)).await), ErrorKind::Forbidden, "{permission:?}");
    }
    assert_eq!(
        kind(run(&world, &world.without(Permission::DeploymentCreate), test, draft(KEYED)).await),
        ErrorKind::Forbidden
    );

    // The name of a pipeline of a project that is not theirs: its waivers are not for them.
    let op = world.with(Rights::of(
        [Permission::DeploymentCreate, Permission::PipelineUpdate, Permission::PipelineRead],
        &elsewhere,
    ));
    let mine =
        |name: &str| Tried::Draft(document(name, KEYED).document.replace("project: store", "project: other"));
    assert!(run(&world, &op, test, mine("own")).await.is_ok());
    assert_eq!(kind(run(&world, &op, test, mine("shop")).await), ErrorKind::Forbidden);
}

#[tokio::test]
async fn what_the_policies_do_not_admit_is_not_tried_and_every_trial_is_journaled() {
    let world = World::start().await;
    let gateway = Arc::new(FakeGateway::default());
    world.app.set_gateway(gateway.clone());
    let (op, test) = (&world.op, &world.test);
    let refused = run(&world, op, test, draft(OPEN)).await.expect_err("it has no key");
    assert_eq!(
        (refused.kind, refused.code, refused.violations.len()),
        (ErrorKind::Refused, "policy-refused", 1)
    );
    assert_eq!(*gateway.tried.lock().unwrap(), None, "nothing ran");
    assert_eq!(
        kind(run(&world, op, test, Tried::Draft("kind: Pipeline".to_owned())).await),
        ErrorKind::Invalid
    );

    let trial = run(&world, op, test, draft(KEYED)).await.expect("tried");
    assert_eq!((trial.version.as_str(), trial.report.answer.status), ("draft", 200));
    assert_eq!(gateway.tried.lock().unwrap().as_deref(), Some("shop@draft"));
    let entries =
        world.app.journal().list(op, JournalFilter { limit: 100, ..JournalFilter::default() }).await.unwrap();
    let of: Vec<_> =
        entries.iter().filter(|it| it.action == "pipeline.try").map(|it| it.reason.clone()).collect();
    assert_eq!(of.len(), 2, "{of:?}");
    assert!(of.iter().any(|it| it.starts_with("tried shop@draft in test, sha256 ")), "{of:?}");

    let long = SampleMessage { body: "x".repeat(1 << 20).into(), ..SampleMessage::default() };
    let outcome = world.app.trials().run(op, test, draft(KEYED), long).await;
    assert_eq!(outcome.expect_err("too long").code, "message-invalid");
}

#[tokio::test]
async fn without_a_gateway_nothing_is_tried() {
    let world = World::start().await;
    let outcome = run(&world, &world.op, &world.test, draft(KEYED)).await;
    assert_eq!(kind(outcome), ErrorKind::Unavailable);
}
