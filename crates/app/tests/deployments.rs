//! Deployments on a real SQLite store: judged, placed or refused, never half.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Timestamp;
use tempfile::TempDir;
use tollgate_app::App;
use tollgate_app::access::{Actor, Op};
use tollgate_app::errors::ErrorKind;
use tollgate_app::pipelines::{SaveChange, SavePipeline};
use tollgate_app::policies::PolicyChange;
use tollgate_credential::seal::MasterKey;
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::policies::{AccessRequirement, PolicyName};
use tollgate_model::sources::{Clock, Random, RandomError};
use tollgate_store::{JournalFilter, Store};

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

#[derive(Default)]
struct Counter(AtomicU8);

impl Random for Counter {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        buffer.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

async fn start() -> (TempDir, App, Op) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}", dir.path().join("t.db").display())).await.unwrap();
    let random = Arc::new(Counter::default());
    let master = Arc::new(MasterKey::generate(random.as_ref()).unwrap());
    let app = App::new(store, master, Arc::new(Still), random);
    let op = Op {
        actor: Actor::system(),
        source: "test".to_owned(),
        request_id: RequestId::new(Timestamp::UNIX_EPOCH, [0; 10]),
        now: Timestamp::UNIX_EPOCH,
        realm: RealmName::default(),
    };
    app.realms().initialise(&op).await.unwrap();
    (dir, app, op)
}

fn document(name: &str, trigger: &str) -> SavePipeline {
    let document =
        format!("kind: Pipeline\nname: {name}\nproject: store\ntrigger: {trigger}\nsteps: [{{ json: 1 }}]\n");
    SavePipeline { document, ..SavePipeline::default() }
}

const OPEN: &str = "{ type: rest, externalApi: true }";
const KEYED: &str = "{ type: rest, externalApi: true, apiKey: true }";
const ITEMS: &str = "{ type: rest, externalApi: true, apiKey: true, routes: [/items/:id] }";

fn name(text: &str) -> PipelineName {
    PipelineName::parse(text).unwrap()
}

async fn demand_tokens(app: &App, op: &Op) {
    let change = PolicyChange {
        policy: PolicyName::ExternalApiAccess,
        environments: BTreeMap::from([(EnvironmentName::test(), AccessRequirement::JwtWithApiKey)]),
        partial: true,
    };
    app.policies().set(op, &change, "", None).await.unwrap();
}

#[tokio::test]
async fn a_refused_deploy_is_journaled_and_changes_nothing() {
    let (_dir, app, op) = start().await;
    let test = EnvironmentName::test();
    app.pipelines().save(&op, document("shop", KEYED)).await.unwrap();
    app.deployments().deploy(&op, &test, &name("shop"), None, None).await.unwrap();
    let before = app.deployments().get(&op, &test, &name("shop"), None).await.unwrap();

    let saved = app.pipelines().save(&op, document("shop", OPEN)).await.unwrap();
    assert_eq!((saved.version.to_string(), saved.change), ("1.1".to_owned(), SaveChange::Updated));
    let error = app.deployments().deploy(&op, &test, &name("shop"), None, None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Refused, "policy-refused"));
    assert_eq!(error.violations[0].pointer, "/trigger/apiKey");

    assert_eq!(app.deployments().get(&op, &test, &name("shop"), None).await.unwrap(), before);
    let newest = JournalFilter { limit: 1, newest_first: true, ..JournalFilter::default() };
    let entry = app.journal().list(&op, newest).await.unwrap().remove(0);
    assert_eq!((entry.action.as_str(), entry.mutations.len()), ("deployment.refused", 0));
}

#[tokio::test]
async fn of_two_deploys_onto_one_route_one_is_told_who_holds_it() {
    let (_dir, app, op) = start().await;
    let test = EnvironmentName::test();
    for pipeline in ["one", "two"] {
        app.pipelines().save(&op, document(pipeline, ITEMS)).await.unwrap();
    }
    let (one, two) = (name("one"), name("two"));
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
    let (_dir, app, op) = start().await;
    let test = EnvironmentName::test();
    let shop = name("shop");
    for trigger in [KEYED, ITEMS] {
        app.pipelines().save(&op, document("shop", trigger)).await.unwrap();
        app.deployments().deploy(&op, &test, &shop, None, None).await.unwrap();
    }
    demand_tokens(&app, &op).await;
    let error = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    let running = app.deployments().get(&op, &test, &shop, None).await.unwrap().value;
    assert_eq!(running.deployment.version.to_string(), "1.1");
    assert!(!running.verdict.conforms());
}

#[tokio::test]
async fn a_rollback_goes_back_and_frees_the_routes_that_the_newer_version_took() {
    let (_dir, app, op) = start().await;
    let test = EnvironmentName::test();
    let shop = name("shop");
    for trigger in [KEYED, ITEMS] {
        app.pipelines().save(&op, document("shop", trigger)).await.unwrap();
        app.deployments().deploy(&op, &test, &shop, None, None).await.unwrap();
    }
    let back = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap();
    assert_eq!(back.deployment.deployment.version.to_string(), "1.0");
    assert!(back.reminders.iter().any(|reminder| reminder.contains("no consumer")));
    app.pipelines().save(&op, document("other", ITEMS)).await.unwrap();
    app.deployments().deploy(&op, &test, &name("other"), None, None).await.unwrap();
    let error = app.deployments().rollback(&op, &test, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn nothing_is_deployed_or_saved_without_permission() {
    let (_dir, app, op) = start().await;
    app.pipelines().save(&op, document("shop", KEYED)).await.unwrap();
    let mut nobody = op.clone();
    nobody.actor.permissions.clear();
    let test = EnvironmentName::test();
    let error = app.deployments().deploy(&nobody, &test, &name("shop"), None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    let error = app.pipelines().save(&nobody, document("shop", OPEN)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    assert!(app.deployments().list(&op, None).await.unwrap().is_empty());
}
