//! A policy change over ten thousand deployed pipelines: what it would mean, saving it, and how everything stands then.
//!
//! On SQLite in a file, and on PostgreSQL when its programs are there. The floor is reading the same objects without
//! judging them. Prints medians and ratios.

use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_app::App;
use tollgate_app::access::Op;
use tollgate_app::conformance::ConformanceFilter;
use tollgate_app::lists::ListRequest;
use tollgate_model::deployments::Deployment;
use tollgate_model::objects::Object;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_store::{Page, Store};

#[path = "shared/realm.rs"]
mod realm;

use realm::{
    PIPELINES, begin, commit, commit_full, deployment, median, on_each_database, put, set_rules, values,
    version,
};

const ROUNDS: usize = 7;
const BATCH: usize = 500;

fn main() {
    println!("{:<40} {:>12} {:>8}", format!("{PIPELINES} deployments, 3 custom rules"), "median", "ratio");
    on_each_database(measure);
}

async fn measure(database: &str, store: Store) {
    let (app, op) = begin(&store).await;
    fill(&store, &op).await;
    let rules = [
        ("needs-rate-limit", "!trigger.externalApi || has(trigger.rateLimit)"),
        (
            "known-hosts",
            "steps.filter(s, s.type == 'http').all(s, s.host in ['stock.example', 'users.example'])",
        ),
        ("no-keys-in-urls", "!trigger.apiKeyInQuery"),
    ];
    set_rules(&app, &op, &rules).await;

    let floor = median_of(async || {
        let deployments = read_all::<Deployment>(&store, &op).await;
        let versions = read_all::<PipelineVersion>(&store, &op).await;
        assert_eq!((deployments, versions), (PIPELINES, PIPELINES));
    })
    .await;
    let strict = values("external-api-access", json!({ "test": "jwt-with-api-key" }), None);
    let loose = values("external-api-access", json!({ "test": "api-key" }), None);
    let impact = median_of(async || {
        let impact = app.policies().impact(&op, &strict).await.expect("judged");
        assert_eq!(impact.environments.len(), 2);
    })
    .await;
    let mut next = [&strict, &loose].into_iter().cycle();
    let change = median_of(async || {
        let edit = next.next().expect("endless");
        app.policies().set(&op, edit, "", None).await.expect("saved");
        assert_eq!(in_pages(&app, &op).await, PIPELINES);
    })
    .await;
    let conformance = median_of(async || {
        assert_eq!(in_pages(&app, &op).await, PIPELINES);
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

/// Reads the whole report of conformance, page by page, and returns how many deployments it tells of.
async fn in_pages(app: &App, op: &Op) -> usize {
    let filter = ConformanceFilter::default();
    let (mut told, mut cursor) = (0, None);
    loop {
        let request = ListRequest { limit: Some(500), cursor };
        let page = app.conformance().report(op, None, &filter, request).await.expect("judged");
        told += page.environments.iter().map(|it| it.items.len()).sum::<usize>();
        match page.next {
            Some(next) => cursor = Some(next),
            None => return told,
        }
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

async fn median_of(mut work: impl AsyncFnMut()) -> Duration {
    work().await;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work().await;
        times.push(start.elapsed());
    }
    median(times)
}

/// Stores the pipelines, and that they run.
async fn fill(store: &Store, op: &Op) {
    let mut mutations = Vec::new();
    for n in 0..PIPELINES {
        mutations.push(put::<PipelineVersion>(version(n)));
        mutations.push(put::<Deployment>(deployment(n)));
        commit_full(store, op, &mut mutations, BATCH).await;
    }
    commit(store, op, mutations).await;
}
