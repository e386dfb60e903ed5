//! What is kept of verdicts is never told when it holds no more: whatever was changed, by this process or another, and
//! whatever time it is, conformance says what a judge says who reads everything.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;
use tollgate_app::App;
use tollgate_app::access::{Actor, Extent, Op, Permission, Reach, Rights};
use tollgate_app::conformance::ConformanceFilter;
use tollgate_app::errors::ErrorKind;
use tollgate_app::lists::ListRequest;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_model::deployments::Deployment;
use tollgate_model::names::{EnvironmentName, ProjectName, RuleName};
use tollgate_model::objects::{Object, keys};
use tollgate_model::pipelines::{PipelineHead, PipelineVersion};
use tollgate_model::policies::{Policies, Policy, PolicyName, Rule, RuleMode};
use tollgate_model::waivers::Waiver;
use tollgate_policy::{Conformance, Judge};
use tollgate_store::{Change, Expect, Mutation, Page, Store};

use crate::world::{World, conformance, external};

const AT: &str = "2026-01-01T00:00:00Z";
const PIPELINES: [&str; 2] = ["a", "a-b"];
const ENVIRONMENTS: [&str; 2] = ["test", "prod"];

const RULES: [&str; 2] = ["one", "two"];
const CONDITIONS: [&str; 4] = [
    "trigger.apiKey",
    "!trigger.jwt || name == 'a'",
    "project == 'store'",
    "steps.all(s, s.type == 'json' && s.body != 2)",
];

fn at(names: &[&'static str], index: usize) -> &'static str {
    names.get(index).copied().expect("one of them")
}

/// Something that happens, and between which the question is asked.
#[derive(Debug, Clone)]
enum Step {
    /// A pipeline is saved in a project and deployed, with or without keys and tokens.
    Deploy {
        pipeline: usize,
        environment: usize,
        api_key: bool,
        jwt: bool,
        project: bool,
    },
    Undeploy {
        pipeline: usize,
        environment: usize,
    },
    /// Another pipeline takes its name, its version and its place.
    Replace {
        pipeline: usize,
        environment: usize,
    },
    Policy {
        environment: usize,
        value: &'static str,
    },
    /// A custom rule gets a condition, by this process or another; none takes it away.
    Rule {
        rule: usize,
        condition: Option<&'static str>,
        mode: &'static str,
        elsewhere: bool,
    },
    /// A waiver that ends after so many seconds.
    Waive {
        pipeline: usize,
        environment: usize,
        code: &'static str,
        seconds: i64,
    },
    EndWaivers,
    /// Nothing that concerns verdicts.
    Other,
    /// Two changes that are made at once.
    AtOnce(Box<Step>, Box<Step>),
    /// Time passes; clocks of requests are not in the order of their coming.
    Tick(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..PIPELINES.len(), 0..ENVIRONMENTS.len());
    let values = prop::sample::select(vec!["any", "api-key", "jwt-with-api-key"]);
    let code = prop::sample::select(vec!["missing-api-key", "missing-jwt"]);
    let condition = prop::option::weighted(0.8, prop::sample::select(CONDITIONS.to_vec()));
    let mode = prop::sample::select(vec!["off", "advised", "required"]);
    let change = prop_oneof![
        4 => (place(), any::<[bool; 3]>()).prop_map(|((pipeline, environment), [api_key, jwt, project])| {
            Step::Deploy { pipeline, environment, api_key, jwt, project }
        }),
        1 => place().prop_map(|(pipeline, environment)| Step::Undeploy { pipeline, environment }),
        1 => place().prop_map(|(pipeline, environment)| Step::Replace { pipeline, environment }),
        2 => (0..ENVIRONMENTS.len(), values).prop_map(|(environment, value)| Step::Policy { environment, value }),
        4 => (place(), code, 1..4_i64).prop_map(|((pipeline, environment), code, seconds)| {
            Step::Waive { pipeline, environment, code, seconds }
        }),
        4 => (0..RULES.len(), condition, mode, any::<bool>()).prop_map(|(rule, condition, mode, elsewhere)| {
            Step::Rule { rule, condition, mode, elsewhere }
        }),
        1 => Just(Step::EndWaivers),
        1 => Just(Step::Other),
    ];
    let at_once = (change.clone(), change.clone())
        .prop_map(|(one, other)| Step::AtOnce(Box::new(one), Box::new(other)));
    prop_oneof![
        8 => change,
        1 => at_once,
        2 => (-1..3_i64).prop_map(Step::Tick),
    ]
}

fn version(name: &str, project: &str, api_key: bool, jwt: bool) -> PipelineVersion {
    serde_json::from_value(json!({ "version": "1.0", "loginFlow": false, "createdAt": AT, "createdBy": "ada",
        "pipeline": { "name": name, "project": project, "steps": [{ "json": 1 }],
            "trigger": { "type": "rest", "externalApi": true, "apiKey": api_key, "jwt": jwt } } }))
    .unwrap()
}

fn put(value: &impl Object) -> Mutation {
    Mutation::put(value, Expect::Any).unwrap()
}

/// Writes as another process does.
async fn commit(store: &Store, op: &Op, mutations: Vec<Mutation>) {
    let change = Change {
        realm: op.realm.clone(),
        actor: "ada".into(),
        source: "test".into(),
        action: "test".into(),
        request_id: "req_1".into(),
        reason: String::new(),
        at: op.now,
        guards: Vec::new(),
        mutations,
    };
    store.commit(change).await.unwrap();
}

async fn all<T: Object>(store: &Store, op: &Op) -> Vec<T> {
    let page = Page { prefix: String::new(), after: None, limit: 1000 };
    store.list::<T>(&op.realm, &page).await.unwrap().into_iter().map(|it| it.value).collect()
}

fn deploying(name: &str, environment: &str, of: &PipelineVersion) -> Vec<Mutation> {
    let deployment: Deployment = serde_json::from_value(json!({ "id": format!("dep_{:032x}", 1), "pipeline": name,
        "version": "1.0", "environment": environment, "policyVersion": "1.0", "deployedAt": AT, "deployedBy": "ada",
        "action": "deploy" }))
    .unwrap();
    let head: PipelineHead = serde_json::from_value(json!({ "name": name, "project": of.pipeline.project,
        "latest": "1.0", "versions": ["1.0"] }))
    .unwrap();
    vec![put(of), put(&head), put(&deployment)]
}

async fn take(world: &World, op: &mut Op, step: &Step) {
    let store = &world.store;
    match step {
        Step::Deploy { pipeline, environment, api_key, jwt, project } => {
            let (name, environment) = (at(&PIPELINES, *pipeline), at(&ENVIRONMENTS, *environment));
            // A version is never changed: the one that is there stays.
            let key = keys::pipeline_version(&crate::world::pipeline(name), "1.0".parse().unwrap());
            let known = store.get::<PipelineVersion>(&op.realm, &key).await.unwrap().map(|it| it.value);
            let project = if *project { "store" } else { "billing" };
            let of = known.unwrap_or_else(|| version(name, project, *api_key, *jwt));
            commit(store, op, deploying(name, environment, &of)).await;
        }
        Step::Undeploy { pipeline, environment } => {
            let key = format!("{}/{}/v1", at(&ENVIRONMENTS, *environment), at(&PIPELINES, *pipeline));
            commit(store, op, vec![Mutation::delete::<Deployment>(key, Expect::Any)]).await;
        }
        Step::Replace { pipeline, environment } => {
            let name = at(&PIPELINES, *pipeline);
            let mut gone: Vec<Mutation> = ENVIRONMENTS
                .iter()
                .map(|it| Mutation::delete::<Deployment>(format!("{it}/{name}/v1"), Expect::Any))
                .collect();
            let of = version(name, "store", true, true);
            gone.push(Mutation::delete::<PipelineVersion>(of.key(), Expect::Any));
            gone.push(Mutation::delete::<PipelineHead>(name, Expect::Any));
            commit(store, op, gone).await;
            commit(store, op, deploying(name, at(&ENVIRONMENTS, *environment), &of)).await;
        }
        Step::Policy { environment, value } => {
            let edit = external(true, at(&ENVIRONMENTS, *environment), value);
            set(&world.app, op, &edit).await;
        }
        Step::Rule { rule, condition, mode, elsewhere } => {
            let app = if *elsewhere { world.another_process() } else { world.app.clone() };
            let name = RuleName::parse(at(&RULES, *rule)).unwrap();
            let edit = match condition {
                Some(condition) => PolicyEdit::Set(PolicyValues {
                    policy: PolicyName::Rule(name),
                    environments: ENVIRONMENTS.map(|it| (it.parse().unwrap(), (*mode).into())).into(),
                    partial: false,
                    condition: Some((*condition).to_owned()),
                    message: Some("no".to_owned()),
                    fix: None,
                }),
                None => PolicyEdit::Remove(name),
            };
            set(&app, op, &edit).await;
        }
        Step::AtOnce(one, other) => {
            let (mut first, mut second) = (op.clone(), op.clone());
            tokio::join!(
                Box::pin(take(world, &mut first, one)),
                Box::pin(take(world, &mut second, other)),
                async {
                    // What is judged meanwhile is remembered, too.
                    world.app.conformance().summary(op).await.unwrap();
                }
            );
        }
        Step::Waive { pipeline, environment, code, seconds } => {
            let until = op.now + SignedDuration::from_secs(*seconds);
            let waiver: Waiver = serde_json::from_value(json!({ "id": format!("wvr_{:032x}", seconds),
                "pipeline": at(&PIPELINES, *pipeline), "environment": at(&ENVIRONMENTS, *environment),
                "policy": "external-api-access", "code": code, "until": until, "reason": "a test",
                "createdAt": AT, "createdBy": "ada" }))
            .unwrap();
            commit(store, op, vec![put(&waiver)]).await;
        }
        Step::EndWaivers => {
            let waivers = all::<Waiver>(store, op).await;
            let ends = waivers.iter().map(|it| Mutation::delete::<Waiver>(it.key(), Expect::Any)).collect();
            commit(store, op, ends).await;
        }
        Step::Other => commit(store, op, Vec::new()).await,
        Step::Tick(seconds) => op.now += SignedDuration::from_secs(*seconds),
    }
}

/// Saves policies. A rule that is taken away need not be there, and of two who save at once one may be refused: what holds
/// then is read from the store.
async fn set(app: &App, op: &Op, edit: &PolicyEdit) {
    if let Err(error) = app.policies().set(op, edit, "", None).await {
        assert!(matches!(error.kind, ErrorKind::NotFound | ErrorKind::PreconditionFailed), "{error}");
    }
}

/// A rule that is tried says of everything what a judge says who knows that rule alone.
async fn a_trial_says_what_holds(app: &App, store: &Store, op: &Op) {
    let policies = store.get::<Policies>(&op.realm, keys::POLICIES).await.unwrap().unwrap().value;
    let names: BTreeSet<EnvironmentName> = policies.environments().cloned().collect();
    let (deployments, versions) =
        (all::<Deployment>(store, op).await, all::<PipelineVersion>(store, op).await);
    for condition in CONDITIONS {
        let environments = names.iter().map(|name| (name.clone(), RuleMode::Required)).collect();
        let tried: Rule = serde_json::from_value(json!({ "name": "tried", "condition": condition,
            "message": "no", "environments": {} }))
        .unwrap();
        let tried = Rule { environments, ..tried };
        let alone = Policies::initial(&names).replace(Policy::Rule(tried.clone())).unwrap();
        let judge = Judge::new(&alone, &[], op.now);
        let trial = app.policies().try_rule(op, &tried).await.unwrap();
        assert!(trial.is_done());
        for here in trial.environments {
            let running = deployments.iter().filter(|it| it.environment == here.environment);
            let mut truth = Vec::new();
            for it in running {
                let version = versions
                    .iter()
                    .find(|of| of.pipeline.name == it.pipeline && of.version == it.version)
                    .unwrap();
                let verdict = judge.verdict(&version.pipeline, &here.environment).unwrap();
                truth.extend(
                    verdict
                        .violations
                        .into_iter()
                        .filter(|found| found.policy == PolicyName::Rule(tried.name.clone())),
                );
            }
            let told: Vec<_> = here.items.into_iter().flat_map(|item| item.violations).collect();
            assert_eq!((here.broken, told), (truth.len(), truth));
        }
    }
}

/// Reads everything, and judges it.
async fn afresh(store: &Store, op: &Op, sees: impl Fn(&EnvironmentName, &str) -> bool) -> Vec<Conformance> {
    let policies = store.get::<Policies>(&op.realm, keys::POLICIES).await.unwrap().unwrap().value;
    let waivers = all::<Waiver>(store, op).await;
    let judge = Judge::new(&policies, &waivers, op.now);
    let (deployments, versions, heads) = (
        all::<Deployment>(store, op).await,
        all::<PipelineVersion>(store, op).await,
        all::<PipelineHead>(store, op).await,
    );
    let version = |it: &Deployment| {
        versions.iter().find(|of| of.pipeline.name == it.pipeline && of.version == it.version)
    };
    let project =
        |it: &Deployment| heads.iter().find(|head| head.name == it.pipeline).map(|it| it.project.as_str());
    let environments = policies.environments().map(|environment| {
        let here = deployments.iter().filter(|it| {
            it.environment == *environment && sees(environment, project(it).unwrap_or_default())
        });
        let here: Vec<_> = here.filter_map(|it| Some((it, version(it)?))).collect();
        tollgate_policy::conformance(&judge, environment, here).unwrap()
    });
    environments.collect()
}

async fn says_what_holds(app: &App, store: &Store, op: &Op) {
    let truth = afresh(store, op, |_, _| true).await;
    assert_eq!(conformance(app, op, None).await, truth);
    assert_eq!(in_pages(app, op).await, truth, "page by page");
    let summary = app.conformance().summary(op).await.unwrap();
    for (counts, truth) in summary.environments.iter().zip(&truth) {
        assert_eq!(
            (counts.deployments, counts.conformant, counts.waived, counts.not_conformant),
            (truth.deployments, truth.conformant, truth.waived, truth.not_conformant)
        );
        let filter = ConformanceFilter::default();
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let request = ListRequest { limit: Some(1), cursor };
            let page = app.conformance().list(op, &truth.environment, &filter, request).await.unwrap();
            assert_eq!(page.scope_gaps, truth.scope_gaps);
            listed.extend(page.items.items);
            cursor = page.items.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut items = truth.items.clone();
        items.sort_by_key(|item| std::cmp::Reverse(item.standing));
        assert_eq!(listed, items, "what needs somebody comes first");
    }
    // Somebody with rights over one project sees that one.
    let projects = Extent::only([ProjectName::parse("store").unwrap()]).unwrap();
    let reach = Reach { environments: Extent::All, projects };
    let actor = Actor::new(None, "somebody", Rights::of([Permission::PolicyRead], &reach));
    let some = Op { actor, ..op.clone() };
    let truth = afresh(store, &some, |_, project| project == "store").await;
    assert_eq!(conformance(app, &some, None).await, truth);
    a_trial_says_what_holds(app, store, op).await;
}

/// Reads the report a deployment at a time, and puts it together.
async fn in_pages(app: &App, op: &Op) -> Vec<Conformance> {
    let (mut whole, mut cursor): (Vec<Conformance>, _) = (Vec::new(), None);
    loop {
        let request = ListRequest { limit: Some(1), cursor };
        let page = app.conformance().report(op, None, &ConformanceFilter::default(), request).await.unwrap();
        if whole.is_empty() {
            whole = page.environments;
        } else {
            for (whole, more) in whole.iter_mut().zip(page.environments) {
                whole.items.extend(more.items);
                whole.scope_gaps.extend(more.scope_gaps);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            for environment in &mut whole {
                environment.scope_gaps.sort();
                environment.scope_gaps.dedup();
            }
            return whole;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 64, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn what_is_kept_is_never_stale(steps in prop::collection::vec((step(), prop::bool::weighted(0.7)), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::start().await;
            let mut op = world.op.clone();
            for (step, asks) in steps {
                take(&world, &mut op, &step).await;
                if asks {
                    says_what_holds(&world.app, &world.store, &op).await;
                }
            }
            says_what_holds(&world.app, &world.store, &op).await;
            says_what_holds(&world.another_process(), &world.store, &op).await;
        });
    }
}
