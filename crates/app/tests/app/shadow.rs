//! Shadow policies refuse nothing, count what they would refuse, and become policies when they are promoted.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tollgate_app::JournalFilter;
use tollgate_app::access::Op;
use tollgate_app::errors::ErrorKind;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_model::names::RuleName;
use tollgate_model::policies::{AccessPolicy, AccessRequirement};
use tollgate_model::versions::Version;

use crate::calls::{count, of};
use crate::world::{KEYED, World, document, external, pipeline, tightening};

fn values(edit: PolicyEdit) -> PolicyValues {
    match edit {
        PolicyEdit::Set(values) => values,
        other => panic!("{other:?}"),
    }
}

/// Demands tokens in `test`.
pub(crate) fn shadowed() -> PolicyValues {
    values(tightening())
}

fn rule(condition: &str, test: &str) -> PolicyValues {
    let value = |text: &str| Value::String(text.to_owned());
    PolicyValues {
        policy: "a-rule".parse().unwrap(),
        environments: BTreeMap::from([
            ("test".parse().unwrap(), value(test)),
            ("prod".parse().unwrap(), value("off")),
        ]),
        partial: false,
        condition: Some(condition.to_owned()),
        message: Some("Everything is asked for".to_owned()),
        fix: None,
    }
}

fn enforcement(date: &str) -> PolicyValues {
    PolicyValues {
        policy: "enforcement".parse().unwrap(),
        environments: BTreeMap::from([("test".parse().unwrap(), json!({ "atGateway": date }))]),
        partial: true,
        condition: None,
        message: None,
        fix: None,
    }
}

async fn actions(world: &World) -> Vec<String> {
    let all = JournalFilter { limit: 500, ..JournalFilter::default() };
    let entries = world.app.journal().list(&world.op, all).await.unwrap();
    entries.into_iter().map(|entry| entry.action).filter(|action| action.starts_with("shadow.")).collect()
}

#[tokio::test]
async fn a_shadow_refuses_nothing_and_says_what_it_would_refuse() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    world.save("shop", KEYED).await;
    let deploy = async |name: &str| {
        let deployed = app.deployments().deploy(op, test, &pipeline(name), None, None).await.unwrap();
        deployed.reminders.into_iter().filter(|text| text.contains("shadow")).collect::<Vec<_>>()
    };
    assert_eq!(deploy("shop").await, Vec::<String>::new(), "no shadow runs");
    app.shadow().set(op, &shadowed(), "see who is ready", None).await.unwrap();
    let reminder = format!(
        "the shadow policies, which run since {}, would refuse this: Missing external JWT (policy \
         external-api-access, environment test): set /trigger/jwt to true",
        op.now
    );
    assert_eq!(deploy("shop").await, [reminder]);
    world.save("ready", "{ type: rest, externalApi: true, apiKey: true, jwt: true }").await;
    assert_eq!(deploy("ready").await, Vec::<String>::new(), "the shadow admits it");
    count(&world, op, "shop", of("ann", None), "api-key", 6).await;
    count(&world, op, "shop", of("ann", None), "api-key+token-sent", 1).await;
    count(&world, op, "ready", of("ann", None), "api-key+token", 50).await;
    let before = Op { now: op.now - SignedDuration::from_hours(1), ..op.clone() };
    count(&world, &before, "shop", of("ann", None), "api-key", 1000).await;

    let report = app.shadow().report(op).await.unwrap().value;
    assert_eq!((report.deploys.judged, report.deploys.refused, report.deploys.complete), (2, 1, true));
    let refused: Vec<_> = report.deploys.items.iter().map(|it| it.pipeline.as_str()).collect();
    assert_eq!(refused, ["shop"], "what was deployed before it began does not count");
    assert_eq!((report.callers.calls, report.callers.lacking), (7, 6), "nor what was called before");
    let test_impact = report.impact.environments.iter().find(|it| it.environment == *test).unwrap();
    assert_eq!(test_impact.falls_out.len(), 1);
    assert_eq!(app.policies().get(op).await.unwrap().value.version(), Version::FIRST);
}

#[tokio::test]
async fn a_shadow_tells_too_who_calls_what_does_not_conform_today_either() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    world.save("shop", KEYED).await;
    app.deployments().deploy(op, test, &pipeline("shop"), None, None).await.unwrap();
    app.policies().set(op, &tightening(), "", None).await.unwrap();
    app.shadow().set(op, &rule("trigger.apiKey", "advised"), "", None).await.unwrap();
    count(&world, op, "shop", of("ann", None), "api-key", 6).await;

    let report = app.shadow().report(op).await.unwrap().value;
    let here = report.impact.environments.iter().find(|it| it.environment == *test).unwrap();
    assert_eq!((here.falls_out.len(), here.unchanged, here.not_conformant), (0, 1, 1));
    let called: Vec<_> =
        report.callers.deployments.iter().map(|it| (it.pipeline.as_str(), it.calls)).collect();
    assert_eq!(called, [("shop", 6)]);
}

#[tokio::test]
async fn what_a_shadow_would_refuse_is_judged_by_it_as_it_is_and_only_since_it_began() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    world.save("shop", KEYED).await;
    let deploys = async || {
        let deploys = app.shadow().report(op).await.unwrap().value.deploys;
        (deploys.judged, deploys.refused, deploys.unjudged)
    };
    let deploy = async |name: &str| {
        app.deployments().deploy(op, test, &pipeline(name), None, None).await.unwrap();
    };
    app.shadow().set(op, &shadowed(), "", None).await.unwrap();
    deploy("shop").await;
    assert_eq!(deploys().await, (1, 1, 0));
    // Another proposal for the same policy takes the place of the first; the shadow began when it began.
    app.shadow().set(op, &values(external(true, "test", "any")), "", None).await.unwrap();
    assert_eq!(deploys().await, (1, 0, 0));
    // A refused deploy and one that ended are none that it would have refused.
    world.app.pipelines().save(op, document("open", "{ type: rest, externalApi: true }")).await.unwrap();
    app.deployments().deploy(op, test, &pipeline("open"), None, None).await.unwrap_err();
    app.deployments().undeploy(op, test, &pipeline("shop"), None, None).await.unwrap();
    assert_eq!(deploys().await, (1, 0, 0));
    app.pipelines().delete(op, &pipeline("shop"), None).await.unwrap();
    assert_eq!(deploys().await, (0, 0, 1));
    // A new pipeline of the same name and version is not what was deployed.
    world.save("shop", KEYED).await;
    assert_eq!(deploys().await, (0, 0, 1));

    app.shadow().end(op, None).await.unwrap();
    app.shadow().set(op, &shadowed(), "", None).await.unwrap();
    assert_eq!(deploys().await, (0, 0, 0), "another shadow");
}

#[tokio::test]
async fn a_promoted_shadow_is_the_next_version_with_all_its_changes_and_is_gone() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    let shadow = app.shadow();
    shadow.set(op, &shadowed(), "see who is ready", None).await.unwrap();
    shadow.set(op, &rule("trigger.timeoutMs <= 1000", "required"), "", None).await.unwrap();
    // One environment of the rule, proposed anew: the rest of the proposal stays.
    let mut partial = rule("", "advised");
    (partial.partial, partial.condition, partial.message) = (true, None, None);
    partial.environments.remove(&"prod".parse::<tollgate_model::names::EnvironmentName>().unwrap());
    let set = shadow.set(op, &partial, "", None).await.unwrap();
    assert_eq!(set.shadow.changes.len(), 2);

    let saved = shadow.promote(op, "", Some(Version::FIRST), Some(set.revision)).await.unwrap();
    assert_eq!(saved.policies.version(), Version { major: 1, minor: 1 });
    let today = app.policies().get(op).await.unwrap().value;
    assert_eq!(today, saved.policies);
    assert_eq!(
        today.requirement(AccessPolicy::ExternalApiAccess, test),
        Some(AccessRequirement::JwtWithApiKey)
    );
    let rule = today.policy(&"a-rule".parse().unwrap()).unwrap();
    assert_eq!((rule.value(test), today.rules().count()), (Some(json!("advised")), 1));
    let version = app.policies().version(op, today.version()).await.unwrap();
    assert_eq!((version.reason.as_str(), &version.policies), ("see who is ready", &today));
    assert_eq!(shadow.report(op).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(shadow.promote(op, "", None, None).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(shadow.end(op, None).await.unwrap_err().kind, ErrorKind::NotFound);

    // A rule can be taken away in shadow, too.
    let name = RuleName::parse("a-rule").unwrap();
    shadow.remove_rule(op, &name, "", None).await.unwrap();
    assert_eq!(app.policies().get(op).await.unwrap().value.rules().count(), 1);
    shadow.promote(op, "not needed", None, None).await.unwrap();
    assert_eq!(app.policies().get(op).await.unwrap().value.rules().count(), 0);
    let set = "shadow.set";
    let promote = "shadow.promote";
    assert_eq!(actions(&world).await, [set, set, set, promote, set, promote]);
}

#[tokio::test]
async fn a_promoted_shadow_takes_nothing_back_where_it_proposed_nothing() {
    let world = World::start().await;
    let (op, app, test) = (&world.op, &world.app, &world.test);
    let mut proposal = shadowed();
    proposal.partial = true;
    proposal.environments = BTreeMap::from([("prod".parse().unwrap(), json!("jwt-with-api-key"))]);
    app.shadow().set(op, &proposal, "", None).await.unwrap();
    app.policies().set(op, &tightening(), "", None).await.unwrap();

    let saved = app.shadow().promote(op, "", None, None).await.unwrap().policies;
    for environment in [test, &"prod".parse().unwrap()] {
        let external = saved.requirement(AccessPolicy::ExternalApiAccess, environment);
        assert_eq!(external, Some(AccessRequirement::JwtWithApiKey), "{environment}");
    }
}

#[tokio::test]
async fn a_shadow_is_checked_as_if_it_were_saved_and_nothing_is_stored_when_it_does_not_fit() {
    let world = World::start().await;
    let (op, shadow) = (&world.op, world.app.shadow());
    let head = world.store.head().await.unwrap();
    let nobody: RuleName = RuleName::parse("nobody").unwrap();
    for (values, code) in [
        (values(external(true, "nowhere", "any")), "environment-unknown"),
        (values(external(false, "test", "any")), "policy-environment-missing"),
        (values(external(true, "test", "open")), "invalid"),
        (rule("trigger.nothing", "required"), "rule-invalid"),
        (enforcement("2001-01-01T00:00:00Z"), "date-passed"),
    ] {
        let error = shadow.set(op, &values, "", None).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Invalid, code));
    }
    let error = shadow.remove_rule(op, &nobody, "", None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = shadow.set(op, &shadowed(), "", Some(7)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed);
    assert_eq!(error.to_string(), "the shadow policies were changed by somebody else");
    assert_eq!(world.store.head().await.unwrap(), head);

    // What the shadow alone proposes can be taken back, but a shadow of nothing is none.
    shadow.set(op, &rule("trigger.apiKey", "required"), "", None).await.unwrap();
    let name = RuleName::parse("a-rule").unwrap();
    let error = shadow.remove_rule(op, &name, "", None).await.unwrap_err();
    assert_eq!(error.code, "shadow-empty");
    shadow.set(op, &shadowed(), "", None).await.unwrap();
    let set = shadow.remove_rule(op, &name, "", None).await.unwrap();
    assert_eq!((set.shadow.changes.len(), set.shadow.removed_rules.len()), (1, 0));
}

#[tokio::test]
async fn a_shadow_is_promoted_only_onto_the_policies_and_as_the_shadow_that_were_read() {
    let world = World::start().await;
    let (op, app) = (&world.op, &world.app);
    let first = app.shadow().set(op, &shadowed(), "", None).await.unwrap();
    let second = app.shadow().set(op, &enforcement("2999-01-01T00:00:00Z"), "", None).await.unwrap();
    let promote = async |version: Option<Version>, revision: Option<u64>| {
        app.shadow().promote(op, "", version, revision).await.map(|saved| saved.policies.version())
    };
    let failed = |outcome: Result<Version, tollgate_app::errors::Error>| outcome.unwrap_err().kind;
    assert_eq!(failed(promote(None, Some(first.revision)).await), ErrorKind::PreconditionFailed);
    app.policies().set(op, &external(true, "prod", "any"), "", None).await.unwrap();
    let outcome = promote(Some(Version::FIRST), Some(second.revision)).await;
    assert_eq!(failed(outcome), ErrorKind::PreconditionFailed);

    // A date that has passed since it was proposed is not saved: it would refuse calls at once.
    let later = Op { now: "2999-01-02T00:00:00Z".parse().unwrap(), ..op.clone() };
    let error = app.shadow().promote(&later, "", None, None).await.unwrap_err();
    assert_eq!(error.code, "date-passed");
    let next = Version { major: 1, minor: 1 };
    assert_eq!(app.policies().get(op).await.unwrap().value.version(), next);
    let promoted = promote(Some(next), Some(second.revision)).await.unwrap();
    assert_eq!(promoted, Version { major: 1, minor: 2 });
}
