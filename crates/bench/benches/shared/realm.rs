//! A realm that holds ten thousand deployed pipelines, on each database that is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_app::App;
use tollgate_app::access::Op;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_credential::seal::MasterKey;
use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::Object;
use tollgate_store::{Change, Expect, Mutation, Store};
use tollgate_testkit::{FixedClock, Postgres, SeededRandom};

/// How many pipelines are deployed.
pub(crate) const PIPELINES: usize = 10_000;

/// When all of it was made.
pub(crate) const AT: &str = "2026-01-01T00:00:00Z";

/// Measures with SQLite in a file, and with PostgreSQL when its programs are there.
pub(crate) fn on_each_database(measure: impl AsyncFn(&str, Store)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let only = only();
        if only.as_deref() != Some("postgresql") {
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("tollgate.db");
            let store = Store::open(&format!("sqlite:{}", file.display())).await.expect("opens");
            measure("SQLite", store).await;
        }
        if only.as_deref() == Some("sqlite") {
            return;
        }
        match Postgres::start().await {
            Ok(postgres) => {
                measure("PostgreSQL", Store::open(&postgres.url()).await.expect("opens")).await;
            }
            Err(error) => println!("PostgreSQL: not measured: {error}"),
        }
    });
}

/// Returns the database that alone is to be measured.
#[expect(clippy::disallowed_methods, reason = "a benchmark is told by its environment what to measure")]
fn only() -> Option<String> {
    std::env::var("TOLLGATE_BENCH").ok()
}

/// Returns the use cases over a new realm.
pub(crate) async fn begin(store: &Store) -> (App, Op) {
    let random = Arc::new(SeededRandom::new(7));
    let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
    let app = App::new(store.clone(), master, Arc::new(FixedClock::default()), random);
    let op = app.system_op().expect("random");
    app.realms().initialise(&op).await.expect("a realm");
    (app, op)
}

/// Sets custom rules, by name and condition: advised in test, required in prod.
pub(crate) async fn set_rules(app: &App, op: &Op, rules: &[(&str, &str)]) {
    for (name, condition) in rules {
        let edit = values(name, json!({ "test": "advised", "prod": "required" }), Some(condition));
        app.policies().set(op, &edit, "", None).await.expect("saved");
    }
}

/// Returns the edit that gives a policy values; a custom rule when there is a condition.
pub(crate) fn values(policy: &str, environments: Value, condition: Option<&str>) -> PolicyEdit {
    let environments: BTreeMap<EnvironmentName, Value> =
        serde_json::from_value(environments).expect("values");
    PolicyEdit::Set(PolicyValues {
        policy: policy.parse().expect("a policy"),
        environments,
        partial: true,
        condition: condition.map(str::to_owned),
        message: condition.map(|_| "keep the rule".to_owned()),
        fix: None,
    })
}

/// Returns a pipeline's version, of a size that people write.
pub(crate) fn version(n: usize) -> Value {
    json!({
        "version": "1.0", "loginFlow": false, "createdAt": AT, "createdBy": "bench",
        "pipeline": { "name": format!("p{n}"), "project": format!("project-{}", n % 50),
            "trigger": { "type": "rest", "externalApi": true, "apiKey": !n.is_multiple_of(10),
                "jwt": if n.is_multiple_of(3) { json!({ "scopes": ["catalog:read"] }) } else { json!(false) },
                "routes": [format!("/r{n}/:id")],
                "rateLimit": { "limits": [{ "interval": "minute", "limit": 600 }] } },
            "steps": [
                { "assert": { "condition": "message.queryAndPath.id != ''", "status": 400 } },
                { "http": { "url": "https://stock.example/items", "query": { "id": "{{ message.queryAndPath.id }}" } } },
                { "choice": { "when": [{ "condition": "message.status == 200", "steps": [{ "json": "{{ message.body }}" }] }],
                    "otherwise": [{ "throw": { "error": "nothing there", "status": 404 } }] } },
                { "json": { "item": "{{ message }}" } } ] } })
}

/// Returns its deployment: half of them are in each environment.
pub(crate) fn deployment(n: usize) -> Value {
    let environment = if n.is_multiple_of(2) { "test" } else { "prod" };
    json!({
        "id": format!("dep_{n:032x}"), "pipeline": format!("p{n}"), "version": "1.0", "environment": environment,
        "policyVersion": "1.0", "deployedAt": AT, "deployedBy": "bench", "action": "deploy" })
}

/// Returns what stores an object.
pub(crate) fn put<T: Object>(value: Value) -> Mutation {
    let object: T = serde_json::from_value(value).expect("an object");
    Mutation::put(&object, Expect::Any).expect("json")
}

/// Stores what has come together, once it is a batch.
pub(crate) async fn commit_full(store: &Store, op: &Op, mutations: &mut Vec<Mutation>, batch: usize) {
    if mutations.len() >= batch {
        commit(store, op, std::mem::take(mutations)).await;
    }
}

/// Stores the rest.
pub(crate) async fn commit(store: &Store, op: &Op, mutations: Vec<Mutation>) {
    if mutations.is_empty() {
        return;
    }
    let change = Change {
        realm: op.realm.clone(),
        actor: "bench".to_owned(),
        source: "bench".to_owned(),
        action: "bench.fill".to_owned(),
        request_id: "req_1".to_owned(),
        reason: String::new(),
        at: op.now,
        guards: Vec::new(),
        mutations,
    };
    store.commit(change).await.expect("stored");
}

/// Returns the median of times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
