//! Environments: made whole or not at all, deleted with all that lives there and with nothing that runs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tollgate_app::accounts::AccountFields;
use tollgate_app::certificates::NewCertificate;
use tollgate_app::environments::NewEnvironment;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::policies::PolicyEdit;
use tollgate_model::certificates::{Fingerprint, KnownBy};
use tollgate_model::environments::Exposure;
use tollgate_model::names::{EnvironmentName, ValueName};
use tollgate_model::objects::Kind;
use tollgate_model::policies::{AccessPolicy, AccessRequirement, PolicyName};

use crate::shadow::shadowed;
use crate::world::{KEYED, World, consumer, external, new_consumer, new_key, pipeline};

/// An environment that demands API keys, at one address.
pub(crate) fn new_environment(name: &str, address: &str) -> NewEnvironment {
    NewEnvironment {
        name: EnvironmentName::parse(name).unwrap(),
        policies: AccessPolicy::ALL.map(|policy| (PolicyName::Access(policy), json!("api-key"))).into(),
        listeners: [(Exposure::External, address.to_owned())].into(),
        reason: String::new(),
    }
}

fn staging() -> EnvironmentName {
    EnvironmentName::parse("staging").unwrap()
}

async fn make(world: &World) {
    let input = new_environment("staging", "127.0.0.1:7003");
    world.app.environments().create(&world.op, input).await.unwrap();
}

/// Returns what is stored of an environment, by kind.
async fn left(world: &World, environment: &str) -> BTreeMap<&'static str, usize> {
    let (_, objects) = world.store.load(Kind::ALL).await.unwrap();
    let mut left = BTreeMap::new();
    for object in objects {
        if object.key == environment || object.key.starts_with(&format!("{environment}/")) {
            *left.entry(object.kind.as_str()).or_default() += 1;
        }
    }
    left
}

async fn refused(world: &World, input: NewEnvironment) -> Error {
    let before = world.store.head().await.unwrap();
    let error = world.app.environments().create(&world.op, input).await.unwrap_err();
    assert_eq!(world.store.head().await.unwrap(), before, "{error}");
    assert!(error.hint.is_some(), "{error}");
    error
}

#[tokio::test]
async fn a_new_environment_has_listeners_a_key_and_a_value_for_every_policy() {
    let world = World::start().await;
    make(&world).await;
    let made = world.app.environments().get(&world.op, &staging()).await.unwrap();
    assert_eq!(made.value.environment.listeners[&Exposure::External].to_string(), "127.0.0.1:7003");
    let names: BTreeSet<_> = made.value.policies.keys().map(ToString::to_string).collect();
    assert_eq!(names, PolicyName::BUILT_IN.iter().map(ToString::to_string).collect());
    assert_eq!(world.app.signing_keys().list(&world.op, &staging()).await.unwrap().len(), 1);
    let newest = world.app.policies().versions(&world.op).await.unwrap().remove(0);
    assert_eq!(
        (newest.policies.version().to_string(), newest.reason.as_str()),
        ("1.1".to_owned(), "environment `staging` was made")
    );
    world.save("shop", KEYED).await;
    world.app.deployments().deploy(&world.op, &staging(), &pipeline("shop"), None, None).await.unwrap();
}

#[tokio::test]
async fn an_environment_that_lacks_something_is_not_made() {
    let world = World::start().await;
    make(&world).await;
    let good = || new_environment("qa", "127.0.0.1:7004");

    let mut input = good();
    input.policies.remove(&PolicyName::Access(AccessPolicy::InternalApiAccess));
    let error = refused(&world, input).await;
    assert_eq!((error.kind, error.code), (ErrorKind::Invalid, "policy-environment-missing"));
    assert!(error.message.contains("no value for `internal-api-access`"), "{error}");

    let mut input = good();
    input.policies.insert(PolicyName::LoginFlows, json!({ "maxTokenLifetimeMs": 1000 }));
    assert!(refused(&world, input).await.message.contains("begins strict"));
    let mut input = good();
    input.policies.insert(PolicyName::Access(AccessPolicy::ExternalApiAccess), json!("none"));
    assert!(refused(&world, input).await.hint.unwrap().contains("jwt-with-api-key"));

    for bad in ["localhost:7004", "7004", "127.0.0.1", "127.0.0.1:0", "", "127.0.0.1:70000"] {
        let error = refused(&world, new_environment("qa", bad)).await;
        assert_eq!((error.kind, error.code), (ErrorKind::Invalid, "invalid"), "{bad}");
    }
    let none = NewEnvironment { listeners: BTreeMap::new(), ..good() };
    assert!(refused(&world, none).await.message.contains("needs a listener"));
    for taken in ["127.0.0.1:7003", "0.0.0.0:7003"] {
        let error = refused(&world, new_environment("qa", taken)).await;
        assert_eq!(error.code, "address-taken", "{taken}");
        assert!(error.message.contains("`staging`"), "{error}");
    }
    let mut input = good();
    input.listeners.insert(Exposure::Internal, "127.0.0.1:7004".to_owned());
    assert_eq!(refused(&world, input).await.code, "address-taken");
    for name in ["staging", "prod"] {
        assert_eq!(refused(&world, new_environment(name, "127.0.0.1:7004")).await.code, "already-exists");
    }
    assert_eq!(refused(&world, new_environment("console", "127.0.0.1:7004")).await.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn of_two_environments_made_at_once_with_one_address_one_is_refused() {
    let world = World::start().await;
    let environments = world.app.environments();
    let (one, other) = tokio::join!(
        environments.create(&world.op, new_environment("one", "127.0.0.1:7003")),
        environments.create(&world.op, new_environment("two", "127.0.0.1:7003"))
    );
    let error = match (one, other) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
        both => panic!("one must win: {both:?}"),
    };
    assert_eq!(error.code, "address-taken");
    assert_eq!(environments.list(&world.op).await.unwrap().len(), 3);
}

#[tokio::test]
async fn nothing_stays_behind_of_a_deleted_environment() {
    let world = World::start().await;
    let (app, op, name) = (&world.app, &world.op, &staging());
    make(&world).await;
    world.save("shop", KEYED).await;
    let mut input = new_consumer("ann");
    input.environments = BTreeSet::from([name.clone(), world.test.clone()]);
    input.pipelines = BTreeSet::from([pipeline("shop")]);
    app.consumers().create(op, input).await.unwrap();
    app.basic_auth().create(op, name, &consumer("ann"), "ann", None).await.unwrap();
    let known_by = KnownBy::Fingerprint(Fingerprint([0; 32]));
    let input = NewCertificate { name: new_key().name, known_by, expires_at: None };
    app.certificates().create(op, name, &consumer("ann"), input).await.unwrap();
    let crm = ValueName::parse("crm").unwrap();
    app.globals().set(op, name, crm.clone(), 1.into(), None).await.unwrap();
    let secret = |text: &str| tollgate_app::Password::parse(text).unwrap();
    let fields =
        AccountFields { hashed: [("hash".to_owned(), secret("open-sesame"))].into(), ..Default::default() };
    app.accounts().set(op, name, crm, fields, None).await.unwrap();
    app.signing_keys().revoke_token(op, name, "jti", None).await.unwrap();
    app.deployments().deploy(op, name, &pipeline("shop"), None, None).await.unwrap();
    let mut proposed = shadowed();
    proposed.environments = [(name.clone(), "any".into())].into();
    app.shadow().set(op, &proposed, "", None).await.unwrap();

    let error = app.environments().delete(op, name, None, "").await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "environment-in-use"));
    assert!(error.message.contains("`shop` v1 is deployed"), "{error}");
    app.deployments().undeploy(op, name, &pipeline("shop"), None, None).await.unwrap();
    let kept = left(&world, "test").await;
    let error = app.environments().delete(op, name, Some(1), "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed);
    let revision = app.environments().get(op, name).await.unwrap().revision;
    app.environments().delete(op, name, Some(revision), "no longer needed").await.unwrap();

    // What was attested of it stays: it says what was, not what is.
    assert_eq!(left(&world, "staging").await, BTreeMap::from([("attestation", 1)]));
    assert_eq!(left(&world, "test").await, kept);
    let policies = app.policies().get(op).await.unwrap().value;
    assert!(policies.environments().all(|other| other != name));
    assert_eq!(
        app.shadow().report(op).await.unwrap_err().kind,
        ErrorKind::NotFound,
        "it proposed nothing else"
    );
    assert_eq!(app.policies().versions(op).await.unwrap()[0].reason, "no longer needed");
    let error = app.keys().create(op, name, &consumer("ann"), new_key()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(app.environments().delete(op, name, None, "").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn test_and_prod_always_exist() {
    let world = World::start().await;
    for name in [EnvironmentName::test(), EnvironmentName::prod()] {
        let error = world.app.environments().delete(&world.op, &name, None, "").await.unwrap_err();
        assert_eq!(error.code, "environment-in-use");
    }
}

#[tokio::test]
async fn nothing_is_deployed_or_put_into_an_environment_that_is_deleted_at_the_same_moment() {
    for round in 0..10 {
        let world = World::start().await;
        let (app, op, name, shop) = (&world.app, &world.op, &staging(), pipeline("shop"));
        make(&world).await;
        world.save("shop", KEYED).await;
        let mut input = new_consumer("ann");
        input.environments = BTreeSet::from([name.clone()]);
        let (environments, deployments, consumers) = (app.environments(), app.deployments(), app.consumers());
        let (keys, globals, crm) = (app.signing_keys(), app.globals(), ValueName::parse("crm").unwrap());
        let deploy = async {
            if round % 2 == 0 { deployments.deploy(op, name, &shop, None, None).await.is_ok() } else { false }
        };
        let (deleted, deployed, _, _, _) = tokio::join!(
            environments.delete(op, name, None, ""),
            deploy,
            consumers.create(op, input),
            keys.rotate(op, name, None, 60),
            globals.set(op, name, crm, 1.into(), None),
        );
        match deleted {
            Ok(()) => {
                assert!(!deployed);
                assert_eq!(left(&world, "staging").await, BTreeMap::new());
            }
            Err(error) => {
                assert_eq!(error.code, "environment-in-use", "{error}");
                assert!(deployed);
            }
        }
    }
}

#[tokio::test]
async fn what_takes_longer_than_the_deletion_is_not_put_into_an_environment_that_is_gone() {
    let world = World::start().await;
    let (app, op, name) = (&world.app, &world.op, &staging());
    make(&world).await;
    // Hashing takes its time after the look whether the environment exists.
    let password = tollgate_app::Password::parse("open-sesame").unwrap();
    let fields = AccountFields { hashed: [("hash".to_owned(), password)].into(), ..Default::default() };
    let (accounts, environments) = (app.accounts(), app.environments());
    let (set, deleted) = tokio::join!(
        accounts.set(op, name, ValueName::parse("crm").unwrap(), fields, None),
        environments.delete(op, name, None, "")
    );
    deleted.unwrap();
    // Whoever comes first, nothing stays.
    assert!(set.is_ok() || set.is_err_and(|error| error.kind == ErrorKind::NotFound));
    assert_eq!(left(&world, "staging").await, BTreeMap::new());
}

#[tokio::test]
async fn a_restored_version_knows_nothing_of_an_environment_that_was_made_again_since() {
    let world = World::start().await;
    let (environments, policies, op) = (world.app.environments(), world.app.policies(), &world.op);
    make(&world).await;
    let weak = policies.set(op, &external(true, "staging", "any"), "", None).await.unwrap();
    environments.delete(op, &staging(), None, "").await.unwrap();
    make(&world).await;
    let edit = PolicyEdit::Restore(weak.policies.version());
    let restored = policies.set(op, &edit, "", None).await.unwrap().policies;
    let demanded = restored.requirement(AccessPolicy::ExternalApiAccess, &staging());
    assert_eq!(demanded, Some(AccessRequirement::ApiKey), "the one that is gone demanded nothing");
}
