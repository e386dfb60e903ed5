//! Every page of the console over a realm of ten thousand deployed pipelines and a hundred thousand consumers.
//!
//! Through the router, in process, with the store: on SQLite in a file, and on PostgreSQL when its programs are there. Prints
//! the median of each page, and that of the first page after a change of the policies, when everything is judged anew. No
//! page is to take over 100 ms; a line that does is marked.
//!
//! A new page is a line in [`PAGES`].

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::Request;
use serde_json::json;
use tollgate_app::Password;
use tollgate_app::access::Op;
use tollgate_console::ConsoleSettings;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::deployments::Deployment;
use tollgate_model::environments::Project;
use tollgate_model::pipelines::{PipelineHead, PipelineVersion};
use tollgate_store::{Mutation, Store};
use tower::ServiceExt as _;

#[path = "shared/realm.rs"]
mod realm;

use realm::{
    AT, PIPELINES, begin, commit, commit_full, deployment, median, on_each_database, put, set_rules, values,
    version,
};

/// The pages, as paths after the realm.
const PAGES: &[&str] = &[
    "overview",
    "pipelines",
    "pipelines?project=project-7",
    "pipelines/p7",
    "pipelines/p7/edit",
    "pipelines/p7/deploy?environment=prod",
    "pipelines/p8/rollback?environment=test",
    "new-pipeline",
    "deployments",
    "policies",
    "policies/external-api-access/edit",
    "policies/conformance/prod",
    "policies/conformance/prod?show=not-conformant&q=p99",
    "policies/shadow",
    "policy-values/enforcement",
    "policy-versions",
    "policy-versions/1.0",
    "new-rule",
    "rules/no-keys-in-urls",
    "waivers",
    "waivers/new?pipeline=p10&environment=test",
    "consumers?environment=test",
    "consumers?environment=test&q=9999",
    "consumers/new?environment=test",
    "consumers/test/c77",
    "globals?environment=test",
    "accounts?environment=test",
    "signing-keys?environment=test",
    "search?q=c777",
    "search?q=nothing-has-this",
];

const CONSUMERS: usize = 100_000;
const ROUNDS: usize = 9;
const BATCH: usize = 1_000;
const LIMIT: Duration = Duration::from_millis(100);

fn main() {
    on_each_database(measure);
}

async fn measure(database: &str, store: Store) {
    let (app, op) = begin(&store).await;
    let password = Password::parse("open-sesame-2026").expect("a password");
    let admin = app.users().create_first_admin(&op, Some(password)).await.expect("made").expect("the first");
    let cookie = format!("tollgate_session={}", admin.token.plain.expose_secret());
    let start = Instant::now();
    fill(&store, &op).await;
    println!(
        "{database}: {PIPELINES} deployed pipelines, {CONSUMERS} consumers (filled in {:.0} s)",
        start.elapsed().as_secs_f64()
    );
    let rules = [
        ("needs-rate-limit", "!trigger.externalApi || has(trigger.rateLimit)"),
        ("no-keys-in-urls", "!trigger.apiKeyInQuery"),
    ];
    set_rules(&app, &op, &rules).await;
    let router = tollgate_console::router(app.clone(), ConsoleSettings::default());
    for page in PAGES {
        let path = format!("/realms/default/{page}");
        let (mut times, mut bytes) = (Vec::with_capacity(ROUNDS), 0);
        for round in 0..=ROUNDS {
            let start = Instant::now();
            bytes = get(&router, &path, &cookie).await;
            // The first one warms up.
            if round > 0 {
                times.push(start.elapsed());
            }
        }
        print(&format!("/{page}"), median(times), bytes);
    }
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let value = if round % 2 == 0 { "jwt-with-api-key" } else { "api-key" };
        let edit = values("external-api-access", json!({ "test": value }), None);
        app.policies().set(&op, &edit, "", None).await.expect("saved");
        let start = Instant::now();
        get(&router, "/realms/default/policies", &cookie).await;
        times.push(start.elapsed());
    }
    print("/policies, the first after a change of the policies", median(times), 0);
}

fn print(page: &str, time: Duration, bytes: usize) {
    let mark = if time > LIMIT { "  over 100 ms" } else { "" };
    println!("{page:<56} {:>8.1} ms {:>8} KiB{mark}", time.as_secs_f64() * 1e3, bytes / 1024);
}

/// Gets a page, and returns its size.
async fn get(router: &Router, path: &str, cookie: &str) -> usize {
    let request = Request::get(path).header("cookie", cookie).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("never fails");
    assert_eq!(response.status(), 200, "{path}");
    to_bytes(response.into_body(), 64 << 20).await.expect("a body").len()
}

/// Stores pipelines of a size that people write, half of them in each environment; and consumers with a key each, some with
/// a password, each associated with five pipelines.
async fn fill(store: &Store, op: &Op) {
    let mut mutations: Vec<Mutation> =
        (0..50).map(|n| put::<Project>(json!({ "name": format!("project-{n}"), "createdAt": AT }))).collect();
    for n in 0..PIPELINES {
        mutations.push(put::<PipelineHead>(
            json!({ "name": format!("p{n}"), "project": format!("project-{}", n % 50),
            "latest": "1.0", "versions": ["1.0"] }),
        ));
        mutations.push(put::<PipelineVersion>(version(n)));
        mutations.push(put::<Deployment>(deployment(n)));
        commit_full(store, op, &mut mutations, BATCH).await;
    }
    for n in 0..CONSUMERS {
        let id = format!("con_{n:032x}");
        let pipelines: Vec<String> =
            (0..5).map(|k| format!("p{}", (n * 7 + k * 1_999) % (PIPELINES - 100))).collect();
        mutations.push(put::<Consumer>(json!({ "id": id, "name": format!("c{n}"), "environment": "test",
            "pipelines": pipelines, "createdAt": AT })));
        mutations.push(put::<ApiKey>(
            json!({ "id": format!("key_{n:032x}"), "consumer": id, "environment": "test",
            "name": "main", "digest": format!("{n:064x}"), "hint": "abcd", "createdAt": AT }),
        ));
        if n % 20 == 0 {
            mutations.push(put::<BasicAuth>(json!({ "id": format!("bas_{n:032x}"), "consumer": id,
                "environment": "test", "username": format!("user-{n}"), "passwordHash": "$argon2id$", "createdAt": AT })));
        }
        commit_full(store, op, &mut mutations, BATCH).await;
    }
    commit(store, op, mutations).await;
}
