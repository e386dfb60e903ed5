//! What runs and breaks when a value goes, and to whom that is told.

use tollgate_app::access::{Op, Permission};
use tollgate_app::dependents::Dependents;
use tollgate_app::deployments::MissingValue;
use tollgate_app::errors::ErrorKind;
use tollgate_app::pipelines::SavePipeline;
use tollgate_model::names::{EnvironmentName, ValueName};
use tollgate_model::versions::Version;

use crate::world::{World, pipeline};

async fn run(world: &World, name: &str, step: &str) {
    let document = format!(
        "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {{ type: rest, externalApi: true, apiKey: true }}\nsteps: [{step}]\n"
    );
    let input = SavePipeline { document, ..SavePipeline::default() };
    world.app.pipelines().save(&world.op, input).await.expect("saved");
    world
        .app
        .deployments()
        .deploy(&world.op, &world.test, &pipeline(name), None, None)
        .await
        .expect("deployed");
}

fn names(found: &Dependents) -> Vec<(&str, bool)> {
    found.deployments.iter().map(|it| (it.pipeline.as_str(), it.maybe)).collect()
}

#[tokio::test]
async fn a_deployment_that_reads_a_value_is_named_and_one_that_was_undeployed_is_not() {
    let world = World::start().await;
    let (op, test) = (&world.op, &world.test);
    let (globals, region) = (world.app.globals(), ValueName::parse("region").expect("a name"));
    assert_eq!(globals.dependents(op, test, &region).await.expect_err("no such").kind, ErrorKind::NotFound);
    globals.create(op, test, region.clone(), 1.into()).await.expect("made");
    let twice = globals.create(op, test, region.clone(), 2.into()).await.expect_err("there already");
    assert_eq!((twice.kind, twice.code), (ErrorKind::Conflict, "already-exists"));
    run(&world, "reads", "{ json: \"{{ globals.region }}\" }").await;
    run(&world, "computes", "{ json: \"{{ globals[message.path] }}\" }").await;
    run(&world, "other", "{ json: \"{{ globals.rate }}\" }").await;
    let found = globals.dependents(op, test, &region).await.expect("told");
    assert_eq!((names(&found), found.hidden), (vec![("computes", true), ("reads", false)], 0));
    world.app.deployments().undeploy(op, test, &pipeline("reads"), None, None).await.expect("undeployed");
    assert_eq!(names(&globals.dependents(op, test, &region).await.expect("told")), [("computes", true)]);
}

#[tokio::test]
async fn what_somebody_may_not_see_is_counted_and_not_named() {
    let world = World::start().await;
    let (op, test) = (&world.op, &world.test);
    let (globals, region) = (world.app.globals(), ValueName::parse("region").expect("a name"));
    globals.create(op, test, region.clone(), 1.into()).await.expect("made");
    run(&world, "reads", "{ json: \"{{ globals.region }}\" }").await;
    let blind: Op = world.without(Permission::DeploymentRead);
    let found = globals.dependents(&blind, test, &region).await.expect("told");
    assert_eq!((names(&found), found.hidden), (Vec::new(), 1));
    let closed = world.without(Permission::GlobalRead);
    assert_eq!(
        globals.dependents(&closed, test, &region).await.expect_err("closed").kind,
        ErrorKind::Forbidden
    );
}

#[tokio::test]
async fn a_promotion_is_told_what_the_flow_reads_and_the_other_environment_lacks() {
    let world = World::start().await;
    let (op, test, prod) = (&world.op, &world.test, &EnvironmentName::prod());
    let value = |name: &str| ValueName::parse(name).expect("a name");
    for name in ["rate", "rate-limit", "region"] {
        world.app.globals().create(op, test, value(name), 1.into()).await.expect("made");
    }
    world.app.globals().create(op, prod, value("region"), 1.into()).await.expect("made");
    let told = async |op: &Op, name: &str| {
        let found =
            world.app.deployments().missing_values(op, &pipeline(name), Version::FIRST, test, prod).await;
        let words = |it: MissingValue| (it.name.to_string(), it.maybe);
        found.expect("told").into_iter().map(words).collect::<Vec<_>>()
    };
    let step =
        r#"{ json: { a: "{{ globals['rate-limit'] }}", b: "{{ globals.region }}", c: "not globals.rate" } }"#;
    run(&world, "names", step).await;
    assert_eq!(
        told(op, "names").await,
        [("rate-limit".to_owned(), false)],
        "neither in a text nor in a name"
    );
    run(&world, "computes", "{ json: \"{{ globals[message.path] }}\" }").await;
    assert_eq!(told(op, "computes").await, [("rate".to_owned(), true), ("rate-limit".to_owned(), true)]);
    run(&world, "nothing", "{ json: \"rate\" }").await;
    assert_eq!(told(op, "nothing").await, []);
    assert_eq!(
        told(&world.without(Permission::GlobalRead), "names").await,
        [],
        "what is not to be read is not told"
    );
}
