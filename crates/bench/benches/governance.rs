//! A policy change over ten thousand deployed pipelines: what it would mean, saving it, and how everything stands then.
//!
//! On SQLite in a file, and on PostgreSQL when its programs are there. The floor is reading the same objects without
//! judging them. Prints medians and ratios.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_app::App;
use tollgate_app::access::Op;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_credential::seal::MasterKey;
use tollgate_model::deployments::Deployment;
use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::Object;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_store::{Change, Expect, Mutation, Page, Store};
use tollgate_testkit::{FixedClock, Postgres, SeededRandom};

const DEPLOYMENTS: usize = 10_000;
const ROUNDS: usize = 7;
const BATCH: usize = 500;
const AT: &str = "2026-01-01T00:00:00Z";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!(
            "{:<40} {:>12} {:>8}",
            format!("{DEPLOYMENTS} deployments, 3 custom rules"),
            "median",
            "ratio"
        );
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tollgate.db");
        let store = Store::open(&format!("sqlite:{}", file.display())).await.expect("opens");
        measure("SQLite", store).await;
        match Postgres::start().await {
            Ok(postgres) => {
                measure("PostgreSQL", Store::open(&postgres.url()).await.expect("opens")).await;
            }
            Err(error) => println!("PostgreSQL: not measured: {error}"),
        }
    });
}

async fn measure(database: &str, store: Store) {
    let random = Arc::new(SeededRandom::new(7));
    let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
    let app = App::new(store.clone(), master, Arc::new(FixedClock::default()), random);
    let op = app.system_op().expect("random");
    app.realms().initialise(&op).await.expect("a realm");
    fill(&store, &op).await;
    for (name, condition) in [
        ("needs-rate-limit", "!trigger.externalApi || has(trigger.rateLimit)"),
        (
            "known-hosts",
            "steps.filter(s, s.type == 'http').all(s, s.host in ['stock.example', 'users.example'])",
        ),
        ("no-keys-in-urls", "!trigger.apiKeyInQuery"),
    ] {
        let edit = values(name, json!({ "test": "advised", "prod": "required" }), Some(condition));
        app.policies().set(&op, &edit, "", None).await.expect("saved");
    }

    let floor = median(async || {
        let deployments = read_all::<Deployment>(&store, &op).await;
        let versions = read_all::<PipelineVersion>(&store, &op).await;
        assert_eq!((deployments, versions), (DEPLOYMENTS, DEPLOYMENTS));
    })
    .await;
    let strict = values("external-api-access", json!({ "test": "jwt-with-api-key" }), None);
    let loose = values("external-api-access", json!({ "test": "api-key" }), None);
    let impact = median(async || {
        let impact = app.policies().impact(&op, &strict).await.expect("judged");
        assert_eq!(impact.environments.len(), 2);
    })
    .await;
    let mut next = [&strict, &loose].into_iter().cycle();
    let change = median(async || {
        let edit = next.next().expect("endless");
        app.policies().set(&op, edit, "", None).await.expect("saved");
        let report = app.conformance().report(&op, None).await.expect("judged");
        let judged: usize = report.environments.iter().map(|it| it.deployments).sum();
        assert_eq!(judged, DEPLOYMENTS);
    })
    .await;
    let conformance = median(async || {
        let report = app.conformance().report(&op, None).await.expect("judged");
        std::hint::black_box(report);
    })
    .await;
    for (what, time) in [
        ("reading them (floor)", floor),
        ("conformance of all", conformance),
        ("impact of a change", impact),
        ("saving it, then conformance of all", change),
    ] {
        println!(
            "{:<40} {:>9.0} ms {:>7.2}x",
            format!("{database}: {what}"),
            time.as_secs_f64() * 1e3,
            time.as_secs_f64() / floor.as_secs_f64()
        );
    }
}

/// Reads every object of a kind, and returns how many there are.
async fn read_all<T: Object>(store: &Store, op: &Op) -> usize {
    let mut page = Page { prefix: String::new(), after: None, limit: 500 };
    let mut count = 0;
    loop {
        let objects = store.list::<T>(&op.realm, &page).await.expect("reads");
        count += objects.len();
        match objects.last() {
            Some(last) => page.after = Some(last.value.key()),
            None => return count,
        }
    }
}

async fn median(mut work: impl AsyncFnMut()) -> Duration {
    work().await;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work().await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn values(policy: &str, environments: Value, condition: Option<&str>) -> PolicyEdit {
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

/// Stores pipelines of a size that people write, half of them in each environment.
async fn fill(store: &Store, op: &Op) {
    let mut mutations = Vec::new();
    for n in 0..DEPLOYMENTS {
        let environment = if n % 2 == 0 { "test" } else { "prod" };
        let version: PipelineVersion = serde_json::from_value(json!({
            "version": "1.0", "loginFlow": false, "createdAt": AT, "createdBy": "bench",
            "pipeline": { "name": format!("p{n}"), "project": format!("project-{}", n % 50),
                "trigger": { "type": "rest", "externalApi": true, "apiKey": n % 10 != 0,
                    "jwt": if n % 3 == 0 { json!({ "scopes": ["catalog:read"] }) } else { json!(false) },
                    "routes": [format!("/r{n}/:id")],
                    "rateLimit": { "limits": [{ "interval": "minute", "limit": 600 }] } },
                "steps": [
                    { "assert": { "condition": "message.queryAndPath.id != ''", "status": 400 } },
                    { "http": { "url": "https://stock.example/items", "query": { "id": "{{ message.queryAndPath.id }}" } } },
                    { "choice": { "when": [{ "condition": "message.status == 200", "steps": [{ "json": "{{ message.body }}" }] }],
                        "otherwise": [{ "throw": { "error": "nothing there", "status": 404 } }] } },
                    { "json": { "item": "{{ message }}" } } ] } }))
        .expect("a version");
        let deployment: Deployment = serde_json::from_value(json!({
            "id": format!("dep_{n:032x}"), "pipeline": format!("p{n}"), "version": "1.0", "environment": environment,
            "policyVersion": "1.0", "deployedAt": AT, "deployedBy": "bench", "action": "deploy" }))
        .expect("a deployment");
        mutations.push(Mutation::put(&version, Expect::Absent).expect("json"));
        mutations.push(Mutation::put(&deployment, Expect::Absent).expect("json"));
        if mutations.len() >= BATCH || n + 1 == DEPLOYMENTS {
            let change = Change {
                realm: op.realm.clone(),
                actor: "bench".to_owned(),
                source: "bench".to_owned(),
                action: "bench.fill".to_owned(),
                request_id: "req_1".to_owned(),
                reason: String::new(),
                at: op.now,
                guards: Vec::new(),
                mutations: std::mem::take(&mut mutations),
            };
            store.commit(change).await.expect("stored");
        }
    }
}
