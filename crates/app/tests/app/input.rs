//! What is refused leaves nothing behind.

use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::lists::ListRequest;
use tollgate_app::pipelines::SavePipeline;
use tollgate_model::names::{EnvironmentName, ProjectName, ValueName};
use tollgate_model::objects::Kind;
use tollgate_store::{Change, Expect, Mutation};

use crate::world::{KEYED, World, document, external, new_consumer, pipeline, tightening};

/// Returns the error, and makes sure that it says what to do next and that nothing was stored.
async fn refused<T: std::fmt::Debug>(
    world: &World,
    call: impl Future<Output = Result<T, Error>>,
) -> (ErrorKind, &'static str) {
    let before = world.store.head().await.unwrap();
    let error = call.await.unwrap_err();
    assert_eq!(world.store.head().await.unwrap(), before, "{error}");
    assert!(error.hint.is_some(), "{error}");
    (error.kind, error.code)
}

#[tokio::test]
async fn a_policy_that_leaves_out_or_makes_up_an_environment_is_not_saved() {
    let world = World::start().await;
    let (policies, op) = (world.app.policies(), &world.op);
    let left_out = external(false, "test", "jwt-with-api-key");
    let answer = refused(&world, policies.set(op, &left_out, "", None)).await;
    assert_eq!(answer, (ErrorKind::Invalid, "policy-environment-missing"));
    let made_up = external(true, "moon", "jwt-with-api-key");
    let answer = refused(&world, policies.set(op, &made_up, "", None)).await;
    assert_eq!(answer, (ErrorKind::Invalid, "environment-unknown"));
}

#[tokio::test]
async fn a_policy_change_on_an_old_revision_is_not_saved() {
    let world = World::start().await;
    let (policies, op) = (world.app.policies(), &world.op);
    let read = policies.get(op).await.unwrap().revision;
    policies.set(op, &tightening(), "", Some(read)).await.unwrap();
    let answer = refused(&world, policies.set(op, &tightening(), "", Some(read))).await;
    assert_eq!(answer.0, ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn a_second_consumer_of_a_name_is_not_made_anywhere() {
    let world = World::start().await;
    world.consumer("shop").await;
    let mut both = new_consumer("shop");
    both.environments.insert(EnvironmentName::prod());
    let consumers = world.app.consumers();
    let answer = refused(&world, consumers.create(&world.op, both)).await;
    assert_eq!(answer, (ErrorKind::Conflict, "already-exists"));
    let in_prod = consumers.list(&world.op, &EnvironmentName::prod(), ListRequest::default()).await.unwrap();
    assert!(in_prod.items.is_empty());
}

#[tokio::test]
async fn nothing_is_made_in_an_unknown_environment() {
    let world = World::start().await;
    let moon = EnvironmentName::parse("moon").unwrap();
    let mut input = new_consumer("shop");
    input.environments.insert(moon.clone());
    let answer = refused(&world, world.app.consumers().create(&world.op, input)).await;
    assert_eq!(answer.0, ErrorKind::NotFound);
    let name = ValueName::parse("limit").unwrap();
    let answer = refused(&world, world.app.globals().set(&world.op, &moon, name, 1.into(), None)).await;
    assert_eq!(answer.0, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_pipeline_whose_expression_does_not_parse_is_not_saved_and_the_place_is_named() {
    let world = World::start().await;
    let mut input = document("shop", KEYED);
    input.document = input.document.replace("json: 1", "json: \"{{ 1 + }}\"");
    let error = world.app.pipelines().save(&world.op, input.clone()).await.unwrap_err();
    assert_eq!(error.places[0].line, Some(5));
    let answer = refused(&world, world.app.pipelines().save(&world.op, input)).await;
    assert_eq!(answer, (ErrorKind::Invalid, "pipeline-invalid"));
}

#[tokio::test]
async fn a_route_at_the_root_that_the_gateway_answers_itself_is_not_saved() {
    let world = World::start().await;
    for path in ["/healthz", "/readyz", "/.well-known/jwks.json", "/pipeline/default/v1/other"] {
        let trigger = format!(
            "{{ type: rest, externalApi: true, apiKey: true, removePrefix: true, routes: [{path}] }}"
        );
        let answer = refused(&world, world.app.pipelines().save(&world.op, document("shop", &trigger))).await;
        assert_eq!(answer, (ErrorKind::Invalid, "pipeline-invalid"), "{path}");
    }
}

#[tokio::test]
async fn limits_that_leave_each_other_without_an_effect_are_not_saved_and_the_place_is_named() {
    let world = World::start().await;
    for (limits, at) in [
        ("{interval: second, limit: 10}, {interval: minute, limit: 10}", 0),
        ("{interval: minute, limit: 61}, {interval: second, limit: 1}", 0),
        ("{interval: second, limit: 1}, {interval: day, limit: 90000}", 1),
    ] {
        let trigger =
            format!("{{ type: rest, externalApi: true, apiKey: true, rateLimit: {{ limits: [{limits}] }} }}");
        let error = world.app.pipelines().save(&world.op, document("shop", &trigger)).await.unwrap_err();
        assert_eq!(
            (error.kind, error.places[0].pointer.as_str()),
            (ErrorKind::Invalid, format!("/trigger/rateLimit/limits/{at}").as_str()),
            "{limits}"
        );
    }
}

#[tokio::test]
async fn a_save_on_an_old_revision_is_lost_and_says_so() {
    let world = World::start().await;
    let (pipelines, op) = (world.app.pipelines(), &world.op);
    let first = pipelines.save(op, document("shop", KEYED)).await.unwrap().revision;
    let trigger = "{ type: rest, externalApi: true, apiKey: true, internalApi: true }";
    let second = SavePipeline { if_match: first, ..document("shop", trigger) };
    pipelines.save(op, second).await.unwrap();
    let late = SavePipeline { if_match: first, ..document("shop", KEYED) };
    let answer = refused(&world, pipelines.save(op, late)).await;
    assert_eq!(answer.0, ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn text_that_no_database_takes_is_the_callers_fault() {
    let world = World::start().await;
    let answer = refused(&world, world.app.policies().set(&world.op, &tightening(), "a\0b", None)).await;
    assert_eq!(answer.0, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_pipeline_with_more_sensitive_fields_than_a_call_can_look_for_is_not_saved() {
    let world = World::start().await;
    let with = |count: usize| {
        let fields: Vec<String> = (0..count).map(|n| format!("f{n}")).collect();
        let SavePipeline { document, .. } = document("shop", KEYED);
        let document = format!("{document}sensitiveFields: [{}]\n", fields.join(", "));
        SavePipeline { document, ..SavePipeline::default() }
    };
    let answer = refused(&world, world.app.pipelines().save(&world.op, with(201))).await;
    assert_eq!(answer, (ErrorKind::Invalid, "pipeline-invalid"));
    world.app.pipelines().save(&world.op, with(200)).await.unwrap();
}

#[tokio::test]
async fn pipelines_of_a_project_are_listed_a_page_at_a_time() {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        world.save(name, KEYED).await;
    }
    let list = async |project: &str, cursor: Option<String>| {
        let request = ListRequest { limit: Some(2), cursor };
        let project = ProjectName::parse(project).unwrap();
        let page = world.app.pipelines().list_of_project(&world.op, &project, request).await.unwrap();
        (page.items.iter().map(|head| head.name.to_string()).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(list("store", None).await, (vec!["a".to_owned(), "b".to_owned()], Some("b".to_owned())));
    assert_eq!(list("store", Some("b".to_owned())).await, (vec!["c".to_owned()], None));
    assert_eq!(list("other", None).await, (vec![], None));
}

#[tokio::test]
async fn a_global_that_is_nested_too_deeply_to_be_read_in_a_list_is_not_set() {
    let world = World::start().await;
    let (globals, op, name) = (world.app.globals(), &world.op, ValueName::parse("limit").unwrap());
    let nested = |levels| (0..levels).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let answer = refused(&world, globals.set(op, &world.test, name.clone(), nested(65), None)).await;
    assert_eq!(answer.0, ErrorKind::Invalid);
    globals.set(op, &world.test, name, nested(64), None).await.unwrap();
}

#[tokio::test]
async fn a_row_that_does_not_parse_is_our_fault_and_no_reason_to_try_again() {
    let world = World::start().await;
    let broken = Mutation {
        kind: Kind::Global,
        key: "test/limit".to_owned(),
        expect: Expect::Absent,
        body: Some("{}".to_owned()),
    };
    let change = Change {
        realm: world.op.realm.clone(),
        actor: String::new(),
        source: String::new(),
        action: "test".to_owned(),
        request_id: String::new(),
        reason: String::new(),
        at: world.op.now,
        guards: Vec::new(),
        mutations: vec![broken],
    };
    world.store.commit(change).await.unwrap();
    let answer = refused(&world, world.app.globals().list(&world.op, &world.test)).await;
    assert_eq!(answer, (ErrorKind::Internal, "internal-error"));
}

#[tokio::test]
async fn a_pipeline_that_must_be_new_makes_no_version_of_one_that_there_is() {
    let world = World::start().await;
    let (pipelines, op) = (world.app.pipelines(), &world.op);
    let new = |trigger: &str| SavePipeline { is_new: true, ..document("shop", trigger) };
    pipelines.save(op, new(KEYED)).await.unwrap();
    for dry_run in [true, false] {
        let again = SavePipeline { dry_run, ..new("{ type: rest, externalApi: true }") };
        let error = pipelines.save(op, again).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "already-exists"));
        let place = error.places.first().expect("a place");
        assert_eq!((place.pointer.as_str(), place.line.is_some()), ("/name", true));
    }
    assert_eq!(pipelines.versions(op, &pipeline("shop")).await.unwrap().len(), 1);
}
