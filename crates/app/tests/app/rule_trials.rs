//! Trying a custom rule on what runs.

use serde_json::json;
use tollgate_app::errors::ErrorKind;
use tollgate_app::policies::RuleTrial;
use tollgate_model::policies::Rule;

use crate::world::{World, pipeline};

/// Deployments that a costly rule takes several trials for.
const PIPELINES: usize = 24;

fn rule(condition: &str) -> Rule {
    let rule = json!({ "name": "tried", "condition": condition, "message": "no", "environments": {} });
    serde_json::from_value(rule).unwrap()
}

/// Runs long pipelines; every second one logs and does nothing else.
async fn run_long_ones(world: &World) {
    for n in 0..PIPELINES {
        let step = if n % 2 == 0 { json!({ "json": 1 }) } else { json!({ "log": { "message": "x" } }) };
        let document = json!({ "kind": "Pipeline", "name": format!("p{n:02}"), "project": "store",
            "trigger": { "type": "rest" }, "steps": vec![step; 200] });
        let save =
            tollgate_app::pipelines::SavePipeline { document: document.to_string(), ..Default::default() };
        world.app.pipelines().save(&world.op, save).await.unwrap();
        let name = pipeline(&format!("p{n:02}"));
        world.app.deployments().deploy(&world.op, &world.test, &name, None, None).await.unwrap();
    }
}

fn told(trial: &RuleTrial) -> (usize, usize, usize) {
    let here = trial.environments.iter().find(|it| it.environment.as_str() == "test").unwrap();
    (here.tried, here.broken, here.items.len())
}

#[tokio::test]
async fn a_costly_rule_is_tried_in_parts_and_each_trial_goes_on_where_the_one_before_ended() {
    let world = World::start().await;
    run_long_ones(&world).await;
    let others: Vec<String> = (0..400).map(|n| format!("'x{n}'")).collect();
    let costly = rule(&format!(
        "steps.all(s, s.type == 'json') && steps.all(s, !(s.type in [{}]))",
        others.join(", ")
    ));
    let mut parts = Vec::new();
    loop {
        let trial = world.app.policies().try_rule(&world.op, &costly).await.unwrap();
        parts.push(told(&trial).0);
        if trial.is_done() {
            assert_eq!(told(&trial), (PIPELINES, PIPELINES / 2, PIPELINES / 2));
            break;
        }
        assert!(parts.len() < 100);
    }
    assert!(parts.len() > 2 && parts.is_sorted_by(|one, next| one < next), "{parts:?}");
    // What is known stays known while somebody tries others, and another deployment alone is tried anew.
    let cheap =
        world.app.policies().try_rule(&world.op, &rule("steps.all(s, s.type == 'json')")).await.unwrap();
    assert_eq!(told(&cheap), (PIPELINES, PIPELINES / 2, PIPELINES / 2));
    assert!(world.app.policies().try_rule(&world.op, &costly).await.unwrap().is_done());
}

#[tokio::test]
async fn a_rule_that_does_not_fit_is_not_tried() {
    let world = World::start().await;
    let error = world.app.policies().try_rule(&world.op, &rule("trigger.nothing")).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Invalid, "rule-invalid"));
}
