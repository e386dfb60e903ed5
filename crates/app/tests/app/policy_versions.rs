//! Versions of the policies: compared, brought back, and rules taken away.

use tollgate_app::JournalFilter;
use tollgate_app::errors::ErrorKind;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{AccessPolicy, AccessRequirement, PolicyName, PolicyVersion};
use tollgate_model::versions::Version;
use tollgate_store::{Change, Expect, Mutation};

use crate::world::{KEYED, World, external, pipeline, tightening};

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn rule(name: &str, condition: &str) -> PolicyEdit {
    let values = [("test", "required"), ("prod", "required")];
    PolicyEdit::Set(PolicyValues {
        policy: name.parse().unwrap(),
        environments: values
            .map(|(name, value)| (EnvironmentName::parse(name).unwrap(), value.into()))
            .into(),
        partial: false,
        condition: Some(condition.to_owned()),
        message: Some("not like this".to_owned()),
        fix: None,
    })
}

#[tokio::test]
async fn a_restored_version_is_a_new_one_with_who_and_why_and_its_impact_is_told_before() {
    let world = World::start().await;
    let (policies, op) = (world.app.policies(), &world.op);
    policies.set(op, &external(true, "test", "jwt-with-api-key"), "tokens everywhere", None).await.unwrap();
    policies.set(op, &external(true, "test", "any"), "", None).await.unwrap();
    world.save("shop", KEYED).await;
    world.app.deployments().deploy(op, &world.test, &pipeline("shop"), None, None).await.unwrap();

    let before = world.store.head().await.unwrap();
    let restore = PolicyEdit::Restore(version("1.1"));
    let impact = policies.impact(op, &restore).await.unwrap();
    assert_eq!(world.store.head().await.unwrap(), before, "nothing is stored by looking");
    let falls_out: usize = impact.environments.iter().map(|it| it.falls_out.len()).sum();
    assert_eq!(falls_out, 1, "the shop takes no tokens");
    let saved = policies.set(op, &restore, "the shop was not ready", None).await.unwrap();
    assert_eq!(saved.impact.meaning, impact.meaning);
    assert_eq!(saved.policies.version(), version("1.3"));
    let value = saved.policies.requirement(AccessPolicy::ExternalApiAccess, &world.test);
    assert_eq!(value, Some(AccessRequirement::JwtWithApiKey));
    let latest = policies.versions(op).await.unwrap().remove(0);
    assert_eq!(
        (latest.policies.version(), latest.reason.as_str()),
        (version("1.3"), "the shop was not ready")
    );
    let newest = JournalFilter { newest_first: true, ..JournalFilter::default() };
    let entry = world.app.journal().list(op, newest).await.unwrap().remove(0);
    assert_eq!((entry.action.as_str(), entry.reason.as_str()), ("policy.restore", "the shop was not ready"));
}

#[tokio::test]
async fn a_version_that_is_not_there_is_neither_restored_nor_compared() {
    let world = World::start().await;
    let (policies, op) = (world.app.policies(), &world.op);
    let before = world.store.head().await.unwrap();
    let missing = version("1.9");
    for outcome in [
        policies.set(op, &PolicyEdit::Restore(missing), "", None).await.map(drop),
        policies.impact(op, &PolicyEdit::Restore(missing)).await.map(drop),
        policies.diff(op, missing, None).await.map(drop),
        policies.diff(op, Version::FIRST, Some(missing)).await.map(drop),
    ] {
        assert_eq!(outcome.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(world.store.head().await.unwrap(), before);
}

#[tokio::test]
async fn a_mode_for_a_rule_that_is_not_there_makes_none() {
    let world = World::start().await;
    let PolicyEdit::Set(mut values) = rule("needs-rate-limt", "true") else { unreachable!("a set") };
    (values.partial, values.condition, values.message) = (true, None, None);
    let edit = PolicyEdit::Set(values);
    let error = world.app.policies().set(&world.op, &edit, "", None).await.unwrap_err();
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (ErrorKind::NotFound, "there is no custom rule `needs-rate-limt`")
    );
}

#[tokio::test]
async fn a_rule_goes_and_comes_back_with_the_version_that_had_it() {
    let world = World::start().await;
    let (policies, op) = (world.app.policies(), &world.op);
    policies.set(op, &rule("no-basic", "!trigger.basicAuth"), "", None).await.unwrap();
    let remove = PolicyEdit::remove(&"no-basic".parse().unwrap()).unwrap();
    let removed = policies.set(op, &remove, "nobody breaks it", None).await.unwrap();
    assert_eq!(removed.policies.rules().count(), 0);
    let told = policies.diff(op, version("1.1"), None).await.unwrap();
    assert_eq!(told.policies.len(), 1);
    assert_eq!(policies.set(op, &remove, "", None).await.unwrap_err().kind, ErrorKind::NotFound);
    let back = policies.set(op, &PolicyEdit::Restore(version("1.1")), "", None).await.unwrap();
    assert_eq!(back.policies.rules().count(), 1);
}

#[tokio::test]
async fn a_policy_that_every_realm_has_is_not_removed() {
    for name in PolicyName::BUILT_IN {
        let error = PolicyEdit::remove(&name).unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "policy-built-in"), "{name}");
        assert!(error.hint.is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_reason_that_nobody_would_read_is_refused() {
    let world = World::start().await;
    let (policies, op) = (world.app.policies(), &world.op);
    let before = world.store.head().await.unwrap();
    let error = policies.set(op, &tightening(), &"x".repeat(1001), None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Invalid, "invalid"));
    assert_eq!(world.store.head().await.unwrap(), before);
    policies.set(op, &tightening(), &"ü".repeat(1000), None).await.unwrap();
}

#[tokio::test]
async fn a_version_with_a_rule_that_fits_no_more_is_not_brought_back() {
    let world = World::start().await;
    let (policies, op) = (world.app.policies(), &world.op);
    let saved = policies.set(op, &rule("no-basic", "!trigger.basicAuth"), "", None).await.unwrap().policies;
    // As a version of Tollgate could have saved it that knew a field of this name.
    let stored = serde_json::to_string(&saved).unwrap().replace("trigger.basicAuth", "trigger.basic");
    let stored = stored.replace("\"1.1\"", "\"1.7\"");
    let version_saved = PolicyVersion {
        policies: serde_json::from_str(&stored).unwrap(),
        created_at: op.now,
        created_by: "admin".to_owned(),
        reason: String::new(),
        approved_by: None,
    };
    let change = Change {
        realm: op.realm.clone(),
        actor: String::new(),
        source: String::new(),
        action: "test".to_owned(),
        request_id: String::new(),
        reason: String::new(),
        at: op.now,
        guards: Vec::new(),
        mutations: vec![Mutation::put(&version_saved, Expect::Absent).unwrap()],
    };
    world.store.commit(change).await.unwrap();
    let before = world.store.head().await.unwrap();
    let error = policies.set(op, &PolicyEdit::Restore(version("1.7")), "", None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Invalid, "rule-invalid"), "{error}");
    assert_eq!(world.store.head().await.unwrap(), before);
}
