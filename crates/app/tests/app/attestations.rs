//! Attestations: one for each admitted deployment, stored with it, and none for what was refused.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use tollgate_app::access::{Extent, Op, Permission, Reach, Rights};
use tollgate_app::attestations::{Which, sha256};
use tollgate_app::errors::ErrorKind;
use tollgate_app::lists::ListRequest;
use tollgate_credential::evidence::attestations::verify;
use tollgate_credential::evidence::keys::EvidenceKeys;
use tollgate_model::attestations::{Admitted, AdmittedVerdict, Attestation, Statement};
use tollgate_model::deployments::{DeployAction, Deployment};
use tollgate_model::environments::Exposure;
use tollgate_model::evidence::EvidenceKey;
use tollgate_model::names::{EnvironmentName, ProjectName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_store::{Change, Expect, Mutation, Page};

use crate::waivers::new_waiver;
use crate::world::{ITEMS, KEYED, OPEN, World, external, pipeline, tightening};

async fn keys(world: &World) -> EvidenceKeys {
    let published = world.app.evidence().published().await.unwrap();
    EvidenceKeys::parse(published.to_string().as_bytes()).unwrap()
}

/// Returns every attestation there is.
async fn all(world: &World) -> Vec<Attestation> {
    let page = world.app.attestations().list(&world.op, None, None, ListRequest::default()).await.unwrap();
    page.items
}

/// Returns the statement of what runs, verified with the published keys.
async fn statement(world: &World, environment: &EnvironmentName) -> Statement {
    let which = Which::Running(None);
    let attestation =
        world.app.attestations().get(&world.op, environment, &pipeline("shop"), which).await.unwrap();
    verify(&attestation.envelope, &keys(world).await).unwrap().statement
}

/// A change behind the back of the use cases.
fn change(world: &World, mutations: Vec<Mutation>) -> Change {
    Change {
        realm: RealmName::default(),
        actor: "test".to_owned(),
        source: "test".to_owned(),
        action: "test".to_owned(),
        request_id: "req_test".to_owned(),
        reason: String::new(),
        at: world.op.now,
        guards: Vec::new(),
        mutations,
    }
}

#[tokio::test]
async fn each_deploy_promotion_and_rollback_is_attested_with_what_was_demanded() {
    let world = World::start().await;
    let (app, test, shop) = (&world.app, &world.test, pipeline("shop"));
    let mut op = world.op.clone();
    for trigger in [KEYED, ITEMS] {
        world.save("shop", trigger).await;
        op.now += SignedDuration::from_secs(1);
        app.deployments().deploy(&op, test, &shop, None, None).await.unwrap();
    }
    app.deployments().promote(&op, &shop, test, &EnvironmentName::prod(), None).await.unwrap();
    op.now += SignedDuration::from_secs(1);
    app.deployments().rollback(&op, test, &shop, None, None).await.unwrap();

    let mut said = Vec::new();
    for attestation in all(&world).await {
        let statement = verify(&attestation.envelope, &keys(&world).await).unwrap().statement;
        let Admitted { environment, operation, replaces, .. } = statement.predicate;
        let replaced = replaces.map(|it| (it.version.to_string(), it.attestation.is_some()));
        said.push((environment.to_string(), statement.subject[0].name.clone(), operation, replaced));
    }
    let of = |environment: &str, name: &str, operation, replaced: Option<&str>| {
        (environment.to_owned(), name.to_owned(), operation, replaced.map(|it| (it.to_owned(), true)))
    };
    assert_eq!(
        said,
        [
            of("prod", "shop@1.1", DeployAction::Promote, None),
            of("test", "shop@1.0", DeployAction::Deploy, None),
            of("test", "shop@1.1", DeployAction::Deploy, Some("1.0")),
            of("test", "shop@1.0", DeployAction::Rollback, Some("1.1")),
        ]
    );

    let running = statement(&world, test).await;
    let version = app.pipelines().version(&op, &shop, "1.0".parse().unwrap()).await.unwrap().version;
    let digest = BTreeMap::from([("sha256".to_owned(), sha256(&version.pipeline).unwrap())]);
    assert_eq!(running.subject[0].digest, digest);
    let Admitted { demanded, switches, by, realm, policy_version, verdict, waivers, .. } = running.predicate;
    assert_eq!((demanded["external-api-access"].clone(), demanded.len()), ("api-key".into(), 5));
    assert!(switches.external_api && switches.api_key && !switches.jwt && !switches.internal_api);
    assert_eq!(
        (by.user.as_str(), by.source.as_str(), by.request_id),
        ("system", "test", op.request_id.to_string())
    );
    assert_eq!(
        (realm, policy_version.to_string(), verdict),
        (op.realm.clone(), "1.0".to_owned(), AdmittedVerdict::Admitted)
    );
    assert!(waivers.is_empty());
}

#[tokio::test]
async fn an_attestation_and_its_deployment_are_one_entry_of_the_journal_after_the_place_it_names() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    let deployed =
        world.app.deployments().deploy(&world.op, &world.test, &pipeline("shop"), None, None).await.unwrap();
    let attested = deployed.deployment.deployment.attested.unwrap();
    let page = Page { prefix: String::new(), after: None, limit: 9 };
    let stored = world.store.list::<Attestation>(&world.op.realm, &page).await.unwrap().remove(0);
    let running = world.app.deployments().get(&world.op, &world.test, &pipeline("shop"), None).await.unwrap();
    assert_eq!((stored.value.id, stored.revision), (attested.attestation, running.revision));
    let journal = statement(&world, &world.test).await.predicate.journal;
    assert_eq!(journal.entries, running.revision - 1);
    assert_eq!(stored.value.sha256, attested.sha256);
    // It says nothing of where it answers, and the routes are there: all of it was one change.
    assert_eq!(running.value.urls[0].exposure, Exposure::External);
}

#[tokio::test]
async fn what_is_refused_or_only_tried_leaves_no_attestation() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", OPEN).await;
    app.deployments().deploy(op, test, &shop, None, None).await.unwrap_err();
    world.save("shop", KEYED).await;
    app.deployments().deploy_dry_run(op, test, &shop, None, None).await.unwrap();
    app.deployments().deploy(op, test, &shop, None, Some(1)).await.unwrap_err();
    assert_eq!(all(&world).await, []);
    let error = app.attestations().get(op, test, &shop, Which::Running(None)).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::NotFound, "not-found"));
}

#[tokio::test]
async fn a_deploy_that_was_overtaken_by_a_policy_is_attested_by_the_new_one_only() {
    let world = World::start().await;
    let (app, op, shop) = (&world.app, &world.op, pipeline("shop"));
    world.save("shop", "{ type: rest, externalApi: true, apiKey: true, jwt: true }").await;
    let (policies, deployments, change) = (app.policies(), app.deployments(), tightening());
    let (tightened, deployed) = tokio::join!(
        policies.set(op, &change, "", None),
        deployments.deploy(op, &world.test, &shop, None, None)
    );
    tightened.unwrap();
    let version = deployed.unwrap().deployment.deployment.policy_version;
    let [only] = all(&world).await.try_into().unwrap();
    let predicate = verify(&only.envelope, &keys(&world).await).unwrap().statement.predicate;
    assert_eq!(predicate.policy_version, version);
    let value = if version.minor == 0 { "api-key" } else { "jwt-with-api-key" };
    assert_eq!(predicate.demanded["external-api-access"], value);
}

#[tokio::test]
async fn an_admission_by_waiver_names_the_waiver() {
    let world = World::start().await;
    world.save("shop", OPEN).await;
    let waiver = world.app.waivers().create(&world.op, new_waiver()).await.unwrap().value;
    world.app.deployments().deploy(&world.op, &world.test, &pipeline("shop"), None, None).await.unwrap();
    let predicate = statement(&world, &world.test).await.predicate;
    assert_eq!(predicate.verdict, AdmittedVerdict::AdmittedByWaivers);
    let [applied] = predicate.waivers.try_into().unwrap();
    assert_eq!((applied.id, applied.until, &applied.reason), (waiver.id, waiver.until, &waiver.reason));
    assert_eq!((applied.message.as_str(), applied.policy), ("Missing external API Key", waiver.policy));
}

#[tokio::test]
async fn what_was_attested_stays_findable_and_verifiable_when_all_else_is_gone() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", KEYED).await;
    let first = app.deployments().deploy(op, test, &shop, None, None).await.unwrap().deployment.deployment;
    app.policies().set(op, &external(true, "test", "any"), "", None).await.unwrap();
    let second = app.deployments().deploy(op, test, &shop, None, None).await.unwrap().deployment.deployment;
    app.evidence().rotate(op).await.unwrap();
    app.deployments().undeploy(op, test, &shop, None, None).await.unwrap();
    app.pipelines().delete(op, &shop, None).await.unwrap();

    assert_eq!(first.id, second.id);
    let keys = keys(&world).await;
    let get = async |which| app.attestations().get(op, test, &shop, which).await;
    for (which, policy_version) in [
        (Which::Id(first.attested.unwrap().attestation), "1.0"),
        (Which::Id(second.attested.unwrap().attestation), "1.1"),
        (Which::Deployment(second.id), "1.1"),
    ] {
        let envelope = get(which).await.unwrap().envelope;
        let verified = verify(&envelope, &keys).unwrap();
        assert_eq!(verified.statement.predicate.policy_version.to_string(), policy_version);
        assert_eq!(verified.signers[0].retired_at(), Some(op.now));
    }
    assert_eq!(get(Which::Running(None)).await.unwrap_err().code, "not-found");
    let unknown = tollgate_model::ids::AttestationId::new(op.now, [9; 10]);
    assert_eq!(get(Which::Id(unknown)).await.unwrap_err().code, "attestation-missing");
}

#[tokio::test]
async fn a_deployment_from_before_there_were_attestations_says_so_and_goes_on() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", KEYED).await;
    app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
    let running = app.deployments().get(op, test, &shop, None).await.unwrap().value.deployment;
    // As a version before wrote it.
    let old = Deployment { attested: None, ..running };
    assert!(!serde_json::to_string(&old).unwrap().contains("attest"));
    let put = Mutation::put(&old, Expect::Exists).unwrap();
    world.store.commit(change(&world, vec![put])).await.unwrap();

    let error = app.attestations().get(op, test, &shop, Which::Running(None)).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::NotFound, "attestation-missing"));
    assert!(error.message.contains("before this server made attestations"), "{error}");
    let version = Some("1.0".parse().unwrap());
    let again = NextStep::Deploy { pipeline: pipeline("shop"), version, environment: world.test.clone() };
    assert_eq!(error.next.as_deref(), Some(&again));
    let again = app.deployments().deploy(op, test, &shop, None, None).await.unwrap().deployment.deployment;
    assert!(again.attested.is_some());
    let replaces = statement(&world, test).await.predicate.replaces.unwrap();
    assert_eq!((replaces.version.to_string(), replaces.attestation), ("1.0".to_owned(), None));
}

#[tokio::test]
async fn without_a_key_that_signs_nothing_is_deployed_and_the_next_start_makes_one() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", KEYED).await;
    // A store of a version before has none.
    let key = app.evidence().keys(op).await.unwrap().remove(0);
    let gone = Mutation::delete::<EvidenceKey>(key.kid.as_str(), Expect::Exists);
    world.store.commit(change(&world, vec![gone])).await.unwrap();
    let before = world.store.head().await.unwrap();
    let error = app.deployments().deploy(op, test, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(world.store.head().await.unwrap(), before);

    app.realms().initialise(op).await.unwrap();
    app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
    assert_eq!(statement(&world, test).await.subject[0].name, "shop@1.0");
}

#[tokio::test]
async fn nothing_is_signed_by_a_clock_that_is_before_the_key() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    let deploy = async |minutes: i64| {
        let mut op = world.op.clone();
        op.now -= SignedDuration::from_mins(minutes);
        world.app.deployments().deploy(&op, &world.test, &pipeline("shop"), None, None).await
    };
    let error = deploy(6).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(error.next.as_deref(), Some(&NextStep::RotateEvidenceKey));
    // So much may the clocks of two servers differ.
    deploy(4).await.unwrap();
    statement(&world, &world.test).await;
}

#[tokio::test]
async fn a_deploy_beside_a_rotation_is_attested_by_a_key_in_its_time() {
    for _ in 0..5 {
        let world = World::start().await;
        world.save("shop", KEYED).await;
        let (evidence, deployments, shop) = (world.app.evidence(), world.app.deployments(), pipeline("shop"));
        let (rotated, deployed) = tokio::join!(
            evidence.rotate(&world.op),
            deployments.deploy(&world.op, &world.test, &shop, None, None)
        );
        let (key, deployed) = (rotated.unwrap(), deployed.unwrap());
        statement(&world, &world.test).await;
        // Whichever came first in the journal.
        let stored = deployments.get(&world.op, &world.test, &shop, None).await.unwrap();
        assert_eq!(stored.value.deployment, deployed.deployment.deployment);
        let [only] = all(&world).await.try_into().unwrap();
        let made = world.store.get::<EvidenceKey>(&RealmName::default(), &key.kid).await.unwrap().unwrap();
        assert_eq!(only.kid == key.kid, made.revision < stored.revision);
    }
}

#[tokio::test]
async fn somebody_reads_the_attestations_of_where_they_may_read_deployments() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", KEYED).await;
    app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
    app.deployments().promote(op, &shop, test, &EnvironmentName::prod(), None).await.unwrap();
    let [prod, _] = all(&world).await.try_into().unwrap();
    let reader = |environment: &str, project: &str| {
        let reach = Reach {
            environments: Extent::only([EnvironmentName::parse(environment).unwrap()]).unwrap(),
            projects: Extent::only([ProjectName::parse(project).unwrap()]).unwrap(),
        };
        world.with(Rights::of([Permission::DeploymentRead], &reach))
    };
    let list = async |op: &Op| {
        let page = app.attestations().list(op, None, None, ListRequest::default()).await.unwrap();
        page.items.into_iter().map(|it| it.environment.to_string()).collect::<Vec<_>>()
    };
    let get = async |op: &Op, which| app.attestations().get(op, &EnvironmentName::prod(), &shop, which).await;
    let here = reader("prod", "store");
    assert_eq!(list(&here).await, ["prod"]);
    assert_eq!(get(&here, Which::Running(None)).await.unwrap(), prod);
    // As if there were none, where they may not read.
    let other = reader("prod", "other");
    assert_eq!(list(&other).await, [""; 0]);
    for which in [Which::Id(prod.id), Which::Deployment(prod.deployment)] {
        let error = get(&other, which).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::NotFound, "attestation-missing"));
    }
    let hidden = get(&other, Which::Running(None)).await.unwrap_err();
    let none = pipeline("none");
    let absent = app.attestations().get(&other, &EnvironmentName::prod(), &none, Which::Running(None)).await;
    assert_eq!(hidden.message.replace("shop", "none"), absent.unwrap_err().message);
    let elsewhere = reader("test", "store");
    assert_eq!(list(&elsewhere).await, ["test"]);
    assert_eq!(get(&elsewhere, Which::Id(prod.id)).await.unwrap_err().kind, ErrorKind::Forbidden);
}
