//! Who works in a realm, and what they left behind: users, groups, roles, tokens, a long journal, counted calls.

use std::collections::BTreeMap;

use serde_json::json;
use tollgate_app::App;
use tollgate_app::access::Op;
use tollgate_model::access::{Group, Role};
use tollgate_model::change_requests::ChangeRequest;
use tollgate_model::issuers::Issuer;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_model::traffic::{AnswerClass, CountedTraffic, Measure, TrafficCaller};
use tollgate_model::users::{User, UserToken};
use tollgate_model::values::{Account, Global};
use tollgate_model::waivers::Waiver;
use tollgate_store::{Change, Mutation, Store};

use crate::realm::{AT, commit, put};

const USERS: usize = 500;
const GROUPS: usize = 60;
const ROLES: usize = 30;
/// Sessions and API tokens of each user.
const TOKENS: usize = 8;
/// Globals, and accounts, of an environment.
const VALUES: usize = 500;
/// Issuers of an environment.
const ISSUERS: usize = 50;
const REALMS: usize = 20;
/// Entries of the journal with one change each.
const ENTRIES: usize = 20_000;
/// Changes of one API, as its history tells them.
const DEPLOYS: usize = 300;
const REQUESTS: usize = 200;
const WAIVERS: usize = 300;
/// Minutes in which calls were counted, back from now.
const MINUTES: i64 = 24 * 60;
/// Deployments that are called in each of them, by as many consumers.
const CALLED: usize = 60;
/// Deployments that are called in every minute when there are many calls.
pub(crate) const BUSY: usize = 2_000;
/// How long minutes are told apart, and what they are then told by.
const MINUTES_APART: i64 = 7 * 60;
const QUARTER: i64 = 15;

fn user_id(n: usize) -> String {
    format!("usr_{n:032x}")
}

/// Stores the people and what belongs to them.
pub(crate) async fn fill(app: &App, store: &Store, op: &Op) {
    let mut mutations = Vec::new();
    for n in 0..USERS {
        mutations.push(put::<User>(json!({ "id": user_id(n), "name": format!("user-{n}"),
            "passwordHash": "$argon2id$", "createdAt": AT })));
        for token in 0..TOKENS {
            mutations.push(put::<UserToken>(json!({ "id": format!("utk_{:032x}", n * TOKENS + token),
                "user": user_id(n), "name": format!("token {token}"), "digest": format!("{:064x}", n * TOKENS + token),
                "createdAt": AT, "isApiToken": true })));
        }
    }
    for n in 0..ROLES {
        mutations.push(put::<Role>(json!({ "name": format!("role-{n}"),
            "permissions": ["pipeline:read", "deployment:read", "policy:read"] })));
    }
    for n in 0..GROUPS {
        let members: Vec<String> = (0..USERS / 4).map(|k| user_id((n * 7 + k * 4) % USERS)).collect();
        mutations.push(put::<Group>(json!({ "name": format!("group-{n}"), "members": members,
            "grants": [{ "role": format!("role-{}", n % ROLES), "projects": [format!("project-{}", n % 50)] }] })));
    }
    for environment in ["test", "prod"] {
        for n in 0..VALUES {
            mutations.push(put::<Global>(json!({ "name": format!("global{n}"), "environment": environment,
                "value": { "url": "https://stock.example" }, "updatedAt": AT })));
            mutations
                .push(put::<Account>(json!({ "name": format!("account{n}"), "environment": environment,
                "fields": { "token": "sealed" }, "updatedAt": AT })));
        }
        for n in 0..ISSUERS {
            mutations.push(put::<Issuer>(json!({ "name": format!("issuer{n}"), "environment": environment,
                "settings": { "issuer": format!("https://login{n}.example/"), "audience": "orders",
                    "algorithms": ["ES256"], "consumer": { "claim": "azp" } },
                "createdAt": AT, "updatedAt": AT })));
        }
    }
    for n in 0..REQUESTS {
        let change = json!({ "type": "setPolicy", "policy": "external-api-access", "partial": true,
            "environments": { "test": "jwt-with-api-key" } });
        mutations.push(put::<ChangeRequest>(
            json!({ "id": format!("chg_{n:032x}"), "change": change, "base": 1,
            "policyVersion": "1.0", "author": { "user": user_id(n), "name": format!("user-{n}") },
            "createdAt": AT, "expiresAt": "2126-01-01T00:00:00Z" }),
        ));
    }
    for n in 0..WAIVERS {
        mutations.push(put::<Waiver>(
            json!({ "id": format!("wvr_{n:032x}"), "pipeline": format!("p{}", n * 10),
            "environment": if (n * 10) % 2 == 0 { "test" } else { "prod" }, "policy": "external-api-access",
            "code": "missing-api-key", "until": "2126-01-01T00:00:00Z", "reason": "the callers cannot yet",
            "createdAt": AT, "createdBy": "user-1" }),
        ));
    }
    commit(store, op, mutations).await;
    for n in 0..REALMS {
        let name = format!("realm-{n}").parse().expect("a name");
        app.realms().create(op, name).await.expect("made");
    }
    write_journal(store, op).await;
    count_calls(app, op).await;
}

/// Writes entries of one change each, by many people.
async fn write_journal(store: &Store, op: &Op) {
    for n in 0..ENTRIES {
        let mutation = if n % (ENTRIES / DEPLOYS) == 0 {
            put::<tollgate_model::deployments::Deployment>(crate::realm::deployment(8))
        } else {
            put::<Global>(json!({ "name": format!("global{}", n % VALUES), "environment": "test",
                "value": { "url": "https://stock.example", "n": n }, "updatedAt": AT }))
        };
        store.commit(change(op, n, mutation)).await.expect("stored");
    }
}

fn change(op: &Op, n: usize, mutation: Mutation) -> Change {
    Change {
        realm: op.realm.clone(),
        actor: format!("user-{}", n % USERS),
        source: format!("192.0.2.{}", n % 250),
        action: if n.is_multiple_of(3) { "global.set" } else { "deployment.deploy" }.to_owned(),
        request_id: format!("req_{n:032x}"),
        reason: String::new(),
        at: op.now,
        guards: Vec::new(),
        mutations: vec![mutation],
    }
}

async fn count_calls(app: &App, op: &Op) {
    let now = op.now.as_second().div_euclid(60);
    let mut counts = BTreeMap::new();
    for minute in 1..=MINUTES {
        for n in 0..CALLED {
            let name = |text: String| -> PipelineName { text.parse().expect("a name") };
            let consumer: ConsumerName = format!("c{n}").parse().expect("a name");
            let of = CountedTraffic {
                realm: op.realm.clone(),
                environment: EnvironmentName::test(),
                pipeline: Some((name(format!("p{}", n * 2)), 1)),
                minute: now - minute,
                caller: TrafficCaller::Consumer(consumer),
                measure: Measure::Answer(AnswerClass::Successful),
            };
            let refused = Measure::Code(AnswerClass::ClientError, "missing-token".to_owned());
            counts.insert(CountedTraffic { measure: refused, ..of.clone() }, 1);
            counts.insert(of, 20);
        }
    }
    while !counts.is_empty() {
        let batch = app.traffic().batch(&mut counts).expect("random");
        app.traffic().add(&batch).await.expect("stored");
    }
    // As each process does every hour.
    app.traffic().forget_old().await.expect("folded");
}

/// Counts calls of thousands of deployments in every minute of a day, as they are kept: by minute for seven hours, then by
/// quarters of an hour.
pub(crate) async fn count_many_calls(app: &App, op: &Op) {
    let now = op.now.as_second().div_euclid(60);
    for n in 0..BUSY {
        let pipeline: PipelineName = format!("p{}", n * 2).parse().expect("a name");
        let consumer: ConsumerName = format!("c{n}").parse().expect("a name");
        let mut counts = BTreeMap::new();
        for back in 1..=MINUTES {
            let minute = now - back;
            let minute = if back > MINUTES_APART { minute - minute.rem_euclid(QUARTER) } else { minute };
            for measure in [Measure::Answer(AnswerClass::Successful), Measure::Took((n % 6) as u8)] {
                let of = CountedTraffic {
                    realm: op.realm.clone(),
                    environment: EnvironmentName::test(),
                    pipeline: Some((pipeline.clone(), 1)),
                    minute,
                    caller: TrafficCaller::Consumer(consumer.clone()),
                    measure,
                };
                *counts.entry(of).or_default() += 20;
            }
        }
        while !counts.is_empty() {
            let batch = app.traffic().batch(&mut counts).expect("random");
            app.traffic().add(&batch).await.expect("stored");
        }
    }
}
