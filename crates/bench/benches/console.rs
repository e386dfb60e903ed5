//! Every page of the console over a realm of ten thousand deployed pipelines and a hundred thousand consumers.
//!
//! Through the router, in process, with the store: on SQLite in a file, and on PostgreSQL when its programs are there. Prints
//! the median of each page, of the parts in which a rule is tried, and of the first page after a change of the policies and
//! of a process. No page is to take over 100 ms; a line that does is marked. `TOLLGATE_BENCH=postgresql` (or `sqlite`)
//! measures on that one alone.
//!
//! A new page is a line in [`PAGES`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::json;
use tollgate_app::access::Op;
use tollgate_app::policies::PolicyEdit;
use tollgate_app::users::SignIn;
use tollgate_app::{App, Password};
use tollgate_console::ConsoleSettings;
use tollgate_credential::seal::MasterKey;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::deployments::Deployment;
use tollgate_model::environments::Project;
use tollgate_model::pipelines::{PipelineHead, PipelineVersion};
use tollgate_model::users::SessionClient;
use tollgate_store::{Mutation, Store};
use tollgate_testkit::{FixedClock, SeededRandom};
use tower::ServiceExt as _;

#[path = "shared/gateway.rs"]
mod gateway;
#[path = "shared/people.rs"]
mod people;
#[path = "shared/realm.rs"]
mod realm;

use realm::{
    AT, PIPELINES, begin, commit, commit_full, deployment, median, on_each_database, put, set_rules, values,
    version,
};

/// The pages, as paths after the realm, or from the root. `xtask` tests that none is missing.
const PAGES: &[&str] = &[
    "overview",
    "pipelines",
    "pipelines?project=project-7",
    "pipelines/p7",
    "pipelines/p7/edit",
    "pipelines/p7/versions",
    "pipelines/p7/deploy?environment=prod",
    "pipelines/p8/promote?from=test&to=prod&major=1",
    "pipelines/p8/rollback?environment=test",
    "pipelines/p8/associate?environment=test",
    "new-pipeline",
    "deployments",
    "deployments/undeploy?environment=test&pipeline=p8&major=1",
    "deployments/test/p8/history",
    "deployments/test/p8/openapi.json",
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
    "rules/no-keys-in-urls/remove",
    "waivers",
    "waivers/new?pipeline=p10&environment=test",
    "waivers/extend?id=wvr_00000000000000000000000000000000",
    "change-requests",
    "change-requests/chg_00000000000000000000000000000000",
    "consumers?environment=test",
    "consumers?environment=test&q=9999",
    "consumers/new?environment=test",
    "consumers/test/c77",
    "globals?environment=test",
    "globals/delete?environment=test&name=global7",
    "accounts?environment=test",
    "accounts/delete?environment=test&name=account7",
    "issuers?environment=test",
    "issuers/test/issuer7",
    "new-issuer?environment=test",
    "signing-keys?environment=test",
    "search?q=c777",
    "search?q=nothing-has-this",
    "users",
    "users?q=user-4",
    "new-user",
    "users/user-7",
    "groups",
    "new-group",
    "groups/group-7",
    "roles",
    "new-role",
    "roles/role-7",
    "tokens",
    "tokens?user=user-7",
    "realms",
    "environments",
    "new-environment",
    "settings",
    "account",
    "account/tokens/new",
    "/account/password",
    "/account/second-factor",
    "audit",
    "audit?actor=user-77",
    "audit?action=global.set&key=test%2Fglobal77&kind=global",
    "audit?source=192.0.2.77",
    "audit?actor=nobody",
    "audit?before=5000",
    "audit/5000",
    "traffic?environment=test&range=1h",
    "traffic?environment=test&range=24h",
    "traffic?environment=test&range=24h&pipeline=p8",
    "calls",
    "calls/list?environment=test",
    "explain",
];

/// The pages that tell of calls, measured again when there were many.
const PAGES_OF_CALLS: &[&str] = &[
    "overview",
    "deployments",
    "pipelines/p8",
    "consumers?environment=test",
    "consumers/test/c77",
    "traffic?environment=test&range=1h",
    "traffic?environment=test&range=6h",
    "traffic?environment=test&range=24h",
    "traffic?environment=test&range=7d",
    "traffic?environment=test&range=24h&pipeline=p8",
    "traffic?environment=test&range=24h&consumer=c77",
    "calls",
];

const PASSWORD: &str = "open-sesame-2026";
const CONSUMERS: usize = 100_000;
const ROUNDS: usize = 9;
const BATCH: usize = 1_000;
const LIMIT: Duration = Duration::from_millis(100);

fn main() {
    let failed = Failed::default();
    on_each_database(async |database, store| measure(database, store, &failed).await);
    let failed = failed.0.into_inner().expect("nobody panicked with it");
    assert!(failed.is_empty(), "no page at all:\n{}", failed.join("\n"));
}

/// The pages that did not answer 200: what is measured of them says nothing.
#[derive(Default)]
struct Failed(Mutex<Vec<String>>);

async fn measure(database: &str, store: Store, failed: &Failed) {
    let (app, op) = begin(&store).await;
    let password = Password::parse(PASSWORD).expect("a password");
    app.users().create_first_admin(&op, Some(password)).await.expect("made").expect("the first");
    let cookie = sign_in(&app, &op).await;
    app.set_gateway(Arc::new(gateway::KnowsCalls::new(&op)));
    let start = Instant::now();
    fill(&store, &op).await;
    people::fill(&app, &store, &op).await;
    println!(
        "{database}: {PIPELINES} deployed pipelines, {CONSUMERS} consumers (filled in {:.0} s)",
        start.elapsed().as_secs_f64()
    );
    let rules = [
        ("needs-rate-limit", "!trigger.externalApi || has(trigger.rateLimit)"),
        ("no-keys-in-urls", "!trigger.apiKeyInQuery"),
    ];
    set_rules(&app, &op, &rules).await;
    let stricter = values("external-api-access", json!({ "prod": "jwt-with-api-key" }), None);
    if let PolicyEdit::Set(stricter) = &stricter {
        app.shadow().set(&op, stricter, "", None).await.expect("runs");
    }
    let router = tollgate_console::router(app.clone(), ConsoleSettings::default());
    for page in PAGES {
        measure_page(database, &router, page, &cookie, failed).await;
    }
    try_rules(&router, &cookie).await;
    // A process that was just started, before and without anything that it would have read by itself.
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = tollgate_console::router(again(&store), ConsoleSettings::default());
        let start = Instant::now();
        get(database, &started, "/realms/default/policies", &cookie, failed).await;
        times.push(start.elapsed());
    }
    print("/policies, the first of a process that has read nothing", median(times), 0);
    // Everything is judged anew before these are told.
    for (page, value) in [("policies", "jwt-with-api-key"), ("policies/conformance/test", "any")] {
        let path = format!("/realms/default/{page}");
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS {
            let value = if round % 2 == 0 { value } else { "api-key" };
            let edit = values("external-api-access", json!({ "test": value }), None);
            app.policies().set(&op, &edit, "", None).await.expect("saved");
            let start = Instant::now();
            get(database, &router, &path, &cookie, failed).await;
            times.push(start.elapsed());
        }
        print(&format!("/{page}, the first after a change of the policies"), median(times), 0);
    }
    let start = Instant::now();
    people::count_many_calls(&app, &op).await;
    println!(
        "{} pipelines called in every minute of a day (filled in {:.0} s)",
        people::BUSY,
        start.elapsed().as_secs_f64()
    );
    for page in PAGES_OF_CALLS {
        measure_page(database, &router, page, &cookie, failed).await;
    }
}

/// Asks for a page, and prints the median.
async fn measure_page(database: &str, router: &Router, page: &str, cookie: &str, failed: &Failed) {
    let path = if page.starts_with('/') { page.to_owned() } else { format!("/realms/default/{page}") };
    let (mut times, mut bytes) = (Vec::with_capacity(ROUNDS), 0);
    for round in 0..=ROUNDS {
        let start = Instant::now();
        bytes = get(database, router, &path, cookie, failed).await;
        // The first one warms up.
        if round > 0 {
            times.push(start.elapsed());
        }
    }
    print(&format!("/{}", page.trim_start_matches('/')), median(times), bytes);
}

/// Signs the admin in as a browser does, and returns the cookie.
async fn sign_in(app: &App, op: &Op) -> String {
    let shown = SignIn {
        user: "admin",
        password: PASSWORD,
        code: None,
        name: "browser",
        client: SessionClient::Browser,
        user_agent: None,
        replaces: None,
    };
    let signed_in = app.users().sign_in(op, &shown).await.expect("signs in");
    format!("tollgate_session={}", signed_in.token.plain.expose_secret())
}

/// Returns the use cases of a process that has just been started over a realm that is there.
fn again(store: &Store) -> App {
    let random = Arc::new(SeededRandom::new(8));
    let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
    App::new(store.clone(), master, Arc::new(FixedClock::default()), random)
}

/// Tries rules that nobody tried before, as somebody who writes them does: prints the longest of the parts that it takes.
async fn try_rules(router: &Router, cookie: &str) {
    // `{n}` makes another condition of the same work.
    for (what, condition) in [
        ("of the trigger", "!trigger.externalApi || size(trigger.routes) < {n}"),
        (
            "of steps",
            "steps.filter(s, s.type == 'http').all(s, s.host in ['stock.example']) && size(steps) < {n}",
        ),
        (
            "of steps, several times",
            "steps.all(s, s.type != 'log') && steps.exists(s, s.type == 'json') && size(steps) < {n}",
        ),
    ] {
        let mut longest = Vec::with_capacity(ROUNDS);
        let mut parts = 0;
        for round in 0..ROUNDS {
            let condition = condition.replace("{n}", &(1000 + round).to_string());
            let form = format!("name=tried&message=no&condition={}", encoded(&condition));
            let mut slowest = Duration::ZERO;
            parts = 0;
            loop {
                let start = Instant::now();
                let text = post(router, "/realms/default/new-rule/try", &form, cookie).await;
                slowest = slowest.max(start.elapsed());
                parts += 1;
                assert!(
                    text.contains("of 5000") || text.contains("all 5000") || text.contains("so far"),
                    "{text}"
                );
                if !text.contains("The rest follows") {
                    break;
                }
            }
            longest.push(slowest);
        }
        print(&format!("a rule {what}, tried on everything ({parts} parts)"), median(longest), 0);
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Posts a form, and returns the page.
async fn post(router: &Router, path: &str, form: &str, cookie: &str) -> String {
    let request = Request::post(path)
        .header("cookie", cookie)
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .expect("a request");
    let response = router.clone().oneshot(request).await.expect("never fails");
    assert_eq!(response.status(), 200, "{path}");
    let bytes = to_bytes(response.into_body(), 64 << 20).await.expect("a body");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn print(page: &str, time: Duration, bytes: usize) {
    let mark = if time > LIMIT { "  over 100 ms" } else { "" };
    println!("{page:<56} {:>8.1} ms {:>8} KiB{mark}", time.as_secs_f64() * 1e3, bytes / 1024);
}

/// Gets a page, and returns its size.
async fn get(database: &str, router: &Router, path: &str, cookie: &str, failed: &Failed) -> usize {
    let request = Request::get(path).header("cookie", cookie).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("never fails");
    if response.status() != StatusCode::OK {
        let mut failed = failed.0.lock().expect("nobody panicked with it");
        let line = format!("{database}: {path} answers {}", response.status());
        if !failed.contains(&line) {
            println!("{line}");
            failed.push(line);
        }
    }
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
