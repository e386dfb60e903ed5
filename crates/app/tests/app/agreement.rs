//! Whoever is asked about the same pipeline at the same moment says the same: deploy, rollback, promote, the verdict on
//! saving, conformance, impact, and the judge that `tollgate check` asks offline.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_app::App;
use tollgate_app::access::Op;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::pipelines::SavePipeline;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{Policies, PolicyName};
use tollgate_model::verdicts::{Verdict, Violation, ViolationCode};
use tollgate_model::versions::Version;
use tollgate_model::waivers::Waiver;
use tollgate_policy::Judge;
use tollgate_store::{Change, Expect, Mutation};

use crate::world::{World, pipeline};

/// A pipeline, the policies that it meets, and the waivers for it, as generated.
#[derive(Debug, Clone)]
struct Case {
    trigger: Value,
    steps: Value,
    external: &'static str,
    internal: &'static str,
    rule: &'static str,
    /// Which violation is waived, and when that ends, in seconds from the moment of the first questions.
    waivers: Vec<(&'static str, ViolationCode, i64)>,
}

const NAME: &str = "p";

fn case() -> impl Strategy<Value = Case> {
    let requirement = || prop::sample::select(vec!["any", "api-key", "jwt-with-api-key"]);
    let token = json!({ "jwtGenerate": { "expiresInMs": 172_800_000_u64 } });
    let steps = prop::sample::select(vec![
        json!([{ "json": 1 }]),
        json!([{ "json": { "user": "x" } }, token.clone()]),
        json!([token]),
        json!([{ "http": { "url": "https://users.example/" } }, { "json": 1 }]),
    ]);
    let waiver = prop::sample::select(vec![
        ("external-api-access", ViolationCode::MissingApiKey),
        ("external-api-access", ViolationCode::MissingJwt),
        ("internal-api-access", ViolationCode::MissingJwt),
        ("login-flows", ViolationCode::TokenLifetime),
        ("login-flows", ViolationCode::UnnamedClaims),
        ("login-flows", ViolationCode::LoginApiKey),
        ("no-upstreams", ViolationCode::Rule),
    ]);
    let waivers = prop::collection::vec((waiver, -1..3_i64), 0..5)
        .prop_map(|all| all.into_iter().map(|((policy, code), until)| (policy, code, until)).collect());
    (any::<[bool; 6]>(), steps, requirement(), requirement(), prop::sample::select(vec!["off", "advised", "required"]), waivers)
        .prop_map(|([external_api, internal_api, api_key, mtls, jwt, basic], steps, external, internal, rule, waivers)| Case {
            trigger: json!({ "type": "rest", "externalApi": external_api, "internalApi": internal_api, "apiKey": api_key,
                "mtls": mtls, "jwt": jwt, "basicAuth": basic && !jwt }),
            steps,
            external,
            internal,
            rule,
            waivers,
        })
}

fn edit(policy: &str, value: &str, condition: Option<&str>) -> PolicyEdit {
    PolicyEdit::Set(PolicyValues {
        policy: policy.parse().unwrap(),
        environments: [(EnvironmentName::test(), value.into()), (EnvironmentName::prod(), value.into())]
            .into(),
        partial: false,
        condition: condition.map(str::to_owned),
        message: condition.map(|_| "no upstreams here".to_owned()),
        fix: None,
    })
}

fn document(case: &Case, description: &str) -> SavePipeline {
    let document = json!({ "kind": "Pipeline", "name": NAME, "project": "store", "description": description,
        "trigger": case.trigger, "steps": case.steps });
    SavePipeline { document: document.to_string(), ..SavePipeline::default() }
}

fn violations(outcome: Result<(), Error>) -> Vec<Violation> {
    match outcome {
        Ok(()) => Vec::new(),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Refused, "{error}");
            assert!(!error.violations.is_empty());
            error.violations.into_vec()
        }
    }
}

/// Puts waivers into the store as they are, also such as could not be made any more.
async fn waive(world: &World, case: &Case) -> Vec<Waiver> {
    let mut waivers = Vec::new();
    for (index, (policy, code, until)) in case.waivers.iter().enumerate() {
        for environment in [EnvironmentName::test(), EnvironmentName::prod()] {
            let random =
                [u8::try_from(index).unwrap() * 2 + u8::from(environment == EnvironmentName::prod()); 10];
            let waiver = Waiver {
                id: tollgate_model::ids::WaiverId::new(world.op.now, random),
                pipeline: pipeline(NAME),
                environment,
                policy: policy.parse::<PolicyName>().unwrap(),
                code: *code,
                until: world.op.now + SignedDuration::from_secs(*until),
                reason: "a test".to_owned(),
                created_at: world.op.now,
                created_by: "test".to_owned(),
                approved_by: None,
            };
            let change = Change {
                realm: world.op.realm.clone(),
                actor: "test".to_owned(),
                source: "test".to_owned(),
                action: "waiver.create".to_owned(),
                request_id: "req_1".to_owned(),
                reason: String::new(),
                at: world.op.now,
                guards: Vec::new(),
                mutations: vec![Mutation::put(&waiver, Expect::Absent).unwrap()],
            };
            world.store.commit(change).await.unwrap();
            waivers.push(waiver);
        }
    }
    waivers
}

async fn conformance(app: &App, op: &Op, environment: &EnvironmentName) -> Option<Vec<Violation>> {
    let report = crate::world::conformance(app, op, Some(environment)).await;
    let [report] = report.as_slice() else { panic!("one environment") };
    assert_eq!(report.deployments, report.conformant + report.waived + report.not_conformant);
    report.items.first().map(|item| {
        assert_eq!(item.conforms, item.violations.is_empty());
        item.violations.clone()
    })
}

async fn agree(case: Case) {
    let world = World::start().await;
    let World { app, .. } = &world;
    for edit in [
        edit("external-api-access", case.external, None),
        edit("internal-api-access", case.internal, None),
        edit("no-upstreams", case.rule, Some("!steps.exists(s, s.type == 'http')")),
    ] {
        app.policies().set(&world.op, &edit, "", None).await.unwrap();
    }
    let saved = app.pipelines().save(&world.op, document(&case, "first")).await.unwrap();
    app.pipelines().save(&world.op, document(&case, "second")).await.unwrap();
    let waivers = waive(&world, &case).await;
    let policies: Policies = app.policies().get(&world.op).await.unwrap().value;
    let parsed =
        app.pipelines().version(&world.op, &saved.name, Version::FIRST).await.unwrap().version.pipeline;

    // The moments around the ends of the waivers; a clock that is ahead or behind asks about another moment, and gets
    // the answer of that moment.
    for second in [0, 1, 2, 3, 0] {
        let now: Timestamp = world.op.now + SignedDuration::from_secs(second);
        let op = Op { now, ..world.op.clone() };
        let judge = Judge::new(&policies, &waivers, now);
        for environment in [EnvironmentName::test(), EnvironmentName::prod()] {
            let expected: Verdict = judge.verdict(&parsed, &environment).unwrap();
            let from_save = app.pipelines().save(&op, document(&case, "second")).await.unwrap().verdicts;
            let from_save = from_save.into_iter().find(|it| it.environment == environment).unwrap();
            assert_eq!(from_save, expected, "on saving, at {second}");
            if let Some(found) = conformance(app, &op, &environment).await {
                assert_eq!(found, expected.violations, "conformance, at {second}");
            }
            let deploy = |version: Version| {
                let (op, environment) = (&op, &environment);
                async move {
                    let deployments = app.deployments();
                    deployments.deploy(op, environment, &pipeline(NAME), Some(version), None).await.map(drop)
                }
            };
            assert_eq!(violations(deploy(Version::FIRST).await), expected.violations, "deploy, at {second}");
            assert_eq!(violations(deploy(Version::FIRST.next_minor()).await), expected.violations);
            if expected.conforms() {
                let back = app.deployments().rollback(&op, &environment, &pipeline(NAME), None, None).await;
                assert_eq!(violations(back.map(drop)), expected.violations, "rollback, at {second}");
            }
            let same = edit("external-api-access", case.external, None);
            let impact = app.policies().impact(&op, &same).await.unwrap();
            assert_eq!(impact.meaning.effect.as_str(), "none");
            for environment in impact.environments {
                assert!(environment.falls_out.is_empty() && environment.comes_in.is_empty());
            }
        }
        if conformance(app, &op, &EnvironmentName::test()).await.is_some() {
            let expected = judge.verdict(&parsed, &EnvironmentName::prod()).unwrap();
            let (test, prod) = (EnvironmentName::test(), EnvironmentName::prod());
            let promoted = app.deployments().promote(&op, &pipeline(NAME), &test, &prod, None).await;
            assert_eq!(violations(promoted.map(drop)), expected.violations, "promote, at {second}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_who_judge_agree(case in case()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(agree(case));
    }
}
